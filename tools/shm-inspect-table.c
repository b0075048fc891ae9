/* shm-inspect-table.c: aligned tables; nothing in them can move the cursor of a terminal. */
#include "shm-inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 64

struct table {
	char *titles;
	const char *title[COLUMNS_MAX];
	bool right[COLUMNS_MAX];
	size_t width[COLUMNS_MAX];
	size_t columns;
	char **cells;
	size_t count;
	size_t capacity;
};

/* Characters of UTF-8 text; wide ones are not known. */
size_t text_columns(const char *text)
{
	size_t width = 0;
	for (; *text; text++)
		width += (*text & 0xc0) != 0x80;
	return width;
}

/* Bytes of the character at text that may be printed, 0 when it may not. */
static size_t printable(const unsigned char *text, size_t bytes)
{
	size_t length = text[0] < 0x80 ? 1 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	if (text[0] < 0x20 || text[0] == 0x7f || length > bytes)
		return 0;
	if (text[0] == 0xc2 && text[1] < 0xa0)
		return 0;
	return cli_utf8_valid(text, length) ? length : 0;
}

void clean_text(char *to, const char *text, size_t bytes, char mark)
{
	const char *end = text + bytes;
	while (text < end) {
		size_t length = printable((const unsigned char *)text, (size_t)(end - text));
		if (length == 0) {
			*to++ = mark;
			text++;
			continue;
		}
		memcpy(to, text, length);
		to += length;
		text += length;
	}
	*to = 0;
}

void print_text(const char *text)
{
	char *copy = malloc(strlen(text) + 1);
	if (!copy)
		return;
	clean_text(copy, text, strlen(text), '?');
	fputs(copy, stdout);
	free(copy);
}

struct table *table_open(const char *titles)
{
	struct table *table = calloc(1, sizeof *table);
	char *state, *title;
	if (!table)
		return NULL;
	table->titles = strdup(titles);
	title = table->titles ? strtok_r(table->titles, " ", &state) : NULL;
	for (; title && table->columns < COLUMNS_MAX; title = strtok_r(NULL, " ", &state)) {
		size_t i = table->columns++;
		table->right[i] = title[0] == '>';
		table->title[i] = title + table->right[i];
		table->width[i] = text_columns(table->title[i]);
	}
	return table;
}

void table_cell(struct table *table, const char *format, ...)
{
	char text[2048], cleaned[2048];
	size_t column, width;
	va_list arguments;
	if (!table || table->columns == 0)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	clean_text(cleaned, text[0] ? text : "-", text[0] ? strlen(text) : 1, '?');
	if (table->count == table->capacity) {
		size_t capacity = table->capacity ? table->capacity * 2 : 256;
		char **cells = realloc(table->cells, capacity * sizeof *cells);
		if (!cells)
			return;
		table->cells = cells;
		table->capacity = capacity;
	}
	column = table->count % table->columns;
	width = text_columns(cleaned);
	if (width > table->width[column])
		table->width[column] = width;
	table->cells[table->count++] = strdup(cleaned);
}

void table_u64(struct table *table, uint64_t value)
{
	table_cell(table, "%" PRIu64, value);
}

void table_size(struct table *table, uint64_t bytes)
{
	char text[32];
	table_cell(table, "%s", cli_format_size(text, sizeof text, bytes));
}

static void print_cell(const struct table *table, size_t column, const char *text)
{
	size_t width = text_columns(text);
	int pad = (int)(table->width[column] > width ? table->width[column] - width : 0);
	if (table->right[column])
		printf("%*s%s", pad, "", text);
	else
		printf("%s%*s", text, column + 1 < table->columns ? pad : 0, "");
	fputs(column + 1 < table->columns ? "  " : "", stdout);
}

void table_close(struct table *table)
{
	if (!table)
		return;
	fputs(cli_colour(CLI_BOLD), stdout);
	for (size_t i = 0; i < table->columns; i++)
		print_cell(table, i, table->title[i]);
	printf("%s\n", cli_colour(CLI_PLAIN));
	for (size_t i = 0; i < table->count; i++) {
		print_cell(table, i % table->columns, table->cells[i] ? table->cells[i] : "?");
		if (i % table->columns == table->columns - 1)
			putchar('\n');
		free(table->cells[i]);
	}
	free(table->cells);
	free(table->titles);
	free(table);
}

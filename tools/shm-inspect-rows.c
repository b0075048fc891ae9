/* shm-inspect-rows.c: rows of structs as a table or as JSON: cells, order, filter. */
#include "shm-inspect.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const void *at(const struct column *column, const void *row)
{
	return (const char *)row + column->offset;
}

static uint64_t as_u64(const struct column *column, const void *row)
{
	return column->kind == CELL_U32 ? *(const uint32_t *)at(column, row)
					: *(const uint64_t *)at(column, row);
}

static const char *as_text(const struct column *column, const void *row)
{
	const char *text =
		column->kind == CELL_TEXT ? at(column, row) : *(const char *const *)at(column, row);
	return text ? text : "";
}

static bool is_text(const struct column *column)
{
	return column->kind == CELL_TEXT || column->kind == CELL_STRING;
}

/* The figure of a cell, for order and comparison; NAN: absent. */
static double as_number(const struct column *column, const void *row)
{
	uint64_t value;
	switch (column->kind) {
	case CELL_RATE:
	case CELL_SIZE_RATE:
	case CELL_PERCENT:
		return *(const double *)at(column, row);
	case CELL_BOOL:
		return *(const bool *)at(column, row);
	case CELL_MASK:
		value = 0;
		for (unsigned i = 0; i < RINGBUS_INSPECT_MASK_WORDS; i++)
			value += (unsigned)__builtin_popcountll(
				((const uint64_t *)at(column, row))[i]);
		return (double)value;
	case CELL_TEXT:
	case CELL_STRING:
		return NAN;
	default:
		value = as_u64(column, row);
		return value == NEVER ? NAN : (double)value;
	}
}

/* ---- text ---- */

void format_time(uint64_t ns, char *out, size_t capacity)
{
	double v = (double)ns;
	if (ns < 1000)
		snprintf(out, capacity, "%" PRIu64 " ns", ns);
	else if (ns < 1000000)
		snprintf(out, capacity, "%.*f us", v < 1e5, v / 1e3);
	else if (ns < 1000000000)
		snprintf(out, capacity, "%.*f ms", v < 1e8, v / 1e6);
	else if (v < 120e9)
		snprintf(out, capacity, "%.1f s", v / 1e9);
	else if (v < 7200e9)
		snprintf(out, capacity, "%.0f min %.0f s", floor(v / 60e9),
			 floor(fmod(v / 1e9, 60)));
	else if (v < 48 * 3600e9)
		snprintf(out, capacity, "%.0f h %.0f min", floor(v / 3600e9),
			 floor(fmod(v / 60e9, 60)));
	else
		snprintf(out, capacity, "%.0f days", floor(v / 86400e9));
}

static void format_rate(double rate, char *out, size_t capacity)
{
	if (rate >= 1e7)
		snprintf(out, capacity, "%.1fM", rate / 1e6);
	else if (rate >= 1e4)
		snprintf(out, capacity, "%.1fk", rate / 1e3);
	else
		snprintf(out, capacity, "%.*f", rate > 0 && rate < 10, rate);
}

static void format_mask(const uint64_t *mask, char *out, size_t capacity)
{
	size_t used = 0;
	out[0] = 0;
	for (unsigned i = 0; i < SLOTS; i++)
		if (mask[i / 64] >> i % 64 & 1 && used + 8 < capacity)
			used += (size_t)snprintf(out + used, capacity - used, used ? ",%u" : "%u",
						 i);
}

static void format_double(const struct column *column, double v, char *out, size_t capacity)
{
	if (isnan(v))
		out[0] = 0;
	else if (column->kind == CELL_SIZE_RATE)
		cli_format_size(out, capacity, v < 0 ? 0 : (uint64_t)v);
	else if (column->kind == CELL_PERCENT)
		snprintf(out, capacity, "%.0f%%", v);
	else
		format_rate(v, out, capacity);
}

void cell_text(const struct column *column, const void *row, char *out, size_t capacity)
{
	uint64_t value;
	switch (column->kind) {
	case CELL_TEXT:
	case CELL_STRING:
		snprintf(out, capacity, "%s", as_text(column, row));
		return;
	case CELL_BOOL:
		snprintf(out, capacity, "%s", *(const bool *)at(column, row) ? "yes" : "");
		return;
	case CELL_MASK:
		format_mask(at(column, row), out, capacity);
		return;
	case CELL_RATE:
	case CELL_SIZE_RATE:
	case CELL_PERCENT:
		format_double(column, *(const double *)at(column, row), out, capacity);
		return;
	default:
		break;
	}
	value = as_u64(column, row);
	out[0] = 0;
	if (value == NEVER || (column->kind == CELL_TIME && value == 0))
		return;
	if (column->kind == CELL_SIZE)
		cli_format_size(out, capacity, value);
	else if (column->kind == CELL_TIME)
		format_time(value, out, capacity);
	else if (column->kind == CELL_HEX)
		snprintf(out, capacity, "0x%" PRIx64, value);
	else
		snprintf(out, capacity, "%" PRIu64, value);
}

/* ---- JSON ---- */

static void cell_json(struct view *view, const struct column *column, const void *row)
{
	struct cli_json *out = &view->out;
	switch (column->kind) {
	case CELL_TEXT:
		cli_json_string(out, column->key, at(column, row));
		return;
	case CELL_STRING:
		cli_json_string(out, column->key, *(const char *const *)at(column, row));
		return;
	case CELL_BOOL:
		cli_json_bool(out, column->key, *(const bool *)at(column, row));
		return;
	case CELL_MASK:
		view_json_mask(view, column->key, at(column, row));
		return;
	case CELL_RATE:
	case CELL_SIZE_RATE:
	case CELL_PERCENT:
		cli_json_double(out, column->key, *(const double *)at(column, row));
		return;
	default:
		break;
	}
	if (as_u64(column, row) == NEVER && column->kind != CELL_HEX)
		cli_json_null(out, column->key);
	else
		cli_json_u64(out, column->key, as_u64(column, row));
}

/* ---- order and filter ---- */

const struct column *rows_column(const struct column *columns, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (*name &&
		    (strcasecmp(columns[i].title, name) == 0 || strcmp(columns[i].key, name) == 0))
			return &columns[i];
	return NULL;
}

struct order {
	const struct column *column;
	bool reverse;
};

static int compare(const void *a, const void *b, void *user)
{
	const struct order *order = user;
	const void *x = *(const void *const *)a, *y = *(const void *const *)b;
	double u, v;
	int r;
	if (is_text(order->column)) {
		r = strcmp(as_text(order->column, x), as_text(order->column, y));
	} else {
		u = as_number(order->column, x);
		v = as_number(order->column, y);
		/* the absent come last in either direction */
		if (isnan(u) || isnan(v))
			return isnan(u) - isnan(v) ? isnan(u) - isnan(v) : (x > y) - (x < y);
		r = (u < v) - (u > v);
	}
	if (r != 0)
		return order->reverse ? -r : r;
	return (x > y) - (x < y);
}

const void **rows_sorted(const struct column *column, bool reverse, const void *rows,
			 size_t row_bytes, size_t n)
{
	struct order order = {column, reverse};
	const void **sorted = malloc((n + 1) * sizeof *sorted);
	if (!sorted)
		return NULL;
	for (size_t i = 0; i < n; i++)
		sorted[i] = (const char *)rows + i * row_bytes;
	if (column && n > 1)
		qsort_r(sorted, n, sizeof *sorted, compare, &order);
	return sorted;
}

static bool contains(const struct column *columns, size_t n, const void *row, const char *text)
{
	for (size_t i = 0; i < n; i++)
		if (is_text(&columns[i]) && strcasestr(as_text(&columns[i], row), text))
			return true;
	return false;
}

/* COLUMN=TEXT, COLUMN>NUMBER, COLUMN<NUMBER, or a text that any cell of text contains. */
bool rows_match(const struct column *columns, size_t n, const void *row, const char *filter)
{
	size_t length = strcspn(filter, "=<>");
	char name[64], cell[1200], operation = filter[length];
	const struct column *column;
	double figure;
	if (operation == 0 || length == 0 || length >= sizeof name)
		return contains(columns, n, row, filter);
	memcpy(name, filter, length);
	name[length] = 0;
	column = rows_column(columns, n, name);
	if (!column)
		return false;
	figure = as_number(column, row);
	if (operation == '>')
		return figure > strtod(filter + length + 1, NULL);
	if (operation == '<')
		return figure < strtod(filter + length + 1, NULL);
	cell_text(column, row, cell, sizeof cell);
	if (strcasecmp(cell, filter + length + 1) == 0)
		return true;
	return !isnan(figure) && filter[length + 1] &&
	       figure == strtod(filter + length + 1, NULL) &&
	       strchr("0123456789", filter[length + 1]);
}

/* ---- showing ---- */

static bool in_table(const struct view *view, const struct column *column)
{
	if (column->when & COLUMN_JSON)
		return false;
	if (column->when & COLUMN_WATCH && !view->watch)
		return false;
	return !(column->when & COLUMN_WIDE) || view->wide;
}

static bool in_json(const struct view *view, const struct column *column)
{
	return !(column->when & COLUMN_TABLE) && (!(column->when & COLUMN_WATCH) || view->watch);
}

static void show_row(struct view *view, struct table *table, const struct column *columns, size_t n,
		     const void *row)
{
	char text[1200];
	if (view->json)
		cli_json_object(&view->out, NULL);
	for (size_t i = 0; i < n; i++) {
		if (view->json && in_json(view, &columns[i]))
			cell_json(view, &columns[i], row);
		if (view->json || !in_table(view, &columns[i]))
			continue;
		cell_text(&columns[i], row, text, sizeof text);
		table_cell(table, "%s", text);
	}
	if (view->json)
		cli_json_close(&view->out);
}

static struct table *open_table(const struct view *view, const struct column *columns, size_t n)
{
	char titles[1024] = "";
	size_t used = 0;
	for (size_t i = 0; i < n; i++)
		if (in_table(view, &columns[i]) && used + 40 < sizeof titles)
			used += (size_t)snprintf(titles + used, sizeof titles - used, "%s%s ",
						 is_text(&columns[i]) ||
								 columns[i].kind == CELL_MASK
							 ? ""
							 : ">",
						 columns[i].title);
	return table_open(titles);
}

/* Of COLUMN>TEXT and COLUMN<TEXT: both must be figures. */
static int check_figures(const struct column *column, const char *name, const char *text)
{
	char *end;
	strtod(text, &end);
	if (is_text(column))
		return cli_usage_error("the column \"%s\" has no numbers", name);
	if (end == text || *end)
		return cli_usage_error("\"%s\" is not a number to filter by", text);
	return CLI_OK;
}

/* The columns that --sort and --filter name must be there. */
static int check_names(const struct view *view, const struct column *columns, size_t n)
{
	size_t length = view->filter ? strcspn(view->filter, "=<>") : 0;
	const struct column *column;
	char name[64];
	if (view->sort && !rows_column(columns, n, view->sort))
		return cli_usage_error("there is no column \"%s\" to sort by", view->sort);
	if (!view->filter || !view->filter[length] || length == 0 || length >= sizeof name)
		return CLI_OK;
	memcpy(name, view->filter, length);
	name[length] = 0;
	column = rows_column(columns, n, name);
	if (!column)
		return cli_usage_error("there is no column \"%s\" to filter by", name);
	if (view->filter[length] != '=')
		return check_figures(column, name, view->filter + length + 1);
	return CLI_OK;
}

int rows_show(struct view *view, const char *key, const struct column *columns, size_t columns_n,
	      const void *rows, size_t row_bytes, size_t n)
{
	const struct column *by = view->sort ? rows_column(columns, columns_n, view->sort) : NULL;
	const void **sorted = rows_sorted(by, view->reverse, rows, row_bytes, n);
	struct table *table = NULL;
	int status = check_names(view, columns, columns_n);
	if (view->json)
		cli_json_array(&view->out, key);
	else if (status == CLI_OK)
		table = open_table(view, columns, columns_n);
	for (size_t i = 0; sorted && i < n && status == CLI_OK; i++)
		if (!view->filter || rows_match(columns, columns_n, sorted[i], view->filter))
			show_row(view, table, columns, columns_n, sorted[i]);
	if (view->json)
		cli_json_close(&view->out);
	table_close(table);
	free(sorted);
	return status;
}

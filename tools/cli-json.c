/* cli-json.c: the streaming JSON writer of cli.h. No tree, no allocation. */
#include "cli.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static void newline(struct cli_json *json)
{
	putc('\n', json->out);
	for (unsigned i = 0; i < json->depth; i++)
		fputs("  ", json->out);
}

/* Length of the UTF-8 sequence at text, 0 when it is none. */
static size_t sequence(const unsigned char *text, size_t size)
{
	unsigned char first = text[0];
	size_t length = first < 0x80   ? 1
			: first < 0xc2 ? 0
			: first < 0xe0 ? 2
			: first < 0xf0 ? 3
			: first < 0xf5 ? 4
				       : 0;
	if (length == 0 || length > size)
		return 0;
	for (size_t i = 1; i < length; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) ||
	    (first == 0xf0 && text[1] < 0x90) || (first == 0xf4 && text[1] > 0x8f))
		return 0;
	return length;
}

bool cli_utf8_valid(const void *text, size_t size)
{
	const unsigned char *p = text;
	size_t length;
	for (size_t i = 0; i < size; i += length) {
		length = sequence(p + i, size - i);
		if (length == 0)
			return false;
	}
	return true;
}

static void escaped(FILE *out, unsigned char c)
{
	static const char names[] = "\bb\ff\nn\rr\tt\"\"\\\\";
	for (const char *p = names; *p; p += 2) {
		if ((unsigned char)*p == c) {
			putc('\\', out);
			putc(p[1], out);
			return;
		}
	}
	fprintf(out, "\\u%04x", c);
}

static void quoted(FILE *out, const void *text, size_t size)
{
	const unsigned char *p = text;
	size_t length;
	putc('"', out);
	for (size_t i = 0; i < size; i += length) {
		length = sequence(p + i, size - i);
		if (length == 0) {
			fputs("\\ufffd", out);
			length = 1;
		} else if (length == 1 &&
			   (p[i] < 0x20 || p[i] == '"' || p[i] == '\\' || p[i] == 0x7f)) {
			escaped(out, p[i]);
		} else {
			fwrite(p + i, 1, length, out);
		}
	}
	putc('"', out);
}

/* Writes what stands before a value: comma, line, key. */
static void lead(struct cli_json *json, const char *key)
{
	if (json->filled)
		fputs(json->pretty ? "," : ", ", json->out);
	json->filled = true;
	if (json->pretty && json->depth > 0)
		newline(json);
	if (key) {
		quoted(json->out, key, strlen(key));
		fputs(": ", json->out);
	}
}

static void down(struct cli_json *json, const char *key, bool array)
{
	lead(json, key);
	putc(array ? '[' : '{', json->out);
	if (json->depth < CLI_JSON_DEPTH)
		json->depth++;
	json->arrays &= ~(UINT64_C(1) << json->depth);
	json->arrays |= (uint64_t)array << json->depth;
	json->filled = false;
}

void cli_json_begin(struct cli_json *json, FILE *out, const char *schema, bool pretty)
{
	*json = (struct cli_json){.out = out, .pretty = pretty};
	down(json, NULL, false);
	cli_json_string(json, "schema", schema);
}

void cli_json_end(struct cli_json *json)
{
	while (json->depth > 0)
		cli_json_close(json);
	putc('\n', json->out);
}

void cli_json_object(struct cli_json *json, const char *key)
{
	down(json, key, false);
}

void cli_json_array(struct cli_json *json, const char *key)
{
	down(json, key, true);
}

void cli_json_close(struct cli_json *json)
{
	bool array = json->arrays >> json->depth & 1;
	if (json->depth == 0)
		return;
	json->depth--;
	if (json->pretty && json->filled)
		newline(json);
	putc(array ? ']' : '}', json->out);
	json->filled = true;
}

void cli_json_text(struct cli_json *json, const char *key, const void *text, size_t size)
{
	lead(json, key);
	quoted(json->out, text, size);
}

void cli_json_string(struct cli_json *json, const char *key, const char *text)
{
	if (text)
		cli_json_text(json, key, text, strlen(text));
	else
		cli_json_null(json, key);
}

void cli_json_u64(struct cli_json *json, const char *key, uint64_t value)
{
	lead(json, key);
	fprintf(json->out, "%" PRIu64, value);
}

void cli_json_i64(struct cli_json *json, const char *key, int64_t value)
{
	lead(json, key);
	fprintf(json->out, "%" PRId64, value);
}

void cli_json_double(struct cli_json *json, const char *key, double value)
{
	if (!isfinite(value)) {
		cli_json_null(json, key);
		return;
	}
	lead(json, key);
	fprintf(json->out, "%.15g", value);
}

void cli_json_bool(struct cli_json *json, const char *key, bool value)
{
	lead(json, key);
	fputs(value ? "true" : "false", json->out);
}

void cli_json_null(struct cli_json *json, const char *key)
{
	lead(json, key);
	fputs("null", json->out);
}

static void base64(FILE *out, const unsigned char *data, size_t size)
{
	static const char digits[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	for (size_t i = 0; i < size; i += 3) {
		size_t left = size - i;
		uint32_t v = (uint32_t)data[i] << 16;
		v |= left > 1 ? (uint32_t)data[i + 1] << 8 : 0;
		v |= left > 2 ? data[i + 2] : 0;
		putc(digits[v >> 18], out);
		putc(digits[v >> 12 & 63], out);
		putc(left > 1 ? digits[v >> 6 & 63] : '=', out);
		putc(left > 2 ? digits[v & 63] : '=', out);
	}
}

void cli_json_payload(struct cli_json *json, const void *data, size_t size)
{
	if (cli_utf8_valid(data, size)) {
		cli_json_text(json, "data", data, size);
		return;
	}
	lead(json, "data_b64");
	putc('"', json->out);
	base64(json->out, data, size);
	putc('"', json->out);
}

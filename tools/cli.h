/* cli.h: what the command line tools share: exit codes, numbers, JSON, colour. Above the library.
 *
 * Data goes to stdout and everything else to stderr. JSON is written as it comes, without building
 * a tree: a snapshot is one document, a stream is one object a line (cli_json_begin() and
 * cli_json_end() for each).
 */
#ifndef RINGBUS_CLI_H
#define RINGBUS_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum cli_exit {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_MISSING = 3, /* no such bus, event or node */
	CLI_TIMEOUT = 4,
	CLI_LOST = 5, /* messages were lost and --strict was given */
};

/* ---- messages ---- */

/* Names the tool (and its verb, or NULL) in all messages that follow. Ignores SIGPIPE, so that a
 * closed stdout is a write error; see cli_flush(). Takes the place of descriptors 0 to 2 that are
 * closed: reading and writing there fail as before. Both texts are kept by reference. */
void cli_start(const char *tool, const char *verb);
/* "ringbus emit: TEXT" and a hint at --help, to stderr. Returns CLI_USAGE. */
int cli_usage_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
struct option;
/* The same for what getopt_long() refused, with opterr 0: it returned letter, ':' or '?', for an
 * option of argv. options: as it was given. */
int cli_option_error(char **argv, int letter, const struct option *options);
/* "ringbus: emit: TEXT" to stderr. Returns CLI_FAILED. */
int cli_error(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same without a verdict, for notes and warnings. */
void cli_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* No notes from now on. */
void cli_quiet(void);
/* Exit code for a negative errno code. */
int cli_exit_code(int error);
/* After writing to stdout, with errno 0 before: whether it went well. The cause is kept for
 * cli_flush(). */
bool cli_written(void);
/* Flushes stdout. 0; 1 when its reader has gone, or a signal came that this tool handles (end
 * quietly); or a negative errno code after having said so. */
int cli_flush(void);
/* As cli_flush(), turned into the exit code of a tool that would otherwise end with status. */
int cli_finish(int status);

/* ---- numbers ---- */

/* Whole decimal number within the bounds. False, and *value untouched, for anything else. */
bool cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value);
/* 4096, 64k, 16M, 1.5G (powers of 1024; KiB, MiB, GiB, TiB and a final B are fine too). */
bool cli_parse_size(const char *text, uint64_t *bytes);
/* 2, 0.5 (seconds), 250ms, 50us, 100ns, 3s, 5m, 1h. */
bool cli_parse_duration(const char *text, uint64_t *ns);
bool cli_parse_port(const char *text, unsigned *port);
/* *port from RINGBUS_PORT, if it is set. -1, or the exit code when it is no port: the library would
 * find that too, but calls it no mistake of usage. */
int cli_port_of_environment(unsigned *port);
/* "3:7": both parts decimal. */
bool cli_parse_slot(const char *text, uint32_t *slot, uint32_t *generation);
/* CLOCK_MONOTONIC. */
uint64_t cli_now_ns(void);
/* "1.5 KiB" into buffer (at least 32 bytes); returns buffer. */
const char *cli_format_size(char *buffer, size_t capacity, uint64_t bytes);
/* "1 message", "2 messages" into buffer (at least 48 bytes); returns buffer. */
const char *cli_count(char *buffer, size_t capacity, uint64_t count, const char *thing);

/* ---- colour ---- */

enum cli_colour {
	CLI_PLAIN,
	CLI_BOLD,
	CLI_DIM,
	CLI_RED,
	CLI_GREEN,
	CLI_YELLOW,
};

/* when: "auto" (NULL is the same: on a tty that is not dumb, without NO_COLOR), "always" or
 * "never". False for anything else. */
bool cli_colour_set(const char *when);
/* The escape code, or "" where stdout is not coloured. CLI_PLAIN ends a colour. */
const char *cli_colour(enum cli_colour colour);
/* stdout is a terminal. */
bool cli_is_tty(void);
/* Columns of the terminal on stdout; 0 if it is none. */
unsigned cli_columns(void);

/* ---- JSON ---- */

#define CLI_JSON_DEPTH 63 /* deepest nesting */

struct cli_json {
	FILE *out;
	bool pretty;
	bool filled; /* something stands in the innermost object or array */
	unsigned depth;
	uint64_t arrays; /* bit n: level n is an array */
};

/* Opens an object whose first member is "schema". pretty: one member a line. */
void cli_json_begin(struct cli_json *json, FILE *out, const char *schema, bool pretty);
/* Closes everything that is open and ends the line. */
void cli_json_end(struct cli_json *json);
/* key is NULL in an array, also in all calls below. */
void cli_json_object(struct cli_json *json, const char *key);
void cli_json_array(struct cli_json *json, const char *key);
/* Closes the innermost object or array. */
void cli_json_close(struct cli_json *json);
/* Bytes that are not UTF-8 become U+FFFD. text NULL writes null. */
void cli_json_string(struct cli_json *json, const char *key, const char *text);
void cli_json_text(struct cli_json *json, const char *key, const void *text, size_t size);
void cli_json_u64(struct cli_json *json, const char *key, uint64_t value);
void cli_json_i64(struct cli_json *json, const char *key, int64_t value);
/* Not a number and infinities become null. */
void cli_json_double(struct cli_json *json, const char *key, double value);
void cli_json_bool(struct cli_json *json, const char *key, bool value);
void cli_json_null(struct cli_json *json, const char *key);
/* "data" when the bytes are UTF-8, else "data_b64". The bytes must not change meanwhile. */
void cli_json_payload(struct cli_json *json, const void *data, size_t size);
bool cli_utf8_valid(const void *text, size_t size);

#endif

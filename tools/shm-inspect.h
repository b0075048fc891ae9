/* shm-inspect.h: what the verbs of shm-inspect share: the view, samples, rows, tables, JSON. */
#ifndef SHM_INSPECT_H
#define SHM_INSPECT_H

#include "cli.h"

#include "ringbus-inspect.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define SLOTS (64 * RINGBUS_INSPECT_MASK_WORDS)
#define NEVER UINT64_MAX /* a time or figure that is not known */

struct sample;

enum payload_format { FORMAT_TEXT, FORMAT_HEX, FORMAT_NONE };

struct view {
	const char *verb;
	unsigned port; /* 0: not given */
	const char *directory;
	const char *file;
	bool json;
	bool verbose;
	struct ringbus_inspect *inspect; /* NULL for the verbs "buses" and "doctor" */
	struct cli_json out;
	/* tables */
	const char *sort;
	bool reverse;
	const char *filter;
	bool wide; /* all columns */
	/* repetition */
	bool watch;
	uint64_t interval_ns;
	uint64_t count; /* looks, or messages */
	uint64_t timeout_ns;
	struct sample *previous; /* of --watch */
	/* messages */
	const char *from;
	const char *to;
	const char *event;
	bool only_new;
	enum payload_format format;
	uint64_t bytes; /* of a payload that are shown; NEVER: not given */
	/* doctor */
	const char *root; /* where the system's configuration is read */
	char **operands;
	int operand_count;
};

/* Verbs. Each prints one table, one document or one stream, and returns an exit code. */
int verb_buses(struct view *view);
int verb_header(struct view *view);
int verb_nodes(struct view *view);
int verb_events(struct view *view);
int verb_rings(struct view *view);
int verb_pools(struct view *view);
int verb_latency(struct view *view);
int verb_check(struct view *view);
int verb_tap(struct view *view);
int verb_last(struct view *view);
int verb_doctor(struct view *view);
int verb_top(struct view *view);

/* Opens what the options name. Negative errno code after having said so. */
int view_open(struct view *view);
/* Ends a verb: r < 0 is told on stderr, and in the document, which is closed. */
int view_end(struct view *view, int r);
void view_json_begin(struct view *view);
void view_json_mask(struct view *view, const char *key, const uint64_t *mask);
void view_json_hex(struct view *view, const char *key, uint64_t value);
/* SIGINT, SIGTERM or SIGHUP came. */
bool interrupted(void);
/* Catches these; they end calls that sleep. */
void catch_interrupts(void);
void sleep_ns(uint64_t ns);

/* ---- samples: all of a bus at one time, with rates since the one before ---- */

#define LABEL_BYTES 300

struct node_row {
	struct ringbus_inspect_node n;
	char label[LABEL_BYTES]; /* name, else "pid 12", else "slot 3" */
	const char *state;
	const char *process;
	char handler[LABEL_BYTES]; /* of what, "" when in none */
	char modes[48];
	uint64_t age_ns;     /* in its slot */
	uint64_t handler_ns; /* in its handler */
	uint64_t dropped;    /* all causes */
	uint64_t unread;     /* in the rings to it */
	uint64_t unread_bytes;
	double fill; /* of the fullest ring to it, percent */
	double sent_rate, received_rate, sent_bytes_rate, received_bytes_rate;
	double drop_rate, wake_rate, turn_rate;
};

struct ring_row {
	struct ringbus_inspect_ring g;
	const char *from, *to; /* labels */
	const char *damage;    /* NULL: none */
	double fill, high;     /* percent */
	uint64_t full_ns;      /* since when there is no room */
	uint64_t wait_ns;      /* at least so old is the oldest unread message that has a stamp */
	double message_rate, byte_rate, drop_rate, full_rate, wake_rate;
	struct ringbus_inspect_latency *latency; /* NULL: not asked for */
	uint64_t samples;			 /* of latency */
	uint64_t queue[4], wake[4], handler[4];	 /* p50, p90, p99, p99.9 in ns; NEVER: none */
};

struct event_row {
	struct ringbus_inspect_event e;
	const char *state;
	const char *mode;
	const char *owner;		       /* NULL: none */
	uint64_t owner_slot, owner_generation; /* or NEVER */
	uint64_t receivers, emitters;
};

struct pool_row {
	struct ringbus_inspect_pool p;
	const char *owner;
	const char *kind;
	const char *damage;
};

struct hold_row {
	struct ringbus_inspect_hold h;
	const char *owner, *holder;
	uint64_t wait_ns; /* of the ring between them, see ring_row */
};

struct sample {
	uint64_t now_ns;
	struct ringbus_inspect_header header;
	char label[SLOTS + 1][LABEL_BYTES]; /* the last one: of no slot */
	struct node_row *nodes;
	size_t node_count;
	struct ring_row *rings;
	size_t ring_count;
	struct event_row *events;
	size_t event_count;
	struct pool_row *pools;
	size_t pool_count;
	struct hold_row *holds;
	size_t hold_count;
};

enum { SAMPLE_RINGS = 1, SAMPLE_EVENTS = 2, SAMPLE_POOLS = 4, SAMPLE_LATENCY = 8 };
/* Header and nodes, and the parts asked for; *sample is NULL on failure. Rates are those since
 * `before` (NULL: none). Frees nothing. */
int sample_take(struct ringbus_inspect *inspect, unsigned parts, const struct sample *before,
		struct sample **sample);
void sample_free(struct sample *sample);
const struct node_row *sample_node(const struct sample *sample, uint32_t slot);
const struct ring_row *sample_ring(const struct sample *sample, uint32_t from, uint32_t to);
/* Nanoseconds since a moment of CLOCK_MONOTONIC; NEVER for 0, another boot, or the future. */
uint64_t sample_since(const struct sample *sample, uint64_t moment_ns);
const char *bus_state(const struct ringbus_inspect_header *header);
/* The file is shorter than its header says: what is missing reads as 0, as if nobody was there. */
bool region_is_cut(const struct ringbus_inspect_header *header);
/* The file never was a region. */
bool region_is_none(const struct ringbus_inspect_header *header);

/* A node as users name it: name, pid, slot, SLOT:GENERATION. */
struct who {
	const char *text;
	const char *name;
	uint64_t pid;	     /* or NEVER, as the next two */
	uint64_t slot;	     /* of "3:1", or of "3" where that is no pid on the bus */
	uint64_t generation; /* of "3:1" */
};
void who_parse(struct who *who, const char *text);
/* A number that is the pid of a node is no slot. */
void who_settle(struct who *who, const struct sample *sample);
bool who_is(const struct who *who, uint32_t slot, uint32_t generation, uint32_t pid,
	    const char *name);

/* ---- rows: a table or an array of objects from structs ---- */

enum cell_kind {
	CELL_U32,
	CELL_U64,  /* NEVER: absent */
	CELL_SIZE, /* bytes, u64 */
	CELL_HEX,
	CELL_TEXT,   /* char[] in the row */
	CELL_STRING, /* const char *, NULL: absent */
	CELL_BOOL,
	CELL_MASK,
	CELL_RATE, /* double per second, NAN: absent */
	CELL_SIZE_RATE,
	CELL_PERCENT,
	CELL_TIME, /* ns; 0 or NEVER: absent */
};

enum { COLUMN_WIDE = 1, COLUMN_WATCH = 2, COLUMN_JSON = 4, COLUMN_TABLE = 8 };

struct column {
	const char *title;
	const char *key;
	enum cell_kind kind;
	unsigned when; /* 0: always */
	size_t offset;
};

/* Shows rows as the options say: filtered, sorted, as a table or as the array `key`. */
int rows_show(struct view *view, const char *key, const struct column *columns, size_t columns_n,
	      const void *rows, size_t row_bytes, size_t n);
/* Order of rows by a column; text upwards, figures downwards. NULL column: as they are. */
const void **rows_sorted(const struct column *column, bool reverse, const void *rows,
			 size_t row_bytes, size_t n);
/* By title or key, in any case of letters; NULL: none. */
const struct column *rows_column(const struct column *columns, size_t n, const char *name);
/* "12.3k", "4.5 MiB", ... of one cell; "" where it is absent. */
void cell_text(const struct column *column, const void *row, char *out, size_t capacity);
bool rows_match(const struct column *columns, size_t n, const void *row, const char *filter);
/* "1.5 us", "3 ms", "2 h 5 min". */
void format_time(uint64_t ns, char *out, size_t capacity);

extern const struct column node_columns[], ring_columns[], latency_columns[];
extern const size_t node_columns_n, ring_columns_n, latency_columns_n;

/* ---- tables ---- */

struct table;

/* Titles are separated by blanks; one that begins with '>' is of a column set flush right. NULL: no
 * memory. */
struct table *table_open(const char *titles);
/* The next cell of the row. What cannot be printed is replaced. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
void table_u64(struct table *table, uint64_t value);
/* As "1.5 MiB". */
void table_size(struct table *table, uint64_t bytes);
/* Prints it and frees it. */
void table_close(struct table *table);
/* Prints text with what cannot be printed replaced. */
void print_text(const char *text);
/* Copies text of any origin, of `bytes` bytes, so that it can be printed: what cannot becomes '.'
 * (mark). to has room for bytes + 1. */
void clean_text(char *to, const char *text, size_t bytes, char mark);
/* Columns of UTF-8 text. */
size_t text_columns(const char *text);

#endif

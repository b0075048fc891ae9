/* shm-inspect.h: what the verbs of shm-inspect share: the view, tables, JSON. */
#ifndef SHM_INSPECT_H
#define SHM_INSPECT_H

#include "cli.h"

#include "ringbus-inspect.h"

struct view {
	const char *verb;
	unsigned port; /* 0: not given */
	const char *directory;
	const char *file;
	bool json;
	struct ringbus_inspect *inspect; /* NULL for the verb "buses" */
	struct cli_json out;
};

/* Verbs. Each prints one table, or one document, and returns an exit code. */
int verb_buses(struct view *view);
int verb_header(struct view *view);
int verb_nodes(struct view *view);
int verb_events(struct view *view);
int verb_rings(struct view *view);
int verb_pools(struct view *view);
int verb_check(struct view *view);

/* Opens what the options name. Negative errno code after having said so. */
int view_open(struct view *view);
/* Ends a verb: r < 0 is told on stderr, and in the document, which is closed. */
int view_end(struct view *view, int r);
void view_json_begin(struct view *view);
void view_json_mask(struct view *view, const char *key, const uint64_t *mask);
void view_json_hex(struct view *view, const char *key, uint64_t value);

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
/* Slots of a mask as "1,3,7", "-" when there are none. */
void table_mask(struct table *table, const uint64_t *mask);
/* Prints it and frees it. */
void table_close(struct table *table);
/* Prints text with what cannot be printed replaced. */
void print_text(const char *text);

#endif

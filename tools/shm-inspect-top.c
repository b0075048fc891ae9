/* shm-inspect-top.c: the verb top: nodes and rings on the whole screen, with rates, filling,
 * latency.
 */
#include "shm-inspect-screen.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BAR_COLUMNS 10
#define INTERVAL_MIN 100000000u
#define INTERVAL_MAX 60000000000u
#define WIDTH_MAX 1024

enum view_of { VIEW_BOTH, VIEW_NODES, VIEW_RINGS };

/* A column of the screen. The narrower the screen, the fewer: rank 0 is always there. */
struct shown {
	const char *key; /* of the column in the lists */
	const char *title;
	unsigned width;
	unsigned rank;
};

static const struct shown node_shown[] = {
	{"slot", "SLOT", 4, 1},
	{"pid", "PID", 7, 0},
	{"name", "NAME", 14, 0},
	{"state", "STATE", 7, 1},
	{"sent_per_s", "SENT/s", 8, 0},
	{"sent_bytes_per_s", "OUT/s", 9, 1},
	{"received_per_s", "RECV/s", 8, 0},
	{"received_bytes_per_s", "IN/s", 9, 1},
	{"unread", "UNREAD", 7, 0},
	{"fill_percent", "FILL", BAR_COLUMNS + 5, 0},
	{"dropped_per_s", "DROP/s", 7, 1},
	{"dropped_lossy", "LOSSY", 7, 2},
	{"dropped_unsubscribed", "UNWANTED", 8, 2},
	{"full", "FULL", 7, 1},
	{"wakes_per_s", "WAKES/s", 8, 2},
	{"dispatches_per_s", "TURNS/s", 8, 2},
	{"age_ns", "AGE", 10, 2},
	{"mode", "MODE", 15, 2},
	{"handler", "HANDLER", 14, 2},
	{"handler_ns", "FOR", 8, 2},
};

static const struct shown ring_shown[] = {
	{"from_name", "SENDER", 12, 0},	      {"to_name", "RECEIVER", 12, 0},
	{"messages_per_s", "MSG/s", 8, 0},    {"bytes_per_s", "BYTES/s", 9, 1},
	{"unread_records", "UNREAD", 7, 0},   {"fill_percent", "FILL", BAR_COLUMNS + 5, 0},
	{"high_water_percent", "HIGH", 5, 1}, {"unread_ns", "WAITS", 8, 1},
	{"drops_per_s", "DROP/s", 7, 1},      {"full_per_s", "FULL/s", 7, 1},
	{"full_ns", "FULL-FOR", 8, 2},	      {"wakes_per_s", "WAKES/s", 8, 2},
	{"queue_p50_ns", "QUEUE50", 8, 0},    {"queue_p99_ns", "QUEUE99", 8, 1},
	{"wake_p50_ns", "WAKE50", 8, 2},      {"wake_p99_ns", "WAKE99", 8, 2},
	{"handler_p50_ns", "HANDL50", 8, 2},  {"handler_p99_ns", "HANDL99", 8, 2},
	{"messages", "MESSAGES", 10, 2},
};

/* One of the two tables. */
struct panel {
	const char *title;
	const struct shown *shown;
	size_t shown_count;
	const struct column *columns[24]; /* of each of shown */
	const void *rows;
	size_t row_bytes, count;
	size_t sort; /* index in shown */
	bool reverse;
};

struct top {
	struct view *view;
	struct sample *now, *before;
	struct panel nodes, rings;
	enum view_of of;
	bool paused, help, typing;
	char filter[64];
	char message[80];
};

/* ---- columns ---- */

static const struct column *find_column(const char *key, bool node)
{
	const struct column *found = node ? rows_column(node_columns, node_columns_n, key)
					  : rows_column(ring_columns, ring_columns_n, key);
	return found ? found : rows_column(latency_columns, latency_columns_n, key);
}

static void panel_init(struct panel *p, const char *title, const struct shown *shown, size_t count,
		       const char *sort)
{
	*p = (struct panel){.title = title, .shown = shown, .shown_count = count};
	for (size_t i = 0; i < count; i++) {
		p->columns[i] = find_column(shown[i].key, shown == node_shown);
		if (strcmp(shown[i].key, sort) == 0)
			p->sort = i;
	}
}

/* The highest rank whose columns find room, and what is left over. */
static unsigned fit(const struct panel *p, unsigned columns, unsigned *spare)
{
	unsigned best = 0, width[3] = {0};
	for (size_t i = 0; i < p->shown_count; i++)
		for (unsigned rank = p->shown[i].rank; rank < 3; rank++)
			width[rank] += p->shown[i].width + 1;
	for (unsigned rank = 0; rank < 3; rank++)
		if (width[rank] <= columns + 1)
			best = rank;
	*spare = width[best] <= columns + 1 ? columns + 1 - width[best] : 0;
	return best;
}

/* Columns one by one may still find room beyond the rank; texts get what is left. */
static void choose(const struct panel *p, unsigned columns, unsigned *width)
{
	unsigned spare, rank = fit(p, columns, &spare), texts = 0;
	for (size_t i = 0; i < p->shown_count; i++) {
		const struct shown *s = &p->shown[i];
		bool extra = s->rank == rank + 1 && s->width + 1 <= spare;
		width[i] = s->rank <= rank || extra ? s->width : 0;
		spare -= extra ? s->width + 1 : 0;
		texts += width[i] && p->columns[i]->kind != CELL_PERCENT &&
			 (p->columns[i]->kind == CELL_TEXT || strstr(s->key, "_name"));
	}
	for (size_t i = 0; i < p->shown_count && texts > 0; i++)
		if (width[i] &&
		    (p->columns[i]->kind == CELL_TEXT || strstr(p->shown[i].key, "_name")))
			width[i] += spare / texts < 24 ? spare / texts : 24;
}

/* ---- cells ---- */

static bool is_left(const struct column *c)
{
	return c->kind == CELL_TEXT || c->kind == CELL_STRING;
}

/* [#####     ] 47% */
static void format_bar(double percent, char *out, size_t capacity)
{
	int full = isnan(percent) || percent < 0 ? 0
		   : percent >= 100		 ? BAR_COLUMNS - 2
						 : (int)(percent / 100 * (BAR_COLUMNS - 2) + 0.5);
	if (full == 0 && percent > 0)
		full = 1;
	snprintf(out, capacity, "[%.*s%*s] %3.0f%%", full, "########", BAR_COLUMNS - 2 - full, "",
		 isnan(percent) ? 0 : fmin(percent, 999));
}

/* Adds a cell of exactly so many columns. */
static void add_cell(char *line, size_t *used, const char *text, unsigned width, bool left)
{
	char clean[1200];
	unsigned columns, pad;
	size_t bytes = 0;
	clean_text(clean, text, strlen(text), '?');
	columns = (unsigned)text_columns(clean);
	for (unsigned seen = 0; clean[bytes]; bytes++)
		if ((clean[bytes] & 0xc0) != 0x80 && seen++ == width)
			break;
	if (columns > width && width > 1 && left)
		clean[bytes - 1 > 0 && (clean[bytes - 1] & 0x80) == 0 ? bytes - 1 : bytes] = '~';
	pad = columns < width ? width - columns : 0;
	if (*used + bytes + pad + 2 > WIDTH_MAX * 4)
		return;
	*used += (size_t)sprintf(line + *used, "%*s%.*s%*s ", left ? 0 : (int)pad, "", (int)bytes,
				 clean, left ? (int)pad : 0, "");
}

static void draw_row(const struct panel *p, const unsigned *width, const void *row)
{
	char line[WIDTH_MAX * 4 + 4] = "", text[1200];
	enum cli_colour colour = CLI_PLAIN;
	size_t used = 0;
	for (size_t i = 0; i < p->shown_count; i++) {
		const struct column *c = p->columns[i];
		if (width[i] == 0)
			continue;
		if (strcmp(p->shown[i].key, "fill_percent") == 0) {
			double fill =
				*(const double *)(const void *)((const char *)row + c->offset);
			format_bar(fill, text, sizeof text);
			colour = fill >= 90 ? CLI_RED : fill >= 50 ? CLI_YELLOW : colour;
		} else {
			cell_text(c, row, text, sizeof text);
		}
		add_cell(line, &used, text[0] ? text : "-", width[i], is_left(c));
	}
	screen_line(colour, false, line);
}

static void draw_titles(const struct panel *p, const unsigned *width)
{
	char line[WIDTH_MAX * 4 + 4] = "", text[64];
	size_t used = 0;
	for (size_t i = 0; i < p->shown_count; i++) {
		if (width[i] == 0)
			continue;
		snprintf(text, sizeof text, "%s%s", p->shown[i].title,
			 i != p->sort ? ""
			 : p->reverse ? "^"
				      : "*");
		add_cell(line, &used, text, width[i], is_left(p->columns[i]));
	}
	screen_line(CLI_BOLD, true, line);
}

/* ---- frames ---- */

static bool matches(const struct top *top, const struct panel *p, const void *row)
{
	if (!top->filter[0])
		return true;
	return p == &top->nodes ? rows_match(node_columns, node_columns_n, row, top->filter)
				: rows_match(ring_columns, ring_columns_n, row, top->filter);
}

static void draw_panel(struct top *top, struct panel *p, unsigned rows)
{
	const void **sorted;
	unsigned width[24] = {0}, drawn = 0, hidden = 0;
	char more[80];
	if (rows < 2)
		return;
	choose(p, screen_columns(), width);
	draw_titles(p, width);
	sorted = rows_sorted(p->columns[p->sort], p->reverse, p->rows, p->row_bytes, p->count);
	for (size_t i = 0; sorted && i < p->count; i++) {
		if (!matches(top, p, sorted[i]))
			continue;
		/* the last line tells how many found no room */
		if (drawn + 1 < rows - 1 ||
		    (drawn + 1 == rows - 1 && hidden == 0 && i + 1 == p->count)) {
			draw_row(p, width, sorted[i]);
			drawn++;
		} else {
			hidden++;
		}
	}
	free(sorted);
	if (hidden) {
		snprintf(more, sizeof more, "... and %u more %s", hidden, p->title);
		screen_line(CLI_DIM, false, more);
		drawn++;
	}
	if (drawn == 0) {
		snprintf(more, sizeof more, "no %s%s", p->title,
			 top->filter[0] ? " that the filter lets pass" : "");
		screen_line(CLI_DIM, false, more);
		drawn++;
	}
	for (; drawn < rows - 1; drawn++)
		screen_line(CLI_PLAIN, false, "");
}

static void draw_head(const struct top *top)
{
	const struct ringbus_inspect_header *h = &top->now->header;
	char line[600], size[32], left[32], clock[32] = "";
	double sent = 0, received = 0;
	time_t now = time(NULL);
	struct tm tm;
	if (localtime_r(&now, &tm))
		strftime(clock, sizeof clock, "%H:%M:%S", &tm);
	for (size_t i = 0; i < top->now->node_count; i++) {
		sent += isnan(top->now->nodes[i].sent_rate) ? 0 : top->now->nodes[i].sent_rate;
		received += isnan(top->now->nodes[i].received_rate)
				    ? 0
				    : top->now->nodes[i].received_rate;
	}
	/* fits into 80 columns, so what goes without saying is not said */
	snprintf(line, sizeof line, "port %u  %s%s  %zu nodes  %zu rings  %s used  %s free",
		 h->port, bus_state(h), !h->service_running ? "  no service" : "",
		 top->now->node_count, top->now->ring_count,
		 cli_format_size(size, sizeof size, h->memory_bytes),
		 cli_format_size(left, sizeof left, h->fs_free_bytes));
	screen_line(h->live && h->service_running ? CLI_BOLD : CLI_YELLOW, false, line);
	snprintf(line, sizeof line, "%s  each %.1f s  sent %.0f/s  received %.0f/s%s%s%s%s", clock,
		 (double)top->view->interval_ns / 1e9, sent, received,
		 top->paused ? "  PAUSED" : "", top->filter[0] || top->typing ? "  filter: " : "",
		 top->filter, top->typing ? "_" : "");
	screen_line(CLI_PLAIN, false, line);
}

static void draw_help(unsigned rows)
{
	static const char *const text[] = {
		"",
		"q Ctrl-C  quit",
		"n r b     nodes, rings, both",
		"s S       sort by the next column, by the one before (* in its title)",
		"R         the other way round",
		"/         filter: TEXT, or COLUMN=TEXT, COLUMN>NUMBER, COLUMN<NUMBER; Enter, Esc",
		"space     pause",
		"+ -       look less often, more often",
		"? h       this help",
		"",
		"FILL is of the ring, or of a node's fullest ring. QUEUE, WAKE, HANDL: times of",
		"messages in the ring, until awake, in the handler; 50: median, 99: one in 100 is",
		"above. One message in 256 is timed.",
	};
	for (size_t i = 0; i < rows; i++)
		screen_line(CLI_PLAIN, false, i < COUNT_OF(text) ? text[i] : "");
}

static void draw(struct top *top)
{
	unsigned rows = screen_rows(), body = rows > 3 ? rows - 3 : 0, nodes;
	screen_begin();
	draw_head(top);
	if (top->help) {
		draw_help(body);
	} else {
		/* nodes get what they need, up to half; rings the rest */
		nodes = top->of == VIEW_NODES ? body
			: top->of == VIEW_RINGS
				? 0
				: (unsigned)fmin((double)top->nodes.count + 2, body / 2.0);
		if (top->of == VIEW_BOTH && nodes < 3 && body >= 6)
			nodes = 3;
		draw_panel(top, &top->nodes, nodes);
		draw_panel(top, &top->rings, top->of == VIEW_NODES ? 0 : body - nodes);
	}
	screen_line(CLI_DIM, false,
		    "? help  q quit  n nodes  r rings  b both  s R sort  / filter  space pause");
	screen_end();
}

/* ---- keys ---- */

static void next_sort(struct panel *p, int step)
{
	unsigned width[24] = {0};
	choose(p, screen_columns(), width);
	for (size_t i = 0; i < p->shown_count; i++) {
		p->sort = (p->sort + p->shown_count + (size_t)(step + (int)p->shown_count)) %
			  p->shown_count;
		if (width[p->sort])
			return;
	}
}

static void type_filter(struct top *top, int key)
{
	size_t length = strlen(top->filter);
	if (key == KEY_ENTER || key == '\r') {
		top->typing = false;
	} else if (key == KEY_ESCAPE) {
		top->typing = false;
		top->filter[0] = 0;
	} else if (key == KEY_ERASE || key == 8) {
		top->filter[length ? length - 1 : 0] = 0;
	} else if (key >= 0x20 && key < 0x7f && length + 1 < sizeof top->filter) {
		top->filter[length] = (char)key;
		top->filter[length + 1] = 0;
	}
}

static void change_interval(struct top *top, bool longer)
{
	uint64_t ns = top->view->interval_ns;
	ns = longer ? ns * 2 : ns / 2;
	top->view->interval_ns = ns < INTERVAL_MIN   ? INTERVAL_MIN
				 : ns > INTERVAL_MAX ? INTERVAL_MAX
						     : ns;
}

static bool take_view_key(struct top *top, int key)
{
	struct panel *sorted = top->of == VIEW_NODES ? &top->nodes : &top->rings;
	switch (key) {
	case 'n':
		top->of = VIEW_NODES;
		return true;
	case 'r':
		top->of = VIEW_RINGS;
		return true;
	case 'b':
		top->of = VIEW_BOTH;
		return true;
	case 's':
	case 'S':
		next_sort(sorted, key == 's' ? 1 : -1);
		return true;
	case 'R':
		sorted->reverse = !sorted->reverse;
		return true;
	default:
		return false;
	}
}

/* False: end. */
static bool take_key(struct top *top, int key)
{
	if (top->typing) {
		type_filter(top, key);
		return true;
	}
	if (take_view_key(top, key))
		return true;
	switch (key) {
	case 'q':
	case 'Q':
		return false;
	case ' ':
		top->paused = !top->paused;
		break;
	case '/':
		top->typing = true;
		top->filter[0] = 0;
		break;
	case KEY_ESCAPE:
		top->filter[0] = 0;
		top->help = false;
		break;
	case '+':
	case '-':
		change_interval(top, key == '+');
		break;
	case '?':
	case 'h':
		top->help = !top->help;
		break;
	default:
		break;
	}
	return true;
}

/* ---- running ---- */

/* A look at the bus; the one before is kept for the rates. */
static int look(struct top *top)
{
	struct sample *sample;
	int r = sample_take(top->view->inspect, SAMPLE_RINGS | SAMPLE_LATENCY, top->now, &sample);
	if (!sample)
		return r < 0 ? r : -ENOMEM;
	if (r < 0 && r != -ENOMEM) {
		sample_free(sample);
		return r;
	}
	sample_free(top->before);
	top->before = top->now;
	top->now = sample;
	top->nodes.rows = sample->nodes;
	top->nodes.row_bytes = sizeof *sample->nodes;
	top->nodes.count = sample->node_count;
	top->rings.rows = sample->rings;
	top->rings.row_bytes = sizeof *sample->rings;
	top->rings.count = sample->ring_count;
	return 0;
}

static int run(struct top *top)
{
	uint64_t due = 0, looks = 0;
	int r = 0;
	for (;;) {
		uint64_t now = cli_now_ns();
		int key;
		if (now >= due && !top->paused) {
			r = look(top);
			if (r < 0 || ++looks > top->view->count)
				return r;
			/* the first rates come soon */
			due = now + (looks == 1 && top->view->interval_ns > 200000000
					     ? 200000000
					     : top->view->interval_ns);
		}
		draw(top);
		key = screen_key(top->paused ? 1000000000 : due > now ? due - now : 0);
		if (key == KEY_END || (key >= 0 && !take_key(top, key)))
			return 0;
		if (key == '+' || key == '-')
			due = cli_now_ns() + top->view->interval_ns;
	}
}

/* Whether a terminal of this kind can place its cursor. */
static bool can_address(const char *kind)
{
	return kind && *kind && strcmp(kind, "dumb") != 0;
}

int verb_top(struct view *view)
{
	struct top top = {.view = view};
	char text[512];
	int r;
	panel_init(&top.nodes, "nodes", node_shown, COUNT_OF(node_shown), "received_per_s");
	panel_init(&top.rings, "rings", ring_shown, COUNT_OF(ring_shown), "messages_per_s");
	if (!can_address(getenv("TERM")) || screen_open() < 0)
		return cli_error("top needs a terminal; elsewhere use \"shm-inspect nodes "
				 "--watch\" or \"shm-inspect rings --watch\"");
	r = run(&top);
	screen_close();
	sample_free(top.before);
	sample_free(top.now);
	if (r == 0)
		return CLI_OK;
	snprintf(text, sizeof text, "%s", ringbus_error_detail());
	return cli_error("%s", *text ? text : ringbus_strerror(r));
}

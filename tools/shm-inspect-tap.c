/* shm-inspect-tap.c: the verbs tap and last: messages that stand in the rings, and those to come.
 *
 * First all that stands is listed, position and time only; the lists of all rings are merged by
 * time and read again to be shown. Then each ring is followed from where its list ended.
 */
#include "shm-inspect-tap.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define ITEMS_MAX (4u << 20)
#define BURST_MAX 4096u	      /* messages of one ring before the next one's turn */
#define REST_MIN_NS 200000u   /* between two looks */
#define REST_MAX_NS 10000000u /* when nothing passes */
#define ALIVE_NS 200000000u   /* between two looks whether the bus lives */
#define TEXT_BYTES 64u	      /* of a payload, unless told */
#define JSON_BYTES (1u << 20)

struct item {
	struct tap_when when;
	uint64_t position;
	uint32_t link;
	enum ringbus_inspect_message_state state;
};

struct ring {
	uint32_t from, to;
	uint64_t position;
	uint64_t stamp_ns; /* of the newest message that had one */
	uint64_t seen_ns;  /* its end was seen then */
	bool has_gap;	   /* when what stood was shown: told as gone up to gap_end */
	uint64_t gap_end;
};

struct run {
	struct tap tap;
	struct ring *rings;
	size_t ring_count;
	uint32_t *index; /* 1 + index in rings, of each pair of slots */
	struct item *items;
	size_t item_count;
	uint64_t keep; /* newest items of each ring */
};

/* ---- rings ---- */

/* --from and --to as far as slots can be told from them: of earlier owners nothing is known yet. */
static bool may_match(struct run *run, const struct who *who, uint32_t slot)
{
	const struct ringbus_inspect_node *node;
	if (!who->text)
		return true;
	if (who->generation != NEVER)
		return who->slot == slot;
	node = tap_end(&run->tap, slot);
	return node && who_is(who, slot, node->generation, node->pid ? node->pid : node->former_pid,
			      node->name[0] ? node->name : NULL);
}

/* The ring of a link, entered if it is new; NULL: not wanted, or no memory. */
static struct ring *ring_of(struct run *run, const struct ringbus_inspect_link *link,
			    uint64_t position)
{
	uint32_t *index;
	struct ring *more;
	if (link->from >= SLOTS || link->to >= SLOTS)
		return NULL;
	index = &run->index[link->from * SLOTS + link->to];
	if (*index)
		return &run->rings[*index - 1];
	if (!may_match(run, &run->tap.from, link->from) || !may_match(run, &run->tap.to, link->to))
		return NULL;
	more = realloc(run->rings, (run->ring_count + 1) * sizeof *more);
	if (!more)
		return NULL;
	run->rings = more;
	run->rings[run->ring_count] =
		(struct ring){.from = link->from, .to = link->to, .position = position};
	*index = (uint32_t)++run->ring_count;
	return &run->rings[run->ring_count - 1];
}

/* ---- what stands ---- */

static uint64_t granted(struct run *run, uint32_t slot, uint32_t generation)
{
	const struct ringbus_inspect_node *node = tap_end(&run->tap, slot);
	return node && node->generation == generation ? node->granted_ns : 0;
}

/* Not before the stamp before it, nor before both ends had their slots. */
static uint64_t lower_bound(struct run *run, const struct ring *ring,
			    const struct ringbus_inspect_message *m)
{
	uint64_t bounds[] = {m->stamp_ns ? m->stamp_ns : ring->stamp_ns,
			     granted(run, m->from, m->from_generation),
			     granted(run, m->to, m->to_generation)};
	uint64_t after = bounds[0];
	if (m->stamp_ns)
		return after;
	for (size_t i = 1; i < COUNT_OF(bounds); i++)
		after = bounds[i] > after ? bounds[i] : after;
	return after;
}

static bool add_item(struct run *run, size_t first, const struct item *item)
{
	size_t n = run->item_count;
	if (n - first >= run->keep) { /* only the newest of this ring */
		memmove(&run->items[first], &run->items[first + 1],
			(n - first - 1) * sizeof *run->items);
		run->items[n - 1] = *item;
		return true;
	}
	if ((n & (n - 1)) == 0) {
		struct item *more =
			n >= ITEMS_MAX ? NULL : realloc(run->items, (n ? 2 * n : 1) * sizeof *more);
		if (!more)
			return false;
		run->items = more;
	}
	run->items[run->item_count++] = *item;
	return true;
}

/* What was listed since the last stamp came not after this one, or not after now. */
static void set_upper_bounds(struct run *run, size_t first, uint64_t before_ns)
{
	for (size_t i = run->item_count; i-- > first;) {
		if (run->items[i].when.before_ns != NEVER)
			return;
		run->items[i].when.before_ns = before_ns;
	}
}

static bool list_ring(struct run *run, uint32_t index)
{
	struct ring *ring = &run->rings[index];
	struct ringbus_inspect_message m;
	size_t first = run->item_count;
	bool complete = true;
	ring->seen_ns = cli_now_ns();
	while (ringbus_inspect_message_next(run->tap.view->inspect, ring->from, ring->to,
					    &ring->position, &m, NULL, 0) > 0) {
		struct item item = {.position = m.position, .link = index, .state = m.state};
		item.when.after_ns = lower_bound(run, ring, &m);
		item.when.before_ns = m.stamp_ns ? m.stamp_ns : NEVER;
		if (m.stamp_ns) {
			ring->stamp_ns = m.stamp_ns;
			set_upper_bounds(run, first, m.stamp_ns);
		}
		if (run->keep != NEVER && m.state >= RINGBUS_INSPECT_OVERWRITTEN)
			continue;
		if (tap_wants(&run->tap, &m))
			complete &= add_item(run, first, &item);
	}
	if (run->tap.this_boot)
		set_upper_bounds(run, first, cli_now_ns());
	return complete;
}

static int by_time(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	if (x->when.after_ns != y->when.after_ns)
		return x->when.after_ns < y->when.after_ns ? -1 : 1;
	if (x->link != y->link)
		return x->link < y->link ? -1 : 1;
	return (x->position > y->position) - (x->position < y->position);
}

static void show_item(struct run *run, const struct item *item)
{
	struct tap *tap = &run->tap;
	struct ring *ring = &run->rings[item->link];
	struct ringbus_inspect_message m;
	uint64_t position = item->position;
	if (ring->has_gap && (int64_t)(position - ring->gap_end) < 0)
		return;
	if (ringbus_inspect_message_next(tap->view->inspect, ring->from, ring->to, &position, &m,
					 tap->buffer, tap->bytes) <= 0)
		return;
	if (m.position != item->position) { /* padding, or overwritten since */
		m = (struct ringbus_inspect_message){.from = ring->from,
						     .to = ring->to,
						     .position = item->position,
						     .state = RINGBUS_INSPECT_OVERWRITTEN};
	}
	if (m.skipped_bytes > 0) {
		ring->has_gap = true;
		ring->gap_end = m.position + m.skipped_bytes;
		if ((int64_t)(ring->position - ring->gap_end) < 0)
			ring->position = ring->gap_end;
	}
	tap_show(tap, &m, item->when);
}

static bool done(const struct run *run)
{
	return interrupted() || run->tap.shown >= run->tap.view->count || cli_flush() != 0;
}

static int restart_budget(struct run *run)
{
	struct ringbus_inspect_link link;
	uint32_t cursor = 0;
	return ringbus_inspect_link_next(run->tap.view->inspect, &cursor, &link);
}

static int show_standing(struct run *run)
{
	struct ringbus_inspect_link link;
	bool complete = true;
	uint32_t cursor = 0;
	int r;
	while ((r = ringbus_inspect_link_next(run->tap.view->inspect, &cursor, &link)) > 0) {
		struct ring *ring = ring_of(run, &link,
					    run->tap.view->only_new ? RINGBUS_INSPECT_NEWEST
								    : RINGBUS_INSPECT_OLDEST);
		if (ring)
			complete &= list_ring(run, (uint32_t)(ring - run->rings));
	}
	if (r < 0)
		return r;
	if (!complete)
		cli_note("too many messages stand in the rings to show them all");
	if (run->item_count > 1)
		qsort(run->items, run->item_count, sizeof *run->items, by_time);
	restart_budget(run);
	for (size_t i = 0; i < run->item_count && !(i % 256 == 0 && done(run)) &&
			   run->tap.shown < run->tap.view->count;
	     i++)
		show_item(run, &run->items[i]);
	free(run->items);
	run->items = NULL;
	return 0;
}

/* ---- what comes ---- */

/* True: something came. */
static bool follow_ring(struct run *run, struct ring *ring)
{
	struct tap *tap = &run->tap;
	struct ringbus_inspect_message m;
	uint64_t begin_ns = cli_now_ns();
	unsigned n;
	for (n = 0; n < BURST_MAX && tap->shown < tap->view->count; n++) {
		struct tap_when when;
		if (ringbus_inspect_message_next(tap->view->inspect, ring->from, ring->to,
						 &ring->position, &m, tap->buffer, tap->bytes) <= 0)
			break;
		when.after_ns = lower_bound(run, ring, &m);
		when.before_ns = m.stamp_ns ? m.stamp_ns : cli_now_ns();
		if (!m.stamp_ns && ring->seen_ns > when.after_ns)
			when.after_ns = ring->seen_ns;
		if (m.stamp_ns)
			ring->stamp_ns = m.stamp_ns;
		if (tap_wants(tap, &m))
			tap_show(tap, &m, when);
	}
	if (n < BURST_MAX)
		ring->seen_ns = begin_ns;
	return n > 0;
}

/* One look at all rings. 1 something came, 0 nothing, or a negative errno code. */
static int look(struct run *run)
{
	struct ringbus_inspect_link link;
	uint32_t cursor = 0;
	int came = 0, r;
	while ((r = ringbus_inspect_link_next(run->tap.view->inspect, &cursor, &link)) > 0 &&
	       run->tap.shown < run->tap.view->count) {
		struct ring *ring = ring_of(run, &link, RINGBUS_INSPECT_OLDEST);
		if (ring && follow_ring(run, ring))
			came = 1;
	}
	return r < 0 ? r : came;
}

static bool alive(struct run *run)
{
	struct ringbus_inspect_header header;
	return ringbus_inspect_header(run->tap.view->inspect, &header) == 0 && header.live;
}

static int follow(struct run *run)
{
	struct view *view = run->tap.view;
	uint64_t begin = cli_now_ns(), rest = REST_MIN_NS, looked = begin;
	bool lives = alive(run);
	while (!done(run) && cli_now_ns() - begin < view->timeout_ns) {
		bool last = !lives;
		int r = look(run);
		if (r < 0)
			return r;
		if (last) /* nobody writes any more, and all was seen */
			break;
		rest = r > 0 ? REST_MIN_NS : rest < REST_MAX_NS / 2 ? 2 * rest : REST_MAX_NS;
		if (cli_now_ns() - looked > ALIVE_NS) {
			looked = cli_now_ns();
			lives = alive(run);
		}
		if (r == 0)
			sleep_ns(rest);
	}
	return 0;
}

/* ---- both verbs ---- */

/* Whether a slot has, or had last, an owner that the user may mean. */
static bool is_known(struct run *run, const struct who *who, uint32_t slots)
{
	for (uint32_t s = 0; s < slots && s < SLOTS; s++) {
		const struct ringbus_inspect_node *node = tap_end(&run->tap, s);
		bool used = node && node->generation != 0;
		if (used && may_match(run, who, s) &&
		    (who->generation == NEVER || who->generation <= node->generation))
			return true;
	}
	return false;
}

static bool is_known_event(const struct view *view, uint32_t events)
{
	struct ringbus_inspect_event e;
	for (uint32_t i = 0; i < events; i++)
		if (ringbus_inspect_event_entry(view->inspect, i, &e) == 0 &&
		    strcmp(e.name, view->event) == 0)
			return true;
	return false;
}

/* A name that was misspelt lets nothing pass, as one whose owner is silent does. */
static void note_strangers(struct run *run, const struct ringbus_inspect_header *header)
{
	const struct {
		const char *option;
		const struct who *who;
	} sides[] = {{"from", &run->tap.from}, {"to", &run->tap.to}};
	for (size_t i = 0; i < COUNT_OF(sides); i++)
		if (sides[i].who->text && !is_known(run, sides[i].who, header->nodes))
			cli_note("--%s: no slot of this bus has, or had last, a node \"%s\"",
				 sides[i].option, sides[i].who->text);
	if (run->tap.view->event && !is_known_event(run->tap.view, header->events))
		cli_note("--event: there is no event \"%s\" on this bus", run->tap.view->event);
}

static int begin(struct run *run, struct view *view)
{
	struct ringbus_inspect_header header;
	struct timespec now;
	struct sample *sample;
	int r = sample_take(view->inspect, 0, NULL, &sample);
	*run = (struct run){.keep = NEVER, .tap = {.view = view}};
	if (r >= 0)
		r = ringbus_inspect_header(view->inspect, &header);
	if (r < 0) {
		sample_free(sample);
		return r;
	}
	run->tap.this_boot = header.this_boot;
	clock_gettime(CLOCK_REALTIME, &now);
	run->tap.realtime_ns =
		(int64_t)now.tv_sec * 1000000000 + now.tv_nsec - (int64_t)cli_now_ns();
	run->tap.bytes = view->bytes != NEVER ? view->bytes : view->json ? JSON_BYTES : TEXT_BYTES;
	run->tap.buffer = malloc(run->tap.bytes + 1);
	run->tap.ends = calloc(SLOTS, sizeof *run->tap.ends);
	run->index = calloc((size_t)SLOTS * SLOTS, sizeof *run->index);
	if (view->from)
		who_parse(&run->tap.from, view->from);
	if (view->to)
		who_parse(&run->tap.to, view->to);
	if (view->from)
		who_settle(&run->tap.from, sample);
	if (view->to)
		who_settle(&run->tap.to, sample);
	sample_free(sample);
	catch_interrupts();
	if (!run->tap.buffer || !run->tap.ends || !run->index)
		return -ENOMEM;
	note_strangers(run, &header);
	return 0;
}

static void end(struct run *run)
{
	free(run->tap.buffer);
	free(run->tap.ends);
	free(run->index);
	free(run->rings);
	free(run->items);
}

static int failed(int r)
{
	const char *detail = ringbus_error_detail();
	return cli_error("%s", *detail ? detail : ringbus_strerror(r));
}

int verb_tap(struct view *view)
{
	struct run run;
	int r = begin(&run, view);
	if (r == 0)
		r = show_standing(&run);
	if (r == 0)
		r = follow(&run);
	end(&run);
	if (r < 0)
		return failed(r);
	return view->timeout_ns != NEVER && view->count != NEVER && run.tap.shown < view->count &&
			       !interrupted()
		       ? CLI_TIMEOUT
		       : CLI_OK;
}

int verb_last(struct view *view)
{
	struct run run;
	uint64_t keep = 1;
	int r;
	if (view->operand_count > 0 && !cli_parse_u64(view->operands[0], 1, 1u << 20, &keep))
		return cli_usage_error("\"%s\" is not a number above 0", view->operands[0]);
	r = begin(&run, view);
	run.keep = keep;
	if (r == 0)
		r = show_standing(&run);
	end(&run);
	return r < 0 ? failed(r) : CLI_OK;
}

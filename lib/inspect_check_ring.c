/* inspect_check_ring.c: the fsck of extents, rings and pools. Level 5, stands on 0 to 2. */
#include "inspect.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>

#define error(c, ...) inspect_report(c, RINGBUS_INSPECT_ERROR, __VA_ARGS__)
#define warning(c, ...) inspect_report(c, RINGBUS_INSPECT_WARNING, __VA_ARGS__)
#define EXTENTS_MAX (LAYOUT_NODES_MAX * (LAYOUT_NODES_MAX + LAYOUT_POOL_EXTENTS))

/* ---- overlap ---- */

struct extent_claim {
	uint64_t offset;
	uint64_t end;
	uint16_t slot;
	uint16_t index; /* receiver, or LAYOUT_NODES_MAX + pool extent */
};

struct claims {
	struct extent_claim *list;
	size_t count;
};

static int claim_compare(const void *a, const void *b)
{
	const struct extent_claim *x = a, *y = b;

	return x->offset < y->offset ? -1 : x->offset > y->offset;
}

static void claim_text(const struct extent_claim *claim, char out[48])
{
	if (claim->index < LAYOUT_NODES_MAX)
		snprintf(out, 48, "ring %u to %u", claim->slot, claim->index);
	else
		snprintf(out, 48, "pool extent %u of slot %u", claim->index - LAYOUT_NODES_MAX,
			 claim->slot);
}

static void check_overlaps(struct inspect_check *c, struct claims *claims)
{
	char a[48], b[48];
	size_t last = 0; /* of those before, the one that ends last */

	qsort(claims->list, claims->count, sizeof(*claims->list), claim_compare);
	for (size_t i = 1; i < claims->count; i++) {
		if (claims->list[i].offset < claims->list[last].end) {
			claim_text(&claims->list[last], a);
			claim_text(&claims->list[i], b);
			error(c, "extent-overlap", "%s and %s overlap at %llu in the file", a, b,
			      (unsigned long long)claims->list[i].offset);
		}
		if (claims->list[i].end > claims->list[last].end)
			last = i;
	}
}

static void claim(struct claims *claims, uint32_t slot, uint32_t index, uint64_t offset,
		  uint64_t bytes)
{
	if (claims->count < EXTENTS_MAX)
		claims->list[claims->count++] = (struct extent_claim){.offset = offset,
								      .end = offset + bytes,
								      .slot = (uint16_t)slot,
								      .index = (uint16_t)index};
}

/* ---- rings ---- */

struct ring_check {
	struct inspect_check *c;
	const struct layout_node *page; /* the sender's */
	struct ringbus_inspect_ring ring;
	enum ringbus_inspect_severity severity;
	/* The newest generations that records name, and the first record's position; judged after
	 * the walk. */
	bool any;
	uint32_t to_generation;
	uint32_t from_generation;
	/* Pooled records are judged in a second walk, once the receiver's slot is known. */
	bool pooled;
	bool judge_pooled;
	uint32_t current; /* generation of the receiver */
};

static void see_descriptor(struct ring_check *r, const struct inspect_record *record)
{
	uint32_t index = (uint32_t)record->chunk.chunk & 0xffff;
	uint32_t serial = (uint32_t)record->chunk.chunk >> 16;
	uint64_t chunk = record->chunk.chunk >> 32;
	unsigned long long p = record->position;
	struct inspect_extent e = {.used = false};
	const char *what = NULL;

	if (index < LAYOUT_POOL_EXTENTS)
		inspect_extent_decode(r->c->in, &r->page->pool[index], &e);
	if (!e.used)
		what = "an extent that does not exist";
	else if (e.serial != serial)
		what = "an extent of another serial";
	else if (e.why)
		what = "an extent that is damaged";
	else if (chunk >= e.chunks)
		what = "a chunk that does not exist";
	else if (record->chunk.size > e.chunk_bytes)
		what = "more bytes than the chunk has";
	if (what)
		inspect_report(r->c, r->severity, "ring-descriptor",
			       "ring %u to %u: record at %llu names %s", r->ring.from, r->ring.to,
			       p, what);
}

static void see_record(const struct inspect_record *record, void *user)
{
	struct ring_check *r = user;

	if (record->kind == RECORD_PAD || record->kind == RECORD_SAME)
		return; /* neither names a generation */
	if (r->judge_pooled) {
		if (record->pooled && record->to_generation == r->current)
			see_descriptor(r, record);
		return;
	}
	if (!r->any || (int32_t)(record->to_generation - r->to_generation) > 0)
		r->to_generation = record->to_generation;
	if (!r->any || (int32_t)(record->from_generation - r->from_generation) > 0)
		r->from_generation = record->from_generation;
	r->any = true;
	r->pooled |= record->pooled;
}

static void check_resync(struct ring_check *r)
{
	const struct ringbus_inspect_ring *g = &r->ring;

	if (g->lost)
		warning(r->c, "ring-lost",
			"ring %u to %u: the sender lost its place, resync to come", g->from, g->to);
	if (g->asked == g->answered)
		return;
	if ((int64_t)(g->asked - g->answered) > 0)
		warning(r->c, "ring-resync",
			"ring %u to %u: the receiver's resync %llu is not answered yet", g->from,
			g->to, (unsigned long long)g->asked);
	else
		error(r->c, "ring-resync", "ring %u to %u: %llu resyncs answered, %llu asked",
		      g->from, g->to, (unsigned long long)g->answered,
		      (unsigned long long)g->asked);
}

static void check_ring_positions(struct ring_check *r)
{
	const struct ringbus_inspect_ring *g = &r->ring;

	check_resync(r);
	if (g->damage[0])
		inspect_report(r->c, r->severity, "ring-record", "ring %u to %u: %s", g->from,
			       g->to, g->damage);
	if (g->hint % 8)
		inspect_report(r->c, r->severity, "ring-hint",
			       "ring %u to %u: hint %llu is no multiple of 8", g->from, g->to,
			       (unsigned long long)g->hint);
	else if (!g->damage[0] && (int64_t)(g->hint - g->tail) > 0)
		inspect_report(r->c, r->severity, "ring-hint",
			       "ring %u to %u: hint %llu is beyond the tail %llu", g->from, g->to,
			       (unsigned long long)g->hint, (unsigned long long)g->tail);
}

static void check_ring_generations(struct ring_check *r, uint64_t from, uint64_t to)
{
	if (!r->any)
		return;
	if ((int32_t)(r->to_generation - slot_generation(to)) > 0)
		inspect_report(r->c, r->severity, "ring-generation",
			       "ring %u to %u: a record is for generation %u of slot %u, which has "
			       "%u",
			       r->ring.from, r->ring.to, r->to_generation, r->ring.to,
			       slot_generation(to));
	if ((int32_t)(r->from_generation - slot_generation(from)) > 0)
		inspect_report(r->c, r->severity, "ring-generation",
			       "ring %u to %u: a record is of generation %u of slot %u, which has "
			       "%u",
			       r->ring.from, r->ring.to, r->from_generation, r->ring.from,
			       slot_generation(from));
}

/* What a receiver needs to find its messages. */
static void check_ring_bells(struct ring_check *r, uint64_t to)
{
	uint64_t paired[LAYOUT_MASK_WORDS];
	struct layout_bell bell;
	uint64_t inbox;

	if (r->ring.unread_records == 0 || slot_state(to) != SLOT_LIVE)
		return;
	inspect_read_bell(r->c->in, r->ring.to, &bell);
	inspect_mask(paired, bell.paired);
	if (!inspect_bit(paired, r->ring.from))
		inspect_report(r->c, r->severity, "ring-unpaired",
			       "ring %u to %u: unread records, but the receiver does not know the "
			       "sender",
			       r->ring.from, r->ring.to);
	inbox = inspect_word(&bell.inbox);
	if ((inbox & INSPECT_BELL_ASLEEP) && !(inbox & INSPECT_BELL_WOKEN) &&
	    r->to_generation == slot_generation(to))
		inspect_report(r->c, RINGBUS_INSPECT_INFO, "bell-asleep",
			       "slot %u sleeps in epoch %llu with unread messages of slot %u",
			       r->ring.to, (unsigned long long)(inbox >> 2), r->ring.from);
}

static void check_ring(struct inspect_check *c, const struct layout_node *page, uint32_t from,
		       uint32_t to, uint64_t offset)
{
	struct ring_check r = {.c = c, .page = page, .severity = RINGBUS_INSPECT_ERROR};
	uint64_t from_word, to_word;

	inspect_ring(c->in, from, to, offset, &r.ring, see_record, &r);
	/* What a receiver has given up, it does not read: a resync that is due or open explains the
	 * rest. */
	if ((int64_t)(r.ring.asked - r.ring.answered) > 0 || r.ring.lost)
		r.severity = RINGBUS_INSPECT_WARNING;
	check_ring_positions(&r);
	/* Read after the records, so that no record is newer than the slot. */
	from_word = inspect_slot_word(c->in, from);
	to_word = inspect_slot_word(c->in, to);
	check_ring_generations(&r, from_word, to_word);
	check_ring_bells(&r, to_word);
	if (r.pooled && slot_state(to_word) == SLOT_LIVE) {
		struct layout_node fresh;

		inspect_read_node(c->in, from, &fresh);
		r.page = &fresh;
		r.judge_pooled = true;
		r.current = slot_generation(to_word);
		inspect_ring(c->in, from, to, offset, &r.ring, see_record, &r);
	}
}

static void check_rings_of(struct inspect_check *c, uint32_t from, const struct layout_node *page,
			   struct claims *claims)
{
	uint64_t bytes = layout_ring_extent_bytes(&c->in->g);
	const char *why;

	for (uint32_t to = 0; to < LAYOUT_NODES_MAX; to++) {
		uint64_t offset = inspect_word(&page->ring[to]);

		if (offset == 0)
			continue;
		if (to >= c->in->g.nodes) {
			error(c, "extent", "ring %u to %u: slot %u does not exist", from, to, to);
			continue;
		}
		if (!inspect_extent_ok(c->in, offset, bytes, &why)) {
			error(c, "extent", "ring %u to %u: its extent is %s", from, to, why);
			continue;
		}
		claim(claims, from, to, offset, bytes);
		check_ring(c, page, from, to, offset);
	}
}

/* ---- pools ---- */

struct borrow_check {
	struct ringbus_inspect *in;
	uint64_t mask[LAYOUT_MASK_WORDS];
};

static void see_borrow(uint64_t chunk, const uint64_t *mask, void *user)
{
	struct borrow_check *b = user;

	(void)chunk;
	for (unsigned i = 0; i < LAYOUT_MASK_WORDS; i++)
		b->mask[i] |= mask[i];
}

static void check_borrows(struct inspect_check *c, uint32_t slot, uint32_t index,
			  const struct inspect_extent *e)
{
	struct borrow_check b = {.in = c->in};

	if (!inspect_borrows(c->in, e, see_borrow, &b)) {
		error(c, "pool-borrow", "pool extent %u of slot %u: not looked at, extents overlap",
		      index, slot);
		return;
	}
	for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++) {
		uint64_t word;
		unsigned state;

		if (!inspect_bit(b.mask, i))
			continue;
		word = i < c->in->g.nodes ? inspect_slot_word(c->in, i) : SLOT_FREE;
		state = word & 0xff;
		if (state == SLOT_JOINING || state == SLOT_LIVE || state == SLOT_LEAVING)
			continue;
		inspect_report(c,
			       state == SLOT_DEAD || state == SLOT_LEFT ? RINGBUS_INSPECT_WARNING
									: RINGBUS_INSPECT_ERROR,
			       "pool-borrow",
			       "pool extent %u of slot %u: borrowed by slot %u (generation %u), "
			       "which is %s",
			       index, slot, i, slot_generation(word),
			       ringbus_inspect_slot_state(state));
	}
}

static void check_pools_of(struct inspect_check *c, uint32_t slot, const struct layout_node *page,
			   struct claims *claims)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		struct inspect_extent e;

		inspect_extent_decode(c->in, &page->pool[i], &e);
		if (!e.used)
			continue;
		if (e.why) {
			error(c, "extent", "pool extent %u of slot %u is %s", i, slot, e.why);
			continue;
		}
		claim(claims, slot, LAYOUT_NODES_MAX + i, e.offset, e.bytes);
		check_borrows(c, slot, i, &e);
	}
}

int inspect_check_extents(struct inspect_check *c)
{
	struct claims claims = {.list = malloc(EXTENTS_MAX * sizeof(*claims.list))};
	struct layout_node page;

	if (!claims.list)
		return rb_fail(-ENOMEM, "no memory to check the extents");
	for (uint32_t slot = 0; slot < c->in->g.nodes; slot++) {
		inspect_read_node(c->in, slot, &page);
		check_rings_of(c, slot, &page, &claims);
		check_pools_of(c, slot, &page, &claims);
	}
	check_overlaps(c, &claims);
	free(claims.list);
	return 0;
}

/* inspect_ring.c: finds extents and walks the records of rings. Level 5, stands on 0 to 2. */
#include "inspect.h"

#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#define WINDOW_BYTES 16384u
#define WINDOW_FIRST_BYTES 4096u
#define WALK_TRIES 3
#define KIND_MASK 7u

/* A walk reads the ring through a window, so that each byte is read about once. */
struct walk {
	struct ringbus_inspect *in;
	struct ringbus_inspect_ring *ring;
	uint64_t data; /* file offset of the records */
	uint64_t at;   /* the window's first byte, as an offset in the ring */
	size_t bytes;  /* of the window; 0: none yet */
	bool out_of_budget;
	uint64_t window[WINDOW_BYTES / 8];
};

bool inspect_extent_ok(const struct ringbus_inspect *in, uint64_t offset, uint64_t bytes,
		       const char **why)
{
	const char *text = NULL;

	if (offset % RB_PAGE)
		text = "not page aligned";
	else if (offset < in->g.fixed_bytes)
		text = "inside the fixed part";
	else if (offset > in->file_bytes || bytes > in->file_bytes - offset)
		text = "beyond the end of the file";
	if (why)
		*why = text;
	return !text;
}

static void damage(struct ringbus_inspect_ring *ring, const char *format, ...) rb_printf(2, 3);
static void damage(struct ringbus_inspect_ring *ring, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(ring->damage, sizeof(ring->damage), format, args);
	va_end(args);
}

/* The word at an offset in the ring, a multiple of 8 below the capacity. 0 when out of budget. */
static uint64_t walk_word(struct walk *w, uint64_t offset)
{
	if (offset < w->at || offset >= w->at + w->bytes) {
		uint64_t want = w->bytes ? WINDOW_BYTES : WINDOW_FIRST_BYTES;

		want = rb_min(want, w->ring->capacity - offset);
		if (w->out_of_budget || !inspect_budget_take(w->in, want)) {
			w->out_of_budget = true;
			return 0;
		}
		inspect_read(w->in, w->data + offset, w->window, want);
		w->at = offset;
		w->bytes = want;
	}
	return w->window[(offset - w->at) / 8];
}

static bool kind_pooled(unsigned kind)
{
	return kind == RECORD_EVENT_POOLED || kind == RECORD_CONTACT_POOLED;
}

/* Bytes in front of the payload or descriptor. */
static uint64_t header_bytes(uint64_t word)
{
	return RECORD_HEADER_BYTES + (word & RECORD_DROPS ? 8 : 0) +
	       (word & RECORD_STAMPED ? 8 : 0);
}

/* Least bytes of a record with this header; 0 for an unknown kind. */
static uint64_t least_bytes(uint64_t word)
{
	unsigned kind = word >> 32 & KIND_MASK;

	if (kind == RECORD_PAD)
		return 8;
	if (kind == RECORD_SAME)
		return word & (RECORD_DROPS | RECORD_STAMPED) ? 0 : RECORD_SAME_BYTES;
	if (kind == RECORD_EVENT || kind == RECORD_CONTACT)
		return header_bytes(word);
	return kind_pooled(kind) ? header_bytes(word) + sizeof(struct record_chunk) : 0;
}

/* Checks the header at a position; `left` bytes may be unread from there on. Returns the record's
 * bytes, 0 if bad. */
static uint64_t record_check(struct ringbus_inspect_ring *ring, uint64_t position, uint64_t word,
			     uint64_t left)
{
	uint64_t bytes = (uint32_t)word;
	unsigned kind = word >> 32 & KIND_MASK;
	uint64_t least = least_bytes(word);
	unsigned tail = word >> 36 & 7;
	unsigned long long p = position;

	if (word >> 40 != (position >> 3 & 0xffffff))
		damage(ring, "record at %llu: names another position", p);
	else if (least == 0)
		damage(ring, "record at %llu: kind %u is unknown", p, kind);
	else if (bytes % 8)
		damage(ring, "record at %llu: length %llu is no multiple of 8", p,
		       (unsigned long long)bytes);
	else if (bytes < least || (kind != RECORD_PAD && bytes - least < tail))
		damage(ring, "record at %llu: length %llu is too short", p,
		       (unsigned long long)bytes);
	else if (bytes > ring->capacity - (position & (ring->capacity - 1)))
		damage(ring, "record at %llu: length %llu crosses the ring's end", p,
		       (unsigned long long)bytes);
	else if (kind == RECORD_PAD && (position + bytes) % ring->capacity)
		damage(ring, "record at %llu: padding that does not reach the ring's end", p);
	else if (kind_pooled(kind) && bytes != least)
		damage(ring, "record at %llu: length %llu is not that of a descriptor", p,
		       (unsigned long long)bytes);
	else if (bytes > left)
		damage(ring, "record at %llu: more unread than the ring holds", p);
	else
		return bytes;
	return 0;
}

static void record_decode(struct walk *w, uint64_t position, uint64_t word,
			  struct inspect_record *record)
{
	uint64_t at = position & (w->ring->capacity - 1);
	uint64_t generations;

	*record = (struct inspect_record){
		.position = position,
		.bytes = (uint32_t)word,
		.kind = (enum record_kind)(word >> 32 & KIND_MASK),
	};
	if (record->kind == RECORD_PAD || record->kind == RECORD_SAME)
		return;
	generations = walk_word(w, at + 8);
	record->to_generation = (uint32_t)(generations >> 32);
	record->from_generation = (uint32_t)generations;
	record->pooled = kind_pooled(record->kind);
	if (word & RECORD_STAMPED)
		record->stamp_ns = walk_word(w, at + header_bytes(word) - 8);
	if (record->pooled) {
		at += header_bytes(word);
		record->chunk.size = walk_word(w, at);
		record->chunk.chunk = walk_word(w, at + 8);
	}
}

uint64_t inspect_ring_begin(const struct ringbus_inspect_ring *ring)
{
	if (ring->answered != 0 && (int64_t)(ring->start - ring->head) > 0)
		return ring->start;
	return ring->head;
}

static void walk_records(struct walk *w,
			 void (*visit)(const struct inspect_record *record, void *user), void *user)
{
	struct ringbus_inspect_ring *ring = w->ring;
	uint64_t begin = inspect_ring_begin(ring);
	uint64_t most = ring->capacity - RECORD_SPARE_BYTES;
	uint64_t bytes;

	ring->tail = begin;
	if (begin % 8) {
		damage(ring, "head %llu is no multiple of 8", (unsigned long long)begin);
		return;
	}
	for (;; ring->tail += bytes, ring->unread_bytes += bytes) {
		uint64_t word = walk_word(w, ring->tail & (ring->capacity - 1));
		struct inspect_record record;

		if (w->out_of_budget)
			damage(ring, "not walked: extents overlap, too much to read");
		if (w->out_of_budget || word == 0)
			return;
		bytes = record_check(ring, ring->tail, word, most - ring->unread_bytes);
		if (bytes == 0)
			return;
		record_decode(w, ring->tail, word, &record);
		ring->unread_records += record.kind != RECORD_PAD;
		if (ring->unread_stamp_ns == 0)
			ring->unread_stamp_ns = record.stamp_ns;
		if (record.kind != RECORD_PAD)
			ring->last_bytes = record.bytes;
		if (visit)
			visit(&record, user);
	}
}

static void read_tx(struct ringbus_inspect *in, struct ringbus_inspect_ring *ring)
{
	uint64_t word = inspect_slot_word(in, ring->from);
	struct layout_ring_tx tx;

	inspect_read(in, ring->offset, &tx, sizeof(tx));
	ring->hint = inspect_word(&tx.hint);
	ring->answered = inspect_word(&tx.answered);
	ring->start = inspect_word(&tx.start);
	ring->lost = inspect_word(&tx.lost);
	ring->drops = inspect_word(&tx.drops);
	/* a new owner of the slot who has not sent yet has counted nothing */
	if (slot_state(word) != SLOT_FREE && inspect_word(&tx.owner) != slot_generation(word))
		return;
	ring->messages = inspect_word(&tx.messages);
	ring->bytes = inspect_word(&tx.bytes);
	ring->high_water = inspect_word(&tx.high_water);
	ring->full = inspect_word(&tx.full);
	ring->full_since_ns = inspect_word(&tx.full_since_ns);
	ring->wakes = inspect_word(&tx.wakes);
}

static void read_rx(struct ringbus_inspect *in, struct ringbus_inspect_ring *ring)
{
	struct layout_ring_rx rx;

	inspect_read(in, ring->offset + RB_PAGE + ring->capacity, &rx, sizeof(rx));
	ring->head = inspect_word(&rx.head);
	ring->asked = inspect_word(&rx.asked);
	ring->position = inspect_word(&rx.position);
	ring->received = inspect_word(&rx.messages);
	ring->received_bytes = inspect_word(&rx.bytes);
	ring->stale = inspect_word(&rx.stale);
	ring->bad = inspect_word(&rx.bad);
	ring->drops_seen = inspect_word(&rx.drops_seen);
}

static uint64_t read_head(struct ringbus_inspect *in, const struct ringbus_inspect_ring *ring)
{
	uint64_t head;

	inspect_read(in,
		     ring->offset + RB_PAGE + ring->capacity +
			     offsetof(struct layout_ring_rx, head),
		     &head, sizeof(head));
	return head;
}

/* A walk that failed may have been overtaken: then the head has moved, and it is done again. Visits
 * are not taken back, so a visitor sees records twice then; those who visit look again anyway. */
void inspect_ring(struct ringbus_inspect *in, uint32_t from, uint32_t to, uint64_t offset,
		  struct ringbus_inspect_ring *ring,
		  void (*visit)(const struct inspect_record *record, void *user), void *user)
{
	const char *why;
	struct walk w;

	memset(ring, 0, sizeof(*ring));
	ring->from = from;
	ring->to = to;
	ring->offset = offset;
	ring->capacity = in->g.ring_bytes;
	if (!inspect_extent_ok(in, offset, layout_ring_extent_bytes(&in->g), &why)) {
		damage(ring, "its extent is %s", why);
		return;
	}
	for (int i = 0; i < WALK_TRIES; i++) {
		w.in = in;
		w.ring = ring;
		w.data = offset + RB_PAGE;
		w.at = w.bytes = 0;
		w.out_of_budget = false;
		ring->unread_bytes = ring->unread_records = 0;
		ring->unread_stamp_ns = ring->last_bytes = 0;
		ring->damage[0] = 0;
		read_tx(in, ring);
		read_rx(in, ring);
		walk_records(&w, visit, user);
		if (!ring->damage[0] || w.out_of_budget || read_head(in, ring) == ring->head)
			return;
	}
}

int ringbus_inspect_ring_next(struct ringbus_inspect *in, uint32_t *cursor,
			      struct ringbus_inspect_ring *ring)
{
	struct layout_node page;
	int r = inspect_begin(in, *cursor);

	if (r < 0)
		return r;
	while (*cursor / LAYOUT_NODES_MAX < in->g.nodes) {
		uint32_t from = *cursor / LAYOUT_NODES_MAX;

		inspect_read_node(in, from, &page);
		for (uint32_t to = *cursor % LAYOUT_NODES_MAX; to < in->g.nodes; to++) {
			uint64_t offset = inspect_word(&page.ring[to]);

			if (offset == 0)
				continue;
			*cursor = from * LAYOUT_NODES_MAX + to + 1;
			inspect_ring(in, from, to, offset, ring, NULL, NULL);
			return 1;
		}
		*cursor = (from + 1) * LAYOUT_NODES_MAX;
	}
	return 0;
}

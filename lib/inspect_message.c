/* inspect_message.c: single records of a ring, also those already read. Level 5, stands on 0 to 2.
 *
 * Bytes behind the head stay until the sender comes round again. What is copied while the sender
 * runs is judged after the copy, as with a sequence lock whose counter is the tail. A record at p:
 *
 *	unread still         the sender does not write beyond head + capacity: intact
 *	tail <= p + 3/4      it writes at the tail, at most one record (an eighth of the ring) and
 *			     the padding before it: intact
 *	tail <= p + 1        a record that is being written may reach it: doubtful
 *	else                 overwritten
 *
 * A quarter, and not an eighth, because on ARM the bytes of the next record may be seen before the
 * header of the one before it. The tail lags in tx.hint, so it is found by walking from there. A
 * header 0 below the head is no damage: the pages were given back (reclaim.c), and this is gone as
 * what is overwritten.
 *
 * A pooled payload is certain while its descriptor is unread. Afterwards its chunk may have been
 * used again: doubtful.
 */
#include "inspect.h"

#include "error.h"
#include "ring.h"

#define TAIL_WINDOW 4096u
#define TRIES 4

/* One call. */
struct look {
	struct ringbus_inspect *in;
	uint32_t from;
	uint64_t offset; /* of the extent */
	uint64_t data;
	uint64_t capacity;
	uint64_t tail;
	uint64_t head;
	bool reset; /* the pair starts anew: head says nothing */
};

uint64_t inspect_ring_offset(const struct ringbus_inspect *in, uint32_t from, uint32_t to)
{
	uint64_t offset;

	if (from >= in->g.nodes || to >= in->g.nodes)
		return 0;
	inspect_read(in,
		     in->g.nodes_offset + (uint64_t)from * sizeof(struct layout_node) +
			     offsetof(struct layout_node, ring) + to * sizeof(struct shm_word),
		     &offset, sizeof(offset));
	return inspect_extent_ok(in, offset, layout_ring_extent_bytes(&in->g), NULL) ? offset : 0;
}

int ringbus_inspect_link_next(struct ringbus_inspect *in, uint32_t *cursor,
			      struct ringbus_inspect_link *link)
{
	struct layout_node page;
	int r = inspect_begin(in, *cursor);

	if (*cursor == 0)
		in->tail_offset = 0;
	if (r < 0)
		return r;
	while (*cursor / LAYOUT_NODES_MAX < in->g.nodes) {
		uint32_t from = *cursor / LAYOUT_NODES_MAX;

		inspect_read_node(in, from, &page);
		for (uint32_t to = *cursor % LAYOUT_NODES_MAX; to < in->g.nodes; to++) {
			uint64_t offset = inspect_word(&page.ring[to]);

			if (!inspect_extent_ok(in, offset, layout_ring_extent_bytes(&in->g), NULL))
				continue;
			*cursor = from * LAYOUT_NODES_MAX + to + 1;
			*link = (struct ringbus_inspect_link){from, to, offset};
			return 1;
		}
		*cursor = (from + 1) * LAYOUT_NODES_MAX;
	}
	return 0;
}

/* ---- positions ---- */

static uint64_t ring_word(const struct look *k, uint64_t position)
{
	uint64_t word;

	inspect_read(k->in, k->data + (position & (k->capacity - 1)), &word, sizeof(word));
	return word;
}

/* From a published position to the first header that is 0 or invalid, at most one capacity on. */
static uint64_t walk(const struct look *k, uint64_t at)
{
	uint64_t window[TAIL_WINDOW / 8];
	uint64_t begin = 0, bytes = 0, end = at + k->capacity;

	if (ring_word(k, at) == 0)
		return at;
	while ((int64_t)(end - at) > 0) {
		uint64_t offset = at & (k->capacity - 1), step;

		if (offset < begin || offset >= begin + bytes) {
			bytes = rb_min(TAIL_WINDOW, k->capacity - offset);
			if (!inspect_budget_take(k->in, bytes))
				return at;
			inspect_read(k->in, k->data + offset, window, bytes);
			begin = offset;
		}
		step = ring_record_valid(window[(offset - begin) / 8], at, k->capacity);
		if (step == 0)
			return at;
		at += step;
	}
	return at;
}

/* Reads head, hint and what a resync says; *from is the latest position known to be published. */
static void read_positions(struct look *k, uint64_t *from)
{
	struct layout_ring_tx tx;
	struct layout_ring_rx rx;
	uint64_t answered, asked;

	inspect_read(k->in, k->offset, &tx, offsetof(struct layout_ring_tx, drops));
	inspect_read(k->in, k->data + k->capacity, &rx, offsetof(struct layout_ring_rx, messages));
	answered = inspect_word(&tx.answered);
	asked = inspect_word(&rx.asked);
	k->head = inspect_word(&rx.head) & ~7ull;
	k->reset = asked != answered;
	*from = ring_later(inspect_word(&tx.hint) & ~7ull, k->head);
	if (answered != 0) {
		uint64_t start = inspect_word(&tx.start) & ~7ull;

		k->reset |= (int64_t)(start - k->head) > 0;
		*from = ring_later(*from, start);
	}
}

/* Finds the tail; once the same ring's was found, from there. */
static void find_tail(struct look *k)
{
	for (int i = 0; i < TRIES; i++) {
		uint64_t from, hint;

		read_positions(k, &from);
		if (k->in->tail_offset == k->offset && k->in->tail - from <= k->capacity)
			from = k->in->tail;
		k->tail = walk(k, from);
		/* Lapped meanwhile? Then headers seen were of another round. */
		inspect_read(k->in, k->offset + offsetof(struct layout_ring_tx, hint), &hint,
			     sizeof(hint));
		if ((int64_t)(hint - k->tail) <= 0)
			break;
		k->in->tail_offset = 0;
	}
	k->in->tail_offset = k->offset;
	k->in->tail = k->tail;
}

/* First position that may still stand. */
static uint64_t lowest(const struct look *k)
{
	return k->tail < k->capacity ? 0 : k->tail + RECORD_SPARE_BYTES - k->capacity;
}

static bool is_before(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) < 0;
}

/* Whether what is being written at the tail may reach a position. */
static bool in_doubt(const struct look *k, uint64_t position)
{
	return k->tail + k->capacity / 4 - position > k->capacity;
}

/* The first record known to begin at `least` or behind it; the tail when there is none. */
static uint64_t first_start(const struct look *k, uint64_t least)
{
	struct shm_word starts[RING_STARTS];
	uint64_t part = layout_ring_part(k->capacity), best = k->tail;

	inspect_read(k->in, k->offset + offsetof(struct layout_ring_tx, starts), starts,
		     sizeof(starts));
	least = ring_later(least, lowest(k));
	for (unsigned i = 0; i < RING_STARTS; i++) {
		uint64_t start = inspect_word(&starts[i]);

		if (start % 8 == 0 && (start & (k->capacity - 1)) / part == i &&
		    !is_before(start, least) && is_before(start, best))
			best = start;
	}
	if (!k->reset && !is_before(k->head, least) && is_before(k->head, best))
		best = k->head;
	return best;
}

/* ---- one record ---- */

/* Notes what a record says to those that repeat it. */
static void note_said(const struct look *k, uint64_t position, uint64_t word)
{
	struct ringbus_inspect *in = k->in;
	unsigned kind = word >> 32 & 7;

	if (in->said_offset != k->offset || in->said_position != position)
		in->said_kind = 0; /* what came between is not known */
	in->said_offset = k->offset;
	if (kind == RECORD_EVENT || kind == RECORD_CONTACT) {
		in->said[0] = ring_word(k, position + 8);
		in->said[1] = ring_word(k, position + 16);
		in->said_kind = kind;
	}
	in->said_position = position + (uint32_t)word;
}

/* What a RECORD_SAME at a position repeats: found from a start of a part, which says all. False:
 * it is not known any more. */
static bool find_said(const struct look *k, uint64_t position)
{
	struct ringbus_inspect *in = k->in;
	uint64_t part = layout_ring_part(k->capacity), at = position;

	if (in->said_offset == k->offset && in->said_position == position)
		return in->said_kind != 0;
	in->said_offset = k->offset;
	in->said_kind = 0;
	/* the start of this part, or of one before it: a record may be longer than a part */
	for (unsigned i = 0; i < RING_STARTS && at == position; i++)
		at = ring_later(lowest(k), first_start(k, (position - i * part) & ~(part - 1)));
	if (!is_before(at, position))
		return false;
	in->said_position = at;
	while (is_before(at, position)) {
		uint64_t word = ring_word(k, at);
		uint64_t bytes = ring_record_valid(word, at, k->capacity);

		if (bytes == 0)
			return false;
		note_said(k, at, word);
		at += bytes;
	}
	return at == position && in->said_kind != 0;
}

static void decode(struct ringbus_inspect_message *m, const uint64_t *w)
{
	unsigned kind = w[0] >> 32 & 7;
	uint64_t head = RECORD_HEADER_BYTES;

	m->kind = kind == RECORD_EVENT || kind == RECORD_EVENT_POOLED ? RINGBUS_EVENT
								      : RINGBUS_CONTACT;
	m->pooled = kind == RECORD_EVENT_POOLED || kind == RECORD_CONTACT_POOLED;
	m->to_generation = (uint32_t)(w[1] >> 32);
	m->from_generation = (uint32_t)w[1];
	m->event = (uint32_t)(w[2] >> 48);
	m->event_generation = (uint32_t)w[2];
	if (w[0] & RECORD_DROPS) {
		m->has_drops = true;
		m->drops = w[head / 8];
		head += 8;
	}
	if (w[0] & RECORD_STAMPED) {
		m->stamp_ns = w[head / 8];
		head += 8;
	}
	m->size = (uint32_t)w[0] - head - (w[0] >> 36 & 7);
}

/* Copies the payload that a descriptor names. False: it names none. */
static bool copy_chunk(const struct look *k, uint64_t position, struct ringbus_inspect_message *m,
		       uint64_t bytes, void *buffer, size_t capacity)
{
	struct layout_pool_extent entry;
	struct record_chunk chunk;
	struct inspect_extent e;
	uint32_t index;

	inspect_read(k->in, k->data + (position & (k->capacity - 1)) + bytes - sizeof(chunk),
		     &chunk, sizeof(chunk));
	index = (uint32_t)chunk.chunk & 0xffff;
	m->size = chunk.size;
	if (index >= LAYOUT_POOL_EXTENTS)
		return false;
	inspect_read(k->in,
		     k->in->g.nodes_offset + (uint64_t)k->from * sizeof(struct layout_node) +
			     offsetof(struct layout_node, pool) + index * sizeof(entry),
		     &entry, sizeof(entry));
	inspect_extent_decode(k->in, &entry, &e);
	if (!e.used || e.why || e.serial != ((uint32_t)chunk.chunk >> 16) ||
	    chunk.chunk >> 32 >= e.chunks || chunk.size > e.chunk_bytes)
		return false;
	m->copied = rb_min(chunk.size, capacity);
	if (!inspect_budget_take(k->in, m->copied))
		m->copied = 0;
	if (m->copied > 0)
		inspect_read(k->in, e.offset + e.borrow_bytes + (chunk.chunk >> 32) * e.chunk_bytes,
			     buffer, m->copied);
	return true;
}

/* Copies record and payload. */
static void copy(struct look *k, uint64_t position, uint64_t word,
		 struct ringbus_inspect_message *m, void *buffer, size_t capacity)
{
	uint64_t bytes = (uint32_t)word;
	uint64_t words[RECORD_HEADER_BYTES / 8 + 2] = {0};
	uint64_t at = k->data + (position & (k->capacity - 1));
	uint64_t head;
	bool found = true;

	inspect_read(k->in, at, words, rb_min(bytes, sizeof(words)));
	words[0] = word; /* the one that was checked */
	head = RECORD_HEADER_BYTES;
	if ((word >> 32 & 7) == RECORD_SAME) {
		words[0] = (word & ~(7ull << 32)) | (uint64_t)k->in->said_kind << 32;
		words[1] = k->in->said[0];
		words[2] = k->in->said[1];
		head = RECORD_SAME_BYTES;
	}
	decode(m, words);
	if (head == RECORD_SAME_BYTES)
		m->size = bytes - head - (word >> 36 & 7);
	else
		head += (m->has_drops ? 8 : 0) + (word & RECORD_STAMPED ? 8 : 0);
	if (m->pooled) {
		found = copy_chunk(k, position, m, bytes, buffer, capacity);
	} else {
		m->copied = rb_min(m->size, capacity);
		if (m->copied > 0)
			inspect_read(k->in, at + head, buffer, m->copied);
	}
	/* sync RECORD tap: the copy before the tail that judges it; pairs RECORD sender in
	 * ring_tx_put() */
	shm_fence();
	find_tail(k);
	m->unread = !k->reset && !is_before(position, k->head);
	if (is_before(position, lowest(k)) || ring_word(k, position) != word)
		m->state = RINGBUS_INSPECT_OVERWRITTEN;
	else if (!found || (!m->unread && (m->pooled || in_doubt(k, position))))
		m->state = RINGBUS_INSPECT_DOUBTFUL;
}

static int skip(struct ringbus_inspect_message *m, uint64_t *position, uint64_t to,
		enum ringbus_inspect_message_state state)
{
	*m = (struct ringbus_inspect_message){.from = m->from,
					      .to = m->to,
					      .position = *position,
					      .state = state,
					      .skipped_bytes = to - *position};
	*position = to;
	return 1;
}

/* Whether the page of an invalid header was given back. */
static bool is_given_back(const struct look *k, uint64_t position, uint64_t word)
{
	return word == 0 && (k->reset || is_before(position, k->head));
}

static int next(struct look *k, uint64_t *position, struct ringbus_inspect_message *m, void *buffer,
		size_t capacity)
{
	while (is_before(*position, k->tail) && inspect_budget_take(k->in, RB_LINE)) {
		uint64_t word, bytes;

		if (is_before(*position, lowest(k)))
			return skip(m, position, first_start(k, *position),
				    RINGBUS_INSPECT_OVERWRITTEN);
		word = ring_word(k, *position);
		bytes = *position % 8 ? 0 : ring_record_valid(word, *position, k->capacity);
		if (bytes == 0) {
			find_tail(k);
			if (is_before(*position, lowest(k)))
				continue;
			return skip(m, position, first_start(k, *position + 1),
				    in_doubt(k, *position) || is_given_back(k, *position, word)
					    ? RINGBUS_INSPECT_OVERWRITTEN
					    : RINGBUS_INSPECT_DAMAGED);
		}
		if ((word >> 32 & 7) == RECORD_PAD) {
			if (k->in->said_offset == k->offset && k->in->said_position == *position)
				k->in->said_position += bytes;
			*position += bytes;
			continue;
		}
		/* A repetition of what is gone says nothing; its receiver skips it too. */
		if ((word >> 32 & 7) == RECORD_SAME && !find_said(k, *position))
			return skip(m, position, *position + bytes, RINGBUS_INSPECT_OVERWRITTEN);
		m->position = *position;
		copy(k, *position, word, m, buffer, capacity);
		if (m->state == RINGBUS_INSPECT_OVERWRITTEN)
			continue;
		note_said(k, *position, word);
		*position += bytes;
		return 1;
	}
	return 0;
}

int ringbus_inspect_message_next(struct ringbus_inspect *in, uint32_t from, uint32_t to,
				 uint64_t *position, struct ringbus_inspect_message *m,
				 void *buffer, size_t capacity)
{
	struct look k = {.in = in, .from = from, .capacity = in->g.ring_bytes};
	int r;

	rb_fail_clear();
	r = inspect_usable(in);
	if (r < 0)
		return r;
	k.offset = inspect_ring_offset(in, from, to);
	if (k.offset == 0)
		return 0;
	k.data = k.offset + RB_PAGE;
	*m = (struct ringbus_inspect_message){.from = from, .to = to};
	/* Behind the tail as it was found before, there is nothing new to be found yet. */
	k.tail = in->tail;
	if (in->tail_offset != k.offset || *position >= RINGBUS_INSPECT_NEWEST ||
	    !is_before(*position, k.tail))
		find_tail(&k);
	if (*position == RINGBUS_INSPECT_OLDEST)
		*position = first_start(&k, lowest(&k));
	else if (*position == RINGBUS_INSPECT_NEWEST)
		*position = k.tail;
	return next(&k, position, m, buffer, capacity);
}

/* ring.c: the rare halves of ring.h: successors, full rings, spoiled pairs. Level 2. */
#include "ring.h"

/* The later of two positions. */
uint64_t ring_later(uint64_t a, uint64_t b)
{
	return (int64_t)(a - b) >= 0 ? a : b;
}

/* Bytes of the record at `at` whose header is `word`; 0 if it is not valid. */
uint64_t ring_record_valid(uint64_t word, uint64_t at, uint64_t capacity)
{
	uint64_t bytes = (uint32_t)word;
	uint64_t kind = word >> 32 & 7;
	uint64_t offset = at & (capacity - 1);
	uint64_t least = RECORD_HEADER_BYTES + ((word & RECORD_DROPS) ? 8 : 0) +
			 ((word & RECORD_STAMPED) ? 8 : 0);

	if (bytes < 8 || (bytes & 7) || bytes > capacity - offset ||
	    word >> 40 != (at >> 3 & 0xffffff))
		return 0;
	if (kind == RECORD_PAD)
		return offset + bytes == capacity ? bytes : 0;
	if (kind == RECORD_EVENT_POOLED || kind == RECORD_CONTACT_POOLED)
		return bytes == least + sizeof(struct record_chunk) ? bytes : 0;
	if (kind == RECORD_SAME)
		least = word & (RECORD_DROPS | RECORD_STAMPED) ? UINT64_MAX : RECORD_SAME_BYTES;
	else if (kind != RECORD_EVENT && kind != RECORD_CONTACT)
		return 0;
	/* the unused tail must be part of the last payload word */
	if (bytes < least || (bytes == least && (word >> 36 & 7)))
		return 0;
	return bytes;
}

static uint64_t header_at(const uint8_t *data, uint64_t at, uint64_t capacity)
{
	const struct shm_word *w = (const void *)(data + (at & (capacity - 1)));

	/* sync RECORD walker: header before what it leads to; pairs RECORD sender in
	 * ring_tx_put() */
	return shm_load_acquire(w);
}

/* From `at` to the first unpublished record, at most one capacity on. *bad: it met an invalid
 * record. */
uint64_t ring_walk(const uint8_t *data, uint64_t at, uint64_t capacity, bool *bad)
{
	uint64_t end = at + capacity;

	*bad = false;
	while ((int64_t)(end - at) > 0) {
		uint64_t word = header_at(data, at, capacity);
		uint64_t bytes = ring_record_valid(word, at, capacity);

		if (word == 0)
			return at;
		if (bytes == 0)
			break;
		at += bytes;
	}
	*bad = true;
	return at;
}

void ring_tx_answer(struct ring_tx *tx, uint64_t asked)
{
	/* relaxed: stored before `asked`, which was read with acquire (RESYNC) */
	uint64_t at = shm_load_relaxed(&tx->rx->position) & ~7ull;

	/* relaxed: published by `answered` (RESYNC) */
	shm_store_relaxed(ring_tx_word(tx, at), 0);
	KILL_POINT("X_RESYNC_ZERO");
	shm_store_relaxed(&tx->ctl->start, at); /* relaxed: published by `answered` */
	shm_store_relaxed(&tx->ctl->lost, 0);	/* relaxed: published by `answered` */
	/* sync RESYNC sender: the 0 and start before the answer; pairs RESYNC receiver in
	 * answered() */
	shm_store_release(&tx->ctl->answered, asked);
	KILL_POINT("X_RESYNC_ANSWERED");
	tx->answered = asked;
	tx->tail = at;
	tx->head = at;
	tx->lost = false;
	tx->said = SAID_NOTHING;
	ring_tx_plan(tx);
	ring_tx_store_hint(tx);
}

void ring_tx_part(struct ring_tx *tx)
{
	/* relaxed: for tools only */
	shm_store_relaxed(&tx->ctl->starts[(tx->tail & (tx->capacity - 1)) >> tx->part_shift],
			  tx->tail);
	tx->said = SAID_NOTHING;
	ring_tx_plan(tx);
	if (rb_unlikely(shm_load_relaxed(&tx->ctl->full_since_ns) != 0)) /* relaxed: own */
		shm_store_relaxed(&tx->ctl->full_since_ns, 0);		 /* relaxed: for tools */
	if (rb_unlikely(tx->tail - tx->hinted >= tx->capacity / 8))
		ring_tx_store_hint(tx);
}

void ring_tx_init(struct ring_tx *tx, struct layout_ring_tx *ctl, uint8_t *data,
		  const struct layout_ring_rx *rx, uint64_t capacity, uint32_t owner)
{
	struct shm_word *const counters[] = {&ctl->messages, &ctl->bytes, &ctl->high_water,
					     &ctl->full,     &ctl->wakes, &ctl->full_since_ns};
	uint64_t asked, start;

	*tx = (struct ring_tx){.ctl = ctl,
			       .data = data,
			       .rx = rx,
			       .capacity = capacity,
			       .said = SAID_NOTHING,
			       .part_shift = (unsigned)__builtin_ctzll(layout_ring_part(capacity))};
	/* sync HINT successor: hint before the walk; pairs HINT sender in ring_tx_store_hint() */
	tx->hinted = shm_load_acquire(&ctl->hint) & ~7ull;
	/* relaxed: own words, left by our predecessor, who is dead (SLOT) */
	tx->answered = shm_load_relaxed(&ctl->answered);
	start = shm_load_relaxed(&ctl->start) & ~7ull; /* relaxed: own word */
	tx->drops_now = shm_load_relaxed(&ctl->drops); /* relaxed: own word */
	tx->drops = tx->drops_now;
	for (unsigned i = 0; i < rb_array_size(counters); i++)
		shm_store_relaxed(counters[i], 0); /* relaxed: those of an earlier owner */
	shm_store_relaxed(&ctl->owner, owner);	   /* relaxed: for tools */
	/* sync RESYNC sender: question before its position; pairs RESYNC receiver in ring_rx_ask()
	 */
	asked = shm_load_acquire(&rx->asked);
	if (asked != tx->answered) {
		ring_tx_answer(tx, asked);
		return;
	}
	/* sync HEAD successor: reads of the receiver before the head; pairs HEAD receiver in
	 * ring_rx_give() */
	tx->head = ring_later(shm_load_acquire(&rx->head) & ~7ull, start);
	tx->tail = ring_walk(data, ring_later(tx->hinted, tx->head), capacity, &tx->lost);
	if (tx->tail - tx->head > capacity)
		tx->lost = true;
	/* relaxed: own word; the receiver checks it again (RESYNC) */
	shm_store_relaxed(&ctl->lost, tx->lost);
	ring_tx_plan(tx);
}

bool ring_tx_room_slow(struct ring_tx *tx, uint64_t need)
{
	/* sync HEAD sender: reads of the receiver before its records are overwritten; pairs HEAD
	 * receiver in ring_rx_give() */
	uint64_t head = shm_load_acquire(&tx->rx->head);
	uint64_t used = tx->tail - head;

	if (tx->hinted != tx->tail)
		ring_tx_store_hint(tx);
	if ((int64_t)(head - tx->head) < 0) {
		used = tx->tail - tx->head; /* before the start of a resync: not yet stored */
		head = tx->head;
	}
	if (used > tx->capacity || (head & 7)) {
		tx->lost = true; /* a head beyond our tail, or no position at all */
		ring_tx_plan(tx);
		/* sync RESYNC sender: lost, read by the receiver at rest; pairs RESYNC receiver in
		 * ring_rx_is_spoiled() */
		shm_store_release(&tx->ctl->lost, 1);
		return false;
	}
	tx->head = head;
	if (used > tx->high_water) {
		tx->high_water = used;
		shm_store_relaxed(&tx->ctl->high_water, used); /* relaxed: counter */
	}
	return used + need <= tx->capacity;
}

/* Whether somebody else has asked in our name, so that the sender has gone elsewhere or will; then
 * we ask, too. */
static bool is_asked_by_others(struct ring_rx *rx)
{
	uint64_t asked = shm_load_relaxed(&rx->rx->asked); /* relaxed: own word */

	if (rb_likely(asked == rx->asked))
		return false;
	rx->asked = asked;
	ring_rx_ask(rx);
	return true;
}

/* Whether the question was answered; then goes on at the start. */
static bool answered(struct ring_rx *rx)
{
	/* sync RESYNC receiver: answer before the 0 at the start; pairs RESYNC sender in
	 * ring_tx_answer() */
	if (shm_load_acquire(&rx->ctl->answered) != rx->asked) {
		is_asked_by_others(rx);
		return false;
	}
	/* relaxed: stored before the answer (RESYNC) */
	if (rb_unlikely(shm_load_relaxed(&rx->ctl->start) != rx->asked_position)) {
		ring_rx_ask(rx); /* the position that it read was another's */
		return false;
	}
	rx->waiting = false;
	rx->at = rx->asked_position;
	/* sync HEAD receiver: nothing below is read any more; pairs HEAD sender in
	 * ring_tx_room_slow() */
	shm_store_release(&rx->rx->head, rx->at);
	rx->given = rx->at;
	rx->told = rx->at;
	return true;
}

void ring_rx_ask(struct ring_rx *rx)
{
	rx->asked++;
	rx->asked_position = rx->at + rx->capacity;
	rx->waiting = true;
	rx->said_kind = 0;
	rx->said_generations = SAID_NOBODY;
	shm_store_relaxed(&rx->rx->position,
			  rx->asked_position); /* relaxed: published by `asked` (RESYNC) */
	KILL_POINT("X_RESYNC_POSITION");
	/* sync RESYNC receiver: position before the question; pairs RESYNC sender in
	 * ring_tx_ready() */
	shm_store_release(&rx->rx->asked, rx->asked);
	shm_count(&rx->rx->bad, 1);
}

void ring_rx_take(struct ring_rx *rx, const struct layout_ring_tx *ctl, const uint8_t *data,
		  struct layout_ring_rx *own, uint64_t capacity)
{
	uint64_t start;

	*rx = (struct ring_rx){.ctl = ctl,
			       .data = data,
			       .rx = own,
			       .capacity = capacity,
			       .said_generations = SAID_NOBODY};
	/* relaxed: own words, left by our predecessor, who is gone (SLOT) */
	rx->asked = shm_load_relaxed(&own->asked);
	rx->asked_position = shm_load_relaxed(&own->position) & ~7ull; /* relaxed: own word */
	rx->given = shm_load_relaxed(&own->head);		       /* relaxed: own word */
	/* sync RESYNC receiver: answer before start; pairs RESYNC sender in ring_tx_answer() */
	if (shm_load_acquire(&ctl->answered) != rx->asked) {
		rx->at = rx->given & ~7ull;
		rx->told = rx->at;
		rx->waiting = true;
		return;
	}
	start = shm_load_relaxed(&ctl->start) &
		~7ull; /* relaxed: after the acquire of `answered` */
	rx->at = ring_later(rx->given & ~7ull, start);
}

void ring_rx_begin(struct ring_rx *rx, bool joining)
{
	bool bad = false;

	if (rx->waiting)
		return;
	if (joining) {
		/* relaxed, all: counters of an earlier owner */
		shm_store_relaxed(&rx->rx->messages, 0);
		shm_store_relaxed(&rx->rx->bytes, 0);
		shm_store_relaxed(&rx->rx->stale, 0);
		shm_store_relaxed(&rx->rx->bad, 0);
		rx->at = ring_walk(rx->data, rx->at, rx->capacity, &bad);
	}
	/* sync HEAD receiver: the walk before the position; pairs HEAD sender in
	 * ring_tx_room_slow() */
	shm_store_release(&rx->rx->head, rx->at);
	rx->given = rx->at;
	rx->told = rx->at;
	if (bad)
		ring_rx_ask(rx);
}

void ring_rx_init(struct ring_rx *rx, const struct layout_ring_tx *ctl, const uint8_t *data,
		  struct layout_ring_rx *own, uint64_t capacity, bool joining)
{
	ring_rx_take(rx, ctl, data, own, capacity);
	ring_rx_begin(rx, joining);
}

bool ring_rx_is_spoiled(struct ring_rx *rx)
{
	uint64_t hint;
	bool lost;

	if (rx->waiting)
		return false;
	if (is_asked_by_others(rx))
		return true;
	/* sync HINT receiver: hint before the header that it promises; pairs HINT sender in
	 * ring_tx_store_hint() */
	hint = shm_load_acquire(&rx->ctl->hint);
	/* sync RESYNC receiver: lost before the header; pairs RESYNC sender in ring_tx_room_slow()
	 */
	lost = shm_load_acquire(&rx->ctl->lost) != 0;
	if (!lost && (int64_t)(hint - rx->at) <= 0)
		return false;
	if (header_at(rx->data, rx->at, rx->capacity) != 0)
		return false;
	ring_rx_ask(rx);
	return true;
}

/* Reads the record with this header, which is valid, at rx->at. */
static void read_record(struct ring_rx *rx, struct ring_record *rec, uint64_t word)
{
	const struct shm_word *w = (const void *)(rx->data + (rx->at & (rx->capacity - 1)));
	enum record_kind kind = (enum record_kind)(word >> 32 & 7);
	uint64_t head = kind == RECORD_SAME ? RECORD_SAME_BYTES : RECORD_HEADER_BYTES;

	*rec = (struct ring_record){.bytes = (uint32_t)word,
				    .kind = kind,
				    .flags = word & (RECORD_DROPS | RECORD_STAMPED)};
	if (kind == RECORD_SAME) {
		rec->kind = rx->said_kind;
		rec->generations = rx->said_generations;
		rec->event = rx->said_event;
	} else {
		/* relaxed, both: ordered by the header (RECORD) */
		rec->generations = shm_load_relaxed(w + 1);
		rec->event = shm_load_relaxed(w + 2);
	}
	if (kind == RECORD_EVENT || kind == RECORD_CONTACT) {
		rx->said_generations = rec->generations;
		rx->said_event = rec->event;
		rx->said_kind = kind;
	}
	w += head / 8;
	if (word & RECORD_DROPS) {
		rec->drops = shm_load_relaxed(w++); /* relaxed: ordered by the header (RECORD) */
		head += 8;
	}
	if (word & RECORD_STAMPED) {
		rec->stamp_ns = shm_load_relaxed(w++); /* relaxed: ordered by the header (RECORD) */
		head += 8;
	}
	rec->payload = (const uint8_t *)w;
	rec->size = (uint32_t)(rec->bytes - head - (word >> 36 & 7));
}

/* `word` was read at rx->at (0 only while waiting). */
int ring_rx_peek_slow(struct ring_rx *rx, struct ring_record *rec, uint64_t word)
{
	uint64_t bytes;

	for (int turns = 0; turns < 4; turns++) {
		if (rx->waiting) {
			if (!answered(rx))
				return RING_EMPTY;
			word = header_at(rx->data, rx->at, rx->capacity);
		}
		if (word == 0)
			return RING_EMPTY;
		bytes = ring_record_valid(word, rx->at, rx->capacity);
		if (bytes == 0) {
			ring_rx_ask(rx);
			return RING_SPOILED;
		}
		if ((word >> 32 & 7) == RECORD_PAD) {
			rx->at += bytes;
			word = header_at(rx->data, rx->at, rx->capacity);
			continue;
		}
		read_record(rx, rec, word);
		return RING_RECORD;
	}
	return RING_EMPTY;
}

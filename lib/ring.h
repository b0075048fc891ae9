/* ring.h: one SPSC ring of records: reserve, publish, read, give back; no calls, no clock. Level 2.
 *
 * The receiver polls the header of the next record. Before the sender publishes the record at p it
 * stores 0 at the header of the one after it (8 spare bytes are always kept free), then
 * release-stores the header of p. So the header at the tail is always 0, and old bytes never look
 * like a record. Rings are never reset: positions are 64 bit, only grow, and are compared by
 * difference. A record never crosses the end of the ring; padding fills the rest.
 *
 *   word        writer    edge
 *   header      sender    RECORD: rest of the record and the 0 after it, before the header
 *   tx.hint     sender    HINT: after the header of every record below it
 *   rx.head     receiver  HEAD: after the last read of every record below it
 *   S, R        each      RESYNC, see below
 *
 * Deaths. X_RING_PAD, X_RING_BODY: the header at the tail is still 0, nobody sees the record; the
 * successor of the sender walks from max(hint, head, start) to the first 0, which is the same
 * place. X_RING_PUBLISHED: the record counts; the walk finds it beyond the hint. X_RING_HEAD: a
 * receiver that dies before giving back loses nothing: its successor walks from the old head to the
 * first 0 and publishes that, so records for the dead are skipped.
 *
 * A spoiled pair. Only the receiver starts anew, for only it knows what it read: it stores R =
 * {asked + 1, position + capacity} (position first) and reads nothing until the sender, which looks
 * before each emission, has stored 0 at the header there and S = {answered = asked, start}. Bad is:
 * an invalid record; 0 where the hint says there must be one; a sender that says lost, because its
 * walk met an invalid record or a head beyond its tail.
 */
#ifndef RINGBUS_RING_H
#define RINGBUS_RING_H

#include "layout.h"

struct ring_tx {
	struct layout_ring_tx *ctl;
	uint8_t *data;
	const struct layout_ring_rx *rx;
	uint64_t capacity;
	unsigned part_shift; /* log2 of the bytes of a part of the ring, see starts[] in layout.h */
	uint64_t tail;
	uint64_t head;	 /* as last read */
	uint64_t hinted; /* as last stored */
	uint64_t answered;
	uint64_t drops; /* as last told in a record */
	uint64_t drops_now;
	uint64_t high_water;
	uint64_t said;	    /* ring_said() of the last plain record; SAID_NOTHING: repeat it all */
	uint64_t plain_end; /* see ring_tx_plan() */
	uint64_t quick_end; /* see ring_tx_is_quick() */
	bool lost;
};

struct ring_rx {
	const struct layout_ring_tx *ctl;
	const uint8_t *data;
	struct layout_ring_rx *rx;
	uint64_t capacity;
	uint64_t at;	/* next record to read */
	uint64_t given; /* head as last stored */
	uint64_t told;	/* head when we last looked whether the sender waits for room */
	uint64_t asked;
	uint64_t asked_position;
	bool waiting;		    /* asked, not answered yet */
	enum record_kind said_kind; /* of the last plain record; 0: none yet */
	uint64_t said_generations, said_event;
};

/* Words 2 and kind in one. There are at most 65535 events. */
#define SAID_NOTHING (0xffffull << 48)
#define SAID_CONTACT (0xffffull << 48 | 1)
#define SAID_NOBODY UINT64_MAX /* said_generations: of no owner */

rb_inline uint64_t ring_said(enum record_kind kind, uint64_t event)
{
	return kind == RECORD_EVENT ? event : kind == RECORD_CONTACT ? SAID_CONTACT : SAID_NOTHING;
}

/* A record as read: checked, header copied. */
struct ring_record {
	uint64_t generations;
	uint64_t event; /* word 2 */
	uint64_t drops; /* valid if flags has RECORD_DROPS */
	uint64_t stamp_ns;
	const uint8_t *payload;
	uint32_t bytes; /* of the whole record */
	uint32_t size;	/* of the payload or descriptor */
	enum record_kind kind;
	uint64_t flags;
};

/* Takes over the sender's end as the new owner (its generation) of its slot: answers an open
 * question or walks to the tail. */
void ring_tx_init(struct ring_tx *tx, struct layout_ring_tx *ctl, uint8_t *data,
		  const struct layout_ring_rx *rx, uint64_t capacity, uint32_t owner);
/* Takes over the receiver's end. joining: before LIVE; skips what was published for earlier owners
 * and publishes the position. Otherwise the ring was made after we were LIVE, and all in it is for
 * us. */
void ring_rx_init(struct ring_rx *rx, const struct layout_ring_tx *ctl, const uint8_t *data,
		  struct layout_ring_rx *own, uint64_t capacity, bool joining);
/* Its two halves. The first reads nothing of `data`; what is read next is at rx->at. */
void ring_rx_take(struct ring_rx *rx, const struct layout_ring_tx *ctl, const uint8_t *data,
		  struct layout_ring_rx *own, uint64_t capacity);
void ring_rx_begin(struct ring_rx *rx, bool joining);

/* Out-of-line halves of ring_tx_ready() and ring_rx_peek(). */
void ring_tx_answer(struct ring_tx *tx, uint64_t asked);
bool ring_tx_room_slow(struct ring_tx *tx, uint64_t need);
int ring_rx_peek_slow(struct ring_rx *rx, struct ring_record *rec, uint64_t word);
/* At rest (nothing at the head): whether that is a lie, which starts the pair anew. */
bool ring_rx_is_spoiled(struct ring_rx *rx);
/* Refuses the pair's content and asks the sender to start anew. */
void ring_rx_ask(struct ring_rx *rx);
/* The later of two positions. */
uint64_t ring_later(uint64_t a, uint64_t b);
/* From `at` to the first unpublished record, at most one capacity on. *bad: it met an invalid
 * record. */
uint64_t ring_walk(const uint8_t *data, uint64_t at, uint64_t capacity, bool *bad);
/* Bytes of the record at `at` whose header is `word`; 0 if it is not valid. */
uint64_t ring_record_valid(uint64_t word, uint64_t at, uint64_t capacity);

/* Bytes of a record. descriptor or payload: size; extra words: flags. */
static inline uint64_t ring_record_bytes(uint64_t size, uint64_t flags)
{
	return RECORD_HEADER_BYTES + ((flags & RECORD_DROPS) ? 8u : 0u) +
	       ((flags & RECORD_STAMPED) ? 8u : 0u) + rb_align_up(size, 8);
}

/* Largest payload that is put into the ring itself. */
static inline uint64_t ring_inline_max(uint64_t capacity)
{
	return capacity / 8 - RECORD_HEADER_BYTES - 16;
}

/* Answers the receiver if it asked. False: this end is lost and the receiver has not asked yet: no
 * room. */
rb_inline bool ring_tx_ready(struct ring_tx *tx)
{
	/* sync RESYNC sender: the question before its position; pairs RESYNC receiver in
	 * ring_rx_ask() */
	uint64_t asked = shm_load_acquire(&tx->rx->asked);

	if (rb_unlikely(asked != tx->answered))
		ring_tx_answer(tx, asked);
	return rb_likely(!tx->lost);
}

/* How far records without drops can be written with nothing else to look at: room as last
 * seen, to the end of the ring at most; not at all while this end is lost or drops are to be told.
 * After all that changes any of these but the tail within a part of the ring. And how far the quick
 * path goes, see below. */
rb_inline void ring_tx_plan(struct ring_tx *tx)
{
	uint64_t end = tx->tail + tx->capacity - (tx->tail & (tx->capacity - 1));
	uint64_t room = tx->head + tx->capacity - RECORD_SPARE_BYTES;
	uint64_t part = ((tx->tail >> tx->part_shift) + 1) << tx->part_shift, any;

	if (tx->lost || tx->drops != tx->drops_now)
		end = tx->tail;
	tx->plain_end = (int64_t)(end - room) < 0 ? end : room;
	any = tx->plain_end - (RECORD_HEADER_BYTES + 8 - RECORD_SAME_BYTES);
	tx->quick_end = (int64_t)(any - part) < 0 ? any : part - 8;
}

/* Whether a record that says nothing but its payload can be written at once, up to `end`, in the
 * same part of the ring. So could one with the same payload that says all and is stamped, in this
 * part or over its end: ring_tx_plan() leaves room for what it is longer. */
rb_inline bool ring_tx_is_quick(const struct ring_tx *tx, uint64_t end)
{
	/* sync RESYNC sender: as in ring_tx_ready(); pairs RESYNC receiver in ring_rx_ask() */
	return shm_load_acquire(&tx->rx->asked) == tx->answered &&
	       (int64_t)(tx->quick_end - end) >= 0;
}

/* Whether such a record of `bytes` can be written at once. False: ring_tx_ready() and
 * ring_tx_room() say why. */
rb_inline bool ring_tx_plain(const struct ring_tx *tx, uint64_t bytes)
{
	/* sync RESYNC sender: as in ring_tx_ready(); pairs RESYNC receiver in ring_rx_ask() */
	return shm_load_acquire(&tx->rx->asked) == tx->answered &&
	       (int64_t)(tx->plain_end - tx->tail - bytes) >= 0;
}

/* Whether a record of `bytes` fits now, padding included. */
rb_inline bool ring_tx_room(struct ring_tx *tx, uint64_t bytes)
{
	uint64_t left = tx->capacity - (tx->tail & (tx->capacity - 1));
	uint64_t need = (bytes > left ? left + bytes : bytes) + RECORD_SPARE_BYTES;

	if (rb_likely(tx->tail - tx->head + need <= tx->capacity))
		return true;
	return ring_tx_room_slow(tx, need);
}

rb_inline struct shm_word *ring_tx_word(const struct ring_tx *tx, uint64_t position)
{
	return (struct shm_word *)(void *)(tx->data + (position & (tx->capacity - 1)));
}

/* Another part of the ring has begun: what is done now and then only. */
void ring_tx_part(struct ring_tx *tx);

/* Place for the rest of a record of `bytes`, for which there is room: its second word. Publishes
 * padding if needed. */
rb_inline struct shm_word *ring_tx_reserve(struct ring_tx *tx, uint64_t bytes)
{
	uint64_t left = tx->capacity - (tx->tail & (tx->capacity - 1));

	if (rb_unlikely(bytes > left)) {
		/* relaxed: the 0 is published by the header of the padding (RECORD) */
		shm_store_relaxed(ring_tx_word(tx, tx->tail + left), 0);
		KILL_POINT("X_RING_PAD");
		/* sync RECORD sender: the 0 at the start of the ring before the padding that leads
		 * there; pairs RECORD receiver in ring_rx_header() */
		shm_store_release(ring_tx_word(tx, tx->tail),
				  record_word0(tx->tail, left, RECORD_PAD, 0, 0));
		tx->tail += left;
		ring_tx_part(tx);
	}
	return ring_tx_word(tx, tx->tail) + 1;
}

rb_inline void ring_tx_store_hint(struct ring_tx *tx)
{
	/* sync HINT sender: headers below before the hint; pairs HINT receiver in
	 * ring_rx_is_spoiled() and HINT successor in ring_tx_init() */
	shm_store_release(&tx->ctl->hint, tx->tail);
	tx->hinted = tx->tail;
}

/* Publishes a record that ends at `end` and was filled otherwise. w: its header, to be `word`;
 * next: that of the one after it. */
rb_inline void ring_tx_put_at(struct ring_tx *tx, struct shm_word *w, struct shm_word *next,
			      uint64_t end, uint64_t word)
{
	/* relaxed: published by the header before it (RECORD) */
	shm_store_relaxed(next, 0);
	KILL_POINT("X_RING_BODY");
	/* sync RECORD sender: body and the 0 behind it before the header; pairs RECORD receiver in
	 * ring_rx_header() */
	shm_store_release(w, word);
	KILL_POINT("X_RING_PUBLISHED");
	tx->tail = end;
}

/* The same anywhere in the ring, with `size` bytes of payload or descriptor. data, mask (capacity -
 * 1), at: of the ring, loaded once by the caller. True: ring_tx_part() is to be called before the
 * next record. */
rb_inline bool ring_tx_put(struct ring_tx *tx, uint8_t *data, uint64_t mask, uint64_t at,
			   uint64_t bytes, uint64_t size, enum record_kind kind, uint64_t flags)
{
	uint64_t end = at + bytes;

	ring_tx_put_at(tx, (void *)(data + (at & mask)), (void *)(data + (end & mask)), end,
		       record_word0(at, bytes, kind, rb_align_up(size, 8) - size, flags));
	return (at ^ end) >> tx->part_shift != 0;
}

rb_inline void ring_tx_publish(struct ring_tx *tx, uint64_t bytes, uint64_t size,
			       enum record_kind kind, uint64_t flags)
{
	if (rb_unlikely(ring_tx_put(tx, tx->data, tx->capacity - 1, tx->tail, bytes, size, kind,
				    flags)))
		ring_tx_part(tx);
	ring_tx_plan(tx);
}

/* Counts a message with so many bytes of payload. */
rb_inline void ring_tx_count(struct ring_tx *tx, uint64_t payload_bytes)
{
	shm_count_two(&tx->ctl->messages, 1, payload_bytes);
}

enum { RING_EMPTY = 0, RING_RECORD = 1, RING_SPOILED = -EBADMSG };

/* What the header of a common record looks like once its position is taken out. */
#define RECORD_COMMON_MASK (0xffffffull << 40 | RECORD_STAMPED | RECORD_DROPS | 6ull << 32 | 7ull)
#define RECORD_COMMON ((uint64_t)RECORD_EVENT << 32)
#define RECORD_SAME_MASK (RECORD_COMMON_MASK | 1ull << 32)
#define RECORD_SAME_WORD ((uint64_t)RECORD_SAME << 32)
_Static_assert(RECORD_EVENT == 2 && RECORD_CONTACT == 3, "both have 01x in the bits of the kind");

/* Whether a header says that its record has a payload and says nothing else; at `at`, with so many
 * bytes left to the end of the ring. */
rb_inline bool ring_record_is_same(uint64_t word, uint64_t at, uint64_t left)
{
	return ((word ^ at << 37) & RECORD_SAME_MASK) == RECORD_SAME_WORD &&
	       rb_likely((uint32_t)word >= 2 * RECORD_SAME_BYTES && (uint32_t)word <= left);
}

/* Bytes of its payload. */
rb_inline uint32_t ring_same_size(uint64_t word)
{
	return (uint32_t)word - RECORD_SAME_BYTES - (uint32_t)(word >> 36 & 7);
}

/* The header of the next record; 0: there is none. */
rb_inline uint64_t ring_rx_header(const struct ring_rx *rx)
{
	/* sync RECORD receiver: header before the rest; pairs RECORD sender in ring_tx_put() */
	return shm_load_acquire((const void *)(rx->data + (rx->at & (rx->capacity - 1))));
}

/* Looks at the next record, which has this header, without taking it: RING_EMPTY, RING_RECORD, or
 * RING_SPOILED once when the pair starts anew. */
rb_inline int ring_rx_read(struct ring_rx *rx, struct ring_record *rec, uint64_t word)
{
	const struct shm_word *w = (const void *)(rx->data + (rx->at & (rx->capacity - 1)));
	uint64_t bytes = (uint32_t)word;
	uint64_t left = rx->capacity - (rx->at & (rx->capacity - 1));

	if (word == 0 && rb_likely(!rx->waiting))
		return RING_EMPTY;
	/* The next of a stream: what it is was read with an earlier one. */
	if (ring_record_is_same(word, rx->at, left) && rb_likely(!rx->waiting)) {
		rec->generations = rx->said_generations;
		rec->event = rx->said_event;
		rec->payload = (const uint8_t *)(w + 1);
		rec->bytes = (uint32_t)bytes;
		rec->size = ring_same_size(word);
		rec->kind = rx->said_kind;
		rec->flags = 0;
		return RING_RECORD;
	}
	/* Common: an event or contact with payload and without extra words, at this position. Each
	 * word is read once; all below uses the copy. */
	if (rb_unlikely(((word ^ rx->at << 37) & RECORD_COMMON_MASK) != RECORD_COMMON ||
			bytes - (RECORD_HEADER_BYTES + 8) > left - (RECORD_HEADER_BYTES + 8) ||
			left < RECORD_HEADER_BYTES + 8 || rx->waiting))
		return ring_rx_peek_slow(rx, rec, word);
	/* relaxed: ordered by the header (RECORD) */
	rec->generations = shm_load_relaxed(w + 1);
	rec->event = shm_load_relaxed(w + 2);
	rec->payload = (const uint8_t *)(w + 3);
	rec->bytes = (uint32_t)bytes;
	rec->size = (uint32_t)(bytes - RECORD_HEADER_BYTES - (word >> 36 & 7));
	rec->kind = (enum record_kind)(word >> 32 & 7);
	rec->flags = 0;
	rx->said_generations = rec->generations;
	rx->said_event = rec->event;
	rx->said_kind = rec->kind;
	return RING_RECORD;
}

/* The same with the header as it is now. */
rb_inline int ring_rx_peek(struct ring_rx *rx, struct ring_record *rec)
{
	return ring_rx_read(rx, rec, ring_rx_header(rx));
}

/* Asks for the line behind the next header, where the rest of a small record will be. */
rb_inline void ring_rx_prefetch(const struct ring_rx *rx)
{
	__builtin_prefetch(rx->data + ((rx->at + RB_LINE) & (rx->capacity - 1)));
}

/* A look at the header of the next record, without that. */
rb_inline uint64_t ring_rx_glance(const struct ring_rx *rx)
{
	/* relaxed: a look; whoever takes the record reads it again with acquire and only then
	 * believes it */
	return shm_load_relaxed((const void *)(rx->data + (rx->at & (rx->capacity - 1))));
}

/* Whether ring_rx_peek() will find more than RING_EMPTY. */
rb_inline bool ring_rx_has_word(const struct ring_rx *rx)
{
	return ring_rx_glance(rx) != 0;
}

rb_inline void ring_rx_advance(struct ring_rx *rx, const struct ring_record *rec)
{
	rx->at += rec->bytes;
}

/* Gives positions back. `last`: also if they are few, since we may not come again soon. True: the
 * caller fences and looks whether the sender waits for room.
 *
 * Fewer than an eighth of the ring are given back without that look. No sender sleeps on for it: it
 * waits for a quarter of the ring at most (a record of an eighth and as much padding), so while it
 * waits more than three quarters are unread, and on the way through these there are looks; after
 * the last of them at least seven eighths are free. What sets pool chunks free is told by its
 * caller. */
rb_inline bool ring_rx_give(struct ring_rx *rx, bool last)
{
	if (rx->given != rx->at) {
		/* sync HEAD receiver: reads of the records before the head; pairs HEAD sender in
		 * ring_tx_room_slow() */
		shm_store_release(&rx->rx->head, rx->at);
		KILL_POINT("X_RING_HEAD");
		rx->given = rx->at;
	}
	if (rx->told == rx->at || (!last && rx->at - rx->told < rx->capacity / 8))
		return false;
	rx->told = rx->at;
	return true;
}

#endif

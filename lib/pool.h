/* pool.h: payload memory of one sender: chunks, who still needs them, borrow bits. Level 2.
 *
 * A chunk is in use iff a record that names the current receiver generation, and holds its
 * descriptor, lies between head and tail of a ring, or a receiver's borrow bit is set. There are no
 * counts in shared memory, so nothing is undecidable after a death. The sender keeps the
 * outstanding descriptors in private memory, per receiver in ring order; a successor, or a reaper,
 * rebuilds them from rings and bits.
 *
 * Order of the sender's test: slot word and head of each receiver first, bits last (sync BORROW): a
 * receiver sets its bit before it gives the position back. Only it clears the bit, or its reaper
 * before the slot is FREE.
 *
 * Chunks up to 64 KiB come from slab extents of powers of two, larger ones have an extent each. A
 * free chunk is taken a few after it was freed, see cooled().
 */
#ifndef RINGBUS_POOL_H
#define RINGBUS_POOL_H

#include "layout.h"

#define POOL_CLASS_BIG 4095u
#define POOL_SHIFT_MIN 10u /* 1 KiB */
#define POOL_SHIFT_MAX 16u /* 64 KiB */
#define POOL_STACK_BIG                                                            \
	(POOL_SHIFT_MAX - POOL_SHIFT_MIN + 1) /* behind those of the slab classes \
					       */
#define POOL_STACKS (POOL_STACK_BIG + 1)
#define POOL_BIG_MAX                                                                   \
	(LAYOUT_POOL_EXTENTS / 2) /* shares of the table of extents: the other half is \
				     for who holds nothing yet, and for slabs */

/* What an extent's entry says; checked against the file by whoever maps it. */
struct pool_place {
	uint64_t offset;
	uint64_t bytes;
	uint32_t serial;
	uint32_t class_;
	uint32_t chunks;
	uint64_t chunk_bytes;
	uint64_t bits_bytes; /* chunks begin here */
};

/* The words of an extent's entry, each read once. */
struct pool_entry {
	uint64_t where, bytes;
};

rb_inline struct pool_entry pool_entry_read(const struct layout_pool_extent *e)
{
	struct pool_entry entry;

	/* sync EXTENT receiver: where before the space it names; pairs EXTENT sender in
	 * send_pool_grow() */
	entry.where = shm_load_acquire(&e->where);
	entry.bytes = shm_load_relaxed(&e->bytes); /* relaxed: stored before `where` (EXTENT) */
	return entry;
}

/* False: unused or nonsense; the serial holds all the same. */
bool pool_place_parse(const struct pool_entry *entry, struct pool_place *place);
rb_inline bool pool_place_read(const struct layout_pool_extent *e, struct pool_place *place)
{
	struct pool_entry entry = pool_entry_read(e);

	return pool_place_parse(&entry, place);
}
/* Shape of an extent of this class. */
bool pool_place_shape(struct pool_place *place, uint32_t class_);

rb_inline uint64_t pool_chunk_id(uint32_t extent, uint32_t serial, uint32_t chunk)
{
	return (uint64_t)chunk << 32 | (uint64_t)(serial & 0xffff) << 16 | extent;
}

rb_inline uint32_t pool_id_extent(uint64_t id)
{
	return (uint32_t)id & 0xffff;
}

rb_inline uint32_t pool_id_serial(uint64_t id)
{
	return (uint32_t)(id >> 16) & 0xffff;
}

rb_inline uint32_t pool_id_chunk(uint64_t id)
{
	return (uint32_t)(id >> 32);
}

/* Private state of a chunk. */
struct pool_chunk {
	uint32_t pending; /* outstanding descriptors, one per receiver; +1 while loaned or being
			     written */
	uint32_t rings;	  /* descriptors of these that stand in rings */
	uint8_t parked;	  /* no descriptor, but borrow bits were seen: on the parked list */
	uint8_t is_free;
};

struct pool_extent {
	struct pool_place place;
	uint8_t *map; /* NULL: unused entry */
	struct pool_chunk *chunks;
	uint32_t shift; /* 0: big */
};

/* A stack of chunk ids. */
struct pool_stack {
	uint64_t *ids;
	size_t count, capacity;
};

struct pool {
	struct layout_pool_extent *table; /* own node page */
	struct pool_extent extents[LAYOUT_POOL_EXTENTS];
	struct pool_stack free[POOL_STACKS];
	struct pool_stack parked;
	uint64_t limit_bytes;
	uint64_t payload_bytes; /* room for payload in all extents */
	uint64_t sent_bytes;	/* cost of the chunks that stand in rings, each counted once */
	uint32_t hot; /* chunks taken sooner than cooled() wants, since the sender looked */
};

/* Shapes a new extent for payloads of `size`, but for its place: bytes, class, chunks. */
void pool_plan(const struct pool *p, uint64_t size, struct pool_place *place);
rb_inline uint64_t pool_place_payload(const struct pool_place *place)
{
	return place->bytes - place->bits_bytes;
}
/* What a chunk costs of the pool's limit: its bytes, or, for one that fills an extent, its part of
 * the table of extents, whichever is more. */
uint64_t pool_cost(const struct pool *p, uint64_t id);
/* The same for a payload of `size` that has no chunk yet. */
uint64_t pool_cost_of(const struct pool *p, uint64_t size);
/* Enters a mapped extent. keep: which chunks are in use, told by the caller afterwards with
 * pool_hold(). -ENOMEM. */
int pool_add(struct pool *p, uint32_t index, const struct pool_place *place, uint8_t *map,
	     uint32_t class_);
/* A free chunk for `size` bytes, from what is there; its pending is 1. wasteful: one of more than
 * twice the size, too, of those that fill an extent; nobody else can use the rest until it is free
 * again. False: none. */
bool pool_take(struct pool *p, uint64_t size, bool wasteful, uint64_t *id);
rb_inline uint8_t *pool_data(const struct pool *p, uint64_t id)
{
	const struct pool_extent *e = &p->extents[pool_id_extent(id)];

	return e->map + e->place.bits_bytes + pool_id_chunk(id) * e->place.chunk_bytes;
}
uint64_t pool_chunk_bytes(const struct pool *p, uint64_t id);
/* One more and one fewer descriptor. At 0 the chunk is free, or parked while borrowed. */
void pool_hold(struct pool *p, uint64_t id);
void pool_drop(struct pool *p, uint64_t id);
/* The same for a descriptor in a ring. */
void pool_hold_sent(struct pool *p, uint64_t id);
void pool_drop_sent(struct pool *p, uint64_t id);
/* Cost of the chunks that are parked, each counted once. */
uint64_t pool_parked_bytes(const struct pool *p);
/* Looks at the bits of parked chunks; frees those that nobody borrows. Adds the bytes borrowed by
 * each slot to borrowed[] if not NULL. Returns how many were freed. */
unsigned pool_unpark(struct pool *p, uint64_t *borrowed);
/* Puts every chunk that has neither a descriptor nor a bit on the free lists; once, after
 * rebuilding. */
void pool_settle(struct pool *p);
/* How many chunks there are that fit a payload of `size` well, in use or not. */
uint64_t pool_chunks(const struct pool *p, uint64_t size);
/* Index of an extent with no chunk in use and at least `bytes`, or -1. */
int pool_idle_extent(const struct pool *p, uint64_t bytes);
/* Forgets an extent that is idle; the caller unmaps and gives the space back. */
void pool_remove(struct pool *p, uint32_t index);
/* Index of an unused entry of the table, or -1. */
int pool_unused_entry(const struct pool *p);
void pool_fini(struct pool *p);

/* Borrow bits of a chunk in a mapped extent. */
rb_inline struct shm_word *pool_bits(uint8_t *map, uint32_t chunk)
{
	return (struct shm_word *)(void *)map + (size_t)chunk * LAYOUT_MASK_WORDS;
}

#endif

/* reclaim.c: memory that a slot does not need any more goes back to the system. Level 3.
 *
 * With the control lock held, and the slot DEAD or LEFT, so that nobody writes its page, its ends
 * of rings, or its pool, and not yet FREE: a reaper that dies on the way leaves the rest to the
 * next.
 *
 * Rings whose other slot is free, too: the true tail is stored as hint and head. The data pages go
 * back, unless one of the two owners died: then they are last words, and stay until they are in the
 * way: before one of the two slots is granted again, or when there is no space for something else.
 * Positions kept as they stood would then leave head and lazy hint apart with every header 0, which
 * reads as a spoiled pair. A death after the positions (X_RECLAIM_HEAD) leaves an empty ring with
 * old bytes: the header at the tail is 0 all the same. The starts[] go before the pages
 * (X_RECLAIM_STARTS): without the pages they lead nowhere, and only the next owner's second part
 * would be found.
 *
 * Pool extents of the slot: given back when no ring of it holds anything unread by a receiver whose
 * slot is taken, and no borrow bit is set. Otherwise they stay for the slot's next owner, or until
 * the last one who had something of them has read it (notice.c), or is freed, too: each time a slot
 * is freed, the pools of the free slots are looked at again. What is borrowed waits for one of
 * these. Nobody writes the page of a free slot while we have the lock, for
 * a grant needs it. The name goes last (X_RECLAIM_PUNCHED: the next reaper punches a hole again):
 * what has no name is never looked for, and would stay allocated.
 */
#include "control_private.h"
#include "pool.h"
#include "ring.h"

#include <stdlib.h>

/* Everything that is named, as the reclaiming begins. */
struct book {
	struct control_range *ranges;
	size_t n;
};

/* Whether another name covers a part of the range. Then one of the two is damage, and what is given
 * back might be somebody else's: nothing is. */
static bool is_named_twice(const struct book *book, uint64_t offset, uint64_t bytes)
{
	unsigned names = 0;

	for (size_t i = 0; i < book->n; i++)
		names += book->ranges[i].begin < offset + bytes && offset < book->ranges[i].end;
	return names > 1;
}

struct pair {
	struct layout_ring_tx *tx;
	struct layout_ring_rx *rx;
	uint64_t offset;
	void *map;
};

static bool is_free(const struct region *region, uint32_t slot)
{
	/* sync SLOT reader: under the lock, FREE stays; pairs SLOT writer in free_one() */
	return slot_state(shm_load_acquire(&region->bells[slot].slot)) == SLOT_FREE;
}

/* -EBADMSG: there is no such ring, or it cannot be one; else it could not be mapped. */
static int map_pair(const struct region *region, uint32_t from, uint32_t to, struct pair *p)
{
	int r;

	/* sync EXTENT receiver: name before the space; pairs EXTENT sender in ring_offset() */
	p->offset = shm_load_acquire(&region->nodes[from].ring[to]);
	if (p->offset < region->g.fixed_bytes || (p->offset & (RB_PAGE - 1)))
		return -EBADMSG;
	r = region_map(region, p->offset, layout_ring_extent_bytes(&region->g), true, false,
		       &p->map);
	if (r < 0)
		return r;
	p->tx = p->map;
	p->rx = (void *)((char *)p->map + RB_PAGE + region->g.ring_bytes);
	return 0;
}

static void unmap_pair(const struct region *region, struct pair *p)
{
	region_unmap(region, p->map, layout_ring_extent_bytes(&region->g));
}

/* The first position without a record; false: nobody can say, the pair is spoiled or asks. Its
 * pages may be gone already. */
static bool true_tail(const struct region *region, const struct pair *p, uint64_t *tail)
{
	uint64_t at, page, page_end;
	bool bad;

	/* relaxed, all: the writers are gone (SLOT), or, where one lives, a moment more or less
	 * does not matter */
	if (shm_load_relaxed(&p->rx->asked) != shm_load_relaxed(&p->tx->answered) ||
	    shm_load_relaxed(&p->tx->lost))
		return false;
	at = ring_later(shm_load_relaxed(&p->tx->hint) & ~7ull,
			shm_load_relaxed(&p->rx->head) & ~7ull);
	at = ring_later(at, shm_load_relaxed(&p->tx->start) & ~7ull);
	page = p->offset + RB_PAGE + (at & (region->g.ring_bytes - 1) & ~(uint64_t)(RB_PAGE - 1));
	page_end = page + RB_PAGE;
	*tail = at;
	if (!region_next_data(region, &page, &page_end))
		return true;
	*tail = ring_walk((const uint8_t *)p->map + RB_PAGE, at, region->g.ring_bytes, &bad);
	return !bad;
}

/* Maps a pair that nobody uses any more and makes its true tail both positions. False: it cannot be
 * told, and all stays as it is. */
static bool settle_pair(struct region *region, const struct book *book, uint32_t from, uint32_t to,
			struct pair *p, uint64_t *tail)
{
	if (map_pair(region, from, to, p) < 0)
		return false;
	if (is_named_twice(book, p->offset, layout_ring_extent_bytes(&region->g)) ||
	    !true_tail(region, p, tail)) {
		unmap_pair(region, p);
		return false;
	}
	/* sync HINT sender: in place of the sender, who is gone; pairs HINT successor in
	 * ring_tx_init() */
	shm_store_release(&p->tx->hint, *tail);
	/* sync HEAD receiver: in place of the receiver, who is gone; pairs HEAD successor in
	 * ring_tx_init() */
	shm_store_release(&p->rx->head, *tail);
	KILL_POINT("X_RECLAIM_HEAD");
	return true;
}

static void close_pair(struct region *region, const struct book *book, uint32_t from, uint32_t to)
{
	struct pair p;
	uint64_t tail;

	if (settle_pair(region, book, from, to, &p, &tail))
		unmap_pair(region, &p);
}

/* Only the tail is the start of a record any more. */
static void forget_starts(const struct region *region, const struct pair *p, uint64_t tail)
{
	uint64_t capacity = region->g.ring_bytes;

	for (uint64_t i = 0; i < RING_STARTS; i++) {
		bool here = i == (tail & (capacity - 1)) / layout_ring_part(capacity);

		/* relaxed: for tools only */
		shm_store_relaxed(&p->tx->starts[i], here ? tail : RING_NO_START);
	}
}

static void punch_pair(struct region *region, const struct book *book, uint32_t from, uint32_t to)
{
	struct pair p;
	uint64_t tail;

	if (!settle_pair(region, book, from, to, &p, &tail))
		return;
	forget_starts(region, &p, tail);
	KILL_POINT("X_RECLAIM_STARTS");
	region_punch(region, p.offset + RB_PAGE, region->g.ring_bytes);
	unmap_pair(region, &p);
}

/* Whether a receiver still has something of this slot to read, other than `gone`, which is being
 * freed and reads nothing any more. Or nobody can say. */
static bool is_unread(struct region *region, uint32_t slot, uint32_t gone)
{
	for (uint32_t to = 0; to < region->g.nodes; to++) {
		struct pair p;
		uint64_t tail;
		bool unread;
		int r;

		if (to == gone || is_free(region, to))
			continue;
		r = map_pair(region, slot, to, &p);
		if (r == -EBADMSG)
			continue;
		if (r < 0)
			return true;
		/* sync HEAD sender: head before the borrow bits; pairs HEAD receiver in
		 * ring_rx_give() */
		unread = !true_tail(region, &p, &tail) || shm_load_acquire(&p.rx->head) != tail;
		unmap_pair(region, &p);
		if (unread)
			return true;
	}
	return false;
}

static bool is_borrowed(struct region *region, const struct pool_place *place)
{
	uint64_t end = place->offset + place->bits_bytes, from = place->offset, to = end;
	uint64_t words = (uint64_t)place->chunks * LAYOUT_MASK_WORDS;
	bool any = false;
	void *map;

	if (region_map(region, place->offset, place->bits_bytes, true, false, &map) < 0)
		return true;
	for (; !any && region_next_data(region, &from, &to); from = to, to = end)
		for (uint64_t i = (from - place->offset) / sizeof(struct shm_word);
		     i < rb_min(words, (to - place->offset) / sizeof(struct shm_word)) && !any; i++)
			/* sync BORROW sender: heads before bits; pairs BORROW receiver in
			 * borrow_chunk() */
			any = shm_load_acquire(pool_bits(map, 0) + i) != 0;
	region_unmap(region, map, place->bits_bytes);
	return any;
}

static void reclaim_pool(struct region *region, const struct book *book, uint32_t slot,
			 uint32_t gone)
{
	const struct layout_node *node = &region->nodes[slot];
	struct layout_node *own = NULL;
	struct pool_place place;
	uint64_t seen = 0;
	void *map;

	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		if (!control_pool_place(region, &node->pool[i], &place, &seen))
			continue;
		if (!own) {
			if (is_unread(region, slot, gone) ||
			    region_map(region, region->g.nodes_offset + (uint64_t)slot * RB_PAGE,
				       RB_PAGE, true, false, &map) < 0)
				return;
			own = map;
		}
		if (is_named_twice(book, place.offset, place.bytes) || is_borrowed(region, &place))
			continue;
		region_punch(region, place.offset, place.bytes);
		KILL_POINT("X_RECLAIM_PUNCHED");
		shm_store_relaxed(&own->pool[i].where,
				  0); /* relaxed: no descriptor leads here any more */
	}
	region_unmap(region, own, RB_PAGE);
}

void control_reclaim_read(struct region *region, uint32_t slot, uint64_t deadline_ns)
{
	struct book book;
	struct control c;

	if (control_lock(&c, region, deadline_ns) < 0)
		return;
	if (is_free(region, slot) && control_ranges(region, &book.ranges, &book.n) == 0) {
		reclaim_pool(region, &book, slot, slot);
		free(book.ranges);
	}
	control_unlock(&c);
}

void control_reclaim(struct control *c, uint32_t slot, bool died)
{
	void (*end)(struct region *, const struct book *, uint32_t from, uint32_t to);
	struct region *region = c->region;
	struct book book;

	if (control_ranges(region, &book.ranges, &book.n) < 0)
		return;
	reclaim_pool(region, &book, slot, slot);
	for (uint32_t other = 0; other < region->g.nodes; other++) {
		uint64_t word, ended;

		if (other == slot)
			continue;
		/* sync SLOT reader: FREE before how it ended; pairs SLOT writer in free_one() */
		word = shm_load_acquire(&region->bells[other].slot);
		if (slot_state(word) != SLOT_FREE)
			continue;
		reclaim_pool(region, &book, other, slot);
		ended = shm_load_relaxed(
			&c->records[other].ended); /* relaxed: stored before FREE */
		end = died || !slot_ended_left(ended, slot_generation(word)) ? close_pair
									     : punch_pair;
		end(region, &book, slot, other);
		end(region, &book, other, slot);
	}
	free(book.ranges);
}

/* The rings between a free slot and those from `first` on that are free, too. */
static void punch_pairs(struct region *region, const struct book *book, uint32_t slot,
			uint32_t first)
{
	for (uint32_t other = first; other < region->g.nodes; other++) {
		if (other == slot || !is_free(region, other))
			continue;
		punch_pair(region, book, slot, other);
		punch_pair(region, book, other, slot);
	}
}

static bool has_free_pair(const struct region *region, uint32_t slot)
{
	for (uint32_t other = 0; other < region->g.nodes; other++)
		/* relaxed, both: named with the lock held, as it is now; the rings are looked at
		 * again */
		if ((shm_load_relaxed(&region->nodes[slot].ring[other]) ||
		     shm_load_relaxed(&region->nodes[other].ring[slot])) &&
		    is_free(region, other))
			return true;
	return false;
}

void control_punch_pairs(struct control *c, uint32_t slot)
{
	struct book book;

	if (!has_free_pair(c->region, slot) || control_ranges(c->region, &book.ranges, &book.n) < 0)
		return; /* without a book the next owners go on behind the old bytes */
	punch_pairs(c->region, &book, slot, 0);
	free(book.ranges);
}

void control_punch_all_pairs(struct control *c)
{
	struct book book;

	if (control_ranges(c->region, &book.ranges, &book.n) < 0)
		return;
	for (uint32_t s = 0; s < c->region->g.nodes; s++)
		if (is_free(c->region, s))
			punch_pairs(c->region, &book, s, s + 1);
	free(book.ranges);
}

/* pool.c: payload memory of one sender: chunks, who still needs them, borrow bits. Level 2. */
#include "pool.h"

#include <stdlib.h>

bool pool_place_shape(struct pool_place *place, uint32_t class_)
{
	uint64_t bits = LAYOUT_MASK_WORDS * sizeof(struct shm_word);

	place->class_ = class_;
	if (place->bytes < 2 * RB_PAGE || (place->bytes & (RB_PAGE - 1)))
		return false;
	if (class_ == POOL_CLASS_BIG) {
		place->chunks = 1;
		place->bits_bytes = RB_PAGE;
		place->chunk_bytes = place->bytes - RB_PAGE;
		return true;
	}
	if (class_ < 1 + POOL_SHIFT_MIN || class_ > 1 + POOL_SHIFT_MAX)
		return false;
	place->chunk_bytes = 1ull << (class_ - 1);
	/* from here a page's worth of chunks at most is too many, however large the extent */
	place->chunks = (uint32_t)rb_min(place->bytes / (place->chunk_bytes + bits), UINT32_MAX);
	while (place->chunks > 0 &&
	       rb_align_up(place->chunks * bits, RB_PAGE) + place->chunks * place->chunk_bytes >
		       place->bytes)
		place->chunks--;
	place->bits_bytes = rb_align_up(place->chunks * bits, RB_PAGE);
	return place->chunks > 0;
}

bool pool_place_parse(const struct pool_entry *entry, struct pool_place *place)
{
	*place = (struct pool_place){
		.offset = entry->where & ~(uint64_t)(RB_PAGE - 1),
		.bytes = entry->bytes & 0xffffffffffffull,
		.serial = (uint32_t)(entry->bytes >> 48),
	};
	return entry->where != 0 && place->bytes <= 1ull << 41 &&
	       pool_place_shape(place, entry->where & (RB_PAGE - 1));
}

static unsigned slab_shift(uint64_t size)
{
	return size <= 1u << POOL_SHIFT_MIN ? POOL_SHIFT_MIN
					    : 64 - (unsigned)__builtin_clzll(size - 1);
}

/* Extents of a slab class have 1 MiB, or an eighth of what there is if that is more, so that the
 * table lasts for a pool of any size; in a small pool an eighth of it. */
void pool_plan(const struct pool *p, uint64_t size, struct pool_place *place)
{
	uint64_t bytes = rb_min(rb_max(1ull << 20, p->payload_bytes / 8), p->limit_bytes / 8);
	unsigned shift = slab_shift(size);
	uint32_t class_ = 1 + shift;
	uint64_t chunks;

	if (size > 1ull << POOL_SHIFT_MAX) {
		class_ = POOL_CLASS_BIG;
		place->bytes = rb_align_up(size, RB_PAGE) + RB_PAGE;
	} else {
		chunks = rb_max(1, bytes >> shift);
		place->bytes =
			rb_align_up((chunks << shift) + rb_align_up(chunks * LAYOUT_MASK_WORDS *
									    sizeof(struct shm_word),
								    RB_PAGE),
				    RB_PAGE);
	}
	pool_place_shape(place, class_);
}

static uint64_t cost(const struct pool *p, uint64_t bytes, bool is_big)
{
	return is_big ? rb_max(bytes, p->limit_bytes / POOL_BIG_MAX) : bytes;
}

uint64_t pool_cost(const struct pool *p, uint64_t id)
{
	return cost(p, pool_chunk_bytes(p, id), p->extents[pool_id_extent(id)].shift == 0);
}

uint64_t pool_cost_of(const struct pool *p, uint64_t size)
{
	if (size > 1ull << POOL_SHIFT_MAX)
		return cost(p, rb_align_up(size, RB_PAGE), true);
	return 1ull << slab_shift(size);
}

/* pool_add() made room for all chunks. */
static void push(struct pool_stack *s, uint64_t id)
{
	s->ids[s->count++] = id;
}

static struct pool_chunk *chunk_of(const struct pool *p, uint64_t id)
{
	return &p->extents[pool_id_extent(id)].chunks[pool_id_chunk(id)];
}

static struct pool_stack *stack_of(struct pool *p, const struct pool_extent *e)
{
	return &p->free[e->shift ? e->shift - POOL_SHIFT_MIN : POOL_STACK_BIG];
}

int pool_add(struct pool *p, uint32_t index, const struct pool_place *place, uint8_t *map,
	     uint32_t class_)
{
	struct pool_extent *e = &p->extents[index];
	struct pool_stack *s;

	e->place = *place;
	e->shift = class_ == POOL_CLASS_BIG ? 0 : class_ - 1;
	e->chunks = calloc(place->chunks, sizeof(*e->chunks));
	if (!e->chunks)
		return -ENOMEM;
	/* room for all its chunks on the stacks now, so that freeing cannot fail */
	s = stack_of(p, e);
	for (int i = 0; i < 2; i++, s = &p->parked) {
		size_t need;
		uint64_t *ids;

		need = s->capacity + place->chunks;
		ids = realloc(s->ids, need * sizeof(*ids));
		if (!ids) {
			free(e->chunks);
			e->chunks = NULL;
			return -ENOMEM;
		}
		s->ids = ids;
		s->capacity = need;
	}
	e->map = map;
	p->payload_bytes += pool_place_payload(place);
	return 0;
}

static void make_free(struct pool *p, uint64_t id)
{
	struct pool_extent *e = &p->extents[pool_id_extent(id)];
	struct pool_stack *s = stack_of(p, e);

	chunk_of(p, id)->is_free = 1;
	push(s, id);
}

/* Whether the chunk's extent is still there: not removed, nor another in its place. */
static bool is_current(const struct pool *p, uint64_t id)
{
	const struct pool_extent *e = &p->extents[pool_id_extent(id)];

	return e->map && e->place.serial == pool_id_serial(id);
}

/* Which free chunk to take: not the one that was freed last, though it is the hottest, since it is
 * hot in the receiver's cache, from which each line would have to be fetched. The one that was
 * freed some chunks earlier has gone to the cache that all share (1 MiB payloads: 33 against 21
 * GB/s). Not older ones either, or a burst would make the sender walk through all its memory for
 * ever. */
#define COOLING_BYTES (8u << 20)
#define COOLING_CHUNKS_MAX 64u

static size_t cooled(struct pool *p, const struct pool_stack *s, uint64_t chunk_bytes)
{
	uint64_t depth = rb_min(COOLING_CHUNKS_MAX, COOLING_BYTES / chunk_bytes);

	if (s->count > depth)
		return s->count - 1 - depth;
	p->hot++;
	return 0;
}

static uint64_t take_at(struct pool_stack *s, size_t i)
{
	uint64_t id = s->ids[i];

	memmove(&s->ids[i], &s->ids[i + 1], (--s->count - i) * sizeof(*s->ids));
	return id;
}

static bool take_slab(struct pool *p, uint64_t size, uint64_t *id)
{
	unsigned shift = slab_shift(size);
	struct pool_stack *s = &p->free[shift - POOL_SHIFT_MIN];

	while (s->count > 0) {
		*id = take_at(s, cooled(p, s, 1ull << shift));
		if (is_current(p, *id))
			return true;
	}
	return false;
}

/* The first that fits well; wasteful: else the smallest that fits. */
static bool take_big(struct pool *p, uint64_t size, bool wasteful, uint64_t *id)
{
	struct pool_stack *s = &p->free[POOL_STACK_BIG];
	uint64_t best_bytes = UINT64_MAX;
	size_t best = SIZE_MAX, begin = cooled(p, s, size);

	for (size_t n = 0; n < s->count && best_bytes / 2 > size; n++) {
		size_t i = begin + n < s->count ? begin + n : begin + n - s->count;
		uint64_t bytes = is_current(p, s->ids[i]) ? pool_chunk_bytes(p, s->ids[i]) : 0;

		if (bytes >= size && bytes < best_bytes && (bytes / 2 <= size || wasteful)) {
			best = i;
			best_bytes = bytes;
		}
	}
	if (best == SIZE_MAX)
		return false;
	*id = take_at(s, best);
	return true;
}

bool pool_take(struct pool *p, uint64_t size, bool wasteful, uint64_t *id)
{
	bool ok = size <= 1ull << POOL_SHIFT_MAX ? take_slab(p, size, id)
						 : take_big(p, size, wasteful, id);

	if (ok) {
		chunk_of(p, *id)->is_free = 0;
		chunk_of(p, *id)->pending = 1;
	}
	return ok;
}

uint64_t pool_chunk_bytes(const struct pool *p, uint64_t id)
{
	return p->extents[pool_id_extent(id)].place.chunk_bytes;
}

void pool_hold(struct pool *p, uint64_t id)
{
	chunk_of(p, id)->pending++;
}

/* Which bits of a chunk are set, added to borrowed[]. */
static bool is_borrowed(struct pool *p, uint64_t id, uint64_t *borrowed)
{
	const struct pool_extent *e = &p->extents[pool_id_extent(id)];
	const struct shm_word *bits = pool_bits(e->map, pool_id_chunk(id));
	bool any = false;

	for (unsigned w = 0; w < LAYOUT_MASK_WORDS; w++) {
		/* sync BORROW sender: heads (read before) before bits; pairs BORROW receiver in
		 * borrow_chunk() */
		uint64_t mask = shm_load_acquire(&bits[w]);

		any |= mask != 0;
		for (; mask && borrowed; mask &= mask - 1)
			borrowed[w * 64 + (unsigned)__builtin_ctzll(mask)] += pool_cost(p, id);
	}
	return any;
}

void pool_drop(struct pool *p, uint64_t id)
{
	struct pool_chunk *c = chunk_of(p, id);

	if (--c->pending > 0)
		return;
	if (is_borrowed(p, id, NULL)) {
		c->parked = 1;
		push(&p->parked, id);
	} else {
		make_free(p, id);
	}
}

void pool_hold_sent(struct pool *p, uint64_t id)
{
	pool_hold(p, id);
	if (chunk_of(p, id)->rings++ == 0)
		p->sent_bytes += pool_cost(p, id);
}

void pool_drop_sent(struct pool *p, uint64_t id)
{
	if (--chunk_of(p, id)->rings == 0)
		p->sent_bytes -= pool_cost(p, id);
	pool_drop(p, id);
}

uint64_t pool_parked_bytes(const struct pool *p)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < p->parked.count; i++)
		sum += pool_cost(p, p->parked.ids[i]);
	return sum;
}

unsigned pool_unpark(struct pool *p, uint64_t *borrowed)
{
	unsigned freed = 0;
	size_t kept = 0;

	for (size_t i = 0; i < p->parked.count; i++) {
		uint64_t id = p->parked.ids[i];

		if (is_borrowed(p, id, borrowed)) {
			p->parked.ids[kept++] = id;
		} else {
			chunk_of(p, id)->parked = 0;
			make_free(p, id);
			freed++;
		}
	}
	p->parked.count = kept;
	return freed;
}

void pool_settle(struct pool *p)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		struct pool_extent *e = &p->extents[i];

		for (uint32_t c = 0; e->map && c < e->place.chunks; c++) {
			uint64_t id = pool_chunk_id(i, e->place.serial, c);

			if (e->chunks[c].pending || e->chunks[c].is_free || e->chunks[c].parked)
				continue;
			e->chunks[c].pending = 1;
			pool_drop(p, id);
		}
	}
}

uint64_t pool_chunks(const struct pool *p, uint64_t size)
{
	unsigned shift = size > 1ull << POOL_SHIFT_MAX ? 0 : slab_shift(size);
	uint64_t n = 0;

	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		const struct pool_extent *e = &p->extents[i];
		uint64_t bytes = e->place.chunk_bytes;

		if (e->map && e->shift == shift && bytes >= size && (shift || bytes / 2 <= size))
			n += e->place.chunks;
	}
	return n;
}

int pool_idle_extent(const struct pool *p, uint64_t bytes)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		const struct pool_extent *e = &p->extents[i];
		uint32_t c = 0;

		if (!e->map || e->place.bytes < bytes)
			continue;
		while (c < e->place.chunks && e->chunks[c].is_free)
			c++;
		if (c == e->place.chunks)
			return (int)i;
	}
	return -1;
}

void pool_remove(struct pool *p, uint32_t index)
{
	struct pool_extent *e = &p->extents[index];
	struct pool_stack *s = stack_of(p, e);
	size_t kept = 0;

	for (size_t i = 0; i < s->count; i++)
		if (pool_id_extent(s->ids[i]) != index)
			s->ids[kept++] = s->ids[i];
	s->count = kept;
	s->capacity -= e->place.chunks;
	p->parked.capacity -= e->place.chunks;
	p->payload_bytes -= pool_place_payload(&e->place);
	free(e->chunks);
	*e = (struct pool_extent){.place.serial = e->place.serial};
}

int pool_unused_entry(const struct pool *p)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		if (!p->extents[i].map)
			return (int)i;
	return -1;
}

void pool_fini(struct pool *p)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		free(p->extents[i].chunks);
	for (uint32_t i = 0; i < POOL_STACKS; i++)
		free(p->free[i].ids);
	free(p->parked.ids);
}

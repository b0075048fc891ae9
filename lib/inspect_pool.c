/* inspect_pool.c: the chunks of pools: which are queued, which are borrowed, by whom. Level 5, on 0
 * to 2. */
#include "inspect.h"

#include "error.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>

#define BORROW_CHUNK_BYTES (LAYOUT_MASK_WORDS * 8u)
#define BORROW_BLOCK 512u /* chunks whose bits are read at once */
#define USES_MAX (4u << 20)

/* Most n with align_up(n * 32, page) + n * chunk_bytes <= bytes. */
static uint64_t slab_chunks(uint64_t bytes, uint64_t chunk_bytes)
{
	uint64_t n = bytes / (chunk_bytes + BORROW_CHUNK_BYTES);

	while (n > 0 && rb_align_up(n * BORROW_CHUNK_BYTES, RB_PAGE) + n * chunk_bytes > bytes)
		n--;
	return n;
}

static const char *extent_class(struct inspect_extent *e)
{
	e->big = e->class_number == POOL_CLASS_BIG;
	if (e->big) {
		if (e->bytes <= RB_PAGE)
			return "too small for a chunk";
		e->chunks = 1;
		e->borrow_bytes = RB_PAGE;
		e->chunk_bytes = e->bytes - RB_PAGE;
		return NULL;
	}
	if (e->class_number < 1 + POOL_SHIFT_MIN || e->class_number > 1 + POOL_SHIFT_MAX)
		return "of an unknown class";
	e->chunk_bytes = 1ull << (e->class_number - 1);
	if (e->chunk_bytes >= e->bytes)
		return "too small for a chunk";
	e->chunks = slab_chunks(e->bytes, e->chunk_bytes);
	e->borrow_bytes = rb_align_up(e->chunks * BORROW_CHUNK_BYTES, RB_PAGE);
	return e->chunks ? NULL : "too small for a chunk";
}

void inspect_extent_decode(const struct ringbus_inspect *in, const struct layout_pool_extent *entry,
			   struct inspect_extent *e)
{
	uint64_t where = inspect_word(&entry->where);
	uint64_t bytes = inspect_word(&entry->bytes);

	*e = (struct inspect_extent){
		.offset = where & ~0xfffull,
		.bytes = bytes & ((1ull << 48) - 1),
		.serial = (uint32_t)(bytes >> 48),
		.class_number = (uint32_t)(where & 0xfff),
		.used = (where & 0xfff) != 0,
	};
	if (!e->used)
		return;
	if (e->bytes == 0)
		e->why = "empty";
	else if (e->bytes % RB_PAGE)
		e->why = "no whole number of pages";
	else if (inspect_extent_ok(in, e->offset, e->bytes, &e->why))
		e->why = extent_class(e);
}

bool inspect_borrows(struct ringbus_inspect *in, const struct inspect_extent *e,
		     void (*visit)(uint64_t chunk, const uint64_t *mask, void *user), void *user)
{
	uint64_t block[BORROW_BLOCK][LAYOUT_MASK_WORDS];

	for (uint64_t first = 0; first < e->chunks; first += BORROW_BLOCK) {
		uint64_t n = rb_min(BORROW_BLOCK, e->chunks - first);

		if (!inspect_budget_take(in, n * BORROW_CHUNK_BYTES))
			return false;
		inspect_read(in, e->offset + first * BORROW_CHUNK_BYTES, block,
			     n * BORROW_CHUNK_BYTES);
		for (uint64_t i = 0; i < n; i++)
			if (!inspect_mask_empty(block[i]))
				visit(first + i, block[i], user);
	}
	return true;
}

/* ---- queued descriptors ---- */

struct use_filter {
	struct ringbus_inspect *in;
	uint32_t generation; /* of the receiver */
};

static void use_add(const struct inspect_record *record, void *user)
{
	const struct use_filter *filter = user;
	struct ringbus_inspect *in = filter->in;

	if (!record->pooled || record->to_generation != filter->generation)
		return;
	if (in->uses_count == in->uses_capacity) {
		size_t capacity = in->uses_capacity ? in->uses_capacity * 2 : 256;
		struct inspect_use *more;

		if (capacity > USES_MAX)
			return;
		more = realloc(in->uses, capacity * sizeof(*more));
		if (!more)
			return;
		in->uses = more;
		in->uses_capacity = capacity;
	}
	in->uses[in->uses_count++] = (struct inspect_use){
		.extent = (uint32_t)record->chunk.chunk,
		.chunk = (uint32_t)(record->chunk.chunk >> 32),
		.bytes = record->chunk.size,
	};
}

static int use_compare(const void *a, const void *b)
{
	const struct inspect_use *x = a, *y = b;

	if (x->extent != y->extent)
		return x->extent < y->extent ? -1 : 1;
	return x->chunk < y->chunk ? -1 : x->chunk > y->chunk;
}

/* Collects the descriptors in all rings of a slot to receivers that will read them. A descriptor's
 * extent is kept as the low half of its word: serial and index. */
static void uses_load(struct ringbus_inspect *in, uint32_t slot, const struct layout_node *page)
{
	size_t kept = 0;

	in->uses_slot = slot;
	in->uses_count = 0;
	for (uint32_t to = 0; to < in->g.nodes; to++) {
		uint64_t offset = inspect_word(&page->ring[to]);
		uint64_t word = inspect_slot_word(in, to);
		struct use_filter filter = {.in = in, .generation = slot_generation(word)};
		struct ringbus_inspect_ring ring;

		if (offset != 0 && slot_state(word) == SLOT_LIVE)
			inspect_ring(in, slot, to, offset, &ring, use_add, &filter);
	}
	if (in->uses_count == 0)
		return;
	qsort(in->uses, in->uses_count, sizeof(*in->uses), use_compare);
	for (size_t i = 1; i < in->uses_count; i++)
		if (use_compare(&in->uses[kept], &in->uses[i]) != 0)
			in->uses[++kept] = in->uses[i];
	in->uses_count = kept + 1;
}

/* ---- one extent ---- */

struct borrow_sum {
	struct ringbus_inspect *in;
	struct ringbus_inspect_pool *pool;
	uint32_t key; /* serial << 16 | index */
};

static void borrow_add(uint64_t chunk, const uint64_t *mask, void *user)
{
	const struct borrow_sum *sum = user;
	struct inspect_use use = {.extent = sum->key, .chunk = (uint32_t)chunk};

	for (unsigned i = 0; i < LAYOUT_MASK_WORDS; i++)
		sum->pool->borrowers[i] |= mask[i];
	sum->pool->borrowed++;
	if (sum->in->uses_count == 0 ||
	    !bsearch(&use, sum->in->uses, sum->in->uses_count, sizeof(use), use_compare))
		sum->pool->used++;
}

static void pool_decode(struct ringbus_inspect *in, const struct inspect_extent *e,
			struct ringbus_inspect_pool *pool)
{
	struct borrow_sum sum = {.in = in, .pool = pool, .key = e->serial << 16 | pool->index};

	pool->offset = e->offset;
	pool->bytes = e->bytes;
	pool->serial = e->serial;
	pool->class_number = e->class_number;
	pool->big = e->big;
	if (e->why) {
		snprintf(pool->damage, sizeof(pool->damage), "%s", e->why);
		return;
	}
	pool->chunk_bytes = e->chunk_bytes;
	pool->chunks = e->chunks;
	for (size_t i = 0; i < in->uses_count; i++) {
		const struct inspect_use *use = &in->uses[i];

		if (use->extent != sum.key || use->chunk >= e->chunks)
			continue;
		pool->queued++;
		pool->queued_bytes += rb_min(use->bytes, e->chunk_bytes);
	}
	pool->used = pool->queued;
	if (!inspect_borrows(in, e, borrow_add, &sum))
		snprintf(pool->damage, sizeof(pool->damage), "not looked at: extents overlap");
}

int ringbus_inspect_pool_next(struct ringbus_inspect *in, uint32_t *cursor,
			      struct ringbus_inspect_pool *pool)
{
	struct layout_node page;
	int r = inspect_begin(in, *cursor);

	if (r < 0)
		return r;
	while (*cursor / LAYOUT_POOL_EXTENTS < in->g.nodes) {
		uint32_t slot = *cursor / LAYOUT_POOL_EXTENTS;

		inspect_read_node(in, slot, &page);
		for (uint32_t i = *cursor % LAYOUT_POOL_EXTENTS; i < LAYOUT_POOL_EXTENTS; i++) {
			struct inspect_extent extent;

			inspect_extent_decode(in, &page.pool[i], &extent);
			if (!extent.used)
				continue;
			if (in->uses_slot != slot)
				uses_load(in, slot, &page);
			*cursor = slot * LAYOUT_POOL_EXTENTS + i + 1;
			*pool = (struct ringbus_inspect_pool){.slot = slot, .index = i};
			pool_decode(in, &extent, pool);
			return 1;
		}
		*cursor = (slot + 1) * LAYOUT_POOL_EXTENTS;
	}
	return 0;
}

/* ---- who holds ---- */

struct hold_sum {
	struct ringbus_inspect *in;
	const struct layout_node *page;
	uint32_t generation; /* of the receiver */
	uint32_t to;
	uint64_t chunk_bytes;
	struct ringbus_inspect_hold holds[LAYOUT_NODES_MAX];
};

static void hold_queued(const struct inspect_record *record, void *user)
{
	struct hold_sum *sum = user;
	struct ringbus_inspect_hold *hold = &sum->holds[sum->to];
	uint32_t index = (uint32_t)record->chunk.chunk & 0xffff;
	struct inspect_extent e;

	if (!record->pooled || record->to_generation != sum->generation ||
	    index >= LAYOUT_POOL_EXTENTS)
		return;
	inspect_extent_decode(sum->in, &sum->page->pool[index], &e);
	if (!e.used || e.why || e.serial != (uint32_t)record->chunk.chunk >> 16)
		return;
	hold->queued++;
	hold->queued_bytes += e.chunk_bytes;
}

static void hold_borrowed(uint64_t chunk, const uint64_t *mask, void *user)
{
	struct hold_sum *sum = user;

	(void)chunk;
	for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++) {
		if (!inspect_bit(mask, i))
			continue;
		sum->holds[i].borrowed++;
		sum->holds[i].borrowed_bytes += sum->chunk_bytes;
	}
}

static void hold_rings(struct hold_sum *sum, uint32_t owner)
{
	struct ringbus_inspect_ring ring;

	for (uint32_t to = 0; to < sum->in->g.nodes; to++) {
		uint64_t offset = inspect_word(&sum->page->ring[to]);
		uint64_t word = inspect_slot_word(sum->in, to);

		if (offset == 0 || slot_state(word) != SLOT_LIVE)
			continue;
		sum->to = to;
		sum->generation = slot_generation(word);
		/* A walk that starts again counts again: only while the receiver moves. */
		inspect_ring(sum->in, owner, to, offset, &ring, hold_queued, sum);
	}
}

int ringbus_inspect_holds(struct ringbus_inspect *in, uint32_t owner,
			  struct ringbus_inspect_hold *holds, size_t capacity)
{
	struct layout_node page;
	struct hold_sum sum = {.in = in, .page = &page};
	int n = 0, r;

	rb_fail_clear();
	inspect_refresh(in);
	r = inspect_usable(in);
	if (r < 0)
		return r;
	if (owner >= in->g.nodes)
		return rb_fail(-EINVAL, "there is no slot %u; the bus has %u", owner, in->g.nodes);
	inspect_budget_start(in);
	inspect_read_node(in, owner, &page);
	hold_rings(&sum, owner);
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		struct inspect_extent e;

		inspect_extent_decode(in, &page.pool[i], &e);
		sum.chunk_bytes = e.chunk_bytes;
		if (e.used && !e.why)
			inspect_borrows(in, &e, hold_borrowed, &sum);
	}
	for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++) {
		struct ringbus_inspect_hold *hold = &sum.holds[i];

		if (hold->queued == 0 && hold->borrowed == 0)
			continue;
		hold->owner = owner;
		hold->holder = i;
		if ((size_t)n < capacity)
			holds[n] = *hold;
		n++;
	}
	return n;
}

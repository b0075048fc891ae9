/* send_pool.c: the sender's side of pooled payloads: taking over, growing, getting chunks back.
 * Level 4. */
#include "send_pool.h"

#include "error.h"
#include "send.h"

#include <stdlib.h>

int send_pool_reserve(struct link_tx *tx)
{
	uint32_t capacity = tx->sent_capacity ? tx->sent_capacity * 2 : 64;
	struct sent_chunk *sent;

	if (tx->sent_count < tx->sent_capacity)
		return 0;
	sent = malloc(capacity * sizeof(*sent));
	if (!sent)
		return -ENOMEM;
	for (uint32_t i = 0; i < tx->sent_count; i++)
		sent[i] = tx->sent[(tx->sent_first + i) & (tx->sent_capacity - 1)];
	free(tx->sent);
	tx->sent = sent;
	tx->sent_first = 0;
	tx->sent_capacity = capacity;
	return 0;
}

static void note(struct ringbus_node *node, struct link_tx *tx, uint64_t end, uint64_t id)
{
	tx->sent[(tx->sent_first + tx->sent_count++) & (tx->sent_capacity - 1)] =
		(struct sent_chunk){.end = end, .id = id};
	tx->sent_bytes += pool_cost(&node->pool, id);
	node->holders[tx->slot / 64] |= 1ull << tx->slot % 64;
	pool_hold_sent(&node->pool, id);
}

void send_pool_sent(struct ringbus_node *node, struct link_tx *tx, uint64_t id)
{
	note(node, tx, tx->ring.tail, id);
}

static void drop_first(struct ringbus_node *node, struct link_tx *tx)
{
	uint64_t id = tx->sent[tx->sent_first].id;

	tx->sent_first = (tx->sent_first + 1) & (tx->sent_capacity - 1);
	tx->sent_count--;
	tx->sent_bytes -= pool_cost(&node->pool, id);
	pool_drop_sent(&node->pool, id);
}

void send_pool_reclaim(struct ringbus_node *node, struct link_tx *tx)
{
	uint64_t word, head;

	if (tx->sent_count == 0) {
		node->holders[tx->slot / 64] &= ~(1ull << tx->slot % 64);
		return;
	}
	/* sync SLOT reader: the slot word before the bits; pairs SLOT writer in free_one() */
	word = shm_load_acquire(&tx->bell->slot);
	if (word != tx->word) {
		while (tx->sent_count > 0)
			drop_first(node, tx);
		return;
	}
	/* sync HEAD sender: head before the borrow bits (BORROW); pairs HEAD receiver in
	 * ring_rx_give() */
	head = shm_load_acquire(&tx->ring.rx->head);
	while (tx->sent_count > 0 && (int64_t)(head - tx->sent[tx->sent_first].end) >= 0)
		drop_first(node, tx);
}

/* Enters the extents that our predecessor left. */
static int adopt_extents(struct ringbus_node *node)
{
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		struct pool_place place;
		bool sound;
		void *map;
		int r;

		/* our page, but anybody who maps the file may have written it: read once */
		sound = pool_place_read(&node->own->pool[i], &place) &&
			place.offset >= node->region->g.fixed_bytes;
		node->pool.extents[i].place.serial = place.serial;
		if (!sound)
			continue;
		r = region_map(node->region, place.offset, place.bytes, true, false, &map);
		if (r == -EBADMSG)
			continue; /* beyond the file: damaged; the entry can be used anew */
		if (r < 0)
			return r;
		/* our predecessor may have died between giving the space back and the name */
		r = region_allocate(node->region, place.offset, place.bytes);
		if (r < 0) {
			region_unmap(node->region, map, place.bytes);
			return r;
		}
		r = pool_add(&node->pool, i, &place, map, place.class_);
		if (r < 0) {
			region_unmap(node->region, map, place.bytes);
			return r;
		}
	}
	return 0;
}

/* Whether a descriptor names a chunk of ours. */
static bool is_ours(const struct ringbus_node *node, uint64_t id)
{
	uint32_t index = pool_id_extent(id);

	return index < LAYOUT_POOL_EXTENTS && node->pool.extents[index].map &&
	       node->pool.extents[index].place.serial == pool_id_serial(id) &&
	       pool_id_chunk(id) < node->pool.extents[index].place.chunks;
}

/* Notes the descriptors that our predecessor left in a ring for its present receiver. */
static int adopt_ring(struct ringbus_node *node, struct link_tx *tx)
{
	struct ring_tx *ring = &tx->ring;
	uint64_t at = ring->head, end = at + rb_min(ring->tail - at, ring->capacity);

	while ((int64_t)(end - at) > 0) {
		const struct shm_word *w = ring_tx_word(ring, at);
		uint64_t word = shm_load_relaxed(
			w); /* relaxed: stored by our predecessor, who is dead (SLOT) */
		uint64_t bytes = ring_record_valid(word, at, ring->capacity);
		uint64_t kind = word >> 32 & 7;

		if (bytes == 0)
			return 0;
		at += bytes;
		if (kind != RECORD_EVENT_POOLED && kind != RECORD_CONTACT_POOLED)
			continue;
		/* relaxed, both: as above */
		if (shm_load_relaxed(w + 1) >> 32 == slot_generation(tx->word)) {
			uint64_t id = shm_load_relaxed(w + bytes / 8 - 1);

			if (send_pool_reserve(tx) < 0)
				return -ENOMEM;
			if (is_ours(node, id))
				note(node, tx, at, id);
		}
	}
	return 0;
}

/* Taking over failed half way: as if it had not begun, so that it can be tried again. */
static rb_cold void forget_pool(struct ringbus_node *node)
{
	for (uint32_t s = 0; s < node->region->g.nodes; s++) {
		if (!node->tx[s])
			continue;
		node->tx[s]->sent_count = 0;
		node->tx[s]->sent_bytes = 0;
	}
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		region_unmap(node->region, node->pool.extents[i].map,
			     node->pool.extents[i].place.bytes);
	pool_fini(&node->pool);
	node->pool = (struct pool){0};
}

/* A new owner of the slot rebuilds what is in use: rings first, bits last (pool.h). */
int send_pool_start(struct ringbus_node *node)
{
	int r;

	if (node->pool_known)
		return 0;
	r = adopt_extents(node);

	node->pool.table = node->own->pool;
	node->pool.limit_bytes = node->region->g.pool_bytes;
	for (uint32_t s = 0; r == 0 && s < node->region->g.nodes; s++) {
		struct link_tx *tx = node->tx[s];

		if (shm_load_relaxed(&node->own->ring[s]) == 0) /* relaxed: own word */
			continue;
		if (!tx)
			r = link_tx_open(node, s, &tx);
		if (r == -EBADMSG) {
			r = 0; /* nonsense, and no ring: only who sends to this slot is told */
			continue;
		}
		if (r < 0)
			break;
		if (tx->word == LINK_NOBODY) {
			/* sync SLOT reader: generation before the records that name it; pairs SLOT
			 * writer in control_grant() */
			uint64_t word = shm_load_acquire(&tx->bell->slot);

			if (slot_state(word) != SLOT_LIVE)
				continue;
			send_meet(node, tx, word);
		}
		r = adopt_ring(node, tx);
	}
	if (r < 0) {
		forget_pool(node);
		return r;
	}
	pool_settle(&node->pool);
	node->pool_known = true;
	return 0;
}

static void remove_extent(struct ringbus_node *node, uint32_t index)
{
	struct pool_extent *e = &node->pool.extents[index];
	struct pool_place place = e->place;

	region_unmap(node->region, e->map, place.bytes);
	/* the name goes last: what has none is never looked for, and would stay allocated if we
	 * died here; a successor has the hole filled again (adopt_extents()) */
	region_punch(node->region, place.offset, place.bytes);
	/* relaxed: receivers that read it see an unused entry, and no descriptor leads here any
	 * more */
	shm_store_relaxed(&node->own->pool[index].where, 0);
	pool_remove(&node->pool, index);
}

int send_pool_shrink(struct ringbus_node *node, uint64_t bytes)
{
	struct control c;
	int index, r;

	for (uint32_t s = 0; s < node->region->g.nodes; s++)
		if (node->tx[s])
			send_pool_reclaim(node, node->tx[s]);
	pool_unpark(&node->pool, NULL);
	if (pool_idle_extent(&node->pool, 0) < 0)
		return 0;
	r = send_control_lock(node, &c);
	if (r < 0)
		return r;
	while ((bytes == 0 || pool_unused_entry(&node->pool) < 0 ||
		node->pool.payload_bytes + bytes > node->pool.limit_bytes) &&
	       (index = pool_idle_extent(&node->pool, 0)) >= 0)
		remove_extent(node, (uint32_t)index);
	control_unlock(&c);
	return 0;
}

/* A new extent for payloads of `size`. -EAGAIN: over the limit for now, or the control lock is not
 * to be had; waits: for a moment. */
static int grow(struct ringbus_node *node, uint64_t size, bool waits)
{
	struct pool *p = &node->pool;
	struct pool_place place = {0};
	struct control c;
	uint64_t payload;
	int index, r;
	void *map;

	pool_plan(p, size, &place);
	payload = pool_place_payload(&place);
	if (p->payload_bytes + payload > p->limit_bytes || pool_unused_entry(p) < 0) {
		r = send_pool_shrink(node, payload);
		if (r < 0)
			return r;
	}
	index = pool_unused_entry(p);
	if (index < 0 || p->payload_bytes + payload > rb_max(p->limit_bytes, payload))
		return -EAGAIN;
	place.serial = (p->extents[index].place.serial + 1) & 0xffff;
	r = waits ? send_control_lock(node, &c) : control_lock(&c, node->region, 0);
	if (r < 0)
		return r;
	r = control_extent(&c, place.bytes, &place.offset);
	if (r == 0)
		r = region_map(node->region, place.offset, place.bytes, true, false, &map);
	if (r == 0) {
		memset(map, 0, place.bits_bytes); /* no bit of an earlier use of this range */
		r = pool_add(p, (uint32_t)index, &place, map, place.class_);
		if (r < 0)
			region_unmap(node->region, map, place.bytes);
	}
	if (r < 0 && place.offset != 0)
		region_punch(node->region, place.offset, place.bytes); /* no name leads there */
	if (r == 0) {
		/* relaxed: published by `where` */
		shm_store_relaxed(&p->table[index].bytes,
				  place.bytes | (uint64_t)place.serial << 48);
		KILL_POINT("X_POOL_BYTES");
		/* sync EXTENT sender: space and size before its name; pairs EXTENT receiver in
		 * pool_entry_read() */
		shm_store_release(&p->table[index].where, place.offset | place.class_);
	}
	control_unlock(&c);
	if (r == 0)
		pool_settle(p);
	return r;
}

void send_pool_reclaim_all(struct ringbus_node *node)
{
	for (uint32_t w = 0; w < node->mask_words; w++)
		for (uint64_t m = node->holders[w]; m; m &= m - 1)
			send_pool_reclaim(node, node->tx[w * 64 + (uint32_t)__builtin_ctzll(m)]);
}

/* Each look takes the line of a head from its receiver, who is about to write it again: of a stream
 * of loans that nobody touches a tenth. Who had an answer since the last shot looks at once, or it
 * would go round through all its chunks instead of two. */
#define SHOTS_FROM_LOOK_TO_LOOK 4u

void send_pool_shot(struct ringbus_node *node)
{
	uint64_t received = shm_load_relaxed(&node->own->received); /* relaxed: counter */

	if (received == node->shot_received && ++node->shots % SHOTS_FROM_LOOK_TO_LOOK != 0)
		return;
	node->shot_received = received;
	send_pool_reclaim_all(node);
}

/* What the receivers of the last chunk have not given back of all that they got; not those that
 * were passed over because they are lossy and had too much. */
static uint64_t behind(const struct ringbus_node *node)
{
	uint64_t sum = 0;

	for (uint32_t w = 0; w < node->mask_words; w++)
		for (uint64_t m = node->targets[w]; m; m &= m - 1)
			sum += node->tx[w * 64 + (uint32_t)__builtin_ctzll(m)]->sent_bytes;
	return sum;
}

/* With more in flight than the caches hold, every payload goes through memory. A sender that is so
 * far ahead of its receivers together waits a moment for them, then takes a chunk that caches still
 * have; only while that helps. Once it is further ahead (they were away for a while) two payloads
 * read let one go, until it is back. */
#define PACE_BYTES (8u << 20) /* of all receivers together */
#define PACE_SIZE_MIN 16384u  /* bytes of payload */
#define PACE_NS 50000u
#define PACE_MISSES_MAX 4u
#define PACE_RETRY 64u

static rb_noinline void pace(struct ringbus_node *node, uint64_t size)
{
	uint64_t n = rb_max(1, node->fan), each = n * pool_cost_of(&node->pool, size);
	uint64_t limit = each * rb_max(2, PACE_BYTES / (n * size));
	uint64_t ahead = behind(node), end, now_ahead;

	if (ahead + each <= limit)
		return;
	send_pool_reclaim_all(node);
	ahead = behind(node);
	if (ahead + each <= limit)
		return;
	limit = rb_max(limit, ahead - each);
	if (node->pace_misses >= PACE_MISSES_MAX && ++node->pace_skips % PACE_RETRY != 0)
		return;
	end = rb_now_ns() + PACE_NS;
	do {
		for (unsigned i = 0; i < 16; i++)
			cpu_pause();
		send_pool_reclaim_all(node);
		now_ahead = behind(node);
	} while (now_ahead + each > limit && rb_now_ns() < end);
	node->pace_misses = now_ahead < ahead ? 0 : node->pace_misses + 1;
}

/* The chunks of a stream that its receivers read at once are few, and go round so fast that they
 * are still in the receivers' caches when they are written again (cooled() in pool.c). So while a
 * stream takes many such, the pool becomes wider (64 KiB payloads: 12 against 29 GB/s). Who gets an
 * answer to every other one at least sends no stream: two chunks serve it best, for the one before
 * is not yet given back, or not known to be, when the answer has come. */
#define WIDEN_TAKES 64u
#define WIDEN_NS (20 * RB_MS)
#define WIDEN_BYTES (10u << 20)

static rb_noinline void widen(struct ringbus_node *node, uint64_t size)
{
	uint64_t now = rb_now_ns(), since = now - node->widened_ns;
	uint64_t most = rb_min(node->pool.limit_bytes / 4, WIDEN_BYTES);
	uint64_t received = shm_load_relaxed(&node->own->received); /* relaxed: counter */
	uint64_t answers = received - node->widened_received;
	struct pool_place place = {0};

	node->pool.hot = 0;
	node->widened_ns = now;
	node->widened_received = received;
	pool_plan(&node->pool, size, &place);
	if (since > WIDEN_NS || pool_unused_entry(&node->pool) < 0 ||
	    (answers >= WIDEN_TAKES / 2 && pool_chunks(&node->pool, size) > 1) ||
	    node->pool.payload_bytes + pool_place_payload(&place) > most)
		return;
	grow(node, size, false); /* or not: somebody holds the lock, or there is no space */
}

/* What was given back is looked at only if it is needed; as a rule that was done after a shot. */
static bool take_free(struct ringbus_node *node, uint64_t size, uint64_t *id)
{
	if (pool_take(&node->pool, size, false, id))
		return true;
	send_pool_reclaim_all(node);
	return pool_take(&node->pool, size, false, id) ||
	       (pool_unpark(&node->pool, NULL) > 0 && pool_take(&node->pool, size, false, id));
}

static int take(struct ringbus_node *node, uint64_t size, uint64_t *id)
{
	int r;

	if (size > node->region->g.pool_bytes)
		return rb_fail(-EMSGSIZE,
			       "payload of %llu bytes; this bus carries at most %llu "
			       "(--pool-bytes)",
			       (unsigned long long)size,
			       (unsigned long long)node->region->g.pool_bytes);
	r = send_pool_start(node);
	if (r < 0)
		return r;
	if (size >= PACE_SIZE_MIN)
		pace(node, size);
	if (take_free(node, size, id)) {
		if (rb_unlikely(node->pool.hot >= WIDEN_TAKES) && size >= PACE_SIZE_MIN)
			widen(node, size);
		return 0;
	}
	r = grow(node, size, true);
	if (pool_take(&node->pool, size, true, id))
		return 0;
	return r < 0 ? r : -EAGAIN;
}

/* The pool is in use: held back by who holds most of it, or by nobody but our own loans. */
static rb_cold void blame(struct ringbus_node *node)
{
	uint64_t held[LAYOUT_NODES_MAX] = {0}, most = 0, word = 0;
	uint32_t slot = LAYOUT_NO_SLOT;

	pool_unpark(&node->pool, held);
	for (uint32_t s = 0; s < node->region->g.nodes; s++) {
		held[s] += node->tx[s] ? node->tx[s]->sent_bytes : 0;
		if (held[s] > most) {
			most = held[s];
			slot = s;
		}
	}
	if (slot != LAYOUT_NO_SLOT)
		/* sync SLOT reader: its present owner; pairs SLOT writer in control_grant() */
		word = shm_load_acquire(&node->region->bells[slot].slot);
	send_held_back_by(slot, word);
}

int send_pool_take(struct ringbus_node *node, uint64_t size, uint64_t *id)
{
	int r = take(node, size, id);

	if (rb_unlikely(r == -EAGAIN) && !send_is_held_back_by_control())
		blame(node);
	return r;
}

/* A receiver may get more while what it holds then (sent and not given back, or borrowed) is not
 * more than what nobody holds then. So one that never reads gets half of the pool, another half of
 * the rest, and so on: however many there are, something is left; and n that take in turns get
 * pool / (n + 1) each. A chunk that several hold is held by each, and taken once: n that get the
 * same payloads may hold half of the pool together. One message, at least, for who holds nothing.
 */
static bool is_share(const struct ringbus_node *node, uint64_t held, uint64_t taken, uint64_t bytes)
{
	return held == 0 ||
	       held + taken + 2 * pool_cost_of(&node->pool, bytes) <= node->pool.limit_bytes;
}

static rb_noinline bool within_share(struct ringbus_node *node, struct link_tx *tx, uint64_t bytes)
{
	uint64_t borrowed[LAYOUT_NODES_MAX] = {0};

	send_pool_reclaim_all(node);
	pool_unpark(&node->pool, borrowed);
	return is_share(node, tx->sent_bytes + borrowed[tx->slot],
			node->pool.sent_bytes + pool_parked_bytes(&node->pool), bytes);
}

bool send_pool_quota(struct ringbus_node *node, struct link_tx *tx, uint64_t bytes)
{
	/* what was sent, as last seen, is at least what is held */
	if (rb_likely(is_share(node, tx->sent_bytes, node->pool.sent_bytes, bytes) &&
		      node->pool.parked.count == 0))
		return true;
	return within_share(node, tx, bytes);
}

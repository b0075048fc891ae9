/* link.c: opens and closes the rings between this node and another slot. Level 4.
 *
 * Pairing (sync PAIR): the sender makes the ring if the pair has none (space first, then its offset
 * in the sender's page: sync EXTENT), takes over its end, sets its bit in the receiver's `paired`
 * words, fences, and only then publishes. Nobody ever clears a bit: a new owner of the sender's
 * slot may set it between a look and a clearing. The receiver reads `paired` each turn, and once
 * more after the fence of its ASLEEP. Deaths: X_EXTENT_ALLOCATED space without a name, taken by the
 * next allocation; X_PAIR_NAMED a ring without a bit: the next sender in this slot finds it;
 * X_PAIR_BIT nothing published yet: the receiver opens an empty ring.
 */
#include "node.h"

#include "error.h"

#include <stdlib.h>

#define TX_BYTES(region) (RB_PAGE + (region)->g.ring_bytes)

/* Offset of the ring to `slot`, made if there is none. */
static int ring_offset(struct ringbus_node *node, uint32_t slot, uint64_t *offset)
{
	struct control c;
	int r;

	*offset = shm_load_relaxed(&node->own->ring[slot]); /* relaxed: own word */
	if (*offset != 0 && *offset < node->region->g.fixed_bytes)
		return rb_fail(-EBADMSG, "the page of slot %u is damaged", node->slot);
	if (*offset != 0)
		return 0;
	r = send_control_lock(node, &c);
	if (r < 0)
		return r;
	r = control_extent(&c, layout_ring_extent_bytes(&node->region->g), offset);
	if (r == 0) {
		/* sync EXTENT sender: space before its name; pairs EXTENT receiver in
		 * link_rx_open() */
		shm_store_release(&node->own->ring[slot], *offset);
		KILL_POINT("X_PAIR_NAMED");
	}
	control_unlock(&c);
	return r;
}

/* Maps our end of the ring; its pages may have been given back. */
static int map_tx(struct ringbus_node *node, uint64_t offset, struct link_tx *tx)
{
	struct region *region = node->region;
	struct control c;
	int r = region_map(region, offset, TX_BYTES(region), true, true, &tx->map);

	if (r == -ENOSPC) {
		r = send_control_lock(node, &c);
		if (r < 0)
			return r;
		control_punch_all_pairs(&c);
		control_unlock(&c);
		r = region_map(region, offset, TX_BYTES(region), true, true, &tx->map);
	}
	if (r < 0)
		return r;
	return region_map(region, offset + TX_BYTES(region), RB_PAGE, false, false, &tx->rx_map);
}

int link_tx_open(struct ringbus_node *node, uint32_t slot, struct link_tx **out)
{
	struct region *region = node->region;
	struct link_tx *tx = calloc(1, sizeof(*tx));
	uint64_t offset;
	uint8_t *map;
	int r;

	if (!tx)
		return -ENOMEM;
	tx->slot = slot;
	tx->word = LINK_NOBODY;
	tx->bell = &region->bells[slot];
	r = ring_offset(node, slot, &offset);
	if (r == 0)
		r = map_tx(node, offset, tx);
	if (r < 0) {
		link_tx_close(node, tx);
		return r;
	}
	map = tx->map;
	ring_tx_init(&tx->ring, tx->map, map + RB_PAGE, tx->rx_map, region->g.ring_bytes,
		     node->generation);
	/* sync MODE sender: whether the receiver may call membarrier, said before it was LIVE;
	 * pairs MODE joiner in node.c */
	if (shm_load_acquire(&region->nodes[slot].mode) & NODE_MODE_NO_MEMBARRIER)
		node->must_fence = true;
	if (node->must_fence && node->unfenced) {
		/* sync MODE sender: FENCED with release; pairs MODE sleeper in
		 * dispatch_fence_senders() */
		shm_fetch_and(&node->own->mode, ~(uint64_t)NODE_MODE_UNFENCED);
		node->unfenced = false;
	}
	/* sync PAIR sender: bit and full fence before the first record; pairs PAIR receiver in
	 * receive_open_rings() */
	shm_fetch_or(&tx->bell->paired[node->slot / 64], 1ull << node->slot % 64);
	KILL_POINT("X_PAIR_BIT");
	shm_fence();
	node->tx[slot] = tx;
	*out = tx;
	return 0;
}

void link_tx_close(struct ringbus_node *node, struct link_tx *tx)
{
	if (!tx)
		return;
	if (tx->ring.ctl && !region_forked(node->region))
		ring_tx_store_hint(&tx->ring);
	region_unmap(node->region, tx->map, TX_BYTES(node->region));
	region_unmap(node->region, tx->rx_map, RB_PAGE);
	free(tx->sent);
	free(tx);
}

/* Maps the ring from `slot` and takes its end. -EAGAIN: it is not there yet. joining: the pages of
 * one that nobody uses were given back (reclaim.c). They come again with its next sender; until
 * then only that of our position is looked at. */
static int map_rx(struct ringbus_node *node, uint32_t slot, struct link_rx *rx, bool joining)
{
	struct region *region = node->region;
	uint64_t capacity = region->g.ring_bytes, page;
	/* sync EXTENT receiver: name before the space; pairs EXTENT sender in ring_offset() */
	uint64_t offset = shm_load_acquire(&region->nodes[slot].ring[node->slot]);
	uint8_t *data;
	int r;

	if (offset == 0)
		return -EAGAIN;
	if (offset < region->g.fixed_bytes || (offset & (RB_PAGE - 1)))
		return -EBADMSG;
	r = region_map(region, offset, TX_BYTES(region), false, !joining, &rx->map);
	if (r == 0)
		r = region_map(region, offset + TX_BYTES(region), RB_PAGE, true, true, &rx->rx_map);
	if (r < 0)
		return r;
	data = (uint8_t *)rx->map + RB_PAGE;
	ring_rx_take(&rx->ring, rx->map, data, rx->rx_map, capacity);
	page = rx->ring.at & (capacity - 1) & ~(uint64_t)(RB_PAGE - 1);
	return joining ? region_populate(region, data + page, offset + RB_PAGE + page, RB_PAGE,
					 false)
		       : 0;
}

int link_rx_open(struct ringbus_node *node, uint32_t slot, bool joining)
{
	struct link_rx *rx = calloc(1, sizeof(*rx));
	int r;

	if (!rx)
		return -ENOMEM;
	rx->slot = slot;
	rx->bell = &node->region->bells[slot];
	r = map_rx(node, slot, rx, joining);
	if (r < 0) {
		link_rx_close(node, rx);
		return r;
	}
	ring_rx_begin(&rx->ring, joining);
	/* relaxed: counter; what was lost before we joined is not ours to tell */
	rx->drops = joining ? shm_load_relaxed(&rx->ring.ctl->drops) : 0;
	shm_store_relaxed(&rx->ring.rx->drops_seen, rx->drops); /* relaxed: for tools */
	node->rx[slot] = rx;
	return 0;
}

static void close_extent(struct ringbus_node *node, struct rx_extent *e)
{
	region_unmap(node->region, e->map, e->place.bytes);
	region_unmap(node->region, e->bits, e->place.bits_bytes);
	e->map = e->bits = NULL;
}

void link_rx_close(struct ringbus_node *node, struct link_rx *rx)
{
	if (!rx)
		return;
	for (uint32_t i = 0; rx->extents && i < LAYOUT_POOL_EXTENTS; i++) {
		struct rx_extent *e = &rx->extents[i];

		close_extent(node, e);
		while (e->older) {
			struct rx_extent *older = e->older;

			e->older = older->older;
			close_extent(node, older);
			free(older);
		}
	}
	free(rx->extents);
	region_unmap(node->region, rx->map, TX_BYTES(node->region));
	region_unmap(node->region, rx->rx_map, RB_PAGE);
	free(rx);
}

/* Maps the extent that the sender's page names. */
static int open_extent(struct ringbus_node *node, struct rx_extent *e,
		       const struct pool_entry *entry, uint32_t serial)
{
	struct pool_place place;
	void *map, *bits;
	int r;

	if (!pool_place_parse(entry, &place) || place.serial != serial ||
	    place.offset < node->region->g.fixed_bytes ||
	    pool_place_payload(&place) > node->region->g.pool_bytes + RB_PAGE)
		return -EBADMSG;
	r = region_map(node->region, place.offset, place.bytes, false, false, &map);
	if (r < 0)
		return r;
	r = region_map(node->region, place.offset, place.bits_bytes, true, false, &bits);
	if (r < 0) {
		region_unmap(node->region, map, place.bytes);
		return r;
	}
	pthread_mutex_lock(&node->borrow_lock);
	if (e->borrows > 0) {
		struct rx_extent *older = malloc(sizeof(*older));

		if (!older) {
			pthread_mutex_unlock(&node->borrow_lock);
			region_unmap(node->region, map, place.bytes);
			region_unmap(node->region, bits, place.bits_bytes);
			return -ENOMEM;
		}
		*older = *e;
		older->replaced = true;
		for (struct borrow_ref *b = node->borrowed; b; b = b->next)
			if (b->extent == e)
				b->extent = older;
		e->older = older;
	} else {
		close_extent(node, e);
	}
	e->entry = *entry;
	e->place = place;
	e->map = map;
	e->bits = bits;
	e->borrows = 0;
	pthread_mutex_unlock(&node->borrow_lock);
	return 0;
}

/* One that was replaced goes with its last payload: else a sender that redraws its pool with each
 * message would fill us with mappings. */
void link_rx_unborrow(struct ringbus_node *node, uint32_t slot, struct rx_extent *extent)
{
	struct rx_extent *extents = node->rx[slot]->extents;

	if (--extent->borrows > 0 || !extent->replaced)
		return;
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		for (struct rx_extent **at = &extents[i].older; *at; at = &(*at)->older)
			if (*at == extent) {
				*at = extent->older;
				close_extent(node, extent);
				free(extent);
				return;
			}
}

int link_rx_chunk(struct ringbus_node *node, struct link_rx *rx, const struct record_chunk *chunk,
		  const void **data, struct rx_extent **extent)
{
	uint32_t index = pool_id_extent(chunk->chunk), serial = pool_id_serial(chunk->chunk);
	uint32_t number = pool_id_chunk(chunk->chunk);
	struct pool_entry entry;
	struct rx_extent *e;
	int r;

	if (index >= LAYOUT_POOL_EXTENTS)
		return -EBADMSG;
	if (!rx->extents)
		rx->extents = calloc(LAYOUT_POOL_EXTENTS, sizeof(*rx->extents));
	if (!rx->extents)
		return -ENOMEM;
	e = &rx->extents[index];
	entry = pool_entry_read(&node->region->nodes[rx->slot].pool[index]);
	/* the serial alone would not do: it comes round again */
	if (!e->map || e->place.serial != serial || e->entry.where != entry.where ||
	    e->entry.bytes != entry.bytes) {
		r = open_extent(node, e, &entry, serial);
		if (r < 0)
			return r;
	}
	if (number >= e->place.chunks || chunk->size > e->place.chunk_bytes)
		return -EBADMSG;
	*data = e->map + e->place.bits_bytes + number * e->place.chunk_bytes;
	*extent = e;
	return 0;
}

/* Before LIVE: takes over the receiving end of every ring that leads to our slot, so that records
 * for earlier owners are skipped and their chunks free. */
int link_walk_incoming(struct ringbus_node *node)
{
	for (uint32_t s = 0; s < node->region->g.nodes; s++) {
		int r;

		/* sync EXTENT receiver: name before the space; pairs EXTENT sender in ring_offset()
		 */
		if (s == node->slot ||
		    shm_load_acquire(&node->region->nodes[s].ring[node->slot]) == 0)
			continue;
		r = link_rx_open(node, s, true);
		if (r < 0 && r != -EBADMSG)
			return r;
	}
	return 0;
}

static void add_ring(struct ringbus_node *node, uint32_t slot)
{
	node->order[node->rings] = node->order[node->hot];
	node->order[node->hot] = (uint8_t)slot;
	node->rings++;
	node->hot++;
}

/* Opens the rings of senders that paired since. */
void receive_open_rings(struct ringbus_node *node)
{
	for (uint32_t w = 0; w < node->mask_words; w++) {
		/* sync PAIR receiver: bit before the ring it announces; pairs PAIR sender in
		 * link_tx_open() */
		uint64_t bits = shm_load_acquire(&node->bell->paired[w]);

		if (rb_likely(bits == node->paired[w]))
			continue;
		for (uint64_t m = bits & ~node->paired[w]; m; m &= m - 1) {
			uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(m);

			if (slot >= node->region->g.nodes || slot == node->slot)
				continue;
			if (!node->rx[slot] && link_rx_open(node, slot, false) < 0)
				continue; /* looked at again next turn */
			node->paired[w] |= 1ull << slot % 64;
			add_ring(node, slot);
		}
	}
}

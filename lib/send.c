/* send.c: emission and contact. Level 4.
 *
 * Order: rights and event generation; snapshot of the mask; for each receiver its current
 * generation (else skipped and counted), ring (else made), room; then the chunk; from here nothing
 * can fail: publish to all; fence; wake. Room can only grow for its one producer, so checking all
 * first makes an emission all or nothing. A retry reads everything again. Kill points:
 * X_EMIT_PUBLISHED between two publications: some have the whole message, others do not have it;
 * X_EMIT_UNWOKEN: published and not woken; the reaper rings.
 * The path for the common case, which decides the same by loads alone, is in emit.c.
 */
#include "send.h"

#include "error.h"
#include "send_pool.h"

struct shot {
	struct ringbus_node *node;
	const struct send_payload *payload;
	uint64_t event; /* word 2 of the records */
	enum record_kind kind;
	bool pooled;
	bool lossless;	    /* one of to[] may hold us back */
	uint64_t in_record; /* bytes in the ring: payload or descriptor */
	uint64_t chunk;
	uint32_t count; /* of to[] */
	uint32_t drops; /* of dropped[] */
	struct link_tx *to[LAYOUT_NODES_MAX];
	struct link_tx *dropped[LAYOUT_NODES_MAX];
};

rb_inline uint64_t record_flags(const struct link_tx *tx, bool stamped)
{
	return (rb_unlikely(tx->ring.drops_now != tx->ring.drops) ? RECORD_DROPS : 0) |
	       (stamped ? RECORD_STAMPED : 0);
}

rb_cold void send_meet(struct ringbus_node *node, struct link_tx *tx, uint64_t word)
{
	tx->word = word;
	own_store(&node->partner[tx->slot], word);
	tx->generations = (uint64_t)slot_generation(word) << 32 | node->generation;
	tx->ring.said = SAID_NOTHING;
	/* sync MODE sender: as in link_tx_open(), for the new owner; pairs MODE joiner in node.c */
	if ((shm_load_acquire(&node->region->nodes[tx->slot].mode) & NODE_MODE_NO_MEMBARRIER) &&
	    !node->must_fence) {
		node->must_fence = true;
		node->unfenced = false;
		/* sync MODE sender: FENCED with release; pairs MODE sleeper in
		 * dispatch_fence_senders() */
		shm_fetch_and(&node->own->mode, ~(uint64_t)NODE_MODE_UNFENCED);
		/* sync PAIR sender: fenced before the first record for this owner; pairs PAIR
		 * receiver in receive_open_rings() */
		shm_fence();
	}
}

/* The slot has another owner, or none. 0: the new one is known now; 1: nobody there. */
static rb_cold int owner_changed(struct ringbus_node *node, struct link_tx *tx, uint64_t word)
{
	if (slot_state(word) != SLOT_LIVE)
		return 1;
	send_pool_reclaim(node, tx);
	send_meet(node, tx, word);
	return 0;
}

static rb_cold void ring_is_full(struct link_tx *tx)
{
	/* relaxed, both: own word, for tools; 0 again with the next record or part of the ring */
	if (shm_load_relaxed(&tx->ring.ctl->full_since_ns) == 0)
		shm_store_relaxed(&tx->ring.ctl->full_since_ns, rb_now_ns());
}

static rb_cold int no_room(struct shot *s, struct link_tx *tx, bool lossy)
{
	if (lossy) {
		s->dropped[s->drops++] = tx;
		return 0;
	}
	shm_count(&tx->ring.ctl->full, 1);
	send_held_back_by(tx->slot, tx->word);
	if (tx->ring.lost)
		return rb_fail(-EBADMSG,
			       "the ring to slot %u holds invalid data; it starts anew when its "
			       "receiver reads",
			       tx->slot);
	return -EAGAIN;
}

/* The mask was read before we knew the slot's present owner, so its bit may be that of the one
 * before, who was cleaned up since: the new owner would get a message from before its subscription,
 * and miss those between. */
enum { START_OVER = 1 };

/* Adds a receiver to the shot. 0 also when it is gone or drops; START_OVER. */
rb_inline int add_target(struct shot *s, uint32_t slot, bool lossy)
{
	struct ringbus_node *node = s->node;
	struct link_tx *tx = node->tx[slot];
	uint64_t word, most;
	int r;

	if (rb_unlikely(!tx)) {
		/* no ring for a slot that a damaged mask names and nobody has
		 * sync SLOT reader: is anybody there; pairs SLOT writer in control_grant() */
		word = shm_load_acquire(&node->region->bells[slot].slot);
		if (slot_state(word) != SLOT_LIVE) {
			shm_count(&node->own->dropped_gone, 1);
			PROBE_DROP(node->slot, slot, (uint32_t)(s->event >> 48), s->payload->size,
				   PROBE_DROP_GONE);
			return 0;
		}
		r = link_tx_open(node, slot, &tx);
		if (r < 0)
			return r;
	}
	/* sync SLOT reader: generation before the records that name it; pairs SLOT writer in
	 * control_grant() */
	word = shm_load_acquire(&tx->bell->slot);
	if (rb_unlikely(word != tx->word)) {
		if (!owner_changed(node, tx, word))
			return START_OVER;
		shm_count(&node->own->dropped_gone, 1);
		return 0;
	}
	if (rb_unlikely(!ring_tx_ready(&tx->ring)))
		return no_room(s, tx, lossy);
	most = ring_record_bytes(s->in_record, record_flags(tx, send_stamp_may_be_due(tx)));
	if (rb_unlikely(!ring_tx_room(&tx->ring, most))) {
		ring_is_full(tx);
		return no_room(s, tx, lossy);
	}
	if (s->pooled) {
		if (!send_pool_quota(node, tx, s->payload->size))
			return no_room(s, tx, lossy);
		r = send_pool_reserve(tx);
		if (r < 0)
			return r;
	}
	s->lossless |= !lossy;
	s->to[s->count++] = tx;
	return 0;
}

static void note_targets(const struct shot *s)
{
	uint64_t *targets = s->node->targets;

	memset(targets, 0, sizeof(s->node->targets));
	for (uint32_t i = 0; i < s->count; i++)
		targets[s->to[i]->slot / 64] |= 1ull << s->to[i]->slot % 64;
	s->node->fan = s->count;
}

static int take_chunk(struct shot *s)
{
	const struct send_payload *p = s->payload;
	int r;

	if (p->loan != SEND_NO_LOAN) {
		s->chunk = p->loan;
		return 0;
	}
	r = send_pool_take(s->node, p->size, &s->chunk);
	if (r < 0)
		return r;
	shm_copy_out(pool_data(&s->node->pool, s->chunk), p->data, p->size);
	return 0;
}

static inline uint32_t probe_event(const struct shot *s)
{
	return s->kind == RECORD_EVENT || s->kind == RECORD_EVENT_POOLED
		       ? (uint32_t)(s->event >> 48)
		       : RB_PROBE_CONTACT;
}

/* Writes and publishes one record. Nothing can fail here. */
rb_inline void publish(struct shot *s, struct link_tx *tx)
{
	uint64_t flags = record_flags(tx, send_stamp_is_due(tx));
	uint64_t bytes = ring_record_bytes(s->in_record, flags);
	struct shm_word *w = ring_tx_reserve(&tx->ring, bytes);

	/* relaxed, all: published by the header (RECORD) */
	if (!s->pooled)
		tx->ring.said = ring_said(s->kind, s->event); /* before a new part may begin */
	shm_store_relaxed(w++, tx->generations);
	shm_store_relaxed(w++, s->event);
	if (rb_unlikely(flags & RECORD_DROPS)) {
		shm_store_relaxed(w++, tx->ring.drops_now);
		tx->ring.drops = tx->ring.drops_now;
	}
	if (rb_unlikely(flags & RECORD_STAMPED))
		shm_store_relaxed(w++, rb_now_ns());
	if (s->pooled) {
		shm_store_relaxed(w, s->payload->size);
		shm_store_relaxed(w + 1, s->chunk);
		ring_tx_publish(&tx->ring, bytes, s->in_record, s->kind, flags);
		send_pool_sent(s->node, tx, s->chunk);
	} else {
		shm_copy_out(w, s->payload->data, s->payload->size);
		ring_tx_publish(&tx->ring, bytes, s->in_record, s->kind, flags);
	}
	ring_tx_count(&tx->ring, s->payload->size);
	/* relaxed, both: own word, for tools */
	if (rb_unlikely(shm_load_relaxed(&tx->ring.ctl->full_since_ns) != 0))
		shm_store_relaxed(&tx->ring.ctl->full_since_ns, 0);
	PROBE_PUBLISH(s->node->slot, tx->slot, probe_event(s), s->payload->size);
	KILL_POINT("X_EMIT_PUBLISHED");
}

int send_wake(struct link_tx *tx)
{
	int woke;

	if (tx->ring.hinted != tx->ring.tail)
		ring_tx_store_hint(&tx->ring);
	woke = doorbell_ring(&tx->bell->inbox, &tx->inbox_last);
	shm_count(&tx->ring.ctl->wakes, (uint64_t)woke);
	return woke;
}

rb_inline void wake(struct shot *s)
{
	int woke = 0;

	KILL_POINT("X_EMIT_UNWOKEN");
	send_fence(s->node);
	for (uint32_t i = 0; i < s->count; i++)
		woke += send_ring(s->to[i]);
	send_adapt_mode(s->node, woke);
}

static rb_cold void count_drops(struct shot *s)
{
	for (uint32_t i = 0; i < s->drops; i++) {
		struct ring_tx *ring = &s->dropped[i]->ring;

		/* relaxed: counter; told in the next record, or read by the receiver at rest */
		shm_store_relaxed(&ring->ctl->drops, ++ring->drops_now);
		ring_tx_plan(ring);
		PROBE_DROP(s->node->slot, s->dropped[i]->slot, probe_event(s), s->payload->size,
			   PROBE_DROP_LOSSY);
	}
	shm_count(&s->node->own->dropped_lossy, s->drops);
}

/* The pool has no room: not because of our own loans or of who holds the control lock. */
static bool is_held_by_receivers(int r)
{
	return r == -EAGAIN && send_held_back_slot() != LAYOUT_NO_SLOT;
}

/* All targets have room: sends. Returns their number. */
rb_inline int fire(struct shot *s)
{
	if (s->pooled && s->count > 0) {
		int r;

		note_targets(s);
		r = take_chunk(s);
		while (is_held_by_receivers(r) && !s->lossless && s->count > 0)
			s->dropped[s->drops++] = s->to[--s->count];
		if (r < 0 && s->count > 0)
			return r;
	}
	for (uint32_t i = 0; i < s->count; i++)
		publish(s, s->to[i]);
	if (s->pooled && (s->count > 0 || s->payload->loan != SEND_NO_LOAN))
		pool_drop(&s->node->pool, s->count > 0 ? s->chunk : s->payload->loan);
	if (rb_unlikely(s->drops > 0))
		count_drops(s);
	if (s->count > 0)
		wake(s);
	if (s->pooled)
		send_pool_shot(s->node);
	return (int)s->count;
}

int send_event_changed(struct ringbus_event *e, uint64_t id, uint64_t word)
{
	struct ringbus_node *node = e->node;
	const struct layout_event *entry = event_entry(node, id);

	if (event_generation(word) != (uint32_t)id || event_state(word) == EVENT_FREE)
		return rb_fail(-ENOENT, "event '%s' does not exist any more", e->id);
	if (event_state(word) != EVENT_LIVE)
		return rb_fail(-ENOENT, "event '%s' has no creator at present", e->id);
	e->may_emit_single =
		event_mode(word) == 0 && event_owner(word) == node->slot &&
		/* relaxed: stored before the word (EVENT) */
		(uint32_t)shm_load_relaxed(&entry->owner_generation) == node->generation;
	e->word = word;
	e->known_id = id;
	return 0;
}

static int may_emit(struct ringbus_event *e, uint64_t id)
{
	int r = send_event_current(e, id);

	if (rb_likely(r != -EPERM))
		return r;
	return rb_fail(-EPERM,
		       event_mode(e->word) == 0
			       ? "only its creator emits the SINGLE event '%s'"
			       : "only members emit the MULTI event '%s'; subscribe first",
		       e->id);
}

static void shape(struct shot *s, struct ringbus_node *node, const struct send_payload *p,
		  bool is_event, unsigned receivers)
{
	uint64_t inline_max = ring_inline_max(node->region->g.ring_bytes);

	/* One copy for many receivers once the copies would cost more than a descriptor and a cold
	 * line. */
	if (receivers > 1)
		inline_max = rb_min(inline_max, SEND_FAN_INLINE_MAX);
	s->node = node;
	s->payload = p;
	s->pooled = p->loan != SEND_NO_LOAN || p->size > inline_max;
	s->in_record = s->pooled ? sizeof(struct record_chunk) : p->size;
	s->kind = is_event ? (s->pooled ? RECORD_EVENT_POOLED : RECORD_EVENT)
			   : (s->pooled ? RECORD_CONTACT_POOLED : RECORD_CONTACT);
	s->lossless = false;
	s->count = 0;
	s->drops = 0;
}

/* One pass over the mask. -ERESTART: somebody joined meanwhile. */
static int pass_event(struct ringbus_event *e, const struct send_payload *p)
{
	struct ringbus_node *node = e->node;
	uint64_t masks[LAYOUT_MASK_WORDS], id = own_load(&e->record_id);
	const struct layout_event *entry = event_entry(node, id);
	unsigned receivers = 0;
	struct shot s;
	bool all_lossy;
	int r = may_emit(e, id);

	if (r < 0)
		return r;
	for (uint32_t w = 0; w < node->mask_words; w++) {
		/* sync EVENT emitter: bit before the subscriber's handler is needed; pairs EVENT
		 * holder in bit_set() */
		masks[w] = shm_load_acquire(&entry->deliver[w]);
		if (w == node->slot / 64)
			masks[w] &= ~(1ull << node->slot % 64);
		receivers += (unsigned)__builtin_popcountll(masks[w]);
	}
	shape(&s, node, p, true, receivers);
	s.event = id;
	all_lossy = shm_load_relaxed(&entry->flags) &
		    EVENT_FLAG_LOSSY; /* relaxed: stored before the word (EVENT) */
	for (uint32_t w = 0; w < node->mask_words; w++) {
		/* relaxed: set before the deliver bit; stale: one message more or less held back */
		uint64_t lossy = all_lossy ? UINT64_MAX : shm_load_relaxed(&entry->lossy[w]);

		for (uint64_t m = masks[w]; m; m &= m - 1) {
			unsigned bit = (unsigned)__builtin_ctzll(m);
			uint32_t slot = w * 64 + bit;

			if (rb_unlikely(slot >= node->region->g.nodes))
				break;
			r = add_target(&s, slot, lossy >> bit & 1);
			if (rb_unlikely(r != 0))
				return r == START_OVER ? -ERESTART : r;
		}
	}
	return fire(&s);
}

/* The pool is taken over before any mask is read: that learns owners of slots too. */
static int start_pool(struct ringbus_node *node, const struct send_payload *p)
{
	if (rb_likely(node->pool_known) ||
	    p->size <= rb_min(SEND_FAN_INLINE_MAX, ring_inline_max(node->region->g.ring_bytes)))
		return 0;
	return send_pool_start(node);
}

static int try_event(struct ringbus_event *e, const struct send_payload *p)
{
	int r = start_pool(e->node, p);

	if (rb_unlikely(r < 0))
		return r;
	/* each new pass is for a new owner; with more of them than slots somebody writes nonsense
	 */
	for (unsigned passes = 0; passes <= LAYOUT_NODES_MAX; passes++) {
		r = pass_event(e, p);
		if (rb_likely(r != -ERESTART))
			return r;
	}
	return -EAGAIN;
}

static int try_contact(struct ringbus_node *node, const struct ringbus_address *to,
		       const struct send_payload *p)
{
	struct shot s;
	uint64_t word;
	int r = start_pool(node, p);

	if (r < 0)
		return r;
	/* sync SLOT reader: as in add_target(); pairs SLOT writer in control_grant() */
	word = shm_load_acquire(&node->region->bells[to->slot].slot);
	if (slot_state(word) != SLOT_LIVE ||
	    (to->generation != 0 && slot_generation(word) != to->generation))
		return rb_fail(-ESRCH, "no node in slot %u with generation %u", to->slot,
			       to->generation);
	shape(&s, node, p, false, 1);
	s.event = 0;
	r = add_target(&s, to->slot, false);
	if (r == START_OVER &&
	    (to->generation == 0 || slot_generation(node->tx[to->slot]->word) == to->generation))
		r = add_target(&s, to->slot, false);
	if (r < 0)
		return r;
	if (s.count == 0)
		return rb_fail(-ESRCH, "the node in slot %u has just left", to->slot);
	r = fire(&s);
	return r < 0 ? r : 0;
}

struct attempt {
	struct ringbus_node *node;
	struct ringbus_event *event; /* NULL: contact or loan */
	const struct ringbus_address *to;
	const struct send_payload *payload;
	size_t loan_size;
	uint64_t *loan; /* gets a chunk, if not NULL */
};

static int try_once(const struct attempt *a)
{
	send_held_back_by(LAYOUT_NO_SLOT, 0); /* what held back the try before may be over */
	if (a->event)
		return try_event(a->event, a->payload);
	if (a->to)
		return try_contact(a->node, a->to, a->payload);
	return send_pool_take(a->node, a->loan_size, a->loan);
}

int send_two_threads(void)
{
	return rb_fail(-EBUSY, "two threads send on a node opened with single_sender");
}

static int try_locked(const struct attempt *a)
{
	int r = send_enter(a->node);

	if (r < 0)
		return r;
	r = try_once(a);
	send_leave(a->node);
	return r;
}

/* Who holds us back may be dead: then it is reaped here, so nobody waits for it. */
static void suspect(struct ringbus_node *node)
{
	uint32_t slot = send_held_back_slot();

	if (slot < node->region->g.nodes)
		node_suspect(node, slot);
}

/* Waits for room: whoever gives positions or borrows back rings our `room`. The wait ends by that,
 * by the death of the peer (looked at every 10 ms), or by the deadline. */
static int wait_for_room(const struct attempt *a, uint64_t deadline_ns)
{
	struct ringbus_node *node = a->node;
	int r = -EAGAIN;

	/* one thread sleeps; others, who may wait for other receivers, look now and then */
	while (!rb_mutex_lock(&node->room_lock, rb_min(deadline_ns, rb_deadline_ns(RB_MS)))) {
		r = try_locked(a);
		if (r != -EAGAIN)
			return r;
		if (own_load(&node->interrupted))
			return -EINTR;
		if (own_load_relaxed(&node->close_wanted))
			return -ENOTCONN;
		if (rb_left_ns(deadline_ns) == 0)
			return -ETIMEDOUT;
		suspect(node);
	}
	while (r == -EAGAIN) {
		uint64_t prepared = doorbell_prepare(&node->bell->room);
		uint64_t left = rb_left_ns(deadline_ns);

		r = try_locked(a); /* the look */
		if (r == -EAGAIN && own_load(&node->interrupted))
			r = -EINTR;
		if (r == -EAGAIN && left > 0)
			doorbell_sleep(&node->bell->room, prepared, rb_min(left, 10 * RB_MS),
				       &node->room_unrung);
		doorbell_finish(&node->bell->room, prepared);
		if (r == -EAGAIN && left == 0)
			r = -ETIMEDOUT;
		if (r == -EAGAIN)
			suspect(node);
		if (r == -EAGAIN && own_load_relaxed(&node->close_wanted))
			r = -ENOTCONN;
	}
	pthread_mutex_unlock(&node->room_lock);
	return r;
}

static int send(const struct attempt *a, uint64_t timeout_ns)
{
	int r;

	send_begins();
	r = try_locked(a);
	if (rb_likely(r != -EAGAIN))
		return r;
	shm_count(&a->node->own->full, 1);
	suspect(a->node);
	if (timeout_ns == 0) {
		return try_locked(a); /* the one who held us back may have been dead */
	}
	r = wait_for_room(a, rb_deadline_ns(rb_min(timeout_ns, RINGBUS_SEND_MAX_NS)));
	return r == -ETIMEDOUT ? send_made_no_room(a->node) : r;
}

int send_event(struct ringbus_event *event, const struct send_payload *p, uint64_t timeout_ns)
{
	struct attempt a = {.node = event->node, .event = event, .payload = p};

	return send(&a, timeout_ns);
}

int send_contact(struct ringbus_node *node, const struct ringbus_address *to,
		 const struct send_payload *p, uint64_t timeout_ns)
{
	struct attempt a = {.node = node, .to = to, .payload = p};

	if (to->slot >= node->region->g.nodes)
		return rb_fail(-ESRCH, "slot %u is out of range", to->slot);
	if (to->slot == node->slot)
		return rb_fail(-EINVAL, "a node cannot contact itself");
	return send(&a, timeout_ns);
}

int send_loan(struct ringbus_node *node, size_t size, struct ringbus_loan *loan,
	      uint64_t timeout_ns)
{
	uint64_t id;
	struct attempt a = {.node = node, .loan_size = size, .loan = &id};
	int r = send(&a, timeout_ns);

	if (r < 0)
		return r;
	*loan = (struct ringbus_loan){.data = pool_data(&node->pool, id),
				      .size = size,
				      .node = node};
	loan->internal[0] = id;
	loan->internal[1] = size;
	return 0;
}

int send_loan_cancel(struct ringbus_loan *loan)
{
	struct ringbus_node *node = loan->node;

	int r = send_enter(node);

	if (r < 0)
		return r;
	pool_drop(&node->pool, loan->internal[0]);
	send_leave(node);
	return 0;
}

int send_trim(struct ringbus_node *node)
{
	uint64_t deadline = node_control_deadline(node);
	const struct timespec pause = {.tv_nsec = RB_MS};
	int r;

	send_begins();
	for (;;) {
		r = send_enter(node);
		if (r < 0)
			return r;
		r = node->pool_known ? send_pool_shrink(node, 0) : 0;
		send_leave(node);
		if (r != -EAGAIN)
			return r;
		if (rb_left_ns(deadline) == 0)
			return send_made_no_room(node);
		nanosleep(&pause, NULL); /* others send meanwhile */
	}
}

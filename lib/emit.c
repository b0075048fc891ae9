/* emit.c: public calls of the sending side, and the path that nearly every message takes. Level 5.
 *
 * The common path is for a payload that goes into the rings as it is, to receivers of whom each is
 * the one that we know, with room as we last saw it and no drops to be told. It decides by loads
 * alone, in the order of send.c, before it stores anything; what is not common is left to send.c,
 * which begins anew. Then it cannot fail: it publishes to all, fences, wakes. Kill points as there.
 *
 * What goes to one receiver mostly takes the quick path: the words that lead there are read and
 * compared, all of them, each time; what follows from them was kept when it was found (struct
 * send_route, ring_tx_plan()). So what it takes the common path would take, too, which does the
 * rest.
 */
#include "error.h"
#include "guard.h"
#include "send.h"

enum { NOT_COMMON = INT32_MIN };
_Static_assert(RB_COPY_INLINE_MAX <= LAYOUT_RING_MIN / 8 - 40,
	       "what is copied inline fits any ring");

/* A receiver that a record of so many bytes of payload, stamped or not, can be written to now. */
rb_inline bool is_ready(const struct link_tx *tx, size_t size)
{
	/* sync SLOT reader: generation before the records that name it; pairs SLOT writer in
	 * control_grant() */
	return rb_likely(tx && shm_load_acquire(&tx->bell->slot) == tx->word &&
			 ring_tx_plain(&tx->ring, ring_record_bytes(size, RECORD_STAMPED)));
}

/* What follows a publication of either kind. */
rb_inline void count_sent(const struct ringbus_node *node, const struct link_tx *tx,
			  struct layout_ring_tx *ctl, enum record_kind kind, uint64_t event,
			  size_t size)
{
	shm_count_two(&ctl->messages, 1, size);
	PROBE_PUBLISH(node->slot, tx->slot,
		      kind == RECORD_EVENT ? (uint32_t)(event >> 48) : RB_PROBE_CONTACT, size);
	KILL_POINT("X_EMIT_PUBLISHED");
}

/* Writes and publishes a record, without what the last one said already. True: ring_tx_part() is to
 * be called before the next one. */
rb_inline bool write_plain(const struct ringbus_node *node, struct link_tx *tx,
			   enum record_kind kind, uint64_t event, const void *data, size_t size)
{
	/* once: stores to shared memory might change them, for all that the compiler knows */
	uint8_t *ring = tx->ring.data;
	uint64_t mask = tx->ring.capacity - 1, at = tx->ring.tail;
	struct layout_ring_tx *ctl = tx->ring.ctl;
	struct shm_word *w = (void *)(ring + (at & mask));
	bool parted;

	if (rb_likely(tx->ring.said == ring_said(kind, event))) {
		shm_copy_out(w + 1, data, size);
		parted =
			ring_tx_put(&tx->ring, ring, mask, at,
				    RECORD_SAME_BYTES + rb_align_up(size, 8), size, RECORD_SAME, 0);
	} else {
		tx->ring.said = ring_said(kind, event); /* before a new part may begin */
		/* relaxed, both: published by the header (RECORD) */
		shm_store_relaxed(w + 1, tx->generations);
		shm_store_relaxed(w + 2, event);
		shm_copy_out(w + 3, data, size);
		parted = ring_tx_put(&tx->ring, ring, mask, at, ring_record_bytes(size, 0), size,
				     kind, 0);
	}
	count_sent(node, tx, ctl, kind, event, size);
	return parted;
}

/* The same with all that there is to say, and when. One in SEND_STAMP_EVERY. */
static rb_noinline bool write_stamped(const struct ringbus_node *node, struct link_tx *tx,
				      enum record_kind kind, uint64_t event, const void *data,
				      size_t size)
{
	struct shm_word *w = ring_tx_word(&tx->ring, tx->ring.tail);
	bool parted;

	tx->ring.said = ring_said(kind, event); /* before a new part may begin */
	/* relaxed, all: published by the header (RECORD) */
	shm_store_relaxed(w + 1, tx->generations);
	shm_store_relaxed(w + 2, event);
	shm_store_relaxed(w + 3, rb_now_ns());
	shm_copy_out(w + 4, data, size);
	parted = ring_tx_put(&tx->ring, tx->ring.data, tx->ring.capacity - 1, tx->ring.tail,
			     ring_record_bytes(size, RECORD_STAMPED), size, kind, RECORD_STAMPED);
	count_sent(node, tx, tx->ring.ctl, kind, event, size);
	return parted;
}

/* Either of them, and what is to be done before the next. */
rb_inline void write_record(const struct ringbus_node *node, struct link_tx *tx,
			    enum record_kind kind, uint64_t event, const void *data, size_t size)
{
	bool parted = rb_unlikely(send_stamp_is_due(tx))
			      ? write_stamped(node, tx, kind, event, data, size)
			      : write_plain(node, tx, kind, event, data, size);

	if (rb_unlikely(parted))
		ring_tx_part(&tx->ring);
}

/* Any record to a receiver that is ready, and what follows it. Returns how many subscribers that
 * are. */
static rb_noinline int send_ready(struct ringbus_node *node, struct link_tx *tx,
				  enum record_kind kind, uint64_t event, const void *data,
				  size_t size)
{
	write_record(node, tx, kind, event, data, size);
	KILL_POINT("X_EMIT_UNWOKEN");
	send_fence(node);
	send_adapt_mode(node, send_ring(tx));
	return kind == RECORD_EVENT;
}

/* After a publication, where the quick path cannot end: the sender fences, or the receiver sleeps.
 * Returns r. */
static rb_noinline int send_rest(struct ringbus_node *node, struct link_tx *tx, int r)
{
	send_fence(node);
	send_adapt_mode(node, send_ring(tx));
	return r;
}

/* Whether send_quick() can send so many bytes. Not rounded up to words, but as if it had been, so
 * that it may say no for the last of them: who sends rounds up itself, and need not keep that. */
rb_inline bool is_quick(const struct link_tx *tx, size_t size)
{
	/* sync SLOT reader: as in is_ready(); pairs SLOT writer in control_grant() */
	return rb_likely(shm_load_acquire(&tx->bell->slot) == tx->word &&
			 ring_tx_is_quick(&tx->ring, tx->ring.tail + RECORD_SAME_BYTES + 7 + size));
}

/* Sends them. Returns how many subscribers that are. Up to RB_COPY_INLINE_MAX it makes no call but
 * as its last act, so that it needs no stack: that is a tenth of a small message. */
rb_inline int send_quick(struct ringbus_node *node, struct link_tx *tx, enum record_kind kind,
			 uint64_t event, const void *data, size_t size)
{
	uint64_t at = tx->ring.tail, words;
	struct shm_word *w;

	if (rb_unlikely(tx->ring.said != ring_said(kind, event) || send_stamp_is_due(tx)))
		return send_ready(node, tx, kind, event, data, size);
	/* ends in the same part of the ring, so it does not go round */
	w = ring_tx_word(&tx->ring, at);
	shm_copy_out(w + 1, data, size);
	words = rb_align_up(size, 8);
	ring_tx_put_at(&tx->ring, w, w + 1 + words / 8, at + RECORD_SAME_BYTES + words,
		       record_word0(at, RECORD_SAME_BYTES + words, RECORD_SAME, words - size, 0));
	count_sent(node, tx, tx->ring.ctl, kind, event, size);
	KILL_POINT("X_EMIT_UNWOKEN");
	shm_light_fence();
	/* sync BELL waker: a look without a fence is for unfenced senders only (MODE); pairs BELL
	 * sleeper in doorbell_prepare() */
	if (rb_likely(node->unfenced && !(shm_load_acquire(&tx->bell->inbox) & BELL_ASLEEP)))
		return kind == RECORD_EVENT;
	return send_rest(node, tx, kind == RECORD_EVENT);
}

#define FOR_RECEIVERS(node, masks, tx)                            \
	for (uint32_t w_ = 0; w_ < (node)->mask_words; w_++)      \
		for (uint64_t m_ = (masks)[w_]; m_; m_ &= m_ - 1) \
			if (((tx) = (node)->tx[w_ * 64 + (uint32_t)__builtin_ctzll(m_)]), true)

/* The one receiver, if there is just one and we know it. */
rb_inline struct link_tx *only_receiver(const struct ringbus_node *node, const uint64_t *masks)
{
	struct link_tx *tx = NULL;

	for (uint32_t w = 0; w < node->mask_words; w++) {
		if (!masks[w])
			continue;
		if (tx || masks[w] & (masks[w] - 1))
			return NULL;
		tx = node->tx[w * 64 + (uint32_t)__builtin_ctzll(masks[w])];
		if (!tx)
			return NULL;
	}
	return tx;
}

/* To any number but one whom we know. */
static int send_many(struct ringbus_node *node, uint64_t id, const uint64_t *masks,
		     const void *data, size_t size)
{
	struct link_tx *tx;
	int count = 0, woke = 0;

	FOR_RECEIVERS(node, masks, tx)
	{
		if (!is_ready(tx, size))
			return NOT_COMMON;
		count++;
	}
	if (count == 0 || (count > 1 && size > SEND_FAN_INLINE_MAX))
		return NOT_COMMON;
	FOR_RECEIVERS(node, masks, tx)
	write_record(node, tx, RECORD_EVENT, id, data, size);
	KILL_POINT("X_EMIT_UNWOKEN");
	send_fence(node);
	FOR_RECEIVERS(node, masks, tx)
	woke += send_ring(tx);
	send_adapt_mode(node, woke);
	return count;
}

/* In a word of the mask, since the route was found. */
rb_inline uint64_t mask_changes(const struct layout_event *entry, const struct send_route *route,
				uint32_t w)
{
	/* sync EVENT emitter: bit before the subscriber's handler is needed; pairs EVENT holder in
	 * bit_set() */
	return shm_load_acquire(&entry->deliver[w]) ^ route->deliver[w];
}

_Static_assert(LAYOUT_MASK_WORDS == 4, "as many as route_is_quick() looks at");

/* Whether all that led to a route is what it was, and send_quick() can send so many bytes there.
 * wide: the masks of this bus have more than one word. */
rb_inline bool route_is_quick(const struct ringbus_node *node, const struct send_route *route,
			      uint64_t id, size_t size, bool wide)
{
	const struct layout_event *entry = route->entry;
	uint64_t word, changed;

	if (rb_unlikely(id != route->id))
		return false;
	/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
	word = shm_load_acquire(&entry->word);
	if (rb_unlikely(word != route->word ||
			(event_mode(word) != 0 && !send_is_member(node, entry))))
		return false;
	changed = mask_changes(entry, route, 0);
	if (wide)
		changed |= mask_changes(entry, route, 1) | mask_changes(entry, route, 2) |
			   mask_changes(entry, route, 3);
	return rb_likely(changed == 0) && is_quick(route->tx, size);
}

/* Emits by the words of the event's entry, and keeps the route if it is one. */
static rb_noinline int send_by_entry(struct ringbus_event *e, const void *data, size_t size)
{
	uint64_t masks[LAYOUT_MASK_WORDS], id = own_load(&e->record_id);
	struct ringbus_node *node = e->node;
	struct send_route route = {.id = id, .entry = event_entry(node, id)};

	if (!send_event_is_current(e, id))
		return NOT_COMMON;
	route.word = e->word;
	for (uint32_t w = 0; w < node->mask_words; w++) {
		/* sync EVENT emitter: as in route_is_quick(); pairs EVENT holder in bit_set() */
		route.deliver[w] = shm_load_acquire(&route.entry->deliver[w]);
		masks[w] = route.deliver[w] & node->others[w];
	}
	route.tx = only_receiver(node, masks);
	if (!route.tx)
		return send_many(node, id, masks, data, size);
	if (!is_ready(route.tx, size))
		return NOT_COMMON;
	e->route = route;
	return send_ready(node, route.tx, RECORD_EVENT, id, data, size);
}

static rb_cold int too_large(const struct ringbus_node *node, size_t size)
{
	return rb_fail(-EMSGSIZE,
		       "payload of %zu bytes; this bus carries at most %llu (--pool-bytes)", size,
		       (unsigned long long)node->region->g.pool_bytes);
}

/* What the common path left. */
static rb_noinline int emit_general(struct ringbus_event *event, const void *data, size_t size,
				    uint64_t timeout_ns)
{
	struct send_payload p = {.data = data, .size = size, .loan = SEND_NO_LOAN};

	if (size > event->node->region->g.pool_bytes)
		return too_large(event->node, size);
	return node_guarded(event->node, send_event(event, &p, timeout_ns));
}

/* What is not as it was with the last emission. */
static rb_noinline int emit_anew(struct ringbus_event *e, const void *data, size_t size,
				 uint64_t timeout_ns)
{
	int r = NOT_COMMON;

	if (send_enter(e->node) == 0) {
		r = send_by_entry(e, data, size);
		send_leave(e->node);
	}
	return r != NOT_COMMON ? r : emit_general(e, data, size, timeout_ns);
}

/* As emit_alone(), also where other threads send too or the payload is large. */
static rb_noinline int emit_entered(struct ringbus_event *e, const void *data, size_t size,
				    uint64_t timeout_ns)
{
	struct ringbus_node *node = e->node;
	uint64_t id = own_load(&e->record_id);
	int r = send_enter(node);

	if (rb_unlikely(r < 0))
		return r;
	r = rb_likely(route_is_quick(node, &e->route, id, size, true))
		    ? send_quick(node, e->route.tx, RECORD_EVENT, id, data, size)
		    : send_by_entry(e, data, size);
	send_leave(node);
	return r != NOT_COMMON ? r : emit_general(e, data, size, timeout_ns);
}

/* The node is not what it was, or the payload is none, large, or not there. */
static rb_noinline int emit_unusual(struct ringbus_event *e, const void *data, size_t size,
				    uint64_t timeout_ns)
{
	int r;

	if (!e || (!data && size > 0))
		return rb_fail(-EINVAL, "no event, or no data");
	r = node_enter(e->node);
	if (r < 0)
		return r;
	return size > e->node->inline_max ? emit_general(e, data, size, timeout_ns)
					  : emit_entered(e, data, size, timeout_ns);
}

/* By the one sending thread of a node, of what is small. Every call is the last act: see
 * send_quick(). */
rb_inline int emit_alone(struct ringbus_event *event, const void *data, size_t size,
			 uint64_t timeout_ns, bool wide)
{
	struct ringbus_node *node = event->node;
	uint64_t id;
	int r;

	if (size > RB_COPY_INLINE_MAX)
		__builtin_unreachable(); /* so that the copy is no call, and this needs no stack */
	if (!send_enter_alone(node))
		return send_two_threads();
	id = own_load(&event->record_id);
	if (rb_unlikely(!route_is_quick(node, &event->route, id, size, wide))) {
		send_leave_alone(node);
		return emit_anew(event, data, size, timeout_ns);
	}
	r = send_quick(node, event->route.tx, RECORD_EVENT, id, data, size);
	send_leave_alone(node);
	return r;
}

/* The same where masks have several words. */
static rb_noinline int emit_wide(struct ringbus_event *event, const void *data, size_t size,
				 uint64_t timeout_ns)
{
	return emit_alone(event, data, size, timeout_ns, true);
}

int ringbus_emit(struct ringbus_event *event, const void *data, size_t size, uint64_t timeout_ns)
{
	const struct ringbus_node *node;

	if (rb_unlikely(!event || !data || size > RB_COPY_INLINE_MAX))
		return emit_unusual(event, data, size, timeout_ns);
	node = event->node;
	if (rb_unlikely(!node_is_entered(node)))
		return emit_unusual(event, data, size, timeout_ns);
	if (rb_unlikely(!node->sends_alone))
		return node->single_sender ? emit_wide(event, data, size, timeout_ns)
					   : emit_entered(event, data, size, timeout_ns);
	return emit_alone(event, data, size, timeout_ns, false);
}

/* Where an address leads to, if we know its owner. */
rb_inline struct link_tx *known_receiver(const struct ringbus_node *node,
					 const struct ringbus_address *to)
{
	struct link_tx *tx = to->slot < LAYOUT_NODES_MAX ? node->tx[to->slot] : NULL;

	return tx && (to->generation == slot_generation(tx->word) || to->generation == 0) ? tx
											  : NULL;
}

static rb_noinline int contact_general(struct ringbus_node *node, const struct ringbus_address *to,
				       const void *data, size_t size, uint64_t timeout_ns)
{
	struct send_payload p = {.data = data, .size = size, .loan = SEND_NO_LOAN};

	if (size > node->region->g.pool_bytes)
		return too_large(node, size);
	return node_guarded(node, send_contact(node, to, &p, timeout_ns));
}

/* The address leads elsewhere than it did, or there is no room, or the payload is large. */
static rb_noinline int contact_anew(struct ringbus_node *node, const struct ringbus_address *to,
				    const void *data, size_t size, uint64_t timeout_ns)
{
	int r = NOT_COMMON;

	if (send_enter(node) == 0) {
		struct link_tx *tx = known_receiver(node, to);

		if (is_ready(tx, size))
			r = send_ready(node, tx, RECORD_CONTACT, 0, data, size);
		send_leave(node);
	}
	return r != NOT_COMMON ? r : contact_general(node, to, data, size, timeout_ns);
}

/* As emit_entered(). */
static rb_noinline int contact_entered(struct ringbus_node *node, const struct ringbus_address *to,
				       const void *data, size_t size, uint64_t timeout_ns)
{
	struct link_tx *tx;
	int r = send_enter(node);

	if (rb_unlikely(r < 0))
		return r;
	tx = known_receiver(node, to);
	r = rb_likely(tx && is_quick(tx, size))
		    ? send_quick(node, tx, RECORD_CONTACT, 0, data, size)
		    : NOT_COMMON;
	send_leave(node);
	return r != NOT_COMMON ? r : contact_anew(node, to, data, size, timeout_ns);
}

/* As emit_unusual(). */
static rb_noinline int contact_unusual(struct ringbus_node *node, const struct ringbus_address *to,
				       const void *data, size_t size, uint64_t timeout_ns)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (!to || (!data && size > 0))
		return rb_fail(-EINVAL, "no address, or no data");
	return size > node->inline_max ? contact_general(node, to, data, size, timeout_ns)
				       : contact_entered(node, to, data, size, timeout_ns);
}

int ringbus_contact_address(struct ringbus_node *node, const struct ringbus_address *to,
			    const void *data, size_t size, uint64_t timeout_ns)
{
	struct link_tx *tx;
	int r;

	if (rb_unlikely(!node || !to || !data || size > RB_COPY_INLINE_MAX ||
			!node_is_entered(node)))
		return contact_unusual(node, to, data, size, timeout_ns);
	if (rb_unlikely(!node->single_sender))
		return contact_entered(node, to, data, size, timeout_ns);
	if (!send_enter_alone(node))
		return send_two_threads();
	tx = known_receiver(node, to);
	if (rb_unlikely(!tx || !is_quick(tx, size))) {
		send_leave_alone(node);
		return contact_anew(node, to, data, size, timeout_ns);
	}
	r = send_quick(node, tx, RECORD_CONTACT, 0, data, size);
	send_leave_alone(node);
	return r;
}

int ringbus_contact(struct ringbus_node *node, uint32_t pid, const void *data, size_t size,
		    uint64_t timeout_ns)
{
	struct ringbus_address to = {0}; /* with the generation: no message for its successor */
	uint64_t epoch, cached, word;
	int r = node_enter(node);

	if (rb_unlikely(r < 0))
		return r;
	/* sync NOTICE sender: epoch before the slots that it covers; pairs NOTICE prover in
	 * control_announce() */
	epoch = shm_load_acquire(&node->region->common->control_epoch);
	/* one word, so that threads agree: epoch (24 bits) | slot (8) | pid (24) */
	cached = own_load_relaxed(&node->found);
	if (rb_likely(cached >> 40 == (epoch & 0xffffff) && (cached & 0xffffffff) == pid &&
		      cached != 0)) {
		to = (struct ringbus_address){.slot = cached >> 32 & 0xff};
		/* sync SLOT reader: still its owner; pairs SLOT writer in become_live() */
		word = shm_load_acquire(&node->region->bells[to.slot].slot);
		if (rb_likely(slot_state(word) == SLOT_LIVE && slot_pid(word) == pid))
			to.generation = slot_generation(word);
	}
	if (rb_unlikely(to.generation == 0)) {
		r = ringbus_node_find_pid(node, pid, &to);
		if (r < 0)
			return r;
		own_store(&node->found, epoch << 40 | (uint64_t)to.slot << 32 | pid);
	}
	return ringbus_contact_address(node, &to, data, size, timeout_ns);
}

size_t ringbus_node_payload_max(const struct ringbus_node *node)
{
	return node_enter(node) < 0 ? 0 : (size_t)node->region->g.pool_bytes;
}

int ringbus_loan(struct ringbus_node *node, size_t size, struct ringbus_loan *loan,
		 uint64_t timeout_ns)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (!loan)
		return rb_fail(-EINVAL, "no place for the loan");
	return node_guarded(node, send_loan(node, size, loan, timeout_ns));
}

static int loan_payload(struct ringbus_node *node, const struct ringbus_loan *loan,
			struct send_payload *p)
{
	if (!loan || !loan->data || loan->node != node || loan->size > loan->internal[1])
		return rb_fail(-EINVAL, "not a loan of this node, or larger than it was");
	*p = (struct send_payload){.data = loan->data,
				   .size = loan->size,
				   .loan = loan->internal[0]};
	return 0;
}

int ringbus_emit_loan(struct ringbus_event *event, struct ringbus_loan *loan, uint64_t timeout_ns)
{
	struct send_payload p;
	int r = event ? node_enter(event->node) : -EINVAL;

	if (r == 0)
		r = loan_payload(event->node, loan, &p);
	if (r < 0)
		return r;
	r = send_event(event, &p, timeout_ns);
	if (r >= 0)
		loan->data = NULL;
	return node_guarded(event->node, r);
}

int ringbus_contact_loan(struct ringbus_node *node, const struct ringbus_address *to,
			 struct ringbus_loan *loan, uint64_t timeout_ns)
{
	struct send_payload p;
	int r = node_enter(node);

	if (r == 0)
		r = to ? loan_payload(node, loan, &p) : -EINVAL;
	if (r < 0)
		return r;
	r = send_contact(node, to, &p, timeout_ns);
	if (r >= 0)
		loan->data = NULL;
	return node_guarded(node, r);
}

void ringbus_loan_cancel(struct ringbus_loan *loan)
{
	if (!loan || !loan->data || node_enter(loan->node) < 0)
		return;
	if (send_loan_cancel(loan) == 0)
		loan->data = NULL;
}

int ringbus_node_trim(struct ringbus_node *node)
{
	int r = node_enter(node);

	return r < 0 ? r : send_trim(node);
}

void send_count(const struct ringbus_node *node, uint64_t *messages, uint64_t *bytes)
{
	for (uint32_t i = 0; i < node->region->g.nodes; i++) {
		const struct link_tx *tx = node->tx[i];

		if (!tx)
			continue;
		*messages += shm_load_relaxed(&tx->ring.ctl->messages); /* relaxed: counter */
		*bytes += shm_load_relaxed(&tx->ring.ctl->bytes);	/* relaxed: counter */
	}
}

/* emit.c: public calls of the sending side, and the path that nearly every message takes. Level 5.
 *
 * The common path is for a payload that goes into the rings as it is, to receivers of whom each is
 * the one that we know, with room as we last saw it and no drops to be told. It decides by loads
 * alone, in the order of send.c, before it stores anything; what is not common is left to send.c,
 * which begins anew. Then it cannot fail: it publishes to all, fences, wakes. Kill points as there.
 */
#include "error.h"
#include "guard.h"
#include "send.h"

enum { NOT_COMMON = INT32_MIN };

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
	shm_count(&ctl->messages, 1);
	shm_count(&ctl->bytes, size);
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

/* After a publication, where the common path cannot end: another part of the ring has begun, the
 * sender fences, or the receiver sleeps. Returns r. */
static rb_noinline int send_rest(struct ringbus_node *node, struct link_tx *tx, bool parted, int r)
{
	if (parted)
		ring_tx_part(&tx->ring);
	send_fence(node);
	send_adapt_mode(node, send_ring(tx));
	return r;
}

/* A record with a stamp, or one that is copied by a call. */
static rb_noinline int send_long(struct ringbus_node *node, struct link_tx *tx,
				 enum record_kind kind, uint64_t event, const void *data,
				 size_t size)
{
	write_record(node, tx, kind, event, data, size);
	KILL_POINT("X_EMIT_UNWOKEN");
	return send_rest(node, tx, false, kind == RECORD_EVENT);
}

/* To one receiver that is ready. Returns how many subscribers that are. Makes no call but as its
 * last act, so that it needs no stack: that is a tenth of a small message. */
rb_inline int send_ready(struct ringbus_node *node, struct link_tx *tx, enum record_kind kind,
			 uint64_t event, const void *data, size_t size)
{
	bool parted;

	if (rb_unlikely(send_stamp_is_due(tx) || size > RB_COPY_INLINE_MAX))
		return send_long(node, tx, kind, event, data, size);
	parted = write_plain(node, tx, kind, event, data, size);
	KILL_POINT("X_EMIT_UNWOKEN");
	shm_light_fence();
	/* sync BELL waker: a look without a fence is for unfenced senders only (MODE); pairs BELL
	 * sleeper in doorbell_prepare() */
	if (rb_likely(!parted && node->unfenced &&
		      !(shm_load_acquire(&tx->bell->inbox) & BELL_ASLEEP)))
		return kind == RECORD_EVENT;
	return send_rest(node, tx, parted, kind == RECORD_EVENT);
}

/* To one receiver. How many subscribers that are, or NOT_COMMON. */
rb_inline int send_one(struct ringbus_node *node, struct link_tx *tx, enum record_kind kind,
		       uint64_t event, const void *data, size_t size)
{
	return is_ready(tx, size) ? send_ready(node, tx, kind, event, data, size) : NOT_COMMON;
}

/* A word of an event's mask, without ourselves. */
rb_inline uint64_t receivers(const struct ringbus_node *node, uint64_t id, uint32_t w)
{
	/* sync EVENT emitter: bit before the subscriber's handler is needed; pairs EVENT holder in
	 * bit_set() */
	return shm_load_acquire(&event_entry(node, id)->deliver[w]) & node->others[w];
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

/* To any number; `first` is the first word of the one snapshot of the mask. */
static rb_noinline int send_many(struct ringbus_node *node, uint64_t id, uint64_t first,
				 const void *data, size_t size)
{
	uint64_t masks[LAYOUT_MASK_WORDS] = {first};
	struct link_tx *tx;
	int count = 0, woke = 0;

	for (uint32_t w = 1; w < node->mask_words; w++)
		masks[w] = receivers(node, id, w);
	tx = only_receiver(node, masks);
	if (tx)
		return send_one(node, tx, RECORD_EVENT, id, data, size);
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

/* Whether a mask names one receiver, on a bus whose masks have one word. */
rb_inline bool is_single(const struct ringbus_node *node, uint64_t mask)
{
	return rb_likely(node->mask_words == 1 && mask && !(mask & (mask - 1)));
}

/* The sending thread is alone here. */
rb_inline int emit_alone(struct ringbus_event *e, const void *data, size_t size)
{
	uint64_t mask, id = own_load(&e->record_id);
	struct ringbus_node *node = e->node;

	if (!send_event_is_current(e, id))
		return NOT_COMMON;
	mask = receivers(node, id, 0);
	if (is_single(node, mask))
		return send_one(node, node->tx[__builtin_ctzll(mask)], RECORD_EVENT, id, data,
				size);
	return send_many(node, id, mask, data, size);
}

static rb_noinline int emit_many(struct ringbus_event *e, uint64_t id, uint64_t mask,
				 const void *data, size_t size, uint64_t timeout_ns)
{
	int r = send_many(e->node, id, mask, data, size);

	return r != NOT_COMMON ? r : emit_general(e, data, size, timeout_ns);
}

static rb_noinline int emit_locked(struct ringbus_event *e, const void *data, size_t size,
				   uint64_t timeout_ns)
{
	int r = NOT_COMMON;

	if (send_enter(e->node) == 0) {
		r = emit_alone(e, data, size);
		send_leave(e->node);
	}
	return r != NOT_COMMON ? r : emit_general(e, data, size, timeout_ns);
}

/* The node is not quite what it was. */
static rb_noinline int emit_entered(struct ringbus_event *e, const void *data, size_t size,
				    uint64_t timeout_ns)
{
	int r = node_enter(e->node);

	return r < 0 ? r : emit_general(e, data, size, timeout_ns);
}

/* Every call is the last act: see send_ready(). */
int ringbus_emit(struct ringbus_event *event, const void *data, size_t size, uint64_t timeout_ns)
{
	struct ringbus_node *node;
	struct link_tx *tx;
	uint64_t mask, id;

	if (rb_unlikely(!event || (!data && size > 0)))
		return rb_fail(-EINVAL, "no event, or no data");
	node = event->node;
	if (rb_unlikely(!node_is_entered(node)))
		return emit_entered(event, data, size, timeout_ns);
	if (rb_unlikely(size > node->inline_max))
		return emit_general(event, data, size, timeout_ns);
	if (rb_unlikely(!SEND_UNLOCKED(node)))
		return emit_locked(event, data, size, timeout_ns);
	id = own_load(&event->record_id);
	if (rb_unlikely(!send_event_is_current(event, id)))
		return emit_general(event, data, size, timeout_ns);
	mask = receivers(node, id, 0);
	if (!is_single(node, mask))
		return emit_many(event, id, mask, data, size, timeout_ns);
	tx = node->tx[__builtin_ctzll(mask)];
	if (rb_unlikely(!is_ready(tx, size)))
		return emit_general(event, data, size, timeout_ns);
	return send_ready(node, tx, RECORD_EVENT, id, data, size);
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

static rb_noinline int contact_locked(struct ringbus_node *node, const struct ringbus_address *to,
				      const void *data, size_t size, uint64_t timeout_ns)
{
	int r = NOT_COMMON;

	if (send_enter(node) == 0) {
		r = send_one(node, known_receiver(node, to), RECORD_CONTACT, 0, data, size);
		send_leave(node);
	}
	return r != NOT_COMMON ? r : contact_general(node, to, data, size, timeout_ns);
}

static rb_noinline int contact_entered(struct ringbus_node *node, const struct ringbus_address *to,
				       const void *data, size_t size, uint64_t timeout_ns)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (!to || (!data && size > 0))
		return rb_fail(-EINVAL, "no address, or no data");
	return contact_general(node, to, data, size, timeout_ns);
}

int ringbus_contact_address(struct ringbus_node *node, const struct ringbus_address *to,
			    const void *data, size_t size, uint64_t timeout_ns)
{
	struct link_tx *tx;

	if (rb_unlikely(!node || !node_is_entered(node) || !to || (!data && size > 0)))
		return contact_entered(node, to, data, size, timeout_ns);
	if (rb_unlikely(size > node->inline_max))
		return contact_general(node, to, data, size, timeout_ns);
	if (rb_unlikely(!SEND_UNLOCKED(node)))
		return contact_locked(node, to, data, size, timeout_ns);
	tx = known_receiver(node, to);
	if (rb_unlikely(!is_ready(tx, size)))
		return contact_general(node, to, data, size, timeout_ns);
	return send_ready(node, tx, RECORD_CONTACT, 0, data, size);
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

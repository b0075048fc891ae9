/* dispatch.c: the receiving side of a node: rings in turn, records to messages, messages to
 * handlers. Level 4.
 *
 * One turn: control epoch, new rings, signals, hot rings and one cold ring, notices, give back. Hot
 * rings are those that had something lately; all are looked at before sleeping, so cost grows with
 * the senders that are active. At most BATCH messages are taken from a ring in a row.
 */
#include "deliver.h"
#include "error.h"
#include "event_read.h"
#include "histogram.h"
#include "probes.h"
#include "stream.h"

#define BATCH 256u
#define COLD_AFTER 512u /* empty turns */

/* Gives positions back and, when it is time (see ring_rx_give()), lets the sender know if it waits
 * for room. */
static rb_noinline void tell_of_room(struct link_rx *rx, struct ringbus_node *node)
{
	/* sync BELL waker: head before the look at `room`; pairs BELL sleeper in doorbell_prepare()
	 */
	shm_fence();
	if (doorbell_ring(&rx->bell->room, &rx->room_last))
		shm_count(&node->own->wakes, 1);
}

rb_inline void give(struct link_rx *rx, struct ringbus_node *node, bool last)
{
	if (rb_unlikely(ring_rx_give(&rx->ring, last)))
		tell_of_room(rx, node);
}

/* A pooled payload was read: its position goes back at once. Its sender is told only after so many
 * bytes, or in the next turn that finds nothing, since that takes a fence, or when the ring is
 * empty and it seems to sleep: one that waits looks every 10 ms, and once more when its time is
 * over. */
#define TELL_BYTES (8u << 20)

static void give_pooled(struct link_rx *rx, struct ringbus_node *node, uint64_t bytes)
{
	bool tell;

	node->large |= bytes >= STREAM_SIZE_MAX;
	rx->untold_bytes += bytes;
	tell = rx->untold_bytes >= rb_min(TELL_BYTES, node->region->g.pool_bytes / 16) ||
	       (doorbell_seems_asleep(&rx->bell->room) && !ring_rx_has_word(&rx->ring));
	if (tell)
		rx->untold_bytes = 0;
	give(rx, node, tell);
}

void dispatch_give_all(struct ringbus_node *node)
{
	for (uint32_t i = 0; i < node->rings; i++)
		give(node->rx[node->order[i]], node, true);
}

void dispatch_ring_is_hot(struct ringbus_node *node, uint32_t i)
{
	uint8_t slot = node->order[i];

	node->rx[slot]->idle = 0;
	if (i < node->hot)
		return;
	node->order[i] = node->order[node->hot];
	node->order[node->hot++] = slot;
}

static void ring_is_idle(struct ringbus_node *node, uint32_t i)
{
	uint8_t slot = node->order[i];

	if (++node->rx[slot]->idle < COLD_AFTER || i >= node->hot)
		return;
	node->order[i] = node->order[--node->hot];
	node->order[node->hot] = slot;
}

/* The record is not from the pair of owners that we expected. True: it is for us all the same. */
static rb_cold bool new_generation(struct ringbus_node *node, struct link_rx *rx,
				   const struct ring_record *rec)
{
	uint32_t generation = (uint32_t)rec->generations;
	uint64_t word;

	if (rec->generations >> 32 != node->generation) {
		shm_count(&rx->ring.rx->stale, 1);
		return false;
	}
	rx->generations = rec->generations;
	/* sync SLOT reader: identity before the state; pairs SLOT writer in control_grant() */
	word = shm_load_acquire(&rx->bell->slot);
	/* relaxed: for the address in the message; kept until the next grant */
	rx->pid = slot_generation(word) == generation
			  ? (uint32_t)shm_load_relaxed(&node->region->records[rx->slot].pid)
			  : 0;
	return true;
}

/* Resolves a descriptor. False: the pair starts anew; or the payload cannot be mapped, for want of
 * memory or descriptors, and its record stays until it can. */
static bool resolve_chunk(struct ringbus_node *node, struct link_rx *rx,
			  const struct ring_record *rec, struct ringbus_message *m)
{
	const struct shm_word *w = (const void *)rec->payload;
	/* relaxed, both: ordered by the header (RECORD); read once */
	struct record_chunk chunk = {.size = shm_load_relaxed(w), .chunk = shm_load_relaxed(w + 1)};
	struct rx_extent *extent;
	int r = link_rx_chunk(node, rx, &chunk, &m->data, &extent);

	if (rb_unlikely(r == -EBADMSG)) {
		ring_rx_ask(&rx->ring);
		shm_count(&node->own->corrupt, 1);
	} else if (rb_unlikely(r < 0)) {
		node->unreached = r;
	}
	if (rb_unlikely(r < 0))
		return false;
	m->size = (size_t)chunk.size;
	m->internal[0] = 1 + rx->slot;
	m->internal[1] = chunk.chunk;
	m->internal[2] = (uint64_t)(uintptr_t)extent;
	return true;
}

/* What accept() does not set; an initializer would clear all of it for each message. */
rb_inline void message_begin(struct ringbus_message *m, struct ringbus_node *node)
{
	m->notice = 0;
	m->count = 0;
	m->node = node;
	m->internal[1] = m->internal[2] = m->internal[3] = 0;
}

enum verdict { DELIVER, SKIP, AGAIN };

/* Turns a record into a message. AGAIN: the pair starts anew, or a notice must come first, or the
 * payload cannot be mapped. */
rb_inline enum verdict accept(struct ringbus_node *node, struct link_rx *rx,
			      const struct ring_record *rec, struct ringbus_message *m,
			      struct subscription **sub)
{
	bool pooled = rec->kind == RECORD_EVENT_POOLED || rec->kind == RECORD_CONTACT_POOLED;

	if (rb_unlikely(rec->generations != rx->generations)) {
		if (rec->generations >> 32 == node->generation &&
		    notice_comes_first(node, rx, (uint32_t)rec->generations))
			return AGAIN; /* of the old owner's end */
		if (!new_generation(node, rx, rec))
			return SKIP;
	}
	if (rb_unlikely(rec->flags & RECORD_DROPS)) {
		rx->lost += rec->drops - rx->drops;
		rx->drops = rec->drops;
		shm_store_relaxed(&rx->ring.rx->drops_seen, rx->drops); /* relaxed: for tools */
	}
	*sub = NULL;
	m->event = NULL;
	m->kind = RINGBUS_CONTACT;
	if (rec->kind == RECORD_EVENT || rec->kind == RECORD_EVENT_POOLED) {
		*sub = event_subscription(node, (uint32_t)(rec->event >> 48), (uint32_t)rec->event);
		if (rb_unlikely(!*sub || !(*sub)->deliver)) {
			shm_count(&node->own->dropped_unsubscribed, 1);
			PROBE_DROP(rx->slot, node->slot, (uint32_t)(rec->event >> 48), rec->size,
				   PROBE_DROP_UNSUBSCRIBED);
			return SKIP;
		}
		m->event = (*sub)->event;
		m->kind = RINGBUS_EVENT;
	}
	m->sender = (struct ringbus_address){.pid = rx->pid,
					     .slot = rx->slot,
					     .generation = (uint32_t)rec->generations};
	m->data = rec->payload;
	m->size = rec->size;
	m->internal[0] = 0;
	if (rb_unlikely(pooled) && !resolve_chunk(node, rx, rec, m))
		return AGAIN;
	m->lost = rx->lost;
	rx->lost = 0;
	return DELIVER;
}

static bool is_pooled(const struct ring_record *rec)
{
	return rec->kind >= RECORD_EVENT_POOLED;
}

/* Takes one record. True: the batch goes on. */
static bool take_one(struct ringbus_node *node, struct link_rx *rx, unsigned limit,
		     struct ringbus_message *m, struct drained *d)
{
	struct subscription *sub;
	struct ring_record rec;
	enum verdict verdict;
	int r = ring_rx_read(&rx->ring, &rec, d->word);

	if (rb_unlikely(r == RING_SPOILED))
		shm_count(&node->own->corrupt, 1);
	if (rb_unlikely(r != RING_RECORD))
		return false;
	verdict = accept(node, rx, &rec, m, &sub);
	if (rb_unlikely(verdict == AGAIN))
		return false;
	d->taken++;
	if (rb_likely(verdict == DELIVER)) {
		d->delivered++;
		d->bytes += m->size;
		if (rb_unlikely(rec.flags & RECORD_STAMPED))
			call_timed(node, rx, &rec, m, sub);
		else
			call(node, m, sub);
	}
	ring_rx_advance(&rx->ring, &rec);
	if (rb_unlikely(is_pooled(&rec))) {
		uint64_t bytes = verdict == DELIVER ? m->size : 0;

		give_pooled(rx, node, bytes);
		if (wait_is_turn_of_others(node, bytes))
			return false;
	}
	return drain_goes_on(node, rx, limit, d);
}

/* Takes up to `limit` messages from one ring, whose next record has this header. */
static rb_noinline unsigned drain_from(struct ringbus_node *node, struct link_rx *rx,
				       unsigned limit, uint64_t word)
{
	struct drained d = {.word = word};
	struct ringbus_message m;
	bool goes_on;

	message_begin(&m, node);
	event_read_begin(node);
	do {
		goes_on = stream_take(node, rx, limit, &m, &d);
		if (rb_unlikely(rx->ring.at - rx->ring.given >= rx->ring.capacity / 4))
			give(rx, node, false);
		else if (goes_on)
			goes_on = take_one(node, rx, limit, &m, &d);
	} while (goes_on);
	event_read_end(node);
	if (d.delivered > 0) {
		shm_store_relaxed(&node->own->in_handler, 0); /* relaxed: own word, for tools */
		shm_count(&node->own->received, d.delivered);
		shm_count(&node->own->received_bytes, d.bytes);
		shm_count(&rx->ring.rx->messages, d.delivered);
		shm_count(&rx->ring.rx->bytes, d.bytes);
	}
	give(rx, node, false);
	return d.taken;
}

rb_inline unsigned drain(struct ringbus_node *node, struct link_rx *rx, unsigned limit)
{
	uint64_t word = ring_rx_header(&rx->ring);

	if (rb_likely(word == 0 && !rx->ring.waiting))
		return 0;
	return drain_from(node, rx, limit, word);
}

static unsigned drain_rings(struct ringbus_node *node, unsigned limit)
{
	unsigned n = 0;
	uint32_t hot = node->hot, i = ++node->next_ring;

	if (i >= hot)
		i = node->next_ring = 0;
	for (uint32_t k = 0; k < hot && n < limit && k < node->hot;
	     k++, i = i + 1 < hot ? i + 1 : 0) {
		unsigned got;

		if (i >= node->hot)
			continue;
		got = drain(node, node->rx[node->order[i]], (unsigned)rb_min(BATCH, limit - n));
		n += got;
		if (got > 0)
			node->rx[node->order[i]]->idle = 0;
		else
			ring_is_idle(node, i);
		if (own_load_relaxed(&node->close_wanted))
			return n;
	}
	if (node->hot < node->rings && n < limit) {
		unsigned got;

		i = node->hot + node->next_cold++ % (node->rings - node->hot);
		got = drain(node, node->rx[node->order[i]], (unsigned)rb_min(BATCH, limit - n));

		if (got > 0)
			dispatch_ring_is_hot(node, i);
		n += got;
	}
	return n;
}

static void turn_begins(struct ringbus_node *node)
{
	node->unreached = 0;
	/* sync NOTICE receiver: epoch before slots, rings and events; pairs NOTICE prover in
	 * control_announce() */
	if (rb_unlikely(shm_load_acquire(&node->region->common->control_epoch) != node->epoch_seen))
		notice_scan(node);
	receive_open_rings(node);
	if (rb_unlikely(own_load_relaxed(&node->signal_waiters) > 0 && signal_pending(node)))
		signal_turn(node);
}

/* A receiver that only polls never comes to the looks before sleep: now and then it does here. */
static void look_at_rest(struct ringbus_node *node)
{
	if (rb_unlikely((++node->empty_turns & 63) == 0))
		dispatch_pending(node);
}

static rb_noinline unsigned stream_is_dry(struct ringbus_node *node, unsigned limit)
{
	unsigned n;

	if (!wait_for_stream(node, false))
		return 0;
	n = drain_rings(node, limit);
	node->stream_misses = n > 0 ? 0 : node->stream_misses + 1;
	return n;
}

/* Whoever polls in a loop spends its time between two looks with the rest of a turn. While messages
 * keep coming a turn that found nothing looks on for a moment at what is likely to bring the next
 * one, and takes it without another turn. It pauses now and then, for its sender may be on the
 * other half of this core, but not after each look: a pause is up to 140 cycles, a third of a round
 * trip. */
#define LOOK_ON_LOOKS 64u /* with their pauses a microsecond at most, as long as a round trip */
#define LOOK_ON_PAUSE 4u  /* rounds from one pause to the next */
#define LOOK_ON_RINGS 4u
#define LOOK_ON_TURNS 1024u /* empty turns until nothing is expected any more */

static rb_noinline unsigned look_on(struct ringbus_node *node, unsigned limit)
{
	for (unsigned round = 1; round <= LOOK_ON_LOOKS / node->hot; round++) {
		for (uint32_t i = 0; i < node->hot; i++) {
			struct link_rx *rx = node->rx[node->order[i]];

			if (ring_rx_has_word(&rx->ring)) {
				rx->idle = 0;
				return limit ? drain(node, rx, (unsigned)rb_min(BATCH, limit)) : 0;
			}
			ring_rx_prefetch(&rx->ring);
		}
		if (round % LOOK_ON_PAUSE == 0)
			cpu_pause();
	}
	return 0;
}

/* The rings in turn, with these waits. */
rb_inline unsigned drain_streams(struct ringbus_node *node, unsigned limit)
{
	unsigned n = drain_rings(node, limit);

	if (n == 0 && node->empty_polls++ == 0)
		return 0; /* after a wait: the next one, which begins with these looks, is near */
	if (n == 0 && node->streak >= STREAM_MIN) {
		n = stream_is_dry(node, limit);
	} else if (n == 0) {
		node->streak = 0; /* what comes now is no stream: we were there before it */
		if (node->idle_turns < LOOK_ON_TURNS && node->hot - 1 < LOOK_ON_RINGS)
			n = look_on(node, limit);
	}
	node->streak = n > 0 && !node->large ? node->streak + n : 0;
	node->large = false;
	node->idle_turns = n > 0 ? 0 : node->idle_turns + 1;
	return n;
}

static bool notices_wait(const struct ringbus_node *node)
{
	return rb_unlikely(node->peers_pending || node->events_pending || node->lost_rx);
}

/* Gives up to `limit` notices to the handler. */
static rb_noinline unsigned give_notices(struct ringbus_node *node, unsigned limit)
{
	/* more than all there can be at once is somebody's nonsense; the epoch brings the rest */
	unsigned most = 2 * (node->region->g.nodes + node->region->g.events), n = 0;
	struct ringbus_message m;

	while (n < most && n < limit && notices_wait(node) &&
	       !own_load_relaxed(&node->close_wanted) && notice_next(node, &m)) {
		call(node, &m, NULL);
		n++;
	}
	return n;
}

int dispatch_poll(struct ringbus_node *node, unsigned limit)
{
	bool notices_first = node->notices_first;
	unsigned n = 0;

	if (limit == 0)
		limit = 256;
	node->pulling = false;
	dispatch_pulled_done(node);
	if (rb_unlikely(node->crowd_bytes >= CROWD_BYTES))
		wait_for_others(node);
	turn_begins(node);
	if (rb_unlikely(signal_is_handled(node) && signal_pending(node) && signal_give(node))) {
		n++;
		if (own_load_relaxed(&node->close_wanted))
			return (int)n;
	}
	if (rb_unlikely(notices_first)) {
		n += give_notices(node, limit - n);
		if (own_load_relaxed(&node->close_wanted))
			return (int)n;
	}
	n += drain_streams(node, limit - n);
	if (notices_wait(node))
		n += give_notices(node, limit - n);
	/* what had no room in this turn; the next begins with it, but not each, for a small limit
	 * has room for one thing only */
	node->notices_left = n >= limit && notices_wait(node);
	node->notices_first = node->notices_left && !notices_first;
	if (n > 0) {
		shm_count(&node->own->dispatches, 1);
	} else {
		dispatch_give_all(node);
		look_at_rest(node);
	}
	return n > 0 ? (int)n : node->unreached;
}

void dispatch_pulled_done(struct ringbus_node *node)
{
	struct link_rx *rx = node->pulled;

	if (!rx)
		return;
	node->pulled = NULL;
	if (rb_unlikely(node->pulled_kept)) {
		/* too large for its receiver, who has not got it yet: it comes again */
		node->pulled_kept = false;
		rx->lost += node->pulled_message.lost;
		shm_count(&node->own->received, UINT64_MAX);
		shm_count(&node->own->received_bytes, -node->pulled_message.size);
		shm_count(&rx->ring.rx->messages, UINT64_MAX);
		shm_count(&rx->ring.rx->bytes, -node->pulled_message.size);
		return;
	}
	if (rb_unlikely(node->pulled_ns != 0))
		histogram_add(rx->ring.rx->histogram[HISTOGRAM_HANDLER],
			      rb_now_ns() - node->pulled_ns);
	rx->ring.at += node->pulled_bytes;
	if (node->pulled_pooled || rx->ring.at - rx->ring.given >= rx->ring.capacity / 8)
		give(rx, node, node->pulled_pooled);
}

/* Whether a notice is ready. Each one says by itself which messages must come first. */
static bool pull_notice(struct ringbus_node *node, struct ringbus_message *m)
{
	node->pull_notices = false;
	return (node->peers_pending || node->events_pending || node->lost_rx) &&
	       notice_next(node, m);
}

/* The next message of one ring, if it has one. */
static bool pull_from(struct ringbus_node *node, struct link_rx *rx, struct ringbus_message *m)
{
	struct subscription *sub;
	struct ring_record rec;

	for (unsigned tries = 0; tries < BATCH; tries++) {
		enum verdict verdict;

		if (receive_peek(node, rx, &rec) != RING_RECORD)
			return false;
		event_read_begin(node);
		verdict = accept(node, rx, &rec, m, &sub);
		event_read_end(node);
		if (verdict == AGAIN) {
			/* this ring waits for a notice: it must not wait until all others are empty
			 */
			node->pull_notices = true;
			return false;
		}
		if (verdict == DELIVER) {
			node->pulled = rx;
			node->pulled_bytes = rec.bytes;
			node->pulled_pooled = is_pooled(&rec);
			node->pulled_ns = rec.flags & RECORD_STAMPED
						  ? time_arrival(node, rx, rec.stamp_ns)
						  : 0;
			PROBE_DELIVER(rx->slot, node->slot, probe_event(m), m->size);
			shm_count(&node->own->received, 1);
			shm_count(&node->own->received_bytes, m->size);
			shm_count(&rx->ring.rx->messages, 1);
			shm_count(&rx->ring.rx->bytes, m->size);
			return true;
		}
		ring_rx_advance(&rx->ring, &rec);
		if (is_pooled(&rec))
			give(rx, node, true);
	}
	return false;
}

/* One message, to be finished by dispatch_pulled_done(). 1 got one, 0 nothing there, or the code of
 * the only one, which could not be mapped. */
int dispatch_pull(struct ringbus_node *node, struct ringbus_message *m)
{
	uint32_t rings;

	if (node->pulled_kept) {
		*m = node->pulled_message;
		return 1;
	}
	dispatch_pulled_done(node);
	node->pulling = true;
	node->notices_left = false;
	turn_begins(node);
	if (node->pull_notices && pull_notice(node, m))
		return 1;
	rings = node->rings;
	*m = (struct ringbus_message){.node = node}; /* so it stays if there is none */
	for (uint32_t k = 0; k < rings; k++) {
		uint32_t i = node->next_ring % rings;

		if (pull_from(node, node->rx[node->order[i]], m)) {
			if (++node->pull_budget >= BATCH) {
				node->pull_budget = 0;
				node->next_ring++;
				node->pull_notices = true; /* also while it never gets empty */
			}
			return 1;
		}
		node->pull_budget = 0;
		node->next_ring++;
	}
	if (pull_notice(node, m))
		return 1;
	dispatch_give_all(node);
	look_at_rest(node);
	return node->unreached;
}

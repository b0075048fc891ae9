/* wait.c: what a receiver does when there is nothing: looks at rest, spins, sleeps. Level 4. */
#include "node.h"

#include "error.h"

#include <sched.h>

/* A filter came after the join. Who is UNFENCED and paired stays so until it has woken us a few
 * times; who pairs from now on fences. */
static rb_cold void membarrier_is_denied(struct ringbus_node *node)
{
	/* relaxed: own word */
	if (shm_load_relaxed(&node->own->mode) & NODE_MODE_NO_MEMBARRIER)
		return;
	/* sync MODE joiner: said late; whoever has looked already is seen by us when UNFENCED;
	 * pairs MODE sender in link_tx_open() */
	shm_fetch_or(&node->own->mode, NODE_MODE_NO_MEMBARRIER);
}

static bool sender_is_unfenced(const struct ringbus_node *node, uint32_t slot)
{
	/* sync MODE sleeper: modes, after ASLEEP and its fence, before the looks; pairs MODE sender
	 * in send_adapt_mode() */
	if (!(shm_load_acquire(&node->region->nodes[slot].mode) & NODE_MODE_UNFENCED))
		return false;
	/* sync SLOT reader: not the mode of one who is gone, all of whose records are seen then;
	 * pairs SLOT prover in control_mark_dead() */
	return slot_state(shm_load_acquire(&node->region->bells[slot].slot)) == SLOT_LIVE;
}

bool dispatch_fence_senders(struct ringbus_node *node)
{
	bool unfenced = false;

	/* Who has paired since the turn's look may have published without a fence, too. Whose bit
	 * comes after this look sees ASLEEP: he fences between the bit and his first record. */
	receive_open_rings(node);
	for (uint32_t i = 0; i < node->rings && !unfenced; i++)
		unfenced = sender_is_unfenced(node, node->order[i]);
	if (!unfenced || !node->membarrier || doorbell_membarrier())
		return true;
	membarrier_is_denied(node);
	return false;
}

/* A ring at rest: whether something is to be said or done about it. */
static bool rest_is_disturbed(struct ringbus_node *node, struct link_rx *rx)
{
	if (ring_rx_is_spoiled(&rx->ring)) {
		shm_count(&node->own->corrupt, 1);
		return false; /* asked; the answer rings */
	}
	/* relaxed: counter; the next record tells the same */
	if (shm_load_relaxed(&rx->ring.ctl->drops) != rx->drops &&
	    (node->on_notice || node->pulling)) {
		node->lost_rx = rx;
		return true;
	}
	return false;
}

/* Whether there are signals for somebody: who pulls does not give them to a handler. */
static bool signals_are_due(struct ringbus_node *node)
{
	return signal_pending(node) &&
	       ((signal_is_handled(node) && !node->in_pull) || own_load(&node->signal_waiters) > 0);
}

bool dispatch_pending(struct ringbus_node *node)
{
	struct ring_record rec;

	receive_open_rings(node);
	for (uint32_t i = 0; i < node->rings; i++) {
		struct link_rx *rx = node->rx[node->order[i]];

		if (receive_peek(node, rx, &rec) != RING_EMPTY || rest_is_disturbed(node, rx)) {
			dispatch_ring_is_hot(node, i);
			return true;
		}
	}
	if (signals_are_due(node))
		return true;
	if (node->notices_left || (node->pulling && (node->peers_pending || node->events_pending)))
		return true; /* seen and not yet given */
	/* sync NOTICE receiver: the last look before sleep; pairs NOTICE prover in
	 * control_announce() */
	return shm_load_acquire(&node->region->common->control_epoch) != node->epoch_seen;
}

/* Whoever receives is not to sleep any more. */
static bool wait_is_over(const struct ringbus_node *node)
{
	return own_load(&node->stop) || own_load(&node->close_wanted) ||
	       (node->heeds_interrupt && own_load(&node->interrupted));
}

/* Lets others run who are ready to: several receivers on one processor would else spend it waiting
 * for each other. Not for some time after one that took long: then somebody computes here, and we
 * have our turn sooner by being woken from sleep. Returns the time. */
#define YIELD_LONG_NS (2 * RB_MS)
#define YIELD_ALONE_NS                                                            \
	1000u /* of a call that let nobody run: then polls in between cost nobody \
	       */
#define YIELD_PAUSE 1024u

static uint64_t let_others_run(struct ringbus_node *node, uint64_t now)
{
	uint64_t then;

	if (node->keeps_to_itself > 0) {
		node->keeps_to_itself--;
		cpu_pause();
		return rb_now_ns();
	}
	sched_yield();
	then = rb_now_ns();
	node->crowded = then - now > YIELD_ALONE_NS;
	if (then - now > YIELD_LONG_NS)
		node->keeps_to_itself = YIELD_PAUSE;
	return then;
}

void wait_for_others(struct ringbus_node *node)
{
	node->crowd_bytes = 0;
	let_others_run(node, rb_now_ns());
}

/* In the middle of a stream a receiver that runs dry stays away from the ring for a moment, so that
 * its sender gets ahead: polling the line that is being written makes the two move in lockstep.
 * Only while that pays: where the sender has no processor of its own nothing comes meanwhile. */
#define STREAM_DRY_NS 2000u
#define STREAM_MISSES_MAX 4u /* such waits in a row that brought nothing */
#define STREAM_RETRY 64u     /* then one in so many */

bool wait_for_stream(struct ringbus_node *node, bool yields)
{
	uint64_t now, end;

	if (node->stream_misses >= STREAM_MISSES_MAX && ++node->stream_skips % STREAM_RETRY != 0)
		return false;
	now = rb_now_ns();
	end = now + STREAM_DRY_NS;
	while (now < end) {
		for (unsigned i = 0; i < 8 && !(yields && node->crowded); i++)
			cpu_pause();
		now = yields ? let_others_run(node, now) : rb_now_ns();
	}
	return true;
}

/* Looks at hot rings and the node's own words for a while. */
static bool spin(struct ringbus_node *node, uint64_t deadline_ns)
{
	uint64_t now = rb_now_ns(), before, spent = 0; /* of our own time */
	struct ring_record rec;

	do {
		for (unsigned round = node->crowded ? 31 : 0; round < 32; round++) {
			for (uint32_t i = 0; i < node->hot; i++)
				if (receive_peek(node, node->rx[node->order[i]], &rec) !=
				    RING_EMPTY)
					return true;
			cpu_pause();
		}
		/* sync NOTICE receiver: a look; pairs NOTICE prover in control_announce() */
		if (shm_load_acquire(&node->region->common->control_epoch) != node->epoch_seen ||
		    signals_are_due(node))
			return true;
		receive_open_rings(node);
		if (wait_is_over(node))
			return true;
		before = now;
		now = let_others_run(node, before);
		spent += node->crowded ? YIELD_ALONE_NS : now - before;
	} while (spent < node->spin_now_ns && now < deadline_ns);
	return false;
}

#define SPIN_MAX_NS 50000u

/* How long to sleep at most, with the safety wake. */
static uint64_t sleep_bound(const struct ringbus_node *node, uint64_t left, bool fenced)
{
	if (rb_unlikely(!fenced))
		return rb_min(left, SLEEP_UNFENCED_NS);
	return node->no_safety_wake ? left : rb_min(left, node->safety_ns);
}

void wait_safety_woke(struct ringbus_node *node, bool came)
{
	if (came)
		shm_count(&node->own->safety_wakes, 1);
	node->safety_ns = came ? SAFETY_FIRST_NS : rb_min(node->safety_ns * 2, SAFETY_LAST_NS);
}

static void woke_by_time(struct ringbus_node *node, uint64_t bound_ns)
{
	if (!node->no_safety_wake && bound_ns == node->safety_ns)
		wait_safety_woke(node, dispatch_pending(node));
}

/* Whether it matters when we came out of a sleep: for the next sleep, or for a record that says
 * when it was sent. Where nothing is to be seen it may be in a ring that is not open yet. */
#define WOKE_LOOKS 4u

static bool woke_time_matters(const struct ringbus_node *node)
{
	bool any = false;

	if (!node->spin_fixed || node->rings > WOKE_LOOKS)
		return true;
	for (uint32_t i = 0; i < node->rings; i++) {
		uint64_t word = ring_rx_glance(&node->rx[node->order[i]]->ring);

		if (word & RECORD_STAMPED)
			return true;
		any |= word != 0;
	}
	return !any;
}

/* Sleeps no longer than left_ns. 0: woken, or there was something before we slept; -ETIMEDOUT: all
 * that time is over; -EAGAIN: the safety wake. now: as it is, if spin_ns is not fixed. */
static int sleep_once(struct ringbus_node *node, uint64_t now, uint64_t left_ns)
{
	uint64_t prepared = doorbell_prepare(&node->bell->inbox), bound;
	bool fenced = dispatch_fence_senders(node);
	int r;

	node->slept = !dispatch_pending(node) && !wait_is_over(node);
	if (!node->slept) {
		doorbell_finish(&node->bell->inbox, prepared);
		return 0;
	}
	bound = sleep_bound(node, left_ns, fenced);
	shm_count(&node->own->sleeps, 1);
	r = doorbell_sleep(&node->bell->inbox, prepared, bound, &node->inbox_unrung);
	if (woke_time_matters(node))
		node->woke_ns = rb_now_ns();
	doorbell_finish(&node->bell->inbox, prepared);
	if (rb_unlikely(r == -ETIMEDOUT))
		woke_by_time(node, bound);
	else
		node->safety_ns = SAFETY_FIRST_NS;
	/* spin next time if what we slept for came soon */
	if (!node->spin_fixed)
		node->spin_now_ns =
			node->woke_ns - now < 4 * SPIN_MAX_NS ? SPIN_MAX_NS : node->spin_now_ns / 2;
	if (r != -ETIMEDOUT)
		return 0;
	return bound < left_ns ? -EAGAIN : -ETIMEDOUT;
}

/* A moment for a stream. True: it went on. */
static bool stream_came(struct ringbus_node *node)
{
	bool came, streams = node->streak >= STREAM_MIN;

	node->streak = 0; /* one message a wait is none, however many waits */
	if (!streams || !wait_for_stream(node, true))
		return false;
	came = dispatch_pending(node);
	node->stream_misses = came ? 0 : node->stream_misses + 1;
	return came;
}

void wait_for_memory(struct ringbus_node *node, uint64_t left_ns)
{
	struct timespec pause = {.tv_nsec = (long)rb_min(left_ns, RB_MS)};

	node->unreached = 0;
	nanosleep(&pause, NULL);
}

/* To read the clock costs as much as a look at a ring: it is not read for who sleeps at once. Nor
 * does it look before it has stored ASLEEP, if the last wait was a sleep. */
int dispatch_wait(struct ringbus_node *node, uint64_t left_ns)
{
	bool spins = node->spin_now_ns > 0 && node->spin_ns > 0;
	bool stays = spins || node->streak >= STREAM_MIN;
	uint64_t now = 0, deadline = 0;
	int r;

	node->empty_polls = 0;
	dispatch_pulled_done(node);
	dispatch_give_all(node);
	if (rb_unlikely(node->unreached < 0)) {
		wait_for_memory(node, left_ns);
		return 0;
	}
	if ((!node->slept || stays || left_ns == 0) && dispatch_pending(node))
		return 0;
	if (stays && left_ns > 0) {
		now = rb_now_ns();
		deadline = rb_deadline_from(now, left_ns);
	}
	if (stream_came(node))
		return 0;
	if (spins && spin(node, deadline))
		return 0;
	if (left_ns == 0)
		return -ETIMEDOUT;
	if (stays || !node->spin_fixed)
		now = rb_now_ns();
	r = sleep_once(node, now, stays ? rb_left_from(now, deadline) : left_ns);
	return r == 0 || dispatch_pending(node) || r == -EAGAIN ? 0 : r;
}

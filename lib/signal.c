/* signal.c: counted signals without payload. Level 4.
 *
 * The word is generation << 32 | count. Signallers add 1 by CAS if the generation is still that of
 * their target, never carrying into it; the owner takes the count by CAS to {own generation, 0}.
 * Then fence and ring, as everybody.
 */
#include "node.h"

#include "error.h"
#include "guard.h"

#include <stdlib.h>

#define SIGNAL_TRIES 100000u

/* A stranger's scribble gave the word to another generation, so that nobody can signal us any more.
 * With a count it is mended when that is taken. */
static rb_cold void mend_word(const struct ringbus_node *node, uint64_t word)
{
	/* relaxed: own word; who took our slot from us mends what we break */
	if (shm_load_relaxed(&node->bell->slot) == own_load_relaxed(&node->live_word))
		/* sync SIGNAL owner: our generation; pairs SIGNAL sender in send_signal() */
		shm_cas(&node->bell->signal, &word, (uint64_t)node->generation << 32);
}

bool signal_pending(const struct ringbus_node *node)
{
	/* sync BELL sleeper: a look; pairs BELL waker in send_signal() */
	uint64_t word = shm_load_acquire(&node->bell->signal);

	if ((uint32_t)word != 0)
		return true;
	if (rb_unlikely(word >> 32 != node->generation))
		mend_word(node, word);
	return false;
}

uint64_t signal_take(struct ringbus_node *node)
{
	uint64_t word;

	shm_prefetch_write(&node->bell->signal);
	/* sync SIGNAL owner: count; pairs SIGNAL sender in send_signal() */
	word = shm_load_acquire(&node->bell->signal);
	/* Each failed CAS means that a signal was added; bounded all the same. */
	for (unsigned i = 0; i < 1000 && (uint32_t)word != 0; i++)
		/* sync SIGNAL owner: taken once; pairs SIGNAL sender in send_signal() */
		if (shm_cas(&node->bell->signal, &word, (uint64_t)node->generation << 32))
			return (uint32_t)word;
	return 0;
}

/* The new turn before the look at the sleepers, the sleeper's count before the futex compares the
 * turn; both are RMW, so one of the two sees the other. */
void signal_turn(struct ringbus_node *node)
{
	own_add(&node->signal_turn, 1);
	if (own_load(&node->signal_sleepers) > 0)
		doorbell_private_wake(&node->signal_turn);
}

static int send_signal(struct ringbus_node *node, uint32_t slot, uint32_t generation)
{
	struct layout_bell *bell = &node->region->bells[slot];
	uint64_t word, last;

	shm_prefetch_write(&bell->signal);
	/* sync SIGNAL sender: generation and count; pairs SIGNAL owner in signal_take() */
	word = shm_load_acquire(&bell->signal);
	/* Each failed CAS means that another signal got in. Nobody among the honest loses so often
	 * in a row. */
	for (unsigned tries = 0;; tries++) {
		if (tries == SIGNAL_TRIES)
			return rb_fail(-EBADMSG,
				       "somebody overwrites the signal word of slot %u all the "
				       "time",
				       slot);
		if (word >> 32 != generation)
			return rb_fail(-ESRCH, "the node in slot %u has just left", slot);
		if ((uint32_t)word == UINT32_MAX)
			break; /* saturated */
		/* sync SIGNAL sender: one more for this owner; pairs SIGNAL owner in signal_take()
		 */
		if (shm_cas(&bell->signal, &word, word + 1))
			break;
	}
	KILL_POINT("X_SIGNAL_COUNTED");
	/* sync BELL waker: the count before the look at the inbox; pairs BELL sleeper in
	 * doorbell_prepare(). Saturated: it stood there before our load of it, so that loads in
	 * order are enough. */
	shm_fence_after_rmw();
	last = own_load_relaxed(&node->signal_last[slot]);
	doorbell_ring(&bell->inbox, &last);
	own_store(&node->signal_last[slot], last);
	return 0;
}

int ringbus_signal_address(struct ringbus_node *node, const struct ringbus_address *to)
{
	int r = node_enter(node);
	uint64_t word;

	if (r < 0)
		return r;
	if (!to)
		return rb_fail(-EINVAL, "no address");
	if (to->slot >= node->region->g.nodes)
		return rb_fail(-ESRCH, "slot %u is out of range", to->slot);
	if (to->slot == node->slot)
		return rb_fail(-EINVAL, "a node cannot signal itself");
	/* sync SLOT reader: state before the signal word; pairs SLOT writer in control_grant() */
	word = shm_load_acquire(&node->region->bells[to->slot].slot);
	if (slot_state(word) != SLOT_LIVE ||
	    (to->generation != 0 && to->generation != slot_generation(word)))
		return rb_fail(-ESRCH, "no node in slot %u with generation %u", to->slot,
			       to->generation);
	return send_signal(node, to->slot, slot_generation(word));
}

int ringbus_signal(struct ringbus_node *node, uint32_t pid)
{
	struct ringbus_address to;
	int r = ringbus_node_find_pid(node, pid, &to);

	return r < 0 ? r : ringbus_signal_address(node, &to);
}

#define RECEIVER_SLICE_NS (100 * RB_MS)

/* Sleeps in the inbox, as no other thread does, for as long as nothing comes: whoever signals
 * fences and then looks at the inbox (BELL). The safety wake is the receiver's, whom we stand for.
 */
static void sleep_for_signal(struct ringbus_node *node, uint64_t asked, uint64_t left)
{
	uint64_t prepared = doorbell_prepare(&node->bell->inbox);
	uint64_t bound = node->no_safety_wake ? left : rb_min(left, node->safety_ns);
	bool fenced = !node->fdwatch || fdwatch_look(node);
	int r = 0;

	if (!signal_pending(node) && !own_load(&node->close_wanted) &&
	    !own_load(&node->interrupted) && own_load(&node->signal_asked) == asked) {
		shm_count(&node->own->sleeps, 1);
		r = doorbell_sleep(&node->bell->inbox, prepared,
				   fenced ? bound : rb_min(bound, SLEEP_UNFENCED_NS),
				   &node->inbox_unrung);
	}
	doorbell_finish(&node->bell->inbox, prepared);
	if (r != -ETIMEDOUT) {
		node->safety_ns = SAFETY_FIRST_NS;
	} else if (fenced && bound < left) {
		wait_safety_woke(node, signal_pending(node));
	}
}

/* Sleeps while another thread receives, which bumps the turn when it sees a signal and when it
 * ends. In slices, for two reasons: it may be in a handler for long, where it sees nothing and the
 * inbox, being awake, is not rung; and receive_end() does not fence between its end and its look
 * at signal_waiters, since that would cost every message, so that it may miss who begins to wait
 * just then. */
static void sleep_for_turn(struct ringbus_node *node, uint64_t turn, uint64_t ns)
{
	own_add(&node->signal_sleepers, 1);
	doorbell_private_wait(&node->signal_turn, (uint32_t)turn, ns);
	own_add(&node->signal_sleepers, (uint64_t)-1);
}

/* Whoever waits for signals sleeps in the inbox, as one who receives would, and is in nobody's way:
 * who wants to receive asks it to leave. The question, then a fence, then the look at the inbox (it
 * prepares, fences, and looks whether it was asked): one of the two sees the other (BELL). It
 * leaves, and stays away for SHY_NS, so that a thread that polls in a loop does not have to ask
 * each time; meanwhile that one sees the signals, or they wait for so long. */
#define SHY_NS (10 * RB_MS)

bool signal_gives_way(struct ringbus_node *node)
{
	uint64_t last = 0, turn;

	while (own_load(&node->receiving) != RECEIVING) {
		turn = own_load(&node->signal_turn);
		if (own_cas(&node->receiving, 0, RECEIVING))
			return true;
		own_add(&node->signal_asked, 1);
		/* sync BELL waker: the question before the look at the inbox; pairs BELL sleeper in
		 * doorbell_prepare() */
		shm_fence();
		last = 0;
		doorbell_ring(&node->bell->inbox, &last);
		sleep_for_turn(node, turn, RB_MS);
	}
	return false;
}

void signal_receiver_ends(struct ringbus_node *node)
{
	if (own_load(&node->signal_shy) == 0 || signal_pending(node))
		signal_turn(node);
}

/* In the place of whoever receives. asked: as before that was taken. True: it was asked to leave.
 */
static bool sleep_as_receiver(struct ringbus_node *node, uint64_t asked, uint64_t left)
{
	own_store(&node->receiver, receive_thread());
	if (node->fdwatch)
		fdwatch_busy(node);
	sleep_for_signal(node, asked, left);
	receive_end(node);
	return own_load(&node->signal_asked) != asked;
}

static void stay_away(struct ringbus_node *node, uint64_t deadline_ns)
{
	uint64_t turn = own_load(&node->signal_turn);

	own_add(&node->signal_shy, 1);
	if (!signal_pending(node))
		sleep_for_turn(node, turn, rb_min(rb_left_ns(deadline_ns), SHY_NS));
	own_add(&node->signal_shy, (uint64_t)-1);
}

int ringbus_signal_wait(struct ringbus_node *node, uint64_t *count, uint64_t timeout_ns)
{
	uint64_t left = timeout_ns, deadline = rb_deadline_ns(timeout_ns);
	int r = node_enter(node);
	uint64_t n = 0;

	if (r < 0)
		return r;
	own_add(&node->signal_waiters, 1);
	for (bool again = false;; again = true) {
		uint64_t turn = own_load(&node->signal_turn), asked = own_load(&node->signal_asked);

		n = signal_take(node);
		if (n == 0 && again)
			left = rb_left_ns(deadline);
		if (n > 0 || left == 0)
			break;
		if (own_load(&node->interrupted)) {
			r = -EINTR;
			break;
		}
		if (own_cas(&node->receiving, 0, RECEIVING_SIGNALS)) {
			if (sleep_as_receiver(node, asked, left))
				stay_away(node, deadline);
		} else if (receive_is_ours(node)) {
			break; /* from within a handler: never sleeps */
		} else {
			sleep_for_turn(node, turn, rb_min(left, RECEIVER_SLICE_NS));
		}
		if (own_load(&node->close_wanted) || guard_condemned(node->region))
			break;
	}
	own_add(&node->signal_waiters, (uint64_t)-1);
	if (r < 0)
		return rb_fail_plain(r);
	if (n == 0 && own_load(&node->close_wanted))
		return rb_fail_plain(-ENOTCONN);
	if (n == 0)
		return node_guarded(node, rb_fail_plain(timeout_ns == 0 ? -EAGAIN : -ETIMEDOUT));
	if (count)
		*count = n;
	return 0;
}

bool signal_give(struct ringbus_node *node)
{
	const struct signal_target *target =
		(const struct signal_target *)(uintptr_t)own_load(&node->on_signal);

	uint64_t count = target ? signal_take(node) : 0;

	if (count == 0)
		return false; /* no handler any more, or a thread that waited took them just now */
	target->handler(count, target->user);
	return true;
}

int ringbus_on_signal(struct ringbus_node *node, ringbus_signal_handler handler, void *user)
{
	struct signal_target *target = NULL;
	int r = node_enter(node);
	uint64_t last = 0;

	if (r < 0)
		return r;
	if (handler) {
		target = malloc(sizeof(*target));
		if (!target)
			return -ENOMEM;
		pthread_mutex_lock(&node->events_lock);
		*target = (struct signal_target){handler, user, node->signal_targets};
		node->signal_targets = target;
		pthread_mutex_unlock(&node->events_lock);
	}
	own_store(&node->on_signal, (uintptr_t)target);
	/* sync BELL waker: the handler before the look at the inbox; pairs BELL sleeper in
	 * doorbell_prepare() */
	shm_fence();
	doorbell_ring(&node->bell->inbox, &last);
	return 0;
}

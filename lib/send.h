/* send.h: what the common path (emit.c) and the general path (send.c) of sending share. Level 4.
 *
 * Mode (sync MODE, see doorbell.h): FENCED senders fence once per emission, after all publications.
 * One that did not have to wake anybody for a while becomes UNFENCED: stores the mode, full fence,
 * goes on. One that finds receivers asleep becomes FENCED again by a release store, since sleepers
 * pay a membarrier for unfenced senders.
 */
#ifndef RINGBUS_SEND_H
#define RINGBUS_SEND_H

#include "node.h"
#include "probes.h"

#define SEND_AWAKE_STREAK 64u /* emissions without a wake before the fence is left out */
#define SEND_WAKES 2u	      /* wakes, since then, until it is put back */
#define SEND_STAMP_EVERY 256u /* so that of a conversation fewer than one in 100 are slower */
#define SEND_STAMP_EVERY_ASLEEP 16u
#define SEND_FAN_INLINE_MAX 512u /* payload bytes that are copied into more than one ring */

/* Changes the mode by what the last emission found. */
rb_inline void send_adapt_mode(struct ringbus_node *node, int woke)
{
	if (woke > 0) {
		node->awake_streak = 0;
		shm_count(&node->own->wakes, (uint64_t)woke);
		if (node->unfenced && ++node->asleep_score >= SEND_WAKES) {
			node->unfenced = false;
			/* sync MODE sender: FENCED with release; pairs MODE sleeper in
			 * dispatch_fence_senders() */
			shm_fetch_and(&node->own->mode, ~(uint64_t)NODE_MODE_UNFENCED);
		}
		return;
	}
	if (node->unfenced || ++node->awake_streak < SEND_AWAKE_STREAK)
		return;
	node->awake_streak = 0;
	node->asleep_score = 0;
	if (node->membarrier && !node->must_fence) {
		/* sync MODE sender: UNFENCED, then a full fence, before the first emission without
		 * one; pairs MODE sleeper in dispatch_fence_senders() */
		shm_fetch_or(&node->own->mode, NODE_MODE_UNFENCED);
		shm_fence();
		node->unfenced = true;
	}
}

/* Between the publications and the looks at the inboxes. */
rb_inline void send_fence(const struct ringbus_node *node)
{
	if (node->unfenced)
		shm_light_fence();
	else
		/* sync BELL waker: all publications before the looks at the inboxes; pairs BELL
		 * sleeper in doorbell_prepare() */
		shm_fence();
}

int send_two_threads(void); /* says so: -EBUSY */
/* The receiver's slot has this owner, LIVE, whom we did not know. */
void send_meet(struct ringbus_node *node, struct link_tx *tx, uint64_t word);

/* Whether the next record of this pair may have a time stamp, so that there must be room for it. */
rb_inline bool send_stamp_may_be_due(const struct link_tx *tx)
{
	/* relaxed: own word */
	return shm_load_relaxed(&tx->ring.ctl->messages) % SEND_STAMP_EVERY_ASLEEP == 0;
}

/* Whether it has one. Of those that wake their receiver more have: to read the clock is little
 * beside the wake-up. The answer may be another the next time. */
rb_inline bool send_stamp_is_due(const struct link_tx *tx)
{
	if (rb_likely(!send_stamp_may_be_due(tx)))
		return false;
	/* relaxed, both: own word; a look */
	return shm_load_relaxed(&tx->ring.ctl->messages) % SEND_STAMP_EVERY == 0 ||
	       (shm_load_relaxed(&tx->bell->inbox) & (BELL_ASLEEP | BELL_WOKEN)) == BELL_ASLEEP;
}

/* Wakes a receiver that sleeps. Its sender may be idle from now on, so the hint is stored first: so
 * the receiver notices a header that was overwritten with 0. Returns 1 if it made a wake call. */
int send_wake(struct link_tx *tx);

/* A look at the receiver's inbox after a publication; the caller has fenced as its mode asks. */
rb_inline int send_ring(struct link_tx *tx)
{
	/* sync BELL waker: what the sleeper waits for (fenced) before this load; pairs BELL sleeper
	 * in doorbell_prepare() */
	if (rb_likely(!(shm_load_acquire(&tx->bell->inbox) & BELL_ASLEEP)))
		return 0;
	return send_wake(tx);
}

/* Rights to emit to an event whose entry has changed: keeps the word in the handle. */
int send_event_changed(struct ringbus_event *e, uint64_t id, uint64_t word);

/* Whether we are a member, who may emit a MULTI event. */
rb_inline bool send_is_member(const struct ringbus_node *node, const struct layout_event *entry)
{
	/* sync EVENT emitter: rights; pairs EVENT holder in bit_set() */
	return shm_load_acquire(&entry->members[node->slot / 64]) >> node->slot % 64 & 1;
}

/* 0: we may emit now to the entry that the handle names by this id. Its word as last seen is kept
 * in the handle. */
rb_inline int send_event_current(struct ringbus_event *e, uint64_t id)
{
	const struct layout_event *entry = event_entry(e->node, id);
	/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
	uint64_t word = shm_load_acquire(&entry->word);

	if (rb_unlikely(word != e->word || id != e->known_id)) {
		int r = send_event_changed(e, id, word);

		if (r < 0)
			return r;
	}
	if (event_mode(word) == 0)
		return e->may_emit_single ? 0 : -EPERM;
	return send_is_member(e->node, entry) ? 0 : -EPERM;
}

/* The same by what is in the handle. False: send_event_current() knows. */
rb_inline bool send_event_is_current(const struct ringbus_event *e, uint64_t id)
{
	const struct layout_event *entry = event_entry(e->node, id);
	/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
	uint64_t word = shm_load_acquire(&entry->word);

	if (rb_unlikely(word != e->word || id != e->known_id))
		return false;
	return event_mode(word) == 0 ? e->may_emit_single : send_is_member(e->node, entry);
}

/* The one sending thread of a single_sender node begins. False: there are two (debug builds). */
rb_inline bool send_enter_alone(struct ringbus_node *node)
{
#ifdef NDEBUG
	(void)node;
	return true;
#else
	return own_cas(&node->sending, 0, 1);
#endif
}

rb_inline void send_leave_alone(struct ringbus_node *node)
{
#ifdef NDEBUG
	(void)node;
#else
	own_store(&node->sending, 0);
#endif
}

/* Excludes other sending threads. -EBUSY: two of them on a single_sender node (debug builds). */
rb_inline int send_enter(struct ringbus_node *node)
{
	if (node->single_sender)
		return send_enter_alone(node) ? 0 : send_two_threads();
	pthread_mutex_lock(&node->send_lock);
	return 0;
}

rb_inline void send_leave(struct ringbus_node *node)
{
	if (node->single_sender)
		send_leave_alone(node);
	else
		pthread_mutex_unlock(&node->send_lock);
}

#endif

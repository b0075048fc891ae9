/* notice.c: notices, derived by the receiver from slot and event words. Level 4.
 *
 * They are not ring records: the ring may be full, and a reaper is not its producer. Whoever
 * changes something bumps the control epoch afterwards and rings; we read the epoch first, then
 * what changed (sync NOTICE). The notice of an end comes after the last message: the ring is
 * drained to its end or to the first record of a newer owner, and such a record waits for the
 * notice. Owners of one slot that come and go faster than we look coalesce, if neither they sent to
 * us nor we to them: the next notice about the slot counts them.
 */
#include "node.h"

static uint64_t slot_now(const struct ringbus_node *node, uint32_t slot)
{
	/* sync NOTICE receiver: slot word after the epoch; pairs NOTICE prover in
	 * control_mark_dead() */
	return shm_load_acquire(&node->region->bells[slot].slot);
}

void notice_start(struct ringbus_node *node)
{
	/* sync NOTICE receiver: epoch before the snapshot; pairs NOTICE prover in
	 * control_announce() */
	node->epoch_seen = shm_load_acquire(&node->region->common->control_epoch);
	for (uint32_t s = 0; s < node->region->g.nodes; s++) {
		uint64_t word = slot_now(node, s);

		struct peer_seen *seen = &node->peers[s];

		*seen = (struct peer_seen){.ended = slot_generation(word)};
		if (slot_state(word) == SLOT_GRANTED || slot_state(word) == SLOT_JOINING ||
		    slot_state(word) == SLOT_LIVE)
			seen->ended--;
		if (slot_state(word) == SLOT_LIVE && s != node->slot) {
			seen->generation = slot_generation(word);
			seen->pid = slot_pid(word);
		}
	}
}

void notice_scan(struct ringbus_node *node)
{
	/* sync NOTICE receiver: epoch before slots and events; pairs NOTICE prover in
	 * control_announce() */
	node->epoch_seen = shm_load_acquire(&node->region->common->control_epoch);
	node->peers_pending = true;
	node->events_pending = true;
}

/* The ring from a slot, as of now: its owner may have paired and sent since this turn's look at
 * `paired`, and ended since. NULL: it never sent. */
static struct link_rx *ring_from(struct ringbus_node *node, uint32_t slot)
{
	if (!node->rx[slot])
		receive_open_rings(node);
	return node->rx[slot];
}

/* Whether nothing of this owner is left unread. A record of an older owner may still stand before
 * its own. */
static bool drained_of(struct ringbus_node *node, uint32_t slot, uint32_t generation)
{
	struct link_rx *rx = ring_from(node, slot);
	struct ring_record rec;

	return !rx || receive_peek(node, rx, &rec) != RING_RECORD ||
	       slot_is_newer((uint32_t)rec.generations, generation);
}

static enum ringbus_notice how_it_ended(struct ringbus_node *node, uint32_t slot,
					uint32_t generation, uint64_t word)
{
	uint64_t ended;

	if (slot_generation(word) == generation && slot_state(word) != SLOT_FREE)
		return slot_state(word) == SLOT_DEAD ? RINGBUS_PEER_DIED : RINGBUS_PEER_LEFT;
	ended = shm_load_relaxed(
		&node->region->records[slot].ended); /* relaxed: stored before FREE (SLOT) */
	return slot_ended_left(ended, generation) ? RINGBUS_PEER_LEFT : RINGBUS_PEER_DIED;
}

static void fill(struct ringbus_node *node, struct ringbus_message *m, enum ringbus_notice notice)
{
	*m = (struct ringbus_message){.kind = RINGBUS_NOTICE,
				      .notice = notice,
				      .data = "",
				      .node = node};
}

/* The last owner that we heard of by its records. */
static uint32_t heard_of(const struct ringbus_node *node, const struct link_rx *rx)
{
	return rx && rx->generations >> 32 == node->generation ? (uint32_t)rx->generations : 0;
}

/* Whether it ended, as this slot word of the same time or later tells. */
static bool has_ended(uint64_t word, uint32_t generation)
{
	enum slot_state state = slot_state(word);

	if (slot_generation(word) != generation)
		return slot_is_newer(slot_generation(word), generation);
	return state != SLOT_GRANTED && state != SLOT_JOINING && state != SLOT_LIVE;
}

/* An owner that came and went between two looks, but we sent to it, or it to us; the older one if
 * there are two, for the newer one's turn comes after it. 0: none. */
static uint32_t missed_owner(struct ringbus_node *node, uint32_t slot, uint32_t *pid)
{
	const struct link_rx *rx = node->rx[slot];
	uint64_t partner = own_load(&node->partner[slot]);
	uint32_t heard = heard_of(node, rx), missed = 0, ended = node->peers[slot].ended;
	uint64_t word = slot_now(node, slot); /* after both: not older than they are */

	if (partner != 0 && slot_is_newer(slot_generation(partner), ended) &&
	    has_ended(word, slot_generation(partner))) {
		missed = slot_generation(partner);
		*pid = slot_pid(partner);
	}
	if (heard != 0 && slot_is_newer(heard, ended) && has_ended(word, heard) &&
	    (missed == 0 || slot_is_newer(missed, heard))) {
		missed = heard;
		*pid = rx->pid;
	}
	return missed;
}

bool notice_comes_first(struct ringbus_node *node, const struct link_rx *rx, uint32_t generation)
{
	uint32_t known = node->peers[rx->slot].generation, pid;
	uint64_t word;

	if (known == 0)
		known = missed_owner(node, rx->slot, &pid);
	if (known == 0 || !slot_is_newer(generation, known))
		return false;
	word = slot_now(node, rx->slot);
	if (slot_state(word) == SLOT_LIVE && slot_generation(word) == known)
		return false; /* it lives: the record lies, and no notice would ever come */
	notice_scan(node);
	return true;
}

/* Whether a record for us stands there of an owner before this one; 0: of any. */
static bool older_unread(struct ringbus_node *node, uint32_t slot, uint32_t generation)
{
	struct link_rx *rx = generation == 0 ? node->rx[slot] : ring_from(node, slot);
	struct ring_record rec;

	return rx && receive_peek(node, rx, &rec) == RING_RECORD &&
	       rec.generations >> 32 == node->generation &&
	       (generation == 0 || slot_is_newer(generation, (uint32_t)rec.generations));
}

/* Takes such an owner for known. Not before the messages of those before it: they are to be heard
 * of first. */
static void recall(struct ringbus_node *node, uint32_t slot)
{
	uint32_t pid, missed = missed_owner(node, slot, &pid);

	if (missed == 0 || older_unread(node, slot, missed))
		return;
	node->peers[slot].generation = missed;
	node->peers[slot].pid = pid;
}

/* A notice about one slot; false: none now. *later is set if one is due after more messages. */
static bool peer_notice(struct ringbus_node *node, uint32_t slot, struct ringbus_message *m,
			bool *later)
{
	struct peer_seen *seen = &node->peers[slot];
	uint64_t word;
	bool live;

	if (seen->generation == 0)
		recall(node, slot);
	word = slot_now(node, slot);
	live = slot_state(word) == SLOT_LIVE;
	if (seen->generation != 0 && !(live && slot_generation(word) == seen->generation)) {
		if (!drained_of(node, slot, seen->generation)) {
			*later = true;
			return false;
		}
		fill(node, m, how_it_ended(node, slot, seen->generation, word));
		m->sender = (struct ringbus_address){seen->pid, slot, seen->generation};
		m->count = seen->generation - seen->ended - 1;
		if (m->notice == RINGBUS_PEER_DIED)
			shm_count(&node->own->dead_peers, 1);
		seen->ended = seen->generation;
		seen->generation = 0;
		*later = true; /* a new owner may be there already */
		if (node->rx[slot] && node->rx[slot]->extents) {
			dispatch_give_all(node);
			control_reclaim_read(node->region, slot, rb_deadline_ns(RB_MS));
		}
		return true;
	}
	if (seen->generation == 0 && older_unread(node, slot, live ? slot_generation(word) : 0)) {
		*later = true;
		return false;
	}
	if (seen->generation == 0 && live) {
		seen->generation = slot_generation(word);
		seen->pid = slot_pid(word);
		fill(node, m, RINGBUS_PEER_JOINED);
		m->sender = (struct ringbus_address){seen->pid, slot, seen->generation};
		m->count = seen->generation - seen->ended - 1;
		seen->ended = seen->generation - 1;
		return true;
	}
	return false;
}

static bool next_peer_notice(struct ringbus_node *node, struct ringbus_message *m)
{
	bool later = false;

	for (uint32_t s = 0; s < node->region->g.nodes; s++) {
		if (s == node->slot)
			continue;
		/* an end and a beginning; more only while somebody overwrites the slot word */
		for (unsigned i = 0; i < 4 && peer_notice(node, s, m, &later); i++)
			if (node->peer_notices)
				return true;
	}
	node->peers_pending = later;
	/* what comes later comes with more messages; what came just now is done */
	return false;
}

/* Whether a ring was read to its end, or as far as `at`. */
static bool ring_has_passed(struct ringbus_node *node, struct link_rx *rx, uint64_t at)
{
	struct ring_record rec;

	return receive_peek(node, rx, &rec) != RING_RECORD || (int64_t)(rx->ring.at - at) >= 0;
}

/* Where it is not known whose messages must come first, those of all must: a round begins with all
 * that stands in the rings, and is over when all of it was read. Whoever comes while one is under
 * way waits for the next. */
static bool round_is_over(struct ringbus_node *node)
{
	bool over = true;

	for (uint32_t i = 0; i < node->rings; i++) {
		struct link_rx *rx = node->rx[node->order[i]];

		if (rx->in_round && ring_has_passed(node, rx, rx->round_at))
			rx->in_round = false;
		over &= !rx->in_round;
	}
	return over;
}

static void round_begins(struct ringbus_node *node)
{
	receive_open_rings(node);
	for (uint32_t i = 0; i < node->rings; i++) {
		struct link_rx *rx = node->rx[node->order[i]];

		rx->in_round = true;
		rx->round_at = rx->ring.at + rx->ring.capacity;
	}
	node->round++;
}

static void rounds_go_on(struct ringbus_node *node)
{
	if (node->rounds_done < node->round && round_is_over(node))
		node->rounds_done = node->round;
	if (node->rounds_done == node->round && node->round < node->rounds_asked) {
		round_begins(node);
		if (round_is_over(node))
			node->rounds_done = node->round;
	}
}

bool rings_passed(struct ringbus_node *node, uint64_t *round)
{
	if (*round == 0) {
		*round = node->rounds_asked = node->round + 1;
		rounds_go_on(node);
	}
	return node->rounds_done >= *round;
}

/* What must be read before the event's end is told: of its last owner's ring, which is NULL if it
 * is not known, what is there now. */
static void set_due(struct ringbus_node *node, struct ringbus_event *e, struct link_rx *rx)
{
	e->due = true;
	e->due_ring = rx;
	if (rx) {
		e->due_at = rx->ring.at + rx->ring.capacity;
		return;
	}
	e->due_at = 0;
	rings_passed(node, &e->due_at);
}

/* Whether all that the event's last owner sent before its end was read. changes: of the entry, as
 * seen now. */
static bool due_passed(struct ringbus_node *node, struct ringbus_event *e, bool gone,
		       uint64_t changes)
{
	uint32_t owner = LAYOUT_NO_SLOT;

	if (!e->due || e->due_gone != gone || (!gone && e->due_changes != changes)) {
		if (event_state(e->seen_word) == EVENT_LIVE && changes == e->seen_changes)
			owner = event_owner(e->seen_word);
		e->due_gone = gone;
		e->due_changes = changes;
		set_due(node, e, owner < LAYOUT_NODES_MAX ? ring_from(node, owner) : NULL);
	}
	return e->due_ring ? ring_has_passed(node, e->due_ring, e->due_at)
			   : node->rounds_done >= e->due_at;
}

static bool event_notice(struct ringbus_node *node, struct ringbus_event *e,
			 struct ringbus_message *m, bool *later)
{
	/* sync EVENT receiver: word after the epoch (NOTICE); pairs EVENT holder in publish_word()
	 */
	uint64_t word = shm_load_acquire(&e->entry->word);
	/* relaxed: stored before the word */
	uint64_t changes = shm_load_relaxed(&e->entry->changes);
	bool gone = event_generation(word) != e->generation || event_state(word) == EVENT_FREE;
	bool was_live = event_state(e->seen_word) == EVENT_LIVE;

	/* created and orphaned between two looks: the orphaning is told */
	if (gone ||
	    (event_state(word) == EVENT_ORPHAN && (was_live || changes != e->seen_changes))) {
		if (!due_passed(node, e, gone, changes)) {
			*later = true;
			return false;
		}
		fill(node, m, gone ? RINGBUS_EVENT_DISSOLVED : RINGBUS_EVENT_ORPHANED);
		if (gone)
			event_ended(e);
	} else if (event_state(word) == EVENT_LIVE && (!was_live || changes != e->seen_changes)) {
		fill(node, m, RINGBUS_EVENT_CREATED);
		m->count = event_mode(word);
		m->sender.slot = event_owner(word);
		m->sender.generation = (uint32_t)shm_load_relaxed(
			&e->entry->owner_generation); /* relaxed: as above */
	} else {
		return false;
	}
	m->event = e;
	e->due = false;
	e->seen_word = word;
	e->seen_changes = changes;
	return true;
}

static bool next_event_notice(struct ringbus_node *node, struct ringbus_message *m)
{
	bool later = false, found = false;

	pthread_mutex_lock(&node->events_lock);
	rounds_go_on(node);
	for (struct ringbus_event *e = node->all; e && !found; e = e->next) {
		if (e->fading && event_faded(e, &later)) {
			fill(node, m, RINGBUS_EVENT_DISSOLVED);
			m->event = e;
			found = true;
		} else if (e->subscribed) {
			found = event_notice(node, e, m, &later);
		}
	}
	pthread_mutex_unlock(&node->events_lock);
	if (!found)
		node->events_pending = later;
	return found;
}

bool notice_next(struct ringbus_node *node, struct ringbus_message *m)
{
	struct link_rx *rx = node->lost_rx;

	if (rx) {
		uint64_t drops = shm_load_relaxed(&rx->ring.ctl->drops); /* relaxed: counter */

		node->lost_rx = NULL;
		/* told to nobody it would be lost: the next message tells it */
		if (drops != rx->drops && (node->on_notice || node->pulling)) {
			fill(node, m, RINGBUS_LOST);
			m->count = drops - rx->drops;
			m->sender = (struct ringbus_address){rx->pid, rx->slot,
							     (uint32_t)rx->generations};
			rx->drops = drops;
			shm_store_relaxed(&rx->ring.rx->drops_seen, drops); /* relaxed: for tools */
			return true;
		}
	}
	if (node->peers_pending && next_peer_notice(node, m))
		return true;
	return node->events_pending && next_event_notice(node, m);
}

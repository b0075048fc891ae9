/* notice.c: notices, derived by the receiver from slot and event words. Level 4.
 *
 * They are not ring records: the ring may be full, and a reaper is not its producer. Whoever
 * changes something bumps the control epoch afterwards and rings; we read the epoch first, then
 * what changed (sync NOTICE). The notice of an end comes after the last message: the ring is
 * drained to its end or to the first record of a newer owner. Changes of one slot that follow each
 * other faster than we look coalesce.
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

		if (slot_state(word) == SLOT_LIVE && s != node->slot)
			node->peers[s] = (struct peer_seen){.generation = slot_generation(word),
							    .pid = slot_pid(word)};
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

/* Whether nothing of this owner is left unread. A record of an older owner may still stand before
 * its own. */
static bool drained_of(struct ringbus_node *node, uint32_t slot, uint32_t generation)
{
	struct link_rx *rx = node->rx[slot];
	struct ring_record rec;

	return !rx || ring_rx_peek(&rx->ring, &rec) != RING_RECORD ||
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
	return ended >> 32 == generation && (ended & 0xff) == SLOT_LEFT ? RINGBUS_PEER_LEFT
									: RINGBUS_PEER_DIED;
}

static void fill(struct ringbus_node *node, struct ringbus_message *m, enum ringbus_notice notice)
{
	*m = (struct ringbus_message){.kind = RINGBUS_NOTICE,
				      .notice = notice,
				      .data = "",
				      .node = node};
}

/* A notice about one slot; false: none now. *later is set if one is due after more messages. */
static bool peer_notice(struct ringbus_node *node, uint32_t slot, struct ringbus_message *m,
			bool *later)
{
	struct peer_seen *seen = &node->peers[slot];
	uint64_t word = slot_now(node, slot);
	bool live = slot_state(word) == SLOT_LIVE;

	if (seen->generation == 0) {
		uint64_t partner = own_load(&node->partner[slot]);

		/* it came and went between two looks, but we sent to it */
		if (slot_generation(partner) != seen->ended && !(live && partner == word))
			*seen = (struct peer_seen){.generation = slot_generation(partner),
						   .pid = slot_pid(partner),
						   .ended = seen->ended};
	}
	if (seen->generation != 0 && !(live && slot_generation(word) == seen->generation)) {
		if (!drained_of(node, slot, seen->generation)) {
			*later = true;
			return false;
		}
		fill(node, m, how_it_ended(node, slot, seen->generation, word));
		m->sender = (struct ringbus_address){seen->pid, slot, seen->generation};
		if (m->notice == RINGBUS_PEER_DIED)
			shm_count(&node->own->dead_peers, 1);
		seen->ended = seen->generation;
		seen->generation = 0;
		*later = true; /* a new owner may be there already */
		return true;
	}
	if (seen->generation == 0 && live) {
		seen->generation = slot_generation(word);
		seen->pid = slot_pid(word);
		fill(node, m, RINGBUS_PEER_JOINED);
		m->sender = (struct ringbus_address){seen->pid, slot, seen->generation};
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
		while (peer_notice(node, s, m, &later))
			if (node->peer_notices)
				return true;
	}
	node->peers_pending = later;
	/* what comes later comes with more messages; what came just now is done */
	return false;
}

/* Whether all that the event's owner sent before its end was read: its ring is empty, or read past
 * where it could have been. */
static bool due_passed(struct ringbus_node *node, struct ringbus_event *e, uint32_t owner)
{
	struct link_rx *rx = owner < LAYOUT_NODES_MAX ? node->rx[owner] : NULL;
	struct ring_record rec;

	if (!rx)
		return true;
	if (!e->due) {
		e->due = true;
		e->due_at = rx->ring.at + rx->ring.capacity;
	}
	return ring_rx_peek(&rx->ring, &rec) != RING_RECORD ||
	       (int64_t)(rx->ring.at - e->due_at) >= 0;
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
		if (!due_passed(node, e, event_owner(e->seen_word))) {
			*later = true;
			return false;
		}
		e->due = false;
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
	e->seen_word = word;
	e->seen_changes = changes;
	return true;
}

static bool next_event_notice(struct ringbus_node *node, struct ringbus_message *m)
{
	bool later = false, found = false;

	pthread_mutex_lock(&node->events_lock);
	for (struct ringbus_event *e = node->all; e && !found; e = e->next)
		if (e->subscribed)
			found = event_notice(node, e, m, &later);
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
		if (drops != rx->drops) {
			fill(node, m, RINGBUS_LOST);
			m->count = drops - rx->drops;
			m->sender = (struct ringbus_address){rx->pid, rx->slot,
							     (uint32_t)rx->generations};
			rx->drops = drops;
			return true;
		}
	}
	if (node->peers_pending && next_peer_notice(node, m))
		return true;
	return node->events_pending && next_event_notice(node, m);
}

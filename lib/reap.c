/* reap.c: what a dead owner left is cleaned up; library code, so that nobody depends on the
 * service. Level 3.
 *
 * Marking a death takes no lock: CAS LIVE(g) to DEAD(g) from exactly the word that the evidence was
 * gathered for, bump the control epoch, fence, ring all doorbells (sync NOTICE). Each prover bumps
 * and rings once, also when DEAD already stands: whoever marked it may be stopped before his ring.
 * So a stopped lock holder delays no notice and strands no message that the dead had published
 * without waking. Freeing is done under the control lock: clean first, FREE last (X_REAP_CLEANED:
 * done again by the next reaper).
 */
#include "control_private.h"
#include "doorbell.h"
#include "error.h"
#include "pool.h"

void control_announce_to(struct region *region, const uint64_t *audience)
{
	/* sync NOTICE prover: the change before the epoch; pairs NOTICE receiver in notice_scan()
	 */
	shm_fetch_add(&region->common->control_epoch, 1);
	KILL_POINT("X_NOTICE_EPOCH");
	/* sync BELL waker: the epoch before the looks at the words; pairs BELL sleeper in
	 * doorbell_prepare() */
	shm_fence();
	for (uint32_t s = 0; s < region->g.nodes; s++) {
		uint64_t last[2] = {0, 0};

		/* relaxed: stored before LIVE; stale: as if the node had joined later, or a wake
		 * too many */
		if (audience && !(audience[s / 64] >> s % 64 & 1) &&
		    shm_load_relaxed(&region->bells[s].watches) == 0)
			continue;
		doorbell_ring(&region->bells[s].inbox, &last[0]);
		doorbell_ring(&region->bells[s].room, &last[1]);
	}
}

void control_announce(struct region *region)
{
	control_announce_to(region, NULL);
}

void control_mark_dead(struct region *region, uint32_t slot, uint64_t word)
{
	uint64_t expected = word;

	/* sync SLOT prover: evidence for exactly this word before DEAD; pairs SLOT reader in
	 * notice_scan() */
	shm_cas(&region->bells[slot].slot, &expected,
		slot_word(slot_generation(word), slot_pid(word), SLOT_DEAD));
	KILL_POINT("X_DEATH_MARKED");
	control_announce(region);
}

static int clear_extent_bits(struct region *region, const struct pool_place *place, uint32_t slot)
{
	const uint64_t each = LAYOUT_MASK_WORDS * sizeof(struct shm_word);
	uint64_t end = place->offset + place->bits_bytes, from = place->offset, to = end;
	void *map;
	int r = region_map(region, place->offset, place->bits_bytes, true, false, &map);

	if (r == -EBADMSG)
		return 0; /* out of the file: the owner's page is damaged, and nobody can have
			     mapped it */
	if (r < 0)
		return r;
	for (; region_next_data(region, &from, &to); from = to, to = end)
		for (uint64_t i = (from - place->offset) / each;
		     i < rb_min(place->chunks, (to - place->offset) / each); i++) {
			struct shm_word *w = &pool_bits(map, (uint32_t)i)[slot / 64];

			/* relaxed: the RMW decides */
			if (shm_load_relaxed(w) & 1ull << slot % 64)
				/* sync BORROW reaper: the bits of the dead before its slot is FREE;
				 * pairs BORROW sender in is_borrowed() */
				shm_fetch_and(w, ~(1ull << slot % 64));
		}
	region_unmap(region, map, place->bits_bytes);
	return 0;
}

bool control_pool_place(const struct region *region, const struct layout_pool_extent *e,
			struct pool_place *place, uint64_t *seen_bytes)
{
	/* what a pool may have, of payload as its owner counts it, and rounding */
	uint64_t most = region->g.pool_bytes + (LAYOUT_POOL_EXTENTS + 1) * RB_PAGE;

	if (!pool_place_read(e, place) || place->offset < region->g.fixed_bytes ||
	    pool_place_payload(place) > most - *seen_bytes)
		return false;
	*seen_bytes += pool_place_payload(place);
	return true;
}

/* The borrow bits of a dead receiver, in the pools of all. */
static int clear_borrows(struct region *region, uint32_t slot)
{
	struct pool_place place;
	int r = 0;

	for (uint32_t s = 0; s < region->g.nodes; s++) {
		uint64_t seen = 0;

		for (uint32_t i = 0; r == 0 && i < LAYOUT_POOL_EXTENTS; i++)
			if (control_pool_place(region, &region->nodes[s].pool[i], &place, &seen))
				r = clear_extent_bits(region, &place, slot);
	}
	return r;
}

/* Frees one slot that is DEAD or LEFT; with the lock held, so nobody else does. False: this process
 * cannot clean up, for want of memory or descriptors; so it is left to the next. */
static bool free_one(struct control *c, uint32_t slot, uint64_t word)
{
	struct layout_record *record = &c->records[slot];

	control_event_forget_slot(c, slot);
	if (clear_borrows(c->region, slot) < 0)
		return false;
	shm_store_relaxed(&record->name_bytes, 0); /* relaxed: published by FREE */
	/* relaxed, both: under the lock; published by FREE */
	shm_store_relaxed(&record->ended,
			  slot_ended(shm_load_relaxed(&record->ended), slot_generation(word),
				     slot_state(word) == SLOT_LEFT));
	control_reclaim(c, slot, slot_state(word) == SLOT_DEAD);
	KILL_POINT("X_REAP_CLEANED");
	/* sync SLOT writer: all cleaned up before FREE; pairs SLOT reader in free_slot() */
	shm_cas(&c->region->bells[slot].slot, &word,
		slot_word(slot_generation(word), 0, SLOT_FREE));
	return true;
}

int control_reap_held(struct control *c)
{
	int freed = 0;

	for (uint32_t s = 0; s < c->region->g.nodes; s++) {
		/* sync SLOT reader: read again with the lock held; pairs SLOT prover in
		 * control_mark_dead() */
		uint64_t word = shm_load_acquire(&c->region->bells[s].slot);

		if (slot_state(word) != SLOT_DEAD && slot_state(word) != SLOT_LEFT)
			continue;
		freed += free_one(c, s, word);
	}
	if (freed > 0)
		control_announce(c->region);
	return freed;
}

int control_reap(struct region *region, uint64_t deadline_ns)
{
	struct control c;
	int r = control_lock(&c, region, deadline_ns);

	if (r < 0)
		return r;
	control_reap_held(&c);
	control_unlock(&c);
	return 0;
}

int control_forget_slot(struct region *region, uint32_t slot, uint32_t generation,
			uint64_t deadline_ns)
{
	struct control c;
	int r = control_lock(&c, region, deadline_ns);

	if (r < 0)
		return r;
	/* sync SLOT reader: still ours, under the lock; pairs SLOT writer in control_grant() */
	if (slot_generation(shm_load_acquire(&region->bells[slot].slot)) == generation)
		control_event_forget_slot(&c, slot);
	control_unlock(&c);
	control_announce(region);
	return 0;
}

/* Marks the dead. Returns how many; *garbage: slots that can be freed; *grants: that nobody has
 * taken yet. */
static int mark_all(struct region *region, int *garbage, int *grants)
{
	int dead = 0;

	*garbage = *grants = 0;
	for (uint32_t s = 0; s < region->g.nodes; s++) {
		/* sync SLOT reader: the word that peer_check() proves; pairs SLOT writer in
		 * control_grant() */
		uint64_t word = shm_load_acquire(&region->bells[s].slot);
		enum slot_state state = slot_state(word);

		if (state == SLOT_DEAD || state == SLOT_LEFT) {
			++*garbage;
		} else if (state == SLOT_GRANTED) {
			++*grants;
		} else if ((state == SLOT_JOINING || state == SLOT_LIVE || state == SLOT_LEAVING) &&
			   peer_check(region, s, word) == PEER_DEAD) {
			control_mark_dead(region, s, word);
			dead++;
			++*garbage;
		}
	}
	return dead;
}

/* Grants whose process died before it took them, and the service before it took them back. */
static void void_all(struct control *c)
{
	for (uint32_t s = 0; s < c->region->g.nodes; s++) {
		/* sync SLOT reader: the word that peer_check() proves; pairs SLOT writer in
		 * control_grant() */
		uint64_t word = shm_load_acquire(&c->region->bells[s].slot);

		if (slot_state(word) == SLOT_GRANTED && peer_check(c->region, s, word) == PEER_DEAD)
			control_void_grant(c, s, word);
	}
}

int control_reap_all_held(struct control *c)
{
	int garbage, grants, dead = mark_all(c->region, &garbage, &grants);

	if (grants > 0)
		void_all(c);
	if (garbage > 0)
		control_reap_held(c);
	return dead;
}

int control_reap_all(struct region *region, uint64_t deadline_ns)
{
	int garbage, grants, dead = mark_all(region, &garbage, &grants);

	if (garbage > 0)
		control_reap(region, deadline_ns);
	return dead;
}

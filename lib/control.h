/* control.h: the locked control plane: lock, intent and repair, events, grants, reaping, extents.
 * Level 3.
 *
 * All control words (see layout.h) are written by the holder of the control lock: an OFD lock on
 * byte 0 of PORT.lock, taken on a fresh description per acquisition (an OFD lock would survive in a
 * forked child, so the description never outlives the operation) plus a private mutex for the
 * threads of this process. The kernel drops it at death. Only while it is held does a process map
 * the control area writable.
 */
#ifndef RINGBUS_CONTROL_H
#define RINGBUS_CONTROL_H

#include "peer.h"

struct control {
	struct region *region;
	int fd;
	void *map;
	struct layout_control *control;
	struct layout_record *records;
	struct shm_word *hashes;
	struct layout_event *events;
};

/* Takes the lock, waiting up to the deadline (rb_deadline_ns(); 0 tries once), and completes what a
 * dead holder left. -ETIMEDOUT: the detail names the holder. */
int control_lock(struct control *c, struct region *region, uint64_t deadline_ns);
void control_unlock(struct control *c);

/* Lowest free slot: records the identity, then GRANTED. -EUSERS none is free (after reaping the
 * dead). */
int control_grant(struct control *c, const struct peer_identity *id, uint32_t *slot,
		  uint32_t *generation);
/* Takes a grant back that nobody used. No effect if the slot word is not exactly `word` any more.
 */
void control_void_grant(struct control *c, uint32_t slot, uint64_t word);
/* Number of slots that are not FREE. */
unsigned control_busy_slots(const struct region *region);

/* Marks the owner named by `word` (JOINING, LIVE or LEAVING; proved dead by peer_check() on exactly
 * this word) as DEAD, bumps the control epoch and rings all doorbells; each prover does so once,
 * also when DEAD already stands. Takes no lock. */
void control_mark_dead(struct region *region, uint32_t slot, uint64_t word);
/* Frees all slots that are DEAD or LEFT: borrow bits, events, extents; FREE last. Takes the lock. 0
 * or -ETIMEDOUT. */
int control_reap(struct region *region, uint64_t deadline_ns);
/* The same with the lock held. Returns how many slots it freed. */
int control_reap_held(struct control *c);
/* A receiver has read all that the last owner of a slot had sent: gives its pool back if the slot
 * is free and nobody else has something of it. Or not, if the lock is not to be had in time. */
void control_reclaim_read(struct region *region, uint32_t slot, uint64_t deadline_ns);
/* Takes a slot that is LEAVING out of every event, if it has this owner still. 0 or -ETIMEDOUT.
 */
int control_forget_slot(struct region *region, uint32_t slot, uint32_t generation,
			uint64_t deadline_ns);
/* control_reap_all() for a holder of the lock. */
int control_reap_all_held(struct control *c);
/* Looks at every slot's owner; marks and reaps the dead. Returns how many it found dead. */
int control_reap_all(struct region *region, uint64_t deadline_ns);
/* Adds 1 to the control epoch and rings every doorbell: something changed that nodes may want to
 * notice. */
void control_announce(struct region *region);
/* The same for a change that only the nodes with a bit in audience[] may want to notice, and for
 * those that watch all. */
void control_announce_to(struct region *region, const uint64_t *audience);

/* Extents: space for a ring or pool extent behind the fixed part; the caller names it in its node
 * page before it unlocks. -ENOSPC. */
int control_extent(struct control *c, uint64_t bytes, uint64_t *offset);
/* Space is short: gives the data pages back of all rings between free slots, last words that nobody
 * asked for so far. Under the lock; control_extent() does so itself. */
void control_punch_all_pairs(struct control *c);

/* Events. All under the lock; ids are valid names. */
struct control_event {
	uint32_t index;
	uint32_t generation;
	uint64_t word;
};
/* Index of the entry with this name, or -ENOENT. */
int control_event_find(const struct control *c, const char *id, size_t id_bytes,
		       struct control_event *out);
int control_event_create(struct control *c, const char *id, size_t id_bytes, uint32_t slot,
			 uint32_t generation, uint32_t mode, bool receive, uint32_t flags,
			 struct control_event *out);
/* First the entry (made PENDING if missing), so that the caller can install its handler; then the
 * mask bits. */
int control_event_enter(struct control *c, const char *id, size_t id_bytes, uint32_t slot,
			struct control_event *out);
int control_event_subscribe(struct control *c, const struct control_event *e, uint32_t slot,
			    bool deliver, bool lossy);
int control_event_unsubscribe(struct control *c, const struct control_event *e, uint32_t slot);
int control_event_dissolve(struct control *c, const struct control_event *e, uint32_t slot,
			   uint32_t generation);

#endif

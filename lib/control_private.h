/* control_private.h: what control.c, control_event.c and reap.c share. Level 3. */
#ifndef RINGBUS_CONTROL_PRIVATE_H
#define RINGBUS_CONTROL_PRIVATE_H

#include "control.h"

/* Says what the holder is about to do; CONTROL_NONE when done. */
void control_intend(struct control *c, enum control_op op, uint32_t slot, uint32_t index);
/* Brings an entry to a legal state from whatever stands there; frees it if nobody has an interest.
 * Idempotent. */
void control_event_settle(struct control *c, uint32_t index);
/* Takes a slot out of every event: bits, ownership. */
void control_event_forget_slot(struct control *c, uint32_t slot);

/* Gives the memory back that a slot which is about to be FREE does not need: see reclaim.c. died:
 * its owner did not leave. */
void control_reclaim(struct control *c, uint32_t slot, bool died);
/* Gives the data pages back of the rings between a free slot and the other free ones: before it is
 * granted. What their last owners said is gone then. */
void control_punch_pairs(struct control *c, uint32_t slot);

/* What the pages of all nodes name: rings and pool extents within the file, in no order. The caller
 * frees it. 0, -ENOMEM, -EIO. */
struct control_range {
	uint64_t begin, end;
};
int control_ranges(const struct region *region, struct control_range **ranges, size_t *n);

struct pool_place;
/* For who walks the extents that a node's page names: whether this one can be real. *seen_bytes, 0
 * before the first, sums up what they hold: a page that names more than a pool may have is damaged,
 * and whoever cleans up after its owner must not be kept busy by it, nor be led into the fixed
 * part. */
bool control_pool_place(const struct region *region, const struct layout_pool_extent *e,
			struct pool_place *place, uint64_t *seen_bytes);

#endif

/* shm-inspect-tap.h: one message as the verbs tap and last show it. */
#ifndef SHM_INSPECT_TAP_H
#define SHM_INSPECT_TAP_H

#include "shm-inspect.h"

/* One end of a message: the owner that its slot had then. */
struct tap_end {
	uint64_t taken_ns; /* when it was looked up; 0: never */
	struct ringbus_inspect_node node;
};

struct tap {
	struct view *view;
	struct who from, to;
	bool this_boot;
	int64_t realtime_ns; /* CLOCK_REALTIME - CLOCK_MONOTONIC */
	uint64_t shown;
	uint64_t bytes; /* payload bytes to show */
	uint8_t *buffer;
	struct tap_end *ends; /* of each slot */
};

/* When a message was sent, in CLOCK_MONOTONIC of that machine: not before, not after; 0 and NEVER:
 * not known. */
struct tap_when {
	uint64_t after_ns;
	uint64_t before_ns;
};

/* The owner of a slot; looked up again now and then. NULL: no such slot. */
const struct ringbus_inspect_node *tap_end(struct tap *tap, uint32_t slot);
/* Whether --from, --to and --event let it pass. */
bool tap_wants(struct tap *tap, const struct ringbus_inspect_message *m);
/* Reads the payload again if there is a buffer, prints, counts. */
void tap_show(struct tap *tap, const struct ringbus_inspect_message *m, struct tap_when when);

#endif

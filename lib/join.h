/* join.h: the client's side of joining: find or start the service, prove, get a slot. Level 3. */
#ifndef RINGBUS_JOIN_H
#define RINGBUS_JOIN_H

#include "peer.h"

struct join_request {
	unsigned port;
	const char *directory; /* NULL: those searched */
	uint64_t deadline_ns;
	bool autostart;
};

struct join_result {
	struct region *region; /* referenced for the caller */
	uint32_t slot;
	uint32_t generation;
	uint32_t pid;	/* as the service sees it; 0 in a foreign pid namespace */
	int connection; /* kept open where pid is 0, else -1 */
};

/* On success the slot word is JOINING(generation, pid), by our CAS, with the live lock held: the
 * caller may write the slot's words. Caller holds no lock. Errors as ringbus_node_open(). */
int join_bus(const struct join_request *request, struct join_result *result);
/* Port to use: given, else RINGBUS_PORT, else 54121. -EINVAL if the variable is no port. */
int join_port(unsigned given);

#endif

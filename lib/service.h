/* service.h: the parts of the bootstrap service. Level 5.
 *
 * service.c has the loop, service_conn.c the connections, service_bus.c the region, the slots and
 * their owners.
 */
#ifndef RINGBUS_SERVICE_H
#define RINGBUS_SERVICE_H

#include "control.h"
#include "port.h"
#include "ringbus.h"
#include "wire.h"

#define SERVICE_UNPROVEN_MAX 32u /* connections that have not got a slot yet */
#define SERVICE_CONNECTIONS (SERVICE_UNPROVEN_MAX + LAYOUT_NODES_MAX)
#define SERVICE_PROVE_NS (2 * RB_SECOND) /* time to prove */
#define SERVICE_CLAIM_NS RB_SECOND	 /* time to take a grant */
#define SERVICE_SCAN_NS RB_SECOND	 /* between two looks at all slots */
#define SERVICE_CONTROL_NS RB_SECOND
#define SERVICE_GRANT_NS (50 * RB_MS)	   /* for the control lock; the client tries again */
#define SERVICE_TIDY_NS (5 * RB_MS)	   /* in one turn, for the control lock */
#define SERVICE_TIDY_AGAIN_NS (50 * RB_MS) /* when it was not to be had */

enum conn_state { CONN_NONE, CONN_HELLO, CONN_PROVED, CONN_CLOSING, CONN_GRANTED };

struct service_conn {
	enum conn_state state;
	int fd;
	uint64_t opened_ns;
	struct wire_message in;
	size_t in_bytes;
	struct wire_message out;
	size_t out_bytes; /* left to send: the last ones of out */
	uint64_t held;	  /* our proof; 0: none */
	uint64_t asked;	  /* where the client's is to be */
	uint32_t slot;	  /* CONN_GRANTED: of an owner whose pid we cannot see */
	uint32_t generation;
};

/* What we know of the owner of a slot. */
struct service_watch {
	uint64_t word;	   /* slot word that this is about; 0: none */
	uint64_t since_ns; /* when we saw it first */
	int pidfd;	   /* -1: none */
	bool reported;	   /* as lost */
	bool untaken;	   /* a grant that is to be taken back */
};

enum service_tag { TAG_STOP = 1, TAG_LISTEN = 2, TAG_CONN = 3, TAG_SLOT = 4 };

struct ringbus_service {
	struct region *region;
	unsigned port;
	uint64_t linger_ns;
	uint64_t empty_ns;   /* since when the bus is empty; 0: it is not */
	uint64_t scan_ns;    /* of the next look at all slots */
	uint64_t refusal_ns; /* until then no refusal is told of */
	uint64_t tidy_ns;    /* of the next try to free slots; UINT64_MAX: none is to be freed */
	uint64_t held_ns; /* until then nobody waits for the control lock: it was not to be had */
	bool ended;	  /* its files are unlinked, by us or by others */
	int election_fd;
	int epoll_fd;
	int stop_fd;
	int listen_fd;
	bool listen_given; /* the listener is a service manager's, which keeps it open */
	int reserve_fd; /* given up for a moment to refuse a connection when descriptors run out */
	uint32_t pid;	/* of the process that opened it */
	struct service_conn conns[SERVICE_CONNECTIONS];
	struct service_watch watches[LAYOUT_NODES_MAX];
	struct ringbus_service *next;
};

static inline uint64_t service_tag(enum service_tag tag, uint32_t index)
{
	return (uint64_t)tag << 32 | index;
}

int service_poll_add(struct ringbus_service *s, int fd, uint32_t events, uint64_t tag);
int service_listen(struct ringbus_service *s);

/* Takes the election, then makes or adopts the region. */
int bus_take(struct ringbus_service *s, const struct ringbus_service_options *options);
/* Looks at one slot: watches a new owner, marks the dead; leaves to bus_tidy() what is to be freed.
 */
void bus_look(struct ringbus_service *s, uint32_t slot, uint64_t now);
void bus_scan(struct ringbus_service *s, uint64_t now);
/* Frees what the looks have found, if it is due, under the control lock. Does not wait for a holder
 * that is stopped: tried again later. */
void bus_tidy(struct ringbus_service *s, uint64_t now);
/* The process behind a slot has ended. */
void bus_owner_ended(struct ringbus_service *s, uint32_t slot, uint64_t now);
/* Slots that are not free. Of a bus whose files were deleted: none if nobody alive is in one, since
 * they cannot be freed any more. */
unsigned bus_busy(const struct ringbus_service *s);
/* If the bus is empty: marks it closing and unlinks its files. Whether it has ended. The listener
 * is closed before. */
bool bus_end(struct ringbus_service *s);
/* Drops election and watches. */
void bus_leave(struct ringbus_service *s);

void conn_accept(struct ringbus_service *s);
void conn_event(struct ringbus_service *s, uint32_t index, uint32_t events);
/* Drops those that took too long; *next_ns: when the next of them is to be dropped. Returns how
 * many that have named the region are still at it. */
unsigned conn_expire(struct ringbus_service *s, uint64_t now, uint64_t *next_ns);
/* Whether the owner of a slot keeps its connection to us. */
bool conn_of_slot(const struct ringbus_service *s, uint32_t slot, uint32_t generation);
void conn_close_all(struct ringbus_service *s);

#endif

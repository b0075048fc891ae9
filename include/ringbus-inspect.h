/* ringbus-inspect.h: read-only view of a bus, for tools. SPDX-License-Identifier: MIT
 *
 * Looks into the region file of a live bus, of a dead one, or a copy of such a file from another
 * machine. Opens the file for reading, never joins, never writes, never creates, never maps:
 * everything is read with pread(), and everything handed out is a copy. What stands in the file is
 * not trusted: whatever it contains, each call ends, and decodes as much as it can.
 *
 * A looser promise than ringbus.h: the structs here follow the region's layout and may change with
 * each minor version. There is no size member; build against the version that you run with.
 *
 * A handle is used by one thread at a time. On a live bus the figures of one struct are not from
 * one instant. Do not open or close a handle while another thread of the same process joins the
 * same bus: the kernel drops a process's POSIX locks on a file with any of its descriptors, and the
 * join fails.
 *
 * Each function returns 0 or a positive figure on success, a negative errno code on failure
 * (ringbus_error_detail() has the cause). -EPROTO: the header is so damaged that the rest cannot be
 * found.
 */
#ifndef RINGBUS_INSPECT_H
#define RINGBUS_INSPECT_H

#include "ringbus.h"

#ifdef __cplusplus
extern "C" {
#endif

#define RINGBUS_INSPECT_MASK_WORDS 4 /* a bit for each slot */

struct ringbus_inspect;

/* ---- opening ---- */

/* One bus of the directories searched. */
struct ringbus_inspect_place {
	unsigned port;
	char directory[512];
};
/* Fills up to capacity entries, returns how many buses there are. directory NULL: all directories
 * in which ringbus_node_open() would look. */
RINGBUS_API int ringbus_inspect_list(struct ringbus_inspect_place *places, size_t capacity,
				     const char *directory);

/* Opens the region of a port (0: RINGBUS_PORT, else 54121). directory as in struct
 * ringbus_node_options. -ENOENT no such bus; -EACCES; -EINVAL not a regular file; -ELOOP a symbolic
 * link. */
RINGBUS_API int ringbus_inspect_open(struct ringbus_inspect **inspect, unsigned port,
				     const char *directory);
/* Opens a region file, or a copy of one, by its path. Succeeds on any regular file: see
 * header.valid. */
RINGBUS_API int ringbus_inspect_open_path(struct ringbus_inspect **inspect, const char *path);
/* The same by a readable descriptor, which stays with the caller (it is duplicated). */
RINGBUS_API int ringbus_inspect_open_fd(struct ringbus_inspect **inspect, int fd);
/* NULL is allowed. */
RINGBUS_API void ringbus_inspect_close(struct ringbus_inspect *inspect);

/* ---- header ---- */

struct ringbus_inspect_header {
	bool valid;   /* this build of the library would join it */
	bool usable;  /* the rest can be decoded */
	char why[96]; /* if not valid: what is wrong */
	uint64_t magic;
	uint32_t version; /* of the layout */
	uint64_t signature;
	uint8_t uuid[16]; /* of this incarnation of the bus */
	char boot_id[40];
	bool this_boot;
	uint32_t nodes;	     /* slots */
	uint32_t events;     /* entries of the event table */
	uint64_t ring_bytes; /* capacity of one ring */
	uint64_t pool_bytes; /* limit of payload memory per node */
	uint32_t port;
	uint32_t uid; /* of the creator */
	uint64_t fixed_bytes;
	uint64_t created_s; /* CLOCK_REALTIME */
	uint64_t file_bytes;
	uint64_t memory_bytes; /* allocated */
	uint64_t control_epoch;
	uint64_t intent; /* control operation in progress, or left by a dead process; 0: none */
	uint64_t intent_pid;
	uint64_t repairs;     /* operations of dead processes completed by others */
	uint64_t service_pid; /* as seen in its pid namespace; 0: none */
	bool service_running;
	bool closing; /* the bus is ending */
	bool live;    /* this boot, and a process of it runs */
};
RINGBUS_API int ringbus_inspect_header(struct ringbus_inspect *inspect,
				       struct ringbus_inspect_header *header);

/* ---- iteration ----
 * Each *_next() takes a cursor that starts at 0, returns 1 with the next entry that is in use, 0 at
 * the end. */

enum ringbus_inspect_process {
	RINGBUS_INSPECT_UNKNOWN = 0, /* other boot, or a pid namespace that we cannot see */
	RINGBUS_INSPECT_RUNNING = 1,
	RINGBUS_INSPECT_GONE = 2,
};

struct ringbus_inspect_node {
	uint32_t slot;
	uint32_t state; /* see ringbus_inspect_slot_state() */
	uint32_t generation;
	uint32_t pid;
	uint32_t uid;
	enum ringbus_inspect_process process;
	char name[RINGBUS_NAME_MAX + 1];
	bool unfenced;	    /* mode: publishes without a fence */
	bool no_membarrier; /* mode: may not call membarrier */
	uint64_t mode;	    /* all mode flags */
	bool in_handler;
	bool in_contact;	   /* the handler of contacts */
	uint32_t handler_event;	   /* event index, when in the handler of an event */
	uint64_t handler_since_ns; /* CLOCK_MONOTONIC of that machine */
	uint64_t inbox;		   /* doorbell words */
	uint64_t room;
	bool inbox_asleep;
	bool room_asleep;
	uint32_t signals; /* not yet taken */
	uint32_t signal_generation;
	uint64_t paired[RINGBUS_INSPECT_MASK_WORDS]; /* senders that paired with it */
	unsigned rings;				     /* named by its page, to send */
	unsigned pools;
	uint64_t dispatches;
	uint64_t received;
	uint64_t received_bytes;
	uint64_t dropped_unsubscribed;
	uint64_t sleeps;
	uint64_t safety_wakes;
	uint64_t sent;
	uint64_t sent_bytes;
	uint64_t dropped_lossy;
	uint64_t dropped_gone;
	uint64_t full;
	uint64_t wakes;
	uint64_t corrupt;
	uint64_t dead_peers;
};
RINGBUS_API int ringbus_inspect_node_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					  struct ringbus_inspect_node *node);
/* "free", "granted", "joining", "live", "leaving", "left", "dead", "invalid". */
RINGBUS_API const char *ringbus_inspect_slot_state(uint32_t state);

struct ringbus_inspect_event {
	uint32_t index;
	uint32_t state; /* see ringbus_inspect_event_state() */
	uint32_t generation;
	uint32_t mode; /* enum ringbus_mode, or any figure when corrupt */
	char name[RINGBUS_NAME_MAX + 1];
	bool has_owner;
	uint32_t owner; /* slot */
	uint32_t owner_generation;
	bool all_lossy;
	uint64_t changes;			      /* creations and takeovers */
	uint64_t members[RINGBUS_INSPECT_MASK_WORDS]; /* may emit (MULTI) */
	uint64_t deliver[RINGBUS_INSPECT_MASK_WORDS]; /* get messages */
	uint64_t lossy[RINGBUS_INSPECT_MASK_WORDS];
};
RINGBUS_API int ringbus_inspect_event_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					   struct ringbus_inspect_event *event);
/* "free", "pending", "live", "orphan", "invalid". */
RINGBUS_API const char *ringbus_inspect_event_state(uint32_t state);

struct ringbus_inspect_ring {
	uint32_t from; /* slots */
	uint32_t to;
	uint64_t offset; /* in the file */
	uint64_t capacity;
	char damage[96]; /* why the walk stopped before the tail; "" when it is sound */
	uint64_t head;
	uint64_t tail; /* found by walking the records; where the walk stopped when damaged */
	uint64_t hint;
	uint64_t unread_bytes; /* from the head (or a later resync start) to the tail */
	uint64_t unread_records;
	uint64_t asked; /* resync: questions of the receiver, answers of the sender */
	uint64_t answered;
	uint64_t position;
	uint64_t start;
	uint64_t lost;	     /* the sender says lost */
	uint64_t drops;	     /* not sent to this receiver (lossy) */
	uint64_t drops_seen; /* of these, reported */
	uint64_t messages;   /* published */
	uint64_t bytes;
	uint64_t high_water; /* most bytes ever unread */
	uint64_t full;	     /* times the sender found no room */
	uint64_t full_since_ns;
	uint64_t wakes;
	uint64_t received; /* messages */
	uint64_t received_bytes;
	uint64_t stale; /* records for an earlier owner of the slot */
	uint64_t bad;	/* records refused */
};
/* Walks the records of each ring: the work is bounded by four times the size of the file; rings
 * beyond that (possible only when extents overlap) have damage "not walked". */
RINGBUS_API int ringbus_inspect_ring_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					  struct ringbus_inspect_ring *ring);

struct ringbus_inspect_pool {
	uint32_t slot;	/* whose pool */
	uint32_t index; /* of the extent in its page */
	uint64_t offset;
	uint64_t bytes;
	uint32_t serial;
	uint32_t class_number;
	bool big;	 /* one chunk */
	char damage[96]; /* "" or why its chunks were not looked at */
	uint64_t chunk_bytes;
	uint64_t chunks;
	uint64_t used;	       /* chunks queued or borrowed */
	uint64_t queued;       /* named by a descriptor that its receiver has not read */
	uint64_t queued_bytes; /* payload bytes of these */
	uint64_t borrowed;     /* with a borrow bit */
	uint64_t borrowers[RINGBUS_INSPECT_MASK_WORDS];
};
RINGBUS_API int ringbus_inspect_pool_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					  struct ringbus_inspect_pool *pool);

/* ---- check ---- */

enum ringbus_inspect_severity {
	RINGBUS_INSPECT_INFO = 0,
	RINGBUS_INSPECT_WARNING = 1, /* will be set right by the bus itself, or is merely odd */
	RINGBUS_INSPECT_ERROR = 2,   /* an invariant is broken */
};

struct ringbus_inspect_finding {
	enum ringbus_inspect_severity severity;
	const char *code; /* "ring-record" and the like; stable words for scripts */
	const char *text; /* one line */
};
typedef void (*ringbus_inspect_handler)(const struct ringbus_inspect_finding *finding, void *user);

/* Checks the invariants of the whole region and calls fn for each finding. On a live bus everything
 * is read three times within some tens of milliseconds, and only what stands in all three is a
 * finding. Returns the number of findings of severity ERROR. -ENOMEM. */
RINGBUS_API int ringbus_inspect_check(struct ringbus_inspect *inspect, ringbus_inspect_handler fn,
				      void *user);

#ifdef __cplusplus
}
#endif
#endif

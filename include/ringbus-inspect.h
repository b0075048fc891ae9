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
 * join fails. In a process that serves the bus, the same makes those who join at that moment see no
 * service but an impostor; each of them tries once more before it believes that.
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
 * in which ringbus_node_open() would look; one that is not there or that we may not read has none.
 * -EACCES the directory that was named may not be read; -EMFILE, -ENOMEM, -EIO. */
RINGBUS_API int ringbus_inspect_list(struct ringbus_inspect_place *places, size_t capacity,
				     const char *directory);

/* Opens the region of a port (0: RINGBUS_PORT, else 54121). directory as in struct
 * ringbus_node_options. -ENOENT no such bus; -EACCES; -EINVAL no port, a directory too long, or not
 * a regular file; -ELOOP a symbolic link; -EMFILE, -ENOMEM, -EIO. */
RINGBUS_API int ringbus_inspect_open(struct ringbus_inspect **inspect, unsigned port,
				     const char *directory);
/* Opens a region file, or a copy of one, by its path. Succeeds on any regular file: see
 * header.valid. -ENOENT; -EACCES; -EINVAL not a regular file; -ELOOP a symbolic link. */
RINGBUS_API int ringbus_inspect_open_path(struct ringbus_inspect **inspect, const char *path);
/* The same by a readable descriptor, which stays with the caller (it is duplicated). -EBADF;
 * -EINVAL not a regular file. */
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
	uint32_t own_version;	 /* layout of this build of the library */
	uint64_t file_inode;	 /* as opened */
	uint64_t file_device;
	uint32_t file_uid;
	bool unlinked;		 /* the file as opened has no name any more */
	uint64_t fs_bytes;	 /* of the filesystem that it lies on */
	uint64_t fs_free_bytes;	 /* for us */
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
	uint64_t wakes; /* may miss some, see struct ringbus_node_stats */
	uint64_t corrupt;
	uint64_t dead_peers;
	uint64_t granted_ns; /* CLOCK_MONOTONIC of that machine: since when it has the slot */
	uint64_t start_time; /* field 22 of /proc/PID/stat, clock ticks since boot */
	/* How the slot's last owner ended, if anyone did: */
	uint32_t ended_generation;
	uint32_t ended_state; /* "left" or "dead" */
	/* Of a free slot: who had it last, and name is its name. */
	uint32_t former_pid;
};
RINGBUS_API int ringbus_inspect_node_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					  struct ringbus_inspect_node *node);
/* The node in a slot, or what is left of the last one in a free slot. -EINVAL no such slot. */
RINGBUS_API int ringbus_inspect_slot(struct ringbus_inspect *inspect, uint32_t slot,
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
/* The entry of the event table with this index, also a free one, which still has the name of its
 * last event. -EINVAL no such entry. */
RINGBUS_API int ringbus_inspect_event_entry(struct ringbus_inspect *inspect, uint32_t index,
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
	uint64_t unread_stamp_ns; /* of the oldest unread record that has one: when it was sent,
				     CLOCK_MONOTONIC; 0: none has */
	uint64_t last_bytes;	  /* of the newest unread record */
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

/* What a slot holds of a sender's pool. */
struct ringbus_inspect_hold {
	uint32_t owner;
	uint32_t holder;
	uint64_t queued; /* chunks named by descriptors that the holder has not read */
	uint64_t queued_bytes;
	uint64_t borrowed; /* chunks with its borrow bit */
	uint64_t borrowed_bytes;
};
/* All holders of one sender's chunks: fills up to capacity entries, returns how many there are. A
 * chunk counts for each of its holders. -EINVAL no such slot. */
RINGBUS_API int ringbus_inspect_holds(struct ringbus_inspect *inspect, uint32_t owner,
				      struct ringbus_inspect_hold *holds, size_t capacity);

/* ---- messages, also those already read ---- */

/* The rings that exist, without a look into them. */
struct ringbus_inspect_link {
	uint32_t from;
	uint32_t to;
	uint64_t offset;
};
RINGBUS_API int ringbus_inspect_link_next(struct ringbus_inspect *inspect, uint32_t *cursor,
					  struct ringbus_inspect_link *link);

enum ringbus_inspect_message_state {
	RINGBUS_INSPECT_INTACT = 0,
	RINGBUS_INSPECT_DOUBTFUL = 1, /* read long ago: its sender may be writing over it, or has
					 used its chunk again */
	RINGBUS_INSPECT_OVERWRITTEN = 2, /* nothing can be said but how many bytes there were */
	RINGBUS_INSPECT_DAMAGED = 3,	 /* no valid record; the same */
};

struct ringbus_inspect_message {
	uint32_t from;
	uint32_t to;
	uint64_t position; /* in the ring */
	enum ringbus_inspect_message_state state;
	uint64_t skipped_bytes; /* OVERWRITTEN, DAMAGED: of the ring; all below is 0 then */
	enum ringbus_kind kind; /* RINGBUS_EVENT or RINGBUS_CONTACT */
	uint32_t from_generation;
	uint32_t to_generation;
	uint32_t event; /* index */
	uint32_t event_generation;
	bool pooled;
	bool unread;
	bool has_drops;
	uint64_t drops;	   /* of this pair so far */
	uint64_t stamp_ns; /* CLOCK_MONOTONIC of its sender; 0: not stamped, as most are */
	uint64_t size;	   /* of the payload */
	uint64_t copied;   /* bytes of it in the caller's buffer */
};

#define RINGBUS_INSPECT_OLDEST UINT64_MAX
#define RINGBUS_INSPECT_NEWEST (UINT64_MAX - 1)
/* The record at *position of the ring between two slots, or the first one behind it that still
 * stands; *position goes on behind it. RINGBUS_INSPECT_OLDEST: the oldest that stands, read or not;
 * RINGBUS_INSPECT_NEWEST: none, but *position becomes where the next one will be. What the sender
 * wrote over while it was copied is found out and told by `state`. Up to capacity bytes of payload
 * go to buffer (NULL with capacity 0 is allowed). 1, or 0 when there is none yet, or no ring. The
 * work since ringbus_inspect_link_next() began anew is bounded by the size of the file. */
RINGBUS_API int ringbus_inspect_message_next(struct ringbus_inspect *inspect, uint32_t from,
					     uint32_t to, uint64_t *position,
					     struct ringbus_inspect_message *message, void *buffer,
					     size_t capacity);

/* ---- latency ---- */

#define RINGBUS_INSPECT_BUCKETS 128
/* Histograms of a ring, of one message in 256, of one in 16 to a receiver that sleeps: times in the
 * ring while the receiver was awake, from publication until the receiver woke, and in the handler.
 */
struct ringbus_inspect_latency {
	uint64_t queue[RINGBUS_INSPECT_BUCKETS];
	uint64_t wake[RINGBUS_INSPECT_BUCKETS];
	uint64_t handler[RINGBUS_INSPECT_BUCKETS];
};
/* -ENOENT no such ring. */
RINGBUS_API int ringbus_inspect_latency(struct ringbus_inspect *inspect, uint32_t from, uint32_t to,
					struct ringbus_inspect_latency *latency);
/* The time in ns below which the part q (0 to 1) of the counts lies, interpolated in its bucket. 0
 * when nothing was counted. */
RINGBUS_API uint64_t ringbus_inspect_quantile(const uint64_t buckets[RINGBUS_INSPECT_BUCKETS],
					      double q);
RINGBUS_API uint64_t ringbus_inspect_count(const uint64_t buckets[RINGBUS_INSPECT_BUCKETS]);

/* ---- the machine ---- */

/* Who listens on a port of this machine, in words: "process 12 (nginx)". 1 and the process's user,
 * or 0 when nobody does. */
RINGBUS_API int ringbus_inspect_port(unsigned port, char *who, size_t capacity, uint32_t *uid);

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

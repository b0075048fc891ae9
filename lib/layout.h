/* layout.h: every byte in shared memory. Level 1.
 *
 * The region is one file. Fixed part, in pages grouped by who writes:
 *
 *   header   1 page           written before the file has a name, constant after; all map it
 *                             read-only
 *   common   global + nodes   words that many write: slot words, doorbells, signal words; mapped
 *                             read-write
 *   control  intent, slot     written by the holder of the control lock only; mapped read-only
 *            records, events  but while the lock is held
 *   nodes    1 page a slot    written by the owner of the slot, by a reaper once he is gone
 *
 * Behind it extents, page aligned, allocated under the control lock. A range is in use iff a node
 * page names it: there is no other book of them, so a death in the middle of an allocation leaks
 * nothing.
 *
 *   ring     1 page written by the sender, ring_bytes of records written by the sender, 1 page
 *            written by the receiver. Named by nodes[sender].ring[receiver]; stays with this pair
 *            of slots for good.
 *   pool     borrow bits (32 bytes a chunk, rounded to pages, written by receivers), then the
 *            chunks. Named by nodes[sender].pool[i].
 *
 * Words, writers, readers, edges. Tags are those of the comments at the accesses. "Reaper" is who
 * cleans up after an owner, with the control lock, once the slot is DEAD or LEFT.
 *
 *   word                  written by           read by            edge; what a stale value costs
 *   header                creator, once        all                the file's name comes after it
 *   common.control_epoch  makers of changes    all nodes          NOTICE: change before epoch;
 *                         (add)                                   later notice
 *   bell.slot             service, owner,      all                SLOT: identity and positions
 *                         provers, reaper                         before state; a record for an
 *                         (CAS)                                   owner who is gone, skipped
 *   bell.inbox, .room     sleeper; wakers      wakers; sleeper    BELL: store-load fence, see
 *                         (CAS)                                   doorbell.h
 *   bell.signal           signallers, owner    owner, signallers  SIGNAL: generation with count;
 *                         (CAS)                                   the CAS fails
 *   bell.paired           senders (or)         owner              PAIR: bit, full fence, first
 *                                                                 record; opened a look later
 *   bell.watches          owner, before LIVE   makers of changes  SLOT; a wake too many, or as if
 *                                                                 he had joined later
 *   control.intent        lock holder          next lock holder   INTENT: record before the steps
 *   control.closing       lock holder          joiner, service    CLOSING: word before the files
 *                                                                 go; joiner starts over
 *   control, the others   lock holder          texts, tools       none: information
 *   record.ended          reaper               all                SLOT: before FREE
 *   record, the others    lock holder          provers, all       SLOT: before GRANTED, name
 *                                                                 before LIVE
 *   hash, event.*         lock holder          emitters, all      EVENT: masks and name before
 *                                                                 word; as if the operation came
 *                                                                 a moment later
 *   node.mode             owner (its sender    sleepers; senders  MODE: see doorbell.h
 *                         and receiver, RMW)
 *   node.ring, .pool      owner (named with    receivers, lock    EXTENT: space before its name;
 *                         the lock), reaper    holder             looks again
 *   record header         sender               receiver           RECORD: rest of the record and
 *                                                                 the 0 behind it before header
 *   tx.hint               sender, reaper       successors,        HINT: after each header below;
 *                                              receiver           a longer walk
 *   tx.answered, .start,  sender               receiver           RESYNC: start and the 0 there
 *   .lost                                                         before answered
 *   tx.drops              sender               receiver at rest   none: the next record tells it
 *   tx.starts, .owner     sender, reaper       tools              none: where to look, whose
 *                                                                 counters these are
 *   rx.head               receiver, reaper     sender             HEAD: reads before head; less
 *                                                                 room than there is
 *   rx.asked, .position   receiver             sender             RESYNC: position before asked
 *   borrow bits           receiver (or, and),  sender, reaper     BORROW: bit before head, last
 *                         reaper (and)                            read before clearing; a chunk
 *                                                                 stays in use longer
 *   counters              one owner each       tools, owner       none: information
 */
#ifndef RINGBUS_LAYOUT_H
#define RINGBUS_LAYOUT_H

#include "atomic.h"

#define LAYOUT_MAGIC 0x535542474e4952ull /* "RINGBUS\0" */
#define LAYOUT_VERSION 1u
#define LAYOUT_NODES_MAX 256u
#define LAYOUT_MASK_WORDS (LAYOUT_NODES_MAX / 64)
#define LAYOUT_EVENTS_MAX 65535u
#define LAYOUT_NAME_BYTES 256u /* final 0 included */
#define LAYOUT_POOL_EXTENTS 64u
#define LAYOUT_NO_SLOT 0xffffu

#define LAYOUT_NODES_DEFAULT 64u
#define LAYOUT_EVENTS_DEFAULT 1024u
#define LAYOUT_RING_DEFAULT (256u << 10)
#define LAYOUT_RING_MIN 4096u
#define LAYOUT_RING_MAX (1ull << 30)
#define LAYOUT_POOL_DEFAULT (128ull << 20)
#define LAYOUT_POOL_MIN (64ull << 10)
#define LAYOUT_POOL_MAX (1ull << 40)

/* Constant after creation: read once at join, checked, copied. */
struct layout_header {
	uint64_t magic;
	uint32_t version;
	uint32_t header_bytes;
	uint64_t signature; /* of sizes and offsets, layout_signature() */
	uint8_t uuid[16];   /* of this incarnation of the bus */
	char boot_id[40];
	uint32_t nodes;
	uint32_t events;
	uint64_t ring_bytes;
	uint64_t pool_bytes;
	uint32_t port;
	uint32_t uid; /* of the creator */
	uint64_t fixed_bytes;
	uint64_t created_realtime_s; /* for people */
};
_Static_assert(sizeof(struct layout_header) == 128, "layout");

struct layout_line {
	_Alignas(RB_LINE) struct shm_word w[8];
};

/* common: one struct layout_common, then nodes times struct layout_bell. */
struct layout_common {
	_Alignas(RB_LINE) struct shm_word control_epoch;
	_Alignas(RB_LINE) struct shm_word spare[56];
};
_Static_assert(sizeof(struct layout_common) == 512, "layout");

struct layout_bell {
	_Alignas(RB_LINE) struct shm_word slot; /* generation << 32 | pid << 8 | state */
	_Alignas(RB_LINE) struct shm_word inbox;
	_Alignas(RB_LINE) struct shm_word room;
	_Alignas(RB_LINE) struct shm_word signal; /* generation << 32 | count */
	_Alignas(RB_LINE) struct shm_word paired[LAYOUT_MASK_WORDS];
	_Alignas(RB_LINE) struct shm_word watches; /* 1: its owner is woken by every change of any
						      event */
	struct shm_word spare[23];
};
_Static_assert(sizeof(struct layout_bell) == 512, "layout");

/* The slot word. Granting, joining and leaving go FREE, GRANTED, JOINING, LIVE, (LEAVING,) LEFT,
 * FREE; a death goes from JOINING, LIVE or LEAVING to DEAD, FREE. FREE keeps the generation. */
enum slot_state {
	SLOT_FREE = 0,
	SLOT_GRANTED = 1,
	SLOT_JOINING = 2,
	SLOT_LIVE = 3,
	SLOT_LEAVING = 4, /* closed, but borrows are out: its bits count, nothing is sent to it */
	SLOT_LEFT = 5,	  /* closed; to be cleaned up and freed */
	SLOT_DEAD = 6,	  /* proved dead; to be cleaned up and freed */
};

static inline uint64_t slot_word(uint32_t generation, uint32_t pid, enum slot_state state)
{
	return (uint64_t)generation << 32 | (uint64_t)(pid & 0xffffff) << 8 | (uint64_t)state;
}

static inline uint32_t slot_generation(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

/* Whether owner a came after owner b. */
static inline bool slot_is_newer(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

/* How the last 32 owners of a slot ended: generation << 32 of the last, bit k set if the owner k
 * before it left by itself. The same again for the same generation, so that it can be repeated. */
static inline uint64_t slot_ended(uint64_t before, uint32_t generation, bool left)
{
	uint32_t past = generation - (uint32_t)(before >> 32);
	uint32_t history = past < 32 ? (uint32_t)before << past : 0;

	return (uint64_t)generation << 32 | (history & ~1u) | (left ? 1 : 0);
}

/* Whether this owner left by itself; false also if that is not known any more. */
static inline bool slot_ended_left(uint64_t ended, uint32_t generation)
{
	uint32_t past = (uint32_t)(ended >> 32) - generation;

	return past < 32 && (ended >> past & 1);
}

static inline uint32_t slot_pid(uint64_t word)
{
	return (uint32_t)(word >> 8) & 0xffffff;
}

static inline enum slot_state slot_state(uint64_t word)
{
	return (enum slot_state)(word & 0xff);
}

/* control: one page of struct layout_control, then nodes times struct layout_record, then a word of
 * name hash per event (0: free entry), then events times struct layout_event; each group page
 * aligned. */
enum control_op { CONTROL_NONE, CONTROL_EVENT, CONTROL_FREE_SLOT, CONTROL_GRANT, CONTROL_EXTENT };

struct layout_control {
	_Alignas(RB_LINE) struct shm_word intent; /* control_op << 56 | slot << 32 | event index */
	struct shm_word intent_pid;
	struct shm_word closing; /* 1: the bus is ending, its files are being unlinked */
	struct shm_word service_pid;
	struct shm_word repairs; /* intents of dead holders completed; information */
	struct shm_word spare[507];
};
_Static_assert(sizeof(struct layout_control) == RB_PAGE, "layout");

struct layout_record {
	_Alignas(RB_LINE) struct shm_word pid; /* recorded by the service before GRANTED */
	struct shm_word start_time;  /* field 22 of /proc/PID/stat, clock ticks since boot */
	struct shm_word pidfd_inode; /* 0: not known */
	struct shm_word uid;
	struct shm_word ended; /* how the last owners ended, see slot_ended() */
	struct shm_word name_bytes;
	struct shm_word granted_ns; /* CLOCK_MONOTONIC of the service; information */
	struct shm_word spare[9];
	struct shm_word name[LAYOUT_NAME_BYTES / 8];
};
_Static_assert(sizeof(struct layout_record) == 384, "layout");

enum event_state {
	EVENT_FREE = 0,
	EVENT_PENDING = 1, /* subscribed to, never created */
	EVENT_LIVE = 2,
	EVENT_ORPHAN = 3, /* its SINGLE creator left or died; subscriptions stay */
};

/* The event word: generation << 32 | owner slot << 16 | mode << 8 | state. The generation changes
 * when the entry is freed, not when an orphan is taken over. */
static inline uint64_t event_word(uint32_t generation, uint32_t owner, uint32_t mode,
				  enum event_state state)
{
	return (uint64_t)generation << 32 | (uint64_t)(owner & 0xffff) << 16 |
	       (uint64_t)(mode & 0xff) << 8 | (uint64_t)state;
}

static inline uint32_t event_generation(uint64_t word)
{
	return (uint32_t)(word >> 32);
}

static inline uint32_t event_owner(uint64_t word)
{
	return (uint32_t)(word >> 16) & 0xffff;
}

static inline uint32_t event_mode(uint64_t word)
{
	return (uint32_t)(word >> 8) & 0xff;
}

static inline enum event_state event_state(uint64_t word)
{
	return (enum event_state)(word & 0xff);
}

#define EVENT_FLAG_LOSSY 1u /* all its subscribers are lossy */

struct layout_event {
	_Alignas(RB_LINE) struct shm_word word;
	struct shm_word owner_generation; /* of the owner's slot */
	struct shm_word flags;
	struct shm_word name_bytes;
	struct shm_word changes; /* counts creations and takeovers */
	struct shm_word spare[3];
	_Alignas(RB_LINE) struct shm_word members[LAYOUT_MASK_WORDS]; /* may emit (MULTI) */
	struct shm_word deliver[LAYOUT_MASK_WORDS];		      /* get messages */
	_Alignas(RB_LINE) struct shm_word
		lossy[LAYOUT_MASK_WORDS]; /* of these: never hold an emitter back */
	struct shm_word spare2[4];
	struct shm_word name[LAYOUT_NAME_BYTES / 8];
	struct shm_word spare3[8];
};
_Static_assert(sizeof(struct layout_event) == 512, "layout");

/* A pool extent in its owner's page. where: page-aligned file offset | class in the low 12 bits (0:
 * unused entry; otherwise 1 + log2 of the chunk bytes; POOL_CLASS_BIG: one chunk). bytes: of the
 * whole extent | serial << 48. */
struct layout_pool_extent {
	struct shm_word where;
	struct shm_word bytes;
};

#define NODE_MODE_UNFENCED 1u	   /* does not fence between publishing and looking at doorbells */
#define NODE_MODE_NO_MEMBARRIER 2u /* may not call membarrier: whoever pairs with it fences */

struct layout_node {
	_Alignas(RB_LINE) struct shm_word mode;
	_Alignas(RB_LINE) struct shm_word
		dispatches;	    /* receive turns; line of the receiving thread */
	struct shm_word in_handler; /* 1 + event index, 0xffffffff for contacts; 0 none */
	struct shm_word handler_since_ns;
	struct shm_word received;
	struct shm_word received_bytes;
	struct shm_word dropped_unsubscribed;
	struct shm_word sleeps;
	struct shm_word safety_wakes;
	_Alignas(RB_LINE) struct shm_word dropped_lossy; /* line of the sending thread; what it
							    sent is counted in its rings */
	struct shm_word dropped_gone;
	struct shm_word full;
	struct shm_word wakes;
	struct shm_word corrupt;
	struct shm_word dead_peers;
	struct shm_word spare0[2];
	_Alignas(RB_LINE) struct shm_word spare[40];
	_Alignas(RB_LINE) struct shm_word
		ring[LAYOUT_NODES_MAX]; /* file offset of the ring to each slot; 0: none */
	_Alignas(RB_LINE) struct layout_pool_extent pool[LAYOUT_POOL_EXTENTS];
	struct shm_word spare2[64];
};
_Static_assert(sizeof(struct layout_node) == RB_PAGE, "layout");

/* First page of a ring extent, written by the sender. */
#define RING_STARTS 16u
#define RING_NO_START UINT64_MAX /* no position: those are multiples of 8 */
struct layout_ring_tx {
	_Alignas(RB_LINE) struct shm_word
		hint; /* a position up to which records are published; lags */
	_Alignas(RB_LINE) struct shm_word answered;
	struct shm_word start;
	struct shm_word lost;
	_Alignas(RB_LINE) struct shm_word
		messages;	    /* by the owner named below, like the next five */
	struct shm_word bytes;	    /* of payload; shm_count_two() with the one before */
	struct shm_word high_water; /* most bytes unread, as the sender saw */
	struct shm_word full;
	struct shm_word wakes;
	struct shm_word full_since_ns;
	struct shm_word drops; /* messages not sent to this receiver, ever (lossy) */
	struct shm_word owner; /* generation of the sender's slot */
	_Alignas(RB_LINE) struct shm_word spare2[40];
	/* Position of the first record in each part of the ring, for tools that look behind the
	 * head. */
	_Alignas(RB_LINE) struct shm_word starts[RING_STARTS];
	struct shm_word spare3[432];
};
_Static_assert(sizeof(struct layout_ring_tx) == RB_PAGE, "layout");
_Static_assert(offsetof(struct layout_ring_tx, messages) % 16 == 0, "for shm_count_two()");

/* Bytes of a part. Each begins with a record that says all, which takes the sender and the receiver
 * out of their quick ways; so parts are not small. */
static inline uint64_t layout_ring_part(uint64_t ring_bytes)
{
	return ring_bytes / RING_STARTS;
}

/* Last page of a ring extent, written by the receiver. */
#define RING_HISTOGRAM_BUCKETS 128u
struct layout_ring_rx {
	_Alignas(RB_LINE) struct shm_word head; /* records below it may be overwritten */
	_Alignas(RB_LINE) struct shm_word asked;
	struct shm_word position;
	_Alignas(RB_LINE) struct shm_word messages;
	struct shm_word bytes;
	struct shm_word stale;	    /* records for an earlier owner of the slot, skipped */
	struct shm_word bad;	    /* records refused */
	struct shm_word drops_seen; /* of tx.drops, known to the receiver */
	struct shm_word spare[3];
	_Alignas(RB_LINE) struct shm_word spare2[104];
	_Alignas(RB_LINE) struct shm_word
		histogram[3][RING_HISTOGRAM_BUCKETS]; /* queueing, wake-up, handler */
};
_Static_assert(sizeof(struct layout_ring_rx) == RB_PAGE, "layout");

/* A record, a multiple of 8 bytes:
 *
 *   word 0     bits 0 to 31   bytes of the record
 *              bits 32 to 34  kind
 *              bit 35         RECORD_DROPS
 *              bits 36 to 38  unused bytes at its end
 *              bit 39         RECORD_STAMPED
 *              bits 40 to 63  position / 8, low bits
 *   word 1     receiver generation << 32 | sender generation
 *   word 2     event index << 48 | event generation (contacts: 0)
 *   one word   if RECORD_DROPS: the sender's count of drops so far; in the first record after drops
 *   one word   if RECORD_STAMPED: CLOCK_MONOTONIC in ns; information only
 *   the rest   payload, or descriptor (struct record_chunk)
 *
 * Word 0 is 0 until the record is published. RECORD_PAD has only word 0 and fills the ring to its
 * end. RECORD_SAME has word 0 without flags, then payload: the next message of a stream does not
 * repeat what the one before it said. The first record in each part of a ring (starts[]) is never
 * one, nor the first of a new owner on either end or after a resync; who begins to read in the
 * middle and meets it first skips it. */
enum record_kind {
	RECORD_PAD = 1,
	RECORD_EVENT = 2, /* payload follows */
	RECORD_CONTACT = 3,
	RECORD_EVENT_POOLED = 4, /* struct record_chunk follows */
	RECORD_CONTACT_POOLED = 5,
	RECORD_SAME = 6, /* only word 0, then payload: words 1, 2 and kind as in the last
			    RECORD_EVENT or RECORD_CONTACT before it */
};
#define RECORD_HEADER_BYTES 24u
#define RECORD_SAME_BYTES 8u  /* header of RECORD_SAME */
#define RECORD_SPARE_BYTES 8u /* the next header, always 0 */

struct record_chunk {
	uint64_t size;	/* payload bytes */
	uint64_t chunk; /* chunk index << 32 | extent serial << 16 | extent index */
};

#define RECORD_DROPS (1ull << 35)
#define RECORD_STAMPED (1ull << 39)

/* position: a multiple of 8. flags: RECORD_DROPS, RECORD_STAMPED. tail: bytes at the end of the
 * record that are not payload, below 8. */
static inline uint64_t record_word0(uint64_t position, uint64_t bytes, enum record_kind kind,
				    uint64_t tail, uint64_t flags)
{
	return bytes | (uint64_t)kind << 32 | tail << 36 | flags | position << 37;
}

/* Copied from a header that was checked; every offset follows from it. */
struct layout_geometry {
	uint32_t nodes;
	uint32_t events;
	uint64_t ring_bytes;
	uint64_t pool_bytes;
	uint64_t common_offset;
	uint64_t common_bytes;
	uint64_t control_offset;
	uint64_t control_bytes;
	uint64_t records_offset; /* within the control area, like the next two */
	uint64_t hashes_offset;
	uint64_t events_offset;
	uint64_t nodes_offset;
	uint64_t nodes_bytes;
	uint64_t fixed_bytes; /* extents begin here */
};

/* Fills the derived members from nodes, events, ring_bytes, pool_bytes. -EINVAL if one of these is
 * out of range. */
int layout_geometry_init(struct layout_geometry *g);
/* Signature of this build's layout. */
uint64_t layout_signature(void);
/* Writes a header for g; uuid and boot_id (NUL-terminated) are the caller's. */
void layout_header_write(struct layout_header *h, const struct layout_geometry *g,
			 const uint8_t uuid[16], const char *boot_id, unsigned port, unsigned uid);
/* Checks a private copy of a stranger's header and fills g. -EPROTO: *why gets a static text. */
int layout_header_check(const struct layout_header *h, struct layout_geometry *g, const char **why);

static inline uint64_t layout_ring_extent_bytes(const struct layout_geometry *g)
{
	return g->ring_bytes + 2 * RB_PAGE;
}

/* Names in shared memory are words; these copy them as bytes, never past LAYOUT_NAME_BYTES. */
void layout_name_store(struct shm_word *name, const char *text, size_t bytes);
/* out gets bytes (bounded) and a final 0; returns the length. */
size_t layout_name_load(const struct shm_word *name, uint64_t name_bytes,
			char out[LAYOUT_NAME_BYTES]);
/* Hash of a name, never 0. */
uint64_t layout_name_hash(const char *text, size_t bytes);
/* Whether text is UTF-8 of 1 to 255 bytes (len: bytes) without NUL. */
bool layout_name_valid(const char *text, size_t len);

#endif

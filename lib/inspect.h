/* inspect.h: what the parts of the read-only inspection share. Level 5, stands on levels 0 to 2
 * only.
 *
 * inspect.c opens the file and decodes the header, inspect_node.c nodes and events; inspect_ring.c
 * walks rings from the head; inspect_message.c reads single records, also behind the head;
 * inspect_pool.c looks into pools; inspect_check.c and inspect_check_ring.c are the fsck. Every
 * figure read is a copy by pread() and is bounded before use: offsets against the file, indices
 * against the checked geometry.
 */
#ifndef RINGBUS_INSPECT_PRIVATE_H
#define RINGBUS_INSPECT_PRIVATE_H

#include "layout.h"
#include "ringbus-inspect.h"

/* As in doorbell.h, which is of a higher level; unit_inspect compares them. */
#define INSPECT_BELL_ASLEEP 1ull
#define INSPECT_BELL_WOKEN 2ull

/* A descriptor found in a ring. */
struct inspect_use {
	uint32_t extent;
	uint32_t chunk;
	uint64_t bytes; /* of the payload */
};

struct ringbus_inspect {
	int fd;
	uint64_t file_bytes;
	bool usable; /* g holds */
	const char *why;
	struct layout_header header;
	struct layout_geometry g;
	uint64_t budget; /* bytes that this iteration may still read in extents */
	/* Tail of the ring that single records were read from last. */
	uint64_t tail_offset; /* of the ring's extent; 0: none */
	uint64_t tail;
	/* What the last plain record said up to a position of that ring, for RECORD_SAME. */
	uint64_t said_offset; /* 0: nothing known */
	uint64_t said_position;
	uint64_t said[2];   /* words 1 and 2 */
	unsigned said_kind; /* 0: none */
	/* Descriptors in the rings of uses_slot, sorted; for pools. */
	uint32_t uses_slot;
	size_t uses_count;
	size_t uses_capacity;
	struct inspect_use *uses;
};

/* A word of a private copy. */
static inline uint64_t inspect_word(const struct shm_word *w)
{
	/* relaxed: the copy is private, pread() made it */
	return shm_load_relaxed(w);
}

static inline bool inspect_bit(const uint64_t *mask, unsigned bit)
{
	return mask[bit / 64] >> bit % 64 & 1;
}

static inline void inspect_mask(uint64_t *to, const struct shm_word *from)
{
	for (unsigned i = 0; i < LAYOUT_MASK_WORDS; i++)
		to[i] = inspect_word(&from[i]);
}

static inline bool inspect_mask_empty(const uint64_t *mask)
{
	return !(mask[0] | mask[1] | mask[2] | mask[3]);
}

/* Reads a range; what the file does not have reads as 0. Returns how many bytes it had. */
size_t inspect_read(const struct ringbus_inspect *in, uint64_t offset, void *to, size_t bytes);
/* 0, or -EPROTO with a detail. */
int inspect_usable(const struct ringbus_inspect *in);
/* Reads file size and header again. */
void inspect_refresh(struct ringbus_inspect *in);
/* Allows one iteration over all extents. */
void inspect_budget_start(struct ringbus_inspect *in);
/* What each call of an iteration begins with, the first one (cursor 0) with a fresh look. 0, or
 * -EPROTO as inspect_usable(). */
int inspect_begin(struct ringbus_inspect *in, uint32_t cursor);
/* Takes bytes from the budget; false when it is used up. */
bool inspect_budget_take(struct ringbus_inspect *in, uint64_t bytes);
bool inspect_this_boot(const struct ringbus_inspect *in);

uint64_t inspect_slot_word(const struct ringbus_inspect *in, uint32_t slot);
void inspect_read_bell(const struct ringbus_inspect *in, uint32_t slot, struct layout_bell *bell);
void inspect_read_record(const struct ringbus_inspect *in, uint32_t slot,
			 struct layout_record *record);
void inspect_read_node(const struct ringbus_inspect *in, uint32_t slot, struct layout_node *node);
/* Life of the process that a slot record names. */
enum ringbus_inspect_process inspect_process(const struct layout_record *record,
					     uint64_t slot_word);
/* Whether the bus runs: this boot, and a node's process or the service is there. */
bool inspect_live(const struct ringbus_inspect *in);

/* ---- rings ---- */

struct inspect_record {
	uint64_t position;
	uint32_t bytes;
	enum record_kind kind;
	uint32_t to_generation; /* these only when kind is not RECORD_PAD */
	uint32_t from_generation;
	bool pooled;
	struct record_chunk chunk;
	uint64_t stamp_ns; /* 0: not stamped */
};

/* Whether an extent lies behind the fixed part and in the file; *why (may be NULL) gets a static
 * text. */
bool inspect_extent_ok(const struct ringbus_inspect *in, uint64_t offset, uint64_t bytes,
		       const char **why);
/* Decodes a ring: its words, then a walk that calls visit (may be NULL) for each record. */
void inspect_ring(struct ringbus_inspect *in, uint32_t from, uint32_t to, uint64_t offset,
		  struct ringbus_inspect_ring *ring,
		  void (*visit)(const struct inspect_record *record, void *user), void *user);
/* Where the walk begins: the head, or a resync's start beyond it. */
uint64_t inspect_ring_begin(const struct ringbus_inspect_ring *ring);

/* File offset of the ring between two slots; 0 when there is none, or it is out of the file. */
uint64_t inspect_ring_offset(const struct ringbus_inspect *in, uint32_t from, uint32_t to);

/* ---- pools ---- */

struct inspect_extent {
	uint64_t offset;
	uint64_t bytes;
	uint64_t borrow_bytes; /* the chunks begin behind them */
	uint64_t chunk_bytes;
	uint64_t chunks;
	uint32_t serial;
	uint32_t class_number;
	bool used; /* the entry names an extent */
	bool big;
	const char *why; /* NULL: sound */
};

void inspect_extent_decode(const struct ringbus_inspect *in, const struct layout_pool_extent *entry,
			   struct inspect_extent *extent);
/* Calls visit for each chunk with borrow bits. False: stopped by the budget. */
bool inspect_borrows(struct ringbus_inspect *in, const struct inspect_extent *extent,
		     void (*visit)(uint64_t chunk, const uint64_t *mask, void *user), void *user);

/* ---- check ---- */

struct inspect_check;
void inspect_report(struct inspect_check *c, enum ringbus_inspect_severity severity,
		    const char *code, const char *format, ...) rb_printf(4, 5);

struct inspect_check {
	struct ringbus_inspect *in;
	bool live;
	struct finding {
		enum ringbus_inspect_severity severity;
		const char *code;
		bool standing; /* seen again */
		char text[192];
	} * findings;
	size_t count;
	uint32_t event; /* the one being looked at */
	uint32_t event_generation;
	uint64_t slots[LAYOUT_NODES_MAX]; /* slot words as first read in this pass */
};

/* The part of inspect_check_ring.c: rings, pools and extents. 0 or -ENOMEM. */
int inspect_check_extents(struct inspect_check *c);

#endif

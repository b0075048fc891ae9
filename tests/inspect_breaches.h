/* inspect_breaches.h: the ways to spoil a sound image, and what the fsck must say; for
 * unit_inspect.c. */
#ifndef INSPECT_BREACHES_H
#define INSPECT_BREACHES_H

#include "inspect_image.h"

static void truncate_image(struct image *i, uint64_t bytes)
{
	assert_int_equal(ftruncate(i->fd, (off_t)bytes), 0);
}

static void flip(struct image *i, unsigned which, uint64_t bits)
{
	struct shm_word *w = ring_word(i, i->records[which]);

	set(w, get(w) ^ bits);
}

static void relength(struct image *i, unsigned which, uint64_t bytes)
{
	struct shm_word *w = ring_word(i, i->records[which]);

	set(w, (get(w) & ~0xffffffffull) | bytes);
}

/* Unused bytes at the end of a record without payload. */
static void retail(struct image *i)
{
	set(ring_word(i, HEAD), record_word0(HEAD, 24, RECORD_CONTACT, 1, 0));
}

static void overfill(struct image *i)
{
	uint64_t p = i->tail;

	while (p < HEAD + RING)
		p = put_record(i, p, RECORD_CONTACT, rb_min(HEAD + RING - p, 256), 0);
	put_record(i, HEAD, RECORD_CONTACT, 56, 0);
	set(ring_word(i, HEAD + 56),
	    record_word0(HEAD + 56, RING - (HEAD + 56) % RING, RECORD_PAD, 0, 0));
}

static void rechunk(struct image *i, uint64_t size, uint64_t chunk)
{
	set(ring_word(i, i->records[3] + 32), size);
	set(ring_word(i, i->records[3] + 40), chunk);
}

static void granted_member(struct image *i)
{
	put_slot(i, 2, 3, SLOT_GRANTED, "");
	set(&event(i, 1)->members[0], 1 << 2);
}

/* name, what spoils the image `i`, severity, code and part of the text of the finding */
#define BREACHES(X)                                                                               \
	X(header_magic, header(i)->magic ^= 1, ERROR, "header", "not a ringbus region")           \
	X(header_version, header(i)->version++, ERROR, "header", "another version")               \
	X(header_signature, header(i)->signature++, ERROR, "header", "another build")             \
	X(header_geometry, header(i)->nodes++, ERROR, "header", "geometry")                       \
	X(header_geometry_hopeless, header(i)->nodes = 1, ERROR, "header", "geometry")            \
	X(header_boot_id, memset(header(i)->boot_id, 'x', 40), ERROR, "header", "boot id")        \
	X(header_port, header(i)->port = 0, ERROR, "header", "port")                              \
	X(header_uuid, memset(header(i)->uuid, 0, 16), ERROR, "header", "uuid")                   \
	X(file_short, truncate_image(i, i->g.fixed_bytes - 1), ERROR, "file-size", "fixed part")  \
	X(file_without_ring, truncate_image(i, i->slab_offset - 1), ERROR, "extent",              \
	  "beyond the end")                                                                       \
	X(slot_state, set(&bell(i, 2)->slot, slot_word(1, 1, (enum slot_state)7)), ERROR,         \
	  "slot-state", "7")                                                                      \
	X(slot_generation, set(&bell(i, 2)->slot, slot_word(0, 1, SLOT_GRANTED)), ERROR,          \
	  "slot-generation", "generation is 0")                                                   \
	X(slot_unreaped, set(&bell(i, 2)->slot, slot_word(2, 0, SLOT_DEAD)), WARNING,             \
	  "slot-unreaped", "dead, not yet reaped")                                                \
	X(slot_record, set(&record(i, 0)->pid, 1), WARNING, "slot-record", "recorded pid 1")      \
	X(slot_name_bytes, set(&record(i, 0)->name_bytes, 256), ERROR, "slot-name", "not valid")  \
	X(slot_name_utf8, layout_name_store(record(i, 0)->name, "\xff lpha", 5), ERROR,           \
	  "slot-name", "not valid")                                                               \
	X(slot_name_twice, put_slot(i, 1, 5, SLOT_LIVE, "alpha"), ERROR, "slot-name",             \
	  "same node name")                                                                       \
	X(paired_nobody, set(&bell(i, 0)->paired[0], 1 << NODES), ERROR, "paired",                \
	  "does not exist")                                                                       \
	X(signal_generation, set(&bell(i, 0)->signal, 2ull << 32), ERROR, "signal",               \
	  "instead of 3")                                                                         \
	X(intent_open, set(&control(i)->intent, (uint64_t)CONTROL_EVENT << 56 | 1ull << 32 | 7),  \
	  ERROR, "intent", "event, slot 1, event 7")                                              \
	X(intent_unknown, set(&control(i)->intent, 9ull << 56), ERROR, "intent", "9 is unknown")  \
	X(intent_remains, set(&control(i)->intent, 1), ERROR, "intent", "operands")               \
	X(closing_word, set(&control(i)->closing, 2), ERROR, "closing", "neither")                \
	X(event_state_unknown, set(&event(i, 0)->word, event_word(1, 0, 0, (enum event_state)4)), \
	  ERROR, "event-state", "state 4")                                                        \
	X(event_mode_unknown, set(&event(i, 0)->word, event_word(2, 0, 2, EVENT_LIVE)), ERROR,    \
	  "event-mode", "mode 2")                                                                 \
	X(event_hash_wrong, set(hash(i, 70), 1), ERROR, "event-hash", "does not match")           \
	X(event_hash_missing, set(hash(i, 70), 0), ERROR, "event-hash", "does not match")         \
	X(event_hash_of_free, set(hash(i, 5), 1), ERROR, "event-hash", "free")                    \
	X(event_name_twice,                                                                       \
	  put_event(i, 79, "chat", event_word(0, LAYOUT_NO_SLOT, 0, EVENT_PENDING), 0, 1), ERROR, \
	  "event-name", "events 1 and 79")                                                        \
	X(event_name_empty, set(&event(i, 0)->name_bytes, 0), ERROR, "event-name", "not valid")   \
	X(event_name_long, set(&event(i, 0)->name_bytes, 1ull << 40), ERROR, "event-name",        \
	  "not valid")                                                                            \
	X(event_name_utf8, layout_name_store(event(i, 0)->name, "ne\xc0\x80", 4), ERROR,          \
	  "event-name", "not valid")                                                              \
	X(event_owner_free, set(&bell(i, 0)->slot, slot_word(3, 0, SLOT_FREE)), ERROR,            \
	  "event-owner", "not on the bus")                                                        \
	X(event_owner_changed, set(&event(i, 0)->owner_generation, 2), ERROR, "event-owner",      \
	  "not on the bus")                                                                       \
	X(event_owner_nobody, set(&event(i, 0)->word, event_word(2, 9, 0, EVENT_LIVE)), ERROR,    \
	  "event-owner", "does not exist")                                                        \
	X(event_owner_dead, set(&bell(i, 0)->slot, slot_word(3, 4200, SLOT_DEAD)), WARNING,       \
	  "event-owner", "not yet reaped")                                                        \
	X(event_no_members, set(&event(i, 1)->members[0], 0), ERROR, "event-members",             \
	  "without members")                                                                      \
	X(event_orphan_alone, set(&event(i, 70)->deliver[0], 0), ERROR, "event-members",          \
	  "orphan, but")                                                                          \
	X(event_pending_alone, set(&event(i, 79)->deliver[0], 0), ERROR, "event-members",         \
	  "pending, but")                                                                         \
	X(event_mask_free_slot, set(&event(i, 0)->deliver[0], 1 << 2), ERROR, "event-mask",       \
	  "deliver names slot 2 (generation 2), which is free")                                   \
	X(event_mask_granted, granted_member(i), ERROR, "event-mask", "members names slot 2")     \
	X(event_mask_no_slot, set(&event(i, 0)->deliver[3], 1), ERROR, "event-mask",              \
	  "does not exist")                                                                       \
	X(event_mask_leaving, set(&event(i, 0)->deliver[0], 1 << 3), WARNING, "event-mask",       \
	  "not yet reaped")                                                                       \
	X(event_mask_lossy, set(&event(i, 0)->lossy[0], 1), WARNING, "event-mask", "get nothing") \
	X(event_mask_of_free, set(&event(i, 9)->lossy[2], 1), ERROR, "event-mask", "free, but")   \
	X(ring_position, flip(i, 0, 1ull << 63), ERROR, "ring-record", "another position")        \
	X(ring_position_low, flip(i, 2, 1ull << 40), ERROR, "ring-record", "another position")    \
	X(ring_kind, flip(i, 2, 5ull << 32), ERROR, "ring-record", "is unknown")                  \
	X(ring_length_odd, flip(i, 2, 4), ERROR, "ring-record", "no multiple")                    \
	X(ring_length_short, relength(i, 2, 16), ERROR, "ring-record", "too short")               \
	X(ring_length_zero, relength(i, 2, 0), ERROR, "ring-record", "too short")                 \
	X(ring_length_tail, retail(i), ERROR, "ring-record", "too short")                         \
	X(ring_length_end, relength(i, 0, RING - HEAD % RING + 8), ERROR, "ring-record",          \
	  "crosses")                                                                              \
	X(ring_length_huge, relength(i, 2, 0x7ffffff8), ERROR, "ring-record", "crosses")          \
	X(ring_length_pooled, relength(i, 3, 56), ERROR, "ring-record",                           \
	  "not that of a descriptor")                                                             \
	X(ring_padding, relength(i, 1, 8), ERROR, "ring-record", "padding that does not reach")   \
	X(ring_overfull, overfill(i), ERROR, "ring-record", "more unread")                        \
	X(ring_head_odd, set(&rx(i)->head, HEAD + 4), ERROR, "ring-record", "no multiple")        \
	X(ring_hint_ahead, set(&tx(i)->hint, i->tail + 8), ERROR, "ring-hint", "beyond the tail") \
	X(ring_hint_odd, set(&tx(i)->hint, HEAD + 3), ERROR, "ring-hint", "no multiple")          \
	X(ring_resync_open, set(&rx(i)->asked, 1), WARNING, "ring-resync", "not answered")        \
	X(ring_resync_unasked, set(&tx(i)->answered, 1), ERROR, "ring-resync",                    \
	  "1 resyncs answered")                                                                   \
	X(ring_lost, set(&tx(i)->lost, 1), WARNING, "ring-lost", "lost its place")                \
	X(ring_newer_receiver, set(ring_word(i, i->records[2] + 8), 6ull << 32 | 3), ERROR,       \
	  "ring-generation", "for generation 6 of slot 1, which has 5")                           \
	X(ring_newer_sender, set(ring_word(i, i->records[2] + 8), 5ull << 32 | 4), ERROR,         \
	  "ring-generation", "of generation 4 of slot 0, which has 3")                            \
	X(ring_unpaired, set(&bell(i, 1)->paired[0], 0), ERROR, "ring-unpaired", "does not know") \
	X(ring_asleep, set(&bell(i, 1)->inbox, 9 << 2 | BELL_ASLEEP), INFO, "bell-asleep",        \
	  "epoch 9")                                                                              \
	X(chunk_extent, rechunk(i, 100, pool_chunk_id(1, POOL_SERIAL, 3)), ERROR,                 \
	  "ring-descriptor", "an extent that does not exist")                                     \
	X(chunk_extent_index, rechunk(i, 100, pool_chunk_id(64, POOL_SERIAL, 3)), ERROR,          \
	  "ring-descriptor", "an extent that does not exist")                                     \
	X(chunk_serial, rechunk(i, 100, pool_chunk_id(0, 6, 3)), ERROR, "ring-descriptor",        \
	  "serial")                                                                               \
	X(chunk_index, rechunk(i, 100, pool_chunk_id(0, POOL_SERIAL, 8)), ERROR,                  \
	  "ring-descriptor", "a chunk that does not exist")                                       \
	X(chunk_size, rechunk(i, 1025, pool_chunk_id(0, POOL_SERIAL, 3)), ERROR,                  \
	  "ring-descriptor", "more bytes")                                                        \
	X(borrow_free, set(borrow(i, i->slab_offset, 7), 1 << 2), ERROR, "pool-borrow",           \
	  "which is free")                                                                        \
	X(borrow_no_slot, set(borrow(i, i->slab_offset, 0) + 3, 1), ERROR, "pool-borrow",         \
	  "slot 192")                                                                             \
	X(borrow_dead, set(&bell(i, 3)->slot, slot_word(1, 4203, SLOT_DEAD)), WARNING,            \
	  "pool-borrow", "which is dead")                                                         \
	X(ring_extent_odd, set(&node(i, 1)->ring[0], i->slab_offset + 8), ERROR, "extent",        \
	  "page aligned")                                                                         \
	X(ring_extent_low, set(&node(i, 1)->ring[0], RB_PAGE), ERROR, "extent", "fixed part")     \
	X(ring_extent_high, set(&node(i, 1)->ring[0], 0x7ffffffffffff000ull), ERROR, "extent",    \
	  "the end")                                                                              \
	X(ring_extent_top, set(&node(i, 1)->ring[0], 0xfffffffffffff000ull), ERROR, "extent",     \
	  "the end")                                                                              \
	X(ring_extent_slot, set(&node(i, 1)->ring[9], i->slab_offset), ERROR, "extent",           \
	  "does not exist")                                                                       \
	X(ring_overlap, set(&node(i, 1)->ring[0], i->slab_offset + RB_PAGE), ERROR,               \
	  "extent-overlap", "pool extent 0 of slot 0 and ring 1 to 0")                            \
	X(pool_overlap, set(&node(i, 0)->pool[5].where, i->slab_offset | POOL_CLASS_BIG), ERROR,  \
	  "extent-overlap", "overlap")                                                            \
	X(pool_class, set(&node(i, 0)->pool[5].where, i->big_offset | 64), ERROR, "extent",       \
	  "unknown class")                                                                        \
	X(pool_class_small, set(&node(i, 0)->pool[5].where, i->big_offset | 1), ERROR, "extent",  \
	  "unknown class")                                                                        \
	X(pool_empty, set(&node(i, 0)->pool[5].bytes, 9ull << 48), ERROR, "extent", "empty")      \
	X(pool_bytes_odd, set(&node(i, 0)->pool[5].bytes, BIG_BYTES + 8), ERROR, "extent",        \
	  "whole number")                                                                         \
	X(pool_bytes_small, set(&node(i, 0)->pool[5].bytes, RB_PAGE), ERROR, "extent",            \
	  "too small")                                                                            \
	X(pool_bytes_huge, set(&node(i, 0)->pool[5].bytes, 0xfffffffff000ull), ERROR, "extent",   \
	  "the end")

#endif

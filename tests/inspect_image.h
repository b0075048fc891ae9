/* inspect_image.h: a sound region built by hand in a memory file, for unit_inspect*.c. */
#ifndef INSPECT_IMAGE_H
#define INSPECT_IMAGE_H

#include "inspect.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Each test program uses some of these. */
#pragma GCC diagnostic ignored "-Wunused-function"

#define NODES 4u
#define EVENTS 80u /* more than the fsck reads at once */
#define RING 4096u
#define HEAD (RING * 1000ull + 3968)
#define POOL_SERIAL 7ull
#define SLAB_CLASS 11u /* 1 KiB */
#define SLAB_BYTES (RB_PAGE + 8 * 1024u)
#define BIG_BYTES (3 * RB_PAGE)

struct image {
	struct layout_geometry g;
	uint8_t *base;
	size_t bytes;
	int fd;
	uint64_t ring_offset;
	uint64_t slab_offset;
	uint64_t big_offset;
	uint64_t records[4]; /* positions of contact, padding, event, pooled */
	uint64_t tail;
};

/* ---- a sound image ---- */

static void set(struct shm_word *w, uint64_t v)
{
	shm_store_relaxed(w, v); /* relaxed: nobody else is there */
}

static uint64_t get(const struct shm_word *w)
{
	return shm_load_relaxed(w); /* relaxed: nobody else is there */
}

static void *at(const struct image *i, uint64_t offset)
{
	return i->base + offset;
}

static struct layout_header *header(const struct image *i)
{
	return at(i, 0);
}

static struct layout_bell *bell(const struct image *i, uint32_t slot)
{
	return (struct layout_bell *)at(i, i->g.common_offset + sizeof(struct layout_common)) +
	       slot;
}

static struct layout_control *control(const struct image *i)
{
	return at(i, i->g.control_offset);
}

static struct layout_record *record(const struct image *i, uint32_t slot)
{
	return (struct layout_record *)at(i, i->g.control_offset + i->g.records_offset) + slot;
}

static struct shm_word *hash(const struct image *i, uint32_t event)
{
	return (struct shm_word *)at(i, i->g.control_offset + i->g.hashes_offset) + event;
}

static struct layout_event *event(const struct image *i, uint32_t index)
{
	return (struct layout_event *)at(i, i->g.control_offset + i->g.events_offset) + index;
}

static struct layout_node *node(const struct image *i, uint32_t slot)
{
	return (struct layout_node *)at(i, i->g.nodes_offset) + slot;
}

static struct layout_ring_tx *tx(const struct image *i)
{
	return at(i, i->ring_offset);
}

static struct layout_ring_rx *rx(const struct image *i)
{
	return at(i, i->ring_offset + RB_PAGE + RING);
}

static struct shm_word *ring_word(const struct image *i, uint64_t position)
{
	return at(i, i->ring_offset + RB_PAGE + position % RING);
}

static struct shm_word *borrow(const struct image *i, uint64_t extent, uint32_t chunk)
{
	return (struct shm_word *)at(i, extent) + chunk * LAYOUT_MASK_WORDS;
}

static void put_slot(struct image *i, uint32_t slot, uint32_t generation, enum slot_state state,
		     const char *name)
{
	set(&bell(i, slot)->slot, slot_word(generation, 4200 + slot, state));
	set(&bell(i, slot)->signal, (uint64_t)generation << 32 | slot);
	set(&record(i, slot)->pid, 4200 + slot);
	set(&record(i, slot)->start_time, 1);
	set(&record(i, slot)->name_bytes, strlen(name));
	layout_name_store(record(i, slot)->name, name, strlen(name));
}

static void put_event(struct image *i, uint32_t index, const char *name, uint64_t word,
		      uint64_t members, uint64_t deliver)
{
	struct layout_event *e = event(i, index);

	layout_name_store(e->name, name, strlen(name));
	set(&e->name_bytes, strlen(name));
	set(&e->word, word);
	set(&e->owner_generation, 3);
	set(&e->members[0], members);
	set(&e->deliver[0], deliver);
	set(hash(i, index), layout_name_hash(name, strlen(name)));
}

/* Writes a record and the 0 behind it; returns the next position. */
static uint64_t put_record(struct image *i, uint64_t position, enum record_kind kind,
			   uint64_t bytes, uint64_t flags)
{
	set(ring_word(i, position), record_word0(position, bytes, kind, 0, flags));
	if (kind != RECORD_PAD) {
		set(ring_word(i, position + 8), 5ull << 32 | 3);
		set(ring_word(i, position + 16), 1ull << 48 | 2);
	}
	set(ring_word(i, position + bytes), 0);
	return position + bytes;
}

static void put_ring(struct image *i)
{
	uint64_t p = HEAD;

	set(&node(i, 0)->ring[1], i->ring_offset);
	set(&bell(i, 1)->paired[0], 1);
	i->records[0] = p;
	p = put_record(i, p, RECORD_CONTACT, 56, 0);
	i->records[1] = p;
	p = put_record(i, p, RECORD_PAD, RING - p % RING, 0);
	i->records[2] = p;
	p = put_record(i, p, RECORD_EVENT, 40, RECORD_DROPS | RECORD_STAMPED);
	i->records[3] = p;
	p = put_record(i, p, RECORD_EVENT_POOLED, 48, RECORD_STAMPED);
	set(ring_word(i, i->records[3] + 32), 1000);
	set(ring_word(i, i->records[3] + 40), pool_chunk_id(0, POOL_SERIAL, 3));
	i->tail = p;
	set(&rx(i)->head, HEAD);
	set(&tx(i)->hint, i->tail);
	set(&tx(i)->owner, 3); /* alpha */
	set(&tx(i)->messages, 30);
	set(&tx(i)->drops, 2);
	set(&tx(i)->wakes, 9);
	set(&rx(i)->messages, 27);
}

static void put_pool(struct image *i)
{
	struct layout_pool_extent *pool = node(i, 0)->pool;

	set(&pool[0].where, i->slab_offset | SLAB_CLASS);
	set(&pool[0].bytes, SLAB_BYTES | POOL_SERIAL << 48);
	set(&pool[5].where, i->big_offset | POOL_CLASS_BIG);
	set(&pool[5].bytes, BIG_BYTES | 9ull << 48);
	set(borrow(i, i->slab_offset, 2), 1ull << 1 | 1ull << 3);
	set(borrow(i, i->slab_offset, 3), 1ull << 1);
	set(borrow(i, i->big_offset, 0), 1ull << 3);
}

static void image_build(struct image *i)
{
	static const uint8_t uuid[16] = {1, 2, 3};

	memset(i, 0, sizeof(*i));
	i->g = (struct layout_geometry){.nodes = NODES,
					.events = EVENTS,
					.ring_bytes = RING,
					.pool_bytes = 1 << 20};
	assert_int_equal(layout_geometry_init(&i->g), 0);
	i->ring_offset = i->g.fixed_bytes;
	i->slab_offset = i->ring_offset + layout_ring_extent_bytes(&i->g);
	i->big_offset = i->slab_offset + SLAB_BYTES;
	i->bytes = i->big_offset + BIG_BYTES;
	i->fd = memfd_create("image", MFD_CLOEXEC);
	assert_int_equal(ftruncate(i->fd, (off_t)i->bytes), 0);
	i->base = mmap(NULL, i->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, i->fd, 0);
	assert_ptr_not_equal(i->base, MAP_FAILED);
	layout_header_write(header(i), &i->g, uuid, "another boot", 54321, 1000);
	put_slot(i, 0, 3, SLOT_LIVE, "alpha");
	put_slot(i, 1, 5, SLOT_LIVE, "beta");
	set(&bell(i, 2)->slot, slot_word(2, 0, SLOT_FREE));
	put_slot(i, 3, 1, SLOT_LEAVING, "");
	put_event(i, 0, "news", event_word(2, 0, 0, EVENT_LIVE), 0, 2);
	put_event(i, 1, "chat", event_word(1, LAYOUT_NO_SLOT, 1, EVENT_LIVE), 3, 2);
	put_event(i, 70, "old \xc3\xa4", event_word(4, LAYOUT_NO_SLOT, 0, EVENT_ORPHAN), 0, 2);
	put_event(i, 79, "later", event_word(0, LAYOUT_NO_SLOT, 0, EVENT_PENDING), 0, 1);
	put_ring(i);
	put_pool(i);
}

static void image_drop(struct image *i)
{
	munmap(i->base, i->bytes);
	close(i->fd);
}

/* ---- looking ---- */

static struct ringbus_inspect *image_open(const struct image *i)
{
	struct ringbus_inspect *in = NULL;

	assert_int_equal(ringbus_inspect_open_fd(&in, i->fd), 0);
	return in;
}

/* ---- findings ---- */

struct list {
	unsigned count;
	unsigned of[3];
	struct {
		enum ringbus_inspect_severity severity;
		char code[32];
		char text[200];
	} entry[64];
};

static void list_add(const struct ringbus_inspect_finding *finding, void *user)
{
	struct list *list = user;

	list->of[finding->severity]++;
	if (list->count == rb_array_size(list->entry))
		return;
	list->entry[list->count].severity = finding->severity;
	snprintf(list->entry[list->count].code, 32, "%s", finding->code);
	snprintf(list->entry[list->count++].text, 200, "%s", finding->text);
}

static void check_image(const struct image *i, struct list *list)
{
	struct ringbus_inspect *in = image_open(i);
	int r;

	memset(list, 0, sizeof(*list));
	r = ringbus_inspect_check(in, list_add, list);
	assert_int_equal(r, list->of[RINGBUS_INSPECT_ERROR]);
	ringbus_inspect_close(in);
}

static void list_print(const struct list *list)
{
	for (unsigned i = 0; i < list->count; i++)
		print_message("%d %s: %s\n", list->entry[i].severity, list->entry[i].code,
			      list->entry[i].text);
}

/* Runs through everything; the sums keep the compiler from leaving it out. */
static uint64_t look_at_all(const struct image *i)
{
	struct ringbus_inspect_header h;
	struct ringbus_inspect_node n;
	struct ringbus_inspect_event e;
	struct ringbus_inspect_ring g;
	struct ringbus_inspect_pool p;
	struct ringbus_inspect *in = image_open(i);
	uint64_t sum = 0;
	uint32_t cursor = 0;

	ringbus_inspect_header(in, &h);
	while (ringbus_inspect_node_next(in, &cursor, &n) > 0)
		sum += strlen(n.name);
	for (cursor = 0; ringbus_inspect_event_next(in, &cursor, &e) > 0;)
		sum += strlen(e.name);
	for (cursor = 0; ringbus_inspect_ring_next(in, &cursor, &g) > 0;) {
		assert_true(g.unread_bytes < g.capacity || g.damage[0]);
		sum += g.unread_records;
	}
	for (cursor = 0; ringbus_inspect_pool_next(in, &cursor, &p) > 0;)
		sum += p.used;
	ringbus_inspect_check(in, NULL, NULL);
	ringbus_inspect_close(in);
	return sum;
}

/* unit_inspect --write PATH: writes the sound image, to be looked at by hand. */
static int write_image(const char *path)
{
	struct image i;
	FILE *f = fopen(path, "wb");

	image_build(&i);
	if (!f || fwrite(i.base, i.bytes, 1, f) != 1 || fclose(f) != 0)
		return 1;
	image_drop(&i);
	return 0;
}

#endif

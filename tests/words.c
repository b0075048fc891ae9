/* words.c: see words.h. */
#include "words.h"

#include "harness.h"
#include "pool.h"
#include "region.h"

#include <sys/mman.h>

#define RANGES 1024

static struct words_range ranges[RANGES];
static unsigned range_count;
static const struct region *region;

void words_find_mappings(const struct region *r)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[600], mode[8];

	region = r;
	range_count = 0;
	while (maps && range_count < RANGES && fgets(line, sizeof(line), maps)) {
		struct words_range *at = &ranges[range_count];
		unsigned long begin, end, offset;

		if (!strstr(line, bus_directory()) ||
		    sscanf(line, "%lx-%lx %7s %lx", &begin, &end, mode, &offset) != 4)
			continue;
		*at = (struct words_range){begin, end, offset,
					   PROT_READ | (mode[1] == 'w' ? PROT_WRITE : 0)};
		range_count++;
	}
	if (maps)
		fclose(maps);
}

const struct words_range *words_mappings(unsigned *count)
{
	*count = range_count;
	return ranges;
}

uint64_t words_offset(const void *address)
{
	uint64_t at = (uint64_t)(uintptr_t)address;

	/* what is not known may have been mapped since */
	for (int tries = 0; tries < 2; tries++) {
		for (unsigned i = 0; i < range_count; i++)
			if (at >= ranges[i].begin && at < ranges[i].end)
				return ranges[i].offset + (at - ranges[i].begin);
		if (tries == 0)
			words_find_mappings(region);
	}
	return UINT64_MAX;
}

struct named {
	size_t begin, end;
	const char *name;
};

#define WORD(type, member)                                                                  \
	{                                                                                   \
		offsetof(struct type, member),                                              \
			offsetof(struct type, member) + sizeof(((struct type *)0)->member), \
			#type "." #member                                                   \
	}

static const char *find(const struct named *table, size_t n, uint64_t at, const char *otherwise)
{
	for (size_t i = 0; i < n; i++)
		if (at >= table[i].begin && at < table[i].end)
			return table[i].name + sizeof("layout_") - 1;
	return otherwise;
}

static const struct named bell[] = {
	WORD(layout_bell, slot),   WORD(layout_bell, inbox),  WORD(layout_bell, room),
	WORD(layout_bell, signal), WORD(layout_bell, paired),
};
static const struct named control[] = {
	WORD(layout_control, intent),
	WORD(layout_control, intent_pid),
	WORD(layout_control, closing),
	WORD(layout_control, service_pid),
};
static const struct named record[] = {
	WORD(layout_record, pid),	  WORD(layout_record, start_time),
	WORD(layout_record, pidfd_inode), WORD(layout_record, ended),
	WORD(layout_record, name_bytes),  WORD(layout_record, name),
};
static const struct named event[] = {
	WORD(layout_event, word),    WORD(layout_event, owner_generation),
	WORD(layout_event, flags),   WORD(layout_event, name_bytes),
	WORD(layout_event, changes), WORD(layout_event, members),
	WORD(layout_event, deliver), WORD(layout_event, lossy),
	WORD(layout_event, name),
};
static const struct named node[] = {
	WORD(layout_node, mode),
	WORD(layout_node, ring),
	WORD(layout_node, pool),
};
static const struct named ring_tx[] = {
	WORD(layout_ring_tx, hint), WORD(layout_ring_tx, answered), WORD(layout_ring_tx, start),
	WORD(layout_ring_tx, lost), WORD(layout_ring_tx, drops),
};
static const struct named ring_rx[] = {
	WORD(layout_ring_rx, head),
	WORD(layout_ring_rx, asked),
	WORD(layout_ring_rx, position),
};

#define FIND(table, at) find(table, rb_array_size(table), at, "counter")

static const char *in_control(uint64_t at)
{
	const struct layout_geometry *g = &region->g;

	if (at < g->records_offset)
		return FIND(control, at);
	if (at < g->hashes_offset)
		return FIND(record, (at - g->records_offset) % sizeof(struct layout_record));
	if (at < g->events_offset)
		return "hash";
	return FIND(event, (at - g->events_offset) % sizeof(struct layout_event));
}

static const char *in_ring(uint64_t at)
{
	if (at < RB_PAGE)
		return FIND(ring_tx, at);
	if (at >= RB_PAGE + region->g.ring_bytes)
		return FIND(ring_rx, at - RB_PAGE - region->g.ring_bytes);
	return "record";
}

static const char *in_extent(uint64_t offset)
{
	for (uint32_t s = 0; s < region->g.nodes; s++) {
		const struct layout_node *page = &region->nodes[s];

		for (uint32_t t = 0; t < region->g.nodes; t++) {
			uint64_t begin = atomic_load(&page->ring[t].v);

			if (begin && offset >= begin &&
			    offset - begin < layout_ring_extent_bytes(&region->g))
				return in_ring(offset - begin);
		}
		for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
			struct pool_place place;

			if (pool_place_read(&page->pool[i], &place) && offset >= place.offset &&
			    offset - place.offset < place.bytes)
				return offset - place.offset < place.bits_bytes ? "borrow bits"
										: "payload";
		}
	}
	return "unnamed";
}

const char *words_name(uint64_t offset)
{
	const struct layout_geometry *g = &region->g;

	if (offset < g->common_offset)
		return "header";
	if (offset < g->control_offset) {
		offset -= g->common_offset;
		if (offset < sizeof(struct layout_common))
			return "common.control_epoch";
		return FIND(bell,
			    (offset - sizeof(struct layout_common)) % sizeof(struct layout_bell));
	}
	if (offset < g->nodes_offset)
		return in_control(offset - g->control_offset);
	if (offset < g->fixed_bytes)
		return FIND(node, (offset - g->nodes_offset) % sizeof(struct layout_node));
	return in_extent(offset);
}

/* words.h: which word of the region an address is, by name, for tests that watch loads. */
#ifndef RINGBUS_TESTS_WORDS_H
#define RINGBUS_TESTS_WORDS_H

#include "layout.h"

struct region;

/* Reads /proc/self/maps; again before each operation, since what is unmapped may come back
 * elsewhere. */
void words_find_mappings(const struct region *region);
/* Offset in the region file, or UINT64_MAX: not in a mapping of it. */
uint64_t words_offset(const void *address);
/* Name of a word, such as "bell.slot"; the same for all slots, events and rings. "counter": for
 * information only. "payload": the inside of a chunk, or of a record behind its header. */
const char *words_name(uint64_t offset);

struct words_range {
	uint64_t begin, end, offset;
	int protection;
};
/* The mappings found. */
const struct words_range *words_mappings(unsigned *count);

#endif

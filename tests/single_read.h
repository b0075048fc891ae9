/* single_read.h: the operations in which no word of shared memory may decide twice, and the words
 * that may be loaded more often, each with its reason.
 */
#ifndef RINGBUS_TESTS_SINGLE_READ_H
#define RINGBUS_TESTS_SINGLE_READ_H

#include "harness.h"
#include "words.h"

struct single_operation {
	const char *name;
	void (*run)(void);
	bool control; /* takes the control lock, or makes mappings */
};

/* Opens nodes, events and rings in this process; the operations work on them. */
void single_prepare(void);
/* In an order in which each finds something to do. */
extern const struct single_operation single_operations[];
extern const unsigned single_operation_count;
/* The node that is watched. */
struct ringbus_node *single_node(void);

/* One load of the word at `offset` in the operation under way. */
void single_loaded(uint64_t offset);
void single_begin(const char *operation);
/* Judges the loads of the operation. Returns how many words were loaded too often; says which. */
unsigned single_end(void);
/* Sums for the last line. */
void single_say(const char *how);

#endif

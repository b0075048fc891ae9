/* hostile.h: shared memory as an adversary's choice, for the fuzz_hostile* programs.
 *
 * While armed, each word that this thread loads from shared memory may be a lie: 0, all ones, a
 * flipped bit, a neighbour, an old value, something near a limit, or a forged record, slot word or
 * offset that passes the first checks. Two loads of one word need not agree, so whoever decides by
 * two reads is found out too. Every access is checked to lie within a mapping of the region file,
 * and the loads of one operation are counted: more than the bound is a loop that an adversary
 * prolongs. Everything follows from one seed.
 */
#ifndef RINGBUS_TESTS_HOSTILE_H
#define RINGBUS_TESTS_HOSTILE_H

#include "harness.h"
#include "image.h"
#include "node.h"

/* Installs the hooks. Loads are true until armed. */
void hostile_begin(uint64_t seed);
/* One operation begins, for the counts and for the text of a failure. per_mille: of the loads, how
 * many lie. */
void hostile_arm(const char *operation, unsigned per_mille);
/* It has ended, with this code: negative ones must be documented. */
void hostile_disarm(int rc);
/* Whose rings the forged records are for; NULL: none. */
void hostile_victim(struct ringbus_node *node);
/* Loads are of private copies: accesses are not checked against the mappings. */
void hostile_private(bool is_private);
/* Ends the child if the range is not within one mapping of the region. */
void hostile_check_range(const void *at, size_t bytes);

uint64_t hostile_random(void);
static inline uint64_t hostile_below(uint64_t n)
{
	return hostile_random() % n;
}

struct hostile_counts {
	uint64_t operations, loads, lies;
	uint64_t worst; /* loads of one operation */
	const char *worst_operation;
	uint64_t failed; /* operations with an error code */
};
const struct hostile_counts *hostile_counts(void);

/* Stores random words all over the file: `words` of them. */
void hostile_scribble(unsigned words);

/* Runs fn(0) in a child. If it does not end well the line that replays it is printed: the child
 * keeps the number of its episode in word 0. */
void hostile_run(child_fn fn, const char *test, uint64_t seed);

#endif

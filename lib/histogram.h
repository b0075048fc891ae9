/* histogram.h: log-linear histograms of times, kept in the region. Level 1.
 *
 * A time is counted in units of 32 ns. Times below 4 units have a bucket each; from there on each
 * power of two is cut in 4 equal buckets, so a bucket is never wider than a quarter of its lower
 * bound. 128 buckets reach to 240 s, where the last one begins, which takes everything above.
 *
 * A histogram has one writer, the receiver of its ring, which adds without RMW. Readers copy it and
 * may be one count behind.
 */
#ifndef RINGBUS_HISTOGRAM_H
#define RINGBUS_HISTOGRAM_H

#include "layout.h"

#define HISTOGRAM_UNIT_SHIFT 5u /* 32 ns */
#define HISTOGRAM_SUB_SHIFT 2u	/* buckets of a power of two: 4 */
#define HISTOGRAM_SUB (1u << HISTOGRAM_SUB_SHIFT)

/* What the histograms of a ring are of: members of layout_ring_rx.histogram. */
enum histogram_of {
	HISTOGRAM_QUEUE = 0, /* published, or receiver awake again, until taken from the ring */
	HISTOGRAM_WAKE = 1,  /* published while the receiver slept, until it was awake */
	HISTOGRAM_HANDLER = 2,
};

/* Bucket of a time. */
rb_inline unsigned histogram_index(uint64_t ns)
{
	uint64_t units = ns >> HISTOGRAM_UNIT_SHIFT;
	unsigned power, index;

	if (units < HISTOGRAM_SUB)
		return (unsigned)units;
	power = 63u - (unsigned)__builtin_clzll(units);
	index = (power - HISTOGRAM_SUB_SHIFT + 1) * HISTOGRAM_SUB +
		(unsigned)(units >> (power - HISTOGRAM_SUB_SHIFT) & (HISTOGRAM_SUB - 1));
	return index < RING_HISTOGRAM_BUCKETS ? index : RING_HISTOGRAM_BUCKETS - 1;
}

/* Least time of a bucket, also of the one behind the last. */
static inline uint64_t histogram_low(unsigned index)
{
	unsigned power = index / HISTOGRAM_SUB, sub = index % HISTOGRAM_SUB;

	if (power == 0)
		return (uint64_t)sub << HISTOGRAM_UNIT_SHIFT;
	return (uint64_t)(HISTOGRAM_SUB + sub) << (power - 1) << HISTOGRAM_UNIT_SHIFT;
}

/* First time above a bucket; UINT64_MAX for the last one. */
static inline uint64_t histogram_high(unsigned index)
{
	return index + 1 < RING_HISTOGRAM_BUCKETS ? histogram_low(index + 1) : UINT64_MAX;
}

/* Counts a time. Only the writer of the page may call it. */
rb_inline void histogram_add(struct shm_word buckets[RING_HISTOGRAM_BUCKETS], uint64_t ns)
{
	shm_count(&buckets[histogram_index(ns)], 1);
}

#endif

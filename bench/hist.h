/* hist.h: a log-linear histogram of durations: 128 buckets for each power of two, so values are
 * kept to 0.8 %. */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>
#include <stdio.h>

#define HIST_SUB_BITS 7
#define HIST_SUB (1u << HIST_SUB_BITS)
#define HIST_BUCKETS (HIST_SUB * (64 - HIST_SUB_BITS + 1))

struct hist {
	uint64_t count;
	uint64_t max;
	double sum;
	uint32_t buckets[HIST_BUCKETS];
};

static inline unsigned hist_bucket(uint64_t value)
{
	unsigned shift;

	if (value < HIST_SUB)
		return (unsigned)value;
	shift = 63u - (unsigned)__builtin_clzll(value) - HIST_SUB_BITS;
	return (shift + 1) * HIST_SUB + (unsigned)((value >> shift) - HIST_SUB);
}

static inline void hist_add(struct hist *hist, uint64_t value)
{
	hist->buckets[hist_bucket(value)]++;
	hist->count++;
	hist->sum += (double)value;
	if (value > hist->max)
		hist->max = value;
}

/* Adds from's counts to into. */
void hist_merge(struct hist *into, const struct hist *from);
/* The value that this share (0 to 1) of the values do not exceed, multiplied by scale. Values that
 * the clock's steps made equal are taken as spread evenly over one step. */
double hist_at(const struct hist *hist, double share, double scale);
/* The clock's step, in the unit of the values; 0 if it has none. */
extern double hist_step;
/* Writes HdrHistogram's percentile text (.hgrm); values are multiplied by scale. */
void hist_export(const struct hist *hist, double scale, FILE *out);

#endif

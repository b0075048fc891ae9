/* clock.c: how long a tick is. */
#include "clock.h"
#include "hist.h"

#include <math.h>

#define SAMPLES 4000

double clock_ns_per_tick = 1.0;

/* The step, if these times are multiples of one; it need not be a whole number of ticks, so only
 * the first few. */
static double clock_multiples(const uint16_t *times, uint64_t least)
{
	unsigned single = 0, multiples = 0, others = 0;
	double step = 0;

	for (unsigned i = 0; i < SAMPLES; i++)
		if (times[i] >= least && times[i] < least * 3 / 2) {
			step += times[i];
			single++;
		}
	step /= single ? single : 1;
	for (unsigned i = 0; i < SAMPLES; i++) {
		double ratio = times[i] / step;

		if (ratio < 1.5 || ratio > 8)
			continue;
		if (fabs(ratio - round(ratio)) * step <= 2)
			multiples++;
		else
			others++;
	}
	return multiples > 20 * others ? step : 0;
}

/* Some processors count in large steps: then times of different work are all multiples of the
 * smallest. */
static double clock_step(void)
{
	static uint16_t times[SAMPLES];
	uint64_t least = UINT16_MAX;

	for (unsigned i = 0; i < SAMPLES; i++) {
		uint64_t before = clock_ticks();
		uint64_t took;

		for (volatile unsigned work = i % 41; work > 0; work--)
			continue;
		took = clock_ticks() - before;
		times[i] = took < UINT16_MAX ? (uint16_t)took : 0;
		if (times[i] >= 8 &&
		    times[i] < least) /* less is a step of the virtual clock itself */
			least = times[i];
	}
	return clock_multiples(times, least);
}

void clock_calibrate(void)
{
	uint64_t ns = clock_of(CLOCK_MONOTONIC);
	uint64_t ticks = clock_ticks();
	uint64_t end_ns, end_ticks;

	do {
		end_ns = clock_of(CLOCK_MONOTONIC);
		end_ticks = clock_ticks();
	} while (end_ns - ns < 10000000);
	hist_step = clock_step();
	clock_ns_per_tick = (double)(end_ns - ns) / (double)(end_ticks - ticks);
}

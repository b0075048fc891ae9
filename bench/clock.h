/* clock.h: the cheapest clock that two processors share, and the processor's pause. */
#ifndef BENCH_CLOCK_H
#define BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

extern double clock_ns_per_tick;

static inline uint64_t clock_ticks(void)
{
#if defined(__x86_64__)
	return __builtin_ia32_rdtsc();
#else
	uint64_t ticks;

	__asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
	return ticks;
#endif
}

static inline uint64_t clock_ns(uint64_t ticks)
{
	return (uint64_t)((double)ticks * clock_ns_per_tick);
}

static inline uint64_t clock_from_ns(uint64_t ns)
{
	return (uint64_t)((double)ns / clock_ns_per_tick);
}

static inline uint64_t clock_of(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("isb" ::: "memory");
#endif
}

/* Compares the ticks with CLOCK_MONOTONIC for about 10 ms. Call it before the processes start. */
void clock_calibrate(void);

#endif

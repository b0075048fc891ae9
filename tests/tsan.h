/* tsan.h: included before everything in the TSan build: libtsan of gcc 12 does not see pthread_mutex_clocklock(). */
#ifndef RINGBUS_TESTS_TSAN_H
#define RINGBUS_TESTS_TSAN_H

#include <pthread.h>
#include <time.h>

static inline int tsan_clocklock(pthread_mutex_t *mutex, const struct timespec *until)
{
	struct timespec now, real;
	long ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	clock_gettime(CLOCK_REALTIME, &real);
	ns = real.tv_nsec + until->tv_nsec - now.tv_nsec;
	real.tv_sec += until->tv_sec - now.tv_sec + (ns >= 1000000000) - (ns < 0);
	real.tv_nsec = ns + (ns < 0 ? 1000000000 : 0) - (ns >= 1000000000 ? 1000000000 : 0);
	return pthread_mutex_timedlock(mutex, &real);
}

#define pthread_mutex_clocklock(mutex, clock, until) tsan_clocklock((mutex), (until))

#endif

/* base.h: attributes and arithmetic that everything uses. Level 0. */
#ifndef RINGBUS_BASE_H
#define RINGBUS_BASE_H

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <pthread.h>
#include <time.h>

#define rb_likely(x) __builtin_expect(!!(x), 1)
#define rb_unlikely(x) __builtin_expect(!!(x), 0)
#define rb_printf(f, a) __attribute__((format(printf, f, a)))
#define rb_inline static inline __attribute__((always_inline))
#define rb_cold __attribute__((cold, noinline))
#define rb_noinline __attribute__((noinline))

#define RB_LINE 64u /* bytes of a cache line */
#define RB_PAGE                                                                           \
	4096u /* bytes of a page; the layout does not depend on the kernel's being larger \
	       */
#define RB_MS 1000000ull
#define RB_SECOND 1000000000ull

#define rb_array_size(a) (sizeof(a) / sizeof((a)[0]))
#define rb_container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

static inline uint64_t rb_min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t rb_max(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* unit: a power of two. Wraps to 0 for n within unit of 2^64: callers bound n first. */
static inline uint64_t rb_align_up(uint64_t n, uint64_t unit)
{
	return (n + unit - 1) & ~(unit - 1);
}

static inline bool rb_is_power_of_two(uint64_t n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* 16 bytes anywhere; arrays of char instead would go through the stack. */
typedef unsigned char rb_v16 __attribute__((vector_size(16), aligned(1), may_alias));
typedef uint64_t rb_v8 __attribute__((aligned(1), may_alias));
typedef uint32_t rb_v4 __attribute__((aligned(1), may_alias));

rb_inline void rb_copy_32(unsigned char *to, const unsigned char *from)
{
	rb_v16 a = ((const rb_v16 *)from)[0], b = ((const rb_v16 *)from)[1];

	((rb_v16 *)to)[0] = a;
	((rb_v16 *)to)[1] = b;
}

/* At most 16. */
rb_inline void rb_copy_16(unsigned char *to, const unsigned char *from, size_t bytes)
{
	if (bytes >= 8) {
		*(rb_v8 *)to = *(const rb_v8 *)from;
		if (bytes > 8)
			*(rb_v8 *)(to + bytes - 8) = *(const rb_v8 *)(from + bytes - 8);
	} else if (bytes >= 4) {
		*(rb_v4 *)to = *(const rb_v4 *)from;
		*(rb_v4 *)(to + bytes - 4) = *(const rb_v4 *)(from + bytes - 4);
	} else if (bytes > 0) {
		to[0] = from[0];
		to[bytes / 2] = from[bytes / 2];
		to[bytes - 1] = from[bytes - 1];
	}
}

#define RB_COPY_INLINE_MAX 128u
/* memcpy() without a call for small sizes: from both ends, so that the copies overlap. */
rb_inline void rb_copy(void *to, const void *from, size_t bytes)
{
	unsigned char *t = to, *t_end = t + bytes;
	const unsigned char *f = from, *f_end = f + bytes;

	if (bytes <= 16) {
		rb_copy_16(t, f, bytes);
	} else if (bytes <= 32) {
		*(rb_v16 *)t = *(const rb_v16 *)f;
		*(rb_v16 *)(t_end - 16) = *(const rb_v16 *)(f_end - 16);
	} else if (bytes <= 64) {
		rb_copy_32(t, f);
		rb_copy_32(t_end - 32, f_end - 32);
	} else if (bytes <= RB_COPY_INLINE_MAX) {
		rb_copy_32(t, f);
		rb_copy_32(t + 32, f + 32);
		rb_copy_32(t_end - 64, f_end - 64);
		rb_copy_32(t_end - 32, f_end - 32);
	} else {
		memcpy(to, from, bytes);
	}
}

/* CLOCK_MONOTONIC in nanoseconds; never stored where another process decides by it. */
static inline uint64_t rb_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * RB_SECOND + (uint64_t)ts.tv_nsec;
}

/* Deadline of a relative timeout that begins at `now`; saturates, so RINGBUS_FOREVER stays for
 * ever. */
static inline uint64_t rb_deadline_from(uint64_t now, uint64_t timeout_ns)
{
	return timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;
}

/* The same beginning now; 0 stays 0. */
static inline uint64_t rb_deadline_ns(uint64_t timeout_ns)
{
	if (timeout_ns == 0 || timeout_ns == UINT64_MAX)
		return timeout_ns;
	return rb_deadline_from(rb_now_ns(), timeout_ns);
}

/* Time left at `now` to a deadline; UINT64_MAX stays for ever, 0 once it has passed. */
static inline uint64_t rb_left_from(uint64_t now, uint64_t deadline_ns)
{
	if (deadline_ns == UINT64_MAX)
		return deadline_ns;
	return now >= deadline_ns ? 0 : deadline_ns - now;
}

/* The same now. */
static inline uint64_t rb_left_ns(uint64_t deadline_ns)
{
	if (deadline_ns == UINT64_MAX || deadline_ns == 0)
		return deadline_ns;
	return rb_left_from(rb_now_ns(), deadline_ns);
}

/* Locks by a deadline (rb_deadline_ns(); 0 tries once). False: not in time. */
static inline bool rb_mutex_lock(pthread_mutex_t *mutex, uint64_t deadline_ns)
{
	struct timespec at = {.tv_sec = (time_t)(deadline_ns / RB_SECOND),
			      .tv_nsec = (long)(deadline_ns % RB_SECOND)};

	if (pthread_mutex_trylock(mutex) == 0)
		return true;
	if (deadline_ns == 0)
		return false;
#ifdef __SANITIZE_THREAD__
	/* ThreadSanitizer of gcc 12 does not know pthread_mutex_clocklock() */
	while (pthread_mutex_trylock(mutex) != 0) {
		struct timespec pause = {.tv_nsec = 100000};

		if (rb_left_ns(deadline_ns) == 0)
			return false;
		nanosleep(&pause, NULL);
	}
	(void)at;
	return true;
#else
	return pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &at) == 0;
#endif
}

#endif

/* bell.h: the shortest correct sleep and wake on a futex, for the limits that sleep. One sleeper,
 * one waker. */
#ifndef BENCH_BELL_H
#define BENCH_BELL_H

#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
	syscall(SYS_futex, word, FUTEX_WAIT, value, NULL, NULL, 0);
}

static inline void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* After the sleeper's store of 1 it must look once more before bell_sleep(). */
static inline void bell_announce(_Atomic uint32_t *asleep)
{
	atomic_store_explicit(asleep, 1, memory_order_relaxed);
	atomic_thread_fence(memory_order_seq_cst);
}

static inline void bell_sleep(_Atomic uint32_t *asleep)
{
	futex_wait(asleep, 1);
	atomic_store_explicit(asleep, 0, memory_order_relaxed);
}

static inline void bell_cancel(_Atomic uint32_t *asleep)
{
	atomic_store_explicit(asleep, 0, memory_order_relaxed);
}

/* Call it after publishing and a full fence. */
static inline void bell_ring_fenced(_Atomic uint32_t *asleep)
{
	if (atomic_load_explicit(asleep, memory_order_relaxed)) {
		atomic_store_explicit(asleep, 0, memory_order_relaxed);
		futex_wake(asleep);
	}
}

/* Call it after publishing. */
static inline void bell_ring(_Atomic uint32_t *asleep)
{
	atomic_thread_fence(memory_order_seq_cst);
	bell_ring_fenced(asleep);
}

#endif

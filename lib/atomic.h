/* atomic.h: typed access to words in shared memory; the only user of stdatomic. Level 0.
 *
 * Every shared word is a struct shm_word, so that nobody can read or write one by accident: the
 * order stands in the name of the operation. All words are 64 bit. Payload bytes go through
 * shm_copy_in() and shm_copy_out().
 *
 * In a build with RINGBUS_HOOKS each access goes through the table `shm_hooks` when one is
 * installed: that is where tests put the schedule explorer (store buffers, stale reads), hostile
 * loads, corruption between two accesses, and deaths at kill points. Release builds have none of
 * it.
 *
 * ThreadSanitizer knows no stand-alone fences, so there the full fence is an exchange on a private
 * word.
 */
#ifndef RINGBUS_ATOMIC_H
#define RINGBUS_ATOMIC_H

#include "base.h"

#include <stdatomic.h>

struct shm_word {
	_Atomic uint64_t v;
};

_Static_assert(sizeof(struct shm_word) == 8 && ATOMIC_LLONG_LOCK_FREE == 2,
	       "64-bit lock-free words");

#if defined(__SANITIZE_THREAD__)
#define SHM_TSAN
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SHM_TSAN
#endif
#endif

enum shm_order { SHM_RELAXED, SHM_ACQUIRE, SHM_RELEASE, SHM_ACQ_REL };
enum shm_rmw { SHM_OR, SHM_AND, SHM_ADD };

struct shm_hooks {
	uint64_t (*load)(const struct shm_word *w, enum shm_order order);
	void (*store)(struct shm_word *w, uint64_t v, enum shm_order order);
	bool (*cas)(struct shm_word *w, uint64_t *expected, uint64_t desired);
	uint64_t (*rmw)(struct shm_word *w, enum shm_rmw op, uint64_t v);
	void (*fence)(void);
	void (*copy_in)(void *to, const void *shared, size_t bytes);
	void (*copy_out)(void *shared, const void *from, size_t bytes);
	/* Sleep while the low half of w is `low`, and wake all sleepers on w. Results as of the
	 * system call. */
	int (*futex_wait)(struct shm_word *w, uint32_t low, uint64_t timeout_ns);
	int (*futex_wake)(struct shm_word *w);
	int (*membarrier)(void);
	void (*kill_point)(const char *name);
};

#ifdef RINGBUS_HOOKS
extern const struct shm_hooks *shm_hooks; /* NULL: plain access */
#define SHM_HOOK(member) (rb_unlikely(shm_hooks != NULL && shm_hooks->member != NULL))
#define SHM_CALL(...) shm_hooks->__VA_ARGS__
/* Marks a moment between two stores of a protocol at which a death must be harmless. */
#define KILL_POINT(name)                             \
	do {                                         \
		if (SHM_HOOK(kill_point))            \
			shm_hooks->kill_point(name); \
	} while (0)
#else
#define SHM_HOOK(member) 0
#define SHM_CALL(...) 0
#define KILL_POINT(name) \
	do {             \
	} while (0)
#endif

rb_inline uint64_t shm_load_relaxed(const struct shm_word *w)
{
	if (SHM_HOOK(load))
		return SHM_CALL(load(w, SHM_RELAXED));
	return atomic_load_explicit(&w->v, memory_order_relaxed);
}

rb_inline uint64_t shm_load_acquire(const struct shm_word *w)
{
	if (SHM_HOOK(load))
		return SHM_CALL(load(w, SHM_ACQUIRE));
	return atomic_load_explicit(&w->v, memory_order_acquire);
}

rb_inline void shm_store_relaxed(struct shm_word *w, uint64_t v)
{
	if (SHM_HOOK(store)) {
		(void)SHM_CALL(store(w, v, SHM_RELAXED));
		return;
	}
	atomic_store_explicit(&w->v, v, memory_order_relaxed);
}

rb_inline void shm_store_release(struct shm_word *w, uint64_t v)
{
	if (SHM_HOOK(store)) {
		(void)SHM_CALL(store(w, v, SHM_RELEASE));
		return;
	}
	atomic_store_explicit(&w->v, v, memory_order_release);
}

/* Acquire and release on success, acquire on failure; *expected gets what was there. */
rb_inline bool shm_cas(struct shm_word *w, uint64_t *expected, uint64_t desired)
{
	if (SHM_HOOK(cas))
		return SHM_CALL(cas(w, expected, desired));
	return atomic_compare_exchange_strong_explicit(&w->v, expected, desired,
						       memory_order_acq_rel, memory_order_acquire);
}

/* The three below return the word as it was; acquire and release. */
rb_inline uint64_t shm_fetch_or(struct shm_word *w, uint64_t bits)
{
	if (SHM_HOOK(rmw))
		return SHM_CALL(rmw(w, SHM_OR, bits));
	return atomic_fetch_or_explicit(&w->v, bits, memory_order_acq_rel);
}

rb_inline uint64_t shm_fetch_and(struct shm_word *w, uint64_t bits)
{
	if (SHM_HOOK(rmw))
		return SHM_CALL(rmw(w, SHM_AND, bits));
	return atomic_fetch_and_explicit(&w->v, bits, memory_order_acq_rel);
}

rb_inline uint64_t shm_fetch_add(struct shm_word *w, uint64_t n)
{
	if (SHM_HOOK(rmw))
		return SHM_CALL(rmw(w, SHM_ADD, n));
	return atomic_fetch_add_explicit(&w->v, n, memory_order_acq_rel);
}

/* Adds to a counter whose only writer is the caller: no RMW. */
rb_inline void shm_count(struct shm_word *w, uint64_t n)
{
	/* relaxed: own counter, for information */
	shm_store_relaxed(w, shm_load_relaxed(w) + n);
}

/* Adds to two neighbouring counters, at a multiple of 16, whose only writer is the caller. */
rb_inline void shm_count_two(struct shm_word *w, uint64_t first, uint64_t second)
{
#if defined(__x86_64__) && !defined(RINGBUS_HOOKS) && !defined(SHM_TSAN)
	/* relaxed, both: own counters, for information. One store instead of two: what a sender
	 * stores for each message bounds how far ahead it fetches lines. Each half is whole for who
	 * reads it. */
	typedef uint64_t two __attribute__((vector_size(16), may_alias));

	*(volatile two *)(void *)w += (two){first, second};
#else
	shm_count(&w[0], first);
	shm_count(&w[1], second);
#endif
}

/* A full fence towards who calls membarrier(): the compiler keeps the order, that call sees to the
 * processor. */
rb_inline void shm_light_fence(void)
{
	atomic_signal_fence(memory_order_seq_cst);
}

/* Full fence: stores before it are visible before loads after it are done. */
rb_inline void shm_fence(void)
{
	if (SHM_HOOK(fence)) {
		(void)SHM_CALL(fence());
		return;
	}
#ifdef SHM_TSAN
	static _Atomic uint64_t dummy;

	atomic_exchange_explicit(&dummy, 0, memory_order_seq_cst);
#else
	atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* The same after one of the RMW operations above: stores up to that one are visible before loads
 * after this are done. A locked instruction of x86 is a fence itself. */
rb_inline void shm_fence_after_rmw(void)
{
#if defined(__x86_64__) && !defined(RINGBUS_HOOKS) && !defined(SHM_TSAN)
	shm_light_fence();
#else
	shm_fence();
#endif
}

/* Asks for the line of a word that is about to be changed. A load would bring it to be read only,
 * and the change would ask for it once more. */
rb_inline void shm_prefetch_write(const struct shm_word *w)
{
#if defined(__x86_64__)
	/* by name: compilers know it for later processors only; on older ones it does nothing */
	__asm__ volatile("prefetchw %0" : : "m"(*w));
#else
	__builtin_prefetch(w, 1);
#endif
}

/* Copies payload bytes out of, or into, shared memory. */
rb_inline void shm_copy_in(void *to, const void *shared, size_t bytes)
{
	if (SHM_HOOK(copy_in))
		(void)SHM_CALL(copy_in(to, shared, bytes));
	else
		rb_copy(to, shared, bytes);
}

rb_inline void shm_copy_out(void *shared, const void *from, size_t bytes)
{
	if (SHM_HOOK(copy_out))
		(void)SHM_CALL(copy_out(shared, from, bytes));
	else
		rb_copy(shared, from, bytes);
}

/* For a word of private memory shared by the threads of this process. */
struct own_word {
	_Atomic uint64_t v;
};

rb_inline uint64_t own_load(const struct own_word *w)
{
	return atomic_load_explicit(&w->v, memory_order_acquire);
}

rb_inline uint64_t own_load_relaxed(const struct own_word *w)
{
	return atomic_load_explicit(&w->v, memory_order_relaxed);
}

rb_inline void own_store(struct own_word *w, uint64_t v)
{
	atomic_store_explicit(&w->v, v, memory_order_release);
}

rb_inline uint64_t own_swap(struct own_word *w, uint64_t v)
{
	return atomic_exchange_explicit(&w->v, v, memory_order_acq_rel);
}

rb_inline uint64_t own_add(struct own_word *w, uint64_t n)
{
	return atomic_fetch_add_explicit(&w->v, n, memory_order_acq_rel);
}

rb_inline bool own_cas(struct own_word *w, uint64_t expected, uint64_t desired)
{
	return atomic_compare_exchange_strong_explicit(&w->v, &expected, desired,
						       memory_order_acq_rel, memory_order_acquire);
}

rb_inline void cpu_pause(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

#endif

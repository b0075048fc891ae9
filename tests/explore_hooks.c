/* explore_hooks.c: every access to shared memory is a point of the schedule; see explore.h. */
#include "explore_memory.h"

static uint64_t hook_load(const struct shm_word *w, enum shm_order order)
{
	bool acquire = order == SHM_ACQUIRE;
	uint64_t v;

	if (ex_is_quiet(w))
		return ex_plain_load(w);
	ex_point();
	v = ex_load(w, acquire, false);
	ex_trace("  %u loads %s 0x%x: 0x%llx", ex.self, acquire ? "acquire" : "relaxed",
		 ex_offset(w), (unsigned long long)v);
	return v;
}

static void hook_store(struct shm_word *w, uint64_t v, enum shm_order order)
{
	bool release = order == SHM_RELEASE;

	if (ex_is_quiet(w)) {
		ex_plain_store(w, v);
		return;
	}
	ex_point();
	ex_trace("  %u stores %s 0x%x: 0x%llx", ex.self, release ? "release" : "relaxed",
		 ex_offset(w), (unsigned long long)v);
	ex_store(w, v, release, ex_is_data(w));
}

static bool hook_cas(struct shm_word *w, uint64_t *expected, uint64_t desired)
{
	uint64_t v;

	if (ex_is_quiet(w)) {
		v = ex_plain_load(w);
	} else {
		ex_point();
		if (ex.model == EX_WEAK) {
			v = ex_load(w, true, false);
			if (v == *expected)
				v = ex_rmw_load(w);
		} else {
			v = ex_rmw_load(w);
		}
	}
	ex_trace("  %u cas 0x%x: 0x%llx, expects 0x%llx, desires 0x%llx", ex.self, ex_offset(w),
		 (unsigned long long)v, (unsigned long long)*expected, (unsigned long long)desired);
	if (v != *expected) {
		*expected = v;
		return false;
	}
	if (ex_is_quiet(w))
		ex_plain_store(w, desired);
	else
		ex_rmw_store(w, desired);
	return true;
}

static uint64_t hook_rmw(struct shm_word *w, enum shm_rmw op, uint64_t operand)
{
	bool quiet = ex_is_quiet(w);
	uint64_t v, new;

	if (!quiet)
		ex_point();
	v = quiet ? ex_plain_load(w) : ex_rmw_load(w);
	new = op == SHM_OR ? v | operand : op == SHM_AND ? v &operand : v + operand;
	ex_trace("  %u rmw 0x%x: 0x%llx to 0x%llx", ex.self, ex_offset(w), (unsigned long long)v,
		 (unsigned long long)new);
	if (quiet)
		ex_plain_store(w, new);
	else
		ex_rmw_store(w, new);
	return v;
}

static void hook_fence(void)
{
	if (ex.self == EX_NOBODY)
		return;
	ex_point();
	ex_trace("  %u fences", ex.self);
	ex_fence_of(ex.self);
}

/* Whole words: both ends of a payload are padded to words. */
static void hook_copy_in(void *to, const void *shared, size_t bytes)
{
	if (ex.self != EX_NOBODY && ex_is_shared(shared)) {
		ex_point();
		for (size_t at = 0; at < bytes; at += 8) {
			uint64_t v =
				ex_load((const void *)((const char *)shared + at), false, true);

			memcpy((char *)to + at, &v, rb_min(8, bytes - at));
		}
		return;
	}
	memcpy(to, shared, bytes);
}

static void hook_copy_out(void *shared, const void *from, size_t bytes)
{
	if (ex.self == EX_NOBODY || !ex_is_shared(shared)) {
		memcpy(shared, from, bytes);
		return;
	}
	ex_point();
	for (size_t at = 0; at < bytes; at += 8) {
		struct shm_word *w = (void *)((char *)shared + at);
		uint64_t v = 0;

		memcpy(&v, (const char *)from + at, rb_min(8, bytes - at));
		ex_store(w, v, false, true);
	}
	ex.writes++;
}

/* The kernel queues the sleeper, passes a full barrier and compares: one step here, since a wake
 * either finds it queued, or its barrier came before ours. Time does not pass: whoever is only
 * saved by his time-out sleeps for ever. */
static int hook_futex_wait(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	(void)timeout_ns;
	ex_point();
	ex_fence_of(ex.self);
	if ((uint32_t)ex_plain_load(w) != low)
		return 0;
	ex_sleep_on(w);
	return 0;
}

static int hook_futex_wake(struct shm_word *w)
{
	unsigned n;

	ex_point();
	ex_fence_of(ex.self);
	n = ex_wake(w);
	ex_trace("  %u wakes %u", ex.self, n);
	return (int)n;
}

/* The kernel comes to each process in its turn. */
static int hook_membarrier(void)
{
	for (unsigned p = 0; p < EX_PROCESSES; p++) {
		ex_point();
		ex_trace("  %u puts a fence into %u", ex.self, p);
		ex_fence_of(p);
	}
	ex_fence_of(ex.self);
	return 0;
}

const struct shm_hooks ex_hooks = {
	.load = hook_load,
	.store = hook_store,
	.cas = hook_cas,
	.rmw = hook_rmw,
	.fence = hook_fence,
	.copy_in = hook_copy_in,
	.copy_out = hook_copy_out,
	.futex_wait = hook_futex_wait,
	.futex_wake = hook_futex_wake,
	.membarrier = hook_membarrier,
};

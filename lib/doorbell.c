/* doorbell.c: sleep and wake between processes; the only user of futex and membarrier. Level 3. */
#include "doorbell.h"

#include "probes.h"

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifdef RINGBUS_HOOKS
const struct shm_hooks *shm_hooks;
#endif

/* A futex call orders nothing for us: the edge is BELL, see doorbell.h. */
static int futex_wait_raw(const void *address, int op, uint32_t low, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / RB_SECOND),
			      .tv_nsec = (long)(timeout_ns % RB_SECOND)};
	const struct timespec *limit = timeout_ns == UINT64_MAX ? NULL : &ts;

	if (syscall(SYS_futex, address, op, low, limit, NULL, 0) == 0)
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

/* The half that holds the low 32 bits. */
static const void *low_half(const void *word)
{
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	return word;
#else
	return (const uint32_t *)word + 1;
#endif
}

static int futex_wait(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	if (SHM_HOOK(futex_wait))
		return SHM_CALL(futex_wait(w, low, timeout_ns));
	return futex_wait_raw(low_half(w), FUTEX_WAIT, low, timeout_ns);
}

static int futex_wake(struct shm_word *w)
{
	if (SHM_HOOK(futex_wake))
		return SHM_CALL(futex_wake(w));
	return (int)syscall(SYS_futex, low_half(w), FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

uint64_t doorbell_prepare(struct shm_word *bell)
{
	/* relaxed: only the sleeper changes the epoch, and a waker's WOKEN of an old epoch means
	 * nothing now */
	uint64_t epoch = (shm_load_relaxed(bell) >> 2) + 1;
	uint64_t word;

	if (epoch << 2 == 0)
		epoch = 1; /* epoch 0 is never slept in: it is what wakers start with */
	word = epoch << 2 | BELL_ASLEEP;
	/* sync BELL sleeper: ASLEEP before every look that follows the fence; pairs BELL waker in
	 * doorbell_ring(). Lost without the fence: the waker loads "awake", we load "nothing
	 * there", both go on, we sleep. */
	shm_store_release(bell, word);
	KILL_POINT("X_BELL_ASLEEP");
	shm_fence();
	return word;
}

void doorbell_rest(uint64_t word, uint64_t prepared, uint64_t timeout_ns, uint32_t *unrung)
{
	struct timespec rest = {.tv_nsec = (long)rb_min(timeout_ns, DOORBELL_REST_NS)};

	if (word == (prepared | BELL_WOKEN)) {
		*unrung = 0;
	} else if (*unrung < DOORBELL_UNRUNG_MAX) {
		++*unrung;
	} else {
		nanosleep(&rest, NULL);
	}
}

int doorbell_sleep(struct shm_word *bell, uint64_t prepared, uint64_t timeout_ns, uint32_t *unrung)
{
	/* sync BELL sleeper: a waker that came before us; the wait compares the word again; pairs
	 * BELL waker in doorbell_wake() */
	uint64_t word = shm_load_acquire(bell);
	int r = 0;

	if (word == prepared) {
		PROBE_WAIT(bell, prepared >> 2, timeout_ns);
		r = futex_wait(bell, (uint32_t)prepared, timeout_ns);
		PROBE_WOKEN(bell, prepared >> 2, r);
		/* relaxed: who rang is found by a look at what was waited for */
		word = shm_load_relaxed(bell);
	}
	if (r != -ETIMEDOUT && r != -EINTR)
		doorbell_rest(word, prepared, timeout_ns, unrung);
	return r > 0 ? 0 : r;
}

void doorbell_finish(struct shm_word *bell, uint64_t prepared)
{
	/* sync BELL sleeper: awake again in the same epoch; a waker's late CAS expects ASLEEP of
	 * this epoch and fails; pairs BELL waker in doorbell_wake() */
	shm_store_release(bell, prepared & ~(BELL_ASLEEP | BELL_WOKEN));
}

int doorbell_wake(struct shm_word *bell, uint64_t seen)
{
	uint64_t epoch = seen >> 2;

	/* sync BELL waker: the mark before the wake; pairs BELL sleeper in doorbell_sleep() */
	if (!(seen & BELL_WOKEN) && !shm_cas(bell, &seen, seen | BELL_WOKEN) &&
	    (seen >> 2 != epoch || !(seen & BELL_WOKEN)))
		return 0; /* it is awake, or asleep anew and will look */
	/* WOKEN stands: by us, or by somebody who may be stopped before his wake. Each waker wakes
	 * each epoch once. */
	KILL_POINT("X_BELL_MARKED");
	PROBE_WAKE(bell, epoch);
	futex_wake(bell);
	return 1;
}

bool doorbell_membarrier_register(void)
{
	if (SHM_HOOK(membarrier))
		return true;
	return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_GLOBAL_EXPEDITED, 0, 0) == 0;
}

bool doorbell_membarrier(void)
{
	if (SHM_HOOK(membarrier))
		return SHM_CALL(membarrier()) == 0;
	/* Hardly fails once registration succeeded, unless a filter came later, which denies the
	 * slow way too. */
	return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL_EXPEDITED, 0, 0) == 0 ||
	       syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) == 0;
}

int doorbell_private_wait(struct own_word *w, uint32_t low, uint64_t timeout_ns)
{
	return futex_wait_raw(low_half(w), FUTEX_WAIT_PRIVATE, low, timeout_ns);
}

void doorbell_private_wake(struct own_word *w)
{
	syscall(SYS_futex, low_half(w), FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

int doorbell_wait_word(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	return futex_wait(w, low, timeout_ns);
}

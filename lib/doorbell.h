/* doorbell.h: sleep and wake between processes; the only user of futex and membarrier. Level 3.
 *
 * A doorbell word is epoch << 2 | WOKEN | ASLEEP. One sleeper per word at a time (a private mutex
 * of its process sees to that); any number of wakers.
 *
 *   Sleeper                                      Waker, after it made something true that the
 *                                                sleeper waits for
 *   S1  store {new epoch, ASLEEP}                W1  full fence (UNFENCED senders: none, see below)
 *   S2  full fence                               W2  load the word; not ASLEEP, or this waker woke
 *                                                    this epoch before: done
 *   S3  look at all that it waits for; there is  W3  CAS WOKEN in, if it does not stand there;
 *       something: to S5                             failed, and in another epoch or awake: done
 *   S4  FUTEX_WAIT while {own epoch, ASLEEP}     W4  FUTEX_WAKE all
 *   S5  store {epoch, 0}
 *
 * Why no wake-up is lost: either W2 comes after S1 in the order of the two fences and sees ASLEEP,
 * or S3 comes after what the waker made true and sees it (sync BELL). W3 before W4 and the futex's
 * own comparison make S4 return. A waker wakes each epoch once, also when WOKEN already stands:
 * whoever set it may be stopped between W3 and W4. Only the sleeper changes epoch and ASLEEP, each
 * ASLEEP has an epoch never used before, and epoch 0 is never slept in.
 *
 * UNFENCED senders skip W1: the sleeper, after S2, calls membarrier(GLOBAL_EXPEDITED), which puts
 * the fence into them (sync MODE). Where that fails it sleeps no longer than SLEEP_UNFENCED_NS at a
 * time and looks again, and says NO_MEMBARRIER for who pairs with it from now on. Kill points:
 * X_BELL_MARKED between W3 and W4: the sleeper sleeps on; the reaper of the dead waker rings.
 */
#ifndef RINGBUS_DOORBELL_H
#define RINGBUS_DOORBELL_H

#include "atomic.h"

#define BELL_ASLEEP 1ull
#define BELL_WOKEN 2ull

#define DOORBELL_UNRUNG_MAX 256u
#define DOORBELL_REST_NS (500 * 1000u)

/* After a wake. *unrung, 0 at start, belongs to the sleeper: how often in a row it was woken, with
 * `word` then in the doorbell, although nobody rang in this epoch: a ring leaves WOKEN. From
 * DOORBELL_UNRUNG_MAX on it rests for DOORBELL_REST_NS each time, else a stranger who wakes it or
 * overwrites the word would have it use up a processor. Wakes for an epoch before that come late
 * count too, but since the last ring no more than one of each node can. */
void doorbell_rest(uint64_t word, uint64_t prepared, uint64_t timeout_ns, uint32_t *unrung);

/* S1 and S2. Returns the word as stored, to be given to the next two. */
uint64_t doorbell_prepare(struct shm_word *bell);
/* S4. 0 woken (or never slept); -ETIMEDOUT; -EINTR. Not more than timeout_ns (UINT64_MAX: for
 * ever). Rests if nobody rang. */
int doorbell_sleep(struct shm_word *bell, uint64_t prepared, uint64_t timeout_ns, uint32_t *unrung);
/* S5. */
void doorbell_finish(struct shm_word *bell, uint64_t prepared);

/* W3 and W4, out of line. `seen` has ASLEEP. Returns 1 if it made a wake call. */
int doorbell_wake(struct shm_word *bell, uint64_t seen);

/* W2 to W4; the caller has fenced as its mode asks. *last: whole epoch that this waker woke last in
 * this word, 0 at start. Returns 1 if it made a wake call. */
rb_inline int doorbell_ring(struct shm_word *bell, uint64_t *last)
{
	/* sync BELL waker: what the sleeper waits for (fenced) before this load; pairs BELL sleeper
	 * in doorbell_prepare() */
	uint64_t seen = shm_load_acquire(bell);

	if (rb_likely(!(seen & BELL_ASLEEP)))
		return 0;
	if (seen >> 2 == *last)
		return 0;
	*last = seen >> 2;
	return doorbell_wake(bell, seen);
}

/* A look without a fence: whether a sleeper has been there for a while whom nobody has woken. */
rb_inline bool doorbell_seems_asleep(const struct shm_word *bell)
{
	/* relaxed: a hint; who rings fences and looks again */
	return (shm_load_relaxed(bell) & (BELL_ASLEEP | BELL_WOKEN)) == BELL_ASLEEP;
}

/* Registers this process for membarrier and says whether it may be called. Once per process, at
 * join. */
bool doorbell_membarrier_register(void);
/* Makes every registered process that runs pass a full fence. False: the kernel refuses, as it does
 * where a sandbox began after the join. */
bool doorbell_membarrier(void);

/* Private futexes for threads of one process (fdwatch.c). */
int doorbell_private_wait(struct own_word *w, uint32_t low, uint64_t timeout_ns);
void doorbell_private_wake(struct own_word *w);
/* Waits while the low half of a shared word is `low`; for the helper thread of fdwatch.c. */
int doorbell_wait_word(struct shm_word *w, uint32_t low, uint64_t timeout_ns);

#endif

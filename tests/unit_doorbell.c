/* unit_doorbell.c: a sleeper tells who rang from who woke it for nothing, and rests from those. */
#include "atomic.h"
#include "doorbell.h"
#include "harness.h"

static struct shm_word bell;
static uint32_t unrung;

static int wait_for_nothing(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	return 0;
}

static int wait_until_time(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	return -ETIMEDOUT;
}

static int wait_until_interrupted(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	return -EINTR;
}

static int ring_once(struct shm_word *w)
{
	uint64_t last = 0;

	return doorbell_ring(w, &last);
}

static int wait_until_rung(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	assert_int_equal(ring_once(w), 1);
	return 0;
}

static int wake_nobody(struct shm_word *w)
{
	return 0;
}

enum between { NOTHING, RUNG, OVERWRITTEN };

static int sleep_once(int (*wait)(struct shm_word *w, uint32_t low, uint64_t timeout_ns),
		      enum between between)
{
	const struct shm_hooks hooks = {.futex_wait = wait, .futex_wake = wake_nobody};
	uint64_t prepared;
	int r;

	shm_hooks = &hooks;
	prepared = doorbell_prepare(&bell);
	if (between == RUNG)
		assert_int_equal(ring_once(&bell), 1);
	if (between == OVERWRITTEN)
		shm_store_release(&bell, 0x123456789abcdeull);
	r = doorbell_sleep(&bell, prepared, HARNESS_SECOND, &unrung);
	doorbell_finish(&bell, prepared);
	shm_hooks = NULL;
	return r;
}

static void rests(int (*wait)(struct shm_word *w, uint32_t low, uint64_t timeout_ns),
		  enum between between)
{
	enum { RESTS = 20 };
	uint64_t began;

	unrung = 0;
	for (uint32_t i = 1; i <= DOORBELL_UNRUNG_MAX; i++) {
		assert_int_equal(sleep_once(wait, between), 0);
		assert_int_equal(unrung, i);
	}
	began = harness_now_ns();
	for (unsigned i = 0; i < RESTS; i++)
		assert_int_equal(sleep_once(wait, between), 0);
	assert_true(harness_now_ns() - began >= RESTS * DOORBELL_REST_NS);
}

static void who_is_woken_by_nobody_rests(void **state)
{
	rests(wait_for_nothing, NOTHING);
	rests(wait_until_rung, OVERWRITTEN); /* it does not come to wait */
}

static void a_ring_ends_the_row(void **state)
{
	unrung = DOORBELL_UNRUNG_MAX;
	assert_int_equal(sleep_once(wait_until_rung, NOTHING), 0);
	assert_int_equal(unrung, 0);
	unrung = DOORBELL_UNRUNG_MAX;
	assert_int_equal(sleep_once(wait_for_nothing, RUNG), 0); /* before it slept */
	assert_int_equal(unrung, 0);
}

/* A process with a timer of its own is not late for it. A stranger who lets the sleeper sleep to
 * the end now and then gains nothing. */
static void an_interruption_and_the_end_of_the_time_count_as_neither(void **state)
{
	unrung = 3;
	assert_int_equal(sleep_once(wait_until_interrupted, NOTHING), -EINTR);
	assert_int_equal(unrung, 3);
	assert_int_equal(sleep_once(wait_until_time, NOTHING), -ETIMEDOUT);
	assert_int_equal(unrung, 3);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(who_is_woken_by_nobody_rests),
	BARE_TEST(a_ring_ends_the_row),
	BARE_TEST(an_interruption_and_the_end_of_the_time_count_as_neither),
};

HARNESS_MAIN("unit_doorbell", tests)

/* unit_signal.c: who waits for signals, or is given them, where something happens in the middle of
 * it. */
#include "atomic.h"
#include "doorbell.h"
#include "harness.h"
#include "node.h"

#include <poll.h>

static const struct ringbus_node_options unhelped = {.size = sizeof(unhelped),
						     .no_safety_wake = true};

static struct {
	struct ringbus_node *from, *to;
	struct ringbus_address address;
} pair;

static void pair_open(void)
{
	pair.from = node_open();
	pair.to = node_open_with(&unhelped);
	pair.address = node_address(pair.to);
}

static _Thread_local bool watched; /* this thread's accesses are */

static void plain_store(struct shm_word *w, uint64_t v, enum shm_order order)
{
	atomic_store_explicit(&w->v, v,
			      order == SHM_RELEASE ? memory_order_release : memory_order_relaxed);
}

/* ---- a message between the arming of the descriptor and the sleep of a waiter ---- */

static void send_before_asleep(struct shm_word *w, uint64_t v, enum shm_order order)
{
	if (watched && order == SHM_RELEASE && (v & 3) == BELL_ASLEEP) {
		watched = false;
		ok(ringbus_contact_address(pair.from, &pair.address, "x", 1, 0));
	}
	plain_store(w, v, order);
}

static void *wait_for_signal(void *is_watched)
{
	uint64_t count;

	watched = is_watched != NULL;
	return ringbus_signal_wait(pair.to, &count, RINGBUS_FOREVER) == 0 ? pair.to : NULL;
}

static void a_waiter_for_signals_takes_no_message_from_the_descriptor(void **state)
{
	static const struct shm_hooks hooks = {.store = send_before_asleep};
	struct pollfd p = {.events = POLLIN};
	pthread_t thread;
	void *got;

	shm_hooks = &hooks;
	pair_open();
	while (ringbus_poll(pair.to, 0) > 0)
		;
	p.fd = ok(ringbus_node_fd(pair.to));
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_signal, &watched), 0);
	assert_int_equal(poll(&p, 1, -1), 1);
	ok(ringbus_signal_address(pair.from, &pair.address));
	assert_int_equal(pthread_join(thread, &got), 0);
	assert_non_null(got);
	pull_text(pair.to, "x");
	node_close(pair.to);
	shm_hooks = NULL;
}

/* ---- the descriptor is asked for by two threads at once ---- */

static void *ask(void *fd)
{
	*(int *)fd = ringbus_node_fd(pair.to);
	return NULL;
}

static int asked_between;

/* The thread that is watched has found no descriptor, and asks a waiter to leave. */
static void ask_between(void)
{
	pthread_t thread;

	if (watched) {
		watched = false;
		assert_int_equal(pthread_create(&thread, NULL, ask, &asked_between), 0);
		assert_int_equal(pthread_join(thread, NULL), 0);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

static void two_threads_that_ask_at_once_get_the_same_descriptor(void **state)
{
	static const struct shm_hooks hooks = {.fence = ask_between};
	pthread_t waiter;
	int fd;

	shm_hooks = &hooks;
	pair_open();
	assert_int_equal(pthread_create(&waiter, NULL, wait_for_signal, NULL), 0);
	while (node_stats(pair.to).sleeps == 0)
		pause_briefly();
	watched = true;
	fd = ok(ringbus_node_fd(pair.to));
	assert_false(watched);
	assert_int_equal(asked_between, fd);
	ok(ringbus_signal_address(pair.from, &pair.address));
	assert_int_equal(pthread_join(waiter, NULL), 0);
	node_close(pair.to);
	shm_hooks = NULL;
}

/* ---- a handler, and another thread that waits ---- */

static uint64_t take_between(const struct shm_word *w, enum shm_order order)
{
	uint64_t word = atomic_load_explicit(&w->v, memory_order_acquire), count;

	if (watched && w == &pair.to->bell->signal) {
		watched = false;
		ok(ringbus_signal_wait(pair.to, &count, 0));
		assert_int_equal(count, 1);
	}
	return word;
}

static void count_calls(uint64_t count, void *user)
{
	assert_int_not_equal(count, 0);
	++*(unsigned *)user;
}

static void a_handler_is_not_called_for_signals_that_a_waiter_took(void **state)
{
	static const struct shm_hooks hooks = {.load = take_between};
	unsigned calls = 0;

	pair_open();
	ok(ringbus_on_signal(pair.to, count_calls, &calls));
	while (ringbus_poll(pair.to, 0) > 0)
		;
	ok(ringbus_signal_address(pair.from, &pair.address));
	shm_hooks = &hooks;
	watched = true;
	assert_int_equal(ok(ringbus_poll(pair.to, 0)), 0);
	shm_hooks = NULL;
	assert_false(watched);
	assert_int_equal(calls, 0);
}

/* ---- a scribble ---- */

static void who_looks_before_it_sleeps_can_be_signalled_again_after_a_scribble(void **state)
{
	uint64_t count;

	pair_open();
	for (unsigned way = 0; way < 3; way++) {
		atomic_store(&pair.to->bell->signal.v, (uint64_t)77 << 32);
		fails(ringbus_signal_address(pair.from, &pair.address), -ESRCH);
		if (way == 0)
			fails(ringbus_signal_wait(pair.to, &count, HARNESS_MS), -ETIMEDOUT);
		else if (way == 1)
			while (ringbus_wait(pair.to, HARNESS_MS) == 0)
				ok(ringbus_poll(pair.to, 0));
		else
			for (unsigned i = 0; i < 64; i++)
				ok(ringbus_poll(pair.to, 0));
		ok(ringbus_signal_address(pair.from, &pair.address));
		ok(ringbus_signal_wait(pair.to, &count, 0));
		assert_int_equal(count, 1);
	}
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_waiter_for_signals_takes_no_message_from_the_descriptor),
	BUS_TEST(two_threads_that_ask_at_once_get_the_same_descriptor),
	BUS_TEST(a_handler_is_not_called_for_signals_that_a_waiter_took),
	BUS_TEST(who_looks_before_it_sleeps_can_be_signalled_again_after_a_scribble),
};

HARNESS_MAIN("unit_signal", tests)

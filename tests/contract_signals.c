/* contract_signals.c: counted signals: K20, F26 to F28 of the contract. */
#include "harness.h"

enum { READY, GO, DONE, COUNT };

static void no_signal(struct ringbus_node *node)
{
	uint64_t count = 7;

	fails(ringbus_signal_wait(node, &count, 0), -EAGAIN);
	assert_int_equal(count, 7);
}

static void K20_waiter(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	uint64_t count = 0;

	flag_set(READY, 1);
	child_ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
	child_check(count == 1);
	flag_set(DONE, 1);
	for (uint64_t all = 0; all < 1000; all += count)
		child_ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
	child_fails(ringbus_signal_wait(node, &count, 0), -EAGAIN);
	ringbus_node_close(node);
}

static void K20_a_signal_wakes_the_process_and_signals_count(void **state)
{
	struct ringbus_node *a = node_open();
	pid_t pid = child_start(K20_waiter, 0);

	flag_wait(READY, 1);
	ok(ringbus_signal(a, (uint32_t)pid));
	flag_wait(DONE, 1);
	for (int i = 0; i < 1000; i++)
		ok(ringbus_signal(a, (uint32_t)pid));
	child_join(pid);
}

static void add_signals(uint64_t count, void *user)
{
	__atomic_add_fetch((uint64_t *)user, count, __ATOMIC_ACQ_REL);
}

static void ignore(const struct ringbus_message *message, void *user)
{
}

static void K20_the_signal_handler_runs_in_listen_and_poll(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	uint64_t count = 0;

	ok(ringbus_on_signal(b, add_signals, &count));
	for (int i = 0; i < 3; i++)
		ok(ringbus_signal_address(a, &to));
	while (count < 3)
		ok(ringbus_poll(b, 0));
	ok(ringbus_listen(b, ignore, NULL));
	for (int i = 0; i < 4; i++)
		ok(ringbus_signal_address(a, &to));
	while (__atomic_load_n(&count, __ATOMIC_ACQUIRE) < 7)
		pause_briefly();
	ok(ringbus_listen_stop(b));
	ok(ringbus_on_signal(b, NULL, NULL));
	ok(ringbus_signal_address(a, &to));
	ok(ringbus_poll(b, 0));
	assert_int_equal(count, 7);
}

static void F26_joining_and_listening_signal_nobody(void **state)
{
	struct ringbus_node *node[3];

	for (int i = 0; i < 3; i++) {
		node[i] = node_open();
		ok(ringbus_listen(node[i], ignore, NULL));
	}
	for (int i = 0; i < 3; i++) {
		ok(ringbus_listen_stop(node[i]));
		no_signal(node[i]);
	}
}

static void F27_one_signal_counts_once_and_bystanders_get_none(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_address to = node_address(b);
	uint64_t count = 0;

	for (uint64_t i = 1; i <= 20; i++) {
		for (uint64_t k = 0; k < i; k++)
			ok(ringbus_signal_address(a, &to));
		ok(ringbus_signal_wait(b, &count, 0));
		assert_int_equal(count, i);
		no_signal(b);
		no_signal(a);
		no_signal(c);
	}
	pull_nothing(b);
}

static void F28_signaller(uint64_t index)
{
	struct ringbus_node *node = child_node(NULL);
	uint64_t count;

	flag_set(10 + (unsigned)index, 1);
	child_ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
	flag_set(20 + (unsigned)index, count);
	flag_wait(GO, 1);
	child_fails(ringbus_signal_wait(node, &count, 0), -EAGAIN);
	ringbus_node_close(node);
}

static void
F28_a_signal_reaches_exactly_the_process_named_and_unknown_ones_are_an_error(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_address self = node_address(a), gone;
	pid_t one = child_start(F28_signaller, 1), two = child_start(F28_signaller, 2);

	flag_wait(11, 1);
	flag_wait(12, 1);
	ok(ringbus_signal(a, (uint32_t)one));
	flag_wait(21, 1);
	assert_int_equal(flag_get(21), 1);
	assert_int_equal(flag_get(22), 0);
	fails(ringbus_signal(a, dead_pid()), -ESRCH);
	fails(ringbus_signal(a, 1), -ESRCH);
	fails(ringbus_signal(a, (uint32_t)getpid()), -EINVAL);
	fails(ringbus_signal_address(a, &self), -EINVAL);
	ok(ringbus_signal(a, (uint32_t)two));
	flag_wait(22, 1);
	ok(ringbus_node_find_pid(a, (uint32_t)two, &gone));
	flag_set(GO, 1);
	child_join_all();
	fails(ringbus_signal(a, (uint32_t)one), -ESRCH);
	fails(ringbus_signal_address(a, &gone), -ESRCH);
}

static void K20_signaller(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to;

	child_ok(ringbus_node_find(node, "counter", &to));
	for (int i = 0; i < 20000; i++)
		child_ok(ringbus_signal_address(node, &to));
	ringbus_node_close(node);
}

static void K20_signals_of_concurrent_senders_are_all_counted(void **state)
{
	struct ringbus_node *node = node_open_named("counter");
	uint64_t all = 0, count = 0;

	for (uint64_t i = 0; i < 4; i++)
		child_start(K20_signaller, i);
	for (; all < 80000; all += count)
		ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
	assert_int_equal(all, 80000);
	child_join_all();
	no_signal(node);
}

/* Without the safety wake, which no test needs, there is nothing to wake up for. */
static void an_idle_waiter_sleeps_once(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .no_safety_wake = true};
	struct ringbus_node *node = node_open_with(&o);
	uint64_t before = node_stats(node).sleeps, count;

	fails(ringbus_signal_wait(node, &count, 350 * HARNESS_MS), -ETIMEDOUT);
	assert_int_equal(node_stats(node).sleeps - before, 1);
}

static void the_safety_wake_of_an_idle_waiter_comes_ever_more_seldom(void **state)
{
	struct ringbus_node *node = node_open();
	uint64_t before = node_stats(node).sleeps, count;

	fails(ringbus_signal_wait(node, &count, 1600 * HARNESS_MS), -ETIMEDOUT);
	assert_in_range(node_stats(node).sleeps - before, 2, 5); /* 0.1, 0.2, 0.4, 0.8, 1.6 s */
	assert_int_equal(node_stats(node).safety_wakes, 0);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(K20_a_signal_wakes_the_process_and_signals_count),
	BUS_TEST(K20_the_signal_handler_runs_in_listen_and_poll),
	BUS_TEST(K20_signals_of_concurrent_senders_are_all_counted),
	BUS_TEST(an_idle_waiter_sleeps_once),
	BUS_TEST(the_safety_wake_of_an_idle_waiter_comes_ever_more_seldom),
	BUS_TEST(F26_joining_and_listening_signal_nobody),
	BUS_TEST(F27_one_signal_counts_once_and_bystanders_get_none),
	BUS_TEST(F28_a_signal_reaches_exactly_the_process_named_and_unknown_ones_are_an_error),
};

HARNESS_MAIN("contract_signals", tests)

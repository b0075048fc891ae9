/* api_interrupt.c: ringbus_node_interrupt() from a signal handler ends each kind of wait, and no
 * interruption is lost however it falls. */
#include "harness.h"

#include <pthread.h>
#include <signal.h>

/* ThreadSanitizer keeps a signal until the thread comes to a call that it knows; the futex of a
 * thread that sleeps is none. */
#ifdef __SANITIZE_THREAD__
#define SIGNALS_WAIT true
#else
#define SIGNALS_WAIT false
#endif

static struct ringbus_node *interrupted;

static void on_signal(int number)
{
	ringbus_node_interrupt(interrupted, true);
}

/* Nothing but the interruption ends a wait: no safety wake, and the handler restarts calls. */
static struct ringbus_node *waiting_node(void)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .no_safety_wake = true,
					 .spin_ns = RINGBUS_NO_SPIN};
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};

	interrupted = node_open_with(&o);
	assert_int_equal(sigaction(SIGUSR1, &action, NULL), 0);
	return interrupted;
}

/* Interrupts once the other thread has begun to wait: by a signal to it, or from its own thread. */
struct interrupter {
	pthread_t thread, target;
	bool directly;
	uint64_t (*began)(const struct ringbus_node_stats *stats);
};

static uint64_t slept(const struct ringbus_node_stats *stats)
{
	return stats->sleeps;
}

static uint64_t was_full(const struct ringbus_node_stats *stats)
{
	return stats->full;
}

static void *interrupt_later(void *argument)
{
	struct interrupter *i = argument;
	struct ringbus_node_stats stats = {.size = sizeof(stats)};
	uint64_t before;

	ringbus_node_stats(interrupted, &stats);
	before = i->began ? i->began(&stats) : 0;
	flag_set(0, 1);
	while (i->began && i->began(&stats) == before) {
		ringbus_node_stats(interrupted, &stats);
		sched_yield();
	}
	if (i->directly)
		ringbus_node_interrupt(interrupted, true);
	else
		pthread_kill(i->target, SIGUSR1);
	return NULL;
}

static void interrupter_start(struct interrupter *i,
			      uint64_t (*began)(const struct ringbus_node_stats *))
{
	static unsigned turn;

	i->target = pthread_self();
	i->directly = turn++ % 4 >= 2 || SIGNALS_WAIT;
	i->began = began;
	ringbus_node_interrupt(interrupted, false);
	flag_set(0, 0);
	assert_int_equal(pthread_create(&i->thread, NULL, interrupt_later, i), 0);
	flag_wait(0, 1);
}

static void receiving_ends_with_EINTR(void **state)
{
	struct ringbus_node *node = waiting_node();
	struct ringbus_message m;
	struct interrupter i;
	char buffer[8];

	interrupter_start(&i, slept);
	fails(ringbus_next(node, &m, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
	interrupter_start(&i, slept);
	fails(ringbus_next(node, &m, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
	interrupter_start(&i, slept);
	fails(ringbus_receive(node, buffer, sizeof(buffer), &m, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
	interrupter_start(&i, slept);
	fails(ringbus_wait(node, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
}

static void waits_for_signals_and_subscribers_end_with_EINTR(void **state)
{
	struct ringbus_node *node = waiting_node();
	struct ringbus_event *event = single(node, "nobody");
	struct interrupter i;
	uint64_t count = 7;

	interrupter_start(&i, NULL);
	fails(ringbus_signal_wait(node, &count, RINGBUS_FOREVER), -EINTR);
	assert_int_equal(count, 7);
	pthread_join(i.thread, NULL);
	interrupter_start(&i, NULL);
	fails(ringbus_event_wait_subscribers(event, 1, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
}

static void sends_to_a_full_ring_end_with_EINTR_and_send_nothing(void **state)
{
	struct ringbus_node *node = waiting_node(), *b = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_event *event = single(node, "full");
	struct ringbus_message m;
	struct interrupter i;
	unsigned sent = 0, got = 0;

	subscribe(b, "full");
	while (ringbus_emit(event, "x", 1, 0) == 1)
		sent++;
	interrupter_start(&i, was_full);
	fails(ringbus_emit(event, "x", 1, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
	interrupter_start(&i, was_full);
	fails(ringbus_contact_address(node, &to, "x", 1, RINGBUS_FOREVER), -EINTR);
	pthread_join(i.thread, NULL);
	while (ringbus_next(b, &m, 0) == 0)
		got += m.kind != RINGBUS_NOTICE;
	assert_int_equal(got, sent);
}

static void what_needs_no_wait_is_done_all_the_same(void **state)
{
	struct ringbus_node *node = waiting_node(), *b = node_open();
	struct ringbus_address to = node_address(b), self = node_address(node);
	struct ringbus_message m;
	uint64_t count;

	ringbus_node_interrupt(node, true);
	ok(ringbus_contact_address(node, &to, "out", 3, RINGBUS_FOREVER));
	pull_text(b, "out");
	ok(ringbus_contact_address(b, &self, "in", 2, 0));
	ok(ringbus_signal_address(b, &self));
	ok(ringbus_wait(node, RINGBUS_FOREVER));
	pull_text(node, "in");
	ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
	fails(ringbus_next(node, &m, 0), -EAGAIN);
	fails(ringbus_signal_wait(node, &count, 0), -EAGAIN);
	fails(ringbus_next(node, &m, RINGBUS_FOREVER), -EINTR);
	ringbus_node_interrupt(node, false);
	fails(ringbus_next(node, &m, 1), -ETIMEDOUT);
}

static void count_message(const struct ringbus_message *message, void *user)
{
	__atomic_add_fetch((unsigned *)user, 1, __ATOMIC_ACQ_REL);
}

static void the_listening_thread_goes_on_and_sleeps(void **state)
{
	struct ringbus_node *node = waiting_node(), *b = node_open();
	struct ringbus_address to = node_address(node);
	unsigned count = 0;
	uint64_t sleeps;

	ok(ringbus_listen(node, count_message, &count));
	ringbus_node_interrupt(node, true);
	for (unsigned n = 1; n <= 100; n++) {
		sleeps = node_stats(node).sleeps;
		ok(ringbus_contact_address(b, &to, "x", 1, RINGBUS_FOREVER));
		while (__atomic_load_n(&count, __ATOMIC_ACQUIRE) < n)
			sched_yield();
		while (n == 1 && node_stats(node).sleeps == sleeps)
			sched_yield(); /* it would not sleep again if it heeded the interruption */
	}
	ok(ringbus_listen_stop(node));
	ringbus_node_interrupt(NULL, true);
}

/* The signal falls anywhere around a wait, ROUNDS times; one lost would hang. */
static void no_interruption_is_lost(void **state)
{
	enum { ROUNDS = 3000 };
	struct ringbus_node *node = waiting_node();
	struct ringbus_message m;
	struct interrupter i;
	uint64_t count;

	for (unsigned round = 0; round < ROUNDS; round++) {
		interrupter_start(&i, NULL);
		for (volatile unsigned spin = 0; spin < (round * 7919) % 20000; spin++)
			;
		if (round % 2)
			fails(ringbus_next(node, &m, RINGBUS_FOREVER), -EINTR);
		else
			fails(ringbus_signal_wait(node, &count, RINGBUS_FOREVER), -EINTR);
		pthread_join(i.thread, NULL);
	}
}

static void fork_child(uint64_t unused)
{
	ringbus_node_interrupt(interrupted, true);
}

static void a_forked_child_does_not_interrupt_its_parent(void **state)
{
	struct ringbus_node *node = waiting_node();
	struct ringbus_message m;

	child_join(child_start(fork_child, 0));
	fails(ringbus_next(node, &m, 1), -ETIMEDOUT);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(receiving_ends_with_EINTR),
	BUS_TEST(waits_for_signals_and_subscribers_end_with_EINTR),
	BUS_TEST(sends_to_a_full_ring_end_with_EINTR_and_send_nothing),
	BUS_TEST(what_needs_no_wait_is_done_all_the_same),
	BUS_TEST(the_listening_thread_goes_on_and_sleeps),
	BUS_TEST(no_interruption_is_lost),
	BUS_TEST(a_forked_child_does_not_interrupt_its_parent),
};

HARNESS_MAIN("api_interrupt", tests)

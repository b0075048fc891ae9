/* stress_wake.c: both sides sleep before each message and nothing but a wake-up brings them back: a
 * lost one hangs.
 *
 * No spinning, no safety wake. WAKE_ROUNDS: round trips of each test (default 400000),
 * ONE_CPU_ROUNDS (7500000): of each that has both on one processor, where they take turns at each
 * of them.
 */
#include "harness.h"

#include <sched.h>
#include <sys/epoll.h>

enum { READY, GO, SLEEPS, WAKES };
enum way { BY_NEXT, BY_SIGNAL, BY_FD, BY_WAIT };

static enum way way;
static uint64_t rounds;
static unsigned peers;

static const struct ringbus_node_options sleepy = {
	.size = sizeof(sleepy),
	.spin_ns = RINGBUS_NO_SPIN,
	.no_safety_wake = true,
};

static void use_one_cpu(void)
{
	cpu_set_t allowed, one;

	assert_int_equal(sched_getaffinity(0, sizeof(allowed), &allowed), 0);
	CPU_ZERO(&one);
	for (int i = 0; i < CPU_SETSIZE; i++) {
		if (CPU_ISSET(i, &allowed)) {
			CPU_SET(i, &one);
			break;
		}
	}
	assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
}

static void note(const struct ringbus_message *m, void *user)
{
	if (m->kind == RINGBUS_CONTACT)
		*(struct ringbus_message *)user = *m;
}

/* Sleeps until a contact or signal comes. from gets the sender of a contact. */
static void sleep_for_one(struct ringbus_node *node, int epoll, struct ringbus_address *from)
{
	struct ringbus_message m = {0};
	struct epoll_event ready;
	uint64_t count;

	if (way == BY_SIGNAL) {
		child_ok(ringbus_signal_wait(node, &count, RINGBUS_FOREVER));
		child_check(count == 1);
		return;
	}
	if (way == BY_NEXT) {
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		*from = m.sender;
		return;
	}
	child_ok(ringbus_on_contact(node, note, &m));
	while (m.kind == 0) {
		if (way == BY_FD)
			child_check(epoll_wait(epoll, &ready, 1, -1) == 1);
		else
			child_ok(ringbus_wait(node, RINGBUS_FOREVER));
		child_ok(ringbus_poll(node, 1));
	}
	*from = m.sender;
}

static int watch(struct ringbus_node *node)
{
	struct epoll_event interest = {.events = EPOLLIN};
	int epoll = -1;

	if (way == BY_FD) {
		epoll = epoll_create1(EPOLL_CLOEXEC);
		child_check(epoll_ctl(epoll, EPOLL_CTL_ADD, child_ok(ringbus_node_fd(node)),
				      &interest) == 0);
	}
	return epoll;
}

static void send_one(struct ringbus_node *node, const struct ringbus_address *to)
{
	if (way == BY_SIGNAL)
		child_ok(ringbus_signal_address(node, to));
	else
		child_ok(ringbus_contact_address(node, to, "x", 1, RINGBUS_SEND_MAX_NS));
}

/* Leaves; nothing but wake-ups has ended its sleeps. */
static void leave(struct ringbus_node *node)
{
	struct ringbus_node_stats stats = {.size = sizeof(stats)};

	child_ok(ringbus_node_stats(node, &stats));
	child_check(stats.safety_wakes == 0);
	flag_add(SLEEPS, stats.sleeps);
	flag_add(WAKES, stats.wakes);
	ringbus_node_close(node);
}

static void pong(uint64_t unused)
{
	struct ringbus_node_options o = sleepy;
	struct ringbus_address from = {0};
	struct ringbus_node *node;
	int epoll;

	o.name = "pong";
	node = child_node(&o);
	epoll = watch(node);
	flag_set(READY, 1);
	if (way == BY_SIGNAL) {
		flag_wait(GO, 1);
		child_ok(ringbus_node_find(node, "ping 0", &from));
	}
	for (uint64_t i = 0; i < rounds * peers; i++) {
		sleep_for_one(node, epoll, &from);
		send_one(node, &from);
	}
	leave(node);
}

static void ping(uint64_t index)
{
	struct ringbus_node_options o = sleepy;
	struct ringbus_address to, from;
	struct ringbus_node *node;
	char name[16];
	int epoll;

	snprintf(name, sizeof(name), "ping %u", (unsigned)index);
	o.name = name;
	node = child_node(&o);
	epoll = watch(node);
	child_ok(ringbus_node_find(node, "pong", &to));
	flag_add(GO, 1);
	for (uint64_t i = 0; i < rounds; i++) {
		send_one(node, &to);
		sleep_for_one(node, epoll, &from);
	}
	leave(node);
}

static void run_rounds(const char *figure, enum way how, unsigned count, uint64_t wanted)
{
	uint64_t begin = harness_now_ns();

	watchdog(900);
	way = how;
	peers = count;
	rounds = 1 + wanted / count;
	child_start(pong, 0);
	flag_wait(READY, 1);
	for (unsigned i = 0; i < count; i++)
		child_start(ping, i);
	child_join_all();
	ledger(figure, (double)flag_get(SLEEPS));
	/* several senders may each wake a receiver that is about to wake */
	if (count == 1 && (how == BY_NEXT || how == BY_WAIT))
		ledger("wakes-per-sleep", (double)flag_get(WAKES) / (double)flag_get(SLEEPS));
	print_message("  %.2f us a round trip\n",
		      (double)(harness_now_ns() - begin) / 1000 / (double)(rounds * count));
}

static void run(enum way how, unsigned count, uint64_t share)
{
	run_rounds("sleeps", how, count, harness_number("WAKE_ROUNDS", 400000) / share);
}

static void run_on_one_cpu(enum way how, unsigned count, uint64_t share)
{
	use_one_cpu();
	run_rounds("sleeps-one-cpu", how, count, harness_number("ONE_CPU_ROUNDS", 7500000) / share);
}

static void no_wake_up_is_lost_between_two_sleeping_processes(void **state)
{
	run(BY_NEXT, 1, 1);
}

static void no_wake_up_is_lost_by_wait_and_poll(void **state)
{
	run(BY_WAIT, 1, 4);
}

static void no_wake_up_is_lost_by_signals(void **state)
{
	run(BY_SIGNAL, 1, 2);
}

static void no_wake_up_is_lost_by_descriptor(void **state)
{
	run(BY_FD, 1, 4);
}

static void no_wake_up_is_lost_with_four_senders(void **state)
{
	run(BY_NEXT, 4, 2);
}

static void on_one_cpu_no_wake_up_is_lost(void **state)
{
	run_on_one_cpu(BY_NEXT, 1, 1);
}

static void on_one_cpu_no_wake_up_is_lost_with_four_senders(void **state)
{
	run_on_one_cpu(BY_NEXT, 4, 4);
}

static void slow_reader(uint64_t unused)
{
	struct ringbus_node *node = child_node(&sleepy);
	struct ringbus_event *event;
	struct ringbus_message m;
	uint64_t value;

	child_ok(ringbus_subscribe(&event, node, "load", NULL));
	flag_set(READY, 1);
	for (uint64_t i = 0; i < rounds; i++) {
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		memcpy(&value, m.data, sizeof(value));
		child_check(value == i);
	}
	leave(node);
}

static void no_wake_up_is_lost_by_a_sender_that_waits_for_room(void **state)
{
	struct bus_spec spec = {.nodes = 4, .ring_bytes = 4096};
	struct ringbus_event *event;
	uint64_t data[64] = {0};

	watchdog(900);
	bus_serve(&spec);
	rounds = harness_number("WAKE_ROUNDS", 400000);
	event = single(node_open_with(&sleepy), "load");
	child_start(slow_reader, 0);
	flag_wait(READY, 1);
	for (; data[0] < rounds; data[0]++)
		ok(ringbus_emit(event, data, sizeof(data), RINGBUS_SEND_MAX_NS));
	child_join_all();
	ledger("sleeps", (double)flag_get(SLEEPS));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(no_wake_up_is_lost_between_two_sleeping_processes),
	BUS_TEST(no_wake_up_is_lost_by_wait_and_poll),
	BUS_TEST(no_wake_up_is_lost_by_signals),
	BUS_TEST(no_wake_up_is_lost_by_descriptor),
	BUS_TEST(no_wake_up_is_lost_with_four_senders),
	BARE_TEST(no_wake_up_is_lost_by_a_sender_that_waits_for_room),
	/* these two leave the program on one processor */
	BUS_TEST(on_one_cpu_no_wake_up_is_lost),
	BUS_TEST(on_one_cpu_no_wake_up_is_lost_with_four_senders),
};

HARNESS_MAIN("stress_wake", tests)

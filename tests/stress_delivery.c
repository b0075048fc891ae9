/* stress_delivery.c: senders by receivers under load: nothing lost, nothing doubled, all in order
 * and intact.
 *
 * STRESS_MESSAGES: messages of the whole program (default 1000000), spread over the scenarios.
 * STRESS_EACH: instead of that, messages of each sender in each scenario. STRESS_SMALL (90000000):
 * messages of the scenarios with small payloads only, which go at the full rate.
 * Sizes and bytes follow from sender and sequence, so a lost, doubled, reordered or damaged message
 * is seen at once.
 */
#include "harness.h"

#include <sys/epoll.h>

enum way { BY_HANDLER, BY_POLL, BY_NEXT, BY_RECEIVE, BY_FD, WAYS };
enum { READY, JOINED, GO, FINISH, ADDRESS = 32 };

#define SCENARIOS 24
#define SMALL_SCENARIOS 5

static struct {
	unsigned senders, receivers;
	enum way way;
	uint64_t messages; /* of each sender */
	struct mix mix;
} load;

static struct {
	uint64_t next[16];
	uint64_t total;
} seen;

static unsigned sender_of(const struct ringbus_address *address)
{
	for (unsigned i = 0; i < load.senders; i++)
		if (flag_get(ADDRESS + i) == ((uint64_t)address->slot << 32 | address->generation))
			return i;
	harness_child_fail("a message of a stranger", 0, __FILE__, __LINE__);
}

static void take(const struct ringbus_message *m, void *user)
{
	unsigned sender;
	uint64_t sequence;

	if (m->kind == RINGBUS_NOTICE)
		return;
	sender = sender_of(&m->sender);
	sequence = seen.next[sender]++;
	child_check(m->lost == 0);
	child_check(sequence < load.messages);
	child_check(m->size == payload_size(&load.mix, sender, sequence));
	child_check(payload_matches(m->data, m->size, sender, sequence));
	__atomic_add_fetch(&seen.total, 1, __ATOMIC_ACQ_REL);
}

static void sender_main(uint64_t index)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_subscribe_options o = {.size = sizeof(o), .emit_only = true};
	uint8_t *data = malloc(PAYLOAD_MAX);
	struct ringbus_address own, to;
	struct ringbus_event *event;

	child_ok(ringbus_subscribe(&event, node, "load", &o));
	child_ok(ringbus_node_address(node, &own));
	child_ok(ringbus_node_find(node, "receiver 0", &to));
	flag_set(ADDRESS + (unsigned)index, (uint64_t)own.slot << 32 | own.generation);
	flag_add(READY, 1);
	flag_wait(GO, 1);
	for (uint64_t i = 0; i < load.messages; i++) {
		size_t size = payload_size(&load.mix, index, i);

		payload_fill(data, size, index, i);
		if (load.receivers == 1 && i % 8 == 3)
			child_ok(ringbus_contact_address(node, &to, data, size,
							 RINGBUS_SEND_MAX_NS));
		else
			child_check(
				child_ok(ringbus_emit(event, data, size, RINGBUS_SEND_MAX_NS)) ==
				(int)load.receivers);
	}
	ringbus_node_close(node);
	free(data);
}

static void receive_by_fd(struct ringbus_node *node, uint64_t expected)
{
	struct epoll_event ready = {.events = EPOLLIN};
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	child_check(epoll_ctl(epoll, EPOLL_CTL_ADD, child_ok(ringbus_node_fd(node)), &ready) == 0);
	while (seen.total < expected) {
		child_check(epoll_wait(epoll, &ready, 1, -1) == 1);
		child_ok(ringbus_poll(node, 0));
	}
	close(epoll);
}

static void receive_all(struct ringbus_node *node, uint64_t expected)
{
	uint8_t *buffer = malloc(PAYLOAD_MAX);
	struct ringbus_message m;

	if (load.way == BY_FD)
		receive_by_fd(node, expected);
	if (load.way == BY_HANDLER)
		child_ok(ringbus_listen(node, take, NULL));
	while (__atomic_load_n(&seen.total, __ATOMIC_ACQUIRE) < expected) {
		if (load.way == BY_HANDLER) {
			pause_briefly();
		} else if (load.way == BY_POLL) {
			child_ok(ringbus_wait(node, RINGBUS_FOREVER));
			child_ok(ringbus_poll(node, 0));
		} else if (load.way == BY_NEXT) {
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
			take(&m, NULL);
		} else {
			child_ok(ringbus_receive(node, buffer, PAYLOAD_MAX, &m, RINGBUS_FOREVER));
			take(&m, NULL);
		}
	}
	child_ok(ringbus_listen_stop(node));
	free(buffer);
}

static void receiver_main(uint64_t index)
{
	char name[32];
	struct ringbus_node_options o = {.size = sizeof(o), .name = name};
	struct ringbus_subscribe_options s = {.size = sizeof(s), .handler = take};
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_message m;
	int rc;

	snprintf(name, sizeof(name), "receiver %u", (unsigned)index);
	node = child_node(&o);
	child_ok(ringbus_on_contact(node, take, NULL));
	child_ok(ringbus_subscribe(&event, node, "load", &s));
	flag_add(JOINED, 1);
	receive_all(node, load.senders * load.messages);
	flag_wait(FINISH, 1);
	while ((rc = ringbus_next(node, &m, 0)) == 0)
		take(&m, NULL);
	child_check(rc == -EAGAIN);
	child_check(seen.total == load.senders * load.messages);
	ringbus_node_close(node);
}

/* load.mix and load.messages are set. */
static void run(unsigned senders, unsigned receivers, enum way way)
{
	uint64_t began;
	struct ringbus_event_options o = {.size = sizeof(o), .mode = RINGBUS_MULTI_EMISSION};
	struct ringbus_event *event;
	pid_t pid[16];

	watchdog(600);
	load.senders = senders;
	load.receivers = receivers;
	load.way = way;
	ok(ringbus_event_create(&event, node_open(), "load", &o));
	for (unsigned i = 0; i < receivers; i++)
		child_start(receiver_main, i);
	flag_wait(JOINED, receivers);
	for (unsigned i = 0; i < senders; i++)
		pid[i] = child_start(sender_main, i);
	flag_wait(READY, senders);
	flag_set(GO, 1);
	began = harness_now_ns();
	for (unsigned i = 0; i < senders; i++)
		child_join(pid[i]);
	flag_set(FINISH, 1);
	child_join_all();
	ledger("messages-checked", (double)senders * (double)load.messages * (double)receivers);
	print_message("  %u x %llu messages to %u, all there, in order and intact, in %.1f s\n",
		      senders, (unsigned long long)load.messages, receivers,
		      (double)(harness_now_ns() - began) / 1e9);
}

static void run_mixed(unsigned senders, unsigned receivers, enum way way)
{
	uint64_t messages = harness_number("STRESS_MESSAGES", 1000000);

	load.mix = (struct mix){.pooled_per_mille = 10, .max = PAYLOAD_MAX};
	load.messages =
		harness_number("STRESS_EACH", 1 + messages / SCENARIOS / (senders * receivers));
	run(senders, receivers, way);
}

static void run_small(unsigned senders, unsigned receivers, enum way way)
{
	uint64_t messages = harness_number("STRESS_SMALL", 90000000);

	load.mix = (struct mix){0};
	load.messages = 1 + messages / SMALL_SCENARIOS / (senders * receivers);
	run(senders, receivers, way);
}

#define SCENARIO(name, senders, receivers, way)     \
	static void name(void **state)              \
	{                                           \
		run_mixed(senders, receivers, way); \
	}
#define SMALL(name, senders, receivers, way)        \
	static void name(void **state)              \
	{                                           \
		run_small(senders, receivers, way); \
	}
#define SENDERS(n)                                                                 \
	SCENARIO(n##_senders_to_one_by_handler_lose_nothing, N_##n, 1, BY_HANDLER) \
	SCENARIO(n##_senders_to_one_by_poll_lose_nothing, N_##n, 1, BY_POLL)       \
	SCENARIO(n##_senders_to_one_by_next_lose_nothing, N_##n, 1, BY_NEXT)       \
	SCENARIO(n##_senders_to_one_by_receive_lose_nothing, N_##n, 1, BY_RECEIVE) \
	SCENARIO(n##_senders_to_one_by_fd_lose_nothing, N_##n, 1, BY_FD)
#define TESTS(n)                                                      \
	BUS_TEST(n##_senders_to_one_by_handler_lose_nothing),         \
		BUS_TEST(n##_senders_to_one_by_poll_lose_nothing),    \
		BUS_TEST(n##_senders_to_one_by_next_lose_nothing),    \
		BUS_TEST(n##_senders_to_one_by_receive_lose_nothing), \
		BUS_TEST(n##_senders_to_one_by_fd_lose_nothing)

enum { N_two = 2, N_four = 4, N_eight = 8, N_sixteen = 16 };
SENDERS(two)
SENDERS(four)
SENDERS(eight)
SENDERS(sixteen)
SCENARIO(one_sender_to_four_by_handler_loses_nothing, 1, 4, BY_HANDLER)
SCENARIO(one_sender_to_four_by_next_loses_nothing, 1, 4, BY_NEXT)
SCENARIO(four_senders_to_four_by_receive_lose_nothing, 4, 4, BY_RECEIVE)
SCENARIO(four_senders_to_four_by_fd_lose_nothing, 4, 4, BY_FD)
SMALL(small_payloads_of_one_sender_by_poll_are_all_there, 1, 1, BY_POLL)
SMALL(small_payloads_of_one_sender_by_next_are_all_there, 1, 1, BY_NEXT)
SMALL(small_payloads_of_one_sender_by_receive_are_all_there, 1, 1, BY_RECEIVE)
SMALL(small_payloads_of_four_senders_by_poll_are_all_there, 4, 1, BY_POLL)
SMALL(small_payloads_to_four_by_poll_are_all_there, 1, 4, BY_POLL)

static const struct CMUnitTest tests[] = {
	TESTS(two),
	TESTS(four),
	TESTS(eight),
	TESTS(sixteen),
	BUS_TEST(one_sender_to_four_by_handler_loses_nothing),
	BUS_TEST(one_sender_to_four_by_next_loses_nothing),
	BUS_TEST(four_senders_to_four_by_receive_lose_nothing),
	BUS_TEST(four_senders_to_four_by_fd_lose_nothing),
	BUS_TEST(small_payloads_of_one_sender_by_poll_are_all_there),
	BUS_TEST(small_payloads_of_one_sender_by_next_are_all_there),
	BUS_TEST(small_payloads_of_one_sender_by_receive_are_all_there),
	BUS_TEST(small_payloads_of_four_senders_by_poll_are_all_there),
	BUS_TEST(small_payloads_to_four_by_poll_are_all_there),
};

HARNESS_MAIN("stress_delivery", tests)

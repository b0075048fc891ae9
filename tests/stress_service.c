/* stress_service.c: the service is killed under load: no message is lost, the library reaps, a new
 * service adopts.
 *
 * SERVICE_MESSAGES: length of the stream (default 1000000); SERVICE_KILLS: of the last test (200).
 */
#include "harness.h"

enum { JOINED, GO, SENT, DEAF };

static void stream_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	uint64_t total = harness_number("SERVICE_MESSAGES", 1000000);
	struct ringbus_event *event;

	child_ok(ringbus_event_create(&event, node, "stream", NULL));
	child_ok(ringbus_event_wait_subscribers(event, 1, RINGBUS_SEND_MAX_NS));
	for (uint64_t i = 0; i < total; i++) {
		child_ok(ringbus_emit(event, &i, sizeof(i), RINGBUS_SEND_MAX_NS));
		if (i % 1000 == 0)
			flag_set(SENT, i);
	}
	ringbus_node_close(node);
}

static uint64_t take(struct ringbus_node *node, uint64_t next, uint64_t until)
{
	struct ringbus_message m;
	uint64_t value;

	for (; next < until; next++) {
		pull(node, &m);
		assert_int_equal(m.size, sizeof(value));
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, next);
	}
	return next;
}

static void
no_message_is_lost_when_the_service_dies_and_new_nodes_join_after_its_restart(void **state)
{
	uint64_t total = harness_number("SERVICE_MESSAGES", 1000000), next;
	struct ringbus_node *node = node_open(), *late;
	struct ringbus_event *event;

	watchdog(120);
	subscribe(node, "stream");
	child_start(stream_main, 0);
	next = take(node, 0, total / 3);
	bus_kill();
	next = take(node, next, total / 3 * 2);
	bus_serve(NULL);
	late = node_open();
	subscribe(late, "late");
	event = single(node, "late");
	assert_int_equal(emit_text(event, "welcome"), 1);
	pull_text(late, "welcome");
	take(node, next, total);
	child_join_all();
	pull_nothing(node);
	ledger("messages-checked", (double)total);
}

static void the_service_may_be_killed_again_and_again(void **state)
{
	uint64_t kills = harness_number("SERVICE_KILLS", 200);
	struct ringbus_node *node = node_open();
	struct ringbus_event *event = single(node, "news");

	for (uint64_t i = 0; i < kills; i++) {
		struct ringbus_node *guest;

		watchdog(60);

		bus_kill();
		bus_serve(NULL);
		guest = node_open();
		subscribe(guest, "news");
		assert_int_equal(emit_text(event, "x"), 1);
		pull_text(guest, "x");
		node_close(guest);
	}
	ledger("service-kills", (double)kills);
}

static void deaf_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(JOINED, 1);
	for (;;)
		pause();
}

static void without_a_service_the_library_reaps_a_subscriber_that_held_it_back(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");
	uint64_t next = 0, value;
	struct ringbus_message m;
	pid_t pid = child_start(deaf_main, 0);
	int rc;

	flag_wait(JOINED, 1);
	bus_kill();
	while ((rc = ringbus_emit(event, &next, sizeof(next), 0)) >= 0)
		next++;
	assert_int_equal(rc, -EAGAIN);
	child_kill(pid);
	subscribe(b, "news");
	for (uint64_t i = 0; i < 50000; i++) {
		ok(ringbus_emit(event, &i, sizeof(i), RINGBUS_SEND_MAX_NS));
		pull(b, &m);
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
	}
	assert_int_equal(event_info(event).subscribers, 1);
	pull_nothing(a);
	assert_int_equal(node_stats(a).dead_peers, 1);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(no_message_is_lost_when_the_service_dies_and_new_nodes_join_after_its_restart),
	BUS_TEST(the_service_may_be_killed_again_and_again),
	BUS_TEST(without_a_service_the_library_reaps_a_subscriber_that_held_it_back),
};

HARNESS_MAIN("stress_service", tests)

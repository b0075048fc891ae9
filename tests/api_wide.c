/* api_wide.c: a bus of more than 64 nodes, where masks have several words: events, contacts,
 * rights, payload memory and deaths across all of them. */
#include "harness.h"

#define WIDE 200u

enum { READY };

static const struct bus_spec wide = {.nodes = 256, .ring_bytes = 4096, .pool_bytes = 1 << 20};
/* at first one in each word of a mask */
static const unsigned corners[] = {WIDE - 1, 64, 1, 128, 62, 63, 65, 127, 191, 192};
#define CORNERS (sizeof(corners) / sizeof(corners[0]))

static struct ringbus_node *nodes[WIDE];

/* nodes[i] is in slot i. */
static void open_all(void)
{
	watchdog(120);
	bus_serve(&wide);
	for (unsigned i = 0; i < WIDE; i++) {
		nodes[i] = node_open();
		assert_int_equal(node_address(nodes[i]).slot, i);
	}
}

static void an_emission_reaches_who_subscribed_in_any_slot_and_nobody_else(void **state)
{
	struct ringbus_event *news;

	open_all();
	news = single(nodes[0], "news");
	assert_int_equal(emit_text(news, "nobody"), 0);
	for (unsigned n = 0; n < CORNERS; n++) {
		subscribe(nodes[corners[n]], "news");
		/* the first meets the new one, the second is on the common path */
		assert_int_equal(emit_text(news, "hello"), (int)n + 1);
		assert_int_equal(emit_text(news, "again"), (int)n + 1);
		for (unsigned k = 0; k <= n; k++) {
			pull_text(nodes[corners[k]], "hello");
			pull_text(nodes[corners[k]], "again");
		}
	}
	for (unsigned i = 0; i < WIDE; i++)
		pull_nothing(nodes[i]);
	/* from the other end of the table */
	news = single(nodes[WIDE - 1], "other");
	for (unsigned n = 1; n < CORNERS; n++)
		subscribe(nodes[corners[n]], "other");
	assert_int_equal(emit_text(news, "back"), (int)CORNERS - 1);
	for (unsigned n = 1; n < CORNERS; n++)
		pull_text(nodes[corners[n]], "back");
}

static void the_only_receiver_may_be_in_any_slot(void **state)
{
	struct ringbus_event *news;

	open_all();
	news = single(nodes[0], "news");
	for (unsigned n = 0; n < CORNERS; n++) {
		struct ringbus_event *event = subscribe(nodes[corners[n]], "news");

		for (unsigned i = 0; i < 100; i++) {
			assert_int_equal(emit_text(news, "you"), 1);
			pull_text(nodes[corners[n]], "you");
		}
		ok(ringbus_unsubscribe(event));
		assert_int_equal(emit_text(news, "nobody"), 0);
		pull_nothing(nodes[corners[n]]);
	}
}

static void everybody_gets_one_emission(void **state)
{
	static const size_t sizes[] = {1, 400, 600, 5000, 70000};
	static uint8_t data[70000];
	struct ringbus_event *news;
	struct ringbus_message m;

	open_all();
	payload_fill(data, sizeof(data), 1, 1);
	news = single(nodes[77], "news");
	for (unsigned i = 0; i < WIDE; i++)
		if (i != 77)
			subscribe(nodes[i], "news");
	for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		assert_int_equal(ok(ringbus_emit(news, data, sizes[s], HARNESS_SECOND)), WIDE - 1);
		for (unsigned i = 0; i < WIDE; i++) {
			if (i == 77)
				continue;
			pull(nodes[i], &m);
			assert_int_equal(m.size, sizes[s]);
			assert_memory_equal(m.data, data, sizes[s]);
			assert_int_equal(m.sender.slot, 77);
		}
	}
	for (unsigned i = 0; i < WIDE; i++)
		pull_nothing(nodes[i]); /* and gives the last back */
}

static void contacts_and_signals_go_between_any_two(void **state)
{
	struct ringbus_message m;
	uint64_t count;

	open_all();
	for (unsigned a = 0; a < CORNERS; a++)
		for (unsigned b = 0; b < CORNERS; b++) {
			struct ringbus_node *from = nodes[corners[a]], *to = nodes[corners[b]];
			struct ringbus_address address = node_address(to);

			if (a == b)
				continue;
			ok(ringbus_contact_address(from, &address, "x", 1, 0));
			ok(ringbus_signal_address(from, &address));
			pull(to, &m);
			assert_int_equal(m.sender.slot, corners[a]);
			ok(ringbus_signal_wait(to, &count, 0));
			assert_int_equal(count, 1);
		}
}

static void rights_to_emit_are_those_of_the_slot(void **state)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o), .emit_only = true};
	struct ringbus_event *event, *theirs;

	open_all();
	event = multi(nodes[0], "many");
	for (unsigned n = 0; n < CORNERS; n++) {
		ok(ringbus_subscribe(&theirs, nodes[corners[n]], "many", &o));
		assert_int_equal(emit_text(theirs, "mine"), 1);
		pull_text(nodes[0], "mine");
	}
	event = single(nodes[2], "one");
	for (unsigned n = 0; n < CORNERS; n++) {
		theirs = subscribe(nodes[corners[n]], "one");
		for (unsigned i = 0; i < 3; i++)
			fails(ringbus_emit(theirs, "x", 1, 0), -EPERM);
	}
	assert_int_equal(emit_text(event, "x"), (int)CORNERS);
}

static void dying_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(READY, 1);
	for (;;)
		pause();
}

static void who_dies_in_a_high_slot_is_told_of_and_followed(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};
	struct ringbus_node *watcher, *next;
	struct ringbus_event *news;
	struct ringbus_message m;
	pid_t pid;

	open_all();
	watcher = node_open_with(&o);
	news = single(nodes[3], "news");
	pid = child_start(dying_main, 0);
	flag_wait(READY, 1);
	assert_int_equal(emit_text(news, "unread"), 1);
	pull_notice(watcher, RINGBUS_PEER_JOINED, &m);
	child_kill(pid);
	pull_notice(watcher, RINGBUS_PEER_DIED, &m);
	assert_int_equal(m.sender.slot, WIDE + 1);
	assert_int_equal(emit_text(news, "nobody"), 0);
	next = node_open();
	assert_int_equal(node_address(next).slot, WIDE + 1);
	subscribe(next, "news");
	assert_int_equal(emit_text(news, "new"), 1);
	pull_text(next, "new");
	pull_nothing(next);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(an_emission_reaches_who_subscribed_in_any_slot_and_nobody_else),
	BARE_TEST(the_only_receiver_may_be_in_any_slot),
	BARE_TEST(everybody_gets_one_emission),
	BARE_TEST(contacts_and_signals_go_between_any_two),
	BARE_TEST(rights_to_emit_are_those_of_the_slot),
	BARE_TEST(who_dies_in_a_high_slot_is_told_of_and_followed),
};

HARNESS_MAIN("api_wide", tests)

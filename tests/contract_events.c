/* contract_events.c: the life of events: K5 to K9, K13 to K17, F1, F2, F8 to F17 of the contract.
 */
#include "harness.h"

#include <signal.h>

enum { READY, GO, DONE };

static struct ringbus_event *handlerless_multi(struct ringbus_node *node, const char *id)
{
	struct ringbus_event_options o = {.size = sizeof(o), .mode = RINGBUS_MULTI_EMISSION};
	struct ringbus_event *event = NULL;

	ok(ringbus_event_create(&event, node, id, &o));
	return event;
}

static bool missing(struct ringbus_node *node, const char *id)
{
	struct ringbus_event *event = NULL;
	int rc = ringbus_event_find(&event, node, id);

	assert_true(rc == 0 || rc == -ENOENT);
	assert_true((rc == 0) == (event != NULL));
	return rc == -ENOENT;
}

static void K05_creation_without_id_makes_a_fresh_unique_id(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *one = single(a, NULL), *two = single(a, ""), *three = single(b, NULL);

	assert_true(strlen(ringbus_event_id(one)) > 0);
	assert_string_not_equal(ringbus_event_id(one), ringbus_event_id(two));
	assert_string_not_equal(ringbus_event_id(one), ringbus_event_id(three));
	subscribe(b, ringbus_event_id(one));
	assert_int_equal(emit_text(one, "hi"), 1);
	pull_text(b, "hi");
	assert_string_equal(ringbus_event_id(single(a, "given")), "given");
}

static void K06_only_the_creator_emits_a_single_event_and_is_no_subscriber(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *own = single(a, "news"), *theirs = subscribe(b, "news");

	subscribe(c, "news");
	assert_int_equal(emit_text(own, "one"), 2);
	fails(ringbus_emit(theirs, "two", 3, 0), -EPERM);
	pull_text(b, "one");
	pull_text(c, "one");
	pull_nothing(a);
	pull_nothing(b);
	pull_nothing(c);
	assert_int_equal(event_info(own).subscribers, 2);
	assert_int_equal(event_info(own).owner.slot, node_address(a).slot);
}

static void K07_the_creator_of_a_single_event_neither_subscribes_nor_unsubscribes(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_event *own = single(a, "own"), *again = NULL;

	fails(ringbus_subscribe(&again, a, "own", NULL), -EINVAL);
	assert_null(again);
	fails(ringbus_unsubscribe(own), -EINVAL);
	assert_int_equal(ringbus_subscriptions(a, NULL, 0), 0);
}

static void K08_creator_and_subscribers_of_a_multi_event_emit_and_receive(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *from_a = multi(a, "chat"), *from_b = subscribe(b, "chat"),
			     *from_c = subscribe(c, "chat");

	assert_int_equal(emit_text(from_b, "b"), 2);
	assert_int_equal(emit_text(from_c, "c"), 2);
	pull_text(a, "b");
	pull_text(a, "c");
	pull_text(b, "c");
	pull_text(c, "b");
	assert_int_equal(emit_text(from_a, "a"), 2);
	pull_text(b, "a");
	pull_text(c, "a");
	pull_nothing(a);
	assert_int_equal(event_info(from_a).members, 3);
}

static void count_message(const struct ringbus_message *message, void *user)
{
	if (message->kind == RINGBUS_EVENT)
		++*(int *)user;
}

static void K08_the_creators_handler_gets_what_the_others_emit(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	int count = 0;
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = RINGBUS_MULTI_EMISSION,
					  .handler = count_message,
					  .user = &count};
	struct ringbus_event *event;

	ok(ringbus_event_create(&event, a, "chat", &o));
	emit_text(subscribe(b, "chat"), "x");
	while (count == 0)
		ok(ringbus_poll(a, 0));
	assert_int_equal(count, 1);
}

static void K09_an_emission_goes_to_every_subscriber_but_the_emitter(void **state)
{
	struct ringbus_node *node[9];
	struct ringbus_event *event[9];

	for (int i = 0; i < 9; i++) {
		node[i] = node_open();
		event[i] = i ? subscribe(node[i], "all") : multi(node[i], "all");
	}
	for (int from = 0; from < 9; from++) {
		assert_int_equal(emit_text(event[from], "to all"), 8);
		for (int i = 0; i < 9; i++) {
			if (i != from)
				pull_text(node[i], "to all");
			pull_nothing(node[i]);
		}
	}
}

static void K13_unsubscribing_ends_delivery_and_the_right_to_emit(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = multi(a, "chat"), *theirs = subscribe(b, "chat"), *none = NULL;

	assert_int_equal(emit_text(theirs, "1"), 1);
	ok(ringbus_unsubscribe(theirs));
	fails(ringbus_emit(theirs, "2", 1, 0), -EPERM);
	assert_int_equal(emit_text(own, "3"), 0);
	pull_text(a, "1");
	pull_nothing(a);
	pull_nothing(b);
	fails(ringbus_unsubscribe(theirs), -ENOENT);
	fails(ringbus_event_find(&none, b, "unknown"), -ENOENT);
	assert_null(none);
}

static void K14_a_multi_event_ends_with_its_last_member(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *own = multi(a, "chat"), *theirs = subscribe(b, "chat");

	ok(ringbus_unsubscribe(own));
	assert_false(missing(c, "chat"));
	assert_int_equal(event_info(theirs).members, 1);
	ok(ringbus_unsubscribe(theirs));
	assert_true(missing(c, "chat"));
	single(c, "chat");
}

static void K14_a_single_event_lives_on_without_subscribers(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news"), *again = NULL;

	ok(ringbus_unsubscribe(subscribe(b, "news")));
	assert_false(missing(b, "news"));
	fails(ringbus_event_create(&again, b, "news", NULL), -EEXIST);
	assert_int_equal(emit_text(own, "x"), 0);
	assert_true(event_info(own).exists);
}

static void K15_only_the_creator_of_a_single_event_dissolves_it(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *chat = multi(a, "chat"), *news = single(a, "news");

	fails(ringbus_event_dissolve(subscribe(b, "news")), -EPERM);
	fails(ringbus_event_dissolve(chat), -EPERM);
	fails(ringbus_event_dissolve(subscribe(b, "chat")), -EPERM);
	assert_int_equal(emit_text(news, "still"), 1);
	assert_int_equal(emit_text(chat, "there"), 1);
	pull_text(b, "still");
	pull_text(b, "there");
}

static void K16_subscriptions_lists_what_this_node_receives(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *list[8] = {NULL}, *one, *two;
	struct ringbus_event *single_event = single(b, "subscribed");

	assert_int_equal(ringbus_subscriptions(a, NULL, 0), 0);
	single(a, "own single");
	handlerless_multi(a, "own deaf multi");
	one = multi(a, "own multi");
	two = subscribe(a, "subscribed");
	assert_int_equal(ringbus_subscriptions(a, list, 8), 2);
	assert_true((list[0] == one && list[1] == two) || (list[0] == two && list[1] == one));
	assert_null(list[2]);
	assert_int_equal(ringbus_subscriptions(a, list, 1), 2);
	assert_true(event_info(two).subscribed);
	assert_false(event_info(single_event).subscribed);
	ok(ringbus_unsubscribe(two));
	assert_int_equal(ringbus_subscriptions(a, list, 8), 1);
	assert_ptr_equal(list[0], one);
}

static void K17_subscribing_again_replaces_the_handler(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news"), *one, *two;
	int first = 0, second = 0;
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = count_message,
					      .user = &first};

	ok(ringbus_subscribe(&one, b, "news", &o));
	emit_text(news, "1");
	while (first == 0)
		ok(ringbus_poll(b, 0));
	o.user = &second;
	ok(ringbus_subscribe(&two, b, "news", &o));
	assert_ptr_equal(one, two);
	emit_text(news, "2");
	while (second == 0)
		ok(ringbus_poll(b, 0));
	assert_int_equal(first, 1);
	assert_int_equal(second, 1);
}

static void F01_the_creator_dissolves_its_event_and_nobody_else_is_affected(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c;
	struct ringbus_event *own = single(a, "news"), *theirs = subscribe(b, "news");
	struct ringbus_message m;

	emit_text(own, "last");
	ok(ringbus_event_dissolve(own));
	fails(ringbus_emit(own, "x", 1, 0), -ENOENT);
	fails(ringbus_event_dissolve(own), -ENOENT);
	pull_text(b, "last");
	pull_notice(b, RINGBUS_EVENT_DISSOLVED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(ringbus_subscriptions(b, NULL, 0), 0);
	assert_true(missing(b, "news"));
	c = node_open();
	own = single(c, "news");
	subscribe(b, "news");
	subscribe(a, "news");
	assert_int_equal(emit_text(own, "again"), 2);
	pull_text(a, "again");
	pull_text(b, "again");
}

static void F02_unsubscribing_what_one_is_not_subscribed_to_fails_for_the_caller_only(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *own = single(a, "news"), *found;

	subscribe(c, "news");
	ok(ringbus_event_find(&found, b, "news"));
	fails(ringbus_unsubscribe(found), -ENOENT);
	fails(ringbus_unsubscribe(found), -ENOENT);
	assert_int_equal(emit_text(own, "x"), 1);
	pull_text(c, "x");
	ok(ringbus_unsubscribe(subscribe(b, "news")));
	node_open();
}

static void F08_a_multi_creator_emits_at_once_and_receives_each_message_once(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = multi(a, "chat"), *theirs = subscribe(b, "chat");

	assert_int_equal(emit_text(own, "mine"), 1);
	assert_ptr_equal(subscribe(a, "chat"), own);
	assert_int_equal(emit_text(theirs, "yours"), 1);
	pull_text(a, "yours");
	pull_nothing(a);
	pull_text(b, "mine");
	assert_int_equal(emit_text(own, "still"), 1);
	pull_text(b, "still");
	pull_nothing(b);
}

static void F09_the_right_to_emit_is_effective_when_subscribe_returns(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();

	multi(a, "chat");
	for (int i = 0; i < 50; i++) {
		struct ringbus_event *event = subscribe(b, "chat");

		assert_int_equal(emit_text(event, "now"), 1);
		pull_text(a, "now");
		ok(ringbus_unsubscribe(event));
	}
}

static void F10_subscribing_twice_delivers_once_and_one_unsubscribe_ends_it(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news"), *theirs = subscribe(b, "news");

	subscribe(b, "news");
	assert_int_equal(emit_text(own, "x"), 1);
	pull_text(b, "x");
	pull_nothing(b);
	assert_int_equal(event_info(own).subscribers, 1);
	ok(ringbus_unsubscribe(theirs));
	assert_int_equal(emit_text(own, "y"), 0);
	pull_nothing(b);
}

static void F11_subscribing_before_creation_is_honoured_and_reported(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *theirs = subscribe(b, "later"), *own, *strict = NULL;
	struct ringbus_subscribe_options o = {.size = sizeof(o), .must_exist = true};
	struct ringbus_message m;

	assert_int_equal(ringbus_subscriptions(b, NULL, 0), 1);
	assert_false(event_info(theirs).exists);
	assert_true(event_info(theirs).subscribed);
	fails(ringbus_emit(theirs, "x", 1, 0), -ENOENT);
	fails(ringbus_subscribe(&strict, b, "never", &o), -ENOENT);
	assert_null(strict);
	own = single(a, "later");
	pull_notice(b, RINGBUS_EVENT_CREATED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(m.count, RINGBUS_SINGLE_EMISSION);
	assert_true(event_info(theirs).exists);
	assert_int_equal(emit_text(own, "first"), 1);
	pull_text(b, "first");
}

static void F11_pending_subscribers_become_members_of_a_multi_event(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *theirs = subscribe(b, "later");

	multi(a, "later");
	assert_int_equal(emit_text(theirs, "allowed"), 1);
	pull_text(a, "allowed");
}

static void F12_creating_an_existing_event_fails_and_changes_nothing(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *own = single(a, "news"), *chat = multi(a, "chat"), *again = NULL;

	subscribe(c, "news");
	subscribe(c, "chat");
	fails(ringbus_event_create(&again, b, "news", NULL), -EEXIST);
	fails(ringbus_event_create(&again, b, "chat", NULL), -EEXIST);
	fails(ringbus_event_create(&again, a, "news", NULL), -EEXIST);
	assert_null(again);
	assert_int_equal(emit_text(own, "1"), 1);
	assert_int_equal(emit_text(chat, "2"), 1);
	pull_text(c, "1");
	pull_text(c, "2");
}

static void F13_ids_are_bytes_of_utf8(void **state)
{
	static const char *const ids[] =
		{"Grüße/ереcобытие", "事件", "🔔🔔", "a b\tc\n", ".", "/", "%s"};
	struct ringbus_node *a = node_open(), *b = node_open();

	for (unsigned i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		struct ringbus_event *own = single(a, ids[i]);

		assert_string_equal(ringbus_event_id(subscribe(b, ids[i])), ids[i]);
		assert_int_equal(emit_text(own, ids[i]), 1);
		pull_text(b, ids[i]);
	}
}

static void F14_creator(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_event_create(&event, node, "news", NULL));
	child_ok(ringbus_event_wait_subscribers(event, 1, 60 * HARNESS_SECOND));
	child_ok(ringbus_emit(event, "will", 4, 0));
	flag_set(READY, 1);
	flag_wait(GO, 1);
}

static void F14_the_creators_death_is_told_and_the_next_creator_takes_over(void **state)
{
	struct ringbus_node *b = node_open(), *c = node_open();
	struct ringbus_event *theirs = subscribe(b, "news"), *own;
	struct ringbus_message m;
	pid_t pid = child_start(F14_creator, 0);

	flag_wait(READY, 1);
	child_kill(pid);
	pull_text(b, "will");
	pull_notice(b, RINGBUS_EVENT_ORPHANED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(ringbus_subscriptions(b, NULL, 0), 1);
	assert_false(event_info(theirs).exists);
	own = single(c, "news");
	pull_notice(b, RINGBUS_EVENT_CREATED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(emit_text(own, "successor"), 1);
	pull_text(b, "successor");
	ok(ringbus_event_dissolve(own));
}

/* The path of one sending thread, which takes no lock, to more than one. */
static void K09_an_event_of_a_node_with_one_sending_thread_reaches_all(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND,
					 .single_sender = true};
	struct ringbus_node *to[3], *from = node_open_with(&o);
	struct ringbus_event *event = single(from, "news");
	char text[16];

	assert_int_equal(emit_text(event, "to nobody"), 0);
	for (unsigned i = 0; i < 3; i++) {
		to[i] = node_open();
		subscribe(to[i], "news");
	}
	for (unsigned n = 0; n < 100; n++) {
		snprintf(text, sizeof(text), "number %u", n);
		assert_int_equal(emit_text(event, text), 3);
		for (unsigned i = 0; i < 3; i++)
			pull_text(to[i], text);
	}
}

static void F14_a_creator_that_followed_another_between_two_looks_is_told(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *theirs;
	struct ringbus_message m;

	single(a, "news");
	theirs = subscribe(b, "news");
	pull_nothing(b);
	node_close(a);
	single(c, "news");
	pull_notice(b, RINGBUS_EVENT_CREATED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(m.sender.slot, node_address(c).slot);
	pull_nothing(b);
}

static void F14_a_creator_that_closes_leaves_the_subscriptions_too(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *theirs;
	struct ringbus_message m;

	single(a, "news");
	theirs = subscribe(b, "news");
	node_close(a);
	pull_notice(b, RINGBUS_EVENT_ORPHANED, &m);
	assert_ptr_equal(m.event, theirs);
	assert_int_equal(emit_text(multi(c, "news"), "as multi"), 1);
	pull_text(b, "as multi");
	assert_int_equal(emit_text(theirs, "now allowed"), 1);
	pull_text(c, "now allowed");
}

static void F14_an_orphan_without_subscriptions_is_removed(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();

	single(a, "news");
	node_close(a);
	assert_true(missing(b, "news"));
}

static void F16_a_multi_creator_without_handler_unsubscribes(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = handlerless_multi(a, "chat");

	assert_int_equal(emit_text(own, "into the void"), 0);
	assert_int_equal(emit_text(subscribe(b, "chat"), "not for a"), 0);
	pull_nothing(a);
	ok(ringbus_unsubscribe(own));
	fails(ringbus_emit(own, "x", 1, 0), -EPERM);
}

static void F17_an_unknown_mode_is_refused(void **state)
{
	struct ringbus_event_options o = {.size = sizeof(o), .mode = (enum ringbus_mode)7};
	struct ringbus_node *a = node_open();
	struct ringbus_event *event = NULL;

	fails(ringbus_event_create(&event, a, "odd", &o), -EINVAL);
	assert_null(event);
	assert_true(missing(a, "odd"));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(K05_creation_without_id_makes_a_fresh_unique_id),
	BUS_TEST(K06_only_the_creator_emits_a_single_event_and_is_no_subscriber),
	BUS_TEST(K07_the_creator_of_a_single_event_neither_subscribes_nor_unsubscribes),
	BUS_TEST(K08_creator_and_subscribers_of_a_multi_event_emit_and_receive),
	BUS_TEST(K08_the_creators_handler_gets_what_the_others_emit),
	BUS_TEST(K09_an_emission_goes_to_every_subscriber_but_the_emitter),
	BUS_TEST(K13_unsubscribing_ends_delivery_and_the_right_to_emit),
	BUS_TEST(K14_a_multi_event_ends_with_its_last_member),
	BUS_TEST(K14_a_single_event_lives_on_without_subscribers),
	BUS_TEST(K15_only_the_creator_of_a_single_event_dissolves_it),
	BUS_TEST(K16_subscriptions_lists_what_this_node_receives),
	BUS_TEST(K17_subscribing_again_replaces_the_handler),
	BUS_TEST(F01_the_creator_dissolves_its_event_and_nobody_else_is_affected),
	BUS_TEST(F02_unsubscribing_what_one_is_not_subscribed_to_fails_for_the_caller_only),
	BUS_TEST(F08_a_multi_creator_emits_at_once_and_receives_each_message_once),
	BUS_TEST(F09_the_right_to_emit_is_effective_when_subscribe_returns),
	BUS_TEST(F10_subscribing_twice_delivers_once_and_one_unsubscribe_ends_it),
	BUS_TEST(F11_subscribing_before_creation_is_honoured_and_reported),
	BUS_TEST(F11_pending_subscribers_become_members_of_a_multi_event),
	BUS_TEST(F12_creating_an_existing_event_fails_and_changes_nothing),
	BUS_TEST(F13_ids_are_bytes_of_utf8),
	BUS_TEST(F14_the_creators_death_is_told_and_the_next_creator_takes_over),
	BUS_TEST(K09_an_event_of_a_node_with_one_sending_thread_reaches_all),
	BUS_TEST(F14_a_creator_that_followed_another_between_two_looks_is_told),
	BUS_TEST(F14_a_creator_that_closes_leaves_the_subscriptions_too),
	BUS_TEST(F14_an_orphan_without_subscriptions_is_removed),
	BUS_TEST(F16_a_multi_creator_without_handler_unsubscribes),
	BUS_TEST(F17_an_unknown_mode_is_refused),
};

HARNESS_MAIN("contract_events", tests)

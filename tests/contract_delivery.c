/* contract_delivery.c: rights, payloads, contacts, room: K10 to K12, K18, K19, F3 to F5, F18, F20,
 * F25. */
#include "harness.h"

#include <pthread.h>

enum { READY, GO, STOP, DONE, SENT = 16 };

static void K10_emitting_without_right_fails_and_sends_nothing(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_event *found;

	single(a, "news");
	multi(a, "chat");
	subscribe(b, "news");
	subscribe(b, "chat");
	ok(ringbus_event_find(&found, c, "news"));
	fails(ringbus_emit(found, "x", 1, 0), -EPERM);
	ok(ringbus_event_find(&found, c, "chat"));
	fails(ringbus_emit(found, "x", 1, 0), -EPERM);
	pull_nothing(a);
	pull_nothing(b);
	assert_int_equal(node_stats(c).sent, 0);
}

static void K11_emitting_without_subscribers_succeeds(void **state)
{
	assert_int_equal(emit_text(single(node_open(), "news"), "x"), 0);
}

static void K11_payloads_are_opaque_bytes_and_may_be_empty(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");
	struct ringbus_message m;
	uint8_t all[256];

	for (int i = 0; i < 256; i++)
		all[i] = (uint8_t)(255 - i);
	subscribe(b, "news");
	assert_int_equal(ok(ringbus_emit(own, NULL, 0, 0)), 1);
	assert_int_equal(ok(ringbus_emit(own, all, sizeof(all), 0)), 1);
	pull(b, &m);
	assert_int_equal(m.size, 0);
	assert_non_null(m.data);
	pull(b, &m);
	assert_int_equal(m.size, sizeof(all));
	assert_memory_equal(m.data, all, sizeof(all));
	fails(ringbus_emit(own, NULL, 5, 0), -EINVAL);
}

static void K11_payloads_of_every_size_class_arrive_intact(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "sizes");
	struct ringbus_message m;
	size_t largest = 5u << 20;
	uint8_t *data = malloc(largest);
	int turns = 0;

	subscribe(b, "sizes");
	for (size_t base = 1; base <= largest; base *= 2) {
		for (size_t size = base > 2 ? base - 2 : base; size <= base + 2 && size <= largest;
		     size++, turns++) {
			payload_fill(data, size, 1, size);
			assert_int_equal(ok(ringbus_emit(own, data, size, 0)), 1);
			pull(b, &m);
			assert_int_equal(m.size, size);
			assert_true(payload_matches(m.data, size, 1, size));
		}
	}
	assert_true(turns > 60);
	free(data);
}

static void K12_a_message_tells_sender_event_and_receiver(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news"), *theirs = subscribe(b, "news");
	struct ringbus_address from = node_address(a);
	struct ringbus_message m;

	emit_text(own, "x");
	pull(b, &m);
	assert_int_equal(m.kind, RINGBUS_EVENT);
	assert_ptr_equal(m.event, theirs);
	assert_ptr_equal(m.node, b);
	assert_int_equal(m.sender.pid, getpid());
	assert_int_equal(m.sender.slot, from.slot);
	assert_int_equal(m.sender.generation, from.generation);
}

static void K18_target(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_message m;

	flag_set(READY, 1);
	child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	child_check(m.kind == RINGBUS_CONTACT && m.event == NULL);
	child_check(m.size == 5 && memcmp(m.data, "hello", 5) == 0);
	child_ok(ringbus_contact(node, m.sender.pid, "back", 4, 0));
	flag_wait(GO, 1);
	ringbus_node_close(node);
}

static void K18_contact_reaches_the_process_and_fails_for_itself_and_unknown_ones(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_address self = node_address(a);
	pid_t pid = child_start(K18_target, 0);
	struct ringbus_address found;

	flag_wait(READY, 1);
	ok(ringbus_node_find_pid(a, (uint32_t)pid, &found));
	assert_int_equal(found.pid, pid);
	ok(ringbus_contact(a, (uint32_t)pid, "hello", 5, 0));
	pull_text(a, "back");
	fails(ringbus_contact(a, (uint32_t)getpid(), "x", 1, 0), -EINVAL);
	fails(ringbus_contact_address(a, &self, "x", 1, 0), -EINVAL);
	fails(ringbus_contact(a, dead_pid(), "x", 1, 0), -ESRCH);
	fails(ringbus_contact(a, 1, "x", 1, 0), -ESRCH);
	flag_set(GO, 1);
	child_join(pid);
	fails(ringbus_contact(a, (uint32_t)pid, "x", 1, 0), -ESRCH);
	fails(ringbus_contact_address(a, &found, "x", 1, 0), -ESRCH);
}

static void count_message(const struct ringbus_message *message, void *user)
{
	if (message->kind != RINGBUS_NOTICE)
		++*(unsigned *)user;
}

static void K19_without_a_contact_handler_contacts_are_counted_and_events_delivered(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	unsigned events = 0, contacts = 0;
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = count_message,
					      .user = &events};
	struct ringbus_event *own = single(a, "news"), *theirs;

	ok(ringbus_subscribe(&theirs, b, "news", &o));
	ok(ringbus_on_contact(b, count_message, &contacts));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	while (contacts == 0)
		ok(ringbus_poll(b, 0));
	ok(ringbus_on_contact(b, NULL, NULL));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	emit_text(own, "x");
	while (events == 0)
		ok(ringbus_poll(b, 0));
	assert_int_equal(contacts, 1);
	assert_int_equal(events, 1);
	assert_int_equal(node_stats(b).dropped_unsubscribed, 1);
}

static void F03_sender(uint64_t index)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	uint64_t value[2] = {index, 0};

	child_ok(ringbus_subscribe(&event, node, "common",
				   &(struct ringbus_subscribe_options){
					   .size = sizeof(struct ringbus_subscribe_options),
					   .emit_only = true}));
	flag_add(READY, 1);
	flag_wait(GO, 1);
	for (; value[1] < 3000; value[1]++)
		child_ok(ringbus_emit(event, value, sizeof(value), RINGBUS_SEND_MAX_NS));
	ringbus_node_close(node);
}

static void F03_run(unsigned senders)
{
	struct ringbus_node *node = node_open();
	uint64_t value[2], next[16] = {0};
	struct ringbus_message m;

	multi(node, "common");
	for (unsigned i = 0; i < senders; i++)
		child_start(F03_sender, i);
	flag_wait(READY, senders);
	flag_set(GO, 1);
	for (unsigned i = 0; i < senders * 3000; i++) {
		pull(node, &m);
		assert_int_equal(m.size, sizeof(value));
		memcpy(value, m.data, sizeof(value));
		assert_true(value[0] < senders);
		assert_int_equal(value[1], next[value[0]]);
		next[value[0]]++;
	}
	child_join_all();
	pull_nothing(node);
}

static void F03_two_concurrent_senders_lose_nothing_and_keep_their_order(void **state)
{
	F03_run(2);
}

static void F03_sixteen_concurrent_senders_lose_nothing_and_keep_their_order(void **state)
{
	F03_run(16);
}

static void F04_victim(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	struct ringbus_message m;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_add(READY, 1);
	for (;;)
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
}

static void F04_killing_a_subscriber_costs_the_others_nothing(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");
	struct ringbus_message m;
	uint64_t got = 0, value;
	pid_t pid = child_start(F04_victim, 0);

	flag_wait(READY, 1);
	subscribe(b, "news");
	for (uint64_t i = 0; i < 20000; i++) {
		if (i == 7000)
			child_kill(pid);
		ok(ringbus_emit(own, &i, sizeof(i), RINGBUS_SEND_MAX_NS));
		for (; i % 100 == 99 && got <= i; got++) {
			pull(b, &m);
			memcpy(&value, m.data, sizeof(value));
			assert_int_equal(value, got);
		}
	}
	assert_int_equal(got, 20000);
	pull_nothing(b);
	while (node_stats(a).dead_peers == 0) {
		assert_true(emit_text(own, "still there?") >= 1);
		pull_text(b, "still there?");
		pull_nothing(a);
	}
	assert_int_equal(node_stats(a).dead_peers, 1);
	while (event_info(own).subscribers > 1) /* told of first, then freed */
		pause_briefly();
}

static uint64_t fill(struct ringbus_event *event, size_t size)
{
	uint8_t data[1024] = {0};
	uint64_t count = 0;
	int rc;

	while ((rc = ringbus_emit(event, data, size, 0)) >= 0)
		count++;
	assert_int_equal(rc, -EAGAIN);
	return count;
}

static void F05_a_full_ring_is_an_error_and_nobody_gets_the_message(void **state)
{
	struct ringbus_node *a = node_open(), *deaf = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");
	struct ringbus_address who;
	struct ringbus_message m;
	uint8_t data[400] = {0};
	uint64_t sent, got = 0;

	subscribe(deaf, "news");
	sent = fill(own, sizeof(data));
	sent += fill(own, 0); /* not even a descriptor fits */
	assert_true(sent > 10);
	subscribe(b, "news");
	fails(ringbus_emit(own, data, sizeof(data), 0), -EAGAIN);
	ok(ringbus_node_held_back_by(a, &who));
	assert_int_equal(who.slot, node_address(deaf).slot);
	fails(ringbus_emit(own, data, sizeof(data), 1), -ETIMEDOUT);
	pull_nothing(b);
	for (;;) {
		int rc = ringbus_next(deaf, &m, 0);

		if (rc == -EAGAIN)
			break;
		ok(rc);
		got += m.kind == RINGBUS_EVENT;
	}
	assert_int_equal(got, sent);
	emit_text(own, "room again");
	pull_text(deaf, "room again");
}

static void F05_a_bounded_wait_ends_with_a_timeout(void **state)
{
	struct ringbus_node *a = node_open(), *deaf = node_open();
	struct ringbus_event *own = single(a, "news");
	uint8_t data[400] = {0};
	struct ringbus_address who;
	uint64_t before;

	subscribe(deaf, "news");
	fill(own, sizeof(data));
	before = harness_now_ns();
	fails(ringbus_emit(own, data, sizeof(data), 30 * HARNESS_MS), -ETIMEDOUT);
	assert_true(harness_now_ns() - before >= 30 * HARNESS_MS);
	ok(ringbus_node_held_back_by(a, &who));
	assert_int_equal(who.slot, node_address(deaf).slot);
	assert_true(node_stats(a).full > 0);
}

static void F05_reader(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	struct ringbus_message m;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(READY, 1);
	flag_wait(GO, 1);
	while (!flag_get(STOP)) {
		int rc = ringbus_next(node, &m, 10 * HARNESS_MS);

		child_check(rc == 0 || rc == -ETIMEDOUT);
	}
	ringbus_node_close(node);
}

static void F05_a_waiting_send_goes_on_when_the_reader_makes_room(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_event *own = single(a, "news");
	uint8_t data[400] = {0};

	child_start(F05_reader, 0);
	flag_wait(READY, 1);
	fill(own, sizeof(data));
	flag_set(GO, 1);
	for (int i = 0; i < 2000; i++)
		assert_int_equal(ok(ringbus_emit(own, data, sizeof(data), RINGBUS_SEND_MAX_NS)), 1);
	flag_set(STOP, 1);
	child_join_all();
}

static void F05_a_lossy_subscriber_holds_nobody_back_and_is_told_its_losses(void **state)
{
	struct ringbus_node *a = node_open(), *deaf = node_open(), *b = node_open();
	struct ringbus_subscribe_options o = {.size = sizeof(o), .lossy = true};
	struct ringbus_event *own = single(a, "news"), *theirs;
	uint64_t got = 0, lost = 0, expected = 0, value;
	uint8_t data[400] = {0};
	struct ringbus_message m;

	ok(ringbus_subscribe(&theirs, deaf, "news", &o));
	subscribe(b, "news");
	for (uint64_t i = 0; i < 20000; i++) {
		memcpy(data, &i, sizeof(i));
		ok(ringbus_emit(own, data, sizeof(data), 0));
		pull(b, &m);
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
	}
	while (got + lost < 20000) {
		ok(ringbus_next(deaf, &m, RINGBUS_FOREVER));
		lost += m.lost;
		if (m.kind == RINGBUS_NOTICE) {
			lost += m.notice == RINGBUS_LOST ? m.count : 0;
			continue;
		}
		expected += m.lost;
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, expected);
		expected++;
		got++;
	}
	assert_true(lost > 0);
	assert_int_equal(got + lost, 20000);
	assert_int_equal(node_stats(a).dropped_lossy, lost);
	emit_text(own, "after");
	pull_text(deaf, "after");
}

static void F05_the_creator_may_declare_all_subscribers_lossy(void **state)
{
	struct ringbus_node *a = node_open(), *deaf = node_open();
	struct ringbus_event_options o = {.size = sizeof(o), .lossy = true};
	struct ringbus_event *own;
	uint8_t data[400] = {0};

	ok(ringbus_event_create(&own, a, "news", &o));
	subscribe(deaf, "news");
	for (int i = 0; i < 5000; i++)
		ok(ringbus_emit(own, data, sizeof(data), 0));
	assert_true(node_stats(a).dropped_lossy > 0);
}

static void F18_churner(uint64_t index)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_subscribe_options o = {.size = sizeof(o), .lossy = true};
	struct ringbus_event *event;

	while (!flag_get(STOP)) {
		child_ok(ringbus_subscribe(&event, node, "news", &o));
		child_ok(ringbus_poll(node, 0));
		child_ok(ringbus_unsubscribe(event));
		flag_add(DONE, 1);
	}
	ringbus_node_close(node);
}

static void F18_subscribing_and_leaving_of_others_never_skips_a_stable_subscriber(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");
	struct ringbus_message m;
	uint64_t value, i = 0;

	subscribe(b, "news");
	for (unsigned c = 0; c < 3; c++)
		child_start(F18_churner, c);
	for (; i < 20000 || flag_get(DONE) < 300; i++) {
		assert_true(ok(ringbus_emit(own, &i, sizeof(i), RINGBUS_SEND_MAX_NS)) >= 1);
		pull(b, &m);
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
	}
	flag_set(STOP, 1);
	child_join_all();
	pull_nothing(b);
}

static void F20_handler(const struct ringbus_message *message, void *user)
{
	unsigned *calls = user;
	struct ringbus_message m;
	struct ringbus_event *event;

	if (message->kind != RINGBUS_CONTACT)
		return;
	++*calls;
	if (ringbus_next(message->node, &m, 0) != -EBUSY ||
	    ringbus_poll(message->node, 0) != -EBUSY)
		calls[1]++;
	if (ringbus_event_find(&event, message->node, "none") != -ENOENT)
		calls[1]++;
	if (ringbus_contact_address(message->node, &message->sender, "echo", 4, 0) < 0)
		calls[1]++;
}

static void F20_a_handler_whose_calls_fail_does_not_end_delivery(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	unsigned calls[2] = {0};

	ok(ringbus_on_contact(b, F20_handler, calls));
	for (int i = 0; i < 100; i++) {
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
		while (calls[0] <= (unsigned)i)
			ok(ringbus_poll(b, 0));
		pull_text(a, "echo");
	}
	assert_int_equal(calls[0], 100);
	assert_int_equal(calls[1], 0);
}

static void F25_a_contact_returns_0_and_an_emission_how_many_got_it(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_event *event = single(a, "news");
	struct ringbus_loan loan;

	subscribe(b, "news");
	assert_int_equal(ringbus_contact_address(a, &to, "1", 1, 0), 0);
	ok(ringbus_loan(a, 1, &loan, 0));
	memcpy(loan.data, "2", 1);
	assert_int_equal(ringbus_contact_loan(a, &to, &loan, 0), 0);
	ok(ringbus_loan(a, 1, &loan, 0));
	memcpy(loan.data, "3", 1);
	assert_int_equal(ringbus_emit_loan(event, &loan, 0), 1);
	assert_int_equal(ringbus_emit(event, "4", 1, 0), 1);
	pull_text(b, "1");
	pull_text(b, "2");
	pull_text(b, "3");
	pull_text(b, "4");
}

static void F25_contacts_tell_their_sender_and_dead_targets_are_an_error(void **state)
{
	struct ringbus_node *a = node_open_named("anna"), *b = node_open();
	struct ringbus_address to, from = node_address(b);
	struct ringbus_message m;

	ok(ringbus_node_find(b, "anna", &to));
	ok(ringbus_contact_address(b, &to, "x", 1, 0));
	pull(a, &m);
	assert_int_equal(m.kind, RINGBUS_CONTACT);
	assert_int_equal(m.sender.slot, from.slot);
	assert_int_equal(m.sender.generation, from.generation);
	assert_int_equal(m.sender.pid, getpid());
	node_close(a);
	fails(ringbus_contact_address(b, &to, "x", 1, 0), -ESRCH);
	fails(ringbus_node_find(b, "anna", &to), -ESRCH);
	to.slot = 5000;
	fails(ringbus_contact_address(b, &to, "x", 1, 0), -ESRCH);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(K10_emitting_without_right_fails_and_sends_nothing),
	BUS_TEST(K11_emitting_without_subscribers_succeeds),
	BUS_TEST(K11_payloads_are_opaque_bytes_and_may_be_empty),
	BUS_TEST(K11_payloads_of_every_size_class_arrive_intact),
	BUS_TEST(K12_a_message_tells_sender_event_and_receiver),
	BUS_TEST(K18_contact_reaches_the_process_and_fails_for_itself_and_unknown_ones),
	BUS_TEST(K19_without_a_contact_handler_contacts_are_counted_and_events_delivered),
	BUS_TEST(F03_two_concurrent_senders_lose_nothing_and_keep_their_order),
	BUS_TEST(F03_sixteen_concurrent_senders_lose_nothing_and_keep_their_order),
	BUS_TEST(F04_killing_a_subscriber_costs_the_others_nothing),
	BUS_TEST(F05_a_full_ring_is_an_error_and_nobody_gets_the_message),
	BUS_TEST(F05_a_bounded_wait_ends_with_a_timeout),
	BUS_TEST(F05_a_waiting_send_goes_on_when_the_reader_makes_room),
	BUS_TEST(F05_a_lossy_subscriber_holds_nobody_back_and_is_told_its_losses),
	BUS_TEST(F05_the_creator_may_declare_all_subscribers_lossy),
	BUS_TEST(F18_subscribing_and_leaving_of_others_never_skips_a_stable_subscriber),
	BUS_TEST(F20_a_handler_whose_calls_fail_does_not_end_delivery),
	BUS_TEST(F25_a_contact_returns_0_and_an_emission_how_many_got_it),
	BUS_TEST(F25_contacts_tell_their_sender_and_dead_targets_are_an_error),
};

HARNESS_MAIN("contract_delivery", tests)

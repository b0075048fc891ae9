/* api_stream.c: in a stream the sender keeps the way of its last emission, and the receiver what
 * the last message was. Both hold no longer than they are true. */
#include "harness.h"

/* With locked sends, and with one sending thread. */
static struct ringbus_node *sender_open(unsigned kind)
{
	struct ringbus_node_options o = {.size = sizeof(o), .single_sender = kind == 1};

	return node_open_with(&o);
}
#define FOR_KINDS(kind) for (unsigned kind = 0; kind < 2; kind++)

/* Emits so often that the way there is known. */
static void emit_some(struct ringbus_event *event, struct ringbus_node *to)
{
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(emit_text(event, "some"), 1);
		pull_text(to, "some");
	}
}

/* ---- the sender ---- */

static void who_subscribes_gets_the_next_emission(void **state)
{
	FOR_KINDS(kind)
	{
		struct ringbus_node *a = sender_open(kind), *b = node_open(), *c = node_open();
		struct ringbus_event *news = single(a, "news"), *theirs = subscribe(b, "news");

		emit_some(news, b);
		subscribe(c, "news");
		assert_int_equal(emit_text(news, "both"), 2);
		pull_text(b, "both");
		pull_text(c, "both");
		ok(ringbus_unsubscribe(theirs));
		emit_some(news, c);
		pull_nothing(b);
		node_close(c);
		assert_int_equal(emit_text(news, "nobody"), 0);
		node_close(b);
		node_close(a);
	}
}

/* The entry of an event that ended is soon another's, perhaps with the same subscribers. */
static void an_event_that_ended_is_not_the_next_one_in_its_place(void **state)
{
	FOR_KINDS(kind)
	{
		struct ringbus_node *a = sender_open(kind), *b = node_open(), *c = node_open();
		struct ringbus_event *one = single(a, "one"), *two;

		subscribe(b, "one");
		emit_some(one, b);
		ok(ringbus_event_dissolve(one));
		fails(ringbus_emit(one, "x", 1, 0), -ENOENT);
		two = single(c, "two");
		subscribe(b, "two");
		fails(ringbus_emit(one, "x", 1, 0), -ENOENT);
		emit_some(two, b);
		pull_nothing(b);
		node_close(c);
		node_close(b);
		node_close(a);
	}
}

static void who_is_no_member_any_more_emits_nothing(void **state)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o), .emit_only = true};

	FOR_KINDS(kind)
	{
		struct ringbus_node *a = sender_open(kind), *b = node_open();
		struct ringbus_event *many;

		multi(b, "many");
		ok(ringbus_subscribe(&many, a, "many", &o));
		emit_some(many, b);
		ok(ringbus_unsubscribe(many));
		fails(ringbus_emit(many, "x", 1, 0), -EPERM);
		pull_nothing(b);
		node_close(b);
		node_close(a);
	}
}

/* It is in the same slot, and as far as the event's entry says nothing has changed. */
static void who_follows_a_receiver_in_its_slot_gets_what_is_for_itself(void **state)
{
	FOR_KINDS(kind)
	{
		struct ringbus_node *a = sender_open(kind), *b = node_open();
		struct ringbus_event *news = single(a, "news");
		struct ringbus_address before = node_address(b), to;

		subscribe(b, "news");
		emit_some(news, b);
		assert_int_equal(emit_text(news, "for the one before"), 1);
		ok(ringbus_contact_address(a, &before, "for the one before", 18, 0));
		node_close(b);
		b = node_open();
		assert_int_equal(node_address(b).slot, before.slot);
		subscribe(b, "news");
		fails(ringbus_contact_address(a, &before, "for the one before", 18, 0), -ESRCH);
		emit_some(news, b);
		to = node_address(b);
		ok(ringbus_contact_address(a, &to, "you", 3, 0));
		pull_text(b, "you");
		pull_nothing(b);
		node_close(b);
		node_close(a);
	}
}

/* All sizes that take the short way, and some that do not, many times round a ring that is full
 * again and again. */
static void what_is_accepted_comes_whole_and_in_order_from_a_ring_that_is_full(void **state)
{
	struct bus_spec spec = {.ring_bytes = 65536};
	struct mix mix = {.max = 140};
	unsigned char data[300];
	struct ringbus_message m;

	bus_serve(&spec);
	FOR_KINDS(kind)
	{
		struct ringbus_node *a = sender_open(kind), *b = node_open();
		struct ringbus_address to = node_address(b);
		struct ringbus_event *news = single(a, "news");
		uint64_t sent = 0, got = 0, state_of = 1, full = 0;

		subscribe(b, "news");
		while (got < 50000) {
			size_t size = payload_size(&mix, 1, sent);
			int r;

			payload_fill(data, size, 1, sent);
			r = sent % 3 == 2 ? ringbus_contact_address(a, &to, data, size, 0)
					  : ringbus_emit(news, data, size, 0);
			sent += r >= 0;
			full += r == -EAGAIN;
			for (uint64_t n = r < 0 ? splitmix(&state_of) % 2000 : 0;
			     n > 0 && got < sent; n--, got++) {
				pull(b, &m);
				assert_int_equal(m.kind,
						 got % 3 == 2 ? RINGBUS_CONTACT : RINGBUS_EVENT);
				assert_int_equal(m.size, payload_size(&mix, 1, got));
				assert_true(payload_matches(m.data, m.size, 1, got));
			}
		}
		assert_true(full > 20);
		node_close(b);
		node_close(a);
	}
}

/* ---- the receiver ---- */

/* Does something in the middle of a stream. */
struct middle {
	struct ringbus_node *node;
	struct ringbus_event *event;
	void (*act)(struct middle *);
	unsigned calls, after; /* of the handler, and of what took its place */
	struct ringbus_address sender;
	unsigned others; /* that were not from the sender before */
};

static void count_calls(const struct ringbus_message *m, void *user)
{
	struct middle *middle = user;

	assert_int_equal(m->size, 4);
	assert_memory_equal(m->data, "some", 4);
	middle->others += m->sender.generation != middle->sender.generation;
	middle->sender = m->sender;
	if (++middle->calls == 4 && middle->act)
		middle->act(middle);
}

static void count_after(const struct ringbus_message *m, void *user)
{
	struct middle *middle = user;

	(void)m;
	middle->after++;
}

static void subscribe_for(struct middle *middle, const char *id, ringbus_handler handler)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = handler,
					      .user = middle};

	ok(ringbus_subscribe(&middle->event, middle->node, id, &o));
}

static void end_subscription(struct middle *middle)
{
	ok(ringbus_unsubscribe(middle->event));
}

static void replace_handler(struct middle *middle)
{
	subscribe_for(middle, "news", count_after);
}

static void replace_contact(struct middle *middle)
{
	ok(ringbus_on_contact(middle->node, count_after, middle));
}

static void end_contact(struct middle *middle)
{
	ok(ringbus_on_contact(middle->node, NULL, NULL));
}

/* Ten messages, and what a handler does with the fourth holds for the fifth. */
static void ten(struct ringbus_node *a, struct middle *middle, bool contact, unsigned limit)
{
	struct ringbus_event *news = contact ? NULL : single(a, "news");
	struct ringbus_address to;

	middle->node = node_open();
	to = node_address(middle->node);
	if (contact)
		ok(ringbus_on_contact(middle->node, count_calls, middle));
	else
		subscribe_for(middle, "news", count_calls);
	for (unsigned i = 0; i < 10; i++)
		ok(contact ? ringbus_contact_address(a, &to, "some", 4, 0)
			   : ringbus_emit(news, "some", 4, 0));
	while (ok(ringbus_poll(middle->node, limit)) > 0) {
	}
	node_close(middle->node);
}

static void a_subscription_that_ends_in_its_handler_gets_no_more_of_the_stream(void **state)
{
	struct middle middle = {.act = end_subscription};

	ten(node_open(), &middle, false, 0);
	assert_int_equal(middle.calls, 4);
}

static void a_handler_that_is_replaced_gets_no_more_of_the_stream(void **state)
{
	struct middle middle = {.act = replace_handler}, direct = {.act = replace_contact},
		      last = {.act = end_contact};
	struct ringbus_node *a = node_open();

	ten(a, &middle, false, 0);
	assert_int_equal(middle.calls, 4);
	assert_int_equal(middle.after, 6);
	ten(a, &direct, true, 0);
	assert_int_equal(direct.calls, 4);
	assert_int_equal(direct.after, 6);
	ten(a, &last, true, 0);
	assert_int_equal(last.calls, 4);
	assert_int_equal(last.after, 0);
}

static void a_stream_is_taken_in_parts_of_the_size_asked_for(void **state)
{
	static const int parts[] = {3, 3, 3, 1, 0};
	struct ringbus_node *a = node_open();
	struct ringbus_event *news = single(a, "news");
	struct middle middle = {.node = node_open()};

	subscribe_for(&middle, "news", count_calls);
	for (unsigned i = 0; i < 10; i++)
		ok(ringbus_emit(news, "some", 4, 0));
	for (unsigned i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
		assert_int_equal(ok(ringbus_poll(middle.node, 3)), parts[i]);
	assert_int_equal(middle.calls, 10);
}

/* Its first record says nothing that the last one of the owner before has not said. */
static void a_stream_of_the_next_owner_of_a_slot_is_its_own(void **state)
{
	struct middle middle = {.node = node_open()};
	uint32_t slot = UINT32_MAX;

	subscribe_for(&middle, "news", count_calls);
	for (unsigned round = 1; round <= 3; round++) {
		struct ringbus_node *a = node_open();
		struct ringbus_event *news = single(a, "news");

		assert_true(slot == UINT32_MAX || node_address(a).slot == slot);
		slot = node_address(a).slot;
		for (unsigned i = 0; i < 5; i++)
			ok(ringbus_emit(news, "some", 4, 0));
		while (ok(ringbus_poll(middle.node, 0)) > 0) {
		}
		assert_int_equal(middle.calls, 5 * round);
		assert_int_equal(middle.others, round);
		assert_int_equal(middle.sender.generation, node_address(a).generation);
		assert_int_equal(middle.sender.pid, getpid());
		node_close(a);
	}
}

static void add_lost(const struct ringbus_message *m, void *user)
{
	uint64_t *lost = user; /* with the first message, and with all */

	lost[0] += lost[2]++ == 0 ? m->lost : 0;
	lost[1] += m->lost;
}

/* The record that tells of them is passed over, since its subscription has ended. */
static void what_was_lost_before_a_stream_comes_with_its_first_message(void **state)
{
	uint64_t lost[3] = {0}, dropped;
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news"), *theirs;
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = add_lost,
					      .user = lost,
					      .lossy = true};
	static const char block[4000];

	ok(ringbus_subscribe(&theirs, b, "news", &o));
	while (node_stats(a).dropped_lossy < 3)
		ok(ringbus_emit(news, block, sizeof(block), 0));
	while (ok(ringbus_poll(b, 0)) > 0) {
	}
	dropped = node_stats(a).dropped_lossy - lost[1];
	assert_true(dropped > 0);
	memset(lost, 0, sizeof(lost));
	for (unsigned i = 0; i < 5; i++)
		ok(ringbus_emit(news, "some", 4, 0));
	ok(ringbus_unsubscribe(theirs));
	assert_int_equal(ok(ringbus_poll(b, 1)), 1);
	assert_int_equal(lost[2], 0);
	ok(ringbus_subscribe(&theirs, b, "news", &o));
	while (ok(ringbus_poll(b, 0)) > 0) {
	}
	assert_int_equal(lost[2], 4);
	assert_int_equal(lost[0], dropped);
	assert_int_equal(lost[1], dropped);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_subscribes_gets_the_next_emission),
	BUS_TEST(an_event_that_ended_is_not_the_next_one_in_its_place),
	BUS_TEST(who_is_no_member_any_more_emits_nothing),
	BUS_TEST(who_follows_a_receiver_in_its_slot_gets_what_is_for_itself),
	BARE_TEST(what_is_accepted_comes_whole_and_in_order_from_a_ring_that_is_full),
	BUS_TEST(a_subscription_that_ends_in_its_handler_gets_no_more_of_the_stream),
	BUS_TEST(a_handler_that_is_replaced_gets_no_more_of_the_stream),
	BUS_TEST(a_stream_is_taken_in_parts_of_the_size_asked_for),
	BUS_TEST(a_stream_of_the_next_owner_of_a_slot_is_its_own),
	BUS_TEST(what_was_lost_before_a_stream_comes_with_its_first_message),
};
HARNESS_MAIN("api_stream", tests)

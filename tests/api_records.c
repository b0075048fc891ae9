/* api_records.c: compact records, which leave out what the last one said, as the API shows them. */
#include "harness.h"

/* Longer than what goes into a ring. */
static char large[100000];

static void gets(struct ringbus_node *node, size_t size)
{
	struct ringbus_message m;
	static char buffer[sizeof(large)];

	ok(ringbus_receive(node, buffer, sizeof(buffer), &m, 20 * HARNESS_SECOND));
	assert_int_equal(m.size, size);
}

/* The first message goes through the pool and says nothing for the small one behind it. */
static void a_new_owner_gets_the_small_message_after_a_large_one(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");
	uint32_t slot = node_address(b).slot;

	subscribe(b, "news");
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(ringbus_emit(event, "small", 5, HARNESS_SECOND), 1);
		gets(b, 5);
	}
	node_close(b);
	b = node_open();
	assert_int_equal(node_address(b).slot, slot);
	subscribe(b, "news");
	assert_int_equal(ringbus_emit(event, large, sizeof(large), HARNESS_SECOND), 1);
	assert_int_equal(ringbus_emit(event, "small", 5, HARNESS_SECOND), 1);
	gets(b, sizeof(large));
	gets(b, 5);
}

/* Its size is looked at first. */
static void a_payload_over_the_limit_is_refused_also_without_receivers(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_event *event = single(a, "news");

	assert_int_equal(ringbus_emit(event, large, sizeof(large), 0), 0);
	fails(ringbus_emit(event, large, ringbus_node_payload_max(a) + 1, 0), -EMSGSIZE);
}

static void events_and_contacts_in_one_ring_stay_what_they_are(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *one = single(a, "one"), *two = single(a, "two");
	struct ringbus_event *first = subscribe(b, "one"), *second = subscribe(b, "two");
	struct ringbus_address to = node_address(b);
	struct ringbus_message m;
	char buffer[16];

	for (unsigned i = 0; i < 40; i++) {
		unsigned what = i / 4 % 3;

		if (what == 2)
			ok(ringbus_contact_address(a, &to, "x", 1, 0));
		else
			assert_int_equal(ringbus_emit(what ? two : one, "x", 1, 0), 1);
	}
	for (unsigned i = 0; i < 40; i++) {
		unsigned what = i / 4 % 3;

		ok(ringbus_receive(b, buffer, sizeof(buffer), &m, 20 * HARNESS_SECOND));
		assert_int_equal(m.kind, what == 2 ? RINGBUS_CONTACT : RINGBUS_EVENT);
		assert_ptr_equal(m.event, what == 2 ? NULL : what ? second : first);
		assert_int_equal(m.sender.slot, node_address(a).slot);
	}
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_new_owner_gets_the_small_message_after_a_large_one),
	BUS_TEST(a_payload_over_the_limit_is_refused_also_without_receivers),
	BUS_TEST(events_and_contacts_in_one_ring_stay_what_they_are),
};

HARNESS_MAIN("api_records", tests)

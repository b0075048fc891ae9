/* api_words.c: what ringbus_error_detail() says. */
#include "harness.h"

/* A code that says it all does not leave the words of an earlier failure. */
static void a_failure_has_no_words_of_an_earlier_one(void **state)
{
	struct ringbus_node *node = node_open(), *to = node_open();
	struct ringbus_event *event = single(node, "news");
	struct ringbus_address there = node_address(to);
	struct ringbus_message m;
	int r;

#define PLAINLY(call, code)                                                       \
	do {                                                                      \
		fails(ringbus_event_create(&event, node, "news", NULL), -EEXIST); \
		assert_true(strlen(ringbus_error_detail()) > 0);                  \
		fails(call, code);                                                \
		assert_string_equal(ringbus_error_detail(), "");                  \
	} while (0)
	PLAINLY(ringbus_next(node, &m, 0), -EAGAIN);
	PLAINLY(ringbus_next(node, &m, 1), -ETIMEDOUT);
	PLAINLY(ringbus_wait(node, 0), -ETIMEDOUT);
	PLAINLY(ringbus_signal_wait(node, NULL, 0), -EAGAIN);
	PLAINLY(ringbus_next(NULL, &m, 0), -EINVAL);
	ringbus_node_interrupt(node, true);
	PLAINLY(ringbus_next(node, &m, HARNESS_SECOND), -EINTR);
	PLAINLY(ringbus_signal_wait(node, NULL, HARNESS_SECOND), -EINTR);
	PLAINLY(ringbus_event_wait_subscribers(event, 1, HARNESS_SECOND), -EINTR);
	ringbus_node_interrupt(node, false);
	do
		r = ringbus_contact_address(node, &there, "x", 1, HARNESS_SECOND);
	while (r == 0);
	fails(r, -ETIMEDOUT);
	PLAINLY(ringbus_contact_address(node, &there, "x", 1, 0), -EAGAIN);
#undef PLAINLY
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_failure_has_no_words_of_an_earlier_one),
};

HARNESS_MAIN("api_words", tests)

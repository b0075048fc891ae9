/* unit_receive.c: ways to receive, one after the other on one node: what one of them leaves the
 * other gets. */
#include "atomic.h"
#include "harness.h"
#include "node.h"

static struct ringbus_node *unhelped_open(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .no_safety_wake = true};

	return node_open_with(&o);
}

static void add_signals(uint64_t count, void *user)
{
	*(uint64_t *)user += count;
}

static void who_pulls_sleeps_while_signals_wait_for_poll(void **state)
{
	struct ringbus_node *a = node_open(), *b = unhelped_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_message m;
	uint64_t signals = 0, sleeps;

	ok(ringbus_on_signal(b, add_signals, &signals));
	while (ringbus_next(b, &m, 0) == 0)
		;
	ok(ringbus_signal_address(a, &to));
	sleeps = node_stats(b).sleeps;
	fails(ringbus_next(b, &m, 20 * HARNESS_MS), -ETIMEDOUT);
	assert_true(node_stats(b).sleeps > sleeps);
	ok(ringbus_wait(b, 0)); /* who waits may poll then */
	assert_int_equal(signals, 0);
	assert_int_equal(ok(ringbus_poll(b, 0)), 1);
	assert_int_equal(signals, 1);
}

static void a_wait_without_time_looks_after_a_sleep_too(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .spin_ns = RINGBUS_NO_SPIN};
	struct ringbus_node *a = node_open(), *b = node_open_with(&o);
	struct ringbus_address to = node_address(b);
	uint64_t sleeps = node_stats(b).sleeps;

	while (ringbus_wait(b, HARNESS_MS) == 0)
		ok(ringbus_poll(b, 0));
	assert_true(node_stats(b).sleeps > sleeps);
	ok(ringbus_contact_address(a, &to, "me", 2, 0));
	ok(ringbus_wait(b, 0));
	assert_int_equal(ok(ringbus_poll(b, 0)), 1);
}

static void note_lost(const struct ringbus_message *m, void *user)
{
	*(uint64_t *)user += m->lost;
}

static void a_loss_that_nobody_was_told_comes_with_the_next_message(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news"), *event;
	uint64_t lost = 0, got = 0, sent = 0;
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = note_lost,
					      .user = &lost,
					      .lossy = true};
	static const char block[4000];
	struct ringbus_message m;

	ok(ringbus_subscribe(&event, b, "news", &o));
	for (; sent < 1000 || node_stats(a).dropped_lossy == 0; sent++)
		ok(ringbus_emit(news, block, sizeof(block), 0));
	while (ringbus_next(b, &m, 0) == 0)
		got += m.kind == RINGBUS_EVENT;
	assert_int_not_equal(got, sent);
	while (ringbus_wait(b, 0) == 0 && ringbus_poll(b, 0) > 0)
		;
	ok(ringbus_emit(news, block, sizeof(block), 0));
	assert_int_equal(ok(ringbus_poll(b, 0)), 1);
	assert_int_equal(lost, sent - got);
}

/* Overwrites the header of what `from` sent first of what `to` has not read. */
static void spoil(struct ringbus_node *from, struct ringbus_node *to)
{
	struct ring_tx *tx = &from->tx[to->slot]->ring;
	uint64_t head = atomic_load(&tx->rx->head.v);
	struct shm_word *header = (void *)(tx->data + (head & (tx->capacity - 1)));

	assert_true(atomic_load(&header->v) != 0);
	atomic_store(&header->v, 0x1234567);
}

static void a_spoiled_ring_is_counted_by_whoever_meets_it(void **state)
{
	struct ringbus_node *a = node_open(), *b = unhelped_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_message m;

	for (unsigned way = 0; way < 3; way++) {
		while (ringbus_next(b, &m, 0) == 0)
			;
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
		spoil(a, b);
		if (way == 0)
			fails(ringbus_next(b, &m, 0), -EAGAIN);
		else if (way == 1)
			ok(ringbus_wait(b, 0));
		else
			assert_int_equal(ok(ringbus_poll(b, 0)), 0);
		assert_int_equal(node_stats(b).corrupt, way + 1);
		ok(ringbus_contact_address(a, &to, "y", 1, 0));
		pull_text(b, "y");
		assert_int_equal(node_stats(b).corrupt, way + 1);
	}
}

/* ---- the limit of poll ---- */

static void count(const struct ringbus_message *m, void *user)
{
	++*(unsigned *)user;
}

static struct ringbus_node *told_open(unsigned *notices)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .peer_notices = true,
					 .no_safety_wake = true,
					 .on_notice = count,
					 .on_notice_user = notices};

	return node_open_with(&o);
}

static void poll_gives_no_more_notices_than_its_limit_and_leaves_none(void **state)
{
	unsigned notices = 0;
	struct ringbus_node *b = told_open(&notices);

	for (unsigned i = 0; i < 5; i++)
		node_open();
	for (unsigned i = 1; i <= 5; i++) {
		ok(ringbus_wait(b, RINGBUS_FOREVER));
		assert_int_equal(ok(ringbus_poll(b, 1)), 1);
		assert_int_equal(notices, i);
	}
	assert_int_equal(ok(ringbus_poll(b, 1)), 0);
	fails(ringbus_wait(b, 0), -ETIMEDOUT);
}

static void a_ring_that_never_gets_empty_keeps_no_notice_from_poll(void **state)
{
	unsigned notices = 0, contacts = 0;
	struct ringbus_node *a = node_open(), *b = told_open(&notices);
	struct ringbus_address to = node_address(b);

	ok(ringbus_on_contact(b, count, &contacts));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	for (unsigned i = 0; i < 3; i++)
		node_open();
	while (notices < 3) {
		unsigned before = contacts + notices;

		if (contacts < 1000) /* it comes before these are over */
			ok(ringbus_contact_address(a, &to, "x", 1, 0));
		assert_int_equal(ok(ringbus_poll(b, 1)), 1);
		assert_int_equal(contacts + notices - before, 1);
	}
	assert_in_range(contacts, 1, 10);
}

/* Nor the other way round. */
static void notices_that_never_end_keep_no_message_from_poll(void **state)
{
	unsigned notices = 0, contacts = 0;
	struct ringbus_node *a = node_open(), *b = told_open(&notices), *c = NULL;
	struct ringbus_address to = node_address(b);

	ok(ringbus_on_contact(b, count, &contacts));
	node_open();
	for (unsigned i = 0; i < 10; i++)
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
	while (contacts < 10) {
		node_open();
		if (c)
			node_close(c);
		c = node_open();
		assert_int_equal(ok(ringbus_poll(b, 1)), 1);
	}
	assert_in_range(notices, 1, 20);
}

static void close_its_node(const struct ringbus_message *m, void *user)
{
	ringbus_node_close(m->node);
}

static void a_turn_ends_with_a_notice_whose_handler_closes_the_node(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .peer_notices = true,
					 .on_notice = close_its_node};
	struct ringbus_node *a = node_open(), *b;
	struct ringbus_address to;
	unsigned contacts = 0;

	ok(ringbus_node_open(&b, &o));
	to = node_address(b);
	ok(ringbus_on_contact(b, count, &contacts));
	for (unsigned i = 0; i < 3; i++)
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
	node_open();
	assert_int_equal(ok(ringbus_poll(b, 1)), 1);
	assert_int_equal(ok(ringbus_poll(b, 2)), 1);
	assert_int_equal(contacts, 1);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_pulls_sleeps_while_signals_wait_for_poll),
	BUS_TEST(a_wait_without_time_looks_after_a_sleep_too),
	BUS_TEST(a_loss_that_nobody_was_told_comes_with_the_next_message),
	BUS_TEST(a_spoiled_ring_is_counted_by_whoever_meets_it),
	BUS_TEST(poll_gives_no_more_notices_than_its_limit_and_leaves_none),
	BUS_TEST(a_ring_that_never_gets_empty_keeps_no_notice_from_poll),
	BUS_TEST(notices_that_never_end_keep_no_message_from_poll),
	BUS_TEST(a_turn_ends_with_a_notice_whose_handler_closes_the_node),
};

HARNESS_MAIN("unit_receive", tests)

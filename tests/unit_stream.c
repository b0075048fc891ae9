/* unit_stream.c: streams, whose records say nothing but their payload, seen from inside: what makes
 * their sender say more, and whom they are for. */
#include "atomic.h"
#include "harness.h"
#include "node.h"

static void count_message(const struct ringbus_message *m, void *user)
{
	(void)m;
	++*(unsigned *)user;
}

static struct ringbus_event *subscribe_counting(struct ringbus_node *node, unsigned *count)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = count_message,
					      .user = count};
	struct ringbus_event *event;

	ok(ringbus_subscribe(&event, node, "news", &o));
	return event;
}

/* Its first record says for whom it is, and the others say nothing. */
static void a_stream_for_the_owner_before_is_passed_over_as_a_whole(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news");
	unsigned got = 0;

	subscribe_counting(b, &got);
	ok(ringbus_emit(news, "one", 3, 0));
	assert_int_equal(ok(ringbus_poll(b, 0)), 1);
	for (unsigned i = 0; i < 5; i++)
		ok(ringbus_emit(news, "two", 3, 0));
	/* as if the first one had been for our predecessor */
	b->rx[a->slot]->ring.said_generations -= 1ull << 32;
	assert_int_equal(ok(ringbus_poll(b, 0)), 5);
	assert_int_equal(got, 1);
}

/* It has found damage in the ring, and reads nothing until its sender has answered. */
static void a_receiver_that_asks_is_answered_in_the_middle_of_a_stream(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news");
	unsigned got = 0;
	struct ring_tx *ring;

	subscribe_counting(b, &got);
	for (unsigned i = 0; i < 5; i++)
		ok(ringbus_emit(news, "one", 3, 0));
	while (ok(ringbus_poll(b, 0)) > 0) {
	}
	assert_int_equal(got, 5);
	ring = &a->tx[b->slot]->ring;
	/* else this would show nothing */
	assert_true(ring_tx_is_quick(ring, ring->tail + RECORD_SAME_BYTES + 7 + 3));
	shm_store_relaxed(ring_tx_word(ring, ring->tail), 12345);
	ok(ringbus_poll(b, 0));
	assert_int_equal(node_stats(b).corrupt, 1);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ok(ringbus_emit(news, "two", 3, 0)), 1);
	while (ok(ringbus_poll(b, 0)) > 0) {
	}
	assert_int_equal(got, 8);
}

/* Tools that look behind the head begin there. The ring's end is filled up, for no record ends just
 * there. */
static void each_part_of_a_ring_begins_with_a_record_that_says_all(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news");
	unsigned got = 0, parts = 0;
	struct ring_tx *ring;
	uint64_t at, part = 0;

	subscribe_counting(b, &got);
	for (unsigned i = 0; i < 30000; i++) {
		ok(ringbus_emit(news, "a small payload", 16, 0));
		while (i % 1000 == 999 && ok(ringbus_poll(b, 0)) > 0) {
		}
	}
	assert_int_equal(got, 30000);
	ring = &a->tx[b->slot]->ring;
	assert_true(ring->tail > 2 * ring->capacity);
	at = ring->tail & ~(ring->capacity - 1);
	while (at < ring->tail) {
		uint64_t word = shm_load_relaxed(ring_tx_word(ring, at));

		assert_int_equal(word >> 32 & 7, RECORD_EVENT);
		assert_true(shm_load_relaxed(&ring->ctl->starts[part]) == at);
		part++;
		parts++;
		while (at < ring->tail && (at & (ring->capacity - 1)) >> ring->part_shift < part)
			at += (uint32_t)shm_load_relaxed(ring_tx_word(ring, at));
	}
	assert_true(parts > 10);
}

static void look_at_head(const struct ringbus_message *m, void *user)
{
	const struct ring_rx *ring = &m->node->rx[m->sender.slot]->ring;
	uint64_t *most = user, kept = ring->at - shm_load_relaxed(&ring->rx->head);

	*most = kept > *most ? kept : *most;
}

/* A handler may take long, and its sender waits for room. */
static void positions_go_back_in_the_middle_of_a_batch(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	uint64_t most = 0, quarter, part;
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = look_at_head,
					      .user = &most};
	struct ringbus_event *news = single(a, "news"), *event;
	static const char block[500];

	ok(ringbus_subscribe(&event, b, "news", &o));
	for (unsigned i = 0; i < 300; i++)
		ok(ringbus_emit(news, block, sizeof(block), 0));
	quarter = a->tx[b->slot]->ring.capacity / 4;
	part = layout_ring_part(4 * quarter);
	while (ok(ringbus_poll(b, 0)) > 0) {
	}
	assert_in_range(most, quarter - part, quarter + part);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_stream_for_the_owner_before_is_passed_over_as_a_whole),
	BUS_TEST(a_receiver_that_asks_is_answered_in_the_middle_of_a_stream),
	BUS_TEST(each_part_of_a_ring_begins_with_a_record_that_says_all),
	BUS_TEST(positions_go_back_in_the_middle_of_a_batch),
};

HARNESS_MAIN("unit_stream", tests)

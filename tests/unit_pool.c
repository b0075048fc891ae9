/* unit_pool.c: chunks that come back: who is told, and how many go to and fro. */
#include "harness.h"

#include "node.h"

#include <pthread.h>

enum { TO, ENOUGH };

static struct ringbus_node *from, *to;

static void begin(uint64_t pool_bytes)
{
	struct bus_spec spec = {.nodes = 4, .ring_bytes = 256 << 10, .pool_bytes = pool_bytes};

	bus_serve(&spec);
	from = node_open();
	to = node_open();
}

static void lend_and_send(struct ringbus_node *a, struct ringbus_node *b, size_t size)
{
	struct ringbus_address there = node_address(b);
	struct ringbus_loan loan;

	ok(ringbus_loan(a, size, &loan, 20 * HARNESS_SECOND));
	ok(ringbus_contact_loan(a, &there, &loan, 20 * HARNESS_SECOND));
}

static void *send_on(void *unused)
{
	while (flag_get(ENOUGH) == 0)
		lend_and_send(from, to, 1000);
	return NULL;
}

/* Not only in a turn that finds nothing: its receiver may have other work first. In fewer messages
 * than it would be told of for their size. */
static void who_reads_the_last_payload_wakes_a_sender_that_waits_for_the_pool(void **state)
{
	static struct ringbus_loan loans[2000];
	unsigned n = 0, woken = 0;
	pthread_t thread;

	begin(1 << 20);
	while (ringbus_loan(from, 1000, &loans[n], 0) == 0)
		assert_true(++n < rb_array_size(loans));
	ringbus_loan_cancel(&loans[--n]); /* the one that goes to and fro */
	assert_int_equal(pthread_create(&thread, NULL, send_on, NULL), 0);
	for (int i = 0; i < 40 && woken == 0; i++) {
		uint64_t before = node_stats(to).wakes;

		while (!doorbell_seems_asleep(&from->bell->room))
			pause_briefly();
		if (ok(ringbus_poll(to, 1)) > 0)
			woken += node_stats(to).wakes > before;
	}
	flag_set(ENOUGH, 1);
	while (pthread_tryjoin_np(thread, NULL) != 0)
		ringbus_poll(to, 0);
	while (n > 0)
		ringbus_loan_cancel(&loans[--n]);
	assert_true(woken > 0);
}

static void pass_on(struct ringbus_node *a, struct ringbus_node *b, size_t size)
{
	struct ringbus_message m;

	lend_and_send(a, b, size);
	pull(b, &m);
	assert_int_equal(m.size, size);
}

static void what_is_answered_takes_two_chunks_at_most(void **state)
{
	const size_t size = 1 << 20;

	begin(64 << 20);
	for (int i = 0; i < 1000; i++) {
		pass_on(from, to, size);
		pass_on(to, from, size);
	}
	assert_in_range(pool_chunks(&from->pool, size), 1, 2);
	assert_in_range(pool_chunks(&to->pool, size), 1, 2);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(who_reads_the_last_payload_wakes_a_sender_that_waits_for_the_pool),
	BARE_TEST(what_is_answered_takes_two_chunks_at_most),
};

HARNESS_MAIN("unit_pool", tests)

/* api_pool.c: the edges of a node's pool: its last extent, lossy receivers that hold all of it. */
#include "harness.h"

#include <pthread.h>

enum { JOINED, KEPT, TOLD };

enum { LOANS = 40000 };

static struct ringbus_loan loans[LOANS];

static unsigned lend_all(struct ringbus_node *node)
{
	unsigned n = 0;
	int rc;

	while ((rc = ringbus_loan(node, 1000, &loans[n], 0)) == 0)
		assert_true(++n < LOANS);
	assert_int_equal(rc, -EAGAIN);
	return n;
}

static void give_back(unsigned n)
{
	while (n > 0)
		ringbus_loan_cancel(&loans[--n]);
}

static void keep_one(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_borrow *borrow;
	struct ringbus_address own;
	struct ringbus_message m;

	child_ok(ringbus_node_address(node, &own));
	flag_set(JOINED, 1 + own.slot);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind == RINGBUS_NOTICE);
	child_ok(ringbus_borrow(&m, &borrow));
	flag_set(KEPT, 1);
	for (;;)
		pause();
}

static void who_dies_with_a_payload_of_the_last_extent_gives_it_back(void **state)
{
	struct bus_spec spec = {.nodes = 2, .events = 16, .pool_bytes = 33 << 20};
	struct ringbus_address to = {0};
	struct ringbus_node *node;
	unsigned n;
	pid_t pid;

	bus_serve(&spec);
	node = node_open();
	n = lend_all(node);
	pid = child_start(keep_one, 0);
	flag_wait(JOINED, 1);
	to.slot = (uint32_t)flag_get(JOINED) - 1;
	ok(ringbus_contact_loan(node, &to, &loans[n - 1], 0));
	flag_wait(KEPT, 1);
	child_kill(pid);
	node_open(); /* there is no slot but that of the dead */
	give_back(n - 1);
	assert_int_equal(lend_all(node), n);
	give_back(n);
}

static void a_pool_that_a_lossy_receiver_holds_holds_no_emitter_back(void **state)
{
	enum { LARGE = 600 << 10 };
	struct ringbus_event_options all = {.size = sizeof(all), .lossy = true};
	struct bus_spec spec = {.nodes = 4, .pool_bytes = 1 << 20};
	struct ringbus_node *from, *hog, *eager;
	uint8_t *data = calloc(1, LARGE);
	struct ringbus_event *event;
	struct ringbus_message m;

	bus_serve(&spec);
	from = node_open();
	hog = node_open();
	eager = node_open();
	ok(ringbus_event_create(&event, from, "news", &all));
	subscribe(hog, "news");
	subscribe(eager, "news");
	assert_int_equal(ringbus_emit(event, data, LARGE, 0), 2);
	pull(eager, &m);
	pull_nothing(eager); /* and has given it back */
	assert_int_equal(ringbus_emit(event, data, LARGE, 0), 0);
	assert_int_equal(node_stats(from).dropped_lossy, 2);
	pull(hog, &m);
	pull_nothing(hog);
	assert_int_equal(ringbus_emit(event, data, LARGE, 0), 2);
	pull(eager, &m);
	assert_int_equal(m.lost, 1);
	free(data);
}

static void a_pool_that_is_all_lent_holds_its_own_emitter_back(void **state)
{
	enum { LARGE = 600 << 10 };
	struct ringbus_event_options all = {.size = sizeof(all), .lossy = true};
	struct bus_spec spec = {.nodes = 4, .pool_bytes = 1 << 20};
	struct ringbus_node *from, *to;
	struct ringbus_event *event;
	struct ringbus_loan loan;
	uint8_t *data = calloc(1, LARGE);

	bus_serve(&spec);
	from = node_open();
	to = node_open();
	ok(ringbus_event_create(&event, from, "news", &all));
	subscribe(to, "news");
	ok(ringbus_loan(from, LARGE, &loan, 0));
	fails(ringbus_emit(event, data, LARGE, 0), -EAGAIN);
	assert_int_equal(node_stats(from).dropped_lossy, 0);
	ringbus_loan_cancel(&loan);
	assert_int_equal(ringbus_emit(event, data, LARGE, 0), 1);
	free(data);
}

#ifndef RELEASE_LIBRARY /* whose check is left out */
static void *lend_and_cancel(void *node)
{
	struct ringbus_loan loan = {0};

	while (flag_get(TOLD) == 0) {
		if (!loan.data)
			ringbus_loan(node, 1 << 20, &loan, 0);
		ringbus_loan_cancel(&loan);
	}
	while (loan.data)
		ringbus_loan_cancel(&loan);
	return NULL;
}

static void who_trims_the_pool_of_a_single_sender_while_it_sends_is_told(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .single_sender = true};
	struct ringbus_node *node = node_open_with(&o);
	pthread_t thread;
	int rc;

	assert_int_equal(pthread_create(&thread, NULL, lend_and_cancel, node), 0);
	do
		rc = ringbus_node_trim(node);
	while (rc == 0);
	flag_set(TOLD, 1);
	pthread_join(thread, NULL);
	assert_int_equal(rc, -EBUSY);
	ok(ringbus_node_trim(node));
}
#endif

static const struct CMUnitTest tests[] = {
	BARE_TEST(who_dies_with_a_payload_of_the_last_extent_gives_it_back),
	BARE_TEST(a_pool_that_a_lossy_receiver_holds_holds_no_emitter_back),
	BARE_TEST(a_pool_that_is_all_lent_holds_its_own_emitter_back),
#ifndef RELEASE_LIBRARY /* whose check is left out */
	BUS_TEST(who_trims_the_pool_of_a_single_sender_while_it_sends_is_told),
#endif
};

HARNESS_MAIN("api_pool", tests)

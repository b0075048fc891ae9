/* fault_close.c: closing a node while others use what it is about to leave: its slot, its live
 * lock, its memory. Runs with hooks: the closing thread stands still at a kill point until the
 * others did what they do.
 */
#include "harness.h"

#include "node.h"
#include "peer.h"
#include "port.h"

#include <poll.h>
#include <pthread.h>

enum { READY, GO, DONE, ADDRESS, LENT };

typedef void (*at_point_fn)(const char *point);
/* of the closing thread alone */
static _Thread_local at_point_fn meanwhile;

static void at_point(const char *name)
{
	if (meanwhile)
		meanwhile(name);
}

static const struct shm_hooks hooks = {.kill_point = at_point};

/* Closes with what happens meanwhile at each kill point. */
static void close_among(struct ringbus_node *node, at_point_fn what)
{
	meanwhile = what;
	ringbus_node_close(node);
	meanwhile = NULL;
}

static struct ringbus_node *open_here(void)
{
	struct ringbus_node_options options = {.size = sizeof(options),
					       .port = bus_port(),
					       .timeout_ns = 60 * HARNESS_SECOND};
	struct ringbus_node *node;

	ok(ringbus_node_open(&node, &options));
	return node;
}

/* ---- the live lock ---- */

/* Frees slots that were left, as whoever closes does. */
static void leaver(uint64_t unused)
{
	struct ringbus_node *node;

	(void)unused;
	node = child_node(NULL);
	flag_set(READY, 1);
	flag_wait(GO, 1);
	ringbus_node_close(node);
	flag_set(DONE, 1);
}

static pthread_t joiner;
static struct ringbus_node *joined;

static void *join_too(void *unused)
{
	__atomic_store_n(&joined, open_here(), __ATOMIC_SEQ_CST);
	return unused;
}

static void joins_when_left(const char *point)
{
	if (strcmp(point, "X_LEFT_MARKED") != 0)
		return;
	meanwhile = NULL;
	flag_set(GO, 1);
	flag_wait(DONE, 1); /* the slot is free now */
	assert_int_equal(pthread_create(&joiner, NULL, join_too, NULL), 0);
	/* it waits for us; else it needs less than this */
	for (unsigned i = 0; i < 300 && !__atomic_load_n(&joined, __ATOMIC_SEQ_CST); i++)
		pause_briefly();
}

static void who_joins_in_the_slot_of_a_closing_thread_keeps_its_live_lock(void **state)
{
	struct ringbus_node *left = open_here(), *kept;
	uint32_t slot = left->slot;
	uint64_t word;

	child_start(leaver, 0);
	flag_wait(READY, 1);
	kept = open_here(); /* keeps the region mapped */
	close_among(left, joins_when_left);
	pthread_join(joiner, NULL);
	assert_int_equal(joined->slot, slot);
	/* sync SLOT reader: none; a look by a test */
	word = shm_load_acquire(&joined->bell->slot);
	assert_int_equal(peer_check(joined->region, joined->slot, word), PEER_ALIVE);
	assert_int_equal(peer_live_holder(joined->region, joined->slot), getpid());
	ringbus_node_close(joined);
	ringbus_node_close(kept);
}

/* ---- borrows ---- */

static struct ringbus_borrow *borrow;
static pthread_t releaser;

static void *release_last(void *unused)
{
	ringbus_release(borrow);
	flag_set(DONE, 1);
	return unused;
}

static unsigned announcements;

/* When its end is announced the second time, the closer has let go of its node. */
static void is_released_after_leaving(const char *point)
{
	if (strcmp(point, "X_NOTICE_EPOCH") != 0 || ++announcements != 2)
		return;
	meanwhile = NULL;
	assert_int_equal(pthread_create(&releaser, NULL, release_last, NULL), 0);
	pthread_join(releaser, NULL);
}

static const char payload[100000];

/* A node with one payload borrowed, from another process: ours has nothing else of the region. */
static struct ringbus_node *borrower(void)
{
	struct ringbus_node *node = open_here();
	struct ringbus_message m;

	flag_set(ADDRESS, node->slot + 1);
	pull(node, &m);
	ok(ringbus_borrow(&m, &borrow));
	return node;
}

static void lender(uint64_t times)
{
	struct ringbus_node *node;

	node = child_node(NULL);
	for (uint64_t i = 0; i < times; i++) {
		struct ringbus_address to = {0};

		flag_wait(ADDRESS, 1);
		to.slot = (uint32_t)flag_get(ADDRESS) - 1;
		flag_set(ADDRESS, 0);
		child_ok(ringbus_contact_address(node, &to, payload, sizeof(payload),
						 HARNESS_SECOND));
	}
	flag_wait(LENT, 1);
}

static void the_last_release_may_come_while_its_node_is_closed(void **state)
{
	pid_t child = child_start(lender, 5);

	for (unsigned i = 0; i < 5; i++) {
		flag_set(DONE, 0);
		announcements = 0;
		close_among(borrower(), is_released_after_leaving);
		assert_int_equal(flag_get(DONE), 1);
	}
	flag_set(LENT, 1);
	child_join(child);
}

static void heir(uint64_t slot)
{
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_address address;
	struct ringbus_message m;

	flag_wait(GO, 1);
	node = child_node(NULL);
	child_ok(ringbus_node_address(node, &address));
	child_check(address.slot == slot);
	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(READY, 1);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_EVENT);
}

static void a_slot_is_forgotten_only_while_it_is_ones_own(void **state)
{
	struct ringbus_node *sender = node_open(), *node;
	struct ringbus_event *event = single(sender, "news");
	pid_t lending = child_start(lender, 1), child;
	struct region *region;
	uint32_t slot, generation;

	node = borrower();
	region = region_get(node->region);
	slot = node->slot;
	generation = node->generation;
	child = child_start(heir, slot);
	ringbus_node_close(node);
	ringbus_release(borrow); /* frees the slot */
	flag_set(GO, 1);
	flag_wait(READY, 1);
	/* what a closer does that was held up until now */
	ok(control_forget_slot(region, slot, generation, rb_deadline_ns(RB_SECOND)));
	region_put(region);
	assert_int_equal(emit_text(event, "to the heir"), 1);
	flag_set(LENT, 1);
	child_join(child);
	child_join(lending);
}

/* ---- a service that does not answer ---- */

static void *open_in_vain(void *unused)
{
	struct ringbus_node_options options = {.size = sizeof(options),
					       .port = bus_port(),
					       .timeout_ns = 60 * HARNESS_SECOND};
	struct ringbus_node *node;

	fails(ringbus_node_open(&node, &options), -ECONNREFUSED);
	flag_set(DONE, 1);
	return unused;
}

static void a_close_does_not_wait_for_an_open_that_waits_for_the_service(void **state)
{
	struct ringbus_node *stays = node_open(), *leaves = open_here();
	char hello[64];
	pthread_t opener;
	int listener, fd;

	bus_kill();
	listener = ok(port_listen(bus_port())); /* takes the greeting, and says nothing */
	assert_int_equal(pthread_create(&opener, NULL, open_in_vain, NULL), 0);
	assert_int_equal(port_wait(listener, POLLIN, UINT64_MAX - 1), 0);
	fd = ok(port_accept(listener));
	ok(port_receive(fd, hello, sizeof(hello), rb_deadline_ns(20 * HARNESS_SECOND)));
	ringbus_node_close(leaves);
	assert_int_equal(flag_get(DONE), 0);
	close(listener);
	close(fd);
	pthread_join(opener, NULL);
	bus_serve(NULL);
	node_close(stays);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_joins_in_the_slot_of_a_closing_thread_keeps_its_live_lock),
	BUS_TEST(the_last_release_may_come_while_its_node_is_closed),
	BUS_TEST(a_slot_is_forgotten_only_while_it_is_ones_own),
	BUS_TEST(a_close_does_not_wait_for_an_open_that_waits_for_the_service),
};

int main(int argc, char **argv)
{
	harness_init(argc, argv);
	shm_hooks = &hooks;
	return cmocka_run_group_tests_name("close", tests, NULL, NULL);
}

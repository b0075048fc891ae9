/* fault_kill_points.c: a process dies at each kill point of the library; the others go on, and the
 * region is sound.
 *
 * A kill point stands between two stores of a protocol (KILL_POINT in lib/). The victim runs a
 * fixed course of all operations and dies at the n-th passage of one point; afterwards its slot is
 * free again, a newcomer gets through to everybody, and the outside checker finds nothing (harness
 * teardown). A point that the course never passes fails.
 */
#include "atomic.h"
#include "harness.h"

#include <signal.h>

static const char *target;
static unsigned target_hit;

static void die_at(const char *name)
{
	if (strcmp(name, target) == 0 && --target_hit == 0)
		raise(SIGKILL);
}

static const struct shm_hooks hooks = {.kill_point = die_at};

enum { READY, GONE_ON, KEEPER_PID };

static unsigned char payload[70000];

static void use_pool(struct ringbus_node *node, struct ringbus_event *event)
{
	struct ringbus_loan loan;

	ringbus_emit(event, payload, sizeof(payload), 0);
	if (ringbus_loan(node, 5000, &loan, 0) == 0 && ringbus_emit_loan(event, &loan, 0) < 0)
		ringbus_loan_cancel(&loan);
}

/* Small ring: the records wrap several times. */
static void send_much(struct ringbus_event *event)
{
	for (unsigned i = 0; i < 200; i++)
		ringbus_emit(event, payload, 50 + i % 7 * 40, HARNESS_SECOND);
}

static void receive_some(struct ringbus_node *node, unsigned least)
{
	struct ringbus_borrow *borrow;
	struct ringbus_message m;

	for (unsigned n = 0; n < least;) {
		if (ringbus_next(node, &m, HARNESS_SECOND) < 0)
			return;
		n += m.kind != RINGBUS_NOTICE;
		if (m.size > 60000 && ringbus_borrow(&m, &borrow) == 0)
			ringbus_release(borrow);
	}
}

/* Everything that a node can do. */
static void course(struct ringbus_node *node)
{
	struct ringbus_event *event, *theirs, *many;
	uint32_t keeper = (uint32_t)flag_get(KEEPER_PID);
	struct ringbus_message m;

	ringbus_event_create(&event, node, "of the victim", NULL);
	ringbus_subscribe(&theirs, node, "of the keeper", NULL);
	ringbus_event_create(&many, node, "many",
			     &(struct ringbus_event_options){.size = sizeof(
								     struct ringbus_event_options),
							     .mode = RINGBUS_MULTI_EMISSION,
							     .receive = true});
	ringbus_event_wait_subscribers(event, 1, 60 * HARNESS_SECOND);
	flag_set(READY, 1);
	send_much(event);
	use_pool(node, event);
	ringbus_contact(node, keeper, "hello", 5, 0);
	ringbus_signal(node, keeper);
	receive_some(node, 20);
	ringbus_unsubscribe(theirs);
	/* sleeps once nothing comes any more */
	for (unsigned i = 0; i < 4; i++)
		while (ringbus_next(node, &m, 2 * HARNESS_MS) == 0)
			;
	ringbus_event_dissolve(event);
}

static void victim(uint64_t unused)
{
	struct ringbus_node *node, *twin;
	struct ringbus_address to;

	shm_hooks = &hooks;
	node = child_node(NULL);
	twin = child_node(NULL);
	course(node);
	ringbus_node_address(twin, &to);
	ringbus_contact_address(node, &to, "x", 1, 0);
	ringbus_node_close(twin);
	ringbus_node_close(node); /* both ends of their ring are free now */
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

/* What the others do while the victim lives, and for a while after. */
static void keep_going(struct ringbus_node *node, struct ringbus_event *event, pid_t pid)
{
	struct ringbus_message m;

	while (!child_ended(pid)) {
		ringbus_emit(event, payload, 20, 0);
		ringbus_emit(event, payload, sizeof(payload), 0);
		while (ringbus_next(node, &m, 0) == 0)
			;
		ringbus_wait(node, HARNESS_MS);
	}
	while (ringbus_next(node, &m, 0) == 0)
		;
}

/* A newcomer and the keeper reach each other by event, contact and signal. */
static void all_is_well(struct ringbus_node *keeper, struct ringbus_event *event)
{
	struct ringbus_node *fresh = node_open();
	struct ringbus_address to = node_address(fresh), back = node_address(keeper);
	struct ringbus_event *again;
	uint64_t count = 0;

	subscribe(fresh, "of the keeper");
	ok(ringbus_event_create(&again, fresh, "of the victim", NULL));
	subscribe(keeper, "of the victim"); /* it ended if the victim lived to dissolve its event */
	ok(ringbus_emit(event, "e", 1, HARNESS_SECOND));
	ok(ringbus_contact_address(keeper, &to, "c", 1, HARNESS_SECOND));
	pull_text(fresh, "e");
	pull_text(fresh, "c");
	ok(ringbus_contact_address(fresh, &back, "back", 4, HARNESS_SECOND));
	pull_text(keeper, "back");
	ok(ringbus_signal_address(keeper, &to));
	ok(ringbus_signal_wait(fresh, &count, HARNESS_SECOND));
	assert_int_equal(emit_text(again, "news of the successor"), 1);
	pull_text(keeper, "news of the successor");
	node_close(fresh);
}

static bool die_once(const char *name, unsigned hit)
{
	struct ringbus_node *keeper = node_open();
	struct ringbus_event *event = single(keeper, "of the keeper");
	struct ringbus_message m;
	pid_t pid;

	subscribe(keeper, "of the victim");
	flag_set(READY, 0);
	flag_set(GONE_ON, 0);
	flag_set(KEEPER_PID, (uint64_t)getpid());
	target = name;
	target_hit = hit;
	pid = child_start(victim, 0);
	keep_going(keeper, event, pid);
	/* the slot is free once the event of the dead has another owner or none */
	while (event_info(event).subscribers > 0)
		ringbus_wait(keeper, HARNESS_MS);
	while (ringbus_next(keeper, &m, 0) == 0)
		;
	ringbus_signal_wait(keeper, NULL, 0);
	all_is_well(keeper, event);
	node_close(keeper);
	return flag_get(GONE_ON) == 0;
}

static const char *const points[] = {
	"X_BELL_ASLEEP",    "X_BELL_MARKED",	"X_BORROW_BIT",	    "X_BORROW_CLEARED",
	"X_CONTROL_INTENT", "X_EMIT_PUBLISHED", "X_EMIT_UNWOKEN",   "X_EVENT_BITS",
	"X_EVENT_FREED",    "X_EVENT_NAMED",	"X_EVENT_WORD",	    "X_EXTENT_ALLOCATED",
	"X_JOIN_CLAIMED",   "X_JOIN_LOCKED",	"X_JOIN_WALKED",    "X_LEFT_MARKED",
	"X_NOTICE_EPOCH",   "X_PAIR_BIT",	"X_PAIR_NAMED",	    "X_POOL_BYTES",
	"X_REAP_CLEANED",   "X_RECLAIM_HEAD",	"X_RING_BODY",	    "X_RING_HEAD",
	"X_RING_PAD",	    "X_RING_PUBLISHED", "X_SIGNAL_COUNTED",
};

static void a_death_at_a_kill_point_costs_the_others_nothing(void **state)
{
	watchdog(240);
	for (unsigned i = 0; i < sizeof(points) / sizeof(points[0]); i++) {
		unsigned hit = 0;

		/* a new bus: extents are made once */
		bus_serve(&(struct bus_spec){.ring_bytes = 4096});
		/* the first three passages, and one in the middle of the stream */
		while (hit < 3 && die_once(points[i], hit + 1))
			hit++;
		if (hit == 3)
			die_once(points[i], 40);
		print_message("%s: died %u times\n", points[i], hit);
		if (hit == 0)
			fail_msg("the course never passes %s", points[i]);
		bus_check();
		bus_stop();
	}
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_death_at_a_kill_point_costs_the_others_nothing),
};

HARNESS_MAIN("fault_kill_points", tests)

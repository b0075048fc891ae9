/* fault_membarrier.c: a sandbox that begins after the join denies membarrier, by which a receiver
 * that falls asleep puts the fence into senders that leave it out.
 */
#include "harness.h"

#include "deny_syscall.h"
#include "node.h"

#include <errno.h>
#include <poll.h>

#define LONG_NS (10 * HARNESS_MS) /* a sleep that is not bounded is for a second */

static const struct shm_word *inbox;
static uint64_t slept_ns;

static int denied(void)
{
	errno = EPERM;
	return -1;
}

static int note_sleep(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	(void)low;
	if (w == inbox)
		slept_ns = timeout_ns;
	return -ETIMEDOUT;
}

static const struct shm_hooks hooks = {.membarrier = denied, .futex_wait = note_sleep};

static void take_all(struct ringbus_node *node)
{
	while (ringbus_poll(node, 0) > 0)
		;
}

/* A sender whose receiver is awake for long. */
static bool becomes_unfenced(struct ringbus_node *from, struct ringbus_node *to)
{
	struct ringbus_address target;
	int r = ringbus_node_address(to, &target);

	for (unsigned i = 0; i < 200 && r >= 0; i++) {
		r = ringbus_contact_address(from, &target, "x", 1, 0);
		take_all(to);
	}
	return r >= 0 && from->unfenced;
}

static struct ringbus_node *unfenced_sender(struct ringbus_node *to)
{
	struct ringbus_node *from = node_open();

	if (!from->membarrier)
		skip(); /* denied to this process from the start */
	assert_true(becomes_unfenced(from, to));
	return from;
}

static struct ringbus_node *receiver(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .no_safety_wake = true};

	return node_open_with(&o);
}

static void who_may_be_passed_over_by_an_unfenced_sender_sleeps_shortly(void **state)
{
	struct ringbus_node *to = receiver(), *from = unfenced_sender(to), *newcomer;
	struct ringbus_address target = node_address(to);

	take_all(to);
	inbox = &to->bell->inbox;
	shm_hooks = &hooks;
	ok(ringbus_wait(to, HARNESS_SECOND));
	shm_hooks = NULL;
	assert_in_range(slept_ns, 1, LONG_NS);
	/* who comes later fences */
	assert_true(shm_load_relaxed(&to->own->mode) & NODE_MODE_NO_MEMBARRIER);
	newcomer = unfenced_sender(node_open());
	ok(ringbus_contact_address(newcomer, &target, "x", 1, 0));
	assert_true(newcomer->must_fence && !newcomer->unfenced);
	assert_int_equal(shm_load_relaxed(&newcomer->own->mode), 0);
	/* and when none leaves it out any more the sleep is a whole one */
	node_close(from);
	take_all(to);
	shm_hooks = &hooks;
	while (slept_ns <= LONG_NS)
		ringbus_wait(to, HARNESS_SECOND);
	shm_hooks = NULL;
}

static void a_mode_of_the_sending_side_keeps_what_the_receiving_side_says(void **state)
{
	struct ringbus_node *to = receiver(), *from = unfenced_sender(to);
	struct ringbus_node *other = node_open();
	struct ringbus_address target = node_address(other);

	take_all(to);
	inbox = &to->bell->inbox;
	shm_hooks = &hooks;
	ok(ringbus_wait(to, HARNESS_SECOND));
	shm_hooks = NULL;
	assert_true(becomes_unfenced(to, other));
	assert_int_equal(shm_load_relaxed(&to->own->mode),
			 NODE_MODE_UNFENCED | NODE_MODE_NO_MEMBARRIER);
	for (unsigned i = 0; i < 3; i++) {
		uint64_t asleep = doorbell_prepare(&other->bell->inbox);

		ok(ringbus_contact_address(to, &target, "x", 1, 0));
		doorbell_finish(&other->bell->inbox, asleep);
	}
	assert_false(to->unfenced);
	assert_int_equal(shm_load_relaxed(&to->own->mode), NODE_MODE_NO_MEMBARRIER);
	node_close(from);
}

/* With the system call itself; nothing is sent, and nothing but the bound makes it readable. */
static void looks_at_its_descriptor(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o), .no_safety_wake = true};
	struct ringbus_node *to = child_node(&o), *from = child_node(NULL);
	struct pollfd p = {.events = POLLIN};

	if (!from->membarrier)
		_exit(0);
	child_check(becomes_unfenced(from, to));
	p.fd = child_ok(ringbus_node_fd(to));
	child_check(deny_syscall(SYS_membarrier, EPERM, -1, true, 0));
	for (unsigned i = 0; i < 3; i++) {
		take_all(to);
		child_check(poll(&p, 1, -1) == 1);
	}
	_exit(0);
}

static void the_descriptor_of_such_a_receiver_becomes_readable_by_itself(void **state)
{
	child_join(child_start(looks_at_its_descriptor, 0));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_may_be_passed_over_by_an_unfenced_sender_sleeps_shortly),
	BUS_TEST(a_mode_of_the_sending_side_keeps_what_the_receiving_side_says),
	BUS_TEST(the_descriptor_of_such_a_receiver_becomes_readable_by_itself),
};

HARNESS_MAIN("fault_membarrier", tests)

/* fault_control.c: the control lock: whoever waits for it is told who holds it, waits no longer
 * than its own call may, and keeps nobody else waiting; it ends with the operation.
 */
#include "deny_syscall.h"
#include "harness.h"

#include "node.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { HELD, RESULT, SLOT, SKIPPED };

static struct ringbus_node *open_patient(uint64_t timeout_ns)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = timeout_ns};
	struct ringbus_node *node;

	ok(ringbus_node_open(&node, &o));
	return node;
}

/* Begins an operation, any, and does not go on. */
static void stay_in_control(uint64_t unused)
{
	struct region *region;
	struct control c;

	child_ok(region_open(&region, bus_port(), NULL));
	child_ok(control_lock(&c, region, rb_deadline_ns(20 * HARNESS_SECOND)));
	flag_set(HELD, 1);
	for (;;)
		pause();
}

static pid_t holder_start(void)
{
	pid_t pid;

	flag_set(HELD, 0);
	pid = child_start(stay_in_control, 0);
	flag_wait(HELD, 1);
	return pid;
}

static void detail_names(pid_t pid)
{
	char text[64];

	snprintf(text, sizeof(text), "process %d ", (int)pid);
	if (!strstr(ringbus_error_detail(), text))
		fail_msg("%s", ringbus_error_detail());
}

static void who_holds_the_control_lock_is_named_in_whatever_operation(void **state)
{
	struct ringbus_node *node = open_patient(20 * HARNESS_MS);
	struct ringbus_event *event = NULL;
	pid_t holder = holder_start();

	fails(ringbus_event_create(&event, node, "news", NULL), -ETIMEDOUT);
	detail_names(holder);
	child_kill(holder);
	ok(ringbus_event_create(&event, node, "news", NULL));
	node_close(node);
}

static void no_node_waits_for_it_for_ever(void **state)
{
	struct ringbus_node *node = open_patient(RINGBUS_FOREVER);

	assert_true(rb_left_ns(node_control_deadline(node)) <= 60 * HARNESS_SECOND);
	node_close(node);
}

/* ---- without descriptors ---- */

static void create_without_descriptors(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event = NULL;
	struct rlimit limit, none;
	int next = dup(0);

	child_check(next > 0 && close(next) == 0);
	child_check(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	none = (struct rlimit){(rlim_t)next, limit.rlim_max};
	child_check(setrlimit(RLIMIT_NOFILE, &none) == 0);
	child_fails(ringbus_event_create(&event, node, "news", NULL), -EMFILE);
	child_check(strstr(ringbus_error_detail(), "removed") == NULL);
	child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	child_ok(ringbus_event_create(&event, node, "news", NULL));
	ringbus_node_close(node);
}

static void a_bus_is_not_gone_for_who_has_no_descriptor_left(void **state)
{
	child_join(child_start(create_without_descriptors, 0));
}

/* ---- children that keep the description ---- */

/* As vfork() or posix_spawn() of another thread, before the exec. */
static pid_t child_with_our_descriptors(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		for (;;)
			syscall(SYS_pause);
	return pid;
}

static void the_lock_ends_with_the_operation_whoever_else_has_its_descriptor(void **state)
{
	struct region *region;
	struct control c;
	pid_t pid;
	int rc;

	ok(region_open(&region, bus_port(), NULL));
	ok(control_lock(&c, region, rb_deadline_ns(20 * HARNESS_SECOND)));
	pid = child_with_our_descriptors();
	assert_true(pid > 0);
	control_unlock(&c);
	rc = control_lock(&c, region, rb_deadline_ns(20 * HARNESS_MS));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	ok(rc);
	control_unlock(&c);
	region_put(region);
}

/* ---- a reaper without memory ---- */

/* Reaps, and cannot map anything that has so many bytes. */
static void reap_half_blind(uint64_t bytes)
{
	struct region *region;

	child_ok(region_open(&region, bus_port(), NULL));
	if (!deny_syscall(SYS_mmap, ENOMEM, 1, true, (uint32_t)bytes)) {
		flag_set(SKIPPED, 1);
		return;
	}
	control_reap_all(region, rb_deadline_ns(20 * HARNESS_SECOND));
}

/* The service, which would reap, looks on. The state of the slot then. */
static enum slot_state die_and_be_reaped(pid_t pid, const struct shm_word *slot, uint64_t bytes)
{
	enum slot_state state;

	kill(bus_service_pid(), SIGSTOP);
	child_wait_stopped(bus_service_pid());
	child_kill(pid);
	child_join(child_start(reap_half_blind, bytes));
	state = slot_state(shm_load_acquire(slot));
	kill(bus_service_pid(), SIGCONT);
	if (flag_get(SKIPPED)) {
		print_message("SKIPPED: the kernel allows no filter of system calls\n");
		skip();
	}
	return state;
}

static const uint8_t pooled[2000] = "larger than what many get in their rings";

static void receive_and_keep(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_borrow *borrow;
	struct ringbus_address own;
	struct ringbus_message m;

	child_ok(ringbus_node_address(node, &own));
	flag_set(SLOT, 1 + own.slot);
	child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	child_ok(ringbus_borrow(&m, &borrow));
	flag_set(HELD, 1);
	for (;;)
		pause();
}

static void send_large(uint64_t slot)
{
	struct ringbus_address to = {.slot = (uint32_t)slot};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_loan loan;

	child_ok(ringbus_loan(node, sizeof(pooled), &loan, 0));
	memcpy(loan.data, pooled, sizeof(pooled));
	child_ok(ringbus_contact_loan(node, &to, &loan, 0));
	flag_set(HELD, 1);
	for (;;)
		pause();
}

static void who_cannot_clear_the_bits_of_the_dead_leaves_its_slot_to_the_next(void **state)
{
	struct ringbus_node *node = open_patient(20 * HARNESS_SECOND);
	struct region *region = node->region;
	pid_t pid = child_start(receive_and_keep, 0);
	struct ringbus_address to = {0};
	const struct shm_word *slot;
	struct ringbus_loan loan;
	struct pool_place place;

	flag_wait(SLOT, 1);
	to.slot = (uint32_t)flag_get(SLOT) - 1;
	ok(ringbus_loan(node, sizeof(pooled), &loan, 0));
	ok(ringbus_contact_loan(node, &to, &loan, 0));
	flag_wait(HELD, 1);
	assert_true(pool_place_read(&node->own->pool[0], &place));
	slot = &region->bells[to.slot].slot;
	assert_int_equal(die_and_be_reaped(pid, slot, place.bits_bytes), SLOT_DEAD);
	ok(control_reap_all(region, rb_deadline_ns(20 * HARNESS_SECOND)));
	assert_int_equal(slot_state(shm_load_acquire(slot)), SLOT_FREE);
	node_close(node);
}

static void who_cannot_see_what_is_unread_gives_no_payload_of_the_dead_away(void **state)
{
	struct ringbus_node *node = open_patient(20 * HARNESS_SECOND);
	uint64_t bytes = layout_ring_extent_bytes(&node->region->g);
	pid_t pid = child_start(send_large, node_address(node).slot);
	struct ringbus_message m;

	flag_wait(HELD, 1);
	die_and_be_reaped(pid, &node->region->bells[1].slot, bytes);
	pull(node, &m);
	assert_int_equal(m.size, sizeof(pooled));
	assert_memory_equal(m.data, pooled, sizeof(pooled));
	node_close(node);
}

/* ---- sends ---- */

struct first_send {
	struct ringbus_node *node;
	struct ringbus_address to;
};

/* The first to its receiver: it needs a ring, and for that the lock. */
static void *send_first(void *argument)
{
	const struct first_send *s = argument;

	flag_set(RESULT,
		 (uint64_t)-ringbus_contact_address(s->node, &s->to, "x", 1, 20 * HARNESS_SECOND));
	return NULL;
}

static void a_send_waits_for_the_control_lock_no_longer_than_for_room(void **state)
{
	struct ringbus_node *a = open_patient(60 * HARNESS_SECOND), *b = node_open();
	struct ringbus_address to = node_address(b), who;
	uint64_t began = harness_now_ns();
	struct ringbus_loan loan = {0};
	pid_t holder = holder_start();

	fails(ringbus_contact_address(a, &to, "x", 1, 0), -EAGAIN);
	fails(ringbus_node_held_back_by(a, &who), -ENOENT);
	fails(ringbus_contact_address(a, &to, "x", 1, HARNESS_MS), -ETIMEDOUT);
	detail_names(holder);
	fails(ringbus_loan(a, 1000, &loan, 0), -EAGAIN);
	fails(ringbus_loan(a, 1000, &loan, HARNESS_MS), -ETIMEDOUT);
	detail_names(holder);
	fails(ringbus_node_held_back_by(a, &who), -ENOENT);
	assert_true(harness_now_ns() - began < 30 * HARNESS_SECOND);
	child_kill(holder);
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	ok(ringbus_loan(a, 1000, &loan, 0));
	ringbus_loan_cancel(&loan);
	pull_text(b, "x");
	node_close(a);
}

/* Until a thread of ours asks for the control lock. */
static void wait_for_asker(struct region *region)
{
	while (pthread_mutex_trylock(&region->control_mutex) == 0) {
		pthread_mutex_unlock(&region->control_mutex);
		pause_briefly();
	}
}

static void a_send_that_waits_for_the_control_lock_keeps_no_other_thread_waiting(void **state)
{
	struct ringbus_node *known = node_open(), *fresh = node_open();
	struct first_send s = {open_patient(60 * HARNESS_SECOND), node_address(fresh)};
	struct ringbus_address to = node_address(known);
	pthread_t thread;
	pid_t holder;

	ok(ringbus_contact_address(s.node, &to, "ring", 4, 0));
	pull_text(known, "ring");
	holder = holder_start();
	assert_int_equal(pthread_create(&thread, NULL, send_first, &s), 0);
	wait_for_asker(s.node->region);
	for (unsigned i = 0; i < 20; i++) {
		ok(ringbus_contact_address(s.node, &to, "on", 2, 0));
		pull_text(known, "on");
	}
	assert_int_equal(flag_get(RESULT), 0); /* it still waits */
	child_kill(holder);
	pthread_join(thread, NULL);
	assert_int_equal(flag_get(RESULT), 0);
	pull_text(fresh, "x");
	node_close(s.node);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_holds_the_control_lock_is_named_in_whatever_operation),
	BUS_TEST(no_node_waits_for_it_for_ever),
	BUS_TEST(a_bus_is_not_gone_for_who_has_no_descriptor_left),
	BUS_TEST(the_lock_ends_with_the_operation_whoever_else_has_its_descriptor),
	BUS_TEST(who_cannot_clear_the_bits_of_the_dead_leaves_its_slot_to_the_next),
	BUS_TEST(who_cannot_see_what_is_unread_gives_no_payload_of_the_dead_away),
	BUS_TEST(a_send_waits_for_the_control_lock_no_longer_than_for_room),
	BUS_TEST(a_send_that_waits_for_the_control_lock_keeps_no_other_thread_waiting),
};

HARNESS_MAIN("fault_control", tests)

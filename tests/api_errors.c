/* api_errors.c: the error codes of ringbus.h that no other test provokes, function by function. */
#include "deny_syscall.h"
#include "harness.h"
#include "ringbus-inspect.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

enum { SKIPPED, BUSY, SERVING, JOINED };

static struct ringbus_node_options options(void)
{
	return (struct ringbus_node_options){.size = sizeof(struct ringbus_node_options),
					     .port = bus_port(),
					     .timeout_ns = 20 * HARNESS_SECOND};
}

static void what_does_not_come_in_time_is_etimedout(void **state)
{
	struct ringbus_node *node = node_open();
	struct ringbus_event *event = single(node, "news");
	struct ringbus_message m;
	uint64_t count = 7;
	char buffer[8];

	ok(ringbus_poll(node, 0)); /* an event of one's own is news, too */
	fails(ringbus_wait(node, HARNESS_MS), -ETIMEDOUT);
	fails(ringbus_wait(node, 0), -ETIMEDOUT);
	fails(ringbus_next(node, &m, 0), -EAGAIN);
	fails(ringbus_next(node, &m, HARNESS_MS), -ETIMEDOUT);
	fails(ringbus_receive(node, buffer, sizeof(buffer), &m, HARNESS_MS), -ETIMEDOUT);
	fails(ringbus_signal_wait(node, &count, 0), -EAGAIN);
	fails(ringbus_signal_wait(node, &count, HARNESS_MS), -ETIMEDOUT);
	assert_int_equal(count, 7);
	fails(ringbus_event_wait_subscribers(event, 1, 0), -ETIMEDOUT);
	fails(ringbus_event_wait_subscribers(event, 1, HARNESS_MS), -ETIMEDOUT);
	ok(ringbus_event_wait_subscribers(event, 0, 0));
	ok(ringbus_event_dissolve(event));
	fails(ringbus_event_wait_subscribers(event, 0, 0), -ENOENT);
}

static void nobody_held_back_a_thread_that_never_had_to_wait(void **state)
{
	struct ringbus_node *node = node_open();
	struct ringbus_address who = {.slot = 42};

	fails(ringbus_node_held_back_by(node, &who), -ENOENT);
	assert_int_equal(who.slot, 42);
}

static void a_pool_in_use_is_eagain_and_etimedout(void **state)
{
	struct bus_spec spec = {.nodes = 4, .pool_bytes = 1 << 20};
	struct ringbus_loan loan[64], more = {0};
	struct ringbus_node *node;
	unsigned n = 0;
	int rc;

	bus_serve(&spec);
	node = node_open();
	while ((rc = ringbus_loan(node, 1 << 18, &loan[n], 0)) == 0)
		assert_true(++n < 64);
	assert_int_equal(rc, -EAGAIN);
	assert_true(n > 0);
	fails(ringbus_loan(node, 1 << 18, &more, HARNESS_MS), -ETIMEDOUT);
	assert_null(more.data);
	ringbus_loan_cancel(&loan[--n]);
	ok(ringbus_loan(node, 1 << 18, &loan[n], 0));
	for (n++; n > 0;)
		ringbus_loan_cancel(&loan[--n]);
}

/* A loan is held back by who holds most of the pool, whoever held a send back before. */
static void who_holds_a_loan_back_is_named(void **state)
{
	struct bus_spec spec = {.nodes = 4, .ring_bytes = 4096, .pool_bytes = 1 << 20};
	struct ringbus_node *node, *full, *hog;
	struct ringbus_address to_full, to_hog, who;
	struct ringbus_loan loan[64], more = {0};
	static uint8_t data[1 << 18];
	unsigned n = 0;
	char slot[32];

	bus_serve(&spec);
	node = node_open();
	full = node_open();
	hog = node_open();
	to_full = node_address(full);
	to_hog = node_address(hog);
	while (ringbus_contact_address(node, &to_full, data, 100, 0) >= 0)
		;
	ok(ringbus_node_held_back_by(node, &who));
	assert_int_equal(who.slot, to_full.slot);
	while (ringbus_loan(node, sizeof(data), &loan[n], 0) == 0)
		assert_true(++n < 64);
	fails(ringbus_loan(node, sizeof(data), &more, HARNESS_MS), -ETIMEDOUT);
	assert_null(strstr(ringbus_error_detail(), "slot"));
	fails(ringbus_node_held_back_by(node, &who), -ENOENT);
	ok(ringbus_contact_loan(node, &to_hog, &loan[--n], 0));
	fails(ringbus_contact_address(node, &to_full, data, 100, 0), -EAGAIN);
	fails(ringbus_loan(node, sizeof(data), &more, HARNESS_MS), -ETIMEDOUT);
	snprintf(slot, sizeof(slot), "slot %u ", to_hog.slot);
	assert_non_null(strstr(ringbus_error_detail(), slot));
	ok(ringbus_node_held_back_by(node, &who));
	assert_int_equal(who.slot, to_hog.slot);
	assert_int_equal(who.generation, to_hog.generation);
	while (n > 0)
		ringbus_loan_cancel(&loan[--n]);
}

static void a_loan_that_cannot_be_sent_stays_with_the_caller(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news"), *theirs = subscribe(b, "news");
	struct ringbus_address gone = node_address(b), own = node_address(b);
	struct ringbus_loan loan;

	gone.generation++;
	ok(ringbus_loan(b, 5, &loan, 0));
	memcpy(loan.data, "hello", 5);
	fails(ringbus_emit_loan(theirs, &loan, 0), -EPERM);
	fails(ringbus_contact_loan(b, &own, &loan, 0), -EINVAL);
	gone.slot = node_address(a).slot;
	gone.generation = node_address(a).generation + 1;
	fails(ringbus_contact_loan(b, &gone, &loan, 0), -ESRCH);
	fails(ringbus_emit_loan(event, &loan, 0), -EINVAL); /* of another node */
	gone.generation = 0;
	ok(ringbus_contact_loan(b, &gone, &loan, 0));
	pull_text(a, "hello");
	loan.size = 6;
	fails(ringbus_contact_loan(b, &gone, &loan, 0), -EINVAL); /* gone by now */
}

/* Holds the control lock as a stopped process would. */
static int hold_control_lock(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 1};
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%u.lock", bus_directory(), bus_port());
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	return fd;
}

static void an_address_is_checked_before_anything_is_sent(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b), self = node_address(a);
	uint64_t count = 0;

	/* the second time its ring is open, which is another path */
	for (int i = 0; i < 2; i++) {
		to.generation++;
		fails(ringbus_contact_address(a, &to, "x", 1, 0), -ESRCH);
		fails(ringbus_signal_address(a, &to), -ESRCH);
		to.generation--;
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
		pull_text(b, "x");
	}
	fails(ringbus_signal_address(a, &self), -EINVAL);
	self.slot = 250;
	self.generation = 0;
	fails(ringbus_contact_address(a, &self, "x", 1, 0), -ESRCH);
	fails(ringbus_signal_address(a, &self), -ESRCH);
	self.slot = UINT32_MAX;
	fails(ringbus_contact_address(a, &self, "x", 1, 0), -ESRCH);
	fails(ringbus_signal_address(a, &self), -ESRCH);
	fails(ringbus_signal_wait(b, &count, 0), -EAGAIN);
}

static void a_loan_is_of_its_node_and_does_not_grow(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");
	struct ringbus_address to = node_address(b);
	struct ringbus_loan loan;

	ok(ringbus_loan(b, 5, &loan, 0));
	fails(ringbus_emit_loan(event, &loan, 0), -EINVAL);
	to = node_address(a);
	loan.size = 6;
	fails(ringbus_contact_loan(b, &to, &loan, 0), -EINVAL);
	loan.size = 5;
	memcpy(loan.data, "hello", 5);
	ok(ringbus_contact_loan(b, &to, &loan, 0));
	pull_text(a, "hello");
}

static void a_handle_to_an_event_that_was_does_not_lead_to_its_successor(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news"), *old = subscribe(b, "news");

	fails(ringbus_emit(old, "x", 1, 0), -EPERM);
	ok(ringbus_event_dissolve(event));
	fails(ringbus_emit(old, "x", 1, 0), -ENOENT);
	event = multi(a, "news");
	fails(ringbus_emit(old, "x", 1, 0), -ENOENT);
	assert_int_equal(ringbus_emit(event, "x", 1, 0), 0);
}

static void a_subscriber_of_a_single_event_emits_to_nobody_however_well_it_knows_them(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_event *theirs;

	single(a, "news");
	subscribe(b, "news");
	theirs = subscribe(c, "news");
	for (unsigned i = 0; i < 3; i++) {
		ok(ringbus_contact_address(c, &to, "x", 1, 0));
		pull_text(b, "x");
		fails(ringbus_emit(theirs, "y", 1, 0), -EPERM);
	}
	pull_nothing(b);
}

static void a_held_control_lock_delays_control_calls_to_their_deadline_and_no_message(void **state)
{
	struct ringbus_node_options o = options();
	struct ringbus_node *a, *b = node_open();
	struct ringbus_event *event, *theirs, *other = NULL;
	int fd;

	o.timeout_ns = 20 * HARNESS_MS;
	a = node_open_with(&o);
	event = single(a, "news");
	theirs = subscribe(b, "news");
	emit_text(event, "makes the ring");
	fd = hold_control_lock();
	fails(ringbus_event_create(&other, a, "more", NULL), -ETIMEDOUT);
	fails(ringbus_subscribe(&other, a, "theirs", NULL), -ETIMEDOUT);
	fails(ringbus_event_dissolve(event), -ETIMEDOUT);
	assert_null(other);
	assert_int_equal(emit_text(event, "hello"), 1);
	pull_text(b, "makes the ring");
	pull_text(b, "hello");
	close(fd);
	ok(ringbus_event_create(&other, a, "more", NULL));
	assert_int_equal(emit_text(event, "again"), 1);
	pull_text(b, "again");
	ok(ringbus_unsubscribe(theirs));
}

/* An old kernel: no MADV_WIPEONFORK. */
static void open_on_an_old_kernel(uint64_t unused)
{
	struct ringbus_node_options o = options();
	struct ringbus_node *node = NULL;

	if (!deny_syscall(SYS_madvise, EINVAL, 2, true, MADV_WIPEONFORK)) {
		flag_set(SKIPPED, 1);
		return;
	}
	child_fails(ringbus_node_open(&node, &o), -ENOTSUP);
	child_check(node == NULL);
	child_check(strlen(ringbus_error_detail()) > 0);
}

/* No address space for the region: maps of files fail, memory of the process's own does not. */
static void open_without_memory(uint64_t unused)
{
	struct ringbus_node_options o = options();
	struct ringbus_node *node = NULL;

	if (!deny_syscall(SYS_mmap, ENOMEM, 4, false, UINT32_MAX)) {
		flag_set(SKIPPED, 1);
		return;
	}
	child_fails(ringbus_node_open(&node, &o), -ENOMEM);
	child_check(node == NULL);
}

static void skip_without_filters(void)
{
	if (!flag_get(SKIPPED))
		return;
	print_message("SKIPPED: the kernel allows no filter of system calls\n");
	skip();
}

static void a_kernel_without_what_is_needed_is_enotsup(void **state)
{
	child_join(child_start(open_on_an_old_kernel, 0));
	skip_without_filters();
	node_open();
}

static void a_region_that_cannot_be_mapped_is_enomem(void **state)
{
	child_join(child_start(open_without_memory, 0));
	skip_without_filters();
	node_open();
}

static void *serve(void *service)
{
	ringbus_service_run(service);
	return NULL;
}

static void short_life(void)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_event_create(&event, node, "news", NULL));
	flag_set(JOINED, 1);
	for (;;)
		pause();
}

/* A bus whose service and nodes all live in a sandbox that denies pidfd_open(). */
static void live_without_pidfds(uint64_t unused)
{
	struct ringbus_service_options s = {.size = sizeof(s), .port = bus_port(), .nodes = 4};
	struct ringbus_node_options o = options();
	struct ringbus_service *service;
	struct ringbus_node *node;
	struct ringbus_message m;
	pthread_t thread;
	pid_t pid;

	o.peer_notices = true;
	if (!deny_syscall(SYS_pidfd_open, EPERM, -1, true, 0)) {
		flag_set(SKIPPED, 1);
		return;
	}
	child_check(syscall(SYS_pidfd_open, getpid(), 0) < 0 && errno == EPERM);
	pid = fork();
	if (pid == 0) {
		flag_wait(SERVING, 1);
		short_life();
	}
	child_ok(ringbus_service_open(&service, &s));
	child_check(pthread_create(&thread, NULL, serve, service) == 0);
	flag_set(SERVING, 1);
	node = child_node(&o);
	flag_wait(JOINED, 1);
	kill(pid, SIGKILL);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_NOTICE || m.notice != RINGBUS_PEER_DIED);
	child_check(m.sender.pid == (uint32_t)pid);
	ringbus_node_close(node);
	ringbus_service_stop(service);
	pthread_join(thread, NULL);
	ringbus_service_close(service);
}

static void where_pidfds_are_denied_deaths_are_found_all_the_same(void **state)
{
	bus_stop();
	child_join(child_start(live_without_pidfds, 0));
	skip_without_filters();
}

static void open_without_descriptors(uint64_t unused)
{
	struct rlimit limit = {3, 3};
	struct ringbus_node_options o = options();
	struct ringbus_node *node = NULL;

	for (int fd = 3; fd < 64; fd++)
		close(fd);
	child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	child_fails(ringbus_node_open(&node, &o), -EMFILE);
	child_check(node == NULL);
}

static void without_descriptors_the_code_of_the_system_call_comes_through(void **state)
{
	child_join(child_start(open_without_descriptors, 0));
	node_open();
}

static void stop_from_within(const struct ringbus_message *m, void *node)
{
	fails(ringbus_listen_stop(node), -EBUSY);
	fails(ringbus_listen(node, NULL, NULL), -EBUSY);
	flag_set(JOINED, 1);
}

static void calls_without_their_place_or_at_the_wrong_time_change_nothing(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_service_options none = {0};
	struct ringbus_service *service;
	struct ringbus_message m;

	emit_text(single(a, "news"), "to nobody");
	ok(ringbus_contact_address(a, &to, "kept", 4, 0));
	fails(ringbus_next(b, NULL, 0), -EINVAL);
	fails(ringbus_receive(b, NULL, 4, &m, 0), -EINVAL);
	fails(ringbus_loan(a, 5, NULL, 0), -EINVAL);
	fails(ringbus_listen_stop(NULL), -EINVAL);
	fails(ringbus_listen(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_on_contact(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_on_signal(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_service_open(NULL, NULL), -EINVAL);
	fails(ringbus_service_open(&service, &none), -EINVAL);
	fails(ringbus_service_run(NULL), -EINVAL);
	pull_text(b, "kept");
	ok(ringbus_listen(b, stop_from_within, b));
	fails(ringbus_on_contact(b, NULL, NULL), -EBUSY);
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	flag_wait(JOINED, 1);
	ok(ringbus_listen_stop(b));
}

static void what_is_borrowed_twice_is_free_after_both(void **state)
{
	static uint8_t data[100000]; /* not in the ring */
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_borrow *first, *second;
	struct ringbus_message m;
	const uint8_t *kept;
	size_t size;

	memset(data, 7, sizeof(data));
	ok(ringbus_contact_address(a, &to, data, sizeof(data), 0));
	pull(b, &m);
	ok(ringbus_borrow(&m, &first));
	ok(ringbus_borrow(&m, &second));
	ringbus_release(first);
	/* its chunk would be used again */
	for (unsigned i = 0; i < 100; i++) {
		memset(data, 8, sizeof(data));
		ok(ringbus_contact_address(a, &to, data, sizeof(data), 0));
		pull(b, &m);
	}
	kept = ringbus_borrow_data(second, &size);
	assert_int_equal(size, sizeof(data));
	for (size_t i = 0; i < size; i++)
		assert_int_equal(kept[i], 7);
	ringbus_release(second);
}

static void listen_in_handler(const struct ringbus_message *m, void *node)
{
	fails(ringbus_listen(node, NULL, NULL), -EBUSY);
}

static void a_node_that_polls_does_not_listen(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);

	ok(ringbus_on_contact(b, listen_in_handler, b));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	while (ringbus_poll(b, 0) == 0)
		;
}

static void a_bus_to_inspect_is_that_of_the_environment_if_none_is_named(void **state)
{
	struct ringbus_inspect *in = NULL;
	char port[16];

	setenv("RINGBUS_PORT", "70000", 1);
	fails(ringbus_inspect_open(&in, 0, bus_directory()), -EINVAL);
	assert_non_null(strstr(ringbus_error_detail(), "70000"));
	snprintf(port, sizeof(port), "%u", bus_port());
	setenv("RINGBUS_PORT", port, 1);
	ok(ringbus_inspect_open(&in, 0, bus_directory()));
	unsetenv("RINGBUS_PORT");
	ringbus_inspect_close(in);
	fails(ringbus_inspect_open(&in, 70000, bus_directory()), -EINVAL);
}

static void a_join_without_a_time_limit_works(void **state)
{
	struct ringbus_node_options o = options();

	o.timeout_ns = RINGBUS_FOREVER;
	node_close(node_open_with(&o));
}

static struct ringbus_service *inherited;
static struct ringbus_node *listening;

static void use_what_is_the_parents(uint64_t unused)
{
	child_fails(ringbus_service_run(inherited), -ENOTCONN);
	child_fails(ringbus_listen_stop(listening), -ENOTCONN);
}

static void a_service_and_a_listener_stay_with_the_process_that_made_them(void **state)
{
	struct ringbus_service_options s = {.size = sizeof(s), .nodes = 4};
	pthread_t thread;

	bus_stop();
	s.port = bus_port();
	ok(ringbus_service_open(&inherited, &s));
	assert_int_equal(pthread_create(&thread, NULL, serve, inherited), 0);
	listening = node_open();
	ok(ringbus_listen(listening, NULL, NULL));
	child_join(child_start(use_what_is_the_parents, 0));
	ok(ringbus_listen_stop(listening));
	node_close(listening);
	ringbus_service_stop(inherited);
	pthread_join(thread, NULL);
	ringbus_service_close(inherited);
}

#ifndef RELEASE_LIBRARY /* whose check is left out */
struct sender {
	struct ringbus_node *node;
	struct ringbus_address to;
};

static void *send_until_busy(void *argument)
{
	const struct sender *s = argument;
	size_t size = 1 << 20;
	uint8_t *data = calloc(1, size);
	int rc;

	while (flag_get(BUSY) == 0) {
		rc = ringbus_contact_address(s->node, &s->to, data, size, 0);
		if (rc == -EBUSY)
			flag_set(BUSY, 1);
		else if (rc < 0 && rc != -EAGAIN)
			break;
	}
	free(data);
	return NULL;
}

static void two_threads_that_send_on_a_single_sender_node_are_told(void **state)
{
	struct ringbus_node_options o = options();
	struct sender s = {.to = node_address(node_open())};
	pthread_t thread[2];

	o.single_sender = true;
	s.node = node_open_with(&o);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, send_until_busy, &s), 0);
	for (unsigned i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(flag_get(BUSY), 1);
}
#endif

static const struct CMUnitTest tests[] = {
	BUS_TEST(what_does_not_come_in_time_is_etimedout),
	BUS_TEST(nobody_held_back_a_thread_that_never_had_to_wait),
	BARE_TEST(a_pool_in_use_is_eagain_and_etimedout),
	BARE_TEST(who_holds_a_loan_back_is_named),
	BUS_TEST(a_loan_that_cannot_be_sent_stays_with_the_caller),
	BUS_TEST(an_address_is_checked_before_anything_is_sent),
	BUS_TEST(a_loan_is_of_its_node_and_does_not_grow),
	BUS_TEST(a_handle_to_an_event_that_was_does_not_lead_to_its_successor),
	BUS_TEST(a_subscriber_of_a_single_event_emits_to_nobody_however_well_it_knows_them),
	BUS_TEST(a_held_control_lock_delays_control_calls_to_their_deadline_and_no_message),
	BUS_TEST(a_kernel_without_what_is_needed_is_enotsup),
	BUS_TEST(a_region_that_cannot_be_mapped_is_enomem),
	BUS_TEST(where_pidfds_are_denied_deaths_are_found_all_the_same),
	BUS_TEST(without_descriptors_the_code_of_the_system_call_comes_through),
	BUS_TEST(calls_without_their_place_or_at_the_wrong_time_change_nothing),
	BUS_TEST(what_is_borrowed_twice_is_free_after_both),
	BUS_TEST(a_node_that_polls_does_not_listen),
	BUS_TEST(a_bus_to_inspect_is_that_of_the_environment_if_none_is_named),
	BUS_TEST(a_join_without_a_time_limit_works),
	BUS_TEST(a_service_and_a_listener_stay_with_the_process_that_made_them),
#ifndef RELEASE_LIBRARY /* whose check is left out */
	BUS_TEST(two_threads_that_send_on_a_single_sender_node_are_told),
#endif
};

HARNESS_MAIN("api_errors", tests)

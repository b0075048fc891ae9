/* fault_service_life.c: services come and go, and so do those that they serve. */
#include "service_fixture.h"

#include "port.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static void serve_once(uint64_t index)
{
	struct ringbus_service_options options = {.size = sizeof(options), .port = bus_port()};
	struct ringbus_service *service;
	int err;

	flag_add(10, 1);
	flag_wait(11, 1);
	err = ringbus_service_open(&service, &options);
	child_check(err == 0 || err == -EBUSY);
	flag_add(err == 0 ? 12 : 13, 1);
	flag_wait(14, 1);
	if (err == 0)
		ringbus_service_close(service);
}

static void of_many_services_at_once_one_wins(void **state)
{
	bus_serve(NULL);
	bus_stop();
	for (uint64_t i = 0; i < 6; i++)
		child_start(serve_once, i);
	flag_wait(10, 6);
	flag_set(11, 1);
	while (flag_get(12) + flag_get(13) < 6)
		flag_wait(12, 0), pause_briefly();
	assert_int_equal(flag_get(12), 1);
	flag_set(14, 1);
	child_join_all();
}

static void a_killed_service_is_followed_by_one_that_adopts(void **state)
{
	struct bus_spec other = {.nodes = 16};
	pid_t child = child_start(member, 0);
	struct join_result r;
	uint32_t slot;

	flag_wait(0, 1);
	slot = (uint32_t)flag_get(0) - 1;
	bus_kill();
	bus_serve(&other);
	r = join();
	assert_int_equal(r.region->g.nodes, LAYOUT_NODES_DEFAULT);
	assert_int_equal(slot_state(shm_load_acquire(&r.region->bells[slot].slot)), SLOT_JOINING);
	assert_int_equal(peer_live_holder(r.region, slot), child);
	/* Granted by the predecessor, buried by the successor. */
	child_kill(child);
	while (slot_state(shm_load_acquire(&r.region->bells[slot].slot)) != SLOT_FREE)
		pause_briefly();
	leave(&r);
}

static void a_dead_bus_is_replaced(void **state)
{
	struct bus_spec other = {.nodes = 16};
	pid_t child = child_start(member, 0);
	struct join_result r;

	flag_wait(0, 1);
	bus_kill();
	child_kill(child);
	bus_serve(&other);
	r = join();
	assert_int_equal(r.region->g.nodes, 16);
	leave(&r);
}

static void the_dead_leave_their_slots(void **state)
{
	struct join_result r = join();

	for (int i = 0; i < 20; i++) {
		pid_t child = child_start(member, 0);
		uint32_t slot;

		flag_wait(0, 1);
		slot = (uint32_t)flag_get(0) - 1;
		flag_set(0, 0);
		child_kill(child);
		while (slot_state(shm_load_acquire(&r.region->bells[slot].slot)) != SLOT_FREE)
			pause_briefly();
	}
	leave(&r);
}

static int hold_control(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	int fd = region_open_lock(bus_directory(), bus_port(), false);

	assert_true(fd >= 0);
	while (fcntl(fd, F_OFD_SETLK, &lock) < 0)
		pause_briefly();
	return fd;
}

static unsigned in_state(const struct region *region, enum slot_state state)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < region->g.nodes; i++)
		/* sync SLOT reader: none; a look by a test */
		n += slot_state(shm_load_acquire(&region->bells[i].slot)) == state;
	return n;
}

static void one_of_many(uint64_t unused)
{
	struct join_result r;

	child_ok(try_join(&r, 20 * RB_SECOND, false));
	flag_add(2, 1);
	flag_wait(1, 1);
}

static void nobody_waits_for_a_stopped_lock_holder_to_hear_of_many_deaths(void **state)
{
	enum { MANY = 24 };
	struct join_result r = join();
	pid_t children[MANY];
	uint64_t begin;
	int lock;

	for (unsigned i = 0; i < MANY; i++)
		children[i] = child_start(one_of_many, 0);
	flag_wait(2, MANY);
	lock = hold_control();
	begin = harness_now_ns();
	for (unsigned i = 0; i < MANY; i++)
		child_kill(children[i]);
	while (in_state(r.region, SLOT_DEAD) < MANY)
		pause_briefly();
	/* 250 ms each once; now a few in all */
	assert_true(harness_now_ns() - begin < 3 * HARNESS_SECOND);
	close(lock);
	while (in_state(r.region, SLOT_FREE) < r.region->g.nodes - 1)
		pause_briefly();
	leave(&r);
}

static void a_full_bus_is_eusers(void **state)
{
	struct bus_spec two = {.nodes = 2};
	struct join_result a, b, c;

	bus_serve(&two);
	a = join();
	b = join();
	fails(try_join(&c, 10 * RB_SECOND, false), -EUSERS);
	assert_non_null(strstr(ringbus_error_detail(), "--nodes"));
	leave(&a);
	c = join();
	leave(&b);
	leave(&c);
}

static void *run(void *service)
{
	return (void *)(intptr_t)ringbus_service_run(service);
}

static void a_service_may_live_in_the_process_of_a_node(void **state)
{
	struct ringbus_service_options options = {.size = sizeof(options)};
	struct ringbus_service *service;
	struct join_result r;
	pthread_t thread;
	void *result;

	bus_serve(NULL);
	bus_stop();
	options.port = bus_port();
	ok(ringbus_service_open(&service, &options));
	assert_int_equal(ringbus_service_port(service), bus_port());
	assert_int_equal(pthread_create(&thread, NULL, run, service), 0);
	r = join();
	assert_int_equal(r.pid, getpid());
	ringbus_service_stop(service);
	pthread_join(thread, &result);
	assert_null(result);
	ringbus_service_close(service);
	/* The node goes on; the next service adopts it, in this very process. */
	assert_true(region_is_current(r.region));
	ok(try_service());
	assert_int_equal(slot_state(slot_of(&r)), SLOT_JOINING);
	assert_int_equal(peer_live_holder(r.region, r.slot), getpid());
	leave(&r);
	ok(try_service());
}

static void a_service_ends_when_the_bus_was_empty_for_its_time(void **state)
{
	struct ringbus_service_options options = {.size = sizeof(options), .linger_ns = 50 * RB_MS};
	struct ringbus_service *service;
	struct join_result r;
	pthread_t thread;
	void *result;

	bus_serve(NULL);
	bus_stop();
	options.port = bus_port();
	ok(ringbus_service_open(&service, &options));
	assert_int_equal(pthread_create(&thread, NULL, run, service), 0);
	r = join();
	leave(&r);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(access(bus_file(), F_OK), -1);
	ringbus_service_close(service);
}

/* Its files go while a member is there, or before one ever was. */
static void ends_without_its_files(bool has_member)
{
	struct ringbus_service_options options = {.size = sizeof(options), .linger_ns = 50 * RB_MS};
	struct ringbus_service *service;
	struct join_result r;
	pthread_t thread;
	void *result;
	char command[640];

	bus_serve(NULL);
	bus_stop();
	options.port = bus_port();
	ok(ringbus_service_open(&service, &options));
	assert_int_equal(pthread_create(&thread, NULL, run, service), 0);
	if (has_member)
		r = join();
	snprintf(command, sizeof(command), "rm -r %s", bus_directory());
	assert_int_equal(system(command), 0);
	if (has_member)
		leave(&r);
	pthread_join(thread, &result);
	assert_null(result);
	ringbus_service_close(service);
	assert_int_equal(mkdir(bus_directory(), 0700), 0); /* for the teardown */
}

static void a_service_ends_when_its_files_were_deleted(void **state)
{
	ends_without_its_files(false);
}

static void a_service_ends_when_the_last_member_left_without_files(void **state)
{
	ends_without_its_files(true);
}

static void start_and_join(uint64_t unused)
{
	struct join_result r;

	flag_add(10, 1);
	flag_wait(11, 1);
	child_ok(try_join(&r, 20 * RB_SECOND, true));
	flag_add(12, 1);
	flag_wait(14, 1);
}

static void many_that_start_the_service_at_once_meet_on_one_bus(void **state)
{
	const char *daemon = getenv("RINGBUSD");
	struct region *region;

	if (!daemon)
		skip();
	bus_serve(NULL);
	bus_stop();
	setenv("RINGBUS_LINGER", "0.2", 1);
	for (uint64_t i = 0; i < 8; i++)
		child_start(start_and_join, i);
	flag_wait(10, 8);
	flag_set(11, 1);
	flag_wait(12, 8);
	ok(region_open(&region, bus_port(), NULL));
	assert_int_equal(control_busy_slots(region), 8);
	region_put(region);
	flag_set(14, 1);
	child_join_all();
	bus_wait_gone();
	unsetenv("RINGBUS_LINGER");
}

static void spoil_version(void)
{
	uint32_t version = 4711;
	int fd = open(bus_file(), O_RDWR | O_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(pwrite(fd, &version, sizeof(version),
				offsetof(struct layout_header, version)),
			 sizeof(version));
	close(fd);
}

/* What a newer or a broken version left, and nobody uses. */
static void a_dead_bus_that_cannot_be_read_is_replaced_by_who_may_start_a_service(void **state)
{
	struct join_result r;
	char said[400];
	int fd;

	if (!getenv("RINGBUSD"))
		skip();
	bus_serve(NULL);
	bus_kill();
	spoil_version();
	fails(try_join(&r, RB_SECOND, false), -EPROTO);
	snprintf(said, sizeof(said), "%s", ringbus_error_detail());
	/* something else has the port: then it is not said to be the port's fault */
	fd = port_listen(bus_port());
	assert_true(fd >= 0);
	fails(try_join(&r, RB_SECOND, true), -EPROTO);
	assert_string_equal(ringbus_error_detail(), said);
	close(fd);
	setenv("RINGBUS_LINGER", "0.1", 1);
	ok(try_join(&r, 20 * RB_SECOND, true));
	unsetenv("RINGBUS_LINGER");
	leave(&r);
	bus_wait_gone();
}

static void a_service_that_cannot_be_started_is_said_so(void **state)
{
	const char *named = getenv("RINGBUSD");
	char *kept = named ? strdup(named) : NULL;
	struct join_result r;

	bus_serve(NULL);
	bus_stop();
	setenv("RINGBUSD", "/nonexistent/ringbusd", 1);
	fails(try_join(&r, RB_SECOND, true), -EINVAL);
	assert_non_null(strstr(ringbus_error_detail(), "RINGBUSD"));
	setenv("RINGBUSD", "/bin/true", 1);
	fails(try_join(&r, RB_SECOND / 2, true), -ECONNREFUSED);
	assert_non_null(strstr(ringbus_error_detail(), "/bin/true was started and ended"));
	if (kept)
		setenv("RINGBUSD", kept, 1);
	else
		unsetenv("RINGBUSD");
	free(kept);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(of_many_services_at_once_one_wins),
	BUS_TEST(a_killed_service_is_followed_by_one_that_adopts),
	BUS_TEST(a_dead_bus_is_replaced),
	BUS_TEST(the_dead_leave_their_slots),
	BUS_TEST(nobody_waits_for_a_stopped_lock_holder_to_hear_of_many_deaths),
	BARE_TEST(a_full_bus_is_eusers),
	BARE_TEST(a_service_may_live_in_the_process_of_a_node),
	BARE_TEST(a_service_ends_when_the_bus_was_empty_for_its_time),
	BARE_TEST(a_service_ends_when_its_files_were_deleted),
	BARE_TEST(a_service_ends_when_the_last_member_left_without_files),
	BARE_TEST(many_that_start_the_service_at_once_meet_on_one_bus),
	BARE_TEST(a_dead_bus_that_cannot_be_read_is_replaced_by_who_may_start_a_service),
	BARE_TEST(a_service_that_cannot_be_started_is_said_so),
};

HARNESS_MAIN("fault_service_life", tests)

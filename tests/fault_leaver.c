/* fault_leaver.c: the last leaver ends a bus while a service begins. */
#include "service_fixture.h"

#include <fcntl.h>
#include <signal.h>

enum { JOINED, GO, TRIED, SERVED, ELECTED };

static const char *stop_point;

static void stop_at(const char *name)
{
	if (strcmp(name, stop_point) != 0)
		return;
	shm_hooks = NULL;
	raise(SIGSTOP);
}

static const struct shm_hooks hooks = {.kill_point = stop_at};

static void last_leaver(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);

	flag_set(JOINED, 1);
	flag_wait(GO, 1);
	shm_hooks = &hooks;
	ringbus_node_close(node);
}

static void server(uint64_t unused)
{
	struct ringbus_service_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_service *service;
	int err;

	do {
		err = ringbus_service_open(&service, &o);
		flag_set(TRIED, 1);
	} while (err == -EBUSY || err == -ETIMEDOUT);
	child_ok(err);
	flag_set(SERVED, 1);
	child_ok(ringbus_service_run(service));
}

/* It stands still there while a service begins, then goes on. */
static void stopped_at(const char *point)
{
	pid_t leaver, service;

	stop_point = point;
	for (unsigned i = JOINED; i <= SERVED; i++)
		flag_set(i, 0);
	bus_serve(NULL);
	leaver = child_start(last_leaver, 0);
	flag_wait(JOINED, 1);
	bus_stop();
	flag_set(GO, 1);
	child_wait_stopped(leaver);
	service = child_start(server, 0);
	flag_wait(TRIED, 1);
	kill(leaver, SIGCONT);
	child_join(leaver);
	flag_wait(SERVED, 1);
	join_and_leave();
	child_kill(service);
}

static void a_last_leaver_that_was_stopped_takes_no_bus_from_a_service(void **state)
{
	static const char *const points[] = {"X_LEAVE_LAST", "X_LEAVE_ELECTED", "X_LEAVE_CLOSING",
					     "X_BUS_UNLINKED"};

	for (unsigned i = 0; i < rb_array_size(points); i++) {
		print_message("stopped at %s\n", points[i]);
		stopped_at(points[i]);
	}
}

/* ---- a lock file that loses its name ---- */

static int lock_byte(const char *path, off_t byte)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
	int fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(fcntl(fd, F_OFD_SETLK, &lock), 0);
	return fd;
}

static void wait_for_lock(int fd, off_t byte)
{
	struct flock lock;

	do {
		pause_briefly();
		lock = (struct flock){.l_type = F_WRLCK,
				      .l_whence = SEEK_SET,
				      .l_start = byte,
				      .l_len = 1};
		assert_int_equal(fcntl(fd, F_OFD_GETLK, &lock), 0);
	} while (lock.l_type == F_UNLCK);
}

static void open_service(uint64_t unused)
{
	child_fails(try_service(), -EBUSY);
}

static void a_service_that_came_too_late_leaves_the_lock_file_of_its_successor(void **state)
{
	char path[256], fresh[256];
	struct stat mine, now;
	int first, second;
	pid_t late;

	bus_serve(NULL);
	bus_stop();
	snprintf(path, sizeof(path), "%s/%u.lock", bus_directory(), bus_port());
	snprintf(fresh, sizeof(fresh), "%s/fresh", bus_directory());
	first = lock_byte(path, 0);
	late = child_start(open_service, 0);
	wait_for_lock(first, 1);
	second = lock_byte(fresh, 1); /* of another service, which has no bus yet */
	ok(rename(fresh, path));
	close(first);
	child_join(late);
	ok(fstat(second, &mine));
	ok(stat(path, &now));
	assert_int_equal(now.st_ino, mine.st_ino);
	close(second);
	ok(unlink(path));
}

/* ---- a stopped holder of the control lock ---- */

static void without_the_control_lock_no_bus_is_made(void **state)
{
	char path[256];
	int lock;

	bus_serve(NULL);
	bus_stop();
	snprintf(path, sizeof(path), "%s/%u.lock", bus_directory(), bus_port());
	lock = lock_byte(path, 0);
	fails(try_service(), -ETIMEDOUT);
	assert_non_null(strstr(ringbus_error_detail(), "control lock"));
	assert_int_equal(access(bus_file(), F_OK), -1);
	close(lock);
	ok(try_service());
}

/* ---- a grant that nobody takes any more ---- */

static void stay(uint64_t unused)
{
	flag_set(JOINED, 1);
	flag_wait(GO, 1);
}

static void a_grant_of_the_dead_by_the_dead_keeps_no_files(void **state)
{
	pid_t pid = child_start(stay, 0);
	struct ringbus_node *node = node_open();
	struct peer_identity id;
	uint32_t slot, generation;
	struct region *region;
	struct control c;

	flag_wait(JOINED, 1);
	ok(region_open(&region, bus_port(), NULL));
	bus_kill();
	ok(peer_identify((uint32_t)pid, &id, NULL));
	/* as the service does it, which dies then, and so does who was to take it */
	ok(control_lock(&c, region, rb_deadline_ns(20 * RB_SECOND)));
	ok(control_grant(&c, &id, &slot, &generation));
	control_unlock(&c);
	child_kill(pid);
	region_put(region);
	node_close(node);
	assert_int_equal(harness_entries(bus_directory()), 2);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_last_leaver_that_was_stopped_takes_no_bus_from_a_service),
	BARE_TEST(a_service_that_came_too_late_leaves_the_lock_file_of_its_successor),
	BARE_TEST(without_the_control_lock_no_bus_is_made),
	BUS_TEST(a_grant_of_the_dead_by_the_dead_keeps_no_files),
};

HARNESS_MAIN("fault_leaver", tests)

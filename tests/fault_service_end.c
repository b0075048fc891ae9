/* fault_service_end.c: what keeps a service in the process of the test from its end, and what of it
 * does not.
 */
#include "service_fixture.h"

#include "port.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>

static struct ringbus_service *service;
static pthread_t thread;
static bool ended;

static void *run(void *unused)
{
	void *result = (void *)(intptr_t)ringbus_service_run(service);

	__atomic_store_n(&ended, true, __ATOMIC_SEQ_CST);
	return result;
}

/* listen_fd: -1 for a port of its own. */
static void begin(uint64_t linger_ns, int listen_fd)
{
	struct ringbus_service_options options = {
		.size = sizeof(options),
		.linger_ns = linger_ns,
		.port = bus_port(),
		.listen_fd = listen_fd < 0 ? 0 : listen_fd,
	};

	ended = false;
	ok(ringbus_service_open(&service, &options));
	assert_int_equal(pthread_create(&thread, NULL, run, NULL), 0);
}

static void end(void)
{
	void *result;

	pthread_join(thread, &result);
	assert_null(result);
	ringbus_service_close(service);
}

static bool has_ended(void)
{
	return __atomic_load_n(&ended, __ATOMIC_SEQ_CST);
}

static void strangers_on_its_port_keep_no_service_alive(void **state)
{
	int last = -1;

	bus_serve(NULL);
	bus_stop();
	begin(RB_SECOND / 2, -1);
	/* there is one all the time */
	while (!has_ended()) {
		int fd = port_connect(bus_port(), rb_deadline_ns(RB_SECOND));

		if (last >= 0)
			close(last);
		last = fd;
		pause_briefly();
	}
	if (last >= 0)
		close(last);
	end();
}

/* A listener of a service manager, which listens with it itself. */
static void a_listener_that_was_handed_over_is_kept_when_the_bus_does_not_end(void **state)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	int control, given, kept;
	uint64_t since;

	bus_serve(NULL);
	bus_stop();
	given = ok(port_listen(bus_port()));
	kept = dup(given);
	begin(50 * RB_MS, given);
	control = region_open_lock(bus_directory(), bus_port(), false);
	while (!has_ended() && fcntl(control, F_OFD_SETLK, &lock) < 0)
		pause_briefly();
	/* longer than it waits for the lock, and than listening anew is tried */
	for (since = harness_now_ns(); harness_now_ns() - since < 2 * HARNESS_SECOND;)
		pause_briefly();
	close(control);
	end();
	close(kept);
}

/* ---- a fork ---- */

static unsigned count_pidfds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned n = 0;

	while (dir && (entry = readdir(dir))) {
		char target[64];
		ssize_t bytes = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[bytes > 0 ? bytes : 0] = 0;
		n += strstr(target, "pidfd") != NULL;
	}
	if (dir)
		closedir(dir);
	return n;
}

static void forked(uint64_t unused)
{
	flag_set(2, 1 + count_pidfds());
}

static void a_forked_child_keeps_no_descriptor_of_an_owner(void **state)
{
	pid_t pid;

	bus_serve(NULL);
	bus_stop();
	begin(0, -1);
	pid = child_start(member, 0);
	flag_wait(0, 1);
	if (count_pidfds() == 0) {
		print_message("SKIPPED: no pidfds here\n");
		skip();
	}
	child_join(child_start(forked, 0));
	assert_int_equal(flag_get(2), 1);
	child_kill(pid);
	ringbus_service_stop(service);
	end();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(strangers_on_its_port_keep_no_service_alive),
	BARE_TEST(a_listener_that_was_handed_over_is_kept_when_the_bus_does_not_end),
	BARE_TEST(a_forked_child_keeps_no_descriptor_of_an_owner),
};

HARNESS_MAIN("fault_service_end", tests)

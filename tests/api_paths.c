/* api_paths.c: where a bus is, for a process that changes its working directory. */
#include "harness.h"

enum { JOINED, GO };

/* Opens with the last part of the directory's name from within the directory above it. */
static void wanderer(uint64_t by_environment)
{
	const char *name = strrchr(bus_directory(), '/') + 1;
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_event *event;
	struct ringbus_node *node;

	child_check(chdir("/dev/shm") == 0);
	if (by_environment)
		child_check(setenv("RINGBUS_DIR", name, 1) == 0);
	else
		o.directory = name;
	child_ok(ringbus_node_open(&node, &o));
	child_check(chdir("/") == 0);
	child_ok(ringbus_event_create(&event, node, "news", NULL));
	flag_set(JOINED, 1);
	flag_wait(GO, 1);
	ringbus_node_close(node);
}

static void wanders(bool by_environment)
{
	pid_t pid;

	bus_serve(NULL);
	pid = child_start(wanderer, by_environment);
	while (!flag_get(JOINED) && !child_ended(pid))
		pause_briefly();
	bus_stop();
	flag_set(GO, 1);
	child_join(pid);
	assert_int_equal(harness_entries(bus_directory()), 2);
}

static void a_relative_directory_is_that_of_the_call(void **state)
{
	wanders(false);
}

static void a_relative_directory_of_the_environment_too(void **state)
{
	wanders(true);
}

static void stranded(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .directory = "somewhere"};
	char gone[] = "/tmp/ringbus-test-XXXXXX";
	struct ringbus_node *node = NULL;

	child_check(mkdtemp(gone) && chdir(gone) == 0 && rmdir(gone) == 0);
	child_check(ringbus_node_open(&node, &o) == -EINVAL && !node);
	child_check(strstr(ringbus_error_detail(), "give an absolute path instead of 'somewhere'"));
}

static void a_relative_directory_of_nowhere_is_told(void **state)
{
	bus_serve(NULL);
	child_join(child_start(stranded, 0));
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_relative_directory_is_that_of_the_call),
	BARE_TEST(a_relative_directory_of_the_environment_too),
	BARE_TEST(a_relative_directory_of_nowhere_is_told),
};

HARNESS_MAIN("api_paths", tests)

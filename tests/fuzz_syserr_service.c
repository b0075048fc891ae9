/* fuzz_syserr_service.c: the same (fuzz_syserr.c) for services: starting one, being one, and having
 * one started.
 */
#include "ringbus-inspect.h"
#include "syserr.h"

#include <signal.h>
#include <sys/wait.h>

static struct {
	struct ringbus_service *service;
	struct ringbus_node *node;
	pid_t joiner;
} c;

static void nothing(void)
{
}

static int run_autostart(void)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = (unsigned)flag_get(1),
					 .timeout_ns = 10 * syserr_patience_ns(),
					 .autostart = true};

	return ringbus_node_open(&c.node, &o);
}

static void end_autostart(void)
{
	struct ringbus_inspect_header header;
	struct ringbus_inspect *in;

	ringbus_node_close(c.node);
	c.node = NULL;
	/* again, for there may have been two, of whom one waits for the other */
	while (ringbus_inspect_open(&in, (unsigned)flag_get(1), bus_directory()) == 0) {
		if (ringbus_inspect_header(in, &header) == 0 && header.service_pid)
			kill((pid_t)header.service_pid, SIGTERM);
		ringbus_inspect_close(in);
		pause_briefly();
	}
}

static int run_service(void)
{
	struct ringbus_service_options o = {.size = sizeof(o),
					    .port = (unsigned)flag_get(1),
					    .nodes = 4,
					    .events = 8,
					    .ring_bytes = 4096,
					    .pool_bytes = 64 << 10};

	return ringbus_service_open(&c.service, &o);
}

static void undo_service(void)
{
	ringbus_service_close(c.service);
	c.service = NULL;
}

static void on_usr1(int number)
{
	ringbus_service_stop(c.service);
}

/* Joins the service of its parent twice; the second time it must work. */
static void join_twice(pid_t parent)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = (unsigned)flag_get(1)};
	struct ringbus_node *node = NULL;

	o.timeout_ns = HARNESS_SECOND / 20;
	ringbus_node_open(&node, &o);
	ringbus_node_close(node);
	node = NULL;
	o.timeout_ns = 15 * HARNESS_SECOND;
	if (ringbus_node_open(&node, &o) < 0)
		_exit(5);
	ringbus_node_close(node);
	/* again, since the call that stops the service may be the one that fails */
	while (flag_get(4) == 0) {
		kill(parent, SIGUSR1);
		pause_briefly();
	}
	_exit(0);
}

static void have_service(void)
{
	pid_t self = getpid();

	signal(SIGUSR1, on_usr1);
	flag_set(4, 0);
	syserr_need(run_service() == 0, "a service");
	c.joiner = fork();
	if (c.joiner == 0)
		join_twice(self);
}

static int run_serve(void)
{
	int rc = ringbus_service_run(c.service);

	flag_set(4, 1);
	signal(SIGUSR1, SIG_IGN);
	return rc;
}

static void end_service(void)
{
	int status = -1;

	waitpid(c.joiner, &status, 0);
	undo_service();
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
		fprintf(stderr, "the joiner ended with %#x\n", status);
		_exit(4);
	}
}

/* ---- tests ---- */

static const struct bus_spec small = {.nodes = 4,
				      .events = 8,
				      .ring_bytes = 4096,
				      .pool_bytes = 64 << 10};

static void of_starting_a_service(void **state)
{
	static const struct syserr_operation operation = {"autostart", nothing,	      run_autostart,
							  nothing,     end_autostart, 0};

	if (!getenv("RINGBUSD"))
		skip();
	bus_serve(&small);
	bus_stop();
	flag_set(1, bus_port());
	ledger("failures-injected", syserr_everything(&operation));
	assert_in_range(harness_entries(bus_directory()), 2, 5);
	bus_expect_leftovers();
}

static void of_the_service(void **state)
{
	static const struct syserr_operation operations[] = {
		{"service start", nothing, run_service, undo_service, nothing, 0},
		{"service", have_service, run_serve, nothing, end_service, SYSERR_ONCE},
	};
	unsigned total = 0;

	/* only its port and directory are used */
	bus_serve(&small);
	bus_stop();
	flag_set(1, bus_port());
	for (unsigned i = 0; i < 2; i++) {
		total += syserr_everything(&operations[i]);
		assert_in_range(harness_entries(bus_directory()), 2, 5);
	}
	ledger("failures-injected", total);
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(of_starting_a_service),
	BARE_TEST(of_the_service),
};

HARNESS_MAIN("fuzz_syserr_service", tests)

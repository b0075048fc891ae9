/* fuzz_syserr.c: each system call and each allocation of each operation fails once, with each
 * error that it may give: the caller gets a documented code, nothing is leaked, and it can be done
 * again.
 */
#include "syserr.h"

#include "node.h"

#include <dirent.h>
#include <signal.h>
#include <sys/wait.h>

static struct {
	struct ringbus_node *node, *other;
	struct ringbus_event *event, *sub;
	struct ringbus_service *service;
	struct ringbus_loan loan;
	int fd;
	pid_t joiner;
} c;

static uint8_t payload[20000];

static void nothing(void)
{
}

/* What is needed before an operation must come about. */
static void need(bool there, const char *what)
{
	if (there)
		return;
	fprintf(stderr, "not ready: %s: %s\n", what, ringbus_error_detail());
	_exit(3);
}

static int node_opens(struct ringbus_node **node)
{
	char name[32];
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .name = name,
					 .timeout_ns = syserr_patience_ns(),
					 .spin_ns = RINGBUS_NO_SPIN};

	snprintf(name, sizeof(name), "%s of %d", node == &c.node ? "one" : "two", (int)getpid());
	return ringbus_node_open(node, &o);
}

/* liburcu gives up the process when it has no memory for a thread that it sees first: not here. */
static void meet_urcu(void)
{
	struct ringbus_event *e;

	need(ringbus_subscribe(&e, c.node, "to begin with", NULL) == 0 &&
		     ringbus_unsubscribe(e) == 0,
	     "a subscription");
}

static void have_node(void)
{
	need(node_opens(&c.node) == 0, "a node");
	meet_urcu();
}

static void have_two(void)
{
	have_node();
	need(node_opens(&c.other) == 0, "another node");
}

static void have_event(void)
{
	have_two();
	need(ringbus_event_create(&c.event, c.node, "news", NULL) == 0 &&
		     ringbus_subscribe(&c.sub, c.other, "news", NULL) == 0,
	     "an event");
}

static void close_all(void)
{
	ringbus_node_close(c.other);
	ringbus_node_close(c.node);
	c.node = c.other = NULL;
}

/* ---- operations ---- */

static int run_open(void)
{
	return node_opens(&c.node);
}

static int run_create(void)
{
	return ringbus_event_create(&c.event, c.node, "news", NULL);
}

static void undo_create(void)
{
	ringbus_event_dissolve(c.event);
}

static int run_create_multi(void)
{
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = RINGBUS_MULTI_EMISSION,
					  .receive = true};

	return ringbus_event_create(&c.event, c.node, NULL, &o);
}

static int run_subscribe(void)
{
	return ringbus_subscribe(&c.sub, c.node, "later", NULL);
}

static int run_unsubscribe(void)
{
	return ringbus_unsubscribe(c.sub);
}

static void have_subscription(void)
{
	have_node();
	need(run_subscribe() >= 0, "a subscription");
}

static int run_first_send(void)
{
	return ringbus_emit(c.event, "x", 1, 0);
}

static int run_pooled_send(void)
{
	return ringbus_emit(c.event, payload, sizeof(payload), 0);
}

static int run_loan(void)
{
	return ringbus_loan(c.node, 3000, &c.loan, 0);
}

static void undo_loan(void)
{
	ringbus_loan_cancel(&c.loan);
}

static void undo_send(void)
{
	struct ringbus_message m;
	int rc;

	while ((rc = ringbus_next(c.other, &m, 10 * HARNESS_SECOND)) == 0)
		if (m.kind == RINGBUS_EVENT)
			return;
	fprintf(stderr, "what was sent does not arrive: %d\n", rc);
	_exit(4);
}

static void have_message(void)
{
	have_event();
	need(run_pooled_send() >= 0, "a message");
}

static int run_receive(void)
{
	struct ringbus_borrow *borrow;
	struct ringbus_message m;
	int rc;

	do
		rc = ringbus_next(c.other, &m, 20 * HARNESS_MS);
	while (rc == 0 && m.kind == RINGBUS_NOTICE);
	if (rc == 0)
		rc = ringbus_borrow(&m, &borrow);
	if (rc == 0)
		ringbus_release(borrow);
	return rc;
}

static int run_wait(void)
{
	int rc;

	while (ringbus_poll(c.node, 0) > 0)
		;
	rc = ringbus_wait(c.node, 2 * HARNESS_MS);

	return rc == -ETIMEDOUT ? 0 : rc;
}

static int run_full_wait(void)
{
	int rc = ringbus_emit(c.event, payload, 400, 2 * HARNESS_MS);

	return rc == -ETIMEDOUT ? 0 : rc;
}

static void have_full_ring(void)
{
	int rc = 0;

	have_event();
	while (rc >= 0)
		rc = ringbus_emit(c.event, payload, 400, 0);
	need(rc == -EAGAIN, "a full ring");
}

static int run_signal(void)
{
	struct ringbus_address to;
	uint64_t count;
	int rc = ringbus_node_address(c.other, &to);

	if (rc == 0)
		rc = ringbus_signal_wait(c.other, &count, 2 * HARNESS_MS);
	if (rc == -ETIMEDOUT)
		rc = ringbus_signal_address(c.node, &to);
	return rc < 0 ? rc : ringbus_signal_wait(c.other, &count, syserr_patience_ns());
}

static int run_fd(void)
{
	return ringbus_node_fd(c.node);
}

static int run_listen(void)
{
	return ringbus_listen(c.node, NULL, NULL);
}

static void undo_listen(void)
{
	ringbus_listen_stop(c.node);
}

static int run_close(void)
{
	ringbus_node_close(c.node);
	c.node = NULL;
	return 0;
}

static int run_reap(void)
{
	int rc = control_reap_all(c.node->region, rb_deadline_ns(syserr_patience_ns()));

	return rc < 0 ? rc : control_reap(c.node->region, rb_deadline_ns(syserr_patience_ns()));
}

/* A process that dies on the bus while the service, which would clean up, is stopped. */
static void have_dead(void)
{
	pid_t pid;

	have_two();
	flag_set(5, 0);
	pid = fork();
	if (pid == 0) {
		c.node = c.other = NULL;
		have_event();
		ringbus_emit(c.event, payload, sizeof(payload), 0);
		flag_set(5, 1);
		pause();
	}
	flag_wait(5, 1);
	kill(bus_service_pid(), SIGSTOP);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

static void end_reap(void)
{
	kill(bus_service_pid(), SIGCONT);
	close_all();
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
	need(run_service() == 0, "a service");
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

static unsigned files(void)
{
	DIR *dir = opendir(bus_directory());
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

/* All slots are free again, and the region is sound. */
static void all_is_well(unsigned files_before)
{
	struct region *region;

	kill(bus_service_pid(), SIGCONT);
	ok(region_open(&region, bus_port(), NULL));
	while (control_busy_slots(region) > 0)
		pause_briefly();
	region_put(region);
	bus_check();
	assert_int_equal(files(), files_before);
}

static void of_nodes(const struct syserr_operation *operations, unsigned n)
{
	unsigned total = 0, before;

#if !defined(__x86_64__)
	print_message("SKIPPED: the tracer knows the registers of x86-64 only\n");
	skip();
#endif
	bus_serve(&small);
	before = files();
	for (unsigned i = 0; i < n; i++) {
		total += syserr_everything(&operations[i]);
		all_is_well(before);
	}
	ledger("failures-injected", total);
}

static void of_joining_and_leaving(void **state)
{
	static const struct syserr_operation operations[] = {
		{"join", nothing, run_open, nothing, close_all, 0},
		{"close", have_node, run_close, nothing, close_all, 0},
		{"reap", have_dead, run_reap, nothing, end_reap, 0},
	};

	of_nodes(operations, 3);
}

static void of_events(void **state)
{
	static const struct syserr_operation operations[] = {
		{"create", have_node, run_create, undo_create, close_all, 0},
		{"create, fresh id", have_node, run_create_multi, nothing, close_all, 0},
		{"subscribe", have_node, run_subscribe, nothing, close_all, 0},
		{"unsubscribe", have_subscription, run_unsubscribe, nothing, close_all,
		 SYSERR_GRACE},
	};

	of_nodes(operations, 4);
}

static void of_sending(void **state)
{
	static const struct syserr_operation operations[] = {
		{"first send", have_event, run_first_send, undo_send, close_all, 0},
		{"pooled send", have_event, run_pooled_send, undo_send, close_all, 0},
		{"loan", have_node, run_loan, undo_loan, close_all, 0},
		{"send to a full ring", have_full_ring, run_full_wait, nothing, close_all,
		 SYSERR_SLEEPS},
	};

	of_nodes(operations, 4);
}

static void of_receiving(void **state)
{
	static const struct syserr_operation operations[] = {
		{"receive and borrow", have_message, run_receive, nothing, close_all,
		 SYSERR_ONCE | SYSERR_SLEEPS},
		{"wait", have_node, run_wait, nothing, close_all, SYSERR_SLEEPS},
		{"signal", have_two, run_signal, nothing, close_all, SYSERR_SLEEPS},
		{"descriptor", have_node, run_fd, nothing, close_all, 0},
		{"listen", have_node, run_listen, undo_listen, close_all, 0},
	};

	of_nodes(operations, 5);
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
		assert_in_range(files(), 2, 5);
	}
	ledger("failures-injected", total);
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(of_joining_and_leaving), BARE_TEST(of_events),      BARE_TEST(of_sending),
	BARE_TEST(of_receiving),	   BARE_TEST(of_the_service),
};

HARNESS_MAIN("fuzz_syserr", tests)

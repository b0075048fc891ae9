/* fuzz_syserr.c: each system call and each allocation of each operation fails once, with each
 * error that it may give: the caller gets a documented code, nothing is leaked, and it can be done
 * again.
 */
#include "syserr.h"

#include "node.h"
#include "ringbus-inspect.h"

#include <signal.h>
#include <sys/wait.h>

static struct {
	struct ringbus_node *node, *other;
	struct ringbus_event *event, *sub;
	struct ringbus_loan loan;
	struct ringbus_address from, to;
	struct ringbus_message pulled; /* and not yet borrowed */
	int fd;
} c;

static uint8_t payload[20000];

static void nothing(void)
{
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

static void have_node(void)
{
	syserr_need(node_opens(&c.node) == 0, "a node");
}

static void have_two(void)
{
	have_node();
	syserr_need(node_opens(&c.other) == 0, "another node");
}

static void have_event(void)
{
	have_two();
	syserr_need(ringbus_event_create(&c.event, c.node, "news", NULL) == 0 &&
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

static int run_find(void)
{
	return ringbus_event_find(&c.event, c.node, "news");
}

static void have_unknown_event(void)
{
	struct ringbus_event *event;

	have_two();
	syserr_need(ringbus_event_create(&event, c.other, "news", NULL) == 0, "an event");
}

static int run_unsubscribe(void)
{
	return ringbus_unsubscribe(c.sub);
}

static void have_subscription(void)
{
	have_node();
	syserr_need(run_subscribe() >= 0, "a subscription");
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
	syserr_need(run_pooled_send() >= 0, "a message");
}

static int run_receive(void)
{
	struct ringbus_borrow *borrow;
	int rc = 0;

	while (rc == 0 && c.pulled.kind != RINGBUS_EVENT)
		rc = ringbus_next(c.other, &c.pulled, 20 * HARNESS_MS);
	if (rc == 0)
		rc = ringbus_borrow(&c.pulled, &borrow);
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
	syserr_need(rc == -EAGAIN, "a full ring");
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

static void on_signal(uint64_t count, void *user)
{
}

static int run_on_signal(void)
{
	return ringbus_on_signal(c.node, on_signal, NULL);
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

/* A list without the bus that is there would be a lie. */
static int run_list(void)
{
	struct ringbus_inspect_place places[4];
	int n = ringbus_inspect_list(places, 4, bus_directory());

	return n == 0 ? -EDOM : n;
}

static int look_around(struct ringbus_inspect *in)
{
	struct ringbus_inspect_latency latency;
	struct ringbus_inspect_message message;
	struct ringbus_inspect_hold holds[4];
	struct ringbus_inspect_node node;
	struct ringbus_inspect_pool pool;
	struct ringbus_inspect_ring ring;
	uint32_t nodes = 0, pools = 0, rings = 0;
	uint64_t position = RINGBUS_INSPECT_OLDEST;
	int rc = 1;

	while (rc > 0)
		rc = ringbus_inspect_node_next(in, &nodes, &node);
	if (rc == 0)
		rc = 1;
	while (rc > 0)
		rc = ringbus_inspect_pool_next(in, &pools, &pool);
	if (rc == 0)
		rc = ringbus_inspect_holds(in, c.from.slot, holds, 4);
	while (rc >= 0 && (rc = ringbus_inspect_ring_next(in, &rings, &ring)) > 0)
		rc = ringbus_inspect_latency(in, ring.from, ring.to, &latency);
	if (rc == 0)
		rc = ringbus_inspect_message_next(in, c.from.slot, c.to.slot, &position, &message,
						  payload, sizeof(payload));
	return rc < 0 ? rc : ringbus_inspect_check(in, NULL, NULL);
}

static void have_bus_to_inspect(void)
{
	have_message();
	syserr_need(ringbus_node_address(c.node, &c.from) == 0 &&
			    ringbus_node_address(c.other, &c.to) == 0,
		    "addresses");
}

/* Also the work that a failure left: errors found would be such as are not there. */
static int run_inspect(void)
{
	struct ringbus_inspect *in;
	int rc = ringbus_inspect_open(&in, bus_port(), bus_directory());

	if (rc < 0)
		return rc;
	rc = look_around(in);
	ringbus_inspect_close(in);
	return rc > 0 ? -EDOM : rc;
}

/* ---- tests ---- */

static const struct bus_spec small = {.nodes = 4,
				      .events = 8,
				      .ring_bytes = 4096,
				      .pool_bytes = 64 << 10};

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
	assert_int_equal(harness_entries(bus_directory()), files_before);
}

static void of_nodes(const struct syserr_operation *operations, unsigned n)
{
	unsigned total = 0, before;

#if !defined(__x86_64__)
	print_message("SKIPPED: the tracer knows the registers of x86-64 only\n");
	skip();
#endif
	bus_serve(&small);
	before = harness_entries(bus_directory());
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
		{"find", have_unknown_event, run_find, nothing, close_all, 0},
		{"unsubscribe", have_subscription, run_unsubscribe, nothing, close_all, 0},
	};

	of_nodes(operations, 5);
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
		 SYSERR_SLEEPS},
		{"wait", have_node, run_wait, nothing, close_all, SYSERR_SLEEPS},
		{"signal", have_two, run_signal, nothing, close_all, SYSERR_SLEEPS},
		{"signal handler", have_node, run_on_signal, nothing, close_all, 0},
		{"descriptor", have_node, run_fd, nothing, close_all, 0},
		{"listen", have_node, run_listen, undo_listen, close_all, 0},
	};

	of_nodes(operations, 6);
}

static void of_inspection(void **state)
{
	static const struct syserr_operation operations[] = {
		{"list", nothing, run_list, nothing, nothing, 0},
		{"inspect", have_bus_to_inspect, run_inspect, nothing, close_all, 0},
	};

	of_nodes(operations, 2);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(of_joining_and_leaving), BARE_TEST(of_events),     BARE_TEST(of_sending),
	BARE_TEST(of_receiving),	   BARE_TEST(of_inspection),
};

HARNESS_MAIN("fuzz_syserr", tests)

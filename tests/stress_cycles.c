/* stress_cycles.c: thousands of joins that end by leaving or by a kill, one at a time and all at
 * once: nothing is left of them, in the service, in a node that stays, or in the directory.
 *
 * CYCLES: how many (default 3000).
 */
#include "harness.h"

enum { DONE, LONGEST, GO, READY };

struct trace {
	unsigned fds, maps, files;
	uint64_t resident; /* KiB */
};

/* What a process has; while nobody joins or leaves. */
static struct trace trace_of(pid_t pid)
{
	struct trace t = {.files = harness_entries(bus_directory())};
	char path[64], line[512];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	t.fds = harness_entries(path);
	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned long kib;

		t.maps += strncmp(line, "VmFlags:", 8) == 0;
		if (sscanf(line, "Private_Dirty: %lu kB", &kib) == 1)
			t.resident += kib;
	}
	fclose(f);
	return t;
}

/* The same at rest: the least of many looks, since the service may be closing a connection in one.
 */
static struct trace trace_at_rest(pid_t pid)
{
	struct trace least = trace_of(pid);

	for (unsigned i = 0; i < 100; i++) {
		struct trace t = trace_of(pid);

		if (t.fds <= least.fds && t.maps <= least.maps)
			least = t;
		pause_briefly();
	}
	return least;
}

static void guest_main(uint64_t index)
{
	struct ringbus_address keeper = {.slot = 0};
	struct ringbus_event *event, *own;
	static uint8_t data[3000];
	struct ringbus_node *node;
	struct ringbus_message m;
	uint64_t took;

	flag_wait(GO, 1);
	took = harness_now_ns();
	node = child_node(NULL);
	took = harness_now_ns() - took;
	while (flag_get(LONGEST) < took)
		flag_set(LONGEST, took);
	child_ok(ringbus_subscribe(&event, node, "echo", NULL));
	child_ok(ringbus_event_create(&own, node, NULL, NULL));
	child_ok(ringbus_contact_address(node, &keeper, data, index % 2 ? 8 : sizeof(data),
					 RINGBUS_SEND_MAX_NS));
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_EVENT);
	flag_add(DONE, 1);
	if (index % 3 == 0)
		for (;;)
			pause(); /* until it is killed */
	ringbus_node_close(node);
}

/* Some join at once; each sends, is answered, and leaves or is killed. */
static void storm(struct ringbus_node *node, struct ringbus_event *echo, unsigned guests,
		  uint64_t first)
{
	struct ringbus_message m;
	pid_t pids[62];

	flag_set(DONE, 0);
	flag_set(GO, 0);
	for (unsigned i = 0; i < guests; i++)
		pids[i] = child_start(guest_main, first + i);
	flag_set(GO, 1);
	for (unsigned i = 0; i < guests; i++)
		pull(node, &m);
	ok(ringbus_emit(echo, "answer", 6, RINGBUS_SEND_MAX_NS));
	flag_wait(DONE, guests);
	for (unsigned i = 0; i < guests; i++)
		if ((first + i) % 3 == 0)
			child_kill(pids[i]);
	child_join_all();
	/* until the killed are buried */
	while (event_info(echo).subscribers > 0)
		pause_briefly();
	while (ringbus_next(node, &m, 0) == 0)
		assert_int_equal(m.kind, RINGBUS_NOTICE);
}

static void some_cycles(struct ringbus_node *node, struct ringbus_event *echo, uint64_t cycles)
{
	for (uint64_t done = 0; done < cycles;) {
		unsigned guests = done % 10 ? 1 : 30;

		watchdog(60);
		storm(node, echo, guests, done);
		done += guests;
	}
	ok(ringbus_node_trim(node));
}

static void compare(const char *who, struct trace a, struct trace b)
{
	print_message("  %s: %u and %u descriptors, %u and %u mappings, %llu and %llu KiB\n", who,
		      a.fds, b.fds, a.maps, b.maps, (unsigned long long)a.resident,
		      (unsigned long long)b.resident);
	assert_int_equal(a.fds, b.fds);
	assert_int_equal(a.maps, b.maps);
	assert_int_equal(a.files, b.files);
	/* heaps settle: less than 32 bytes a cycle would be a leak of nothing */
	assert_true(b.resident <= a.resident + 64 + harness_number("CYCLES", 3000) / 32);
}

static void joins_leaves_and_kills_leave_nothing_behind(void **state)
{
	uint64_t cycles = harness_number("CYCLES", 3000);
	struct trace service[2], keeper[2];
	struct ringbus_node *node = node_open();
	struct ringbus_event *echo = single(node, "echo");

	assert_int_equal(node_address(node).slot, 0);
	some_cycles(node, echo, 400); /* every slot has been used */
	service[0] = trace_at_rest(bus_service_pid());
	keeper[0] = trace_at_rest(getpid());
	some_cycles(node, echo, cycles);
	service[1] = trace_at_rest(bus_service_pid());
	keeper[1] = trace_at_rest(getpid());
	compare("service", service[0], service[1]);
	compare("keeper", keeper[0], keeper[1]);
	print_message("  the longest join, of 30 at once, took %.2f ms\n",
		      (double)flag_get(LONGEST) / 1e6);
	ledger("join-cycles", (double)(400 + cycles));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(joins_leaves_and_kills_leave_nothing_behind),
};

HARNESS_MAIN("stress_cycles", tests)

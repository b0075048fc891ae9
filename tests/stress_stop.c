/* stress_stop.c: a stopped process and one that never reads hold back nobody but who waits for
 * them, and are not dead.
 *
 * STOP_SECONDS: how long the process stays stopped under the others' traffic. Without it half a
 * second, and only counts are judged; with it the same traffic is measured for as long before, and
 * must not be slower than half of that while the process is stopped: for a quiet machine.
 */
#include "harness.h"

#include <signal.h>

enum { JOINED, GO, READING, SENT, ADDRESS = 16, PROGRESS = 32 };

static const struct mix mix = {.pooled_per_mille = 10, .max = 60000};

/* Subscribes to "both", reads after GO until SENT messages have come. */
static void slow_main(uint64_t index)
{
	char name[16];
	struct ringbus_node_options o = {.size = sizeof(o), .name = name};
	struct ringbus_event *event;
	struct ringbus_message m;
	struct ringbus_node *node;

	snprintf(name, sizeof(name), "slow %u", (unsigned)index);
	node = child_node(&o);
	child_ok(ringbus_subscribe(&event, node, "both", NULL));
	flag_add(JOINED, 1);
	flag_wait(GO, 1);
	for (uint64_t i = 0; i < flag_get(SENT); i++) {
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		child_check(m.size == payload_size(&mix, 1, i));
		child_check(payload_matches(m.data, m.size, 1, i));
	}
	child_check(ringbus_next(node, &m, 0) == -EAGAIN);
	ringbus_node_close(node);
}

/* Reads everything at once; "free" carries sender 2. */
static void quick_main(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o), .name = "quick", .peer_notices = true};
	struct ringbus_node *node = child_node(&o);
	struct ringbus_event *both, *only;
	struct ringbus_message m;
	uint64_t next[3] = {0};

	child_ok(ringbus_subscribe(&both, node, "both", NULL));
	child_ok(ringbus_subscribe(&only, node, "free", NULL));
	flag_add(JOINED, 1);
	for (;;) {
		unsigned sender;

		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		child_check(m.kind != RINGBUS_NOTICE || m.notice != RINGBUS_PEER_DIED);
		if (m.kind == RINGBUS_CONTACT)
			break;
		if (m.kind != RINGBUS_EVENT)
			continue;
		sender = m.event == both ? 1 : 2;
		child_check(m.size == payload_size(&mix, sender, next[sender]));
		child_check(payload_matches(m.data, m.size, sender, next[sender]));
		next[sender]++;
		flag_set(PROGRESS + sender, next[sender]);
	}
	child_check(next[1] == flag_get(SENT));
	ringbus_node_close(node);
}

static int send_next(struct ringbus_event *event, uint64_t sender, uint64_t sequence,
		     uint64_t timeout_ns)
{
	static uint8_t data[PAYLOAD_MAX];
	size_t size = payload_size(&mix, sender, sequence);

	payload_fill(data, size, sender, sequence);
	return ringbus_emit(event, data, size, timeout_ns);
}

/* "both" until somebody has no room; the number sent. */
static uint64_t send_until_full(struct ringbus_event *event, int receivers)
{
	uint64_t sent = 0;
	int rc;

	for (;;) {
		rc = send_next(event, 1, sent, 0);
		if (rc == -EAGAIN)
			return sent;
		assert_int_equal(ok(rc), receivers);
		flag_wait(PROGRESS + 1, ++sent);
	}
}

/* "free" goes on for so long, with at least 20000 messages; each is delivered. Messages a second.
 */
static double send_free(struct ringbus_event *event, uint64_t *sequence, uint64_t ns)
{
	uint64_t began = harness_now_ns(), first = *sequence, i = first;

	for (; harness_now_ns() - began < ns || i - first < 20000; i++)
		assert_int_equal(ok(send_next(event, 2, i, RINGBUS_SEND_MAX_NS)), 1);
	flag_wait(PROGRESS + 2, i);
	*sequence = i;
	return (double)(i - first) * 1e9 / (double)(harness_now_ns() - began);
}

/* The first of the slow is stopped, or all of them only do not read. */
static void run(unsigned count, bool stop)
{
	uint64_t seconds = harness_number("STOP_SECONDS", 0), sent, i = 0;
	uint64_t ns = seconds ? seconds * HARNESS_SECOND : HARNESS_SECOND / 2;
	struct ringbus_node *node = node_open();
	struct ringbus_event *both = single(node, "both"), *only = single(node, "free");
	struct ringbus_address slow_address, quick_address, who;
	double before = 0, during;
	pid_t slow[2], quick;

	watchdog(120 + 3 * (unsigned)seconds);
	for (unsigned k = 0; k < count; k++)
		slow[k] = child_start(slow_main, k);
	quick = child_start(quick_main, 0);
	flag_wait(JOINED, count + 1);
	ok(ringbus_node_find(node, "slow 0", &slow_address));
	ok(ringbus_node_find(node, "quick", &quick_address));
	if (seconds)
		before = send_free(only, &i, ns);
	if (stop) {
		kill(slow[0], SIGSTOP);
		child_wait_stopped(slow[0]);
	}
	sent = send_until_full(both, (int)count + 1);
	ok(ringbus_node_held_back_by(node, &who));
	assert_int_not_equal(who.slot, quick_address.slot);
	during = send_free(only, &i, ns);
	fails(send_next(both, 1, sent, HARNESS_MS), -ETIMEDOUT);
	ok(ringbus_node_find_pid(node, (uint32_t)slow[0], &who));
	assert_int_equal(who.generation, slow_address.generation);
	assert_int_equal(node_stats(node).dead_peers, 0);
	if (stop)
		kill(slow[0], SIGCONT);
	flag_set(SENT, sent + 5000);
	flag_set(GO, 1);
	for (; sent < flag_get(SENT); sent++)
		assert_int_equal(ok(send_next(both, 1, sent, RINGBUS_SEND_MAX_NS)), (int)count + 1);
	for (unsigned k = 0; k < count; k++)
		child_join(slow[k]);
	flag_wait(PROGRESS + 1, sent);
	ok(ringbus_contact_address(node, &quick_address, "end", 3, RINGBUS_SEND_MAX_NS));
	child_join(quick);
	ledger("messages-checked", (double)i + (double)sent * (count + 1));
	print_message("  %llu messages went past it, %.0f a second", (unsigned long long)i, during);
	print_message(seconds ? ", %.0f before\n" : "\n", before);
	if (seconds)
		assert_true(during > before / 2);
}

static void a_stopped_process_holds_back_only_its_events_and_gets_everything_later(void **state)
{
	run(1, true);
}

static void a_process_that_never_reads_holds_back_only_its_events(void **state)
{
	run(1, false);
}

static void a_stopped_process_and_one_that_never_reads_hold_back_only_their_events(void **state)
{
	run(2, true);
}

static void busy_sender(uint64_t index)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	char name[16];

	snprintf(name, sizeof(name), "from %u", (unsigned)index);
	child_ok(ringbus_event_create(&event, node, name, NULL));
	child_ok(ringbus_event_wait_subscribers(event, 1, RINGBUS_SEND_MAX_NS));
	flag_add(JOINED, 1);
	for (uint64_t i = 0; !flag_get(GO); i++) {
		child_ok(send_next(event, index, i, RINGBUS_SEND_MAX_NS));
		flag_set(PROGRESS + (unsigned)index, i + 1);
	}
	ringbus_node_close(node);
}

/* Takes `count` messages of any sender, each in order. */
static void take(struct ringbus_node *node, struct ringbus_event *const event[3], uint64_t next[3],
		 unsigned who, uint64_t count)
{
	struct ringbus_message m;

	while (count) {
		unsigned sender;

		pull(node, &m);
		sender = m.event == event[1] ? 1 : 2;
		assert_int_equal(m.size, payload_size(&mix, sender, next[sender]));
		assert_true(payload_matches(m.data, m.size, sender, next[sender]));
		next[sender]++;
		count -= sender == who;
	}
}

static void a_sender_stopped_at_random_moments_disturbs_nobody_and_loses_nothing(void **state)
{
	struct ringbus_node *node = node_open();
	struct ringbus_event *event[3];
	uint64_t next[3] = {0};
	struct ringbus_message m;
	pid_t pid[3];
	int rc;

	watchdog(120);
	for (uint64_t i = 1; i < 3; i++)
		pid[i] = child_start(busy_sender, i);
	event[1] = subscribe(node, "from 1");
	event[2] = subscribe(node, "from 2");
	flag_wait(JOINED, 2);
	for (int round = 0; round < 50; round++) {
		take(node, event, next, 1, 50);
		kill(pid[1], SIGSTOP);
		child_wait_stopped(pid[1]);
		take(node, event, next, 2, 500);
		kill(pid[1], SIGCONT);
	}
	flag_set(GO, 1);
	while (!child_ended(pid[1]) || !child_ended(pid[2])) {
		rc = ringbus_next(node, &m, 0);
		assert_true(rc == -EAGAIN || rc == 0);
		if (rc == 0 && m.kind == RINGBUS_EVENT)
			next[m.event == event[1] ? 1 : 2]++;
	}
	child_join_all();
	while ((rc = ringbus_next(node, &m, 0)) == 0)
		if (m.kind == RINGBUS_EVENT)
			next[m.event == event[1] ? 1 : 2]++;
	assert_int_equal(next[1], flag_get(PROGRESS + 1));
	assert_int_equal(next[2], flag_get(PROGRESS + 2));
	ledger("messages-checked", (double)(next[1] + next[2]));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_stopped_process_holds_back_only_its_events_and_gets_everything_later),
	BUS_TEST(a_process_that_never_reads_holds_back_only_its_events),
	BUS_TEST(a_stopped_process_and_one_that_never_reads_hold_back_only_their_events),
	BUS_TEST(a_sender_stopped_at_random_moments_disturbs_nobody_and_loses_nothing),
};

HARNESS_MAIN("stress_stop", tests)

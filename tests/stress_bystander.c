/* stress_bystander.c: two processes talk while others are stopped, do not read and are killed: how
 * long the two wait at most, and how much of their rate is left.
 *
 * BYSTANDER_MS: length of each phase (default 200). BYSTANDER_JUDGE=1, on a quiet machine: the
 * times are judged, not only the messages.
 */
#include "harness.h"

#include <signal.h>

enum { READY, PHASE, VICTIM_JOINED, SLOW_READY, COUNT = 16, LONGEST = 64 };
enum { ALONE, STOPPED, KILLED, KINDS };
enum { ROUNDS = 7, PHASES = ROUNDS * 4, OVER = PHASES + 1 };

static const char *const kinds[] = {"alone", "others stopped", "others killed"};

/* Each kind of trouble has a quiet phase before it. */
static unsigned kind_of(unsigned phase)
{
	return phase % 2 == 0 ? ALONE : phase % 4 == 1 ? STOPPED : KILLED;
}

static void echo_main(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o), .name = "echo"};
	struct ringbus_node *node = child_node(&o);
	struct ringbus_message m;

	flag_add(READY, 1);
	for (;;) {
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		if (m.kind != RINGBUS_CONTACT)
			continue;
		child_ok(ringbus_contact_address(node, &m.sender, m.data, m.size,
						 RINGBUS_SEND_MAX_NS));
		if (m.size == 0)
			break;
	}
	ringbus_node_close(node);
}

static uint64_t round_trip(struct ringbus_node *node, const struct ringbus_address *to,
			   uint64_t number, size_t size)
{
	uint64_t begin = harness_now_ns(), back = 0;
	struct ringbus_message m;

	child_ok(ringbus_contact_address(node, to, &number, size, RINGBUS_SEND_MAX_NS));
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_CONTACT);
	child_check(m.size == size);
	if (size) {
		memcpy(&back, m.data, sizeof(back));
		child_check(back == number);
	}
	return harness_now_ns() - begin;
}

static void caller_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to;
	uint64_t number = 0;

	child_ok(ringbus_node_find(node, "echo", &to));
	flag_add(READY, 1);
	flag_wait(PHASE, 1);
	for (uint64_t phase; (phase = flag_get(PHASE)) <= PHASES;) {
		uint64_t ns = round_trip(node, &to, number++, sizeof(number));

		if (flag_get(PHASE) != phase)
			continue; /* of two phases */
		flag_add(COUNT + (unsigned)phase, 1);
		if (ns > flag_get(LONGEST + (unsigned)phase))
			flag_set(LONGEST + (unsigned)phase, ns);
	}
	round_trip(node, &to, 0, 0);
	ringbus_node_close(node);
}

/* Subscribes and reads nothing. */
static void slow_main(uint64_t unused)
{
	struct ringbus_event_options o = {.size = sizeof(o), .mode = RINGBUS_MULTI_EMISSION};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_event_create(&event, node, "load", &o));
	child_ok(ringbus_subscribe(&event, node, "load", NULL));
	flag_set(SLOW_READY, 1);
	for (;;)
		pause();
}

/* Joins, fills its ring to the slow one, and then waits in a send that nobody ends. */
static void victim_main(uint64_t unused)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o), .emit_only = true};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	uint8_t data[256] = {0};
	int rc;

	child_ok(ringbus_subscribe(&event, node, "load", &o));
	while ((rc = ringbus_emit(event, data, sizeof(data), 0)) == 1)
		;
	child_check(rc == -EAGAIN);
	flag_add(VICTIM_JOINED, 1);
	child_ok(ringbus_emit(event, data, sizeof(data), RINGBUS_SEND_MAX_NS));
}

static pid_t new_victim(void)
{
	uint64_t before = flag_get(VICTIM_JOINED);
	pid_t pid = child_start(victim_main, 0);

	flag_wait(VICTIM_JOINED, before + 1);
	return pid;
}

static void kill_some(uint64_t until)
{
	while (harness_now_ns() < until) {
		child_kill(new_victim());
		usleep(50000);
	}
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* The longest round trip in the phases of a kind, in ms; in all of them, or in all but one. */
struct longest {
	double all, but_one;
};

static struct longest longest_of(unsigned kind)
{
	struct longest longest = {0};

	for (unsigned phase = 0; phase < PHASES; phase++) {
		double ms = (double)flag_get(LONGEST + phase + 1) / 1e6;

		if (kind_of(phase) != kind)
			continue;
		if (ms > longest.all) {
			longest.but_one = longest.all;
			longest.all = ms;
		} else if (ms > longest.but_one) {
			longest.but_one = ms;
		}
	}
	return longest;
}

/* Round trips in a phase of a kind, of those in the quiet one before it; the median, in %. */
static double rate_kept(unsigned kind)
{
	double kept[ROUNDS];
	unsigned n = 0;

	for (unsigned phase = 0; phase < PHASES; phase++) {
		if (kind_of(phase) != kind)
			continue;
		assert_true(flag_get(COUNT + phase) > 0 && flag_get(COUNT + phase + 1) > 0);
		kept[n++] =
			100 * (double)flag_get(COUNT + phase + 1) / (double)flag_get(COUNT + phase);
	}
	qsort(kept, n, sizeof(kept[0]), by_value);
	return kept[n / 2];
}

static void report(void)
{
	double quiet = longest_of(ALONE).all;

	print_message("  longest round trip alone %.2f ms\n", quiet);
	for (unsigned kind = STOPPED; kind < KINDS; kind++) {
		struct longest longest = longest_of(kind);
		double kept = rate_kept(kind);

		print_message("  %s: longest %.2f ms (%.2f but for one phase), %.1f %% of the "
			      "rate\n",
			      kinds[kind], longest.all, longest.but_one, kept);
		ledger("bystander-stall-max", longest.all);
		ledger("bystander-rate-kept", kept);
		if (!harness_number("BYSTANDER_JUDGE", 0))
			continue;
		/* What the machine does to the two when they are alone is not the others' fault,
		 * nor what it does once: the others are stopped or killed in each phase. A virtual
		 * processor can be away for that long. */
		assert_true(longest.but_one <= (quiet > 10 ? quiet : 10));
		assert_true(kept >= 95);
	}
}

static void two_who_talk_are_not_held_up_by_others_who_stop_and_die(void **state)
{
	struct bus_spec spec = {.nodes = 8, .ring_bytes = 65536};
	uint64_t ns = harness_number("BYSTANDER_MS", 200) * HARNESS_MS;
	pid_t stopped, caller, echo;

	watchdog(60 + (unsigned)(PHASES * ns / HARNESS_SECOND));
	bus_serve(&spec);
	child_start(slow_main, 0);
	flag_wait(SLOW_READY, 1);
	echo = child_start(echo_main, 0);
	flag_wait(READY, 1);
	caller = child_start(caller_main, 0);
	flag_wait(READY, 2);
	stopped = new_victim();
	for (unsigned phase = 0; phase < PHASES; phase++) {
		uint64_t until = harness_now_ns() + ns;

		if (kind_of(phase) == STOPPED) {
			kill(stopped, SIGSTOP);
			child_wait_stopped(stopped);
		}
		flag_set(PHASE, phase + 1);
		if (kind_of(phase) == KILLED)
			kill_some(until);
		while (harness_now_ns() < until)
			usleep(10000);
		kill(stopped, SIGCONT);
	}
	flag_set(PHASE, OVER);
	child_join(caller);
	child_join(echo);
	report();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(two_who_talk_are_not_held_up_by_others_who_stop_and_die),
};

HARNESS_MAIN("stress_bystander", tests)

/* fuzz_bell.c: a stranger who maps the region steals wake-ups, moves sleepers elsewhere, wakes them
 * for nothing and writes into their doorbells; timers interrupt them: messages come late at most.
 *
 * BELL_ROUNDS: round trips among each of these (default 2000). HOSTILE_JUDGE=1: the processor time
 * of a sleeper who is woken for nothing, or whose doorbell is overwritten, all the time is judged.
 */
#include "harness.h"
#include "image.h"

#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>

enum { READY, STOP, STOLEN, ROUND, ATTACKING };

enum attack { FALSE_WAKES, THIEF, REQUEUE, WRITES, TIMERS, ATTACKS };

static const char *const names[] = {"woken for nothing", "wake-ups stolen", "moved elsewhere",
				    "doorbells overwritten", "timers"};

/* Attacks that cost a safety wake each time end after so many hits, or round trips. */
enum { ENOUGH_MOVED = 3, ENOUGH = 20, PING = 0, PONG = 1, ELSEWHERE = 3 };

static enum attack attack;

/* ---- the stranger ---- */

static struct layout_bell *map_bells(void)
{
	const struct layout_geometry *g = image_geometry();
	uint8_t *at = mmap(NULL, g->common_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, image_fd(),
			   (off_t)g->common_offset);

	child_check(at != MAP_FAILED);
	return (struct layout_bell *)(void *)(at + sizeof(struct layout_common));
}

static long futex(void *word, int op, uint32_t value, void *more, void *other)
{
	return syscall(SYS_futex, word, op, value, more, other, 0);
}

static void attack_once(struct layout_bell *bells, uint64_t *random)
{
	static const struct timespec moment = {0, 1000000};
	uint32_t *word = (uint32_t *)(void *)&bells[splitmix(random) % 2].inbox;
	uint32_t value = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	long n = 0;

	switch (attack) {
	case FALSE_WAKES:
		n = futex(word, FUTEX_WAKE, INT32_MAX, NULL, NULL);
		break;
	case THIEF: /* in the queue before the sleeper, and takes one wake-up */
		n = futex(word, FUTEX_WAIT, value, (void *)(uintptr_t)&moment, NULL) == 0;
		break;
	case REQUEUE:
		n = futex(word, FUTEX_REQUEUE, 0, (void *)INT32_MAX, &bells[ELSEWHERE].inbox);
		break;
	default:
		__atomic_store_n(word, (uint32_t)splitmix(random), __ATOMIC_RELEASE);
		n = 1;
	}
	if (n > 0)
		flag_add(STOLEN, (uint64_t)n);
}

static void stranger_main(uint64_t unused)
{
	struct layout_bell *bells = map_bells();
	uint64_t random = 1;

	flag_set(ATTACKING, 1);
	while (!flag_get(STOP)) {
		attack_once(bells, &random);
		if (attack == REQUEUE && flag_get(STOLEN) >= ENOUGH_MOVED)
			break;
		if (attack == WRITES && flag_get(ROUND) >= ENOUGH)
			break;
	}
}

/* ---- the two that talk ---- */

static void on_timer(int number)
{
}

static void set_timers(void)
{
	struct sigaction action = {.sa_handler = on_timer};
	struct itimerval each = {{0, 1000}, {0, 1000}};

	if (attack != TIMERS)
		return;
	child_check(sigaction(SIGALRM, &action, NULL) == 0);
	child_check(setitimer(ITIMER_REAL, &each, NULL) == 0);
}

static const struct ringbus_node_options sleepy = {
	.size = sizeof(sleepy),
	.spin_ns = RINGBUS_NO_SPIN,
};

static void expect(struct ringbus_node *node, uint64_t number)
{
	struct ringbus_message m;

	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind == RINGBUS_NOTICE);
	child_check(m.size == 8 && memcmp(m.data, &number, 8) == 0);
}

static void talk_main(uint64_t self)
{
	uint64_t rounds = harness_number("BELL_ROUNDS", 2000);
	struct ringbus_address other = {.slot = self == PING ? PONG : PING};
	struct ringbus_node *node;

	flag_wait(READY, self);
	node = child_node(&sleepy);
	flag_add(READY, 1);
	flag_wait(READY, 2);
	flag_wait(ATTACKING, 1);
	set_timers();
	for (uint64_t i = 0; i < rounds; i++) {
		if (self == PING)
			child_ok(ringbus_contact_address(node, &other, &i, 8, RINGBUS_SEND_MAX_NS));
		expect(node, i);
		if (self == PONG)
			child_ok(ringbus_contact_address(node, &other, &i, 8, RINGBUS_SEND_MAX_NS));
		if (self == PING)
			flag_set(ROUND, i + 1);
	}
	signal(SIGALRM, SIG_IGN);
	ringbus_node_close(node);
}

static const struct bus_spec spec = {.nodes = 4, .ring_bytes = 4096};

static void no_message_is_lost_to_who_meddles_with_doorbells(void **state)
{
	bus_serve(&spec);
	image_keep();
	for (unsigned kind = 0; kind < ATTACKS; kind++) {
		uint64_t begin = harness_now_ns();
		pid_t talkers[2], stranger = 0;

		watchdog(120);
		attack = (enum attack)kind;
		for (unsigned flag = READY; flag <= ATTACKING; flag++)
			flag_set(flag, 0);
		for (unsigned i = 0; i < 2; i++)
			talkers[i] = child_start(talk_main, i);
		if (kind == TIMERS)
			flag_set(ATTACKING, 1);
		else
			stranger = child_start(stranger_main, 0);
		for (unsigned i = 0; i < 2; i++)
			child_join(talkers[i]);
		flag_set(STOP, 1);
		if (stranger)
			child_join(stranger);
		print_message("  %-22s %llu hits, %llu round trips in %llu ms\n", names[kind],
			      (unsigned long long)flag_get(STOLEN),
			      (unsigned long long)flag_get(ROUND),
			      (unsigned long long)((harness_now_ns() - begin) / HARNESS_MS));
		assert_true(kind == TIMERS || flag_get(STOLEN) > 0);
		ledger("round-trips-meddled-with", (double)flag_get(ROUND));
	}
}

enum place { IN_NEXT, IN_POLL, IN_SIGNAL_WAIT, PLACES };

static const char *const places[] = {"receive", "poll()", "wait for signals"};

static void idle_main(uint64_t place)
{
	struct ringbus_node *node = child_node(&sleepy);
	struct pollfd look = {.events = POLLIN};
	struct ringbus_message m = {.kind = RINGBUS_NOTICE};
	uint64_t number;
	int r;

	if (place == IN_POLL)
		look.fd = ringbus_node_fd(node);
	flag_set(READY, 1);
	if (place == IN_NEXT)
		expect(node, 7);
	while (place == IN_POLL && m.kind == RINGBUS_NOTICE) {
		child_check(poll(&look, 1, -1) == 1);
		r = ringbus_next(node, &m, 0);
		child_check(r == 0 || r == -EAGAIN);
	}
	if (place == IN_SIGNAL_WAIT)
		child_ok(ringbus_signal_wait(node, &number, RINGBUS_FOREVER));
	ringbus_node_close(node);
}

static uint64_t processor_ns(pid_t pid)
{
	struct timespec ts;
	clockid_t clock;

	assert_int_equal(clock_getcpuclockid(pid, &clock), 0);
	assert_int_equal(clock_gettime(clock, &ts), 0);
	return (uint64_t)ts.tv_sec * HARNESS_SECOND + (uint64_t)ts.tv_nsec;
}

/* How much of a processor it takes, in percent, until something comes. */
static uint64_t idle_load(enum place place, uint64_t ns)
{
	struct ringbus_address to = {.slot = 0};
	uint64_t began, used, number = 7;
	struct ringbus_node *node;
	pid_t idle, stranger;

	for (unsigned flag = READY; flag <= ATTACKING; flag++)
		flag_set(flag, 0);
	idle = child_start(idle_main, place);
	flag_wait(READY, 1);
	node = node_open();
	stranger = child_start(stranger_main, 0);
	flag_wait(ATTACKING, 1);
	used = processor_ns(idle);
	began = harness_now_ns();
	while (harness_now_ns() - began < ns)
		pause_briefly();
	used = (processor_ns(idle) - used) * 100 / (harness_now_ns() - began);
	if (place == IN_SIGNAL_WAIT)
		ok(ringbus_signal_address(node, &to));
	else
		ok(ringbus_contact_address(node, &to, &number, 8, RINGBUS_SEND_MAX_NS));
	child_join(idle);
	flag_set(STOP, 1);
	child_join(stranger);
	node_close(node);
	return used;
}

static void who_sleeps_and_is_rung_for_nothing_hears_what_comes(void **state)
{
	static const enum attack kinds[] = {WRITES, FALSE_WAKES};
	uint64_t judged = harness_number("HOSTILE_JUDGE", 0), load[2] = {0};

	bus_serve(&spec);
	image_keep();
	for (unsigned i = 0; i < 2; i++)
		for (enum place place = 0; place < PLACES; place++) {
			uint64_t used;

			attack = kinds[i];
			used = idle_load(place, HARNESS_SECOND / (judged ? 1 : 10));
			print_message("  %s, in %s: %llu %% of a processor\n", names[attack],
				      places[place], (unsigned long long)used);
			load[i] = used > load[i] ? used : load[i];
		}
	ledger("word-overwritten-load", (double)load[0]);
	ledger("woken-for-nothing-load", (double)load[1]);
	if (judged) {
		assert_true(load[0] <= 5);
		assert_true(load[1] <= 5);
	}
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(no_message_is_lost_to_who_meddles_with_doorbells),
	BARE_TEST(who_sleeps_and_is_rung_for_nothing_hears_what_comes),
};

HARNESS_MAIN("fuzz_bell", tests)

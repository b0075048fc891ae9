/* fault_stranded.c: a sender dies between publishing a message and waking who sleeps for it; the
 * message comes all the same, at once where somebody buries the dead, else by the safety wake. That
 * one backs off while nothing comes and begins anew with what it found: so the first of a receiver
 * that was idle is not measured.
 *
 * STRANDED_ROUNDS: deaths of each test (default 20). KILLAT_JUDGE=1, on a quiet machine: the delays
 * are judged too.
 */
#include "atomic.h"
#include "harness.h"

#include <signal.h>
#include <sys/wait.h>

enum { LISTENS, TURN, TAKEN, JOINED, DIED_NS, LONGEST_NS };
enum { SENDERS_MAX = 60 };

static uint64_t rounds;

static void die_unwoken(const char *name)
{
	if (strcmp(name, "X_EMIT_UNWOKEN") != 0)
		return;
	flag_set(DIED_NS, harness_now_ns());
	raise(SIGKILL);
}

static const struct shm_hooks deadly = {.kill_point = die_unwoken};

/* Sleeps for each message; nothing but a burial, or the safety wake, can end that. */
static void receiver_main(uint64_t safety_wake)
{
	struct ringbus_node_options o = {
		.size = sizeof(o),
		.name = "receiver",
		.spin_ns = RINGBUS_NO_SPIN,
		.no_safety_wake = !safety_wake,
	};
	struct ringbus_node *node = child_node(&o);
	uint64_t late;

	for (uint64_t i = 0; i < rounds; i++) {
		struct ringbus_message m;

		flag_set(LISTENS, i + 1);
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		child_check(m.kind == RINGBUS_CONTACT && m.size == sizeof(i));
		child_check(memcmp(m.data, &i, sizeof(i)) == 0);
		late = harness_now_ns() - flag_get(DIED_NS);
		if (late > flag_get(LONGEST_NS))
			flag_set(LONGEST_NS, late);
		flag_set(TAKEN, i + 1);
	}
	ringbus_node_close(node);
}

/* Waits until the kernel shows it asleep: after LISTENS, that is in ringbus_next(). */
static void wait_asleep(pid_t pid)
{
	char path[32], text[256], *state = NULL;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	do {
		FILE *file = fopen(path, "re");

		child_check(file && fgets(text, sizeof(text), file));
		fclose(file);
		state = strrchr(text, ')');
		child_check(state);
		if (state[2] != 'S')
			pause_briefly();
	} while (state[2] != 'S');
}

static pid_t receiver;

static void sender_main(uint64_t i)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to;

	child_ok(ringbus_node_find(node, "receiver", &to));
	flag_add(JOINED, 1);
	flag_wait(TURN, i + 1);
	flag_wait(LISTENS, i + 1);
	wait_asleep(receiver);
	shm_hooks = &deadly;
	child_ok(ringbus_contact_address(node, &to, &i, sizeof(i), 0));
	child_check(!"the sender goes on after its death");
}

/* It died where it was to die, and of nothing else. */
static void collect(pid_t pid)
{
	siginfo_t info = {0};

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(info.si_code, CLD_KILLED);
	child_kill(pid);
}

static double longest_ms(void)
{
	return (double)flag_get(LONGEST_NS) / 1e6;
}

static void strand(bool with_service)
{
	struct bus_spec spec = {.nodes = SENDERS_MAX + 2};
	pid_t sender[SENDERS_MAX];

	rounds = harness_number("STRANDED_ROUNDS", 20);
	assert_in_range(rounds, 1, SENDERS_MAX);
	bus_serve(&spec);
	receiver = child_start(receiver_main, !with_service);
	flag_wait(LISTENS, 1);
	for (uint64_t i = 0; i < rounds; i++)
		sender[i] = child_start(sender_main, i);
	flag_wait(JOINED, rounds);
	if (!with_service)
		bus_kill();
	for (uint64_t i = 0; i < rounds; i++) {
		flag_set(TURN, i + 1);
		flag_wait(TAKEN, i + 1);
		if (i == 0)
			flag_set(LONGEST_NS, 0); /* it had been idle for long: see the top */
		collect(sender[i]);
	}
	child_join(receiver);
	print_message("  death to delivery: %.2f ms at most (%llu times)\n", longest_ms(),
		      (unsigned long long)rounds);
}

static void a_message_whose_sender_died_before_the_wake_comes_at_the_burial(void **state)
{
	strand(true);
	ledger("stranded-max", longest_ms());
	if (harness_number("KILLAT_JUDGE", 0))
		assert_true(longest_ms() <= 50);
}

static void without_a_service_it_comes_by_the_safety_wake(void **state)
{
	strand(false);
	ledger("stranded-no-service-max", longest_ms());
	if (harness_number("KILLAT_JUDGE", 0))
		assert_true(longest_ms() <= 150);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_message_whose_sender_died_before_the_wake_comes_at_the_burial),
	BARE_TEST(without_a_service_it_comes_by_the_safety_wake),
};

HARNESS_MAIN("fault_stranded", tests)

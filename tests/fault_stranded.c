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
#include "node.h"

#include <poll.h>
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

enum { SAFETY_WAKE = 1, BY_DESCRIPTOR = 2 };

static void copy(const struct ringbus_message *m, void *user)
{
	child_check(m->kind == RINGBUS_CONTACT && m->size == sizeof(uint64_t));
	memcpy(user, m->data, sizeof(uint64_t));
}

/* The number that the next message brings. */
static uint64_t sleep_for_one(struct ringbus_node *node, int fd)
{
	uint64_t number = UINT64_MAX;
	struct ringbus_message m;

	if (fd < 0) {
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		copy(&m, &number);
		return number;
	}
	child_ok(ringbus_on_contact(node, copy, &number));
	while (number == UINT64_MAX) {
		child_check(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1) == 1);
		child_ok(ringbus_poll(node, 0));
	}
	return number;
}

/* Sleeps for each message; nothing but a burial, or the safety wake, can end that. */
static void receiver_main(uint64_t how)
{
	struct ringbus_node_options o = {
		.size = sizeof(o),
		.name = "receiver",
		.spin_ns = RINGBUS_NO_SPIN,
		.no_safety_wake = !(how & SAFETY_WAKE),
	};
	struct ringbus_node *node = child_node(&o);
	int fd = how & BY_DESCRIPTOR ? child_ok(ringbus_node_fd(node)) : -1;
	uint64_t late;

	for (uint64_t i = 0; i < rounds; i++) {
		flag_set(LISTENS, i + 1);
		child_check(sleep_for_one(node, fd) == i);
		late = harness_now_ns() - flag_get(DIED_NS);
		if (late > flag_get(LONGEST_NS))
			flag_set(LONGEST_NS, late);
		flag_set(TAKEN, i + 1);
	}
	ringbus_node_close(node);
}

/* Waits until the kernel shows it asleep: after LISTENS, that is for the message. */
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
	child_ok(ringbus_contact_address(node, &to, &i, sizeof(i), 10 * HARNESS_SECOND));
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

static void strand(bool with_service, uint64_t how)
{
	struct bus_spec spec = {.nodes = SENDERS_MAX + 2};
	pid_t sender[SENDERS_MAX];

	rounds = harness_number("STRANDED_ROUNDS", 20);
	assert_in_range(rounds, 1, SENDERS_MAX);
	bus_serve(&spec);
	receiver = child_start(receiver_main, how | (with_service ? 0 : SAFETY_WAKE));
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
	strand(true, 0);
	ledger("stranded-max", longest_ms());
	if (harness_number("KILLAT_JUDGE", 0))
		assert_true(longest_ms() <= 50);
}

static void without_a_service_it_comes_by_the_safety_wake(void **state)
{
	strand(false, 0);
	ledger("stranded-no-service-max", longest_ms());
	if (harness_number("KILLAT_JUDGE", 0))
		assert_true(longest_ms() <= 150);
}

static void who_waits_by_descriptor_gets_it_at_the_burial_too(void **state)
{
	strand(true, BY_DESCRIPTOR);
	ledger("stranded-max", longest_ms());
}

static void without_a_service_the_descriptor_becomes_readable_for_safety(void **state)
{
	strand(false, BY_DESCRIPTOR); /* the helper may have to end a longer wait first */
}

static unsigned changes_told(const struct ringbus_node *node)
{
	return (unsigned)atomic_load(&node->region->common->control_epoch.v);
}

/* As by one who was killed after the mark, while somebody stopped holds the control lock. */
static void an_end_that_is_only_marked_is_told_without_the_control_lock(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};
	struct ringbus_node *watcher = node_open_with(&o), *sender = node_open();
	struct ringbus_node *dead = node_open();
	uint64_t word = own_load(&dead->live_word);
	struct ringbus_message m;
	struct control c;
	unsigned told;
	int r;

	do
		ok(ringbus_next(watcher, &m, RINGBUS_FOREVER));
	while (m.sender.slot != dead->slot);
	ok(control_lock(&c, sender->region, rb_deadline_ns(RB_SECOND)));
	assert_true(shm_cas(&dead->bell->slot, &word,
			    slot_word(dead->generation, dead->pid, SLOT_DEAD)));
	told = changes_told(sender);
	for (unsigned i = 0; i < 3; i++) {
		own_store(&sender->checked_ns[dead->slot], 0);
		node_suspect(sender, dead->slot);
	}
	told = changes_told(sender) - told;
	r = ringbus_next(watcher, &m, 0);
	control_unlock(&c);
	assert_int_equal(r, 0);
	assert_int_equal(m.notice, RINGBUS_PEER_DIED);
	assert_int_equal(m.sender.slot, dead->slot);
	assert_in_range(told, 1, 2); /* the service may have told of it too */
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_message_whose_sender_died_before_the_wake_comes_at_the_burial),
	BARE_TEST(without_a_service_it_comes_by_the_safety_wake),
	BARE_TEST(who_waits_by_descriptor_gets_it_at_the_burial_too),
	BARE_TEST(without_a_service_the_descriptor_becomes_readable_for_safety),
	BUS_TEST(an_end_that_is_only_marked_is_told_without_the_control_lock),
};

HARNESS_MAIN("fault_stranded", tests)

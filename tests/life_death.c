/* life_death.c: ends other than a kill in the middle: process ids used again at once, a whole bus
 * killed at once, exit() in a handler: nobody is mistaken for another, and every slot becomes free.
 *
 * PIDREUSE_ROUNDS (1000), GROUP_ROUNDS (30): lengths. HOSTILE_JUDGE=1: restarts are timed.
 */
#include "life.h"

#include "ringbus-inspect.h"

#include <dirent.h>
#include <linux/sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { READY, GO, LEADER, SENT, KEEPER = 16, VICTIM = 20 };

/* ---- process ids used again ---- */

/* Sends, so that the keeper is told of its end however short it was there. */
static void owner_main(uint64_t unused)
{
	struct ringbus_address keeper = {.slot = (uint32_t)flag_get(KEEPER)};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_contact_address(node, &keeper, "me", 2, 0));
	child_ok(ringbus_event_create(&event, node, "mine", NULL));
	note_address(VICTIM, node);
	for (;;)
		pause();
}

/* A process that has nothing to do with the bus. */
static void innocent_main(uint64_t unused)
{
	flag_wait(GO, 1);
}

/* One that joins, under the id of the dead. */
static void heir_main(uint64_t unused)
{
	struct ringbus_address keeper = {.slot = (uint32_t)flag_get(KEEPER)};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_message m;

	note_address(READY, node);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind == RINGBUS_NOTICE);
	child_check(m.size == 3 && memcmp(m.data, "you", 3) == 0);
	child_ok(ringbus_contact_address(node, &keeper, "me", 2, RINGBUS_SEND_MAX_NS));
	ringbus_node_close(node);
}

static pid_t start_as(pid_t pid, child_fn fn)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = 1,
	};
	long rc;

	fflush(NULL);
	rc = syscall(SYS_clone3, &args, sizeof(args));
	if (rc == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		fn(0);
		_exit(0);
	}
	return rc < 0 ? -errno : (pid_t)rc;
}

static void join_stranger(pid_t pid)
{
	int status = -1;

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* An id is used again while nobody has buried its owner; false: somebody else was faster. */
static bool reuse_once(struct ringbus_node *node, bool joins)
{
	pid_t victim, heir;
	uint64_t who;

	for (unsigned flag = READY; flag <= SENT; flag++)
		flag_set(flag, 0);
	flag_set(VICTIM, 0);
	victim = child_start(owner_main, 0);
	flag_wait(VICTIM, 1);
	who = flag_get(VICTIM) - 1;
	kill(bus_service_pid(), SIGSTOP);
	child_wait_stopped(bus_service_pid());
	child_kill(victim);
	heir = start_as(victim, joins ? heir_main : innocent_main);
	if (heir < 0) {
		kill(bus_service_pid(), SIGCONT);
		assert_int_equal(heir, -EEXIST);
		assert_int_equal(await_end(node, who), RINGBUS_PEER_DIED);
		return false;
	}
	assert_int_equal(heir, victim);
	if (!joins) {
		/* the library buries the owner: no process of that id is on the bus */
		struct ringbus_event *event;

		/* each look at the owner's life is a millisecond after the last */
		while (ringbus_event_create(&event, node, "mine", NULL) == -EEXIST)
			pause_briefly();
		fails(ringbus_contact(node, (uint32_t)heir, "you", 3, 0), -ESRCH);
		kill(bus_service_pid(), SIGCONT);
		ok(ringbus_event_dissolve(event));
		assert_int_equal(await_end(node, who), RINGBUS_PEER_DIED);
		flag_set(GO, 1);
		join_stranger(heir);
		return true;
	}
	kill(bus_service_pid(), SIGCONT);
	flag_wait(READY, 1);
	assert_int_equal(await_end(node, who), RINGBUS_PEER_DIED);
	ok(ringbus_contact(node, (uint32_t)heir, "you", 3, RINGBUS_SEND_MAX_NS));
	assert_int_equal(await_end(node, flag_get(READY) - 1), RINGBUS_PEER_LEFT);
	join_stranger(heir);
	return true;
}

static void a_process_id_used_again_is_of_another_process(void **state)
{
	uint64_t rounds = harness_number("PIDREUSE_ROUNDS", 1000), done = 0;
	struct bus_spec spec = {.nodes = 4};
	struct ringbus_node *node;
	pid_t pid = (pid_t)dead_pid();

	pid = start_as(pid, innocent_main);
	if (pid == -EPERM || pid == -ENOSYS) {
		print_message("SKIPPED: this user may not choose process ids\n");
		skip();
	}
	flag_set(GO, 1);
	if (pid > 0)
		join_stranger(pid);
	bus_serve(&spec);
	node = node_open_with(&told);
	flag_set(KEEPER, node_address(node).slot);
	for (uint64_t i = 0; i < rounds; i++) {
		watchdog(60);
		done += reuse_once(node, i % 2);
	}
	assert_true(done > rounds / 2);
	ledger("pids-used-again", (double)done);
}

/* ---- all at once ---- */

static void join_group(void)
{
	if (flag_get(LEADER) == 0)
		flag_set(LEADER, (uint64_t)getpid());
	child_check(setpgid(0, (pid_t)flag_get(LEADER)) == 0);
}

static void crowd_main(uint64_t index)
{
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = RINGBUS_MULTI_EMISSION,
					  .receive = true};
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_message m;
	uint8_t data[3000];

	join_group();
	flag_add(GO, 1);
	flag_wait(GO, index + 1);
	node = child_node(NULL);
	if (ringbus_event_create(&event, node, "load", &o) < 0)
		child_ok(ringbus_subscribe(&event, node, "load", NULL));
	flag_add(READY, 1);
	for (uint64_t i = 0;; i++) {
		size_t size = i % 50 ? 40 : sizeof(data);

		payload_fill(data, size, 1, i);
		if (ringbus_emit(event, data, size, 0) >= 0)
			flag_add(SENT, 1);
		while (ringbus_next(node, &m, 0) == 0)
			child_check(m.kind == RINGBUS_NOTICE || m.size == 40 ||
				    m.size == sizeof(data));
	}
}

static void only_files_of_the_bus(void)
{
	DIR *dir = opendir(bus_directory());
	struct dirent *entry;
	unsigned n = 0;

	while ((entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	closedir(dir);
	assert_in_range(n, 2, 3); /* PORT.bus, PORT.live, PORT.lock */
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* From the kill until a message of a new bus has arrived; ns. */
static uint64_t kill_all_and_begin_anew(uint64_t dice)
{
	enum { CROWD = 4 };
	struct ringbus_node *a, *b;
	pid_t pids[CROWD], service;
	struct ringbus_address to;
	uint64_t begin;

	for (unsigned flag = READY; flag <= SENT; flag++)
		flag_set(flag, 0);
	for (unsigned i = 0; i < CROWD; i++) {
		pids[i] = child_start(crowd_main, i);
		flag_wait(GO, i + 1);
	}
	flag_wait(READY, CROWD);
	flag_wait(SENT, dice % 2000);
	service = bus_service_pid();
	begin = harness_now_ns();
	/* any order, nothing in between */
	if (dice >> 32 & 1)
		kill(service, SIGKILL);
	kill(-(pid_t)flag_get(LEADER), SIGKILL);
	bus_kill();
	for (unsigned i = 0; i < CROWD; i++)
		child_kill(pids[i]);
	bus_serve(NULL);
	a = node_open();
	b = node_open();
	to = node_address(b);
	ok(ringbus_contact_address(a, &to, "new", 3, 0));
	pull_text(b, "new");
	begin = harness_now_ns() - begin;
	only_files_of_the_bus();
	bus_check();
	node_close(a);
	node_close(b);
	return begin;
}

static void a_bus_killed_as_a_whole_begins_anew_by_itself(void **state)
{
	uint64_t rounds = harness_number("GROUP_ROUNDS", 30), dice = 1;
	uint64_t *times = calloc(rounds, sizeof(*times));

	for (uint64_t i = 0; i < rounds; i++) {
		watchdog(60);
		times[i] = kill_all_and_begin_anew(splitmix(&dice));
	}
	qsort(times, rounds, sizeof(times[0]), by_size);
	print_message("  new bus and first message after %.1f ms, %.1f at most\n",
		      (double)times[rounds / 2] / 1e6, (double)times[rounds - 1] / 1e6);
	ledger("groups-killed", (double)rounds);
	ledger("restart-median", (double)times[rounds / 2] / 1e6);
	if (harness_number("HOSTILE_JUDGE", 0))
		assert_true(times[rounds / 2] <= 100 * HARNESS_MS);
	free(times);
}

/* ---- exit() ---- */

static struct ringbus_node *mine;

static void close_mine(void)
{
	ringbus_node_close(mine);
}

static void leave_program(const struct ringbus_message *m, void *user)
{
	exit(0);
}

static void do_nothing(const struct ringbus_message *m, void *user)
{
	flag_add(SENT, 1);
}

enum exit_way { IN_THE_THREAD, IN_POLL, BESIDE_THE_THREAD, WITHOUT_CLOSE, WAYS };

static void exit_main(uint64_t way)
{
	mine = child_node(NULL);
	if (way != WITHOUT_CLOSE)
		child_check(atexit(close_mine) == 0);
	if (way == IN_POLL)
		child_ok(ringbus_on_contact(mine, leave_program, NULL));
	else
		child_ok(ringbus_listen(mine, way == BESIDE_THE_THREAD ? do_nothing : leave_program,
					NULL));
	note_address(VICTIM, mine);
	while (way == IN_POLL) {
		ringbus_wait(mine, RINGBUS_FOREVER);
		ringbus_poll(mine, 0);
	}
	if (way == BESIDE_THE_THREAD) {
		flag_wait(SENT, 1);
		exit(0);
	}
	for (;;)
		pause();
}

static void exit_at_any_place_ends_a_membership_once(void **state)
{
	struct ringbus_node *node = node_open_with(&told);

	for (unsigned i = 0; i < 10 * WAYS; i++) {
		enum ringbus_notice end;
		struct ringbus_message m;
		uint64_t who;
		pid_t pid;
		int rc;

		flag_set(VICTIM, 0);
		flag_set(SENT, 0);
		pid = child_start(exit_main, i % WAYS);
		flag_wait(VICTIM, 1);
		who = flag_get(VICTIM) - 1;
		ok(ringbus_contact(node, (uint32_t)pid, "go", 2, 0));
		/* it may be gone in the middle of this */
		for (unsigned k = 0; k < 100; k++) {
			rc = ringbus_contact(node, (uint32_t)pid, "on", 2, 0);
			assert_true(rc == 0 || rc == -ESRCH || rc == -EAGAIN);
		}
		end = await_end(node, who);
		if (i % WAYS == BESIDE_THE_THREAD)
			assert_int_equal(end, RINGBUS_PEER_LEFT);
		child_join(pid);
		while (ringbus_next(node, &m, 0) == 0)
			assert_false(m.kind == RINGBUS_NOTICE && packed(&m.sender) == who);
	}
}

/* ---- memory ---- */

enum { LENT_BYTES = 1 << 20, LENT = 8 };

static void lend_to_both(uint64_t to)
{
	struct ringbus_node *node = child_node(NULL);
	char *payload = calloc(1, LENT_BYTES);

	for (unsigned i = 0; i < LENT; i++) {
		struct ringbus_address address = {.slot = (uint32_t)(i % 2 ? to >> 32 : to)};

		child_ok(ringbus_contact_address(node, &address, payload, LENT_BYTES, 0));
	}
	note_address(VICTIM, node);
	for (;;)
		pause();
}

static bool is_free(uint32_t slot)
{
	struct ringbus_inspect_node node;
	struct ringbus_inspect *inspect;

	ok(ringbus_inspect_open(&inspect, bus_port(), bus_directory()));
	ok(ringbus_inspect_slot(inspect, slot, &node));
	ringbus_inspect_close(inspect);
	return strcmp(ringbus_inspect_slot_state(node.state), "free") == 0;
}

static uint64_t file_bytes(void)
{
	const char *path = bus_file();
	struct stat st;

	ok(stat(path, &st));
	return (uint64_t)st.st_blocks * 512;
}

static void memory_of_the_dead_goes_back_when_the_last_has_read_it(void **state)
{
	struct ringbus_node *first = node_open_with(&told), *last = node_open_with(&told);
	uint64_t before = file_bytes(), who;
	pid_t pid = child_start(lend_to_both,
				(uint64_t)node_address(last).slot << 32 | node_address(first).slot);
	struct ringbus_message m;

	flag_wait(VICTIM, 1);
	who = flag_get(VICTIM) - 1;
	child_kill(pid);
	while (!is_free((uint32_t)(who >> 32)))
		pause_briefly();
	assert_in_range(file_bytes(), before + LENT * LENT_BYTES, UINT64_MAX);
	for (unsigned i = 0; i < LENT / 2; i++)
		pull(first, &m);
	await_end(first, who);
	assert_in_range(file_bytes(), before + LENT / 2 * LENT_BYTES, UINT64_MAX);
	for (unsigned i = 0; i < LENT / 2; i++)
		pull(last, &m);
	await_end(last, who);
	/* two rings are left */
	assert_in_range(file_bytes(), 0, before + LENT_BYTES);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_process_id_used_again_is_of_another_process),
	BUS_TEST(a_bus_killed_as_a_whole_begins_anew_by_itself),
	BUS_TEST(exit_at_any_place_ends_a_membership_once),
	BUS_TEST(memory_of_the_dead_goes_back_when_the_last_has_read_it),
};

HARNESS_MAIN("life_death", tests)

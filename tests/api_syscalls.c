/* api_syscalls.c: messages between processes that are awake cost no system call.
 *
 * Sender and receiver take turns in batches that fit a ring, told apart by words that they share,
 * so that neither ever waits in the library: what is counted does not depend on time. ptrace(2)
 * counts what each of them asks of the kernel meanwhile. Under valgrind it would count valgrind's.
 */
#include "harness.h"

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum flag { READY, GO, SENT, TAKEN, OVER, TIMED /* of each side: 1 counts, 2 is over */ };
enum side { SENDER, RECEIVER };

static struct {
	uint64_t messages;
	uint64_t batch;
	size_t size;
	bool planted; /* a call per message, which must be seen */
} work;

/* Looks without a call, which would be counted. */
static void spin_until(enum flag flag, uint64_t at_least)
{
	while (flag_get(flag) < at_least)
		;
}

static void plant(void)
{
	if (work.planted)
		syscall(SYS_getppid);
}

static void send_all(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	char *payload = calloc(1, work.size);

	child_check(payload);
	child_ok(ringbus_event_create(&event, node, "news", NULL));
	child_ok(ringbus_event_wait_subscribers(event, 1, 50 * HARNESS_SECOND));
	child_ok(ringbus_emit(event, payload, work.size, 0)); /* opens what is to be opened */
	spin_until(TAKEN, 1);
	flag_add(READY, 1);
	flag_wait(GO, 1);
	flag_set(TIMED + SENDER, 1);
	for (uint64_t i = 0; i < work.messages; i++) {
		child_ok(ringbus_emit(event, payload, work.size, 0));
		plant();
		if ((i + 1) % work.batch == 0) {
			flag_set(SENT, i + 1);
			spin_until(TAKEN, i + 2);
		}
	}
	flag_set(TIMED + SENDER, 2);
	flag_wait(OVER, 1);
	ringbus_node_close(node);
	free(payload);
}

static void receive_all(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	struct ringbus_message m;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	do
		child_ok(ringbus_next(node, &m, 50 * HARNESS_SECOND));
	while (m.kind != RINGBUS_EVENT);
	flag_set(TAKEN, 1);
	flag_add(READY, 1);
	flag_wait(GO, 1);
	flag_set(TIMED + RECEIVER, 1);
	for (uint64_t i = 0; i < work.messages; i++) {
		if (i % work.batch == 0)
			spin_until(SENT, i + work.batch);
		do
			child_ok(ringbus_next(node, &m, 0));
		while (m.kind == RINGBUS_NOTICE);
		child_check(m.kind == RINGBUS_EVENT && m.size == work.size);
		plant();
		if ((i + 1) % work.batch == 0)
			flag_set(TAKEN, i + 2);
	}
	flag_set(TIMED + RECEIVER, 2);
	flag_wait(OVER, 1);
	ringbus_node_close(node);
}

/* One stop of a child. False: it is let go, its part is over. */
static bool traced(pid_t pid, int status, enum side side, uint64_t *calls)
{
	struct __ptrace_syscall_info info = {0};
	int number = WSTOPSIG(status);
	uint64_t part = flag_get(TIMED + side);

	if (part == 2)
		return ptrace(PTRACE_DETACH, pid, NULL, NULL) != 0;
	if (number == (SIGTRAP | 0x80)) {
		if (part == 1 &&
		    ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void *)sizeof(info), &info) > 0)
			*calls += info.op == PTRACE_SYSCALL_INFO_ENTRY;
		number = 0;
	} else if (status >> 16) {
		number = 0; /* of the tracing itself */
	}
	assert_int_equal(ptrace(PTRACE_SYSCALL, pid, NULL, (void *)(intptr_t)number), 0);
	return true;
}

/* Lets both do their work; calls of each while it was timed. False: the system allows no tracing.
 */
static bool count_calls(uint64_t calls[2])
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL;
	pid_t pids[] = {child_start(send_all, 0), child_start(receive_all, 0)};
	unsigned left = 2;

	flag_wait(READY, 2);
	for (int i = 0; i < 2; i++) {
		if (ptrace(PTRACE_SEIZE, pids[i], NULL, (void *)options) != 0) {
			child_kill(pids[0]);
			child_kill(pids[1]);
			return false;
		}
		assert_int_equal(ptrace(PTRACE_INTERRUPT, pids[i], NULL, NULL), 0);
	}
	flag_set(GO, 1);
	while (left > 0) {
		int status;
		pid_t pid = waitpid(-1, &status, __WALL);
		enum side side = pid == pids[SENDER] ? SENDER : RECEIVER;

		assert_true(pid == pids[side] && WIFSTOPPED(status));
		left -= !traced(pid, status, side, &calls[side]);
	}
	flag_set(OVER, 1);
	child_join_all();
	return true;
}

static void count_of(uint64_t messages, uint64_t batch, size_t size, bool planted,
		     uint64_t calls[2])
{
	work.messages = messages;
	work.batch = batch;
	work.size = size;
	work.planted = planted;
	calls[SENDER] = calls[RECEIVER] = 0;
	watchdog(300);
	if (!count_calls(calls))
		skip();
	printf("%llu messages of %zu bytes: %llu calls sending, %llu receiving\n",
	       (unsigned long long)messages, size, (unsigned long long)calls[SENDER],
	       (unsigned long long)calls[RECEIVER]);
}

static void messages_between_processes_that_are_awake_make_no_system_call(void **state)
{
	uint64_t calls[2];

	count_of(200000, 2000, 8, false, calls);
	ledger("calls-when-awake",
	       (double)((calls[SENDER] + calls[RECEIVER]) * 1000 / work.messages));
	assert_true(calls[SENDER] * 20 < work.messages);
	assert_true(calls[RECEIVER] * 20 < work.messages);
}

static void messages_in_payload_memory_make_no_system_call_either(void **state)
{
	uint64_t calls[2];

	count_of(20000, 4, 20000, false, calls);
	assert_true(calls[SENDER] * 20 < work.messages);
	assert_true(calls[RECEIVER] * 20 < work.messages);
}

static void a_system_call_per_message_would_be_seen(void **state)
{
	uint64_t calls[2];

	count_of(2000, 1000, 8, true, calls);
	assert_true(calls[SENDER] >= work.messages);
	assert_true(calls[RECEIVER] >= work.messages);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(messages_between_processes_that_are_awake_make_no_system_call),
	BUS_TEST(messages_in_payload_memory_make_no_system_call_either),
	BUS_TEST(a_system_call_per_message_would_be_seen),
};

HARNESS_MAIN("api_syscalls", tests)

/* api_threads.c: what one thread, or one process, does on a node while another is in a call on it:
 * waiting senders, kept messages, notices that are ready, ends in between.
 */
#include "harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

enum { READY, DONE, RESULT };

static const struct ringbus_node_options told = {.size = sizeof(told),
						 .peer_notices = true,
						 .no_safety_wake = true};

static void fill_ring(struct ringbus_node *from, const struct ringbus_address *to)
{
	static const char block[4000];
	int rc;

	while ((rc = ringbus_contact_address(from, to, block, sizeof(block), 0)) == 0)
		;
	fails(rc, -EAGAIN);
	while ((rc = ringbus_contact_address(from, to, block, 1, 0)) == 0)
		;
	fails(rc, -EAGAIN);
}

static void pull_all(struct ringbus_node *node)
{
	struct ringbus_message m;

	while (ringbus_next(node, &m, 0) == 0)
		;
}

/* ---- a message by process id is for this process alone ---- */

static void named_sender(uint64_t victim)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to;
	int rc;

	child_ok(ringbus_node_find_pid(node, (uint32_t)victim, &to));
	while ((rc = ringbus_contact(node, (uint32_t)victim, "x", 1, 0)) == 0)
		;
	child_check(rc == -EAGAIN);
	flag_set(READY, to.slot + 1);
	rc = ringbus_contact(node, (uint32_t)victim, "for the victim", 14, 30 * HARNESS_SECOND);
	flag_set(RESULT, (uint64_t)-rc);
}

static void silent(uint64_t unused)
{
	(void)unused;
	child_node(NULL);
	flag_set(DONE, 1);
	for (;;)
		pause();
}

/* Whether a process sleeps, as one in a wait does. */
static bool sleeps(pid_t pid)
{
	char path[32], line[256] = "";
	FILE *f;
	char *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	f = fopen(path, "r");
	assert_non_null(f);
	assert_non_null(fgets(line, sizeof(line), f));
	fclose(f);
	state = strrchr(line, ')');
	assert_non_null(state);
	return state[2] == 'S';
}

static void a_contact_that_waits_is_not_for_the_next_owner_of_the_slot(void **state)
{
	struct ringbus_node *heir = NULL, *kept = node_open();
	struct ringbus_message m;
	pid_t victim, sender;

	(void)kept;
	victim = child_start(silent, 0);
	flag_wait(DONE, 1);
	sender = child_start(named_sender, (uint64_t)victim);
	flag_wait(READY, 1);
	while (!sleeps(sender))
		pause_briefly();
	kill(sender, SIGSTOP);
	child_wait_stopped(sender);
	child_kill(victim);
	do { /* until it is buried: the lowest free slot is the victim's */
		if (heir)
			node_close(heir);
		heir = node_open();
	} while (node_address(heir).slot != flag_get(READY) - 1);
	kill(sender, SIGCONT);
	child_join(sender);
	assert_int_equal(flag_get(RESULT), ESRCH);
	while (ringbus_next(heir, &m, 0) == 0)
		assert_int_equal(m.kind, RINGBUS_NOTICE);
}

/* ---- who waits for one receiver does not hold up who waits for another ---- */

struct waiter {
	struct ringbus_node *node;
	struct ringbus_address to;
	uint64_t timeout_ns;
	int rc;
	pid_t thread;
};

static void *send_one(void *argument)
{
	struct waiter *w = argument;

	__atomic_store_n(&w->thread, (pid_t)syscall(SYS_gettid), __ATOMIC_SEQ_CST);
	w->rc = ringbus_contact_address(w->node, &w->to, "x", 1, w->timeout_ns);
	return NULL;
}

static void start_waiting(pthread_t *thread, struct waiter *w)
{
	pid_t id;

	assert_int_equal(pthread_create(thread, NULL, send_one, w), 0);
	while ((id = __atomic_load_n(&w->thread, __ATOMIC_SEQ_CST)) == 0 || !sleeps(id))
		pause_briefly();
}

static void a_waiting_sender_holds_up_no_thread_that_sends_elsewhere(void **state)
{
	struct ringbus_node *full = node_open(), *freed = node_open(), *sender = node_open();
	struct waiter first = {sender, node_address(full), RINGBUS_SEND_MAX_NS, 1, 0};
	struct waiter second = {sender, node_address(freed), RINGBUS_SEND_MAX_NS, 1, 0};
	pthread_t threads[2];

	fill_ring(sender, &first.to);
	fill_ring(sender, &second.to);
	start_waiting(&threads[0], &first);
	start_waiting(&threads[1], &second);
	pull_all(freed);
	pthread_join(threads[1], NULL); /* or the watchdog */
	ok(second.rc);
	pull_all(full);
	pthread_join(threads[0], NULL);
	ok(first.rc);
}

static void an_interrupt_reaches_each_thread_that_waits_for_room(void **state)
{
	struct ringbus_node *full = node_open(), *sender = node_open();
	struct waiter w[2] = {{sender, node_address(full), RINGBUS_SEND_MAX_NS, 1, 0},
			      {sender, node_address(full), RINGBUS_SEND_MAX_NS, 1, 0}};
	pthread_t threads[2];

	fill_ring(sender, &w[0].to);
	for (unsigned i = 0; i < 2; i++)
		start_waiting(&threads[i], &w[i]);
	ringbus_node_interrupt(sender, true);
	for (unsigned i = 0; i < 2; i++) {
		pthread_join(threads[i], NULL);
		fails(w[i].rc, -EINTR);
	}
}

/* ---- receiving ---- */

static void a_message_too_large_for_its_buffer_stays_whatever_is_called_next(void **state)
{
	struct ringbus_node *from = node_open(), *to = node_open();
	struct ringbus_address address = node_address(to);
	struct ringbus_message m;
	char buffer[64];
	int rc;

	ok(ringbus_contact_address(from, &address, "a long first message", 20, 0));
	ok(ringbus_contact_address(from, &address, "second", 6, 0));
	for (unsigned turn = 0; turn < 3; turn++) {
		while ((rc = ringbus_receive(to, buffer, 8, &m, HARNESS_SECOND)) == 0)
			assert_int_equal(m.kind, RINGBUS_NOTICE);
		fails(rc, -EMSGSIZE);
		ok(ringbus_wait(to, HARNESS_SECOND));
	}
	pull_text(to, "a long first message");
	pull_text(to, "second");
	assert_int_equal(node_stats(to).received, 2);
	assert_int_equal(node_stats(to).received_bytes, 26);
}

static void keeps_what_did_not_fit(size_t size)
{
	struct ringbus_node *from = node_open(), *to = node_open();
	struct ringbus_address address = node_address(to);
	char *data = calloc(1, size), *buffer = calloc(1, size);
	struct ringbus_borrow *borrow;
	struct ringbus_message m;
	size_t kept;
	int rc;

	payload_fill(data, size, 1, 1);
	ok(ringbus_contact_address(from, &address, data, size, 0));
	while ((rc = ringbus_receive(to, buffer, 3, &m, HARNESS_SECOND)) == 0)
		assert_int_equal(m.kind, RINGBUS_NOTICE);
	fails(rc, -EMSGSIZE);
	assert_int_equal(m.size, size);
	ok(ringbus_borrow(&m, &borrow));
	ok(ringbus_receive(to, buffer, size, &m, 0));
	assert_memory_equal(buffer, data, size);
	assert_memory_equal(ringbus_borrow_data(borrow, &kept), data, size);
	assert_int_equal(kept, size);
	ringbus_release(borrow);
	node_close(from);
	node_close(to);
	free(data);
	free(buffer);
}

static void a_message_too_large_for_its_buffer_can_be_borrowed(void **state)
{
	keeps_what_did_not_fit(100); /* in the ring */
	keeps_what_did_not_fit(100000);
}

static uint64_t mismatches, taken;
static char args[2];

static void of_one(const struct ringbus_message *m, void *user)
{
	mismatches += user != &args[0];
	taken++;
}

static void of_another(const struct ringbus_message *m, void *user)
{
	mismatches += user != &args[1];
	taken++;
}

static void *change_handlers(void *arg)
{
	struct ringbus_node *node = arg;

	while (flag_get(DONE) == 0) {
		if (ringbus_on_contact(node, of_one, &args[0]) < 0 ||
		    ringbus_on_contact(node, of_another, &args[1]) < 0)
			flag_set(RESULT, 1);
		flag_set(READY, 1);
	}
	return NULL;
}

static void a_handler_of_contacts_gets_its_own_argument(void **state)
{
	struct ringbus_node *from = node_open(), *to = node_open();
	struct ringbus_address address = node_address(to);
	pthread_t thread;

	mismatches = taken = 0;
	assert_int_equal(pthread_create(&thread, NULL, change_handlers, to), 0);
	flag_wait(READY, 1);
	while (taken < 200000) {
		for (unsigned i = 0; i < 100; i++)
			ok(ringbus_contact_address(from, &address, "x", 1, 0));
		ok(ringbus_poll(to, 0));
	}
	flag_set(DONE, 1);
	pthread_join(thread, NULL);
	assert_int_equal(mismatches, 0);
	assert_int_equal(flag_get(RESULT), 0);
}

static void waiting_ends_at_once_while_a_notice_is_ready(void **state)
{
	struct ringbus_node *node = node_open_with(&told);
	struct ringbus_message m;

	pull_all(node);
	for (unsigned i = 0; i < 3; i++)
		node_open();
	for (unsigned i = 0; i < 3; i++) {
		ok(ringbus_wait(node, RINGBUS_FOREVER)); /* or the watchdog */
		ok(ringbus_next(node, &m, 0));
		assert_int_equal(m.notice, RINGBUS_PEER_JOINED);
	}
	fails(ringbus_next(node, &m, 0), -EAGAIN);
	fails(ringbus_wait(node, HARNESS_MS), -ETIMEDOUT);
}

static unsigned calls;

static void close_at_once(const struct ringbus_message *m, void *user)
{
	(void)user;
	calls++;
	ringbus_node_close(m->node);
}

static void no_handler_runs_after_one_that_closed_its_node(void **state)
{
	struct ringbus_node_options options = told;
	struct ringbus_node *node;

	options.port = bus_port();
	options.on_notice = close_at_once;
	ok(ringbus_node_open(&node, &options));
	for (unsigned i = 0; i < 3; i++)
		node_open();
	calls = 0;
	ringbus_poll(node, 0);
	assert_int_equal(calls, 1);
}

static uint64_t signals;

static void count_signals(uint64_t count, void *user)
{
	(void)user;
	__atomic_add_fetch(&signals, count, __ATOMIC_SEQ_CST);
}

static void ignore(const struct ringbus_message *m, void *user)
{
	(void)m;
	(void)user;
}

static void a_signal_from_before_its_handler_is_given_to_a_listener_that_sleeps(void **state)
{
	struct ringbus_node *node = node_open_with(&told), *from = node_open();
	struct ringbus_address to = node_address(node);
	uint64_t sleeps_before;

	signals = 0;
	ok(ringbus_listen(node, ignore, NULL));
	while (node_stats(node).sleeps == 0)
		pause_briefly();
	sleeps_before = node_stats(node).sleeps;
	ok(ringbus_signal_address(from, &to));
	/* woken for nothing, it sleeps again */
	while (node_stats(node).sleeps == sleeps_before)
		pause_briefly();
	ok(ringbus_on_signal(node, count_signals, NULL));
	while (__atomic_load_n(&signals, __ATOMIC_SEQ_CST) == 0)
		pause_briefly();
	assert_int_equal(signals, 1);
}

/* ---- waiting for signals beside others ---- */

static struct ringbus_node *of_both;
static uint64_t wanted_signals, got_signals;

static void *take_signals(void *unused)
{
	static char what[] = "ringbus_signal_wait";
	uint64_t n;

	while (__atomic_load_n(&got_signals, __ATOMIC_SEQ_CST) < wanted_signals) {
		if (ringbus_signal_wait(of_both, &n, RINGBUS_FOREVER) < 0)
			return what;
		__atomic_add_fetch(&got_signals, n, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void count_one(const struct ringbus_message *m, void *user)
{
	if (m->kind == RINGBUS_CONTACT)
		__atomic_add_fetch((unsigned *)user, 1, __ATOMIC_SEQ_CST);
}

/* Signals and contacts by turns; whichever way they are received. */
static void receive_beside_a_waiter(int way)
{
	struct ringbus_node *from = node_open();
	struct ringbus_address to;
	struct ringbus_message m;
	unsigned contacts = 0;
	pthread_t thread;
	void *failed;

	of_both = node_open_with(&told);
	to = node_address(of_both);
	wanted_signals = 60;
	got_signals = 0;
	assert_int_equal(pthread_create(&thread, NULL, take_signals, NULL), 0);
	while (node_stats(of_both).sleeps == 0)
		pause_briefly();
	if (way == 0)
		ok(ringbus_on_contact(of_both, count_one, &contacts));
	if (way == 2)
		ok(ringbus_listen(of_both, count_one, &contacts));
	for (unsigned i = 0; i < wanted_signals; i++) {
		ok(ringbus_contact_address(from, &to, "x", 1, 0));
		if (i % 2)
			ok(ringbus_signal_address(from, &to));
		for (unsigned rest = 1; rest;) {
			if (way == 0) {
				ok(ringbus_poll(of_both, 0));
			} else if (way == 1) {
				ok(ringbus_next(of_both, &m, RINGBUS_FOREVER));
				count_one(&m, &contacts);
			}
			rest = __atomic_load_n(&contacts, __ATOMIC_SEQ_CST) <= i;
		}
		/* nobody else looks any more */
		if (i % 2 == 0)
			ok(ringbus_signal_address(from, &to));
		while (__atomic_load_n(&got_signals, __ATOMIC_SEQ_CST) <= i)
			pause_briefly();
	}
	assert_int_equal(pthread_join(thread, &failed), 0);
	assert_null(failed);
	assert_int_equal(got_signals, wanted_signals);
	assert_int_equal(contacts, wanted_signals);
	node_close(of_both);
	node_close(from);
}

static void who_waits_for_signals_is_in_nobodys_way(void **state)
{
	for (int way = 0; way < 3; way++)
		receive_beside_a_waiter(way);
}

static void several_wait_for_signals_at_once(void **state)
{
	struct ringbus_node *from = node_open();
	pthread_t thread[3];
	struct ringbus_address to;
	void *failed;

	of_both = node_open_with(&told);
	to = node_address(of_both);
	wanted_signals = 300;
	got_signals = 0;
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, take_signals, NULL), 0);
	while (__atomic_load_n(&got_signals, __ATOMIC_SEQ_CST) < wanted_signals) {
		ok(ringbus_signal_address(from, &to));
		ok(ringbus_poll(of_both, 0));
	}
	ringbus_node_interrupt(of_both, true); /* those who came too late for the last */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_join(thread[i], &failed), 0);
	ringbus_node_interrupt(of_both, false);
}

static void wait_in_handler(const struct ringbus_message *m, void *user)
{
	uint64_t n;

	if (m->kind == RINGBUS_CONTACT)
		*(int *)user = ringbus_signal_wait(m->node, &n, RINGBUS_FOREVER);
}

static void a_handler_never_sleeps_for_signals(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	int said = 1;

	ok(ringbus_on_contact(b, wait_in_handler, &said));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	ok(ringbus_poll(b, 0));
	assert_int_equal(said, -ETIMEDOUT);
	ok(ringbus_signal_address(a, &to));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	ok(ringbus_poll(b, 0));
	assert_int_equal(said, 0);
}

/* ---- ends of those whom we sent to ---- */

static void notes_of_a_death(bool pooled)
{
	static const char payload[100000];
	struct ringbus_node *before = node_open(), *other = node_open(), *node;
	struct ringbus_address to = node_address(other), gone;
	struct ringbus_message m;
	unsigned ends = 0;
	pid_t victim;

	/* our slot has a ring to the victim's already */
	ok(ringbus_contact_address(before, &to, "x", 1, 0));
	node_close(before);
	node = node_open_with(&told);
	node_close(other);
	flag_set(DONE, 0);
	victim = child_start(silent, 0);
	flag_wait(DONE, 1);
	ok(ringbus_node_find_pid(node, (uint32_t)victim, &to));
	ok(ringbus_contact_address(node, &to, payload, pooled ? sizeof(payload) : 10, 0));
	child_kill(victim);
	while (ringbus_node_find_pid(node, (uint32_t)victim, &gone) == 0)
		pause_briefly(); /* so that the node has never looked while it was there */
	while (ends == 0) {
		ok(ringbus_next(node, &m, RINGBUS_FOREVER)); /* or the watchdog */
		ends += m.notice == RINGBUS_PEER_DIED && m.sender.slot == to.slot &&
			m.sender.generation == to.generation;
	}
	node_close(node);
}

static void the_end_of_whom_we_sent_to_is_told_however_we_sent(void **state)
{
	notes_of_a_death(false);
	notes_of_a_death(true);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_contact_that_waits_is_not_for_the_next_owner_of_the_slot),
	BUS_TEST(a_waiting_sender_holds_up_no_thread_that_sends_elsewhere),
	BUS_TEST(an_interrupt_reaches_each_thread_that_waits_for_room),
	BUS_TEST(a_message_too_large_for_its_buffer_stays_whatever_is_called_next),
	BUS_TEST(a_message_too_large_for_its_buffer_can_be_borrowed),
	BUS_TEST(a_handler_of_contacts_gets_its_own_argument),
	BUS_TEST(waiting_ends_at_once_while_a_notice_is_ready),
	BUS_TEST(no_handler_runs_after_one_that_closed_its_node),
	BUS_TEST(a_signal_from_before_its_handler_is_given_to_a_listener_that_sleeps),
	BUS_TEST(who_waits_for_signals_is_in_nobodys_way),
	BUS_TEST(several_wait_for_signals_at_once),
	BUS_TEST(a_handler_never_sleeps_for_signals),
	BUS_TEST(the_end_of_whom_we_sent_to_is_told_however_we_sent),
};

HARNESS_MAIN("threads", tests)

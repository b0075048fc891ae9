/* contract_nodes.c: joining, identity, listening, leaving: K1 to K4, F7, F21, F22 of the contract.
 */
#include "harness.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { READY, GO, DONE, COUNT, PID };

static void K01_a_node_joins_by_port_and_its_id_is_its_process_id(void **state)
{
	struct ringbus_node *node = node_open();

	assert_int_equal(node_address(node).pid, getpid());
}

static void K01_joining_a_missing_service_is_refused(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = 9};
	struct ringbus_node *node = NULL;

	fails(ringbus_node_open(&node, &o), -ECONNREFUSED);
	assert_null(node);
	assert_true(strlen(ringbus_error_detail()) > 0);
}

static void K02_what_arrives_before_a_node_listens_is_kept_in_order(void **state)
{
	struct ringbus_node *from = node_open(), *to = node_open();
	struct ringbus_address address = node_address(to);
	struct ringbus_event *event = single(from, "early");
	char text[16];

	subscribe(to, "early");
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "%d", i);
		if (i & 1)
			ok(ringbus_contact_address(from, &address, text, strlen(text), 0));
		else
			assert_int_equal(emit_text(event, text), 1);
	}
	for (int i = 0; i < 100; i++) {
		snprintf(text, sizeof(text), "%d", i);
		pull_text(to, text);
	}
	pull_nothing(to);
}

struct seen {
	uint64_t count;
	uint64_t wrong;
	uint64_t inside;
	pid_t thread;
};

static void count_in_order(const struct ringbus_message *message, void *user)
{
	struct seen *seen = user;
	uint64_t value;

	if (__atomic_add_fetch(&seen->inside, 1, __ATOMIC_ACQ_REL) != 1)
		__atomic_add_fetch(&seen->wrong, 1, __ATOMIC_RELAXED);
	if (message->kind != RINGBUS_NOTICE) {
		memcpy(&value, message->data, sizeof(value));
		if (seen->thread && seen->thread != (pid_t)syscall(SYS_gettid))
			__atomic_add_fetch(&seen->wrong, 1, __ATOMIC_RELAXED);
		seen->thread = (pid_t)syscall(SYS_gettid);
		__atomic_add_fetch(&seen->count, 1, __ATOMIC_ACQ_REL);
	}
	__atomic_sub_fetch(&seen->inside, 1, __ATOMIC_ACQ_REL);
}

static void wait_count(struct seen *seen, uint64_t count)
{
	while (__atomic_load_n(&seen->count, __ATOMIC_ACQUIRE) < count)
		pause_briefly();
}

static void K02_messages_kept_before_listening_reach_the_handlers(void **state)
{
	struct ringbus_node *from = node_open(), *to = node_open();
	struct ringbus_address address = node_address(to);
	struct seen seen = {0};

	for (uint64_t i = 0; i < 50; i++)
		ok(ringbus_contact_address(from, &address, &i, sizeof(i), 0));
	ok(ringbus_listen(to, count_in_order, &seen));
	wait_count(&seen, 50);
	node_close(to);
	assert_int_equal(seen.count, 50);
}

struct talker {
	struct ringbus_node *node;
	struct ringbus_address to;
	struct ringbus_event *event;
};

static void *talk(void *argument)
{
	struct talker *t = argument;

	for (uint64_t i = 0; i < 500; i++) {
		if (ringbus_contact_address(t->node, &t->to, &i, sizeof(i), RINGBUS_SEND_MAX_NS) <
		    0)
			return t;
		if (ringbus_emit(t->event, &i, sizeof(i), RINGBUS_SEND_MAX_NS) < 0)
			return t;
	}
	return NULL;
}

static void K03_all_handlers_of_a_node_run_on_one_thread_one_at_a_time(void **state)
{
	struct ringbus_node *to = node_open();
	struct talker talker[3];
	struct seen seen = {0};
	pthread_t thread[3];
	void *result;
	char name[16];

	for (int i = 0; i < 3; i++) {
		struct ringbus_subscribe_options o = {.size = sizeof(o),
						      .handler = count_in_order,
						      .user = &seen};
		struct ringbus_event *event;

		talker[i].node = node_open();
		talker[i].to = node_address(to);
		snprintf(name, sizeof(name), "talk%d", i);
		talker[i].event = single(talker[i].node, name);
		ok(ringbus_subscribe(&event, to, name, &o));
	}
	ok(ringbus_listen(to, count_in_order, &seen));
	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], NULL, talk, &talker[i]);
	for (int i = 0; i < 3; i++) {
		pthread_join(thread[i], &result);
		assert_null(result);
	}
	wait_count(&seen, 3000);
	ok(ringbus_listen_stop(to));
	assert_int_equal(seen.wrong, 0);
	assert_int_not_equal(seen.thread, (pid_t)syscall(SYS_gettid));
	pull_nothing(to);
}

static void K04_sender(uint64_t rounds)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event[3];
	struct ringbus_address to;
	uint64_t n = 0;

	child_ok(ringbus_event_create(&event[0], node, "a", NULL));
	child_ok(ringbus_event_create(&event[1], node, "b", NULL));
	child_ok(ringbus_event_create(&event[2], node, "c", NULL));
	child_ok(ringbus_node_find(node, "receiver", &to));
	flag_set(READY, 1);
	flag_wait(GO, 1);
	for (uint64_t i = 0; i < rounds; i++) {
		for (int e = 0; e < 3; e++, n++)
			child_ok(ringbus_emit(event[e], &n, sizeof(n), RINGBUS_SEND_MAX_NS));
		child_ok(ringbus_contact_address(node, &to, &n, sizeof(n), RINGBUS_SEND_MAX_NS));
		n++;
	}
	ringbus_node_close(node);
}

static void K04_one_sender_keeps_order_across_events_and_contacts(void **state)
{
	struct ringbus_node *node = node_open_named("receiver");
	struct ringbus_message m;
	uint64_t value;

	subscribe(node, "a");
	subscribe(node, "b");
	subscribe(node, "c");
	child_start(K04_sender, 2000);
	flag_wait(READY, 1);
	flag_set(GO, 1);
	for (uint64_t i = 0; i < 8000; i++) {
		pull(node, &m);
		assert_int_equal(m.kind, i % 4 == 3 ? RINGBUS_CONTACT : RINGBUS_EVENT);
		assert_int_equal(m.size, sizeof(value));
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
		assert_int_equal(m.lost, 0);
	}
	child_join_all();
	pull_nothing(node);
}

static void F07_child(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	static struct seen seen;

	child_ok(ringbus_listen(node, count_in_order, &seen));
	ringbus_node_close(node);
}

static void F07_a_process_that_listened_closes_and_exits_normally(void **state)
{
	child_join(child_start(F07_child, 0));
}

static void F07_exit_without_close(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	static struct seen seen;

	child_ok(ringbus_listen(node, count_in_order, &seen));
	exit(0);
}

static void F07_a_process_that_listens_may_return_from_main_without_closing(void **state)
{
	child_join(child_start(F07_exit_without_close, 0));
}

static void F07_close_accepts_null(void **state)
{
	ringbus_node_close(NULL);
}

static void F21_listening_twice_and_receiving_beside_it_is_refused(void **state)
{
	struct ringbus_node *node = node_open();
	struct seen seen = {0};
	struct ringbus_message m;

	ok(ringbus_listen(node, count_in_order, &seen));
	fails(ringbus_listen(node, count_in_order, &seen), -EBUSY);
	fails(ringbus_next(node, &m, 0), -EBUSY);
	fails(ringbus_poll(node, 0), -EBUSY);
	ok(ringbus_listen_stop(node));
	ok(ringbus_listen_stop(node));
	pull_nothing(node);
	ok(ringbus_listen(node, count_in_order, &seen));
}

static void F22_two_nodes_of_a_process_are_two_members(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open(), *c = node_open();
	struct ringbus_address to_a = node_address(a), to_b = node_address(b), found;

	assert_int_not_equal(to_a.slot, to_b.slot);
	ok(ringbus_contact_address(c, &to_a, "a", 1, 0));
	ok(ringbus_contact_address(c, &to_b, "b", 1, 0));
	pull_text(b, "b");
	pull_text(a, "a");
	fails(ringbus_contact(c, (uint32_t)getpid(), "x", 1, 0), -ENOTUNIQ);
	fails(ringbus_node_find_pid(c, (uint32_t)getpid(), &found), -ENOTUNIQ);
	fails(ringbus_signal(c, (uint32_t)getpid()), -ENOTUNIQ);
}

static struct ringbus_node *inherited;
static struct ringbus_event *inherited_event;

static void F22_child(uint64_t unused)
{
	struct ringbus_message m;
	struct ringbus_node *own;
	struct ringbus_address address = {.pid = 1};
	struct ringbus_event *event;

	child_fails(ringbus_emit(inherited_event, "x", 1, 0), -ENOTCONN);
	child_fails(ringbus_contact_address(inherited, &address, "x", 1, 0), -ENOTCONN);
	child_fails(ringbus_next(inherited, &m, 0), -ENOTCONN);
	child_fails(ringbus_poll(inherited, 0), -ENOTCONN);
	child_fails(ringbus_signal_address(inherited, &address), -ENOTCONN);
	child_fails(ringbus_subscribe(&event, inherited, "y", NULL), -ENOTCONN);
	child_fails(ringbus_event_create(&event, inherited, "y", NULL), -ENOTCONN);
	ringbus_node_close(inherited);
	own = child_node(NULL);
	child_ok(ringbus_node_address(own, &address));
	child_check(address.pid == (uint32_t)getpid());
	child_ok(ringbus_subscribe(&event, own, "fork", NULL));
	flag_set(READY, 1);
	child_ok(ringbus_next(own, &m, RINGBUS_FOREVER));
	child_check(m.size == 5 && memcmp(m.data, "after", 5) == 0);
	ringbus_node_close(own);
}

static void F22_a_forked_child_must_join_itself_and_the_parent_is_unaffected(void **state)
{
	struct ringbus_node *other;
	pid_t pid;

	inherited = node_open();
	other = node_open();
	inherited_event = single(inherited, "fork");
	subscribe(other, "fork");
	emit_text(inherited_event, "before");
	pid = child_start(F22_child, 0);
	flag_wait(READY, 1);
	assert_int_equal(emit_text(inherited_event, "after"), 2);
	child_join(pid);
	pull_text(other, "before");
	pull_text(other, "after");
	assert_int_equal(emit_text(inherited_event, "end"), 1);
	pull_text(other, "end");
}

static void F22_a_forked_child_that_just_exits_leaves_the_parent_a_member(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(a);

	dead_pid();
	ok(ringbus_contact_address(b, &to, "still", 5, 0));
	pull_text(a, "still");
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(K01_a_node_joins_by_port_and_its_id_is_its_process_id),
	BARE_TEST(K01_joining_a_missing_service_is_refused),
	BUS_TEST(K02_what_arrives_before_a_node_listens_is_kept_in_order),
	BUS_TEST(K02_messages_kept_before_listening_reach_the_handlers),
	BUS_TEST(K03_all_handlers_of_a_node_run_on_one_thread_one_at_a_time),
	BUS_TEST(K04_one_sender_keeps_order_across_events_and_contacts),
	BUS_TEST(F07_a_process_that_listened_closes_and_exits_normally),
	BUS_TEST(F07_a_process_that_listens_may_return_from_main_without_closing),
	BUS_TEST(F07_close_accepts_null),
	BUS_TEST(F21_listening_twice_and_receiving_beside_it_is_refused),
	BUS_TEST(F22_two_nodes_of_a_process_are_two_members),
	BUS_TEST(F22_a_forked_child_must_join_itself_and_the_parent_is_unaffected),
	BUS_TEST(F22_a_forked_child_that_just_exits_leaves_the_parent_a_member),
};

HARNESS_MAIN("contract_nodes", tests)

/* unit_events.c: subscriptions while something else goes on: events that end and begin anew before
 * their messages are read, handlers of other nodes, forks, another thread that waits for the
 * control lock.
 */
#include "control.h"
#include "event_read.h"
#include "harness.h"

#include <pthread.h>
#include <sys/wait.h>

enum { RUNNING, DONE };

static void pull_dissolved(struct ringbus_node *node, struct ringbus_event *event)
{
	struct ringbus_message m;

	pull_notice(node, RINGBUS_EVENT_DISSOLVED, &m);
	assert_ptr_equal(m.event, event);
}

/* ---- an event ends, and another begins, before what was sent of it is read ---- */

static void messages_of_an_event_that_ended_come_though_its_entry_is_used_again(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *first = subscribe(receiver, "first"), *second;
	struct ringbus_event *event = single(sender, "first");

	(void)state;
	assert_int_equal(emit_text(event, "of the first"), 1);
	ok(ringbus_event_dissolve(event));
	event = single(sender, "second");
	second = subscribe(receiver, "second");
	assert_int_equal(emit_text(event, "of the second"), 1);
	pull_text(receiver, "of the first");
	pull_text(receiver, "of the second");
	pull_dissolved(receiver, first);
	assert_false(event_info(first).subscribed);
	assert_true(event_info(second).subscribed);
	assert_int_equal(emit_text(event, "more"), 1);
	pull_text(receiver, "more");
	assert_int_equal(node_stats(receiver).dropped_unsubscribed, 0);
}

static void so_they_do_when_its_receiver_creates_one_there(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *first = subscribe(receiver, "first");
	struct ringbus_event *event = single(sender, "first");

	(void)state;
	assert_int_equal(emit_text(event, "of the first"), 1);
	ok(ringbus_event_dissolve(event));
	multi(receiver, "own");
	pull_text(receiver, "of the first");
	pull_dissolved(receiver, first);
}

/* Its messages come; its end, which a new subscription has made known, is not told. */
static void a_subscription_that_is_renewed_first_gets_what_it_had_coming(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event, *handle = subscribe(receiver, "again");
	struct ringbus_message m;
	char text[16];

	(void)state;
	for (int i = 0; i < 5; i++) {
		event = single(sender, "again");
		snprintf(text, sizeof(text), "%d", i);
		assert_ptr_equal(subscribe(receiver, "again"), handle);
		assert_int_equal(emit_text(event, text), 1);
		ok(ringbus_event_dissolve(event));
	}
	event = single(sender, "again");
	subscribe(receiver, "again");
	assert_int_equal(emit_text(event, "5"), 1);
	for (int i = 0; i < 6; i++) {
		snprintf(text, sizeof(text), "%d", i);
		pull_text(receiver, text);
	}
	while (ringbus_next(receiver, &m, 0) == 0)
		assert_false(m.kind == RINGBUS_NOTICE && m.notice == RINGBUS_EVENT_DISSOLVED);
	assert_null(handle->fading);
	assert_int_equal(node_stats(receiver).dropped_unsubscribed, 0);
}

/* So many that notices are looked for before all is read. */
static void however_much_that_is(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event, *handle = subscribe(receiver, "again");
	char text[16];

	(void)state;
	event = single(sender, "again");
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		assert_int_equal(emit_text(event, text), 1);
	}
	ok(ringbus_event_dissolve(event));
	event = single(sender, "again");
	subscribe(receiver, "again");
	for (int i = 0; i < 1000; i++) {
		snprintf(text, sizeof(text), "%d", i);
		pull_text(receiver, text);
	}
	pull_nothing(receiver);
	assert_null(handle->fading);
}

static void to_find_its_successor_hides_no_end(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event, *handle = subscribe(receiver, "again"), *found;

	(void)state;
	event = single(sender, "again");
	assert_int_equal(emit_text(event, "last"), 1);
	ok(ringbus_event_dissolve(event));
	single(sender, "again");
	ok(ringbus_event_find(&found, receiver, "again"));
	assert_ptr_equal(found, handle);
	assert_false(event_info(found).subscribed);
	pull_text(receiver, "last");
	pull_dissolved(receiver, handle);
}

static void who_found_it_and_subscribed_again_is_not_told(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event, *found;
	struct ringbus_message m;

	(void)state;
	subscribe(receiver, "again");
	event = single(sender, "again");
	assert_int_equal(emit_text(event, "last"), 1);
	ok(ringbus_event_dissolve(event));
	event = single(sender, "again");
	ok(ringbus_event_find(&found, receiver, "again"));
	subscribe(receiver, "again");
	assert_int_equal(emit_text(event, "first"), 1);
	pull_text(receiver, "last");
	pull_text(receiver, "first");
	while (ringbus_next(receiver, &m, 0) == 0)
		assert_false(m.kind == RINGBUS_NOTICE && m.notice == RINGBUS_EVENT_DISSOLVED);
	assert_null(found->fading);
}

static void who_unsubscribes_gets_nothing_of_the_one_before_either(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event, *handle = subscribe(receiver, "again");

	(void)state;
	event = single(sender, "again");
	assert_int_equal(emit_text(event, "not wanted"), 1);
	ok(ringbus_event_dissolve(event));
	event = single(sender, "again");
	subscribe(receiver, "again");
	assert_int_equal(emit_text(event, "not wanted"), 1);
	ok(ringbus_unsubscribe(handle));
	pull_nothing(receiver);
	assert_int_equal(node_stats(receiver).dropped_unsubscribed, 2);
}

/* ---- what a creation does to those who wait for it ---- */

static unsigned calls;

static void count_call(const struct ringbus_message *m, void *user)
{
	(void)m;
	(void)user;
	calls++;
}

/* F11: state and report agree. */
static void creating_leaves_a_subscription_from_before_as_it_is(void **state)
{
	const struct ringbus_subscribe_options pending = {.size = sizeof(pending),
							  .handler = count_call};
	const struct ringbus_event_options o = {.size = sizeof(o), .mode = RINGBUS_MULTI_EMISSION};
	struct ringbus_node *creator = node_open(), *other = node_open();
	struct ringbus_event *own, *theirs, *list[2];

	(void)state;
	calls = 0;
	ok(ringbus_subscribe(&own, creator, "both", &pending));
	ok(ringbus_event_create(&own, creator, "both", &o));
	assert_true(event_info(own).subscribed);
	assert_int_equal(ok(ringbus_subscriptions(creator, list, 2)), 1);
	theirs = subscribe(other, "both");
	assert_int_equal(emit_text(theirs, "x"), 1);
	while (calls == 0)
		ok(ringbus_poll(creator, 0));
	assert_int_equal(calls, 1);
}

/* Who subscribed to emit later may do so once the event is taken over for many. */
static void interest_in_emitting_outlives_a_single_creator(void **state)
{
	const struct ringbus_subscribe_options interest = {.size = sizeof(interest),
							   .emit_only = true};
	struct ringbus_node *first = node_open(), *second = node_open(), *third = node_open();
	struct ringbus_event *event, *later;

	(void)state;
	ok(ringbus_subscribe(&later, third, "later", &interest));
	single(first, "later");
	fails(ringbus_emit(later, "x", 1, 0), -EPERM);
	node_close(first);
	event = multi(second, "later");
	assert_int_equal(emit_text(later, "now"), 1);
	pull_text(second, "now");
	(void)event;
}

/* A handle that goes on to somebody else's event of the same name takes no rights along. */
static void rights_end_with_the_event(void **state)
{
	struct ringbus_node *first = node_open(), *second = node_open(), *third = node_open();
	struct ringbus_event *event, *handle;

	(void)state;
	subscribe(third, "again");
	handle = single(first, "again");
	assert_int_equal(emit_text(handle, "mine"), 1);
	assert_int_equal(emit_text(handle, "mine"), 1);
	ok(ringbus_event_dissolve(handle));
	single(second, "again");
	ok(ringbus_event_find(&event, first, "again"));
	assert_ptr_equal(event, handle);
	subscribe(third, "again");
	fails(ringbus_emit(handle, "not mine", 8, 0), -EPERM);
}

/* Of two handlers that end each other's subscriptions none waits for the other. */
static struct ringbus_event *of_other[2];
static _Atomic unsigned both;

static void end_others(const struct ringbus_message *m, void *user)
{
	int i = *(int *)user;

	(void)m;
	both++;
	while (both < 2)
		pause_briefly();
	ok(ringbus_unsubscribe(of_other[i]));
	both++;
	while (both < 4)
		pause_briefly();
}

static void handlers_end_each_others_subscriptions(void **state)
{
	struct ringbus_node *sender = node_open(), *node[2] = {node_open(), node_open()};
	struct ringbus_subscribe_options o = {.size = sizeof(o), .handler = end_others};
	struct ringbus_event *event = single(sender, "news");
	int number[2] = {0, 1};

	(void)state;
	both = 0;
	for (int i = 0; i < 2; i++) {
		o.user = &number[i];
		ok(ringbus_subscribe(&of_other[!i], node[i], "news", &o));
		ok(ringbus_listen(node[i], NULL, NULL));
	}
	assert_int_equal(emit_text(event, "go"), 2);
	while (both < 4)
		pause_briefly();
	for (int i = 0; i < 2; i++)
		ok(ringbus_listen_stop(node[i]));
}

/* ---- the slot of a subscriber goes to another while an emission looks at it ---- */

static struct ringbus_node *leaver, *heir;
static const struct shm_word *mask;

static uint64_t leave_after_look(const struct shm_word *w, enum shm_order order)
{
	uint64_t v;

	(void)order;
	v = atomic_load_explicit(&w->v, memory_order_seq_cst);
	if (w != mask)
		return v;
	shm_hooks = NULL;
	node_close(leaver);
	heir = node_open();
	return v;
}

/* The heir has subscribed to nothing yet, so nothing is for it. */
static void what_was_for_a_subscriber_is_not_for_the_next_in_its_slot(void **state)
{
	static const struct shm_hooks hooks = {.load = leave_after_look};
	static const char large[40000]; /* so that the general path takes it */
	struct ringbus_node *sender = node_open();
	struct ringbus_event *event = single(sender, "news");
	uint32_t slot;
	int r;

	(void)state;
	leaver = node_open();
	slot = node_address(leaver).slot;
	subscribe(leaver, "news");
	assert_int_equal(ok(ringbus_emit(event, large, sizeof(large), 0)), 1);
	mask = &event->entry->deliver[0];
	shm_hooks = &hooks;
	r = ringbus_emit(event, large, sizeof(large), HARNESS_SECOND);
	shm_hooks = NULL;
	assert_int_equal(r, 0);
	assert_int_equal(node_address(heir).slot, slot);
	subscribe(heir, "news");
	pull_nothing(heir);
}

/* ---- handlers ---- */

static void unsubscribe_other(const struct ringbus_message *m, void *user)
{
	struct ringbus_event **other = user;

	(void)m;
	if (*other)
		ok(ringbus_unsubscribe(*other));
	*other = NULL;
}

static void a_handler_ends_the_subscription_of_another_node(void **state)
{
	struct ringbus_event *event, *other, *given;
	struct ringbus_subscribe_options o = {.size = sizeof(o), .handler = unsubscribe_other};
	struct ringbus_node *sender = node_open(), *a = node_open(), *b = node_open();

	(void)state;
	event = single(sender, "news");
	other = subscribe(b, "news");
	o.user = &other;
	ok(ringbus_subscribe(&given, a, "news", &o));
	assert_int_equal(emit_text(event, "once"), 2);
	while (other)
		ok(ringbus_poll(a, 0));
	assert_int_equal(emit_text(event, "twice"), 1);
	pull_nothing(b);
}

static void wait_in_handler(const struct ringbus_message *m, void *user)
{
	(void)m;
	(void)user;
	flag_set(RUNNING, 1);
	flag_wait(DONE, 1);
}

/* Only a handler that may be the one in question is waited for. */
static void unsubscribing_waits_for_no_handler_of_another_node(void **state)
{
	struct ringbus_node *sender = node_open(), *busy = node_open(), *free = node_open();
	struct ringbus_event *theirs = subscribe(free, "news");
	struct ringbus_address to = node_address(busy);

	(void)state;
	ok(ringbus_listen(busy, wait_in_handler, NULL));
	ok(ringbus_contact_address(sender, &to, "x", 1, 0));
	flag_wait(RUNNING, 1);
	ok(ringbus_unsubscribe(theirs));
	flag_set(DONE, 1);
	ok(ringbus_listen_stop(busy));
}

static _Atomic unsigned ended, after;

static void note_end(const struct ringbus_message *m, void *user)
{
	(void)m;
	(void)user;
	flag_set(RUNNING, 1);
	for (int i = 0; i < 200; i++)
		pause_briefly();
	ended++;
}

static void *end_of_subscription(void *event)
{
	ok(ringbus_unsubscribe(event));
	after = ended;
	flag_set(DONE, 1);
	return NULL;
}

/* Whoever unsubscribes finds the handler ended. */
static void unsubscribing_waits_for_its_own_handler(void **state)
{
	const struct ringbus_subscribe_options o = {.size = sizeof(o), .handler = note_end};
	struct ringbus_node *sender = node_open(), *receiver = node_open();
	struct ringbus_event *event = single(sender, "news"), *theirs;
	pthread_t thread;

	(void)state;
	ended = 0;
	after = 0;
	ok(ringbus_subscribe(&theirs, receiver, "news", &o));
	ok(ringbus_listen(receiver, NULL, NULL));
	assert_int_equal(emit_text(event, "x"), 1);
	flag_wait(RUNNING, 1);
	assert_int_equal(pthread_create(&thread, NULL, end_of_subscription, theirs), 0);
	pthread_join(thread, NULL);
	assert_int_equal(after, 1);
	ok(ringbus_listen_stop(receiver));
}

/* In the child the handler's call is still under way, and nobody is there who ends others'. */
static void fork_in_handler(const struct ringbus_message *m, void *user)
{
	pid_t child = fork();
	int status;

	(void)m;
	(void)user;
	if (child == 0) {
		struct ringbus_node *own = child_node(NULL);
		struct ringbus_event *event;

		child_check(event_batches == 0); /* so that it waits for handlers of its own */

		child_ok(ringbus_subscribe(&event, own, "own", NULL));
		child_ok(ringbus_subscribe(&event, own, "own", NULL));
		child_ok(ringbus_unsubscribe(event));
		ringbus_node_close(own);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	flag_set(DONE, 1);
}

static void a_handler_forks_and_the_child_has_subscriptions_of_its_own(void **state)
{
	struct ringbus_node *sender = node_open(), *receiver = node_open(), *third = node_open();
	struct ringbus_address to = node_address(receiver), busy = node_address(third);

	(void)state;
	ok(ringbus_listen(third, wait_in_handler, NULL)); /* another thread in a handler, too */
	ok(ringbus_contact_address(sender, &busy, "x", 1, 0));
	flag_wait(RUNNING, 1);
	ok(ringbus_on_contact(receiver, fork_in_handler, NULL));
	ok(ringbus_contact_address(sender, &to, "x", 1, 0));
	while (!flag_get(DONE))
		ok(ringbus_poll(receiver, 0));
	ok(ringbus_listen_stop(third));
}

/* ---- a thread waits for the control lock ---- */

static void *subscribe_slowly(void *node)
{
	struct ringbus_event *event;

	flag_set(RUNNING, 1);
	ok(ringbus_subscribe(&event, node, "late", NULL));
	flag_set(DONE, 1);
	return NULL;
}

static void receiving_waits_for_no_control_operation(void **state)
{
	const struct ringbus_node_options patient = {.size = sizeof(patient),
						     .timeout_ns = 30 * HARNESS_SECOND};
	struct ringbus_node *sender = node_open(), *receiver = node_open_with(&patient);
	struct ringbus_event *event = single(sender, "news");
	struct control held;
	pthread_t thread;

	(void)state;
	subscribe(receiver, "news");
	assert_int_equal(emit_text(event, "makes the ring"), 1);
	pull_text(receiver, "makes the ring");
	ok(control_lock(&held, sender->region, UINT64_MAX));
	assert_int_equal(pthread_create(&thread, NULL, subscribe_slowly, receiver), 0);
	flag_wait(RUNNING, 1);
	for (int i = 0; i < 100; i++) {
		control_announce(sender->region); /* so that events are looked at */
		assert_int_equal(emit_text(event, "hello"), 1);
		pull_text(receiver, "hello");
		pull_nothing(receiver); /* and at its events */
		assert_false(flag_get(DONE));
		pause_briefly();
	}
	control_unlock(&held);
	pthread_join(thread, NULL);
}

/* ---- handles change under who emits ---- */

static void *emit_all_the_time(void *event)
{
	while (!flag_get(DONE)) {
		int r = ringbus_emit(event, "x", 1, 0);

		if (r < 0 && r != -ENOENT && r != -EPERM && r != -EAGAIN)
			fail_msg("emit: %d", r);
	}
	return NULL;
}

/* TSan says whether this is one binding or the other. */
static void a_handle_goes_on_to_new_events_while_a_thread_emits(void **state)
{
	struct ringbus_node *owner = node_open(), *member = node_open();
	struct ringbus_event *event, *handle = subscribe(member, "again");
	pthread_t thread;

	(void)state;
	event = multi(owner, "again");
	assert_int_equal(pthread_create(&thread, NULL, emit_all_the_time, handle), 0);
	for (int i = 0; i < 300; i++) {
		struct ringbus_message m;

		ok(ringbus_unsubscribe(handle));
		ok(ringbus_unsubscribe(event));
		single(owner, "in its place");
		event = multi(owner, "again");
		subscribe(member, "again");
		while (ringbus_next(owner, &m, 0) == 0)
			;
		ringbus_event_find(&event, owner, "in its place");
		ok(ringbus_event_dissolve(event));
		ok(ringbus_event_find(&event, owner, "again"));
	}
	flag_set(DONE, 1);
	pthread_join(thread, NULL);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(messages_of_an_event_that_ended_come_though_its_entry_is_used_again),
	BUS_TEST(so_they_do_when_its_receiver_creates_one_there),
	BUS_TEST(a_subscription_that_is_renewed_first_gets_what_it_had_coming),
	BUS_TEST(however_much_that_is),
	BUS_TEST(to_find_its_successor_hides_no_end),
	BUS_TEST(who_found_it_and_subscribed_again_is_not_told),
	BUS_TEST(who_unsubscribes_gets_nothing_of_the_one_before_either),
	BUS_TEST(creating_leaves_a_subscription_from_before_as_it_is),
	BUS_TEST(interest_in_emitting_outlives_a_single_creator),
	BUS_TEST(rights_end_with_the_event),
	BUS_TEST(what_was_for_a_subscriber_is_not_for_the_next_in_its_slot),
	BUS_TEST(a_handler_ends_the_subscription_of_another_node),
	BUS_TEST(handlers_end_each_others_subscriptions),
	BUS_TEST(unsubscribing_waits_for_no_handler_of_another_node),
	BUS_TEST(unsubscribing_waits_for_its_own_handler),
	BUS_TEST(a_handler_forks_and_the_child_has_subscriptions_of_its_own),
	BUS_TEST(receiving_waits_for_no_control_operation),
	BUS_TEST(a_handle_goes_on_to_new_events_while_a_thread_emits),
};
HARNESS_MAIN("unit_events", tests)

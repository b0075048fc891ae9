/* bad_input.c: bad names, sizes, targets and uses: each is a documented error code and nothing
 * else. */
#include "harness.h"

#include <pthread.h>
#include <signal.h>

enum { READY, GO };

static void names_of_1_to_255_bytes_are_accepted_and_others_refused(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = NULL;
	char name[257];

	memset(name, 'n', sizeof(name));
	name[256] = 0;
	fails(ringbus_event_create(&event, a, name, NULL), -EINVAL);
	fails(ringbus_subscribe(&event, a, name, NULL), -EINVAL);
	fails(ringbus_subscribe(&event, a, "", NULL), -EINVAL);
	fails(ringbus_subscribe(&event, a, NULL, NULL), -EINVAL);
	assert_null(event);
	name[255] = 0;
	event = single(a, name);
	assert_int_equal(strlen(ringbus_event_id(event)), 255);
	subscribe(b, name);
	assert_int_equal(emit_text(event, "x"), 1);
	pull_text(b, "x");
}

static void names_that_are_not_utf8_are_refused(void **state)
{
	static const char *const bad[] = {"\xff",
					  "a\x80",
					  "\xc0\x80",
					  "\xc1\xbf",
					  "\xe2\x82",
					  "\xed\xa0\x80",
					  "\xe0\x80\x80",
					  "\xf0\x80\x80\x80",
					  "\xf4\x90\x80\x80",
					  "\xf8\x88\x80\x80\x80"};
	struct ringbus_node *a = node_open(), *other = NULL;
	struct ringbus_event *event = NULL;

	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ringbus_node_options o = {.size = sizeof(o),
						 .port = bus_port(),
						 .name = bad[i]};

		fails(ringbus_event_create(&event, a, bad[i], NULL), -EINVAL);
		fails(ringbus_subscribe(&event, a, bad[i], NULL), -EINVAL);
		fails(ringbus_node_open(&other, &o), -EINVAL);
	}
	assert_null(event);
	assert_null(other);
	single(a, "\xef\xbf\xbf\xf4\x8f\xbf\xbf");
}

static void node_names_are_unique_among_the_living(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port(), .name = "anna"};
	struct ringbus_node *a = node_open_named("anna"), *b = NULL;
	struct ringbus_address address;
	char name[257];

	fails(ringbus_node_open(&b, &o), -EEXIST);
	assert_null(b);
	node_close(a);
	b = node_open_with(&o);
	ok(ringbus_node_find(b, "anna", &address));
	memset(name, 'n', sizeof(name));
	name[256] = 0;
	o.name = name;
	fails(ringbus_node_open(&a, &o), -EINVAL);
	name[255] = 0;
	node_open_with(&o);
	fails(ringbus_node_find(b, "berta", &address), -ESRCH);
}

static void the_payload_limit_is_exact(void **state)
{
	struct bus_spec spec = {.nodes = 4, .pool_bytes = 1 << 20};
	struct ringbus_node *a, *b;
	struct ringbus_event *event;
	struct ringbus_message m;
	struct ringbus_loan loan;
	size_t limit;
	uint8_t *data;

	bus_serve(&spec);
	a = node_open();
	b = node_open();
	event = single(a, "news");
	subscribe(b, "news");
	limit = ringbus_node_payload_max(a);
	assert_true(limit >= 1 << 18);
	data = malloc(limit + 1);
	for (uint64_t i = 0; i < 3; i++) {
		payload_fill(data, limit, 1, i);
		assert_int_equal(ok(ringbus_emit(event, data, limit, 0)), 1);
		pull(b, &m);
		assert_int_equal(m.size, limit);
		assert_true(payload_matches(m.data, m.size, 1, i));
		pull_nothing(b);
	}
	fails(ringbus_emit(event, data, limit + 1, 0), -EMSGSIZE);
	fails(ringbus_contact_address(a, &(struct ringbus_address){.slot = node_address(b).slot},
				      data, limit + 1, 0),
	      -EMSGSIZE);
	fails(ringbus_loan(a, limit + 1, &loan, 0), -EMSGSIZE);
	pull_nothing(b);
	free(data);
}

static void a_receive_buffer_that_is_too_small_leaves_the_message(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	struct ringbus_message m = {0};
	char buffer[8];

	ok(ringbus_contact_address(a, &to, "12345678", 8, 0));
	fails(ringbus_receive(b, buffer, 7, &m, 0), -EMSGSIZE);
	assert_int_equal(m.size, 8);
	assert_memory_equal(m.data, "12345678", 8);
	ok(ringbus_receive(b, buffer, 8, &m, 0));
	assert_ptr_equal(m.data, buffer);
	assert_memory_equal(buffer, "12345678", 8);
	fails(ringbus_receive(b, buffer, 8, &m, 0), -EAGAIN);
	fails(ringbus_receive(b, buffer, 8, &m, HARNESS_MS), -ETIMEDOUT);
}

static void with_all_slots_taken_a_join_is_refused_until_one_is_free(void **state)
{
	struct bus_spec spec = {.nodes = 5};
	struct ringbus_node_options o = {.size = sizeof(o), .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_node *node[5], *more = NULL;

	bus_serve(&spec);
	o.port = bus_port();
	for (int i = 0; i < 5; i++)
		node[i] = node_open();
	fails(ringbus_node_open(&more, &o), -EUSERS);
	assert_null(more);
	node_close(node[2]);
	node_open();
	fails(ringbus_node_open(&more, &o), -EUSERS);
}

static void with_all_events_taken_a_creation_is_refused_until_one_is_free(void **state)
{
	struct bus_spec spec = {.events = 8};
	struct ringbus_event *event[8], *more = NULL;
	struct ringbus_node *a, *b;
	char name[16];

	bus_serve(&spec);
	a = node_open();
	b = node_open();
	for (int i = 0; i < 8; i++) {
		snprintf(name, sizeof(name), "event %d", i);
		event[i] = single(a, name);
	}
	fails(ringbus_event_create(&more, a, "more", NULL), -ENFILE);
	fails(ringbus_subscribe(&more, b, "more", NULL), -ENFILE);
	assert_null(more);
	ok(ringbus_event_dissolve(event[3]));
	more = single(b, "more");
	subscribe(a, "more");
	assert_int_equal(emit_text(more, "x"), 1);
	pull_text(a, "x");
}

static void sleeper(uint64_t unused)
{
	child_node(NULL);
	flag_set(READY, 1);
	for (;;)
		pause();
}

static void a_process_that_was_killed_becomes_unreachable(void **state)
{
	struct ringbus_node *a = node_open();
	pid_t pid = child_start(sleeper, 0);
	struct ringbus_address address;
	int rc;

	flag_wait(READY, 1);
	ok(ringbus_node_find_pid(a, (uint32_t)pid, &address));
	child_kill(pid);
	while ((rc = ringbus_contact(a, (uint32_t)pid, "x", 1, 0)) >= 0)
		pause_briefly();
	fails(rc, -ESRCH);
	fails(ringbus_contact_address(a, &address, "x", 1, 0), -ESRCH);
	fails(ringbus_signal_address(a, &address), -ESRCH);
	fails(ringbus_node_find_pid(a, (uint32_t)pid, &address), -ESRCH);
}

struct acts {
	struct ringbus_event *event;
	unsigned calls;
	int rc[4];
};

static void unsubscribe_itself(const struct ringbus_message *message, void *user)
{
	struct acts *acts = user;

	if (message->kind != RINGBUS_EVENT)
		return;
	acts->calls++;
	acts->rc[0] = ringbus_unsubscribe(message->event);
	acts->rc[1] = ringbus_unsubscribe(message->event);
}

static void a_handler_may_unsubscribe_itself(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");
	struct acts acts = {0};
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = unsubscribe_itself,
					      .user = &acts};

	ok(ringbus_subscribe(&acts.event, b, "news", &o));
	emit_text(event, "1");
	emit_text(event, "2");
	while (acts.calls == 0)
		ok(ringbus_poll(b, 0));
	ok(ringbus_poll(b, 0));
	assert_int_equal(acts.calls, 1);
	assert_int_equal(acts.rc[0], 0);
	assert_int_equal(acts.rc[1], -ENOENT);
	assert_int_equal(emit_text(event, "3"), 0);
}

static void emit_in_handler(const struct ringbus_message *message, void *user)
{
	struct acts *acts = user;

	if (message->kind != RINGBUS_EVENT)
		return;
	acts->calls++;
	acts->rc[0] = ringbus_emit(acts->event, message->data, message->size, RINGBUS_SEND_MAX_NS);
	acts->rc[1] = ringbus_subscribe(&acts->event, message->node, "answers", NULL);
}

static void a_handler_may_emit_and_subscribe(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "questions"), *unused;
	struct acts acts = {0};
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = emit_in_handler,
					      .user = &acts};

	acts.event = multi(b, "answers");
	subscribe(a, "answers");
	ok(ringbus_subscribe(&unused, b, "questions", &o));
	ok(ringbus_listen(b, NULL, NULL));
	for (int i = 0; i < 100; i++) {
		emit_text(event, "why");
		pull_text(a, "why");
	}
	ok(ringbus_listen_stop(b));
	assert_int_equal(acts.calls, 100);
	assert_int_equal(acts.rc[0], 1);
	assert_int_equal(acts.rc[1], 0);
}

static void close_in_handler(const struct ringbus_message *message, void *user)
{
	ringbus_node_close(message->node);
	__atomic_store_n((int *)user, 1, __ATOMIC_RELEASE);
}

static void a_handler_may_close_the_node_while_listening(void **state)
{
	struct ringbus_node *a = node_open(), *b = NULL;
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_address to;
	int closed = 0;

	ok(ringbus_node_open(&b, &o));
	to = node_address(b);
	ok(ringbus_listen(b, close_in_handler, &closed));
	ok(ringbus_contact_address(a, &to, "1", 1, 0));
	while (!__atomic_load_n(&closed, __ATOMIC_ACQUIRE))
		pause_briefly();
	while (ringbus_contact_address(a, &to, "2", 1, 0) != -ESRCH)
		pause_briefly();
}

static void a_handler_may_close_the_node_in_poll(void **state)
{
	struct ringbus_node *a = node_open(), *b = NULL;
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_address to;
	int closed = 0;

	ok(ringbus_node_open(&b, &o));
	to = node_address(b);
	ok(ringbus_on_contact(b, close_in_handler, &closed));
	ok(ringbus_contact_address(a, &to, "1", 1, 0));
	ok(ringbus_contact_address(a, &to, "2", 1, 0));
	ringbus_poll(b, 0);
	assert_int_equal(closed, 1);
	fails(ringbus_contact_address(a, &to, "3", 1, 0), -ESRCH);
}

struct worker {
	struct ringbus_node *node;
	struct ringbus_event *event;
	uint64_t index;
	int failed;
};

static void *emit_many(void *argument)
{
	struct worker *w = argument;

	for (uint64_t i = 0; i < 20000; i++) {
		uint64_t data[2] = {w->index, i};

		if (ringbus_emit(w->event, data, sizeof(data), RINGBUS_SEND_MAX_NS) != 1)
			w->failed++;
	}
	return NULL;
}

static void two_threads_send_through_one_node(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");
	struct worker worker[2] = {{a, event, 0, 0}, {a, event, 1, 0}};
	uint64_t next[2] = {0}, data[2];
	struct ringbus_message m;
	pthread_t thread[2];

	subscribe(b, "news");
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, emit_many, &worker[i]), 0);
	for (int i = 0; i < 40000; i++) {
		pull(b, &m);
		memcpy(data, m.data, sizeof(data));
		assert_true(data[0] < 2);
		assert_int_equal(data[1], next[data[0]]);
		next[data[0]]++;
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		assert_int_equal(worker[i].failed, 0);
	}
	pull_nothing(b);
}

static void *receive_one(void *argument)
{
	struct worker *w = argument;
	struct ringbus_message m = {0};
	int rc;

	do /* the other thread may be looking just now */
		rc = ringbus_next(w->node, &m, RINGBUS_FOREVER);
	while (rc == -EBUSY);
	w->failed = rc != 0 || m.kind != RINGBUS_CONTACT;
	return NULL;
}

static void a_second_receiver_gets_busy_and_senders_do_not_mind(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b), from = node_address(a);
	struct worker worker = {b, NULL, 0, 0};
	struct ringbus_message m;
	pthread_t thread;
	int rc;

	assert_int_equal(pthread_create(&thread, NULL, receive_one, &worker), 0);
	while ((rc = ringbus_next(b, &m, 0)) == -EAGAIN)
		pause_briefly();
	fails(rc, -EBUSY);
	fails(ringbus_poll(b, 0), -EBUSY);
	ok(ringbus_contact_address(b, &from, "while it waits", 14, 0));
	pull_text(a, "while it waits");
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	pthread_join(thread, NULL);
	assert_int_equal(worker.failed, 0);
	pull_nothing(b);
}

static void null_arguments_are_misuse(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_event *event = NULL;
	struct ringbus_address address;

	fails(ringbus_node_open(NULL, NULL), -EINVAL);
	fails(ringbus_event_create(&event, NULL, "x", NULL), -EINVAL);
	fails(ringbus_subscribe(&event, NULL, "x", NULL), -EINVAL);
	fails(ringbus_emit(NULL, "x", 1, 0), -EINVAL);
	fails(ringbus_contact(NULL, 1, "x", 1, 0), -EINVAL);
	fails(ringbus_contact_address(a, NULL, "x", 1, 0), -EINVAL);
	fails(ringbus_next(NULL, NULL, 0), -EINVAL);
	fails(ringbus_node_find(a, NULL, NULL), -EINVAL);
	fails(ringbus_node_find(a, "x", NULL), -EINVAL);
	fails(ringbus_node_find(a, NULL, &address), -EINVAL);
	fails(ringbus_node_find(a, "", &address), -EINVAL);
	fails(ringbus_node_find_pid(a, 1, NULL), -EINVAL);
	fails(ringbus_node_address(a, NULL), -EINVAL);
	fails(ringbus_signal_address(a, NULL), -EINVAL);
	ringbus_release(NULL);
	ringbus_service_close(NULL);
	ringbus_loan_cancel(&(struct ringbus_loan){0});
}

static void no_node_and_no_event_are_misuse_of_every_call(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_address to = node_address(a);
	struct ringbus_node_stats stats = {.size = sizeof(stats)};
	struct ringbus_event_info info = {.size = sizeof(info)};
	struct ringbus_loan loan = {0};
	struct ringbus_event *event;
	struct ringbus_message m;
	uint64_t count;

	fails(ringbus_node_address(NULL, &to), -EINVAL);
	fails(ringbus_node_find(NULL, "x", &to), -EINVAL);
	fails(ringbus_node_find_pid(NULL, 1, &to), -EINVAL);
	fails(ringbus_node_fd(NULL), -EINVAL);
	fails(ringbus_node_held_back_by(NULL, &to), -EINVAL);
	fails(ringbus_node_trim(NULL), -EINVAL);
	assert_int_equal(ringbus_node_payload_max(NULL), 0);
	fails(ringbus_node_stats(NULL, &stats), -EINVAL);
	fails(ringbus_unsubscribe(NULL), -EINVAL);
	fails(ringbus_event_dissolve(NULL), -EINVAL);
	fails(ringbus_event_find(&event, NULL, "x"), -EINVAL);
	fails(ringbus_event_wait_subscribers(NULL, 1, 0), -EINVAL);
	fails(ringbus_event_info(NULL, &info), -EINVAL);
	fails(ringbus_subscriptions(NULL, NULL, 0), -EINVAL);
	fails(ringbus_contact_address(NULL, &to, "x", 1, 0), -EINVAL);
	fails(ringbus_contact_address(a, &to, NULL, 1, 0), -EINVAL);
	fails(ringbus_loan(NULL, 1, &loan, 0), -EINVAL);
	fails(ringbus_loan(a, 1, NULL, 0), -EINVAL);
	fails(ringbus_emit_loan(NULL, &loan, 0), -EINVAL);
	fails(ringbus_contact_loan(NULL, &to, &loan, 0), -EINVAL);
	fails(ringbus_contact_loan(a, NULL, &loan, 0), -EINVAL);
	fails(ringbus_contact_loan(a, &to, NULL, 0), -EINVAL);
	fails(ringbus_listen(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_listen_stop(NULL), -EINVAL);
	fails(ringbus_on_contact(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_poll(NULL, 0), -EINVAL);
	fails(ringbus_wait(NULL, 0), -EINVAL);
	fails(ringbus_next(NULL, &m, 0), -EINVAL);
	fails(ringbus_next(a, NULL, 0), -EINVAL);
	fails(ringbus_receive(NULL, NULL, 0, &m, 0), -EINVAL);
	fails(ringbus_receive(a, NULL, 1, &m, 0), -EINVAL);
	fails(ringbus_borrow(NULL, NULL), -EINVAL);
	fails(ringbus_signal(NULL, 1), -EINVAL);
	fails(ringbus_signal_address(NULL, &to), -EINVAL);
	fails(ringbus_signal_wait(NULL, &count, 0), -EINVAL);
	fails(ringbus_on_signal(NULL, NULL, NULL), -EINVAL);
	fails(ringbus_service_open(NULL, NULL), -EINVAL);
	fails(ringbus_service_run(NULL), -EINVAL);
	/* those that have nothing to say */
	ringbus_loan_cancel(NULL);
	ringbus_node_interrupt(NULL, true);
	ringbus_node_close(NULL);
	ringbus_service_stop(NULL);
	assert_int_equal(ringbus_service_port(NULL), 0);
	assert_string_equal(ringbus_event_id(NULL), "");
	assert_null(ringbus_borrow_data(NULL, NULL));
}

static void ports_and_geometry_out_of_range_are_refused(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = 65536};
	static const struct ringbus_service_options bad[] = {
		{.port = 65536},
		{.nodes = 1},
		{.nodes = 257},
		{.events = 65536},
		{.ring_bytes = 5000},
		{.ring_bytes = 2048},
		{.ring_bytes = 2ull << 30},
		{.pool_bytes = 1000},
		{.pool_bytes = 2ull << 40},
	};
	struct ringbus_service *service = NULL;
	struct ringbus_node *node = NULL;

	fails(ringbus_node_open(&node, &o), -EINVAL);
	o.port = 0;
	setenv("RINGBUS_PORT", "99999", 1);
	fails(ringbus_node_open(&node, &o), -EINVAL);
	setenv("RINGBUS_PORT", "12x", 1);
	fails(ringbus_node_open(&node, &o), -EINVAL);
	unsetenv("RINGBUS_PORT");
	for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ringbus_service_options s = bad[i];

		s.size = sizeof(s);
		s.port = s.port ? s.port : 9;
		fails(ringbus_service_open(&service, &s), -EINVAL);
	}
	assert_null(service);
	assert_null(node);
}

static void every_code_has_a_text(void **state)
{
	static const int codes[] = {EACCES,    EAGAIN,	 EBADMSG,      EBUSY,	   EEXIST, EFAULT,
				    EINVAL,    EMSGSIZE, ENFILE,       ENOENT,	   ENOSPC, ENOTCONN,
				    ENOTSUP,   ENOTUNIQ, EPERM,	       EPROTO,	   ESRCH,  ESTALE,
				    ETIMEDOUT, EUSERS,	 ECONNREFUSED, EADDRINUSE, 0,	   4242};

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		assert_true(strlen(ringbus_strerror(codes[i])) > 0);
		assert_string_equal(ringbus_strerror(codes[i]), ringbus_strerror(-codes[i]));
	}
	assert_string_equal(ringbus_version(), "0.1.0");
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(names_of_1_to_255_bytes_are_accepted_and_others_refused),
	BUS_TEST(names_that_are_not_utf8_are_refused),
	BUS_TEST(node_names_are_unique_among_the_living),
	BARE_TEST(the_payload_limit_is_exact),
	BUS_TEST(a_receive_buffer_that_is_too_small_leaves_the_message),
	BARE_TEST(with_all_slots_taken_a_join_is_refused_until_one_is_free),
	BARE_TEST(with_all_events_taken_a_creation_is_refused_until_one_is_free),
	BUS_TEST(a_process_that_was_killed_becomes_unreachable),
	BUS_TEST(a_handler_may_unsubscribe_itself),
	BUS_TEST(a_handler_may_emit_and_subscribe),
	BUS_TEST(a_handler_may_close_the_node_while_listening),
	BUS_TEST(a_handler_may_close_the_node_in_poll),
	BUS_TEST(two_threads_send_through_one_node),
	BUS_TEST(a_second_receiver_gets_busy_and_senders_do_not_mind),
	BUS_TEST(null_arguments_are_misuse),
	BUS_TEST(no_node_and_no_event_are_misuse_of_every_call),
	BARE_TEST(ports_and_geometry_out_of_range_are_refused),
	BARE_TEST(every_code_has_a_text),
};

HARNESS_MAIN("bad_input", tests)

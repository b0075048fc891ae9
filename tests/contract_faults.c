/* contract_faults.c: dead services and processes, hostile connections, access: F6, F15, F19, F23,
 * F24, F30. */
#include "harness.h"
#include "ringbus-inspect.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { READY, GO, DONE, SLOT, GENERATION };

static void F06_echo(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;
	struct ringbus_message m;
	uint64_t value;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(READY, 1);
	for (uint64_t i = 0; i < 5000; i++) {
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		memcpy(&value, m.data, sizeof(value));
		child_check(value == i);
		child_ok(ringbus_contact_address(node, &m.sender, &value, sizeof(value),
						 RINGBUS_SEND_MAX_NS));
	}
	ringbus_node_close(node);
}

static void F06_the_data_plane_survives_the_death_of_the_service(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_event *own = single(a, "news"), *late;
	struct ringbus_message m;
	pid_t pid = child_start(F06_echo, 0);
	uint64_t value;

	flag_wait(READY, 1);
	for (uint64_t i = 0; i < 5000; i++) {
		if (i == 1000)
			bus_kill();
		assert_int_equal(ok(ringbus_emit(own, &i, sizeof(i), RINGBUS_SEND_MAX_NS)), 1);
		pull(a, &m);
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
	}
	child_join(pid);
	late = single(a, "made without a service");
	assert_int_equal(emit_text(late, "x"), 0);
	fails(ringbus_node_open(&(struct ringbus_node *){NULL},
				&(struct ringbus_node_options){.size = sizeof(
								       struct ringbus_node_options),
							       .port = bus_port()}),
	      -ECONNREFUSED);
	bus_serve(NULL);
	subscribe(node_open(), "made without a service");
	assert_int_equal(emit_text(late, "y"), 1);
}

static void F15_tenant(uint64_t round)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address own;
	struct ringbus_event *event;

	child_ok(ringbus_node_address(node, &own));
	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	flag_set(SLOT, own.slot);
	flag_set(GENERATION, own.generation);
	flag_set(READY, round + 1);
	for (;;)
		pause();
}

static void
F15_slots_and_subscriptions_of_the_dead_are_reclaimed_without_stale_messages(void **state)
{
	struct bus_spec spec = {.nodes = 3};
	struct ringbus_node *a, *heir;
	struct ringbus_event *own;
	struct ringbus_address old = {0}, now;

	bus_serve(&spec);
	a = node_open();
	own = single(a, "news");
	for (uint64_t round = 0; round < 12; round++) {
		pid_t pid = child_start(F15_tenant, round);

		flag_wait(READY, round + 1);
		old = (struct ringbus_address){.slot = (uint32_t)flag_get(SLOT),
					       .generation = (uint32_t)flag_get(GENERATION)};
		assert_int_equal(emit_text(own, "for the tenant"), 1);
		ok(ringbus_contact_address(a, &old, "for the tenant", 14, 0));
		child_kill(pid);
		heir = node_open();
		now = node_address(heir);
		if (now.slot == old.slot)
			assert_int_not_equal(now.generation, old.generation);
		fails(ringbus_contact_address(a, &old, "x", 1, 0), -ESRCH);
		pull_nothing(heir);
		subscribe(heir, "news");
		assert_int_equal(emit_text(own, "for the heir"), 1);
		pull_text(heir, "for the heir");
		pull_nothing(heir);
		node_close(heir);
	}
}

static int connect_service(void)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)bus_port()),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static void F19_garbage_short_and_endless_requests_do_not_disturb_the_service(void **state)
{
	uint64_t random = harness_number("HARNESS_SEED", 19);
	uint8_t junk[4096];
	int idle = connect_service(), half = connect_service();

	assert_int_equal(write(half, "\x42\x53", 2), 2);
	for (int i = 0; i < 200; i++) {
		int fd = connect_service();
		size_t size = (size_t)(splitmix(&random) % sizeof(junk));

		for (size_t k = 0; k < size; k++)
			junk[k] = (uint8_t)splitmix(&random);
		if (i % 3 == 0 && size >= 4)
			memcpy(junk, "BS01", 4);
		(void)!send(fd, junk, size, MSG_NOSIGNAL);
		close(fd);
	}
	node_close(node_open());
	close(idle);
	close(half);
	node_open();
}

static void F19_sizes_are_checked_before_anything_is_sent(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");
	size_t limit = ringbus_node_payload_max(a);

	subscribe(b, "news");
	fails(ringbus_emit(own, "x", limit + 1, 0), -EMSGSIZE);
	fails(ringbus_emit(own, "x", SIZE_MAX, 0), -EMSGSIZE);
	fails(ringbus_emit(own, "x", (size_t)UINT32_MAX + 1, 0), -EMSGSIZE);
	pull_nothing(b);
	emit_text(own, "fine");
	pull_text(b, "fine");
}

static void F23_stranger(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_node *node = NULL;

	child_check(setgid(65534) == 0 && setuid(65534) == 0);
	child_fails(ringbus_node_open(&node, &o), -EACCES);
	child_check(node == NULL);
	child_check(strlen(ringbus_error_detail()) > 0);
}

static void F23_another_user_cannot_join(void **state)
{
	if (geteuid() != 0) {
		print_message("SKIPPED: needs root to become another user\n");
		skip();
	}
	child_join(child_start(F23_stranger, 0));
	node_open();
}

static void F24_a_service_restarts_on_its_port_after_kill_and_after_stop(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *own = single(a, "news");

	subscribe(b, "news");
	for (int i = 0; i < 3; i++) {
		bus_kill();
		bus_serve(NULL);
		assert_int_equal(emit_text(own, "kept"), 1);
		pull_text(b, "kept");
		bus_stop();
		bus_serve(NULL);
		node_close(node_open());
	}
}

static void F24_a_second_service_of_the_same_bus_is_refused(void **state)
{
	struct ringbus_service_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_service *service = NULL;
	int rc = ringbus_service_open(&service, &o);

	assert_true(rc == -EBUSY || rc == -EADDRINUSE);
	assert_null(service);
	node_open();
}

static void quiet(const struct ringbus_message *message, void *user)
{
}

static void F30_noisy_life(uint64_t write_end)
{
	struct ringbus_node *node, *other;
	struct ringbus_event *event;

	dup2((int)write_end, STDOUT_FILENO);
	dup2((int)write_end, STDERR_FILENO);
	node = child_node(NULL);
	other = child_node(NULL);
	child_ok(ringbus_event_create(&event, node, "news", NULL));
	child_ok(ringbus_subscribe(&event, other, "news", NULL));
	child_ok(ringbus_listen(other, quiet, NULL));
	child_fails(ringbus_emit(event, "x", 1, 0), -EPERM);
	child_fails(ringbus_contact(node, 1, "x", 1, 0), -ESRCH);
	child_fails(ringbus_event_dissolve(event), -EPERM);
	ringbus_node_close(other);
	ringbus_node_close(node);
}

static void F30_the_library_prints_nothing(void **state)
{
	char text[256];
	int ends[2];
	ssize_t got;

	unsetenv("RINGBUS_LOG");
	assert_int_equal(pipe(ends), 0);
	child_join(child_start(F30_noisy_life, (uint64_t)ends[1]));
	close(ends[1]);
	got = read(ends[0], text, sizeof(text) - 1);
	close(ends[0]);
	if (got > 0)
		fail_msg("it printed: %.*s", (int)got, text);
	assert_int_equal(got, 0);
}

/* Pool memory that anybody has; *slots: that are not free. */
static uint64_t pool_memory(unsigned *slots)
{
	struct ringbus_inspect *inspect;
	struct ringbus_inspect_node node;
	struct ringbus_inspect_pool pool;
	uint32_t cursor = 0;
	uint64_t bytes = 0;

	ok(ringbus_inspect_open(&inspect, bus_port(), bus_directory()));
	for (*slots = 0; ringbus_inspect_node_next(inspect, &cursor, &node) > 0;)
		++*slots;
	for (cursor = 0; ringbus_inspect_pool_next(inspect, &cursor, &pool) > 0;)
		bytes += pool.bytes;
	ringbus_inspect_close(inspect);
	return bytes;
}

/* Keeps one of two payloads, leaves the other one unread. */
static void F15_heir(uint64_t closes)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_borrow *borrow;
	struct ringbus_address own;
	struct ringbus_message m;

	child_ok(ringbus_node_address(node, &own));
	flag_set(SLOT, own.slot);
	flag_set(GENERATION, own.generation);
	flag_set(READY, 2);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind == RINGBUS_NOTICE);
	child_ok(ringbus_borrow(&m, &borrow));
	flag_set(DONE, 1);
	flag_wait(GO, 1);
	if (closes) {
		ringbus_release(borrow);
		ringbus_node_close(node);
	}
	for (;;)
		pause();
}

static void F15_testator(uint64_t unused)
{
	static uint8_t data[100000];
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to;

	flag_set(READY, 1);
	flag_wait(READY, 2);
	to = (struct ringbus_address){.slot = (uint32_t)flag_get(SLOT),
				      .generation = (uint32_t)flag_get(GENERATION)};
	for (int i = 0; i < 2; i++)
		child_ok(ringbus_contact_address(node, &to, data, sizeof(data), 0));
	for (;;)
		pause();
}

/* The sender has the lower slot, so it is freed first. */
static void memory_goes_back(bool heir_lives_on)
{
	struct ringbus_node *stays = node_open();
	pid_t sender, receiver;
	unsigned slots;

	sender = child_start(F15_testator, 0);
	flag_wait(READY, 1);
	receiver = child_start(F15_heir, heir_lives_on);
	flag_wait(DONE, 1);
	while (pool_memory(&slots) < 200000) /* the second payload is under way */
		pause_briefly();
	assert_int_equal(slots, 3);
	bus_kill();
	child_kill(sender);
	if (!heir_lives_on)
		child_kill(receiver);
	bus_serve(NULL); /* finds the dead and frees them */
	while (pool_memory(&slots), slots > (heir_lives_on ? 2 : 1))
		pause_briefly();
	if (heir_lives_on) {
		assert_true(pool_memory(&slots) >= 200000); /* it may still look at it */
		flag_set(GO, 1);
		while (pool_memory(&slots), slots > 1)
			pause_briefly();
		child_kill(receiver);
	}
	assert_int_equal(pool_memory(&slots), 0);
	node_close(stays);
}

static void F15_memory_of_two_that_died_together_goes_back(void **state)
{
	memory_goes_back(false);
}

static void F15_memory_of_the_dead_goes_back_with_its_last_reader(void **state)
{
	memory_goes_back(true);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(F06_the_data_plane_survives_the_death_of_the_service),
	BARE_TEST(F15_slots_and_subscriptions_of_the_dead_are_reclaimed_without_stale_messages),
	BUS_TEST(F15_memory_of_two_that_died_together_goes_back),
	BUS_TEST(F15_memory_of_the_dead_goes_back_with_its_last_reader),
	BUS_TEST(F19_garbage_short_and_endless_requests_do_not_disturb_the_service),
	BUS_TEST(F19_sizes_are_checked_before_anything_is_sent),
	BUS_TEST(F23_another_user_cannot_join),
	BUS_TEST(F24_a_service_restarts_on_its_port_after_kill_and_after_stop),
	BUS_TEST(F24_a_second_service_of_the_same_bus_is_refused),
	BUS_TEST(F30_the_library_prints_nothing),
};

HARNESS_MAIN("contract_faults", tests)

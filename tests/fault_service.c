/* fault_service.c: the bootstrap service among strangers, liars and strange files. */
#include "service_fixture.h"

#include "port.h"
#include "wire.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

static int dial(void)
{
	return ok(port_connect(bus_port(), rb_deadline_ns(10 * RB_SECOND)));
}

/* Reads until the other side closes. */
static void expect_closed(int fd)
{
	char byte;
	int n;

	do {
		assert_int_equal(port_wait(fd, POLLIN, rb_deadline_ns(40 * RB_SECOND)), 0);
		n = port_read(fd, &byte, 1);
	} while (n > 0 || n == -EAGAIN);
	close(fd);
}

/* ---- strangers ---- */

static void garbage_closes_its_own_connection_only(void **state)
{
	uint64_t seed = harness_number("HARNESS_SEED", 1);
	int half = dial();

	ok(port_send(half, "x", 1, rb_deadline_ns(RB_SECOND)));
	for (int i = 0; i < 50; i++) {
		uint64_t words[8];
		int fd = dial();

		for (unsigned k = 0; k < 8; k++)
			words[k] = splitmix(&seed);
		if (i % 2)
			words[0] = WIRE_MAGIC | (uint64_t)(i % 8) << 32;
		ok(port_send(fd, words, sizeof(words), rb_deadline_ns(RB_SECOND)));
		if (i % 2 == 0 || i % 8 != WIRE_HELLO)
			expect_closed(fd);
		else
			close(fd);
		join_and_leave();
	}
	expect_closed(half);
}

static void a_hello_with_a_wild_offset_is_refused(void **state)
{
	static const uint64_t offsets[] = {0, 4096, 1, UINT64_MAX, 1ull << 63};
	struct join_result r = join();

	for (unsigned i = 0; i < rb_array_size(offsets); i++) {
		struct wire_message m = {
			.magic = WIRE_MAGIC,
			.kind = WIRE_HELLO,
			.signature = layout_signature(),
			.proof_offset = offsets[i],
		};
		int fd = dial();

		memcpy(m.uuid, r.region->uuid, 16);
		ok(port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)));
		ok(port_receive(fd, &m, sizeof(m), rb_deadline_ns(10 * RB_SECOND)));
		assert_int_equal(m.kind, WIRE_REFUSAL);
		close(fd);
	}
	leave(&r);
}

/* HELLO to CHALLENGE, as a client does it. */
static int shake(const struct region *region, struct wire_message *challenge)
{
	struct wire_message m = {
		.magic = WIRE_MAGIC,
		.kind = WIRE_HELLO,
		.signature = layout_signature(),
		.proof_offset = peer_proof_offset(),
	};
	int fd = dial();

	memcpy(m.uuid, region->uuid, 16);
	ok(port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)));
	ok(port_receive(fd, challenge, sizeof(*challenge), rb_deadline_ns(10 * RB_SECOND)));
	assert_int_equal(challenge->kind, WIRE_CHALLENGE);
	return fd;
}

static void who_proves_nothing_gets_nothing(void **state)
{
	struct join_result r = join();
	struct wire_message m;
	int fd = shake(r.region, &m);

	m.kind = WIRE_PROVED;
	ok(port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)));
	ok(port_receive(fd, &m, sizeof(m), rb_deadline_ns(10 * RB_SECOND)));
	assert_int_equal(m.kind, WIRE_REFUSAL);
	assert_int_equal(m.error, EACCES);
	assert_int_equal(control_busy_slots(r.region), 1);
	close(fd);
	leave(&r);
}

/* Is granted a slot and does not claim it. Returns the connection. */
static int be_granted(struct region *region, struct wire_message *grant)
{
	struct wire_message m;
	int fd = shake(region, &m);
	uint64_t offset = m.proof_offset;

	ok(peer_proof_take(region, offset));
	m.kind = WIRE_PROVED;
	ok(port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)));
	ok(port_receive(fd, grant, sizeof(*grant), rb_deadline_ns(10 * RB_SECOND)));
	assert_int_equal(grant->kind, WIRE_GRANT);
	assert_int_equal(grant->pid, getpid());
	peer_proof_drop(region, offset);
	return fd;
}

static void a_grant_that_nobody_takes_is_taken_back(void **state)
{
	struct join_result r = join();
	struct wire_message grant;

	close(be_granted(r.region, &grant));
	/* sync SLOT reader: none; a look by a test */
	while (slot_state(shm_load_acquire(&r.region->bells[grant.slot].slot)) != SLOT_FREE)
		pause_briefly();
	leave(&r);
}

static void a_service_takes_its_grants_back_before_it_ends(void **state)
{
	struct join_result r = join();
	struct wire_message grant;
	int fd = be_granted(r.region, &grant);

	bus_stop();
	/* sync SLOT reader: none; a look by a test */
	assert_int_equal(slot_state(shm_load_acquire(&r.region->bells[grant.slot].slot)),
			 SLOT_FREE);
	close(fd);
	bus_serve(NULL);
	fd = be_granted(r.region, &grant);
	leave(&r);
	bus_stop();
	assert_int_equal(access(bus_file(), F_OK), -1);
	close(fd);
}

static void a_flood_of_idle_connections_keeps_nobody_out(void **state)
{
	int fds[200];

	for (unsigned i = 0; i < rb_array_size(fds); i++)
		fds[i] = dial();
	join_and_leave();
	for (unsigned i = 0; i < rb_array_size(fds); i++)
		expect_closed(fds[i]);
	join_and_leave();
}

static void serve_with_few_descriptors(uint64_t port)
{
	struct ringbus_service_options options = {.size = sizeof(options), .port = (unsigned)port};
	struct rlimit limit = {24, 24};
	struct ringbus_service *service;

	/* Descriptors of the region are put at 100 and above: first those, then the limit. */
	child_ok(ringbus_service_open(&service, &options));
	child_check(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	flag_set(0, 1);
	child_ok(ringbus_service_run(service));
}

static void a_service_out_of_descriptors_lives_on(void **state)
{
	int fds[100];
	pid_t child;

	bus_serve(NULL);
	bus_stop();
	child = child_start(serve_with_few_descriptors, bus_port());
	flag_wait(0, 1);
	for (unsigned i = 0; i < rb_array_size(fds); i++)
		fds[i] = dial();
	for (unsigned i = 0; i < rb_array_size(fds); i++)
		expect_closed(fds[i]);
	assert_false(child_ended(child));
	close(dial());
	bus_expect_leftovers();
	child_kill(child);
}

/* ---- impostors ---- */

enum lie { LIE_CHALLENGE, LIE_TEXT, LIE_CLOSE, LIE_SILENCE };

static void liar(uint64_t lie)
{
	struct wire_message m;
	int listener = child_ok(port_listen(bus_port()));

	flag_set(2, 1);
	for (;;) {
		int fd;

		child_check(port_wait(listener, POLLIN, UINT64_MAX - 1) == 0);
		fd = port_accept(listener);
		if (fd < 0)
			continue;
		if (lie == LIE_TEXT) {
			static const char text[] = "HTTP/1.1 400 Bad Request\r\nConnection: "
						   "close\r\nContent-Length: 0\r\n\r\n";

			port_send(fd, text, sizeof(text), rb_deadline_ns(RB_SECOND));
		} else if (lie == LIE_CHALLENGE &&
			   port_receive(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)) == 0) {
			m.kind = WIRE_CHALLENGE;
			m.proof_offset = peer_proof_offset();
			port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND));
		}
		if (lie == LIE_CLOSE)
			close(fd);
	}
}

static void expect_lie(enum lie lie, uint64_t timeout_ns, int code, const char *text)
{
	struct join_result r;
	pid_t child = child_start(liar, (uint64_t)lie);

	flag_wait(2, 1);
	fails(try_join(&r, timeout_ns, false), code);
	if (!strstr(ringbus_error_detail(), text))
		fail_msg("not the right words: %s", ringbus_error_detail());
	child_kill(child);
	flag_set(2, 0);
}

static void an_impostor_on_the_port_of_a_bus_is_found_out(void **state)
{
	child_start(member, 0);
	flag_wait(0, 1);
	bus_kill();
	expect_lie(LIE_CHALLENGE, 20 * RB_SECOND, -EACCES, "impostor");
	expect_lie(LIE_TEXT, 20 * RB_SECOND, -EPROTO, "no ringbus service");
	expect_lie(LIE_CLOSE, RB_SECOND / 4, -ETIMEDOUT, "closes connections");
	expect_lie(LIE_SILENCE, RB_SECOND / 4, -ETIMEDOUT, "does not answer");
	bus_serve(NULL);
	join_and_leave();
}

static void joiner(uint64_t unused)
{
	struct join_result r;

	flag_wait(0, 1);
	child_fails(try_join(&r, 20 * RB_SECOND, false), -ECONNREFUSED);
}

/* Takes a greeting, and answers it with or without a proof. */
static int challenge(int listener, struct region *region, bool proved)
{
	struct wire_message m;
	int fd;

	assert_int_equal(port_wait(listener, POLLIN, UINT64_MAX - 1), 0);
	fd = ok(port_accept(listener));
	ok(port_receive(fd, &m, sizeof(m), rb_deadline_ns(20 * RB_SECOND)));
	if (proved)
		ok(peer_proof_take(region, m.proof_offset));
	m.kind = WIRE_CHALLENGE;
	m.proof_offset = peer_proof_offset();
	ok(port_send(fd, &m, sizeof(m), rb_deadline_ns(RB_SECOND)));
	return fd;
}

static void a_service_that_has_lost_a_proof_is_asked_again(void **state)
{
	struct wire_message m = {0};
	struct region *region;
	int listener, first, second;
	pid_t child;

	bus_kill();
	ok(region_open(&region, bus_port(), NULL));
	child = child_start(joiner, 0); /* without a copy of the listener */
	listener = ok(port_listen(bus_port()));
	flag_set(0, 1);
	first = challenge(listener, region, false);
	second = challenge(listener, region, true);
	ok(port_receive(second, &m, sizeof(m), rb_deadline_ns(20 * RB_SECOND)));
	assert_int_equal(m.kind, WIRE_PROVED);
	close(listener);
	close(second);
	child_join(child);
	close(first);
	region_put(region);
}

static void a_port_of_strangers_without_a_bus_is_eacces(void **state)
{
	bus_serve(NULL);
	bus_stop();
	expect_lie(LIE_CHALLENGE, 20 * RB_SECOND, -EACCES, "belongs to process");
}

static void a_port_that_is_taken_is_eaddrinuse_and_says_by_whom(void **state)
{
	struct ringbus_service_options options = {.size = sizeof(options)};
	struct ringbus_service *service;
	char who[32];
	pid_t child;

	bus_serve(NULL);
	bus_stop();
	child = child_start(liar, LIE_CLOSE);
	flag_wait(2, 1);
	options.port = bus_port();
	fails(ringbus_service_open(&service, &options), -EADDRINUSE);
	snprintf(who, sizeof(who), "process %d", (int)child);
	assert_non_null(strstr(ringbus_error_detail(), who));
}

/* The kernel gives connections ports of the range in which the default one lies. */
static void a_connection_with_the_number_of_a_port_does_not_listen_there(void **state)
{
	struct sockaddr_in from = {.sin_family = AF_INET,
				   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in to = from;
	socklen_t bytes = sizeof(from);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char who[PORT_WHO_MAX], mine[32];

	assert_true(port_holder(bus_port(), who) == geteuid());
	assert_int_equal(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	to.sin_port = htons((uint16_t)bus_port());
	assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&from, &bytes), 0);
	assert_int_equal(port_holder(ntohs(from.sin_port), who), -1);
	/* It keeps others from listening there, and is named then. */
	fails(port_listen(ntohs(from.sin_port)), -EADDRINUSE);
	snprintf(mine, sizeof(mine), "process %d", (int)getpid());
	assert_non_null(strstr(ringbus_error_detail(), mine));
	close(fd);
}

static void nobody_listens(void **state)
{
	struct join_result r;

	bus_serve(NULL);
	bus_stop();
	fails(try_join(&r, RB_SECOND, false), -ECONNREFUSED);
	assert_non_null(strstr(ringbus_error_detail(), "ringbusd --port"));
}

/* A network of our own where a connecting socket can only be given the very port that it connects
 * to. */
static void connect_to_self(uint64_t port)
{
	struct ifreq request = {.ifr_name = "lo"};
	char range[32];
	int fd;

	child_check(unshare(CLONE_NEWNET) == 0);
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	child_check(ioctl(fd, SIOCSIFFLAGS, &request) == 0);
	close(fd);
	fd = open("/proc/sys/net/ipv4/ip_local_port_range", O_WRONLY | O_CLOEXEC);
	snprintf(range, sizeof(range), "%u %u", (unsigned)port, (unsigned)port);
	if (fd < 0 || write(fd, range, strlen(range)) < 0)
		return;
	flag_set(0, 1);
	child_check(port_connect((unsigned)port, rb_deadline_ns(RB_SECOND)) == -ECONNREFUSED);
	/* Nothing of it is left in the way of a service. */
	child_ok(port_listen((unsigned)port));
}

static void a_connection_to_oneself_counts_as_refused(void **state)
{
	if (geteuid() != 0)
		skip();
	child_join(child_start(connect_to_self, 54121));
	assert_int_equal(flag_get(0), 1);
}

/* ---- files ---- */

static void strange_files_stop_a_service(void **state)
{
	bus_serve(NULL);
	bus_stop();
	ok(symlink("/etc/passwd", bus_file()));
	fails(try_service(), -EACCES);
	assert_non_null(strstr(ringbus_error_detail(), bus_file()));
	ok(unlink(bus_file()));
	ok(mkfifo(bus_file(), 0600));
	fails(try_service(), -EACCES);
	ok(unlink(bus_file()));
	ok(try_service());
	bus_expect_leftovers();
}

static void a_file_of_noise_that_nobody_uses_is_replaced(void **state)
{
	uint64_t seed = harness_number("HARNESS_SEED", 1);

	bus_serve(NULL);
	bus_stop();
	for (int i = 0; i < 8; i++) {
		uint64_t words[1024];
		int fd = open(bus_file(), O_CREAT | O_TRUNC | O_WRONLY, 0600);

		for (unsigned k = 0; k < rb_array_size(words); k++)
			words[k] = splitmix(&seed);
		if (i % 2)
			words[0] = LAYOUT_MAGIC;
		assert_true(write(fd, words, (size_t)i * 1000) == i * 1000);
		close(fd);
		ok(try_service());
	}
}

static void another_layout_is_refused_while_somebody_uses_it(void **state)
{
	pid_t child = child_start(member, 0);
	uint32_t version = LAYOUT_VERSION + 1;
	char who[32];
	int fd;

	flag_wait(0, 1);
	bus_kill();
	fd = open(bus_file(), O_WRONLY);
	assert_int_equal(pwrite(fd, &version, 4, offsetof(struct layout_header, version)), 4);
	close(fd);
	fails(try_service(), -EPROTO);
	snprintf(who, sizeof(who), "%d", (int)child);
	assert_non_null(strstr(ringbus_error_detail(), who));
	child_kill(child);
	ok(try_service());
}

static void an_earlier_boot_is_not_believed_while_somebody_uses_it(void **state)
{
	pid_t child = child_start(member, 0);
	char who[32];
	int fd;

	flag_wait(0, 1);
	bus_kill();
	fd = open(bus_file(), O_WRONLY);
	assert_int_equal(pwrite(fd, "x", 1, offsetof(struct layout_header, boot_id)), 1);
	close(fd);
	fails(try_service(), -EPROTO);
	snprintf(who, sizeof(who), "%d", (int)child);
	assert_non_null(strstr(ringbus_error_detail(), "earlier boot"));
	assert_non_null(strstr(ringbus_error_detail(), who));
	child_kill(child);
	ok(try_service());
}

static void serve_without_boot_id(uint64_t unused)
{
	child_check(unshare(CLONE_NEWNS) == 0);
	child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	child_check(mount("tmpfs", "/proc/sys/kernel/random", "tmpfs", 0, NULL) == 0);
	child_fails(try_service(), -EACCES);
	child_check(strstr(ringbus_error_detail(), "boot_id") != NULL);
}

static void a_service_that_cannot_tell_the_boot_replaces_nothing(void **state)
{
	pid_t child;
	struct stat was, now;

	if (geteuid() != 0)
		skip();
	child = child_start(member, 0);
	flag_wait(0, 1);
	bus_kill();
	ok(stat(bus_file(), &was));
	child_join(child_start(serve_without_boot_id, 0));
	ok(stat(bus_file(), &now));
	assert_int_equal(now.st_ino, was.st_ino);
	child_kill(child);
	ok(try_service());
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(garbage_closes_its_own_connection_only),
	BUS_TEST(a_hello_with_a_wild_offset_is_refused),
	BUS_TEST(who_proves_nothing_gets_nothing),
	BUS_TEST(a_grant_that_nobody_takes_is_taken_back),
	BUS_TEST(a_service_takes_its_grants_back_before_it_ends),
	BUS_TEST(a_flood_of_idle_connections_keeps_nobody_out),
	BARE_TEST(a_service_out_of_descriptors_lives_on),
	BUS_TEST(an_impostor_on_the_port_of_a_bus_is_found_out),
	BUS_TEST(a_service_that_has_lost_a_proof_is_asked_again),
	BARE_TEST(a_port_of_strangers_without_a_bus_is_eacces),
	BARE_TEST(a_port_that_is_taken_is_eaddrinuse_and_says_by_whom),
	BUS_TEST(a_connection_with_the_number_of_a_port_does_not_listen_there),
	BARE_TEST(nobody_listens),
	BARE_TEST(a_connection_to_oneself_counts_as_refused),
	BARE_TEST(strange_files_stop_a_service),
	BARE_TEST(a_file_of_noise_that_nobody_uses_is_replaced),
	BUS_TEST(another_layout_is_refused_while_somebody_uses_it),
	BUS_TEST(an_earlier_boot_is_not_believed_while_somebody_uses_it),
	BUS_TEST(a_service_that_cannot_tell_the_boot_replaces_nothing),
};

HARNESS_MAIN("fault_service", tests)

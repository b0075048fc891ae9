/* fuzz_memory.c: the region's file is truncated, punched or out of space under live traffic, with
 * the SIGBUS guard on: nobody crashes, and after a truncation every call soon says -EFAULT or
 * -ESTALE. Rings of the gone make room for those who are there.
 */
#include "harness.h"
#include "image.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { WORKERS = 3, LARGE = 5000 };
enum { READY, ATTACKED, STOP, SLOWEST, ERRORS, MESSAGES, KIND, TALKERS };

enum kind {
	CUT_TO_NOTHING,
	CUT_TO_A_PAGE,
	CUT_TO_THE_FIXED_PART,
	CUT_IN_THE_MIDDLE,
	CUT_AND_GROWN_AGAIN,
	HOLES,
	ONE_HOLE,
	KINDS
};

static const char *const names[] = {"cut to nothing",	 "cut to a page", "cut to the fixed part",
				    "cut in the middle", "cut and grown", "holes",
				    "one large hole"};

static struct {
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_borrow *borrow;
	struct ringbus_loan loan;
	uint64_t random;
} w;

static volatile uint64_t sink;

static bool documented(int rc)
{
	static const int codes[] = {EAGAIN, EBADMSG, EBUSY,  EEXIST,   EFAULT, EINVAL,
				    ENFILE, ENOENT,  ENOSPC, ENOTCONN, EPERM,  ESRCH,
				    ESTALE, EUSERS,  EIO,    ETIMEDOUT};

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (rc == -codes[i])
			return true;
	return rc >= 0;
}

static int may(int rc)
{
	if (!documented(rc))
		harness_child_fail("documented code", rc, __FILE__, __LINE__);
	if (rc < 0 && rc != -EAGAIN && rc != -ETIMEDOUT)
		flag_add(ERRORS, 1);
	return rc;
}

static int receive(void)
{
	struct ringbus_message m;
	int rc = ringbus_next(w.node, &m, 0);

	if (rc < 0)
		return rc;
	for (size_t i = 0; i < m.size; i += 64)
		sink += ((const uint8_t *)m.data)[i];
	if (m.kind == RINGBUS_NOTICE)
		return 0;
	flag_add(MESSAGES, 1);
	if (splitmix(&w.random) % 4)
		return 0;
	ringbus_release(w.borrow);
	w.borrow = NULL;
	return ringbus_borrow(&m, &w.borrow);
}

static int use_loan(void)
{
	int rc = 0;

	if (!w.loan.data)
		rc = ringbus_loan(w.node, 2000, &w.loan, 0);
	if (rc < 0)
		return rc;
	memset(w.loan.data, 1, w.loan.size);
	return ringbus_emit_loan(w.event, &w.loan, 0);
}

/* One of all calls; of each kind some. */
static int act(unsigned which)
{
	static const uint8_t data[LARGE];
	struct ringbus_address to = {.slot = (uint32_t)(splitmix(&w.random) % 4)};
	struct ringbus_event *e;
	uint64_t n;
	int rc;

	switch (which) {
	case 0:
		return ringbus_emit(w.event, data, LARGE, 0);
	case 1:
		return ringbus_emit(w.event, data, 100, 0);
	case 2:
		rc = ringbus_contact_address(w.node, &to, data, 300, 0);
		return rc == -EINVAL ? 0 : rc; /* itself */
	case 3:
		return receive();
	case 4:
		return ringbus_subscribe(&e, w.node, "other", NULL);
	case 5:
		rc = ringbus_event_create(&e, w.node, NULL, NULL);
		return rc < 0 ? rc : ringbus_event_dissolve(e);
	case 6:
		return ringbus_wait(w.node, 50000);
	case 7:
		return use_loan();
	case 8:
		rc = ringbus_signal_wait(w.node, &n, 0);
		return rc == -EAGAIN ? 0 : rc;
	default:
		return ringbus_node_trim(w.node);
	}
}

enum { ACTS = 10 };

static void open_worker(void)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND,
					 .sigbus_guard = true};
	struct ringbus_event_options multi = {.size = sizeof(multi),
					      .mode = RINGBUS_MULTI_EMISSION,
					      .receive = true};

	child_ok(ringbus_node_open(&w.node, &o));
	if (ringbus_subscribe(&w.event, w.node, "news",
			      &(struct ringbus_subscribe_options){
				      .size = sizeof(struct ringbus_subscribe_options),
				      .must_exist = true}) < 0)
		child_ok(ringbus_event_create(&w.event, w.node, "news", &multi));
}

/* After a truncation: each call fails, and soon it is -EFAULT, or -ESTALE. */
static void all_fail(uint64_t since)
{
	unsigned good = 0;
	uint64_t took;

	for (unsigned i = 0; good < ACTS; i++) {
		int rc = act(i % ACTS);

		/* -ESTALE: an allocation under way has made the file long again, with zeros in it
		 */
		good = rc == -EFAULT || rc == -ESTALE ? good + 1 : 0;
		child_check(i < 1000000);
	}
	took = harness_now_ns() - since;
	while (flag_get(SLOWEST) < took)
		flag_set(SLOWEST, took);
}

static bool is_cut(void)
{
	return flag_get(KIND) == CUT_TO_NOTHING || flag_get(KIND) == CUT_TO_A_PAGE;
}

static void work(uint64_t index)
{
	w.random = index + 1;
	flag_wait(READY, index);
	open_worker();
	flag_add(READY, 1);
	flag_wait(READY, WORKERS);
	while (flag_get(STOP) == 0 && !(is_cut() && flag_get(ATTACKED)))
		may(act((unsigned)(splitmix(&w.random) % ACTS)));
	for (unsigned i = 0; i < 200 && !is_cut(); i++)
		may(act((unsigned)(splitmix(&w.random) % ACTS)));
	if (is_cut())
		all_fail(flag_get(ATTACKED));
	ringbus_release(w.borrow);
	ringbus_node_close(w.node);
}

static void punch(uint64_t offset, uint64_t bytes)
{
	assert_int_equal(fallocate(image_fd(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   (off_t)offset, (off_t)bytes),
			 0);
}

static void attack(enum kind kind, uint64_t random)
{
	uint64_t bytes = image_file_bytes(), fixed = image_geometry()->fixed_bytes;
	const uint64_t sizes[] = {0, RB_PAGE, fixed, (fixed + bytes) / 2 & ~4095ull, 0};

	if (kind <= CUT_AND_GROWN_AGAIN)
		assert_int_equal(ftruncate(image_fd(), (off_t)sizes[kind]), 0);
	if (kind == CUT_AND_GROWN_AGAIN)
		assert_int_equal(ftruncate(image_fd(), (off_t)bytes), 0);
	for (unsigned i = 0; kind == HOLES && i < 20; i++)
		punch(RB_PAGE * (splitmix(&random) % (bytes / RB_PAGE)), RB_PAGE);
	if (kind == ONE_HOLE)
		punch(0, bytes);
	flag_set(ATTACKED, harness_now_ns());
}

static void some_turns(void)
{
	for (unsigned i = 0; i < 10; i++)
		pause_briefly();
}

static const struct bus_spec spec = {.nodes = 8,
				     .events = 16,
				     .ring_bytes = 4096,
				     .pool_bytes = 64 << 10};

/* The service has no guard in these tests: it is away while the file is damaged. */
static void start_workers(pid_t pids[WORKERS], enum kind kind)
{
	for (unsigned i = READY; i <= KIND; i++)
		if (i != SLOWEST && i != ERRORS && i != MESSAGES)
			flag_set(i, 0);
	flag_set(KIND, kind);
	bus_serve(&spec);
	image_keep();
	for (unsigned i = 0; i < WORKERS; i++)
		pids[i] = child_start(work, i);
	flag_wait(READY, WORKERS);
	bus_kill();
	some_turns();
}

static void one_round(enum kind kind, uint64_t random)
{
	pid_t pids[WORKERS];

	watchdog(60);
	start_workers(pids, kind);
	attack(kind, random);
	some_turns();
	flag_set(STOP, 1);
	for (unsigned i = 0; i < WORKERS; i++)
		child_join(pids[i]);
	unlink(bus_file());
}

static void damage_of_the_file_kills_nobody(void **state)
{
	uint64_t rounds = harness_number("MEMORY_ROUNDS", 20);
	uint64_t random = harness_number("MEMORY_SEED", 1);

	bus_expect_leftovers();
	setenv("HARNESS_NO_CHECK", "1", 1);
	for (unsigned kind = 0; kind < KINDS; kind++) {
		flag_set(SLOWEST, 0);
		flag_set(ERRORS, 0);
		flag_set(MESSAGES, 0);
		for (uint64_t i = 0; i < rounds; i++)
			one_round((enum kind)kind, splitmix(&random));
		ledger("files-damaged", (double)rounds);
		print_message("%-22s %llu times: %llu messages, %llu errors told; all calls "
			      "-EFAULT after %llu us at most\n",
			      names[kind], (unsigned long long)rounds,
			      (unsigned long long)flag_get(MESSAGES),
			      (unsigned long long)flag_get(ERRORS),
			      (unsigned long long)flag_get(SLOWEST) / 1000);
	}
}

/* ---- a filesystem without room ---- */

static void mount_small(void)
{
	if (geteuid() == 0 && unshare(CLONE_NEWNS) == 0 &&
	    mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
	    mount("tmpfs", bus_directory(), "tmpfs", 0, "size=1m") == 0 &&
	    chmod(bus_directory(), 0700) == 0)
		return;
	print_message("SKIPPED: needs the right to mount a tmpfs (root)\n");
	skip();
}

/* Takes all room that there is. */
static int fill(void)
{
	char path[128];
	off_t at = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/ballast", bus_directory());
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	while (at < 8 << 20) {
		fallocate(fd, 0, at, 4096);
		at += 4096;
	}
	return fd;
}

/* On a full filesystem a page that was punched out cannot come back: touching it is SIGBUS. */
static void holes_in_a_full_filesystem_kill_nobody(void **state)
{
	uint64_t rounds = harness_number("MEMORY_ROUNDS", 20);
	uint64_t random = harness_number("MEMORY_SEED", 1);
	char path[128];

	bus_expect_leftovers();
	mount_small();
	setenv("HARNESS_NO_CHECK", "1", 1);
	for (uint64_t i = 0; i < rounds; i++) {
		pid_t pids[WORKERS];
		int ballast;

		watchdog(60);
		start_workers(pids, HOLES);
		ballast = fill();
		some_turns();
		attack(i % 2 ? HOLES : ONE_HOLE, splitmix(&random));
		close(fill());
		some_turns();
		flag_set(STOP, 1);
		for (unsigned k = 0; k < WORKERS; k++)
			child_join(pids[k]);
		snprintf(path, sizeof(path), "%s/ballast", bus_directory());
		unlink(path);
		close(ballast);
		unlink(bus_file());
	}
	ledger("files-damaged", (double)rounds);
	print_message("full filesystem        %llu times: %llu messages, %llu errors told\n",
		      (unsigned long long)rounds, (unsigned long long)flag_get(MESSAGES),
		      (unsigned long long)flag_get(ERRORS));
	assert_true(flag_get(ERRORS) > 0);
}

static const struct ringbus_node_options told = {.size = sizeof(told), .peer_notices = true};

/* Two that talk to each other until they are killed: the last words of them stay in their ring. */
static void talker(uint64_t second)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address own, other;

	child_ok(ringbus_node_address(node, &own));
	flag_add(TALKERS, 1);
	flag_wait(TALKERS, 2);
	other = (struct ringbus_address){.slot = second ? own.slot - 1 : own.slot + 1};
	child_ok(ringbus_contact_address(node, &other, "x", 1, 0));
	flag_add(TALKERS, 1);
	for (;;)
		pause();
}

static void talk(struct ringbus_node *a, struct ringbus_node *b)
{
	struct ringbus_address to_a = node_address(a), to_b = node_address(b);

	ok(ringbus_contact_address(a, &to_b, "there", 5, 0));
	ok(ringbus_contact_address(b, &to_a, "back", 4, 0));
	pull_text(b, "there");
	pull_text(a, "back");
}

/* All leave by themselves: their rings are named for ever, and have no pages any more. */
static void leave_punched_rings(const struct bus_spec *old, const unsigned (*pairs)[2], unsigned n)
{
	struct ringbus_node *nodes[8];

	for (unsigned i = 0; i < old->nodes; i++)
		nodes[i] = node_open();
	for (unsigned i = 0; i < n; i++)
		talk(nodes[pairs[i][0]], nodes[pairs[i][1]]);
	for (unsigned i = 0; i < old->nodes; i++)
		node_close(nodes[i]);
}

/* had: the ring that needs the room is there, without pages. */
static void rings_make_room(bool had)
{
	static const unsigned pair[1][2] = {{0, 1}};
	struct bus_spec small = {.nodes = 4, .ring_bytes = 65536, .pool_bytes = 65536};
	struct ringbus_node *from, *to;
	struct ringbus_address address;
	struct ringbus_message m;
	pid_t pids[2];
	char path[128];

	mount_small();
	bus_serve(&small);
	if (had)
		leave_punched_rings(&small, pair, 1);
	from = node_open_with(&told);
	to = node_open();
	address = node_address(to);
	for (unsigned i = 0; i < 2; i++) {
		pids[i] = child_start(talker, i);
		flag_wait(TALKERS, i + 1);
	}
	flag_wait(TALKERS, 4);
	while (ringbus_next(from, &m, 0) == 0)
		; /* their beginnings */
	for (unsigned i = 0; i < 2; i++)
		child_kill(pids[i]);
	for (unsigned ends = 0; ends < 2;) {
		ok(ringbus_next(from, &m, RINGBUS_FOREVER));
		ends += m.kind == RINGBUS_NOTICE && m.notice == RINGBUS_PEER_DIED;
	}
	close(fill());
	ok(ringbus_contact_address(from, &address, "room", 4, 0));
	pull_text(to, "room");
	node_close(from);
	node_close(to);
	snprintf(path, sizeof(path), "%s/ballast", bus_directory());
	unlink(path);
}

static void rings_of_the_gone_make_room_in_a_full_filesystem(void **state)
{
	rings_make_room(false);
}

static void rings_of_the_gone_make_room_for_one_that_was_given_back(void **state)
{
	rings_make_room(true);
}

/* ---- holes that the library made itself ---- */

static bool fits(int rc)
{
	child_check(rc == 0 || rc == -ENOSPC);
	flag_add(rc == 0 ? MESSAGES : ERRORS, 1);
	return rc == 0;
}

static void first_words(struct ringbus_node *from, struct ringbus_node *to)
{
	struct ringbus_address address;

	if (!from || !to)
		return;
	child_ok(ringbus_node_address(to, &address));
	fits(ringbus_contact_address(from, &address, "x", 1, 0));
}

/* Two join where there are rings, a third where there are none: a ring to it is new, for which
 * those of the slots that are free are looked at. */
static void newcomers(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_node *nodes[3] = {NULL};

	o.timeout_ns = 20 * HARNESS_SECOND;
	for (unsigned i = 0; i < 3; i++)
		if (!fits(ringbus_node_open(&nodes[i], &o)))
			nodes[i] = NULL;
	first_words(nodes[0], nodes[1]);
	first_words(nodes[1], nodes[0]);
	first_words(nodes[0], nodes[2]);
	for (unsigned i = 0; i < 3; i++)
		ringbus_node_close(nodes[i]);
}

static void rings_without_pages_kill_nobody_in_a_full_filesystem(void **state)
{
	static const unsigned pairs[2][2] = {{0, 1}, {3, 4}};
	struct bus_spec old = {.nodes = 6, .events = 16, .ring_bytes = 65536, .pool_bytes = 65536};
	char path[128];

	mount_small();
	snprintf(path, sizeof(path), "%s/ballast", bus_directory());
	for (off_t pages = 0; pages < 5; pages++) {
		pid_t service;
		int ballast;

		flag_set(ERRORS, 0);
		bus_serve(&old);
		service = bus_service_pid();
		leave_punched_rings(&old, pairs, 2);
		ballast = fill();
		assert_int_equal(fallocate(ballast, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
					   4096 * pages),
				 pages ? 0 : -1);
		child_join(child_start(newcomers, 0));
		assert_true(flag_get(ERRORS) > 0);
		assert_false(child_ended(service));
		close(ballast);
		unlink(path);
		leave_punched_rings(&old, pairs, 2);
		bus_stop();
	}
}

static uint64_t file_pages(void)
{
	struct stat st;

	assert_int_equal(stat(bus_file(), &st), 0);
	return (uint64_t)st.st_blocks / 8;
}

static void who_joins_takes_one_page_of_each_ring_that_nobody_uses(void **state)
{
	static const unsigned pairs[5][2] = {{0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}};
	struct bus_spec old = {.nodes = 6, .ring_bytes = 65536, .pool_bytes = 65536};
	struct ringbus_node *node;
	uint64_t before;

	bus_serve(&old);
	leave_punched_rings(&old, pairs, 5);
	before = file_pages();
	node = node_open();
	assert_int_equal(node_address(node).slot, 0);
	ok(ringbus_poll(node, 0));
	assert_true(file_pages() - before <= 5);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(damage_of_the_file_kills_nobody),
	BARE_TEST(holes_in_a_full_filesystem_kill_nobody),
	BARE_TEST(rings_of_the_gone_make_room_in_a_full_filesystem),
	BARE_TEST(rings_of_the_gone_make_room_for_one_that_was_given_back),
	BARE_TEST(rings_without_pages_kill_nobody_in_a_full_filesystem),
	BARE_TEST(who_joins_takes_one_page_of_each_ring_that_nobody_uses),
};

HARNESS_MAIN("fuzz_memory", tests)

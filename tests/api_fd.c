/* api_fd.c: the descriptor of ringbus_node_fd(): when it is readable, whose it is, what ends it.
 *
 * "Not readable" is looked at without waiting, after a call that has emptied it.
 */
#include "harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/wait.h>

static const struct ringbus_node_options told = {
	.size = sizeof(told),
	.peer_notices = true,
	.no_safety_wake = true,
};

static bool readable(int fd)
{
	return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static void wait_readable(int fd)
{
	assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, -1), 1);
}

static void count(const struct ringbus_message *m, void *user)
{
	++*(unsigned *)user;
}

static void count_signals(uint64_t n, void *user)
{
	*(unsigned *)user += (unsigned)n;
}

static unsigned threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

static void it_is_readable_for_each_kind_of_thing_and_then_no_more(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open_with(&told);
	struct ringbus_address to = node_address(b);
	struct ringbus_subscribe_options o = {.size = sizeof(o), .handler = count};
	struct ringbus_event *news = single(a, "news"), *event;
	unsigned contacts = 0, events = 0, signals = 0;
	int fd;

	ok(ringbus_on_contact(b, count, &contacts));
	ok(ringbus_on_signal(b, count_signals, &signals));
	o.user = &events;
	ok(ringbus_subscribe(&event, b, "news", &o));
	ok(ringbus_poll(b, 0));
	fd = ok(ringbus_node_fd(b));
	assert_false(readable(fd));
	for (unsigned round = 1; round <= 3; round++) {
		ok(ringbus_contact_address(a, &to, "x", 1, 0));
		wait_readable(fd);
		assert_true(readable(fd)); /* level-triggered */
		ok(ringbus_poll(b, 0));
		assert_int_equal(contacts, round);
		assert_false(readable(fd));
		emit_text(news, "x");
		wait_readable(fd);
		ok(ringbus_poll(b, 0));
		assert_int_equal(events, round);
		assert_false(readable(fd));
		ok(ringbus_signal_address(a, &to));
		wait_readable(fd);
		ok(ringbus_poll(b, 0));
		assert_int_equal(signals, round);
		assert_false(readable(fd));
	}
}

static void it_is_readable_for_an_end_that_is_told(void **state)
{
	struct ringbus_node *a = node_open(), *b;
	struct ringbus_node_options o = told;
	unsigned notices = 0;
	int fd;

	o.on_notice = count;
	o.on_notice_user = &notices;
	b = node_open_with(&o);
	while (ringbus_poll(b, 0) > 0)
		;
	notices = 0;
	fd = ok(ringbus_node_fd(b));
	assert_false(readable(fd));
	node_close(a);
	while (notices == 0) {
		wait_readable(fd);
		ok(ringbus_poll(b, 0));
	}
}

static void it_stays_readable_until_all_is_taken(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open_with(&told);
	struct ringbus_address to = node_address(b);
	unsigned contacts = 0, looks = 0;
	int fd = ok(ringbus_node_fd(b));

	ok(ringbus_on_contact(b, count, &contacts));
	for (unsigned i = 0; i < 50; i++)
		ok(ringbus_contact_address(a, &to, &i, sizeof(i), 0));
	while (contacts < 50) {
		wait_readable(fd);
		ok(ringbus_poll(b, 1));
		assert_int_equal(contacts, ++looks);
		assert_int_equal(readable(fd), contacts < 50);
	}
}

static void pulling_empties_it_as_well(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open_with(&told);
	struct ringbus_address to = node_address(b);
	struct ringbus_message m;
	int fd = ok(ringbus_node_fd(b));

	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	wait_readable(fd);
	pull_text(b, "x");
	while (ringbus_next(b, &m, 0) == 0)
		assert_int_equal(m.kind, RINGBUS_NOTICE);
	assert_false(readable(fd));
	ok(ringbus_contact_address(a, &to, "y", 1, 0));
	wait_readable(fd);
	pull_text(b, "y");
}

static void signals_without_a_handler_leave_it_as_it_is(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open_with(&told);
	struct ringbus_address to = node_address(b);
	int fd = ok(ringbus_node_fd(b));
	uint64_t n;

	ok(ringbus_signal_address(a, &to));
	wait_readable(fd); /* something may be pending: its owner looks */
	ok(ringbus_poll(b, 0));
	assert_false(readable(fd)); /* nothing for poll; no loop of looks */
	ok(ringbus_signal_wait(b, &n, 0));
	assert_int_equal(n, 1);
}

static void it_is_one_for_each_node_and_goes_with_it(void **state)
{
	unsigned before = threads();
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to_a = node_address(a), to_b = node_address(b);
	int fd_a = ok(ringbus_node_fd(a)), fd_b = ok(ringbus_node_fd(b));
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event ready = {.events = EPOLLIN};

	assert_int_equal(ringbus_node_fd(a), fd_a);
	assert_int_not_equal(fd_a, fd_b);
	assert_int_equal(fcntl(fd_a, F_GETFD), FD_CLOEXEC);
	assert_true(fd_a >= 100 && fd_b >= 100); /* out of the way of who closes 0, 1, 2 ... */
	ready.data.ptr = a;
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd_a, &ready), 0);
	ready.data.ptr = b;
	assert_int_equal(epoll_ctl(epoll, EPOLL_CTL_ADD, fd_b, &ready), 0);
	for (unsigned i = 0; i < 20; i++) {
		struct ringbus_node *to = i % 2 ? a : b, *from = i % 2 ? b : a;

		ok(ringbus_contact_address(from, i % 2 ? &to_a : &to_b, "x", 1, 0));
		do {
			assert_int_equal(epoll_wait(epoll, &ready, 1, -1), 1);
			ok(ringbus_poll(ready.data.ptr, 0));
		} while (ready.data.ptr != to);
	}
	close(epoll);
	node_close(a);
	node_close(b);
	assert_int_equal(fcntl(fd_a, F_GETFD), -1);
	assert_int_equal(fcntl(fd_b, F_GETFD), -1);
	assert_int_equal(threads(), before);
}

static void ask_from_within(const struct ringbus_message *m, void *user)
{
	*(int *)user = ringbus_node_fd(m->node);
}

static void it_is_refused_in_handlers_and_forked_children(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);
	int status, said = 0;
	pid_t pid;

	fails(ringbus_node_fd(NULL), -EINVAL);
	ok(ringbus_on_contact(b, ask_from_within, &said));
	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	ok(ringbus_poll(b, 0));
	assert_int_equal(said, -EBUSY);
	ok(ringbus_node_fd(b)); /* later it is given */
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(ringbus_node_fd(b) == -ENOTCONN ? 0 : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(it_is_readable_for_each_kind_of_thing_and_then_no_more),
	BUS_TEST(it_is_readable_for_an_end_that_is_told),
	BUS_TEST(it_stays_readable_until_all_is_taken),
	BUS_TEST(pulling_empties_it_as_well),
	BUS_TEST(signals_without_a_handler_leave_it_as_it_is),
	BUS_TEST(it_is_one_for_each_node_and_goes_with_it),
	BUS_TEST(it_is_refused_in_handlers_and_forked_children),
};

HARNESS_MAIN("api_fd", tests)

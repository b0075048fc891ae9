/* api_namespaces.c: processes in other pid namespaces, and of other users of one group. */
#include "harness.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum { JOINED, PID, GO, DONE, SLOT, GENERATION, HELPER, CLOSED };

static bool is_root(void)
{
	if (geteuid() == 0)
		return true;
	print_message("SKIPPED: needs root\n");
	skip();
	return false;
}

/* Until the end of the test children are made in a pid namespace of their own. The first is its
 * init: all others die with it. */
static int enter_namespace(void)
{
	int back = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);

	assert_true(back >= 0);
	assert_int_equal(unshare(CLONE_NEWPID), 0);
	return back;
}

static void leave_namespace(int back)
{
	assert_int_equal(setns(back, CLONE_NEWPID), 0);
	close(back);
}

static void say_address(struct ringbus_node *node)
{
	struct ringbus_address own;

	child_ok(ringbus_node_address(node, &own));
	flag_set(PID, own.pid);
	flag_set(SLOT, own.slot);
	flag_set(GENERATION, own.generation);
	flag_set(JOINED, 1);
}

static struct ringbus_address said_address(void)
{
	return (struct ringbus_address){.pid = (uint32_t)flag_get(PID),
					.slot = (uint32_t)flag_get(SLOT),
					.generation = (uint32_t)flag_get(GENERATION)};
}

/* Answers each contact to its sender, by the process id if there is one; "end" ends it. */
static void echo(uint64_t named)
{
	struct ringbus_node_options o = {.size = sizeof(o), .name = named ? "echo" : NULL};
	struct ringbus_node *node = child_node(&o);
	struct ringbus_message m;
	char text[8] = "";

	say_address(node);
	for (;;) {
		do
			child_ok(ringbus_receive(node, text, sizeof(text), &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		if (m.size == 3 && memcmp(text, "end", 3) == 0)
			break;
		if (m.sender.pid != 0)
			child_ok(ringbus_contact(node, m.sender.pid, text, m.size, 0));
		else
			child_ok(ringbus_contact_address(node, &m.sender, text, m.size, 0));
	}
	ringbus_node_close(node);
}

static struct ringbus_node *watcher_open(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};

	return node_open_with(&o);
}

static void pull_end(struct ringbus_node *node, enum ringbus_notice notice,
		     const struct ringbus_address *who)
{
	struct ringbus_message m;

	do
		pull_notice(node, notice, &m);
	while (m.sender.slot != who->slot || m.sender.generation != who->generation);
}

static void a_node_in_an_inner_namespace_has_the_pid_that_the_service_sees(void **state)
{
	struct ringbus_node *node;
	struct ringbus_address who, found;
	pid_t pid;
	int back;

	if (!is_root())
		return;
	node = watcher_open();
	back = enter_namespace();
	pid = child_start(echo, 0);
	leave_namespace(back);
	flag_wait(JOINED, 1);
	who = said_address();
	assert_int_equal(who.pid, pid);
	ok(ringbus_node_find_pid(node, (uint32_t)pid, &found));
	assert_int_equal(found.slot, who.slot);
	ok(ringbus_contact(node, (uint32_t)pid, "hello", 5, 0));
	pull_text(node, "hello");
	fails(ringbus_contact(node, 1, "x", 1, 0), -ESRCH); /* its pid in there is none here */
	child_kill(pid);
	pull_end(node, RINGBUS_PEER_DIED, &who);
	fails(ringbus_contact(node, (uint32_t)pid, "hello", 5, 0), -ESRCH);
	assert_int_equal(node_address(node_open()).slot, who.slot);
}

/* The service in an inner namespace: the others are out of its sight. */
static void serve_inside(void)
{
	int back = enter_namespace();

	bus_serve(NULL);
	leave_namespace(back);
}

static void nodes_that_the_service_cannot_see_are_addressed_by_slot_and_name(void **state)
{
	struct ringbus_address own, who, found;
	struct ringbus_node *node;
	pid_t pid;

	if (!is_root())
		return;
	serve_inside();
	node = watcher_open();
	own = node_address(node);
	assert_int_equal(own.pid, 0);
	pid = child_start(echo, 1);
	flag_wait(JOINED, 1);
	who = said_address();
	assert_int_equal(who.pid, 0);
	fails(ringbus_contact(node, (uint32_t)pid, "x", 1, 0), -ESRCH);
	fails(ringbus_contact(node, 0, "x", 1, 0), -ESRCH);
	fails(ringbus_signal(node, 0), -ESRCH);
	ok(ringbus_contact_address(node, &who, "hello", 5, 0));
	pull_text(node, "hello");
	ok(ringbus_node_find(node, "echo", &found));
	assert_int_equal(found.slot, who.slot);
	assert_int_equal(found.generation, who.generation);
	ok(ringbus_contact_address(node, &found, "again", 5, 0));
	pull_text(node, "again");
	child_kill(pid);
	pull_end(node, RINGBUS_PEER_DIED, &who);
	assert_int_equal(node_address(node_open()).slot, who.slot);
}

/* Its child keeps the connection open, as children do. */
static void with_a_child(uint64_t test)
{
	struct ringbus_node *node = child_node(NULL);

	if (fork() == 0) {
		flag_set(HELPER, (uint64_t)getpid());
		/* until it is killed, or the test has failed */
		while (flag_get(HELPER) == (uint64_t)getpid() && kill((pid_t)test, 0) == 0)
			pause_briefly();
		_exit(0);
	}
	flag_wait(HELPER, 1);
	say_address(node);
	for (;;)
		pause();
}

static void an_unseen_node_is_not_buried_while_its_connection_is_open(void **state)
{
	struct ringbus_address who;
	struct ringbus_node *node;
	uint8_t data[1000] = {0};
	pid_t pid;
	int rc;

	if (!is_root())
		return;
	serve_inside();
	node = watcher_open();
	pid = child_start(with_a_child, (uint64_t)getpid());
	flag_wait(JOINED, 1);
	who = said_address();
	child_kill(pid);
	while ((rc = ringbus_contact_address(node, &who, data, sizeof(data), 0)) == 0)
		;
	for (unsigned i = 0; i < 300; i++) {
		assert_int_equal(rc, -EAGAIN); /* held back, and suspects it every time */
		pause_briefly();
		rc = ringbus_contact_address(node, &who, data, sizeof(data), 0);
	}
	kill((pid_t)flag_get(HELPER), SIGKILL);
	pull_end(node, RINGBUS_PEER_DIED, &who);
	fails(ringbus_contact_address(node, &who, data, sizeof(data), 0), -ESRCH);
}

static void without_a_service_the_lock_of_an_unseen_node_decides(void **state)
{
	struct ringbus_address who;
	struct ringbus_node *node;
	uint8_t data[1000] = {0};
	pid_t pid;
	int rc;

	if (!is_root())
		return;
	serve_inside();
	node = watcher_open();
	pid = child_start(echo, 0);
	flag_wait(JOINED, 1);
	who = said_address();
	kill(pid, SIGSTOP);
	child_wait_stopped(pid);
	bus_kill();
	while ((rc = ringbus_contact_address(node, &who, data, sizeof(data), 0)) == 0)
		;
	for (unsigned i = 0; i < 50; i++) {
		assert_int_equal(rc, -EAGAIN);
		pause_briefly();
		rc = ringbus_contact_address(node, &who, data, sizeof(data), 0);
	}
	child_kill(pid);
	do
		rc = ringbus_contact_address(node, &who, data, sizeof(data), 0);
	while (rc == -EAGAIN);
	assert_int_equal(rc, -ESRCH);
	pull_end(node, RINGBUS_PEER_DIED, &who);
}

/* It loses its live lock as a process does that closes descriptors which are not its own. */
static void loser(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);

	say_address(node);
	flag_wait(GO, 1);
	for (int fd = 3; fd < 256; fd++)
		close(fd);
	flag_set(CLOSED, 1);
	for (;;)
		pause();
}

/* In an inner namespace: fills the ring to the loser, and suspects it. */
static void suspicious(uint64_t unused)
{
	struct ringbus_address who = said_address();
	struct ringbus_node *node = child_node(NULL);
	uint8_t data[1000] = {0};
	int rc;

	while ((rc = ringbus_contact_address(node, &who, data, sizeof(data), 0)) == 0)
		;
	for (unsigned i = 0; i < 300; i++) {
		child_check(rc == -EAGAIN);
		pause_briefly();
		rc = ringbus_contact_address(node, &who, data, sizeof(data), 0);
	}
	flag_set(DONE, 1);
	do
		rc = ringbus_contact_address(node, &who, data, sizeof(data), 0);
	while (rc == -EAGAIN);
	child_check(rc == -ESRCH);
	ringbus_node_close(node);
}

static void who_cannot_see_a_process_buries_none_that_runs(void **state)
{
	struct ringbus_node *node;
	pid_t pid, other;
	int back;

	if (!is_root())
		return;
	node = watcher_open();
	pid = child_start(loser, 0);
	flag_wait(JOINED, 1);
	flag_set(GO, 1);
	flag_wait(CLOSED, 1);
	back = enter_namespace();
	other = child_start(suspicious, 0);
	leave_namespace(back);
	flag_wait(DONE, 1);
	assert_int_equal(node_stats(node).dead_peers, 0);
	child_kill(pid);
	child_join(other);
}

/* ---- users of one group ---- */

enum { GROUP = 61001, STRANGERS = 61002, USER = 61003 };

static void become(uid_t uid, gid_t gid)
{
	gid_t group = gid;

	child_check(setgroups(1, &group) == 0);
	child_check(setgid(gid) == 0 && setuid(uid) == 0);
}

/* hidden: /proc shows the processes of the same user only. */
static void serve_group(uint64_t hidden)
{
	char group[16];
	struct ringbus_service_options o = {.size = sizeof(o),
					    .port = bus_port(),
					    .group = group,
					    .nodes = 8};
	struct ringbus_service *service;

	if (hidden) {
		child_check(unshare(CLONE_NEWNS) == 0);
		child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
		child_check(mount("proc", "/proc", "proc", 0, "hidepid=2") == 0);
	}
	snprintf(group, sizeof(group), "%u", GROUP);
	become(USER, GROUP);
	child_ok(ringbus_service_open(&service, &o));
	flag_set(GO, 1);
	child_ok(ringbus_service_run(service));
	ringbus_service_close(service);
}

static void member(uint64_t uid)
{
	become((uid_t)uid, GROUP);
	echo(0);
}

static void stranger(uint64_t uid)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_node *node = NULL;

	become((uid_t)uid, STRANGERS);
	child_fails(ringbus_node_open(&node, &o), -EACCES);
	child_check(strlen(ringbus_error_detail()) > 0);
}

/* A second user of the group: talks to the first, and buries it when it was killed. */
static void second_user(uint64_t uid)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};
	struct ringbus_address who = said_address();
	struct ringbus_node *node;
	uint8_t data[70000] = {1};
	struct ringbus_event *event;
	struct ringbus_message m;

	become((uid_t)uid, GROUP);
	node = child_node(&o);
	child_ok(ringbus_contact(node, who.pid, "hello", 5, 0));
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind == RINGBUS_NOTICE);
	child_check(m.size == 5 && memcmp(m.data, "hello", 5) == 0);
	child_ok(ringbus_event_create(&event, node, "news", NULL));
	child_check(child_ok(ringbus_emit(event, data, sizeof(data), 0)) == 0);
	flag_set(DONE, 1);
	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_NOTICE || m.notice != RINGBUS_PEER_DIED);
	child_check(m.sender.slot == who.slot && m.sender.generation == who.generation);
	ringbus_node_close(node);
}

static void share_among_two(bool hidden)
{
	pid_t service, first, second;
	struct stat st;

	if (!is_root())
		return;
	bus_serve(NULL); /* for a port that is free */
	bus_stop();
	assert_int_equal(chown(bus_directory(), 0, GROUP), 0);
	assert_int_equal(chmod(bus_directory(), 02770), 0);
	service = child_start(serve_group, hidden);
	flag_wait(GO, 1);
	assert_int_equal(stat(bus_file(), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0660);
	assert_int_equal(st.st_uid, USER);
	assert_int_equal(st.st_gid, GROUP);
	first = child_start(member, 65534);
	flag_wait(JOINED, 1);
	child_join(child_start(stranger, 65533));
	second = child_start(second_user, 65532);
	flag_wait(DONE, 1);
	child_kill(first);
	child_join(second);
	child_kill(service);
	bus_serve(NULL); /* root adopts it, or replaces it, and cleans up */
}

static void two_users_of_a_group_share_a_bus_and_others_do_not(void **state)
{
	share_among_two(false);
}

static void they_share_it_where_proc_hides_them_from_the_service(void **state)
{
	share_among_two(true);
}

static void another(uint64_t uid)
{
	become((uid_t)uid, GROUP);
	ringbus_node_close(child_node(NULL));
}

/* The first of the group starts the service, which nobody tells of the group. */
static void starter(uint64_t uid)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .autostart = true,
					 .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_node *node;

	become((uid_t)uid, GROUP);
	node = child_node(&o);
	flag_set(JOINED, 1);
	flag_wait(GO, 1);
	ringbus_node_close(node);
}

static void a_user_who_starts_the_service_shares_it_with_the_group_of_the_directory(void **state)
{
	static const char *const kinds[] = {"bus", "live", "lock"};
	pid_t first;
	char path[256];
	struct stat st;

	if (!is_root())
		return;
	if (!getenv("RINGBUSD")) {
		print_message("SKIPPED: no ringbusd\n");
		skip();
	}
	bus_serve(NULL); /* for a port that is free */
	bus_stop();
	assert_int_equal(chown(bus_directory(), 0, GROUP), 0);
	assert_int_equal(chmod(bus_directory(), 02770), 0);
	setenv("RINGBUS_LINGER", "0.2", 1);
	umask(0077);
	first = child_start(starter, USER);
	flag_wait(JOINED, 1);
	umask(0022);
	unsetenv("RINGBUS_LINGER");
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%u.%s", bus_directory(), bus_port(), kinds[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0660);
		assert_int_equal(st.st_gid, GROUP);
	}
	child_join(child_start(another, 65532));
	flag_set(GO, 1);
	child_join(first);
	bus_wait_gone();
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(a_node_in_an_inner_namespace_has_the_pid_that_the_service_sees),
	BARE_TEST(nodes_that_the_service_cannot_see_are_addressed_by_slot_and_name),
	BARE_TEST(an_unseen_node_is_not_buried_while_its_connection_is_open),
	BARE_TEST(without_a_service_the_lock_of_an_unseen_node_decides),
	BUS_TEST(who_cannot_see_a_process_buries_none_that_runs),
	BARE_TEST(two_users_of_a_group_share_a_bus_and_others_do_not),
	BARE_TEST(they_share_it_where_proc_hides_them_from_the_service),
	BARE_TEST(a_user_who_starts_the_service_shares_it_with_the_group_of_the_directory),
};

HARNESS_MAIN("api_namespaces", tests)

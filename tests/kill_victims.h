/* kill_victims.h: for fault_kill_points.c: the victims, what the others do meanwhile, and what must
 * hold after a death. */
#ifndef RINGBUS_TESTS_KILL_VICTIMS_H
#define RINGBUS_TESTS_KILL_VICTIMS_H

#include "atomic.h"
#include "harness.h"
#include "layout.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define NODES 4 /* keeper, victim, and one more, which makes a slot that stays taken count */

static const char *target;
static unsigned target_hit;

static void die_at(const char *name)
{
	if (strcmp(name, target) == 0 && --target_hit == 0)
		raise(SIGKILL);
}

static const struct shm_hooks hooks = {.kill_point = die_at};

enum { READY, GONE_ON, KEEPER_PID, SPOILED, MET, VICTIM, PREY };

static const struct bus_spec geometry = {.nodes = NODES, .ring_bytes = 4096};

static unsigned char payload[70000];

static void use_pool(struct ringbus_node *node, struct ringbus_event *event)
{
	struct ringbus_loan loan;

	ringbus_emit(event, payload, sizeof(payload), 0);
	if (ringbus_loan(node, 5000, &loan, 0) == 0 && ringbus_emit_loan(event, &loan, 0) < 0)
		ringbus_loan_cancel(&loan);
}

/* Small ring: the records wrap several times. */
static void send_much(struct ringbus_event *event)
{
	for (unsigned i = 0; i < 200; i++)
		ringbus_emit(event, payload, 50 + i % 7 * 40, HARNESS_SECOND);
}

/* Until it has woken somebody three times: the keeper sleeps now and then. */
static void wake_the_keeper(struct ringbus_node *node, struct ringbus_event *event)
{
	uint64_t before = node_stats(node).wakes;

	while (node_stats(node).wakes < before + 3) {
		pause_briefly();
		ringbus_emit(event, payload, 20, 0);
	}
}

static void receive_some(struct ringbus_node *node, unsigned least)
{
	struct ringbus_borrow *borrow;
	struct ringbus_message m;

	for (unsigned n = 0; n < least;) {
		if (ringbus_next(node, &m, HARNESS_SECOND) < 0)
			return;
		n += m.kind != RINGBUS_NOTICE;
		if (m.size > 60000 && ringbus_borrow(&m, &borrow) == 0)
			ringbus_release(borrow);
	}
}

/* Everything that a node can do. */
static void course(struct ringbus_node *node)
{
	struct ringbus_event *event, *theirs, *many;
	uint32_t keeper = (uint32_t)flag_get(KEEPER_PID);
	struct ringbus_message m;

	ringbus_event_create(&event, node, "of the victim", NULL);
	ringbus_subscribe(&theirs, node, "of the keeper", NULL);
	ringbus_event_create(&many, node, "many",
			     &(struct ringbus_event_options){.size = sizeof(
								     struct ringbus_event_options),
							     .mode = RINGBUS_MULTI_EMISSION,
							     .receive = true});
	ringbus_event_wait_subscribers(event, 1, 60 * HARNESS_SECOND);
	flag_set(READY, 1);
	send_much(event);
	wake_the_keeper(node, event);
	use_pool(node, event);
	ringbus_contact(node, keeper, "hello", 5, 0);
	ringbus_signal(node, keeper);
	receive_some(node, 20);
	ringbus_unsubscribe(theirs);
	/* sleeps once nothing comes any more */
	for (unsigned i = 0; i < 4; i++)
		while (ringbus_next(node, &m, 2 * HARNESS_MS) == 0)
			;
	ringbus_event_dissolve(event);
}

static void victim(uint64_t unused)
{
	struct ringbus_node *node, *twin;
	struct ringbus_address to;

	shm_hooks = &hooks;
	node = child_node(NULL);
	twin = child_node(NULL);
	course(node);
	ringbus_node_address(twin, &to);
	ringbus_contact_address(node, &to, "x", 1, 0);
	ringbus_node_close(twin);
	ringbus_node_close(node); /* both ends of their ring are free now */
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

/* What the others do while the victim lives, and for a while after. */
static void keep_going(struct ringbus_node *node, struct ringbus_event *event, pid_t pid)
{
	struct ringbus_message m;

	while (!child_ended(pid)) {
		ringbus_emit(event, payload, 20, 0);
		ringbus_emit(event, payload, sizeof(payload), 0);
		while (ringbus_next(node, &m, 0) == 0)
			;
		ringbus_wait(node, HARNESS_MS);
	}
	while (ringbus_next(node, &m, 0) == 0)
		;
}

/* A newcomer and the keeper reach each other by event, contact and signal. */
static void greet(struct ringbus_node *keeper, struct ringbus_event *event,
		  struct ringbus_node *fresh)
{
	struct ringbus_address to = node_address(fresh), back = node_address(keeper);
	struct ringbus_event *theirs = subscribe(fresh, "of the keeper");
	uint64_t count = 0;

	ok(ringbus_emit(event, "e", 1, HARNESS_SECOND));
	ok(ringbus_contact_address(keeper, &to, "c", 1, HARNESS_SECOND));
	pull_text(fresh, "e");
	pull_text(fresh, "c");
	ok(ringbus_contact_address(fresh, &back, "back", 4, HARNESS_SECOND));
	pull_text(keeper, "back");
	ok(ringbus_signal_address(keeper, &to));
	ok(ringbus_signal_wait(fresh, &count, HARNESS_SECOND));
	ok(ringbus_unsubscribe(theirs));
}

/* The victim was killed, or came through and ended well. */
static void victim_ended(pid_t pid)
{
	siginfo_t info = {0};

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	if (info.si_code == CLD_KILLED)
		child_kill(pid);
	else
		child_join(pid);
}

/* All slots but the keeper's can be had, and each of their owners gets through. */
static void all_is_well(struct ringbus_node *keeper, struct ringbus_event *event)
{
	struct ringbus_node *fresh[NODES - 1];
	struct ringbus_event *again;

	for (unsigned i = 0; i < NODES - 1; i++) {
		fresh[i] = node_open();
		greet(keeper, event, fresh[i]);
	}
	ok(ringbus_event_create(&again, fresh[0], "of the victim", NULL));
	subscribe(keeper, "of the victim"); /* it ended if the victim lived to dissolve its event */
	assert_int_equal(emit_text(again, "news of the successor"), 1);
	pull_text(keeper, "news of the successor");
	for (unsigned i = 0; i < NODES - 1; i++)
		node_close(fresh[i]);
}

static struct ringbus_node *keeper_open(struct ringbus_event **event)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};
	struct ringbus_node *keeper = node_open_with(&o);

	*event = single(keeper, "of the keeper");
	flag_set(KEEPER_PID, (uint64_t)getpid());
	return keeper;
}

static void drain(struct ringbus_node *node)
{
	struct ringbus_message m;

	while (ringbus_next(node, &m, 0) == 0)
		;
}

static void die_on_the_course(void)
{
	struct ringbus_event *event;
	struct ringbus_node *keeper = keeper_open(&event);
	pid_t pid;

	subscribe(keeper, "of the victim");
	pid = child_start(victim, 0);
	keep_going(keeper, event, pid);
	victim_ended(pid);
	/* the slot is free once the event of the dead has another owner or none */
	while (event_info(event).subscribers > 0)
		ringbus_wait(keeper, HARNESS_MS);
	drain(keeper);
	ringbus_signal_wait(keeper, NULL, 0);
	all_is_well(keeper, event);
	node_close(keeper);
}

/* ---- a spoiled pair ---- */

static void flag_address(unsigned flag, struct ringbus_node *node)
{
	struct ringbus_address own;

	child_ok(ringbus_node_address(node, &own));
	flag_set(flag, (uint64_t)own.slot << 32 | own.generation);
}

static struct ringbus_address address_of(unsigned flag)
{
	return (struct ringbus_address){.slot = (uint32_t)(flag_get(flag) >> 32),
					.generation = (uint32_t)flag_get(flag)};
}

static const char *bus_path(char path[128])
{
	snprintf(path, 128, "%s/%u.bus", bus_directory(), bus_port());
	return path;
}

/* A position of the receiver that no sender can believe, written behind the library's back. */
static void spoil(uint32_t from, uint32_t to)
{
	struct layout_ring_rx *rx;
	struct layout_geometry g;
	struct layout_node *nodes;
	char path[128];
	const char *why;
	struct stat st;
	uint8_t *map;
	int fd;

	fd = open(bus_path(path), O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	close(fd);
	assert_int_equal(layout_header_check((const void *)map, &g, &why), 0);
	nodes = (void *)(map + g.nodes_offset);
	rx = (void *)(map + shm_load_acquire(&nodes[from].ring[to]) + RB_PAGE + g.ring_bytes);
	shm_fetch_add(&rx->head, 1ull << 40);
	munmap(map, (size_t)st.st_size);
}

/* Until the sender has seen the position that no receiver can have. */
static int contact_until_bad(struct ringbus_node *node, const struct ringbus_address *to)
{
	int rc;

	do
		rc = ringbus_contact_address(node, to, payload, 200, 0);
	while (rc >= 0);
	return rc;
}

/* Mends both of its pairs with the keeper: asks as their receiver, answers as their sender. */
static void mender(uint64_t unused)
{
	uint32_t keeper = (uint32_t)flag_get(KEEPER_PID);
	struct ringbus_message m;
	struct ringbus_address to;
	struct ringbus_node *node;
	bool sent = false, got = false;

	shm_hooks = &hooks;
	node = child_node(NULL);
	child_ok(ringbus_node_find_pid(node, keeper, &to));
	child_ok(ringbus_contact_address(node, &to, "x", 1, 0));
	flag_address(VICTIM, node);
	flag_set(READY, 1);
	flag_wait(SPOILED, 1);
	child_check(contact_until_bad(node, &to) == -EBADMSG);
	flag_set(MET, 1);
	while (!sent || !got) {
		sent |= ringbus_contact_address(node, &to, "x", 1, 0) >= 0;
		while (ringbus_next(node, &m, HARNESS_MS) == 0)
			got |= m.size == 4 && memcmp(m.data, "anew", 4) == 0;
	}
	ringbus_node_close(node);
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

/* Sends one message over a pair that may have to start anew; both ends do what ends do. */
static void mend(struct ringbus_node *from, struct ringbus_node *to)
{
	struct ringbus_address address = node_address(to);
	struct ringbus_message m;
	int rc;

	while ((rc = ringbus_contact_address(from, &address, "m", 1, 0)) < 0) {
		assert_int_equal(rc, -EBADMSG);
		drain(to);
	}
	pull(to, &m);
}

static void die_mending(void)
{
	struct ringbus_event *event;
	struct ringbus_node *keeper = keeper_open(&event), *fresh;
	struct ringbus_address own = node_address(keeper), to;
	pid_t pid = child_start(mender, 0);

	flag_wait(READY, 1);
	to = address_of(VICTIM);
	ok(ringbus_contact_address(keeper, &to, "x", 1, 0));
	spoil(own.slot, to.slot);
	spoil(to.slot, own.slot);
	assert_int_equal(contact_until_bad(keeper, &to), -EBADMSG);
	flag_set(SPOILED, 1);
	flag_wait(MET, 1);
	while (!child_ended(pid)) {
		ringbus_contact_address(keeper, &to, "anew", 4, 0);
		ringbus_wait(keeper, HARNESS_MS);
		drain(keeper);
	}
	victim_ended(pid);
	fresh = node_open();
	while (node_address(fresh).slot != to.slot) {
		node_close(fresh); /* the dead is not yet buried */
		fresh = node_open();
	}
	drain(keeper);
	mend(keeper, fresh);
	mend(fresh, keeper);
	node_close(fresh);
	drain(keeper);
	all_is_well(keeper, event);
	node_close(keeper);
}

/* ---- the death of another ---- */

static void prey(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_event_create(&event, node, "of the prey", NULL));
	child_ok(ringbus_event_wait_subscribers(event, 1, 60 * HARNESS_SECOND));
	child_ok(ringbus_emit(event, payload, sizeof(payload), 0)); /* it has a pool to reclaim */
	flag_address(PREY, node);
	for (;;)
		pause();
}

/* Held back by the dead, with no service about: it marks the death, frees the slot, reclaims. */
static void burier(uint64_t unused)
{
	struct ringbus_address to;
	struct ringbus_node *node;
	int rc;

	node = child_node(NULL);
	flag_set(READY, 1);
	flag_wait(MET, 1);
	to = address_of(PREY);
	shm_hooks = &hooks; /* its own joining is another's matter */
	do
		rc = ringbus_contact_address(node, &to, payload, 200, 0);
	while (rc >= 0 || rc == -EAGAIN);
	child_check(rc == -ESRCH);
	ringbus_node_close(node);
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

static void die_burying(void)
{
	struct ringbus_event *event;
	struct ringbus_node *keeper = keeper_open(&event);
	struct ringbus_message m;
	pid_t dead, pid;

	subscribe(keeper, "of the prey");
	dead = child_start(prey, 0);
	pid = child_start(burier, 0);
	pull(keeper, &m);
	assert_int_equal(m.size, sizeof(payload));
	flag_wait(PREY, 1);
	flag_wait(READY, 1);
	ok(ringbus_poll(keeper, 0)); /* the payload is given back */
	bus_kill();
	child_kill(dead);
	flag_set(MET, 1);
	while (!child_ended(pid))
		ringbus_wait(keeper, HARNESS_MS);
	victim_ended(pid);
	bus_serve(NULL);
	do
		pull_notice(keeper, RINGBUS_PEER_DIED, &m);
	while (m.sender.pid != (uint32_t)dead);
	all_is_well(keeper, event);
	node_close(keeper);
}

/* ---- a service ---- */

static void server(uint64_t linger_ns)
{
	struct ringbus_service_options o = {.size = sizeof(o),
					    .port = bus_port(),
					    .nodes = NODES,
					    .ring_bytes = geometry.ring_bytes,
					    .linger_ns = linger_ns};
	struct ringbus_service *service;

	shm_hooks = &hooks;
	child_ok(ringbus_service_open(&service, &o));
	flag_set(READY, 1);
	child_ok(ringbus_service_run(service));
	ringbus_service_close(service);
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

/* Three join; without a service they try again. Two of them talk. */
static void join_talk_and_leave(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port()};
	struct ringbus_address to;
	struct ringbus_node *node[3];

	for (unsigned i = 0; i < 3; i++) {
		int rc;

		while ((rc = ringbus_node_open(&node[i], &o)) == -ECONNREFUSED)
			pause_briefly();
		child_ok(rc);
	}
	child_ok(ringbus_node_address(node[2], &to));
	child_ok(ringbus_contact_address(node[1], &to, "x", 1, 0));
	for (unsigned i = 0; i < 3; i++)
		ringbus_node_close(node[i]);
}

/* Twice: the second time in slots whose pairs have been used. */
static void joiners(uint64_t unused)
{
	join_talk_and_leave();
	join_talk_and_leave();
	flag_set(MET, 1);
}

/* Its service dies while it grants; those who wanted to join are served by the next one. */
static void die_granting(void)
{
	struct ringbus_event *event;
	struct ringbus_node *keeper = keeper_open(&event);
	pid_t pid, others;

	bus_stop();
	pid = child_start(server, 0);
	flag_wait(READY, 1);
	others = child_start(joiners, 0);
	while (!child_ended(pid) && !flag_get(MET))
		pause_briefly();
	if (!child_ended(pid)) {
		child_kill(pid); /* passed the point less often than it was to */
		flag_set(GONE_ON, 1);
	} else {
		victim_ended(pid);
	}
	bus_serve(NULL);
	child_join(others);
	all_is_well(keeper, event);
	node_close(keeper);
}

/* Who was to end the bus is dead: no bus, then one that is whole. */
static void anew(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port()};
	bool unlinked = strcmp(target, "X_BUS_UNLINKED") == 0;
	struct ringbus_node *keeper = NULL;
	struct ringbus_event *event;
	char path[128];

	if (flag_get(GONE_ON) == 0)
		assert_int_equal(access(bus_path(path), F_OK), unlinked ? -1 : 0);
	fails(ringbus_node_open(&keeper, &o), -ECONNREFUSED);
	bus_serve(&geometry);
	keeper = keeper_open(&event);
	all_is_well(keeper, event);
	node_close(keeper);
}

/* The service of an empty bus dies between the mark on the bus and the removal of its files. */
static void die_closing(void)
{
	pid_t pid;

	bus_stop();
	pid = child_start(server, 1);
	while (!child_ended(pid))
		pause_briefly();
	victim_ended(pid);
	anew();
}

/* ---- the last of a bus ---- */

static void last(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);

	flag_set(READY, 1);
	flag_wait(MET, 1);
	shm_hooks = &hooks;
	ringbus_node_close(node);
	shm_hooks = NULL;
	flag_set(GONE_ON, 1);
}

/* Dies while it ends a bus that has no service. */
static void die_leaving(void)
{
	pid_t pid = child_start(last, 0);

	flag_wait(READY, 1);
	bus_stop();
	flag_set(MET, 1);
	victim_ended(pid);
	anew();
}

#endif

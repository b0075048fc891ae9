/* unit_peer.c: who is alive, and who has proved what. */
#include "harness.h"

#include "control.h"

#include <signal.h>
#include <sys/wait.h>

#define PORT 40002u

static struct region *region;

static int set_up(void **state)
{
	struct region_spec spec = {
		.g = {.nodes = 4, .events = 8, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
	};

	return harness_setup_bare(state) < 0 ? -1 : region_create(&region, &spec, false);
}

static int tear_down(void **state)
{
	if (region) {
		region_unlink(region);
		region_put(region);
	}
	region = NULL;
	return harness_teardown(state);
}

/* Records a process as the owner of a slot, LIVE. */
static uint64_t record(uint32_t slot, const struct peer_identity *id)
{
	uint64_t word = slot_word(1, id->pid, SLOT_LIVE);
	struct control c;

	ok(control_lock(&c, region, rb_deadline_ns(RB_SECOND)));
	/* relaxed, all: nobody else looks yet */
	shm_store_relaxed(&c.records[slot].pid, id->pid);
	shm_store_relaxed(&c.records[slot].start_time, id->start_time);
	shm_store_relaxed(&c.records[slot].pidfd_inode, id->pidfd_inode);
	shm_store_relaxed(&region->bells[slot].slot, word);
	control_unlock(&c);
	return word;
}

static struct peer_identity identity(pid_t pid)
{
	struct peer_identity id;

	ok(peer_identify((uint32_t)pid, &id, NULL));
	return id;
}

static void hold(uint64_t slot)
{
	struct region *own;

	child_ok(region_open(&own, PORT, NULL));
	child_ok(peer_live_take(own, (uint32_t)slot));
	flag_set(0, 1);
	flag_wait(1, 1);
	peer_live_drop(own, (uint32_t)slot);
	flag_set(2, 1);
	flag_wait(3, 1);
}

static void a_held_live_lock_means_alive_whatever_is_recorded(void **state)
{
	pid_t child = child_start(hold, 1);
	struct peer_identity id;
	uint64_t word;

	flag_wait(0, 1);
	id = identity(child);
	id.start_time++;
	id.pid = dead_pid();
	word = record(1, &id);
	assert_int_equal(peer_live_holder(region, 1), child);
	assert_int_equal(peer_check(region, 1, word), PEER_ALIVE);
	fails(peer_live_take(region, 1), -EBUSY);
	kill(child, SIGSTOP);
	child_wait_stopped(child);
	assert_int_equal(peer_check(region, 1, word), PEER_ALIVE);
	child_kill(child);
	assert_int_equal(peer_check(region, 1, word), PEER_DEAD);
}

static void a_killed_owner_is_dead_also_as_a_zombie(void **state)
{
	pid_t child = child_start(hold, 1);
	uint64_t word;

	flag_wait(0, 1);
	{
		struct peer_identity id = identity(child);

		word = record(1, &id);
	}
	kill(child, SIGKILL);
	while (!child_ended(child))
		pause_briefly();
	assert_int_equal(peer_check(region, 1, word), PEER_DEAD);
	child_kill(child);
	assert_int_equal(peer_check(region, 1, word), PEER_DEAD);
	assert_int_equal(peer_live_holder(region, 1), 0);
}

static void a_running_owner_without_its_lock_is_lost_not_dead(void **state)
{
	pid_t child = child_start(hold, 1);
	struct peer_identity id;
	uint64_t word;

	flag_wait(0, 1);
	id = identity(child);
	word = record(1, &id);
	flag_set(1, 1);
	flag_wait(2, 1);
	assert_int_equal(peer_check(region, 1, word), PEER_LOST);
	/* The same process id, but started at another time, or another pidfd: the owner is dead. */
	id.start_time++;
	word = record(1, &id);
	assert_int_equal(peer_check(region, 1, word), PEER_DEAD);
	id.start_time--;
	if (id.pidfd_inode != 0) {
		id.pidfd_inode++;
		word = record(1, &id);
		assert_int_equal(peer_check(region, 1, word), PEER_DEAD);
	}
	/* Evidence about another word than the one in the slot proves nothing. */
	assert_int_equal(peer_check(region, 1, word + (1ull << 32)), PEER_ALIVE);
	flag_set(3, 1);
	child_join(child);
}

static void nobody_is_dead_in_a_slot_without_owner(void **state)
{
	assert_int_equal(peer_check(region, 0, slot_word(1, dead_pid(), SLOT_LEFT)), PEER_ALIVE);
	assert_int_equal(peer_check(region, 0, slot_word(1, 0, SLOT_FREE)), PEER_ALIVE);
}

static void an_owner_of_unseen_pid_lives_by_its_lock(void **state)
{
	pid_t child = child_start(hold, 2);
	struct peer_identity none = {0};
	uint64_t word = record(2, &none);

	flag_wait(0, 1);
	assert_int_equal(peer_check(region, 2, word), PEER_ALIVE);
	child_kill(child);
	assert_int_equal(peer_check(region, 2, word), PEER_DEAD);
}

static void identity_is_that_of_the_kernel(void **state)
{
	struct peer_identity id = identity(getpid());
	int pidfd = -1;

	assert_int_equal(id.pid, getpid());
	assert_int_equal(id.uid, getuid());
	assert_true(id.start_time > 0);
	ok(peer_identify((uint32_t)getpid(), &id, &pidfd));
	assert_true(pidfd >= 0);
	close(pidfd);
	fails(peer_identify(dead_pid(), &id, NULL), -ESRCH);
	fails(peer_identify(0, &id, NULL), -ESRCH);
	fails(peer_identify(UINT32_MAX, &id, NULL), -ESRCH);
}

static void prove(uint64_t offset)
{
	struct region *own;

	child_ok(region_open(&own, PORT, NULL));
	child_ok(peer_proof_take(own, offset));
	flag_set(0, 1);
	flag_wait(1, 1);
}

static void a_proof_names_its_holder_also_in_this_process(void **state)
{
	uint64_t offset = peer_proof_offset();
	pid_t child;

	assert_true(offset > region->g.fixed_bytes && offset < 1ull << 62);
	assert_int_equal(peer_proof_holder(region, offset), 0);
	ok(peer_proof_take(region, offset));
	assert_int_equal(peer_proof_holder(region, offset), getpid());
	peer_proof_drop(region, offset);
	child = child_start(prove, offset);
	flag_wait(0, 1);
	assert_int_equal(peer_proof_holder(region, offset), child);
	fails(peer_proof_take(region, offset), -EBUSY);
	flag_set(1, 1);
	child_join(child);
	assert_int_equal(peer_proof_holder(region, offset), 0);
	fails(peer_proof_take(region, 0), -EPROTO);
	fails(peer_proof_take(region, UINT64_MAX), -EPROTO);
	assert_int_equal(peer_proof_holder(region, 0), 0);
}

static void a_lock_that_cannot_be_asked_for_proves_nothing_and_kills_nobody(void **state)
{
	uint64_t offset = peer_proof_offset();
	struct peer_identity none = {.pid = dead_pid()};
	uint64_t word = record(1, &none);
	int fd = region->fd, live_fd = region->live_fd;

	region->fd = region->live_fd = -1;
	assert_int_equal(peer_proof_holder(region, offset), 0);
	assert_int_equal(peer_live_holder(region, 1), -1);
	assert_int_equal(peer_check(region, 1, word), PEER_ALIVE);
	region->fd = fd;
	region->live_fd = live_fd;
}

/* As in a sandbox that denies pidfd_open(). */
static void without_pidfds_id_and_start_time_decide(void **state)
{
	setenv("RINGBUS_TEST_DENY", "pidfd_open", 1);
	a_held_live_lock_means_alive_whatever_is_recorded(state);
	flag_set(0, 0);
	a_killed_owner_is_dead_also_as_a_zombie(state);
	flag_set(0, 0);
	a_running_owner_without_its_lock_is_lost_not_dead(state);
	unsetenv("RINGBUS_TEST_DENY");
}

#define PEER_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	PEER_TEST(a_held_live_lock_means_alive_whatever_is_recorded),
	PEER_TEST(a_killed_owner_is_dead_also_as_a_zombie),
	PEER_TEST(a_running_owner_without_its_lock_is_lost_not_dead),
	PEER_TEST(without_pidfds_id_and_start_time_decide),
	PEER_TEST(nobody_is_dead_in_a_slot_without_owner),
	PEER_TEST(an_owner_of_unseen_pid_lives_by_its_lock),
	PEER_TEST(identity_is_that_of_the_kernel),
	PEER_TEST(a_proof_names_its_holder_also_in_this_process),
	PEER_TEST(a_lock_that_cannot_be_asked_for_proves_nothing_and_kills_nobody),
};

HARNESS_MAIN("unit_peer", tests)

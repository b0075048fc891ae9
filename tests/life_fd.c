/* life_fd.c: a program closes all descriptors under traffic, those of the library too: it is not
 * dead, nothing that it sends or gets is lost, and its slot becomes free when it ends.
 *
 * CLOSE_ROUNDS: how often (default 300).
 */
#include "life.h"

#include <sys/syscall.h>

enum { CLOSED, GO, KEEPER = 16, VICTIM = 20 };
enum { MESSAGES = 200 };

static void careless_main(uint64_t dice)
{
	struct ringbus_address keeper = {.slot = (uint32_t)flag_get(KEEPER)};
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_message m;
	uint64_t value;

	note_address(VICTIM, node);
	for (uint64_t i = 0; i < MESSAGES; i++) {
		if (i == 1 + dice % (MESSAGES - 1)) {
			child_check(syscall(SYS_close_range, 3, ~0u, 0) == 0);
			flag_set(CLOSED, 1);
		}
		child_ok(ringbus_contact_address(node, &keeper, &i, 8, RINGBUS_SEND_MAX_NS));
		do
			child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		while (m.kind == RINGBUS_NOTICE);
		memcpy(&value, m.data, sizeof(value));
		child_check(m.size == 8 && value == i);
	}
	flag_wait(GO, 1); /* and ends without a word */
}

static void answer_all(struct ringbus_node *node)
{
	for (uint64_t i = 0; i < MESSAGES; i++) {
		struct ringbus_message m;
		uint64_t value;

		do {
			ok(ringbus_next(node, &m, RINGBUS_FOREVER));
			assert_false(m.kind == RINGBUS_NOTICE && m.notice == RINGBUS_PEER_DIED);
		} while (m.kind == RINGBUS_NOTICE);
		assert_int_equal(m.size, 8);
		memcpy(&value, m.data, sizeof(value));
		assert_int_equal(value, i);
		ok(ringbus_contact_address(node, &m.sender, &value, 8, RINGBUS_SEND_MAX_NS));
	}
}

static void who_closes_all_descriptors_under_traffic_lives_and_loses_nothing(void **state)
{
	uint64_t rounds = harness_number("CLOSE_ROUNDS", 300), random = 1;
	struct bus_spec spec = {.nodes = 3};
	struct ringbus_node *node;

	bus_serve(&spec);
	node = node_open_with(&told);
	flag_set(KEEPER, node_address(node).slot);
	for (uint64_t i = 0; i < rounds; i++) {
		struct ringbus_address a;
		pid_t pid;

		watchdog(60);
		for (unsigned flag = CLOSED; flag <= GO; flag++)
			flag_set(flag, 0);
		flag_set(VICTIM, 0);
		pid = child_start(careless_main, splitmix(&random));
		answer_all(node);
		flag_wait(CLOSED, 1);
		ok(ringbus_node_find_pid(node, (uint32_t)pid, &a));
		assert_int_equal(packed(&a), flag_get(VICTIM) - 1);
		no_end_is_told(node);
		flag_set(GO, 1);
		child_join(pid);
		assert_int_equal(await_end(node, packed(&a)), RINGBUS_PEER_DIED);
	}
	ledger("descriptors-closed", (double)rounds);
	ledger("messages-checked", (double)(2 * rounds * MESSAGES));
}

/* ---- a payload that it cannot see any more ---- */

static void blind_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_node_stats stats = {.size = sizeof(stats)};
	struct ringbus_message m;

	note_address(VICTIM, node);
	child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	child_check(syscall(SYS_close_range, 3, ~0u, 0) == 0);
	flag_set(CLOSED, 1);
	flag_wait(GO, 1);
	for (unsigned i = 0; i < 3; i++) {
		child_fails(ringbus_next(node, &m, i * HARNESS_MS), -EIO);
		child_ok(ringbus_wait(node, RINGBUS_FOREVER)); /* there is something */
		child_fails(ringbus_poll(node, 0), -EIO);
	}
	child_ok(ringbus_node_stats(node, &stats));
	child_check(stats.corrupt == 0 && stats.received == 1);
}

static void a_payload_that_cannot_be_mapped_is_told_and_never_skipped(void **state)
{
	struct ringbus_address to = {0};
	static const uint8_t large[100000];
	struct ringbus_node *node;
	pid_t pid;

	bus_serve(&(struct bus_spec){.nodes = 3});
	node = node_open();
	pid = child_start(blind_main, 0);
	flag_wait(VICTIM, 1);
	to.slot = (uint32_t)((flag_get(VICTIM) - 1) >> 32);
	ok(ringbus_contact_address(node, &to, "small", 5, 0));
	flag_wait(CLOSED, 1);
	ok(ringbus_contact_address(node, &to, large, sizeof(large), 0));
	ok(ringbus_contact_address(node, &to, "small", 5, 0));
	flag_set(GO, 1);
	child_join(pid);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(who_closes_all_descriptors_under_traffic_lives_and_loses_nothing),
	BARE_TEST(a_payload_that_cannot_be_mapped_is_told_and_never_skipped),
};

HARNESS_MAIN("life_fd", tests)

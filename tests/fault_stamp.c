/* fault_stamp.c: whether a record is stamped depends on whether its receiver sleeps, which may
 * change between the look for room and the record: there is room for either.
 */
#include "harness.h"

#include "node.h"

static const struct shm_word *inbox;
static uint64_t dice = 4711;

/* Half the looks at the receiver's inbox find it asleep. */
static uint64_t asleep_or_not(const struct shm_word *w, enum shm_order order)
{
	uint64_t word = __atomic_load_n((const uint64_t *)(const void *)w, __ATOMIC_SEQ_CST);

	if (w != inbox)
		return word;
	return splitmix(&dice) & 1 ? (word & ~BELL_WOKEN) | BELL_ASLEEP : word & ~BELL_ASLEEP;
}

static const struct shm_hooks hooks = {.load = asleep_or_not};

static void a_full_ring_has_room_for_the_stamp_or_says_that_it_is_full(void **state)
{
	struct bus_spec small = {.nodes = 4, .ring_bytes = 4096};
	uint64_t sent = 0, got = 0, rounds = harness_number("STAMP_ROUNDS", 5000);
	struct ringbus_node *from, *to;
	struct ringbus_address target;
	struct ringbus_message m;
	uint8_t data[256], wanted[256];

	bus_serve(&small);
	from = node_open();
	to = node_open();
	target = node_address(to);
	ok(ringbus_contact_address(from, &target, "makes the ring", 14, 0));
	pull_text(to, "makes the ring");
	inbox = &to->bell->inbox;
	shm_hooks = &hooks;
	for (uint64_t round = 0; round < rounds; round++) {
		int rc;

		for (;;) {
			size_t size = splitmix(&dice) % sizeof(data);

			payload_fill(data, size, size, sent);
			rc = ringbus_contact_address(from, &target, data, size, 0);
			if (rc < 0)
				break;
			sent++;
		}
		assert_int_equal(rc, -EAGAIN);
		while (ringbus_next(to, &m, 0) == 0) {
			payload_fill(wanted, m.size, m.size, got++);
			assert_memory_equal(m.data, wanted, m.size);
			assert_int_equal(m.lost, 0);
		}
		assert_int_equal(got, sent);
	}
	shm_hooks = NULL;
	ledger("messages-checked", (double)got);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_full_ring_has_room_for_the_stamp_or_says_that_it_is_full),
};

HARNESS_MAIN("fault_stamp", tests)

/* fault_stamp.c: whether a record is stamped depends on whether its receiver sleeps, which may
 * change between the look for room and the record: there is room for either. What the receiver
 * makes of the stamp.
 */
#include "harness.h"

#include "histogram.h"
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

/* ---- when it woke ---- */

static struct ringbus_node *sender, *sleeper;
static struct ringbus_address bed;

/* What a sleep of the receiver is here: a message comes, and wakes it. */
static int message_comes(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	assert_ptr_equal(w, &sleeper->bell->inbox);
	ok(ringbus_contact_address(sender, &bed, "up", 2, 0));
	return 0;
}

static const struct shm_hooks waking = {.futex_wait = message_comes};

static uint64_t wakes_timed(void)
{
	const struct link_rx *rx = sleeper->rx[node_address(sender).slot];
	uint64_t sum = 0;

	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++)
		sum += shm_load_relaxed(&rx->ring.rx->histogram[HISTOGRAM_WAKE][i]);
	return sum;
}

/* Who spins for a fixed time reads the clock only for these. */
static void how_long_a_wake_took_is_known_of_each_stamped_message(void **state)
{
	struct ringbus_node_options o = {.size = sizeof(o), .spin_ns = RINGBUS_NO_SPIN};

	sender = node_open();
	sleeper = node_open_with(&o);
	bed = node_address(sleeper);
	while (ringbus_wait(sleeper, 0) == 0)
		ok(ringbus_poll(sleeper, 0));
	for (unsigned i = 0; i < 40; i++) {
		shm_hooks = &waking;
		ok(ringbus_wait(sleeper, RINGBUS_FOREVER));
		shm_hooks = NULL;
		pull_text(sleeper, "up");
		assert_int_equal(wakes_timed(),
				 1 + i / 16); /* the first is in a ring not seen before */
	}
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_full_ring_has_room_for_the_stamp_or_says_that_it_is_full),
	BUS_TEST(how_long_a_wake_took_is_known_of_each_stamped_message),
};

HARNESS_MAIN("fault_stamp", tests)

/* unit_ring.c: which words are headers of a record, each rule by itself; a stranger who asks a
 * sender to begin anew. */
#include "harness.h"

#include "ring.h"

#define CAPACITY 4096u
#define AT (3 * CAPACITY + 1024)

static uint64_t valid(uint64_t bytes, enum record_kind kind, uint64_t tail, uint64_t flags)
{
	return ring_record_valid(record_word0(AT, bytes, kind, tail, flags), AT, CAPACITY);
}

static void a_record_names_its_own_position(void **state)
{
	uint64_t word = record_word0(AT, 64, RECORD_EVENT, 0, 0);

	assert_int_equal(ring_record_valid(word, AT, CAPACITY), 64);
	for (uint64_t bit = 8; bit < 1ull << 27; bit <<= 1)
		assert_int_equal(ring_record_valid(word, AT ^ bit, CAPACITY), 0);
	/* of a lap ago, and where the bits that are kept come again */
	assert_int_equal(ring_record_valid(word, AT - CAPACITY, CAPACITY), 0);
	assert_int_equal(ring_record_valid(word, AT + (1ull << 27), CAPACITY), 64);
}

static void a_record_has_a_kind_and_what_belongs_to_it(void **state)
{
	assert_int_equal(valid(64, RECORD_CONTACT, 0, 0), 64);
	assert_int_equal(valid(64, RECORD_SAME, 0, 0), 64);
	assert_int_equal(valid(64, 0, 0, 0), 0);
	assert_int_equal(valid(64, 7, 0, 0), 0);
	assert_int_equal(valid(64, RECORD_SAME, 0, RECORD_STAMPED), 0);
	assert_int_equal(valid(64, RECORD_SAME, 0, RECORD_DROPS), 0);
	assert_int_equal(valid(40, RECORD_EVENT_POOLED, 0, 0), 40);
	assert_int_equal(valid(48, RECORD_CONTACT_POOLED, 0, RECORD_STAMPED), 48);
	assert_int_equal(valid(56, RECORD_CONTACT_POOLED, 0, RECORD_STAMPED | RECORD_DROPS), 56);
	assert_int_equal(valid(48, RECORD_EVENT_POOLED, 0, 0), 0);
	assert_int_equal(valid(32, RECORD_EVENT_POOLED, 0, 0), 0);
}

static void a_record_is_as_long_as_it_says(void **state)
{
	assert_int_equal(valid(24, RECORD_EVENT, 0, 0), 24);
	assert_int_equal(valid(16, RECORD_EVENT, 0, 0), 0);
	assert_int_equal(valid(24, RECORD_EVENT, 0, RECORD_STAMPED), 0);
	assert_int_equal(valid(32, RECORD_EVENT, 0, RECORD_STAMPED), 32);
	assert_int_equal(valid(8, RECORD_SAME, 0, 0), 8);
	assert_int_equal(valid(0, RECORD_SAME, 0, 0), 0);
	assert_int_equal(valid(68, RECORD_EVENT, 0, 0), 0);
	/* unused bytes are part of the last word of the payload */
	assert_int_equal(valid(32, RECORD_EVENT, 7, 0), 32);
	assert_int_equal(valid(24, RECORD_EVENT, 1, 0), 0);
	assert_int_equal(valid(8, RECORD_SAME, 1, 0), 0);
}

static void a_record_does_not_cross_the_end_and_padding_reaches_it(void **state)
{
	assert_int_equal(valid(3072, RECORD_EVENT, 0, 0), 3072);
	assert_int_equal(valid(3080, RECORD_EVENT, 0, 0), 0);
	assert_int_equal(valid(3072, RECORD_PAD, 0, 0), 3072);
	assert_int_equal(valid(3064, RECORD_PAD, 0, 0), 0);
	assert_int_equal(valid(3080, RECORD_PAD, 0, 0), 0);
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return *seed >> 16;
}

/* The common ways to read a record have each a rule of their own, and there is that for all. */
static void every_way_to_read_a_record_finds_the_same_ones_valid(void **state)
{
	static _Alignas(RB_PAGE) uint8_t data[CAPACITY];
	struct layout_ring_tx ctl = {0};
	struct layout_ring_rx own = {0};
	uint64_t seed = 1;
	unsigned found = 0;

	for (unsigned n = 0; n < 2000000; n++) {
		uint64_t dice = next_random(&seed), more = next_random(&seed);
		uint64_t at = (more >> 8 & 3 ? dice : CAPACITY - (dice & 127)) & ~7ull;
		uint64_t offset = at & (CAPACITY - 1), left = CAPACITY - offset;
		uint64_t bytes[] = {dice >> 20 & 0x78, left, left + 8, dice >> 20 & 0x7fffffff};
		uint64_t flags = (more & 6 ? 0 : RECORD_DROPS) | (more & 24 ? 0 : RECORD_STAMPED);
		uint64_t word =
			record_word0(at, bytes[more >> 20 & 3], (enum record_kind)(more >> 30 & 7),
				     more & 1 ? dice & 7 : 0, flags);
		struct ring_rx rx = {.ctl = &ctl, .data = data, .rx = &own, .capacity = CAPACITY};
		struct ring_record rec = {0};
		unsigned kind;
		uint64_t right;

		if ((more >> 36 & 7) == 0)
			word ^= 1ull << (more >> 40 & 63);
		right = ring_record_valid(word, at, CAPACITY);
		kind = word >> 32 & 7;
		if (word == 0 || kind == RECORD_PAD)
			continue;
		rx.at = at;
		assert_int_equal(ring_rx_read(&rx, &rec, word), right ? RING_RECORD : RING_SPOILED);
		/* of those without payload the common ways know nothing */
		if (ring_record_is_same(word, at, left))
			assert_true(right && kind == RECORD_SAME &&
				    ring_same_size(word) == rec.size);
		else
			assert_true(!right || kind != RECORD_SAME || rec.size == 0);
		found += right != 0;
		if (!right)
			continue;
		/* all up to the unused bytes is payload, or descriptor */
		assert_int_equal(rec.bytes, right);
		assert_int_equal(rec.payload + rec.size - data, offset + right - (word >> 36 & 7));
	}
	assert_true(found > 20000);
}

/* ---- a stranger asks ---- */

static struct {
	struct layout_ring_tx tx;
	_Alignas(RB_PAGE) uint8_t data[CAPACITY];
	struct layout_ring_rx rx;
} shared;
static struct ring_tx tx;
static struct ring_rx rx;

static void begin(void)
{
	memset(&shared, 0, sizeof(shared));
	ring_tx_init(&tx, &shared.tx, shared.data, &shared.rx, CAPACITY, 1);
	ring_rx_init(&rx, &shared.tx, shared.data, &shared.rx, CAPACITY, false);
}

static void put(uint64_t number)
{
	struct shm_word *w;

	assert_true(ring_tx_ready(&tx));
	assert_true(ring_tx_room(&tx, 32));
	w = ring_tx_reserve(&tx, 32);
	shm_store_relaxed(w, 0);
	shm_store_relaxed(w + 1, 0);
	shm_store_relaxed(w + 2, number);
	ring_tx_publish(&tx, 32, 8, RECORD_CONTACT, 0);
}

static bool got(uint64_t number)
{
	struct ring_record rec;
	uint64_t there;

	if (ring_rx_peek(&rx, &rec) != RING_RECORD)
		return false;
	memcpy(&there, rec.payload, sizeof(there));
	ring_rx_advance(&rx, &rec);
	ring_rx_give(&rx, true);
	return there == number;
}

/* What is sent until this is seen is lost, and no more. */
static void flows_again(void)
{
	for (uint64_t i = 100; i < 400; i++) {
		put(i);
		assert_true(got(i));
	}
	assert_false(ring_rx_is_spoiled(&rx));
}

static void a_question_of_a_stranger_is_found_at_rest(void **state)
{
	for (uint64_t scribble = 1; scribble != 0; scribble = scribble == 1 ? UINT64_MAX : 0) {
		begin();
		for (uint64_t i = 0; i < 10; i++) {
			put(i);
			assert_true(got(i));
		}
		shm_store_relaxed(&shared.rx.asked, scribble);
		put(10); /* elsewhere */
		assert_true(ring_rx_is_spoiled(&rx));
		assert_true(ring_tx_ready(&tx));
		assert_false(ring_rx_is_spoiled(&rx));
		flows_again();
	}
}

static void so_is_one_while_the_answer_is_waited_for(void **state)
{
	begin();
	ring_rx_ask(&rx);
	shm_store_relaxed(&shared.rx.asked, 77);
	put(0);
	assert_false(got(0));
	assert_true(ring_tx_ready(&tx));
	flows_again();
}

static void an_answer_with_another_position_does_not_count(void **state)
{
	begin();
	put(0);
	assert_true(got(0));
	ring_rx_ask(&rx);
	shm_store_relaxed(&shared.rx.position, CAPACITY / 4); /* there is nothing where we look */
	put(1);
	assert_false(got(1));
	assert_true(ring_tx_ready(&tx));
	flows_again();
}

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_record_names_its_own_position),
	cmocka_unit_test(a_record_has_a_kind_and_what_belongs_to_it),
	cmocka_unit_test(a_record_is_as_long_as_it_says),
	cmocka_unit_test(a_record_does_not_cross_the_end_and_padding_reaches_it),
	cmocka_unit_test(every_way_to_read_a_record_finds_the_same_ones_valid),
	cmocka_unit_test(a_question_of_a_stranger_is_found_at_rest),
	cmocka_unit_test(so_is_one_while_the_answer_is_waited_for),
	cmocka_unit_test(an_answer_with_another_position_does_not_count),
};

HARNESS_MAIN("unit_ring", tests)

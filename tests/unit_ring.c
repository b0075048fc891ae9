/* unit_ring.c: which words are headers of a record, each rule by itself. */
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

static const struct CMUnitTest tests[] = {
	cmocka_unit_test(a_record_names_its_own_position),
	cmocka_unit_test(a_record_has_a_kind_and_what_belongs_to_it),
	cmocka_unit_test(a_record_is_as_long_as_it_says),
	cmocka_unit_test(a_record_does_not_cross_the_end_and_padding_reaches_it),
};

HARNESS_MAIN("unit_ring", tests)

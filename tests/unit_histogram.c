/* unit_histogram.c: buckets of log-linear histograms: bounds, width and adding. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "histogram.h"

static void buckets_follow_each_other_without_gap(void **state)
{
	(void)state;
	assert_int_equal(histogram_low(0), 0);
	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++) {
		uint64_t low = histogram_low(i), high = histogram_high(i);

		assert_true(low < high);
		assert_int_equal(histogram_index(low), i);
		assert_int_equal(histogram_index(high - 1), i);
		if (i + 1 < RING_HISTOGRAM_BUCKETS)
			assert_int_equal(high, histogram_low(i + 1));
	}
	assert_int_equal(histogram_index(UINT64_MAX), RING_HISTOGRAM_BUCKETS - 1);
}

static void a_bucket_is_at_most_a_quarter_of_its_lower_bound_wide(void **state)
{
	(void)state;
	for (unsigned i = HISTOGRAM_SUB; i + 1 < RING_HISTOGRAM_BUCKETS; i++)
		assert_true((histogram_high(i) - histogram_low(i)) * HISTOGRAM_SUB <=
			    histogram_low(i));
	assert_true(histogram_low(RING_HISTOGRAM_BUCKETS - 1) > 200 * RB_SECOND);
}

static void indices_grow_with_the_time(void **state)
{
	uint64_t choice = 88172645463325252ull;

	(void)state;
	for (unsigned round = 0; round < 100000; round++) {
		uint64_t ns;

		choice ^= choice << 13;
		choice ^= choice >> 7;
		choice ^= choice << 17;
		ns = choice >> (choice & 63);
		assert_true(histogram_low(histogram_index(ns)) <= ns);
		assert_true(ns < histogram_high(histogram_index(ns)) || ns == UINT64_MAX);
	}
}

static void adding_counts_in_one_bucket(void **state)
{
	static struct shm_word buckets[RING_HISTOGRAM_BUCKETS];
	static const uint64_t times[] = {0, 31, 32, 5000, 5001, UINT64_MAX};
	uint64_t sum = 0;

	(void)state;
	for (unsigned i = 0; i < rb_array_size(times); i++)
		histogram_add(buckets, times[i]);
	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++)
		sum += shm_load_relaxed(&buckets[i]); /* relaxed: nobody else is there */
	assert_int_equal(sum, rb_array_size(times));
	/* relaxed, all: nobody else is there */
	assert_int_equal(shm_load_relaxed(&buckets[0]), 2);
	assert_int_equal(shm_load_relaxed(&buckets[1]), 1);
	assert_int_equal(shm_load_relaxed(&buckets[histogram_index(5000)]), 2);
	assert_int_equal(shm_load_relaxed(&buckets[RING_HISTOGRAM_BUCKETS - 1]), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_follow_each_other_without_gap),
		cmocka_unit_test(a_bucket_is_at_most_a_quarter_of_its_lower_bound_wide),
		cmocka_unit_test(indices_grow_with_the_time),
		cmocka_unit_test(adding_counts_in_one_bucket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

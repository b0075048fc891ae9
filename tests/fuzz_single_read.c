/* fuzz_single_read.c: no decision reads a shared word twice, as the source has it: the loads of
 * each operation are noted by hooks, and a word that is loaded again must have an excuse.
 *
 * fuzz_trap.c does the same with the machine code.
 */
#include "single_read.h"

#include "node.h"

static _Thread_local bool watching;

static uint64_t watch_load(const struct shm_word *w, enum shm_order order)
{
	if (watching)
		single_loaded(words_offset(w));
	return atomic_load_explicit(&w->v, memory_order_acquire);
}

static const struct shm_hooks hooks = {.load = watch_load};

static void no_word_is_loaded_twice_in_one_operation(void **state)
{
	struct bus_spec spec = {.nodes = 8, .events = 16, .ring_bytes = 16384};
	unsigned bad = 0;

	bus_serve(&spec);
	single_prepare();
	shm_hooks = &hooks;
	for (unsigned i = 0; i < single_operation_count; i++) {
		bool watched = single_operations[i].name[0] != '-';

		words_find_mappings(single_node()->region);
		single_begin(single_operations[i].name);
		watching = watched;
		single_operations[i].run();
		watching = false;
		if (watched)
			bad += single_end();
	}
	shm_hooks = NULL;
	single_say("by hooks");
	assert_int_equal(bad, 0);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(no_word_is_loaded_twice_in_one_operation),
};

HARNESS_MAIN("fuzz_single_read", tests)

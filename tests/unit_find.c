/* unit_find.c: a node is found by a name that it has, also while its slot changes hands. */
#include "harness.h"

#include "node.h"

static const struct shm_word *slot;
static unsigned looks;

/* From its second look on whoever searches finds the slot with its next owner. */
static uint64_t next_owner(const struct shm_word *w, enum shm_order order)
{
	uint64_t word = __atomic_load_n((const uint64_t *)(const void *)w, __ATOMIC_SEQ_CST);

	if (w != slot || looks++ == 0)
		return word;
	return slot_word(slot_generation(word) + 1, slot_pid(word), SLOT_LIVE);
}

static const struct shm_hooks hooks = {.load = next_owner};

static void the_next_owner_of_a_slot_is_not_found_by_the_name_of_this_one(void **state)
{
	struct ringbus_node *anna = node_open_named("anna"), *other = node_open();
	struct ringbus_address of_anna = node_address(anna), found = {0};
	int rc;

	slot = &other->region->bells[of_anna.slot].slot;
	shm_hooks = &hooks;
	rc = ringbus_node_find(other, "anna", &found);
	shm_hooks = NULL;
	fails(rc, -ESRCH);
	assert_true(looks >= 2);
	ok(ringbus_node_find(other, "anna", &found));
	assert_memory_equal(&found, &of_anna, sizeof(found));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(the_next_owner_of_a_slot_is_not_found_by_the_name_of_this_one),
};

HARNESS_MAIN("unit_find", tests)

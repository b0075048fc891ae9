/* unit_inspect.c: the inspection decodes a region built by hand, and its fsck finds each broken
 * invariant.
 *
 * No bus runs here: each test builds a sound image with layout.h, spoils one thing, and looks.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "inspect_image.h"
#include "inspect_breaches.h"
#include "doorbell.h"
#include "inspect.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- pread, so that tests can change the file under a reader ---- */

static void (*on_read)(uint64_t offset);

ssize_t pread(int fd, void *to, size_t bytes, off_t offset)
{
	if (on_read)
		on_read((uint64_t)offset);
	return syscall(SYS_pread64, fd, to, bytes, offset);
}

/* ---- decoding ---- */

static void a_sound_image_has_no_findings(void **state)
{
	struct image i;
	struct list list;

	(void)state;
	image_build(&i);
	check_image(&i, &list);
	list_print(&list);
	assert_int_equal(list.count, 0);
	image_drop(&i);
}

static void header_is_decoded(void **state)
{
	struct ringbus_inspect_header h;
	struct ringbus_inspect *in;
	struct image i;

	(void)state;
	image_build(&i);
	set(&control(&i)->repairs, 11);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_header(in, &h), 0);
	assert_true(h.valid && h.usable && !h.this_boot && !h.live);
	assert_int_equal(h.port, 54321);
	assert_int_equal(h.nodes, NODES);
	assert_int_equal(h.events, EVENTS);
	assert_int_equal(h.ring_bytes, RING);
	assert_int_equal(h.file_bytes, i.bytes);
	assert_int_equal(h.repairs, 11);
	assert_string_equal(h.boot_id, "another boot");
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void nodes_are_decoded(void **state)
{
	struct ringbus_inspect_node n;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	set(&node(&i, 1)->in_handler, 2);
	set(&node(&i, 1)->received, 77);
	set(&node(&i, 1)->mode, NODE_MODE_UNFENCED);
	set(&bell(&i, 1)->inbox, 5 << 2 | BELL_ASLEEP);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 1);
	assert_int_equal(n.slot, 0);
	assert_string_equal(n.name, "alpha");
	assert_int_equal(n.rings, 1);
	assert_int_equal(n.pools, 2);
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 1);
	assert_int_equal(n.slot, 1);
	assert_int_equal(n.generation, 5);
	assert_int_equal(n.pid, 4201);
	assert_int_equal(n.signals, 1);
	assert_int_equal(n.received, 77);
	assert_true(n.unfenced && !n.no_membarrier && n.inbox_asleep && !n.room_asleep);
	assert_true(n.in_handler && !n.in_contact && n.handler_event == 1);
	assert_int_equal(n.process, RINGBUS_INSPECT_UNKNOWN);
	assert_string_equal(ringbus_inspect_slot_state(n.state), "live");
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 1);
	assert_int_equal(n.slot, 3);
	assert_string_equal(ringbus_inspect_slot_state(n.state), "leaving");
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void events_are_decoded(void **state)
{
	static const uint32_t indices[] = {0, 1, 70, 79};
	static const char *const names[] = {"news", "chat", "old \xc3\xa4", "later"};
	static const char *const states[] = {"live", "live", "orphan", "pending"};
	struct ringbus_inspect_event e;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	in = image_open(&i);
	for (unsigned k = 0; k < 4; k++) {
		assert_int_equal(ringbus_inspect_event_next(in, &cursor, &e), 1);
		assert_int_equal(e.index, indices[k]);
		assert_string_equal(e.name, names[k]);
		assert_string_equal(ringbus_inspect_event_state(e.state), states[k]);
		assert_int_equal(e.has_owner, k == 0);
		assert_int_equal(e.mode, k == 1);
		assert_int_equal(e.deliver[0], k == 3 ? 1 : 2);
	}
	assert_int_equal(ringbus_inspect_event_next(in, &cursor, &e), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void rings_are_walked_across_the_end_to_the_tail(void **state)
{
	struct ringbus_inspect_ring g;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	set(&tx(&i)->hint, HEAD - 100 * RING); /* lags */
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 1);
	assert_string_equal(g.damage, "");
	assert_int_equal(g.from, 0);
	assert_int_equal(g.to, 1);
	assert_int_equal(g.offset, i.ring_offset);
	assert_int_equal(g.head, HEAD);
	assert_int_equal(g.tail, i.tail);
	assert_int_equal(g.unread_bytes, i.tail - HEAD);
	assert_int_equal(g.unread_records, 3);
	assert_int_equal(g.messages, 30);
	assert_int_equal(g.received, 27);
	assert_int_equal(g.drops, 2);
	assert_int_equal(g.wakes, 9);
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void what_a_former_owner_counted_is_not_told_of_the_present_one(void **state)
{
	struct ringbus_inspect *in;
	struct ringbus_inspect_ring g;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	set(&tx(&i)->owner, 2);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 1);
	assert_int_equal(g.messages, 0);
	assert_int_equal(g.wakes, 0);
	assert_int_equal(g.drops, 2); /* of the ring */
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void a_ring_goes_on_at_the_start_of_an_answered_resync(void **state)
{
	struct ringbus_inspect_ring g;
	struct ringbus_inspect *in;
	struct image i;
	struct list list;
	uint32_t cursor = 0;
	uint64_t start = HEAD + RING;

	(void)state;
	image_build(&i);
	set(ring_word(&i, HEAD), 0xbad);
	set(&rx(&i)->asked, 1);
	set(&rx(&i)->position, start);
	set(&tx(&i)->start, start);
	set(&tx(&i)->answered, 1);
	set(&tx(&i)->hint, start);
	put_record(&i, start, RECORD_CONTACT, 32, 0);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 1);
	assert_string_equal(g.damage, "");
	assert_int_equal(g.tail, start + 32);
	assert_int_equal(g.unread_records, 1);
	ringbus_inspect_close(in);
	check_image(&i, &list);
	list_print(&list);
	assert_int_equal(list.count, 0);
	image_drop(&i);
}

static void a_ring_full_to_the_last_word_is_sound_and_one_word_more_is_not(void **state)
{
	struct ringbus_inspect_ring g;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;
	uint64_t p = RING * 7;

	(void)state;
	image_build(&i);
	set(&rx(&i)->head, p);
	while (p < RING * 7 + RING - 8)
		p = put_record(&i, p, RECORD_CONTACT, RING * 7 + RING - 8 - p == 24 ? 24 : 32, 0);
	set(&tx(&i)->hint, p);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 1);
	assert_string_equal(g.damage, "");
	assert_int_equal(g.unread_bytes, RING - 8);
	set(ring_word(&i, p), record_word0(p, 8, RECORD_PAD, 0, 0));
	cursor = 0;
	assert_int_equal(ringbus_inspect_ring_next(in, &cursor, &g), 1);
	assert_non_null(strstr(g.damage, "more unread than the ring holds"));
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void pools_tell_what_is_queued_and_borrowed_by_whom(void **state)
{
	struct ringbus_inspect_pool p;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_pool_next(in, &cursor, &p), 1);
	assert_string_equal(p.damage, "");
	assert_int_equal(p.index, 0);
	assert_int_equal(p.serial, POOL_SERIAL);
	assert_int_equal(p.chunk_bytes, 1024);
	assert_int_equal(p.chunks, 8);
	assert_int_equal(p.queued, 1);
	assert_int_equal(p.queued_bytes, 1000);
	assert_int_equal(p.borrowed, 2);
	assert_int_equal(p.used, 2);
	assert_int_equal(p.borrowers[0], 1 << 1 | 1 << 3);
	assert_int_equal(ringbus_inspect_pool_next(in, &cursor, &p), 1);
	assert_int_equal(p.index, 5);
	assert_true(p.big);
	assert_int_equal(p.chunks, 1);
	assert_int_equal(p.chunk_bytes, BIG_BYTES - RB_PAGE);
	assert_int_equal(p.borrowed, 1);
	assert_int_equal(p.queued, 0);
	assert_int_equal(ringbus_inspect_pool_next(in, &cursor, &p), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void records_for_an_earlier_receiver_own_no_chunk(void **state)
{
	struct ringbus_inspect_pool p;
	struct ringbus_inspect *in;
	struct image i;
	struct list list;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	set(ring_word(&i, i.records[3] + 8), 4ull << 32 | 3);
	set(ring_word(&i, i.records[3] + 40), pool_chunk_id(60, 1, 3));
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_pool_next(in, &cursor, &p), 1);
	assert_int_equal(p.queued, 0);
	ringbus_inspect_close(in);
	check_image(&i, &list);
	assert_int_equal(list.count, 0);
	image_drop(&i);
}

static void extents_have_the_shape_that_the_pool_gives_them(void **state)
{
	struct ringbus_inspect in = {.file_bytes = 1ull << 40};

	(void)state;
	for (uint64_t pages = 2; pages < 3000; pages += pages / 7 + 1) {
		for (uint32_t k = 0; k <= POOL_STACK_BIG + 3; k++) {
			uint32_t c = k == POOL_STACK_BIG + 3 ? POOL_CLASS_BIG : POOL_SHIFT_MIN + k;
			struct pool_place place = {.bytes = pages * RB_PAGE};
			struct layout_pool_extent entry;
			struct inspect_extent e;
			bool sound = pool_place_shape(&place, c);

			set(&entry.where, 1 << 20 | c);
			set(&entry.bytes, pages * RB_PAGE);
			inspect_extent_decode(&in, &entry, &e);
			assert_int_equal(sound, e.why == NULL);
			if (!sound)
				continue;
			assert_int_equal(e.chunks, place.chunks);
			assert_int_equal(e.borrow_bytes, place.bits_bytes);
			assert_int_equal(e.chunk_bytes, place.chunk_bytes);
		}
	}
}

static void bell_bits_are_those_of_the_doorbell(void **state)
{
	(void)state;
	assert_int_equal(INSPECT_BELL_ASLEEP, BELL_ASLEEP);
	assert_int_equal(INSPECT_BELL_WOKEN, BELL_WOKEN);
}

/* ---- one break each ---- */

struct breach {
	const char *name;
	void (*spoil)(struct image *i);
	enum ringbus_inspect_severity severity;
	const char *code;
	const char *text; /* part of it */
};

#define SPOILER(name, action, severity, code, text) \
	static void spoil_##name(struct image *i)   \
	{                                           \
		action;                             \
	}
BREACHES(SPOILER)

#define BREACH(name, action, severity, code, text) \
	{"breach_is_found_" #name, spoil_##name, RINGBUS_INSPECT_##severity, code, text},
static struct breach breaches[] = {BREACHES(BREACH)};

static void breach_is_found(void **state)
{
	const struct breach *breach = *state;
	struct image i;
	struct list list;
	bool found = false;

	image_build(&i);
	breach->spoil(&i);
	check_image(&i, &list);
	for (unsigned k = 0; k < list.count; k++)
		found = found || (list.entry[k].severity == breach->severity &&
				  strcmp(list.entry[k].code, breach->code) == 0 &&
				  strstr(list.entry[k].text, breach->text));
	if (!found)
		list_print(&list);
	assert_true(found);
	/* What is merely to come is no error. */
	if (breach->severity != RINGBUS_INSPECT_ERROR)
		assert_int_equal(list.of[RINGBUS_INSPECT_ERROR], 0);
	image_drop(&i);
}

/* ---- live buses ---- */

/* Makes slot 0 ours and the boot this one. */
static void make_live(struct image *i)
{
	char text[1024];
	const char *field;
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");

	assert_non_null(f);
	assert_non_null(fgets(header(i)->boot_id, sizeof(header(i)->boot_id), f));
	fclose(f);
	header(i)->boot_id[strcspn(header(i)->boot_id, "\n")] = 0;
	f = fopen("/proc/self/stat", "r");
	assert_non_null(f);
	assert_non_null(fgets(text, sizeof(text), f));
	fclose(f);
	field = strrchr(text, ')');
	for (int k = 2; k < 22; k++)
		field = strchr(field + 1, ' ');
	set(&bell(i, 0)->slot, slot_word(3, (uint32_t)getpid(), SLOT_LIVE));
	set(&record(i, 0)->pid, (uint64_t)getpid());
	set(&record(i, 0)->start_time, strtoull(field, NULL, 10));
}

static void processes_of_this_boot_are_told_running_or_gone(void **state)
{
	struct ringbus_inspect_header h;
	struct ringbus_inspect_node n;
	struct ringbus_inspect *in;
	struct image i;
	struct list list;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	make_live(&i);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_header(in, &h), 0);
	assert_true(h.this_boot && h.live);
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 1);
	assert_int_equal(n.process, RINGBUS_INSPECT_RUNNING);
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), 1);
	assert_int_equal(n.process, RINGBUS_INSPECT_GONE);
	ringbus_inspect_close(in);
	check_image(&i, &list);
	assert_int_equal(list.of[RINGBUS_INSPECT_ERROR], 0);
	assert_int_equal(list.of[RINGBUS_INSPECT_WARNING], 2);
	assert_string_equal(list.entry[0].code, "slot-gone");
	image_drop(&i);
}

static struct image *moving;
static unsigned moves;

static void move_intent(uint64_t offset)
{
	if (offset != moving->g.control_offset)
		return;
	moves++;
	set(&control(moving)->intent, (uint64_t)CONTROL_EVENT << 56 | moves);
}

static void on_a_live_bus_only_what_stands_is_a_finding(void **state)
{
	struct image i;
	struct list list;

	(void)state;
	image_build(&i);
	make_live(&i);
	set(hash(&i, 0), 1);
	moving = &i;
	moves = 0;
	on_read = move_intent;
	check_image(&i, &list);
	on_read = NULL;
	assert_true(moves >= 3);
	assert_int_equal(list.of[RINGBUS_INSPECT_ERROR], 1);
	for (unsigned k = 0; k < list.count; k++)
		assert_string_not_equal(list.entry[k].code, "intent");
	/* Standing, it is a warning there. */
	check_image(&i, &list);
	assert_int_equal(list.of[RINGBUS_INSPECT_ERROR], 1);
	assert_string_equal(list.entry[0].code, "intent");
	assert_int_equal(list.entry[0].severity, RINGBUS_INSPECT_WARNING);
	image_drop(&i);
}

/* ---- hostile files ---- */

static uint64_t random_next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

static void random_damage_is_survived(void **state)
{
	uint64_t seed = 0x9e3779b97f4a7c15ull;

	(void)state;
	for (int round = 0; round < 400; round++) {
		struct image i;
		unsigned hits = 1 + (unsigned)(random_next(&seed) % 40);

		image_build(&i);
		while (hits-- > 0) {
			uint64_t offset = random_next(&seed) % i.bytes & ~7ull;
			uint64_t value = random_next(&seed);

			/* leave the header mostly alone, or nothing else is reached */
			if (offset < RB_PAGE && round % 8)
				continue;
			if (value % 3 == 0)
				value = value % i.bytes & ~0xfffull;
			memcpy(at(&i, offset), &value, 8);
		}
		if (round % 10 == 0)
			truncate_image(&i, random_next(&seed) % i.bytes);
		look_at_all(&i);
		image_drop(&i);
	}
}

static void extents_that_all_overlap_take_bounded_work(void **state)
{
	struct image i;
	struct list list;

	(void)state;
	image_build(&i);
	for (uint32_t from = 0; from < NODES; from++) {
		for (uint32_t to = 0; to < LAYOUT_NODES_MAX; to++)
			set(&node(&i, from)->ring[to], i.ring_offset);
		for (uint32_t k = 0; k < LAYOUT_POOL_EXTENTS; k++) {
			set(&node(&i, from)->pool[k].where, i.slab_offset | SLAB_CLASS);
			set(&node(&i, from)->pool[k].bytes, SLAB_BYTES);
		}
	}
	look_at_all(&i);
	check_image(&i, &list);
	assert_true(list.of[RINGBUS_INSPECT_ERROR] > 100);
	image_drop(&i);
}

static void files_that_are_no_region_are_refused_in_words(void **state)
{
	struct ringbus_inspect *in = NULL;
	struct ringbus_inspect_header h;
	struct ringbus_inspect_node n;
	uint32_t cursor = 0;
	int fd = memfd_create("empty", MFD_CLOEXEC);
	int pipes[2];

	(void)state;
	assert_int_equal(ringbus_inspect_open_fd(&in, fd), 0);
	assert_int_equal(ringbus_inspect_header(in, &h), 0);
	assert_false(h.valid || h.usable);
	assert_string_equal(h.why, "not a ringbus region");
	assert_int_equal(ringbus_inspect_node_next(in, &cursor, &n), -EPROTO);
	assert_int_equal(ringbus_inspect_check(in, NULL, NULL), 1);
	ringbus_inspect_close(in);
	close(fd);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(ringbus_inspect_open_fd(&in, pipes[0]), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(ringbus_inspect_open_fd(&in, -1), -EBADF);
	assert_int_equal(ringbus_inspect_open_path(&in, "/nonexistent/1.bus"), -ENOENT);
	assert_int_equal(ringbus_inspect_open_path(&in, "/proc/self/exe"), -ELOOP);
	assert_int_equal(ringbus_inspect_open_path(&in, "/dev/null"), -EINVAL);
	assert_int_equal(ringbus_inspect_open(&in, 54321, "/nonexistent"), -ENOENT);
	assert_int_equal(ringbus_inspect_open(&in, 65536, "/"), -EINVAL);
	ringbus_inspect_close(NULL);
}

static void looking_writes_nothing_and_allocates_nothing(void **state)
{
	struct image i;
	uint8_t *copy;

	(void)state;
	image_build(&i);
	copy = malloc(i.bytes);
	assert_non_null(copy);
	memcpy(copy, i.base, i.bytes);
	look_at_all(&i);
	assert_memory_equal(copy, i.base, i.bytes);
	free(copy);
	image_drop(&i);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_sound_image_has_no_findings),
		cmocka_unit_test(header_is_decoded),
		cmocka_unit_test(nodes_are_decoded),
		cmocka_unit_test(events_are_decoded),
		cmocka_unit_test(rings_are_walked_across_the_end_to_the_tail),
		cmocka_unit_test(what_a_former_owner_counted_is_not_told_of_the_present_one),
		cmocka_unit_test(a_ring_goes_on_at_the_start_of_an_answered_resync),
		cmocka_unit_test(a_ring_full_to_the_last_word_is_sound_and_one_word_more_is_not),
		cmocka_unit_test(pools_tell_what_is_queued_and_borrowed_by_whom),
		cmocka_unit_test(records_for_an_earlier_receiver_own_no_chunk),
		cmocka_unit_test(extents_have_the_shape_that_the_pool_gives_them),
		cmocka_unit_test(bell_bits_are_those_of_the_doorbell),
		cmocka_unit_test(processes_of_this_boot_are_told_running_or_gone),
		cmocka_unit_test(on_a_live_bus_only_what_stands_is_a_finding),
		cmocka_unit_test(random_damage_is_survived),
		cmocka_unit_test(extents_that_all_overlap_take_bounded_work),
		cmocka_unit_test(files_that_are_no_region_are_refused_in_words),
		cmocka_unit_test(looking_writes_nothing_and_allocates_nothing),
	};
	struct CMUnitTest breach_tests[rb_array_size(breaches)];
	int failed;

	if (argc == 3 && strcmp(argv[1], "--write") == 0)
		return write_image(argv[2]);
	for (size_t i = 0; i < rb_array_size(breaches); i++)
		breach_tests[i] = (struct CMUnitTest){.name = breaches[i].name,
						      .test_func = breach_is_found,
						      .initial_state = &breaches[i]};
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	return failed + cmocka_run_group_tests(breach_tests, NULL, NULL) != 0;
}

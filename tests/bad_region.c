/* bad_region.c: full, missing, foreign and damaged files, and words that a stranger overwrote.
 *
 * It writes into the region behind the library's back, so it knows layout.h.
 */
#include "harness.h"

#include "layout.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { READY, GO };

struct image {
	struct layout_geometry g;
	uint8_t *map;
	size_t bytes;
};

static void image_open(struct image *image)
{
	struct layout_header header;
	const char *why = NULL;
	const char *path = bus_file();
	struct stat st;
	int fd;

	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	image->bytes = (size_t)st.st_size;
	image->map = mmap(NULL, image->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(image->map != MAP_FAILED);
	memcpy(&header, image->map, sizeof(header));
	assert_int_equal(layout_header_check(&header, &image->g, &why), 0);
	close(fd);
}

static struct layout_node *image_node(const struct image *image, uint32_t slot)
{
	return (struct layout_node *)(void *)(image->map + image->g.nodes_offset) + slot;
}

static struct layout_bell *image_bell(const struct image *image, uint32_t slot)
{
	return (struct layout_bell *)(void *)(image->map + image->g.common_offset +
					      sizeof(struct layout_common)) +
	       slot;
}

static int try_open(void)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND};
	struct ringbus_node *node = NULL;
	int rc = ringbus_node_open(&node, &o);

	if (rc < 0)
		assert_null(node);
	ringbus_node_close(node);
	return rc;
}

/* In a mount namespace of this program's own, so that nothing stays mounted if it is killed. */
static bool own_mounts(void)
{
	static bool done;

	/* in a changed root "/" is no mount point: EINVAL, and nothing above us is shared */
	if (!done)
		done = unshare(CLONE_NEWNS) == 0 &&
		       (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL);
	return done;
}

static void mount_small(const char *options)
{
	if (geteuid() == 0 && own_mounts() &&
	    mount("tmpfs", bus_directory(), "tmpfs", 0, options) == 0 &&
	    chmod(bus_directory(), 0700) == 0)
		return;
	print_message("SKIPPED: needs the right to mount a tmpfs (root)\n");
	skip();
}

static void without_space_for_the_region_the_service_says_so(void **state)
{
	struct ringbus_service_options o = {.size = sizeof(o),
					    .port = 9,
					    .nodes = 64,
					    .events = 1024};
	struct ringbus_service *service = NULL;

	mount_small("size=64k");
	o.directory = bus_directory();
	fails(ringbus_service_open(&service, &o), -ENOSPC);
	assert_null(service);
	assert_true(strlen(ringbus_error_detail()) > 0);
}

static void without_space_for_payloads_a_send_says_so_and_small_ones_go_on(void **state)
{
	struct bus_spec spec = {.nodes = 4, .events = 16};
	struct ringbus_node *a, *b;
	struct ringbus_event *event;
	struct ringbus_loan loan;
	uint8_t *data = calloc(1, 8u << 20);

	mount_small("size=4m");
	bus_serve(&spec);
	a = node_open();
	b = node_open();
	event = single(a, "news");
	subscribe(b, "news");
	emit_text(event, "small");
	fails(ringbus_emit(event, data, 8u << 20, 0), -ENOSPC);
	fails(ringbus_loan(a, 8u << 20, &loan, 0), -ENOSPC);
	emit_text(event, "still");
	pull_text(b, "small");
	pull_text(b, "still");
	pull_nothing(b);
	free(data);
}

static uint64_t bytes_free(void)
{
	struct statvfs fs;

	assert_int_equal(statvfs(bus_directory(), &fs), 0);
	return (uint64_t)fs.f_bavail * fs.f_frsize;
}

static void a_payload_for_which_there_is_no_space_takes_none(void **state)
{
	struct bus_spec spec = {.nodes = 4, .events = 16};
	struct ringbus_node *a, *b;
	struct ringbus_event *event;
	uint8_t *data = calloc(1, 16u << 20);
	uint64_t before;

	mount_small("size=8m");
	bus_serve(&spec);
	a = node_open();
	b = node_open();
	event = single(a, "news");
	subscribe(b, "news");
	emit_text(event, "makes the ring");
	before = bytes_free();
	for (unsigned i = 0; i < 2; i++)
		fails(ringbus_emit(event, data, 16u << 20, 0), -ENOSPC);
	assert_int_equal(bytes_free(), before);
	free(data);
}

static void without_a_directory_there_is_no_bus(void **state)
{
	setenv("RINGBUS_DIR", "/dev/shm/ringbus-test-none/at/all", 1);
	assert_int_equal(ringbus_node_open(&(struct ringbus_node *){NULL},
					   &(struct ringbus_node_options){
						   .size = sizeof(struct ringbus_node_options),
						   .port = 9}),
			 -ECONNREFUSED);
	setenv("RINGBUS_DIR", bus_directory(), 1);
}

static void open_other_version(uint64_t unused)
{
	child_check(try_open() == -EPROTO);
}

static void a_region_of_another_layout_is_refused(void **state)
{
	struct image image;
	uint32_t other = LAYOUT_VERSION + 1;

	image_open(&image);
	memcpy(image.map + offsetof(struct layout_header, version), &other, sizeof(other));
	child_join(child_start(open_other_version, 0));
	other = LAYOUT_VERSION;
	memcpy(image.map + offsetof(struct layout_header, version), &other, sizeof(other));
	node_open();
	munmap(image.map, image.bytes);
}

static void open_junk(uint64_t unused)
{
	int rc = try_open();

	child_check(rc == -EPROTO || rc == -ECONNREFUSED);
}

static void files_of_random_bytes_are_no_region(void **state)
{
	static const size_t sizes[] = {0, 1, 127, 128, 4096, 100000, 1 << 20};
	uint64_t random = harness_number("HARNESS_SEED", 7);
	const char *path;

	bus_serve(NULL);
	bus_stop();
	path = bus_file();
	mkdir(bus_directory(), 0700);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);

		assert_true(fd >= 0);
		for (size_t k = 0; k < sizes[i]; k += 8) {
			uint64_t word = k == 0 && i % 2 ? LAYOUT_MAGIC : splitmix(&random);

			assert_true(write(fd, &word, rb_min(8, sizes[i] - k)) > 0);
		}
		close(fd);
		child_join(child_start(open_junk, 0));
	}
	bus_serve(NULL);
	node_open();
}

static void open_denied(uint64_t unused)
{
	child_check(try_open() == -EACCES);
	child_check(strlen(ringbus_error_detail()) > 0);
}

static void a_symbolic_link_is_not_followed(void **state)
{
	const char *path = bus_file();
	char moved[300];

	snprintf(moved, sizeof(moved), "%s.moved", path);
	assert_int_equal(rename(path, moved), 0);
	assert_int_equal(symlink(moved, path), 0);
	child_join(child_start(open_denied, 0));
	assert_int_equal(rename(moved, path), 0);
	node_open();
}

static void a_region_that_others_may_write_is_refused(void **state)
{
	const char *path = bus_file();

	assert_int_equal(chmod(path, 0666), 0);
	child_join(child_start(open_denied, 0));
	assert_int_equal(chmod(path, 0600), 0);
	node_open();
}

static void files_of_another_user_are_refused(void **state)
{
	const char *path = bus_file();

	if (geteuid() != 0) {
		print_message("SKIPPED: needs root to give files away\n");
		skip();
	}
	assert_int_equal(chown(path, 65534, 65534), 0);
	child_join(child_start(open_denied, 0));
	assert_int_equal(chown(path, 0, 0), 0);
	node_open();
}

static void a_node_whose_slot_was_taken_away_learns_that_it_is_stale(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news"), *other = NULL;
	struct ringbus_address own = node_address(a);
	struct layout_bell *bell;
	struct image image;

	subscribe(b, "news");
	emit_text(event, "x");
	image_open(&image);
	bell = image_bell(&image, own.slot);
	assert_int_equal(slot_state(shm_load_acquire(&bell->slot)), SLOT_LIVE);
	shm_store_release(&bell->slot, slot_word(own.generation + 1, 1, SLOT_FREE));
	fails(ringbus_emit(event, "y", 1, 0), -ESTALE);
	fails(ringbus_event_create(&other, a, "more", NULL), -ESTALE);
	assert_null(other);
	pull_text(b, "x");
	pull_nothing(b);
	munmap(image.map, image.bytes);
	bus_expect_leftovers();
}

static void guarded(uint64_t unused)
{
	struct ringbus_node_options o = {.size = sizeof(o), .sigbus_guard = true};
	struct ringbus_node *node = child_node(&o);
	struct ringbus_event *event;
	const char *path = bus_file();
	int rc;

	child_ok(ringbus_event_create(&event, node, "news", NULL));
	child_check(truncate(path, 0) == 0);
	while ((rc = ringbus_emit(event, "x", 1, 0)) >= 0 && (rc = ringbus_poll(node, 0)) >= 0)
		;
	child_fails(rc, -EFAULT);
	child_fails(ringbus_emit(event, "x", 1, 0), -EFAULT);
	child_fails(ringbus_poll(node, 0), -EFAULT);
	_exit(0);
}

static void truncation_of_the_region_is_an_error_code_under_the_guard(void **state)
{
	bus_expect_leftovers();
	child_join(child_start(guarded, 0));
	bus_expect_failure();
}

/* The receiver's position of the ring from one slot to another. */
static struct layout_ring_rx *receiver_page(struct image *image, uint32_t from, uint32_t to)
{
	uint64_t offset = shm_load_acquire(&image_node(image, from)->ring[to]);

	assert_true(offset >= image->g.fixed_bytes);
	return (struct layout_ring_rx *)(void *)(image->map + offset + RB_PAGE +
						 image->g.ring_bytes);
}

/* Breaks the position of a full ring from a to b, then goes on until a message passes again. */
static void break_and_mend(uint64_t timeout_ns)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address from = node_address(a), to = node_address(b);
	uint8_t data[1000] = {0};
	struct ringbus_message m;
	struct image image;
	int rc, turns = 0;

	while ((rc = ringbus_contact_address(a, &to, data, sizeof(data), 0)) >= 0)
		;
	fails(rc, -EAGAIN);
	image_open(&image);
	shm_store_release(&receiver_page(&image, from.slot, to.slot)->head, 1ull << 40);
	fails(ringbus_contact_address(a, &to, data, sizeof(data), 0), -EBADMSG);
	while ((rc = ringbus_contact_address(a, &to, "anew", 4, 0)) < 0) {
		assert_true(rc == -EBADMSG || rc == -EAGAIN);
		assert_true(turns++ < 10000);
		while (ringbus_next(b, &m, timeout_ns) == 0)
			;
	}
	do
		pull(b, &m);
	while (m.size != 4);
	assert_memory_equal(m.data, "anew", 4);
	assert_true(node_stats(a).corrupt + node_stats(b).corrupt > 0);
	munmap(image.map, image.bytes);
}

static void a_corrupt_position_is_an_error_and_the_pair_starts_anew(void **state)
{
	break_and_mend(HARNESS_MS);
}

static void a_corrupt_pair_starts_anew_for_a_receiver_that_only_polls(void **state)
{
	break_and_mend(0);
}

static void nonsense_about_a_ring_to_nobody_is_no_hindrance(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address from = node_address(a), to = node_address(b);
	static const uint8_t data[1000];
	struct ringbus_message m;
	struct image image;

	image_open(&image);
	shm_store_relaxed(&image_node(&image, from.slot)->ring[to.slot + 1], 8);
	ok(ringbus_contact_address(a, &to, data, sizeof(data), 0));
	pull(b, &m);
	assert_int_equal(m.size, sizeof(data));
	shm_store_relaxed(&image_node(&image, from.slot)->ring[to.slot + 1], 0);
	munmap(image.map, image.bytes);
}

/* ---- descriptors that a program replaces ---- */

/* The number under which this process has the region. */
static int region_descriptor(void)
{
	struct stat region, st;

	child_check(stat(bus_file(), &region) == 0);
	for (int fd = 3; fd < 1024; fd++)
		if (fstat(fd, &st) == 0 && st.st_dev == region.st_dev && st.st_ino == region.st_ino)
			return fd;
	return -1;
}

static int application_file(size_t bytes)
{
	int fd = memfd_create("application", MFD_CLOEXEC);

	child_check(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	return fd;
}

static bool is_empty(int fd, size_t bytes)
{
	const uint8_t *map = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);

	child_check(map != MAP_FAILED);
	for (size_t i = 0; i < bytes; i++)
		if (map[i])
			return false;
	return true;
}

static void child_event(struct ringbus_node *node)
{
	struct ringbus_message m;

	do
		child_ok(ringbus_next(node, &m, RINGBUS_FOREVER));
	while (m.kind != RINGBUS_EVENT);
}

static void replace_the_descriptor(uint64_t bytes)
{
	struct ringbus_node *a = child_node(NULL), *b = child_node(NULL);
	struct ringbus_event *event, *other;
	int ours = region_descriptor(), fd = application_file(bytes);

	child_ok(ringbus_event_create(&event, a, "news", NULL));
	child_ok(ringbus_subscribe(&other, b, "news", NULL));
	child_check(ringbus_emit(event, "x", 1, 0) == 1);
	child_event(b);
	child_check(ours >= 0 && dup2(fd, ours) == ours);
	child_fails(ringbus_event_create(&other, a, "more", NULL), -EIO);
	child_check(strstr(ringbus_error_detail(), "another file") != NULL);
	child_check(is_empty(fd, bytes));
	/* what is mapped goes on */
	child_check(ringbus_emit(event, "x", 1, 0) == 1);
	child_event(b);
	_exit(0); /* its nodes cannot leave */
}

static void a_file_in_the_place_of_the_regions_descriptor_is_not_written(void **state)
{
	child_join(child_start(replace_the_descriptor, 64 << 20));
}

static void a_short_file_in_the_place_of_the_regions_descriptor_is_no_truncation(void **state)
{
	child_join(child_start(replace_the_descriptor, 100));
}

/* ---- extents that change ---- */

static unsigned mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[600];
	unsigned n = 0;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		n += strstr(line, bus_directory()) != NULL;
	fclose(maps);
	return n;
}

static struct ringbus_node *copied;

static void close_the_copy(uint64_t unused)
{
	ringbus_node_close(copied);
}

/* It says another size with each message, and the receiver has the last one still. */
static void a_sender_that_redraws_its_pool_does_not_fill_its_receivers_with_mappings(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address from = node_address(a), to = node_address(b);
	struct ringbus_borrow *borrow, *last = NULL;
	struct layout_pool_extent *extent;
	struct ringbus_loan loan;
	struct ringbus_message m;
	struct image image;
	unsigned before = 0;

	image_open(&image);
	extent = &image_node(&image, from.slot)->pool[0];
	for (unsigned i = 0; i < 50; i++) {
		uint64_t bytes = shm_load_relaxed(&extent->bytes);

		ok(ringbus_loan(a, 2000, &loan, 0));
		ok(ringbus_contact_loan(a, &to, &loan, 0));
		pull(b, &m);
		ok(ringbus_borrow(&m, &borrow));
		ringbus_release(last);
		last = borrow;
		if (i > 0)
			shm_store_relaxed(&extent->bytes,
					  i % 2 ? bytes - RB_PAGE : bytes + RB_PAGE);
		if (i == 10)
			before = mappings();
	}
	assert_true(mappings() <= before + 2);
	/* a child has copies of both, what was replaced and what replaced it */
	ok(ringbus_loan(a, 2000, &loan, 0));
	ok(ringbus_contact_loan(a, &to, &loan, 0));
	pull(b, &m);
	copied = b;
	child_join(child_start(close_the_copy, 0));
	ringbus_release(last);
	munmap(image.map, image.bytes);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(without_space_for_the_region_the_service_says_so),
	BARE_TEST(without_space_for_payloads_a_send_says_so_and_small_ones_go_on),
	BARE_TEST(a_payload_for_which_there_is_no_space_takes_none),
	BARE_TEST(without_a_directory_there_is_no_bus),
	BUS_TEST(a_region_of_another_layout_is_refused),
	BARE_TEST(files_of_random_bytes_are_no_region),
	BUS_TEST(a_symbolic_link_is_not_followed),
	BUS_TEST(a_region_that_others_may_write_is_refused),
	BUS_TEST(files_of_another_user_are_refused),
	BUS_TEST(a_node_whose_slot_was_taken_away_learns_that_it_is_stale),
	BUS_TEST(truncation_of_the_region_is_an_error_code_under_the_guard),
	BUS_TEST(a_corrupt_position_is_an_error_and_the_pair_starts_anew),
	BUS_TEST(a_corrupt_pair_starts_anew_for_a_receiver_that_only_polls),
	BUS_TEST(nonsense_about_a_ring_to_nobody_is_no_hindrance),
	BUS_TEST(a_file_in_the_place_of_the_regions_descriptor_is_not_written),
	BUS_TEST(a_short_file_in_the_place_of_the_regions_descriptor_is_no_truncation),
	BUS_TEST(a_sender_that_redraws_its_pool_does_not_fill_its_receivers_with_mappings),
};

HARNESS_MAIN("bad_region", tests)

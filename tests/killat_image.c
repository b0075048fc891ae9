/* killat_image.c: see killat.h. This file: copies of the region as killed victims left it. Each is
 * recovered twice, which must give the same bytes, and again by reapers that are themselves killed
 * at instructions of theirs: whoever comes next ends in the same bytes.
 */
#include "killat.h"

#include "control.h"

#include <fcntl.h>
#include <sys/stat.h>

#define IMAGES_MAX 512u
#define RECOVER_NS (5 * HARNESS_SECOND)

struct image {
	char name[128];
	uint8_t *data;
	size_t bytes;
};

static struct {
	struct image image[IMAGES_MAX];
	unsigned count, wanted;
	uint64_t seed;
	uint64_t every, offered; /* each so many-th offer is taken */
	char directory[80];
	char path[128];
} all;

void image_want(unsigned n, uint64_t offers)
{
	for (unsigned i = 0; i < all.count; i++)
		free(all.image[i].data);
	memset(&all, 0, sizeof(all));
	all.wanted = n < IMAGES_MAX ? n : IMAGES_MAX;
	all.every = n ? offers / n : 0;
}

/* The whole file, in memory. */
static uint8_t *read_whole(const char *path, size_t *bytes)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint8_t *data = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && (data = malloc((size_t)st.st_size)) != NULL) {
		*bytes = (size_t)st.st_size;
		if (read(fd, data, *bytes) != (ssize_t)*bytes) {
			free(data);
			data = NULL;
		}
	}
	close(fd);
	return data;
}

void image_offer(const struct test_case *c, const struct position *p)
{
	struct job job = {.on = c, .at = *p, .mode = MODE_KILL};
	struct image *image;

	if (all.count >= all.wanted || all.every == 0 || all.offered++ % all.every != 0)
		return;
	image = &all.image[all.count];
	job_name(&job, image->name);
	image->data = read_whole(world_bus_path(), &image->bytes);
	all.count += image->data != NULL;
}

/* ---- recovery ---- */

static void write_file(const char *kind, const void *data, size_t bytes)
{
	char path[160];
	int fd;

	snprintf(path, sizeof(path), "%s/%u.%s", all.directory, world_port(), kind);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, bytes), bytes);
	close(fd);
}

static void lay_out(const struct image *image)
{
	write_file("bus", image->data, image->bytes);
	write_file("live", "", 0);
	write_file("lock", "", 0);
}

static void recover(uint64_t is_traced)
{
	struct region *region;
	int rc = region_open(&region, world_port(), all.directory);

	while (is_traced && !word_get(&world->go))
		usleep(20);
	if (rc == 0 && is_traced)
		traced(rc = control_reap_all(region, rb_deadline_ns(RECOVER_NS)));
	else if (rc == 0)
		rc = control_reap_all(region, rb_deadline_ns(RECOVER_NS));
	if (rc >= 0 && is_traced)
		traced(rc = control_reap(region, rb_deadline_ns(RECOVER_NS)));
	else if (rc >= 0)
		rc = control_reap(region, rb_deadline_ns(RECOVER_NS));
	if (is_traced)
		killat_mark(MARK_OVER);
	if (rc < 0)
		fprintf(stderr, "recovery: %s (%s)\n", ringbus_strerror(rc),
			ringbus_error_detail());
	_exit(rc < 0);
}

/* The bytes after one more recovery. */
static uint8_t *recovered(size_t *bytes)
{
	uint8_t *data;

	child_join(child_start(recover, 0));
	data = read_whole(all.path, bytes);
	assert_non_null(data);
	return data;
}

/* What may differ by how often somebody has rung: epoch, doorbells, count of repairs. */
static void blind(uint8_t *data)
{
	struct layout_header h;
	struct layout_geometry g;
	struct layout_common *common;
	struct layout_control *control;
	struct layout_bell *bells;
	const char *why;

	memcpy(&h, data, sizeof(h));
	assert_int_equal(layout_header_check(&h, &g, &why), 0);
	common = (void *)(data + g.common_offset);
	control = (void *)(data + g.control_offset);
	bells = (void *)(data + g.common_offset + sizeof(*common));
	memset(&common->control_epoch, 0, sizeof(common->control_epoch));
	memset(&control->repairs, 0, sizeof(control->repairs));
	for (unsigned i = 0; i < g.nodes; i++) {
		memset(&bells[i].inbox, 0, sizeof(bells[i].inbox));
		memset(&bells[i].room, 0, sizeof(bells[i].room));
	}
}

static bool differ(const char *what, const struct image *image, const uint8_t *a, size_t a_bytes,
		   const uint8_t *b, size_t b_bytes)
{
	size_t at = 0;

	while (at < a_bytes && at < b_bytes && a[at] == b[at])
		at++;
	if (at == a_bytes && at == b_bytes)
		return false;
	tally.failures++;
	print_message("KILLAT_REPLAY=%s KILLAT_IMAGES=1 KILLAT_SEED=%llu failed, %s: differs at "
		      "%zu of "
		      "%zu and %zu bytes\n",
		      image->name, (unsigned long long)all.seed, what, at, a_bytes, b_bytes);
	return true;
}

static enum trace_end trace_reaper(const struct position *p, struct recording *r)
{
	enum trace_end end;
	pid_t pid;

	word_set(&world->go, 0);
	pid = child_start(recover, 1);
	if (!trace_attach(pid)) {
		child_kill(pid);
		return TRACE_DIED;
	}
	word_set(&world->go, 1);
	end = trace_begin(pid);
	if (end == TRACE_REACHED)
		end = r ? trace_record(pid, r, NULL) : trace_to(pid, p, NULL);
	child_kill(pid);
	return end;
}

/* Returns how many reapers were killed on the way. */
static size_t kill_reapers(const struct image *image, const uint8_t *end, size_t end_bytes,
			   uint64_t n, uint64_t *dice)
{
	static struct recording r;
	static unsigned uses;
	size_t killed = 0;

	/* of one image in six: to step through it takes long, and the next ones have much the same
	 */
	if (!r.at || uses++ % 6 == 0) {
		recording_free(&r);
		lay_out(image);
		if (trace_reaper(NULL, &r) != TRACE_OVER)
			fail_msg("the reaper cannot be traced");
	}
	for (uint64_t i = 0; i < n; i++) {
		char what[64];
		uint8_t *data;
		size_t bytes = 0;

		lay_out(image);
		/* up to three in a row */
		for (uint64_t k = 1 + splitmix(dice) % 3; k > 0; k--) {
			const struct position *p = any_place(&r, dice);

			killed += trace_reaper(p, NULL) == TRACE_REACHED;
			snprintf(what, sizeof(what), "reaper killed last at %s",
				 p->call ? "a call" : trace_place(p->offset));
		}
		data = recovered(&bytes);
		blind(data);
		differ(what, image, end, end_bytes, data, bytes);
		free(data);
	}
	return killed;
}

/* The reapers' places follow from seed and name, so that a replay has the same. */
static size_t recover_image(const struct image *image, uint64_t reapers, uint64_t dice)
{
	size_t bytes[3], killed;
	uint8_t *data[3];

	for (const char *c = image->name; *c; c++)
		dice = dice * 31 + (unsigned char)*c;
	lay_out(image);
	data[0] = recovered(&bytes[0]);
	data[1] = recovered(&bytes[1]);
	differ("recovered again", image, data[0], bytes[0], data[1], bytes[1]);
	lay_out(image);
	data[2] = recovered(&bytes[2]);
	differ("another copy recovered", image, data[0], bytes[0], data[2], bytes[2]);
	blind(data[0]);
	killed = kill_reapers(image, data[0], bytes[0], reapers, &dice);
	for (unsigned i = 0; i < 3; i++)
		free(data[i]);
	return killed;
}

void image_recover(uint64_t reapers, uint64_t dice)
{
	static const char *const kinds[] = {"bus", "live", "lock"};
	uint64_t begin = harness_now_ns();
	char path[160];
	size_t killed = 0;

	snprintf(all.directory, sizeof(all.directory), "%s/images", bus_directory());
	all.seed = dice;
	assert_int_equal(mkdir(all.directory, 0700), 0);
	snprintf(all.path, sizeof(all.path), "%s/%u.bus", all.directory, world_port());
	for (unsigned i = 0; i < all.count; i++)
		killed += recover_image(&all.image[i], reapers, dice);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%u.%s", all.directory, world_port(), kinds[i]);
		unlink(path);
	}
	rmdir(all.directory);
	print_message("  %u crash images recovered twice to the same bytes, %zu reapers killed on "
		      "the way, %.1f s\n",
		      all.count, killed, (double)(harness_now_ns() - begin) / 1e9);
	ledger("crash-images", all.count);
	ledger("reapers-killed", (double)killed);
	image_want(0, 0);
	if (tally.failures)
		fail_msg("%zu images differ", tally.failures);
}

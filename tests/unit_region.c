/* unit_region.c: files of a bus: what is made, what is accepted, what is refused. */
#include "harness.h"

#include "guard.h"
#include "peer.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PORT 40001u

static struct region *make(bool replace)
{
	struct region_spec spec = {
		.g = {.nodes = 4, .events = 8, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
		.directory = bus_directory(),
	};
	struct region *region = NULL;

	ok(region_create(&region, &spec, replace));
	return region;
}

static void end(struct region *region)
{
	region_unlink(region);
	region_put(region);
}

static const char *path_of(const char *kind)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%u.%s", bus_directory(), PORT, kind);
	return path;
}

static void opening_a_made_bus_shares_its_mapping(void **state)
{
	struct region *made = make(false), *opened = NULL;

	ok(region_open(&opened, PORT, NULL));
	assert_ptr_equal(made, opened);
	assert_true(region_is_current(made));
	assert_int_equal(made->g.nodes, 4);
	assert_true(made->fd >= 100);
	region_put(opened);
	end(made);
}

static void a_missing_bus_is_enoent_and_makes_nothing(void **state)
{
	struct region *region;

	fails(region_open(&region, PORT, bus_directory()), -ENOENT);
	fails(region_open_lock(bus_directory(), PORT, false), -ENOENT);
}

static void files_are_for_their_owner_only(void **state)
{
	struct region *region = make(false);
	struct stat st;

	ok(stat(path_of("bus"), &st));
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_true((uint64_t)st.st_size >= region->g.fixed_bytes);
	assert_true((uint64_t)st.st_blocks * 512 >= region->g.fixed_bytes);
	ok(stat(path_of("live"), &st));
	assert_int_equal(st.st_mode & 07777, 0600);
	end(region);
}

/* Puts something in the place of the bus; what must be refused names the path. */
static void refuse_as(int code)
{
	struct region *region;

	fails(region_open(&region, PORT, NULL), code);
	assert_non_null(strstr(ringbus_error_detail(), bus_directory()));
}

static void strange_files_are_refused(void **state)
{
	struct region *region = make(false);
	char aside[300];

	region_put(region);
	snprintf(aside, sizeof(aside), "%s/aside", bus_directory());
	ok(rename(path_of("bus"), aside));
	ok(symlink(aside, path_of("bus")));
	refuse_as(-EACCES);
	ok(unlink(path_of("bus")));
	ok(mkfifo(path_of("bus"), 0600));
	refuse_as(-EACCES);
	ok(unlink(path_of("bus")));
	ok(mkdir(path_of("bus"), 0700));
	refuse_as(-EACCES);
	ok(rmdir(path_of("bus")));
	ok(link(aside, path_of("bus")));
	refuse_as(-EACCES);
	ok(unlink(aside));
	ok(chmod(path_of("bus"), 0666));
	refuse_as(-EACCES);
	ok(chmod(path_of("bus"), 0600));
	if (geteuid() == 0) {
		ok(chown(path_of("bus"), 12345, (gid_t)-1));
		refuse_as(-EACCES);
		ok(chown(path_of("bus"), 0, (gid_t)-1));
	}
	ok(chmod(bus_directory(), 0777));
	refuse_as(-EACCES);
	ok(chmod(bus_directory(), 0700));
	ok(region_open(&region, PORT, NULL));
	end(region);
}

static void poke(size_t offset, const void *data, size_t bytes)
{
	int fd = open(path_of("bus"), O_WRONLY);

	assert_int_equal(pwrite(fd, data, bytes, (off_t)offset), (ssize_t)bytes);
	close(fd);
}

static void wrong_content_is_eproto_and_an_old_boot_is_enoent(void **state)
{
	struct region *region = make(false);
	struct layout_header header;
	uint64_t bytes = region->g.fixed_bytes;
	int fd = open(path_of("bus"), O_RDONLY);

	assert_int_equal(pread(fd, &header, sizeof(header), 0), sizeof(header));
	close(fd);
	region_put(region);
	ok(truncate(path_of("bus"), 100));
	refuse_as(-EPROTO);
	ok(truncate(path_of("bus"), (off_t)bytes));
	refuse_as(-EPROTO); /* cut: the rest of the header is zero */
	poke(0, &header, sizeof(header));
	header.nodes = 5;
	poke(0, &header, sizeof(header));
	refuse_as(-EPROTO);
	header.nodes = 4;
	header.version++;
	poke(0, &header, sizeof(header));
	refuse_as(-EPROTO);
	header.version--;
	header.port++;
	poke(0, &header, sizeof(header));
	refuse_as(-EPROTO);
	header.port--;
	header.boot_id[0] ^= 1;
	poke(0, &header, sizeof(header));
	refuse_as(-ENOENT);
	header.boot_id[0] ^= 1;
	poke(0, &header, sizeof(header));
	ok(region_open(&region, PORT, NULL));
	end(region);
}

static void a_replaced_region_is_current_no_more_and_unlinks_nothing(void **state)
{
	struct region_spec spec = {
		.g = {.nodes = 2, .events = 1, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
	};
	struct region *first = make(false), *second;

	fails(region_create(&second, &spec, false), -EEXIST);
	second = make(true);
	assert_ptr_not_equal(first, second);
	assert_false(region_is_current(first));
	region_unlink(first);
	assert_true(region_is_current(second));
	region_put(first);
	end(second);
}

static void bad_geometry_and_groups_are_einval(void **state)
{
	struct region_spec spec = {
		.g = {.nodes = 257, .events = 1, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
	};
	struct region *region;

	fails(region_create(&region, &spec, false), -EINVAL);
	spec.g.nodes = 2;
	spec.group = "no such group";
	fails(region_create(&region, &spec, false), -EINVAL);
	unlink(path_of("lock"));
}

static void mapping_is_bounded_by_the_file(void **state)
{
	struct region *region = make(false);
	uint64_t end_offset = region->g.fixed_bytes;
	void *map;

	fails(region_map(region, end_offset, 4096, true, false, &map), -EBADMSG);
	fails(region_map(region, 1, 4096, true, false, &map), -EBADMSG);
	fails(region_map(region, 0, UINT64_MAX & ~4095ull, false, false, &map), -EBADMSG);
	ok(region_allocate(region, end_offset, 5 << 20));
	ok(region_map(region, end_offset, 5 << 20, true, true, &map));
	memset(map, 7, 5 << 20);
	ok(region_punch(region, end_offset + 4096, 4096));
	assert_int_equal(((char *)map)[4095], 7);
	assert_int_equal(((char *)map)[4096], 0);
	assert_int_equal(((char *)map)[8192], 7);
	region_unmap(region, map, 5 << 20);
	end(region);
}

static void write_over_the_file_size_limit(uint64_t unused)
{
	struct rlimit limit = {1 << 20, 1 << 20};
	struct region *region;

	child_ok(region_open(&region, PORT, NULL));
	child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0);
	child_check(region_allocate(region, region->g.fixed_bytes, 4 << 20) == -EFBIG);
}

static void a_file_size_limit_is_an_error_and_no_death(void **state)
{
	struct region *region = make(false);

	child_join(child_start(write_over_the_file_size_limit, 0));
	end(region);
}

static void fill_a_small_filesystem(uint64_t unused)
{
	struct region_spec spec = {
		.g = {.nodes = 4, .events = 8, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
		.directory = bus_directory(),
	};
	struct region *region;

	child_check(unshare(CLONE_NEWNS) == 0);
	/* in a changed root "/" is no mount point: EINVAL, and nothing above us is shared */
	child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL);
	child_check(mount("tmpfs", bus_directory(), "tmpfs", 0, "size=256k,mode=0700") == 0);
	child_ok(region_create(&region, &spec, false));
	child_check(region_allocate(region, region->g.fixed_bytes, 4 << 20) == -ENOSPC);
	child_check(strstr(ringbus_error_detail(), "--shm-size") != NULL);
	spec.port++;
	spec.g.events = 4096;
	child_check(region_create(&region, &spec, false) == -ENOSPC);
}

static void a_full_filesystem_is_enospc(void **state)
{
	if (geteuid() != 0)
		skip();
	child_join(child_start(fill_a_small_filesystem, 0));
}

static struct region *shared_region;

static void use_after_fork(uint64_t slot)
{
	struct region *own;

	child_check(region_forked(shared_region));
	child_ok(region_open(&own, PORT, NULL));
	child_check(own != shared_region && !region_forked(own));
	child_check(peer_live_holder(own, (uint32_t)slot) == getppid());
	child_ok(peer_live_take(own, (uint32_t)slot + 1));
	region_put(shared_region);
	/* The parent's copy is gone, our own lock is not. */
	flag_set(0, 1);
	flag_wait(1, 1);
	region_put(own);
}

static void a_forked_child_opens_its_own_and_drops_no_locks(void **state)
{
	struct region *region = shared_region = make(false);
	pid_t child;

	ok(peer_live_take(region, 1));
	child = child_start(use_after_fork, 1);
	flag_wait(0, 1);
	assert_int_equal(peer_live_holder(region, 2), child);
	assert_int_equal(peer_live_holder(region, 1), getpid());
	flag_set(1, 1);
	child_join(child);
	assert_int_equal(peer_live_holder(region, 2), 0);
	assert_int_equal(peer_live_holder(region, 1), getpid());
	end(region);
}

static void touch_a_truncated_region(uint64_t unused)
{
	struct region *region;

	child_ok(region_open(&region, PORT, NULL));
	child_ok(guard_enable());
	child_check(!guard_condemned(region));
	child_check(ftruncate(region->fd, 0) == 0);
	/* relaxed: a look at lost memory */
	child_check(shm_load_relaxed(&region->bells[0].slot) == 0);
	child_check(guard_condemned(region));
	shm_store_relaxed(&region->bells[0].slot, 5);
	child_check(shm_load_relaxed(&region->bells[0].slot) == 5);
	child_check(shm_load_relaxed(&region->nodes[0].mode) == 0);
}

static void touch_a_foreign_truncated_file(uint64_t unused)
{
	int fd = memfd_create("t", MFD_CLOEXEC);
	volatile char *map;

	child_ok(guard_enable());
	child_check(ftruncate(fd, 4096) == 0);
	map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
	child_check(ftruncate(fd, 0) == 0);
	flag_set(0, 1);
	flag_set(1, (uint64_t)map[0]);
	_exit(3);
}

static void on_bus_error(int number, siginfo_t *info, void *context)
{
	_exit(info->si_code == BUS_ADRERR ? 7 : 8);
}

static void on_bus_signal(int number)
{
	_exit(9);
}

/* 0: a handler that wants to know all, 1: one that does not, 2: it is sent, with no handler */
static void meet_another_handler(uint64_t kind)
{
	struct sigaction action = {.sa_flags = kind == 0 ? SA_SIGINFO : 0};

	if (kind == 0)
		action.sa_sigaction = on_bus_error;
	else if (kind == 1)
		action.sa_handler = on_bus_signal;
	if (kind < 2)
		sigaction(SIGBUS, &action, NULL);
	if (kind < 2)
		touch_a_foreign_truncated_file(0);
	child_ok(guard_enable());
	raise(SIGBUS);
	_exit(3);
}

static int status_of(pid_t child)
{
	int status = -1;

	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static void the_sigbus_guard_leaves_what_is_not_its_own_to_the_handler_before_it(void **state)
{
	int status = status_of(child_start(meet_another_handler, 0));

	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
	status = status_of(child_start(meet_another_handler, 1));
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 9);
	status = status_of(child_start(meet_another_handler, 2));
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
}

static void the_sigbus_guard_keeps_us_alive_and_chains(void **state)
{
	struct region *region = make(false);
	pid_t child;
	int status;

	child_join(child_start(touch_a_truncated_region, 0));
	region_unlink(region);
	child = child_start(touch_a_foreign_truncated_file, 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGBUS);
	assert_int_equal(flag_get(0), 1);
	region_put(region);
}

static void buses_are_listed(void **state)
{
	struct region *region = make(false);
	struct region_place places[4];
	int n = region_list(places, 4, bus_directory());

	assert_int_equal(n, 1);
	assert_int_equal(places[0].port, PORT);
	assert_string_equal(places[0].directory, bus_directory());
	end(region);
	assert_int_equal(region_list(places, 4, bus_directory()), 0);
}

/* ---- groups ---- */

enum { GROUP = 61001, USER = 61003, MANY_GROUPS = 300 };

static void expect_shared(const char *group)
{
	struct region_spec spec = {
		.g = {.nodes = 4, .events = 8, .ring_bytes = 4096, .pool_bytes = 65536},
		.port = PORT,
		.directory = bus_directory(),
		.group = group,
	};
	struct region *region;
	struct stat st;

	child_ok(region_create(&region, &spec, false));
	child_ok(stat(path_of("bus"), &st));
	child_check((st.st_mode & 07777) == 0660);
	child_check(st.st_gid == GROUP);
	end(region);
}

static void be_in_many_groups(uint64_t unused)
{
	gid_t groups[MANY_GROUPS];

	for (unsigned i = 0; i < MANY_GROUPS; i++)
		groups[i] = (gid_t)(GROUP - MANY_GROUPS + 1 + i);
	child_check(setgroups(MANY_GROUPS, groups) == 0);
	child_check(setgid(USER) == 0 && setuid(USER) == 0);
	expect_shared(NULL);
}

/* An entry of some 100 KB in /etc/group. */
static void be_in_a_large_group(uint64_t unused)
{
	char path[256];
	FILE *file;

	child_check(unshare(CLONE_NEWNS) == 0);
	child_check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	snprintf(path, sizeof(path), "%s/group", bus_directory());
	file = fopen(path, "we");
	child_check(file != NULL);
	fprintf(file, "ringbus-large:x:%d:", GROUP);
	for (unsigned i = 0; i < 9000; i++)
		fprintf(file, "%smember%u", i ? "," : "", i);
	fprintf(file, "\n");
	fclose(file);
	child_check(mount(path, "/etc/group", NULL, MS_BIND, NULL) == 0);
	child_check(unlink(path) == 0);
	expect_shared("ringbus-large");
}

static void groups_may_be_many_and_large(void **state)
{
	if (geteuid() != 0)
		skip();
	ok(chown(bus_directory(), 0, GROUP));
	ok(chmod(bus_directory(), 02770));
	child_join(child_start(be_in_many_groups, 0));
	child_join(child_start(be_in_a_large_group, 0));
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(opening_a_made_bus_shares_its_mapping),
	BARE_TEST(a_missing_bus_is_enoent_and_makes_nothing),
	BARE_TEST(files_are_for_their_owner_only),
	BARE_TEST(strange_files_are_refused),
	BARE_TEST(wrong_content_is_eproto_and_an_old_boot_is_enoent),
	BARE_TEST(a_replaced_region_is_current_no_more_and_unlinks_nothing),
	BARE_TEST(bad_geometry_and_groups_are_einval),
	BARE_TEST(mapping_is_bounded_by_the_file),
	BARE_TEST(a_file_size_limit_is_an_error_and_no_death),
	BARE_TEST(a_full_filesystem_is_enospc),
	BARE_TEST(a_forked_child_opens_its_own_and_drops_no_locks),
	BARE_TEST(the_sigbus_guard_keeps_us_alive_and_chains),
	BARE_TEST(the_sigbus_guard_leaves_what_is_not_its_own_to_the_handler_before_it),
	BARE_TEST(buses_are_listed),
	BARE_TEST(groups_may_be_many_and_large),
};

HARNESS_MAIN("unit_region", tests)

/* assume_kernel.c: what the library takes for granted of the kernel, each by itself: when one of
 * these fails, the others need not be looked at.
 */
#include "harness.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

enum { READY, GO };

static const char *file_path(void)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/assumed", bus_directory());
	return path;
}

static int file_of(off_t bytes)
{
	int fd = open(file_path(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, bytes), 0);
	return fd;
}

static _Atomic uint32_t *map_word(int fd)
{
	void *map = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	assert_ptr_not_equal(map, MAP_FAILED);
	return map;
}

static void sleeper(uint64_t fd)
{
	_Atomic uint32_t *word = map_word((int)fd);

	flag_set(READY, 1);
	while (atomic_load(word) == 1)
		syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0);
}

static void a_futex_of_a_file_wakes_across_mappings_of_two_processes(void **state)
{
	int fd = file_of(4096);
	_Atomic uint32_t *other = map_word(fd), *word = map_word(fd);
	pid_t child;

	assert_ptr_not_equal(other, word);
	atomic_store(word, 1);
	child = child_start(sleeper, (uint64_t)fd);
	flag_wait(READY, 1);
	atomic_store(word, 0);
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
	child_join(child);
	close(fd);
}

static void a_wait_for_another_value_returns_at_once(void **state)
{
	int fd = file_of(4096);
	_Atomic uint32_t *word = map_word(fd);

	atomic_store(word, 2);
	assert_int_equal(syscall(SYS_futex, word, FUTEX_WAIT, 1, NULL, NULL, 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(fd);
}

/* ---- locks ---- */

static void lock_byte(int fd, off_t at, int command)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	child_ok(fcntl(fd, command, &lock));
}

/* Who holds the byte: 0 nobody, -1 an open file description, else a process. */
static pid_t holder(int fd, off_t at)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};

	ok(fcntl(fd, F_OFD_GETLK, &lock));
	return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

static void holder_main(uint64_t unused)
{
	int fd = open(file_path(), O_RDWR | O_CLOEXEC);

	child_check(fd >= 0);
	lock_byte(fd, 7, F_SETLK);
	lock_byte(fd, 9, F_OFD_SETLK);
	flag_set(READY, 1);
	for (;;)
		pause();
}

static void locks_tell_their_holder_and_end_with_it(void **state)
{
	int fd = file_of(4096);
	pid_t child = child_start(holder_main, 0);

	flag_wait(READY, 1);
	assert_int_equal(holder(fd, 7), child);
	assert_int_equal(holder(fd, 9), -1);
	assert_int_equal(holder(fd, 8), 0);
	child_kill(child);
	assert_int_equal(holder(fd, 7), 0);
	assert_int_equal(holder(fd, 9), 0);
	close(fd);
}

static void heir_main(uint64_t unused)
{
	flag_set(READY, 1);
	flag_wait(GO, 1);
}

static void
a_forked_child_inherits_the_lock_of_a_description_and_not_that_of_a_process(void **state)
{
	int fd = file_of(4096), second = open(file_path(), O_RDWR | O_CLOEXEC);
	int look = open(file_path(), O_RDWR | O_CLOEXEC);
	pid_t child;

	lock_byte(fd, 9, F_OFD_SETLK);
	child = child_start(heir_main, 0);
	flag_wait(READY, 1);
	close(fd);
	assert_int_equal(holder(look, 9), -1); /* the child's copy of the descriptor keeps it */
	lock_byte(second, 7, F_SETLK);
	assert_int_equal(holder(look, 7), getpid());
	close(second); /* any descriptor of the file drops all locks of the process */
	assert_int_equal(holder(look, 7), 0);
	flag_set(GO, 1);
	child_join(child);
	assert_int_equal(holder(look, 9), 0);
	close(look);
}

/* ---- processes ---- */

static void a_pidfd_is_readable_from_death_on_and_not_before(void **state)
{
	pid_t child = child_start(heir_main, 0);
	int fd = (int)syscall(SYS_pidfd_open, child, 0);
	struct pollfd p = {.fd = fd, .events = POLLIN};

	assert_true(fd >= 0);
	flag_wait(READY, 1);
	assert_int_equal(poll(&p, 1, 0), 0);
	kill(child, SIGSTOP);
	child_wait_stopped(child);
	assert_int_equal(poll(&p, 1, 0), 0); /* stopped is not dead */
	kill(child, SIGKILL);
	assert_int_equal(poll(&p, 1, -1), 1); /* not reaped yet: a zombie is dead */
	child_kill(child);
	close(fd);
}

/* ---- files ---- */

static void a_file_without_a_name_gets_one_whole(void **state)
{
	int fd = open(bus_directory(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), again;
	char self[64], text[8] = "";

	assert_true(fd >= 0);
	assert_int_equal(write(fd, "whole", 5), 5);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	assert_int_equal(linkat(AT_FDCWD, self, AT_FDCWD, file_path(), AT_SYMLINK_FOLLOW), 0);
	again = open(file_path(), O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(again, text, 5), 5);
	assert_string_equal(text, "whole");
	assert_int_equal(linkat(AT_FDCWD, self, AT_FDCWD, file_path(), AT_SYMLINK_FOLLOW), -1);
	assert_int_equal(errno, EEXIST);
	close(again);
	close(fd);
}

static uint64_t allocated(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void memory_is_taken_by_allocating_and_given_back_by_punching(void **state)
{
	int fd = file_of(1 << 20);
	char byte = 1;

	assert_int_equal(allocated(fd), 0);
	assert_int_equal(pread(fd, &byte, 1, 4096), 1); /* a look at a hole takes none */
	assert_int_equal(byte, 0);
	assert_int_equal(allocated(fd), 0);
	assert_int_equal(fallocate(fd, 0, 0, 1 << 20), 0);
	assert_int_equal(allocated(fd), 1 << 20);
	assert_int_equal(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192), 0);
	assert_int_equal(allocated(fd), (1 << 20) - 8192);
	close(fd);
}

static int remove_file(void **state)
{
	unlink(file_path());
	return harness_teardown(state);
}

#define ASSUMPTION(f) cmocka_unit_test_setup_teardown(f, harness_setup_bare, remove_file)

static const struct CMUnitTest tests[] = {
	ASSUMPTION(a_futex_of_a_file_wakes_across_mappings_of_two_processes),
	ASSUMPTION(a_wait_for_another_value_returns_at_once),
	ASSUMPTION(locks_tell_their_holder_and_end_with_it),
	ASSUMPTION(a_forked_child_inherits_the_lock_of_a_description_and_not_that_of_a_process),
	ASSUMPTION(a_pidfd_is_readable_from_death_on_and_not_before),
	ASSUMPTION(a_file_without_a_name_gets_one_whole),
	ASSUMPTION(memory_is_taken_by_allocating_and_given_back_by_punching),
};

HARNESS_MAIN("assume_kernel", tests)

/* life_core.c: a process that dumps core lives until the dump is written; one that runs another
 * program is not dead, and keeps nothing of the bus.
 */
#include "life.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { READY, GO, VICTIM = 20 };

/* ---- core dumps ---- */

enum { TOUCHED = 64 << 20 };
static const char private_text[] = "what is private may be in the core";

/* Mappings of files are to be dumped too: shared memory with a name is one. */
static void dump_everything(void)
{
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC);

	child_check(fd >= 0 && write(fd, "0x7f", 4) == 4);
	close(fd);
}

static void crash_main(uint64_t unused)
{
	struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};
	struct ringbus_node *node = child_node(NULL);
	char *memory = malloc(TOUCHED);

	child_check(memory && chdir(bus_directory()) == 0);
	child_check(setrlimit(RLIMIT_CORE, &all) == 0);
	child_check(prctl(PR_SET_DUMPABLE, 1) == 0);
	dump_everything();
	for (size_t i = 0; i + sizeof(private_text) < TOUCHED; i += 4096)
		memcpy(memory + i, private_text, sizeof(private_text));
	__asm__ volatile("" ::"r"(memory)
			 : "memory"); /* or it would not be there: nobody reads it */
	note_address(VICTIM, node);
	child_ok(ringbus_wait(node, RINGBUS_FOREVER)); /* its ring is mapped, and not read */
	flag_set(READY, 1);
	flag_wait(GO, 1);
	abort();
}

static bool dumps_core(pid_t pid)
{
	char path[64], line[128];
	bool dumps = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		dumps |= strncmp(line, "CoreDumping:\t1", 14) == 0;
	if (f)
		fclose(f);
	return dumps;
}

static bool may_dump_here(void)
{
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");
	char pattern[256] = "";
	bool plain = f && fgets(pattern, sizeof(pattern), f) && strncmp(pattern, "core", 4) == 0 &&
		     !strchr(pattern, '/');

	if (f)
		fclose(f);
	return plain;
}

/* Whether the only file of the directory whose name begins with "core" has these bytes in it. */
static bool core_has(const void *bytes, size_t size)
{
	DIR *dir = opendir(bus_directory());
	struct dirent *entry;
	bool has = false;

	while ((entry = readdir(dir))) {
		char path[512];
		struct stat st;
		void *at;
		int fd;

		if (strncmp(entry->d_name, "core", 4) != 0)
			continue;
		snprintf(path, sizeof(path), "%s/%s", bus_directory(), entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		assert_true(fd >= 0 && fstat(fd, &st) == 0 && st.st_size > TOUCHED);
		at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
		assert_true(at != MAP_FAILED);
		has |= memmem(at, (size_t)st.st_size, bytes, size) != NULL;
		munmap(at, (size_t)st.st_size);
		close(fd);
	}
	closedir(dir);
	return has;
}

static void remove_cores(void)
{
	DIR *dir = opendir(bus_directory());
	struct dirent *entry;

	while ((entry = readdir(dir)))
		if (strncmp(entry->d_name, "core", 4) == 0)
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

static void who_dumps_core_lives_until_the_dump_is_written(void **state)
{
	struct ringbus_node *node = node_open_with(&told);
	unsigned seen = 0, end = 0;
	uint64_t secret[8], random;
	siginfo_t info = {0};
	pid_t pid;

	if (!may_dump_here()) {
		print_message("SKIPPED: core dumps go elsewhere\n");
		skip();
	}
	pid = child_start(crash_main, 0);
	flag_wait(VICTIM, 1);
	random = harness_now_ns();
	for (unsigned i = 0; i < 8; i++)
		secret[i] = splitmix(&random);
	ok(ringbus_contact(node, (uint32_t)pid, secret, sizeof(secret), 0));
	flag_wait(READY, 1);
	flag_set(GO, 1);
	while (end == 0 && !child_ended(pid)) {
		struct ringbus_address a;
		bool before = dumps_core(pid);
		int rc = ringbus_node_find_pid(node, (uint32_t)pid, &a);

		end = end_told(node);
		if (before && dumps_core(pid)) { /* so it did in between */
			ok(rc);
			assert_int_equal(end, 0);
			seen++;
		}
	}
	if (end == 0)
		end = await_end(node, flag_get(VICTIM) - 1);
	assert_int_equal(end, RINGBUS_PEER_DIED);
	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
	child_kill(pid);
	if (info.si_code != CLD_DUMPED) {
		print_message("SKIPPED: the kernel dumped no core\n");
		skip();
	}
	print_message("  alive at %u looks during the dump\n", seen);
	assert_true(core_has(private_text, sizeof(private_text)));
	remove_cores();
}

/* ---- exec ---- */

static void exec_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_event *event;

	child_ok(ringbus_subscribe(&event, node, "news", NULL));
	note_address(VICTIM, node);
	flag_wait(GO, 1);
	execl("/bin/sleep", "sleep", "1000", (char *)NULL);
	_exit(97);
}

static bool runs_sleep(pid_t pid)
{
	char path[64], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (f) {
		(void)!fgets(name, sizeof(name), f);
		fclose(f);
	}
	return strcmp(name, "sleep\n") == 0;
}

/* Nothing of the bus is mapped or open there. */
static void has_nothing_of_the_bus(pid_t pid)
{
	char path[64], text[512];
	struct dirent *entry;
	ssize_t n;
	FILE *f;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(text, sizeof(text), f))
		assert_null(strstr(text, bus_directory()));
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while ((entry = readdir(dir))) {
		n = readlinkat(dirfd(dir), entry->d_name, text, sizeof(text) - 1);
		text[n > 0 ? n : 0] = 0;
		assert_null(strstr(text, bus_directory()));
		assert_null(strstr(text, "socket:"));
	}
	closedir(dir);
}

static void who_runs_another_program_is_no_dead_process_and_keeps_nothing(void **state)
{
	struct bus_spec spec = {.nodes = 3, .ring_bytes = 4096};
	struct ringbus_node *node;
	struct ringbus_event *event;

	bus_serve(&spec);
	node = node_open_with(&told);
	event = single(node, "news");
	for (unsigned i = 0; i < 20; i++) {
		struct ringbus_address a;
		pid_t pid;
		int rc;

		flag_set(VICTIM, 0);
		flag_set(GO, 0);
		pid = child_start(exec_main, 0);
		flag_wait(VICTIM, 1);
		flag_set(GO, 1);
		while (!runs_sleep(pid))
			pause_briefly();
		has_nothing_of_the_bus(pid);
		/* it runs, so it is not buried, however full its ring is */
		do
			rc = ringbus_emit(event, "news", 4, 0);
		while (rc > 0);
		assert_int_equal(rc, -EAGAIN);
		fails(ringbus_emit(event, "news", 4, 5 * HARNESS_MS), -ETIMEDOUT);
		ok(ringbus_node_find_pid(node, (uint32_t)pid, &a));
		assert_int_equal(packed(&a), flag_get(VICTIM) - 1);
		no_end_is_told(node);
		child_kill(pid);
		assert_int_equal(await_end(node, flag_get(VICTIM) - 1), RINGBUS_PEER_DIED);
		assert_int_equal(emit_text(event, "x"), 0);
	}
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(who_dumps_core_lives_until_the_dump_is_written),
	BARE_TEST(who_runs_another_program_is_no_dead_process_and_keeps_nothing),
};

HARNESS_MAIN("life_core", tests)

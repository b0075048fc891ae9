/* harness.c: see harness.h. This file: programs, watchdog, the bus of a test and its service. */
#include "harness_private.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

static struct {
	char directory[64];
	unsigned port;
	pid_t service;
	bool leftovers;
	pid_t owner; /* the process that made the directory */
} bus;

static const char *program = "test";
static char program_path[512];

uint64_t harness_number(const char *name, uint64_t fallback)
{
	const char *text = getenv(name);

	return text && *text ? strtoull(text, NULL, 0) : fallback;
}

void ledger(const char *name, double value)
{
	print_message("ledger: %s %.15g\n", name, value);
}

static void on_alarm(int number)
{
	static const char text[] = "watchdog: this test hangs\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	if (harness_number("HARNESS_ABORT", 0))
		abort();
	harness_kill_children();
	if (bus.service > 0)
		kill(bus.service, SIGKILL);
	_exit(124);
}

void watchdog(unsigned seconds)
{
	struct sigaction action = {.sa_handler = on_alarm};

	sigaction(SIGALRM, &action, NULL);
	alarm(seconds * (unsigned)harness_number("HARNESS_SLOW", 1));
}

/* argv: --service PORT NODES EVENTS RING POOL; the directory comes from the environment. */
static int serve(char **argv)
{
	struct ringbus_service_options options = {
		.size = sizeof(options),
		.port = (unsigned)strtoul(argv[2], NULL, 0),
		.nodes = (unsigned)strtoul(argv[3], NULL, 0),
		.events = (unsigned)strtoul(argv[4], NULL, 0),
		.ring_bytes = strtoull(argv[5], NULL, 0),
		.pool_bytes = strtoull(argv[6], NULL, 0),
	};
	struct ringbus_service *service;
	sigset_t set;
	int rc;

	/* before anybody can know that it listens, and end it */
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	rc = ringbus_service_open(&service, &options);
	if (rc < 0) {
		fprintf(stderr, "service: %s: %s\n", ringbus_strerror(rc), ringbus_error_detail());
		return rc == -EADDRINUSE ? 98 : 1;
	}
	if (!harness_stop_on_sigterm(service))
		return 1;
	rc = ringbus_service_run(service);
	ringbus_service_close(service);
	return rc < 0 ? 1 : 0;
}

/* By its name, since under valgrind /proc/self/exe itself is valgrind; at the start, since in a
 * changed root a mount namespace of our own no longer leads to it. */
static void find_program(void)
{
	ssize_t bytes = readlink("/proc/self/exe", program_path, sizeof(program_path) - 1);

	program_path[bytes > 0 ? bytes : 0] = 0;
}

void harness_init(int argc, char **argv)
{
	find_program();
	program = strrchr(argv[0], '/') ? strrchr(argv[0], '/') + 1 : argv[0];
	setvbuf(stdout, NULL, _IOLBF, 0);
	signal(SIGPIPE, SIG_IGN);
	unsetenv("RINGBUS_PORT");
	if (argc == 7 && strcmp(argv[1], "--service") == 0)
		exit(serve(argv));
	if (argc > 1 && argv[1][0] != '-')
		cmocka_set_test_filter(argv[1]);
}

const char *bus_directory(void)
{
	return bus.directory;
}

unsigned bus_port(void)
{
	return bus.port;
}

unsigned harness_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

const char *bus_file(void)
{
	static char path[256];

	snprintf(path, sizeof(path), "%s/%u.bus", bus.directory, bus.port);
	return path;
}

pid_t bus_service_pid(void)
{
	return bus.service;
}

void bus_expect_leftovers(void)
{
	bus.leftovers = true;
}

/* No other test takes this port from now on, also not while our service is dead. */
static bool claim_port(unsigned port)
{
	static int claim = -1;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(name.sun_path + 1, sizeof(name.sun_path) - 1, "ringbus-tests-port-%u", port);
	if (bind(fd, (struct sockaddr *)&name, sizeof(name)) < 0) {
		close(fd);
		return false;
	}
	if (claim >= 0)
		close(claim);
	claim = fd;
	return true;
}

/* A port that nobody uses just now. A process that is no test may take it: who starts a service
 * tries again with another. */
static unsigned unused_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
	close(fd);
	return ntohs(address.sin_port);
}

static unsigned free_port(void)
{
	unsigned port = unused_port();

	while (!claim_port(port))
		port = unused_port();
	return port;
}

bool harness_is_parent(void)
{
	return getpid() == bus.owner;
}

/* Not we ourselves: where nobody listens yet, a connection from the very port that it goes to meets
 * itself. */
static bool answers(unsigned port)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	struct sockaddr_in own = {0};
	socklen_t bytes = sizeof(own);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc = connect(fd, (struct sockaddr *)&address, sizeof(address));

	getsockname(fd, (struct sockaddr *)&own, &bytes);
	close(fd);
	return rc == 0 && own.sin_port != address.sin_port;
}

static _Noreturn void exec_service(const struct bus_spec *spec)
{
	const char *daemon = getenv("RINGBUSD");
	char number[5][32];

	child_reset();
	snprintf(number[0], sizeof(number[0]), "%u", bus.port);
	if (!spec && daemon && access(daemon, X_OK) == 0) {
		execl(daemon, daemon, "--port", number[0], (char *)NULL);
		_exit(97);
	}
	snprintf(number[1], sizeof(number[1]), "%u", spec ? spec->nodes : 0);
	snprintf(number[2], sizeof(number[2]), "%u", spec ? spec->events : 0);
	snprintf(number[3], sizeof(number[3]), "%llu",
		 spec ? (unsigned long long)spec->ring_bytes : 0);
	snprintf(number[4], sizeof(number[4]), "%llu",
		 spec ? (unsigned long long)spec->pool_bytes : 0);
	execl(program_path, program, "--service", number[0], number[1], number[2], number[3],
	      number[4], (char *)NULL);
	_exit(97);
}

static bool try_serve(const struct bus_spec *spec)
{
	int status;

	fflush(NULL);
	bus.service = fork();
	assert_true(bus.service >= 0);
	if (bus.service == 0)
		exec_service(spec);
	for (;;) {
		if (waitpid(bus.service, &status, WNOHANG) == bus.service) {
			bus.service = 0;
			return false;
		}
		/* a stranger may listen there just now, which the service will see when it binds */
		if (answers(bus.port) && access(bus_file(), F_OK) == 0)
			return true;
		pause_briefly();
	}
}

void bus_serve(const struct bus_spec *spec)
{
	bool restart = bus.port != 0;

	for (int i = 0; i < (restart ? 1 : 5); i++) {
		if (!restart)
			bus.port = free_port();
		setenv("RINGBUS_DIR", bus.directory, 1);
		if (try_serve(spec))
			return;
	}
	fail_msg("no service came up in %s on port %u", bus.directory, bus.port);
}

void bus_stop(void)
{
	int status = -1;

	if (bus.service <= 0)
		return;
	kill(bus.service, SIGTERM);
#ifdef __SANITIZE_THREAD__
	/* ThreadSanitizer of gcc 12 now and then keeps a signal to itself: the kernel has delivered
	 * it, the handler has not run and does not until the next one. */
	while (waitpid(bus.service, &status, WNOHANG) == 0) {
		usleep(500000);
		kill(bus.service, SIGTERM);
	}
#else
	assert_int_equal(waitpid(bus.service, &status, 0), bus.service);
#endif
	bus.service = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("the service ended with wait status %#x", status);
}

void bus_expect_failure(void)
{
	int status = -1;

	assert_true(bus.service > 0);
	assert_int_equal(waitpid(bus.service, &status, 0), bus.service);
	bus.service = 0;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 1)
		fail_msg("the service ended with wait status %#x", status);
}

void bus_kill(void)
{
	assert_true(bus.service > 0);
	kill(bus.service, SIGKILL);
	waitpid(bus.service, NULL, 0);
	bus.service = 0;
}

void bus_check(void)
{
	const char *tools = getenv("RINGBUS_TOOLS");
	char path[512], port[16];
	int status = -1;
	pid_t pid;

	if (!tools || bus.port == 0 || harness_number("HARNESS_NO_CHECK", 0))
		return;
	snprintf(path, sizeof(path), "%s/shm-inspect", tools);
	snprintf(port, sizeof(port), "%u", bus.port);
	if (access(path, X_OK) != 0)
		return;
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		child_reset();
		dup2(STDERR_FILENO, STDOUT_FILENO);
		execl(path, path, "check", "--port", port, (char *)NULL);
		_exit(97);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* 3: the bus has ended, and its files are gone */
	if (!WIFEXITED(status) || (WEXITSTATUS(status) != 0 && WEXITSTATUS(status) != 3))
		fail_msg("shm-inspect check ended with wait status %#x", status);
}

/* Removes what is in the directory and returns how much there was; names of files go to stderr when
 * shown. */
static unsigned empty_directory(bool show)
{
	DIR *dir = opendir(bus.directory);
	struct dirent *entry;
	unsigned count = 0;

	while (dir && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		count++;
		if (show)
			fprintf(stderr, "left: %s/%s\n", bus.directory, entry->d_name);
		unlinkat(dirfd(dir), entry->d_name, 0);
	}
	if (dir)
		closedir(dir);
	return count;
}

/* The text of a process's argument list, with blanks for the zeros. */
static void words_of(const char *pid, char *words, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, words, size - 1);
		close(fd);
	}
	words[n > 0 ? n : 0] = 0;
	for (ssize_t i = 0; i + 1 < n; i++)
		if (words[i] == 0)
			words[i] = ' ';
}

/* A service that was started and has not said yet whether it serves: with our directory among its
 * arguments, or forked from us, in a session whose leader is gone, and not yet another program. */
static bool service_is_starting(void)
{
	char ours[4096], words[4096];
	struct dirent *entry;
	DIR *dir = opendir("/proc");
	bool found = false;

	assert_non_null(dir);
	words_of("self", ours, sizeof(ours));
	while (!found && (entry = readdir(dir))) {
		pid_t pid = (pid_t)atoi(entry->d_name), session;

		if (pid <= 0 || pid == getpid())
			continue;
		words_of(entry->d_name, words, sizeof(words));
		session = getsid(pid);
		found = strstr(words, bus.directory) ||
			(strcmp(words, ours) == 0 && session > 0 && kill(session, 0) < 0);
	}
	closedir(dir);
	return found;
}

void bus_wait_gone(void)
{
	DIR *dir = opendir(bus.directory);
	struct dirent *entry;

	assert_non_null(dir);
	/* who is in the middle of an exec has no arguments: a moment later it has */
	for (int quiet = 0; quiet < 3; quiet++) {
		if (service_is_starting())
			quiet = -1;
		pause_briefly();
	}
	while ((entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		pause_briefly();
		rewinddir(dir);
	}
	closedir(dir);
}

int harness_setup_bare(void **state)
{
	watchdog((unsigned)harness_number("HARNESS_WATCHDOG", 60));
	memset(&bus, 0, sizeof(bus));
	snprintf(bus.directory, sizeof(bus.directory), "/dev/shm/ringbus-test-XXXXXX");
	if (!mkdtemp(bus.directory))
		return -1;
	bus.owner = getpid();
	setenv("RINGBUS_DIR", bus.directory, 1);
	harness_begin();
	return 0;
}

int harness_setup(void **state)
{
	if (harness_setup_bare(state) < 0)
		return -1;
	bus_serve(NULL);
	return 0;
}

/* A bus whose service a test has killed is given to a new one, which then cleans up. */
static void end_service(void)
{
	if (bus.service <= 0 && bus.port && access(bus_file(), F_OK) == 0 && !bus.leftovers)
		bus_serve(NULL);
	bus_stop();
}

int harness_teardown(void **state)
{
	bool had_children;
	unsigned left;

	if (getpid() != bus.owner)
		_exit(98);
	had_children = harness_kill_children();
	harness_close_nodes();
	if (had_children && !bus.leftovers)
		bus_check();
	if (bus.leftovers && bus.service > 0)
		bus_kill();
	end_service();
	left = empty_directory(!bus.leftovers);
	umount2(bus.directory, MNT_DETACH); /* fails unless a test has mounted something there */
	rmdir(bus.directory);
	alarm(0);
	if (left && !bus.leftovers) {
		fprintf(stderr, "%u files are left after the service ended\n", left);
		return -1;
	}
	return 0;
}

/* harness_process.c: see harness.h. This file: children, shared words, payloads. */
#include "harness_private.h"

#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>

#define CHILDREN 128

struct shared {
	uint64_t flags[HARNESS_FLAGS];
	char note[512]; /* of the first child that failed */
	uint32_t noted;
};

static struct shared *shared;
static pid_t children[CHILDREN];
static bool any_child;

void harness_begin(void)
{
	if (!shared)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared != MAP_FAILED);
	memset(shared, 0, sizeof(*shared));
	memset(children, 0, sizeof(children));
	any_child = false;
}

static void *wait_sigterm(void *argument)
{
	sigset_t set;
	int number;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigwait(&set, &number);
	ringbus_service_stop(argument);
	return NULL;
}

bool harness_stop_on_sigterm(struct ringbus_service *service)
{
	pthread_t thread;

	return pthread_create(&thread, NULL, wait_sigterm, service) == 0 &&
	       pthread_detach(thread) == 0;
}

void child_reset(void)
{
	static const int caught[] = {SIGBUS,  SIGSEGV, SIGABRT, SIGFPE, SIGILL,
				     SIGALRM, SIGTERM, SIGINT,	SIGSYS};
	sigset_t none;

	for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		signal(caught[i], SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

#ifdef HARNESS_COVERAGE
/* What a child ran counts as well: gcov writes its counts in destructors, of each library its own.
 */
void _exit(int status)
{
	exit(status);
}
#endif

pid_t child_start(child_fn fn, uint64_t argument)
{
	unsigned i = 0;
	pid_t pid;

	while (i < CHILDREN && children[i])
		i++;
	assert_true(i < CHILDREN);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		child_reset();
		fn(argument);
		fflush(NULL);
		_exit(0);
	}
	any_child = true;
	children[i] = pid;
	return pid;
}

static void forget(pid_t pid)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (children[i] == pid)
			children[i] = 0;
}

void child_join(pid_t pid)
{
	int status = -1;
	pid_t rc;

	do
		rc = waitpid(pid, &status, 0);
	while (rc < 0 && errno == EINTR);
	forget(pid);
	if (shared->noted)
		fail_msg("child: %s", shared->note);
	if (rc != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		fail_msg("child %d ended with wait status %#x", (int)pid, status);
}

void child_join_all(void)
{
	for (unsigned i = 0; i < CHILDREN; i++)
		if (children[i])
			child_join(children[i]);
}

void child_kill(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	forget(pid);
}

bool child_ended(pid_t pid)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       info.si_pid == pid;
}

void child_wait_stopped(pid_t pid)
{
	siginfo_t info = {0};

	assert_int_equal(waitid(P_PID, (id_t)pid, &info, WSTOPPED | WNOWAIT), 0);
}

bool harness_kill_children(void)
{
	for (unsigned i = 0; i < CHILDREN; i++) {
		if (!children[i])
			continue;
		kill(-children[i], SIGKILL);
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
		children[i] = 0;
	}
	return any_child;
}

static void leave(uint64_t unused)
{
}

uint32_t dead_pid(void)
{
	pid_t pid = child_start(leave, 0);

	child_join(pid);
	return (uint32_t)pid;
}

_Noreturn void harness_child_fail(const char *what, int rc, const char *file, int line)
{
	const char *name = strrchr(file, '/') ? strrchr(file, '/') + 1 : file;

	if (__atomic_exchange_n(&shared->noted, 1, __ATOMIC_ACQ_REL) == 0)
		snprintf(shared->note, sizeof(shared->note), "%s:%d: %s: %d %s (%s)", name, line,
			 what, rc, rc < 0 ? ringbus_strerror(rc) : "", ringbus_error_detail());
	fprintf(stderr, "%s:%d: in child %d: %s: %d (%s)\n", name, line, (int)getpid(), what, rc,
		ringbus_error_detail());
	fflush(NULL);
	_exit(99);
}

void harness_child_fails(int rc, int code, const char *call, const char *file, int line)
{
	if (rc != code)
		harness_child_fail(call, rc, file, line);
}

int harness_child_ok(int rc, const char *call, const char *file, int line)
{
	if (rc < 0)
		harness_child_fail(call, rc, file, line);
	return rc;
}

struct ringbus_node *child_node(const struct ringbus_node_options *options)
{
	struct ringbus_node_options o = {.size = sizeof(o)};
	struct ringbus_node *node = NULL;

	if (options)
		o = *options;
	if (!o.port)
		o.port = bus_port();
	if (!o.timeout_ns)
		o.timeout_ns = 20 * HARNESS_SECOND;
	child_ok(ringbus_node_open(&node, &o));
	return node;
}

uint64_t flag_get(unsigned index)
{
	return __atomic_load_n(&shared->flags[index], __ATOMIC_ACQUIRE);
}

void flag_set(unsigned index, uint64_t value)
{
	__atomic_store_n(&shared->flags[index], value, __ATOMIC_RELEASE);
}

uint64_t flag_add(unsigned index, uint64_t value)
{
	return __atomic_add_fetch(&shared->flags[index], value, __ATOMIC_ACQ_REL);
}

void pause_briefly(void)
{
	struct timespec ts = {0, 200000};

	nanosleep(&ts, NULL);
}

/* A child that failed will never set its word: the parent is told so at once. */
void flag_wait(unsigned index, uint64_t at_least)
{
	while (flag_get(index) < at_least) {
		if (__atomic_load_n(&shared->noted, __ATOMIC_ACQUIRE) && harness_is_parent())
			fail_msg("child: %s", shared->note);
		pause_briefly();
	}
}

uint64_t harness_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * HARNESS_SECOND + (uint64_t)ts.tv_nsec;
}

uint64_t splitmix(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ull;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return z ^ z >> 31;
}

static uint64_t payload_seed(uint64_t sender, uint64_t sequence)
{
	return sender << 48 ^ sequence * 0xd6e8feb86659fd93ull;
}

size_t payload_size(const struct mix *mix, uint64_t sender, uint64_t sequence)
{
	uint64_t state = payload_seed(sender, sequence) ^ 0x5153ull;
	uint64_t dice = splitmix(&state);

	if (dice % 1000 < mix->pooled_per_mille)
		return (size_t)(splitmix(&state) % (mix->max + 1));
	return (size_t)(splitmix(&state) % (dice & 1u << 20 ? 257 : 33));
}

void payload_fill(void *data, size_t size, uint64_t sender, uint64_t sequence)
{
	uint64_t state = payload_seed(sender, sequence), word;
	uint8_t *at = data;

	for (; size >= 8; size -= 8, at += 8) {
		word = splitmix(&state);
		memcpy(at, &word, 8);
	}
	word = splitmix(&state);
	memcpy(at, &word, size);
}

bool payload_matches(const void *data, size_t size, uint64_t sender, uint64_t sequence)
{
	uint64_t state = payload_seed(sender, sequence), word;
	const uint8_t *at = data;

	for (; size >= 8; size -= 8, at += 8) {
		word = splitmix(&state);
		if (memcmp(at, &word, 8) != 0)
			return false;
	}
	word = splitmix(&state);
	return memcmp(at, &word, size) == 0;
}

/* ringbus-bus.c: joining the bus, finding nodes, waiting and being stopped, for the verbs of
 * `ringbus`. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t stop_asked;
static int stop_pipe[2] = {-1, -1};
static struct ringbus_node *volatile stop_node; /* what on_stop() interrupts */

static volatile sig_atomic_t output_is_gone;
static pthread_t output_watcher;
static bool output_watched;

static void on_tick(int number)
{
	(void)number;
}

/* Whatever this process waits for ends: the library's waits by the call, polls by the pipe, a write
 * to somebody who does not read by EINTR. The write may begin after the signal, so a timer goes on
 * interrupting. */
static void on_stop(int number)
{
	const struct itimerval again = {.it_interval.tv_usec = 20000, .it_value.tv_usec = 20000};
	int saved = errno;
	(void)number;
	stop_asked = 1;
	setitimer(ITIMER_REAL, &again, NULL);
	if (write(stop_pipe[1], "", 1) < 0 && errno != EAGAIN)
		_exit(CLI_FAILED);
	ringbus_node_interrupt(stop_node, true);
	errno = saved;
}

void stop_watch(void)
{
	/* a second Ctrl-C ends a process that, against all this, does not end at the first */
	struct sigaction action = {.sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND};
	struct sigaction tick = {.sa_handler = on_tick};
	if (stop_pipe[0] < 0 && pipe2(stop_pipe, O_CLOEXEC | O_NONBLOCK) < 0)
		return;
	sigaction(SIGALRM, &tick, NULL);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

bool stopped(void)
{
	return stop_asked;
}

uint64_t deadline_of(uint64_t ns)
{
	uint64_t now = cli_now_ns();
	return ns > UINT64_MAX - now ? UINT64_MAX : now + ns;
}

uint64_t left_until(uint64_t deadline)
{
	uint64_t now;
	if (deadline == UINT64_MAX)
		return RINGBUS_FOREVER;
	now = cli_now_ns();
	return now >= deadline ? 0 : deadline - now;
}

void sleep_until(uint64_t deadline)
{
	struct pollfd stop = {.fd = stop_pipe[0], .events = POLLIN};
	while (!stopped()) {
		uint64_t left = left_until(deadline);
		struct timespec time = {.tv_sec = (time_t)(left / 1000000000),
					.tv_nsec = (long)(left % 1000000000)};
		if (left == 0)
			return;
		ppoll(&stop, 1, left == RINGBUS_FOREVER ? NULL : &time, NULL);
	}
}

bool readable(int fd)
{
	struct pollfd in[] = {{.fd = stop_pipe[0], .events = POLLIN}, {.fd = fd, .events = POLLIN}};
	while (!stopped())
		if (poll(in, COUNT_OF(in), -1) > 0 && in[1].revents != 0)
			return true;
	return false;
}

int call_failed(int error)
{
	const char *detail = ringbus_error_detail();
	cli_error("%s", *detail ? detail : ringbus_strerror(error));
	return cli_exit_code(error);
}

int call_out_of_memory(void)
{
	return cli_error("out of memory");
}

int call_too_large(struct ringbus_node *node, uint64_t size, bool more)
{
	return cli_error("a payload of %s%llu bytes; this bus carries at most %llu (--pool-bytes)",
			 more ? "more than " : "", (unsigned long long)size,
			 (unsigned long long)ringbus_node_payload_max(node));
}

int call_interrupted(void)
{
	return cli_error("interrupted");
}

static void on_log(int level, const char *text, void *user)
{
	(void)user;
	if (level <= 6)
		cli_note("%s", text);
}

/* --timeout limits joining too; a moment that is meant for messages is not to end it, though. */
static uint64_t join_timeout(const struct call *call)
{
	uint64_t least = UINT64_C(1000000000);
	if (call->timeout_ns == NO_LIMIT)
		return 0;
	return call->timeout_ns > least ? call->timeout_ns : least;
}

int call_open(struct call *call, struct ringbus_node **node)
{
	struct ringbus_node_options options = {
		.size = sizeof options,
		.port = call->port,
		.directory = call->directory,
		.name = call->name,
		.autostart = !call->no_autostart,
		.sigbus_guard = true,
		.watch_events = call->watch_events,
		.timeout_ns = join_timeout(call),
	};
	int r;
	if (call->verbose)
		ringbus_set_log(on_log, NULL);
	r = ringbus_node_open(node, &options);
	if (r < 0)
		return call_failed(r);
	stop_node = *node;
	stop_watch();
	return 0;
}

static void *output_watch(void *unused)
{
	struct pollfd out = {.fd = STDOUT_FILENO};
	(void)unused;
	while (poll(&out, 1, -1) < 0 && errno == EINTR)
		;
	output_is_gone = 1;
	ringbus_node_interrupt(stop_node, true);
	return NULL;
}

void call_watch_output(void)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	output_watched = pthread_create(&output_watcher, NULL, output_watch, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

bool output_gone(void)
{
	return output_is_gone;
}

void call_close(struct ringbus_node *node)
{
	if (output_watched) {
		pthread_cancel(output_watcher);
		pthread_join(output_watcher, NULL);
	}
	stop_node = NULL;
	ringbus_node_close(node);
}

static bool is_live(const struct ringbus_inspect_node *node)
{
	return strcmp(ringbus_inspect_slot_state(node->state), "live") == 0;
}

bool call_node_at(const struct call *call, uint32_t slot, uint32_t generation,
		  struct ringbus_inspect_node *found)
{
	struct ringbus_inspect *inspect;
	uint32_t cursor = 0;
	bool there = false;
	if (ringbus_inspect_open(&inspect, call->port, call->directory) < 0)
		return false;
	while (!there && ringbus_inspect_node_next(inspect, &cursor, found) > 0)
		there = found->slot == slot && is_live(found) &&
			(generation == 0 || found->generation == generation);
	ringbus_inspect_close(inspect);
	return there;
}

/* The library lets nodes have names that read as something else: they are met when that is not on
 * the bus. A slot without this owner is left to the call that uses the address, which has words for
 * it, unless one waits for him. */
static int find_once(struct call *call, struct ringbus_node *node, bool wait,
		     struct ringbus_address *address)
{
	struct ringbus_inspect_node other;
	struct ringbus_address slot = {0};
	const char *who = call->argv[0];
	uint64_t pid;
	if (cli_parse_slot(who, &slot.slot, &slot.generation)) {
		bool there = call_node_at(call, slot.slot, slot.generation, &other);
		if (!there && ringbus_node_find(node, who, address) == 0)
			return 0;
		if (!there && wait)
			return -ESRCH;
		*address = slot;
		return 0;
	}
	if (cli_parse_u64(who, 1, UINT32_MAX, &pid)) {
		int r = ringbus_node_find_pid(node, (uint32_t)pid, address);
		if (r != -ESRCH || ringbus_node_find(node, who, address) == 0)
			return r == -ESRCH ? 0 : r;
		return ringbus_node_find_pid(node, (uint32_t)pid, address); /* its words */
	}
	return ringbus_node_find(node, who, address);
}

int call_find(struct call *call, struct ringbus_node *node, bool wait,
	      struct ringbus_address *address)
{
	uint64_t timeout_ns = call->timeout_ns == NO_LIMIT ? DEFAULT_WAIT_NS : call->timeout_ns;
	uint64_t deadline = deadline_of(timeout_ns);
	for (;;) {
		int r = find_once(call, node, wait, address);
		if (r == 0)
			return 0;
		if (r != -ESRCH || !wait)
			return call_failed(r);
		if (stopped())
			return call_interrupted();
		if (cli_now_ns() >= deadline) {
			cli_error("\"%s\" did not join the bus in time", call->argv[0]);
			return CLI_TIMEOUT;
		}
		sleep_until(deadline_of(UINT64_C(5000000)));
	}
}

/* ringbus-bus.c: joining the bus, finding nodes and waiting, for the verbs of `ringbus`. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

static volatile sig_atomic_t stop_asked;

static void on_stop(int number)
{
	(void)number;
	stop_asked = 1;
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

uint64_t slice_until(uint64_t deadline)
{
	uint64_t now = cli_now_ns();
	if (now >= deadline)
		return 0;
	return deadline - now < SLICE_NS ? deadline - now : SLICE_NS;
}

void sleep_until(uint64_t deadline)
{
	while (!stopped()) {
		uint64_t left = slice_until(deadline);
		struct timespec time = {.tv_nsec = (long)left};
		if (left == 0)
			return;
		nanosleep(&time, NULL);
	}
}

int call_failed(int error)
{
	const char *detail = ringbus_error_detail();
	cli_error("%s%s%s", ringbus_strerror(error), *detail ? ": " : "", detail);
	return cli_exit_code(error);
}

static void on_log(int level, const char *text, void *user)
{
	(void)user;
	if (level <= 6)
		cli_note("%s", text);
}

int call_open(struct call *call, struct ringbus_node **node)
{
	struct sigaction action = {.sa_handler = on_stop};
	struct ringbus_node_options options = {
		.size = sizeof options,
		.port = call->port,
		.directory = call->directory,
		.name = call->name,
		.autostart = !call->no_autostart,
		.sigbus_guard = true,
	};
	int r;
	if (call->verbose)
		ringbus_set_log(on_log, NULL);
	r = ringbus_node_open(node, &options);
	if (r < 0)
		return call_failed(r);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	return 0;
}

static int find_once(struct ringbus_node *node, const char *who, struct ringbus_address *address)
{
	uint64_t pid;
	if (cli_parse_u64(who, 1, UINT32_MAX, &pid))
		return ringbus_node_find_pid(node, (uint32_t)pid, address);
	*address = (struct ringbus_address){0};
	if (cli_parse_slot(who, &address->slot, &address->generation))
		return 0;
	return ringbus_node_find(node, who, address);
}

int call_find(struct call *call, struct ringbus_node *node, bool wait,
	      struct ringbus_address *address)
{
	uint64_t timeout_ns = call->timeout_ns == UINT64_MAX ? DEFAULT_WAIT_NS : call->timeout_ns;
	uint64_t deadline = deadline_of(timeout_ns);
	for (;;) {
		int r = find_once(node, call->argv[0], address);
		if (r == 0)
			return 0;
		if (r != -ESRCH || !wait || stopped())
			return call_failed(r);
		if (cli_now_ns() >= deadline) {
			cli_error("\"%s\" did not join the bus in time", call->argv[0]);
			return CLI_TIMEOUT;
		}
		sleep_until(deadline_of(UINT64_C(5000000)));
	}
}

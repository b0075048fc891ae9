/* t_iceoryx.c: iceoryx by its C binding: publishers that wait for slow subscribers, one memory pool
 * of the message's size. Its daemon, iox-roudi, runs as long as a run; there can be one only on a
 * machine.
 */
#include "loops.h"
#include "run.h"

#include <errno.h>
#include <iceoryx_binding_c/enums.h>
#include <iceoryx_binding_c/log.h>
#include <iceoryx_binding_c/publisher.h>
#include <iceoryx_binding_c/runtime.h>
#include <iceoryx_binding_c/subscriber.h>
#include <iceoryx_binding_c/wait_set.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define ICEORYX_QUEUE 256 /* the longest that it allows */
#define ICEORYX_READY_MS 5000

struct iceoryx_state {
	pid_t daemon;
	int said; /* what the daemon prints: read until it is ready, open until it has ended */
	uint64_t queue;
	char config[64];
};

struct iceoryx_end {
	iox_pub_storage_t pub_storage;
	iox_sub_storage_t sub_storage;
	iox_ws_storage_t set_storage;
	iox_pub_t pub;
	iox_sub_t sub;
	iox_ws_t set; /* NULL: never sleeps */
	size_t bytes; /* written of each payload */
	void *buffer; /* NULL: looks at messages in place */
};

static int iceoryx_send(void *opaque, const void *data, size_t size)
{
	struct iceoryx_end *end = opaque;
	enum iox_AllocationResult result;
	void *chunk;

	result = iox_pub_loan_chunk(end->pub, &chunk, (uint32_t)size);
	if (result == AllocationResult_RUNNING_OUT_OF_CHUNKS)
		return 0;
	if (result != AllocationResult_SUCCESS)
		return bench_explain(-ENOMEM, "iox_pub_loan_chunk: %d", (int)result);
	memcpy(chunk, data, end->bytes);
	iox_pub_publish_chunk(end->pub, chunk);
	return 1;
}

static int iceoryx_take(void *opaque, struct sink *sink)
{
	struct iceoryx_end *end = opaque;
	enum iox_ChunkReceiveResult result;
	const void *chunk, *data;

	result = iox_sub_take_chunk(end->sub, &chunk);
	if (result == ChunkReceiveResult_NO_CHUNK_AVAILABLE) {
		iox_notification_info_t info;
		uint64_t missed;

		if (end->set)
			iox_ws_wait(end->set, &info, 1, &missed);
		return 0;
	}
	if (result != ChunkReceiveResult_SUCCESS)
		return bench_explain(-EIO, "iox_sub_take_chunk: %d", (int)result);
	data = end->buffer ? memcpy(end->buffer, chunk, sink->size) : chunk;
	sink_message(sink, data, sink->size);
	iox_sub_release_chunk(end->sub, chunk);
	return 1;
}

/* One pool: what all queues can hold, and some for those under way. */
static int iceoryx_configure(const struct bench *bench, struct iceoryx_state *state)
{
	size_t size = (bench->size + 127) & ~(size_t)63;
	int fd = mkstemp(state->config);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file)
		return -errno;
	fprintf(file,
		"[general]\nversion = 1\n\n[[segment]]\n\n[[segment.mempool]]\nsize = %zu\n"
		"count = %llu\n",
		size, (unsigned long long)(state->queue + 16) * (bench->receivers + 1));
	return fclose(file) ? -errno : 0;
}

static _Noreturn void iceoryx_daemon(const struct iceoryx_state *state, const int fds[2])
{
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGINT, SIG_IGN);
	dup2(fds[1], STDOUT_FILENO);
	dup2(fds[1], STDERR_FILENO);
	close(fds[0]);
	close(fds[1]);
	execlp("iox-roudi", "iox-roudi", "-m", "off", "-l", "off", "-k", "1", "-c", state->config,
	       (char *)NULL);
	_exit(127);
}

/* Reads what the daemon says until it is ready for clients. */
static bool iceoryx_await(int fd)
{
	uint64_t until = clock_of(CLOCK_MONOTONIC) + ICEORYX_READY_MS * 1000000ull;
	char said[4096];
	size_t have = 0;

	while (have < sizeof(said) - 1 && clock_of(CLOCK_MONOTONIC) < until) {
		struct pollfd look = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&look, 1, 100) <= 0)
			continue;
		n = read(fd, said + have, sizeof(said) - 1 - have);
		if (n <= 0)
			return false;
		have += (size_t)n;
		said[have] = 0;
		if (strstr(said, "ready for clients"))
			return true;
	}
	return false;
}

static void iceoryx_name(char name[64], pid_t parent, unsigned self)
{
	snprintf(name, 64, "ringbus-bench-%d-%u", (int)parent, self);
}

/* The sockets that clients leave behind. */
static void iceoryx_clean(const struct bench *bench)
{
	char name[64], path[96];

	for (unsigned self = 0; self <= bench->receivers; self++) {
		iceoryx_name(name, getpid(), self);
		snprintf(path, sizeof(path), "/tmp/%s", name);
		unlink(path);
		snprintf(path, sizeof(path), "/tmp/%s.lock", name);
		unlink(path);
	}
}

static void iceoryx_teardown(struct bench *bench)
{
	struct iceoryx_state *state = bench->state;

	if (state->daemon > 0) {
		kill(state->daemon, SIGTERM);
		for (unsigned i = 0; i < 3000 && waitpid(state->daemon, NULL, WNOHANG) == 0; i++)
			usleep(1000);
		run_kill(&state->daemon, 1);
	}
	if (state->said >= 0)
		close(state->said);
	iceoryx_clean(bench);
	unlink(state->config);
	free(state);
}

static int iceoryx_setup(struct bench *bench)
{
	struct iceoryx_state *state = calloc(1, sizeof(*state));
	bool ready = false;
	int fds[2];
	int r;

	if (!state)
		return -ENOMEM;
	bench->state = state;
	state->said = -1;
	strcpy(state->config, "/tmp/ringbus-bench-XXXXXX");
	state->queue = bench->ring_bytes / bench->size;
	if (state->queue > ICEORYX_QUEUE)
		state->queue = ICEORYX_QUEUE;
	if (state->queue < 8)
		state->queue = 8;
	bench->ring_used = state->queue * bench->size;
	r = iceoryx_configure(bench, state);
	if (r == 0 && pipe(fds) == 0) {
		fflush(NULL);
		state->daemon = fork();
		if (state->daemon == 0)
			iceoryx_daemon(state, fds);
		close(fds[1]);
		state->said = fds[0];
		ready = state->daemon > 0 && iceoryx_await(state->said);
	}
	if (ready)
		return 0;
	iceoryx_teardown(bench);
	return bench_explain(-ECHILD, "iox-roudi did not start; does another one run?");
}

static int iceoryx_subscribe(const struct bench *bench, struct iceoryx_end *end, const char *event)
{
	const struct iceoryx_state *state = bench->state;
	iox_sub_options_t options;

	iox_sub_options_init(&options);
	options.queueCapacity = state->queue;
	options.queueFullPolicy = QueueFullPolicy_BLOCK_PRODUCER;
	end->sub = iox_sub_init(&end->sub_storage, "ringbus", "bench", event, &options);
	if (bench->wait == WAIT_SPIN)
		return 0;
	end->set = iox_ws_init(&end->set_storage);
	if (iox_ws_attach_subscriber_state(end->set, end->sub, SubscriberState_HAS_DATA, 1, NULL) !=
	    WaitSetResult_SUCCESS)
		return bench_explain(-EIO, "iox_ws_attach_subscriber_state");
	return 0;
}

/* Process 0 publishes "there" and subscribes to "back"; the others the other way round. */
static int iceoryx_open(struct bench *bench, unsigned self, void **opaque)
{
	struct iceoryx_end *end = calloc(1, sizeof(*end));
	iox_pub_options_t options;
	char name[64];

	if (!end)
		return -ENOMEM;
	*opaque = end;
	end->bytes = bench->untouched ? 8 : bench->size;
	end->buffer = bench->copy ? malloc(bench->size) : NULL;
	if (bench->copy && !end->buffer)
		return -ENOMEM;
	iox_set_loglevel(Iceoryx_LogLevel_Off);
	iceoryx_name(name, getppid(), self);
	iox_runtime_init(name);
	if (self == 0 || bench->flow == FLOW_RTT) {
		iox_pub_options_init(&options);
		options.subscriberTooSlowPolicy = ConsumerTooSlowPolicy_WAIT_FOR_CONSUMER;
		end->pub = iox_pub_init(&end->pub_storage, "ringbus", "bench",
					self == 0 ? "there" : "back", &options);
	}
	if (self > 0 || bench->flow == FLOW_RTT)
		return iceoryx_subscribe(bench, end, self == 0 ? "back" : "there");
	return 0;
}

static int iceoryx_ready(struct bench *bench, void *opaque)
{
	uint64_t until = clock_of(CLOCK_MONOTONIC) + ICEORYX_READY_MS * 1000000ull;
	struct iceoryx_end *end = opaque;

	(void)bench;
	while (end->sub && iox_sub_get_subscription_state(end->sub) != SubscribeState_SUBSCRIBED) {
		if (clock_of(CLOCK_MONOTONIC) > until)
			return bench_explain(-ETIMEDOUT, "no subscription");
		usleep(1000);
	}
	return 0;
}

static void iceoryx_close(struct bench *bench, void *opaque)
{
	struct iceoryx_end *end = opaque;

	(void)bench;
	if (end->set) {
		iox_ws_detach_subscriber_state(end->set, end->sub, SubscriberState_HAS_DATA);
		iox_ws_deinit(end->set);
	}
	if (end->sub)
		iox_sub_deinit(end->sub);
	if (end->pub)
		iox_pub_deinit(end->pub);
	free(end->buffer);
	free(end);
	exit(0); /* takes leave of the daemon, which else stumbles over the missing process */
}

BENCH_LOOPS(iceoryx, iceoryx_send, iceoryx_take)

const struct transport transport_iceoryx = {
	.name = "iceoryx",
	.help = "iceoryx, C binding, its own daemon",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK | CAN_VIEW | CAN_LOAN,
	.setup = iceoryx_setup,
	.open = iceoryx_open,
	.ready = iceoryx_ready,
	.close = iceoryx_close,
	.teardown = iceoryx_teardown,
	LOOPS_OF(iceoryx),
};

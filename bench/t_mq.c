/* t_mq.c: POSIX message queues, within the system's default limits. */
#include "loops.h"

#include <errno.h>
#include <mqueue.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct mq_state {
	mqd_t there[BENCH_RECEIVERS_MAX], back;
};

struct mq_end {
	mqd_t rx;
	mqd_t tx[BENCH_RECEIVERS_MAX];
	unsigned ports, at;
	size_t room;
	char *buffer;
};

static int mq_send_all(void *opaque, const void *data, size_t size)
{
	struct mq_end *end = opaque;

	for (; end->at < end->ports; end->at++)
		if (mq_send(end->tx[end->at], data, size, 0))
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	end->at = 0;
	return 1;
}

static int mq_take(void *opaque, struct sink *sink)
{
	struct mq_end *end = opaque;
	ssize_t n = mq_receive(end->rx, end->buffer, end->room, NULL);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	sink_message(sink, end->buffer, (size_t)n);
	return 1;
}

/* Makes a queue and takes its name away at once. */
static int mq_make(struct bench *bench, unsigned number, mqd_t *queue)
{
	struct mq_attr attributes = {.mq_maxmsg = 10, .mq_msgsize = (long)bench->size};
	int flags = O_CREAT | O_EXCL | O_RDWR | (bench->wait == WAIT_SPIN ? O_NONBLOCK : 0);
	char name[64];

	snprintf(name, sizeof(name), "/ringbus-bench-%d-%u", (int)getpid(), number);
	*queue = mq_open(name, flags, 0600, &attributes);
	if (*queue == (mqd_t)-1)
		return bench_explain(-errno, "mq_open: see /proc/sys/fs/mqueue");
	mq_unlink(name);
	bench->ring_used = 10 * bench->size;
	return 0;
}

static void mq_teardown(struct bench *bench)
{
	struct mq_state *state = bench->state;

	for (unsigned i = 0; i < bench->receivers; i++)
		if (state->there[i] != (mqd_t)-1)
			mq_close(state->there[i]);
	if (state->back != (mqd_t)-1)
		mq_close(state->back);
	free(state);
}

static int mq_setup(struct bench *bench)
{
	struct mq_state *state = malloc(sizeof(*state));
	int r;

	if (!state)
		return -ENOMEM;
	memset(state, 0xff, sizeof(*state)); /* all -1 */
	bench->state = state;
	r = mq_make(bench, bench->receivers, &state->back);
	for (unsigned i = 0; i < bench->receivers && r == 0; i++)
		r = mq_make(bench, i, &state->there[i]);
	if (r < 0)
		mq_teardown(bench);
	return r;
}

static int mq_end_open(struct bench *bench, unsigned self, void **opaque)
{
	struct mq_state *state = bench->state;
	struct mq_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	end->room = bench->size;
	end->buffer = malloc(end->room);
	end->rx = self == 0 ? state->back : state->there[self - 1];
	end->ports = self == 0 ? bench->receivers : 1;
	for (unsigned i = 0; i < end->ports; i++)
		end->tx[i] = self == 0 ? state->there[i] : state->back;
	*opaque = end;
	return end->buffer ? 0 : -ENOMEM;
}

static void mq_end_close(struct bench *bench, void *opaque)
{
	struct mq_end *end = opaque;

	(void)bench;
	free(end->buffer);
	free(end);
}

BENCH_LOOPS(mq, mq_send_all, mq_take)

const struct transport transport_mq = {
	.name = "mq",
	.help = "POSIX message queue of 10 messages",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK,
	.size_max = 8192,
	.setup = mq_setup,
	.open = mq_end_open,
	.close = mq_end_close,
	.teardown = mq_teardown,
	LOOPS_OF(mq),
};

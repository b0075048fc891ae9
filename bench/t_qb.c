/* t_qb.c: libqb's ring buffers with a shared semaphore, one each way. */
#include "loops.h"

#include <errno.h>
#include <qb/qbrb.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct qb_state {
	char there[64], back[64];
	size_t bytes;
};

struct qb_end {
	qb_ringbuffer_t *tx, *rx;
	char *buffer;
	size_t room;
};

static int qb_push(void *opaque, const void *data, size_t size)
{
	struct qb_end *end = opaque;
	ssize_t n = qb_rb_chunk_write(end->tx, data, size);

	if (n < 0)
		return n == -EAGAIN ? 0 : (int)n;
	return 1;
}

static int qb_take(void *opaque, struct sink *sink)
{
	struct qb_end *end = opaque;
	ssize_t n = qb_rb_chunk_read(end->rx, end->buffer, end->room, 100);

	if (n < 0)
		return n == -ETIMEDOUT || n == -EAGAIN ? 0 : (int)n;
	sink_message(sink, end->buffer, (size_t)n);
	return 1;
}

static int qb_setup(struct bench *bench)
{
	struct qb_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	snprintf(state->there, sizeof(state->there), "ringbus-bench-%d-t", (int)getpid());
	snprintf(state->back, sizeof(state->back), "ringbus-bench-%d-b", (int)getpid());
	state->bytes = bench->ring_bytes < 4 * bench->size ? 4 * bench->size : bench->ring_bytes;
	bench->ring_used = state->bytes;
	bench->state = state;
	return 0;
}

static int qb_open(struct bench *bench, unsigned self, void **opaque)
{
	const struct qb_state *state = bench->state;
	uint32_t flags = QB_RB_FLAG_SHARED_PROCESS | (self == 0 ? QB_RB_FLAG_CREATE : 0);
	struct qb_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	*opaque = end;
	end->room = bench->size;
	end->buffer = malloc(end->room);
	end->tx = qb_rb_open(self == 0 ? state->there : state->back, state->bytes, flags, 0);
	end->rx = qb_rb_open(self == 0 ? state->back : state->there, state->bytes, flags, 0);
	return end->tx && end->rx && end->buffer ? 0 : -errno;
}

static void qb_close(struct bench *bench, void *opaque)
{
	struct qb_end *end = opaque;

	(void)bench;
	qb_rb_close(end->tx);
	qb_rb_close(end->rx);
	free(end->buffer);
	free(end);
}

BENCH_LOOPS(qb, qb_push, qb_take)

const struct transport transport_qb = {
	.name = "qb",
	.help = "libqb ring buffer with a shared semaphore",
	.can = CAN_RTT | CAN_STREAM | CAN_BLOCK,
	.setup = qb_setup,
	.open = qb_open,
	.close = qb_close,
	.teardown = bench_forget,
	LOOPS_OF(qb),
};

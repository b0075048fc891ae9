/* t_pipe.c: the kernel's pipe, one each way. */
#include "fdpair.h"

static int pipe_make(struct bench *bench, struct fdpair_link *link)
{
	int bytes = bench->ring_bytes > (1 << 20) ? 1 << 20 : (int)bench->ring_bytes;

	if (pipe(link->there) || pipe(link->back))
		return -errno;
	/* above the user's limit it stays as it is */
	fcntl(link->there[1], F_SETPIPE_SZ, bytes);
	fcntl(link->back[1], F_SETPIPE_SZ, bytes);
	bench->ring_used = (size_t)fcntl(link->there[1], F_GETPIPE_SZ);
	return 0;
}

static int pipe_setup(struct bench *bench)
{
	return fdpair_setup(bench, pipe_make);
}

static int pipe_open(struct bench *bench, unsigned self, void **end)
{
	return fdpair_open(bench, self, true, end);
}

BENCH_LOOPS(pipe, fdpair_send, fdpair_take)

const struct transport transport_pipe = {
	.name = "pipe",
	.help = "pipe(2)",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK,
	.setup = pipe_setup,
	.open = pipe_open,
	.close = fdpair_close,
	.teardown = fdpair_teardown,
	LOOPS_OF(pipe),
};

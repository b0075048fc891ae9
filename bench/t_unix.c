/* t_unix.c: unix sockets, as a stream and as packets. */
#include "fdpair.h"

#include <sys/socket.h>

static int unix_make(struct bench *bench, struct fdpair_link *link, int type)
{
	int fds[2];

	if (socketpair(AF_UNIX, type, 0, fds))
		return -errno;
	fdpair_buffers(bench, fds[0]);
	fdpair_buffers(bench, fds[1]);
	link->there[0] = link->back[1] = fds[0];
	link->there[1] = link->back[0] = fds[1];
	bench->ring_used = bench->ring_bytes;
	return 0;
}

static int unix_make_stream(struct bench *bench, struct fdpair_link *link)
{
	return unix_make(bench, link, SOCK_STREAM);
}

static int unix_make_packets(struct bench *bench, struct fdpair_link *link)
{
	return unix_make(bench, link, SOCK_SEQPACKET);
}

static int unix_setup(struct bench *bench)
{
	return fdpair_setup(bench, unix_make_stream);
}

static int unix_open(struct bench *bench, unsigned self, void **end)
{
	return fdpair_open(bench, self, true, end);
}

static int packets_setup(struct bench *bench)
{
	return fdpair_setup(bench, unix_make_packets);
}

static int packets_open(struct bench *bench, unsigned self, void **end)
{
	return fdpair_open(bench, self, false, end);
}

BENCH_LOOPS(sockets, fdpair_send, fdpair_take)

const struct transport transport_unix = {
	.name = "unix",
	.help = "unix stream socket",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK,
	.setup = unix_setup,
	.open = unix_open,
	.close = fdpair_close,
	.teardown = fdpair_teardown,
	LOOPS_OF(sockets),
};

const struct transport transport_unix_seqpacket = {
	.name = "unix-seqpacket",
	.help = "unix packet socket",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK,
	.size_max = 128 << 10,
	.setup = packets_setup,
	.open = packets_open,
	.close = fdpair_close,
	.teardown = fdpair_teardown,
	LOOPS_OF(sockets),
};

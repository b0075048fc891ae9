/* t_tcp.c: TCP over the loopback interface, without Nagle's delay. */
#include "fdpair.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

static int tcp_connect(struct bench *bench, int listener, const struct sockaddr_in *address,
		       int fds[2])
{
	int one = 1;

	fds[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fds[1] < 0)
		return -errno;
	fdpair_buffers(bench, fds[1]);
	if (connect(fds[1], (const struct sockaddr *)address, sizeof(*address)))
		return -errno;
	fds[0] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fds[0] < 0)
		return -errno;
	for (unsigned i = 0; i < 2; i++)
		if (setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
			return -errno;
	bench->ring_used = bench->ring_bytes;
	return 0;
}

static int tcp_make(struct bench *bench, struct fdpair_link *link)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(address);
	int fds[2] = {-1, -1};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r;

	if (listener < 0)
		return -errno;
	fdpair_buffers(bench, listener); /* inherited by what it accepts */
	if (bind(listener, (const struct sockaddr *)&address, length) || listen(listener, 1) ||
	    getsockname(listener, (struct sockaddr *)&address, &length))
		r = -errno;
	else
		r = tcp_connect(bench, listener, &address, fds);
	close(listener);
	link->there[0] = link->back[1] = fds[0];
	link->there[1] = link->back[0] = fds[1];
	return r;
}

static int tcp_setup(struct bench *bench)
{
	return fdpair_setup(bench, tcp_make);
}

static int tcp_open(struct bench *bench, unsigned self, void **end)
{
	return fdpair_open(bench, self, true, end);
}

BENCH_LOOPS(tcp, fdpair_send, fdpair_take)

const struct transport transport_tcp = {
	.name = "tcp",
	.help = "TCP on 127.0.0.1, TCP_NODELAY",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK,
	.setup = tcp_setup,
	.open = tcp_open,
	.close = fdpair_close,
	.teardown = fdpair_teardown,
	LOOPS_OF(tcp),
};

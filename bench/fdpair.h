/* fdpair.h: what the transports over file descriptors share: a pair of descriptors each way for
 * each receiver. */
#ifndef BENCH_FDPAIR_H
#define BENCH_FDPAIR_H

#include "loops.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

struct fdpair_link {
	int there[2], back[2]; /* reading end, writing end; sockets: both ways the same two */
};

struct fdpair_state {
	struct fdpair_link links[BENCH_RECEIVERS_MAX];
};

struct fdpair_end {
	int rx;
	bool stream; /* reads may bring several messages, or a part of one */
	unsigned ports, at;
	size_t sent; /* bytes of the message under way to port at */
	size_t have, room;
	unsigned char *buffer;
	int tx[BENCH_RECEIVERS_MAX];
};

typedef int (*fdpair_make)(struct bench *bench, struct fdpair_link *link);

int fdpair_setup(struct bench *bench, fdpair_make make);
int fdpair_open(struct bench *bench, unsigned self, bool stream, void **opaque);
void fdpair_close(struct bench *bench, void *end);
void fdpair_teardown(struct bench *bench);
/* Sets both buffers of a socket to the size of the ring. */
void fdpair_buffers(struct bench *bench, int fd);

static inline int fdpair_send(void *opaque, const void *data, size_t size)
{
	struct fdpair_end *end = opaque;

	while (end->at < end->ports) {
		const unsigned char *rest = (const unsigned char *)data + end->sent;
		ssize_t n = write(end->tx[end->at], rest, size - end->sent);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR ? 0 : -errno;
		end->sent += (size_t)n;
		if (end->sent == size) {
			end->sent = 0;
			end->at++;
		}
	}
	end->at = 0;
	return 1;
}

static inline int fdpair_take(void *opaque, struct sink *sink)
{
	struct fdpair_end *end = opaque;
	ssize_t n = read(end->rx, end->buffer + end->have, end->room - end->have);
	size_t at = 0;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (n == 0)
		return -EPIPE;
	if (!end->stream) {
		sink_message(sink, end->buffer, (size_t)n);
		return 1;
	}
	end->have += (size_t)n;
	for (; end->have - at >= sink->size; at += sink->size)
		sink_message(sink, end->buffer + at, sink->size);
	end->have -= at;
	if (at && end->have)
		memmove(end->buffer, end->buffer + at, end->have);
	return at ? 1 : 0;
}

#endif

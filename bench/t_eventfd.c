/* t_eventfd.c: eventfd(2), a counter each way. */
#include "loops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct eventfd_end {
	int tx, rx;
};

static int eventfd_send(void *opaque, const void *data, size_t size)
{
	struct eventfd_end *end = opaque;
	uint64_t one = 1;

	(void)data;
	(void)size;
	if (write(end->tx, &one, sizeof(one)) < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	return 1;
}

static int eventfd_take(void *opaque, struct sink *sink)
{
	struct eventfd_end *end = opaque;
	uint64_t count;

	if (read(end->rx, &count, sizeof(count)) < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	sink_count(sink, count);
	return 1;
}

static int eventfd_setup(struct bench *bench)
{
	int flags = EFD_CLOEXEC | (bench->wait == WAIT_SPIN ? EFD_NONBLOCK : 0);
	struct eventfd_end *ends = calloc(2, sizeof(*ends));

	if (!ends)
		return -ENOMEM;
	ends[0].tx = ends[1].rx = eventfd(0, flags);
	ends[0].rx = ends[1].tx = eventfd(0, flags);
	bench->state = ends;
	return ends[0].rx < 0 || ends[0].tx < 0 ? -errno : 0;
}

static int eventfd_open(struct bench *bench, unsigned self, void **end)
{
	*end = (struct eventfd_end *)bench->state + self;
	return 0;
}

static void eventfd_teardown(struct bench *bench)
{
	struct eventfd_end *ends = bench->state;

	close(ends[0].tx);
	close(ends[0].rx);
	free(ends);
}

BENCH_LOOPS(eventfd, eventfd_send, eventfd_take)

const struct transport transport_eventfd = {
	.name = "eventfd",
	.help = "eventfd(2), a count without content",
	.can = CAN_RTT | CAN_STREAM | CAN_SPIN | CAN_BLOCK | CAN_COUNT,
	.setup = eventfd_setup,
	.open = eventfd_open,
	.teardown = eventfd_teardown,
	LOOPS_OF(eventfd),
};

/* t_zmq.c: ZeroMQ over its ipc transport: PAIR to one receiver, XPUB that does not drop to several.
 */
#include "loops.h"

#include <errno.h>
#include <stdlib.h>
#include <zmq.h>

struct zmq_end {
	void *context, *socket;
	zmq_msg_t message;
	bool publishes;
};

static int zmq_push(void *opaque, const void *data, size_t size)
{
	struct zmq_end *end = opaque;

	if (zmq_send(end->socket, data, size, 0) < 0)
		return zmq_errno() == EAGAIN || zmq_errno() == EINTR ? 0 : -zmq_errno();
	return 1;
}

static int zmq_take(void *opaque, struct sink *sink)
{
	struct zmq_end *end = opaque;

	if (zmq_msg_recv(&end->message, end->socket, 0) < 0)
		return zmq_errno() == EAGAIN || zmq_errno() == EINTR ? 0 : -zmq_errno();
	sink_message(sink, zmq_msg_data(&end->message), zmq_msg_size(&end->message));
	return 1;
}

static int zmq_setup(struct bench *bench)
{
	return bench_address(bench, "ipc://@");
}

static int zmq_attach(struct bench *bench, unsigned self, struct zmq_end *end)
{
	int linger = 0, one = 1; /* closed when all has arrived */
	int type = ZMQ_PAIR;

	if (bench->receivers > 1)
		type = self == 0 ? ZMQ_XPUB : ZMQ_SUB;
	end->publishes = type == ZMQ_XPUB;
	end->socket = zmq_socket(end->context, type);
	if (!end->socket)
		return -zmq_errno();
	zmq_setsockopt(end->socket, ZMQ_LINGER, &linger, sizeof(linger));
	if (type == ZMQ_XPUB) {
		zmq_setsockopt(end->socket, ZMQ_XPUB_NODROP, &one, sizeof(one));
		zmq_setsockopt(end->socket, ZMQ_XPUB_VERBOSE, &one, sizeof(one));
	}
	if (type == ZMQ_SUB)
		zmq_setsockopt(end->socket, ZMQ_SUBSCRIBE, "", 0);
	if ((self == 0 ? zmq_bind : zmq_connect)(end->socket, bench->state))
		return -zmq_errno();
	return 0;
}

static int zmq_open(struct bench *bench, unsigned self, void **opaque)
{
	struct zmq_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	*opaque = end;
	end->context = zmq_ctx_new();
	zmq_msg_init(&end->message);
	return end->context ? zmq_attach(bench, self, end) : -ENOMEM;
}

/* A publisher waits for all its subscribers. */
static int zmq_ready(struct bench *bench, void *opaque)
{
	struct zmq_end *end = opaque;

	for (unsigned i = 0; end->publishes && i < bench->receivers; i++) {
		char subscription[8];

		if (zmq_recv(end->socket, subscription, sizeof(subscription), 0) < 0)
			return -zmq_errno();
	}
	return 0;
}

static void zmq_end_close(struct bench *bench, void *opaque)
{
	struct zmq_end *end = opaque;

	(void)bench;
	zmq_msg_close(&end->message);
	if (end->socket)
		zmq_close(end->socket);
	zmq_ctx_term(end->context);
	free(end);
}

BENCH_LOOPS(zmq, zmq_push, zmq_take)

const struct transport transport_zmq = {
	.name = "zmq",
	.help = "ZeroMQ, ipc, PAIR or XPUB and SUB",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_BLOCK | CAN_VIEW | HAS_THREADS,
	.setup = zmq_setup,
	.open = zmq_open,
	.ready = zmq_ready,
	.close = zmq_end_close,
	.teardown = bench_forget,
	LOOPS_OF(zmq),
};

/* t_nng.c: nng over its abstract unix sockets: a pair to one receiver (its publisher drops, so no
 * fan-out). */
#include "loops.h"

#include <errno.h>
#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>
#include <stdlib.h>

struct nng_end {
	nng_socket socket;
};

static int nng_error(int error)
{
	if (error == NNG_EAGAIN || error == NNG_EINTR)
		return 0;
	return bench_explain(-EIO, "nng: %s", nng_strerror(error));
}

static int nng_push(void *opaque, const void *data, size_t size)
{
	struct nng_end *end = opaque;
	nng_msg *message;
	int error = nng_msg_alloc(&message, size);

	if (error)
		return nng_error(error);
	memcpy(nng_msg_body(message), data, size);
	error = nng_sendmsg(end->socket, message, 0);
	if (!error)
		return 1;
	nng_msg_free(message);
	return nng_error(error);
}

static int nng_take(void *opaque, struct sink *sink)
{
	struct nng_end *end = opaque;
	nng_msg *message;
	int error = nng_recvmsg(end->socket, &message, 0);

	if (error)
		return nng_error(error);
	sink_message(sink, nng_msg_body(message), nng_msg_len(message));
	nng_msg_free(message);
	return 1;
}

static int nng_setup(struct bench *bench)
{
	return bench_address(bench, "abstract://");
}

static int nng_open(struct bench *bench, unsigned self, void **opaque)
{
	struct nng_end *end = calloc(1, sizeof(*end));
	int error;

	if (!end)
		return -ENOMEM;
	*opaque = end;
	error = nng_pair0_open(&end->socket);
	if (!error)
		error = nng_socket_set_size(end->socket, NNG_OPT_RECVMAXSZ, 0);
	if (!error)
		error = self == 0 ? nng_listen(end->socket, bench->state, NULL, 0)
				  : nng_dial(end->socket, bench->state, NULL, 0);
	return error ? nng_error(error) : 0;
}

static void nng_end_close(struct bench *bench, void *opaque)
{
	struct nng_end *end = opaque;

	(void)bench;
	nng_close(end->socket);
	free(end);
}

BENCH_LOOPS(nng, nng_push, nng_take)

const struct transport transport_nng = {
	.name = "nng",
	.help = "nng, abstract unix socket, pair",
	.can = CAN_RTT | CAN_STREAM | CAN_BLOCK | CAN_VIEW | HAS_THREADS,
	.setup = nng_setup,
	.open = nng_open,
	.close = nng_end_close,
	.teardown = bench_forget,
	LOOPS_OF(nng),
};

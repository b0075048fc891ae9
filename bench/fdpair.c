/* fdpair.c: making, opening and closing of descriptor pairs. */
#include "fdpair.h"

#include <sys/socket.h>

static int *fdpair_fds(struct fdpair_link *link, unsigned i)
{
	return i < 2 ? &link->there[i] : &link->back[i - 2];
}

int fdpair_setup(struct bench *bench, fdpair_make make)
{
	struct fdpair_state *state = malloc(sizeof(*state));
	int r = 0;

	if (!state)
		return -ENOMEM;
	memset(state, 0xff, sizeof(*state)); /* all -1 */
	bench->state = state;
	for (unsigned i = 0; i < bench->receivers && r == 0; i++) {
		r = make(bench, &state->links[i]);
		for (unsigned j = 0; r == 0 && j < 4 && bench->wait == WAIT_SPIN; j++)
			if (fcntl(*fdpair_fds(&state->links[i], j), F_SETFL, O_NONBLOCK))
				r = -errno;
	}
	if (r < 0)
		fdpair_teardown(bench);
	return r;
}

int fdpair_open(struct bench *bench, unsigned self, bool stream, void **opaque)
{
	struct fdpair_state *state = bench->state;
	struct fdpair_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	end->stream = stream;
	end->room = stream && bench->size < 65536 ? 65536 + bench->size : bench->size;
	end->buffer = malloc(end->room);
	end->ports = self == 0 ? bench->receivers : 1;
	for (unsigned i = 0; self == 0 && i < end->ports; i++)
		end->tx[i] = state->links[i].there[1];
	if (self > 0)
		end->tx[0] = state->links[self - 1].back[1];
	end->rx = self == 0 ? state->links[0].back[0] : state->links[self - 1].there[0];
	*opaque = end;
	return end->buffer ? 0 : -ENOMEM;
}

void fdpair_close(struct bench *bench, void *opaque)
{
	struct fdpair_end *end = opaque;

	(void)bench;
	free(end->buffer);
	free(end);
}

void fdpair_teardown(struct bench *bench)
{
	struct fdpair_state *state = bench->state;

	for (unsigned i = 0; i < bench->receivers; i++) {
		struct fdpair_link *link = &state->links[i];
		bool socket = link->there[0] == link->back[1];

		for (unsigned j = 0; j < (socket ? 2 : 4); j++)
			if (*fdpair_fds(link, j) >= 0)
				close(*fdpair_fds(link, j));
	}
	free(state);
	bench->state = NULL;
}

void fdpair_buffers(struct bench *bench, int fd)
{
	int bytes = bench->ring_bytes > INT32_MAX ? INT32_MAX : (int)bench->ring_bytes;

	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof(bytes));
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
}

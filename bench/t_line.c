/* t_line.c: the limit of polling: one word of one cache line goes to and fro. */
#include "loops.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct line_end {
	_Atomic uint64_t *word;
	uint64_t awaited;
};

static int line_send(void *opaque, const void *data, size_t size)
{
	struct line_end *end = opaque;

	(void)data;
	(void)size;
	atomic_store_explicit(end->word, end->awaited - 1, memory_order_release);
	return 1;
}

static int line_take(void *opaque, struct sink *sink)
{
	struct line_end *end = opaque;

	if (atomic_load_explicit(end->word, memory_order_acquire) != end->awaited)
		return 0;
	end->awaited += 2;
	sink_count(sink, 1);
	return 1;
}

static int line_setup(struct bench *bench)
{
	bench->state = bench_share(4096);
	return bench->state ? 0 : -ENOMEM;
}

/* Process 0 writes 1, 3, ... and awaits 2, 4, ...; process 1 awaits 1 first. */
static int line_open(struct bench *bench, unsigned self, void **opaque)
{
	struct line_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	end->word = bench->state;
	end->awaited = self == 0 ? 2 : 1;
	*opaque = end;
	return 0;
}

static void line_teardown(struct bench *bench)
{
	munmap(bench->state, 4096);
}

BENCH_LOOPS(line, line_send, line_take)

const struct transport transport_line = {
	.name = "line",
	.help = "limit: one cache line to and fro",
	.can = CAN_RTT | CAN_SPIN | CAN_COUNT,
	.setup = line_setup,
	.open = line_open,
	.close = bench_close,
	.teardown = line_teardown,
	LOOPS_OF(line),
};

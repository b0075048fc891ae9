/* t_memcpy.c: the limit of copying: one process copies each message once within ring_bytes. */
#include "loops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct memcpy_end {
	unsigned char *memory;
	size_t at, bytes;
};

static int memcpy_send(void *opaque, const void *data, size_t size)
{
	struct memcpy_end *end = opaque;

	if (end->at + size > end->bytes)
		end->at = 0;
	memcpy(end->memory + end->at, data, size);
	end->at += (size + 15) & ~(size_t)15;
	__asm__ volatile("" ::: "memory");
	return 1;
}

static int memcpy_take(void *opaque, struct sink *sink)
{
	(void)opaque;
	(void)sink;
	return -ENOSYS;
}

static int memcpy_setup(struct bench *bench)
{
	bench->ring_used = bench->ring_bytes > bench->size ? bench->ring_bytes : bench->size;
	bench->state = bench_share(bench->ring_used);
	return bench->state ? 0 : -ENOMEM;
}

static int memcpy_open(struct bench *bench, unsigned self, void **opaque)
{
	struct memcpy_end *end = calloc(1, sizeof(*end));

	(void)self;
	if (!end)
		return -ENOMEM;
	end->memory = bench->state;
	end->bytes = bench->ring_used;
	*opaque = end;
	return 0;
}

static void memcpy_teardown(struct bench *bench)
{
	munmap(bench->state, bench->ring_used);
}

BENCH_LOOPS(memcpy, memcpy_send, memcpy_take)

const struct transport transport_memcpy = {
	.name = "memcpy",
	.help = "limit: one copy by one process",
	.can = CAN_STREAM | CAN_SPIN | CAN_ONE,
	.setup = memcpy_setup,
	.open = memcpy_open,
	.close = bench_close,
	.teardown = memcpy_teardown,
	LOOPS_OF(memcpy),
};

/* t_futex.c: the limit of sleeping: a counter each way, FUTEX_WAIT and, when the other side sleeps,
 * FUTEX_WAKE. */
#include "bell.h"
#include "loops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

struct futex_word {
	_Alignas(128) _Atomic uint32_t count;
	_Atomic uint32_t asleep;
};

struct futex_words {
	struct futex_word there, back;
};

struct futex_end {
	struct futex_word *tx, *rx;
	uint32_t sent, seen;
	bool always; /* wakes without looking whether anybody sleeps */
};

static int futex_send(void *opaque, const void *data, size_t size)
{
	struct futex_end *end = opaque;

	(void)data;
	(void)size;
	atomic_store_explicit(&end->tx->count, ++end->sent, memory_order_release);
	if (end->always) {
		atomic_store_explicit(&end->tx->asleep, 0, memory_order_seq_cst);
		futex_wake(&end->tx->asleep);
	} else {
		bell_ring(&end->tx->asleep);
	}
	return 1;
}

static int futex_take(void *opaque, struct sink *sink)
{
	struct futex_end *end = opaque;
	uint32_t now;

	while ((now = atomic_load_explicit(&end->rx->count, memory_order_acquire)) == end->seen) {
		bell_announce(&end->rx->asleep);
		if (atomic_load_explicit(&end->rx->count, memory_order_acquire) == end->seen)
			bell_sleep(&end->rx->asleep);
		else
			bell_cancel(&end->rx->asleep);
	}
	sink_count(sink, now - end->seen);
	end->seen = now;
	return 1;
}

static int futex_setup(struct bench *bench)
{
	bench->state = bench_share(sizeof(struct futex_words));
	return bench->state ? 0 : -ENOMEM;
}

static int futex_open(struct bench *bench, unsigned self, void **opaque)
{
	struct futex_words *words = bench->state;
	struct futex_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	end->tx = self == 0 ? &words->there : &words->back;
	/* across processors the call keeps the two from staying awake by chance */
	end->always = bench->cpu_count > 1;
	end->rx = self == 0 ? &words->back : &words->there;
	*opaque = end;
	return 0;
}

static void futex_teardown(struct bench *bench)
{
	munmap(bench->state, sizeof(struct futex_words));
}

BENCH_LOOPS(futex, futex_send, futex_take)

const struct transport transport_futex = {
	.name = "futex",
	.help = "limit: a counter, FUTEX_WAIT and FUTEX_WAKE",
	.can = CAN_RTT | CAN_STREAM | CAN_BLOCK | CAN_COUNT,
	.setup = futex_setup,
	.open = futex_open,
	.close = bench_close,
	.teardown = futex_teardown,
	LOOPS_OF(futex),
};

/* t_spsc.c: the limit of messages: a bare ring from one writer to one reader; n of them; and one
 * that n readers share.
 *
 * Fixed slots of an 8-byte header and the payload. The header is the number of the message, so the
 * reader polls the line that brings the payload and nothing else moves; positions go back each
 * eighth of the ring. In round trips a slot begins with a line, and the reader asks for its second
 * line while it polls the first; in streams slots are dense, which moves fewer lines. A reader that
 * runs dry in the middle of a stream stays away for a moment, so that the writer gets ahead:
 * polling the line that is being written makes the two move in lockstep. No generations, no rights,
 * no recovery, no variable sizes.
 */
#include "bell.h"
#include "loops.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define SPSC_STREAM 8 /* so many messages without a pause are a stream */
#define SPSC_DRY_NS 2000
#define SPSC_BYTES ((size_t)8 << 20) /* of a stream of large messages, */
#define SPSC_SLOTS 64		     /* but no more than so many */

struct spsc_ring {
	_Alignas(128) _Atomic uint64_t head;  /* messages read: written by the reader */
	_Alignas(128) _Atomic uint32_t inbox; /* 1: the reader sleeps */
	_Alignas(128) _Atomic uint32_t room;  /* 1: the writer sleeps */
	_Alignas(4096) unsigned char slots[];
};

/* One process's view of one ring. */
struct spsc_port {
	struct spsc_ring *ring;
	unsigned char *slot; /* the next */
	unsigned char *first, *last;
	uint64_t number; /* of the next message, from 1 */
	uint64_t limit;	 /* writer: first number without known room; reader: when to give back */
	uint64_t slots;
};

struct spsc_end {
	struct spsc_port rx;
	bool sleeps, copy, crowded;
	size_t stride;
	size_t bytes; /* written and read of each payload */
	uint64_t spin_ticks, dry_ticks;
	unsigned char *buffer;
	unsigned run; /* messages since the reader last ran dry */
	unsigned ports, at;
	struct spsc_port tx[BENCH_RECEIVERS_MAX];
};

struct spsc_state {
	size_t stride, ring_bytes;
	uint64_t slots;
	bool shared;	/* one ring's slots for all */
	unsigned rings; /* there; in round trips also back */
	size_t bytes;	/* of all the memory */
	unsigned char *memory;
};

static inline void spsc_advance(struct spsc_port *port, size_t stride)
{
	port->slot = port->slot == port->last ? port->first : port->slot + stride;
	port->number++;
}

static bool spsc_has_room(struct spsc_port *tx)
{
	uint64_t head = atomic_load_explicit(&tx->ring->head, memory_order_acquire);

	tx->limit = head + tx->slots + 1;
	return tx->number < tx->limit;
}

static __attribute__((noinline)) bool spsc_full(struct spsc_end *end, struct spsc_port *tx)
{
	if (spsc_has_room(tx))
		return false;
	if (!end->sleeps)
		return true;
	bell_announce(&tx->ring->room);
	if (spsc_has_room(tx))
		bell_cancel(&tx->ring->room);
	else
		bell_sleep(&tx->ring->room);
	return !spsc_has_room(tx);
}

static inline void spsc_write(struct spsc_end *end, struct spsc_port *tx, const void *data)
{
	memcpy(tx->slot + 8, data, end->bytes);
	atomic_store_explicit((_Atomic uint64_t *)(void *)tx->slot, tx->number,
			      memory_order_release);
	spsc_advance(tx, end->stride);
}

static int spsc_send(void *opaque, const void *data, size_t size)
{
	struct spsc_end *end = opaque;
	struct spsc_port *tx = &end->tx[0];

	(void)size;
	if (__builtin_expect(tx->number >= tx->limit, 0) && spsc_full(end, tx))
		return 0;
	spsc_write(end, tx, data);
	if (end->sleeps)
		bell_ring(&tx->ring->inbox);
	return 1;
}

/* Wakes readers from first on; one fence for all. */
static void spsc_wake(struct spsc_end *end, unsigned first, unsigned last)
{
	atomic_thread_fence(memory_order_seq_cst);
	for (unsigned i = first; i < last; i++)
		bell_ring_fenced(&end->tx[i].ring->inbox);
}

/* One to all; goes on where it found no room. */
static int spsc_fan_send(void *opaque, const void *data, size_t size)
{
	struct spsc_end *end = opaque;
	unsigned woken = end->at;

	(void)size;
	for (; end->at < end->ports; end->at++) {
		struct spsc_port *tx = &end->tx[end->at];

		if (__builtin_expect(tx->number >= tx->limit, 0)) {
			if (end->sleeps)
				spsc_wake(end, woken, end->at);
			woken = end->at;
			if (spsc_full(end, tx))
				return 0;
		}
		spsc_write(end, tx, data);
	}
	if (end->sleeps)
		spsc_wake(end, woken, end->ports);
	end->at = 0;
	return 1;
}

/* The first port's limit becomes the lowest of all. True: somebody has no room. */
static __attribute__((noinline)) bool spsc_log_full(struct spsc_end *end)
{
	uint64_t lowest = UINT64_MAX;

	for (unsigned i = 0; i < end->ports; i++) {
		end->tx[i].number = end->tx[0].number;
		if (spsc_full(end, &end->tx[i])) {
			end->tx[0].limit = end->tx[0].number;
			return true;
		}
		lowest = end->tx[i].limit < lowest ? end->tx[i].limit : lowest;
	}
	end->tx[0].limit = lowest;
	return false;
}

static int spsc_log_send(void *opaque, const void *data, size_t size)
{
	struct spsc_end *end = opaque;
	struct spsc_port *tx = &end->tx[0];

	(void)size;
	if (__builtin_expect(tx->number >= tx->limit, 0) && spsc_log_full(end))
		return 0;
	spsc_write(end, tx, data);
	if (end->sleeps)
		spsc_wake(end, 0, end->ports);
	return 1;
}

static inline bool spsc_ready(const struct spsc_port *rx)
{
	const _Atomic uint64_t *header = (const void *)rx->slot;

	return atomic_load_explicit(header, memory_order_acquire) == rx->number;
}

static __attribute__((noinline)) bool spsc_wait(struct spsc_end *end, struct spsc_port *rx)
{
	uint64_t until = clock_ticks() + end->spin_ticks;

	while (end->spin_ticks && clock_ticks() < until) {
		if (spsc_ready(rx))
			return true;
		if (end->crowded)
			sched_yield();
		else
			cpu_pause();
	}
	bell_announce(&rx->ring->inbox);
	if (spsc_ready(rx))
		bell_cancel(&rx->ring->inbox);
	else
		bell_sleep(&rx->ring->inbox);
	return spsc_ready(rx);
}

/* Nothing there: true when there is something after all. */
static __attribute__((noinline)) bool spsc_dry(struct spsc_end *end, struct spsc_port *rx)
{
	bool streams = end->run > SPSC_STREAM;
	uint64_t until;

	end->run = 0;
	if (streams) {
		until = clock_ticks() + end->dry_ticks;
		while (clock_ticks() < until)
			cpu_pause();
		if (spsc_ready(rx))
			return true;
	} else {
		__builtin_prefetch(rx->slot + 64);
	}
	return end->sleeps && spsc_wait(end, rx);
}

static inline void spsc_retire(struct spsc_end *end, struct spsc_port *rx)
{
	rx->limit = rx->number + rx->slots / 8;
	atomic_store_explicit(&rx->ring->head, rx->number - 1, memory_order_release);
	if (end->sleeps)
		bell_ring(&rx->ring->room);
}

static int spsc_take(void *opaque, struct sink *sink)
{
	struct spsc_end *end = opaque;
	struct spsc_port *rx = &end->rx;
	const void *data = rx->slot + 8;

	if (!spsc_ready(rx) && !spsc_dry(end, rx))
		return 0;
	end->run++;
	if (end->copy)
		data = memcpy(end->buffer, data, end->bytes);
	sink_message(sink, data, sink->size);
	spsc_advance(rx, end->stride);
	if (__builtin_expect(rx->number >= rx->limit, 0))
		spsc_retire(end, rx);
	return 1;
}

static size_t spsc_ring_bytes(const struct spsc_state *state)
{
	if (state->shared)
		return sizeof(struct spsc_ring);
	return (sizeof(struct spsc_ring) + state->ring_bytes + 4095) & ~(size_t)4095;
}

static size_t spsc_stride(const struct bench *bench)
{
	size_t unit = bench->flow != FLOW_RTT ? 8 : bench->size < 56 ? 16 : 64;

	return (bench->size + 8 + unit - 1) & ~(unit - 1);
}

/* Streams of large messages get more than was asked: so do they where a pool holds them. */
static uint64_t spsc_least(const struct bench *bench)
{
	uint64_t slots = SPSC_BYTES / bench->size;

	if (bench->flow == FLOW_RTT || slots < 2)
		return 2;
	if (bench->size < 4096)
		return 8;
	return slots < SPSC_SLOTS ? slots : SPSC_SLOTS;
}

static int spsc_make(struct bench *bench, bool shared)
{
	struct spsc_state *state = calloc(1, sizeof(*state));

	if (!state)
		return -ENOMEM;
	state->stride = spsc_stride(bench);
	state->slots = bench->ring_bytes / state->stride;
	if (state->slots < spsc_least(bench))
		state->slots = spsc_least(bench);
	state->ring_bytes = state->slots * state->stride;
	state->shared = shared;
	state->rings = bench->flow == FLOW_RTT ? 2 * bench->receivers : bench->receivers;
	state->bytes = state->rings * spsc_ring_bytes(state) + (shared ? state->ring_bytes : 0);
	state->memory = bench_share(state->bytes);
	if (!state->memory) {
		free(state);
		return -ENOMEM;
	}
	bench->ring_used = state->ring_bytes;
	bench->state = state;
	return 0;
}

static int spsc_setup(struct bench *bench)
{
	return spsc_make(bench, false);
}

static int spsc_log_setup(struct bench *bench)
{
	return spsc_make(bench, true);
}

/* Rings there come first, then those back. */
static void spsc_port_init(struct spsc_port *port, const struct spsc_state *state, unsigned ring)
{
	if (ring >= state->rings)
		return;
	port->ring = (void *)(state->memory + ring * spsc_ring_bytes(state));
	port->first = state->shared ? state->memory + state->rings * spsc_ring_bytes(state)
				    : port->ring->slots;
	port->last = port->first + (state->slots - 1) * state->stride;
	port->slot = port->first;
	port->number = 1;
	port->slots = state->slots;
}

static int spsc_open(struct bench *bench, unsigned self, void **opaque)
{
	const struct spsc_state *state = bench->state;
	struct spsc_end *end = calloc(1, sizeof(*end));

	if (!end)
		return -ENOMEM;
	end->buffer = malloc(bench->size);
	end->sleeps = bench->wait != WAIT_SPIN;
	end->copy = bench->copy;
	end->crowded = bench->crowded;
	end->stride = state->stride;
	end->bytes = bench->untouched ? 8 : bench->size;
	end->spin_ticks = clock_from_ns(bench->spin_ns);
	/* not where others need the processor */
	end->dry_ticks = bench->crowded ? 0 : clock_from_ns(SPSC_DRY_NS);
	end->ports = self == 0 ? bench->receivers : 1;
	for (unsigned i = 0; i < end->ports; i++)
		spsc_port_init(&end->tx[i], state, self == 0 ? i : bench->receivers + self - 1);
	spsc_port_init(&end->rx, state, self == 0 ? bench->receivers : self - 1);
	end->rx.limit = end->rx.number + state->slots / 8;
	*opaque = end;
	return end->buffer ? 0 : -ENOMEM;
}

static void spsc_close(struct bench *bench, void *opaque)
{
	struct spsc_end *end = opaque;

	(void)bench;
	free(end->buffer);
	free(end);
}

static void spsc_teardown(struct bench *bench)
{
	struct spsc_state *state = bench->state;

	munmap(state->memory, state->bytes);
	free(state);
}

BENCH_LOOPS(spsc, spsc_send, spsc_take)
BENCH_LOOPS(spsc_fan, spsc_fan_send, spsc_take)
BENCH_LOOPS(spsc_log, spsc_log_send, spsc_take)

const struct transport transport_spsc = {
	.name = "spsc",
	.help = "limit: a bare ring, one writer, one reader",
	.can = CAN_RTT | CAN_STREAM | CAN_SPIN | CAN_BLOCK | CAN_VIEW | CAN_LOAN | CAN_ADAPT,
	.setup = spsc_setup,
	.open = spsc_open,
	.close = spsc_close,
	.teardown = spsc_teardown,
	LOOPS_OF(spsc),
};

const struct transport transport_spsc_fan = {
	.name = "spsc-fan",
	.help = "limit: one bare ring for each receiver",
	.can = CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK | CAN_VIEW | CAN_ADAPT,
	.setup = spsc_setup,
	.open = spsc_open,
	.close = spsc_close,
	.teardown = spsc_teardown,
	LOOPS_OF(spsc_fan),
};

const struct transport transport_spsc_log = {
	.name = "log",
	.help = "limit: one bare ring that all receivers read",
	.can = CAN_STREAM | CAN_FAN | CAN_SPIN | CAN_BLOCK | CAN_VIEW | CAN_ADAPT,
	.setup = spsc_log_setup,
	.open = spsc_open,
	.close = spsc_close,
	.teardown = spsc_teardown,
	LOOPS_OF(spsc_log),
};

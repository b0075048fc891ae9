/* t_ringbus.c: ringbus: by event handle and by contact, with one sending thread and with locked
 * sends, and signals. */
#include "loops.h"
#include "ringbus_bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct ringbus_end {
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_address peer;
	struct ringbus_loan loan;
	struct sink *sink;   /* for the handler */
	uint64_t timeout_ns; /* of sends and receipts */
	size_t bytes;	     /* written into a loan */
	unsigned self;
	bool contact, loans, copy, sleeps;
	bool answers; /* in the handler */
	unsigned receivers;
	void *buffer;
};

static __attribute__((noinline)) int ringbus_send_failed(struct ringbus_end *end, int r)
{
	if (r == -EAGAIN || (r == -ETIMEDOUT && end->timeout_ns))
		return 0;
	if (r >= 0)
		return bench_explain(-EPIPE, "sent to %d of %u receivers", r, end->receivers);
	return bus_error(r, end->contact ? "ringbus_contact_address" : "ringbus_emit");
}

static __attribute__((noinline)) int ringbus_send_loan(struct ringbus_end *end, const void *data,
						       size_t size)
{
	int r;

	if (!end->loan.data) {
		r = ringbus_loan(end->node, size, &end->loan, end->timeout_ns);
		if (r < 0) {
			end->loan.data = NULL;
			return ringbus_send_failed(end, r);
		}
		memcpy(end->loan.data, data, end->bytes);
	}
	r = end->contact ? ringbus_contact_loan(end->node, &end->peer, &end->loan, end->timeout_ns)
			 : ringbus_emit_loan(end->event, &end->loan, end->timeout_ns);
	if (r < 0 || (!end->contact && (unsigned)r != end->receivers))
		return ringbus_send_failed(end, r);
	end->loan.data = NULL;
	return 1;
}

static int ringbus_send_event(void *opaque, const void *data, size_t size)
{
	struct ringbus_end *end = opaque;
	int r;

	if (end->loans)
		return ringbus_send_loan(end, data, size);
	r = ringbus_emit(end->event, data, size, end->timeout_ns);
	if (__builtin_expect(r < 0 || (unsigned)r != end->receivers, 0))
		return ringbus_send_failed(end, r);
	return 1;
}

static int ringbus_send_contact(void *opaque, const void *data, size_t size)
{
	struct ringbus_end *end = opaque;
	int r;

	if (end->loans)
		return ringbus_send_loan(end, data, size);
	r = ringbus_contact_address(end->node, &end->peer, data, size, end->timeout_ns);
	if (__builtin_expect(r < 0, 0))
		return ringbus_send_failed(end, r);
	return 1;
}

/* Who is asked answers in the handler, as one who serves requests does: what is left of the poll
 * goes on while the answer is on its way. Where there was no room the loop sends it. Not where both
 * are to sleep: on one processor the next message is there before the handler returns. */
static inline void ringbus_answer(struct ringbus_end *end)
{
	struct flow *flow = (struct flow *)(void *)end->sink;
	const void *data;
	int r;

	if (flow->sink.answered + 1 != flow->sink.received)
		return;
	data = flow_answer(flow);
	r = end->contact ? ringbus_send_contact(end, data, end->sink->size)
			 : ringbus_send_event(end, data, end->sink->size);
	if (r > 0)
		flow->sink.answered++;
}

static void ringbus_on_message(const struct ringbus_message *message, void *user)
{
	struct ringbus_end *end = user;

	if (message->kind == RINGBUS_NOTICE)
		return;
	sink_message(end->sink, message->data, message->size);
	if (end->answers)
		ringbus_answer(end);
}

static __attribute__((noinline)) int ringbus_take_copy(struct ringbus_end *end, struct sink *sink)
{
	struct ringbus_message message;
	int r = ringbus_receive(end->node, end->buffer, sink->size, &message, end->timeout_ns);

	if (r == -EAGAIN || r == -ETIMEDOUT)
		return 0;
	if (r < 0)
		return bus_error(r, "ringbus_receive");
	if (message.kind != RINGBUS_NOTICE)
		sink_message(sink, end->buffer, message.size);
	return 1;
}

static int ringbus_take(void *opaque, struct sink *sink)
{
	struct ringbus_end *end = opaque;
	int r;

	if (end->copy)
		return ringbus_take_copy(end, sink);
	end->sink = sink;
	r = ringbus_poll(end->node, 0);
	if (r == 0 && end->sleeps) {
		r = ringbus_wait(end->node, end->timeout_ns);
		if (r == 0)
			r = ringbus_poll(end->node, 0);
		else if (r == -ETIMEDOUT)
			r = 0;
	}
	return r < 0 ? bus_error(r, "ringbus_poll") : r;
}

static int ringbus_send_signal(void *opaque, const void *data, size_t size)
{
	struct ringbus_end *end = opaque;
	int r;

	(void)data;
	(void)size;
	r = ringbus_signal_address(end->node, &end->peer);
	return r < 0 ? bus_error(r, "ringbus_signal_address") : 1;
}

static int ringbus_take_signal(void *opaque, struct sink *sink)
{
	struct ringbus_end *end = opaque;
	uint64_t count;
	int r = ringbus_signal_wait(end->node, &count, end->timeout_ns);

	if (r == -EAGAIN || r == -ETIMEDOUT)
		return 0;
	if (r < 0)
		return bus_error(r, "ringbus_signal_wait");
	sink_count(sink, count);
	return 1;
}

static int ringbus_setup(struct bench *bench)
{
	unsigned talk = bench->receivers + 1;
	struct bus *bus;
	int r = bus_start(bench, bench->nodes > talk ? bench->nodes - talk : 0, &bus);

	if (r == 0)
		bench->state = bus;
	return r;
}

static void ringbus_teardown(struct bench *bench)
{
	bus_stop(bench->state);
}

/* What all four need: the node. */
static int ringbus_join(struct bench *bench, unsigned self, bool single_sender,
			struct ringbus_end **out)
{
	struct ringbus_end *end = calloc(1, sizeof(*end));
	char name[32];

	if (!end)
		return -ENOMEM;
	*out = end;
	end->self = self;
	end->sleeps = bench->wait != WAIT_SPIN;
	end->timeout_ns = end->sleeps ? 5000000000u : 0;
	end->loans = bench->loan;
	end->copy = bench->copy;
	end->answers = self != 0 && bench->flow == FLOW_RTT && !end->sleeps;
	end->bytes = bench->untouched ? 8 : bench->size;
	end->receivers = self == 0 ? bench->receivers : 1;
	end->buffer = malloc(bench->size);
	snprintf(name, sizeof(name), "bench/%u", self);
	return end->buffer ? bus_join(bench->state, bench, name, single_sender, &end->node)
			   : -ENOMEM;
}

/* Process 0 emits "there" and receives "back"; the others the other way round. */
static int ringbus_open_events(struct bench *bench, unsigned self, bool single_sender,
			       void **opaque)
{
	struct ringbus_subscribe_options options = {.size = sizeof(options),
						    .handler = ringbus_on_message};
	struct ringbus_event *event;
	struct ringbus_end *end;
	int r = ringbus_join(bench, self, single_sender, &end);

	*opaque = end;
	if (r < 0)
		return r;
	options.user = end;
	if (self == 0 || bench->flow == FLOW_RTT) {
		r = ringbus_event_create(&end->event, end->node, self == 0 ? "there" : "back",
					 NULL);
		if (r < 0)
			return bus_error(r, "ringbus_event_create");
	}
	if (self == 0 && bench->flow != FLOW_RTT)
		return 0;
	r = ringbus_subscribe(&event, end->node, self == 0 ? "back" : "there", &options);
	return r < 0 ? bus_error(r, "ringbus_subscribe") : 0;
}

static int ringbus_open(struct bench *bench, unsigned self, void **end)
{
	return ringbus_open_events(bench, self, true, end);
}

static int ringbus_open_locked(struct bench *bench, unsigned self, void **end)
{
	return ringbus_open_events(bench, self, false, end);
}

static int ringbus_open_contact(struct bench *bench, unsigned self, void **opaque)
{
	struct ringbus_end *end;
	int r = ringbus_join(bench, self, true, &end);

	*opaque = end;
	if (r < 0)
		return r;
	end->contact = true;
	r = ringbus_on_contact(end->node, ringbus_on_message, end);
	return r < 0 ? bus_error(r, "ringbus_on_contact") : 0;
}

static int ringbus_ready_event(struct bench *bench, void *opaque)
{
	struct ringbus_end *end = opaque;
	int r;

	(void)bench;
	if (!end->event)
		return 0;
	r = ringbus_event_wait_subscribers(end->event, end->receivers, 5000000000u);
	return r < 0 ? bus_error(r, "ringbus_event_wait_subscribers") : 0;
}

static int ringbus_ready_contact(struct bench *bench, void *opaque)
{
	struct ringbus_end *end = opaque;
	int r;

	(void)bench;
	r = ringbus_node_find(end->node, end->self == 0 ? "bench/1" : "bench/0", &end->peer);
	return r < 0 ? bus_error(r, "ringbus_node_find") : 0;
}

static void ringbus_end_close(struct bench *bench, void *opaque)
{
	struct ringbus_end *end = opaque;

	(void)bench;
	ringbus_loan_cancel(&end->loan);
	ringbus_node_close(end->node);
	free(end->buffer);
	free(end);
}

BENCH_LOOPS(ringbus, ringbus_send_event, ringbus_take)
BENCH_LOOPS(ringbus_contact, ringbus_send_contact, ringbus_take)
BENCH_LOOPS(ringbus_signal, ringbus_send_signal, ringbus_take_signal)

#define RINGBUS_CAN (CAN_RTT | CAN_STREAM | CAN_SPIN | CAN_BLOCK | CAN_VIEW | CAN_LOAN | CAN_ADAPT)

const struct transport transport_ringbus = {
	.name = "ringbus",
	.help = "ringbus by event handle, single_sender",
	.can = RINGBUS_CAN | CAN_FAN,
	.setup = ringbus_setup,
	.open = ringbus_open,
	.ready = ringbus_ready_event,
	.close = ringbus_end_close,
	.teardown = ringbus_teardown,
	LOOPS_OF(ringbus),
};

const struct transport transport_ringbus_contact = {
	.name = "ringbus-contact",
	.help = "ringbus by contact with an address, single_sender",
	.can = RINGBUS_CAN,
	.setup = ringbus_setup,
	.open = ringbus_open_contact,
	.ready = ringbus_ready_contact,
	.close = ringbus_end_close,
	.teardown = ringbus_teardown,
	LOOPS_OF(ringbus_contact),
};

const struct transport transport_ringbus_locked = {
	.name = "ringbus-locked",
	.help = "ringbus by event handle, sends locked (the default)",
	.can = RINGBUS_CAN | CAN_FAN | CAN_THREADS,
	.setup = ringbus_setup,
	.open = ringbus_open_locked,
	.ready = ringbus_ready_event,
	.close = ringbus_end_close,
	.teardown = ringbus_teardown,
	LOOPS_OF(ringbus),
};

const struct transport transport_ringbus_signal = {
	.name = "ringbus-signal",
	.help = "ringbus signals",
	.can = CAN_RTT | CAN_STREAM | CAN_SPIN | CAN_BLOCK | CAN_COUNT | CAN_ADAPT,
	.setup = ringbus_setup,
	.open = ringbus_open_contact,
	.ready = ringbus_ready_contact,
	.close = ringbus_end_close,
	.teardown = ringbus_teardown,
	LOOPS_OF(ringbus_signal),
};

/* loops.h: the measured loops, the same for all transports.
 *
 * send(end, data, size) returns 1 when the message was taken, 0 to be called again, or a negative
 * errno. take(end, sink) hands what it got to sink_message() and returns 0 when there was nothing,
 * or a negative errno. With WAIT_SPIN neither sleeps. Both are constants here, so the compiler
 * inlines them.
 */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include "transport.h"

#define LOOP_INLINE static inline __attribute__((always_inline))

typedef int (*loop_send)(void *end, const void *data, size_t size);
typedef int (*loop_take)(void *end, struct sink *sink);

LOOP_INLINE int loop_push(struct bench *bench, void *end, const void *data, loop_send send)
{
	unsigned looks = 0;
	int r;

	while ((r = send(end, data, bench->size)) == 0)
		bench_idle(bench, &looks);
	return r;
}

LOOP_INLINE int loop_pull(struct bench *bench, void *end, struct sink *sink, loop_take take)
{
	unsigned looks = 0;
	int r;

	while ((r = take(end, sink)) == 0)
		bench_idle(bench, &looks);
	return r;
}

/* Round trips: a tenth to warm up, then measured. One reading of the clock for each. */
LOOP_INLINE int loop_ping(struct bench *bench, void *end, struct flow *flow, loop_send send,
			  loop_take take)
{
	uint64_t warm = bench->count ? bench->count / 10 : UINT64_MAX;
	uint64_t total = bench->count ? bench->count : UINT64_MAX;
	uint64_t before = clock_ticks();
	uint64_t warm_until = before + clock_from_ns(bench->duration_ns / 10);
	uint64_t until = before + clock_from_ns(bench->duration_ns);
	bool timed = false;
	uint64_t last = 0;

	for (uint64_t i = 0; !last; i++) {
		uint64_t now;
		int r;

		last = i + 1 >= total || (!bench->count && before >= until) ? MESSAGE_END : 0;
		r = loop_push(bench, end, source_prepare(&flow->source, i, last), send);
		if (r < 0)
			return r;
		r = loop_pull(bench, end, &flow->sink, take);
		if (r < 0)
			return r;
		now = clock_ticks();
		if (timed) {
			hist_add(&flow->hist, now - before);
		} else if (i >= warm || (!bench->count && now >= warm_until)) {
			flow_start(flow);
			timed = true;
			now = clock_ticks();
		}
		before = now;
	}
	flow_stop(flow, flow->hist.count);
	return 0;
}

#define LOOP_WARM                                                                                \
	32 /* messages before a receiver's time and calls count: the first ones make connections \
	    */

static inline bool loop_warm(struct flow *flow)
{
	if (flow->sink.received < LOOP_WARM)
		return false;
	flow_start(flow);
	return true;
}

LOOP_INLINE int loop_pong(struct bench *bench, void *end, struct flow *flow, loop_send send,
			  loop_take take)
{
	bool timed = false;

	while (flow->sink.ends) {
		int r = loop_pull(bench, end, &flow->sink, take);

		if (r < 0)
			return r;
		timed = timed || loop_warm(flow);
		for (; flow->sink.answered < flow->sink.received; flow->sink.answered++) {
			r = loop_push(bench, end, flow_answer(flow), send);
			if (r < 0)
				return r;
		}
	}
	flow_stop(flow, flow->sink.answered > LOOP_WARM ? flow->sink.answered - LOOP_WARM : 0);
	return 0;
}

/* A stream: a fifth to warm up, then measured until the last message. */
LOOP_INLINE int loop_feed(struct bench *bench, void *end, struct flow *flow, loop_send send,
			  loop_take take)
{
	uint64_t ahead = (flow->source.mask + 1) / 2;
	uint64_t look = bench->size >= 4096 ? 0 : 63;
	uint64_t warm = bench->count ? bench->count / 5 : UINT64_MAX;
	uint64_t total = bench->count ? bench->count : UINT64_MAX;
	uint64_t before = clock_ticks();
	uint64_t until = before + clock_from_ns(bench->duration_ns / 5);
	uint64_t first = UINT64_MAX;

	(void)take;
	for (uint64_t i = 0; i < ahead; i++)
		source_prepare(&flow->source, i, 0);
	for (uint64_t i = 0;; i++) {
		const unsigned char *message;
		uint64_t last = i + 1 >= total ? MESSAGE_END : 0;
		int r;

		if (__builtin_expect((i & look) == 0 || i == warm, 0)) {
			if (first == UINT64_MAX) {
				if (i >= warm || (!bench->count && clock_ticks() >= until)) {
					first = i;
					flow_start(flow);
					until = before + clock_from_ns(bench->duration_ns);
				}
			} else if (!bench->count && clock_ticks() >= until) {
				last = MESSAGE_END;
			}
		}
		source_prepare(&flow->source, i + ahead, 0);
		message = last ? source_prepare(&flow->source, i, last)
			       : source_message(&flow->source, i);
		r = loop_push(bench, end, message, send);
		if (r < 0)
			return r;
		if (last) {
			flow->sent = i + 1 - first;
			break;
		}
	}
	flow_stop(flow, flow->sent);
	return 0;
}

LOOP_INLINE int loop_drain(struct bench *bench, void *end, struct flow *flow, loop_send send,
			   loop_take take)
{
	bool timed = false;

	(void)send;
	while (flow->sink.ends) {
		int r = loop_pull(bench, end, &flow->sink, take);

		if (r < 0)
			return r;
		timed = timed || loop_warm(flow);
	}
	flow_stop(flow, flow->sink.received > LOOP_WARM ? flow->sink.received - LOOP_WARM : 0);
	return 0;
}

/* One message each pace_ns. The time of the send call is what is measured. */
LOOP_INLINE int loop_pace(struct bench *bench, void *end, struct flow *flow, loop_send send,
			  loop_take take)
{
	uint64_t step = clock_from_ns(bench->pace_ns);
	uint64_t total = bench->count ? bench->count : bench->duration_ns / bench->pace_ns + 1;
	uint64_t due = clock_ticks() + step;

	(void)take;
	flow_start(flow);
	for (uint64_t i = 0; i < total; i++) {
		uint64_t flag = i + 1 == total ? MESSAGE_END : 0;
		const unsigned char *message = source_prepare(&flow->source, i, flag);
		uint64_t before, now;
		int r;

		while ((before = clock_ticks()) < due)
			cpu_pause();
		r = loop_push(bench, end, message, send);
		if (r < 0)
			return r;
		now = clock_ticks();
		hist_add(&flow->hist, now - before);
		due += step;
		if (now > due)
			due = now + step;
	}
	flow->sent = total;
	flow_stop(flow, total);
	return 0;
}

/* Makes the five loops of a transport; LOOPS_OF(stem) names them in its struct transport. */
#define BENCH_LOOP(stem, loop, send, take)                                          \
	static int stem##_##loop(struct bench *bench, void *end, struct flow *flow) \
	{                                                                           \
		return loop_##loop(bench, end, flow, send, take);                   \
	}
#define BENCH_LOOPS(stem, send, take)       \
	BENCH_LOOP(stem, ping, send, take)  \
	BENCH_LOOP(stem, pong, send, take)  \
	BENCH_LOOP(stem, feed, send, take)  \
	BENCH_LOOP(stem, drain, send, take) \
	BENCH_LOOP(stem, pace, send, take)
#define LOOPS_OF(stem)                                                                        \
	.ping = stem##_ping, .pong = stem##_pong, .feed = stem##_feed, .drain = stem##_drain, \
	.pace = stem##_pace

#endif

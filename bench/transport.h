/* transport.h: what the harness asks of a way to move messages.
 *
 * To add one: copy t_pipe.c, write setup, open, a send and a take, say BENCH_LOOPS(), and name the
 * struct transport in the table of transports.c. A run has one sending process (number 0) and one
 * or more receiving ones (1, 2, ...); in a round trip the receiver sends each message back. All
 * messages of a run have bench->size bytes.
 *
 *	setup     in the parent, before the processes start: files, sockets, shared memory
 *	open      in each process: process 0 first, then the others
 *	ready     in each process, after all have opened (may be NULL)
 *	ping ...  the measured loops, made by BENCH_LOOPS() from send and take, which they inline
 *	close     in each process (may be NULL)
 *	teardown  in the parent: nothing may be left behind
 *
 * Functions return 0 or a negative errno; bench_explain() sets the words for it.
 */
#ifndef BENCH_TRANSPORT_H
#define BENCH_TRANSPORT_H

#include "clock.h"
#include "hist.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define BENCH_RECEIVERS_MAX 64
#define BENCH_CPUS_MAX 256
#define BENCH_THREADS_MAX 2

enum bench_wait {
	WAIT_SPIN,  /* polls, never sleeps (yields when there are more processes than processors) */
	WAIT_BLOCK, /* sleeps when there is nothing, after spin_ns of polling */
	WAIT_ADAPTIVE, /* as the transport does by itself; without own policy: 50 us of polling,
			  then sleep */
};

enum bench_flow {
	FLOW_RTT,    /* one message there and back at a time */
	FLOW_STREAM, /* as many as go one way */
	FLOW_PACED,  /* one way, one each pace_ns: what a send costs while the receiver sleeps */
};

enum {
	CAN_RTT = 1,
	CAN_STREAM = 2,
	CAN_FAN = 4, /* more than one receiver */
	CAN_SPIN = 8,
	CAN_BLOCK = 16,
	CAN_VIEW = 32,	    /* the receiver can look at messages in place */
	CAN_LOAN = 64,	    /* the sender can write in place */
	CAN_THREADS = 128,  /* several threads of the sender may send */
	CAN_COUNT = 256,    /* carries counts, no content: size does not matter */
	CAN_ADAPT = 512,    /* has a policy for WAIT_ADAPTIVE */
	CAN_ONE = 1024,	    /* has no receiver: the sender's own loop is the figure */
	HAS_THREADS = 2048, /* threads of its own, which take the processor from each other */
};

struct transport;

/* One run: what was asked, then what the transport's setup made. */
struct bench {
	const struct transport *transport;
	enum bench_flow flow;
	enum bench_wait wait;
	uint64_t spin_ns;
	size_t size;
	uint64_t count; /* messages; 0: as many as go in duration_ns */
	uint64_t duration_ns;
	uint64_t pace_ns;
	unsigned receivers;
	unsigned threads; /* sending threads of process 0 */
	unsigned nodes;	  /* ringbus: how many the bus has in all, 0: no more than needed */
	unsigned events;  /* ringbus: how many it has beside those in use */
	bool copy;	  /* the receiver copies each message out */
	bool loan;	  /* the sender writes in place */
	bool untouched;	  /* only the first 8 bytes are written and read */
	size_t ring_bytes;
	unsigned cpus[BENCH_CPUS_MAX];
	unsigned cpu_count;
	bool crowded; /* more processes than processors: yield instead of spinning on */

	size_t ring_used; /* set by setup where rings exist: bytes of the ring really used */
	void *state;	  /* the transport's own, set by setup */
};

/* The messages that process 0 sends: eight buffers, so that a sequence number is written long
 * before it is copied. */
struct source {
	unsigned char *base;
	size_t stride;
	size_t size;
	uint64_t mask;
	uint64_t tag; /* number of the sending thread << 56 */
	bool untouched;
};

#define MESSAGE_END (1ull << 63)
#define MESSAGE_SEQUENCE ((1ull << 56) - 1)

/* What a receiver has seen. */
struct sink {
	uint64_t received;
	uint64_t answered; /* round trips: of those, by loop_pong() or where they came */
	uint64_t next[BENCH_THREADS_MAX];
	uint64_t lost;
	uint64_t bad;  /* wrong content, order or size */
	uint64_t sum;  /* of the words that are the same in each message */
	uint64_t seen; /* keeps untold reads alive */
	size_t size;
	uint64_t limit; /* CAN_COUNT: ended when so many came */
	unsigned ends;	/* last messages still to come */
	bool untouched;
};

/* What one process works with and leaves behind. In memory that the parent sees. */
struct flow {
	struct sink sink;
	struct source source;
	struct hist hist;    /* ticks: round trips; paced: send calls */
	uint64_t start, end; /* ticks */
	uint64_t sent;	     /* since start */
	uint64_t moved;	     /* since start, where there is no receiver */
	uint64_t cpu_ns, cpu_start_ns;
	uint64_t switches; /* involuntary, in the timed part */
	uint64_t sleeps;   /* voluntary */
	uint64_t timed;	   /* 1 while the timed part runs: system calls are counted */
	uint64_t syscalls;
	uint64_t waits, wakes; /* on futexes, among them */
	uint64_t messages;     /* in the timed part, for the counts above */
	int error;
	char explain[160];
};

struct transport {
	const char *name;
	const char *help;
	unsigned can;
	size_t size_max; /* 0: no limit */
	int (*setup)(struct bench *bench);
	int (*open)(struct bench *bench, unsigned self, void **end);
	int (*ready)(struct bench *bench, void *end);
	void (*close)(struct bench *bench, void *end);
	void (*teardown)(struct bench *bench);
	int (*ping)(struct bench *bench, void *end, struct flow *flow);
	int (*pong)(struct bench *bench, void *end, struct flow *flow);
	int (*feed)(struct bench *bench, void *end, struct flow *flow);
	int (*drain)(struct bench *bench, void *end, struct flow *flow);
	int (*pace)(struct bench *bench, void *end, struct flow *flow);
};

extern const struct transport *const transports[];
const struct transport *transport_find(const char *name, size_t length);

/* Sets the words for the error that this process is about to return; returns error. */
int bench_explain(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The words last set in this process. */
const char *bench_explained(void);
/* Zeroed memory that all processes of the run share; huge pages are not asked for. NULL: no memory.
 */
void *bench_share(size_t bytes);
/* A close for ends, a setup for addresses of this process, a teardown for states of one piece. */
void bench_close(struct bench *bench, void *end);
int bench_address(struct bench *bench, const char *scheme);
void bench_forget(struct bench *bench);
/* Marks the beginning and the end of the timed part of this process. */
void flow_start(struct flow *flow);
void flow_stop(struct flow *flow, uint64_t messages);

static inline uint64_t message_word(const void *at)
{
	uint64_t word;

	memcpy(&word, at, sizeof(word));
	return word;
}

static inline unsigned char *source_message(const struct source *source, uint64_t sequence)
{
	return source->base + (sequence & source->mask) * source->stride;
}

/* Writes a message's changing words: the first 8 bytes and, when there are 16, the last 8. */
static inline unsigned char *source_prepare(struct source *source, uint64_t sequence, uint64_t flag)
{
	unsigned char *message = source_message(source, sequence);
	uint64_t word = sequence | source->tag | flag;

	memcpy(message, &word, sizeof(word));
	if (source->size >= 16 && !source->untouched)
		memcpy(message + source->size - sizeof(word), &word, sizeof(word));
	return message;
}

/* The next answer of a round trip; its sink counts it once it was sent. */
static inline unsigned char *flow_answer(struct flow *flow)
{
	return source_prepare(&flow->source, flow->sink.answered,
			      flow->sink.ends ? 0 : MESSAGE_END);
}

static inline uint64_t message_sum(const unsigned char *data, size_t size)
{
	uint64_t sum = 0;

	for (size_t at = 64; at + 16 <= size; at += 64)
		sum += message_word(data + at);
	return sum;
}

/* Takes one message: reads a word of each line, checks content and order. */
static inline void sink_message(struct sink *sink, const void *data, size_t size)
{
	uint64_t word = message_word(data);
	unsigned thread = (unsigned)(word >> 56) & (BENCH_THREADS_MAX - 1);
	uint64_t sequence = word & MESSAGE_SEQUENCE;

	sink->received++;
	if (__builtin_expect(size != sink->size, 0)) {
		sink->bad++;
		return;
	}
	if (!sink->untouched && size >= 16) {
		const unsigned char *bytes = data;

		if (__builtin_expect(message_word(bytes + size - 8) != word, 0))
			sink->bad++;
		if (size >= 80 && __builtin_expect(message_sum(bytes, size) != sink->sum, 0))
			sink->bad++;
	}
	if (__builtin_expect(sequence != sink->next[thread], 0)) {
		if (sequence > sink->next[thread])
			sink->lost += sequence - sink->next[thread];
		else
			sink->bad++;
	}
	sink->next[thread] = sequence + 1;
	if (__builtin_expect((word & MESSAGE_END) != 0, 0))
		sink->ends--;
}

/* Takes count messages without content. */
static inline void sink_count(struct sink *sink, uint64_t count)
{
	sink->received += count;
	if (sink->received >= sink->limit)
		sink->ends = 0;
}

/* One empty look. */
static inline void bench_idle(const struct bench *bench, unsigned *looks)
{
	cpu_pause();
	if (bench->crowded && ++*looks >= 16) {
		*looks = 0;
		sched_yield();
	}
}

#endif

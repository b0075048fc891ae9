/* ringbus-bench.h: what the two halves of the verb bench share: ringbus-bench.c sets up and prints,
 * ringbus-bench-pair.c is what its two child processes do. */
#ifndef RINGBUS_BENCH_H
#define RINGBUS_BENCH_H

#include "ringbus-verbs.h"

#define BENCH_SIZES_MAX 16
#define BENCH_SLICES 5 /* odd: a median is one of them */

struct bench_row {
	uint64_t size;
	uint64_t rtt_count, rtt_p50_ns, rtt_p99_ns;
	uint64_t messages, stream_ns; /* received, and from the first to the last */
	double line_ns[BENCH_SLICES]; /* cache line there and back */
	double to_line[BENCH_SLICES]; /* median round trip just after it, divided by it */
};

/* Memory of parent and children. The children write results only. */
struct bench {
	unsigned rows;
	struct bench_row row[BENCH_SIZES_MAX];
	uint64_t duration_ns;
	int cpus[2];   /* -1: not bound */
	bool one_cpu;  /* nobody spins */
	unsigned port; /* of the bus */
	char directory[64];
	struct ringbus_address address[2];
	char why[256];		      /* of the first failure */
	_Alignas(64) uint64_t failed; /* 1: why is being written or stands */
	_Alignas(64) uint64_t met;    /* how often a child has come to a meeting */
	_Alignas(64) uint64_t line;   /* the word of the ping-pong; alone in its line */
	_Alignas(64) char last[64];
};

/* All that child 0 or 1 does. 0, or -1 with bench->why. */
int bench_child(struct bench *bench, unsigned who);

#endif

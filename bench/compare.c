/* compare.c: the standard table. */
#include "cases.h"

#define ALL                                                                           \
	"line,spsc,ringbus,ringbus-contact,pipe,unix,unix-seqpacket,tcp,eventfd,zmq," \
	"nng,qb,iceoryx"
#define SOME "spsc,ringbus,ringbus-contact"
#define STREAMS SOME ",pipe,unix,zmq,nng,qb,iceoryx,cyclone"
#define FANS "spsc-fan,log,ringbus,pipe,unix,zmq,iceoryx"

struct standard {
	struct case_plan plan;
	enum bench_flow flow;
	size_t size;
	enum bench_wait wait;
	unsigned receivers, threads;
	size_t ring_bytes; /* 0: as asked */
	bool untouched;
};

#define RTT(what, bytes, names)                                                                 \
	{                                                                                       \
		.plan = {"rtt", what, names, "spsc,line", METRIC_LATENCY, .both_modes = false}, \
		.flow = FLOW_RTT, .size = bytes                                                 \
	}
#define RATE(what, bytes, names, both)                                           \
	{                                                                        \
		.plan =                                                          \
			{                                                        \
				"throughput",  what,	    names,               \
				"spsc,memcpy", METRIC_RATE, .both_modes = both}, \
		.flow = FLOW_STREAM, .size = bytes                               \
	}
#define RING(what, bytes)                                                                     \
	{                                                                                     \
		.plan = {"throughput", what, SOME, "spsc", METRIC_RATE, .both_modes = false}, \
		.flow = FLOW_STREAM, .size = 64, .ring_bytes = bytes                          \
	}
#define FAN(what, bytes, n, waits, limit)                                             \
	{                                                                             \
		.plan = {"fanout", what, FANS, limit, METRIC_RATE, .all_cpus = true}, \
		.flow = FLOW_STREAM, .size = bytes, .receivers = n, .wait = waits     \
	}

static const struct standard standards[] = {
	RTT("round trip 64 B, spinning", 64, ALL),
	RTT("round trip 1 KiB, spinning", 1024, SOME ",unix,zmq,iceoryx"),
	RTT("round trip 64 KiB, spinning", 65536, SOME ",unix,zmq,iceoryx"),
	RTT("round trip 1 MiB, spinning", 1 << 20, SOME ",unix,zmq,iceoryx"),
	{.plan = {"rtt", "round trip 64 KiB, loan, not touched", "spsc,ringbus,iceoryx",
		  "spsc,line", METRIC_LATENCY, .both_modes = false},
	 .flow = FLOW_RTT,
	 .size = 65536,
	 .untouched = true},
	{.plan = {"rtt", "round trip 1 MiB, loan, not touched", "spsc,ringbus,iceoryx", "spsc,line",
		  METRIC_LATENCY, .both_modes = false},
	 .flow = FLOW_RTT,
	 .size = 1 << 20,
	 .untouched = true},
	RATE("throughput 8 B", 8, SOME ",memcpy", false),
	RATE("throughput 64 B", 64, STREAMS ",ringbus-locked,memcpy", true),
	RATE("throughput 256 B", 256, SOME ",memcpy", false),
	RATE("throughput 1 KiB", 1024, STREAMS ",memcpy", true),
	RATE("throughput 4 KiB", 4096, SOME ",memcpy", true),
	RATE("throughput 64 KiB", 65536, STREAMS ",memcpy", true),
	RATE("throughput 1 MiB", 1 << 20, STREAMS ",memcpy", true),
	{.plan = {"throughput", "descriptors, 1 MiB loans not touched", "spsc,ringbus,iceoryx",
		  "spsc", METRIC_RATE, .both_modes = false},
	 .flow = FLOW_STREAM,
	 .size = 1 << 20,
	 .untouched = true},
	{.plan = {"throughput", "throughput 64 B, two sending threads", "ringbus-locked", "",
		  METRIC_RATE, .both_modes = false},
	 .flow = FLOW_STREAM,
	 .size = 64,
	 .threads = 2},
	RING("throughput 64 B, ring of 64 KiB", 64 << 10),
	RING("throughput 64 B, ring of 1 MiB", 1 << 20),
	RING("throughput 64 B, ring of 4 MiB", 4 << 20),
	FAN("fan-out 64 B to 1", 64, 1, WAIT_ADAPTIVE, "spsc-fan"),
	FAN("fan-out 64 B to 4", 64, 4, WAIT_ADAPTIVE, "spsc-fan"),
	FAN("fan-out 64 B to 16", 64, 16, WAIT_ADAPTIVE, "spsc-fan"),
	FAN("fan-out 64 B to 16, yielding", 64, 16, WAIT_SPIN, "spsc-fan"),
	FAN("fan-out 64 KiB to 4", 65536, 4, WAIT_ADAPTIVE, "log"),
	FAN("fan-out 64 KiB to 16", 65536, 16, WAIT_ADAPTIVE, "log"),
};

static int compare_add(struct table *table, const struct request *request,
		       const struct standard *standard)
{
	struct bench bench = request->bench;

	bench.flow = standard->flow;
	bench.size = standard->size;
	bench.wait = standard->wait;
	bench.spin_ns = standard->wait == WAIT_ADAPTIVE ? 50000 : 0;
	bench.receivers = standard->receivers ? standard->receivers : 1;
	bench.threads = standard->threads ? standard->threads : 1;
	bench.untouched = bench.loan = standard->untouched;
	bench.copy = false;
	if (standard->ring_bytes)
		bench.ring_bytes = standard->ring_bytes;
	return case_add(table, request, &standard->plan, &bench);
}

int cases_compare(struct table *table, const struct request *request)
{
	int r = 0;

	for (size_t i = 0; i < sizeof(standards) / sizeof(standards[0]) && r >= 0; i++)
		if (request->bench.cpu_count > 1)
			r = compare_add(table, request, &standards[i]);
	if (r >= 0)
		r = cases_wake(table, request);
	if (r >= 0)
		r = cases_signal(table, request);
#ifdef BENCH_RINGBUS
	if (r >= 0)
		r = cases_join(table, request);
	if (r >= 0)
		r = cases_scale(table, request);
#endif
	return r;
}

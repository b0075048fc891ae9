/* cases.c: the verbs' cases, and rows from cases. */
#include "cases.h"

#include <errno.h>

static bool case_possible(const struct case_plan *plan, const struct bench *bench, const char **why)
{
	unsigned can = bench->transport->can;
	unsigned flow = bench->flow == FLOW_RTT ? CAN_RTT : CAN_STREAM;

	*why = NULL;
	if (!(can & flow))
		*why = bench->flow == FLOW_RTT ? "has no round trips" : "has no stream";
	else if (plan->counts && !(can & CAN_COUNT))
		*why = "has no signals";
	else if (bench->receivers > 1 && !(can & CAN_FAN))
		*why = "has one receiver";
	else if (bench->wait != WAIT_SPIN && !(can & CAN_BLOCK))
		*why = "cannot sleep";
	else if (bench->untouched && !(can & CAN_VIEW))
		*why = "always copies";
	else if (bench->threads > 1 && !(can & CAN_THREADS))
		*why = "has one sending thread";
	else if (bench->transport->size_max && bench->size > bench->transport->size_max)
		*why = "does not carry this size";
	return !*why;
}

/* Transports without content need a count: there is no last message. */
static uint64_t case_count(const struct bench *bench)
{
	uint64_t each = bench->wait == WAIT_SPIN ? 500 : bench->cpu_count > 1 ? 60000 : 5000;

	if (bench->flow == FLOW_STREAM)
		return 1000000;
	if (bench->flow == FLOW_PACED)
		each = bench->pace_ns;
	return bench->duration_ns / each + 100;
}

static int case_row(struct table *table, const struct case_plan *plan, const struct bench *bench)
{
	struct row *row = table_add(table);
	struct bench *own;

	if (!row)
		return -ENOMEM;
	row->verb = plan->verb;
	row->title = plan->title;
	row->metric = plan->metric;
	row->group = table->groups;
	own = &row->bench;
	*own = *bench;
	if (!(own->transport->can & CAN_VIEW))
		own->copy = true;
	if (!(own->transport->can & CAN_LOAN))
		own->loan = false;
	if (own->transport->can & CAN_COUNT)
		own->size = 8;
	if (own->transport->can & CAN_COUNT && !own->count)
		own->count = case_count(own);
	if (own->wait == WAIT_SPIN && !(own->transport->can & CAN_SPIN))
		own->wait = WAIT_BLOCK; /* its threads would wait for the processor that the spinner
					   holds */
	if (own->wait == WAIT_ADAPTIVE && !(own->transport->can & CAN_ADAPT))
		own->wait = WAIT_BLOCK;
	return 0;
}

static int case_rows(struct table *table, const struct case_plan *plan, struct bench *bench)
{
	bool twice = plan->both_modes && bench->transport->can & CAN_LOAN && !bench->untouched &&
		     !strncmp(bench->transport->name, "ringbus", 7);
	int r = case_row(table, plan, bench);

	if (r == 0 && twice) {
		bench->copy = !bench->copy;
		r = case_row(table, plan, bench);
		bench->copy = !bench->copy;
	}
	return r;
}

static bool named(const char *names, const char *name)
{
	size_t length = strlen(name);

	for (const char *at = names; at && (at = strstr(at, name)) != NULL; at += length)
		if ((at == names || at[-1] == ',') && (at[length] == ',' || !at[length]))
			return true;
	return false;
}

/* The first limit that is among the rows from first on; else the raw line, if that is a limit here.
 */
static void case_limit(struct table *table, unsigned first, const char *limits)
{
	for (const char *at = limits; at && *at; at += strcspn(at, ","), at += *at == ',') {
		size_t length = strcspn(at, ",");

		for (unsigned i = first; i < table->count; i++) {
			const char *name = table->rows[i].bench.transport->name;

			if (strlen(name) != length || memcmp(name, at, length))
				continue;
			for (unsigned j = first; j < table->count; j++)
				table->rows[j].limit = name;
			return;
		}
	}
	for (unsigned j = first; named(limits, "line") && j < table->count; j++)
		table->rows[j].limit = "line";
}

int case_add(struct table *table, const struct request *request, const struct case_plan *plan,
	     const struct bench *asked)
{
	const char *names = request->transports ? request->transports : plan->transports;
	unsigned first = table->count;
	struct bench bench = *asked;
	size_t length;

	if (plan->one_cpu)
		bench.cpu_count = 1;
	else if (!plan->all_cpus && bench.cpu_count > 2)
		bench.cpu_count = 2;
	for (; *names; names += length, names += *names == ',') {
		const char *why;
		int r;

		length = strcspn(names, ",");
		bench.transport = transport_find(names, length);
		if (bench.transport && case_possible(plan, &bench, &why)) {
			r = case_rows(table, plan, &bench);
			if (r < 0)
				return r;
		} else if (bench.transport && request->asked) {
			fprintf(stderr, "%s: left out: %s %s\n", plan->title, bench.transport->name,
				why);
		}
	}
	case_limit(table, first, plan->limits);
	table->groups++;
	return (int)(table->count - first);
}

int cases_rtt(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "rtt",
		.title = "round trip",
		.transports = "line,spsc,ringbus,ringbus-contact,pipe,unix,tcp",
		.limits = request->bench.wait == WAIT_SPIN ? "spsc,line" : "futex,spsc",
		.metric = METRIC_LATENCY,
	};
	struct bench bench = request->bench;

	bench.flow = FLOW_RTT;
	return case_add(table, request, &plan, &bench);
}

int cases_throughput(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "throughput",
		.title = "throughput, one way",
		.transports = "spsc,ringbus,ringbus-contact,ringbus-locked,pipe,unix,zmq",
		.limits = "spsc,memcpy",
		.metric = METRIC_RATE,
	};
	struct bench bench = request->bench;

	bench.flow = FLOW_STREAM;
	return case_add(table, request, &plan, &bench);
}

int cases_fanout(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "fanout",
		.title = "fan-out",
		.transports = "spsc-fan,log,ringbus,pipe,unix,zmq,iceoryx,cyclone",
		.limits = request->bench.size < 4096 ? "spsc-fan,log" : "log,spsc-fan",
		.metric = METRIC_RATE,
		.all_cpus = true,
	};
	struct bench bench = request->bench;

	bench.flow = FLOW_STREAM;
	if (!request->subscribers_asked)
		bench.receivers = 4;
	if (!request->wait_asked)
		bench.wait = WAIT_ADAPTIVE;
	if (bench.wait == WAIT_ADAPTIVE)
		bench.spin_ns = 50000;
	return case_add(table, request, &plan, &bench);
}

#define WAKERS \
	"futex,spsc,ringbus,pipe,unix,unix-seqpacket,tcp,mq,eventfd,zmq,nng,qb,iceoryx,cyclone"

int cases_wake(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "wake",
		.title = "wake round trip across processors, both sleep",
		.transports = WAKERS,
		.limits = "futex",
		.metric = METRIC_LATENCY,
	};
	struct bench bench = request->bench;
	int r = 0;

	bench.flow = FLOW_RTT;
	bench.wait = request->wait_asked ? bench.wait : WAIT_BLOCK;
	if (bench.cpu_count > 1)
		r = case_add(table, request, &plan, &bench);
	plan.title = "wake round trip on one processor, both sleep";
	plan.one_cpu = true;
	if (r >= 0)
		r = case_add(table, request, &plan, &bench);
	plan.title = "time in send, 10 kHz, receiver asleep";
	plan.one_cpu = false;
	plan.limits = "futex,pipe";
	bench.flow = FLOW_PACED;
	bench.pace_ns = 100000;
	if (r >= 0 && bench.cpu_count > 1)
		r = case_add(table, request, &plan, &bench);
	return r;
}

int cases_signal(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "signal",
		.title = "signal to and fro across processors, both sleep",
		.transports = "futex,ringbus-signal,eventfd",
		.limits = "futex",
		.metric = METRIC_LATENCY,
		.counts = true,
	};
	struct bench bench = request->bench;
	int r = 0;

	bench.flow = FLOW_RTT;
	bench.wait = WAIT_BLOCK;
	bench.size = 8;
	if (bench.cpu_count > 1)
		r = case_add(table, request, &plan, &bench);
	plan.title = "signal to and fro on one processor, both sleep";
	plan.one_cpu = true;
	if (r >= 0)
		r = case_add(table, request, &plan, &bench);
	plan.title = "signals to a process that runs";
	plan.one_cpu = false;
	plan.transports = "ringbus-signal,eventfd";
	plan.limits = "eventfd";
	plan.metric = METRIC_RATE;
	bench.flow = FLOW_STREAM;
	bench.wait = WAIT_SPIN;
	if (r >= 0 && bench.cpu_count > 1)
		r = case_add(table, request, &plan, &bench);
	return r;
}

#ifdef BENCH_RINGBUS
static int case_special(struct table *table, const struct request *request, struct case_plan *plan,
			unsigned nodes, void (*measure)(struct row *, struct run *))
{
	struct request own = *request;
	struct bench bench = request->bench;
	int r;

	own.transports = NULL;
	plan->transports = "ringbus";
	bench.flow = FLOW_RTT;
	bench.wait = WAIT_ADAPTIVE;
	bench.nodes = nodes;
	r = case_add(table, &own, plan, &bench);
	for (unsigned i = table->count; r > 0 && i > table->count - (unsigned)r; i--)
		table->rows[i - 1].measure = measure;
	return r;
}

int cases_join(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "join",
		.title = "join: from open to the first message delivered",
		.metric = METRIC_LATENCY,
	};

	return case_special(table, request, &plan, 0, ringbus_measure_join);
}

/* The same twice: on an empty bus and on a crowded one; the first is the limit. */
static int scale_pair(struct table *table, const struct request *request, struct case_plan *plan,
		      struct bench *bench)
{
	struct request own = *request;
	unsigned first = table->count;
	unsigned group = table->groups;
	unsigned nodes = bench->nodes, events = bench->events;
	int r;

	own.transports = NULL;
	bench->nodes = bench->events = 0;
	r = case_add(table, &own, plan, bench);
	bench->nodes = nodes;
	bench->events = events;
	if (r > 0)
		r = case_add(table, &own, plan, bench);
	for (unsigned i = first; i < table->count; i++) {
		struct row *row = &table->rows[i];

		row->group = group;
		snprintf(row->note, sizeof(row->note), "%u nodes, events: %u",
			 row->bench.nodes ? row->bench.nodes : 2, row->bench.events + 1);
	}
	table->groups = group + 1;
	return r;
}

int cases_scale(struct table *table, const struct request *request)
{
	struct case_plan plan = {
		.verb = "scale",
		.title = "round trip among idle nodes",
		.transports = "ringbus",
		.limits = "ringbus",
		.metric = METRIC_LATENCY,
	};
	struct bench bench = request->bench;
	int r;

	bench.flow = FLOW_RTT;
	bench.nodes = 256;
	r = scale_pair(table, request, &plan, &bench);
	plan.title = "emit among idle nodes and events";
	plan.metric = METRIC_RATE;
	bench.flow = FLOW_STREAM;
	bench.events = 10000;
	if (r >= 0)
		r = scale_pair(table, request, &plan, &bench);
	plan.limits = "";
	plan.metric = METRIC_LATENCY;
	plan.title = "64 nodes asleep: processor time and memory";
	if (r >= 0)
		r = case_special(table, request, &plan, 64, ringbus_measure_idle);
	plan.title = "memory of a talking pair";
	if (r >= 0)
		r = case_special(table, request, &plan, 2, ringbus_measure_memory);
	return r;
}
#else
static int cases_none(void)
{
	fprintf(stderr, "this ringbus-bench was built without ringbus\n");
	return -ENOTSUP;
}

int cases_join(struct table *table, const struct request *request)
{
	(void)table;
	(void)request;
	return cases_none();
}

int cases_scale(struct table *table, const struct request *request)
{
	(void)table;
	(void)request;
	return cases_none();
}
#endif

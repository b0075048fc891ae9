/* cases.h: from what the user asked to rows. */
#ifndef BENCH_CASES_H
#define BENCH_CASES_H

#include "row.h"

struct request {
	const char *transports; /* names with commas; NULL: the verb's own */
	bool asked;		/* the user named them: say why one is left out */
	bool wait_asked, size_asked, subscribers_asked;
	bool copy_asked; /* --copy or --borrow */
	struct bench bench;
	unsigned runs, budget_s;
	bool json, syscalls;
	const char *report;
};

/* One case: rows that are compared with each other. */
struct case_plan {
	const char *verb, *title;
	const char *transports;
	const char
		*limits; /* names with commas: the first that is measured; "line" is always there */
	enum row_metric metric;
	bool one_cpu;	 /* all processes on one processor */
	bool all_cpus;	 /* receivers on all but the first, else on the second */
	bool counts;	 /* only transports without content */
	bool both_modes; /* ringbus: in place and copied out */
};

/* Adds a row for each transport that can do it. Returns the number of rows, or -ENOMEM. */
int case_add(struct table *table, const struct request *request, const struct case_plan *plan,
	     const struct bench *bench);

/* The verbs. */
int cases_rtt(struct table *table, const struct request *request);
int cases_throughput(struct table *table, const struct request *request);
int cases_fanout(struct table *table, const struct request *request);
int cases_wake(struct table *table, const struct request *request);
int cases_signal(struct table *table, const struct request *request);
int cases_join(struct table *table, const struct request *request);
int cases_scale(struct table *table, const struct request *request);
int cases_compare(struct table *table, const struct request *request);

#ifdef BENCH_RINGBUS
/* ringbus_join.c, ringbus_scale.c */
void ringbus_measure_join(struct row *row, struct run *run);
void ringbus_measure_idle(struct row *row, struct run *run);
void ringbus_measure_memory(struct row *row, struct run *run);
#endif

#endif

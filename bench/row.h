/* row.h: a row of the table: one transport in one case, measured several times. */
#ifndef BENCH_ROW_H
#define BENCH_ROW_H

#include "run.h"

#define ROW_PASSES_MAX 64

/* What is compared with the limit: the smaller the better, or the larger the better. */
enum row_metric { METRIC_LATENCY, METRIC_RATE };

/* One pass's figures; times in nanoseconds. */
struct row_pass {
	double p50, p90, p99, p999, max, mean;
	double msgs_per_s;
	double cpu_tx_ns, cpu_rx_ns;
	double line_ns; /* mean of the raw line before and after */
	double line_before_ns, line_after_ns;
	double steal;
	uint64_t switches;
	double sleeps; /* for each message */
	bool disturbed;
};

struct row {
	const char *verb;
	const char *title; /* of the case: rows with the same title are compared */
	unsigned group;	   /* number of the case */
	enum row_metric metric;
	struct bench bench;
	const char *limit; /* name of the transport to compare with; "line": the raw line */
	unsigned passes;
	struct row_pass pass[ROW_PASSES_MAX];
	struct hist hist;
	uint64_t lost, bad;
	double syscalls; /* for each message; negative: not counted */
	double wakes;	 /* FUTEX_WAKE calls for each FUTEX_WAIT; negative: no such */
	size_t ring_used;
	int error;
	char explain[160];
	char note[160]; /* what else is to be said */
	/* how it is measured; NULL: by run_once() */
	void (*measure)(struct row *row, struct run *run);
};

struct table {
	struct row *rows;
	unsigned count, room;
	unsigned groups;
};

struct row_ratio {
	double median, low, high;
	unsigned like; /* passes in which both had like lines: only these count; 0: all count */
	bool known;
};

/* Adds a row; NULL: no memory. */
struct row *table_add(struct table *table);
void table_free(struct table *table);
/* Measures all rows passes times, taking turns; begins no pass that would not end within budget_s
 * seconds (0: any). Progress on standard error when that is a terminal. */
int table_measure(struct table *table, unsigned passes, unsigned budget_s, bool count_syscalls);
/* The figure that is compared. */
double row_figure(const struct row *row, const struct row_pass *pass);
double row_median(const struct row *row,
		  double (*figure)(const struct row *, const struct row_pass *));
/* This row's figure / the limit's of the same passes. */
struct row_ratio row_ratio(const struct table *table, const struct row *row);
const char *row_mode(const struct row *row);
const char *row_wait(const struct row *row);
void table_print(const struct table *table, FILE *out);
void table_json(const struct table *table, FILE *out);
/* Writes rows.json and one .hgrm for each row with latencies into the directory. */
int table_report(const struct table *table, const char *directory);
/* The machine as one JSON object. */
void machine_json(FILE *out);

#endif

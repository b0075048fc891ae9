/* row.c: measuring rows in turns and comparing them. */
#include "row.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

struct row *table_add(struct table *table)
{
	struct row *row;

	if (table->count == table->room) {
		unsigned room = table->room ? 2 * table->room : 64;
		struct row *rows = realloc(table->rows, room * sizeof(*rows));

		if (!rows)
			return NULL;
		table->rows = rows;
		table->room = room;
	}
	row = &table->rows[table->count++];
	memset(row, 0, sizeof(*row));
	row->syscalls = row->wakes = -1;
	return row;
}

void table_free(struct table *table)
{
	free(table->rows);
}

static void row_fail(struct row *row, const struct run *run)
{
	row->error = run->error;
	memcpy(row->explain, run->explain, sizeof(row->explain));
	if (!row->explain[0])
		snprintf(row->explain, sizeof(row->explain), "%s",
			 run->error == -ECHILD ? "a process died" : strerror(-run->error));
}

static void row_take(struct row *row, const struct run *run)
{
	struct row_pass *pass = &row->pass[row->passes];
	const struct hist *hist = &run->hist;
	double scale = clock_ns_per_tick;

	pass->p50 = hist_at(hist, 0.5, scale);
	pass->p90 = hist_at(hist, 0.9, scale);
	pass->p99 = hist_at(hist, 0.99, scale);
	pass->p999 = hist_at(hist, 0.999, scale);
	pass->max = (double)hist->max * scale;
	pass->mean = hist->count ? hist->sum / (double)hist->count * scale : 0;
	if (run->seconds > 0)
		pass->msgs_per_s = (double)run->messages / run->seconds;
	else if (pass->mean > 0)
		pass->msgs_per_s = 1e9 / pass->mean;
	pass->cpu_tx_ns = run->cpu_tx_ns;
	pass->cpu_rx_ns = run->cpu_rx_ns;
	pass->switches = run->switches;
	pass->sleeps = run->messages ? (double)run->sleeps / (double)run->messages : 0;
	pass->steal = run->steal;
	pass->disturbed = run->disturbed;
	row->lost += run->lost;
	row->bad += run->bad;
	row->ring_used = run->ring_used;
	hist_merge(&row->hist, hist);
}

static int row_measure(struct row *row, struct run *run, double line_before)
{
	struct row_pass *pass = &row->pass[row->passes];

	if (row->measure) {
		memset(run, 0, sizeof(*run));
		row->measure(row, run);
		if (run->error < 0)
			snprintf(run->explain, sizeof(run->explain), "%s", bench_explained());
	} else {
		run_once(&row->bench, false, run);
	}
	if (run->error < 0) {
		row_fail(row, run);
		return run->error == -EINTR ? -EINTR : 0;
	}
	row_take(row, run);
	pass->line_before_ns = line_before;
	pass->line_after_ns = run_line(&row->bench);
	pass->line_ns = (pass->line_before_ns + pass->line_after_ns) / 2;
	row->passes++;
	return 0;
}

static void progress(const char *what, const struct row *row)
{
	if (!isatty(STDERR_FILENO))
		return;
	if (row)
		fprintf(stderr, "\r\033[K%s: %s %s", what, row->title, row->bench.transport->name);
	else
		fprintf(stderr, "\r\033[K");
}

/* Counts system calls in short runs of their own, since tracing slows them down. */
static int table_count_syscalls(struct table *table, struct run *run)
{
	for (unsigned i = 0; i < table->count; i++) {
		struct row *row = &table->rows[i];
		struct bench bench = row->bench;

		if (row->measure || bench.nodes)
			continue;
		progress("counting system calls", row);
		bench.count = bench.wait == WAIT_SPIN && bench.size <= 65536 ? 2000 : 300;
		if (bench.flow == FLOW_PACED)
			bench.pace_ns = 1000000;
		run_once(&bench, true, run);
		if (run->error == -EINTR || run_interrupted)
			return -EINTR;
		if (run->error == 0 && run->messages)
			row->syscalls = (double)run->syscalls / (double)run->messages;
		if (run->error == 0 && run->waits)
			row->wakes = (double)run->wakes / (double)run->waits;
	}
	return 0;
}

static int table_pass(struct table *table, const char *name, struct run *run)
{
	double line = 0;

	for (unsigned i = 0; i < table->count; i++) {
		struct row *row = &table->rows[i];
		int r;

		if (row->error || (row->passes && row->note[0] && row->measure))
			continue; /* failed, or said all in the first pass */
		progress(name, row);
		if (line == 0 || (i && row[-1].group != row->group))
			line = run_line(&row->bench);
		r = row_measure(row, run, line);
		if (r < 0 || run_interrupted)
			return -EINTR;
		line = row->passes ? row->pass[row->passes - 1].line_after_ns : 0;
	}
	return 0;
}

int table_measure(struct table *table, unsigned passes, unsigned budget_s, bool count_syscalls)
{
	struct run *run = malloc(sizeof(*run));
	uint64_t began = clock_of(CLOCK_MONOTONIC);
	uint64_t longest = 0;
	char name[64];
	int r = run ? 0 : -ENOMEM;

	if (r == 0 && count_syscalls)
		r = table_count_syscalls(table, run);
	for (unsigned pass = 0; pass < passes && r == 0; pass++) {
		uint64_t now = clock_of(CLOCK_MONOTONIC), took;

		if (pass && budget_s && now - began + longest > budget_s * 1000000000ull)
			break;
		snprintf(name, sizeof(name), "pass %u of %u", pass + 1, passes);
		r = table_pass(table, name, run);
		took = clock_of(CLOCK_MONOTONIC) - now;
		longest = took > longest ? took : longest;
	}
	progress(NULL, NULL);
	free(run);
	return r;
}

double row_figure(const struct row *row, const struct row_pass *pass)
{
	return row->metric == METRIC_RATE ? pass->msgs_per_s : pass->p50;
}

static int compare_doubles(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double *values, unsigned count)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare_doubles);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double row_median(const struct row *row,
		  double (*figure)(const struct row *, const struct row_pass *))
{
	double values[ROW_PASSES_MAX];

	for (unsigned i = 0; i < row->passes; i++)
		values[i] = figure(row, &row->pass[i]);
	return median(values, row->passes);
}

static const struct row *row_limit(const struct table *table, const struct row *row)
{
	for (unsigned i = 0; row->limit && i < table->count; i++)
		if (table->rows[i].group == row->group &&
		    !strcmp(table->rows[i].bench.transport->name, row->limit))
			return &table->rows[i];
	return NULL;
}

/* Whether those that were to sleep did: two that happen to stay awake measure something else. */
static bool slept(const struct row *row, const struct row_pass *pass)
{
	return row->bench.wait != WAIT_BLOCK || row->bench.flow != FLOW_RTT || pass->sleeps >= 1;
}

/* Whether two measurements were made on the same kind of neighbouring processors. */
static bool alike(const struct row_pass *a, const struct row_pass *b)
{
	double low = a->line_ns < b->line_ns ? a->line_ns : b->line_ns;
	double high = a->line_ns < b->line_ns ? b->line_ns : a->line_ns;

	return high <= 1.5 * low;
}

struct row_ratio row_ratio(const struct table *table, const struct row *row)
{
	const struct row *limit = row_limit(table, row);
	bool line = !limit && row->limit && !strcmp(row->limit, "line");
	struct row_ratio ratio = {0};
	double all[ROW_PASSES_MAX], like[ROW_PASSES_MAX], *values = like;
	unsigned count = 0;

	for (unsigned i = 0; i < row->passes && (line || (limit && i < limit->passes)); i++) {
		double base = line ? row->pass[i].line_ns : row_figure(limit, &limit->pass[i]);
		double value = row_figure(row, &row->pass[i]);

		if (base <= 0 || value <= 0)
			continue;
		all[count++] = value / base;
		if (line || (alike(&row->pass[i], &limit->pass[i]) && slept(row, &row->pass[i]) &&
			     slept(limit, &limit->pass[i])))
			like[ratio.like++] = value / base;
	}
	if (ratio.like > 0)
		count = ratio.like;
	else
		values = all;
	if (count) {
		ratio.median = median(values, count);
		ratio.low = values[0];
		ratio.high = values[count - 1];
		ratio.known = true;
	}
	return ratio;
}

const char *row_mode(const struct row *row)
{
	const struct bench *bench = &row->bench;

	if (bench->transport->can & CAN_COUNT)
		return "count";
	if (bench->untouched)
		return bench->loan ? "loan, untouched" : "untouched";
	if (bench->loan)
		return bench->copy ? "loan, copy" : "loan";
	return bench->copy ? "copy" : "borrow";
}

const char *row_wait(const struct row *row)
{
	static const char *const names[] = {"spin", "block", "adaptive"};

	return names[row->bench.wait];
}

/* output.c: rows as a table for people, as JSON, as .hgrm files. */
#include "bench_version.h"
#include "row.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#define FIGURE(name)                                                                    \
	static double figure_##name(const struct row *row, const struct row_pass *pass) \
	{                                                                               \
		(void)row;                                                              \
		return pass->name;                                                      \
	}
FIGURE(p50)
FIGURE(p90)
FIGURE(p99)
FIGURE(p999)
FIGURE(max)
FIGURE(msgs_per_s)
FIGURE(cpu_tx_ns)
FIGURE(cpu_rx_ns)
FIGURE(line_ns)
FIGURE(sleeps)

static void print_time(FILE *out, double ns)
{
	if (ns <= 0)
		fprintf(out, " %9s", "-");
	else if (ns < 1e4)
		fprintf(out, " %6.0f ns", ns);
	else if (ns < 1e7)
		fprintf(out, " %6.1f us", ns / 1e3);
	else
		fprintf(out, " %6.1f ms", ns / 1e6);
}

static const char *size_text(size_t size, char text[32])
{
	if (size >= 1 << 20 && size % (1 << 20) == 0)
		snprintf(text, 32, "%zu MiB", size >> 20);
	else if (size >= 1 << 10 && size % (1 << 10) == 0)
		snprintf(text, 32, "%zu KiB", size >> 10);
	else
		snprintf(text, 32, "%zu B", size);
	return text;
}

static unsigned row_disturbed(const struct row *row)
{
	unsigned count = 0;

	for (unsigned i = 0; i < row->passes; i++)
		count += row->pass[i].disturbed;
	return count;
}

static void print_heading(const struct table *table, const struct row *row, FILE *out)
{
	const struct bench *bench = &row->bench;
	size_t bytes = bench->size;
	char size[32], ring[32];

	for (const struct row *other = row; other < table->rows + table->count; other++)
		if (other->group == row->group && other->bench.size > bytes)
			bytes = other->bench.size; /* those that carry counts have 8 */
	fprintf(out, "\n%s", row->title);
	fprintf(out, " (%s, ring %s, cpus %u", size_text(bytes, size),
		size_text(bench->ring_bytes, ring), bench->cpus[0]);
	for (unsigned i = 1; i < bench->cpu_count && i < 4; i++)
		fprintf(out, ",%u", bench->cpus[i]);
	if (bench->wait == WAIT_BLOCK)
		fprintf(out, ", spin %llu ns before sleep", (unsigned long long)bench->spin_ns);
	fprintf(out, ")\n");
	if (row->metric == METRIC_LATENCY)
		fprintf(out, "%-16s %-15s %-8s %9s %9s %9s %9s %14s %9s %8s %8s\n", "transport",
			"mode", "wait", "p50", "p99", "p99.9", "max", "x limit", "line", "cpu/msg",
			"calls");
	else
		fprintf(out, "%-16s %-15s %-8s %9s %9s %9s %14s %9s %8s %8s %8s\n", "transport",
			"mode", "wait", "M msg/s", "M del/s", "GB/s", "x limit", "line", "cpu tx",
			"cpu rx", "calls");
}

static void print_ratio(const struct table *table, const struct row *row, FILE *out)
{
	struct row_ratio ratio = row_ratio(table, row);
	char text[64] = "-";

	if (ratio.known)
		snprintf(text, sizeof(text), "%.2f (%.2f-%.2f)%s", ratio.median, ratio.low,
			 ratio.high, ratio.like ? "" : "!");
	fprintf(out, " %14s", text);
}

static void print_marks(const struct row *row, FILE *out)
{
	unsigned disturbed = row_disturbed(row);

	if (row->syscalls >= 0)
		fprintf(out, " %8.3g", row->syscalls);
	else
		fprintf(out, " %8s", "-");
	if (row->bench.wait == WAIT_BLOCK && row->bench.flow == FLOW_RTT && !row->measure &&
	    row_median(row, figure_sleeps) < 1)
		fprintf(out, "  stayed awake");
	if (row->wakes >= 0)
		fprintf(out, "  %.2f wakes a sleep", row->wakes);
	if (row->lost)
		fprintf(out, "  LOST %llu", (unsigned long long)row->lost);
	if (row->bad)
		fprintf(out, "  BAD %llu", (unsigned long long)row->bad);
	if (disturbed)
		fprintf(out, "  disturbed %u/%u", disturbed, row->passes);
	if (row->note[0])
		fprintf(out, "  %s", row->note);
	fputc('\n', out);
}

static void print_row(const struct table *table, const struct row *row, FILE *out)
{
	const struct bench *bench = &row->bench;
	double rate = row_median(row, figure_msgs_per_s);
	double deliveries = rate * (bench->receivers ? bench->receivers : 1);

	fprintf(out, "%-16s %-15s %-8s", bench->transport->name, row_mode(row), row_wait(row));
	if (row->error) {
		fprintf(out, " failed: %s\n", row->explain);
		return;
	}
	if (row->measure && !row->hist.count) {
		fprintf(out, " %s\n", row->note);
		return;
	}
	if (row->metric == METRIC_LATENCY) {
		print_time(out, row_median(row, figure_p50));
		print_time(out, row_median(row, figure_p99));
		print_time(out, row_median(row, figure_p999));
		print_time(out, row_median(row, figure_max));
		print_ratio(table, row, out);
		print_time(out, row_median(row, figure_line_ns));
		fprintf(out, " %5.0f ns",
			row_median(row, figure_cpu_tx_ns) + row_median(row, figure_cpu_rx_ns));
	} else {
		fprintf(out, " %9.3f %9.3f", rate / 1e6, deliveries / 1e6);
		if (bench->transport->can & CAN_COUNT)
			fprintf(out, " %9s", "-");
		else
			fprintf(out, " %9.3f", deliveries * (double)bench->size / 1e9);
		print_ratio(table, row, out);
		print_time(out, row_median(row, figure_line_ns));
		fprintf(out, " %5.0f ns %5.0f ns", row_median(row, figure_cpu_tx_ns),
			row_median(row, figure_cpu_rx_ns));
	}
	print_marks(row, out);
}

void table_print(const struct table *table, FILE *out)
{
	for (unsigned i = 0; i < table->count; i++) {
		const struct row *row = &table->rows[i];

		if (i == 0 || row[-1].group != row->group)
			print_heading(table, row, out);
		print_row(table, row, out);
	}
	if (table->count)
		fputs("\nx limit: this row's figure / the limit's of the same pass, median "
		      "(lowest-highest), where both had\nlike lines (!: nowhere). line: one cache "
		      "line to and fro, before and after.\n",
		      out);
}

static void json_text(FILE *out, const char *name, const char *text)
{
	fprintf(out, ",\"%s\":\"", name);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			fputc('\\', out);
		fputc((unsigned char)*text < 32 ? ' ' : *text, out);
	}
	fputc('"', out);
}

/* Negative: not known. */
static void json_number(FILE *out, const char *name, double value)
{
	if (value >= 0)
		fprintf(out, ",\"%s\":%.6g", name, value);
	else
		fprintf(out, ",\"%s\":null", name);
}

static void json_passes(const struct row *row, FILE *out)
{
	fprintf(out, ",\"passes\":[");
	for (unsigned i = 0; i < row->passes; i++) {
		const struct row_pass *pass = &row->pass[i];

		fprintf(out,
			"%s{\"p50_ns\":%.1f,\"p99_ns\":%.1f,\"msgs_per_s\":%.1f,\"line_before_ns\":"
			"%.1f,"
			"\"line_after_ns\":%.1f,\"steal\":%.4f,\"switches\":%llu,\"disturbed\":%s}",
			i ? "," : "", pass->p50, pass->p99, pass->msgs_per_s, pass->line_before_ns,
			pass->line_after_ns, pass->steal, (unsigned long long)pass->switches,
			pass->disturbed ? "true" : "false");
	}
	fprintf(out, "]");
}

static void json_settings(const struct row *row, FILE *out)
{
	const struct bench *bench = &row->bench;

	fprintf(out, "{\"record\":\"row\"");
	json_text(out, "verb", row->verb);
	json_text(out, "case", row->title);
	json_text(out, "transport", bench->transport->name);
	json_text(out, "mode", row_mode(row));
	json_text(out, "wait", row_wait(row));
	fprintf(out, ",\"size\":%zu,\"spin_ns\":%llu,\"subscribers\":%u,\"threads\":%u",
		bench->size, (unsigned long long)bench->spin_ns, bench->receivers, bench->threads);
	fprintf(out, ",\"ring_bytes\":%zu,\"cpus\":[",
		row->ring_used ? row->ring_used : bench->ring_bytes);
	for (unsigned i = 0; i < bench->cpu_count; i++)
		fprintf(out, "%s%u", i ? "," : "", bench->cpus[i]);
	fprintf(out, "]");
}

static void json_row(const struct table *table, const struct row *row, FILE *out)
{
	const struct bench *bench = &row->bench;
	double rate = row_median(row, figure_msgs_per_s);
	double deliveries = rate * (bench->receivers ? bench->receivers : 1);
	double tx = row_median(row, figure_cpu_tx_ns), rx = row_median(row, figure_cpu_rx_ns);
	struct row_ratio ratio = row_ratio(table, row);
	bool latency = row->metric == METRIC_LATENCY && row->hist.count;

	json_settings(row, out);
	json_number(out, "p50_ns", latency ? row_median(row, figure_p50) : -1);
	json_number(out, "p90_ns", latency ? row_median(row, figure_p90) : -1);
	json_number(out, "p99_ns", latency ? row_median(row, figure_p99) : -1);
	json_number(out, "p999_ns", latency ? row_median(row, figure_p999) : -1);
	json_number(out, "max_ns", latency ? row_median(row, figure_max) : -1);
	fprintf(out, ",\"msgs_per_s\":%.1f,\"deliveries_per_s\":%.1f,\"bytes_per_s\":%.1f", rate,
		deliveries,
		bench->transport->can & CAN_COUNT ? 0 : deliveries * (double)bench->size);
	fprintf(out, ",\"lost\":%llu,\"bad\":%llu", (unsigned long long)row->lost,
		(unsigned long long)row->bad);
	fprintf(out,
		",\"cpu_ns_per_msg\":%.1f,\"cpu_tx_ns_per_msg\":%.1f,\"cpu_rx_ns_per_msg\":%.1f",
		tx + rx, tx, rx);
	json_number(out, "syscalls_per_msg", row->syscalls);
	json_number(out, "wakes_per_sleep", row->wakes);
	fprintf(out, ",\"sleeps_per_msg\":%.4f", row_median(row, figure_sleeps));
	fprintf(out, ",\"line_ns\":%.1f", row_median(row, figure_line_ns));
	if (ratio.known) {
		json_text(out, "limit", row->limit);
		fprintf(out, ",\"ratio\":%.4f,\"ratio_low\":%.4f,\"ratio_high\":%.4f", ratio.median,
			ratio.low, ratio.high);
		fprintf(out, ",\"ratio_passes\":%u", ratio.like);
	}
	if (row->error)
		json_text(out, "error", row->explain);
	if (row->note[0])
		json_text(out, "note", row->note);
	fprintf(out, ",\"disturbed\":%u", row_disturbed(row));
	json_passes(row, out);
	fprintf(out, "}\n");
}

static void read_field(const char *path, const char *field, char *text, size_t size)
{
	char line[512];
	FILE *file = fopen(path, "re");

	snprintf(text, size, "unknown");
	while (file && fgets(line, sizeof(line), file)) {
		char *value = field ? strchr(line, ':') : line;

		if (field && (strncmp(line, field, strlen(field)) || !value))
			continue;
		value += field ? 1 : 0;
		value += strspn(value, " \t");
		value[strcspn(value, "\n")] = 0;
		snprintf(text, size, "%s", value);
		break;
	}
	if (file)
		fclose(file);
}

void machine_json(FILE *out)
{
	char model[256], hypervisor[256];
	struct utsname kernel;
	time_t now = time(NULL);
	char date[64];
	struct tm broken;

	uname(&kernel);
	strftime(date, sizeof(date), "%Y-%m-%d %H:%M UTC", gmtime_r(&now, &broken));
	read_field("/proc/cpuinfo", "model name", model, sizeof(model));
	read_field("/sys/hypervisor/type", NULL, hypervisor, sizeof(hypervisor));
	fprintf(out, "{\"record\":\"machine\"");
	json_text(out, "cpu", model);
	fprintf(out, ",\"processors\":%ld,\"memory_bytes\":%lld", sysconf(_SC_NPROCESSORS_ONLN),
		(long long)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
	json_text(out, "kernel", kernel.release);
	json_text(out, "architecture", kernel.machine);
	json_text(out, "hypervisor", hypervisor);
	json_text(out, "compiler", __VERSION__);
	json_text(out, "version", BENCH_VERSION);
	json_text(out, "peers", BENCH_PEERS);
	json_text(out, "date", date);
	fprintf(out, ",\"ns_per_tick\":%.6f}\n", clock_ns_per_tick);
}

void table_json(const struct table *table, FILE *out)
{
	machine_json(out);
	for (unsigned i = 0; i < table->count; i++)
		json_row(table, &table->rows[i], out);
}

static int report_hist(const struct row *row, unsigned number, const char *directory)
{
	char path[512];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%03u-%s-%s-%zu-%s.hgrm", directory, number, row->verb,
		 row->bench.transport->name, row->bench.size, row_wait(row));
	out = fopen(path, "we");
	if (!out)
		return -errno;
	hist_export(&row->hist, clock_ns_per_tick, out);
	return fclose(out) ? -errno : 0;
}

int table_report(const struct table *table, const char *directory)
{
	char path[512];
	FILE *out;
	int r = 0;

	if (mkdir(directory, 0777) && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof(path), "%s/rows.json", directory);
	out = fopen(path, "we");
	if (!out)
		return -errno;
	table_json(table, out);
	if (fclose(out))
		return -errno;
	for (unsigned i = 0; i < table->count && r == 0; i++)
		if (table->rows[i].hist.count)
			r = report_hist(&table->rows[i], i, directory);
	return r;
}

/* hist.c: the histogram's readers. */
#include "hist.h"

#include <math.h>

double hist_step;

void hist_merge(struct hist *into, const struct hist *from)
{
	for (unsigned i = 0; i < HIST_BUCKETS; i++)
		into->buckets[i] += from->buckets[i];
	into->count += from->count;
	into->sum += from->sum;
	if (from->max > into->max)
		into->max = from->max;
}

/* The middle of a bucket. */
static double hist_value(unsigned bucket)
{
	unsigned shift;

	if (bucket < 2 * HIST_SUB)
		return (double)bucket;
	shift = bucket / HIST_SUB - 1;
	return ((double)(bucket % HIST_SUB + HIST_SUB) + 0.5) * (double)(1ull << shift);
}

/* The place of the want-th value among those that one step of the clock made equal, from -0.5 to
 * 0.5, given the bucket it is in and how many come before that. */
static double hist_inside(const struct hist *hist, unsigned bucket, uint64_t seen, uint64_t want)
{
	unsigned first = bucket, last = bucket;
	uint64_t among = hist->buckets[bucket];

	while (first > 0 && hist_value(bucket) - hist_value(first - 1) < hist_step / 2) {
		among += hist->buckets[--first];
		seen -= hist->buckets[first];
	}
	while (hist_value(last + 1) - hist_value(bucket) < hist_step / 2)
		among += hist->buckets[++last];
	return (double)(want - seen) / (double)among - 0.5;
}

double hist_at(const struct hist *hist, double share, double scale)
{
	uint64_t want = (uint64_t)ceil(share * (double)hist->count);
	uint64_t seen = 0;
	double value;

	if (hist->count == 0)
		return 0;
	if (want >= hist->count)
		return (double)hist->max * scale;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		if (seen + hist->buckets[i] < want || !hist->buckets[i]) {
			seen += hist->buckets[i];
			continue;
		}
		value = hist_value(i);
		if (hist_step > 0)
			value += hist_inside(hist, i, seen, want) * hist_step;
		return fmin(fmax(value, 0), (double)hist->max) * scale;
	}
	return (double)hist->max * scale;
}

/* *least: the value of the line before. Where a step of the clock covers several buckets, each is
 * spread over a step of its own, and the next value may come out a trifle lower. */
static void hist_export_line(const struct hist *hist, double scale, double share, double *least,
			     FILE *out)
{
	double value = fmax(hist_at(hist, share, scale), *least);
	double total = ceil(share * (double)hist->count);

	*least = value;
	if (share < 1)
		fprintf(out, "%12.3f %14.12f %10.0f %14.2f\n", value, share, total,
			1 / (1 - share));
	else
		fprintf(out, "%12.3f %14.12f %10.0f\n", value, share, total);
}

void hist_export(const struct hist *hist, double scale, FILE *out)
{
	double mean = hist->count ? hist->sum / (double)hist->count * scale : 0;
	double square = 0;
	double rest = 1, least = 0;

	fprintf(out, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
		"1/(1-Percentile)");
	/* five steps for each halving of what is left, as HdrHistogram writes it */
	for (unsigned half = 0; rest * (double)hist->count >= 1; half++, rest /= 2)
		for (unsigned step = 0; step < 5; step++)
			hist_export_line(hist, scale, 1 - rest + rest / 2 * step / 5, &least, out);
	hist_export_line(hist, scale, 1, &least, out);
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		double off = hist_value(i) * scale - mean;

		square += off * off * hist->buckets[i];
	}
	fprintf(out, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n", mean,
		hist->count ? sqrt(square / (double)hist->count) : 0);
	fprintf(out, "#[Max     = %12.3f, Total count    = %12llu]\n", (double)hist->max * scale,
		(unsigned long long)hist->count);
	fprintf(out, "#[Buckets = %12u, SubBuckets     = %12u]\n", HIST_BUCKETS / HIST_SUB,
		HIST_SUB);
}

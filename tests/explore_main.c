/* explore_main.c: runs all schedules of the scenarios of the explorer; see explore.h.
 *
 *	explore [NAME...]       scenarios whose name begins so; all without
 *
 * EXPLORE_SCALE    multiplies the number of schedules; 0: few (default 1)
 * EXPLORE_SEED     of the drawn schedules (1)
 * EXPLORE_REPLAY   the line that a failure printed: runs that one schedule and tells each step
 */
#include "explore.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned long scale, seed, total;
static unsigned passed, bad;
static const char *program;
static const char *const model_names[EX_MODELS] = {"sc", "tso", "weak"};

static void tell_failure(enum ex_model model)
{
	const char *separator = "";

	printf("FAILED %s %s: %s\n", ex_plan.scenario->name, model_names[model], ex_plan.why);
	printf("replay: EXPLORE_REPLAY=%s:%s:%u:%lu:", ex_plan.scenario->name, model_names[model],
	       ex_plan.bound, (unsigned long)ex_plan.priorities);
	for (unsigned i = 0; i < ex_plan.count; i++)
		if (ex_plan.choices[i].taken) {
			printf("%s%u=%u", separator, i, ex_plan.choices[i].taken);
			separator = ",";
		}
	printf(" %s\n", program);
	fflush(stdout);
}

/* The next list in depth-first order; false: there is none. */
static bool next_list(void)
{
	while (ex_plan.count > 0 && ex_plan.choices[ex_plan.count - 1].taken + 1 >=
					    ex_plan.choices[ex_plan.count - 1].of)
		ex_plan.count--;
	if (ex_plan.count == 0)
		return false;
	ex_plan.choices[ex_plan.count - 1].taken++;
	ex_plan.forced = ex_plan.count;
	return true;
}

/* All schedules with up to `limit` deviations, `most` at most. *complete: with less than so many
 * deviations all were run. */
static bool try_lists(enum ex_model model, unsigned limit, unsigned long most, unsigned long *ran,
		      unsigned *complete)
{
	unsigned long runs = 0;

	ex_plan.manner = EX_LIST;
	ex_plan.priorities = 0;
	*ran = 0;
	for (*complete = ex_plan.bound = 0; ex_plan.bound <= limit; *complete = ++ex_plan.bound) {
		ex_plan.forced = 0;
		do {
			if (*ran >= most || runs++ > 3 * most)
				return true;
			if (!ex_run()) {
				tell_failure(model);
				return false;
			}
			*ran += ex_plan.deviations == ex_plan.bound; /* the others ran before */
		} while (next_list());
	}
	return true;
}

static bool try_drawn(enum ex_model model, unsigned long number)
{
	static const unsigned often[] = {3, 8, 25, 80};

	ex_plan.manner = EX_DRAWN;
	ex_plan.forced = 0;
	ex_plan.bound = UINT32_MAX;
	for (unsigned long i = 0; i < number; i++) {
		ex_plan.random = (seed << 32) + i * 0x9e3779b97f4a7c15ull + 1;
		for (unsigned k = 0; k < 4; k++)
			ex_draw();
		ex_plan.one_in = often[ex_draw() % 4];
		ex_plan.priorities = ex_draw() & 1 ? ex_draw() : 0;
		if (!ex_run()) {
			tell_failure(model);
			return false;
		}
	}
	return true;
}

static double now(void)
{
	struct timespec ts;

	timespec_get(&ts, TIME_UTC);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static unsigned long scaled(unsigned long n)
{
	return scale > 0 ? n * scale / 3 : n / 40;
}

static bool try_model(const struct ex_scenario *s, enum ex_model model)
{
	unsigned long ran, drawn = scaled(s->drawn), most = scaled(s->most);
	double start = now();
	unsigned complete;
	bool ok;

	ex.model = model;
	ok = try_lists(model, s->bound[model], most, &ran, &complete);
	printf("%-24s %-5s %8lu in order", s->name, model_names[model], ran);
	if (complete > 0)
		printf(" (all with up to %u deviations)", complete - 1);
	total += ran;
	if (ok) {
		ok = try_drawn(model, drawn);
		total += drawn;
		printf(", %lu drawn", drawn);
	}
	printf(", %.1f s\n", now() - start);
	fflush(stdout);
	return ok;
}

static void run_scenario(const struct ex_scenario *s)
{
	bool ok = true;

	printf("%s: %s\n", s->name, s->claim);
	ex_prepare(s);
	for (unsigned m = 0; m < EX_MODELS && ok; m++)
		if (s->bound[m] > 0)
			ok = try_model(s, m);
	passed += ok;
	bad += !ok;
}

static const struct ex_scenario *next_scenario(unsigned i)
{
	static const struct ex_scenario *const *const lists[] = {ex_ring_scenarios,
								 ex_bus_scenarios,
								 ex_emission_scenarios};

	for (unsigned k = 0; k < rb_array_size(lists); k++)
		for (unsigned n = 0; lists[k][n]; n++)
			if (i-- == 0)
				return lists[k][n];
	return NULL;
}

/* name:model:ex_plan.bound:priority:choices */
static int replay(char *line)
{
	char *name = strtok(line, ":"), *model = strtok(NULL, ":"), *limit = strtok(NULL, ":");
	char *priority = strtok(NULL, ":"), *list = strtok(NULL, ": ");
	const struct ex_scenario *s;

	for (unsigned i = 0; (s = next_scenario(i)) && strcmp(s->name, name) != 0; i++)
		;
	if (!s || !model || !limit || !priority)
		return 2;
	for (unsigned m = 0; m < EX_MODELS; m++)
		if (strcmp(model, model_names[m]) == 0)
			ex.model = m;
	ex_plan.manner = EX_LIST;
	ex_plan.bound = (unsigned)strtoul(limit, NULL, 10);
	ex_plan.priorities = strtoul(priority, NULL, 10);
	for (char *at = strtok(list, ","); at; at = strtok(NULL, ",")) {
		unsigned i = (unsigned)strtoul(at, &at, 10);

		if (i >= EX_CHOICES || *at != '=')
			return 2;
		ex_plan.choices[i].taken = (uint32_t)strtoul(at + 1, NULL, 10);
		ex_plan.forced = i + 1;
	}
	ex_prepare(s);
	ex.tracing = true;
	if (ex_run()) {
		puts("it passes");
		return 0;
	}
	tell_failure(ex.model);
	return 1;
}

int main(int argc, char **argv)
{
	const char *line = getenv("EXPLORE_REPLAY");
	const struct ex_scenario *s;
	double start = now();

#if defined(__SANITIZE_THREAD__)
	puts("ThreadSanitizer does not know coroutines on stacks of our own");
	return 77;
#endif
	program = argv[0];
	scale = getenv("EXPLORE_SCALE") ? strtoul(getenv("EXPLORE_SCALE"), NULL, 10) : 1;
	seed = getenv("EXPLORE_SEED") ? strtoul(getenv("EXPLORE_SEED"), NULL, 10) : 1;
	if (line)
		return replay(strdup(line));
	for (unsigned i = 0; (s = next_scenario(i)); i++) {
		bool wanted = argc < 2;

		for (int k = 1; k < argc; k++)
			wanted |= strncmp(s->name, argv[k], strlen(argv[k])) == 0;
		if (wanted)
			run_scenario(s);
	}
	printf("%lu schedules in %.1f s\n", total, now() - start);
	printf("ledger: schedules %lu\n", total);
	printf("%u passed, %u failed, 0 skipped\n", passed, bad);
	return bad > 0 || passed == 0;
}

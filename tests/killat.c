/* killat.c: kills a real process at every instruction of the library; see killat.h.
 *
 * KILLAT_SEED: which places, where not all are taken. KILLAT_KILLS, KILLAT_STOPS, KILLAT_SERVICE,
 * KILLAT_IMAGES: how many. KILLAT_ALL=1: each instruction of each operation. KILLAT_ONLY: of this
 * operation only.
 * KILLAT_REPLAY=op:state:place[:mode]: one, KILLAT_TIMES times. KILLAT_JUDGE=1 judges the times
 * too. A place is OFFSET.HIT, hexadecimal in the library's text, or sN, the N-th stop at a system
 * call; it holds for one build.
 */
#include "killat.h"

#include <linux/futex.h>
#include <sys/syscall.h>

#define FAILURES_MAX 8u

static struct recording recordings[128];
static uint64_t seed;
static bool all_recorded; /* but for the service */

static struct job *jobs;
static size_t job_count, job_capacity;

/* ---- words between the controller and the actors ---- */

uint32_t word_get(const uint32_t *word)
{
	return __atomic_load_n(word, __ATOMIC_ACQUIRE);
}

void word_set(uint32_t *word, uint32_t value)
{
	__atomic_store_n(word, value, __ATOMIC_SEQ_CST);
	if (word >= &world->box[0].asked && (void *)word < (void *)world->current)
		syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

bool word_wait_change(uint32_t *word, uint32_t from, uint64_t timeout_ns)
{
	uint64_t end = harness_now_ns() + timeout_ns;

	while (word_get(word) == from) {
		struct timespec ts = {.tv_nsec = 20000000};

		if (harness_now_ns() > end)
			return false;
		syscall(SYS_futex, word, FUTEX_WAIT, from, &ts, NULL, 0);
	}
	return true;
}

/* ---- which places ---- */

static void push_job(const struct job *job)
{
	if (job_count == job_capacity) {
		job_capacity = job_capacity ? 2 * job_capacity : 4096;
		jobs = realloc(jobs, job_capacity * sizeof(*jobs));
		assert_non_null(jobs);
	}
	jobs[job_count++] = *job;
}

static void add_job(const struct test_case *c, const struct position *at, enum mode how)
{
	push_job(&(struct job){.on = c, .at = *at, .mode = how});
}

static void add_instructions(unsigned i, enum mode how)
{
	for (size_t k = 0; k < recordings[i].count; k++)
		if (place_is_first(&recordings[i].at[k]))
			add_job(&cases[i], &recordings[i].at[k], how);
}

static void add_random(size_t n, enum mode how, unsigned with, unsigned without)
{
	unsigned usable = 0;

	for (unsigned i = 0; i < case_count; i++)
		usable += recordings[i].count && (cases[i].flags & with) == with &&
			  !(cases[i].flags & without);
	for (unsigned i = 0; usable && n > 0; i = (i + 1) % case_count) {
		if (!recordings[i].count || (cases[i].flags & with) != with ||
		    cases[i].flags & without)
			continue;
		add_job(&cases[i], any_place(&recordings[i], &seed), how);
		n--;
	}
}

static void shuffle(void)
{
	for (size_t i = job_count; i > 1; i--) {
		size_t k = splitmix(&seed) % i;
		struct job job = jobs[i - 1];

		jobs[i - 1] = jobs[k];
		jobs[k] = job;
	}
}

/* ---- doing it ---- */

static bool is_asked_for(const struct test_case *c)
{
	const char *only = getenv("KILLAT_ONLY");

	return !only || strcmp(only, c->operation) == 0;
}

static void record(unsigned with, unsigned without)
{
	size_t steps = 0, instructions = 0, calls = 0;
	unsigned n = 0, primary = 0;
	uint64_t begin = harness_now_ns();

	for (unsigned i = 0; i < case_count; i++) {
		struct recording *r = &recordings[i];

		if ((cases[i].flags & with) != with || cases[i].flags & without ||
		    !is_asked_for(&cases[i]))
			continue;
		if (!case_record(&cases[i], r))
			continue;
		if (harness_number("KILLAT_VERBOSE", 0))
			print_message("  %s:%s: %zu executed, %zu instructions, %zu stops at "
				      "calls\n",
				      cases[i].operation, cases[i].state, r->steps, r->instructions,
				      r->calls);
		n++;
		steps += r->steps;
		instructions += r->instructions;
		calls += r->calls;
		primary += cases[i].primary;
	}
	all_recorded |= !with;
	print_message("  recorded %u operations from their states (%u of send, receive, release): "
		      "%zu instructions, %zu passages, %zu stops at system calls, %.1f s\n",
		      n, primary, instructions, steps, calls,
		      (double)(harness_now_ns() - begin) / 1e9);
	if (tally.failures)
		fail_msg("%zu cases cannot be recorded", tally.failures);
}

static void tell_missed(const struct job *job)
{
	char name[128];

	if (!harness_number("KILLAT_VERBOSE", 0))
		return;
	job_name(job, name);
	print_message("  never reached: %s\n", name);
}

/* What is executed depends on where in its ring a record lies, among other things: who does not
 * come to its place is tried again. */
#define TRIES_MAX 12u

/* Returns how many of those that are counted came to their places. */
static size_t run_jobs(const char *what, const char *name)
{
	size_t n = job_count, done = tally.done[0] + tally.done[1], missed = 0, counted = 0;
	uint64_t begin = harness_now_ns();
	double seconds;

	shuffle();
	for (size_t i = 0; i < job_count && tally.failures < FAILURES_MAX; i++) {
		struct job job = jobs[i];

		if (job_run(&job)) {
			counted += job.counted;
		} else if (++job.tries < TRIES_MAX) {
			push_job(&job);
		} else {
			missed++;
			tell_missed(&job);
		}
	}
	last_newcomer();
	seconds = (double)(harness_now_ns() - begin) / 1e9;
	done = tally.done[0] + tally.done[1] - done;
	print_message("  %s: %zu, %zu never came to their place, %.1f s, %.0f a second\n", what,
		      done, missed, seconds, (double)done / seconds);
	ledger(name, (double)done);
	job_count = 0;
	if (tally.failures)
		fail_msg("%zu failures, replay lines above", tally.failures);
	if (missed * 10 > n)
		fail_msg("%zu of %zu never came to their place", missed, n);
	return counted;
}

static void begin(unsigned seconds)
{
	const char *why = trace_impossible();

	watchdog(seconds);
	if (why) {
		print_message("  %s\n", why);
		skip();
	}
	world_open();
	tally = (struct tally){.failures = 0};
	seed = harness_number("KILLAT_SEED", harness_now_ns() & 0xffffff);
	print_message("  KILLAT_SEED=%llu\n", (unsigned long long)seed);
	world_restart();
}

/* True: only this was asked for, and is done. */
static bool replayed(void)
{
	char operation[64], state[64], place[64], how[16] = "kill";
	const char *text = getenv("KILLAT_REPLAY");
	struct job job = {.mode = MODE_KILL};

	if (!text || !*text)
		return false;
	if (sscanf(text, "%63[^:]:%63[^:]:%63[^:]:%15s", operation, state, place, how) < 3)
		fail_msg("KILLAT_REPLAY=op:state:place[:mode]");
	for (unsigned i = 0; i < case_count; i++)
		if (strcmp(cases[i].operation, operation) == 0 &&
		    strcmp(cases[i].state, state) == 0)
			job.on = &cases[i];
	if (!job.on)
		fail_msg("no case %s:%s", operation, state);
	if (strcmp(how, "stop") == 0)
		job.mode = MODE_STOP;
	if (place[0] == 's')
		job.at.call = (uint32_t)strtoul(place + 1, NULL, 10);
	else if (sscanf(place, "%x.%u", &job.at.offset, &job.at.hit) != 2)
		fail_msg("a place is OFFSET.HIT or sN");
	begin(300);
	image_want((unsigned)harness_number("KILLAT_IMAGES", 0), 1);
	for (uint64_t i = harness_number("KILLAT_TIMES", 1); i > 0; i--)
		job_run(&job);
	last_newcomer();
	image_recover(harness_number("KILLAT_REAPERS", 12), seed);
	print_message("  replayed: %zu reached, %zu not\n", tally.done[0] + tally.done[1],
		      tally.missed);
	end_world();
	assert_int_equal(tally.failures, 0);
	return true;
}

/* ---- tests ---- */

static void a_process_killed_at_any_instruction_costs_the_others_nothing(void **state)
{
	uint64_t kills = harness_number("KILLAT_KILLS", 11000), images, images_seed;
	bool all = harness_number("KILLAT_ALL", 0);
	size_t primary, counted;

	if (replayed())
		return;
	begin(3000);
	images_seed = seed;
	record(0, CASE_SERVICE);
	for (unsigned i = 0; i < case_count; i++)
		if (all || cases[i].primary)
			add_instructions(i, MODE_KILL);
	primary = job_count;
	if (primary > kills && !all) {
		shuffle();
		job_count = kills * 9 / 10;
	}
	for (size_t i = 0; i < job_count; i++)
		jobs[i].counted = true;
	if (job_count < kills)
		add_random(kills - job_count, MODE_KILL, 0, CASE_SERVICE);
	images = harness_number("KILLAT_IMAGES", 12);
	image_want((unsigned)images, kills);
	counted = run_jobs("killed", "kills-at-instructions");
	print_message("  %zu of %zu places of %s were reached\n", counted, primary,
		      all ? "all operations" : "send, receive and release");
	ledger("instructions-killed-at", 100.0 * (double)counted / (double)primary);
	print_message("  slot free again after SIGKILL, under this load: p50 %.2f, p99 %.2f, max "
		      "%.2f ms\n",
		      (double)latency_at(500) / 1e6, (double)latency_at(990) / 1e6,
		      (double)latency_at(1000) / 1e6);
	image_recover(harness_number("KILLAT_REAPERS", 12), images_seed);
	end_world();
}

static void a_process_stopped_at_any_instruction_delays_nobody_and_goes_on(void **state)
{
	if (getenv("KILLAT_REPLAY"))
		skip();
	begin(1500);
	/* recorded by the first test, in the same addresses */
	if (!all_recorded)
		record(0, CASE_SERVICE);
	/* each instruction of a waker: between its mark and its wake, others must wake in its place
	 */
	for (unsigned i = 0; i < case_count; i++)
		if (strcmp(cases[i].operation, "contact") == 0 &&
		    strcmp(cases[i].state, "asleep") == 0)
			add_instructions(i, MODE_STOP);
	add_random(harness_number("KILLAT_STOPS", 1000), MODE_STOP, 0,
		   CASE_SERVICE | STATE_NO_STOP);
	run_jobs("stopped and continued", "stops-at-instructions");
	end_world();
}

static void a_service_killed_or_stopped_at_any_instruction_stops_no_traffic(void **state)
{
	if (getenv("KILLAT_REPLAY"))
		skip();
	begin(1500);
	record(CASE_SERVICE, 0);
	add_random(harness_number("KILLAT_SERVICE", 300), MODE_KILL, CASE_SERVICE, 0);
	add_random(harness_number("KILLAT_SERVICE", 300) / 5, MODE_STOP, CASE_SERVICE, 0);
	run_jobs("killed and stopped", "kills-of-the-service");
	end_world();
}

/* Idle victims are killed and buried; ms at so many per mille. */
static void measure_slots(uint64_t times, double *p99, double *longest)
{
	begin(300);
	for (uint64_t i = times; i > 0; i--)
		last_newcomer();
	*p99 = (double)latency_at(990) / 1e6;
	*longest = (double)latency_at(1000) / 1e6;
	print_message("  SIGKILL to free slot: p50 %.2f, p99 %.2f, max %.2f ms (%zu times)\n",
		      (double)latency_at(500) / 1e6, *p99, *longest, tally.latencies);
	end_world();
	assert_int_equal(tally.failures, 0);
}

static void judge_ms(double ms, double most)
{
	if (harness_number("KILLAT_JUDGE", 0) && ms > most)
		fail_msg("%.2f ms, more than %.0f", ms, most);
}

static void a_slot_is_free_again_within_milliseconds_after_a_death(void **state)
{
	double p99, longest;

	if (getenv("KILLAT_REPLAY"))
		skip();
	measure_slots(harness_number("KILLAT_IDLE", 300), &p99, &longest);
	ledger("slot-free-p99", p99);
	ledger("slot-free-max", longest);
	judge_ms(p99, 5);
	judge_ms(longest, 50);
}

static void keep_busy(uint64_t unused)
{
	for (;;)
		__asm__ volatile("" ::: "memory");
}

static void a_slot_is_free_again_soon_on_a_busy_machine(void **state)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);
	double p99, longest;

	if (getenv("KILLAT_REPLAY"))
		skip();
	for (long i = 0; i < count && i < 64; i++)
		child_start(keep_busy, 0);
	measure_slots(harness_number("KILLAT_IDLE", 300) / 3, &p99, &longest); /* and ends them */
	ledger("slot-free-busy-max", longest);
	judge_ms(longest, 500);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_process_killed_at_any_instruction_costs_the_others_nothing),
	BARE_TEST(a_process_stopped_at_any_instruction_delays_nobody_and_goes_on),
	BARE_TEST(a_service_killed_or_stopped_at_any_instruction_stops_no_traffic),
	BARE_TEST(a_slot_is_free_again_within_milliseconds_after_a_death),
	BARE_TEST(a_slot_is_free_again_soon_on_a_busy_machine),
};

HARNESS_MAIN("killat", tests)

/* explore.c: runs one schedule of a scenario, by the plan for it; see explore.h. */
#include "explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_STEPS 20000u

enum state { READY, PAUSED, ASLEEP, AWAITS_DEATH, AWAITS, ENDED, DEAD };
enum { DIE = 1000, FLUSH = 2000 };

struct process {
	struct ex_coroutine coroutine;
	jmp_buf base;
	enum state state;
	bool end; /* go back to the base: dead, or the schedule is over */
	const void *word;
	bool (*condition)(void);
	unsigned awaited;
	uint64_t writes; /* as of the last pause */
	uint64_t priority;
};

struct ex_state ex;
struct ex_plan ex_plan;
static struct process processes[EX_PROCESSES];
static struct ex_coroutine main_coroutine;
static jmp_buf main_base;
static unsigned deviations, deaths;
static uint64_t steps;
static bool failed, is_over;

static _Alignas(64) uint8_t private_bytes[EX_PRIVATE_BYTES], private_image[EX_PRIVATE_BYTES];
static size_t private_used, private_at;

/* ---- choices ---- */

uint64_t ex_draw(void)
{
	ex_plan.random ^= ex_plan.random << 13;
	ex_plan.random ^= ex_plan.random >> 7;
	ex_plan.random ^= ex_plan.random << 17;
	return ex_plan.random * 0x2545f4914f6cdd1dull >> 16;
}

static unsigned decide(unsigned n, unsigned usual_in)
{
	unsigned taken = 0;

	if (n <= 1)
		return 0;
	if (ex_plan.count == EX_CHOICES)
		ex_fail("more than %u choices in one schedule", EX_CHOICES);
	if (ex_plan.count < ex_plan.forced)
		taken = ex_plan.choices[ex_plan.count].taken < n
				? ex_plan.choices[ex_plan.count].taken
				: 0;
	else if (ex_plan.manner == EX_DRAWN && ex_draw() % usual_in == 0)
		taken = (unsigned)(ex_draw() % n);
	ex_plan.choices[ex_plan.count++] = (struct ex_choice){taken, n};
	return taken;
}

static bool may_deviate(void)
{
	return ex_plan.manner == EX_DRAWN || deviations < ex_plan.bound;
}

unsigned ex_choose(unsigned n)
{
	unsigned taken = may_deviate() ? decide(n, ex_plan.one_in) : 0;

	deviations += taken != 0;
	return taken;
}

/* ---- processes ---- */

unsigned ex_self(void)
{
	return ex.self;
}

bool ex_is_dead(unsigned process)
{
	return processes[process].state == DEAD;
}

static bool is_ready(const struct process *p)
{
	switch (p->state) {
	case READY:
		return true;
	case PAUSED:
		return p->writes != ex.writes || ex.stale[p - processes];
	case AWAITS_DEATH:
		return processes[p->awaited].state >= ENDED;
	case AWAITS:
		return p->condition();
	default:
		return false;
	}
}

static void go_to(unsigned next)
{
	unsigned self = ex.self;

	if (next == self)
		return;
	ex.self = next;
	ex_coroutine_switch(self == EX_NOBODY ? &main_coroutine : &processes[self].coroutine,
			    next == EX_NOBODY ? &main_coroutine : &processes[next].coroutine);
	/* here again */
	if (self != EX_NOBODY && processes[self].end)
		longjmp(processes[self].base, 1);
}

/* The usual successor comes first: in drawn schedules by priority, the one with the highest. */
static unsigned add_ready(unsigned options[], unsigned n)
{
	for (unsigned i = 0; i < EX_PROCESSES; i++)
		if (i != ex.self && ex_plan.scenario->run[i] && is_ready(&processes[i])) {
			unsigned at = n;

			while (ex_plan.priorities && at > 0 && options[at - 1] < EX_PROCESSES &&
			       processes[options[at - 1]].priority < processes[i].priority) {
				options[at] = options[at - 1];
				at--;
			}
			options[at] = i;
			n++;
		}
	return n;
}

static unsigned add_flushes(unsigned options[], unsigned n)
{
	for (unsigned i = 0; i < EX_PROCESSES; i++)
		if (ex_memory_buffered(i) > 0)
			options[n++] = FLUSH + i;
	return n;
}

static void die(void)
{
	ex_trace("process %u dies", ex.self);
	deaths++;
	ex_memory_flush(ex.self, UINT32_MAX);
	processes[ex.self].state = DEAD;
	longjmp(processes[ex.self].base, 1);
}

void ex_point(void)
{
	unsigned options[3 * EX_PROCESSES + 1], n = 0, taken;

	if (ex.self == EX_NOBODY)
		return;
	if (++steps > MOST_STEPS)
		ex_fail("no end after %u steps", MOST_STEPS);
	do {
		bool deviate = may_deviate();

		n = 0;
		options[n++] = ex.self;
		if (deviate) {
			n = add_ready(options, n);
			n = add_flushes(options, n);
		}
		if (deaths < ex_plan.scenario->deaths && ex_plan.scenario->mortal >> ex.self & 1)
			options[n++] = DIE;
		taken = decide(n, ex_plan.one_in);
		deviations += taken != 0 && options[taken] != DIE;
		if (options[taken] == DIE)
			die();
		if (options[taken] >= FLUSH)
			ex_memory_flush(options[taken] - FLUSH, 1);
	} while (options[taken] >= FLUSH);
	if (options[taken] != ex.self)
		ex_trace("process %u is preempted by %u", ex.self, options[taken]);
	go_to(options[taken]);
}

/* The caller cannot go on: somebody else must. */
static void leave(void)
{
	unsigned options[2 * EX_PROCESSES], n;

	for (;;) {
		unsigned taken;

		n = add_flushes(options, add_ready(options, 0));
		if (is_ready(&processes[ex.self]))
			options[n++] = ex.self;
		if (n == 0)
			break;
		taken = decide(n, ex_plan.priorities ? ex_plan.one_in : 2);
		if (options[taken] < FLUSH) {
			if (options[taken] != ex.self)
				ex_trace("process %u goes on", options[taken]);
			go_to(options[taken]);
			return;
		}
		ex_memory_flush(options[taken] - FLUSH, 1);
	}
	is_over = true;
	go_to(EX_NOBODY);
}

/* The buffer of whoever enters the kernel is empty when he is there. */
static void rest(enum state state)
{
	struct process *p = &processes[ex.self];

	p->state = state;
	leave();
	p->state = READY;
}

void ex_pause(void)
{
	struct process *p = &processes[ex.self];

	rest(PAUSED);
	p->writes = ex.writes;
	ex.stale[ex.self] = false;
}

void ex_sleep_on(const void *word)
{
	ex_trace("process %u sleeps", ex.self);
	processes[ex.self].word = word;
	rest(ASLEEP);
}

unsigned ex_wake(const void *word)
{
	unsigned n = 0;

	for (unsigned i = 0; i < EX_PROCESSES; i++)
		if (processes[i].state == ASLEEP && processes[i].word == word) {
			processes[i].state = READY;
			n++;
		}
	return n;
}

bool ex_await_death(unsigned process)
{
	processes[ex.self].awaited = process;
	rest(AWAITS_DEATH);
	ex_join(process);
	return processes[process].state == DEAD;
}

void ex_await(bool (*condition)(void))
{
	if (condition())
		return;
	processes[ex.self].condition = condition;
	rest(AWAITS);
}

void *ex_private(size_t bytes)
{
	void *at = private_bytes + private_at;

	private_at += rb_align_up(bytes, 64);
	if (private_at > sizeof(private_bytes))
		abort();
	memset(at, 0, bytes);
	return at;
}

static void process_main(void)
{
	for (;;) {
		if (setjmp(processes[ex.self].base) == 0 && !processes[ex.self].end) {
			ex_plan.scenario->run[ex.self]();
			ex_point(); /* its last stores may still be on their way */
			ex_memory_flush(ex.self, UINT32_MAX);
			ex_trace("process %u ends", ex.self);
		}
		if (processes[ex.self].state != DEAD)
			processes[ex.self].state = ENDED;
		if (is_over) /* taken down */
			go_to(EX_NOBODY);
		else
			leave();
	}
}

/* ---- one schedule ---- */

static void go_to_main(void)
{
	if (ex.self == EX_NOBODY)
		longjmp(main_base, 1);
	processes[ex.self].end = true;
	go_to(EX_NOBODY);
	abort();
}

void ex_fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (!failed)
		vsnprintf(ex_plan.why, sizeof(ex_plan.why), format, arguments);
	va_end(arguments);
	failed = true;
	is_over = true;
	go_to_main();
	abort();
}

void ex_trace(const char *format, ...)
{
	va_list arguments;

	if (!ex.tracing)
		return;
	va_start(arguments, format);
	printf("%5u  ", ex_plan.count);
	vprintf(format, arguments);
	putchar('\n');
	va_end(arguments);
}

/* Whoever is in the middle of something goes back to its beginning. */
static void take_down(void)
{
	is_over = true;
	for (unsigned i = 0; i < EX_PROCESSES; i++)
		if (ex_plan.scenario->run[i] && processes[i].state < ENDED) {
			processes[i].end = true;
			go_to(i);
		}
}

static void judge(void)
{
	for (unsigned i = 0; i < EX_PROCESSES && !ex_plan.scenario->may_block; i++)
		if (ex_plan.scenario->run[i] && processes[i].state < ENDED)
			ex_fail("process %u never goes on: %s", i,
				processes[i].state == ASLEEP ? "asleep" : "it waits");
	if (ex_plan.scenario->finish)
		ex_plan.scenario->finish();
}

static void begin(void)
{
	ex_plan.count = deviations = deaths = 0;
	steps = 0;
	failed = is_over = false;
	ex.self = EX_NOBODY;
	ex.writes = 1;
	ex_memory_begin();
	memcpy(private_bytes, private_image, private_used);
	for (unsigned i = 0; i < EX_PROCESSES; i++) {
		struct process *p = &processes[i];

		p->state = READY;
		p->end = false;
		p->writes = 0;
		ex.stale[i] = false;
		p->priority = (ex_plan.priorities + i) * 0x9e3779b97f4a7c15ull >> 20;
	}
	private_at = private_used;
}

/* False: it failed. */
bool ex_run(void)
{
	unsigned options[EX_PROCESSES], n;

	begin();
	shm_hooks = &ex_hooks;
	if (setjmp(main_base) == 0) {
		n = add_ready(options, 0);
		go_to(options[decide(n, 2)]);
		if (!failed)
			judge();
	}
	take_down();
	shm_hooks = NULL;
	ex_plan.deviations = deviations;
	return !failed;
}

/* The coroutines are made once. */
void ex_prepare(const struct ex_scenario *s)
{
	ex_plan.scenario = s;
	for (unsigned i = 0; i < EX_PROCESSES; i++) {
		if (!processes[i].coroutine.stack)
			ex_coroutine_init(&processes[i].coroutine, process_main);
		processes[i].state = READY;
	}
	ex.self = EX_NOBODY;
	private_used = private_at = 0;
	memset(private_bytes, 0, sizeof(private_bytes));
	ex_memory_prepare();
	if (s->prepare)
		s->prepare();
	ex_memory_keep();
	private_used = private_at;
	memcpy(private_image, private_bytes, private_used);
}

/* killat_cycle.c: see killat.h. This file: one victim from its start to the proof that its death,
 * or its stop, cost nobody anything. The proof of a cycle ends in the next one: the newcomer in the
 * freed slot talks with everybody before it becomes the next victim.
 */
#include "killat.h"

#include <setjmp.h>
#include <signal.h>

enum mode mode;
bool rings_may_warn;
struct tally tally;

static const struct test_case *now_case;
static jmp_buf on_failure;
static char failure[480];
static bool newcomer_phase;
static uint64_t latencies[LATENCIES];

_Noreturn void cycle_fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(failure, sizeof(failure), format, args);
	va_end(args);
	longjmp(on_failure, 1);
}

static bool tick(void)
{
	if (now_case->stimulus && world->current[ACTOR_V] && victim_sleeps())
		now_case->stimulus();
	return false;
}

/* The last victim, whose messages B has not read yet: the newcomer goes on behind them. */
static struct life *owed;

/* A new process takes the freed slot, and talks with everybody if it can. */
static void bring_newcomer(const struct test_case *c)
{
	newcomer_phase = true;
	actor_start(ACTOR_V);
	if (!(c->flags & STATE_UNJOINED)) {
		order(ACTOR_V, CMD_JOIN, 0, 0, 0, 0);
		if (c->flags & STATE_FRESH)
			order_each(SURVIVORS, CMD_DRAIN, 0, 0);
		else
			round_of(EVERYBODY);
		/* B has been told of the newcomer: only then it must be told of its end */
		order(ACTOR_B, CMD_DRAIN, 0, 0, 0, 0);
		if (!(c->flags & STATE_FRESH))
			rings_may_warn = false;
	}
	if (owed)
		order(ACTOR_B, CMD_UNTIL, 0, 0, owed->number, 0);
	owed = NULL;
	newcomer_phase = false;
}

/* The victim stands still: all others go on, and it stays what it was. */
static void go_on_without(const struct life *life)
{
	uint64_t word = slot_word_of(life ? life->slot : 0);

	wake_sleepers(false);
	await_awake();
	round_of(SURVIVORS);
	if (life && slot_word_of(life->slot) != word)
		cycle_fail("a stopped process: its slot changed from %#llx to %#llx",
			   (unsigned long long)word, (unsigned long long)slot_word_of(life->slot));
}

/* Stopped and continued: it ends its operation and talks with everybody. */
static void prove_it_lives(const struct test_case *c)
{
	if (strcmp(c->operation, "leave") == 0 || strcmp(c->state, "left") == 0)
		return;
	if (c->flags & STATE_UNJOINED)
		order(ACTOR_V, CMD_JOIN, 0, 0, 0, 0);
	order(ACTOR_V, CMD_LOANS, 1, 0, 0, 0);
	order(ACTOR_V, CMD_RELEASE, 0, 0, 0, 0); /* what it kept is what it got */
	order_each(SURVIVORS, CMD_DRAIN, 0, 0);	 /* who has not seen a spoiled ring yet does now */
	round_of(EVERYBODY);
}

static void bury_extra(const struct life *extra)
{
	if (world->current[ACTOR_D])
		actor_kill(ACTOR_D);
	wait_free(extra);
}

static void note_latency(uint64_t ns)
{
	latencies[tally.latencies++ % LATENCIES] = ns;
}

/* Kills the victim where it is, and brings the bus to rest. */
static void bury(const struct test_case *c, struct life *life, struct life *extra)
{
	uint64_t begin = harness_now_ns();

	if (life)
		word_set(&life->dead, 1);
	actor_kill(ACTOR_V);
	world->unreaped = 0;
	if (c->flags & STATE_NO_STOP && c->flags & STATE_EXTRA)
		service_signal(SIGCONT);
	if (life) {
		wait_free(life);
		note_latency(harness_now_ns() - begin);
	}
	if (extra)
		bury_extra(extra);
	wait_others_free();
	wake_sleepers(mode == MODE_KILL);
	await_awake();
	/* every other time B does not read before the newcomer is there */
	if (life && !extra && life->number & 1 && !(c->flags & STATE_READ))
		owed = life;
	for (unsigned i = ACTOR_A; life && i <= ACTOR_C; i++)
		if (!owed || i != ACTOR_B)
			issue(i, CMD_UNTIL, 0, 0, life->number, extra ? extra->number : 0);
	await_awake();
	order(ACTOR_A, CMD_RELEASE, 0, 0, 0, 0);
	order(ACTOR_B, CMD_UNSUBSCRIBE, NAME_SIDE, 0, 0, 0);
	order(ACTOR_B, CMD_UNSUBSCRIBE, NAME_SINGLE, 0, 0, 0);
	order_each(owed ? SURVIVORS & ~(1u << ACTOR_B) : SURVIVORS, CMD_DRAIN, 0, 0);
	check_rest(owed != NULL);
}

static const char *const ends[] = {"reached", "over", "died", "stuck"};

static enum trace_end operate(const struct test_case *c, const struct position *p,
			      struct recording *r)
{
	pid_t pid = actor_pid(ACTOR_V);
	enum trace_end end;

	if (!trace_attach(pid))
		cycle_fail("ptrace: %s", strerror(errno));
	issue(ACTOR_V, CMD_OP, operation_number(c->operation), 0, 0, 0);
	end = trace_begin(pid);
	if (end == TRACE_REACHED)
		end = r ? trace_record(pid, r, tick) : trace_to(pid, p, tick);
	if (end == TRACE_DIED || end == TRACE_STUCK)
		cycle_fail("the victim %s under the tracer; %s", ends[end], world->note);
	return end;
}

/* One victim. p NULL: r gets the places where it could have died. True: the place was reached. */
static bool victim_cycle(const struct test_case *c, const struct position *p, struct recording *r)
{
	struct life *life = NULL, *extra = NULL;
	enum trace_end end;

	now_case = c;
	bring_newcomer(c);
	if (world->current[ACTOR_V])
		life = life_of(world->current[ACTOR_V]);
	c->prepare();
	if (strncmp(c->state, "spoiled", 7) == 0)
		rings_may_warn = true;
	if (c->flags & STATE_EXTRA)
		for (unsigned i = 4; i < LIVES; i++)
			if (world->lives[i].actor == ACTOR_D &&
			    (!extra || world->lives[i].number > extra->number))
				extra = &world->lives[i];
	end = operate(c, p, r);
	if (end == TRACE_REACHED && mode == MODE_STOP) {
		go_on_without(life);
		if (trace_finish(actor_pid(ACTOR_V), tick) != TRACE_OVER)
			cycle_fail("the victim does not come to its end after a stop; %s",
				   world->note);
	}
	if (end == TRACE_OVER || mode == MODE_STOP) {
		trace_detach(actor_pid(ACTOR_V));
		await_awake();
		await(ACTOR_V);
		if (mode == MODE_STOP && end == TRACE_REACHED)
			prove_it_lives(c);
		if (!life && world->current[ACTOR_V])
			life = life_of(world->current[ACTOR_V]);
	} else {
		image_offer(c, p);
	}
	bury(c, life, extra);
	return end == TRACE_REACHED;
}

/* ---- the service ---- */

static const struct life *awaited;

static bool joiner_is_in(void)
{
	return !is_issued(ACTOR_J);
}

static bool slot_is_free(void)
{
	return slot_word_of(awaited->slot) >> 32 != awaited->generation ||
	       slot_state(slot_word_of(awaited->slot)) == SLOT_FREE;
}

/* Runs the service to its place, or along all of them; stopped afterwards, unless it ended. */
static enum trace_end operate_service(const struct position *p, struct recording *r,
				      trace_tick done)
{
	pid_t pid = service_pid();
	enum trace_end end = r ? trace_record(pid, r, done) : trace_to(pid, p, done);

	if (end == TRACE_DIED || end == TRACE_STUCK)
		cycle_fail("the service %s under the tracer; %s", ends[end], world->note);
	if (end == TRACE_REACHED && mode == MODE_STOP) {
		round_of(SURVIVORS);
		end = trace_finish(pid, done);
		if (end != TRACE_OVER)
			cycle_fail("the service %s after a stop", ends[end]);
		end = TRACE_REACHED;
	}
	return end;
}

/* Killed at its place, or let go; the traffic goes on all the time. */
static void release_service(enum trace_end end)
{
	if (end == TRACE_REACHED && mode == MODE_KILL) {
		service_kill();
		round_of(SURVIVORS);
		service_start(false);
		return;
	}
	if (!trace_interrupt(service_pid()))
		cycle_fail("the service does not stop");
	trace_detach(service_pid());
}

static void stop_service_under_trace(void)
{
	if (!trace_attach(service_pid()) || !trace_interrupt(service_pid()))
		cycle_fail("ptrace of the service: %s", strerror(errno));
}

static bool grant_cycle(const struct position *p, struct recording *r)
{
	enum trace_end end;
	struct life *life;

	actor_start(ACTOR_J);
	stop_service_under_trace();
	issue(ACTOR_J, CMD_JOIN, 0, 0, 0, 0);
	end = operate_service(p, r, joiner_is_in);
	release_service(end);
	await(ACTOR_J);
	round_of(SURVIVORS | 1u << ACTOR_J);
	life = life_of(world->current[ACTOR_J]);
	actor_kill(ACTOR_J);
	wait_free(life);
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		issue(i, CMD_UNTIL, 0, 0, life->number, 0);
	await_awake();
	return end == TRACE_REACHED;
}

static bool reap_cycle(const struct position *p, struct recording *r)
{
	enum trace_end end;
	struct life *life;

	bring_newcomer(now_case);
	order(ACTOR_V, CMD_CREATE, NAME_SINGLE, RINGBUS_SINGLE_EMISSION, 0, 0);
	order(ACTOR_A, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 2);
	order(ACTOR_V, CMD_BORROW, 0, 0, 0, 0);
	life = life_of(world->current[ACTOR_V]);
	stop_service_under_trace();
	actor_kill(ACTOR_V);
	world->unreaped = 1;
	awaited = life;
	end = operate_service(p, r, slot_is_free);
	release_service(end);
	wait_free(life);
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		issue(i, CMD_UNTIL, 0, 0, life->number, 0);
	await_awake();
	return end == TRACE_REACHED;
}

/* A new service finds a living bus, and somebody who has just died. */
static bool adopt_cycle(const struct position *p, struct recording *r)
{
	enum trace_end end;
	struct life *life;

	bring_newcomer(now_case);
	life = life_of(world->current[ACTOR_V]);
	service_kill();
	actor_kill(ACTOR_V);
	world->unreaped = 1;
	service_start(true);
	if (!trace_attach(service_pid()))
		cycle_fail("ptrace of the service: %s", strerror(errno));
	word_set(&world->go, 1);
	if (trace_begin(service_pid()) != TRACE_REACHED)
		cycle_fail("the service does not begin");
	end = operate_service(p, r, NULL);
	if (end == TRACE_REACHED && mode == MODE_KILL)
		release_service(end);
	else
		trace_detach(service_pid());
	wait_free(life);
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		issue(i, CMD_UNTIL, 0, 0, life->number, 0);
	await_awake();
	return end == TRACE_REACHED;
}

static bool service_cycle(const struct test_case *c, const struct position *p, struct recording *r)
{
	bool reached;

	now_case = c;
	if (strcmp(c->operation, "grant") == 0)
		reached = grant_cycle(p, r);
	else if (strcmp(c->operation, "reap") == 0)
		reached = reap_cycle(p, r);
	else
		reached = adopt_cycle(p, r);
	wait_others_free();
	world->unreaped = 0;
	order_each(SURVIVORS, CMD_DRAIN, 0, 0);
	check_rest(false);
	return reached;
}

static bool cycle(const struct test_case *c, const struct position *p, struct recording *r)
{
	return c->flags & CASE_SERVICE ? service_cycle(c, p, r) : victim_cycle(c, p, r);
}

bool place_is_first(const struct position *p)
{
	return p->call || p->hit == 1;
}

const struct position *any_place(const struct recording *r, uint64_t *dice)
{
	bool by_instruction = splitmix(dice) & 7;
	const struct position *p;

	do
		p = &r->at[splitmix(dice) % r->count];
	while (by_instruction && !place_is_first(p));
	return p;
}

void job_name(const struct job *job, char out[128])
{
	static const char *const modes[] = {"kill", "stop"};

	if (job->at.call)
		snprintf(out, 128, "%s:%s:s%u:%s", job->on->operation, job->on->state, job->at.call,
			 modes[job->mode]);
	else
		snprintf(out, 128, "%s:%s:%x.%u:%s", job->on->operation, job->on->state,
			 job->at.offset, job->at.hit, modes[job->mode]);
}

static void report_failure(const struct job *job, const struct job *before)
{
	const struct job *blamed = newcomer_phase && before ? before : job;
	char name[128];

	tally.failures++;
	job_name(blamed, name);
	print_message("KILLAT_REPLAY=%s failed%s at %s: %s\n", name,
		      blamed == job ? "" : " (seen by the newcomer)",
		      blamed->at.call ? "a system call" : trace_place(blamed->at.offset), failure);
}

bool job_run(const struct job *job)
{
	static struct job before;
	static bool any, reached;

	mode = job->mode;
	if (setjmp(on_failure) == 0) {
		reached = cycle(job->on, &job->at, NULL);
		if (reached)
			tally.done[mode]++;
		else
			tally.missed++;
		before = *job;
		any = true;
		return reached;
	}
	report_failure(job, any ? &before : NULL);
	any = false;
	world_restart();
	return true;
}

void world_restart(void)
{
	if (setjmp(on_failure) != 0)
		fail_msg("no new bus: %s", failure);
	owed = NULL;
	rings_may_warn = false;
	world_abandon();
	world_start();
}

bool case_record(const struct test_case *c, struct recording *r)
{
	struct position none = {.hit = 0};

	mode = MODE_KILL;
	if (setjmp(on_failure) == 0) {
		cycle(c, &none, r);
		return true;
	}
	tally.failures++;
	print_message("recording %s:%s failed: %s\n", c->operation, c->state, failure);
	recording_free(r);
	world_restart();
	return false;
}

/* A newcomer proves the last cycle. */
void last_newcomer(void)
{
	static const struct test_case idle = {"idle", "idle", NULL, NULL, 0, false};
	struct life *life;

	mode = MODE_KILL;
	now_case = &idle;
	if (setjmp(on_failure) != 0) {
		tally.failures++;
		print_message("the last newcomer: %s\n", failure);
		world_restart();
		return;
	}
	bring_newcomer(&idle);
	life = life_of(world->current[ACTOR_V]);
	bury(&idle, life, NULL);
}

void end_world(void)
{
	if (setjmp(on_failure) != 0)
		fail_msg("the end of the bus: %s", failure);
	owed = NULL;
	world_stop();
	ledger("looks-of-the-checker", (double)tally.checks);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

uint64_t latency_at(unsigned per_mille)
{
	size_t n = tally.latencies < LATENCIES ? tally.latencies : LATENCIES;

	if (n == 0)
		return 0;
	qsort(latencies, n, sizeof(latencies[0]), by_value);
	return latencies[(n - 1) * per_mille / 1000];
}

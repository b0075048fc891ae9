/* run.c: one measurement. Process 0 sends, the others receive; a barrier before each step. */
#include "run.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum step { STEP_SEIZED, STEP_FIRST_OPEN, STEP_OPEN, STEP_READY, STEP_DONE, STEPS };

struct control {
	_Atomic unsigned arrived[STEPS];
	_Atomic int failed;
	struct flow flows[1 + BENCH_RECEIVERS_MAX + BENCH_THREADS_MAX];
};

/* Where bench_explain() writes: the flow of this process, in the parent a buffer. */
static char run_words[160];
static char *run_explain = run_words;

volatile sig_atomic_t run_interrupted;

int bench_explain(int error, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(run_explain, sizeof(run_words), format, arguments);
	va_end(arguments);
	return error;
}

const char *bench_explained(void)
{
	return run_explain;
}

void *bench_share(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	return memory == MAP_FAILED ? NULL : memory;
}

void flow_start(struct flow *flow)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	flow->switches = (uint64_t)usage.ru_nivcsw;
	flow->sleeps = (uint64_t)usage.ru_nvcsw;
	flow->cpu_start_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID);
	__atomic_store_n(&flow->timed, 1, __ATOMIC_RELEASE);
	flow->start = clock_ticks();
}

void flow_stop(struct flow *flow, uint64_t messages)
{
	struct rusage usage;

	flow->end = clock_ticks();
	__atomic_store_n(&flow->timed, 0, __ATOMIC_RELEASE);
	flow->cpu_ns = clock_of(CLOCK_PROCESS_CPUTIME_ID) - flow->cpu_start_ns;
	if (!flow->start)
		return; /* too few messages */
	getrusage(RUSAGE_SELF, &usage);
	flow->switches = (uint64_t)usage.ru_nivcsw - flow->switches;
	flow->sleeps = (uint64_t)usage.ru_nvcsw - flow->sleeps;
	flow->messages = messages;
}

void run_pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

/* Waits until count processes have come to this step; false when one has failed. */
static bool run_arrive(struct control *control, enum step step, unsigned count, bool counts)
{
	if (counts)
		atomic_fetch_add(&control->arrived[step], 1);
	for (unsigned looks = 0; atomic_load(&control->arrived[step]) < count; looks++) {
		if (atomic_load(&control->failed))
			return false;
		if (looks < 200)
			sched_yield();
		else
			usleep(50);
	}
	return true;
}

static int run_prepare(const struct bench *bench, struct flow *flow, unsigned thread)
{
	struct source *source = &flow->source;
	struct sink *sink = &flow->sink;

	source->mask = bench->size <= 1024 ? 7 : 0;
	source->stride = (bench->size + 127) & ~(size_t)63;
	source->size = bench->size;
	source->tag = (uint64_t)thread << 56;
	source->untouched = bench->untouched;
	source->base = aligned_alloc(4096, ((source->mask + 1) * source->stride + 4095) & ~4095ul);
	if (!source->base)
		return -ENOMEM;
	for (uint64_t i = 0; i <= source->mask; i++)
		for (size_t at = 0; at < source->stride; at++)
			source->base[i * source->stride + at] = (unsigned char)(at * 31 + at / 251);
	sink->size = bench->size;
	sink->untouched = bench->untouched;
	sink->sum = message_sum(source->base, bench->size);
	sink->limit = bench->count;
	sink->ends = bench->threads;
	return 0;
}

struct run_thread {
	struct bench *bench;
	void *end;
	struct flow *flow;
};

static void *run_feed_thread(void *opaque)
{
	struct run_thread *thread = opaque;

	thread->flow->error =
		thread->bench->transport->feed(thread->bench, thread->end, thread->flow);
	return NULL;
}

/* Two threads send at once through one end. */
static int run_feed(struct bench *bench, void *end, struct flow *flow, struct flow *others)
{
	struct run_thread threads[BENCH_THREADS_MAX];
	pthread_t ids[BENCH_THREADS_MAX];
	int r;

	for (unsigned i = 1; i < bench->threads; i++) {
		threads[i] = (struct run_thread){bench, end, &others[i]};
		r = run_prepare(bench, &others[i], i);
		if (r < 0 || pthread_create(&ids[i], NULL, run_feed_thread, &threads[i]))
			return -ENOMEM;
	}
	r = bench->transport->feed(bench, end, flow);
	for (unsigned i = 1; i < bench->threads; i++) {
		pthread_join(ids[i], NULL);
		if (r == 0)
			r = others[i].error;
	}
	return r;
}

static int run_flow(struct bench *bench, void *end, unsigned self, struct control *control)
{
	const struct transport *transport = bench->transport;
	struct flow *flow = &control->flows[self];

	if (self > 0)
		return (bench->flow == FLOW_RTT ? transport->pong : transport->drain)(bench, end,
										      flow);
	if (bench->flow == FLOW_RTT)
		return transport->ping(bench, end, flow);
	if (bench->flow == FLOW_PACED)
		return transport->pace(bench, end, flow);
	return run_feed(bench, end, flow, &control->flows[bench->receivers]);
}

static int run_steps(struct bench *bench, unsigned self, struct control *control, void **end)
{
	const struct transport *transport = bench->transport;
	unsigned count = bench->receivers + 1;
	int r = run_prepare(bench, &control->flows[self], 0);

	if (r < 0 || !run_arrive(control, STEP_SEIZED, 1, false))
		return r;
	if (self > 0 && !run_arrive(control, STEP_FIRST_OPEN, 1, false))
		return 0;
	r = transport->open(bench, self, end);
	if (r < 0)
		return r;
	if (self == 0)
		run_arrive(control, STEP_FIRST_OPEN, 1, true);
	if (!run_arrive(control, STEP_OPEN, count, true))
		return 0;
	r = transport->ready ? transport->ready(bench, *end) : 0;
	if (r < 0 || !run_arrive(control, STEP_READY, count, true))
		return r;
	r = run_flow(bench, *end, self, control);
	if (r == 0)
		run_arrive(control, STEP_DONE, count, true);
	return r;
}

static _Noreturn void run_process(struct bench *bench, unsigned self, struct control *control)
{
	struct flow *flow = &control->flows[self];
	unsigned others = bench->cpu_count - 1;
	void *end = NULL;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	run_explain = flow->explain;
	run_pin(bench->cpus[self == 0 || !others ? 0 : 1 + (self - 1) % others]);
	r = run_steps(bench, self, control, &end);
	flow->error = r;
	if (r < 0)
		atomic_store(&control->failed, 1);
	if (r == 0 && end && bench->transport->close)
		bench->transport->close(bench, end);
	_exit(r < 0 ? 1 : 0);
}

void run_kill(const pid_t *pids, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pids[i] > 0) {
			kill(pids[i], SIGKILL);
			while (waitpid(pids[i], NULL, __WALL) < 0 && errno == EINTR)
				continue;
		}
}

static void run_on_alarm(int number)
{
	(void)number;
}

int run_why_not(void)
{
	if (errno != EINTR)
		return -errno;
	return run_interrupted ? -EINTR : -ETIMEDOUT;
}

/* Waits for all processes, at most as long as any run may take; 0, or why not. */
static int run_wait(const pid_t *pids, unsigned count)
{
	for (unsigned left = count; left; left--) {
		int status;

		if (waitpid(-pids[0], &status, 0) < 0) {
			int r = run_why_not();

			run_kill(pids, count);
			return r;
		}
		if (status) {
			usleep(20000); /* the others may see it at the barrier and leave */
			run_kill(pids, count);
			return WIFEXITED(status) ? -ECANCELED : -ECHILD;
		}
	}
	return 0;
}

static uint64_t run_ticks_stolen(void)
{
	unsigned long long t[8] = {0};
	FILE *file = fopen("/proc/stat", "re");

	if (!file)
		return 0;
	if (fscanf(file, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &t[0], &t[1], &t[2], &t[3],
		   &t[4], &t[5], &t[6], &t[7]) != 8)
		t[7] = 0;
	fclose(file);
	return t[7];
}

static void run_collect(const struct bench *bench, const struct control *control, struct run *run)
{
	uint64_t start = UINT64_MAX, end = 0;
	double cpu_rx = 0;

	run->messages = bench->flow == FLOW_RTT ? control->flows[0].messages : 0;
	for (unsigned i = 0; i < bench->receivers + bench->threads; i++) {
		const struct flow *flow = &control->flows[i];
		bool sends = i == 0 || i > bench->receivers;

		if (flow->error && flow->error != -ECANCELED && !run->explain[0]) {
			run->error = flow->error;
			memcpy(run->explain, flow->explain, sizeof(run->explain));
		}
		if (sends)
			run->messages += flow->sent;
		if (sends && flow->start < start)
			start = flow->start;
		if ((!sends || bench->transport->can & CAN_ONE) && flow->end > end)
			end = flow->end;
		if (!sends && flow->messages)
			cpu_rx += (double)flow->cpu_ns / (double)flow->messages;
		run->lost += flow->sink.lost;
		run->bad += flow->sink.bad;
		run->switches += flow->switches;
		run->sleeps += flow->sleeps;
		run->syscalls += flow->syscalls;
		run->waits += flow->waits;
		run->wakes += flow->wakes;
	}
	hist_merge(&run->hist, &control->flows[0].hist);
	run->cpu_rx_ns = cpu_rx;
	if (run->messages)
		run->cpu_tx_ns = (double)control->flows[0].cpu_ns / (double)run->messages;
	if (bench->flow == FLOW_STREAM && end > start)
		run->seconds = (double)clock_ns(end - start) / 1e9;
}

/* Whether a process that never sleeps was off its processor for more than a twentieth of the time.
 */
static bool run_lost_time(const struct bench *bench, const struct control *control)
{
	for (unsigned i = 0; i <= bench->receivers && bench->wait == WAIT_SPIN; i++) {
		const struct flow *flow = &control->flows[i];
		uint64_t took = clock_ns(flow->end - flow->start);

		if (flow->start && took > 1000000 && flow->cpu_ns < took - took / 20)
			return true;
	}
	return false;
}

/* Disturbed: the hypervisor took more than 1 % of the time, or processes that had a processor each
 * lost it often or for long. */
static void run_judge(const struct bench *bench, const struct control *control, uint64_t stolen,
		      double wall, struct run *run)
{
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	double often = 10 + 100 * wall * (bench->receivers + 1);

	run->steal = (double)stolen / (double)sysconf(_SC_CLK_TCK) / (double)cpus / wall;
	if (bench->transport->can & HAS_THREADS)
		run->switches = 0;
	run->disturbed = (stolen > 1 && run->steal > 0.01) ||
			 (!bench->crowded &&
			  ((double)run->switches > often || run_lost_time(bench, control)));
}

static int run_processes(struct bench *bench, bool trace, struct control *control)
{
	unsigned count = bench->receivers + 1;
	pid_t pids[1 + BENCH_RECEIVERS_MAX];
	struct itimerval limit = {.it_value.tv_sec = bench->count ? 60 : 15};
	struct itimerval none = {.it_value.tv_sec = 0};
	struct sigaction alarmed = {.sa_handler = run_on_alarm};
	int r = 0;

	sigaction(SIGALRM, &alarmed, NULL);
	fflush(NULL);
	for (unsigned i = 0; i < count; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			run_process(bench, i, control);
		if (pids[i] < 0) {
			r = -errno;
			run_kill(pids, i);
			return r;
		}
		setpgid(pids[i], pids[0]);
		if (trace && r == 0)
			r = trace_seize(pids[i]);
	}
	if (r == 0) {
		atomic_store(&control->arrived[STEP_SEIZED], 1);
		setitimer(ITIMER_REAL, &limit, NULL);
		r = trace ? trace_processes(pids, control->flows, count) : run_wait(pids, count);
		setitimer(ITIMER_REAL, &none, NULL);
	} else {
		run_kill(pids, count);
	}
	return r;
}

void run_once(struct bench *bench, bool trace, struct run *run)
{
	struct control *control = bench_share(sizeof(*control));
	uint64_t stolen, began;

	memset(run, 0, sizeof(*run));
	run_words[0] = 0;
	run_explain = run_words;
	bench->ring_used = 0;
	bench->receivers = bench->transport->can & CAN_ONE ? 0 : bench->receivers;
	bench->crowded = bench->receivers + 1 > bench->cpu_count;
	run->error = control ? bench->transport->setup(bench) : -ENOMEM;
	if (run->error < 0) {
		memcpy(run->explain, run_words, sizeof(run_words));
		return;
	}
	run->ring_used = bench->ring_used;
	stolen = run_ticks_stolen();
	began = clock_of(CLOCK_MONOTONIC);
	run->error = run_processes(bench, trace, control);
	run_collect(bench, control, run);
	run_judge(bench, control, run_ticks_stolen() - stolen,
		  (double)(clock_of(CLOCK_MONOTONIC) - began) / 1e9, run);
	bench->transport->teardown(bench);
	munmap(control, sizeof(*control));
	if (run->error == -ETIMEDOUT && !run->explain[0])
		snprintf(run->explain, sizeof(run->explain), "did not end in time");
}

double run_line(const struct bench *bench)
{
	struct bench line = {
		.transport = transport_find("line", 4),
		.flow = FLOW_RTT,
		.wait = WAIT_SPIN,
		.size = 8,
		.count = 20000,
		.receivers = 1,
		.threads = 1,
		.cpu_count = bench->cpu_count < 2 ? bench->cpu_count : 2,
		.cpus = {bench->cpus[0], bench->cpus[1]},
	};
	struct run *run;
	double ns;

	if (bench->cpu_count < 2)
		return 0;
	run = malloc(sizeof(*run));
	if (!run)
		return 0;
	run_once(&line, false, run);
	ns = run->error ? 0 : hist_at(&run->hist, 0.5, clock_ns_per_tick);
	free(run);
	return ns;
}

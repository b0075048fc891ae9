/* run.h: one measurement: the processes of one transport, from setup to teardown. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "transport.h"

#include <signal.h>
#include <sys/types.h>

/* What one measurement gave. Times are nanoseconds. */
struct run {
	int error; /* negative errno; explain has the words */
	char explain[160];
	struct hist hist;  /* ticks; empty for streams */
	uint64_t messages; /* sent in the timed part, by all threads */
	double seconds; /* from the first timed send to the last receipt; 0 where there is no stream
			 */
	double cpu_tx_ns, cpu_rx_ns; /* for each message sent */
	uint64_t lost, bad;
	uint64_t switches; /* involuntary, all processes */
	uint64_t sleeps;   /* voluntary switches, all processes */
	double steal;	   /* share of the machine's time that the hypervisor took */
	uint64_t syscalls; /* when traced */
	uint64_t waits, wakes;
	size_t ring_used;
	bool disturbed;
};

extern volatile sig_atomic_t run_interrupted;

/* Measures bench. With trace the system calls are counted instead and the times mean nothing. */
void run_once(struct bench *bench, bool trace, struct run *run);
/* Round trip of a raw cache line between the two processors of bench, nanoseconds, median. */
double run_line(const struct bench *bench);
/* Waits for the processes and counts their system calls meanwhile (trace.c). */
int trace_processes(const pid_t *pids, struct flow *flows, unsigned count);
int trace_seize(pid_t pid);
/* After waitpid() failed: interrupted, out of time, or nobody left. */
int run_why_not(void);
/* Kills and reaps what is left of count processes. */
void run_kill(const pid_t *pids, unsigned count);
/* Pins this process. */
void run_pin(unsigned cpu);

#endif

/* trace.c: counts the system calls of the processes of a run, in their timed part, by ptrace(2). */
#include "run.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define TRACE_TASKS_MAX 512

struct trace_task {
	pid_t tid;
	unsigned process;
};

struct trace {
	struct trace_task tasks[TRACE_TASKS_MAX];
	unsigned count;
};

int trace_seize(pid_t pid)
{
	long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;

	if (ptrace(PTRACE_SEIZE, pid, NULL, options))
		return -errno;
	return ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) ? -errno : 0;
}

static pid_t trace_group(pid_t tid)
{
	char path[64], line[128];
	int group = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)tid);
	file = fopen(path, "re");
	if (!file)
		return tid;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "Tgid: %d", &group) == 1)
			break;
	fclose(file);
	return group ? group : tid;
}

/* The process that a thread belongs to; count: none of ours. */
static unsigned trace_process(struct trace *trace, const pid_t *pids, unsigned count, pid_t tid)
{
	unsigned process;
	pid_t group;

	for (unsigned i = 0; i < trace->count; i++)
		if (trace->tasks[i].tid == tid)
			return trace->tasks[i].process;
	group = trace_group(tid);
	for (process = 0; process < count; process++)
		if (pids[process] == group)
			break;
	if (trace->count < TRACE_TASKS_MAX)
		trace->tasks[trace->count++] = (struct trace_task){tid, process};
	return process;
}

static void trace_count(struct flow *flow, pid_t tid)
{
	struct __ptrace_syscall_info info;
	unsigned operation;

	if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
		return;
	if (info.op != PTRACE_SYSCALL_INFO_ENTRY || info.entry.nr == SYS_sched_yield)
		return; /* yielding is the harness's own */
	flow->syscalls++;
	operation = (unsigned)info.entry.args[1] & FUTEX_CMD_MASK;
	if (info.entry.nr == SYS_futex_waitv)
		flow->waits++;
	if (info.entry.nr != SYS_futex)
		return;
	flow->waits += operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET;
	flow->wakes += operation == FUTEX_WAKE || operation == FUTEX_WAKE_BITSET;
}

static void trace_stopped(struct trace *trace, const pid_t *pids, struct flow *flows,
			  unsigned count, pid_t tid, int status)
{
	unsigned process = trace_process(trace, pids, count, tid);
	int number = WSTOPSIG(status);

	if (number == (SIGTRAP | 0x80)) {
		if (process < count && __atomic_load_n(&flows[process].timed, __ATOMIC_ACQUIRE))
			trace_count(&flows[process], tid);
		number = 0;
	} else if (status >> 16 || number == SIGTRAP || number == SIGSTOP) {
		number = 0;
	}
	ptrace(PTRACE_SYSCALL, tid, NULL, (long)number);
}

int trace_processes(const pid_t *pids, struct flow *flows, unsigned count)
{
	struct trace *trace = calloc(1, sizeof(*trace));
	unsigned left = count;
	int r = trace ? 0 : -ENOMEM;

	while (r == 0 && left) {
		int status;
		pid_t tid = waitpid(-1, &status, __WALL);

		if (tid < 0) {
			r = run_why_not();
		} else if (WIFSTOPPED(status)) {
			trace_stopped(trace, pids, flows, count, tid, status);
		} else {
			for (unsigned i = 0; i < count; i++) {
				if (pids[i] != tid)
					continue;
				left--;
				if (status)
					r = -ECANCELED;
			}
		}
	}
	if (r < 0)
		run_kill(pids, count);
	free(trace);
	return r;
}

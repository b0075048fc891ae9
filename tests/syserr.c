/* syserr.c: see syserr.h. */
#include "syserr.h"

#include "harness_private.h"

#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#define OVER 0x7e57 /* getpgid() of this ends the operation for the tracer */

static struct syserr_shared {
	struct syserr_seen seen;
	char trouble[200];
} * shared;

/* ---- allocations ---- */

static _Thread_local bool counting;
static bool failing; /* something is to fail now */
static unsigned allocations, fail_at;
static long outstanding;
static bool wrapped;

static bool fails_now(void)
{
	if (!counting)
		return false;
	allocations++;
	if (allocations != fail_at)
		return false;
	shared->seen.happened = true;
	errno = ENOMEM;
	return true;
}

static void *got(void *p)
{
	if (p)
		__atomic_add_fetch(&outstanding, 1, __ATOMIC_RELAXED);
	return p;
}

/* used: LTO does not see the linker's --wrap */
void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void *__real_aligned_alloc(size_t unit, size_t bytes);
void __real_free(void *p);
__attribute__((used)) void *__wrap_malloc(size_t bytes);
__attribute__((used)) void *__wrap_calloc(size_t n, size_t bytes);
__attribute__((used)) void *__wrap_realloc(void *p, size_t bytes);
__attribute__((used)) void *__wrap_aligned_alloc(size_t unit, size_t bytes);
__attribute__((used)) void __wrap_free(void *p);

void *__wrap_malloc(size_t bytes)
{
	wrapped = true;
	return fails_now() ? NULL : got(__real_malloc(bytes));
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return fails_now() ? NULL : got(__real_calloc(n, bytes));
}

void *__wrap_realloc(void *p, size_t bytes)
{
	void *more = fails_now() ? NULL : __real_realloc(p, bytes);

	return p ? more : got(more);
}

void *__wrap_aligned_alloc(size_t unit, size_t bytes)
{
	return fails_now() ? NULL : got(__real_aligned_alloc(unit, bytes));
}

void __wrap_free(void *p)
{
	if (p)
		__atomic_sub_fetch(&outstanding, 1, __ATOMIC_RELAXED);
	__real_free(p);
}

/* ---- the child ---- */

static unsigned count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static unsigned count_mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[600];
	unsigned n = 0;

	while (maps && fgets(line, sizeof(line), maps))
		n += strstr(line, bus_directory()) != NULL;
	if (maps)
		fclose(maps);
	return n;
}

static _Noreturn void trouble(const char *what, long a, long b)
{
	snprintf(shared->trouble, sizeof(shared->trouble), "%s (%ld, %ld) %s", what, a, b,
		 ringbus_error_detail());
	_exit(1);
}

static bool documented(int rc)
{
	static const int codes[] = {EACCES,    EAGAIN,	 EBADMSG,  EBUSY,	 EEXIST,
				    EFAULT,    EINVAL,	 EMSGSIZE, ENFILE,	 ENOENT,
				    ENOSPC,    ENOTCONN, ENOTSUP,  ENOTUNIQ,	 EPERM,
				    EPROTO,    ESRCH,	 ESTALE,   ENOMEM,	 EMFILE,
				    ETIMEDOUT, EUSERS,	 EIO,	   ECONNREFUSED, EADDRINUSE};

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (rc == -codes[i])
			return true;
	return rc >= 0;
}

uint64_t syserr_patience_ns(void)
{
	return failing ? HARNESS_SECOND / 10 : 15 * HARNESS_SECOND;
}

/* Runs it once with what is to fail. */
static int run_failing(const struct syserr_operation *o, const struct syserr_plan *plan,
		       bool traced)
{
	int rc;

	if (traced)
		raise(SIGSTOP);
	allocations = 0;
	fail_at = plan->number < 0 ? plan->hit : 0;
	counting = true;
	failing = plan->number >= 0 || plan->hit > 0;
	rc = o->run();
	failing = false;
	counting = false;
	if (traced)
		syscall(SYS_getpgid, OVER);
	shared->seen.allocations = allocations;
	shared->seen.rc = rc;
	return rc;
}

static _Noreturn void child_runs(const struct syserr_operation *o, const struct syserr_plan *plan,
				 bool traced)
{
	unsigned descriptors, mappings;
	void *volatile once; /* or the compiler would leave it out */
	long before;
	int rc;

	child_reset();
	if (traced)
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
	alarm(20 * (unsigned)harness_number("HARNESS_SLOW", 1));
	once = malloc(1);
	free(once);
	shared->seen.wrapped = wrapped;
	descriptors = count_descriptors();
	mappings = count_mappings();
	before = outstanding;
	o->prepare();
	rc = run_failing(o, plan, traced);
	if (!documented(rc))
		trouble("undocumented code", rc, 0);
	if (rc < 0) {
		rc = o->run();
		if (rc < 0 && !(o->flags & SYSERR_ONCE))
			trouble("cannot be done again", shared->seen.rc, rc);
	}
	if (rc >= 0)
		o->undo();
	o->finish();
	if (count_descriptors() != descriptors)
		trouble("descriptors leaked", descriptors, count_descriptors());
	if (count_mappings() != mappings)
		trouble("mappings leaked", mappings, count_mappings());
	if (outstanding != before)
		trouble("memory leaked", before, outstanding);
	_exit(0);
}

/* ---- the tracer ---- */

/* Puts `number` in the place of the call that the child is about to make, or sets its result. */
static void set_call(pid_t pid, long number)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;

	ptrace(PTRACE_GETREGS, pid, NULL, &regs);
	regs.orig_rax = (unsigned long long)number;
	ptrace(PTRACE_SETREGS, pid, NULL, &regs);
#endif
}

static void set_result(pid_t pid, long result)
{
#if defined(__x86_64__)
	struct user_regs_struct regs;

	ptrace(PTRACE_GETREGS, pid, NULL, &regs);
	regs.rax = (unsigned long long)result;
	ptrace(PTRACE_SETREGS, pid, NULL, &regs);
#endif
}

struct tracer {
	pid_t pid;
	const struct syserr_plan *plan;
	bool within;
	bool failing; /* between entry and exit of the call that fails */
};

/* At the entry of a call: counts it, and fails it if it is the one. */
static void at_entry(struct tracer *t, const struct __ptrace_syscall_info *info)
{
	uint64_t number = info->entry.nr;

	if (number == SYS_getpgid && info->entry.args[0] == OVER) {
		t->within = false;
		return;
	}
	if (number >= SYSERR_CALLS)
		return;
	shared->seen.calls[number]++;
	if ((long)number == t->plan->number && shared->seen.calls[number] == t->plan->hit) {
		t->failing = true;
		shared->seen.happened = true;
		set_call(t->pid, -1);
	}
}

/* One stop of the child; returns the signal that it is to get. */
static int at_stop(struct tracer *t, int status)
{
	struct __ptrace_syscall_info info;
	int sig = WSTOPSIG(status);

	if (sig == (SIGTRAP | 0x80)) {
		if (ptrace(PTRACE_GET_SYSCALL_INFO, t->pid, sizeof(info), &info) <= 0)
			return 0;
		if (info.op == PTRACE_SYSCALL_INFO_ENTRY) {
			at_entry(t, &info);
		} else if (t->failing) {
			set_result(t->pid, -t->plan->error);
			t->failing = false;
		}
		return 0;
	}
	if (sig == SIGSTOP) {
		ptrace(PTRACE_SETOPTIONS, t->pid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL);
		t->within = true;
		return 0;
	}
	return sig;
}

static int trace(pid_t pid, const struct syserr_plan *plan)
{
	struct tracer t = {.pid = pid, .plan = plan};
	int status;

	for (;;) {
		int sig;

		if (waitpid(pid, &status, __WALL) != pid)
			return -1;
		if (!WIFSTOPPED(status))
			return status;
		sig = at_stop(&t, status);
		ptrace(t.within ? PTRACE_SYSCALL : PTRACE_CONT, pid, NULL, sig);
	}
}

bool syserr_child(const struct syserr_operation *o, const struct syserr_plan *plan,
		  struct syserr_seen *seen)
{
	bool traced = plan->number >= 0 || plan->hit == 0;
	int status = -1;
	pid_t pid;

	if (!shared)
		shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(shared != MAP_FAILED);
	memset(shared, 0, sizeof(*shared));
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child_runs(o, plan, traced);
	if (traced)
		status = trace(pid, plan);
	else
		waitpid(pid, &status, 0);
	*seen = shared->seen;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	print_error("%s, call %ld number %u, error %d: wait status %#x, result %d: %s\n", o->name,
		    plan->number, plan->hit, plan->error, status, seen->rc, shared->trouble);
	return false;
}

/* ---- everything ---- */

/* Errors that a call may give; none: it cannot fail, or nobody looks. */
static unsigned errors_of(long number, int errors[3])
{
	static const struct {
		long number;
		int errors[3];
	} table[] = {
		{SYS_openat, {EMFILE, ENOMEM, EACCES}},
		{SYS_mmap, {ENOMEM}},
		{SYS_madvise, {EINVAL, ENOMEM, EFAULT}},
		{SYS_lseek, {EINVAL}},
		{SYS_fallocate, {ENOSPC, EINTR, ENOMEM}},
		{SYS_fcntl, {ENOLCK, EMFILE, EACCES}},
		{SYS_socket, {EMFILE, ENOBUFS, ENOMEM}},
		{SYS_connect, {ECONNREFUSED, ETIMEDOUT, EINTR}},
		{SYS_bind, {EADDRINUSE, EACCES}},
		{SYS_listen, {EADDRINUSE}},
		{SYS_accept4, {EMFILE, ECONNABORTED, EINTR}},
		{SYS_setsockopt, {ENOMEM}},
		{SYS_getsockopt, {ENOBUFS}},
		{SYS_getsockname, {ENOBUFS}},
		{SYS_getpeername, {ENOTCONN}},
		{SYS_sendto, {EPIPE, ECONNRESET, EINTR}},
		{SYS_recvfrom, {ECONNRESET, EINTR, ENOMEM}},
		{SYS_read, {EIO, EINTR}},
		{SYS_write, {EIO, EINTR}},
		{SYS_pread64, {EIO, EINTR}},
		{SYS_pwrite64, {EIO, ENOSPC}},
		{SYS_fstat, {EIO, ENOMEM}},
		{SYS_newfstatat, {ENOENT, EACCES, ENOMEM}},
		{SYS_fstatfs, {EIO}},
		{SYS_statfs, {EIO}},
		{SYS_poll, {EINTR, ENOMEM}},
		{SYS_futex, {EINTR, ENOSYS}},
		{SYS_getrandom, {EINTR}},
		{SYS_membarrier, {EPERM}},
		{SYS_pidfd_open, {EMFILE, ENOSYS}},
		{SYS_epoll_create1, {EMFILE}},
		{SYS_epoll_ctl, {ENOMEM}},
		{SYS_epoll_wait, {EINTR}},
		{SYS_eventfd2, {EMFILE}},
		{SYS_clone3, {EAGAIN}},
		{SYS_clone, {EAGAIN}},
		{SYS_linkat, {EEXIST, ENOSPC}},
		{SYS_renameat, {ENOSPC}},
		{SYS_unlinkat, {EACCES}},
		{SYS_mkdir, {ENOSPC, EACCES}},
		{SYS_fchmod, {EPERM}},
		{SYS_clock_nanosleep, {EINTR}},
		{SYS_sched_getaffinity, {EINVAL}},
		{SYS_readlink, {ENOENT}},
		{SYS_getdents64, {EIO}},
	};
	unsigned n = 0;

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].number == number)
			while (n < 3 && table[i].errors[n]) {
				errors[n] = table[i].errors[n];
				n++;
			}
	return n;
}

static bool can_fail(const struct syserr_operation *o, long number)
{
	return number != SYS_futex || (o->flags & SYSERR_SLEEPS) != 0;
}

unsigned syserr_everything(const struct syserr_operation *o)
{
	struct syserr_plan plan = {.number = -1};
	struct syserr_seen dry, seen;
	unsigned done = 0, failed = 0, kinds = 0, bad = 0;
	uint64_t begin = harness_now_ns();

	assert_true(syserr_child(o, &plan, &dry));
	assert_true(dry.rc >= 0);
	/* the linker's --wrap is at work: this test has allocated, too */
	assert_true(dry.wrapped);
	for (long number = 0; number < SYSERR_CALLS; number++) {
		int errors[3];
		unsigned n = can_fail(o, number) ? errors_of(number, errors) : 0;

		kinds += dry.calls[number] > 0 && n > 0;
		for (unsigned hit = 1; hit <= dry.calls[number]; hit++) {
			for (unsigned e = 0; e < n; e++) {
				plan = (struct syserr_plan){number, hit, errors[e]};
				watchdog(60);
				bad += !syserr_child(o, &plan, &seen);
				done += seen.happened;
				failed += seen.happened && seen.rc < 0;
			}
		}
	}
	for (unsigned hit = 1; hit <= dry.allocations; hit++) {
		plan = (struct syserr_plan){-1, hit, ENOMEM};
		bad += !syserr_child(o, &plan, &seen);
		done += seen.happened;
		failed += seen.happened && seen.rc < 0;
	}
	print_message("%-22s %4u ms, %u kinds of calls, %u allocations: %u failures injected, %u "
		      "told\n",
		      o->name, (unsigned)((harness_now_ns() - begin) / HARNESS_MS), kinds,
		      dry.allocations, done, failed);
	assert_int_equal(bad, 0);
	assert_true(done > 0);
	return done;
}

void syserr_need(bool there, const char *what)
{
	if (there)
		return;
	fprintf(stderr, "not ready: %s: %s\n", what, ringbus_error_detail());
	_exit(3);
}

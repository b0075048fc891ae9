/* killat_trace.c: see killat.h. This file: ptrace. Steps a process through the library and records
 * where it was; runs a process to one of these places.
 *
 * The library's text is in a section of its own (tests/meson.build), so an address tells whether it
 * is the library's. What is called outside (libc) runs at full speed to its return; of it only the
 * system calls count, each with two places, before and after. A place is reached with a debug
 * register: the text stays as it is.
 */
#include "killat.h"

#include <elf.h>
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>

extern const char __start_ringbus_text[] __attribute__((visibility("hidden")));
extern const char __stop_ringbus_text[] __attribute__((visibility("hidden")));

#define STUCK_NS (10 * HARNESS_SECOND)
#define STEPS_MAX 400000u

#if defined(__x86_64__)

extern const char killat_marked[];

__asm__(".text\n"
	".globl killat_int3\n"
	".type killat_int3, @function\n"
	"killat_int3:\n"
	"	int3\n"
	".globl killat_marked\n"
	"killat_marked:\n"
	"	ret\n"
	".size killat_int3, .-killat_int3\n");
void killat_int3(void);

void killat_mark(uint32_t marker)
{
	word_set(&world->marker, marker);
	killat_int3();
}

static bool is_text(uint64_t address)
{
	return address >= (uint64_t)(uintptr_t)__start_ringbus_text &&
	       address < (uint64_t)(uintptr_t)__stop_ringbus_text;
}

static uint64_t rip_of(pid_t pid)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rip), NULL);
}

static uint64_t rsp_of(pid_t pid)
{
	return (uint64_t)ptrace(PTRACE_PEEKUSER, pid, offsetof(struct user, regs.rsp), NULL);
}

static uint64_t peek(pid_t pid, uint64_t address)
{
	return (uint64_t)ptrace(PTRACE_PEEKDATA, pid, (void *)(uintptr_t)address, NULL);
}

/* Address 0 takes the breakpoint away. */
static bool set_break(pid_t pid, uint64_t address)
{
	uint64_t control = address ? 1 : 0;

	if (address && ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[0]),
			      (void *)(uintptr_t)address) < 0)
		return false;
	return ptrace(PTRACE_POKEUSER, pid, offsetof(struct user, u_debugreg[7]),
		      (void *)(uintptr_t)control) >= 0;
}

enum stop { STOP_TRAP, STOP_CALL, STOP_MARK, STOP_SIGNAL, STOP_DIED, STOP_NONE, STOP_ENOUGH };

static int signal_to_pass;

static enum stop classify(pid_t pid, int status)
{
	signal_to_pass = 0;
	if (!WIFSTOPPED(status))
		return STOP_DIED;
	if (WSTOPSIG(status) == (SIGTRAP | 0x80))
		return STOP_CALL;
	if (status >> 16 == PTRACE_EVENT_STOP)
		return STOP_SIGNAL;
	if (WSTOPSIG(status) != SIGTRAP) {
		signal_to_pass = WSTOPSIG(status);
		return STOP_SIGNAL;
	}
	return rip_of(pid) == (uint64_t)(uintptr_t)killat_marked ? STOP_MARK : STOP_TRAP;
}

/* Waits for the next stop: at first without a pause, since most come within microseconds. */
static enum stop next_stop(pid_t pid, trace_tick tick)
{
	uint64_t begin = harness_now_ns(), now = begin;
	int status;

	for (unsigned i = 0;; i++) {
		pid_t got = waitpid(pid, &status, WNOHANG | __WALL);

		if (got == pid)
			return classify(pid, status);
		if (got < 0)
			return STOP_DIED;
		if ((i & 15) == 15)
			now = harness_now_ns();
		if (now - begin < 40000)
			continue;
		if (tick && tick() && now - begin > 3 * HARNESS_MS)
			return STOP_ENOUGH;
		if (now - begin > STUCK_NS)
			return STOP_NONE;
		nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
		now = harness_now_ns();
	}
}

static enum stop go_on(pid_t pid, int request, trace_tick tick)
{
	if (ptrace(request, pid, NULL, (void *)(intptr_t)signal_to_pass) < 0)
		return STOP_DIED;
	signal_to_pass = 0;
	return next_stop(pid, tick);
}

bool trace_attach(pid_t pid)
{
	return ptrace(PTRACE_SEIZE, pid, NULL, (void *)(uintptr_t)PTRACE_O_TRACESYSGOOD) == 0;
}

const char *trace_impossible(void)
{
	const char *why = NULL;
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	if (pid < 0 || !trace_attach(pid))
		why = "ptrace is forbidden here";
	else if (!trace_interrupt(pid) || !set_break(pid, (uint64_t)(uintptr_t)killat_int3))
		why = "no debug register can be set here";
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return why;
}

/* The first stop may be the trap of a step that was under way, with the interruption still to come,
 * or the other way round: goes on until an interruption is all that comes. */
bool trace_interrupt(pid_t pid)
{
	unsigned clean = 0;

	for (unsigned i = 0; i < 100 && clean < 2; i++) {
		enum stop stop;

		if (i > 0 && ptrace(PTRACE_CONT, pid, NULL, NULL) < 0)
			return false;
		usleep(50);
		if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0)
			return false;
		stop = next_stop(pid, NULL);
		if (stop == STOP_DIED || stop == STOP_NONE)
			return false;
		set_break(pid, 0);
		clean = stop == STOP_SIGNAL ? clean + 1 : 0;
	}
	return clean == 2;
}

void trace_detach(pid_t pid)
{
	set_break(pid, 0);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

/* ---- recording ---- */

/* How often each byte of the text was the beginning of an executed instruction. */
static uint32_t *passages;

static void record(struct recording *r, uint32_t offset, uint32_t hit, uint32_t call)
{
	if (r->count == r->capacity) {
		r->capacity = r->capacity ? 2 * r->capacity : 1024;
		r->at = realloc(r->at, r->capacity * sizeof(*r->at));
		if (!r->at)
			abort();
	}
	r->at[r->count++] = (struct position){.offset = offset, .hit = hit, .call = call};
}

static void record_instruction(struct recording *r, uint64_t rip)
{
	static uint64_t before;
	uint32_t offset = (uint32_t)(rip - (uint64_t)(uintptr_t)__start_ringbus_text);

	/* a repeated string instruction traps after each turn, and is one passage for a breakpoint
	 */
	if (rip == before && r->steps > 0)
		return;
	before = rip;
	r->steps++;
	r->instructions += passages[offset] == 0;
	record(r, offset, ++passages[offset], 0);
}

static void record_call(struct recording *r)
{
	record(r, 0, 0, (uint32_t)++r->calls);
}

/* The library called something outside: runs it to its return. */
static enum stop run_outside(pid_t pid, struct recording *r, uint64_t back, trace_tick tick)
{
	uint64_t rsp = rsp_of(pid);
	enum stop stop;

	set_break(pid, back);
	for (;;) {
		stop = go_on(pid, PTRACE_SYSCALL, tick);
		if (stop == STOP_CALL)
			record_call(r);
		else if (stop == STOP_SIGNAL)
			continue;
		else if (stop != STOP_TRAP || rsp_of(pid) > rsp)
			break;
	}
	set_break(pid, 0);
	return stop;
}

/* One step, or one call of the outside. */
static enum stop advance(pid_t pid, struct recording *r, trace_tick tick)
{
	uint64_t rip = rip_of(pid), back;

	if (is_text(rip)) {
		record_instruction(r, rip);
		return go_on(pid, PTRACE_SINGLESTEP, tick);
	}
	back = peek(pid, rsp_of(pid));
	if (is_text(back))
		return run_outside(pid, r, back, tick);
	if ((peek(pid, rip) & 0xffff) == 0x050f) {
		enum stop stop;

		record_call(r);
		stop = go_on(pid, PTRACE_SINGLESTEP, tick);
		record_call(r);
		return stop;
	}
	return go_on(pid, PTRACE_SINGLESTEP, tick);
}

enum trace_end trace_record(pid_t pid, struct recording *r, trace_tick tick)
{
	size_t text = (size_t)(__stop_ringbus_text - __start_ringbus_text);
	enum stop stop = STOP_TRAP;

	free(passages);
	passages = calloc(text, sizeof(*passages));
	*r = (struct recording){.at = NULL};
	for (size_t i = 0; i < STEPS_MAX; i++) {
		if (stop == STOP_MARK && word_get(&world->marker) == MARK_OVER) {
			r->complete = true;
			return TRACE_OVER;
		}
		if (stop == STOP_DIED)
			return TRACE_DIED;
		if (stop == STOP_NONE)
			return TRACE_STUCK;
		if (stop == STOP_ENOUGH) {
			r->complete = true;
			return TRACE_OVER;
		}
		if (stop == STOP_MARK && word_get(&world->marker) == MARK_END)
			stop = go_on(pid, PTRACE_CONT, tick);
		else
			stop = advance(pid, r, tick);
	}
	return TRACE_STUCK;
}

void recording_free(struct recording *r)
{
	free(r->at);
	*r = (struct recording){.at = NULL};
}

/* ---- running to a place ---- */

/* Counts what is between the marks only. */
static enum trace_end run_to_call(pid_t pid, uint32_t call, trace_tick tick)
{
	uint32_t seen = 0;
	bool inside = true;

	for (;;) {
		switch (go_on(pid, inside ? PTRACE_SYSCALL : PTRACE_CONT, tick)) {
		case STOP_CALL:
			if (++seen == call)
				return TRACE_REACHED;
			break;
		case STOP_MARK:
			if (word_get(&world->marker) == MARK_OVER)
				return TRACE_OVER;
			inside = word_get(&world->marker) == MARK_BEGIN;
			break;
		case STOP_DIED:
			return TRACE_DIED;
		case STOP_NONE:
			return TRACE_STUCK;
		case STOP_ENOUGH:
			return TRACE_OVER;
		default:
			break;
		}
	}
}

static enum trace_end run_to_instruction(pid_t pid, uint64_t address, uint32_t hits,
					 trace_tick tick)
{
	if (!set_break(pid, address))
		return TRACE_DIED;
	for (;;) {
		switch (go_on(pid, PTRACE_CONT, tick)) {
		case STOP_TRAP:
			if (rip_of(pid) == address && --hits == 0)
				return TRACE_REACHED;
			break;
		case STOP_MARK:
			if (word_get(&world->marker) == MARK_OVER)
				return TRACE_OVER;
			break;
		case STOP_DIED:
			return TRACE_DIED;
		case STOP_NONE:
			return TRACE_STUCK;
		case STOP_ENOUGH:
			return TRACE_OVER;
		default:
			break;
		}
	}
}

enum trace_end trace_to(pid_t pid, const struct position *p, trace_tick tick)
{
	if (p->call)
		return run_to_call(pid, p->call, tick);
	return run_to_instruction(pid, (uint64_t)(uintptr_t)__start_ringbus_text + p->offset,
				  p->hit, tick);
}

enum trace_end trace_begin(pid_t pid)
{
	enum stop stop;

	do
		stop = next_stop(pid, NULL);
	while (stop == STOP_SIGNAL && ptrace(PTRACE_CONT, pid, NULL, NULL) == 0);
	if (stop != STOP_MARK)
		return stop == STOP_NONE ? TRACE_STUCK : TRACE_DIED;
	return word_get(&world->marker) == MARK_OVER ? TRACE_OVER : TRACE_REACHED;
}

enum trace_end trace_finish(pid_t pid, trace_tick tick)
{
	set_break(pid, 0);
	for (;;) {
		switch (go_on(pid, PTRACE_CONT, tick)) {
		case STOP_MARK:
			if (word_get(&world->marker) == MARK_OVER)
				return TRACE_OVER;
			break;
		case STOP_DIED:
			return TRACE_DIED;
		case STOP_NONE:
			return TRACE_STUCK;
		case STOP_ENOUGH:
			return TRACE_OVER;
		default:
			break;
		}
	}
}

#endif

/* ---- names ---- */

static const Elf64_Shdr *section(const uint8_t *file, uint32_t type)
{
	const Elf64_Ehdr *h = (const void *)file;
	const Elf64_Shdr *s = (const void *)(file + h->e_shoff);

	for (unsigned i = 0; i < h->e_shnum; i++)
		if (s[i].sh_type == type)
			return &s[i];
	return NULL;
}

static const uint8_t *own_file(void)
{
	static const uint8_t *file;
	int fd = file ? -1 : open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *map;

	if (fd < 0)
		return file;
	if (fstat(fd, &st) == 0) {
		map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		file = map == MAP_FAILED ? NULL : map;
	}
	close(fd);
	return file;
}

const char *trace_place(uint32_t offset)
{
	static char text[128];
	const uint8_t *file = own_file();
	const Elf64_Shdr *table = file ? section(file, SHT_SYMTAB) : NULL, *names;
	uint64_t text_at = 0;
	const Elf64_Sym *s;

	snprintf(text, sizeof(text), "+%#x", offset);
	if (!table)
		return text;
	names = (const Elf64_Shdr *)(const void *)(file + ((const Elf64_Ehdr *)file)->e_shoff) +
		table->sh_link;
	s = (const void *)(file + table->sh_offset);
	for (size_t i = 0; i < table->sh_size / sizeof(*s); i++)
		if (strcmp((const char *)file + names->sh_offset + s[i].st_name,
			   "__start_ringbus_text") == 0)
			text_at = s[i].st_value;
	for (size_t i = 0; text_at && i < table->sh_size / sizeof(*s); i++)
		if (ELF64_ST_TYPE(s[i].st_info) == STT_FUNC && s[i].st_value <= text_at + offset &&
		    text_at + offset < s[i].st_value + s[i].st_size)
			snprintf(text, sizeof(text), "%s+%#x",
				 (const char *)file + names->sh_offset + s[i].st_name,
				 (unsigned)(text_at + offset - s[i].st_value));
	return text;
}

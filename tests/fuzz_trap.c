/* fuzz_trap.c: no decision reads a shared word twice, as the machine code has it: the region is
 * protected, each access to it traps, is noted, and is let through alone.
 *
 * So compilers are seen too: run it in builds by gcc and clang, -O0 to -O3 and LTO. Control
 * operations make mappings of their own, which nothing protects; fuzz_single_read.c has those.
 */
#include "single_read.h"

#include "node.h"

#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined(__x86_64__)

#define TRAP_FLAG 0x100
#define WROTE 2 /* bit of the fault's error code */

static volatile bool stepping;
static volatile uint64_t reads, writes;

static void protect(bool closed)
{
	const struct words_range *ranges;
	unsigned n;

	ranges = words_mappings(&n);
	for (unsigned i = 0; i < n; i++)
		mprotect((void *)(uintptr_t)ranges[i].begin, ranges[i].end - ranges[i].begin,
			 closed ? PROT_NONE : ranges[i].protection);
}

static bool is_ours(uint64_t at)
{
	const struct words_range *ranges;
	unsigned n;

	ranges = words_mappings(&n);
	for (unsigned i = 0; i < n; i++)
		if (at >= ranges[i].begin && at < ranges[i].end)
			return true;
	return false;
}

static void on_fault(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;
	uint64_t at = (uint64_t)(uintptr_t)info->si_addr;

	if (stepping || !is_ours(at)) {
		signal(SIGSEGV, SIG_DFL); /* a real one: it comes again */
		return;
	}
	if (u->uc_mcontext.gregs[REG_ERR] & WROTE) {
		writes++;
	} else {
		reads++;
		single_loaded(words_offset(info->si_addr));
	}
	protect(false);
	stepping = true;
	u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_step(int number, siginfo_t *info, void *context)
{
	ucontext_t *u = context;

	u->uc_mcontext.gregs[REG_EFL] &= ~(greg_t)TRAP_FLAG;
	stepping = false;
	protect(true);
}

static void install(void)
{
	struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
	struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};

	sigaction(SIGSEGV, &fault, NULL);
	sigaction(SIGTRAP, &step, NULL);
}

static void no_word_is_loaded_twice_by_the_machine_code(void **state)
{
	struct bus_spec spec = {.nodes = 8, .events = 16, .ring_bytes = 16384};
	unsigned bad = 0;

	bus_serve(&spec);
	single_prepare();
	install();
	for (unsigned i = 0; i < single_operation_count; i++) {
		const struct single_operation *o = &single_operations[i];

		if (o->name[0] == '-' || o->control) {
			o->run();
			continue;
		}
		words_find_mappings(single_node()->region);
		single_begin(o->name);
		protect(true);
		o->run();
		protect(false);
		bad += single_end();
	}
	signal(SIGSEGV, SIG_DFL);
	signal(SIGTRAP, SIG_DFL);
	single_say("by traps");
	ledger("accesses-trapped", (double)(reads + writes));
	print_message("%llu reads, %llu writes trapped\n", (unsigned long long)reads,
		      (unsigned long long)writes);
	assert_true(reads > 100 && writes > 50);
	assert_int_equal(bad, 0);
}

#else

static void no_word_is_loaded_twice_by_the_machine_code(void **state)
{
	print_message("SKIPPED: traps single steps of x86-64 only\n");
	skip();
}

#endif

static const struct CMUnitTest tests[] = {
	BARE_TEST(no_word_is_loaded_twice_by_the_machine_code),
};

HARNESS_MAIN("fuzz_trap", tests)

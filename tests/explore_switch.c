/* explore_switch.c: coroutines for the explorer. On x86-64 by hand: swapcontext() makes a system
 * call each time. */
#include "explore.h"

#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES (256u << 10)

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
static const void *main_stack;
static size_t main_stack_bytes;
#endif

static void (*entry_point)(void);

static void first_entry(void)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(NULL, main_stack ? NULL : &main_stack,
					main_stack_bytes ? NULL : &main_stack_bytes);
#endif
	entry_point();
	abort();
}

#if defined(__x86_64__)
void ex_switch_stacks(void **save, void *to);
__asm__(".text\n"
	".globl ex_switch_stacks\n"
	".type ex_switch_stacks,@function\n"
	"ex_switch_stacks:\n"
	"	push %rbp\n"
	"	push %rbx\n"
	"	push %r12\n"
	"	push %r13\n"
	"	push %r14\n"
	"	push %r15\n"
	"	mov %rsp,(%rdi)\n"
	"	mov %rsi,%rsp\n"
	"	pop %r15\n"
	"	pop %r14\n"
	"	pop %r13\n"
	"	pop %r12\n"
	"	pop %rbx\n"
	"	pop %rbp\n"
	"	ret\n"
	".size ex_switch_stacks,.-ex_switch_stacks\n");
#endif

void ex_coroutine_init(struct ex_coroutine *c, void (*entry)(void))
{
	entry_point = entry;
	if (!c->stack)
		c->stack = aligned_alloc(64, STACK_BYTES);
	if (!c->stack)
		abort();
#if defined(__x86_64__)
	/* six registers, the entry, and an end of the stack that is aligned for its call */
	void **top = (void **)(void *)(c->stack + STACK_BYTES - 64);

	top[-1] = NULL;
	top[-2] = (void *)(uintptr_t)first_entry;
	for (int i = 3; i <= 8; i++)
		top[-i] = NULL;
	c->sp = top - 8;
#else
	ucontext_t *u = calloc(1, sizeof(*u));

	if (!u || getcontext(u) < 0)
		abort();
	u->uc_stack.ss_sp = c->stack;
	u->uc_stack.ss_size = STACK_BYTES;
	makecontext(u, first_entry, 0);
	c->context = u;
#endif
}

void ex_coroutine_switch(struct ex_coroutine *from, struct ex_coroutine *to)
{
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_start_switch_fiber(&from->fake, to->stack ? to->stack : main_stack,
				       to->stack ? STACK_BYTES : main_stack_bytes);
#endif
#if defined(__x86_64__)
	ex_switch_stacks(&from->sp, to->sp);
#else
	if (!from->context)
		from->context = calloc(1, sizeof(ucontext_t));
	swapcontext(from->context, to->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
	__sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

/* syserr.h: runs one operation in a child and fails its n-th system call, or its n-th allocation.
 *
 * The parent traces the child (ptrace) while it is in the operation; the call that is to fail is
 * not made and returns the error. Allocations of the library and of the test are counted by the
 * linker's --wrap, so that one can be failed, and so that each that is not given back is known.
 */
#ifndef RINGBUS_TESTS_SYSERR_H
#define RINGBUS_TESTS_SYSERR_H

#include "harness.h"

enum {
	SYSERR_ONCE = 1, /* it cannot be done again: what failed is told, and done */
	SYSERR_SLEEPS =
		2, /* futex calls fail too; elsewhere they are those of libc, which aborts */
};

struct syserr_operation {
	const char *name;
	void (*prepare)(void);
	int (*run)(void);   /* the operation; again after a failure, which must then succeed */
	void (*undo)(void); /* of a run that succeeded */
	void (*finish)(void);
	unsigned flags;
};

/* What is to fail in the next child: the `hit`-th (1 is the first) call `number`; or, if number is
 * -1, the `hit`-th allocation. hit 0: nothing fails, and what is called is noted. */
struct syserr_plan {
	long number;
	unsigned hit;
	int error;
};

#define SYSERR_CALLS 512 /* system call numbers */

struct syserr_seen {
	unsigned calls[SYSERR_CALLS]; /* how often each was made in the operation */
	unsigned allocations;
	int rc;	       /* of the operation */
	bool wrapped;  /* allocations go through here */
	bool happened; /* what was to fail was reached */
};

/* How long what is called in the child may wait: not long where something fails, or each time-out
 * would be waited for; long where all must go well. */
uint64_t syserr_patience_ns(void);
/* False: the child crashed, hung, leaked, or could not do it again; said on stderr. */
bool syserr_child(const struct syserr_operation *o, const struct syserr_plan *plan,
		  struct syserr_seen *seen);
/* Fails everything in turn. Returns how many things were failed; asserts. */
unsigned syserr_everything(const struct syserr_operation *o);
/* What is needed before an operation must come about. */
void syserr_need(bool there, const char *what);

#endif

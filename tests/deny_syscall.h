/* deny_syscall.h: a process whose kernel refuses a system call, as an old kernel or a sandbox does.
 */
#ifndef RINGBUS_TESTS_DENY_SYSCALL_H
#define RINGBUS_TESTS_DENY_SYSCALL_H

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* From now on system call `number` of this process and its children gives `error`. argument >= 0:
 * only where the low half of that argument is (equal) or is not (!equal) `value`. False: the kernel
 * does not allow filters. */
static inline bool deny_syscall(long number, int error, int argument, bool equal, uint32_t value)
{
	uint32_t at = (uint32_t)offsetof(struct seccomp_data, args) +
		      8 * (uint32_t)(argument < 0 ? 0 : argument);
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)number, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at),
		/* without an argument both ways lead to the refusal */
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, argument >= 0 && !equal ? 1 : 0,
			 argument >= 0 && equal ? 1 : 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(filter) / sizeof(filter[0]), .filter = filter};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

#endif

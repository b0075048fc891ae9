/* ringbus-exec.c: the verbs top and doctor, which are those of shm-inspect. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROGRAM "shm-inspect"

/* Beside this program first: an uninstalled ringbus shall not find an installed shm-inspect. */
static void beside(char **argv)
{
	char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof path - sizeof PROGRAM);
	char *slash;
	errno = ENOENT;
	if (n <= 0)
		return;
	path[n] = 0;
	slash = strrchr(path, '/');
	if (!slash)
		return;
	strcpy(slash + 1, PROGRAM);
	execv(path, argv);
}

static int run_program(struct call *call)
{
	char program[] = "ringbus"; /* so its messages name what was typed */
	char **argv = calloc((size_t)call->all_argc + 2, sizeof *argv);
	if (!argv)
		return call_out_of_memory();
	argv[0] = program;
	for (int i = 0; i < call->all_argc; i++)
		argv[i + 1] = call->all_argv[i]; /* the first is the verb */
	beside(argv);
	if (errno == ENOENT)
		execvp(PROGRAM, argv);
	free(argv);
	return cli_error("cannot run " PROGRAM ": %s", strerror(errno));
}

const struct verb verb_top = {
	.name = "top",
	.operands = "",
	.help = "what the bus is doing, again and again (shm-inspect top)",
	.run = run_program,
};

const struct verb verb_doctor = {
	.name = "doctor",
	.operands = "",
	.help = "what stands in the way of this bus (shm-inspect doctor)",
	.run = run_program,
};

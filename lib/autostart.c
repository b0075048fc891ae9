/* autostart.c: starts ringbusd detached from this process. Level 2.
 *
 * Everything is prepared before the fork, and the children only make system calls: this process may
 * have threads. _Fork() runs no fork handlers, which a library must not do behind the back of its
 * user.
 */
#include "autostart.h"

#include "error.h"
#include "port.h"

#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define AUTOSTART_NAME "ringbusd"
#define AUTOSTART_STATUS_FD 3

static bool autostart_usable(char out[PATH_MAX], const char *directory, size_t length,
			     const char *below)
{
	int n = snprintf(out, PATH_MAX, "%.*s%s/%s", (int)length, directory, below, AUTOSTART_NAME);

	return n > 0 && n < PATH_MAX && out[0] == '/' && access(out, X_OK) == 0;
}

/* Absolute path: $RINGBUSD, beside this program, in a build tree beside it, where it was installed,
 * PATH. */
static int autostart_find(char out[PATH_MAX])
{
	const char *named = secure_getenv("RINGBUSD"), *path = secure_getenv("PATH");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *slash;

	if (named && *named) {
		if (named[0] != '/' || strlen(named) >= PATH_MAX || access(named, X_OK) < 0)
			return rb_fail(-ENOENT,
				       "RINGBUSD names '%s', which is no absolute path of a "
				       "program",
				       named);
		strcpy(out, named);
		return 0;
	}
	self[n > 0 ? n : 0] = 0;
	slash = strrchr(self, '/');
	if (slash && autostart_usable(out, self, (size_t)(slash - self), ""))
		return 0;
	if (slash && autostart_usable(out, self, (size_t)(slash - self), "/../tools"))
		return 0;
#ifdef RINGBUS_BINDIR
	if (autostart_usable(out, RINGBUS_BINDIR, strlen(RINGBUS_BINDIR), ""))
		return 0;
#endif
	for (; path && *path; path += strcspn(path, ":"), path += *path == ':')
		if (autostart_usable(out, path, strcspn(path, ":"), ""))
			return 0;
	return rb_fail(-ENOENT,
		       "cannot find ringbusd to start it; put it in PATH or name it with RINGBUSD");
}

/* The environment without what a service manager told this process alone. */
static char **autostart_environment(void)
{
	static const char *const private_names[] = {"NOTIFY_SOCKET=", "LISTEN_PID=",
						    "LISTEN_FDS=",    "LISTEN_FDNAMES=",
						    "WATCHDOG_USEC=", "WATCHDOG_PID=",
						    "JOURNAL_STREAM="};
	size_t n = 0, kept = 0;
	char **copy;

	while (environ && environ[n])
		n++;
	copy = calloc(n + 1, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		bool drop = false;

		for (size_t k = 0; k < rb_array_size(private_names); k++)
			drop = drop ||
			       strncmp(environ[i], private_names[k], strlen(private_names[k])) == 0;
		if (!drop)
			copy[kept++] = environ[i];
	}
	return copy;
}

/* In the grandchild: system calls only. */
static _Noreturn void autostart_exec(const char *const *argv, char *const *envp, int status_fd)
{
	struct sigaction standard = {.sa_handler = SIG_DFL};
	int null, err;

	if (dup2(status_fd, AUTOSTART_STATUS_FD) < 0)
		_exit(1);
	fcntl(AUTOSTART_STATUS_FD, F_SETFD, FD_CLOEXEC);
	close_range(AUTOSTART_STATUS_FD + 1, UINT_MAX, 0);
	null = open("/dev/null", O_RDWR);
	for (int fd = 0; fd < 3; fd++)
		if (null >= 0 && null != fd)
			dup2(null, fd);
	if (null > 3)
		close(null);
	if (chdir("/") < 0)
		_exit(1);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &standard, NULL);
	sigemptyset(&standard.sa_mask);
	sigprocmask(SIG_SETMASK, &standard.sa_mask, NULL);
	execve(argv[0], (char *const *)(uintptr_t)argv, envp);
	err = errno;
	if (write(AUTOSTART_STATUS_FD, &err, sizeof(err)) < 0)
		_exit(2);
	_exit(1);
}

static int autostart_fork(const char *const *argv, char *const *envp, int status_fd)
{
	sigset_t all, old;
	pid_t child;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	child = _Fork();
	if (child == 0) {
		setsid();
		child = _Fork();
		if (child == 0)
			autostart_exec(argv, envp, status_fd);
		_exit(child < 0);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (child < 0)
		return rb_fail(-errno, "cannot start ringbusd: %s", strerrordesc_np(errno));
	/* It ends at once. Gone already if the application reaps all its children. */
	while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
		;
	return 0;
}

/* The pipe is closed by a successful exec; before that it carries the error. */
static int autostart_result(int fd, const char *path, uint64_t deadline_ns)
{
	int err = port_wait(fd, POLLIN, deadline_ns), code = 0;

	if (err < 0)
		return rb_fail(err, "%s did not start in time", path);
	if (read(fd, &code, sizeof(code)) == (ssize_t)sizeof(code))
		return rb_fail(-code, "cannot start %s: %s", path, strerrordesc_np(code));
	return 0;
}

int autostart(unsigned port, const char *directory, uint64_t deadline_ns)
{
	const char *linger = secure_getenv("RINGBUS_LINGER");
	char path[PATH_MAX], number[16], place[PATH_MAX];
	const char *argv[] = {path,	  "--port", number,    "--directory", place,
			      "--linger", NULL,	    "--quiet", NULL};
	char **envp;
	int fds[2], err = autostart_find(path);

	if (err < 0)
		return err;
	/* The program goes to / : a relative directory is to mean the same there. */
	if (directory[0] == '/' || !realpath(directory, place))
		snprintf(place, sizeof(place), "%s", directory);
	snprintf(number, sizeof(number), "%u", port);
	argv[6] = linger && *linger ? linger : "10";
	envp = autostart_environment();
	if (!envp || pipe2(fds, O_CLOEXEC) < 0) {
		free(envp);
		return rb_fail(-ENOMEM, "cannot start ringbusd: out of memory or descriptors");
	}
	err = autostart_fork(argv, envp, fds[1]);
	close(fds[1]);
	if (err == 0)
		err = autostart_result(fds[0], path, deadline_ns);
	close(fds[0]);
	free(envp);
	return err;
}

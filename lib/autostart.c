/* autostart.c: starts ringbusd detached from this process. Level 2.
 *
 * Everything is prepared before the fork, and the children only make system calls: this process may
 * have threads. _Fork() runs no fork handlers, which a library must not do behind the back of its
 * user.
 *
 * Standard error of the program is a pipe to us until it serves. What it says there is why it
 * failed. RINGBUSD_ANSWER in its environment asks it for more: a 0 byte and an int, 0 when the bus
 * is served and a negative errno code when it cannot be. The end of the pipe without them is the
 * end of the program. One that does not know of this is ready when the port answers.
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
#define AUTOSTART_ANSWER "RINGBUSD_ANSWER"
#define AUTOSTART_LOOK_NS (50 * RB_MS) /* at the port, while nothing is said */
#define AUTOSTART_TEXT_MAX 400u

static bool autostart_usable(char out[PATH_MAX], const char *directory, size_t length,
			     const char *below)
{
	int n = snprintf(out, PATH_MAX, "%.*s%s/%s", (int)length, directory, below, AUTOSTART_NAME);

	return n > 0 && n < PATH_MAX && out[0] == '/' && access(out, X_OK) == 0;
}

static int autostart_named(char out[PATH_MAX], const char *named)
{
	if (named[0] != '/' || strlen(named) >= PATH_MAX)
		return rb_fail(-EINVAL, "RINGBUSD is '%s', which is no absolute path", named);
	if (access(named, X_OK) < 0)
		return rb_fail(errno == EACCES ? -EACCES : -EINVAL,
			       "RINGBUSD is '%s', which cannot be run: %s", named,
			       strerrordesc_np(errno));
	strcpy(out, named);
	return 0;
}

/* Absolute path: $RINGBUSD, beside this program, in a build tree beside it, where it was installed,
 * PATH. */
static int autostart_find(char out[PATH_MAX])
{
	const char *named = secure_getenv("RINGBUSD"), *path = secure_getenv("PATH");
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	const char *slash;

	if (named && *named)
		return autostart_named(out, named);
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

/* The environment without what a service manager told this process alone, and with our question. */
static char **autostart_environment(void)
{
	static const char *const private_names[] = {"NOTIFY_SOCKET=",  "LISTEN_PID=",
						    "LISTEN_FDS=",     "LISTEN_FDNAMES=",
						    "WATCHDOG_USEC=",  "WATCHDOG_PID=",
						    "JOURNAL_STREAM=", AUTOSTART_ANSWER "="};
	static char question[] = AUTOSTART_ANSWER "=2";
	size_t n = 0, kept = 0;
	char **copy;

	while (environ && environ[n])
		n++;
	copy = calloc(n + 2, sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		bool drop = false;

		for (size_t k = 0; k < rb_array_size(private_names); k++)
			drop = drop ||
			       strncmp(environ[i], private_names[k], strlen(private_names[k])) == 0;
		if (!drop)
			copy[kept++] = environ[i];
	}
	if (copy)
		copy[kept] = question;
	return copy;
}

/* In the grandchild: system calls only. */
static _Noreturn void autostart_exec(const char *const *argv, char *const *envp, int pipe_fd)
{
	struct sigaction action = {.sa_handler = SIG_DFL};
	/* This process may have closed its own 0 to 2: the pipe can be one of them. */
	int high = fcntl(pipe_fd, F_DUPFD, 3), null = open("/dev/null", O_RDWR), err;
	unsigned char answer[1 + sizeof(err)] = {0};

	if (high < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(high, 2) < 0 ||
	    chdir("/") < 0)
		_exit(1);
	close_range(3, UINT_MAX, 0);
	for (int sig = 1; sig < NSIG; sig++)
		sigaction(sig, &action, NULL);
	/* Nobody reads the pipe later, and the program may be a script around ringbusd. */
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, NULL);
	sigemptyset(&action.sa_mask);
	sigprocmask(SIG_SETMASK, &action.sa_mask, NULL);
	execve(argv[0], (char *const *)(uintptr_t)argv, envp);
	err = -errno;
	memcpy(answer + 1, &err, sizeof(err));
	if (write(2, answer, sizeof(answer)) < 0)
		_exit(2);
	_exit(1);
}

static int autostart_fork(const char *const *argv, char *const *envp, int pipe_fd)
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
			autostart_exec(argv, envp, pipe_fd);
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

struct autostart_said {
	char text[AUTOSTART_TEXT_MAX + 1]; /* the last line */
	size_t length;
	bool line_over;
	size_t answered; /* bytes, of the 0 and the int */
	unsigned char answer[sizeof(int)];
};

static void autostart_add(struct autostart_said *said, char c)
{
	if (c == '\n')
		said->line_over = true;
	else if (said->line_over)
		said->length = said->line_over = 0;
	if (c != '\n' && said->length < AUTOSTART_TEXT_MAX)
		said->text[said->length++] = c;
}

/* Takes what the program has said. 1: its answer is complete; 0: not yet; -EPIPE: the end. */
static int autostart_read(struct autostart_said *said, int fd)
{
	char part[256];
	ssize_t n = read(fd, part, sizeof(part));

	if (n <= 0)
		return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPIPE;
	for (ssize_t i = 0; i < n; i++) {
		if (said->answered > 0)
			said->answer[said->answered++ - 1] = (unsigned char)part[i];
		else if (part[i] == 0)
			said->answered = 1;
		else
			autostart_add(said, part[i]);
		if (said->answered > sizeof(said->answer))
			return 1;
	}
	return 0;
}

/* The last line, without the program's own name. */
static const char *autostart_line(const struct autostart_said *said)
{
	static const char name[] = AUTOSTART_NAME ": ";
	size_t n = sizeof(name) - 1;

	return said->text + (strncmp(said->text, name, n) == 0 ? n : 0);
}

static int autostart_outcome(const struct autostart_said *said, bool answered, const char *path)
{
	const char *line = autostart_line(said);
	int code = 0;

	if (answered)
		memcpy(&code, said->answer, sizeof(code));
	if (answered && code == 0)
		return 0;
	if (code > 0 || code < -4095)
		code = -EPROTO;
	if (*line)
		return rb_fail(answered ? code : -ECONNREFUSED, "%s was started and ended: %s",
			       path, line);
	if (answered)
		return rb_fail(code, "cannot start %s: %s", path, strerrordesc_np(-code));
	return rb_fail(-ECONNREFUSED, "%s was started and ended without a word", path);
}

/* Until the program serves, has failed or is late. */
static int autostart_result(int fd, unsigned port, const char *path, uint64_t deadline_ns)
{
	struct autostart_said said = {0};

	for (;;) {
		uint64_t look_ns = rb_min(deadline_ns, rb_deadline_ns(AUTOSTART_LOOK_NS));
		int r = port_wait(fd, POLLIN, look_ns);

		if (r == 0)
			r = autostart_read(&said, fd);
		if (r == 1 || r == -EPIPE)
			return autostart_outcome(&said, r == 1, path);
		if (r == -ETIMEDOUT) {
			int there = port_connect(port, deadline_ns);

			if (there >= 0) {
				close(there);
				return 0;
			}
		}
		if (rb_left_ns(deadline_ns) == 0)
			return rb_fail(-ETIMEDOUT, "%s was started and does not serve in time",
				       path);
	}
}

int autostart(unsigned port, const char *directory, uint64_t deadline_ns)
{
	const char *linger = secure_getenv("RINGBUS_LINGER");
	char path[PATH_MAX], number[16];
	const char *argv[] = {path,	  "--port", number,    "--directory", directory,
			      "--linger", NULL,	    "--quiet", NULL};
	char **envp;
	int fds[2], err = autostart_find(path);

	if (err < 0)
		return err;
	snprintf(number, sizeof(number), "%u", port);
	argv[6] = linger && *linger ? linger : "10";
	envp = autostart_environment();
	if (!envp || pipe2(fds, O_CLOEXEC) < 0) {
		free(envp);
		return rb_fail(-ENOMEM, "cannot start ringbusd: out of memory or descriptors");
	}
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	err = autostart_fork(argv, envp, fds[1]);
	close(fds[1]);
	if (err == 0)
		err = autostart_result(fds[0], port, path, deadline_ns);
	close(fds[0]);
	free(envp);
	return err;
}

/* ringbusd.c: the bootstrap service as a program. Level 6.
 *
 * The watchdog of the service manager is fed between two runs of the service's loop, so that what
 * it says is true: a timer stops the loop, and the loop must get there.
 */
#include "cli.h"
#include "ringbus.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

static struct ringbus_service *service;
static volatile sig_atomic_t ending;
static volatile sig_atomic_t ticked;
static bool journal;
static int log_level = 5;

/* ---- log ---- */

static void say_line(int level, const char *text)
{
	if (journal)
		fprintf(stderr, "<%d>ringbusd: %s\n", level, text);
	else
		fprintf(stderr, "ringbusd: %s\n", text);
}

/* A pipe that nobody reads gets full, and the bus must not wait for that: lines for which there is
 * no room are left out, and told of by the next one for which there is. A pipe with room takes a
 * page without waiting. */
static void say(int level, const char *text, void *user)
{
	static unsigned long left_out;
	struct pollfd log = {.fd = STDERR_FILENO, .events = POLLOUT};
	char told[64];

	(void)user;
	if (level > log_level)
		return;
	if (poll(&log, 1, 0) == 0) {
		left_out++;
		return;
	}
	if (left_out > 0) {
		snprintf(told, sizeof(told), "%lu lines left out, for nobody read these", left_out);
		left_out = 0;
		say_line(4, told);
	}
	say_line(level, text);
}

/* Whether stderr is the journal's stream: JOURNAL_STREAM names its device and inode. */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	       fstat(STDERR_FILENO, &st) == 0 && st.st_dev == dev && st.st_ino == ino;
}

/* ---- service manager ---- */

static void notify(const char *state)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = path ? strlen(path) : 0;
	int fd;

	if (n < 2 || n >= sizeof(address.sun_path) || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(address.sun_path, path, n);
	if (path[0] == '@')
		address.sun_path[0] = 0; /* abstract */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (sendto(fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&address,
		   (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n)) < 0)
		say(4, "the service manager does not take notifications", NULL);
	close(fd);
}

/* Number in an environment variable meant for this process; 0: none. */
static unsigned long long for_us(const char *name, const char *pid_name)
{
	const char *pid = getenv(pid_name), *text = getenv(name);

	if (!text || (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	return strtoull(text, NULL, 10);
}

static int listen_fd(void)
{
	return getenv("LISTEN_PID") && for_us("LISTEN_FDS", "LISTEN_PID") >= 1 ? 3 : 0;
}

/* ---- who started us ---- */

/* A program that started us for itself reads our standard error until we tell it how that went: 0,
 * or a negative errno code. Afterwards nobody reads it. */
static void answer(int outcome)
{
	const char *fd = getenv("RINGBUSD_ANSWER");
	unsigned char bytes[1 + sizeof(outcome)] = {0};
	int null;

	if (!fd || strcmp(fd, "2") != 0)
		return;
	unsetenv("RINGBUSD_ANSWER");
	memcpy(bytes + 1, &outcome, sizeof(outcome));
	fflush(stderr);
	if (write(STDERR_FILENO, bytes, sizeof(bytes)) < 0)
		return; /* it has gone */
	null = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDERR_FILENO);
		close(null);
	}
}

/* ---- signals ---- */

static void on_end(int sig)
{
	(void)sig;
	ending = 1;
	if (service)
		ringbus_service_stop(service);
}

static void on_tick(int sig)
{
	(void)sig;
	ticked = 1;
	if (service)
		ringbus_service_stop(service);
}

static void set_up_signals(void)
{
	struct sigaction end = {.sa_handler = on_end}, tick = {.sa_handler = on_tick};
	struct sigaction ignore = {.sa_handler = SIG_IGN};
	unsigned long long us = for_us("WATCHDOG_USEC", "WATCHDOG_PID") / 2;
	struct itimerval every = {
		.it_interval = {.tv_sec = (time_t)(us / 1000000),
				.tv_usec = (suseconds_t)(us % 1000000)},
	};

	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGINT, &end, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigaction(SIGHUP, &ignore, NULL);
	sigaction(SIGALRM, &tick, NULL);
	every.it_value = every.it_interval;
	if (us > 0)
		setitimer(ITIMER_REAL, &every, NULL);
}

/* ---- command line ---- */

static const char help[] =
	"Usage: ringbusd [OPTION]...\n"
	"Bootstrap service of a ringbus: hands out the slots of a shared-memory bus.\n"
	"\n"
	"Options:\n"
	"  -p, --port N           port on 127.0.0.1 that names the bus (RINGBUS_PORT, else 54121)\n"
	"  -d, --directory DIR    where its files are (RINGBUS_DIR, else /run/ringbus if it has\n"
	"                         a bus of this port, else /dev/shm/ringbus-UID)\n"
	"  -n, --nodes N          most nodes at a time, 2 to 256 (64)\n"
	"  -e, --events N         most events, 1 to 65535 (1024)\n"
	"      --ring-bytes SIZE  bytes of a ring, power of two, 4K to 1G (256K)\n"
	"      --pool-bytes SIZE  most payload memory of a node, 64K to 1024G (128M)\n"
	"  -g, --group GROUP      share the bus with this group (needs a directory of its own)\n"
	"      --linger SECONDS   end after the bus was empty so long (0: never)\n"
	"  -q, --quiet            only errors; that the bus has a service already is none\n"
	"  -v, --verbose          say more\n"
	"      --version          print the version\n"
	"  -h, --help             print this\n"
	"\n"
	"Sizes take K, M, G. A living bus is adopted with the geometry that it has.\n"
	"Exit status: 0 ended, 1 failed, 2 wrong usage.\n"
	"\n"
	"Examples:\n"
	"  $ ringbusd &\n"
	"  $ ringbusd --port 54122 --nodes 16 --linger 60\n"
	"  $ ringbusd --directory /run/ringbus --group robots\n";

struct settings {
	struct ringbus_service_options options;
	bool quiet;
	bool done; /* --help or --version */
};

static int usage(const char *option, const char *value, const char *expected)
{
	fprintf(stderr, "ringbusd: %s: '%s' is not %s; see ringbusd --help\n", option, value,
		expected);
	return CLI_USAGE;
}

enum { OPT_RING = 256, OPT_POOL, OPT_LINGER, OPT_VERSION };

static int apply(struct settings *s, int option, const char *value)
{
	uint64_t n = 0;

	switch (option) {
	case 'p':
		if (!cli_parse_u64(value, 1, 65535, &n))
			return usage("--port", value, "a number from 1 to 65535");
		s->options.port = (unsigned)n;
		return 0;
	case 'n':
		if (!cli_parse_u64(value, 2, 256, &n))
			return usage("--nodes", value, "a number from 2 to 256");
		s->options.nodes = (unsigned)n;
		return 0;
	case 'e':
		if (!cli_parse_u64(value, 1, 65535, &n))
			return usage("--events", value, "a number from 1 to 65535");
		s->options.events = (unsigned)n;
		return 0;
	case OPT_RING:
		if (!cli_parse_size(value, &n) || n < 4096 || n > 1ull << 30 || (n & (n - 1)))
			return usage("--ring-bytes", value, "a power of two from 4K to 1G");
		s->options.ring_bytes = n;
		return 0;
	case OPT_POOL:
		if (!cli_parse_size(value, &n) || n < 64 << 10 || n > 1ull << 40)
			return usage("--pool-bytes", value, "a size from 64K to 1024G");
		s->options.pool_bytes = n;
		return 0;
	default:
		if (!cli_parse_duration(value, &s->options.linger_ns))
			return usage("--linger", value, "a number of seconds");
		return 0;
	}
}

/* The library would find it too, but as a failure of the service. */
static int check_environment(const struct settings *s)
{
	const char *port = secure_getenv("RINGBUS_PORT");
	unsigned unused;

	if (s->options.port || listen_fd() || !port || !*port || cli_parse_port(port, &unused))
		return 0;
	return usage("RINGBUS_PORT", port, "a number from 1 to 65535");
}

static int parse(struct settings *s, int argc, char **argv)
{
	static const struct option options[] = {
		{"port", required_argument, NULL, 'p'},
		{"directory", required_argument, NULL, 'd'},
		{"nodes", required_argument, NULL, 'n'},
		{"events", required_argument, NULL, 'e'},
		{"ring-bytes", required_argument, NULL, OPT_RING},
		{"pool-bytes", required_argument, NULL, OPT_POOL},
		{"group", required_argument, NULL, 'g'},
		{"linger", required_argument, NULL, OPT_LINGER},
		{"quiet", no_argument, NULL, 'q'},
		{"verbose", no_argument, NULL, 'v'},
		{"version", no_argument, NULL, OPT_VERSION},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	int option, err = 0;

	while (err == 0 &&
	       (option = getopt_long(argc, argv, "p:d:n:e:g:qvh", options, NULL)) != -1) {
		if (option == 'd') {
			s->options.directory = optarg;
			err = *optarg ? 0 : usage("--directory", optarg, "a directory");
		} else if (option == 'g') {
			s->options.group = optarg;
			err = *optarg ? 0 : usage("--group", optarg, "a group");
		} else if (option == 'q') {
			s->quiet = true;
			log_level = 3;
		} else if (option == 'v') {
			log_level = 7;
		} else if (option == 'h' || option == OPT_VERSION) {
			s->done = true;
			if (option == 'h')
				fputs(help, stdout);
			else
				printf("ringbusd %s\n", ringbus_version());
			return 0;
		} else if (option == '?') {
			fputs("see ringbusd --help\n", stderr);
			err = CLI_USAGE;
		} else {
			err = apply(s, option, optarg);
		}
	}
	if (err == 0 && optind < argc)
		return usage("argument", argv[optind], "expected");
	return err == 0 ? check_environment(s) : err;
}

/* ---- main ---- */

static int fail(const char *what, int err)
{
	const char *detail = ringbus_error_detail();
	char text[640];

	snprintf(text, sizeof(text), "%s: %s", what, *detail ? detail : ringbus_strerror(err));
	say(3, text, NULL);
	return CLI_FAILED;
}

/* Where the library looks, in its order. */
static void region_path(const struct settings *s, unsigned port, char *out, size_t size)
{
	const char *directory =
		s->options.directory ? s->options.directory : secure_getenv("RINGBUS_DIR");

	if (directory && *directory) {
		snprintf(out, size, "%s/%u.bus", directory, port);
		return;
	}
	snprintf(out, size, "/run/ringbus/%u.bus", port);
	if (access(out, F_OK) < 0)
		snprintf(out, size, "/dev/shm/ringbus-%u/%u.bus", (unsigned)geteuid(), port);
}

static int serve(void)
{
	int err = 0;

	notify("READY=1");
	while (err == 0 && !ending) {
		ticked = 0;
		notify("WATCHDOG=1");
		err = ringbus_service_run(service);
		if (!ticked)
			break;
	}
	notify("STOPPING=1");
	return err;
}

int main(int argc, char **argv)
{
	struct settings s = {.options = {.size = sizeof(s.options), .sigbus_guard = true}};
	char path[640];
	int err;

	cli_start("ringbusd", NULL);
	err = parse(&s, argc, argv);
	if (err != 0)
		answer(-EINVAL);
	if (err != 0 || s.done)
		return cli_finish(err);
	journal = is_journal();
	ringbus_set_log(say, NULL);
	s.options.listen_fd = listen_fd();
	set_up_signals();
	err = ringbus_service_open(&service, &s.options);
	if (err == -EBUSY && s.quiet) {
		answer(0);
		return CLI_OK; /* another one won: the bus is served */
	}
	if (err < 0) {
		fail("cannot serve", err);
		answer(err);
		return CLI_FAILED;
	}
	answer(0);
	if (!s.quiet) {
		region_path(&s, ringbus_service_port(service), path, sizeof(path));
		printf("ringbusd: bus on port %u, region %s\n", ringbus_service_port(service),
		       path);
		fflush(stdout);
	}
	err = serve();
	if (err < 0)
		err = fail("stopped", err);
	signal(SIGALRM, SIG_IGN);
	{
		struct ringbus_service *last = service;

		service = NULL;
		ringbus_service_close(last);
	}
	return err;
}

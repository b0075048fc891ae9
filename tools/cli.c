/* cli.c: messages, numbers and colour for the command line tools, see cli.h. */
#include "cli.h"

#include "ringbus.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

static const char *tool_name = "ringbus";
static const char *verb_name;
static bool quiet;

static int write_error; /* errno of the first write to stdout that failed; 0: none */

/* Descriptors that the program is started without must not become its own files: its input would be
 * a file of the bus. What stands in for them fails as a closed one does. */
static void hold_standard_descriptors(void)
{
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(CLI_FAILED);
}

void cli_start(const char *tool, const char *verb)
{
	tool_name = tool;
	verb_name = verb;
	hold_standard_descriptors();
	signal(SIGPIPE, SIG_IGN);
}

static void flush_stdout(void)
{
	errno = 0;
	if (fflush(stdout) != 0 && write_error == 0)
		write_error = errno;
}

/* A text may have names in it that others chose: they cannot move the cursor of a terminal. */
static void put_clean(const char *text)
{
	for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
		bool c1 = p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0; /* U+0080 to U+009F */
		if (*p < 0x20 || *p == 0x7f || c1)
			putc('?', stderr);
		else
			putc(*p, stderr);
		p += c1;
	}
}

static void say(const char *format, va_list arguments)
{
	char *text;
	if (vasprintf(&text, format, arguments) < 0)
		text = NULL;
	flush_stdout();
	flockfile(stderr);
	fprintf(stderr, verb_name ? "%s: %s: " : "%s: ", tool_name, verb_name);
	put_clean(text ? text : format);
	putc('\n', stderr);
	funlockfile(stderr);
	free(text);
}

int cli_usage_error(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	fprintf(stderr, verb_name ? "Try \"%s %s --help\".\n" : "Try \"%s --help\".\n", tool_name,
		verb_name);
	return CLI_USAGE;
}

static bool is_letter_of(const struct option *options, int letter)
{
	for (; options->name; options++)
		if (options->val == letter)
			return true;
	return false;
}

int cli_option_error(char **argv, int letter, const struct option *options)
{
	char one[] = {'-', (char)optopt, 0};
	const char *word = argv[optind - 1], *next = argv[optind];
	bool is_long = strncmp(word, "--", 2) == 0;
	if (letter == ':')
		return cli_usage_error("%s needs an argument", is_long ? word : one);
	if (optopt == 0)
		return cli_usage_error("wrong option %s", word);
	if (is_letter_of(options, optopt))
		return cli_usage_error("%.*s takes no argument", (int)strcspn(word, "="), word);
	/* of a cluster, -ab, the word may not be over; a letter may be the first byte of one */
	if (!(one[1] & 0x80))
		return cli_usage_error("wrong option %s", one);
	return cli_usage_error("wrong option %s",
			       next && next[0] == '-' && strchr(next, one[1]) ? next : word);
}

int cli_error(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
	return CLI_FAILED;
}

void cli_quiet(void)
{
	quiet = true;
}

void cli_note(const char *format, ...)
{
	va_list arguments;
	if (quiet)
		return;
	va_start(arguments, format);
	say(format, arguments);
	va_end(arguments);
}

int cli_exit_code(int error)
{
	switch (error) {
	case 0:
		return CLI_OK;
	case -ECONNREFUSED:
	case -ENOENT:
	case -ESRCH:
		return CLI_MISSING;
	case -ETIMEDOUT:
	case -EAGAIN:
		return CLI_TIMEOUT;
	default:
		return CLI_FAILED;
	}
}

/* True when nobody will ever read what we write to stdout. */
static bool reader_gone(void)
{
	struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
	return poll(&out, 1, 0) == 1 && (out.revents & POLLERR);
}

bool cli_written(void)
{
	if (!ferror(stdout))
		return true;
	if (write_error == 0)
		write_error = errno;
	return false;
}

int cli_flush(void)
{
	static int outcome; /* of the first failure: it is told once */
	int error;
	if (outcome)
		return outcome;
	flush_stdout();
	if (write_error == 0 && !ferror(stdout))
		return 0;
	/* The cause is lost when a write on the way failed and the buffer is empty by now. */
	error = write_error ? write_error : reader_gone() ? EPIPE : EIO;
	/* EINTR: a tool that was told to end, with a reader that does not read */
	outcome = error == EPIPE || error == EINTR ? 1 : -error;
	if (outcome < 0)
		cli_error("cannot write to standard output: %s", strerror(error));
	return outcome;
}

int cli_finish(int status)
{
	int r = cli_flush();
	if (r == 1)
		return CLI_OK;
	return r < 0 ? CLI_FAILED : status;
}

bool cli_parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *value)
{
	char *end;
	unsigned long long v;
	if (text[0] < '0' || text[0] > '9')
		return false;
	errno = 0;
	v = strtoull(text, &end, 10);
	if (errno || *end || v < min || v > max)
		return false;
	*value = v;
	return true;
}

/* A number that is not negative, finite and begins with a digit or a point; *end to what follows
 * it. */
static bool parse_number(const char *text, double *value, const char **end)
{
	size_t digits = strspn(text, "0123456789.");
	char copy[64];
	char *stop;
	if (digits == 0 || digits >= sizeof copy)
		return false;
	memcpy(copy, text, digits);
	copy[digits] = 0;
	*value = strtod(copy, &stop);
	*end = text + digits;
	return *stop == 0 && stop != copy && isfinite(*value);
}

bool cli_parse_size(const char *text, uint64_t *bytes)
{
	static const char units[] = "kmgt";
	double number;
	const char *end;
	unsigned shift = 0;
	if (!parse_number(text, &number, &end))
		return false;
	if (*end) {
		char lower = (char)(*end | 0x20);
		const char *unit = strchr(units, lower);
		if (unit) {
			shift = 10 * (unsigned)(unit - units + 1);
			end++;
			if (*end == 'i')
				end++;
		}
		if (*end == 'b' || *end == 'B')
			end++;
		if (*end)
			return false;
	}
	if (shift == 0 && number != floor(number))
		return false; /* half a byte */
	number = number * (double)(UINT64_C(1) << shift);
	if (number >= 9.2e18)
		return false;
	*bytes = (uint64_t)number;
	return true;
}

bool cli_parse_duration(const char *text, uint64_t *ns)
{
	static const struct {
		const char *name;
		double ns;
	} units[] = {
		{"", 1e9}, {"s", 1e9},	{"ms", 1e6},   {"us", 1e3},
		{"ns", 1}, {"m", 60e9}, {"h", 3600e9},
	};
	double number;
	const char *end;
	if (!parse_number(text, &number, &end))
		return false;
	for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
		if (strcmp(end, units[i].name) != 0)
			continue;
		number *= units[i].ns;
		if (number >= 9.2e18)
			return false;
		*ns = (uint64_t)(number + 0.5);
		return true;
	}
	return false;
}

bool cli_parse_port(const char *text, unsigned *port)
{
	uint64_t value;
	if (!cli_parse_u64(text, 1, 65535, &value))
		return false;
	*port = (unsigned)value;
	return true;
}

int cli_port_of_environment(unsigned *port)
{
	const char *text = getenv("RINGBUS_PORT");
	if (!text || !*text || cli_parse_port(text, port))
		return -1;
	return cli_usage_error("RINGBUS_PORT is \"%s\", not a port (1 to 65535)", text);
}

bool cli_parse_slot(const char *text, uint32_t *slot, uint32_t *generation)
{
	const char *colon = strchr(text, ':');
	char first[16];
	uint64_t a, b;
	if (!colon || (size_t)(colon - text) >= sizeof first)
		return false;
	memcpy(first, text, (size_t)(colon - text));
	first[colon - text] = 0;
	if (!cli_parse_u64(first, 0, UINT32_MAX, &a) ||
	    !cli_parse_u64(colon + 1, 0, UINT32_MAX, &b))
		return false;
	*slot = (uint32_t)a;
	*generation = (uint32_t)b;
	return true;
}

uint64_t cli_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

const char *cli_format_size(char *buffer, size_t capacity, uint64_t bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
	double value = (double)bytes;
	size_t unit = 0;
	while (value >= 1024 && unit + 1 < sizeof units / sizeof *units) {
		value /= 1024;
		unit++;
	}
	snprintf(buffer, capacity, value == floor(value) ? "%.0f %s" : "%.1f %s", value,
		 units[unit]);
	return buffer;
}

const char *cli_count(char *buffer, size_t capacity, uint64_t count, const char *thing)
{
	snprintf(buffer, capacity, "%llu %s%s", (unsigned long long)count, thing,
		 count == 1 ? "" : "s");
	return buffer;
}

static int colour_wanted = -1;

bool cli_colour_set(const char *when)
{
	if (!when || strcmp(when, "auto") == 0)
		colour_wanted = -1;
	else if (strcmp(when, "always") == 0)
		colour_wanted = 1;
	else if (strcmp(when, "never") == 0)
		colour_wanted = 0;
	else
		return false;
	return true;
}

const char *cli_colour(enum cli_colour colour)
{
	static const char *const codes[] = {
		"\033[0m", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m",
	};
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	bool able = cli_is_tty() && !(no && *no) && !(term && strcmp(term, "dumb") == 0);
	bool on = colour_wanted < 0 ? able : colour_wanted;
	return on ? codes[colour] : "";
}

bool cli_is_tty(void)
{
	return isatty(STDOUT_FILENO) == 1;
}

unsigned cli_columns(void)
{
	struct winsize size;
	if (!cli_is_tty() || ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0)
		return 0;
	return size.ws_col ? size.ws_col : 80;
}

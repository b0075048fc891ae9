/* shm-inspect-screen.c: a whole-screen view on a terminal, with plain ANSI sequences. */
#include "shm-inspect-screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Alternate screen, no cursor, no wrapping at the right margin; and back. */
#define ENTER "\033[?1049h\033[?25l\033[?7l\033[2J"
#define LEAVE "\033[0m\033[?7h\033[?25h\033[?1049l"

static struct termios before;
static volatile sig_atomic_t taken, resized;
static struct winsize size;
static char *frame;
static size_t used, room;
static unsigned lines;

/* Only async-signal-safe calls: signal handlers come here too. */
static void put(const char *text, size_t bytes)
{
	while (bytes > 0) {
		ssize_t n = write(STDOUT_FILENO, text, bytes);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd out = {.fd = STDOUT_FILENO, .events = POLLOUT};
			poll(&out, 1, 100);
		}
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			return;
		text += n > 0 ? n : 0;
		bytes -= n > 0 ? (size_t)n : 0;
	}
}

static void give_back(void)
{
	if (!taken)
		return;
	taken = 0;
	put(LEAVE, sizeof LEAVE - 1);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &before);
}

static void take(void)
{
	struct termios raw = before;
	raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	put(ENTER, sizeof ENTER - 1);
	taken = 1;
	resized = 1;
}

/* The screen is given back, then the signal does what it would have done. */
static void on_end(int number)
{
	int saved = errno;
	give_back();
	signal(number, SIG_DFL);
	raise(number);
	errno = saved;
}

static void on_stop(int number)
{
	int saved = errno;
	sigset_t set;
	give_back();
	signal(number, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, number);
	raise(number);
	sigprocmask(SIG_UNBLOCK, &set, NULL); /* stops here, goes on after SIGCONT */
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(number, on_stop);
	take();
	errno = saved;
}

static void on_resize(int number)
{
	(void)number;
	resized = 1;
}

int screen_open(void)
{
	static const int ends[] = {SIGTERM, SIGHUP, SIGQUIT, SIGABRT, SIGSEGV, SIGBUS};
	struct sigaction action = {.sa_handler = on_end};
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO) || tcgetattr(STDIN_FILENO, &before) < 0)
		return -1;
	catch_interrupts(); /* Ctrl-C ends the loop */
	for (size_t i = 0; i < COUNT_OF(ends); i++)
		sigaction(ends[i], &action, NULL);
	action.sa_handler = on_stop;
	sigaction(SIGTSTP, &action, NULL);
	action.sa_handler = on_resize;
	sigaction(SIGWINCH, &action, NULL);
	atexit(give_back);
	take();
	return 0;
}

void screen_close(void)
{
	give_back();
	free(frame);
	frame = NULL;
	room = used = 0;
}

static void measure(void)
{
	if (!resized)
		return;
	resized = 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_row == 0 || size.ws_col == 0)
		size = (struct winsize){.ws_row = 24, .ws_col = 80};
}

unsigned screen_rows(void)
{
	measure();
	return size.ws_row;
}

unsigned screen_columns(void)
{
	measure();
	return size.ws_col;
}

int screen_key(uint64_t timeout_ns)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000),
			     .tv_nsec = (long)(timeout_ns % 1000000000)};
	unsigned char c;
	ssize_t n;
	if (interrupted())
		return KEY_END;
	if (ppoll(&in, 1, &t, NULL) <= 0)
		return interrupted() ? KEY_END : KEY_NONE;
	n = read(STDIN_FILENO, &c, 1);
	if (n == 0 || (n < 0 && errno == EIO))
		return KEY_END;
	return n == 1 ? c : KEY_NONE;
}

/* ---- frames ---- */

static void add(const char *text, size_t bytes)
{
	if (used + bytes > room) {
		size_t more = (used + bytes) * 2;
		char *grown = realloc(frame, more);
		if (!grown)
			return;
		frame = grown;
		room = more;
	}
	memcpy(frame + used, text, bytes);
	used += bytes;
}

static void add_text(const char *text)
{
	add(text, strlen(text));
}

void screen_begin(void)
{
	measure();
	used = 0;
	lines = 0;
	add_text("\033[H");
}

/* Bytes of the first so many columns. */
static size_t cut(const char *text, unsigned columns)
{
	size_t i = 0;
	for (unsigned seen = 0; text[i]; i++) {
		if ((text[i] & 0xc0) != 0x80 && seen++ == columns)
			break;
	}
	return i;
}

void screen_line(enum cli_colour colour, bool inverse, const char *text)
{
	unsigned pad;
	size_t bytes;
	if (lines >= size.ws_row)
		return;
	if (lines > 0)
		add_text("\r\n");
	lines++;
	bytes = cut(text, size.ws_col);
	/* first, for behind the last column it would take that one away */
	add_text("\033[K");
	add_text(cli_colour(colour));
	if (inverse)
		add_text("\033[7m");
	add(text, bytes);
	pad = (unsigned)text_columns(text);
	for (; inverse && pad < size.ws_col; pad++)
		add_text(" ");
	add_text("\033[0m");
}

void screen_end(void)
{
	for (; lines < size.ws_row; lines++)
		add_text(lines ? "\r\n\033[K" : "\033[K");
	put(frame, used);
}

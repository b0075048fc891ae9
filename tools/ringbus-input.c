/* ringbus-input.c: a stream read in messages, and the line that shows how far it got. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_BYTES (64u << 10)
#define SHOW_AFTER_NS UINT64_C(500000000)
#define SHOW_EVERY_NS UINT64_C(200000000)

int input_open(struct input *input, const char *path)
{
	struct stat st;
	*input = (struct input){.fd = STDIN_FILENO};
	if (path && strcmp(path, "-") != 0) {
		input->fd = open(path, O_RDONLY | O_CLOEXEC);
		if (input->fd < 0)
			return -errno;
		input->owned = true;
	}
	if (fstat(input->fd, &st) < 0)
		return -errno;
	if (S_ISREG(st.st_mode))
		input->size = (uint64_t)st.st_size;
	return 0;
}

void input_close(struct input *input)
{
	if (input->owned)
		close(input->fd);
	free(input->buffer);
}

/* Makes room for at least one more byte. */
static int input_grow(struct input *input)
{
	size_t capacity = input->capacity ? input->capacity * 2 : FIRST_BYTES;
	char *larger;
	if (input->begin > 0) {
		memmove(input->buffer, input->buffer + input->begin, input->end - input->begin);
		input->end -= input->begin;
		input->begin = 0;
	}
	if (input->end < input->capacity)
		return 0;
	larger = realloc(input->buffer, capacity);
	if (!larger)
		return -ENOMEM;
	input->buffer = larger;
	input->capacity = capacity;
	return 0;
}

/* Reads more. 0 also at the end, see input->ended. */
static int input_more(struct input *input)
{
	ssize_t n;
	int r = input->end == input->capacity ? input_grow(input) : 0;
	if (r < 0)
		return r;
	if (!readable(input->fd))
		return -EINTR;
	n = read(input->fd, input->buffer + input->end, input->capacity - input->end);
	if (n < 0)
		return errno == EINTR || errno == EAGAIN ? 0 : -errno;
	input->ended = n == 0;
	input->end += (size_t)n;
	return 0;
}

/* Hands out size bytes, then forgets `skip` bytes more. */
static int input_take(struct input *input, size_t taken, size_t skip, const char **data,
		      size_t *size)
{
	*data = input->buffer + input->begin;
	*size = taken;
	input->begin += taken + skip;
	input->taken += taken + skip;
	return 1;
}

int input_line(struct input *input, size_t limit, const char **data, size_t *size)
{
	size_t seen = 0; /* bytes without a newline */
	for (;;) {
		size_t there = input->end - input->begin;
		char *first = there ? input->buffer + input->begin : NULL;
		char *newline = there > seen ? memchr(first + seen, '\n', there - seen) : NULL;
		int r;
		if (newline)
			return input_take(input, (size_t)(newline - first), 1, data, size);
		input->cut = !input->ended && there > limit;
		if (input->ended || input->cut)
			return there ? input_take(input, there, 0, data, size) : 0;
		seen = there;
		r = input_more(input);
		if (r < 0)
			return r;
	}
}

int input_chunk(struct input *input, size_t chunk, const char **data, size_t *size)
{
	for (;;) {
		size_t there = input->end - input->begin;
		int r;
		if (there >= chunk)
			return input_take(input, chunk, 0, data, size);
		if (input->ended)
			return there ? input_take(input, there, 0, data, size) : 0;
		r = input_more(input);
		if (r < 0)
			return r;
	}
}

int input_all(struct input *input, size_t limit, const char **data, size_t *size)
{
	while (!input->ended && input->end <= limit) {
		int r = input_more(input);
		if (r < 0)
			return r;
	}
	return input_take(input, input->end, 0, data, size);
}

void progress_start(struct progress *progress, bool wanted)
{
	const char *term = getenv("TERM");
	bool able = term && *term && strcmp(term, "dumb") != 0;
	*progress = (struct progress){
		.on = wanted && able && isatty(STDERR_FILENO) == 1,
		.start_ns = cli_now_ns(),
	};
	progress->next_ns = progress->start_ns + SHOW_AFTER_NS;
}

static double percent(const struct progress *progress, uint64_t messages, uint64_t bytes)
{
	if (progress->total_messages)
		return 100.0 * (double)messages / (double)progress->total_messages;
	if (progress->total_bytes)
		return 100.0 * (double)bytes / (double)progress->total_bytes;
	return -1;
}

void progress_show(struct progress *progress, uint64_t messages, uint64_t bytes)
{
	char count[48], sum[32], rate[32];
	double done, seconds;
	uint64_t now;
	if (!progress->on)
		return;
	now = cli_now_ns();
	if (now < progress->next_ns)
		return;
	progress->next_ns = now + SHOW_EVERY_NS;
	progress->drawn = true;
	seconds = (double)(now - progress->start_ns) / 1e9;
	done = percent(progress, messages, bytes);
	cli_format_size(sum, sizeof sum, bytes);
	cli_format_size(rate, sizeof rate, (uint64_t)((double)bytes / seconds));
	fprintf(stderr, "\r%s, %s, %.0f/s, %s/s",
		cli_count(count, sizeof count, messages, "message"), sum,
		(double)messages / seconds, rate);
	if (done >= 0)
		fprintf(stderr, ", %.0f %%", done < 100 ? done : 100);
	fputs("\033[K", stderr);
	fflush(stderr);
}

void progress_end(struct progress *progress)
{
	if (progress->drawn)
		fputs("\r\033[K", stderr);
	progress->drawn = false;
}

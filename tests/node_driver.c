/* node_driver.c: one node, driven by lines on standard input, for the tests of the tools.
 *
 * Each line is a command; the answer is one line: "ok FIGURE", or "error CODE TEXT". See
 * commands[]. SIZE bytes of payload are the byte values 0, 1, ... 255, 0, ... from FIRST on.
 */
#include "ringbus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static struct ringbus_node *node;
static struct ringbus_borrow *borrows[4096];
static size_t borrow_count;
static char *words[8];

static uint64_t number(int i)
{
	return words[i] ? strtoull(words[i], NULL, 10) : 0;
}

static bool given(const char *option)
{
	for (size_t i = 2; i < 8 && words[i]; i++)
		if (strcmp(words[i], option) == 0)
			return true;
	return false;
}

/* Sleeps as many milliseconds as `user` says. */
static void slow(const struct ringbus_message *message, void *user)
{
	uint64_t ms = (uint64_t)(uintptr_t)user;
	struct timespec t = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};

	(void)message;
	nanosleep(&t, NULL);
}

static int do_open(void)
{
	struct ringbus_node_options options = {.size = sizeof(options), .name = words[1]};

	return ringbus_node_open(&node, &options);
}

static int do_close(void)
{
	ringbus_node_close(node);
	node = NULL;
	return 0;
}

/* create EVENT [multi] [lossy] */
static int do_create(void)
{
	struct ringbus_event_options options = {.size = sizeof(options), .lossy = given("lossy")};
	struct ringbus_event *event;

	options.mode = given("multi") ? RINGBUS_MULTI_EMISSION : RINGBUS_SINGLE_EMISSION;
	return ringbus_event_create(&event, node, words[1], &options);
}

/* subscribe EVENT MS [lossy]: handler sleeps MS milliseconds */
static int do_subscribe(void)
{
	struct ringbus_subscribe_options options = {.size = sizeof(options),
						    .handler = slow,
						    .user = (void *)(uintptr_t)number(2),
						    .lossy = given("lossy")};
	struct ringbus_event *event;

	return ringbus_subscribe(&event, node, words[1], &options);
}

static int do_dissolve(void)
{
	struct ringbus_event *event;
	int r = ringbus_event_find(&event, node, words[1]);

	return r < 0 ? r : ringbus_event_dissolve(event);
}

static void fill(uint8_t *data, size_t size, uint64_t first)
{
	for (size_t i = 0; i < size; i++)
		data[i] = (uint8_t)(first + i);
}

/* emit EVENT SIZE COUNT [FIRST]: how many succeeded; stops at the first that does not */
static int do_emit(void)
{
	size_t size = (size_t)number(2);
	uint8_t *data = malloc(size + 1);
	struct ringbus_event *event;
	int r = ringbus_event_find(&event, node, words[1]);
	uint64_t n = 0;

	fill(data, size, number(4));
	while (r >= 0 && n < number(3)) {
		r = ringbus_emit(event, data, size, 0);
		if (r >= 0)
			n++;
	}
	free(data);
	return r == -EAGAIN || r >= 0 ? (int)n : r;
}

/* contact NAME SIZE COUNT [FIRST]: the same */
static int do_contact(void)
{
	size_t size = (size_t)number(2);
	uint8_t *data = malloc(size + 1);
	struct ringbus_address to;
	int r = ringbus_node_find(node, words[1], &to);
	uint64_t n = 0;

	fill(data, size, number(4));
	while (r >= 0 && n < number(3)) {
		r = ringbus_contact_address(node, &to, data, size, 0);
		if (r >= 0)
			n++;
	}
	free(data);
	return r == -EAGAIN || r >= 0 ? (int)n : r;
}

static int do_listen(void)
{
	return ringbus_listen(node, slow, NULL);
}

/* next N [borrow]: pulls N messages, and keeps their payloads */
static int do_next(void)
{
	struct ringbus_message message;
	uint64_t n = 0;
	int r = 0;

	while (n < number(1) && (r = ringbus_next(node, &message, 0)) == 0) {
		n++;
		if (!given("borrow") || borrow_count == sizeof(borrows) / sizeof(*borrows))
			continue;
		r = ringbus_borrow(&message, &borrows[borrow_count]);
		if (r < 0)
			return r;
		borrow_count++;
	}
	return (int)n;
}

static int do_release(void)
{
	while (borrow_count > 0)
		ringbus_release(borrows[--borrow_count]);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} commands[] = {
	{"open", do_open},	     {"close", do_close},	{"create", do_create},
	{"subscribe", do_subscribe}, {"dissolve", do_dissolve}, {"emit", do_emit},
	{"contact", do_contact},     {"listen", do_listen},	{"next", do_next},
	{"release", do_release},
};

static int run(char *line)
{
	char *state = NULL, *word = strtok_r(line, " \n", &state);

	memset(words, 0, sizeof(words));
	for (size_t i = 0; word && i < 7; i++, word = strtok_r(NULL, " \n", &state))
		words[i] = word;
	for (size_t i = 0; words[0] && i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(words[0], commands[i].name) == 0)
			return commands[i].run();
	return -EINVAL;
}

int main(void)
{
	char line[512];

	while (fgets(line, sizeof(line), stdin)) {
		int r = run(line);

		if (r < 0)
			printf("error %d %s\n", r, ringbus_error_detail());
		else
			printf("ok %d\n", r);
		fflush(stdout);
	}
	_exit(0);
}

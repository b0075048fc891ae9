/* ringbus-follow.c: subscribing by name and by pattern, and receiving, for the verbs of `ringbus`.
 *
 * A pattern needs the names of events that nobody here subscribes to: they are read from the event
 * table of the region, as `ringbus ls` does. Each change of the table moves the bus's control epoch
 * after it and rings the nodes that watch events, so ringbus_wait() returns after each; the epoch
 * is read before the table, so a change that falls into a look makes for another one. An event is
 * joined when it is live and its name matches, and at most once a generation of its entry.
 */
#include "ringbus-inspect.h"

#include "ringbus-verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_NS UINT64_C(10000000) /* between two looks while messages come without pause */

/* Bytes of the character at text, which is not at its end. */
static size_t character(const char *text)
{
	size_t n = 1;
	while (((unsigned char)text[n] & 0xc0) == 0x80)
		n++;
	return n;
}

/* The last * takes one character more each time the rest does not fit: no recursion, and the work
 * is bounded by the product of both lengths. */
bool follow_matches(const char *pattern, const char *name)
{
	const char *star = NULL, *resume = NULL;
	while (*name) {
		if (*pattern == '*') {
			star = ++pattern;
			resume = name;
		} else if (*pattern == '?') {
			pattern++;
			name += character(name);
		} else if (*pattern && *pattern == *name) {
			pattern++;
			name++;
		} else if (star) {
			pattern = star;
			resume += character(resume);
			name = resume;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == 0;
}

static bool is_pattern(const struct follow *follow, const char *name)
{
	return !follow->literal && strpbrk(name, "*?");
}

static int join(struct follow *follow, const char *name, bool must_exist)
{
	struct ringbus_subscribe_options options = {
		.size = sizeof options,
		.lossy = follow->lossy,
		.must_exist = must_exist,
	};
	struct ringbus_event *event;
	int r = ringbus_subscribe(&event, follow->node, name, &options);
	if (r == 0 && follow->verbose)
		cli_note("subscribed to %s", name);
	return r;
}

static bool wanted(const struct follow *follow, const struct ringbus_inspect_event *event)
{
	if (strcmp(ringbus_inspect_event_state(event->state), "live") != 0 ||
	    event->index >= follow->events || follow->known[event->index] == event->generation)
		return false;
	for (int i = 0; i < follow->count; i++)
		if (is_pattern(follow, follow->names[i]) &&
		    follow_matches(follow->names[i], event->name))
			return true;
	return false;
}

static int look(struct follow *follow)
{
	struct ringbus_inspect_event event;
	uint32_t cursor = 0;
	int r;
	while ((r = ringbus_inspect_event_next(follow->inspect, &cursor, &event)) > 0) {
		if (!wanted(follow, &event))
			continue;
		r = join(follow, event.name, true);
		if (r == 0)
			follow->known[event.index] = event.generation;
		else if (r != -ENOENT) /* it has just ended */
			return r;
	}
	return r;
}

int follow_look(struct follow *follow, bool idle)
{
	struct ringbus_inspect_header header;
	uint64_t now;
	int r;
	if (!follow->inspect)
		return 0;
	now = cli_now_ns();
	if (!idle && now - follow->looked_ns < LOOK_NS)
		return 0;
	follow->looked_ns = now;
	r = ringbus_inspect_header(follow->inspect, &header);
	if (r < 0 || header.control_epoch == follow->epoch)
		return r;
	r = look(follow);
	if (r == 0)
		follow->epoch = header.control_epoch;
	return r;
}

static bool given_before(const struct follow *follow, int i)
{
	for (int k = 0; k < i; k++)
		if (strcmp(follow->names[k], follow->names[i]) == 0)
			return true;
	return false;
}

static int start_patterns(struct follow *follow, struct call *call)
{
	struct ringbus_inspect_header header;
	int r = ringbus_inspect_open(&follow->inspect, call->port, call->directory);
	if (r < 0)
		return r;
	r = ringbus_inspect_header(follow->inspect, &header);
	if (r < 0)
		return r;
	follow->events = header.events;
	follow->known = malloc((header.events + 1) * sizeof *follow->known);
	if (!follow->known)
		return -ENOMEM;
	memset(follow->known, 0xff,
	       (header.events + 1) * sizeof *follow->known); /* no generation */
	follow->epoch = header.control_epoch;
	return look(follow);
}

int follow_open(struct follow *follow, struct call *call)
{
	char text[48];
	int r = 0;
	follow->names = call->argv;
	follow->count = call->argc;
	for (int i = 0; r == 0 && i < call->argc; i++) {
		if (is_pattern(follow, call->argv[i])) {
			follow->patterns++;
			continue;
		}
		if (given_before(follow, i))
			continue;
		r = join(follow, call->argv[i], false);
		if (r == 0)
			follow->live++;
	}
	if (r == 0 && follow->patterns > 0)
		r = start_patterns(follow, call);
	if (r == 0 && follow->patterns > 0 && follow->verbose)
		cli_note("following %s",
			 cli_count(text, sizeof text, (uint64_t)follow->patterns, "pattern"));
	return r;
}

void follow_ended(struct follow *follow, const struct ringbus_message *notice)
{
	const char *id = notice->event ? ringbus_event_id(notice->event) : "";
	for (int i = 0; i < follow->count && follow->live > 0; i++) {
		if (!is_pattern(follow, follow->names[i]) && strcmp(follow->names[i], id) == 0) {
			follow->live--;
			return;
		}
	}
}

bool follow_over(const struct follow *follow)
{
	return follow->live == 0 && follow->patterns == 0;
}

void follow_close(struct follow *follow)
{
	free(follow->known);
	ringbus_inspect_close(follow->inspect);
	follow->known = NULL;
	follow->inspect = NULL;
}

int receive_next(struct ringbus_node *node, struct follow *follow, struct ringbus_message *message,
		 uint64_t deadline)
{
	for (;;) {
		int r = ringbus_next(node, message, 0);
		bool nothing = r == -EAGAIN;
		if (output_gone() && !stopped())
			return -EPIPE;
		if (r < 0 && !nothing)
			return r;
		if (follow) {
			int looked = follow_look(follow, nothing);
			if (looked < 0)
				return looked;
		}
		if (!nothing)
			return 0;
		if (cli_flush() != 0)
			return -EPIPE;
		if (stopped())
			return -EINTR;
		if (left_until(deadline) == 0)
			return -ETIMEDOUT;
		r = ringbus_wait(node, left_until(deadline));
		if (output_gone() && !stopped())
			return -EPIPE;
		if (r < 0 && r != -ETIMEDOUT)
			return r;
	}
}

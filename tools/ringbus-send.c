/* ringbus-send.c: the verbs that send: emit, contact and signal. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum send_letter {
	LETTER_SINGLE = 300,
	LETTER_WAIT_SUBSCRIBERS,
	LETTER_WAIT,
};

#define FEED_OPTIONS                                                             \
	{'l', "lines", NULL, "send each line of standard input as one message"}, \
	{                                                                        \
		'r', "rate", "N", "send at most N messages a second"             \
	}

const struct verb_option emit_options[] = {
	{LETTER_SINGLE, "single", NULL, "create the event so that only this process emits it"},
	{LETTER_WAIT_SUBSCRIBERS, "wait-subscribers", "N", "wait first until N others subscribe"},
	FEED_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb_option contact_options[] = {
	{LETTER_WAIT, "wait", NULL, "wait first until the node is on the bus"},
	FEED_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb_option signal_options[] = {
	{LETTER_WAIT, "wait", NULL, "wait first until the node is on the bus"},
	{0, NULL, NULL, NULL},
};

/* Where messages come from and where they go. */
struct feed {
	struct call *call;
	struct ringbus_node *node;
	struct ringbus_event *event; /* NULL: a contact to the address */
	struct ringbus_address to;
	const char *payload; /* NULL: standard input */
	bool lines;
	bool wait;
	bool single;
	uint64_t wait_subscribers;
	uint64_t rate; /* messages a second; 0 as fast as may be */
	uint64_t sent;
	uint64_t bytes;
	uint64_t receivers; /* of the last message */
	uint64_t start;
};

/* True when letter was one of the feed's options; a mistake is left in call->status. */
static bool feed_option(struct feed *feed, int letter)
{
	struct call *call = feed->call;
	switch (letter) {
	case 'l':
		feed->lines = true;
		return true;
	case 'r':
		if (!cli_parse_u64(optarg, 1, 1000000000, &feed->rate))
			call->status =
				cli_usage_error("\"%s\" is not a rate (messages a second)", optarg);
		return true;
	case LETTER_WAIT:
		feed->wait = true;
		return true;
	case LETTER_SINGLE:
		feed->single = true;
		return true;
	case LETTER_WAIT_SUBSCRIBERS:
		if (!cli_parse_u64(optarg, 0, 256, &feed->wait_subscribers))
			call->status =
				cli_usage_error("\"%s\" is not a number of subscribers", optarg);
		return true;
	default:
		return false;
	}
}

static uint64_t timeout_of(const struct call *call)
{
	return call->timeout_ns == UINT64_MAX ? DEFAULT_WAIT_NS : call->timeout_ns;
}

/* Sends one message, in slices, so that Ctrl-C ends a send to a full ring. A slice that failed sent
 * nothing. */
static int feed_send(struct feed *feed, const void *data, size_t size)
{
	uint64_t deadline = deadline_of(timeout_of(feed->call));
	int r;
	if (feed->rate) {
		double pause_ns = (double)feed->sent * 1e9 / (double)feed->rate;
		sleep_until(feed->start + (uint64_t)pause_ns);
		if (stopped())
			return -EINTR;
	}
	do {
		uint64_t slice = slice_until(deadline);
		r = feed->event ? ringbus_emit(feed->event, data, size, slice)
				: ringbus_contact_address(feed->node, &feed->to, data, size, slice);
		if (r == -EAGAIN)
			r = -ETIMEDOUT;
	} while (r == -ETIMEDOUT && !stopped() && cli_now_ns() < deadline);
	if (r < 0)
		return r == -ETIMEDOUT && stopped() ? -EINTR : r;
	feed->sent++;
	feed->bytes += size;
	feed->receivers = feed->event ? (uint64_t)r : 1;
	return 0;
}

static int feed_lines(struct feed *feed)
{
	char *line = NULL;
	size_t capacity = 0;
	int r = 0;
	while (r == 0 && feed->sent < feed->call->count && !stopped()) {
		ssize_t length = getline(&line, &capacity, stdin);
		if (length < 0)
			break;
		if (line[length - 1] == '\n')
			length--;
		r = feed_send(feed, line, (size_t)length);
	}
	if (r == 0 && ferror(stdin) && !stopped())
		r = -EIO;
	free(line);
	return r == -EINTR ? 0 : r;
}

/* Sends the same payload --count times (0: without end). */
static int feed_payload(struct feed *feed, const void *data, size_t size)
{
	uint64_t count = feed->call->count == UINT64_MAX ? 1 : feed->call->count;
	int r = 0;
	while (r == 0 && (count == 0 || feed->sent < count))
		r = stopped() ? -EINTR : feed_send(feed, data, size);
	return r == -EINTR && count == 0 ? 0 : r;
}

/* Sends all of standard input as one message. */
static int feed_stdin(struct feed *feed)
{
	size_t max = ringbus_node_payload_max(feed->node);
	size_t capacity = 1 << 16, size = 0, n = 1;
	char *data = malloc(capacity);
	int r = 0;
	while (data && r == 0 && n > 0 && size <= max) {
		if (size == capacity) {
			char *larger = realloc(data, capacity * 2);
			if (!larger) {
				r = -ENOMEM;
				break;
			}
			data = larger;
			capacity *= 2;
		}
		n = fread(data + size, 1, capacity - size, stdin);
		size += n;
		if (n == 0 && ferror(stdin))
			r = stopped() ? -EINTR : -EIO;
	}
	if (!data)
		r = -ENOMEM;
	if (r == 0)
		r = feed_payload(feed, data, size);
	free(data);
	return r;
}

static int feed_failed(struct feed *feed, int error)
{
	struct ringbus_address who;
	if (error == -EINTR)
		return cli_error("interrupted");
	if (error == -EIO)
		return cli_error("cannot read standard input");
	error = call_failed(error);
	if (error == CLI_TIMEOUT && ringbus_node_held_back_by(feed->node, &who) == 0)
		cli_note("held back by process %u, slot %u:%u", who.pid, who.slot, who.generation);
	return error;
}

static int feed_run(struct feed *feed)
{
	struct call *call = feed->call;
	int r;
	feed->start = cli_now_ns();
	if (feed->lines)
		r = feed_lines(feed);
	else if (feed->payload)
		r = feed_payload(feed, feed->payload, strlen(feed->payload));
	else
		r = feed_stdin(feed);
	if (r < 0)
		return feed_failed(feed, r);
	if (call->json) {
		struct cli_json json;
		const char *schema = feed->event ? "ringbus.emit/1" : "ringbus.contact/1";
		cli_json_begin(&json, stdout, schema, cli_is_tty());
		cli_json_u64(&json, "sent", feed->sent);
		cli_json_u64(&json, "bytes", feed->bytes);
		cli_json_u64(&json, "receivers", feed->receivers);
		cli_json_end(&json);
	} else if (call->verbose) {
		cli_note("sent %llu messages, %llu bytes; %llu receivers of the last",
			 (unsigned long long)feed->sent, (unsigned long long)feed->bytes,
			 (unsigned long long)feed->receivers);
	}
	return CLI_OK;
}

/* Reads the options and operands of emit and contact. False: return call->status. */
static bool feed_parse(struct feed *feed)
{
	struct call *call = feed->call;
	int letter;
	while ((letter = call_option(call)) > 0)
		if (feed_option(feed, letter) && call->status != CLI_OK)
			return false;
	if (letter < 0 || !call_operands(call, 1, 2))
		return false;
	feed->payload = call->argv[1];
	if (feed->payload && feed->lines) {
		call->status = cli_usage_error("--lines and a payload exclude each other");
		return false;
	}
	return true;
}

/* Creates the event, or joins it where others hold it already. */
static int emit_open(struct feed *feed)
{
	const char *id = feed->call->argv[0];
	struct ringbus_event_options create = {
		.size = sizeof create,
		.mode = feed->single ? RINGBUS_SINGLE_EMISSION : RINGBUS_MULTI_EMISSION,
	};
	struct ringbus_subscribe_options join = {
		.size = sizeof join,
		.must_exist = true,
		.emit_only = true,
	};
	int r = -EEXIST;
	/* It may end between the two calls: try again then, a few times. */
	for (int tries = 0; tries < 10 && r == -EEXIST; tries++) {
		r = ringbus_event_create(&feed->event, feed->node, id, &create);
		if (r != -EEXIST || feed->single)
			break;
		r = ringbus_subscribe(&feed->event, feed->node, id, &join);
		if (r == -ENOENT)
			r = -EEXIST;
	}
	return r;
}

static int emit_wait(struct feed *feed)
{
	uint64_t deadline = deadline_of(timeout_of(feed->call));
	int r;
	if (feed->wait_subscribers == 0)
		return 0;
	do {
		r = ringbus_event_wait_subscribers(feed->event, (unsigned)feed->wait_subscribers,
						   slice_until(deadline));
		if (r == -EAGAIN)
			r = -ETIMEDOUT;
	} while (r == -ETIMEDOUT && !stopped() && cli_now_ns() < deadline);
	return r == -ETIMEDOUT && stopped() ? -EINTR : r;
}

int verb_emit(struct call *call)
{
	struct feed feed = {.call = call};
	int status, r;
	if (!feed_parse(&feed))
		return call->status;
	status = call_open(call, &feed.node);
	if (status)
		return status;
	r = emit_open(&feed);
	if (r == 0) {
		r = emit_wait(&feed);
		status = r == 0 ? feed_run(&feed) : feed_failed(&feed, r);
	} else {
		status = call_failed(r);
	}
	ringbus_node_close(feed.node);
	return status;
}

int verb_contact(struct call *call)
{
	struct feed feed = {.call = call};
	int status;
	if (!feed_parse(&feed))
		return call->status;
	status = call_open(call, &feed.node);
	if (status)
		return status;
	status = call_find(call, feed.node, feed.wait, &feed.to);
	if (status == CLI_OK)
		status = feed_run(&feed);
	ringbus_node_close(feed.node);
	return status;
}

static int signal_send(struct call *call, struct ringbus_node *node, bool wait)
{
	uint64_t count = call->count == UINT64_MAX ? 1 : call->count;
	struct ringbus_address to;
	int status = call_find(call, node, wait, &to);
	for (uint64_t i = 0; status == CLI_OK && i < count && !stopped(); i++) {
		int r = ringbus_signal_address(node, &to);
		if (r < 0)
			status = call_failed(r);
	}
	if (status == CLI_OK && call->json) {
		struct cli_json json;
		cli_json_begin(&json, stdout, "ringbus.signal/1", cli_is_tty());
		cli_json_u64(&json, "sent", count);
		cli_json_end(&json);
	}
	return status;
}

int verb_signal(struct call *call)
{
	struct ringbus_node *node;
	bool wait = false;
	int letter, status;
	while ((letter = call_option(call)) > 0)
		wait = true;
	if (letter < 0 || !call_operands(call, 1, 1))
		return call->status;
	status = call_open(call, &node);
	if (status)
		return status;
	status = signal_send(call, node, wait);
	ringbus_node_close(node);
	return status;
}

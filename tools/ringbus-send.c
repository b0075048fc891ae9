/* ringbus-send.c: the verbs that send: emit, contact and signal. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

enum send_letter {
	LETTER_SINGLE = 300,
	LETTER_WAIT_SUBSCRIBERS,
	LETTER_WAIT,
	LETTER_CHUNK,
};

/* Where messages come from and where they go. */
struct feed {
	struct call *call;
	struct ringbus_node *node;
	struct ringbus_event *event; /* NULL: a contact to the address */
	struct ringbus_address to;
	const char *payload; /* NULL: from file */
	const char *file;    /* NULL: standard input */
	uint64_t size;	     /* of made-up payloads, when has_size */
	uint64_t chunk;	     /* bytes of input a message; 0: not so */
	bool has_size;
	bool lines;
	bool wait;
	bool single;
	bool unread;	    /* what failed is the input */
	uint64_t too_large; /* bytes of a payload that is over the limit; 0: none is */
	bool and_more;	    /* it has more than that */
	uint64_t wait_subscribers;
	uint64_t rate; /* messages a second; 0 as fast as may be */
	uint64_t sent;
	uint64_t bytes;
	uint64_t receivers; /* of the last message */
	uint64_t start;
	struct progress progress;
};

/* Takes an option of the feed; a mistake is left in call->status. */
static void feed_option(struct feed *feed, int letter)
{
	struct call *call = feed->call;
	switch (letter) {
	case 'l':
		feed->lines = true;
		break;
	case 'r':
		if (!cli_parse_u64(optarg, 1, 1000000000, &feed->rate))
			call->status =
				cli_usage_error("\"%s\" is not a rate (1 to 1000000000 messages "
						"a second)",
						optarg);
		break;
	case 's':
		feed->has_size = true;
		if (!cli_parse_size(optarg, &feed->size) || feed->size > SIZE_MAX / 2)
			call->status =
				cli_usage_error("\"%s\" is not a size (100, 4k, 1M)", optarg);
		break;
	case 'f':
		feed->file = optarg;
		if (!*optarg)
			call->status = cli_usage_error("--file needs a name");
		break;
	case LETTER_CHUNK:
		if (!cli_parse_size(optarg, &feed->chunk) || feed->chunk == 0 ||
		    feed->chunk > SIZE_MAX / 2)
			call->status =
				cli_usage_error("\"%s\" is not a size (100, 4k, 1M)", optarg);
		break;
	case LETTER_WAIT:
		feed->wait = true;
		break;
	case LETTER_SINGLE:
		feed->single = true;
		break;
	case LETTER_WAIT_SUBSCRIBERS:
		if (!cli_parse_u64(optarg, 0, 255, &feed->wait_subscribers))
			call->status =
				cli_usage_error("\"%s\" is not a number of subscribers (0 to 255)",
						optarg);
		break;
	}
}

static uint64_t timeout_of(const struct call *call)
{
	return call->timeout_ns == NO_LIMIT ? DEFAULT_WAIT_NS : call->timeout_ns;
}

/* One send waits at most RINGBUS_SEND_MAX_NS; a longer --timeout takes several. A send that failed
 * sent nothing. */
static int send_within(struct feed *feed, const void *data, size_t size)
{
	uint64_t deadline = deadline_of(timeout_of(feed->call));
	int r;
	do {
		uint64_t left = left_until(deadline);
		r = feed->event ? ringbus_emit(feed->event, data, size, left)
				: ringbus_contact_address(feed->node, &feed->to, data, size, left);
		if (r == -EAGAIN)
			r = -ETIMEDOUT;
	} while (r == -ETIMEDOUT && left_until(deadline) > 0);
	return r;
}

static int feed_send(struct feed *feed, const void *data, size_t size)
{
	int r;
	if (feed->rate) {
		double pause_ns = (double)feed->sent * 1e9 / (double)feed->rate;
		sleep_until(feed->start + (uint64_t)pause_ns);
	}
	if (stopped())
		return -EINTR;
	r = send_within(feed, data, size);
	if (r < 0)
		return r;
	feed->sent++;
	feed->bytes += size;
	feed->receivers = feed->event ? (uint64_t)r : 1;
	progress_show(&feed->progress, feed->sent, feed->bytes);
	return 0;
}

/* Each line or chunk of the input is a message; at most --count. */
static int feed_parts(struct feed *feed, struct input *input)
{
	size_t limit = ringbus_node_payload_max(feed->node);
	const char *data;
	size_t size;
	int r = 0;
	feed->progress.total_bytes = feed->call->count == NO_LIMIT ? input->size : 0;
	while (r == 0 && feed->sent < feed->call->count) {
		r = feed->lines ? input_line(input, limit, &data, &size)
				: input_chunk(input, (size_t)feed->chunk, &data, &size);
		if (r <= 0) {
			feed->unread = r < 0;
			break;
		}
		if (feed->lines && size > limit) {
			feed->too_large = size;
			feed->and_more = input->cut;
			return -EMSGSIZE;
		}
		r = feed_send(feed, data, size);
	}
	/* a stream has no end of its own; a file that was not sent to its end is a failure */
	return r == -EINTR && feed->call->count == NO_LIMIT && input->size == 0 ? 0 : r;
}

/* Sends the same payload --count times; without --count once, or, at a rate, without end. */
static int feed_payload(struct feed *feed, const void *data, size_t size)
{
	uint64_t count = feed->call->count == NO_LIMIT && !feed->rate ? 1 : feed->call->count;
	int r = 0;
	feed->progress.total_messages = count == NO_LIMIT ? 0 : count;
	while (r == 0 && feed->sent < count)
		r = feed_send(feed, data, size);
	return r == -EINTR && count == NO_LIMIT ? 0 : r;
}

static int feed_input(struct feed *feed)
{
	struct input input;
	const char *data;
	size_t size;
	int r = input_open(&input, feed->file);
	feed->unread = r < 0;
	if (r == 0 && (feed->lines || feed->chunk)) {
		r = feed_parts(feed, &input);
	} else if (r == 0) {
		r = input_all(&input, ringbus_node_payload_max(feed->node), &data, &size);
		feed->unread = r < 0;
		if (r > 0 && size > ringbus_node_payload_max(feed->node)) {
			/* read up to the limit only: a file knows its size, a pipe does not */
			feed->too_large = input.size > size ? input.size : size;
			feed->and_more = !input.ended && input.size <= size;
			r = -EMSGSIZE;
		} else if (r > 0) {
			r = feed_payload(feed, data, size);
		}
	}
	input_close(&input);
	return r;
}

/* The alphabet over and over, so that a terminal survives it. */
static int feed_made_up(struct feed *feed)
{
	char *data;
	int r;
	if (feed->size > ringbus_node_payload_max(feed->node)) {
		feed->too_large = feed->size;
		return -EMSGSIZE;
	}
	data = malloc((size_t)feed->size + 1);
	if (!data)
		return -ENOMEM;
	for (size_t i = 0; i < feed->size; i++)
		data[i] = (char)('a' + i % 26);
	r = feed_payload(feed, data, (size_t)feed->size);
	free(data);
	return r;
}

static void feed_held_back(struct feed *feed)
{
	struct ringbus_inspect_node node;
	struct ringbus_address who;
	bool named;
	if (ringbus_node_held_back_by(feed->node, &who) < 0)
		return;
	named = call_node_at(feed->call, who.slot, who.generation, &node) && *node.name;
	cli_note("held back by process %u, slot %u:%u%s%s", who.pid, who.slot, who.generation,
		 named ? ", node " : "", named ? node.name : "");
}

static int feed_failed(struct feed *feed, int error)
{
	const char *from = feed->file && strcmp(feed->file, "-") ? feed->file : "standard input";
	if (error == -EINTR)
		return call_interrupted();
	if (feed->unread)
		return cli_error("cannot read %s: %s", from, strerror(-error));
	if (feed->too_large)
		return call_too_large(feed->node, feed->too_large, feed->and_more);
	error = call_failed(error);
	if (error == CLI_TIMEOUT)
		feed_held_back(feed);
	return error;
}

static void feed_print(struct feed *feed)
{
	struct call *call = feed->call;
	char messages[48], bytes[48], receivers[48];
	struct cli_json json;
	if (call->json) {
		const char *schema = feed->event ? "ringbus.emit/1" : "ringbus.contact/1";
		cli_json_begin(&json, stdout, schema, cli_is_tty());
		cli_json_u64(&json, "sent", feed->sent);
		cli_json_u64(&json, "bytes", feed->bytes);
		cli_json_u64(&json, "receivers", feed->receivers);
		cli_json_end(&json);
	} else if (call->verbose) {
		cli_note("sent %s, %s; %s of the last",
			 cli_count(messages, sizeof messages, feed->sent, "message"),
			 cli_count(bytes, sizeof bytes, feed->bytes, "byte"),
			 cli_count(receivers, sizeof receivers, feed->receivers, "receiver"));
	}
}

static int feed_run(struct feed *feed)
{
	int r;
	feed->start = cli_now_ns();
	progress_start(&feed->progress, !feed->call->quiet);
	if (feed->has_size)
		r = feed_made_up(feed);
	else if (feed->payload)
		r = feed_payload(feed, feed->payload, strlen(feed->payload));
	else
		r = feed_input(feed);
	progress_end(&feed->progress);
	if (r < 0)
		return feed_failed(feed, r);
	feed_print(feed);
	return CLI_OK;
}

/* Reads the options and operands of emit and contact. False: return call->status. */
static bool feed_parse(struct feed *feed)
{
	struct call *call = feed->call;
	int letter;
	while ((letter = call_option(call)) > 0) {
		feed_option(feed, letter);
		if (call->status != CLI_OK)
			return false;
	}
	if (letter < 0 || !call_operands(call, 1, 2))
		return false;
	feed->payload = call->argv[1];
	if (!call_name_valid(call, call->argv[0], call->verb == &verb_emit ? "an event" : "a node"))
		return false;
	if (!!feed->payload + feed->has_size + !!feed->file > 1)
		call->status = cli_usage_error("PAYLOAD, --size and --file exclude each other");
	else if ((feed->payload || feed->has_size) && (feed->lines || feed->chunk))
		call->status = cli_usage_error("--lines and --chunk are for --file and standard "
					       "input");
	else if (feed->lines && feed->chunk)
		call->status = cli_usage_error("--lines and --chunk exclude each other");
	return call->status == CLI_OK;
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

static int run_emit(struct call *call)
{
	struct feed feed = {.call = call};
	int status, r;
	if (!feed_parse(&feed))
		return call->status;
	status = call_open(call, &feed.node);
	if (status)
		return status;
	r = emit_open(&feed);
	if (r == 0 && feed.wait_subscribers > 0)
		r = ringbus_event_wait_subscribers(feed.event, (unsigned)feed.wait_subscribers,
						   timeout_of(call));
	status = r == 0 ? feed_run(&feed) : feed_failed(&feed, r);
	call_close(feed.node);
	return status;
}

static int run_contact(struct call *call)
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
	call_close(feed.node);
	return status;
}

static int signal_send(struct call *call, struct ringbus_node *node, bool wait)
{
	uint64_t count = call->count == NO_LIMIT ? 1 : call->count;
	struct ringbus_address to;
	struct cli_json json;
	int status = call_find(call, node, wait, &to);
	for (uint64_t i = 0; status == CLI_OK && i < count; i++) {
		int r = stopped() ? -EINTR : ringbus_signal_address(node, &to);
		if (r < 0)
			status = r == -EINTR ? call_interrupted() : call_failed(r);
	}
	if (status == CLI_OK && call->json) {
		cli_json_begin(&json, stdout, "ringbus.signal/1", cli_is_tty());
		cli_json_u64(&json, "sent", count);
		cli_json_end(&json);
	}
	return status;
}

static int run_signal(struct call *call)
{
	struct ringbus_node *node;
	bool wait = false;
	int letter, status;
	while ((letter = call_option(call)) > 0)
		wait = true;
	if (letter < 0 || !call_operands(call, 1, 1) ||
	    !call_name_valid(call, call->argv[0], "a node"))
		return call->status;
	status = call_open(call, &node);
	if (status)
		return status;
	status = signal_send(call, node, wait);
	call_close(node);
	return status;
}

#define FEED_OPTIONS                                                                         \
	{'f', "file", "PATH", "send this file instead of standard input; - is that"},        \
		{'l', "lines", NULL, "send each line of the input as one message"},          \
		{LETTER_CHUNK, "chunk", "SIZE", "send the input in messages of SIZE bytes"}, \
		{'s', "size", "SIZE", "send SIZE made-up bytes: 100, 4k, 1M"},               \
	{                                                                                    \
		'r', "rate", "N", "send N messages a second; without --count for ever"       \
	}
#define WAIT_OPTION                                                                  \
	{                                                                            \
		LETTER_WAIT, "wait", NULL, "wait first until the node is on the bus" \
	}
#define SEND_TIMEOUT "wait at most TIME for room or peers: 2, 250ms, 5m (60)"
#define FEED_COUNT "send the payload N times (1), or at most N lines or chunks (all)"
#define FEED_MORE                                                                                \
	"The payload is PAYLOAD, made up (--size), or what is in a file or on standard input:\n" \
	"all of it as one message, or in lines or chunks. A long transfer shows its progress\n"  \
	"on standard error when that is a terminal."

static const struct verb_option emit_options[] = {
	{LETTER_SINGLE, "single", NULL, "create the event so that only this process emits it"},
	{LETTER_WAIT_SUBSCRIBERS, "wait-subscribers", "N", "wait first until N others subscribe"},
	FEED_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb verb_emit = {
	.name = "emit",
	.operands = "EVENT [PAYLOAD]",
	.help = "send an event to its subscribers",
	.more = FEED_MORE
	"\n"
	"An event that does not exist is created, as one that all its members may emit.",
	.examples = "  $ ringbus emit news \"hello\" --wait-subscribers 1\n"
		    "  $ tail -f log | ringbus emit log --lines\n"
		    "  $ ringbus emit load --size 4k --rate 1000 --count 60000\n",
	.count_help = FEED_COUNT,
	.timeout_help = SEND_TIMEOUT,
	.has_bus = true,
	.has_node = true,
	.run = run_emit,
	.options = emit_options,
};

static const struct verb_option contact_options[] = {
	WAIT_OPTION,
	FEED_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb verb_contact = {
	.name = "contact",
	.operands = "PID|NAME|SLOT:GENERATION [PAYLOAD]",
	.help = "send a message to one node",
	.more = FEED_MORE,
	.examples = "  $ ringbus contact alice \"for you only\" --wait\n"
		    "  $ ringbus contact 4711 --file picture.png\n",
	.count_help = FEED_COUNT,
	.timeout_help = SEND_TIMEOUT,
	.has_bus = true,
	.has_node = true,
	.run = run_contact,
	.options = contact_options,
};

static const struct verb_option signal_options[] = {
	WAIT_OPTION,
	{0, NULL, NULL, NULL},
};

const struct verb verb_signal = {
	.name = "signal",
	.operands = "PID|NAME|SLOT:GENERATION",
	.help = "signal one node",
	.more = "A signal has no payload and is counted by its receiver.",
	.examples = "  $ ringbus signal bob --wait\n"
		    "  $ ringbus signal 4711 --count 3\n",
	.count_help = "send N signals (1)",
	.timeout_help = "with --wait: wait at most TIME for the node: 2, 250ms, 5m (60)",
	.has_bus = true,
	.has_node = true,
	.run = run_signal,
	.options = signal_options,
};

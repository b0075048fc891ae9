/* ringbus-receive.c: the verbs that print what they receive: subscribe, listen and wait-signal. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum receive_letter {
	LETTER_LOSSY = 300,
	LETTER_STRICT,
	LETTER_LITERAL,
	LETTER_ECHO,
};

#define ECHO_WAIT_NS UINT64_C(1000000000) /* for room at the one who is answered */

#define FORMAT_OPTION                                                                      \
	{                                                                                  \
		'f', "format", "FORMAT", "raw, line (a newline after each) or json (line)" \
	}
#define SENDER_OPTION                                                                      \
	{                                                                                  \
		's', "show-sender", NULL, "PID SLOT:GENERATION and a tab before each line" \
	}
#define STRICT_OPTION                                                         \
	{                                                                     \
		LETTER_STRICT, "strict", NULL, "exit 5 if messages were lost" \
	}

enum format {
	FORMAT_LINE,
	FORMAT_RAW,
	FORMAT_JSON,
};

/* Where received messages go. */
struct sink {
	struct call *call;
	struct ringbus_node *node;
	struct follow *follow; /* NULL: contacts */
	enum format format;
	bool show_sender;
	bool show_event;
	bool strict;
	bool echo;
	bool lossy;
	bool literal;
	uint64_t taken;
	uint64_t lost;
};

static bool sink_format(struct sink *sink, const char *name)
{
	static const char *const names[] = {"line", "raw", "json"};
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		if (strcmp(name, names[i]) == 0) {
			sink->format = (enum format)i;
			return true;
		}
	}
	sink->call->status = cli_usage_error("\"%s\" is no format (raw, line, json)", name);
	return false;
}

static bool sink_parse(struct sink *sink)
{
	struct call *call = sink->call;
	int letter;
	while ((letter = call_option(call)) > 0) {
		if (letter == 'f' && !sink_format(sink, optarg))
			return false;
		else if (letter == 's')
			sink->show_sender = true;
		else if (letter == 'e')
			sink->show_event = true;
		else if (letter == LETTER_STRICT)
			sink->strict = true;
		else if (letter == LETTER_LOSSY)
			sink->lossy = true;
		else if (letter == LETTER_LITERAL)
			sink->literal = true;
		else if (letter == LETTER_ECHO)
			sink->echo = true;
	}
	if (call->json)
		sink->format = FORMAT_JSON;
	return letter == 0;
}

/* The members that messages and notices of a loss share. */
static void json_open(struct sink *sink, struct cli_json *json,
		      const struct ringbus_message *message)
{
	cli_json_begin(json, stdout, sink->follow ? "ringbus.subscribe/1" : "ringbus.listen/1",
		       false);
	if (message->kind == RINGBUS_EVENT)
		cli_json_string(json, "event", ringbus_event_id(message->event));
	cli_json_object(json, "sender");
	cli_json_u64(json, "pid", message->sender.pid);
	cli_json_u64(json, "slot", message->sender.slot);
	cli_json_u64(json, "generation", message->sender.generation);
	cli_json_close(json);
}

/* The payload may change under us, and JSON looks at it twice: once copied it stands still. */
static bool write_json(struct sink *sink, const struct ringbus_message *message)
{
	struct cli_json json;
	char *copy = malloc(message->size + 1);
	if (!copy)
		return false;
	if (message->size)
		memcpy(copy, message->data, message->size);
	json_open(sink, &json, message);
	cli_json_u64(&json, "size", message->size);
	cli_json_u64(&json, "lost", message->lost);
	cli_json_payload(&json, copy, message->size);
	cli_json_end(&json);
	free(copy);
	return true;
}

/* A loss after which nothing came is an object without payload. */
static void write_json_lost(struct sink *sink, const struct ringbus_message *message)
{
	struct cli_json json;
	json_open(sink, &json, message);
	cli_json_string(&json, "notice", "lost");
	cli_json_u64(&json, "lost", message->count);
	cli_json_end(&json);
}

static bool sink_write(struct sink *sink, const struct ringbus_message *message)
{
	const struct ringbus_address *sender = &message->sender;
	if (sink->format == FORMAT_JSON)
		return write_json(sink, message);
	if (sink->show_sender)
		printf("%s%u %u:%u%s\t", cli_colour(CLI_DIM), sender->pid, sender->slot,
		       sender->generation, cli_colour(CLI_PLAIN));
	if (sink->show_event)
		printf("%s%s%s\t", cli_colour(CLI_DIM), ringbus_event_id(message->event),
		       cli_colour(CLI_PLAIN));
	if (message->size)
		fwrite(message->data, 1, message->size, stdout);
	if (sink->format == FORMAT_LINE)
		putchar('\n');
	return true;
}

/* Sends a message back. Who asked and left, or does not read, does not end the answering. */
static void answer(struct sink *sink, const struct ringbus_message *message)
{
	int r = ringbus_contact_address(sink->node, &message->sender, message->data, message->size,
					ECHO_WAIT_NS);
	if (r < 0 && r != -EINTR && sink->call->verbose)
		cli_note("no answer to process %u: %s", message->sender.pid, ringbus_strerror(r));
}

static void sink_lost(struct sink *sink, const struct ringbus_message *message, uint64_t count)
{
	char text[48];
	sink->lost += count;
	if (count && !sink->call->quiet)
		cli_note("%s of process %u lost", cli_count(text, sizeof text, count, "message"),
			 message->sender.pid);
}

static void sink_notice(struct sink *sink, const struct ringbus_message *message)
{
	const char *id = message->event ? ringbus_event_id(message->event) : "";
	bool verbose = sink->call->verbose;
	switch (message->notice) {
	case RINGBUS_LOST:
		sink_lost(sink, message, message->count);
		if (sink->format == FORMAT_JSON)
			write_json_lost(sink, message);
		break;
	case RINGBUS_EVENT_DISSOLVED:
		if (sink->follow)
			follow_ended(sink->follow, message);
		if (!sink->call->quiet)
			cli_note("event %s was dissolved", id);
		break;
	case RINGBUS_EVENT_ORPHANED:
		if (verbose)
			cli_note("event %s has no owner now", id);
		break;
	case RINGBUS_EVENT_CREATED:
		if (verbose)
			cli_note("event %s has an owner", id);
		break;
	default:
		break;
	}
}

static int sink_end(struct sink *sink, int r)
{
	char text[48];
	int status = CLI_OK;
	bool unmet = sink->call->count != NO_LIMIT && sink->taken < sink->call->count;
	if (r == -ETIMEDOUT) {
		status = CLI_TIMEOUT;
		if (!sink->call->quiet)
			cli_note("timed out after %s",
				 cli_count(text, sizeof text, sink->taken, "message"));
	} else if (r == -EINTR && unmet) {
		status = call_interrupted();
	} else if (r < 0 && r != -EPIPE && r != -EINTR) {
		status = call_failed(r);
	} else if (r == 0 && unmet) {
		status = CLI_MISSING;
	}
	if (status == CLI_OK && sink->strict && sink->lost)
		status = CLI_LOST;
	return status;
}

static int sink_take(struct sink *sink, const struct ringbus_message *message)
{
	if (message->kind == RINGBUS_NOTICE) {
		sink_notice(sink, message);
		return 0;
	}
	if (message->kind != (sink->follow ? RINGBUS_EVENT : RINGBUS_CONTACT))
		return 0;
	sink_lost(sink, message, message->lost);
	sink->taken++;
	if (sink->echo) {
		answer(sink, message);
		return 0;
	}
	errno = 0;
	if (!sink_write(sink, message))
		return -ENOMEM;
	return cli_written() ? 0 : -EPIPE;
}

static int sink_run(struct sink *sink)
{
	uint64_t deadline = deadline_of(sink->call->timeout_ns);
	struct ringbus_message message = {0};
	int r = 0;
	while (r == 0 && sink->taken < sink->call->count &&
	       !(sink->follow && follow_over(sink->follow))) {
		if (stopped())
			r = -EINTR;
		else
			r = receive_next(sink->node, sink->follow, &message, deadline);
		if (r == 0)
			r = sink_take(sink, &message);
	}
	return sink_end(sink, r);
}

static int run_subscribe(struct call *call)
{
	struct follow follow = {0};
	struct sink sink = {.call = call, .follow = &follow};
	int status, r;
	if (!sink_parse(&sink) || !call_operands(call, 1, 65535) || !call_events_valid(call))
		return call->status;
	call->watch_events = true; /* for patterns */
	status = call_open(call, &sink.node);
	if (status)
		return status;
	call_watch_output();
	follow.node = sink.node;
	follow.lossy = sink.lossy;
	follow.literal = sink.literal;
	follow.verbose = call->verbose;
	r = follow_open(&follow, call);
	status = r < 0 ? call_failed(r) : sink_run(&sink);
	follow_close(&follow);
	call_close(sink.node);
	return status;
}

static int run_listen(struct call *call)
{
	struct sink sink = {.call = call};
	struct ringbus_address self = {0};
	int status;
	if (!sink_parse(&sink) || !call_operands(call, 0, 0))
		return call->status;
	status = call_open(call, &sink.node);
	if (status)
		return status;
	if (!sink.echo)
		call_watch_output();
	ringbus_node_address(sink.node, &self);
	if (call->verbose)
		cli_note("listening as process %u, slot %u:%u", self.pid, self.slot,
			 self.generation);
	status = sink_run(&sink);
	call_close(sink.node);
	return status;
}

/* Takes signals until count have come. */
static int signals_take(struct call *call, struct ringbus_node *node, uint64_t *total)
{
	uint64_t deadline = deadline_of(call->timeout_ns);
	uint64_t wanted = call->count == NO_LIMIT ? 1 : call->count;
	while (*total < wanted) {
		uint64_t count = 0;
		int r = ringbus_signal_wait(node, &count, left_until(deadline));
		if (r == 0)
			*total += count;
		else if (r == -EINTR)
			return call_interrupted();
		else if (r != -EAGAIN && r != -ETIMEDOUT)
			return call_failed(r);
		else if (left_until(deadline) == 0)
			return CLI_TIMEOUT;
	}
	return CLI_OK;
}

static void signals_print(struct call *call, uint64_t total)
{
	struct cli_json json;
	if (!call->json) {
		printf("%llu\n", (unsigned long long)total);
		return;
	}
	cli_json_begin(&json, stdout, "ringbus.wait-signal/1", cli_is_tty());
	cli_json_u64(&json, "count", total);
	cli_json_end(&json);
}

static int run_wait_signal(struct call *call)
{
	struct ringbus_node *node;
	struct ringbus_address self = {0};
	uint64_t total = 0;
	char text[48];
	int letter = call_option(call);
	int status;
	if (letter != 0 || !call_operands(call, 0, 0))
		return call->status;
	status = call_open(call, &node);
	if (status)
		return status;
	ringbus_node_address(node, &self);
	if (call->verbose)
		cli_note("waiting as process %u, slot %u:%u", self.pid, self.slot, self.generation);
	status = signals_take(call, node, &total);
	if (status == CLI_OK || status == CLI_TIMEOUT)
		signals_print(call, total);
	if (status == CLI_TIMEOUT && !call->quiet)
		cli_note("timed out after %s", cli_count(text, sizeof text, total, "signal"));
	call_close(node);
	return status;
}

static const struct verb_option subscribe_options[] = {
	FORMAT_OPTION,
	SENDER_OPTION,
	{'e', "show-event", NULL, "the event's name and a tab before each line"},
	{LETTER_LITERAL, "literal", NULL, "* and ? in names stand for themselves"},
	{LETTER_LOSSY, "lossy", NULL, "miss messages rather than hold an emitter back"},
	STRICT_OPTION,
	{0, NULL, NULL, NULL},
};

const struct verb verb_subscribe = {
	.name = "subscribe",
	.operands = "EVENT...",
	.help = "print the messages of events",
	.more = "An EVENT need not exist yet. In an EVENT, * stands for any characters and ? for\n"
		"one; such a pattern means all events that match, now and later: one that is "
		"created\n"
		"later is joined when its creation is seen, and what was emitted before is not\n"
		"printed. Without patterns the verb ends when all its events were dissolved.",
	.examples = "  $ ringbus subscribe news\n"
		    "  $ ringbus subscribe 'sensor.*' --json --count 100\n"
		    "  $ ringbus subscribe blob --format raw --count 1 >copy\n",
	.count_help = "end after N messages",
	.timeout_help = "end with 4 after TIME: 2, 0.5 (seconds), 250ms, 5m (no limit)",
	.has_bus = true,
	.has_node = true,
	.run = run_subscribe,
	.options = subscribe_options,
};

static const struct verb_option listen_options[] = {
	FORMAT_OPTION,
	SENDER_OPTION,
	STRICT_OPTION,
	{LETTER_ECHO, "echo", NULL, "send each message back to its sender, print nothing"},
	{0, NULL, NULL, NULL},
};

const struct verb verb_listen = {
	.name = "listen",
	.operands = "",
	.help = "print the messages sent to this node",
	.more = "Prints direct messages, as \"ringbus contact\" sends them. With --echo it "
		"answers\n"
		"\"ringbus latency\".",
	.examples = "  $ ringbus listen --name alice\n"
		    "  $ ringbus listen --name mirror --echo\n",
	.count_help = "end after N messages",
	.timeout_help = "end with 4 after TIME: 2, 0.5 (seconds), 250ms, 5m (no limit)",
	.has_bus = true,
	.has_node = true,
	.run = run_listen,
	.options = listen_options,
};

const struct verb verb_wait_signal = {
	.name = "wait-signal",
	.operands = "",
	.help = "wait for signals and print how many came",
	.more = "Signals count: several that came together are taken together, so the number that\n"
		"is printed may be over N.",
	.examples = "  $ ringbus wait-signal --name bob --count 3\n",
	.count_help = "wait until N signals have come (1)",
	.timeout_help = "end with 4 after TIME: 2, 0.5 (seconds), 250ms, 5m (no limit)",
	.has_bus = true,
	.has_node = true,
	.run = run_wait_signal,
};

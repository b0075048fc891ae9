/* ringbus-receive.c: the verbs that receive: subscribe, listen and wait-signal. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum receive_letter {
	LETTER_LOSSY = 300,
	LETTER_STRICT,
};

#define SINK_OPTIONS                                                                          \
	{'f', "format", "FORMAT", "raw, line (a newline after each; the default) or json"},   \
		{'s', "show-sender", NULL, "PID SLOT:GENERATION and a tab before each line"}, \
	{                                                                                     \
		LETTER_STRICT, "strict", NULL, "exit 5 if messages were lost"                 \
	}

const struct verb_option subscribe_options[] = {
	{LETTER_LOSSY, "lossy", NULL, "miss messages rather than hold an emitter back"},
	SINK_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb_option listen_options[] = {
	SINK_OPTIONS,
	{0, NULL, NULL, NULL},
};

const struct verb_option wait_signal_options[] = {
	{0, NULL, NULL, NULL},
};

enum format {
	FORMAT_LINE,
	FORMAT_RAW,
	FORMAT_JSON,
};

/* Where received messages go. */
struct sink {
	struct call *call;
	struct ringbus_node *node;
	enum ringbus_kind kind;
	enum format format;
	bool show_sender;
	bool strict;
	bool lossy;
	unsigned live; /* subscriptions that are not over */
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
		else if (letter == LETTER_STRICT)
			sink->strict = true;
		else if (letter == LETTER_LOSSY)
			sink->lossy = true;
	}
	if (call->json)
		sink->format = FORMAT_JSON;
	return letter == 0;
}

/* The members that messages and notices of a loss share. */
static void json_open(struct sink *sink, struct cli_json *json,
		      const struct ringbus_message *message)
{
	bool event = sink->kind == RINGBUS_EVENT;
	cli_json_begin(json, stdout, event ? "ringbus.subscribe/1" : "ringbus.listen/1", false);
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
	if (message->size)
		fwrite(message->data, 1, message->size, stdout);
	if (sink->format == FORMAT_LINE)
		putchar('\n');
	return true;
}

static void sink_lost(struct sink *sink, const struct ringbus_message *message, uint64_t count)
{
	sink->lost += count;
	if (count && !sink->call->quiet)
		cli_note("%llu messages of process %u lost", (unsigned long long)count,
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
		sink->live--;
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

/* The next message; what was written goes out before this sleeps. 0, or a negative errno code. */
static int sink_next(struct sink *sink, struct ringbus_message *message, uint64_t deadline)
{
	int r = ringbus_next(sink->node, message, 0);
	while (r == -EAGAIN || r == -ETIMEDOUT) {
		uint64_t slice = slice_until(deadline);
		if (cli_flush() != 0)
			return -EPIPE;
		if (stopped())
			return -EINTR;
		if (slice == 0)
			return -ETIMEDOUT;
		r = ringbus_next(sink->node, message, slice);
	}
	return r;
}

static int sink_end(struct sink *sink, int r)
{
	int status = CLI_OK;
	bool unmet = sink->call->count != UINT64_MAX && sink->taken < sink->call->count;
	if (r == -ETIMEDOUT) {
		status = CLI_TIMEOUT;
		if (!sink->call->quiet)
			cli_note("timed out after %llu messages", (unsigned long long)sink->taken);
	} else if (r < 0 && r != -EPIPE && r != -EINTR) {
		status = call_failed(r);
	} else if (r == 0 && unmet) {
		status = CLI_MISSING;
	}
	if (status == CLI_OK && sink->strict && sink->lost)
		status = CLI_LOST;
	return status;
}

static int sink_run(struct sink *sink)
{
	uint64_t deadline = deadline_of(sink->call->timeout_ns);
	struct ringbus_message message = {0};
	int r = 0;
	while (r == 0 && sink->taken < sink->call->count && sink->live > 0 && !stopped()) {
		r = sink_next(sink, &message, deadline);
		if (r < 0)
			break;
		r = 0;
		if (message.kind == RINGBUS_NOTICE) {
			sink_notice(sink, &message);
			continue;
		}
		if (message.kind != sink->kind)
			continue;
		sink_lost(sink, &message, message.lost);
		if (!sink_write(sink, &message))
			r = -ENOMEM;
		else if (ferror(stdout))
			r = -EPIPE;
		sink->taken++;
	}
	return sink_end(sink, stopped() && r == 0 ? -EINTR : r);
}

int verb_subscribe(struct call *call)
{
	struct sink sink = {.call = call, .kind = RINGBUS_EVENT};
	struct ringbus_subscribe_options options = {.size = sizeof options};
	int status, r = 0;
	if (!sink_parse(&sink) || !call_operands(call, 1, 65535))
		return call->status;
	options.lossy = sink.lossy;
	status = call_open(call, &sink.node);
	if (status)
		return status;
	for (int i = 0; r == 0 && i < call->argc; i++) {
		struct ringbus_event *event;
		r = ringbus_subscribe(&event, sink.node, call->argv[i], &options);
		if (r == 0)
			sink.live++;
		if (r == 0 && call->verbose)
			cli_note("subscribed to %s", call->argv[i]);
	}
	status = r < 0 ? call_failed(r) : sink_run(&sink);
	ringbus_node_close(sink.node);
	return status;
}

int verb_listen(struct call *call)
{
	struct sink sink = {.call = call, .kind = RINGBUS_CONTACT, .live = 1};
	struct ringbus_address self = {0};
	int status;
	if (!sink_parse(&sink) || !call_operands(call, 0, 0))
		return call->status;
	status = call_open(call, &sink.node);
	if (status)
		return status;
	ringbus_node_address(sink.node, &self);
	if (call->verbose)
		cli_note("listening as process %u, slot %u:%u", self.pid, self.slot,
			 self.generation);
	status = sink_run(&sink);
	ringbus_node_close(sink.node);
	return status;
}

/* Takes signals until count have come. */
static int signals_take(struct call *call, struct ringbus_node *node, uint64_t *total)
{
	uint64_t deadline = deadline_of(call->timeout_ns);
	uint64_t wanted = call->count == UINT64_MAX ? 1 : call->count;
	while (*total < wanted && !stopped()) {
		uint64_t slice = slice_until(deadline), count = 0;
		int r = ringbus_signal_wait(node, &count, slice);
		if (r == 0)
			*total += count;
		else if (r != -EAGAIN && r != -ETIMEDOUT)
			return call_failed(r);
		else if (cli_now_ns() >= deadline)
			return CLI_TIMEOUT;
	}
	return CLI_OK;
}

int verb_wait_signal(struct call *call)
{
	struct ringbus_node *node;
	struct ringbus_address self = {0};
	uint64_t total = 0;
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
	if (status == CLI_OK || status == CLI_TIMEOUT) {
		struct cli_json json;
		if (call->json) {
			cli_json_begin(&json, stdout, "ringbus.wait-signal/1", cli_is_tty());
			cli_json_u64(&json, "count", total);
			cli_json_end(&json);
		} else {
			printf("%llu\n", (unsigned long long)total);
		}
	}
	if (status == CLI_TIMEOUT && !call->quiet)
		cli_note("timed out after %llu signals", (unsigned long long)total);
	ringbus_node_close(node);
	return status;
}

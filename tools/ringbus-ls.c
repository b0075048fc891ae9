/* ringbus-ls.c: the verb ls: the nodes and events of a bus, read without joining it. */
#include "ringbus-inspect.h"

#include "ringbus-verbs.h"

#include <string.h>

static unsigned mask_count(const uint64_t *mask)
{
	unsigned n = 0;
	for (unsigned i = 0; i < RINGBUS_INSPECT_MASK_WORDS; i++)
		n += (unsigned)__builtin_popcountll(mask[i]);
	return n;
}

/* Names come from strangers: nothing of them may steer a terminal. */
static void print_name(const char *name)
{
	for (; *name; name++)
		putchar((unsigned char)*name < 0x20 || *name == 0x7f ? '?' : *name);
	putchar('\n');
}

static const char *mode_text(uint32_t mode)
{
	return mode == RINGBUS_SINGLE_EMISSION	? "single"
	       : mode == RINGBUS_MULTI_EMISSION ? "multi"
						: "invalid";
}

/* A slot says live until somebody has buried its owner. */
static const char *state_text(const struct ringbus_inspect_header *header,
			      const struct ringbus_inspect_node *node)
{
	const char *text = ringbus_inspect_slot_state(node->state);
	bool gone = !header->live || node->process == RINGBUS_INSPECT_GONE;
	return gone && strcmp(text, "left") != 0 ? "dead" : text;
}

static int json_nodes(struct cli_json *json, struct ringbus_inspect *inspect,
		      const struct ringbus_inspect_header *header)
{
	struct ringbus_inspect_node node;
	uint32_t cursor = 0;
	int r;
	cli_json_array(json, "nodes");
	while ((r = ringbus_inspect_node_next(inspect, &cursor, &node)) > 0) {
		cli_json_object(json, NULL);
		cli_json_u64(json, "pid", node.pid);
		cli_json_u64(json, "slot", node.slot);
		cli_json_u64(json, "generation", node.generation);
		cli_json_string(json, "state", state_text(header, &node));
		cli_json_string(json, "name", *node.name ? node.name : NULL);
		cli_json_u64(json, "sent", node.sent);
		cli_json_u64(json, "received", node.received);
		cli_json_u64(json, "signals", node.signals);
		cli_json_close(json);
	}
	cli_json_close(json);
	return r;
}

static int json_events(struct cli_json *json, struct ringbus_inspect *inspect)
{
	struct ringbus_inspect_event event;
	uint32_t cursor = 0;
	int r;
	cli_json_array(json, "events");
	while ((r = ringbus_inspect_event_next(inspect, &cursor, &event)) > 0) {
		cli_json_object(json, NULL);
		cli_json_string(json, "event", event.name);
		cli_json_string(json, "mode", mode_text(event.mode));
		cli_json_string(json, "state", ringbus_inspect_event_state(event.state));
		if (event.has_owner)
			cli_json_u64(json, "owner_slot", event.owner);
		else
			cli_json_null(json, "owner_slot");
		cli_json_u64(json, "subscribers", mask_count(event.deliver));
		cli_json_u64(json, "members", mask_count(event.members));
		cli_json_u64(json, "lossy", mask_count(event.lossy));
		cli_json_close(json);
	}
	cli_json_close(json);
	return r;
}

static int list_json(struct ringbus_inspect *inspect, const struct ringbus_inspect_header *header)
{
	struct cli_json json;
	int nodes, events;
	cli_json_begin(&json, stdout, "ringbus.ls/1", cli_is_tty());
	cli_json_u64(&json, "port", header->port);
	cli_json_bool(&json, "live", header->live);
	cli_json_bool(&json, "service_running", header->service_running);
	cli_json_u64(&json, "service_pid", header->service_pid);
	cli_json_u64(&json, "slots", header->nodes);
	nodes = json_nodes(&json, inspect, header);
	events = json_events(&json, inspect);
	cli_json_end(&json);
	return nodes < 0 ? nodes : events;
}

static int text_nodes(struct ringbus_inspect *inspect, const struct ringbus_inspect_header *header)
{
	struct ringbus_inspect_node node;
	uint32_t cursor = 0;
	int r;
	printf("%s%7s %10s %-8s %10s %10s  %s%s\n", cli_colour(CLI_BOLD), "PID", "SLOT", "STATE",
	       "SENT", "RECEIVED", "NODE", cli_colour(CLI_PLAIN));
	while ((r = ringbus_inspect_node_next(inspect, &cursor, &node)) > 0) {
		char address[24];
		snprintf(address, sizeof address, "%u:%u", node.slot, node.generation);
		printf("%7u %10s %-8s %10llu %10llu  ", node.pid, address,
		       state_text(header, &node), (unsigned long long)node.sent,
		       (unsigned long long)node.received);
		print_name(*node.name ? node.name : "-");
	}
	return r;
}

static int text_events(struct ringbus_inspect *inspect)
{
	struct ringbus_inspect_event event;
	uint32_t cursor = 0;
	int r;
	printf("%s%7s %10s %-8s %10s %10s  %s%s\n", cli_colour(CLI_BOLD), "MODE", "OWNER", "STATE",
	       "SUBSCRIB", "MEMBERS", "EVENT", cli_colour(CLI_PLAIN));
	while ((r = ringbus_inspect_event_next(inspect, &cursor, &event)) > 0) {
		char owner[24] = "-";
		if (event.has_owner)
			snprintf(owner, sizeof owner, "%u:%u", event.owner, event.owner_generation);
		printf("%7s %10s %-8s %10u %10u  ", mode_text(event.mode), owner,
		       ringbus_inspect_event_state(event.state), mask_count(event.deliver),
		       mask_count(event.members));
		print_name(event.name);
	}
	return r;
}

static int list(struct call *call, struct ringbus_inspect *inspect)
{
	struct ringbus_inspect_header header;
	int r = ringbus_inspect_header(inspect, &header);
	if (r < 0)
		return r;
	if (!call->quiet && !header.valid)
		cli_note("this region is damaged: %s", header.why);
	else if (!call->quiet && !header.live)
		cli_note("no process of this bus runs any more");
	else if (call->verbose)
		cli_note("port %u, service %s", header.port,
			 header.service_running ? "runs" : "does not run");
	if (call->json)
		return list_json(inspect, &header);
	r = text_nodes(inspect, &header);
	if (r < 0)
		return r;
	putchar('\n');
	return text_events(inspect);
}

static int run_ls(struct call *call)
{
	struct ringbus_inspect *inspect;
	int letter = call_option(call);
	int r;
	if (letter != 0 || !call_operands(call, 0, 0))
		return call->status;
	r = ringbus_inspect_open(&inspect, call->port, call->directory);
	if (r < 0)
		return call_failed(r);
	r = list(call, inspect);
	ringbus_inspect_close(inspect);
	return r < 0 ? call_failed(r) : CLI_OK;
}

const struct verb verb_ls = {
	.name = "ls",
	.operands = "",
	.help = "list the nodes and events of the bus",
	.more = "Reads the bus without joining it.",
	.examples = "  $ ringbus ls\n"
		    "  $ ringbus ls --json --port 54122\n",
	.has_bus = true,
	.run = run_ls,
};

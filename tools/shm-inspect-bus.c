/* shm-inspect-bus.c: the verbs that look at whole buses: the list, header, check. */
#include "shm-inspect.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- list ---- */

struct summary {
	unsigned port;
	const char *where;
	struct ringbus_inspect_header header;
	unsigned nodes;
	unsigned events;
};

static void summarise(struct ringbus_inspect *inspect, struct summary *sum)
{
	struct ringbus_inspect_event event;
	struct ringbus_inspect_node node;
	uint32_t cursor = 0;
	ringbus_inspect_header(inspect, &sum->header);
	while (ringbus_inspect_node_next(inspect, &cursor, &node) > 0)
		sum->nodes++;
	cursor = 0;
	while (ringbus_inspect_event_next(inspect, &cursor, &event) > 0)
		sum->events++;
}

static void show_summary(struct view *view, struct table *table, const struct summary *sum)
{
	if (!view->json) {
		table_u64(table, sum->port);
		table_cell(table, "%s", bus_state(&sum->header));
		table_u64(table, sum->nodes);
		table_u64(table, sum->events);
		table_size(table, sum->header.memory_bytes);
		table_cell(table, "%s", sum->where);
		return;
	}
	cli_json_object(&view->out, NULL);
	cli_json_u64(&view->out, "port", sum->port);
	cli_json_string(&view->out, "where", sum->where);
	cli_json_string(&view->out, "state", bus_state(&sum->header));
	cli_json_u64(&view->out, "nodes", sum->nodes);
	cli_json_u64(&view->out, "events", sum->events);
	cli_json_u64(&view->out, "file_bytes", sum->header.file_bytes);
	cli_json_u64(&view->out, "memory_bytes", sum->header.memory_bytes);
	cli_json_close(&view->out);
}

static void show_bus(struct view *view, struct table *table, unsigned port, const char *where)
{
	struct summary sum = {.port = port, .where = where};
	summarise(view->inspect, &sum);
	if (port == 0)
		sum.port = sum.header.port;
	show_summary(view, table, &sum);
	ringbus_inspect_close(view->inspect);
	view->inspect = NULL;
}

static int list_all(struct view *view, struct table *table)
{
	int n = ringbus_inspect_list(NULL, 0, view->directory);
	size_t capacity = n > 0 ? (size_t)n + 16 : 1;
	struct ringbus_inspect_place *places = calloc(capacity, sizeof *places);
	if (n >= 0 && places)
		n = ringbus_inspect_list(places, capacity, view->directory);
	for (size_t i = 0; places && n > 0 && i < (size_t)n && i < capacity; i++) {
		const struct ringbus_inspect_place *place = &places[i];
		if (ringbus_inspect_open(&view->inspect, place->port, place->directory) < 0) {
			cli_note("%s/%u.bus: %s", place->directory, place->port,
				 ringbus_error_detail());
			continue;
		}
		show_bus(view, table, place->port, place->directory);
	}
	free(places);
	if (n == 0)
		cli_note("no bus in the directories searched");
	return n < 0 ? n : 0;
}

/* Nothing of such a file is worth telling. */
static int no_region(struct view *view, const struct ringbus_inspect_header *h)
{
	if (view->json) {
		cli_json_bool(&view->out, "valid", false);
		cli_json_bool(&view->out, "usable", false);
		cli_json_string(&view->out, "error", h->why);
		cli_json_end(&view->out);
	}
	return cli_error("%s: %s", view->file ? view->file : "the region", h->why);
}

int verb_buses(struct view *view)
{
	bool one = view->file || view->port;
	struct ringbus_inspect_header header;
	struct table *table = NULL;
	int r = one ? view_open(view) : 0;
	if (r < 0)
		return cli_exit_code(r) == CLI_MISSING ? CLI_MISSING : CLI_FAILED;
	if (one && ringbus_inspect_header(view->inspect, &header) == 0 && region_is_none(&header)) {
		if (view->json)
			view_json_begin(view);
		ringbus_inspect_close(view->inspect);
		return no_region(view, &header);
	}
	if (view->json) {
		view_json_begin(view);
		cli_json_array(&view->out, "buses");
	} else {
		table = table_open(">PORT STATE >NODES >EVENTS >MEMORY WHERE");
	}
	if (one)
		show_bus(view, table, view->port,
			 view->file	   ? view->file
			 : view->directory ? view->directory
					   : "");
	else
		r = list_all(view, table);
	table_close(table);
	return view_end(view, r);
}

/* ---- header ---- */

static void format_uuid(const uint8_t uuid[16], char text[33])
{
	for (int i = 0; i < 16; i++)
		snprintf(text + 2 * i, 3, "%02x", uuid[i]);
}

static void header_json(struct view *view, const struct ringbus_inspect_header *h)
{
	struct cli_json *out = &view->out;
	char uuid[33];
	format_uuid(h->uuid, uuid);
	cli_json_bool(out, "valid", h->valid);
	cli_json_bool(out, "usable", h->usable);
	cli_json_string(out, "why", h->valid ? NULL : h->why);
	cli_json_string(out, "state", bus_state(h));
	view_json_hex(view, "magic", h->magic);
	cli_json_u64(out, "version", h->version);
	view_json_hex(view, "signature", h->signature);
	cli_json_string(out, "uuid", uuid);
	cli_json_string(out, "boot_id", h->boot_id);
	cli_json_bool(out, "this_boot", h->this_boot);
	cli_json_bool(out, "live", h->live);
	cli_json_u64(out, "port", h->port);
	cli_json_u64(out, "uid", h->uid);
	cli_json_u64(out, "nodes", h->nodes);
	cli_json_u64(out, "events", h->events);
	cli_json_u64(out, "ring_bytes", h->ring_bytes);
	cli_json_u64(out, "pool_bytes", h->pool_bytes);
	cli_json_u64(out, "fixed_bytes", h->fixed_bytes);
	cli_json_u64(out, "file_bytes", h->file_bytes);
	cli_json_u64(out, "memory_bytes", h->memory_bytes);
	cli_json_u64(out, "created_s", h->created_s);
	cli_json_u64(out, "control_epoch", h->control_epoch);
	view_json_hex(view, "intent", h->intent);
	cli_json_u64(out, "intent_pid", h->intent_pid);
	cli_json_u64(out, "repairs", h->repairs);
	cli_json_u64(out, "service_pid", h->service_pid);
	cli_json_bool(out, "service_running", h->service_running);
	cli_json_bool(out, "closing", h->closing);
}

static void print_size(const char *name, uint64_t bytes)
{
	char text[32];
	printf("%-16s %s (%" PRIu64 ")\n", name, cli_format_size(text, sizeof text, bytes), bytes);
}

static void print_created(uint64_t created_s)
{
	time_t when = (time_t)created_s;
	char text[64] = "?";
	struct tm tm;
	if (created_s < (uint64_t)1 << 36 && localtime_r(&when, &tm))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &tm);
	printf("%-16s %s\n", "created", text);
}

static void header_print(const struct ringbus_inspect_header *h)
{
	char uuid[33];
	format_uuid(h->uuid, uuid);
	printf("%-16s %s%s%s%s\n", "state", bus_state(h), h->valid ? "" : " (", h->why,
	       h->valid ? "" : ")");
	printf("%-16s %u\n", "port", h->port);
	printf("%-16s %u, signature 0x%016" PRIx64 "\n", "layout", h->version, h->signature);
	printf("%-16s %s\n%-16s ", "uuid", uuid, "boot");
	print_text(h->boot_id);
	printf("%s\n", h->this_boot ? " (this one)" : "");
	printf("%-16s %u\n", "uid", h->uid);
	print_created(h->created_s);
	printf("%-16s %u\n%-16s %u\n", "slots", h->nodes, "event entries", h->events);
	print_size("ring", h->ring_bytes);
	print_size("pool limit", h->pool_bytes);
	print_size("fixed part", h->fixed_bytes);
	print_size("file", h->file_bytes);
	print_size("memory", h->memory_bytes);
	if (!h->usable)
		return;
	printf("%-16s %" PRIu64 "\n", "control epoch", h->control_epoch);
	printf("%-16s %" PRIu64 "\n", "repairs", h->repairs);
	if (h->service_pid)
		printf("%-16s %" PRIu64 "%s\n", "service", h->service_pid,
		       h->service_running ? "" : " (not running)");
	else
		printf("%-16s none\n", "service");
	if (h->intent)
		printf("%-16s 0x%016" PRIx64 " of process %" PRIu64 "\n", "operation", h->intent,
		       h->intent_pid);
}

int verb_header(struct view *view)
{
	struct ringbus_inspect_header header;
	int r = ringbus_inspect_header(view->inspect, &header);
	if (r == 0 && region_is_none(&header))
		return no_region(view, &header);
	if (r == 0 && view->json)
		header_json(view, &header);
	else if (r == 0)
		header_print(&header);
	return view_end(view, r);
}

/* ---- check ---- */

static const char *const severity_names[] = {"info", "warning", "error"};

struct counts {
	struct view *view;
	unsigned of[3];
};

static void show_finding(const struct ringbus_inspect_finding *finding, void *user)
{
	static const enum cli_colour colours[] = {CLI_DIM, CLI_YELLOW, CLI_RED};
	struct counts *counts = user;
	struct view *view = counts->view;
	counts->of[finding->severity]++;
	if (view->json) {
		cli_json_object(&view->out, NULL);
		cli_json_string(&view->out, "severity", severity_names[finding->severity]);
		cli_json_string(&view->out, "code", finding->code);
		cli_json_string(&view->out, "text", finding->text);
		cli_json_close(&view->out);
		return;
	}
	printf("%s%s%s: %s: ", cli_colour(colours[finding->severity]),
	       severity_names[finding->severity], cli_colour(CLI_PLAIN), finding->code);
	print_text(finding->text);
	putchar('\n');
}

int verb_check(struct view *view)
{
	struct counts counts = {.view = view};
	int r, status;
	if (view->json)
		cli_json_array(&view->out, "findings");
	r = ringbus_inspect_check(view->inspect, show_finding, &counts);
	if (view->json) {
		cli_json_close(&view->out);
		cli_json_u64(&view->out, "errors", counts.of[RINGBUS_INSPECT_ERROR]);
		cli_json_u64(&view->out, "warnings", counts.of[RINGBUS_INSPECT_WARNING]);
		cli_json_u64(&view->out, "infos", counts.of[RINGBUS_INSPECT_INFO]);
	} else if (r >= 0) {
		printf("%u error%s, %u warning%s\n", counts.of[RINGBUS_INSPECT_ERROR],
		       counts.of[RINGBUS_INSPECT_ERROR] == 1 ? "" : "s",
		       counts.of[RINGBUS_INSPECT_WARNING],
		       counts.of[RINGBUS_INSPECT_WARNING] == 1 ? "" : "s");
	}
	status = view_end(view, r);
	return r > 0 ? CLI_FAILED : status;
}

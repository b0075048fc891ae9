/* shm-inspect-parts.c: the verbs that list parts of one bus: nodes, events, rings, pools. */
#include "shm-inspect.h"

#include <inttypes.h>

/* ---- nodes ---- */

static const char *process_state(enum ringbus_inspect_process process)
{
	return process == RINGBUS_INSPECT_RUNNING ? "running"
	       : process == RINGBUS_INSPECT_GONE  ? "gone"
						  : "unknown";
}

static void node_row(struct table *table, const struct ringbus_inspect_node *n)
{
	table_u64(table, n->slot);
	table_cell(table, "%s", ringbus_inspect_slot_state(n->state));
	table_u64(table, n->generation);
	table_u64(table, n->pid);
	table_cell(table, "%s", process_state(n->process));
	table_cell(table, "%s", n->name);
	table_u64(table, n->sent);
	table_u64(table, n->received);
	table_u64(table, n->dropped_lossy + n->dropped_gone + n->dropped_unsubscribed);
	table_u64(table, n->full);
	table_u64(table, n->wakes);
	table_u64(table, n->sleeps);
	table_cell(table, "%s%s%s", n->inbox_asleep ? "asleep" : "awake",
		   n->unfenced ? ",unfenced" : "", n->no_membarrier ? ",no-membarrier" : "");
	if (!n->in_handler)
		table_cell(table, "-");
	else if (n->in_contact)
		table_cell(table, "contact");
	else
		table_cell(table, "event %u", n->handler_event);
}

static void node_json_counters(struct cli_json *out, const struct ringbus_inspect_node *n)
{
	const struct {
		const char *key;
		uint64_t value;
	} counters[] = {
		{"dispatches", n->dispatches},
		{"received", n->received},
		{"received_bytes", n->received_bytes},
		{"dropped_unsubscribed", n->dropped_unsubscribed},
		{"sleeps", n->sleeps},
		{"safety_wakes", n->safety_wakes},
		{"sent", n->sent},
		{"sent_bytes", n->sent_bytes},
		{"dropped_lossy", n->dropped_lossy},
		{"dropped_gone", n->dropped_gone},
		{"full", n->full},
		{"wakes", n->wakes},
		{"corrupt", n->corrupt},
		{"dead_peers", n->dead_peers},
	};
	for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
		cli_json_u64(out, counters[i].key, counters[i].value);
}

static void node_json(struct view *view, const struct ringbus_inspect_node *n)
{
	struct cli_json *out = &view->out;
	cli_json_object(out, NULL);
	cli_json_u64(out, "slot", n->slot);
	cli_json_string(out, "state", ringbus_inspect_slot_state(n->state));
	cli_json_u64(out, "generation", n->generation);
	cli_json_u64(out, "pid", n->pid);
	cli_json_u64(out, "uid", n->uid);
	cli_json_string(out, "process", process_state(n->process));
	cli_json_string(out, "name", n->name);
	cli_json_bool(out, "unfenced", n->unfenced);
	cli_json_bool(out, "no_membarrier", n->no_membarrier);
	cli_json_bool(out, "in_handler", n->in_handler);
	if (n->in_handler) {
		cli_json_bool(out, "in_contact", n->in_contact);
		cli_json_u64(out, "handler_event", n->handler_event);
		cli_json_u64(out, "handler_since_ns", n->handler_since_ns);
	}
	cli_json_bool(out, "inbox_asleep", n->inbox_asleep);
	cli_json_bool(out, "room_asleep", n->room_asleep);
	cli_json_u64(out, "inbox_epoch", n->inbox >> 2);
	cli_json_u64(out, "room_epoch", n->room >> 2);
	cli_json_u64(out, "signals", n->signals);
	view_json_mask(view, "paired", n->paired);
	cli_json_u64(out, "rings", n->rings);
	cli_json_u64(out, "pools", n->pools);
	node_json_counters(out, n);
	cli_json_close(out);
}

int verb_nodes(struct view *view)
{
	struct ringbus_inspect_node node;
	struct table *table = NULL;
	uint32_t cursor = 0;
	int r;
	if (view->json)
		cli_json_array(&view->out, "nodes");
	else
		table = table_open(
			">SLOT STATE >GEN >PID PROCESS NAME >SENT >RECEIVED >DROPPED >FULL >WAKES "
			">SLEEPS MODE HANDLER");
	while ((r = ringbus_inspect_node_next(view->inspect, &cursor, &node)) > 0) {
		if (view->json)
			node_json(view, &node);
		else
			node_row(table, &node);
	}
	table_close(table);
	return view_end(view, r);
}

/* ---- events ---- */

static const char *mode_name(uint32_t mode)
{
	return mode == RINGBUS_SINGLE_EMISSION	? "single"
	       : mode == RINGBUS_MULTI_EMISSION ? "multi"
						: "invalid";
}

static void event_row(struct table *table, const struct ringbus_inspect_event *e)
{
	table_u64(table, e->index);
	table_cell(table, "%s", e->name);
	table_cell(table, "%s", ringbus_inspect_event_state(e->state));
	table_cell(table, "%s%s", mode_name(e->mode), e->all_lossy ? ",lossy" : "");
	table_u64(table, e->generation);
	if (e->has_owner)
		table_cell(table, "%u.%u", e->owner, e->owner_generation);
	else
		table_cell(table, "-");
	table_mask(table, e->members);
	table_mask(table, e->deliver);
	table_mask(table, e->lossy);
}

static void event_json(struct view *view, const struct ringbus_inspect_event *e)
{
	struct cli_json *out = &view->out;
	cli_json_object(out, NULL);
	cli_json_u64(out, "index", e->index);
	cli_json_string(out, "name", e->name);
	cli_json_string(out, "state", ringbus_inspect_event_state(e->state));
	cli_json_string(out, "mode", mode_name(e->mode));
	cli_json_bool(out, "all_lossy", e->all_lossy);
	cli_json_u64(out, "generation", e->generation);
	if (e->has_owner) {
		cli_json_u64(out, "owner", e->owner);
		cli_json_u64(out, "owner_generation", e->owner_generation);
	} else {
		cli_json_null(out, "owner");
	}
	cli_json_u64(out, "changes", e->changes);
	view_json_mask(view, "members", e->members);
	view_json_mask(view, "deliver", e->deliver);
	view_json_mask(view, "lossy", e->lossy);
	cli_json_close(out);
}

int verb_events(struct view *view)
{
	struct ringbus_inspect_event event;
	struct table *table = NULL;
	uint32_t cursor = 0;
	int r;
	if (view->json)
		cli_json_array(&view->out, "events");
	else
		table = table_open(">INDEX NAME STATE MODE >GEN OWNER MEMBERS DELIVER LOSSY");
	while ((r = ringbus_inspect_event_next(view->inspect, &cursor, &event)) > 0) {
		if (view->json)
			event_json(view, &event);
		else
			event_row(table, &event);
	}
	table_close(table);
	return view_end(view, r);
}

/* ---- rings ---- */

static void ring_row(struct table *table, const struct ringbus_inspect_ring *g)
{
	table_u64(table, g->from);
	table_u64(table, g->to);
	table_cell(table, "0x%" PRIx64, g->offset);
	table_u64(table, g->head);
	table_u64(table, g->tail);
	table_u64(table, g->unread_records);
	table_size(table, g->unread_bytes);
	table_u64(table, g->messages);
	table_size(table, g->bytes);
	table_size(table, g->high_water);
	table_u64(table, g->drops);
	table_u64(table, g->full);
	table_u64(table, g->wakes);
	table_cell(table, "%" PRIu64 "/%" PRIu64, g->answered, g->asked);
	table_cell(table, "%s", g->damage[0] ? g->damage : "ok");
}

static void ring_json(struct view *view, const struct ringbus_inspect_ring *g)
{
	const struct {
		const char *key;
		uint64_t value;
	} figures[] = {
		{"from", g->from},
		{"to", g->to},
		{"offset", g->offset},
		{"capacity", g->capacity},
		{"head", g->head},
		{"tail", g->tail},
		{"hint", g->hint},
		{"unread_bytes", g->unread_bytes},
		{"unread_records", g->unread_records},
		{"asked", g->asked},
		{"answered", g->answered},
		{"position", g->position},
		{"start", g->start},
		{"lost", g->lost},
		{"drops", g->drops},
		{"drops_seen", g->drops_seen},
		{"messages", g->messages},
		{"bytes", g->bytes},
		{"high_water", g->high_water},
		{"full", g->full},
		{"full_since_ns", g->full_since_ns},
		{"wakes", g->wakes},
		{"received", g->received},
		{"received_bytes", g->received_bytes},
		{"stale", g->stale},
		{"bad", g->bad},
	};
	cli_json_object(&view->out, NULL);
	for (size_t i = 0; i < sizeof figures / sizeof *figures; i++)
		cli_json_u64(&view->out, figures[i].key, figures[i].value);
	cli_json_string(&view->out, "damage", g->damage[0] ? g->damage : NULL);
	cli_json_close(&view->out);
}

int verb_rings(struct view *view)
{
	struct ringbus_inspect_ring ring;
	struct table *table = NULL;
	uint32_t cursor = 0;
	int r;
	if (view->json)
		cli_json_array(&view->out, "rings");
	else
		table = table_open(
			">FROM >TO >OFFSET >HEAD >TAIL >UNREAD >BYTES >MESSAGES >SENT >HIGH >DROPS "
			">FULL >WAKES >RESYNC RECORDS");
	while ((r = ringbus_inspect_ring_next(view->inspect, &cursor, &ring)) > 0) {
		if (view->json)
			ring_json(view, &ring);
		else
			ring_row(table, &ring);
	}
	table_close(table);
	return view_end(view, r);
}

/* ---- pools ---- */

static void pool_row(struct table *table, const struct ringbus_inspect_pool *p)
{
	table_u64(table, p->slot);
	table_u64(table, p->index);
	table_cell(table, "0x%" PRIx64, p->offset);
	table_size(table, p->bytes);
	table_cell(table, "%s", p->big ? "big" : "slab");
	table_size(table, p->chunk_bytes);
	table_u64(table, p->chunks);
	table_u64(table, p->used);
	table_u64(table, p->queued);
	table_u64(table, p->borrowed);
	table_mask(table, p->borrowers);
	table_cell(table, "%s", p->damage[0] ? p->damage : "ok");
}

static void pool_json(struct view *view, const struct ringbus_inspect_pool *p)
{
	struct cli_json *out = &view->out;
	cli_json_object(out, NULL);
	cli_json_u64(out, "slot", p->slot);
	cli_json_u64(out, "extent", p->index);
	cli_json_u64(out, "serial", p->serial);
	cli_json_u64(out, "offset", p->offset);
	cli_json_u64(out, "bytes", p->bytes);
	cli_json_u64(out, "class", p->class_number);
	cli_json_bool(out, "big", p->big);
	cli_json_u64(out, "chunk_bytes", p->chunk_bytes);
	cli_json_u64(out, "chunks", p->chunks);
	cli_json_u64(out, "used", p->used);
	cli_json_u64(out, "queued", p->queued);
	cli_json_u64(out, "queued_bytes", p->queued_bytes);
	cli_json_u64(out, "borrowed", p->borrowed);
	view_json_mask(view, "borrowers", p->borrowers);
	cli_json_string(out, "damage", p->damage[0] ? p->damage : NULL);
	cli_json_close(out);
}

int verb_pools(struct view *view)
{
	struct ringbus_inspect_pool pool;
	struct table *table = NULL;
	uint32_t cursor = 0;
	int r;
	if (view->json)
		cli_json_array(&view->out, "pools");
	else
		table = table_open(
			">SLOT >EXTENT >OFFSET >BYTES KIND >CHUNK >CHUNKS >USED >QUEUED >BORROWED "
			"BORROWERS STATE");
	while ((r = ringbus_inspect_pool_next(view->inspect, &cursor, &pool)) > 0) {
		if (view->json)
			pool_json(view, &pool);
		else
			pool_row(table, &pool);
	}
	table_close(table);
	return view_end(view, r);
}

/* shm-inspect-parts.c: the verbs that list parts of one bus: nodes, events, rings, pools, latency.
 */
#include "shm-inspect.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define NODE(member) offsetof(struct node_row, member)
#define RING(member) offsetof(struct ring_row, member)
#define EVENT(member) offsetof(struct event_row, member)
#define POOL(member) offsetof(struct pool_row, member)
#define HOLD(member) offsetof(struct hold_row, member)

const struct column node_columns[] = {
	{"SLOT", "slot", CELL_U32, 0, NODE(n.slot)},
	{"STATE", "state", CELL_STRING, 0, NODE(state)},
	{"GEN", "generation", CELL_U32, 0, NODE(n.generation)},
	{"PID", "pid", CELL_U32, 0, NODE(n.pid)},
	{"UID", "uid", CELL_U32, COLUMN_WIDE, NODE(n.uid)},
	{"PROCESS", "process", CELL_STRING, 0, NODE(process)},
	{"NAME", "name", CELL_TEXT, 0, NODE(n.name)},
	{"AGE", "age_ns", CELL_TIME, 0, NODE(age_ns)},
	{"SENT/s", "sent_per_s", CELL_RATE, COLUMN_WATCH, NODE(sent_rate)},
	{"RECV/s", "received_per_s", CELL_RATE, COLUMN_WATCH, NODE(received_rate)},
	{"SENT", "sent", CELL_U64, 0, NODE(n.sent)},
	{"BYTES", "sent_bytes", CELL_SIZE, 0, NODE(n.sent_bytes)},
	{"BYTES/s", "sent_bytes_per_s", CELL_SIZE_RATE, COLUMN_WATCH, NODE(sent_bytes_rate)},
	{"RECEIVED", "received", CELL_U64, 0, NODE(n.received)},
	{"RBYTES", "received_bytes", CELL_SIZE, COLUMN_WIDE, NODE(n.received_bytes)},
	{"RBYTES/s", "received_bytes_per_s", CELL_SIZE_RATE, COLUMN_WATCH | COLUMN_WIDE,
	 NODE(received_bytes_rate)},
	{"UNREAD", "unread", CELL_U64, 0, NODE(unread)},
	{"UBYTES", "unread_bytes", CELL_SIZE, COLUMN_WIDE, NODE(unread_bytes)},
	{"LOSSY", "dropped_lossy", CELL_U64, 0, NODE(n.dropped_lossy)},
	{"GONE", "dropped_gone", CELL_U64, 0, NODE(n.dropped_gone)},
	{"UNWANTED", "dropped_unsubscribed", CELL_U64, 0, NODE(n.dropped_unsubscribed)},
	{"DROPPED/s", "dropped_per_s", CELL_RATE, COLUMN_WATCH, NODE(drop_rate)},
	{"FULL", "full", CELL_U64, 0, NODE(n.full)},
	{"WAKES", "wakes", CELL_U64, 0, NODE(n.wakes)},
	{"WAKES/s", "wakes_per_s", CELL_RATE, COLUMN_WATCH | COLUMN_WIDE, NODE(wake_rate)},
	{"SLEEPS", "sleeps", CELL_U64, 0, NODE(n.sleeps)},
	{"SAFETY", "safety_wakes", CELL_U64, COLUMN_WIDE, NODE(n.safety_wakes)},
	{"TURNS", "dispatches", CELL_U64, COLUMN_WIDE, NODE(n.dispatches)},
	{"TURNS/s", "dispatches_per_s", CELL_RATE, COLUMN_WATCH | COLUMN_WIDE, NODE(turn_rate)},
	{"SIGNALS", "signals", CELL_U32, COLUMN_WIDE, NODE(n.signals)},
	{"CORRUPT", "corrupt", CELL_U64, COLUMN_WIDE, NODE(n.corrupt)},
	{"DEAD-PEERS", "dead_peers", CELL_U64, COLUMN_WIDE, NODE(n.dead_peers)},
	{"RINGS", "rings", CELL_U32, COLUMN_WIDE, NODE(n.rings)},
	{"POOLS", "pools", CELL_U32, COLUMN_WIDE, NODE(n.pools)},
	{"MODE", "mode", CELL_TEXT, 0, NODE(modes)},
	{"HANDLER", "handler", CELL_TEXT, 0, NODE(handler)},
	{"FOR", "handler_ns", CELL_TIME, 0, NODE(handler_ns)},
	{"", "unfenced", CELL_BOOL, COLUMN_JSON, NODE(n.unfenced)},
	{"", "no_membarrier", CELL_BOOL, COLUMN_JSON, NODE(n.no_membarrier)},
	{"", "in_handler", CELL_BOOL, COLUMN_JSON, NODE(n.in_handler)},
	{"", "in_contact", CELL_BOOL, COLUMN_JSON, NODE(n.in_contact)},
	{"", "handler_event", CELL_U32, COLUMN_JSON, NODE(n.handler_event)},
	{"", "handler_since_ns", CELL_U64, COLUMN_JSON, NODE(n.handler_since_ns)},
	{"", "granted_ns", CELL_U64, COLUMN_JSON, NODE(n.granted_ns)},
	{"", "inbox_asleep", CELL_BOOL, COLUMN_JSON, NODE(n.inbox_asleep)},
	{"", "room_asleep", CELL_BOOL, COLUMN_JSON, NODE(n.room_asleep)},
	{"", "paired", CELL_MASK, COLUMN_JSON, NODE(n.paired)},
	{"FILL", "fill_percent", CELL_PERCENT, COLUMN_WIDE, NODE(fill)},
};
const size_t node_columns_n = COUNT_OF(node_columns);

static const struct column event_columns[] = {
	{"INDEX", "index", CELL_U32, 0, EVENT(e.index)},
	{"NAME", "name", CELL_TEXT, 0, EVENT(e.name)},
	{"STATE", "state", CELL_STRING, 0, EVENT(state)},
	{"MODE", "mode", CELL_STRING, 0, EVENT(mode)},
	{"LOSSY", "all_lossy", CELL_BOOL, 0, EVENT(e.all_lossy)},
	{"GEN", "generation", CELL_U32, 0, EVENT(e.generation)},
	{"OWNER", "owner_name", CELL_STRING, 0, EVENT(owner)},
	{"SLOT", "owner", CELL_U64, 0, EVENT(owner_slot)},
	{"OWNER-GEN", "owner_generation", CELL_U64, COLUMN_WIDE, EVENT(owner_generation)},
	{"EMITTERS", "emitters", CELL_U64, 0, EVENT(emitters)},
	{"RECEIVERS", "receivers", CELL_U64, 0, EVENT(receivers)},
	{"CHANGES", "changes", CELL_U64, COLUMN_WIDE, EVENT(e.changes)},
	{"MEMBERS", "members", CELL_MASK, 0, EVENT(e.members)},
	{"DELIVER", "deliver", CELL_MASK, 0, EVENT(e.deliver)},
	{"LOSSY-TO", "lossy", CELL_MASK, 0, EVENT(e.lossy)},
};

const struct column ring_columns[] = {
	{"FROM", "from", CELL_U32, COLUMN_JSON, RING(g.from)},
	{"TO", "to", CELL_U32, COLUMN_JSON, RING(g.to)},
	{"SENDER", "from_name", CELL_STRING, 0, RING(from)},
	{"RECEIVER", "to_name", CELL_STRING, 0, RING(to)},
	{"MSG/s", "messages_per_s", CELL_RATE, COLUMN_WATCH, RING(message_rate)},
	{"BYTES/s", "bytes_per_s", CELL_SIZE_RATE, COLUMN_WATCH, RING(byte_rate)},
	{"MESSAGES", "messages", CELL_U64, 0, RING(g.messages)},
	{"BYTES", "bytes", CELL_SIZE, 0, RING(g.bytes)},
	{"READ", "received", CELL_U64, 0, RING(g.received)},
	{"RBYTES", "received_bytes", CELL_SIZE, COLUMN_WIDE, RING(g.received_bytes)},
	{"UNREAD", "unread_records", CELL_U64, 0, RING(g.unread_records)},
	{"UBYTES", "unread_bytes", CELL_SIZE, 0, RING(g.unread_bytes)},
	{"FILL", "fill_percent", CELL_PERCENT, 0, RING(fill)},
	{"HIGH", "high_water_percent", CELL_PERCENT, 0, RING(high)},
	{"WAITS", "unread_ns", CELL_TIME, 0, RING(wait_ns)},
	{"DROPS", "drops", CELL_U64, 0, RING(g.drops)},
	{"TOLD", "drops_seen", CELL_U64, COLUMN_WIDE, RING(g.drops_seen)},
	{"DROPS/s", "drops_per_s", CELL_RATE, COLUMN_WATCH, RING(drop_rate)},
	{"STALE", "stale", CELL_U64, 0, RING(g.stale)},
	{"BAD", "bad", CELL_U64, 0, RING(g.bad)},
	{"FULL", "full", CELL_U64, 0, RING(g.full)},
	{"FULL/s", "full_per_s", CELL_RATE, COLUMN_WATCH, RING(full_rate)},
	{"FULL-FOR", "full_ns", CELL_TIME, 0, RING(full_ns)},
	{"WAKES", "wakes", CELL_U64, 0, RING(g.wakes)},
	{"WAKES/s", "wakes_per_s", CELL_RATE, COLUMN_WATCH | COLUMN_WIDE, RING(wake_rate)},
	{"ASKED", "asked", CELL_U64, COLUMN_WIDE, RING(g.asked)},
	{"ANSWERED", "answered", CELL_U64, COLUMN_WIDE, RING(g.answered)},
	{"LOST", "lost", CELL_U64, COLUMN_WIDE, RING(g.lost)},
	{"OFFSET", "offset", CELL_U64, COLUMN_WIDE, RING(g.offset)},
	{"CAPACITY", "capacity", CELL_SIZE, COLUMN_WIDE, RING(g.capacity)},
	{"HEAD", "head", CELL_U64, COLUMN_WIDE, RING(g.head)},
	{"TAIL", "tail", CELL_U64, COLUMN_WIDE, RING(g.tail)},
	{"HINT", "hint", CELL_U64, COLUMN_WIDE, RING(g.hint)},
	{"POSITION", "position", CELL_U64, COLUMN_JSON, RING(g.position)},
	{"START", "start", CELL_U64, COLUMN_JSON, RING(g.start)},
	{"", "high_water", CELL_U64, COLUMN_JSON, RING(g.high_water)},
	{"", "full_since_ns", CELL_U64, COLUMN_JSON, RING(g.full_since_ns)},
	{"DAMAGE", "damage", CELL_STRING, 0, RING(damage)},
};
const size_t ring_columns_n = COUNT_OF(ring_columns);

static const struct column pool_columns[] = {
	{"SLOT", "slot", CELL_U32, 0, POOL(p.slot)},
	{"OWNER", "owner", CELL_STRING, 0, POOL(owner)},
	{"EXTENT", "extent", CELL_U32, 0, POOL(p.index)},
	{"SERIAL", "serial", CELL_U32, COLUMN_WIDE, POOL(p.serial)},
	{"OFFSET", "offset", CELL_U64, COLUMN_WIDE, POOL(p.offset)},
	{"BYTES", "bytes", CELL_SIZE, 0, POOL(p.bytes)},
	{"CLASS", "class", CELL_U32, COLUMN_WIDE, POOL(p.class_number)},
	{"KIND", "kind", CELL_STRING, 0, POOL(kind)},
	{"", "big", CELL_BOOL, COLUMN_JSON, POOL(p.big)},
	{"CHUNK", "chunk_bytes", CELL_SIZE, 0, POOL(p.chunk_bytes)},
	{"CHUNKS", "chunks", CELL_U64, 0, POOL(p.chunks)},
	{"USED", "used", CELL_U64, 0, POOL(p.used)},
	{"QUEUED", "queued", CELL_U64, 0, POOL(p.queued)},
	{"QBYTES", "queued_bytes", CELL_SIZE, 0, POOL(p.queued_bytes)},
	{"BORROWED", "borrowed", CELL_U64, 0, POOL(p.borrowed)},
	{"BORROWERS", "borrowers", CELL_MASK, 0, POOL(p.borrowers)},
	{"DAMAGE", "damage", CELL_STRING, 0, POOL(damage)},
};

static const struct column hold_columns[] = {
	{"SLOT", "owner", CELL_U32, 0, HOLD(h.owner)},
	{"OWNER", "owner_name", CELL_STRING, 0, HOLD(owner)},
	{"HELD-BY", "holder", CELL_U32, 0, HOLD(h.holder)},
	{"HOLDER", "holder_name", CELL_STRING, 0, HOLD(holder)},
	{"QUEUED", "queued", CELL_U64, 0, HOLD(h.queued)},
	{"QBYTES", "queued_bytes", CELL_SIZE, 0, HOLD(h.queued_bytes)},
	{"BORROWED", "borrowed", CELL_U64, 0, HOLD(h.borrowed)},
	{"BBYTES", "borrowed_bytes", CELL_SIZE, 0, HOLD(h.borrowed_bytes)},
	{"WAITS", "unread_ns", CELL_TIME, 0, HOLD(wait_ns)},
};

const struct column latency_columns[] = {
	{"FROM", "from", CELL_U32, COLUMN_JSON, RING(g.from)},
	{"TO", "to", CELL_U32, COLUMN_JSON, RING(g.to)},
	{"SENDER", "from_name", CELL_STRING, 0, RING(from)},
	{"RECEIVER", "to_name", CELL_STRING, 0, RING(to)},
	{"SAMPLES", "samples", CELL_U64, 0, RING(samples)},
	{"QUEUE-50", "queue_p50_ns", CELL_TIME, 0, RING(queue[0])},
	{"QUEUE-90", "queue_p90_ns", CELL_TIME, 0, RING(queue[1])},
	{"QUEUE-99", "queue_p99_ns", CELL_TIME, 0, RING(queue[2])},
	{"QUEUE-99.9", "queue_p999_ns", CELL_TIME, COLUMN_WIDE, RING(queue[3])},
	{"WAKE-50", "wake_p50_ns", CELL_TIME, 0, RING(wake[0])},
	{"WAKE-90", "wake_p90_ns", CELL_TIME, 0, RING(wake[1])},
	{"WAKE-99", "wake_p99_ns", CELL_TIME, 0, RING(wake[2])},
	{"WAKE-99.9", "wake_p999_ns", CELL_TIME, COLUMN_WIDE, RING(wake[3])},
	{"HANDLER-50", "handler_p50_ns", CELL_TIME, 0, RING(handler[0])},
	{"HANDLER-90", "handler_p90_ns", CELL_TIME, 0, RING(handler[1])},
	{"HANDLER-99", "handler_p99_ns", CELL_TIME, 0, RING(handler[2])},
	{"HANDLER-99.9", "handler_p999_ns", CELL_TIME, COLUMN_WIDE, RING(handler[3])},
};
const size_t latency_columns_n = COUNT_OF(latency_columns);

/* Takes a sample and shows it; with --watch it is kept for the rates of the next one. */
static int look(struct view *view, unsigned parts, int (*show)(struct view *, struct sample *))
{
	struct sample *sample;
	int status = CLI_OK;
	int r = sample_take(view->inspect, parts, view->previous, &sample);
	if (sample)
		status = show(view, sample);
	sample_free(view->previous);
	view->previous = sample;
	if (r == -ENOMEM)
		cli_note("not enough memory to show all of it");
	r = view_end(view, r);
	return status ? status : r;
}

static int show_nodes(struct view *view, struct sample *s)
{
	return rows_show(view, "nodes", node_columns, node_columns_n, s->nodes, sizeof *s->nodes,
			 s->node_count);
}

int verb_nodes(struct view *view)
{
	return look(view, SAMPLE_RINGS, show_nodes);
}

static int show_events(struct view *view, struct sample *s)
{
	return rows_show(view, "events", event_columns, COUNT_OF(event_columns), s->events,
			 sizeof *s->events, s->event_count);
}

int verb_events(struct view *view)
{
	return look(view, SAMPLE_EVENTS, show_events);
}

static int show_rings(struct view *view, struct sample *s)
{
	return rows_show(view, "rings", ring_columns, ring_columns_n, s->rings, sizeof *s->rings,
			 s->ring_count);
}

int verb_rings(struct view *view)
{
	return look(view, SAMPLE_RINGS, show_rings);
}

/* Who holds what comes below, as a table of its own, which neither order nor filter touches. */
static int show_pools(struct view *view, struct sample *s)
{
	int status = rows_show(view, "pools", pool_columns, COUNT_OF(pool_columns), s->pools,
			       sizeof *s->pools, s->pool_count);
	struct view plain = *view;
	if (status != CLI_OK || (!view->json && s->hold_count == 0))
		return status;
	plain.sort = plain.filter = NULL;
	if (!view->json)
		putchar('\n');
	status = rows_show(&plain, "holds", hold_columns, COUNT_OF(hold_columns), s->holds,
			   sizeof *s->holds, s->hold_count);
	view->out = plain.out;
	return status;
}

int verb_pools(struct view *view)
{
	return look(view, SAMPLE_RINGS | SAMPLE_POOLS, show_pools);
}

static int show_latency(struct view *view, struct sample *s)
{
	uint64_t samples = 0;
	for (size_t i = 0; i < s->ring_count; i++)
		samples += s->rings[i].samples;
	if (samples == 0 && !view->watch)
		cli_note("no link has timed a message yet; one in 256 is timed");
	return rows_show(view, "links", latency_columns, latency_columns_n, s->rings,
			 sizeof *s->rings, s->ring_count);
}

int verb_latency(struct view *view)
{
	return look(view, SAMPLE_LATENCY, show_latency);
}

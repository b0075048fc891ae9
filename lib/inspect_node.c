/* inspect_node.c: decodes slots and the event table. Level 5, stands on 0 to 2. */
#include "inspect.h"

#include "error.h"

/* ---- nodes ---- */

const char *ringbus_inspect_slot_state(uint32_t state)
{
	static const char *const names[] = {"free",    "granted", "joining", "live",
					    "leaving", "left",	  "dead"};

	return state < rb_array_size(names) ? names[state] : "invalid";
}

static void node_counters(const struct layout_node *page, struct ringbus_inspect_node *out)
{
	out->dispatches = inspect_word(&page->dispatches);
	out->received = inspect_word(&page->received);
	out->received_bytes = inspect_word(&page->received_bytes);
	out->dropped_unsubscribed = inspect_word(&page->dropped_unsubscribed);
	out->sleeps = inspect_word(&page->sleeps);
	out->safety_wakes = inspect_word(&page->safety_wakes);
	out->dropped_lossy = inspect_word(&page->dropped_lossy);
	out->dropped_gone = inspect_word(&page->dropped_gone);
	out->full = inspect_word(&page->full);
	out->wakes = inspect_word(&page->wakes);
	out->corrupt = inspect_word(&page->corrupt);
	out->dead_peers = inspect_word(&page->dead_peers);
}

/* What a node sent is counted in its rings, beside the generation of who counted. */
static void ring_counters(const struct ringbus_inspect *in, uint64_t offset,
			  struct ringbus_inspect_node *out)
{
	struct layout_ring_tx tx;

	if (offset == 0)
		return;
	out->rings++;
	if (!inspect_extent_ok(in, offset, layout_ring_extent_bytes(&in->g), NULL))
		return;
	inspect_read(in, offset, &tx, offsetof(struct layout_ring_tx, spare2));
	if (inspect_word(&tx.owner) != out->generation)
		return;
	out->sent += inspect_word(&tx.messages);
	out->sent_bytes += inspect_word(&tx.bytes);
}

static void node_page(const struct ringbus_inspect *in, struct ringbus_inspect_node *out)
{
	struct layout_node page;
	uint64_t handler;

	inspect_read_node(in, out->slot, &page);
	out->mode = inspect_word(&page.mode);
	out->unfenced = out->mode & NODE_MODE_UNFENCED;
	out->no_membarrier = out->mode & NODE_MODE_NO_MEMBARRIER;
	handler = inspect_word(&page.in_handler);
	out->in_handler = handler != 0;
	out->in_contact = handler == 0xffffffff;
	if (out->in_handler && !out->in_contact)
		out->handler_event = (uint32_t)(handler - 1);
	out->handler_since_ns = inspect_word(&page.handler_since_ns);
	for (uint32_t to = 0; to < in->g.nodes; to++)
		ring_counters(in, inspect_word(&page.ring[to]), out);
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		out->pools += (inspect_word(&page.pool[i].where) & 0xfff) != 0;
	node_counters(&page, out);
}

/* A name without its length: freeing clears that, and leaves the bytes up to the final 0. */
static void former_name(const struct shm_word *name, char out[LAYOUT_NAME_BYTES])
{
	layout_name_load(name, LAYOUT_NAME_BYTES - 1, out);
}

static void node_record(const struct layout_record *record, struct ringbus_inspect_node *out)
{
	uint64_t ended = inspect_word(&record->ended);

	out->granted_ns = inspect_word(&record->granted_ns);
	out->start_time = inspect_word(&record->start_time);
	out->ended_generation = (uint32_t)(ended >> 32);
	if (ended >> 32)
		out->ended_state =
			slot_ended_left(ended, (uint32_t)(ended >> 32)) ? SLOT_LEFT : SLOT_DEAD;
	if (out->state == SLOT_FREE) {
		out->former_pid = (uint32_t)inspect_word(&record->pid);
		former_name(record->name, out->name);
	} else {
		layout_name_load(record->name, inspect_word(&record->name_bytes), out->name);
	}
}

static void node_decode(const struct ringbus_inspect *in, uint32_t slot, uint64_t word,
			struct ringbus_inspect_node *out)
{
	struct layout_bell bell;
	struct layout_record record;
	uint64_t signal;

	memset(out, 0, sizeof(*out));
	inspect_read_bell(in, slot, &bell);
	inspect_read_record(in, slot, &record);
	out->slot = slot;
	out->state = (uint32_t)(word & 0xff);
	out->generation = slot_generation(word);
	out->pid = slot_pid(word);
	out->uid = (uint32_t)inspect_word(&record.uid);
	out->process =
		inspect_this_boot(in) ? inspect_process(&record, word) : RINGBUS_INSPECT_UNKNOWN;
	node_record(&record, out);
	out->inbox = inspect_word(&bell.inbox);
	out->room = inspect_word(&bell.room);
	out->inbox_asleep = out->inbox & INSPECT_BELL_ASLEEP;
	out->room_asleep = out->room & INSPECT_BELL_ASLEEP;
	signal = inspect_word(&bell.signal);
	out->signals = (uint32_t)signal;
	out->signal_generation = (uint32_t)(signal >> 32);
	inspect_mask(out->paired, bell.paired);
	node_page(in, out);
}

int ringbus_inspect_node_next(struct ringbus_inspect *in, uint32_t *cursor,
			      struct ringbus_inspect_node *out)
{
	int r = inspect_begin(in, *cursor);

	if (r < 0)
		return r;
	while (*cursor < in->g.nodes) {
		uint32_t slot = (*cursor)++;
		uint64_t word = inspect_slot_word(in, slot);

		if ((word & 0xff) == SLOT_FREE)
			continue;
		node_decode(in, slot, word, out);
		return 1;
	}
	return 0;
}

int ringbus_inspect_slot(struct ringbus_inspect *in, uint32_t slot,
			 struct ringbus_inspect_node *out)
{
	int r = inspect_usable(in);

	if (r < 0)
		return r;
	if (slot >= in->g.nodes)
		return rb_fail(-EINVAL, "there is no slot %u; the bus has %u", slot, in->g.nodes);
	node_decode(in, slot, inspect_slot_word(in, slot), out);
	return 0;
}

/* ---- events ---- */

const char *ringbus_inspect_event_state(uint32_t state)
{
	static const char *const names[] = {"free", "pending", "live", "orphan"};

	return state < rb_array_size(names) ? names[state] : "invalid";
}

static void event_decode(uint32_t index, uint64_t word, const struct layout_event *e,
			 struct ringbus_inspect_event *out)
{
	memset(out, 0, sizeof(*out));
	out->index = index;
	out->state = (uint32_t)(word & 0xff);
	out->generation = event_generation(word);
	out->mode = event_mode(word);
	out->owner = event_owner(word);
	out->has_owner = out->state == EVENT_LIVE && out->owner != LAYOUT_NO_SLOT;
	out->owner_generation = (uint32_t)inspect_word(&e->owner_generation);
	out->all_lossy = inspect_word(&e->flags) & EVENT_FLAG_LOSSY;
	out->changes = inspect_word(&e->changes);
	if (out->state == EVENT_FREE)
		former_name(e->name, out->name);
	else
		layout_name_load(e->name, inspect_word(&e->name_bytes), out->name);
	inspect_mask(out->members, e->members);
	inspect_mask(out->deliver, e->deliver);
	inspect_mask(out->lossy, e->lossy);
}

static void event_read(const struct ringbus_inspect *in, uint32_t index, struct layout_event *e)
{
	inspect_read(in, in->g.control_offset + in->g.events_offset + (uint64_t)index * sizeof(*e),
		     e, sizeof(*e));
}

int ringbus_inspect_event_entry(struct ringbus_inspect *in, uint32_t index,
				struct ringbus_inspect_event *out)
{
	struct layout_event e;
	int r = inspect_usable(in);

	if (r < 0)
		return r;
	if (index >= in->g.events)
		return rb_fail(-EINVAL, "there is no event entry %u; the bus has %u", index,
			       in->g.events);
	event_read(in, index, &e);
	event_decode(index, inspect_word(&e.word), &e, out);
	return 0;
}

int ringbus_inspect_event_next(struct ringbus_inspect *in, uint32_t *cursor,
			       struct ringbus_inspect_event *out)
{
	struct layout_event e;
	int r = inspect_begin(in, *cursor);

	if (r < 0)
		return r;
	while (*cursor < in->g.events) {
		uint32_t index = (*cursor)++;
		uint64_t word;

		event_read(in, index, &e);
		word = inspect_word(&e.word);
		if ((word & 0xff) == EVENT_FREE)
			continue;
		event_decode(index, word, &e, out);
		return 1;
	}
	return 0;
}

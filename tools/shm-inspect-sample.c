/* shm-inspect-sample.c: all of a bus at one time, with rates since the sample before. */
#include "shm-inspect.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

bool region_is_cut(const struct ringbus_inspect_header *header)
{
	return header->valid && header->file_bytes < header->fixed_bytes;
}

/* What has neither the mark of a region nor sizes that one can have. */
bool region_is_none(const struct ringbus_inspect_header *header)
{
	return !header->usable && strstr(header->why, "not a ringbus region");
}

const char *bus_state(const struct ringbus_inspect_header *header)
{
	if (!header->valid || region_is_cut(header))
		return "damaged";
	if (header->live)
		return header->closing ? "ending" : "live";
	return header->this_boot ? "dead" : "other boot";
}

uint64_t sample_since(const struct sample *sample, uint64_t moment_ns)
{
	if (moment_ns == 0 || !sample->header.this_boot || moment_ns > sample->now_ns)
		return NEVER;
	return sample->now_ns - moment_ns;
}

const struct node_row *sample_node(const struct sample *sample, uint32_t slot)
{
	for (size_t i = 0; i < sample->node_count; i++)
		if (sample->nodes[i].n.slot == slot)
			return &sample->nodes[i];
	return NULL;
}

const struct ring_row *sample_ring(const struct sample *sample, uint32_t from, uint32_t to)
{
	for (size_t i = 0; i < sample->ring_count; i++)
		if (sample->rings[i].g.from == from && sample->rings[i].g.to == to)
			return &sample->rings[i];
	return NULL;
}

/* One more zeroed entry at the end of an array; NULL: no memory. */
static void *append(void **list, size_t *count, size_t bytes)
{
	size_t n = *count;
	if ((n & (n - 1)) == 0) {
		void *more = realloc(*list, (n ? 2 * n : 1) * bytes);
		if (!more)
			return NULL;
		*list = more;
	}
	++*count;
	return memset((char *)*list + n * bytes, 0, bytes);
}

#define APPEND(list, count) append((void **)&(list), &(count), sizeof *(list))

static const char *label(const struct sample *sample, uint32_t slot)
{
	return sample->label[slot < SLOTS ? slot : SLOTS];
}

/* ---- nodes ---- */

static void node_texts(struct node_row *row)
{
	const struct ringbus_inspect_node *n = &row->n;
	row->state = ringbus_inspect_slot_state(n->state);
	row->process = n->process == RINGBUS_INSPECT_RUNNING ? "running"
		       : n->process == RINGBUS_INSPECT_GONE  ? "gone"
							     : "unknown";
	if (n->name[0])
		snprintf(row->label, sizeof row->label, "%s", n->name);
	else if (n->pid)
		snprintf(row->label, sizeof row->label, "pid %u", n->pid);
	else
		snprintf(row->label, sizeof row->label, "slot %u", n->slot);
	snprintf(row->modes, sizeof row->modes, "%s%s%s", n->inbox_asleep ? "asleep" : "awake",
		 n->unfenced ? ",unfenced" : "", n->no_membarrier ? ",no-membarrier" : "");
}

static void node_handler(struct ringbus_inspect *inspect, const struct sample *sample,
			 struct node_row *row)
{
	struct ringbus_inspect_event event;
	row->handler_ns = NEVER;
	if (!row->n.in_handler)
		return;
	row->handler_ns = sample_since(sample, row->n.handler_since_ns);
	if (row->n.in_contact)
		snprintf(row->handler, sizeof row->handler, "contact");
	else if (ringbus_inspect_event_entry(inspect, row->n.handler_event, &event) == 0 &&
		 event.name[0])
		snprintf(row->handler, sizeof row->handler, "event %s", event.name);
	else
		snprintf(row->handler, sizeof row->handler, "event %u", row->n.handler_event);
}

static double rate(uint64_t now, uint64_t before, double seconds)
{
	return now < before ? NAN : (double)(now - before) / seconds;
}

static void node_rates(struct sample *sample, const struct sample *before, struct node_row *row)
{
	const struct node_row *old = before ? sample_node(before, row->n.slot) : NULL;
	double s = before ? (double)(sample->now_ns - before->now_ns) / 1e9 : 0;
	row->sent_rate = row->received_rate = row->sent_bytes_rate = row->received_bytes_rate =
		row->drop_rate = row->wake_rate = row->turn_rate = NAN;
	if (!old || old->n.generation != row->n.generation || s <= 0)
		return;
	row->sent_rate = rate(row->n.sent, old->n.sent, s);
	row->received_rate = rate(row->n.received, old->n.received, s);
	row->sent_bytes_rate = rate(row->n.sent_bytes, old->n.sent_bytes, s);
	row->received_bytes_rate = rate(row->n.received_bytes, old->n.received_bytes, s);
	row->drop_rate = rate(row->dropped, old->dropped, s);
	row->wake_rate = rate(row->n.wakes, old->n.wakes, s);
	row->turn_rate = rate(row->n.dispatches, old->n.dispatches, s);
}

static int take_nodes(struct ringbus_inspect *inspect, struct sample *sample,
		      const struct sample *before)
{
	struct ringbus_inspect_node node;
	uint32_t cursor = 0;
	int r;
	while ((r = ringbus_inspect_node_next(inspect, &cursor, &node)) > 0) {
		struct node_row *row = APPEND(sample->nodes, sample->node_count);
		if (!row)
			return -ENOMEM;
		row->n = node;
		node_texts(row);
		if (node.slot < SLOTS)
			memcpy(sample->label[node.slot], row->label, LABEL_BYTES);
		row->age_ns = sample_since(sample, node.granted_ns);
		row->dropped = node.dropped_lossy + node.dropped_gone + node.dropped_unsubscribed;
		node_handler(inspect, sample, row);
		node_rates(sample, before, row);
	}
	return r;
}

/* ---- rings ---- */

static void ring_rates(struct sample *sample, const struct sample *before, struct ring_row *row)
{
	const struct ring_row *old = before ? sample_ring(before, row->g.from, row->g.to) : NULL;
	double s = before ? (double)(sample->now_ns - before->now_ns) / 1e9 : 0;
	row->message_rate = row->byte_rate = row->drop_rate = row->full_rate = row->wake_rate = NAN;
	if (!old || s <= 0)
		return;
	row->message_rate = rate(row->g.messages, old->g.messages, s);
	row->byte_rate = rate(row->g.bytes, old->g.bytes, s);
	row->drop_rate = rate(row->g.drops, old->g.drops, s);
	row->full_rate = rate(row->g.full, old->g.full, s);
	row->wake_rate = rate(row->g.wakes, old->g.wakes, s);
}

static void ring_add_to_node(struct sample *sample, const struct ring_row *row)
{
	const struct node_row *found = sample_node(sample, row->g.to);
	struct node_row *to;
	if (!found)
		return;
	to = &sample->nodes[found - sample->nodes];
	to->unread += row->g.unread_records;
	to->unread_bytes += row->g.unread_bytes;
	if (row->fill > to->fill)
		to->fill = row->fill;
}

static void quantiles(const uint64_t *buckets, uint64_t out[4])
{
	static const double parts[] = {0.5, 0.9, 0.99, 0.999};
	for (unsigned i = 0; i < 4; i++)
		out[i] = ringbus_inspect_count(buckets)
				 ? ringbus_inspect_quantile(buckets, parts[i])
				 : NEVER;
}

static void subtract(uint64_t *now, const uint64_t *before)
{
	for (unsigned i = 0; i < RINGBUS_INSPECT_BUCKETS; i++)
		now[i] -= before[i] <= now[i] ? before[i] : 0;
}

/* Since the sample before, if there is one. */
static void take_latency(struct ringbus_inspect *inspect, struct ring_row *row,
			 const struct sample *before)
{
	const struct ring_row *old = before ? sample_ring(before, row->g.from, row->g.to) : NULL;
	struct ringbus_inspect_latency part;
	row->latency = calloc(1, sizeof *row->latency);
	if (!row->latency ||
	    ringbus_inspect_latency(inspect, row->g.from, row->g.to, row->latency) < 0)
		return;
	part = *row->latency;
	if (old && old->latency) {
		subtract(part.queue, old->latency->queue);
		subtract(part.wake, old->latency->wake);
		subtract(part.handler, old->latency->handler);
	}
	row->samples = ringbus_inspect_count(part.queue);
	quantiles(part.queue, row->queue);
	quantiles(part.wake, row->wake);
	quantiles(part.handler, row->handler);
}

static int take_rings(struct ringbus_inspect *inspect, unsigned parts, struct sample *sample,
		      const struct sample *before)
{
	struct ringbus_inspect_ring ring;
	uint32_t cursor = 0;
	int r;
	while ((r = ringbus_inspect_ring_next(inspect, &cursor, &ring)) > 0) {
		struct ring_row *row = APPEND(sample->rings, sample->ring_count);
		if (!row)
			return -ENOMEM;
		row->g = ring;
		row->from = label(sample, ring.from);
		row->to = label(sample, ring.to);
		row->damage = ring.damage[0] ? "" : NULL;
		row->fill = 100.0 * (double)ring.unread_bytes / (double)ring.capacity;
		row->high = fmin(999, 100.0 * (double)ring.high_water / (double)ring.capacity);
		row->full_ns = sample_since(sample, ring.full_since_ns);
		row->wait_ns = sample_since(sample, ring.unread_stamp_ns);
		ring_rates(sample, before, row);
		ring_add_to_node(sample, row);
		if (parts & SAMPLE_LATENCY)
			take_latency(inspect, row, before);
	}
	/* The list does not move any more. */
	for (size_t i = 0; i < sample->ring_count; i++)
		if (sample->rings[i].damage)
			sample->rings[i].damage = sample->rings[i].g.damage;
	return r;
}

/* ---- events ---- */

static uint64_t mask_count(const uint64_t *mask)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < RINGBUS_INSPECT_MASK_WORDS; i++)
		n += (unsigned)__builtin_popcountll(mask[i]);
	return n;
}

static int take_events(struct ringbus_inspect *inspect, struct sample *sample)
{
	struct ringbus_inspect_event event;
	uint32_t cursor = 0;
	int r;
	while ((r = ringbus_inspect_event_next(inspect, &cursor, &event)) > 0) {
		struct event_row *row = APPEND(sample->events, sample->event_count);
		if (!row)
			return -ENOMEM;
		row->e = event;
		row->state = ringbus_inspect_event_state(event.state);
		row->mode = event.mode == RINGBUS_SINGLE_EMISSION  ? "single"
			    : event.mode == RINGBUS_MULTI_EMISSION ? "multi"
								   : "invalid";
		row->owner_slot = row->owner_generation = NEVER;
		if (event.has_owner) {
			row->owner_slot = event.owner;
			row->owner_generation = event.owner_generation;
			row->owner = label(sample, event.owner);
		}
		row->receivers = mask_count(event.deliver);
		row->emitters = event.mode == RINGBUS_SINGLE_EMISSION ? event.has_owner
								      : mask_count(event.members);
	}
	return r;
}

/* ---- pools ---- */

static int take_holds(struct ringbus_inspect *inspect, struct sample *sample, uint32_t owner)
{
	struct ringbus_inspect_hold holds[SLOTS];
	int n = ringbus_inspect_holds(inspect, owner, holds, SLOTS);
	for (int i = 0; i < n; i++) {
		struct hold_row *row = APPEND(sample->holds, sample->hold_count);
		const struct ring_row *ring;
		if (!row)
			return -ENOMEM;
		row->h = holds[i];
		row->owner = label(sample, owner);
		row->holder = label(sample, holds[i].holder);
		ring = sample_ring(sample, owner, holds[i].holder);
		row->wait_ns = ring ? ring->wait_ns : NEVER;
	}
	return n < 0 ? n : 0;
}

static int take_pools(struct ringbus_inspect *inspect, struct sample *sample)
{
	struct ringbus_inspect_pool pool;
	uint32_t cursor = 0;
	uint64_t owners[RINGBUS_INSPECT_MASK_WORDS] = {0};
	int r;
	while ((r = ringbus_inspect_pool_next(inspect, &cursor, &pool)) > 0) {
		struct pool_row *row = APPEND(sample->pools, sample->pool_count);
		if (!row)
			return -ENOMEM;
		row->p = pool;
		row->owner = label(sample, pool.slot);
		row->kind = pool.big ? "big" : "slab";
		owners[pool.slot / 64 % RINGBUS_INSPECT_MASK_WORDS] |= UINT64_C(1)
								       << pool.slot % 64;
	}
	for (size_t i = 0; i < sample->pool_count; i++)
		if (sample->pools[i].p.damage[0])
			sample->pools[i].damage = sample->pools[i].p.damage;
	for (uint32_t slot = 0; slot < SLOTS && r == 0; slot++)
		if (owners[slot / 64] >> slot % 64 & 1)
			r = take_holds(inspect, sample, slot);
	return r;
}

/* ---- whole ---- */

int sample_take(struct ringbus_inspect *inspect, unsigned parts, const struct sample *before,
		struct sample **out)
{
	struct sample *sample = calloc(1, sizeof *sample);
	int r;
	*out = NULL;
	if (!sample)
		return -ENOMEM;
	for (unsigned i = 0; i < SLOTS; i++)
		snprintf(sample->label[i], LABEL_BYTES, "slot %u", i);
	snprintf(sample->label[SLOTS], LABEL_BYTES, "no slot");
	sample->now_ns = cli_now_ns();
	r = ringbus_inspect_header(inspect, &sample->header);
	if (r == 0)
		r = take_nodes(inspect, sample, before);
	if (r == 0 && parts & (SAMPLE_RINGS | SAMPLE_LATENCY))
		r = take_rings(inspect, parts, sample, before);
	if (r == 0 && parts & SAMPLE_EVENTS)
		r = take_events(inspect, sample);
	if (r == 0 && parts & SAMPLE_POOLS)
		r = take_pools(inspect, sample);
	*out = sample;
	return r;
}

void sample_free(struct sample *sample)
{
	if (!sample)
		return;
	for (size_t i = 0; i < sample->ring_count; i++)
		free(sample->rings[i].latency);
	free(sample->nodes);
	free(sample->rings);
	free(sample->events);
	free(sample->pools);
	free(sample->holds);
	free(sample);
}

/* ---- who ---- */

void who_parse(struct who *who, const char *text)
{
	uint32_t slot, generation;
	uint64_t number;
	*who = (struct who){.text = text,
			    .name = text,
			    .pid = NEVER,
			    .slot = NEVER,
			    .generation = NEVER};
	if (cli_parse_slot(text, &slot, &generation)) {
		who->slot = slot;
		who->generation = generation;
	} else if (cli_parse_u64(text, 0, UINT32_MAX, &number)) {
		who->pid = number;
		who->slot = number;
	}
}

void who_settle(struct who *who, const struct sample *sample)
{
	for (size_t i = 0; i < sample->node_count && who->generation == NEVER; i++)
		if (who->pid != NEVER && sample->nodes[i].n.pid == who->pid)
			who->slot = NEVER;
}

bool who_is(const struct who *who, uint32_t slot, uint32_t generation, uint32_t pid,
	    const char *name)
{
	if (name && strcmp(who->name, name) == 0)
		return true;
	if (who->generation != NEVER)
		return who->slot == slot && who->generation == generation;
	return (who->pid != NEVER && pid != 0 && who->pid == pid) ||
	       (who->slot != NEVER && who->slot == slot);
}

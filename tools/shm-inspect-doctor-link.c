/* shm-inspect-doctor-link.c: what lies between two nodes: ring, receiver, pool, losses. */
#include "shm-inspect-doctor.h"

#include <inttypes.h>
#include <string.h>

/* ---- rings ---- */

static const struct event_row *event_of(const struct doctor *d)
{
	for (size_t i = 0; d->event && i < d->second->event_count; i++)
		if (strcmp(d->second->events[i].e.name, d->event) == 0)
			return &d->second->events[i];
	return NULL;
}

static bool is_lossy(const struct event_row *event, uint32_t slot)
{
	return event && (event->e.all_lossy || (event->e.lossy[slot / 64] >> slot % 64 & 1));
}

/* A message like the last one would find no room. */
static bool is_full(const struct doctor *d, const struct ring_row *row)
{
	const struct ringbus_inspect_ring *g = &row->g;
	const struct ring_row *old = sample_ring(d->first, g->from, g->to);
	uint64_t need = g->last_bytes ? g->last_bytes : 64;
	uint64_t left = g->capacity - (g->tail & (g->capacity - 1));
	uint64_t room = g->unread_bytes + 8 < g->capacity ? g->capacity - 8 - g->unread_bytes : 0;
	if (g->unread_records == 0)
		return false;
	return (old && g->full > old->g.full) || g->full_since_ns != 0 ||
	       room < need + (need > left ? left : 0) || (g->full > 0 && row->fill >= 50);
}

/* Nothing was read from the ring between the two samples. */
static bool is_unread(const struct doctor *d, const struct ring_row *row)
{
	const struct ring_row *old = sample_ring(d->first, row->g.from, row->g.to);
	return row->g.unread_records > 0 && old && old->g.head == row->g.head &&
	       old->g.received == row->g.received && old->g.unread_records > 0;
}

static void ring_evidence(struct doctor *d, const struct ring_row *row)
{
	char text[64], size[32];
	doctor_evidence(d,
			"%s to %s: %" PRIu64 " messages sent, %" PRIu64 " unread (%s, %.0f%% of "
			"the ring)",
			row->from, row->to, row->g.messages, row->g.unread_records,
			cli_format_size(size, sizeof size, row->g.unread_bytes), row->fill);
	if (row->full_ns != NEVER) {
		format_time(row->full_ns, text, sizeof text);
		doctor_evidence(d, "there has been no room for %s", text);
	}
	if (row->wait_ns != NEVER) {
		format_time(row->wait_ns, text, sizeof text);
		doctor_evidence(d, "the oldest stamped unread message waits for %s", text);
	}
	if (row->g.full)
		doctor_evidence(d, "%" PRIu64 " sends found no room so far", row->g.full);
}

static void damaged_ring(struct doctor *d, const struct ring_row *row)
{
	const struct ringbus_inspect_ring *g = &row->g;
	if (row->damage) {
		doctor_evidence(d, "%s", row->damage);
		doctor_verdict(d, "damaged", "the ring from %s to %s holds invalid data", row->from,
			       row->to);
		doctor_advice(d, "it starts anew when %s reads; shm-inspect check says more",
			      row->to);
	} else if (g->asked != g->answered && g->asked - g->answered < 1000) {
		doctor_evidence(d, "%s found invalid data and asked %s to start the ring anew",
				row->to, row->from);
		doctor_verdict(d, "resync", "the ring from %s to %s starts anew with the next send",
			       row->from, row->to);
		doctor_advice(d, "let %s send something", row->from);
	}
}

/* Why unread messages are not read. */
static void not_read(struct doctor *d, const struct ring_row *row, const struct node_row *to)
{
	char text[64];
	const struct node_row *old = sample_node(d->first, to->n.slot);
	if (!is_unread(d, row))
		return;
	if (to->n.in_handler && old && old->n.in_handler && old->n.received == to->n.received) {
		if (to->handler_ns != NEVER)
			format_time(to->handler_ns, text, sizeof text);
		else
			format_time(d->second->now_ns - d->first->now_ns, text, sizeof text);
		ring_evidence(d, row);
		doctor_verdict(d, "handler", "%s has been in its handler of %s for %s%s", to->label,
			       to->handler, to->handler_ns != NEVER ? "" : "at least ", text);
		doctor_advice(d, "handlers run one at a time: let long work go to another thread");
	} else if (to->n.inbox_asleep && old && old->n.inbox_asleep &&
		   old->n.inbox == to->n.inbox && !(to->n.inbox & 2)) {
		ring_evidence(d, row);
		doctor_activity(d, to);
		doctor_verdict(d, "not-woken", "%s sleeps although messages of %s wait for it",
			       row->to, row->from);
		doctor_advice(d, "any message or signal to it will wake it; please report this");
	} else if (doctor_stands_still(d, to)) {
		ring_evidence(d, row);
		doctor_activity(d, to);
		doctor_verdict(d, "not-receiving",
			       "%s does not receive: it has no listening thread, "
			       "or does not poll",
			       to->label);
		doctor_advice(d, "let it call ringbus_listen(), ringbus_poll() or ringbus_next()");
	}
}

/* One ring by itself. */
static void judge_ring(struct doctor *d, const struct ring_row *row, bool lossy)
{
	const struct node_row *to = sample_node(d->second, row->g.to);
	if (!to)
		return;
	damaged_ring(d, row);
	if (d->code)
		return;
	if (is_full(d, row) && !lossy) {
		ring_evidence(d, row);
		doctor_activity(d, to);
		doctor_verdict(d, "ring-full",
			       "the ring from %s to %s is full: %s does not read fast "
			       "enough",
			       row->from, row->to, row->to);
		doctor_advice(d,
			      "let %s read, or subscribe as lossy; larger rings: ringbusd "
			      "--ring-bytes",
			      row->to);
	}
}

/* An emission goes to all subscribers or to nobody. */
static void held_back(struct doctor *d, const struct event_row *event)
{
	uint32_t a = d->a.row->n.slot;
	for (uint32_t slot = 0; slot < SLOTS; slot++) {
		const struct node_row *holder = sample_node(d->second, slot);
		const struct ring_row *row = sample_ring(d->second, a, slot);
		if (d->code || slot == d->b.row->n.slot || !row || !holder ||
		    !(event->e.deliver[slot / 64] >> slot % 64 & 1) || is_lossy(event, slot) ||
		    !is_full(d, row))
			continue;
		ring_evidence(d, row);
		doctor_activity(d, holder);
		doctor_verdict(d, "held-back",
			       "emissions of %s are held back by %s, another subscriber, whose "
			       "ring "
			       "is full",
			       d->event, holder->label);
		doctor_advice(d,
			      "let %s read, or subscribe as lossy: an emission reaches all or "
			      "nobody",
			      holder->label);
	}
}

/* ---- pools ---- */

static uint64_t hold_bytes(const struct ringbus_inspect_hold *h)
{
	return h->queued_bytes + h->borrowed_bytes;
}

static void blame_holder(struct doctor *d, const struct hold_row *most, unsigned holders)
{
	const struct node_row *holder = sample_node(d->second, most->h.holder);
	char size[32], limit[32];
	for (size_t i = 0; i < d->second->hold_count; i++) {
		const struct hold_row *row = &d->second->holds[i];
		if (row->h.owner == most->h.owner)
			doctor_evidence(d,
					"%s holds %s of %s: %" PRIu64 " chunks unread, %" PRIu64
					" borrowed",
					row->holder,
					cli_format_size(size, sizeof size, hold_bytes(&row->h)),
					row->owner, row->h.queued, row->h.borrowed);
	}
	doctor_evidence(d, "the limit is %s for %s, and a share of it for each of %u holders",
			cli_format_size(limit, sizeof limit, d->header.pool_bytes), most->owner,
			holders);
	if (holder)
		doctor_activity(d, holder);
	doctor_verdict(d, "pool-exhausted", "payload memory of %s is used up: %s holds the most",
		       most->owner, most->holder);
	doctor_advice(d,
		      "let %s read and release what it borrowed; more memory: ringbusd "
		      "--pool-bytes",
		      most->holder);
}

/* As the sender judges it: a share for each holder and one to spare. */
static void judge_pool(struct doctor *d, const struct node_row *from)
{
	const struct hold_row *most = NULL;
	uint64_t total = 0, chunk = 1024;
	unsigned holders = 0;
	if (from->n.full == 0)
		return;
	for (size_t i = 0; i < d->second->hold_count; i++) {
		const struct hold_row *row = &d->second->holds[i];
		uint64_t n = row->h.queued + row->h.borrowed;
		if (row->h.owner != from->n.slot)
			continue;
		holders++;
		total += hold_bytes(&row->h);
		if (n && hold_bytes(&row->h) / n > chunk)
			chunk = hold_bytes(&row->h) / n;
		if (!most || hold_bytes(&row->h) > hold_bytes(&most->h))
			most = row;
	}
	if (most && (total + chunk > d->header.pool_bytes ||
		     hold_bytes(&most->h) + chunk > d->header.pool_bytes / (holders + 1)))
		blame_holder(d, most, holders);
}

/* ---- losses ---- */

static void judge_losses(struct doctor *d, const struct ring_row *row)
{
	if (row->g.drops == 0)
		return;
	ring_evidence(d, row);
	doctor_evidence(d,
			"%" PRIu64 " messages of %s were not sent to %s for want of room, %" PRIu64
			" of them after it was told last",
			row->g.drops, row->from, row->to,
			row->g.drops >= row->g.drops_seen ? row->g.drops - row->g.drops_seen : 0);
	if (sample_node(d->second, row->g.to))
		doctor_activity(d, sample_node(d->second, row->g.to));
	doctor_verdict(d, "lossy",
		       "%s is a lossy subscriber and has lost %" PRIu64 " messages of %s", row->to,
		       row->g.drops, row->from);
	doctor_advice(d, "let it read faster, or subscribe without lossy; larger rings: ringbusd "
			 "--ring-bytes");
}

/* ---- both ---- */

static void never_sent(struct doctor *d)
{
	if (doctor_no_space(d)) /* what is around is looked at next */
		return;
	doctor_evidence(d, "there is no ring from %s to %s, or nothing in it", d->a.row->label,
			d->b.row->label);
	doctor_evidence(d, "%s has sent %" PRIu64 " messages in all", d->a.row->label,
			d->a.row->n.sent);
	doctor_verdict(d, "nothing-sent", "%s has never sent anything to %s", d->a.row->label,
		       d->b.row->label);
	doctor_advice(d, "let it send; emit and contact return what went wrong");
}

void doctor_link(struct doctor *d)
{
	const struct event_row *event = event_of(d);
	const struct ring_row *row = sample_ring(d->second, d->a.row->n.slot, d->b.row->n.slot);
	bool lossy = is_lossy(event, d->b.row->n.slot);
	if (row)
		judge_ring(d, row, lossy);
	if (!d->code && event)
		held_back(d, event);
	if (!d->code)
		judge_pool(d, d->a.row);
	if (!d->code && row && (lossy || !event))
		judge_losses(d, row);
	if (!d->code && row)
		not_read(d, row, d->b.row);
	if (!d->code && (!row || row->g.messages == 0))
		never_sent(d);
	if (d->code || !row)
		return;
	ring_evidence(d, row);
	doctor_activity(d, d->b.row);
	if (d->b.row->n.dropped_unsubscribed)
		doctor_note(d,
			    "unwanted: %s received %" PRIu64
			    " messages for which it had no handler or subscription",
			    d->b.row->label, d->b.row->n.dropped_unsubscribed);
}

void doctor_all_links(struct doctor *d)
{
	const struct sample *s = d->second;
	for (size_t i = 0; i < s->node_count && !d->code; i++)
		doctor_node(d, &s->nodes[i]);
	for (size_t i = 0; i < s->ring_count && !d->code; i++)
		judge_ring(d, &s->rings[i], s->rings[i].g.drops > 0);
	for (size_t i = 0; i < s->node_count && !d->code; i++)
		judge_pool(d, &s->nodes[i]);
	for (size_t i = 0; i < s->ring_count && !d->code; i++)
		if (sample_node(s, s->rings[i].g.to))
			not_read(d, &s->rings[i], sample_node(s, s->rings[i].g.to));
}

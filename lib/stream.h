/* stream.h: records that say nothing but their payload, from the ring to the handler; a part of
 * dispatch.c. Level 4.
 *
 * Most records are such. All else that dispatch.c looks at was read with an earlier record of the
 * stream and stays what it was, since only dispatch.c changes it and no handler can receive; that
 * they are still for the same subscription is looked at for each of them, since its handler, or
 * another thread, may end it.
 */
#ifndef RINGBUS_STREAM_H
#define RINGBUS_STREAM_H

#include "event_read.h"
#include "probes.h"

/* A batch from one ring. */
struct drained {
	unsigned taken, delivered;
	uint64_t bytes;
	uint64_t word; /* header of the next record */
};

/* After a record: whether the batch goes on, with another one. */
rb_inline bool drain_goes_on(const struct ringbus_node *node, const struct link_rx *rx,
			     unsigned limit, struct drained *d)
{
	if (rb_unlikely(own_load_relaxed(&node->deferred) != 0 ||
			own_load_relaxed(&node->close_wanted)) ||
	    d->taken >= limit)
		return false;
	d->word = ring_rx_header(&rx->ring);
	return d->word != 0;
}

/* Who gets the records of a stream. */
struct stream {
	ringbus_handler handler;
	void *user;
	const struct subscription *sub;	     /* NULL: none, but */
	const struct contact_target *target; /* this one */
	uint32_t index;			     /* of the event, or RB_PROBE_CONTACT */
};

/* False: nobody, or it takes more than is done here. */
rb_inline bool stream_begin(const struct ringbus_node *node, const struct link_rx *rx,
			    struct stream *s)
{
	uint64_t event = rx->ring.said_event;

	if (rb_unlikely(rx->ring.said_generations != rx->generations || rx->lost != 0 ||
			rx->ring.waiting))
		return false;
	if (rx->ring.said_kind == RECORD_EVENT) {
		s->index = (uint32_t)(event >> 48);
		s->sub = event_newest(node, s->index);
		if (rb_unlikely(!s->sub || s->sub->generation != (uint32_t)event ||
				!s->sub->deliver))
			return false;
		s->handler = s->sub->handler;
		s->user = s->sub->user;
	} else {
		s->index = RB_PROBE_CONTACT;
		s->target = (const struct contact_target *)(uintptr_t)own_load(&node->on_contact);
		if (rb_unlikely(rx->ring.said_kind != RECORD_CONTACT || !s->target))
			return false;
		s->handler = s->target->handler;
		s->user = s->target->user;
	}
	return rb_likely(s->handler != NULL);
}

/* Whether they are still for the same. */
rb_inline bool stream_is_for(const struct ringbus_node *node, const struct stream *s)
{
	if (s->sub)
		return event_newest(node, s->index) == s->sub;
	return own_load(&node->on_contact) == (uint64_t)(uintptr_t)s->target;
}

/* Takes such records, until there is another one: the first in the next part of the ring is, unless
 * their sender writes nonsense. False: the batch has ended. */
rb_inline bool stream_take(struct ringbus_node *node, struct link_rx *rx, unsigned limit,
			   struct ringbus_message *m, struct drained *d)
{
	struct ring_rx *ring = &rx->ring;
	uint64_t capacity = ring->capacity, offset = ring->at & (capacity - 1);
	struct stream s = {0};

	if (!ring_record_is_same(d->word, ring->at, capacity - offset) ||
	    !stream_begin(node, rx, &s))
		return true;
	m->kind = s.sub ? RINGBUS_EVENT : RINGBUS_CONTACT;
	m->event = s.sub ? s.sub->event : NULL;
	m->sender = (struct ringbus_address){.pid = rx->pid,
					     .slot = rx->slot,
					     .generation = (uint32_t)rx->generations};
	m->internal[0] = 0;
	m->lost = 0;
	/* relaxed: own word, for tools */
	shm_store_relaxed(&node->own->in_handler, s.sub ? 1 + s.index : UINT32_MAX);
	do {
		m->data = ring->data + offset + RECORD_SAME_BYTES;
		m->size = ring_same_size(d->word);
		d->taken++;
		d->delivered++;
		d->bytes += m->size;
		PROBE_DELIVER(rx->slot, node->slot, s.index, m->size);
		s.handler(m, s.user);
		ring->at += (uint32_t)d->word;
		if (!drain_goes_on(node, rx, limit, d))
			return false;
		offset = ring->at & (capacity - 1);
	} while (ring_record_is_same(d->word, ring->at, capacity - offset) &&
		 rb_likely(stream_is_for(node, &s)));
	return true;
}

#endif

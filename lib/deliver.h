/* deliver.h: a message goes to its handler, with the times of it; a part of dispatch.c. Level 4. */
#ifndef RINGBUS_DELIVER_H
#define RINGBUS_DELIVER_H

#include "histogram.h"
#include "node.h"
#include "probes.h"

static inline uint32_t probe_event(const struct ringbus_message *m)
{
	return m->kind == RINGBUS_EVENT ? m->event->index : RB_PROBE_CONTACT;
}

static void call(struct ringbus_node *node, const struct ringbus_message *m,
		 const struct subscription *sub)
{
	ringbus_handler handler = NULL;
	void *user = NULL;

	if (m->kind == RINGBUS_NOTICE) {
		handler = node->on_notice;
		user = node->on_notice_user;
	} else if (m->kind == RINGBUS_EVENT) {
		handler = sub->handler;
		user = sub->user;
	} else {
		const struct contact_target *target =
			(const struct contact_target *)(uintptr_t)own_load(&node->on_contact);

		if (rb_likely(target)) {
			handler = target->handler;
			user = target->user;
		}
	}
	if (rb_unlikely(!handler)) {
		if (m->kind == RINGBUS_NOTICE)
			return;
		shm_count(&node->own->dropped_unsubscribed, 1);
		PROBE_DROP(m->sender.slot, node->slot, probe_event(m), m->size,
			   PROBE_DROP_UNSUBSCRIBED);
		return;
	}
	/* relaxed: own word, for tools */
	shm_store_relaxed(&node->own->in_handler,
			  m->kind == RINGBUS_EVENT ? 1 + m->event->index : UINT32_MAX);
	PROBE_DELIVER(m->sender.slot, node->slot, probe_event(m), m->size);
	handler(m, user);
}

/* How long a stamped record was under way. The time of its receipt. */
static uint64_t time_arrival(const struct ringbus_node *node, struct link_rx *rx, uint64_t stamp_ns)
{
	struct shm_word(*h)[RING_HISTOGRAM_BUCKETS] = rx->ring.rx->histogram;
	uint64_t now = rb_now_ns(), from = stamp_ns;

	if (stamp_ns > now)
		return now; /* nonsense */
	if (node->woke_ns > stamp_ns) {
		histogram_add(h[HISTOGRAM_WAKE], node->woke_ns - stamp_ns);
		from = node->woke_ns;
	}
	histogram_add(h[HISTOGRAM_QUEUE], now - from);
	return now;
}

/* call(), with the times of a stamped record. */
static rb_noinline void call_timed(struct ringbus_node *node, struct link_rx *rx,
				   const struct ring_record *rec, const struct ringbus_message *m,
				   const struct subscription *sub)
{
	uint64_t began = time_arrival(node, rx, rec->stamp_ns);

	shm_store_relaxed(&node->own->handler_since_ns, began); /* relaxed: own word, for tools */
	call(node, m, sub);
	shm_store_relaxed(&node->own->handler_since_ns, 0); /* relaxed: own word, for tools */
	histogram_add(rx->ring.rx->histogram[HISTOGRAM_HANDLER], rb_now_ns() - began);
}

#endif

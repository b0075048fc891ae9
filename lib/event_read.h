/* event_read.h: the reader's half of the dispatch table (event.c), inlined where messages are
 * taken. Level 4.
 *
 * Of liburcu it uses what its headers offer to any program for inlining (functions of at most ten
 * lines); as calls into the library these three cost more than the rest of a receipt. The library
 * is there when a program starts, so its thread-local word needs no call either (tls-model, see
 * meson.build).
 */
#ifndef RINGBUS_EVENT_READ_H
#define RINGBUS_EVENT_READ_H

#include "node.h"

#include <urcu/static/pointer.h>
#include <urcu/static/urcu-bp.h>

/* Subscriptions that were read are not freed before the end. */
rb_inline void event_read_begin(void)
{
	_urcu_bp_read_lock();
}

rb_inline void event_read_end(void)
{
	_urcu_bp_read_unlock();
}

rb_inline struct subscription *event_subscription(const struct ringbus_node *node, uint32_t index)
{
	return rb_likely(index < node->region->g.events) ? _rcu_dereference(node->table[index])
							 : NULL;
}

#endif

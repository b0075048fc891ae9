/* event_read.h: the reader's half of the dispatch table (event.c), inlined where messages are
 * taken. Level 4.
 *
 * Of liburcu it uses what its headers offer to any program for inlining (functions of at most ten
 * lines); as calls into the library these three cost more than the rest of a receipt. The library
 * is there when a program starts, so its thread-local word needs no call either (tls-model, see
 * meson.build). Under AddressSanitizer, which comes with UndefinedBehaviorSanitizer here, they are
 * calls: liburcu 0.13 says that a reader's word lies at a multiple of 128 bytes, and puts it 32
 * bytes behind one; code that is not its own is then blamed for the access.
 */
#ifndef RINGBUS_EVENT_READ_H
#define RINGBUS_EVENT_READ_H

#include "node.h"

#ifdef __SANITIZE_ADDRESS__
#include <urcu/urcu-bp.h>

#include <urcu/pointer.h>
#define READ_LOCK urcu_bp_read_lock
#define READ_UNLOCK urcu_bp_read_unlock
#define READ_POINTER rcu_dereference
#else
#include <urcu/static/pointer.h>
#include <urcu/static/urcu-bp.h>
#define READ_LOCK _urcu_bp_read_lock
#define READ_UNLOCK _urcu_bp_read_unlock
#define READ_POINTER _rcu_dereference
#endif

/* Subscriptions that were read are not freed before the end. */
rb_inline void event_read_begin(void)
{
	READ_LOCK();
}

rb_inline void event_read_end(void)
{
	READ_UNLOCK();
}

rb_inline struct subscription *event_subscription(const struct ringbus_node *node, uint32_t index)
{
	return rb_likely(index < node->region->g.events) ? READ_POINTER(node->table[index]) : NULL;
}

#endif

/* event_read.h: the reader's half of the dispatch table (event.c), inlined where messages are
 * taken. Level 4.
 *
 * A table has one reader, whoever receives on its node. `reading` of the node is odd while that
 * thread is in a batch (sync BATCH): it makes it odd, fences, and only then reads the table; who
 * took something out of the table fences and then looks: even, or another number than before,
 * says that nobody has it any more. The reader's fence is left to the other's membarrier() where
 * there is one. No reader of another node, no other user of liburcu in this process, and no thread
 * that a fork left behind is waited for, as urcu's grace periods would; so a handler may end
 * subscriptions of any node.
 */
#ifndef RINGBUS_EVENT_READ_H
#define RINGBUS_EVENT_READ_H

#include "node.h"

#include <urcu/static/pointer.h>

/* Batches that the calling thread is in: handlers that run, of nodes that may be several. */
extern _Thread_local unsigned event_batches __attribute__((tls_model("initial-exec")));

/* Subscriptions that are read from here on are not freed before the end. */
rb_inline void event_read_begin(struct ringbus_node *node)
{
	event_batches++;
	own_store(&node->reading, own_load_relaxed(&node->reading) + 1);
	if (rb_likely(node->membarrier))
		shm_light_fence();
	else
		/* sync BATCH reader: odd before the loads from the table; pairs BATCH writer in
		 * wait_for_reader() */
		shm_fence();
}

rb_inline void event_read_end(struct ringbus_node *node)
{
	/* sync BATCH reader: the last use before even; pairs BATCH writer in wait_for_reader() */
	own_store(&node->reading, own_load_relaxed(&node->reading) + 1);
	event_batches--;
	if (rb_unlikely(own_load_relaxed(&node->deferred) != 0))
		event_free_deferred(node);
}

/* What we subscribed to last under this index; NULL: nothing. */
rb_inline struct subscription *event_newest(const struct ringbus_node *node, uint32_t index)
{
	return rb_likely(index < node->region->g.events) ? _rcu_dereference(node->table[index])
							 : NULL;
}

/* What we subscribed to under this index and generation; NULL: nothing, or not any more. */
rb_inline struct subscription *event_subscription(const struct ringbus_node *node, uint32_t index,
						  uint32_t generation)
{
	struct subscription *s = event_newest(node, index);

	while (rb_unlikely(s && s->generation != generation))
		s = _rcu_dereference(s->older);
	return s;
}

#endif

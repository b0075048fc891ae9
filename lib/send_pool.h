/* send_pool.h: the sender's side of pooled payloads: taking over, growing, getting chunks back.
 * Level 4. */
#ifndef RINGBUS_SEND_POOL_H
#define RINGBUS_SEND_POOL_H

#include "node.h"

/* A chunk for `size` bytes with one hold. -EAGAIN all in use; -EMSGSIZE; -ENOSPC. */
int send_pool_take(struct ringbus_node *node, uint64_t size, uint64_t *id);
/* Takes the pool over from the slot's last owner; before the first send_pool_reserve(). */
int send_pool_start(struct ringbus_node *node);
/* Notes that a descriptor of the chunk was published to tx; the chunk's hold is the caller's. */
void send_pool_sent(struct ringbus_node *node, struct link_tx *tx, uint64_t id);
/* Memory for one more note, so that noting cannot fail. */
int send_pool_reserve(struct link_tx *tx);
/* Gets chunks back that tx's receiver has passed; all of them once it is not the owner they were
 * sent to. */
void send_pool_reclaim(struct ringbus_node *node, struct link_tx *tx);
/* The same for all receivers. */
void send_pool_reclaim_all(struct ringbus_node *node);
/* A shot is under way. What was given back is looked at meanwhile, so that whoever takes a chunk
 * next need not wait for that; in a stream, now and then. */
void send_pool_shot(struct ringbus_node *node);
/* Whether tx's receiver may pin `bytes` more. */
bool send_pool_quota(struct ringbus_node *node, struct link_tx *tx, uint64_t bytes);
/* Gives idle extents back, all of them or until `bytes` fit. */
int send_pool_shrink(struct ringbus_node *node, uint64_t bytes);

#endif

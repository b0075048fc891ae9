/* send_held.c: what keeps this thread's sends from going on: a receiver, the control lock, or the
 * node's own loans. Level 4. */
#include "send.h"

#include "error.h"

/* For so long one try of a send waits for the control lock, with send_lock held; and for so long
 * each further try of the same send. Who holds it is done in less, or is stopped. */
#define CONTROL_FIRST_NS (10 * RB_MS)
#define CONTROL_AGAIN_NS RB_MS

static _Thread_local struct {
	uint32_t slot;
	uint64_t word;
	uint32_t holder; /* of the control lock */
	bool control;	 /* it is that; slot is nobody's */
	bool waited;	 /* for it, in this send */
} held_back = {.slot = LAYOUT_NO_SLOT};

void send_held_back_by(uint32_t slot, uint64_t word)
{
	held_back.slot = slot;
	held_back.word = word;
	held_back.control = false;
}

void send_begins(void)
{
	rb_fail_clear();
	send_held_back_by(LAYOUT_NO_SLOT, 0);
	held_back.waited = false;
}

uint32_t send_held_back_slot(void)
{
	return held_back.slot;
}

bool send_is_held_back_by_control(void)
{
	return held_back.control;
}

int send_control_lock(struct ringbus_node *node, struct control *c)
{
	uint64_t wait_ns = held_back.waited ? CONTROL_AGAIN_NS : CONTROL_FIRST_NS;
	int r = control_lock(c, node->region, rb_deadline_ns(wait_ns));

	if (r != -ETIMEDOUT)
		return r;
	send_held_back_by(LAYOUT_NO_SLOT, 0);
	held_back.control = true;
	held_back.waited = true;
	/* relaxed: for the text only */
	held_back.holder = (uint32_t)shm_load_relaxed(&node->region->control->intent_pid);
	return -EAGAIN;
}

int send_made_no_room(const struct ringbus_node *node)
{
	if (held_back.control)
		return rb_fail(-ETIMEDOUT,
			       "process %u holds the control lock of the bus on port %u",
			       held_back.holder, node->region->port);
	if (held_back.slot == LAYOUT_NO_SLOT)
		return rb_fail(-ETIMEDOUT, "this node's own loans hold its pool");
	return rb_fail(-ETIMEDOUT, "slot %u made no room in time", held_back.slot);
}

int ringbus_node_held_back_by(const struct ringbus_node *node, struct ringbus_address *address)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (held_back.slot == LAYOUT_NO_SLOT)
		return -ENOENT;
	*address = (struct ringbus_address){.pid = slot_pid(held_back.word),
					    .slot = held_back.slot,
					    .generation = slot_generation(held_back.word)};
	return 0;
}

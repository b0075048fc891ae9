/* killat_operation.c: see killat.h. This file: what the victim does under the tracer. Only the
 * statements in traced() are stepped; what the oracle needs is done around them.
 */
#include "killat_actor.h"

static void post_traced(struct actor *me, enum how how, size_t size, uint64_t timeout_ns)
{
	static struct post p;
	int rc;

	p.how = how;
	p.to = how == POST_SINGLE ? ACTOR_B : ACTOR_A;
	p.size = size;
	post_begin(me, &p, 0);
	traced(rc = post_call(me, &p, timeout_ns));
	post_end(me, &p, rc);
}

static void op_emit(struct actor *me)
{
	post_traced(me, POST_EMIT, INLINE_BYTES, 0);
}

static void op_emit_one(struct actor *me)
{
	post_traced(me, POST_SINGLE, INLINE_BYTES, 0);
}

static void op_emit_pooled(struct actor *me)
{
	post_traced(me, POST_EMIT, POOLED_BYTES, 0);
}

static void op_contact(struct actor *me)
{
	post_traced(me, POST_CONTACT, INLINE_BYTES, 0);
}

static void op_contact_pooled(struct actor *me)
{
	post_traced(me, POST_CONTACT, POOLED_BYTES, 0);
}

static void op_loan(struct actor *me)
{
	post_traced(me, POST_LOAN, POOLED_BYTES, 0);
}

static void op_emit_wait(struct actor *me)
{
	post_traced(me, POST_EMIT, INLINE_BYTES, 8 * HARNESS_SECOND);
}

static void op_cancel(struct actor *me)
{
	struct ringbus_loan loan;
	int rc;

	traced(rc = ringbus_loan(me->node, POOLED_BYTES, &loan, 0));
	if (rc == 0)
		traced(ringbus_loan_cancel(&loan));
}

/* Up to eight messages, or until there are none; the last call gives positions back. */
static void op_receive(struct actor *me)
{
	struct ringbus_message m;
	int rc = 0;

	for (unsigned i = 0; i < 8 && rc == 0; i++) {
		traced(rc = ringbus_next(me->node, &m, 0));
		if (rc == 0)
			actor_got(me, &m);
	}
}

static void op_copy(struct actor *me)
{
	static uint8_t buffer[2 * POOLED_BYTES];
	struct ringbus_message m;
	int rc = 0;

	for (unsigned i = 0; i < 8 && rc == 0; i++) {
		traced(rc = ringbus_receive(me->node, buffer, sizeof(buffer), &m, 0));
		if (rc == 0)
			actor_got(me, &m);
	}
}

static void op_poll(struct actor *me)
{
	traced(ringbus_poll(me->node, 0));
	traced(ringbus_poll(me->node, 0));
}

/* Keeps the first pooled message, and takes one more, which gives the position back. */
static void op_borrow(struct actor *me)
{
	struct ringbus_borrow *borrow;
	struct ringbus_message m;
	int rc;

	do {
		rc = ringbus_next(me->node, &m, 0);
		if (rc < 0)
			return;
		actor_got(me, &m);
	} while (m.kind == RINGBUS_NOTICE || m.size < 600);
	traced(rc = ringbus_borrow(&m, &borrow));
	if (actor_checked(me, rc, "ringbus_borrow") == 0)
		actor_keep(me, &m, borrow);
	traced(rc = ringbus_next(me->node, &m, 0));
	if (rc == 0)
		actor_got(me, &m);
}

/* What the preparation borrowed. */
static void op_release(struct actor *me)
{
	while (me->borrow_count > 0) {
		actor_compare_kept(me, --me->borrow_count);
		traced(ringbus_release(me->borrows[me->borrow_count].borrow));
	}
}

/* Sleeps until the stimulus. */
static void op_wait(struct actor *me)
{
	struct ringbus_message m;
	int rc;

	traced(rc = ringbus_next(me->node, &m, 8 * HARNESS_SECOND));
	actor_checked(me, rc, "ringbus_next");
	actor_got(me, &m);
}

static void op_subscribe(struct actor *me)
{
	int rc;

	traced(rc = ringbus_subscribe(&me->event[NAME_SIDE], me->node, "side", NULL));
	actor_checked(me, rc, "ringbus_subscribe");
}

static void op_unsubscribe(struct actor *me)
{
	int rc;

	traced(rc = ringbus_unsubscribe(me->event[NAME_SIDE]));
	actor_checked(me, rc, "ringbus_unsubscribe");
}

static void op_create(struct actor *me)
{
	int rc;

	traced(rc = ringbus_event_create(&me->event[NAME_SINGLE], me->node, "single", NULL));
	actor_checked(me, rc, "ringbus_event_create");
}

static void op_create_multi(struct actor *me)
{
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = RINGBUS_MULTI_EMISSION,
					  .receive = true};
	int rc;

	traced(rc = ringbus_event_create(&me->event[NAME_SINGLE], me->node, "single", &o));
	actor_checked(me, rc, "ringbus_event_create");
}

static void op_dissolve(struct actor *me)
{
	int rc;

	traced(rc = ringbus_event_dissolve(me->event[NAME_SINGLE]));
	actor_checked(me, rc, "ringbus_event_dissolve");
}

static void op_join(struct actor *me)
{
	traced(actor_join(me));
}

static void op_leave(struct actor *me)
{
	world->current[me->number] = 0;
	world->unreaped = 1; /* others still emit to us, up to some moment in this */
	traced(ringbus_node_close(me->node));
	me->node = NULL;
}

static void op_signal(struct actor *me)
{
	struct ringbus_address address = address_of(world->current[ACTOR_A]);
	struct life *life = life_of(world->current[ACTOR_A]);
	int rc;

	__atomic_fetch_add(&life->signals_tried, 1, __ATOMIC_SEQ_CST);
	traced(rc = ringbus_signal_address(me->node, &address));
	actor_checked(me, rc, "ringbus_signal_address");
	__atomic_fetch_add(&life->signals, 1, __ATOMIC_SEQ_CST);
}

static void op_signal_wait(struct actor *me)
{
	uint64_t n = 0;
	int rc;

	traced(rc = ringbus_signal_wait(me->node, &n, 8 * HARNESS_SECOND));
	actor_checked(me, rc, "ringbus_signal_wait");
	me->signals += n;
}

static void op_trim(struct actor *me)
{
	int rc;

	traced(rc = ringbus_node_trim(me->node));
	actor_checked(me, rc, "ringbus_node_trim");
}

#define OPERATION(f)       \
	{                  \
#f, op_##f \
	}
const struct operation operations[] = {
	OPERATION(emit),	OPERATION(emit_one),	   OPERATION(emit_pooled),
	OPERATION(contact),	OPERATION(contact_pooled), OPERATION(loan),
	OPERATION(emit_wait),	OPERATION(cancel),	   OPERATION(receive),
	OPERATION(copy),	OPERATION(poll),	   OPERATION(borrow),
	OPERATION(release),	OPERATION(wait),	   OPERATION(subscribe),
	OPERATION(unsubscribe), OPERATION(create),	   OPERATION(create_multi),
	OPERATION(dissolve),	OPERATION(join),	   OPERATION(leave),
	OPERATION(signal),	OPERATION(signal_wait),	   OPERATION(trim),
};
const unsigned operation_count = sizeof(operations) / sizeof(operations[0]);

unsigned operation_number(const char *name)
{
	for (unsigned i = 0; i < operation_count; i++)
		if (strcmp(operations[i].name, name) == 0)
			return i;
	fail_msg("no operation '%s'", name);
	return 0;
}

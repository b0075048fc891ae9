/* killat_case.c: see killat.h. This file: the states that operations start from. The controller
 * brings the bus from rest into them; what check_rest() wants undone afterwards the next fresh
 * victim, or the end of the cycle, undoes.
 */
#include "killat_actor.h"

#include <signal.h>
#include <time.h>

/* ---- states for those who send ---- */

static void nothing(void)
{
}

static void asleep(void)
{
	put_to_sleep(ACTOR_A);
	put_to_sleep(ACTOR_B);
}

/* The ring to B has no room, not even for the smallest record. */
static void full(void)
{
	const struct timespec pause = {.tv_nsec = 2000000};

	if (order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_B, INLINE_BYTES, 1000) == 0)
		cycle_fail("a ring of %u bytes takes nothing", RING_BYTES);
	order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_B, SMALLEST_BYTES, 1000);
	order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_B, POOLED_BYTES, 1); /* a descriptor */
	nanosleep(&pause, NULL); /* until it would look again whether B lives */
}

static void b_drains(void)
{
	if (!is_issued(ACTOR_B))
		issue(ACTOR_B, CMD_DRAIN, 0, 0, 0, 0);
}

/* The next record does not fit before the end of the ring to A. */
static void wrapped(void)
{
	uint64_t capacity, left;

	for (unsigned i = 0; i < 400; i++) {
		uint64_t at = ring_tail_of(ACTOR_V, ACTOR_A, &capacity);

		left = capacity - (at & (capacity - 1));
		if (left >= 8 && left < RECORD_HEADER_BYTES + INLINE_BYTES)
			return;
		/* a record is 24 or 32 bytes longer than its payload */
		order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_A,
		      left > 600   ? 400
		      : left > 200 ? 64
				   : 40,
		      1);
		order(ACTOR_A, CMD_DRAIN, 0, 0, 0, 0);
	}
	cycle_fail("the end of the ring is never near");
}

/* The sender does not fence any more. */
static void unfenced_awake(void)
{
	for (unsigned i = 0; i < 4; i++) {
		order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_A, INLINE_BYTES, 20);
		order(ACTOR_A, CMD_DRAIN, 0, 0, 0, 0);
	}
}

static void unfenced(void)
{
	unfenced_awake();
	asleep();
}

/* A keeps three payloads of the victim, beyond its death. */
static void held(void)
{
	order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_A, POOLED_BYTES, 3);
	for (unsigned i = 0; i < 3; i++)
		order(ACTOR_A, CMD_BORROW, 0, 0, 0, 0);
}

static void pool_dry(void)
{
	if (order(ACTOR_V, CMD_LOANS, 0, 0, 0, 0) < 16)
		cycle_fail("a pool of %u bytes is dry at once", POOL_BYTES);
}

/* The receiver has refused the ring and asked for a new beginning. */
static void spoiled(void)
{
	spoil_ring(ACTOR_V, ACTOR_A);
	order(ACTOR_A, CMD_DRAIN, 0, 0, 0, 0);
}

/* The sender will meet nonsense that nobody has seen yet. */
static void spoiled_unseen(void)
{
	spoil_ring(ACTOR_V, ACTOR_A);
}

static void extra_joins(void)
{
	actor_start(ACTOR_D);
	order(ACTOR_D, CMD_JOIN, 0, 0, 0, 0);
}

/* An extra receiver is dead and nobody has noticed: the service is stopped. */
static void dead_receiver(void)
{
	extra_joins();
	round_of(EVERYBODY | 1u << ACTOR_D);
	service_signal(SIGSTOP);
	actor_kill(ACTOR_D);
	world->unreaped = 1;
}

/* The dead one's ring is full: whoever is held back reaps. */
static void dead_and_full(void)
{
	extra_joins();
	round_of(EVERYBODY | 1u << ACTOR_D);
	order(ACTOR_V, CMD_POST, POST_CONTACT, ACTOR_D, INLINE_BYTES, 1000);
	service_signal(SIGSTOP);
	actor_kill(ACTOR_D);
	world->unreaped = 1;
}

/* The slot of an extra receiver has another owner since the victim last sent. */
static void reissued(void)
{
	const struct life *life;

	extra_joins();
	round_of(EVERYBODY | 1u << ACTOR_D);
	life = life_of(world->current[ACTOR_D]);
	actor_kill(ACTOR_D);
	wait_free(life);
	extra_joins();
	order_each(SURVIVORS, CMD_DRAIN, 0, 0);
}

/* ---- states for those who receive ---- */

static void backlog(void)
{
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++) {
		order(i, CMD_POST, POST_CONTACT, ACTOR_V, INLINE_BYTES, 1 + i);
		order(i, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 1);
	}
	order(ACTOR_A, CMD_SIGNAL, ACTOR_V, 0, 0, 0);
}

/* The rings to the victim are full, so that it gives a quarter back on the way. */
static void full_inbox(void)
{
	order(ACTOR_A, CMD_POST, POST_CONTACT, ACTOR_V, 400, 1000);
	order(ACTOR_B, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 1000);
}

/* The last messages of a dead sender, and its end. */
static void dead_sender(void)
{
	const struct life *life;

	extra_joins();
	round_of(EVERYBODY | 1u << ACTOR_D);
	order(ACTOR_D, CMD_POST, POST_CONTACT, ACTOR_V, INLINE_BYTES, 2);
	order(ACTOR_D, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 1);
	life = life_of(world->current[ACTOR_D]);
	actor_kill(ACTOR_D);
	wait_free(life);
}

static void borrowed(void)
{
	order(ACTOR_A, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 2);
	order(ACTOR_B, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 1);
	for (unsigned i = 0; i < 3; i++)
		order(ACTOR_V, CMD_BORROW, 0, 0, 0, 0);
}

static void borrowed_of_dead(void)
{
	const struct life *life;

	extra_joins();
	round_of(EVERYBODY | 1u << ACTOR_D);
	order(ACTOR_D, CMD_POST, POST_CONTACT, ACTOR_V, POOLED_BYTES, 1);
	order(ACTOR_V, CMD_BORROW, 0, 0, 0, 0);
	life = life_of(world->current[ACTOR_D]);
	actor_kill(ACTOR_D);
	wait_free(life);
}

/* The victim has closed its node: the last release frees its slot. */
static void borrowed_and_left(void)
{
	borrowed();
	order(ACTOR_V, CMD_LEAVE, 0, 0, 0, 0);
}

static void c_sends(void)
{
	static uint32_t life;

	if (is_issued(ACTOR_C) || life == world->current[ACTOR_V])
		return;
	life = world->current[ACTOR_V];
	issue(ACTOR_C, CMD_POST, POST_CONTACT, ACTOR_V, INLINE_BYTES, 1);
}

static void c_signals(void)
{
	static uint32_t life;

	if (is_issued(ACTOR_C) || life == world->current[ACTOR_V])
		return;
	life = world->current[ACTOR_V];
	issue(ACTOR_C, CMD_SIGNAL, ACTOR_V, 0, 0, 0);
}

/* ---- states of events ---- */

static void subscribed(void)
{
	order(ACTOR_V, CMD_SUBSCRIBE, NAME_SIDE, 0, 0, 0);
}

static void b_subscribes(enum name name)
{
	order(ACTOR_B, CMD_SUBSCRIBE, name, 0, 0, 0);
}

static void side_pending(void)
{
	b_subscribes(NAME_SIDE);
}

static void side_live(void)
{
	order(ACTOR_B, CMD_CREATE, NAME_SIDE, RINGBUS_MULTI_EMISSION, 0, 0);
}

static void side_shared(void)
{
	side_live();
	subscribed();
}

static void single_pending(void)
{
	b_subscribes(NAME_SINGLE);
}

/* Its creator has died, a subscriber is there. */
static void single_orphan(void)
{
	const struct life *life;

	b_subscribes(NAME_SINGLE);
	extra_joins();
	order(ACTOR_D, CMD_CREATE, NAME_SINGLE, RINGBUS_SINGLE_EMISSION, 0, 0);
	life = life_of(world->current[ACTOR_D]);
	actor_kill(ACTOR_D);
	wait_free(life);
}

static void single_own(void)
{
	order(ACTOR_V, CMD_CREATE, NAME_SINGLE, RINGBUS_SINGLE_EMISSION, 0, 0);
}

static void single_shared(void)
{
	single_own();
	b_subscribes(NAME_SINGLE);
}

/* ---- states of streams ---- */

/* The victim's next record to this one says nothing but its payload; parts: it ends in another part
 * of the ring, else in the same. */
static void stream(enum how how, unsigned to, bool parts)
{
	uint64_t capacity, part, at, bytes = RECORD_SAME_BYTES + INLINE_BYTES;

	for (unsigned i = 0; i < 12; i++) {
		order(ACTOR_V, CMD_POST, how, to, INLINE_BYTES, 1);
		order(to, CMD_DRAIN, 0, 0, 0, 0);
		at = ring_tail_of(ACTOR_V, to, &capacity);
		part = layout_ring_part(capacity);
		at &= part - 1;
		if (i > 1 && at >= bytes && (at + bytes >= part) == parts)
			return;
	}
	cycle_fail("a stream never comes to its place in a part of the ring");
}

static void contact_stream(void)
{
	stream(POST_CONTACT, ACTOR_A, false);
}

static void contact_asleep(void)
{
	contact_stream();
	asleep();
}

static void contact_part(void)
{
	stream(POST_CONTACT, ACTOR_A, true);
}

static void one_stream(void)
{
	single_shared();
	stream(POST_SINGLE, ACTOR_B, false);
}

static void one_asleep(void)
{
	one_stream();
	asleep();
}

static void one_unfenced(void)
{
	unfenced_awake();
	one_stream();
}

static void one_part(void)
{
	single_shared();
	stream(POST_SINGLE, ACTOR_B, true);
}

#define PRIMARY true
#define OTHER false
const struct test_case cases[] = {
	{"emit", "empty", nothing, NULL, 0, PRIMARY},
	{"emit", "asleep", asleep, NULL, 0, PRIMARY},
	{"emit", "full", full, NULL, 0, OTHER},
	{"emit", "wrapped", wrapped, NULL, 0, PRIMARY},
	{"emit", "unfenced", unfenced, NULL, 0, OTHER},
	{"emit", "fresh", nothing, NULL, STATE_FRESH, OTHER},
	{"emit", "dead_receiver", dead_receiver, NULL, STATE_EXTRA | STATE_NO_STOP, OTHER},
	{"emit", "reaps", dead_and_full, NULL, STATE_EXTRA | STATE_NO_STOP, OTHER},
	{"emit", "reissued", reissued, NULL, STATE_EXTRA, OTHER},
	{"emit", "spoiled", spoiled, NULL, 0, OTHER},
	{"emit", "spoiled_unseen", spoiled_unseen, NULL, STATE_FRESH, OTHER},
	{"emit_pooled", "empty", nothing, NULL, 0, PRIMARY},
	{"emit_pooled", "asleep", asleep, NULL, 0, PRIMARY},
	{"emit_pooled", "full", full, NULL, 0, PRIMARY},
	{"emit_pooled", "fresh", nothing, NULL, STATE_FRESH, OTHER},
	{"emit_pooled", "held", held, NULL, 0, OTHER},
	{"emit_pooled", "pool_dry", pool_dry, NULL, 0, OTHER},
	{"emit_pooled", "reissued", reissued, NULL, STATE_EXTRA, OTHER},
	{"emit_one", "stream", one_stream, NULL, STATE_READ, PRIMARY},
	{"emit_one", "asleep", one_asleep, NULL, STATE_READ, OTHER},
	{"emit_one", "unfenced", one_unfenced, NULL, STATE_READ, OTHER},
	{"emit_one", "part", one_part, NULL, STATE_READ, OTHER},
	{"contact", "stream", contact_stream, NULL, 0, OTHER},
	{"contact", "asleep", contact_asleep, NULL, 0, OTHER},
	{"contact", "part", contact_part, NULL, 0, OTHER},
	{"contact", "wrapped", wrapped, NULL, 0, OTHER},
	{"contact_pooled", "empty", nothing, NULL, 0, OTHER},
	{"contact_pooled", "held", held, NULL, 0, OTHER},
	{"loan", "empty", nothing, NULL, 0, OTHER},
	{"loan", "asleep", asleep, NULL, 0, OTHER},
	{"loan", "full", full, NULL, 0, OTHER},
	{"cancel", "empty", nothing, NULL, 0, OTHER},
	{"emit_wait", "full", full, b_drains, 0, OTHER},
	{"receive", "empty", nothing, NULL, 0, PRIMARY},
	{"receive", "backlog", backlog, NULL, 0, PRIMARY},
	{"receive", "full", full_inbox, NULL, STATE_NO_STOP, PRIMARY},
	{"receive", "dead_sender", dead_sender, NULL, 0, OTHER},
	{"copy", "backlog", backlog, NULL, 0, OTHER},
	{"poll", "backlog", backlog, NULL, 0, OTHER},
	{"poll", "full", full_inbox, NULL, STATE_NO_STOP, OTHER},
	{"poll", "dead_sender", dead_sender, NULL, 0, OTHER},
	{"borrow", "backlog", backlog, NULL, 0, OTHER},
	{"borrow", "dead_sender", dead_sender, NULL, 0, OTHER},
	{"release", "borrowed", borrowed, NULL, 0, PRIMARY},
	{"release", "of_dead", borrowed_of_dead, NULL, 0, PRIMARY},
	{"release", "left", borrowed_and_left, NULL, 0, PRIMARY},
	{"wait", "asleep", nothing, c_sends, 0, OTHER},
	{"subscribe", "new", nothing, NULL, 0, OTHER},
	{"subscribe", "pending", side_pending, NULL, 0, OTHER},
	{"subscribe", "live", side_live, NULL, 0, OTHER},
	{"unsubscribe", "last", subscribed, NULL, 0, OTHER},
	{"unsubscribe", "live", side_shared, NULL, 0, OTHER},
	{"create", "new", nothing, NULL, 0, OTHER},
	{"create", "pending", single_pending, NULL, 0, OTHER},
	{"create", "orphan", single_orphan, NULL, 0, OTHER},
	{"create_multi", "new", nothing, NULL, 0, OTHER},
	{"create_multi", "pending", single_pending, NULL, 0, OTHER},
	{"dissolve", "alone", single_own, NULL, 0, OTHER},
	{"dissolve", "subscribed", single_shared, NULL, 0, OTHER},
	{"join", "new", nothing, NULL, STATE_UNJOINED, OTHER},
	{"leave", "empty", nothing, NULL, 0, OTHER},
	{"leave", "backlog", backlog, NULL, 0, OTHER},
	{"leave", "borrowed", borrowed, NULL, 0, OTHER},
	{"leave", "owner", single_shared, NULL, 0, OTHER},
	{"signal", "empty", nothing, NULL, 0, OTHER},
	{"signal", "asleep", asleep, NULL, 0, OTHER},
	{"signal_wait", "there", backlog, NULL, 0, OTHER},
	{"signal_wait", "asleep", nothing, c_signals, 0, OTHER},
	{"trim", "empty", nothing, NULL, 0, OTHER},
	{"trim", "held", held, NULL, 0, OTHER},
	{"grant", "service", NULL, NULL, CASE_SERVICE, OTHER},
	{"reap", "service", NULL, NULL, CASE_SERVICE, OTHER},
	{"adopt", "service", NULL, NULL, CASE_SERVICE, OTHER},
};
const unsigned case_count = sizeof(cases) / sizeof(cases[0]);

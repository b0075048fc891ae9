/* killat_actor.c: see killat.h. This file: the processes on the bus, and the oracle: what was
 * accepted comes exactly once, in order and whole; what failed does not come; what was under way
 * when its sender died comes whole or not at all; a death is told after the last message.
 */
#include "killat_actor.h"

#include <stdarg.h>
#include <time.h>

#define PATIENCE_NS (6 * HARNESS_SECOND)

/* What each payload begins with. */
struct head {
	uint64_t nonce; /* not 0: ends that round */
	uint64_t sequence;
	uint32_t life;
	uint32_t unused;
};
_Static_assert(sizeof(struct head) == SMALLEST_BYTES, "every message begins with it");

_Noreturn void actor_fail(const struct actor *me, const char *format, ...)
{
	va_list args;
	int n;

	if (__atomic_exchange_n(&world->noted, 1, __ATOMIC_ACQ_REL) == 0) {
		n = snprintf(world->note, sizeof(world->note),
			     "%c (life %u): ", "ABCVDJ"[me->number],
			     me -> life ? me -> life -> number : 0);
		va_start(args, format);
		vsnprintf(world->note + n, sizeof(world->note) - (size_t)n, format, args);
		va_end(args);
		word_set(&world->noted, 2);
	}
	_exit(99);
}

int actor_checked(const struct actor *me, int rc, const char *call)
{
	if (rc < 0)
		actor_fail(me, "%s = %d %s (%s)", call, rc, ringbus_strerror(rc),
			   ringbus_error_detail());
	return rc;
}

const char *actor_event_name(enum name name)
{
	static const char *const names[NAMES] = {"all", "side", "single"};

	return names[name];
}

struct ringbus_address address_of(uint32_t number)
{
	const struct life *life = life_of(number);

	return (struct ringbus_address){.slot = life->slot, .generation = life->generation};
}

/* ---- the oracle ---- */

static struct entry *entry_of(struct life *life, uint64_t sequence)
{
	return &life->entries[sequence % ENTRIES];
}

static struct seen_life *seen_of(struct actor *me, const struct life *life)
{
	struct seen_life *seen = &me->seen[life - world->lives];

	if (seen->life != life->number)
		*seen = (struct seen_life){.life = life->number};
	return seen;
}

/* Passes what is not for us up to `sequence`; meeting something that we should have got fails. */
static void pass_entries(struct actor *me, struct life *life, uint64_t sequence)
{
	uint64_t *next = &seen_of(me, life)->next;

	for (; *next < sequence; ++*next) {
		const struct entry *e = entry_of(life, *next);
		uint32_t state = word_get(&e->state);

		if (e->to[me->number] != me->life->number || state == ENTRY_FAILED)
			continue;
		if (state == ENTRY_TRIED && word_get(&life->dead))
			continue;
		actor_fail(me, "message %llu of life %u (%c) is lost: accepted %d, now at %llu",
			   (unsigned long long)*next, life->number, "ABCVDJ"[life->actor],
			   state == ENTRY_ACCEPTED, (unsigned long long)sequence);
	}
}

static void compare(const struct actor *me, const void *data, size_t size, uint32_t life,
		    uint64_t sequence)
{
	if (!payload_matches((const uint8_t *)data + sizeof(struct head),
			     size - sizeof(struct head), life, sequence))
		actor_fail(me, "message %llu of life %u is damaged (%zu bytes)",
			   (unsigned long long)sequence, life, size);
}

static void got_data(struct actor *me, const struct ringbus_message *m)
{
	struct head head;
	struct life *life;
	const struct entry *e;

	if (m->size < sizeof(head))
		actor_fail(me, "a message of %zu bytes", m->size);
	memcpy(&head, m->data, sizeof(head));
	life = life_of(head.life);
	if (life->number != head.life || life->slot != m->sender.slot ||
	    life->generation != m->sender.generation)
		actor_fail(me, "a message says it is of life %u, and comes from slot %u, %u",
			   head.life, m->sender.slot, m->sender.generation);
	if (m->lost)
		actor_fail(me, "%llu messages lost", (unsigned long long)m->lost);
	pass_entries(me, life, head.sequence);
	if (seen_of(me, life)->next != head.sequence)
		actor_fail(me, "message %llu of life %u came again",
			   (unsigned long long)head.sequence, head.life);
	e = entry_of(life, head.sequence);
	if (e->to[me->number] != me->life->number &&
	    (e->to[me->number] || head.sequence >= seen_of(me, life)->sure))
		actor_fail(me, "message %llu of life %u is for life %u in our slot",
			   (unsigned long long)head.sequence, head.life, e->to[me->number]);
	if (word_get(&e->state) == ENTRY_FAILED)
		actor_fail(me, "message %llu of life %u was refused, and came",
			   (unsigned long long)head.sequence, head.life);
	if (m->size != e->size)
		actor_fail(me, "message %llu of life %u has %zu bytes instead of %llu",
			   (unsigned long long)head.sequence, head.life, m->size,
			   (unsigned long long)e->size);
	compare(me, m->data, m->size, head.life, head.sequence);
	seen_of(me, life)->next++;
	if (head.nonce)
		me->ended[life->actor] = head.nonce;
}

static void got_notice(struct actor *me, const struct ringbus_message *m)
{
	if (m->notice == RINGBUS_LOST)
		actor_fail(me, "%llu messages of slot %u lost", (unsigned long long)m->count,
			   m->sender.slot);
	if (m->notice != RINGBUS_PEER_DIED && m->notice != RINGBUS_PEER_LEFT)
		return;
	for (unsigned i = 0; i < LIVES; i++) {
		struct life *life = &world->lives[i];

		if (life->number == 0 || life->slot != m->sender.slot ||
		    life->generation != m->sender.generation)
			continue;
		pass_entries(me, life, __atomic_load_n(&life->count, __ATOMIC_ACQUIRE));
		me->seen[i].gone = true;
	}
}

void actor_got(struct actor *me, const struct ringbus_message *m)
{
	if (m->kind == RINGBUS_NOTICE)
		got_notice(me, m);
	else
		got_data(me, m);
}

static void on_message(const struct ringbus_message *m, void *user)
{
	actor_got(user, m);
}

void actor_keep(struct actor *me, const struct ringbus_message *m, struct ringbus_borrow *borrow)
{
	struct head head;

	if (me->borrow_count == BORROWS)
		actor_fail(me, "too many borrows");
	memcpy(&head, m->data, sizeof(head));
	me->borrows[me->borrow_count].borrow = borrow;
	me->borrows[me->borrow_count].life = head.life;
	me->borrows[me->borrow_count++].sequence = head.sequence;
}

void actor_compare_kept(struct actor *me, unsigned i)
{
	size_t size;
	const void *data = ringbus_borrow_data(me->borrows[i].borrow, &size);

	compare(me, data, size, me->borrows[i].life, me->borrows[i].sequence);
}

/* ---- sending ---- */

static bool is_to_one(enum how how)
{
	return how == POST_CONTACT || how == POST_SINGLE;
}

void post_begin(struct actor *me, struct post *p, uint64_t nonce)
{
	struct life *life = me->life;
	struct head head = {.nonce = nonce, .sequence = life->count, .life = life->number};

	p->entry = entry_of(life, life->count);
	p->entry->size = p->size;
	p->entry->state = ENTRY_TRIED;
	for (unsigned i = 0; i < ACTORS; i++)
		p->entry->to[i] = i != me->number && (!is_to_one(p->how) || i == p->to)
					  ? world->current[i]
					  : 0;
	p->address = address_of(p->entry->to[p->to]); /* of contacts */
	memcpy(p->data, &head, sizeof(head));
	payload_fill(p->data + sizeof(head), p->size - sizeof(head), life->number, life->count);
	__atomic_store_n(&life->count, life->count + 1, __ATOMIC_RELEASE);
}

static int call_loan(struct actor *me, struct post *p, uint64_t timeout_ns)
{
	struct ringbus_loan loan;
	int rc = ringbus_loan(me->node, p->size, &loan, timeout_ns);

	if (rc < 0)
		return rc;
	memcpy(loan.data, p->data, p->size);
	rc = ringbus_emit_loan(me->event[NAME_ALL], &loan, timeout_ns);
	if (rc < 0)
		ringbus_loan_cancel(&loan);
	return rc;
}

int post_call(struct actor *me, struct post *p, uint64_t timeout_ns)
{
	switch (p->how) {
	case POST_EMIT:
		return ringbus_emit(me->event[NAME_ALL], p->data, p->size, timeout_ns);
	case POST_SINGLE:
		return ringbus_emit(me->event[NAME_SINGLE], p->data, p->size, timeout_ns);
	case POST_CONTACT:
		return ringbus_contact_address(me->node, &p->address, p->data, p->size, timeout_ns);
	default:
		return call_loan(me, p, timeout_ns);
	}
}

void post_end(struct actor *me, struct post *p, int rc)
{
	unsigned alive = 0, all = 0;

	word_set(&p->entry->state, rc < 0 ? ENTRY_FAILED : ENTRY_ACCEPTED);
	/* -EBADMSG: where a ring was spoiled, until its receiver has asked */
	if (rc < 0 && rc != -EAGAIN && rc != -EBADMSG)
		actor_fail(me, "sending: %d %s (%s)", rc, ringbus_strerror(rc),
			   ringbus_error_detail());
	if (p->how == POST_SINGLE && rc > 1)
		actor_fail(me, "emitted to %d, not to one", rc);
	if (rc < 0 || is_to_one(p->how))
		return;
	/* joining is read before current: who joins meanwhile may have been counted */
	for (unsigned i = 0; i < ACTORS; i++) {
		bool joins = word_get(&world->joining[i]) != 0 || word_get(&world->current[i]) != 0;

		all += p->entry->to[i] != 0 || (joins && i != me->number);
		alive += p->entry->to[i] != 0 && !word_get(&life_of(p->entry->to[i])->dead);
	}
	if ((unsigned)rc < alive || (unsigned)rc > all + word_get(&world->unreaped))
		actor_fail(me, "emitted to %d, not to between %u and %u", rc, alive, all);
}

static int post(struct actor *me, enum how how, unsigned to, size_t size, uint64_t nonce,
		uint64_t timeout_ns)
{
	static struct post p;
	int rc;

	p.how = how;
	p.to = to;
	p.size = size;
	post_begin(me, &p, nonce);
	if (is_to_one(how) && p.entry->to[to] == 0) { /* killed just now */
		word_set(&p.entry->state, ENTRY_FAILED);
		return -EAGAIN;
	}
	rc = post_call(me, &p, timeout_ns);
	if (timeout_ns > 0 && rc < 0)
		actor_checked(me, rc, "sending with a timeout");
	post_end(me, &p, rc);
	return rc;
}

/* ---- receiving ---- */

static bool is_over(struct actor *me, const uint64_t argument[4])
{
	for (unsigned i = 0; i < ACTORS; i++)
		if (argument[0] >> i & 1 && i != me->number && me->ended[i] != argument[1])
			return false;
	for (unsigned i = 2; i < 4; i++) {
		const struct life *life = life_of((uint32_t)argument[i]);
		size_t at = (size_t)(life - world->lives);

		if (argument[i] &&
		    !(me->seen[at].life == (uint32_t)argument[i] && me->seen[at].gone))
			return false;
	}
	return true;
}

/* What comes only because the call looks again at its deadline came without a wake-up. */
static int next_in_time(struct actor *me, struct ringbus_message *m)
{
	uint64_t begin = harness_now_ns();
	int rc = ringbus_next(me->node, m, PATIENCE_NS);

	return rc == 0 && harness_now_ns() - begin >= PATIENCE_NS ? -ETIMEDOUT : rc;
}

static int64_t until(struct actor *me, const uint64_t argument[4])
{
	struct ringbus_message m;
	int rc;

	/* a life that never said anything still has its end told */
	for (unsigned i = 2; i < 4; i++)
		if (argument[i])
			seen_of(me, life_of((uint32_t)argument[i]));
	while (!is_over(me, argument)) {
		rc = next_in_time(me, &m);
		if (rc == -ETIMEDOUT)
			actor_fail(me,
				   "nothing comes any more: participants %#x, lives %u %u "
				   "(a wake-up, a message or a notice is lost)",
				   (unsigned)argument[0], (unsigned)argument[2],
				   (unsigned)argument[3]);
		actor_checked(me, rc, "ringbus_next");
		actor_got(me, &m);
	}
	return 0;
}

static int64_t drain(struct actor *me)
{
	struct ringbus_message m;
	int64_t n = 0;
	int rc;

	while ((rc = ringbus_next(me->node, &m, 0)) == 0) {
		actor_got(me, &m);
		n++;
	}
	if (rc != -EAGAIN)
		actor_checked(me, rc, "ringbus_next");
	return n;
}

static void take_signals(struct actor *me)
{
	uint64_t n;

	while (ringbus_signal_wait(me->node, &n, 0) == 0)
		me->signals += n;
	if (me->signals < word_get(&me->life->signals) ||
	    me->signals > word_get(&me->life->signals_tried))
		actor_fail(me, "%llu signals taken, %u accepted, %u tried",
			   (unsigned long long)me->signals, me->life->signals,
			   me->life->signals_tried);
}

static void send_signal(struct actor *me, unsigned to)
{
	uint32_t number = world->current[to];
	struct ringbus_address address = address_of(number);
	struct life *life = life_of(number);

	if (number == 0) /* killed just now */
		return;
	__atomic_fetch_add(&life->signals_tried, 1, __ATOMIC_SEQ_CST);
	actor_ok(me, ringbus_signal_address(me->node, &address));
	__atomic_fetch_add(&life->signals, 1, __ATOMIC_SEQ_CST);
}

static int64_t hold_round(struct actor *me, uint64_t argument[4])
{
	unsigned next = me->number;

	do
		next = (next + 1) % ACTORS;
	while (!(argument[0] >> next & 1));
	if (next != me->number)
		send_signal(me, next);
	post(me, POST_EMIT, 0, INLINE_BYTES, 0, PATIENCE_NS);
	post(me, POST_EMIT, 0, POOLED_BYTES, 0, PATIENCE_NS);
	post(me, POST_LOAN, 0, POOLED_BYTES / 2, 0, PATIENCE_NS);
	for (unsigned i = 0; i < ACTORS; i++) {
		if (i == me->number || !(argument[0] >> i & 1))
			continue;
		post(me, POST_CONTACT, i, POOLED_BYTES - 100 * me->number, 0, PATIENCE_NS);
		post(me, POST_CONTACT, i, INLINE_BYTES + 8 * me->number, argument[1], PATIENCE_NS);
	}
	until(me, argument);
	take_signals(me);
	return 0;
}

/* ---- commands ---- */

void actor_join(struct actor *me)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .timeout_ns = PATIENCE_NS,
					 .peer_notices = true,
					 .no_safety_wake = true};

	uint64_t end = harness_now_ns() + PATIENCE_NS;
	int rc;

	/* while there is no service, or the one that answered is dead */
	while ((rc = ringbus_node_open(&me->node, &o)) < 0 && harness_now_ns() < end)
		usleep(500);
	actor_checked(me, rc, "ringbus_node_open");
}

/* Others send to "all" once `current` names us, last. */
static int64_t join(struct actor *me)
{
	struct ringbus_event_options create = {.size = sizeof(create),
					       .mode = RINGBUS_MULTI_EMISSION,
					       .handler = on_message,
					       .user = me};
	struct ringbus_subscribe_options subscribe = {.size = sizeof(subscribe),
						      .handler = on_message,
						      .user = me};
	struct ringbus_address own;
	uint32_t number;

	if (!me->node)
		actor_join(me);
	actor_ok(me, ringbus_node_address(me->node, &own));
	actor_ok(me, ringbus_on_contact(me->node, on_message, me));
	number = __atomic_fetch_add(&world->next_life, 1, __ATOMIC_SEQ_CST);
	me->life = life_of(number);
	me->life->count = me->life->dead = me->life->signals = me->life->signals_tried = 0;
	me->life->actor = me->number;
	me->life->slot = own.slot;
	me->life->generation = own.generation;
	word_set(&me->life->number, number);
	for (unsigned i = 0; i < ACTORS; i++) {
		struct life *life = life_of(world->current[i]);

		if (world->current[i])
			seen_of(me, life)->next = life->count;
	}
	word_set(&world->joining[me->number], 1);
	if (me->number == ACTOR_A)
		actor_ok(me, ringbus_event_create(&me->event[NAME_ALL], me->node, "all", &create));
	else
		actor_ok(me, ringbus_subscribe(&me->event[NAME_ALL], me->node, "all", &subscribe));
	word_set(&world->current[me->number], number);
	word_set(&world->joining[me->number], 0);
	for (struct life *life = world->lives; life < &world->lives[LIVES]; life++)
		seen_of(me, life)->sure = life->count + 1; /* the one begun is not counted yet */
	return number;
}

static int64_t borrow_one(struct actor *me)
{
	struct ringbus_borrow *borrow;
	struct ringbus_message m;

	do {
		actor_ok(me, next_in_time(me, &m));
		actor_got(me, &m);
	} while (m.kind == RINGBUS_NOTICE || m.size < 600);
	actor_ok(me, ringbus_borrow(&m, &borrow));
	actor_keep(me, &m, borrow);
	return 0;
}

static int64_t release_all(struct actor *me)
{
	while (me->borrow_count > 0) {
		actor_compare_kept(me, --me->borrow_count);
		ringbus_release(me->borrows[me->borrow_count].borrow);
	}
	return 0;
}

static int64_t take_loans(struct actor *me, bool back)
{
	while (back && me->loan_count > 0)
		ringbus_loan_cancel(&me->loans[--me->loan_count]);
	while (!back && me->loan_count < LOANS &&
	       ringbus_loan(me->node, POOLED_BYTES, &me->loans[me->loan_count], 0) == 0)
		me->loan_count++;
	return me->loan_count;
}

static int64_t post_many(struct actor *me, const uint64_t argument[4])
{
	int64_t n = 0;

	while ((uint64_t)n < argument[3] &&
	       post(me, (enum how)argument[0], (unsigned)argument[1], argument[2], 0, 0) >= 0)
		n++;
	return n;
}

static int64_t change_event(struct actor *me, enum command command, const uint64_t argument[4])
{
	enum name name = (enum name)argument[0];
	struct ringbus_subscribe_options subscribe = {.size = sizeof(subscribe),
						      .handler = on_message,
						      .user = me};
	struct ringbus_event_options create = {.size = sizeof(create),
					       .mode = (enum ringbus_mode)argument[1],
					       .handler = on_message,
					       .user = me};

	switch (command) {
	case CMD_SUBSCRIBE:
		return actor_ok(me, ringbus_subscribe(&me->event[name], me->node,
						      actor_event_name(name), &subscribe));
	case CMD_UNSUBSCRIBE:
		return ringbus_unsubscribe(me->event[name]);
	case CMD_CREATE:
		return actor_ok(me, ringbus_event_create(&me->event[name], me->node,
							 actor_event_name(name), &create));
	default:
		return actor_ok(me, ringbus_event_dissolve(me->event[name]));
	}
}

static int64_t obey(struct actor *me, enum command command, uint64_t argument[4])
{
	switch (command) {
	case CMD_JOIN:
		return join(me);
	case CMD_ROUND:
		return hold_round(me, argument);
	case CMD_DRAIN:
		return drain(me);
	case CMD_UNTIL:
		return until(me, argument);
	case CMD_END:
		for (unsigned i = 0; i < ACTORS; i++)
			if (i != me->number && argument[0] >> i & 1)
				post(me, POST_CONTACT, i, INLINE_BYTES, argument[1], PATIENCE_NS);
		return 0;
	case CMD_POST:
		return post_many(me, argument);
	case CMD_BORROW:
		return borrow_one(me);
	case CMD_RELEASE:
		return release_all(me);
	case CMD_LOANS:
		return take_loans(me, argument[0] != 0);
	case CMD_SIGNAL:
		send_signal(me, (unsigned)argument[0]);
		return 0;
	case CMD_LEAVE:
		world->current[me->number] = 0;
		ringbus_node_close(me->node);
		me->node = NULL;
		return 0;
	case CMD_OP:
		operations[argument[0]].run(me);
		killat_mark(MARK_OVER);
		return 0;
	default:
		return change_event(me, command, argument);
	}
}

void actor_main(uint64_t number)
{
	static struct actor me;
	struct box *box = &world->box[number];
	uint32_t done = word_get(&box->done);

	me.number = (unsigned)number;
	close_range(3, ~0u, 0); /* what the controller has open is not to be counted */
	for (;;) {
		while (!word_wait_change(&box->asked, done, HARNESS_SECOND))
			;
		box->result = obey(&me, (enum command)box->command, box->argument);
		done = word_get(&box->asked);
		word_set(&box->done, done);
	}
}

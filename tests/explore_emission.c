/* explore_emission.c: scenarios of whole nodes for the schedule explorer: emissions to several,
 * pooled payloads, borrows, and what follows the deaths of senders and receivers. */
#include "explore_bus.h"
#include "send_pool.h"

#define POOLED_BYTES 60u
#define INLINE_BYTES 24u
#define LONG (40 * RB_SECOND)
#define EMITTER 1u
#define MOST 64u

/* What must have happened; private memory of the explorer. */
static struct story {
	struct ringbus_event *event[EX_PROCESSES];
	unsigned accepted[EX_PROCESSES];	  /* emissions or messages, by sender */
	unsigned begun, failed;			  /* of the emitter */
	unsigned got[EX_PROCESSES][EX_PROCESSES]; /* last sequence, by receiver and sender */
	unsigned first[EX_PROCESSES];		  /* sequence that a receiver began with */
	bool told[EX_PROCESSES];		  /* process 0 knows of its end */
	bool sent_all[EX_PROCESSES];
	unsigned done_before, begun_before; /* emissions before a subscription, and until it was */
	bool subscribed;
	bool warm;    /* the receivers knew of the sender from the start */
	bool borrows; /* receivers keep every second payload beyond its turn */
	struct ringbus_borrow *borrowed[EX_PROCESSES];
	unsigned kept[EX_PROCESSES]; /* sequence of that */
	unsigned lent;		     /* chunks of the emitter */
} * story;

/* ---- receiving ---- */

static unsigned sender_of(const struct ringbus_message *m)
{
	unsigned process = bus->owner[m->sender.slot][m->sender.generation % 8];

	ex_check(process < EX_PROCESSES, "a message of nobody: slot %u, generation %u",
		 m->sender.slot, m->sender.generation);
	return process;
}

/* Who came and went between two looks without a message is nobody. */
static bool is_known(unsigned process)
{
	return story->warm || story->got[0][process] > 0;
}

/* In order without gaps, from the first on. */
static void on_message(const struct ringbus_message *m, void *user)
{
	unsigned sender = sender_of(m), sequence = bus_sequence(m);
	unsigned *got = &story->got[ex.self][sender];

	if (*got == 0)
		*got = story->first[ex.self] ? sequence - 1 : 0;
	ex_check(sequence == *got + 1, "message %u of process %u after %u", sequence, sender, *got);
	ex_check(sequence > story->done_before || !story->first[ex.self],
		 "message %u was sent before the subscription", sequence);
	ex_check(ex.self != 0 || !story->told[sender],
		 "a message of process %u after its end was told", sender);
	ex_check(ex.self != 0 || sender != 3 || story->told[EMITTER] || !is_known(EMITTER),
		 "a message of the successor before the end of process %u was told", EMITTER);
	*got = sequence;
	if (!story->borrows || sequence % 2 == 0 || story->borrowed[ex.self])
		return;
	ex_check(ringbus_borrow(m, &story->borrowed[ex.self]) == 0, "cannot borrow");
	story->kept[ex.self] = sequence;
}

static void on_notice(const struct ringbus_message *m, void *user)
{
	unsigned process;

	if (ex.self != 0 || (m->notice != RINGBUS_PEER_DIED && m->notice != RINGBUS_PEER_LEFT))
		return;
	process = sender_of(m);
	ex_check(!story->told[process], "the end of process %u is told twice", process);
	ex_check(ex_is_dead(process), "process %u lives and is said to be dead", process);
	story->told[process] = true;
}

static void give_back(void)
{
	struct ringbus_borrow *b = story->borrowed[ex.self];
	struct ringbus_message m = {.kind = RINGBUS_CONTACT};

	if (!b)
		return;
	m.data = ringbus_borrow_data(b, &m.size);
	ex_check(bus_sequence(&m) == story->kept[ex.self], "a borrowed payload has changed");
	story->borrowed[ex.self] = NULL;
	ringbus_release(b);
}

static void receive(void)
{
	struct ringbus_node *node = bus_node();

	for (;;) {
		int n = dispatch_poll(node, 0);

		if (n == 0)
			dispatch_wait(node, UINT64_MAX);
		give_back();
	}
}

static const struct contact_target contacts = {.handler = on_message};

static struct ringbus_node *join(unsigned process)
{
	struct ringbus_node *node = bus_join(process);

	own_store(&node->on_contact, (uintptr_t)&contacts);
	node->on_notice = on_notice;
	return node;
}

/* ---- events ---- */

static void create_event(unsigned process)
{
	struct ringbus_node *node = bus->node[process];
	struct control_event entry;
	struct control c;

	bus->acting = process;
	ex_check(control_lock(&c, node->region, LONG) == 0, "no control lock");
	ex_check(control_event_create(&c, "e", 1, node->slot, node->generation, 0, false, 0,
				      &entry) == 0,
		 "no event");
	control_unlock(&c);
	story->event[process] = bus_event(node, entry.index, NULL);
}

static void subscribe(unsigned process)
{
	struct ringbus_node *node = bus->node[process];
	struct control_event entry;
	struct control c;

	bus->acting = process;
	story->event[process] = bus_event(node, 0, on_message);
	ex_check(control_lock(&c, node->region, LONG) == 0, "no control lock");
	ex_check(control_event_enter(&c, "e", 1, node->slot, &entry) == 0 && entry.index == 0,
		 "the event is not found");
	ex_check(control_event_subscribe(&c, &entry, node->slot, true, false) == 0,
		 "subscribing fails");
	control_unlock(&c);
}

static void emit_some(unsigned number, size_t bytes, uint64_t timeout_ns)
{
	unsigned self = ex_self();

	for (unsigned i = 0; i < number; i++) {
		int r;

		story->begun = story->accepted[self] + 1;
		r = bus_emit(story->event[self], story->begun, bytes, timeout_ns);
		ex_check(r >= 0 || (r == -EAGAIN && timeout_ns == 0), "emitting fails: %d", r);
		if (r < 0)
			story->failed++;
		else
			story->accepted[self]++;
	}
	story->sent_all[self] = true;
}

static void emit_three_pooled(void)
{
	emit_some(3, POOLED_BYTES, LONG);
}

static void emit_three(void)
{
	emit_some(3, INLINE_BYTES, 0);
}

static void prepare_nodes(unsigned number)
{
	bus_prepare();
	story = ex_private(sizeof(*story));
	for (unsigned i = 0; i < number; i++)
		join(i);
}

/* Node 1 emits to 0 and 2; all is warm, the pool too. */
static void prepare_event(void)
{
	prepare_nodes(3);
	create_event(EMITTER);
	subscribe(0);
	subscribe(2);
	bus_warm(EMITTER, 0);
	story->warm = true;
	bus_warm(EMITTER, 2);
}

/* All chunks but one are lent to the application. */
static void prepare_pool(void)
{
	struct ringbus_node *node;
	uint64_t id;

	prepare_event();
	node = bus->node[EMITTER];
	bus->acting = EMITTER;
	while (send_pool_take(node, POOLED_BYTES, &id) == 0)
		story->lent++;
	pool_drop(&node->pool, id);
	story->lent--;
	story->borrows = true;
}

/* The new owner of the pool would take those first that its predecessor took first. */
static void prepare_left_pool(void)
{
	uint64_t id;

	prepare_event();
	bus->acting = EMITTER;
	ex_check(send_pool_take(bus->node[EMITTER], POOLED_BYTES, &id) == 0, "no chunk");
	pool_drop(&bus->node[EMITTER]->pool, id);
	story->borrows = true;
}

static void check_delivered(unsigned sender, unsigned receiver)
{
	unsigned accepted = story->accepted[sender], got = story->got[receiver][sender];

	ex_check(ex_is_dead(sender) || story->sent_all[sender], "process %u never goes on", sender);
	if (!ex_is_dead(receiver))
		ex_check(got == accepted || (ex_is_dead(sender) && got == accepted + 1),
			 "of process %u's %u messages %u came to process %u", sender, accepted, got,
			 receiver);
}

/* Nobody reads or borrows any more: every chunk must come back. */
static void check_chunks(unsigned process)
{
	struct ringbus_node *node = bus->node[process];
	unsigned lent = process == EMITTER ? story->lent : 0, held = 0;

	for (uint32_t s = 0; s < BUS_NODES; s++)
		if (node->tx[s])
			send_pool_reclaim(node, node->tx[s]);
	pool_unpark(&node->pool, NULL);
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
		const struct pool_extent *e = &node->pool.extents[i];

		for (uint32_t c = 0; e->map && c < e->place.chunks; c++)
			held += !e->chunks[c].is_free;
	}
	ex_check(held == lent, "%u chunks of process %u are leaked", held - lent, process);
}

static void judge_event(void)
{
	check_delivered(EMITTER, 0);
	check_delivered(EMITTER, 2);
	check_chunks(EMITTER);
}

static void reap_0(void)
{
	bus_reap_after(0);
}

static void reap_1(void)
{
	bus_reap_after(1);
}

static const struct ex_scenario pool = {
	.name = "pool",
	.claim = "a chunk is not used again while unread or borrowed, and none is leaked",
	.bound = {2, 2, 2},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_pool,
	.run = {receive, emit_three_pooled, receive},
	.finish = judge_event,
	.may_block = true,
};

static const struct ex_scenario pool_receiver_dies = {
	.name = "pool_receiver_dies",
	.claim = "a receiver dies while it reads or borrows: its chunks come back",
	.mortal = 1u << 0,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_pool,
	.run = {receive, emit_three_pooled, receive, reap_0},
	.finish = judge_event,
	.may_block = true,
};

/* ---- a new owner of the sender's slot ---- */

static bool slot_0_is_free(void)
{
	return slot_state(atomic_load(&bus->region[0].bells[0].slot.v)) == SLOT_FREE;
}

static bool slot_1_is_free(void)
{
	return slot_state(atomic_load(&bus->region[0].bells[1].slot.v)) == SLOT_FREE;
}

static void contact_some(unsigned number, size_t bytes)
{
	unsigned self = ex_self();

	for (unsigned i = 0; i < number; i++) {
		int r = bus_contact(0, story->accepted[self] + 1, bytes, LONG);

		ex_check(r == 0, "sending fails: %d", r);
		story->accepted[self]++;
	}
	story->sent_all[self] = true;
}

static void contact_two_pooled(void)
{
	contact_some(2, POOLED_BYTES);
}

static void contact_two(void)
{
	contact_some(2, 8);
}

static void succeed_pooled(void)
{
	ex_await(slot_1_is_free);
	join(ex_self());
	contact_some(2, POOLED_BYTES);
}

static void succeed(void)
{
	ex_await(slot_1_is_free);
	join(ex_self());
	contact_some(1, 8);
}

static void judge_successor_of(bool mortal)
{
	check_delivered(EMITTER, 0);
	if (!ex_is_dead(EMITTER))
		return;
	check_delivered(3, 0);
	ex_check(story->told[EMITTER] || !is_known(EMITTER), "the end of process %u is not told",
		 EMITTER);
	if (!mortal)
		check_chunks(3);
	else if (ex_is_dead(3) && story->got[0][3] > 0)
		ex_check(story->told[3], "the end of the successor is not told");
}

static void judge_successor(void)
{
	judge_successor_of(false);
}

static const struct ex_scenario pool_sender_dies = {
	.name = "pool_sender_dies",
	.claim = "the new owner of a pool rebuilds what is in use: nothing unread is overwritten",
	.mortal = 1u << EMITTER,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_left_pool,
	.run = {receive, contact_two_pooled, NULL, succeed_pooled, reap_1},
	.finish = judge_successor,
	.may_block = true,
};

static void prepare_contact(void)
{
	prepare_nodes(2);
	bus_warm(EMITTER, 0);
	story->warm = true;
}

static const struct ex_scenario notices = {
	.name = "notices",
	.claim = "the end of a peer is told once, after its last and before its successor's first",
	.mortal = 1u << EMITTER,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_contact,
	.run = {receive, contact_two, NULL, succeed, reap_1},
	.finish = judge_successor,
	.may_block = true,
};

static void prepare_first_contact(void)
{
	prepare_nodes(2);
}

static const struct ex_scenario notices_pairing = {
	.name = "notices_pairing",
	.claim = "as before, where the dead had just made its ring",
	.mortal = 1u << EMITTER,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 30000,
	.drawn = 10000,
	.prepare = prepare_first_contact,
	.run = {receive, contact_two, NULL, succeed, reap_1},
	.finish = judge_successor,
	.may_block = true,
};

/* Node 0 has sent to it too, which is another way to know of it. */
static void prepare_partners(void)
{
	prepare_contact();
	bus_warm(0, EMITTER);
}

static void reap_3(void)
{
	bus_reap_after(3);
}

static void judge_partners(void)
{
	judge_successor_of(true);
}

static const struct ex_scenario notices_partner = {
	.name = "notices_partner",
	.claim = "two owners of a slot die one after the other: each is told once",
	.mortal = 1u << EMITTER | 1u << 3,
	.deaths = 2,
	.bound = {1, 1, 1},
	.most = 30000,
	.drawn = 20000,
	.prepare = prepare_partners,
	.run = {receive, contact_two, reap_3, succeed, reap_1},
	.finish = judge_partners,
	.may_block = true,
};

/* ---- a new owner of the receiver's slot ---- */

static void subscribe_later(void)
{
	ex_await(slot_0_is_free);
	join(ex_self());
	story->first[ex_self()] = 1;
	story->done_before = story->accepted[EMITTER];
	subscribe(ex_self());
	story->begun_before = story->begun;
	story->subscribed = true;
	receive();
}

static void judge_newcomer(void)
{
	check_delivered(EMITTER, 0);
	check_delivered(EMITTER, 2);
	/* with old values the emitter may see the subscription later than the explorer does */
	if (story->subscribed && story->begun_before < story->accepted[EMITTER] &&
	    ex.model != EX_WEAK)
		ex_check(story->got[3][EMITTER] == story->accepted[EMITTER],
			 "the newcomer got %u last, not %u", story->got[3][EMITTER],
			 story->accepted[EMITTER]);
}

static const struct ex_scenario owner_changes = {
	.name = "emission_owner_changes",
	.claim = "an emission meets a new owner of a slot: no message from before its subscription",
	.mortal = 1u << 0,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 40000,
	.drawn = 40000,
	.prepare = prepare_event,
	.run = {receive, emit_three, receive, subscribe_later, reap_0},
	.finish = judge_newcomer,
	.may_block = true,
};

static void reap_again(void)
{
	if (ex_await_death(4))
		control_reap_all(&bus->region[ex_self()], rb_deadline_ns(LONG));
}

static const struct ex_scenario reaper_dies = {
	.name = "emission_reaper_dies",
	.claim = "as before, and the reaper dies anywhere: the next one completes its work",
	.mortal = 1u << 0 | 1u << 4,
	.deaths = 2,
	.bound = {1, 1, 1},
	.most = 40000,
	.drawn = 40000,
	.prepare = prepare_event,
	.run = {receive, emit_three, receive, subscribe_later, reap_0, reap_again},
	.finish = judge_newcomer,
	.may_block = true,
};

/* ---- modes ---- */

/* One more emission that wakes somebody, and it becomes FENCED. Node 2 is asleep and stays so. */
static void prepare_mode(void)
{
	struct ringbus_node *node;

	prepare_event();
	node = bus->node[EMITTER];
	node->membarrier = node->unfenced = true;
	node->asleep_score = 1;
	shm_store_release(&node->own->mode, NODE_MODE_UNFENCED);
	shm_store_release(&bus->node[2]->bell->inbox, 1u << 2 | BELL_ASLEEP);
}

static void judge_mode(void)
{
	check_delivered(EMITTER, 0);
}

/* Nothing comes after it that would wake the one that is slept over. */
static void emit_one(void)
{
	emit_some(1, INLINE_BYTES, 0);
}

static const struct ex_scenario mode = {
	.name = "emission_mode",
	.claim = "an emitter becomes FENCED because of one receiver: the other sleeps over nothing",
	.bound = {3, 4, 4},
	.most = 150000,
	.drawn = 20000,
	.prepare = prepare_mode,
	.run = {receive, emit_one},
	.finish = judge_mode,
	.may_block = true,
};

/* ---- all or nothing ---- */

static void prepare_full(void)
{
	prepare_event();
	bus->acting = EMITTER;
	while (bus_contact(bus->node[0]->slot, story->accepted[EMITTER] + 1, INLINE_BYTES, 0) == 0)
		story->got[2][EMITTER] = ++story->accepted[EMITTER];
}

static void emit_five(void)
{
	emit_some(5, INLINE_BYTES, 0);
}

static void judge_all_or_nothing(void)
{
	check_delivered(EMITTER, 0);
	check_delivered(EMITTER, 2);
}

static const struct ex_scenario all_or_nothing = {
	.name = "emission_full",
	.claim = "an emission that one receiver has no room for reaches nobody",
	.bound = {2, 2, 2},
	.most = 20000,
	.drawn = 8000,
	.prepare = prepare_full,
	.run = {receive, emit_five, receive},
	.finish = judge_all_or_nothing,
	.may_block = true,
};

const struct ex_scenario *const ex_emission_scenarios[] = {
	&pool,
	&pool_receiver_dies,
	&pool_sender_dies,
	&notices,
	&notices_pairing,
	&notices_partner,
	&owner_changes,
	&reaper_dies,
	&mode,
	&all_or_nothing,
	NULL,
};

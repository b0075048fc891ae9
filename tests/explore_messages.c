/* explore_messages.c: scenarios of whole nodes for the schedule explorer: doorbells, room, pool,
 * signals, changes of owner. */
#include "explore_bus.h"
#include "send_pool.h"

#define INLINE_BYTES 24u
#define POOLED_BYTES 60u
#define LONG (40 * RB_SECOND)

/* What must have happened; private memory of the explorer. */
static struct story {
	unsigned accepted[EX_PROCESSES][EX_PROCESSES]; /* by sender and receiver */
	unsigned got[EX_PROCESSES][EX_PROCESSES];      /* by receiver and sender */
	unsigned first[EX_PROCESSES];		       /* sequence of its first message, less 1 */
	bool told[EX_PROCESSES][EX_PROCESSES];	       /* the receiver knows of the sender's end */
	unsigned signals, counted, wrong;
	bool sent_all[EX_PROCESSES];
	bool gone; /* the old owner's slot is free */
	struct ringbus_event *event[EX_PROCESSES];
	unsigned done_before;  /* emissions that had ended when the newcomer began to subscribe */
	unsigned begun_before; /* those that had begun when it had subscribed */
	unsigned begun, done, newest;
	bool subscribed;
	struct ringbus_borrow *borrowed;
	unsigned borrows;
} * story;

static unsigned sender_of(const struct ringbus_message *m)
{
	unsigned process = bus->owner[m->sender.slot][m->sender.generation % 8];

	ex_check(process < EX_PROCESSES, "a message of nobody: slot %u, generation %u",
		 m->sender.slot, m->sender.generation);
	return process;
}

/* Sequences of a pair count from 1. */
static void on_contact(const struct ringbus_message *m, void *user)
{
	unsigned sender = sender_of(m), sequence = bus_sequence(m);
	unsigned *got = &story->got[ex.self][sender];

	ex_check(sequence == *got + 1, "message %u of process %u after %u", sequence, sender, *got);
	ex_check(!story->told[ex.self][sender], "a message of process %u after its end was told",
		 sender);
	++*got;
}

static void on_notice(const struct ringbus_message *m, void *user)
{
	unsigned process;

	if (m->notice != RINGBUS_PEER_DIED && m->notice != RINGBUS_PEER_LEFT)
		return;
	process = sender_of(m);
	ex_check(!story->told[ex.self][process], "the end of process %u is told twice", process);
	ex_check(ex_is_dead(process), "process %u lives and is said to be dead", process);
	story->told[ex.self][process] = true;
}

static const struct contact_target contacts = {.handler = on_contact};

static struct ringbus_node *join(unsigned process)
{
	struct ringbus_node *node = bus_join(process);

	own_store(&node->on_contact, (uintptr_t)&contacts);
	node->on_notice = on_notice;
	return node;
}

static void prepare_nodes(unsigned number)
{
	bus_prepare();
	story = ex_private(sizeof(*story));
	for (unsigned i = 0; i < number; i++)
		join(i);
}

static void send_some(unsigned receiver, unsigned number, size_t bytes, uint64_t timeout_ns)
{
	unsigned *accepted = &story->accepted[ex_self()][receiver];

	for (unsigned i = 0; i < number; i++) {
		int r = bus_contact(bus->node[receiver]->slot, *accepted + 1, bytes, timeout_ns);

		if (r == -ESRCH && ex_is_dead(receiver))
			break;
		ex_check(r == 0, "sending fails: %d", r);
		++*accepted;
	}
	story->sent_all[ex_self()] = true;
}

/* Nobody who lives has a message before him that he has not read, or a notice, or a signal. */
static void check_rings(unsigned receiver)
{
	struct ringbus_node *node = bus->node[receiver];

	if (ex_is_dead(receiver) || !node)
		return;
	for (uint32_t s = 0; s < BUS_NODES; s++) {
		uint64_t offset = shm_load_relaxed(&node->region->nodes[s].ring[node->slot]);
		const struct layout_ring_rx *rx;
		const struct shm_word *header;

		if (offset == 0 || s == node->slot)
			continue;
		rx = (void *)(ex_shared + offset + RB_PAGE + BUS_RING);
		header = (void *)(ex_shared + offset + RB_PAGE +
				  (shm_load_relaxed(&rx->head) & (BUS_RING - 1)));
		ex_check(shm_load_relaxed(header) == 0,
			 "process %u sleeps before a message of "
			 "slot %u",
			 receiver, s);
	}
	ex_check((uint32_t)shm_load_relaxed(&node->bell->signal) == 0,
		 "process %u sleeps before a signal", receiver);
}

static void check_pair(unsigned sender, unsigned receiver)
{
	unsigned accepted = story->accepted[sender][receiver], got = story->got[receiver][sender];

	ex_check(ex_is_dead(sender) || story->sent_all[sender], "process %u never goes on", sender);
	if (!ex_is_dead(receiver))
		ex_check(got == accepted || (ex_is_dead(sender) && got == accepted + 1),
			 "of process %u's %u messages %u were delivered", sender, accepted, got);
}

/* ---- doorbells ---- */

static void send_two(void)
{
	send_some(0, 2, 8, 0);
}

static void send_three(void)
{
	send_some(0, 3, 8, 0);
}

static void reap_1(void)
{
	bus_reap_after(1);
}

static void prepare_pair(void)
{
	prepare_nodes(2);
	bus_warm(1, 0);
}

static void prepare_three(void)
{
	prepare_nodes(3);
	bus_warm(1, 0);
	bus_warm(2, 0);
}

static void prepare_strangers(void)
{
	prepare_nodes(2);
}

static void make_unfenced(unsigned process)
{
	struct ringbus_node *node = bus->node[process];

	node->membarrier = true;
	shm_store_release(&node->own->mode, NODE_MODE_UNFENCED);
	node->unfenced = true;
}

static void prepare_unfenced(void)
{
	prepare_three();
	make_unfenced(1);
	bus->node[2]->awake_streak = 62; /* becomes UNFENCED after two that wake nobody */
}

static void prepare_strangers_unfenced(void)
{
	prepare_nodes(2);
	make_unfenced(1);
}

static void judge_0_from_1(void)
{
	check_pair(1, 0);
	check_rings(0);
}

static void judge_0_from_both(void)
{
	check_pair(2, 0);
	judge_0_from_1();
}

static const struct ex_scenario bell = {
	.name = "bell",
	.claim = "a sleeper and a waker: no wake-up is lost",
	.bound = {3, 3, 3},
	.most = 30000,
	.drawn = 10000,
	.prepare = prepare_pair,
	.run = {bus_receive, send_three},
	.finish = judge_0_from_1,
	.may_block = true,
};

static const struct ex_scenario bell_two = {
	.name = "bell_two_wakers",
	.claim = "a sleeper and two wakers: no wake-up is lost",
	.bound = {2, 2, 2},
	.most = 30000,
	.drawn = 10000,
	.prepare = prepare_three,
	.run = {bus_receive, send_two, send_two},
	.finish = judge_0_from_both,
	.may_block = true,
};

static const struct ex_scenario bell_unfenced = {
	.name = "bell_unfenced",
	.claim = "senders without fences, changing their modes: membarrier in the sleeper serves",
	.bound = {2, 3, 3},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_unfenced,
	.run = {bus_receive, send_three, send_three},
	.finish = judge_0_from_both,
	.may_block = true,
};

static const struct ex_scenario bell_waker_dies = {
	.name = "bell_waker_dies",
	.claim = "a waker dies between publishing, marking and waking: the reaper rings",
	.mortal = 1u << 1,
	.deaths = 1,
	.bound = {2, 1, 1},
	.most = 30000,
	.drawn = 15000,
	.prepare = prepare_three,
	.run = {bus_receive, send_two, send_two, reap_1},
	.finish = judge_0_from_both,
	.may_block = true,
};

/* Nobody reaps: stopped, not dead. Its own messages may wait, nobody else's. */
static void judge_0_from_2(void)
{
	check_pair(2, 0);
}

static const struct ex_scenario bell_waker_stops = {
	.name = "bell_waker_stops",
	.claim = "a waker is stopped anywhere for good: the others wake the sleeper all the same",
	.mortal = 1u << 1,
	.deaths = 1,
	.bound = {2, 1, 1},
	.most = 75000,
	.drawn = 15000,
	.prepare = prepare_three,
	.run = {bus_receive, send_two, send_two},
	.finish = judge_0_from_2,
	.may_block = true,
};

static const struct ex_scenario pairing = {
	.name = "pairing",
	.claim = "a first message makes the ring and is not missed by the sleeper",
	.bound = {2, 2, 2},
	.most = 20000,
	.drawn = 6000,
	.prepare = prepare_strangers,
	.run = {bus_receive, send_two},
	.finish = judge_0_from_1,
	.may_block = true,
};

static const struct ex_scenario pairing_unfenced = {
	.name = "pairing_unfenced",
	.claim = "as before, by a sender that does not fence",
	.bound = {2, 3, 3},
	.most = 40000,
	.drawn = 20000,
	.prepare = prepare_strangers_unfenced,
	.run = {bus_receive, send_two},
	.finish = judge_0_from_1,
	.may_block = true,
};

static const struct ex_scenario pairing_dies = {
	.name = "pairing_dies",
	.claim = "as before, and it dies anywhere",
	.mortal = 1u << 1,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 20000,
	.drawn = 6000,
	.prepare = prepare_strangers_unfenced,
	.run = {bus_receive, send_two, reap_1},
	.finish = judge_0_from_1,
	.may_block = true,
};

/* ---- room ---- */

static void prepare_full(void)
{
	prepare_pair();
	bus->acting = 1;
	while (bus_contact(0, story->accepted[1][0] + 1, INLINE_BYTES, 0) == 0)
		story->accepted[1][0]++;
}

static void send_waiting(void)
{
	send_some(0, 3, INLINE_BYTES, LONG);
}

static void receive_until(unsigned number)
{
	struct ringbus_node *node = bus_node();

	for (unsigned i = 0; i < number; i++)
		dispatch_poll(node, 3);
	bus_receive();
}

static void receive_by_three(void)
{
	receive_until(3);
}

static void reap_0(void)
{
	bus_reap_after(0);
}

static const struct ex_scenario room = {
	.name = "room",
	.claim = "a sender that waits for room is woken when the receiver gives it back",
	.bound = {2, 2, 2},
	.most = 20000,
	.drawn = 8000,
	.prepare = prepare_full,
	.run = {receive_by_three, send_waiting},
	.finish = judge_0_from_1,
	.may_block = true,
};

static const struct ex_scenario room_dead = {
	.name = "room_receiver_dies",
	.claim = "who waits for room at a node that dies goes on",
	.mortal = 1u << 0,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 20000,
	.drawn = 8000,
	.prepare = prepare_full,
	.run = {receive_by_three, send_waiting, reap_0},
	.finish = judge_0_from_1,
	.may_block = true,
};

/* ---- signals ---- */

static void on_signal(uint64_t count, void *user)
{
	story->counted += (unsigned)count;
}

static const struct signal_target counting = {.handler = on_signal};

static void handle_signals(struct ringbus_node *node, const struct signal_target *target)
{
	own_store(&node->on_signal, (uintptr_t)target);
}

static void signal_0(unsigned generation)
{
	struct ringbus_address to = {.slot = 0, .generation = generation};

	for (unsigned i = 0; i < 2; i++)
		if (ringbus_signal_address(bus_node(), &to) == 0)
			story->signals++;
		else
			story->wrong++;
}

static void signal_any(void)
{
	signal_0(0);
}

static void signal_first(void)
{
	signal_0(1);
}

static void prepare_signals(void)
{
	prepare_three();
	handle_signals(bus->node[0], &counting);
}

static void judge_signals(void)
{
	ex_check(story->wrong == 0 && story->signals == 4, "signals are refused");
	ex_check(story->counted == story->signals, "of %u signals %u were counted", story->signals,
		 story->counted);
	check_rings(0);
}

static const struct ex_scenario signals = {
	.name = "signals",
	.claim = "every signal is counted once, and none is slept over",
	.bound = {2, 2, 2},
	.most = 20000,
	.drawn = 8000,
	.prepare = prepare_signals,
	.run = {bus_receive, signal_any, signal_any},
	.finish = judge_signals,
	.may_block = true,
};

static void on_wrong_signal(uint64_t count, void *user)
{
	ex_fail("%u signals for the owner before", (unsigned)count);
}

/* Waits until the slot is free, takes it, receives. */
static bool slot_0_is_free(void)
{
	return slot_state(atomic_load(&bus->region[0].bells[0].slot.v)) == SLOT_FREE;
}

static const struct signal_target complaining = {.handler = on_wrong_signal};

static void join_after(void)
{
	ex_await(slot_0_is_free);
	handle_signals(join(ex_self()), &complaining);
	bus_receive();
}

static void judge_reuse(void)
{
	check_rings(0);
	check_rings(3);
}

static const struct ex_scenario signals_reuse = {
	.name = "signals_reuse",
	.claim = "a signal for an owner that died is not counted by its successor",
	.mortal = 1u << 0,
	.deaths = 1,
	.bound = {1, 1, 1},
	.most = 20000,
	.drawn = 8000,
	.prepare = prepare_signals,
	.run = {bus_receive, signal_first, reap_0, join_after},
	.finish = judge_reuse,
	.may_block = true,
};

const struct ex_scenario *const ex_bus_scenarios[] = {
	&bell,
	&bell_two,
	&bell_unfenced,
	&bell_waker_dies,
	&bell_waker_stops,
	&pairing,
	&pairing_unfenced,
	&pairing_dies,
	&room,
	&room_dead,
	&signals,
	&signals_reuse,
	NULL,
};

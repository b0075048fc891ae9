/* stress_kill.c: random SIGKILL of senders and receivers under traffic: whoever lives gets all that
 * was accepted.
 *
 * KILL_SEED replays a run, KILL_ROUNDS is its length; KILL_BUSES runs make the program (10), each
 * on a bus of its own and with the next seed. Each incarnation of a sender writes, outside the
 * region, how many of its emissions returned success: each stable receiver must have had that many
 * of it, or one more (killed between the emission and the note), intact and in order, and all of
 * them before the notice of its end. The notice must come, once, to whoever was told that it
 * joined or had a message of it (faster changes of one slot coalesce), and before any message of
 * the next owner of its slot.
 */
#include "harness.h"

enum {
	JOINED,
	STOP,
	FINISH,
	ADDRESS = 64,
	ACCEPTED = 1088,
	DIED = 2112,
	SEEN = 3200,
	CHECKED = 3300
};

#define INCARNATIONS 1024
#define STABLE 2
#define SLOTS 10u

static const struct mix mix = {.pooled_per_mille = 20, .max = 100000};

static void sender_main(uint64_t incarnation)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_subscribe_options o = {.size = sizeof(o), .emit_only = true};
	uint8_t *data = malloc(PAYLOAD_MAX);
	struct ringbus_address own;
	struct ringbus_event *event;

	child_ok(ringbus_node_address(node, &own));
	flag_set(ADDRESS + (unsigned)incarnation, (uint64_t)own.slot << 32 | own.generation);
	child_ok(ringbus_subscribe(&event, node, "load", &o));
	for (uint64_t i = 0; !flag_get(STOP); i++) {
		size_t size = payload_size(&mix, incarnation, i);

		payload_fill(data, size, incarnation, i);
		child_ok(ringbus_emit(event, data, size, RINGBUS_SEND_MAX_NS));
		flag_set(ACCEPTED + (unsigned)incarnation, i + 1);
	}
	ringbus_node_close(node);
	free(data);
}

static unsigned incarnation_of(const struct ringbus_address *address)
{
	for (unsigned i = INCARNATIONS; i-- > 0;)
		if (flag_get(ADDRESS + i) == ((uint64_t)address->slot << 32 | address->generation))
			return i;
	return INCARNATIONS;
}

static void check_message(const struct ringbus_message *m, unsigned incarnation, uint64_t sequence)
{
	child_check(m->lost == 0);
	child_check(m->size == payload_size(&mix, incarnation, sequence));
	child_check(payload_matches(m->data, m->size, incarnation, sequence));
}

static void check_accepted(unsigned incarnation, uint64_t got)
{
	uint64_t accepted = flag_get(ACCEPTED + incarnation);

	child_check(got >= accepted);
	child_check(got <= accepted + 1);
}

/* Lets the rings fill, so that the dead leave many unread messages. */
static void fall_behind(void)
{
	for (int i = 0; i < 25; i++)
		pause_briefly();
}

static void stable_main(uint64_t index)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};
	struct ringbus_node *node = child_node(&o);
	static uint64_t got[INCARNATIONS];
	static bool dead[INCARNATIONS];
	unsigned who, owner[SLOTS]; /* whose message came last from each slot */
	struct ringbus_event *event;
	struct ringbus_message m;
	uint64_t total = 0;
	int rc;

	memset(owner, 0xff, sizeof(owner));
	child_ok(ringbus_subscribe(&event, node, "load", NULL));
	flag_add(JOINED, 1);
	for (;;) {
		rc = ringbus_next(node, &m, flag_get(FINISH) ? 0 : 20 * HARNESS_MS);
		if (rc == -EAGAIN)
			break;
		if (rc == -ETIMEDOUT)
			continue;
		child_ok(rc);
		who = incarnation_of(&m.sender);
		if (m.kind == RINGBUS_NOTICE) {
			if (m.notice == RINGBUS_PEER_JOINED)
				flag_set(SEEN + (unsigned)index * SLOTS + m.sender.slot,
					 m.sender.generation);
			if ((m.notice != RINGBUS_PEER_DIED && m.notice != RINGBUS_PEER_LEFT) ||
			    who == INCARNATIONS)
				continue;
			check_accepted(who, got[who]);
			flag_add(CHECKED, got[who]);
			child_check(!dead[who]);
			dead[who] = true;
			flag_add(DIED + who, m.notice == RINGBUS_PEER_DIED);
			continue;
		}
		child_check(who < INCARNATIONS && !dead[who]);
		if (owner[m.sender.slot] != who) {
			child_check(owner[m.sender.slot] > INCARNATIONS ||
				    dead[owner[m.sender.slot]]);
			owner[m.sender.slot] = who;
		}
		check_message(&m, who, got[who]++);
		if (index == 1 && ++total % 2000 == 0)
			fall_behind();
	}
	for (unsigned i = 0; i < INCARNATIONS; i++) {
		check_accepted(i, got[i]);
		child_check(got[i] == 0 || dead[i]);
	}
	ringbus_node_close(node);
}

/* One more than the sequence of a sender's first message here; 0 if it is too short to tell. */
static uint64_t first_sequence(const struct ringbus_message *m, unsigned who)
{
	if (m->size < 16)
		return 0;
	for (uint64_t i = 0; i <= flag_get(ACCEPTED + who) + 1; i++)
		if (m->size == payload_size(&mix, who, i) &&
		    payload_matches(m->data, m->size, who, i))
			return i + 1;
	harness_child_fail("a damaged message", 0, __FILE__, __LINE__);
}

/* A receiver that will be killed: in order and intact from the first message that it sees of each
 * sender. */
static void victim_main(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	static uint64_t next[INCARNATIONS];
	struct ringbus_event *event;
	struct ringbus_message m;
	unsigned who;

	child_ok(ringbus_subscribe(&event, node, "load", NULL));
	while (!flag_get(STOP)) {
		int rc = ringbus_next(node, &m, 20 * HARNESS_MS);

		if (rc == -ETIMEDOUT)
			continue;
		child_ok(rc);
		if (m.kind == RINGBUS_NOTICE)
			continue;
		who = incarnation_of(&m.sender);
		child_check(who < INCARNATIONS);
		if (next[who] == 0)
			next[who] = first_sequence(&m, who);
		else
			check_message(&m, who, next[who]++);
	}
	ringbus_node_close(node);
}

struct cast {
	pid_t sender[3];
	unsigned incarnation[3];
	pid_t victim[2];
	unsigned next;
};

/* Lets the others make some progress: until a sender has had `more` accepted than now, or a child
 * has failed. */
static void let_run(const struct cast *cast, unsigned who, uint64_t more)
{
	unsigned word = ACCEPTED + cast->incarnation[who];

	flag_wait(word, flag_get(word) + more);
}

static void new_sender(struct cast *cast, unsigned who)
{
	cast->incarnation[who] = cast->next++;
	cast->sender[who] = child_start(sender_main, cast->incarnation[who]);
}

/* Kills a sender; on request waits until those that saw it join are told of its death. */
static void kill_sender(struct cast *cast, unsigned who, bool wait_for_notice)
{
	uint64_t address = flag_get(ADDRESS + cast->incarnation[who]), told = 0;

	for (unsigned i = 0; address && i < STABLE; i++)
		told += flag_get(SEEN + i * SLOTS + (unsigned)(address >> 32)) ==
			(address & UINT32_MAX);
	child_kill(cast->sender[who]);
	if (wait_for_notice)
		flag_wait(DIED + cast->incarnation[who], told);
	new_sender(cast, who);
}

/* How many were killed. */
static unsigned one_bus(uint64_t seed, unsigned rounds)
{
	struct ringbus_event_options o = {.size = sizeof(o), .mode = RINGBUS_MULTI_EMISSION};
	struct bus_spec spec = {.nodes = SLOTS};
	struct cast cast = {.next = 0};
	uint64_t random = seed;
	struct ringbus_event *event;
	struct ringbus_node *node;
	unsigned kills = 0;

	watchdog(300);
	bus_serve(&spec);
	node = node_open();
	ok(ringbus_event_create(&event, node, "load", &o));
	for (unsigned i = 0; i < STABLE; i++)
		child_start(stable_main, i);
	flag_wait(JOINED, STABLE);
	for (unsigned i = 0; i < 3; i++)
		new_sender(&cast, i);
	for (unsigned i = 0; i < 2; i++)
		cast.victim[i] = child_start(victim_main, i);
	for (; kills < rounds && cast.next < INCARNATIONS - 4; kills++) {
		uint64_t dice = splitmix(&random);

		if (dice & 4)
			let_run(&cast, (unsigned)(dice >> 8) % 3, (dice >> 16) % 300);
		if (dice & 1) {
			kill_sender(&cast, (unsigned)(dice >> 32) % 3, dice & 2);
		} else {
			unsigned v = (unsigned)(dice >> 40) % 2;

			child_kill(cast.victim[v]);
			cast.victim[v] = child_start(victim_main, v);
		}
	}
	flag_set(STOP, 1);
	for (unsigned i = 0; i < 3; i++)
		child_join(cast.sender[i]);
	for (unsigned i = 0; i < 2; i++)
		child_join(cast.victim[i]);
	/* until the killed are buried, so that their ends can be told */
	while (event_info(event).members > 1 + STABLE)
		pause_briefly();
	flag_set(FINISH, 1);
	child_join_all();
	node_close(node);
	return kills;
}

/* Words of the last bus; what was counted stays. */
static void clear_flags(void)
{
	for (unsigned i = 0; i < CHECKED; i++)
		flag_set(i, 0);
}

static void killed_senders_and_receivers_cost_the_others_nothing(void **state)
{
	uint64_t seed = harness_number("KILL_SEED", harness_now_ns() & 0xffffffff);
	uint64_t buses = harness_number("KILL_BUSES", getenv("KILL_SEED") ? 1 : 10);
	unsigned rounds = (unsigned)harness_number("KILL_ROUNDS", 150), kills = 0;

	for (uint64_t i = 0; i < buses; i++) {
		print_message("replay: KILL_SEED=%llu KILL_ROUNDS=%u\n",
			      (unsigned long long)(seed + i), rounds);
		clear_flags();
		kills += one_bus(seed + i, rounds);
		bus_check();
		bus_stop();
	}
	ledger("kills-at-random", kills);
	ledger("messages-checked", (double)flag_get(CHECKED));
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(killed_senders_and_receivers_cost_the_others_nothing),
};

HARNESS_MAIN("stress_kill", tests)

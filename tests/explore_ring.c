/* explore_ring.c: scenarios of one ring for the schedule explorer: lib/ring.* alone. */
#include "explore.h"
#include "ring.h"

#define CAPACITY 256u
#define MOST_SENT 10u
#define SENT_BY_A 8u
#define SENT_BY_B 2u
#define LAST_OF_B 100u /* sequences of the successor begin here */

struct pair {
	struct layout_ring_tx tx;
	_Alignas(64) uint8_t data[CAPACITY];
	struct layout_ring_rx rx;
	_Alignas(64) struct shm_word slot; /* generation of the receiver */
};

enum { A, R, B, S, SPOILER };

/* What the explorer knows; private memory, as is all that is not struct pair. */
static struct story {
	struct ring_tx tx[2];
	struct ring_rx rx[2];
	unsigned accepted[2];	 /* by sender */
	unsigned to_old, to_new; /* accepted for each receiver, from A */
	unsigned of_old;	 /* sequence of the first one for the new receiver */
	unsigned got[2][2];	 /* receiver, sender */
	unsigned next[2][2];
	unsigned generation;
	bool alike;	    /* all records are of one size */
	unsigned questions; /* that receivers asked */
	bool healed;
} * story;

static struct pair *pair(void)
{
	return (void *)ex_shared;
}

/* 40 bytes make records of 64: four fill the ring but for the spare word. */
static unsigned size_of(unsigned sequence)
{
	static const unsigned sizes[] = {56, 40, 9, 32, 32, 56, 1};

	return story->alike ? 40 : sizes[sequence % rb_array_size(sizes)];
}

static void fill(uint8_t *bytes, unsigned sequence)
{
	for (unsigned i = 0; i < size_of(sequence); i++)
		bytes[i] = (uint8_t)(sequence * 37 + i + 1);
}

/* Positions begin a little before they wrap, and not at the start of the ring. */
static void prepare_at(uint64_t start)
{
	struct pair *p = pair();

	shm_store_relaxed(&p->tx.hint, start);
	shm_store_relaxed(&p->rx.head, start);
	shm_store_relaxed(&p->tx.start, start);
	shm_store_relaxed(&p->rx.position, start);
	shm_store_relaxed(&p->slot, 1);
	ex_data(p->data, sizeof(p->data));
	ex_quiet(&p->tx.drops, 64);
	ex_quiet(&p->tx.starts, sizeof(p->tx.starts));
	ex_quiet(&p->rx.messages, 64);
	story = ex_private(sizeof(*story));
	ring_tx_init(&story->tx[0], &p->tx, p->data, &p->rx, CAPACITY, 1);
	ring_rx_init(&story->rx[0], &p->tx, p->data, &p->rx, CAPACITY, true);
	story->generation = 1;
}

static void prepare(void)
{
	prepare_at((uint64_t)-96);
}

static void prepare_alike(void)
{
	prepare_at((uint64_t)-128);
	story->alike = true;
}

/* False: no room now. */
static bool try_send(struct ring_tx *tx, unsigned sequence, uint64_t generation)
{
	uint64_t bytes = ring_record_bytes(size_of(sequence), 0);
	uint8_t payload[192];
	struct shm_word *w;

	if (!ring_tx_ready(tx) || !ring_tx_room(tx, bytes))
		return false;
	fill(payload, sequence);
	w = ring_tx_reserve(tx, bytes);
	shm_store_relaxed(w, generation << 32 | (tx == &story->tx[0] ? 1 : 2));
	shm_store_relaxed(w + 1, sequence);
	shm_copy_out(w + 2, payload, size_of(sequence));
	ring_tx_publish(tx, bytes, size_of(sequence), RECORD_CONTACT, 0);
	return true;
}

static void send_all(unsigned sender, unsigned first, unsigned number)
{
	struct ring_tx *tx = &story->tx[sender];

	for (unsigned i = first; i < first + number; i++) {
		uint64_t generation;

		do {
			generation = shm_load_acquire(&pair()->slot);
			if (try_send(tx, i, generation))
				break;
			ex_pause();
		} while (true);
		story->accepted[sender]++;
		if (sender == A && generation == 1)
			story->to_old++;
		else if (sender == A && story->to_new++ == 0)
			story->of_old = i;
	}
}

static void sender_a(void)
{
	send_all(0, 0, SENT_BY_A);
}

static void sender_b(void)
{
	struct pair *p = pair();

	if (!ex_await_death(A))
		return;
	ring_tx_init(&story->tx[1], &p->tx, p->data, &p->rx, CAPACITY, 2);
	ex_check(!story->tx[1].lost, "the successor of the sender finds a spoiled ring");
	send_all(1, LAST_OF_B, SENT_BY_B);
}

/* The record must be the next of its sender, whole. */
static void take(unsigned receiver, const struct ring_record *rec)
{
	unsigned sequence = (unsigned)rec->event, sender = sequence >= LAST_OF_B;
	unsigned *next = &story->next[receiver][sender];
	uint8_t payload[192], expected[192];

	ex_check(sequence < LAST_OF_B + MOST_SENT, "a record with the sequence %u", sequence);
	ex_check(rec->kind == RECORD_CONTACT, "a record of kind %u", (unsigned)rec->kind);
	ex_check(rec->size == size_of(sequence), "record %u has %u bytes", sequence, rec->size);
	shm_copy_in(payload, rec->payload, rec->size);
	fill(expected, sequence);
	ex_check(memcmp(payload, expected, rec->size) == 0, "record %u is not whole", sequence);
	ex_check(sender == 1 || story->next[receiver][1] == 0, "an old record after a new one");
	ex_check(*next == 0 || sequence == *next, "record %u instead of %u", sequence, *next);
	*next = sequence + 1;
	story->got[receiver][sender]++;
}

/* Gives positions back before it waits, and now and then in between. */
static void receive_all(unsigned receiver)
{
	struct ring_rx *rx = &story->rx[receiver];
	struct ring_record rec;

	for (unsigned n = 0;;) {
		int r = ring_rx_peek(rx, &rec);

		ex_check(r != RING_SPOILED, "a sound ring is found spoiled");
		if (r == RING_RECORD) {
			if (rec.generations >> 32 == receiver + 1u)
				take(receiver, &rec);
			ring_rx_advance(rx, &rec);
			if (n++ % 2)
				ring_rx_give(rx, false);
			continue;
		}
		ring_rx_give(rx, true);
		ex_check(!ring_rx_is_spoiled(rx), "a sound ring at rest is found spoiled");
		ex_pause();
	}
}

static void receiver_r(void)
{
	receive_all(0);
}

static void receiver_s(void)
{
	struct pair *p = pair();

	if (!ex_await_death(R))
		return;
	ring_rx_init(&story->rx[1], &p->tx, p->data, &p->rx, CAPACITY, true);
	ex_check(!story->rx[1].waiting, "the successor of the receiver finds a spoiled ring");
	shm_store_release(&p->slot, 2);
	receive_all(1);
}

/* Everything accepted for a receiver that lives was delivered; who died had one more at most. */
static void judge(void)
{
	bool a_died = ex_is_dead(A), r_died = ex_is_dead(R);
	unsigned to_living = r_died ? story->to_new : story->to_old;
	unsigned got = story->got[r_died][0];

	ex_check(a_died || story->accepted[0] == SENT_BY_A, "the sender never goes on");
	ex_check(!a_died || story->accepted[1] == SENT_BY_B, "its successor never goes on");
	ex_check(got >= to_living && got <= to_living + a_died,
		 "%u accepted for this receiver, %u delivered", to_living, got);
	ex_check(!a_died || story->got[r_died][1] == SENT_BY_B ||
			 (r_died && story->got[1][1] < SENT_BY_B),
		 "of the successor's messages %u were delivered", story->got[r_died][1]);
	if (r_died && story->to_new > 0)
		ex_check(story->next[1][0] >= story->of_old + 1, "the first one for the new "
								 "receiver is missing");
	/* so what its successor sent to the living receiver */
	if (a_died && !r_died)
		ex_check(story->got[0][1] == SENT_BY_B, "messages of the successor are missing");
}

static const struct ex_scenario stream = {
	.name = "ring_stream",
	.claim = "accepted is delivered once, in order, whole: wrap, padding, full",
	.bound = {3, 2, 2},
	.most = 12000,
	.drawn = 6000,
	.prepare = prepare,
	.run = {[A] = sender_a, [R] = receiver_r},
	.finish = judge,
	.may_block = true,
};

static const struct ex_scenario exact = {
	.name = "ring_exact",
	.claim = "as before, with records that fill the ring to the last byte",
	.bound = {3, 2, 2},
	.most = 12000,
	.drawn = 6000,
	.prepare = prepare_alike,
	.run = {[A] = sender_a, [R] = receiver_r},
	.finish = judge,
	.may_block = true,
};

static const struct ex_scenario sender_dies = {
	.name = "ring_sender_dies",
	.claim = "the sender dies anywhere, its successor goes on at the true tail",
	.mortal = 1u << A,
	.deaths = 1,
	.bound = {2, 1, 1},
	.most = 12000,
	.drawn = 6000,
	.prepare = prepare,
	.run = {[A] = sender_a, [R] = receiver_r, [B] = sender_b},
	.finish = judge,
	.may_block = true,
};

static const struct ex_scenario receiver_dies = {
	.name = "ring_receiver_dies",
	.claim = "the receiver dies anywhere, its successor gets what was accepted for it",
	.mortal = 1u << R,
	.deaths = 1,
	.bound = {2, 1, 1},
	.most = 12000,
	.drawn = 6000,
	.prepare = prepare,
	.run = {[A] = sender_a, [R] = receiver_r, [S] = receiver_s},
	.finish = judge,
	.may_block = true,
};

static const struct ex_scenario both_die = {
	.name = "ring_both_die",
	.claim = "both ends die anywhere and have successors",
	.mortal = 1u << A | 1u << R,
	.deaths = 2,
	.bound = {1, 1, 1},
	.most = 12000,
	.drawn = 8000,
	.prepare = prepare,
	.run = {[A] = sender_a, [R] = receiver_r, [B] = sender_b, [S] = receiver_s},
	.finish = judge,
	.may_block = true,
};

/* ---- spoiled pairs ---- */

#define HEALED 50u /* sequences that are sent until one arrives */

static void spoil_record(void)
{
	prepare();
	/* a valid one, then nonsense: both sides walk into it */
	shm_store_relaxed(ring_tx_word(&story->tx[0], story->tx[0].tail), 0x1234567812345678);
	ring_tx_init(&story->tx[0], &pair()->tx, pair()->data, &pair()->rx, CAPACITY, 1);
}

static void spoil_hint(void)
{
	prepare();
	shm_store_relaxed(&pair()->tx.hint, story->tx[0].tail + 64);
	ring_tx_init(&story->tx[0], &pair()->tx, pair()->data, &pair()->rx, CAPACITY, 1);
}

static void spoil_head(void)
{
	prepare();
	shm_store_relaxed(&pair()->rx.head, story->tx[0].tail + 16 * CAPACITY);
}

/* At any moment of the traffic: one header is overwritten. All records are alike, so that it is one
 * in every lap. */
static void spoiler(void)
{
	shm_store_release(ring_tx_word(&story->tx[0], (uint64_t)-64), 0xdeadbeefdeadbeef);
}

/* Whatever came, the pair works again after a few more. */
static void heal_sender(unsigned sender, unsigned first)
{
	for (unsigned i = first; i < first + 4; i++)
		try_send(&story->tx[sender], i, 1);
	for (unsigned i = HEALED + first; !story->healed; i++) {
		try_send(&story->tx[sender], i, 1);
		ex_pause();
	}
}

static void heal_a(void)
{
	heal_sender(0, 0);
}

static void heal_b(void)
{
	struct pair *p = pair();

	if (!ex_await_death(A))
		return;
	ring_tx_init(&story->tx[1], &p->tx, p->data, &p->rx, CAPACITY, 2);
	heal_sender(1, LAST_OF_B);
}

static void heal_receiver(unsigned receiver)
{
	struct ring_rx *rx = &story->rx[receiver];
	struct ring_record rec;
	unsigned next = 0;

	for (;;) {
		int r = ring_rx_peek(rx, &rec);

		if (r == RING_RECORD) {
			uint8_t payload[192], expected[192];

			ex_check(rec.event >= next && rec.event < 2 * LAST_OF_B + HEALED,
				 "record %u after %u", (unsigned)rec.event, next);
			ex_check(rec.size == size_of((unsigned)rec.event), "a size of %u",
				 rec.size);
			shm_copy_in(payload, rec.payload, rec.size);
			fill(expected, (unsigned)rec.event);
			ex_check(memcmp(payload, expected, rec.size) == 0, "damaged");
			next = (unsigned)rec.event + 1;
			story->healed |= rec.event % LAST_OF_B >= HEALED;
			ring_rx_advance(rx, &rec);
			ring_rx_give(rx, true);
		} else if (r == RING_SPOILED || ring_rx_is_spoiled(rx)) {
			story->questions++;
		} else {
			ring_rx_give(rx, true);
			ex_pause();
		}
	}
}

static void heal_r(void)
{
	heal_receiver(0);
}

static void heal_s(void)
{
	struct pair *p = pair();

	if (!ex_await_death(R))
		return;
	ring_rx_init(&story->rx[1], &p->tx, p->data, &p->rx, CAPACITY, true);
	heal_receiver(1);
}

static void judge_healed(void)
{
	ex_check(story->healed, "the pair has not healed");
}

/* What was wrong is asked for once; a wrong head may be mended before anybody minds. */
static void judge_healed_at_once(void)
{
	judge_healed();
	ex_check(story->questions <= 1, "%u questions for one damage", story->questions);
}

#define SPOILED(id, text, how)                                                              \
	{                                                                                   \
		.name = id, .claim = text, .bound = {3, 2, 2}, .most = 6000, .drawn = 3000, \
		.prepare = how, .run = {[A] = heal_a, [R] = heal_r},                        \
		.finish = judge_healed_at_once, .may_block = true,                          \
	}

static const struct ex_scenario spoiled_record =
	SPOILED("ring_bad_record", "a pair with a bad record starts anew", spoil_record);
static const struct ex_scenario spoiled_hint =
	SPOILED("ring_bad_hint", "a pair whose hint promises a record starts anew", spoil_hint);
static const struct ex_scenario spoiled_head =
	SPOILED("ring_bad_head", "a pair with a head beyond the tail starts anew", spoil_head);

static const struct ex_scenario spoiled_any_time = {
	.name = "ring_spoiled",
	.claim = "a header is overwritten at any moment: the pair starts anew",
	.bound = {2, 1, 0},
	.most = 12000,
	.drawn = 6000,
	.prepare = prepare_alike,
	.run = {[A] = heal_a, [R] = heal_r, [SPOILER] = spoiler},
	.finish = judge_healed,
	.may_block = true,
};

static const struct ex_scenario resync_dies = {
	.name = "ring_resync_dies",
	.claim = "both ends die anywhere while the pair starts anew: their successors complete it",
	.mortal = 1u << A | 1u << R,
	.deaths = 2,
	.bound = {1, 1, 1},
	.most = 12000,
	.drawn = 8000,
	.prepare = spoil_record,
	.run = {[A] = heal_a, [R] = heal_r, [B] = heal_b, [S] = heal_s},
	.finish = judge_healed,
	.may_block = true,
};

const struct ex_scenario *const ex_ring_scenarios[] = {
	&stream,	 &exact,	&resync_dies,  &sender_dies,	  &receiver_dies, &both_die,
	&spoiled_record, &spoiled_hint, &spoiled_head, &spoiled_any_time, NULL,
};

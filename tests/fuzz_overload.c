/* fuzz_overload.c: full rings, hogs of payload memory, an exhausted event table, hot senders next
 * to a cold one, signals as fast as they go: figures are exact and nobody starves.
 */
#include "harness.h"

#include "layout.h"

enum { GO, READY, SIGNALS, FINISHED };

/* ---- rings ---- */

/* Fills the ring with messages of one size, then checks each byte of what was accepted. */
static unsigned fill_and_drain(struct ringbus_node *a, struct ringbus_node *b, size_t size,
			       uint64_t *sequence)
{
	struct ringbus_address to = node_address(b);
	uint64_t first = *sequence;
	struct ringbus_message m;
	uint8_t data[512];
	int rc;

	for (;;) {
		payload_fill(data, size, 1, *sequence);
		rc = ringbus_contact_address(a, &to, data, size, 0);
		if (rc < 0)
			break;
		++*sequence;
	}
	fails(rc, -EAGAIN);
	for (uint64_t i = first; i < *sequence; i++) {
		pull(b, &m);
		assert_int_equal(m.size, size);
		assert_true(payload_matches(m.data, size, 1, i));
	}
	pull_nothing(b);
	return (unsigned)(*sequence - first);
}

static void a_full_ring_overwrites_nothing_for_any_size_at_any_place(void **state)
{
	struct bus_spec spec = {.nodes = 4, .ring_bytes = 4096};
	struct ringbus_node *a, *b;
	uint64_t sequence = 0, fills = 0;

	bus_serve(&spec);
	a = node_open();
	b = node_open();
	for (size_t size = 0; size <= 472; size++)
		for (unsigned again = 0; again < 5; again++, fills++) {
			unsigned n = fill_and_drain(a, b, size, &sequence);

			/* a record has 8 to 32 bytes and the payload; padding takes one at most */
			assert_in_range(n, (4096 - 8) / (32 + (size + 7) / 8 * 8) - 1,
					(4096 - 8) / (8 + (size + 7) / 8 * 8));
		}
	print_message("%llu fills, %llu messages\n", (unsigned long long)fills,
		      (unsigned long long)sequence);
}

/* ---- payload memory ---- */

/* How many pooled messages of `size` one receiver gets until it must read. */
static unsigned send_until_full(struct ringbus_node *from, struct ringbus_node *to, size_t size)
{
	static const uint8_t data[70000];
	struct ringbus_address address = node_address(to);
	unsigned n = 0;
	int rc;

	while ((rc = ringbus_contact_address(from, &address, data, size, 0)) >= 0)
		n++;
	fails(rc, -EAGAIN);
	return n;
}

static void drain(struct ringbus_node *node, unsigned n)
{
	struct ringbus_message m;

	while (n-- > 0)
		pull(node, &m);
	pull_nothing(node);
}

enum { HOGS_MAX = 16 };

/* Receivers that read nothing, in a pool of so many messages; one that reads goes on. */
static void hogs_leave_room(uint64_t pool_bytes, size_t size, unsigned messages, unsigned hogs)
{
	struct bus_spec spec = {.nodes = HOGS_MAX + 2,
				.ring_bytes = 16384,
				.pool_bytes = pool_bytes};
	struct ringbus_node *sender, *hog[HOGS_MAX], *good;
	unsigned left = messages;

	bus_serve(&spec);
	sender = node_open();
	good = node_open();
	for (unsigned i = 0; i < hogs; i++)
		hog[i] = node_open();
	/* each half of what is left; one message, at least, who holds nothing */
	for (unsigned i = 0; i < hogs; i++) {
		unsigned share = messages >> (i + 1) ? messages >> (i + 1) : 1;

		assert_int_equal(send_until_full(sender, hog[i], size), share);
		left -= share;
	}
	for (unsigned i = 0; i < 200; i++) {
		unsigned share = messages >> (hogs + 1) ? messages >> (hogs + 1) : 1;

		assert_int_equal(send_until_full(sender, good, size), share);
		drain(good, share);
	}
	ledger("shares-checked", hogs + 200);
	drain(hog[0], messages / 2);
	left += messages / 2;
	assert_in_range(send_until_full(sender, good, size), left / 2 - 1, left / 2 + 1);
}

static void a_receiver_that_reads_nothing_holds_its_share_and_no_more(void **state)
{
	hogs_leave_room(1 << 20, 4096, 256, 5);
}

/* Payloads that have an extent each: the table of extents is shared like the bytes. */
static void receivers_of_large_payloads_that_read_nothing_leave_room_too(void **state)
{
	hogs_leave_room(64 << 20, 70000, LAYOUT_POOL_EXTENTS / 2, 4);
}

static void more_of_them_than_there_are_shares_leave_room_too(void **state)
{
	hogs_leave_room(64 << 20, 70000, LAYOUT_POOL_EXTENTS / 2, HOGS_MAX);
}

/* What several have got is taken once: as many hold half of the pool together as one alone. */
static void receivers_of_the_same_payloads_hold_them_together(void **state)
{
	struct bus_spec spec = {.nodes = 16, .ring_bytes = 16384, .pool_bytes = 1 << 20};
	static const uint8_t data[4096];
	struct ringbus_node *sender, *hog[10], *good;
	struct ringbus_event *news;
	struct ringbus_message m;
	unsigned n = 0;
	int rc;

	bus_serve(&spec);
	sender = node_open();
	news = single(sender, "news");
	for (unsigned i = 0; i < 10; i++) {
		hog[i] = node_open();
		subscribe(hog[i], "news");
	}
	while ((rc = ringbus_emit(news, data, sizeof(data), 0)) == 10)
		n++;
	fails(rc, -EAGAIN);
	assert_int_equal(n, 128);
	good = node_open();
	assert_int_equal(send_until_full(sender, good, sizeof(data)), 64);
	drain(good, 64);
	/* the last one that reads sets them free */
	for (unsigned i = 0; i < 10; i++)
		for (unsigned k = 0; k < n; k++)
			pull(hog[i], &m);
	for (unsigned i = 0; i < 10; i++)
		pull_nothing(hog[i]);
	assert_int_equal(send_until_full(sender, good, sizeof(data)), 128);
}

/* A small payload does not take the memory of a large one while there is other. */
static void a_small_payload_that_is_not_read_pins_no_large_chunk(void **state)
{
	enum { LARGE = 20 << 20, SMALL = 100000 };
	struct bus_spec spec = {.nodes = 4, .pool_bytes = 40 << 20};
	struct ringbus_node *sender, *reader, *hog;
	struct ringbus_address to_reader, to_hog;
	char *data = calloc(1, LARGE + 1000000);

	bus_serve(&spec);
	sender = node_open();
	reader = node_open();
	hog = node_open();
	to_reader = node_address(reader);
	to_hog = node_address(hog);
	ok(ringbus_contact_address(sender, &to_reader, data, LARGE, 0));
	drain(reader, 1);
	ok(ringbus_contact_address(sender, &to_hog, data, SMALL, 0));
	ok(ringbus_contact_address(sender, &to_reader, data, LARGE + 1000000, 0));
	drain(reader, 1);
	free(data);
}

static uint64_t address_space(void)
{
	unsigned long long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	assert_non_null(f);
	assert_int_equal(fscanf(f, "%llu", &pages), 1);
	fclose(f);
	return pages * 4096;
}

static void memory_given_back_and_taken_again_leaves_nothing(void **state)
{
	struct ringbus_node *node = node_open();
	uint64_t before = 0;

	for (unsigned i = 0; i < 2000; i++) {
		struct ringbus_loan loan;

		ok(ringbus_loan(node, 1000, &loan, 0));
		ringbus_loan_cancel(&loan);
		ok(ringbus_node_trim(node));
		if (i == 100)
			before = address_space();
	}
	assert_in_range(address_space(), 0, before + (4 << 20));
}

static void an_exhausted_event_table_disturbs_nobody_else(void **state)
{
	struct bus_spec spec = {.nodes = 4, .events = 32};
	struct ringbus_event *event, *more = NULL;
	struct ringbus_node *a, *b, *hog;
	unsigned taken = 0;
	int rc;

	bus_serve(&spec);
	a = node_open();
	b = node_open();
	hog = node_open();
	event = single(a, "news");
	subscribe(b, "news");
	while ((rc = ringbus_event_create(&more, hog, NULL, NULL)) >= 0)
		taken++;
	fails(rc, -ENFILE);
	assert_int_equal(taken, 31);
	for (unsigned i = 0; i < 1000; i++) {
		assert_int_equal(emit_text(event, "x"), 1);
		pull_text(b, "x");
	}
	fails(ringbus_subscribe(&more, b, "another", NULL), -ENFILE);
	node_close(hog);
	subscribe(b, "another");
}

/* ---- fairness ---- */

enum { HOT = 63, BATCH = 256 };

struct crowd {
	struct ringbus_node *receiver, *hot[HOT], *cold;
	struct ringbus_address to;
	uint32_t cold_slot;
	uint64_t deliveries;
	bool heard;
};

static void fill_all(struct crowd *c)
{
	uint64_t word = 0;

	for (unsigned i = 0; i < HOT; i++)
		while (ringbus_contact_address(c->hot[i], &c->to, &word, sizeof(word), 0) >= 0)
			;
}

/* Each hot sender sends again as soon as one of its messages is delivered. */
static void delivered(struct crowd *c, const struct ringbus_message *m)
{
	uint64_t word = 0;

	if (m->kind != RINGBUS_CONTACT || c->heard)
		return;
	if (m->sender.slot == c->cold_slot) {
		c->heard = true;
		return;
	}
	c->deliveries++;
	for (unsigned i = 0; i < HOT; i++)
		if (node_address(c->hot[i]).slot == m->sender.slot)
			ringbus_contact_address(c->hot[i], &c->to, &word, sizeof(word), 0);
}

static void on_contact(const struct ringbus_message *m, void *user)
{
	delivered(user, m);
}

static uint64_t hear_the_cold_one(struct crowd *c, bool polls)
{
	struct ringbus_message m;

	c->heard = false;
	c->deliveries = 0;
	ok(ringbus_contact_address(c->cold, &c->to, "cold", 4, 0));
	while (!c->heard) {
		if (polls) {
			ok(ringbus_poll(c->receiver, 0));
		} else {
			ok(ringbus_next(c->receiver, &m, 0));
			delivered(c, &m);
		}
		assert_true(c->deliveries < 100 * HOT * BATCH);
	}
	return c->deliveries;
}

static void a_cold_sender_is_heard_among_63_hot_ones(void **state)
{
	struct bus_spec spec = {.nodes = 80, .ring_bytes = 16384};
	struct crowd c = {0};
	uint64_t worst[2] = {0, 0};

	watchdog(120);
	bus_serve(&spec);
	c.receiver = node_open();
	c.to = node_address(c.receiver);
	for (unsigned i = 0; i < HOT; i++)
		c.hot[i] = node_open();
	c.cold = node_open();
	c.cold_slot = node_address(c.cold).slot;
	ok(ringbus_on_contact(c.receiver, on_contact, &c));
	for (unsigned i = 0; i < 40; i++) {
		uint64_t n;

		fill_all(&c);
		n = hear_the_cold_one(&c, i / 20);
		if (n > worst[i / 20])
			worst[i / 20] = n;
		/* a batch of each that is hot, and one turn to find the cold one */
		assert_true(n <= 2 * (HOT + 1) * BATCH);
	}
	print_message("the cold one was heard after %llu (next) and %llu (poll) others at most\n",
		      (unsigned long long)worst[0], (unsigned long long)worst[1]);
}

/* ---- signals ---- */

static void signaller(uint64_t signals)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address to = {.slot = 0};

	flag_add(READY, 1);
	flag_wait(GO, 1);
	for (uint64_t i = 0; i < signals; i++)
		child_ok(ringbus_signal_address(node, &to));
	flag_add(FINISHED, 1);
	ringbus_node_close(node);
}

static void signals_as_fast_as_they_go_are_all_counted(void **state)
{
	uint64_t each = harness_number("OVERLOAD_SIGNALS", 1000000), got = 0, n, begin, looks = 0;
	struct ringbus_node *node = node_open();
	enum { SIGNALLERS = 3 };

	watchdog(200);
	assert_int_equal(node_address(node).slot, 0);
	for (unsigned i = 0; i < SIGNALLERS; i++)
		child_start(signaller, each);
	flag_wait(READY, SIGNALLERS);
	begin = harness_now_ns();
	flag_set(GO, 1);
	for (bool over = false; !over; looks++) {
		/* all were sent before the last look */
		over = flag_get(FINISHED) == SIGNALLERS;
		if (ringbus_signal_wait(node, &n, HARNESS_MS) == 0)
			got += n;
	}
	begin = harness_now_ns() - begin;
	child_join_all();
	assert_int_equal(got, SIGNALLERS * each);
	fails(ringbus_signal_wait(node, &n, 0), -EAGAIN);
	print_message("%llu signals in %llu ms (%llu kHz), taken in %llu looks\n",
		      (unsigned long long)got, (unsigned long long)(begin / HARNESS_MS),
		      (unsigned long long)(got * 1000000 / begin), (unsigned long long)looks);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_full_ring_overwrites_nothing_for_any_size_at_any_place),
	BARE_TEST(a_receiver_that_reads_nothing_holds_its_share_and_no_more),
	BARE_TEST(receivers_of_large_payloads_that_read_nothing_leave_room_too),
	BARE_TEST(more_of_them_than_there_are_shares_leave_room_too),
	BARE_TEST(receivers_of_the_same_payloads_hold_them_together),
	BARE_TEST(a_small_payload_that_is_not_read_pins_no_large_chunk),
	BUS_TEST(memory_given_back_and_taken_again_leaves_nothing),
	BARE_TEST(an_exhausted_event_table_disturbs_nobody_else),
	BARE_TEST(a_cold_sender_is_heard_among_63_hot_ones),
	BUS_TEST(signals_as_fast_as_they_go_are_all_counted),
};

HARNESS_MAIN("fuzz_overload", tests)

/* fuzz_chaos.c: live processes talk while a stranger overwrites words of their region.
 *
 * Three processes join, talk in every way and leave, round by round; meanwhile a fourth writes
 * random words. In some rounds it writes everywhere: then nobody may crash, hang, or fail with a
 * code that is not documented. In the others it writes only to what belongs to the third process:
 * its rings, its pool, the figures in its page: then what the first sends to the second must
 * arrive, all of it, in order, byte for byte. The fixed part is put back between rounds, so that
 * each begins with a sound region.
 */
#include "harness.h"
#include "image.h"
#include "pool.h"

#include <sched.h>
#include <signal.h>

enum { WORKERS = 3, SMALL = 200, LARGE = 3000, SENDS = 40 };
/* flags */
enum { ROUND, STOP, CONFINED, DONE, READY = 8, CLOSED = 16, TALLY = 24, PASSED = 40 };
enum { SENT, GOT, ERRORS, STALE };

static uint64_t seed;

static bool documented(int rc)
{
	static const int codes[] = {EAGAIN,   EBADMSG,	 EBUSY,	      EEXIST, EFAULT,	EINVAL,
				    EMSGSIZE, ENFILE,	 ENOENT,      ENOSPC, ENOTCONN, ENOMEM,
				    EPERM,    EPROTO,	 ESRCH,	      ESTALE, EUSERS,	ENOTUNIQ,
				    EACCES,   ETIMEDOUT, ECONNREFUSED};

	for (unsigned i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
		if (rc == -codes[i])
			return true;
	return rc >= 0;
}

static void count(unsigned what)
{
	flag_add(TALLY + what, 1);
}

/* A code that may come in a damaged region. */
static int may(int rc)
{
	if (!documented(rc))
		harness_child_fail("documented code", rc, __FILE__, __LINE__);
	if (rc < 0 && rc != -EAGAIN && rc != -ETIMEDOUT)
		count(ERRORS);
	return rc;
}

/* ---- workers ---- */

struct worker {
	unsigned index;
	uint64_t random;
	struct ringbus_node *node;
	struct ringbus_event *event;
	struct ringbus_borrow *borrow;
	uint64_t sent, got; /* from the first to the second */
	bool confined, stale;
};

static volatile uint64_t sink;

static void touch(const void *data, size_t size)
{
	const uint8_t *at = data;

	for (size_t i = 0; i < size; i += 64)
		sink += at[i];
}

/* The second checks what the first sent. */
static void check_message(struct worker *w, const struct ringbus_message *m)
{
	static const struct mix mix = {.pooled_per_mille = 200, .max = LARGE};

	touch(m->data, m->size);
	if (!w->confined || w->index != 1 || m->kind != RINGBUS_CONTACT || m->sender.slot != 0)
		return;
	child_check(m->size == payload_size(&mix, 1, w->got));
	child_check(payload_matches(m->data, m->size, 1, w->got));
	child_check(m->lost == 0);
	w->got++;
	count(GOT);
}

static void receive_some(struct worker *w, unsigned limit)
{
	struct ringbus_message m;
	int rc = 0;

	for (unsigned i = 0; i < limit && rc == 0; i++) {
		rc = may(ringbus_next(w->node, &m, 0));
		w->stale |= rc == -ESTALE;
		if (rc != 0 || m.kind == RINGBUS_NOTICE)
			continue;
		check_message(w, &m);
		if (splitmix(&w->random) % 8 == 0) {
			ringbus_release(w->borrow);
			w->borrow = NULL;
			may(ringbus_borrow(&m, &w->borrow));
		}
	}
}

/* The first sends what can be checked, as long as it is accepted. */
static void send_sequence(struct worker *w)
{
	static const struct mix mix = {.pooled_per_mille = 200, .max = LARGE};
	const struct ringbus_address second = {.slot = 1};
	uint8_t data[LARGE];
	size_t size = payload_size(&mix, 1, w->sent);
	int rc;

	payload_fill(data, size, 1, w->sent);
	rc = may(ringbus_contact_address(w->node, &second, data, size, 0));
	w->stale |= rc == -ESTALE;
	if (rc < 0)
		return;
	w->sent++;
	if (w->confined)
		count(SENT);
}

static void control_something(struct worker *w, uint64_t dice)
{
	struct ringbus_event *e;
	uint64_t n;

	switch (dice % 4) {
	case 0:
		may(ringbus_subscribe(&e, w->node, dice & 64 ? "news" : "other", NULL));
		break;
	case 1:
		may(ringbus_event_create(&e, w->node, dice & 64 ? "mine" : "other", NULL));
		break;
	case 2:
		may(ringbus_signal_address(w->node, &(struct ringbus_address){
							    .slot = (uint32_t)(dice >> 8) % 4}));
		break;
	default:
		may(ringbus_signal_wait(w->node, &n, 0));
	}
}

static void act(struct worker *w)
{
	static const uint8_t data[LARGE];
	uint64_t dice = splitmix(&w->random);
	struct ringbus_address to = {.slot = (uint32_t)(dice >> 40) % 4};
	size_t size = dice >> 32 & 3 ? (dice >> 16) % SMALL : LARGE;
	int rc = 0;

	switch (dice % 8) {
	case 0:
	case 1:
		if (w->index == 0)
			send_sequence(w);
		else if (!(w->confined && to.slot == w->index))
			rc = may(ringbus_contact_address(w->node, &to, data, size, 0));
		break;
	case 2:
		rc = may(ringbus_emit(w->event, data, size, dice >> 48 & 7 ? 0 : 100000));
		break;
	case 3:
		control_something(w, dice >> 8);
		break;
	case 4:
		rc = may(ringbus_wait(w->node, 50000));
		break;
	default:
		receive_some(w, 1 + (unsigned)(dice >> 8) % 8);
	}
	w->stale |= rc == -ESTALE;
}

static void join(struct worker *w)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .timeout_ns = 20 * HARNESS_SECOND,
					 .spin_ns = RINGBUS_NO_SPIN,
					 .sigbus_guard = true,
					 .peer_notices = true};
	struct ringbus_event_options multi = {.size = sizeof(multi),
					      .mode = RINGBUS_MULTI_EMISSION,
					      .receive = true};
	const struct ringbus_address second = {.slot = 1};

	/* one after the other, so that slots are known */
	flag_wait(READY, w->index);
	child_ok(ringbus_node_open(&w->node, &o));
	if (w->index == 0) {
		child_ok(ringbus_event_create(&w->event, w->node, "news", &multi));
	} else {
		child_ok(ringbus_subscribe(&w->event, w->node, "news", NULL));
		child_ok(ringbus_contact_address(w->node, &(struct ringbus_address){.slot = 0},
						 "here", 4, 0));
	}
	if (w->index == 2)
		child_ok(ringbus_contact_address(w->node, &second, "here", 4, 0));
	flag_add(READY, 1);
	flag_wait(READY, WORKERS);
}

static void leave(struct worker *w)
{
	/* the first is done before the second looks for the last time */
	if (w->index == 1)
		flag_wait(CLOSED, 1);
	for (unsigned i = 0; i < 1000 && w->index == 1 && !w->stale && w->got < flag_get(TALLY + 8);
	     i++)
		receive_some(w, 100);
	if (w->index == 1 && w->confined)
		child_check(w->got == flag_get(TALLY + 8));
	ringbus_release(w->borrow);
	w->borrow = NULL;
	if (w->index == 0)
		flag_set(TALLY + 8, w->sent);
	flag_add(CLOSED, w->index == 0);
	ringbus_node_close(w->node);
	if (w->stale)
		count(STALE);
}

static void work(uint64_t index)
{
	struct worker w = {.index = (unsigned)index};

	for (uint64_t round = 1;; round++) {
		while (flag_get(ROUND) < round && flag_get(DONE) == 0)
			sched_yield();
		if (flag_get(DONE))
			return;
		w.random = seed ^ round * 7919 ^ index << 40;
		w.confined = flag_get(CONFINED);
		w.sent = w.got = 0;
		w.stale = false;
		join(&w);
		for (unsigned i = 0; i < SENDS || flag_get(STOP) < round; i++) {
			if (!w.stale)
				act(&w);
			else
				sched_yield();
		}
		child_check(!w.confined || !w.stale || w.index == 2);
		leave(&w);
		flag_add(PASSED, 1);
	}
}

/* ---- the stranger ---- */

static uint64_t some_value(uint64_t *random, uint64_t truth)
{
	uint64_t dice = splitmix(random);

	switch (dice % 10) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return truth ^ 1ull << (dice >> 8 & 63);
	case 3:
		return truth + (dice >> 8 & 1 ? 8 : (uint64_t)-8);
	case 4:
		return dice >> 8 & 0xfff;
	case 5:
		return slot_word((uint32_t)(truth >> 32), (uint32_t)(dice >> 32) & 0xffff,
				 (enum slot_state)(dice >> 8 & 7));
	case 6:
		return record_word0(truth >> 40 << 3, dice >> 8 & 0xff8,
				    (enum record_kind)(dice >> 32 & 7), dice >> 36 & 7, 0);
	case 7:
		return (dice >> 8 & 255) << 12 | (truth & 4095);
	case 8:
		return image_get(RB_PAGE + (dice >> 8) %
						   (image_geometry()->fixed_bytes - RB_PAGE - 8) /
						   8 * 8);
	default:
		return splitmix(random);
	}
}

/* Anywhere: the parts by turns, since the small ones matter most. */
static uint64_t anywhere(uint64_t *random)
{
	const struct layout_geometry *g = image_geometry();
	const uint64_t parts[][2] = {
		{0, RB_PAGE},
		{g->common_offset, g->common_bytes},
		{g->control_offset, g->control_bytes},
		{g->nodes_offset, g->nodes_bytes},
		{g->fixed_bytes, image_file_bytes() - g->fixed_bytes},
		{g->fixed_bytes, image_file_bytes() - g->fixed_bytes},
		/* the slots in use, their pages */
		{g->common_offset, sizeof(struct layout_common) + 4 * sizeof(struct layout_bell)},
		{g->nodes_offset, 3 * RB_PAGE},
	};
	uint64_t dice = splitmix(random), *part = (uint64_t *)(uintptr_t)parts[dice % 8];

	return part[1] < 8 ? 8 : part[0] + (dice >> 8) % part[1] / 8 * 8;
}

/* Of the third process: a ring from or to it, a pool extent, or the figures in its page. */
static uint64_t of_the_third(uint64_t *random)
{
	const struct layout_geometry *g = image_geometry();
	uint64_t page = g->nodes_offset + 2 * RB_PAGE, dice = splitmix(random);
	uint64_t extent, bytes = layout_ring_extent_bytes(g);

	switch (dice & 7) {
	case 0:
		return page + (dice >> 8) % offsetof(struct layout_node, ring) / 8 * 8;
	case 1:
	case 2: {
		uint64_t entry = page + offsetof(struct layout_node, pool) +
				 (dice >> 4 & 3) * sizeof(struct layout_pool_extent);

		extent = image_get(entry) & ~4095ull;
		bytes = image_get(entry + 8) & 0xffffffffffffull;
		break;
	}
	case 3:
	case 4:
		extent = image_get(page + offsetof(struct layout_node, ring) + (dice >> 4 & 1) * 8);
		break;
	default: /* the rings to it */
		extent = image_get(g->nodes_offset + (dice >> 4 & 1) * RB_PAGE +
				   offsetof(struct layout_node, ring) + 2 * 8);
	}
	if (extent == 0 || bytes < 8)
		return page;
	return extent + (dice >> 8) % bytes / 8 * 8;
}

static void scribble(uint64_t *random, bool confined)
{
	unsigned bursts = 1 + (unsigned)splitmix(random) % 6;

	for (unsigned b = 0; b < bursts; b++) {
		unsigned words = 1 + (unsigned)splitmix(random) % 30;

		for (unsigned i = 0; i < words; i++) {
			uint64_t at = confined ? of_the_third(random) : anywhere(random);

			image_put(at, some_value(random, image_get(at)));
			count(6);
		}
		for (unsigned i = 0; i < 20; i++)
			sched_yield();
	}
}

/* ---- rounds ---- */

static pid_t workers[WORKERS];

/* Waits for a flag; a worker that ended means a crash: says how to see it again. */
static void await(unsigned flag, uint64_t value, uint64_t round)
{
	while (flag_get(flag) < value) {
		for (unsigned i = 0; i < WORKERS; i++) {
			if (!child_ended(workers[i]))
				continue;
			print_error("replay: CHAOS_SEED=%llu CHAOS_FIRST=%llu CHAOS_ROUNDS=1 "
				    "fuzz_chaos\n",
				    (unsigned long long)seed, (unsigned long long)round);
			child_join(workers[i]);
			fail_msg("worker %u ended early", i);
		}
		sched_yield();
	}
}

static void one_round(uint64_t round, uint64_t number)
{
	uint64_t random = seed + number * 0x9e3779b97f4a7c15ull;
	bool confined = splitmix(&random) % 3 == 0;

	watchdog(60);
	image_restore((uint32_t)(number * 8 + 8));
	flag_set(CONFINED, confined);
	flag_set(READY, 0);
	flag_set(CLOSED, 0);
	flag_set(ROUND, round);
	await(READY, WORKERS, number);
	scribble(&random, confined);
	flag_set(STOP, round);
	await(PASSED, round * WORKERS, number);
}

static void nobody_crashes_while_a_stranger_writes_into_the_region(void **state)
{
	struct bus_spec spec = {.nodes = 8,
				.events = 16,
				.ring_bytes = 4096,
				.pool_bytes = 64 << 10};
	uint64_t rounds = harness_number("CHAOS_ROUNDS", 10000);
	uint64_t first = harness_number("CHAOS_FIRST", 0), begin = harness_now_ns();

	seed = harness_number("CHAOS_SEED", 1);
	setenv("HARNESS_NO_CHECK", "1", 1);
	bus_serve(&spec);
	image_keep();
	for (unsigned i = 0; i < WORKERS; i++)
		workers[i] = child_start(work, i);
	for (uint64_t round = 1; round <= rounds; round++)
		one_round(round, first + round - 1);
	flag_set(DONE, 1);
	child_join_all();
	ledger("regions-corrupted", (double)rounds);
	ledger("words-overwritten", (double)flag_get(TALLY + 6));
	print_message("%llu ms, %llu regions, %llu words overwritten; %llu errors told, %llu nodes "
		      "lost "
		      "their slot; undisturbed pairs: %llu messages accepted, %llu received\n",
		      (unsigned long long)((harness_now_ns() - begin) / HARNESS_MS),
		      (unsigned long long)rounds, (unsigned long long)flag_get(TALLY + 6),
		      (unsigned long long)flag_get(TALLY + ERRORS),
		      (unsigned long long)flag_get(TALLY + STALE),
		      (unsigned long long)flag_get(TALLY + SENT),
		      (unsigned long long)flag_get(TALLY + GOT));
	assert_true(rounds < 100 || flag_get(TALLY + GOT) > rounds);
	bus_kill();
	bus_expect_leftovers();
}

/* ---- a page that names what is not its owner's ---- */

static void forger(uint64_t unused)
{
	struct ringbus_node *node = child_node(NULL);
	static const uint8_t data[LARGE];

	child_ok(ringbus_contact_address(node, &(struct ringbus_address){.slot = 0}, data, LARGE,
					 0));
	flag_set(READY, 1);
	for (;;)
		pause();
}

/* A stray store in its own page: its pool, or its ring, is now where the ring from slot 0 to 1 is.
 */
static void forge(uint32_t slot, bool ring)
{
	const struct layout_geometry *g = image_geometry();
	uint64_t theirs = image_get(g->nodes_offset + offsetof(struct layout_node, ring) + 8);
	uint64_t page = g->nodes_offset + slot * RB_PAGE;
	uint64_t entry = page + offsetof(struct layout_node, pool);

	assert_true(theirs >= g->fixed_bytes);
	if (ring) {
		image_put(page + offsetof(struct layout_node, ring) + 3 * 8, theirs);
		return;
	}
	image_put(entry + 8, layout_ring_extent_bytes(g));
	image_put(entry, theirs | POOL_CLASS_BIG);
}

static void what_a_dead_page_names_wrongly_is_not_taken_from_others(void **state)
{
	struct bus_spec spec = {.nodes = 8,
				.events = 16,
				.ring_bytes = 4096,
				.pool_bytes = 64 << 10};
	struct ringbus_address address, b_address;
	struct ringbus_node *a, *b;
	struct ringbus_message m;
	char text[16];
	pid_t child;

	setenv("HARNESS_NO_CHECK", "1", 1);
	bus_serve(&spec);
	image_keep();
	a = node_open();
	b = node_open();
	b_address = node_address(b);
	for (unsigned round = 0; round < 2; round++) {
		flag_set(READY, 0);
		child = child_start(forger, 0);
		flag_wait(READY, 1);
		ok(ringbus_node_find_pid(a, (uint32_t)child, &address));
		pull(a, &m);
		fails(ringbus_next(a, &m, 0), -EAGAIN);
		for (unsigned i = 0; i < 20; i++) {
			snprintf(text, sizeof(text), "number %u", i);
			ok(ringbus_contact_address(a, &b_address, text, strlen(text), 0));
		}
		forge(address.slot, round == 1);
		child_kill(child);
		while (slot_state(image_get(
			       image_geometry()->common_offset + sizeof(struct layout_common) +
			       address.slot * sizeof(struct layout_bell))) != SLOT_FREE)
			pause_briefly();
		for (unsigned i = 0; i < 20; i++) {
			snprintf(text, sizeof(text), "number %u", i);
			do /* it is there: nothing is waited for */
				ok(ringbus_next(b, &m, 0));
			while (m.kind == RINGBUS_NOTICE);
			assert_int_equal(m.size, strlen(text));
			assert_memory_equal(m.data, text, m.size);
		}
		assert_int_equal(node_stats(b).corrupt, 0);
	}
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(what_a_dead_page_names_wrongly_is_not_taken_from_others),
	BARE_TEST(nobody_crashes_while_a_stranger_writes_into_the_region),
};

HARNESS_MAIN("fuzz_chaos", tests)

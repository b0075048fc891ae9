/* fuzz_hostile.c: a node whose every load from shared memory may be a lie stays within its memory,
 * ends each call after a bounded number of loads, and fails with documented codes only.
 *
 * An episode: two honest nodes prepare a bus with unread messages, borrowed chunks and a slot that
 * had an owner; the victim joins that slot (now and then with lies), does a random course of all
 * calls with lies in it, and leaves. Then the region is put back as it was.
 */
#include "hostile.h"

#include "control.h"

#include <fcntl.h>
#include <sys/stat.h>

enum { BIG = 9000, BORROWS = 8 };

static struct {
	struct ringbus_node *victim, *one, *two;
	struct ringbus_event *own, *many, *theirs;
	struct ringbus_borrow *borrow[BORROWS];
	struct ringbus_loan loan;
	unsigned lies; /* per mille */
} c;

static uint8_t payload[BIG], buffer[BIG];
static volatile uint64_t sink;

static void look(const struct ringbus_message *m)
{
	const uint8_t *data = m->data;

	if (m->kind == RINGBUS_NOTICE)
		return;
	if (m->size > 0 && data != buffer)
		hostile_check_range(data, m->size);
	for (size_t i = 0; i < m->size; i += 61)
		sink += data[i];
}

static void on_message(const struct ringbus_message *m, void *user)
{
	look(m);
}

static void on_signal(uint64_t count, void *user)
{
	sink += count;
}

static struct ringbus_address somebody(void)
{
	return (struct ringbus_address){.slot = (uint32_t)hostile_below(9),
					.generation = (uint32_t)(hostile_below(4) ? 0 : 1)};
}

static size_t some_size(void)
{
	static const size_t sizes[] = {0, 1, 7, 8, 100, 470, 472, 473, 600, 1024, 4000, BIG};

	return sizes[hostile_below(rb_array_size(sizes))];
}

static struct ringbus_event *some_event(void)
{
	struct ringbus_event *const events[] = {c.own, c.many, c.theirs};

	return events[hostile_below(3)];
}

/* ---- operations: each returns a code ---- */

static int do_poll(void)
{
	return ringbus_poll(c.victim, (unsigned)hostile_below(20));
}

static int do_next(void)
{
	struct ringbus_message m;
	int r = ringbus_next(c.victim, &m, hostile_below(8) ? 0 : 1);
	unsigned i = (unsigned)hostile_below(BORROWS);

	if (r < 0)
		return r;
	look(&m);
	if (m.kind == RINGBUS_NOTICE || hostile_below(2))
		return 0;
	ringbus_release(c.borrow[i]);
	c.borrow[i] = NULL;
	return ringbus_borrow(&m, &c.borrow[i]);
}

static int do_receive(void)
{
	struct ringbus_message m;
	int r = ringbus_receive(c.victim, buffer, some_size(), &m, hostile_below(8) ? 0 : 1);

	if (r == 0 && m.kind != RINGBUS_NOTICE && m.data != buffer && m.size > 0)
		child_check(!"the copy is in the buffer");
	return r;
}

static int do_release(void)
{
	unsigned i = (unsigned)hostile_below(BORROWS);
	size_t size;
	const uint8_t *data = ringbus_borrow_data(c.borrow[i], &size);

	for (size_t k = 0; k < size; k += 61)
		sink += data[k];
	ringbus_release(c.borrow[i]);
	c.borrow[i] = NULL;
	return 0;
}

static int do_contact(void)
{
	struct ringbus_address to = somebody();

	return ringbus_contact_address(c.victim, &to, payload, some_size(),
				       hostile_below(8) ? 0 : 1);
}

static int do_contact_pid(void)
{
	return ringbus_contact(c.victim, (uint32_t)getpid(), payload, some_size(), 0);
}

static int do_emit(void)
{
	return ringbus_emit(some_event(), payload, some_size(), hostile_below(8) ? 0 : 1);
}

static int do_loan(void)
{
	int r;

	if (!c.loan.data) {
		r = ringbus_loan(c.victim, some_size(), &c.loan, 0);
		if (r == 0 && c.loan.size > 0) {
			hostile_check_range(c.loan.data, c.loan.size);
			memset(c.loan.data, 1, c.loan.size);
		}
		return r;
	}
	switch (hostile_below(4)) {
	case 0:
		ringbus_loan_cancel(&c.loan);
		return 0;
	case 1:
		return ringbus_contact_loan(c.victim, &(struct ringbus_address){.slot = 0}, &c.loan,
					    0);
	default:
		return ringbus_emit_loan(some_event(), &c.loan, 0);
	}
}

static int do_signal(void)
{
	struct ringbus_address to = somebody();

	return ringbus_signal_address(c.victim, &to);
}

static int do_signal_wait(void)
{
	uint64_t count;

	return ringbus_signal_wait(c.victim, &count, hostile_below(4) ? 0 : 1);
}

static const char *some_name(void)
{
	static const char *const names[] = {"own", "many", "theirs", "one's", "fresh 1", "fresh 2"};

	return names[hostile_below(rb_array_size(names))];
}

static int do_create(void)
{
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = (enum ringbus_mode)hostile_below(2),
					  .receive = hostile_below(2),
					  .lossy = hostile_below(2)};
	struct ringbus_event *e;

	return ringbus_event_create(&e, c.victim, some_name(), &o);
}

static int do_subscribe(void)
{
	struct ringbus_subscribe_options o = {.size = sizeof(o),
					      .handler = hostile_below(2) ? on_message : NULL,
					      .must_exist = hostile_below(2),
					      .lossy = hostile_below(2),
					      .emit_only = hostile_below(4) == 0};
	struct ringbus_event *e;

	return ringbus_subscribe(&e, c.victim, some_name(), &o);
}

static int do_unsubscribe(void)
{
	struct ringbus_event *e = some_event();
	int r = ringbus_unsubscribe(e);

	return hostile_below(2) ? ringbus_event_dissolve(e) : r;
}

static int do_event_looks(void)
{
	struct ringbus_event_info info = {.size = sizeof(info)};
	struct ringbus_event *e = NULL, *list[8];
	int r = ringbus_event_info(some_event(), &info);

	if (r == 0)
		r = ringbus_event_find(&e, c.victim, some_name());
	ringbus_subscriptions(c.victim, list, 8);
	return r < 0 ? r : ringbus_event_wait_subscribers(some_event(), 1, 0);
}

static int do_node_looks(void)
{
	struct ringbus_node_stats stats = {.size = sizeof(stats)};
	struct ringbus_address a;
	int r = ringbus_node_find(c.victim, hostile_below(2) ? "one" : "nobody", &a);

	if (r == 0 || r == -ESRCH)
		r = ringbus_node_find_pid(c.victim, (uint32_t)getpid(), &a);
	if (r == 0 || r == -ENOTUNIQ)
		r = ringbus_node_stats(c.victim, &stats);
	ringbus_node_held_back_by(c.victim, &a);
	return r;
}

static int do_wait(void)
{
	return ringbus_wait(c.victim, 1);
}

static int do_trim(void)
{
	return ringbus_node_trim(c.victim);
}

static int do_reap(void)
{
	if (hostile_below(2))
		return control_reap(c.victim->region, rb_deadline_ns(RB_SECOND));
	return control_reap_all(c.victim->region, rb_deadline_ns(RB_SECOND));
}

static const struct {
	const char *name;
	int (*run)(void);
	unsigned weight;
} operations[] = {
	{"poll", do_poll, 12},
	{"next", do_next, 12},
	{"receive", do_receive, 6},
	{"release", do_release, 4},
	{"contact", do_contact, 12},
	{"contact by pid", do_contact_pid, 2},
	{"emit", do_emit, 12},
	{"loan", do_loan, 8},
	{"signal", do_signal, 3},
	{"signal wait", do_signal_wait, 3},
	{"create", do_create, 2},
	{"subscribe", do_subscribe, 3},
	{"unsubscribe, dissolve", do_unsubscribe, 1},
	{"looks at events", do_event_looks, 2},
	{"looks at nodes", do_node_looks, 2},
	{"wait", do_wait, 3},
	{"trim", do_trim, 1},
	{"reap", do_reap, 1},
};

static void lied_to(void)
{
	unsigned total = 0, at;

	/* a slot that was taken away ends a node for good: it gets it back */
	atomic_store(&c.victim->bell->slot.v, own_load(&c.victim->live_word));
	for (unsigned i = 0; i < rb_array_size(operations); i++)
		total += operations[i].weight;
	at = (unsigned)hostile_below(total);
	for (unsigned i = 0; i < rb_array_size(operations); i++) {
		if (at < operations[i].weight) {
			hostile_arm(operations[i].name, c.lies);
			hostile_disarm(operations[i].run());
			return;
		}
		at -= operations[i].weight;
	}
}

/* ---- episodes ---- */

static struct ringbus_node *honest(const char *name)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .name = name,
					 .spin_ns = RINGBUS_NO_SPIN,
					 .no_safety_wake = true};

	return child_node(&o);
}

/* Something from and to every slot that has an owner. */
static void talk(struct ringbus_node *from, uint32_t to)
{
	struct ringbus_address address = {.slot = to};

	for (unsigned i = 0; i < 6; i++)
		ringbus_contact_address(from, &address, payload, i % 2 ? 50 : 3000, 0);
}

static void take_some(struct ringbus_node *node)
{
	struct ringbus_message m;

	for (unsigned i = 0; i < 24 && ringbus_next(node, &m, 0) == 0; i++)
		look(&m);
}

/* The victim's slot (2) had an owner, which left rings, a pool, and messages unread. */
static void prepare(void)
{
	struct ringbus_event_options multi = {.size = sizeof(multi),
					      .mode = RINGBUS_MULTI_EMISSION,
					      .receive = true};
	struct ringbus_event *e;
	struct ringbus_node *before;

	c.one = honest("one");
	c.two = honest("two");
	before = honest("before");
	child_ok(ringbus_event_create(&e, c.one, "one's", NULL));
	child_ok(ringbus_event_create(&e, c.two, "many", &multi));
	child_ok(ringbus_subscribe(&e, c.two, "own", NULL));
	talk(before, 0);
	talk(before, 1);
	talk(c.one, 2);
	talk(c.two, 2);
	ringbus_node_close(before);
}

static int join(bool lie)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .port = bus_port(),
					 .name = "victim",
					 .spin_ns = RINGBUS_NO_SPIN,
					 .peer_notices = true,
					 .timeout_ns = lie ? 20 * RB_MS : 20 * RB_SECOND,
					 .on_notice = on_message};
	int r;

	hostile_arm("join", lie ? c.lies : 0);
	r = ringbus_node_open(&c.victim, &o);
	hostile_disarm(r);
	return r;
}

static void set_up_victim(void)
{
	struct ringbus_event_options multi = {.size = sizeof(multi),
					      .mode = RINGBUS_MULTI_EMISSION,
					      .receive = true};
	struct ringbus_subscribe_options sub = {.size = sizeof(sub), .handler = on_message};

	ringbus_on_contact(c.victim, on_message, NULL);
	ringbus_on_signal(c.victim, hostile_below(2) ? on_signal : NULL, NULL);
	child_ok(ringbus_event_create(&c.own, c.victim, "own", NULL));
	child_ok(ringbus_subscribe(&c.theirs, c.victim, "one's", &sub));
	if (ringbus_subscribe(&c.many, c.victim, "many", &sub) < 0)
		child_ok(ringbus_event_create(&c.many, c.victim, "many", &multi));
	hostile_victim(c.victim);
	talk(c.one, 2);
	talk(c.two, 2);
}

static void finish(void)
{
	hostile_arm("release all", c.lies);
	ringbus_loan_cancel(&c.loan);
	for (unsigned i = 0; i < BORROWS; i++)
		ringbus_release(c.borrow[i]);
	hostile_disarm(0);
	hostile_arm("close", hostile_below(2) ? c.lies : 0);
	ringbus_node_close(c.victim);
	hostile_disarm(0);
}

static void episode(void)
{
	static const unsigned lies[] = {0, 2, 10, 50, 200, 600};
	bool joined, scribble = hostile_below(3) == 0;

	memset(&c, 0, sizeof(c));
	c.lies = lies[hostile_below(rb_array_size(lies))];
	prepare();
	joined = join(hostile_below(4) == 0) == 0;
	if (!joined)
		joined = join(false) == 0;
	if (joined && node_enter(c.victim) == 0 && c.victim->slot == 2) {
		set_up_victim();
		for (unsigned i = 0; i < 120; i++) {
			lied_to();
			if (i % 16 == 0) {
				if (scribble)
					hostile_scribble((unsigned)hostile_below(40));
				talk(c.one, 2);
				take_some(c.one);
				take_some(c.two);
			}
		}
	}
	hostile_victim(NULL);
	if (joined)
		finish();
	ringbus_node_close(c.one);
	ringbus_node_close(c.two);
}

static void run_episodes(uint64_t unused)
{
	uint64_t seed = harness_number("HOSTILE_SEED", 1),
		 first = harness_number("HOSTILE_FIRST", 0);
	uint64_t episodes = harness_number("HOSTILE_EPISODES", UINT64_MAX);
	uint64_t enough = harness_number("HOSTILE_LOADS", 4000000);
	const struct hostile_counts *n = hostile_counts();

	for (uint64_t e = 0; e < episodes && n->loads < enough; e++) {
		uint64_t mixed = seed + (first + e) * 0x9e3779b97f4a7c15ull;

		flag_set(0, first + e);
		hostile_begin(splitmix(&mixed));
		image_restore((uint32_t)(1 + (first + e) * 16));
		episode();
		flag_set(2, e + 1);
	}
	ledger("hostile-loads", (double)n->loads);
	ledger("loads-of-one-call", (double)n->worst);
	print_message("%llu episodes, %llu operations (%llu failed), %llu loads, %llu lies; most "
		      "loads of one: %llu (%s)\n",
		      (unsigned long long)flag_get(2), (unsigned long long)n->operations,
		      (unsigned long long)n->failed, (unsigned long long)n->loads,
		      (unsigned long long)n->lies, (unsigned long long)n->worst,
		      n->worst_operation ? n->worst_operation : "");
	flag_set(1, 1);
}

static void a_node_that_reads_lies_stays_in_bounds(void **state)
{
	struct bus_spec spec = {.nodes = 8,
				.events = 16,
				.ring_bytes = 4096,
				.pool_bytes = 64 << 10};

	watchdog(600);
	bus_serve(&spec);
	/* the region is made before anybody joins */
	image_keep();
	hostile_run(run_episodes, "fuzz_hostile", harness_number("HOSTILE_SEED", 1));
	bus_kill();
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_node_that_reads_lies_stays_in_bounds),
};

HARNESS_MAIN("fuzz_hostile", tests)

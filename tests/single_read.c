/* single_read.c: see single_read.h. */
#include "single_read.h"

#include "control.h"
#include "node.h"

#define LOADS 65536

static struct {
	const char *operation;
	uint64_t offsets[LOADS];
	unsigned count;
	uint64_t words, loads, operations, excused;
} s;

/* Words that one operation may load more than once. operation NULL: any; most: loads. */
static const struct {
	const char *operation, *word;
	unsigned most;
	const char *reason;
} excuses[] = {
	{NULL, "counter", UINT32_MAX, "information, decides nothing"},
	{NULL, "payload", UINT32_MAX,
	 "bytes of messages, copied; the user is told that they may change"},
	{"contact", "bell.slot", 2, "is anybody there; then, whom the record names"},
	{"contact", "ring_rx.asked", 2, "the quick path decides by itself, and so does the other"},
	{"contact, pooled", "bell.slot", 4, "as above; what a former owner held is free"},
	{"emit, pooled", "bell.slot", 4, "what a former owner held is free; whom the record names"},
	{"emit a loan", "bell.slot", 2, "whom the record names; what a former owner held is free"},
	{"next and borrow", "bell.slot", 2, "own slot: two calls"},
	{"find", "bell.slot", 2, "whose name it is; whether he lives"},
	{"receive", "record", 2, "payload, copied in pieces that overlap (machine code only)"},
	/* under the control lock, whose holder alone writes them; each pass bounds what it reads */
	{"create", "event.word", 3, "found; new; described"},
	{"create", "event.changes", 2, "counted up; remembered"},
	{"create", "event.deliver", 2, "who waits for it; who is a member"},
	{"create", "event.members", 2, "a bit cleared; who is a member"},
	{"create", "hash", 2, "looked for; a free one"},
	{"dissolve", "event.word", 2, "whose it is; its generation"},
	{"subscribe", "event.word", 4, "looked for twice; new; described"},
	{"subscribe", "hash", 3, "looked for twice; a free one"},
	{"unsubscribe", "event.word", 3, "which it is; settled; its generation"},
	{"unsubscribe", "event.members", 3, "a bit cleared; is anybody left"},
	{"unsubscribe", "event.deliver", 3, "a bit cleared; is anybody left"},
	{"join", "bell.slot", 3, "granted; claimed; a look at all in two passes"},
	{"close", "bell.slot", 5,
	 "passes over all slots: granted, alive, to be freed, free, how many"},
	{"close", "bell.inbox", 2, "rung twice: left, freed"},
	{"close", "bell.room", 2, "rung twice: left, freed"},
	{"close", "event.word", 2, "passes: ownership, settled"},
	{"close", "event.members", 2, "a bit cleared; is anybody left"},
	{"close", "event.deliver", 2, "a bit cleared; is anybody left"},
	{"close", "node.pool", 3, "passes: bits of the one that left, all names, given back"},
	{"close", "borrow bits", 4, "passes: chunks without a reader, bits of the one that left"},
	{"close", "node.ring", 3, "passes: all names, each ring of the pair, given back"},
};

void single_begin(const char *operation)
{
	s.operation = operation;
	s.count = 0;
}

void single_loaded(uint64_t offset)
{
	if (s.count < LOADS)
		s.offsets[s.count++] = offset & ~7ull;
}

static int by_offset(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static bool is_excused(const char *word, unsigned times)
{
	for (unsigned i = 0; i < rb_array_size(excuses); i++)
		if ((!excuses[i].operation || strcmp(excuses[i].operation, s.operation) == 0) &&
		    strcmp(excuses[i].word, word) == 0 && times <= excuses[i].most)
			return true;
	return false;
}

unsigned single_end(void)
{
	unsigned bad = 0, times;

	qsort(s.offsets, s.count, sizeof(s.offsets[0]), by_offset);
	for (unsigned i = 0; i < s.count; i += times) {
		for (times = 1; i + times < s.count && s.offsets[i + times] == s.offsets[i];)
			times++;
		s.words++;
		if (times == 1)
			continue;
		if (is_excused(words_name(s.offsets[i]), times)) {
			s.excused++;
			continue;
		}
		print_error("%s: %s (offset %#llx) was loaded %u times\n", s.operation,
			    words_name(s.offsets[i]), (unsigned long long)s.offsets[i], times);
		bad++;
	}
	s.loads += s.count;
	s.operations++;
	return bad;
}

void single_say(const char *how)
{
	print_message("%s: %llu operations, %llu loads of %llu words; %llu words read again, each "
		      "with its reason\n",
		      how, (unsigned long long)s.operations, (unsigned long long)s.loads,
		      (unsigned long long)s.words, (unsigned long long)s.excused);
}

/* ---- operations ---- */

static struct {
	struct ringbus_node *a, *b, *c, *d;
	struct ringbus_event *own, *many, *theirs, *made;
	struct ringbus_borrow *borrow;
	struct ringbus_loan loan;
	struct ringbus_address to_a, to_b;
} n;

static uint8_t data[9000], buffer[9000];

struct ringbus_node *single_node(void)
{
	return n.a;
}

static void ignore(const struct ringbus_message *m, void *user)
{
}

/* Not watched: others have something for the watched node. */
static void feed(size_t size)
{
	ok(ringbus_contact_address(n.b, &n.to_a, data, size, 0));
	ok(ringbus_contact_address(n.c, &n.to_a, data, size, 0));
}

static void drain(struct ringbus_node *node)
{
	struct ringbus_message m;

	while (ringbus_next(node, &m, 0) == 0)
		;
}

static void do_contact(void)
{
	ok(ringbus_contact_address(n.a, &n.to_b, data, 100, 0));
}

static void do_contact_pooled(void)
{
	ok(ringbus_contact_address(n.a, &n.to_b, data, 5000, 0));
}

static void do_emit(void)
{
	ok(ringbus_emit(n.own, data, 100, 0));
}

static void do_emit_multi(void)
{
	ok(ringbus_emit(n.many, data, 100, 0));
}

static void do_emit_pooled(void)
{
	ok(ringbus_emit(n.own, data, 5000, 0));
}

static void do_loan(void)
{
	ok(ringbus_loan(n.a, 3000, &n.loan, 0));
}

static void do_emit_loan(void)
{
	ok(ringbus_emit_loan(n.own, &n.loan, 0));
}

static void do_next(void)
{
	struct ringbus_message m;

	ok(ringbus_next(n.a, &m, 0));
}

static void do_next_empty(void)
{
	struct ringbus_message m;

	fails(ringbus_next(n.a, &m, 0), -EAGAIN);
}

static void do_receive(void)
{
	ok(ringbus_receive(n.a, buffer, sizeof(buffer), NULL, 0));
}

static void do_borrow(void)
{
	struct ringbus_message m;

	ok(ringbus_next(n.a, &m, 0));
	ok(ringbus_borrow(&m, &n.borrow));
}

static void do_release(void)
{
	ringbus_release(n.borrow);
	n.borrow = NULL;
}

static void do_poll(void)
{
	assert_true(ok(ringbus_poll(n.a, 1)) > 0);
}

static void do_signal(void)
{
	ok(ringbus_signal_address(n.a, &n.to_b));
}

static void do_signal_take(void)
{
	uint64_t count;

	ok(ringbus_signal_wait(n.a, &count, 0));
}

static void do_info(void)
{
	struct ringbus_event_info info = {.size = sizeof(info)};

	ok(ringbus_event_info(n.own, &info));
}

static void do_find(void)
{
	struct ringbus_address a;

	ok(ringbus_node_find(n.a, "b", &a));
}

static void do_create(void)
{
	ok(ringbus_event_create(&n.made, n.a, "made", NULL));
}

static void do_dissolve(void)
{
	ok(ringbus_event_dissolve(n.made));
}

static void do_subscribe(void)
{
	ok(ringbus_subscribe(&n.theirs, n.a, "theirs", NULL));
}

static void do_unsubscribe(void)
{
	ok(ringbus_unsubscribe(n.theirs));
}

static void do_join(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .port = bus_port(), .name = "d"};

	ok(ringbus_node_open(&n.d, &o));
}

static void do_close(void)
{
	ringbus_node_close(n.d);
}

static void do_reap(void)
{
	ok(control_reap_all(n.a->region, rb_deadline_ns(RB_SECOND)));
}

static void feed_small(void)
{
	feed(100);
}

static void feed_large(void)
{
	feed(5000);
}

static void feed_signal(void)
{
	ok(ringbus_signal_address(n.b, &n.to_a));
}

static void drain_all(void)
{
	drain(n.a);
	drain(n.b);
	drain(n.c);
}

/* Those named "-" prepare, and are not watched. */
const struct single_operation single_operations[] = {
	{"contact", do_contact, false},
	{"contact, pooled", do_contact_pooled, false},
	{"emit", do_emit, false},
	{"emit, MULTI", do_emit_multi, false},
	{"emit, pooled", do_emit_pooled, false},
	{"loan", do_loan, false},
	{"emit a loan", do_emit_loan, false},
	{"-", drain_all, false},
	{"-", feed_small, false},
	{"next", do_next, false},
	{"next", do_next, false},
	{"next, nothing there", do_next_empty, false},
	{"-", feed_small, false},
	{"receive", do_receive, false},
	{"-", drain_all, false},
	{"-", feed_large, false},
	{"next and borrow", do_borrow, false},
	{"release", do_release, false},
	{"-", drain_all, false},
	{"-", feed_small, false},
	{"-", feed_large, false},
	{"poll", do_poll, false},
	{"poll", do_poll, false},
	{"poll", do_poll, false},
	{"-", drain_all, false},
	{"-", feed_signal, false},
	{"signal taken", do_signal_take, false},
	{"signal", do_signal, false},
	{"event info", do_info, false},
	{"find", do_find, false},
	{"create", do_create, true},
	{"dissolve", do_dissolve, true},
	{"subscribe", do_subscribe, true},
	{"unsubscribe", do_unsubscribe, true},
	{"join", do_join, true},
	{"close", do_close, true},
	{"reap", do_reap, true},
	{"-", drain_all, false},
};
const unsigned single_operation_count = rb_array_size(single_operations);

static struct ringbus_node *node_of(const char *name)
{
	struct ringbus_node_options o = {.size = sizeof(o),
					 .name = name,
					 .spin_ns = RINGBUS_NO_SPIN,
					 .no_safety_wake = true};

	return node_open_with(&o);
}

void single_prepare(void)
{
	n.a = node_of("a");
	n.b = node_of("b");
	n.c = node_of("c");
	n.to_a = node_address(n.a);
	n.to_b = node_address(n.b);
	n.own = single(n.a, "own");
	subscribe(n.b, "own");
	subscribe(n.c, "own");
	n.many = multi(n.b, "many");
	n.many = subscribe(n.a, "many");
	subscribe(n.c, "many");
	ok(ringbus_on_contact(n.a, ignore, NULL));
	/* once through, so that rings and pools are there and no notice is left */
	for (unsigned i = 0; i < single_operation_count; i++)
		single_operations[i].run();
	drain_all();
}

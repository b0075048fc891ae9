/* unit_notice.c: what a user may rely on about notices of peers, see enum ringbus_notice in
 * ringbus.h; also where a slot has another owner between two looks of the receiver. */
#include "atomic.h"
#include "harness.h"

static struct ringbus_node *watcher_open(void)
{
	struct ringbus_node_options o = {.size = sizeof(o), .peer_notices = true};

	return node_open_with(&o);
}

/* Pulls what comes next, notice or not. */
static struct ringbus_message next(struct ringbus_node *node)
{
	struct ringbus_message m;

	ok(ringbus_next(node, &m, 0));
	return m;
}

static void expect_notice(struct ringbus_node *node, enum ringbus_notice notice,
			  const struct ringbus_address *who, uint64_t count)
{
	struct ringbus_message m = next(node);

	assert_int_equal(m.kind, RINGBUS_NOTICE);
	assert_int_equal(m.notice, notice);
	assert_int_equal(m.sender.slot, who->slot);
	assert_int_equal(m.sender.generation, who->generation);
	assert_int_equal(m.sender.pid, who->pid);
	assert_int_equal(m.count, count);
}

static void expect_text(struct ringbus_node *node, const struct ringbus_address *who,
			const char *text)
{
	struct ringbus_message m = next(node);

	assert_int_equal(m.kind, RINGBUS_CONTACT);
	assert_int_equal(m.sender.slot, who->slot);
	assert_int_equal(m.sender.generation, who->generation);
	assert_int_equal(m.size, strlen(text));
	assert_memory_equal(m.data, text, m.size);
}

static void expect_nothing(struct ringbus_node *node)
{
	struct ringbus_message m;

	fails(ringbus_next(node, &m, 0), -EAGAIN);
}

/* Joins, sends a text if there is one, and leaves. */
static struct ringbus_address come_and_go(struct ringbus_node *to, const char *text)
{
	struct ringbus_address target = node_address(to), own;
	struct ringbus_node *node = node_open();

	own = node_address(node);
	if (text)
		ok(ringbus_contact_address(node, &target, text, strlen(text), 0));
	node_close(node);
	return own;
}

static void each_end_is_told_once(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node = node_open();
	struct ringbus_address first = node_address(node), second;

	expect_notice(watcher, RINGBUS_PEER_JOINED, &first, 0);
	ok(ringbus_contact_address(watcher, &first, "x", 1, 0));
	node_close(node);
	expect_notice(watcher, RINGBUS_PEER_LEFT, &first, 0);
	node = node_open();
	second = node_address(node);
	assert_int_equal(second.slot, first.slot);
	expect_notice(watcher, RINGBUS_PEER_JOINED, &second, 0);
	node_close(node);
	expect_notice(watcher, RINGBUS_PEER_LEFT, &second, 0);
	expect_nothing(watcher);
	node_close(node_open_named("makes everybody look"));
	expect_nothing(watcher);
	assert_int_equal(node_stats(watcher).dead_peers, 0);
}

static void who_came_and_went_between_two_looks_and_was_strange_is_counted(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node;
	struct ringbus_address own;

	for (unsigned i = 0; i < 3; i++)
		come_and_go(watcher, NULL);
	expect_nothing(watcher);
	node = node_open();
	own = node_address(node);
	expect_notice(watcher, RINGBUS_PEER_JOINED, &own, 3);
	expect_nothing(watcher);
}

static void whose_message_came_its_end_is_told_after_it(void **state)
{
	struct ringbus_node *watcher = watcher_open();
	struct ringbus_address own = come_and_go(watcher, "hello");

	expect_text(watcher, &own, "hello");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &own, 0);
	expect_nothing(watcher);
}

static void of_several_unseen_owners_those_with_messages_are_told_between_them(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node;
	struct ringbus_address own[5], last;

	own[0] = come_and_go(watcher, "one");
	own[1] = come_and_go(watcher, NULL);
	own[2] = come_and_go(watcher, "three");
	own[3] = come_and_go(watcher, NULL);
	own[4] = come_and_go(watcher, NULL);
	node = node_open();
	last = node_address(node);
	own[0].pid = own[2].pid = 0; /* known as long as nobody else has the slot */
	expect_text(watcher, &own[0], "one");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &own[0], 0);
	expect_text(watcher, &own[2], "three");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &own[2], 1);
	expect_notice(watcher, RINGBUS_PEER_JOINED, &last, 2);
	expect_nothing(watcher);
}

/* So many that the rings hold more than one call of poll takes. */
static void count_both(const struct ringbus_message *m, void *user)
{
	unsigned *n = user;

	if (m->kind == RINGBUS_NOTICE) {
		assert_int_equal(m->notice, RINGBUS_PEER_LEFT);
		assert_int_equal(n[0], 1000);
		n[1]++;
	} else {
		assert_int_equal(n[1], 0);
		n[0]++;
	}
}

static void an_unseen_end_waits_for_all_messages_in_poll_too(void **state)
{
	unsigned n[2] = {0, 0};
	struct ringbus_node_options o = {.size = sizeof(o),
					 .peer_notices = true,
					 .on_notice = count_both,
					 .on_notice_user = n};
	struct ringbus_node *watcher = node_open_with(&o), *node = node_open();
	struct ringbus_address to = node_address(watcher);

	ok(ringbus_on_contact(watcher, count_both, n));
	for (unsigned i = 0; i < 1000; i++)
		ok(ringbus_contact_address(node, &to, "x", 1, 0));
	node_close(node);
	while (ok(ringbus_poll(watcher, 0)) > 0)
		;
	assert_int_equal(n[0], 1000);
	assert_int_equal(n[1], 1);
}

struct late {
	struct ringbus_node
		*node; /* closed after its first message, within a turn of the watcher */
	struct ringbus_address watcher, own;
	unsigned messages, ends;
};

static void send_first_and_close(const struct ringbus_message *m, void *user)
{
	struct late *late = user;

	if (m->sender.slot == late->own.slot && m->kind == RINGBUS_CONTACT) {
		assert_int_equal(late->ends, 0);
		late->messages++;
	} else if (m->sender.slot == late->own.slot && m->notice == RINGBUS_PEER_LEFT) {
		late->ends++;
	} else if (m->kind == RINGBUS_CONTACT && late->node) {
		ok(ringbus_contact_address(late->node, &late->watcher, "x", 1, 0));
		node_close(late->node);
		late->node = NULL;
	}
}

/* Its ring is not open yet when the turn comes to the notices. */
static void an_end_waits_for_a_ring_that_was_made_in_the_same_turn(void **state)
{
	struct late late = {0};
	struct ringbus_node_options o = {.size = sizeof(o),
					 .peer_notices = true,
					 .on_notice = send_first_and_close,
					 .on_notice_user = &late};
	struct ringbus_node *watcher = node_open_with(&o), *other = node_open(), *third;

	late.node = node_open();
	late.watcher = node_address(watcher);
	late.own = node_address(late.node);
	ok(ringbus_on_contact(watcher, send_first_and_close, &late));
	while (ok(ringbus_poll(watcher, 0)) > 0)
		;
	third = node_open(); /* so that there are notices to come */
	ok(ringbus_contact_address(other, &late.watcher, "go", 2, 0));
	while (late.ends == 0)
		ok(ringbus_poll(watcher, 0));
	assert_int_equal(late.messages, 1);
	node_close(third);
}

static void die_unseen(uint64_t to)
{
	struct ringbus_node *node = child_node(NULL);
	struct ringbus_address target = {.slot = (uint32_t)to};

	child_ok(ringbus_contact_address(node, &target, "x", 1, 0));
	_exit(0);
}

/* How an owner ended is known also after others had its slot. */
static void deaths_and_departures_are_told_apart_after_others_had_the_slot(void **state)
{
	struct ringbus_node *watcher = watcher_open();
	struct ringbus_address own = node_address(watcher);
	struct ringbus_message m;

	for (unsigned i = 0; i < 8; i++) {
		if (i % 3)
			come_and_go(watcher, "x");
		else
			child_join(child_start(die_unseen, own.slot));
		/* the slot is free again, so that the next takes the same */
		for (bool again = true; again;) {
			struct ringbus_node *probe = node_open();

			again = node_address(probe).slot != own.slot + 1;
			node_close(probe);
		}
	}
	for (unsigned i = 0; i < 8; i++) {
		m = next(watcher);
		assert_int_equal(m.kind, RINGBUS_CONTACT);
		assert_int_equal(m.sender.slot, own.slot + 1);
		m = next(watcher);
		assert_int_equal(m.kind, RINGBUS_NOTICE);
		assert_int_equal(m.notice, i % 3 ? RINGBUS_PEER_LEFT : RINGBUS_PEER_DIED);
	}
}

static void who_was_sent_to_its_end_is_told(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node = node_open();
	struct ringbus_address own = node_address(node);

	ok(ringbus_contact_address(watcher, &own, "x", 1, 0));
	node_close(node);
	expect_notice(watcher, RINGBUS_PEER_LEFT, &own, 0);
	expect_nothing(watcher);
}

static void an_end_that_was_joined_comes_between_the_messages_of_two_owners(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node = node_open();
	struct ringbus_address first = node_address(node), second;
	struct ringbus_address to = node_address(watcher);

	expect_notice(watcher, RINGBUS_PEER_JOINED, &first, 0);
	ok(ringbus_contact_address(node, &to, "first", 5, 0));
	node_close(node);
	second = come_and_go(watcher, "second");
	assert_int_equal(second.slot, first.slot);
	expect_text(watcher, &first, "first");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &first, 0);
	expect_text(watcher, &second, "second");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &second, 0);
	expect_nothing(watcher);
}

/* We look only after all that, and have sent to the last owner. */
static void ends_between_messages_are_told_of_a_slot_whose_present_owner_we_sent_to(void **state)
{
	struct ringbus_node *watcher = watcher_open(), *node;
	struct ringbus_address one = come_and_go(watcher, "one"), two = come_and_go(watcher, "two");
	struct ringbus_address to = node_address(watcher), last;

	node = node_open();
	last = node_address(node);
	one.pid = two.pid = 0;
	ok(ringbus_contact_address(watcher, &last, "x", 1, 0));
	ok(ringbus_contact_address(node, &to, "three", 5, 0));
	expect_text(watcher, &one, "one");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &one, 0);
	expect_text(watcher, &two, "two");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &two, 0);
	expect_text(watcher, &last, "three");
	expect_notice(watcher, RINGBUS_PEER_JOINED, &last, 0);
	expect_nothing(watcher);
}

/* Lives of three owners of one slot: whether it sends, whether we send to it, whether we look
 * while it lives and after it; whether the last one stays. */
#define LIVES 3u

static struct life {
	bool sends, sent_to;
	struct ringbus_address own;
	bool joined, heard, ended;
} lives[LIVES];

/* False: there is nothing. */
static bool look_at_lives(struct ringbus_node *watcher)
{
	struct ringbus_message m;
	struct life *life = lives;
	int rc = ringbus_next(watcher, &m, 0);

	if (rc == -EAGAIN)
		return false;
	assert_int_equal(rc, 0);
	while (life < lives + LIVES && life->own.generation != m.sender.generation)
		life++;
	assert_true(life < lives + LIVES);
	for (const struct life *before = lives; before < life; before++) {
		assert_int_equal(before->heard, before->sends);
		assert_true(before->ended || !(before->joined || before->heard));
	}
	for (const struct life *after = life + 1; after < lives + LIVES; after++)
		assert_false(after->joined || after->heard || after->ended);
	assert_false(life->ended);
	if (m.kind == RINGBUS_CONTACT) {
		assert_true(life->sends && !life->heard);
		life->heard = true;
	} else if (m.notice == RINGBUS_PEER_JOINED) {
		assert_false(life->joined);
		life->joined = true;
	} else {
		assert_int_equal(m.notice, RINGBUS_PEER_LEFT);
		assert_int_equal(life->heard, life->sends);
		life->ended = true;
	}
	return true;
}

static void live_in_a_way(unsigned way)
{
	struct ringbus_node *watcher = watcher_open(), *node = NULL;
	struct ringbus_address to = node_address(watcher);
	bool stays = way & 1;

	memset(lives, 0, sizeof(lives));
	for (unsigned i = 0; i < LIVES; i++) {
		struct life *life = &lives[i];

		node = node_open();
		life->own = node_address(node);
		assert_int_equal(life->own.slot, lives[0].own.slot);
		life->sends = way >> (4 * i + 1) & 1;
		life->sent_to = way >> (4 * i + 2) & 1;
		if (life->sends)
			ok(ringbus_contact_address(node, &to, "x", 1, 0));
		if (life->sent_to)
			ok(ringbus_contact_address(watcher, &life->own, "x", 1, 0));
		if (way >> (4 * i + 3) & 1)
			look_at_lives(watcher);
		if (!stays || i < LIVES - 1)
			node_close(node);
		if (way >> (4 * i + 4) & 1)
			look_at_lives(watcher);
	}
	while (look_at_lives(watcher))
		;
	for (unsigned i = 0, partner = LIVES; i < LIVES; i++) {
		/* of several that we sent to only the last is promised */
		bool last_sent_to = lives[i].sent_to;

		for (partner = i + 1; partner < LIVES; partner++)
			last_sent_to = last_sent_to && !lives[partner].sent_to;
		assert_int_equal(lives[i].heard, lives[i].sends);
		if (stays && i == LIVES - 1)
			assert_true(lives[i].joined && !lives[i].ended);
		else if (lives[i].joined || lives[i].sends || last_sent_to)
			assert_true(lives[i].ended);
	}
	fails(ringbus_wait(watcher, 0), -ETIMEDOUT);
	if (stays)
		node_close(node);
	node_close(watcher);
}

static void lives_of_three_owners_are_told_in_order(void **state)
{
	for (unsigned way = 0; way < 2u << 4 * LIVES; way += 13) /* all take long */
		live_in_a_way(way);
}

/* The slot changes hands in the middle of a turn: after the look at the control epoch, before the
 * look at the ring. */
static struct {
	struct ringbus_node *watcher, *node;
	struct ringbus_address second;
	unsigned at, loads;
} turn;

static uint64_t load_and_change(const struct shm_word *w, enum shm_order order)
{
	if (++turn.loads == turn.at) {
		shm_hooks = NULL;
		node_close(turn.node);
		turn.second = come_and_go(turn.watcher, "second");
	}
	return order == SHM_ACQUIRE ? atomic_load_explicit(&w->v, memory_order_acquire)
				    : atomic_load_explicit(&w->v, memory_order_relaxed);
}

static const struct shm_hooks change_hooks = {.load = load_and_change};

/* False: the turn has fewer loads. */
static bool change_hands_at(unsigned load)
{
	struct ringbus_node *watcher = watcher_open(), *node = node_open();
	struct ringbus_address first = node_address(node), to = node_address(watcher);
	struct ringbus_message m;
	int rc;

	turn.watcher = watcher;
	turn.node = node;
	turn.at = load;
	turn.loads = 0;
	ok(ringbus_contact_address(node, &to, "first", 5, 0));
	expect_text(watcher, &first, "first");
	expect_notice(watcher, RINGBUS_PEER_JOINED, &first, 0);
	expect_nothing(watcher);
	shm_hooks = &change_hooks;
	rc = ringbus_next(watcher, &m, 0);
	shm_hooks = NULL;
	if (turn.loads < load) {
		assert_int_equal(rc, -EAGAIN);
		node_close(node);
		node_close(watcher);
		return false;
	}
	if (rc == -EAGAIN)
		ok(ringbus_next(watcher, &m, 0));
	assert_int_equal(m.kind, RINGBUS_NOTICE);
	assert_int_equal(m.notice, RINGBUS_PEER_LEFT);
	assert_int_equal(m.sender.generation, first.generation);
	expect_text(watcher, &turn.second, "second");
	expect_notice(watcher, RINGBUS_PEER_LEFT, &turn.second, 0);
	expect_nothing(watcher);
	node_close(watcher);
	return true;
}

static void a_slot_that_changes_hands_in_the_middle_of_a_turn_keeps_the_order(void **state)
{
	unsigned load = 1;

	while (change_hands_at(load))
		load++;
	print_message("  %u moments\n", load - 1);
	assert_true(load > 3);
}

/* Something happens in the slot after the watcher's in the middle of the turn that first looks at
 * it. */
static struct scan {
	struct ringbus_node *watcher, *node;
	struct ringbus_address first, own;
	bool sent_to;
	unsigned at, loads;
} scan;

static uint64_t load_and_join(const struct shm_word *w, enum shm_order order)
{
	uint64_t before = atomic_load_explicit(&w->v, memory_order_acquire);

	if (++scan.loads == scan.at) {
		shm_hooks = NULL;
		if (!scan.sent_to)
			scan.first = come_and_go(scan.watcher, "first");
		scan.node = node_open();
		scan.own = node_address(scan.node);
		if (scan.sent_to)
			ok(ringbus_contact_address(scan.watcher, &scan.own, "x", 1, 0));
	}
	return before;
}

/* False: the turn has fewer loads. */
static bool join_at(unsigned load, bool sent_to)
{
	static const struct shm_hooks hooks = {.load = load_and_join};
	struct ringbus_node *watcher = watcher_open(), *one = node_open(), *two = node_open();
	struct ringbus_message m;
	unsigned told = 0;
	uint32_t slot;
	bool happened;
	int rc;

	slot = node_address(one).slot;
	node_close(one); /* the other's slot is looked at after it */
	scan = (struct scan){.watcher = watcher, .sent_to = sent_to, .at = load};
	shm_hooks = &hooks;
	rc = ringbus_next(watcher, &m, 0);
	shm_hooks = NULL;
	happened = scan.loads >= load;
	for (; rc == 0; rc = ringbus_next(watcher, &m, 0)) {
		if (m.sender.slot != slot)
			continue;
		told++;
		if (sent_to || told == 3) {
			assert_int_equal(m.notice, RINGBUS_PEER_JOINED);
			assert_int_equal(m.sender.generation, scan.own.generation);
		} else {
			assert_int_equal(m.notice, told == 1 ? 0 : RINGBUS_PEER_LEFT);
			assert_int_equal(m.sender.generation, scan.first.generation);
		}
	}
	assert_int_equal(rc, -EAGAIN);
	assert_int_equal(told, !happened ? 0 : sent_to ? 1 : 3);
	if (happened)
		node_close(scan.node);
	node_close(two);
	if (sent_to)
		node_close(watcher); /* else it stays: the next one's rings were never made */
	return happened;
}

static void who_sends_and_leaves_in_the_middle_of_a_turn_is_told_before_its_successor(void **state)
{
	for (unsigned load = 1; load <= 12; load++) /* the slots of each turn are one more */
		assert_true(join_at(load, false));
}

static void who_joins_and_is_sent_to_in_the_middle_of_a_turn_is_not_told_as_gone(void **state)
{
	unsigned load = 1;

	while (join_at(load, true))
		load++;
	assert_true(load > 5);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(each_end_is_told_once),
	BUS_TEST(who_came_and_went_between_two_looks_and_was_strange_is_counted),
	BUS_TEST(whose_message_came_its_end_is_told_after_it),
	BUS_TEST(of_several_unseen_owners_those_with_messages_are_told_between_them),
	BUS_TEST(an_unseen_end_waits_for_all_messages_in_poll_too),
	BUS_TEST(an_end_waits_for_a_ring_that_was_made_in_the_same_turn),
	BUS_TEST(deaths_and_departures_are_told_apart_after_others_had_the_slot),
	BUS_TEST(who_was_sent_to_its_end_is_told),
	BUS_TEST(an_end_that_was_joined_comes_between_the_messages_of_two_owners),
	BUS_TEST(ends_between_messages_are_told_of_a_slot_whose_present_owner_we_sent_to),
	BUS_TEST(lives_of_three_owners_are_told_in_order),
	BUS_TEST(a_slot_that_changes_hands_in_the_middle_of_a_turn_keeps_the_order),
	BUS_TEST(who_sends_and_leaves_in_the_middle_of_a_turn_is_told_before_its_successor),
	BUS_TEST(who_joins_and_is_sent_to_in_the_middle_of_a_turn_is_not_told_as_gone),
};

HARNESS_MAIN("unit_notice", tests)

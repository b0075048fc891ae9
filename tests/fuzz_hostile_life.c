/* fuzz_hostile_life.c: the service, the reaper and the inspection among lies: they stay within
 * their memory and end after a bounded number of loads.
 *
 * See fuzz_hostile.c and hostile.h. The service runs in this process, so that its loads can lie
 * too; it adopts regions with owners that are dead, alive, or nonsense.
 */
#include "hostile.h"

#include "ringbus-inspect.h"
#include "service.h"

#include <sys/stat.h>

static unsigned some_lies(void)
{
	static const unsigned lies[] = {0, 2, 10, 50, 200, 600};

	return lies[hostile_below(rb_array_size(lies))];
}

/* Begins each episode; the seed follows from its number. */
static bool next_episode(uint64_t *e, uint64_t enough)
{
	uint64_t first = harness_number("HOSTILE_FIRST", 0);
	uint64_t mixed = harness_number("HOSTILE_SEED", 1) + (first + *e) * 0x9e3779b97f4a7c15ull;

	if (*e >= harness_number("HOSTILE_EPISODES", UINT64_MAX) ||
	    hostile_counts()->loads >= enough)
		return false;
	flag_set(0, first + *e);
	hostile_begin(splitmix(&mixed));
	++*e;
	return true;
}

static void say(uint64_t episodes, const char *what)
{
	const struct hostile_counts *n = hostile_counts();

	ledger("hostile-loads", (double)n->loads);
	print_message("%s: %llu episodes, %llu operations (%llu failed), %llu loads, %llu lies; "
		      "most loads of one: %llu (%s)\n",
		      what, (unsigned long long)episodes, (unsigned long long)n->operations,
		      (unsigned long long)n->failed, (unsigned long long)n->loads,
		      (unsigned long long)n->lies, (unsigned long long)n->worst,
		      n->worst_operation ? n->worst_operation : "");
	flag_set(1, 1);
}

/* ---- the service ---- */

static int open_service(struct ringbus_service **service, unsigned lies)
{
	struct ringbus_service_options o = {.size = sizeof(o),
					    .port = bus_port(),
					    .nodes = 8,
					    .events = 16,
					    .ring_bytes = 4096,
					    .pool_bytes = 64 << 10};
	int r;

	hostile_arm("service open", lies);
	r = ringbus_service_open(service, &o);
	hostile_disarm(r);
	return r;
}

/* Owners as a dead service may have left them. */
static void forge_owners(struct region *region)
{
	for (uint32_t s = 0; s < region->g.nodes; s++) {
		uint64_t dice = hostile_random();
		uint32_t pid = dice & 1 ? (uint32_t)flag_get(3) : dice & 2 ? 0 : (uint32_t)getpid();

		atomic_store(&region->bells[s].slot.v,
			     slot_word((uint32_t)hostile_below(5), pid,
				       (enum slot_state)hostile_below(8)));
	}
}

static void serve_some(struct ringbus_service *service, unsigned lies)
{
	for (unsigned i = 0; i < 12; i++) {
		struct peer_identity id = {.pid = (uint32_t)getpid(), .start_time = 1};
		struct control control;
		uint32_t slot, generation;
		int r = 0;

		if (i % 4 == 0)
			forge_owners(service->region);
		hostile_arm("service scan", lies);
		bus_scan(service, rb_now_ns() + hostile_below(3) * RB_SECOND);
		hostile_disarm(0);
		hostile_arm("grant", lies);
		r = control_lock(&control, service->region, rb_deadline_ns(RB_SECOND));
		if (r == 0) {
			r = control_grant(&control, &id, &slot, &generation);
			if (r == 0 && slot >= service->region->g.nodes)
				child_check(!"a slot in range was granted");
			control_unlock(&control);
		}
		hostile_disarm(r);
		hostile_arm("owner ended", lies);
		bus_owner_ended(service, (uint32_t)hostile_below(8), rb_now_ns());
		hostile_disarm(0);
		if (i % 4 == 3)
			hostile_scribble((unsigned)hostile_below(60));
	}
}

static void serve_episodes(uint64_t unused)
{
	struct ringbus_service *service = NULL;
	uint64_t e = 0, opened = 0;
	const char *path = bus_file();

	while (next_episode(&e, harness_number("HOSTILE_LOADS", 4000000) / 2)) {
		unsigned lies = some_lies();

		/* adopts or replaces what the last one left */
		if (open_service(&service, lies) == 0) {
			opened++;
			image_keep();
			serve_some(service, lies);
			hostile_arm("service close", lies);
			ringbus_service_close(service);
			hostile_disarm(0);
		} else {
			unlink(path);
		}
		if (hostile_below(8) == 0)
			unlink(path);
	}
	child_check(opened > e / 4);
	say(e, "service");
}

static void a_service_that_reads_lies_stays_in_bounds(void **state)
{
	watchdog(600);
	bus_serve(NULL);
	bus_stop();
	flag_set(3, dead_pid());
	hostile_run(serve_episodes, "fuzz_hostile_life a_service*",
		    harness_number("HOSTILE_SEED", 1));
	bus_expect_leftovers();
}

/* ---- inspection ---- */

static void on_finding(const struct ringbus_inspect_finding *finding, void *user)
{
	child_check(strlen(finding->text) < 192 && strlen(finding->code) > 0);
}

static void inspect_all(struct ringbus_inspect *in)
{
	struct ringbus_inspect_header header;
	struct ringbus_inspect_event event;
	struct ringbus_inspect_node node;
	struct ringbus_inspect_ring ring;
	struct ringbus_inspect_pool pool;
	uint32_t cursor = 0;

	ringbus_inspect_header(in, &header);
	while (ringbus_inspect_node_next(in, &cursor, &node) > 0)
		child_check(node.slot < 8 && strlen(node.name) < sizeof(node.name));
	for (cursor = 0; ringbus_inspect_event_next(in, &cursor, &event) > 0;)
		child_check(event.index < 16 && strlen(event.name) < sizeof(event.name));
	for (cursor = 0; ringbus_inspect_ring_next(in, &cursor, &ring) > 0;)
		child_check(ring.from < 8 && ring.to < 8);
	for (cursor = 0; ringbus_inspect_pool_next(in, &cursor, &pool) > 0;)
		child_check(pool.slot < 8 && pool.index < LAYOUT_POOL_EXTENTS);
}

static void inspect_lies(const char *path, unsigned lies)
{
	struct ringbus_inspect *in;

	hostile_private(true);
	hostile_arm("inspect", lies);
	if (ringbus_inspect_open_path(&in, path) == 0) {
		inspect_all(in);
		hostile_disarm(0);
		hostile_arm("check", lies);
		ringbus_inspect_check(in, on_finding, NULL);
		ringbus_inspect_close(in);
	}
	hostile_disarm(0);
	hostile_private(false);
}

static void fill_bus(struct ringbus_node *from, struct ringbus_node *to)
{
	static const uint8_t payload[3000];
	struct ringbus_address a, b;
	struct ringbus_event *e;

	child_ok(ringbus_node_address(to, &a));
	child_ok(ringbus_node_address(from, &b));
	child_ok(ringbus_event_create(&e, from, "news", NULL));
	child_ok(ringbus_subscribe(&e, to, "news", NULL));
	child_ok(ringbus_subscribe(&e, to, "pending", NULL));
	for (unsigned i = 0; i < 12; i++) {
		ringbus_contact_address(from, &a, payload, i % 2 ? 50 : 3000, 0);
		ringbus_contact_address(to, &b, payload, i % 3 ? 70 : 2000, 0);
	}
}

static void inspect_episodes(uint64_t unused)
{
	struct ringbus_node *one, *two;
	const char *path = bus_file();
	uint64_t e = 0;

	while (next_episode(&e, harness_number("HOSTILE_LOADS", 4000000) / 2)) {
		image_restore((uint32_t)(1 + flag_get(0) * 16));
		one = child_node(NULL);
		two = child_node(NULL);
		fill_bus(one, two);
		for (unsigned i = 0; i < 4; i++) {
			hostile_scribble(i * 8);
			inspect_lies(path, some_lies());
		}
		ringbus_node_close(one);
		ringbus_node_close(two);
	}
	say(e, "inspection");
}

static void an_inspection_that_reads_lies_stays_in_bounds(void **state)
{
	struct bus_spec spec = {.nodes = 8,
				.events = 16,
				.ring_bytes = 4096,
				.pool_bytes = 64 << 10};

	watchdog(600);
	bus_serve(&spec);
	image_keep();
	hostile_run(inspect_episodes, "fuzz_hostile_life an_inspection*",
		    harness_number("HOSTILE_SEED", 1));
	bus_kill();
	bus_expect_leftovers();
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_service_that_reads_lies_stays_in_bounds),
	BARE_TEST(an_inspection_that_reads_lies_stays_in_bounds),
};

HARNESS_MAIN("fuzz_hostile_life", tests)

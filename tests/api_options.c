/* api_options.c: callers that were built against an older or a newer ringbus.h. Their structs are
 * shorter or longer than ours: a shorter one is not read or written beyond its end, which here is
 * the end of what may be touched at all. */
#include "harness.h"

#include <sys/mman.h>

#define PAGE 4096u
#define STEP sizeof(size_t) /* of sizes that a struct can have had: no member lies across it */

/* Two pages, the second of which must not be touched. */
static uint8_t *page;

static int set_up(void **state)
{
	page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(mprotect(page + PAGE, PAGE, PROT_NONE), 0);
	return harness_setup(state);
}

static int tear_down(void **state)
{
	munmap(page, 2 * PAGE);
	return harness_teardown(state);
}

/* The first bytes of a struct, as an older caller has it, against the border; its size is set. */
static void *cut(const void *whole, size_t size)
{
	void *at = page + PAGE - size;

	memcpy(at, whole, size);
	memcpy(at, &size, sizeof(size));
	return at;
}

/* A newer caller's struct of `size` bytes, whose last byte is `last`. */
static void *extended(const void *whole, size_t bytes, size_t size, uint8_t last)
{
	void *at = page + PAGE - size;

	memset(at, 0, size);
	memcpy(at, whole, bytes);
	memcpy(at, &size, sizeof(size));
	page[PAGE - 1] = last;
	return at;
}

/* Whether a caller's struct of `size` bytes has this member. */
#define HAS(size, type, member) \
	((size) >= offsetof(struct type, member) + sizeof(((struct type *)0)->member))

static void a_nodes_options_are_read_as_far_as_they_go(void **state)
{
	struct ringbus_node_options o = {.port = bus_port(),
					 .directory = bus_directory(),
					 .name = "anna",
					 .single_sender = true};
	struct ringbus_node *other = node_open(), *node = NULL;
	struct ringbus_address address;
	char port[16];
	int found;

	snprintf(port, sizeof(port), "%u", bus_port());
	setenv("RINGBUS_PORT", port, 1); /* for those whose struct has no port */
	for (size_t size = STEP; size <= sizeof(o); size += STEP) {
		ok(ringbus_node_open(&node, cut(&o, size)));
		found = ringbus_node_find(other, "anna", &address);
		assert_int_equal(found, HAS(size, ringbus_node_options, name) ? 0 : -ESRCH);
		ringbus_node_close(node);
	}
	for (size_t more = 1; more < 100; more += 7) {
		ok(ringbus_node_open(&node, extended(&o, sizeof(o), sizeof(o) + more, 0)));
		ringbus_node_close(node);
		fails(ringbus_node_open(&node, extended(&o, sizeof(o), sizeof(o) + more, 1)),
		      -E2BIG);
	}
	unsetenv("RINGBUS_PORT");
}

static void an_events_options_are_read_as_far_as_they_go(void **state)
{
	struct ringbus_event_options o = {.mode = RINGBUS_MULTI_EMISSION,
					  .receive = true,
					  .lossy = true};
	struct ringbus_node *node = node_open();
	struct ringbus_event *event;
	struct ringbus_event_info info;

	for (size_t size = STEP; size <= sizeof(o); size += STEP) {
		ok(ringbus_event_create(&event, node, NULL, cut(&o, size)));
		info = event_info(event);
		assert_int_equal(info.mode, HAS(size, ringbus_event_options, mode));
		assert_int_equal(info.subscribers, HAS(size, ringbus_event_options, receive));
		ok(info.mode == RINGBUS_MULTI_EMISSION ? ringbus_unsubscribe(event)
						       : ringbus_event_dissolve(event));
	}
	ok(ringbus_event_create(&event, node, NULL, extended(&o, sizeof(o), sizeof(o) + 8, 0)));
	fails(ringbus_event_create(&event, node, NULL, extended(&o, sizeof(o), sizeof(o) + 8, 1)),
	      -E2BIG);
}

static void a_subscriptions_options_are_read_as_far_as_they_go(void **state)
{
	struct ringbus_subscribe_options o = {.must_exist = true, .emit_only = true};
	struct ringbus_node *node = node_open();
	struct ringbus_event *event;

	for (size_t size = STEP; size <= sizeof(o); size += STEP) {
		int r = ringbus_subscribe(&event, node, "news", cut(&o, size));

		assert_int_equal(r, HAS(size, ringbus_subscribe_options, must_exist) ? -ENOENT : 0);
		if (r == 0)
			ok(ringbus_unsubscribe(event));
	}
	o.must_exist = false;
	for (size_t size = STEP; size <= sizeof(o); size += STEP) {
		ok(ringbus_subscribe(&event, node, "news", cut(&o, size)));
		assert_int_equal(event_info(event).subscribers,
				 !HAS(size, ringbus_subscribe_options, emit_only));
		ok(ringbus_unsubscribe(event));
	}
	ok(ringbus_subscribe(&event, node, "news", extended(&o, sizeof(o), sizeof(o) + 8, 0)));
	fails(ringbus_subscribe(&event, node, "news", extended(&o, sizeof(o), sizeof(o) + 8, 1)),
	      -E2BIG);
}

static void a_services_options_are_read_as_far_as_they_go(void **state)
{
	struct ringbus_service_options o = {.port = bus_port(),
					    .directory = bus_directory(),
					    .nodes = 3};
	struct ringbus_service *service = NULL;

	bus_stop();
	for (size_t size = 2 * STEP; size <= sizeof(o); size += STEP) {
		ok(ringbus_service_open(&service, cut(&o, size)));
		assert_int_equal(ringbus_service_port(service), bus_port());
		ringbus_service_close(service);
	}
	ok(ringbus_service_open(&service, extended(&o, sizeof(o), sizeof(o) + 8, 0)));
	ringbus_service_close(service);
	service = NULL;
	fails(ringbus_service_open(&service, extended(&o, sizeof(o), sizeof(o) + 8, 1)), -E2BIG);
	fails(ringbus_service_open(&service, extended(&o, sizeof(o), sizeof(o) + 8, 0x80)), -E2BIG);
	assert_null(service);
}

static void what_is_filled_in_ends_where_the_callers_struct_ends(void **state)
{
	struct ringbus_event_info info = {0};
	struct ringbus_node_stats stats = {0};
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *event = single(a, "news");

	subscribe(b, "news");
	assert_int_equal(emit_text(event, "x"), 1);
	for (size_t size = sizeof(size); size <= sizeof(info); size += STEP) {
		struct ringbus_event_info *short_info = cut(&info, size);

		ok(ringbus_event_info(event, short_info));
		assert_int_equal(short_info->size, size);
		if (HAS(size, ringbus_event_info, subscribers))
			assert_int_equal(short_info->subscribers, 1);
	}
	for (size_t size = sizeof(size); size <= sizeof(stats); size += STEP) {
		struct ringbus_node_stats *short_stats = cut(&stats, size);

		ok(ringbus_node_stats(a, short_stats));
		assert_int_equal(short_stats->size, size);
		if (HAS(size, ringbus_node_stats, sent))
			assert_int_equal(short_stats->sent, 1);
	}
	fails(ringbus_event_info(event, extended(&info, sizeof(info), sizeof(info) + 8, 0)),
	      -EINVAL);
	fails(ringbus_node_stats(a, extended(&stats, sizeof(stats), sizeof(stats) + 8, 0)),
	      -EINVAL);
}

static void what_does_not_begin_with_a_size_is_refused(void **state)
{
	static const size_t none[] = {0, 1, sizeof(size_t) - 1};
	struct ringbus_node_options huge = {.size = (size_t)1 << 40};
	struct ringbus_node *node = node_open(), *other = NULL;
	struct ringbus_event *event = single(node, "news"), *more = NULL;

	for (unsigned i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		struct ringbus_node_options o = {.size = none[i], .port = bus_port()};
		struct ringbus_event_options e = {.size = none[i]};
		struct ringbus_subscribe_options s = {.size = none[i]};
		struct ringbus_service_options v = {.size = none[i], .port = bus_port()};
		struct ringbus_event_info info = {.size = none[i]};
		struct ringbus_node_stats stats = {.size = none[i]};
		struct ringbus_service *service = NULL;

		fails(ringbus_node_open(&other, &o), -EINVAL);
		fails(ringbus_event_create(&more, node, "olds", &e), -EINVAL);
		fails(ringbus_subscribe(&more, node, "olds", &s), -EINVAL);
		fails(ringbus_service_open(&service, &v), -EINVAL);
		fails(ringbus_event_info(event, &info), -EINVAL);
		fails(ringbus_node_stats(node, &stats), -EINVAL);
		assert_null(service);
	}
	fails(ringbus_node_open(&other, &huge), -E2BIG);
	assert_null(other);
	assert_null(more);
}

#define OPTIONS_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

static const struct CMUnitTest tests[] = {
	OPTIONS_TEST(a_nodes_options_are_read_as_far_as_they_go),
	OPTIONS_TEST(an_events_options_are_read_as_far_as_they_go),
	OPTIONS_TEST(a_subscriptions_options_are_read_as_far_as_they_go),
	OPTIONS_TEST(a_services_options_are_read_as_far_as_they_go),
	OPTIONS_TEST(what_is_filled_in_ends_where_the_callers_struct_ends),
	OPTIONS_TEST(what_does_not_begin_with_a_size_is_refused),
};

HARNESS_MAIN("api_options", tests)

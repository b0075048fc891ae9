/* api_stats.c: a node's own counters, and where the library's log goes. */
#include "harness.h"

#include <stdlib.h>
#include <unistd.h>

static void counters_begin_at_zero_and_tell_what_this_node_did(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_event *news = single(a, "news");
	struct ringbus_node_stats sent, got;
	struct ringbus_message m;

	sent = node_stats(a);
	assert_int_equal(sent.sent + sent.received + sent.full + sent.wakes + sent.corrupt, 0);
	subscribe(b, "news");
	for (int i = 0; i < 5; i++)
		ok(ringbus_emit(news, "12345678", (size_t)i, 0));
	for (int i = 0; i < 5; i++)
		pull(b, &m);
	sent = node_stats(a);
	got = node_stats(b);
	assert_int_equal(sent.sent, 5);
	assert_int_equal(sent.sent_bytes, 0 + 1 + 2 + 3 + 4);
	assert_int_equal(got.received, 5);
	assert_int_equal(got.received_bytes, 10);
	assert_int_equal(sent.received, 0);
	assert_int_equal(got.sent, 0);
}

static void counters_do_not_pass_to_the_next_owner_of_a_slot(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b), old = node_address(a);

	ok(ringbus_contact_address(a, &to, "x", 1, 0));
	assert_int_equal(node_stats(a).sent, 1);
	node_close(a);
	a = node_open();
	assert_int_equal(node_address(a).slot, old.slot);
	assert_int_equal(node_stats(a).sent, 0);
}

static void full_rings_are_counted(void **state)
{
	struct ringbus_node *a = node_open(), *b = node_open();
	struct ringbus_address to = node_address(b);

	while (ringbus_contact_address(a, &to, "x", 1, 0) >= 0)
		;
	assert_true(node_stats(a).full >= 1);
}

static void stats_of_an_older_caller_are_not_overrun(void **state)
{
	struct ringbus_node *a = node_open();
	struct {
		struct ringbus_node_stats stats;
		unsigned char after[64];
	} place;
	unsigned char *bytes = (void *)&place;
	size_t size = offsetof(struct ringbus_node_stats, received);

	memset(&place, 0x5a, sizeof(place));
	place.stats.size = size;
	ok(ringbus_node_stats(a, &place.stats));
	assert_int_equal(place.stats.size, size);
	assert_int_equal(place.stats.sent_bytes, 0);
	for (size_t i = size; i < sizeof(place); i++)
		assert_int_equal(bytes[i], 0x5a);
}

static void stats_of_a_size_that_is_none_are_refused(void **state)
{
	struct ringbus_node *a = node_open();
	struct ringbus_node_stats stats = {.sent = 77};

	fails(ringbus_node_stats(a, &stats), -EINVAL);
	stats.size = sizeof(stats) + 1;
	fails(ringbus_node_stats(a, &stats), -EINVAL);
	assert_int_equal(stats.sent, 77);
	fails(ringbus_node_stats(a, NULL), -EINVAL);
	fails(ringbus_node_stats(NULL, &stats), -EINVAL);
}

/* ---- log ---- */

static unsigned lines, bad_lines;

static void on_log(int level, const char *text, void *user)
{
	if (level < 0 || level > 7 || !*text || strchr(text, '\n') || user != &lines)
		bad_lines++;
	else
		lines++;
}

/* A service that takes a living region over says so. */
static void take_over(void)
{
	struct ringbus_service_options o = {.size = sizeof(o), .port = bus_port(), .nodes = 5};
	struct ringbus_service *service;

	child_ok(ringbus_service_open(&service, &o));
	ringbus_service_close(service);
}

enum { SILENT, TO_FUNCTION, TO_STDERR, FUNCTION_WINS, BAD_LEVEL, CASES };

static void log_case(uint64_t what)
{
	FILE *out = tmpfile();

	child_check(out != NULL);
	child_check(dup2(fileno(out), STDOUT_FILENO) == STDOUT_FILENO);
	child_check(dup2(fileno(out), STDERR_FILENO) == STDERR_FILENO);
	unsetenv("RINGBUS_LOG");
	if (what == TO_STDERR || what == FUNCTION_WINS)
		setenv("RINGBUS_LOG", "debug", 1);
	else if (what == BAD_LEVEL)
		setenv("RINGBUS_LOG", "loud", 1);
	if (what == TO_FUNCTION || what == FUNCTION_WINS)
		ringbus_set_log(on_log, &lines);
	take_over();
	fflush(NULL);
	child_check(bad_lines == 0);
	child_check((lines > 0) == (what == TO_FUNCTION || what == FUNCTION_WINS));
	child_check((lseek(fileno(out), 0, SEEK_END) > 0) == (what == TO_STDERR));
}

static void the_library_is_silent_unless_asked(void **state)
{
	node_open(); /* keeps the region alive */
	bus_kill();
	for (uint64_t what = 0; what < CASES; what++)
		child_join(child_start(log_case, what));
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(counters_begin_at_zero_and_tell_what_this_node_did),
	BUS_TEST(counters_do_not_pass_to_the_next_owner_of_a_slot),
	BUS_TEST(full_rings_are_counted),
	BUS_TEST(stats_of_an_older_caller_are_not_overrun),
	BUS_TEST(stats_of_a_size_that_is_none_are_refused),
	BUS_TEST(the_library_is_silent_unless_asked),
};

HARNESS_MAIN("api_stats", tests)

/* api_event_ends.c: the end of an event is told after all that its owner emitted, also where the
 * receiver has not heard yet who that was. */
#include "harness.h"

struct heard {
	char text[16]; /* one letter for each thing: the emission's, C, O or D for a notice */
	unsigned n;
};

static void hear(const struct ringbus_message *m, void *user)
{
	struct heard *h = user;

	assert_true(h->n < sizeof(h->text) - 1);
	if (m->kind == RINGBUS_EVENT)
		h->text[h->n++] = *(const char *)m->data;
	else if (m->notice <= RINGBUS_EVENT_ORPHANED)
		h->text[h->n++] = "?CDO"[m->notice];
}

static struct ringbus_node *subscriber(struct heard *h)
{
	struct ringbus_node_options o = {.size = sizeof(o), .on_notice = hear, .on_notice_user = h};
	struct ringbus_subscribe_options so = {.size = sizeof(so), .handler = hear, .user = h};
	struct ringbus_node *node = node_open_with(&o);
	struct ringbus_event *event;

	ok(ringbus_subscribe(&event, node, "news", &so));
	return node;
}

/* In the smallest steps. */
static void expect_heard(struct ringbus_node *node, struct heard *h, const char *text)
{
	for (unsigned i = 0; i < 50; i++)
		ok(ringbus_poll(node, 1));
	assert_string_equal(h->text, text);
}

static void an_end_waits_for_the_emissions_of_an_owner_that_was_never_told(void **state)
{
	struct heard h = {0};
	struct ringbus_node *a = subscriber(&h), *b = node_open();
	struct ringbus_event *news = single(b, "news");

	emit_text(news, "1");
	emit_text(news, "2");
	emit_text(news, "3");
	ok(ringbus_event_dissolve(news));
	expect_heard(a, &h, "123D");
}

static void so_does_that_its_owner_has_left(void **state)
{
	struct heard h = {0};
	struct ringbus_node *a = subscriber(&h), *b = node_open();
	struct ringbus_event *news = single(b, "news");

	emit_text(news, "1");
	emit_text(news, "2");
	node_close(b);
	expect_heard(a, &h, "12O");
}

static void an_end_waits_for_the_emissions_of_an_owner_that_followed_another(void **state)
{
	struct heard h = {0};
	struct ringbus_node *a = subscriber(&h), *b = node_open(), *c = node_open();
	struct ringbus_event *news = single(b, "news");

	emit_text(news, "1");
	expect_heard(a, &h, "1C");
	node_close(b);
	news = single(c, "news");
	emit_text(news, "2");
	emit_text(news, "3");
	ok(ringbus_event_dissolve(news));
	expect_heard(a, &h, "1C23D");
}

/* What was to be waited for at the first end says nothing about the second. */
static void each_end_waits_for_its_own_owner(void **state)
{
	struct heard h = {0};
	struct ringbus_node *a = subscriber(&h), *b = node_open(), *c = node_open();
	struct ringbus_event *news = single(b, "news");

	expect_heard(a, &h, "C");
	emit_text(news, "1");
	emit_text(news, "2");
	emit_text(news, "3");
	node_close(b);
	ok(ringbus_poll(a, 1));
	ok(ringbus_poll(a, 1)); /* the orphan waits for 3 */
	news = single(c, "news");
	expect_heard(a, &h, "C123C");
	emit_text(news, "4");
	emit_text(news, "5");
	ok(ringbus_event_dissolve(news));
	expect_heard(a, &h, "C123C45D");
}

static void count(const struct ringbus_message *m, void *user)
{
	++*(unsigned *)user;
}

/* A ring that never gets empty holds up nothing for ever. */
static void an_end_does_not_wait_for_what_others_go_on_sending(void **state)
{
	struct heard h = {0};
	struct ringbus_node *a = subscriber(&h), *b = node_open(), *c = node_open();
	struct ringbus_address to = node_address(a);
	struct ringbus_event *news;
	static char block[4096];
	unsigned contacts = 0;

	ok(ringbus_on_contact(a, count, &contacts));
	for (unsigned i = 0; i < 10; i++)
		ok(ringbus_contact_address(c, &to, block, sizeof(block), 0));
	news = single(b, "news");
	emit_text(news, "1");
	ok(ringbus_event_dissolve(news));
	while (h.n < 2) {
		unsigned before = contacts;

		ok(ringbus_poll(a, 1));
		for (; before < contacts; before++)
			ok(ringbus_contact_address(c, &to, block, sizeof(block), 0));
	}
	assert_string_equal(h.text, "1D");
	print_message("  after %u messages of others\n", contacts);
}

static const struct CMUnitTest tests[] = {
	BUS_TEST(an_end_waits_for_the_emissions_of_an_owner_that_was_never_told),
	BUS_TEST(so_does_that_its_owner_has_left),
	BUS_TEST(an_end_waits_for_the_emissions_of_an_owner_that_followed_another),
	BUS_TEST(each_end_waits_for_its_own_owner),
	BUS_TEST(an_end_does_not_wait_for_what_others_go_on_sending),
};

HARNESS_MAIN("api_event_ends", tests)

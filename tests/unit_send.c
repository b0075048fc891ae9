/* unit_send.c: who opened a node for one sending thread and has two is told, whatever either sends.
 * Here it is one thread, which sends once more while a send of its own copies the payload.
 */
#include "harness.h"

#include "node.h"

enum { LARGE = 300, POOLED = 100000 };

static struct ringbus_node *node;
static struct ringbus_event *event;
static struct ringbus_address to;
static struct ringbus_loan loan;
static unsigned refusals;
static uint8_t data[POOLED];

static void send_meanwhile(void *shared, const void *from, size_t bytes);
static const struct shm_hooks hooks = {.copy_out = send_meanwhile};

static void send_meanwhile(void *shared, const void *from, size_t bytes)
{
	static const size_t sizes[] = {1, LARGE, POOLED};
	struct ringbus_loan other;

	memcpy(shared, from, bytes);
	shm_hooks = NULL;
	for (unsigned i = 0; i < 3; i++) {
		fails(ringbus_emit(event, data, sizes[i], 0), -EBUSY);
		fails(ringbus_contact_address(node, &to, data, sizes[i], 0), -EBUSY);
	}
	fails(ringbus_loan(node, 1, &other, 0), -EBUSY);
	fails(ringbus_emit_loan(event, &loan, 0), -EBUSY);
	fails(ringbus_contact_loan(node, &to, &loan, 0), -EBUSY);
	fails(ringbus_node_trim(node), -EBUSY);
	ringbus_loan_cancel(&loan);
	assert_non_null(loan.data);
	refusals++;
	shm_hooks = &hooks;
}

static void pull_data(struct ringbus_node *from, size_t size)
{
	struct ringbus_message m;

	pull(from, &m);
	assert_int_equal(m.size, size);
	assert_memory_equal(m.data, data, size);
}

static void two_senders(unsigned nodes)
{
	static const size_t sizes[] = {1, 1, 40, LARGE, LARGE, POOLED};
	struct ringbus_node_options one = {.size = sizeof(one), .single_sender = true};
	struct bus_spec spec = {.nodes = nodes};
	struct ringbus_node *receiver;

	bus_serve(&spec);
	refusals = 0;
	node = node_open_with(&one);
	receiver = node_open();
	to = node_address(receiver);
	event = single(node, "news");
	subscribe(receiver, "news");
	ok(ringbus_loan(node, POOLED, &loan, 0));
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		payload_fill(data, sizeof(data), nodes, i);
		shm_hooks = &hooks;
		assert_int_equal(ringbus_emit(event, data, sizes[i], 0), 1);
		ok(ringbus_contact_address(node, &to, data, sizes[i], 0));
		shm_hooks = NULL;
		assert_int_equal(refusals, 2 * (i + 1));
		pull_data(receiver, sizes[i]);
		pull_data(receiver, sizes[i]);
	}
	ringbus_loan_cancel(&loan);
	assert_null(loan.data);
	pull_nothing(receiver);
}

static void a_second_sending_thread_is_refused_and_spoils_nothing(void **state)
{
	two_senders(4);
}

static void so_it_is_where_masks_have_two_words(void **state)
{
	two_senders(100);
}

static const struct CMUnitTest tests[] = {
	BARE_TEST(a_second_sending_thread_is_refused_and_spoils_nothing),
	BARE_TEST(so_it_is_where_masks_have_two_words),
};

HARNESS_MAIN("unit_send", tests)

/* harness_node.c: see harness.h. This file: nodes, events and messages with assertions. */
#include "harness_private.h"

#define NODES 320

static struct ringbus_node *nodes[NODES];

int harness_ok(int rc, const char *call, const char *file, int line)
{
	if (rc < 0) {
		print_error("%s = %d, %s: %s\n", call, rc, ringbus_strerror(rc),
			    ringbus_error_detail());
		_fail(file, line);
	}
	return rc;
}

void harness_fails(int rc, int code, const char *call, const char *file, int line)
{
	if (rc == code)
		return;
	print_error("%s = %d (%s: %s), expected %d (%s)\n", call, rc,
		    rc < 0 ? ringbus_strerror(rc) : "success", ringbus_error_detail(), code,
		    ringbus_strerror(code));
	_fail(file, line);
}

struct ringbus_node *node_open_with(const struct ringbus_node_options *options)
{
	struct ringbus_node_options o = {.size = sizeof(o)};
	struct ringbus_node *node = NULL;
	unsigned i = 0;

	if (options)
		o = *options;
	if (!o.port)
		o.port = bus_port();
	if (!o.timeout_ns)
		o.timeout_ns = 20 * HARNESS_SECOND;
	while (i < NODES && nodes[i])
		i++;
	assert_true(i < NODES);
	ok(ringbus_node_open(&node, &o));
	assert_non_null(node);
	nodes[i] = node;
	return node;
}

struct ringbus_node *node_open(void)
{
	return node_open_with(NULL);
}

struct ringbus_node *node_open_named(const char *name)
{
	struct ringbus_node_options o = {.size = sizeof(o), .name = name};

	return node_open_with(&o);
}

void node_close(struct ringbus_node *node)
{
	for (unsigned i = 0; i < NODES; i++)
		if (nodes[i] == node)
			nodes[i] = NULL;
	ringbus_node_close(node);
}

void harness_close_nodes(void)
{
	for (unsigned i = 0; i < NODES; i++) {
		ringbus_node_close(nodes[i]);
		nodes[i] = NULL;
	}
}

struct ringbus_address node_address(struct ringbus_node *node)
{
	struct ringbus_address address = {0};

	ok(ringbus_node_address(node, &address));
	return address;
}

struct ringbus_event *single(struct ringbus_node *node, const char *id)
{
	struct ringbus_event *event = NULL;

	ok(ringbus_event_create(&event, node, id, NULL));
	return event;
}

struct ringbus_event *multi(struct ringbus_node *node, const char *id)
{
	struct ringbus_event_options o = {.size = sizeof(o),
					  .mode = RINGBUS_MULTI_EMISSION,
					  .receive = true};
	struct ringbus_event *event = NULL;

	ok(ringbus_event_create(&event, node, id, &o));
	return event;
}

struct ringbus_event *subscribe(struct ringbus_node *node, const char *id)
{
	struct ringbus_event *event = NULL;

	ok(ringbus_subscribe(&event, node, id, NULL));
	return event;
}

struct ringbus_node_stats node_stats(struct ringbus_node *node)
{
	struct ringbus_node_stats stats = {.size = sizeof(stats)};

	ok(ringbus_node_stats(node, &stats));
	return stats;
}

struct ringbus_event_info event_info(struct ringbus_event *event)
{
	struct ringbus_event_info info = {.size = sizeof(info)};

	ok(ringbus_event_info(event, &info));
	return info;
}

void pull(struct ringbus_node *node, struct ringbus_message *message)
{
	do
		ok(ringbus_next(node, message, RINGBUS_FOREVER));
	while (message->kind == RINGBUS_NOTICE);
}

void harness_pull_text(struct ringbus_node *node, const char *text, const char *file, int line)
{
	struct ringbus_message m;

	pull(node, &m);
	if (m.size == strlen(text) && memcmp(m.data, text, m.size) == 0)
		return;
	print_error("received \"%.*s\", expected \"%s\"\n", (int)(m.size < 80 ? m.size : 80),
		    (const char *)m.data, text);
	_fail(file, line);
}

void pull_notice(struct ringbus_node *node, enum ringbus_notice notice,
		 struct ringbus_message *message)
{
	do {
		ok(ringbus_next(node, message, RINGBUS_FOREVER));
		assert_int_equal(message->kind, RINGBUS_NOTICE);
	} while (message->notice != notice);
}

void harness_pull_nothing(struct ringbus_node *node, const char *file, int line)
{
	struct ringbus_message m;
	int rc;

	while ((rc = ringbus_next(node, &m, 0)) == 0 && m.kind == RINGBUS_NOTICE)
		;
	if (rc == -EAGAIN)
		return;
	if (rc == 0)
		print_error("a message of %zu bytes came that nobody should get: \"%.*s\"\n",
			    m.size, (int)(m.size < 80 ? m.size : 80), (const char *)m.data);
	else
		print_error("ringbus_next() = %d: %s\n", rc, ringbus_error_detail());
	_fail(file, line);
}

int emit_text(struct ringbus_event *event, const char *text)
{
	/* the first one to a receiver needs the control lock, which somebody may hold just then */
	return ok(ringbus_emit(event, text, strlen(text), HARNESS_SECOND));
}

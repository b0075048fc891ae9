/* life.h: for life_*.c: what the keeper of a bus sees of the others. */
#ifndef RINGBUS_TESTS_LIFE_H
#define RINGBUS_TESTS_LIFE_H

#include "harness.h"

static const struct ringbus_node_options told = {.size = sizeof(told), .peer_notices = true};

static inline uint64_t packed(const struct ringbus_address *a)
{
	return (uint64_t)a->slot << 32 | a->generation;
}

/* Takes notices until this owner's end is told, and says how it ended; contacts must be "me". */
static inline enum ringbus_notice await_end(struct ringbus_node *node, uint64_t who)
{
	struct ringbus_message m;

	for (;;) {
		ok(ringbus_next(node, &m, RINGBUS_FOREVER));
		if (m.kind != RINGBUS_NOTICE) {
			assert_memory_equal(m.data, "me", 2);
			continue;
		}
		if (m.notice != RINGBUS_PEER_LEFT && m.notice != RINGBUS_PEER_DIED)
			continue;
		if (packed(&m.sender) == who)
			return m.notice;
	}
}

/* Takes what there is; 0, or the last end that was told. */
static inline unsigned end_told(struct ringbus_node *node)
{
	struct ringbus_message m;
	unsigned end = 0;

	while (ringbus_next(node, &m, 0) == 0)
		if (m.kind == RINGBUS_NOTICE &&
		    (m.notice == RINGBUS_PEER_LEFT || m.notice == RINGBUS_PEER_DIED))
			end = m.notice;
	return end;
}

static inline void no_end_is_told(struct ringbus_node *node)
{
	assert_int_equal(end_told(node), 0);
}

static inline void note_address(unsigned flag, struct ringbus_node *node)
{
	struct ringbus_address a;

	child_ok(ringbus_node_address(node, &a));
	flag_set(flag, packed(&a) + 1); /* 0: not yet */
}

#endif

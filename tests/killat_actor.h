/* killat_actor.h: one process on the bus, as seen by itself; see killat.h. */
#ifndef RINGBUS_TESTS_KILLAT_ACTOR_H
#define RINGBUS_TESTS_KILLAT_ACTOR_H

#include "killat.h"

#define BORROWS 16u
#define LOANS 512u

struct actor {
	unsigned number;
	struct life *life;
	struct ringbus_node *node;
	struct ringbus_event *event[NAMES];
	struct seen_life {
		uint32_t life; /* that the position is of */
		bool gone;     /* its end was told */
		uint64_t next; /* entry not yet passed */
		uint64_t sure; /* entries from here on are for us only if they say so; those before
				  were perhaps begun while we joined, by who did not know of us */
	} seen[LIVES];
	uint64_t ended[ACTORS]; /* nonce of the last round that each has ended towards us */
	uint64_t signals;	/* taken */
	struct {
		struct ringbus_borrow *borrow;
		uint32_t life;
		uint64_t sequence;
	} borrows[BORROWS];
	unsigned borrow_count;
	struct ringbus_loan loans[LOANS];
	unsigned loan_count;
};

/* A message from its making to its result. */
struct post {
	enum how how;
	unsigned to; /* contacts */
	size_t size;
	struct entry *entry;
	struct ringbus_address address;
	uint8_t data[2 * POOLED_BYTES];
};

/* Leaves a note for the controller and ends the process. */
_Noreturn void actor_fail(const struct actor *me, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
#define actor_ok(me, call) actor_checked((me), (call), #call)
int actor_checked(const struct actor *me, int rc, const char *call);

void actor_join(struct actor *me);
void post_begin(struct actor *me, struct post *p, uint64_t nonce);
int post_call(struct actor *me, struct post *p, uint64_t timeout_ns);
void post_end(struct actor *me, struct post *p, int rc);
/* The oracle: a message, or a notice, has come. */
void actor_got(struct actor *me, const struct ringbus_message *m);
/* Keeps the payload of the message just received. */
void actor_keep(struct actor *me, const struct ringbus_message *m, struct ringbus_borrow *borrow);
/* Compares a kept payload once more. */
void actor_compare_kept(struct actor *me, unsigned i);
const char *actor_event_name(enum name name);
/* Of a life. Of 0 there is none to send to: the library takes generation 0 for any. */
struct ringbus_address address_of(uint32_t number);

#endif

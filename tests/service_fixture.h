/* service_fixture.h: joining a bus without a node, for the tests of the service. */
#ifndef RINGBUS_TESTS_SERVICE_FIXTURE_H
#define RINGBUS_TESTS_SERVICE_FIXTURE_H

#include "harness.h"

#include "control.h"
#include "join.h"

#include <sys/stat.h>

static inline int try_join(struct join_result *result, uint64_t timeout_ns, bool autostart)
{
	struct join_request request = {
		.port = bus_port(),
		.deadline_ns = rb_deadline_ns(timeout_ns),
		.autostart = autostart,
	};

	return join_bus(&request, result);
}

static inline struct join_result join(void)
{
	struct join_result result = {0};

	ok(try_join(&result, 20 * RB_SECOND, false));
	return result;
}

static inline uint64_t slot_of(const struct join_result *r)
{
	/* sync SLOT reader: none; a look by a test */
	return shm_load_acquire(&r->region->bells[r->slot].slot);
}

static inline void leave(struct join_result *r)
{
	uint64_t word = slot_word(r->generation, r->pid, SLOT_JOINING);

	struct stat st;

	assert_true(shm_cas(&r->region->bells[r->slot].slot, &word,
			    slot_word(r->generation, r->pid, SLOT_LEFT)));
	peer_live_drop(r->region, r->slot);
	if (fstat(r->region->fd, &st) == 0 && st.st_nlink > 0)
		ok(control_reap(r->region, rb_deadline_ns(10 * RB_SECOND)));
	else
		fails(control_reap(r->region, rb_deadline_ns(10 * RB_SECOND)), -ESTALE);
	if (r->connection >= 0)
		close(r->connection);
	region_put(r->region);
}

static inline void join_and_leave(void)
{
	struct join_result r = join();

	assert_int_equal(slot_state(slot_of(&r)), SLOT_JOINING);
	assert_int_equal(peer_live_holder(r.region, r.slot), getpid());
	leave(&r);
}

/* Joins, says so in word 0 (slot + 1), stays. */
static inline void member(uint64_t unused)
{
	struct join_result r;

	child_ok(try_join(&r, 20 * RB_SECOND, false));
	flag_set(0, r.slot + 1);
	flag_wait(1, 1);
}

static inline int try_service(void)
{
	struct ringbus_service_options options = {.size = sizeof(options),
						  .port = bus_port(),
						  .nodes = 8};
	struct ringbus_service *service;
	int err = ringbus_service_open(&service, &options);

	if (err == 0)
		ringbus_service_close(service);
	return err;
}

#endif

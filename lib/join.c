/* join.c: the client's side of joining: find or start the service, prove, get a slot. Level 3.
 *
 * An attempt ends in success, in an error that time will not cure, or in JOIN_AGAIN: services and
 * regions come and go, and whatever may be such a moment is tried again until the deadline.
 */
#include "join.h"

#include "autostart.h"
#include "error.h"
#include "port.h"
#include "wire.h"

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#define JOIN_AGAIN 1
#define JOIN_START_EVERY_NS (300 * RB_MS)
#define JOIN_FAILED_STARTS 3
#define JOIN_FIRST_NAP_NS RB_MS
#define JOIN_LAST_NAP_NS (20 * RB_MS)
#define JOIN_STRANGER_NS \
	(300 * RB_MS) /* so long may a port answer without a region before it is a stranger's */
#define JOIN_LIVE_TRIES 100
#define JOIN_PUSHED_OUT 20
#define JOIN_SHORT_NS (100 * RB_MS)
#define JOIN_HANGUP_NS (100 * RB_MS)

struct join {
	const struct join_request *request;
	unsigned port;
	uint64_t deadline_ns;
	uint64_t started_ns;  /* last autostart; 0: none */
	uint64_t stranger_ns; /* since when the port answers and no region is there; 0: not so */
	unsigned failed_starts;
	unsigned proofs_lost;
	unsigned pushed_out;
	unsigned unproved;
	uint64_t attempt_ns; /* when this attempt began */
	int reason;	     /* of the last JOIN_AGAIN */
	char why[512];	     /* its text */
};

int join_port(unsigned given)
{
	const char *text = secure_getenv("RINGBUS_PORT");
	unsigned long port = given;
	char *end;

	if (given == 0 && text && *text) {
		port = strtoul(text, &end, 10);
		if (*end || port == 0 || text[0] == '-')
			return rb_fail(-EINVAL,
				       "RINGBUS_PORT is '%s'; set it to a number from 1 to 65535",
				       text);
	} else if (given == 0) {
		port = 54121;
	}
	if (port > 65535)
		return rb_fail(-EINVAL, "port %lu is over 65535", port);
	return (int)port;
}

static int join_again(struct join *j, int reason)
{
	j->reason = reason;
	strncpy(j->why, rb_fail_detail(), sizeof(j->why) - 1);
	return JOIN_AGAIN;
}

/* ---- the exchange ---- */

static int join_send(struct join *j, int fd, struct wire_message *m, enum wire_kind kind,
		     const struct region *region)
{
	m->magic = WIRE_MAGIC;
	m->kind = (uint32_t)kind;
	m->signature = layout_signature();
	memcpy(m->uuid, region->uuid, sizeof(m->uuid));
	return port_send(fd, m, sizeof(*m), j->deadline_ns);
}

/* What a failed system call on the connection means. */
static int join_broken(struct join *j, int err)
{
	/* An attempt cut short by the deadline says less than the one before it. */
	if (err == -ETIMEDOUT && j->reason != 0 && rb_now_ns() - j->attempt_ns < JOIN_SHORT_NS)
		return rb_fail(err, "%s", j->why);
	if (err == -ETIMEDOUT)
		return rb_fail(err,
			       "the service on port %u accepts but does not answer; it may be "
			       "stopped (see "
			       "ringbusd's state in ps)",
			       j->port);
	rb_fail(-ECONNREFUSED,
		"the service on port %u closes connections; it may be ending, or overloaded",
		j->port);
	return join_again(j, -ECONNREFUSED);
}

static int join_refused(struct join *j, uint32_t error)
{
	switch (error) {
	case EUSERS:
		return rb_fail(-EUSERS,
			       "all slots of the bus on port %u are taken; start its service with "
			       "more --nodes "
			       "(%u at most)",
			       j->port, LAYOUT_NODES_MAX);
	case EACCES:
		rb_fail(-EACCES,
			"the service on port %u did not see our proof of access to the region",
			j->port);
		return j->proofs_lost++ < 2 ? join_again(j, -EACCES) : -EACCES;
	case EPROTO:
		return rb_fail(-EPROTO,
			       "the service on port %u is of another version of ringbus; restart "
			       "it with this one",
			       j->port);
	case ETIMEDOUT:
		rb_fail(-ETIMEDOUT,
			"the service on port %u did not get the control lock; a process that holds "
			"it is "
			"stopped",
			j->port);
		return join_again(j, -ETIMEDOUT);
	default:
		rb_fail(-ECONNREFUSED, "the service on port %u refused us (error %u)", j->port,
			error);
		return join_again(j, -ECONNREFUSED);
	}
}

static int join_receive(struct join *j, int fd, struct wire_message *m, enum wire_kind kind)
{
	char who[PORT_WHO_MAX];
	int err = port_receive(fd, m, sizeof(*m), j->deadline_ns);

	if (err < 0)
		return join_broken(j, err);
	if (m->magic != WIRE_MAGIC || (m->kind != (uint32_t)kind && m->kind != WIRE_REFUSAL)) {
		port_holder(j->port, who);
		return rb_fail(-EPROTO,
			       "port %u belongs to %s, which is no ringbus service; choose another "
			       "with --port "
			       "or RINGBUS_PORT",
			       j->port, who);
	}
	return m->kind == WIRE_REFUSAL ? join_refused(j, m->error) : 0;
}

/* The service must hold the lock that we named: only who can write the region can. */
static int join_verify(struct join *j, struct region *region, const struct wire_message *challenge,
		       uint64_t offset, int fd)
{
	char who[PORT_WHO_MAX], byte;

	if (memcmp(challenge->uuid, region->uuid, sizeof(region->uuid)) != 0) {
		rb_fail(-ENOENT,
			"the service on port %u serves a bus in another directory, or a newer one; "
			"name its "
			"directory with RINGBUS_DIR",
			j->port);
		return join_again(j, -ENOENT);
	}
	if (peer_proof_holder(region, offset) != 0)
		return 0;
	/* A service in a flood of connections gives up some, and its proof with them; one that dies
	 * loses both, in any order. The end of the connection may come a moment later. */
	port_wait(fd, POLLIN, rb_min(j->deadline_ns, rb_deadline_ns(JOIN_HANGUP_NS)));
	if (port_read(fd, &byte, 1) != -EAGAIN && j->pushed_out++ < JOIN_PUSHED_OUT) {
		rb_fail(-EACCES, "the service on port %u hangs up before it can be trusted",
			j->port);
		return join_again(j, -EACCES);
	}
	port_holder(j->port, who);
	rb_fail(-EACCES,
		"%s answers on port %u but has no access to the region: an impostor; end "
		"it, or choose "
		"another port with --port or RINGBUS_PORT",
		who, j->port);
	/* A process that serves and inspects loses its proofs with each handle that it closes. */
	return j->unproved++ == 0 ? join_again(j, -EACCES) : -EACCES;
}

/* HELLO to GRANT. */
static int join_exchange(struct join *j, struct region *region, int fd, struct wire_message *grant)
{
	struct wire_message m = {.proof_offset = peer_proof_offset()};
	uint64_t theirs = m.proof_offset, ours;
	int err = join_send(j, fd, &m, WIRE_HELLO, region);

	if (err < 0)
		return join_broken(j, err);
	err = join_receive(j, fd, &m, WIRE_CHALLENGE);
	if (err == 0)
		err = join_verify(j, region, &m, theirs, fd);
	if (err != 0)
		return err;
	ours = m.proof_offset;
	err = peer_proof_take(region, ours);
	if (err == -EPROTO)
		return rb_fail(err, "the service on port %u sent a bad proof offset", j->port);
	if (err < 0) {
		rb_fail(err, "the place of the proof was locked already");
		return join_again(j, err);
	}
	m = (struct wire_message){.proof_offset = ours};
	err = join_send(j, fd, &m, WIRE_PROVED, region);
	err = err < 0 ? join_broken(j, err) : join_receive(j, fd, grant, WIRE_GRANT);
	peer_proof_drop(region, ours);
	if (err == 0 && grant->slot >= region->g.nodes)
		return rb_fail(-EPROTO, "the service on port %u granted slot %u of %u", j->port,
			       grant->slot, region->g.nodes);
	return err;
}

/* ---- the slot ---- */

/* The owner before us may have ended its slot and not yet dropped its lock: a moment. */
static int join_live(struct join *j, struct region *region, uint32_t slot)
{
	const struct timespec moment = {.tv_nsec = RB_MS};
	int err = peer_live_take(region, slot);

	for (int i = 0; err == -EBUSY && i < JOIN_LIVE_TRIES && rb_left_ns(j->deadline_ns) > 0;
	     i++) {
		nanosleep(&moment, NULL);
		err = peer_live_take(region, slot);
	}
	return err;
}

/* Live lock, then JOINING. The bus may have ended in between; then the slot is given up and all
 * begins again. Caller holds region->life: POSIX locks do not exclude within one process. */
static int join_claim(struct join *j, struct region *region, const struct wire_message *grant)
{
	struct shm_word *slot = &region->bells[grant->slot].slot;
	uint64_t granted = slot_word(grant->generation, grant->pid, SLOT_GRANTED);
	uint64_t joining = slot_word(grant->generation, grant->pid, SLOT_JOINING);
	uint64_t seen = granted;

	/* Looked at before the lock: a slot that is another node's of this process would let us
	 * take the lock, since POSIX locks do not exclude there, and lose it for that node. sync
	 * SLOT joiner: a look; decided by the CAS; pairs SLOT writer in control_grant() */
	if (shm_load_acquire(slot) != granted) {
		rb_fail(-ETIMEDOUT, "slot %u is not granted to this process", grant->slot);
		return join_again(j, -ETIMEDOUT);
	}
	if (join_live(j, region, grant->slot) < 0)
		return join_again(j, -EBUSY);
	KILL_POINT("X_JOIN_LOCKED");
	/* sync SLOT joiner: live lock before JOINING, so that who sees JOINING finds the lock held;
	 * pairs SLOT prover in peer_check() */
	if (!shm_cas(slot, &seen, joining)) {
		peer_live_drop(region, grant->slot);
		rb_fail(-ETIMEDOUT,
			"the service took the granted slot back: this process was too slow");
		return join_again(j, -ETIMEDOUT);
	}
	KILL_POINT("X_JOIN_CLAIMED");
	/* sync CLOSING joiner: a bus ends only with all slots FREE, so this tells of a region that
	 * was dead when it was opened; pairs CLOSING service in bus_end() */
	if (shm_load_acquire(&region->control->closing) == 0 && region_is_current(region))
		return 0;
	seen = joining;
	/* sync SLOT leaver: nothing was written to the slot's words; pairs SLOT prover in
	 * peer_check() */
	shm_cas(slot, &seen, slot_word(grant->generation, grant->pid, SLOT_LEFT));
	peer_live_drop(region, grant->slot);
	rb_fail(-ECONNREFUSED, "the bus on port %u was ending", j->port);
	return join_again(j, -ECONNREFUSED);
}

static int join_busy(void)
{
	return rb_fail(-ETIMEDOUT, "another thread of this process has been joining or leaving all "
				   "the time");
}

/* Not during the exchange: a service that is stopped must hold back no close of this process. */
static int join_claim_locked(struct join *j, struct region *region,
			     const struct wire_message *grant)
{
	int err;

	if (!rb_mutex_lock(&region->life, j->deadline_ns))
		return join_busy();
	err = join_claim(j, region, grant);
	pthread_mutex_unlock(&region->life);
	return err;
}

/* With region->joins held. */
static int join_region(struct join *j, struct region *region, struct join_result *result)
{
	struct wire_message grant;
	int fd = port_connect(j->port, j->deadline_ns), err;

	if (fd == -ECONNREFUSED)
		return fd;
	if (fd < 0)
		return join_broken(j, fd);
	err = join_exchange(j, region, fd, &grant);
	if (err == 0)
		err = join_claim_locked(j, region, &grant);
	if (err != 0 || grant.pid != 0) {
		close(fd);
		fd = -1;
	}
	/* written at the first join only; later ones find the same */
	if (err == 0 && grant.pid != (uint32_t)getpid() && !region->foreign)
		region->foreign = true;
	if (err == 0)
		*result = (struct join_result){
			.region = region,
			.slot = grant.slot,
			.generation = grant.generation,
			.pid = grant.pid,
			.connection = fd,
		};
	return err;
}

static int join_region_locked(struct join *j, struct region *region, struct join_result *result)
{
	int err;

	if (!rb_mutex_lock(&region->joins, j->deadline_ns))
		return join_busy();
	err = join_region(j, region, result);
	pthread_mutex_unlock(&region->joins);
	return err;
}

/* ---- attempts ---- */

/* A service that did not start. One that another pushes aside, or that ends, takes files and port
 * away from under it for a moment; that does not go on for long. */
static int join_not_started(struct join *j, int err)
{
	switch (err) {
	case -EADDRINUSE: /* whoever holds the port is met at the next attempt */
	case -EAGAIN:
		return join_again(j, -ETIMEDOUT);
	case -ECONNREFUSED:
	case -ENOENT:
		if (++j->failed_starts >= JOIN_FAILED_STARTS)
			return err;
		j->started_ns = 0;
		return join_again(j, err);
	default:
		return err;
	}
}

/* Nobody listens. `directory`: where the bus is, or would be. */
static int join_no_service(struct join *j, const char *directory, bool orphaned)
{
	uint64_t now = rb_now_ns();
	int err;

	j->stranger_ns = 0;
	if (!j->request->autostart)
		return rb_fail(-ECONNREFUSED,
			       orphaned ? "the bus on port %u is there, but its service has ended; "
					  "start it: "
					  "ringbusd --port %u --directory %s"
					: "no service on port %u; start one: ringbusd --port %u "
					  "--directory %s, or open with autostart",
			       j->port, j->port, directory);
	if (j->started_ns == 0 || now - j->started_ns >= JOIN_START_EVERY_NS) {
		j->started_ns = now;
		err = autostart(j->port, directory, j->deadline_ns);
		if (err < 0)
			return join_not_started(j, err);
	}
	rb_fail(-ETIMEDOUT,
		"ringbusd was started and does not answer on port %u yet; run it by hand to see "
		"why: ringbusd "
		"--port %u --directory %s",
		j->port, j->port, directory);
	return join_again(j, -ETIMEDOUT);
}

/* No region. Either there is no service, or it is a stranger's, or one that begins or ends just
 * now. */
static int join_no_region(struct join *j)
{
	char directory[REGION_PATH_MAX], who[PORT_WHO_MAX];
	uint64_t now = rb_now_ns();
	int fd = port_connect(j->port, j->deadline_ns), err;

	if (fd == -ECONNREFUSED) {
		err = region_directory(directory, j->port, j->request->directory, NULL);
		return err < 0 ? err : join_no_service(j, directory, false);
	}
	if (fd < 0)
		return join_broken(j, fd);
	close(fd);
	if (j->stranger_ns == 0)
		j->stranger_ns = now;
	if (now - j->stranger_ns < JOIN_STRANGER_NS &&
	    rb_left_ns(j->deadline_ns) > JOIN_STRANGER_NS / 2)
		return join_again(j, -EACCES);
	err = region_directory(directory, j->port, j->request->directory, NULL);
	port_holder(j->port, who);
	return rb_fail(-EACCES,
		       "port %u belongs to %s, and there is no bus of that port in %s; choose "
		       "another with --port "
		       "or RINGBUS_PORT, or name the bus's directory with RINGBUS_DIR",
		       j->port, who, err < 0 ? "our directories" : directory);
}

static int join_attempt(struct join *j, struct join_result *result)
{
	struct region *region;
	int err = region_open(&region, j->port, j->request->directory);

	if (err == -ENOENT)
		return join_no_region(j);
	if (err == -EPROTO && j->request->autostart) {
		/* A service that starts replaces what no living process uses. */
		char why[512], directory[REGION_PATH_MAX];
		int fd = port_connect(j->port, j->deadline_ns);

		strncpy(why, rb_fail_detail(), sizeof(why) - 1);
		why[sizeof(why) - 1] = 0;
		if (fd == -ECONNREFUSED &&
		    region_directory(directory, j->port, j->request->directory, NULL) == 0 &&
		    j->started_ns == 0)
			return join_no_service(j, directory, false);
		if (fd >= 0)
			close(fd);
		rb_fail(err, "%s", why);
		return j->started_ns != 0 ? join_again(j, err) : err;
	}
	if (err < 0)
		return err;
	j->stranger_ns = 0;
	err = join_region_locked(j, region, result);
	if (err == -ECONNREFUSED)
		err = join_no_service(j, region->directory, true);
	if (err != 0)
		region_put(region);
	return err;
}

int join_bus(const struct join_request *request, struct join_result *result)
{
	struct join j = {.request = request,
			 .port = request->port,
			 .deadline_ns = request->deadline_ns};
	uint64_t nap = JOIN_FIRST_NAP_NS;
	int err;

	for (;;) {
		struct timespec moment;
		uint64_t left;

		j.attempt_ns = rb_now_ns();
		err = join_attempt(&j, result);
		if (err != JOIN_AGAIN)
			return err;
		left = rb_left_ns(j.deadline_ns);
		if (left == 0)
			return j.reason == -EACCES || j.reason == -EPROTO ? j.reason : -ETIMEDOUT;
		moment = (struct timespec){.tv_nsec = (long)rb_min(nap, left)};
		nanosleep(&moment, NULL);
		nap = rb_min(nap * 2, JOIN_LAST_NAP_NS);
	}
}

/* service_bus.c: the region of the bootstrap service, the slots and their owners. Level 5.
 *
 * The election lock (byte 1 of PORT.lock) makes us the only service of these files; a last leaver
 * takes it before it ends the bus. While the region is judged and made, the control lock (byte 0)
 * keeps members from changing it at the same time.
 */
#include "service.h"

#include "error.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUS_TAKE_TRIES 20
#define BUS_ELECT_NS (100 * RB_MS) /* a last leaver has the lock for less, unless it is stopped */

static int bus_lock_byte(int fd, off_t byte, short type)
{
	struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EACCES || errno == EAGAIN)
		return -EAGAIN;
	return errno == ENOLCK ? rb_fail(-ENOMEM, "the system has no room for another lock")
			       : -errno;
}

/* ---- election ---- */

/* Makes the directory so that the lock file has a place. */
static int bus_directory(const struct region_spec *spec, char out[REGION_PATH_MAX])
{
	int err = region_directory(out, spec->port, spec->directory, spec->group);

	return err < 0 ? err : region_make_directory(out, spec->group);
}

/* Tries until the deadline. -EAGAIN: not in time. */
static int bus_lock_by(int fd, off_t byte, uint64_t deadline_ns)
{
	const struct timespec moment = {.tv_nsec = RB_MS};
	int err;

	while ((err = bus_lock_byte(fd, byte, F_WRLCK)) == -EAGAIN && rb_left_ns(deadline_ns) > 0)
		nanosleep(&moment, NULL);
	return err;
}

/* The descriptor with the lock. -EBUSY: there is a service. -EAGAIN: the file was unlinked
 * meanwhile. */
static int bus_elect(const char *directory, unsigned port)
{
	int fd = region_open_lock(directory, port, true), err;
	struct region *region;
	unsigned pid = 0;

	if (fd < 0)
		return fd;
	err = bus_lock_by(fd, 1, rb_deadline_ns(BUS_ELECT_NS));
	if (err == 0 && !region_lock_is_current(fd, directory, port))
		err = -EAGAIN;
	else if (err == -EAGAIN)
		err = -EBUSY;
	if (err == 0)
		return fd;
	close(fd);
	if (err != -EBUSY)
		return err;
	if (region_open(&region, port, directory) == 0) {
		/* relaxed: for the text only */
		pid = (unsigned)shm_load_relaxed(&region->control->service_pid);
		region_put(region);
	}
	if (pid == 0)
		return rb_fail(err,
			       "the bus on port %u in %s has a service that begins or ends, or its "
			       "last member ends it; try again",
			       port, directory);
	return rb_fail(err,
		       "the bus on port %u in %s has a service already (process %u); end that "
		       "first",
		       port, directory, pid);
}

/* The control lock by hand: there may be no readable region yet. A holder that is stopped lives:
 * the bus is adopted if there is one. */
static int bus_hold_control(const char *directory, unsigned port)
{
	int fd = region_open_lock(directory, port, true), err;

	if (fd < 0)
		return fd;
	err = bus_lock_by(fd, 0, rb_deadline_ns(SERVICE_CONTROL_NS));
	if (err == 0)
		return fd;
	close(fd);
	return err == -EAGAIN ? -ETIMEDOUT : err;
}

/* ---- the region ---- */

/* Whether anybody uses it. */
static bool bus_is_lived_in(struct region *region)
{
	for (uint32_t i = 0; i < region->g.nodes; i++) {
		/* sync SLOT service: state before the record; pairs SLOT writer in control_grant()
		 */
		uint64_t word = shm_load_acquire(&region->bells[i].slot);
		enum slot_state state = slot_state(word);

		if (peer_live_holder(region, i) != 0)
			return true;
		if (state != SLOT_FREE && state != SLOT_LEFT && state != SLOT_DEAD &&
		    peer_check(region, i, word) != PEER_DEAD)
			return true;
	}
	return false;
}

/* Another layout, or another boot: its owners cannot be read, but their live locks can be counted.
 */
static int bus_foreign(const char *directory, unsigned port)
{
	int32_t pids[8];
	char list[128] = "", why[256];
	int n = region_live_pids(directory, port, pids, rb_array_size(pids));
	size_t at = 0;

	if (n <= 0)
		return n;
	for (int i = 0; i < n && i < (int)rb_array_size(pids); i++)
		at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%d", i ? ", " : "",
				       pids[i]);
	snprintf(why, sizeof(why), "%.200s", rb_fail_detail());
	return rb_fail(-EPROTO, "%s; %d process%s use it: %s%s; end them, or choose another port",
		       why, n, n == 1 ? "" : "es", list,
		       n > (int)rb_array_size(pids) ? ", ..." : "");
}

static void bus_compare(const struct region *region, const struct region_spec *spec)
{
	const struct layout_geometry *has = &region->g, *asked = &spec->g;

	rb_log(5, "adopted the living bus in %s", region->directory);
	if (has->nodes != asked->nodes || has->events != asked->events ||
	    has->ring_bytes != asked->ring_bytes || has->pool_bytes != asked->pool_bytes)
		rb_log(4,
		       "it keeps its geometry: %u nodes, %u events, ring %llu, pool %llu bytes; "
		       "the options asked for "
		       "another",
		       has->nodes, has->events, (unsigned long long)has->ring_bytes,
		       (unsigned long long)has->pool_bytes);
}

/* Without the control lock a living bus is adopted, but none is made or replaced. */
static int bus_is_held(unsigned port)
{
	return rb_fail(-ETIMEDOUT,
		       "the bus on port %u is ending or is there no more, and a process that is "
		       "stopped holds its control lock; continue or end that",
		       port);
}

/* Adopts the region if it lives, else makes a new one. */
static int bus_settle(struct ringbus_service *s, const struct region_spec *spec, bool control_held)
{
	struct region *region = NULL;
	bool replace = false;
	int err = region_open(&region, spec->port, spec->directory);

	if (err == 0) {
		/* sync CLOSING service: the word before the files go; pairs CLOSING service in
		 * bus_end() */
		bool closing = shm_load_acquire(&region->control->closing) != 0;

		region->serving = true; /* we judge who lives */
		if (!closing && (!control_held || bus_is_lived_in(region))) {
			s->region = region;
			bus_compare(region, spec);
			return 0;
		}
		region_put(region);
		replace = true;
	} else if (err == -ENOENT || (err == -EPROTO && control_held)) {
		bool none = err == -ENOENT; /* or of an earlier boot */

		err = bus_foreign(spec->directory, spec->port);
		if (err < 0)
			return err;
		if (!none)
			rb_log(4, "%s: replaced, nobody uses it", rb_fail_detail());
		replace = true;
	} else {
		return err;
	}
	if (!control_held)
		return bus_is_held(spec->port);
	err = region_create(&s->region, spec, replace);
	if (err == 0)
		s->region->serving = true;
	return err;
}

static void bus_sign(struct ringbus_service *s, uint64_t pid)
{
	struct control control;

	if (control_lock(&control, s->region, rb_deadline_ns(SERVICE_CONTROL_NS)) < 0)
		return;
	/* relaxed: for texts only */
	shm_store_relaxed(&control.control->service_pid, pid);
	control_unlock(&control);
}

int bus_take(struct ringbus_service *s, const struct ringbus_service_options *options)
{
	struct region_spec spec = {
		.g = {.nodes = options->nodes ? options->nodes : LAYOUT_NODES_DEFAULT,
		      .events = options->events ? options->events : LAYOUT_EVENTS_DEFAULT,
		      .ring_bytes = options->ring_bytes ? options->ring_bytes : LAYOUT_RING_DEFAULT,
		      .pool_bytes =
			      options->pool_bytes ? options->pool_bytes : LAYOUT_POOL_DEFAULT},
		.port = s->port,
		.directory = options->directory,
		.group = options->group,
	};
	char directory[REGION_PATH_MAX];
	int err = -EAGAIN, control;

	for (int i = 0; i < BUS_TAKE_TRIES && err == -EAGAIN; i++) {
		spec.directory = options->directory;
		err = bus_directory(&spec, directory);
		if (err < 0)
			return err;
		spec.directory = directory;
		s->election_fd = bus_elect(directory, s->port);
		if (s->election_fd < 0) {
			err = s->election_fd;
			continue;
		}
		control = bus_hold_control(directory, s->port);
		err = control < 0 && control != -ETIMEDOUT ? control : 0;
		if (err == 0 && region_lock_is_current(s->election_fd, directory, s->port))
			err = bus_settle(s, &spec, control >= 0);
		else if (err == 0 || err == -ENOENT)
			err = -EAGAIN; /* a last leaver was faster */
		if (control >= 0)
			close(control);
		if (err < 0) {
			/* Of a file that has lost its name we are not the only one elected. */
			if (region_lock_is_current(s->election_fd, directory, s->port))
				region_discard_lock(directory, s->port);
			close(s->election_fd);
			s->election_fd = -1;
		}
	}
	if (err == -EAGAIN)
		err = rb_fail(-EBUSY, "the files of the bus on port %u come and go; try again",
			      s->port);
	if (err == 0)
		bus_sign(s, (uint64_t)getpid());
	return err;
}

/* ---- owners ---- */

static void bus_unwatch(struct service_watch *w)
{
	if (w->pidfd >= 0)
		close(w->pidfd);
	*w = (struct service_watch){.pidfd = -1};
}

static void bus_watch(struct ringbus_service *s, uint32_t slot, uint64_t word, uint64_t now)
{
	struct service_watch *w = &s->watches[slot];
	struct peer_identity id;
	/* relaxed: the word was read with acquire (SLOT) */
	uint32_t pid = (uint32_t)shm_load_relaxed(&s->region->records[slot].pid);
	bool same =
		w->word != 0 && slot_generation(w->word) == slot_generation(word) && w->pidfd >= 0;

	if (same) {
		w->word = word;
		w->untaken = false;
		w->since_ns = now;
		return;
	}
	bus_unwatch(w);
	w->word = word;
	w->since_ns = now;
	if (pid == 0 || peer_identify(pid, &id, &w->pidfd) < 0 || w->pidfd < 0)
		return;
	if (service_poll_add(s, w->pidfd, EPOLLIN, service_tag(TAG_SLOT, slot)) < 0) {
		close(w->pidfd);
		w->pidfd = -1;
	}
}

/* There is something for bus_tidy(): in this turn, unless a try has just failed. */
static void bus_untidy(struct ringbus_service *s)
{
	if (s->tidy_ns == UINT64_MAX)
		s->tidy_ns = 0;
}

/* Marks and tells at once: neither needs the control lock. Frees at once too, unless that was not
 * to be had a moment ago. */
static void bus_bury(struct ringbus_service *s, uint32_t slot, uint64_t word)
{
	struct service_watch *w = &s->watches[slot];

	control_mark_dead(s->region, slot, word);
	bus_unwatch(w);
	w->word = slot_word(slot_generation(word), slot_pid(word), SLOT_DEAD);
	bus_untidy(s);
	bus_tidy(s, rb_now_ns());
	rb_log(5, "process %u (slot %u) died", slot_pid(word), slot);
}

/* Whoever marked this slot may have died before he told of it: told once more. */
static void bus_ended(struct ringbus_service *s, uint32_t slot, uint64_t word)
{
	struct service_watch *w = &s->watches[slot];

	bus_untidy(s);
	if (w->word == word)
		return;
	bus_unwatch(w);
	w->word = word;
	control_announce(s->region);
}

void bus_tidy(struct ringbus_service *s, uint64_t now)
{
	struct control control;
	int err;

	if (now < s->tidy_ns)
		return;
	err = control_lock(&control, s->region, rb_deadline_ns(SERVICE_TIDY_NS));
	if (err < 0) { /* held; or gone, or no descriptor is left, which takes longer */
		s->tidy_ns =
			rb_now_ns() + (err == -ETIMEDOUT ? SERVICE_TIDY_AGAIN_NS : SERVICE_SCAN_NS);
		return;
	}
	s->tidy_ns = UINT64_MAX;
	for (uint32_t i = 0; i < s->region->g.nodes; i++) {
		if (!s->watches[i].untaken)
			continue;
		s->watches[i].untaken = false;
		control_void_grant(&control, i, s->watches[i].word);
		rb_log(6, "grant of slot %u taken back", i);
	}
	control_reap_held(&control);
	control_unlock(&control);
}

static void bus_judge(struct ringbus_service *s, uint32_t slot, uint64_t word, uint64_t now)
{
	struct service_watch *w = &s->watches[slot];
	enum peer_life life;

	if (slot_pid(word) == 0 && conn_of_slot(s, slot, slot_generation(word)))
		return;
	life = peer_check(s->region, slot, word);
	if (slot_state(word) == SLOT_GRANTED) {
		w->untaken = life == PEER_DEAD || now - w->since_ns >= SERVICE_CLAIM_NS;
		if (w->untaken)
			bus_untidy(s);
	} else if (life == PEER_DEAD) {
		bus_bury(s, slot, word);
	} else if (life == PEER_LOST && !w->reported) {
		w->reported = true;
		rb_log(4,
		       "process %u runs but holds the lock of slot %u no more: it closed "
		       "descriptors that are not its "
		       "own; the slot stays taken until it ends",
		       slot_pid(word), slot);
	}
}

void bus_look(struct ringbus_service *s, uint32_t slot, uint64_t now)
{
	/* sync SLOT service: state before the record; pairs SLOT writer in control_grant() */
	uint64_t word = shm_load_acquire(&s->region->bells[slot].slot);
	struct service_watch *w = &s->watches[slot];

	switch (slot_state(word)) {
	case SLOT_GRANTED:
	case SLOT_JOINING:
	case SLOT_LIVE:
	case SLOT_LEAVING:
		if (w->word != word)
			bus_watch(s, slot, word, now);
		bus_judge(s, slot, word, now);
		break;
	case SLOT_LEFT:
	case SLOT_DEAD:
		bus_ended(s, slot, word);
		break;
	default:
		bus_unwatch(w);
	}
}

void bus_scan(struct ringbus_service *s, uint64_t now)
{
	for (uint32_t i = 0; i < s->region->g.nodes; i++)
		bus_look(s, i, now);
}

void bus_owner_ended(struct ringbus_service *s, uint32_t slot, uint64_t now)
{
	struct service_watch *w = &s->watches[slot];

	/* The event may be of a pidfd that was closed in this turn. */
	if (w->pidfd < 0 || port_wait(w->pidfd, POLLIN, 0) < 0)
		return;
	/* Readable for ever: off the poll set, whatever comes of it. */
	close(w->pidfd);
	w->pidfd = -1;
	bus_look(s, slot, now);
}

/* ---- end ---- */

/* Whether files of the bus were deleted behind our back: nobody finds it any more, or whoever looks
 * for the lock file makes a new one and is its service. */
static bool bus_is_removed(const struct ringbus_service *s)
{
	struct stat st;

	return (fstat(s->region->fd, &st) == 0 && st.st_nlink == 0) ||
	       (fstat(s->election_fd, &st) == 0 && st.st_nlink == 0);
}

unsigned bus_busy(const struct ringbus_service *s)
{
	unsigned busy = control_busy_slots(s->region);

	return busy > 0 && bus_is_removed(s) && !bus_is_lived_in(s->region) ? 0 : busy;
}

bool bus_end(struct ringbus_service *s)
{
	struct control control;

	if (control_lock(&control, s->region, rb_deadline_ns(SERVICE_CONTROL_NS)) < 0) {
		/* Without its lock file nothing can be freed or granted. */
		s->ended = bus_is_removed(s) && !bus_is_lived_in(s->region);
		return s->ended;
	}
	/* What is granted and not claimed yet would keep the bus, with nobody to take it back. Its
	 * process finds the word gone and joins again. */
	for (uint32_t i = 0; i < s->region->g.nodes; i++)
		/* sync SLOT service: a look; decided by the CAS; pairs SLOT joiner in join_claim()
		 */
		control_void_grant(&control, i, shm_load_acquire(&s->region->bells[i].slot));
	if (control_busy_slots(s->region) == 0) {
		/* sync CLOSING service: before the files go, and only with all slots FREE, which
		 * only a grant under this lock could change; pairs CLOSING joiner in join_claim()
		 */
		shm_store_release(&control.control->closing, 1);
		KILL_POINT("X_BUS_CLOSING");
		region_unlink(s->region);
		s->ended = true;
	}
	control_unlock(&control);
	return s->ended;
}

void bus_leave(struct ringbus_service *s)
{
	for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++)
		bus_unwatch(&s->watches[i]);
	if (s->region && !s->ended)
		bus_sign(s, 0);
	if (s->region)
		s->region->serving = false;
	if (s->election_fd >= 0) {
		/* By hand: a child forked meanwhile by a raw call has the same description open. */
		bus_lock_byte(s->election_fd, 1, F_UNLCK);
		close(s->election_fd);
	}
	s->election_fd = -1;
}

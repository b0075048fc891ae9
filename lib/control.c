/* control.c: the control lock, its intent record, and space for extents. Level 3. */
#include "control.h"

#include "control_private.h"
#include "error.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

/* -EAGAIN: somebody else holds it. */
static int try_lock(int fd)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EACCES || errno == EAGAIN)
		return -EAGAIN;
	return errno == ENOLCK ? rb_fail(-ENOMEM, "the system has no room for another lock")
			       : -errno;
}

/* The holder is another process: it ends its operation, or dies and the kernel drops the lock, or
 * is stopped and we end by our deadline. */
static int lock_file(struct control *c, uint64_t deadline_ns)
{
	struct timespec pause = {.tv_nsec = 20000};
	int r;

	while ((r = try_lock(c->fd)) == -EAGAIN) {
		if (rb_left_ns(deadline_ns) == 0)
			return rb_fail(-ETIMEDOUT,
				       "process %u holds the control lock of the bus on port %u",
				       /* relaxed: for the text only */
				       (unsigned)shm_load_relaxed(&c->region->control->intent_pid),
				       c->region->port);
		nanosleep(&pause, NULL);
		if (pause.tv_nsec < 1000000)
			pause.tv_nsec *= 2;
	}
	return r;
}

static int lock_mutex(struct region *region, uint64_t deadline_ns)
{
	if (rb_mutex_lock(&region->control_mutex, deadline_ns))
		return 0;
	return rb_fail(-ETIMEDOUT, "another thread of this process is in a control operation");
}

static int map_area(struct control *c)
{
	const struct layout_geometry *g = &c->region->g;
	int r = region_map(c->region, g->control_offset, g->control_bytes, true, false, &c->map);

	if (r < 0)
		return r;
	c->control = c->map;
	c->records = (void *)((char *)c->map + g->records_offset);
	c->hashes = (void *)((char *)c->map + g->hashes_offset);
	c->events = (void *)((char *)c->map + g->events_offset);
	return 0;
}

/* Completes or voids what a dead holder left: every step of every operation can be done again from
 * what stands there. */
static void repair(struct control *c)
{
	/* sync INTENT next holder: the record before what it tells of; pairs INTENT holder in
	 * control_intend() */
	uint64_t intent = shm_load_acquire(&c->control->intent);
	uint32_t index = (uint32_t)intent;

	if (intent == 0)
		return;
	if (intent >> 56 == CONTROL_EVENT && index < c->region->g.events)
		control_event_settle(c, index);
	shm_count(&c->control->repairs, 1);
	control_intend(c, CONTROL_NONE, 0, 0);
	control_announce(c->region);
}

/* The lock goes before its description, which a child of another thread, on its way to exec, may
 * have, too. */
static void unlock(struct control *c)
{
	struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};

	if (c->fd >= 0) {
		fcntl(c->fd, F_OFD_SETLK, &lock);
		close(c->fd);
	}
	pthread_mutex_unlock(&c->region->control_mutex);
}

int control_lock(struct control *c, struct region *region, uint64_t deadline_ns)
{
	int r = lock_mutex(region, deadline_ns);

	if (r < 0)
		return r;
	*c = (struct control){.region = region, .fd = -1};
	c->fd = region_open_lock(region->directory, region->port, false);
	r = c->fd < 0 ? c->fd : lock_file(c, deadline_ns);
	if (r == -ENOENT)
		r = rb_fail(-ESTALE,
			    "the lock file of the bus on port %u is gone; the bus was removed",
			    region->port);
	if (r == 0)
		r = map_area(c);
	if (r < 0) {
		unlock(c);
		return r;
	}
	shm_store_relaxed(&c->control->intent_pid, (uint64_t)getpid()); /* relaxed: for texts */
	repair(c);
	return 0;
}

void control_unlock(struct control *c)
{
	shm_store_relaxed(&c->control->intent_pid, 0); /* relaxed: for texts */
	region_unmap(c->region, c->map, c->region->g.control_bytes);
	unlock(c);
}

void control_intend(struct control *c, enum control_op op, uint32_t slot, uint32_t index)
{
	uint64_t word = op == CONTROL_NONE ? 0 : (uint64_t)op << 56 | (uint64_t)slot << 32 | index;

	/* sync INTENT holder: the record before the steps it announces, and those before it is
	 * void; pairs INTENT next holder in repair(): the kernel's lock hands over */
	shm_store_release(&c->control->intent, word);
	KILL_POINT("X_CONTROL_INTENT");
}

static int by_begin(const void *a, const void *b)
{
	const struct control_range *x = a, *y = b;

	return (x->begin > y->begin) - (x->begin < y->begin);
}

/* Adds a range that a node page names, if it can be one: space comes before its name, so what is
 * not within the file is damage, and must not make the file grow to there. */
static size_t add_range(struct control_range *ranges, size_t n, const struct region *region,
			uint64_t file_bytes, uint64_t offset, uint64_t bytes)
{
	if (offset < region->g.fixed_bytes || (offset & (RB_PAGE - 1)) || offset > file_bytes ||
	    bytes > file_bytes - offset)
		return n;
	ranges[n] = (struct control_range){offset, offset + rb_align_up(bytes, RB_PAGE)};
	return n + 1;
}

static size_t collect_ranges(struct control_range *ranges, const struct region *region,
			     uint64_t file_bytes)
{
	uint64_t ring = layout_ring_extent_bytes(&region->g);
	size_t n = 0;

	for (uint32_t s = 0; s < region->g.nodes; s++) {
		const struct layout_node *node = &region->nodes[s];

		for (uint32_t t = 0; t < region->g.nodes; t++)
			/* sync EXTENT allocator: names stored by earlier holders; pairs EXTENT
			 * sender in ring_offset() */
			n = add_range(ranges, n, region, file_bytes,
				      shm_load_acquire(&node->ring[t]), ring);
		for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++) {
			/* sync EXTENT allocator: as above; pairs EXTENT sender in send_pool_grow()
			 */
			uint64_t where = shm_load_acquire(&node->pool[i].where);

			/* relaxed: ordered by the load before */
			n = add_range(ranges, n, region, file_bytes,
				      where & ~(uint64_t)(RB_PAGE - 1),
				      shm_load_relaxed(&node->pool[i].bytes) & 0xffffffffffffull);
		}
	}
	return n;
}

int control_ranges(const struct region *region, struct control_range **ranges, size_t *n)
{
	size_t capacity = (size_t)region->g.nodes * (region->g.nodes + LAYOUT_POOL_EXTENTS);
	uint64_t file_bytes;
	int r = region_size(region, &file_bytes);

	if (r < 0)
		return r;
	*ranges = malloc(capacity * sizeof(**ranges));
	if (!*ranges)
		return -ENOMEM;
	*n = collect_ranges(*ranges, region, file_bytes);
	return 0;
}

int control_extent(struct control *c, uint64_t bytes, uint64_t *offset)
{
	uint64_t at = c->region->g.fixed_bytes;
	struct control_range *ranges;
	size_t n;
	int r = control_ranges(c->region, &ranges, &n);

	if (r < 0)
		return r;
	bytes = rb_align_up(bytes, RB_PAGE);
	qsort(ranges, n, sizeof(*ranges), by_begin);
	for (size_t i = 0; i < n && ranges[i].begin < at + bytes; i++)
		at = rb_max(at, ranges[i].end);
	free(ranges);
	r = region_allocate(c->region, at, bytes);
	if (r == -ENOSPC) {
		control_punch_all_pairs(c); /* last words that nobody asked for so far */
		r = region_allocate(c->region, at, bytes);
	}
	KILL_POINT("X_EXTENT_ALLOCATED");
	if (r < 0) {
		region_punch(c->region, at, bytes); /* the pieces that there was room for */
		return r;
	}
	*offset = at;
	return 0;
}

unsigned control_busy_slots(const struct region *region)
{
	unsigned n = 0;

	for (uint32_t s = 0; s < region->g.nodes; s++)
		/* sync SLOT reader: the owner's words after its state; pairs SLOT writer in
		 * control_grant() */
		n += slot_state(shm_load_acquire(&region->bells[s].slot)) != SLOT_FREE;
	return n;
}

static int free_slot(const struct region *region, uint64_t *word)
{
	for (uint32_t s = 0; s < region->g.nodes; s++) {
		/* sync SLOT reader: clean-up before FREE; pairs SLOT writer in free_one() */
		*word = shm_load_acquire(&region->bells[s].slot);
		if (slot_state(*word) == SLOT_FREE)
			return (int)s;
	}
	return -1;
}

int control_grant(struct control *c, const struct peer_identity *id, uint32_t *slot,
		  uint32_t *generation)
{
	uint64_t was;
	int s = free_slot(c->region, &was);
	struct layout_record *record;
	struct shm_word *word;
	uint32_t next;

	if (s < 0) {
		control_reap_all_held(c);
		s = free_slot(c->region, &was);
	}
	if (s < 0)
		return rb_fail(-EUSERS,
			       "all %u slots of the bus on port %u are taken; start the service "
			       "with more --nodes",
			       c->region->g.nodes, c->region->port);
	control_punch_pairs(c, (uint32_t)s);
	record = &c->records[s];
	word = &c->region->bells[s].slot;
	next = slot_generation(was) + 1; /* FREE changes under the lock only */
	if (next == 0)
		next = 1;
	/* relaxed, all: published by the slot word (SLOT) */
	shm_store_relaxed(&record->pid, id->pid);
	shm_store_relaxed(&record->start_time, id->start_time);
	shm_store_relaxed(&record->pidfd_inode, id->pidfd_inode);
	shm_store_relaxed(&record->uid, id->uid);
	shm_store_relaxed(&record->name_bytes, 0);
	shm_store_relaxed(&record->name[0], 0); /* tools read it of former owners, to the 0 */
	shm_store_relaxed(&record->granted_ns, rb_now_ns());
	KILL_POINT("X_GRANT_RECORDED");
	/* sync SLOT writer: identity before GRANTED; pairs SLOT reader in peer_check() */
	shm_store_release(word, slot_word(next, id->pid, SLOT_GRANTED));
	*slot = (uint32_t)s;
	*generation = next;
	return 0;
}

void control_void_grant(struct control *c, uint32_t slot, uint64_t word)
{
	if (slot_state(word) == SLOT_GRANTED)
		/* sync SLOT writer: nothing was stored yet, only GRANTED is taken back; pairs SLOT
		 * client in join.c */
		shm_cas(&c->region->bells[slot].slot, &word,
			slot_word(slot_generation(word), 0, SLOT_FREE));
}

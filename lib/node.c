/* node.c: joining, leaving, finding others. Level 4.
 *
 * Join: join_bus() leaves the slot JOINING with our live lock held. Then: signal word of the new
 * generation, mode, rings to us walked and their positions published, name; last LIVE by CAS.
 * X_JOIN_WALKED: a death here is found by the live lock and reaped like any other. Leave: LIVE to
 * LEFT (or LEAVING while borrows are out), announced; then cleaned up and freed under the control
 * lock, by us or by whoever holds it next; the live lock is dropped last.
 */
#include "node.h"

#include "error.h"
#include "guard.h"
#include "join.h"
#include "probes.h"

#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

uint64_t node_control_deadline(const struct ringbus_node *node)
{
	return rb_deadline_ns(node->timeout_ns);
}

/* Whoever marked the end may have been killed before it told of it, and who frees the slot tells
 * that too, but needs the lock: so it is told once by each that finds the mark. */
static void tell_of_end(struct ringbus_node *node, uint32_t slot, uint64_t word)
{
	if (own_swap(&node->end_told[slot], word) != word)
		control_announce(node->region);
}

void node_suspect(struct ringbus_node *node, uint32_t slot)
{
	uint64_t now = rb_now_ns();
	/* sync SLOT reader: the word that peer_check() proves; pairs SLOT writer in
	 * control_grant() */
	uint64_t word = shm_load_acquire(&node->region->bells[slot].slot);

	if (now - own_load(&node->checked_ns[slot]) < RB_MS)
		return;
	own_store(&node->checked_ns[slot], now);
	if (slot_state(word) == SLOT_LIVE && peer_check(node->region, slot, word) == PEER_DEAD)
		control_mark_dead(node->region, slot, word);
	else if (slot_state(word) == SLOT_DEAD || slot_state(word) == SLOT_LEFT)
		tell_of_end(node, slot, word);
	else
		return;
	control_reap(node->region, rb_deadline_ns(10 * RB_MS));
}

rb_cold int node_refused(const struct ringbus_node *node)
{
	if (!node)
		return rb_fail_plain(-EINVAL);
	if (*(const volatile uint8_t *)node->guard == 0 || own_load_relaxed(&node->close_wanted))
		return rb_fail_plain(-ENOTCONN);
	if (guard_condemned(node->region))
		return rb_fail(-EFAULT, "the region file of the bus on port %u was truncated",
			       node->region->port);
	return rb_fail(-ESTALE, "slot %u of the bus on port %u was taken away", node->slot,
		       node->region->port);
}

static int check_options(const struct ringbus_node_options *o)
{
	size_t bytes;

	if (o->port > 65535)
		return rb_fail(-EINVAL, "port %u is over 65535", o->port);
	bytes = o->name ? strnlen(o->name, LAYOUT_NAME_BYTES) : 0;
	if (o->name && bytes > 0 && !layout_name_valid(o->name, bytes))
		return rb_fail(-EINVAL, "a node name is UTF-8 of at most 255 bytes");
	return 0;
}

static void take_options(struct ringbus_node *node, const struct ringbus_node_options *o)
{
	cpu_set_t cpus;
	bool one_cpu = sched_getaffinity(0, sizeof(cpus), &cpus) == 0 && CPU_COUNT(&cpus) < 2;

	node->timeout_ns = o->timeout_ns ? o->timeout_ns : RB_SECOND;
	node->single_sender = o->single_sender;
	node->peer_notices = o->peer_notices;
	node->watch_events = o->watch_events;
	node->no_safety_wake = o->no_safety_wake;
	node->on_notice = o->on_notice;
	node->on_notice_user = o->on_notice_user;
	node->safety_ns = SAFETY_FIRST_NS;
	node->spin_fixed = o->spin_ns != 0;
	node->spin_ns = o->spin_ns == RINGBUS_NO_SPIN || one_cpu ? 0
			: o->spin_ns				 ? o->spin_ns
								 : 50000;
	node->spin_now_ns = node->spin_ns;
	if (o->name)
		memcpy(node->name, o->name, strlen(o->name));
}

static void init_locks(struct ringbus_node *node)
{
	pthread_mutex_init(&node->send_lock, NULL);
	pthread_mutex_init(&node->room_lock, NULL);
	pthread_mutex_init(&node->events_lock, NULL);
	pthread_mutex_init(&node->borrow_lock, NULL);
}

static bool has_name(uint64_t word)
{
	return slot_state(word) == SLOT_LIVE || slot_state(word) == SLOT_JOINING;
}

/* Slot of the live node with this name; LAYOUT_NO_SLOT if none. *owner: its word. */
static uint32_t slot_of_name(const struct region *region, const struct layout_record *records,
			     const char *name, uint64_t *owner)
{
	char theirs[LAYOUT_NAME_BYTES];

	for (uint32_t s = 0; s < region->g.nodes; s++) {
		/* sync SLOT reader: name before LIVE; pairs SLOT writer in become_live() */
		uint64_t word = shm_load_acquire(&region->bells[s].slot);

		if (!has_name(word))
			continue;
		/* relaxed: ordered by the slot word, or under the lock */
		layout_name_load(records[s].name, shm_load_relaxed(&records[s].name_bytes), theirs);
		if (!theirs[0] || strcmp(theirs, name) != 0)
			continue;
		/* sync SLOT reader: the name before the second look, else it may be the next
		 * owner's; pairs SLOT writer in control_grant() */
		shm_fence();
		/* sync SLOT reader: the same owner still; pairs SLOT writer in control_grant() */
		*owner = shm_load_acquire(&region->bells[s].slot);
		if (has_name(*owner) && slot_generation(*owner) == slot_generation(word))
			return s;
	}
	return LAYOUT_NO_SLOT;
}

static int enter_name(struct ringbus_node *node)
{
	struct layout_record *record;
	struct control c;
	uint32_t holder;
	uint64_t word;
	int r;

	if (!node->name[0])
		return 0;
	r = control_lock(&c, node->region, node_control_deadline(node));
	if (r < 0)
		return r;
	holder = slot_of_name(node->region, c.records, node->name, &word);
	record = &c.records[node->slot];
	if (holder == LAYOUT_NO_SLOT) {
		layout_name_store(record->name, node->name, strlen(node->name));
		shm_store_relaxed(&record->name_bytes,
				  strlen(node->name)); /* relaxed: published by LIVE (SLOT) */
	}
	control_unlock(&c);
	if (holder == LAYOUT_NO_SLOT)
		return 0;
	/* the holder may be dead and not yet reaped */
	return rb_fail(-EEXIST, "slot %u has the node name '%s'", holder, node->name);
}

static int enter_name_reaping(struct ringbus_node *node)
{
	int r = enter_name(node);

	if (r != -EEXIST || control_reap_all(node->region, node_control_deadline(node)) == 0)
		return r;
	return enter_name(node);
}

static int become_live(struct ringbus_node *node)
{
	uint64_t joining = slot_word(node->generation, node->pid, SLOT_JOINING);

	KILL_POINT("X_JOIN_WALKED");
	/* sync SLOT writer: positions, signal word, mode, name before LIVE; pairs SLOT reader in
	 * add_target() */
	if (!shm_cas(&node->bell->slot, &joining,
		     slot_word(node->generation, node->pid, SLOT_LIVE)))
		return rb_fail(-ESTALE, "the slot was taken away while joining");
	own_store(&node->live_word, slot_word(node->generation, node->pid, SLOT_LIVE));
	control_announce(node->region);
	PROBE_JOIN(node->region->port, node->slot, node->generation);
	return 0;
}

/* The counters of an earlier owner are not ours. */
static void reset_counters(struct layout_node *own)
{
	struct shm_word *const groups[] = {&own->dispatches, &own->dropped_lossy};

	for (unsigned g = 0; g < rb_array_size(groups); g++)
		for (unsigned i = 0; i < 8; i++)
			shm_store_relaxed(groups[g] + i, 0); /* relaxed: counters */
	shm_store_relaxed(&own->safety_wakes, 0);	     /* relaxed: counter */
}

/* From JOINING to LIVE. */
static int set_up(struct ringbus_node *node)
{
	struct region *region = node->region;
	void *own;
	int r;

	node->guard = region->guard;
	node->bell = &region->bells[node->slot];
	node->events = region->events;
	node->mask_words = (region->g.nodes + 63) / 64;
	for (uint32_t w = 0; w < LAYOUT_MASK_WORDS; w++)
		node->others[w] = ~(w == node->slot / 64 ? 1ull << node->slot % 64 : 0);
	node->sends_alone = node->single_sender && node->mask_words == 1;
	node->inline_max = (uint32_t)ring_inline_max(region->g.ring_bytes);
	r = region_map(region, region->g.nodes_offset + (uint64_t)node->slot * RB_PAGE, RB_PAGE,
		       true, true, &own);
	if (r < 0)
		return r;
	node->own = own;
	reset_counters(node->own);
	node->membarrier = !peer_denied("membarrier") && doorbell_membarrier_register();
	node->must_fence = !node->membarrier;
	/* sync MODE joiner: whether we may call membarrier, before LIVE; pairs MODE sender in
	 * link_tx_open() */
	shm_store_release(&node->own->mode, node->membarrier ? 0 : NODE_MODE_NO_MEMBARRIER);
	/* sync SIGNAL owner: the new generation before LIVE; pairs SIGNAL sender in send_signal()
	 */
	shm_store_release(&node->bell->signal, (uint64_t)node->generation << 32);
	shm_store_relaxed(&node->bell->watches, node->watch_events); /* relaxed: before LIVE */
	r = event_init(node);
	if (r == 0)
		r = link_walk_incoming(node);
	if (r == 0)
		r = enter_name_reaping(node);
	if (r < 0)
		return r;
	notice_start(node);
	return become_live(node);
}

/* Marks our membership as ended by ourselves. */
static void mark_left(struct ringbus_node *node, enum slot_state from, enum slot_state to)
{
	uint64_t word = slot_word(node->generation, node->pid, from);

	/* sync SLOT writer: our last message before the end; pairs SLOT reader in notice_scan() */
	shm_cas(&node->bell->slot, &word, slot_word(node->generation, node->pid, to));
	KILL_POINT("X_LEFT_MARKED");
	control_announce(node->region);
	if (from == SLOT_LIVE)
		PROBE_LEAVE(node->region->port, node->slot, node->generation);
}

static void free_links(struct ringbus_node *node)
{
	for (uint32_t s = 0; s < LAYOUT_NODES_MAX; s++) {
		link_tx_close(node, node->tx[s]);
		link_rx_close(node, node->rx[s]);
	}
	for (uint32_t i = 0; i < LAYOUT_POOL_EXTENTS; i++)
		if (node->pool.extents[i].map)
			region_unmap(node->region, node->pool.extents[i].map,
				     node->pool.extents[i].place.bytes);
	pool_fini(&node->pool);
}

/* Takes the election lock, until the control lock goes: there is no service, and none begins
 * meanwhile. A look would not do: one that begins may adopt the bus while we stand still. */
static bool leave_elect(const struct control *c)
{
	struct flock election = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};

	return fcntl(c->fd, F_OFD_SETLK, &election) == 0 &&
	       region_lock_is_current(c->fd, c->region->directory, c->region->port);
}

/* With nobody on the bus and no service the last one removes its files. */
static void leave_bus(struct ringbus_node *node)
{
	struct region *region = node->region;
	struct control c;

	if (control_lock(&c, region, node_control_deadline(node)) < 0)
		return;
	control_reap_all_held(&c);
	if (control_busy_slots(region) == 0) {
		KILL_POINT("X_LEAVE_LAST");
		if (leave_elect(&c)) {
			KILL_POINT("X_LEAVE_ELECTED");
			/* sync CLOSING last leaver: marked before the files go; pairs CLOSING
			 * joiner in join.c */
			shm_store_release(&c.control->closing, 1);
			KILL_POINT("X_LEAVE_CLOSING");
			region_unlink(region);
		}
	}
	control_unlock(&c);
}

static void release_all(struct ringbus_node *node)
{
	struct region *region = node->region;

	while (node->contact_targets) {
		struct contact_target *target = node->contact_targets;

		node->contact_targets = target->next;
		free(target);
	}
	while (node->signal_targets) {
		struct signal_target *target = node->signal_targets;

		node->signal_targets = target->next;
		free(target);
	}
	if (region) {
		free_links(node);
		if (node->table)
			event_fini(node);
		region_unmap(region, node->own, RB_PAGE);
		if (node->connection >= 0)
			close(node->connection);
		region_put(region);
	}
	free(node);
}

/* With region->life held. */
static void end_slot(struct ringbus_node *node)
{
	/* sync SLOT reader: own state; pairs SLOT prover in control_mark_dead() */
	uint64_t word = shm_load_acquire(&node->bell->slot);

	if (slot_generation(word) == node->generation &&
	    (slot_state(word) == SLOT_LEAVING || slot_state(word) == SLOT_JOINING))
		mark_left(node, slot_state(word), SLOT_LEFT);
	leave_bus(node);
	peer_live_drop(node->region, node->slot);
}

/* Ends what is left of a node: the slot, the memory. No thread is in it, no borrow is out. */
void node_finish_close(struct ringbus_node *node)
{
	struct region *region = node->region;

	if (!region_forked(region)) {
		pthread_mutex_lock(&region->life);
		end_slot(node);
		pthread_mutex_unlock(&region->life);
	}
	release_all(node);
}

int ringbus_node_open(struct ringbus_node **out, const struct ringbus_node_options *options)
{
	struct ringbus_node_options o;
	struct join_request request;
	struct join_result result;
	struct ringbus_node *node;
	int r, port;

	rb_fail_clear();
	if (!out)
		return rb_fail(-EINVAL, "no place for the node");
	r = rb_options_take(&o, sizeof(o), options);
	if (r == 0)
		r = check_options(&o);
	/* joins and control operations wait for one process, which may be stopped */
	if (o.timeout_ns == RINGBUS_FOREVER)
		o.timeout_ns = 60 * RB_SECOND;
	port = r < 0 ? r : join_port(o.port);
	if (port < 0)
		return port;
	if (o.sigbus_guard) {
		r = guard_enable();
		if (r < 0)
			return r;
	}
	node = aligned_alloc(RB_LINE, rb_align_up(sizeof(*node), RB_LINE));
	if (!node)
		return -ENOMEM;
	memset(node, 0, sizeof(*node));
	take_options(node, &o);
	init_locks(node);
	request = (struct join_request){
		.port = (unsigned)port,
		.directory = o.directory,
		.deadline_ns = rb_deadline_ns(o.timeout_ns ? o.timeout_ns
							   : (o.autostart ? 5 : 1) * RB_SECOND),
		.autostart = o.autostart,
	};
	r = join_bus(&request, &result);
	if (r < 0) {
		free(node);
		return r;
	}
	node->region = result.region;
	node->slot = result.slot;
	node->generation = result.generation;
	node->pid = result.pid;
	node->connection = result.connection;
	r = set_up(node);
	if (r < 0) {
		char detail[256];

		strncpy(detail, rb_fail_detail(), sizeof(detail) - 1);
		detail[sizeof(detail) - 1] = 0;
		node_finish_close(node);
		return rb_fail(r, "%s", detail);
	}
	rb_fail_clear();
	*out = node;
	return 0;
}

/* Everything of a close that does not depend on borrows. */
void node_close_now(struct ringbus_node *node)
{
	struct region *region;
	uint32_t slot, generation;
	uint64_t deadline;
	bool borrows;

	fdwatch_close(node);
	if (region_forked(node->region)) {
		release_all(node);
		return;
	}
	dispatch_pulled_done(node);
	dispatch_give_all(node);
	send_trim(node);
	for (uint32_t s = 0; s < node->region->g.nodes; s++)
		if (node->tx[s])
			ring_tx_store_hint(&node->tx[s]->ring);
	/* From LEFT on anybody may free the slot, and another thread join in it: not before we have
	 * dropped its live lock. With borrows out, whoever releases the last one frees the node. */
	region = region_get(node->region);
	slot = node->slot;
	generation = node->generation;
	deadline = node_control_deadline(node);
	pthread_mutex_lock(&region->life);
	pthread_mutex_lock(&node->borrow_lock);
	borrows = node->borrows > 0;
	mark_left(node, SLOT_LIVE, borrows ? SLOT_LEAVING : SLOT_LEFT);
	node->closed = true;
	pthread_mutex_unlock(&node->borrow_lock);
	if (!borrows)
		end_slot(node);
	pthread_mutex_unlock(&region->life);
	if (borrows)
		control_forget_slot(region, slot, generation, deadline);
	else
		release_all(node);
	region_put(region);
}

void ringbus_node_close(struct ringbus_node *node)
{
	if (!node)
		return;
	if (region_forked(node->region)) {
		node_close_now(node);
		return;
	}
	own_store(&node->close_wanted, 1); /* before what makes calls look for a reason */
	own_store(&node->live_word, LINK_NOBODY);
	if (receive_is_ours(node)) {
		own_store(&node->close_deferred,
			  1); /* in a handler: the receiving call closes when it is done */
		return;
	}
	ringbus_listen_stop(node);
	node_close_now(node);
}

static int no_place(void)
{
	return rb_fail(-EINVAL, "no place for the address");
}

int ringbus_node_address(const struct ringbus_node *node, struct ringbus_address *address)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (!address)
		return no_place();
	*address = (struct ringbus_address){node->pid, node->slot, node->generation};
	return 0;
}

int ringbus_node_find(struct ringbus_node *node, const char *name, struct ringbus_address *address)
{
	int r = node_enter(node);
	uint64_t word;
	uint32_t slot;

	if (r < 0)
		return r;
	if (!address)
		return no_place();
	if (!name || !*name)
		return rb_fail(-EINVAL, "a node name is needed");
	slot = slot_of_name(node->region, node->region->records, name, &word);
	if (slot == LAYOUT_NO_SLOT || slot_state(word) != SLOT_LIVE)
		return rb_fail(-ESRCH, "no node named '%s' on the bus", name);
	*address = (struct ringbus_address){slot_pid(word), slot, slot_generation(word)};
	return 0;
}

int ringbus_node_find_pid(struct ringbus_node *node, uint32_t pid, struct ringbus_address *address)
{
	struct ringbus_address found = {0};
	int r = node_enter(node);
	unsigned n = 0;

	if (r < 0)
		return r;
	if (!address)
		return no_place();
	for (uint32_t s = 0; s < node->region->g.nodes && pid != 0; s++) {
		/* sync SLOT reader: identity of the owner; pairs SLOT writer in become_live() */
		uint64_t word = shm_load_acquire(&node->region->bells[s].slot);

		if (slot_state(word) != SLOT_LIVE || slot_pid(word) != pid || s == node->slot)
			continue;
		found = (struct ringbus_address){pid, s, slot_generation(word)};
		n++;
	}
	if (n == 0 && pid == node->pid && pid != 0)
		return rb_fail(-EINVAL, "process %u is this node itself", pid);
	if (n == 0)
		return rb_fail(-ESRCH, "process %u is not on the bus", pid);
	if (n > 1)
		return rb_fail(-ENOTUNIQ,
			       "process %u has %u nodes on the bus; address one by slot or name",
			       pid, n);
	*address = found;
	return 0;
}

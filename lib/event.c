/* event.c: handles, subscriptions and the dispatch table; with event_read.h the only liburcu
 * user. Level 4.
 *
 * The dispatching thread reads table[index] under the RCU read lock, one lock per batch;
 * subscriptions are replaced as a whole. Whoever takes one out waits for a grace period before
 * freeing it, so after ringbus_unsubscribe() its handler does not run again; from within a handler
 * it goes on a list that is freed when the handler has returned. events_lock guards handles; it is
 * never held during a grace period, since handlers may take it.
 */
#include "node.h"

#include "error.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
/* names without the flavour, before rculfhash picks one */
#define URCU_API_MAP
#include <urcu/urcu-bp.h>

#include <urcu/rculfhash.h>

_Static_assert(sizeof(struct cds_lfht_node) <= sizeof(((struct ringbus_event *)0)->hash_node),
	       "room for the node");

#define NAME_BUCKETS 256

int event_init(struct ringbus_node *node)
{
	node->table = calloc(node->region->g.events, sizeof(*node->table));
	node->names = cds_lfht_new(NAME_BUCKETS, NAME_BUCKETS, NAME_BUCKETS, 0, NULL);
	return node->table && node->names ? 0 : -ENOMEM;
}

static struct cds_lfht_node *hash_node(struct ringbus_event *e)
{
	return (struct cds_lfht_node *)(void *)e->hash_node;
}

/* No other thread uses the node any more. In a forked child nothing is waited for. */
void event_fini(struct ringbus_node *node)
{
	while (node->all) {
		struct ringbus_event *e = node->all;

		node->all = e->next;
		rcu_read_lock();
		cds_lfht_del(node->names, hash_node(e));
		rcu_read_unlock();
		free(e->subscription);
		free(e);
	}
	event_free_deferred(node);
	if (node->names && !region_forked(node->region))
		cds_lfht_destroy(node->names, NULL);
	free(node->table);
}

void event_free_deferred(struct ringbus_node *node)
{
	while (rb_unlikely(node->deferred != NULL)) {
		struct subscription *s = node->deferred;

		node->deferred = s->next;
		free(s);
	}
}

/* Frees a subscription that was taken out of the table. Caller holds no lock. */
static void retire(struct ringbus_node *node, struct subscription *s)
{
	if (!s)
		return;
	if (receive_is_ours(node)) {
		s->next = node->deferred;
		node->deferred = s;
		return;
	}
	synchronize_rcu();
	free(s);
}

/* Puts s (or nothing) in the table for e; returns what was there. Caller holds events_lock. */
static struct subscription *install(struct ringbus_event *e, struct subscription *s)
{
	struct subscription *old = e->subscription;
	struct ringbus_node *node = e->node;

	if (old && (!s || old->generation != s->generation || node->table[e->index] != old) &&
	    node->table[e->index] == old)
		rcu_assign_pointer(node->table[e->index], NULL);
	e->subscription = s;
	if (s)
		rcu_assign_pointer(node->table[e->index], s);
	return old;
}

struct name_key {
	const char *id;
	size_t bytes;
};

static int name_match(struct cds_lfht_node *n, const void *key)
{
	const struct ringbus_event *e = rb_container_of(n, struct ringbus_event, hash_node);
	const struct name_key *k = key;

	return e->id_bytes == k->bytes && memcmp(e->id, k->id, k->bytes) == 0;
}

/* The handle for a name, made if missing. Caller holds events_lock, and binds it before it leaves
 * the library. NULL: no memory. */
static struct ringbus_event *handle(struct ringbus_node *node, const char *id, size_t bytes,
				    bool make)
{
	struct name_key key = {id, bytes};
	unsigned long hash = (unsigned long)layout_name_hash(id, bytes);
	struct cds_lfht_iter iter;
	struct cds_lfht_node *found;
	struct ringbus_event *e;

	rcu_read_lock();
	cds_lfht_lookup(node->names, hash, name_match, &key, &iter);
	found = cds_lfht_iter_get_node(&iter);
	rcu_read_unlock();
	if (found)
		return rb_container_of(found, struct ringbus_event, hash_node);
	e = make ? calloc(1, sizeof(*e)) : NULL;
	if (!e)
		return NULL;
	e->node = node;
	e->id_bytes = bytes;
	e->index = UINT32_MAX;
	memcpy(e->id, id, bytes);
	cds_lfht_node_init(hash_node(e));
	rcu_read_lock();
	cds_lfht_add(node->names, hash, hash_node(e));
	rcu_read_unlock();
	e->next = node->all;
	node->all = e;
	return e;
}

/* Binds a handle to the entry that has its name now. A subscription of an earlier entry is taken
 * out. */
static struct subscription *bind(struct ringbus_event *e, const struct control_event *entry)
{
	struct subscription *old = NULL;

	if (e->generation != entry->generation || e->index != entry->index) {
		if (e->subscription)
			old = install(e, NULL);
		e->subscribed = e->created = false;
		event_bind_entry(e, entry->index, entry->generation);
	}
	e->seen_word = entry->word;
	e->seen_changes = shm_load_relaxed(&e->entry->changes); /* relaxed: under the lock */
	e->due = false;
	return old;
}

static struct subscription *new_subscription(struct ringbus_event *e, ringbus_handler handler,
					     void *user, bool deliver)
{
	struct subscription *s = calloc(1, sizeof(*s));

	if (s)
		*s = (struct subscription){.generation = e->generation,
					   .deliver = deliver,
					   .handler = handler,
					   .user = user,
					   .event = e};
	return s;
}

static int name_check(const char *id, size_t *bytes)
{
	*bytes = id ? strnlen(id, LAYOUT_NAME_BYTES) : 0;
	if (layout_name_valid(id ? id : "", *bytes))
		return 0;
	return rb_fail(-EINVAL, *bytes >= LAYOUT_NAME_BYTES ? "an event id has at most 255 bytes"
				: *bytes == 0		    ? "an event id cannot be empty here"
							    : "an event id must be UTF-8");
}

static void fresh_id(char id[LAYOUT_NAME_BYTES])
{
	uint8_t random[16] = {0};
	size_t got = 0;

	while (got < sizeof(random)) {
		ssize_t n = getrandom(random + got, sizeof(random) - got, 0);

		if (n > 0)
			got += (size_t)n;
	}
	for (unsigned i = 0; i < 16; i++)
		sprintf(id + 2 * i, "%02x", random[i]);
}

/* Nodes that have something to do with an entry: they get notices of what happens to it. Others
 * need not be woken for it: an event is created more often than anybody wants to know. */
static void audience_of(const struct control_event *entry, const struct ringbus_node *node,
			uint64_t audience[LAYOUT_MASK_WORDS])
{
	const struct layout_event *e = &node->region->events[entry->index];

	for (uint32_t w = 0; w < LAYOUT_MASK_WORDS; w++)
		/* relaxed, both: under the control lock */
		audience[w] = shm_load_relaxed(&e->members[w]) | shm_load_relaxed(&e->deliver[w]);
	audience[node->slot / 64] &= ~(1ull << node->slot % 64);
}

/* The steps of a creation that need the control lock. `s` is the creator's own subscription, or
 * NULL. */
static int create_locked(struct ringbus_event *e, const struct ringbus_event_options *o,
			 struct subscription *s, struct subscription *old[2], uint64_t *audience)
{
	struct ringbus_node *node = e->node;
	uint32_t mode = (uint32_t)o->mode;
	struct control_event entry;
	struct control c;
	int r = control_lock(&c, node->region, node_control_deadline(node));

	if (r < 0)
		return r;
	r = control_event_create(&c, e->id, e->id_bytes, node->slot, node->generation, mode, false,
				 o->lossy ? EVENT_FLAG_LOSSY : 0, &entry);
	if (r == 0) {
		audience_of(&entry, node, audience);
		old[0] = bind(e, &entry);
		e->created = true;
		e->subscribed = mode == RINGBUS_MULTI_EMISSION && s;
		if (s)
			s->generation = e->generation;
		if (s || mode == RINGBUS_SINGLE_EMISSION)
			old[1] = install(e, s); /* the handler before the mask bit */
		if (s)
			r = control_event_subscribe(&c, &entry, node->slot, true, false);
		e->deliver = s != NULL;
	}
	control_unlock(&c);
	return r;
}

int ringbus_event_create(struct ringbus_event **event, struct ringbus_node *node, const char *id,
			 const struct ringbus_event_options *options)
{
	struct subscription *s = NULL, *old[2] = {NULL, NULL};
	struct ringbus_event_options o;
	uint64_t audience[LAYOUT_MASK_WORDS];
	char made[LAYOUT_NAME_BYTES];
	struct ringbus_event *e;
	size_t bytes;
	int r = node_enter(node);

	rb_fail_clear();
	if (r < 0)
		return r;
	r = rb_options_take(&o, sizeof(o), options);
	if (r < 0)
		return r;
	if (!event || (unsigned)o.mode > 1)
		return rb_fail(-EINVAL, "event mode must be SINGLE (0) or MULTI (1)");
	if (!id || !*id) {
		fresh_id(made);
		id = made;
	}
	r = name_check(id, &bytes);
	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	e = handle(node, id, bytes, true);
	r = e ? 0 : -ENOMEM;
	if (r == 0 && o.mode == RINGBUS_MULTI_EMISSION && (o.handler || o.receive)) {
		s = new_subscription(e, o.handler, o.user, true);
		r = s ? 0 : -ENOMEM;
	}
	if (r == 0)
		r = create_locked(e, &o, s, old, audience);
	if (r == -EEXIST || r == -ENFILE) {
		/* its creator may be dead and not yet reaped */
		control_reap_all(node->region, node_control_deadline(node));
		r = create_locked(e, &o, s, old, audience);
	}
	if (r < 0 && s && e->subscription != s)
		free(s);
	pthread_mutex_unlock(&node->events_lock);
	retire(node, old[0]);
	retire(node, old[1]);
	if (r < 0)
		return r;
	control_announce_to(node->region, audience);
	*event = e;
	return 0;
}

static int subscribe_locked(struct ringbus_event *e, const struct ringbus_subscribe_options *o,
			    struct subscription *s, struct subscription *old[2])
{
	struct ringbus_node *node = e->node;
	struct control_event entry;
	struct control c;
	int r = control_lock(&c, node->region, node_control_deadline(node));

	if (r < 0)
		return r;
	r = control_event_find(&c, e->id, e->id_bytes, &entry);
	if (o->must_exist && (r < 0 || event_state(entry.word) != EVENT_LIVE))
		r = rb_fail(-ENOENT, "event '%s' does not exist (and must_exist was asked for)",
			    e->id);
	else if (r == 0 && event_state(entry.word) == EVENT_LIVE && event_mode(entry.word) == 0 &&
		 event_owner(entry.word) == node->slot)
		r = rb_fail(-EINVAL, "the creator of the SINGLE event '%s' cannot subscribe to it",
			    e->id);
	else
		r = control_event_enter(&c, e->id, e->id_bytes, node->slot, &entry);
	if (r == 0) {
		bool created = e->created;

		old[0] = bind(e, &entry);
		e->created &= created;
		s->generation = e->generation;
		old[1] = install(e, s); /* the handler before the mask bit */
		e->subscribed = true;
		e->deliver = !o->emit_only;
		r = control_event_subscribe(&c, &entry, node->slot, !o->emit_only, o->lossy);
	}
	control_unlock(&c);
	return r;
}

int ringbus_subscribe(struct ringbus_event **event, struct ringbus_node *node, const char *id,
		      const struct ringbus_subscribe_options *options)
{
	struct subscription *s = NULL, *old[2] = {NULL, NULL};
	struct ringbus_subscribe_options o;
	struct ringbus_event *e;
	size_t bytes = 0;
	int r = node_enter(node);

	rb_fail_clear();
	if (r == 0)
		r = rb_options_take(&o, sizeof(o), options);
	if (r == 0)
		r = name_check(id, &bytes);
	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	e = handle(node, id, bytes, true);
	if (e)
		s = new_subscription(e, o.handler, o.user, !o.emit_only);
	r = s ? subscribe_locked(e, &o, s, old) : -ENOMEM;
	if (r < 0 && s && e->subscription != s)
		free(s);
	pthread_mutex_unlock(&node->events_lock);
	retire(node, old[0]);
	retire(node, old[1]);
	if (r < 0)
		return r;
	if (event)
		*event = e;
	return 0;
}

/* Unsubscribe and dissolve differ in one call. */
static int leave_event(struct ringbus_event *e, bool dissolve)
{
	struct ringbus_node *node = e->node;
	struct control_event entry = {.index = e->index, .generation = e->generation};
	uint64_t audience[LAYOUT_MASK_WORDS];
	struct subscription *old = NULL;
	struct control c;
	int r;

	pthread_mutex_lock(&node->events_lock);
	r = control_lock(&c, node->region, node_control_deadline(node));
	if (r == 0) {
		audience_of(&entry, node, audience); /* before the masks are cleared */
		r = dissolve ? control_event_dissolve(&c, &entry, node->slot, node->generation)
			     : control_event_unsubscribe(&c, &entry, node->slot);
		control_unlock(&c);
	}
	if (r == 0 || (!dissolve && r == -ENOENT)) {
		old = e->subscription ? install(e, NULL) : NULL;
		e->subscribed = e->created = e->deliver = false;
	}
	pthread_mutex_unlock(&node->events_lock);
	retire(node, old);
	if (r == 0)
		control_announce_to(node->region, audience);
	return r;
}

int ringbus_unsubscribe(struct ringbus_event *event)
{
	int r = event ? node_enter(event->node) : -EINVAL;
	bool single;

	rb_fail_clear();
	if (r < 0)
		return r;
	pthread_mutex_lock(&event->node->events_lock);
	single = event->created && !event->subscribed &&
		 /* relaxed: own event; nobody else changes its mode */
		 event_mode(shm_load_relaxed(&event->entry->word)) == RINGBUS_SINGLE_EMISSION;
	r = event->subscribed || event->created ? 0 : -ENOENT;
	pthread_mutex_unlock(&event->node->events_lock);
	if (single)
		return rb_fail(-EINVAL, "'%s' is this node's own SINGLE event; dissolve it instead",
			       event->id);
	if (r < 0)
		return rb_fail(r, "not subscribed to '%s'", event->id);
	return leave_event(event, false);
}

int ringbus_event_dissolve(struct ringbus_event *event)
{
	int r = event ? node_enter(event->node) : -EINVAL;

	rb_fail_clear();
	if (r < 0)
		return r;
	return leave_event(event, true);
}

/* Called by the dispatching thread with events_lock held. */
void event_ended(struct ringbus_event *e)
{
	struct subscription *old = e->subscription ? install(e, NULL) : NULL;

	e->subscribed = e->created = e->deliver = false;
	if (old) {
		old->next = e->node->deferred;
		e->node->deferred = old;
	}
}

int ringbus_event_find(struct ringbus_event **event, struct ringbus_node *node, const char *id)
{
	struct subscription *old = NULL;
	struct control_event entry;
	struct ringbus_event *e = NULL;
	struct control c;
	size_t bytes = 0;
	int r = node_enter(node);

	rb_fail_clear();
	if (r == 0)
		r = name_check(id, &bytes);
	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	r = control_lock(&c, node->region, node_control_deadline(node));
	if (r == 0) {
		r = control_event_find(&c, id, bytes, &entry);
		if (r == 0)
			e = handle(node, id, bytes, true);
		if (e && (e->generation != entry.generation || e->index != entry.index))
			old = bind(e, &entry);
		control_unlock(&c);
	}
	pthread_mutex_unlock(&node->events_lock);
	retire(node, old);
	if (r < 0)
		return r == -ENOENT ? rb_fail(r, "no event '%s'", id) : r;
	if (!e)
		return -ENOMEM;
	*event = e;
	return 0;
}

const char *ringbus_event_id(const struct ringbus_event *event)
{
	return event ? event->id : "";
}

static unsigned mask_count(const struct shm_word *mask, uint32_t except)
{
	unsigned n = 0;

	for (uint32_t w = 0; w < LAYOUT_MASK_WORDS; w++) {
		/* sync EVENT emitter: bits; pairs EVENT holder in bit_set() */
		uint64_t bits = shm_load_acquire(&mask[w]);

		if (except / 64 == w)
			bits &= ~(1ull << except % 64);
		n += (unsigned)__builtin_popcountll(bits);
	}
	return n;
}

/* All but the size. */
static void info_of(const struct ringbus_event *event, struct ringbus_event_info *info)
{
	const struct region *region = event->node->region;
	uint64_t word;

	/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
	word = shm_load_acquire(&event->entry->word);
	if (event_generation(word) != event->generation)
		return;
	info->exists = event_state(word) == EVENT_LIVE;
	info->mode = (enum ringbus_mode)event_mode(word);
	if (info->exists && info->mode == RINGBUS_SINGLE_EMISSION) {
		uint32_t slot = event_owner(word);

		info->owner.slot = slot;
		/* relaxed, both: stored before the word; pid for information */
		info->owner.generation =
			(uint32_t)shm_load_relaxed(&event->entry->owner_generation);
		if (slot < region->g.nodes)
			info->owner.pid = (uint32_t)shm_load_relaxed(&region->records[slot].pid);
	}
	info->subscribers = mask_count(event->entry->deliver, LAYOUT_NO_SLOT);
	info->members = mask_count(event->entry->members, LAYOUT_NO_SLOT);
	info->subscribed = event->subscribed;
}

int ringbus_event_info(struct ringbus_event *event, struct ringbus_event_info *info)
{
	int r = event && info ? node_enter(event->node) : -EINVAL;
	struct ringbus_event_info all = {0};

	if (r == 0)
		r = rb_size_check(info->size, sizeof(all));
	if (r < 0)
		return r;
	all.size = info->size;
	info_of(event, &all);
	memcpy(info, &all, all.size); /* an older caller's struct is shorter */
	return 0;
}

int ringbus_event_wait_subscribers(struct ringbus_event *event, unsigned count, uint64_t timeout_ns)
{
	uint64_t deadline = rb_deadline_ns(timeout_ns);
	struct timespec pause = {.tv_nsec = 20000};
	int r;

	/* Others subscribe by control operations, which are rare: looking a thousand times a second
	 * is enough. */
	for (;;) {
		r = event ? node_enter(event->node) : -EINVAL;
		if (r < 0)
			return r;
		/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
		if (event_generation(shm_load_acquire(&event->entry->word)) != event->generation)
			return rb_fail(-ENOENT, "event '%s' does not exist", event->id);
		if (mask_count(event->entry->deliver, event->node->slot) >= count)
			return 0;
		if (own_load(&event->node->interrupted))
			return -EINTR;
		if (rb_left_ns(deadline) == 0)
			return rb_fail(-ETIMEDOUT, "'%s' has fewer than %u subscriber%s", event->id,
				       count, count == 1 ? "" : "s");
		nanosleep(&pause, NULL);
		pause.tv_nsec = (long)rb_min((uint64_t)pause.tv_nsec * 2, RB_MS);
	}
}

int ringbus_subscriptions(struct ringbus_node *node, struct ringbus_event **events, size_t capacity)
{
	int r = node_enter(node);
	size_t n = 0;

	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	for (struct ringbus_event *e = node->all; e; e = e->next) {
		if (!e->subscribed)
			continue;
		if (n < capacity)
			events[n] = e;
		n++;
	}
	pthread_mutex_unlock(&node->events_lock);
	return (int)n;
}

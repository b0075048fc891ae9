/* event.c: handles, subscriptions and the dispatch table; with event_read.h the only liburcu
 * user. Level 4.
 *
 * The dispatching thread reads table[index] in batches (event_read.h); subscriptions are replaced
 * as a whole. Whoever takes one out waits until no batch has it before freeing it, so after
 * ringbus_unsubscribe() its handler does not run again; from within a handler, of whichever node,
 * it goes on a stack that is emptied after the next batch. An index is used again as soon as its
 * event has ended, and messages of that may still be unread: then the table has both, newest first,
 * and the generation tells them apart. So it is when a handle goes on to a new event of its name:
 * the subscription to the one before fades, until all is read that stood in the rings.
 *
 * events_lock guards handles and the table of names; the control lock, which may take long to get,
 * is taken before it, for whoever receives needs it too. It is never held while a batch is waited
 * for, since handlers may take it. Of liburcu's hash table only what needs no reader's section is
 * used: with the lock nobody else is in it.
 */
#include "event_read.h"

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

_Thread_local unsigned event_batches __attribute__((tls_model("initial-exec")));

/* The handlers that the forking thread was in are the parent's: the child never gets back to them,
 * for the rings are not mapped there. */
static void forget_batches(void)
{
	event_batches = 0;
}

static void forget_batches_in_children(void)
{
	pthread_atfork(NULL, NULL, forget_batches);
}

int event_init(struct ringbus_node *node)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, forget_batches_in_children);
	node->table = calloc(node->region->g.events, sizeof(*node->table));
	node->names = cds_lfht_new(NAME_BUCKETS, NAME_BUCKETS, NAME_BUCKETS, 0, NULL);
	return node->table && node->names ? 0 : -ENOMEM;
}

static struct cds_lfht_node *hash_node(struct ringbus_event *e)
{
	return (struct cds_lfht_node *)(void *)e->hash_node;
}

static void free_all(struct subscription *list)
{
	while (list) {
		struct subscription *s = list;

		list = s->next;
		free(s);
	}
}

/* No other thread uses the node any more. In a forked child nothing is waited for. */
void event_fini(struct ringbus_node *node)
{
	while (node->all) {
		struct ringbus_event *e = node->all;

		node->all = e->next;
		cds_lfht_del(node->names, hash_node(e));
		free(e->subscription);
		free_all(e->fading);
		free(e);
	}
	event_free_deferred(node);
	if (node->names && !region_forked(node->region))
		cds_lfht_destroy(node->names, NULL);
	free(node->table);
}

/* ---- what is taken out of the table ---- */

void event_free_deferred(struct ringbus_node *node)
{
	free_all((struct subscription *)(uintptr_t)own_swap(&node->deferred, 0));
}

static void defer(struct ringbus_node *node, struct subscription *s)
{
	uint64_t head;

	do {
		head = own_load(&node->deferred);
		s->next = (struct subscription *)(uintptr_t)head;
	} while (!own_cas(&node->deferred, head, (uint64_t)(uintptr_t)s));
}

/* Until no batch of the node has anything that was taken out before. Where membarrier() is denied
 * since the join nothing but time puts the fence into the reader: no processor keeps a store to
 * itself for as long as this. */
static void wait_for_reader(struct ringbus_node *node)
{
	const struct timespec long_enough = {.tv_nsec = 10 * RB_MS};
	struct timespec pause = {.tv_nsec = 10000};
	uint64_t seen;

	if (node->membarrier && !doorbell_membarrier())
		nanosleep(&long_enough, NULL);
	if (!node->membarrier)
		/* sync BATCH writer: out of the table before the look; pairs BATCH reader in
		 * event_read_begin() */
		shm_fence();
	/* sync BATCH writer: even, or another one: its last use is over; pairs BATCH reader in
	 * event_read_end() */
	seen = own_load(&node->reading);
	while ((seen & 1) && own_load(&node->reading) == seen) {
		nanosleep(&pause, NULL);
		pause.tv_nsec = (long)rb_min((uint64_t)pause.tv_nsec * 2, RB_MS);
	}
}

/* Frees what was taken out of the table. Caller holds no lock. */
static void retire(struct ringbus_node *node, struct subscription *list)
{
	if (!list)
		return;
	while (event_batches > 0 && list) {
		struct subscription *s = list;

		list = s->next;
		defer(node, s); /* a handler waits for no other */
	}
	if (list && !receive_is_ours(node))
		wait_for_reader(node);
	free_all(list);
}

static void take_out(struct ringbus_node *node, const struct subscription *s)
{
	for (struct subscription **at = &node->table[s->index]; *at; at = &(*at)->older) {
		if (*at == s) {
			rcu_assign_pointer(*at, s->older);
			return;
		}
	}
}

/* Puts s (or nothing) in the table for e; what was there goes on the list. Caller holds
 * events_lock. */
static void install(struct ringbus_event *e, struct subscription *s, struct subscription **old)
{
	struct subscription *was = e->subscription;

	e->subscription = s;
	if (s) {
		s->generation = e->generation;
		s->index = e->index;
		s->older = e->node->table[s->index];
		rcu_assign_pointer(e->node->table[s->index],
				   s); /* found before the one it replaces */
	}
	if (!was)
		return;
	take_out(e->node, was);
	was->next = *old;
	*old = was;
}

/* Takes all out that e has. */
static void remove_all(struct ringbus_event *e, struct subscription **old)
{
	install(e, NULL, old);
	while (e->fading) {
		struct subscription *s = e->fading;

		e->fading = s->next;
		take_out(e->node, s);
		s->next = *old;
		*old = s;
	}
}

bool event_faded(struct ringbus_event *e, bool *later)
{
	for (struct subscription **at = &e->fading; *at;) {
		struct subscription *s = *at;
		bool told = s->told;

		if (!rings_passed(e->node, &s->round)) {
			*later = true;
			at = &s->next;
			continue;
		}
		*at = s->next;
		take_out(e->node, s);
		free(s); /* we are the reader, and in no batch */
		if (!told)
			return true;
	}
	return false;
}

/* ---- handles ---- */

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

	cds_lfht_lookup(node->names, hash, name_match, &key, &iter);
	found = cds_lfht_iter_get_node(&iter);
	if (found)
		return rb_container_of(found, struct ringbus_event, hash_node);
	e = make ? calloc(1, sizeof(*e)) : NULL;
	if (!e)
		return NULL;
	e->node = node;
	e->id_bytes = bytes;
	e->index = UINT32_MAX;
	e->route.id = SEND_NO_ROUTE;
	memcpy(e->id, id, bytes);
	cds_lfht_node_init(hash_node(e));
	cds_lfht_add(node->names, hash, hash_node(e));
	e->next = node->all;
	node->all = e;
	return e;
}

/* Binds a handle to the entry that has its name now. A subscription to an earlier one fades; told:
 * its end needs no notice. Caller holds events_lock. */
static void bind(struct ringbus_event *e, const struct control_event *entry, bool told)
{
	struct subscription *s = e->subscription;

	if (e->generation != entry->generation || e->index != entry->index) {
		if (s) {
			s->told = told;
			s->next = e->fading;
			e->fading = s;
			e->subscription = NULL;
		}
		e->subscribed = e->created = false;
		event_bind_entry(e, entry->index, entry->generation);
	}
	for (s = e->fading; told && s; s = s->next)
		s->told = true;
	e->seen_word = entry->word;
	e->seen_changes = shm_load_relaxed(&e->entry->changes); /* relaxed: under the lock */
	e->due = false;
}

static struct subscription *new_subscription(struct ringbus_event *e, ringbus_handler handler,
					     void *user, bool deliver)
{
	struct subscription *s = calloc(1, sizeof(*s));

	if (s)
		*s = (struct subscription){.deliver = deliver,
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

/* Creates an event, with both locks. A MULTI event without a handler leaves a subscription from
 * before as it is. */
static int create(struct control *c, struct ringbus_event *e, const struct ringbus_event_options *o,
		  struct subscription *s, struct subscription **old, uint64_t *audience)
{
	struct ringbus_node *node = e->node;
	uint32_t mode = (uint32_t)o->mode;
	struct control_event entry;
	int r = control_event_create(c, e->id, e->id_bytes, node->slot, node->generation, mode,
				     false, o->lossy ? EVENT_FLAG_LOSSY : 0, &entry);

	if (r < 0)
		return r;
	audience_of(&entry, node, audience);
	bind(e, &entry, true);
	e->created = true;
	if (s || mode == RINGBUS_SINGLE_EMISSION)
		install(e, s, old); /* the handler before the mask bit */
	if (s)
		r = control_event_subscribe(c, &entry, node->slot, true, false);
	e->subscribed = e->subscription != NULL;
	e->deliver = e->subscription && e->subscription->deliver;
	return r;
}

/* The same with the control lock only. */
static int create_named(struct control *c, struct ringbus_node *node, const char *id, size_t bytes,
			const struct ringbus_event_options *o, struct ringbus_event **event,
			uint64_t *audience, struct subscription **old)
{
	bool receives = o->mode == RINGBUS_MULTI_EMISSION && (o->handler || o->receive);
	struct subscription *s = NULL;
	struct ringbus_event *e;
	int r = -ENOMEM;

	pthread_mutex_lock(&node->events_lock);
	e = handle(node, id, bytes, true);
	if (e && receives)
		s = new_subscription(e, o->handler, o->user, true);
	if (e && (s || !receives))
		r = create(c, e, o, s, old, audience);
	if (r < 0 && s && e->subscription != s)
		free(s);
	pthread_mutex_unlock(&node->events_lock);
	*event = e;
	return r;
}

int ringbus_event_create(struct ringbus_event **event, struct ringbus_node *node, const char *id,
			 const struct ringbus_event_options *options)
{
	struct subscription *old = NULL;
	struct ringbus_event_options o;
	uint64_t audience[LAYOUT_MASK_WORDS];
	char made[LAYOUT_NAME_BYTES];
	struct ringbus_event *e;
	struct control c;
	size_t bytes;
	int r;

	rb_fail_clear();
	r = node_enter(node);
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
	if (r == 0)
		r = control_lock(&c, node->region, node_control_deadline(node));
	if (r < 0)
		return r;
	r = create_named(&c, node, id, bytes, &o, &e, audience, &old);
	if (r == -EEXIST || r == -ENFILE) {
		/* its creator may be dead and not yet reaped */
		control_reap_all_held(&c);
		r = create_named(&c, node, id, bytes, &o, &e, audience, &old);
	}
	control_unlock(&c);
	retire(node, old);
	if (r < 0)
		return r;
	control_announce_to(node->region, audience);
	*event = e;
	return 0;
}

/* With both locks. */
static int subscribe(struct control *c, struct ringbus_event *e,
		     const struct ringbus_subscribe_options *o, struct subscription *s,
		     struct subscription **old)
{
	struct ringbus_node *node = e->node;
	struct control_event entry;
	bool created = e->created;
	int r = control_event_find(c, e->id, e->id_bytes, &entry);

	if (o->must_exist && (r < 0 || event_state(entry.word) != EVENT_LIVE))
		return rb_fail(-ENOENT, "event '%s' does not exist (and must_exist was asked for)",
			       e->id);
	if (r == 0 && event_state(entry.word) == EVENT_LIVE && event_mode(entry.word) == 0 &&
	    event_owner(entry.word) == node->slot)
		return rb_fail(-EINVAL,
			       "the creator of the SINGLE event '%s' cannot subscribe to it",
			       e->id);
	r = control_event_enter(c, e->id, e->id_bytes, node->slot, &entry);
	if (r < 0)
		return r;
	bind(e, &entry, true);
	e->created &= created;
	install(e, s, old); /* the handler before the mask bit */
	e->subscribed = true;
	e->deliver = !o->emit_only;
	return control_event_subscribe(c, &entry, node->slot, !o->emit_only, o->lossy);
}

int ringbus_subscribe(struct ringbus_event **event, struct ringbus_node *node, const char *id,
		      const struct ringbus_subscribe_options *options)
{
	struct subscription *s = NULL, *old = NULL;
	struct ringbus_subscribe_options o;
	struct ringbus_event *e;
	struct control c;
	size_t bytes = 0;
	int r;

	rb_fail_clear();
	r = node_enter(node);
	if (r == 0)
		r = rb_options_take(&o, sizeof(o), options);
	if (r == 0)
		r = name_check(id, &bytes);
	if (r == 0)
		r = control_lock(&c, node->region, node_control_deadline(node));
	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	e = handle(node, id, bytes, true);
	if (e)
		s = new_subscription(e, o.handler, o.user, !o.emit_only);
	r = s ? subscribe(&c, e, &o, s, &old) : -ENOMEM;
	if (r < 0 && s && e->subscription != s)
		free(s);
	pthread_mutex_unlock(&node->events_lock);
	control_unlock(&c);
	retire(node, old);
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
	uint64_t audience[LAYOUT_MASK_WORDS];
	struct subscription *old = NULL;
	struct control_event entry;
	struct control c;
	int r = control_lock(&c, node->region, node_control_deadline(node));

	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	entry = (struct control_event){.index = e->index, .generation = e->generation};
	audience_of(&entry, node, audience); /* before the masks are cleared */
	r = dissolve ? control_event_dissolve(&c, &entry, node->slot, node->generation)
		     : control_event_unsubscribe(&c, &entry, node->slot);
	if (r == 0 || (!dissolve && r == -ENOENT)) {
		remove_all(e, &old);
		e->subscribed = e->created = e->deliver = false;
	}
	pthread_mutex_unlock(&node->events_lock);
	control_unlock(&c);
	retire(node, old);
	if (r == 0)
		control_announce_to(node->region, audience);
	return r;
}

int ringbus_unsubscribe(struct ringbus_event *event)
{
	int r;
	bool single;

	rb_fail_clear();
	r = event ? node_enter(event->node) : -EINVAL;
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
	int r;

	rb_fail_clear();
	r = event ? node_enter(event->node) : -EINVAL;
	if (r < 0)
		return r;
	return leave_event(event, true);
}

void event_ended(struct ringbus_event *e)
{
	struct subscription *old = NULL;

	install(e, NULL, &old);
	e->subscribed = e->created = e->deliver = false;
	free_all(old); /* we are the reader, and in no batch */
}

int ringbus_event_find(struct ringbus_event **event, struct ringbus_node *node, const char *id)
{
	struct control_event entry;
	struct ringbus_event *e = NULL;
	struct control c;
	size_t bytes = 0;
	int r;

	rb_fail_clear();
	r = node_enter(node);
	if (r == 0)
		r = name_check(id, &bytes);
	if (r == 0)
		r = control_lock(&c, node->region, node_control_deadline(node));
	if (r < 0)
		return r;
	r = control_event_find(&c, id, bytes, &entry);
	if (r == 0) {
		pthread_mutex_lock(&node->events_lock);
		e = handle(node, id, bytes, true);
		if (e && (e->generation != entry.generation || e->index != entry.index))
			bind(e, &entry, false);
		pthread_mutex_unlock(&node->events_lock);
	}
	control_unlock(&c);
	if (r < 0)
		return r == -ENOENT ? rb_fail(r, "no event '%s'", id) : r;
	if (!e)
		return -ENOMEM;
	*event = e;
	return 0;
}

/* control_event.c: the event table, under the control lock. Level 3.
 *
 * An entry's word carries generation, owner, mode and state in one store; masks and name are stored
 * before it becomes LIVE. The generation changes when the entry is freed, so emission, which takes
 * no lock, can never mistake one use of the entry for another: word first, then masks, then records
 * that carry the generation. A takeover of an orphan keeps it. Kill points: each operation first
 * states its event in the intent record; whoever comes next settles that entry: X_EVENT_NAMED (name
 * and hash without a state: freed again), X_EVENT_WORD (LIVE, the creator's own bits missing: it is
 * dead, and its reaper orphans or frees the entry), X_EVENT_BITS, X_EVENT_FREED (masks of a FREE
 * entry: cleared).
 */
#include "control_private.h"
#include "error.h"

/* All loads and stores of the table in this file are relaxed: "under the lock" is the kernel's
 * hand-over from holder to holder; what emitters see is ordered by the release store of the word
 * and the RMW of the masks (EVENT). */
static uint64_t get(const struct shm_word *w)
{
	return shm_load_relaxed(w); /* relaxed: under the lock */
}

static void set(struct shm_word *w, uint64_t v)
{
	shm_store_relaxed(w, v); /* relaxed: under the lock; published by the word (EVENT) */
}

static void publish_word(struct layout_event *e, uint64_t word)
{
	/* sync EVENT holder: name, flags, masks before the word; pairs EVENT emitter in
	 * send_event_current() */
	shm_store_release(&e->word, word);
}

static bool mask_empty(const struct shm_word *mask)
{
	uint64_t any = 0;

	for (unsigned w = 0; w < LAYOUT_MASK_WORDS; w++)
		any |= get(&mask[w]);
	return any == 0;
}

static void mask_clear(struct shm_word *mask)
{
	for (unsigned w = 0; w < LAYOUT_MASK_WORDS; w++)
		set(&mask[w], 0);
}

static void bit_set(struct shm_word *mask, uint32_t slot)
{
	/* sync EVENT holder: handler installed before the bit; pairs EVENT emitter in
	 * pass_event() */
	shm_store_release(&mask[slot / 64], get(&mask[slot / 64]) | 1ull << slot % 64);
}

static void bit_clear(struct shm_word *mask, uint32_t slot)
{
	set(&mask[slot / 64], get(&mask[slot / 64]) & ~(1ull << slot % 64));
}

static void free_entry(struct control *c, uint32_t index)
{
	struct layout_event *e = &c->events[index];
	uint64_t word = get(&e->word);
	uint32_t generation = event_generation(word);

	if (event_state(word) != EVENT_FREE)
		publish_word(e, event_word(generation + 1, LAYOUT_NO_SLOT, 0, EVENT_FREE));
	KILL_POINT("X_EVENT_FREED");
	mask_clear(e->deliver);
	mask_clear(e->members);
	mask_clear(e->lossy);
	set(&e->flags, 0);
	set(&e->name_bytes, 0);
	set(&c->hashes[index], 0);
}

void control_event_settle(struct control *c, uint32_t index)
{
	struct layout_event *e = &c->events[index];
	uint64_t word = get(&e->word);
	bool nobody = mask_empty(e->deliver) && mask_empty(e->members);

	switch (event_state(word)) {
	case EVENT_LIVE:
		if (event_mode(word) == 1 ? nobody : event_owner(word) >= c->region->g.nodes)
			free_entry(c, index);
		return;
	case EVENT_PENDING:
	case EVENT_ORPHAN:
		if (nobody)
			free_entry(c, index);
		return;
	case EVENT_FREE:
	default:
		free_entry(c, index);
	}
}

void control_event_forget_slot(struct control *c, uint32_t slot)
{
	for (uint32_t i = 0; i < c->region->g.events; i++) {
		struct layout_event *e = &c->events[i];
		uint64_t word = get(&e->word);

		if (get(&c->hashes[i]) == 0 && event_state(word) == EVENT_FREE)
			continue;
		control_intend(c, CONTROL_EVENT, slot, i);
		bit_clear(e->deliver, slot);
		bit_clear(e->members, slot);
		bit_clear(e->lossy, slot);
		KILL_POINT("X_EVENT_BITS");
		if (event_state(word) == EVENT_LIVE && event_mode(word) == 0 &&
		    event_owner(word) == slot)
			publish_word(e, event_word(event_generation(word), LAYOUT_NO_SLOT, 0,
						   EVENT_ORPHAN));
		control_event_settle(c, i);
		control_intend(c, CONTROL_NONE, 0, 0);
	}
}

static void describe(const struct control *c, uint32_t index, struct control_event *out)
{
	out->index = index;
	out->word = get(&c->events[index].word);
	out->generation = event_generation(out->word);
}

int control_event_find(const struct control *c, const char *id, size_t id_bytes,
		       struct control_event *out)
{
	uint64_t hash = layout_name_hash(id, id_bytes);
	char name[LAYOUT_NAME_BYTES];

	for (uint32_t i = 0; i < c->region->g.events; i++) {
		const struct layout_event *e = &c->events[i];

		if (get(&c->hashes[i]) != hash || event_state(get(&e->word)) == EVENT_FREE)
			continue;
		if (layout_name_load(e->name, get(&e->name_bytes), name) != id_bytes ||
		    memcmp(name, id, id_bytes) != 0)
			continue;
		describe(c, i, out);
		return 0;
	}
	return -ENOENT;
}

/* A free entry with the name filled in, still FREE; the intent names it. */
static int new_entry(struct control *c, const char *id, size_t id_bytes, uint32_t slot,
		     uint32_t *index)
{
	for (uint32_t i = 0; i < c->region->g.events; i++) {
		struct layout_event *e = &c->events[i];

		if (get(&c->hashes[i]) != 0 || event_state(get(&e->word)) != EVENT_FREE)
			continue;
		control_intend(c, CONTROL_EVENT, slot, i);
		layout_name_store(e->name, id, id_bytes);
		set(&e->name_bytes, id_bytes);
		set(&e->flags, 0);
		set(&c->hashes[i], layout_name_hash(id, id_bytes));
		KILL_POINT("X_EVENT_NAMED");
		*index = i;
		return 0;
	}
	return rb_fail(-ENFILE,
		       "all %u events of the bus on port %u are taken; start the service with more "
		       "--events",
		       c->region->g.events, c->region->port);
}

/* Generation of a FREE entry that is about to be used; never 0. */
static uint32_t fresh_generation(const struct layout_event *e)
{
	uint32_t generation = event_generation(get(&e->word));

	return generation ? generation : 1;
}

int control_event_create(struct control *c, const char *id, size_t id_bytes, uint32_t slot,
			 uint32_t generation, uint32_t mode, bool receive, uint32_t flags,
			 struct control_event *out)
{
	struct layout_event *e;
	uint32_t index;
	int r = control_event_find(c, id, id_bytes, out);

	if (r == 0 && event_state(out->word) == EVENT_LIVE)
		return rb_fail(-EEXIST, "event '%.*s' exists and its %s", (int)id_bytes, id,
			       event_mode(out->word) ? "members are alive; subscribe to join them"
						     : "creator is alive");
	if (r == 0) {
		index = out->index;
		control_intend(c, CONTROL_EVENT, slot, index);
	} else {
		r = new_entry(c, id, id_bytes, slot, &index);
		if (r < 0)
			return r;
	}
	e = &c->events[index];
	set(&e->owner_generation, generation);
	set(&e->flags, flags);
	set(&e->changes, get(&e->changes) + 1);
	if (mode == 1) {
		for (unsigned w = 0; w < LAYOUT_MASK_WORDS; w++)
			set(&e->members[w], get(&e->deliver[w]) | get(&e->members[w]));
		bit_set(e->members, slot);
		if (receive)
			bit_set(e->deliver, slot);
	} else {
		bit_clear(e->deliver, slot);
		bit_clear(e->lossy, slot);
		bit_clear(e->members, slot);
	}
	publish_word(e, event_word(fresh_generation(e), mode == 1 ? LAYOUT_NO_SLOT : slot, mode,
				   EVENT_LIVE));
	KILL_POINT("X_EVENT_WORD");
	control_intend(c, CONTROL_NONE, 0, 0);
	describe(c, index, out);
	return 0;
}

int control_event_enter(struct control *c, const char *id, size_t id_bytes, uint32_t slot,
			struct control_event *out)
{
	uint32_t index;
	int r = control_event_find(c, id, id_bytes, out);

	if (r == 0)
		return 0;
	r = new_entry(c, id, id_bytes, slot, &index);
	if (r < 0)
		return r;
	publish_word(&c->events[index], event_word(fresh_generation(&c->events[index]),
						   LAYOUT_NO_SLOT, 0, EVENT_PENDING));
	describe(c, index, out);
	return 0;
}

int control_event_subscribe(struct control *c, const struct control_event *e, uint32_t slot,
			    bool deliver, bool lossy)
{
	struct layout_event *entry = &c->events[e->index];
	uint64_t word = get(&entry->word);

	if (event_state(word) == EVENT_LIVE && event_mode(word) == 0 && event_owner(word) == slot)
		return rb_fail(-EINVAL, "the creator of a SINGLE event cannot subscribe to it");
	control_intend(c, CONTROL_EVENT, slot, e->index);
	if (lossy)
		bit_set(entry->lossy, slot);
	else
		bit_clear(entry->lossy, slot);
	if (deliver)
		bit_set(entry->deliver, slot);
	else
		bit_clear(entry->deliver, slot);
	KILL_POINT("X_EVENT_BITS");
	if (!deliver || (event_state(word) == EVENT_LIVE && event_mode(word) == 1))
		bit_set(entry->members, slot);
	control_intend(c, CONTROL_NONE, 0, 0);
	return 0;
}

int control_event_unsubscribe(struct control *c, const struct control_event *e, uint32_t slot)
{
	struct layout_event *entry = &c->events[e->index];
	uint64_t word = get(&entry->word);

	if (event_generation(word) != e->generation || event_state(word) == EVENT_FREE)
		return -ENOENT;
	control_intend(c, CONTROL_EVENT, slot, e->index);
	bit_clear(entry->deliver, slot);
	bit_clear(entry->members, slot);
	bit_clear(entry->lossy, slot);
	KILL_POINT("X_EVENT_BITS");
	control_event_settle(c, e->index);
	control_intend(c, CONTROL_NONE, 0, 0);
	return 0;
}

int control_event_dissolve(struct control *c, const struct control_event *e, uint32_t slot,
			   uint32_t generation)
{
	struct layout_event *entry = &c->events[e->index];
	uint64_t word = get(&entry->word);

	if (event_generation(word) != e->generation || event_state(word) == EVENT_FREE)
		return rb_fail(-ENOENT, "the event does not exist any more");
	if (event_state(word) != EVENT_LIVE || event_mode(word) != 0)
		return rb_fail(-EPERM, "only SINGLE events can be dissolved; a MULTI event ends "
				       "with its last member");
	if (event_owner(word) != slot || get(&entry->owner_generation) != generation)
		return rb_fail(-EPERM, "only its creator can dissolve an event");
	control_intend(c, CONTROL_EVENT, slot, e->index);
	free_entry(c, e->index);
	control_intend(c, CONTROL_NONE, 0, 0);
	return 0;
}

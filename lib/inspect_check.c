/* inspect_check.c: the fsck: findings, header, slots, events. Level 5, stands on 0 to 2.
 *
 * A pass collects findings; their texts hold nothing but what identifies them. A bus at rest gets
 * one pass. On a live bus a word may change between two reads, so there three passes are made, and
 * a finding counts if each has it.
 */
#include "inspect.h"

#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FINDINGS_MAX 1000u
#define PASSES 3
#define PASS_GAP_NS (10 * RB_MS)
#define EVENTS_BLOCK 64u
#define EVENTS_TRIES 5

void inspect_report(struct inspect_check *c, enum ringbus_inspect_severity severity,
		    const char *code, const char *format, ...)
{
	struct finding *f;
	va_list args;

	/* The last place is kept for saying that there are more. */
	if (c->count >= FINDINGS_MAX)
		return;
	f = &c->findings[c->count++];
	f->severity = severity;
	f->code = code;
	f->standing = false;
	if (c->count == FINDINGS_MAX) {
		f->severity = RINGBUS_INSPECT_ERROR;
		f->code = "too-many";
		snprintf(f->text, sizeof(f->text), "too many findings; the rest is not shown");
		return;
	}
	va_start(args, format);
	vsnprintf(f->text, sizeof(f->text), format, args);
	va_end(args);
}

#define error(c, ...) inspect_report(c, RINGBUS_INSPECT_ERROR, __VA_ARGS__)
#define EVENT_AT "event %u (generation %u): "
#define warning(c, ...) inspect_report(c, RINGBUS_INSPECT_WARNING, __VA_ARGS__)

/* ---- header and control ---- */

static void check_header(struct inspect_check *c)
{
	const struct ringbus_inspect *in = c->in;
	const struct layout_header *h = &in->header;
	static const uint8_t none[16];

	if (in->why)
		error(c, "header", "%s", in->why);
	if (!in->usable)
		return;
	if (h->port < 1 || h->port > 65535)
		error(c, "header", "port %u is out of range", h->port);
	if (memcmp(h->uuid, none, sizeof(none)) == 0)
		error(c, "header", "its uuid is 0");
	if (in->file_bytes < in->g.fixed_bytes)
		error(c, "file-size", "the file has %llu bytes, its fixed part %llu",
		      (unsigned long long)in->file_bytes, (unsigned long long)in->g.fixed_bytes);
}

static void check_control(struct inspect_check *c)
{
	static const char *const names[] = {"none", "event", "free slot", "grant", "extent"};
	struct layout_control control;
	uint64_t intent, op;

	inspect_read(c->in, c->in->g.control_offset, &control, sizeof(control));
	intent = inspect_word(&control.intent);
	op = intent >> 56;
	if (op >= rb_array_size(names))
		error(c, "intent", "control operation %u is unknown", (unsigned)op);
	else if (op != CONTROL_NONE)
		inspect_report(
			c, c->live ? RINGBUS_INSPECT_WARNING : RINGBUS_INSPECT_ERROR, "intent",
			"a control operation (%s, slot %u, event %u, pid %llu) is not completed; "
			"the next "
			"holder of the control lock will do so",
			names[op], (unsigned)(intent >> 32 & 0xffff), (unsigned)(uint32_t)intent,
			(unsigned long long)inspect_word(&control.intent_pid));
	else if (intent)
		error(c, "intent", "no control operation, but its operands are not 0");
	if (inspect_word(&control.closing) > 1)
		error(c, "closing", "the closing word is neither 0 nor 1");
}

/* ---- slots ---- */

static bool occupied(uint64_t word)
{
	return (word & 0xff) >= SLOT_GRANTED && (word & 0xff) <= SLOT_DEAD;
}

static void check_slot_name(struct inspect_check *c, uint32_t slot,
			    const struct layout_record *record)
{
	uint64_t bytes = inspect_word(&record->name_bytes);
	char name[LAYOUT_NAME_BYTES], other_name[LAYOUT_NAME_BYTES];
	struct layout_record other;

	if (bytes == 0)
		return;
	layout_name_load(record->name, bytes, name);
	if (bytes >= LAYOUT_NAME_BYTES || !layout_name_valid(name, (size_t)bytes)) {
		error(c, "slot-name", "slot %u: its node's name is not valid", slot);
		return;
	}
	for (uint32_t i = 0; i < slot; i++) {
		if ((c->slots[i] & 0xff) != SLOT_LIVE || (c->slots[slot] & 0xff) != SLOT_LIVE)
			continue;
		inspect_read_record(c->in, i, &other);
		layout_name_load(other.name, inspect_word(&other.name_bytes), other_name);
		if (inspect_word(&other.name_bytes) == bytes && strcmp(name, other_name) == 0)
			error(c, "slot-name", "slots %u and %u have the same node name", i, slot);
	}
}

static void check_bell(struct inspect_check *c, uint32_t slot, uint64_t word)
{
	struct layout_bell bell;
	uint64_t paired[LAYOUT_MASK_WORDS];
	uint32_t generation;

	inspect_read_bell(c->in, slot, &bell);
	inspect_mask(paired, bell.paired);
	for (uint32_t i = c->in->g.nodes; i < LAYOUT_NODES_MAX; i++)
		if (inspect_bit(paired, i))
			error(c, "paired", "slot %u: paired with slot %u, which does not exist",
			      slot, i);
	generation = (uint32_t)(inspect_word(&bell.signal) >> 32);
	if ((word & 0xff) == SLOT_LIVE && generation != slot_generation(word))
		error(c, "signal", "slot %u: its signal word has generation %u instead of %u", slot,
		      generation, slot_generation(word));
}

static void check_slot(struct inspect_check *c, uint32_t slot, bool this_boot)
{
	uint64_t word = c->slots[slot];
	unsigned state = word & 0xff;
	struct layout_record record;

	if (state > SLOT_DEAD) {
		error(c, "slot-state", "slot %u: state %u is unknown", slot, state);
		return;
	}
	check_bell(c, slot, word);
	if (!occupied(word))
		return;
	if (slot_generation(word) == 0)
		error(c, "slot-generation", "slot %u: %s, but its generation is 0", slot,
		      ringbus_inspect_slot_state(state));
	if (state == SLOT_LEFT || state == SLOT_DEAD)
		warning(c, "slot-unreaped", "slot %u (generation %u): %s, not yet reaped", slot,
			slot_generation(word), ringbus_inspect_slot_state(state));
	inspect_read_record(c->in, slot, &record);
	if ((inspect_word(&record.pid) & 0xffffff) != slot_pid(word))
		warning(c, "slot-record", "slot %u: recorded pid %u, slot word has %u", slot,
			(unsigned)inspect_word(&record.pid), slot_pid(word));
	else if (this_boot && state <= SLOT_LEAVING &&
		 inspect_process(&record, word) == RINGBUS_INSPECT_GONE)
		warning(c, "slot-gone", "slot %u: %s, but process %u is gone; not yet reaped", slot,
			ringbus_inspect_slot_state(state), slot_pid(word));
	check_slot_name(c, slot, &record);
}

static void check_slots(struct inspect_check *c)
{
	bool this_boot = inspect_this_boot(c->in);

	for (uint32_t slot = 0; slot < c->in->g.nodes; slot++)
		c->slots[slot] = inspect_slot_word(c->in, slot);
	for (uint32_t slot = 0; slot < c->in->g.nodes; slot++)
		check_slot(c, slot, this_boot);
}

/* ---- events ---- */

struct event_name {
	uint64_t hash;
	uint32_t index;
};

static void check_mask(struct inspect_check *c, const char *which, const uint64_t *mask)
{
	for (uint32_t slot = 0; slot < LAYOUT_NODES_MAX; slot++) {
		unsigned state;

		if (!inspect_bit(mask, slot))
			continue;
		if (slot >= c->in->g.nodes) {
			error(c, "event-mask", EVENT_AT "%s names slot %u, which does not exist",
			      c->event, c->event_generation, which, slot);
			continue;
		}
		state = c->slots[slot] & 0xff;
		if (state == SLOT_DEAD || state == SLOT_LEFT || state == SLOT_LEAVING)
			warning(c, "event-mask",
				EVENT_AT
				"%s names slot %u (generation %u), which is %s and not yet reaped",
				c->event, c->event_generation, which, slot,
				slot_generation(c->slots[slot]), ringbus_inspect_slot_state(state));
		else if (state != SLOT_JOINING && state != SLOT_LIVE)
			error(c, "event-mask",
			      EVENT_AT "%s names slot %u (generation %u), which is %s", c->event,
			      c->event_generation, which, slot, slot_generation(c->slots[slot]),
			      ringbus_inspect_slot_state(state));
	}
}

static void check_owner(struct inspect_check *c, uint64_t word, const struct layout_event *e)
{
	uint32_t owner = event_owner(word);
	uint32_t generation = (uint32_t)inspect_word(&e->owner_generation);
	unsigned state;

	if (owner >= c->in->g.nodes) {
		error(c, "event-owner", EVENT_AT "owner slot %u does not exist", c->event,
		      c->event_generation, owner);
		return;
	}
	state = c->slots[owner] & 0xff;
	if (state == SLOT_FREE || slot_generation(c->slots[owner]) != generation)
		error(c, "event-owner",
		      EVENT_AT "its owner (slot %u, generation %u) is not on the bus", c->event,
		      c->event_generation, owner, generation);
	else if (state == SLOT_DEAD || state == SLOT_LEFT || state == SLOT_LEAVING)
		warning(c, "event-owner", EVENT_AT "its owner, slot %u, is %s and not yet reaped",
			c->event, c->event_generation, owner, ringbus_inspect_slot_state(state));
}

static void check_event_state(struct inspect_check *c, const struct layout_event *e)
{
	uint64_t word = inspect_word(&e->word);
	uint64_t members[LAYOUT_MASK_WORDS], deliver[LAYOUT_MASK_WORDS], lossy[LAYOUT_MASK_WORDS];
	unsigned state = word & 0xff;
	bool empty;

	inspect_mask(members, e->members);
	inspect_mask(deliver, e->deliver);
	inspect_mask(lossy, e->lossy);
	check_mask(c, "members", members);
	check_mask(c, "deliver", deliver);
	for (unsigned i = 0; i < LAYOUT_MASK_WORDS; i++)
		lossy[i] &= ~deliver[i];
	if (!inspect_mask_empty(lossy))
		warning(c, "event-mask", EVENT_AT "lossy names slots that get nothing", c->event,
			c->event_generation);
	if (event_mode(word) > 1)
		error(c, "event-mode", EVENT_AT "emission mode %u is unknown", c->event,
		      c->event_generation, event_mode(word));
	empty = inspect_mask_empty(members);
	if (state == EVENT_LIVE && event_mode(word) == 0)
		check_owner(c, word, e);
	else if (state == EVENT_LIVE && empty)
		error(c, "event-members", EVENT_AT "live and MULTI, but without members", c->event,
		      c->event_generation);
	else if (state != EVENT_LIVE && empty && inspect_mask_empty(deliver))
		error(c, "event-members", EVENT_AT "%s, but nobody subscribes to it", c->event,
		      c->event_generation, ringbus_inspect_event_state(state));
}

static void check_free_event(struct inspect_check *c, uint64_t hash, const struct layout_event *e)
{
	if (hash != 0)
		error(c, "event-hash", EVENT_AT "free, but the hash table has it", c->event,
		      c->event_generation);
	for (unsigned i = 0; i < LAYOUT_MASK_WORDS; i++) {
		if (inspect_word(&e->members[i]) | inspect_word(&e->deliver[i]) |
		    inspect_word(&e->lossy[i])) {
			error(c, "event-mask", EVENT_AT "free, but its masks name slots", c->event,
			      c->event_generation);
			return;
		}
	}
}

/* Returns the hash of its name, 0 when free or not valid. */
static uint64_t check_event(struct inspect_check *c, uint32_t index, uint64_t hash,
			    const struct layout_event *e)
{
	uint64_t bytes = inspect_word(&e->name_bytes);
	unsigned state = inspect_word(&e->word) & 0xff;
	char name[LAYOUT_NAME_BYTES];
	uint64_t expected;

	c->event = index;
	c->event_generation = event_generation(inspect_word(&e->word));
	if (state == EVENT_FREE) {
		check_free_event(c, hash, e);
		return 0;
	}
	if (state > EVENT_ORPHAN) {
		error(c, "event-state", EVENT_AT "state %u is unknown", c->event,
		      c->event_generation, state);
		return 0;
	}
	check_event_state(c, e);
	layout_name_load(e->name, bytes, name);
	if (bytes >= LAYOUT_NAME_BYTES || !layout_name_valid(name, (size_t)bytes)) {
		error(c, "event-name", EVENT_AT "its name is not valid", c->event,
		      c->event_generation);
		return 0;
	}
	expected = layout_name_hash(name, (size_t)bytes);
	if (hash != expected)
		error(c, "event-hash", EVENT_AT "the hash table does not match its name", c->event,
		      c->event_generation);
	return expected;
}

static int name_compare(const void *a, const void *b)
{
	const struct event_name *x = a, *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

/* A hash of 64 bits that stands twice is taken for the same name. */
static void check_names_unique(struct inspect_check *c, struct event_name *names, size_t count)
{
	qsort(names, count, sizeof(*names), name_compare);
	for (size_t i = 1; i < count; i++)
		if (names[i].hash == names[i - 1].hash)
			error(c, "event-name", "events %u and %u have the same name",
			      names[i - 1].index, names[i].index);
}

struct event_block {
	uint64_t hashes[EVENTS_BLOCK];
	struct layout_event events[EVENTS_BLOCK];
};

static void read_events(const struct ringbus_inspect *in, uint32_t first, uint32_t n,
			struct event_block *block)
{
	uint64_t base = in->g.control_offset;

	inspect_read(in, base + in->g.hashes_offset + first * 8ull, block->hashes,
		     n * sizeof(*block->hashes));
	inspect_read(in, base + in->g.events_offset + first * sizeof(*block->events), block->events,
		     n * sizeof(*block->events));
}

/* Reads again what a control operation changes meanwhile. */
static void read_events_stable(const struct inspect_check *c, uint32_t first, uint32_t n,
			       struct event_block block[2])
{
	memset(block, 0, 2 * sizeof(*block));
	read_events(c->in, first, n, &block[0]);
	for (int i = 0; i < EVENTS_TRIES && c->live; i++) {
		read_events(c->in, first, n, &block[1]);
		if (memcmp(&block[0], &block[1], sizeof(*block)) == 0)
			return;
		memcpy(&block[0], &block[1], sizeof(*block));
	}
}

static int check_events(struct inspect_check *c)
{
	const struct ringbus_inspect *in = c->in;
	struct event_name *names = malloc(in->g.events * sizeof(*names));
	struct event_block *block = aligned_alloc(RB_LINE, 2 * sizeof(*block));
	size_t count = 0;

	if (!names || !block) {
		free(names);
		free(block);
		return rb_fail(-ENOMEM, "no memory to check the events");
	}
	for (uint32_t first = 0; first < in->g.events; first += EVENTS_BLOCK) {
		uint32_t n = (uint32_t)rb_min(EVENTS_BLOCK, in->g.events - first);

		read_events_stable(c, first, n, block);
		for (uint32_t i = 0; i < n; i++) {
			uint64_t hash =
				check_event(c, first + i, block->hashes[i], &block->events[i]);

			if (hash)
				names[count++] =
					(struct event_name){.hash = hash, .index = first + i};
		}
	}
	check_names_unique(c, names, count);
	free(names);
	free(block);
	return 0;
}

/* ---- passes ---- */

static int check_pass(struct inspect_check *c)
{
	int r;

	c->count = 0;
	inspect_refresh(c->in);
	check_header(c);
	if (!c->in->usable)
		return 0;
	inspect_budget_start(c->in);
	check_control(c);
	check_slots(c);
	r = check_events(c);
	if (r < 0)
		return r;
	return inspect_check_extents(c);
}

/* Keeps of the first pass what the second has too. */
static void intersect(struct inspect_check *c, const struct inspect_check *again)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->count; i++) {
		const struct finding *f = &c->findings[i];
		bool stands = false;

		for (size_t k = 0; k < again->count && !stands; k++) {
			struct finding *g = &again->findings[k];

			stands = !g->standing && f->severity == g->severity &&
				 strcmp(f->code, g->code) == 0 && strcmp(f->text, g->text) == 0;
			g->standing = stands;
		}
		if (stands)
			c->findings[kept++] = *f;
	}
	c->count = kept;
}

static int check_passes(struct inspect_check *c, struct inspect_check *again)
{
	const struct timespec gap = {.tv_nsec = PASS_GAP_NS};
	int r = check_pass(c);

	for (int i = 1; i < PASSES && r == 0 && c->live && c->count; i++) {
		nanosleep(&gap, NULL);
		r = check_pass(again);
		if (r == 0)
			intersect(c, again);
	}
	return r;
}

int ringbus_inspect_check(struct ringbus_inspect *in, ringbus_inspect_handler fn, void *user)
{
	struct inspect_check *c = calloc(2, sizeof(*c));
	struct finding *findings = calloc(2, FINDINGS_MAX * sizeof(*findings));
	int r;

	rb_fail_clear();
	if (!c || !findings) {
		free(c);
		free(findings);
		return rb_fail(-ENOMEM, "no memory for findings");
	}
	inspect_refresh(in);
	for (int i = 0; i < 2; i++) {
		c[i].in = in;
		c[i].live = inspect_live(in);
		c[i].findings = findings + i * FINDINGS_MAX;
	}
	r = check_passes(&c[0], &c[1]);
	for (size_t i = 0; r >= 0 && i < c[0].count; i++) {
		const struct finding *f = &c[0].findings[i];
		struct ringbus_inspect_finding out = {.severity = f->severity,
						      .code = f->code,
						      .text = f->text};

		r += f->severity == RINGBUS_INSPECT_ERROR;
		if (fn)
			fn(&out, user);
	}
	free(findings);
	free(c);
	return r;
}

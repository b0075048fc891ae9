/* explore_memory.c: the memory that the explored processes see; see explore.h. */
#include "explore_memory.h"

#include <stdlib.h>

#define WORDS (EX_SHARED_BYTES / 8)
#define MOST_CELLS 1024u   /* words touched in one schedule */
#define MOST_VALUES 16384u /* stores of one schedule */
#define MOST_BUFFERED 128u
#define MOST_MARKS 64u
#define MOST_STALE 4u /* values that a load may choose from */

_Alignas(4096) uint8_t ex_shared[EX_SHARED_BYTES];
static _Alignas(4096) uint8_t image[EX_SHARED_BYTES];

enum { QUIET = 1, DATA = 2 };
static uint8_t flags[WORDS];
static uint16_t cell_of[WORDS]; /* 0: not touched in this schedule, or 1 + index */

struct mark {
	size_t first, words;
};
static struct mark marks[MOST_MARKS];
static unsigned marks_used;

/* How far a process has seen each word, and each other process. */
struct view {
	unsigned cells; /* those beyond are 0 */
	uint16_t clock[EX_PROCESSES];
	uint8_t at[MOST_CELLS];
};

/* One value of a word, in the order of its stores. */
struct value {
	uint64_t v;
	uint32_t older; /* 0: none */
	uint8_t at;
	struct view view;
};

struct cell {
	struct shm_word *word;
	uint32_t newest;
	uint16_t reads[EX_PROCESSES]; /* clock of the last plain read */
	uint16_t written;	      /* clock of the last store's process */
	uint8_t writer;		      /* EX_NOBODY: nobody yet */
};

struct seen {
	struct view now;     /* what loads must respect */
	struct view fenced;  /* now, at the last fence: goes with relaxed stores */
	struct view pending; /* what relaxed loads have met: counts from the next fence on */
};

static struct cell cells[MOST_CELLS];
static unsigned cells_used;
static struct value *values;
static unsigned values_used;
static struct seen seen[EX_PROCESSES];
static struct view all_fences;
static struct view handed_over;

struct buffered {
	struct shm_word *word;
	uint64_t v;
};
static struct buffered buffers[EX_PROCESSES][MOST_BUFFERED];
static unsigned buffered[EX_PROCESSES];

/* ---- start and end ---- */

bool ex_is_shared(const volatile void *at)
{
	return (uintptr_t)at - (uintptr_t)ex_shared < EX_SHARED_BYTES;
}

static size_t index_of(const volatile void *at)
{
	return ((uintptr_t)at - (uintptr_t)ex_shared) / 8;
}

static void mark(const volatile void *at, size_t bytes, uint8_t flag)
{
	for (size_t i = 0; i < bytes / 8; i++)
		flags[index_of(at) + i] |= flag;
	if (ex.self == EX_NOBODY)
		return;
	if (marks_used == MOST_MARKS)
		ex_fail("too many marks");
	marks[marks_used++] = (struct mark){index_of(at), bytes / 8};
}

/* What was marked in the last schedule. */
static void forget_marks(void)
{
	for (unsigned i = 0; i < marks_used; i++)
		memset(flags + marks[i].first, 0, marks[i].words);
	marks_used = 0;
}

void ex_quiet(const volatile void *at, size_t bytes)
{
	mark(at, bytes, QUIET);
}

void ex_data(const volatile void *at, size_t bytes)
{
	mark(at, bytes, DATA);
}

static void forget_cells(void)
{
	for (unsigned i = 0; i < cells_used; i++)
		cell_of[index_of(cells[i].word)] = 0;
	cells_used = 0;
}

void ex_memory_prepare(void)
{
	forget_cells();
	marks_used = 0;
	memset(flags, 0, sizeof(flags));
	memset(ex_shared, 0, sizeof(ex_shared));
	if (!values)
		values = calloc(MOST_VALUES, sizeof(*values));
	if (!values)
		abort();
}

void ex_memory_keep(void)
{
	memcpy(image, ex_shared, sizeof(image));
}

static void view_clear(struct view *v)
{
	v->cells = 0;
	memset(v->clock, 0, sizeof(v->clock));
}

void ex_memory_begin(void)
{
	for (unsigned i = 0; i < cells_used; i++)
		memcpy(cells[i].word, image + index_of(cells[i].word) * 8, 8);
	forget_cells();
	forget_marks();
	values_used = 1;
	for (unsigned p = 0; p < EX_PROCESSES; p++) {
		view_clear(&seen[p].now);
		view_clear(&seen[p].fenced);
		view_clear(&seen[p].pending);
		buffered[p] = 0;
	}
	view_clear(&all_fences);
	view_clear(&handed_over);
}

/* ---- views ---- */

static uint8_t view_at(const struct view *v, unsigned cell)
{
	return cell < v->cells ? v->at[cell] : 0;
}

static void view_grow(struct view *v, unsigned n)
{
	if (v->cells < n) {
		memset(v->at + v->cells, 0, n - v->cells);
		v->cells = n;
	}
}

static void view_set(struct view *v, unsigned cell, uint8_t at)
{
	view_grow(v, cell + 1);
	v->at[cell] = at;
}

static void view_join(struct view *v, const struct view *other)
{
	view_grow(v, other->cells);
	for (unsigned i = 0; i < other->cells; i++)
		v->at[i] = v->at[i] > other->at[i] ? v->at[i] : other->at[i];
	for (unsigned p = 0; p < EX_PROCESSES; p++)
		v->clock[p] = v->clock[p] > other->clock[p] ? v->clock[p] : other->clock[p];
}

static void view_copy(struct view *to, const struct view *from)
{
	to->cells = from->cells;
	memcpy(to->clock, from->clock, sizeof(to->clock));
	memcpy(to->at, from->at, from->cells);
}

void ex_join(unsigned process)
{
	if (ex.model == EX_WEAK)
		view_join(&seen[ex.self].now, &seen[process].now);
}

/* ---- cells ---- */

static unsigned cell_index(const struct shm_word *w)
{
	size_t i = index_of(w);
	struct cell *c;

	if (cell_of[i])
		return cell_of[i] - 1u;
	if (cells_used == MOST_CELLS)
		ex_fail("more than %u words touched", MOST_CELLS);
	c = &cells[cells_used];
	*c = (struct cell){.word = (void *)(ex_shared + i * 8), .writer = EX_NOBODY};
	cell_of[i] = (uint16_t)++cells_used;
	return cells_used - 1;
}

bool ex_is_quiet(const struct shm_word *w)
{
	return ex.self == EX_NOBODY || !ex_is_shared(w) || (flags[index_of(w)] & QUIET);
}

uint64_t ex_plain_load(const struct shm_word *w)
{
	return atomic_load_explicit(&w->v, memory_order_relaxed);
}

void ex_plain_store(struct shm_word *w, uint64_t v)
{
	if (ex_is_shared(w) && ex.self != EX_NOBODY)
		cell_index(w);
	atomic_store_explicit(&w->v, v, memory_order_relaxed);
}

unsigned ex_offset(const volatile void *at)
{
	return (unsigned)(index_of(at) * 8);
}

/* ---- the weak model ---- */

static uint16_t tick(void)
{
	struct view *now = &seen[ex.self].now;

	if (++now->clock[ex.self] == UINT16_MAX)
		ex_fail("too many accesses");
	return now->clock[ex.self];
}

/* The word's first value is what stands there before the first store. */
static uint32_t newest_of(struct cell *c)
{
	if (c->newest == 0) {
		struct value *first = &values[values_used];

		if (values_used == MOST_VALUES)
			ex_fail("too many stores");
		first->v = ex_plain_load(c->word);
		first->older = 0;
		first->at = 0;
		view_clear(&first->view);
		c->newest = values_used++;
	}
	return c->newest;
}

static void check_read(const struct cell *c)
{
	const struct view *now = &seen[ex.self].now;

	if (c->writer != EX_NOBODY && c->writer != ex.self && c->written > now->clock[c->writer])
		ex_fail("process %u reads data at 0x%x that process %u writes: not ordered",
			ex.self, ex_offset(c->word), c->writer);
}

static void check_write(const struct cell *c)
{
	const struct view *now = &seen[ex.self].now;

	for (unsigned p = 0; p < EX_PROCESSES; p++)
		if (p != ex.self && c->reads[p] > now->clock[p])
			ex_fail("process %u overwrites data at 0x%x that process %u reads: not "
				"ordered",
				ex.self, ex_offset(c->word), p);
	if (c->writer != EX_NOBODY && c->writer != ex.self && c->written > now->clock[c->writer])
		ex_fail("processes %u and %u write data at 0x%x: not ordered", c->writer, ex.self,
			ex_offset(c->word));
}

/* Which of the values that it may return a load gets. */
static const struct value *pick_value(struct cell *c)
{
	unsigned least = view_at(&seen[ex.self].now, (unsigned)(c - cells)), n = 1, taken;
	const struct value *v = &values[newest_of(c)];

	for (const struct value *o = v; n < MOST_STALE && o->at > least; o = &values[o->older])
		n++;
	taken = ex_choose(n);
	if (taken)
		ex.stale[ex.self] = true;
	for (; taken; taken--)
		v = &values[v->older];
	return v;
}

static uint64_t weak_load(const struct shm_word *w, bool acquire, bool data)
{
	unsigned i = cell_index(w);
	struct cell *c = &cells[i];
	struct seen *s = &seen[ex.self];
	uint16_t clock = tick();
	const struct value *v;

	if (data) {
		check_read(c);
		c->reads[ex.self] = clock;
		v = &values[newest_of(c)];
	} else {
		v = pick_value(c);
	}
	view_set(&s->now, i, v->at);
	view_join(acquire ? &s->now : &s->pending, &v->view);
	return v->v;
}

static void weak_store(struct shm_word *w, uint64_t v, bool release, bool data)
{
	unsigned i = cell_index(w);
	struct cell *c = &cells[i];
	struct seen *s = &seen[ex.self];
	uint32_t older = newest_of(c);
	struct value *new = &values[values_used];

	if (values_used == MOST_VALUES || values[older].at == UINT8_MAX)
		ex_fail("too many stores");
	if (data)
		check_write(c);
	c->written = tick();
	c->writer = (uint8_t)ex.self;
	c->newest = values_used++;
	new->v = v;
	new->older = older;
	new->at = (uint8_t)(values[older].at + 1);
	view_set(&s->now, i, new->at);
	view_copy(&new->view, release ? &s->now : &s->fenced);
	view_set(&new->view, i, new->at);
	ex_plain_store(w, v);
}

/* Full fences stand in one order. */
static void weak_fence(unsigned process)
{
	struct seen *s = &seen[process];

	view_join(&s->now, &s->pending);
	view_join(&s->now, &all_fences);
	view_copy(&all_fences, &s->now);
	view_copy(&s->fenced, &s->now);
}

void ex_fence_of(unsigned process)
{
	if (ex.model == EX_WEAK)
		weak_fence(process);
	else
		ex_memory_flush(process, UINT32_MAX);
}

void ex_hand_over(void)
{
	if (ex.self == EX_NOBODY)
		return;
	ex_memory_flush(ex.self, UINT32_MAX);
	view_join(&handed_over, &seen[ex.self].now);
}

void ex_take_over(void)
{
	if (ex.self == EX_NOBODY)
		return;
	ex_memory_flush(ex.self, UINT32_MAX);
	view_join(&seen[ex.self].now, &handed_over);
}

void ex_zero(void *at, size_t bytes)
{
	for (size_t i = 0; i < bytes / 8; i++) {
		struct shm_word *w = (struct shm_word *)at + i;

		if (ex_plain_load(w) == 0)
			continue;
		if (ex.model == EX_WEAK && ex.self != EX_NOBODY)
			weak_store(w, 0, true, false);
		else
			ex_plain_store(w, 0);
	}
	ex.writes++;
}

/* ---- TSO ---- */

unsigned ex_memory_buffered(unsigned process)
{
	return buffered[process];
}

void ex_memory_flush(unsigned process, unsigned stores)
{
	struct buffered *b = buffers[process];
	unsigned n = (unsigned)rb_min(stores, buffered[process]);

	for (unsigned i = 0; i < n; i++) {
		ex_trace("        store of process %u at 0x%x becomes visible", process,
			 ex_offset(b[i].word));
		ex_plain_store(b[i].word, b[i].v);
	}
	ex.writes += n;
	buffered[process] -= n;
	memmove(b, b + n, buffered[process] * sizeof(*b));
}

static uint64_t newest_load(const struct shm_word *w)
{
	for (unsigned i = buffered[ex.self]; i > 0; i--)
		if (buffers[ex.self][i - 1].word == w)
			return buffers[ex.self][i - 1].v;
	return ex_plain_load(w);
}

static void tso_store(struct shm_word *w, uint64_t v)
{
	unsigned n = buffered[ex.self];

	if (ex.model == EX_TSO && n < MOST_BUFFERED && (n > 0 || ex_choose(2))) {
		if (n == 0)
			ex_trace("        waits in the buffer of process %u", ex.self);
		cell_index(w); /* restored even if it never becomes visible */
		buffers[ex.self][buffered[ex.self]++] = (struct buffered){w, v};
		return;
	}
	ex_memory_flush(ex.self, UINT32_MAX);
	ex_plain_store(w, v);
	ex.writes++;
}

bool ex_is_data(const struct shm_word *w)
{
	return flags[index_of(w)] & DATA;
}

uint64_t ex_load(const struct shm_word *w, bool acquire, bool data)
{
	return ex.model == EX_WEAK ? weak_load(w, acquire, data) : newest_load(w);
}

void ex_store(struct shm_word *w, uint64_t v, bool release, bool data)
{
	if (ex.model != EX_WEAK) {
		tso_store(w, v);
		return;
	}
	weak_store(w, v, release, data);
	ex.writes++;
}

uint64_t ex_rmw_load(struct shm_word *w)
{
	if (ex.model == EX_WEAK) {
		unsigned i = cell_index(w);
		const struct value *v = &values[newest_of(&cells[i])];

		view_set(&seen[ex.self].now, i, v->at);
		view_join(&seen[ex.self].now, &v->view);
		return v->v;
	}
	ex_memory_flush(ex.self, UINT32_MAX);
	return ex_plain_load(w);
}

void ex_rmw_store(struct shm_word *w, uint64_t v)
{
	if (ex.model == EX_WEAK)
		weak_store(w, v, true, false);
	else
		ex_plain_store(w, v);
	ex.writes++;
}

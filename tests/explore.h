/* explore.h: deterministic exploration of schedules of the real code.
 *
 * A few "processes" are coroutines of one thread. Every access of theirs to shared memory comes
 * through shm_hooks (lib/atomic.h) and is a point at which the explorer chooses: who goes on, who
 * dies, which store becomes visible, which value a load returns. A schedule is the list of its
 * choices; 0 is always "as if nothing happened". Choices other than 0 are deviations. All schedules
 * with few deviations are run one after the other (depth first), then many drawn by a seed.
 *
 * Models of memory:
 *   sc    each access is one step, all see the same
 *   tso   x86: a store may wait in its process's FIFO buffer; fences, RMW and futex calls empty it
 *   weak  C11 release and acquire: a word has all its values; a load may return any that is not
 *         older than what the process must have seen (its view); release stores carry the view,
 *         acquire loads and fences join it. Plain data (what is copied, in memory declared with
 *         ex_data()) must be ordered by that, or the schedule fails: a read before it is
 *         overwritten by any store, a write before it is read. What C11 allows beyond and this does
 * not show: a load that returns a store which comes after it in its own causes.
 *
 * A process that dies leaves its stores: all are visible to whoever learned of the death from the
 * kernel (ex_await_death()).
 */
#ifndef RINGBUS_TESTS_EXPLORE_H
#define RINGBUS_TESTS_EXPLORE_H

#include "atomic.h"

#define EX_PROCESSES 6u
#define EX_SHARED_BYTES (512u << 10)
#define EX_PRIVATE_BYTES (1u << 20)

enum ex_model { EX_SC, EX_TSO, EX_WEAK, EX_MODELS };

struct ex_scenario {
	const char *name;
	const char *claim;	   /* what holds in every schedule, in one line */
	unsigned mortal;	   /* bits of the processes that may die */
	unsigned deaths;	   /* at most so many in one schedule */
	unsigned bound[EX_MODELS]; /* deviations tried exhaustively; 0: model left out */
	unsigned long most;	   /* schedules of that kind per model */
	unsigned long drawn;	   /* schedules drawn by a seed per model */
	void (*prepare)(void);	   /* once: fills both memories, without choices */
	void (*run[EX_PROCESSES])(void);
	void (*finish)(void); /* judges when nobody can go on; NULL: all must have ended */
	bool may_block; /* processes may be asleep at the end; finish() says whether rightly */
};

extern const struct ex_scenario *const ex_ring_scenarios[];
extern const struct ex_scenario *const ex_bus_scenarios[];
extern const struct ex_scenario *const ex_emission_scenarios[];

/* ---- for scenarios ---- */

/* Shared memory: zero before prepare(), as prepare() left it at the start of each schedule. */
extern _Alignas(4096) uint8_t ex_shared[EX_SHARED_BYTES];
/* Private memory of all processes, kept the same way. Zeroed, aligned to a line. */
void *ex_private(size_t bytes);
/* Counters, of no influence: no choices there. Said in a schedule, it holds to its end; as the
 * next. */
void ex_quiet(const volatile void *at, size_t bytes);
/* Memory that holds plain data: every store there must come after the copies that it spoils. */
void ex_data(const volatile void *at, size_t bytes);

/* The schedule has shown a fault. Does not return within a schedule. */
void ex_fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
#define ex_check(condition, ...)              \
	do {                                  \
		if (!(condition))             \
			ex_fail(__VA_ARGS__); \
	} while (0)
unsigned ex_self(void);
bool ex_is_dead(unsigned process);
/* Waits until a process is dead (true) or has ended (false). */
bool ex_await_death(unsigned process);
/* Waits until something in shared memory has changed since the last call. */
void ex_pause(void);
/* Waits until the condition holds; it is private to the explorer, and looked at when others have
 * moved. Whoever made it true is seen by us, as through the kernel. */
void ex_await(bool (*condition)(void));
/* All that `process` has done is visible to us: the kernel told us of it. */
void ex_join(unsigned process);
/* A lock of the kernel: who takes it over sees what was done before it was handed over. */
void ex_hand_over(void);
void ex_take_over(void);
/* Memory given back to the kernel: reads as 0. */
void ex_zero(void *at, size_t bytes);

/* ---- between the parts of the explorer ---- */

extern const struct shm_hooks ex_hooks;
enum { EX_NOBODY = EX_PROCESSES };

struct ex_state {
	enum ex_model model;
	unsigned self;		  /* who runs */
	uint64_t writes;	  /* visible stores so far */
	bool stale[EX_PROCESSES]; /* has returned an old value since its last pause */
	bool tracing;
};
extern struct ex_state ex;

/* How the next schedule is to be, and how it was. */
#define EX_CHOICES 20000u
struct ex_plan {
	const struct ex_scenario *scenario;
	enum { EX_LIST, EX_DRAWN } manner;
	unsigned bound;	     /* EX_LIST: most deviations */
	unsigned one_in;     /* EX_DRAWN: how often it deviates */
	uint64_t random;     /* EX_DRAWN: state of the generator */
	uint64_t priorities; /* of the processes; 0: none */
	unsigned forced;     /* choices that are given */
	unsigned count;	     /* choices made */
	unsigned deviations; /* of these */
	char why[400];	     /* it failed */
	struct ex_choice {
		uint32_t taken, of;
	} choices[EX_CHOICES];
};
extern struct ex_plan ex_plan;
uint64_t ex_draw(void);
/* Fills the memories of a scenario. */
void ex_prepare(const struct ex_scenario *scenario);
/* Runs one schedule. False: it failed. */
bool ex_run(void);

/* One of n, 0 the usual one. May answer 0 when no more deviations are allowed. */
unsigned ex_choose(unsigned n);
/* A point at which others may run, or the caller may die. */
void ex_point(void);
/* Puts the caller to sleep until ready() says otherwise, for a futex of `word`, say. */
void ex_sleep_on(const void *word);
unsigned ex_wake(const void *word);
void ex_trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory: see explore_memory.c. */
void ex_memory_prepare(void); /* forgets quiet and data ranges; zeroes shared memory */
void ex_memory_keep(void);    /* what stands there is the start of every schedule */
void ex_memory_begin(void);
unsigned ex_memory_buffered(unsigned process);
void ex_memory_flush(unsigned process, unsigned stores);

/* Coroutines: see explore_switch.c. */
struct ex_coroutine {
	void *sp;
	void *context;
	uint8_t *stack;
	void *fake;
};
void ex_coroutine_init(struct ex_coroutine *c, void (*entry)(void));
void ex_coroutine_switch(struct ex_coroutine *from, struct ex_coroutine *to);

#endif

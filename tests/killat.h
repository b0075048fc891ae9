/* killat.h: between the files of the harness that kills a real process at every instruction.
 *
 * killat.c has the tests, their shares and the report; killat_trace.c steps, records and stops
 * processes; killat_world.c has the bus, its service and the checks after each kill; killat_case.c
 * knows the operations and the states that they start from; killat_actor.c is what each process on
 * the bus does and the oracle of its messages; killat_image.c recovers copies of the region.
 *
 * Who is there: three survivors, the victim (each time a new process, in the slot that the last one
 * left), now and then an extra node. All are told what to do by the controller, the test program,
 * which is not on the bus. What every life has sent stands in a ledger outside the region.
 */
#ifndef RINGBUS_TESTS_KILLAT_H
#define RINGBUS_TESTS_KILLAT_H

#include "harness.h"
#include "layout.h"

/* ---- actors ---- */

enum { ACTOR_A, ACTOR_B, ACTOR_C, ACTOR_V, ACTOR_D, ACTOR_J, ACTORS };
#define SURVIVORS 7u /* mask of A, B, C */
#define EVERYBODY 15u

enum command {
	CMD_JOIN,  /* and subscribe to "all" */
	CMD_ROUND, /* participants, nonce: sends to all of them, receives from all of them */
	CMD_DRAIN, /* receives what is there */
	CMD_UNTIL, /* participants, nonce, life, life: receives until these have ended the round and
		      these lives are gone */
	CMD_END,   /* participants, nonce: ends a round towards them */
	CMD_POST,  /* how, to, size, count: returns how many were accepted */
	CMD_BORROW,	 /* receives until something pooled came, and keeps that */
	CMD_RELEASE,	 /* all of it, contents compared again */
	CMD_LOANS,	 /* takes loans until there are none; 1: gives them back */
	CMD_SUBSCRIBE,	 /* name */
	CMD_UNSUBSCRIBE, /* name */
	CMD_CREATE,	 /* name, mode */
	CMD_DISSOLVE,	 /* name */
	CMD_SIGNAL,	 /* to */
	CMD_LEAVE,
	CMD_OP, /* number */
};

/* POST_SINGLE: an event that one other has subscribed to. */
enum how { POST_EMIT, POST_CONTACT, POST_LOAN, POST_SINGLE };
enum name { NAME_ALL, NAME_SIDE, NAME_SINGLE, NAMES };

#define INLINE_BYTES 64u
#define SMALLEST_BYTES 24u /* what the actors say of each message */
#define POOLED_BYTES 1500u
#define ENTRIES 1024u
#define LIVES 64u

enum entry_state { ENTRY_TRIED, ENTRY_ACCEPTED, ENTRY_FAILED };

/* One message of a life. */
struct entry {
	uint64_t size;
	uint32_t state;
	uint32_t to[ACTORS]; /* lives that it is for, by actor */
};

/* One process from its join to its end. */
struct life {
	uint32_t number;
	uint32_t actor;
	uint32_t slot, generation;
	uint32_t dead;
	uint32_t signals_tried, signals; /* sent to it */
	uint64_t count;
	struct entry entries[ENTRIES];
};

struct box {
	uint32_t asked, done; /* futexes */
	uint32_t command;
	uint64_t argument[4];
	int64_t result;
};

/* Shared by all processes, outside the region. */
struct world {
	struct box box[ACTORS];
	uint32_t current[ACTORS]; /* lives that are on the bus and subscribed to "all" */
	uint32_t joining[ACTORS]; /* may be subscribed already, and not yet in `current` */
	uint32_t next_life;
	uint32_t marker; /* of the last stop that an operation made */
	uint32_t service_up;
	int32_t service_result;
	uint32_t go;	   /* a traced service or recoverer may start */
	uint32_t unreaped; /* somebody more than `current` says may still be counted */
	uint32_t noted;
	char note[400];
	struct life lives[LIVES];
};

extern struct world *world;

static inline struct life *life_of(uint32_t number)
{
	return &world->lives[number <= 3 ? number : 4 + number % (LIVES - 4)];
}

void actor_main(uint64_t actor);
/* Loads and stores of the shared words, and the futex on one. */
uint32_t word_get(const uint32_t *word);
void word_set(uint32_t *word, uint32_t value);
/* False after so long a time. */
bool word_wait_change(uint32_t *word, uint32_t from, uint64_t timeout_ns);

/* ---- operations: what the victim does under the tracer ---- */

struct actor;
struct operation {
	const char *name;
	void (*run)(struct actor *me);
};
extern const struct operation operations[];
extern const unsigned operation_count;

/* A state of the bus that an operation starts from, and how to get there from an idle one. */
enum state_flags {
	STATE_FRESH = 1,    /* the victim has not sent anything yet */
	STATE_UNJOINED = 2, /* it has not even joined */
	STATE_EXTRA = 4,    /* there is an extra node, to be looked after */
	STATE_NO_STOP = 8,  /* not for victims that are only stopped */
	CASE_SERVICE = 16,  /* the victim is the service */
	STATE_READ = 32,    /* B reads all before it ends the subscription that it was sent to */
};

struct test_case {
	const char *operation;
	const char *state;
	void (*prepare)(void);
	void (*stimulus)(void); /* once the victim sleeps */
	unsigned flags;
	bool primary; /* send, receive or release: every instruction in every run */
};
extern const struct test_case cases[];
extern const unsigned case_count;
unsigned operation_number(const char *name);

/* ---- tracing ---- */

enum { MARK_BEGIN = 1, MARK_END = 2, MARK_OVER = 3 };
/* Stops the calling process for its tracer. The tracer looks only between BEGIN and END. */
void killat_mark(uint32_t marker);
#define traced(statement)                \
	do {                             \
		killat_mark(MARK_BEGIN); \
		statement;               \
		killat_mark(MARK_END);   \
	} while (0)

/* Before the hit-th execution of the instruction at this offset of the library's text; or, call
 * not 0, at that stop of a system call: odd before it, even after it. */
struct position {
	uint32_t offset;
	uint32_t hit;
	uint32_t call;
};

struct recording {
	struct position *at;
	size_t count, capacity;
	size_t steps;	     /* instructions of the library that were executed */
	size_t instructions; /* different ones */
	size_t calls;
	bool complete;
};

enum trace_end { TRACE_REACHED, TRACE_OVER, TRACE_DIED, TRACE_STUCK };

/* Called while the tracee runs; true: nothing more is to come once it has done nothing for 3 ms. */
typedef bool (*trace_tick)(void);

/* Why this cannot be done on this machine; NULL: it can. */
const char *trace_impossible(void);
bool trace_attach(pid_t pid);
/* Waits for the first mark. */
enum trace_end trace_begin(pid_t pid);
/* Stops it wherever it is, with nothing pending. */
bool trace_interrupt(pid_t pid);
void trace_detach(pid_t pid);
enum trace_end trace_record(pid_t pid, struct recording *r, trace_tick tick);
enum trace_end trace_to(pid_t pid, const struct position *p, trace_tick tick);
/* Lets a stopped tracee run to the end of its operation. */
enum trace_end trace_finish(pid_t pid, trace_tick tick);
/* Name of the function at an offset, with the distance from its beginning. */
const char *trace_place(uint32_t offset);
void recording_free(struct recording *r);

/* ---- the world ---- */

enum mode { MODE_KILL, MODE_STOP, MODES };
extern enum mode mode;
/* A ring was spoiled on purpose, and no newcomer has sent there since. */
extern bool rings_may_warn;

/* Fails the cycle that runs: never returns. */
_Noreturn void cycle_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

void world_open(void);
void world_start(void);
void world_stop(void);
/* After a failure: nothing of it is left. */
void world_abandon(void);

void issue(unsigned actor, enum command command, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
int64_t await(unsigned actor);
int64_t order(unsigned actor, enum command command, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void order_each(unsigned actors, enum command command, uint64_t a, uint64_t b);
/* All of these talk with each other. */
void round_of(unsigned participants);
uint64_t fresh_nonce(void);
/* Lets a survivor fall asleep in the middle of a receiving call; it wakes by the victim's death,
 * or, with victims that are only stopped, by C. */
void put_to_sleep(unsigned actor);
/* Wakes those of put_to_sleep(), and waits for them. */
void wake_sleepers(bool died);
bool is_issued(unsigned actor);
/* Waits for the survivors that are busy, but for those put to sleep. */
void await_awake(void);

pid_t actor_start(unsigned actor);
void actor_kill(unsigned actor);
/* The same, not waiting until the bus has noticed. */
pid_t actor_pid(unsigned actor);
void service_start(bool traced_open);
void service_signal(int number);
pid_t service_pid(void);
void service_kill(void);
bool service_is_up(void);
const char *world_bus_path(void);
unsigned world_port(void);

uint64_t slot_word_of(uint32_t slot);
bool victim_sleeps(void);
/* Waits until the slot of a life is free; ns that it took. */
uint64_t wait_free(const struct life *life);
/* The same for every slot that is not a survivor's. */
void wait_others_free(void);
/* Tail of the ring between two lives, modulo its capacity. */
uint64_t ring_tail_of(unsigned from, unsigned to, uint64_t *capacity);
/* Writes nonsense where the next record of this ring will be. */
void spoil_ring(unsigned from, unsigned to);
/* The bus at rest: fsck, nothing unread and nothing in use (unless that is to be so), no space
 * without a name, descriptors as at the beginning. */
void check_rest(bool unread);

#define RING_BYTES 4096u
#define POOL_BYTES (256u << 10)

/* ---- cycles ---- */

/* Where and how one victim ends. */
struct job {
	const struct test_case *on;
	struct position at;
	enum mode mode;
	bool counted;	/* among those of which a share is told */
	unsigned tries; /* so far, in vain */
};

#define LATENCIES 65536u
struct tally {
	size_t done[MODES]; /* victims killed, and stopped, at their places */
	size_t missed;	    /* that did not come to their place: another course of events */
	size_t failures;
	size_t latencies;
	size_t checks; /* of the whole region, from outside */
};
extern struct tally tally;

/* The first passage of an instruction, or a stop at a system call. */
bool place_is_first(const struct position *p);
/* Seven in eight by instruction, the others by passage, which prefers loops. */
const struct position *any_place(const struct recording *r, uint64_t *dice);
void job_name(const struct job *job, char out[128]);
/* False: it did not come to its place. */
bool job_run(const struct job *job);
bool case_record(const struct test_case *c, struct recording *r);
void last_newcomer(void);
void world_restart(void);
void end_world(void);
/* Of the times from SIGKILL to a free slot, in ns; 1000: the longest. */
uint64_t latency_at(unsigned per_mille);

/* ---- images ---- */

/* The victim is about to die here: a copy of the region is made if this place was asked for. */
void image_offer(const struct test_case *c, const struct position *p);
/* Takes n copies, out of so many offers. */
void image_want(unsigned n, uint64_t offers);
/* Recovers them all, each also with so many reapers that are killed. */
void image_recover(uint64_t reapers, uint64_t dice);

#endif

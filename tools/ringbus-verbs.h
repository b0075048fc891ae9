/* ringbus-verbs.h: what the verbs of `ringbus` share: options from tables, the bus, interruption.
 *
 * A verb is one struct: the table of its options makes both the parser and the help text. Waiting
 * goes through the functions here or through the library with RINGBUS_FOREVER: SIGINT and SIGTERM
 * end both at once (ringbus_node_interrupt(), and a pipe that polls hear).
 */
#ifndef RINGBUS_VERBS_H
#define RINGBUS_VERBS_H

#include "ringbus-inspect.h"
#include "ringbus.h"

#include "cli.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define DEFAULT_WAIT_NS UINT64_C(60000000000) /* sends and waits for peers without --timeout */
#define NO_LIMIT UINT64_MAX		      /* --count and --timeout when not given */

struct verb_option {
	int letter; /* a letter for short use, or above 255; 0 ends the table */
	const char *name;
	const char *argument; /* NULL: takes none */
	const char *help;
};

struct call;

struct verb {
	const char *name;
	const char *operands;
	const char *help;	  /* one line: the purpose */
	const char *more;	  /* further lines of the help text; NULL: none */
	const char *examples;	  /* lines, each "  $ COMMAND" */
	const char *count_help;	  /* of --count; NULL: the verb has no such option */
	const char *timeout_help; /* of --timeout; NULL likewise */
	bool has_bus;		  /* --port, --directory */
	bool has_node;		  /* --name, --no-autostart */
	int (*run)(struct call *call);
	const struct verb_option *options; /* of its own; may be NULL */
};

/* One run of a verb: options common to all, and what is left of the command line. */
struct call {
	const struct verb *verb;
	int status; /* exit code after call_option() returned -1 */
	int argc;   /* operands, once call_option() returned 0 */
	char **argv;
	unsigned port;
	const char *directory;
	const char *name;
	uint64_t timeout_ns; /* --timeout */
	uint64_t count;	     /* --count, 1 or more */
	bool quiet;
	bool verbose;
	bool json;
	bool no_autostart;
	bool watch_events; /* the node is woken by every change of any event */
	int all_argc;
	char **all_argv;
};

/* The next option of the verb itself (argument in optarg); 0 when all are read, -1 when the verb
 * must return call->status now (--help, --version, or a mistake that was reported). */
int call_option(struct call *call);
/* False, with a usage error in call->status, unless min to max operands were given. */
bool call_operands(struct call *call, int min, int max);
/* Whether a name can be one of "an event" or "a node"; likewise. */
bool call_name_valid(struct call *call, const char *name, const char *what);
/* Whether all operands can be names of events; likewise. */
bool call_events_valid(struct call *call);
/* Joins the bus and listens for SIGINT and SIGTERM. Returns 0 or an exit code, after having said
 * why. */
int call_open(struct call *call, struct ringbus_node **node);
void call_close(struct ringbus_node *node);
/* From now on, until call_close(), a wait of the node ends when the reader of stdout goes away. */
void call_watch_output(void);
/* True once it went. */
bool output_gone(void);
/* Says what the library's last call failed for ("ringbus: emit: detail") and returns the exit code.
 */
int call_failed(int error);
int call_out_of_memory(void);
/* A payload of size bytes, or, with `more`, of more than that, is over the limit. */
int call_too_large(struct ringbus_node *node, uint64_t size, bool more);
/* "interrupted"; the exit code of a verb that had an end of its own. */
int call_interrupted(void);
/* Finds the node that the first operand means (PID, NAME or SLOT:GENERATION). With wait it may come
 * within the timeout. Returns 0 or an exit code, after having said why. */
int call_find(struct call *call, struct ringbus_node *node, bool wait,
	      struct ringbus_address *address);

/* The node that has a slot now; generation 0: whichever. False if there is none. */
bool call_node_at(const struct call *call, uint32_t slot, uint32_t generation,
		  struct ringbus_inspect_node *found);

/* From now on SIGINT and SIGTERM are noticed; the second one of a kind kills as usual. */
void stop_watch(void);
/* True once SIGINT or SIGTERM came. */
bool stopped(void);
/* End of a wait of ns from now on; NO_LIMIT stays endless. */
uint64_t deadline_of(uint64_t ns);
/* What is left until deadline; RINGBUS_FOREVER when it is endless. */
uint64_t left_until(uint64_t deadline);
/* Sleeps until deadline, or until stopped. */
void sleep_until(uint64_t deadline);
/* Waits until fd is readable (true) or this process is stopped (false). */
bool readable(int fd);

/* ---- following events by name and by pattern: ringbus-follow.c ---- */

/* Subscriptions of one node. A name with * or ? in it is a pattern, see follow_matches(): it
 * stands for all events whose names match, those of now and those that are created later. */
struct follow {
	struct ringbus_node *node;
	bool lossy;
	bool literal;  /* no operand is a pattern */
	bool verbose;  /* say what is subscribed to */
	unsigned live; /* subscriptions to names that are not over */
	int patterns;
	char *const *names;
	int count;
	struct ringbus_inspect *inspect;
	uint32_t *known; /* by index of the event table: generation that was subscribed to */
	uint32_t events;
	uint64_t epoch;	    /* of the table as last looked at */
	uint64_t looked_ns; /* when */
};

/* * stands for any bytes, also none; ? for one character (UTF-8); all else for itself. */
bool follow_matches(const char *pattern, const char *name);
/* Subscribes to call's operands. Fill node, lossy, literal and verbose before. 0, or a negative
 * errno code. */
int follow_open(struct follow *follow, struct call *call);
/* Subscribes to what has come since and matches. To be called after each ringbus_wait() that
 * returned without a message; cheap otherwise, so that a stream of messages may call it for each.
 */
int follow_look(struct follow *follow, bool idle);
/* One of its events was dissolved. */
void follow_ended(struct follow *follow, const struct ringbus_message *notice);
/* Nothing can come any more. */
bool follow_over(const struct follow *follow);
void follow_close(struct follow *follow);

/* The next message of a node, with follow looking for new events meanwhile (NULL: none). What was
 * written to stdout goes out before this sleeps. 0; -EPIPE stdout is gone; -EINTR; -ETIMEDOUT. */
int receive_next(struct ringbus_node *node, struct follow *follow, struct ringbus_message *message,
		 uint64_t deadline);

/* ---- input: ringbus-input.c ---- */

/* A file, pipe or terminal read in messages. Reading ends at once when this process is stopped. */
struct input {
	int fd;
	bool owned;
	bool cut; /* the line just read is longer */
	bool ended;
	char *buffer;
	size_t begin;
	size_t end;
	size_t capacity;
	uint64_t taken; /* bytes handed out */
	uint64_t size;	/* of a regular file; 0: not known */
};

/* path NULL or "-": standard input. 0, or a negative errno code. */
int input_open(struct input *input, const char *path);
/* The next line, without its newline, or more than limit bytes of it; the next chunk bytes, or what
 * is left; or all, up to limit bytes and a few more (see input->ended). 1: data is valid until the
 * next call; 0: the end (never of input_all()); -EINTR; negative errno code. */
int input_line(struct input *input, size_t limit, const char **data, size_t *size);
int input_chunk(struct input *input, size_t chunk, const char **data, size_t *size);
int input_all(struct input *input, size_t limit, const char **data, size_t *size);
void input_close(struct input *input);

/* One line on stderr that is rewritten while a long transfer goes on, if stderr is a terminal. */
struct progress {
	bool on;
	bool drawn;
	uint64_t start_ns;
	uint64_t next_ns;
	uint64_t total_messages; /* 0: not known */
	uint64_t total_bytes;
};

void progress_start(struct progress *progress, bool wanted);
void progress_show(struct progress *progress, uint64_t messages, uint64_t bytes);
/* Takes the line away. */
void progress_end(struct progress *progress);

extern const struct verb verb_emit, verb_subscribe, verb_contact, verb_listen, verb_signal,
	verb_wait_signal, verb_ls, verb_hz, verb_bw, verb_latency, verb_bench, verb_top,
	verb_doctor;

#endif

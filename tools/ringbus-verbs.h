/* ringbus-verbs.h: what the verbs of `ringbus` share: options from tables, the bus, interruption.
 *
 * A verb is a function and a table of its options. The table makes both the parser and the help
 * text.
 */
#ifndef RINGBUS_VERBS_H
#define RINGBUS_VERBS_H

#include "ringbus.h"

#include "cli.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))
#define DEFAULT_WAIT_NS UINT64_C(60000000000) /* sends and waits for peers without --timeout */
#define SLICE_NS UINT64_C(100000000)	      /* how soon Ctrl-C is seen in a call that waits */

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
	const char *help;
	int (*run)(struct call *call);
	const struct verb_option *options;
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
	uint64_t timeout_ns; /* --timeout; UINT64_MAX when not given */
	uint64_t count;	     /* --count; UINT64_MAX when not given */
	bool quiet;
	bool verbose;
	bool json;
	bool no_autostart;
	int all_argc;
	char **all_argv;
};

/* The next option of the verb itself (argument in optarg); 0 when all are read, -1 when the verb
 * must return call->status now (--help, --version, or a mistake that was reported). */
int call_option(struct call *call);
/* False, with a usage error in call->status, unless min to max operands were given. */
bool call_operands(struct call *call, int min, int max);
/* Joins the bus. Returns 0 or an exit code, after having said why. */
int call_open(struct call *call, struct ringbus_node **node);
/* Says what failed ("ringbus: emit: text: detail") and returns the exit code. */
int call_failed(int error);
/* Finds the node that the first operand means (PID, NAME or SLOT:GENERATION). With wait it may come
 * within the timeout. Returns 0 or an exit code, after having said why. */
int call_find(struct call *call, struct ringbus_node *node, bool wait,
	      struct ringbus_address *address);

/* True once SIGINT or SIGTERM came. */
bool stopped(void);
/* End of a wait of ns from now on; UINT64_MAX stays endless. */
uint64_t deadline_of(uint64_t ns);
/* What is left until deadline, at most a slice. */
uint64_t slice_until(uint64_t deadline);
/* Sleeps until deadline, or until stopped. */
void sleep_until(uint64_t deadline);

int verb_emit(struct call *call);
int verb_subscribe(struct call *call);
int verb_contact(struct call *call);
int verb_listen(struct call *call);
int verb_signal(struct call *call);
int verb_wait_signal(struct call *call);
int verb_ls(struct call *call);

extern const struct verb_option emit_options[];
extern const struct verb_option subscribe_options[];
extern const struct verb_option contact_options[];
extern const struct verb_option listen_options[];
extern const struct verb_option signal_options[];
extern const struct verb_option wait_signal_options[];
extern const struct verb_option ls_options[];

#endif

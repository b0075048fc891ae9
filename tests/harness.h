/* harness.h: what the tests share: a private bus per test, child processes, conditions, a watchdog,
 * derived payloads.
 *
 * Each test gets a fresh RINGBUS_DIR under /dev/shm, a free port and a service of its own. Children
 * report through memory shared with the parent and leave by _exit(); they assert nothing themselves
 * (cmocka would go on with the other tests there) but call child_check(). Waiting is by condition;
 * what never comes is the watchdog's business.
 */
#ifndef RINGBUS_TESTS_HARNESS_H
#define RINGBUS_TESTS_HARNESS_H

#include "ringbus.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

#include <cmocka.h>

#define HARNESS_FLAGS 4096
#define HARNESS_SECOND 1000000000ull
#define HARNESS_MS 1000000ull

/* ---- programs ---- */

/* To be called first in main: test filter from argv[1], options of the service when started as one.
 */
void harness_init(int argc, char **argv);

/* A test with a bus of default geometry. */
#define BUS_TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup, harness_teardown)
/* A test with a private directory and port, but no service yet. */
#define BARE_TEST(f) cmocka_unit_test_setup_teardown(f, harness_setup_bare, harness_teardown)

#define HARNESS_MAIN(name, tests)                                            \
	int main(int argc, char **argv)                                      \
	{                                                                    \
		harness_init(argc, argv);                                    \
		return cmocka_run_group_tests_name(name, tests, NULL, NULL); \
	}

int harness_setup(void **state);
int harness_setup_bare(void **state);
int harness_teardown(void **state);

/* Seconds that one test may take at most; starts again from now. The environment's HARNESS_SLOW
 * multiplies it. */
void watchdog(unsigned seconds);
/* One figure of this run for the table of ledger.py; names are listed there. */
void ledger(const char *name, double value);
/* Number N from the environment, or fallback. */
uint64_t harness_number(const char *name, uint64_t fallback);

/* ---- bus ---- */

/* Geometry; 0 means the default of the service. */
struct bus_spec {
	unsigned nodes;
	unsigned events;
	uint64_t ring_bytes;
	uint64_t pool_bytes;
};

const char *bus_directory(void);
unsigned bus_port(void);
const char *bus_file(void); /* the path of its region */
/* Entries of a directory, . and .. among them. */
unsigned harness_entries(const char *path);
/* Starts the service and waits until it answers; after bus_kill() or bus_stop() on the same port
 * again. */
void bus_serve(const struct bus_spec *spec);
/* Ends the service by SIGTERM, expects a clean exit. */
void bus_stop(void);
/* SIGKILL. */
void bus_kill(void);
/* Waits until services that are no children of the test, and end by themselves, are gone, also
 * those of several started at once that are late, and have left no file. */
void bus_wait_gone(void);
/* Waits until the service ends by itself, with an error. */
void bus_expect_failure(void);
pid_t bus_service_pid(void);
/* shm-inspect check; nothing if the tool was not built. */
void bus_check(void);
/* The teardown is not to look whether files are left. */
void bus_expect_leftovers(void);

/* ---- nodes ---- */

/* All assert success; nodes that a test leaves open are closed after it. */
struct ringbus_node *node_open(void);
struct ringbus_node *node_open_named(const char *name);
struct ringbus_node *node_open_with(const struct ringbus_node_options *options);
void node_close(struct ringbus_node *node);
struct ringbus_address node_address(struct ringbus_node *node);
struct ringbus_event *single(struct ringbus_node *node, const char *id);
/* MULTI, receiving by pulling. */
struct ringbus_event *multi(struct ringbus_node *node, const char *id);
struct ringbus_event *subscribe(struct ringbus_node *node, const char *id);
struct ringbus_node_stats node_stats(struct ringbus_node *node);
struct ringbus_event_info event_info(struct ringbus_event *event);

/* Asserts that a call succeeded, returns its result. */
#define ok(call) harness_ok((call), #call, __FILE__, __LINE__)
/* Asserts that a call failed with this code. */
#define fails(call, code) harness_fails((call), (code), #call, __FILE__, __LINE__)
int harness_ok(int rc, const char *call, const char *file, int line);
void harness_fails(int rc, int code, const char *call, const char *file, int line);

/* Pulls the next message that is no notice. */
void pull(struct ringbus_node *node, struct ringbus_message *message);
/* Pulls one and asserts its text. */
#define pull_text(node, text) harness_pull_text((node), (text), __FILE__, __LINE__)
void harness_pull_text(struct ringbus_node *node, const char *text, const char *file, int line);
/* Pulls notices until this one comes; data before it is a failure. */
void pull_notice(struct ringbus_node *node, enum ringbus_notice notice,
		 struct ringbus_message *message);
/* No event or contact is pending. */
#define pull_nothing(node) harness_pull_nothing((node), __FILE__, __LINE__)
void harness_pull_nothing(struct ringbus_node *node, const char *file, int line);
/* Emits a text; asserts success; returns the number of receivers. */
int emit_text(struct ringbus_event *event, const char *text);

/* ---- children ---- */

typedef void (*child_fn)(uint64_t argument);

/* Runs fn in a forked child with default signals and its own process group; it exits 0 when fn
 * returns. */
pid_t child_start(child_fn fn, uint64_t argument);
/* Waits for it; asserts exit code 0. */
void child_join(pid_t pid);
void child_join_all(void);
/* SIGKILL, and waits. */
void child_kill(pid_t pid);
/* Waits for any tracked child that has ended by itself without blocking: its pid, or 0. Asserts
 * nothing. */
bool child_ended(pid_t pid);
/* Waits until the kernel reports the process as stopped. */
void child_wait_stopped(pid_t pid);
/* A process id that no process has. */
uint32_t dead_pid(void);

/* In a child: leaves a note for the parent and exits 99 when the condition does not hold. */
#define child_check(cond) ((cond) ? (void)0 : harness_child_fail(#cond, 0, __FILE__, __LINE__))
/* The same for a return code that must not be negative. */
#define child_ok(call) harness_child_ok((call), #call, __FILE__, __LINE__)
/* The same for one that must be this code. */
#define child_fails(call, code) harness_child_fails((call), (code), #call, __FILE__, __LINE__)
_Noreturn void harness_child_fail(const char *what, int rc, const char *file, int line);
void harness_child_fails(int rc, int code, const char *call, const char *file, int line);
int harness_child_ok(int rc, const char *call, const char *file, int line);
/* Opens a node in a child. */
struct ringbus_node *child_node(const struct ringbus_node_options *options);

/* Words shared by all processes of a test, 0 at its start. */
uint64_t flag_get(unsigned index);
void flag_set(unsigned index, uint64_t value);
uint64_t flag_add(unsigned index, uint64_t value);
/* Waits until the word is at least this. */
void flag_wait(unsigned index, uint64_t at_least);
/* Gives the processor away for a moment, between two looks at a condition. */
void pause_briefly(void);
uint64_t harness_now_ns(void);

/* ---- payloads derived from (sender, sequence) ---- */

#define PAYLOAD_MAX (300u << 10)

struct mix {
	unsigned pooled_per_mille; /* share of large messages */
	size_t max;		   /* largest */
};

uint64_t splitmix(uint64_t *state);
size_t payload_size(const struct mix *mix, uint64_t sender, uint64_t sequence);
void payload_fill(void *data, size_t size, uint64_t sender, uint64_t sequence);
bool payload_matches(const void *data, size_t size, uint64_t sender, uint64_t sequence);

#endif

/* harness_private.h: between the files of the harness. */
#ifndef RINGBUS_TESTS_HARNESS_PRIVATE_H
#define RINGBUS_TESTS_HARNESS_PRIVATE_H

#include "harness.h"

/* Fresh flags, no children, no nodes. */
void harness_begin(void);
/* Kills and reaps what the test has left; whether it had any children at all. */
bool harness_kill_children(void);
void harness_close_nodes(void);
/* In a child: default signals, own group, dies with its parent. */
void child_reset(void);
/* Whether this is the process that runs the tests. */
bool harness_is_parent(void);
/* Starts a thread that waits for SIGTERM (blocked by the caller) and stops the service. */
bool harness_stop_on_sigterm(struct ringbus_service *service);

#endif

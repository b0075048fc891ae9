/* explore_bus.h: whole nodes for the schedule explorer: lib/ without files, sockets, clocks.
 *
 * The region is ex_shared. What the library asks of the kernel is answered here (the linker's
 * --wrap): maps, the control lock, whether a process lives, time, memory. Joining is the real
 * ringbus_node_open() with the service's part, a grant under the control lock, done in place.
 */
#ifndef RINGBUS_TESTS_EXPLORE_BUS_H
#define RINGBUS_TESTS_EXPLORE_BUS_H

#include "explore.h"
#include "node.h"

#define BUS_NODES 3u
#define BUS_RING 512u
#define BUS_EVENTS 2u

/* Private memory of the explorer: what really happened. */
struct bus {
	struct region region[EX_PROCESSES];
	struct ringbus_node *node[EX_PROCESSES]; /* by process; set up by bus_join() */
	uint8_t owner[BUS_NODES][8];		 /* process, by slot and generation */
	unsigned acting;			 /* for whom prepare() works */
	unsigned lock_holder;			 /* EX_NOBODY: free */
	uint64_t now_ns;
};
extern struct bus *bus;

/* First thing in a prepare(): an empty bus. */
void bus_prepare(void);
/* `process` joins; in prepare() any, later only the caller. */
struct ringbus_node *bus_join(unsigned process);
struct ringbus_node *bus_node(void);
/* A handle of the event in entry `index`, made by hand, and a handler for it. */
struct ringbus_event *bus_event(struct ringbus_node *node, uint32_t index, ringbus_handler handler);
/* Sends `bytes` filled by `sequence` to the owner of a slot. */
int bus_contact(unsigned slot, unsigned sequence, size_t bytes, uint64_t timeout_ns);
int bus_emit(struct ringbus_event *event, unsigned sequence, size_t bytes, uint64_t timeout_ns);
/* The sequence of a message; fails if its payload is not whole. */
unsigned bus_sequence(const struct ringbus_message *m);
/* Receives for ever, sleeping when there is nothing. */
void bus_receive(void);
/* Waits for the death of `process` and reaps. */
void bus_reap_after(unsigned process);
/* The link from slot to slot is warm: paired, its ring open at both ends, notices told. */
void bus_warm(unsigned from, unsigned to);

#endif

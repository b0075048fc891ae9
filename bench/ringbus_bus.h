/* ringbus_bus.h: a bus of our own for one run: a private directory and a service process. */
#ifndef BENCH_RINGBUS_BUS_H
#define BENCH_RINGBUS_BUS_H

#include "transport.h"

#include <ringbus.h>
#include <sys/types.h>

#define BUS_EXTRAS_MAX 256

struct bus {
	char directory[64];
	unsigned port;
	pid_t service;
	pid_t extras[BUS_EXTRAS_MAX]; /* idle nodes */
	unsigned extra_count;
};

/* Starts the service, and idle nodes that make bench->events events between them. */
int bus_start(struct bench *bench, unsigned idle, struct bus **bus);
/* Ends all that and removes the directory. */
void bus_stop(struct bus *bus);
/* Joins as the run asks: name, waiting, one sender. */
int bus_join(const struct bus *bus, const struct bench *bench, const char *name, bool single_sender,
	     struct ringbus_node **node);
/* bench_explain() with the library's words. */
int bus_error(int error, const char *call);
/* Bytes allocated for the files in the bus's directory. */
uint64_t bus_bytes(const struct bus *bus);

#endif

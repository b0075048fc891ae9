/* shm-inspect-doctor.h: what the parts of the verb doctor share.
 *
 * shm-inspect-doctor.c finds the bus and says the verdict; -node.c judges one node, -link.c what
 * lies between two, -around.c the machine; -proc.c asks /proc. The first verdict stands: the parts
 * ask in the order of what explains more.
 */
#ifndef SHM_INSPECT_DOCTOR_H
#define SHM_INSPECT_DOCTOR_H

#include "shm-inspect.h"

#define DOCTOR_LINES 48
#define DOCTOR_LINE 900

struct lines {
	char text[DOCTOR_LINES][DOCTOR_LINE];
	size_t count;
};

struct side {
	struct who who;
	const struct node_row *row; /* in the second sample; NULL: not on the bus */
};

struct doctor {
	struct view *view;
	char where[600]; /* the region's file */
	bool copy;	 /* --file: nothing is said of this machine's port and service */
	struct ringbus_inspect_header header;
	struct sample *first, *second; /* a moment apart */
	struct side a, b;
	const char *event;
	const char *code; /* NULL: no verdict yet */
	char verdict[DOCTOR_LINE];
	struct lines evidence, advice, notes;
};

/* The first call decides. */
void doctor_verdict(struct doctor *d, const char *code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
void doctor_evidence(struct doctor *d, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void doctor_advice(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* "CODE: what is also amiss". */
void doctor_note(struct doctor *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Finds a side on the bus, or says why it is not there. */
void doctor_find(struct doctor *d, struct side *side);
/* Whether a node is dead, stopped, or not quite on the bus. */
void doctor_node(struct doctor *d, const struct node_row *row);
/* What a node is doing, in a line of evidence. */
void doctor_activity(struct doctor *d, const struct node_row *row);
/* Nothing of the node has moved between the two samples. */
bool doctor_stands_still(const struct doctor *d, const struct node_row *row);
/* Rights and subscriptions. */
void doctor_event(struct doctor *d);
/* The ring, the pool and the losses between a and b. */
void doctor_link(struct doctor *d);
/* The same of every ring of the bus, when no nodes were named. */
void doctor_all_links(struct doctor *d);
/* Service, port, file system, systemd, seccomp. */
void doctor_around(struct doctor *d);
/* Whether a ring from `from` cannot be made for want of space. */
bool doctor_no_space(const struct doctor *d);

/* ---- /proc ---- */

struct process {
	bool exists;
	char state; /* R, S, D, T, t, Z, ... */
	uint32_t uid;
	uint32_t tracer;  /* 0: none */
	unsigned seccomp; /* 2: filtered */
	char command[32];
};
void process_look(uint32_t pid, struct process *process);

/* A bus file that a process has mapped. */
struct mapped {
	char path[512];
	bool deleted;
	uint64_t inode;
};
/* Fills up to capacity entries, one for each file; -1: may not look. */
int process_buses(uint32_t pid, struct mapped *list, int capacity);

#endif

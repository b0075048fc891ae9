/* shm-inspect-doctor-node.c: is a node on the bus, does it live, what does it do; events. */
#include "shm-inspect-doctor.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ---- not on the bus ---- */

/* The last owner of a free slot. */
static bool was_here(struct doctor *d, const struct side *side)
{
	struct ringbus_inspect_node n;
	for (uint32_t slot = 0; slot < d->header.nodes; slot++) {
		bool died;
		if (ringbus_inspect_slot(d->view->inspect, slot, &n) < 0)
			break;
		if (strcmp(ringbus_inspect_slot_state(n.state), "free") != 0 || n.generation == 0 ||
		    n.ended_generation != n.generation ||
		    !who_is(&side->who, slot, n.generation, n.former_pid, n.name))
			continue;
		died = strcmp(ringbus_inspect_slot_state(n.ended_state), "dead") == 0;
		doctor_evidence(d, "slot %u, generation %u, was of process %u%s%s: it %s", slot,
				n.generation, n.former_pid, n.name[0] ? ", name " : "", n.name,
				died ? "died" : "left");
		doctor_verdict(d, died ? "dead" : "left", "%s %s", side->who.text,
			       died ? "has died" : "has left the bus");
		doctor_advice(d, "start it again");
		return true;
	}
	return false;
}

static void search_bus(struct doctor *d, const struct side *side,
		       const struct ringbus_inspect_place *place)
{
	struct ringbus_inspect_node n;
	struct ringbus_inspect *other;
	uint32_t cursor = 0;
	if (ringbus_inspect_open(&other, place->port, place->directory) < 0)
		return;
	while (ringbus_inspect_node_next(other, &cursor, &n) > 0) {
		/* a slot number means nothing there */
		if (strcmp(n.name, side->who.name) != 0 &&
		    (side->who.pid == NEVER || n.pid != side->who.pid))
			continue;
		doctor_evidence(d, "%s/%u.bus has it in slot %u (process %u)", place->directory,
				place->port, n.slot, n.pid);
		doctor_verdict(d, "other-bus", "%s is on another bus, with port %u", side->who.text,
			       place->port);
		doctor_advice(d, "give both the same RINGBUS_PORT and RINGBUS_DIR");
	}
	ringbus_inspect_close(other);
}

static void search_other_buses(struct doctor *d, const struct side *side)
{
	int n = ringbus_inspect_list(NULL, 0, NULL);
	size_t capacity = n > 0 ? (size_t)n + 8 : 1;
	struct ringbus_inspect_place *places = calloc(capacity, sizeof *places);
	char path[600];
	n = places ? ringbus_inspect_list(places, capacity, NULL) : 0;
	for (size_t i = 0; n > 0 && i < (size_t)n && i < capacity; i++) {
		snprintf(path, sizeof path, "%s/%u.bus", places[i].directory, places[i].port);
		if (strcmp(path, d->where) != 0)
			search_bus(d, side, &places[i]);
	}
	free(places);
}

/* A process that runs, but has no slot here. */
static void running_elsewhere(struct doctor *d, const struct side *side, uint32_t pid)
{
	struct process p;
	struct mapped list[8];
	int n;
	process_look(pid, &p);
	if (!p.exists) {
		doctor_evidence(d, "there is no process %u", pid);
		doctor_verdict(d, "no-process", "there is no process %u, nor a node with this name",
			       pid);
		return;
	}
	doctor_evidence(d, "process %u (%s) runs, of user %u", pid, p.command, p.uid);
	n = process_buses(pid, list, (int)COUNT_OF(list));
	for (int i = 0; i < n; i++)
		doctor_evidence(d, "it has %s mapped%s", list[i].path,
				list[i].deleted				? ", which is deleted"
				: list[i].inode == d->header.file_inode ? ", the region looked at"
									: "");
	if (p.uid != d->header.file_uid) {
		doctor_verdict(d, "other-user", "%s is of user %u, the bus of user %u",
			       side->who.text, p.uid, d->header.file_uid);
		doctor_advice(d, "run both as one user, or share a bus with a group (ringbusd "
				 "--group)");
		return;
	}
	for (int i = 0; i < n; i++) {
		if (list[i].inode == d->header.file_inode)
			continue;
		doctor_verdict(d,
			       strcmp(list[i].path, d->where) == 0 ? "other-region" : "other-bus",
			       strcmp(list[i].path, d->where) == 0
				       ? "%s is on a region of this port that was deleted"
				       : "%s is on another bus",
			       side->who.text);
		doctor_advice(d,
			      "start it again with the RINGBUS_PORT and RINGBUS_DIR of this bus");
	}
}

/* Processes that still have a deleted region of this port mapped. */
static void search_deleted(struct doctor *d, const struct side *side)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	struct mapped list[8];
	while (proc && (entry = readdir(proc)) != NULL) {
		uint64_t pid;
		int n;
		if (!cli_parse_u64(entry->d_name, 1, UINT32_MAX, &pid))
			continue;
		n = process_buses((uint32_t)pid, list, (int)COUNT_OF(list));
		for (int i = 0; i < n; i++) {
			if (strcmp(list[i].path, d->where) != 0 ||
			    list[i].inode == d->header.file_inode)
				continue;
			doctor_evidence(d, "process %" PRIu64 " has a deleted %s mapped", pid,
					list[i].path);
			doctor_verdict(d, "other-region",
				       "%s is not on the bus; a region of this port was deleted "
				       "under processes that still use it",
				       side->who.text);
			doctor_advice(d, "start those processes again");
		}
	}
	if (proc)
		closedir(proc);
}

/* Why a process could not have joined. */
static void cannot_join(struct doctor *d, const struct side *side)
{
	char who[160], service[40];
	uint32_t uid;
	if (d->copy || !d->header.this_boot)
		return;
	snprintf(service, sizeof service, "process %" PRIu64 " ", d->header.service_pid);
	if (ringbus_inspect_port(d->header.port, who, sizeof who, &uid) == 1 &&
	    strncmp(who, service, strlen(service)) != 0 &&
	    (!d->header.service_running || strncmp(who, "process ", 8) == 0)) {
		doctor_evidence(d, "port %u is held by %s", d->header.port, who);
		doctor_verdict(d, "port-stranger",
			       "%s is not on the bus, and cannot join: a stranger holds the port",
			       side->who.text);
		doctor_advice(d, "end that program, or run the bus on another port");
	} else if (!d->header.service_running) {
		doctor_evidence(d, "no ringbusd serves port %u", d->header.port);
		doctor_verdict(d, "service-down",
			       "%s is not on the bus, and cannot join: the service does not run",
			       side->who.text);
		doctor_advice(d, "start ringbusd; it takes over the living region");
	}
}

static const struct node_row *row_of(const struct doctor *d, const struct who *who)
{
	for (size_t i = 0; i < d->second->node_count; i++) {
		const struct ringbus_inspect_node *n = &d->second->nodes[i].n;
		if (who_is(who, n->slot, n->generation, n->pid, n->name))
			return &d->second->nodes[i];
	}
	return NULL;
}

void doctor_find(struct doctor *d, struct side *side)
{
	who_settle(&side->who, d->second);
	side->row = row_of(d, &side->who);
	if (side->row || was_here(d, side))
		return;
	search_other_buses(d, side);
	if (!d->code && side->who.pid != NEVER && !d->copy)
		running_elsewhere(d, side, (uint32_t)side->who.pid);
	if (!d->code && side->who.pid == NEVER && !d->copy)
		search_deleted(d, side);
	if (!d->code)
		cannot_join(d, side);
	doctor_verdict(d, "not-joined", "%s is not on this bus", side->who.text);
	for (size_t i = 0; i < d->second->node_count && i < 8; i++)
		doctor_evidence(d, "on it is %s (slot %u, process %u)", d->second->nodes[i].label,
				d->second->nodes[i].n.slot, d->second->nodes[i].n.pid);
	if (d->advice.count == 0)
		doctor_advice(d, "compare its name, RINGBUS_PORT and RINGBUS_DIR; is it started?");
}

/* ---- on the bus ---- */

static void look_at_process(struct doctor *d, const struct node_row *row)
{
	const struct ringbus_inspect_node *n = &row->n;
	struct mapped list[8];
	struct process p;
	bool ours = false;
	int count;
	if (n->process == RINGBUS_INSPECT_GONE) {
		doctor_evidence(d, "process %u does not exist any more, or is another one by now",
				n->pid);
		doctor_verdict(d, "dead", "%s has died", row->label);
		doctor_advice(d, d->header.service_running
					 ? "start it again; its slot is about to be freed"
					 : "start it again, and ringbusd, which frees its slot");
		return;
	}
	if (n->process != RINGBUS_INSPECT_RUNNING)
		return;
	process_look(n->pid, &p);
	if (p.state == 'T' || p.state == 't') {
		doctor_evidence(d, "/proc/%u/status says %c%s", n->pid, p.state,
				p.state == 't' ? " (a debugger)" : " (SIGSTOP)");
		doctor_activity(d, row);
		doctor_verdict(d, "stopped", "%s is stopped", row->label);
		if (p.state == 't')
			doctor_advice(d, "let it go on in the debugger, process %u", p.tracer);
		else
			doctor_advice(d, "let it go on: kill -CONT %u", n->pid);
		return;
	}
	count = d->copy ? -1 : process_buses(n->pid, list, (int)COUNT_OF(list));
	for (int i = 0; i < count; i++)
		ours |= list[i].inode == d->header.file_inode;
	if (count > 0 && !ours) {
		for (int i = 0; i < count; i++)
			doctor_evidence(d, "process %u has %s mapped%s", n->pid, list[i].path,
					list[i].deleted ? ", which is deleted" : "");
		doctor_verdict(d, "other-region", "%s uses another region than this file",
			       row->label);
		doctor_advice(d, "start it again");
	}
}

void doctor_node(struct doctor *d, const struct node_row *row)
{
	const char *state = row->state ? row->state : "unknown";
	look_at_process(d, row);
	if (d->code || strcmp(state, "live") == 0)
		return;
	doctor_evidence(d, "slot %u is %s", row->n.slot, state);
	if (strcmp(state, "granted") == 0 || strcmp(state, "joining") == 0)
		doctor_verdict(d, "joining", "%s has not joined completely", row->label);
	else if (strcmp(state, "dead") == 0)
		doctor_verdict(d, "dead", "%s has died", row->label);
	else
		doctor_verdict(d, "left", "%s has left the bus", row->label);
	doctor_advice(d, "look again in a moment; then start it again");
}

bool doctor_stands_still(const struct doctor *d, const struct node_row *row)
{
	const struct node_row *old = sample_node(d->first, row->n.slot);
	return d->header.live && old && old->n.generation == row->n.generation &&
	       old->n.received == row->n.received && old->n.dispatches == row->n.dispatches;
}

void doctor_activity(struct doctor *d, const struct node_row *row)
{
	char text[64] = "";
	if (row->n.in_handler) {
		if (row->handler_ns != NEVER)
			format_time(row->handler_ns, text, sizeof text);
		doctor_evidence(d, "%s is in its handler of %s%s%s", row->label, row->handler,
				*text ? " for " : "", text);
	} else if (row->n.inbox_asleep) {
		doctor_evidence(d, "%s sleeps and waits for messages", row->label);
	} else if (doctor_stands_still(d, row)) {
		doctor_evidence(d, "%s has not looked for messages in the last %llu ms", row->label,
				(unsigned long long)((d->second->now_ns - d->first->now_ns) /
						     1000000));
	}
	if (row->unread)
		doctor_evidence(d, "%" PRIu64 " messages wait for it in all", row->unread);
}

/* ---- the event ---- */

static bool has_bit(const uint64_t *mask, uint32_t slot)
{
	return slot < SLOTS && mask[slot / 64] >> slot % 64 & 1;
}

/* No live entry has this name. */
static void event_missing(struct doctor *d)
{
	struct ringbus_inspect_event e;
	for (uint32_t i = 0; i < d->header.events; i++) {
		if (ringbus_inspect_event_entry(d->view->inspect, i, &e) < 0)
			break;
		if (strcmp(ringbus_inspect_event_state(e.state), "free") != 0 ||
		    strcmp(e.name, d->event) != 0)
			continue;
		doctor_evidence(d, "entry %u of the table had it (generation %u before it ended)",
				i, e.generation - 1);
		doctor_verdict(d, "dissolved", "event %s was dissolved, or its last member left",
			       d->event);
		doctor_advice(d, "create it again, then subscribe again");
		return;
	}
	doctor_verdict(d, "no-event", "there is no event %s", d->event);
	for (size_t i = 0; i < d->second->event_count && i < 8; i++)
		doctor_evidence(d, "there is %s (%s, %s)", d->second->events[i].e.name,
				d->second->events[i].mode, d->second->events[i].state);
	doctor_advice(d, "create it, or compare the names");
}

static void event_not_live(struct doctor *d, const struct event_row *row)
{
	bool waits = has_bit(row->e.deliver, d->b.row->n.slot);
	doctor_evidence(d, "event %s is %s, with %" PRIu64 " subscribers%s%s", d->event, row->state,
			row->receivers, waits ? ", among them " : "", waits ? d->b.row->label : "");
	if (strcmp(row->state, "pending") == 0)
		doctor_verdict(d, "pending", "event %s is subscribed to, but nobody has created it",
			       d->event);
	else
		doctor_verdict(d, "orphan", "the creator of event %s has left or died", d->event);
	doctor_advice(d, "let %s create it (ringbus_event_create); subscriptions stay",
		      d->a.row->label);
}

static void event_rights(struct doctor *d, const struct event_row *row)
{
	uint32_t a = d->a.row->n.slot;
	if (strcmp(row->mode, "single") == 0) {
		if (row->owner_slot == a && row->owner_generation == d->a.row->n.generation)
			return;
		doctor_evidence(d, "event %s is SINGLE, and its creator is %s (slot %" PRIu64 ")",
				d->event, row->owner ? row->owner : "gone", row->owner_slot);
		doctor_verdict(d, "no-right", "%s may not emit %s: only its creator may",
			       d->a.row->label, d->event);
		doctor_advice(d, "let its creator emit it, or create it as MULTI");
	} else if (!has_bit(row->e.members, a)) {
		doctor_evidence(d,
				"event %s is MULTI, and slot %u is not among its %" PRIu64
				" members",
				d->event, a, row->emitters);
		doctor_verdict(d, "no-right", "%s may not emit %s: it is no member",
			       d->a.row->label, d->event);
		doctor_advice(d, "let it subscribe (emit_only, if it wants no messages)");
	}
}

void doctor_event(struct doctor *d)
{
	const struct event_row *row = NULL;
	for (size_t i = 0; i < d->second->event_count; i++)
		if (strcmp(d->second->events[i].e.name, d->event) == 0)
			row = &d->second->events[i];
	if (!row) {
		event_missing(d);
		return;
	}
	if (strcmp(row->state, "live") != 0) {
		event_not_live(d, row);
		return;
	}
	event_rights(d, row);
	if (d->code || has_bit(row->e.deliver, d->b.row->n.slot))
		return;
	doctor_evidence(d, "event %s has %" PRIu64 " subscribers, and slot %u is not among them",
			d->event, row->receivers, d->b.row->n.slot);
	doctor_verdict(d, "not-subscribed", "%s is not subscribed to %s", d->b.row->label,
		       d->event);
	doctor_advice(d, "let it subscribe");
}

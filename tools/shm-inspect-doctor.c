/* shm-inspect-doctor.c: the verb doctor: finds the bus, asks in order, says the verdict. */
#include "shm-inspect-doctor.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define MOMENT_NS 250000000 /* between the two samples */

/* ---- what was found ---- */

void doctor_verdict(struct doctor *d, const char *code, const char *format, ...)
{
	va_list arguments;
	if (d->code)
		return;
	d->code = code;
	va_start(arguments, format);
	vsnprintf(d->verdict, sizeof d->verdict, format, arguments);
	va_end(arguments);
}

static void add_line(struct lines *lines, const char *format, va_list arguments)
{
	if (lines->count < DOCTOR_LINES)
		vsnprintf(lines->text[lines->count++], DOCTOR_LINE, format, arguments);
}

void doctor_evidence(struct doctor *d, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	add_line(&d->evidence, format, arguments);
	va_end(arguments);
}

void doctor_advice(struct doctor *d, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	add_line(&d->advice, format, arguments);
	va_end(arguments);
}

void doctor_note(struct doctor *d, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	add_line(&d->notes, format, arguments);
	va_end(arguments);
}

/* ---- finding the bus ---- */

static unsigned wanted_port(const struct view *view)
{
	return view->port ? view->port : RINGBUS_DEFAULT_PORT;
}

/* All buses that this user would find; frees nothing that it gave. */
static struct ringbus_inspect_place *list_buses(const char *directory, size_t *count)
{
	int n = ringbus_inspect_list(NULL, 0, directory);
	size_t capacity = n > 0 ? (size_t)n + 8 : 1;
	struct ringbus_inspect_place *places = calloc(capacity, sizeof *places);
	n = places ? ringbus_inspect_list(places, capacity, directory) : 0;
	*count = n < 0 ? 0 : (size_t)n < capacity ? (size_t)n : capacity;
	return places;
}

static void find_where(struct doctor *d)
{
	struct ringbus_inspect_place *places;
	unsigned port = wanted_port(d->view);
	size_t count;
	if (d->view->file) {
		snprintf(d->where, sizeof d->where, "%s", d->view->file);
		return;
	}
	if (d->view->directory) {
		snprintf(d->where, sizeof d->where, "%s/%u.bus", d->view->directory, port);
		return;
	}
	places = list_buses(NULL, &count);
	for (size_t i = 0; i < count && !d->where[0]; i++)
		if (places[i].port == port)
			snprintf(d->where, sizeof d->where, "%s/%u.bus", places[i].directory, port);
	free(places);
}

static void other_buses(struct doctor *d)
{
	size_t count;
	struct ringbus_inspect_place *places = list_buses(NULL, &count);
	for (size_t i = 0; i < count; i++)
		doctor_evidence(d, "there is a bus %s/%u.bus", places[i].directory, places[i].port);
	free(places);
}

/* A side that was given by its pid may tell where it is. */
static void side_elsewhere(struct doctor *d, const struct side *side)
{
	struct mapped list[8];
	int n;
	if (!side->who.text || side->who.pid == NEVER)
		return;
	n = process_buses((uint32_t)side->who.pid, list, (int)COUNT_OF(list));
	for (int i = 0; i < n; i++)
		doctor_evidence(d, "process %s has %s mapped%s", side->who.text, list[i].path,
				list[i].deleted ? ", which is deleted" : "");
}

static void no_bus(struct doctor *d, int error)
{
	const char *detail = ringbus_error_detail();
	unsigned port = wanted_port(d->view);
	char who[160];
	uint32_t uid;
	doctor_evidence(d, "%s", *detail ? detail : ringbus_strerror(error));
	side_elsewhere(d, &d->a);
	side_elsewhere(d, &d->b);
	if (error == -EACCES || error == -EPERM) {
		doctor_verdict(d, "other-user", "the bus belongs to another user");
		doctor_advice(d,
			      "run as that user, or share the bus with a group (ringbusd --group)");
		return;
	}
	if (error != -ENOENT) {
		doctor_verdict(d, "no-bus", "the region cannot be opened");
		return;
	}
	if (!d->copy && ringbus_inspect_port(port, who, sizeof who, &uid) == 1) {
		doctor_verdict(d, "port-held",
			       "there is no bus with port %u here, and its port is held by %s",
			       port, who);
		doctor_advice(d, "if that is its ringbusd, it serves another directory: compare "
				 "RINGBUS_DIR; else take another port");
	} else {
		doctor_verdict(d, "no-bus", "there is no bus with port %u", port);
		doctor_advice(d, "start ringbusd, or compare RINGBUS_PORT and RINGBUS_DIR of all");
	}
	other_buses(d);
}

/* ---- the whole examination ---- */

/* The layout of a region, before anything in it is believed. */
static void examine_header(struct doctor *d)
{
	const struct ringbus_inspect_header *h = &d->header;
	if (region_is_cut(h)) {
		doctor_evidence(d,
				"%s has %" PRIu64 " bytes, the fixed part of this bus alone has "
				"%" PRIu64,
				d->where, h->file_bytes, h->fixed_bytes);
		doctor_verdict(d, "damaged", "the region file was truncated");
		doctor_advice(d, d->copy ? "copy it again, whole"
					 : "end all processes of the bus and start it again");
	}
	if (h->valid)
		return;
	doctor_evidence(d, "%s: %s", d->where, h->why);
	if (strstr(h->why, "layout")) {
		doctor_evidence(d,
				"its layout has number %u and signature 0x%016" PRIx64
				"; this program knows number %u",
				h->version, h->signature, h->own_version);
		doctor_verdict(d, "layout", "the region was made by another version of ringbus");
		doctor_advice(d, "end the processes of the old version, or run the new one on "
				 "another port");
	} else if (region_is_none(h)) {
		doctor_verdict(d, "damaged", "this is no region of a bus");
	} else {
		doctor_verdict(d, "damaged", "the header of the region is damaged");
		doctor_advice(d, "end all processes of the bus and start it again; shm-inspect "
				 "check says more");
	}
}

#define DAMAGES_SHOWN 3u

struct damage {
	unsigned errors;
	char text[DAMAGES_SHOWN][DOCTOR_LINE];
};

static void keep_error(const struct ringbus_inspect_finding *finding, void *user)
{
	struct damage *damage = user;
	if (finding->severity != RINGBUS_INSPECT_ERROR)
		return;
	if (damage->errors < DAMAGES_SHOWN)
		snprintf(damage->text[damage->errors], DOCTOR_LINE, "%s", finding->text);
	damage->errors++;
}

/* What the check finds: the verdict if there is none yet. */
static void examine_whole(struct doctor *d)
{
	struct damage damage = {0};
	if (ringbus_inspect_check(d->view->inspect, keep_error, &damage) <= 0)
		return;
	if (d->code) {
		doctor_note(d, "damaged: %s%s", damage.text[0],
			    damage.errors > 1 ? ", and more; see shm-inspect check" : "");
		return;
	}
	doctor_verdict(d, "damaged", "the region holds what cannot be");
	for (unsigned i = 0; i < damage.errors && i < DAMAGES_SHOWN; i++)
		doctor_evidence(d, "%s", damage.text[i]);
	doctor_advice(d,
		      d->copy ? "shm-inspect check says more; if the copy was cut short, copy it "
				"again"
			      : "shm-inspect check says more; what is damaged starts anew or is "
				"refused, the rest goes on");
}

static void examine_pair(struct doctor *d)
{
	doctor_find(d, &d->a);
	if (!d->code)
		doctor_find(d, &d->b);
	if (d->code)
		return;
	if (d->a.row == d->b.row) {
		doctor_verdict(d, "same-node", "%s and %s are the same node", d->a.who.text,
			       d->b.who.text);
		doctor_advice(d, "an emission never comes back to its own node");
		return;
	}
	doctor_node(d, d->a.row);
	if (!d->code)
		doctor_node(d, d->b.row);
	if (!d->code && d->event)
		doctor_event(d);
	if (!d->code)
		doctor_link(d);
}

static void examine(struct doctor *d)
{
	struct view *view = d->view;
	unsigned parts = SAMPLE_RINGS | SAMPLE_EVENTS;
	int r;
	examine_header(d);
	if (!d->header.usable || region_is_cut(&d->header))
		return;
	r = sample_take(view->inspect, parts, NULL, &d->first);
	if (r == 0 && d->header.live)
		sleep_ns(MOMENT_NS);
	if (r == 0)
		r = sample_take(view->inspect, parts | SAMPLE_POOLS, d->first, &d->second);
	if (r < 0 || !d->second) {
		doctor_verdict(d, "damaged", "the region cannot be read: %s",
			       ringbus_error_detail());
		return;
	}
	if (d->code)
		return;
	if (d->a.who.text) {
		examine_pair(d);
	} else {
		if (d->copy)
			examine_whole(d); /* what was copied badly says nothing else */
		if (!d->code)
			doctor_all_links(d);
	}
	if (!d->code || strcmp(d->code, "damaged") != 0)
		examine_whole(d);
	doctor_around(d);
}

/* ---- saying it ---- */

static void json_lines(struct cli_json *out, const char *key, const struct lines *lines)
{
	cli_json_array(out, key);
	for (size_t i = 0; i < lines->count; i++)
		cli_json_string(out, NULL, lines->text[i]);
	cli_json_close(out);
}

static void json_side(struct cli_json *out, const char *key, const struct side *side)
{
	const struct ringbus_inspect_node *n = side->row ? &side->row->n : NULL;
	if (!side->who.text) {
		cli_json_null(out, key);
		return;
	}
	cli_json_object(out, key);
	cli_json_string(out, "given", side->who.text);
	cli_json_bool(out, "on_bus", n != NULL);
	if (n) {
		cli_json_u64(out, "slot", n->slot);
		cli_json_u64(out, "generation", n->generation);
		cli_json_u64(out, "pid", n->pid);
		cli_json_string(out, "name", n->name[0] ? n->name : NULL);
	}
	cli_json_close(out);
}

static void say_json(struct doctor *d)
{
	struct cli_json *out = &d->view->out;
	view_json_begin(d->view);
	cli_json_string(out, "verdict", d->code);
	cli_json_bool(out, "ok", strcmp(d->code, "ok") == 0);
	cli_json_string(out, "text", d->verdict);
	cli_json_string(out, "region", d->where[0] ? d->where : NULL);
	json_side(out, "from", &d->a);
	json_side(out, "to", &d->b);
	cli_json_string(out, "event", d->event);
	json_lines(out, "evidence", &d->evidence);
	json_lines(out, "advice", &d->advice);
	json_lines(out, "notes", &d->notes);
	cli_json_end(out);
}

static void say_lines(const char *title, const struct lines *lines)
{
	for (size_t i = 0; i < lines->count; i++) {
		printf("%-9s ", i == 0 ? title : "");
		print_text(lines->text[i]);
		putchar('\n');
	}
}

static void say(struct doctor *d)
{
	bool ok = strcmp(d->code, "ok") == 0;
	printf("%s%s%s: ", cli_colour(ok ? CLI_GREEN : CLI_RED), d->code, cli_colour(CLI_PLAIN));
	print_text(d->verdict);
	putchar('\n');
	say_lines("evidence", &d->evidence);
	say_lines("do", &d->advice);
	say_lines("also", &d->notes);
}

int verb_doctor(struct view *view)
{
	struct doctor *d = calloc(1, sizeof *d);
	int status, r;
	if (!d)
		return cli_error("not enough memory");
	if (view->operand_count == 1) {
		free(d);
		return cli_usage_error("name both sides: doctor A B");
	}
	d->view = view;
	d->copy = view->file != NULL;
	if (view->operand_count >= 2) {
		who_parse(&d->a.who, view->operands[0]);
		who_parse(&d->b.who, view->operands[1]);
	}
	d->event = view->operand_count > 2 ? view->operands[2] : NULL;
	find_where(d);
	if (view->verbose && d->where[0])
		cli_note("looking at %s", d->where);
	r = view->file ? ringbus_inspect_open_path(&view->inspect, view->file)
		       : ringbus_inspect_open(&view->inspect, view->port, view->directory);
	if (r < 0)
		no_bus(d, r);
	else if (ringbus_inspect_header(view->inspect, &d->header) == 0)
		examine(d);
	doctor_verdict(d, "ok", "nothing stands in the way");
	if (view->json)
		say_json(d);
	else
		say(d);
	status = r == -ENOENT ? CLI_MISSING : strcmp(d->code, "ok") == 0 ? CLI_OK : CLI_FAILED;
	ringbus_inspect_close(view->inspect);
	sample_free(d->first);
	sample_free(d->second);
	free(d);
	return status;
}

/* shm-inspect-tap-show.c: one message as a line, or as an object. */
#include "shm-inspect-tap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define END_NS 100000000 /* how long the owner of a slot is believed */

const struct ringbus_inspect_node *tap_end(struct tap *tap, uint32_t slot)
{
	struct tap_end *end = slot < SLOTS ? &tap->ends[slot] : NULL;
	uint64_t now = cli_now_ns();
	if (!end)
		return NULL;
	if (end->taken_ns != 0 && now - end->taken_ns < END_NS)
		return &end->node;
	if (ringbus_inspect_slot(tap->view->inspect, slot, &end->node) < 0)
		return NULL;
	end->taken_ns = now;
	return &end->node;
}

/* The owner with this generation: present, or the one before in a free slot. */
static const struct ringbus_inspect_node *owner(struct tap *tap, uint32_t slot, uint32_t generation)
{
	const struct ringbus_inspect_node *node = tap_end(tap, slot);
	return node && node->generation == generation ? node : NULL;
}

static uint32_t owner_pid(const struct ringbus_inspect_node *node)
{
	return !node ? 0 : node->pid ? node->pid : node->former_pid;
}

static bool side_matches(struct tap *tap, const struct who *who, uint32_t slot, uint32_t generation)
{
	const struct ringbus_inspect_node *node;
	if (!who->text)
		return true;
	node = owner(tap, slot, generation);
	return who_is(who, slot, generation, owner_pid(node),
		      node && node->name[0] ? node->name : NULL);
}

/* Name of an event; false when the entry has another by now. */
static bool event_name(struct tap *tap, const struct ringbus_inspect_message *m,
		       char out[LABEL_BYTES])
{
	struct ringbus_inspect_event e;
	out[0] = 0;
	if (ringbus_inspect_event_entry(tap->view->inspect, m->event, &e) < 0)
		return false;
	/* Freeing adds one to the generation and leaves the name. */
	if (e.generation != m->event_generation &&
	    !(e.generation == m->event_generation + 1 &&
	      strcmp(ringbus_inspect_event_state(e.state), "free") == 0))
		return false;
	snprintf(out, LABEL_BYTES, "%s", e.name);
	return true;
}

bool tap_wants(struct tap *tap, const struct ringbus_inspect_message *m)
{
	char name[LABEL_BYTES];
	/* gaps have no owner: the link was chosen already */
	if (m->state >= RINGBUS_INSPECT_OVERWRITTEN)
		return true;
	if (!side_matches(tap, &tap->from, m->from, m->from_generation) ||
	    !side_matches(tap, &tap->to, m->to, m->to_generation))
		return false;
	if (!tap->view->event)
		return true;
	return m->kind == RINGBUS_EVENT && event_name(tap, m, name) &&
	       strcmp(name, tap->view->event) == 0;
}

/* ---- text ---- */

static void format_moment(const struct tap *tap, uint64_t ns, char *out, size_t capacity)
{
	time_t seconds;
	struct tm tm;
	if (!tap->this_boot) {
		snprintf(out, capacity, "@%.6f", (double)ns / 1e9);
		return;
	}
	ns += (uint64_t)tap->realtime_ns;
	seconds = (time_t)(ns / 1000000000);
	if (!localtime_r(&seconds, &tm))
		memset(&tm, 0, sizeof tm);
	snprintf(out, capacity, "%02d:%02d:%02d.%06u", tm.tm_hour, tm.tm_min, tm.tm_sec,
		 (unsigned)(ns % 1000000000 / 1000));
}

static void format_when(const struct tap *tap, struct tap_when when, char *out, size_t capacity)
{
	char text[40];
	if (when.after_ns == 0 && when.before_ns == NEVER) {
		snprintf(out, capacity, "?");
		return;
	}
	format_moment(tap, when.after_ns ? when.after_ns : when.before_ns, text, sizeof text);
	if (when.after_ns == 0)
		snprintf(out, capacity, "<%s", text);
	else if (when.before_ns == NEVER)
		snprintf(out, capacity, ">%s", text);
	else if (when.before_ns <= when.after_ns)
		snprintf(out, capacity, "%s", text);
	else
		snprintf(out, capacity, "%s+%.6f", text,
			 (double)(when.before_ns - when.after_ns) / 1e9);
}

static void end_label(struct tap *tap, uint32_t slot, uint32_t generation, char out[LABEL_BYTES])
{
	const struct ringbus_inspect_node *node = owner(tap, slot, generation);
	if (node && node->name[0])
		snprintf(out, LABEL_BYTES, "%s", node->name);
	else if (owner_pid(node))
		snprintf(out, LABEL_BYTES, "pid %u", owner_pid(node));
	else
		snprintf(out, LABEL_BYTES, "%u:%u", slot, generation);
}

static void print_hex(const uint8_t *data, size_t size)
{
	for (size_t i = 0; i < size; i += 16) {
		char text[17] = "";
		size_t n = size - i < 16 ? size - i : 16;
		printf("    %06zx ", i);
		for (size_t k = 0; k < 16; k++) {
			if (k < n)
				printf(" %02x", data[i + k]);
			else
				fputs("   ", stdout);
			if (k < n)
				text[k] = data[i + k] >= 0x20 && data[i + k] < 0x7f
						  ? (char)data[i + k]
						  : '.';
		}
		printf("  %s\n", text);
	}
}

static void print_payload(struct tap *tap, const struct ringbus_inspect_message *m)
{
	const char *more = m->copied < m->size ? "..." : "";
	char *text;
	if (tap->view->format == FORMAT_NONE) {
		putchar('\n');
	} else if (tap->view->format == FORMAT_HEX) {
		putchar('\n');
		print_hex(tap->buffer, m->copied);
		if (*more)
			printf("    %s\n", more);
	} else {
		text = malloc(m->copied + 1);
		if (text)
			clean_text(text, (const char *)tap->buffer, m->copied, '.');
		printf("  %s%s\n", text ? text : "?", more);
		free(text);
	}
}

static void show_gap(struct tap *tap, const struct ringbus_inspect_message *m)
{
	const struct ringbus_inspect_node *from = tap_end(tap, m->from), *to = tap_end(tap, m->to);
	char a[LABEL_BYTES], b[LABEL_BYTES];
	end_label(tap, m->from, from ? from->generation : 0, a);
	end_label(tap, m->to, to ? to->generation : 0, b);
	fputs(cli_colour(CLI_YELLOW), stdout);
	print_text(a);
	fputs(" -> ", stdout);
	print_text(b);
	printf("  %s: %" PRIu64 " bytes of the ring%s\n",
	       m->state == RINGBUS_INSPECT_DAMAGED ? "damaged" : "overwritten", m->skipped_bytes,
	       cli_colour(CLI_PLAIN));
}

static void show_line(struct tap *tap, const struct ringbus_inspect_message *m,
		      struct tap_when when)
{
	char text[LABEL_BYTES], size[32];
	format_when(tap, when, text, sizeof text);
	printf("%s%-25s%s ", cli_colour(CLI_DIM), text, cli_colour(CLI_PLAIN));
	end_label(tap, m->from, m->from_generation, text);
	print_text(text);
	fputs(" -> ", stdout);
	end_label(tap, m->to, m->to_generation, text);
	print_text(text);
	fputs("  ", stdout);
	if (m->kind == RINGBUS_CONTACT)
		fputs("contact", stdout);
	else if (event_name(tap, m, text))
		print_text(text);
	else
		printf("event %u.%u", m->event, m->event_generation);
	printf("  %s%s", cli_format_size(size, sizeof size, m->size), m->unread ? "  unread" : "");
	if (m->has_drops)
		printf("  %s%" PRIu64 " lost so far%s", cli_colour(CLI_YELLOW), m->drops,
		       cli_colour(CLI_PLAIN));
	if (m->state == RINGBUS_INSPECT_DOUBTFUL)
		printf("  %sdoubtful%s", cli_colour(CLI_YELLOW), cli_colour(CLI_PLAIN));
	print_payload(tap, m);
}

/* ---- JSON ---- */

static void json_end(struct tap *tap, const char *side, uint32_t slot, uint32_t generation,
		     bool known)
{
	const struct ringbus_inspect_node *node = known ? owner(tap, slot, generation) : NULL;
	struct cli_json *out = &tap->view->out;
	cli_json_object(out, side);
	cli_json_u64(out, "slot", slot);
	if (known)
		cli_json_u64(out, "generation", generation);
	else
		cli_json_null(out, "generation");
	if (owner_pid(node))
		cli_json_u64(out, "pid", owner_pid(node));
	else
		cli_json_null(out, "pid");
	cli_json_string(out, "name", node && node->name[0] ? node->name : NULL);
	cli_json_close(out);
}

static void json_optional(struct cli_json *out, const char *key, uint64_t value, bool known)
{
	if (known)
		cli_json_u64(out, key, value);
	else
		cli_json_null(out, key);
}

static void json_event(struct tap *tap, const struct ringbus_inspect_message *m)
{
	struct cli_json *out = &tap->view->out;
	char name[LABEL_BYTES];
	if (m->kind == RINGBUS_CONTACT) {
		cli_json_null(out, "event");
		return;
	}
	cli_json_string(out, "event", event_name(tap, m, name) ? name : NULL);
	cli_json_u64(out, "event_index", m->event);
	cli_json_u64(out, "event_generation", m->event_generation);
}

static void json_message(struct tap *tap, const struct ringbus_inspect_message *m,
			 struct tap_when when)
{
	struct cli_json *out = &tap->view->out;
	bool after = when.after_ns != 0, before = when.before_ns != NEVER;
	json_event(tap, m);
	cli_json_bool(out, "unread", m->unread);
	cli_json_bool(out, "pooled", m->pooled);
	json_optional(out, "lost_so_far", m->drops, m->has_drops);
	json_optional(out, "stamp_ns", m->stamp_ns, m->stamp_ns != 0);
	json_optional(out, "after_ns", when.after_ns, after);
	json_optional(out, "before_ns", when.before_ns, before);
	json_optional(out, "after_realtime_ns", when.after_ns + (uint64_t)tap->realtime_ns,
		      after && tap->this_boot);
	json_optional(out, "before_realtime_ns", when.before_ns + (uint64_t)tap->realtime_ns,
		      before && tap->this_boot);
	cli_json_u64(out, "size", m->size);
	cli_json_bool(out, "truncated", m->copied < m->size);
	if (tap->view->format != FORMAT_NONE)
		cli_json_payload(out, tap->buffer, m->copied);
}

static void show_json(struct tap *tap, const struct ringbus_inspect_message *m,
		      struct tap_when when)
{
	static const char *const states[] = {"intact", "doubtful", "overwritten", "damaged"};
	struct view *view = tap->view;
	bool gap = m->state >= RINGBUS_INSPECT_OVERWRITTEN;
	char schema[64];
	snprintf(schema, sizeof schema, "shm-inspect.%s/1", view->verb);
	cli_json_begin(&view->out, stdout, schema, false);
	json_end(tap, "from", m->from, m->from_generation, !gap);
	json_end(tap, "to", m->to, m->to_generation, !gap);
	cli_json_u64(&view->out, "position", m->position);
	cli_json_string(&view->out, "state", states[m->state]);
	cli_json_string(&view->out, "kind",
			gap			     ? NULL
			: m->kind == RINGBUS_CONTACT ? "contact"
						     : "event");
	if (gap)
		cli_json_u64(&view->out, "skipped_bytes", m->skipped_bytes);
	else
		json_message(tap, m, when);
	cli_json_end(&view->out);
}

void tap_show(struct tap *tap, const struct ringbus_inspect_message *m, struct tap_when when)
{
	if (tap->view->json)
		show_json(tap, m, when);
	else if (m->state >= RINGBUS_INSPECT_OVERWRITTEN)
		show_gap(tap, m);
	else
		show_line(tap, m, when);
	if (m->state < RINGBUS_INSPECT_OVERWRITTEN)
		tap->shown++;
}

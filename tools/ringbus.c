/* ringbus.c: main of the command line tool, and the parsing that all verbs share. */
#include "ringbus-verbs.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct verb *const verbs[] = {
	&verb_emit,	   &verb_subscribe, &verb_contact, &verb_listen, &verb_signal,
	&verb_wait_signal, &verb_ls,	    &verb_hz,	   &verb_bw,	 &verb_latency,
	&verb_bench,	   &verb_top,	    &verb_doctor,
};

enum common_letter {
	LETTER_NO_AUTOSTART = 1000,
	LETTER_COLOUR,
	LETTER_VERSION,
};

static const struct verb_option bus_options[] = {
	{'p', "port", "PORT", "port of the bus (RINGBUS_PORT, else 54121)"},
	{'d', "directory", "DIR",
	 "directory of the bus (RINGBUS_DIR, else the first with this port)"},
	{0, NULL, NULL, NULL},
};

static const struct verb_option node_options[] = {
	{'n', "name", "NAME", "name of this node, unique on the bus (none)"},
	{LETTER_NO_AUTOSTART, "no-autostart", NULL, "do not start ringbusd when the bus has none"},
	{0, NULL, NULL, NULL},
};

static const struct verb_option common_options[] = {
	{'j', "json", NULL, "JSON on standard output"},
	{LETTER_COLOUR, "color", "WHEN", "auto (on a terminal, without NO_COLOR), always, never"},
	{'q', "quiet", NULL, "no notes on standard error"},
	{'v', "verbose", NULL, "more notes on standard error"},
	{'h', "help", NULL, "this text"},
	{LETTER_VERSION, "version", NULL, "the version"},
	{0, NULL, NULL, NULL},
};

#define OPTIONS_MAX 40 /* of a verb, common ones included */

/* All options of a verb, its own first. */
static size_t gather(const struct verb *verb, struct verb_option list[OPTIONS_MAX])
{
	const struct verb_option count = {'C', "count", "N", verb->count_help};
	const struct verb_option timeout = {'W', "timeout", "TIME", verb->timeout_help};
	const struct verb_option *const tables[] = {
		verb->options,
		verb->has_bus ? bus_options : NULL,
		verb->has_node ? node_options : NULL,
		common_options,
	};
	size_t n = 0;
	for (size_t t = 0; t < COUNT_OF(tables); t++) {
		for (const struct verb_option *o = tables[t]; o && o->letter && n < OPTIONS_MAX - 2;
		     o++)
			list[n++] = *o;
		if (t == 0 && count.help)
			list[n++] = count;
		if (t == 0 && timeout.help)
			list[n++] = timeout;
	}
	return n;
}

static void print_option(const struct verb_option *option)
{
	char left[64];
	const char *space = option->argument ? " " : "";
	const char *argument = option->argument ? option->argument : "";
	if (option->letter < 256)
		snprintf(left, sizeof left, "-%c, --%s%s%s", option->letter, option->name, space,
			 argument);
	else
		snprintf(left, sizeof left, "    --%s%s%s", option->name, space, argument);
	printf("  %-26s %s\n", left, option->help);
}

static void print_verb_help(const struct verb *verb)
{
	struct verb_option list[OPTIONS_MAX];
	size_t n = gather(verb, list);
	printf("Usage: ringbus %s [OPTION]...%s%s\n%c%s.\n", verb->name, *verb->operands ? " " : "",
	       verb->operands, verb->help[0] & ~0x20, verb->help + 1);
	if (verb->more)
		printf("\n%s\n", verb->more);
	puts("\nOptions:");
	for (size_t i = 0; i < n; i++)
		print_option(&list[i]);
	puts("\nExit status: 0 done, 1 failed, 2 usage, 3 no such bus, event or node, 4 timed "
	     "out,\n"
	     "5 messages lost (--strict).");
	printf("\nExamples:\n%s", verb->examples);
}

static void print_help(void)
{
	puts("Usage: ringbus VERB [OPTION]... [OPERAND]...\n"
	     "Talks on a ringbus, the shared-memory bus between processes of one machine.\n\n"
	     "Verbs:");
	for (size_t i = 0; i < COUNT_OF(verbs); i++)
		printf("  %-12s %s\n", verbs[i]->name, verbs[i]->help);
	puts("\nOptions:");
	print_option(&common_options[COUNT_OF(common_options) - 3]);
	print_option(&common_options[COUNT_OF(common_options) - 2]);
	puts("\n\"ringbus VERB --help\" lists the options of a verb.\n\n"
	     "Exit status: 0 done, 1 failed, 2 usage, 3 no such bus, event or node, 4 timed out,\n"
	     "5 messages lost (--strict). Ctrl-C ends a verb that has no end of its own with 0.\n\n"
	     "Examples:\n"
	     "  $ ringbus subscribe news &\n"
	     "  $ ringbus emit news \"hello\" --wait-subscribers 1\n"
	     "  $ ringbus ls");
}

/* What getopt_long() wants. */
static void for_getopt(const struct verb_option *from, size_t n, struct option *list, char *letters)
{
	*letters++ = ':';
	for (size_t i = 0; i < n; i++) {
		list[i] = (struct option){from[i].name,
					  from[i].argument ? required_argument : no_argument, NULL,
					  from[i].letter};
		if (from[i].letter > 255)
			continue;
		*letters++ = (char)from[i].letter;
		if (from[i].argument)
			*letters++ = ':';
	}
	*letters = 0;
	list[n] = (struct option){0};
}

bool call_name_valid(struct call *call, const char *name, const char *what)
{
	size_t size = strlen(name);
	if (size == 0)
		call->status = cli_usage_error("%s needs a name", what);
	else if (size > RINGBUS_NAME_MAX || !cli_utf8_valid(name, size))
		call->status = cli_usage_error("the name of %s is UTF-8 of at most %d bytes", what,
					       RINGBUS_NAME_MAX);
	return call->status == CLI_OK;
}

bool call_events_valid(struct call *call)
{
	for (int i = 0; i < call->argc; i++)
		if (!call_name_valid(call, call->argv[i], "an event"))
			return false;
	return true;
}

/* Others could not address a node whose name reads as something else. */
static void take_name(struct call *call)
{
	uint32_t slot, generation;
	call->name = optarg;
	if (!call_name_valid(call, optarg, "a node"))
		return;
	if (optarg[strspn(optarg, "0123456789")] == 0)
		call->status =
			cli_usage_error("the name \"%s\" would be taken for a process id", optarg);
	else if (cli_parse_slot(optarg, &slot, &generation))
		call->status = cli_usage_error("the name \"%s\" would be taken for SLOT:GENERATION",
					       optarg);
}

/* Takes a common option. 1 taken, 0 not one of them, -1 the verb must end. */
static int take_common(struct call *call, int letter)
{
	call->status = CLI_OK;
	switch (letter) {
	case 'p':
		if (!cli_parse_port(optarg, &call->port))
			call->status = cli_usage_error("\"%s\" is not a port (1 to 65535)", optarg);
		break;
	case 'W':
		if (!cli_parse_duration(optarg, &call->timeout_ns))
			call->status =
				cli_usage_error("\"%s\" is not a time (2, 0.5, 250ms, 5m)", optarg);
		break;
	case 'C':
		if (!cli_parse_u64(optarg, 1, UINT64_MAX - 1, &call->count))
			call->status =
				cli_usage_error("\"%s\" is not a number of 1 or more", optarg);
		break;
	case 'd':
		call->directory = optarg;
		if (!*optarg)
			call->status = cli_usage_error("--directory needs a name");
		break;
	case 'n':
		take_name(call);
		break;
	case 'j':
		call->json = true;
		break;
	case 'q':
		call->quiet = true;
		break;
	case 'v':
		call->verbose = true;
		break;
	case LETTER_NO_AUTOSTART:
		call->no_autostart = true;
		break;
	case LETTER_COLOUR:
		if (!cli_colour_set(optarg))
			call->status = cli_usage_error("--color is auto, always or never");
		break;
	case 'h':
		print_verb_help(call->verb);
		return -1;
	case LETTER_VERSION:
		printf("ringbus %s\n", ringbus_version());
		return -1;
	default:
		return 0;
	}
	return call->status == CLI_OK ? 1 : -1;
}

int call_option(struct call *call)
{
	struct verb_option all[OPTIONS_MAX];
	struct option list[OPTIONS_MAX + 1];
	char letters[2 * OPTIONS_MAX + 2];
	for_getopt(all, gather(call->verb, all), list, letters);
	opterr = 0;
	for (;;) {
		int letter = getopt_long(call->all_argc, call->all_argv, letters, list, NULL);
		int taken;
		if (letter == -1) {
			call->argc = call->all_argc - optind;
			call->argv = call->all_argv + optind;
			taken = call->verb->has_bus && !call->port
					? cli_port_of_environment(&call->port)
					: -1;
			call->status = taken < 0 ? CLI_OK : taken;
			return taken < 0 ? 0 : -1;
		}
		if (letter == ':' || letter == '?') {
			call->status = cli_option_error(call->all_argv, letter, list);
			return -1;
		}
		taken = take_common(call, letter);
		if (taken < 0)
			return -1;
		if (taken == 0)
			return letter;
	}
}

bool call_operands(struct call *call, int min, int max)
{
	if (call->argc >= min && call->argc <= max)
		return true;
	if (call->argc < min)
		call->status = cli_usage_error("expected %s", call->verb->operands);
	else
		call->status = cli_usage_error("unexpected operand \"%s\"", call->argv[max]);
	return false;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < COUNT_OF(verbs); i++)
		if (strcmp(verbs[i]->name, name) == 0)
			return verbs[i];
	return NULL;
}

static int run(const struct verb *verb, int argc, char **argv)
{
	struct call call = {
		.verb = verb,
		.timeout_ns = NO_LIMIT,
		.count = NO_LIMIT,
		.all_argc = argc,
		.all_argv = argv,
	};
	cli_start("ringbus", verb->name);
	return cli_finish(verb->run(&call));
}

/* "ringbus help VERB" is "ringbus VERB --help". */
static int help_verb(char *name)
{
	char option[] = "--help";
	char *argv[] = {name, option, NULL};
	const struct verb *verb = name ? find_verb(name) : NULL;
	if (name && !verb)
		return cli_usage_error("no verb \"%s\"", name);
	if (verb)
		return run(verb, 2, argv);
	print_help();
	return cli_finish(CLI_OK);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	const struct verb *verb;
	cli_start("ringbus", NULL);
	if (!name)
		return cli_usage_error("expected a verb");
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
		return help_verb(argv[2]);
	if (strcmp(name, "--version") == 0) {
		printf("ringbus %s\n", ringbus_version());
		return cli_finish(CLI_OK);
	}
	if (name[0] == '-')
		return cli_usage_error("wrong option %s; those of a verb stand behind it", name);
	verb = find_verb(name);
	return verb ? run(verb, argc - 1, argv + 1) : cli_usage_error("no verb \"%s\"", name);
}

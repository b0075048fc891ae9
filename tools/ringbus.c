/* ringbus.c: main of the command line tool, and the parsing that all verbs share. */
#include "ringbus-verbs.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct verb verbs[] = {
	{"emit", "EVENT [PAYLOAD]", "send an event to its subscribers", verb_emit, emit_options},
	{"subscribe", "EVENT...", "print the messages of events", verb_subscribe,
	 subscribe_options},
	{"contact", "PID|NAME|SLOT:GENERATION [PAYLOAD]", "send a message to one node",
	 verb_contact, contact_options},
	{"listen", "", "print the messages sent to this node", verb_listen, listen_options},
	{"signal", "PID|NAME|SLOT:GENERATION", "signal one node", verb_signal, signal_options},
	{"wait-signal", "", "wait for signals and print how many came", verb_wait_signal,
	 wait_signal_options},
	{"ls", "", "list the nodes and events of the bus", verb_ls, ls_options},
};

enum common_letter {
	LETTER_NO_AUTOSTART = 1000,
	LETTER_HELP,
	LETTER_VERSION,
};

static const struct verb_option common_options[] = {
	{'p', "port", "PORT", "port of the bus (RINGBUS_PORT, else 54121)"},
	{'d', "directory", "DIR",
	 "directory of the bus (RINGBUS_DIR, else the first with this port)"},
	{'n', "name", "NAME", "name of this node, unique on the bus"},
	{'W', "timeout", "TIME", "give up after TIME: 2, 0.5 (seconds), 250ms, 5m"},
	{'C', "count", "N", "end after N"},
	{'j', "json", NULL, "JSON on standard output"},
	{'q', "quiet", NULL, "no notes on standard error"},
	{'v', "verbose", NULL, "more notes on standard error"},
	{LETTER_NO_AUTOSTART, "no-autostart", NULL, "do not start ringbusd when the bus has none"},
	{LETTER_HELP, "help", NULL, "this text"},
	{LETTER_VERSION, "version", NULL, "the version"},
	{0, NULL, NULL, NULL},
};

#define OPTIONS_MAX 40 /* of a verb, common ones included */

static void print_options(const struct verb_option *options)
{
	for (; options->letter; options++) {
		char left[64];
		snprintf(left, sizeof left,
			 options->letter < 256 ? "-%c, --%s%s%s" : "%c   --%s%s%s",
			 options->letter < 256 ? options->letter : ' ', options->name,
			 options->argument ? " " : "", options->argument ? options->argument : "");
		printf("  %-28s %s\n", left, options->help);
	}
}

static void print_verb_help(const struct verb *verb)
{
	printf("Usage: ringbus %s [OPTION]...%s%s\n\n%s.\n\n", verb->name,
	       *verb->operands ? " " : "", verb->operands, verb->help);
	print_options(verb->options);
	print_options(common_options);
	puts("\nExit status: 0 done, 1 failed, 2 usage, 3 no such bus, event or node, 4 timed "
	     "out,\n"
	     "5 messages lost (--strict).");
}

static void print_help(void)
{
	puts("Usage: ringbus VERB [OPTION]... [OPERAND]...\n\n"
	     "Talks on a ringbus, the shared-memory bus between processes of one machine.\n");
	for (size_t i = 0; i < COUNT_OF(verbs); i++)
		printf("  %-12s %s\n", verbs[i].name, verbs[i].help);
	puts("\n\"ringbus VERB --help\" lists the options of a verb.");
}

/* Fills what getopt_long() wants from a table; returns how many long options there are now. */
static size_t add_options(const struct verb_option *from, struct option *list, size_t n,
			  char *letters)
{
	size_t used = strlen(letters);
	for (; from->letter && n + 1 < OPTIONS_MAX; from++, n++) {
		list[n] = (struct option){from->name,
					  from->argument ? required_argument : no_argument, NULL,
					  from->letter};
		if (from->letter > 255)
			continue;
		letters[used++] = (char)from->letter;
		if (from->argument)
			letters[used++] = ':';
	}
	letters[used] = 0;
	list[n] = (struct option){0};
	return n;
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
		if (!cli_parse_u64(optarg, 0, UINT64_MAX - 1, &call->count))
			call->status = cli_usage_error("\"%s\" is not a number", optarg);
		break;
	case 'd':
		call->directory = optarg;
		break;
	case 'n':
		call->name = optarg;
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
	case LETTER_HELP:
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
	struct option list[OPTIONS_MAX];
	char letters[3 * OPTIONS_MAX] = ":";
	size_t n = add_options(call->verb->options, list, 0, letters);
	add_options(common_options, list, n, letters);
	opterr = 0;
	for (;;) {
		int letter = getopt_long(call->all_argc, call->all_argv, letters, list, NULL);
		int taken;
		if (letter == -1) {
			call->argc = call->all_argc - optind;
			call->argv = call->all_argv + optind;
			return 0;
		}
		if (letter == ':' || letter == '?') {
			const char *text = call->all_argv[optind - 1];
			call->status = letter == ':' ? cli_usage_error("%s needs an argument", text)
						     : cli_usage_error("wrong option %s", text);
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

static int help_verb(const char *name)
{
	for (size_t i = 0; name && i < COUNT_OF(verbs); i++) {
		if (strcmp(verbs[i].name, name) == 0) {
			print_verb_help(&verbs[i]);
			return cli_finish(CLI_OK);
		}
	}
	if (name)
		return cli_usage_error("no verb \"%s\"", name);
	print_help();
	return cli_finish(CLI_OK);
}

int main(int argc, char **argv)
{
	const char *name = argc > 1 ? argv[1] : NULL;
	cli_start("ringbus", NULL);
	if (!name)
		return cli_usage_error("expected a verb");
	if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0)
		return help_verb(argv[2]);
	if (strcmp(name, "--version") == 0) {
		printf("ringbus %s\n", ringbus_version());
		return cli_finish(CLI_OK);
	}
	for (size_t i = 0; i < COUNT_OF(verbs); i++) {
		if (strcmp(verbs[i].name, name) != 0)
			continue;
		struct call call = {
			.verb = &verbs[i],
			.timeout_ns = UINT64_MAX,
			.count = UINT64_MAX,
			.all_argc = argc - 1,
			.all_argv = argv + 1,
		};
		cli_start("ringbus", name);
		return cli_finish(verbs[i].run(&call));
	}
	return cli_usage_error("no verb \"%s\"", name);
}

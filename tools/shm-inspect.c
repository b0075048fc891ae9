/* shm-inspect.c: looks into a bus, live or dead, or into a copy of its region file. Reads only. */
#include "shm-inspect.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const struct verb {
	const char *name;
	const char *help;
	int (*run)(struct view *view);
} verbs[] = {
	{"header", "constants, sizes, service and control lock", verb_header},
	{"nodes", "slots in use: state, process, counters", verb_nodes},
	{"events", "events: owner, members, subscribers", verb_events},
	{"rings", "rings: positions, unread records, counters", verb_rings},
	{"pools", "payload memory: chunks queued and borrowed", verb_pools},
	{"check", "check all invariants, one finding a line", verb_check},
};

enum { LETTER_FILE = 1000, LETTER_COLOUR, LETTER_HELP, LETTER_VERSION };

static const struct option options[] = {
	{"port", required_argument, NULL, 'p'},
	{"directory", required_argument, NULL, 'd'},
	{"file", required_argument, NULL, LETTER_FILE},
	{"json", no_argument, NULL, 'j'},
	{"color", required_argument, NULL, LETTER_COLOUR},
	{"help", no_argument, NULL, LETTER_HELP},
	{"version", no_argument, NULL, LETTER_VERSION},
	{NULL, 0, NULL, 0},
};

static void print_help(void)
{
	puts("Usage: shm-inspect [VERB] [OPTION]...\n\n"
	     "Looks into a ringbus without joining it: live, dead, or a copied region file.\n"
	     "Without a verb: the buses of this user.\n");
	for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++)
		printf("  %-8s %s\n", verbs[i].name, verbs[i].help);
	puts("\n"
	     "  -p, --port PORT        port of the bus (RINGBUS_PORT, else 54121)\n"
	     "  -d, --directory DIR    directory of the bus (else the first with this port)\n"
	     "      --file PATH        a region file, or a copy of one\n"
	     "  -j, --json             one JSON document on standard output\n"
	     "      --color WHEN       auto, always or never\n"
	     "      --help             this text\n"
	     "      --version          the version\n\n"
	     "Exit status: 0 done, 1 failed or findings of severity error, 2 usage, 3 no such "
	     "bus.");
}

int view_open(struct view *view)
{
	int r;
	if (view->file)
		r = ringbus_inspect_open_path(&view->inspect, view->file);
	else
		r = ringbus_inspect_open(&view->inspect, view->port, view->directory);
	if (r < 0) {
		const char *detail = ringbus_error_detail();
		cli_error("%s", *detail ? detail : ringbus_strerror(r));
	}
	return r;
}

int view_end(struct view *view, int r)
{
	char text[512] = "";
	if (r < 0) {
		const char *detail = ringbus_error_detail();
		snprintf(text, sizeof text, "%s", *detail ? detail : ringbus_strerror(r));
	}
	if (view->json) {
		while (view->out.depth > 1)
			cli_json_close(&view->out);
		if (r < 0)
			cli_json_string(&view->out, "error", text);
		cli_json_end(&view->out);
	}
	return r < 0 ? cli_error("%s", text) : CLI_OK;
}

void view_json_begin(struct view *view)
{
	char schema[64];
	snprintf(schema, sizeof schema, "shm-inspect.%s/1", view->verb);
	cli_json_begin(&view->out, stdout, schema, cli_is_tty());
}

void view_json_mask(struct view *view, const char *key, const uint64_t *mask)
{
	cli_json_array(&view->out, key);
	for (unsigned i = 0; i < 64 * RINGBUS_INSPECT_MASK_WORDS; i++)
		if (mask[i / 64] >> i % 64 & 1)
			cli_json_u64(&view->out, NULL, i);
	cli_json_close(&view->out);
}

void view_json_hex(struct view *view, const char *key, uint64_t value)
{
	char text[32];
	snprintf(text, sizeof text, "0x%llx", (unsigned long long)value);
	cli_json_string(&view->out, key, text);
}

/* Exit code, or -1 to go on. */
static int take_option(struct view *view, int letter)
{
	switch (letter) {
	case 'p':
		if (!cli_parse_port(optarg, &view->port))
			return cli_usage_error("\"%s\" is not a port (1 to 65535)", optarg);
		return -1;
	case 'd':
		view->directory = optarg;
		return -1;
	case LETTER_FILE:
		view->file = optarg;
		return -1;
	case 'j':
		view->json = true;
		return -1;
	case LETTER_COLOUR:
		if (!cli_colour_set(optarg))
			return cli_usage_error("--color is auto, always or never");
		return -1;
	case LETTER_HELP:
		print_help();
		return CLI_OK;
	case LETTER_VERSION:
		printf("shm-inspect %s\n", ringbus_version());
		return CLI_OK;
	default:
		return cli_usage_error("unknown option, or one without its argument");
	}
}

static int run(struct view *view, const struct verb *verb)
{
	int status;
	if (!verb)
		return verb_buses(view);
	status = view_open(view);
	if (status < 0)
		return status == -ENOENT ? CLI_MISSING : CLI_FAILED;
	if (view->json)
		view_json_begin(view);
	status = verb->run(view);
	ringbus_inspect_close(view->inspect);
	return status;
}

int main(int argc, char **argv)
{
	struct view view = {.verb = "buses"};
	const struct verb *verb = NULL;
	int letter;
	cli_start("shm-inspect", NULL);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, "p:d:j", options, NULL)) != -1) {
		int status = take_option(&view, letter);
		if (status >= 0)
			return cli_finish(status);
	}
	if (argc - optind > 1)
		return cli_usage_error("one verb, please; \"%s\" is too much", argv[optind + 1]);
	for (size_t i = 0; optind < argc && i < sizeof verbs / sizeof *verbs; i++)
		if (strcmp(verbs[i].name, argv[optind]) == 0)
			verb = &verbs[i];
	if (optind < argc && !verb)
		return cli_usage_error("there is no verb \"%s\"", argv[optind]);
	if (view.file && (view.port || view.directory))
		return cli_usage_error("--file goes without --port and --directory");
	if (verb)
		view.verb = verb->name;
	return cli_finish(run(&view, verb));
}

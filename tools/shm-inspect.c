/* shm-inspect.c: looks into a bus, live or dead, or into a copy of its region file. Reads only. */
#include "shm-inspect.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a verb understands. */
enum {
	TAKES_BUS = 1,
	TAKES_TABLE = 2,
	TAKES_WATCH = 4,
	TAKES_COUNT = 8,
	TAKES_TIMEOUT = 16,
	TAKES_PAIR = 32,
	TAKES_PAYLOAD = 64,
	TAKES_NEW = 128,
	TAKES_ROOT = 256,
	TAKES_JSON = 512,
	OPENS = 1024, /* the bus is opened for it */
};

#define COMMON (TAKES_BUS | TAKES_JSON)
#define LISTS (COMMON | TAKES_TABLE | TAKES_WATCH | TAKES_COUNT | OPENS)
#define SHOWS (COMMON | TAKES_PAIR | TAKES_PAYLOAD | OPENS)

static const struct verb {
	const char *name;
	const char *operands;
	int operands_max;
	const char *help;
	unsigned takes;
	int (*run)(struct view *view);
	const char *more;
	const char *example;
} verbs[] = {
	{"header", "", 0, "constants, sizes, service and control lock",
	 COMMON | TAKES_WATCH | TAKES_COUNT | OPENS, verb_header, "", "header --file copy.bus"},
	{"nodes", "", 0, "slots in use: state, process, traffic, drops by cause, handler", LISTS,
	 verb_nodes,
	 "Drops by cause: LOSSY not sent to lossy subscribers without room; GONE receivers that\n"
	 "had left; UNWANTED received, but nothing here wanted it. FOR: how long the handler "
	 "runs.\n",
	 "nodes --watch --sort RECEIVED"},
	{"events", "", 0, "events: owner, members, subscribers", LISTS, verb_events,
	 "MEMBERS may emit (MULTI), DELIVER get messages, LOSSY-TO never hold an emitter back.\n",
	 "events --filter news"},
	{"rings", "", 0, "rings: traffic, filling, high-water mark, drops, wakes", LISTS,
	 verb_rings,
	 "WAITS: at least so old is the oldest unread message that has a time stamp (one in 256\n"
	 "has). FULL counts sends that found no room, FULL-FOR since when there is none.\n",
	 "rings --sort UNREAD --long"},
	{"pools", "", 0, "payload memory: chunks queued and borrowed, and by whom", LISTS,
	 verb_pools, "The second table says who holds whose chunks.\n", "pools --json"},
	{"latency", "", 0, "times of messages: in the ring, until awake, in the handler", LISTS,
	 verb_latency,
	 "QUEUE is from publication (or from when the receiver woke) until it took the message;\n"
	 "WAKE from publication until a sleeping receiver was awake; HANDLER in its handler.\n"
	 "One message in 256 is timed, one in 16 to a sleeper. With --watch: of the time between\n"
	 "two looks.\n",
	 "latency --watch 5"},
	{"tap", "", 0, "messages as they pass, and those that still stand in the rings",
	 SHOWS | TAKES_COUNT | TAKES_TIMEOUT | TAKES_NEW, verb_tap,
	 "Takes no slot and slows nobody. Rings are not cleared when they are read, so what\n"
	 "passed lately can still be shown; on a dead bus or a copy of its file the tap ends\n"
	 "there. A time is exact where a message has a stamp (one in 256), else an interval,\n"
	 "from the message stamped before it to the one after it, or to the look that found it.\n"
	 "\"overwritten\" says how much of a ring was gone before it could be read; \"doubtful\"\n"
	 "that its sender may have been writing over it.\n",
	 "tap --to reader --event news --timeout 10"},
	{"last", "[N]", 1, "the last N messages of each pair (1), before a crash, for example",
	 SHOWS, verb_last, "As tap, newest of each ring only.\n",
	 "last 10 --from writer --format hex"},
	{"doctor", "[A B [EVENT]]", 3, "why A's messages (of EVENT) do not reach B",
	 COMMON | TAKES_ROOT, verb_doctor,
	 "A and B are names, process ids, slots or SLOT:GENERATION. One verdict, its evidence,\n"
	 "and what to do. Without A and B: the worst that is wrong with the bus and around it.\n"
	 "Exit status: 0 nothing stands in the way, 1 something does, 3 no such bus.\n",
	 "doctor writer reader news"},
	{"top", "", 0, "live view of nodes and rings on the whole screen",
	 TAKES_BUS | TAKES_WATCH | TAKES_COUNT | OPENS, verb_top,
	 "Keys: q quit, n nodes, r rings, b both, s next column to sort by, R the other way\n"
	 "round, / filter, space pause, + and - interval, ? help.\n",
	 "top --watch 0.5"},
	{"check", "", 0, "check all invariants, one finding a line", COMMON | OPENS, verb_check,
	 "Exit status: 0 no finding of severity error, 1 some.\n", "check --file copy.bus"},
};

static const struct verb list_verb =
	{"buses",    "", 0, "the buses of this user", COMMON | TAKES_WATCH | TAKES_COUNT,
	 verb_buses, "", ""};

enum {
	LETTER_FILE = 1000,
	LETTER_COLOUR,
	LETTER_REVERSE,
	LETTER_VERSION,
	LETTER_FILTER,
	LETTER_FROM,
	LETTER_TO,
	LETTER_BYTES,
	LETTER_FORMAT,
	LETTER_NEW,
	LETTER_ROOT,
};

static const struct tool_option {
	int letter;
	const char *name;
	const char *argument;
	unsigned takes; /* 0: every verb */
	const char *help;
} tool_options[] = {
	{'p', "port", "PORT", TAKES_BUS, "port of the bus (RINGBUS_PORT, else 54121)"},
	{'d', "directory", "DIR", TAKES_BUS,
	 "directory of the bus (else the first with this port)"},
	{LETTER_FILE, "file", "PATH", TAKES_BUS, "a region file, or a copy of one"},
	{'s', "sort", "COLUMN", TAKES_TABLE, "order by a column: figures downwards, text upwards"},
	{LETTER_REVERSE, "reverse", NULL, TAKES_TABLE, "the other way round"},
	{LETTER_FILTER, "filter", "WHAT", TAKES_TABLE,
	 "rows with TEXT, COLUMN=TEXT, COLUMN>NUMBER, COLUMN<NUMBER"},
	{'l', "long", NULL, TAKES_TABLE, "all columns"},
	{'w', "watch", "[TIME]", TAKES_WATCH, "again and again, each 1 s (or TIME), with rates"},
	{LETTER_FROM, "from", "NODE", TAKES_PAIR, "only of this sender: name, pid, slot"},
	{LETTER_TO, "to", "NODE", TAKES_PAIR, "only to this receiver"},
	{'e', "event", "EVENT", TAKES_PAIR, "only of this event"},
	{LETTER_BYTES, "bytes", "SIZE", TAKES_PAYLOAD, "payload bytes to show (64, in JSON 1M)"},
	{LETTER_FORMAT, "format", "FORMAT", TAKES_PAYLOAD, "payload as text, hex or none"},
	{LETTER_NEW, "new", NULL, TAKES_NEW, "only what comes from now on"},
	{'C', "count", "N", TAKES_COUNT, "end after N messages, or after N looks with --watch"},
	{'W', "timeout", "TIME", TAKES_TIMEOUT, "end after TIME: 2, 0.5 (seconds), 250ms, 5m"},
	{LETTER_ROOT, "root", "DIR", TAKES_ROOT, "read the configuration of systemd below DIR"},
	{'j', "json", NULL, TAKES_JSON, "JSON on standard output, a stream as one object a line"},
	{LETTER_COLOUR, "color", "WHEN", 0, "auto, always or never"},
	{'q', "quiet", NULL, 0, "no notes on standard error"},
	{'v', "verbose", NULL, 0, "more notes on standard error"},
	{'h', "help", NULL, 0, "this text"},
	{LETTER_VERSION, "version", NULL, 0, "the version"},
};

/* What the user typed: "ringbus top" and "ringbus doctor" come here, too. */
static const char *program = "shm-inspect";

static void print_options(unsigned takes)
{
	for (size_t i = 0; i < COUNT_OF(tool_options); i++) {
		const struct tool_option *o = &tool_options[i];
		bool optional = o->argument && o->argument[0] == '[';
		char left[64], letter[8] = "    ";
		if (o->takes && !(o->takes & takes))
			continue;
		if (o->letter < 256)
			snprintf(letter, sizeof letter, "-%c, ", o->letter);
		snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name,
			 o->argument && !optional ? " "
			 : optional		  ? " "
						  : "",
			 o->argument ? o->argument : "");
		printf("  %-24s %s\n", left, o->help);
	}
}

static int print_help(const struct verb *verb)
{
	if (verb != &list_verb) {
		printf("Usage: %s %s [OPTION]...%s%s\n%c%s.\n%s%s\nOptions:\n", program, verb->name,
		       *verb->operands ? " " : "", verb->operands, verb->help[0] & ~0x20,
		       verb->help + 1, *verb->more ? "\n" : "", verb->more);
		print_options(verb->takes);
		printf("\nExamples:\n  $ %s %s\n", program, verb->example);
		return CLI_OK;
	}
	puts("Usage: shm-inspect [VERB] [OPTION]...\n"
	     "Looks into a ringbus without joining it: live, dead, or a copied region file.\n"
	     "Without a verb: the buses of this user.\n\nVerbs:");
	for (size_t i = 0; i < COUNT_OF(verbs); i++)
		printf("  %-8s %s\n", verbs[i].name, verbs[i].help);
	puts("\nOptions:");
	print_options(~0u);
	puts("\n\"shm-inspect VERB --help\" lists what a verb understands.\n\n"
	     "Exit status: 0 done, 1 failed or findings of severity error, 2 usage, 3 no such "
	     "bus,\n4 timed out.\n\n"
	     "Examples:\n"
	     "  $ shm-inspect\n"
	     "  $ shm-inspect rings --sort MESSAGES --watch\n"
	     "  $ shm-inspect last 10 --file copy.bus");
	return CLI_OK;
}

/* ---- interruption ---- */

static volatile sig_atomic_t interrupt_came;

static void on_interrupt(int number)
{
	(void)number;
	interrupt_came = 1;
}

bool interrupted(void)
{
	return interrupt_came;
}

void catch_interrupts(void)
{
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
	/* A write goes on, for what is half written is lost; the second one ends that, too. */
	struct sigaction action = {.sa_handler = on_interrupt,
				   .sa_flags = SA_RESTART | (int)SA_RESETHAND};
	for (size_t i = 0; i < COUNT_OF(numbers); i++)
		sigaction(numbers[i], &action, NULL);
}

void sleep_ns(uint64_t ns)
{
	struct timespec t = {.tv_sec = (time_t)(ns / 1000000000),
			     .tv_nsec = (long)(ns % 1000000000)};
	if (!interrupt_came)
		nanosleep(&t, NULL);
}

/* ---- view ---- */

/* Also what a list of nothing, or of zeros, comes from. */
static void note_state(const struct view *view)
{
	struct ringbus_inspect_header h;
	if (ringbus_inspect_header(view->inspect, &h) < 0)
		return;
	if (!h.valid && h.usable)
		cli_note("this region is damaged: %s", h.why);
	else if (region_is_cut(&h))
		cli_note("this region is cut off: the file has %" PRIu64 " of %" PRIu64
			 " bytes that every bus has; the rest reads as 0",
			 h.file_bytes, h.fixed_bytes);
	if (view->verbose && h.valid)
		cli_note("port %u, %s, service %s", h.port, bus_state(&h),
			 h.service_running ? "runs" : "does not run");
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
		return r;
	}
	note_state(view);
	return 0;
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
	cli_json_begin(&view->out, stdout, schema, cli_is_tty() && !view->watch);
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

/* ---- options ---- */

static int take_watch(struct view *view, char **argv, int argc)
{
	const char *text = optarg;
	view->watch = true;
	/* the time may stand apart */
	if (!text && optind < argc && cli_parse_duration(argv[optind], &view->interval_ns))
		text = argv[optind++];
	if (text && !cli_parse_duration(text, &view->interval_ns))
		return cli_usage_error("\"%s\" is not a time (2, 0.5, 250ms)", text);
	if (view->interval_ns < 1000000)
		return cli_usage_error("less than a millisecond between two looks is too little");
	return -1;
}

static int take_format(struct view *view)
{
	static const char *const names[] = {"text", "hex", "none"};
	for (size_t i = 0; i < COUNT_OF(names); i++) {
		if (strcmp(optarg, names[i]) == 0) {
			view->format = (enum payload_format)i;
			return -1;
		}
	}
	return cli_usage_error("--format is text, hex or none");
}

/* Those with a number or one of a few words. */
static int take_value(struct view *view, int letter)
{
	switch (letter) {
	case 'p':
		if (!cli_parse_port(optarg, &view->port))
			return cli_usage_error("\"%s\" is not a port (1 to 65535)", optarg);
		return -1;
	case 'C':
		if (!cli_parse_u64(optarg, 0, NEVER - 1, &view->count))
			return cli_usage_error("\"%s\" is not a number", optarg);
		return view->count ? -1 : cli_usage_error("--count must be at least 1");
	case 'W':
		if (!cli_parse_duration(optarg, &view->timeout_ns))
			return cli_usage_error("\"%s\" is not a time (2, 0.5, 250ms, 5m)", optarg);
		return -1;
	case LETTER_BYTES:
		if (!cli_parse_size(optarg, &view->bytes) || view->bytes > 1u << 30)
			return cli_usage_error("\"%s\" is not a size up to 1G", optarg);
		return -1;
	case LETTER_FORMAT:
		return take_format(view);
	default: /* LETTER_COLOUR */
		if (!cli_colour_set(optarg))
			return cli_usage_error("--color is auto, always or never");
		return -1;
	}
}

/* Exit code, or -1 to go on. */
static int take_option(struct view *view, int letter)
{
	const struct {
		int letter;
		const char **text;
		bool *flag;
	} simple[] = {
		{'d', &view->directory, NULL},
		{LETTER_FILE, &view->file, NULL},
		{'s', &view->sort, NULL},
		{LETTER_FILTER, &view->filter, NULL},
		{LETTER_FROM, &view->from, NULL},
		{LETTER_TO, &view->to, NULL},
		{'e', &view->event, NULL},
		{LETTER_ROOT, &view->root, NULL},
		{'j', NULL, &view->json},
		{LETTER_REVERSE, NULL, &view->reverse},
		{'v', NULL, &view->verbose},
		{'l', NULL, &view->wide},
		{LETTER_NEW, NULL, &view->only_new},
	};
	for (size_t i = 0; i < COUNT_OF(simple); i++) {
		if (simple[i].letter != letter)
			continue;
		if (simple[i].text)
			*simple[i].text = optarg;
		else
			*simple[i].flag = true;
		return -1;
	}
	return take_value(view, letter);
}

static const struct tool_option *option_of(int letter)
{
	for (size_t i = 0; i < COUNT_OF(tool_options); i++)
		if (tool_options[i].letter == letter)
			return &tool_options[i];
	return NULL;
}

static void fill_getopt(struct option *list, char *letters)
{
	*letters++ = ':';
	for (size_t i = 0; i < COUNT_OF(tool_options); i++) {
		const struct tool_option *o = &tool_options[i];
		int has = !o->argument		  ? no_argument
			  : o->argument[0] == '[' ? optional_argument
						  : required_argument;
		list[i] = (struct option){o->name, has, NULL, o->letter};
		if (o->letter > 255)
			continue;
		*letters++ = (char)o->letter;
		for (int n = 0; n < has; n++)
			*letters++ = ':';
	}
	*letters = 0;
	list[COUNT_OF(tool_options)] = (struct option){0};
}

struct given {
	bool help;
	const struct tool_option *options[64];
	size_t count;
};

static int parse(struct view *view, int argc, char **argv, struct given *given)
{
	struct option list[COUNT_OF(tool_options) + 1];
	char letters[3 * COUNT_OF(tool_options) + 2];
	int letter;
	fill_getopt(list, letters);
	opterr = 0;
	while ((letter = getopt_long(argc, argv, letters, list, NULL)) != -1) {
		int status = -1;
		if (letter == ':' || letter == '?') {
			status = cli_option_error(argv, letter, list);
		} else if (letter == 'h') {
			given->help = true;
		} else if (letter == 'q') {
			cli_quiet();
		} else if (letter == LETTER_VERSION) {
			printf("%s %s\n", program, ringbus_version());
			return CLI_OK;
		} else {
			status = letter == 'w' ? take_watch(view, argv, argc)
					       : take_option(view, letter);
		}
		if (status >= 0)
			return status;
		if (given->count < COUNT_OF(given->options))
			given->options[given->count++] = option_of(letter);
	}
	return -1;
}

/* Whether the verb understands what was given. */
static int check_given(struct view *view, const struct verb *verb, const struct given *given)
{
	for (size_t i = 0; i < given->count; i++) {
		const struct tool_option *o = given->options[i];
		if (o && o->takes && !(o->takes & verb->takes))
			return cli_usage_error("wrong option --%s", o->name);
	}
	if (view->count != NEVER && verb->takes & TAKES_WATCH && !view->watch &&
	    verb->run != verb_top)
		return cli_usage_error("--count goes with --watch");
	if ((view->file && !*view->file) || (view->directory && !*view->directory))
		return cli_usage_error("%s needs a name", view->file ? "--file" : "--directory");
	if (view->file && (view->port || view->directory))
		return cli_usage_error("--file goes without --port and --directory");
	if (view->operand_count > verb->operands_max)
		return cli_usage_error("\"%s\" is too much", view->operands[verb->operands_max]);
	if (!view->file && !view->port && (verb->takes & OPENS || verb->run == verb_doctor))
		return cli_port_of_environment(&view->port);
	return -1;
}

/* ---- running ---- */

static int run_once(struct view *view, const struct verb *verb)
{
	if (view->json && verb->takes & OPENS && verb->run != verb_tap && verb->run != verb_last)
		view_json_begin(view);
	return verb->run(view);
}

/* With --watch: on a terminal the screen is drawn anew, elsewhere looks follow each other. */
static int run_watched(struct view *view, const struct verb *verb)
{
	int status = CLI_OK;
	catch_interrupts();
	for (uint64_t n = 0; !interrupted(); n++) {
		if (!view->json && cli_is_tty())
			fputs("\033[H\033[2J", stdout);
		else if (!view->json && n > 0)
			putchar('\n');
		status = run_once(view, verb);
		if (cli_flush() != 0 || status == CLI_USAGE || n + 1 >= view->count)
			break;
		sleep_ns(view->interval_ns);
	}
	return status;
}

static int run(struct view *view, const struct verb *verb)
{
	int status = verb->takes & OPENS ? view_open(view) : 0;
	if (status < 0)
		return status == -ENOENT ? CLI_MISSING : CLI_FAILED;
	if (view->watch && verb->run != verb_top)
		status = run_watched(view, verb);
	else
		status = run_once(view, verb);
	if (verb->takes & OPENS)
		ringbus_inspect_close(view->inspect);
	sample_free(view->previous);
	return status;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < COUNT_OF(verbs); i++)
		if (strcmp(verbs[i].name, name) == 0)
			return &verbs[i];
	return NULL;
}

/* The verb is known before the options are: what is wrong with one of them names it. */
static const char *likely_verb(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (find_verb(argv[i]))
			return argv[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct view view = {.interval_ns = 1000000000,
			    .count = NEVER,
			    .timeout_ns = NEVER,
			    .bytes = NEVER,
			    .root = ""};
	const struct verb *verb = &list_verb;
	struct given given = {.count = 0};
	int status;
	if (argc > 0 && strcmp(argv[0], "ringbus") == 0)
		program = argv[0];
	cli_start(program, likely_verb(argc, argv));
	status = parse(&view, argc, argv, &given);
	if (status >= 0)
		return cli_finish(status);
	cli_start(program, NULL);
	if (optind < argc) {
		verb = find_verb(argv[optind]);
		if (!verb)
			return cli_usage_error("there is no verb \"%s\"", argv[optind]);
		cli_start(program, verb->name);
		optind++;
	}
	if (given.help)
		return cli_finish(print_help(verb));
	view.verb = verb->name;
	view.operands = argv + optind;
	view.operand_count = argc - optind;
	status = check_given(&view, verb, &given);
	if (status >= 0)
		return status;
	return cli_finish(run(&view, verb));
}

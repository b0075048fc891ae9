/* main.c: ringbus-bench: how fast messages go from process to process on this machine. */
#include "cases.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <unistd.h>

struct verb {
	const char *name, *help;
	int (*cases)(struct table *table, const struct request *request);
};

static const struct verb verbs[] = {
	{"rtt", "round trips, one at a time", cases_rtt},
	{"throughput", "messages one way, as many as go", cases_throughput},
	{"fanout", "one sender, several receivers", cases_fanout},
	{"wake", "round trips between sleepers; what a send to a sleeper costs", cases_wake},
	{"signal", "signals without content", cases_signal},
	{"join", "from opening a node to its first message delivered", cases_join},
	{"scale", "many nodes and events; memory; idle time", cases_scale},
	{"compare", "the standard table of all these", cases_compare},
};

enum {
	OPTION_LOAN = 256,
	OPTION_UNTOUCHED,
	OPTION_THREADS,
	OPTION_SPIN,
	OPTION_DURATION,
	OPTION_SYSCALLS,
	OPTION_NO_SYSCALLS,
	OPTION_BUDGET,
	OPTION_LIST,
};

static const struct option options[] = {
	{"transport", required_argument, NULL, 't'},
	{"size", required_argument, NULL, 's'},
	{"count", required_argument, NULL, 'n'},
	{"duration", required_argument, NULL, OPTION_DURATION},
	{"subscribers", required_argument, NULL, 'S'},
	{"threads", required_argument, NULL, OPTION_THREADS},
	{"wait", required_argument, NULL, 'w'},
	{"spin", required_argument, NULL, OPTION_SPIN},
	{"cpus", required_argument, NULL, 'c'},
	{"copy", no_argument, NULL, 'C'},
	{"borrow", no_argument, NULL, 'B'},
	{"loan", no_argument, NULL, OPTION_LOAN},
	{"untouched", no_argument, NULL, OPTION_UNTOUCHED},
	{"runs", required_argument, NULL, 'r'},
	{"budget", required_argument, NULL, OPTION_BUDGET},
	{"ring-bytes", required_argument, NULL, 'R'},
	{"syscalls", no_argument, NULL, OPTION_SYSCALLS},
	{"no-syscalls", no_argument, NULL, OPTION_NO_SYSCALLS},
	{"json", no_argument, NULL, 'j'},
	{"report", required_argument, NULL, 'd'},
	{"list", no_argument, NULL, OPTION_LIST},
	{"help", no_argument, NULL, 'h'},
	{NULL, 0, NULL, 0},
};

static void usage(FILE *out)
{
	fprintf(out, "Usage: ringbus-bench VERB [OPTION]...\n\n");
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		fprintf(out, "  %-12s %s\n", verbs[i].name, verbs[i].help);
	fputs("\n"
	      "  --transport NAME[,NAME...]  what to measure (--list shows the names)\n"
	      "  --size BYTES                payload, with K, M or G (64)\n"
	      "  --count N                   messages a run (default: as many as go in "
	      "--duration)\n"
	      "  --duration MS               of a run (100)\n"
	      "  --subscribers N             receivers (fanout: 4)\n"
	      "  --threads N                 sending threads, 1 or 2\n"
	      "  --wait spin|block|adaptive  how a process waits (spin; fanout: adaptive; wake: "
	      "block)\n"
	      "  --spin NS                   block: polling before sleep (0); adaptive: 50000\n"
	      "  --cpus A,B[,...]            sender's processor, receivers' processors\n"
	      "  --borrow | --copy           receivers look at messages in place (default), or "
	      "copy them\n"
	      "  --loan                      the sender writes in place\n"
	      "  --untouched                 with --loan: only 8 bytes are written and read\n"
	      "  --runs N                    passes over all transports, in turns (3)\n"
	      "  --budget SECONDS            begin no pass that would not end in time (compare: "
	      "170)\n"
	      "  --ring-bytes BYTES          ring, pipe and socket buffers (256K)\n"
	      "  --syscalls, --no-syscalls   also count system calls for each message, in a traced "
	      "run\n"
	      "                              (compare: yes, others: no)\n"
	      "  --json                      one JSON object a line instead of a table\n"
	      "  --report DIR                also write rows.json and .hgrm files there\n"
	      "  --list                      list the transports\n"
	      "  --help                      this text\n"
	      "\nCompare figures of one pass only: virtual processors move between cores within "
	      "seconds.\n"
	      "Exit status: 0 done, 1 failed or messages lost or wrong, 2 usage, 130 interrupted.\n"
	      "\nExamples:\n"
	      "  $ ringbus-bench rtt --transport line,ringbus,unix --size 1K\n"
	      "  $ ringbus-bench throughput --transport spsc,ringbus --copy --runs 5\n"
	      "  $ ringbus-bench compare --report results\n",
	      out);
}

/* A table that nobody could read is a failure. */
static int finish(int status)
{
	errno = 0;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	fprintf(stderr, "ringbus-bench: cannot write to standard output: %s\n",
		strerror(errno ? errno : EIO));
	return status ? status : 1;
}

static int mistake(const char *text, const char *what)
{
	fprintf(stderr, "ringbus-bench: %s%s%s%s\n", text, what ? "\"" : "", what ? what : "",
		what ? "\"" : "");
	fputs("Try \"ringbus-bench --help\".\n", stderr);
	return 2;
}

static int list(void)
{
	for (unsigned i = 0; transports[i]; i++)
		printf("%-16s %s\n", transports[i]->name, transports[i]->help);
	return finish(0);
}

static uint64_t number(const char *text, const char *name, uint64_t low, uint64_t high)
{
	char *end;
	unsigned long long value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (end != text && *end && strchr("KkMmGg", *end)) {
		unsigned shift = *end == 'K' || *end == 'k'   ? 10
				 : *end == 'M' || *end == 'm' ? 20
							      : 30;

		if (value > UINT64_MAX >> shift)
			errno = ERANGE;
		value <<= shift;
		end++;
	}
	if (end == text || *end || errno || *text == '-' || value < low || value > high) {
		fprintf(stderr, "ringbus-bench: --%s %s: not a number from %llu to %llu\n", name,
			text, (unsigned long long)low, (unsigned long long)high);
		exit(2);
	}
	return value;
}

static void parse_cpus(struct bench *bench, const char *text)
{
	bench->cpu_count = 0;
	for (; *text && bench->cpu_count < BENCH_CPUS_MAX;
	     text += strcspn(text, ","), text += *text == ',') {
		bool known = false;
		unsigned cpu;
		char one[16];

		snprintf(one, sizeof(one), "%.*s", (int)strcspn(text, ","), text);
		cpu = (unsigned)number(one, "cpus", 0, CPU_SETSIZE - 1);
		for (unsigned i = 0; i < bench->cpu_count; i++)
			known = known || bench->cpus[i] == cpu;
		if (!known) /* the same twice: all share it */
			bench->cpus[bench->cpu_count++] = cpu;
	}
}

static int core_of(unsigned cpu)
{
	char path[96];
	int package = 0, core = (int)cpu;
	FILE *file;

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/core_id", cpu);
	file = fopen(path, "re");
	if (file && fscanf(file, "%d", &core) != 1)
		core = (int)cpu;
	if (file)
		fclose(file);
	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%u/topology/physical_package_id",
		 cpu);
	file = fopen(path, "re");
	if (file && fscanf(file, "%d", &package) != 1)
		package = 0;
	if (file)
		fclose(file);
	return package << 16 | core;
}

/* The processors that we may use, one of each core first. */
static void find_cpus(struct bench *bench)
{
	int cores[BENCH_CPUS_MAX];
	bool taken[BENCH_CPUS_MAX] = {false};
	cpu_set_t set;

	CPU_ZERO(&set);
	sched_getaffinity(0, sizeof(set), &set);
	bench->cpu_count = 0;
	for (unsigned round = 0; round < 2; round++)
		for (unsigned cpu = 0; cpu < BENCH_CPUS_MAX; cpu++) {
			bool known = false;

			if (!CPU_ISSET(cpu, &set) || taken[cpu])
				continue;
			for (unsigned i = 0; i < bench->cpu_count; i++)
				known = known || cores[i] == core_of(cpu);
			if (known && round == 0)
				continue;
			taken[cpu] = true;
			cores[bench->cpu_count] = core_of(cpu);
			bench->cpus[bench->cpu_count++] = cpu;
		}
}

static void parse_wait(struct request *request, const char *text)
{
	static const char *const names[] = {"spin", "block", "adaptive"};

	for (unsigned i = 0; i < 3; i++)
		if (!strcmp(text, names[i])) {
			request->bench.wait = (enum bench_wait)i;
			request->wait_asked = true;
			return;
		}
	fprintf(stderr, "ringbus-bench: --wait %s: not spin, block or adaptive\n", text);
	exit(2);
}

static void check_transports(const char *names)
{
	for (; *names; names += strcspn(names, ","), names += *names == ',')
		if (!transport_find(names, strcspn(names, ","))) {
			fprintf(stderr,
				"ringbus-bench: no transport %.*s in this build; see --list\n",
				(int)strcspn(names, ","), names);
			exit(2);
		}
}

/* What is measured. False: not one of these. */
static bool parse_measure(struct request *request, int option)
{
	struct bench *bench = &request->bench;

	switch (option) {
	case 's':
		bench->size = number(optarg, "size", 8, 1 << 30);
		break;
	case 'n':
		bench->count = number(optarg, "count", 10, 1ull << 40);
		break;
	case OPTION_DURATION:
		bench->duration_ns = 1000000 * number(optarg, "duration", 1, 10000);
		break;
	case 'S':
		bench->receivers = (unsigned)number(optarg, "subscribers", 1, BENCH_RECEIVERS_MAX);
		request->subscribers_asked = true;
		break;
	case OPTION_THREADS:
		bench->threads = (unsigned)number(optarg, "threads", 1, BENCH_THREADS_MAX);
		break;
	case 'w':
		parse_wait(request, optarg);
		break;
	case OPTION_SPIN:
		bench->spin_ns = number(optarg, "spin", 0, 1000000000);
		break;
	case 'c':
		parse_cpus(bench, optarg);
		break;
	case 'C':
		bench->copy = true;
		break;
	case 'B':
		bench->copy = false;
		break;
	case OPTION_LOAN:
		bench->loan = true;
		break;
	case OPTION_UNTOUCHED:
		bench->untouched = bench->loan = true;
		break;
	case 'R':
		bench->ring_bytes = number(optarg, "ring-bytes", 4096, 1ull << 32);
		break;
	default:
		return false;
	}
	return true;
}

/* How it is measured and told. */
static void parse_option(struct request *request, int option)
{
	if (parse_measure(request, option))
		return;
	switch (option) {
	case 't':
		check_transports(optarg);
		request->transports = optarg;
		request->asked = true;
		break;
	case 'r':
		request->runs = (unsigned)number(optarg, "runs", 1, ROW_PASSES_MAX);
		break;
	case OPTION_BUDGET:
		request->budget_s = (unsigned)number(optarg, "budget", 0, 100000);
		break;
	case OPTION_SYSCALLS:
		request->syscalls = true;
		break;
	case OPTION_NO_SYSCALLS:
		request->syscalls = false;
		break;
	case 'j':
		request->json = true;
		break;
	case 'd':
		request->report = optarg;
		break;
	case OPTION_LIST:
		exit(list());
	case 'h':
		usage(stdout);
		exit(finish(0));
	default: /* getopt_long() has named it */
		fputs("Try \"ringbus-bench --help\".\n", stderr);
		exit(2);
	}
}

static void on_interrupt(int signal_number)
{
	(void)signal_number;
	run_interrupted = 1;
}

static int output(const struct table *table, const struct request *request)
{
	int r = 0;

	if (request->json)
		table_json(table, stdout);
	else
		table_print(table, stdout);
	if (request->report)
		r = table_report(table, request->report);
	if (r < 0)
		fprintf(stderr, "ringbus-bench: %s: %s\n", request->report, strerror(-r));
	for (unsigned i = 0; i < table->count; i++)
		if (table->rows[i].bad || table->rows[i].lost || table->rows[i].error)
			return 1;
	return r < 0 ? 1 : 0;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; name && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (!strcmp(verbs[i].name, name))
			return &verbs[i];
	return NULL;
}

static int measure(const struct verb *verb, const struct request *request)
{
	struct sigaction interrupt = {.sa_handler = on_interrupt};
	struct table table = {0};
	int r = verb->cases(&table, request);

	if (r >= 0 && table.count == 0) {
		fprintf(stderr, "ringbus-bench: none of these transports does this\n");
		r = -EINVAL;
	}
	if (r < 0) {
		table_free(&table);
		return 2;
	}
	sigaction(SIGINT, &interrupt, NULL);
	sigaction(SIGTERM, &interrupt, NULL);
	r = table_measure(&table, request->runs, request->budget_s, request->syscalls);
	if (r < 0)
		fprintf(stderr, "ringbus-bench: %s\n", strerror(-r));
	else
		r = output(&table, request);
	table_free(&table);
	return r == -EINTR ? 130 : r != 0;
}

int main(int argc, char **argv)
{
	struct request request = {
		.bench =
			{
				.size = 64,
				.duration_ns = 100000000,
				.receivers = 1,
				.threads = 1,
				.ring_bytes = 256 << 10,
			},
		.runs = 3,
	};
	const struct verb *verb = find_verb(argv[1]);
	int option;

	/* a closed descriptor must not become a file of ours; writing to this one fails */
	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDONLY) != fd)
			return 1;
	find_cpus(&request.bench);
	if (verb && !strcmp(verb->name, "compare")) {
		request.syscalls = true;
		request.budget_s = 170;
	}
	while ((option = getopt_long(argc, argv, "t:s:n:S:w:c:r:R:jd:h", options, NULL)) >= 0)
		parse_option(&request, option);
	if (argc < 2)
		return mistake("expected a verb", NULL);
	if (!verb)
		return argv[1][0] == '-' ? mistake("the verb comes first", NULL)
					 : mistake("there is no verb ", argv[1]);
	if (optind + 1 != argc)
		return mistake("too much: ", argv[optind + 1]);
	if (request.bench.wait == WAIT_ADAPTIVE && !request.bench.spin_ns)
		request.bench.spin_ns = 50000;
	clock_calibrate();
	return finish(measure(verb, &request));
}

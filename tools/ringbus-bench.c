/* ringbus-bench.c: the verb bench: round trips and throughput between two child processes, beside a
 * bare cache line that goes there and back, on a bus of its own.
 *
 * The bus has its own directory and port and a child process that serves it, so that it meets no
 * other traffic and leaves nothing behind. The full harness, with other transports to compare, is
 * ringbus-bench.
 */
#include "ringbus-bench.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define DURATION_NS UINT64_C(200000000)
#define DURATION_MAX_NS UINT64_C(10000000000)
#define SIZE_LIMIT (UINT64_C(16) << 20)

enum bench_letter { LETTER_DURATION = 300 };

struct run {
	struct call *call;
	struct bench *bench;
	int listener;
	int told[2]; /* children write a byte: 0 ready or done, else failed */
	pid_t children[3];
};

/* ---- children ---- */

static _Noreturn void tell_and_exit(struct run *run, char failed)
{
	if (write(run->told[1], &failed, 1) != 1)
		failed = 1;
	_exit(failed);
}

static void serve(struct run *run)
{
	struct bench *bench = run->bench;
	struct ringbus_service_options options = {
		.size = sizeof options,
		.port = bench->port,
		.directory = bench->directory,
		.listen_fd = run->listener,
	};
	struct ringbus_service *service;
	char ready = 0;
	int r = ringbus_service_open(&service, &options);
	if (r < 0) {
		const char *detail = ringbus_error_detail();
		snprintf(bench->why, sizeof bench->why, "cannot serve: %s",
			 *detail ? detail : ringbus_strerror(r));
		tell_and_exit(run, 1);
	}
	if (write(run->told[1], &ready, 1) == 1)
		ringbus_service_run(service);
	_exit(1);
}

/* 0, 1: who measures; 2: the service. */
static int start(struct run *run, unsigned who)
{
	pid_t pid;
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		signal(SIGINT, SIG_DFL);
		signal(SIGTERM, SIG_DFL);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (who == 2)
			serve(run);
		tell_and_exit(run, bench_child(run->bench, who) < 0);
	}
	run->children[who] = pid;
	return 0;
}

/* Waits for n children to say that all is well. */
static int await(struct run *run, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		char failed = 1;
		if (!readable(run->told[0]))
			return -EINTR;
		if (read(run->told[0], &failed, 1) != 1 || failed)
			return -ECHILD;
	}
	return 0;
}

static void end_children(struct run *run)
{
	for (unsigned i = 0; i < COUNT_OF(run->children); i++) {
		if (run->children[i] <= 0)
			continue;
		kill(run->children[i], SIGKILL);
		while (waitpid(run->children[i], NULL, 0) < 0 && errno == EINTR)
			;
	}
}

/* ---- a bus of its own ---- */

static int open_place(struct run *run)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof address;
	snprintf(run->bench->directory, sizeof run->bench->directory,
		 "/dev/shm/ringbus-bench-%d-XXXXXX", (int)getpid());
	if (!mkdtemp(run->bench->directory)) {
		run->bench->directory[0] = 0;
		return -errno;
	}
	run->listener = socket(AF_INET, SOCK_STREAM, 0);
	if (run->listener < 0 || bind(run->listener, (void *)&address, sizeof address) < 0 ||
	    listen(run->listener, 16) < 0 ||
	    getsockname(run->listener, (void *)&address, &size) < 0 || pipe(run->told) < 0)
		return -errno;
	run->bench->port = ntohs(address.sin_port);
	return 0;
}

static void remove_place(const char *directory)
{
	DIR *dir = *directory ? opendir(directory) : NULL;
	struct dirent *entry;
	if (!dir)
		return;
	while ((entry = readdir(dir)))
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(directory);
}

/* The first two processors that we may use. */
static void choose_cpus(struct bench *bench)
{
	cpu_set_t set;
	unsigned found = 0;
	bench->cpus[0] = bench->cpus[1] = -1;
	if (sched_getaffinity(0, sizeof set, &set) < 0)
		return;
	for (int i = 0; i < CPU_SETSIZE && found < 2; i++)
		if (CPU_ISSET(i, &set))
			bench->cpus[found++] = i;
	bench->one_cpu = found == 1;
	if (found == 1)
		bench->cpus[1] = bench->cpus[0];
}

static int measure(struct run *run)
{
	int r = open_place(run);
	if (r == 0)
		r = start(run, 2);
	if (r == 0)
		r = await(run, 1);
	for (unsigned who = 0; r == 0 && who < 2; who++)
		r = start(run, who);
	if (r == 0)
		r = await(run, 2);
	end_children(run);
	remove_place(run->bench->directory);
	return r;
}

/* ---- results ---- */

static double per_second(const struct bench_row *row)
{
	return row->stream_ns ? (double)row->messages * 1e9 / (double)row->stream_ns : 0;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static double median(const double *slices)
{
	double sorted[BENCH_SLICES];
	memcpy(sorted, slices, sizeof sorted);
	qsort(sorted, BENCH_SLICES, sizeof *sorted, by_size);
	return sorted[BENCH_SLICES / 2];
}

static void print_json(const struct bench *bench)
{
	struct cli_json json;
	cli_json_begin(&json, stdout, "ringbus.bench/1", cli_is_tty());
	cli_json_array(&json, "cpus");
	for (unsigned i = 0; i < 2; i++)
		cli_json_i64(&json, NULL, bench->cpus[i]);
	cli_json_close(&json);
	cli_json_u64(&json, "duration_ns", bench->duration_ns);
	cli_json_array(&json, "rows");
	for (unsigned i = 0; i < bench->rows; i++) {
		const struct bench_row *row = &bench->row[i];
		cli_json_object(&json, NULL);
		cli_json_u64(&json, "size", row->size);
		cli_json_u64(&json, "round_trips", row->rtt_count);
		cli_json_u64(&json, "rtt_p50_ns", row->rtt_p50_ns);
		cli_json_u64(&json, "rtt_p99_ns", row->rtt_p99_ns);
		cli_json_double(&json, "line_ns", median(row->line_ns));
		cli_json_double(&json, "rtt_to_line", median(row->to_line));
		cli_json_u64(&json, "messages", row->messages);
		cli_json_double(&json, "messages_per_second", per_second(row));
		cli_json_double(&json, "bytes_per_second", per_second(row) * (double)row->size);
		cli_json_close(&json);
	}
	cli_json_end(&json);
}

static void print_text(const struct bench *bench)
{
	char bytes[32];
	printf("%s%8s %12s %12s %12s %8s %14s %12s%s\n", cli_colour(CLI_BOLD), "SIZE", "RTT 50 %",
	       "RTT 99 %", "LINE", "RTT/LINE", "MESSAGES/S", "BYTES/S", cli_colour(CLI_PLAIN));
	for (unsigned i = 0; i < bench->rows; i++) {
		const struct bench_row *row = &bench->row[i];
		cli_format_size(bytes, sizeof bytes,
				(uint64_t)(per_second(row) * (double)row->size));
		printf("%8llu %9.2f us %9.2f us %9.3f us %8.2f %14.0f %12s\n",
		       (unsigned long long)row->size, (double)row->rtt_p50_ns / 1e3,
		       (double)row->rtt_p99_ns / 1e3, median(row->line_ns) / 1e3,
		       median(row->to_line), per_second(row), bytes);
	}
}

static void print_notes(const struct bench *bench)
{
	if (bench->one_cpu)
		cli_note("one processor: these are times of switching between two processes");
	else if (bench->cpus[0] >= 0)
		cli_note("two processes that do not sleep, on processors %d and %d; LINE: a bare "
			 "cache line there and back",
			 bench->cpus[0], bench->cpus[1]);
}

/* ---- verb ---- */

static bool add_sizes(struct bench *bench, const char *text)
{
	char one[32];
	bench->rows = 0;
	for (;; text++) {
		size_t length = strcspn(text, ",");
		uint64_t size;
		if (length >= sizeof one || bench->rows == BENCH_SIZES_MAX)
			return false;
		memcpy(one, text, length);
		one[length] = 0;
		if (!cli_parse_size(one, &size) || size < 8 || size > SIZE_LIMIT)
			return false;
		bench->row[bench->rows++] = (struct bench_row){.size = size};
		text += length;
		if (!*text)
			return true;
	}
}

static bool parse(struct call *call, struct bench *bench)
{
	int letter;
	bench->duration_ns = DURATION_NS;
	add_sizes(bench, "8,64,1k,16k,256k");
	while ((letter = call_option(call)) > 0) {
		if (letter == 's' && !add_sizes(bench, optarg))
			call->status = cli_usage_error("--size is up to %d sizes from 8 to 16M: 64 "
						       "or 8,1k,64k",
						       BENCH_SIZES_MAX);
		else if (letter == LETTER_DURATION &&
			 (!cli_parse_duration(optarg, &bench->duration_ns) ||
			  bench->duration_ns < 1000000 || bench->duration_ns > DURATION_MAX_NS))
			call->status = cli_usage_error("--duration is from 1ms to 10s");
		if (call->status != CLI_OK)
			return false;
	}
	return letter == 0 && call_operands(call, 0, 0);
}

static int report(struct run *run, int r)
{
	struct bench *bench = run->bench;
	if (r == -EINTR)
		return call_interrupted();
	if (r == -ECHILD)
		return cli_error("%s", bench->why[0] ? bench->why : "a child process died");
	if (r < 0)
		return call_failed(r);
	if (!run->call->quiet)
		print_notes(bench);
	if (run->call->json)
		print_json(bench);
	else
		print_text(bench);
	return CLI_OK;
}

static int run_bench(struct call *call)
{
	struct run run = {.call = call, .listener = -1};
	int status;
	run.bench = mmap(NULL, sizeof *run.bench, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.bench == MAP_FAILED)
		return call_out_of_memory();
	if (parse(call, run.bench)) {
		stop_watch();
		choose_cpus(run.bench);
		status = report(&run, measure(&run));
	} else {
		status = call->status;
	}
	munmap(run.bench, sizeof *run.bench);
	return status;
}

static const struct verb_option bench_options[] = {
	{'s', "size", "SIZE,...", "bytes of messages, 8 to 16M (8,64,1k,16k,256k)"},
	{LETTER_DURATION, "duration", "TIME", "of each figure, 1ms to 10s (200ms)"},
	{0, NULL, NULL, NULL},
};

const struct verb verb_bench = {
	.name = "bench",
	.operands = "",
	.help = "round trips and throughput of this machine, in a few seconds",
	.more = "Two child processes on a bus of their own, beside a bare cache line between the\n"
		"same processors, measured in turns with the round trips: the hardware's part.\n"
		"RTT/LINE is the median of the quotients of five such turns. Receivers look at\n"
		"messages in place, at the first 8 bytes. ringbus-bench compares with other\n"
		"transports.",
	.examples = "  $ ringbus bench\n"
		    "  $ ringbus bench --size 64 --duration 2s --json\n",
	.run = run_bench,
	.options = bench_options,
};

/* ringbus-bench-pair.c: the two child processes of the verb bench. Child 0 sends and measures round
 * trips, child 1 answers and measures the stream.
 *
 * A row: cache line and round trips in slices, in turns, because virtual processors move between
 * cores within seconds; then the stream. A message of one byte ends a part; others have at least
 * the 8 bytes of their number, which the receiver checks.
 */
#include "ringbus-bench.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS                                                                  \
	UINT64_C(20000000000) /* with the other one; only a broken bus takes so long \
			       */
#define LINE_NS UINT64_C(10000000)
#define LINE_END UINT64_MAX
#define TIMES_MAX (1u << 20)

struct side {
	struct bench *bench;
	unsigned who;
	struct ringbus_node *node;
	struct ringbus_address to;
	char *payload;
	uint64_t *times;
	uint64_t meetings;
};

static int fail(struct side *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first failure is told; the others follow from it. */
static int fail(struct side *s, const char *format, ...)
{
	va_list arguments;
	if (__atomic_exchange_n(&s->bench->failed, 1, __ATOMIC_ACQ_REL))
		return -1;
	va_start(arguments, format);
	vsnprintf(s->bench->why, sizeof s->bench->why, format, arguments);
	va_end(arguments);
	return -1;
}

static int fail_bus(struct side *s, const char *what, int r)
{
	const char *detail = ringbus_error_detail();
	return fail(s, "%s: %s", what, *detail ? detail : ringbus_strerror(r));
}

/* Both children come here before either goes on. */
static int meet(struct side *s)
{
	uint64_t deadline = deadline_of(PATIENCE_NS);
	__atomic_add_fetch(&s->bench->met, 1, __ATOMIC_ACQ_REL);
	s->meetings++;
	while (__atomic_load_n(&s->bench->met, __ATOMIC_ACQUIRE) < 2 * s->meetings) {
		if (cli_now_ns() > deadline)
			return fail(s, "the other process does not come");
		sched_yield();
	}
	return 0;
}

/* ---- cache line ---- */

static uint64_t line_await(struct side *s, uint64_t other_than)
{
	uint64_t word;
	while ((word = __atomic_load_n(&s->bench->line, __ATOMIC_ACQUIRE)) == other_than)
		if (s->bench->one_cpu)
			sched_yield();
	return word;
}

/* Nanoseconds for the line to the other processor and back, with nothing but a load and a store at
 * each end. */
static double line_rounds(struct side *s)
{
	uint64_t begin = cli_now_ns(), now = begin, n = 0;
	while (now - begin < LINE_NS) {
		for (unsigned i = 0; i < 64; i++, n++) {
			__atomic_store_n(&s->bench->line, 2 * n + 1, __ATOMIC_RELEASE);
			line_await(s, 2 * n + 1);
		}
		now = cli_now_ns();
	}
	__atomic_store_n(&s->bench->line, LINE_END, __ATOMIC_RELEASE);
	return (double)(now - begin) / (double)n;
}

static void line_answers(struct side *s)
{
	uint64_t seen = 0;
	while ((seen = line_await(s, seen)) != LINE_END)
		__atomic_store_n(&s->bench->line, ++seen, __ATOMIC_RELEASE);
}

static int measure_line(struct side *s, double *ns)
{
	if (s->who == 0)
		__atomic_store_n(&s->bench->line, 0, __ATOMIC_RELEASE);
	if (meet(s) < 0)
		return -1;
	if (s->who == 0)
		*ns = line_rounds(s);
	else
		line_answers(s);
	return meet(s);
}

/* ---- messages ---- */

static int put(struct side *s, const void *data, uint64_t size)
{
	int r = ringbus_contact_address(s->node, &s->to, data, (size_t)size, PATIENCE_NS);
	return r < 0 ? fail_bus(s, "cannot send", r) : 0;
}

static int get(struct side *s, struct ringbus_message *message)
{
	do {
		int r = ringbus_next(s->node, message, PATIENCE_NS);
		if (r < 0)
			return fail_bus(s, "cannot receive", r);
	} while (message->kind != RINGBUS_CONTACT);
	return 0;
}

static int put_numbered(struct side *s, uint64_t number, uint64_t size)
{
	memcpy(s->payload, &number, sizeof number);
	return put(s, s->payload, size);
}

static int check(struct side *s, const struct ringbus_message *message, uint64_t number,
		 uint64_t size)
{
	uint64_t got = 0;
	if (message->size == size)
		memcpy(&got, message->data, sizeof got);
	if (message->size == size && got == number)
		return 0;
	return fail(s, "message %llu of %llu bytes came as %llu of %zu", (unsigned long long)number,
		    (unsigned long long)size, (unsigned long long)got, message->size);
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* A slice of the round trips; its times stand at `first`. Returns how many, or -1. */
static int round_trips(struct side *s, const struct bench_row *row, size_t first)
{
	uint64_t end = cli_now_ns() + s->bench->duration_ns / BENCH_SLICES, begin, now = 0, n = 0;
	struct ringbus_message message;
	while (now < end && n < TIMES_MAX / BENCH_SLICES) {
		begin = cli_now_ns();
		if (put_numbered(s, n, row->size) < 0 || get(s, &message) < 0 ||
		    check(s, &message, n, row->size) < 0)
			return -1;
		now = cli_now_ns();
		s->times[first + n++] = now - begin;
	}
	qsort(s->times + first, (size_t)n, sizeof *s->times, by_value);
	return put(s, "", 1) < 0 ? -1 : (int)n;
}

static int answer_round_trips(struct side *s)
{
	struct ringbus_message message;
	for (;;) {
		if (get(s, &message) < 0)
			return -1;
		if (message.size == 1)
			return 0;
		if (put(s, message.data, message.size) < 0)
			return -1;
	}
}

static int stream(struct side *s, const struct bench_row *row)
{
	uint64_t end = cli_now_ns() + s->bench->duration_ns, n = 0;
	while (cli_now_ns() < end)
		for (unsigned i = 0; i < 32; i++)
			if (put_numbered(s, n++, row->size) < 0)
				return -1;
	return put(s, "", 1);
}

static int take_stream(struct side *s, struct bench_row *row)
{
	uint64_t begin = 0, n = 0;
	struct ringbus_message message;
	for (;; n++) {
		if (get(s, &message) < 0)
			return -1;
		if (message.size == 1)
			break;
		if (check(s, &message, n, row->size) < 0)
			return -1;
		if (n == 0)
			begin = cli_now_ns();
	}
	row->stream_ns = cli_now_ns() - begin;
	row->messages = n;
	return 0;
}

static int measure_round_trips(struct side *s, struct bench_row *row)
{
	size_t all = 0;
	for (unsigned i = 0; i < BENCH_SLICES; i++) {
		int n = measure_line(s, &row->line_ns[i]);
		if (n == 0)
			n = s->who == 0 ? round_trips(s, row, all) : answer_round_trips(s);
		if (n < 0 || meet(s) < 0)
			return -1;
		if (s->who != 0)
			continue;
		row->to_line[i] = (double)s->times[all + (size_t)(n - 1) / 2] / row->line_ns[i];
		all += (size_t)n;
	}
	if (s->who != 0)
		return 0;
	qsort(s->times, all, sizeof *s->times, by_value);
	row->rtt_count = all;
	row->rtt_p50_ns = s->times[(all - 1) / 2];
	row->rtt_p99_ns = s->times[(all - 1) * 99 / 100];
	return 0;
}

static int measure(struct side *s)
{
	struct bench *bench = s->bench;
	int r = 0;
	for (unsigned i = 0; r == 0 && i < bench->rows; i++) {
		r = measure_round_trips(s, &bench->row[i]);
		if (r == 0)
			r = s->who == 0 ? stream(s, &bench->row[i])
					: take_stream(s, &bench->row[i]);
		if (r == 0)
			r = meet(s);
	}
	return r;
}

/* ---- one child ---- */

static int join(struct side *s)
{
	struct bench *bench = s->bench;
	struct ringbus_node_options options = {
		.size = sizeof options,
		.port = bench->port,
		.directory = bench->directory,
		.timeout_ns = PATIENCE_NS,
		/* awake all the time: waking up is what `ringbus latency --interval` shows */
		.spin_ns = bench->one_cpu ? RINGBUS_NO_SPIN : PATIENCE_NS,
		.single_sender = true,
	};
	int r = ringbus_node_open(&s->node, &options);
	if (r < 0)
		return fail_bus(s, "cannot join", r);
	ringbus_node_address(s->node, &bench->address[s->who]);
	if (meet(s) < 0)
		return -1;
	s->to = bench->address[!s->who];
	return 0;
}

static int prepare(struct side *s)
{
	uint64_t largest = sizeof(uint64_t);
	for (unsigned i = 0; i < s->bench->rows; i++)
		if (s->bench->row[i].size > largest)
			largest = s->bench->row[i].size;
	s->payload = calloc(1, (size_t)largest);
	s->times = calloc(TIMES_MAX, sizeof *s->times);
	if (!s->payload || !s->times)
		return fail(s, "out of memory");
	return 0;
}

/* After the join: a node that may use one processor only does not spin. */
static int bind_cpu(struct side *s)
{
	int cpu = s->bench->cpus[s->who];
	cpu_set_t set;
	if (cpu < 0)
		return 0;
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, &set) < 0)
		return fail(s, "processor %d: %s", cpu, strerror(errno));
	return 0;
}

int bench_child(struct bench *bench, unsigned who)
{
	struct side side = {.bench = bench, .who = who};
	int r = prepare(&side);
	if (r == 0)
		r = join(&side);
	if (r == 0)
		r = bind_cpu(&side);
	if (r == 0)
		r = measure(&side);
	ringbus_node_close(side.node);
	free(side.payload);
	free(side.times);
	return r;
}

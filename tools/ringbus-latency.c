/* ringbus-latency.c: the verb latency: round trips to a node that sends messages back. */
#include "ringbus-verbs.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#define PINGS_MAX 10000000
#define ANSWER_NS UINT64_C(1000000000)
#define WARM_UP 10 /* the first messages open the rings of both directions */

enum latency_letter { LETTER_WAIT = 300 };

struct latency {
	struct call *call;
	struct ringbus_node *node;
	struct ringbus_address to;
	uint64_t size;
	uint64_t interval_ns;
	uint64_t count;
	uint64_t answer_ns; /* longest wait for one answer */
	bool wait;
	char *payload;
	uint64_t *times;
	uint64_t done;
	uint64_t sequence;
};

/* Whether this is the answer to the ping that is out: from whom it was sent to, of its size, and,
 * if it has room for that, with its number. */
static bool is_answer(const struct latency *l, const struct ringbus_message *message)
{
	uint64_t sequence = l->sequence;
	if (message->kind != RINGBUS_CONTACT || message->sender.slot != l->to.slot ||
	    (l->to.generation && message->sender.generation != l->to.generation) ||
	    message->size != l->size)
		return false;
	if (l->size >= sizeof sequence)
		memcpy(&sequence, message->data, sizeof sequence);
	return sequence == l->sequence;
}

/* One round trip. 0, or a negative errno code. */
static int ping(struct latency *l, uint64_t *ns)
{
	struct ringbus_message message;
	uint64_t begin, deadline;
	int r;
	l->sequence++;
	if (l->size >= sizeof l->sequence)
		memcpy(l->payload, &l->sequence, sizeof l->sequence);
	begin = cli_now_ns();
	deadline = deadline_of(l->answer_ns);
	r = ringbus_contact_address(l->node, &l->to, l->payload, (size_t)l->size, l->answer_ns);
	while (r >= 0) {
		r = ringbus_next(l->node, &message, left_until(deadline));
		if (r == 0 && is_answer(l, &message))
			break;
	}
	*ns = cli_now_ns() - begin;
	return r == -EAGAIN ? -ETIMEDOUT : r;
}

static int run_pings(struct latency *l)
{
	uint64_t next, unused;
	int r = 0;
	for (unsigned i = 0; r == 0 && i < WARM_UP; i++)
		r = ping(l, &unused);
	next = cli_now_ns();
	while (r == 0 && l->done < l->count) {
		if (stopped())
			return -EINTR;
		r = ping(l, &l->times[l->done]);
		if (r == 0)
			l->done++;
		next += l->interval_ns;
		if (l->interval_ns && l->done < l->count)
			sleep_until(next);
	}
	return r;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* The least time that at least this share of the round trips did not exceed. */
static uint64_t percentile(const struct latency *l, double share)
{
	uint64_t rank = (uint64_t)(share * (double)l->done + 0.999999);
	if (rank < 1)
		rank = 1;
	return l->times[(rank < l->done ? rank : l->done) - 1];
}

static double mean(const struct latency *l)
{
	double sum = 0;
	for (uint64_t i = 0; i < l->done; i++)
		sum += (double)l->times[i];
	return sum / (double)l->done;
}

static const struct {
	const char *text, *json;
	double share;
} percentiles[] = {
	{"min", "min_ns", 0},	  {"50 %", "p50_ns", 0.5},	{"90 %", "p90_ns", 0.9},
	{"99 %", "p99_ns", 0.99}, {"99.9 %", "p999_ns", 0.999}, {"max", "max_ns", 1},
};

static void print_json(const struct latency *l, uint64_t sleeps)
{
	struct cli_json json;
	cli_json_begin(&json, stdout, "ringbus.latency/1", cli_is_tty());
	cli_json_object(&json, "to");
	cli_json_u64(&json, "pid", l->to.pid);
	cli_json_u64(&json, "slot", l->to.slot);
	cli_json_u64(&json, "generation", l->to.generation);
	cli_json_close(&json);
	cli_json_u64(&json, "size", l->size);
	cli_json_u64(&json, "round_trips", l->done);
	cli_json_u64(&json, "sleeps", sleeps);
	for (size_t i = 0; i < COUNT_OF(percentiles); i++) {
		if (l->done)
			cli_json_u64(&json, percentiles[i].json,
				     percentile(l, percentiles[i].share));
		else
			cli_json_null(&json, percentiles[i].json);
	}
	if (l->done)
		cli_json_double(&json, "mean_ns", mean(l));
	else
		cli_json_null(&json, "mean_ns");
	cli_json_end(&json);
}

static void print_text(const struct latency *l, uint64_t sleeps)
{
	char trips[48], bytes[48];
	printf("%s of %s, slept for %llu of them\n",
	       cli_count(trips, sizeof trips, l->done, "round trip"),
	       cli_count(bytes, sizeof bytes, l->size, "byte"), (unsigned long long)sleeps);
	if (l->done == 0)
		return;
	for (size_t i = 0; i < COUNT_OF(percentiles); i++)
		printf("%s%8s%s %12.2f us\n", cli_colour(CLI_BOLD), percentiles[i].text,
		       cli_colour(CLI_PLAIN), (double)percentile(l, percentiles[i].share) / 1e3);
	printf("%s%8s%s %12.2f us\n", cli_colour(CLI_BOLD), "mean", cli_colour(CLI_PLAIN),
	       mean(l) / 1e3);
}

static int latency_end(struct latency *l, int r, uint64_t sleeps)
{
	bool endless = l->call->count == NO_LIMIT;
	qsort(l->times, (size_t)l->done, sizeof *l->times, by_value);
	if (l->call->json)
		print_json(l, sleeps);
	else
		print_text(l, sleeps);
	if (r == -ETIMEDOUT) {
		cli_error("no answer from %s; it must run \"ringbus listen --echo\"",
			  l->call->argv[0]);
		return CLI_TIMEOUT;
	}
	if (r == -EINTR)
		return endless && l->done ? CLI_OK : call_interrupted();
	return r < 0 ? call_failed(r) : CLI_OK;
}

static int latency_run(struct latency *l)
{
	struct ringbus_node_stats before = {.size = sizeof before}, after = {.size = sizeof after};
	int r, status;
	if (l->size > ringbus_node_payload_max(l->node))
		return call_too_large(l->node, l->size, false);
	l->payload = calloc(1, (size_t)l->size + 1);
	l->times = calloc((size_t)l->count + 1, sizeof *l->times);
	if (l->payload && l->times) {
		ringbus_node_stats(l->node, &before);
		r = run_pings(l);
		ringbus_node_stats(l->node, &after);
		status = latency_end(l, r, after.sleeps - before.sleeps);
	} else {
		status = call_out_of_memory();
	}
	free(l->payload);
	free(l->times);
	return status;
}

static bool latency_parse(struct latency *l)
{
	struct call *call = l->call;
	int letter;
	l->size = 64;
	while ((letter = call_option(call)) > 0) {
		if (letter == LETTER_WAIT)
			l->wait = true;
		else if (letter == 's' &&
			 (!cli_parse_size(optarg, &l->size) || l->size > SIZE_MAX / 2))
			call->status =
				cli_usage_error("\"%s\" is not a size (100, 4k, 1M)", optarg);
		else if (letter == 'i' && !cli_parse_duration(optarg, &l->interval_ns))
			call->status =
				cli_usage_error("\"%s\" is not a time (2, 0.5, 10ms)", optarg);
		if (call->status != CLI_OK)
			return false;
	}
	if (letter < 0 || !call_operands(call, 1, 1) ||
	    !call_name_valid(call, call->argv[0], "a node"))
		return false;
	l->count = call->count == NO_LIMIT ? 1000 : call->count;
	l->answer_ns = call->timeout_ns == NO_LIMIT ? ANSWER_NS : call->timeout_ns;
	if (l->count > PINGS_MAX)
		call->status = cli_usage_error("--count is 1 to %d here", PINGS_MAX);
	return call->status == CLI_OK;
}

static int run_latency(struct call *call)
{
	struct latency latency = {.call = call};
	int status;
	if (!latency_parse(&latency))
		return call->status;
	status = call_open(call, &latency.node);
	if (status)
		return status;
	status = call_find(call, latency.node, latency.wait, &latency.to);
	if (status == CLI_OK)
		status = latency_run(&latency);
	call_close(latency.node);
	return status;
}

static const struct verb_option latency_options[] = {
	{'s', "size", "SIZE", "bytes of each message: 0, 100, 4k (64)"},
	{'i', "interval", "TIME", "from one message to the next: 10ms, 1 (0: at once)"},
	{LETTER_WAIT, "wait", NULL, "wait first until the node is on the bus"},
	{0, NULL, NULL, NULL},
};

const struct verb verb_latency = {
	.name = "latency",
	.operands = "PID|NAME|SLOT:GENERATION",
	.help = "time round trips to a node that runs \"ringbus listen --echo\"",
	.more = "Times are of whole round trips, there and back; ten go before and are not "
		"counted.\n"
		"With an interval of milliseconds both sides sleep in between, and the times are\n"
		"those of waking up.",
	.examples = "  $ ringbus listen --echo --name mirror &\n"
		    "  $ ringbus latency mirror --wait\n"
		    "  $ ringbus latency mirror --interval 10ms --count 100 --json\n",
	.count_help = "make N round trips (1000)",
	.timeout_help = "end with 4 when an answer, or the node, takes longer: 2, 250ms (1; 60)",
	.has_bus = true,
	.has_node = true,
	.run = run_latency,
	.options = latency_options,
};

/* ringbus-rate.c: the verbs hz and bw: how often messages come, and how many bytes.
 *
 * Both take messages as subscribe and listen do, look at the clock for each, and print a line per
 * interval. They subscribe as lossy: who measures must not hold the emitter back. What was lost is
 * counted as messages, since it was sent, but has neither a gap nor a size.
 */
#include "ringbus-verbs.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>

#define INTERVAL_NS UINT64_C(1000000000)
#define WINDOW_MAX 10000000

enum rate_letter { LETTER_LITERAL = 300 };

/* Of a set of figures. Sum and squares are of the differences to the first, which keeps digits. */
struct moments {
	uint64_t n;
	double first, sum, squares;
	double min, max;
};

/* One message: what came since the one before it. */
struct arrival {
	double gap_ns; /* below 0: the first of all */
	double size;
};

struct period {
	struct moments gaps, sizes;
	uint64_t messages, lost;
	double bytes;
	uint64_t begin_ns, end_ns;
};

struct rate {
	struct call *call;
	struct ringbus_node *node;
	struct follow *follow; /* NULL: contacts */
	bool bytes;	       /* bw */
	bool literal;
	uint64_t interval_ns;
	uint64_t window; /* messages; 0: those of the interval */
	struct arrival *ring;
	struct period now, total;
	uint64_t last_ns; /* of the last message; 0: none yet */
	uint64_t taken;
};

static void moments_add(struct moments *m, double value)
{
	if (m->n++ == 0)
		m->first = m->min = m->max = value;
	m->sum += value - m->first;
	m->squares += (value - m->first) * (value - m->first);
	m->min = value < m->min ? value : m->min;
	m->max = value > m->max ? value : m->max;
}

/* NAN where there is nothing. */
static double moments_mean(const struct moments *m)
{
	return m->n ? m->first + m->sum / (double)m->n : NAN;
}

static double moments_deviation(const struct moments *m)
{
	double n = (double)m->n, variance;
	if (m->n == 0)
		return NAN;
	variance = m->squares / n - (m->sum / n) * (m->sum / n);
	return variance > 0 ? sqrt(variance) : 0;
}

static void period_add(struct period *period, const struct arrival *a)
{
	if (a->gap_ns >= 0)
		moments_add(&period->gaps, a->gap_ns);
	moments_add(&period->sizes, a->size);
	period->messages++;
	period->bytes += a->size;
}

static void take(struct rate *rate, const struct ringbus_message *message)
{
	uint64_t now = cli_now_ns();
	struct arrival a = {
		.gap_ns = rate->last_ns ? (double)(now - rate->last_ns) : -1,
		.size = (double)message->size,
	};
	rate->last_ns = now;
	if (rate->window)
		rate->ring[rate->taken % rate->window] = a;
	rate->taken++;
	rate->now.lost += message->lost;
	period_add(&rate->now, &a);
	period_add(&rate->total, &a);
}

/* The last `window` messages; they span the sum of their gaps. */
static void window_period(const struct rate *rate, struct period *period)
{
	uint64_t n = rate->taken < rate->window ? rate->taken : rate->window;
	for (uint64_t i = rate->taken - n; i < rate->taken; i++)
		period_add(period, &rate->ring[i % rate->window]);
	period->lost = rate->now.lost;
	period->begin_ns = 0;
	period->end_ns = (uint64_t)(moments_mean(&period->gaps) * (double)period->gaps.n);
	/* n messages with n - 1 gaps: the first only begins the time */
	if (period->gaps.n < n)
		period->messages = period->gaps.n;
}

static void print_text(const struct rate *rate, const struct period *period, const char *what,
		       double per_second, double bytes_per_second)
{
	const struct moments *m = rate->bytes ? &period->sizes : &period->gaps;
	char bytes[32];
	if (rate->bytes)
		printf("%s%s/s%s  %.1f messages/s", cli_colour(CLI_BOLD),
		       cli_format_size(bytes, sizeof bytes, (uint64_t)bytes_per_second),
		       cli_colour(CLI_PLAIN), per_second);
	else
		printf("%s%.3f/s%s", cli_colour(CLI_BOLD), per_second, cli_colour(CLI_PLAIN));
	if (m->n && rate->bytes)
		printf("  bytes min %.0f mean %.1f max %.0f dev %.1f", m->min, moments_mean(m),
		       m->max, moments_deviation(m));
	else if (m->n)
		printf("  ms min %.3f mean %.3f max %.3f dev %.3f", m->min / 1e6,
		       moments_mean(m) / 1e6, m->max / 1e6, moments_deviation(m) / 1e6);
	printf("  messages %llu lost %llu%s\n", (unsigned long long)period->messages,
	       (unsigned long long)period->lost, what);
}

static void print_json(const struct rate *rate, const struct period *period, const char *what,
		       double per_second, double bytes_per_second)
{
	const struct moments *m = rate->bytes ? &period->sizes : &period->gaps;
	const char *const gaps[] = {"min_ns", "mean_ns", "max_ns", "stddev_ns"};
	const char *const sizes[] = {"min_bytes", "mean_bytes", "max_bytes", "stddev_bytes"};
	const char *const *names = rate->bytes ? sizes : gaps;
	struct cli_json json;
	cli_json_begin(&json, stdout, rate->bytes ? "ringbus.bw/1" : "ringbus.hz/1", false);
	cli_json_string(&json, "period", what);
	cli_json_double(&json, "seconds", (double)(period->end_ns - period->begin_ns) / 1e9);
	cli_json_u64(&json, "messages", period->messages);
	cli_json_u64(&json, "lost", period->lost);
	cli_json_double(&json, "rate", per_second);
	if (rate->bytes) {
		cli_json_double(&json, "bytes", period->bytes);
		cli_json_double(&json, "bytes_per_second", bytes_per_second);
	}
	cli_json_double(&json, names[0], m->n ? m->min : NAN);
	cli_json_double(&json, names[1], moments_mean(m));
	cli_json_double(&json, names[2], m->n ? m->max : NAN);
	cli_json_double(&json, names[3], moments_deviation(m));
	cli_json_end(&json);
}

static void print_period(const struct rate *rate, const struct period *period, const char *what)
{
	double seconds = (double)(period->end_ns - period->begin_ns) / 1e9;
	double n = (double)period->messages;
	double per_second = seconds > 0 ? (n + (double)period->lost) / seconds : 0;
	double bytes_per_second = seconds > 0 ? period->bytes / seconds : 0;
	if (rate->call->json)
		print_json(rate, period, what, per_second, bytes_per_second);
	else
		print_text(rate, period, *what == 't' ? "  (total)" : "", per_second,
			   bytes_per_second);
}

/* Prints the interval that ends now, and begins the next. */
static void end_interval(struct rate *rate, uint64_t now)
{
	struct period window = {0};
	rate->now.end_ns = now;
	rate->total.lost += rate->now.lost;
	if (rate->window && rate->now.messages > 0) {
		window_period(rate, &window);
		print_period(rate, &window, "window");
	} else {
		print_period(rate, &rate->now, "interval");
	}
	rate->now = (struct period){.begin_ns = now};
}

static void on_notice(struct rate *rate, const struct ringbus_message *message)
{
	if (message->notice == RINGBUS_LOST)
		rate->now.lost += message->count;
	else if (message->notice == RINGBUS_EVENT_DISSOLVED && rate->follow)
		follow_ended(rate->follow, message);
}

/* Messages until the interval is over, or all is. 0, -ETIMEDOUT for the interval, or why it ends.
 */
static int run_interval(struct rate *rate, uint64_t until)
{
	enum ringbus_kind kind = rate->follow ? RINGBUS_EVENT : RINGBUS_CONTACT;
	while (rate->taken < rate->call->count && !(rate->follow && follow_over(rate->follow))) {
		struct ringbus_message message;
		int r = stopped() ? -EINTR
				  : receive_next(rate->node, rate->follow, &message, until);
		if (r < 0)
			return r;
		if (message.kind == kind)
			take(rate, &message);
		else if (message.kind == RINGBUS_NOTICE)
			on_notice(rate, &message);
		if (rate->last_ns >= until)
			return -ETIMEDOUT;
	}
	return 0;
}

static int rate_status(const struct rate *rate, int r)
{
	bool unmet = rate->call->count != NO_LIMIT && rate->taken < rate->call->count;
	if (r == -EINTR)
		return unmet ? call_interrupted() : CLI_OK;
	if (r < 0 && r != -ETIMEDOUT && r != -EPIPE)
		return call_failed(r);
	if (r == -ETIMEDOUT && (unmet || rate->taken == 0))
		return CLI_TIMEOUT;
	return r == 0 && unmet ? CLI_MISSING : CLI_OK;
}

static int rate_run(struct rate *rate)
{
	uint64_t begin = cli_now_ns(), deadline = deadline_of(rate->call->timeout_ns);
	uint64_t tick = begin + rate->interval_ns;
	int r;
	rate->now.begin_ns = rate->total.begin_ns = begin;
	for (;;) {
		r = run_interval(rate, tick < deadline ? tick : deadline);
		if (r != -ETIMEDOUT || cli_now_ns() >= deadline)
			break;
		end_interval(rate, tick);
		tick += rate->interval_ns;
		if (cli_now_ns() > tick) /* stopped meanwhile, or asleep: no lines for that */
			tick = cli_now_ns() + rate->interval_ns;
	}
	if (r != -EPIPE) {
		uint64_t now = cli_now_ns();
		if (rate->now.messages > 0 || rate->now.lost > 0)
			end_interval(rate, now);
		rate->total.end_ns = now;
		print_period(rate, &rate->total, "total");
	}
	return rate_status(rate, r);
}

static bool rate_parse(struct rate *rate)
{
	struct call *call = rate->call;
	int letter;
	rate->interval_ns = INTERVAL_NS;
	while ((letter = call_option(call)) > 0) {
		if (letter == LETTER_LITERAL)
			rate->literal = true;
		else if (letter == 'i' && (!cli_parse_duration(optarg, &rate->interval_ns) ||
					   rate->interval_ns < 1000000))
			call->status =
				cli_usage_error("\"%s\" is not a time of 1ms or more", optarg);
		else if (letter == 'w' && !cli_parse_u64(optarg, 2, WINDOW_MAX, &rate->window))
			call->status =
				cli_usage_error("\"%s\" is not a number of messages (2 to %d)",
						optarg, WINDOW_MAX);
		if (call->status != CLI_OK)
			return false;
	}
	return letter == 0 && call_operands(call, 0, 65535) && call_events_valid(call);
}

static int rate_subscribe(struct rate *rate, struct follow *follow)
{
	struct call *call = rate->call;
	if (rate->window) {
		rate->ring = calloc(rate->window, sizeof *rate->ring);
		if (!rate->ring)
			return -ENOMEM;
	}
	if (call->argc == 0)
		return 0;
	*follow = (struct follow){
		.node = rate->node,
		.lossy = true,
		.literal = rate->literal,
		.verbose = call->verbose,
	};
	rate->follow = follow;
	return follow_open(follow, call);
}

static int run_rate(struct call *call, bool bytes)
{
	struct follow follow = {0};
	struct rate rate = {.call = call, .bytes = bytes};
	int status, r;
	if (!rate_parse(&rate))
		return call->status;
	call->watch_events = true; /* for patterns */
	status = call_open(call, &rate.node);
	if (status)
		return status;
	call_watch_output();
	r = rate_subscribe(&rate, &follow);
	if (r == 0 && call->verbose && !rate.follow)
		cli_note("measuring contacts");
	status = r < 0 ? call_failed(r) : rate_run(&rate);
	follow_close(&follow);
	free(rate.ring);
	call_close(rate.node);
	return status;
}

static int run_hz(struct call *call)
{
	return run_rate(call, false);
}

static int run_bw(struct call *call)
{
	return run_rate(call, true);
}

static const struct verb_option rate_options[] = {
	{'i', "interval", "TIME", "print a line each TIME: 5, 250ms (1 s)"},
	{'w', "window", "N", "figures of the last N messages (those of the interval)"},
	{LETTER_LITERAL, "literal", NULL, "* and ? in names stand for themselves"},
	{0, NULL, NULL, NULL},
};

#define RATE_COUNT "end after N messages"
#define RATE_TIMEOUT "end after TIME; with 4 if none, or fewer than N, came (no limit)"
#define RATE_MORE                                                                                 \
	"Without EVENT: of the messages sent to this node directly. EVENT may be a pattern, as\n" \
	"for \"ringbus subscribe\". The last line is of the whole time. It never holds an "       \
	"emitter\n"                                                                               \
	"back; what it missed counts as messages and is shown as lost."

const struct verb verb_hz = {
	.name = "hz",
	.operands = "[EVENT]...",
	.help = "how often messages come",
	.more = RATE_MORE "\nIntervals between messages are as seen here: milliseconds, in JSON "
			  "nanoseconds.",
	.examples = "  $ ringbus hz news\n"
		    "  $ ringbus hz 'sensor.*' --interval 5 --json\n",
	.count_help = RATE_COUNT,
	.timeout_help = RATE_TIMEOUT,
	.has_bus = true,
	.has_node = true,
	.run = run_hz,
	.options = rate_options,
};

const struct verb verb_bw = {
	.name = "bw",
	.operands = "[EVENT]...",
	.help = "how many bytes come",
	.more = RATE_MORE "\nBytes are those of payloads.",
	.examples = "  $ ringbus bw video\n"
		    "  $ ringbus bw '*' --timeout 10 --json\n",
	.count_help = RATE_COUNT,
	.timeout_help = RATE_TIMEOUT,
	.has_bus = true,
	.has_node = true,
	.run = run_bw,
	.options = rate_options,
};

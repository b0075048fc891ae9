/* hostile.c: see hostile.h. */
#include "hostile.h"

#include <execinfo.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <sys/syscall.h>

#define RANGES 4096
#define RECENT 64
#define LOADS_MAX 40000u /* of one operation on the small buses of these tests */

struct range {
	uintptr_t begin, end;
};

static struct {
	uint64_t random;
	unsigned per_mille;
	const char *operation;
	uint64_t loads; /* of this operation */
	bool is_private;
	struct ringbus_node *victim;
	uint64_t recent[RECENT];
	unsigned recent_at;
	struct range ranges[RANGES];
	unsigned range_count;
	struct hostile_counts counts;
} h;

static _Thread_local bool armed;

uint64_t hostile_random(void)
{
	return splitmix(&h.random);
}

const struct hostile_counts *hostile_counts(void)
{
	return &h.counts;
}

static _Noreturn void fail_here(const char *what)
{
	char text[160];

	armed = false;
	if (harness_number("HARNESS_ABORT", 0)) {
		void *stack[32];

		backtrace_symbols_fd(stack, backtrace(stack, 32), STDERR_FILENO);
	}
	snprintf(text, sizeof(text), "%s in '%s' after %llu loads", what, h.operation,
		 (unsigned long long)h.loads);
	harness_child_fail(text, 0, __FILE__, __LINE__);
}

/* ---- where accesses may go ---- */

static void read_ranges(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];

	h.range_count = 0;
	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long begin, end;

		/* a file that was made without a name keeps none here */
		if (!strstr(line, bus_directory()) || sscanf(line, "%lx-%lx", &begin, &end) != 2)
			continue;
		if (h.range_count == RANGES)
			fail_here("too many mappings");
		h.ranges[h.range_count++] = (struct range){begin, end};
	}
	if (maps)
		fclose(maps);
}

/* Adjacent mappings of one file need not be in its order, but what lies in one of them is ours to
 * touch. */
static bool in_ranges(uintptr_t at, size_t bytes)
{
	for (unsigned i = 0; i < h.range_count; i++)
		if (at >= h.ranges[i].begin && at < h.ranges[i].end &&
		    bytes <= h.ranges[i].end - at)
			return true;
	return false;
}

void hostile_check_range(const void *at, size_t bytes)
{
	if (h.is_private || in_ranges((uintptr_t)at, bytes))
		return;
	read_ranges();
	if (!in_ranges((uintptr_t)at, bytes))
		fail_here("access outside of the region");
}

/* ---- lies ---- */

/* Position of a word in one of the victim's rings. */
static bool ring_position(const struct shm_word *w, uint64_t *position, uint64_t *capacity)
{
	const uint8_t *at = (const void *)w;

	for (uint32_t s = 0; h.victim && s < h.victim->region->g.nodes; s++) {
		const struct link_rx *rx = h.victim->rx[s];
		const struct link_tx *tx = h.victim->tx[s];
		const uint8_t *data;
		uint64_t from;

		if (rx && at >= rx->ring.data && at < rx->ring.data + rx->ring.capacity) {
			data = rx->ring.data;
			from = rx->ring.at;
			*capacity = rx->ring.capacity;
		} else if (tx && at >= tx->ring.data && at < tx->ring.data + tx->ring.capacity) {
			data = tx->ring.data;
			from = tx->ring.head;
			*capacity = tx->ring.capacity;
		} else {
			continue;
		}
		*position = from + (((uint64_t)(at - data) - from) & (*capacity - 1));
		return true;
	}
	return false;
}

static uint64_t forged_record(uint64_t position, uint64_t capacity)
{
	uint64_t left = capacity - (position & (capacity - 1));
	uint64_t dice = hostile_random();
	uint64_t bytes[] = {8,
			    24,
			    32,
			    40,
			    48,
			    56,
			    left,
			    left - 8,
			    left + 8,
			    capacity,
			    dice >> 40 & (capacity - 1) & ~7ull,
			    dice >> 40};

	return record_word0(position, bytes[dice % 12] & UINT32_MAX,
			    (enum record_kind)(dice >> 8 & 7), dice >> 12 & 7,
			    (dice >> 16 & 7 ? 0 : RECORD_DROPS) |
				    (dice >> 20 & 7 ? 0 : RECORD_STAMPED));
}

static uint64_t forged_word(void)
{
	uint64_t dice = hostile_random(), low = dice >> 32;

	switch (dice % 5) {
	case 0: /* a slot */
		return slot_word(low & 7, low & 0x100 ? (uint32_t)getpid() : low >> 8 & 0xffff,
				 (enum slot_state)(dice >> 8 & 7));
	case 1: /* an event */
		return event_word(low & 7, dice >> 8 & 15, dice >> 16 & 3,
				  (enum event_state)(dice >> 24 & 3));
	case 2: /* a chunk */
		return pool_chunk_id(dice >> 8 & 3, dice >> 16 & 3, low & 255);
	case 3: /* an offset, with a class in its low bits */
		return (low & 511) << 12 |
		       (dice >> 8 & 3	 ? 0
			: dice >> 10 & 1 ? POOL_CLASS_BIG
					 : 1 + POOL_SHIFT_MIN + (dice >> 12 & 7));
	default: /* the size of an extent */
		return (low & 1023) << 12 | (dice >> 8 & 3) << 48;
	}
}

static uint64_t lie(const struct shm_word *w, uint64_t truth)
{
	static const uint64_t edges[] = {1ull << 31, 1ull << 32, UINT32_MAX, (1ull << 32) - 8,
					 1ull << 63, 1ull << 40, 4096,	     4096 + 8,
					 4096 - 8,   1ull << 41, 65536,	     INT64_MAX,
					 UINT16_MAX, 1ull << 24, 255,	     256};
	uint64_t position, capacity, dice = hostile_random();

	if (ring_position(w, &position, &capacity) && dice & 1)
		return forged_record(position, capacity);
	switch (dice >> 8 & 15) {
	case 0:
		return 0;
	case 1:
		return UINT64_MAX;
	case 2:
		return truth ^ 1ull << (dice >> 16 & 63);
	case 3:
		return truth + 8;
	case 4:
		return truth - 8;
	case 5:
		return truth + (dice >> 16 & 1 ? 1 : UINT64_MAX);
	case 6:
	case 7:
		return h.recent[dice >> 16 & (RECENT - 1)];
	case 8:
		return edges[dice >> 16 & 15];
	case 9:
		return truth + edges[dice >> 16 & 15];
	case 10:
		return dice >> 16 & 63;
	case 11:
		return hostile_random();
	default:
		return forged_word();
	}
}

/* ---- hooks ---- */

static uint64_t choose(const struct shm_word *w, uint64_t truth)
{
	if (++h.loads > LOADS_MAX)
		fail_here("too many loads");
	if (hostile_below(1000) < h.per_mille) {
		h.counts.lies++;
		truth = lie(w, truth);
	}
	h.recent[h.recent_at++ & (RECENT - 1)] = truth;
	return truth;
}

static uint64_t hook_load(const struct shm_word *w, enum shm_order order)
{
	if (!armed)
		return atomic_load_explicit(&w->v, memory_order_acquire);
	hostile_check_range(w, sizeof(*w));
	return choose(w, atomic_load_explicit(&w->v, memory_order_acquire));
}

static void hook_store(struct shm_word *w, uint64_t v, enum shm_order order)
{
	if (armed)
		hostile_check_range(w, sizeof(*w));
	atomic_store_explicit(&w->v, v, memory_order_release);
}

/* An exchange that fails has seen something else, whatever stands there. */
static bool hook_cas(struct shm_word *w, uint64_t *expected, uint64_t desired)
{
	if (armed) {
		hostile_check_range(w, sizeof(*w));
		if (hostile_below(1000) < h.per_mille) {
			*expected = choose(w, *expected);
			return false;
		}
		h.loads++;
	}
	return atomic_compare_exchange_strong_explicit(&w->v, expected, desired,
						       memory_order_acq_rel, memory_order_acquire);
}

static uint64_t hook_rmw(struct shm_word *w, enum shm_rmw op, uint64_t v)
{
	uint64_t old;

	if (armed)
		hostile_check_range(w, sizeof(*w));
	old = op == SHM_OR    ? atomic_fetch_or_explicit(&w->v, v, memory_order_acq_rel)
	      : op == SHM_AND ? atomic_fetch_and_explicit(&w->v, v, memory_order_acq_rel)
			      : atomic_fetch_add_explicit(&w->v, v, memory_order_acq_rel);
	return armed ? choose(w, old) : old;
}

static void hook_copy_in(void *to, const void *shared, size_t bytes)
{
	if (armed && bytes > 0)
		hostile_check_range(shared, bytes);
	if (bytes > 0)
		memcpy(to, shared, bytes);
	if (armed && bytes > 0 && hostile_below(4) == 0)
		((uint8_t *)to)[hostile_below(bytes)] ^= 1;
}

static void hook_copy_out(void *shared, const void *from, size_t bytes)
{
	if (armed && bytes > 0)
		hostile_check_range(shared, bytes);
	if (bytes > 0)
		memcpy(shared, from, bytes);
}

static int hook_futex_wait(struct shm_word *w, uint32_t low, uint64_t timeout_ns)
{
	struct timespec ts = {.tv_sec = (time_t)(timeout_ns / RB_SECOND),
			      .tv_nsec = (long)(timeout_ns % RB_SECOND)};

	if (armed) {
		hostile_check_range(w, sizeof(*w));
		return hostile_below(2) ? -ETIMEDOUT : 0;
	}
	if (syscall(SYS_futex, w, FUTEX_WAIT, low, timeout_ns == UINT64_MAX ? NULL : &ts, NULL,
		    0) == 0)
		return 0;
	return errno == EAGAIN ? 0 : -errno;
}

static const struct shm_hooks hooks = {
	.load = hook_load,
	.store = hook_store,
	.cas = hook_cas,
	.rmw = hook_rmw,
	.copy_in = hook_copy_in,
	.copy_out = hook_copy_out,
	.futex_wait = hook_futex_wait,
};

void hostile_begin(uint64_t seed)
{
	h.random = seed;
	memset(h.recent, 0, sizeof(h.recent));
	shm_hooks = &hooks;
}

void hostile_victim(struct ringbus_node *node)
{
	h.victim = node;
}

void hostile_private(bool is_private)
{
	h.is_private = is_private;
}

void hostile_arm(const char *operation, unsigned per_mille)
{
	h.operation = operation;
	h.per_mille = per_mille;
	h.loads = 0;
	armed = true;
}

static bool documented(int rc)
{
	static const int codes[] = {EACCES,    EAGAIN,	 EBADMSG, EBUSY,       EEXIST, EFAULT,
				    EINVAL,    EMSGSIZE, ENFILE,  ENOENT,      ENOSPC, ENOTCONN,
				    ENOTSUP,   ENOTUNIQ, EPERM,	  EPROTO,      ESRCH,  ESTALE,
				    ETIMEDOUT, EUSERS,	 ENOMEM,  ECONNREFUSED};

	for (unsigned i = 0; i < rb_array_size(codes); i++)
		if (rc == -codes[i])
			return true;
	return rc >= 0;
}

void hostile_disarm(int rc)
{
	armed = false;
	h.counts.operations++;
	h.counts.loads += h.loads;
	h.counts.failed += rc < 0;
	if (h.loads > h.counts.worst) {
		h.counts.worst = h.loads;
		h.counts.worst_operation = h.operation;
	}
	if (!documented(rc))
		harness_child_fail(h.operation, rc, __FILE__, __LINE__);
}

void hostile_scribble(unsigned words)
{
	for (unsigned i = 0; i < words; i++) {
		uint64_t at = RB_PAGE + hostile_below(image_file_bytes() - RB_PAGE);

		at &= ~7ull;
		image_put(at, lie(NULL, image_get(at)));
	}
}

void hostile_run(child_fn fn, const char *test, uint64_t seed)
{
	pid_t child = child_start(fn, 0);

	setenv("HARNESS_NO_CHECK", "1", 1); /* nobody promises that such a region is sound */
	while (!child_ended(child))
		pause_briefly();
	if (flag_get(1) == 0)
		print_error("replay: HOSTILE_SEED=%llu HOSTILE_FIRST=%llu HOSTILE_EPISODES=1 %s\n",
			    (unsigned long long)seed, (unsigned long long)flag_get(0), test);
	child_join(child);
}

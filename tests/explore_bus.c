/* explore_bus.c: whole nodes for the schedule explorer; see explore_bus.h. */
#include "explore_bus.h"

#include "join.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#define LOCK_FD 100000
#define PID_OF(process) (1000u + (process))

struct bus *bus;
static uint8_t guard_page[4096] = {1};
static bool in_private; /* allocations of the library come from private memory */

static unsigned self(void)
{
	return ex.self == EX_NOBODY ? bus->acting : ex.self;
}

/* ---- what the kernel would do ---- */

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t n, size_t bytes);
void *__real_realloc(void *old, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void __real_free(void *at);
int __real_close(int fd);
int __real_clock_gettime(clockid_t clock, struct timespec *ts);
int __real_nanosleep(const struct timespec *time, struct timespec *left);
int __real_fcntl(int fd, int command, ...);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t n, size_t bytes);
void *__wrap_realloc(void *old, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *at);
int __wrap_close(int fd);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts);
int __wrap_nanosleep(const struct timespec *time, struct timespec *left);
int __wrap_fcntl(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int __wrap_region_size(const struct region *region, uint64_t *bytes);
int __wrap_region_map(const struct region *region, uint64_t offset, uint64_t bytes, bool writable,
		      bool populate, void **map);
void __wrap_region_unmap(const struct region *region, void *map, uint64_t bytes);
int __wrap_region_allocate(const struct region *region, uint64_t offset, uint64_t bytes);
int __wrap_region_punch(const struct region *region, uint64_t offset, uint64_t bytes);
int __wrap_region_open_lock(const char *directory, unsigned port, bool create);
enum peer_life __wrap_peer_check(struct region *region, uint32_t slot, uint64_t word);
int __wrap_join_bus(const struct join_request *request, struct join_result *result);
int __wrap_event_init(struct ringbus_node *node);

/* The bytes stand before what is given out; nothing is ever given back. */
void *__wrap_malloc(size_t bytes)
{
	uint64_t *at;

	if (!in_private)
		return __real_malloc(bytes);
	at = ex_private(bytes + RB_LINE);
	*at = bytes;
	return (uint8_t *)at + RB_LINE;
}

void *__wrap_calloc(size_t n, size_t bytes)
{
	return in_private ? __wrap_malloc(n * bytes) : __real_calloc(n, bytes);
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	return in_private ? __wrap_malloc(bytes) : __real_aligned_alloc(alignment, bytes);
}

void *__wrap_realloc(void *old, size_t bytes)
{
	void *new;

	if (!in_private)
		return __real_realloc(old, bytes);
	new = __wrap_malloc(bytes);
	if (old)
		memcpy(new, old, rb_min(bytes, *(uint64_t *)(void *)((uint8_t *)old - RB_LINE)));
	return new;
}

void __wrap_free(void *at)
{
	if (!in_private)
		__real_free(at);
}

/* Each look at the clock takes a little, so that nothing is put off because it was just done. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *ts)
{
	if (!in_private)
		return __real_clock_gettime(clock, ts);
	bus->now_ns += 2 * RB_MS;
	*ts = (struct timespec){(time_t)(bus->now_ns / RB_SECOND), (long)(bus->now_ns % RB_SECOND)};
	return 0;
}

static bool lock_is_free(void)
{
	return bus->lock_holder == EX_NOBODY || ex_is_dead(bus->lock_holder);
}

int __wrap_nanosleep(const struct timespec *time, struct timespec *left)
{
	if (!in_private)
		return __real_nanosleep(time, left);
	ex_await(lock_is_free);
	return 0;
}

static int lock_region(int fd)
{
	unsigned process = (unsigned)(fd - LOCK_FD);

	ex_point();
	if (!lock_is_free()) {
		errno = EAGAIN;
		return -1;
	}
	if (bus->lock_holder != EX_NOBODY)
		ex_join(bus->lock_holder);
	ex_take_over();
	bus->lock_holder = process;
	ex_trace("  %u has the control lock", process);
	return 0;
}

static int control_of_fd(int fd, int command, void *argument)
{
	struct flock *lock = argument;

	if (fd < LOCK_FD)
		return __real_fcntl(fd, command, argument);
	if (command == F_OFD_SETLK)
		return lock_region(fd);
	lock->l_type = F_WRLCK; /* somebody is the service */
	return 0;
}

int __wrap_fcntl(int fd, int command, ...)
{
	va_list list;
	void *argument;

	va_start(list, command);
	argument = va_arg(list, void *);
	va_end(list);
	return control_of_fd(fd, command, argument);
}

int __wrap_fcntl64(int fd, int command, ...)
{
	va_list list;
	void *argument;

	va_start(list, command);
	argument = va_arg(list, void *);
	va_end(list);
	return control_of_fd(fd, command, argument);
}

int __wrap_close(int fd)
{
	if (fd < LOCK_FD)
		return __real_close(fd);
	if (bus->lock_holder != (unsigned)(fd - LOCK_FD))
		return 0;
	ex_point();
	ex_hand_over();
	bus->lock_holder = EX_NOBODY;
	ex_trace("  %u drops the control lock", self());
	return 0;
}

int __wrap_region_open_lock(const char *directory, unsigned port, bool create)
{
	return LOCK_FD + (int)self();
}

int __wrap_region_map(const struct region *region, uint64_t offset, uint64_t bytes, bool writable,
		      bool populate, void **map)
{
	if (offset + bytes > EX_SHARED_BYTES)
		return -EBADMSG;
	*map = ex_shared + offset;
	return 0;
}

int __wrap_region_size(const struct region *region, uint64_t *bytes)
{
	*bytes = EX_SHARED_BYTES;
	return 0;
}

void __wrap_region_unmap(const struct region *region, void *map, uint64_t bytes)
{
}

/* A ring or an extent of the pool: which, its size tells. */
int __wrap_region_allocate(const struct region *region, uint64_t offset, uint64_t bytes)
{
	struct layout_ring_tx *tx = (void *)(ex_shared + offset);
	struct layout_ring_rx *rx = (void *)(ex_shared + offset + RB_PAGE + BUS_RING);

	if (offset + bytes > EX_SHARED_BYTES)
		return -ENOSPC;
	if (bytes == rb_align_up(layout_ring_extent_bytes(&region->g), RB_PAGE)) {
		ex_quiet(&tx->drops, RB_LINE);
		ex_quiet(&tx->starts, sizeof(tx->starts));
		ex_quiet(&rx->messages, RB_LINE);
		ex_data(ex_shared + offset + RB_PAGE, BUS_RING);
	} else {
		ex_data(ex_shared + offset + RB_PAGE, bytes - RB_PAGE);
	}
	return 0;
}

int __wrap_region_punch(const struct region *region, uint64_t offset, uint64_t bytes)
{
	ex_point();
	ex_zero(ex_shared + offset, bytes);
	return 0;
}

/* Dead is who the explorer has killed; as the real one, it counts only for the very word. */
enum peer_life __wrap_peer_check(struct region *region, uint32_t slot, uint64_t word)
{
	unsigned owner = bus->owner[slot][slot_generation(word) % 8];

	ex_point();
	if (!ex_is_dead(owner))
		return PEER_ALIVE;
	ex_join(owner);
	/* sync SLOT prover: evidence before this load; pairs SLOT joiner in join_claim() */
	return shm_load_acquire(&region->bells[slot].slot) == word ? PEER_DEAD : PEER_ALIVE;
}

/* The service's part, by the joining process itself; it may die in the middle as the service may.
 */
int __wrap_join_bus(const struct join_request *request, struct join_result *result)
{
	struct peer_identity id = {.pid = PID_OF(self())};
	struct region *region = &bus->region[self()];
	uint64_t word;
	struct control c;
	int r = control_lock(&c, region, request->deadline_ns);

	if (r < 0)
		return r;
	r = control_grant(&c, &id, &result->slot, &result->generation);
	if (r == 0)
		bus->owner[result->slot][result->generation % 8] = (uint8_t)self();
	control_unlock(&c);
	if (r < 0)
		return r;
	word = slot_word(result->generation, id.pid, SLOT_GRANTED);
	if (!shm_cas(&region->bells[result->slot].slot, &word,
		     slot_word(result->generation, id.pid, SLOT_JOINING)))
		return -ETIMEDOUT;
	result->region = region;
	result->pid = id.pid;
	result->connection = -1;
	return 0;
}

/* No table of names: handles are made by bus_event(). */
int __wrap_event_init(struct ringbus_node *node)
{
	node->table = calloc(node->region->g.events, sizeof(*node->table));
	return 0;
}

/* ---- a bus ---- */

static void make_region(struct region *r, const struct layout_geometry *g)
{
	uint8_t *control = ex_shared + g->control_offset;

	r->g = *g;
	r->port = 1;
	r->guard = guard_page;
	r->condemned = (struct own_word *)(void *)(guard_page + RB_LINE);
	r->fd = r->live_fd = -1;
	r->common = (void *)(ex_shared + g->common_offset);
	r->bells = (void *)(r->common + 1);
	r->control = (void *)control;
	r->records = (void *)(control + g->records_offset);
	r->hashes = (void *)(control + g->hashes_offset);
	r->events = (void *)(control + g->events_offset);
	r->nodes = (void *)(ex_shared + g->nodes_offset);
	pthread_mutex_init(&r->life, NULL);
	pthread_mutex_init(&r->control_mutex, NULL);
}

static void hush(const struct region *r)
{
	ex_quiet(&r->control->intent_pid, 8);
	ex_quiet(&r->control->repairs, 8);
	for (uint32_t s = 0; s < r->g.nodes; s++) {
		const struct layout_node *node = &r->nodes[s];

		ex_quiet(&node->dispatches, offsetof(struct layout_node, ring) -
						    offsetof(struct layout_node, dispatches));
		ex_quiet(&node->pool[2], sizeof(node->pool) - 2 * sizeof(node->pool[0]));
		ex_quiet(&r->records[s].start_time, 24);
		ex_quiet(&r->records[s].granted_ns, 8);
	}
}

void bus_prepare(void)
{
	struct layout_geometry g = {.nodes = BUS_NODES,
				    .events = 16,
				    .ring_bytes = LAYOUT_RING_MIN,
				    .pool_bytes = LAYOUT_POOL_MIN};

	in_private = true;
	bus = ex_private(sizeof(*bus));
	bus->lock_holder = EX_NOBODY;
	memset(bus->owner, EX_NOBODY, sizeof(bus->owner));
	ex_check(layout_geometry_init(&g) == 0, "the geometry is refused");
	/* smaller than the service would make it, so that all is full soon */
	g.events = BUS_EVENTS;
	g.ring_bytes = BUS_RING;
	g.pool_bytes = 8192;
	for (unsigned p = 0; p < EX_PROCESSES; p++)
		make_region(&bus->region[p], &g);
	hush(&bus->region[0]);
}

struct ringbus_node *bus_join(unsigned process)
{
	struct ringbus_node_options options = {.size = sizeof(options),
					       .port = 1,
					       .timeout_ns = 50 * RB_SECOND,
					       .spin_ns = RINGBUS_NO_SPIN,
					       .peer_notices = true,
					       .no_safety_wake = true};
	int r;

	bus->acting = process;
	r = ringbus_node_open(&bus->node[process], &options);
	ex_check(r == 0, "process %u cannot join: %d", process, r);
	return bus->node[process];
}

struct ringbus_node *bus_node(void)
{
	return bus->node[self()];
}

struct ringbus_event *bus_event(struct ringbus_node *node, uint32_t index, ringbus_handler handler)
{
	struct ringbus_event *e = calloc(1, sizeof(*e));
	struct subscription *sub = calloc(1, sizeof(*sub));

	e->node = node;
	event_bind_entry(e, index,
			 event_generation(shm_load_acquire(&node->region->events[index].word)));
	e->deliver = e->subscribed = handler != NULL;
	if (!handler)
		return e;
	*sub = (struct subscription){.generation = e->generation,
				     .index = index,
				     .deliver = true,
				     .handler = handler,
				     .event = e};
	e->subscription = sub;
	node->table[index] = sub;
	return e;
}

static void fill(uint8_t *bytes, unsigned sequence, size_t n)
{
	for (size_t i = 0; i < n; i++)
		bytes[i] = (uint8_t)(i == 0 ? sequence : sequence * 31 + i);
}

#define PAYLOAD_MAX 192u

int bus_contact(unsigned slot, unsigned sequence, size_t bytes, uint64_t timeout_ns)
{
	struct ringbus_address to = {.slot = slot};
	uint8_t payload[PAYLOAD_MAX];
	struct send_payload p = {payload, bytes, SEND_NO_LOAN};

	fill(payload, sequence, bytes);
	return send_contact(bus_node(), &to, &p, timeout_ns);
}

int bus_emit(struct ringbus_event *event, unsigned sequence, size_t bytes, uint64_t timeout_ns)
{
	uint8_t payload[PAYLOAD_MAX];
	struct send_payload p = {payload, bytes, SEND_NO_LOAN};

	fill(payload, sequence, bytes);
	return send_event(event, &p, timeout_ns);
}

unsigned bus_sequence(const struct ringbus_message *m)
{
	uint8_t payload[PAYLOAD_MAX], expected[PAYLOAD_MAX];

	ex_check(m->size > 0 && m->size <= PAYLOAD_MAX, "a message of %zu bytes", m->size);
	shm_copy_in(payload, m->data, m->size);
	fill(expected, payload[0], m->size);
	ex_check(memcmp(payload, expected, m->size) == 0, "message %u is not whole", payload[0]);
	return payload[0];
}

void bus_receive(void)
{
	struct ringbus_node *node = bus_node();

	for (;;)
		if (dispatch_poll(node, 0) == 0)
			dispatch_wait(node, UINT64_MAX);
}

void bus_reap_after(unsigned process)
{
	if (ex_await_death(process))
		control_reap_all(&bus->region[self()], rb_deadline_ns(50 * RB_SECOND));
}

void bus_warm(unsigned from, unsigned to)
{
	struct ringbus_node *sender = bus->node[from], *receiver = bus->node[to];
	uint64_t target = own_swap(&receiver->on_contact, 0);

	bus->acting = from;
	ex_check(bus_contact(receiver->slot, 0, 1, 0) == 0, "the first message is refused");
	bus->acting = to;
	while (dispatch_poll(receiver, 0) > 0)
		;
	own_store(&receiver->on_contact, target);
	bus->acting = from;
	while (dispatch_poll(sender, 0) > 0)
		;
}

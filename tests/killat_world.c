/* killat_world.c: see killat.h. This file: the bus with its service and processes, orders to them,
 * and what must hold when it is at rest.
 */
#include "harness_private.h"
#include "killat.h"

#include "ringbus-inspect.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#define PATIENCE_NS (20 * HARNESS_SECOND)
#define NODES 7u
#define EVENTS 8u

struct world *world;

static struct {
	unsigned port;
	pid_t service;
	pid_t pid[ACTORS];
	unsigned descriptors[ACTORS + 1]; /* of the service: last */
	uint64_t nonce;
	uint64_t sleep_nonce;
	unsigned sleepers;
	struct ringbus_inspect *inspect;
	int file;
	const uint8_t *map;
	struct layout_geometry g;
} w;

/* ---- the service ---- */

static struct ringbus_service *served;

static void on_term(int number)
{
	ringbus_service_stop(served);
}

static void service_main(uint64_t is_traced)
{
	struct ringbus_service_options o = {
		.size = sizeof(o),
		.port = w.port,
		.nodes = NODES,
		.events = EVENTS,
		.ring_bytes = RING_BYTES,
		.pool_bytes = POOL_BYTES,
	};
	int rc;

	close_range(3, ~0u, 0); /* what the controller has open is not to be counted */
	signal(SIGTERM, on_term);
	while (is_traced && !word_get(&world->go))
		usleep(20);
	if (is_traced)
		traced(rc = ringbus_service_open(&served, &o));
	else
		rc = ringbus_service_open(&served, &o);
	__atomic_store_n(&world->service_result, rc, __ATOMIC_RELEASE);
	word_set(&world->service_up, 1);
	if (is_traced)
		killat_mark(MARK_OVER);
	if (rc < 0) {
		fprintf(stderr, "service: %s: %s\n", ringbus_strerror(rc), ringbus_error_detail());
		_exit(1);
	}
	rc = ringbus_service_run(served);
	ringbus_service_close(served);
	_exit(rc < 0);
}

static unsigned free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &bytes), 0);
	close(fd);
	return ntohs(address.sin_port);
}

bool service_is_up(void)
{
	return word_get(&world->service_up) != 0;
}

/* traced: it waits for `go`, and stops at the marks around its opening; not waited for. */
void service_start(bool traced_open)
{
	uint64_t end = harness_now_ns() + PATIENCE_NS;

	word_set(&world->service_up, 0);
	word_set(&world->go, 0);
	w.service = child_start(service_main, traced_open);
	while (!traced_open && !service_is_up()) {
		if (harness_now_ns() > end || child_ended(w.service))
			cycle_fail("the service does not come up");
		usleep(50);
	}
	if (!traced_open && world->service_result < 0)
		cycle_fail("the service does not come up: %d", world->service_result);
}

void service_signal(int number)
{
	kill(w.service, number);
	if (number == SIGSTOP)
		child_wait_stopped(w.service);
}

pid_t service_pid(void)
{
	return w.service;
}

void service_kill(void)
{
	child_kill(w.service);
	w.service = 0;
}

/* ---- actors ---- */

pid_t actor_start(unsigned actor)
{
	struct box *box = &world->box[actor];

	box->asked = box->done = 0;
	w.pid[actor] = child_start(actor_main, actor);
	return w.pid[actor];
}

pid_t actor_pid(unsigned actor)
{
	return w.pid[actor];
}

void actor_kill(unsigned actor)
{
	struct life *life = life_of(world->current[actor]);

	if (world->current[actor])
		word_set(&life->dead, 1);
	world->current[actor] = 0;
	world->joining[actor] = 0;
	child_kill(w.pid[actor]);
	w.pid[actor] = 0;
	world->box[actor].asked = world->box[actor].done = 0;
}

bool is_issued(unsigned actor)
{
	return word_get(&world->box[actor].asked) != word_get(&world->box[actor].done);
}

void issue(unsigned actor, enum command command, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	struct box *box = &world->box[actor];

	if (is_issued(actor))
		cycle_fail("%c is busy", "ABCVDJ"[actor]);
	box->command = (uint32_t)command;
	box->argument[0] = a;
	box->argument[1] = b;
	box->argument[2] = c;
	box->argument[3] = d;
	word_set(&box->asked, box->done + 1);
}

static void fail_by_note(void)
{
	for (unsigned i = 0; i < 1000 && word_get(&world->noted) == 1; i++)
		usleep(1000);
	cycle_fail("%s", world->note);
}

int64_t await(unsigned actor)
{
	struct box *box = &world->box[actor];
	uint64_t end = harness_now_ns() + PATIENCE_NS;
	uint32_t done;

	while ((done = word_get(&box->done)) != word_get(&box->asked)) {
		if (word_get(&world->noted))
			fail_by_note();
		if (child_ended(w.pid[actor]))
			cycle_fail("%c has ended in command %u", "ABCVDJ"[actor], box -> command);
		if (harness_now_ns() > end)
			cycle_fail("%c hangs in command %u", "ABCVDJ"[actor], box -> command);
		word_wait_change(&box->done, done, 20 * HARNESS_MS);
	}
	return box->result;
}

int64_t order(unsigned actor, enum command command, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	issue(actor, command, a, b, c, d);
	return await(actor);
}

void order_each(unsigned actors, enum command command, uint64_t a, uint64_t b)
{
	for (unsigned i = 0; i < ACTORS; i++)
		if (actors >> i & 1)
			issue(i, command, a, b, 0, 0);
	for (unsigned i = 0; i < ACTORS; i++)
		if (actors >> i & 1)
			await(i);
}

void await_awake(void)
{
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		if (is_issued(i) && !(w.sleepers >> i & 1))
			await(i);
}

uint64_t fresh_nonce(void)
{
	return ++w.nonce;
}

void round_of(unsigned participants)
{
	order_each(participants, CMD_ROUND, participants, fresh_nonce());
}

/* ---- a look into the region ---- */

static const struct layout_bell *bell(uint32_t slot)
{
	const uint8_t *common = w.map + w.g.common_offset;

	return (const struct layout_bell *)(const void *)(common + sizeof(struct layout_common)) +
	       slot;
}

uint64_t slot_word_of(uint32_t slot)
{
	return shm_load_acquire(&bell(slot)->slot);
}

static bool sleeps(uint32_t slot)
{
	uint64_t inbox = shm_load_acquire(&bell(slot)->inbox);
	uint64_t room = shm_load_acquire(&bell(slot)->room);

	return (inbox & 3) == 1 || (room & 3) == 1;
}

bool victim_sleeps(void)
{
	return sleeps(life_of(world->current[ACTOR_V])->slot);
}

void put_to_sleep(unsigned actor)
{
	uint64_t end = harness_now_ns() + PATIENCE_NS;

	if (w.sleepers == 0)
		w.sleep_nonce = fresh_nonce();
	w.sleepers |= 1u << actor;
	if (mode == MODE_KILL)
		issue(actor, CMD_UNTIL, 0, 0, world->current[ACTOR_V], 0);
	else
		issue(actor, CMD_UNTIL, 1u << ACTOR_C, w.sleep_nonce, 0, 0);
	while (!sleeps(life_of(world->current[actor])->slot)) {
		if (harness_now_ns() > end || word_get(&world->noted))
			cycle_fail("%c does not fall asleep; %s", "ABCVDJ"[actor], world -> note);
		usleep(20);
	}
}

void wake_sleepers(bool died)
{
	if (w.sleepers && !died)
		order(ACTOR_C, CMD_END, w.sleepers, w.sleep_nonce, 0, 0);
	for (unsigned i = 0; i < ACTORS; i++)
		if (w.sleepers >> i & 1)
			await(i);
	w.sleepers = 0;
}

static bool is_survivor(uint32_t slot)
{
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		if (life_of(world->current[i])->slot == slot)
			return true;
	return false;
}

void wait_others_free(void)
{
	uint64_t end = harness_now_ns() + PATIENCE_NS / 2;

	for (uint32_t slot = 0; slot < NODES; slot++)
		while (!is_survivor(slot) && slot_state(slot_word_of(slot)) != SLOT_FREE) {
			if (harness_now_ns() > end)
				cycle_fail("slot %u of a dead process is not freed (state %s)",
					   slot,
					   ringbus_inspect_slot_state((uint32_t)slot_word_of(slot) &
								      0xff));
			usleep(50);
		}
}

uint64_t wait_free(const struct life *life)
{
	uint64_t begin = harness_now_ns(), now = begin;

	for (unsigned i = 0;; i++) {
		uint64_t word = slot_word_of(life->slot);

		now = harness_now_ns();
		if (slot_state(word) == SLOT_FREE || slot_generation(word) != life->generation)
			return now - begin;
		if (now - begin > PATIENCE_NS / 2)
			cycle_fail("slot %u of a dead process is not freed (state %s)", life->slot,
				   ringbus_inspect_slot_state((uint32_t)word & 0xff));
		if (now - begin > 300000)
			usleep(50);
	}
}

static bool find_ring(unsigned from, unsigned to, struct ringbus_inspect_ring *ring)
{
	uint32_t a = life_of(world->current[from])->slot, b = life_of(world->current[to])->slot;
	uint32_t cursor = 0;

	while (ringbus_inspect_ring_next(w.inspect, &cursor, ring) > 0)
		if (ring->from == a && ring->to == b)
			return true;
	return false;
}

uint64_t ring_tail_of(unsigned from, unsigned to, uint64_t *capacity)
{
	struct ringbus_inspect_ring ring;

	if (!find_ring(from, to, &ring))
		cycle_fail("no ring from %u to %u", from, to);
	*capacity = ring.capacity;
	return ring.tail;
}

void spoil_ring(unsigned from, unsigned to)
{
	static const uint64_t nonsense = 0x1234567855555555;
	struct ringbus_inspect_ring ring;
	off_t at;

	if (!find_ring(from, to, &ring))
		return; /* the first to send in this slot: there is nothing to spoil */
	at = (off_t)(ring.offset + RB_PAGE + (ring.tail & (ring.capacity - 1)));
	if (pwrite(w.file, &nonsense, sizeof(nonsense), at) != sizeof(nonsense))
		cycle_fail("pwrite: %s", strerror(errno));
}

/* ---- rest ---- */

static void on_finding(const struct ringbus_inspect_finding *finding, void *user)
{
	char *text = user;

	if (finding->severity == RINGBUS_INSPECT_INFO ||
	    (finding->severity == RINGBUS_INSPECT_WARNING && rings_may_warn &&
	     strncmp(finding->code, "ring-", 5) == 0))
		return;
	if (!*text)
		snprintf(text, 300, "%s: %s", finding->code, finding->text);
}

static unsigned descriptors_of(pid_t pid)
{
	struct dirent *entry;
	char path[64];
	unsigned n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)))
		n += entry->d_name[0] != '.';
	if (dir)
		closedir(dir);
	return n;
}

static void count_descriptors(unsigned n[ACTORS + 1])
{
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		n[i] = descriptors_of(w.pid[i]);
	n[ACTORS] = descriptors_of(w.service);
}

/* The service closes connections a moment after the client. */
static void check_descriptors(void)
{
	uint64_t end = harness_now_ns() + PATIENCE_NS / 4;
	unsigned n[ACTORS + 1] = {0};

	do {
		count_descriptors(n);
		if (memcmp(n, w.descriptors, sizeof(n)) == 0)
			return;
		usleep(200);
	} while (harness_now_ns() < end);
	cycle_fail("descriptors: A %u, B %u, C %u, service %u, and not %u, %u, %u, %u", n[0], n[1],
		   n[2], n[ACTORS], w.descriptors[0], w.descriptors[1], w.descriptors[2],
		   w.descriptors[ACTORS]);
}

static uint64_t check_rings(bool unread)
{
	struct ringbus_inspect_ring ring;
	uint32_t cursor = 0;
	uint64_t bytes = 0;

	while (ringbus_inspect_ring_next(w.inspect, &cursor, &ring) > 0) {
		bytes += RING_BYTES + 2 * RB_PAGE;
		if (!unread && is_survivor(ring.from) && is_survivor(ring.to) &&
		    (ring.unread_records || ring.damage[0]))
			cycle_fail("ring %u to %u: %llu unread records; %s", ring.from, ring.to,
				   (unsigned long long)ring.unread_records, ring.damage);
	}
	return bytes;
}

static uint64_t check_pools(bool unread)
{
	struct ringbus_inspect_pool pool;
	uint64_t bytes = 0;
	uint32_t cursor = 0;

	while (ringbus_inspect_pool_next(w.inspect, &cursor, &pool) > 0) {
		bytes += pool.bytes;
		if (!unread && pool.used)
			cycle_fail("pool of slot %u: %llu chunks in use (queued %llu, borrowed "
				   "%llu)",
				   pool.slot, (unsigned long long)pool.used,
				   (unsigned long long)pool.queued,
				   (unsigned long long)pool.borrowed);
	}
	return bytes;
}

void check_rest(bool unread)
{
	char text[320] = "";
	struct stat st;
	uint64_t named;
	int rc = ringbus_inspect_check(w.inspect, on_finding, text);

	tally.checks++;
	if (rc != 0 || text[0])
		cycle_fail("fsck: %s", text[0] ? text : ringbus_error_detail());
	named = check_rings(unread) + check_pools(unread);
	/* space without a name is what the next extent is made of: at most one of each kind */
	if (fstat(w.file, &st) == 0 &&
	    (uint64_t)st.st_blocks * 512 > w.g.fixed_bytes + named + POOL_BYTES)
		cycle_fail("the file takes %llu bytes, %llu are named",
			   (unsigned long long)st.st_blocks * 512,
			   (unsigned long long)(w.g.fixed_bytes + named));
	check_descriptors();
}

/* ---- begin and end ---- */

unsigned world_port(void)
{
	return w.port;
}

const char *world_bus_path(void)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%u.bus", bus_directory(), w.port);
	return path;
}

static void open_region(void)
{
	struct layout_header h;
	const char *why;
	void *map;

	w.file = open(world_bus_path(), O_RDWR | O_CLOEXEC);
	assert_true(w.file >= 0);
	assert_int_equal(pread(w.file, &h, sizeof(h), 0), sizeof(h));
	assert_int_equal(layout_header_check(&h, &w.g, &why), 0);
	map = mmap(NULL, w.g.fixed_bytes, PROT_READ, MAP_SHARED, w.file, 0);
	assert_true(map != MAP_FAILED);
	w.map = map;
	ok(ringbus_inspect_open_path(&w.inspect, world_bus_path()));
}

static void close_region(void)
{
	ringbus_inspect_close(w.inspect);
	if (w.map)
		munmap((void *)(uintptr_t)w.map, w.g.fixed_bytes);
	if (w.file > 0)
		close(w.file);
	w.inspect = NULL;
	w.map = NULL;
	w.file = -1;
}

void world_open(void)
{
	if (!world)
		world = mmap(NULL, sizeof(*world), PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(world != MAP_FAILED);
}

void world_start(void)
{
	char text[16];

	memset(world, 0, sizeof(*world));
	world->next_life = 1;
	memset(&w, 0, sizeof(w));
	w.port = free_port();
	snprintf(text, sizeof(text), "%u", w.port);
	setenv("RINGBUS_PORT", text, 1);
	service_start(false);
	open_region();
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++) {
		actor_start(i);
		order(i, CMD_JOIN, 0, 0, 0, 0);
	}
	round_of(SURVIVORS);
	order_each(SURVIVORS, CMD_DRAIN, 0, 0);
	/* as after a cycle: the connections of joining are closed */
	for (unsigned i = 0; i < 100; i++) {
		unsigned n[ACTORS + 1] = {0};

		count_descriptors(n);
		if (memcmp(n, w.descriptors, sizeof(n)) != 0)
			i = 0;
		memcpy(w.descriptors, n, sizeof(n));
		usleep(100);
	}
	check_rest(false);
}

void world_stop(void)
{
	for (unsigned i = ACTOR_A; i <= ACTOR_C; i++)
		order(i, CMD_LEAVE, 0, 0, 0, 0);
	for (unsigned i = 0; i < ACTORS; i++)
		if (w.pid[i])
			child_kill(w.pid[i]);
	close_region();
	kill(w.service, SIGTERM);
	child_join(w.service);
	harness_kill_children();
	if (access(world_bus_path(), F_OK) == 0)
		cycle_fail("the bus is not empty when all have left");
}

void world_abandon(void)
{
	static const char *const kinds[] = {"bus", "live", "lock"};
	char path[160];

	harness_kill_children();
	close_region();
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "%s/%u.%s", bus_directory(), w.port, kinds[i]);
		unlink(path);
	}
}

/* ringbus_scale.c: what idle nodes and a talking pair cost. */
#include "cases.h"
#include "ringbus_bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDLE_SECONDS 2

/* Processor time of a process, nanoseconds. */
static uint64_t scale_cpu_ns(pid_t pid)
{
	clockid_t id;

	return clock_getcpuclockid(pid, &id) ? 0 : clock_of(id);
}

static uint64_t scale_private_bytes(pid_t pid)
{
	unsigned long long bytes = 0, kib;
	char path[64], line[256];
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "Private_Dirty: %llu kB", &kib) == 1)
			bytes = kib << 10;
	if (file)
		fclose(file);
	return bytes;
}

/* What a forked process has that does nothing. */
static uint64_t scale_base_bytes(void)
{
	uint64_t bytes;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	if (pid < 0)
		return 0;
	usleep(20000);
	bytes = scale_private_bytes(pid);
	run_kill(&pid, 1);
	return bytes;
}

static uint64_t scale_cpu_all(const struct bus *bus)
{
	uint64_t ns = scale_cpu_ns(bus->service);

	for (unsigned i = 0; i < bus->extra_count; i++)
		ns += scale_cpu_ns(bus->extras[i]);
	return ns;
}

void ringbus_measure_idle(struct row *row, struct run *run)
{
	struct bench *bench = &row->bench;
	uint64_t base = scale_base_bytes();
	uint64_t before, most = 0;
	struct bus *bus;
	double share;

	run->error = bus_start(bench, bench->nodes, &bus);
	if (run->error < 0)
		return;
	sleep(1);
	before = scale_cpu_all(bus);
	sleep(IDLE_SECONDS);
	share = (double)(scale_cpu_all(bus) - before) / (IDLE_SECONDS * 1e9);
	for (unsigned i = 0; i < bus->extra_count; i++) {
		uint64_t bytes = scale_private_bytes(bus->extras[i]);

		most = bytes > most ? bytes : most;
	}
	snprintf(row->note, sizeof(row->note),
		 "%u idle nodes: %.4f %% of one processor, files %llu KiB, private memory of a "
		 "node %llu KiB",
		 bus->extra_count, share * 100, (unsigned long long)bus_bytes(bus) >> 10,
		 (unsigned long long)(most > base ? most - base : 0) >> 10);
	bus_stop(bus);
}

static int scale_talk(const struct bus *bus, const struct bench *bench, uint64_t *before,
		      uint64_t *after)
{
	struct ringbus_node *nodes[2] = {NULL, NULL};
	unsigned char data[256] = {0};
	struct ringbus_address to;
	int r = bus_join(bus, bench, "bench/0", true, &nodes[0]);

	if (r == 0)
		r = bus_join(bus, bench, "bench/1", true, &nodes[1]);
	if (r == 0)
		r = ringbus_node_address(nodes[1], &to);
	*before = bus_bytes(bus);
	/* as many as fill the ring several times */
	for (size_t sent = 0; r == 0 && sent < 8 * bench->ring_bytes; sent += sizeof(data)) {
		r = ringbus_contact_address(nodes[0], &to, data, sizeof(data), 1000000000u);
		if (r >= 0)
			r = ringbus_poll(nodes[1], 0);
		r = r > 0 ? 0 : r;
	}
	*after = bus_bytes(bus);
	ringbus_node_close(nodes[0]);
	ringbus_node_close(nodes[1]);
	return r < 0 ? bus_error(r, "talking") : 0;
}

void ringbus_measure_memory(struct row *row, struct run *run)
{
	struct bench *bench = &row->bench;
	uint64_t before = 0, after = 0;
	struct bus *bus;
	int status;
	int fds[2];
	pid_t pid;

	run->error = bus_start(bench, 0, &bus);
	if (run->error < 0)
		return;
	fflush(NULL);
	if (pipe(fds) || (pid = fork()) < 0) {
		run->error = -errno;
		bus_stop(bus);
		return;
	}
	if (pid == 0) {
		uint64_t bytes[2];
		int r = scale_talk(bus, bench, &bytes[0], &bytes[1]);

		_exit(r < 0 || write(fds[1], bytes, sizeof(bytes)) < 0);
	}
	close(fds[1]);
	if (read(fds[0], &before, sizeof(before)) <= 0 || read(fds[0], &after, sizeof(after)) <= 0)
		run->error = bench_explain(-ECHILD, "the talking pair failed");
	close(fds[0]);
	waitpid(pid, &status, 0);
	snprintf(row->note, sizeof(row->note),
		 "ring of %zu KiB: a pair adds %llu KiB to %llu KiB of files",
		 bench->ring_bytes >> 10, (unsigned long long)(after - before) >> 10,
		 (unsigned long long)before >> 10);
	bus_stop(bus);
}

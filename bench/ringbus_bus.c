/* ringbus_bus.c: starting and ending the bus of a run. */
#include "ringbus_bus.h"
#include "run.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static struct ringbus_service *bus_service;

static void bus_on_stop(int number)
{
	(void)number;
	if (bus_service)
		ringbus_service_stop(bus_service);
}

int bus_error(int error, const char *call)
{
	const char *detail = ringbus_error_detail();

	return bench_explain(error, "%s: %s%s%s", call, ringbus_strerror(error),
			     *detail ? ": " : "", detail);
}

/* A port that nobody has at this moment. */
static unsigned bus_free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t length = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	unsigned port = 0;

	if (fd < 0)
		return 0;
	if (!bind(fd, (const struct sockaddr *)&address, length) &&
	    !getsockname(fd, (struct sockaddr *)&address, &length))
		port = ntohs(address.sin_port);
	close(fd);
	return port;
}

/* The service process. Tells its first words through fd: 0, or an error with the text behind it. */
static _Noreturn void bus_serve(const struct bench *bench, const struct bus *bus, int fd)
{
	struct sigaction stop = {.sa_handler = bus_on_stop};
	struct ringbus_service_options options = {
		.size = sizeof(options),
		.port = bus->port,
		.directory = bus->directory,
		.nodes = bench->nodes > 2 ? bench->nodes : 64,
		.events = bench->events + 64 > 1024 ? bench->events + 64 : 1024,
		.ring_bytes = bench->ring_bytes,
		.pool_bytes = bench->size > (16 << 20) ? 16 * bench->size : 0,
	};
	char words[160] = "";
	int r;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	signal(SIGINT, SIG_IGN);
	r = ringbus_service_open(&bus_service, &options);
	if (r < 0)
		snprintf(words, sizeof(words), "%d service: %s: %s", r, ringbus_strerror(r),
			 ringbus_error_detail());
	sigaction(SIGTERM, &stop, NULL);
	if (write(fd, words, sizeof(words)) < 0 || r < 0)
		_exit(1);
	close(fd);
	ringbus_service_run(bus_service);
	ringbus_service_close(bus_service);
	_exit(0);
}

static int bus_start_service(struct bench *bench, struct bus *bus)
{
	char words[160] = "1 no answer";
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	bus->port = bus_free_port();
	fflush(NULL);
	bus->service = fork();
	if (bus->service == 0)
		bus_serve(bench, bus, fds[1]);
	close(fds[1]);
	if (bus->service < 0 || read(fds[0], words, sizeof(words)) <= 0)
		snprintf(words, sizeof(words), "%d the service did not start", -ECHILD);
	close(fds[0]);
	if (words[0])
		return bench_explain(atoi(words), "%s", words + strcspn(words, " "));
	return 0;
}

int bus_join(const struct bus *bus, const struct bench *bench, const char *name, bool single_sender,
	     struct ringbus_node **node)
{
	struct ringbus_node_options options = {
		.size = sizeof(options),
		.port = bus->port,
		.directory = bus->directory,
		.name = name,
		.timeout_ns = 5000000000u,
		.single_sender = single_sender,
	};
	int r;

	if (bench->wait == WAIT_BLOCK)
		options.spin_ns = bench->spin_ns ? bench->spin_ns : RINGBUS_NO_SPIN;
	r = ringbus_node_open(node, &options);
	return r < 0 ? bus_error(r, "ringbus_node_open") : 0;
}

/* The first idle node makes all the events, while nobody is there to be told of each. */
static int bus_fill(const struct bench *bench, struct ringbus_node *node)
{
	char id[64];

	for (unsigned i = 0; i < bench->events; i++) {
		struct ringbus_event *event;
		int r;

		snprintf(id, sizeof(id), "idle/%u", i);
		r = ringbus_event_create(&event, node, id, NULL);
		if (r < 0)
			return bus_error(r, "ringbus_event_create");
	}
	return 0;
}

/* An idle node: joins, says "" or what failed, and sleeps. */
static _Noreturn void bus_idle(const struct bus *bus, const struct bench *bench, unsigned number,
			       int fd)
{
	struct bench own = *bench;
	struct ringbus_node *node;
	char words[160] = "";
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	own.wait = WAIT_ADAPTIVE;
	r = bus_join(bus, &own, NULL, false, &node);
	if (r == 0 && number == 0)
		r = bus_fill(bench, node);
	if (r < 0)
		snprintf(words, sizeof(words), "idle node %u: %s", number, bench_explained());
	if (write(fd, words, sizeof(words)) < 0 || r < 0)
		_exit(1);
	close(fd);
	for (;;) {
		ringbus_wait(node, RINGBUS_FOREVER);
		ringbus_poll(node, 0);
	}
}

/* One after the other: a crowd at the control lock would only wait. */
static int bus_start_extras(const struct bench *bench, struct bus *bus, unsigned count)
{
	char words[160] = "no idle node";

	for (; bus->extra_count < count; bus->extra_count++) {
		int fds[2];
		pid_t pid;

		if (pipe2(fds, O_CLOEXEC))
			return -errno;
		fflush(NULL);
		pid = fork();
		if (pid == 0)
			bus_idle(bus, bench, bus->extra_count, fds[1]);
		close(fds[1]);
		if (pid < 0 || read(fds[0], words, sizeof(words)) <= 0)
			strcpy(words, "an idle node could not be started");
		close(fds[0]);
		run_kill(&pid, pid > 0 && words[0]);
		if (words[0])
			return bench_explain(-ECHILD, "%s", words);
		bus->extras[bus->extra_count] = pid;
	}
	return 0;
}

int bus_start(struct bench *bench, unsigned idle, struct bus **out)
{
	struct bus *bus = calloc(1, sizeof(*bus));
	int r;

	if (!bus)
		return -ENOMEM;
	strcpy(bus->directory, "/dev/shm/ringbus-bench-XXXXXX");
	if (!mkdtemp(bus->directory)) {
		r = -errno;
		free(bus);
		return bench_explain(r, "%s: %s", "/dev/shm", strerror(-r));
	}
	r = bus_start_service(bench, bus);
	if (r == 0)
		r = bus_start_extras(bench, bus, idle);
	if (r < 0) {
		bus_stop(bus);
		return r;
	}
	bench->ring_used = bench->ring_bytes;
	*out = bus;
	return 0;
}

static void bus_remove(const char *path)
{
	DIR *directory = opendir(path);
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
	rmdir(path);
}

void bus_stop(struct bus *bus)
{
	run_kill(bus->extras, bus->extra_count);
	if (bus->service > 0) {
		kill(bus->service, SIGTERM);
		for (unsigned i = 0; i < 2000 && waitpid(bus->service, NULL, WNOHANG) == 0; i++)
			usleep(1000);
		run_kill(&bus->service, 1);
	}
	bus_remove(bus->directory);
	free(bus);
}

uint64_t bus_bytes(const struct bus *bus)
{
	DIR *directory = opendir(bus->directory);
	struct dirent *entry;
	uint64_t bytes = 0;
	struct stat status;

	while (directory && (entry = readdir(directory)))
		if (!fstatat(dirfd(directory), entry->d_name, &status, 0) &&
		    S_ISREG(status.st_mode))
			bytes += (uint64_t)status.st_blocks * 512;
	if (directory)
		closedir(directory);
	return bytes;
}

/* ringbus_join.c: from opening a node to the first message delivered, each time in a fresh process.
 */
#include "cases.h"
#include "ringbus_bus.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define JOIN_ROUNDS 100
#define JOIN_NS 10000000000u

/* Shared with the receiver. */
struct join_shared {
	struct hist hist;
	uint64_t ready;
	char explain[160];
};

static void join_on_contact(const struct ringbus_message *message, void *user)
{
	struct join_shared *shared = user;

	if (message->kind == RINGBUS_CONTACT)
		hist_add(&shared->hist, clock_ticks() - message_word(message->data));
}

static _Noreturn void join_receive(struct bench *bench, struct join_shared *shared)
{
	struct ringbus_node *node;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGINT, SIG_IGN);
	run_pin(bench->cpus[bench->cpu_count > 1]);
	if (bus_join(bench->state, bench, "bench/1", false, &node) < 0)
		_exit(1);
	ringbus_on_contact(node, join_on_contact, shared);
	__atomic_store_n(&shared->ready, 1, __ATOMIC_RELEASE);
	while (shared->hist.count < JOIN_ROUNDS) {
		ringbus_wait(node, RINGBUS_FOREVER);
		ringbus_poll(node, 0);
	}
	ringbus_node_close(node);
	_exit(0);
}

static _Noreturn void join_send(struct bench *bench)
{
	struct ringbus_address to;
	struct ringbus_node *node;
	uint64_t began;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	run_pin(bench->cpus[0]);
	began = clock_ticks();
	r = bus_join(bench->state, bench, NULL, false, &node);
	if (r == 0)
		r = ringbus_node_find(node, "bench/1", &to);
	if (r == 0)
		r = ringbus_contact_address(node, &to, &began, sizeof(began), 1000000000u);
	if (r < 0)
		_exit(1);
	ringbus_node_close(node);
	_exit(0);
}

static int join_rounds(struct bench *bench, struct join_shared *shared, pid_t receiver)
{
	uint64_t until = clock_of(CLOCK_MONOTONIC) + JOIN_NS;

	while (!__atomic_load_n(&shared->ready, __ATOMIC_ACQUIRE)) {
		if (waitpid(receiver, NULL, WNOHANG) || clock_of(CLOCK_MONOTONIC) > until)
			return bench_explain(-ECHILD, "the receiver did not join");
		usleep(1000);
	}
	for (unsigned i = 0; i < JOIN_ROUNDS; i++) {
		int status = 1;
		pid_t pid;

		fflush(NULL);
		pid = fork();
		if (pid == 0)
			join_send(bench);
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status)
			return bench_explain(-ECHILD, "round %u: the joining process failed", i);
	}
	while (__atomic_load_n(&shared->hist.count, __ATOMIC_ACQUIRE) < JOIN_ROUNDS) {
		if (clock_of(CLOCK_MONOTONIC) > until)
			return bench_explain(-ETIMEDOUT, "%u messages of %u came",
					     (unsigned)shared->hist.count, JOIN_ROUNDS);
		usleep(1000);
	}
	return 0;
}

void ringbus_measure_join(struct row *row, struct run *run)
{
	struct bench *bench = &row->bench;
	struct join_shared *shared = bench_share(sizeof(*shared));
	struct bus *bus;
	pid_t receiver;

	run->error = shared ? bus_start(bench, 0, &bus) : -ENOMEM;
	if (run->error < 0)
		return;
	bench->state = bus;
	fflush(NULL);
	receiver = fork();
	if (receiver == 0)
		join_receive(bench, shared);
	run->error = receiver < 0 ? -errno : join_rounds(bench, shared, receiver);
	run_kill(&receiver, receiver > 0);
	hist_merge(&run->hist, &shared->hist);
	run->messages = shared->hist.count;
	bus_stop(bus);
	munmap(shared, sizeof(*shared));
}

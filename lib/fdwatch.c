/* fdwatch.c: one level-triggered descriptor per node: an eventfd fed by a helper thread. Level 4.
 *
 * The thread that receives arms: when nothing is pending it stores ASLEEP in the inbox, looks once
 * more, and tells the helper the word; the helper only waits on it and writes the eventfd. It
 * touches no receive state. Receiving disarms. The eventfd is emptied only by a receiver that then
 * finds nothing, so it stays readable while anything may be pending.
 *
 * The safety wake of who sleeps in poll() is the helper's: it makes the descriptor readable, once
 * for each armed word and bound, and whoever receives looks.
 */
#include "node.h"

#include "error.h"
#include "region_path.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct fdwatch {
	struct ringbus_node *node;
	int fd;
	pthread_t thread;
	struct own_word armed; /* the inbox word prepared; 0: not armed */
	struct own_word turn;  /* bumped at each arming, and to stop */
	struct own_word stop;
	struct own_word safety_ns; /* doubled by the helper; begins anew where something came */
	struct own_word unfenced;  /* 1: the armed word may be passed over by a sender */
	uint64_t received;	   /* as of the last arming */
	uint32_t unrung;	   /* of the helper, see doorbell_rest() */
	uint64_t last;		   /* for our own ring when stopping */
};

static void signal_fd(struct fdwatch *f)
{
	uint64_t one = 1;

	if (write(f->fd, &one, sizeof(one)) < 0)
		rb_log(6, "eventfd: %s", strerrordesc_np(errno)); /* full: it is readable then */
}

/* The helper's time is over and nobody has woken it. */
static void look_for_safety(struct fdwatch *f, uint64_t armed, uint64_t bound)
{
	if (own_load(&f->armed) != armed)
		return;
	if (own_swap(&f->unfenced, 0) == 0)
		own_cas(&f->safety_ns, bound, rb_min(bound * 2, SAFETY_LAST_NS));
	signal_fd(f);
}

static void *watch(void *arg)
{
	struct fdwatch *f = arg;
	struct shm_word *inbox = &f->node->bell->inbox;

	while (!own_load(&f->stop)) {
		uint64_t turn = own_load(&f->turn), armed = own_load(&f->armed), bound, word;
		bool unfenced = own_load(&f->unfenced);
		int r;

		if (armed == 0) {
			doorbell_private_wait(&f->turn, (uint32_t)turn, UINT64_MAX);
			continue;
		}
		/* woken by whoever rings; an inbox that was finished or prepared anew meanwhile
		 * does not wait */
		bound = own_load(&f->safety_ns);
		r = doorbell_wait_word(inbox, (uint32_t)armed,
				       unfenced			 ? SLEEP_UNFENCED_NS
				       : f->node->no_safety_wake ? RB_SECOND
								 : bound);
		if (r == -ETIMEDOUT && (unfenced || !f->node->no_safety_wake))
			look_for_safety(f, armed, bound);
		/* sync BELL sleeper: word after the wait; pairs BELL waker in doorbell_wake() */
		word = shm_load_acquire(inbox);
		/* finished meanwhile, it says nothing: no armed word comes again */
		if (own_load(&f->armed) != armed)
			continue;
		if (r != -ETIMEDOUT)
			doorbell_rest(word, armed, RB_SECOND, &f->unrung);
		if (word != armed && own_cas(&f->armed, armed, 0))
			signal_fd(f);
	}
	return NULL;
}

/* Receiving begins: the inbox is ours again. */
void fdwatch_busy(struct ringbus_node *node)
{
	struct fdwatch *f = node->fdwatch;
	uint64_t armed;

	if (!f)
		return;
	armed = own_swap(&f->armed, 0);
	if (armed != 0)
		doorbell_finish(&node->bell->inbox, armed);
}

/* Somebody waits for signals in the inbox, with ASLEEP stored in it. What came just before that
 * woke the helper, which the waiter has disarmed: so the descriptor is told here. */
bool fdwatch_look(struct ringbus_node *node)
{
	bool fenced = dispatch_fence_senders(node);

	if (dispatch_pending(node))
		signal_fd(node->fdwatch);
	return fenced;
}

/* Receiving ends: the descriptor is emptied and armed if nothing is pending, else it stays or
 * becomes readable. */
void fdwatch_drained(struct ringbus_node *node)
{
	struct fdwatch *f = node->fdwatch;
	uint64_t prepared, count, received;
	bool fenced;

	if (!f || own_load(&node->close_wanted))
		return;
	dispatch_give_all(node);
	if (read(f->fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		return;
	prepared = doorbell_prepare(&node->bell->inbox);
	fenced = dispatch_fence_senders(node);
	/* a payload that cannot be mapped is tried again soon, but not at once and for ever */
	if (node->unreached == 0 && dispatch_pending(node)) {
		doorbell_finish(&node->bell->inbox, prepared);
		signal_fd(f);
		return;
	}
	shm_count(&node->own->sleeps, 1);
	/* relaxed: own word */
	received = shm_load_relaxed(&node->own->received);
	if (received != f->received)
		own_store(&f->safety_ns, SAFETY_FIRST_NS);
	f->received = received;
	own_store(&f->unfenced, !fenced || node->unreached < 0);
	own_store(&f->armed, prepared);
	own_add(&f->turn, 1);
	doorbell_private_wake(&f->turn);
}

/* Makes the descriptor and its thread. Caller receives. */
static int start(struct ringbus_node *node)
{
	struct fdwatch *f = calloc(1, sizeof(*f));
	sigset_t all, old;
	int r = f ? 0 : -ENOMEM;

	if (r == 0) {
		f->node = node;
		own_store(&f->safety_ns, SAFETY_FIRST_NS);
		f->fd = path_raise(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
		r = f->fd < 0 ? -errno : 0;
	}
	if (r == 0) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		r = -pthread_create(&f->thread, NULL, watch, f);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		if (r < 0)
			close(f->fd);
	}
	if (r < 0) {
		free(f);
		return r;
	}
	node->fdwatch = f;
	own_store(&node->watch_fd, (uint64_t)f->fd + 1);
	return 0;
}

int ringbus_node_fd(struct ringbus_node *node)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (own_load(&node->watch_fd) == 0) {
		r = receive_begin(node);
		if (r < 0)
			return r;
		if (!node->fdwatch) /* another thread may have been first */
			r = start(node);
		receive_end(node); /* arms */
	}
	return r < 0 ? r : (int)own_load(&node->watch_fd) - 1;
}

void fdwatch_close(struct ringbus_node *node)
{
	struct fdwatch *f = node->fdwatch;

	if (!f)
		return;
	node->fdwatch = NULL;
	if (!region_forked(node->region)) {
		own_store(&f->stop, 1);
		own_add(&f->turn, 1);
		doorbell_private_wake(&f->turn);
		/* sync BELL waker: stop before the look; pairs BELL sleeper in doorbell_prepare()
		 */
		shm_fence();
		doorbell_ring(&node->bell->inbox, &f->last);
		pthread_join(f->thread, NULL);
	}
	close(f->fd);
	free(f);
}

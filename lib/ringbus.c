/* ringbus.c: public calls of the receiving side: listening, borrows, counters. Level 5. */
#include "ringbus.h"

#include "error.h"
#include "guard.h"
#include "node.h"

#include <signal.h>
#include <stdlib.h>

#define STRING2(x) #x
#define STRING(x) STRING2(x)

const char *ringbus_version(void)
{
	return STRING(RINGBUS_VERSION_MAJOR) "." STRING(RINGBUS_VERSION_MINOR) "." STRING(
		RINGBUS_VERSION_PATCH);
}

const char *ringbus_error_detail(void)
{
	return rb_fail_detail();
}

void ringbus_set_log(void (*fn)(int level, const char *text, void *user), void *user)
{
	rb_log_set(fn, user);
}

int node_condemned(const struct ringbus_node *node)
{
	return rb_fail(-EFAULT, "the region file of the bus on port %u was truncated",
		       node->region->port);
}

/* ---- who receives ---- */

/* without the call that other models need in a shared library; one byte of the static block */
static _Thread_local char thread_token __attribute__((tls_model("initial-exec")));

uint64_t receive_thread(void)
{
	return (uint64_t)(uintptr_t)&thread_token;
}

bool receive_is_ours(const struct ringbus_node *node)
{
	return own_load(&node->receiver) == receive_thread();
}

int receive_begin(struct ringbus_node *node)
{
	if (rb_unlikely(!own_cas(&node->receiving, 0, RECEIVING)) && !signal_gives_way(node))
		return rb_fail(-EBUSY, receive_is_ours(node)
					       ? "receiving from within a handler"
					       : "another thread receives on this node");
	own_store(&node->receiver, receive_thread());
	if (rb_unlikely(node->fdwatch))
		fdwatch_busy(node);
	return 0;
}

void receive_end(struct ringbus_node *node)
{
	if (rb_unlikely(node->fdwatch))
		fdwatch_drained(node);
	own_store(&node->receiver, 0);
	own_store(&node->receiving, 0);
	if (own_load(&node->signal_waiters) > 0)
		signal_receiver_ends(node);
}

/* ---- receiving ---- */

/* Ends a receiving call; true: a handler closed the node, which is gone now. */
static bool receive_ends(struct ringbus_node *node)
{
	bool closes = own_load_relaxed(&node->close_deferred);

	receive_end(node);
	if (closes)
		node_close_now(node);
	return closes;
}

int ringbus_poll(struct ringbus_node *node, unsigned limit)
{
	int r = node_enter(node);

	if (r == 0)
		r = receive_begin(node);
	if (r < 0)
		return r;
	r = node_guarded(node, dispatch_poll(node, limit));
	receive_ends(node);
	return r;
}

int ringbus_wait(struct ringbus_node *node, uint64_t timeout_ns)
{
	int r = node_enter(node);

	if (r == 0)
		r = receive_begin(node);
	if (r < 0)
		return r;
	node->heeds_interrupt = true;
	r = dispatch_wait(node, timeout_ns);
	if (r == 0 && own_load(&node->interrupted) && !dispatch_pending(node))
		r = -EINTR;
	r = node_guarded(node, r < 0 ? rb_fail_plain(r) : r);
	receive_end(node);
	return r;
}

static int pull_one(struct ringbus_node *node, struct ringbus_message *m, uint64_t timeout_ns)
{
	uint64_t deadline = 0, left = timeout_ns;

	node->heeds_interrupt = true;
	for (;;) {
		int r = dispatch_pull(node, m);

		if (r > 0)
			return 0;
		if (guard_condemned(node->region))
			return node_guarded(node, 0);
		if (r < 0) {
			wait_for_memory(node, timeout_ns);
			return r;
		}
		if (timeout_ns == 0)
			return rb_fail_plain(-EAGAIN);
		if (own_load(&node->interrupted))
			return rb_fail_plain(-EINTR);
		/* the wait below also ends for what never becomes a message */
		if (deadline != 0)
			left = rb_left_ns(deadline);
		else
			deadline = rb_deadline_ns(timeout_ns);
		if (left == 0)
			return rb_fail_plain(-ETIMEDOUT);
		r = dispatch_wait(node, left);
		if (r < 0)
			return rb_fail_plain(r);
		if (own_load(&node->close_wanted))
			return rb_fail_plain(-ENOTCONN);
	}
}

/* One message, waiting for it. Caller receives. */
static int pull(struct ringbus_node *node, struct ringbus_message *m, uint64_t timeout_ns)
{
	int r;

	node->in_pull = true;
	r = pull_one(node, m, timeout_ns);
	node->in_pull = false;
	return r;
}

int ringbus_next(struct ringbus_node *node, struct ringbus_message *message, uint64_t timeout_ns)
{
	struct ringbus_message m;
	int r = node_enter(node);

	if (r == 0 && !message)
		r = rb_fail_plain(-EINVAL);
	if (r == 0)
		r = receive_begin(node);
	if (r < 0)
		return r;
	r = pull(node, &m, timeout_ns);
	if (r == 0) {
		node->pulled_kept = false;
		*message = m;
	}
	receive_end(node);
	return r;
}

int ringbus_receive(struct ringbus_node *node, void *buffer, size_t capacity,
		    struct ringbus_message *message, uint64_t timeout_ns)
{
	struct ringbus_message m;
	int r = node_enter(node);

	if (r == 0 && !buffer && capacity > 0)
		r = rb_fail_plain(-EINVAL);
	if (r == 0)
		r = receive_begin(node);
	if (r < 0)
		return r;
	r = pull(node, &m, timeout_ns);
	if (r == 0 && m.size > capacity) {
		node->pulled_kept = true;
		node->pulled_message = m;
		if (message)
			*message = m; /* its data stays where it is until the next receiving call */
		r = rb_fail(-EMSGSIZE, "the message has %zu bytes, the buffer %zu", m.size,
			    capacity);
	} else if (r == 0) {
		node->pulled_kept = false;
		shm_copy_in(buffer, m.data, m.size);
		m.data = buffer ? buffer : "";
		m.internal[0] = 0;
		if (message)
			*message = m;
		dispatch_pulled_done(node);
	}
	receive_end(node);
	return r;
}

/* As one, since another thread may be polling. Those that there were stay until the node is freed:
 * that one may be about to call one. */
static int set_contact_target(struct ringbus_node *node, ringbus_handler handler, void *user)
{
	struct contact_target *target = NULL;

	pthread_mutex_lock(&node->events_lock);
	if (handler)
		for (target = node->contact_targets; target; target = target->next)
			if (target->handler == handler && target->user == user)
				break;
	if (handler && !target) {
		target = malloc(sizeof(*target));
		if (target) {
			*target = (struct contact_target){handler, user, node->contact_targets};
			node->contact_targets = target;
		}
	}
	if (target || !handler)
		own_store(&node->on_contact, (uintptr_t)target);
	pthread_mutex_unlock(&node->events_lock);
	return target || !handler ? 0 : -ENOMEM;
}

int ringbus_on_contact(struct ringbus_node *node, ringbus_handler on_contact, void *user)
{
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (node->listening)
		return rb_fail(-EBUSY, "the node is listening already");
	return set_contact_target(node, on_contact, user);
}

static void *listener(void *arg)
{
	struct ringbus_node *node = arg;

	own_store(&node->receiver, receive_thread()); /* ringbus_listen() took `receiving` for us */
	node->heeds_interrupt = false;
	while (!own_load(&node->stop) && !own_load(&node->close_wanted) &&
	       !guard_condemned(node->region))
		if (dispatch_poll(node, 0) <= 0)
			dispatch_wait(node, UINT64_MAX);
	if (own_load_relaxed(&node->close_deferred)) {
		pthread_detach(pthread_self());
		receive_end(node);
		node->listening = false;
		node_close_now(node);
		return NULL;
	}
	receive_end(node);
	return NULL;
}

int ringbus_listen(struct ringbus_node *node, ringbus_handler on_contact, void *user)
{
	sigset_t all, old;
	int r = node_enter(node);

	if (r < 0)
		return r;
	if (node->listening)
		return rb_fail(-EBUSY, "the node is listening already");
	r = receive_begin(node);
	if (r < 0)
		return r;
	own_store(&node->receiver, 0); /* the new thread says who it is */
	r = set_contact_target(node, on_contact, user);
	if (r < 0) {
		receive_end(node);
		return r;
	}
	own_store(&node->stop, 0);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	node->listening = true; /* before a handler can ask */
	r = -pthread_create(&node->listener, NULL, listener, node);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r < 0) {
		node->listening = false;
		receive_end(node);
	}
	return r;
}

int ringbus_listen_stop(struct ringbus_node *node)
{
	if (!node || region_forked(node->region))
		return node ? -ENOTCONN : -EINVAL;
	if (!node->listening)
		return 0;
	if (receive_is_ours(node))
		return rb_fail(-EBUSY, "a handler cannot wait for its own thread");
	own_store(&node->stop, 1);
	/* sync BELL waker: stop before the look at the inbox; pairs BELL sleeper in
	 * doorbell_prepare() */
	shm_fence();
	doorbell_ring(&node->bell->inbox, &node->stop_last);
	pthread_join(node->listener, NULL);
	node->listening = false;
	return 0;
}

/* Whoever looks at `interrupted` after its ASLEEP sees it, or is rung. errno is the interrupted
 * thread's. */
void ringbus_node_interrupt(struct ringbus_node *node, bool on)
{
	uint64_t inbox_last = 0, room_last = 0; /* epoch 0 is never slept in */
	int saved = errno;

	if (!node || region_forked(node->region))
		return;
	own_store(&node->interrupted, on);
	/* sync BELL waker: interrupted before the looks at both bells; pairs BELL sleeper in
	 * doorbell_prepare() */
	shm_fence();
	if (on) {
		doorbell_ring(&node->bell->inbox, &inbox_last);
		doorbell_ring(&node->bell->room, &room_last);
		own_add(&node->signal_turn, 1);
		doorbell_private_wake(&node->signal_turn);
	}
	errno = saved;
}

/* ---- borrows ---- */

struct ringbus_borrow {
	struct ringbus_node *node; /* NULL: a copy */
	struct borrow_ref *ref;
	const void *data;
	size_t size;
	unsigned char copy[];
};

/* Notes one more borrow of a chunk; sets the bit for the first. Caller holds borrow_lock. */
static struct borrow_ref *borrow_chunk(struct ringbus_node *node, const struct ringbus_message *m)
{
	uint32_t slot = (uint32_t)m->internal[0] - 1, chunk = pool_id_chunk(m->internal[1]);
	struct rx_extent *extent = (void *)(uintptr_t)m->internal[2];
	struct borrow_ref *ref;

	for (ref = node->borrowed; ref; ref = ref->next)
		if (ref->slot == slot && ref->extent == extent && ref->chunk == chunk)
			break;
	if (!ref) {
		ref = calloc(1, sizeof(*ref));
		if (!ref)
			return NULL;
		*ref = (struct borrow_ref){.next = node->borrowed,
					   .extent = extent,
					   .slot = slot,
					   .chunk = chunk};
		node->borrowed = ref;
		/* sync BORROW receiver: bit before the position is given back; pairs BORROW sender
		 * in is_borrowed() */
		shm_fetch_or(&pool_bits(extent->bits, chunk)[node->slot / 64],
			     1ull << node->slot % 64);
		KILL_POINT("X_BORROW_BIT");
		extent->borrows++;
	}
	ref->count++;
	node->borrows++;
	return ref;
}

int ringbus_borrow(const struct ringbus_message *message, struct ringbus_borrow **out)
{
	struct ringbus_borrow *b;
	bool pooled;
	int r = message && out ? node_enter(message->node) : -EINVAL;

	if (r < 0)
		return r;
	pooled = message->internal[0] != 0;
	b = malloc(sizeof(*b) + (pooled ? 0 : message->size));
	if (!b)
		return -ENOMEM;
	*b = (struct ringbus_borrow){.size = message->size};
	if (pooled) {
		b->node = message->node;
		b->data = message->data;
		pthread_mutex_lock(&b->node->borrow_lock);
		b->ref = borrow_chunk(b->node, message);
		pthread_mutex_unlock(&b->node->borrow_lock);
		if (!b->ref) {
			free(b);
			return -ENOMEM;
		}
	} else {
		/* small: it would pin the ring, so it is copied */
		shm_copy_in(b->copy, message->data, message->size);
		b->data = b->copy;
	}
	*out = b;
	return 0;
}

const void *ringbus_borrow_data(const struct ringbus_borrow *borrow, size_t *size)
{
	if (size)
		*size = borrow ? borrow->size : 0;
	return borrow ? borrow->data : NULL;
}

/* Clears the bit of a chunk that nobody here borrows any more, and lets its sender know. Caller
 * holds borrow_lock. */
static void chunk_is_back(struct ringbus_node *node, struct borrow_ref *ref)
{
	uint64_t last = 0;

	for (struct borrow_ref **p = &node->borrowed; *p; p = &(*p)->next)
		if (*p == ref) {
			*p = ref->next;
			break;
		}
	/* sync BORROW receiver: last read before the bit is cleared; pairs BORROW sender in
	 * is_borrowed() */
	shm_fetch_and(&pool_bits(ref->extent->bits, ref->chunk)[node->slot / 64],
		      ~(1ull << node->slot % 64));
	KILL_POINT("X_BORROW_CLEARED");
	link_rx_unborrow(node, ref->slot, ref->extent);
	/* sync BELL waker: bit before the look at `room`; pairs BELL sleeper in doorbell_prepare()
	 */
	shm_fence();
	doorbell_ring(&node->region->bells[ref->slot].room, &last);
	free(ref);
}

void ringbus_release(struct ringbus_borrow *borrow)
{
	struct ringbus_node *node = borrow ? borrow->node : NULL;
	bool closes;

	if (!node || region_forked(node->region)) {
		free(borrow);
		return;
	}
	pthread_mutex_lock(&node->borrow_lock);
	if (--borrow->ref->count == 0)
		chunk_is_back(node, borrow->ref);
	closes = --node->borrows == 0 && node->closed;
	pthread_mutex_unlock(&node->borrow_lock);
	free(borrow);
	if (closes)
		node_finish_close(node);
}

/* ---- counters ---- */

int ringbus_node_stats(const struct ringbus_node *node, struct ringbus_node_stats *stats)
{
	int r = node_enter(node);
	const struct layout_node *own;
	struct ringbus_node_stats all;

	if (r < 0)
		return r;
	r = rb_size_check(stats ? stats->size : 0, sizeof(all));
	if (r < 0)
		return r;
	own = node->own;
	/* relaxed, all: counters */
	all = (struct ringbus_node_stats){
		.size = stats->size,
		.received = shm_load_relaxed(&own->received),
		.received_bytes = shm_load_relaxed(&own->received_bytes),
		.dropped_lossy = shm_load_relaxed(&own->dropped_lossy),
		.dropped_gone = shm_load_relaxed(&own->dropped_gone),
		.dropped_unsubscribed = shm_load_relaxed(&own->dropped_unsubscribed),
		.full = shm_load_relaxed(&own->full),
		.wakes = shm_load_relaxed(&own->wakes),
		.sleeps = shm_load_relaxed(&own->sleeps),
		.safety_wakes = shm_load_relaxed(&own->safety_wakes),
		.corrupt = shm_load_relaxed(&own->corrupt),
		.dead_peers = shm_load_relaxed(&own->dead_peers),
	};
	send_count(node, &all.sent, &all.sent_bytes);
	memcpy(stats, &all, all.size); /* an older caller's struct is shorter */
	return 0;
}

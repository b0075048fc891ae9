/* node.h: one membership of the bus, as seen from inside the library. Level 4.
 *
 * Send state (links[].tx, pool, modes) is under send_lock, or belongs to the one sending thread
 * (single_sender). Receive state (links[].rx, notices, order of rings) belongs to whoever holds
 * `receiving`. The two are disjoint, so one sender and one receiver never wait for each other.
 */
#ifndef RINGBUS_NODE_H
#define RINGBUS_NODE_H

#include "control.h"
#include "doorbell.h"
#include "pool.h"
#include "ring.h"
#include "ringbus.h"

#include <pthread.h>

/* An outstanding descriptor: the chunk is needed until the receiver's head has passed `end`. */
struct sent_chunk {
	uint64_t end;
	uint64_t id;
};

#define SAFETY_FIRST_NS (100 * RB_MS) /* safety wakes of who sleeps in the inbox: doubling ... */
#define SAFETY_LAST_NS (6400 * RB_MS) /* ... up to this while nothing comes */
#define LINK_NOBODY UINT64_MAX	      /* no slot word */

/* What we send to one slot. */
struct link_tx {
	struct ring_tx ring;
	struct layout_bell *bell; /* the receiver's */
	uint64_t word;		  /* its slot word, LIVE, as last seen; else LINK_NOBODY */
	uint64_t generations;	  /* word 1 of our records */
	uint64_t inbox_last;	  /* epoch that we woke last */
	struct sent_chunk *sent;  /* circular, power of two */
	uint32_t sent_first, sent_count, sent_capacity;
	uint64_t sent_bytes; /* pool bytes that these descriptors pin */
	uint32_t slot;
	void *map, *rx_map;
};

/* A mapped pool extent of a sender. */
struct rx_extent {
	struct pool_entry entry; /* that it was mapped by */
	struct pool_place place;
	uint8_t *map;		 /* read-only: chunks */
	uint8_t *bits;		 /* read-write: borrow bits */
	struct rx_extent *older; /* replaced while payloads in it are borrowed */
	unsigned borrows;
	bool replaced; /* by a newer one, on whose list it is */
};

/* What we receive from one slot. */
struct link_rx {
	struct ring_rx ring;
	uint64_t generations; /* word 1 expected: ours << 32 | the sender's */
	uint64_t drops;	      /* sender's drops that were reported */
	uint64_t lost;	      /* to be told with the next message */
	uint64_t room_last;
	uint64_t untold_bytes;	   /* of pooled payloads, given back since the sender was told */
	struct layout_bell *bell;  /* the sender's */
	struct rx_extent *extents; /* LAYOUT_POOL_EXTENTS, made when first needed */
	uint32_t slot;
	uint32_t pid;  /* of the sender of `generations` */
	uint32_t idle; /* turns without a message */
	bool in_round; /* it is still to be read as far as round_at, see notice.c */
	uint64_t round_at;
	void *map, *rx_map;
};

/* What dispatch knows of a subscription; replaced as a whole, read in batches (event_read.h). */
struct subscription {
	uint32_t generation; /* of the event entry */
	uint32_t index;
	bool deliver;
	ringbus_handler handler;
	void *user;
	struct ringbus_event *event;
	struct subscription *older; /* of the same index, of an entry that ended */
	struct subscription *next; /* on the list of those to be freed after the batch, or fading */
	uint64_t round;		   /* while fading: see rings_passed() */
	bool told;		   /* while fading: its end needs no notice */
};

struct peer_seen {
	uint32_t generation; /* of the live owner that we know of; 0: none */
	uint32_t pid;
	uint32_t ended; /* generation whose end was noticed last */
};

struct borrow_ref {
	struct borrow_ref *next;
	struct rx_extent *extent;
	uint32_t slot, chunk;
	unsigned count;
};

/* Who gets signals; in one piece, since it may be changed while signals are given. */
struct contact_target {
	ringbus_handler handler;
	void *user;
	struct contact_target *next; /* all that there were, until the node is freed */
};

struct signal_target {
	ringbus_signal_handler handler;
	void *user;
	struct signal_target *next; /* all that there were, until the node is freed */
};

struct ringbus_node {
	struct region *region;
	const uint8_t *guard; /* 0 in a forked child */
	struct layout_node *own;
	struct layout_bell *bell;
	uint32_t slot, generation, pid;
	struct own_word live_word;	    /* our slot word; LINK_NOBODY: close is wanted */
	uint32_t mask_words;		    /* that can have bits on this bus */
	uint64_t others[LAYOUT_MASK_WORDS]; /* all slots but our own */
	uint32_t inline_max;		    /* payload bytes that a record can hold */
	uint64_t timeout_ns, spin_ns;
	bool sends_alone; /* single_sender, and masks have one word */
	bool single_sender, peer_notices, watch_events, no_safety_wake, membarrier, spin_fixed;
	int connection;
	char name[LAYOUT_NAME_BYTES];

	/* send side */
	_Alignas(RB_LINE) pthread_mutex_t send_lock;
	struct own_word sending; /* debug check of single_sender */
	struct link_tx *tx[LAYOUT_NODES_MAX];
	struct pool pool;
	bool pool_known; /* taken over from the predecessor */
	uint32_t fan;	 /* receivers of the last chunk, and which */
	uint64_t targets[LAYOUT_MASK_WORDS];
	uint32_t pace_misses, pace_skips;
	uint32_t shots;			     /* of pooled payloads, */
	uint64_t shot_received;		     /* and messages received when we last looked at one */
	uint64_t widened_ns;		     /* when widen() looked last */
	uint64_t widened_received;	     /* messages received by then */
	uint64_t holders[LAYOUT_MASK_WORDS]; /* receivers with outstanding descriptors, and some
						without */
	bool unfenced, must_fence;
	uint32_t awake_streak; /* emissions without a wake; while fenced */
	uint32_t asleep_score; /* wakes since we became unfenced */
	pthread_mutex_t room_lock;
	uint32_t room_unrung; /* of who holds it, see doorbell_rest() */
	struct own_word signal_last[LAYOUT_NODES_MAX];
	struct own_word checked_ns[LAYOUT_NODES_MAX]; /* when a peer's life was last looked at */
	struct own_word end_told[LAYOUT_NODES_MAX];   /* slot word of an end that we told of */
	struct own_word
		partner[LAYOUT_NODES_MAX]; /* slot words of those that we sent to, for notice.c */
	struct own_word found;		   /* last answer of ringbus_contact()'s look-up */

	/* receive side */
	_Alignas(RB_LINE) struct own_word receiving; /* 0: nobody */
#define RECEIVING 1u
#define RECEIVING_SIGNALS 2u	  /* a thread in ringbus_signal_wait(), which gives way */
	struct own_word receiver; /* thread that does, for re-entry */
	struct link_rx *rx[LAYOUT_NODES_MAX];
	uint64_t paired[LAYOUT_MASK_WORDS]; /* bits whose rings are open */
	uint8_t order[LAYOUT_NODES_MAX];    /* slots of open rings, hot ones first */
	uint32_t rings, hot, next_ring, next_cold;
	uint64_t epoch_seen;
	struct peer_seen peers[LAYOUT_NODES_MAX];
	bool peers_pending, events_pending;
	uint64_t round, rounds_done, rounds_asked; /* through all rings, see notice.c */
	uint64_t last_active_ns, safety_ns;
	uint64_t spin_now_ns;
	uint64_t woke_ns;   /* when we last came out of a sleep */
	uint64_t pulled_ns; /* when the message given by ringbus_next() was taken; 0: not timed */
	uint32_t inbox_unrung; /* see doorbell_rest() */
	uint32_t empty_turns;
	uint32_t streak; /* messages since the last empty turn */
	bool large;	 /* there was one in this turn with so large a payload that it is none */
	uint32_t idle_turns; /* empty turns since the last message */
	uint32_t stream_misses, stream_skips;
	uint32_t empty_polls;	  /* since the last wait */
	uint32_t keeps_to_itself; /* so many waits more without sched_yield() */
	bool crowded;		  /* the last one let others run */
	bool slept;		  /* the last wait was a sleep */
	uint64_t crowd_bytes;	  /* of pooled payloads since then */
	int unreached;		  /* why a payload could not be mapped in the last turn; 0: none */
	struct link_rx *lost_rx;  /* ring at rest whose drops are to be told */
	bool pulling;		  /* messages are pulled, not handled */
	bool in_pull;		  /* one is being pulled now */
	bool notices_left;	  /* the last turn had no room for them, */
	bool notices_first;	  /* and the next begins with them */
	bool pull_notices;	  /* look for notices before messages at the next pull */
	uint32_t pull_budget;
	struct link_rx *pulled; /* ring of the message given by ringbus_next() */
	uint32_t pulled_bytes;
	bool pulled_pooled;
	bool pulled_kept; /* too large for the buffer of ringbus_receive(): given again */
	struct ringbus_message pulled_message;
	ringbus_handler on_notice;
	void *on_notice_user;
	struct own_word on_contact; /* struct contact_target *; set by any thread */
	struct contact_target *contact_targets;
	struct own_word on_signal; /* struct signal_target *; set by any thread */
	struct signal_target *signal_targets;

	/* events */
	pthread_mutex_t events_lock;
	const struct layout_event *events; /* of the region */
	struct subscription **table;	   /* by event index, see event_read.h */
	void *names;			   /* struct cds_lfht: name to handle */
	struct ringbus_event *all;	   /* list of all handles */
	struct own_word reading;	   /* odd: whoever receives is in a batch */
	struct own_word deferred; /* stack of struct subscription, to be freed after a batch */

	/* threads */
	pthread_t listener;
	bool listening;
	struct own_word stop;
	uint64_t stop_last;
	struct own_word interrupted; /* 1: nothing waits any more, but the listening thread */
	bool heeds_interrupt;	     /* receive state: whoever receives is not that thread */
	struct own_word signal_turn; /* bumped when receiving ends: signal waiters look again */
	struct own_word signal_waiters;
	struct own_word signal_asked;	 /* how often one of them was asked to give way */
	struct own_word signal_shy;	 /* of these: stay away from the inbox for a moment */
	struct own_word signal_sleepers; /* of these: in signal_turn's futex, or about to */
	struct own_word close_wanted;
	struct own_word close_deferred; /* closed by a handler: whoever receives closes when it has
					   returned */
	struct fdwatch *fdwatch;	/* receive state */
	struct own_word watch_fd;	/* its descriptor + 1; 0: none. For any thread */

	/* borrows */
	pthread_mutex_t borrow_lock;
	struct borrow_ref *borrowed;
	unsigned borrows;
	bool closed;
};

/* ring_rx_peek() that counts what is spoiled. */
rb_inline int receive_peek(struct ringbus_node *node, struct link_rx *rx, struct ring_record *rec)
{
	int r = ring_rx_peek(&rx->ring, rec);

	if (rb_unlikely(r == RING_SPOILED))
		shm_count(&node->own->corrupt, 1);
	return r;
}

/* The way of the last emission that had one receiver. It is the way of the next one, too, while the
 * words that led to it are what they were. */
struct send_route {
	uint64_t id; /* record_id; SEND_NO_ROUTE: there is none */
	const struct layout_event *entry;
	uint64_t word; /* of the entry; with it we may emit, if we are a member or it is SINGLE */
	uint64_t deliver[LAYOUT_MASK_WORDS]; /* of the entry, our own bit included */
	struct link_tx *tx;
};
#define SEND_NO_ROUTE UINT64_MAX

struct ringbus_event {
	struct ringbus_node *node;
	struct ringbus_event *next;
	struct own_word record_id; /* index and generation of its entry: word 2 of its records */
	/* send side */
	uint64_t known_id; /* record_id and entry word for which `may_emit_single` holds */
	uint64_t word;
	bool may_emit_single;
	struct send_route route;
	/* events_lock */
	uint32_t index;
	uint32_t generation;
	const struct layout_event *entry;
	uint64_t seen_word; /* as of the last notice; receive side and events_lock */
	uint64_t seen_changes;
	bool due, due_gone;	  /* an end is to be told: this one, */
	uint64_t due_changes;	  /* as of these changes */
	struct link_rx *due_ring; /* after this ring has passed due_at; NULL: all, round due_at */
	uint64_t due_at;
	bool subscribed, created, deliver;
	struct subscription *subscription;
	struct subscription *fading; /* of earlier entries, whose messages may still come */
	size_t id_bytes;
	char id[LAYOUT_NAME_BYTES];
	uint64_t hash_node[8]; /* struct cds_lfht_node */
};

/* Which entry a handle stands for. Caller holds events_lock; who emits meanwhile emits to the one
 * or the other. */
rb_inline void event_bind_entry(struct ringbus_event *e, uint32_t index, uint32_t generation)
{
	e->index = index;
	e->generation = generation;
	e->entry = &e->node->events[index];
	own_store(&e->record_id, (uint64_t)index << 48 | generation);
}

/* The entry that a record_id names. */
rb_inline const struct layout_event *event_entry(const struct ringbus_node *node, uint64_t id)
{
	return &node->events[id >> 48];
}

/* Whether calls on the node are accepted. */
rb_inline bool node_is_entered(const struct ringbus_node *node)
{
	/* live_word before `close_wanted`, see node_refused(). relaxed: own word, changed by others
	 * only when they take the slot from us */
	return *(const volatile uint8_t *)node->guard != 0 &&
	       own_load(&node->live_word) == shm_load_relaxed(&node->bell->slot);
}

/* Why they are not. */
int node_refused(const struct ringbus_node *node);

/* 0; -EINVAL no node; -ENOTCONN in a forked child or after close; -ESTALE if our slot was taken
 * away; -EFAULT if the region was truncated. First thing in every public call. */
rb_inline int node_enter(const struct ringbus_node *node)
{
	return rb_likely(node && node_is_entered(node)) ? 0 : node_refused(node);
}

/* Whether signals are given to a handler. */
rb_inline bool signal_is_handled(const struct ringbus_node *node)
{
	return own_load(&node->on_signal) != 0;
}

int node_condemned(const struct ringbus_node *node); /* says so: -EFAULT */

/* What a call returns: r, or that the region was truncated meanwhile. */
rb_inline int node_guarded(const struct ringbus_node *node, int r)
{
	return rb_unlikely(own_load(node->region->condemned) != 0) ? node_condemned(node) : r;
}

/* link.c */
int link_tx_open(struct ringbus_node *node, uint32_t slot, struct link_tx **tx);
int link_rx_open(struct ringbus_node *node, uint32_t slot, bool joining);
void link_tx_close(struct ringbus_node *node, struct link_tx *tx);
void link_rx_close(struct ringbus_node *node, struct link_rx *rx);
/* Address of a pooled payload from a descriptor. -EBADMSG: there is none; else it cannot be mapped
 * now, which is no fault of its sender. */
int link_rx_chunk(struct ringbus_node *node, struct link_rx *rx, const struct record_chunk *chunk,
		  const void **data, struct rx_extent **extent);
/* A payload of an extent is not borrowed any more. Caller holds borrow_lock. */
void link_rx_unborrow(struct ringbus_node *node, uint32_t slot, struct rx_extent *extent);
int link_walk_incoming(struct ringbus_node *node);

/* send.c */
struct send_payload {
	const void *data;
	size_t size;
	uint64_t loan; /* chunk id, or SEND_NO_LOAN */
};
#define SEND_NO_LOAN UINT64_MAX
int send_event(struct ringbus_event *event, const struct send_payload *p, uint64_t timeout_ns);
int send_contact(struct ringbus_node *node, const struct ringbus_address *to,
		 const struct send_payload *p, uint64_t timeout_ns);
int send_loan(struct ringbus_node *node, size_t size, struct ringbus_loan *loan,
	      uint64_t timeout_ns);
int send_loan_cancel(struct ringbus_loan *loan);
int send_trim(struct ringbus_node *node);

/* send_held.c: what keeps this thread's sends from going on. A send begins: nothing does. */
void send_begins(void);
void send_held_back_by(uint32_t slot, uint64_t word);
/* LAYOUT_NO_SLOT: no receiver. */
uint32_t send_held_back_slot(void);
bool send_is_held_back_by_control(void);
/* The control lock, for a send: -EAGAIN, as without room, if it is not to be had in a moment. */
int send_control_lock(struct ringbus_node *node, struct control *c);
/* Says what it was: -ETIMEDOUT. */
int send_made_no_room(const struct ringbus_node *node);

/* emit.c */
/* Messages and bytes sent since we joined. */
void send_count(const struct ringbus_node *node, uint64_t *messages, uint64_t *bytes);

/* ringbus.c */
uint64_t receive_thread(void); /* token of the calling thread */
bool receive_is_ours(const struct ringbus_node *node);
int receive_begin(struct ringbus_node *node);
void receive_end(struct ringbus_node *node);

/* dispatch.c */
void receive_open_rings(struct ringbus_node *node);
int dispatch_poll(struct ringbus_node *node, unsigned limit);
int dispatch_pull(struct ringbus_node *node, struct ringbus_message *m);
void dispatch_pulled_done(struct ringbus_node *node);
void dispatch_give_all(struct ringbus_node *node);
/* The ring at order[i] had something: it is looked at in every turn. */
void dispatch_ring_is_hot(struct ringbus_node *node, uint32_t i);

/* wait.c */
/* Sleeps until something may be pending. 0, -ETIMEDOUT. Caller receives. */
int dispatch_wait(struct ringbus_node *node, uint64_t left_ns);
/* Whether anything is pending; opens rings of new senders. */
bool dispatch_pending(struct ringbus_node *node);
/* A payload could not be mapped: for a moment, so that whoever tries again does not spin. */
void wait_for_memory(struct ringbus_node *node, uint64_t left_ns);
/* For a sleeper that stored ASLEEP: puts the fence into unfenced senders. False: the kernel
 * refused, so that one of them may pass over this sleep; it ends after SLEEP_UNFENCED_NS. */
bool dispatch_fence_senders(struct ringbus_node *node);
#define SLEEP_UNFENCED_NS (4 * RB_MS)
/* A sleep ended by the safety wake. came: there was something, so nobody had woken us. */
void wait_safety_woke(struct ringbus_node *node, bool came);
#define STREAM_MIN 8u	       /* messages without an empty turn between them: a stream */
#define STREAM_SIZE_MAX 16384u /* bytes of payload: who writes more needs no time to get ahead */
/* A stream is dry: stays away from its ring for a moment, if that pays. yields: lets other
 * processes run meanwhile. The caller looks again and sets stream_misses. */
bool wait_for_stream(struct ringbus_node *node, bool yields);

/* Receivers of large payloads that share a processor take turns after so many bytes, while its
 * cache still has for the next one what this one has read (64 KiB to 16: see bench). */
#define CROWD_BYTES (512u << 10)
void wait_for_others(struct ringbus_node *node);
/* Counts the payload of a pooled message. True: it is time for that. */
rb_inline bool wait_is_turn_of_others(struct ringbus_node *node, size_t bytes)
{
	if (!node->crowded)
		return false;
	node->crowd_bytes += bytes;
	return node->crowd_bytes >= CROWD_BYTES;
}

/* notice.c: puts the next notice into m; false when there is none now. */
bool notice_next(struct ringbus_node *node, struct ringbus_message *m);
void notice_scan(struct ringbus_node *node);
/* Whether the end of an owner of the ring's slot must be told before a record of this one; then it
 * will be. */
bool notice_comes_first(struct ringbus_node *node, const struct link_rx *rx, uint32_t generation);
void notice_start(struct ringbus_node *node);
/* Whether all that stood in the rings when this was first asked was read. *round: 0 the first time,
 * then what was left there. */
bool rings_passed(struct ringbus_node *node, uint64_t *round);

/* event.c */
int event_init(struct ringbus_node *node);
void event_fini(struct ringbus_node *node);
void event_free_deferred(struct ringbus_node *node);
/* The subscription ended from outside (dissolved); with events_lock, by whoever receives, like the
 * next. */
void event_ended(struct ringbus_event *event);
/* Ends those subscriptions of earlier entries whose messages were all read. True: the end of one is
 * to be told. *later is set if some are left. */
bool event_faded(struct ringbus_event *event, bool *later);

/* signal.c */
uint64_t signal_take(struct ringbus_node *node);
/* Gives them to the handler; false: there is none any more, or they were taken. */
bool signal_give(struct ringbus_node *node);
/* Those who wait for a signal while somebody else receives look again. */
void signal_turn(struct ringbus_node *node);
bool signal_pending(const struct ringbus_node *node);
/* The place of whoever receives is taken. True: by a thread that waited for signals and gave way;
 * it is ours. */
bool signal_gives_way(struct ringbus_node *node);
/* Receiving has ended: who waits for signals sees to itself. */
void signal_receiver_ends(struct ringbus_node *node);

/* fdwatch.c */
void fdwatch_drained(struct ringbus_node *node);
void fdwatch_busy(struct ringbus_node *node);
/* False: as dispatch_fence_senders(). */
bool fdwatch_look(struct ringbus_node *node);
void fdwatch_close(struct ringbus_node *node);

/* node.c */
void node_finish_close(struct ringbus_node *node);
void node_close_now(struct ringbus_node *node);
uint64_t node_control_deadline(const struct ringbus_node *node);
/* Looks whether the owner of a slot lives, at most once a millisecond a peer; reaps it if not. */
void node_suspect(struct ringbus_node *node, uint32_t slot);

#endif

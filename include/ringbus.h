/* ringbus.h: the whole public interface of libringbus. SPDX-License-Identifier: MIT
 *
 * ringbus is a brokerless shared-memory ring bus for processes on one Linux machine. Three calls
 * send the first message:
 *
 *     ringbus_node_open(&node, NULL);
 *     ringbus_event_create(&event, node, "news", NULL);
 *     ringbus_emit(event, "hello", 5, 1000000000);
 *
 * Common rules, true of every function unless it says otherwise:
 *  - Returns 0 on success and a negative errno code on failure; where it returns a number instead
 *    of 0 its text says so. Outputs are untouched on failure. ringbus_strerror() has a text for
 *    each code, ringbus_error_detail() often the cause in this case.
 *  - Timeouts are relative, in nanoseconds; 0 tries once. RINGBUS_FOREVER is for waits for nobody
 *    in particular (messages, signals, subscribers); sends treat it as RINGBUS_SEND_MAX_NS, and as
 *    the timeout of a node it means 60 s.
 *  - A node may be used by any thread. Not async-signal-safe, except ringbus_service_stop() and
 *    ringbus_node_interrupt().
 *  - In a forked child each call on the parent's node returns -ENOTCONN, except
 *    ringbus_node_close(), which frees the child's copy and leaves the parent's membership alone.
 *  - Option structs begin with their size, which must be set; zero in any other member means the
 *    default. Callers built against an older or a newer ringbus.h go on working: members that their
 *    struct does not have are zero, members that the library does not know must be zero (-E2BIG).
 *
 * Error codes. Any call may also return -ENOMEM, or a code that a system call gave, like -EMFILE;
 * each call on a node -EINVAL (NULL), -ENOTCONN, -ESTALE and, with sigbus_guard, -EFAULT; each one
 * with an option struct -EINVAL (no size) and -E2BIG. The texts of the calls name the others.
 *
 *   -E2BIG         options that this version of the library does not know
 *   -EACCES        no permission, or an impostor holds the port
 *   -EADDRINUSE    another process holds the port
 *   -EAGAIN        no room, or nothing there, now (timeout 0)
 *   -EBADMSG       the other side of a pair is corrupt; the pair starts anew
 *   -EBUSY         used by another thread, or re-entered; or the bus has a service
 *   -ECONNREFUSED  no service listens on the port
 *   -EEXIST        a live event or node has this name
 *   -EFAULT        the region was truncated under us
 *   -EFBIG         RLIMIT_FSIZE allows no file as large as the bus
 *   -EINTR         it would have waited, and ringbus_node_interrupt() was called
 *   -EINVAL        misuse
 *   -EIO           a system call failed that fails in no sound process: were descriptors closed?
 *   -EMSGSIZE      over the limit, or buffer too small
 *   -ENFILE        no free event
 *   -ENOENT        no such event, or no owner at present
 *   -ENOSPC        the shared-memory filesystem is full
 *   -ENOTCONN      forked child, or the node was closed meanwhile
 *   -ENOTSUP       the kernel is older than Linux 5.16
 *   -ENOTUNIQ      several nodes have this process id
 *   -EPERM         no right to emit or dissolve
 *   -EPROTO        other layout, or not a ringbus service
 *   -ESRCH         the target is not on the bus
 *   -ESTALE        our membership was lost
 *   -ETIMEDOUT     room, answer or lock did not come in time
 *   -EUSERS        no free slot
 */
#ifndef RINGBUS_H
#define RINGBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RINGBUS_VERSION_MAJOR 0
#define RINGBUS_VERSION_MINOR 1
#define RINGBUS_VERSION_PATCH 0

#if defined(__GNUC__)
#define RINGBUS_API __attribute__((visibility("default")))
#else
#define RINGBUS_API
#endif

#define RINGBUS_DEFAULT_PORT 54121
#define RINGBUS_NAME_MAX 255 /* bytes of an event id or node name, without the final 0 */
#define RINGBUS_FOREVER UINT64_MAX
#define RINGBUS_SEND_MAX_NS 60000000000ull /* longest that a send waits */
#define RINGBUS_NO_SPIN UINT64_MAX	   /* for ringbus_node_options.spin_ns */

struct ringbus_node;	/* one membership of the bus */
struct ringbus_event;	/* one event as seen by one node; freed with the node */
struct ringbus_borrow;	/* a received payload kept beyond its turn */
struct ringbus_service; /* a bootstrap service */

/* Who a node is. pid is 0 when the node lives in a pid namespace that the service cannot see. */
struct ringbus_address {
	uint32_t pid;
	uint32_t slot;
	uint32_t generation; /* counts owners of the slot; 0 means "whoever has the slot now" when
				sending */
};

enum ringbus_kind {
	RINGBUS_EVENT = 1,   /* an emission; message.event says of what */
	RINGBUS_CONTACT = 2, /* sent to this node directly */
	RINGBUS_NOTICE = 3,  /* message.notice says what happened */
};

/* Notices about one peer slot come in the order of its owners: first, perhaps, that one JOINED,
 * then its messages, then that it LEFT or DIED, and only then anything of the next owner.
 *  - Each end is told once, of every peer that was told as joined, that was on the bus when we
 *    joined, that has sent to us, or that we have sent to (if we sent to several owners of the
 *    slot since we looked, of the last of them); nothing of it comes afterwards.
 *  - A first message may come before the JOINED of its sender. What was on the bus when we joined
 *    is not told as joined.
 *  - Notices are looked for, not queued. Peers that came and went between two looks, and were
 *    strangers, coalesce: neither JOINED nor an end is told, and message.count of the slot's next
 *    notice is their number. Of a peer that sent to us and was gone before we looked, the end is
 *    told and JOINED is not. So take message.sender, not JOINED, for who sent a message.
 *  - Of a slot's owners beyond the last 32, LEFT is told as DIED. */
enum ringbus_notice {
	RINGBUS_EVENT_CREATED = 1,   /* a subscribed event got an owner; count = emission mode */
	RINGBUS_EVENT_DISSOLVED = 2, /* its owner dissolved it; the subscription is over */
	RINGBUS_EVENT_ORPHANED = 3,  /* its owner left or died; the subscription stays */
	RINGBUS_PEER_JOINED = 4,     /* message.sender joined; count = strangers before it */
	RINGBUS_PEER_LEFT = 5,	     /* message.sender closed its node; pid 0: no longer known */
	RINGBUS_PEER_DIED = 6,	     /* message.sender died; the same */
	RINGBUS_LOST = 7, /* count messages of message.sender were lost and none came after them */
};

/* One received message. data is valid until the handler returns (or, when pulled with
 * ringbus_next(), until the next call that receives on this node); it lies in shared memory that
 * the sender may still write, so copy it before you check it when the sender is not trusted. */
struct ringbus_message {
	enum ringbus_kind kind;
	enum ringbus_notice notice; /* for RINGBUS_NOTICE */
	struct ringbus_address sender; /* also in notices of peers and losses; in EVENT_CREATED of a
					  SINGLE event, without pid; in no other notice of events */
	struct ringbus_event *event;   /* for events and event notices, else NULL */
	const void *data;	     /* never NULL for events and contacts, also when size is 0 */
	size_t size;		     /* bytes */
	uint64_t lost;		     /* messages of this sender lost just before this one */
	uint64_t count;		     /* for notices */
	struct ringbus_node *node;   /* the receiving node */
	uint64_t internal[4];	     /* for ringbus_borrow() */
};

/* Called for one message at a time. May call any function of the node except those that receive;
 * may close the node (the close takes effect when the handler returns). */
typedef void (*ringbus_handler)(const struct ringbus_message *message, void *user);

/* Called with the number of signals since the last call. */
typedef void (*ringbus_signal_handler)(uint64_t count, void *user);

/* ---- texts ---- */

/* "0.1.0". */
RINGBUS_API const char *ringbus_version(void);
/* Text for an errno code of either sign; never NULL. Thread-safe, static storage. */
RINGBUS_API const char *ringbus_strerror(int error);
/* The cause of the last failure in this thread, in words, with what to do next; "" if the code says
 * it all. Valid until this thread's next failing call. */
RINGBUS_API const char *ringbus_error_detail(void);
/* Sends the library's log lines to fn (NULL: silent, the default; RINGBUS_LOG=debug in the
 * environment: stderr). Level as in syslog, 3 error to 7 debug. Call it before any other thread
 * uses the library. */
RINGBUS_API void ringbus_set_log(void (*fn)(int level, const char *text, void *user), void *user);

/* ---- node ---- */

struct ringbus_node_options {
	size_t size;
	unsigned port;	       /* 0: RINGBUS_PORT in the environment, else 54121 */
	const char *directory; /* NULL: $RINGBUS_DIR, /run/ringbus, /dev/shm/ringbus-UID, the first
				  with this port. A relative path: of the working directory
				  at the call */
	const char *name;      /* optional node name, unique among the living, up to 255 bytes */
	uint64_t timeout_ns; /* bound of open, close and control calls; 0: 1 s (open with autostart:
				5 s) */
	uint64_t spin_ns;    /* longest spin before sleeping; 0: adaptive, up to 50 us;
				RINGBUS_NO_SPIN: none */
	bool autostart;	     /* start ringbusd when no service answers */
	bool single_sender;  /* one thread sends, lends, cancels loans and trims: no lock is taken;
				two at once give -EBUSY in debug builds */
	bool peer_notices;   /* deliver RINGBUS_PEER_* notices */
	bool watch_events;   /* ringbus_wait() also returns when an event is made or ends that has
				nothing to do with this node */
	bool no_safety_wake; /* never wake up to look; for tests that prove no wake-up is lost */
	bool sigbus_guard;   /* survive truncation of the region: calls return -EFAULT. Takes over
				SIGBUS, chained */
	ringbus_handler on_notice; /* gets notices in listen and poll; NULL: none. Pulling always
				      gives them */
	void *on_notice_user;
};

/* Joins the bus. options may be NULL. Blocks up to options->timeout_ns on the service only.
 * -ECONNREFUSED no service; -EACCES no permission, or the port is held by a stranger; -EPROTO
 * another layout; -EUSERS all slots taken; -EEXIST name in use; -ETIMEDOUT; -ENOTSUP; -ESTALE the
 * slot was taken away meanwhile; -EINVAL name too long or not UTF-8, directory too long, no port.
 * With autostart also -ENOENT no ringbusd to be found (RINGBUSD, an absolute path, else beside the
 * program, where it was installed, or in PATH), -EINVAL or -EACCES what RINGBUSD names cannot be
 * run, and what ringbus_service_open() returns in it, like -ENOSPC. */
RINGBUS_API int ringbus_node_open(struct ringbus_node **node,
				  const struct ringbus_node_options *options);
/* Leaves the bus; its events become orphans or end. NULL is allowed. Stops and joins the listening
 * thread. Called from a handler it takes effect when the handler returns. No other thread may be in
 * a call on the node: ringbus_node_interrupt() ends those that wait. Payloads borrowed from others
 * stay valid until released, by any thread; handles of its events and its loans end with it, and
 * must not be used any more, not even to cancel. */
RINGBUS_API void ringbus_node_close(struct ringbus_node *node);
RINGBUS_API int ringbus_node_address(const struct ringbus_node *node,
				     struct ringbus_address *address);
/* Address of the live node with this name. -ESRCH if there is none; -EINVAL no name. */
RINGBUS_API int ringbus_node_find(struct ringbus_node *node, const char *name,
				  struct ringbus_address *address);
/* Address of the live node of a process. -ESRCH not on the bus; -ENOTUNIQ it has several nodes;
 * -EINVAL it is ours, and has no other. */
RINGBUS_API int ringbus_node_find_pid(struct ringbus_node *node, uint32_t pid,
				      struct ringbus_address *address);
/* A descriptor for epoll, libuv, GLib, asyncio: level-triggered, readable while anything may be
 * pending, now and then for nothing (safety wake). Drain with ringbus_poll(). Belongs to the node:
 * do not read or close it. Starts one helper thread. -EBUSY from within a handler or while another
 * thread receives; -ENOMEM; -EMFILE, -ENFILE, -EAGAIN no descriptor or thread is left. */
RINGBUS_API int ringbus_node_fd(struct ringbus_node *node);
/* Who had no room when this thread's last send failed with -EAGAIN or -ETIMEDOUT. -ENOENT if nobody
 * did: this node's own loans hold its pool, or somebody holds the control lock. */
RINGBUS_API int ringbus_node_held_back_by(const struct ringbus_node *node,
					  struct ringbus_address *address);
/* With on, no call waits on this node any more: what receives, sends, takes a loan, or waits for
 * signals or subscribers still does what it can at once, and returns -EINTR where it would wait.
 * Calls that wait already end at once. The thread of ringbus_listen() goes on, and so do open,
 * close and control calls, which have a bound. With on false all wait again. Async-signal-safe,
 * any thread; the node must not be closed meanwhile. NULL is allowed; no effect in a forked child.
 */
RINGBUS_API void ringbus_node_interrupt(struct ringbus_node *node, bool on);
/* Gives pool memory that is not in use back to the system. Counts as a send (single_sender).
 * -ETIMEDOUT control lock; -EBUSY. */
RINGBUS_API int ringbus_node_trim(struct ringbus_node *node);
/* Largest payload in bytes that this bus carries. */
RINGBUS_API size_t ringbus_node_payload_max(const struct ringbus_node *node);

struct ringbus_node_stats {
	size_t size;
	uint64_t sent; /* messages published, one per receiver */
	uint64_t sent_bytes;
	uint64_t received; /* messages delivered */
	uint64_t received_bytes;
	uint64_t dropped_lossy;	       /* not sent to lossy subscribers without room */
	uint64_t dropped_gone;	       /* receivers that were gone at publication */
	uint64_t dropped_unsubscribed; /* received but nobody here wanted it */
	uint64_t full;		       /* sends that found no room */
	uint64_t wakes;		       /* wake system calls made; of a sending and a receiving
					  thread at the same instant only one may be counted */
	uint64_t sleeps;	       /* times slept in the inbox */
	uint64_t safety_wakes;	       /* sleeps ended by the safety wake that found work */
	uint64_t corrupt;	       /* pairs resynchronised */
	uint64_t dead_peers;	       /* deaths of peers noticed */
};
/* This node's own counters, from zero at its join; any thread, costs a few loads. The caller sets
 * stats->size to sizeof(*stats); no more than that is written. Figures of one call are not from
 * one instant while other threads use the node. -EINVAL size not set, or over the library's. */
RINGBUS_API int ringbus_node_stats(const struct ringbus_node *node,
				   struct ringbus_node_stats *stats);

/* ---- events ---- */

enum ringbus_mode {
	RINGBUS_SINGLE_EMISSION = 0, /* only the creator emits; the creator is no subscriber */
	RINGBUS_MULTI_EMISSION = 1,  /* creator and subscribers emit; ends with its last member */
};

struct ringbus_event_options {
	size_t size;
	enum ringbus_mode mode;
	ringbus_handler handler; /* MULTI: the creator receives others' emissions through it;
				    SINGLE: ignored */
	void *user;
	bool receive; /* MULTI: receive also without a handler (for pulling) */
	bool lossy;   /* no subscriber ever holds an emitter back */
};

/* Creates an event, or takes over one whose creator left or died. id: up to 255 bytes of UTF-8;
 * NULL or "" makes a fresh unique id, see ringbus_event_id(). options NULL: SINGLE. -EEXIST a live
 * creator or member holds it; -EINVAL bad id or mode; -ENFILE table full; -ETIMEDOUT control lock.
 */
RINGBUS_API int ringbus_event_create(struct ringbus_event **event, struct ringbus_node *node,
				     const char *id, const struct ringbus_event_options *options);

struct ringbus_subscribe_options {
	size_t size;
	ringbus_handler handler; /* NULL: for pulling; in listen and poll such messages are counted
				    and dropped */
	void *user;
	bool must_exist; /* -ENOENT instead of a pending subscription */
	bool lossy;	 /* never hold an emitter back; losses are counted in message.lost */
	bool emit_only;	 /* MULTI: membership without delivery */
};

/* Subscribes; effective on return, rights included. Allowed before the event exists: honoured when
 * it is created. Again: replaces handler and options. Where the event was dissolved and made anew
 * meanwhile, what was sent before still goes to the handler that it was sent to; that end is then
 * not told by RINGBUS_EVENT_DISSOLVED. -EINVAL bad id, or own SINGLE event; -ENOENT must_exist;
 * -ENFILE; -ETIMEDOUT. */
RINGBUS_API int ringbus_subscribe(struct ringbus_event **event, struct ringbus_node *node,
				  const char *id, const struct ringbus_subscribe_options *options);
/* Ends the subscription. Its handler will not run again once this returned; if it runs in another
 * thread, this waits for it, so do not hold a lock that it takes. Called in a handler, of this or
 * another node, it does not wait: the handler may run on that runs just then. -ENOENT not
 * subscribed; -EINVAL own SINGLE event; -ETIMEDOUT control lock. */
RINGBUS_API int ringbus_unsubscribe(struct ringbus_event *event);
/* Ends an event for all. -EPERM not the creator, or MULTI; -ENOENT no such event any more;
 * -ETIMEDOUT control lock. */
RINGBUS_API int ringbus_event_dissolve(struct ringbus_event *event);
/* A handle to an event that exists or has subscribers. -ENOENT otherwise; -EINVAL bad id;
 * -ETIMEDOUT control lock. */
RINGBUS_API int ringbus_event_find(struct ringbus_event **event, struct ringbus_node *node,
				   const char *id);
/* Its id; valid as long as the node. */
RINGBUS_API const char *ringbus_event_id(const struct ringbus_event *event);
/* Waits until at least count nodes other than this one receive the event. -ETIMEDOUT, also with
 * timeout 0; -ENOENT no such event any more; -EINTR. */
RINGBUS_API int ringbus_event_wait_subscribers(struct ringbus_event *event, unsigned count,
					       uint64_t timeout_ns);

struct ringbus_event_info {
	size_t size;
	bool exists; /* has a creator (SINGLE) or members (MULTI) */
	enum ringbus_mode mode;
	struct ringbus_address owner; /* for SINGLE */
	unsigned subscribers;	      /* nodes that receive it */
	unsigned members;	      /* MULTI: nodes that may emit it */
	bool subscribed; /* this node is among the subscribers or members by subscription */
};
/* What is known of an event. info->size as in ringbus_node_stats(). */
RINGBUS_API int ringbus_event_info(struct ringbus_event *event, struct ringbus_event_info *info);
/* Handles of all events that this node is subscribed to (own MULTI events with handler included).
 * Writes up to capacity handles; returns how many there are. events may be NULL with capacity 0. */
RINGBUS_API int ringbus_subscriptions(struct ringbus_node *node, struct ringbus_event **events,
				      size_t capacity);

/* ---- sending ---- */

/* Emits to all subscribers but this node. All or nothing: -EAGAIN (timeout 0) and -ETIMEDOUT mean
 * that nobody got it; see ringbus_node_held_back_by(). Returns the number of receivers. Copies
 * data; NULL is allowed with size 0. No system call while all receivers are awake. -EPERM no right;
 * -ENOENT no creator at present, or dissolved; -EMSGSIZE; -ENOSPC; -EBADMSG; -ESTALE; -EINTR;
 * -EBUSY two threads with single_sender, in debug builds; -EINVAL no event, or no data. The first
 * message to a receiver, and more memory for payloads, need the control lock: one try waits 10 ms
 * for it at most; while somebody holds it, stopped perhaps, there is no room. */
RINGBUS_API int ringbus_emit(struct ringbus_event *event, const void *data, size_t size,
			     uint64_t timeout_ns);
/* Sends to the node of one process. Returns 0, not a number of receivers. -ESRCH not on the bus;
 * -ENOTUNIQ several nodes; -EINVAL itself; else as ringbus_emit(), but for rights and events. */
RINGBUS_API int ringbus_contact(struct ringbus_node *node, uint32_t pid, const void *data,
				size_t size, uint64_t timeout_ns);
/* The same by address (slot and generation; pid is not looked at). */
RINGBUS_API int ringbus_contact_address(struct ringbus_node *node, const struct ringbus_address *to,
					const void *data, size_t size, uint64_t timeout_ns);

/* Writable shared memory lent to the sender: a payload written here is not copied again. */
struct ringbus_loan {
	void *data;
	size_t size;
	struct ringbus_node *node;
	uint64_t internal[2];
};
/* Lends size bytes of this node's pool. -EAGAIN/-ETIMEDOUT pool in use; -EMSGSIZE; -ENOSPC; -EINTR;
 * -EBUSY as in ringbus_emit(). The loan ends with ringbus_emit_loan(), ringbus_contact_loan() or
 * ringbus_loan_cancel(). */
RINGBUS_API int ringbus_loan(struct ringbus_node *node, size_t size, struct ringbus_loan *loan,
			     uint64_t timeout_ns);
/* As ringbus_emit() and ringbus_contact_address(), returned values too, with the loan's memory (the
 * first loan->size bytes, which may have been made smaller). On failure the loan stays with the
 * caller. -EINVAL not a loan of this node, or made larger; else as those two. */
RINGBUS_API int ringbus_emit_loan(struct ringbus_event *event, struct ringbus_loan *loan,
				  uint64_t timeout_ns);
RINGBUS_API int ringbus_contact_loan(struct ringbus_node *node, const struct ringbus_address *to,
				     struct ringbus_loan *loan, uint64_t timeout_ns);
/* Gives a loan back unsent. A loan with data NULL is ignored. Counts as a send (single_sender): if
 * another thread is in one (debug builds) data stays, and so does the loan. */
RINGBUS_API void ringbus_loan_cancel(struct ringbus_loan *loan);

/* ---- receiving ---- */
/* One way at a time: a second receiver at the same moment, or one within a handler, gets -EBUSY. */

/* Sets the handler of contacts and starts a thread on which all handlers of the node run, one at a
 * time. Returns at once. -EBUSY already listening, or another thread receives; -EAGAIN no thread
 * is left. */
RINGBUS_API int ringbus_listen(struct ringbus_node *node, ringbus_handler on_contact, void *user);
/* Stops and joins the thread. What was not yet delivered is kept. 0 also when not listening. -EBUSY
 * from within a handler of this thread. */
RINGBUS_API int ringbus_listen_stop(struct ringbus_node *node);
/* Sets the handler of contacts for ringbus_poll() without starting a thread. NULL: contacts are
 * counted and dropped. Any thread, also while another polls: it may call the one before once more.
 * Each pair of handler and user is remembered as long as the node.
 * -EBUSY the node is listening; -ENOMEM. */
RINGBUS_API int ringbus_on_contact(struct ringbus_node *node, ringbus_handler on_contact,
				   void *user);
/* Delivers up to limit messages and notices (0: 256) to handlers in this thread; never blocks.
 * Returns how many were taken. -ENOMEM, or -EIO if the program closed the library's descriptors:
 * none was, for the next payload of a sender cannot be mapped; it and what comes after it stay
 * until it can. */
RINGBUS_API int ringbus_poll(struct ringbus_node *node, unsigned limit);
/* Blocks until something may be pending. -ETIMEDOUT, also with timeout 0; -EINTR. */
RINGBUS_API int ringbus_wait(struct ringbus_node *node, uint64_t timeout_ns);
/* Pulls one message; handlers are not called. message->data points into shared memory, see struct
 * ringbus_message. -EAGAIN (timeout 0) or -ETIMEDOUT when there is none; -EINTR; -ENOMEM, -EIO as
 * in ringbus_poll(). */
RINGBUS_API int ringbus_next(struct ringbus_node *node, struct ringbus_message *message,
			     uint64_t timeout_ns);
/* Pulls one message and copies its payload into buffer; message (may be NULL) then points there.
 * -EMSGSIZE buffer too small: message is filled in all the same, its size tells the need and its
 * data points into shared memory, as after ringbus_next(); the message stays and can be pulled
 * again. Else as ringbus_next(). */
RINGBUS_API int ringbus_receive(struct ringbus_node *node, void *buffer, size_t capacity,
				struct ringbus_message *message, uint64_t timeout_ns);
/* Keeps the payload of the message being handled (or just pulled, also into a buffer that was too
 * small) beyond its turn. Pooled payloads are kept in place, small ones copied. */
RINGBUS_API int ringbus_borrow(const struct ringbus_message *message,
			       struct ringbus_borrow **borrow);
RINGBUS_API const void *ringbus_borrow_data(const struct ringbus_borrow *borrow, size_t *size);
/* Gives it back. NULL is allowed. Any thread, also after the node was closed. */
RINGBUS_API void ringbus_release(struct ringbus_borrow *borrow);

/* ---- signals: counted, without payload ---- */

/* Signals the node of one process. Never blocks, never allocates; a system call only if it sleeps.
 * -ESRCH not on the bus; -ENOTUNIQ; -EINVAL itself; -EBADMSG somebody overwrites its word all the
 * time. */
RINGBUS_API int ringbus_signal(struct ringbus_node *node, uint32_t pid);
RINGBUS_API int ringbus_signal_address(struct ringbus_node *node, const struct ringbus_address *to);
/* Waits for signals and takes them. count gets how many came since last taken. Any thread, also
 * while others receive or wait for signals too: it is in nobody's way, and may then hear of a
 * signal 10 ms later (100 ms: while a handler runs for so long). Never sleeps within a handler.
 * -EAGAIN/-ETIMEDOUT none came; -EINTR. */
RINGBUS_API int ringbus_signal_wait(struct ringbus_node *node, uint64_t *count,
				    uint64_t timeout_ns);
/* Signals are given to handler in listen and poll instead. NULL ends that. Any thread, also while
 * another listens: it may be given one signal more to the one before. -ENOMEM. */
RINGBUS_API int ringbus_on_signal(struct ringbus_node *node, ringbus_signal_handler handler,
				  void *user);

/* ---- bootstrap service ---- */

struct ringbus_service_options {
	size_t size;
	unsigned port;	       /* 0: RINGBUS_PORT, else 54121 */
	const char *directory; /* NULL: $RINGBUS_DIR, else /run/ringbus if this port's bus is there,
				  else /dev/shm/ringbus-UID (made 0700) */
	const char *group;     /* name or number: 2770/0660 for this group; needs directory or
				  $RINGBUS_DIR. One that is 2770 already shares without this */
	unsigned nodes;	       /* 2 to 256; 0: 64 */
	unsigned events;       /* 1 to 65535; 0: 1024 */
	uint64_t ring_bytes;   /* per talking pair, power of two, 4 KiB to 1 GiB; 0: 256 KiB */
	uint64_t pool_bytes;   /* limit of payload memory per node, 64 KiB to 1 TiB; 0: 128 MiB */
	uint64_t linger_ns;    /* end after the bus was empty this long; 0: never */
	int listen_fd;	       /* > 0: already listening socket (socket activation). The service's
				  once it is open, which closes it; the caller's if open fails */
	bool sigbus_guard;     /* as in struct ringbus_node_options: serving ends with -EFAULT */
};
/* Takes the service of a bus: makes its region, or adopts a living one, and listens on 127.0.0.1.
 * Geometry options are ignored with a log line when a living region is adopted. -EADDRINUSE another
 * process holds the port (the detail says which); -EBUSY the bus has a service; -EINVAL an option
 * is out of range, or listen_fd no socket that listens on 127.0.0.1; -EACCES; -ENOENT the directory
 * cannot be made; -ENOSPC; -EPROTO live region of another layout; -ETIMEDOUT the control lock of a
 * bus that is ending, by a process that is stopped. Takes up to a second for these two. */
RINGBUS_API int ringbus_service_open(struct ringbus_service **service,
				     const struct ringbus_service_options *options);
/* Serves until ringbus_service_stop() or the linger time. Runs in the calling thread. -EFAULT the
 * region was truncated, with sigbus_guard; -ENOTCONN in a forked child; -EADDRINUSE somebody joined
 * when the linger time was over, and another process had taken the port by then. */
RINGBUS_API int ringbus_service_run(struct ringbus_service *service);
/* Makes ringbus_service_run() return. Async-signal-safe, any thread. NULL is allowed. */
RINGBUS_API void ringbus_service_stop(struct ringbus_service *service);
/* Frees the service. The region stays for its nodes; with none left it is unlinked. NULL is
 * allowed. */
RINGBUS_API void ringbus_service_close(struct ringbus_service *service);
/* Port it listens on (useful after port 0 was resolved); 0 for NULL. */
RINGBUS_API unsigned ringbus_service_port(const struct ringbus_service *service);

#ifdef __cplusplus
}
#endif
#endif

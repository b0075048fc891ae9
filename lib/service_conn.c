/* service_conn.c: the connections of the bootstrap service. Level 5.
 *
 * Whoever connects is a stranger until the kernel has named it as the holder of a lock on the
 * region file. A stranger can make us keep a few hundred bytes for two seconds, and push out
 * another stranger; nothing else.
 */
#include "service.h"

#include "error.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#define CONN_ACCEPTS 64 /* in one turn of the loop */

static void conn_close(struct ringbus_service *s, struct service_conn *c)
{
	/* First the connection: whoever finds our proof gone can see that we have hung up. */
	close(c->fd);
	if (c->held != 0)
		peer_proof_drop(s->region, c->held);
	memset(c, 0, sizeof(*c));
}

/* Who is given up first: the oldest of those that have not named the region. Whoever did has seen
 * it, and goes last. */
static struct service_conn *conn_oldest(struct ringbus_service *s, unsigned *unproven)
{
	struct service_conn *oldest = NULL;

	*unproven = 0;
	for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++) {
		struct service_conn *c = &s->conns[i];
		bool known = c->state == CONN_PROVED;

		if (c->state == CONN_NONE || c->state == CONN_GRANTED)
			continue;
		++*unproven;
		if (!oldest || known < (oldest->state == CONN_PROVED) ||
		    (known == (oldest->state == CONN_PROVED) && c->opened_ns < oldest->opened_ns))
			oldest = c;
	}
	return oldest;
}

/* Makes room for one more. A client's greeting may lie unread while a flood comes in behind it: it
 * is looked at before anything is given up. */
static void conn_make_room(struct ringbus_service *s)
{
	unsigned unproven;
	struct service_conn *oldest = conn_oldest(s, &unproven);

	for (unsigned i = 0; i < SERVICE_UNPROVEN_MAX && unproven >= SERVICE_UNPROVEN_MAX; i++) {
		struct service_conn *was = oldest;

		conn_event(s, (uint32_t)(oldest - s->conns), 0);
		oldest = conn_oldest(s, &unproven);
		if (oldest == was)
			break;
	}
	if (unproven >= SERVICE_UNPROVEN_MAX)
		conn_close(s, oldest);
}

static void conn_open(struct ringbus_service *s, int fd)
{
	conn_make_room(s);
	for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++) {
		struct service_conn *c = &s->conns[i];

		if (c->state != CONN_NONE)
			continue;
		if (service_poll_add(s, fd, EPOLLIN | EPOLLRDHUP, service_tag(TAG_CONN, i)) < 0)
			break;
		*c = (struct service_conn){.state = CONN_HELLO, .fd = fd, .opened_ns = rb_now_ns()};
		return;
	}
	close(fd);
}

#define REFUSAL_TOLD_NS RB_SECOND

/* No descriptor is left: hangs up on who waits, with the one kept for this, or the listener would
 * stay readable for ever. The kernel says that none is left also when nobody waits. It is told of
 * once a second: whoever connects must not fill the log, nor a pipe that nobody reads. False:
 * nobody was there. */
static bool conn_turn_away(struct ringbus_service *s)
{
	int fd;

	if (s->reserve_fd >= 0)
		close(s->reserve_fd);
	fd = port_accept(s->listen_fd);
	if (fd >= 0)
		close(fd);
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (rb_now_ns() >= s->refusal_ns) {
		s->refusal_ns = rb_deadline_ns(REFUSAL_TOLD_NS);
		rb_log(4, "out of descriptors; a connection was refused (raise ulimit -n)");
	}
	return true;
}

void conn_accept(struct ringbus_service *s)
{
	for (int i = 0; i < CONN_ACCEPTS; i++) {
		int fd = port_accept(s->listen_fd);

		if (fd == -EAGAIN)
			return;
		if (fd == -EMFILE) {
			if (!conn_turn_away(s))
				return;
			continue;
		}
		if (fd >= 0)
			conn_open(s, fd);
	}
}

/* Sends what is left of out; a client that does not take 64 bytes is given up. */
static void conn_flush(struct ringbus_service *s, struct service_conn *c)
{
	while (c->out_bytes > 0) {
		const char *from = (const char *)&c->out + sizeof(c->out) - c->out_bytes;
		int n = port_write(c->fd, from, c->out_bytes);

		if (n < 0) {
			conn_close(s, c);
			return;
		}
		c->out_bytes -= (size_t)n;
	}
}

static void conn_say(struct ringbus_service *s, struct service_conn *c, enum wire_kind kind)
{
	c->out.magic = WIRE_MAGIC;
	c->out.kind = (uint32_t)kind;
	c->out.signature = layout_signature();
	/* whoever is refused may be a stranger, who is told nothing of the region */
	if (kind != WIRE_REFUSAL)
		memcpy(c->out.uuid, s->region->uuid, sizeof(c->out.uuid));
	c->out_bytes = sizeof(c->out);
	conn_flush(s, c);
}

/* The client reads this and closes; until then, or its time is over, the connection stays so that
 * the text arrives. */
static void conn_refuse(struct ringbus_service *s, struct service_conn *c, int err)
{
	c->state = CONN_CLOSING;
	c->out = (struct wire_message){.error = (uint32_t)-err};
	conn_say(s, c, WIRE_REFUSAL);
}

static void conn_hello(struct ringbus_service *s, struct service_conn *c)
{
	int err;

	if (c->in.signature != layout_signature()) {
		conn_refuse(s, c, -EPROTO);
		return;
	}
	if (memcmp(c->in.uuid, s->region->uuid, sizeof(s->region->uuid)) != 0) {
		conn_refuse(s, c, -ESTALE);
		return;
	}
	err = peer_proof_take(s->region, c->in.proof_offset);
	if (err < 0) {
		conn_refuse(s, c, -EAGAIN);
		return;
	}
	c->held = c->in.proof_offset;
	c->asked = peer_proof_offset();
	c->state = CONN_PROVED;
	c->out = (struct wire_message){.proof_offset = c->asked};
	conn_say(s, c, WIRE_CHALLENGE);
}

/* Who holds the client's proof. pid 0: in a namespace that we cannot see. -EACCES: nobody. */
static int conn_identify(struct ringbus_service *s, struct service_conn *c,
			 struct peer_identity *id)
{
	int32_t pid = peer_proof_holder(s->region, c->asked);

	if (pid == 0)
		return -EACCES;
	*id = (struct peer_identity){0};
	if (pid < 0)
		return 0;
	if (peer_identify((uint32_t)pid, id, NULL) < 0)
		return -EACCES;
	/* Still the holder: then the process identified is the one that proved. */
	return peer_proof_holder(s->region, c->asked) == pid ? 0 : -EACCES;
}

static int conn_grant(struct ringbus_service *s, struct service_conn *c,
		      const struct peer_identity *id)
{
	struct control control;
	bool held = rb_now_ns() < s->held_ns;
	int err = control_lock(&control, s->region, held ? 0 : rb_deadline_ns(SERVICE_GRANT_NS));

	if (err == -ETIMEDOUT && !held)
		s->held_ns = rb_deadline_ns(SERVICE_GRANT_NS);
	if (err < 0)
		return err;
	err = control_grant(&control, id, &c->slot, &c->generation);
	control_unlock(&control);
	return err;
}

static void conn_proved(struct ringbus_service *s, struct service_conn *c)
{
	struct peer_identity id;
	int err = conn_identify(s, c, &id);

	peer_proof_drop(s->region, c->held);
	c->held = 0;
	if (err == 0)
		err = conn_grant(s, c, &id);
	if (err < 0) {
		rb_log(err == -EUSERS ? 4 : 6, "refused a client: %s", ringbus_strerror(err));
		conn_refuse(s, c, err);
		return;
	}
	rb_log(7, "slot %u granted to process %u", c->slot, id.pid);
	s->empty_ns = 0;
	bus_look(s, c->slot, rb_now_ns());
	c->state = id.pid == 0 ? CONN_GRANTED : CONN_CLOSING;
	c->out = (struct wire_message){.slot = c->slot, .generation = c->generation, .pid = id.pid};
	conn_say(s, c, WIRE_GRANT);
}

static void conn_message(struct ringbus_service *s, struct service_conn *c)
{
	c->in_bytes = 0;
	if (c->in.magic == WIRE_MAGIC && c->state == CONN_HELLO && c->in.kind == WIRE_HELLO)
		conn_hello(s, c);
	else if (c->in.magic == WIRE_MAGIC && c->state == CONN_PROVED && c->in.kind == WIRE_PROVED)
		conn_proved(s, c);
	else
		conn_close(s, c);
}

void conn_event(struct ringbus_service *s, uint32_t index, uint32_t events)
{
	struct service_conn *c = &s->conns[index];

	(void)events;
	/* An event of the same turn may be about a connection that is closed by now: reads say what
	 * is so. */
	while (c->state != CONN_NONE) {
		int n = port_read(c->fd, (char *)&c->in + c->in_bytes, sizeof(c->in) - c->in_bytes);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			bool granted = c->state == CONN_GRANTED;
			uint32_t slot = c->slot;

			conn_close(s, c);
			if (granted)
				bus_look(s, slot, rb_now_ns());
			return;
		}
		c->in_bytes += (size_t)n;
		if (c->in_bytes == sizeof(c->in))
			conn_message(s, c);
	}
}

unsigned conn_expire(struct ringbus_service *s, uint64_t now, uint64_t *next_ns)
{
	unsigned left = 0;

	*next_ns = UINT64_MAX;
	for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++) {
		struct service_conn *c = &s->conns[i];

		if (c->state == CONN_NONE || c->state == CONN_GRANTED)
			continue;
		if (now - c->opened_ns >= SERVICE_PROVE_NS && now > c->opened_ns) {
			conn_close(s, c);
			continue;
		}
		/* A stranger, who has not named the region, keeps no bus from its end. */
		left += c->state == CONN_PROVED;
		*next_ns = rb_min(*next_ns, c->opened_ns + SERVICE_PROVE_NS);
	}
	return left;
}

bool conn_of_slot(const struct ringbus_service *s, uint32_t slot, uint32_t generation)
{
	for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++) {
		const struct service_conn *c = &s->conns[i];

		if (c->state == CONN_GRANTED && c->slot == slot && c->generation == generation)
			return true;
	}
	return false;
}

void conn_close_all(struct ringbus_service *s)
{
	for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++)
		if (s->conns[i].state != CONN_NONE)
			conn_close(s, &s->conns[i]);
}

/* service.c: the bootstrap service: open, loop, close. Level 5.
 *
 * One thread, one epoll. It carries no messages: killed at any moment, the bus goes on, and the
 * next one adopts it.
 */
#include "service.h"

#include "error.h"
#include "guard.h"
#include "join.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SERVICE_EVENTS 64

/* ---- fork: a child must not keep the election, nor the port ---- */

static pthread_mutex_t services_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct ringbus_service *services;
static pthread_once_t services_once = PTHREAD_ONCE_INIT;

static void service_close_fds(struct ringbus_service *s)
{
	int *const fds[] = {&s->election_fd, &s->epoll_fd, &s->stop_fd, &s->listen_fd,
			    &s->reserve_fd};

	for (size_t i = 0; i < rb_array_size(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static void services_fork_prepare(void)
{
	pthread_mutex_lock(&services_mutex);
}

static void services_fork_parent(void)
{
	pthread_mutex_unlock(&services_mutex);
}

static void services_fork_child(void)
{
	for (struct ringbus_service *s = services; s; s = s->next) {
		service_close_fds(s);
		for (uint32_t i = 0; i < SERVICE_CONNECTIONS; i++)
			if (s->conns[i].state != CONN_NONE)
				close(s->conns[i].fd);
		for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++)
			if (s->watches[i].pidfd >= 0)
				close(s->watches[i].pidfd);
	}
	services = NULL;
	pthread_mutex_init(&services_mutex, NULL);
}

static void services_init(void)
{
	pthread_atfork(services_fork_prepare, services_fork_parent, services_fork_child);
}

static void services_add(struct ringbus_service *s)
{
	pthread_once(&services_once, services_init);
	pthread_mutex_lock(&services_mutex);
	s->next = services;
	services = s;
	pthread_mutex_unlock(&services_mutex);
}

static void services_remove(struct ringbus_service *s)
{
	pthread_mutex_lock(&services_mutex);
	for (struct ringbus_service **at = &services; *at; at = &(*at)->next) {
		if (*at == s) {
			*at = s->next;
			break;
		}
	}
	pthread_mutex_unlock(&services_mutex);
}

/* ---- open and close ---- */

int service_poll_add(struct ringbus_service *s, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event event = {.events = events, .data.u64 = tag};

	return epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

int service_listen(struct ringbus_service *s)
{
	s->listen_fd = port_listen(s->port);
	if (s->listen_fd < 0)
		return s->listen_fd;
	return service_poll_add(s, s->listen_fd, EPOLLIN, service_tag(TAG_LISTEN, 0));
}

static int service_set_up(struct ringbus_service *s, const struct ringbus_service_options *options)
{
	int err;

	s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	s->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	s->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (s->epoll_fd < 0 || s->stop_fd < 0 || s->reserve_fd < 0)
		return rb_fail(-EMFILE, "no descriptors left; raise ulimit -n");
	err = service_poll_add(s, s->stop_fd, EPOLLIN, service_tag(TAG_STOP, 0));
	if (err == 0)
		err = bus_take(s, options);
	if (err < 0)
		return err;
	/* The region is there before anybody can connect. */
	if (options->listen_fd <= 0)
		return service_listen(s);
	err = service_poll_add(s, options->listen_fd, EPOLLIN, service_tag(TAG_LISTEN, 0));
	if (err == 0) {
		s->listen_fd = options->listen_fd; /* ours from here on */
		s->listen_given = true;
	}
	return err;
}

int ringbus_service_open(struct ringbus_service **service,
			 const struct ringbus_service_options *options)
{
	struct ringbus_service_options o;
	struct ringbus_service *s;
	unsigned port = 0;
	int err;

	rb_fail_clear();
	if (!service)
		return rb_fail(-EINVAL, "no place for the service");
	err = rb_options_take(&o, sizeof(o), options);
	if (err < 0)
		return err;
	if (o.sigbus_guard) {
		err = guard_enable();
		if (err < 0)
			return err;
	}
	if (o.listen_fd > 0) {
		port = o.port;
		err = port_adopt(o.listen_fd, &port);
		if (err < 0)
			return err;
	}
	err = join_port(port ? port : o.port);
	if (err < 0)
		return err;
	s = calloc(1, sizeof(*s));
	if (!s)
		return rb_fail(-ENOMEM, "out of memory");
	s->port = (unsigned)err;
	s->linger_ns = o.linger_ns;
	s->tidy_ns = UINT64_MAX;
	s->pid = (uint32_t)getpid();
	s->election_fd = s->epoll_fd = s->stop_fd = s->listen_fd = s->reserve_fd = -1;
	for (uint32_t i = 0; i < LAYOUT_NODES_MAX; i++)
		s->watches[i].pidfd = -1;
	services_add(s);
	err = service_set_up(s, &o);
	if (err < 0)
		ringbus_service_close(s);
	else
		*service = s;
	return err;
}

void ringbus_service_close(struct ringbus_service *s)
{
	if (!s)
		return;
	services_remove(s);
	if (s->pid == (uint32_t)getpid()) {
		char why[512];

		/* What follows must not hide why an open failed. */
		strncpy(why, rb_fail_detail(), sizeof(why) - 1);
		why[sizeof(why) - 1] = 0;
		if (s->listen_fd >= 0)
			close(s->listen_fd);
		s->listen_fd = -1;
		conn_close_all(s);
		if (s->region && !s->ended) {
			control_reap_all(s->region, rb_deadline_ns(SERVICE_CONTROL_NS));
			bus_end(s);
		}
		bus_leave(s);
		if (why[0])
			rb_fail(0, "%s", why);
	}
	service_close_fds(s);
	region_put(s->region);
	free(s);
}

unsigned ringbus_service_port(const struct ringbus_service *service)
{
	return service ? service->port : 0;
}

void ringbus_service_stop(struct ringbus_service *service)
{
	const uint64_t one = 1;
	int saved = errno;

	if (!service)
		return;
	if (write(service->stop_fd, &one, sizeof(one)) < 0)
		errno = saved; /* full: it is stopping already */
	errno = saved;
}

/* ---- loop ---- */

/* Whether to stop. */
static bool service_event(struct ringbus_service *s, uint64_t tag, uint32_t events)
{
	uint32_t index = (uint32_t)tag;
	uint64_t count;

	switch (tag >> 32) {
	case TAG_STOP:
		return read(s->stop_fd, &count, sizeof(count)) == (ssize_t)sizeof(count);
	case TAG_LISTEN:
		conn_accept(s);
		break;
	case TAG_CONN:
		conn_event(s, index, events);
		break;
	case TAG_SLOT:
		bus_owner_ended(s, index, rb_now_ns());
		break;
	}
	return false;
}

/* Whether to stop. Deaths come first: a grant may have to wait for the control lock. */
static bool service_events(struct ringbus_service *s, const struct epoll_event *events, int n)
{
	bool stop = false;

	for (int i = 0; i < n; i++)
		if (events[i].data.u64 >> 32 == TAG_SLOT)
			service_event(s, events[i].data.u64, events[i].events);
	for (int i = 0; i < n; i++)
		if (events[i].data.u64 >> 32 != TAG_SLOT)
			stop |= service_event(s, events[i].data.u64, events[i].events);
	return stop;
}

/* Ends the bus if it was empty long enough. 1: ended. A listener that was handed over stays: others
 * listen with it still, so whoever connects now waits for the next service, and we could not listen
 * anew. */
static int service_end(struct ringbus_service *s)
{
	if (!s->listen_given) {
		close(s->listen_fd);
		s->listen_fd = -1;
	}
	conn_close_all(s);
	if (bus_end(s))
		return 1;
	s->empty_ns = 0;
	return s->listen_given ? 0 : service_listen(s);
}

/* What is due; *wait_ns: until something else is. 1: the bus has ended. */
static int service_turn(struct ringbus_service *s, uint64_t *wait_ns)
{
	uint64_t now = rb_now_ns(), next;
	unsigned unproven = conn_expire(s, now, &next);
	unsigned busy = bus_busy(s);

	if (now >= s->scan_ns) {
		bus_scan(s, now);
		s->scan_ns = now + SERVICE_SCAN_NS;
		busy = bus_busy(s);
	}
	if (now >= s->tidy_ns) {
		bus_tidy(s, now);
		busy = bus_busy(s);
	}
	next = rb_min(next, s->tidy_ns);
	if (busy > 0 || unproven > 0)
		s->empty_ns = 0;
	else if (s->empty_ns == 0)
		s->empty_ns = now;
	if (busy > 0)
		next = rb_min(next, s->scan_ns);
	if (s->linger_ns > 0 && s->empty_ns != 0) {
		if (now - s->empty_ns >= s->linger_ns)
			return service_end(s);
		next = rb_min(next, s->empty_ns + s->linger_ns);
	}
	*wait_ns = next == UINT64_MAX ? UINT64_MAX : next > now ? next - now : 0;
	return 0;
}

int ringbus_service_run(struct ringbus_service *s)
{
	struct epoll_event events[SERVICE_EVENTS];
	bool stop = false;

	if (!s)
		return rb_fail(-EINVAL, "no service");
	if (s->pid != (uint32_t)getpid())
		return rb_fail(-ENOTCONN, "the service belongs to the parent of this process");
	while (!stop) {
		uint64_t wait = 0;
		int n = s->ended ? 1 : service_turn(s, &wait);

		if (guard_condemned(s->region))
			return rb_fail(-EFAULT,
				       "the region file of the bus on port %u was truncated",
				       s->port);
		if (n != 0)
			return n < 0 ? n : 0;
		n = epoll_wait(s->epoll_fd, events, SERVICE_EVENTS,
			       wait == UINT64_MAX
				       ? -1
				       : (int)(rb_min(wait, 3600 * RB_SECOND) / RB_MS + 1));
		if (n < 0 && errno != EINTR)
			return rb_fail(-errno, "epoll_wait failed: %s", strerrordesc_np(errno));
		stop = service_events(s, events, n);
	}
	return 0;
}

/* port.c: loopback sockets and who holds a port. Level 1.
 *
 * The default port lies in the range from which the kernel takes ports for connecting sockets. Two
 * things follow: a connect() to a port where nobody listens may be given that very port and meet
 * itself, and a connection to elsewhere may hold the port for a while, so listening is tried again
 * for a moment.
 */
#include "port.h"

#include "error.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORT_BACKLOG 512
#define PORT_BIND_TRIES 30

static struct sockaddr_in port_address(unsigned port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

/* ---- who ---- */

#define PORT_LISTENS 0x0a /* state of a listener in the tables of the kernel */

/* Looks for the port in such a table; any: other sockets count too where there is no listener. */
static bool port_find(const char *table, unsigned port, bool any, unsigned *uid,
		      unsigned long *inode)
{
	FILE *f = fopen(table, "re");
	char line[512];
	bool found = false;

	while (f && fgets(line, sizeof(line), f)) {
		unsigned local, state, owner;
		unsigned long number;

		if (sscanf(line,
			   " %*d: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x %*x:%*x %*x:%*x %*x %u %*d "
			   "%lu",
			   &local, &state, &owner, &number) != 4)
			continue;
		if (local != port || number == 0)
			continue;
		if (state != PORT_LISTENS && (found || !any))
			continue;
		*uid = owner;
		*inode = number;
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

/* Whether a process has this socket open. */
static bool port_has(int proc_pid_fd, const char *link)
{
	struct dirent *entry;
	bool found = false;
	DIR *dir = fdopendir(proc_pid_fd);

	if (!dir) {
		close(proc_pid_fd);
		return false;
	}
	while (!found && (entry = readdir(dir)) != NULL) {
		char target[64];
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target) - 1);

		target[n > 0 ? n : 0] = 0;
		found = strcmp(target, link) == 0;
	}
	closedir(dir);
	return found;
}

static long port_process(unsigned long inode)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	char link[40], path[300];
	long pid = 0;

	snprintf(link, sizeof(link), "socket:[%lu]", inode);
	while (proc && pid == 0 && (entry = readdir(proc)) != NULL) {
		int fd;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(path, sizeof(path), "/proc/%s/fd", entry->d_name);
		fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0 && port_has(fd, link))
			pid = strtol(entry->d_name, NULL, 10);
	}
	if (proc)
		closedir(proc);
	return pid;
}

static int64_t port_who(unsigned port, bool any, char who[PORT_WHO_MAX])
{
	struct passwd entry, *user = NULL;
	char buffer[1024], path[40], name[32] = "?";
	unsigned uid = 0;
	unsigned long inode = 0;
	long pid;
	FILE *f;

	if (!port_find("/proc/net/tcp", port, false, &uid, &inode) &&
	    !port_find("/proc/net/tcp6", port, false, &uid, &inode) &&
	    !(any && (port_find("/proc/net/tcp", port, true, &uid, &inode) ||
		      port_find("/proc/net/tcp6", port, true, &uid, &inode)))) {
		snprintf(who, PORT_WHO_MAX, "nobody that we can see");
		return -1;
	}
	pid = port_process(inode);
	if (pid > 0) {
		snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
		f = fopen(path, "re");
		if (f && fgets(name, sizeof(name), f))
			name[strcspn(name, "\n")] = 0;
		if (f)
			fclose(f);
		snprintf(who, PORT_WHO_MAX, "process %ld (%s)", pid, name);
	} else if (getpwuid_r(uid, &entry, buffer, sizeof(buffer), &user) == 0 && user) {
		snprintf(who, PORT_WHO_MAX, "a process of user %s", user->pw_name);
	} else {
		snprintf(who, PORT_WHO_MAX, "a process of user %u", uid);
	}
	return uid;
}

int64_t port_holder(unsigned port, char who[PORT_WHO_MAX])
{
	return port_who(port, false, who);
}

/* ---- listening ---- */

static int port_socket(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd >= 0)
		return fd;
	return errno == ENOBUFS ? -ENOMEM : -errno;
}

int port_listen(unsigned port)
{
	const struct timespec moment = {.tv_nsec = 10 * RB_MS};
	struct sockaddr_in address = port_address(port);
	char who[PORT_WHO_MAX];
	int fd = port_socket(), one = 1, err = 0;

	if (fd < 0)
		return rb_fail(fd, "cannot make a socket: %s", strerrordesc_np(-fd));
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	for (int i = 0; i < PORT_BIND_TRIES; i++) {
		err = 0;
		if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
		    listen(fd, PORT_BACKLOG) == 0)
			return fd;
		err = -errno;
		if (err != -EADDRINUSE)
			break;
		nanosleep(&moment, NULL);
	}
	close(fd);
	if (err != -EADDRINUSE)
		return rb_fail(err == -EPERM ? -EACCES : err, "cannot listen on port %u: %s", port,
			       strerrordesc_np(-err));
	port_who(port, true, who);
	return rb_fail(err, "port %u is held by %s; choose another with --port or RINGBUS_PORT",
		       port, who);
}

int port_adopt(int fd, unsigned *port)
{
	struct sockaddr_in address;
	socklen_t bytes = sizeof(address), one = sizeof(int);
	int listening = 0, flags = fcntl(fd, F_GETFL);

	if (flags < 0 || getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &one) < 0 ||
	    !listening || getsockname(fd, (struct sockaddr *)&address, &bytes) < 0 ||
	    address.sin_family != AF_INET)
		return rb_fail(-EINVAL, "descriptor %d is no listening IPv4 socket", fd);
	if (*port != 0 && ntohs(address.sin_port) != *port)
		return rb_fail(-EINVAL, "the socket handed over listens on port %u, not on %u",
			       ntohs(address.sin_port), *port);
	if (address.sin_addr.s_addr != htonl(INADDR_LOOPBACK))
		return rb_fail(-EINVAL, "the socket handed over does not listen on 127.0.0.1");
	*port = ntohs(address.sin_port);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, flags | O_NONBLOCK);
	return fd;
}

int port_accept(int fd)
{
	int one = 1, got = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (got >= 0) {
		setsockopt(got, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		return got;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		return -EMFILE;
	return errno == EAGAIN ? -EAGAIN : -EINTR;
}

/* ---- connecting ---- */

int port_wait(int fd, short events, uint64_t deadline_ns)
{
	for (;;) {
		struct pollfd p = {.fd = fd, .events = events};
		uint64_t left = rb_left_ns(deadline_ns);
		int n = poll(&p, 1, (int)rb_min((left + RB_MS - 1) / RB_MS, 1000));

		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		if (left == 0)
			return -ETIMEDOUT;
	}
}

/* Whether a socket is connected to itself. */
static bool port_is_self(int fd)
{
	struct sockaddr_in a = {0}, b = {0};
	socklen_t n = sizeof(a), m = sizeof(b);

	return getsockname(fd, (struct sockaddr *)&a, &n) == 0 &&
	       getpeername(fd, (struct sockaddr *)&b, &m) == 0 && a.sin_port == b.sin_port &&
	       a.sin_addr.s_addr == b.sin_addr.s_addr;
}

int port_connect(unsigned port, uint64_t deadline_ns)
{
	struct sockaddr_in address = port_address(port);
	const struct linger abort_it = {.l_onoff = 1, .l_linger = 0};
	int fd = port_socket(), err = 0, one = 1;
	socklen_t bytes = sizeof(err);

	if (fd < 0)
		return rb_fail(fd, "cannot make a socket: %s", strerrordesc_np(-fd));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		err = -errno;
		if (err == -EINPROGRESS || err == -EINTR) {
			err = port_wait(fd, POLLOUT, deadline_ns);
			if (err == 0 && getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &bytes) == 0)
				err = -err;
		}
	}
	if (err == 0 && port_is_self(fd)) {
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort_it, sizeof(abort_it));
		err = -ECONNREFUSED;
	}
	if (err == 0)
		return fd;
	close(fd);
	if (err == -EADDRNOTAVAIL || err == -ECONNRESET || err == -EAGAIN)
		err = -ECONNREFUSED;
	return err;
}

int port_read(int fd, void *data, size_t bytes)
{
	ssize_t n;

	do {
		n = recv(fd, data, bytes, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? (errno == EAGAIN ? -EAGAIN : -ECONNRESET) : (int)n;
}

int port_write(int fd, const void *data, size_t bytes)
{
	ssize_t n;

	do {
		n = send(fd, data, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? (errno == EAGAIN ? -EAGAIN : -ECONNRESET) : (int)n;
}

int port_send(int fd, const void *data, size_t bytes, uint64_t deadline_ns)
{
	for (size_t done = 0; done < bytes;) {
		int n = port_write(fd, (const char *)data + done, bytes - done);

		if (n == -EAGAIN)
			n = port_wait(fd, POLLOUT, deadline_ns);
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return 0;
}

int port_receive(int fd, void *data, size_t bytes, uint64_t deadline_ns)
{
	for (size_t done = 0; done < bytes;) {
		int n = port_read(fd, (char *)data + done, bytes - done);

		if (n == 0)
			return -ECONNRESET;
		if (n == -EAGAIN)
			n = port_wait(fd, POLLIN, deadline_ns);
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return 0;
}

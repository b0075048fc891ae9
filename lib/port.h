/* port.h: loopback sockets and who holds a port; the only user of sockets. Level 1. */
#ifndef RINGBUS_PORT_H
#define RINGBUS_PORT_H

#include "base.h"

/* Who listens on a port, in words: "process 12 (nginx)", or "a process of user 33"; "nobody" if
 * that cannot be found. A connection to elsewhere may have the same number. */
#define PORT_WHO_MAX 128
/* Returns the uid, or -1. */
int64_t port_holder(unsigned port, char who[PORT_WHO_MAX]);

/* Listens on 127.0.0.1, non-blocking. -EADDRINUSE says who has it, a connection too. */
int port_listen(unsigned port);
/* Checks a socket that was handed over; *port gets its port, or must be equal if not 0. */
int port_adopt(int fd, unsigned *port);
/* Connects to 127.0.0.1 until the deadline; non-blocking socket. -ECONNREFUSED, also where it met
 * itself; -ETIMEDOUT. */
int port_connect(unsigned port, uint64_t deadline_ns);
/* Whole buffers on a non-blocking socket until the deadline. -ECONNRESET: closed; -ETIMEDOUT. */
int port_send(int fd, const void *data, size_t bytes, uint64_t deadline_ns);
int port_receive(int fd, void *data, size_t bytes, uint64_t deadline_ns);
/* Waits until fd has `events` (of poll). -ETIMEDOUT. */
int port_wait(int fd, short events, uint64_t deadline_ns);
/* Next connection of a listener, non-blocking. -EAGAIN none; -EMFILE. */
int port_accept(int fd);
/* What there is at once: bytes, 0 at the end, -EAGAIN. */
int port_read(int fd, void *data, size_t bytes);
int port_write(int fd, const void *data, size_t bytes);

#endif

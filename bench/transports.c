/* transports.c: the table of transports, and what several of them share. */
#include "transport.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern const struct transport transport_line, transport_futex, transport_spsc, transport_spsc_fan,
	transport_spsc_log, transport_memcpy, transport_pipe, transport_unix,
	transport_unix_seqpacket, transport_tcp, transport_mq, transport_eventfd;
#ifdef BENCH_RINGBUS
extern const struct transport transport_ringbus, transport_ringbus_contact,
	transport_ringbus_locked, transport_ringbus_signal;
#endif
#ifdef BENCH_ZMQ
extern const struct transport transport_zmq;
#endif
#ifdef BENCH_NNG
extern const struct transport transport_nng;
#endif
#ifdef BENCH_QB
extern const struct transport transport_qb;
#endif
#ifdef BENCH_CYCLONE
extern const struct transport transport_cyclone;
#endif
#ifdef BENCH_ICEORYX
extern const struct transport transport_iceoryx;
#endif

const struct transport *const transports[] = {
	&transport_line,
	&transport_futex,
	&transport_spsc,
	&transport_spsc_fan,
	&transport_spsc_log,
	&transport_memcpy,
#ifdef BENCH_RINGBUS
	&transport_ringbus,
	&transport_ringbus_contact,
	&transport_ringbus_locked,
	&transport_ringbus_signal,
#endif
	&transport_pipe,
	&transport_unix,
	&transport_unix_seqpacket,
	&transport_tcp,
	&transport_mq,
	&transport_eventfd,
#ifdef BENCH_ZMQ
	&transport_zmq,
#endif
#ifdef BENCH_NNG
	&transport_nng,
#endif
#ifdef BENCH_QB
	&transport_qb,
#endif
#ifdef BENCH_ICEORYX
	&transport_iceoryx,
#endif
#ifdef BENCH_CYCLONE
	&transport_cyclone,
#endif
	NULL,
};

const struct transport *transport_find(const char *name, size_t length)
{
	for (unsigned i = 0; transports[i]; i++)
		if (strlen(transports[i]->name) == length &&
		    !memcmp(transports[i]->name, name, length))
			return transports[i];
	return NULL;
}

void bench_close(struct bench *bench, void *end)
{
	(void)bench;
	free(end);
}

int bench_address(struct bench *bench, const char *scheme)
{
	char *address = malloc(64);

	if (!address)
		return -ENOMEM;
	snprintf(address, 64, "%sringbus-bench-%d", scheme, (int)getpid());
	bench->state = address;
	return 0;
}

void bench_forget(struct bench *bench)
{
	free(bench->state);
}

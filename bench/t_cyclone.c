/* t_cyclone.c: Cyclone DDS over the loopback interface: reliable, keeps all, a sequence of octets.
 */
#include "loops.h"
#include "t_cyclone_idl.h"

#include <dds/dds.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CYCLONE_READY_NS 10000000000u
#define CYCLONE_CONFIG                                                                          \
	"<General><Interfaces><NetworkInterface name=\"lo\" multicast=\"false\"/></Interfaces>" \
	"<AllowMulticast>false</AllowMulticast></General><Discovery><Peers>"                    \
	"<Peer address=\"127.0.0.1\"/></Peers><ParticipantIndex>auto</ParticipantIndex>"        \
	"<MaxAutoParticipantIndex>99</MaxAutoParticipantIndex></Discovery>"                     \
	"<Tracing><Verbosity>none</Verbosity></Tracing>"

struct cyclone_end {
	dds_entity_t participant, writer, reader, set;
	unsigned receivers;
};

static int cyclone_error(const char *call, dds_return_t error)
{
	return bench_explain(-EIO, "%s: %s", call, dds_strretcode(error));
}

static int cyclone_send(void *opaque, const void *data, size_t size)
{
	struct cyclone_end *end = opaque;
	cyclone_payload payload;
	dds_return_t r;

	memset(&payload, 0, sizeof(payload));
	payload.data._length = payload.data._maximum = (uint32_t)size;
	memcpy(&payload.data._buffer, &data, sizeof(data)); /* it only reads them */
	r = dds_write(end->writer, &payload);
	if (r == DDS_RETCODE_TIMEOUT)
		return 0;
	return r < 0 ? cyclone_error("dds_write", r) : 1;
}

static int cyclone_take(void *opaque, struct sink *sink)
{
	struct cyclone_end *end = opaque;
	void *samples[1] = {NULL};
	dds_sample_info_t info[1];
	dds_return_t n = dds_take(end->reader, samples, info, 1, 1);

	if (n < 0)
		return cyclone_error("dds_take", n);
	if (n == 0) {
		dds_waitset_wait(end->set, NULL, 0, DDS_MSECS(100));
		return 0;
	}
	if (info[0].valid_data) {
		const cyclone_payload *payload = samples[0];

		sink_message(sink, payload->data._buffer, payload->data._length);
	}
	dds_return_loan(end->reader, samples, n);
	return info[0].valid_data ? 1 : 0;
}

static int cyclone_setup(struct bench *bench)
{
	char uri[1024];

	snprintf(uri, sizeof(uri), "<CycloneDDS><Domain id=\"any\">%s</Domain></CycloneDDS>",
		 CYCLONE_CONFIG);
	bench->ring_used = 0;
	return setenv("CYCLONEDDS_URI", uri, 1) ? -errno : 0;
}

static int cyclone_topics(struct cyclone_end *end, bool writes, bool reads, bool first)
{
	dds_entity_t there, back;
	dds_qos_t *qos = dds_create_qos();

	dds_qset_reliability(qos, DDS_RELIABILITY_RELIABLE, DDS_SECS(5));
	dds_qset_history(qos, DDS_HISTORY_KEEP_ALL, 0);
	there = dds_create_topic(end->participant, &cyclone_payload_desc, "there", qos, NULL);
	back = dds_create_topic(end->participant, &cyclone_payload_desc, "back", qos, NULL);
	if (writes)
		end->writer = dds_create_writer(end->participant, first ? there : back, qos, NULL);
	if (reads)
		end->reader = dds_create_reader(end->participant, first ? back : there, qos, NULL);
	dds_delete_qos(qos);
	if (end->writer < 0 || end->reader < 0)
		return cyclone_error("dds_create", end->writer < 0 ? end->writer : end->reader);
	if (!reads)
		return 0;
	dds_set_status_mask(end->reader, DDS_DATA_AVAILABLE_STATUS);
	end->set = dds_create_waitset(end->participant);
	if (end->set < 0 || dds_waitset_attach(end->set, end->reader, 0) < 0)
		return cyclone_error("dds_create_waitset", end->set);
	return 0;
}

/* Process 0 writes "there" and reads "back"; the others the other way round. */
static int cyclone_open(struct bench *bench, unsigned self, void **opaque)
{
	struct cyclone_end *end = calloc(1, sizeof(*end));
	bool both = bench->flow == FLOW_RTT;

	if (!end)
		return -ENOMEM;
	*opaque = end;
	end->receivers = self == 0 ? bench->receivers : 1;
	/* a domain of this harness, so that two do not meet */
	end->participant = dds_create_participant((dds_domainid_t)getppid() % 200, NULL, NULL);
	if (end->participant < 0)
		return cyclone_error("dds_create_participant", end->participant);
	return cyclone_topics(end, self == 0 || both, self > 0 || both, self == 0);
}

/* Waits until writer and readers know each other. */
static int cyclone_ready(struct bench *bench, void *opaque)
{
	uint64_t until = clock_of(CLOCK_MONOTONIC) + CYCLONE_READY_NS;
	struct cyclone_end *end = opaque;

	(void)bench;
	for (;;) {
		dds_publication_matched_status_t readers = {.current_count = end->receivers};
		dds_subscription_matched_status_t writers = {.current_count = 1};

		if (end->writer)
			dds_get_publication_matched_status(end->writer, &readers);
		if (end->reader)
			dds_get_subscription_matched_status(end->reader, &writers);
		if (readers.current_count >= end->receivers && writers.current_count >= 1)
			return 0;
		if (clock_of(CLOCK_MONOTONIC) > until)
			return bench_explain(-ETIMEDOUT, "writer and readers did not meet");
		usleep(1000);
	}
}

static void cyclone_close(struct bench *bench, void *opaque)
{
	struct cyclone_end *end = opaque;

	(void)bench;
	dds_delete(end->participant);
	free(end);
}

static void cyclone_teardown(struct bench *bench)
{
	(void)bench;
	unsetenv("CYCLONEDDS_URI");
}

BENCH_LOOPS(cyclone, cyclone_send, cyclone_take)

const struct transport transport_cyclone = {
	.name = "cyclone",
	.help = "Cyclone DDS on 127.0.0.1, reliable, keeps all",
	.can = CAN_RTT | CAN_STREAM | CAN_FAN | CAN_BLOCK | HAS_THREADS,
	.setup = cyclone_setup,
	.open = cyclone_open,
	.ready = cyclone_ready,
	.close = cyclone_close,
	.teardown = cyclone_teardown,
	LOOPS_OF(cyclone),
};

/* inspect_latency.c: histograms of rings, and who listens on a port. Level 5, stands on 0 to 2. */
#include "inspect.h"

#include "error.h"
#include "histogram.h"
#include "port.h"

#include <stdio.h>

_Static_assert(RINGBUS_INSPECT_BUCKETS == RING_HISTOGRAM_BUCKETS, "buckets");

static void load(uint64_t *to, const struct shm_word *from)
{
	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++)
		to[i] = inspect_word(&from[i]);
}

int ringbus_inspect_latency(struct ringbus_inspect *in, uint32_t from, uint32_t to,
			    struct ringbus_inspect_latency *latency)
{
	struct layout_ring_rx rx;
	uint64_t offset;
	int r = inspect_usable(in);

	if (r < 0)
		return r;
	offset = inspect_ring_offset(in, from, to);
	if (offset == 0)
		return rb_fail(-ENOENT, "there is no ring from slot %u to slot %u", from, to);
	inspect_read(in, offset + RB_PAGE + in->g.ring_bytes, &rx, sizeof(rx));
	load(latency->queue, rx.histogram[HISTOGRAM_QUEUE]);
	load(latency->wake, rx.histogram[HISTOGRAM_WAKE]);
	load(latency->handler, rx.histogram[HISTOGRAM_HANDLER]);
	return 0;
}

uint64_t ringbus_inspect_count(const uint64_t buckets[RINGBUS_INSPECT_BUCKETS])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++)
		/* saturates: a damaged file may hold anything */
		sum = buckets[i] > UINT64_MAX - sum ? UINT64_MAX : sum + buckets[i];
	return sum;
}

uint64_t ringbus_inspect_quantile(const uint64_t buckets[RINGBUS_INSPECT_BUCKETS], double q)
{
	double wanted = (double)ringbus_inspect_count(buckets) * q, below = 0;
	unsigned last = 0;

	for (unsigned i = 0; i < RING_HISTOGRAM_BUCKETS; i++) {
		double low = (double)histogram_low(i), high = (double)histogram_low(i + 1);

		if (buckets[i] == 0)
			continue;
		last = i;
		if (below + (double)buckets[i] >= wanted)
			return (uint64_t)(low +
					  (high - low) * (wanted - below) / (double)buckets[i]);
		below += (double)buckets[i];
	}
	/* by rounding only */
	return below > 0 ? histogram_low(last + 1) : 0;
}

int ringbus_inspect_port(unsigned port, char *who, size_t capacity, uint32_t *uid)
{
	char text[PORT_WHO_MAX];
	int64_t holder = port_holder(port, text);

	snprintf(who, capacity, "%s", text);
	if (holder < 0)
		return 0;
	*uid = (uint32_t)holder;
	return 1;
}

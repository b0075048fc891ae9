/* unit_inspect_message.c: single records of a ring: behind the head, over its end, while its sender
 * writes over them; histograms and holders.
 *
 * The rings are written by the library's own ring.h, into an image without a bus.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "inspect_image.h"
#include "histogram.h"
#include "ring.h"

#include <pthread.h>
#include <sched.h>
#include <sys/syscall.h>

/* ---- pread, so that tests can change the file under a reader ---- */

static void (*on_read)(uint64_t offset);

ssize_t pread(int fd, void *to, size_t bytes, off_t offset)
{
	ssize_t n = syscall(SYS_pread64, fd, to, bytes, offset);

	if (on_read)
		on_read((uint64_t)offset);
	return n;
}

/* ---- a sender and a receiver without a bus ---- */

#define SIZE_MAX_BYTES 400u

struct pair {
	struct image image;
	struct ring_tx tx;
	struct ring_rx rx;
	uint64_t sent;
};

static struct pair pair;

static void pair_open(void)
{
	struct image *i = &pair.image;
	uint8_t *data;

	image_build(i);
	pair.sent = 0;
	data = at(i, i->ring_offset + RB_PAGE);
	memset(tx(i), 0, RB_PAGE);
	memset(rx(i), 0, RB_PAGE);
	memset(data, 0, RING);
	ring_tx_init(&pair.tx, tx(i), data, rx(i), RING, 3);
	ring_rx_init(&pair.rx, tx(i), data, rx(i), RING, false);
}

static uint64_t payload_size(uint64_t number)
{
	return number * 2654435761u % SIZE_MAX_BYTES;
}

static uint8_t payload_byte(uint64_t number)
{
	return (uint8_t)(number * 37 + 11);
}

/* Sends message `number`; every seventh is stamped with 1000 + number. Its event word is number. */
static bool pair_send(uint64_t number)
{
	uint8_t payload[SIZE_MAX_BYTES];
	uint64_t size = payload_size(number);
	uint64_t flags = number % 7 == 0 ? RECORD_STAMPED : 0;
	uint64_t bytes = ring_record_bytes(size, flags);
	struct shm_word *w;

	if (!ring_tx_room(&pair.tx, bytes))
		return false;
	w = ring_tx_reserve(&pair.tx, bytes);
	/* relaxed, all: published by the header */
	shm_store_relaxed(w++, 5ull << 32 | 3);
	shm_store_relaxed(w++, 1ull << 48 | (uint32_t)number);
	if (flags)
		shm_store_relaxed(w++, 1000 + number);
	memset(payload, payload_byte(number), size);
	shm_copy_out(w, payload, size);
	ring_tx_publish(&pair.tx, bytes, size, RECORD_EVENT, flags);
	return true;
}

static void pair_drain(void)
{
	struct ring_record record;

	while (ring_rx_peek(&pair.rx, &record) == RING_RECORD)
		ring_rx_advance(&pair.rx, &record);
	ring_rx_give(&pair.rx, true);
}

/* What is told must be what was sent. */
static void assert_message(const struct ringbus_inspect_message *m, const uint8_t *payload)
{
	uint64_t number = m->event_generation;

	assert_int_equal(m->kind, RINGBUS_EVENT);
	assert_int_equal(m->event, 1);
	assert_int_equal(m->to_generation, 5);
	assert_int_equal(m->from_generation, 3);
	assert_int_equal(m->size, payload_size(number));
	assert_int_equal(m->copied, m->size);
	assert_int_equal(m->stamp_ns, number % 7 == 0 ? 1000 + number : 0);
	for (uint64_t i = 0; i < m->size; i++)
		assert_int_equal(payload[i], payload_byte(number));
}

/* ---- tests ---- */

static void the_image_is_read_record_by_record(void **state)
{
	struct ringbus_inspect_message m;
	struct ringbus_inspect *in;
	uint64_t position = RINGBUS_INSPECT_OLDEST;
	uint8_t payload[2000];
	struct image i;

	(void)state;
	image_build(&i);
	memset(at(&i, i.slab_offset + RB_PAGE + 3 * 1024), 'p', 1000);
	set(ring_word(&i, i.records[2] + 24), 77);
	set(ring_word(&i, i.records[2] + 32), 99);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, 2000), 1);
	assert_int_equal(m.kind, RINGBUS_CONTACT);
	assert_int_equal(m.size, 32);
	assert_int_equal(m.position, HEAD);
	assert_true(m.unread && m.state == RINGBUS_INSPECT_INTACT);
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, 2000), 1);
	assert_int_equal(m.kind, RINGBUS_EVENT);
	assert_true(m.has_drops && m.drops == 77 && m.stamp_ns == 99 && m.size == 0 && !m.pooled);
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, 2000), 1);
	assert_true(m.pooled && m.size == 1000 && m.copied == 1000);
	assert_true(m.state == RINGBUS_INSPECT_INTACT && payload[0] == 'p' && payload[999] == 'p');
	assert_int_equal(position, i.tail);
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, 2000), 0);
	/* Once it is read, its chunk may be used again. */
	set(&rx(&i)->head, i.tail);
	position = i.records[3];
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, 10), 1);
	assert_true(m.state == RINGBUS_INSPECT_DOUBTFUL && m.copied == 10 && m.size == 1000);
	position = RINGBUS_INSPECT_NEWEST;
	assert_int_equal(ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0), 0);
	assert_int_equal(position, i.tail);
	assert_int_equal(ringbus_inspect_message_next(in, 1, 0, &position, &m, NULL, 0), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

/* All that stands, from the oldest on; the newest must be the last one sent. */
static unsigned look_back(struct ringbus_inspect *in, unsigned *doubtful)
{
	uint64_t position = RINGBUS_INSPECT_OLDEST, expected = 0;
	struct ringbus_inspect_message m;
	struct ringbus_inspect_link link;
	uint8_t payload[SIZE_MAX_BYTES];
	uint32_t cursor = 0;
	unsigned n = 0;

	*doubtful = 0;
	assert_int_equal(ringbus_inspect_link_next(in, &cursor, &link), 1); /* a new budget */
	while (ringbus_inspect_message_next(in, 0, 1, &position, &m, payload, SIZE_MAX_BYTES) > 0) {
		assert_true(m.state <= RINGBUS_INSPECT_DOUBTFUL);
		assert_message(&m, payload);
		assert_true(n == 0 || m.event_generation == expected);
		expected = m.event_generation + 1;
		*doubtful += m.state == RINGBUS_INSPECT_DOUBTFUL;
		n++;
	}
	assert_int_equal(expected, pair.sent);
	return n;
}

static void what_was_read_stands_until_the_sender_comes_round(void **state)
{
	struct ringbus_inspect *in;
	unsigned doubtful;

	(void)state;
	pair_open();
	in = image_open(&pair.image);
	for (pair.sent = 0; pair.sent < 3000; pair.sent++) {
		uint64_t stands;
		unsigned n;

		pair_drain();
		n = pair.sent ? look_back(in, &doubtful) : 0;
		/* At least the last three quarters of the ring are certain. */
		stands = rb_min(pair.tx.tail, RING * 3 / 4 - 1200);
		assert_true(n * (SIZE_MAX_BYTES + 48) + 0u >= stands || pair.sent < 2);
		assert_true(pair_send(pair.sent));
	}
	ringbus_inspect_close(in);
	image_drop(&pair.image);
}

static void unread_records_are_intact_also_in_a_full_ring(void **state)
{
	struct ringbus_inspect *in;
	unsigned doubtful;

	(void)state;
	pair_open();
	in = image_open(&pair.image);
	for (pair.sent = 0; pair.sent < 500; pair.sent++) {
		assert_true(pair_send(pair.sent));
		pair_drain();
	}
	while (pair_send(pair.sent))
		pair.sent++;
	assert_true(look_back(in, &doubtful) > 5);
	assert_true(doubtful <= 1);
	ringbus_inspect_close(in);
	image_drop(&pair.image);
}

/* The sender goes on by this many messages at the n-th read from here. */
static unsigned reads_left, burst;

static void send_burst(uint64_t offset)
{
	(void)offset;
	if (reads_left == 0 || --reads_left > 0)
		return;
	for (unsigned i = 0; i < burst; i++) {
		pair_drain();
		assert_true(pair_send(pair.sent++));
	}
}

static void what_is_overwritten_at_any_read_is_never_told_as_intact(void **state)
{
	uint8_t payload[SIZE_MAX_BYTES];
	unsigned told[4] = {0};

	(void)state;
	pair_open();
	for (burst = 1; burst < 40; burst += 3) {
		for (unsigned read = 1; read < 12; read++) {
			struct ringbus_inspect *in = image_open(&pair.image);
			uint64_t position = RINGBUS_INSPECT_OLDEST, last;
			struct ringbus_inspect_message m;
			int r;

			for (unsigned i = 0; i < 20; i++) {
				pair_drain();
				assert_true(pair_send(pair.sent++));
			}
			pair_drain();
			/* the first from somewhere in the ring, the rest as it comes */
			for (unsigned i = 0; i < read % 5; i++)
				ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0);
			last = pair.sent;
			reads_left = read;
			on_read = send_burst;
			r = ringbus_inspect_message_next(in, 0, 1, &position, &m, payload,
							 sizeof(payload));
			on_read = NULL;
			if (r == 0) /* all that it knew of is gone: it looks again */
				r = ringbus_inspect_message_next(in, 0, 1, &position, &m, payload,
								 sizeof(payload));
			assert_int_equal(r, 1);
			told[m.state]++;
			assert_true(m.state != RINGBUS_INSPECT_DAMAGED);
			if (m.state == RINGBUS_INSPECT_INTACT)
				assert_message(&m, payload);
			else if (m.state == RINGBUS_INSPECT_OVERWRITTEN)
				assert_true(m.skipped_bytes > 0 && last > 0);
			ringbus_inspect_close(in);
		}
	}
	/* each has been seen, or the test is none */
	assert_true(told[RINGBUS_INSPECT_INTACT] > 0 && told[RINGBUS_INSPECT_OVERWRITTEN] > 0);
	image_drop(&pair.image);
}

static struct own_word stop;

static void *run_sender(void *user)
{
	(void)user;
	for (pair.sent = 0; !own_load(&stop); pair.sent++) {
		while (!pair_send(pair.sent))
			pair_drain();
		if (pair.sent % 16 == 0) /* about a ring: else little is ever seen whole */
			sched_yield();
	}
	return NULL;
}

static void a_running_sender_is_followed_and_loses_nothing_silently(void **state)
{
	uint64_t position = RINGBUS_INSPECT_OLDEST, end = 0, gaps = 0, intact = 0;
	uint8_t payload[SIZE_MAX_BYTES];
	struct ringbus_inspect_link link;
	struct ringbus_inspect *in;
	uint32_t cursor = 0;
	pthread_t thread;

	(void)state;
	pair_open();
	own_store(&stop, 0);
	in = image_open(&pair.image);
	assert_int_equal(pthread_create(&thread, NULL, run_sender, NULL), 0);
	while (intact < 3000) {
		struct ringbus_inspect_message m;

		cursor = 0;
		assert_int_equal(ringbus_inspect_link_next(in, &cursor, &link), 1);
		if (ringbus_inspect_message_next(in, 0, 1, &position, &m, payload,
						 sizeof(payload)) == 0)
			continue;
		assert_true(m.state != RINGBUS_INSPECT_DAMAGED);
		if (m.state == RINGBUS_INSPECT_OVERWRITTEN) {
			gaps++;
			continue;
		}
		assert_true(m.position >= end);
		end = m.position;
		if (m.state != RINGBUS_INSPECT_INTACT)
			continue;
		intact++;
		assert_message(&m, payload);
	}
	own_store(&stop, 1);
	pthread_join(thread, NULL);
	print_message("%llu intact, %llu gaps\n", (unsigned long long)intact,
		      (unsigned long long)gaps);
	ringbus_inspect_close(in);
	image_drop(&pair.image);
}

static void damage_is_stepped_over(void **state)
{
	struct ringbus_inspect *in;
	struct ringbus_inspect_message m;
	uint64_t position = RINGBUS_INSPECT_OLDEST;
	unsigned damaged = 0, n = 0;

	(void)state;
	pair_open();
	for (; pair.sent < 100; pair.sent++) {
		pair_drain();
		assert_true(pair_send(pair.sent));
	}
	pair_drain();
	in = image_open(&pair.image);
	/* a header amid what was read */
	ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0);
	for (unsigned i = 0; i < 6; i++)
		ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0);
	set(ring_word(&pair.image, position), 0x1234);
	while (ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0) > 0) {
		damaged += m.state == RINGBUS_INSPECT_DAMAGED;
		n += m.state != RINGBUS_INSPECT_DAMAGED;
	}
	assert_int_equal(damaged, 1);
	assert_true(n > 3 && m.state != RINGBUS_INSPECT_DAMAGED);
	ringbus_inspect_close(in);
	image_drop(&pair.image);
}

/* As reclaim.c leaves a pair, but for the starts, which old libraries left. */
static void pages_that_were_given_back_are_gone_and_not_damaged(void **state)
{
	struct ringbus_inspect *in;
	struct ringbus_inspect_message m;
	uint64_t position = RINGBUS_INSPECT_OLDEST;
	unsigned n = 0;

	(void)state;
	pair_open();
	for (; pair.sent < 100; pair.sent++) {
		pair_drain();
		assert_true(pair_send(pair.sent));
	}
	pair_drain();
	memset(at(&pair.image, pair.image.ring_offset + RB_PAGE), 0, RING);
	for (; pair.sent < 103; pair.sent++)
		assert_true(pair_send(pair.sent));
	in = image_open(&pair.image);
	while (ringbus_inspect_message_next(in, 0, 1, &position, &m, NULL, 0) > 0) {
		assert_int_not_equal(m.state, RINGBUS_INSPECT_DAMAGED);
		n += m.state == RINGBUS_INSPECT_INTACT;
	}
	assert_int_equal(n, 3);
	ringbus_inspect_close(in);
	image_drop(&pair.image);
}

static void links_are_the_rings_that_lie_in_the_file(void **state)
{
	struct ringbus_inspect_link link;
	struct ringbus_inspect *in;
	struct image i;
	uint32_t cursor = 0;

	(void)state;
	image_build(&i);
	set(&node(&i, 2)->ring[0], i.bytes);
	set(&node(&i, 2)->ring[1], 4095);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_link_next(in, &cursor, &link), 1);
	assert_true(link.from == 0 && link.to == 1 && link.offset == i.ring_offset);
	assert_int_equal(ringbus_inspect_link_next(in, &cursor, &link), 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void histograms_are_read_and_cut_into_quantiles(void **state)
{
	struct ringbus_inspect_latency latency;
	struct ringbus_inspect *in;
	struct image i;

	(void)state;
	image_build(&i);
	for (unsigned n = 1; n <= 1000; n++)
		histogram_add(rx(&i)->histogram[HISTOGRAM_QUEUE], n * 1000);
	histogram_add(rx(&i)->histogram[HISTOGRAM_WAKE], 5000);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_latency(in, 0, 1, &latency), 0);
	assert_int_equal(ringbus_inspect_count(latency.queue), 1000);
	assert_int_equal(ringbus_inspect_count(latency.wake), 1);
	assert_int_equal(ringbus_inspect_count(latency.handler), 0);
	assert_int_equal(ringbus_inspect_quantile(latency.handler, 0.5), 0);
	for (unsigned part = 1; part < 100; part++) {
		uint64_t ns = ringbus_inspect_quantile(latency.queue, part / 100.0);

		/* within a bucket, which is a quarter wide */
		assert_true(ns >= part * 10000 * 3 / 4 && ns <= part * 10000 * 5 / 4);
	}
	assert_int_equal(ringbus_inspect_latency(in, 1, 0, &latency), -ENOENT);
	set(&rx(&i)->histogram[0][3], UINT64_MAX);
	set(&rx(&i)->histogram[0][4], UINT64_MAX);
	assert_int_equal(ringbus_inspect_latency(in, 0, 1, &latency), 0);
	assert_true(ringbus_inspect_count(latency.queue) == UINT64_MAX);
	assert_true(ringbus_inspect_quantile(latency.queue, 1) > 0);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void holders_of_chunks_are_told_one_by_one(void **state)
{
	struct ringbus_inspect_hold holds[4];
	struct ringbus_inspect *in;
	struct image i;

	(void)state;
	image_build(&i);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_holds(in, 0, holds, 4), 2);
	assert_int_equal(holds[0].holder, 1);
	assert_int_equal(holds[0].queued, 1);
	assert_int_equal(holds[0].queued_bytes, 1024);
	assert_int_equal(holds[0].borrowed, 2);
	assert_int_equal(holds[0].borrowed_bytes, 2048);
	assert_int_equal(holds[1].holder, 3);
	assert_int_equal(holds[1].queued, 0);
	assert_int_equal(holds[1].borrowed_bytes, 1024 + BIG_BYTES - RB_PAGE);
	assert_int_equal(ringbus_inspect_holds(in, 1, holds, 4), 0);
	assert_int_equal(ringbus_inspect_holds(in, NODES, holds, 4), -EINVAL);
	ringbus_inspect_close(in);
	image_drop(&i);
}

static void freed_slots_and_entries_tell_who_was_there(void **state)
{
	struct ringbus_inspect_event e;
	struct ringbus_inspect_node n;
	struct ringbus_inspect *in;
	struct image i;

	(void)state;
	image_build(&i);
	set(&bell(&i, 1)->slot, slot_word(5, 0, SLOT_FREE));
	set(&record(&i, 1)->name_bytes, 0);
	set(&record(&i, 1)->ended, slot_ended(0, 5, false));
	set(&event(&i, 0)->word, event_word(3, LAYOUT_NO_SLOT, 0, EVENT_FREE));
	set(&event(&i, 0)->name_bytes, 0);
	in = image_open(&i);
	assert_int_equal(ringbus_inspect_slot(in, 1, &n), 0);
	assert_int_equal(n.former_pid, 4201);
	assert_int_equal(n.ended_generation, 5);
	assert_string_equal(ringbus_inspect_slot_state(n.ended_state), "dead");
	assert_string_equal(n.name, "beta");
	assert_int_equal(ringbus_inspect_slot(in, NODES, &n), -EINVAL);
	assert_int_equal(ringbus_inspect_event_entry(in, 0, &e), 0);
	assert_string_equal(e.name, "news");
	assert_string_equal(ringbus_inspect_event_state(e.state), "free");
	assert_int_equal(ringbus_inspect_event_entry(in, EVENTS, &e), -EINVAL);
	ringbus_inspect_close(in);
	image_drop(&i);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_image_is_read_record_by_record),
		cmocka_unit_test(what_was_read_stands_until_the_sender_comes_round),
		cmocka_unit_test(unread_records_are_intact_also_in_a_full_ring),
		cmocka_unit_test(what_is_overwritten_at_any_read_is_never_told_as_intact),
		cmocka_unit_test(a_running_sender_is_followed_and_loses_nothing_silently),
		cmocka_unit_test(damage_is_stepped_over),
		cmocka_unit_test(pages_that_were_given_back_are_gone_and_not_damaged),
		cmocka_unit_test(links_are_the_rings_that_lie_in_the_file),
		cmocka_unit_test(histograms_are_read_and_cut_into_quantiles),
		cmocka_unit_test(holders_of_chunks_are_told_one_by_one),
		cmocka_unit_test(freed_slots_and_entries_tell_who_was_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* layout.c: geometry, header and names of the region; pure memory. Level 1. */
#include "layout.h"

int layout_geometry_init(struct layout_geometry *g)
{
	uint64_t at;

	if (g->nodes < 2 || g->nodes > LAYOUT_NODES_MAX || g->events < 1 ||
	    g->events > LAYOUT_EVENTS_MAX)
		return -EINVAL;
	if (!rb_is_power_of_two(g->ring_bytes) || g->ring_bytes < LAYOUT_RING_MIN ||
	    g->ring_bytes > LAYOUT_RING_MAX)
		return -EINVAL;
	if (g->pool_bytes < LAYOUT_POOL_MIN || g->pool_bytes > LAYOUT_POOL_MAX)
		return -EINVAL;

	g->common_offset = RB_PAGE;
	g->common_bytes =
		rb_align_up(sizeof(struct layout_common) + g->nodes * sizeof(struct layout_bell),
			    RB_PAGE);
	g->control_offset = g->common_offset + g->common_bytes;
	at = sizeof(struct layout_control);
	g->records_offset = at;
	at = rb_align_up(at + g->nodes * sizeof(struct layout_record), RB_PAGE);
	g->hashes_offset = at;
	at = rb_align_up(at + g->events * sizeof(struct shm_word), RB_PAGE);
	g->events_offset = at;
	g->control_bytes =
		rb_align_up(at + (uint64_t)g->events * sizeof(struct layout_event), RB_PAGE);
	g->nodes_offset = g->control_offset + g->control_bytes;
	g->nodes_bytes = (uint64_t)g->nodes * sizeof(struct layout_node);
	g->fixed_bytes = g->nodes_offset + g->nodes_bytes;
	return 0;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
	h = (h ^ v) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

uint64_t layout_signature(void)
{
	static const uint64_t facts[] = {
		LAYOUT_VERSION,
		RB_PAGE,
		sizeof(struct layout_header),
		sizeof(struct layout_common),
		sizeof(struct layout_bell),
		offsetof(struct layout_bell, inbox),
		offsetof(struct layout_bell, room),
		offsetof(struct layout_bell, signal),
		offsetof(struct layout_bell, paired),
		sizeof(struct layout_control),
		sizeof(struct layout_record),
		offsetof(struct layout_record, ended),
		offsetof(struct layout_record, name),
		sizeof(struct layout_event),
		offsetof(struct layout_event, members),
		offsetof(struct layout_event, deliver),
		offsetof(struct layout_event, lossy),
		offsetof(struct layout_event, name),
		sizeof(struct layout_node),
		offsetof(struct layout_node, ring),
		offsetof(struct layout_node, pool),
		sizeof(struct layout_ring_tx),
		offsetof(struct layout_ring_tx, answered),
		offsetof(struct layout_ring_tx, drops),
		offsetof(struct layout_ring_tx, starts),
		RING_STARTS,
		sizeof(struct layout_ring_rx),
		offsetof(struct layout_ring_rx, asked),
		offsetof(struct layout_ring_rx, histogram),
		RECORD_HEADER_BYTES,
		sizeof(struct record_chunk),
		(uint64_t)__BYTE_ORDER__,
	};
	uint64_t h = 0x52494e47;

	for (size_t i = 0; i < rb_array_size(facts); i++)
		h = mix(h, facts[i]);
	return h;
}

void layout_header_write(struct layout_header *h, const struct layout_geometry *g,
			 const uint8_t uuid[16], const char *boot_id, unsigned port, unsigned uid)
{
	*h = (struct layout_header){
		.magic = LAYOUT_MAGIC,
		.version = LAYOUT_VERSION,
		.header_bytes = sizeof(*h),
		.signature = layout_signature(),
		.nodes = g->nodes,
		.events = g->events,
		.ring_bytes = g->ring_bytes,
		.pool_bytes = g->pool_bytes,
		.port = port,
		.uid = uid,
		.fixed_bytes = g->fixed_bytes,
		.created_realtime_s = (uint64_t)time(NULL),
	};
	memcpy(h->uuid, uuid, sizeof(h->uuid));
	strncpy(h->boot_id, boot_id, sizeof(h->boot_id) - 1);
}

int layout_header_check(const struct layout_header *h, struct layout_geometry *g, const char **why)
{
	struct layout_geometry got = {
		.nodes = h->nodes,
		.events = h->events,
		.ring_bytes = h->ring_bytes,
		.pool_bytes = h->pool_bytes,
	};

	if (h->magic != LAYOUT_MAGIC)
		*why = "not a ringbus region";
	else if (h->version != LAYOUT_VERSION)
		*why = "written by another version of ringbus (layout number differs)";
	else if (h->header_bytes != sizeof(*h) || h->signature != layout_signature())
		*why = "written by another build of ringbus (layout signature differs)";
	else if (memchr(h->boot_id, 0, sizeof(h->boot_id)) == NULL)
		*why = "its header is damaged (boot id)";
	else if (layout_geometry_init(&got) < 0 || got.fixed_bytes != h->fixed_bytes)
		*why = "its header is damaged (geometry)";
	else {
		*g = got;
		return 0;
	}
	return -EPROTO;
}

void layout_name_store(struct shm_word *name, const char *text, size_t bytes)
{
	for (size_t i = 0; i < LAYOUT_NAME_BYTES / 8; i++) {
		uint64_t word = 0;

		if (i * 8 < bytes)
			memcpy(&word, text + i * 8, rb_min(8, bytes - i * 8));
		/* relaxed: published by the word of the entry (EVENT) or the slot (SLOT) */
		shm_store_relaxed(&name[i], word);
	}
}

size_t layout_name_load(const struct shm_word *name, uint64_t name_bytes,
			char out[LAYOUT_NAME_BYTES])
{
	size_t bytes = (size_t)rb_min(name_bytes, LAYOUT_NAME_BYTES - 1);

	for (size_t i = 0; i * 8 < bytes; i++) {
		/* relaxed: under the control lock, or for information */
		uint64_t word = shm_load_relaxed(&name[i]);

		memcpy(out + i * 8, &word, 8);
	}
	out[bytes] = 0;
	return bytes;
}

uint64_t layout_name_hash(const char *text, size_t bytes)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < bytes; i++)
		h = (h ^ (unsigned char)text[i]) * 0x100000001b3ull;
	h = mix(h, bytes);
	return h ? h : 1;
}

/* Length of the UTF-8 sequence at s (n bytes left), 0 if it is none: no surrogates, nothing
 * overlong or over U+10FFFF. */
static size_t utf8_sequence(const unsigned char *s, size_t n)
{
	if (s[0] < 0x80)
		return s[0] != 0;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		return n >= 2 && (s[1] & 0xc0) == 0x80 ? 2 : 0;
	if (s[0] >= 0xe0 && s[0] <= 0xef) {
		if (n < 3 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f))
			return 0;
		return 3;
	}
	if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		if (n < 4 || (s[1] & 0xc0) != 0x80 || (s[2] & 0xc0) != 0x80 ||
		    (s[3] & 0xc0) != 0x80)
			return 0;
		if ((s[0] == 0xf0 && s[1] < 0x90) || (s[0] == 0xf4 && s[1] > 0x8f))
			return 0;
		return 4;
	}
	return 0;
}

bool layout_name_valid(const char *text, size_t len)
{
	if (len == 0 || len >= LAYOUT_NAME_BYTES)
		return false;
	for (size_t i = 0; i < len;) {
		size_t n = utf8_sequence((const unsigned char *)text + i, len - i);

		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

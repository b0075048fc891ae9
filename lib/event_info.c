/* event_info.c: what can be asked about events. Level 4. */
#include "error.h"
#include "node.h"

#include <time.h>

const char *ringbus_event_id(const struct ringbus_event *event)
{
	return event ? event->id : "";
}

static unsigned mask_count(const struct shm_word *mask, uint32_t except)
{
	unsigned n = 0;

	for (uint32_t w = 0; w < LAYOUT_MASK_WORDS; w++) {
		/* sync EVENT emitter: bits; pairs EVENT holder in bit_set() */
		uint64_t bits = shm_load_acquire(&mask[w]);

		if (except / 64 == w)
			bits &= ~(1ull << except % 64);
		n += (unsigned)__builtin_popcountll(bits);
	}
	return n;
}

/* All but the size. */
static void info_of(const struct ringbus_event *event, struct ringbus_event_info *info)
{
	const struct region *region = event->node->region;
	uint64_t word;

	/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
	word = shm_load_acquire(&event->entry->word);
	if (event_generation(word) != event->generation)
		return;
	info->exists = event_state(word) == EVENT_LIVE;
	info->mode = (enum ringbus_mode)event_mode(word);
	if (info->exists && info->mode == RINGBUS_SINGLE_EMISSION) {
		uint32_t slot = event_owner(word);

		info->owner.slot = slot;
		/* relaxed, both: stored before the word; pid for information */
		info->owner.generation =
			(uint32_t)shm_load_relaxed(&event->entry->owner_generation);
		if (slot < region->g.nodes)
			info->owner.pid = (uint32_t)shm_load_relaxed(&region->records[slot].pid);
	}
	info->subscribers = mask_count(event->entry->deliver, LAYOUT_NO_SLOT);
	info->members = mask_count(event->entry->members, LAYOUT_NO_SLOT);
	info->subscribed = event->subscribed;
}

int ringbus_event_info(struct ringbus_event *event, struct ringbus_event_info *info)
{
	int r = event && info ? node_enter(event->node) : -EINVAL;
	struct ringbus_event_info all = {0};

	if (r == 0)
		r = rb_size_check(info->size, sizeof(all));
	if (r < 0)
		return r;
	all.size = info->size;
	pthread_mutex_lock(&event->node->events_lock);
	info_of(event, &all);
	pthread_mutex_unlock(&event->node->events_lock);
	memcpy(info, &all, all.size); /* an older caller's struct is shorter */
	return 0;
}

int ringbus_event_wait_subscribers(struct ringbus_event *event, unsigned count, uint64_t timeout_ns)
{
	uint64_t deadline = rb_deadline_ns(timeout_ns);
	struct timespec pause = {.tv_nsec = 20000};
	const struct layout_event *entry;
	uint64_t id;
	int r;

	/* Others subscribe by control operations, which are rare: looking a thousand times a second
	 * is enough. */
	for (;;) {
		r = event ? node_enter(event->node) : -EINVAL;
		if (r < 0)
			return r;
		id = own_load(&event->record_id);
		entry = event_entry(event->node, id);
		/* sync EVENT emitter: word before masks; pairs EVENT holder in publish_word() */
		if (event_generation(shm_load_acquire(&entry->word)) != (uint32_t)id)
			return rb_fail(-ENOENT, "event '%s' does not exist", event->id);
		if (mask_count(entry->deliver, event->node->slot) >= count)
			return 0;
		if (own_load(&event->node->interrupted))
			return rb_fail_plain(-EINTR);
		if (rb_left_ns(deadline) == 0)
			return rb_fail(-ETIMEDOUT, "'%s' has fewer than %u subscriber%s", event->id,
				       count, count == 1 ? "" : "s");
		nanosleep(&pause, NULL);
		pause.tv_nsec = (long)rb_min((uint64_t)pause.tv_nsec * 2, RB_MS);
	}
}

int ringbus_subscriptions(struct ringbus_node *node, struct ringbus_event **events, size_t capacity)
{
	int r = node_enter(node);
	size_t n = 0;

	if (r < 0)
		return r;
	pthread_mutex_lock(&node->events_lock);
	for (struct ringbus_event *e = node->all; e; e = e->next) {
		if (!e->subscribed)
			continue;
		if (n < capacity)
			events[n] = e;
		n++;
	}
	pthread_mutex_unlock(&node->events_lock);
	return (int)n;
}

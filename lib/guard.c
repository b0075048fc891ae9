/* guard.c: opt-in SIGBUS guard over our mappings of regions. Level 1.
 *
 * A file that is truncated under a mapping turns each access into SIGBUS. The handler puts private
 * zero pages over the mapping that was hit and condemns the region; the access then goes on, and
 * the callers look at the flag.
 *
 * The handler walks the list without a lock: chunks are never freed, and the entry of the mapping
 * in which a thread faults cannot change meanwhile, because that thread uses the mapping.
 */
#include "guard.h"

#include "region.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

#define GUARD_CHUNK 128

struct guard_entry {
	struct own_word start; /* 0: unused */
	uint64_t bytes;
	struct own_word *condemned;
};

struct guard_chunk {
	struct own_word next; /* struct guard_chunk * */
	struct guard_entry entries[GUARD_CHUNK];
};

static struct guard_chunk guard_first;
static pthread_mutex_t guard_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction guard_old;
static bool guard_on;

static struct guard_chunk *guard_next(const struct guard_chunk *chunk)
{
	return (struct guard_chunk *)(uintptr_t)own_load(&chunk->next);
}

static void guard_chain(int sig, siginfo_t *info, void *context)
{
	if (guard_old.sa_flags & SA_SIGINFO) {
		guard_old.sa_sigaction(sig, info, context);
	} else if (guard_old.sa_handler != SIG_DFL && guard_old.sa_handler != SIG_IGN) {
		guard_old.sa_handler(sig);
	} else {
		/* The access is repeated on return, and now kills; a signal that was sent does so
		 * at raise(). */
		signal(SIGBUS, SIG_DFL);
		if (info->si_code <= 0)
			raise(SIGBUS);
	}
}

static struct guard_entry *guard_find(uint64_t address)
{
	for (struct guard_chunk *chunk = &guard_first; chunk; chunk = guard_next(chunk)) {
		for (int i = 0; i < GUARD_CHUNK; i++) {
			struct guard_entry *e = &chunk->entries[i];
			uint64_t start = own_load(&e->start);

			if (start != 0 && address >= start && address - start < e->bytes)
				return e;
		}
	}
	return NULL;
}

static void guard_handler(int sig, siginfo_t *info, void *context)
{
	int saved = errno;
	struct guard_entry *e = NULL;

	if (info->si_code == BUS_ADRERR)
		e = guard_find((uint64_t)(uintptr_t)info->si_addr);
	if (e) {
		void *start = (void *)(uintptr_t)own_load(&e->start);

		own_store(e->condemned, 1);
		if (mmap(start, e->bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
			e = NULL;
		else
			madvise(start, e->bytes, MADV_DONTFORK);
	}
	if (!e)
		guard_chain(sig, info, context);
	errno = saved;
}

int guard_enable(void)
{
	struct sigaction action = {.sa_sigaction = guard_handler,
				   .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
	int err = 0;

	pthread_mutex_lock(&guard_mutex);
	if (!guard_on) {
		sigemptyset(&action.sa_mask);
		/* Read first: a fault between the two calls must find whom to chain to. */
		sigaction(SIGBUS, NULL, &guard_old);
		err = sigaction(SIGBUS, &action, NULL) < 0 ? -errno : 0;
		guard_on = err == 0;
	}
	pthread_mutex_unlock(&guard_mutex);
	return err;
}

static struct guard_entry *guard_unused(void)
{
	struct guard_chunk *chunk = &guard_first, *more;

	for (;; chunk = guard_next(chunk)) {
		for (int i = 0; i < GUARD_CHUNK; i++)
			if (own_load(&chunk->entries[i].start) == 0)
				return &chunk->entries[i];
		if (!guard_next(chunk))
			break;
	}
	more = calloc(1, sizeof(*more));
	if (!more)
		return NULL;
	own_store(&chunk->next, (uint64_t)(uintptr_t)more);
	return &more->entries[0];
}

int guard_add(const struct region *region, void *map, uint64_t bytes)
{
	struct guard_entry *e;

	pthread_mutex_lock(&guard_mutex);
	e = guard_unused();
	if (e) {
		e->bytes = bytes;
		e->condemned = region->condemned;
		own_store(&e->start, (uint64_t)(uintptr_t)map);
	}
	pthread_mutex_unlock(&guard_mutex);
	return e ? 0 : -ENOMEM;
}

void guard_remove(void *map)
{
	pthread_mutex_lock(&guard_mutex);
	for (struct guard_chunk *chunk = &guard_first; chunk; chunk = guard_next(chunk))
		for (int i = 0; i < GUARD_CHUNK; i++)
			if (own_load(&chunk->entries[i].start) == (uint64_t)(uintptr_t)map)
				own_store(&chunk->entries[i].start, 0);
	pthread_mutex_unlock(&guard_mutex);
}

void guard_forget(void)
{
	static const pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;

	for (struct guard_chunk *chunk = &guard_first; chunk; chunk = guard_next(chunk))
		for (int i = 0; i < GUARD_CHUNK; i++)
			own_store(&chunk->entries[i].start, 0);
	memcpy(&guard_mutex, &fresh, sizeof(fresh));
}

bool guard_condemned(const struct region *region)
{
	return own_load(region->condemned) != 0;
}

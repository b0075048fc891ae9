/* region.c: from a port to a struct region: find, open, keep. Level 1. */
#include "region.h"

#include "error.h"
#include "guard.h"
#include "region_registry.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define REGION_RETRIES 16

static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct region *registry;
static pthread_once_t registry_once = PTHREAD_ONCE_INIT;

/* ---- fork ----
 *
 * No control operation may be under way at a fork: its lock would live on in the child. The child
 * then gives up the parent's descriptors at once. Later it might hold locks of its own on the same
 * files, which that close would drop.
 */

static void registry_fork_prepare(void)
{
	pthread_mutex_lock(&registry_mutex);
	for (struct region *r = registry; r; r = r->next)
		pthread_mutex_lock(&r->control_mutex);
}

static void registry_fork_parent(void)
{
	for (struct region *r = registry; r; r = r->next)
		pthread_mutex_unlock(&r->control_mutex);
	pthread_mutex_unlock(&registry_mutex);
}

static void registry_forget(void)
{
	for (struct region *r = registry; r; r = r->next) {
		close(r->fd);
		close(r->live_fd);
		r->fd = -1;
		r->live_fd = -1;
		pthread_mutex_init(&r->joins, NULL);
		pthread_mutex_init(&r->life, NULL);
		pthread_mutex_init(&r->control_mutex, NULL);
	}
	registry = NULL;
	guard_forget();
}

static void registry_fork_child(void)
{
	registry_forget();
	pthread_mutex_init(&registry_mutex, NULL);
}

static void registry_init(void)
{
	pthread_atfork(registry_fork_prepare, registry_fork_parent, registry_fork_child);
}

static void registry_lock(void)
{
	pthread_once(&registry_once, registry_init);
	pthread_mutex_lock(&registry_mutex);
	if (registry && region_forked(registry)) /* made by a raw system call, past the handlers */
		registry_forget();
}

/* ---- struct region ---- */

static int region_guard_page(struct region *r)
{
	uint8_t *page =
		mmap(NULL, RB_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return -ENOMEM;
	if (madvise(page, RB_PAGE, MADV_WIPEONFORK) < 0) {
		munmap(page, RB_PAGE);
		return rb_fail(-ENOTSUP,
			       "the kernel has no MADV_WIPEONFORK; Linux 5.16 or later is needed");
	}
	page[0] = 1;
	r->guard = page;
	r->condemned = (struct own_word *)(void *)(page + RB_LINE);
	return 0;
}

static int region_map_fixed(struct region *r)
{
	const struct layout_geometry *g = &r->g;
	uint8_t *control = NULL;
	void *at = NULL;
	int err;

	err = region_map(r, g->common_offset, g->common_bytes, true, false, &at);
	if (err < 0)
		return err;
	r->common = at;
	r->bells = (struct layout_bell *)(void *)(r->common + 1);
	err = region_map(r, g->control_offset, g->control_bytes, false, false, &at);
	if (err < 0)
		return err;
	control = at;
	r->control = at;
	r->records = (const struct layout_record *)(void *)(control + g->records_offset);
	r->hashes = (const struct shm_word *)(void *)(control + g->hashes_offset);
	r->events = (const struct layout_event *)(void *)(control + g->events_offset);
	err = region_map(r, g->nodes_offset, g->nodes_bytes, false, false, &at);
	r->nodes = at;
	return err;
}

void region_free(struct region *r)
{
	const struct layout_geometry *g = &r->g;

	if (r->guard) {
		region_unmap(r, r->common, g->common_bytes);
		region_unmap(r, (void *)(uintptr_t)r->control, g->control_bytes);
		region_unmap(r, (void *)(uintptr_t)r->nodes, g->nodes_bytes);
		munmap((void *)(uintptr_t)r->guard, RB_PAGE);
	}
	if (r->fd >= 0)
		close(r->fd);
	if (r->live_fd >= 0)
		close(r->live_fd);
	free(r);
}

struct region *region_new(unsigned port, const char *directory)
{
	struct region *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	r->fd = -1;
	r->live_fd = -1;
	r->port = port;
	r->references = 1;
	snprintf(r->directory, sizeof(r->directory), "%s", directory);
	pthread_mutex_init(&r->joins, NULL);
	pthread_mutex_init(&r->life, NULL);
	pthread_mutex_init(&r->control_mutex, NULL);
	return r;
}

/* Maps it and enters it in the registry. Caller holds the registry's mutex. */
static int region_finish(struct region *r, const struct layout_header *header)
{
	struct stat st, live;
	int err;

	if (fstat(r->fd, &st) < 0 || fstat(r->live_fd, &live) < 0)
		return -errno;
	r->dev = st.st_dev;
	r->ino = st.st_ino;
	r->live_ino = live.st_ino;
	memcpy(r->uuid, header->uuid, sizeof(r->uuid));
	err = region_guard_page(r);
	if (err == 0)
		err = region_map_fixed(r);
	if (err < 0)
		return err;
	r->next = registry;
	registry = r;
	return 0;
}

int region_register(struct region *r, const struct layout_header *header)
{
	int err;

	registry_lock();
	err = region_finish(r, header);
	pthread_mutex_unlock(&registry_mutex);
	return err;
}

struct region *region_get(struct region *region)
{
	registry_lock();
	region->references++;
	pthread_mutex_unlock(&registry_mutex);
	return region;
}

void region_put(struct region *region)
{
	if (!region)
		return;
	registry_lock();
	if (--region->references == 0) {
		for (struct region **at = &registry; *at; at = &(*at)->next) {
			if (*at == region) {
				*at = region->next;
				break;
			}
		}
		/* Closed before the mutex goes: nobody may open the same file in between and lose
		 * its locks. */
		region_free(region);
	}
	pthread_mutex_unlock(&registry_mutex);
}

bool region_names(const struct path_directory *d, unsigned port, const char *kind, dev_t dev,
		  ino_t ino)
{
	char name[32];
	struct stat st;

	path_name(name, port, kind);
	return fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && st.st_dev == dev &&
	       st.st_ino == ino;
}

bool region_is_current(const struct region *region)
{
	struct path_directory d;
	bool same;

	if (path_directory_open(&d, region->directory) < 0)
		return false;
	same = region_names(&d, region->port, "bus", region->dev, region->ino) &&
	       region_names(&d, region->port, "live", region->dev, region->live_ino);
	path_directory_close(&d);
	return same;
}

/* ---- open ---- */

int region_boot_id(char out[40])
{
	static const char path[] = "/proc/sys/kernel/random/boot_id";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, out, 36);
	int err = n < 0 ? errno : EINVAL;
	bool told = err == EMFILE || err == ENFILE || err == ENOMEM;

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return rb_fail(told ? -err : -EACCES,
			       "cannot read %s: %s; without it a bus of an earlier boot cannot be "
			       "told from a living one",
			       path, strerrordesc_np(err));
	out[n] = 0;
	return 0;
}

static int region_read_header(const struct region *r, struct layout_header *header,
			      struct layout_geometry *g)
{
	const char *why = "it is shorter than a header";
	char boot_id[40];
	struct stat st;
	int err = -EPROTO;

	if (pread(r->fd, header, sizeof(*header), 0) == (ssize_t)sizeof(*header))
		err = layout_header_check(header, g, &why);
	if (err == 0 && (fstat(r->fd, &st) < 0 || (uint64_t)st.st_size < g->fixed_bytes)) {
		why = "it was truncated";
		err = -EPROTO;
	}
	if (err == 0 && header->port != r->port) {
		why = "it is a copy of another port's region";
		err = -EPROTO;
	}
	if (err < 0)
		return rb_fail(err,
			       "%s/%u.bus: %s; end its processes and start ringbusd again, which "
			       "replaces it",
			       r->directory, r->port, why);
	err = region_boot_id(boot_id);
	if (err < 0)
		return err;
	if (strcmp(boot_id, header->boot_id) != 0)
		return rb_fail(-ENOENT,
			       "%s/%u.bus is of an earlier boot; start ringbusd, which replaces it",
			       r->directory, r->port);
	return 0;
}

/* The two O_PATH descriptors stay the caller's. */
static int region_open_new(struct region **region, const struct path_directory *d, unsigned port,
			   int bus, int live)
{
	struct layout_header header;
	struct region *r = region_new(port, d->path);
	int err = 0;

	if (!r)
		return rb_fail(-ENOMEM, "out of memory");
	r->fd = path_file_reopen(bus);
	if (r->fd < 0)
		err = r->fd;
	if (err == 0)
		err = region_read_header(r, &header, &r->g);
	if (err == 0) {
		r->live_fd = path_file_reopen(live);
		if (r->live_fd < 0)
			err = r->live_fd;
	}
	if (err == 0)
		err = region_finish(r, &header);
	if (err < 0)
		region_free(r);
	else
		*region = r;
	return err;
}

/* -EAGAIN: the files changed meanwhile. */
static int region_open_once(struct region **region, const struct path_directory *d, unsigned port)
{
	struct stat st, st_live;
	struct region *r;
	int bus, live, err;

	bus = path_file_find(d, port, "bus", &st);
	if (bus == -ENOENT)
		return rb_fail(-ENOENT, "no bus on port %u in %s; start ringbusd --port %u", port,
			       d->path, port);
	if (bus < 0)
		return bus;
	registry_lock();
	for (r = registry; r; r = r->next)
		if (r->dev == st.st_dev && r->ino == st.st_ino)
			break;
	if (r) {
		r->references++;
		*region = r;
		pthread_mutex_unlock(&registry_mutex);
		close(bus);
		return 0;
	}
	live = path_file_find(d, port, "live", &st_live);
	err = live;
	if (live == -ENOENT)
		err = rb_fail(-ENOENT,
			      "%s/%u.live is missing: the bus is ending; start ringbusd again",
			      d->path, port);
	else if (live >= 0 && !region_names(d, port, "bus", st.st_dev, st.st_ino))
		err = -EAGAIN;
	else if (live >= 0)
		err = region_open_new(region, d, port, bus, live);
	pthread_mutex_unlock(&registry_mutex);
	if (live >= 0)
		close(live);
	close(bus);
	return err;
}

static int region_open_in(struct region **region, unsigned port, const char *directory)
{
	struct path_directory d;
	int err = path_directory_open(&d, directory);

	if (err < 0)
		return err;
	for (int i = 0; i < REGION_RETRIES; i++) {
		err = region_open_once(region, &d, port);
		if (err != -EAGAIN)
			break;
	}
	path_directory_close(&d);
	return err == -EAGAIN ? -ENOENT : err;
}

int region_open(struct region **region, unsigned port, const char *directory)
{
	char places[PATH_CANDIDATES][REGION_PATH_MAX], first[512] = "";
	int n = path_candidates(places, directory);
	int err = n;

	for (int i = 0; i < n; i++) {
		err = region_open_in(region, port, places[i]);
		/* A system bus that we may not use does not keep us from our own. */
		if (err == -EACCES && n > 1 && i == n - 2)
			err = -ENOENT;
		if (err != -ENOENT)
			return err;
		if (i == 0)
			strncpy(first, rb_fail_detail(), sizeof(first) - 1);
	}
	return n < 0 ? n : n == PATH_CANDIDATES ? rb_fail(err, "%s", first) : err;
}

int region_directory(char out[REGION_PATH_MAX], unsigned port, const char *directory,
		     const char *group)
{
	char places[PATH_CANDIDATES][REGION_PATH_MAX];
	int n = path_candidates(places, directory);

	if (n < 0)
		return n;
	if (group && n == PATH_CANDIDATES - 1)
		return rb_fail(-EINVAL, "a shared bus needs a directory of its own; give one with "
					"--directory or RINGBUS_DIR");
	for (int i = 0; !directory && n == PATH_CANDIDATES - 1 && i < n - 1; i++) {
		struct path_directory d;
		struct stat st;
		int fd = path_directory_open(&d, places[i]);

		if (fd < 0)
			continue;
		fd = path_file_find(&d, port, "bus", &st);
		path_directory_close(&d);
		if (fd < 0)
			continue;
		close(fd);
		strcpy(out, places[i]);
		return 0;
	}
	strcpy(out, n == PATH_CANDIDATES - 1 ? places[n - 1] : places[0]);
	return 0;
}

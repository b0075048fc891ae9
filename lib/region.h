/* region.h: from a port to mapped memory: find, create, open, map; the only user of paths. Level 1.
 *
 * A process has one struct region per bus file, counted in a process-wide registry: closing any
 * descriptor of a file drops all POSIX locks that the process holds on it, so there must be only
 * one of the region file and one of PORT.live. Files of a bus, all in one directory: PORT.bus (the
 * region), PORT.live (live locks, see peer.h), PORT.lock (OFD locks: byte 0 control lock, byte 1
 * service election). None has any content but PORT.bus.
 */
#ifndef RINGBUS_REGION_H
#define RINGBUS_REGION_H

#include "layout.h"

#include <pthread.h>
#include <sys/types.h>

#define REGION_PATH_MAX 512

struct region {
	struct layout_geometry g;
	uint8_t uuid[16];
	unsigned port;
	char directory[REGION_PATH_MAX];
	int fd;	     /* the only descriptor of PORT.bus in this process, read-write */
	int live_fd; /* the only descriptor of PORT.live in this process */
	dev_t dev;
	ino_t ino;
	ino_t live_ino; /* of PORT.live, on the same filesystem */
	const uint8_t
		*guard; /* 1 in the process that opened it, 0 in a forked child (MADV_WIPEONFORK) */
	struct own_word
		*condemned; /* 1 once the SIGBUS guard put zero pages over a mapping, see guard.h */
	struct layout_common *common; /* read-write, as the next */
	struct layout_bell *bells;
	const struct layout_control *control; /* the rest read-only */
	const struct layout_record *records;
	const struct shm_word *hashes;
	const struct layout_event *events;
	const struct layout_node *nodes;
	pthread_mutex_t joins; /* one join of this process at a time; taken before the next */
	pthread_mutex_t life; /* serialises claims and ends of slots of this process: POSIX locks do
				 not exclude within one. Nobody waits for another process with it
				 but for the control lock */
	pthread_mutex_t control_mutex; /* see control.h */
	bool foreign; /* we are in another pid namespace than the service: its process ids are not
			 ours */
	bool serving; /* this process is the service */
	unsigned references; /* private to region.c, like the next */
	struct region *next;
};

/* Options of a new bus. */
struct region_spec {
	struct layout_geometry g; /* nodes, events, ring_bytes, pool_bytes */
	unsigned port;
	const char *directory; /* NULL: $RINGBUS_DIR (secure_getenv), else /dev/shm/ringbus-UID */
	const char *group;     /* NULL, or name or number: directory 2770, files 0660 */
};

/* Opens the region of a port, mapped and checked. directory NULL: those of PROTOCOL "Directories
 * searched", in order. Every file is opened O_NOFOLLOW | O_CLOEXEC without O_CREAT and checked by
 * fstat: regular, one link, owner (root, self, or in the group of a shared directory), not writable
 * by others. -ENOENT no such bus; -EACCES; -EPROTO; -ENOSPC. A region of another boot, or one whose
 * file was unlinked or replaced meanwhile, is -ENOENT. */
int region_open(struct region **region, unsigned port, const char *directory);
/* Builds a region whole in an O_TMPFILE (fallocate in pieces, signals blocked), then links it;
 * replaces a file that stands there only if `replace`. Caller holds the election lock and has
 * proved the old one stale. Makes the directory (0700, or 2770 for a group) and PORT.live,
 * PORT.lock when missing. -ENOSPC, -EACCES, -EEXIST. */
int region_create(struct region **region, const struct region_spec *spec, bool replace);
struct region *region_get(struct region *region);
/* Drops a reference; the last one unmaps and closes. In a forked child it only closes. NULL is
 * allowed. */
void region_put(struct region *region);
/* Whether the bus file of this region is still the one that its path names. */
bool region_is_current(const struct region *region);
/* Unlinks PORT.bus, PORT.live, PORT.lock, and the directory if it is ours and empty. Caller holds
 * the control lock and has found the bus empty and set control.closing. */
void region_unlink(struct region *region);

/* Directory in which a new bus for this port is made. -EINVAL too long; -EACCES. */
int region_directory(char out[REGION_PATH_MAX], unsigned port, const char *directory,
		     const char *group);
/* Ports of all buses in the directories searched: fills up to capacity entries, returns how many
 * there are. A directory that is not there has none, nor one of several that we may not read. */
struct region_place {
	unsigned port;
	char directory[REGION_PATH_MAX];
};
int region_list(struct region_place *places, size_t capacity, const char *directory);
/* Makes the directory when missing, checks it otherwise. */
int region_make_directory(const char *directory, const char *group);
/* A fresh O_CLOEXEC description of PORT.lock, made if missing; retried when it was unlinked
 * meanwhile. */
int region_open_lock(const char *directory, unsigned port, bool create);
/* Whether the descriptor is still the file that PORT.lock names. */
bool region_lock_is_current(int fd, const char *directory, unsigned port);
/* Pids that hold live locks of a bus that is there and cannot be opened, of another layout or, as
 * it says, of an earlier boot: fills up to capacity (-1: unseen), returns how many. Fails if that
 * cannot be told. */
int region_live_pids(const char *directory, unsigned port, int32_t *pids, size_t capacity);

/* Unlinks PORT.lock if there is no PORT.bus. Caller holds the election lock on it. */
void region_discard_lock(const char *directory, unsigned port);

/* Bytes of the region file now. -EIO: it cannot be told; our descriptor may be another file. */
int region_size(const struct region *region, uint64_t *bytes);
/* Maps `bytes` at `offset` of the region file (page aligned, checked against the file's size):
 * MADV_DONTFORK and MADV_DONTDUMP set, populated when asked. -EBADMSG out of the file; -ENOMEM;
 * -EIO; -EFAULT truncated; -ENOSPC it has holes, and there is no memory to fill them. */
int region_map(const struct region *region, uint64_t offset, uint64_t bytes, bool writable,
	       bool populate, void **map);
/* Fills the holes of a part of a mapping, `at`, which is at this offset of the file: to touch a
 * hole, even to read it, takes memory, and is SIGBUS when there is none. -ENOSPC; or as
 * region_map(). */
int region_populate(const struct region *region, void *at, uint64_t offset, uint64_t bytes,
		    bool writable);
/* For who reads what may have been given back: narrows *from, *to (page aligned, within the file)
 * to the first run of pages with data. False: all of it is holes, which read 0 and are not to be
 * touched. */
bool region_next_data(const struct region *region, uint64_t *from, uint64_t *to);
/* NULL map is allowed. Nothing in a forked child. */
void region_unmap(const struct region *region, void *map, uint64_t bytes);
/* fallocate of a range, growing the file: in pieces of 2 MiB, all signals blocked. -ENOSPC; -EFBIG.
 */
int region_allocate(const struct region *region, uint64_t offset, uint64_t bytes);
/* Gives the memory of a range back; its bytes read as 0 afterwards. */
int region_punch(const struct region *region, uint64_t offset, uint64_t bytes);

/* Whether this process is a forked child of the one that opened it. */
static inline bool region_forked(const struct region *region)
{
	return *(const volatile uint8_t *)region->guard == 0;
}

#endif

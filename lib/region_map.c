/* region_map.c: space in the region file, and mappings of it. Level 1. */
#include "error.h"
#include "guard.h"
#include "region.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define REGION_PIECE (2ull << 20)

/* ---- space ---- */

static int region_no_space(const struct region *region, int code, uint64_t bytes)
{
	struct statvfs fs;
	unsigned long long free_kib = 0;

	if (fstatvfs(region->fd, &fs) == 0)
		free_kib = (unsigned long long)fs.f_bavail * fs.f_frsize >> 10;
	if (code == -EFBIG)
		return rb_fail(code, "the process may not write files as large as this bus "
				     "(RLIMIT_FSIZE); raise ulimit -f");
	if (code != -ENOSPC)
		return rb_fail(code, "cannot get %llu KiB in %s: %s",
			       (unsigned long long)bytes >> 10, region->directory,
			       strerrordesc_np(-code));
	return rb_fail(code,
		       "%s has %llu KiB free, %llu KiB are needed; enlarge it (docker: "
		       "--shm-size), or start the "
		       "service with smaller --ring-bytes and --pool-bytes",
		       region->directory, free_kib, (unsigned long long)bytes >> 10);
}

/* One piece with all signals blocked: a signal would undo it. SIGXFSZ, that we may cause, is taken
 * back. */
static int region_allocate_piece(int fd, uint64_t offset, uint64_t bytes)
{
	const struct timespec none = {0};
	sigset_t all, old, pending, xfsz;
	bool had;
	int err;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	sigpending(&pending);
	had = sigismember(&pending, SIGXFSZ);
	do {
		err = fallocate(fd, 0, (off_t)offset, (off_t)bytes) < 0 ? -errno : 0;
	} while (err == -EINTR);
	if (err == -EFBIG && !had) {
		sigemptyset(&xfsz);
		sigaddset(&xfsz, SIGXFSZ);
		sigtimedwait(&xfsz, NULL, &none);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

int region_allocate(const struct region *region, uint64_t offset, uint64_t bytes)
{
	for (uint64_t done = 0; done < bytes;) {
		uint64_t piece = rb_min(bytes - done, REGION_PIECE);
		int err = region_allocate_piece(region->fd, offset + done, piece);

		if (err < 0)
			return region_no_space(region, err, bytes - done);
		done += piece;
	}
	return 0;
}

int region_punch(const struct region *region, uint64_t offset, uint64_t bytes)
{
	int err;

	do {
		err = fallocate(region->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				(off_t)offset, (off_t)bytes) < 0
			      ? -errno
			      : 0;
	} while (err == -EINTR);
	return err;
}

/* ---- mapping ---- */

int region_size(const struct region *region, uint64_t *bytes)
{
	struct stat st;

	if (fstat(region->fd, &st) < 0)
		return rb_fail(-EIO, "fstat of the region failed: %s", strerrordesc_np(errno));
	if (st.st_dev != region->dev || st.st_ino != region->ino)
		return rb_fail(-EIO,
			       "descriptor %d is another file now than %s/%u.bus; the program "
			       "closed or replaced descriptors that are not its own",
			       region->fd, region->directory, region->port);
	*bytes = (uint64_t)st.st_size;
	return 0;
}

bool region_next_data(const struct region *region, uint64_t *from, uint64_t *to)
{
	uint64_t end = *to;
	off_t at;

	if (*from >= end)
		return false;
	at = lseek(region->fd, (off_t)*from, SEEK_DATA);
	if (at < 0)
		return errno != ENXIO; /* nobody can say: as if all were there */
	if ((uint64_t)at >= end)
		return false;
	*from = rb_max(*from, (uint64_t)at & ~(uint64_t)(RB_PAGE - 1));
	at = lseek(region->fd, (off_t)*from, SEEK_HOLE);
	if ((uint64_t)at > *from)
		*to = rb_min(end, (uint64_t)at);
	return true;
}

/* Whether the file still holds these bytes. */
static int region_check(const struct region *region, uint64_t offset, uint64_t bytes)
{
	uint64_t size;
	int r = region_size(region, &size);

	if (r < 0)
		return r;
	if (size < region->g.fixed_bytes) {
		/* what is mapped already is gone too, whether or not somebody has touched it yet */
		own_store(region->condemned, 1);
		return rb_fail(-EFAULT, "the region file %s/%u.bus was truncated",
			       region->directory, region->port);
	}
	if (bytes == 0 || offset % RB_PAGE || bytes % RB_PAGE || offset > size ||
	    bytes > size - offset)
		return rb_fail(-EBADMSG,
			       "bytes %llu to %llu are not within the region file %s/%u.bus; it "
			       "was truncated, "
			       "or a peer wrote nonsense",
			       (unsigned long long)offset, (unsigned long long)(offset + bytes),
			       region->directory, region->port);
	return 0;
}

int region_populate(const struct region *region, void *at, uint64_t offset, uint64_t bytes,
		    bool writable)
{
	int r;

	if (madvise(at, bytes, writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0 ||
	    errno != EFAULT)
		return 0;
	r = region_check(region, offset, bytes);
	return r < 0 ? r : region_no_space(region, -ENOSPC, bytes);
}

int region_map(const struct region *region, uint64_t offset, uint64_t bytes, bool writable,
	       bool populate, void **map)
{
	void *at;
	int r = region_check(region, offset, bytes);

	if (r < 0)
		return r;
	at = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, region->fd,
		  (off_t)offset);
	if (at == MAP_FAILED)
		return rb_fail(-ENOMEM,
			       "cannot map %llu KiB of the bus: %s; raise ulimit -v or ulimit -l",
			       (unsigned long long)bytes >> 10, strerrordesc_np(errno));
	madvise(at, bytes, MADV_DONTFORK);
	madvise(at, bytes, MADV_DONTDUMP);
	if (populate)
		r = region_populate(region, at, offset, bytes, writable);
	if (r == 0 && guard_add(region, at, bytes) < 0)
		r = rb_fail(-ENOMEM, "out of memory");
	if (r < 0) {
		munmap(at, bytes);
		return r;
	}
	*map = at;
	return 0;
}

void region_unmap(const struct region *region, void *map, uint64_t bytes)
{
	if (!map || region_forked(region))
		return;
	guard_remove(map);
	munmap(map, bytes);
}

/* region_create.c: makes the files of a bus, and takes them away. Level 1.
 *
 * A region is complete before it has a name. PORT.live is made anew with each region and gets its
 * name first, so a new PORT.bus never meets an old PORT.live.
 */
#include "error.h"
#include "region_path.h"
#include "region_registry.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#define LOCK_RETRIES 64

/* A file without a name; in a shared directory of its group. */
static int create_file(const struct path_directory *d)
{
	int fd = openat(d->fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (fd < 0)
		return rb_fail(errno == EPERM || errno == EROFS ? -EACCES : -errno,
			       "cannot make a file in %s: %s; ringbus needs a tmpfs there", d->path,
			       strerrordesc_np(errno));
	fd = path_raise(fd);
	if (d->shared && fchown(fd, (uid_t)-1, d->gid) < 0) {
		int err = rb_fail(-EACCES, "cannot give files in %s to group %u: %s", d->path,
				  (unsigned)d->gid, strerrordesc_np(errno));

		close(fd);
		return err;
	}
	return fd;
}

/* Gives the file its name: for a new one fails if it is taken, for a replacement takes it over in
 * one step. */
static int create_link(const struct path_directory *d, int fd, unsigned port, const char *kind,
		       bool replace)
{
	char name[32], fresh[48], proc[40];
	int err = 0;

	path_name(name, port, kind);
	snprintf(fresh, sizeof(fresh), ".%s.new", name);
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	if (fchmod(fd, d->shared ? 0660 : 0600) < 0)
		return -errno;
	if (replace)
		unlinkat(d->fd, fresh, 0);
	if (linkat(AT_FDCWD, proc, d->fd, replace ? fresh : name, AT_SYMLINK_FOLLOW) < 0)
		err = -errno;
	else if (replace && renameat(d->fd, fresh, d->fd, name) < 0)
		err = -errno;
	if (err < 0 && replace)
		unlinkat(d->fd, fresh, 0);
	return err == 0
		       ? 0
		       : rb_fail(err, "cannot put %s/%s in its place: %s; is something else there?",
				 d->path, name, strerrordesc_np(-err));
}

static int create_uuid(uint8_t uuid[16])
{
	if (getrandom(uuid, 16, 0) != 16)
		return rb_fail(-EIO, "getrandom failed");
	uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x40);
	uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
	return 0;
}

/* Space and header; all else of an empty bus is zero. */
static int create_fill(struct region *r, struct layout_header *header)
{
	uint8_t uuid[16];
	char boot_id[40];
	int err = create_uuid(uuid);

	if (err < 0)
		return err;
	err = region_boot_id(boot_id);
	if (err < 0)
		return err;
	err = region_allocate(r, 0, r->g.fixed_bytes);
	if (err < 0)
		return err;
	layout_header_write(header, &r->g, uuid, boot_id, r->port, (unsigned)geteuid());
	if (pwrite(r->fd, header, sizeof(*header), 0) != (ssize_t)sizeof(*header))
		return rb_fail(-EIO, "cannot write the region's header");
	return 0;
}

static int create_in(struct region **region, const struct path_directory *d,
		     const struct region_spec *spec, bool replace)
{
	struct region *r = region_new(spec->port, d->path);
	struct layout_header header;
	int err = 0, lock = -1;

	if (!r)
		return rb_fail(-ENOMEM, "out of memory");
	r->g = spec->g;
	if (layout_geometry_init(&r->g) < 0)
		err = rb_fail(-EINVAL, "nodes 2 to 256, events 1 to 65535, ring bytes a power of "
				       "two from 4K to 1G, "
				       "pool bytes 64K to 1T; one is out of range");
	if (err == 0)
		err = r->fd = create_file(d);
	if (err >= 0)
		err = r->live_fd = create_file(d);
	if (err >= 0)
		err = create_fill(r, &header);
	if (err == 0)
		err = lock = region_open_lock(d->path, spec->port, true);
	if (err >= 0) {
		close(lock);
		err = create_link(d, r->live_fd, spec->port, "live", true);
	}
	if (err == 0)
		err = create_link(d, r->fd, spec->port, "bus", replace);
	if (err == 0)
		err = region_register(r, &header);
	if (err < 0)
		region_free(r);
	else
		*region = r;
	return err;
}

int region_make_directory(const char *directory, const char *group)
{
	struct path_directory d;
	int err = path_directory_make(&d, directory, group);

	if (err == 0)
		path_directory_close(&d);
	return err;
}

int region_create(struct region **region, const struct region_spec *spec, bool replace)
{
	char path[REGION_PATH_MAX];
	struct path_directory d;
	int err = region_directory(path, spec->port, spec->directory, spec->group);

	if (err == 0)
		err = path_directory_make(&d, path, spec->group);
	if (err < 0)
		return err;
	err = create_in(region, &d, spec, replace);
	path_directory_close(&d);
	return err;
}

/* Only what is still ours: a name may have gone to a newer bus. */
static void unlink_if(const struct path_directory *d, unsigned port, const char *kind, dev_t dev,
		      ino_t ino)
{
	char name[32];

	path_name(name, port, kind);
	if (region_names(d, port, kind, dev, ino))
		unlinkat(d->fd, name, 0);
}

void region_unlink(struct region *region)
{
	char own[REGION_PATH_MAX], name[32];
	struct path_directory d;

	if (path_directory_open(&d, region->directory) < 0)
		return;
	if (region_names(&d, region->port, "bus", region->dev, region->ino)) {
		unlink_if(&d, region->port, "bus", region->dev, region->ino);
		KILL_POINT("X_BUS_UNLINKED");
		unlink_if(&d, region->port, "live", region->dev, region->live_ino);
		path_name(name, region->port, "lock");
		unlinkat(d.fd, name, 0);
	}
	path_directory_close(&d);
	path_private(own);
	if (strcmp(own, region->directory) == 0)
		rmdir(own); /* fails, as it should, while another bus is in there */
}

/* Whether there is none for sure. */
static bool bus_is_missing(const struct path_directory *d, unsigned port)
{
	char bus[32];

	path_name(bus, port, "bus");
	return faccessat(d->fd, bus, F_OK, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT;
}

void region_discard_lock(const char *directory, unsigned port)
{
	struct path_directory d;
	char lock[32];

	if (path_directory_open(&d, directory) < 0)
		return;
	path_name(lock, port, "lock");
	if (bus_is_missing(&d, port))
		unlinkat(d.fd, lock, 0);
	path_directory_close(&d);
}

/* A new, empty lock file; never over one that is there (-EAGAIN), nor with a mode that is not its
 * last. */
static int lock_create(const struct path_directory *d, unsigned port)
{
	int fd = create_file(d), err;

	if (fd < 0)
		return fd;
	err = create_link(d, fd, port, "lock", false);
	if (err == 0)
		return fd;
	close(fd);
	return err == -EEXIST ? -EAGAIN : err;
}

int region_open_lock(const char *directory, unsigned port, bool create)
{
	struct path_directory d;
	struct stat st;
	int err = path_directory_open(&d, directory), fd = -ENOENT, path;

	if (err < 0)
		return err;
	for (int i = 0; i < LOCK_RETRIES; i++) {
		path = path_file_find(&d, port, "lock", &st);
		if (path == -ENOENT && create)
			fd = lock_create(&d, port);
		else if (path < 0)
			fd = path;
		else
			fd = path_file_reopen(path);
		if (path >= 0)
			close(path);
		if (fd == -EAGAIN)
			continue;
		if (fd < 0 || (fstat(fd, &st) == 0 && st.st_nlink > 0))
			break;
		close(fd);
		fd = -ENOENT;
	}
	path_directory_close(&d);
	if (fd == -ENOENT)
		return rb_fail(fd, "%s/%u.lock is missing: the bus has ended; start ringbusd again",
			       directory, port);
	return fd;
}

bool region_lock_is_current(int fd, const char *directory, unsigned port)
{
	struct path_directory d;
	struct stat st;
	bool same;

	if (fstat(fd, &st) < 0 || path_directory_open(&d, directory) < 0)
		return false;
	same = region_names(&d, port, "lock", st.st_dev, st.st_ino);
	path_directory_close(&d);
	return same;
}

int region_live_pids(const char *directory, unsigned port, int32_t *pids, size_t capacity)
{
	struct path_directory d;
	struct stat st;
	int path, fd, found = 0;

	path = path_directory_open(&d, directory);
	if (path < 0)
		return path == -ENOENT ? 0 : path;
	path = bus_is_missing(&d, port) ? -ENOENT : path_file_find(&d, port, "live", &st);
	path_directory_close(&d);
	if (path < 0)
		return path == -ENOENT ? 0 : path;
	fd = path_file_reopen(path);
	close(path);
	if (fd < 0)
		return fd;
	for (unsigned slot = 0; slot < LAYOUT_NODES_MAX; slot++) {
		struct flock lock = {.l_type = F_WRLCK,
				     .l_whence = SEEK_SET,
				     .l_start = slot,
				     .l_len = 1};
		bool told = fcntl(fd, F_OFD_GETLK, &lock) == 0;

		if (told && lock.l_type == F_UNLCK)
			continue;
		if ((size_t)found < capacity)
			pids[found] = told && lock.l_pid > 0 ? lock.l_pid : -1;
		found++;
	}
	close(fd);
	return found;
}

/* region_path.c: names, directories and checks of the files of a bus, and which there are. Level 1.
 *
 * Anybody may put anything where we look, so each name is opened with O_PATH | O_NOFOLLOW, judged
 * by fstat, and only then opened for use, through that descriptor: what was judged is what is used.
 */
#include "region_path.h"

#include "error.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_SYSTEM "/run/ringbus"
#define PATH_FD_MIN 100

void path_private(char out[REGION_PATH_MAX])
{
	snprintf(out, REGION_PATH_MAX, "/dev/shm/ringbus-%u", (unsigned)geteuid());
}

/* What a name means now, it is to mean after a chdir() too. */
static int path_absolute(char out[REGION_PATH_MAX], const char *named)
{
	char here[REGION_PATH_MAX] = "";
	size_t n;

	if (named[0] != '/' && !getcwd(here, sizeof(here)))
		return rb_fail(-EINVAL,
			       "the working directory cannot be told: %s; give an absolute path "
			       "instead of '%s'",
			       strerrordesc_np(errno), named);
	n = strlen(here);
	if (n + strlen(named) + (n > 1) >= REGION_PATH_MAX)
		return rb_fail(-EINVAL,
			       "the directory's path is longer than %d bytes; use a shorter one",
			       REGION_PATH_MAX - 1);
	memcpy(out, here, n);
	if (n > 1)
		out[n++] = '/';
	strcpy(out + n, named);
	return 0;
}

int path_candidates(char out[PATH_CANDIDATES][REGION_PATH_MAX], const char *directory)
{
	const char *named = directory ? directory : secure_getenv("RINGBUS_DIR");
	int n = 0, err;

	if (named && *named) {
		err = path_absolute(out[n++], named);
		if (err < 0)
			return err;
		if (directory)
			return n;
	}
	strcpy(out[n++], PATH_SYSTEM);
	path_private(out[n++]);
	return n;
}

void path_name(char out[32], unsigned port, const char *kind)
{
	snprintf(out, 32, "%u.%s", port, kind);
}

int path_raise(int fd)
{
	int high;

	if (fd < 0 || fd >= PATH_FD_MIN)
		return fd;
	high = fcntl(fd, F_DUPFD_CLOEXEC, PATH_FD_MIN);
	if (high < 0)
		return fd;
	close(fd);
	return high;
}

static bool path_in_group(gid_t gid)
{
	int n = getgroups(0, NULL);
	gid_t *groups = n > 0 ? calloc((size_t)n, sizeof(*groups)) : NULL;
	bool found = gid == getegid();

	n = groups ? getgroups(n, groups) : 0;
	for (int i = 0; i < n; i++)
		found = found || groups[i] == gid;
	free(groups);
	return found;
}

/* Who may put files here? Only root, ourselves and, in a shared directory, our group. */
static int path_directory_judge(struct path_directory *d, const struct stat *st)
{
	bool member = path_in_group(st->st_gid) || geteuid() == 0;

	d->gid = st->st_gid;
	d->shared = (st->st_mode & S_ISGID) && (st->st_mode & S_IWGRP) && member;
	if (!S_ISDIR(st->st_mode))
		return rb_fail(-EACCES,
			       "%s is no directory (a symbolic link, perhaps); name another with "
			       "--directory",
			       d->path);
	if (st->st_uid != 0 && st->st_uid != geteuid() && !d->shared)
		return rb_fail(-EACCES,
			       "%s belongs to user %u, not to us; name another directory, or make "
			       "it mode 2770 "
			       "of a group of ours",
			       d->path, (unsigned)st->st_uid);
	if ((st->st_mode & S_IWOTH) && !(st->st_mode & S_ISVTX))
		return rb_fail(-EACCES, "everybody may write to %s; chmod o-w it", d->path);
	return 0;
}

int path_directory_open(struct path_directory *d, const char *path)
{
	struct stat st;
	int err;

	snprintf(d->path, sizeof(d->path), "%s", path);
	d->fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (d->fd < 0) {
		err = -errno;
		if (err == -ENOENT || err == -ENOTDIR)
			return rb_fail(-ENOENT, "there is no directory %s; ringbusd makes it",
				       path);
		return rb_fail(err == -EPERM ? -EACCES : err, "cannot open directory %s: %s", path,
			       strerrordesc_np(-err));
	}
	err = fstat(d->fd, &st) < 0
		      ? rb_fail(-EIO, "fstat of %s failed: %s", path, strerrordesc_np(errno))
		      : path_directory_judge(d, &st);
	if (err < 0)
		path_directory_close(d);
	return err;
}

#define PATH_GROUP_MAX (16u << 20) /* of an entry with all its members */

/* 0, or an errno code: ENOENT there is none. */
static int path_group_named(const char *group, gid_t *gid)
{
	struct group entry, *found = NULL;
	char *buffer = NULL;
	int err = ERANGE;

	for (size_t bytes = 4096; err == ERANGE && bytes <= PATH_GROUP_MAX; bytes *= 4) {
		free(buffer);
		buffer = malloc(bytes);
		err = buffer ? getgrnam_r(group, &entry, buffer, bytes, &found) : ENOMEM;
	}
	if (err == 0 && found)
		*gid = found->gr_gid;
	free(buffer);
	return err == 0 && !found ? ENOENT : err;
}

static int path_group(const char *group, gid_t *gid)
{
	char *end;
	unsigned long number = strtoul(group, &end, 10);
	int err;

	if (*group && !*end && number < UINT32_MAX) {
		*gid = (gid_t)number;
		return 0;
	}
	err = path_group_named(group, gid);
	if (err == ENOMEM)
		return rb_fail(-ENOMEM, "out of memory");
	if (err != 0)
		return rb_fail(-EINVAL, "there is no group '%s'; use one that getent group lists",
			       group);
	return 0;
}

int path_directory_make(struct path_directory *d, const char *path, const char *group)
{
	mode_t mode = group ? 02770 : 0700;
	gid_t gid = (gid_t)-1;
	bool made;
	int err = group ? path_group(group, &gid) : 0;

	if (err < 0)
		return err;
	made = mkdir(path, 0700) == 0;
	if (!made && errno != EEXIST)
		return rb_fail(errno == EPERM || errno == EROFS ? -EACCES : -errno,
			       "cannot make directory %s: %s; name another with --directory or "
			       "RINGBUS_DIR",
			       path, strerrordesc_np(errno));
	/* The group goes in before the mode: a new directory is never open to a wrong one. */
	if (made && ((group && chown(path, (uid_t)-1, gid) < 0) || chmod(path, mode) < 0)) {
		err = rb_fail(-EACCES, "cannot give %s to group %s: %s; be a member of it, or root",
			      path, group ? group : "-", strerrordesc_np(errno));
		rmdir(path);
		return err;
	}
	err = path_directory_open(d, path);
	if (err == 0 && group && (!d->shared || d->gid != gid)) {
		path_directory_close(d);
		return rb_fail(-EACCES,
			       "%s exists and is not shared with group %s; chgrp it and chmod "
			       "2770, or remove it",
			       path, group);
	}
	return err;
}

void path_directory_close(struct path_directory *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

int path_file_find(const struct path_directory *d, unsigned port, const char *kind, struct stat *st)
{
	char name[32];
	bool ours;
	int fd, err = 0;

	path_name(name, port, kind);
	fd = openat(d->fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT
			       ? -ENOENT
			       : rb_fail(errno == EPERM ? -EACCES : -errno, "cannot open %s/%s: %s",
					 d->path, name, strerrordesc_np(errno));
	if (fstat(fd, st) < 0) {
		err = -errno;
		close(fd);
		return err;
	}
	ours = st->st_uid == 0 || st->st_uid == geteuid() || (d->shared && st->st_gid == d->gid);
	if (!S_ISREG(st->st_mode))
		err = rb_fail(-EACCES, "%s/%s is no regular file; remove it", d->path, name);
	else if (!ours)
		err = rb_fail(-EACCES,
			      "%s/%s belongs to user %u, not to us; use another port or directory",
			      d->path, name, (unsigned)st->st_uid);
	else if (st->st_mode & S_IWOTH)
		err = rb_fail(-EACCES, "everybody may write to %s/%s; chmod o-w it or remove it",
			      d->path, name);
	else if (st->st_nlink == 0)
		err = -ENOENT;
	else if (st->st_nlink > 1)
		err = rb_fail(-EACCES, "%s/%s has a second name (hard link); remove one of them",
			      d->path, name);
	if (err < 0) {
		close(fd);
		return err;
	}
	return fd;
}

int path_file_reopen(int path_fd)
{
	char proc[40], file[REGION_PATH_MAX + 32];
	ssize_t n;
	int fd;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", path_fd);
	fd = open(proc, O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		int err = errno == EPERM ? EACCES : errno;

		n = readlink(proc, file, sizeof(file) - 1);
		file[n > 0 ? n : 0] = 0;
		return rb_fail(-err,
			       "cannot open %s for writing: %s; are you its owner, or in its "
			       "group?",
			       n > 0 ? file : "a file of the bus", strerrordesc_np(err));
	}
	return path_raise(fd);
}

static int path_unread(const char *directory, int err)
{
	bool told = err == EMFILE || err == ENFILE || err == ENOMEM || err == EACCES;

	return rb_fail(told ? -err : -EIO, "cannot read directory %s: %s", directory,
		       strerrordesc_np(err));
}

/* Adds the buses of one directory to those found. -ENOENT: it is not there. */
static int path_list(struct region_place *places, size_t capacity, const char *directory, int found)
{
	struct path_directory d;
	struct dirent *entry;
	DIR *dir = NULL;
	int fd, err = path_directory_open(&d, directory);

	if (err < 0)
		return err;
	fd = openat(d.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		dir = fdopendir(fd);
	err = errno;
	path_directory_close(&d);
	if (!dir && fd >= 0)
		close(fd);
	if (!dir)
		return path_unread(directory, err);
	for (errno = 0; (entry = readdir(dir)) != NULL; errno = 0) {
		char *end;
		unsigned long port = strtoul(entry->d_name, &end, 10);

		if (end == entry->d_name || strcmp(end, ".bus") != 0 || port == 0 || port > 65535)
			continue;
		if ((size_t)found < capacity) {
			places[found].port = (unsigned)port;
			strcpy(places[found].directory, directory);
		}
		found++;
	}
	err = errno;
	closedir(dir);
	return err ? path_unread(directory, EIO) : found;
}

int region_list(struct region_place *places, size_t capacity, const char *directory)
{
	char where[PATH_CANDIDATES][REGION_PATH_MAX];
	int n = path_candidates(where, directory);
	int found = n < 0 ? n : 0;

	for (int i = 0; i < n; i++) {
		bool again = false;
		int r;

		for (int k = 0; k < i; k++)
			again = again || strcmp(where[i], where[k]) == 0;
		if (again)
			continue;
		r = path_list(places, capacity, where[i], found);
		if (r >= 0)
			found = r;
		else if (r != -ENOENT && (r != -EACCES || n == 1))
			return r;
	}
	return found;
}

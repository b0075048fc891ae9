/* peer.c: is the owner of a slot alive; proof of access to the region. Level 3. */
#include "peer.h"

#include "error.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define PEER_PIDFS_MAGIC 0x50494446
#define PEER_PROOF_LOW (1ull << 61)

bool peer_denied(const char *facility)
{
#ifdef RINGBUS_HOOKS
	const char *list = secure_getenv("RINGBUS_TEST_DENY");
	size_t n = strlen(facility);

	for (const char *at = list; at && *at; at = strchr(at, ','), at = at ? at + 1 : NULL)
		if (strncmp(at, facility, n) == 0 && (at[n] == 0 || at[n] == ','))
			return true;
#endif
	(void)facility;
	return false;
}

/* ---- identity ---- */

/* A file of /proc/PID, as text. */
static int peer_read_proc(uint32_t pid, const char *file, char *out, size_t size)
{
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%u/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	n = read(fd, out, size - 1);
	close(fd);
	if (n <= 0)
		return -ESRCH;
	out[n] = 0;
	return 0;
}

/* Field 22 of stat, and whether field 3 says that it has ended; counted from the last ')', since
 * the name before it may hold anything. */
static int peer_read_stat(uint32_t pid, uint64_t *start, bool *ended)
{
	char text[1024], *at;
	int err = peer_read_proc(pid, "stat", text, sizeof(text));

	if (err < 0)
		return err;
	at = strrchr(text, ')');
	*ended = at && (at[1] == ' ') && (at[2] == 'Z' || at[2] == 'X');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	if (!at)
		return -EPROTO;
	*start = strtoull(at + 1, NULL, 10);
	return 0;
}

static int peer_start_time(uint32_t pid, uint64_t *start)
{
	bool ended;

	return peer_read_stat(pid, start, &ended);
}

static uint32_t peer_uid(uint32_t pid)
{
	char text[2048], *at;

	if (peer_read_proc(pid, "status", text, sizeof(text)) < 0)
		return UINT32_MAX;
	at = strstr(text, "\nUid:\t");
	return at ? (uint32_t)strtoul(at + 6, NULL, 10) : UINT32_MAX;
}

/* -ENOSYS: a filter of system calls, or an emulator, has no pidfds. */
static int peer_pidfd(uint32_t pid)
{
	int fd;

	if (pid == 0 || pid > INT32_MAX)
		return -ESRCH;
	if (peer_denied("pidfd_open"))
		return -ENOSYS;
	fd = (int)syscall(SYS_pidfd_open, (pid_t)pid, 0);
	if (fd < 0 && errno == EPERM)
		return -ENOSYS;
	if (fd < 0)
		return errno == EINVAL ? -ESRCH : -errno; /* EINVAL: the number is a thread's now */
	return fd;
}

/* 0 where pidfds have no inodes of their own (before Linux 6.9). */
static uint64_t peer_pidfd_inode(int pidfd)
{
	struct statfs fs;
	struct stat st;

	if (peer_denied("pidfd_inode") || fstatfs(pidfd, &fs) < 0 || fs.f_type != PEER_PIDFS_MAGIC)
		return 0;
	return fstat(pidfd, &st) < 0 ? 0 : (uint64_t)st.st_ino;
}

static bool peer_pidfd_ended(int pidfd)
{
	struct pollfd p = {.fd = pidfd, .events = POLLIN};

	return poll(&p, 1, 0) > 0 && p.revents != 0;
}

/* Without a pidfd a process is its id and start time. */
static int peer_identify_by_proc(uint32_t pid, struct peer_identity *id)
{
	struct peer_identity got = {.pid = pid};
	bool ended;
	int err = peer_read_stat(pid, &got.start_time, &ended);

	got.uid = peer_uid(pid);
	if (err == 0 && ended)
		err = -ESRCH;
	if (err == 0)
		*id = got;
	return err;
}

int peer_identify(uint32_t pid, struct peer_identity *id, int *pidfd)
{
	struct peer_identity got = {.pid = pid};
	int fd = peer_pidfd(pid), err;

	if (fd == -ENOSYS) {
		if (pidfd)
			*pidfd = -1;
		return peer_identify_by_proc(pid, id);
	}
	if (fd < 0)
		return fd;
	got.pidfd_inode = peer_pidfd_inode(fd);
	got.uid = peer_uid(pid);
	/* Another user's may be hidden (hidepid of /proc); the pidfd says enough. */
	if (peer_start_time(pid, &got.start_time) < 0)
		got.start_time = 0;
	/* Looked at last: what was read above is of this very process only if it has not ended. */
	err = peer_pidfd_ended(fd) ? -ESRCH : 0;
	if (err < 0 || !pidfd) {
		close(fd);
	} else {
		*pidfd = fd;
	}
	if (err == 0)
		*id = got;
	return err;
}

/* ---- locks ---- */

static int peer_lock(int fd, uint64_t offset, short type)
{
	struct flock lock = {.l_type = type,
			     .l_whence = SEEK_SET,
			     .l_start = (off_t)offset,
			     .l_len = 1};

	if (fcntl(fd, F_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return -EBUSY;
	return errno == ENOLCK ? rb_fail(-ENOMEM, "the system has no room for another lock")
			       : -errno;
}

/* F_OFD_GETLK also reports locks of this very process, which F_GETLK does not. unknown: the answer
 * when it says nothing. */
static int32_t peer_holder(int fd, uint64_t offset, int32_t unknown)
{
	struct flock lock = {.l_type = F_WRLCK,
			     .l_whence = SEEK_SET,
			     .l_start = (off_t)offset,
			     .l_len = 1};

	if (fcntl(fd, F_OFD_GETLK, &lock) < 0)
		return unknown;
	if (lock.l_type == F_UNLCK)
		return 0;
	return lock.l_pid > 0 ? lock.l_pid : -1;
}

int peer_live_take(struct region *region, uint32_t slot)
{
	int err = peer_lock(region->live_fd, slot, F_WRLCK);

	if (err == -EBUSY)
		return rb_fail(err, "process %d still holds the live lock of slot %u",
			       (int)peer_live_holder(region, slot), slot);
	return err;
}

void peer_live_drop(struct region *region, uint32_t slot)
{
	if (!region_forked(region))
		peer_lock(region->live_fd, slot, F_UNLCK);
}

int32_t peer_live_holder(struct region *region, uint32_t slot)
{
	return peer_holder(region->live_fd, slot, -1); /* no evidence of a death */
}

uint64_t peer_proof_offset(void)
{
	uint64_t r = 0;

	while (getrandom(&r, sizeof(r), 0) != (ssize_t)sizeof(r))
		;
	return PEER_PROOF_LOW | (r & (PEER_PROOF_LOW - 1));
}

int peer_proof_take(struct region *region, uint64_t offset)
{
	if (offset < PEER_PROOF_LOW || offset >= 2 * PEER_PROOF_LOW)
		return -EPROTO;
	return peer_lock(region->fd, offset, F_WRLCK);
}

void peer_proof_drop(struct region *region, uint64_t offset)
{
	if (!region_forked(region))
		peer_lock(region->fd, offset, F_UNLCK);
}

int32_t peer_proof_holder(struct region *region, uint64_t offset)
{
	if (offset < PEER_PROOF_LOW || offset >= 2 * PEER_PROOF_LOW)
		return 0;
	return peer_holder(region->fd, offset, 0); /* nor of a proof */
}

/* ---- life ---- */

/* The same where there are no pidfds: it is gone, a zombie, or another has its id. */
static enum peer_life peer_judge_by_proc(uint32_t pid, uint64_t start)
{
	uint64_t now;
	bool ended;

	if (kill((pid_t)pid, 0) < 0 && errno == ESRCH)
		return PEER_DEAD;
	/* no /proc, or not for us: no evidence */
	if (peer_read_stat(pid, &now, &ended) < 0)
		return PEER_LOST;
	return ended || (start != 0 && start != now) ? PEER_DEAD : PEER_LOST;
}

/* Life of the process that a record names; its live lock was found free. */
static enum peer_life peer_judge(uint32_t pid, uint64_t start, uint64_t inode)
{
	uint64_t now_inode, now_start;
	enum peer_life life = PEER_LOST;
	int fd = peer_pidfd(pid), err;

	if (fd == -ENOSYS)
		return peer_judge_by_proc(pid, start);
	if (fd < 0)
		return fd == -ESRCH ? PEER_DEAD : PEER_LOST;
	now_inode = peer_pidfd_inode(fd);
	err = peer_start_time(pid, &now_start);
	if (peer_pidfd_ended(fd))
		life = PEER_DEAD;
	else if (inode != 0 && now_inode != 0 && inode != now_inode)
		life = PEER_DEAD;
	else if (err == 0 && start != 0 && start != now_start)
		life = PEER_DEAD;
	close(fd);
	return life;
}

/* Whether somebody holds the election lock. */
static bool peer_service_lives(const struct region *region)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
	int fd = region_open_lock(region->directory, region->port, false);
	bool lives = fd >= 0 && fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;

	if (fd >= 0)
		close(fd);
	return lives;
}

/* An owner whose pid the service could not see, or whose pid is none of our namespace. While there
 * is a service it alone judges: it has the connection of the one, and sees the pid of the other.
 * Free twice, with time between: not just between two lock calls. */
static enum peer_life peer_judge_unseen(struct region *region, uint32_t slot)
{
	const struct timespec moment = {.tv_nsec = RB_MS};

	if (!region->serving && peer_service_lives(region))
		return PEER_LOST;
	nanosleep(&moment, NULL);
	return peer_live_holder(region, slot) == 0 ? PEER_DEAD : PEER_ALIVE;
}

enum peer_life peer_check(struct region *region, uint32_t slot, uint64_t word)
{
	const struct layout_record *record = &region->records[slot];
	enum slot_state state = slot_state(word);
	enum peer_life life;
	uint64_t start, inode;
	uint32_t pid;

	if (state != SLOT_GRANTED && state != SLOT_JOINING && state != SLOT_LIVE &&
	    state != SLOT_LEAVING)
		return PEER_ALIVE; /* nobody there that could die */
	if (peer_live_holder(region, slot) != 0)
		return PEER_ALIVE;
	/* relaxed: written before GRANTED (SLOT), which the caller read; of a later owner if the
	 * word has changed since, and that is looked at below */
	pid = (uint32_t)shm_load_relaxed(&record->pid);
	start = shm_load_relaxed(&record->start_time);
	inode = shm_load_relaxed(&record->pidfd_inode);
	if (pid == 0 || region->foreign)
		life = state == SLOT_GRANTED ? PEER_LOST : peer_judge_unseen(region, slot);
	else
		life = peer_judge(pid, start, inode);
	/* The lock is free also just after a clean close, and in the moment before JOINING: the
	 * evidence counts only if the slot still says what it said before. sync SLOT prover:
	 * evidence before this load; pairs SLOT joiner in join_claim() */
	if (shm_load_acquire(&region->bells[slot].slot) != word)
		return PEER_ALIVE;
	return life;
}

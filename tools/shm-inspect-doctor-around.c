/* shm-inspect-doctor-around.c: what surrounds a bus: service, port, file system, systemd, seccomp.
 *
 * Whether io_uring is allowed is not looked at, for the library does not use it. What it does use
 * and a sandbox may deny, futex, membarrier and pidfd_open, is tried.
 */
#include "shm-inspect-doctor.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <pwd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FIRST_LOGIN_UID 1000 /* below are the system's users, whom logind leaves alone */
#define EXTENT_PAGES 8192u   /* two pages of positions of each ring */

/* The verdict, when there is none yet; else a note. */
static void amiss(struct doctor *d, const char *code, const char *advice, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
static void amiss(struct doctor *d, const char *code, const char *advice, const char *format, ...)
{
	char text[DOCTOR_LINE];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof text, format, arguments);
	va_end(arguments);
	if (d->code) {
		doctor_note(d, "%s: %.800s", code, text);
		return;
	}
	doctor_verdict(d, code, "%s", text);
	doctor_advice(d, "%s", advice);
}

/* ---- service and port ---- */

static void judge_service(struct doctor *d)
{
	char who[160], service[40];
	uint32_t uid;
	bool held;
	if (d->copy || !d->header.this_boot || !d->header.live)
		return;
	held = ringbus_inspect_port(d->header.port, who, sizeof who, &uid) == 1;
	snprintf(service, sizeof service, "process %" PRIu64 " ", d->header.service_pid);
	if (d->header.service_running && (!held || strncmp(who, "process ", 8) != 0 ||
					  strncmp(who, service, strlen(service)) == 0))
		return;
	if (held)
		amiss(d, "port-stranger", "end that program, or run the bus on another port",
		      "nobody can join: port %u is held by %s; traffic goes on", d->header.port,
		      who);
	else
		amiss(d, "service-down", "start ringbusd; it takes over the living region",
		      "no ringbusd serves port %u: traffic goes on, but nobody can join",
		      d->header.port);
}

/* ---- file system ---- */

bool doctor_no_space(const struct doctor *d)
{
	return d->header.fs_bytes != 0 &&
	       d->header.fs_free_bytes < d->header.ring_bytes + EXTENT_PAGES;
}

static void judge_space(struct doctor *d)
{
	const struct ringbus_inspect_header *h = &d->header;
	char left[32], all[32];
	if (d->copy || h->fs_bytes == 0 ||
	    (!doctor_no_space(d) && h->fs_free_bytes >= h->fs_bytes / 20))
		return;
	cli_format_size(left, sizeof left, h->fs_free_bytes);
	cli_format_size(all, sizeof all, h->fs_bytes);
	amiss(d, "tmpfs-full",
	      "see df -h; give it more (docker run --shm-size), or a smaller pool (ringbusd "
	      "--pool-bytes)",
	      "the shared-memory file system is nearly full: %s of %s left for %.400s", left, all,
	      d->where);
}

/* ---- systemd ---- */

/* RemoveIPC= of one file: 1 yes, 0 no, -1 not there. */
static int remove_ipc_of(const char *path)
{
	FILE *f = fopen(path, "re");
	char line[512], value[64];
	int found = -1;
	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, " RemoveIPC = %63s", value) == 1 ||
		    sscanf(line, " RemoveIPC=%63s", value) == 1)
			found = strcmp(value, "no") != 0 && strcmp(value, "false") != 0 &&
				strcmp(value, "0") != 0 && strcmp(value, "off") != 0;
	if (f)
		fclose(f);
	return found;
}

static void remove_ipc_in(const char *root, const char *directory, int *setting)
{
	char path[1200];
	struct dirent *entry;
	DIR *dir;
	snprintf(path, sizeof path, "%s%s", root, directory);
	dir = opendir(path);
	while (dir && (entry = readdir(dir)) != NULL) {
		int found;
		if (!strstr(entry->d_name, ".conf"))
			continue;
		snprintf(path, sizeof path, "%s%s/%s", root, directory, entry->d_name);
		found = remove_ipc_of(path);
		if (found >= 0)
			*setting = found;
	}
	if (dir)
		closedir(dir);
}

static bool removes_ipc(const char *root)
{
	static const char *const directories[] = {"/usr/lib/systemd/logind.conf.d",
						  "/run/systemd/logind.conf.d",
						  "/etc/systemd/logind.conf.d"};
	char path[1200];
	struct stat st;
	int setting, found;
	snprintf(path, sizeof path, "%s/run/systemd/system", root);
	if (stat(path, &st) < 0)
		return false;
	snprintf(path, sizeof path, "%s/etc/systemd/logind.conf", root);
	found = remove_ipc_of(path);
	setting = found >= 0 ? found : 1;
	for (size_t i = 0; i < COUNT_OF(directories); i++)
		remove_ipc_in(root, directories[i], &setting);
	return setting == 1;
}

static bool lingers(const char *root, uint32_t uid, const char *name)
{
	char path[1200];
	struct stat st;
	snprintf(path, sizeof path, "%s/var/lib/systemd/linger/%s", root, name);
	if (stat(path, &st) == 0)
		return true;
	snprintf(path, sizeof path, "%s/var/lib/systemd/linger/%u", root, uid);
	return stat(path, &st) == 0;
}

static void judge_logout(struct doctor *d)
{
	uint32_t uid = d->header.file_uid;
	const struct passwd *user;
	char name[64];
	if (uid < FIRST_LOGIN_UID || uid == 65534 || strncmp(d->where, "/dev/shm/", 9) != 0 ||
	    !removes_ipc(d->view->root))
		return;
	user = getpwuid(uid);
	if (user)
		snprintf(name, sizeof name, "%s", user->pw_name);
	else
		snprintf(name, sizeof name, "%u", uid);
	if (lingers(d->view->root, uid, name))
		return;
	amiss(d, "remove-ipc",
	      "loginctl enable-linger USER; or RemoveIPC=no in /etc/systemd/logind.conf; or a bus "
	      "in "
	      "/run/ringbus",
	      "systemd-logind will delete %.500s when user %s logs out (RemoveIPC)", d->where,
	      name);
}

/* ---- system calls ---- */

static bool is_denied(long result)
{
	return result < 0 && (errno == EPERM || errno == ENOSYS || errno == EACCES);
}

static void judge_calls(struct doctor *d)
{
	static const char advice[] = "allow it in the seccomp filter of this container or service";
	unsigned word = 0;
	long fd;
	if (is_denied(syscall(SYS_futex, &word, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0)))
		amiss(d, "futex-denied", advice,
		      "futex is denied here (%s): sleepers cannot be woken", strerror(errno));
	if (is_denied(syscall(SYS_membarrier, 0 /* QUERY */, 0, 0)))
		amiss(d, "membarrier-denied", advice,
		      "membarrier is denied here (%s): it works, but each send costs a fence",
		      strerror(errno));
	fd = syscall(SYS_pidfd_open, getpid(), 0);
	if (is_denied(fd))
		amiss(d, "pidfd-denied", advice,
		      "pidfd_open is denied here (%s): deaths are found by the slower way",
		      strerror(errno));
	if (fd >= 0)
		close((int)fd);
}

static void note_node(struct doctor *d, const struct node_row *row)
{
	struct process p;
	if (row->n.no_membarrier)
		doctor_note(d, "membarrier: %s may not call it; whoever sends to it fences",
			    row->label);
	if (row->n.process != RINGBUS_INSPECT_RUNNING)
		return;
	process_look(row->n.pid, &p);
	if (p.seccomp == 2)
		doctor_note(d, "seccomp: system calls of %s are filtered", row->label);
	if (p.uid != d->header.file_uid)
		doctor_note(d, "user: %s runs as user %u, the region is of user %u", row->label,
			    p.uid, d->header.file_uid);
}

void doctor_around(struct doctor *d)
{
	judge_service(d);
	judge_space(d);
	judge_logout(d);
	judge_calls(d);
	if (d->a.row)
		note_node(d, d->a.row);
	if (d->b.row && d->b.row != d->a.row)
		note_node(d, d->b.row);
}

/* inspect.c: opens a region file for reading and decodes its header. Level 5, stands on 0 to 2.
 *
 * No mapping: reading a hole of a mapped file allocates a page, and a truncated file kills the
 * reader. The region is opened with a descriptor of its own; the live lock (see peer.h) is on
 * another file, which is never opened here.
 */
#include "inspect.h"

#include "error.h"
#include "region.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

_Static_assert(RINGBUS_INSPECT_MASK_WORDS == LAYOUT_MASK_WORDS, "masks");
_Static_assert(RINGBUS_NAME_MAX + 1 == LAYOUT_NAME_BYTES, "names");

/* ---- reading ---- */

size_t inspect_read(const struct ringbus_inspect *in, uint64_t offset, void *to, size_t bytes)
{
	size_t got = 0;

	while (got < bytes && offset + got < INT64_MAX - bytes) {
		ssize_t n = pread(in->fd, (char *)to + got, bytes - got, (off_t)(offset + got));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		got += (size_t)n;
	}
	memset((char *)to + got, 0, bytes - got);
	return got;
}

void inspect_budget_start(struct ringbus_inspect *in)
{
	in->budget = rb_min(4 * rb_min(in->file_bytes, 1ull << 40) + (1 << 20), 8ull << 30);
}

bool inspect_budget_take(struct ringbus_inspect *in, uint64_t bytes)
{
	if (bytes > in->budget) {
		in->budget = 0;
		return false;
	}
	in->budget -= bytes;
	return true;
}

/* A damaged magic, version or signature does not keep us from the rest when the geometry agrees
 * with itself. */
static bool geometry_from_damaged(struct ringbus_inspect *in)
{
	const struct layout_header *h = &in->header;
	struct layout_geometry g = {
		.nodes = h->nodes,
		.events = h->events,
		.ring_bytes = h->ring_bytes,
		.pool_bytes = h->pool_bytes,
	};

	if (layout_geometry_init(&g) < 0)
		return false;
	if (g.fixed_bytes != h->fixed_bytes &&
	    (h->signature != layout_signature() || g.fixed_bytes > in->file_bytes))
		return false;
	in->g = g;
	return true;
}

void inspect_refresh(struct ringbus_inspect *in)
{
	struct stat st;

	in->file_bytes = fstat(in->fd, &st) == 0 && st.st_size > 0 ? (uint64_t)st.st_size : 0;
	inspect_read(in, 0, &in->header, sizeof(in->header));
	in->why = NULL;
	in->usable = layout_header_check(&in->header, &in->g, &in->why) == 0 ||
		     geometry_from_damaged(in);
	in->uses_slot = LAYOUT_NO_SLOT;
}

int inspect_usable(const struct ringbus_inspect *in)
{
	if (in->usable)
		return 0;
	return rb_fail(-EPROTO, "the region cannot be decoded: %s", in->why);
}

int inspect_begin(struct ringbus_inspect *in, uint32_t cursor)
{
	rb_fail_clear();
	if (cursor == 0) {
		inspect_refresh(in);
		inspect_budget_start(in);
	}
	return inspect_usable(in);
}

uint64_t inspect_slot_word(const struct ringbus_inspect *in, uint32_t slot)
{
	uint64_t word;

	inspect_read(in,
		     in->g.common_offset + sizeof(struct layout_common) +
			     slot * sizeof(struct layout_bell) + offsetof(struct layout_bell, slot),
		     &word, sizeof(word));
	return word;
}

void inspect_read_bell(const struct ringbus_inspect *in, uint32_t slot, struct layout_bell *bell)
{
	inspect_read(in, in->g.common_offset + sizeof(struct layout_common) + slot * sizeof(*bell),
		     bell, sizeof(*bell));
}

void inspect_read_record(const struct ringbus_inspect *in, uint32_t slot,
			 struct layout_record *record)
{
	inspect_read(in, in->g.control_offset + in->g.records_offset + slot * sizeof(*record),
		     record, sizeof(*record));
}

void inspect_read_node(const struct ringbus_inspect *in, uint32_t slot, struct layout_node *node)
{
	inspect_read(in, in->g.nodes_offset + (uint64_t)slot * sizeof(*node), node, sizeof(*node));
}

/* ---- processes ---- */

/* Reads a small text file; "" if it cannot be read. */
static void read_text(const char *path, char *text, size_t capacity)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, capacity - 1);

	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		close(fd);
}

bool inspect_this_boot(const struct ringbus_inspect *in)
{
	char boot[64];

	read_text("/proc/sys/kernel/random/boot_id", boot, sizeof(boot));
	boot[strcspn(boot, "\n")] = 0;
	return boot[0] && strncmp(boot, in->header.boot_id, sizeof(in->header.boot_id)) == 0;
}

/* Start time of a running process (field 22 of its stat); 0 if there is none, or it is a zombie. */
static uint64_t process_start_time(uint32_t pid)
{
	char path[40], text[1024];
	const char *at;

	snprintf(path, sizeof(path), "/proc/%u/stat", pid);
	read_text(path, text, sizeof(text));
	at = strrchr(text, ')');
	if (!at || at[1] != ' ' || strchr("ZXx", at[2]))
		return 0;
	at++;
	for (int field = 3; at && field <= 22; field++)
		at = strchr(at + (field > 3), ' ');
	return at ? strtoull(at, NULL, 10) : 0;
}

enum ringbus_inspect_process inspect_process(const struct layout_record *record, uint64_t slot)
{
	uint64_t start;

	if (slot_pid(slot) == 0)
		return RINGBUS_INSPECT_UNKNOWN;
	start = process_start_time(slot_pid(slot));
	return start && start == inspect_word(&record->start_time) ? RINGBUS_INSPECT_RUNNING
								   : RINGBUS_INSPECT_GONE;
}

static bool slot_has_owner(uint64_t word)
{
	return slot_state(word) >= SLOT_GRANTED && slot_state(word) <= SLOT_LEAVING;
}

static uint64_t read_service_pid(const struct ringbus_inspect *in)
{
	uint64_t pid;

	inspect_read(in, in->g.control_offset + offsetof(struct layout_control, service_pid), &pid,
		     sizeof(pid));
	return pid;
}

static bool service_running(const struct ringbus_inspect *in)
{
	uint64_t pid = read_service_pid(in);

	return pid && pid <= 0xffffff && process_start_time((uint32_t)pid) != 0;
}

bool inspect_live(const struct ringbus_inspect *in)
{
	struct layout_record record;

	if (!in->usable || !inspect_this_boot(in))
		return false;
	if (service_running(in))
		return true;
	for (uint32_t slot = 0; slot < in->g.nodes; slot++) {
		uint64_t word = inspect_slot_word(in, slot);

		if (!slot_has_owner(word))
			continue;
		inspect_read_record(in, slot, &record);
		if (inspect_process(&record, word) != RINGBUS_INSPECT_GONE)
			return true;
	}
	return false;
}

/* ---- opening ---- */

int ringbus_inspect_list(struct ringbus_inspect_place *places, size_t capacity,
			 const char *directory)
{
	_Static_assert(sizeof(struct ringbus_inspect_place) == sizeof(struct region_place),
		       "places");
	struct region_place *found = NULL;
	int n;

	rb_fail_clear();
	if (capacity > 65536)
		capacity = 65536;
	if (capacity) {
		found = calloc(capacity, sizeof(*found));
		if (!found)
			return rb_fail(-ENOMEM, "no memory for a list of buses");
	}
	n = region_list(found, capacity, directory);
	for (size_t i = 0; n > 0 && i < rb_min((uint64_t)n, capacity); i++) {
		places[i].port = found[i].port;
		memcpy(places[i].directory, found[i].directory, sizeof(places[i].directory));
	}
	free(found);
	return n;
}

/* Takes fd over; *name is for messages. */
static int open_taken(struct ringbus_inspect **inspect, int fd, const char *name)
{
	struct ringbus_inspect *in;
	struct stat st;

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		return rb_fail(-EINVAL, "%s is not a regular file", name);
	}
	in = calloc(1, sizeof(*in));
	if (!in) {
		close(fd);
		return rb_fail(-ENOMEM, "no memory to inspect %s", name);
	}
	in->fd = fd;
	inspect_refresh(in);
	inspect_budget_start(in);
	*inspect = in;
	return 0;
}

int ringbus_inspect_open_path(struct ringbus_inspect **inspect, const char *path)
{
	int fd;

	rb_fail_clear();
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0 && errno == ELOOP)
		return rb_fail(-ELOOP, "%s is a symbolic link; name the file itself", path);
	if (fd < 0)
		return rb_fail(-errno, "cannot open %s: %s", path, strerrordesc_np(errno));
	return open_taken(inspect, fd, path);
}

int ringbus_inspect_open_fd(struct ringbus_inspect **inspect, int fd)
{
	int copy;

	rb_fail_clear();
	copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	if (copy < 0)
		return rb_fail(-errno, "cannot duplicate descriptor %d: %s", fd,
			       strerrordesc_np(errno));
	return open_taken(inspect, copy, "the descriptor");
}

static int default_port(unsigned *port)
{
	const char *text = secure_getenv("RINGBUS_PORT");
	char *end;
	unsigned long value;

	*port = RINGBUS_DEFAULT_PORT;
	if (!text || !*text)
		return 0;
	value = strtoul(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || value < 1 || value > 65535)
		return rb_fail(-EINVAL, "RINGBUS_PORT=%s is not a port (1 to 65535)", text);
	*port = (unsigned)value;
	return 0;
}

/* The first directory searched that has the port. */
static int find_directory(char out[REGION_PATH_MAX], unsigned port)
{
	int n = ringbus_inspect_list(NULL, 0, NULL);
	size_t capacity = n > 0 ? (size_t)n + 16 : 1;
	struct ringbus_inspect_place *places;
	int r = -ENOENT;

	if (n < 0)
		return n;
	places = calloc(capacity, sizeof(*places));
	if (!places)
		return rb_fail(-ENOMEM, "no memory for a list of buses");
	n = ringbus_inspect_list(places, capacity, NULL);
	for (size_t i = 0; n > 0 && i < rb_min((uint64_t)n, capacity) && r < 0; i++) {
		if (places[i].port != port)
			continue;
		memcpy(out, places[i].directory, REGION_PATH_MAX);
		r = 0;
	}
	free(places);
	if (r < 0)
		return rb_fail(r, "no bus with port %u in the directories searched", port);
	return 0;
}

int ringbus_inspect_open(struct ringbus_inspect **inspect, unsigned port, const char *directory)
{
	char found[REGION_PATH_MAX], path[REGION_PATH_MAX + 16];
	int r;

	rb_fail_clear();
	if (port == 0) {
		r = default_port(&port);
		if (r < 0)
			return r;
	}
	if (port > 65535)
		return rb_fail(-EINVAL, "%u is not a port (1 to 65535)", port);
	if (!directory) {
		r = find_directory(found, port);
		if (r < 0)
			return r;
		directory = found;
	}
	if (strlen(directory) >= REGION_PATH_MAX)
		return rb_fail(-EINVAL, "the directory's name is too long");
	snprintf(path, sizeof(path), "%s/%u.bus", directory, port);
	r = ringbus_inspect_open_path(inspect, path);
	if (r == -ENOENT || r == -ENOTDIR)
		return rb_fail(-ENOENT, "no bus with port %u: there is no %s", port, path);
	return r;
}

void ringbus_inspect_close(struct ringbus_inspect *in)
{
	if (!in)
		return;
	close(in->fd);
	free(in->uses);
	free(in);
}

/* ---- header ---- */

static void header_control(const struct ringbus_inspect *in, struct ringbus_inspect_header *out)
{
	struct layout_common common;
	struct layout_control control;

	inspect_read(in, in->g.common_offset, &common, sizeof(common));
	inspect_read(in, in->g.control_offset, &control, sizeof(control));
	out->control_epoch = inspect_word(&common.control_epoch);
	out->intent = inspect_word(&control.intent);
	out->intent_pid = inspect_word(&control.intent_pid);
	out->repairs = inspect_word(&control.repairs);
	out->service_pid = inspect_word(&control.service_pid);
	out->closing = inspect_word(&control.closing) != 0;
	out->service_running = out->this_boot && service_running(in);
	out->live = inspect_live(in);
}

static void header_file(const struct ringbus_inspect *in, struct ringbus_inspect_header *out)
{
	struct statvfs fs;
	struct stat st;

	if (fstat(in->fd, &st) == 0) {
		out->memory_bytes = (uint64_t)st.st_blocks * 512;
		out->file_inode = (uint64_t)st.st_ino;
		out->file_device = (uint64_t)st.st_dev;
		out->file_uid = (uint32_t)st.st_uid;
		out->unlinked = st.st_nlink == 0;
	}
	if (fstatvfs(in->fd, &fs) == 0) {
		out->fs_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
		out->fs_free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	}
}

int ringbus_inspect_header(struct ringbus_inspect *in, struct ringbus_inspect_header *out)
{
	const struct layout_header *h = &in->header;

	rb_fail_clear();
	inspect_refresh(in);
	memset(out, 0, sizeof(*out));
	out->valid = in->why == NULL;
	out->usable = in->usable;
	snprintf(out->why, sizeof(out->why), "%s", in->why ? in->why : "");
	out->magic = h->magic;
	out->version = h->version;
	out->own_version = LAYOUT_VERSION;
	out->signature = h->signature;
	memcpy(out->uuid, h->uuid, sizeof(out->uuid));
	memcpy(out->boot_id, h->boot_id, sizeof(out->boot_id));
	out->boot_id[sizeof(out->boot_id) - 1] = 0;
	out->this_boot = inspect_this_boot(in);
	out->nodes = h->nodes;
	out->events = h->events;
	out->ring_bytes = h->ring_bytes;
	out->pool_bytes = h->pool_bytes;
	out->port = h->port;
	out->uid = h->uid;
	out->fixed_bytes = h->fixed_bytes;
	out->created_s = h->created_realtime_s;
	out->file_bytes = in->file_bytes;
	header_file(in, out);
	if (in->usable)
		header_control(in, out);
	return 0;
}

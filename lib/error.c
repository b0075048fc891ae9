/* error.c: codes to text, why the last call failed, and the log. Level 0. */
#include "error.h"

#include "ringbus.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static _Thread_local char detail[512];
static void (*log_fn)(int level, const char *text, void *user);
static void *log_user;

int rb_fail(int code, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(detail, sizeof(detail), format, args);
	va_end(args);
	return code;
}

void rb_fail_clear(void)
{
	detail[0] = 0;
}

int rb_fail_plain(int code)
{
	rb_fail_clear();
	return code;
}

const char *rb_fail_detail(void)
{
	return detail;
}

#define OPTIONS_MAX 4096u /* bytes of any version's struct: what is over this is no size */

int rb_options_take(void *to, size_t known, const void *options)
{
	const unsigned char *bytes = options;
	size_t size = known;

	if (options)
		memcpy(&size, options, sizeof(size));
	if (size < sizeof(size))
		return rb_fail(-EINVAL, "options do not begin with their size");
	if (size > OPTIONS_MAX)
		return rb_fail(-E2BIG, "options of %zu bytes", size);
	for (size_t i = known; i < size; i++)
		if (bytes[i] != 0)
			return rb_fail(-E2BIG, "options of a newer version of ringbus");
	memset(to, 0, known);
	if (options)
		memcpy(to, options, rb_min(size, known));
	return 0;
}

int rb_size_check(size_t size, size_t known)
{
	if (size < sizeof(size))
		return rb_fail(-EINVAL, "the size of the struct is not set");
	if (size > known)
		return rb_fail(-EINVAL, "the struct is that of a newer version of ringbus");
	return 0;
}

/* Level up to which RINGBUS_LOG asks for lines on stderr; -1: none. */
static int log_env_level(void)
{
	static const char *const names[] = {"emerg",   "alert",	 "crit", "error",
					    "warning", "notice", "info", "debug"};
	const char *text = secure_getenv("RINGBUS_LOG");

	for (int i = 0; text && i < (int)rb_array_size(names); i++)
		if (strcmp(text, names[i]) == 0)
			return i;
	return -1;
}

void rb_log(int level, const char *format, ...)
{
	char text[512];
	va_list args;

	if (!log_fn && level > log_env_level())
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (log_fn)
		log_fn(level, text, log_user);
	else
		fprintf(stderr, "ringbus: %s\n", text);
}

void rb_log_set(void (*fn)(int level, const char *text, void *user), void *user)
{
	log_fn = fn;
	log_user = user;
}

static const struct {
	int code;
	const char *text;
} texts[] = {
	{0, "success"},
	{E2BIG, "the options ask for more than this version of ringbus knows"},
	{EACCES, "no permission, or a stranger holds the port"},
	{EADDRINUSE, "the port is in use by another program"},
	{EAGAIN, "no room (or nothing there) at the moment"},
	{EBADMSG, "the other side of this pair wrote invalid data; the pair starts anew"},
	{EBUSY, "in use by another thread, or called from within itself"},
	{ECONNREFUSED,
	 "no ringbus service listens on this port; start ringbusd, or open with autostart"},
	{EEXIST, "a live event or node has this name"},
	{EFAULT, "the bus's memory was lost (region truncated)"},
	{EINTR, "the wait was interrupted"},
	{EINVAL, "invalid argument"},
	{EIO, "a system call failed that cannot fail in a sound system"},
	{EMFILE, "the process has no descriptors left; raise ulimit -n"},
	{EMSGSIZE, "the payload is over the limit, or the buffer is too small"},
	{ENFILE, "no free event; start the service with more --events"},
	{ENOENT, "no such event, or nobody owns it at present"},
	{ENOMEM, "out of memory"},
	{ENOSPC, "the shared-memory filesystem is full"},
	{ENOTCONN, "the node is closed, or belongs to the parent of this forked process"},
	{ENOTSUP, "the kernel lacks a facility that ringbus needs (Linux 5.16 or later)"},
	{ENOTUNIQ, "this process has several nodes; address one by slot or name"},
	{EPERM, "no right to emit or dissolve this event"},
	{EPROTO, "the service or region speaks another protocol or layout"},
	{ESRCH, "the target is not on the bus"},
	{ESTALE, "this node's membership was lost; close it and open a new one"},
	{ETIMEDOUT, "it did not happen within the timeout"},
	{EUSERS, "no free slot; start the service with more --nodes"},
};

const char *ringbus_strerror(int error)
{
	int code = error < 0 ? -error : error;
	const char *text;

	for (size_t i = 0; i < rb_array_size(texts); i++)
		if (texts[i].code == code)
			return texts[i].text;
	text = strerrordesc_np(code);
	return text ? text : "unknown error";
}

/* error.h: codes to text, why the last call failed, and the log. Level 0. */
#ifndef RINGBUS_ERROR_H
#define RINGBUS_ERROR_H

#include "base.h"

/* Notes the cause of a failure for ringbus_error_detail() and returns code (negative). */
int rb_fail(int code, const char *format, ...) rb_printf(2, 3);
/* Forgets what was noted and returns code, which says it all. */
int rb_fail_plain(int code);
/* Forgets the note, at the entry of public calls that may fail. */
void rb_fail_clear(void);
const char *rb_fail_detail(void);
/* Copies a caller's options, which begin with their size; NULL: all default. What an older caller's
 * struct does not have is not looked at and becomes zero. What a newer caller's has beyond `known`
 * must be zero. -EINVAL no size; -E2BIG more is asked for than we know. */
int rb_options_take(void *to, size_t known, const void *options);
/* Of what a call fills in, as far as the caller's goes. -EINVAL no size, or a newer one. */
int rb_size_check(size_t size, size_t known);
/* level as in syslog. Silent unless a log function is set or RINGBUS_LOG names a level. */
void rb_log(int level, const char *format, ...) rb_printf(2, 3);
void rb_log_set(void (*fn)(int level, const char *text, void *user), void *user);

#endif

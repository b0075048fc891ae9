/* autostart.h: starts ringbusd detached from this process. Level 2. */
#ifndef RINGBUS_AUTOSTART_H
#define RINGBUS_AUTOSTART_H

#include "base.h"

/* directory: an absolute path. Returns 0 once the bus is served, be it by the program or by one
 * that was faster: it may have ended again since. -ENOENT no ringbusd; -EINVAL, -EACCES RINGBUSD
 * names none that can be run; -ETIMEDOUT; -ECONNREFUSED it ended without giving a reason; else its
 * reason. */
int autostart(unsigned port, const char *directory, uint64_t deadline_ns);

#endif

/* autostart.h: starts ringbusd detached from this process. Level 2. */
#ifndef RINGBUS_AUTOSTART_H
#define RINGBUS_AUTOSTART_H

#include "base.h"

/* Returns once the program runs; whether it serves is for the caller to find out. -ENOENT no
 * ringbusd; errors of exec. */
int autostart(unsigned port, const char *directory, uint64_t deadline_ns);

#endif

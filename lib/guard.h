/* guard.h: opt-in SIGBUS guard over our mappings of regions. Level 1. */
#ifndef RINGBUS_GUARD_H
#define RINGBUS_GUARD_H

#include "base.h"

struct region;

/* Installs the handler, once in a process; other faults go on to the handler that was there. */
int guard_enable(void);
/* Called for every mapping, by region_map() and region_unmap(). -ENOMEM. */
int guard_add(const struct region *region, void *map, uint64_t bytes);
void guard_remove(void *map);
/* In a forked child: the mappings are not there. Async-signal-safe. */
void guard_forget(void);
/* Whether the region was truncated under us: what we read and write there is a private copy of
 * nothing. */
bool guard_condemned(const struct region *region);

#endif

/* region_registry.h: what region_create.c needs of region.c. Level 1. */
#ifndef RINGBUS_REGION_REGISTRY_H
#define RINGBUS_REGION_REGISTRY_H

#include "region_path.h"

struct region *region_new(unsigned port, const char *directory);
/* Half-built objects too. */
void region_free(struct region *r);
/* Maps it and enters it in the registry. */
int region_register(struct region *r, const struct layout_header *header);
/* Whether the file PORT.kind is this one. */
bool region_names(const struct path_directory *d, unsigned port, const char *kind, dev_t dev,
		  ino_t ino);
/* -EACCES: it cannot be read; -EMFILE, -ENFILE, -ENOMEM. */
int region_boot_id(char out[40]);

#endif

/* image.h: the region file of a test's bus, from outside: kept, put back, read and overwritten. */
#ifndef RINGBUS_TESTS_IMAGE_H
#define RINGBUS_TESTS_IMAGE_H

#include "layout.h"

/* Opens the region file of the bus and keeps a copy of its fixed part while nobody is on it. */
void image_keep(void);
/* Puts the fixed part back, with every slot free and its generation at `generation`; what lies
 * behind it reads as 0 again. Nobody is on the bus; the service may be in the middle of something,
 * so this holds the control lock. In a child: leaves by child_check(). */
void image_restore(uint32_t generation);

const struct layout_geometry *image_geometry(void);
uint64_t image_file_bytes(void);
/* One word; offset is a multiple of 8 within the file. */
uint64_t image_get(uint64_t offset);
void image_put(uint64_t offset, uint64_t word);
/* Descriptor of the file, read-write. */
int image_fd(void);

#endif

/* region_path.h: names, directories and checks of the files of a bus; used by region.c only.
 * Level 1. */
#ifndef RINGBUS_REGION_PATH_H
#define RINGBUS_REGION_PATH_H

#include "region.h"

#include <sys/stat.h>

#define PATH_CANDIDATES 3

/* A directory, opened with O_PATH and found acceptable. */
struct path_directory {
	int fd;
	bool shared; /* setgid, group-writable, of a group of ours: files of other members are
			accepted */
	gid_t gid;
	char path[REGION_PATH_MAX];
};

/* Directories to search, as absolute paths, best first; returns how many. -EINVAL. */
int path_candidates(char out[PATH_CANDIDATES][REGION_PATH_MAX], const char *directory);
/* /dev/shm/ringbus-UID. */
void path_private(char out[REGION_PATH_MAX]);
/* -ENOENT, -EACCES. */
int path_directory_open(struct path_directory *d, const char *path);
/* Makes it when missing: 0700, or 2770 for a group. */
int path_directory_make(struct path_directory *d, const char *path, const char *group);
void path_directory_close(struct path_directory *d);
/* "PORT.kind". */
void path_name(char out[32], unsigned port, const char *kind);
/* O_PATH descriptor of a file of the bus that passed all checks: closing such a one drops no locks,
 * and opening it neither blocks on a FIFO nor follows a link. -ENOENT, -EACCES. */
int path_file_find(const struct path_directory *d, unsigned port, const char *kind,
		   struct stat *st);
/* Read-write descriptor of the very file, O_CLOEXEC, number 100 or more where possible. */
int path_file_reopen(int path_fd);
/* Moves a descriptor out of the way of programs that use small numbers. */
int path_raise(int fd);

#endif

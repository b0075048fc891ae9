/* image.c: see image.h. */
#include "image.h"

#include "harness.h"

#include <fcntl.h>
#include <sys/stat.h>

static struct {
	int fd, lock;
	uint8_t *fixed;
	struct layout_geometry g;
} image = {.fd = -1, .lock = -1};

static int open_file(const char *kind)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%u.%s", bus_directory(), bus_port(), kind);
	return open(path, O_RDWR | O_CLOEXEC);
}

void image_keep(void)
{
	struct layout_header header;
	const char *why = NULL;

	if (image.fd >= 0) {
		close(image.fd);
		close(image.lock);
		free(image.fixed);
	}
	image.fd = open_file("bus");
	image.lock = open_file("lock");
	assert_true(image.fd >= 0 && image.lock >= 0);
	assert_int_equal(pread(image.fd, &header, sizeof(header), 0), sizeof(header));
	assert_int_equal(layout_header_check(&header, &image.g, &why), 0);
	image.fixed = malloc(image.g.fixed_bytes);
	assert_int_equal(pread(image.fd, image.fixed, image.g.fixed_bytes, 0), image.g.fixed_bytes);
}

void image_restore(uint32_t generation)
{
	struct layout_bell *bells =
		(void *)(image.fixed + image.g.common_offset + sizeof(struct layout_common));
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 1};
	uint64_t behind = image_file_bytes() - image.g.fixed_bytes;

	for (uint32_t s = 0; s < image.g.nodes; s++)
		/* relaxed: a private copy */
		shm_store_relaxed(&bells[s].slot, slot_word(generation, 0, SLOT_FREE));
	child_check(fcntl(image.lock, F_OFD_SETLKW, &lock) == 0);
	if (behind > 0)
		child_check(fallocate(image.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				      (off_t)image.g.fixed_bytes, (off_t)behind) == 0);
	child_check(pwrite(image.fd, image.fixed, image.g.fixed_bytes, 0) ==
		    (ssize_t)image.g.fixed_bytes);
	lock.l_type = F_UNLCK;
	child_check(fcntl(image.lock, F_OFD_SETLK, &lock) == 0);
}

const struct layout_geometry *image_geometry(void)
{
	return &image.g;
}

uint64_t image_file_bytes(void)
{
	struct stat st;

	child_check(fstat(image.fd, &st) == 0);
	return (uint64_t)st.st_size;
}

uint64_t image_get(uint64_t offset)
{
	uint64_t word = 0;

	/* a file that was truncated meanwhile has nothing there */
	(void)!pread(image.fd, &word, sizeof(word), (off_t)offset);
	return word;
}

void image_put(uint64_t offset, uint64_t word)
{
	child_check(pwrite(image.fd, &word, sizeof(word), (off_t)offset) == sizeof(word));
}

int image_fd(void)
{
	return image.fd;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Bring memory behind pages of a mapped memory file without risking SIGBUS. */
#include <mem/populate.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

/* Newer than the C library's headers of some supported systems. */
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int populate_write(uint8_t *ptr, int fd, uint64_t offset)
{
	return populate_write_run(ptr, fd, offset, 1);
}

int populate_write_run(uint8_t *ptr, int fd, uint64_t offset, uint64_t n_pages)
{
	const uint64_t bytes = n_pages * PAGE_SIZE;

	for (;;) {
		if (!madvise(ptr, bytes, MADV_POPULATE_WRITE))
			return 0;
		if (errno == EINVAL)
			break;
		if (errno != EAGAIN && errno != EINTR)
			return -ENOMEM;
	}
	for (;;) {
		if (!fallocate(fd, 0, (off_t)offset, (off_t)bytes))
			return 0;
		if (errno != EINTR)
			return -ENOMEM;
	}
}

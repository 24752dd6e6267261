/* SPDX-License-Identifier: Apache-2.0 */
/* Bring memory behind a page of a mapped memory file without risking SIGBUS. */
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
	for (;;) {
		if (!madvise(ptr, PAGE_SIZE, MADV_POPULATE_WRITE))
			return 0;
		if (errno == EINVAL)
			break;
		if (errno != EAGAIN && errno != EINTR)
			return -ENOMEM;
	}
	for (;;) {
		if (!fallocate(fd, 0, (off_t)offset, PAGE_SIZE))
			return 0;
		if (errno != EINTR)
			return -ENOMEM;
	}
}

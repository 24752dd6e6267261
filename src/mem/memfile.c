/* SPDX-License-Identifier: Apache-2.0 */
/* Memory files: sealed memfds whose pages come and go one at a time. */
#include <mem/memfile.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int memfile_seal(int fd, bool growable, struct err *err)
{
	int seals = F_SEAL_SHRINK | F_SEAL_SEAL | (growable ? 0 : F_SEAL_GROW);

	if (fcntl(fd, F_ADD_SEALS, seals) < 0)
		return err_set(err, -errno, "cannot seal a memory file: %s",
			       strerror(errno));
	return 0;
}

int memfile_new(const char *name, uint64_t bytes, bool growable, int *ret_fd,
		struct err *err)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return err_set(err, -errno, "cannot make memory file %s: %s",
			       name, strerror(errno));

	int r = 0;

	if (ftruncate(fd, (off_t)bytes) < 0)
		r = err_set(err, -errno,
			    "cannot make memory file %s %llu bytes long: %s",
			    name, (unsigned long long)bytes, strerror(errno));
	if (!r)
		r = memfile_seal(fd, growable, err);
	if (r) {
		close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

bool memfile_drop(int fd, uint64_t offset, uint64_t bytes)
{
	static const uint8_t zeros[PAGE_SIZE];
	int r;

	do {
		r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      (off_t)offset, (off_t)bytes);
	} while (r < 0 && errno == EINTR);
	if (!r)
		return true;
	for (uint64_t at = 0; at < bytes; at += PAGE_SIZE) {
		/* Pages that are there cannot fail to take zeros. */
		while (pwrite(fd, zeros, PAGE_SIZE, (off_t)(offset + at)) < 0 &&
		       errno == EINTR)
			;
	}
	return false;
}

void memfile_small_pages(void *at, uint64_t bytes)
{
	/* A kernel without large pages refuses, and needs no such advice. */
	(void)madvise(at, bytes, MADV_NOHUGEPAGE);
}

void *memfile_map(int fd, uint64_t bytes, int protection)
{
	void *map = mmap(NULL, bytes, protection, MAP_SHARED, fd, 0);

	if (map != MAP_FAILED)
		memfile_small_pages(map, bytes);
	return map;
}

bool page_is_zero(const uint8_t *bytes)
{
	uint64_t first;

	memcpy(&first, bytes, sizeof(first));
	/* Equal to itself one word further: then all words are the first. */
	return !first && !memcmp(bytes, bytes + 8, PAGE_SIZE - 8);
}

bool memfile_page_is_zero(int fd, uint64_t offset)
{
	uint8_t bytes[PAGE_SIZE];
	ssize_t n;

	do
		n = pread(fd, bytes, sizeof(bytes), (off_t)offset);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(bytes) && page_is_zero(bytes);
}

bool memfile_data_next(int fd, uint64_t bytes, uint64_t start,
		       uint64_t *ret_start, uint64_t *ret_end)
{
	if (start >= bytes)
		return false;

	off_t data = lseek(fd, (off_t)start, SEEK_DATA);

	if (data < 0 && errno == ENXIO)
		return false;
	if (data < 0) {
		*ret_start = start;
		*ret_end = bytes;
		return true;
	}
	if ((uint64_t)data >= bytes)
		return false;

	off_t hole = lseek(fd, data, SEEK_HOLE);

	*ret_start = (uint64_t)data;
	*ret_end = hole < 0 || (uint64_t)hole > bytes ? bytes : (uint64_t)hole;
	return true;
}

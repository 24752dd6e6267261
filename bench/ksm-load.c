/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds what files contain in memory that the kernel's same-page merging may merge.
 *
 *	ksm-load FILE...
 *
 * Holes stay pages that were never touched. Prints "loaded PAGES", ends at the end of its input.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE_BYTES 4096

static int read_whole(int fd, uint8_t *to, off_t start, off_t end)
{
	while (start < end) {
		const ssize_t n = pread(fd, to + start, (size_t)(end - start),
					start);

		if (n <= 0)
			return -1;
		start += n;
	}
	return 0;
}

/* Return: pages with contents, or -1. */
static int64_t load(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int64_t pages = 0;
	off_t end = 0;
	uint8_t *map;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -1;
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED ||
	    madvise(map, (size_t)st.st_size, MADV_NOHUGEPAGE) < 0 ||
	    madvise(map, (size_t)st.st_size, MADV_MERGEABLE) < 0)
		return -1;
	for (;;) {
		const off_t start = lseek(fd, end, SEEK_DATA);

		if (start < 0)
			break;
		end = lseek(fd, start, SEEK_HOLE);
		if (end < 0 || read_whole(fd, map, start, end))
			return -1;
		pages += (end - start) / PAGE_BYTES;
	}
	close(fd);
	return pages;
}

int main(int argc, char *argv[])
{
	int64_t sum = 0;

	for (int i = 1; i < argc; i++) {
		const int64_t pages = load(argv[i]);

		if (pages < 0) {
			perror(argv[i]);
			return 1;
		}
		sum += pages;
	}
	printf("loaded %ld\n", (long)sum);
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}

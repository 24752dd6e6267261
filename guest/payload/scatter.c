/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frees memory in pieces that are too small to be seen as large blocks, and fills them again.
 *
 *	scatter MIB PIECE_KIB [SECONDS]	fills MIB and prints "scatter filled"; gives every second
 *					piece of PIECE_KIB back to the kernel and prints "scatter
 *					freed KIB", or fills those again, in turn, for each line of
 *					input; at its end verifies what it has, and prints "scatter
 *					ok KIB"; with SECONDS does so by itself as long as that, as
 *					fast as it goes, and prints "scatter rounds N"
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "pages.h"

static uint64_t *mem;
static uint64_t n_pages;
static uint64_t piece_pages;

static int is_kept(uint64_t page)
{
	return page / piece_pages % 2 == 0;
}

/* All pages in order, as the kernel will have them in machine memory too; or the freed ones. */
static void fill(int all)
{
	for (uint64_t page = 0; page < n_pages; page++) {
		if (!all && is_kept(page))
			continue;
		for (uint64_t w = 0; w < WORDS; w++)
			mem[page * WORDS + w] = mix(
				(page * WORDS + w) * GOLDEN + 1);
	}
}

static uint64_t give_back(void)
{
	uint64_t n = 0;

	for (uint64_t page = piece_pages; page < n_pages;
	     page += 2 * piece_pages) {
		const uint64_t left = n_pages - page;
		const uint64_t len = left < piece_pages ? left : piece_pages;

		if (madvise(mem + page * WORDS, len * PAGE_BYTES,
			    MADV_DONTNEED)) {
			perror("scatter: madvise");
			exit(2);
		}
		n += len;
	}
	return n;
}

static int verify(int all)
{
	uint64_t n = 0;

	for (uint64_t page = 0; page < n_pages; page++) {
		if (!all && !is_kept(page))
			continue;
		for (uint64_t w = 0; w < WORDS; w++)
			if (!is_word("scatter", mem, page, w,
				     mix((page * WORDS + w) * GOLDEN + 1)))
				return 1;
		n++;
	}
	printf("scatter ok %lu\n", n * PAGE_BYTES / 1024);
	return 0;
}

static void turns(uint64_t seconds)
{
	const uint64_t end = now_ns() + seconds * SECOND_NS;
	uint64_t rounds = 0;

	while (now_ns() < end) {
		give_back();
		fill(0);
		rounds++;
	}
	if (seconds)
		printf("scatter rounds %lu\n", rounds);
}

static int turn(int full)
{
	if (full) {
		printf("scatter freed %lu\n", give_back() * PAGE_BYTES / 1024);
		return 0;
	}
	fill(0);
	puts("scatter filled");
	return 1;
}

int main(int argc, char *argv[])
{
	const uint64_t mib = argc > 2 ? strtoull(argv[1], NULL, 0) : 0;
	const uint64_t kib = argc > 2 ? strtoull(argv[2], NULL, 0) : 0;
	char line[64];
	int full = 1;

	n_pages = mib << 20 >> 12;
	piece_pages = kib / 4;
	if (!n_pages || !piece_pages) {
		fprintf(stderr, "usage: scatter MIB PIECE_KIB [SECONDS]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	mem = mmap(NULL, n_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (mem == MAP_FAILED) {
		fprintf(stderr, "scatter: no memory\n");
		return 2;
	}
	/* A huge page would be freed as a whole or not at all. Fails where there are none. */
	(void)madvise(mem, n_pages * PAGE_BYTES, MADV_NOHUGEPAGE);
	fill(1);
	puts("scatter filled");
	turns(argc > 3 ? strtoull(argv[3], NULL, 0) : 0);
	while (fgets(line, sizeof(line), stdin))
		full = turn(full);
	return verify(full);
}

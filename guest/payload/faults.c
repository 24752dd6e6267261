/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Touches pages that were taken away meanwhile, one after the other in random order, and says
 * how long each touch took.
 *
 *	faults MIB KIND	KIND: zip (contents that pack to a third) or raw (that do not pack)
 *
 * Fills its memory, prints "filled", waits for a line on its standard input, touches every page
 * once, verifies it, and prints "faults PAGES MEDIAN P99 MAX", in nanoseconds; each line of input
 * is one more round.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PAGE_BYTES 4096UL
#define WORDS      (PAGE_BYTES / 8)

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15;
	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static uint64_t expected(uint64_t page, uint64_t word, int packs)
{
	if (packs && word % 4)
		return page;
	return mix(page * WORDS + word);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a;
	const uint64_t y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static int verify(const uint64_t *words, uint64_t n_pages, int packs)
{
	for (uint64_t i = 0; i < n_pages * WORDS; i++) {
		if (words[i] != expected(i / WORDS, i % WORDS, packs)) {
			printf("faults: word %lu is wrong\n", (unsigned long)i);
			return 1;
		}
	}
	return 0;
}

/* A step that has no divisor in common with the number of pages comes by each of them. */
static uint64_t stride(uint64_t n_pages)
{
	uint64_t step = n_pages * 5 / 8 | 1;

	for (;; step += 2) {
		uint64_t a = step, b = n_pages;

		while (b) {
			const uint64_t rest = a % b;

			a = b;
			b = rest;
		}
		if (a == 1)
			return step;
	}
}

static void touch(const volatile uint64_t *words, uint64_t n_pages,
		  uint64_t *times)
{
	const uint64_t step = stride(n_pages);
	uint64_t page = 0;

	for (uint64_t i = 0; i < n_pages; i++) {
		const uint64_t start = now_ns();

		(void)words[page * WORDS];
		times[i] = now_ns() - start;
		page = (page + step) % n_pages;
	}
	qsort(times, n_pages, sizeof(*times), compare);
	printf("faults %lu %lu %lu %lu\n", (unsigned long)n_pages,
	       (unsigned long)times[n_pages / 2],
	       (unsigned long)times[n_pages * 99 / 100],
	       (unsigned long)times[n_pages - 1]);
}

int main(int argc, char *argv[])
{
	const uint64_t mib = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	const int packs = argc > 2 && !strcmp(argv[2], "zip");
	const uint64_t n_pages = mib * 256;
	uint64_t *words;
	uint64_t *times;
	char line[64];

	if (!n_pages) {
		fputs("usage: faults MIB zip|raw\n", stderr);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	words = mmap(NULL, n_pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	times = calloc(n_pages, sizeof(*times));
	if (words == MAP_FAILED || !times)
		return 1;
	for (uint64_t i = 0; i < n_pages * WORDS; i++)
		words[i] = expected(i / WORDS, i % WORDS, packs);
	/* Nothing new is touched between the touches that are timed. */
	memset(times, 1, n_pages * sizeof(*times));
	puts("filled");
	while (fgets(line, sizeof(line), stdin)) {
		touch(words, n_pages, times);
		if (verify(words, n_pages, packs))
			return 1;
	}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Holds memory of which an exact part is in use, through phases that differ in both.
 *
 *	hold SEED MIX MIB:ACTIVE:SECONDS...	prints a line for each phase, and last
 *						"hold ok MIB SUM", or the first wrong word
 *
 * In each phase MIB are filled, and the first ACTIVE MiB of them are verified and written once
 * a second, or as fast as it goes. What a smaller phase does not need is given back to the kernel.
 * A phase whose SECONDS are the word "line" lasts until a line comes from standard input.
 * At the end all that is left is verified. MIX is the percentage of pages whose contents cannot
 * be compressed; the rest can, to about a third.
 *
 * The first word of a page counts how often it was written; the others follow from SEED and
 * the page's number, so SUM is the same on every machine.
 */
#define _GNU_SOURCE
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "pages.h"

#define MIB_PAGES 256UL
#define PERIOD_NS SECOND_NS

struct phase {
	uint64_t pages;
	uint64_t active;
	uint64_t seconds;
	bool until_line;
};

static uint64_t seed;
static uint64_t mix_pct;
static uint64_t *mem;
static uint64_t *written; /* by page: what its first word must be */
static uint64_t filled;   /* pages */

/* Words whose number has no bit of @mask hold something new, the others repeat it. */
static uint64_t mask_of(uint64_t base)
{
	return (base >> 8) % 100 < mix_pct ? 0 : 3;
}

static uint64_t base_of(uint64_t page)
{
	return mix(page + (seed << 40) + 1);
}

static void fill(uint64_t page)
{
	const uint64_t base = base_of(page);
	const uint64_t mask = mask_of(base);
	uint64_t *p = mem + page * WORDS;

	p[0] = written[page] = 1;
	for (uint64_t w = 1; w < WORDS; w++)
		p[w] = w & mask ? base : base + w * GOLDEN;
}

static void verify(uint64_t page, uint64_t *sum)
{
	const uint64_t base = base_of(page);
	const uint64_t mask = mask_of(base);

	for (uint64_t w = 0; w < WORDS; w++) {
		const uint64_t want = !w         ? written[page]
				      : w & mask ? base
						 : base + w * GOLDEN;

		if (!is_word("hold", mem, page, w, want))
			exit(1);
		if (w)
			*sum = *sum * 31 + want;
	}
}

static void resize(uint64_t pages)
{
	for (; filled < pages; filled++)
		fill(filled);
	if (filled > pages &&
	    madvise(mem + pages * WORDS, (filled - pages) * PAGE_BYTES,
		    MADV_DONTNEED)) {
		perror("hold: madvise");
		exit(2);
	}
	filled = pages;
}

static void sleep_until(uint64_t ns)
{
	const struct timespec ts = {.tv_sec = (time_t)(ns / SECOND_NS),
				    .tv_nsec = (long)(ns % SECOND_NS)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void use(uint64_t active)
{
	uint64_t ignored = 0;

	for (uint64_t page = 0; page < active && page < filled; page++) {
		verify(page, &ignored);
		mem[page * WORDS] = ++written[page];
	}
}

static bool is_over(const struct phase *p, uint64_t end, uint64_t now)
{
	return p->until_line ? has_line() : now >= end;
}

static void run(const struct phase *p)
{
	uint64_t passes = 0;

	resize(p->pages);

	const uint64_t start = now_ns();
	const uint64_t end = start + p->seconds * SECOND_NS;
	uint64_t now = start;

	while (!is_over(p, end, now)) {
		use(p->active);
		passes++;
		if (now_ns() < now + PERIOD_NS)
			sleep_until(now + PERIOD_NS);
		now = now_ns();
	}
	printf("hold: %lu MiB of which %lu in use: %lu passes in %lu s\n",
	       p->pages / MIB_PAGES, p->active / MIB_PAGES, passes,
	       (now - start) / SECOND_NS);
	fflush(stdout);
}

static struct phase parse(const char *text)
{
	unsigned long mib, active, seconds = 0;
	int at = 0;
	bool until_line;

	sscanf(text, "%lu:%lu:%n", &mib, &active, &at);
	until_line = at && !strcmp(text + at, "line");
	if (!at || active > mib ||
	    (!until_line && sscanf(text + at, "%lu", &seconds) != 1)) {
		fprintf(stderr, "hold: '%s' is not MIB:ACTIVE:SECONDS\n", text);
		exit(2);
	}
	return (struct phase){mib * MIB_PAGES, active * MIB_PAGES, seconds,
			      until_line};
}

int main(int argc, char **argv)
{
	uint64_t max = 0;
	uint64_t sum = 0;

	if (argc < 4) {
		fprintf(stderr, "usage: hold SEED MIX MIB:ACTIVE:SECONDS...\n");
		return 2;
	}
	seed = strtoull(argv[1], NULL, 0);
	mix_pct = strtoull(argv[2], NULL, 0);
	for (int i = 3; i < argc; i++) {
		const struct phase p = parse(argv[i]);

		max = p.pages > max ? p.pages : max;
	}
	written = calloc(max + 1, sizeof(*written));
	mem = mmap(NULL, (max + 1) * PAGE_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (!written || mem == MAP_FAILED) {
		fprintf(stderr, "hold: no memory\n");
		return 2;
	}
	/* A huge page would be in use as a whole. Fails where there are none. */
	(void)madvise(mem, (max + 1) * PAGE_BYTES, MADV_NOHUGEPAGE);
	for (int i = 3; i < argc; i++) {
		const struct phase p = parse(argv[i]);

		run(&p);
	}
	for (uint64_t page = 0; page < filled; page++)
		verify(page, &sum);
	printf("hold ok %lu %#lx\n", filled / MIB_PAGES, sum);
	return 0;
}

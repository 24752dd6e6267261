/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fills memory with patterns and verifies them again and again, while pages may be taken away
 * and brought back behind its back.
 *
 *	patterns MIB SECONDS [SEED]	prints "patterns MIB ok", or the first wrong word
 *
 * If SECONDS is the word "line" it goes on until a line comes from standard input.
 * A third of the pages is rewritten with a new pattern in each round, one in eight is all zero,
 * and one in eight has the same contents as others.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pages.h"

enum page_kind {
	PAGE_ZERO,
	PAGE_COMMON,
	PAGE_OWN,
};

static uint64_t seed;

static enum page_kind kind_of(uint64_t page, uint32_t round)
{
	const uint64_t r = mix(page * 2 + ((uint64_t)round << 40) + seed) % 8;

	return r == 0 ? PAGE_ZERO : r == 1 ? PAGE_COMMON : PAGE_OWN;
}

/* What word @word of a page holds that was last written in round @round. */
static uint64_t expected(enum page_kind kind, uint64_t base, uint64_t word)
{
	switch (kind) {
	case PAGE_ZERO:
		return 0;
	case PAGE_COMMON:
		return (word / 64 + 1) * 0x0101010101010101;
	case PAGE_OWN:
		break;
	}
	return base + word * GOLDEN;
}

static uint64_t base_of(uint64_t page, uint32_t round)
{
	return mix(page + ((uint64_t)round << 32) + seed);
}

static void fill(uint64_t *mem, uint64_t page, uint32_t round)
{
	const enum page_kind kind = kind_of(page, round);
	const uint64_t base = base_of(page, round);

	for (uint64_t w = 0; w < WORDS; w++)
		mem[page * WORDS + w] = expected(kind, base, w);
}

static int verify(const uint64_t *mem, uint64_t page, uint32_t round)
{
	const enum page_kind kind = kind_of(page, round);
	const uint64_t base = base_of(page, round);

	for (uint64_t w = 0; w < WORDS; w++)
		if (!is_word("patterns", mem, page, w, expected(kind, base, w)))
			return 1;
	return 0;
}

int main(int argc, char **argv)
{
	if (argc < 3) {
		fprintf(stderr, "usage: patterns MIB SECONDS|line [SEED]\n");
		return 2;
	}
	const uint64_t mib = strtoull(argv[1], NULL, 0);
	const uint64_t pages = mib * 256;
	const int until_line = !strcmp(argv[2], "line");
	const uint64_t seconds = strtoull(argv[2], NULL, 0);
	uint32_t *rounds = calloc(pages, sizeof(*rounds));
	uint64_t *mem = mmap(NULL, pages * PAGE_BYTES, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
	if (!rounds || mem == MAP_FAILED) {
		fprintf(stderr, "patterns: no memory\n");
		return 2;
	}
	for (uint64_t p = 0; p < pages; p++)
		fill(mem, p, 0);

	const uint64_t end = now_ns() + seconds * SECOND_NS;
	uint32_t round = 0;

	do {
		round++;
		for (uint64_t p = 0; p < pages; p++) {
			if (verify(mem, p, rounds[p]))
				return 1;
			if (mix(p ^ (uint64_t)round << 20 ^ seed) % 3)
				continue;
			rounds[p] = round;
			fill(mem, p, round);
		}
	} while (until_line ? !has_line() : now_ns() < end);
	for (uint64_t p = 0; p < pages; p++) {
		if (verify(mem, p, rounds[p]))
			return 1;
	}
	printf("patterns %lu ok\n", mib);
	return 0;
}

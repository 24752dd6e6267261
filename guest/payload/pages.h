/* SPDX-License-Identifier: Apache-2.0 */
/* Memory of pages whose words follow from a number, for programs that fill it and verify it. */
#ifndef GUEST_PAYLOAD_PAGES_H
#define GUEST_PAYLOAD_PAGES_H
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#define PAGE_BYTES 4096UL
#define WORDS      (PAGE_BYTES / 8)
#define GOLDEN     UINT64_C(0x9e3779b97f4a7c15)
#define SECOND_NS  UINT64_C(1000000000)

/** mix() - another number of which every bit depends on every bit of @x. */
static inline uint64_t mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/** is_word() - whether a word is what it must be; prints it if not. */
static inline int is_word(const char *program, const uint64_t *mem,
			  uint64_t page, uint64_t word, uint64_t want)
{
	const uint64_t got = mem[page * WORDS + word];

	if (got == want)
		return 1;
	printf("%s: page %lu word %lu: %#lx instead of %#lx\n", program, page,
	       word, got, want);
	return 0;
}

/** has_line() - whether something, or the end, has come on standard input. */
static inline int has_line(void)
{
	struct pollfd in = {.events = POLLIN};

	return poll(&in, 1, 0) != 0;
}

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND_NS + (uint64_t)ts.tv_nsec;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what a page contains to where such a page is: a table of eight bytes an entry.
 *
 * An entry is 31 bits of a page's hash, the tag, and where the page is: a frame of the
 * group, or a page of a VM that may match (a hint, for which nothing is promised).
 */
#ifndef HOST_HINTS_H
#define HOST_HINTS_H
#include <base/types.h>

#define HINT_FRAME UINT32_C(0x80000000) /* in @where: a frame, not a page */

/* Members: the owner's, but for @bytes, which any thread may read. */
struct hints {
	uint64_t *slots; /* tag in the low half, place in the high; 0: free */
	uint32_t bits;   /* 1 << bits slots */
	uint32_t n;      /* used */
	_Atomic uint64_t bytes; /* of @slots */
};

/** struct hints_iter - a walk over the entries of one tag. */
struct hints_iter {
	uint32_t tag;
	uint32_t at;
};

/** hints_tag() - the tag of a 64-bit hash; never 0. */
static inline uint32_t hints_tag(uint64_t hash)
{
	const uint32_t tag = (uint32_t)(hash >> 33);

	return tag ? tag : 1;
}

/** hints_init() - empty. */
void hints_init(struct hints *h);

/** hints_release() - free its memory. */
void hints_release(struct hints *h);

/** hints_add() - enter a place; each at most once. Return: false if there is no memory. */
bool hints_add(struct hints *h, uint32_t tag, uint32_t where);

/** hints_remove() - take a place out. Return: false if it was not there. */
bool hints_remove(struct hints *h, uint32_t tag, uint32_t where);

/** hints_find() - begin to walk over the places of a tag. */
void hints_find(const struct hints *h, uint32_t tag, struct hints_iter *it);

/** hints_next() - the next place; the table must not change meanwhile. Return: false: no more. */
bool hints_next(const struct hints *h, struct hints_iter *it,
		uint32_t *ret_where);

/** hints_bytes() - memory of the table. Any thread. */
uint64_t hints_bytes(const struct hints *h);

#endif

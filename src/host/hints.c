/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of what pages contain: open addressing with linear probing, filled up to 85 %,
 * so that after doubling it is still filled enough to cost less than 20 bytes an entry.
 * Taking out moves the entries behind back, so there are no marks of the dead.
 */
#include <host/hints.h>

#include <stdlib.h>

#include <base/verify.h>

#define MIN_BITS 10

void hints_init(struct hints *h)
{
	*h = (struct hints){0};
}

void hints_release(struct hints *h)
{
	free(h->slots);
	*h = (struct hints){0};
}

static uint32_t mask(const struct hints *h)
{
	return (UINT32_C(1) << h->bits) - 1;
}

static uint32_t home_of(const struct hints *h, uint32_t tag)
{
	return (tag * UINT32_C(0x9e3779b1)) >> (32 - h->bits);
}

static uint64_t pack(uint32_t tag, uint32_t where)
{
	return (uint64_t)where << 32 | tag;
}

static void put(struct hints *h, uint64_t entry)
{
	uint32_t at = home_of(h, (uint32_t)entry);

	while (h->slots[at])
		at = (at + 1) & mask(h);
	h->slots[at] = entry;
}

static bool grow(struct hints *h)
{
	struct hints bigger = {.bits = h->slots ? h->bits + 1 : MIN_BITS,
			       .n = h->n};

	if (bigger.bits > 31)
		return false;
	bigger.slots = calloc(UINT64_C(1) << bigger.bits, sizeof(*bigger.slots));
	if (!bigger.slots)
		return false;
	for (uint64_t i = 0; h->slots && i < UINT64_C(1) << h->bits; i++) {
		if (h->slots[i])
			put(&bigger, h->slots[i]);
	}
	free(h->slots);
	h->slots = bigger.slots;
	h->bits = bigger.bits;
	h->bytes = sizeof(*h->slots) << h->bits;
	return true;
}

bool hints_add(struct hints *h, uint32_t tag, uint32_t where)
{
	const uint64_t size = h->slots ? UINT64_C(1) << h->bits : 0;

	if (((uint64_t)h->n + 1) * 100 > size * 85 && !grow(h))
		return false;
	VERIFY(h->slots);
	put(h, pack(tag, where));
	h->n++;
	return true;
}

/* Close the gap at a place: move back what could be found only across it. */
static void close_gap(struct hints *h, uint32_t gap)
{
	uint32_t at = gap;

	for (;;) {
		at = (at + 1) & mask(h);
		if (!h->slots[at])
			break;

		const uint32_t home = home_of(h, (uint32_t)h->slots[at]);

		if (((at - home) & mask(h)) >= ((at - gap) & mask(h))) {
			h->slots[gap] = h->slots[at];
			gap = at;
		}
	}
	h->slots[gap] = 0;
}

bool hints_remove(struct hints *h, uint32_t tag, uint32_t where)
{
	const uint64_t entry = pack(tag, where);

	if (!h->slots)
		return false;
	for (uint32_t at = home_of(h, tag); h->slots[at];
	     at = (at + 1) & mask(h)) {
		if (h->slots[at] == entry) {
			close_gap(h, at);
			h->n--;
			return true;
		}
	}
	return false;
}

void hints_find(const struct hints *h, uint32_t tag, struct hints_iter *it)
{
	it->tag = tag;
	it->at = h->slots ? home_of(h, tag) : 0;
}

bool hints_next(const struct hints *h, struct hints_iter *it,
		uint32_t *ret_where)
{
	while (h->slots && h->slots[it->at]) {
		const uint64_t entry = h->slots[it->at];

		it->at = (it->at + 1) & mask(h);
		if ((uint32_t)entry == it->tag) {
			*ret_where = (uint32_t)(entry >> 32);
			return true;
		}
	}
	return false;
}

uint64_t hints_bytes(const struct hints *h)
{
	return h->bytes;
}

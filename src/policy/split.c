/* SPDX-License-Identifier: Apache-2.0 */
/* Proportional division by running sums: each part is the step between two roundings. */
#include <policy/split.h>

#include <base/arith.h>

uint64_t split_pages(const uint64_t *room, size_t n, uint64_t total_pages,
		     uint64_t *ret_pages)
{
	uint64_t sum = 0, seen = 0, given = 0;

	for (size_t i = 0; i < n; i++)
		sum += room[i];
	if (total_pages > sum)
		total_pages = sum;
	for (size_t i = 0; i < n; i++) {
		uint64_t upto;

		seen += room[i];
		upto = sum ? mul_div(total_pages, seen, sum) : 0;
		/*
		 * total <= sum, so a step never exceeds room[i]: the part is at most
		 * room * total / sum rounded up, and room is a whole number.
		 */
		ret_pages[i] = upto - given;
		given = upto;
	}
	return given;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Division of whole pages in proportion, without losing any. */
#ifndef POLICY_SPLIT_H
#define POLICY_SPLIT_H
#include <base/types.h>

/**
 * split_pages() - divide an amount in proportion to what each could take.
 * @room: @n upper bounds, which are also the weights
 * @n: number of parts
 * @total_pages: amount to divide
 * @ret_pages: @n parts, none above its bound, which add up to @total_pages, or to
 *             the sum of @room if that is less
 *
 * Return: the sum of the parts.
 */
uint64_t split_pages(const uint64_t *room, size_t n, uint64_t total_pages,
		     uint64_t *ret_pages);

#endif

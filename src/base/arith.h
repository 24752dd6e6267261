/* SPDX-License-Identifier: Apache-2.0 */
/* Arithmetic on counts that neither wraps nor loses. */
#ifndef BASE_ARITH_H
#define BASE_ARITH_H
#include <base/types.h>

/* Products of two page counts, or of a cost and shares. */
__extension__ typedef unsigned __int128 wide_t;

static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* a - b, or 0 if that is negative. */
static inline uint64_t sub_u64(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* a * b / c without overflow in between, rounded down; c is not 0. */
static inline uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((wide_t)a * b / c);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* A small random number generator whose sequences can be repeated; nothing for secrets. */
#ifndef BASE_RNG_H
#define BASE_RNG_H
#include <stdint.h>

/**
 * struct rng - generator; any value is a seed, and equal ones give equal sequences everywhere.
 * @state: SplitMix64's counter
 */
struct rng {
	uint64_t state;
};

/**
 * rng_next() - next 64 random bits (SplitMix64).
 * @rng: generator
 *
 * Return: uniform over all values.
 */
static inline uint64_t rng_next(struct rng *rng)
{
	uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

/**
 * rng_below() - random number in [0, n).
 * @rng: generator
 * @n: at least 1
 *
 * Return: near enough to uniform for any @n that counts pages.
 */
static inline uint64_t rng_below(struct rng *rng, uint64_t n)
{
	__extension__ typedef unsigned __int128 product;

	return (uint64_t)(((product)rng_next(rng) * n) >> 64);
}

/**
 * rng_fraction() - random number in [0, 1).
 * @rng: generator
 *
 * Return: uniform, 53 bits.
 */
static inline double rng_fraction(struct rng *rng)
{
	return (double)(rng_next(rng) >> 11) / 9007199254740992.0;
}

#endif

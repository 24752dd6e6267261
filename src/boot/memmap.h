/* SPDX-License-Identifier: Apache-2.0 */
/* The memory map that a guest is told. E820, PVH and multiboot number the types alike. */
#ifndef BOOT_MEMMAP_H
#define BOOT_MEMMAP_H
#include <base/types.h>

#define MEMMAP_MAX 4

enum memmap_type {
	MEMMAP_RAM = 1,
	MEMMAP_RESERVED = 2,
};

/**
 * struct memmap_region - one stretch of the address space.
 * @start: first byte
 * @bytes: length, not zero
 * @type: what it is
 */
struct memmap_region {
	uint64_t start;
	uint64_t bytes;
	enum memmap_type type;
};

/**
 * struct memmap - the map, in rising order.
 * @regions: @n of them
 * @n: how many
 * @low_end: end of the RAM below the device hole
 */
struct memmap {
	struct memmap_region regions[MEMMAP_MAX];
	unsigned int n;
	uint64_t low_end;
};

/**
 * memmap_init() - the map of a guest.
 * @map: filled
 * @ram_bytes: size of its RAM
 */
void memmap_init(struct memmap *map, uint64_t ram_bytes);

#define MEMMAP_ENTRY_BYTES 20

/**
 * memmap_put() - write the map as E820, PVH and multiboot all have it.
 * @map: map
 * @to: its first entry: start and length of 64 bits, type of 32
 * @stride: bytes from one entry to the next, at least MEMMAP_ENTRY_BYTES
 */
void memmap_put(const struct memmap *map, uint8_t *to, size_t stride);

#endif

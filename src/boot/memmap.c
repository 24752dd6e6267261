/* SPDX-License-Identifier: Apache-2.0 */
/* RAM from zero, without what a PC keeps below 1 MiB and without the device hole. */
#include <boot/memmap.h>

#include <boot/bytes.h>
#include <boot/layout.h>

static void add(struct memmap *map, uint64_t start, uint64_t end,
		enum memmap_type type)
{
	if (end > start)
		map->regions[map->n++] = (struct memmap_region){start,
								end - start,
								type};
}

void memmap_init(struct memmap *map, uint64_t ram_bytes)
{
	const uint64_t low = ram_bytes < GUESTMEM_HOLE_START
				     ? ram_bytes
				     : GUESTMEM_HOLE_START;
	const uint64_t high = ram_bytes - low;

	*map = (struct memmap){.low_end = low};
	add(map, 0, low < LAYOUT_LOW_END ? low : LAYOUT_LOW_END, MEMMAP_RAM);
	add(map, LAYOUT_LOW_END, LAYOUT_HIGH_MEMORY, MEMMAP_RESERVED);
	add(map, LAYOUT_HIGH_MEMORY, low, MEMMAP_RAM);
	add(map, GUESTMEM_HOLE_END, GUESTMEM_HOLE_END + high, MEMMAP_RAM);
}

void memmap_put(const struct memmap *map, uint8_t *to, size_t stride)
{
	for (unsigned int i = 0; i < map->n; i++, to += stride) {
		const struct memmap_region *m = &map->regions[i];

		put_le64(to, m->start);
		put_le64(to + 8, m->bytes);
		put_le32(to + 16, m->type);
	}
}

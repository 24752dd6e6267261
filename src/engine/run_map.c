/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of pages that are mapped from another file than the home file, counted and bounded. */
#include <engine/run_map.h>

#include <errno.h>
#include <string.h>

#include <base/sparse.h>
#include <base/verify.h>

static uint64_t words(uint64_t n_pages)
{
	return (n_pages + 63) / 64;
}

int run_map_init(struct run_map *map, uint64_t n_pages, uint64_t max_runs)
{
	const uint64_t bytes = 2 * words(n_pages) * sizeof(uint64_t);
	void *arrays = sparse_new(bytes);

	memset(map, 0, sizeof(*map));
	if (!arrays)
		return -ENOMEM;
	map->n_pages = n_pages;
	map->max_runs = max_runs;
	map->bytes = bytes;
	map->in = arrays;
	map->start = map->in + words(n_pages);
	return 0;
}

void run_map_release(struct run_map *map)
{
	sparse_free(map->in, map->bytes);
	memset(map, 0, sizeof(*map));
}

static bool get(const uint64_t *bits, uint64_t n)
{
	return bits[n / 64] >> n % 64 & 1;
}

static void set(uint64_t *bits, uint64_t n)
{
	bits[n / 64] |= UINT64_C(1) << n % 64;
}

static void clear(uint64_t *bits, uint64_t n)
{
	bits[n / 64] &= ~(UINT64_C(1) << n % 64);
}

bool run_map_has(const struct run_map *map, uint64_t page)
{
	return page < map->n_pages && get(map->in, page);
}

uint64_t run_map_runs(const struct run_map *map)
{
	return map->n_runs;
}

bool run_map_add(struct run_map *map, uint64_t first, uint64_t end,
		 bool joins_before, bool joins_after)
{
	const bool before = first > 0 && joins_before &&
			    run_map_has(map, first - 1);
	const bool after = joins_after && run_map_has(map, end);

	VERIFY(first < end && end <= map->n_pages);
	if (!before && !after && map->n_runs >= map->max_runs)
		return false;
	for (uint64_t page = first; page < end; page++) {
		VERIFY(!get(map->in, page));
		set(map->in, page);
	}
	if (!before) {
		set(map->start, first);
		map->n_runs++;
	}
	if (after && get(map->start, end)) {
		clear(map->start, end);
		map->n_runs--;
	}
	return true;
}

void run_map_remove(struct run_map *map, uint64_t page)
{
	if (!run_map_has(map, page))
		return;
	clear(map->in, page);
	if (get(map->start, page)) {
		clear(map->start, page);
		map->n_runs--;
	}
	if (run_map_has(map, page + 1) && !get(map->start, page + 1)) {
		set(map->start, page + 1);
		map->n_runs++;
	}
}

bool run_map_audit(const struct run_map *map)
{
	uint64_t runs = 0;

	for (uint64_t page = 0; page < map->n_pages; page++) {
		if (!get(map->in, page)) {
			if (get(map->start, page))
				return false;
			continue;
		}
		if (get(map->start, page))
			runs++;
		else if (!page || !get(map->in, page - 1))
			return false;
	}
	return runs == map->n_runs;
}

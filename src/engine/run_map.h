/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which pages of guest RAM are shown from another file than the home file, and in how many
 * runs: each run is a mapping of its own to the kernel, and a process may have so many only.
 */
#ifndef ENGINE_RUN_MAP_H
#define ENGINE_RUN_MAP_H
#include <base/types.h>

/**
 * struct run_map - a set of pages, cut into runs. Members are private.
 * @n_pages: pages that there are
 * @n_runs: runs now
 * @max_runs: the most that there may be
 * @bytes: length of the arrays together
 * @in: a bit per page: it is in the set
 * @start: a bit per page: a run starts with it
 */
struct run_map {
	uint64_t n_pages;
	uint64_t n_runs;
	uint64_t max_runs;
	uint64_t bytes;
	uint64_t *in;
	uint64_t *start;
};

/**
 * run_map_init() - an empty set.
 * @map: to initialize
 * @n_pages: pages that there are
 * @max_runs: bound on the number of runs
 *
 * Its arrays take no memory until they are used. Return: 0 or -ENOMEM.
 */
int run_map_init(struct run_map *map, uint64_t n_pages, uint64_t max_runs)
	__attribute__((warn_unused_result));

/** run_map_release() - end it. */
void run_map_release(struct run_map *map);

/** run_map_has() - whether a page is in the set. */
bool run_map_has(const struct run_map *map, uint64_t page);

/** run_map_runs() - how many runs there are. */
uint64_t run_map_runs(const struct run_map *map);

/**
 * run_map_add() - put pages that are not in the set into it, as one run.
 * @map: set
 * @first: first page
 * @end: page after the last
 * @joins_before: the run goes on where that of page @first - 1 ends (which is in the set)
 * @joins_after: likewise with page @end
 *
 * Removing a page may cut a run in two, so room for one more run is needed.
 *
 * Return: false, with nothing changed, if that might be more runs than there may be.
 */
bool run_map_add(struct run_map *map, uint64_t first, uint64_t end,
		 bool joins_before, bool joins_after)
	__attribute__((warn_unused_result));

/** run_map_remove() - take one page out of the set; nothing if it is not in it. */
void run_map_remove(struct run_map *map, uint64_t page);

/** run_map_audit() - recount the runs. Return: true if the count is right. */
bool run_map_audit(const struct run_map *map);

#endif

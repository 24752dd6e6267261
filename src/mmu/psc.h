/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paging-structure caches: where the guest's tables of a part of the address space are, so
 * that a walk can begin at its last levels. [SDM3 4.10.3 "Paging-Structure Caches"]
 *
 * Entries belong to the current address space only. Every event that may flush any of
 * them flushes all, which costs nothing: a new generation begins.
 */
#ifndef MMU_PSC_H
#define MMU_PSC_H
#include <mmu/guest_walk.h>

#define PSC_LEVELS 3

/**
 * struct psc_entry - a table of the guest.
 * @tag: address bits above what the table covers, and the generation
 * @table: its guest physical address
 * @host: host address of its page
 * @rights: what the entries above it allow
 */
struct psc_entry {
	uint64_t tag;
	uint64_t table;
	uint8_t *host;
	uint64_t rights;
};

/* One direct-mapped array for each level of table; see psc.c for their sizes. */
struct psc {
	uint64_t generation;
	struct psc_entry level1[256];
	struct psc_entry level2[32];
	struct psc_entry level3[16];
};

/** psc_init() - make it empty. */
void psc_init(struct psc *c);

/** psc_flush() - forget everything. */
void psc_flush(struct psc *c);

/** psc_begin() - begin a walk at the lowest table that is known. Return: false if none is. */
bool psc_begin(struct psc *c, struct guest_walk *g);

/** psc_learn() - remember the tables of a walk that succeeded and was marked. */
void psc_learn(struct psc *c, const struct guest_walk *g);

#endif

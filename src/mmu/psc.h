/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Paging-structure caches: where the tables of a part of the address space are, so that a
 * walk can begin at its last levels. [SDM3 4.10.3 "Paging-Structure Caches"]
 *
 * The modelled processor has one set of them, for the tables that it walks by linear
 * address: the guest's own in hardware mode, shadow tables in software mode. That both
 * have the same is what makes their counts comparable.
 *
 * Entries belong to the current address space only. Every event that may flush any of
 * them flushes all, which costs nothing: a new generation begins.
 */
#ifndef MMU_PSC_H
#define MMU_PSC_H
#include <mmu/guest_walk.h>

/* In rights: shadow tables only, every level above allows stores in place. */
#define PSC_DIRTY 8U

/**
 * struct psc_entry - a table.
 * @tag: address bits above what the table covers, and the generation
 * @table: its address
 * @host: host address of its page
 * @rights: what the entries above it allow: WALK_* bits and PSC_DIRTY
 */
struct psc_entry {
	uint64_t tag;
	uint64_t table;
	uint8_t *host;
	uint64_t rights;
};

#define PSC_LEVEL1_ENTRIES  256U
#define PSC_GENERATION_BITS 20
#define PSC_ADDR_BITS       48

/**
 * struct psc - one direct-mapped array for each level of table.
 * @generation: in the tags of entries that count
 * @level1: last-level tables
 * @level2: those above
 * @level3: those above them
 */
struct psc {
	uint64_t generation;
	struct psc_entry level1[PSC_LEVEL1_ENTRIES];
	struct psc_entry level2[32];
	struct psc_entry level3[16];
};

/**
 * psc_last() - the last level's table of an address in long mode's format.
 *
 * What psc_find() finds first, for callers that have something shorter for it.
 * Return: NULL if it is not known.
 */
static inline const struct psc_entry *psc_last(const struct psc *c,
					       uint64_t addr)
{
	const uint64_t key = (addr & ((UINT64_C(1) << PSC_ADDR_BITS) - 1)) >> 21;
	const struct psc_entry *e = &c->level1[key % PSC_LEVEL1_ENTRIES];

	return e->tag == (key << PSC_GENERATION_BITS | c->generation) ? e : NULL;
}

/** psc_init() - make it empty. */
void psc_init(struct psc *c);

/** psc_flush() - forget everything. */
void psc_flush(struct psc *c);

/**
 * psc_find() - the lowest table that is known for an address.
 * @c: cache
 * @fmt: format of the tables; an owner always uses the same or flushes
 * @addr: linear address
 * @ret_level: its level
 *
 * Return: NULL if none is.
 */
const struct psc_entry *psc_find(struct psc *c, const struct walk_format *fmt,
				 uint64_t addr, unsigned int *ret_level);

/**
 * psc_put() - remember a table.
 * @c: cache
 * @fmt: as for psc_find()
 * @level: of the table
 * @addr: linear address that it was walked for
 * @entry: what to remember; the tag is set here
 */
void psc_put(struct psc *c, const struct walk_format *fmt, unsigned int level,
	     uint64_t addr, struct psc_entry entry);

/** psc_begin() - begin a walk at the lowest table that is known. Return: false if none is. */
bool psc_begin(struct psc *c, struct guest_walk *g);

/** psc_learn() - remember the tables of a walk that succeeded and was marked. */
void psc_learn(struct psc *c, const struct guest_walk *g);

#endif

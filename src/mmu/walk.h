/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One walk of page tables, of any format, in any kind of memory.
 *
 * A walk knows where the next entry is and what an entry means; whoever drives it reads
 * the entry from guest or machine memory. So the guest's tables, the nested tables and
 * the shadow tables are all walked by this code, which a table of constants tells how
 * many levels there are, which bits are reserved and where large pages may be.
 *
 *	walk_init(&w, fmt, root, addr, rsvd);
 *	do {
 *		entry = read at walk_entry_addr(&w);
 *	} while (walk_next(&w, entry) == WALK_TABLE);
 */
#ifndef MMU_WALK_H
#define MMU_WALK_H
#include <arch/x86.h>
#include <base/types.h>

#define WALK_MAX_LEVELS 4

/**
 * struct walk_level - what one level of a format is like.
 * @shift: bits of the address below its index
 * @index_bits: bits of its index
 * @table_rsvd: reserved bits of an entry that points to a table
 * @leaf_rsvd: reserved bits of an entry that maps a page
 * @large: entries with PTE_PS map a page
 * @plain: entries have neither rights nor an accessed bit (PAE's page-directory pointers)
 */
struct walk_level {
	uint8_t shift;
	uint8_t index_bits;
	bool large;
	bool plain;
	uint64_t table_rsvd;
	uint64_t leaf_rsvd;
};

/**
 * struct walk_format - a paging mode.
 * @levels: how many there are
 * @entry_bytes: 4 or 8
 * @root_mask: bits of CR3 that are the root's address
 * @level: indexed by level, 1 is the last one; [0] is unused
 */
struct walk_format {
	uint8_t levels;
	uint8_t entry_bytes;
	uint64_t root_mask;
	struct walk_level level[WALK_MAX_LEVELS + 1];
};

/* Long mode, and with it nested and shadow tables. */
extern const struct walk_format walk_long;
/* PAE paging. */
extern const struct walk_format walk_pae;
/* 32-bit paging with CR4.PSE clear and set. */
extern const struct walk_format walk_legacy;
extern const struct walk_format walk_legacy_pse;

/* Rights as bits: what all entries on the way allow. */
#define WALK_W   1U
#define WALK_U   2U
#define WALK_X   4U
#define WALK_ALL (WALK_W | WALK_U | WALK_X)

enum walk_step {
	WALK_TABLE,    /* go on at walk_entry_addr() */
	WALK_LEAF,     /* walk_target() is the address */
	WALK_ABSENT,   /* entry not present */
	WALK_RESERVED, /* present, with a reserved bit set */
};

/**
 * struct walk - a walk under way.
 * @fmt: format of the tables
 * @addr: address that is translated
 * @table: address of the table that is read next
 * @entry: last entry read
 * @rsvd: bits reserved by mode, in every entry (PTE_NX without EFER.NXE)
 * @rights: WALK_* bits that all entries so far allow
 * @level: of the table that is read next; of the leaf once the walk ended
 */
struct walk {
	const struct walk_format *fmt;
	uint64_t addr;
	uint64_t table;
	uint64_t entry;
	uint64_t rsvd;
	uint8_t rights;
	uint8_t level;
};

/** walk_rights() - rights that one entry gives. */
static inline unsigned int walk_rights(uint64_t entry)
{
	return (unsigned int)(((entry & (PTE_W | PTE_U)) >> 1) |
			      ((~entry >> 63) << 2));
}

/** walk_init() - begin at a root. */
static inline void walk_init(struct walk *w, const struct walk_format *fmt,
			     uint64_t root, uint64_t addr, uint64_t rsvd)
{
	w->fmt = fmt;
	w->addr = addr;
	w->table = root & fmt->root_mask;
	w->entry = 0;
	w->rsvd = rsvd;
	w->rights = WALK_ALL;
	w->level = fmt->levels;
}

/** walk_index() - index of the next entry in its table. */
static inline unsigned int walk_index(const struct walk *w)
{
	const struct walk_level *l = &w->fmt->level[w->level];

	return (unsigned int)(w->addr >> l->shift) & ((1U << l->index_bits) - 1);
}

/** walk_entry_addr() - address of the next entry. */
static inline uint64_t walk_entry_addr(const struct walk *w)
{
	return w->table + (uint64_t)walk_index(w) * w->fmt->entry_bytes;
}

/** walk_next() - take in the entry read at walk_entry_addr(). Return: where that leads. */
static inline enum walk_step walk_next(struct walk *w, uint64_t entry)
{
	const struct walk_level *l = &w->fmt->level[w->level];

	w->entry = entry;
	if (!(entry & PTE_P))
		return WALK_ABSENT;
	const bool leaf = w->level == 1 || (l->large && (entry & PTE_PS));
	if (entry & (w->rsvd | (leaf ? l->leaf_rsvd : l->table_rsvd)))
		return WALK_RESERVED;
	if (!l->plain)
		w->rights &= (uint8_t)walk_rights(entry);
	if (leaf)
		return WALK_LEAF;
	w->table = entry & PTE_ADDR;
	w->level--;
	return WALK_TABLE;
}

/** walk_page_shift() - size of the leaf's page, after WALK_LEAF. */
static inline unsigned int walk_page_shift(const struct walk *w)
{
	return w->fmt->level[w->level].shift;
}

/** walk_page_base() - address of the leaf's page, after WALK_LEAF. */
uint64_t walk_page_base(const struct walk *w);

/** walk_target() - what @addr translates to, after WALK_LEAF. */
static inline uint64_t walk_target(const struct walk *w)
{
	return walk_page_base(w) |
	       (w->addr & ((UINT64_C(1) << walk_page_shift(w)) - 1));
}

#endif

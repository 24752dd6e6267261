/* SPDX-License-Identifier: Apache-2.0 */
/* Insides of the shadow tables, for the files shadow*.c and their tests. */
#ifndef MMU_SHADOW_IMPL_H
#define MMU_SHADOW_IMPL_H
#include <mmu/psc.h>
#include <mmu/shadow.h>

#define SHADOW_ENTRIES     512U
#define SHADOW_GROUP       64U /* entries whose bookkeeping is allocated together */
#define SHADOW_GROUPS      (SHADOW_ENTRIES / SHADOW_GROUP)
#define SHADOW_SIZE_SHIFT  9
#define SHADOW_PRIVATE_BIT BIT64(11)
#define SHADOW_KEY_MASK    (UINT64_C(15) << PTE_PKEY_SHIFT)

/* Stores to a last-level table, without a fill in between, before it goes out of sync. */
#define SHADOW_UNSYNC_AFTER 8U
/* Stores to a higher table without a fill in between that say it is none any more. */
#define SHADOW_FLOOD 4U
/* A store longer than this is no store to page-table entries. */
#define SHADOW_MAX_STORE 16U
/* Neighbours that are filled along are within this many entries, aligned. */
#define SHADOW_PREFETCH 8U

/* What, besides the frame, gives a shadow table its meaning. */
enum shadow_role {
	SHADOW_LEVEL_MASK = 7,
	SHADOW_DIRECT = 1 << 3, /* splits a large page; the frame is its first */
	SHADOW_HUGE = 1 << 4,   /* direct: of a 1 GiB page */
	SHADOW_GLOBAL = 1 << 5,  /* direct: the page's entry has PTE_G */
	SHADOW_NXE = 1 << 6,     /* mirrors: PTE_NX is a right, not reserved */
	SHADOW_PRIVATE = 1 << 7, /* mirrors nothing, in no hash chain */
	SHADOW_KEY_SHIFT = 8, /* direct: protection key of the page's entry */
};

/* Bookkeeping of an entry: its place in the chain of what points to the same place. */
struct shadow_link {
	uint32_t next;
	uint32_t prev; /* 0 for the first of its chain */
	uint32_t ppn;  /* of a leaf */
};

/* The links of entries that follow each other; only groups with a present one are there. */
struct shadow_group {
	struct shadow_link link[SHADOW_GROUP];
};

/**
 * struct shadow_table - one table.
 * @idx: number of its table page; entry i is named (idx << 9 | i) + 1 in chains
 * @entry: the table page
 * @gfn: frame of the guest's table, or first frame of the large page
 * @guest: host address of the guest's table; NULL for direct and private ones
 * @role: SHADOW_* bits
 * @hash_next: next table in its hash chain, by idx + 1
 * @parents: chain of the entries that point to it
 * @n_present: entries present
 * @present: which ones
 * @group: bookkeeping, as far as entries were used
 * @writes: stores traced since the last fill
 * @unsync: the guest's table may differ
 * @unsync_at: place in shadow.unsync
 * @used: root: loaded since the last look of the recycler
 * @pin: fill that needs it, see shadow.fill_seq
 * @seen: store that was followed, see shadow.write_seq
 */
struct shadow_table {
	uint32_t idx;
	uint32_t role;
	uint64_t *entry;
	uint64_t gfn;
	uint8_t *guest;
	uint32_t hash_next;
	uint32_t parents;
	uint32_t n_present;
	uint32_t writes;
	uint64_t present[SHADOW_ENTRIES / 64];
	struct shadow_group *group[SHADOW_GROUPS];
	uint64_t pin;
	uint64_t seen;
	uint32_t unsync_at;
	bool unsync;
	bool used;
};

/**
 * struct shadow - all shadow tables of a virtual processor.
 * @mmu: whose
 * @machine: where table pages come from
 * @root: in use, or NULL until it is needed
 * @table: by number of the table page
 * @n_tables: length of @table
 * @hash: heads of chains by frame, idx + 1; @hash_mask + 1 of them
 * @rmap: by PPN: chain of the 4 KiB leaves that map it
 * @rmap_large: by PPN / 512: chain of the 2 MiB leaves that map it
 * @n_ppn: pages of RAM: length of @rmap
 * @unsync: tables out of sync
 * @n_unsync: how many
 * @max_unsync: room in @unsync
 * @hand: where the recycler looks next
 * @fill_seq: number of the fill; its tables are not recycled
 * @write_seq: number of the traced store
 * @psc: the processor's structure caches
 */
struct shadow {
	struct mmu *mmu;
	struct machine *machine;
	struct shadow_table *root;
	struct shadow_table **table;
	uint32_t n_tables;
	uint32_t hash_mask;
	uint32_t *hash;
	uint32_t *rmap;
	uint32_t *rmap_large;
	uint64_t n_ppn;
	struct shadow_table **unsync;
	uint32_t n_unsync;
	uint32_t max_unsync;
	uint32_t hand;
	uint64_t fill_seq;
	uint64_t write_seq;
	struct psc psc;
};

static inline unsigned int shadow_level(const struct shadow_table *t)
{
	return t->role & SHADOW_LEVEL_MASK;
}

/** shadow_is_mirror() - whether a guest table stands behind it. */
static inline bool shadow_is_mirror(const struct shadow_table *t)
{
	return !(t->role & (SHADOW_DIRECT | SHADOW_PRIVATE));
}

/** shadow_is_leaf() - whether a present entry of a table maps a page. */
static inline bool shadow_is_leaf(const struct shadow_table *t, uint64_t entry)
{
	return shadow_level(t) == 1 || (entry & PTE_PS);
}

/** shadow_child() - the table that an entry points to. */
static inline struct shadow_table *shadow_child(const struct shadow *s,
						uint64_t entry)
{
	return s->table[((entry & PTE_ADDR) - MACHINE_TABLE) >> PAGE_SHIFT];
}

/** shadow_ppn() - page that the small leaf @i maps. */
static inline uint32_t *shadow_ppn(const struct shadow_table *t, unsigned int i)
{
	return &t->group[i / SHADOW_GROUP]->link[i % SHADOW_GROUP].ppn;
}

/** shadow_index() - index of an address in a table. */
static inline unsigned int shadow_index(const struct shadow_table *t,
					uint64_t addr)
{
	return addr >> walk_long.level[shadow_level(t)].shift &
	       (SHADOW_ENTRIES - 1);
}

/** shadow_mirror_role() - role of a mirror of a level in the current paging mode. */
static inline uint32_t shadow_mirror_role(const struct shadow *s,
					  unsigned int level)
{
	return level | (s->mmu->paging.rsvd & PTE_NX ? 0 : SHADOW_NXE);
}

/* shadow_table.c: tables, their hash and the bound. */

/** shadow_find() - the table of a frame and role, or NULL. */
struct shadow_table *shadow_find(const struct shadow *s, uint64_t gfn,
				 uint32_t role);

/** shadow_chain_first() - first table that shares its hash chain with a frame, or NULL. */
struct shadow_table *shadow_chain_first(const struct shadow *s, uint64_t gfn);

/** shadow_chain_next() - the next one of the chain, or NULL. */
struct shadow_table *shadow_chain_next(const struct shadow *s,
				       const struct shadow_table *t);

/**
 * shadow_create() - a new empty table; recycles others at the bound.
 * @s: shadow tables
 * @gfn: frame of the guest's table, or first frame of the large page
 * @role: SHADOW_* bits
 * @guest: host address of the guest's table for a mirror, which becomes traced
 * Return: NULL if the host has no memory.
 */
struct shadow_table *shadow_create(struct shadow *s, uint64_t gfn,
				   uint32_t role, uint8_t *guest);

/** shadow_destroy() - unlink it from its parents, empty it, free it. */
void shadow_destroy(struct shadow *s, struct shadow_table *t);

/** shadow_make_room() - recycle until @bytes more may be used. */
void shadow_make_room(struct shadow *s, uint64_t bytes);

/** shadow_account() - memory came into use, or (negative) is free again. */
void shadow_account(struct shadow *s, int64_t bytes);

/** shadow_trace() - have stores to the guest's table followed, or not if none is in sync. */
void shadow_trace(struct shadow *s, uint64_t gfn);

/* shadow_entry.c: the one place where entries change. */

/** shadow_reserve() - make bookkeeping for an entry. Return: 0 or -ENOMEM. */
int shadow_reserve(struct shadow *s, struct shadow_table *t, unsigned int i)
	__attribute__((warn_unused_result));

/**
 * shadow_set() - change an entry; 0 removes it. @page for a small leaf.
 *
 * A table that loses its last parent is destroyed.
 */
void shadow_set(struct shadow *s, struct shadow_table *t, unsigned int i,
		uint64_t entry, uint64_t page);

/** shadow_head() - head of the chain that an entry belongs to. */
uint32_t *shadow_head(struct shadow *s, const struct shadow_table *t,
		      unsigned int i, uint64_t entry);

/** shadow_clear_chain() - remove all entries of a chain. */
void shadow_clear_chain(struct shadow *s, uint32_t *head);

/** shadow_leaf_entry() - shadow of a guest leaf, on a machine page. */
uint64_t shadow_leaf_entry(uint64_t guest, ma_t page, bool is_private,
			   unsigned int size);

/** shadow_table_entry() - shadow of a guest entry that leads to @child. */
uint64_t shadow_table_entry(uint64_t guest, const struct shadow_table *child);

/* shadow_sync.c */

/** shadow_resync() - adapt a table that is out of sync to the guest's, which ends that. */
void shadow_resync(struct shadow *s, struct shadow_table *t);

/**
 * shadow_sync_below() - before an entry leads to @child, or gives it more rights.
 *
 * The guest needs no flush for either. What is stale in the child, or below it, may be
 * reached from elsewhere, or with fewer rights, but never yet in the new way.
 */
void shadow_sync_below(struct shadow *s, struct shadow_table *child);

/** shadow_last_table() - the last level's table of an address, or NULL. */
struct shadow_table *shadow_last_table(const struct shadow *s, gva_t addr);

/** shadow_guest_entry() - what the guest's table says now. */
uint64_t shadow_guest_entry(const struct shadow_table *t, unsigned int i);

/** shadow_forget_unsync() - take a table off the list of those out of sync. */
void shadow_forget_unsync(struct shadow *s, struct shadow_table *t);

/* shadow_fill.c */

/**
 * shadow_prefetch() - fill an empty entry of a last-level mirror as the guest's says.
 *
 * Bookkeeping for it must be there. Only what needs neither a mark in the guest's table
 * nor a page from the host is filled. Return: whether it was.
 */
bool shadow_prefetch(struct shadow *s, struct shadow_table *t, unsigned int i);

#endif

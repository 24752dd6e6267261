/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested tables: the processor's walk of them, and the VMM's part that builds them.
 *
 * One function, set_entry(), changes an entry. It keeps for each table how many of its
 * entries could be part of one larger page, and drops what the processor has cached.
 *
 * The processor has three caches: nested TLBs of 4 KiB and of 2 MiB pages, and one of the
 * last level's tables by 2 MiB of address. What stands in the way of a new entry is
 * overwritten; changing an entry drops what they know of it.
 */
#include <mmu/nested.h>

#include <errno.h>
#include <stdlib.h>

#include <base/verify.h>
#include <mem/physmap.h>
#include <mmu/walk.h>

#define N_TLB      1024U
#define N_LARGE    64U
#define N_PDC      64U
#define NO_ADDR    UINT64_MAX
#define LARGE_MASK (~((UINT64_C(1) << 21) - 1))

#define ENTRIES    512U

/* What a nested entry allows, always: rights are the guest's business. */
#define RIGHTS (PTE_P | PTE_U)

struct ntlb_entry {
	uint64_t addr; /* guest physical page, or NO_ADDR */
	uint64_t ma;   /* machine page, bit 0 set if writable and dirty */
};

struct pdc_entry {
	uint64_t region; /* gpa >> 21, or NO_ADDR */
	uint64_t table;
};

/* All members belong to the processor's thread. */
struct nested {
	struct guestmem *mem;
	struct machine *machine;
	struct tlb *tlb;
	struct mmu_stats *stats;
	bool large_pages;
	bool caches;
	uint32_t n_refs; /* see nested_take_refs() */
	ma_t root;
	uint64_t end; /* first guest physical address behind RAM */
	/*
	 * By level of the table (1 and 2) and number of the region it covers: how many of
	 * its entries map home frames with all their rights.
	 */
	uint16_t *full[3];
	struct ntlb_entry ntlb[N_TLB];
	struct ntlb_entry large[N_LARGE]; /* of 2 MiB */
	struct pdc_entry pdc[N_PDC];
};

static uint64_t *table_ptr(const struct nested *n, uint64_t table)
{
	return (uint64_t *)(void *)machine_ptr(n->machine, ma(table));
}

static void forget_tables(struct nested *n)
{
	for (unsigned int i = 0; i < N_PDC; i++)
		n->pdc[i].region = NO_ADDR;
	for (unsigned int i = 0; i < N_LARGE; i++)
		n->large[i].addr = NO_ADDR;
}

static void forget_page(struct nested *n, uint64_t addr)
{
	struct ntlb_entry *e = &n->ntlb[addr >> PAGE_SHIFT & (N_TLB - 1)];

	if (e->addr == (addr & PAGE_MASK))
		e->addr = NO_ADDR;
}

static unsigned int shift_of(unsigned int level)
{
	return walk_long.level[level].shift;
}

static int new_table(struct nested *n, uint64_t *ret_table)
{
	ma_t table;
	const int r = machine_table_alloc(n->machine, &table);

	if (r < 0)
		return r;
	*ret_table = table.v;
	n->stats->tables++;
	if (n->stats->tables > n->stats->tables_peak)
		n->stats->tables_peak = n->stats->tables;
	n->stats->table_bytes = n->stats->tables * PAGE_SIZE;
	n->stats->table_bytes_peak = n->stats->tables_peak * PAGE_SIZE;
	return 0;
}

static void free_table(struct nested *n, uint64_t table)
{
	machine_table_free(n->machine, ma(table));
	n->stats->tables--;
	n->stats->table_bytes -= PAGE_SIZE;
}

/* Whether an entry of a table of @level can become part of a page of the next size. */
static bool is_full(const struct nested *n, unsigned int level, uint64_t addr,
		    uint64_t entry)
{
	const uint64_t base = addr & ~((UINT64_C(1) << shift_of(level)) - 1);
	ppn_t page;

	if (!(entry & PTE_P) || !(entry & PTE_W) ||
	    (level > 1 && !(entry & PTE_PS)))
		return false;
	return guestmem_ppn(n->mem, gpa(base), &page) &&
	       (entry & PTE_ADDR) == MACHINE_HOME + page.v * PAGE_SIZE;
}

/* The one place where an entry changes. @addr: any address that it covers. */
static void set_entry(struct nested *n, unsigned int level, uint64_t addr,
		      uint64_t *slot, uint64_t entry)
{
	if (level < 3) {
		uint16_t *full = &n->full[level][addr >> shift_of(level + 1)];

		*full = (uint16_t)(*full - is_full(n, level, addr, *slot) +
				   is_full(n, level, addr, entry));
	}
	if (level == 1)
		forget_page(n, addr);
	else
		forget_tables(n);
	*slot = entry;
}

static uint64_t *slot_in(const struct nested *n, uint64_t table,
			 unsigned int level, uint64_t addr)
{
	return table_ptr(n, table) + (addr >> shift_of(level) & (ENTRIES - 1));
}

/*
 * The slot of an address at the last level that exists; *level is where it stopped: 1,
 * a large entry, or an entry that is not present.
 */
static uint64_t *find_slot(const struct nested *n, uint64_t addr,
			   unsigned int *level)
{
	uint64_t *slot = slot_in(n, n->root.v, 4, addr);

	*level = 4;
	while (*level > 1 && (*slot & PTE_P) && !(*slot & PTE_PS)) {
		(*level)--;
		slot = slot_in(n, *slot & PTE_ADDR, *level, addr);
	}
	return slot;
}

/* Replace a large entry by a table of the next smaller pages. */
static int split(struct nested *n, unsigned int level, uint64_t addr,
		 uint64_t *slot)
{
	const uint64_t old = *slot;
	const unsigned int below = level - 1;
	const uint64_t step = UINT64_C(1) << shift_of(below);
	uint64_t table;
	const int r = new_table(n, &table);

	if (r < 0)
		return r;

	uint64_t piece = old;

	if (below == 1)
		piece &= ~PTE_PS;
	for (unsigned int i = 0; i < ENTRIES; i++)
		table_ptr(n, table)[i] = piece + i * step;
	n->full[below][addr >> shift_of(level)] = ENTRIES;
	set_entry(n, level, addr, slot, table | RIGHTS | PTE_W | PTE_A);
	return 0;
}

/* Put one large entry in the place of a table that is full; so on for the next size. */
static void promote(struct nested *n, uint64_t addr)
{
	for (unsigned int level = 1; level < 3; level++) {
		if (!n->large_pages ||
		    n->full[level][addr >> shift_of(level + 1)] != ENTRIES)
			return;

		uint64_t table = n->root.v;
		uint64_t *slot = NULL;

		for (unsigned int l = 4; l > level; l--) {
			slot = slot_in(n, table, l, addr);
			table = *slot & PTE_ADDR;
		}
		const uint64_t first = table_ptr(n, table)[0];

		n->full[level][addr >> shift_of(level + 1)] = 0;
		set_entry(n, level + 1, addr, slot, first | PTE_PS);
		free_table(n, table);
	}
}

/* Enter a page; builds the tables above it. */
static int enter(struct nested *n, uint64_t addr, const struct mem_page *page)
{
	uint64_t entry = page->ma.v | RIGHTS | PTE_A;
	unsigned int level;
	uint64_t *slot = find_slot(n, addr, &level);

	if (page->writable)
		entry |= PTE_W | PTE_D;
	while (level > 1) {
		uint64_t table;
		int r;

		/* A large entry maps whole pages at home: what it denies it never will. */
		VERIFY(!(*slot & PTE_P));
		r = new_table(n, &table);
		if (r < 0)
			return r;
		set_entry(n, level, addr, slot, table | RIGHTS | PTE_W | PTE_A);
		slot = find_slot(n, addr, &level);
	}
	/* Reads may have been cached from where the page was until now. */
	if ((*slot & PTE_P) && (*slot & PTE_ADDR) != page->ma.v)
		tlb_flush_all(n->tlb);
	set_entry(n, 1, addr, slot, entry);
	promote(n, addr);
	return 0;
}

enum mem_status nested_fill(struct nested *n,
			    const struct nested_violation *violation)
{
	const gpa_t addr = gpa(violation->info2);
	const bool write = violation->info1 & PF_W;
	struct mem_page page;
	enum mem_status st;

	n->stats->nested_violations++;
	st = guestmem_resolve(n->mem, addr, write ? MEM_WRITE : MEM_READ, &page);
	if (st != MEM_OK)
		return st;
	return enter(n, addr.v, &page) < 0 ? MEM_NO_HOST_MEMORY : MEM_OK;
}

/* The processor's part. */

static bool violate(struct nested_violation *v, gpa_t addr, unsigned int access,
		    uint64_t bits)
{
	v->info1 = bits | PF_U | (access & (PF_W | PF_I)) |
		   (access & NESTED_TABLE ? NESTED_INFO_TABLE
					  : NESTED_INFO_FINAL);
	v->info2 = addr.v;
	return false;
}

static void begin_walk(struct nested *n, struct walk *w, uint64_t addr)
{
	const struct pdc_entry *c = &n->pdc[addr >> 21 & (N_PDC - 1)];

	walk_init(w, &walk_long, n->root.v, addr, 0);
	if (c->region == addr >> 21) {
		w->table = c->table;
		w->level = 1;
	}
}

static bool walk_tables(struct nested *n, gpa_t addr, unsigned int access,
			struct mem_page *ret, struct nested_violation *v)
{
	struct walk w;
	enum walk_step step;
	uint64_t *slot;
	uint32_t n_refs = 0;

	begin_walk(n, &w, addr.v);
	do {
		slot = (uint64_t *)(void *)machine_ptr(n->machine,
						       ma(walk_entry_addr(&w)));
		n_refs++;
		step = walk_next(&w, *slot);
		if (step == WALK_TABLE)
			*slot |= PTE_A;
	} while (step == WALK_TABLE);
	n->stats->nested_refs += n_refs;

	if (step == WALK_ABSENT)
		return violate(v, addr, access, 0);
	if (step == WALK_RESERVED)
		return violate(v, addr, access, PF_P | PF_RSVD);
	if (!(w.rights & WALK_U) ||
	    ((access & NESTED_WRITE) && !(w.rights & WALK_W)) ||
	    ((access & NESTED_FETCH) && !(w.rights & WALK_X)))
		return violate(v, addr, access, PF_P);
	*slot |= access & NESTED_WRITE ? PTE_A | PTE_D : PTE_A;
	n->n_refs += n_refs;

	ret->ma = ma(walk_target(&w));
	ret->writable = (w.rights & WALK_W) && (*slot & PTE_D);
	if (!n->caches)
		return true;
	if (w.level == 1) {
		struct pdc_entry *c = &n->pdc[addr.v >> 21 & (N_PDC - 1)];

		c->region = addr.v >> 21;
		c->table = w.table;
	}
	/* Nested entries of ours never forbid fetches, so the TLBs need no bit for it. */
	if (!(w.rights & WALK_X))
		return true;
	if (w.level > 1) {
		struct ntlb_entry *e = &n->large[addr.v >> 21 & (N_LARGE - 1)];

		e->addr = addr.v & LARGE_MASK;
		e->ma = (ret->ma.v & LARGE_MASK) | ret->writable;
	} else {
		struct ntlb_entry *e = &n->ntlb[addr.v >> PAGE_SHIFT & (N_TLB - 1)];

		e->addr = addr.v & PAGE_MASK;
		e->ma = (ret->ma.v & PAGE_MASK) | ret->writable;
	}
	return true;
}

bool nested_translate(struct nested *n, gpa_t addr, unsigned int access,
		      struct mem_page *ret,
		      struct nested_violation *ret_violation)
{
	const struct ntlb_entry *e = &n->ntlb[addr.v >> PAGE_SHIFT & (N_TLB - 1)];

	if (access & NESTED_TABLE)
		access |= NESTED_WRITE;
	if (likely(e->addr == (addr.v & PAGE_MASK)) &&
	    (!(access & NESTED_WRITE) || (e->ma & 1))) {
		ret->ma = ma((e->ma & PAGE_MASK) | (addr.v & ~PAGE_MASK));
		ret->writable = e->ma & 1;
		return true;
	}
	e = &n->large[addr.v >> 21 & (N_LARGE - 1)];
	if (e->addr == (addr.v & LARGE_MASK) &&
	    (!(access & NESTED_WRITE) || (e->ma & 1))) {
		ret->ma = ma((e->ma & LARGE_MASK) | (addr.v & ~LARGE_MASK));
		ret->writable = e->ma & 1;
		return true;
	}
	return walk_tables(n, addr, access, ret, ret_violation);
}

enum mem_status nested_access(struct nested *n, gpa_t addr, unsigned int access,
			      struct mem_page *ret)
{
	struct nested_violation v;

	while (!nested_translate(n, addr, access, ret, &v)) {
		const enum mem_status st = nested_fill(n, &v);

		if (st != MEM_OK)
			return st;
	}
	return MEM_OK;
}

unsigned int nested_take_refs(struct nested *n)
{
	const unsigned int n_refs = n->n_refs;

	n->n_refs = 0;
	return n_refs;
}

bool nested_unmap(struct nested *n, ppn_t page)
{
	const uint64_t addr = guestmem_gpa(n->mem, page).v;
	unsigned int level;
	uint64_t *slot = find_slot(n, addr, &level);

	if (!(*slot & PTE_P))
		return false;
	while (level > 1 && split(n, level, addr, slot) == 0)
		slot = find_slot(n, addr, &level);
	/* Without memory to split a large entry all of it goes, and comes back in pieces. */
	for (unsigned int i = 0; level > 1 && i < N_TLB; i++)
		n->ntlb[i].addr = NO_ADDR;
	set_entry(n, level, addr, slot, 0);
	n->stats->zaps++;
	return true;
}

/* Life cycle. */

static int alloc_full(struct nested *n)
{
	for (unsigned int level = 1; level < 3; level++) {
		const unsigned int shift = shift_of(level + 1);
		const uint64_t regions = (n->end >> shift) + 1;

		n->full[level] = calloc(regions, sizeof(*n->full[level]));
		if (n->full[level] == NULL)
			return -ENOMEM;
	}
	return 0;
}

int nested_new(struct guestmem *mem, struct tlb *tlb,
	       const struct mmu_options *opt, struct mmu_stats *stats,
	       struct nested **ret_nested, struct err *err)
{
	struct nested *n = calloc(1, sizeof(*n));
	const uint64_t pages = guestmem_ram_bytes(mem) >> PAGE_SHIFT;

	if (n == NULL)
		return err_set(err, -ENOMEM, "no memory for nested paging");
	n->mem = mem;
	n->machine = guestmem_machine(mem);
	n->tlb = tlb;
	n->stats = stats;
	n->large_pages = opt->large_pages;
	n->caches = opt->structure_caches;
	n->end = guestmem_gpa(mem, ppn(pages - 1)).v + PAGE_SIZE;
	for (unsigned int i = 0; i < N_TLB; i++)
		n->ntlb[i].addr = NO_ADDR;
	forget_tables(n);
	if (alloc_full(n) < 0 || new_table(n, &n->root.v) < 0) {
		nested_free(n);
		return err_set(err, -ENOMEM, "no memory for nested page tables");
	}
	*ret_nested = n;
	return 0;
}

static void free_below(struct nested *n, uint64_t table, unsigned int level)
{
	const uint64_t *entry = table_ptr(n, table);

	for (unsigned int i = 0; level > 1 && i < ENTRIES; i++)
		if ((entry[i] & PTE_P) && !(entry[i] & PTE_PS))
			free_below(n, entry[i] & PTE_ADDR, level - 1);
	free_table(n, table);
}

struct nested *nested_free(struct nested *n)
{
	if (n == NULL)
		return NULL;
	if (n->root.v != 0)
		free_below(n, n->root.v, 4);
	free(n->full[1]);
	free(n->full[2]);
	free(n);
	return NULL;
}

ma_t nested_root(const struct nested *n)
{
	return n->root;
}

/* Audit. */

struct audit {
	struct nested *n;
	struct err *err;
	int64_t checked;
};

static bool audit_page(struct audit *a, uint64_t addr, uint64_t page_ma,
		       bool writable)
{
	ppn_t page;

	if (!guestmem_ppn(a->n->mem, gpa(addr), &page)) {
		err_set(a->err, -EILSEQ,
			"nested entry for %#lx, which is not RAM", addr);
		return false;
	}
	const uint64_t e = physmap_load(guestmem_physmap(a->n->mem), page);
	const enum physmap_state state = physmap_stable_state(e);
	uint64_t want = MACHINE_HOME + page.v * PAGE_SIZE;
	bool may_write = true;

	if (state != PHYSMAP_HOME) {
		may_write = false;
		want = state == PHYSMAP_ZERO
			       ? MACHINE_ZERO
			       : MACHINE_GROUP + physmap_slot(e) * PAGE_SIZE;
	}
	if (state > PHYSMAP_SHARED || page_ma != want ||
	    (writable && !may_write)) {
		err_set(a->err, -EILSEQ,
			"nested entry of %#lx is machine page %#lx%s, the physmap says %s",
			addr, page_ma, writable ? " writable" : "",
			physmap_state_name(state));
		return false;
	}
	return true;
}

static bool audit_leaf(struct audit *a, unsigned int level, uint64_t addr,
		       uint64_t entry)
{
	const uint64_t bytes = UINT64_C(1) << shift_of(level);

	a->checked++;
	for (uint64_t off = 0; off < bytes; off += PAGE_SIZE)
		if (!audit_page(a, addr + off, (entry & PTE_ADDR) + off,
				entry & PTE_W))
			return false;
	return true;
}

static bool audit_table(struct audit *a, unsigned int level, uint64_t addr,
			uint64_t table)
{
	unsigned int full = 0;

	for (unsigned int i = 0; i < ENTRIES; i++) {
		const uint64_t entry = table_ptr(a->n, table)[i];
		const uint64_t at = addr + ((uint64_t)i << shift_of(level));
		bool ok = true;

		if (!(entry & PTE_P))
			continue;
		full += level < 3 && is_full(a->n, level, at, entry);
		if (level == 1 || (entry & PTE_PS))
			ok = audit_leaf(a, level, at, entry);
		else
			ok = audit_table(a, level - 1, at, entry & PTE_ADDR);
		if (!ok)
			return false;
	}
	if (level < 3 && a->n->full[level][addr >> shift_of(level + 1)] != full) {
		err_set(a->err, -EILSEQ, "count of home pages at %#lx is wrong",
			addr);
		return false;
	}
	return true;
}

static bool audit_large_tlb(struct audit *a)
{
	for (unsigned int i = 0; i < N_LARGE; i++) {
		const struct ntlb_entry *e = &a->n->large[i];

		if (e->addr == NO_ADDR)
			continue;
		for (uint64_t off = 0; off <= ~LARGE_MASK; off += PAGE_SIZE)
			if (!audit_page(a, e->addr + off,
					(e->ma & LARGE_MASK) + off, e->ma & 1))
				return false;
		a->checked++;
	}
	return true;
}

int64_t nested_audit(struct nested *n, struct err *err)
{
	struct audit a = {.n = n, .err = err};

	if (!audit_table(&a, 4, 0, n->root.v))
		return -EILSEQ;
	for (unsigned int i = 0; i < N_TLB; i++) {
		const struct ntlb_entry *e = &n->ntlb[i];

		if (e->addr != NO_ADDR &&
		    !audit_page(&a, e->addr, e->ma & PAGE_MASK, e->ma & 1))
			return -EILSEQ;
		a.checked += e->addr != NO_ADDR;
	}
	return audit_large_tlb(&a) ? a.checked : -EILSEQ;
}

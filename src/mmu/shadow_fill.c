/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's walk of shadow tables, and hidden faults: filling in what it missed. */
#include <assert.h>
#include <errno.h>

#include <mem/physmap.h>
#include <mmu/shadow_impl.h>

static_assert(MACHINE_HOME == 0, "a home frame's machine address tells its PPN");

/* A guest entry with every right: what stands above and in tables without a guest's. */
#define FULL (PTE_P | PTE_W | PTE_U | PTE_A | PTE_D)

static uint64_t table_ma(const struct shadow_table *t)
{
	return MACHINE_TABLE + (uint64_t)t->idx * PAGE_SIZE;
}

/* Return: whether all levels above the start allow stores in place. */
static bool begin_walk(struct shadow *s, gva_t addr, struct walk *w)
{
	const struct psc_entry *e;
	unsigned int level;

	walk_init(w, &walk_long, table_ma(s->root), addr.v, 0);
	if (!s->mmu->opt.structure_caches)
		return true;
	e = psc_find(&s->psc, &walk_long, addr.v, &level);
	if (e == NULL)
		return true;
	w->table = e->table;
	w->rights = e->rights & WALK_ALL;
	w->level = (uint8_t)level;
	return e->rights & PSC_DIRTY;
}

static void learn_table(struct shadow *s, const struct walk *w, bool dirty)
{
	if (s->mmu->opt.structure_caches)
		psc_put(&s->psc, &walk_long, w->level, w->addr,
			(struct psc_entry){
				.table = w->table,
				.host = machine_ptr(s->machine, ma(w->table)),
				.rights = w->rights | (dirty ? PSC_DIRTY : 0),
			});
}

/* The whole walk of most addresses: their last level's table is known. */
static bool walk_last(struct shadow *s, const struct psc_entry *e, gva_t addr,
		      struct shadow_hit *ret_hit)
{
	const unsigned int i = addr.v >> PAGE_SHIFT & (SHADOW_ENTRIES - 1);
	const uint64_t entry = ((const uint64_t *)(void *)e->host)[i];

	s->mmu->stats.shadow_refs++;
	if (!(entry & PTE_P))
		return false;
	*ret_hit = (struct shadow_hit){
		.entry = entry,
		.rights = e->rights & walk_rights(entry),
		.dirty = (e->rights & PSC_DIRTY) && (entry & PTE_D),
		.n_refs = 1,
	};
	/* A private page is in its home frame, which lies at its PPN. */
	if (likely(entry & SHADOW_PRIVATE_BIT))
		ret_hit->ppn = ppn((entry & PTE_ADDR) >> PAGE_SHIFT);
	else
		ret_hit->ppn = ppn(*shadow_ppn(shadow_child(s, e->table), i));
	return true;
}

static bool walk_all(struct shadow *s, gva_t addr, struct shadow_hit *ret_hit)
{
	struct walk w;
	enum walk_step step;
	unsigned int n_refs = 0;
	bool dirty;

	if (s->root == NULL)
		return false;
	dirty = begin_walk(s, addr, &w);
	do {
		uint64_t *slot = (uint64_t *)(void *)
			machine_ptr(s->machine, ma(walk_entry_addr(&w)));
		const uint64_t entry = *slot;

		n_refs++;
		step = walk_next(&w, entry);
		if (step != WALK_TABLE)
			break;
		dirty = dirty && (entry & PTE_D);
		if (!(entry & PTE_A))
			*slot = entry | PTE_A;
		learn_table(s, &w, dirty);
	} while (true);
	s->mmu->stats.shadow_refs += n_refs;
	if (step != WALK_LEAF)
		return false;

	*ret_hit = (struct shadow_hit){
		.entry = w.entry,
		.rights = w.rights,
		.dirty = dirty && (w.entry & PTE_D),
		.n_refs = n_refs,
	};
	if (likely(w.entry & SHADOW_PRIVATE_BIT))
		ret_hit->ppn = ppn(walk_target(&w) >> PAGE_SHIFT);
	else
		ret_hit->ppn = ppn(
			*shadow_ppn(shadow_child(s, w.table), walk_index(&w)));
	return true;
}

bool shadow_walk(struct shadow *s, gva_t addr, struct shadow_hit *ret_hit)
{
	const struct psc_entry *e = psc_last(&s->psc, addr.v);

	return likely(e != NULL) ? walk_last(s, e, addr, ret_hit)
				 : walk_all(s, addr, ret_hit);
}

/* Whether 2 MiB of RAM from a frame on are all at home. */
static bool shadow_frame_is_home(struct shadow *s, uint64_t gfn, ppn_t *ret_ppn)
{
	const struct physmap *map = guestmem_physmap(s->mmu->mem);
	const uint64_t last_gfn = gfn + SHADOW_ENTRIES - 1;
	ppn_t first, last;

	if (!guestmem_ppn(s->mmu->mem, gpa(gfn << PAGE_SHIFT), &first) ||
	    !guestmem_ppn(s->mmu->mem, gpa(last_gfn << PAGE_SHIFT), &last) ||
	    last.v - first.v != SHADOW_ENTRIES - 1)
		return false;
	for (uint64_t p = first.v; p <= last.v; p++)
		if (physmap_load(map, ppn(p)) != PHYSMAP_HOME_ENTRY)
			return false;
	*ret_ppn = first;
	return true;
}

/* Make the entry of @addr in @t lead to @child, as the guest's entry says. */
static int link_child(struct shadow *s, struct shadow_table *t, gva_t addr,
		      uint64_t guest, struct shadow_table *child)
{
	const unsigned int i = shadow_index(t, addr.v);
	const uint64_t old = t->entry[i];
	const uint64_t new = shadow_table_entry(guest, child);

	child->pin = s->fill_seq;
	if (shadow_reserve(s, t, i) < 0)
		return -ENOMEM;
	if ((old & ~PTE_A) == new)
		return 0;
	shadow_sync_below(s, child);
	shadow_set(s, t, i, new, 0);
	return 0;
}

static struct shadow_table *child_for(struct shadow *s, struct shadow_table *t,
				      gva_t addr, uint64_t guest, uint64_t gfn,
				      uint32_t role, uint8_t *host)
{
	const uint64_t old = t->entry[shadow_index(t, addr.v)];
	struct shadow_table *child = NULL;

	if ((old & PTE_P) && !shadow_is_leaf(t, old)) {
		child = shadow_child(s, old);
		if (child->gfn != gfn || child->role != role)
			child = NULL;
	}
	if (child == NULL && !(role & SHADOW_PRIVATE))
		child = shadow_find(s, gfn, role);
	if (child == NULL)
		child = shadow_create(s, gfn, role, host);
	if (child == NULL || link_child(s, t, addr, guest, child) < 0)
		return NULL;
	child->writes = 0;
	return child;
}

static int set_leaf(struct shadow *s, struct shadow_table *t, gva_t addr,
		    uint64_t guest, const struct mem_page *page,
		    unsigned int size)
{
	const unsigned int i = shadow_index(t, addr.v);

	if (shadow_reserve(s, t, i) < 0)
		return -ENOMEM;
	shadow_set(s, t, i,
		   shadow_leaf_entry(guest, ma(page->ma.v & PAGE_MASK),
				     page->writable, size),
		   page->ppn.v);
	return 0;
}

static uint32_t direct_role(uint64_t guest, unsigned int level, bool huge)
{
	const uint32_t key = (guest & SHADOW_KEY_MASK) >> PTE_PKEY_SHIFT;

	return level | SHADOW_DIRECT | (huge ? SHADOW_HUGE : 0) |
	       (guest & PTE_G ? SHADOW_GLOBAL : 0) | key << SHADOW_KEY_SHIFT;
}

/* Below a large page: all rights, and what the processor looks up in the leaf only. */
static uint64_t direct_guest(uint64_t guest)
{
	return FULL | (guest & (PTE_G | SHADOW_KEY_MASK));
}

/* 2 MiB of a large page, in one entry or in a table of small ones. */
static int fill_large(struct shadow *s, struct shadow_table *t, gva_t addr,
		      uint64_t guest, uint64_t gfn, unsigned int size,
		      const struct mem_page *page)
{
	const unsigned int i = shadow_index(t, addr.v);
	const uint64_t old = t->entry[i];
	struct shadow_table *child = NULL;
	ppn_t first;

	if ((old & PTE_P) && !(old & PTE_PS))
		child = shadow_child(s, old);
	/* Looking at all pages is worth it once, and when the last one was touched. */
	if (s->mmu->opt.large_pages &&
	    (child == NULL || child->n_present >= SHADOW_ENTRIES - 1) &&
	    shadow_frame_is_home(s, gfn, &first)) {
		if (shadow_reserve(s, t, i) < 0)
			return -ENOMEM;
		shadow_set(s, t, i,
			   shadow_leaf_entry(guest,
					     ma(MACHINE_HOME +
						first.v * PAGE_SIZE),
					     true, size) |
				   PTE_PS,
			   0);
		return 0;
	}
	child = child_for(s, t, addr, guest, gfn,
			  direct_role(guest, 1, size == 2), NULL);
	if (child == NULL)
		return -ENOMEM;
	return set_leaf(s, child, addr, direct_guest(guest), page, size);
}

static int fill_huge(struct shadow *s, struct shadow_table *t, gva_t addr,
		     uint64_t guest, uint64_t gfn, const struct mem_page *page)
{
	struct shadow_table *child = child_for(s, t, addr, guest, gfn,
					       direct_role(guest, 2, true),
					       NULL);
	const uint64_t part = (addr.v >> 21 & (SHADOW_ENTRIES - 1)) *
			      SHADOW_ENTRIES;

	if (child == NULL)
		return -ENOMEM;
	return fill_large(s, child, addr, direct_guest(guest), gfn + part, 2,
			  page);
}

bool shadow_prefetch(struct shadow *s, struct shadow_table *t, unsigned int i)
{
	const uint64_t guest = shadow_guest_entry(t, i);
	const uint64_t rsvd = walk_long.level[1].leaf_rsvd |
			      (t->role & SHADOW_NXE ? 0 : PTE_NX);
	ppn_t page;

	if ((guest & (PTE_P | PTE_A)) != (PTE_P | PTE_A) || (guest & rsvd) ||
	    !guestmem_ppn(s->mmu->mem, gpa(guest & PTE_ADDR), &page) ||
	    physmap_load(guestmem_physmap(s->mmu->mem), page) !=
		    PHYSMAP_HOME_ENTRY)
		return false;
	shadow_set(s, t, i,
		   shadow_leaf_entry(guest, ma(MACHINE_HOME + page.v * PAGE_SIZE),
				     true, 0),
		   page.v);
	return true;
}

static void prefetch_near(struct shadow *s, struct shadow_table *t,
			  unsigned int i)
{
	const unsigned int first = i & ~(SHADOW_PREFETCH - 1);

	for (unsigned int j = first; j < first + SHADOW_PREFETCH; j++)
		if (!(t->entry[j] & PTE_P) && shadow_prefetch(s, t, j))
			s->mmu->stats.prefetches++;
}

static int fill_mirror(struct shadow *s, const struct guest_walk *g, gva_t addr,
		       const struct mem_page *page)
{
	const unsigned int leaf = g->w.level;
	const uint64_t guest = g->ref[leaf].entry;
	struct shadow_table *t = s->root;

	for (unsigned int l = 4; l > leaf; l--) {
		const struct guest_ref *below = &g->ref[l - 1];

		t = child_for(s, t, addr, g->ref[l].entry,
			      below->addr.v >> PAGE_SHIFT,
			      shadow_mirror_role(s, l - 1),
			      below->host - (below->addr.v & ~PAGE_MASK));
		if (t == NULL)
			return -ENOMEM;
	}
	if (leaf == 3)
		return fill_huge(s, t, addr, guest,
				 walk_page_base(&g->w) >> PAGE_SHIFT, page);
	if (leaf == 2)
		return fill_large(s, t, addr, guest,
				  walk_page_base(&g->w) >> PAGE_SHIFT, 1, page);
	if (set_leaf(s, t, addr, guest, page, 0) < 0)
		return -ENOMEM;
	if (s->mmu->opt.prefetch)
		prefetch_near(s, t, shadow_index(t, addr.v));
	return 0;
}

/* A fill speaks for all tables on its way: they are still used as tables. */
static void note_use(struct shadow *s, gva_t addr, struct shadow_table *last)
{
	struct shadow_table *t = s->root;

	while (t != last) {
		t->writes = 0;
		t = shadow_child(s, t->entry[shadow_index(t, addr.v)]);
	}
	last->writes = 0;
}

bool shadow_refill(struct shadow *s, gva_t addr, bool write)
{
	struct shadow_table *t;
	unsigned int i;

	if (!s->mmu->opt.prefetch)
		return false;
	t = shadow_last_table(s, addr);
	if (t == NULL || !shadow_is_mirror(t))
		return false;
	i = shadow_index(t, addr.v);
	if ((t->entry[i] & PTE_P) || !t->group[i / SHADOW_GROUP] ||
	    (write && !(shadow_guest_entry(t, i) & PTE_D)) ||
	    !shadow_prefetch(s, t, i))
		return false;
	note_use(s, addr, t);
	prefetch_near(s, t, i);
	return true;
}

/* The sum of what the guest's tables say, as if it were one entry. */
static uint64_t private_guest(const struct guest_walk *g)
{
	uint64_t e = PTE_P | PTE_A;

	if (g == NULL)
		return FULL;
	e |= g->w.entry & (PTE_D | PTE_G);
	if (g->w.rights & WALK_W)
		e |= PTE_W;
	if (g->w.rights & WALK_U)
		e |= PTE_U;
	if (!(g->w.rights & WALK_X))
		e |= PTE_NX;
	return e;
}

static unsigned int size_code(unsigned int page_shift)
{
	switch (page_shift) {
	case 21:
		return 1;
	case 30:
		return 2;
	case 22:
		return 3;
	default:
		return 0;
	}
}

static int fill_private(struct shadow *s, const struct guest_walk *g, gva_t addr,
			const struct mmu_xlat *x, const struct mem_page *page)
{
	struct shadow_table *t = s->root;

	for (unsigned int l = 4; l > 1; l--) {
		t = child_for(s, t, addr, FULL, 0, (l - 1) | SHADOW_PRIVATE,
			      NULL);
		if (t == NULL)
			return -ENOMEM;
	}
	return set_leaf(s, t, addr, private_guest(g), page,
			size_code(x->page_shift));
}

int shadow_fill(struct shadow *s, const struct guest_walk *g, gva_t addr,
		const struct mmu_xlat *x, const struct mem_page *page)
{
	const bool mirror = s->mmu->paging.fmt == &walk_long;
	int r;

	s->fill_seq++;
	if (s->root == NULL && mirror) {
		const struct guest_ref *top = &g->ref[4];

		s->root = shadow_create(s, top->addr.v >> PAGE_SHIFT,
					shadow_mirror_role(s, 4),
					top->host - (top->addr.v & ~PAGE_MASK));
		s->mmu->stats.roots_built++;
	} else if (s->root == NULL) {
		s->root = shadow_create(s, 0, 4 | SHADOW_PRIVATE, NULL);
	}
	if (s->root == NULL)
		return -ENOMEM;
	s->root->pin = s->fill_seq;
	s->root->writes = 0;
	r = mirror ? fill_mirror(s, g, addr, page)
		   : fill_private(s, g, addr, x, page);
	/* Nothing stays pinned. */
	s->fill_seq++;
	return r;
}

void shadow_set_root(struct shadow *s)
{
	const struct paging *p = &s->mmu->paging;

	shadow_flush_private(s);
	s->root = NULL;
	psc_flush(&s->psc);
	if (p->fmt != &walk_long)
		return;
	s->root = shadow_find(s, (p->root & p->fmt->root_mask) >> PAGE_SHIFT,
			      shadow_mirror_role(s, 4));
	if (s->root == NULL)
		return;
	s->root->used = true;
	s->mmu->stats.root_hits++;
}

void shadow_flush_private(struct shadow *s)
{
	if (s->root && (s->root->role & SHADOW_PRIVATE))
		shadow_destroy(s, s->root);
}

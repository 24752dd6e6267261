/* SPDX-License-Identifier: Apache-2.0 */
/* Walk of the guest's tables. [SDM3 4.7 "Page-Fault Exceptions", 4.8 "Accessed and Dirty Flags"] */
#include <mmu/guest_walk.h>

#include <string.h>

static uint64_t load_entry(const uint8_t *host, unsigned int bytes)
{
	/* The guest may store to it from another processor: one plain load. */
	if (bytes == 4)
		return __atomic_load_n((const uint32_t *)(const void *)host,
				       __ATOMIC_RELAXED);
	return __atomic_load_n((const uint64_t *)(const void *)host,
			       __ATOMIC_RELAXED);
}

static bool swap_entry(uint8_t *host, unsigned int bytes, uint64_t old,
		       uint64_t new)
{
	if (bytes == 4) {
		uint32_t old32 = (uint32_t)old;

		return __atomic_compare_exchange_n((uint32_t *)(void *)host,
						   &old32, (uint32_t) new,
						   false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	}
	return __atomic_compare_exchange_n((uint64_t *)(void *)host, &old, new,
					   false, __ATOMIC_SEQ_CST,
					   __ATOMIC_RELAXED);
}

/* Reads the next entry of the path. Return: false if the VM stops. */
static bool read_ref(struct guest_walk *g, const struct table_ops *ops,
		     void *ctx, uint64_t *ret_entry)
{
	struct guest_ref *r = &g->ref[g->w.level];

	r->addr = gpa(walk_entry_addr(&g->w));
	if (g->host != NULL) {
		r->host = g->host + (r->addr.v & ~PAGE_MASK);
		g->host = NULL;
	} else {
		const enum mem_status st = ops->ref(ctx, r->addr, &r->host);

		if (st == MEM_NOT_RAM)
			r->host = NULL;
		else if (st != MEM_OK)
			return false;
	}
	g->n_refs++;
	if (r->host != NULL)
		r->entry = load_entry(r->host, g->w.fmt->entry_bytes);
	else
		r->entry = g->w.fmt->entry_bytes == 4 ? UINT32_MAX : UINT64_MAX;
	*ret_entry = r->entry;
	return true;
}

static enum guest_walk_status fault(struct guest_walk *g, const struct paging *p,
				    unsigned int access, uint32_t bits)
{
	g->fault_code = paging_fault_code(p, access) | bits;
	return GUEST_WALK_FAULT;
}

enum guest_walk_status guest_walk_read(struct guest_walk *g,
				       const struct paging *p,
				       unsigned int access,
				       const struct table_ops *ops, void *ctx)
{
	const uint64_t epoch = ops->epoch(ctx);
	enum walk_step step;

	g->first = g->w.level;
	g->first_rights = g->w.rights;
	g->n_refs = 0;
	do {
		uint64_t entry;

		if (!read_ref(g, ops, ctx, &entry))
			return GUEST_WALK_STOPPED;
		step = walk_next(&g->w, entry);
	} while (step == WALK_TABLE);

	/* A table's page was taken while another one was waited for. */
	if (unlikely(ops->epoch(ctx) != epoch))
		return GUEST_WALK_CHANGED;
	if (step == WALK_ABSENT)
		return fault(g, p, access, 0);
	if (step == WALK_RESERVED)
		return fault(g, p, access, PF_P | PF_RSVD);

	const bool key = unlikely(p->keys) &&
			 paging_key_denies(p, g->w.rights, g->w.entry, access);

	if (key || !paging_allows(p, g->w.rights, access))
		return fault(g, p, access, PF_P | (key ? PF_PK : 0));
	return GUEST_WALK_OK;
}

enum guest_walk_status guest_walk_mark(struct guest_walk *g, unsigned int access,
				       const struct table_ops *ops, void *ctx)
{
	const struct walk_format *fmt = g->w.fmt;

	for (unsigned int l = g->first; l >= g->w.level; l--) {
		struct guest_ref *r = &g->ref[l];
		uint64_t want = PTE_A;

		if (fmt->level[l].plain)
			continue;
		if (l == g->w.level && (access & MMU_ACC_WRITE))
			want |= PTE_D;
		if ((r->entry & want) == want)
			continue;
		if (!swap_entry(r->host, fmt->entry_bytes, r->entry,
				r->entry | want))
			return GUEST_WALK_CHANGED;
		r->entry |= want;
		ops->written(ctx, r->addr, fmt->entry_bytes);
	}
	g->w.entry = g->ref[g->w.level].entry;
	return GUEST_WALK_OK;
}

void guest_walk_describe(const struct guest_walk *g, const struct paging *p,
			 unsigned int access, struct mmu_xlat *ret)
{
	const struct walk *w = &g->w;
	const unsigned int read = access & ~(unsigned int)(MMU_ACC_WRITE |
							   MMU_ACC_FETCH);
	const unsigned int write = read | MMU_ACC_WRITE;

	*ret = (struct mmu_xlat){
		.gpa = gpa(walk_target(w)),
		.read = paging_permits(p, w->rights, w->entry, read),
		.write = (w->entry & PTE_D) &&
			 paging_permits(p, w->rights, w->entry, write),
		.global = p->pge && (w->entry & PTE_G),
		.smap_window = p->smap && (w->rights & WALK_U) &&
			       !(access & MMU_ACC_USER),
		.page_shift = (uint8_t)walk_page_shift(w),
	};
}

void paging_off_describe(gva_t addr, struct mmu_xlat *ret)
{
	*ret = (struct mmu_xlat){
		.gpa = gpa(addr.v & UINT32_MAX),
		.read = true,
		.write = true,
		.page_shift = PAGE_SHIFT,
	};
}

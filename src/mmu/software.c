/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Software mode: the modelled processor walks shadow tables. What it does not find there
 * the VMM looks up in the guest's own tables: either these do not allow the access, a
 * true fault, or only the shadow lacks it, a hidden fault.
 */
#include <errno.h>

#include <mmu/mode.h>
#include <mmu/shadow.h>

static enum mem_status table_ref(void *ctx, gpa_t addr, uint8_t **ret_host)
{
	struct mmu *mmu = ctx;
	struct mem_page page;
	/* As in hardware mode references count as writes: marks are made in place. */
	const enum mem_status st = guestmem_resolve(mmu->mem, addr, MEM_WRITE,
						    &page);

	if (st == MEM_OK)
		*ret_host = machine_ptr(guestmem_machine(mmu->mem),
					ma_add(page.ma, addr.v & ~PAGE_MASK));
	return st;
}

static const struct table_ops table_ops = {
	.ref = table_ref,
	.written = mmu_walk_wrote,
	.epoch = mmu_epoch,
};

static const uint8_t page_shifts[] = {12, 21, 30, 22};

/* What the processor makes of a leaf it found. Return: true if the access may go on. */
static bool use_hit(const struct mmu *mmu, const struct shadow_hit *h,
		    gva_t addr, unsigned int access, struct mmu_xlat *ret)
{
	const struct paging *p = &mmu->paging;
	const uint64_t offset = addr.v & ~PAGE_MASK;
	const unsigned int read = access & ~(unsigned int)(MMU_ACC_WRITE |
							   MMU_ACC_FETCH);
	const unsigned int write = read | MMU_ACC_WRITE;
	uint64_t page = h->entry & PTE_ADDR;

	/*
	 * A page that is not writable yet has W clear for either of two reasons; D tells
	 * them apart for the supervisor that ignores W.
	 */
	if ((access & MMU_ACC_WRITE) && !h->dirty)
		return false;
	if (!paging_permits(p, h->rights, h->entry, access))
		return false;
	if (h->entry & PTE_PS)
		page = MACHINE_HOME + h->ppn.v * PAGE_SIZE;
	*ret = (struct mmu_xlat){
		.gpa = gpa_add(guestmem_gpa(mmu->mem, h->ppn), offset),
		.ma = ma(page + offset),
		.ppn = h->ppn,
		.read = paging_permits(p, h->rights, h->entry, read),
		.write = h->dirty &&
			 paging_permits(p, h->rights, h->entry, write),
		.global = p->pge && (h->entry & PTE_G),
		.smap_window = p->smap && (h->rights & WALK_U) &&
			       !(access & MMU_ACC_USER),
		.page_shift = page_shifts[h->entry >> 9 & 3],
	};
	return true;
}

static enum guest_walk_status walk_guest(struct mmu *mmu, gva_t addr,
					 unsigned int access,
					 struct guest_walk *g)
{
	enum guest_walk_status st;

	do {
		guest_walk_begin(g, &mmu->paging, addr);
		st = guest_walk_read(g, &mmu->paging, access, &table_ops, mmu);
		mmu->stats.guest_refs += g->n_refs;
		if (st == GUEST_WALK_OK)
			st = guest_walk_mark(g, access, &table_ops, mmu);
	} while (st == GUEST_WALK_CHANGED);
	return st;
}

/*
 * The shadow did not allow the access. Return: MMU_OK to try again.
 */
static enum mmu_result shadow_miss(struct mmu *mmu, gva_t addr,
				   unsigned int access, struct mmu_xlat *ret)
{
	const bool paging = mmu->paging.fmt != NULL;
	const uint64_t epoch = mmu_epoch(mmu);
	struct guest_walk g;
	struct mem_page page;

	if (paging) {
		const enum guest_walk_status st = walk_guest(mmu, addr, access,
							     &g);

		if (st == GUEST_WALK_STOPPED)
			return MMU_STOPPED;
		if (st == GUEST_WALK_FAULT) {
			*ret = (struct mmu_xlat){.fault_code = g.fault_code};
			return MMU_FAULT;
		}
		guest_walk_describe(&g, &mmu->paging, access, ret);
	} else {
		paging_off_describe(addr, ret);
	}
	switch (guestmem_resolve(mmu->mem, ret->gpa,
				 access & MMU_ACC_WRITE ? MEM_WRITE : MEM_READ,
				 &page)) {
	case MEM_OK:
		break;
	case MEM_NOT_RAM:
		return MMU_MMIO;
	case MEM_STOPPED:
	case MEM_NO_HOST_MEMORY:
		return MMU_STOPPED;
	}
	/* A page was taken meanwhile, perhaps one of the tables: look again. */
	if (mmu_epoch(mmu) != epoch)
		return MMU_OK;
	mmu->stats.hidden_faults++;
	return shadow_fill(mmu->shadow, paging ? &g : NULL, addr, ret, &page)
		       ? MMU_STOPPED
		       : MMU_OK;
}

static void invlpg(struct mmu *mmu, gva_t addr)
{
	tlb_flush_page(mmu->tlb, addr);
	shadow_sync_page(mmu->shadow, addr);
	/* A large page may have many private entries. */
	shadow_flush_private(mmu->shadow);
}

static enum mmu_result translate(struct mmu *mmu, gva_t addr,
				 unsigned int access, struct mmu_xlat *ret)
{
	struct shadow_hit hit;
	enum mmu_result r;

	do {
		if (shadow_walk(mmu->shadow, addr, &hit) &&
		    use_hit(mmu, &hit, addr, access, ret)) {
			mmu->stats.found[hit.n_refs]++;
			return MMU_OK;
		}
		if (shadow_refill(mmu->shadow, addr, access & MMU_ACC_WRITE)) {
			mmu->stats.hidden_faults++;
			r = MMU_OK;
		} else {
			r = shadow_miss(mmu, addr, access, ret);
		}
	} while (r == MMU_OK);

	if (r == MMU_FAULT) {
		/* A fault takes what is cached for its address with it. */
		mmu->stats.guest_faults++;
		invlpg(mmu, addr);
	}
	return r;
}

static void regs_changed(struct mmu *mmu, bool flush)
{
	if (flush)
		tlb_flush_all(mmu->tlb);
	shadow_sync_all(mmu->shadow);
	shadow_set_root(mmu->shadow);
}

static void load_cr3(struct mmu *mmu, uint64_t old_cr3, bool flush)
{
	if (!flush && old_cr3 == mmu->regs.cr3)
		return;
	tlb_flush_nonglobal(mmu->tlb);
	shadow_sync_all(mmu->shadow);
	shadow_set_root(mmu->shadow);
}

static void invpcid(struct mmu *mmu, unsigned int type, uint64_t pcid,
		    gva_t addr)
{
	/* Entering another address space synchronizes everything. */
	if (type < 2 && pcid != mmu_pcid(mmu))
		return;
	if (type == 0) {
		invlpg(mmu, addr);
		return;
	}
	if (type == 2)
		tlb_flush_all(mmu->tlb);
	else
		tlb_flush_nonglobal(mmu->tlb);
	shadow_sync_all(mmu->shadow);
	shadow_flush_private(mmu->shadow);
}

static void table_written(struct mmu *mmu, gpa_t addr, uint64_t len)
{
	shadow_written(mmu->shadow, addr, len);
}

static void unmap(struct mmu *mmu, ppn_t page)
{
	/* Entries that are gone from the shadow may still be in the software TLB. */
	shadow_unmap(mmu->shadow, page);
	tlb_flush_all(mmu->tlb);
}

static int64_t audit(struct mmu *mmu, struct err *err)
{
	return shadow_audit(mmu->shadow, err);
}

static int init(struct mmu *mmu, struct err *err)
{
	return shadow_new(mmu, &mmu->shadow, err);
}

static void release(struct mmu *mmu)
{
	mmu->shadow = shadow_free(mmu->shadow);
}

const struct mode_ops mode_software = {
	.init = init,
	.release = release,
	.translate = translate,
	.regs_changed = regs_changed,
	.load_cr3 = load_cr3,
	.invlpg = invlpg,
	.invpcid = invpcid,
	.table_written = table_written,
	.unmap = unmap,
	.audit = audit,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hardware mode: the modelled processor walks the guest's tables, and nested tables for
 * every guest physical address that it meets.
 *
 * The order of events is the processor's: at each guest level the nested walk of the
 * entry's address comes before the entry is looked at, the guest's rights are checked
 * before the final address is translated, and accessed and dirty bits may be set although
 * the final address then causes an exit; the access is made again after it.
 */
#include <errno.h>
#include <stdlib.h>

#include <mmu/mode.h>
#include <mmu/nested.h>
#include <mmu/psc.h>

static enum mem_status table_ref(void *ctx, gpa_t addr, uint8_t **ret_host)
{
	struct mmu *mmu = ctx;
	struct mem_page page;
	const enum mem_status st = nested_access(mmu->nested, addr,
						 NESTED_TABLE, &page);

	if (st == MEM_OK)
		*ret_host = machine_ptr(guestmem_machine(mmu->mem), page.ma);
	return st;
}

static const struct table_ops table_ops = {
	.ref = table_ref,
	.written = mmu_walk_wrote,
	.epoch = mmu_epoch,
};

/* One attempt. */
static enum guest_walk_status walk_once(struct mmu *mmu, gva_t addr,
					unsigned int access,
					struct guest_walk *g)
{
	enum guest_walk_status st;
	bool cached = false;

	(void)nested_take_refs(mmu->nested);
	guest_walk_begin(g, &mmu->paging, addr);
	if (mmu->opt.structure_caches)
		cached = psc_begin(mmu->psc, g);
	st = guest_walk_read(g, &mmu->paging, access, &table_ops, mmu);
	mmu->stats.guest_refs += g->n_refs;
	if (st == GUEST_WALK_FAULT && cached) {
		/*
		 * A fault takes what is cached for the address with it; software
		 * that gave more rights without a flush may count on that.
		 */
		psc_flush(mmu->psc);
		return GUEST_WALK_CHANGED;
	}
	if (st == GUEST_WALK_OK)
		st = guest_walk_mark(g, access, &table_ops, mmu);
	return st;
}

/* The walk's last part: @guest_refs were made before it. */
static enum mmu_result finish(struct mmu *mmu, unsigned int access,
			      unsigned int guest_refs, struct mmu_xlat *ret)
{
	const unsigned int kind = access &
				  (unsigned int)(MMU_ACC_WRITE | MMU_ACC_FETCH);
	struct mem_page page;

	switch (nested_access(mmu->nested, ret->gpa, kind, &page)) {
	case MEM_OK:
		break;
	case MEM_NOT_RAM:
		return MMU_MMIO;
	case MEM_STOPPED:
	case MEM_NO_HOST_MEMORY:
		return MMU_STOPPED;
	}
	mmu->stats.found[guest_refs + nested_take_refs(mmu->nested)]++;
	ret->ma = page.ma;
	ret->write = ret->write && page.writable;
	return guestmem_ppn(mmu->mem, ret->gpa, &ret->ppn) ? MMU_OK : MMU_MMIO;
}

static enum mmu_result translate(struct mmu *mmu, gva_t addr,
				 unsigned int access, struct mmu_xlat *ret)
{
	struct guest_walk g;
	enum guest_walk_status st;

	if (mmu->paging.fmt == NULL) {
		(void)nested_take_refs(mmu->nested);
		paging_off_describe(addr, ret);
		return finish(mmu, access, 0, ret);
	}
	do {
		st = walk_once(mmu, addr, access, &g);
	} while (st == GUEST_WALK_CHANGED);

	if (st == GUEST_WALK_STOPPED)
		return MMU_STOPPED;
	if (st == GUEST_WALK_FAULT) {
		*ret = (struct mmu_xlat){.fault_code = g.fault_code};
		mmu->stats.guest_faults++;
		/* A fault takes what is cached for its address with it. */
		tlb_flush_page(mmu->tlb, addr);
		return MMU_FAULT;
	}
	if (mmu->opt.structure_caches)
		psc_learn(mmu->psc, &g);
	guest_walk_describe(&g, &mmu->paging, access, ret);
	return finish(mmu, access, g.n_refs, ret);
}

static void regs_changed(struct mmu *mmu, bool flush)
{
	if (flush)
		tlb_flush_all(mmu->tlb);
	psc_flush(mmu->psc);
}

static void load_cr3(struct mmu *mmu, uint64_t old_cr3, bool flush)
{
	/*
	 * The software TLB and the structure caches hold one address space; going on
	 * in the same one, as CR3 bit 63 permits, is the only case with nothing to do.
	 */
	if (!flush && old_cr3 == mmu->regs.cr3)
		return;
	tlb_flush_nonglobal(mmu->tlb);
	psc_flush(mmu->psc);
}

static void invlpg(struct mmu *mmu, gva_t addr)
{
	tlb_flush_page(mmu->tlb, addr);
	psc_flush(mmu->psc);
}

static void invpcid(struct mmu *mmu, unsigned int type, uint64_t pcid,
		    gva_t addr)
{
	/* Nothing is cached for a PCID that is not current. */
	if (type < 2 && pcid != mmu_pcid(mmu))
		return;
	switch (type) {
	case 0:
		tlb_flush_page(mmu->tlb, addr);
		break;
	case 2:
		tlb_flush_all(mmu->tlb);
		break;
	default:
		tlb_flush_nonglobal(mmu->tlb);
		break;
	}
	psc_flush(mmu->psc);
}

static void table_written(struct mmu *mmu, gpa_t addr, uint64_t len)
{
	(void)mmu;
	(void)addr;
	(void)len;
}

static void unmap(struct mmu *mmu, ppn_t page)
{
	if (!nested_unmap(mmu->nested, page))
		return;
	psc_flush(mmu->psc);
	tlb_flush_all(mmu->tlb);
}

static int64_t audit(struct mmu *mmu, struct err *err)
{
	return nested_audit(mmu->nested, err);
}

static int init(struct mmu *mmu, struct err *err)
{
	mmu->psc = calloc(1, sizeof(*mmu->psc));
	if (mmu->psc == NULL)
		return err_set(err, -ENOMEM, "no memory for structure caches");
	psc_init(mmu->psc);
	return nested_new(mmu->mem, mmu->tlb, &mmu->opt, &mmu->stats,
			  &mmu->nested, err);
}

static void release(struct mmu *mmu)
{
	mmu->nested = nested_free(mmu->nested);
	free(mmu->psc);
}

const struct mode_ops mode_hardware = {
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

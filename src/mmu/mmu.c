/* SPDX-License-Identifier: Apache-2.0 */
/* The MMU of one virtual processor: life cycle, control registers, and the choice of mode. */
#include <mmu/mmu.h>

#include <errno.h>
#include <stdlib.h>

#include <mmu/mode.h>

struct mmu_options mmu_options_default(void)
{
	return (struct mmu_options){
		.mode = MMU_HARDWARE,
		.structure_caches = true,
		.large_pages = true,
		.prefetch = true,
		.out_of_sync = true,
	};
}

int mmu_new(struct guestmem *mem, struct tlb *tlb,
	    const struct mmu_options *opt, struct mmu **ret_mmu, struct err *err)
{
	struct mmu *mmu = calloc(1, sizeof(*mmu));
	int r;

	if (mmu == NULL)
		return err_set(err, -ENOMEM, "no memory for an MMU");
	mmu->mem = mem;
	mmu->tlb = tlb;
	mmu->opt = *opt;
	mmu->ops = opt->mode == MMU_HARDWARE ? &mode_hardware : &mode_software;
	paging_derive(&mmu->paging, &mmu->regs);
	r = mmu->ops->init(mmu, err);
	if (r < 0) {
		mmu_free(mmu);
		return r;
	}
	*ret_mmu = mmu;
	return 0;
}

struct mmu *mmu_free(struct mmu *mmu)
{
	if (mmu == NULL)
		return NULL;
	mmu->ops->release(mmu);
	free(mmu);
	return NULL;
}

enum mmu_result mmu_translate(struct mmu *mmu, gva_t addr, unsigned int access,
			      struct mmu_xlat *ret)
{
	mmu->stats.walks++;
	return mmu->ops->translate(mmu, addr, access, ret);
}

/* Bits whose change gives cached translations another meaning, or must flush by the manual. */
#define CR0_MEANING (CR0_PG | CR0_WP)
#define CR4_MEANING                                                    \
	(CR4_PSE | CR4_PAE | CR4_PGE | CR4_SMEP | CR4_SMAP | CR4_PKE | \
	 CR4_PCIDE)
#define EFER_MEANING (EFER_NXE | EFER_LMA)

void mmu_set_regs(struct mmu *mmu, const struct mmu_regs *regs)
{
	const struct mmu_regs old = mmu->regs;
	const bool keys = (old.cr4 | regs->cr4) & CR4_PKE;
	const bool meaning = ((old.cr0 ^ regs->cr0) & CR0_MEANING) ||
			     ((old.cr4 ^ regs->cr4) & CR4_MEANING) ||
			     ((old.efer ^ regs->efer) & EFER_MEANING) ||
			     (keys && old.pkru != regs->pkru);
	const uint64_t cr3 = regs->cr3 & ~CR3_NOFLUSH;

	mmu->regs = *regs;
	mmu->regs.cr3 = cr3;
	if (!meaning && cr3 == old.cr3)
		return;
	paging_derive(&mmu->paging, &mmu->regs);
	if (meaning)
		mmu->ops->regs_changed(mmu, true);
	else
		mmu->ops->load_cr3(mmu, old.cr3, true);
}

void mmu_load_cr3(struct mmu *mmu, uint64_t cr3)
{
	const uint64_t old = mmu->regs.cr3;
	const bool keep = (cr3 & CR3_NOFLUSH) && (mmu->regs.cr4 & CR4_PCIDE);

	mmu->regs.cr3 = cr3 & ~CR3_NOFLUSH;
	mmu->paging.root = mmu->regs.cr3;
	mmu->ops->load_cr3(mmu, old, !keep);
}

void mmu_invlpg(struct mmu *mmu, gva_t addr)
{
	mmu->ops->invlpg(mmu, addr);
}

void mmu_invpcid(struct mmu *mmu, unsigned int type, uint64_t pcid, gva_t addr)
{
	mmu->ops->invpcid(mmu, type, pcid, addr);
}

void mmu_table_written(struct mmu *mmu, gpa_t addr, uint64_t len)
{
	if (!mmu->marking)
		mmu->ops->table_written(mmu, addr, len);
}

void mmu_unmap(struct mmu *mmu, ppn_t page)
{
	mmu->ops->unmap(mmu, page);
}

const struct mmu_stats *mmu_stats(const struct mmu *mmu)
{
	return &mmu->stats;
}

int64_t mmu_audit(struct mmu *mmu, struct err *err)
{
	return mmu->ops->audit(mmu, err);
}

uint64_t mmu_epoch(void *ctx)
{
	const struct mmu *mmu = ctx;

	return guestmem_epoch(mmu->mem);
}

void mmu_walk_wrote(void *ctx, gpa_t addr, uint64_t len)
{
	struct mmu *mmu = ctx;
	ppn_t page;

	if (!guestmem_ppn(mmu->mem, addr, &page) ||
	    guestmem_flags(mmu->mem)[page.v] == 0)
		return;
	mmu->marking = true;
	guestmem_tell_written(mmu->mem, addr, len);
	mmu->marking = false;
}

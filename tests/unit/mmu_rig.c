/* SPDX-License-Identifier: Apache-2.0 */
/* An MMU and what it needs around it. */
#include "mmu_rig.h"

#include <errno.h>
#include <string.h>

static void unmap_hook(void *ctx, ppn_t page)
{
	struct mmu_rig *r = ctx;

	mmu_unmap(r->mmu, page);
}

static void written_hook(void *ctx, gpa_t addr, uint64_t len)
{
	struct mmu_rig *r = ctx;

	mmu_table_written(r->mmu, addr, len);
}

static const struct guestmem_ops hooks = {
	.unmap = unmap_hook,
	.written = written_hook,
};

int mmu_rig_init(struct mmu_rig *r, uint64_t ram_bytes,
		 const struct mmu_options *opt, struct err *err)
{
	int ret;

	memset(r, 0, sizeof(*r));
	ret = guestmem_new(ram_bytes, &r->mem, err);
	if (ret < 0)
		return ret;
	r->machine = guestmem_machine(r->mem);
	ret = tlb_init(&r->tlb, ram_bytes / PAGE_SIZE);
	if (ret < 0) {
		guestmem_free(r->mem);
		return err_set(err, ret, "no memory for a software TLB");
	}
	ret = mmu_new(r->mem, &r->tlb, opt, &r->mmu, err);
	if (ret < 0) {
		tlb_release(&r->tlb);
		guestmem_free(r->mem);
		return ret;
	}
	guestmem_set_ops(r->mem, &hooks, r);
	return 0;
}

uint64_t mmu_rig_release(struct mmu_rig *r)
{
	uint64_t left;

	mmu_free(r->mmu);
	left = machine_table_pages(r->machine);
	tlb_release(&r->tlb);
	guestmem_free(r->mem);
	return left;
}

bool mmu_rig_put(struct mmu_rig *r, uint64_t addr, uint64_t v)
{
	return guestmem_write(r->mem, gpa(addr), &v, sizeof(v));
}

uint64_t mmu_rig_get(struct mmu_rig *r, uint64_t addr)
{
	uint64_t v = 0;

	return guestmem_read(r->mem, gpa(addr), &v, sizeof(v)) ? v : 0;
}

void mmu_rig_fill_tlb(struct mmu_rig *r, gva_t addr, const struct mmu_xlat *x)
{
	const struct tlb_fill f = {
		.addr = gva(addr.v & PAGE_MASK),
		.host = machine_ptr(r->machine, ma(x->ma.v & PAGE_MASK)),
		.ppn = x->ppn,
		.read = x->read,
		.write = x->write && !guestmem_flags(r->mem)[x->ppn.v],
		.global = x->global,
		.smap_window = x->smap_window,
		.page_shift = x->page_shift,
	};

	tlb_fill(&r->tlb, &f);
}

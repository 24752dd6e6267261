/* SPDX-License-Identifier: Apache-2.0 */
/* An MMU and what it needs around it, wired as the engine does; for tests and benchmarks. */
#ifndef TESTS_UNIT_MMU_RIG_H
#define TESTS_UNIT_MMU_RIG_H
#include <arch/x86.h>
#include <mmu/mmu.h>

/**
 * struct mmu_rig - one MMU.
 * @mem: guest memory, owned; its hooks lead to @mmu
 * @machine: of @mem
 * @tlb: the software TLB
 * @mmu: the MMU, with paging off
 */
struct mmu_rig {
	struct guestmem *mem;
	struct machine *machine;
	struct tlb tlb;
	struct mmu *mmu;
};

/**
 * mmu_rig_init() - make guest memory of zeros, a software TLB and an MMU.
 * @ram_bytes: size of guest memory
 * @opt: mode and switches
 * @err: message on failure
 *
 * Return: 0 or -errno, with nothing left to release.
 */
int mmu_rig_init(struct mmu_rig *r, uint64_t ram_bytes,
		 const struct mmu_options *opt, struct err *err)
	__attribute__((warn_unused_result));

/**
 * mmu_rig_release() - end it.
 * Return: table pages of the MMU that were left over; any is a bug of ours.
 */
uint64_t mmu_rig_release(struct mmu_rig *r);

/** mmu_rig_put() - store a word as a device does, by copying. Return: false if it is no RAM. */
bool mmu_rig_put(struct mmu_rig *r, uint64_t addr, uint64_t v);

/** mmu_rig_get() - what a word of guest memory is; 0 if it is no RAM. */
uint64_t mmu_rig_get(struct mmu_rig *r, uint64_t addr);

/** mmu_rig_fill_tlb() - enter a translation of the page at @addr, as the processor does. */
void mmu_rig_fill_tlb(struct mmu_rig *r, gva_t addr, const struct mmu_xlat *x);

/** mmu_rig_long_mode() - control state of long mode with NX and write protection. */
static inline struct mmu_regs mmu_rig_long_mode(uint64_t cr3)
{
	return (struct mmu_regs){
		.cr0 = CR0_PE | CR0_PG | CR0_WP,
		.cr3 = cr3,
		.cr4 = CR4_PAE,
		.efer = EFER_LME | EFER_LMA | EFER_NXE,
	};
}

#endif

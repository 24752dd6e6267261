/* SPDX-License-Identifier: Apache-2.0 */
/* A second, plain opinion on address translation: no caches, no tables of constants. */
#ifndef TESTS_UNIT_MMU_MODEL_H
#define TESTS_UNIT_MMU_MODEL_H
#include <mmu/mmu.h>

#define MODEL_MAX_SETS 4

/**
 * struct model_result - what an access to an address must come to.
 * @kind: MMU_OK, MMU_FAULT or MMU_MMIO
 * @code: page-fault error code
 * @gpa: guest physical address
 * @page_shift: size of the guest's page
 * @global: its leaf has G and CR4.PGE is set
 * @n_refs: entries read
 * @ref: their addresses
 * @n_sets: entries whose accessed or dirty bit must be set
 * @set: where, and what the entry becomes
 * @entry_bytes: 4 or 8
 */
struct model_result {
	enum mmu_result kind;
	uint32_t code;
	uint64_t gpa;
	unsigned int page_shift;
	bool global;
	unsigned int n_refs;
	uint64_t ref[MODEL_MAX_SETS];
	unsigned int n_sets;
	struct {
		uint64_t addr;
		uint64_t value;
	} set[MODEL_MAX_SETS];
	unsigned int entry_bytes;
};

/**
 * model_access() - walk the tables in guest memory, changing nothing.
 * @mem: guest memory
 * @regs: control state
 * @va: canonical address
 * @access: MMU_ACC_* bits
 * @ret: outcome
 */
void model_access(struct guestmem *mem, const struct mmu_regs *regs,
		  uint64_t va, unsigned int access, struct model_result *ret);

/** model_apply() - set the accessed and dirty bits that model_access() found due. */
void model_apply(struct guestmem *mem, const struct model_result *result);

#endif

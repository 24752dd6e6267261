/* SPDX-License-Identifier: Apache-2.0 */
/* The two modes behind one table of functions, and what they share. */
#ifndef MMU_MODE_H
#define MMU_MODE_H
#include <mmu/guest_walk.h>
#include <mmu/mmu.h>
#include <mmu/paging.h>

/**
 * struct mode_ops - one way to virtualize memory.
 *
 * @init and @release make and free the mode's own members of the MMU; @translate, @invlpg,
 * @invpcid, @table_written, @unmap and @audit are as the functions of mmu.h of these names.
 *
 * @regs_changed: mmu.regs and mmu.paging are new; @flush says what the change requires
 * @load_cr3: mmu.regs.cr3 and mmu.paging.root are new; @flush as above
 */
struct mode_ops {
	int (*init)(struct mmu *mmu, struct err *err);
	void (*release)(struct mmu *mmu);
	enum mmu_result (*translate)(struct mmu *mmu, gva_t addr,
				     unsigned int access, struct mmu_xlat *ret);
	void (*regs_changed)(struct mmu *mmu, bool flush);
	void (*load_cr3)(struct mmu *mmu, uint64_t old_cr3, bool flush);
	void (*invlpg)(struct mmu *mmu, gva_t addr);
	void (*invpcid)(struct mmu *mmu, unsigned int type, uint64_t pcid,
			gva_t addr);
	void (*table_written)(struct mmu *mmu, gpa_t addr, uint64_t len);
	void (*unmap)(struct mmu *mmu, ppn_t page);
	int64_t (*audit)(struct mmu *mmu, struct err *err);
};

extern const struct mode_ops mode_hardware;
extern const struct mode_ops mode_software;

struct nested;
struct psc;
struct shadow;

/**
 * struct mmu - the MMU of one virtual processor; used by its thread only.
 * @mem: guest memory, not owned
 * @tlb: the processor's software TLB, not owned
 * @ops: the mode's functions
 * @opt: switches
 * @regs: control state as last told
 * @paging: derived from @regs
 * @marking: the walk's own store is being told; its table needs no following
 * @stats: counters
 * @nested: hardware: nested tables, owned
 * @psc: hardware: paging-structure caches, owned
 * @shadow: software: shadow tables, owned
 */
struct mmu {
	struct guestmem *mem;
	struct tlb *tlb;
	const struct mode_ops *ops;
	struct mmu_options opt;
	struct mmu_regs regs;
	struct paging paging;
	bool marking;
	struct mmu_stats stats;
	struct nested *nested;
	struct psc *psc;
	struct shadow *shadow;
};

/** mmu_walk_wrote() - struct table_ops.written of both modes; the context is the MMU. */
void mmu_walk_wrote(void *ctx, gpa_t addr, uint64_t len);

/** mmu_epoch() - struct table_ops.epoch of both modes; the context is the MMU. */
uint64_t mmu_epoch(void *ctx);

/** mmu_pcid() - the current process-context identifier, 0 without CR4.PCIDE. */
static inline uint64_t mmu_pcid(const struct mmu *mmu)
{
	return mmu->regs.cr4 & CR4_PCIDE ? mmu->regs.cr3 & CR3_PCID_MASK : 0;
}

#endif

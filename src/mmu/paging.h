/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest's control registers make of its page tables, worked out once per change:
 * format, reserved bits, and which rights allow which access.
 */
#ifndef MMU_PAGING_H
#define MMU_PAGING_H
#include <mmu/mmu.h>
#include <mmu/walk.h>

/**
 * struct paging - the paging mode of the guest.
 * @fmt: format of its tables, NULL while paging is off
 * @root: CR3
 * @rsvd: bits reserved in every entry
 * @allowed: indexed by paging_access_index(), bit r set if rights r (WALK_*) suffice;
 *           all while paging is off
 * @report_fetch: page faults tell fetches apart (EFER.NXE or CR4.SMEP)
 * @smap: supervisor accesses to user pages need EFLAGS.AC
 * @pge: global pages are on
 * @keys: protection keys are on
 * @wp: CR0.WP
 * @pkru: protection-key rights
 */
struct paging {
	const struct walk_format *fmt;
	uint64_t root;
	uint64_t rsvd;
	uint8_t allowed[16];
	bool report_fetch;
	bool smap;
	bool pge;
	bool keys;
	bool wp;
	uint32_t pkru;
};

/** paging_derive() - work it out. */
void paging_derive(struct paging *p, const struct mmu_regs *regs);

/** paging_access_index() - MMU_ACC_* bits packed: write 1, user 2, fetch 4, AC 8. */
static inline unsigned int paging_access_index(unsigned int access)
{
	return (access >> 1 & 3) | (access >> 2 & 4) | (access >> 5 & 8);
}

/**
 * paging_allows() - whether rights suffice for an access, protection keys apart.
 * @p: paging mode
 * @rights: WALK_* bits of all levels
 * @access: MMU_ACC_* bits
 */
static inline bool paging_allows(const struct paging *p, unsigned int rights,
				 unsigned int access)
{
	return p->allowed[paging_access_index(access)] >> rights & 1;
}

/**
 * paging_key_denies() - whether the protection key of a leaf forbids an access.
 * @p: paging mode
 * @rights: WALK_* bits of all levels
 * @entry: the leaf
 * @access: MMU_ACC_* bits
 */
bool paging_key_denies(const struct paging *p, unsigned int rights,
		       uint64_t entry, unsigned int access);

/** paging_permits() - whether rights suffice, protection keys included; parameters as above. */
static inline bool paging_permits(const struct paging *p, unsigned int rights,
				  uint64_t entry, unsigned int access)
{
	return paging_allows(p, rights, access) &&
	       (likely(!p->keys) ||
		!paging_key_denies(p, rights, entry, access));
}

/** paging_fault_code() - bits of the error code that stem from the access alone. */
static inline uint32_t paging_fault_code(const struct paging *p,
					 unsigned int access)
{
	return (access & (PF_W | PF_U)) | (p->report_fetch ? access & PF_I : 0);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory virtualization of one virtual processor: from guest virtual addresses to machine
 * addresses, in one of two modes that nothing above can tell apart.
 *
 *   MMU_HARDWARE  the modelled processor walks the guest's tables and, for every guest
 *                 physical address on the way, nested tables that we build.
 *   MMU_SOFTWARE  the modelled processor walks shadow tables that we build, one dimension.
 */
#ifndef MMU_MMU_H
#define MMU_MMU_H
#include <base/error.h>
#include <base/types.h>
#include <mem/guestmem.h>
#include <mmu/tlb.h>

enum mmu_mode {
	MMU_HARDWARE,
	MMU_SOFTWARE,
};

/* An access, as bits. The first ones have the values of the page-fault error code. */
enum mmu_access {
	MMU_ACC_READ = 0,
	MMU_ACC_WRITE = 1 << 1,
	MMU_ACC_USER = 1 << 2, /* CPL 3 and not implicit */
	MMU_ACC_FETCH = 1 << 4,
	MMU_ACC_AC = 1 << 8, /* EFLAGS.AC set at CPL < 3, explicit access: SMAP allows it */
};

/* Guest-visible outcome of a translation. */
enum mmu_result {
	MMU_OK,
	MMU_FAULT, /* guest page fault: code in ret->fault_code; CR2 is the address asked for */
	MMU_MMIO, /* not RAM: ret->gpa is the device address */
	MMU_STOPPED, /* the VM ends, or the host cannot provide memory: leave the run loop */
};

/**
 * struct mmu_xlat - a translation of one 4 KiB page for one kind of access.
 * @gpa: guest physical address of the byte asked for
 * @ma: machine address of the byte asked for (MMU_OK)
 * @ppn: page of guest RAM (MMU_OK)
 * @read: reads of this privilege are allowed as well
 * @write: stores may be done in place now: allowed, dirty bit set, page private
 * @global: guest page is global and CR4.PGE is set
 * @smap_window: allowed to this supervisor access only because AC is set
 * @page_shift: size of the guest's page (12, 21, 30)
 * @fault_code: page-fault error code (MMU_FAULT)
 */
struct mmu_xlat {
	gpa_t gpa;
	ma_t ma;
	ppn_t ppn;
	bool read;
	bool write;
	bool global;
	bool smap_window;
	uint8_t page_shift;
	uint32_t fault_code;
};

/**
 * struct mmu_regs - the control state that gives page tables their meaning.
 */
struct mmu_regs {
	uint64_t cr0;
	uint64_t cr3;
	uint64_t cr4;
	uint64_t efer;
	uint32_t pkru;
};

/**
 * struct mmu_options - switches; every optimisation can be turned off.
 * @mode: software or hardware
 * @structure_caches: paging-structure caches of the modelled walker, both dimensions
 * @large_pages: 2 MiB entries in nested or shadow tables where the physmap allows
 * @prefetch: shadow: fill entries that a hidden fault did not ask for, or without a whole walk
 * @out_of_sync: shadow: let last-level guest tables go out of sync
 * @shadow_bytes: shadow: bound of table memory; 0 for 1/64 of guest RAM, at least 2 MiB
 */
struct mmu_options {
	enum mmu_mode mode;
	bool structure_caches;
	bool large_pages;
	bool prefetch;
	bool out_of_sync;
	uint64_t shadow_bytes;
};

/* Four levels of guest tables, each reference and the result through four nested ones. */
#define MMU_MAX_REFS 24U

/**
 * struct mmu_stats - what a mode did. Fields of the other mode stay 0.
 */
struct mmu_stats {
	uint64_t walks; /* hardware walks = software-TLB misses that walked */
	uint64_t guest_refs;  /* table references, guest dimension */
	uint64_t nested_refs; /* table references, nested dimension */
	uint64_t shadow_refs; /* table references, shadow tables */
	/* walks that found a translation, by how many references they made */
	uint64_t found[MMU_MAX_REFS + 1];
	uint64_t nested_violations;
	uint64_t guest_faults;  /* true faults, reflected to the guest */
	uint64_t hidden_faults; /* shadow: filled and resumed */
	uint64_t traced_writes; /* shadow: stores to guest tables that were followed */
	uint64_t unsyncs;
	uint64_t resyncs;
	uint64_t prefetches;
	uint64_t zaps; /* entries removed */
	uint64_t roots_built;
	uint64_t root_hits; /* CR3 loads that found a cached root */
	uint64_t recycled;  /* shadow tables taken back at the bound */
	uint64_t tables;    /* tables in use now */
	uint64_t tables_peak;
	uint64_t table_bytes; /* memory of tables and of what is kept for them, now */
	uint64_t table_bytes_peak;
	uint64_t table_bytes_bound; /* shadow: what it may come to */
};

struct mmu;

/** mmu_options_default() - all optimisations on, hardware mode. */
struct mmu_options mmu_options_default(void);

/**
 * mmu_new() - the MMU of one virtual processor.
 * @mem: guest memory, outlives the MMU
 * @tlb: the processor's software TLB, which the MMU flushes as the architecture requires
 * @opt: switches, copied
 * @ret_mmu: set on success; ended with mmu_free()
 * @err: message on failure
 *
 * Return: 0 or -errno.
 */
int mmu_new(struct guestmem *mem, struct tlb *tlb,
	    const struct mmu_options *opt, struct mmu **ret_mmu,
	    struct err *err) __attribute__((warn_unused_result));

/** mmu_free() - end it; NULL is fine. Return: NULL. */
struct mmu *mmu_free(struct mmu *mmu);

/**
 * mmu_translate() - what the modelled processor does on a software-TLB miss.
 * @mmu: the MMU
 * @addr: canonical linear address (32 bits wide outside long mode)
 * @access: MMU_ACC_* bits
 * @ret: outcome
 *
 * Sets accessed and dirty bits of the guest's tables as the architecture says (and tells
 * guest memory's ops->written where such a table is flagged). With CR0.PG clear guest
 * virtual is guest physical. Page faults leave everything but A bits unchanged.
 *
 * Return: see enum mmu_result. Context: processor thread; may wait for a page.
 */
enum mmu_result mmu_translate(struct mmu *mmu, gva_t addr, unsigned int access,
			      struct mmu_xlat *ret);

/**
 * mmu_set_regs() - CR0, CR4, EFER or PKRU changed (CR3 too, when several change at once).
 * @mmu: memory management unit
 * @regs: the new values, already checked by the processor
 *
 * Flushes what the change requires. [SDM3 4.10.4.1 "Operations that Invalidate TLBs …"]
 */
void mmu_set_regs(struct mmu *mmu, const struct mmu_regs *regs);

/** mmu_load_cr3() - MOV to CR3 of @cr3, bit 63 included as the instruction gave it. */
void mmu_load_cr3(struct mmu *mmu, uint64_t cr3);

/** mmu_invlpg() - INVLPG of a linear address, in the current PCID. */
void mmu_invlpg(struct mmu *mmu, gva_t addr);

/** mmu_invpcid() - INVPCID, @type 0 to 3, already checked by the processor. */
void mmu_invpcid(struct mmu *mmu, unsigned int type, uint64_t pcid, gva_t addr);

/**
 * mmu_table_written() - after a store into a page that carries GUESTMEM_TABLE.
 * @mmu: memory management unit
 * @addr: guest physical address of the store, @len bytes, already done
 *
 * Shadow mode follows the guest's change. Does nothing in hardware mode.
 */
void mmu_table_written(struct mmu *mmu, gpa_t addr, uint64_t len);

/** mmu_unmap() - drop every entry and TLB entry for a page of RAM; safe point. */
void mmu_unmap(struct mmu *mmu, ppn_t page);

/** mmu_stats() - counters. */
const struct mmu_stats *mmu_stats(const struct mmu *mmu);

/**
 * mmu_audit() - recompute every entry that we built and compare.
 * @mmu: memory management unit
 * @err: says what differs first
 *
 * Return: number of entries checked, or -EILSEQ if one is wrong.
 */
int64_t mmu_audit(struct mmu *mmu, struct err *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nested paging: guest physical to machine addresses.
 *
 * Two parts play together as on real hardware. The modelled processor walks nested tables
 * (nested_translate()) and stops at the first entry that does not allow the access, with
 * the information of a nested page fault. The VMM (nested_fill()) asks guest memory for
 * the page and enters it; then the processor tries again.
 *
 * Entries are AMD's: x86-64 format, every access counts as a user access, and references
 * to the guest's tables count as writes. [APM2 15.25 "Nested Paging"]
 *
 * A table whose 512 entries all map home frames is replaced by one large entry, so large
 * pages arise where the physmap has them and no page changes its state for their sake.
 * Taking one of these pages splits the entry again.
 */
#ifndef MMU_NESTED_H
#define MMU_NESTED_H
#include <mmu/mmu.h>

struct nested;

/* EXITINFO1 of a nested page fault, above the bits of a page-fault error code. */
#define NESTED_INFO_FINAL BIT64(32) /* for the guest's final physical address */
#define NESTED_INFO_TABLE BIT64(33) /* for an entry of the guest's tables */

/* Kind of a nested access. */
enum nested_access {
	NESTED_READ = 0,
	NESTED_WRITE = 1 << 1,
	NESTED_FETCH = 1 << 4,
	NESTED_TABLE = 1 << 9, /* the guest's tables; implies NESTED_WRITE */
};

/**
 * struct nested_violation - why the processor left the guest.
 * @info1: EXITINFO1
 * @info2: EXITINFO2, the guest physical address
 */
struct nested_violation {
	uint64_t info1;
	uint64_t info2;
};

/**
 * nested_new() - nested tables, empty.
 * @mem: guest memory, outlives them
 * @tlb: flushed when a page that was mapped moves
 * @opt: switches
 * @stats: counters, updated
 * @ret_nested: set on success
 * @err: message on failure
 *
 * Return: 0 or -ENOMEM.
 */
int nested_new(struct guestmem *mem, struct tlb *tlb,
	       const struct mmu_options *opt, struct mmu_stats *stats,
	       struct nested **ret_nested, struct err *err)
	__attribute__((warn_unused_result));

/** nested_free() - give the tables back; NULL is fine. Return: NULL. */
struct nested *nested_free(struct nested *n);

/**
 * nested_translate() - the processor: walk the nested tables.
 * @n: tables
 * @addr: guest physical address
 * @access: NESTED_* bits
 * @ret: ma and writable are set on success
 * @ret_violation: set otherwise
 *
 * Return: true if the access is allowed.
 */
bool nested_translate(struct nested *n, gpa_t addr, unsigned int access,
		      struct mem_page *ret,
		      struct nested_violation *ret_violation);

/**
 * nested_fill() - the VMM: make the access that was stopped possible.
 * Return: MEM_OK to try again, MEM_NOT_RAM if a device or nothing is there, or why not.
 */
enum mem_status nested_fill(struct nested *n,
			    const struct nested_violation *violation);

/**
 * nested_access() - both in turn until the access works.
 * @n: nested tables
 * @addr: guest physical
 * @access: NESTED_* bits
 * @ret: ma of the byte asked for and writable are set on MEM_OK
 *
 * Return: MEM_OK, or why not, as nested_fill().
 */
enum mem_status nested_access(struct nested *n, gpa_t addr, unsigned int access,
			      struct mem_page *ret);

/**
 * nested_take_refs() - references of translations that succeeded since this was last called.
 *
 * What was read on the way to a violation is in mmu_stats only.
 */
unsigned int nested_take_refs(struct nested *n);

/**
 * nested_unmap() - drop the entry of a page.
 * Return: true if there was one.
 */
bool nested_unmap(struct nested *n, ppn_t page);

/** nested_audit() - compare every entry with the physmap. Return: as mmu_audit(). */
int64_t nested_audit(struct nested *n, struct err *err);

/** nested_root() - machine address of the root table (nCR3). */
ma_t nested_root(const struct nested *n);

#endif

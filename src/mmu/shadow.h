/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shadow page tables: guest virtual straight to machine addresses.
 *
 * A shadow table mirrors one table of the guest, entry by entry: the entry of a table
 * points to the shadow of the table that the guest's entry points to, with the guest's
 * rights at that level, so the processor combines rights on its way down as it would in
 * the guest's own tables, and one shadow serves a table that has many parents. Last-level
 * entries hold machine addresses. An entry is present only while the guest's accessed
 * bit is set, and writable only while its dirty bit is set and the machine page is the
 * VM's own; whatever is not present is found out by a hidden fault.
 *
 * Entry bits beyond the hardware's:
 *   bit 6 (D)   stores may be done in place as far as this level knows: the guest's
 *               dirty bit is set and the machine page is private. Supervisor stores to
 *               read-only pages with CR0.WP clear need it, since W is clear for them.
 *   bits 9-10   size of the guest's page, in a leaf
 *   bit 11      the machine page is private, in a leaf
 *
 * A guest table that has shadows is traced: its page carries GUESTMEM_TABLE, stores to it
 * come to shadow_written() and change the shadows at once. A last-level table that is
 * stored to again and again goes out of sync: its stores are free until the next event
 * at which a processor could have flushed its TLB, when the shadow is compared with the
 * table as it is then.
 *
 * Pages of the guest larger than the machine's are split by "direct" tables, which have
 * no guest table behind them. Tables in other formats than long mode's, and paging that
 * is off, are not mirrored: "private" tables hold what was asked for since the last flush.
 *
 * Memory for tables and their bookkeeping is bounded, and at the bound the tables that
 * were used least lately are recycled. Outside of the bound are what grows with guest
 * RAM alone: the heads of the reverse map (four bytes for each page that was ever
 * mapped, 1/1024 of guest RAM at most) and of the hash.
 *
 * LIMIT: shadow entries are 4 KiB or 2 MiB; a guest's 1 GiB page is split into these.
 */
#ifndef MMU_SHADOW_H
#define MMU_SHADOW_H
#include <mmu/mode.h>

struct shadow;

/** shadow_new() - no tables yet. Parameters from @mmu, not owned. Return: 0 or -ENOMEM. */
int shadow_new(struct mmu *mmu, struct shadow **ret_shadow, struct err *err)
	__attribute__((warn_unused_result));

/** shadow_free() - give everything back; NULL is fine. Return: NULL. */
struct shadow *shadow_free(struct shadow *s);

/**
 * struct shadow_hit - what the processor found in the shadow tables.
 * @entry: the leaf
 * @rights: WALK_* bits of all levels
 * @dirty: every level allows stores in place
 * @n_refs: entries read
 * @ppn: page of RAM
 */
struct shadow_hit {
	uint64_t entry;
	unsigned int rights;
	bool dirty;
	uint8_t n_refs;
	ppn_t ppn;
};

/** shadow_walk() - the processor: walk the shadow tables. Return: false if nothing is there. */
bool shadow_walk(struct shadow *s, gva_t addr, struct shadow_hit *ret_hit);

/**
 * shadow_refill() - the VMM: fill an empty entry of a last-level table that is there.
 * @s: shadow tables
 * @addr: address asked for
 * @write: the access is a store
 *
 * What stands above is in step with the guest's tables, so only the last one is asked, and
 * only if no accessed or dirty bit is due and the page is at home.
 *
 * Return: whether the entry was filled; else shadow_fill() has to do it.
 */
bool shadow_refill(struct shadow *s, gva_t addr, bool write);

/**
 * shadow_fill() - the VMM: enter what a walk of the guest's tables has found.
 * @s: shadow tables
 * @g: walk that succeeded and was marked, or NULL while paging is off
 * @addr: address asked for
 * @x: what the walk says of it
 * @page: where its page is; nothing was waited for since
 *
 * Return: 0, or -ENOMEM if the host has no page for a table.
 */
int shadow_fill(struct shadow *s, const struct guest_walk *g, gva_t addr,
		const struct mmu_xlat *x, const struct mem_page *page)
	__attribute__((warn_unused_result));

/** shadow_set_root() - CR3 or the paging mode is new: look its root up, and synchronize. */
void shadow_set_root(struct shadow *s);

/** shadow_sync_all() - compare all tables that are out of sync with the guest's. */
void shadow_sync_all(struct shadow *s);

/** shadow_sync_page() - the same for one address in the current address space. */
void shadow_sync_page(struct shadow *s, gva_t addr);

/** shadow_flush_private() - drop private tables, if these are in use. */
void shadow_flush_private(struct shadow *s);

/** shadow_written() - the guest has stored @len bytes at @addr, into traced tables. */
void shadow_written(struct shadow *s, gpa_t addr, uint64_t len);

/** shadow_unmap() - drop every entry for a page, and the shadows of it if it is a table. */
void shadow_unmap(struct shadow *s, ppn_t page);

/** shadow_audit() - as mmu_audit(). */
int64_t shadow_audit(struct shadow *s, struct err *err);

#endif

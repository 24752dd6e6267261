/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A walk of the guest's own tables, as the architecture defines it: reads, the check of
 * rights at the end, the error code, and the accessed and dirty bits.
 *
 * Accessed and dirty bits are set only once the access is known to be allowed, by
 * compare-and-swap with the entries that were read; when one has changed meanwhile
 * nothing of the walk counts and it is made again.
 */
#ifndef MMU_GUEST_WALK_H
#define MMU_GUEST_WALK_H
#include <mmu/paging.h>

/**
 * struct table_ops - how the guest's tables are reached.
 * @ref: host address of an entry, writable; MEM_NOT_RAM if there is no RAM at @addr
 * @written: the walk has stored @len bytes of accessed or dirty bits at @addr
 * @epoch: changes whenever a page that @ref handed out was taken away
 */
struct table_ops {
	enum mem_status (*ref)(void *ctx, gpa_t addr, uint8_t **ret_host);
	void (*written)(void *ctx, gpa_t addr, uint64_t len);
	uint64_t (*epoch)(void *ctx);
};

enum guest_walk_status {
	GUEST_WALK_OK,
	GUEST_WALK_FAULT,   /* fault_code says which; no table was changed */
	GUEST_WALK_CHANGED, /* the tables changed under the walk: begin again */
	GUEST_WALK_STOPPED, /* the VM stops, or the host has no memory for a table's page */
};

/* One entry that a walk has read. */
struct guest_ref {
	uint64_t entry;
	gpa_t addr;
	uint8_t *host; /* NULL where there is no RAM: all bits read as ones */
};

/**
 * struct guest_walk - a walk, its path and its outcome.
 * @w: the walk; begun with walk_init(), or further down from a structure cache
 * @host: host address of the page of table @w.table, or NULL to ask for it
 * @first: level of the first entry read
 * @first_rights: WALK_* bits that the entries above it allow
 * @ref: indexed by level: what was read there
 * @n_refs: entries read, over all attempts
 * @fault_code: page-fault error code
 */
struct guest_walk {
	struct walk w;
	uint8_t *host;
	uint8_t first;
	uint8_t first_rights;
	struct guest_ref ref[WALK_MAX_LEVELS + 1];
	uint32_t n_refs;
	uint32_t fault_code;
};

/** guest_walk_begin() - begin at the guest's root. */
static inline void guest_walk_begin(struct guest_walk *g,
				    const struct paging *p, gva_t addr)
{
	walk_init(&g->w, p->fmt, p->root, addr.v, p->rsvd);
	g->host = NULL;
}

/**
 * guest_walk_read() - read entries down to the leaf and check the rights; changes nothing.
 * @g: begun
 * @p: paging mode
 * @access: MMU_ACC_* bits
 * @ops: how tables are reached
 * @ctx: passed to every function of @ops
 *
 * Return: see enum guest_walk_status.
 */
enum guest_walk_status guest_walk_read(struct guest_walk *g,
				       const struct paging *p,
				       unsigned int access,
				       const struct table_ops *ops, void *ctx);

/**
 * guest_walk_mark() - set accessed bits of the path, and the dirty bit for a write.
 * Parameters as above, after guest_walk_read() returned GUEST_WALK_OK.
 *
 * Return: GUEST_WALK_OK or GUEST_WALK_CHANGED.
 */
enum guest_walk_status guest_walk_mark(struct guest_walk *g, unsigned int access,
				       const struct table_ops *ops, void *ctx);

/**
 * guest_walk_describe() - what the walk says about the page, machine side apart.
 * @g: walk that succeeded for @access and was marked
 * @p: paging mode
 * @access: MMU_ACC_* bits
 * @ret: gpa, read, write (by the guest's tables alone), global, smap_window and
 *       page_shift are set
 */
void guest_walk_describe(const struct guest_walk *g, const struct paging *p,
			 unsigned int access, struct mmu_xlat *ret);

/** paging_off_describe() - the same while paging is off. */
void paging_off_describe(gva_t addr, struct mmu_xlat *ret);

#endif

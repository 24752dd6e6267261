/* SPDX-License-Identifier: Apache-2.0 */
/* Which translations a processor may still hold: every walk since the last flush. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>

#include "lockstep.h"

/* What older walks may have come to. */

struct chain {
	struct program *p;
	uint64_t va;
	unsigned int access;
	const uint64_t *large; /* since when translations of large pages may be cached */
	bool global_only;
	uint64_t rsvd;
};

void see(struct program *p, uint64_t word)
{
	for (unsigned int i = 0; i < p->n_seen; i++)
		if (p->seen[i] == word)
			return;
	if (p->n_seen < MAX_SEEN)
		p->seen[p->n_seen++] = word;
}

static void add_older(struct program *p, uint64_t addr)
{
	for (unsigned int i = 0; i < p->n_older; i++)
		if (p->older[i] == addr)
			return;
	if (p->n_older < MAX_SEEN)
		p->older[p->n_older++] = addr;
}

static bool older_allowed(const struct chain *c, uint64_t rights, uint64_t leaf)
{
	const struct mmu_regs *r = &c->p->regs;
	const bool write = c->access & MMU_ACC_WRITE;
	const bool user = c->access & MMU_ACC_USER;
	const bool fetch = c->access & MMU_ACC_FETCH;
	const unsigned int key = r->pkru >> 2 * (leaf >> 59 & 15) & 3;

	if (fetch && !(rights & PTE_NX))
		return false;
	if (user && !(rights & PTE_U))
		return false;
	if (write && !(rights & PTE_W) && (user || (r->cr0 & CR0_WP)))
		return false;
	if (!user && (rights & PTE_U)) {
		if (fetch && (r->cr4 & CR4_SMEP))
			return false;
		if (!fetch && (r->cr4 & CR4_SMAP) && !(c->access & MMU_ACC_AC))
			return false;
	}
	if ((r->cr4 & CR4_PKE) && (rights & PTE_U) && !fetch) {
		if (key & 1)
			return false;
		if ((key & 2) && write && (user || (r->cr0 & CR0_WP)))
			return false;
	}
	return true;
}

/* When an entry or a path may have been read: not before @since, and before @until. */
struct span {
	uint64_t since, until;
};

static struct span both_spans(struct span a, struct span b)
{
	return (struct span){
		.since = a.since > b.since ? a.since : b.since,
		.until = a.until < b.until ? a.until : b.until,
	};
}

/*
 * Whether a walk can have begun with entries that were gone at @path.until, and have read
 * the last one at @path.since: from structure caches, unless these were flushed between.
 */
static bool can_be_read(const struct chain *c, struct span path)
{
	const struct program *p = c->p;
	const unsigned int pcid = pcid_now(p);

	if (path.since < path.until || c->global_only)
		return true;
	for (unsigned int i = p->n_cuts[pcid]; i; i--) {
		const uint64_t at = p->cut[pcid][i - 1];

		if (at < path.until)
			break;
		if (at <= path.since)
			return false;
	}
	return true;
}

static void older_leaf(const struct chain *c, uint64_t rights, uint64_t leaf,
		       unsigned int shift, struct span path, uint64_t until,
		       bool current)
{
	const uint64_t mask = (UINT64_C(1) << shift) - 1;
	uint64_t flushed = 0;

	if (c->global_only && !(leaf & PTE_G))
		return;
	if (!current && (c->access & MMU_ACC_WRITE) && !(leaf & PTE_D))
		return;
	if (shift > PAGE_SHIFT)
		flushed = c->large[shift > 21];
	if (!current && until <= flushed)
		return;
	if (flushed > path.since)
		path.since = flushed;
	if (can_be_read(c, path) && older_allowed(c, rights, leaf))
		add_older(c->p, (leaf & PTE_ADDR & ~mask) | (c->va & mask));
}

static void older_walk(const struct chain *c, unsigned int level,
		       uint64_t table, uint64_t rights, struct span path);

static void older_entry(const struct chain *c, unsigned int level, uint64_t v,
			uint64_t rights, struct span path, struct span span,
			bool current)
{
	const unsigned int shift = 3 + 9 * level;
	uint64_t rsvd = c->rsvd | UINT64_C(0xfc00) << 36;
	const bool leaf = level == 1 || (level < 4 && (v & PTE_PS));

	if (level == 4)
		rsvd |= PTE_PS;
	if (leaf && level > 1)
		rsvd |= ((UINT64_C(1) << shift) - 1) & ~UINT64_C(0x1fff);
	if (!(v & PTE_P) || (v & rsvd) || (!current && !(v & PTE_A)))
		return;
	rights &= v ^ PTE_NX;
	path = both_spans(path, span);
	if (leaf)
		older_leaf(c, rights, v, shift, path, span.until, current);
	else
		older_walk(c, level - 1, v & PTE_ADDR, rights, path);
}

/* @path: of the entries above; none below is read before they are. */
static void older_walk(const struct chain *c, unsigned int level,
		       uint64_t table, uint64_t rights, struct span path)
{
	const uint64_t word = table + 8 * (c->va >> (3 + 9 * level) & 511);
	struct program *p = c->p;
	struct span span = {0, UINT64_MAX};
	bool current = true;

	if (word >= RAM)
		return;
	see(p, word);
	for (uint32_t i = p->newest[word / 8]; i; i = p->past[i - 1].older) {
		const struct past *h = &p->past[i - 1];

		span.since = h->since;
		older_entry(c, level, h->value, rights, path, span, current);
		/* What it was before was gone by then. */
		if (h->since <= path.since)
			return;
		current = false;
		span.until = h->since;
	}
	span.since = 0;
	older_entry(c, level, 0, rights, path, span, current);
}

void find_older(struct program *p, unsigned int vi, unsigned int access)
{
	const unsigned int pcid = pcid_now(p);
	struct span path = {p->flushed[pcid][vi], UINT64_MAX};
	uint64_t large[2];
	struct chain c = {
		.p = p,
		.va = va_of(vi),
		.access = access,
		.large = large,
		.rsvd = p->regs.efer & EFER_NXE ? 0 : PTE_NX,
	};

	p->n_older = 0;
	p->n_seen = 0;
	for (unsigned int k = 0; k < 2; k++)
		large[k] = p->flushed_large[pcid][k][vi];
	for (unsigned int r = 0; r < N_ROOTS; r++)
		if (p->root_used[pcid][r] >= path.since ||
		    ROOT(r) == (p->regs.cr3 & PTE_ADDR))
			older_walk(&c, 4, ROOT(r), ~UINT64_C(0), path);
	if (!(p->regs.cr4 & CR4_PGE))
		return;
	path.since = p->flushed_global[vi];
	for (unsigned int k = 0; k < 2; k++)
		large[k] = p->flushed_large_global[k][vi];
	c.global_only = true;
	for (unsigned int q = 0; q < N_PCID; q++)
		for (unsigned int r = 0; r < N_ROOTS; r++)
			if (p->root_used[q][r] >= path.since)
				older_walk(&c, 4, ROOT(r), ~UINT64_C(0), path);
}

bool is_older(const struct program *p, uint64_t addr)
{
	for (unsigned int i = 0; i < p->n_older; i++)
		if (p->older[i] == addr)
			return true;
	return false;
}

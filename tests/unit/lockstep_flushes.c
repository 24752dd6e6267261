/* SPDX-License-Identifier: Apache-2.0 */
/* Flushes and control registers, and what they take from the model's book. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <mem/physmap.h>

#include "lockstep.h"

/* Flushes */

static void cut(struct program *p, unsigned int pcid)
{
	assert_true(p->n_cuts[pcid] < MAX_CUTS);
	p->cut[pcid][p->n_cuts[pcid]++] = p->now;
}

void flushed_all(struct program *p, bool global)
{
	p->now++;
	for (unsigned int q = 0; q < N_PCID; q++)
		cut(p, q);
	for (unsigned int v = 0; v < N_VA; v++) {
		for (unsigned int q = 0; q < N_PCID; q++)
			p->flushed[q][v] = p->now;
		if (global)
			p->flushed_global[v] = p->now;
	}
}

void use_root(struct program *p)
{
	for (unsigned int r = 0; r < N_ROOTS; r++)
		if (ROOT(r) == (p->regs.cr3 & PTE_ADDR))
			p->root_used[pcid_now(p)][r] = p->now;
}

static void load_cr3(struct program *p, uint64_t root, uint64_t pcid, bool keep)
{
	use_root(p);
	p->regs.cr3 = root | pcid;
	p->now++;
	if (!keep) {
		cut(p, (unsigned int)pcid);
		for (unsigned int v = 0; v < N_VA; v++)
			p->flushed[pcid][v] = p->now;
	}
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_load_cr3(p->world[k].rig.mmu,
			     p->regs.cr3 | (keep ? CR3_NOFLUSH : 0));
}

void step_cr3(struct program *p)
{
	const bool pcide = p->regs.cr4 & CR4_PCIDE;
	const uint64_t pcid = pcide ? below(p, N_PCID) : 0;

	load_cr3(p, ROOT(below(p, N_ROOTS)), pcid, pcide && chance(p, 50));
}

void invlpg(struct program *p, unsigned int vi)
{
	const unsigned int pcid = pcid_now(p);

	p->flushed[pcid][vi] = ++p->now;
	p->flushed_global[vi] = p->now;
	cut(p, pcid);
	for (unsigned int v = 0; v < N_VA; v++)
		for (unsigned int k = 0; k < 2; k++)
			if (va_of(v) >> (21 + 9 * k) ==
			    va_of(vi) >> (21 + 9 * k)) {
				p->flushed_large[pcid][k][v] = p->now;
				p->flushed_large_global[k][v] = p->now;
			}
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_invlpg(p->world[k].rig.mmu, gva(va_of(vi)));
}

void step_invlpg(struct program *p)
{
	invlpg(p, (unsigned int)below(p, N_VA));
}

static void invpcid(struct program *p, unsigned int type, unsigned int pcid,
		    unsigned int vi)
{
	use_root(p);
	p->now++;
	if (type == 0)
		p->flushed[pcid][vi] = p->now;
	if (type == 1)
		cut(p, pcid);
	for (unsigned int v = 0; type == 1 && v < N_VA; v++)
		p->flushed[pcid][v] = p->now;
	if (type >= 2)
		flushed_all(p, type == 2);
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_invpcid(p->world[k].rig.mmu, type, pcid, gva(va_of(vi)));
}

void step_invpcid(struct program *p)
{
	const unsigned int pcid = p->regs.cr4 & CR4_PCIDE
					  ? (unsigned int)below(p, N_PCID)
					  : 0;

	invpcid(p, (unsigned int)below(p, 4), pcid,
		(unsigned int)below(p, N_VA));
}

void step_regs(struct program *p)
{
	static const uint64_t cr4[] = {CR4_PGE, CR4_SMEP, CR4_SMAP, CR4_PKE,
				       CR4_PCIDE};
	const uint64_t what = below(p, ARRAY_SIZE(cr4) + 3);
	const uint32_t pkru = p->regs.pkru;

	use_root(p);
	if (what < ARRAY_SIZE(cr4))
		p->regs.cr4 ^= cr4[what];
	else if (what == ARRAY_SIZE(cr4))
		p->regs.cr0 ^= CR0_WP;
	else if (what == ARRAY_SIZE(cr4) + 1)
		p->regs.efer ^= EFER_NXE;
	else
		p->regs.pkru = (uint32_t)below(p, 16);
	/* A PCID other than 0 must be left before PCIDs are turned off. */
	if (!(p->regs.cr4 & CR4_PCIDE))
		p->regs.cr3 &= PTE_ADDR;
	/* Rights of keys that are off mean nothing; all else has rights baked in. */
	if (what <= ARRAY_SIZE(cr4) + 1 ||
	    ((p->regs.cr4 & CR4_PKE) && p->regs.pkru != pkru))
		flushed_all(p, true);
	use_root(p);
	for (unsigned int k = 0; k < N_WORLDS; k++)
		mmu_set_regs(p->world[k].rig.mmu, &p->regs);
}

/* Flush one address or more, in any of the ways that there are. */
void some_flush(struct program *p, unsigned int vi)
{
	switch (below(p, 8)) {
	case 0:
	case 1:
		load_cr3(p, p->regs.cr3 & PTE_ADDR, pcid_now(p), false);
		break;
	case 2:
		step_cr3(p);
		break;
	case 3:
	case 4:
		invpcid(p, (unsigned int)below(p, 4), pcid_now(p), vi);
		break;
	case 5:
		step_regs(p);
		break;
	default:
		invlpg(p, vi);
		break;
	}
}

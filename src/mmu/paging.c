/* SPDX-License-Identifier: Apache-2.0 */
/* Rights of pages by paging mode. [SDM3 4.6 "Access Rights"] */
#include <mmu/paging.h>

static_assert((unsigned)MMU_ACC_WRITE == PF_W && (unsigned)MMU_ACC_USER == PF_U &&
		      (unsigned)MMU_ACC_FETCH == PF_I,
	      "access bits are error code bits");

static const struct walk_format *format_of(const struct mmu_regs *r)
{
	if (!(r->cr0 & CR0_PG))
		return NULL;
	if (r->efer & EFER_LMA)
		return &walk_long;
	if (r->cr4 & CR4_PAE)
		return &walk_pae;
	return r->cr4 & CR4_PSE ? &walk_legacy_pse : &walk_legacy;
}

static bool allows(const struct mmu_regs *r, unsigned int rights,
		   unsigned int index)
{
	const bool write = index & 1;
	const bool user = index & 2;
	const bool fetch = index & 4;
	const bool ac = index & 8;
	const bool user_page = rights & WALK_U;

	if (fetch && !(rights & WALK_X))
		return false;
	if (user)
		return user_page && (!write || (rights & WALK_W));
	if (user_page && fetch && (r->cr4 & CR4_SMEP))
		return false;
	if (user_page && !fetch && (r->cr4 & CR4_SMAP) && !ac)
		return false;
	return !write || (rights & WALK_W) || !(r->cr0 & CR0_WP);
}

void paging_derive(struct paging *p, const struct mmu_regs *regs)
{
	const bool on = regs->cr0 & CR0_PG;
	const bool nx = (regs->efer & EFER_NXE) && (regs->cr4 & CR4_PAE);

	*p = (struct paging){
		.fmt = format_of(regs),
		.root = regs->cr3,
		.report_fetch = nx || (regs->cr4 & CR4_SMEP),
		.smap = on && (regs->cr4 & CR4_SMAP),
		.pge = regs->cr4 & CR4_PGE,
		.keys = on && (regs->cr4 & CR4_PKE) && (regs->efer & EFER_LMA),
		.wp = regs->cr0 & CR0_WP,
		.pkru = regs->pkru,
	};
	if (p->fmt != NULL && p->fmt->entry_bytes == 8 && !nx)
		p->rsvd = PTE_NX;
	for (unsigned int i = 0; i < ARRAY_SIZE(p->allowed); i++)
		for (unsigned int r = 0; r <= WALK_ALL; r++)
			if (!on || allows(regs, r, i))
				p->allowed[i] |= (uint8_t)(1U << r);
}

bool paging_key_denies(const struct paging *p, unsigned int rights,
		       uint64_t entry, unsigned int access)
{
	if (!p->keys || !(rights & WALK_U) || (access & MMU_ACC_FETCH))
		return false;
	const unsigned int key = entry >> PTE_PKEY_SHIFT & 15;
	const unsigned int denied = p->pkru >> (2 * key) & 3;

	if (denied & 1)
		return true;
	return (denied & 2) && (access & MMU_ACC_WRITE) &&
	       ((access & MMU_ACC_USER) || p->wp);
}

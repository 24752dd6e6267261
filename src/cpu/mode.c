/* SPDX-License-Identifier: Apache-2.0 */
/* What follows from control registers, flags and segments: code mode, privilege, MMU registers. */
#include <string.h>

#include <cpu/flags.h>
#include <cpu/fp.h>
#include <cpu/sys.h>

void cpu_set_cpl(struct cpu *c, unsigned int cpl)
{
	c->cpl = (uint8_t)cpl;
	tlb_set_user(&c->tlb, cpl == 3);
}

static bool is_flat(const struct cpu *c, unsigned int n)
{
	const struct cpu_segment *s = &c->seg[n];

	return c->gpr[REG_SEG + n] == 0 && s->limit == UINT32_MAX &&
	       (s->attr & (SEG_P | SEG_S)) == (SEG_P | SEG_S) &&
	       !(s->attr & 8 ? 0 : s->attr & 4) &&
	       (n == SEG_CS || (s->attr & 8 ? 0 : s->attr & 2));
}

/* FS and GS carry their base in every address; only their limits can matter. */
static bool is_unlimited(const struct cpu *c, unsigned int n)
{
	const struct cpu_segment *s = &c->seg[n];

	return s->limit == UINT32_MAX && (s->attr & SEG_P) && !(s->attr & 8) &&
	       (s->attr & 6) == 2;
}

static bool is_segmented(const struct cpu *c)
{
	return !is_flat(c, SEG_CS) || !is_flat(c, SEG_SS) ||
	       !is_flat(c, SEG_DS) || !is_flat(c, SEG_ES) ||
	       !is_unlimited(c, SEG_FS) || !is_unlimited(c, SEG_GS);
}

static uint32_t code_mode_of(const struct cpu *c)
{
	const bool is_long = cpu_is_long(c);
	uint32_t mode = cpu_fp_mode(c);

	if ((c->sys_flags & RFLAGS_TF) || (c->dr[7] & 0xff))
		mode |= CODE_SINGLE;
	if (is_long && (c->seg[SEG_CS].attr & SEG_L))
		return mode | CODE_64;
	mode |= c->seg[SEG_CS].attr & SEG_DB ? CODE_32 : CODE_16;
	if (c->seg[SEG_SS].attr & SEG_DB)
		mode |= CODE_STACK32;
	if (is_long)
		mode |= CODE_COMPAT;
	if (is_segmented(c))
		mode |= CODE_SEGMENTED;
	return mode;
}

static bool watches_data(const struct cpu *c)
{
	for (unsigned int i = 0; i < 4; i++)
		if (((c->dr[7] >> (2 * i)) & 3) &&
		    ((c->dr[7] >> (16 + 4 * i)) & 1))
			return true;
	return false;
}

void cpu_update_mode(struct cpu *c)
{
	c->code_mode = code_mode_of(c);
	c->debug_data = watches_data(c);

	const bool aligned = c->cpl == 3 && (c->sys_flags & RFLAGS_AC) &&
			     (c->cr0 & CR0_AM);

	const bool blind = aligned || c->debug_data ||
			   (c->code_mode & CODE_SEGMENTED);

	if (unlikely(blind != c->tlb.is_blind))
		tlb_set_blind(&c->tlb, blind);
}

void cpu_update_mmu(struct cpu *c)
{
	const struct mmu_regs r = {
		.cr0 = c->cr0,
		.cr3 = c->cr3,
		.cr4 = c->cr4,
		.efer = c->efer,
		.pkru = c->pkru,
	};

	mmu_set_regs(c->mmu, &r);
}

void cpu_set_rflags(struct cpu *c, uint64_t value)
{
	const uint64_t old = c->sys_flags;

	c->af = af_from_rflags(value);
	c->sys_flags = value & ~(RFLAGS_ARITH | RFLAGS_ONE);
	if ((old & RFLAGS_AC) && !(value & RFLAGS_AC))
		tlb_close_smap(&c->tlb);
	if ((old ^ value) & (RFLAGS_TF | RFLAGS_AC))
		cpu_update_mode(c);
}

void cpu_state_changed(struct cpu *c)
{
	cpu_set_cpl(c, c->cpl);
	cpu_update_mmu(c);
	cpu_update_mode(c);
}

void cpu_reset(struct cpu *c)
{
	const struct cpu_segment data = {
		.attr = SEG_P | SEG_S | 3 | SEG_G | SEG_DB,
		.limit = UINT32_MAX,
	};
	struct cpu_segment code = data;

	memset(c->gpr, 0, sizeof(c->gpr));
	code.attr |= 8;
	for (unsigned int i = 0; i < SEG_COUNT; i++)
		c->seg[i] = i == SEG_CS ? code : data;
	c->ldtr = (struct cpu_segment){.attr = SEG_P | 2, .limit = 0xffff};
	c->tr = (struct cpu_segment){.attr = SEG_P | 11, .limit = 0xffff};
	c->gdtr = c->idtr = (struct cpu_table){.limit = 0xffff};
	c->cr0 = CR0_PE | CR0_ET | CR0_NE;
	c->cr2 = c->cr3 = c->cr4 = c->efer = 0;
	c->pkru = 0;
	memset(c->dr, 0, sizeof(c->dr));
	c->dr[6] = 0xffff0ff0;
	c->dr[7] = 0x400;
	c->pat = UINT64_C(0x0007040600070406);
	c->mtrr_def_type = 0xc06;
	c->misc_enable = 1;
	c->star = c->lstar = c->cstar = c->sfmask = c->kernel_gs_base = 0;
	c->sysenter_cs = c->sysenter_esp = c->sysenter_eip = 0;
	c->tsc_aux = c->tsc_offset = 0;
	c->random = 0;
	c->sys_flags = 0;
	c->af = af_from_rflags(0);
	c->exc = (struct cpu_exception){0};
	c->halted = c->shadow = c->shadow_ss = c->shutdown = c->stopped = false;
	c->tf_after = c->nmi_blocked = c->fetch_failed = false;
	c->debug_hits = 0;
	fp_reset(c);
	cpu_set_cpl(c, 0);
	cpu_state_changed(c);
}

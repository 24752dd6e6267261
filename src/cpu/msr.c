/* SPDX-License-Identifier: Apache-2.0 */
/* Model-specific registers that the processor itself has; the rest is the machine's (cpu_ops). */
#include <cpu/op.h>
#include <cpu/sys.h>

#define MSR_MTRR_FIX64K  0x250U
#define MSR_MTRR_FIX_END 0x26fU
#define MSR_AMD_FIRST    0xc0010000U
#define MSR_AMD_LAST     0xc001ffffU
#define MTRRCAP_FIXED_WC 0x500U

static bool gp(struct cpu *c)
{
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

bool cpu_rdmsr(struct cpu *c, uint32_t msr, uint64_t *ret)
{
	switch (msr) {
	case MSR_TSC:
		*ret = c->ops->tsc(c->ctx) + c->tsc_offset;
		return true;
	case MSR_TSC_ADJUST:
		*ret = c->tsc_offset;
		return true;
	case MSR_EFER:
		*ret = c->efer;
		return true;
	case MSR_STAR:
		*ret = c->star;
		return true;
	case MSR_LSTAR:
		*ret = c->lstar;
		return true;
	case MSR_CSTAR:
		*ret = c->cstar;
		return true;
	case MSR_SFMASK:
		*ret = c->sfmask;
		return true;
	case MSR_FS_BASE:
		*ret = c->gpr[REG_SEG + SEG_FS];
		return true;
	case MSR_GS_BASE:
		*ret = c->gpr[REG_SEG + SEG_GS];
		return true;
	case MSR_KERNEL_GS_BASE:
		*ret = c->kernel_gs_base;
		return true;
	case MSR_TSC_AUX:
		*ret = c->tsc_aux;
		return true;
	case MSR_SYSENTER_CS:
		*ret = c->sysenter_cs;
		return true;
	case MSR_SYSENTER_ESP:
		*ret = c->sysenter_esp;
		return true;
	case MSR_SYSENTER_EIP:
		*ret = c->sysenter_eip;
		return true;
	case MSR_PAT:
		*ret = c->pat;
		return true;
	case MSR_MISC_ENABLE:
		*ret = c->misc_enable;
		return true;
	case MSR_MTRRCAP:
		*ret = MTRRCAP_FIXED_WC; /* no variable ranges */
		return true;
	case MSR_MTRR_DEF_TYPE:
		*ret = c->mtrr_def_type;
		return true;
	case MSR_BIOS_SIGN_ID:
	case MSR_DEBUGCTL:
	case MSR_MCG_CAP:
		*ret = 0;
		return true;
	}
	if (msr >= MSR_MTRR_FIX64K && msr <= MSR_MTRR_FIX_END) {
		*ret = UINT64_C(0x0606060606060606);
		return true;
	}
	if (c->ops->msr_read(c->ctx, msr, ret))
		return true;
	/* AMD's configuration MSRs: nothing to configure, reads are 0. */
	if (msr >= MSR_AMD_FIRST && msr <= MSR_AMD_LAST) {
		*ret = 0;
		return true;
	}
	return gp(c);
}

static bool set_canonical(struct cpu *c, uint64_t *reg, uint64_t value)
{
	if (!cpu_canonical(value))
		return gp(c);
	*reg = value;
	return true;
}

/* EFER.LMA is ours; LME cannot change under paging. [APM2 3.1.7 "Extended Feature Enable Register"] */
static bool set_efer(struct cpu *c, uint64_t value)
{
	const uint64_t known = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;

	if ((value & ~known) ||
	    ((c->cr0 & CR0_PG) && ((value ^ c->efer) & EFER_LME)))
		return gp(c);
	value = (value & ~EFER_LMA) | (c->efer & EFER_LMA);
	if (value != c->efer) {
		c->efer = value;
		cpu_update_mmu(c);
		cpu_update_mode(c);
	}
	return true;
}

static bool valid_pat(uint64_t value)
{
	for (unsigned int i = 0; i < 8; i++) {
		const uint8_t t = (uint8_t)(value >> (8 * i));

		if (t > 7 || t == 2 || t == 3)
			return false;
	}
	return true;
}

bool cpu_wrmsr(struct cpu *c, uint32_t msr, uint64_t value)
{
	switch (msr) {
	case MSR_TSC:
		c->tsc_offset = value - c->ops->tsc(c->ctx);
		return true;
	case MSR_TSC_ADJUST:
		c->tsc_offset = value;
		return true;
	case MSR_EFER:
		return set_efer(c, value);
	case MSR_STAR:
		c->star = value;
		return true;
	case MSR_LSTAR:
		return set_canonical(c, &c->lstar, value);
	case MSR_CSTAR:
		return set_canonical(c, &c->cstar, value);
	case MSR_SFMASK:
		c->sfmask = (uint32_t)value;
		return true;
	case MSR_FS_BASE:
		return set_canonical(c, &c->gpr[REG_SEG + SEG_FS], value);
	case MSR_GS_BASE:
		return set_canonical(c, &c->gpr[REG_SEG + SEG_GS], value);
	case MSR_KERNEL_GS_BASE:
		return set_canonical(c, &c->kernel_gs_base, value);
	case MSR_TSC_AUX:
		c->tsc_aux = (uint32_t)value;
		return true;
	case MSR_SYSENTER_CS:
		c->sysenter_cs = value;
		return true;
	case MSR_SYSENTER_ESP:
		return set_canonical(c, &c->sysenter_esp, value);
	case MSR_SYSENTER_EIP:
		return set_canonical(c, &c->sysenter_eip, value);
	case MSR_PAT:
		if (!valid_pat(value))
			return gp(c);
		c->pat = value;
		return true;
	case MSR_MISC_ENABLE:
		c->misc_enable = value;
		return true;
	case MSR_MTRR_DEF_TYPE:
		c->mtrr_def_type = value & 0xcff;
		return true;
	case MSR_BIOS_SIGN_ID:
	case MSR_DEBUGCTL:
		return true;
	}
	if (msr >= MSR_MTRR_FIX64K && msr <= MSR_MTRR_FIX_END)
		return true;
	if (c->ops->msr_write(c->ctx, msr, value)) {
		cpu_end_slice(c);
		return true;
	}
	if (msr >= MSR_AMD_FIRST && msr <= MSR_AMD_LAST)
		return true;
	return gp(c);
}

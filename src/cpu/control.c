/* SPDX-License-Identifier: Apache-2.0 */
/* Control and debug registers, and TLB instructions. */
#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/fp.h>
#include <cpu/sys.h>
#include <cpu/sys_ops.h>

static bool gp(struct cpu *c)
{
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

static bool need_cpl0(struct cpu *c)
{
	return c->cpl == 0 || gp(c);
}

/* Long mode begins and ends with CR0.PG. [APM2 14.6 "Enabling and Activating Long Mode"] */
static bool switch_long_mode(struct cpu *c, uint64_t cr0)
{
	const bool paging = cr0 & CR0_PG;

	if (paging == !!(c->cr0 & CR0_PG))
		return true;
	if (paging && (c->efer & EFER_LME)) {
		if (!(c->cr4 & CR4_PAE) || (c->seg[SEG_CS].attr & SEG_L))
			return gp(c);
		c->efer |= EFER_LMA;
	} else if (!paging && cpu_is_long(c)) {
		if (cpu_is_64(c) || (c->cr4 & CR4_PCIDE))
			return gp(c);
		c->efer &= ~EFER_LMA;
	}
	return true;
}

/* MOV to it with all checks. Return: false with #GP pending. */
static bool cpu_set_cr0(struct cpu *c, uint64_t value)
{
	const uint64_t known = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET |
			       CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD |
			       CR0_PG;

	if ((value >> 32) || ((value & CR0_PG) && !(value & CR0_PE)) ||
	    ((value & CR0_NW) && !(value & CR0_CD)))
		return gp(c);
	/* LIMIT: real mode is not modelled. */
	if (!(value & CR0_PE))
		return gp(c);
	value = (value & known) | CR0_ET;
	if (!switch_long_mode(c, value))
		return false;
	const uint64_t changed = c->cr0 ^ value;

	c->cr0 = value;
	if (changed & (CR0_PG | CR0_WP)) {
		c->stats.mode_changes++;
		cpu_update_mmu(c);
	}
	cpu_update_mode(c);
	return true;
}

static uint64_t known_cr4(const struct cpu *c)
{
	const struct cpu_features *f = &c->features;

	return CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE | CR4_PGE |
	       CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT |
	       (f->umip ? CR4_UMIP : 0) | (f->fsgsbase ? CR4_FSGSBASE : 0) |
	       (f->pcid ? CR4_PCIDE : 0) | (f->no_smep ? 0 : CR4_SMEP) |
	       (f->no_smap ? 0 : CR4_SMAP) | (f->pku ? CR4_PKE : 0);
}

/* MOV to it with all checks. Return: false with #GP pending. */
static bool cpu_set_cr4(struct cpu *c, uint64_t value)
{
	const uint64_t changed = c->cr4 ^ value;

	if (value & ~known_cr4(c))
		return gp(c);
	if (cpu_is_long(c) && !(value & CR4_PAE))
		return gp(c);
	if ((changed & value & CR4_PCIDE) &&
	    (!cpu_is_long(c) || (c->cr3 & CR3_PCID_MASK)))
		return gp(c);
	c->cr4 = value;
	if (changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP |
		       CR4_SMAP | CR4_PKE)) {
		c->stats.mode_changes++;
		cpu_update_mmu(c);
	}
	cpu_update_mode(c);
	return true;
}

static bool set_cr3(struct cpu *c, uint64_t value)
{
	const bool noflush = value & CR3_NOFLUSH;
	uint64_t cr3 = value;

	if (cpu_is_long(c)) {
		if (c->cr4 & CR4_PCIDE)
			cr3 &= ~CR3_NOFLUSH;
		if (cr3 >> X86_PHYS_BITS)
			return gp(c);
	} else {
		cr3 = (uint32_t)value;
	}
	c->cr3 = cr3;
	mmu_load_cr3(c->mmu,
		     cr3 | (noflush && (c->cr4 & CR4_PCIDE) ? CR3_NOFLUSH : 0));
	return true;
}

OP(mov_cr_r)
{
	const uint64_t v = cpu_is_64(c) ? c->gpr[op->src]
					: (uint32_t)c->gpr[op->src];
	bool ok = need_cpl0(c);

	if (ok) {
		switch (op->dst) {
		case 0:
			ok = cpu_set_cr0(c, v);
			break;
		case 2:
			c->cr2 = v;
			break;
		case 3:
			ok = set_cr3(c, v);
			break;
		case 4:
			ok = cpu_set_cr4(c, v);
			break;
		case 8:
			ok = v < 16 || gp(c);
			if (ok)
				c->ops->cr8_write(c->ctx, v);
			cpu_end_slice(c);
			break;
		}
	}
	if (!ok)
		FAULT();
	LEAVE();
}

OP(mov_r_cr)
{
	uint64_t v = 0;

	if (!need_cpl0(c))
		FAULT();
	switch (op->src) {
	case 0:
		v = c->cr0;
		break;
	case 2:
		v = c->cr2;
		break;
	case 3:
		v = c->cr3;
		break;
	case 4:
		v = c->cr4;
		break;
	case 8:
		v = c->ops->cr8_read(c->ctx);
		break;
	}
	c->gpr[op->dst] = cpu_is_64(c) ? v : (uint32_t)v;
	NEXT();
}

static bool emit_mov_cr(struct emitter *e, const struct insn_emit *self)
{
	const ZydisRegister to = e->ops[0].reg.value;
	const ZydisRegister from = e->ops[1].reg.value;
	struct op *op;

	(void)self;
	if (to >= ZYDIS_REGISTER_CR0 && to <= ZYDIS_REGISTER_CR15) {
		op = emit(e, op_mov_cr_r);
		op->dst = (uint8_t)(to - ZYDIS_REGISTER_CR0);
		op->src = emit_gpr(from);
		e->end = true;
	} else {
		op = emit(e, op_mov_r_cr);
		op->src = (uint8_t)(from - ZYDIS_REGISTER_CR0);
		op->dst = emit_gpr(to);
	}
	return true;
}

/* DR4 and DR5 are DR6 and DR7 unless CR4.DE. [SDM3 17.2.2 "Debug Registers DR4 and DR5"] */
static bool debug_register(struct cpu *c, uint8_t *n)
{
	if (!need_cpl0(c))
		return false;
	if (*n == 4 || *n == 5) {
		if (c->cr4 & CR4_DE) {
			cpu_raise(c, VEC_UD);
			return false;
		}
		*n = (uint8_t)(*n + 2);
	}
	if (c->dr[7] & 0x2000) {
		cpu_raise(c, VEC_DB);
		c->exc.dr6 = BIT64(13);
		return false;
	}
	return true;
}

/* MOV to a debug register, with checks. False: exception pending. */
static bool sys_set_dr(struct cpu *c, uint8_t n, uint64_t value)
{
	if (!debug_register(c, &n))
		return false;
	if (n >= 6 && (value >> 32))
		return gp(c);
	if (n == 6)
		value = (value & 0xe00f) | 0xffff0ff0;
	else if (n == 7)
		value = (value & 0xffff2fff) | 0x400;
	c->dr[n] = value;
	if (n == 7)
		cpu_update_mode(c);
	return true;
}

OP(mov_dr_r)
{
	if (!sys_set_dr(c, op->dst,
			cpu_is_64(c) ? c->gpr[op->src]
				     : (uint32_t)c->gpr[op->src]))
		FAULT();
	LEAVE();
}

/* MOV from one. False: exception pending. */
static bool sys_get_dr(struct cpu *c, uint8_t n, uint8_t reg)
{
	if (!debug_register(c, &n))
		return false;
	c->gpr[reg] = cpu_is_64(c) ? c->dr[n] : (uint32_t)c->dr[n];
	return true;
}

OP(mov_r_dr)
{
	if (!sys_get_dr(c, op->src, op->dst))
		FAULT();
	NEXT();
}

static bool emit_mov_dr(struct emitter *e)
{
	const ZydisRegister to = e->ops[0].reg.value;
	const ZydisRegister from = e->ops[1].reg.value;
	struct op *op;

	if (to >= ZYDIS_REGISTER_DR0 && to <= ZYDIS_REGISTER_DR15) {
		op = emit(e, op_mov_dr_r);
		op->dst = (uint8_t)(to - ZYDIS_REGISTER_DR0);
		op->src = emit_gpr(from);
		e->end = true;
		return op->dst < 8;
	}
	op = emit(e, op_mov_r_dr);
	op->src = (uint8_t)(from - ZYDIS_REGISTER_DR0);
	op->dst = emit_gpr(to);
	return op->src < 8;
}

bool emit_mov_special(struct emitter *e)
{
	const ZydisRegister to = e->ops[0].reg.value;
	const ZydisRegister from = e->ops[1].reg.value;
	const ZydisRegisterClass class_to = ZydisRegisterGetClass(to);
	const ZydisRegisterClass class_from = ZydisRegisterGetClass(from);

	if (class_to == ZYDIS_REGCLASS_CONTROL ||
	    class_from == ZYDIS_REGCLASS_CONTROL)
		return emit_mov_cr(e, NULL);
	if (class_to == ZYDIS_REGCLASS_DEBUG ||
	    class_from == ZYDIS_REGCLASS_DEBUG)
		return emit_mov_dr(e);
	return emit_mov_segment(e);
}

OP(clts)
{
	if (!need_cpl0(c))
		FAULT();
	c->cr0 &= ~CR0_TS;
	cpu_update_mode(c);
	LEAVE();
}

OP(lmsw_r)
{
	const uint64_t low = c->gpr[op->src] & 0xf;

	/* LMSW cannot clear PE. */
	if (!need_cpl0(c) || !cpu_set_cr0(c, (c->cr0 & ~UINT64_C(0xe)) | low))
		FAULT();
	LEAVE();
}

OP(lmsw_m)
{
	uint16_t v;

	if (!need_cpl0(c))
		FAULT();
	LOAD(16, v, cpu_ea(c, op));
	if (!cpu_set_cr0(c, (c->cr0 & ~UINT64_C(0xe)) | (v & 0xf)))
		FAULT();
	LEAVE();
}

static bool umip_allows(struct cpu *c)
{
	return !(c->cr4 & CR4_UMIP) || c->cpl == 0 || gp(c);
}

OP(smsw_r)
{
	if (!umip_allows(c))
		FAULT();
	if (op->imm == 16)
		host_st16(&c->gpr[op->dst], (uint16_t)c->cr0);
	else
		c->gpr[op->dst] = op->imm == 64 ? c->cr0 : (uint32_t)c->cr0;
	NEXT();
}

OP(smsw_m)
{
	if (!umip_allows(c))
		FAULT();
	STORE(16, cpu_ea(c, op), (uint16_t)c->cr0);
	NEXT();
}

OP(invlpg)
{
	uint64_t addr;

	if (!need_cpl0(c))
		FAULT();
	addr = cpu_ea(c, op);
	if (cpu_canonical(addr))
		mmu_invlpg(c->mmu, gva(addr));
	LEAVE();
}

/* [SDM2 "INVPCID"] */
static bool do_invpcid(struct cpu *c, const struct op *op)
{
	const uint64_t type = cpu_is_64(c) ? c->gpr[op->src]
					   : (uint32_t)c->gpr[op->src];
	uint64_t pcid, addr;

	if (!need_cpl0(c))
		return false;
	if (!cpu_load_slow(c, op, cpu_ea(c, op), 16))
		return false;
	pcid = c->scratch[0];
	addr = c->scratch[1];
	if (type > 3)
		return gp(c);
	if (type <= 1 && (pcid >> 12))
		return gp(c);
	if (type <= 1 && !(c->cr4 & CR4_PCIDE) && pcid)
		return gp(c);
	if (type == 0 && !cpu_canonical(addr))
		return gp(c);
	mmu_invpcid(c->mmu, (unsigned int)type, pcid, gva(addr));
	return true;
}

OP(invpcid)
{
	if (!do_invpcid(c, op))
		FAULT();
	LEAVE();
}

OP(wbinvd)
{
	if (!need_cpl0(c))
		FAULT();
	LEAVE();
}

static bool emit_plain(struct emitter *e, op_fn *fn)
{
	emit(e, fn);
	e->end = true;
	return true;
}

bool emit_control(struct emitter *e, const struct insn_emit *self)
{
	const bool mem = e->insn->operand_count_visible &&
			 emit_is_mem(&e->ops[0]);
	struct op *op;

	(void)self;
	switch ((int)e->insn->mnemonic) {
	case ZYDIS_MNEMONIC_CLTS:
		return emit_plain(e, op_clts);
	case ZYDIS_MNEMONIC_WBINVD:
	case ZYDIS_MNEMONIC_INVD:
		return emit_plain(e, op_wbinvd);
	case ZYDIS_MNEMONIC_LMSW:
		op = emit(e, mem ? op_lmsw_m : op_lmsw_r);
		break;
	case ZYDIS_MNEMONIC_SMSW:
		op = emit(e, mem ? op_smsw_m : op_smsw_r);
		op->imm = e->ops[0].size;
		if (mem)
			emit_mem(e, op, &e->ops[0]);
		else
			op->dst = emit_gpr(e->ops[0].reg.value);
		return true;
	case ZYDIS_MNEMONIC_INVLPG:
		op = emit(e, op_invlpg);
		break;
	default:
		return false;
	}
	e->end = true;
	if (mem)
		emit_mem(e, op, &e->ops[0]);
	else
		op->src = emit_gpr(e->ops[0].reg.value);
	return true;
}

bool emit_invpcid(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!e->c->features.pcid)
		return false;
	op = emit(e, op_invpcid);
	op->src = emit_gpr(e->ops[0].reg.value);
	emit_mem(e, op, &e->ops[1]);
	e->end = true;
	return true;
}

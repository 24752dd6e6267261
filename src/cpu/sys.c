/* SPDX-License-Identifier: Apache-2.0 */
/* The table of system instructions, and the small ones themselves. */
#include <cpu/sys.h>

#include <sys/random.h>

#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/flags.h>
#include <cpu/sys_ops.h>

static bool gp(struct cpu *c)
{
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

static bool ud(struct cpu *c)
{
	cpu_raise(c, VEC_UD);
	return false;
}

OP(hlt)
{
	if (c->cpl) {
		gp(c);
		FAULT();
	}
	c->halted = true;
	LEAVE();
}

static unsigned int iopl_of(const struct cpu *c)
{
	return (c->sys_flags & RFLAGS_IOPL) >> 12;
}

OP(cli)
{
	if (c->cpl > iopl_of(c)) {
		gp(c);
		FAULT();
	}
	c->sys_flags &= ~RFLAGS_IF;
	NEXT();
}

/* Interrupts become possible only after the next instruction. */
OP(sti)
{
	if (c->cpl > iopl_of(c)) {
		gp(c);
		FAULT();
	}
	if (c->sys_flags & RFLAGS_IF)
		NEXT();
	c->sys_flags |= RFLAGS_IF;
	/*
	 * Interrupts are taken between blocks, so inside one the next instruction is safe
	 * from them anyway, and nobody need be told unless an interrupt waits already.
	 */
	if (!c->intr_wanted && op->nth + 1 < op_block(op)->n_insns)
		NEXT();
	c->shadow = true;
	LEAVE();
}

/* PUSHF in the size of op->imm. VM and RF are pushed clear. */
OP(pushf_64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;

	STORE(64, sp, cpu_rflags(c) & ~(RFLAGS_RF | RFLAGS_VM));
	c->gpr[REG_RSP] = sp;
	NEXT();
}

OP(pushf)
{
	const unsigned int size = (unsigned int)op->imm / 8;
	const uint64_t mask = cpu_is_64(c)                  ? UINT64_MAX
			      : c->code_mode & CODE_STACK32 ? UINT32_MAX
							    : UINT16_MAX;
	const uint64_t sp = (c->gpr[REG_RSP] - size) & mask;
	uint64_t addr = sp;

	if (!cpu_is_64(c))
		addr = (uint32_t)(sp + c->gpr[REG_SEG + SEG_SS]);
	c->scratch[0] = cpu_rflags(c) & ~(RFLAGS_RF | RFLAGS_VM);
	if (!cpu_store_slow(c, op, addr, size))
		FAULT();
	c->gpr[REG_RSP] = mask == UINT16_MAX ? (c->gpr[REG_RSP] & ~mask) | sp
					     : sp;
	NEXT();
}

OP(cpuid)
{
	uint32_t *r = (uint32_t *)c->scratch;

	cpu_cpuid(c, (uint32_t)c->gpr[REG_RAX], (uint32_t)c->gpr[REG_RCX], r);
	c->gpr[REG_RAX] = r[0];
	c->gpr[REG_RBX] = r[1];
	c->gpr[REG_RCX] = r[2];
	c->gpr[REG_RDX] = r[3];
	NEXT();
}

static bool tsc_allowed(struct cpu *c)
{
	return !(c->cr4 & CR4_TSD) || c->cpl == 0 || gp(c);
}

OP(rdtsc)
{
	if (!tsc_allowed(c))
		FAULT();
	const uint64_t t = c->ops->tsc(c->ctx) + c->tsc_offset;

	c->gpr[REG_RAX] = (uint32_t)t;
	c->gpr[REG_RDX] = t >> 32;
	if (op->imm) /* RDTSCP */
		c->gpr[REG_RCX] = (uint32_t)c->tsc_aux;
	NEXT();
}

/* No counter exists, so every number is wrong, also where it may be asked for. */
OP(rdpmc)
{
	gp(c);
	FAULT();
}

OP(rdmsr)
{
	if (c->cpl) {
		gp(c);
		FAULT();
	}
	if (!cpu_rdmsr(c, (uint32_t)c->gpr[REG_RCX], c->scratch))
		FAULT();
	c->gpr[REG_RAX] = (uint32_t)c->scratch[0];
	c->gpr[REG_RDX] = c->scratch[0] >> 32;
	NEXT();
}

OP(wrmsr)
{
	if (c->cpl) {
		gp(c);
		FAULT();
	}
	if (!cpu_wrmsr(c, (uint32_t)c->gpr[REG_RCX],
		       c->gpr[REG_RDX] << 32 | (uint32_t)c->gpr[REG_RAX]))
		FAULT();
	LEAVE();
}

OP(swapgs)
{
	if (c->cpl) {
		gp(c);
		FAULT();
	}
	const uint64_t t = c->gpr[REG_SEG + SEG_GS];

	c->gpr[REG_SEG + SEG_GS] = c->kernel_gs_base;
	c->kernel_gs_base = t;
	NEXT();
}

OP(stac)
{
	if (c->cpl || c->features.no_smap) {
		ud(c);
		FAULT();
	}
	c->sys_flags |= RFLAGS_AC;
	NEXT();
}

OP(clac)
{
	if (c->cpl || c->features.no_smap) {
		ud(c);
		FAULT();
	}
	if (c->tlb.n_smap)
		tlb_close_smap(&c->tlb);
	c->sys_flags &= ~RFLAGS_AC;
	NEXT();
}

/* RDFSBASE and its like; op->src: segment, op->imm: operand width. */
OP(rdbase)
{
	const uint64_t v = c->gpr[REG_SEG + op->src];

	if (!(c->cr4 & CR4_FSGSBASE)) {
		ud(c);
		FAULT();
	}
	c->gpr[op->dst] = op->imm == 64 ? v : (uint32_t)v;
	NEXT();
}

OP(wrbase)
{
	const uint64_t v = op->imm == 64 ? c->gpr[op->dst]
					 : (uint32_t)c->gpr[op->dst];

	if (!(c->cr4 & CR4_FSGSBASE)) {
		ud(c);
		FAULT();
	}
	if (!cpu_canonical(v)) {
		gp(c);
		FAULT();
	}
	c->gpr[REG_SEG + op->src] = v;
	NEXT();
}

OP(rdpkru)
{
	if (!(c->cr4 & CR4_PKE)) {
		ud(c);
		FAULT();
	}
	if ((uint32_t)c->gpr[REG_RCX]) {
		gp(c);
		FAULT();
	}
	c->gpr[REG_RAX] = c->pkru;
	c->gpr[REG_RDX] = 0;
	NEXT();
}

OP(wrpkru)
{
	if (!(c->cr4 & CR4_PKE)) {
		ud(c);
		FAULT();
	}
	if ((uint32_t)c->gpr[REG_RCX] || (uint32_t)c->gpr[REG_RDX]) {
		gp(c);
		FAULT();
	}
	c->pkru = (uint32_t)c->gpr[REG_RAX];
	cpu_update_mmu(c);
	LEAVE();
}

static bool random_number(struct cpu *c)
{
	if (!c->features.repeatable)
		return getrandom(c->scratch, 8, 0) == 8;
	c->random = c->random * UINT64_C(6364136223846793005) + 1;
	c->scratch[0] = c->random ^ c->random >> 29;
	return true;
}

OP(rdrand)
{
	const unsigned int bits = (unsigned int)op->imm;
	const bool ok = random_number(c);
	const uint64_t v = ok ? c->scratch[0] : 0;

	c->af = (uint16_t)(0x0200U | (ok ? AF_CF : 0));
	if (bits == 16)
		host_st16(&c->gpr[op->dst], (uint16_t)v);
	else
		c->gpr[op->dst] = bits == 64 ? v : (uint32_t)v;
	NEXT();
}

static bool emit_mov(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_mov_special(e);
}

static bool emit_pushpop(struct emitter *e, const struct insn_emit *self)
{
	return emit_pushpop_segment(e, self->arg);
}

static bool emit_far(struct emitter *e, const struct insn_emit *self)
{
	return emit_far_branch(e, self->arg);
}

static bool emit_pushf(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if ((e->mode & CODE_BITS) == CODE_64 && e->insn->operand_width == 64)
		op = emit(e, op_pushf_64);
	else
		op = emit(e, op_pushf);
	op->imm = e->insn->operand_width;
	op->ea |= EA_STACK;
	return true;
}

static bool emit_base(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	if (!e->c->features.fsgsbase)
		return false;
	op = emit(e, self->arg & 1 ? op_wrbase : op_rdbase);
	op->src = self->arg & 2 ? SEG_GS : SEG_FS;
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->imm = e->insn->operand_width;
	return true;
}

static bool emit_pkru(struct emitter *e, const struct insn_emit *self)
{
	if (!e->c->features.pku)
		return false;
	emit(e, self->arg ? op_wrpkru : op_rdpkru);
	e->end = self->arg;
	return true;
}

static bool emit_rdrand(struct emitter *e, const struct insn_emit *self)
{
	struct op *op = emit(e, op_rdrand);

	(void)self;
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->imm = e->insn->operand_width;
	return true;
}

enum small {
	SMALL_HLT,
	SMALL_CLI,
	SMALL_STI,
	SMALL_CPUID,
	SMALL_RDTSC,
	SMALL_RDTSCP,
	SMALL_RDPMC,
	SMALL_RDMSR,
	SMALL_WRMSR,
	SMALL_SWAPGS,
	SMALL_STAC,
	SMALL_CLAC,
	SMALL_COUNT,
};

static bool emit_small(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fn[SMALL_COUNT] = {
		[SMALL_HLT] = op_hlt,     [SMALL_CLI] = op_cli,
		[SMALL_STI] = op_sti,     [SMALL_CPUID] = op_cpuid,
		[SMALL_RDTSC] = op_rdtsc, [SMALL_RDTSCP] = op_rdtsc,
		[SMALL_RDPMC] = op_rdpmc, [SMALL_RDMSR] = op_rdmsr,
		[SMALL_WRMSR] = op_wrmsr, [SMALL_SWAPGS] = op_swapgs,
		[SMALL_STAC] = op_stac,   [SMALL_CLAC] = op_clac,
	};
	struct op *op = emit(e, fn[self->arg]);

	op->imm = self->arg == SMALL_RDTSCP;
	e->end = self->arg == SMALL_HLT || self->arg == SMALL_WRMSR;
	return true;
}

static const struct insn_emit rows[] = {
	{ZYDIS_MNEMONIC_MOV, emit_mov, 0},
	{ZYDIS_MNEMONIC_PUSH, emit_pushpop, false},
	{ZYDIS_MNEMONIC_POP, emit_pushpop, true},
	{ZYDIS_MNEMONIC_JMP, emit_far, false},
	{ZYDIS_MNEMONIC_CALL, emit_far, true},
	{ZYDIS_MNEMONIC_RET, emit_transfer, 0},
	{ZYDIS_MNEMONIC_INT, emit_transfer, 0},
	{ZYDIS_MNEMONIC_INT3, emit_transfer, 0},
	{ZYDIS_MNEMONIC_INT1, emit_transfer, 0},
	{ZYDIS_MNEMONIC_IRET, emit_transfer, 0},
	{ZYDIS_MNEMONIC_IRETD, emit_transfer, 0},
	{ZYDIS_MNEMONIC_IRETQ, emit_transfer, 0},
	{ZYDIS_MNEMONIC_SYSCALL, emit_transfer, 0},
	{ZYDIS_MNEMONIC_SYSRET, emit_transfer, 0},
	{ZYDIS_MNEMONIC_SYSENTER, emit_transfer, 0},
	{ZYDIS_MNEMONIC_SYSEXIT, emit_transfer, 0},
	{ZYDIS_MNEMONIC_POPF, emit_transfer, 0},
	{ZYDIS_MNEMONIC_POPFD, emit_transfer, 0},
	{ZYDIS_MNEMONIC_POPFQ, emit_transfer, 0},
	{ZYDIS_MNEMONIC_PUSHF, emit_pushf, 0},
	{ZYDIS_MNEMONIC_PUSHFD, emit_pushf, 0},
	{ZYDIS_MNEMONIC_PUSHFQ, emit_pushf, 0},
	{ZYDIS_MNEMONIC_CLTS, emit_control, 0},
	{ZYDIS_MNEMONIC_LMSW, emit_control, 0},
	{ZYDIS_MNEMONIC_SMSW, emit_control, 0},
	{ZYDIS_MNEMONIC_INVLPG, emit_control, 0},
	{ZYDIS_MNEMONIC_WBINVD, emit_control, 0},
	{ZYDIS_MNEMONIC_INVD, emit_control, 0},
	{ZYDIS_MNEMONIC_INVPCID, emit_invpcid, 0},
	{ZYDIS_MNEMONIC_LGDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_LIDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_SGDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_SIDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_LLDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_LTR, emit_segment, 0},
	{ZYDIS_MNEMONIC_SLDT, emit_segment, 0},
	{ZYDIS_MNEMONIC_STR, emit_segment, 0},
	{ZYDIS_MNEMONIC_LAR, emit_segment, 0},
	{ZYDIS_MNEMONIC_LSL, emit_segment, 0},
	{ZYDIS_MNEMONIC_VERR, emit_segment, 0},
	{ZYDIS_MNEMONIC_VERW, emit_segment, 0},
	{ZYDIS_MNEMONIC_ARPL, emit_segment, 0},
	{ZYDIS_MNEMONIC_LDS, emit_segment, 0},
	{ZYDIS_MNEMONIC_LES, emit_segment, 0},
	{ZYDIS_MNEMONIC_LFS, emit_segment, 0},
	{ZYDIS_MNEMONIC_LGS, emit_segment, 0},
	{ZYDIS_MNEMONIC_LSS, emit_segment, 0},
	{ZYDIS_MNEMONIC_IN, emit_io, 0},
	{ZYDIS_MNEMONIC_OUT, emit_io, 0},
	{ZYDIS_MNEMONIC_INSB, emit_io, 0},
	{ZYDIS_MNEMONIC_INSW, emit_io, 0},
	{ZYDIS_MNEMONIC_INSD, emit_io, 0},
	{ZYDIS_MNEMONIC_OUTSB, emit_io, 0},
	{ZYDIS_MNEMONIC_OUTSW, emit_io, 0},
	{ZYDIS_MNEMONIC_OUTSD, emit_io, 0},
	{ZYDIS_MNEMONIC_HLT, emit_small, SMALL_HLT},
	{ZYDIS_MNEMONIC_CLI, emit_small, SMALL_CLI},
	{ZYDIS_MNEMONIC_STI, emit_small, SMALL_STI},
	{ZYDIS_MNEMONIC_CPUID, emit_small, SMALL_CPUID},
	{ZYDIS_MNEMONIC_RDTSC, emit_small, SMALL_RDTSC},
	{ZYDIS_MNEMONIC_RDTSCP, emit_small, SMALL_RDTSCP},
	{ZYDIS_MNEMONIC_RDPMC, emit_small, SMALL_RDPMC},
	{ZYDIS_MNEMONIC_RDMSR, emit_small, SMALL_RDMSR},
	{ZYDIS_MNEMONIC_WRMSR, emit_small, SMALL_WRMSR},
	{ZYDIS_MNEMONIC_SWAPGS, emit_small, SMALL_SWAPGS},
	{ZYDIS_MNEMONIC_STAC, emit_small, SMALL_STAC},
	{ZYDIS_MNEMONIC_CLAC, emit_small, SMALL_CLAC},
	{ZYDIS_MNEMONIC_RDFSBASE, emit_base, 0},
	{ZYDIS_MNEMONIC_WRFSBASE, emit_base, 1},
	{ZYDIS_MNEMONIC_RDGSBASE, emit_base, 2},
	{ZYDIS_MNEMONIC_WRGSBASE, emit_base, 3},
	{ZYDIS_MNEMONIC_RDPKRU, emit_pkru, 0},
	{ZYDIS_MNEMONIC_WRPKRU, emit_pkru, 1},
	{ZYDIS_MNEMONIC_RDRAND, emit_rdrand, 0},
};

const struct insn_table sys_table = {rows, ARRAY_SIZE(rows)};

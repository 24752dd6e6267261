/* SPDX-License-Identifier: Apache-2.0 */
/* Flag instructions, decimal arithmetic, hints and fences, BOUND, INTO, UD. */
#include <cpu/int.h>

OP(clc)
{
	c->af &= (uint16_t)~AF_CF;
	NEXT();
}

OP(stc)
{
	c->af |= AF_CF;
	NEXT();
}

OP(cmc)
{
	c->af ^= AF_CF;
	NEXT();
}

OP(cld)
{
	c->sys_flags &= ~RFLAGS_DF;
	NEXT();
}

OP(std)
{
	c->sys_flags |= RFLAGS_DF;
	NEXT();
}

OP(lahf)
{
	reg_wr8(c, 1, (uint8_t)(af_to_rflags(c->af) | RFLAGS_ONE));
	NEXT();
}

OP(sahf)
{
	const uint64_t overflow = c->af & AF_OF ? RFLAGS_OF : 0;

	c->af = af_from_rflags(reg_rd8(c, 1) | overflow);
	NEXT();
}

/* AL is all ones or zeros, as CF is; no manual has it. */
OP(salc)
{
	host_st8(&c->gpr[REG_RAX], c->af & AF_CF ? 0xff : 0);
	NEXT();
}

bool emit_flag(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {op_clc, op_stc,  op_cmc,  op_cld,
				     op_std, op_lahf, op_sahf, op_salc};

	emit(e, fns[self->arg]);
	return true;
}

/* Flags of an 8-bit result, as the decimal instructions leave them; OF is clear. */
static uint16_t result_flags(uint8_t v)
{
	uint16_t af = 0x0200;

	if (!v)
		af |= AF_ZF;
	if (v & 0x80)
		af |= AF_SF;
	if (!__builtin_parity(v))
		af |= AF_PF;
	return af;
}

/* [SDM2 "AAA", "AAS", "DAA", "DAS"] */
static void adjust_ascii(struct cpu *c, int sign)
{
	uint16_t ax = (uint16_t)c->gpr[REG_RAX];
	const bool is_adjusted = (ax & 15) > 9 || (c->af & AF_AF);

	if (is_adjusted)
		ax = (uint16_t)(ax + sign * 0x106);
	ax &= 0xff0f;
	reg_wr16(c, REG_RAX, ax);
	c->af = (uint16_t)(result_flags((uint8_t)ax) |
			   (is_adjusted ? AF_AF | AF_CF : 0));
}

static void adjust_decimal(struct cpu *c, int sign)
{
	const uint8_t old = reg_rd8(c, 0);
	const bool old_cf = c->af & AF_CF;
	uint8_t al = old;
	uint16_t af = 0;

	if ((old & 15) > 9 || (c->af & AF_AF)) {
		al = (uint8_t)(al + sign * 6);
		af |= AF_AF;
		/* The carry out of the low step counts for subtraction. */
		if (sign < 0 && (old_cf || old < 6))
			af |= AF_CF;
	}
	if (old > 0x99 || old_cf) {
		al = (uint8_t)(al + sign * 0x60);
		af |= AF_CF;
	}
	reg_wr8(c, 0, al);
	c->af = (uint16_t)(af | result_flags(al));
}

OP(aaa)
{
	adjust_ascii(c, 1);
	NEXT();
}

OP(aas)
{
	adjust_ascii(c, -1);
	NEXT();
}

OP(daa)
{
	adjust_decimal(c, 1);
	NEXT();
}

OP(das)
{
	adjust_decimal(c, -1);
	NEXT();
}

OP(aam)
{
	const uint8_t base = (uint8_t)op->imm;
	const uint8_t al = reg_rd8(c, 0);

	if (!base) {
		cpu_raise(c, VEC_DE);
		FAULT();
	}
	reg_wr16(c, REG_RAX, (uint16_t)(al / base << 8 | al % base));
	c->af = result_flags(al % base);
	NEXT();
}

OP(aad)
{
	const uint8_t al = (uint8_t)(reg_rd8(c, 0) +
				     reg_rd8(c, 1) * (uint8_t)op->imm);

	reg_wr16(c, REG_RAX, al);
	c->af = result_flags(al);
	NEXT();
}

bool emit_bcd(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {op_aaa, op_aas, op_daa,
				     op_das, op_aam, op_aad};
	struct op *op = emit(e, fns[self->arg]);

	if (emit_is_imm(&e->ops[0]))
		op->imm = e->ops[0].imm.value.u;
	return true;
}

OP(nop)
{
	(void)c;
	NEXT();
}

/* NOP, PAUSE, prefetches and the hints that older processors ignore: nothing happens, no op. */
bool emit_nop(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	/* A block of nothing else still needs an op to hold its place. */
	emit(e, op_nop);
	return true;
}

/*
 * Every access is done in program order, and stores are the host's, so only a full fence means
 * something to other threads.
 */
OP(mfence)
{
	(void)c;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	NEXT();
}

bool emit_fence(struct emitter *e, const struct insn_emit *self)
{
	emit(e, self->arg && e->c->features.n_cpus > 1 ? op_mfence : op_nop);
	return true;
}

/* CLFLUSH is checked like a load of a byte. */
OP(clflush)
{
	uint8_t v;

	LOAD(8, v, cpu_ea(c, op));
	(void)v;
	NEXT();
}

bool emit_clflush(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_mem(e, emit(e, op_clflush), &e->ops[0]);
	return true;
}

/* The bounds are two operands; the second may fault when the first does not. */
#define BOUND(bits)                                              \
	OP(bound##bits)                                          \
	{                                                        \
		const INT(bits) i = (INT(bits))c->gpr[op->src];  \
		const uint64_t addr = cpu_ea(c, op);             \
		UINT(bits) low, high;                            \
		LOAD(bits, low, addr);                           \
		LOAD(bits, high, addr + (bits) / 8);             \
		if (i < (INT(bits))low || i > (INT(bits))high) { \
			cpu_raise(c, VEC_BR);                    \
			FAULT();                                 \
		}                                                \
		NEXT();                                          \
	}

BOUND(16)
BOUND(32)

bool emit_bound(struct emitter *e, const struct insn_emit *self)
{
	struct op *op = emit(e, e->ops[0].size == 16 ? op_bound16 : op_bound32);

	(void)self;
	emit_mem(e, op, &e->ops[1]);
	op->src = emit_reg(&e->ops[0]);
	return true;
}

/* #OF is a trap: RIP is that of the next instruction. */
OP(into)
{
	if (c->af & AF_OF) {
		cpu_raise(c, VEC_OF);
		LEAVE();
	}
	NEXT();
}

bool emit_into(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit(e, op_into);
	return true;
}

/* UD0, UD1, UD2: meant to raise, so not counted as lacking. */
OP(ud)
{
	cpu_raise(c, VEC_UD);
	FAULT();
}

bool emit_undefined(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit(e, op_ud);
	e->end = true;
	return true;
}

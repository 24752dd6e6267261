/* SPDX-License-Identifier: Apache-2.0 */
/* FXSAVE, FXRSTOR, LDMXCSR, STMXCSR. [APM4 FXSAVE, SDM2 FXSAVE] */
#include <string.h>

#include <cpu/fp_ops.h>
#include <cpu/sse.h>

#define FX_XMM     160U /* offset of XMM0 */
#define FX_MXCSR   24U
#define FX_WIDE    1U /* op.imm: pointers are 64 bits wide (REX.W) */
#define FX_XMM_ALL 2U /* op.imm: 16 XMM registers (64-bit mode), else 8 */

OP(stmxcsr)
{
	STORE(32, cpu_ea(c, op), fp_mxcsr(c));
	NEXT();
}

/* Ends the block: the code that follows may have to be decoded for another mode. */
OP(ldmxcsr)
{
	uint32_t v;

	LOAD(32, v, cpu_ea(c, op));
	if (unlikely(v & ~MXCSR_VALID)) {
		cpu_raise_code(c, VEC_GP, 0);
		FAULT();
	}
	fp_set_mxcsr(c, v);
	JUMP(cpu_next_rip(c, op));
}

static unsigned int fx_bytes(const struct op *op)
{
	return FX_XMM + (op->imm & FX_XMM_ALL ? 16 : 8) * 16;
}

static bool fx_address(struct cpu *c, const struct op *op, uint64_t *ret_addr)
{
	*ret_addr = cpu_ea(c, op);
	if (likely(!(*ret_addr & 15)))
		return true;
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

/* Without REX.W the pointers are 32 bits and a selector, which is zero. */
static void fx_narrow(uint8_t *pointer)
{
	host_st32(pointer + 4, 0);
}

__attribute__((noinline)) static bool fxsave(struct cpu *c, const struct op *op)
{
	uint8_t image[FX_XMM + sizeof(c->xmm)];
	struct cpu_x87 x;
	uint64_t addr;

	if (!fx_address(c, op, &addr))
		return false;
	x87_save(c);
	x = c->x87;
	x.mxcsr = fp_mxcsr(c);
	x.mxcsr_mask = MXCSR_VALID;
	for (unsigned int i = 0; i < 8; i++)
		memset(x.st[i] + 10, 0, 6);
	memcpy(image, &x, sizeof(x));
	memcpy(image + FX_XMM, c->xmm, sizeof(c->xmm));
	if (!(op->imm & FX_WIDE)) {
		fx_narrow(image + offsetof(struct cpu_x87, fip));
		fx_narrow(image + offsetof(struct cpu_x87, fdp));
	}
	return fp_store_bytes(c, op, addr, image, fx_bytes(op));
}

__attribute__((noinline)) static bool fxrstor(struct cpu *c, const struct op *op)
{
	uint8_t image[FX_XMM + sizeof(c->xmm)];
	uint64_t addr;

	if (!fx_address(c, op, &addr) ||
	    !fp_load_bytes(c, op, addr, image, fx_bytes(op)))
		return false;

	const uint32_t mxcsr = host_ld32(image + FX_MXCSR);

	if (mxcsr & ~MXCSR_VALID) {
		cpu_raise_code(c, VEC_GP, 0);
		return false;
	}
	if (!(op->imm & FX_WIDE)) {
		fx_narrow(image + offsetof(struct cpu_x87, fip));
		fx_narrow(image + offsetof(struct cpu_x87, fdp));
	}
	x87_save(c);
	memcpy(&c->x87, image, sizeof(c->x87));
	c->x87.fcw = (uint16_t)((c->x87.fcw & FCW_KEPT) | FCW_ONE);
	c->x87.fop &= 0x7ff;
	x87_update_es(c);
	memcpy(c->xmm, image + FX_XMM, fx_bytes(op) - FX_XMM);
	fp_set_mxcsr(c, mxcsr);
	return true;
}

OP(fxsave)
{
	if (!fxsave(c, op))
		FAULT();
	NEXT();
}

OP(fxrstor)
{
	if (!fxrstor(c, op))
		FAULT();
	JUMP(cpu_next_rip(c, op));
}

static struct op *emit_on_mem(struct emitter *e, enum fp_kind kind, op_fn *fn)
{
	struct op *op;

	fp_emit_check(e, kind);
	op = emit(e, fn);
	emit_mem(e, op, &e->ops[0]);
	return op;
}

static uint64_t fx_form(const struct emitter *e)
{
	const bool is_64 = (e->mode & CODE_BITS) == CODE_64;
	const bool wide = e->insn->mnemonic == ZYDIS_MNEMONIC_FXSAVE64 ||
			  e->insn->mnemonic == ZYDIS_MNEMONIC_FXRSTOR64;

	return (is_64 ? FX_XMM_ALL : 0) | (wide ? FX_WIDE : 0);
}

bool sse_emit_ldmxcsr(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_on_mem(e, FP_KIND_SSE, op_ldmxcsr);
	e->end = true;
	return true;
}

bool sse_emit_stmxcsr(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_on_mem(e, FP_KIND_SSE, op_stmxcsr);
	return true;
}

bool sse_emit_fxsave(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_on_mem(e, FP_KIND_FXSR, op_fxsave)->imm = fx_form(e);
	return true;
}

bool sse_emit_fxrstor(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_on_mem(e, FP_KIND_FXSR, op_fxrstor)->imm = fx_form(e);
	e->end = true;
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* SSE and SSE2 on packed integers, logic and shuffles: what raises no floating-point exception. */
#include <cpu/fp_ops.h>
#include <cpu/sse.h>
#include <cpu/sse_stub.h>

/* rr: registers; rm: memory, aligned; ri: immediate (shifts) */
#define HANDLERS(m, insn)                                                \
	OP(m##_rr)                                                       \
	{                                                                \
		const __m128i s = xmm_get(c, op->src);                   \
		__m128i d = xmm_get(c, op->dst);                         \
		__asm__(insn " %1, %0" : "+x"(d) : "x"(s));              \
		xmm_set(c, op->dst, d);                                  \
		NEXT();                                                  \
	}                                                                \
	OP(m##_rm)                                                       \
	{                                                                \
		__m128i s, d;                                            \
		LOAD128_ALIGNED(s, cpu_ea(c, op));                       \
		d = xmm_get(c, op->dst);                                 \
		__asm__(insn " %1, %0" : "+x"(d) : "x"(s));              \
		xmm_set(c, op->dst, d);                                  \
		NEXT();                                                  \
	}                                                                \
	OP(m##_ri)                                                       \
	{                                                                \
		const __m128i s = _mm_set_epi64x(0, (long long)op->imm); \
		__m128i d = xmm_get(c, op->dst);                         \
		__asm__(insn " %1, %0" : "+x"(d) : "x"(s));              \
		xmm_set(c, op->dst, d);                                  \
		NEXT();                                                  \
	}

SSE_INT(HANDLERS)

/* The usual way to clear a register. */
OP(xmm_zero)
{
	xmm_set(c, op->dst, _mm_setzero_si128());
	NEXT();
}

static bool is_zeroing(const struct emitter *e)
{
	if (e->ops[0].reg.value != e->ops[1].reg.value)
		return false;
	switch ((int)e->insn->mnemonic) {
	case ZYDIS_MNEMONIC_PXOR:
	case ZYDIS_MNEMONIC_XORPS:
	case ZYDIS_MNEMONIC_XORPD:
		return true;
	default:
		return false;
	}
}

#define FORM(m, insn) [SSE_##m] = {op_##m##_rr, op_##m##_rm, op_##m##_ri},

bool sse_emit_int(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr, *rm, *ri;
	} forms[] = {SSE_INT(FORM)};
	const ZydisDecodedOperand *src = &e->ops[1];
	struct op *op;

	if (!sse_is_xmm(&e->ops[0]))
		return false;
	fp_emit_check(e, FP_KIND_SSE);
	if (emit_is_mem(src)) {
		op = emit(e, forms[self->arg].rm);
		emit_mem(e, op, src);
	} else if (src->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		op = emit(e, forms[self->arg].ri);
		op->imm = (uint8_t)src->imm.value.u;
	} else {
		op = emit(e, is_zeroing(e) ? op_xmm_zero : forms[self->arg].rr);
		op->src = emit_xmm(src->reg.value);
	}
	op->dst = emit_xmm(e->ops[0].reg.value);
	return true;
}

OP(imm_rr)
{
	xmm_set(c, op->dst,
		sse_call(op->imm, xmm_get(c, op->dst), xmm_get(c, op->src)));
	NEXT();
}

OP(imm_rm128)
{
	__m128i s;

	LOAD128_ALIGNED(s, cpu_ea(c, op));
	xmm_set(c, op->dst, sse_call(op->imm, xmm_get(c, op->dst), s));
	NEXT();
}

OP(imm_rm64)
{
	__m128i s;

	LOAD_XMM(64, s, cpu_ea(c, op));
	xmm_set(c, op->dst, sse_call(op->imm, xmm_get(c, op->dst), s));
	NEXT();
}

OP(imm_rm32)
{
	__m128i s;

	LOAD_XMM(32, s, cpu_ea(c, op));
	xmm_set(c, op->dst, sse_call(op->imm, xmm_get(c, op->dst), s));
	NEXT();
}

/* The immediate as far as the processor looks at it. */
static unsigned int effective_imm(unsigned int stub, uint8_t imm)
{
	switch (stub) {
	case SSE_STUB_PSLLDQ:
	case SSE_STUB_PSRLDQ:
		return imm > 16 ? 16 : imm;
	case SSE_STUB_SHUFPD:
		return imm & 3;
	case SSE_STUB_CMPPS:
	case SSE_STUB_CMPPD:
	case SSE_STUB_CMPSS:
	case SSE_STUB_CMPSD:
		return imm & 7;
	default:
		return imm;
	}
}

static bool may_raise(unsigned int stub)
{
	return stub >= SSE_STUB_CMPPS;
}

bool sse_emit_imm(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *src = &e->ops[1];
	const ZydisDecodedOperand *imm = src;
	struct op *op;
	uint8_t dst;

	if (!sse_is_xmm(&e->ops[0]))
		return false;
	if (imm->type != ZYDIS_OPERAND_TYPE_IMMEDIATE)
		imm = &e->ops[2];
	dst = emit_xmm(e->ops[0].reg.value);
	fp_emit_check(e, FP_KIND_SSE);
	if (may_raise(self->arg))
		sse_watch_begin(e, SSE_DST_XMM, dst);
	if (emit_is_mem(src)) {
		op = emit(e, src->size == 32   ? op_imm_rm32
			     : src->size == 64 ? op_imm_rm64
					       : op_imm_rm128);
		emit_mem(e, op, src);
	} else {
		op = emit(e, op_imm_rr);
		op->src = sse_is_xmm(src) ? emit_xmm(src->reg.value) : 0;
	}
	op->dst = dst;
	op->imm = self->arg +
		  effective_imm(self->arg, (uint8_t)imm->imm.value.u);
	if (may_raise(self->arg))
		sse_watch_end(e, SSE_DST_XMM, dst, SSE_RESULT_NONE);
	return true;
}

/* op.imm: number of the word */
OP(pinsrw_rr)
{
	c->xmm[op->dst].u16[op->imm] = (uint16_t)c->gpr[op->src];
	NEXT();
}

OP(pinsrw_rm)
{
	uint16_t v;

	LOAD(16, v, cpu_ea(c, op));
	c->xmm[op->dst].u16[op->imm] = v;
	NEXT();
}

bool sse_emit_pinsrw(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!sse_is_xmm(&e->ops[0]))
		return false;
	fp_emit_check(e, FP_KIND_SSE);
	if (emit_is_mem(&e->ops[1])) {
		op = emit(e, op_pinsrw_rm);
		emit_mem(e, op, &e->ops[1]);
	} else {
		op = emit(e, op_pinsrw_rr);
		op->src = emit_gpr(e->ops[1].reg.value);
	}
	op->dst = emit_xmm(e->ops[0].reg.value);
	op->imm = e->ops[2].imm.value.u & 7;
	return true;
}

OP(pextrw)
{
	c->gpr[op->dst] = c->xmm[op->src].u16[op->imm];
	NEXT();
}

bool sse_emit_pextrw(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	/* To memory it is an instruction of SSE4.1. */
	if (emit_is_mem(&e->ops[0]) || !sse_is_xmm(&e->ops[1]) ||
	    e->insn->opcode_map != ZYDIS_OPCODE_MAP_0F)
		return false;
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, op_pextrw);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
	op->imm = e->ops[2].imm.value.u & 7;
	return true;
}

OP(pmovmskb)
{
	c->gpr[op->dst] = (uint64_t)_mm_movemask_epi8(xmm_get(c, op->src));
	NEXT();
}

bool sse_emit_pmovmskb(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!sse_is_xmm(&e->ops[1]))
		return false;
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, op_pmovmskb);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MMX instructions: on the mantissas of the x87 registers in memory, with the host's SSE2.
 *
 * The host's own MMX unit is not used, so that there is no live state to look after.
 */
#include <cpu/mmx.h>

#include <cpu/fp_ops.h>
#include <cpu/masked_store.h>
#include <cpu/sse_stub.h>

static bool is_mm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       o->reg.value >= ZYDIS_REGISTER_MM0 &&
	       o->reg.value <= ZYDIS_REGISTER_MM7;
}

static uint8_t mm_number(const ZydisDecodedOperand *o)
{
	return (uint8_t)(o->reg.value - ZYDIS_REGISTER_MM0);
}

static __m128i to_xmm(uint64_t v)
{
	return _mm_set_epi64x(0, (long long)v);
}

static uint64_t low_half(__m128i v)
{
	return (uint64_t)_mm_cvtsi128_si64(v);
}

#define COMBINE_LOW(d, s)  (d)
#define COMBINE_HIGH(d, s) (d)
#define COMBINE_PACK(d, s) _mm_unpacklo_epi64(d, s)
#define RESULT_LOW(v)      low_half(v)
#define RESULT_PACK(v)     low_half(v)
#define RESULT_HIGH(v)     low_half(_mm_unpackhi_epi64(v, v))

#define COMPUTE(insn, how, source)                                  \
	do {                                                        \
		const __m128i s_ = (source);                        \
		__m128i d_ = COMBINE_##how(                         \
			to_xmm(host_ld64(c->x87.st[op->dst])), s_); \
		__asm__(insn " %1, %0" : "+x"(d_) : "x"(s_));       \
		mmx_set(c, op->dst, RESULT_##how(d_));              \
	} while (0)

/* rr: registers; rm: memory; ri: immediate (shifts) */
#define HANDLERS(m, insn, bits, how)                                       \
	OP(m##_rr)                                                         \
	{                                                                  \
		MMX_CHECK();                                               \
		MMX_ENTER();                                               \
		COMPUTE(insn, how, to_xmm(host_ld64(c->x87.st[op->src]))); \
		NEXT();                                                    \
	}                                                                  \
	OP(m##_rm)                                                         \
	{                                                                  \
		uint##bits##_t v;                                          \
		MMX_CHECK();                                               \
		LOAD(bits, v, cpu_ea(c, op));                              \
		MMX_ENTER();                                               \
		COMPUTE(insn, how, to_xmm(v));                             \
		NEXT();                                                    \
	}                                                                  \
	OP(m##_ri)                                                         \
	{                                                                  \
		MMX_CHECK();                                               \
		MMX_ENTER();                                               \
		COMPUTE(insn, how, to_xmm(op->imm));                       \
		NEXT();                                                    \
	}

MMX_BINARY(HANDLERS)

#define FORM(m, insn, bits, how) \
	[MMX_##m] = {op_##m##_rr, op_##m##_rm, op_##m##_ri},

bool mmx_emit_binary(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr, *rm, *ri;
	} forms[] = {MMX_BINARY(FORM)};
	const ZydisDecodedOperand *src = &e->ops[1];
	struct op *op;

	if (!is_mm(&e->ops[0]))
		return false;
	fp_emit_check(e, FP_KIND_MMX);
	if (emit_is_mem(src)) {
		op = emit(e, forms[self->arg].rm);
		emit_mem(e, op, src);
	} else if (src->type == ZYDIS_OPERAND_TYPE_IMMEDIATE) {
		op = emit(e, forms[self->arg].ri);
		op->imm = (uint8_t)src->imm.value.u;
	} else {
		op = emit(e, forms[self->arg].rr);
		op->src = mm_number(src);
	}
	op->dst = mm_number(&e->ops[0]);
	return true;
}

OP(movq_rr)
{
	MMX_CHECK();
	MMX_ENTER();
	mmx_set(c, op->dst, host_ld64(c->x87.st[op->src]));
	NEXT();
}

OP(movq_load)
{
	uint64_t v;

	MMX_CHECK();
	LOAD(64, v, cpu_ea(c, op));
	MMX_ENTER();
	mmx_set(c, op->dst, v);
	NEXT();
}

OP(movq_store)
{
	MMX_CHECK();
	STORE(64, cpu_ea(c, op), mmx_get(c, op->src));
	MMX_ENTER();
	NEXT();
}

OP(movd_load)
{
	uint32_t v;

	MMX_CHECK();
	LOAD(32, v, cpu_ea(c, op));
	MMX_ENTER();
	mmx_set(c, op->dst, v);
	NEXT();
}

OP(movd_store)
{
	MMX_CHECK();
	STORE(32, cpu_ea(c, op), (uint32_t)mmx_get(c, op->src));
	MMX_ENTER();
	NEXT();
}

OP(movd_from_gpr)
{
	MMX_CHECK();
	MMX_ENTER();
	mmx_set(c, op->dst, (uint32_t)c->gpr[op->src]);
	NEXT();
}

OP(movq_from_gpr)
{
	MMX_CHECK();
	MMX_ENTER();
	mmx_set(c, op->dst, c->gpr[op->src]);
	NEXT();
}

OP(movd_to_gpr)
{
	MMX_CHECK();
	MMX_ENTER();
	c->gpr[op->dst] = host_ld32(c->x87.st[op->src]);
	NEXT();
}

OP(movq_to_gpr)
{
	MMX_CHECK();
	MMX_ENTER();
	c->gpr[op->dst] = host_ld64(c->x87.st[op->src]);
	NEXT();
}

static bool emit_move_to_mm(struct emitter *e)
{
	const ZydisDecodedOperand *src = &e->ops[1];
	const bool wide = src->size == 64;
	struct op *op;

	fp_emit_check(e, FP_KIND_MMX);
	if (emit_is_mem(src)) {
		op = emit(e, wide ? op_movq_load : op_movd_load);
		emit_mem(e, op, src);
	} else if (is_mm(src)) {
		op = emit(e, op_movq_rr);
		op->src = mm_number(src);
	} else {
		op = emit(e, wide ? op_movq_from_gpr : op_movd_from_gpr);
		op->src = emit_gpr(src->reg.value);
	}
	op->dst = mm_number(&e->ops[0]);
	return true;
}

bool mmx_emit_move(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *dst = &e->ops[0];
	const bool wide = dst->size == 64;
	struct op *op;

	(void)self;
	if (is_mm(dst))
		return emit_move_to_mm(e);
	if (!is_mm(&e->ops[1]))
		return false;
	fp_emit_check(e, FP_KIND_MMX);
	if (emit_is_mem(dst)) {
		op = emit(e, wide ? op_movq_store : op_movd_store);
		emit_mem(e, op, dst);
	} else {
		op = emit(e, wide ? op_movq_to_gpr : op_movd_to_gpr);
		op->dst = emit_gpr(dst->reg.value);
	}
	op->src = mm_number(&e->ops[1]);
	return true;
}

/* PSHUFW is PSHUFLW on the low half. */
OP(pshufw_rr)
{
	__m128i v;

	MMX_CHECK();
	MMX_ENTER();
	v = to_xmm(host_ld64(c->x87.st[op->src]));
	mmx_set(c, op->dst, low_half(sse_call(op->imm, v, v)));
	NEXT();
}

OP(pshufw_rm)
{
	uint64_t m;
	__m128i v;

	MMX_CHECK();
	LOAD(64, m, cpu_ea(c, op));
	MMX_ENTER();
	v = to_xmm(m);
	mmx_set(c, op->dst, low_half(sse_call(op->imm, v, v)));
	NEXT();
}

bool mmx_emit_pshufw(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	fp_emit_check(e, FP_KIND_MMX);
	if (emit_is_mem(&e->ops[1])) {
		op = emit(e, op_pshufw_rm);
		emit_mem(e, op, &e->ops[1]);
	} else {
		op = emit(e, op_pshufw_rr);
		op->src = mm_number(&e->ops[1]);
	}
	op->dst = mm_number(&e->ops[0]);
	op->imm = SSE_STUB_PSHUFLW + (uint8_t)e->ops[2].imm.value.u;
	return true;
}

/* op.imm: number of the word */
OP(pinsrw_rr)
{
	MMX_CHECK();
	MMX_ENTER();
	host_st16(c->x87.st[op->dst] + 2 * op->imm, (uint16_t)c->gpr[op->src]);
	host_st16(c->x87.st[op->dst] + 8, 0xffff);
	NEXT();
}

OP(pinsrw_rm)
{
	uint16_t v;

	MMX_CHECK();
	LOAD(16, v, cpu_ea(c, op));
	MMX_ENTER();
	host_st16(c->x87.st[op->dst] + 2 * op->imm, v);
	host_st16(c->x87.st[op->dst] + 8, 0xffff);
	NEXT();
}

bool mmx_emit_pinsrw(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!is_mm(&e->ops[0]))
		return false;
	fp_emit_check(e, FP_KIND_MMX);
	if (emit_is_mem(&e->ops[1])) {
		op = emit(e, op_pinsrw_rm);
		emit_mem(e, op, &e->ops[1]);
	} else {
		op = emit(e, op_pinsrw_rr);
		op->src = emit_gpr(e->ops[1].reg.value);
	}
	op->dst = mm_number(&e->ops[0]);
	op->imm = e->ops[2].imm.value.u & 3;
	return true;
}

OP(pextrw)
{
	MMX_CHECK();
	MMX_ENTER();
	c->gpr[op->dst] = host_ld16(c->x87.st[op->src] + 2 * op->imm);
	NEXT();
}

bool mmx_emit_pextrw(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!is_mm(&e->ops[1]))
		return false;
	fp_emit_check(e, FP_KIND_MMX);
	op = emit(e, op_pextrw);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = mm_number(&e->ops[1]);
	op->imm = e->ops[2].imm.value.u & 3;
	return true;
}

OP(pmovmskb)
{
	MMX_CHECK();
	MMX_ENTER();
	c->gpr[op->dst] = (uint64_t)_mm_movemask_epi8(
		to_xmm(host_ld64(c->x87.st[op->src])));
	NEXT();
}

bool mmx_emit_pmovmskb(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	if (!is_mm(&e->ops[1]))
		return false;
	fp_emit_check(e, FP_KIND_MMX);
	op = emit(e, op_pmovmskb);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = mm_number(&e->ops[1]);
	return true;
}

OP(maskmovq)
{
	MMX_CHECK();
	MMX_ENTER();
	if (!masked_store(c, op, to_xmm(host_ld64(c->x87.st[op->dst])),
			  to_xmm(host_ld64(c->x87.st[op->src])), 8))
		FAULT();
	NEXT();
}

bool mmx_emit_maskmovq(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	fp_emit_check(e, FP_KIND_MMX);
	op = emit(e, op_maskmovq);
	masked_store_emit(e, op);
	op->dst = mm_number(&e->ops[0]);
	op->src = mm_number(&e->ops[1]);
	return true;
}

OP(movq2dq)
{
	MMX_CHECK();
	MMX_ENTER();
	xmm_set(c, op->dst, to_xmm(host_ld64(c->x87.st[op->src])));
	NEXT();
}

bool mmx_emit_movq2dq(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, op_movq2dq);
	op->dst = emit_xmm(e->ops[0].reg.value);
	op->src = mm_number(&e->ops[1]);
	return true;
}

OP(movdq2q)
{
	MMX_CHECK();
	MMX_ENTER();
	mmx_set(c, op->dst, c->xmm[op->src].u64[0]);
	NEXT();
}

bool mmx_emit_movdq2q(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, op_movdq2q);
	op->dst = mm_number(&e->ops[0]);
	op->src = emit_xmm(e->ops[1].reg.value);
	return true;
}

OP(emms)
{
	MMX_CHECK();
	MMX_ENTER();
	x87_save(c);
	c->x87.ftw = 0;
	NEXT();
}

bool mmx_emit_emms(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	fp_emit_check(e, FP_KIND_MMX);
	emit(e, op_emms);
	return true;
}

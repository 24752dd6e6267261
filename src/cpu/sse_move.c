/* SPDX-License-Identifier: Apache-2.0 */
/* Moves of SSE and SSE2. */
#include <cpu/fp_ops.h>
#include <cpu/masked_store.h>
#include <cpu/sse.h>

/* Short forms, for operands with neither index nor segment, are what memcpy() is made of. */
#define MOVE_HANDLERS(name, load, store)                          \
	OP(name##_load)                                           \
	{                                                         \
		__m128i v;                                        \
		load(v, cpu_ea(c, op));                           \
		xmm_set(c, op->dst, v);                           \
		NEXT();                                           \
	}                                                         \
	OP(name##_load_simple)                                    \
	{                                                         \
		__m128i v;                                        \
		load(v, cpu_ea_simple(c, op));                    \
		xmm_set(c, op->dst, v);                           \
		NEXT();                                           \
	}                                                         \
	OP(name##_store)                                          \
	{                                                         \
		store(cpu_ea(c, op), xmm_get(c, op->src));        \
		NEXT();                                           \
	}                                                         \
	OP(name##_store_simple)                                   \
	{                                                         \
		store(cpu_ea_simple(c, op), xmm_get(c, op->src)); \
		NEXT();                                           \
	}

MOVE_HANDLERS(mova, LOAD128_ALIGNED, STORE128_ALIGNED)
MOVE_HANDLERS(movu, LOAD128, STORE128)

OP(xmm_copy)
{
	xmm_set(c, op->dst, xmm_get(c, op->src));
	NEXT();
}

static void emit_store(struct emitter *e, op_fn *fn)
{
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, fn);
	emit_mem(e, op, &e->ops[0]);
	op->src = emit_xmm(e->ops[1].reg.value);
}

static void emit_load(struct emitter *e, op_fn *fn)
{
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, fn);
	emit_mem(e, op, &e->ops[1]);
	op->dst = emit_xmm(e->ops[0].reg.value);
}

static void emit_regs(struct emitter *e, op_fn *fn)
{
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, fn);
	op->dst = emit_xmm(e->ops[0].reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
}

bool sse_emit_move(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const load[2][2] = {
		[SSE_MOVE_ALIGNED] = {op_mova_load, op_mova_load_simple},
		[SSE_MOVE_UNALIGNED] = {op_movu_load, op_movu_load_simple},
	};
	static op_fn *const store[2][2] = {
		[SSE_MOVE_ALIGNED] = {op_mova_store, op_mova_store_simple},
		[SSE_MOVE_UNALIGNED] = {op_movu_store, op_movu_store_simple},
	};
	const bool is_store = emit_is_mem(&e->ops[0]);
	struct op *op;

	if (!is_store && !emit_is_mem(&e->ops[1])) {
		emit_regs(e, op_xmm_copy);
		return true;
	}
	if (is_store)
		emit_store(e, store[self->arg][0]);
	else
		emit_load(e, load[self->arg][0]);
	op = &e->block->ops[e->block->n_ops - 1];
	if (emit_is_simple(op))
		op->fn = is_store ? store[self->arg][1] : load[self->arg][1];
	return true;
}

/* Scalars: from memory they clear the rest of the register, from a register they do not. */
#define SCALAR_HANDLERS(name, bits, lane)                            \
	OP(name##_rr)                                                \
	{                                                            \
		c->xmm[op->dst].lane[0] = c->xmm[op->src].lane[0];   \
		NEXT();                                              \
	}                                                            \
	OP(name##_load)                                              \
	{                                                            \
		__m128i v;                                           \
		LOAD_XMM(bits, v, cpu_ea(c, op));                    \
		xmm_set(c, op->dst, v);                              \
		NEXT();                                              \
	}                                                            \
	OP(name##_store)                                             \
	{                                                            \
		STORE(bits, cpu_ea(c, op), c->xmm[op->src].lane[0]); \
		NEXT();                                              \
	}

SCALAR_HANDLERS(movss, 32, u32)
SCALAR_HANDLERS(movsd, 64, u64)

static bool emit_scalar(struct emitter *e, op_fn *rr, op_fn *load, op_fn *store)
{
	if (emit_is_mem(&e->ops[0]))
		emit_store(e, store);
	else if (emit_is_mem(&e->ops[1]))
		emit_load(e, load);
	else
		emit_regs(e, rr);
	return true;
}

bool sse_emit_movss(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_scalar(e, op_movss_rr, op_movss_load, op_movss_store);
}

/* The string instruction has the same name. */
bool sse_emit_movsd(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	if (!sse_is_xmm(&e->ops[0]) && !sse_is_xmm(&e->ops[1]))
		return false;
	return emit_scalar(e, op_movsd_rr, op_movsd_load, op_movsd_store);
}

OP(movlps_load)
{
	LOAD(64, c->xmm[op->dst].u64[0], cpu_ea(c, op));
	NEXT();
}

OP(movhps_load)
{
	LOAD(64, c->xmm[op->dst].u64[1], cpu_ea(c, op));
	NEXT();
}

OP(movhps_store)
{
	STORE(64, cpu_ea(c, op), c->xmm[op->src].u64[1]);
	NEXT();
}

OP(movhlps)
{
	c->xmm[op->dst].u64[0] = c->xmm[op->src].u64[1];
	NEXT();
}

OP(movlhps)
{
	c->xmm[op->dst].u64[1] = c->xmm[op->src].u64[0];
	NEXT();
}

bool sse_emit_movlps(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	if (emit_is_mem(&e->ops[0]))
		emit_store(e, op_movsd_store);
	else
		emit_load(e, op_movlps_load);
	return true;
}

bool sse_emit_movhps(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	if (emit_is_mem(&e->ops[0]))
		emit_store(e, op_movhps_store);
	else
		emit_load(e, op_movhps_load);
	return true;
}

bool sse_emit_movhlps(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_regs(e, op_movhlps);
	return true;
}

bool sse_emit_movlhps(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	emit_regs(e, op_movlhps);
	return true;
}

OP(movq_rr)
{
	xmm_set(c, op->dst, _mm_move_epi64(xmm_get(c, op->src)));
	NEXT();
}

OP(movd_from_gpr)
{
	xmm_set(c, op->dst,
		_mm_set_epi64x(0, (long long)(uint32_t)c->gpr[op->src]));
	NEXT();
}

OP(movq_from_gpr)
{
	xmm_set(c, op->dst, _mm_set_epi64x(0, (long long)c->gpr[op->src]));
	NEXT();
}

OP(movd_to_gpr)
{
	c->gpr[op->dst] = c->xmm[op->src].u32[0];
	NEXT();
}

OP(movq_to_gpr)
{
	c->gpr[op->dst] = c->xmm[op->src].u64[0];
	NEXT();
}

static bool emit_movq_to_xmm(struct emitter *e)
{
	const ZydisDecodedOperand *src = &e->ops[1];
	const bool wide = src->size != 32;
	struct op *op;

	if (emit_is_mem(src)) {
		emit_load(e, wide ? op_movsd_load : op_movss_load);
		return true;
	}
	if (sse_is_xmm(src)) {
		emit_regs(e, op_movq_rr);
		return true;
	}
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, wide ? op_movq_from_gpr : op_movd_from_gpr);
	op->dst = emit_xmm(e->ops[0].reg.value);
	op->src = emit_gpr(src->reg.value);
	return true;
}

bool sse_emit_movq(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *dst = &e->ops[0];
	const bool wide = dst->size != 32;
	struct op *op;

	(void)self;
	if (sse_is_xmm(dst))
		return emit_movq_to_xmm(e);
	if (!sse_is_xmm(&e->ops[1]))
		return false;
	if (emit_is_mem(dst)) {
		emit_store(e, wide ? op_movsd_store : op_movss_store);
		return true;
	}
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, wide ? op_movq_to_gpr : op_movd_to_gpr);
	op->dst = emit_gpr(dst->reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
	return true;
}

OP(movmskps)
{
	c->gpr[op->dst] = (uint64_t)_mm_movemask_ps(
		_mm_castsi128_ps(xmm_get(c, op->src)));
	NEXT();
}

OP(movmskpd)
{
	c->gpr[op->dst] = (uint64_t)_mm_movemask_pd(
		_mm_castsi128_pd(xmm_get(c, op->src)));
	NEXT();
}

static bool emit_mask(struct emitter *e, op_fn *fn)
{
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, fn);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
	return true;
}

bool sse_emit_movmskps(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_mask(e, op_movmskps);
}

bool sse_emit_movmskpd(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_mask(e, op_movmskpd);
}

OP(maskmovdqu)
{
	if (!masked_store(c, op, xmm_get(c, op->dst), xmm_get(c, op->src), 16))
		FAULT();
	NEXT();
}

bool sse_emit_maskmovdqu(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	fp_emit_check(e, FP_KIND_SSE);
	op = emit(e, op_maskmovdqu);
	masked_store_emit(e, op);
	op->dst = emit_xmm(e->ops[0].reg.value);
	op->src = emit_xmm(e->ops[1].reg.value);
	return true;
}

/* Between general registers and memory: no rule of floating point applies. */
OP(movnti32)
{
	STORE(32, cpu_ea(c, op), (uint32_t)c->gpr[op->src]);
	NEXT();
}

OP(movnti64)
{
	STORE(64, cpu_ea(c, op), c->gpr[op->src]);
	NEXT();
}

bool sse_emit_movnti(struct emitter *e, const struct insn_emit *self)
{
	struct op *op = emit(e,
			     e->ops[0].size == 64 ? op_movnti64 : op_movnti32);

	(void)self;
	emit_mem(e, op, &e->ops[0]);
	op->src = emit_gpr(e->ops[1].reg.value);
	return true;
}

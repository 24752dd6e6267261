/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SSE and SSE2 arithmetic, comparisons and conversions.
 *
 * All run under the host's MXCSR with every exception masked (fp.h). Only where the guest
 * unmasks one (CODE_FP_UNMASKED) each of them stands between two more ops: one that keeps the
 * destination and clears the host's flags, one that looks at the flags, and puts
 * the destination back if the guest has to see an exception.
 */
#include <cpu/flags.h>
#include <cpu/fp_ops.h>
#include <cpu/sse.h>

/* Found before anything is computed; if one of these is unmasked, the others are not looked for. */
#define PRE_COMPUTATION 0x07U /* invalid, denormal, divide by zero */

OP(sse_watch_begin)
{
	switch ((enum sse_dst)op->src) {
	case SSE_DST_XMM:
		c->fp.xmm = c->xmm[op->dst];
		break;
	case SSE_DST_GPR:
		c->fp.gpr = c->gpr[op->dst];
		break;
	case SSE_DST_MM: /* the conversion does it: only then is it an MMX register */
		break;
	case SSE_DST_FLAGS:
		c->fp.af = c->af;
		break;
	}
	c->x87.mxcsr = fp_mxcsr(c);
	_mm_setcsr(fp_host_mxcsr(c->x87.mxcsr) & ~MXCSR_FLAGS);
	NEXT();
}

static bool is_tiny32(uint32_t v)
{
	return !(v & 0x7f800000) && (v & 0x007fffff);
}

static bool is_tiny64(uint64_t v)
{
	return !(v & UINT64_C(0x7ff0000000000000)) &&
	       (v & UINT64_C(0x000fffffffffffff));
}

static bool has_tiny(const union cpu_xmm *x, enum sse_result result)
{
	switch (result) {
	case SSE_RESULT_PS:
		return is_tiny32(x->u32[0]) || is_tiny32(x->u32[1]) ||
		       is_tiny32(x->u32[2]) || is_tiny32(x->u32[3]);
	case SSE_RESULT_PD:
		return is_tiny64(x->u64[0]) || is_tiny64(x->u64[1]);
	case SSE_RESULT_SS:
		return is_tiny32(x->u32[0]);
	case SSE_RESULT_SD:
		return is_tiny64(x->u64[0]);
	case SSE_RESULT_NONE:
		break;
	}
	return false;
}

/*
 * Flags that the instruction has raised, as they are with the guest's masks. An underflow
 * that is unmasked counts even if the tiny result is exact; masked, as on the
 * host just now, only if it is not. [SDM1 11.5.2.5]
 */
static uint32_t raised_flags(const struct cpu *c, const struct op *op,
			     uint32_t unmasked)
{
	uint32_t flags = _mm_getcsr() & MXCSR_FLAGS;

	if ((unmasked & MXCSR_UE) &&
	    has_tiny(&c->xmm[op->dst], (enum sse_result)op->imm))
		flags |= MXCSR_UE;
	if (flags & unmasked & PRE_COMPUTATION)
		flags &= PRE_COMPUTATION;
	return flags;
}

static void put_back(struct cpu *c, const struct op *op)
{
	switch ((enum sse_dst)op->src) {
	case SSE_DST_XMM:
		c->xmm[op->dst] = c->fp.xmm;
		break;
	case SSE_DST_GPR:
		c->gpr[op->dst] = c->fp.gpr;
		break;
	case SSE_DST_MM:
		memcpy(c->x87.st[op->dst], &c->fp.xmm, sizeof(c->fp.xmm));
		break;
	case SSE_DST_FLAGS:
		c->af = c->fp.af;
		break;
	}
}

OP(sse_watch_end)
{
	const uint32_t unmasked = (~c->x87.mxcsr >> MXCSR_MASK_SHIFT) &
				  MXCSR_FLAGS;
	const uint32_t flags = raised_flags(c, op, unmasked);

	c->x87.mxcsr |= flags;
	_mm_setcsr(fp_host_mxcsr(c->x87.mxcsr));
	if (unlikely(flags & unmasked)) {
		put_back(c, op);
		cpu_raise(c, c->cr4 & CR4_OSXMMEXCPT ? VEC_XM : VEC_UD);
		FAULT();
	}
	NEXT();
}

void sse_watch_begin(struct emitter *e, enum sse_dst kind, uint8_t dst)
{
	struct op *op;

	if (!(e->mode & CODE_FP_UNMASKED))
		return;
	op = emit(e, op_sse_watch_begin);
	op->dst = dst;
	op->src = kind;
}

void sse_watch_end(struct emitter *e, enum sse_dst kind, uint8_t dst,
		   enum sse_result result)
{
	struct op *op;

	if (!(e->mode & CODE_FP_UNMASKED))
		return;
	op = emit(e, op_sse_watch_end);
	op->dst = dst;
	op->src = kind;
	op->imm = result;
}

#define LOAD_32(var, addr)  LOAD_XMM(32, var, addr)
#define LOAD_64(var, addr)  LOAD_XMM(64, var, addr)
#define LOAD_128(var, addr) LOAD128_ALIGNED(var, addr)

/* Volatile: it reads and writes MXCSR, of which the compiler does not know. */
#define FLOAT_HANDLERS(m, insn, bits, result)                        \
	OP(m##_rr)                                                   \
	{                                                            \
		const __m128i s = xmm_get(c, op->src);               \
		__m128i d = xmm_get(c, op->dst);                     \
		__asm__ volatile(insn " %1, %0" : "+x"(d) : "x"(s)); \
		xmm_set(c, op->dst, d);                              \
		NEXT();                                              \
	}                                                            \
	OP(m##_rm)                                                   \
	{                                                            \
		__m128i s, d;                                        \
		LOAD_##bits(s, cpu_ea(c, op));                       \
		d = xmm_get(c, op->dst);                             \
		__asm__ volatile(insn " %1, %0" : "+x"(d) : "x"(s)); \
		xmm_set(c, op->dst, d);                              \
		NEXT();                                              \
	}

SSE_FLOAT(FLOAT_HANDLERS)

/* Append the op of an instruction whose source is an XMM register or memory. */
static struct op *emit_source(struct emitter *e, op_fn *rr, op_fn *rm)
{
	const ZydisDecodedOperand *src = &e->ops[1];
	struct op *op;

	if (emit_is_mem(src)) {
		op = emit(e, rm);
		emit_mem(e, op, src);
	} else {
		op = emit(e, rr);
		op->src = emit_xmm(src->reg.value);
	}
	return op;
}

#define FLOAT_FORM(m, insn, bits, result) \
	[SSE_##m] = {op_##m##_rr, op_##m##_rm, SSE_RESULT_##result},

bool sse_emit_float(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr, *rm;
		enum sse_result result;
	} forms[] = {SSE_FLOAT(FLOAT_FORM)};
	const uint8_t dst = emit_xmm(e->ops[0].reg.value);

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_XMM, dst);
	emit_source(e, forms[self->arg].rr, forms[self->arg].rm)->dst = dst;
	sse_watch_end(e, SSE_DST_XMM, dst, forms[self->arg].result);
	return true;
}

#define TO_GPR(insn, s, type)                                          \
	do {                                                           \
		type to_;                                              \
		__asm__ volatile(insn " %1, %0" : "=r"(to_) : "x"(s)); \
		c->gpr[op->dst] = to_;                                 \
	} while (0)

#define TO_GPR_HANDLERS(m, insn, bits)                 \
	OP(m##_32_rr)                                  \
	{                                              \
		const __m128i s = xmm_get(c, op->src); \
		TO_GPR(insn, s, uint32_t);             \
		NEXT();                                \
	}                                              \
	OP(m##_32_rm)                                  \
	{                                              \
		__m128i s;                             \
		LOAD_##bits(s, cpu_ea(c, op));         \
		TO_GPR(insn, s, uint32_t);             \
		NEXT();                                \
	}                                              \
	OP(m##_64_rr)                                  \
	{                                              \
		const __m128i s = xmm_get(c, op->src); \
		TO_GPR(insn, s, uint64_t);             \
		NEXT();                                \
	}                                              \
	OP(m##_64_rm)                                  \
	{                                              \
		__m128i s;                             \
		LOAD_##bits(s, cpu_ea(c, op));         \
		TO_GPR(insn, s, uint64_t);             \
		NEXT();                                \
	}

SSE_TO_GPR(TO_GPR_HANDLERS)

#define TO_GPR_FORM(m, insn, bits)                     \
	[SSE_##m] = {{op_##m##_32_rr, op_##m##_64_rr}, \
		     {op_##m##_32_rm, op_##m##_64_rm}},

bool sse_emit_to_gpr(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr[2], *rm[2];
	} forms[] = {SSE_TO_GPR(TO_GPR_FORM)};
	const uint8_t dst = emit_gpr(e->ops[0].reg.value);
	const bool wide = e->ops[0].size == 64;

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_GPR, dst);
	emit_source(e, forms[self->arg].rr[wide], forms[self->arg].rm[wide])
		->dst = dst;
	sse_watch_end(e, SSE_DST_GPR, dst, SSE_RESULT_NONE);
	return true;
}

#define FROM_GPR(insn, v)                                             \
	do {                                                          \
		__m128i d_ = xmm_get(c, op->dst);                     \
		__asm__ volatile(insn " %1, %0" : "+x"(d_) : "r"(v)); \
		xmm_set(c, op->dst, d_);                              \
	} while (0)

#define FROM_GPR_HANDLERS(m, insn)                             \
	OP(m##_32_rr)                                          \
	{                                                      \
		FROM_GPR(insn "l", (uint32_t)c->gpr[op->src]); \
		NEXT();                                        \
	}                                                      \
	OP(m##_32_rm)                                          \
	{                                                      \
		uint32_t v;                                    \
		LOAD(32, v, cpu_ea(c, op));                    \
		FROM_GPR(insn "l", v);                         \
		NEXT();                                        \
	}                                                      \
	OP(m##_64_rr)                                          \
	{                                                      \
		FROM_GPR(insn "q", c->gpr[op->src]);           \
		NEXT();                                        \
	}                                                      \
	OP(m##_64_rm)                                          \
	{                                                      \
		uint64_t v;                                    \
		LOAD(64, v, cpu_ea(c, op));                    \
		FROM_GPR(insn "q", v);                         \
		NEXT();                                        \
	}

SSE_FROM_GPR(FROM_GPR_HANDLERS)

#define FROM_GPR_FORM(m, insn)                         \
	[SSE_##m] = {{op_##m##_32_rr, op_##m##_64_rr}, \
		     {op_##m##_32_rm, op_##m##_64_rm}},

bool sse_emit_from_gpr(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr[2], *rm[2];
	} forms[] = {SSE_FROM_GPR(FROM_GPR_FORM)};
	const ZydisDecodedOperand *src = &e->ops[1];
	const uint8_t dst = emit_xmm(e->ops[0].reg.value);
	const bool wide = src->size == 64;
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_XMM, dst);
	if (emit_is_mem(src)) {
		op = emit(e, forms[self->arg].rm[wide]);
		emit_mem(e, op, src);
	} else {
		op = emit(e, forms[self->arg].rr[wide]);
		op->src = emit_gpr(src->reg.value);
	}
	op->dst = dst;
	sse_watch_end(e, SSE_DST_XMM, dst, SSE_RESULT_NONE);
	return true;
}

/* CF, PF and ZF tell the result; OF, SF and AF are cleared. */
#define COMPARE_HANDLERS(m, insn, bits)                             \
	OP(m##_rr)                                                  \
	{                                                           \
		uint32_t af;                                        \
		__asm__ volatile(insn " %2, %1" ASM_GET_FLAGS       \
				 : "=&a"(af)                        \
				 : "x"(xmm_get(c, op->dst)),        \
				   "x"(xmm_get(c, op->src))         \
				 : "cc");                           \
		c->af = (uint16_t)af;                               \
		NEXT();                                             \
	}                                                           \
	OP(m##_rm)                                                  \
	{                                                           \
		uint32_t af;                                        \
		__m128i s;                                          \
		LOAD_##bits(s, cpu_ea(c, op));                      \
		__asm__ volatile(insn " %2, %1" ASM_GET_FLAGS       \
				 : "=&a"(af)                        \
				 : "x"(xmm_get(c, op->dst)), "x"(s) \
				 : "cc");                           \
		c->af = (uint16_t)af;                               \
		NEXT();                                             \
	}

SSE_COMPARE(COMPARE_HANDLERS)

#define COMPARE_FORM(m, insn, bits) [SSE_##m] = {op_##m##_rr, op_##m##_rm},

bool sse_emit_compare(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr, *rm;
	} forms[] = {SSE_COMPARE(COMPARE_FORM)};
	const uint8_t dst = emit_xmm(e->ops[0].reg.value);

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_FLAGS, dst);
	emit_source(e, forms[self->arg].rr, forms[self->arg].rm)->dst = dst;
	sse_watch_end(e, SSE_DST_FLAGS, dst, SSE_RESULT_NONE);
	return true;
}

/* Conversions to MMX convert two elements: the upper half of a register must not raise flags. */
#define TO_MM(insn, bits, source)                                          \
	do {                                                               \
		const __m128i s_ = (bits) == 64 ? _mm_move_epi64(source)   \
						: (source);                \
		__m128i d_;                                                \
		__asm__ volatile(insn " %1, %0" : "=x"(d_) : "x"(s_));     \
		memcpy(&c->fp.xmm, c->x87.st[op->dst], sizeof(c->fp.xmm)); \
		mmx_set(c, op->dst, (uint64_t)_mm_cvtsi128_si64(d_));      \
	} while (0)

#define TO_MM_HANDLERS(m, insn, bits)                   \
	OP(m##_rr)                                      \
	{                                               \
		MMX_CHECK();                            \
		MMX_ENTER();                            \
		TO_MM(insn, bits, xmm_get(c, op->src)); \
		NEXT();                                 \
	}                                               \
	OP(m##_rm)                                      \
	{                                               \
		__m128i s;                              \
		MMX_CHECK();                            \
		LOAD_##bits(s, cpu_ea(c, op));          \
		MMX_ENTER();                            \
		TO_MM(insn, bits, s);                   \
		NEXT();                                 \
	}

SSE_TO_MM(TO_MM_HANDLERS)

static uint8_t mm_number(const ZydisDecodedOperand *o)
{
	return (uint8_t)(o->reg.value - ZYDIS_REGISTER_MM0);
}

#define TO_MM_FORM(m, insn, bits) [SSE_##m] = {op_##m##_rr, op_##m##_rm},

bool sse_emit_to_mm(struct emitter *e, const struct insn_emit *self)
{
	static const struct {
		op_fn *rr, *rm;
	} forms[] = {SSE_TO_MM(TO_MM_FORM)};
	const uint8_t dst = mm_number(&e->ops[0]);

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_MM, dst);
	emit_source(e, forms[self->arg].rr, forms[self->arg].rm)->dst = dst;
	sse_watch_end(e, SSE_DST_MM, dst, SSE_RESULT_NONE);
	return true;
}

#define FROM_MM(insn, v)                                               \
	do {                                                           \
		const __m128i s_ = _mm_set_epi64x(0, (long long)(v));  \
		__m128i d_;                                            \
		__asm__ volatile(insn " %1, %0" : "=x"(d_) : "x"(s_)); \
		from_ = d_;                                            \
	} while (0)

/* CVTPI2PS leaves the upper half alone. */
#define FROM_MM_PS(v)                                                        \
	do {                                                                 \
		__m128i from_;                                               \
		FROM_MM("cvtdq2ps", v);                                      \
		c->xmm[op->dst].u64[0] = (uint64_t)_mm_cvtsi128_si64(from_); \
	} while (0)

#define FROM_MM_PD(v)                       \
	do {                                \
		__m128i from_;              \
		FROM_MM("cvtdq2pd", v);     \
		xmm_set(c, op->dst, from_); \
	} while (0)

OP(cvtpi2ps_rr)
{
	MMX_CHECK();
	MMX_ENTER();
	FROM_MM_PS(host_ld64(c->x87.st[op->src]));
	NEXT();
}

OP(cvtpi2pd_rr)
{
	MMX_CHECK();
	MMX_ENTER();
	FROM_MM_PD(host_ld64(c->x87.st[op->src]));
	NEXT();
}

/* From memory they do not touch the MMX state. */
OP(cvtpi2ps_rm)
{
	uint64_t v;

	LOAD(64, v, cpu_ea(c, op));
	FROM_MM_PS(v);
	NEXT();
}

OP(cvtpi2pd_rm)
{
	uint64_t v;

	LOAD(64, v, cpu_ea(c, op));
	FROM_MM_PD(v);
	NEXT();
}

bool sse_emit_from_mm(struct emitter *e, const struct insn_emit *self)
{
	const bool ps = self->mnemonic == ZYDIS_MNEMONIC_CVTPI2PS;
	const ZydisDecodedOperand *src = &e->ops[1];
	const uint8_t dst = emit_xmm(e->ops[0].reg.value);
	struct op *op;

	fp_emit_check(e, FP_KIND_SSE);
	sse_watch_begin(e, SSE_DST_XMM, dst);
	if (emit_is_mem(src)) {
		op = emit(e, ps ? op_cvtpi2ps_rm : op_cvtpi2pd_rm);
		emit_mem(e, op, src);
	} else {
		op = emit(e, ps ? op_cvtpi2ps_rr : op_cvtpi2pd_rr);
		op->src = mm_number(src);
	}
	op->dst = dst;
	sse_watch_end(e, SSE_DST_XMM, dst, SSE_RESULT_NONE);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Multiplication and division. */
#include <cpu/int.h>

__extension__ typedef unsigned __int128 uint128_t;

/*
 * MUL and IMUL with the double-width product: the host's A and D hold it, and flags follow
 * into A once the low half has been moved out. Some processors leave undefined flags what
 * they were: XOR makes them the same whatever our compiler's code did before.
 */
#define MUL_ASM(insn, bits, source)                                              \
	do {                                                                     \
		uint64_t a = RD(bits, REG_RAX);                                  \
		UINT(bits) hi, lo;                                               \
		__asm__("xor %%edx, %%edx\n\t" insn                              \
			" %[s_]\n\tmov %%" A_REG_##bits ", %[lo_]" ASM_GET_FLAGS \
			: "+&a"(a), "=&d"(hi), [lo_] "=&r"(lo)                   \
			: [s_] "r"((UINT(bits))(source))                         \
			: "cc");                                                 \
		c->af = (uint16_t)a;                                             \
		WR(bits, REG_RAX, lo);                                           \
		WR(bits, REG_RDX, hi);                                           \
	} while (0);

#define A_REG_16 "ax"
#define A_REG_32 "eax"
#define A_REG_64 "rax"

/* The 8-bit product is in AX. */
#define MUL8_ASM(insn, source)                                    \
	do {                                                      \
		uint64_t a = RD(8, 0);                            \
		uint16_t product;                                 \
		__asm__("xor %k[p_], %k[p_]\n\t" insn             \
			" %[s_]\n\tmov %%ax, %[p_]" ASM_GET_FLAGS \
			: "+&a"(a), [p_] "=&r"(product)           \
			: [s_] "r"((uint8_t)(source))             \
			: "cc");                                  \
		c->af = (uint16_t)a;                              \
		WR(16, REG_RAX, product);                         \
	} while (0);

#define MUL_OPS(name, bits)                             \
	OP(name##_r##bits)                              \
	{                                               \
		MUL_ASM(#name, bits, RD(bits, op->src)) \
		NEXT();                                 \
	}                                               \
	MEM_LOAD(name##_m##bits, bits, MUL_ASM(#name, bits, m))

#define MUL_SIZES(name)                            \
	OP(name##_r8)                              \
	{                                          \
		MUL8_ASM(#name, RD(8, op->src))    \
		NEXT();                            \
	}                                          \
	MEM_LOAD(name##_m8, 8, MUL8_ASM(#name, m)) \
	MUL_OPS(name, 16)                          \
	MUL_OPS(name, 32)                          \
	MUL_OPS(name, 64)

MUL_SIZES(mul)
MUL_SIZES(imul)

/*
 * Division. The host would trap on what the guest must see as #DE, so quotients that do
 * not fit are found first. Flags are undefined, and stay as they are.
 */
static bool div64(struct cpu *c, uint64_t divisor)
{
	const uint64_t hi = c->gpr[REG_RDX];
	uint64_t quotient, rest;

	if (hi >= divisor)
		return false;
	__asm__("divq %[s_]"
		: "=a"(quotient), "=d"(rest)
		: "a"(c->gpr[REG_RAX]), "d"(hi), [s_] "r"(divisor)
		: "cc");
	c->gpr[REG_RAX] = quotient;
	c->gpr[REG_RDX] = rest;
	return true;
}

static bool div32(struct cpu *c, uint32_t divisor)
{
	const uint64_t dividend = c->gpr[REG_RDX] << 32 |
				  (uint32_t)c->gpr[REG_RAX];

	if ((uint32_t)c->gpr[REG_RDX] >= divisor)
		return false;
	c->gpr[REG_RAX] = (uint32_t)(dividend / divisor);
	c->gpr[REG_RDX] = (uint32_t)(dividend % divisor);
	return true;
}

static bool div16(struct cpu *c, uint16_t divisor)
{
	const uint32_t dividend = (uint32_t)c->gpr[REG_RDX] << 16 |
				  (uint16_t)c->gpr[REG_RAX];

	if ((uint16_t)c->gpr[REG_RDX] >= divisor)
		return false;
	reg_wr16(c, REG_RAX, (uint16_t)(dividend / divisor));
	reg_wr16(c, REG_RDX, (uint16_t)(dividend % divisor));
	return true;
}

static bool div8(struct cpu *c, uint8_t divisor)
{
	const uint16_t dividend = (uint16_t)c->gpr[REG_RAX];

	if (dividend >> 8 >= divisor)
		return false;
	reg_wr16(c, REG_RAX,
		 (uint16_t)((dividend / divisor) | (dividend % divisor) << 8));
	return true;
}

/* The quotient of magnitudes, with its sign, must fit; the rest has the dividend's sign. */
static bool idiv64(struct cpu *c, uint64_t divisor)
{
	const bool is_neg = c->gpr[REG_RDX] >> 63;
	const bool is_neg_quotient = is_neg != (bool)(divisor >> 63);
	const uint64_t d = divisor >> 63 ? -divisor : divisor;
	uint128_t n = (uint128_t)c->gpr[REG_RDX] << 64 | c->gpr[REG_RAX];
	uint64_t quotient, rest;

	n = is_neg ? -n : n;
	if ((uint64_t)(n >> 64) >= d)
		return false;
	__asm__("divq %[s_]"
		: "=a"(quotient), "=d"(rest)
		: "a"((uint64_t)n), "d"((uint64_t)(n >> 64)), [s_] "r"(d)
		: "cc");
	if (quotient > (uint64_t)INT64_MAX + is_neg_quotient)
		return false;
	c->gpr[REG_RAX] = is_neg_quotient ? -quotient : quotient;
	c->gpr[REG_RDX] = is_neg ? -rest : rest;
	return true;
}

static bool idiv32(struct cpu *c, uint32_t divisor)
{
	const int64_t n = (int64_t)(c->gpr[REG_RDX] << 32 |
				    (uint32_t)c->gpr[REG_RAX]);
	const int64_t d = (int32_t)divisor;

	if (d == 0 || (d == -1 && n == INT64_MIN) || n / d != (int32_t)(n / d))
		return false;
	c->gpr[REG_RAX] = (uint32_t)(n / d);
	c->gpr[REG_RDX] = (uint32_t)(n % d);
	return true;
}

static bool idiv16(struct cpu *c, uint16_t divisor)
{
	const int64_t n = (int32_t)((uint32_t)c->gpr[REG_RDX] << 16 |
				    (uint16_t)c->gpr[REG_RAX]);
	const int64_t d = (int16_t)divisor;

	if (d == 0 || n / d != (int16_t)(n / d))
		return false;
	reg_wr16(c, REG_RAX, (uint16_t)(n / d));
	reg_wr16(c, REG_RDX, (uint16_t)(n % d));
	return true;
}

static bool idiv8(struct cpu *c, uint8_t divisor)
{
	const int n = (int16_t)c->gpr[REG_RAX];
	const int d = (int8_t)divisor;

	if (d == 0 || n / d != (int8_t)(n / d))
		return false;
	reg_wr16(c, REG_RAX,
		 (uint16_t)((uint8_t)(n / d) | (uint8_t)(n % d) << 8));
	return true;
}

#define DIV_BODY(name, bits, source)              \
	if (unlikely(!name##bits(c, (source)))) { \
		cpu_raise(c, VEC_DE);             \
		FAULT();                          \
	}

#define DIV_OPS(name, bits)                             \
	OP(name##_r##bits)                              \
	{                                               \
		DIV_BODY(name, bits, RD(bits, op->src)) \
		NEXT();                                 \
	}                                               \
	MEM_LOAD(name##_m##bits, bits, DIV_BODY(name, bits, m))

#define DIV_SIZES(name)   \
	DIV_OPS(name, 8)  \
	DIV_OPS(name, 16) \
	DIV_OPS(name, 32) \
	DIV_OPS(name, 64)

DIV_SIZES(div)
DIV_SIZES(idiv)

struct mul_fns {
	op_fn *reg;
	op_fn *mem[MEM_VARIANTS];
};

#define MUL_FNS(name, bits)                                  \
	{                                                    \
		op_##name##_r##bits, MEM_FNS(name##_m##bits) \
	}
#define MUL_ROW(name)                                                   \
	{                                                               \
		MUL_FNS(name, 8), MUL_FNS(name, 16), MUL_FNS(name, 32), \
			MUL_FNS(name, 64),                              \
	}

static const struct mul_fns mul_fns[4][4] = {
	MUL_ROW(mul),
	MUL_ROW(imul),
	MUL_ROW(div),
	MUL_ROW(idiv),
};

/* The operand is the only explicit one. */
bool emit_mul(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = &e->ops[0];
	const struct mul_fns *fns = &mul_fns[self->arg][emit_size(o->size)];
	struct op *op = emit(e, fns->reg);

	if (emit_is_mem(o))
		emit_pick_mem(e, op, o, fns->mem);
	else
		op->src = emit_reg(o);
	return true;
}

/* IMUL with two or three operands. */
#define IMUL_ASM(bits, left, right)                       \
	do {                                              \
		UINT(bits) d = (UINT(bits))(left);        \
		uint16_t af;                              \
		__asm__("imul %[s_], %[d_]" ASM_GET_FLAGS \
			: [d_] "+r"(d), "=&a"(af)         \
			: [s_] "r"((UINT(bits))(right))   \
			: "cc");                          \
		c->af = af;                               \
		WR(bits, op->dst, d);                     \
	} while (0);

#define IMUL_OPS(bits)                                                      \
	OP(imul2_r##bits)                                                   \
	{                                                                   \
		IMUL_ASM(bits, RD(bits, op->dst), RD(bits, op->src))        \
		NEXT();                                                     \
	}                                                                   \
	OP(imul3_r##bits)                                                   \
	{                                                                   \
		IMUL_ASM(bits, RD(bits, op->src), op->imm)                  \
		NEXT();                                                     \
	}                                                                   \
	MEM_LOAD(imul2_m##bits, bits, IMUL_ASM(bits, RD(bits, op->dst), m)) \
	MEM_LOAD(imul3_m##bits, bits, IMUL_ASM(bits, m, op->imm))

IMUL_OPS(16)
IMUL_OPS(32)
IMUL_OPS(64)

#define IMUL_ROW(name)                                                  \
	{                                                               \
		MUL_FNS(name, 16), MUL_FNS(name, 32), MUL_FNS(name, 64) \
	}

bool emit_imul(struct emitter *e, const struct insn_emit *self)
{
	static const struct mul_fns fns[2][3] = {IMUL_ROW(imul2),
						 IMUL_ROW(imul3)};
	const ZydisDecodedOperand *o = e->ops;

	if (e->insn->operand_count_visible == 1)
		return emit_mul(e, self);
	const bool is_three = e->insn->operand_count_visible == 3;
	const struct mul_fns *f = &fns[is_three][emit_size(o[0].size) - 1];
	struct op *op = emit(e, f->reg);

	op->dst = emit_reg(&o[0]);
	if (emit_is_mem(&o[1]))
		emit_pick_mem(e, op, &o[1], f->mem);
	else
		op->src = emit_reg(&o[1]);
	if (is_three)
		op->imm = o[2].imm.value.u;
	return true;
}

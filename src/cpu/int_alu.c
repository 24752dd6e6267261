/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two-operand arithmetic and logic, INC, DEC, NEG, NOT.
 *
 * The host has the same instructions, so each handler runs the host's and takes its flags, the
 * undefined ones too.
 */
#include <cpu/int.h>

#define PLAIN_ASM(insn)                            \
	__asm__(insn " %[s_], %[d_]" ASM_GET_FLAGS \
		: [d_] "+r"(d), "=&a"(af)          \
		: [s_] "r"(s)                      \
		: "cc")

/* ADC and SBB: SAHF gives the host the guest's carry. */
#define CARRY_ASM(insn)                                               \
	do {                                                          \
		af = c->af;                                           \
		__asm__("sahf\n\t" insn " %[s_], %[d_]" ASM_GET_FLAGS \
			: [d_] "+&r"(d), "+&a"(af)                    \
			: [s_] "r"(s)                                 \
			: "cc");                                      \
	} while (0)

#define READ_ASM(insn)                             \
	__asm__(insn " %[s_], %[d_]" ASM_GET_FLAGS \
		: "=&a"(af)                        \
		: [d_] "r"(d), [s_] "r"(s)         \
		: "cc")

#define DO_ALU(bits, kind_asm, insn, source)       \
	const UINT(bits) s = (UINT(bits))(source); \
	uint16_t af;                               \
	kind_asm(insn);                            \
	c->af = af;

#define ALU_REGS(name, insn, kind_asm, bits, write)                       \
	OP(name##_rr##bits)                                               \
	{                                                                 \
		UINT(bits) d = RD(bits, op->dst);                         \
		DO_ALU(bits, kind_asm, insn, RD(bits, op->src))           \
		write NEXT();                                             \
	}                                                                 \
	OP(name##_ri##bits)                                               \
	{                                                                 \
		UINT(bits) d = RD(bits, op->dst);                         \
		DO_ALU(bits, kind_asm, insn, op->imm)                     \
		write NEXT();                                             \
	}                                                                 \
	MEM_LOAD(name##_rm##bits, bits, UINT(bits) d = RD(bits, op->dst); \
		 DO_ALU(bits, kind_asm, insn, m) write)

/* Operations that write their destination. */
#define LOCK_ASM(insn)                                              \
	__asm__ volatile("lock " insn " %[s_], %[p_]" ASM_GET_FLAGS \
			 : [p_] "+m"(*p), "=&a"(af)                 \
			 : [s_] "r"(s)                              \
			 : "cc", "memory")

#define LOCK_CARRY_ASM(insn)                                   \
	do {                                                   \
		af = c->af;                                    \
		__asm__ volatile("sahf\n\tlock " insn          \
				 " %[s_], %[p_]" ASM_GET_FLAGS \
				 : [p_] "+m"(*p), "+&a"(af)    \
				 : [s_] "r"(s)                 \
				 : "cc", "memory");            \
	} while (0)

#define ALU_WRITE(name, insn, kind_asm, lock_asm, bits)                       \
	ALU_REGS(name, insn, kind_asm, bits, WR(bits, op->dst, d);)           \
	MEM_RMW(name##_mr##bits, bits,                                        \
		DO_ALU(bits, kind_asm, insn, RD(bits, op->src)))              \
	MEM_RMW(name##_mi##bits, bits, DO_ALU(bits, kind_asm, insn, op->imm)) \
	MEM_LOCKED(name##_mr##bits, bits,                                     \
		   DO_ALU(bits, lock_asm, insn, RD(bits, op->src)),           \
		   DO_ALU(bits, kind_asm, insn, RD(bits, op->src)))           \
	MEM_LOCKED(name##_mi##bits, bits,                                     \
		   DO_ALU(bits, lock_asm, insn, op->imm),                     \
		   DO_ALU(bits, kind_asm, insn, op->imm))

/* CMP and TEST. */
#define ALU_READ(name, insn, bits)                                \
	ALU_REGS(name, insn, READ_ASM, bits, )                    \
	MEM_LOAD(name##_mr##bits, bits, const UINT(bits) d = m;   \
		 DO_ALU(bits, READ_ASM, insn, RD(bits, op->src))) \
	MEM_LOAD(name##_mi##bits, bits, const UINT(bits) d = m;   \
		 DO_ALU(bits, READ_ASM, insn, op->imm))

#define ALL_SIZES(X, ...)  \
	X(__VA_ARGS__, 8)  \
	X(__VA_ARGS__, 16) \
	X(__VA_ARGS__, 32) \
	X(__VA_ARGS__, 64)

ALL_SIZES(ALU_WRITE, add, "add", PLAIN_ASM, LOCK_ASM)
ALL_SIZES(ALU_WRITE, or, "or", PLAIN_ASM, LOCK_ASM)
ALL_SIZES(ALU_WRITE, adc, "adc", CARRY_ASM, LOCK_CARRY_ASM)
ALL_SIZES(ALU_WRITE, sbb, "sbb", CARRY_ASM, LOCK_CARRY_ASM)
ALL_SIZES(ALU_WRITE, and, "and", PLAIN_ASM, LOCK_ASM)
ALL_SIZES(ALU_WRITE, sub, "sub", PLAIN_ASM, LOCK_ASM)
ALL_SIZES(ALU_WRITE, xor, "xor", PLAIN_ASM, LOCK_ASM)
ALL_SIZES(ALU_READ, cmp, "cmp")
ALL_SIZES(ALU_READ, test, "test")

#define KIND_FNS(name, bits)                                                \
	{                                                                   \
		op_##name##_rr##bits, op_##name##_ri##bits,                 \
			op_##name##_rm##bits##_s, op_##name##_rm##bits##_f, \
			op_##name##_rm##bits##_x, op_##name##_mr##bits##_s, \
			op_##name##_mr##bits##_f, op_##name##_mr##bits##_x, \
			op_##name##_mi##bits##_s, op_##name##_mi##bits##_f, \
			op_##name##_mi##bits##_x,                           \
	}

#define SIZE_FNS(name)                                                     \
	{                                                                  \
		KIND_FNS(name, 8), KIND_FNS(name, 16), KIND_FNS(name, 32), \
			KIND_FNS(name, 64),                                \
	}

static op_fn *const alu_fns[ALU_COUNT][4][ALU_KINDS] = {
	[ALU_ADD] = SIZE_FNS(add),   [ALU_OR] = SIZE_FNS(or),
	[ALU_ADC] = SIZE_FNS(adc),   [ALU_SBB] = SIZE_FNS(sbb),
	[ALU_AND] = SIZE_FNS(and),   [ALU_SUB] = SIZE_FNS(sub),
	[ALU_XOR] = SIZE_FNS(xor),   [ALU_CMP] = SIZE_FNS(cmp),
	[ALU_TEST] = SIZE_FNS(test),
};

#define LOCK_FNS(name)                                                  \
	{                                                               \
		{op_##name##_mr8_lock, op_##name##_mi8_lock},           \
			{op_##name##_mr16_lock, op_##name##_mi16_lock}, \
			{op_##name##_mr32_lock, op_##name##_mi32_lock}, \
			{op_##name##_mr64_lock, op_##name##_mi64_lock}, \
	}

/* By operation, size, and whether the source is an immediate. */
static op_fn *const alu_lock_fns[ALU_CMP][4][2] = {
	[ALU_ADD] = LOCK_FNS(add), [ALU_OR] = LOCK_FNS(or),
	[ALU_ADC] = LOCK_FNS(adc), [ALU_SBB] = LOCK_FNS(sbb),
	[ALU_AND] = LOCK_FNS(and), [ALU_SUB] = LOCK_FNS(sub),
	[ALU_XOR] = LOCK_FNS(xor),
};

op_fn *alu_handler(enum alu_op alu, unsigned int size, unsigned int kind)
{
	return alu_fns[alu][size][kind];
}

void emit_pick_mem(struct emitter *e, struct op *op,
		   const ZydisDecodedOperand *m, op_fn *const fns[MEM_VARIANTS])
{
	emit_mem(e, op, m);
	if (op->ea & EA_SLOW) {
		op->fn = fns[2];
		return;
	}
	/* A lone segment base is a base like any other. */
	if (op->base == REG_ZERO && op->index == REG_ZERO) {
		op->base = op->seg;
		op->seg = REG_ZERO;
	}
	op->fn = fns[emit_is_simple(op) ? 0 : 1];
}

uint8_t emit_reg(const ZydisDecodedOperand *o)
{
	return o->size == 8 ? emit_reg8(o->reg.value) : emit_gpr(o->reg.value);
}

bool emit_is_locked(const struct emitter *e)
{
	return (e->insn->attributes & ZYDIS_ATTRIB_HAS_LOCK) &&
	       e->c->features.n_cpus > 1;
}

/* XOR r,r and SUB r,r depend on nothing. */
OP(zero)
{
	c->gpr[op->dst] = 0;
	c->af = AF_ZF | AF_PF | 0x0200;
	NEXT();
}

static bool is_zero_idiom(const struct insn_emit *self,
			  const ZydisDecodedOperand *o)
{
	return (self->arg == ALU_XOR || self->arg == ALU_SUB) &&
	       emit_is_reg(&o[0]) && emit_is_reg(&o[1]) && o[0].size >= 32 &&
	       o[0].reg.value == o[1].reg.value;
}

static void emit_alu_reg(struct emitter *e, enum alu_op alu)
{
	const ZydisDecodedOperand *o = e->ops;
	op_fn *const *fns = alu_fns[alu][emit_size(o[0].size)];
	struct op *op = emit(e, fns[ALU_RR]);

	op->dst = emit_reg(&o[0]);
	if (emit_is_mem(&o[1])) {
		emit_pick_mem(e, op, &o[1], &fns[ALU_RM]);
	} else if (emit_is_imm(&o[1])) {
		op->fn = fns[ALU_RI];
		op->imm = o[1].imm.value.u;
	} else {
		op->src = emit_reg(&o[1]);
	}
}

static void emit_alu_mem(struct emitter *e, enum alu_op alu)
{
	const ZydisDecodedOperand *o = e->ops;
	const unsigned int size = emit_size(o[0].size);
	const bool is_imm = emit_is_imm(&o[1]);
	struct op *op = emit(e, NULL);

	emit_pick_mem(e, op, &o[0],
		      &alu_fns[alu][size][is_imm ? ALU_MI : ALU_MR]);
	if (is_imm)
		op->imm = o[1].imm.value.u;
	else
		op->src = emit_reg(&o[1]);
	if (emit_is_locked(e) && alu < ALU_CMP)
		op->fn = alu_lock_fns[alu][size][is_imm];
}

bool emit_alu(struct emitter *e, const struct insn_emit *self)
{
	if (is_zero_idiom(self, e->ops))
		emit(e, op_zero)->dst = emit_reg(&e->ops[0]);
	else if (emit_is_mem(&e->ops[0]))
		emit_alu_mem(e, (enum alu_op)self->arg);
	else
		emit_alu_reg(e, (enum alu_op)self->arg);
	return true;
}

/* One-operand arithmetic. INC and DEC leave CF alone, which SAHF gives to the host. */
#define INCDEC_ASM(insn)                                       \
	do {                                                   \
		uint16_t af = c->af;                           \
		__asm__("sahf\n\t" insn " %[d_]" ASM_GET_FLAGS \
			: [d_] "+&r"(d), "+&a"(af)             \
			:                                      \
			: "cc");                               \
		c->af = af;                                    \
	} while (0);

#define NEG_ASM(insn)                               \
	do {                                        \
		uint16_t af;                        \
		__asm__(insn " %[d_]" ASM_GET_FLAGS \
			: [d_] "+r"(d), "=&a"(af)   \
			:                           \
			: "cc");                    \
		c->af = af;                         \
	} while (0);

#define NOT_ASM(insn) __asm__(insn " %[d_]" : [d_] "+r"(d));

#define INCDEC_LOCK(insn)                                                    \
	do {                                                                 \
		uint16_t af = c->af;                                         \
		__asm__ volatile("sahf\n\tlock " insn " %[p_]" ASM_GET_FLAGS \
				 : [p_] "+m"(*p), "+&a"(af)                  \
				 :                                           \
				 : "cc", "memory");                          \
		c->af = af;                                                  \
	} while (0);

#define NEG_LOCK(insn)                                               \
	do {                                                         \
		uint16_t af;                                         \
		__asm__ volatile("lock " insn " %[p_]" ASM_GET_FLAGS \
				 : [p_] "+m"(*p), "=&a"(af)          \
				 :                                   \
				 : "cc", "memory");                  \
		c->af = af;                                          \
	} while (0);

#define NOT_LOCK(insn) \
	__asm__ volatile("lock " insn " %[p_]" : [p_] "+m"(*p) : : "memory");

#define UNARY(name, work, lock_work, bits, suffix) \
	OP(name##_r##bits)                         \
	{                                          \
		UINT(bits) d = RD(bits, op->dst);  \
		work(#name) WR(bits, op->dst, d);  \
		NEXT();                            \
	}                                          \
	MEM_RMW(name##_m##bits, bits, work(#name)) \
	MEM_LOCKED(name##_m##bits, bits, lock_work(#name suffix), work(#name))

#define UNARY_SIZES(name, work, lock_work)    \
	UNARY(name, work, lock_work, 8, "b")  \
	UNARY(name, work, lock_work, 16, "w") \
	UNARY(name, work, lock_work, 32, "l") \
	UNARY(name, work, lock_work, 64, "q")

UNARY_SIZES(inc, INCDEC_ASM, INCDEC_LOCK)
UNARY_SIZES(dec, INCDEC_ASM, INCDEC_LOCK)
UNARY_SIZES(neg, NEG_ASM, NEG_LOCK)
UNARY_SIZES(not, NOT_ASM, NOT_LOCK)

struct unary_fns {
	op_fn *reg;
	op_fn *lock;
	op_fn *mem[MEM_VARIANTS];
};

#define UNARY_FNS(name, bits)                                                   \
	{                                                                       \
		.reg = op_##name##_r##bits, .lock = op_##name##_m##bits##_lock, \
		.mem = MEM_FNS(name##_m##bits),                                 \
	}

#define UNARY_ROW(name)                                                       \
	{                                                                     \
		UNARY_FNS(name, 8), UNARY_FNS(name, 16), UNARY_FNS(name, 32), \
			UNARY_FNS(name, 64),                                  \
	}

static const struct unary_fns unary_fns[4][4] = {
	UNARY_ROW(inc),
	UNARY_ROW(dec),
	UNARY_ROW(neg),
	UNARY_ROW(not ),
};

bool emit_unary(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = &e->ops[0];
	const struct unary_fns *fns = &unary_fns[self->arg][emit_size(o->size)];
	struct op *op = emit(e, fns->reg);

	if (emit_is_mem(o)) {
		emit_pick_mem(e, op, o, fns->mem);
		if (emit_is_locked(e))
			op->fn = fns->lock;
	} else {
		op->dst = emit_reg(o);
	}
	return true;
}

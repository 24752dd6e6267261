/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Shifts, rotates and double shifts.
 *
 * SAHF gives the host the guest's flags, of which rotates keep most; a count of zero, known
 * only at run time with CL, leaves all flags alone, which the handlers see to, since
 * SAHF does not set OF.
 */
#include <cpu/int.h>

#define SHIFT_ASM(insn)                                              \
	do {                                                         \
		uint16_t af = c->af;                                 \
		__asm__("sahf\n\t" insn " %%cl, %[d_]" ASM_GET_FLAGS \
			: [d_] "+&r"(d), "+&a"(af)                   \
			: "c"(count)                                 \
			: "cc");                                     \
		c->af = af;                                          \
	} while (0);

#define COUNT_MASK(bits) ((bits) == 64 ? 63 : 31)

/* Immediate counts are masked, and not zero, when emitted. */
#define SHIFT_IMM(insn)                         \
	const uint8_t count = (uint8_t)op->imm; \
	SHIFT_ASM(insn)

#define SHIFT_CL(bits, insn)                                      \
	const uint8_t count = c->gpr[REG_RCX] & COUNT_MASK(bits); \
	if (count)                                                \
	SHIFT_ASM(insn)

#define SHIFT(name, bits)                                \
	OP(name##_ri##bits)                              \
	{                                                \
		UINT(bits) d = RD(bits, op->dst);        \
		SHIFT_IMM(#name)                         \
		WR(bits, op->dst, d);                    \
		NEXT();                                  \
	}                                                \
	OP(name##_rc##bits)                              \
	{                                                \
		UINT(bits) d = RD(bits, op->dst);        \
		SHIFT_CL(bits, #name)                    \
		WR(bits, op->dst, d);                    \
		NEXT();                                  \
	}                                                \
	MEM_RMW(name##_mi##bits, bits, SHIFT_IMM(#name)) \
	MEM_RMW(name##_mc##bits, bits, SHIFT_CL(bits, #name))

#define SHIFT_SIZES(name) \
	SHIFT(name, 8)    \
	SHIFT(name, 16)   \
	SHIFT(name, 32)   \
	SHIFT(name, 64)

SHIFT_SIZES(rol)
SHIFT_SIZES(ror)
SHIFT_SIZES(rcl)
SHIFT_SIZES(rcr)
SHIFT_SIZES(shl)
SHIFT_SIZES(shr)
SHIFT_SIZES(sar)

struct shift_fns {
	op_fn *ri, *rc;
	op_fn *mi[MEM_VARIANTS], *mc[MEM_VARIANTS];
};

#define SHIFT_FNS(name, bits)                                                   \
	{                                                                       \
		.ri = op_##name##_ri##bits, .rc = op_##name##_rc##bits,         \
		.mi = MEM_FNS(name##_mi##bits), .mc = MEM_FNS(name##_mc##bits), \
	}
#define SHIFT_ROW(name)                                                       \
	{                                                                     \
		SHIFT_FNS(name, 8), SHIFT_FNS(name, 16), SHIFT_FNS(name, 32), \
			SHIFT_FNS(name, 64),                                  \
	}

/* By the opcode's bits 5:3; SHL has two of them. */
static const struct shift_fns shift_fns[8][4] = {
	SHIFT_ROW(rol), SHIFT_ROW(ror), SHIFT_ROW(rcl), SHIFT_ROW(rcr),
	SHIFT_ROW(shl), SHIFT_ROW(shr), SHIFT_ROW(shl), SHIFT_ROW(sar),
};

/* Count zero: nothing happens but the extension of a 32-bit register, or the checks of a store. */
OP(shift_none_r32)
{
	c->gpr[op->dst] = (uint32_t)c->gpr[op->dst];
	NEXT();
}

OP(shift_none)
{
	(void)c;
	NEXT();
}

MEM_RMW(shift_none_m8, 8, )
MEM_RMW(shift_none_m16, 16, )
MEM_RMW(shift_none_m32, 32, )
MEM_RMW(shift_none_m64, 64, )

static void emit_shift_none(struct emitter *e)
{
	static op_fn *const fns[4][MEM_VARIANTS] = {MEM_FNS(shift_none_m8),
						    MEM_FNS(shift_none_m16),
						    MEM_FNS(shift_none_m32),
						    MEM_FNS(shift_none_m64)};
	const ZydisDecodedOperand *o = &e->ops[0];
	struct op *op = emit(e,
			     o->size == 32 ? op_shift_none_r32 : op_shift_none);

	if (emit_is_mem(o))
		emit_pick_mem(e, op, o, fns[emit_size(o->size)]);
	else
		op->dst = emit_reg(o);
}

static uint8_t masked_count(const ZydisDecodedOperand *dst,
			    const ZydisDecodedOperand *count)
{
	return count->imm.value.u & (dst->size == 64 ? 63 : 31);
}

bool emit_shift(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = e->ops;
	const struct shift_fns *fns = &shift_fns[self->arg][emit_size(o[0].size)];
	const bool is_imm = emit_is_imm(&o[1]);

	if (is_imm && !masked_count(&o[0], &o[1])) {
		emit_shift_none(e);
		return true;
	}
	struct op *op = emit(e, is_imm ? fns->ri : fns->rc);

	if (emit_is_mem(&o[0]))
		emit_pick_mem(e, op, &o[0], is_imm ? fns->mi : fns->mc);
	else
		op->dst = emit_reg(&o[0]);
	if (is_imm)
		op->imm = masked_count(&o[0], &o[1]);
	return true;
}

/*
 * SHLD and SHRD. The count is masked to 5 bits with 16-bit operands too; above 16 the result is
 * undefined, and here the host's.
 */
#define SHIFTD_ASM(insn)                                         \
	do {                                                     \
		uint16_t af;                                     \
		__asm__(insn " %%cl, %[s_], %[d_]" ASM_GET_FLAGS \
			: [d_] "+&r"(d), "=&a"(af)               \
			: [s_] "r"(s), "c"(count)                \
			: "cc");                                 \
		c->af = af;                                      \
	} while (0);

#define SHIFTD_IMM(bits, insn)                  \
	const uint8_t count = (uint8_t)op->imm; \
	const UINT(bits) s = RD(bits, op->src); \
	SHIFTD_ASM(insn)

#define SHIFTD_CL(bits, insn)                                     \
	const uint8_t count = c->gpr[REG_RCX] & COUNT_MASK(bits); \
	const UINT(bits) s = RD(bits, op->src);                   \
	if (count)                                                \
	SHIFTD_ASM(insn)

#define SHIFTD(name, bits)                                      \
	OP(name##_ri##bits)                                     \
	{                                                       \
		UINT(bits) d = RD(bits, op->dst);               \
		SHIFTD_IMM(bits, #name)                         \
		WR(bits, op->dst, d);                           \
		NEXT();                                         \
	}                                                       \
	OP(name##_rc##bits)                                     \
	{                                                       \
		UINT(bits) d = RD(bits, op->dst);               \
		SHIFTD_CL(bits, #name)                          \
		WR(bits, op->dst, d);                           \
		NEXT();                                         \
	}                                                       \
	MEM_RMW(name##_mi##bits, bits, SHIFTD_IMM(bits, #name)) \
	MEM_RMW(name##_mc##bits, bits, SHIFTD_CL(bits, #name))

#define SHIFTD_SIZES(name) \
	SHIFTD(name, 16)   \
	SHIFTD(name, 32)   \
	SHIFTD(name, 64)

SHIFTD_SIZES(shld)
SHIFTD_SIZES(shrd)

#define SHIFTD_ROW(name)                                                       \
	{                                                                      \
		SHIFT_FNS(name, 16), SHIFT_FNS(name, 32), SHIFT_FNS(name, 64), \
	}

static const struct shift_fns shiftd_fns[2][3] = {
	SHIFTD_ROW(shld),
	SHIFTD_ROW(shrd),
};

bool emit_shiftd(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = e->ops;
	const struct shift_fns
		*fns = &shiftd_fns[self->arg][emit_size(o[0].size) - 1];
	const bool is_imm = emit_is_imm(&o[2]);

	if (is_imm && !masked_count(&o[0], &o[2])) {
		emit_shift_none(e);
		return true;
	}
	struct op *op = emit(e, is_imm ? fns->ri : fns->rc);

	op->src = emit_reg(&o[1]);
	if (emit_is_mem(&o[0]))
		emit_pick_mem(e, op, &o[0], is_imm ? fns->mi : fns->mc);
	else
		op->dst = emit_reg(&o[0]);
	if (is_imm)
		op->imm = masked_count(&o[0], &o[2]);
	return true;
}

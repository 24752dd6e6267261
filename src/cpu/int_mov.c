/* SPDX-License-Identifier: Apache-2.0 */
/* Data movement: MOV, extensions, LEA, CMOVcc, SETcc, BSWAP, XLAT. */
#include <cpu/int.h>
#include <cpu/sys_ops.h>

#define MOV_BITS(bits)                                                     \
	OP(mov_rr##bits)                                                   \
	{                                                                  \
		WR(bits, op->dst, RD(bits, op->src));                      \
		NEXT();                                                    \
	}                                                                  \
	OP(mov_ri##bits)                                                   \
	{                                                                  \
		WR(bits, op->dst, (UINT(bits))op->imm);                    \
		NEXT();                                                    \
	}                                                                  \
	MEM_LOAD(mov_rm##bits, bits, WR(bits, op->dst, m);)                \
	MEM_STORE(mov_mr##bits, bits, RD(bits, op->src))                   \
	MEM_STORE(mov_mi##bits, bits, (UINT(bits))op->imm)                 \
	OP(mov_ra##bits)                                                   \
	{                                                                  \
		UINT(bits) v;                                              \
		LOAD(bits, v, op->imm + c->gpr[op->seg]);                  \
		WR(bits, op->dst, v);                                      \
		NEXT();                                                    \
	}                                                                  \
	OP(mov_ar##bits)                                                   \
	{                                                                  \
		STORE(bits, op->imm + c->gpr[op->seg], RD(bits, op->src)); \
		NEXT();                                                    \
	}

MOV_BITS(8)
MOV_BITS(16)
MOV_BITS(32)
MOV_BITS(64)

/* a: accumulator and a 64-bit absolute address */
struct mov_fns {
	op_fn *rr, *ri, *ra, *ar;
	op_fn *rm[MEM_VARIANTS], *mr[MEM_VARIANTS], *mi[MEM_VARIANTS];
};

#define MOV_ROW(bits)                                                     \
	{                                                                 \
		.rr = op_mov_rr##bits, .ri = op_mov_ri##bits,             \
		.ra = op_mov_ra##bits, .ar = op_mov_ar##bits,             \
		.rm = MEM_FNS(mov_rm##bits), .mr = MEM_FNS(mov_mr##bits), \
		.mi = MEM_FNS(mov_mi##bits),                              \
	}

static const struct mov_fns mov_fns[4] = {MOV_ROW(8), MOV_ROW(16), MOV_ROW(32),
					  MOV_ROW(64)};

/* MOV between accumulator and an address that is given in full. */
static bool is_absolute64(const ZydisDecodedOperand *o)
{
	return o->mem.disp.has_displacement &&
	       o->mem.disp.value != (int32_t)o->mem.disp.value;
}

static void emit_mov_load(struct emitter *e, const struct mov_fns *fns)
{
	struct op *op = emit(e, fns->ra);

	op->dst = emit_reg(&e->ops[0]);
	emit_pick_mem(e, op, &e->ops[1], fns->rm);
	if (unlikely(is_absolute64(&e->ops[1])) && !(op->ea & EA_SLOW)) {
		op->seg = op->base; /* moved there by emit_pick_mem() */
		op->fn = fns->ra;
	}
}

static void emit_mov_store(struct emitter *e, const struct mov_fns *fns)
{
	struct op *op = emit(e, fns->ar);

	if (emit_is_imm(&e->ops[1])) {
		emit_pick_mem(e, op, &e->ops[0], fns->mi);
		op->imm = e->ops[1].imm.value.u;
		return;
	}
	op->src = emit_reg(&e->ops[1]);
	emit_pick_mem(e, op, &e->ops[0], fns->mr);
	if (unlikely(is_absolute64(&e->ops[0])) && !(op->ea & EA_SLOW)) {
		op->seg = op->base;
		op->fn = fns->ar;
	}
}

static bool is_gpr(const ZydisDecodedOperand *o)
{
	const ZydisRegisterClass k = ZydisRegisterGetClass(o->reg.value);

	return k == ZYDIS_REGCLASS_GPR8 || k == ZYDIS_REGCLASS_GPR16 ||
	       k == ZYDIS_REGCLASS_GPR32 || k == ZYDIS_REGCLASS_GPR64;
}

bool emit_mov(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = e->ops;
	const struct mov_fns *fns = &mov_fns[emit_size(o[0].size)];

	(void)self;
	if ((emit_is_reg(&o[0]) && !is_gpr(&o[0])) ||
	    (emit_is_reg(&o[1]) && !is_gpr(&o[1])))
		return emit_mov_special(e);
	if (emit_is_mem(&o[0])) {
		emit_mov_store(e, fns);
	} else if (emit_is_mem(&o[1])) {
		emit_mov_load(e, fns);
	} else if (emit_is_imm(&o[1])) {
		struct op *op = emit(e, fns->ri);

		op->dst = emit_reg(&o[0]);
		op->imm = o[1].imm.value.u;
	} else {
		struct op *op = emit(e, fns->rr);

		op->dst = emit_reg(&o[0]);
		op->src = emit_reg(&o[1]);
	}
	return true;
}

/* Extensions: destination size, source size. Signed ones go through the signed source type. */
#define EXTEND(name, dbits, sbits, dtype, stype)                   \
	OP(name##_rr##dbits##_##sbits)                             \
	{                                                          \
		WR(dbits, op->dst,                                 \
		   (UINT(dbits))(dtype)(stype)RD(sbits, op->src)); \
		NEXT();                                            \
	}                                                          \
	MEM_LOAD(name##_rm##dbits##_##sbits, sbits,                \
		 WR(dbits, op->dst, (UINT(dbits))(dtype)(stype)m);)

EXTEND(movzx, 16, 8, uint16_t, uint8_t)
EXTEND(movzx, 32, 8, uint32_t, uint8_t)
EXTEND(movzx, 32, 16, uint32_t, uint16_t)
EXTEND(movsx, 16, 8, int16_t, int8_t)
EXTEND(movsx, 32, 8, int32_t, int8_t)
EXTEND(movsx, 64, 8, int64_t, int8_t)
EXTEND(movsx, 32, 16, int32_t, int16_t)
EXTEND(movsx, 64, 16, int64_t, int16_t)
EXTEND(movsx, 64, 32, int64_t, int32_t)
EXTEND(movsx, 16, 32, int16_t, int32_t) /* MOVSXD with 66h */

struct extend_fns {
	uint8_t dst_bits, src_bits;
	op_fn *rr;
	op_fn *rm[MEM_VARIANTS];
};

#define EXTEND_ROW(name, dbits, sbits)                         \
	{                                                      \
		dbits, sbits, op_##name##_rr##dbits##_##sbits, \
			MEM_FNS(name##_rm##dbits##_##sbits)    \
	}

/* Forms that neither extend nor differ otherwise from MOV use its handlers. */
#define SAME_ROW(bits)                                             \
	{                                                          \
		bits, bits, op_mov_rr##bits, MEM_FNS(mov_rm##bits) \
	}

/* 64-bit zero extension is that to 32 bits. */
static const struct extend_fns movzx_fns[] = {
	EXTEND_ROW(movzx, 16, 8),
	EXTEND_ROW(movzx, 32, 8),
	EXTEND_ROW(movzx, 32, 16),
	SAME_ROW(16),
	{64, 8, op_movzx_rr32_8, MEM_FNS(movzx_rm32_8)},
	{64, 16, op_movzx_rr32_16, MEM_FNS(movzx_rm32_16)},
};

static const struct extend_fns movsx_fns[] = {
	EXTEND_ROW(movsx, 16, 8),
	EXTEND_ROW(movsx, 32, 8),
	EXTEND_ROW(movsx, 64, 8),
	EXTEND_ROW(movsx, 32, 16),
	EXTEND_ROW(movsx, 64, 16),
	EXTEND_ROW(movsx, 64, 32),
	EXTEND_ROW(movsx, 16, 32),
	SAME_ROW(16),
	SAME_ROW(32),
};

static bool emit_extend(struct emitter *e, const struct extend_fns *fns,
			size_t n)
{
	const ZydisDecodedOperand *o = e->ops;

	for (size_t i = 0; i < n; i++) {
		if (fns[i].dst_bits != o[0].size || fns[i].src_bits != o[1].size)
			continue;
		struct op *op = emit(e, fns[i].rr);

		op->dst = emit_reg(&o[0]);
		if (emit_is_mem(&o[1]))
			emit_pick_mem(e, op, &o[1], fns[i].rm);
		else
			op->src = emit_reg(&o[1]);
		return true;
	}
	return false;
}

bool emit_movzx(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_extend(e, movzx_fns, ARRAY_SIZE(movzx_fns));
}

bool emit_movsx(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_extend(e, movsx_fns, ARRAY_SIZE(movsx_fns));
}

/* LEA; the address part of the op without segment base. */
OP(lea64_base)
{
	c->gpr[op->dst] = c->gpr[op->base] + (uint64_t)(int64_t)op->disp;
	NEXT();
}

OP(lea64_sum)
{
	c->gpr[op->dst] = c->gpr[op->base] + c->gpr[op->index] +
			  (uint64_t)(int64_t)op->disp;
	NEXT();
}

OP(lea64)
{
	c->gpr[op->dst] = cpu_offset(c, op);
	NEXT();
}

OP(lea32)
{
	c->gpr[op->dst] = (uint32_t)cpu_offset(c, op);
	NEXT();
}

static uint64_t narrow_offset(const struct cpu *c, const struct op *op)
{
	const uint64_t offset = cpu_offset(c, op);

	if (op->ea & EA_ADDR16)
		return (uint16_t)offset;
	return op->ea & EA_ADDR32 ? (uint32_t)offset : offset;
}

OP(lea_narrow32)
{
	c->gpr[op->dst] = (uint32_t)narrow_offset(c, op);
	NEXT();
}

OP(lea_narrow16)
{
	reg_wr16(c, op->dst, (uint16_t)narrow_offset(c, op));
	NEXT();
}

static op_fn *lea_handler(const struct op *op, unsigned int bits)
{
	if (bits == 16)
		return op_lea_narrow16;
	if (bits == 32)
		return op->ea & EA_ADDR16 ? op_lea_narrow32 : op_lea32;
	if (op->ea & (EA_ADDR16 | EA_ADDR32)) /* a 32-bit address, zero-extended */
		return op_lea_narrow32;
	if (op->index == REG_ZERO)
		return op_lea64_base;
	return op->scale == 0 ? op_lea64_sum : op_lea64;
}

bool emit_lea(struct emitter *e, const struct insn_emit *self)
{
	struct op *op = emit(e, NULL);

	(void)self;
	emit_mem(e, op, &e->ops[1]);
	op->dst = emit_reg(&e->ops[0]);
	op->fn = lea_handler(op, e->ops[0].size);
	return true;
}

/* CMOVcc: memory is read, and 32-bit destinations are extended, whatever the condition. */
#define CMOV_BITS(cc, name, bits)                                   \
	OP(cmov##name##_rr##bits)                                   \
	{                                                           \
		const UINT(bits) s = RD(bits, op->src);             \
		const UINT(bits) d = RD(bits, op->dst);             \
		WR(bits, op->dst, af_condition(c->af, cc) ? s : d); \
		NEXT();                                             \
	}                                                           \
	MEM_LOAD(cmov##name##_rm##bits, bits,                       \
		 const UINT(bits) d = RD(bits, op->dst);            \
		 WR(bits, op->dst, af_condition(c->af, cc) ? m : d);)

#define CC_HANDLERS(cc, name, ...)                            \
	CMOV_BITS(cc, name, 16)                               \
	CMOV_BITS(cc, name, 32)                               \
	CMOV_BITS(cc, name, 64)                               \
	OP(set##name##_r)                                     \
	{                                                     \
		reg_wr8(c, op->dst, af_condition(c->af, cc)); \
		NEXT();                                       \
	}                                                     \
	MEM_STORE(set##name##_m, 8, af_condition(c->af, cc))

FOR_EACH_CC(CC_HANDLERS, )

struct cmov_fns {
	op_fn *rr;
	op_fn *rm[MEM_VARIANTS];
};

#define CMOV_FNS(name, bits)                                             \
	{                                                                \
		op_cmov##name##_rr##bits, MEM_FNS(cmov##name##_rm##bits) \
	}
#define CMOV_ROW(cc, name, ...) \
	[cc] = {CMOV_FNS(name, 16), CMOV_FNS(name, 32), CMOV_FNS(name, 64)},
#define SET_ROW(cc, name, ...) \
	[cc] = {op_set##name##_r, MEM_FNS(set##name##_m)},

/* By condition and size from 16 bits. */
static const struct cmov_fns cmov_fns[16][3] = {FOR_EACH_CC(CMOV_ROW, )};
static const struct cmov_fns set_fns[16] = {FOR_EACH_CC(SET_ROW, )};

bool emit_cmov(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = e->ops;
	const struct cmov_fns *fns = &cmov_fns[self->arg][emit_size(o[0].size) - 1];
	struct op *op = emit(e, fns->rr);

	op->dst = emit_reg(&o[0]);
	if (emit_is_mem(&o[1]))
		emit_pick_mem(e, op, &o[1], fns->rm);
	else
		op->src = emit_reg(&o[1]);
	return true;
}

bool emit_setcc(struct emitter *e, const struct insn_emit *self)
{
	const struct cmov_fns *fns = &set_fns[self->arg];
	struct op *op = emit(e, fns->rr);

	if (emit_is_mem(&e->ops[0]))
		emit_pick_mem(e, op, &e->ops[0], fns->rm);
	else
		op->dst = emit_reg(&e->ops[0]);
	return true;
}

/* Extensions within the accumulator, and into (E/R)DX. */
OP(cbw)
{
	reg_wr16(c, REG_RAX, (uint16_t)(int8_t)c->gpr[REG_RAX]);
	NEXT();
}

OP(cwde)
{
	c->gpr[REG_RAX] = (uint32_t)(int16_t)c->gpr[REG_RAX];
	NEXT();
}

OP(cdqe)
{
	c->gpr[REG_RAX] = (uint64_t)(int32_t)c->gpr[REG_RAX];
	NEXT();
}

OP(cwd)
{
	reg_wr16(c, REG_RDX, (uint16_t)((int16_t)c->gpr[REG_RAX] >> 15));
	NEXT();
}

OP(cdq)
{
	c->gpr[REG_RDX] = (uint32_t)((int32_t)c->gpr[REG_RAX] >> 31);
	NEXT();
}

OP(cqo)
{
	c->gpr[REG_RDX] = (uint64_t)((int64_t)c->gpr[REG_RAX] >> 63);
	NEXT();
}

bool emit_convert(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {op_cbw, op_cwde, op_cdqe,
				     op_cwd, op_cdq,  op_cqo};

	emit(e, fns[self->arg]);
	return true;
}

OP(bswap32)
{
	c->gpr[op->dst] = __builtin_bswap32((uint32_t)c->gpr[op->dst]);
	NEXT();
}

OP(bswap64)
{
	c->gpr[op->dst] = __builtin_bswap64(c->gpr[op->dst]);
	NEXT();
}

/* Undefined with 16 bits; processors give 0. */
OP(bswap16)
{
	reg_wr16(c, op->dst, 0);
	NEXT();
}

bool emit_bswap(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {NULL, op_bswap16, op_bswap32, op_bswap64};

	(void)self;
	emit(e, fns[emit_size(e->ops[0].size)])->dst = emit_reg(&e->ops[0]);
	return true;
}

/* The address is rBX + AL, wrapped to the address size, in a segment. */
OP(xlat)
{
	uint64_t offset = c->gpr[REG_RBX] + (uint8_t)c->gpr[REG_RAX];
	uint8_t v;

	if (op->ea & EA_ADDR16)
		offset = (uint16_t)offset;
	else if (op->ea & EA_ADDR32)
		offset = (uint32_t)offset;
	offset += c->gpr[op->seg];
	LOAD(8, v, op->ea & EA_NO_LINEAR64 ? (uint32_t)offset : offset);
	reg_wr8(c, REG_RAX, v);
	NEXT();
}

bool emit_xlat(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	for (unsigned int i = 0; i < e->insn->operand_count; i++) {
		if (!emit_is_mem(&e->ops[i]))
			continue;
		struct op *op = emit(e, op_xlat);

		emit_mem(e, op, &e->ops[i]);
		return true;
	}
	return false;
}

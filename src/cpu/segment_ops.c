/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions on segment registers, descriptor tables and far pointers. */
#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/flags.h>
#include <cpu/sys.h>
#include <cpu/sys_ops.h>

static bool gp(struct cpu *c)
{
	cpu_raise_code(c, VEC_GP, 0);
	return false;
}

static bool umip_allows(struct cpu *c)
{
	return !(c->cr4 & CR4_UMIP) || c->cpl == 0 || gp(c);
}

/* A 16-, 32- or 64-bit register gets a selector; the upper part is zeroed beyond 16 bits. */
static void set_reg(struct cpu *c, unsigned int reg, unsigned int bits,
		    uint32_t value)
{
	if (bits == 16)
		host_st16(&c->gpr[reg], (uint16_t)value);
	else
		c->gpr[reg] = value;
}

OP(mov_r_seg)
{
	set_reg(c, op->dst, (unsigned int)op->imm, c->seg[op->src].sel);
	NEXT();
}

OP(mov_m_seg)
{
	STORE(16, cpu_ea(c, op), c->seg[op->src].sel);
	NEXT();
}

/* After a load of SS interrupts and debug exceptions wait for one instruction. */
static void inhibit_after_ss(struct cpu *c, unsigned int seg)
{
	if (seg == SEG_SS)
		c->shadow = c->shadow_ss = true;
}

OP(mov_seg_r)
{
	if (!cpu_load_segment(c, op->dst, (uint16_t)c->gpr[op->src]))
		FAULT();
	inhibit_after_ss(c, op->dst);
	LEAVE();
}

OP(mov_seg_m)
{
	uint16_t sel;

	LOAD(16, sel, cpu_ea(c, op));
	if (!cpu_load_segment(c, op->dst, sel))
		FAULT();
	inhibit_after_ss(c, op->dst);
	LEAVE();
}

bool emit_mov_segment(struct emitter *e)
{
	const ZydisDecodedOperand *to = &e->ops[0];
	const ZydisDecodedOperand *from = &e->ops[1];
	struct op *op;
	int n;

	if (!emit_is_mem(to) && (n = emit_seg(to->reg.value)) >= 0) {
		if (n == SEG_CS)
			return false;
		op = emit(e, emit_is_mem(from) ? op_mov_seg_m : op_mov_seg_r);
		op->dst = (uint8_t)n;
		if (emit_is_mem(from))
			emit_mem(e, op, from);
		else
			op->src = emit_gpr(from->reg.value);
		e->end = true;
		return true;
	}
	if (from->type != ZYDIS_OPERAND_TYPE_REGISTER)
		return false;
	n = emit_seg(from->reg.value);
	if (n < 0)
		return false;
	op = emit(e, emit_is_mem(to) ? op_mov_m_seg : op_mov_r_seg);
	op->src = (uint8_t)n;
	op->imm = to->size;
	if (emit_is_mem(to))
		emit_mem(e, op, to);
	else
		op->dst = emit_gpr(to->reg.value);
	return true;
}

/* Linear address of the stack at an offset from the stack pointer. */
static uint64_t stack_addr(const struct cpu *c, int64_t offset)
{
	const uint64_t sp = c->gpr[REG_RSP] + (uint64_t)offset;

	if (cpu_is_64(c))
		return sp;
	return (uint32_t)((c->code_mode & CODE_STACK32 ? (uint32_t)sp
						       : (uint16_t)sp) +
			  c->gpr[REG_SEG + SEG_SS]);
}

static void stack_move(struct cpu *c, int64_t offset)
{
	const uint64_t sp = c->gpr[REG_RSP] + (uint64_t)offset;

	if (cpu_is_64(c))
		c->gpr[REG_RSP] = sp;
	else if (c->code_mode & CODE_STACK32)
		c->gpr[REG_RSP] = (uint32_t)sp;
	else
		host_st16(&c->gpr[REG_RSP], (uint16_t)sp);
}

OP(push_seg)
{
	const unsigned int size = (unsigned int)op->imm;

	c->scratch[0] = c->seg[op->src].sel;
	if (!cpu_store_slow(c, op, stack_addr(c, -(int64_t)size), size))
		FAULT();
	stack_move(c, -(int64_t)size);
	NEXT();
}

OP(pop_seg)
{
	const unsigned int size = (unsigned int)op->imm;

	if (!cpu_load_slow(c, op, stack_addr(c, 0), 2))
		FAULT();
	const uint16_t sel = (uint16_t)c->scratch[0];

	/* The stack pointer moves by the old SS, and only if the load succeeds. */
	const uint64_t old = c->gpr[REG_RSP];

	stack_move(c, size);
	const uint64_t moved = c->gpr[REG_RSP];

	c->gpr[REG_RSP] = old;
	if (!cpu_load_segment(c, op->dst, sel))
		FAULT();
	c->gpr[REG_RSP] = moved;
	inhibit_after_ss(c, op->dst);
	LEAVE();
}

bool emit_pushpop_segment(struct emitter *e, bool pop)
{
	const int n = e->ops[0].type == ZYDIS_OPERAND_TYPE_REGISTER
			      ? emit_seg(e->ops[0].reg.value)
			      : -1;
	struct op *op;

	if (n < 0)
		return false;
	op = emit(e, pop ? op_pop_seg : op_push_seg);
	op->src = op->dst = (uint8_t)n;
	op->ea |= EA_STACK;
	op->imm = e->insn->operand_width / 8;
	e->end = pop;
	return true;
}

/*
 * LGDT, LIDT: 10 bytes in 64-bit mode, else 6, of which the base has 24 bits with a
 * 16-bit operand.
 */
static bool load_table(struct cpu *c, const struct op *op,
		       struct cpu_table *table)
{
	const bool wide = cpu_is_64(c);
	uint64_t base;

	if (c->cpl)
		return gp(c);
	if (!cpu_load_slow(c, op, cpu_ea(c, op), wide ? 10 : 6))
		return false;
	memcpy(&base, (const uint8_t *)c->scratch + 2, 8);
	if (!wide)
		base &= op->imm == 16 ? 0xffffff : 0xffffffff;
	else if (!cpu_canonical(base))
		return gp(c);
	table->limit = (uint16_t)c->scratch[0];
	table->base = base;
	return true;
}

OP(lgdt)
{
	if (!load_table(c, op, &c->gdtr))
		FAULT();
	NEXT();
}

OP(lidt)
{
	if (!load_table(c, op, &c->idtr))
		FAULT();
	NEXT();
}

static bool store_table(struct cpu *c, const struct op *op,
			const struct cpu_table *table)
{
	if (!umip_allows(c))
		return false;
	c->scratch[0] = table->limit;
	memcpy((uint8_t *)c->scratch + 2, &table->base, 8);
	return cpu_store_slow(c, op, cpu_ea(c, op), cpu_is_64(c) ? 10 : 6);
}

OP(sgdt)
{
	if (!store_table(c, op, &c->gdtr))
		FAULT();
	NEXT();
}

OP(sidt)
{
	if (!store_table(c, op, &c->idtr))
		FAULT();
	NEXT();
}

/* A system descriptor (LDT or TSS) has 16 bytes in long mode. */
static bool read_system_descriptor(struct cpu *c, uint16_t sel, bool tss,
				   struct cpu_segment *ret, uint64_t *ret_raw)
{
	uint64_t raw;

	if ((sel & 4) || !cpu_load_descriptor(c, sel, VEC_GP, &raw)) {
		if (!c->exc.pending)
			cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
		return false;
	}
	descriptor_unpack(sel, raw, ret);
	const unsigned int type = ret->attr & (SEG_TYPE | SEG_S);
	const bool ok = tss ? type == 9 || (!cpu_is_long(c) && type == 1)
			    : type == 2;

	if (!ok) {
		cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
		return false;
	}
	if (!(ret->attr & SEG_P)) {
		cpu_raise_code(c, VEC_NP, sel & 0xfffcU);
		return false;
	}
	if (cpu_is_long(c)) {
		if (!cpu_sys_load(c, c->gdtr.base + (sel & 0xfff8U) + 8, 8))
			return false;
		ret->base |= c->scratch[0] << 32;
		if (!cpu_canonical(ret->base)) {
			cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
			return false;
		}
	}
	*ret_raw = raw;
	return true;
}

static bool load_ldtr(struct cpu *c, uint16_t sel)
{
	struct cpu_segment s;
	uint64_t raw;

	if (c->cpl)
		return gp(c);
	if (!(sel & ~3U)) {
		c->ldtr = (struct cpu_segment){.sel = sel};
		return true;
	}
	if (!read_system_descriptor(c, sel, false, &s, &raw))
		return false;
	c->ldtr = s;
	return true;
}

static bool load_tr(struct cpu *c, uint16_t sel)
{
	struct cpu_segment s;
	uint64_t raw;

	if (c->cpl || !(sel & ~3U))
		return gp(c);
	if (!read_system_descriptor(c, sel, true, &s, &raw))
		return false;
	/* Busy from now on. */
	((uint8_t *)c->scratch)[0] = (uint8_t)((raw >> 40) | 2);
	if (!cpu_sys_store(c, c->gdtr.base + (sel & 0xfff8U) + 5, 1))
		return false;
	s.attr |= 2;
	c->tr = s;
	return true;
}

/* The second member of each pair takes the selector from memory. */
#define SELECTOR_OP(name, call)                                 \
	OP(name##_r)                                            \
	{                                                       \
		const uint16_t sel = (uint16_t)c->gpr[op->src]; \
		if (!(call))                                    \
			FAULT();                                \
		NEXT();                                         \
	}                                                       \
	OP(name##_m)                                            \
	{                                                       \
		uint16_t sel;                                   \
		if (c->cpl) { /* before the operand is read */  \
			gp(c);                                  \
			FAULT();                                \
		}                                               \
		LOAD(16, sel, cpu_ea(c, op));                   \
		if (!(call))                                    \
			FAULT();                                \
		NEXT();                                         \
	}

SELECTOR_OP(lldt, load_ldtr(c, sel))
SELECTOR_OP(ltr, load_tr(c, sel))

static void set_zf(struct cpu *c, bool value)
{
	c->af = (uint16_t)((c->af & ~AF_ZF) | (value ? AF_ZF : 0));
}

/* May the program look at a descriptor at all? False with an exception pending or not. */
static bool visible_descriptor(struct cpu *c, uint16_t sel,
			       struct cpu_segment *ret, uint64_t *ret_raw)
{
	const uint32_t limit = sel & 4 ? c->ldtr.limit : c->gdtr.limit;

	if (!(sel & ~3U) || (sel | 7U) > limit ||
	    ((sel & 4) && !(c->ldtr.sel & ~3U)))
		return false;
	if (!cpu_load_descriptor(c, sel, VEC_GP, ret_raw))
		return false;
	descriptor_unpack(sel, *ret_raw, ret);

	const unsigned int dpl = (ret->attr & SEG_DPL) >> SEG_DPL_SHIFT;
	const bool conforming = (ret->attr & (SEG_S | 12)) == (SEG_S | 12);

	return conforming || (dpl >= c->cpl && dpl >= (sel & 3U));
}

static bool has_limit(const struct cpu *c, const struct cpu_segment *s,
		      bool gates)
{
	const unsigned int type = s->attr & SEG_TYPE;

	if (s->attr & SEG_S)
		return true;
	if (type == 2 || type == 9 || type == 11)
		return true;
	if (cpu_is_long(c))
		return gates && type == 12;
	return type == 1 || type == 3 ||
	       (gates && (type == 4 || type == 5 || type == 12));
}

static bool verify_segment(struct cpu *c, uint16_t sel, bool write)
{
	struct cpu_segment s;
	uint64_t raw;
	bool ok = visible_descriptor(c, sel, &s, &raw);

	if (c->exc.pending || c->stopped)
		return false;
	if (ok)
		ok = (s.attr & SEG_S) && (write ? (s.attr & 10) == 2
						: !(s.attr & 8) || (s.attr & 2));
	set_zf(c, ok);
	return true;
}

SELECTOR_OP(verr, verify_segment(c, sel, false))
SELECTOR_OP(verw, verify_segment(c, sel, true))

/* LAR (@limit false) and LSL. */
static bool load_part(struct cpu *c, const struct op *op, uint16_t sel,
		      bool limit)
{
	struct cpu_segment s;
	uint64_t raw;
	bool ok = visible_descriptor(c, sel, &s, &raw);

	if (c->exc.pending || c->stopped)
		return false;
	ok = ok && has_limit(c, &s, !limit);
	set_zf(c, ok);
	if (ok)
		set_reg(c, op->dst, (unsigned int)op->imm,
			limit ? s.limit : (uint32_t)(raw >> 32) & 0xffff00);
	return true;
}

SELECTOR_OP(lar, load_part(c, op, sel, false))
SELECTOR_OP(lsl, load_part(c, op, sel, true))

OP(sldt_r)
{
	if (!umip_allows(c))
		FAULT();
	set_reg(c, op->dst, (unsigned int)op->imm, c->ldtr.sel);
	NEXT();
}

OP(sldt_m)
{
	if (!umip_allows(c))
		FAULT();
	STORE(16, cpu_ea(c, op), c->ldtr.sel);
	NEXT();
}

OP(str_r)
{
	if (!umip_allows(c))
		FAULT();
	set_reg(c, op->dst, (unsigned int)op->imm, c->tr.sel);
	NEXT();
}

OP(str_m)
{
	if (!umip_allows(c))
		FAULT();
	STORE(16, cpu_ea(c, op), c->tr.sel);
	NEXT();
}

/* LDS, LES, LFS, LGS, LSS: scratch holds offset, then selector. */
OP(load_far)
{
	const unsigned int bits = (unsigned int)op->imm;

	if (!cpu_load_slow(c, op, cpu_ea(c, op), bits / 8 + 2))
		FAULT();
	const uint64_t offset = bits == 64   ? c->scratch[0]
				: bits == 32 ? (uint32_t)c->scratch[0]
					     : (uint16_t)c->scratch[0];
	const uint16_t sel = host_ld16((const uint8_t *)c->scratch + bits / 8);

	if (!cpu_load_segment(c, op->src, sel))
		FAULT();
	if (bits == 16)
		host_st16(&c->gpr[op->dst], (uint16_t)offset);
	else
		c->gpr[op->dst] = offset;
	LEAVE();
}

OP(arpl_r)
{
	const uint16_t dst = (uint16_t)c->gpr[op->dst];
	const unsigned int rpl = c->gpr[op->src] & 3;

	set_zf(c, (dst & 3) < rpl);
	if ((dst & 3) < rpl)
		host_st16(&c->gpr[op->dst], (uint16_t)((dst & ~3U) | rpl));
	NEXT();
}

OP(arpl_m)
{
	const uint64_t addr = cpu_ea(c, op);
	const unsigned int rpl = c->gpr[op->src] & 3;
	uint16_t dst;

	LOAD(16, dst, addr);
	const bool is_lower = (dst & 3) < rpl;

	if (is_lower)
		STORE(16, addr, (uint16_t)((dst & ~3U) | rpl));
	set_zf(c, is_lower);
	NEXT();
}

/* The code segment of a far jump or call, without gates. */
static bool check_far_target(struct cpu *c, uint16_t sel,
			     struct cpu_segment *ret)
{
	uint64_t raw;

	if (!(sel & ~3U))
		return gp(c);
	if (!cpu_load_descriptor(c, sel, VEC_GP, &raw))
		return false;
	descriptor_unpack(sel, raw, ret);

	const unsigned int dpl = (ret->attr & SEG_DPL) >> SEG_DPL_SHIFT;
	const bool conforming = ret->attr & 4;

	/* LIMIT: call gates and task switches by far branch are not modelled. */
	if ((ret->attr & (SEG_S | 8)) != (SEG_S | 8) ||
	    (conforming ? dpl > c->cpl : (sel & 3) > c->cpl || dpl != c->cpl) ||
	    (cpu_is_long(c) &&
	     (ret->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))) {
		cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
		return false;
	}
	if (!(ret->attr & SEG_P)) {
		cpu_raise_code(c, VEC_NP, sel & 0xfffcU);
		return false;
	}
	if (!cpu_set_accessed(c, sel, raw))
		return false;
	ret->sel = (uint16_t)((sel & 0xfffcU) | c->cpl);
	ret->attr |= 1;
	return true;
}

static bool push_return(struct cpu *c, const struct op *op, unsigned int size)
{
	uint8_t *p = (uint8_t *)c->scratch;
	const uint64_t words[2] = {cpu_next_rip(c, op), c->seg[SEG_CS].sel};

	for (unsigned int i = 0; i < 2; i++)
		memcpy(p + i * size, &words[i], size);
	if (!cpu_store_slow(c, op, stack_addr(c, -2 * (int64_t)size), 2 * size))
		return false;
	stack_move(c, -2 * (int64_t)size);
	return true;
}

static bool far_branch(struct cpu *c, const struct op *op, uint16_t sel,
		       uint64_t offset, unsigned int size, bool call)
{
	struct cpu_segment cs;

	if (!check_far_target(c, sel, &cs))
		return false;
	const bool to_64 = cpu_is_long(c) && (cs.attr & SEG_L);

	if (to_64 ? !cpu_canonical(offset) : offset > cs.limit)
		return gp(c);
	if (call && !push_return(c, op, size))
		return false;
	cpu_set_segment(c, SEG_CS, &cs);
	c->gpr[REG_RIP] = offset;
	cpu_update_mode(c);
	return true;
}

/* op->dst: bytes of the offset; op->src: 1 for CALL. */
OP(far_mem)
{
	const unsigned int size = op->dst;

	if (!cpu_load_slow(c, op, cpu_ea(c, op), size + 2))
		FAULT();
	const uint64_t offset = size == 8   ? c->scratch[0]
				: size == 4 ? (uint32_t)c->scratch[0]
					    : (uint16_t)c->scratch[0];
	const uint16_t sel = host_ld16((const uint8_t *)c->scratch + size);

	if (!far_branch(c, op, sel, offset, size, op->src))
		FAULT();
	return cpu_leave(c, op, c->gpr[REG_RIP]);
}

OP(far_imm)
{
	if (!far_branch(c, op, (uint16_t)(op->imm >> 32), (uint32_t)op->imm,
			op->dst, op->src))
		FAULT();
	return cpu_leave(c, op, c->gpr[REG_RIP]);
}

bool emit_far_branch(struct emitter *e, bool call)
{
	const ZydisDecodedOperand *o = &e->ops[0];
	const uint8_t size = (uint8_t)(e->insn->operand_width / 8);
	struct op *op;

	if (e->insn->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
		return false;
	if (emit_is_mem(o)) {
		op = emit(e, op_far_mem);
		emit_mem(e, op, o);
	} else if (o->type == ZYDIS_OPERAND_TYPE_POINTER) {
		op = emit(e, op_far_imm);
		op->imm = (uint64_t)o->ptr.segment << 32 | o->ptr.offset;
	} else {
		return false;
	}
	op->dst = size;
	op->src = call;
	e->end = true;
	return true;
}

struct selector_row {
	ZydisMnemonic mnemonic;
	op_fn *reg;
	op_fn *mem;
};

static const struct selector_row loads[] = {
	{ZYDIS_MNEMONIC_LLDT, op_lldt_r, op_lldt_m},
	{ZYDIS_MNEMONIC_LTR, op_ltr_r, op_ltr_m},
	{ZYDIS_MNEMONIC_VERR, op_verr_r, op_verr_m},
	{ZYDIS_MNEMONIC_VERW, op_verw_r, op_verw_m},
	{ZYDIS_MNEMONIC_LGDT, NULL, op_lgdt},
	{ZYDIS_MNEMONIC_LIDT, NULL, op_lidt},
	{ZYDIS_MNEMONIC_SGDT, NULL, op_sgdt},
	{ZYDIS_MNEMONIC_SIDT, NULL, op_sidt},
};

/* Two operands, or a destination: register first. */
static const struct selector_row others[] = {
	{ZYDIS_MNEMONIC_LAR, op_lar_r, op_lar_m},
	{ZYDIS_MNEMONIC_LSL, op_lsl_r, op_lsl_m},
};

static const struct selector_row stores[] = {
	{ZYDIS_MNEMONIC_SLDT, op_sldt_r, op_sldt_m},
	{ZYDIS_MNEMONIC_STR, op_str_r, op_str_m},
};

static const struct selector_row *find(const struct selector_row *rows,
				       size_t n, ZydisMnemonic m)
{
	for (size_t i = 0; i < n; i++)
		if (rows[i].mnemonic == m)
			return &rows[i];
	return NULL;
}

static bool emit_selector(struct emitter *e, const struct selector_row *row,
			  const ZydisDecodedOperand *o)
{
	op_fn *fn = emit_is_mem(o) ? row->mem : row->reg;
	struct op *op;

	if (!fn)
		return false;
	op = emit(e, fn);
	op->imm = e->insn->operand_width;
	if (emit_is_mem(o))
		emit_mem(e, op, o);
	else
		op->src = op->dst = emit_gpr(o->reg.value);
	return true;
}

static bool emit_load_far(struct emitter *e, unsigned int seg)
{
	struct op *op = emit(e, op_load_far);

	emit_mem(e, op, &e->ops[1]);
	op->dst = emit_gpr(e->ops[0].reg.value);
	op->src = (uint8_t)seg;
	op->imm = e->insn->operand_width;
	e->end = true;
	return true;
}

static bool emit_arpl(struct emitter *e)
{
	const bool mem = emit_is_mem(&e->ops[0]);
	struct op *op = emit(e, mem ? op_arpl_m : op_arpl_r);

	op->src = emit_gpr(e->ops[1].reg.value);
	if (mem)
		emit_mem(e, op, &e->ops[0]);
	else
		op->dst = emit_gpr(e->ops[0].reg.value);
	return true;
}

bool emit_segment(struct emitter *e, const struct insn_emit *self)
{
	const ZydisMnemonic m = e->insn->mnemonic;
	const struct selector_row *row;

	(void)self;
	row = find(loads, ARRAY_SIZE(loads), m);
	if (!row)
		row = find(stores, ARRAY_SIZE(stores), m);
	if (row)
		return emit_selector(e, row, &e->ops[0]);
	row = find(others, ARRAY_SIZE(others), m);
	if (row) {
		if (!emit_selector(e, row, &e->ops[1]))
			return false;
		e->block->ops[e->block->n_ops - 1].dst = emit_gpr(
			e->ops[0].reg.value);
		return true;
	}
	switch ((int)m) {
	case ZYDIS_MNEMONIC_LDS:
		return emit_load_far(e, SEG_DS);
	case ZYDIS_MNEMONIC_LES:
		return emit_load_far(e, SEG_ES);
	case ZYDIS_MNEMONIC_LFS:
		return emit_load_far(e, SEG_FS);
	case ZYDIS_MNEMONIC_LGS:
		return emit_load_far(e, SEG_GS);
	case ZYDIS_MNEMONIC_LSS:
		return emit_load_far(e, SEG_SS);
	case ZYDIS_MNEMONIC_ARPL:
		return emit_arpl(e);
	}
	return false;
}

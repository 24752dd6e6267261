/* SPDX-License-Identifier: Apache-2.0 */
/* PUSH and POP of general registers, immediates and memory; PUSHA, POPA, ENTER, LEAVE. */
#include <cpu/int.h>
#include <cpu/stack.h>
#include <cpu/sys_ops.h>

/* 64-bit mode, 64-bit operands. The _x handlers serve all modes and sizes: op->scale bytes. */
OP_SLOW(push_r_x)
{
	const unsigned int size = op->scale;

	if (!cpu_push(c, size, c->gpr[op->src]))
		FAULT();
	NEXT();
}

OP(push_r64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!p))
		return op_push_r_x(c, op);
	host_st64(p, c->gpr[op->src]);
	c->gpr[REG_RSP] = sp;
	NEXT();
}

OP_SLOW(push_i_x)
{
	if (!cpu_push(c, op->scale, op->imm))
		FAULT();
	NEXT();
}

OP(push_i64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!p))
		return op_push_i_x(c, op);
	host_st64(p, op->imm);
	c->gpr[REG_RSP] = sp;
	NEXT();
}

#define PUSH_M(bits)                             \
	OP_SLOW(push_m##bits##_x)                \
	{                                        \
		UINT(bits) v;                    \
		LOAD(bits, v, cpu_ea(c, op));    \
		if (!cpu_push(c, (bits) / 8, v)) \
			FAULT();                 \
		NEXT();                          \
	}

PUSH_M(16)
PUSH_M(32)
PUSH_M(64)

OP(push_m64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	const uint8_t *from = cpu_read_hit(c, cpu_ea_full(c, op), 8);
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!from || !p))
		return op_push_m64_x(c, op);
	host_st64(p, host_ld64(from));
	c->gpr[REG_RSP] = sp;
	NEXT();
}

bool emit_push(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const mem[] = {NULL, op_push_m16_x, op_push_m32_x,
				     op_push_m64_x};
	const ZydisDecodedOperand *o = &e->ops[0];
	const unsigned int bits = e->insn->operand_width;
	struct op *op;

	(void)self;
	if (emit_is_mem(o)) {
		op = emit(e, mem[emit_size(bits)]);
		emit_mem(e, op, o);
		if (bits == 64 && !(op->ea & EA_SLOW))
			op->fn = op_push_m64;
		return true;
	}
	if (emit_is_reg(o) &&
	    ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
		return emit_pushpop_segment(e, false);
	if (emit_is_imm(o)) {
		op = emit(e, bits == 64 ? op_push_i64 : op_push_i_x);
		op->imm = o->imm.value.u;
	} else {
		op = emit(e, bits == 64 ? op_push_r64 : op_push_r_x);
		op->src = emit_gpr(o->reg.value);
	}
	op->scale = (uint8_t)(bits / 8);
	return true;
}

/* POP rSP: the value popped wins over the increment. */
OP_SLOW(pop_r_x)
{
	const unsigned int size = op->scale;

	if (!cpu_pop(c, size))
		FAULT();
	if (size == 2)
		reg_wr16(c, op->dst, (uint16_t)c->scratch[0]);
	else
		c->gpr[op->dst] = c->scratch[0];
	NEXT();
}

OP(pop_r64)
{
	const uint64_t sp = c->gpr[REG_RSP];
	const uint8_t *p = cpu_read_hit(c, sp, 8);

	if (unlikely(!p))
		return op_pop_r_x(c, op);
	c->gpr[REG_RSP] = sp + 8;
	c->gpr[op->dst] = host_ld64(p);
	NEXT();
}

/* The address of the destination is computed with the stack pointer already incremented. */
#define POP_M(bits)                                                \
	OP(pop_m##bits)                                            \
	{                                                          \
		const uint64_t sp = c->gpr[REG_RSP];               \
		if (!cpu_pop(c, (bits) / 8))                       \
			FAULT();                                   \
		const UINT(bits) v = (UINT(bits))c->scratch[0];    \
		const uint64_t new_sp = c->gpr[REG_RSP];           \
		const uint64_t addr = cpu_ea(c, op);               \
		c->gpr[REG_RSP] = sp; /* should the store fault */ \
		STORE(bits, addr, v);                              \
		c->gpr[REG_RSP] = new_sp;                          \
		NEXT();                                            \
	}

POP_M(16)
POP_M(32)
POP_M(64)

bool emit_pop(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const mem[] = {NULL, op_pop_m16, op_pop_m32, op_pop_m64};
	const ZydisDecodedOperand *o = &e->ops[0];
	const unsigned int bits = e->insn->operand_width;

	(void)self;
	if (emit_is_mem(o)) {
		emit_mem(e, emit(e, mem[emit_size(bits)]), o);
		return true;
	}
	if (ZydisRegisterGetClass(o->reg.value) == ZYDIS_REGCLASS_SEGMENT)
		return emit_pushpop_segment(e, true);
	struct op *op = emit(e, bits == 64 ? op_pop_r64 : op_pop_r_x);

	op->dst = emit_gpr(o->reg.value);
	op->scale = (uint8_t)(bits / 8);
	return true;
}

/*
 * PUSHA and POPA: rDI is at the lowest address. What was moved before a fault stays so, as on AMD
 * processors; the stack pointer has not changed, and so it can start over.
 */
OP(pusha)
{
	const unsigned int size = op->scale;

	for (unsigned int i = 0; i < 8; i++)
		if (!cpu_stack_write(c, -(uint64_t)(size * (i + 1)), size,
				     c->gpr[i]))
			FAULT();
	cpu_set_sp(c, c->gpr[REG_RSP] - size * 8);
	NEXT();
}

bool emit_pusha(struct emitter *e, const struct insn_emit *self)
{
	emit(e, op_pusha)->scale = (uint8_t)self->arg;
	return true;
}

OP(popa)
{
	const unsigned int size = op->scale;

	for (unsigned int i = 8; i-- > 0;) {
		if (!cpu_stack_read(c, size * (7 - i), size))
			FAULT();
		if (i == REG_RSP)
			continue;
		if (size == 2)
			reg_wr16(c, i, (uint16_t)c->scratch[0]);
		else
			c->gpr[i] = c->scratch[0];
	}
	cpu_set_sp(c, c->gpr[REG_RSP] + size * 8);
	NEXT();
}

bool emit_popa(struct emitter *e, const struct insn_emit *self)
{
	emit(e, op_popa)->scale = (uint8_t)self->arg;
	return true;
}

static void set_bp(struct cpu *c, unsigned int size, uint64_t value)
{
	if (size == 2)
		reg_wr16(c, REG_RBP, (uint16_t)value);
	else
		c->gpr[REG_RBP] = size == 4 ? (uint32_t)value : value;
}

/* Read the display of the enclosing frame at BP - offset, addressed like the stack. */
static bool read_display(struct cpu *c, uint64_t offset, unsigned int size)
{
	return cpu_stack_read(c, c->gpr[REG_RBP] - c->gpr[REG_RSP] - offset,
			      size);
}

/* ENTER without its last steps: everything that may fault. [SDM2 "ENTER"] */
static bool enter_write(struct cpu *c, unsigned int size, unsigned int level,
			uint64_t frame)
{
	uint64_t at = -(uint64_t)size;

	if (!cpu_stack_write(c, at, size, c->gpr[REG_RBP]))
		return false;
	if (!level)
		return true;
	for (unsigned int i = 1; i < level; i++) {
		if (!read_display(c, (uint64_t)i * size, size))
			return false;
		at -= size;
		if (!cpu_stack_write(c, at, size, c->scratch[0]))
			return false;
	}
	return cpu_stack_write(c, at - size, size, frame);
}

/* op->scale: operand size; op->src: nesting level; op->imm: bytes of locals */
OP(enter)
{
	const unsigned int size = op->scale;
	const unsigned int level = op->src;
	const uint64_t frame = c->gpr[REG_RSP] - size;
	const uint64_t sp = frame - (uint64_t)level * size - (uint16_t)op->imm;

	if (!enter_write(c, size, level, frame))
		FAULT();
	/* The new stack pointer must be writable, though nothing is stored. */
	if (!cpu_stack_probe(c, sp - c->gpr[REG_RSP], size))
		FAULT();
	set_bp(c, size, frame);
	cpu_set_sp(c, sp);
	NEXT();
}

bool emit_enter(struct emitter *e, const struct insn_emit *self)
{
	struct op *op = emit(e, op_enter);

	(void)self;
	op->scale = (uint8_t)(e->insn->operand_width / 8);
	op->imm = e->ops[0].imm.value.u;
	op->src = e->ops[1].imm.value.u & 31;
	return true;
}

OP_SLOW(leave_x)
{
	const unsigned int size = op->scale;

	if (!cpu_stack_read(c, c->gpr[REG_RBP] - c->gpr[REG_RSP], size))
		FAULT();
	cpu_set_sp(c, c->gpr[REG_RBP] + size);
	set_bp(c, size, c->scratch[0]);
	NEXT();
}

OP(leave64)
{
	const uint64_t bp = c->gpr[REG_RBP];
	const uint8_t *p = cpu_read_hit(c, bp, 8);

	if (unlikely(!p))
		return op_leave_x(c, op);
	c->gpr[REG_RSP] = bp + 8;
	c->gpr[REG_RBP] = host_ld64(p);
	NEXT();
}

bool emit_leave(struct emitter *e, const struct insn_emit *self)
{
	const unsigned int bits = e->insn->operand_width;

	(void)self;
	emit(e, bits == 64 ? op_leave64 : op_leave_x)->scale = (uint8_t)(bits /
									 8);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Port input and output. [SDM1 19 "Input/Output"] */
#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/sys.h>
#include <cpu/sys_ops.h>

#define TSS_IO_MAP 0x66

static bool bitmap_allows(struct cpu *c, uint16_t port, unsigned int size)
{
	uint32_t at, bits;

	if ((c->tr.attr & 13) != 9 || c->tr.limit < TSS_IO_MAP + 1)
		return false;
	if (!cpu_sys_load(c, c->tr.base + TSS_IO_MAP, 2))
		return false;
	at = (uint16_t)c->scratch[0] + port / 8U;
	if (at + 1 > c->tr.limit)
		return false;
	if (!cpu_sys_load(c, c->tr.base + at, 2))
		return false;
	bits = (uint16_t)c->scratch[0] >> (port % 8);
	return !(bits & ((1U << size) - 1));
}

/* IOPL and the TSS's permission bitmap. Return: false with an exception pending. */
static bool cpu_io_allowed(struct cpu *c, uint16_t port, unsigned int size)
{
	const unsigned int iopl = (c->sys_flags & RFLAGS_IOPL) >> 12;

	if (likely(c->cpl <= iopl) || bitmap_allows(c, port, size))
		return true;
	if (!c->exc.pending && !c->stopped)
		cpu_raise_code(c, VEC_GP, 0);
	return false;
}

static uint32_t port_read(struct cpu *c, uint16_t port, unsigned int size)
{
	c->stats.pio++;
	return c->ops->pio_read(c->ctx, port, size);
}

static void port_write(struct cpu *c, uint16_t port, unsigned int size,
		       uint32_t value)
{
	c->stats.pio++;
	c->ops->pio_write(c->ctx, port, size, value);
}

/* op->dst: size in bytes; op->src: 1 if the port is in DX. */
static uint16_t port_of(const struct cpu *c, const struct op *op)
{
	return (uint16_t)(op->src ? c->gpr[REG_RDX] : op->imm);
}

OP(in)
{
	const uint16_t port = port_of(c, op);
	uint32_t v;

	if (!cpu_io_allowed(c, port, op->dst))
		FAULT();
	v = port_read(c, port, op->dst);
	if (op->dst == 1)
		host_st8(&c->gpr[REG_RAX], (uint8_t)v);
	else if (op->dst == 2)
		host_st16(&c->gpr[REG_RAX], (uint16_t)v);
	else
		c->gpr[REG_RAX] = v;
	cpu_end_slice(c);
	LEAVE();
}

OP(out)
{
	const uint16_t port = port_of(c, op);
	const uint32_t mask = op->dst == 4 ? UINT32_MAX
					   : (1U << (8 * op->dst)) - 1;

	if (!cpu_io_allowed(c, port, op->dst))
		FAULT();
	port_write(c, port, op->dst, (uint32_t)c->gpr[REG_RAX] & mask);
	cpu_end_slice(c);
	LEAVE();
}

/* op->scale: address size in bytes; op->index: 1 with a repeat prefix. */
static uint64_t reg_masked(uint64_t v, unsigned int bytes)
{
	return bytes == 8 ? v : bytes == 4 ? (uint32_t)v : (uint16_t)v;
}

static void reg_add(uint64_t *reg, int64_t n, unsigned int bytes)
{
	const uint64_t v = reg_masked(*reg + (uint64_t)n, bytes);

	*reg = bytes == 2 ? (*reg & ~UINT64_C(0xffff)) | v : v;
}

static uint64_t string_addr(const struct cpu *c, const struct op *op,
			    unsigned int reg)
{
	const uint64_t a = reg_masked(c->gpr[reg], op->scale) + c->gpr[op->seg];

	return cpu_is_64(c) ? a : (uint32_t)a;
}

static bool one_ins(struct cpu *c, const struct op *op, uint16_t port)
{
	/* The port is read only if the byte can be stored. */
	if (!cpu_rmw_slow(c, op, string_addr(c, op, REG_RDI), op->dst))
		return false;
	c->scratch[0] = port_read(c, port, op->dst);
	cpu_rmw_finish(c);
	return true;
}

static bool one_outs(struct cpu *c, const struct op *op, uint16_t port)
{
	c->scratch[0] = 0;
	if (!cpu_load_slow(c, op, string_addr(c, op, REG_RSI), op->dst))
		return false;
	port_write(c, port, op->dst, (uint32_t)c->scratch[0]);
	return true;
}

/* One element; with a repeat prefix RIP stays until the count is used up. */
static const struct op *string_io(struct cpu *c, const struct op *op, bool in)
{
	const uint16_t port = (uint16_t)c->gpr[REG_RDX];
	const bool rep = op->index;
	const int64_t step = c->sys_flags & RFLAGS_DF ? -(int64_t)op->dst
						      : op->dst;

	if (!cpu_io_allowed(c, port, op->dst))
		FAULT();
	if (rep && !reg_masked(c->gpr[REG_RCX], op->scale))
		LEAVE();
	if (!(in ? one_ins(c, op, port) : one_outs(c, op, port)))
		FAULT();
	reg_add(&c->gpr[in ? REG_RDI : REG_RSI], step, op->scale);
	cpu_end_slice(c);
	if (rep) {
		reg_add(&c->gpr[REG_RCX], -1, op->scale);
		if (reg_masked(c->gpr[REG_RCX], op->scale))
			return cpu_leave(c, op, cpu_this_rip(c, op));
	}
	LEAVE();
}

OP(ins)
{
	return string_io(c, op, true);
}

OP(outs)
{
	return string_io(c, op, false);
}

static bool emit_in_out(struct emitter *e, bool in)
{
	const ZydisDecodedOperand *port = &e->ops[in ? 1 : 0];
	const ZydisDecodedOperand *data = &e->ops[in ? 0 : 1];
	struct op *op = emit(e, in ? op_in : op_out);

	op->dst = (uint8_t)(data->size / 8);
	if (port->type == ZYDIS_OPERAND_TYPE_REGISTER)
		op->src = 1;
	else
		op->imm = port->imm.value.u;
	return true;
}

static bool emit_string_io(struct emitter *e, bool in)
{
	const ZydisDecodedOperand *m = &e->ops[in ? 0 : 1];
	struct op *op = emit(e, in ? op_ins : op_outs);

	emit_mem(e, op, m);
	op->dst = (uint8_t)(m->size / 8);
	op->scale = (uint8_t)(e->insn->address_width / 8);
	op->index = (e->insn->attributes &
		     (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE |
		      ZYDIS_ATTRIB_HAS_REPNE)) != 0;
	return true;
}

bool emit_io(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	e->end = true;
	switch ((int)e->insn->mnemonic) {
	case ZYDIS_MNEMONIC_IN:
		return emit_in_out(e, true);
	case ZYDIS_MNEMONIC_OUT:
		return emit_in_out(e, false);
	case ZYDIS_MNEMONIC_INSB:
	case ZYDIS_MNEMONIC_INSW:
	case ZYDIS_MNEMONIC_INSD:
		return emit_string_io(e, true);
	case ZYDIS_MNEMONIC_OUTSB:
	case ZYDIS_MNEMONIC_OUTSW:
	case ZYDIS_MNEMONIC_OUTSD:
		return emit_string_io(e, false);
	}
	return false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * x87 instructions: each runs on the host's x87 with the guest's registers and control word.
 *
 * An unmasked exception shows in the status word after the instruction, before the host
 * would deliver it; then the state is taken back to memory, where it waits as the guest's
 * #MF. So live registers never have an exception pending.
 */
#include <cpu/x87.h>

#include <cpu/fp_ops.h>
#include <cpu/mmx.h>
#include <cpu/x87_stub.h>

/* The stub's number is in the low half of op.imm, the guest's FOP in the next 16 bits. */
#define OP_STUB(op) ((op)->imm & 0xffff)
#define OP_FOP(op)  ((uint16_t)((op)->imm >> 16))

static bool x87_begin(struct cpu *c)
{
	if (!x87_not_pending(c))
		return false;
	x87_load(c);
	return true;
}

#define X87_BEGIN()                                                    \
	do {                                                           \
		if (unlikely(c->fp.where != FP_LIVE) && !x87_begin(c)) \
			FAULT();                                       \
	} while (0)

/* Did the instruction end with an unmasked exception? Then keep it, with its pointers. */
static void x87_watch(struct cpu *c, const struct op *op, uint64_t fdp)
{
	uint16_t fsw;

	__asm__ volatile("fnstsw %0" : "=a"(fsw));
	if (likely(!(fsw & FSW_ES)))
		return;
	x87_save(c);
	c->x87.fop = OP_FOP(op) & 0x7ff;
	c->x87.fip = cpu_this_rip(c, op);
	c->x87.fdp = fdp;
}

OP(x87_reg)
{
	X87_BEGIN();
	x87_call(OP_STUB(op), NULL);
	if (unlikely(c->fp.unmasked))
		x87_watch(c, op, 0);
	NEXT();
}

/* op.dst: bytes of the operand */
OP(x87_load)
{
	const uint64_t addr = cpu_ea(c, op);
	uint8_t *p;

	X87_BEGIN();
	p = cpu_read_hit(c, addr, op->dst);
	if (unlikely(!p)) {
		if (!cpu_load_slow(c, op, addr, op->dst))
			FAULT();
		p = (uint8_t *)c->scratch;
	}
	x87_call(OP_STUB(op), p);
	if (unlikely(c->fp.unmasked))
		x87_watch(c, op, cpu_offset(c, op));
	NEXT();
}

/*
 * The instruction stores by itself, and pops or raises flags then; so the slow path, which
 * may fault, has to come before it. What an unmasked exception keeps from
 * being stored is written back as it was.
 */
OP(x87_store)
{
	const uint64_t addr = cpu_ea(c, op);
	uint8_t *p;

	X87_BEGIN();
	p = cpu_write_hit(c, addr, op->dst);
	if (unlikely(!p)) {
		if (!cpu_rmw_slow(c, op, addr, op->dst))
			FAULT();
		p = (uint8_t *)c->scratch;
	}
	x87_call(OP_STUB(op), p);
	RMW_END(p);
	if (unlikely(c->fp.unmasked))
		x87_watch(c, op, cpu_offset(c, op));
	NEXT();
}

OP(x87_fcmov)
{
	X87_BEGIN();
	x87_call_flags(OP_STUB(op), c->af);
	if (unlikely(c->fp.unmasked))
		x87_watch(c, op, 0);
	NEXT();
}

OP(x87_fcomi)
{
	uint16_t af;

	X87_BEGIN();
	af = x87_call_flags(OP_STUB(op), c->af);
	c->af = af;
	if (unlikely(c->fp.unmasked))
		x87_watch(c, op, 0);
	NEXT();
}

OP(x87_wait)
{
	if (unlikely(!x87_not_pending(c)))
		FAULT();
	NEXT();
}

OP(x87_fninit)
{
	x87_init(c);
	NEXT();
}

OP(x87_fnclex)
{
	x87_save(c);
	c->x87.fsw &= (uint16_t) ~(FSW_B | 0xffU);
	NEXT();
}

/* FNENI, FNDISI, FNSETPM: nothing on anything after the 80287 */
OP(x87_nothing)
{
	(void)c;
	NEXT();
}

static void x87_set_control(struct cpu *c, uint16_t value)
{
	const uint16_t fcw = (uint16_t)((value & FCW_KEPT) | FCW_ONE);

	/* With all masked nothing can become pending: the usual change of rounding mode. */
	if (c->fp.where == FP_LIVE && (fcw & FCW_MASKS) == FCW_MASKS) {
		c->x87.fcw = fcw;
		c->fp.unmasked = false;
		__asm__ volatile("fldcw %0" : : "m"(c->x87.fcw));
		return;
	}
	if (c->fp.where == FP_LIVE)
		x87_save(c);
	c->x87.fcw = fcw;
	x87_update_es(c);
	if (c->x87.fsw & FSW_ES)
		c->fp.where = FP_MEM;
}

OP(x87_fldcw)
{
	uint16_t v;

	if (unlikely(!x87_not_pending(c)))
		FAULT();
	LOAD(16, v, cpu_ea(c, op));
	x87_set_control(c, v);
	NEXT();
}

OP(x87_fnstcw)
{
	STORE(16, cpu_ea(c, op), c->x87.fcw);
	NEXT();
}

static uint16_t x87_status(const struct cpu *c)
{
	uint16_t fsw = c->x87.fsw;

	if (c->fp.where == FP_LIVE)
		__asm__ volatile("fnstsw %0" : "=a"(fsw));
	return fsw;
}

OP(x87_fnstsw)
{
	STORE(16, cpu_ea(c, op), x87_status(c));
	NEXT();
}

OP(x87_fnstsw_ax)
{
	c->gpr[REG_RAX] = (c->gpr[REG_RAX] & ~UINT64_C(0xffff)) | x87_status(c);
	NEXT();
}

static uint16_t fop_of(const struct emitter *e)
{
	const ZydisDecodedInstruction *i = e->insn;

	return (uint16_t)((i->opcode & 7) << 8 | i->raw.modrm.mod << 6 |
			  i->raw.modrm.reg << 3 | i->raw.modrm.rm);
}

static void emit_x87_op(struct emitter *e, op_fn *fn, unsigned int stub)
{
	emit(e, fn)->imm = (uint64_t)fop_of(e) << 16 | stub;
}

static bool emit_reg_form(struct emitter *e, uint8_t opcode, uint8_t modrm)
{
	switch (opcode << 8 | modrm) {
	case 0xdbe0:
	case 0xdbe1:
	case 0xdbe4:
		emit(e, op_x87_nothing);
		return true;
	case 0xdbe2:
		emit(e, op_x87_fnclex);
		return true;
	case 0xdbe3:
		emit(e, op_x87_fninit);
		return true;
	case 0xdfe0:
		emit(e, op_x87_fnstsw_ax);
		return true;
	}
	if ((opcode & 0xfe) == 0xda && modrm < 0xe0)
		emit_x87_op(e, op_x87_fcmov, x87_fcmov_stub(opcode, modrm));
	else if ((opcode & 0xfb) == 0xdb && modrm >= 0xe8 && modrm < 0xf8)
		emit_x87_op(e, op_x87_fcomi, x87_fcomi_stub(opcode, modrm));
	else
		emit_x87_op(e, op_x87_reg, x87_reg_stub(opcode, modrm));
	return true;
}

/* What a memory form does with its operand. */
#define MEM_LOAD(n)  (n)
#define MEM_STORE(n) ((n) | 0x80)
#define MEM_OWN      0xff /* has a handler of its own, or does not exist */

static const uint8_t mem_form[8][8] = {
	{4, 4, 4, 4, 4, 4, 4, 4},
	{4, MEM_OWN, MEM_STORE(4), MEM_STORE(4), MEM_OWN, MEM_OWN, MEM_OWN,
	 MEM_OWN},
	{4, 4, 4, 4, 4, 4, 4, 4},
	{4, MEM_OWN, MEM_STORE(4), MEM_STORE(4), MEM_OWN, 10, MEM_OWN,
	 MEM_STORE(10)},
	{8, 8, 8, 8, 8, 8, 8, 8},
	{8, MEM_OWN, MEM_STORE(8), MEM_STORE(8), MEM_OWN, MEM_OWN, MEM_OWN,
	 MEM_OWN},
	{2, 2, 2, 2, 2, 2, 2, 2},
	{2, MEM_OWN, MEM_STORE(2), MEM_STORE(2), 10, 8, MEM_STORE(10),
	 MEM_STORE(8)},
};

static const ZydisDecodedOperand *mem_operand(const struct emitter *e)
{
	for (unsigned int i = 0; i < e->insn->operand_count; i++)
		if (emit_is_mem(&e->ops[i]))
			return &e->ops[i];
	return NULL;
}

static bool emit_mem_form(struct emitter *e, uint8_t opcode, uint8_t reg)
{
	const ZydisDecodedOperand *m = mem_operand(e);
	const uint8_t form = mem_form[opcode & 7][reg];
	struct op *op;

	if (!m || form == MEM_OWN)
		return false;
	op = emit(e, form & 0x80 ? op_x87_store : op_x87_load);
	emit_mem(e, op, m);
	op->dst = form & 0x7f;
	op->imm = (uint64_t)fop_of(e) << 16 | x87_mem_stub(opcode, reg);
	return true;
}

static bool emit_x87(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedInstruction *i = e->insn;

	(void)self;
	fp_emit_check(e, FP_KIND_X87);
	if (i->raw.modrm.mod != 3)
		return emit_mem_form(e, i->opcode, i->raw.modrm.reg);
	return emit_reg_form(e, i->opcode,
			     (uint8_t)(0xc0 | i->raw.modrm.reg << 3 |
				       i->raw.modrm.rm));
}

static bool emit_wait(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	fp_emit_check(e, FP_KIND_WAIT);
	emit(e, op_x87_wait);
	return true;
}

/* Instructions on control and status words in memory, indexed by insn_emit.arg. */
enum x87_word {
	X87_FLDCW,
	X87_FNSTCW,
	X87_FNSTSW,
};

static bool emit_word(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[] = {
		[X87_FLDCW] = op_x87_fldcw,
		[X87_FNSTCW] = op_x87_fnstcw,
		[X87_FNSTSW] = op_x87_fnstsw,
	};
	const ZydisDecodedOperand *m = mem_operand(e);

	if (!m)
		return emit_x87(e, self);
	fp_emit_check(e, FP_KIND_X87);
	emit_mem(e, emit(e, fns[self->arg]), m);
	return true;
}

#define X87(name)                                  \
	{                                          \
		ZYDIS_MNEMONIC_##name, emit_x87, 0 \
	}

static const struct insn_emit rows[] = {
	X87(F2XM1),
	X87(FABS),
	X87(FADD),
	X87(FADDP),
	X87(FBLD),
	X87(FBSTP),
	X87(FCHS),
	X87(FCMOVB),
	X87(FCMOVBE),
	X87(FCMOVE),
	X87(FCMOVNB),
	X87(FCMOVNBE),
	X87(FCMOVNE),
	X87(FCMOVNU),
	X87(FCMOVU),
	X87(FCOM),
	X87(FCOMI),
	X87(FCOMIP),
	X87(FCOMP),
	X87(FCOMPP),
	X87(FCOS),
	X87(FDECSTP),
	X87(FDIV),
	X87(FDIVP),
	X87(FDIVR),
	X87(FDIVRP),
	X87(FFREE),
	X87(FFREEP),
	X87(FIADD),
	X87(FICOM),
	X87(FICOMP),
	X87(FIDIV),
	X87(FIDIVR),
	X87(FILD),
	X87(FIMUL),
	X87(FINCSTP),
	X87(FIST),
	X87(FISTP),
	X87(FISUB),
	X87(FISUBR),
	X87(FLD),
	X87(FLD1),
	X87(FLDL2E),
	X87(FLDL2T),
	X87(FLDLG2),
	X87(FLDLN2),
	X87(FLDPI),
	X87(FLDZ),
	X87(FMUL),
	X87(FMULP),
	X87(FNCLEX),
	X87(FNINIT),
	X87(FNOP),
	X87(FPATAN),
	X87(FPREM),
	X87(FPREM1),
	X87(FPTAN),
	X87(FRNDINT),
	X87(FSCALE),
	X87(FSIN),
	X87(FSINCOS),
	X87(FSQRT),
	X87(FST),
	X87(FSTP),
	X87(FSTPNCE),
	X87(FSUB),
	X87(FSUBP),
	X87(FSUBR),
	X87(FSUBRP),
	X87(FTST),
	X87(FUCOM),
	X87(FUCOMI),
	X87(FUCOMIP),
	X87(FUCOMP),
	X87(FUCOMPP),
	X87(FXAM),
	X87(FXCH),
	X87(FXTRACT),
	X87(FYL2X),
	X87(FYL2XP1),
	X87(FENI8087_NOP),
	X87(FDISI8087_NOP),
	X87(FSETPM287_NOP),
	{ZYDIS_MNEMONIC_FWAIT, emit_wait, 0},
	{ZYDIS_MNEMONIC_FLDCW, emit_word, X87_FLDCW},
	{ZYDIS_MNEMONIC_FNSTCW, emit_word, X87_FNSTCW},
	{ZYDIS_MNEMONIC_FNSTSW, emit_word, X87_FNSTSW},
	{ZYDIS_MNEMONIC_FLDENV, x87_emit_env, X87_ENV_FLDENV},
	{ZYDIS_MNEMONIC_FNSTENV, x87_emit_env, X87_ENV_FNSTENV},
	{ZYDIS_MNEMONIC_FRSTOR, x87_emit_env, X87_ENV_FRSTOR},
	{ZYDIS_MNEMONIC_FNSAVE, x87_emit_env, X87_ENV_FNSAVE},
	MMX_ROWS};

const struct insn_table x87_table = {rows, ARRAY_SIZE(rows)};

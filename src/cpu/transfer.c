/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions that change privilege: INT, IRET, SYSCALL, SYSRET, SYSENTER, SYSEXIT. */
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

static bool software_interrupt(struct cpu *c, const struct op *op,
			       uint8_t vector, enum event_kind kind)
{
	if (vector == VEC_BP || vector == VEC_OF)
		c->stats.exceptions[vector]++;
	c->tf_after = true;
	return cpu_event(c, vector, kind, false, 0, cpu_next_rip(c, op));
}

/* The event has set RIP: leave without touching it. */
#define LEAVE_HERE() return cpu_leave(c, op, c->gpr[REG_RIP])

OP(int)
{
	if (!software_interrupt(c, op, (uint8_t)op->imm, EVENT_SOFTWARE))
		FAULT();
	LEAVE_HERE();
}

OP(int1)
{
	if (!software_interrupt(c, op, VEC_DB, EVENT_ICEBP))
		FAULT();
	LEAVE_HERE();
}

static const struct cpu_segment flat_code_64 = {
	.attr = SEG_P | SEG_S | 11 | SEG_L | SEG_G,
	.limit = UINT32_MAX,
};

static const struct cpu_segment flat_code_32 = {
	.attr = SEG_P | SEG_S | 11 | SEG_DB | SEG_G,
	.limit = UINT32_MAX,
};

static const struct cpu_segment flat_data = {
	.attr = SEG_P | SEG_S | 3 | SEG_DB | SEG_G,
	.limit = UINT32_MAX,
};

/* CS and SS as SYSCALL and its relatives load them: fixed, without descriptors. */
static void set_flat(struct cpu *c, uint16_t cs, bool wide, uint16_t ss,
		     unsigned int cpl)
{
	struct cpu_segment code = wide ? flat_code_64 : flat_code_32;
	struct cpu_segment data = flat_data;

	code.sel = cs;
	code.attr |= (uint16_t)(cpl << SEG_DPL_SHIFT);
	data.sel = ss;
	data.attr |= (uint16_t)(cpl << SEG_DPL_SHIFT);
	cpu_set_segment(c, SEG_CS, &code);
	cpu_set_segment(c, SEG_SS, &data);
	cpu_set_cpl(c, cpl);
}

static void set_sys_flags(struct cpu *c, uint64_t rflags)
{
	cpu_set_rflags(c, rflags & ~(RFLAGS_RF | RFLAGS_VM));
}

/* [APM3 "SYSCALL"] */
OP(syscall)
{
	const bool wide = cpu_is_64(c);
	const uint64_t next = cpu_next_rip(c, op);
	const uint64_t flags = cpu_rflags(c);
	const uint16_t cs = (uint16_t)((c->star >> 32) & 0xfffc);

	if (!(c->efer & EFER_SCE)) {
		cpu_raise(c, VEC_UD);
		FAULT();
	}
	c->stats.syscalls++;
	c->gpr[REG_RCX] = next;
	if (cpu_is_long(c)) {
		c->gpr[REG_R11] = flags & ~RFLAGS_RF;
		c->gpr[REG_RIP] = wide ? c->lstar : c->cstar;
		set_sys_flags(c, flags & ~c->sfmask);
	} else {
		c->gpr[REG_RIP] = (uint32_t)c->star;
		set_sys_flags(c, flags & ~RFLAGS_IF);
	}
	c->tf_after = true;
	set_flat(c, cs, cpu_is_long(c), (uint16_t)(cs + 8), 0);
	cpu_update_mode(c);
	LEAVE_HERE();
}

/* [APM3 "SYSRET"] */
OP(sysret)
{
	const uint16_t base = (uint16_t)(c->star >> 48);
	const bool wide = op->imm == 64;

	if (!(c->efer & EFER_SCE)) {
		cpu_raise(c, VEC_UD);
		FAULT();
	}
	if (c->cpl || !(c->cr0 & CR0_PE)) {
		gp(c);
		FAULT();
	}
	const uint64_t rip = wide ? c->gpr[REG_RCX] : (uint32_t)c->gpr[REG_RCX];

	if (cpu_is_long(c))
		set_sys_flags(c, c->gpr[REG_R11] & 0x3f7fd5);
	else
		set_sys_flags(c, cpu_rflags(c) | RFLAGS_IF);
	set_flat(c, (uint16_t)((base + (wide ? 16 : 0)) | 3), wide,
		 (uint16_t)((base + 8) | 3), 3);
	cpu_update_mode(c);
	/* As if the SYSCALL had just been done: a debugger goes on stepping behind it. */
	if (c->sys_flags & RFLAGS_TF)
		cpu_single_step_trap(c, true);
	LEAVE_TO(rip);
}

/* On this identity SYSENTER exists in legacy mode only. [APM3 "SYSENTER"] */
static bool sysenter_ok(struct cpu *c, bool leave)
{
	if (cpu_is_long(c)) {
		cpu_raise(c, VEC_UD);
		return false;
	}
	if (!(c->sysenter_cs & 0xfffc) || (leave && c->cpl))
		return gp(c);
	return true;
}

OP(sysenter)
{
	if (!sysenter_ok(c, false))
		FAULT();
	const uint16_t cs = (uint16_t)(c->sysenter_cs & 0xfffc);

	c->stats.syscalls++;
	set_sys_flags(c, cpu_rflags(c) & ~RFLAGS_IF);
	set_flat(c, cs, false, (uint16_t)(cs + 8), 0);
	c->gpr[REG_RSP] = (uint32_t)c->sysenter_esp;
	cpu_update_mode(c);
	LEAVE_TO((uint32_t)c->sysenter_eip);
}

OP(sysexit)
{
	if (!sysenter_ok(c, true))
		FAULT();
	const uint16_t cs = (uint16_t)((c->sysenter_cs & 0xfffc) + 16);

	set_flat(c, cs | 3, false, (uint16_t)((cs + 8) | 3), 3);
	c->gpr[REG_RSP] = (uint32_t)c->gpr[REG_RCX];
	cpu_update_mode(c);
	LEAVE_TO((uint32_t)c->gpr[REG_RDX]);
}

/* RFLAGS as IRET and POPF may change them at a privilege level. */
static uint64_t merge_flags(const struct cpu *c, uint64_t popped,
			    unsigned int size_bytes, bool iret)
{
	uint64_t mask = RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT |
			RFLAGS_AC | RFLAGS_ID | (iret ? RFLAGS_RF : 0);
	const unsigned int iopl = (c->sys_flags & RFLAGS_IOPL) >> 12;

	if (c->cpl == 0)
		mask |= RFLAGS_IOPL;
	if (c->cpl <= iopl)
		mask |= RFLAGS_IF;
	if (size_bytes == 2)
		mask &= 0xffff;
	return (cpu_rflags(c) & ~mask & ~RFLAGS_RF) | (popped & mask);
}

/* Values that IRET pops, in order; scratch holds them as read. */
struct iret_frame {
	uint64_t rip;
	uint16_t cs;
	uint64_t flags;
	uint64_t rsp;
	uint16_t ss;
};

static uint64_t frame_word(const struct cpu *c, unsigned int i,
			   unsigned int size)
{
	const uint8_t *p = (const uint8_t *)c->scratch + i * size;

	return size == 8   ? host_ld64(p)
	       : size == 4 ? host_ld32(p)
			   : host_ld16(p);
}

static bool read_stack(struct cpu *c, const struct op *op, unsigned int skip,
		       unsigned int n, unsigned int size)
{
	uint64_t sp = c->gpr[REG_RSP] + skip;

	if (!cpu_is_64(c)) {
		sp = c->code_mode & CODE_STACK32 ? (uint32_t)sp : (uint16_t)sp;
		sp = (uint32_t)(sp + c->gpr[REG_SEG + SEG_SS]);
	}
	return cpu_load_slow(c, op, sp, n * size);
}

static bool load_return_stack(struct cpu *c, const struct iret_frame *f,
			      unsigned int cpl, bool to_64)
{
	struct cpu_segment s = {
		.sel = f->ss,
		.attr = (uint16_t)(cpl << SEG_DPL_SHIFT),
	};
	uint64_t raw;

	if (!(f->ss & ~3U)) {
		if (!to_64 || cpl == 3 || (f->ss & 3) != cpl)
			return gp(c);
		cpu_set_segment(c, SEG_SS, &s);
		return true;
	}
	if (!cpu_load_descriptor(c, f->ss, VEC_GP, &raw))
		return false;
	descriptor_unpack(f->ss, raw, &s);
	if ((f->ss & 3) != cpl || ((s.attr & SEG_DPL) >> SEG_DPL_SHIFT) != cpl ||
	    (s.attr & (SEG_S | 8 | 2)) != (SEG_S | 2)) {
		cpu_raise_code(c, VEC_GP, f->ss & 0xfffcU);
		return false;
	}
	if (!(s.attr & SEG_P)) {
		cpu_raise_code(c, VEC_SS, f->ss & 0xfffcU);
		return false;
	}
	if (!cpu_set_accessed(c, f->ss, raw))
		return false;
	s.attr |= 1;
	cpu_set_segment(c, SEG_SS, &s);
	return true;
}

static void set_sp(struct cpu *c, uint64_t sp, bool to_64)
{
	if (to_64)
		c->gpr[REG_RSP] = sp;
	else if (c->seg[SEG_SS].attr & SEG_DB)
		c->gpr[REG_RSP] = (uint32_t)sp;
	else
		c->gpr[REG_RSP] = (c->gpr[REG_RSP] & ~UINT64_C(0xffff)) |
				  (uint16_t)sp;
}

/*
 * Far return to @f: code segment, then stack where the level changes (always in 64-bit
 * IRET), then everything at once. @pop_bytes: what the same-level return takes off the stack.
 */
static bool far_return(struct cpu *c, const struct iret_frame *f,
		       bool always_stack, unsigned int pop_bytes)
{
	const unsigned int cpl = f->cs & 3;
	const bool outer = cpl > c->cpl;
	struct cpu_segment cs;

	if (!cpu_check_code_return(c, f->cs, &cs))
		return false;
	const bool to_64 = cpu_is_long(c) && (cs.attr & SEG_L);

	if (to_64 ? !cpu_canonical(f->rip) : (uint32_t)f->rip > cs.limit)
		return gp(c);
	if (outer || always_stack) {
		if (!load_return_stack(c, f, cpl, to_64))
			return false;
		set_sp(c, f->rsp, to_64);
	} else {
		set_sp(c, c->gpr[REG_RSP] + pop_bytes, cpu_is_64(c));
	}
	cpu_set_segment(c, SEG_CS, &cs);
	cpu_set_cpl(c, cpl);
	if (outer)
		cpu_null_outer_segments(c);
	return true;
}

static bool do_iret(struct cpu *c, const struct op *op)
{
	const unsigned int size = (unsigned int)op->imm / 8;
	const bool from_64 = cpu_is_64(c);
	struct iret_frame f = {0};

	/* LIMIT: no hardware task switch, so no return through the back link. */
	if (c->sys_flags & RFLAGS_NT)
		return gp(c);
	if (!read_stack(c, op, 0, from_64 ? 5 : 3, size))
		return false;
	f.rip = frame_word(c, 0, size);
	f.cs = (uint16_t)frame_word(c, 1, size);
	f.flags = frame_word(c, 2, size);
	if (!from_64 && (f.cs & 3) > c->cpl && !read_stack(c, op, 0, 5, size))
		return false;
	f.rsp = frame_word(c, 3, size);
	f.ss = (uint16_t)frame_word(c, 4, size);

	/* The flags are masked by the level that executes IRET, before it changes. */
	const uint64_t flags = merge_flags(c, f.flags, size, true);

	if (!far_return(c, &f, from_64, 3 * size))
		return false;
	cpu_set_rflags(c, flags);
	c->gpr[REG_RIP] = f.rip;
	c->nmi_blocked = false;
	cpu_update_mode(c);
	return true;
}

OP(iret)
{
	if (!do_iret(c, op))
		FAULT();
	LEAVE_HERE();
}

static bool do_retf(struct cpu *c, const struct op *op)
{
	const unsigned int size = op->dst;
	const unsigned int extra = (unsigned int)op->imm;
	struct iret_frame f = {0};

	if (!read_stack(c, op, 0, 2, size))
		return false;
	f.rip = frame_word(c, 0, size);
	f.cs = (uint16_t)frame_word(c, 1, size);
	const bool outer = (f.cs & 3) > c->cpl;

	if (outer) {
		if (!read_stack(c, op, 2 * size + extra, 2, size))
			return false;
		f.rsp = frame_word(c, 0, size) + extra;
		f.ss = (uint16_t)frame_word(c, 1, size);
	}
	if (!far_return(c, &f, false, 2 * size + extra))
		return false;
	c->gpr[REG_RIP] = f.rip;
	cpu_update_mode(c);
	return true;
}

OP(retf)
{
	if (!do_retf(c, op))
		FAULT();
	LEAVE_HERE();
}

/*
 * POPF: below IOPL the interrupt flag silently stays. Ends the block, as IF, TF or
 * AC may change.
 */
OP(popf)
{
	const unsigned int size = (unsigned int)op->imm / 8;

	if (!read_stack(c, op, 0, 1, size))
		FAULT();
	const uint64_t flags = merge_flags(c, frame_word(c, 0, size), size,
					   false);

	set_sp(c, c->gpr[REG_RSP] + size, cpu_is_64(c));
	cpu_set_rflags(c, flags);
	if (c->intr_wanted || c->code_mode != op_block(op)->mode)
		LEAVE();
	NEXT();
}

static bool emit_int(struct emitter *e, uint8_t vector)
{
	emit(e, op_int)->imm = vector;
	return true;
}

bool emit_transfer(struct emitter *e, const struct insn_emit *self)
{
	struct op *op;

	(void)self;
	e->end = true;
	switch ((int)e->insn->mnemonic) {
	case ZYDIS_MNEMONIC_INT:
		return emit_int(e, (uint8_t)e->ops[0].imm.value.u);
	case ZYDIS_MNEMONIC_INT3:
		return emit_int(e, VEC_BP);
	case ZYDIS_MNEMONIC_INT1:
		emit(e, op_int1);
		return true;
	case ZYDIS_MNEMONIC_SYSCALL:
		emit(e, op_syscall);
		return true;
	case ZYDIS_MNEMONIC_SYSRET:
		emit(e, op_sysret)->imm = e->insn->operand_width;
		return true;
	case ZYDIS_MNEMONIC_SYSENTER:
		emit(e, op_sysenter);
		return true;
	case ZYDIS_MNEMONIC_SYSEXIT:
		emit(e, op_sysexit);
		return true;
	case ZYDIS_MNEMONIC_IRET:
	case ZYDIS_MNEMONIC_IRETD:
	case ZYDIS_MNEMONIC_IRETQ:
		op = emit(e, op_iret);
		op->imm = e->insn->operand_width;
		op->ea |= EA_STACK;
		return true;
	case ZYDIS_MNEMONIC_RET: /* far only: near ones are branch.c's */
		if (e->insn->meta.branch_type != ZYDIS_BRANCH_TYPE_FAR)
			break;
		op = emit(e, op_retf);
		op->dst = (uint8_t)(e->insn->operand_width / 8);
		op->ea |= EA_STACK;
		if (e->ops[0].type == ZYDIS_OPERAND_TYPE_IMMEDIATE)
			op->imm = e->ops[0].imm.value.u;
		return true;
	case ZYDIS_MNEMONIC_POPF:
	case ZYDIS_MNEMONIC_POPFD:
	case ZYDIS_MNEMONIC_POPFQ:
		e->end = false;
		op = emit(e, op_popf);
		op->imm = e->insn->operand_width;
		op->ea |= EA_STACK;
		return true;
	}
	e->end = false;
	return false;
}

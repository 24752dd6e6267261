/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exceptions and interrupts: through the IDT and back with IRET.
 * [SDM3 6 "Interrupt and Exception Handling"]
 *
 * LIMIT: task gates and hardware task switches are not modelled; they raise #GP.
 */
#include <base/verify.h>
#include <cpu/access.h>
#include <cpu/flags.h>
#include <cpu/sys.h>

#define GATE_INT16  6
#define GATE_TRAP16 7
#define GATE_INT32  14
#define GATE_TRAP32 15

struct gate {
	uint16_t sel;
	uint8_t type;
	uint8_t dpl;
	uint8_t ist;
	bool present;
	uint64_t offset;
};

/*
 * The code that faults in the IDT push: vector * 8, IDT bit, and EXT for what the
 * program did not ask for.
 */
static uint32_t idt_code(uint8_t vector, enum event_kind kind)
{
	return vector * 8U + 2 + (kind == EVENT_SOFTWARE ? 0 : 1);
}

static bool read_gate(struct cpu *c, uint8_t vector, enum event_kind kind,
		      struct gate *ret)
{
	const unsigned int size = cpu_is_long(c) ? 16 : 8;
	const uint32_t first = vector * size;

	if (first + size - 1 > c->idtr.limit) {
		cpu_raise_code(c, VEC_GP, idt_code(vector, kind));
		return false;
	}
	if (!cpu_sys_load(c, c->idtr.base + first, size))
		return false;
	const uint64_t lo = c->scratch[0];

	ret->sel = (uint16_t)(lo >> 16);
	ret->type = (lo >> 40) & 0x1f;
	ret->dpl = (lo >> 45) & 3;
	ret->present = (lo >> 47) & 1;
	ret->ist = cpu_is_long(c) ? (lo >> 32) & 7 : 0;
	ret->offset = (lo & 0xffff) | ((lo >> 32) & 0xffff0000);
	if (cpu_is_long(c))
		ret->offset |= c->scratch[1] << 32;

	const bool known = ret->type == GATE_INT32 || ret->type == GATE_TRAP32 ||
			   (!cpu_is_long(c) && (ret->type == GATE_INT16 ||
						ret->type == GATE_TRAP16));

	if (!known || (kind == EVENT_SOFTWARE && ret->dpl < c->cpl)) {
		cpu_raise_code(c, VEC_GP, idt_code(vector, kind));
		return false;
	}
	if (!ret->present) {
		cpu_raise_code(c, VEC_NP, idt_code(vector, kind));
		return false;
	}
	return true;
}

/* The code segment that a gate leads to. */
static bool read_gate_code(struct cpu *c, const struct gate *g, uint32_t ext,
			   struct cpu_segment *ret, unsigned int *ret_cpl)
{
	uint64_t raw;

	if (!(g->sel & ~3U)) {
		cpu_raise_code(c, VEC_GP, ext);
		return false;
	}
	if (!cpu_load_descriptor(c, g->sel, VEC_GP, &raw)) {
		c->exc.code |= c->exc.vector == VEC_PF ? 0 : ext;
		return false;
	}
	descriptor_unpack(g->sel, raw, ret);

	const unsigned int dpl = (ret->attr & SEG_DPL) >> SEG_DPL_SHIFT;
	const bool conforming = ret->attr & 4;

	if ((ret->attr & (SEG_S | 8)) != (SEG_S | 8) || dpl > c->cpl ||
	    (cpu_is_long(c) && (ret->attr & (SEG_L | SEG_DB)) != SEG_L)) {
		cpu_raise_code(c, VEC_GP, (g->sel & 0xfffcU) | ext);
		return false;
	}
	if (!(ret->attr & SEG_P)) {
		cpu_raise_code(c, VEC_NP, (g->sel & 0xfffcU) | ext);
		return false;
	}
	if (!cpu_set_accessed(c, g->sel, raw))
		return false;
	*ret_cpl = conforming ? c->cpl : dpl;
	ret->sel = (uint16_t)((g->sel & 0xfffcU) | *ret_cpl);
	ret->attr |= 1;
	return true;
}

static bool tss_read(struct cpu *c, uint32_t offset, unsigned int size)
{
	if (offset + size - 1 > c->tr.limit) {
		cpu_raise_code(c, VEC_TS, c->tr.sel & 0xfffcU);
		return false;
	}
	return cpu_sys_load(c, c->tr.base + offset, size);
}

/* Where the handler's stack begins, in long mode. */
static bool stack_64(struct cpu *c, const struct gate *g, unsigned int cpl,
		     uint64_t *ret_rsp)
{
	uint64_t rsp = c->gpr[REG_RSP];

	if (g->ist || cpl != c->cpl) {
		const uint32_t offset = g->ist ? 36U + 8U * (g->ist - 1U)
					       : 4U + 8U * cpl;

		if (!tss_read(c, offset, 8))
			return false;
		rsp = c->scratch[0];
	}
	if (!cpu_canonical(rsp)) {
		cpu_raise_code(c, VEC_SS, 0);
		return false;
	}
	*ret_rsp = rsp & ~UINT64_C(15);
	return true;
}

static void enter_flags(struct cpu *c, const struct gate *g)
{
	c->sys_flags &= ~(RFLAGS_TF | RFLAGS_NT | RFLAGS_RF | RFLAGS_VM);
	if (!(g->type & 1))
		c->sys_flags &= ~RFLAGS_IF;
}

static bool event_64(struct cpu *c, const struct gate *g,
		     const struct cpu_segment *code, unsigned int cpl,
		     const uint64_t frame_code[], unsigned int n_code,
		     uint64_t flags, uint64_t rip)
{
	const unsigned int old_cpl = c->cpl;
	uint64_t rsp;
	uint64_t *frame = c->scratch;
	const unsigned int bytes = (5 + n_code) * 8;

	if (!cpu_canonical(g->offset)) {
		cpu_raise_code(c, VEC_GP, 0);
		return false;
	}
	if (!stack_64(c, g, cpl, &rsp))
		return false;
	if (n_code)
		frame[0] = frame_code[0];
	frame[n_code] = rip;
	frame[n_code + 1] = c->seg[SEG_CS].sel;
	frame[n_code + 2] = flags;
	frame[n_code + 3] = c->gpr[REG_RSP];
	frame[n_code + 4] = c->seg[SEG_SS].sel;
	if (!cpu_sys_store(c, rsp - bytes, bytes))
		return false;
	if (cpl != old_cpl) {
		const struct cpu_segment ss = {
			.sel = (uint16_t)cpl,
			.attr = (uint16_t)(cpl << SEG_DPL_SHIFT),
		};

		cpu_set_segment(c, SEG_SS, &ss);
	}
	c->gpr[REG_RSP] = rsp - bytes;
	c->gpr[REG_RIP] = g->offset;
	cpu_set_segment(c, SEG_CS, code);
	enter_flags(c, g);
	cpu_set_cpl(c, cpl);
	cpu_update_mode(c);
	return true;
}

/* The inner stack of a 32-bit TSS. */
static bool stack_32(struct cpu *c, unsigned int cpl, uint32_t *ret_esp,
		     struct cpu_segment *ret_ss)
{
	const bool tss32 = (c->tr.attr & SEG_TYPE) & 8;
	uint64_t raw;
	uint16_t sel;

	if (tss32) {
		if (!tss_read(c, 4 + 8 * cpl, 8))
			return false;
		*ret_esp = (uint32_t)c->scratch[0];
		sel = (uint16_t)(c->scratch[0] >> 32);
	} else {
		if (!tss_read(c, 2 + 4 * cpl, 4))
			return false;
		*ret_esp = (uint16_t)c->scratch[0];
		sel = (uint16_t)(c->scratch[0] >> 16);
	}
	if (!(sel & ~3U)) {
		cpu_raise_code(c, VEC_TS, 0);
		return false;
	}
	if (!cpu_load_descriptor(c, sel, VEC_TS, &raw))
		return false;
	descriptor_unpack(sel, raw, ret_ss);
	if ((sel & 3) != cpl ||
	    ((ret_ss->attr & SEG_DPL) >> SEG_DPL_SHIFT) != cpl ||
	    (ret_ss->attr & (SEG_S | 8 | 2)) != (SEG_S | 2)) {
		cpu_raise_code(c, VEC_TS, sel & 0xfffcU);
		return false;
	}
	if (!(ret_ss->attr & SEG_P)) {
		cpu_raise_code(c, VEC_SS, sel & 0xfffcU);
		return false;
	}
	return true;
}

static bool event_32(struct cpu *c, const struct gate *g,
		     const struct cpu_segment *code, unsigned int cpl,
		     const uint64_t frame_code[], unsigned int n_code,
		     uint64_t flags, uint64_t rip)
{
	const bool wide = g->type & 8;
	const bool outer = cpl != c->cpl;
	struct cpu_segment ss = c->seg[SEG_SS];
	uint32_t esp = (uint32_t)c->gpr[REG_RSP];
	uint32_t v[6];
	unsigned int n = 0;

	ss.base = c->gpr[REG_SEG + SEG_SS];
	if (outer && !stack_32(c, cpl, &esp, &ss))
		return false;
	if (n_code)
		v[n++] = (uint32_t)frame_code[0];
	v[n++] = (uint32_t)rip;
	v[n++] = c->seg[SEG_CS].sel;
	v[n++] = (uint32_t)flags;
	if (outer) {
		v[n++] = (uint32_t)c->gpr[REG_RSP];
		v[n++] = c->seg[SEG_SS].sel;
	}
	const uint32_t size = wide ? 4 : 2;
	const uint32_t mask = ss.attr & SEG_DB ? UINT32_MAX : UINT16_MAX;
	const uint32_t top = (esp - n * size) & mask;

	for (unsigned int i = 0; i < n; i++) {
		if (wide)
			host_st32((uint8_t *)c->scratch + 4 * i, v[i]);
		else
			host_st16((uint8_t *)c->scratch + 2 * i, (uint16_t)v[i]);
	}
	if (!cpu_sys_store(c, (uint32_t)(ss.base + top), n * size))
		return false;
	if (outer)
		cpu_set_segment(c, SEG_SS, &ss);
	c->gpr[REG_RSP] = (c->gpr[REG_RSP] & ~(uint64_t)mask) | top;
	c->gpr[REG_RIP] = wide ? (uint32_t)g->offset : (uint16_t)g->offset;
	cpu_set_segment(c, SEG_CS, code);
	enter_flags(c, g);
	cpu_set_cpl(c, cpl);
	cpu_update_mode(c);
	return true;
}

bool cpu_event(struct cpu *c, uint8_t vector, enum event_kind kind,
	       bool has_code, uint32_t code, uint64_t return_rip)
{
	const uint32_t ext = kind == EVENT_SOFTWARE ? 0 : 1;
	const uint64_t frame_code[1] = {code};
	uint64_t flags = cpu_rflags(c);
	struct cpu_segment cs;
	unsigned int cpl;
	struct gate g;

	if (!read_gate(c, vector, kind, &g) ||
	    !read_gate_code(c, &g, ext, &cs, &cpl))
		return false;
	if (kind == EVENT_FAULT && vector != VEC_DB)
		flags |= RFLAGS_RF;
	return (cpu_is_long(c) ? event_64 : event_32)(c, &g, &cs, cpl,
						      frame_code, has_code,
						      flags, return_rip);
}

/* [SDM3 6.15, table 6-5 "Conditions for Generating a Double Fault"] */
static bool is_contributory(uint8_t vector)
{
	return vector == VEC_DE || (vector >= VEC_TS && vector <= VEC_GP);
}

static bool is_double(uint8_t first, uint8_t second)
{
	if (is_contributory(first))
		return is_contributory(second);
	return first == VEC_PF && (is_contributory(second) || second == VEC_PF);
}

static void begin_exception(struct cpu *c, const struct cpu_exception *e)
{
	if (e->vector == VEC_PF) {
		c->cr2 = e->cr2;
		c->stats.page_faults++;
	}
	if (e->vector == VEC_DB) {
		c->dr[6] |= e->dr6;
		c->dr[7] &= ~UINT64_C(0x2000); /* GD */
	}
	c->stats.exceptions[e->vector & 31]++;
}

void cpu_deliver_exception(struct cpu *c)
{
	struct cpu_exception e = c->exc;

	for (;;) {
		c->exc.pending = false;
		c->shadow = c->shadow_ss = false;
		begin_exception(c, &e);
		if (cpu_event(c, e.vector, EVENT_FAULT, e.has_code, e.code,
			      c->gpr[REG_RIP]))
			return;
		if (c->stopped || !c->exc.pending) {
			/* The VM stops; the exception stays to be delivered. */
			c->exc = e;
			return;
		}
		if (e.vector == VEC_DF) {
			c->exc.pending = false;
			c->shutdown = true;
			return;
		}
		if (is_double(e.vector, c->exc.vector))
			cpu_raise_code(c, VEC_DF, 0);
		e = c->exc;
	}
}

void cpu_interrupt(struct cpu *c, uint8_t vector)
{
	VERIFY(cpu_can_interrupt(c));
	c->halted = false;
	c->stats.interrupts++;
	if (!cpu_event(c, vector, EVENT_HARDWARE, false, 0, c->gpr[REG_RIP]) &&
	    c->exc.pending)
		cpu_deliver_exception(c);
}

bool cpu_breakpoint_hit(struct cpu *c)
{
	uint64_t hits = 0;

	if (!(c->dr[7] & 0xff) || (c->sys_flags & RFLAGS_RF))
		return false;
	for (unsigned int i = 0; i < 4; i++)
		if (((c->dr[7] >> (2 * i)) & 3) &&
		    !((c->dr[7] >> (16 + 4 * i)) & 15) &&
		    c->dr[i] == c->gpr[REG_RIP])
			hits |= BIT64(i);
	if (!hits)
		return false;
	cpu_raise(c, VEC_DB);
	c->exc.dr6 = hits;
	return true;
}

void cpu_single_step_trap(struct cpu *c, bool trap)
{
	if (!trap && !c->debug_hits)
		return;
	cpu_raise(c, VEC_DB);
	c->exc.dr6 = c->debug_hits | (trap ? BIT64(14) : 0);
	c->debug_hits = 0;
}

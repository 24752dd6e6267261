/* SPDX-License-Identifier: Apache-2.0 */
/* Segment registers and descriptors. [SDM3 3.4 "Logical and Linear Addresses", 5 "Protection"] */
#include <cpu/access.h>
#include <cpu/sys.h>

#define DESC_ACCESSED BIT64(40)

void descriptor_unpack(uint16_t sel, uint64_t raw, struct cpu_segment *ret)
{
	uint32_t limit = (uint32_t)((raw & 0xffff) | ((raw >> 32) & 0xf0000));

	ret->sel = sel;
	ret->attr = (uint16_t)((raw >> 40) & 0xf0ff);
	ret->limit = ret->attr & SEG_G ? limit << 12 | 0xfff : limit;
	ret->base = ((raw >> 16) & 0xffffff) | ((raw >> 32) & 0xff000000);
}

bool cpu_load_descriptor(struct cpu *c, uint16_t sel, enum x86_vector fault,
			 uint64_t *ret_raw)
{
	const bool local = sel & 4;
	const uint64_t base = local ? c->ldtr.base : c->gdtr.base;
	const uint32_t limit = local ? c->ldtr.limit : c->gdtr.limit;

	if ((sel | 7U) > limit || (local && !(c->ldtr.sel & ~3U))) {
		cpu_raise_code(c, fault, sel & 0xfffcU);
		return false;
	}
	if (!cpu_sys_load(c, base + (sel & 0xfff8U), 8))
		return false;
	*ret_raw = c->scratch[0];
	return true;
}

bool cpu_set_accessed(struct cpu *c, uint16_t sel, uint64_t raw)
{
	const uint64_t base = sel & 4 ? c->ldtr.base : c->gdtr.base;

	if (raw & DESC_ACCESSED)
		return true;
	((uint8_t *)c->scratch)[0] = (uint8_t)((raw >> 40) | 1);
	return cpu_sys_store(c, base + (sel & 0xfff8U) + 5, 1);
}

void cpu_set_segment(struct cpu *c, unsigned int n, const struct cpu_segment *s)
{
	c->seg[n] = *s;
	c->gpr[REG_SEG + n] = s->base;
}

static void set_null(struct cpu *c, unsigned int n, uint16_t sel)
{
	/* FS and GS keep their 64-bit base on AMD. [APM2 4.5.3] */
	const bool keep = cpu_is_long(c) && n >= SEG_FS;
	const struct cpu_segment s = {
		.sel = sel,
		.base = keep ? c->gpr[REG_SEG + n] : 0,
		.attr = n == SEG_SS ? (uint16_t)(c->cpl << SEG_DPL_SHIFT) : 0,
	};

	cpu_set_segment(c, n, &s);
}

static bool load_stack_segment(struct cpu *c, uint16_t sel)
{
	struct cpu_segment s;
	uint64_t raw;

	if (!(sel & ~3U)) {
		if (cpu_is_64(c) && c->cpl != 3 && (sel & 3) == c->cpl) {
			set_null(c, SEG_SS, sel);
			return true;
		}
		cpu_raise_code(c, VEC_GP, 0);
		return false;
	}
	if (!cpu_load_descriptor(c, sel, VEC_GP, &raw))
		return false;
	descriptor_unpack(sel, raw, &s);
	const unsigned int dpl = (s.attr & SEG_DPL) >> SEG_DPL_SHIFT;

	if ((sel & 3) != c->cpl || dpl != c->cpl ||
	    (s.attr & (SEG_S | 8 | 2)) != (SEG_S | 2)) {
		cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
		return false;
	}
	if (!(s.attr & SEG_P)) {
		cpu_raise_code(c, VEC_SS, sel & 0xfffcU);
		return false;
	}
	if (!cpu_set_accessed(c, sel, raw))
		return false;
	s.attr |= 1;
	cpu_set_segment(c, SEG_SS, &s);
	return true;
}

bool cpu_load_segment(struct cpu *c, unsigned int n, uint16_t sel)
{
	struct cpu_segment s;
	uint64_t raw;

	if (n == SEG_SS) {
		if (!load_stack_segment(c, sel))
			return false;
		cpu_update_mode(c);
		return true;
	}
	if (!(sel & ~3U)) {
		set_null(c, n, sel);
		cpu_update_mode(c);
		return true;
	}
	if (!cpu_load_descriptor(c, sel, VEC_GP, &raw))
		return false;
	descriptor_unpack(sel, raw, &s);

	const unsigned int dpl = (s.attr & SEG_DPL) >> SEG_DPL_SHIFT;
	const bool code = s.attr & 8;
	const bool conforming = code && (s.attr & 4);

	if (!(s.attr & SEG_S) || (code && !(s.attr & 2)) ||
	    (!conforming && ((sel & 3) > dpl || c->cpl > dpl))) {
		cpu_raise_code(c, VEC_GP, sel & 0xfffcU);
		return false;
	}
	if (!(s.attr & SEG_P)) {
		cpu_raise_code(c, VEC_NP, sel & 0xfffcU);
		return false;
	}
	if (!cpu_set_accessed(c, sel, raw))
		return false;
	s.attr |= 1;
	cpu_set_segment(c, n, &s);
	cpu_update_mode(c);
	return true;
}

bool cpu_check_code_return(struct cpu *c, uint16_t sel, struct cpu_segment *ret)
{
	uint64_t raw;

	if (!(sel & ~3U)) {
		cpu_raise_code(c, VEC_GP, 0);
		return false;
	}
	if (!cpu_load_descriptor(c, sel, VEC_GP, &raw))
		return false;
	descriptor_unpack(sel, raw, ret);

	const unsigned int dpl = (ret->attr & SEG_DPL) >> SEG_DPL_SHIFT;
	const unsigned int rpl = sel & 3;
	const bool conforming = ret->attr & 4;

	if (rpl < c->cpl || (ret->attr & (SEG_S | 8)) != (SEG_S | 8) ||
	    (conforming ? dpl > rpl : dpl != rpl) ||
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
	ret->attr |= 1;
	return true;
}

void cpu_null_outer_segments(struct cpu *c)
{
	static const uint8_t data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};

	for (unsigned int i = 0; i < ARRAY_SIZE(data); i++) {
		const struct cpu_segment *s = &c->seg[data[i]];
		const unsigned int dpl = (s->attr & SEG_DPL) >> SEG_DPL_SHIFT;
		const bool conforming = (s->attr & 12) == 12;

		if (!conforming && dpl < c->cpl && (s->sel & ~3U))
			set_null(c, data[i], 0);
	}
}

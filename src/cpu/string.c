/* SPDX-License-Identifier: Apache-2.0 */
/*
 * String instructions: MOVS, STOS, LODS, SCAS, CMPS, with and without REP.
 *
 * A repeated instruction works on as many elements at a time as lie in one page on each side and
 * hit the TLB; whatever does not (page crossings, devices, flagged pages, DF set)
 * goes element by element through the slow path. Either way registers always tell how far it
 * got, so a fault or an interruption leaves RIP at the instruction and it simply goes on
 * later. It interrupts itself after a while, so that time passes and interrupts are seen.
 *
 * In an op: @scale log2 of the element's size, @src width of rSI, rDI, rCX by emit_size(),
 * @seg source segment, @dst destination segment, @imm enum repeat.
 */
#include <base/verify.h>
#include <cpu/int.h>

#define MAX_BYTES      16384 /* of one go */
#define BYTES_PER_INSN 32    /* what host copies are charged as */

enum repeat {
	REPEAT_NONE,
	REPEAT_COUNT, /* REP; REPE where it compares */
	REPEAT_NE,
};

/* A string instruction, by how it does elements. */
struct string_kind {
	/*
	 * Do up to @n elements by hits, advance registers. Return: how many, 0 if it
	 * does not hit.
	 */
	uint64_t (*chunk)(struct cpu *c, const struct op *op, uint64_t n);
	/*
	 * Do one in any case. Return: false if an exception is pending; nothing has
	 * changed then.
	 */
	bool (*step)(struct cpu *c, const struct op *op);
	bool compares;
};

/* What destination accesses are to the slow path outside 64-bit mode. */
static const struct op dst_access = {
	.base = REG_ZERO,
	.index = REG_ZERO,
	.seg = REG_SEG + SEG_ES,
	.ea = EA_CHECK | EA_NO_LINEAR64,
};

static inline unsigned int size_of(const struct op *op)
{
	return 1U << op->scale;
}

static inline uint64_t address_mask(const struct op *op)
{
	return op->src == 3   ? UINT64_MAX
	       : op->src == 2 ? UINT32_MAX
			      : UINT16_MAX;
}

static inline uint64_t linear(const struct cpu *c, const struct op *op,
			      unsigned int reg, unsigned int seg)
{
	const uint64_t addr = (c->gpr[reg] & address_mask(op)) + c->gpr[seg];

	return op->ea & EA_NO_LINEAR64 ? (uint32_t)addr : addr;
}

static inline uint64_t src_address(const struct cpu *c, const struct op *op)
{
	return linear(c, op, REG_RSI, op->seg);
}

static inline uint64_t dst_address(const struct cpu *c, const struct op *op)
{
	return linear(c, op, REG_RDI, op->dst);
}

static inline void set_register(struct cpu *c, const struct op *op,
				unsigned int reg, uint64_t v)
{
	if (op->src == 1)
		reg_wr16(c, reg, (uint16_t)v);
	else
		c->gpr[reg] = v & address_mask(op);
}

static inline void advance(struct cpu *c, const struct op *op, unsigned int reg,
			   uint64_t n)
{
	const uint64_t bytes = n << op->scale;

	set_register(c, op, reg,
		     c->sys_flags & RFLAGS_DF ? c->gpr[reg] - bytes
					      : c->gpr[reg] + bytes);
}

/* How many of @n elements at a register are in one page, and before the register wraps. */
static inline uint64_t fit(const struct cpu *c, const struct op *op,
			   unsigned int reg, uint64_t addr, uint64_t n)
{
	const uint64_t room = (PAGE_SIZE - (addr & ~PAGE_MASK)) >> op->scale;
	const uint64_t mask = address_mask(op);
	uint64_t wrap;

	n = n < room ? n : room;
	if (likely(mask == UINT64_MAX))
		return n;
	wrap = (mask - (c->gpr[reg] & mask) + 1) >> op->scale;
	return n < wrap ? n : wrap;
}

static inline uint64_t load_element(const uint8_t *p, unsigned int scale)
{
	switch (scale) {
	case 0:
		return host_ld8(p);
	case 1:
		return host_ld16(p);
	case 2:
		return host_ld32(p);
	default:
		return host_ld64(p);
	}
}

static bool step_load_src(struct cpu *c, const struct op *op, uint64_t *ret)
{
	const uint64_t addr = src_address(c, op);
	const uint8_t *p = cpu_read_hit(c, addr, size_of(op));

	if (!p) {
		if (!cpu_load_slow(c, op, addr, size_of(op)))
			return false;
		p = (const uint8_t *)c->scratch;
	}
	*ret = load_element(p, op->scale);
	return true;
}

static const struct op *dst_kind(const struct cpu *c)
{
	return c->code_mode & CODE_SEGMENTED ? &dst_access : NULL;
}

static bool step_load_dst(struct cpu *c, const struct op *op, uint64_t *ret)
{
	const uint64_t addr = dst_address(c, op);
	const uint8_t *p = cpu_read_hit(c, addr, size_of(op));

	if (!p) {
		if (!cpu_load_slow(c, dst_kind(c), addr, size_of(op)))
			return false;
		p = (const uint8_t *)c->scratch;
	}
	*ret = load_element(p, op->scale);
	return true;
}

static bool step_store_dst(struct cpu *c, const struct op *op, uint64_t value)
{
	const uint64_t addr = dst_address(c, op);
	uint8_t *p = cpu_write_hit(c, addr, size_of(op));

	if (p) {
		memcpy(p, &value, size_of(op));
		return true;
	}
	c->scratch[0] = value;
	return cpu_store_slow(c, dst_kind(c), addr, size_of(op));
}

/* MOVS */
static bool movs_step(struct cpu *c, const struct op *op)
{
	uint64_t v;

	if (!step_load_src(c, op, &v) || !step_store_dst(c, op, v))
		return false;
	advance(c, op, REG_RSI, 1);
	advance(c, op, REG_RDI, 1);
	return true;
}

/* In the order of elements, each read before it is written: repeats a pattern if they overlap. */
static void copy_overlapping(uint8_t *to, const uint8_t *from, uint64_t n,
			     unsigned int scale)
{
	for (uint64_t i = 0; i < n; i++) {
		const uint64_t v = load_element(from + (i << scale), scale);

		memcpy(to + (i << scale), &v, 1UL << scale);
	}
}

static uint64_t movs_chunk(struct cpu *c, const struct op *op, uint64_t n)
{
	const uint64_t src = src_address(c, op);
	const uint64_t dst = dst_address(c, op);

	n = fit(c, op, REG_RSI, src, n);
	n = fit(c, op, REG_RDI, dst, n);
	if (!n)
		return 0;
	const uint64_t bytes = n << op->scale;
	const uint8_t *from = cpu_read_hit(c, src, (unsigned int)bytes);
	uint8_t *to = cpu_write_hit(c, dst, (unsigned int)bytes);

	if (!from || !to)
		return 0;
	if (to > from && to < from + bytes)
		copy_overlapping(to, from, n, op->scale);
	else
		memmove(to, from, bytes);
	advance(c, op, REG_RSI, n);
	advance(c, op, REG_RDI, n);
	return n;
}

/* STOS */
static bool stos_step(struct cpu *c, const struct op *op)
{
	if (!step_store_dst(c, op, c->gpr[REG_RAX]))
		return false;
	advance(c, op, REG_RDI, 1);
	return true;
}

static void fill(uint8_t *to, uint64_t value, uint64_t n, unsigned int scale)
{
	switch (scale) {
	case 0:
		memset(to, (uint8_t)value, n);
		break;
	case 1:
		for (uint64_t i = 0; i < n; i++)
			host_st16(to + 2 * i, (uint16_t)value);
		break;
	case 2:
		for (uint64_t i = 0; i < n; i++)
			host_st32(to + 4 * i, (uint32_t)value);
		break;
	default:
		for (uint64_t i = 0; i < n; i++)
			host_st64(to + 8 * i, value);
	}
}

static uint64_t stos_chunk(struct cpu *c, const struct op *op, uint64_t n)
{
	const uint64_t dst = dst_address(c, op);
	uint8_t *to;

	n = fit(c, op, REG_RDI, dst, n);
	if (!n)
		return 0;
	to = cpu_write_hit(c, dst, (unsigned int)(n << op->scale));
	if (!to)
		return 0;
	if (c->gpr[REG_RAX] == 0)
		memset(to, 0, n << op->scale);
	else
		fill(to, c->gpr[REG_RAX], n, op->scale);
	advance(c, op, REG_RDI, n);
	return n;
}

/* LODS */
static void set_accumulator(struct cpu *c, const struct op *op, uint64_t v)
{
	switch (op->scale) {
	case 0:
		reg_wr8(c, 0, (uint8_t)v);
		break;
	case 1:
		reg_wr16(c, REG_RAX, (uint16_t)v);
		break;
	default:
		c->gpr[REG_RAX] = v;
	}
}

static bool lods_step(struct cpu *c, const struct op *op)
{
	uint64_t v;

	if (!step_load_src(c, op, &v))
		return false;
	set_accumulator(c, op, v);
	advance(c, op, REG_RSI, 1);
	return true;
}

static uint64_t lods_chunk(struct cpu *c, const struct op *op, uint64_t n)
{
	const uint64_t src = src_address(c, op);
	const uint8_t *from;

	n = fit(c, op, REG_RSI, src, n);
	if (!n)
		return 0;
	from = cpu_read_hit(c, src, (unsigned int)(n << op->scale));
	if (!from)
		return 0;
	set_accumulator(c, op,
			load_element(from + ((n - 1) << op->scale), op->scale));
	advance(c, op, REG_RSI, n);
	return n;
}

/* SCAS and CMPS: flags as of CMP left, right. */
#define COMPARE(bits)                                                     \
	__asm__("cmp %[r_], %[l_]" ASM_GET_FLAGS                          \
		: "=&a"(af)                                               \
		: [l_] "r"((UINT(bits))left), [r_] "r"((UINT(bits))right) \
		: "cc")

static void compare(struct cpu *c, const struct op *op, uint64_t left,
		    uint64_t right)
{
	uint16_t af;

	switch (op->scale) {
	case 0:
		COMPARE(8);
		break;
	case 1:
		COMPARE(16);
		break;
	case 2:
		COMPARE(32);
		break;
	default:
		COMPARE(64);
	}
	c->af = af;
}

static bool scas_step(struct cpu *c, const struct op *op)
{
	uint64_t v;

	if (!step_load_dst(c, op, &v))
		return false;
	compare(c, op, c->gpr[REG_RAX], v);
	advance(c, op, REG_RDI, 1);
	return true;
}

static inline bool goes_on(const struct op *op, bool is_equal)
{
	return is_equal == (op->imm == REPEAT_COUNT);
}

static uint64_t scas_chunk(struct cpu *c, const struct op *op, uint64_t n)
{
	const uint64_t dst = dst_address(c, op);
	const uint64_t mask = UINT64_MAX >> (64 - 8 * size_of(op));
	const uint64_t want = c->gpr[REG_RAX] & mask;
	const uint8_t *p;
	uint64_t i = 0;
	uint64_t v;

	n = fit(c, op, REG_RDI, dst, n);
	if (!n)
		return 0;
	p = cpu_read_hit(c, dst, (unsigned int)(n << op->scale));
	if (!p)
		return 0;
	do {
		v = load_element(p + (i << op->scale), op->scale);
		i++;
	} while (i < n && goes_on(op, v == want));
	compare(c, op, want, v);
	advance(c, op, REG_RDI, i);
	return i;
}

static bool cmps_step(struct cpu *c, const struct op *op)
{
	uint64_t left, right;

	if (!step_load_src(c, op, &left) || !step_load_dst(c, op, &right))
		return false;
	compare(c, op, left, right);
	advance(c, op, REG_RSI, 1);
	advance(c, op, REG_RDI, 1);
	return true;
}

static uint64_t cmps_chunk(struct cpu *c, const struct op *op, uint64_t n)
{
	const uint64_t src = src_address(c, op);
	const uint64_t dst = dst_address(c, op);
	uint64_t left, right;
	uint64_t i = 0;

	n = fit(c, op, REG_RSI, src, n);
	n = fit(c, op, REG_RDI, dst, n);
	if (!n)
		return 0;
	const uint64_t bytes = n << op->scale;
	const uint8_t *a = cpu_read_hit(c, src, (unsigned int)bytes);
	const uint8_t *b = cpu_read_hit(c, dst, (unsigned int)bytes);

	if (!a || !b)
		return 0;
	do {
		left = load_element(a + (i << op->scale), op->scale);
		right = load_element(b + (i << op->scale), op->scale);
		i++;
	} while (i < n && goes_on(op, left == right));
	compare(c, op, left, right);
	advance(c, op, REG_RSI, i);
	advance(c, op, REG_RDI, i);
	return i;
}

/* Time passes while elements move. */
static void charge(struct cpu *c, uint64_t insns)
{
	c->left -= (int64_t)insns < c->left ? (int64_t)insns : c->left;
}

/* The condition that ends a repeated comparison early. */
static bool is_finished(const struct cpu *c, const struct op *op,
			const struct string_kind *k)
{
	return k->compares && !goes_on(op, c->af & AF_ZF);
}

static uint64_t elements_of_one_go(const struct cpu *c, const struct op *op)
{
	return c->code_mode & CODE_SINGLE ? 1 : MAX_BYTES >> op->scale;
}

/* Return: false if it ends here for now, by a fault or to be continued. */
static bool repeat(struct cpu *c, const struct op *op,
		   const struct string_kind *k)
{
	const uint64_t mask = address_mask(op);
	uint64_t budget = elements_of_one_go(c, op);
	uint64_t count = c->gpr[REG_RCX] & mask;

	while (count) {
		if (!budget || (c->left == 0 && budget <= count &&
				!(c->code_mode & CODE_SINGLE)))
			return false;
		uint64_t n = count < budget ? count : budget;

		n = c->sys_flags & RFLAGS_DF ? 0 : k->chunk(c, op, n);
		if (!n) {
			if (!k->step(c, op))
				return false;
			n = 1;
			charge(c, 1);
		} else {
			charge(c, (n << op->scale) / BYTES_PER_INSN);
		}
		count -= n;
		budget -= n;
		set_register(c, op, REG_RCX, count);
		if (is_finished(c, op, k))
			return true;
	}
	return true;
}

#define STRING(name, compares)                                                 \
	static const struct string_kind name##_kind = {name##_chunk,           \
						       name##_step, compares}; \
	OP(name)                                                               \
	{                                                                      \
		if (!name##_step(c, op))                                       \
			FAULT();                                               \
		NEXT();                                                        \
	}                                                                      \
	OP(rep_##name)                                                         \
	{                                                                      \
		if (!repeat(c, op, &name##_kind))                              \
			FAULT();                                               \
		NEXT();                                                        \
	}

STRING(movs, false)
STRING(stos, false)
STRING(lods, false)
STRING(scas, true)
STRING(cmps, true)

static enum repeat repeat_of(const struct emitter *e)
{
	if (e->insn->attributes & ZYDIS_ATTRIB_HAS_REPNE)
		return REPEAT_NE;
	if (e->insn->attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE))
		return REPEAT_COUNT;
	return REPEAT_NONE;
}

/* The source's segment is on the operand whose address is rSI. */
static void emit_source(struct emitter *e, struct op *op)
{
	for (unsigned int i = 0; i < e->insn->operand_count; i++) {
		const ZydisDecodedOperand *o = &e->ops[i];

		if (!emit_is_mem(o) || emit_gpr(o->mem.base) != REG_RSI)
			continue;
		emit_mem(e, op, o);
	}
}

/* @self->arg: instruction * 4 + log2 of the element's size */
static bool emit_string(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[5][2] = {
		{op_movs, op_rep_movs}, {op_stos, op_rep_stos},
		{op_lods, op_rep_lods}, {op_scas, op_rep_scas},
		{op_cmps, op_rep_cmps},
	};
	const enum repeat r = repeat_of(e);

	if (e->insn->operand_count_visible &&
	    (emit_is_reg(&e->ops[0]) || emit_is_reg(&e->ops[1])) &&
	    ZydisRegisterGetClass(
		    e->ops[emit_is_reg(&e->ops[0]) ? 0 : 1].reg.value) ==
		    ZYDIS_REGCLASS_XMM)
		return false;
	struct op *op = emit(e, fns[self->arg / 4][r != REPEAT_NONE]);

	emit_source(e, op);
	op->base = REG_ZERO;
	op->scale = self->arg & 3;
	op->src = (uint8_t)emit_size(e->insn->address_width);
	op->dst = REG_ZERO;
	op->imm = r;
	if ((e->mode & CODE_BITS) != CODE_64) {
		op->dst = REG_SEG + SEG_ES;
		op->ea |= EA_NO_LINEAR64;
	}
	return true;
}

enum string_insn {
	STRING_MOVS = 0,
	STRING_STOS = 4,
	STRING_LODS = 8,
	STRING_SCAS = 12,
	STRING_CMPS = 16,
};

#define SIZES(name)                                                         \
	{ZYDIS_MNEMONIC_##name##B, emit_string, STRING_##name + 0},         \
		{ZYDIS_MNEMONIC_##name##W, emit_string, STRING_##name + 1}, \
		{ZYDIS_MNEMONIC_##name##D, emit_string, STRING_##name + 2}, \
	{                                                                   \
		ZYDIS_MNEMONIC_##name##Q, emit_string, STRING_##name + 3    \
	}

/* MOVSD and CMPSD name SSE instructions as well. */
static const struct insn_emit rows[] = {
	SIZES(MOVS), SIZES(STOS), SIZES(LODS), SIZES(SCAS), SIZES(CMPS),
};

const struct insn_table string_table = {rows, ARRAY_SIZE(rows)};

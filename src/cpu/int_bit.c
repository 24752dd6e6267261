/* SPDX-License-Identifier: Apache-2.0 */
/* Bit tests and bit scans. */
#include <cpu/int.h>

/* BT and its kin change CF only; the other flags are undefined but ZF, which stays. */
static inline void set_carry(struct cpu *c, bool carry)
{
	c->af = (uint16_t)((c->af & ~AF_CF) | (carry ? AF_CF : 0));
}

#define BIT_CHANGE_bt(d, mask)
#define BIT_CHANGE_bts(d, mask) (d) = (__typeof__(d))((d) | (mask));
#define BIT_CHANGE_btr(d, mask) (d) = (__typeof__(d))((d) & ~(mask));
#define BIT_CHANGE_btc(d, mask) (d) = (__typeof__(d))((d) ^ (mask));

#define BIT_WORK(name, bits, number)                                           \
	const UINT(bits)                                                       \
		mask = (UINT(bits))((UINT(bits))1 << ((number) & ((bits)-1))); \
	set_carry(c, d &mask);                                                 \
	BIT_CHANGE_##name(d, mask)

/* With a register as bit number, a memory operand is the one of a string of them that the
 * signed number reaches. */
#define BIT_DELTA(bits)                                                     \
	((uint64_t)(((INT(bits))RD(bits, op->src) >> __builtin_ctz(bits)) * \
		    (int64_t)((bits) / 8)))
#define BIT_EA(bits)      bit_ea(c, op, BIT_DELTA(bits))
#define BIT_EA_FULL(bits) (cpu_ea_full(c, op) + BIT_DELTA(bits))

static uint64_t bit_ea(const struct cpu *c, const struct op *op, uint64_t delta)
{
	return cpu_linear(c, op, cpu_offset(c, op) + delta);
}

#define BIT_REGS(name, bits, write)                     \
	OP(name##_rr##bits)                             \
	{                                               \
		UINT(bits) d = RD(bits, op->dst);       \
		BIT_WORK(name, bits, RD(bits, op->src)) \
		write NEXT();                           \
	}                                               \
	OP(name##_ri##bits)                             \
	{                                               \
		UINT(bits) d = RD(bits, op->dst);       \
		BIT_WORK(name, bits, op->imm)           \
		write NEXT();                           \
	}

#define BIT_TEST(bits)                                                  \
	BIT_REGS(bt, bits, )                                            \
	OP_SLOW(bt_mr##bits##_x)                                        \
	{                                                               \
		UINT(bits) d;                                           \
		LOAD(bits, d, BIT_EA(bits));                            \
		BIT_WORK(bt, bits, RD(bits, op->src))                   \
		NEXT();                                                 \
	}                                                               \
	OP(bt_mr##bits)                                                 \
	{                                                               \
		const uint8_t *hit = cpu_read_hit(c, BIT_EA_FULL(bits), \
						  (bits) / 8);          \
		if (unlikely(!hit))                                     \
			return op_bt_mr##bits##_x(c, op);               \
		const UINT(bits) d = host_ld##bits(hit);                \
		BIT_WORK(bt, bits, RD(bits, op->src))                   \
		NEXT();                                                 \
	}                                                               \
	MEM_LOAD(bt_mi##bits, bits, const UINT(bits) d = m;             \
		 BIT_WORK(bt, bits, op->imm))

/* For several processors. */
#define BIT_LOCKED(name, bits, suffix)                                      \
	OP(name##_mr##bits##_lock)                                          \
	{                                                                   \
		const uint64_t addr = BIT_EA(bits);                         \
		uint8_t *hit = cpu_write_hit(c, addr, (bits) / 8);          \
		const UINT(bits) n = RD(bits, op->src) & ((bits)-1);        \
		bool carry;                                                 \
		if (unlikely(!hit))                                         \
			return op_##name##_mr##bits##_x(c, op);             \
		__asm__ volatile("lock " #name suffix " %[n_], %[p_]"       \
				 : [p_] "+m"(*(host_atomic##bits *)hit),    \
				   "=@ccc"(carry)                           \
				 : [n_] "r"(n)                              \
				 : "memory");                               \
		set_carry(c, carry);                                        \
		NEXT();                                                     \
	}                                                                   \
	OP(name##_mi##bits##_lock)                                          \
	{                                                                   \
		uint8_t *hit = cpu_write_hit(c, cpu_ea(c, op), (bits) / 8); \
		const UINT(bits) n = op->imm & ((bits)-1);                  \
		bool carry;                                                 \
		if (unlikely(!hit))                                         \
			return op_##name##_mi##bits##_x(c, op);             \
		__asm__ volatile("lock " #name suffix " %[n_], %[p_]"       \
				 : [p_] "+m"(*(host_atomic##bits *)hit),    \
				   "=@ccc"(carry)                           \
				 : [n_] "r"(n)                              \
				 : "memory");                               \
		set_carry(c, carry);                                        \
		NEXT();                                                     \
	}

#define BIT_MODIFY(name, bits, suffix)                                          \
	BIT_REGS(name, bits, WR(bits, op->dst, d);)                             \
	OP_SLOW(name##_mr##bits##_x)                                            \
	{                                                                       \
		uint8_t *p;                                                     \
		RMW_BEGIN(bits, p, BIT_EA(bits));                               \
		UINT(bits) d = host_ld##bits(p);                                \
		BIT_WORK(name, bits, RD(bits, op->src))                         \
		host_st##bits(p, d);                                            \
		RMW_END(p);                                                     \
		NEXT();                                                         \
	}                                                                       \
	OP(name##_mr##bits)                                                     \
	{                                                                       \
		uint8_t *hit = cpu_write_hit(c, BIT_EA_FULL(bits), (bits) / 8); \
		if (unlikely(!hit))                                             \
			return op_##name##_mr##bits##_x(c, op);                 \
		UINT(bits) d = host_ld##bits(hit);                              \
		BIT_WORK(name, bits, RD(bits, op->src))                         \
		host_st##bits(hit, d);                                          \
		NEXT();                                                         \
	}                                                                       \
	MEM_RMW(name##_mi##bits, bits, BIT_WORK(name, bits, op->imm))           \
	BIT_LOCKED(name, bits, suffix)

BIT_TEST(16)
BIT_TEST(32)
BIT_TEST(64)
BIT_MODIFY(bts, 16, "w")
BIT_MODIFY(bts, 32, "l")
BIT_MODIFY(bts, 64, "q")
BIT_MODIFY(btr, 16, "w")
BIT_MODIFY(btr, 32, "l")
BIT_MODIFY(btr, 64, "q")
BIT_MODIFY(btc, 16, "w")
BIT_MODIFY(btc, 32, "l")
BIT_MODIFY(btc, 64, "q")

struct bit_fns {
	op_fn *rr, *ri, *mr, *mr_slow;
	op_fn *mi[MEM_VARIANTS];
	op_fn *mr_lock, *mi_lock;
};

#define BIT_FNS(name, bits)                                              \
	.rr = op_##name##_rr##bits, .ri = op_##name##_ri##bits,          \
	.mr = op_##name##_mr##bits, .mr_slow = op_##name##_mr##bits##_x, \
	.mi = MEM_FNS(name##_mi##bits)
#define BIT_LOCK_FNS(name, bits)                                             \
	{                                                                    \
		BIT_FNS(name, bits), .mr_lock = op_##name##_mr##bits##_lock, \
				     .mi_lock = op_##name##_mi##bits##_lock, \
	}
#define BIT_ROW(name)                                           \
	{                                                       \
		BIT_LOCK_FNS(name, 16), BIT_LOCK_FNS(name, 32), \
			BIT_LOCK_FNS(name, 64),                 \
	}

static const struct bit_fns bit_fns[4][3] = {
	{{BIT_FNS(bt, 16)}, {BIT_FNS(bt, 32)}, {BIT_FNS(bt, 64)}},
	BIT_ROW(bts),
	BIT_ROW(btr),
	BIT_ROW(btc),
};

static void emit_bt_mem(struct emitter *e, const struct bit_fns *fns)
{
	const ZydisDecodedOperand *o = e->ops;
	struct op *op = emit(e, fns->mr);

	if (emit_is_imm(&o[1])) {
		emit_pick_mem(e, op, &o[0], fns->mi);
		op->imm = o[1].imm.value.u;
	} else {
		emit_mem(e, op, &o[0]);
		op->src = emit_reg(&o[1]);
		if (op->ea & EA_SLOW)
			op->fn = fns->mr_slow;
	}
	if (emit_is_locked(e))
		op->fn = emit_is_imm(&o[1]) ? fns->mi_lock : fns->mr_lock;
}

bool emit_bt(struct emitter *e, const struct insn_emit *self)
{
	const ZydisDecodedOperand *o = e->ops;
	const struct bit_fns *fns = &bit_fns[self->arg][emit_size(o[0].size) - 1];

	if (emit_is_mem(&o[0])) {
		emit_bt_mem(e, fns);
		return true;
	}
	struct op *op = emit(e, emit_is_imm(&o[1]) ? fns->ri : fns->rr);

	op->dst = emit_reg(&o[0]);
	if (emit_is_imm(&o[1]))
		op->imm = o[1].imm.value.u;
	else
		op->src = emit_reg(&o[1]);
	return true;
}

/*
 * BSF and BSR. With a source of 0 the destination stays as it is, in the way of the host's: the
 * whole register is given to it. TZCNT and LZCNT are not advertised, so their encodings
 * mean BSF and BSR; BSF and BSR never carry a prefix that the host could take for them.
 */
#define SCAN_WORK(insn, bits, source)                        \
	do {                                                 \
		uint64_t d = c->gpr[op->dst];                \
		uint16_t af;                                 \
		__asm__(insn " %[s_], %" SCAN_OPERAND_##bits \
			"[d_]" ASM_GET_FLAGS                 \
			: [d_] "+r"(d), "=&a"(af)            \
			: [s_] "r"((UINT(bits))(source))     \
			: "cc");                             \
		c->af = af;                                  \
		c->gpr[op->dst] = d;                         \
	} while (0);

#define SCAN_OPERAND_16 "w"
#define SCAN_OPERAND_32 "k"
#define SCAN_OPERAND_64 "q"

#define SCAN(name, bits)                                  \
	OP(name##_rr##bits)                               \
	{                                                 \
		SCAN_WORK(#name, bits, RD(bits, op->src)) \
		NEXT();                                   \
	}                                                 \
	MEM_LOAD(name##_rm##bits, bits, SCAN_WORK(#name, bits, m))

SCAN(bsf, 16)
SCAN(bsf, 32)
SCAN(bsf, 64)
SCAN(bsr, 16)
SCAN(bsr, 32)
SCAN(bsr, 64)

struct scan_fns {
	op_fn *rr;
	op_fn *rm[MEM_VARIANTS];
};

#define SCAN_FNS(name, bits)                                   \
	{                                                      \
		op_##name##_rr##bits, MEM_FNS(name##_rm##bits) \
	}
#define SCAN_ROW(name)                                                     \
	{                                                                  \
		SCAN_FNS(name, 16), SCAN_FNS(name, 32), SCAN_FNS(name, 64) \
	}

bool emit_scan(struct emitter *e, const struct insn_emit *self)
{
	static const struct scan_fns fns[2][3] = {SCAN_ROW(bsf), SCAN_ROW(bsr)};
	const ZydisDecodedOperand *o = e->ops;
	const struct scan_fns *f = &fns[self->arg][emit_size(o[0].size) - 1];
	struct op *op = emit(e, f->rr);

	op->dst = emit_reg(&o[0]);
	if (emit_is_mem(&o[1]))
		emit_pick_mem(e, op, &o[1], f->rm);
	else
		op->src = emit_reg(&o[1]);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* XCHG, XADD, CMPXCHG, CMPXCHG8B and CMPXCHG16B. */
#include <cpu/int.h>

/* XCHG with memory is locked without a prefix. */
#define XCHG(bits)                                                       \
	OP(xchg_rr##bits)                                                \
	{                                                                \
		const UINT(bits) a = RD(bits, op->dst);                  \
		const UINT(bits) b = RD(bits, op->src);                  \
		WR(bits, op->dst, b);                                    \
		WR(bits, op->src, a);                                    \
		NEXT();                                                  \
	}                                                                \
	MEM_RMW(xchg_m##bits, bits, const UINT(bits) old = d;            \
		d = RD(bits, op->src); WR(bits, op->src, old);)          \
	MEM_LOCKED(xchg_m##bits, bits, UINT(bits) v = RD(bits, op->src); \
		   __asm__ volatile("xchg %[v_], %[p_]"                  \
				    : [p_] "+m"(*p), [v_] "+r"(v)        \
				    :                                    \
				    : "memory");                         \
		   WR(bits, op->src, v);, const UINT(bits) old = d;      \
		   d = RD(bits, op->src); WR(bits, op->src, old);)

/* The sum replaces the destination, and then the source its old value; they may be one register. */
#define XADD_WORK(bits)                                 \
	UINT(bits) s = RD(bits, op->src);               \
	uint16_t af;                                    \
	__asm__("xadd %[s_], %[d_]" ASM_GET_FLAGS       \
		: [d_] "+r"(d), [s_] "+r"(s), "=&a"(af) \
		:                                       \
		: "cc");                                \
	c->af = af;                                     \
	WR(bits, op->src, s);

#define XADD(bits)                                                           \
	OP(xadd_rr##bits)                                                    \
	{                                                                    \
		UINT(bits) d = RD(bits, op->dst);                            \
		XADD_WORK(bits)                                              \
		WR(bits, op->dst, d);                                        \
		NEXT();                                                      \
	}                                                                    \
	MEM_RMW(xadd_m##bits, bits, XADD_WORK(bits))                         \
	MEM_LOCKED(xadd_m##bits, bits, UINT(bits) s = RD(bits, op->src);     \
		   uint16_t af;                                              \
		   __asm__ volatile("lock xadd %[s_], %[p_]" ASM_GET_FLAGS   \
				    : [p_] "+m"(*p), [s_] "+r"(s), "=&a"(af) \
				    :                                        \
				    : "cc", "memory");                       \
		   c->af = af; WR(bits, op->src, s);, XADD_WORK(bits))

/*
 * CMPXCHG: flags as of CMP accumulator, destination. The destination is written in any case;
 * the accumulator only if they differ. Byte 0 and register 0 are AL and rAX.
 */
#define CMPXCHG_FLAGS(bits)                       \
	const UINT(bits) acc = RD(bits, REG_RAX); \
	uint16_t af;                              \
	__asm__("cmp %[d_], %[a_]" ASM_GET_FLAGS  \
		: "=&a"(af)                       \
		: [d_] "r"(d), [a_] "r"(acc)      \
		: "cc");                          \
	c->af = af;

#define CMPXCHG_WORK(bits)             \
	CMPXCHG_FLAGS(bits)            \
	if (acc == d)                  \
		d = RD(bits, op->src); \
	else                           \
		WR(bits, REG_RAX, d);

/* A destination register that is not equal stays as it is, upper half included, as on AMD's. */
#define CMPXCHG(bits)                                                    \
	OP(cmpxchg_rr##bits)                                             \
	{                                                                \
		const UINT(bits) d = RD(bits, op->dst);                  \
		CMPXCHG_FLAGS(bits)                                      \
		if (acc == d) {                                          \
			WR(bits, op->dst, RD(bits, op->src));            \
		} else {                                                 \
			WR(bits, REG_RAX, d);                            \
		}                                                        \
		NEXT();                                                  \
	}                                                                \
	MEM_RMW(cmpxchg_m##bits, bits, CMPXCHG_WORK(bits))               \
	MEM_LOCKED(cmpxchg_m##bits, bits,                                \
		   const UINT(bits) acc = RD(bits, REG_RAX);             \
		   UINT(bits) d = acc;                                   \
		   __asm__ volatile("lock cmpxchg %[s_], %[p_]"          \
				    : [p_] "+m"(*p), "+a"(d)             \
				    : [s_] "r"(RD(bits, op->src))        \
				    : "cc", "memory");                   \
		   uint16_t af; __asm__("cmp %[d_], %[a_]" ASM_GET_FLAGS \
					: "=&a"(af)                      \
					: [d_] "r"(d), [a_] "r"(acc)     \
					: "cc");                         \
		   c->af = af; if (acc != d) WR(bits, REG_RAX, d);       \
		   , CMPXCHG_WORK(bits))

#define ALL_SIZES(X) X(8) X(16) X(32) X(64)

ALL_SIZES(XCHG)
ALL_SIZES(XADD)
ALL_SIZES(CMPXCHG)

struct atomic_fns {
	op_fn *rr;
	op_fn *lock;
	op_fn *mem[MEM_VARIANTS];
};

#define ATOMIC_FNS(name, bits)                                                  \
	{                                                                       \
		.rr = op_##name##_rr##bits, .lock = op_##name##_m##bits##_lock, \
		.mem = MEM_FNS(name##_m##bits),                                 \
	}
#define ATOMIC_ROW(name)                                            \
	{                                                           \
		ATOMIC_FNS(name, 8), ATOMIC_FNS(name, 16),          \
			ATOMIC_FNS(name, 32), ATOMIC_FNS(name, 64), \
	}

static const struct atomic_fns xchg_fns[4] = ATOMIC_ROW(xchg);
static const struct atomic_fns xadd_fns[4] = ATOMIC_ROW(xadd);
static const struct atomic_fns cmpxchg_fns[4] = ATOMIC_ROW(cmpxchg);

static bool emit_exchange(struct emitter *e, const struct atomic_fns fns[4],
			  const ZydisDecodedOperand *dst,
			  const ZydisDecodedOperand *src, bool is_locked)
{
	const struct atomic_fns *f = &fns[emit_size(dst->size)];
	struct op *op = emit(e, f->rr);

	op->src = emit_reg(src);
	if (!emit_is_mem(dst)) {
		op->dst = emit_reg(dst);
		return true;
	}
	emit_pick_mem(e, op, dst, f->mem);
	if (is_locked)
		op->fn = f->lock;
	return true;
}

bool emit_xchg(struct emitter *e, const struct insn_emit *self)
{
	const unsigned int mem = emit_is_mem(&e->ops[1]) ? 1 : 0;

	(void)self;
	return emit_exchange(e, xchg_fns, &e->ops[mem], &e->ops[!mem],
			     e->c->features.n_cpus > 1);
}

bool emit_xadd(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_exchange(e, xadd_fns, &e->ops[0], &e->ops[1],
			     emit_is_locked(e));
}

bool emit_cmpxchg(struct emitter *e, const struct insn_emit *self)
{
	(void)self;
	return emit_exchange(e, cmpxchg_fns, &e->ops[0], &e->ops[1],
			     emit_is_locked(e));
}

static void set_zero_flag(struct cpu *c, bool zero)
{
	c->af = (uint16_t)((c->af & ~AF_ZF) | (zero ? AF_ZF : 0));
}

OP(cmpxchg8b)
{
	const uint64_t expected = c->gpr[REG_RDX] << 32 |
				  (uint32_t)c->gpr[REG_RAX];
	uint8_t *p;

	RMW_BEGIN(64, p, cpu_ea(c, op));
	const uint64_t old = host_ld64(p);

	if (old == expected) {
		host_st64(p, c->gpr[REG_RCX] << 32 | (uint32_t)c->gpr[REG_RBX]);
	} else {
		c->gpr[REG_RAX] = (uint32_t)old;
		c->gpr[REG_RDX] = old >> 32;
	}
	RMW_END(p);
	set_zero_flag(c, old == expected);
	NEXT();
}

OP(cmpxchg8b_lock)
{
	uint64_t old = c->gpr[REG_RDX] << 32 | (uint32_t)c->gpr[REG_RAX];
	uint8_t *p = cpu_write_hit(c, cpu_ea(c, op), 8);
	bool is_equal;

	if (!p)
		return op_cmpxchg8b(c, op);
	__asm__ volatile("lock cmpxchg %[s_], %[p_]"
			 : [p_] "+m"(*(host_atomic64 *)p), "+a"(old),
			   "=@ccz"(is_equal)
			 : [s_] "r"(c->gpr[REG_RCX] << 32 |
				    (uint32_t)c->gpr[REG_RBX])
			 : "memory");
	if (!is_equal) {
		c->gpr[REG_RAX] = (uint32_t)old;
		c->gpr[REG_RDX] = old >> 32;
	}
	set_zero_flag(c, is_equal);
	NEXT();
}

OP(cmpxchg16b)
{
	const uint64_t addr = cpu_ea(c, op);
	uint8_t *p;

	if (addr & 15) {
		cpu_raise_code(c, VEC_GP, 0);
		FAULT();
	}
	RMW_BEGIN(128, p, addr);
	const uint64_t lo = host_ld64(p);
	const uint64_t hi = host_ld64(p + 8);
	const bool is_equal = lo == c->gpr[REG_RAX] && hi == c->gpr[REG_RDX];

	if (is_equal) {
		host_st64(p, c->gpr[REG_RBX]);
		host_st64(p + 8, c->gpr[REG_RCX]);
	} else {
		c->gpr[REG_RAX] = lo;
		c->gpr[REG_RDX] = hi;
	}
	RMW_END(p);
	set_zero_flag(c, is_equal);
	NEXT();
}

OP(cmpxchg16b_lock)
{
	const uint64_t addr = cpu_ea(c, op);
	uint64_t lo = c->gpr[REG_RAX];
	uint64_t hi = c->gpr[REG_RDX];
	bool is_equal;
	uint8_t *p = cpu_write_hit(c, addr, 16);

	if (!p || (addr & 15))
		return op_cmpxchg16b(c, op);
	__asm__ volatile("lock cmpxchg16b (%[p_])"
			 : "+a"(lo), "+d"(hi), "=@ccz"(is_equal)
			 : [p_] "r"(p), "b"(c->gpr[REG_RBX]),
			   "c"(c->gpr[REG_RCX])
			 : "memory");
	c->gpr[REG_RAX] = lo;
	c->gpr[REG_RDX] = hi;
	set_zero_flag(c, is_equal);
	NEXT();
}

bool emit_cmpxchg8b(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[2][2] = {
		{op_cmpxchg8b, op_cmpxchg8b_lock},
		{op_cmpxchg16b, op_cmpxchg16b_lock},
	};

	emit_mem(e, emit(e, fns[self->arg][emit_is_locked(e)]), &e->ops[0]);
	return true;
}

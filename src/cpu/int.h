/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of integer instructions share: register access by size, handlers with a
 * memory operand, condition codes, and the emitters that int_table lists.
 *
 * A handler with a memory operand comes in three variants, in this order in tables of
 * handlers:
 *   _s  base and displacement only
 *   _f  base, index and segment base, 64 bits wide
 *   _x  everything: narrow addresses, limits, TLB misses, devices
 * The first two handle TLB hits only and hand misses over to _x, so they make no
 * calls and need no stack frame.
 */
#ifndef CPU_INT_H
#define CPU_INT_H
#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/flags.h>

/* Registers by operand size; 8-bit ones by emit_reg8(). Writes merge or extend as x86-64 does. */
static inline uint8_t reg_rd8(const struct cpu *c, unsigned int i)
{
	return host_ld8((const uint8_t *)c->gpr + i);
}

static inline uint16_t reg_rd16(const struct cpu *c, unsigned int i)
{
	return (uint16_t)c->gpr[i];
}

static inline uint32_t reg_rd32(const struct cpu *c, unsigned int i)
{
	return (uint32_t)c->gpr[i];
}

static inline uint64_t reg_rd64(const struct cpu *c, unsigned int i)
{
	return c->gpr[i];
}

static inline void reg_wr8(struct cpu *c, unsigned int i, uint8_t v)
{
	host_st8((uint8_t *)c->gpr + i, v);
}

static inline void reg_wr16(struct cpu *c, unsigned int i, uint16_t v)
{
	host_st16(&c->gpr[i], v);
}

static inline void reg_wr32(struct cpu *c, unsigned int i, uint32_t v)
{
	c->gpr[i] = v;
}

static inline void reg_wr64(struct cpu *c, unsigned int i, uint64_t v)
{
	c->gpr[i] = v;
}

#define RD(bits, i)    reg_rd##bits(c, (i))
#define WR(bits, i, v) reg_wr##bits(c, (i), (v))
#define UINT(bits)     uint##bits##_t
#define INT(bits)      int##bits##_t

/** cpu_ea_full() - linear address of an operand without EA_SLOW bits. */
static inline uint64_t cpu_ea_full(const struct cpu *c, const struct op *op)
{
	return cpu_offset(c, op) + c->gpr[op->seg];
}

#define MEM_VARIANTS 3

/* A handler that others hand over to; never merged into them, for it makes calls. */
#define OP_SLOW(name) __attribute__((noinline)) OP(name)

/* The three handlers of an operation with a memory operand, for tables. */
#define MEM_FNS(name)                                       \
	{                                                   \
		op_##name##_s, op_##name##_f, op_##name##_x \
	}

/* Handlers that read memory into m and then do the statements. */
#define MEM_LOAD_HIT(name, variant, bits, ea, ...)                            \
	OP(name##variant)                                                     \
	{                                                                     \
		const uint8_t *hit_ = cpu_read_hit(c, ea(c, op), (bits) / 8); \
		if (unlikely(!hit_))                                          \
			return op_##name##_x(c, op);                          \
		const UINT(bits) m = host_ld##bits(hit_);                     \
		__VA_ARGS__                                                   \
		NEXT();                                                       \
	}

#define MEM_LOAD(name, bits, ...)                                \
	OP_SLOW(name##_x)                                        \
	{                                                        \
		UINT(bits) m;                                    \
		LOAD(bits, m, cpu_ea(c, op));                    \
		__VA_ARGS__                                      \
		NEXT();                                          \
	}                                                        \
	MEM_LOAD_HIT(name, _s, bits, cpu_ea_simple, __VA_ARGS__) \
	MEM_LOAD_HIT(name, _f, bits, cpu_ea_full, __VA_ARGS__)

/* Handlers that store a value. */
#define MEM_STORE_HIT(name, variant, bits, ea, value)                    \
	OP(name##variant)                                                \
	{                                                                \
		uint8_t *hit_ = cpu_write_hit(c, ea(c, op), (bits) / 8); \
		if (unlikely(!hit_))                                     \
			return op_##name##_x(c, op);                     \
		host_st##bits(hit_, (value));                            \
		NEXT();                                                  \
	}

#define MEM_STORE(name, bits, value)                        \
	OP_SLOW(name##_x)                                   \
	{                                                   \
		STORE(bits, cpu_ea(c, op), (value));        \
		NEXT();                                     \
	}                                                   \
	MEM_STORE_HIT(name, _s, bits, cpu_ea_simple, value) \
	MEM_STORE_HIT(name, _f, bits, cpu_ea_full, value)

/* Handlers that read memory into d, do the statements, and write d back. */
#define MEM_RMW_HIT(name, variant, bits, ea, ...)                        \
	OP(name##variant)                                                \
	{                                                                \
		uint8_t *hit_ = cpu_write_hit(c, ea(c, op), (bits) / 8); \
		if (unlikely(!hit_))                                     \
			return op_##name##_x(c, op);                     \
		UINT(bits) d = host_ld##bits(hit_);                      \
		__VA_ARGS__                                              \
		host_st##bits(hit_, d);                                  \
		NEXT();                                                  \
	}

#define MEM_RMW(name, bits, ...)                                \
	OP_SLOW(name##_x)                                       \
	{                                                       \
		uint8_t *rmw_p_;                                \
		RMW_BEGIN(bits, rmw_p_, cpu_ea(c, op));         \
		UINT(bits) d = host_ld##bits(rmw_p_);           \
		__VA_ARGS__                                     \
		host_st##bits(rmw_p_, d);                       \
		RMW_END(rmw_p_);                                \
		NEXT();                                         \
	}                                                       \
	MEM_RMW_HIT(name, _s, bits, cpu_ea_simple, __VA_ARGS__) \
	MEM_RMW_HIT(name, _f, bits, cpu_ea_full, __VA_ARGS__)

/*
 * The form for several processors: on a hit the statements in parentheses work on
 * *p with a locked host instruction, else the others work on d as above.
 */
#define MEM_LOCKED(name, bits, locked, ...)                               \
	OP(name##_lock)                                                   \
	{                                                                 \
		const uint64_t addr_ = cpu_ea(c, op);                     \
		uint8_t *hit_ = cpu_write_hit(c, addr_, (bits) / 8);      \
		if (likely(hit_)) {                                       \
			host_atomic##bits *p = (host_atomic##bits *)hit_; \
			locked NEXT();                                    \
		}                                                         \
		if (!cpu_rmw_slow(c, op, addr_, (bits) / 8))              \
			FAULT();                                          \
		UINT(bits) d = host_ld##bits(c->scratch);                 \
		__VA_ARGS__                                               \
		host_st##bits(c->scratch, d);                             \
		cpu_rmw_finish(c);                                        \
		NEXT();                                                   \
	}

typedef uint8_t host_atomic8 __attribute__((may_alias));
typedef uint16_t host_atomic16 __attribute__((may_alias, aligned(1)));
typedef uint32_t host_atomic32 __attribute__((may_alias, aligned(1)));
typedef uint64_t host_atomic64 __attribute__((may_alias, aligned(1)));

/* X(cc, name, outcome of a host instruction) for each condition code. */
#define FOR_EACH_CC(X, ...)    \
	X(0, o, __VA_ARGS__)   \
	X(1, no, __VA_ARGS__)  \
	X(2, b, __VA_ARGS__)   \
	X(3, ae, __VA_ARGS__)  \
	X(4, e, __VA_ARGS__)   \
	X(5, ne, __VA_ARGS__)  \
	X(6, be, __VA_ARGS__)  \
	X(7, a, __VA_ARGS__)   \
	X(8, s, __VA_ARGS__)   \
	X(9, ns, __VA_ARGS__)  \
	X(10, p, __VA_ARGS__)  \
	X(11, np, __VA_ARGS__) \
	X(12, l, __VA_ARGS__)  \
	X(13, ge, __VA_ARGS__) \
	X(14, le, __VA_ARGS__) \
	X(15, g, __VA_ARGS__)

/** emit_pick_mem() - describe a memory operand and choose among the three variants. */
void emit_pick_mem(struct emitter *e, struct op *op,
		   const ZydisDecodedOperand *m, op_fn *const fns[MEM_VARIANTS]);

/** emit_reg() - index of a register of any operand size, as RD() and WR() want it. */
uint8_t emit_reg(const ZydisDecodedOperand *o);

/** emit_is_locked() - must this be atomic against other processors? */
bool emit_is_locked(const struct emitter *e);

static inline bool emit_is_reg(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER;
}

static inline bool emit_is_imm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_IMMEDIATE;
}

/* The order is that of the opcode's bits 5:3; TEST is ours. */
enum alu_op {
	ALU_ADD,
	ALU_OR,
	ALU_ADC,
	ALU_SBB,
	ALU_AND,
	ALU_SUB,
	ALU_XOR,
	ALU_CMP,
	ALU_TEST,
	ALU_COUNT,
};

/* Operand kinds: destination first. */
enum alu_kind {
	ALU_RR,
	ALU_RI,
	ALU_RM,
	ALU_MR = ALU_RM + MEM_VARIANTS,
	ALU_MI = ALU_MR + MEM_VARIANTS,
	ALU_KINDS = ALU_MI + MEM_VARIANTS,
};

/** alu_handler() - the handler of an operation; @size as emit_size(). */
op_fn *alu_handler(enum alu_op alu, unsigned int size, unsigned int kind);

typedef bool emit_fn(struct emitter *e, const struct insn_emit *self);

/* int_alu.c */
emit_fn emit_alu;   /* arg: enum alu_op */
emit_fn emit_unary; /* arg: 0 INC, 1 DEC, 2 NEG, 3 NOT */

/* int_mul.c */
emit_fn emit_mul;  /* arg: 0 MUL, 2 DIV, 3 IDIV */
emit_fn emit_imul; /* arg: 1 */

/* int_mov.c */
emit_fn emit_mov;
emit_fn emit_movzx;
emit_fn emit_movsx;
emit_fn emit_lea;
emit_fn emit_cmov;    /* arg: condition code */
emit_fn emit_setcc;   /* arg: condition code */
emit_fn emit_convert; /* arg: 0 CBW … 5 CQO, see there */
emit_fn emit_bswap;
emit_fn emit_xlat;

/* int_shift.c */
emit_fn emit_shift;  /* arg: the opcode's bits 5:3 */
emit_fn emit_shiftd; /* arg: 0 SHLD, 1 SHRD */

/* int_bit.c */
emit_fn emit_bt;   /* arg: 0 BT, 1 BTS, 2 BTR, 3 BTC */
emit_fn emit_scan; /* arg: 0 BSF, 1 BSR */

/* int_atomic.c */
emit_fn emit_xchg;
emit_fn emit_xadd;
emit_fn emit_cmpxchg;
emit_fn emit_cmpxchg8b; /* arg: 0 CMPXCHG8B, 1 CMPXCHG16B */

/* int_stack.c */
emit_fn emit_push;
emit_fn emit_pop;
emit_fn emit_pusha;
emit_fn emit_popa;
emit_fn emit_enter;
emit_fn emit_leave;

/* int_misc.c */
emit_fn emit_flag; /* arg: index of a handler, see there */
emit_fn emit_bcd;  /* arg: index of a handler, see there */
emit_fn emit_nop;
emit_fn emit_fence;
emit_fn emit_clflush;
emit_fn emit_bound;
emit_fn emit_into;
emit_fn emit_undefined;

#endif

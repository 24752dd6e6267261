/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoded operations: what the block cache holds and the handlers execute.
 *
 * A block is a run of instructions of one page, decoded once into struct op. Each op's
 * handler does its work and hands over to the next op by a tail call (NEXT), so there is
 * no dispatch loop; with CPU_DISPATCH_LOOP a handler returns the next op instead, which
 * sanitizers and unoptimised builds need. Handlers look the same in both.
 *
 *   OP(mov_r64_r64)
 *   {
 *           c->gpr[op->dst] = c->gpr[op->src];
 *           NEXT();
 *   }
 *
 * A handler must not take the address of a local variable: compilers make no tail call
 * out of such a function. Memory goes through access.h, whose slow path
 * leaves data in cpu.scratch for that reason.
 *
 * Ways out of a handler:
 *   NEXT()              go on with the next op of the block
 *   FAULT()             an exception was raised (cpu_raise() …): RIP stays at this instruction
 *   LEAVE()             this instruction is complete; return to cpu_run(), which looks again at
 *                       interrupts, modes and RIP (set it before only with LEAVE_TO)
 *   return cpu_jump(c, op, rip)   branch; finds the block by the jump cache
 *
 * While a block runs, gpr[REG_RIP] is the address of its first instruction; this
 * instruction is at gpr[REG_RIP] + op->off and the next at + op->len more.
 */
#ifndef CPU_OP_H
#define CPU_OP_H
#include <cpu/cpu.h>

typedef const struct op *op_fn(struct cpu *c, const struct op *op);

/* op.ea bits */
#define EA_ADDR32 \
	0x01U /* truncate the offset to 32 bits (address-size prefix, 32-bit code) */
#define EA_ADDR16 0x02U
#define EA_CHECK  0x04U /* segment limits and rights must be checked */
#define EA_STACK  0x08U /* relative to SS: failures raise #SS instead of #GP */
#define EA_NO_LINEAR64 \
	0x10U /* linear address is 32 bits wide (not 64-bit mode) */
#define EA_SLOW (EA_ADDR32 | EA_ADDR16 | EA_CHECK | EA_NO_LINEAR64)

/**
 * struct op - one operation, 32 bytes. Holds no pointer but to its handler.
 * @fn: handler
 * @dst: register index, or byte offset into gpr for 8-bit registers (emit_reg8())
 * @src: the same
 * @base, @index, @scale, @seg: effective address: gpr[base] + (gpr[index] << scale) + disp,
 *	then + gpr[seg]; absent parts name REG_ZERO. RIP-relative: base is REG_RIP
 *	and disp counts from the block's first byte.
 * @ea: EA_* bits
 * @len: length of the instruction in bytes
 * @off: its offset from the block's first byte
 * @idx: number of this op in its block
 * @nth: number of this instruction in its block (an op may stand for two instructions)
 * @disp: displacement of the effective address
 * @imm: immediate operand, sign- or zero-extended as the operation needs it
 */
struct op {
	op_fn *fn;
	uint8_t dst;
	uint8_t src;
	uint8_t base;
	uint8_t index;
	uint8_t scale;
	uint8_t seg;
	uint8_t ea;
	uint8_t len;
	uint16_t off;
	uint8_t idx;
	uint8_t nth;
	int32_t disp;
	uint64_t imm;
};

_Static_assert(sizeof(struct op) == 32, "two ops to a cache line");

#define BLOCK_MAX_INSNS 64

/**
 * struct block - decoded instructions of one page, entered only at the first.
 *
 * Blocks are known by the page of guest RAM that they were decoded from, not by the machine page:
 * whatever the host does with a page keeps its contents, so blocks outlive sharing,
 * compression and swapping.
 * @link: successors of the final direct branch: [0] not taken or only one, [1] taken
 * @hash_next: next block in the chain of its key
 * @page_next: next block of the page of @key
 * @cross_next: next block that reaches into the page of @key2
 * @bytes: length of its code
 * @n_insns: instructions, at most BLOCK_MAX_INSNS
 * @n_ops: ops of all of them
 * @ops: @n_ops of them
 */
struct block {
	struct block *link[2];
	struct block *hash_next;
	struct block *page_next;
	struct block *cross_next;
	uint64_t key; /* PPN * PAGE_SIZE + offset of the first byte */
	uint64_t key2; /* the same of the page that its only instruction reaches into, or 0 */
	uint16_t mode; /* cpu.code_mode it was decoded for */
	uint16_t bytes;
	uint8_t heat;       /* times that a slice ended here: run.c */
	uint8_t n_accesses; /* memory operands of all instructions */
	uint8_t n_insns;
	uint8_t n_ops;
	struct op ops[];
};

#define OP(name) \
	static const struct op *op_##name(struct cpu *c, const struct op *op)

/* As OP(), for handlers that other files name (declare with OP_DECLARE). */
#define OP_EXPORT(name) \
	const struct op *op_##name(struct cpu *c, const struct op *op)

#ifdef CPU_DISPATCH_LOOP
#define OP_GO(next) return (next)
#elif defined(__clang__)
#define OP_GO(next)                                                         \
	do {                                                                \
		const struct op *op_next_ = (next);                         \
		__attribute__((musttail)) return op_next_->fn(c, op_next_); \
	} while (0)
#else
#define OP_GO(next)                                 \
	do {                                        \
		const struct op *op_next_ = (next); \
		return op_next_->fn(c, op_next_);   \
	} while (0)
#endif

#define NEXT() OP_GO(op + 1)

/* Leave the block with an exception pending; RIP is this instruction's. */
#define FAULT() return cpu_fault_exit(c, op)

/* Leave the block after this instruction. */
#define LEAVE() return cpu_leave(c, op, cpu_next_rip(c, op))

/* Leave the block after this instruction and go on at another address. */
#define LEAVE_TO(rip) return cpu_leave(c, op, (rip))

/** op_block() - the block that an op is part of. */
static inline struct block *op_block(const struct op *op)
{
	return (struct block *)((uintptr_t)(op - op->idx) -
				offsetof(struct block, ops));
}

/** cpu_this_rip() - address of the instruction that an op belongs to. */
static inline uint64_t cpu_this_rip(const struct cpu *c, const struct op *op)
{
	return c->gpr[REG_RIP] + op->off;
}

/** cpu_next_rip() - address of the instruction after it, wrapped to the code size. */
static inline uint64_t cpu_next_rip(const struct cpu *c, const struct op *op)
{
	const uint64_t rip = c->gpr[REG_RIP] + op->off + op->len;

	return likely((c->code_mode & CODE_BITS) == CODE_64) ? rip
							     : (uint32_t)rip;
}

/**
 * cpu_fault_exit() - end the run of a block before this instruction: nothing of it was done.
 * Return: NULL, which ends dispatch.
 */
const struct op *cpu_fault_exit(struct cpu *c, const struct op *op);

/**
 * cpu_leave() - end the run of a block after this instruction.
 * @c: processor
 * @op: last op of the instruction
 * @rip: where to go on
 * Return: NULL, which ends dispatch; cpu_run() goes on.
 */
const struct op *cpu_leave(struct cpu *c, const struct op *op, uint64_t rip);

/**
 * cpu_end_slice() - make cpu_run() return at the next block boundary, since devices or
 * interrupts may want attention.
 */
static inline void cpu_end_slice(struct cpu *c)
{
	c->granted -= (uint64_t)c->left;
	c->left = 0;
	c->attention = true;
}

/** cpu_enter_slow() - find or decode the block at gpr[REG_RIP] and start it, or fault. */
const struct op *cpu_enter_slow(struct cpu *c);

#define JUMP_BITS 12

/** struct jump_entry - of the jump cache: where an indirect branch to an address goes. */
struct jump_entry {
	uint64_t rip;
	uint64_t key; /* fetch generation << 32 | user << 31 | code mode */
	struct block *block;
};

/** cpu_jump_key() - what besides the address a jump cache entry must agree with. */
static inline uint64_t cpu_jump_key(const struct cpu *c)
{
	return (uint64_t)c->tlb.fetch_gen[c->tlb.user] << 32 |
	       (uint64_t)c->tlb.user << 31 | c->code_mode;
}

/** cpu_jump_slot() - the entry that an address uses. */
static inline struct jump_entry *cpu_jump_slot(struct jump_entry *cache,
					       uint64_t rip)
{
	return &cache[(rip ^ (rip >> JUMP_BITS)) & ((1U << JUMP_BITS) - 1)];
}

/* First member of struct block_cache, for the inline path below. */
struct block_cache_head {
	struct jump_entry jump[1U << JUMP_BITS];
};

/* Start a block: charge its instructions, or stop if the slice is used up. RIP is set. */
#define BLOCK_ENTER(b)                                            \
	do {                                                      \
		struct block *enter_ = (b);                       \
		if (unlikely((c->left -= enter_->n_insns) < 0)) { \
			c->left += enter_->n_insns;               \
			return NULL;                              \
		}                                                 \
		c->accesses += enter_->n_accesses;                \
		OP_GO(enter_->ops);                               \
	} while (0)

/*
 * The same in a function that is not a handler, where clang cannot make a tail call:
 * dispatch goes on.
 */
#define BLOCK_ENTER_SLOW(b)                                       \
	do {                                                      \
		struct block *enter_ = (b);                       \
		if (unlikely((c->left -= enter_->n_insns) < 0)) { \
			c->left += enter_->n_insns;               \
			return NULL;                              \
		}                                                 \
		c->accesses += enter_->n_accesses;                \
		return enter_->ops;                               \
	} while (0)

/* End of a handler that branches to a computed address. */
#define JUMP(target)                                                  \
	do {                                                          \
		const uint64_t jump_rip_ = (target);                  \
		const struct jump_entry *jump_e_ = cpu_jump_slot(     \
			((struct block_cache_head *)c->blocks)->jump, \
			jump_rip_);                                   \
		c->gpr[REG_RIP] = jump_rip_;                          \
		if (likely(jump_e_->rip == jump_rip_ &&               \
			   jump_e_->key == cpu_jump_key(c)))          \
			BLOCK_ENTER(jump_e_->block);                  \
		return cpu_enter_slow(c);                             \
	} while (0)

/*
 * End of a handler that branches to a fixed address, rip_off bytes from the block's start
 * (taken modulo the code size by the emitter's choice of handler). side: 0 or 1.
 */
#define JUMP_DIRECT(rip_target, side)                               \
	do {                                                        \
		struct block *direct_b_ = op_block(op)->link[side]; \
		const uint64_t direct_from_ = c->gpr[REG_RIP];      \
		c->gpr[REG_RIP] = (rip_target);                     \
		if (likely(direct_b_ != NULL))                      \
			BLOCK_ENTER(direct_b_);                     \
		return cpu_link(c, op, side, direct_from_);         \
	} while (0)

/**
 * cpu_link() - go to gpr[REG_RIP], and remember the way: in the block's link if it stays in
 * the same page (then the same translation is in force whenever this branch is taken), else in
 * the jump cache.
 * @c: processor
 * @op: the branch
 * @side: 0 or 1: which of block.link
 * @from_rip: gpr[REG_RIP] as it was before the branch
 *
 * Return: the op to go on with, or NULL, which ends dispatch.
 */
const struct op *cpu_link(struct cpu *c, const struct op *op, unsigned int side,
			  uint64_t from_rip);

/** cpu_raise(), cpu_raise_code() - an exception is pending; the handler then ends with FAULT(). */
void cpu_raise(struct cpu *c, enum x86_vector vector);
void cpu_raise_code(struct cpu *c, enum x86_vector vector, uint32_t code);

#endif

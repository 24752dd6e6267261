/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Near branches: Jcc, JMP, CALL, RET, LOOPcc, JRCXZ, and CMP or TEST fused with a Jcc.
 *
 * Direct branches carry their target as an offset from the block's first byte in op.imm. Outside
 * 64-bit mode the target is cut to 32 or 16 bits: these handlers find the mask in
 * op.disp. In 64-bit mode a target that is not canonical raises #GP at the branch, with nothing
 * pushed or popped; the jump cache holds canonical addresses only, so a
 * hit needs no check. [SDM2 "JMP", "CALL", "RET"]
 *
 * The operand-size prefix is ignored in 64-bit mode, where near branches are always 64 bits wide:
 * Intel's behaviour, and what Zydis decodes.
 */
#include <cpu/emit.h>
#include <cpu/int.h>
#include <cpu/stack.h>
#include <cpu/sys_ops.h>

/* RIP after this op's instruction, in 64-bit mode. */
static inline uint64_t next_rip64(const struct cpu *c, const struct op *op)
{
	return c->gpr[REG_RIP] + op->off + op->len;
}

static inline uint64_t next_rip_narrow(const struct cpu *c, const struct op *op)
{
	return (uint32_t)next_rip64(c, op);
}

static inline uint64_t target_narrow(const struct cpu *c, const struct op *op)
{
	return (uint32_t)(c->gpr[REG_RIP] + op->imm) & (uint32_t)op->disp;
}

static inline bool is_canonical(uint64_t addr)
{
	return (uint64_t)((int64_t)(addr << 16) >> 16) == addr;
}

/* Branch to one of two places, both sides linked. */
#define BRANCH64(condition)                                        \
	do {                                                       \
		if (condition)                                     \
			JUMP_DIRECT(c->gpr[REG_RIP] + op->imm, 1); \
		JUMP_DIRECT(next_rip64(c, op), 0);                 \
	} while (0)

#define BRANCH_NARROW(condition)                              \
	do {                                                  \
		if (condition)                                \
			JUMP_DIRECT(target_narrow(c, op), 1); \
		JUMP_DIRECT(next_rip_narrow(c, op), 0);       \
	} while (0)

#define JCC(cc, name, ...)                              \
	OP(j##name##_64)                                \
	{                                               \
		BRANCH64(af_condition(c->af, cc));      \
	}                                               \
	OP(j##name##_narrow)                            \
	{                                               \
		BRANCH_NARROW(af_condition(c->af, cc)); \
	}

FOR_EACH_CC(JCC, )

#define JCC_ROW(cc, name, ...) [cc] = {op_j##name##_64, op_j##name##_narrow},

static op_fn *const jcc_fns[16][2] = {FOR_EACH_CC(JCC_ROW, )};

/*
 * Fused compare and branch. The host's own condition decides, so the guest's flags are stored but
 * not read back. An immediate is in the low half of op.imm and the branch target in the high half;
 * other kinds have the target in all of it, as Jcc has.
 */
#define FUSED_ASM(insn, outcome)                    \
	__asm__(insn " %[s_], %[d_]" ASM_GET_FLAGS  \
		: "=&a"(af), "=@cc" #outcome(taken) \
		: [d_] "r"(d), [s_] "r"(s))

#define FUSED_END(insn, name, target)                       \
	int taken;                                          \
	uint16_t af;                                        \
	FUSED_ASM(insn, name);                              \
	c->af = af;                                         \
	if (taken)                                          \
		JUMP_DIRECT(c->gpr[REG_RIP] + (target), 1); \
	JUMP_DIRECT(next_rip64(c, op), 0)

#define IMM_TARGET ((uint64_t)((int64_t)op->imm >> 32))
#define IMM_VALUE  ((uint64_t)(int64_t)(int32_t)op->imm)

#define FUSED_LOAD(variant, fname, bits, ea)                          \
	const uint8_t *hit_ = cpu_read_hit(c, ea(c, op), (bits) / 8); \
	if (unlikely(!hit_))                                          \
		return op_##fname##_x(c, op);                         \
	const UINT(bits) m = host_ld##bits(hit_);

#define FUSED_MEM(fname, cc_name, insn, bits, d_value, s_value, target) \
	OP_SLOW(fname##_x)                                              \
	{                                                               \
		UINT(bits) m;                                           \
		LOAD(bits, m, cpu_ea(c, op));                           \
		const UINT(bits) d = (UINT(bits))(d_value);             \
		const UINT(bits) s = (UINT(bits))(s_value);             \
		FUSED_END(insn, cc_name, target);                       \
	}                                                               \
	OP(fname##_s)                                                   \
	{                                                               \
		FUSED_LOAD(_s, fname, bits, cpu_ea_simple)              \
		const UINT(bits) d = (UINT(bits))(d_value);             \
		const UINT(bits) s = (UINT(bits))(s_value);             \
		FUSED_END(insn, cc_name, target);                       \
	}                                                               \
	OP(fname##_f)                                                   \
	{                                                               \
		FUSED_LOAD(_f, fname, bits, cpu_ea_full)                \
		const UINT(bits) d = (UINT(bits))(d_value);             \
		const UINT(bits) s = (UINT(bits))(s_value);             \
		FUSED_END(insn, cc_name, target);                       \
	}

#define FUSED(cc, name, insn, bits)                                           \
	OP(insn##_j##name##_rr##bits)                                         \
	{                                                                     \
		const UINT(bits) d = RD(bits, op->dst);                       \
		const UINT(bits) s = RD(bits, op->src);                       \
		FUSED_END(#insn, name, op->imm);                              \
	}                                                                     \
	OP(insn##_j##name##_ri##bits)                                         \
	{                                                                     \
		const UINT(bits) d = RD(bits, op->dst);                       \
		const UINT(bits) s = (UINT(bits))IMM_VALUE;                   \
		FUSED_END(#insn, name, IMM_TARGET);                           \
	}                                                                     \
	FUSED_MEM(insn##_j##name##_rm##bits, name, #insn, bits,               \
		  RD(bits, op->dst), m, op->imm)                              \
	FUSED_MEM(insn##_j##name##_mr##bits, name, #insn, bits, m,            \
		  RD(bits, op->src), op->imm)                                 \
	FUSED_MEM(insn##_j##name##_mi##bits, name, #insn, bits, m, IMM_VALUE, \
		  IMM_TARGET)

FOR_EACH_CC(FUSED, cmp, 8)
FOR_EACH_CC(FUSED, cmp, 32)
FOR_EACH_CC(FUSED, cmp, 64)
FOR_EACH_CC(FUSED, test, 8)
FOR_EACH_CC(FUSED, test, 32)
FOR_EACH_CC(FUSED, test, 64)

#define FUSED_ROW(cc, name, insn, bits)             \
	[cc] = {                                    \
		op_##insn##_j##name##_rr##bits,     \
		op_##insn##_j##name##_ri##bits,     \
		op_##insn##_j##name##_rm##bits##_s, \
		op_##insn##_j##name##_rm##bits##_f, \
		op_##insn##_j##name##_rm##bits##_x, \
		op_##insn##_j##name##_mr##bits##_s, \
		op_##insn##_j##name##_mr##bits##_f, \
		op_##insn##_j##name##_mr##bits##_x, \
		op_##insn##_j##name##_mi##bits##_s, \
		op_##insn##_j##name##_mi##bits##_f, \
		op_##insn##_j##name##_mi##bits##_x, \
	},

/* The kinds as alu_handler() numbers them. */
struct fused_fns {
	enum alu_op alu;
	unsigned int size;
	op_fn *fn[16][ALU_KINDS];
};

static const struct fused_fns fused_fns[] = {
	{ALU_CMP, 0, {FOR_EACH_CC(FUSED_ROW, cmp, 8)}},
	{ALU_CMP, 2, {FOR_EACH_CC(FUSED_ROW, cmp, 32)}},
	{ALU_CMP, 3, {FOR_EACH_CC(FUSED_ROW, cmp, 64)}},
	{ALU_TEST, 0, {FOR_EACH_CC(FUSED_ROW, test, 8)}},
	{ALU_TEST, 2, {FOR_EACH_CC(FUSED_ROW, test, 32)}},
	{ALU_TEST, 3, {FOR_EACH_CC(FUSED_ROW, test, 64)}},
};

static bool is_imm_kind(unsigned int kind)
{
	return kind == ALU_RI || kind >= ALU_MI;
}

/* The fused handler for a compare's handler, or NULL. */
/* cppcheck-suppress constParameter ; there are no constant functions */
static op_fn *find_fused(op_fn *fn, unsigned int cc, unsigned int *ret_kind)
{
	for (size_t i = 0; i < ARRAY_SIZE(fused_fns); i++)
		for (unsigned int kind = 0; kind < ALU_KINDS; kind++)
			if (fn == alu_handler(fused_fns[i].alu,
					      fused_fns[i].size, kind)) {
				*ret_kind = kind;
				return fused_fns[i].fn[cc][kind];
			}
	return NULL;
}

/* Make one op of the compare before and this Jcc. It stands at the compare, and ends after both. */
static bool fuse(struct emitter *e, unsigned int cc, int64_t target)
{
	struct block *b = e->block;
	unsigned int kind;

	if (!e->fuse || !b->n_ops || (e->mode & CODE_SINGLE) ||
	    (e->mode & CODE_BITS) != CODE_64)
		return false;
	struct op *prev = &b->ops[b->n_ops - 1];

	/* Only if it is the instruction directly before, in full. */
	if (prev->nth + 1 != e->nth || prev->off + prev->len != e->rip_off)
		return false;
	op_fn *fn = find_fused(prev->fn, cc, &kind);

	if (!fn)
		return false;
	prev->fn = fn;
	prev->imm = is_imm_kind(kind)
			    ? (uint64_t)target << 32 | (uint32_t)prev->imm
			    : (uint64_t)target;
	prev->len = (uint8_t)(prev->len + e->insn->length);
	return true;
}

/* What narrow handlers cut RIP with: IP with a 16-bit operand size, else EIP. */
static int32_t narrow_mask(const struct emitter *e)
{
	return e->insn->operand_width == 16 ? 0xffff : -1;
}

static bool is_narrow(const struct emitter *e)
{
	return (e->mode & CODE_BITS) != CODE_64;
}

static void emit_direct(struct emitter *e, op_fn *const fns[2])
{
	struct op *op = emit(e, fns[is_narrow(e)]);

	op->imm = (uint64_t)emit_target(e, &e->ops[0]);
	op->disp = narrow_mask(e);
	e->end = true;
}

static bool emit_jcc(struct emitter *e, const struct insn_emit *self)
{
	if (fuse(e, self->arg, emit_target(e, &e->ops[0])))
		e->end = true;
	else
		emit_direct(e, jcc_fns[self->arg]);
	return true;
}

OP(jmp_64)
{
	JUMP_DIRECT(c->gpr[REG_RIP] + op->imm, 0);
}

OP(jmp_narrow)
{
	JUMP_DIRECT(target_narrow(c, op), 0);
}

OP(call_narrow)
{
	const unsigned int size = op->disp == 0xffff ? 2 : 4;

	if (!cpu_push(c, size, next_rip_narrow(c, op)))
		FAULT();
	JUMP_DIRECT(target_narrow(c, op), 0);
}

OP_SLOW(call_slow)
{
	if (!cpu_push(c, 8, next_rip64(c, op)))
		FAULT();
	JUMP_DIRECT(c->gpr[REG_RIP] + op->imm, 0);
}

OP(call_64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!p))
		return op_call_slow(c, op);
	host_st64(p, next_rip64(c, op));
	c->gpr[REG_RSP] = sp;
	JUMP_DIRECT(c->gpr[REG_RIP] + op->imm, 0);
}

/* Indirect branches of 64-bit mode: take the hit, or check the target and take the long way. */
static inline const struct jump_entry *jump_hit(const struct cpu *c,
						uint64_t rip)
{
	struct block_cache_head *head = (struct block_cache_head *)c->blocks;
	const struct jump_entry *j = cpu_jump_slot(head->jump, rip);

	return likely(j->rip == rip && j->key == cpu_jump_key(c)) ? j : NULL;
}

#define JUMP_CHECK(target)                             \
	do {                                           \
		if (unlikely(!is_canonical(target))) { \
			cpu_raise_code(c, VEC_GP, 0);  \
			FAULT();                       \
		}                                      \
	} while (0)

/* Go where the jump cache says, or let the slow twin do it all. */
#define JUMP_HIT(rip, slow)                                     \
	do {                                                    \
		const uint64_t to_ = (rip);                     \
		const struct jump_entry *j_ = jump_hit(c, to_); \
		if (unlikely(!j_))                              \
			return op_##slow(c, op);                \
		c->gpr[REG_RIP] = to_;                          \
		BLOCK_ENTER(j_->block);                         \
	} while (0)

OP_SLOW(jmp_r64_slow)
{
	const uint64_t target = c->gpr[op->src];

	JUMP_CHECK(target);
	JUMP(target);
}

OP(jmp_r64)
{
	JUMP_HIT(c->gpr[op->src], jmp_r64_slow);
}

OP_SLOW(jmp_m64_x)
{
	uint64_t target;

	LOAD(64, target, cpu_ea(c, op));
	JUMP_CHECK(target);
	JUMP(target);
}

OP(jmp_m64)
{
	const uint8_t *p = cpu_read_hit(c, cpu_ea_full(c, op), 8);

	if (unlikely(!p))
		return op_jmp_m64_x(c, op);
	JUMP_HIT(host_ld64(p), jmp_m64_x);
}

/* CALL: may the push be done, is the target good, and then both. */
#define CALL_TO(target)                                   \
	do {                                              \
		const uint64_t to_ = (target);            \
		if (unlikely(!is_canonical(to_)) &&       \
		    !cpu_stack_probe(c, -(uint64_t)8, 8)) \
			FAULT();                          \
		JUMP_CHECK(to_);                          \
		if (!cpu_push(c, 8, next_rip64(c, op)))   \
			FAULT();                          \
		JUMP(to_);                                \
	} while (0)

OP_SLOW(call_r64_slow)
{
	CALL_TO(c->gpr[op->src]);
}

OP(call_r64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	const uint64_t target = c->gpr[op->src];
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!p || !is_canonical(target)))
		return op_call_r64_slow(c, op);
	host_st64(p, next_rip64(c, op));
	c->gpr[REG_RSP] = sp;
	JUMP(target);
}

OP_SLOW(call_m64_x)
{
	uint64_t target;

	LOAD(64, target, cpu_ea(c, op));
	CALL_TO(target);
}

OP(call_m64)
{
	const uint64_t sp = c->gpr[REG_RSP] - 8;
	const uint8_t *from = cpu_read_hit(c, cpu_ea_full(c, op), 8);
	uint8_t *p = cpu_write_hit(c, sp, 8);

	if (unlikely(!from || !p))
		return op_call_m64_x(c, op);
	const uint64_t target = host_ld64(from);

	if (unlikely(!is_canonical(target)))
		return op_call_m64_x(c, op);
	host_st64(p, next_rip64(c, op));
	c->gpr[REG_RSP] = sp;
	JUMP(target);
}

/* The same outside 64-bit mode; op->imm is the mask of the target. */
OP(jmp_r_narrow)
{
	JUMP(c->gpr[op->src] & op->imm);
}

OP(jmp_m32)
{
	uint32_t target;

	LOAD(32, target, cpu_ea(c, op));
	JUMP(target);
}

OP(jmp_m16)
{
	uint16_t target;

	LOAD(16, target, cpu_ea(c, op));
	JUMP(target);
}

#define CALL_NARROW(size, target)                              \
	do {                                                   \
		const uint64_t to_ = (target);                 \
		if (!cpu_push(c, (size), cpu_next_rip(c, op))) \
			FAULT();                               \
		JUMP(to_);                                     \
	} while (0)

OP(call_r_narrow)
{
	CALL_NARROW(op->imm == 0xffff ? 2 : 4, c->gpr[op->src] & op->imm);
}

OP(call_m32)
{
	uint32_t target;

	LOAD(32, target, cpu_ea(c, op));
	CALL_NARROW(4, target);
}

OP(call_m16)
{
	uint16_t target;

	LOAD(16, target, cpu_ea(c, op));
	CALL_NARROW(2, target);
}

struct indirect_fns {
	op_fn *direct[2]; /* 64-bit mode, narrow */
	op_fn *reg[2];
	op_fn *mem64, *mem64_slow, *mem32, *mem16;
};

static const struct indirect_fns jmp_fns = {
	.direct = {op_jmp_64, op_jmp_narrow},
	.reg = {op_jmp_r64, op_jmp_r_narrow},
	.mem64 = op_jmp_m64,
	.mem64_slow = op_jmp_m64_x,
	.mem32 = op_jmp_m32,
	.mem16 = op_jmp_m16,
};

static const struct indirect_fns call_fns = {
	.direct = {op_call_64, op_call_narrow},
	.reg = {op_call_r64, op_call_r_narrow},
	.mem64 = op_call_m64,
	.mem64_slow = op_call_m64_x,
	.mem32 = op_call_m32,
	.mem16 = op_call_m16,
};

static void emit_indirect(struct emitter *e, const struct indirect_fns *fns)
{
	const ZydisDecodedOperand *o = &e->ops[0];
	struct op *op = emit(e, fns->reg[is_narrow(e)]);

	e->end = true;
	if (emit_is_reg(o)) {
		op->src = emit_gpr(o->reg.value);
		op->imm = o->size == 16 ? UINT16_MAX : UINT32_MAX;
		return;
	}
	emit_mem(e, op, o);
	if (is_narrow(e))
		op->fn = o->size == 16 ? fns->mem16 : fns->mem32;
	else
		op->fn = op->ea & EA_SLOW ? fns->mem64_slow : fns->mem64;
}

/*
 * Near JMP and CALL; @self->arg is 1 for CALL.
 * LIMIT: an operand-size prefix is ignored in 64-bit mode, as Intel's processors do.
 */
static bool emit_jump(struct emitter *e, const struct insn_emit *self)
{
	const struct indirect_fns *fns = self->arg ? &call_fns : &jmp_fns;

	if (e->insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return emit_far_branch(e, self->arg);
	if (emit_is_imm(&e->ops[0]))
		emit_direct(e, fns->direct);
	else
		emit_indirect(e, fns);
	return true;
}

OP_SLOW(ret_slow)
{
	if (!cpu_stack_read(c, 0, 8))
		FAULT();
	const uint64_t target = c->scratch[0];

	JUMP_CHECK(target);
	c->gpr[REG_RSP] += op->imm;
	JUMP(target);
}

/* op->imm: bytes to drop, the return address included */
OP(ret_64)
{
	const uint64_t sp = c->gpr[REG_RSP];
	const uint8_t *p = cpu_read_hit(c, sp, 8);

	if (unlikely(!p))
		return op_ret_slow(c, op);
	const uint64_t target = host_ld64(p);
	const struct jump_entry *j = jump_hit(c, target);

	if (unlikely(!j))
		return op_ret_slow(c, op);
	c->gpr[REG_RSP] = sp + op->imm;
	c->gpr[REG_RIP] = target;
	BLOCK_ENTER(j->block);
}

/* op->src: operand size in bytes */
OP(ret_narrow)
{
	if (!cpu_stack_read(c, 0, op->src))
		FAULT();
	const uint64_t target = c->scratch[0];

	cpu_set_sp(c, c->gpr[REG_RSP] + op->imm);
	JUMP(target);
}

static bool emit_ret(struct emitter *e, const struct insn_emit *self)
{
	if (e->insn->meta.branch_type == ZYDIS_BRANCH_TYPE_FAR)
		return emit_transfer(e, self);
	struct op *op = emit(e, is_narrow(e) ? op_ret_narrow : op_ret_64);

	op->src = e->insn->operand_width / 8;
	op->imm = is_narrow(e) ? op->src : 8;
	if (emit_is_imm(&e->ops[0]))
		op->imm += (uint16_t)e->ops[0].imm.value.u;
	e->end = true;
	return true;
}

/* LOOP, LOOPE, LOOPNE and JRCXZ: op->src is the width of the counter by emit_size(). */
static inline uint64_t count_mask(const struct op *op)
{
	return op->src == 3   ? UINT64_MAX
	       : op->src == 2 ? UINT32_MAX
			      : UINT16_MAX;
}

/* Write the counter as its width demands; return whether it is not zero yet. */
static inline bool count_down(struct cpu *c, const struct op *op)
{
	const uint64_t n = c->gpr[REG_RCX] - 1;

	if (op->src == 1)
		reg_wr16(c, REG_RCX, (uint16_t)n);
	else
		c->gpr[REG_RCX] = n & count_mask(op);
	return n & count_mask(op);
}

#define LOOP(name, condition)             \
	OP(name##_64)                     \
	{                                 \
		BRANCH64(condition);      \
	}                                 \
	OP(name##_narrow)                 \
	{                                 \
		BRANCH_NARROW(condition); \
	}

LOOP(loopne, count_down(c, op) && !(c->af & AF_ZF))
LOOP(loope, count_down(c, op) && (c->af & AF_ZF))
LOOP(loop, count_down(c, op))
LOOP(jrcxz, !(c->gpr[REG_RCX] & count_mask(op)))

static bool emit_loop(struct emitter *e, const struct insn_emit *self)
{
	static op_fn *const fns[4][2] = {
		{op_loopne_64, op_loopne_narrow},
		{op_loope_64, op_loope_narrow},
		{op_loop_64, op_loop_narrow},
		{op_jrcxz_64, op_jrcxz_narrow},
	};

	emit_direct(e, fns[self->arg]);
	e->block->ops[e->block->n_ops - 1].src = (uint8_t)emit_size(
		e->insn->address_width);
	return true;
}

static const struct insn_emit rows[] = {
	{ZYDIS_MNEMONIC_JO, emit_jcc, 0},
	{ZYDIS_MNEMONIC_JNO, emit_jcc, 1},
	{ZYDIS_MNEMONIC_JB, emit_jcc, 2},
	{ZYDIS_MNEMONIC_JNB, emit_jcc, 3},
	{ZYDIS_MNEMONIC_JZ, emit_jcc, 4},
	{ZYDIS_MNEMONIC_JNZ, emit_jcc, 5},
	{ZYDIS_MNEMONIC_JBE, emit_jcc, 6},
	{ZYDIS_MNEMONIC_JNBE, emit_jcc, 7},
	{ZYDIS_MNEMONIC_JS, emit_jcc, 8},
	{ZYDIS_MNEMONIC_JNS, emit_jcc, 9},
	{ZYDIS_MNEMONIC_JP, emit_jcc, 10},
	{ZYDIS_MNEMONIC_JNP, emit_jcc, 11},
	{ZYDIS_MNEMONIC_JL, emit_jcc, 12},
	{ZYDIS_MNEMONIC_JNL, emit_jcc, 13},
	{ZYDIS_MNEMONIC_JLE, emit_jcc, 14},
	{ZYDIS_MNEMONIC_JNLE, emit_jcc, 15},
	{ZYDIS_MNEMONIC_JMP, emit_jump, 0},
	{ZYDIS_MNEMONIC_CALL, emit_jump, 1},
	{ZYDIS_MNEMONIC_RET, emit_ret, 0},
	{ZYDIS_MNEMONIC_LOOPNE, emit_loop, 0},
	{ZYDIS_MNEMONIC_LOOPE, emit_loop, 1},
	{ZYDIS_MNEMONIC_LOOP, emit_loop, 2},
	{ZYDIS_MNEMONIC_JCXZ, emit_loop, 3},
	{ZYDIS_MNEMONIC_JECXZ, emit_loop, 3},
	{ZYDIS_MNEMONIC_JRCXZ, emit_loop, 3},
};

const struct insn_table branch_table = {rows, ARRAY_SIZE(rows)};

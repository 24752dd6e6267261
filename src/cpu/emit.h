/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From Zydis's decoded instructions to ops: what the emitters of each instruction topic use.
 *
 * Each topic file (int_*.c, x87.c, sse_*.c, sys_*.c) has one constant table of
 * { mnemonic, emitter, argument }; decode.c joins the tables. An emitter looks at the
 * operands, appends one or more ops and returns true; false means that this form is not
 * implemented, and then the instruction raises #UD and is counted by name.
 */
#ifndef CPU_EMIT_H
#define CPU_EMIT_H
#include <Zydis/Zydis.h>

#include <cpu/op.h>

/**
 * struct emitter - the instruction being turned into ops.
 * @insn: decoded instruction; @ops: its operands (explicit first), @insn->operand_count of them
 * @c: the processor, for features only; its registers have no say in decoding
 * @mode: cpu.code_mode for which the block is decoded
 * @block: the block that the ops are appended to
 * @nth: which instruction of the block this is, from 0
 * @end: set by the emitter if the block ends with this instruction (branches, and what may
 *	change mode, mapping, or the interrupt flag)
 * @rip_off: offset of this instruction from the block's first byte
 * @fuse: an emitter may make one op of this instruction and the one before it
 */
struct emitter {
	const ZydisDecodedInstruction *insn;
	const ZydisDecodedOperand *ops;
	const struct cpu *c;
	uint32_t mode;
	struct block *block;
	uint8_t nth;
	bool end;
	uint16_t rip_off;
	bool fuse;
};

/**
 * struct insn_emit - a row of a topic's table.
 * @mnemonic: of the instruction
 * @emit: appends its ops; false: this form is not implemented
 * @arg: what @emit makes of it, to serve several mnemonics
 */
struct insn_emit {
	ZydisMnemonic mnemonic;
	bool (*emit)(struct emitter *e, const struct insn_emit *self);
	unsigned int arg;
};

/* The topics' tables; n is the number of rows. */
struct insn_table {
	const struct insn_emit *rows;
	size_t n;
};

extern const struct insn_table int_table; /* int_*.c: integer, bit, string, branch */
extern const struct insn_table branch_table; /* branch.c */
extern const struct insn_table string_table; /* string.c */
extern const struct insn_table x87_table;    /* x87.c: x87 and MMX */
extern const struct insn_table sse_table; /* sse.c: SSE, SSE2, FXSAVE, MXCSR */
extern const struct insn_table sys_table; /* sys.c: system instructions */

/**
 * emit() - append an op for this instruction. Never fails (space is reserved).
 * Return: it, to fill in.
 */
struct op *emit(struct emitter *e, op_fn *fn);

/** emit_mem() - describe a memory operand in an op (base, index, scale, seg, disp, ea). */
void emit_mem(struct emitter *e, struct op *op, const ZydisDecodedOperand *m);

/** emit_is_simple() - may cpu_ea_simple() be used for it? */
bool emit_is_simple(const struct op *op);

/** emit_gpr() - index of a 16-, 32- or 64-bit general register (also of the low byte registers). */
uint8_t emit_gpr(ZydisRegister reg);

/** emit_reg8() - byte offset into cpu.gpr of an 8-bit register; AH to BH are at odd offsets. */
uint8_t emit_reg8(ZydisRegister reg);

/** emit_xmm() - number of an XMM register. */
uint8_t emit_xmm(ZydisRegister reg);

/** emit_seg() - enum cpu_seg of a segment register, or -1 if it is none. */
int emit_seg(ZydisRegister reg);

/** emit_is_mem() - is this operand in memory? */
static inline bool emit_is_mem(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_MEMORY;
}

/** emit_size() - operand size index: 0 for 8 bits, 1 for 16, 2 for 32, 3 for 64. */
static inline unsigned int emit_size(unsigned int bits)
{
	return bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
}

/** emit_target() - where a relative branch goes, as an offset from the block's first byte. */
int64_t emit_target(const struct emitter *e, const ZydisDecodedOperand *o);

#endif

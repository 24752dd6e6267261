/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of the translator: what is found out of a block, and the fragment in the making. */
#ifndef CPU_TRANSLATE_IMPL_H
#define CPU_TRANSLATE_IMPL_H
#include <Zydis/Zydis.h>

#include <cpu/emit.h>
#include <cpu/translate.h>

#define FRAGMENT_BYTES \
	24576 /* no fragment is longer; see the bound in emit_bytes() */
#define N_GUEST_REGS (REG_RIP + 1)
#define N_POOL       11

enum insn_kind {
	INSN_OTHER, /* not for us */
	INSN_PLAIN,
	INSN_PUSH,
	INSN_POP,
	INSN_JCC,
};

/**
 * struct guest_insn - an instruction of the block and what matters of it.
 * @insn: as Zydis decodes it, with @ops
 * @kind: how it is translated
 * @off: offset from the block's first byte
 * @op: index of its op, or -1 if it is the second half of a fused one
 * @reads, @writes: guest registers, bit n for cpu.gpr[n]
 * @mem: index of the memory operand, or -1
 * @mem_writes: the memory operand is stored to
 * @tests: needs arithmetic flags; @sets: changes some; @sets_all: changes all of them
 * @live_in, @live_out: arithmetic flags matter before and after it
 */
struct guest_insn {
	ZydisDecodedInstruction insn;
	ZydisDecodedOperand ops[ZYDIS_MAX_OPERAND_COUNT];
	enum insn_kind kind;
	uint16_t off;
	int op;
	uint32_t reads;
	uint32_t writes;
	int mem;
	bool mem_writes;
	bool tests;
	bool sets;
	bool sets_all;
	bool live_in;
	bool live_out;
};

/* A jump in the fragment whose target is emitted later: leaving before an instruction. */
struct side_exit {
	uint32_t at; /* of the 32-bit displacement */
	unsigned int insn;
	uint32_t dirty;
};

/**
 * struct translator - what the translator of one processor works with.
 * @decoder: for the block's instructions
 * @rw: its memory as it is written, and @rx the same as it runs; @used bytes hold fragments
 * @insns: of the block in the making
 * @block: that block
 * @out: where its fragment is written; @len bytes are, unless it @failed
 * @first: first instruction of the fragment, and @end the one behind its last
 * @loops: its last branch leads to its first instruction
 * @used_regs: guest registers that the fragment uses, bit n for cpu.gpr[n]
 * @dirty: guest registers that are newer in their host register, bit n for cpu.gpr[n]
 * @exits: @n_exits jumps to what is emitted behind the instructions
 * @first_fn: handler that its first op had before
 */
struct translator {
	ZydisDecoder decoder;
	uint8_t *rw;
	uint8_t *rx;
	size_t used;
	struct guest_insn insns[BLOCK_MAX_INSNS];
	/* The fragment in the making. */
	struct block *block;
	uint8_t *out;
	uint32_t len;
	bool failed; /* an instruction could not be encoded */
	unsigned int first;
	unsigned int end;
	bool loops;
	uint8_t host[N_GUEST_REGS]; /* host register of each guest register, 0 for none */
	uint32_t used_regs;
	unsigned int n_saved; /* callee-saved registers pushed */
	uint32_t dirty;
	bool flags_host;   /* the host's flags are the guest's */
	bool flags_stored; /* cpu.af is right */
	struct side_exit exits[2 * BLOCK_MAX_INSNS];
	unsigned int n_exits;
	op_fn *first_fn;
};

/* translate_insn.c */

/** translator_gpr() - number of a general register. Return: -1 for others, and AH to BH. */
int translator_gpr(ZydisRegister reg);

/**
 * translator_op_of() - the op of an instruction of a block.
 * @b: the block
 * @nth: instruction, from 0
 *
 * Return: its index, or -1 if the instruction is the second half of a fused one.
 */
int translator_op_of(const struct block *b, unsigned int nth);

/**
 * translator_decode() - fill t->insns with the instructions of a block.
 * @t: translator
 * @b: the block
 * @code: its bytes
 *
 * Return: false if they cannot be decoded.
 */
bool translator_decode(struct translator *t, const struct block *b,
		       const uint8_t *code);

/* translate_encode.c */

/**
 * translator_emit() - write the fragment from t->first to t->end, behind t->used.
 * @t: translator, with t->block, t->loops, t->used_regs and flags' liveness found
 *
 * Afterwards t->len bytes are there, unless t->failed.
 */
void translator_emit(struct translator *t);

#endif

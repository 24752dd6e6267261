/* SPDX-License-Identifier: Apache-2.0 */
/* The MMX instructions of the x87 topic. */
#ifndef CPU_MMX_H
#define CPU_MMX_H
#include <cpu/emit.h>

/*
 * X(mnemonic, SSE instruction, bits of a memory operand, how to run it), where "how" names a
 * way to get an MMX result out of the SSE2 instruction:
 * LOW: its low half; HIGH: its high half; PACK: both operands in one register, result is the low
 * half
 */
#define MMX_BINARY(X)                       \
	X(PADDB, "paddb", 64, LOW)          \
	X(PADDW, "paddw", 64, LOW)          \
	X(PADDD, "paddd", 64, LOW)          \
	X(PADDQ, "paddq", 64, LOW)          \
	X(PADDSB, "paddsb", 64, LOW)        \
	X(PADDSW, "paddsw", 64, LOW)        \
	X(PADDUSB, "paddusb", 64, LOW)      \
	X(PADDUSW, "paddusw", 64, LOW)      \
	X(PSUBB, "psubb", 64, LOW)          \
	X(PSUBW, "psubw", 64, LOW)          \
	X(PSUBD, "psubd", 64, LOW)          \
	X(PSUBQ, "psubq", 64, LOW)          \
	X(PSUBSB, "psubsb", 64, LOW)        \
	X(PSUBSW, "psubsw", 64, LOW)        \
	X(PSUBUSB, "psubusb", 64, LOW)      \
	X(PSUBUSW, "psubusw", 64, LOW)      \
	X(PMULLW, "pmullw", 64, LOW)        \
	X(PMULHW, "pmulhw", 64, LOW)        \
	X(PMULHUW, "pmulhuw", 64, LOW)      \
	X(PMULUDQ, "pmuludq", 64, LOW)      \
	X(PMADDWD, "pmaddwd", 64, LOW)      \
	X(PSADBW, "psadbw", 64, LOW)        \
	X(PAVGB, "pavgb", 64, LOW)          \
	X(PAVGW, "pavgw", 64, LOW)          \
	X(PMINUB, "pminub", 64, LOW)        \
	X(PMAXUB, "pmaxub", 64, LOW)        \
	X(PMINSW, "pminsw", 64, LOW)        \
	X(PMAXSW, "pmaxsw", 64, LOW)        \
	X(PCMPEQB, "pcmpeqb", 64, LOW)      \
	X(PCMPEQW, "pcmpeqw", 64, LOW)      \
	X(PCMPEQD, "pcmpeqd", 64, LOW)      \
	X(PCMPGTB, "pcmpgtb", 64, LOW)      \
	X(PCMPGTW, "pcmpgtw", 64, LOW)      \
	X(PCMPGTD, "pcmpgtd", 64, LOW)      \
	X(PAND, "pand", 64, LOW)            \
	X(PANDN, "pandn", 64, LOW)          \
	X(POR, "por", 64, LOW)              \
	X(PXOR, "pxor", 64, LOW)            \
	X(PSLLW, "psllw", 64, LOW)          \
	X(PSLLD, "pslld", 64, LOW)          \
	X(PSLLQ, "psllq", 64, LOW)          \
	X(PSRLW, "psrlw", 64, LOW)          \
	X(PSRLD, "psrld", 64, LOW)          \
	X(PSRLQ, "psrlq", 64, LOW)          \
	X(PSRAW, "psraw", 64, LOW)          \
	X(PSRAD, "psrad", 64, LOW)          \
	X(PACKSSWB, "packsswb", 64, PACK)   \
	X(PACKSSDW, "packssdw", 64, PACK)   \
	X(PACKUSWB, "packuswb", 64, PACK)   \
	X(PUNPCKLBW, "punpcklbw", 32, LOW)  \
	X(PUNPCKLWD, "punpcklwd", 32, LOW)  \
	X(PUNPCKLDQ, "punpckldq", 32, LOW)  \
	X(PUNPCKHBW, "punpcklbw", 64, HIGH) \
	X(PUNPCKHWD, "punpcklwd", 64, HIGH) \
	X(PUNPCKHDQ, "punpckldq", 64, HIGH)

#define MMX_INDEX(m, insn, bits, how) MMX_##m,
enum mmx_binary {
	MMX_BINARY(MMX_INDEX)
};
#undef MMX_INDEX

/** mmx_emit_binary() - emitter of MMX_BINARY; arg is an enum mmx_binary. */
bool mmx_emit_binary(struct emitter *e, const struct insn_emit *self);

/** mmx_emit_move() - MOVD, MOVQ, MOVNTQ with an MMX register. */
bool mmx_emit_move(struct emitter *e, const struct insn_emit *self);

/** mmx_emit_pshufw(), mmx_emit_pinsrw(), mmx_emit_pextrw() - words of an MMX register. */
bool mmx_emit_pshufw(struct emitter *e, const struct insn_emit *self);
bool mmx_emit_pinsrw(struct emitter *e, const struct insn_emit *self);
bool mmx_emit_pextrw(struct emitter *e, const struct insn_emit *self);

/** mmx_emit_pmovmskb(), mmx_emit_maskmovq(), mmx_emit_emms() - the instructions of these names. */
bool mmx_emit_pmovmskb(struct emitter *e, const struct insn_emit *self);
bool mmx_emit_maskmovq(struct emitter *e, const struct insn_emit *self);
bool mmx_emit_emms(struct emitter *e, const struct insn_emit *self);

/** mmx_emit_movq2dq(), mmx_emit_movdq2q() - between MMX and XMM registers. */
bool mmx_emit_movq2dq(struct emitter *e, const struct insn_emit *self);
bool mmx_emit_movdq2q(struct emitter *e, const struct insn_emit *self);

#define MMX_ROW(m, insn, bits, how) \
	{ZYDIS_MNEMONIC_##m, mmx_emit_binary, MMX_##m},

/* Rows of x87_table. */
#define MMX_ROWS                                                    \
	MMX_BINARY(MMX_ROW){ZYDIS_MNEMONIC_MOVD, mmx_emit_move, 0}, \
		{ZYDIS_MNEMONIC_MOVQ, mmx_emit_move, 0},            \
		{ZYDIS_MNEMONIC_MOVNTQ, mmx_emit_move, 0},          \
		{ZYDIS_MNEMONIC_PSHUFW, mmx_emit_pshufw, 0},        \
		{ZYDIS_MNEMONIC_PINSRW, mmx_emit_pinsrw, 0},        \
		{ZYDIS_MNEMONIC_PEXTRW, mmx_emit_pextrw, 0},        \
		{ZYDIS_MNEMONIC_PMOVMSKB, mmx_emit_pmovmskb, 0},    \
		{ZYDIS_MNEMONIC_MASKMOVQ, mmx_emit_maskmovq, 0},    \
		{ZYDIS_MNEMONIC_MOVQ2DQ, mmx_emit_movq2dq, 0},      \
		{ZYDIS_MNEMONIC_MOVDQ2Q, mmx_emit_movdq2q, 0},      \
		{ZYDIS_MNEMONIC_EMMS, mmx_emit_emms, 0},

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of the SSE topic: instruction lists and emitters, joined into one table by sse.c. */
#ifndef CPU_SSE_H
#define CPU_SSE_H
#include <cpu/emit.h>

/* X(mnemonic, instruction): xmm, xmm/m128, without floating-point exceptions */
#define SSE_INT(X)                  \
	X(PADDB, "paddb")           \
	X(PADDW, "paddw")           \
	X(PADDD, "paddd")           \
	X(PADDQ, "paddq")           \
	X(PADDSB, "paddsb")         \
	X(PADDSW, "paddsw")         \
	X(PADDUSB, "paddusb")       \
	X(PADDUSW, "paddusw")       \
	X(PSUBB, "psubb")           \
	X(PSUBW, "psubw")           \
	X(PSUBD, "psubd")           \
	X(PSUBQ, "psubq")           \
	X(PSUBSB, "psubsb")         \
	X(PSUBSW, "psubsw")         \
	X(PSUBUSB, "psubusb")       \
	X(PSUBUSW, "psubusw")       \
	X(PMULLW, "pmullw")         \
	X(PMULHW, "pmulhw")         \
	X(PMULHUW, "pmulhuw")       \
	X(PMULUDQ, "pmuludq")       \
	X(PMADDWD, "pmaddwd")       \
	X(PSADBW, "psadbw")         \
	X(PAVGB, "pavgb")           \
	X(PAVGW, "pavgw")           \
	X(PMINUB, "pminub")         \
	X(PMAXUB, "pmaxub")         \
	X(PMINSW, "pminsw")         \
	X(PMAXSW, "pmaxsw")         \
	X(PCMPEQB, "pcmpeqb")       \
	X(PCMPEQW, "pcmpeqw")       \
	X(PCMPEQD, "pcmpeqd")       \
	X(PCMPGTB, "pcmpgtb")       \
	X(PCMPGTW, "pcmpgtw")       \
	X(PCMPGTD, "pcmpgtd")       \
	X(PAND, "pand")             \
	X(PANDN, "pandn")           \
	X(POR, "por")               \
	X(PXOR, "pxor")             \
	X(PSLLW, "psllw")           \
	X(PSLLD, "pslld")           \
	X(PSLLQ, "psllq")           \
	X(PSRLW, "psrlw")           \
	X(PSRLD, "psrld")           \
	X(PSRLQ, "psrlq")           \
	X(PSRAW, "psraw")           \
	X(PSRAD, "psrad")           \
	X(PACKSSWB, "packsswb")     \
	X(PACKSSDW, "packssdw")     \
	X(PACKUSWB, "packuswb")     \
	X(PUNPCKLBW, "punpcklbw")   \
	X(PUNPCKLWD, "punpcklwd")   \
	X(PUNPCKLDQ, "punpckldq")   \
	X(PUNPCKLQDQ, "punpcklqdq") \
	X(PUNPCKHBW, "punpckhbw")   \
	X(PUNPCKHWD, "punpckhwd")   \
	X(PUNPCKHDQ, "punpckhdq")   \
	X(PUNPCKHQDQ, "punpckhqdq") \
	X(ANDPS, "andps")           \
	X(ANDPD, "andpd")           \
	X(ANDNPS, "andnps")         \
	X(ANDNPD, "andnpd")         \
	X(ORPS, "orps")             \
	X(ORPD, "orpd")             \
	X(XORPS, "xorps")           \
	X(XORPD, "xorpd")           \
	X(UNPCKLPS, "unpcklps")     \
	X(UNPCKLPD, "unpcklpd")     \
	X(UNPCKHPS, "unpckhps")     \
	X(UNPCKHPD, "unpckhpd")     \
	X(RCPPS, "rcpps")           \
	X(RSQRTPS, "rsqrtps")

/*
 * X(mnemonic, instruction, bits of a memory operand, result), where "result" tells where an
 * exact but tiny result can appear (it is an exception only if underflow is unmasked):
 * NONE: nowhere; PS, PD, SS, SD: those elements of the destination
 */
#define SSE_FLOAT(X)                         \
	X(ADDPS, "addps", 128, PS)           \
	X(ADDPD, "addpd", 128, PD)           \
	X(ADDSS, "addss", 32, SS)            \
	X(ADDSD, "addsd", 64, SD)            \
	X(SUBPS, "subps", 128, PS)           \
	X(SUBPD, "subpd", 128, PD)           \
	X(SUBSS, "subss", 32, SS)            \
	X(SUBSD, "subsd", 64, SD)            \
	X(MULPS, "mulps", 128, PS)           \
	X(MULPD, "mulpd", 128, PD)           \
	X(MULSS, "mulss", 32, SS)            \
	X(MULSD, "mulsd", 64, SD)            \
	X(DIVPS, "divps", 128, PS)           \
	X(DIVPD, "divpd", 128, PD)           \
	X(DIVSS, "divss", 32, SS)            \
	X(DIVSD, "divsd", 64, SD)            \
	X(MINPS, "minps", 128, NONE)         \
	X(MINPD, "minpd", 128, NONE)         \
	X(MINSS, "minss", 32, NONE)          \
	X(MINSD, "minsd", 64, NONE)          \
	X(MAXPS, "maxps", 128, NONE)         \
	X(MAXPD, "maxpd", 128, NONE)         \
	X(MAXSS, "maxss", 32, NONE)          \
	X(MAXSD, "maxsd", 64, NONE)          \
	X(SQRTPS, "sqrtps", 128, NONE)       \
	X(SQRTPD, "sqrtpd", 128, NONE)       \
	X(SQRTSS, "sqrtss", 32, NONE)        \
	X(SQRTSD, "sqrtsd", 64, NONE)        \
	X(RCPSS, "rcpss", 32, NONE)          \
	X(RSQRTSS, "rsqrtss", 32, NONE)      \
	X(CVTDQ2PS, "cvtdq2ps", 128, NONE)   \
	X(CVTPS2DQ, "cvtps2dq", 128, NONE)   \
	X(CVTTPS2DQ, "cvttps2dq", 128, NONE) \
	X(CVTPD2DQ, "cvtpd2dq", 128, NONE)   \
	X(CVTTPD2DQ, "cvttpd2dq", 128, NONE) \
	X(CVTDQ2PD, "cvtdq2pd", 64, NONE)    \
	X(CVTPS2PD, "cvtps2pd", 64, NONE)    \
	X(CVTPD2PS, "cvtpd2ps", 128, PS)     \
	X(CVTSS2SD, "cvtss2sd", 32, NONE)    \
	X(CVTSD2SS, "cvtsd2ss", 64, SS)

/* X(mnemonic, instruction, bits of a memory operand): floating point to general register */
#define SSE_TO_GPR(X)                 \
	X(CVTSS2SI, "cvtss2si", 32)   \
	X(CVTTSS2SI, "cvttss2si", 32) \
	X(CVTSD2SI, "cvtsd2si", 64)   \
	X(CVTTSD2SI, "cvttsd2si", 64)

/* X(mnemonic, instruction): general register or memory to floating point */
#define SSE_FROM_GPR(X)         \
	X(CVTSI2SS, "cvtsi2ss") \
	X(CVTSI2SD, "cvtsi2sd")

/* X(mnemonic, instruction, bits of a memory operand): comparison that sets the arithmetic flags */
#define SSE_COMPARE(X)            \
	X(COMISS, "comiss", 32)   \
	X(UCOMISS, "ucomiss", 32) \
	X(COMISD, "comisd", 64)   \
	X(UCOMISD, "ucomisd", 64)

/* X(mnemonic, XMM instruction that does it, bits of a memory operand): XMM to MMX */
#define SSE_TO_MM(X)                  \
	X(CVTPS2PI, "cvtps2dq", 64)   \
	X(CVTTPS2PI, "cvttps2dq", 64) \
	X(CVTPD2PI, "cvtpd2dq", 128)  \
	X(CVTTPD2PI, "cvttpd2dq", 128)

/* insn_emit.arg, one numbering for each list */
#define SSE_INT_INDEX(m, insn) SSE_##m,
enum sse_int {
	SSE_INT(SSE_INT_INDEX)
};
#undef SSE_INT_INDEX

#define SSE_FLOAT_INDEX(m, insn, bits, result) SSE_##m,
enum sse_float {
	SSE_FLOAT(SSE_FLOAT_INDEX)
};
#undef SSE_FLOAT_INDEX

#define SSE_INDEX(m, insn, bits) SSE_##m,
#define SSE_FROM_INDEX(m, insn)  SSE_##m,
enum sse_to_gpr {
	SSE_TO_GPR(SSE_INDEX)
};
enum sse_from_gpr {
	SSE_FROM_GPR(SSE_FROM_INDEX)
};
enum sse_compare {
	SSE_COMPARE(SSE_INDEX)
};
enum sse_to_mm {
	SSE_TO_MM(SSE_INDEX)
};
#undef SSE_INDEX
#undef SSE_FROM_INDEX

/* Moves of 16 bytes. */
enum sse_move {
	SSE_MOVE_ALIGNED,
	SSE_MOVE_UNALIGNED,
};

/* Elements of a destination that may hold tiny results. */
enum sse_result {
	SSE_RESULT_NONE,
	SSE_RESULT_PS,
	SSE_RESULT_PD,
	SSE_RESULT_SS,
	SSE_RESULT_SD,
};

typedef bool sse_emit_fn(struct emitter *e, const struct insn_emit *self);

/* sse_int.c; shifts by an immediate are in SSE_INT too */
sse_emit_fn sse_emit_int; /* SSE_INT */
sse_emit_fn sse_emit_imm; /* arg: enum sse_stub; PSHUFD, SHUFPS, CMPPS, PSLLDQ and the like */
sse_emit_fn sse_emit_pinsrw;
sse_emit_fn sse_emit_pextrw;
sse_emit_fn sse_emit_pmovmskb;

/* sse_float.c */
sse_emit_fn sse_emit_float;    /* SSE_FLOAT */
sse_emit_fn sse_emit_to_gpr;   /* SSE_TO_GPR */
sse_emit_fn sse_emit_from_gpr; /* SSE_FROM_GPR */
sse_emit_fn sse_emit_compare;  /* SSE_COMPARE */
sse_emit_fn sse_emit_to_mm;    /* SSE_TO_MM */
sse_emit_fn sse_emit_from_mm;  /* CVTPI2PS, CVTPI2PD */

/* sse_move.c */
sse_emit_fn sse_emit_move; /* arg: enum sse_move */
sse_emit_fn sse_emit_movss;
sse_emit_fn sse_emit_movsd;
sse_emit_fn sse_emit_movlps; /* and MOVLPD */
sse_emit_fn sse_emit_movhps; /* and MOVHPD */
sse_emit_fn sse_emit_movhlps;
sse_emit_fn sse_emit_movlhps;
sse_emit_fn sse_emit_movq; /* and MOVD */
sse_emit_fn sse_emit_movmskps;
sse_emit_fn sse_emit_movmskpd;
sse_emit_fn sse_emit_maskmovdqu;
sse_emit_fn sse_emit_movnti;

/* fxsave.c */
sse_emit_fn sse_emit_ldmxcsr;
sse_emit_fn sse_emit_stmxcsr;
sse_emit_fn sse_emit_fxsave;
sse_emit_fn sse_emit_fxrstor;

/* What an instruction changes, and a SIMD exception leaves as it was. */
enum sse_dst {
	SSE_DST_XMM,
	SSE_DST_GPR,
	SSE_DST_MM,
	SSE_DST_FLAGS,
};

/**
 * sse_watch_begin() - emit what must come before an instruction that may raise a SIMD exception.
 * @e: emitter of that instruction
 * @kind: of its destination
 * @dst: number of its destination
 */
void sse_watch_begin(struct emitter *e, enum sse_dst kind, uint8_t dst);

/** sse_watch_end() - emit what must come after it: the exception, if MXCSR unmasks it. */
void sse_watch_end(struct emitter *e, enum sse_dst kind, uint8_t dst,
		   enum sse_result result);

/** sse_is_xmm() - is this operand an XMM register? */
static inline bool sse_is_xmm(const ZydisDecodedOperand *o)
{
	return o->type == ZYDIS_OPERAND_TYPE_REGISTER &&
	       o->reg.value >= ZYDIS_REGISTER_XMM0 &&
	       o->reg.value <= ZYDIS_REGISTER_XMM15;
}

#endif

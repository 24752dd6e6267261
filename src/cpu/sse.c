/* SPDX-License-Identifier: Apache-2.0 */
/* The table of SSE and SSE2; later extensions are not advertised, and raise #UD. */
#include <cpu/sse.h>

#include <cpu/sse_stub.h>

#define INT_ROW(m, insn) {ZYDIS_MNEMONIC_##m, sse_emit_int, SSE_##m},
#define FLOAT_ROW(m, insn, bits, result) \
	{ZYDIS_MNEMONIC_##m, sse_emit_float, SSE_##m},
#define TO_GPR_ROW(m, insn, bits) \
	{ZYDIS_MNEMONIC_##m, sse_emit_to_gpr, SSE_##m},
#define FROM_GPR_ROW(m, insn) {ZYDIS_MNEMONIC_##m, sse_emit_from_gpr, SSE_##m},
#define COMPARE_ROW(m, insn, bits) \
	{ZYDIS_MNEMONIC_##m, sse_emit_compare, SSE_##m},
#define TO_MM_ROW(m, insn, bits) {ZYDIS_MNEMONIC_##m, sse_emit_to_mm, SSE_##m},
#define IMM(m)                                                 \
	{                                                      \
		ZYDIS_MNEMONIC_##m, sse_emit_imm, SSE_STUB_##m \
	}
#define ROW(m, name)                                   \
	{                                              \
		ZYDIS_MNEMONIC_##m, sse_emit_##name, 0 \
	}
#define MOVE(m, how)                                              \
	{                                                         \
		ZYDIS_MNEMONIC_##m, sse_emit_move, SSE_MOVE_##how \
	}

static const struct insn_emit rows[] = {
	SSE_INT(INT_ROW) SSE_FLOAT(FLOAT_ROW) SSE_TO_GPR(TO_GPR_ROW)
		SSE_FROM_GPR(FROM_GPR_ROW) SSE_COMPARE(COMPARE_ROW)
			SSE_TO_MM(TO_MM_ROW) ROW(CVTPI2PS, from_mm),
	ROW(CVTPI2PD, from_mm),
	IMM(PSHUFD),
	IMM(PSHUFHW),
	IMM(PSHUFLW),
	IMM(SHUFPS),
	IMM(SHUFPD),
	IMM(PSLLDQ),
	IMM(PSRLDQ),
	IMM(CMPPS),
	IMM(CMPPD),
	IMM(CMPSS),
	IMM(CMPSD),
	ROW(PINSRW, pinsrw),
	ROW(PEXTRW, pextrw),
	ROW(PMOVMSKB, pmovmskb),
	MOVE(MOVAPS, ALIGNED),
	MOVE(MOVAPD, ALIGNED),
	MOVE(MOVDQA, ALIGNED),
	MOVE(MOVNTPS, ALIGNED),
	MOVE(MOVNTPD, ALIGNED),
	MOVE(MOVNTDQ, ALIGNED),
	MOVE(MOVUPS, UNALIGNED),
	MOVE(MOVUPD, UNALIGNED),
	MOVE(MOVDQU, UNALIGNED),
	ROW(MOVSS, movss),
	ROW(MOVSD, movsd),
	ROW(MOVLPS, movlps),
	ROW(MOVLPD, movlps),
	ROW(MOVHPS, movhps),
	ROW(MOVHPD, movhps),
	ROW(MOVHLPS, movhlps),
	ROW(MOVLHPS, movlhps),
	ROW(MOVQ, movq),
	ROW(MOVD, movq),
	ROW(MOVMSKPS, movmskps),
	ROW(MOVMSKPD, movmskpd),
	ROW(MASKMOVDQU, maskmovdqu),
	ROW(MOVNTI, movnti),
	ROW(LDMXCSR, ldmxcsr),
	ROW(STMXCSR, stmxcsr),
	ROW(FXSAVE, fxsave),
	ROW(FXSAVE64, fxsave),
	ROW(FXRSTOR, fxrstor),
	ROW(FXRSTOR64, fxrstor),
};

const struct insn_table sse_table = {rows, ARRAY_SIZE(rows)};

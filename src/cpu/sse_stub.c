/* SPDX-License-Identifier: Apache-2.0 */
/* SSE instructions with each of their immediates, made by the assembler. */
#include <cpu/sse_stub.h>

#define STUBS(count, insn)             \
	".set sse_i, 0\n"              \
	".rept " #count "\n" insn "\n" \
	"ret\n"                        \
	".p2align 3, 0xcc\n"           \
	".set sse_i, sse_i + 1\n"      \
	".endr\n"

/* As bytes, since the value of sse_i is wanted as it is at each repetition. */
__asm__(".pushsection .text\n"
	".p2align 6\n"
	".globl sse_stubs\n"
	".hidden sse_stubs\n"
	"sse_stubs:\n" STUBS(256, ".byte 0x66, 0x0f, 0x70, 0xc1, sse_i") STUBS(
		256,
		".byte 0xf3, 0x0f, 0x70, 0xc1, sse_i") STUBS(256,
							     ".byte 0xf2, 0x0f, 0x70, 0xc1, sse_i")
		STUBS(256, ".byte 0x0f, 0xc6, 0xc1, sse_i") STUBS(
			4, ".byte 0x66, 0x0f, 0xc6, 0xc1, sse_i")
			STUBS(17, ".byte 0x66, 0x0f, 0x73, 0xf8, sse_i") STUBS(
				17, ".byte 0x66, 0x0f, 0x73, 0xd8, sse_i")
				STUBS(8, ".byte 0x0f, 0xc2, 0xc1, sse_i") STUBS(
					8, ".byte 0x66, 0x0f, 0xc2, 0xc1, sse_i")
					STUBS(8,
					      ".byte 0xf3, 0x0f, 0xc2, 0xc1, sse_i")
						STUBS(8,
						      ".byte 0xf2, 0x0f, 0xc2, 0xc1, sse_i") ".popsection");

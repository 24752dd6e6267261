/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SSE instructions with an immediate operand as functions to call, one for each value of it.
 *
 * Each takes the destination in XMM0 and the source in XMM1 and leaves the result in XMM0.
 */
#ifndef CPU_SSE_STUB_H
#define CPU_SSE_STUB_H
#include <emmintrin.h>
#include <stdint.h>

#define SSE_STUB_BYTES 8U

enum sse_stub {
	SSE_STUB_PSHUFD = 0,
	SSE_STUB_PSHUFHW = 256,
	SSE_STUB_PSHUFLW = 512,
	SSE_STUB_SHUFPS = 768,
	SSE_STUB_SHUFPD = 1024,
	SSE_STUB_PSLLDQ = 1028, /* by 0 to 16 */
	SSE_STUB_PSRLDQ = 1045,
	SSE_STUB_CMPPS = 1062,
	SSE_STUB_CMPPD = 1070,
	SSE_STUB_CMPSS = 1078,
	SSE_STUB_CMPSD = 1086,
};

extern const char sse_stubs[] __attribute__((visibility("hidden")));

typedef __m128i sse_stub_fn(__m128i dst, __m128i src);

/** sse_call() - @stub: an enum sse_stub plus the immediate. */
static inline __m128i sse_call(uint64_t stub, __m128i dst, __m128i src)
{
	return ((sse_stub_fn *)(uintptr_t)(sse_stubs +
					   stub * SSE_STUB_BYTES))(dst, src);
}

#endif

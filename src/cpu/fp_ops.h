/* SPDX-License-Identifier: Apache-2.0 */
/* What the handlers and emitters of x87, MMX and SSE share; used inside src/cpu. */
#ifndef CPU_FP_OPS_H
#define CPU_FP_OPS_H
#include <emmintrin.h>

#include <cpu/access.h>
#include <cpu/emit.h>
#include <cpu/fp.h>

#define FCW_DEFAULT   0x037fU
#define FCW_KEPT      0x1f3fU /* bits that FLDCW loads; bit 6 reads as one */
#define FCW_ONE       0x0040U
#define FCW_MASKS     0x003fU
#define FSW_ES        0x0080U
#define FSW_B         0x8000U
#define FSW_FLAGS     0x003fU
#define FSW_TOP_SHIFT 11

/* Which rules of availability an instruction follows. */
enum fp_kind {
	FP_KIND_X87,  /* CR0.EM or TS: #NM */
	FP_KIND_WAIT, /* CR0.TS and MP: #NM */
	FP_KIND_MMX,  /* EM: #UD, TS: #NM */
	FP_KIND_SSE,  /* EM or no CR4.OSFXSR: #UD, TS: #NM */
	FP_KIND_FXSR, /* FXSAVE and FXRSTOR: as MMX */
};

/** fp_emit_check() - call first in each emitter: appends a check in the mode that needs one. */
void fp_emit_check(struct emitter *e, enum fp_kind kind);

/** fp_mxcsr() - guest's MXCSR, with flags gathered so far. Within cpu_run(). */
uint32_t fp_mxcsr(const struct cpu *c);

/** fp_set_mxcsr() - load it; the value has no reserved bits. Updates code_mode: leave the block. */
void fp_set_mxcsr(struct cpu *c, uint32_t value);

/** fp_host_mxcsr() - what the host's MXCSR holds for a guest's. */
uint32_t fp_host_mxcsr(uint32_t guest);

/** x87_save() - bring the registers into cpu.x87 (FP_MEM). */
void x87_save(struct cpu *c);

/** x87_load() - bring them into the host's x87 (FP_LIVE); no exception may be pending. */
void x87_load(struct cpu *c);

/** x87_update_es() - recompute the summary bits after control or status word changed in memory. */
void x87_update_es(struct cpu *c);

/**
 * x87_set_top() - change the top of stack in memory; the physical registers keep
 * their contents.
 */
void x87_set_top(struct cpu *c, unsigned int top);

/** x87_not_pending() - false if an unmasked exception waits: #MF is raised then. Any state. */
bool x87_not_pending(struct cpu *c);

/**
 * mmx_check() - before the first MMX instruction: #MF if pending, else the registers
 * are in memory.
 */
bool mmx_check(struct cpu *c);

/** x87_init() - FNINIT. */
void x87_init(struct cpu *c);

static inline unsigned int x87_top(const struct cpu *c)
{
	return (c->x87.fsw >> FSW_TOP_SHIFT) & 7;
}

/**
 * fp_load_bytes() - read any number of bytes; not for handlers' fast paths. False:
 * exception pending.
 */
bool fp_load_bytes(struct cpu *c, const struct op *op, uint64_t addr, void *to,
		   unsigned int size);

/** fp_store_bytes() - write them, in pieces: an exception may come after part of them. */
bool fp_store_bytes(struct cpu *c, const struct op *op, uint64_t addr,
		    const void *from, unsigned int size);

/** mmx_enter() - MMX view of the registers: top of stack 0, all tags valid. */
void mmx_enter(struct cpu *c);

/** mmx_get() - an MMX register; not while FP_LIVE. */
uint64_t mmx_get(const struct cpu *c, unsigned int n);

static inline void mmx_set(struct cpu *c, unsigned int n, uint64_t v)
{
	host_st64(c->x87.st[n], v);
	host_st16(c->x87.st[n] + 8, 0xffff);
}

static inline __m128i xmm_get(const struct cpu *c, unsigned int n)
{
	return _mm_load_si128((const __m128i *)&c->xmm[n]);
}

static inline void xmm_set(struct cpu *c, unsigned int n, __m128i v)
{
	_mm_store_si128((__m128i *)&c->xmm[n], v);
}

/* MMX_CHECK(): raise #MF if pending. MMX_ENTER(): after the last thing that can fault. */
#define MMX_CHECK()                                                   \
	do {                                                          \
		if (unlikely(c->fp.where != FP_MMX) && !mmx_check(c)) \
			FAULT();                                      \
	} while (0)

#define MMX_ENTER()                                  \
	do {                                         \
		if (unlikely(c->fp.where != FP_MMX)) \
			mmx_enter(c);                \
	} while (0)

/* As LOAD and STORE of access.h, for 16 bytes (an __m128i). */
#define LOAD128(var, addr)                                                      \
	do {                                                                    \
		const uint64_t load_a_ = (addr);                                \
		const uint8_t *load_p_ = cpu_read_hit(c, load_a_, 16);          \
		if (likely(load_p_ != NULL)) {                                  \
			(var) = _mm_loadu_si128((const __m128i_u *)load_p_);    \
		} else {                                                        \
			if (!cpu_load_slow(c, op, load_a_, 16))                 \
				FAULT();                                        \
			(var) = _mm_loadu_si128((const __m128i_u *)c->scratch); \
		}                                                               \
	} while (0)

#define STORE128(addr, value)                                               \
	do {                                                                \
		const uint64_t store_a_ = (addr);                           \
		uint8_t *store_p_ = cpu_write_hit(c, store_a_, 16);         \
		if (likely(store_p_ != NULL)) {                             \
			_mm_storeu_si128((__m128i_u *)store_p_, (value));   \
		} else {                                                    \
			_mm_storeu_si128((__m128i_u *)c->scratch, (value)); \
			if (!cpu_store_slow(c, op, store_a_, 16))           \
				FAULT();                                    \
		}                                                           \
	} while (0)

/* Operands that must be aligned to 16 bytes. */
#define LOAD128_ALIGNED(var, addr)                    \
	do {                                          \
		const uint64_t aligned_a_ = (addr);   \
		if (unlikely(aligned_a_ & 15)) {      \
			cpu_raise_code(c, VEC_GP, 0); \
			FAULT();                      \
		}                                     \
		LOAD128(var, aligned_a_);             \
	} while (0)

#define STORE128_ALIGNED(addr, value)                 \
	do {                                          \
		const uint64_t aligned_a_ = (addr);   \
		if (unlikely(aligned_a_ & 15)) {      \
			cpu_raise_code(c, VEC_GP, 0); \
			FAULT();                      \
		}                                     \
		STORE128(aligned_a_, value);          \
	} while (0)

/* LOAD_XMM(bits, var, addr): 32 or 64 bits into the low part of an __m128i, zero above. */
#define LOAD_XMM(bits, var, addr)                                     \
	do {                                                          \
		uint##bits##_t low_;                                  \
		LOAD(bits, low_, addr);                               \
		(var) = _mm_set_epi64x(0, (long long)(uint64_t)low_); \
	} while (0)

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Floating point as a whole: where the guest's state is, and when it is on the host's units.
 *
 * Guest instructions run as host instructions. While cpu_run() runs, the host's MXCSR
 * holds the guest's rounding, DAZ and FTZ bits with all exceptions masked, and gathers the guest's
 * sticky flags; the guest's x87 registers are loaded at its first x87 instruction. So code that is
 * called back from within cpu_run() must not use x87 (long double), and should not do
 * floating-point arithmetic that leaves sticky flags behind.
 *
 * Limits: an SSE instruction that ends in #XM for an unmasked overflow or underflow sets the sticky
 * precision flag as if the exception had been masked. With CR0.NE clear an x87 exception still
 * arrives as #MF (no FERR#/IRQ 13). The instruction and data pointers are those of the last
 * instruction that ended with an unmasked exception, as on AMD processors, whose FXSAVE and FNSTENV
 * show them only then; their selectors are zero, as on processors that have deprecated FPU CS and
 * DS. FNSTENV and FNSAVE use the protected-mode images in real mode too.
 */
#ifndef CPU_FP_H
#define CPU_FP_H
#include <cpu/cpu.h>

#define MXCSR_FLAGS      0x003fU
#define MXCSR_MASKS      0x1f80U
#define MXCSR_MASK_SHIFT 7
#define MXCSR_FTZ        0x8000U
#define MXCSR_UE         0x0010U
#define MXCSR_DEFAULT    0x1f80U
#define MXCSR_VALID      0xffffU /* what FXSAVE shows as MXCSR_MASK */

/**
 * fp_reset() - x87 as after FNINIT with empty registers, MXCSR default, XMM zero.
 * Outside cpu_run().
 */
void fp_reset(struct cpu *c);

/** fp_enter() - cpu_run() begins: the host's MXCSR becomes the guest's. */
void fp_enter(struct cpu *c);

/**
 * fp_leave() - cpu_run() ends: all guest state is in struct cpu, the host's units
 * are at their defaults.
 */
void fp_leave(struct cpu *c);

/** cpu_fp_mode() - the CODE_FP_* bits of cpu.code_mode that CR0, CR4 and MXCSR ask for. */
static inline uint32_t cpu_fp_mode(const struct cpu *c)
{
	uint32_t mode = 0;

	if ((c->cr0 & (CR0_EM | CR0_TS)) || !(c->cr4 & CR4_OSFXSR))
		mode |= CODE_FP_TRAP;
	if (~c->x87.mxcsr & MXCSR_MASKS)
		mode |= CODE_FP_UNMASKED;
	return mode;
}

#endif

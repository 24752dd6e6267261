/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every x87 instruction of the host as a function to call: its two bytes and a return.
 *
 * So whatever the guest's opcode is, the host executes that very opcode on the guest's registers.
 */
#ifndef CPU_X87_STUB_H
#define CPU_X87_STUB_H
#include <stdint.h>

#define X87_STUB_BYTES      4U
#define X87_FLAG_STUB_BYTES 16U

/* Register forms of D8 to DF by (opcode & 7) * 64 + (modrm & 63), then the memory forms. */
extern const char x87_stubs[] __attribute__((visibility("hidden")));
/* FCMOVcc (DA, then DB, C0 to DF), then FCOMI and the like (DB, then DF, E8 to F7). */
extern const char x87_flag_stubs[] __attribute__((visibility("hidden")));

#define X87_STUB_MEM   512U /* number of the first memory form */
#define X87_STUB_FCOMI 64U  /* number of the first FCOMI */

typedef void x87_stub_fn(void *mem);
typedef uint16_t x87_flag_stub_fn(uint32_t af);

/** x87_reg_stub() - number of a register form. */
static inline unsigned int x87_reg_stub(uint8_t opcode, uint8_t modrm)
{
	return (opcode & 7U) * 64 + (modrm & 63U);
}

/** x87_mem_stub() - number of a memory form; @reg is the modrm's middle field. */
static inline unsigned int x87_mem_stub(uint8_t opcode, uint8_t reg)
{
	return X87_STUB_MEM + (opcode & 7U) * 8 + reg;
}

/** x87_fcmov_stub() - number of an FCMOVcc among the flag stubs. */
static inline unsigned int x87_fcmov_stub(uint8_t opcode, uint8_t modrm)
{
	return (opcode & 1U) * 32 + (modrm & 31U);
}

/** x87_fcomi_stub() - number of an FCOMI, FUCOMI, FCOMIP or FUCOMIP among the flag stubs. */
static inline unsigned int x87_fcomi_stub(uint8_t opcode, uint8_t modrm)
{
	return X87_STUB_FCOMI + (opcode == 0xdf ? 16U : 0U) + modrm - 0xe8U;
}

/** x87_call() - execute an instruction on the live registers. @mem: its operand, if it has one. */
static inline void x87_call(uint64_t stub, void *mem)
{
	((x87_stub_fn *)(uintptr_t)(x87_stubs + stub * X87_STUB_BYTES))(mem);
}

/** x87_call_flags() - the same for those that use or set flags. Return: cpu.af after it. */
static inline uint16_t x87_call_flags(uint64_t stub, uint32_t af)
{
	return ((x87_flag_stub_fn *)(uintptr_t)(x87_flag_stubs +
						stub * X87_FLAG_STUB_BYTES))(af);
}

#endif

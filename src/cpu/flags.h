/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic flags. The host has the guest's instruction set, so operations run the host's
 * instruction and take its flags with LAHF and SETO: cpu.af holds AX as these leave it.
 *
 *   15 14 13 12 11 10  9  8   7..1  0
 *   SF ZF  0 AF  0 PF  1 CF    0   OF
 */
#ifndef CPU_FLAGS_H
#define CPU_FLAGS_H
#include <arch/x86.h>
#include <cpu/cpu.h>

#define AF_OF 0x0001U
#define AF_CF 0x0100U
#define AF_PF 0x0400U
#define AF_AF 0x1000U
#define AF_ZF 0x4000U
#define AF_SF 0x8000U

/* Appended to the template of an asm statement whose flags are wanted in "=&a". */
#define ASM_GET_FLAGS "\n\tlahf\n\tseto %%al"

/** af_to_rflags() - the arithmetic bits of RFLAGS. */
static inline uint64_t af_to_rflags(uint16_t af)
{
	return ((af >> 8) &
		(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF)) |
	       ((uint64_t)(af & AF_OF) << 11);
}

/** af_from_rflags() - the other way. */
static inline uint16_t af_from_rflags(uint64_t rflags)
{
	return (uint16_t)(((rflags & (RFLAGS_CF | RFLAGS_PF | RFLAGS_AF |
				      RFLAGS_ZF | RFLAGS_SF))
			   << 8) |
			  0x0200U | ((rflags >> 11) & 1));
}

/**
 * af_condition() - evaluate a condition code.
 * @af: arithmetic flags
 * @cc: the low four bits of a Jcc, SETcc or CMOVcc opcode
 */
static inline bool af_condition(uint16_t af, unsigned int cc)
{
	bool r = false;

	switch (cc >> 1) {
	case 0:
		r = af & AF_OF;
		break;
	case 1:
		r = af & AF_CF;
		break;
	case 2:
		r = af & AF_ZF;
		break;
	case 3:
		r = af & (AF_CF | AF_ZF);
		break;
	case 4:
		r = af & AF_SF;
		break;
	case 5:
		r = af & AF_PF;
		break;
	case 6:
		r = ((af >> 15) ^ af) & 1;
		break;
	case 7:
		r = (af & AF_ZF) || (((af >> 15) ^ af) & 1);
		break;
	}
	return r ^ (cc & 1);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* x86-64 facts: control bits, page-table entry bits, vectors, MSR numbers. [APM2], [SDM3] */
#ifndef ARCH_X86_H
#define ARCH_X86_H
#include <stdint.h>

#define BIT64(n) (UINT64_C(1) << (n))

/* CR0 */
#define CR0_PE BIT64(0)
#define CR0_MP BIT64(1)
#define CR0_EM BIT64(2)
#define CR0_TS BIT64(3)
#define CR0_ET BIT64(4)
#define CR0_NE BIT64(5)
#define CR0_WP BIT64(16)
#define CR0_AM BIT64(18)
#define CR0_NW BIT64(29)
#define CR0_CD BIT64(30)
#define CR0_PG BIT64(31)

/* CR3 */
#define CR3_PCID_MASK UINT64_C(0xfff)
#define CR3_NOFLUSH   BIT64(63)
#define CR3_ADDR_MASK UINT64_C(0x000ffffffffff000)

/* CR4 */
#define CR4_VME        BIT64(0)
#define CR4_PVI        BIT64(1)
#define CR4_TSD        BIT64(2)
#define CR4_DE         BIT64(3)
#define CR4_PSE        BIT64(4)
#define CR4_PAE        BIT64(5)
#define CR4_MCE        BIT64(6)
#define CR4_PGE        BIT64(7)
#define CR4_PCE        BIT64(8)
#define CR4_OSFXSR     BIT64(9)
#define CR4_OSXMMEXCPT BIT64(10)
#define CR4_UMIP       BIT64(11)
#define CR4_LA57       BIT64(12)
#define CR4_FSGSBASE   BIT64(16)
#define CR4_PCIDE      BIT64(17)
#define CR4_OSXSAVE    BIT64(18)
#define CR4_SMEP       BIT64(20)
#define CR4_SMAP       BIT64(21)
#define CR4_PKE        BIT64(22)

/* EFER */
#define EFER_SCE   BIT64(0)
#define EFER_LME   BIT64(8)
#define EFER_LMA   BIT64(10)
#define EFER_NXE   BIT64(11)
#define EFER_SVME  BIT64(12)
#define EFER_FFXSR BIT64(14)

/* RFLAGS */
#define RFLAGS_CF   BIT64(0)
#define RFLAGS_ONE  BIT64(1)
#define RFLAGS_PF   BIT64(2)
#define RFLAGS_AF   BIT64(4)
#define RFLAGS_ZF   BIT64(6)
#define RFLAGS_SF   BIT64(7)
#define RFLAGS_TF   BIT64(8)
#define RFLAGS_IF   BIT64(9)
#define RFLAGS_DF   BIT64(10)
#define RFLAGS_OF   BIT64(11)
#define RFLAGS_IOPL (BIT64(12) | BIT64(13))
#define RFLAGS_NT   BIT64(14)
#define RFLAGS_RF   BIT64(16)
#define RFLAGS_VM   BIT64(17)
#define RFLAGS_AC   BIT64(18)
#define RFLAGS_VIF  BIT64(19)
#define RFLAGS_VIP  BIT64(20)
#define RFLAGS_ID   BIT64(21)
#define RFLAGS_ARITH \
	(RFLAGS_CF | RFLAGS_PF | RFLAGS_AF | RFLAGS_ZF | RFLAGS_SF | RFLAGS_OF)

/* Page-table entries; the same bits in guest, shadow and nested tables. */
#define PTE_P          BIT64(0)
#define PTE_W          BIT64(1)
#define PTE_U          BIT64(2)
#define PTE_PWT        BIT64(3)
#define PTE_PCD        BIT64(4)
#define PTE_A          BIT64(5)
#define PTE_D          BIT64(6)
#define PTE_PS         BIT64(7)
#define PTE_G          BIT64(8)
#define PTE_NX         BIT64(63)
#define PTE_ADDR       UINT64_C(0x000ffffffffff000)
#define PTE_PKEY_SHIFT 59

/* Page-fault error code. [SDM3 4.7 "Page-Fault Exceptions"] */
#define PF_P    (1U << 0)
#define PF_W    (1U << 1)
#define PF_U    (1U << 2)
#define PF_RSVD (1U << 3)
#define PF_I    (1U << 4)
#define PF_PK   (1U << 5)

/* Exception vectors */
enum x86_vector {
	VEC_DE = 0,
	VEC_DB = 1,
	VEC_NMI = 2,
	VEC_BP = 3,
	VEC_OF = 4,
	VEC_BR = 5,
	VEC_UD = 6,
	VEC_NM = 7,
	VEC_DF = 8,
	VEC_TS = 10,
	VEC_NP = 11,
	VEC_SS = 12,
	VEC_GP = 13,
	VEC_PF = 14,
	VEC_MF = 16,
	VEC_AC = 17,
	VEC_MC = 18,
	VEC_XM = 19,
};

/* MSRs */
#define MSR_TSC             0x10U
#define MSR_APIC_BASE       0x1bU
#define MSR_FEATURE_CONTROL 0x3aU
#define MSR_TSC_ADJUST      0x3bU
#define MSR_BIOS_SIGN_ID    0x8bU
#define MSR_MTRRCAP         0xfeU
#define MSR_SYSENTER_CS     0x174U
#define MSR_SYSENTER_ESP    0x175U
#define MSR_SYSENTER_EIP    0x176U
#define MSR_MCG_CAP         0x179U
#define MSR_MISC_ENABLE     0x1a0U
#define MSR_DEBUGCTL        0x1d9U
#define MSR_PAT             0x277U
#define MSR_MTRR_DEF_TYPE   0x2ffU
#define MSR_TSC_DEADLINE    0x6e0U
#define MSR_X2APIC_FIRST    0x800U
#define MSR_X2APIC_LAST     0x8ffU
#define MSR_EFER            0xc0000080U
#define MSR_STAR            0xc0000081U
#define MSR_LSTAR           0xc0000082U
#define MSR_CSTAR           0xc0000083U
#define MSR_SFMASK          0xc0000084U
#define MSR_FS_BASE         0xc0000100U
#define MSR_GS_BASE         0xc0000101U
#define MSR_KERNEL_GS_BASE  0xc0000102U
#define MSR_TSC_AUX         0xc0000103U

/* Physical address width that we advertise; entry bits above it are reserved. */
#define X86_PHYS_BITS 46

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Which features a virtual processor shows. */
#ifndef CPU_FEATURE_SET_H
#define CPU_FEATURE_SET_H
#include <base/types.h>

/**
 * struct cpu_features - what CPUID shows beyond the base (x86-64-v1, CX16, NX, PGE, 1 GiB pages,
 * RDTSCP, SMEP, SMAP, TSC deadline, ARAT).
 */
struct cpu_features {
	bool pcid; /* PCID and INVPCID */
	bool fsgsbase;
	bool pku;
	bool umip;
	bool x2apic;
	bool no_smap;
	bool no_smep;
	bool repeatable; /* not shown: RDRAND gives the same numbers in every run */
	bool no_translate; /* not shown: interpret everything */
	bool translate_at_once; /* not shown: translate blocks when they are decoded, for tests */
	uint32_t apic_id;
	uint32_t n_cpus;
	uint32_t tsc_khz;
};

#endif

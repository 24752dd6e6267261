/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CPUID: an AMD identity without Meltdown, x86-64-v1 and what the MMU is interested in. It never
 * names anything that the processor lacks. [APM3 appendix E "Obtaining Processor Information"]
 */
#include <string.h>

#include <cpu/sys.h>

#define LEAF1_EDX                                                              \
	(BIT64(0) /* FPU */ | BIT64(2) /* DE */ | BIT64(3) /* PSE */ |         \
	 BIT64(4) /* TSC */ | BIT64(5) /* MSR */ | BIT64(6) /* PAE */ |        \
	 BIT64(8) /* CX8 */ | BIT64(9) /* APIC */ | BIT64(11) /* SEP */ |      \
	 BIT64(12) /* MTRR */ | BIT64(13) /* PGE */ | BIT64(15) /* CMOV */ |   \
	 BIT64(16) /* PAT */ | BIT64(17) /* PSE36 */ | BIT64(19) /* CLFSH */ | \
	 BIT64(23) /* MMX */ | BIT64(24) /* FXSR */ | BIT64(25) /* SSE */ |    \
	 BIT64(26) /* SSE2 */)

/* Bits that AMD repeats in 8000_0001h EDX. */
#define LEAF1_REPEATED UINT64_C(0x0183f3ff)

static void put_text(uint32_t *ret, const char *text, unsigned int n)
{
	memcpy(ret, text, n);
}

static void leaf_features(const struct cpu *c, uint32_t r[4])
{
	const struct cpu_features *f = &c->features;

	r[0] = 0x00060fb1; /* family 15, model 107, stepping 1: a K8 without errata that matter */
	r[1] = f->apic_id << 24 | (f->n_cpus > 1 ? f->n_cpus : 1) << 16 | 8 << 8;
	r[2] = (uint32_t)(BIT64(13) /* CX16 */ | BIT64(24) /* TSC deadline */ |
			  BIT64(30) /* RDRAND */ | BIT64(31) /* hypervisor */ |
			  (f->pcid ? BIT64(17) : 0) |
			  (f->x2apic ? BIT64(21) : 0));
	r[3] = LEAF1_EDX | (f->n_cpus > 1 ? BIT64(28) : 0);
}

static void leaf_structured(const struct cpu *c, uint32_t subleaf, uint32_t r[4])
{
	const struct cpu_features *f = &c->features;

	if (subleaf)
		return;
	r[1] = (uint32_t)((f->fsgsbase ? BIT64(0) : 0) |
			  (f->no_smep ? 0 : BIT64(7)) |
			  (f->pcid ? BIT64(10) : 0) |
			  (f->no_smap ? 0 : BIT64(20)));
	r[2] = (uint32_t)((f->umip ? BIT64(2) : 0) | (f->pku ? BIT64(3) : 0) |
			  (c->cr4 & CR4_PKE ? BIT64(4) : 0));
}

static void leaf_brand(uint32_t leaf, uint32_t r[4])
{
	static const char brand[48] = "Mezzanine software processor";

	put_text(r, brand + 16 * (leaf - 0x80000002), 16);
}

static void leaf_extended(const struct cpu *c, uint32_t leaf, uint32_t r[4])
{
	switch (leaf) {
	case 0x80000000:
		r[0] = 0x80000008;
		put_text(&r[1], "Auth", 4);
		put_text(&r[2], "cAMD", 4);
		put_text(&r[3], "enti", 4);
		break;
	case 0x80000001:
		r[0] = 0x00060fb1;
		r[2] = (uint32_t)(BIT64(0) /* LAHF */ | BIT64(4) /* CR8 */ |
				  BIT64(8) /* 3DNow prefetch */);
		r[3] = (uint32_t)((LEAF1_EDX & LEAF1_REPEATED) |
				  BIT64(11) /* SYSCALL */ | BIT64(20) /* NX */ |
				  BIT64(26) /* 1 GiB pages */ |
				  BIT64(27) /* RDTSCP */ | BIT64(29) /* LM */);
		break;
	case 0x80000002:
	case 0x80000003:
	case 0x80000004:
		leaf_brand(leaf, r);
		break;
	case 0x80000005: /* L1: 64 KiB, 2 ways, 64-byte lines */
		r[2] = r[3] = 64 << 24 | 2 << 16 | 1 << 8 | 64;
		break;
	case 0x80000006: /* L2: 512 KiB, 16 ways */
		r[2] = 512 << 16 | 8 << 12 | 1 << 8 | 64;
		break;
	case 0x80000007: /* invariant TSC */
		r[3] = 1 << 8;
		break;
	case 0x80000008:
		r[0] = 48 << 8 | X86_PHYS_BITS;
		r[2] = c->features.n_cpus > 1 ? c->features.n_cpus - 1 : 0;
		break;
	}
}

/* The paravirtual leaves: the KVM signature and its clock. */
static void leaf_hypervisor(uint32_t leaf, uint32_t r[4])
{
	if (leaf == 0x40000000) {
		r[0] = 0x40000001;
		put_text(&r[1], "KVMK", 4);
		put_text(&r[2], "VMKV", 4);
		put_text(&r[3], "M\0\0\0", 4);
	} else if (leaf == 0x40000001) {
		r[0] = (uint32_t)(BIT64(0) | BIT64(3) | BIT64(24));
	}
}

void cpu_cpuid(const struct cpu *c, uint32_t leaf, uint32_t subleaf,
	       uint32_t ret[4])
{
	memset(ret, 0, 16);
	if (leaf >= 0x80000000) {
		leaf_extended(c, leaf, ret);
		return;
	}
	if (leaf >= 0x40000000) {
		leaf_hypervisor(leaf, ret);
		return;
	}
	switch (leaf) {
	case 0:
		ret[0] = 7;
		put_text(&ret[1], "Auth", 4);
		put_text(&ret[2], "cAMD", 4);
		put_text(&ret[3], "enti", 4);
		break;
	case 1:
		leaf_features(c, ret);
		break;
	case 6:
		ret[0] = 1 << 2; /* ARAT */
		break;
	case 7:
		leaf_structured(c, subleaf, ret);
		break;
	}
}

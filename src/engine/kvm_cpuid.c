/* SPDX-License-Identifier: Apache-2.0 */
/* What CPUID shows to a guest under KVM. [SDM2 CPUID], [APM3 appendix E] */
#include <engine/kvm_cpuid.h>

#include <asm/kvm_para.h>
#include <string.h>

#define BIT(n) (UINT32_C(1) << (n))

/* Leaf 1 */
#define ECX1_DTES64       BIT(2)
#define ECX1_MONITOR      BIT(3)
#define ECX1_DS_CPL       BIT(4)
#define ECX1_VMX          BIT(5)
#define ECX1_SMX          BIT(6)
#define ECX1_EST          BIT(7)
#define ECX1_TM2          BIT(8)
#define ECX1_PDCM         BIT(15)
#define ECX1_X2APIC       BIT(21)
#define ECX1_TSC_DEADLINE BIT(24)
#define ECX1_HYPERVISOR   BIT(31)
#define EDX1_HTT          BIT(28)
/* Leaf 7 */
#define EBX7_SMEP     BIT(7)
#define EBX7_SMAP     BIT(20)
#define EBX7_INTEL_PT BIT(25)
#define ECX7_LA57     BIT(16)
/* Leaf 0x80000001 */
#define ECX8_CMP_LEGACY   BIT(1)
#define ECX8_SVM          BIT(2)
#define ECX8_IBS          BIT(10)
#define ECX8_SKINIT       BIT(12)
#define ECX8_TOPOEXT      BIT(22)
#define ECX8_PERFCTR_CORE BIT(23)
#define ECX8_PERFCTR_NB   BIT(24)
#define ECX8_PERFCTR_LLC  BIT(28)
/* KVM's own: faults that tell the guest, which may run something else meanwhile */
#define EAX_PV_ASYNC_PF        BIT(KVM_FEATURE_ASYNC_PF)
#define EAX_PV_ASYNC_PF_VMEXIT BIT(KVM_FEATURE_ASYNC_PF_VMEXIT)
#define EAX_PV_ASYNC_PF_INT    BIT(KVM_FEATURE_ASYNC_PF_INT)

/* Bits that hold n processors: 0 for 1. */
static uint32_t width_for(uint32_t n)
{
	return n > 1 ? 32 - (uint32_t)__builtin_clz(n - 1) : 0;
}

static void filter_base(struct kvm_cpuid_entry2 *e, uint32_t n_cpus,
			uint32_t apic_id, bool tsc_deadline)
{
	e->ebx = (e->ebx & 0xff00) | n_cpus << 16 | apic_id << 24;
	e->ecx &= ~(ECX1_DTES64 | ECX1_MONITOR | ECX1_DS_CPL | ECX1_VMX |
		    ECX1_SMX | ECX1_EST | ECX1_TM2 | ECX1_PDCM |
		    ECX1_TSC_DEADLINE);
	e->ecx |= ECX1_HYPERVISOR | ECX1_X2APIC;
	if (tsc_deadline)
		e->ecx |= ECX1_TSC_DEADLINE;
	e->edx &= ~EDX1_HTT;
	if (n_cpus > 1)
		e->edx |= EDX1_HTT;
}

static void filter_features(struct kvm_cpuid_entry2 *e,
			    const struct cpu_features *f)
{
	if (e->index)
		return;
	e->ebx &= ~EBX7_INTEL_PT;
	e->ecx &= ~ECX7_LA57;
	if (f->no_smep)
		e->ebx &= ~EBX7_SMEP;
	if (f->no_smap)
		e->ebx &= ~EBX7_SMAP;
}

/* Intel's caches: the third level is everybody's, the others each core's own. */
static void filter_caches(struct kvm_cpuid_entry2 *e, uint32_t n_cpus)
{
	const uint32_t sharers = (BIT(width_for(n_cpus)) - 1) & 0xfff;

	if (!(e->eax & 0x1f))
		return;
	e->eax &= 0x3fff;
	if ((e->eax >> 5 & 7) >= 3)
		e->eax |= sharers << 14;
	e->eax |= (sharers & 0x3f) << 26;
}

static void filter_amd(struct kvm_cpuid_entry2 *e, uint32_t n_cpus)
{
	e->ecx &= ~(ECX8_CMP_LEGACY | ECX8_SVM | ECX8_IBS | ECX8_SKINIT |
		    ECX8_TOPOEXT | ECX8_PERFCTR_CORE | ECX8_PERFCTR_NB |
		    ECX8_PERFCTR_LLC);
	if (n_cpus > 1)
		e->ecx |= ECX8_CMP_LEGACY;
}

/*
 * What was fetched for a guest that is to be told stays on KVM's list until the guest can be:
 * its APIC is on, and it has taken what it was told before. If that page is to be fetched
 * once more meanwhile, as for a write after a read or because it was taken again, KVM finds it
 * on its list, fetches nothing, and enters the guest again and again, which never comes
 * to the point where it can be told. A guest that is not to be told has no such list.
 */
static void filter_pv(struct kvm_cpuid_entry2 *e)
{
	e->eax &= ~(EAX_PV_ASYNC_PF | EAX_PV_ASYNC_PF_VMEXIT |
		    EAX_PV_ASYNC_PF_INT);
}

static void clear_registers(struct kvm_cpuid_entry2 *e)
{
	e->eax = 0;
	e->ebx = 0;
	e->ecx = 0;
	e->edx = 0;
}

static void filter_entry(struct kvm_cpuid_entry2 *e,
			 const struct cpu_features *f, uint32_t apic_id,
			 bool tsc_deadline)
{
	switch (e->function) {
	case 0x1:
		filter_base(e, f->n_cpus, apic_id, tsc_deadline);
		break;
	case 0x4:
		filter_caches(e, f->n_cpus);
		break;
	case 0x7:
		filter_features(e, f);
		break;
	case KVM_CPUID_FEATURES:
		filter_pv(e);
		break;
	case 0x80000001:
		filter_amd(e, f->n_cpus);
		break;
	case 0x80000008:
		e->ecx = (f->n_cpus - 1) | width_for(f->n_cpus) << 12;
		break;
	case 0xa:        /* performance counters */
	case 0x14:       /* processor trace */
	case 0x8000000a: /* SVM */
	case 0x8000001d: /* caches by topology extension */
	case 0x8000001e: /* topology */
	case 0x8000001f: /* memory encryption */
	case 0x80000022: /* performance counters */
		clear_registers(e);
		break;
	}
}

static bool is_topology(const struct kvm_cpuid_entry2 *e)
{
	return e->function == 0xb || e->function == 0x1f ||
	       e->function == 0x80000026;
}

static void drop_topology(struct cpuid_list *cpuid)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		if (!is_topology(&cpuid->entries[i]))
			cpuid->entries[n++] = cpuid->entries[i];
	cpuid->head.nent = n;
}

static void add_level(struct cpuid_list *cpuid, uint32_t index, uint32_t type,
		      uint32_t shift, uint32_t count, uint32_t apic_id)
{
	if (cpuid->head.nent == KVM_CPUID_MAX)
		return;
	cpuid->entries[cpuid->head.nent++] = (struct kvm_cpuid_entry2){
		.function = 0xb,
		.index = index,
		.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
		.eax = shift,
		.ebx = count,
		.ecx = type << 8 | index,
		.edx = apic_id,
	};
}

static bool knows_topology(const struct cpuid_list *cpuid)
{
	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		if (!cpuid->entries[i].function)
			return cpuid->entries[i].eax >= 0xb;
	return false;
}

void kvm_cpuid_filter(struct cpuid_list *cpuid,
		      const struct cpu_features *features, uint32_t apic_id,
		      bool tsc_deadline)
{
	const uint32_t n_cpus = features->n_cpus;

	drop_topology(cpuid);
	for (uint32_t i = 0; i < cpuid->head.nent; i++)
		filter_entry(&cpuid->entries[i], features, apic_id,
			     tsc_deadline);
	if (!knows_topology(cpuid))
		return;
	add_level(cpuid, 0, 1, 0, 1, apic_id);
	add_level(cpuid, 1, 2, width_for(n_cpus), n_cpus, apic_id);
	add_level(cpuid, 2, 0, 0, 0, apic_id);
}

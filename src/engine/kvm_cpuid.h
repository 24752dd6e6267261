/* SPDX-License-Identifier: Apache-2.0 */
/* What CPUID shows to a guest under KVM: what the host's KVM supports, less what we hide. */
#ifndef ENGINE_KVM_CPUID_H
#define ENGINE_KVM_CPUID_H
#include <linux/kvm.h>

#include <base/types.h>
#include <cpu/feature_set.h>

/* Room for the entries of one processor; KVM itself knows no more. */
#define KVM_CPUID_MAX 256

/**
 * struct cpuid_list - entries in the layout of KVM_SET_CPUID2.
 * @head: how many, and reserved words
 * @entries: the entries
 */
struct cpuid_list {
	struct kvm_cpuid2 head;
	struct kvm_cpuid_entry2 entries[KVM_CPUID_MAX];
};

/**
 * kvm_cpuid_filter() - turn what KVM supports into what one processor shows.
 * @cpuid: as from KVM_GET_SUPPORTED_CPUID; changed in place
 * @features: n_cpus, what to hide
 * @apic_id: of this processor
 * @tsc_deadline: KVM has the timer (KVM_GET_SUPPORTED_CPUID does not say it)
 *
 * Hidden: nested virtualization, performance counters, memory encryption, MONITOR, 57-bit
 * addresses, KVM's asynchronous page faults, and the host's topology, in the place of which is
 * one package of n_cpus cores without siblings. Values that the host's processor had in APIC ids
 * become ours.
 */
void kvm_cpuid_filter(struct cpuid_list *cpuid,
		      const struct cpu_features *features, uint32_t apic_id,
		      bool tsc_deadline);

#endif

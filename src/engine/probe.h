/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host offers for running guests: whether its /dev/kvm is usable, found out by
 * running a tiny guest, and which facilities of its kernel there are.
 */
#ifndef ENGINE_PROBE_H
#define ENGINE_PROBE_H
#include <base/error.h>
#include <base/types.h>
#include <engine/kvm_window.h>

/* Kernel code slower than this is being emulated. */
#define PROBE_MIN_INSNS_PER_S UINT64_C(50000000)

/* How far the tiny guest came. */
enum probe_result {
	PROBE_NO_DEVICE, /* /dev/kvm cannot be opened, or refuses to make a VM */
	PROBE_EMULATED, /* KVM_EXIT_INTERNAL_ERROR: an emulator met what it does not know */
	PROBE_STUCK,      /* did not come back in time */
	PROBE_UNEXPECTED, /* came back for something else */
	PROBE_RAN,
};

/**
 * struct probe_run - what the tiny guest did.
 * @result: how far it came
 * @error: errno of PROBE_NO_DEVICE
 * @insns: instructions in the timed loop
 * @ns: what they took, the best of several times
 */
struct probe_run {
	enum probe_result result;
	int error;
	uint64_t insns;
	uint64_t ns;
};

/**
 * struct probe_verdict - whether KVM is usable.
 * @usable: it is
 * @insns_per_s: speed of kernel code, 0 if unknown
 * @why: one sentence, part of "chose soft because …" or "chose kvm: …"
 */
struct probe_verdict {
	bool usable;
	uint64_t insns_per_s;
	char why[256];
};

/* How much guest memory the tiny guest needs, from guest physical address 0 on. */
#define PROBE_GUEST_BYTES UINT64_C(0x5000)

struct kvm_run;

/**
 * probe_cpu() - run the tiny guest on a processor that has not run yet; some milliseconds.
 * @cpu_fd: its descriptor; the VM knows @mem, and CPUID is set
 * @run: what it shares with the kernel
 * @mem: the first PROBE_GUEST_BYTES of guest memory, zero; changed
 * @ret: set
 *
 * Registers are as before when it returns.
 */
void probe_cpu(int cpu_fd, struct kvm_run *run, uint8_t *mem,
	       struct probe_run *ret);

/**
 * probe_decide() - what follows from it. Pure.
 * @run: the tiny guest
 * @fault: the host's userfaultfd
 * @ret: set
 */
void probe_decide(const struct probe_run *run,
		  const struct kvm_userfault *fault, struct probe_verdict *ret);

/** probe_kvm() - both. */
void probe_kvm(struct probe_verdict *ret);

/**
 * probe_facilities() - everything about the host that matters to VMs, for people.
 * @fn: called for each with its name, what was found, and what it is good for
 * @arg: for @fn
 */
void probe_facilities(void (*fn)(void *arg, const char *name, const char *found,
				 const char *use),
		      void *arg);

#endif

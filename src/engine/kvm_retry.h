/* SPDX-License-Identifier: Apache-2.0 */
/* What a processor under KVM could not do because its memory was changing: it tries again. */
#ifndef ENGINE_KVM_RETRY_H
#define ENGINE_KVM_RETRY_H
#include <stdbool.h>

struct kvm_window;

/**
 * enum kvm_retry_why - how KVM_RUN told it.
 * @KVM_RETRY_FAULT: it failed with EFAULT
 * @KVM_RETRY_EMULATION: it came back with KVM_INTERNAL_ERROR_EMULATION: its emulator met an
 *	instruction that locks memory where it cannot write, or that it does not know; it
 *	does not say which
 */
enum kvm_retry_why {
	KVM_RETRY_FAULT,
	KVM_RETRY_EMULATION,
};

/**
 * struct kvm_retry - of one processor, embedded in it; its thread's.
 * @tries: in sequence; 0 once it got on
 */
struct kvm_retry {
	unsigned int tries;
};

/**
 * kvm_retry() - prepare a processor for another try.
 * @r: the processor's
 * @w: window, with its lock free: who has it may be who changes the memory
 * @cpu_fd: the processor
 * @why: what KVM_RUN said
 *
 * May sleep, for a moment.
 *
 * Return: false if it has tried so often that memory is not the reason.
 */
bool kvm_retry(struct kvm_retry *r, struct kvm_window *w, int cpu_fd,
	       enum kvm_retry_why why);

#endif

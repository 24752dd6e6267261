/* SPDX-License-Identifier: Apache-2.0 */
/* Another try for a processor whose memory was changing. */
#include <engine/kvm_retry.h>

#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <base/clock.h>
#include <engine/kvm_window.h>

#define FAULT_TRIES     1000
#define EMULATION_TRIES 20
#define TRIES_AT_ONCE   8

/* KVM has #UD wait for a kernel whose instruction it cannot emulate. */
static bool forget_exception(int cpu_fd)
{
	struct kvm_vcpu_events events;

	if (ioctl(cpu_fd, KVM_GET_VCPU_EVENTS, &events))
		return false;
	events.exception.injected = 0;
	events.exception.pending = 0;
	return !ioctl(cpu_fd, KVM_SET_VCPU_EVENTS, &events);
}

bool kvm_retry(struct kvm_retry *r, struct kvm_window *w, int cpu_fd,
	       enum kvm_retry_why why)
{
	const unsigned int most = why == KVM_RETRY_FAULT ? FAULT_TRIES
							 : EMULATION_TRIES;

	if (r->tries++ >= most)
		return false;
	kvm_window_collided(w);
	/*
	 * On a busy host the changing thread may lose its processor in the midst of it
	 * each time, which is when we run. The timer finds it elsewhere.
	 */
	if (r->tries > TRIES_AT_ONCE)
		nap_ms(1);
	return why == KVM_RETRY_FAULT || forget_exception(cpu_fd);
}

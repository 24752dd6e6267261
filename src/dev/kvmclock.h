/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The paravirtual clock that Linux knows from KVM: a guest that finds the signature in
 * CPUID names, by MSR, a page in which we tell how its TSC becomes nanoseconds. It needs no
 * calibration then, and no RTC for the time of day.
 *
 * The rate of the TSC never changes, so a page is written once when the guest asks, and
 * again only by kvmclock_update(), after the TSC or the clock was moved under the guest
 * (a pause or a restore). Before the guest runs: kvmclock_init() each processor's,
 * kvmclock_update() the first, and then each other with the first as its leader.
 *
 * For CPUID: leaf KVM_PV_CPUID_BASE answers EAX = KVM_PV_CPUID_FEATURES and "KVMKVMKVM" in
 * EBX, ECX, EDX; leaf KVM_PV_CPUID_FEATURES answers EAX = KVM_PV_FEATURES.
 */
#ifndef DEV_KVMCLOCK_H
#define DEV_KVMCLOCK_H
#include <base/types.h>
#include <dev/clock.h>

#define KVM_PV_CPUID_BASE           UINT32_C(0x40000000)
#define KVM_PV_CPUID_FEATURES       UINT32_C(0x40000001)

#define KVM_PV_FEATURE_CLOCK        (UINT32_C(1) << 0) /* MSRs 0x11, 0x12 */
#define KVM_PV_FEATURE_NO_IO_DELAY  (UINT32_C(1) << 1)
#define KVM_PV_FEATURE_CLOCK2       (UINT32_C(1) << 3) /* MSRs 0x4b564d00, 01 */
#define KVM_PV_FEATURE_CLOCK_STABLE (UINT32_C(1) << 24)
#define KVM_PV_FEATURES                                      \
	(KVM_PV_FEATURE_CLOCK | KVM_PV_FEATURE_NO_IO_DELAY | \
	 KVM_PV_FEATURE_CLOCK2 | KVM_PV_FEATURE_CLOCK_STABLE)

#define KVM_PV_MSR_WALL_CLOCK_OLD  UINT32_C(0x11)
#define KVM_PV_MSR_SYSTEM_TIME_OLD UINT32_C(0x12)
#define KVM_PV_MSR_WALL_CLOCK      UINT32_C(0x4b564d00)
#define KVM_PV_MSR_SYSTEM_TIME     UINT32_C(0x4b564d01)

struct guestmem;

/**
 * struct kvmclock_stats - counters.
 * @updates: pages written
 * @bad_address: pages that the guest placed outside its RAM
 * @stops: times that the guest was told that it had stood still
 */
struct kvmclock_stats {
	uint64_t updates;
	uint64_t bad_address;
	uint64_t stops;
};

/**
 * struct kvmclock - the clock of one processor; embedded in it. Members are private.
 * @mem: guest memory
 * @clock: time
 * @system_time: MSR
 * @wall_clock: MSR
 * @version: of the system time page, even
 * @wall_version: of the wall clock page, even
 * @tsc_to_ns_mul: see kvmclock_scale()
 * @tsc_shift: likewise
 * @ref_tsc: a moment, as TSC
 * @ref_ns: the same moment, as nanoseconds
 * @stats: counters
 */
struct kvmclock {
	struct guestmem *mem;
	const struct dev_clock *clock;
	uint64_t system_time;
	uint64_t wall_clock;
	uint32_t version;
	uint32_t wall_version;
	uint32_t tsc_to_ns_mul;
	int8_t tsc_shift;
	uint64_t ref_tsc;
	uint64_t ref_ns;
	struct kvmclock_stats stats;
};

/**
 * kvmclock_init() - a clock that nobody has asked for yet. It tells time from its first
 *                   kvmclock_update() on.
 * @kc: to initialize
 * @mem: guest memory
 * @clock: time of the processor, with tsc_hz from 1 kHz to 1 THz
 */
void kvmclock_init(struct kvmclock *kc, struct guestmem *mem,
		   const struct dev_clock *clock);

/** kvmclock_is_msr() - does this MSR belong to the clock? */
static inline bool kvmclock_is_msr(uint32_t msr)
{
	return msr == KVM_PV_MSR_WALL_CLOCK || msr == KVM_PV_MSR_SYSTEM_TIME ||
	       msr == KVM_PV_MSR_WALL_CLOCK_OLD ||
	       msr == KVM_PV_MSR_SYSTEM_TIME_OLD;
}

/** kvmclock_msr_read() - RDMSR of one for which kvmclock_is_msr() is true. */
uint64_t kvmclock_msr_read(const struct kvmclock *kc, uint32_t msr);

/** kvmclock_msr_write() - WRMSR; writes the page. Context: the processor thread. */
void kvmclock_msr_write(struct kvmclock *kc, uint32_t msr, uint64_t value);

/**
 * kvmclock_update() - look at TSC and clock anew, and write the page again if there is one.
 * @kc: the clock
 * @leader: take over this processor's reference instead of a new one, or NULL. All
 *          processors of a VM follow the first, so that time never differs between them.
 */
void kvmclock_update(struct kvmclock *kc, const struct kvmclock *leader);

/**
 * kvmclock_tell_stopped() - say in the page that the host has held the processor up.
 * @kc: the clock
 *
 * The guest's watchdogs then start anew instead of reporting a lockup that is none. The
 * guest takes the mark out when it has seen it. Context: the processor thread.
 */
void kvmclock_tell_stopped(struct kvmclock *kc);

/**
 * kvmclock_scale() - how ticks become nanoseconds: ((ticks << shift) * mul) >> 32, with
 * a right shift if @ret_shift is negative.
 * @tsc_hz: 1 kHz to 1 THz
 * @ret_mul: multiplier, in units of 2^-32
 * @ret_shift: see above
 */
void kvmclock_scale(uint64_t tsc_hz, uint32_t *ret_mul, int8_t *ret_shift);

#endif

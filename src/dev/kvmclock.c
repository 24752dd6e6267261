/* SPDX-License-Identifier: Apache-2.0 */
/* The paravirtual clock: scale factors, and pages written under their version. */
#include <dev/kvmclock.h>

#include <string.h>

#include <base/verify.h>
#include <mem/guestmem.h>

#define MSR_ENABLE         UINT64_C(1)
#define NS_PER_S           UINT64_C(1000000000)

#define TSC_HZ_MIN         UINT64_C(1000)
#define TSC_HZ_MAX         UINT64_C(1000000000000)

#define FLAG_TSC_STABLE    1
#define FLAG_GUEST_STOPPED 2

__extension__ typedef unsigned __int128 uint128_t;

/* The pages as the guest sees them. */
struct time_page {
	uint32_t version;
	uint32_t pad;
	uint64_t tsc_timestamp;
	uint64_t system_time;
	uint32_t tsc_to_ns_mul;
	int8_t tsc_shift;
	uint8_t flags;
	uint8_t pad2[2];
};

struct wall_page {
	uint32_t version;
	uint32_t sec;
	uint32_t nsec;
};

_Static_assert(sizeof(struct time_page) == 32, "fixed by the guest");
_Static_assert(offsetof(struct time_page, tsc_to_ns_mul) == 24, "likewise");
_Static_assert(sizeof(struct wall_page) == 12, "fixed by the guest");

void kvmclock_scale(uint64_t tsc_hz, uint32_t *ret_mul, int8_t *ret_shift)
{
	VERIFY(tsc_hz >= TSC_HZ_MIN && tsc_hz <= TSC_HZ_MAX);

	uint64_t num = NS_PER_S;
	uint64_t den = tsc_hz;
	int8_t shift = 0;

	/* Bring num / den into [1/2, 1), where the multiplier has all its 32 bits. */
	while (num >= den) {
		den <<= 1;
		shift++;
	}
	while (num * 2 < den) {
		num <<= 1;
		shift--;
	}
	*ret_mul = (uint32_t)(((uint128_t)num << 32) / den);
	*ret_shift = shift;
}

/*
 * Write a page whose first word is a version: odd while the rest is not whole, so that a
 * reader on another processor tries again.
 */
static bool write_versioned(struct guestmem *mem, gpa_t addr, uint32_t *version,
			    void *page, size_t len)
{
	uint32_t odd = *version + 1;
	uint32_t even = *version + 2;

	memcpy(page, &odd, sizeof(odd));
	if (!guestmem_write(mem, addr, &odd, sizeof(odd)))
		return false;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	if (!guestmem_write(mem, addr, page, len))
		return false;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	*version = even;
	return guestmem_write(mem, addr, &even, sizeof(even));
}

static void write_system_time(struct kvmclock *kc, uint8_t flags)
{
	struct time_page page = {
		.tsc_timestamp = kc->ref_tsc,
		.system_time = kc->ref_ns,
		.tsc_to_ns_mul = kc->tsc_to_ns_mul,
		.tsc_shift = kc->tsc_shift,
		.flags = FLAG_TSC_STABLE | flags,
	};

	if (!(kc->system_time & MSR_ENABLE))
		return;
	if (write_versioned(kc->mem, gpa(kc->system_time & ~MSR_ENABLE),
			    &kc->version, &page, sizeof(page)))
		kc->stats.updates++;
	else
		kc->stats.bad_address++;
}

/* The wall clock at the moment when system time was zero. */
static void write_wall_clock(struct kvmclock *kc)
{
	const struct dev_clock *clock = kc->clock;
	uint64_t start_ns = clock->wall_ns(clock->ctx) -
			    clock->now_ns(clock->ctx);
	struct wall_page page = {
		.sec = (uint32_t)(start_ns / NS_PER_S),
		.nsec = (uint32_t)(start_ns % NS_PER_S),
	};

	if (!kc->wall_clock)
		return;
	if (write_versioned(kc->mem, gpa(kc->wall_clock), &kc->wall_version,
			    &page, sizeof(page)))
		kc->stats.updates++;
	else
		kc->stats.bad_address++;
}

uint64_t kvmclock_msr_read(const struct kvmclock *kc, uint32_t msr)
{
	if (msr == KVM_PV_MSR_SYSTEM_TIME || msr == KVM_PV_MSR_SYSTEM_TIME_OLD)
		return kc->system_time;
	return kc->wall_clock;
}

void kvmclock_msr_write(struct kvmclock *kc, uint32_t msr, uint64_t value)
{
	if (msr == KVM_PV_MSR_SYSTEM_TIME || msr == KVM_PV_MSR_SYSTEM_TIME_OLD) {
		kc->system_time = value;
		write_system_time(kc, 0);
	} else {
		kc->wall_clock = value;
		write_wall_clock(kc);
	}
}

void kvmclock_update(struct kvmclock *kc, const struct kvmclock *leader)
{
	if (leader) {
		kc->ref_tsc = leader->ref_tsc;
		kc->ref_ns = leader->ref_ns;
	} else {
		kc->ref_tsc = kc->clock->now_tsc(kc->clock->ctx);
		kc->ref_ns = kc->clock->now_ns(kc->clock->ctx);
	}
	write_system_time(kc, 0);
}

void kvmclock_tell_stopped(struct kvmclock *kc)
{
	if (!(kc->system_time & MSR_ENABLE))
		return;
	kc->stats.stops++;
	write_system_time(kc, FLAG_GUEST_STOPPED);
}

void kvmclock_init(struct kvmclock *kc, struct guestmem *mem,
		   const struct dev_clock *clock)
{
	*kc = (struct kvmclock){.mem = mem, .clock = clock};
	kvmclock_scale(clock->tsc_hz, &kc->tsc_to_ns_mul, &kc->tsc_shift);
}

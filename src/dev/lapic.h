/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC of one processor [SDM3 10 "Advanced Programmable Interrupt
 * Controller"], as xAPIC (memory-mapped) and as x2APIC (MSRs).
 *
 * A state machine without a thread or a timer of its own. Whoever runs the processor
 *
 *	lapic_poll(lapic, now_ns, now_tsc);	when lapic_next_event_ns() has come
 *	vector = lapic_pending(lapic);		when kicked, and before halting
 *	if (vector >= 0 && the guest takes interrupts now) {
 *		lapic_accept(lapic, vector);
 *		… enter the guest's handler …
 *	}
 *
 * asks for the next event after every access to the APIC (lapic_timer_seq() changes
 * whenever the answer may have), and routes to it
 *
 *	lapic_mmio_read/write	loads and stores for which lapic_claims() is true;
 *				to be asked before RAM and before the bus
 *	lapic_msr_read/write	MSRs for which lapic_is_msr() is true
 *	lapic_cr8/set_cr8	MOV to and from CR8
 *
 * Limits: no LINT0 and LINT1 pins, thermal sensor and performance counters are
 * connected: their LVT entries can be written and read and never fire. SMI and ExtINT
 * are not delivered.
 */
#ifndef DEV_LAPIC_H
#define DEV_LAPIC_H
#include <arch/x86.h>
#include <base/types.h>
#include <dev/apic_bus.h>
#include <dev/clock.h>

#define LAPIC_DEFAULT_BASE UINT64_C(0xfee00000)
#define LAPIC_MMIO_BYTES   UINT64_C(0x1000)
#define LAPIC_BUS_HZ \
	UINT64_C(1000000000) /* what the divided timer counts: 1 ns */

#define LAPIC_BASE_BSP    (UINT64_C(1) << 8)
#define LAPIC_BASE_EXTD   (UINT64_C(1) << 10)
#define LAPIC_BASE_ENABLE (UINT64_C(1) << 11)

#define LAPIC_NEVER       UINT64_MAX

/* Order of LVT entries, as in the register map but for the error entry. */
enum lapic_lvt {
	LAPIC_LVT_TIMER,
	LAPIC_LVT_THERMAL,
	LAPIC_LVT_PERF,
	LAPIC_LVT_LINT0,
	LAPIC_LVT_LINT1,
	LAPIC_LVT_ERROR,
	LAPIC_N_LVT,
};

/**
 * struct lapic_stats - counters.
 * @accesses: register accesses by MMIO or MSR
 * @timer_fired: timer expiries delivered or masked
 * @timer_missed: periods of the periodic timer that passed unseen
 * @received: fixed interrupts accepted into the IRR
 * @merged: of these, already pending
 * @injected: taken by the processor
 * @eois: ends of interrupt
 * @ipis: written to the ICR or SELF IPI
 * @errors: bits set in the error status
 */
struct lapic_stats {
	uint64_t accesses;
	uint64_t timer_fired;
	uint64_t timer_missed;
	uint64_t received;
	uint64_t merged;
	uint64_t injected;
	uint64_t eois;
	uint64_t ipis;
	uint64_t errors;
};

/**
 * struct lapic - one local APIC; embedded in its processor. Members are private.
 * @bus: message bus
 * @clock: time of this processor
 * @cpu: index on the bus
 * @id: x2APIC id; the xAPIC id is its low byte
 * @phys_bits: physical address width, for reserved bits of the base MSR
 * @base: APIC base MSR
 * @tpr: task priority
 * @svr: spurious-interrupt vector register
 * @ldr: logical destination of xAPIC mode, in bits 31:24
 * @dfr: destination format
 * @esr_seen: error status as last latched by a write
 * @esr_new: errors since
 * @icr: interrupt command
 * @lvt: see enum lapic_lvt
 * @divide: divide configuration register
 * @init_count: initial count
 * @timer_start_ns: when the count began
 * @timer_due_ns: next expiry of one-shot and periodic, or LAPIC_NEVER
 * @tsc_deadline: armed deadline, 0 if not
 * @timer_seq: see lapic_timer_seq()
 * @irr: requests, one bit per vector
 * @isr: in service
 * @tmr: level-triggered
 * @stats: counters
 */
struct lapic {
	struct apic_bus *bus;
	const struct dev_clock *clock;
	unsigned int cpu;
	uint32_t id;
	unsigned int phys_bits;
	uint64_t base;
	uint32_t tpr;
	uint32_t svr;
	uint32_t ldr;
	uint32_t dfr;
	uint32_t esr_seen;
	uint32_t esr_new;
	uint64_t icr;
	uint32_t lvt[LAPIC_N_LVT];
	uint32_t divide;
	uint32_t init_count;
	uint64_t timer_start_ns;
	uint64_t timer_due_ns;
	uint64_t tsc_deadline;
	uint32_t timer_seq;
	uint64_t irr[4];
	uint64_t isr[4];
	uint64_t tmr[4];
	struct lapic_stats stats;
};

/**
 * lapic_init() - power-on state, in xAPIC mode at LAPIC_DEFAULT_BASE.
 * @lapic: to initialize
 * @bus: message bus, on which it is registered
 * @clock: time of this processor
 * @cpu: processor index below APIC_CPUS_MAX; the APIC id is the same; 0 is the
 *       bootstrap processor
 * @phys_bits: physical address width that CPUID tells
 */
void lapic_init(struct lapic *lapic, struct apic_bus *bus,
		const struct dev_clock *clock, unsigned int cpu,
		unsigned int phys_bits);

/** lapic_reset() - what INIT does: registers as after power-on, id and base stay. */
void lapic_reset(struct lapic *lapic);

/* Is it switched on and in xAPIC mode, so that it answers in memory? */
static inline bool lapic_in_memory(const struct lapic *lapic)
{
	return (lapic->base & (LAPIC_BASE_ENABLE | LAPIC_BASE_EXTD)) ==
	       LAPIC_BASE_ENABLE;
}

/* Where its registers are in memory when lapic_in_memory(). Changes with the base MSR. */
static inline gpa_t lapic_base(const struct lapic *lapic)
{
	return gpa(lapic->base & ~UINT64_C(0xfff));
}

/** lapic_claims() - does an access at @addr by this processor go to its local APIC? */
static inline bool lapic_claims(const struct lapic *lapic, gpa_t addr)
{
	return lapic_in_memory(lapic) &&
	       addr.v - lapic_base(lapic).v < LAPIC_MMIO_BYTES;
}

/**
 * lapic_mmio_read() - a load from the register page.
 * @lapic: the local APIC
 * @off: offset in the page
 * @size: bytes, 1 to 8
 *
 * Return: the value. Only the first four bytes of each 16 hold anything.
 */
uint64_t lapic_mmio_read(struct lapic *lapic, uint64_t off, unsigned int size);

/** lapic_mmio_write() - a store; only aligned ones of four bytes and more do anything. */
void lapic_mmio_write(struct lapic *lapic, uint64_t off, unsigned int size,
		      uint64_t value);

/** lapic_is_msr() - does this MSR belong to the local APIC? */
static inline bool lapic_is_msr(uint32_t msr)
{
	return msr == MSR_APIC_BASE || msr == MSR_TSC_DEADLINE ||
	       (msr >= MSR_X2APIC_FIRST && msr <= MSR_X2APIC_LAST);
}

/**
 * lapic_msr_read() - RDMSR.
 * @lapic: the local APIC
 * @msr: one for which lapic_is_msr() is true
 * @ret_value: set on success
 *
 * Return: false if the guest gets #GP.
 */
bool lapic_msr_read(struct lapic *lapic, uint32_t msr, uint64_t *ret_value)
	__attribute__((warn_unused_result));

/** lapic_msr_write() - WRMSR; as lapic_msr_read(). A #GP changes nothing. */
bool lapic_msr_write(struct lapic *lapic, uint32_t msr, uint64_t value)
	__attribute__((warn_unused_result));

/** lapic_cr8() - MOV from CR8: the priority class of the TPR. */
static inline uint64_t lapic_cr8(const struct lapic *lapic)
{
	return lapic->tpr >> 4;
}

/** lapic_set_cr8() - MOV to CR8. Return: false (#GP) if bits above 3 are set. */
bool lapic_set_cr8(struct lapic *lapic, uint64_t value)
	__attribute__((warn_unused_result));

/**
 * lapic_poll() - let the timer fire if its time has come.
 * @lapic: the local APIC
 * @now_ns: now, by its clock
 * @now_tsc: guest TSC now
 */
void lapic_poll(struct lapic *lapic, uint64_t now_ns, uint64_t now_tsc);

/**
 * lapic_next_event_ns() - when lapic_poll() has something to do.
 * @lapic: the local APIC
 * @now_ns: now, by its clock
 * @now_tsc: guest TSC at the same moment
 *
 * Return: time by its clock, not before @now_ns, or LAPIC_NEVER.
 */
uint64_t lapic_next_event_ns(const struct lapic *lapic, uint64_t now_ns,
			     uint64_t now_tsc);

/** lapic_timer_seq() - changes whenever the guest has set or stopped the timer. */
static inline uint32_t lapic_timer_seq(const struct lapic *lapic)
{
	return lapic->timer_seq;
}

/** lapic_pending() - the vector that the processor should take now, or -1. */
int lapic_pending(const struct lapic *lapic);

/**
 * lapic_accept() - the processor takes an interrupt.
 * @lapic: the local APIC
 * @vector: what lapic_pending() has just returned
 */
void lapic_accept(struct lapic *lapic, int vector);

/**
 * lapic_deliver() - a fixed interrupt arrives.
 * @lapic: the local APIC
 * @vector: its vector
 * @level: trigger mode
 *
 * Return: false if it is switched off or the vector is illegal.
 */
bool lapic_deliver(struct lapic *lapic, uint8_t vector, bool level);

/** lapic_is_enabled() - switched on, by base MSR and by software: takes fixed interrupts. */
static inline bool lapic_is_enabled(const struct lapic *lapic)
{
	return (lapic->base & LAPIC_BASE_ENABLE) && (lapic->svr & (1 << 8));
}

/** lapic_matches() - is it among the receivers of a destination? */
bool lapic_matches(const struct lapic *lapic, uint32_t dest, bool logical);

/** lapic_ppr() - processor priority: what a vector must exceed in its class. */
uint8_t lapic_ppr(const struct lapic *lapic);

#endif

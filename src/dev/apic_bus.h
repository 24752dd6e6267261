/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The interrupt message bus of one VM: carries interrupts from the I/O APIC and from
 * local APICs to the local APICs that they are addressed to, and ends of interrupt
 * back to the I/O APIC.
 *
 * Order: apic_bus_init(), then ioapic_init() and one lapic_init() per processor, with
 * the bus in place for as long as they are.
 */
#ifndef DEV_APIC_BUS_H
#define DEV_APIC_BUS_H
#include <base/types.h>

#define APIC_CPUS_MAX 16
#define APIC_DEST_ALL \
	UINT32_C(0xffffffff) /* senders with 8-bit ids turn 0xff into it */

struct lapic;

/* Encodings of the delivery mode in redirection entries, LVT entries and the ICR. */
enum apic_mode {
	APIC_MODE_FIXED = 0,
	APIC_MODE_LOWEST = 1,
	APIC_MODE_SMI = 2,
	APIC_MODE_RESERVED = 3,
	APIC_MODE_NMI = 4,
	APIC_MODE_INIT = 5,
	APIC_MODE_SIPI = 6,
	APIC_MODE_EXTINT = 7,
};

/**
 * struct apic_msg - one interrupt on its way.
 * @dest: APIC id, or a logical destination; APIC_DEST_ALL is everyone
 * @logical: what @dest is
 * @mode: what it does to its receiver
 * @vector: for fixed, lowest priority and SIPI
 * @level: level-triggered: its end is told to the I/O APIC
 */
struct apic_msg {
	uint32_t dest;
	bool logical;
	enum apic_mode mode;
	uint8_t vector;
	bool level;
};

/**
 * struct apic_bus_ops - what interrupts do to processors.
 * @kick: lapic_pending() of this processor may have changed: look at it before the
 *        next instruction, wake it if it is halted
 * @nmi: a non-maskable interrupt for this processor
 * @init: INIT for this processor; its local APIC is already reset
 * @sipi: start-up; the processor begins at @vector << 12 if it waits for that
 *
 * @cpu is the index given to lapic_init(). Any may be NULL.
 */
struct apic_bus_ops {
	void (*kick)(void *ctx, unsigned int cpu);
	void (*nmi)(void *ctx, unsigned int cpu);
	void (*init)(void *ctx, unsigned int cpu);
	void (*sipi)(void *ctx, unsigned int cpu, uint8_t vector);
};

/**
 * struct apic_bus_stats - counters.
 * @messages: interrupts sent
 * @unclaimed: of these, addressed to nobody or not accepted
 * @unsupported: SMI and ExtINT, which no processor of ours takes
 */
struct apic_bus_stats {
	uint64_t messages;
	uint64_t unclaimed;
	uint64_t unsupported;
};

/**
 * struct apic_bus - the bus; embedded in the VM. Members are private to dev/.
 * @ops: see above
 * @ctx: for @ops
 * @lapics: by processor index; NULL where there is none
 * @eoi: tells the I/O APIC
 * @eoi_ctx: for @eoi
 * @next_lowest: where the search for a lowest-priority receiver starts
 * @stats: counters
 */
struct apic_bus {
	const struct apic_bus_ops *ops;
	void *ctx;
	struct lapic *lapics[APIC_CPUS_MAX];
	void (*eoi)(void *ctx, uint8_t vector);
	void *eoi_ctx;
	unsigned int next_lowest;
	struct apic_bus_stats stats;
};

/**
 * apic_bus_init() - a bus without APICs.
 * @bus: to initialize
 * @ops: constant table
 * @ctx: passed to its functions
 */
void apic_bus_init(struct apic_bus *bus, const struct apic_bus_ops *ops,
		   void *ctx);

/**
 * apic_bus_send() - deliver one interrupt.
 * @bus: the bus
 * @msg: which and to whom
 *
 * Return: true if a processor accepted it. Context: device lock.
 */
bool apic_bus_send(struct apic_bus *bus, const struct apic_msg *msg);

/**
 * apic_bus_deliver() - the same to one processor, whatever @msg->dest says.
 * @bus: the bus
 * @cpu: processor index
 * @msg: the interrupt
 *
 * Return: true if it was accepted.
 */
bool apic_bus_deliver(struct apic_bus *bus, unsigned int cpu,
		      const struct apic_msg *msg);

/** apic_bus_eoi() - a processor ended a level-triggered interrupt. */
void apic_bus_eoi(struct apic_bus *bus, uint8_t vector);

/** apic_bus_kick() - a processor should look at its local APIC again. */
void apic_bus_kick(struct apic_bus *bus, unsigned int cpu);

#endif

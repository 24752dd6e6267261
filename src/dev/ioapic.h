/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: 24 interrupt pins, each with a redirection entry that says which
 * message a rising edge or a high level sends to which processors.
 *
 * Pins are active high: the polarity bit of an entry is kept for the guest and
 * otherwise ignored, since our devices speak of "asserted", not of volts. Version 0x20,
 * so it has an EOI register besides the broadcast from local APICs.
 */
#ifndef DEV_IOAPIC_H
#define DEV_IOAPIC_H
#include <base/types.h>
#include <dev/apic_bus.h>
#include <dev/bus.h>

#define IOAPIC_BASE       UINT64_C(0xfec00000)
#define IOAPIC_MMIO_BYTES UINT64_C(0x1000)
#define IOAPIC_PINS       24

/**
 * struct ioapic_stats - counters.
 * @edges: messages sent for edge-triggered pins
 * @levels: messages sent for level-triggered pins
 * @masked: edges lost because the pin was masked
 * @eois: ends of interrupt that concerned a pin
 */
struct ioapic_stats {
	uint64_t edges;
	uint64_t levels;
	uint64_t masked;
	uint64_t eois;
};

/**
 * struct ioapic - the device; embedded in the VM. Members are private.
 * @bus: where messages go
 * @select: index register
 * @id: identification register
 * @lines: level of each pin
 * @entries: redirection entries
 * @stats: counters
 */
struct ioapic {
	struct apic_bus *bus;
	uint8_t select;
	uint32_t id;
	uint32_t lines;
	uint64_t entries[IOAPIC_PINS];
	struct ioapic_stats stats;
};

/* For bus_add_mmio(bus, gpa(IOAPIC_BASE), IOAPIC_MMIO_BYTES, …, ioapic). */
extern const struct bus_ops ioapic_bus_ops;

/**
 * ioapic_init() - power-on state, every pin masked; registers for ends of interrupt.
 * @ioapic: to initialize
 * @bus: message bus
 */
void ioapic_init(struct ioapic *ioapic, struct apic_bus *bus);

/**
 * ioapic_set() - drive a pin. Fits struct irq_line.
 * @ctx: the struct ioapic
 * @pin: 0 to IOAPIC_PINS - 1; others are ignored
 * @level: asserted or not
 */
void ioapic_set(void *ctx, unsigned int pin, bool level);

#endif

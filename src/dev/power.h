/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power off, reset, and the power button. Off and reset are the sleep control, sleep status
 * and reset registers that the FADT of hardware-reduced ACPI names [ACPI 6.3 4.8.3.7 "Sleep Control and Status Registers"].
 */
#ifndef DEV_POWER_H
#define DEV_POWER_H
#include <base/types.h>
#include <dev/bus.h>
#include <dev/irq.h>

#define POWER_PORT          0x600
#define POWER_PORTS         4
#define POWER_SLEEP_CONTROL 0 /* offsets from POWER_PORT */
#define POWER_SLEEP_STATUS  1
#define POWER_RESET_REG     2
#define POWER_STATUS        3 /* ours: see struct power */
#define POWER_RESET_VALUE   0x01
#define POWER_SLEEP_TYPE_S5 5

/*
 * The button is a control method device, which a Generic Event Device notifies when its
 * interrupt fires [ACPI 6.3 5.6.9 "Interrupt-signaled ACPI events"]. Behind the virtio slots.
 */
#define POWER_BUTTON_GSI 21

enum power_event {
	POWER_OFF,
	POWER_RESET,
};

/**
 * struct power - the registers; embedded in the VM.
 * @request: the guest wants this; called in the middle of its OUT instruction
 * @ctx: for @request
 * @told: the guest has written to POWER_STATUS; called with @ctx, may be NULL
 * @status: what it has written: the status of a run that ends by POWER_OFF; 0 at first
 * @has_told: it has written something
 */
struct power {
	void (*request)(void *ctx, enum power_event event);
	void *ctx;
	void (*told)(void *ctx);
	uint8_t status;
	bool has_told;
};

/** power_press() - press and release the button, whose line is @line. */
void power_press(const struct irq_line *line);

/* For bus_add_pio(bus, POWER_PORT, POWER_PORTS, …, power). */
extern const struct bus_ops power_bus_ops;

#endif

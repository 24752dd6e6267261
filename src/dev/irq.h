/* SPDX-License-Identifier: Apache-2.0 */
/* An interrupt line: what a device drives, without knowing which controller is behind it. */
#ifndef DEV_IRQ_H
#define DEV_IRQ_H
#include <base/types.h>

/**
 * struct irq_line - one wire from a device to an interrupt controller.
 * @set: drive it; called for every change and sometimes without one
 * @ctx: passed to @set
 * @gsi: global system interrupt, passed to @set
 *
 * Copied by value into the device at its init. A line without @set is not connected.
 */
struct irq_line {
	void (*set)(void *ctx, unsigned int gsi, bool level);
	void *ctx;
	unsigned int gsi;
};

/** irq_set() - drive a line high or low. */
static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->ctx, line->gsi, level);
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Sleep control, sleep status and reset registers of hardware-reduced ACPI. */
#include <dev/power.h>

#define SLEEP_TYPE(v) (((v) >> 2) & 7)
#define SLEEP_ENABLE  0x20

static uint64_t power_read(void *ctx, uint64_t off, unsigned int size)
{
	/* Nothing to wake from, so the wake status is never set. */
	(void)ctx;
	(void)off;
	(void)size;
	return 0;
}

static void tell_status(struct power *power, uint8_t status)
{
	power->status = status;
	power->has_told = true;
	if (power->told)
		power->told(power->ctx);
}

static void power_write(void *ctx, uint64_t off, unsigned int size,
			uint64_t value)
{
	struct power *power = ctx;

	(void)size;
	if (off == POWER_SLEEP_CONTROL && (value & SLEEP_ENABLE) &&
	    SLEEP_TYPE(value) == POWER_SLEEP_TYPE_S5)
		power->request(power->ctx, POWER_OFF);
	else if (off == POWER_RESET_REG && value == POWER_RESET_VALUE)
		power->request(power->ctx, POWER_RESET);
	else if (off == POWER_STATUS)
		tell_status(power, (uint8_t)value);
}

void power_press(const struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}

const struct bus_ops power_bus_ops = {
	.name = "power",
	.max_size = 1,
	.read = power_read,
	.write = power_write,
};

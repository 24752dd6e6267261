/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest that does anything to the other devices: ports, APIC registers in both modes,
 * the I/O APIC, and time that goes on in jumps. Checked after each step: what is pending
 * outranks what is in service, and the next event never lies in the past.
 *
 * Records: one byte of operation, one of target, two of offset, eight of value.
 */
#include <stdint.h>
#include <string.h>

#include <base/verify.h>
#include <dev/apic_bus.h>
#include <dev/bus.h>
#include <dev/debug_exit.h>
#include <dev/ioapic.h>
#include <dev/lapic.h>
#include <dev/power.h>
#include <dev/rtc.h>
#include <dev/serial.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define N_CPUS       3
#define RECORD_BYTES 12
#define MAX_RECORDS  2000

struct machine_under_test {
	struct dev_clock clock;
	uint64_t ns;
	struct apic_bus apics;
	struct lapic cpus[N_CPUS];
	struct ioapic ioapic;
	struct serial serial;
	struct rtc rtc;
	struct power power;
	struct debug_exit debug_exit;
	struct bus *bus;
	uint64_t sent;
};

static uint64_t now(void *ctx)
{
	return ((struct machine_under_test *)ctx)->ns;
}

static void on_kick(void *ctx, unsigned int cpu)
{
	(void)ctx;
	VERIFY(cpu < N_CPUS);
}

static const struct apic_bus_ops apic_ops = {.kick = on_kick};

static void on_transmit(void *ctx, const uint8_t *bytes, size_t len)
{
	VERIFY(bytes && len && len <= SERIAL_TX_BYTES);
	((struct machine_under_test *)ctx)->sent += len;
}

static void on_room(void *ctx)
{
	VERIFY(serial_room(&((struct machine_under_test *)ctx)->serial) > 0);
}

static const struct serial_ops serial_end = {on_transmit, on_room};

static void on_power(void *ctx, enum power_event event)
{
	(void)ctx;
	VERIFY(event == POWER_OFF || event == POWER_RESET);
}

static void on_debug_exit(void *ctx, int status)
{
	(void)ctx;
	VERIFY(status & 1);
}

static void build(struct machine_under_test *m)
{
	const struct irq_line com1 = {ioapic_set, &m->ioapic, SERIAL_COM1_GSI};

	m->clock = (struct dev_clock){now, now, now, m, 1000000000};
	apic_bus_init(&m->apics, &apic_ops, m);
	ioapic_init(&m->ioapic, &m->apics);
	for (unsigned int i = 0; i < N_CPUS; i++)
		lapic_init(&m->cpus[i], &m->apics, &m->clock, i, 40);
	serial_init(&m->serial, &com1, &serial_end, m);
	rtc_init(&m->rtc, &m->clock);
	m->power = (struct power){on_power, m};
	m->debug_exit = (struct debug_exit){on_debug_exit, m};
	VERIFY(!bus_new(&m->bus, NULL) &&
	       !bus_add_pio(m->bus, SERIAL_COM1_PORT, SERIAL_PORTS,
			    &serial_bus_ops, &m->serial, NULL) &&
	       !bus_add_pio(m->bus, RTC_PORT, RTC_PORTS, &rtc_bus_ops, &m->rtc,
			    NULL) &&
	       !bus_add_pio(m->bus, POWER_PORT, POWER_PORTS, &power_bus_ops,
			    &m->power, NULL) &&
	       !bus_add_pio(m->bus, DEBUG_EXIT_PORT, DEBUG_EXIT_PORTS,
			    &debug_exit_bus_ops, &m->debug_exit, NULL) &&
	       !bus_add_mmio(m->bus, gpa(IOAPIC_BASE), IOAPIC_MMIO_BYTES,
			     &ioapic_bus_ops, &m->ioapic, NULL));
}

static uint16_t some_port(uint8_t target, uint16_t off)
{
	static const uint16_t starts[] = {SERIAL_COM1_PORT, RTC_PORT,
					  POWER_PORT, DEBUG_EXIT_PORT, 0};

	return (uint16_t)(starts[target % ARRAY_SIZE(starts)] + off % 10);
}

static void step_lapic(struct lapic *lapic, uint8_t op, uint16_t off,
		       uint64_t value)
{
	static const uint32_t msrs[] = {MSR_APIC_BASE, MSR_TSC_DEADLINE};
	uint32_t x2 = MSR_X2APIC_FIRST + off % 0x100U;
	uint32_t msr = off & 0x400 ? msrs[off & 1] : x2;
	int pending = lapic_pending(lapic);
	uint64_t got;
	bool ok;

	switch (op % 6) {
	case 0:
		(void)lapic_mmio_read(lapic, off % LAPIC_MMIO_BYTES,
				      1U << (value % 4));
		break;
	case 1:
		lapic_mmio_write(lapic, off % LAPIC_MMIO_BYTES, 4, value);
		break;
	case 2:
		ok = lapic_msr_read(lapic, msr, &got);
		VERIFY(ok || msr != MSR_APIC_BASE);
		break;
	case 3:
		/* Most values are meant to be legal. */
		if (msr == MSR_APIC_BASE && (off & 0x800))
			value = LAPIC_DEFAULT_BASE | (value & 0xd00);
		ok = lapic_msr_write(lapic, msr, value);
		VERIFY(ok || msr != MSR_TSC_DEADLINE);
		break;
	case 4:
		ok = lapic_set_cr8(lapic, value & 0x1f);
		VERIFY(ok == !(value & 0x10));
		break;
	default:
		if (pending >= 0)
			lapic_accept(lapic, pending);
		break;
	}
}

static void check_lapic(struct lapic *lapic, uint64_t ns)
{
	int pending = lapic_pending(lapic);

	VERIFY(pending == -1 ||
	       (pending >= 16 && pending >> 4 > lapic_ppr(lapic) >> 4));
	VERIFY(lapic_next_event_ns(lapic, ns, ns) >= ns);
}

static void step(struct machine_under_test *m, const uint8_t *record)
{
	uint8_t op = record[0] >> 3;
	uint8_t target = record[1];
	uint16_t off;
	uint64_t value;
	struct lapic *lapic = &m->cpus[target % N_CPUS];

	memcpy(&off, record + 2, sizeof(off));
	memcpy(&value, record + 4, sizeof(value));
	switch (record[0] & 7) {
	case 0:
		bus_pio_read(m->bus, some_port(target, off), 1U << (op % 3),
			     &value);
		break;
	case 1:
		bus_pio_write(m->bus, some_port(target, off), 1U << (op % 3),
			      value & UINT32_MAX);
		break;
	case 2:
		bus_mmio_write(m->bus, gpa(IOAPIC_BASE + off % 0x50), 4,
			       value & UINT32_MAX);
		break;
	case 3:
		bus_mmio_read(m->bus, gpa(IOAPIC_BASE + off % 0x50),
			      1U << (op % 4), &value);
		break;
	case 4:
		ioapic_set(&m->ioapic, target, off & 1);
		break;
	case 5:
		(void)serial_receive(&m->serial, record, off % RECORD_BYTES);
		serial_flush(&m->serial);
		break;
	case 6:
		m->ns += value % 10000000000;
		for (unsigned int i = 0; i < N_CPUS; i++)
			lapic_poll(&m->cpus[i], m->ns, m->ns);
		break;
	default:
		step_lapic(lapic, op, off, value);
		break;
	}
	for (unsigned int i = 0; i < N_CPUS; i++)
		check_lapic(&m->cpus[i], m->ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct machine_under_test m = {.ns = 1000};
	unsigned int n = 0;

	build(&m);
	for (; size >= RECORD_BYTES && n < MAX_RECORDS; n++) {
		step(&m, data);
		data += RECORD_BYTES;
		size -= RECORD_BYTES;
	}
	serial_flush(&m.serial);
	VERIFY(m.sent == m.serial.stats.tx_bytes);
	bus_free(m.bus);
	return 0;
}

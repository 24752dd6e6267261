/* SPDX-License-Identifier: Apache-2.0 */
/* Pins, redirection entries, and the way of a level-triggered interrupt and back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dev/bus.h>
#include <dev/ioapic.h>
#include <dev/lapic.h>

#define REMOTE_IRR 0x4000
#define LEVEL      0x8000
#define MASKED     0x10000

struct fixture {
	struct apic_bus apics;
	struct dev_clock clock;
	struct lapic cpus[2];
	struct ioapic io;
	struct bus *bus;
	unsigned int nmis;
};

static uint64_t zero(void *ctx)
{
	(void)ctx;
	return 0;
}

static void on_nmi(void *ctx, unsigned int cpu)
{
	((struct fixture *)ctx)->nmis += cpu + 1;
}

static const struct apic_bus_ops apic_ops = {.nmi = on_nmi};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){.clock = {zero, zero, zero, NULL, 1000000000}};
	apic_bus_init(&f.apics, &apic_ops, &f);
	ioapic_init(&f.io, &f.apics);
	for (unsigned int i = 0; i < 2; i++) {
		lapic_init(&f.cpus[i], &f.apics, &f.clock, i, 40);
		lapic_mmio_write(&f.cpus[i], 0xf0, 4, 0x1ff);
		lapic_mmio_write(&f.cpus[i], 0xd0, 4, 1u << (24 + i));
	}
	if (bus_new(&f.bus, NULL) ||
	    bus_add_mmio(f.bus, gpa(IOAPIC_BASE), IOAPIC_MMIO_BYTES,
			 &ioapic_bus_ops, &f.io, NULL))
		return -1;
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->bus = bus_free(f->bus);
	return 0;
}

static uint32_t rd(struct fixture *f, uint32_t idx)
{
	uint64_t v = 0;

	assert_true(bus_mmio_write(f->bus, gpa(IOAPIC_BASE), 4, idx));
	assert_true(bus_mmio_read(f->bus, gpa(IOAPIC_BASE + 0x10), 4, &v));
	return (uint32_t)v;
}

static void wr(struct fixture *f, uint32_t idx, uint32_t value)
{
	assert_true(bus_mmio_write(f->bus, gpa(IOAPIC_BASE), 4, idx));
	assert_true(bus_mmio_write(f->bus, gpa(IOAPIC_BASE + 0x10), 4, value));
}

static void set_pin(struct fixture *f, unsigned int pin, uint8_t dest,
		    uint32_t low)
{
	wr(f, 0x11 + pin * 2, (uint32_t)dest << 24);
	wr(f, 0x10 + pin * 2, low);
}

static void take(struct fixture *f, unsigned int cpu, int vector)
{
	assert_int_equal(lapic_pending(&f->cpus[cpu]), vector);
	lapic_accept(&f->cpus[cpu], vector);
}

static void eoi(struct fixture *f, unsigned int cpu)
{
	lapic_mmio_write(&f->cpus[cpu], 0xb0, 4, 0);
}

static void test_registers(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 1), 0x00170020);
	wr(f, 0, 0xffffffff);
	assert_int_equal(rd(f, 0), 0x0f000000);
	assert_int_equal(rd(f, 0x10), MASKED);
	assert_int_equal(rd(f, 0x3e), MASKED);
	assert_int_equal(rd(f, 0x40), 0); /* no pin 24 */
	wr(f, 0x40, 0x1234);
	wr(f, 0x12, 0xffffffff);
	assert_int_equal(rd(f, 0x12), 0x1afff & ~REMOTE_IRR);
	wr(f, 0x13, 0xffffffff);
	assert_int_equal(rd(f, 0x13), 0xff000000);
}

static void test_edge(void **state)
{
	struct fixture *f = *state;

	set_pin(f, 4, 1, 0x34);
	ioapic_set(&f->io, 4, true);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	take(f, 1, 0x34);
	ioapic_set(&f->io, 4, true); /* no edge */
	eoi(f, 1);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	ioapic_set(&f->io, 4, false);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	ioapic_set(&f->io, 4, true);
	take(f, 1, 0x34);
	assert_int_equal(rd(f, 0x18), 0x34);
	/* A masked edge is lost. */
	set_pin(f, 4, 1, 0x34 | MASKED);
	ioapic_set(&f->io, 4, false);
	ioapic_set(&f->io, 4, true);
	set_pin(f, 4, 1, 0x34);
	eoi(f, 1);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	assert_int_equal(f->io.stats.masked, 1);
	ioapic_set(&f->io, IOAPIC_PINS, true); /* no such pin: nothing */
}

static void test_level(void **state)
{
	struct fixture *f = *state;

	set_pin(f, 5, 0, 0x51 | LEVEL);
	ioapic_set(&f->io, 5, true);
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL | REMOTE_IRR);
	take(f, 0, 0x51);
	/* Still high at the end: again. */
	eoi(f, 0);
	take(f, 0, 0x51);
	assert_int_equal(f->io.stats.levels, 2);
	ioapic_set(&f->io, 5, false);
	eoi(f, 0);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL);
}

static void test_level_masked(void **state)
{
	struct fixture *f = *state;

	set_pin(f, 5, 0, 0x51 | LEVEL | MASKED);
	ioapic_set(&f->io, 5, true);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	/* A level is remembered. */
	set_pin(f, 5, 0, 0x51 | LEVEL);
	take(f, 0, 0x51);
	/* Masked in flight: its end does not repeat it. */
	set_pin(f, 5, 0, 0x51 | LEVEL | MASKED);
	eoi(f, 0);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL | MASKED);
}

static void test_eoi_register(void **state)
{
	struct fixture *f = *state;

	set_pin(f, 5, 0, 0x51 | LEVEL);
	ioapic_set(&f->io, 5, true);
	ioapic_set(&f->io, 5, false);
	assert_true(bus_mmio_write(f->bus, gpa(IOAPIC_BASE + 0x40), 4, 0x50));
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL | REMOTE_IRR);
	assert_true(bus_mmio_write(f->bus, gpa(IOAPIC_BASE + 0x40), 4, 0x51));
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL);
	/* Turned to edge, what was in flight is forgotten. */
	ioapic_set(&f->io, 5, true);
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL | REMOTE_IRR);
	set_pin(f, 5, 0, 0x51);
	assert_int_equal(rd(f, 0x1a), 0x51);
}

static void test_nobody_there(void **state)
{
	struct fixture *f = *state;

	/* An unclaimed level does not wait for an end that nobody will send. */
	set_pin(f, 5, 9, 0x51 | LEVEL);
	ioapic_set(&f->io, 5, true);
	assert_int_equal(rd(f, 0x1a), 0x51 | LEVEL);
	assert_int_equal(f->apics.stats.unclaimed, 1);
	wr(f, 0x1b, 0);
	take(f, 0, 0x51);
}

static void test_destinations(void **state)
{
	struct fixture *f = *state;

	set_pin(f, 1, 0xff, 0x61);
	ioapic_set(&f->io, 1, true);
	take(f, 0, 0x61);
	take(f, 1, 0x61);
	set_pin(f, 2, 2, 0x71 | 0x800); /* logical: the second */
	ioapic_set(&f->io, 2, true);
	assert_int_equal(lapic_pending(&f->cpus[0]), -1);
	take(f, 1, 0x71);
	set_pin(f, 3, 3, 0x81 | 0x900); /* lowest priority of both */
	ioapic_set(&f->io, 3, true);
	take(f, 0, 0x81);
	assert_int_equal(lapic_pending(&f->cpus[1]), -1);
	set_pin(f, 6, 1, 0x400); /* NMI */
	ioapic_set(&f->io, 6, true);
	assert_int_equal(f->nmis, 2);
	set_pin(f, 7, 0, 0x700); /* ExtINT: nobody */
	ioapic_set(&f->io, 7, true);
	assert_int_equal(f->apics.stats.unsupported, 1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_registers),    T(test_edge),
		T(test_level),        T(test_level_masked),
		T(test_eoi_register), T(test_nobody_there),
		T(test_destinations),
	};

	return cmocka_run_group_tests_name("ioapic", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Which device answers where, how accesses are cut, what nobody claims. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dev/bus.h>

/* A device that is 16 bytes of memory and remembers the last access. */
struct memory {
	uint8_t bytes[16];
	uint64_t off;
	unsigned int size;
	unsigned int n;
};

static uint64_t memory_read(void *ctx, uint64_t off, unsigned int size)
{
	struct memory *m = ctx;
	uint64_t value = UINT64_MAX; /* junk above the size is to be cut off */

	assert_true(off + size <= sizeof(m->bytes));
	for (unsigned int i = 0; i < size; i++) {
		value &= ~(UINT64_C(0xff) << (i * 8));
		value |= (uint64_t)m->bytes[off + i] << (i * 8);
	}
	m->off = off;
	m->size = size;
	m->n++;
	return value;
}

static void memory_write(void *ctx, uint64_t off, unsigned int size,
			 uint64_t value)
{
	struct memory *m = ctx;

	assert_true(off + size <= sizeof(m->bytes));
	if (size < 8)
		assert_int_equal(value >> (size * 8), 0);
	for (unsigned int i = 0; i < size; i++)
		m->bytes[off + i] = (uint8_t)(value >> (i * 8));
	m->off = off;
	m->size = size;
	m->n++;
}

static const struct bus_ops wide_ops = {"wide", 8, memory_read, memory_write};
static const struct bus_ops byte_ops = {"byte", 1, memory_read, memory_write};

struct fixture {
	struct bus *bus;
	struct memory wide;
	struct memory narrow;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	if (bus_new(&f.bus, NULL) ||
	    bus_add_mmio(f.bus, gpa(0x1000), 16, &wide_ops, &f.wide, NULL) ||
	    bus_add_pio(f.bus, 0x3f8, 8, &byte_ops, &f.narrow, NULL))
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

static void test_routes(void **state)
{
	struct fixture *f = *state;
	uint64_t v;

	assert_true(bus_mmio_write(f->bus, gpa(0x1008), 8, 0x1122334455667788));
	assert_int_equal(f->wide.off, 8);
	assert_int_equal(f->wide.size, 8);
	assert_int_equal(f->wide.n, 1);
	assert_true(bus_mmio_read(f->bus, gpa(0x100a), 2, &v));
	assert_int_equal(v, 0x5566);
	assert_true(bus_mmio_read(f->bus, gpa(0x1008), 4, &v));
	assert_int_equal(v, 0x55667788);
	assert_int_equal(f->narrow.n, 0);
}

static void test_cuts_wide_accesses(void **state)
{
	struct fixture *f = *state;
	uint64_t v;

	assert_true(bus_pio_write(f->bus, 0x3f8, 4, 0xddccbbaa));
	assert_int_equal(f->narrow.n, 4);
	assert_int_equal(f->narrow.bytes[0], 0xaa);
	assert_int_equal(f->narrow.bytes[3], 0xdd);
	assert_true(bus_pio_read(f->bus, 0x3f9, 2, &v));
	assert_int_equal(v, 0xccbb);
	assert_int_equal(f->narrow.size, 1);
}

static void test_unclaimed(void **state)
{
	struct fixture *f = *state;
	struct bus_counters c;
	uint64_t v;

	assert_false(bus_pio_read(f->bus, 0x80, 1, &v));
	assert_int_equal(v, 0xff);
	assert_false(bus_pio_read(f->bus, 0x80, 4, &v));
	assert_int_equal(v, 0xffffffff);
	assert_false(bus_mmio_read(f->bus, gpa(0x2000), 8, &v));
	assert_true(v == UINT64_MAX);
	assert_false(bus_pio_write(f->bus, 0x80, 2, 1));

	assert_true(bus_counters_get(f->bus, 0, &c));
	assert_string_equal(c.name, "unclaimed-pio");
	assert_int_equal(c.reads, 5); /* by byte */
	assert_int_equal(c.writes, 2);
	assert_true(bus_counters_get(f->bus, 1, &c));
	assert_int_equal(c.reads, 8);
}

/* What sticks out of a region is unclaimed, the rest is answered. */
static void test_straddles(void **state)
{
	struct fixture *f = *state;
	uint64_t v;

	f->wide.bytes[14] = 0x12;
	f->wide.bytes[15] = 0x34;
	assert_false(bus_mmio_read(f->bus, gpa(0x100e), 4, &v));
	assert_int_equal(v, 0xffff3412);
	assert_false(bus_mmio_write(f->bus, gpa(0xffe), 4, 0xaabbccdd));
	assert_int_equal(f->wide.bytes[0], 0xbb);
	assert_int_equal(f->wide.bytes[1], 0xaa);
	/* The last port and the end of the address space do not wrap into a region. */
	assert_false(bus_pio_read(f->bus, 0xffff, 4, &v));
	assert_int_equal(v, 0xffffffff);
	assert_false(bus_mmio_read(f->bus, gpa(UINT64_MAX), 8, &v));
	assert_true(v == UINT64_MAX);
}

static void test_refuses(void **state)
{
	struct fixture *f = *state;
	struct err err;

	assert_int_equal(bus_add_pio(f->bus, 0x3ff, 1, &byte_ops, NULL, &err),
			 -EEXIST);
	assert_string_equal(err.text, "byte at 0x3ff overlaps byte at 0x3f8");
	assert_int_equal(bus_add_pio(f->bus, 0x3f0, 9, &byte_ops, NULL, &err),
			 -EEXIST);
	assert_int_equal(bus_add_pio(f->bus, 0x3f0, 8, &byte_ops, NULL, &err),
			 0);
	assert_int_equal(bus_add_pio(f->bus, 0xffff, 2, &byte_ops, NULL, &err),
			 -EINVAL);
	assert_int_equal(bus_add_pio(f->bus, 0x10, 0, &byte_ops, NULL, &err),
			 -EINVAL);
	assert_int_equal(bus_add_mmio(f->bus, gpa(UINT64_MAX - 15), 16,
				      &wide_ops, &f->wide, &err),
			 0);
	assert_int_equal(bus_add_mmio(f->bus, gpa(UINT64_MAX - 15), 17,
				      &wide_ops, NULL, &err),
			 -EINVAL);
	assert_int_equal(bus_add_mmio(f->bus, gpa(0x800), 0x800 + 1, &wide_ops,
				      NULL, &err),
			 -EEXIST);
}

static void test_is_bounded(void **state)
{
	struct fixture *f = *state;
	struct bus_counters c;
	unsigned int n = 1;

	while (!bus_add_pio(f->bus, (uint16_t)(0x1000 + n * 8), 8, &byte_ops,
			    &f->narrow, NULL))
		n++;
	assert_int_equal(n, BUS_REGIONS_MAX);
	assert_int_equal(bus_add_pio(f->bus, 0x9000, 1, &byte_ops, NULL, NULL),
			 -ENOSPC);
	assert_true(bus_counters_get(f->bus, 2 + BUS_REGIONS_MAX, &c));
	assert_string_equal(c.name, "wide");
	assert_int_equal(c.start, 0x1000);
	assert_false(bus_counters_get(f->bus, 3 + BUS_REGIONS_MAX, &c));
}

static void test_counts(void **state)
{
	struct fixture *f = *state;
	struct bus_counters c;
	uint64_t v;

	bus_pio_read(f->bus, 0x3f8, 4, &v);
	bus_pio_write(f->bus, 0x3f8, 1, 0);
	bus_pio_write(f->bus, 0x3f9, 1, 0);
	assert_true(bus_counters_get(f->bus, 2, &c));
	assert_string_equal(c.name, "byte");
	assert_int_equal(c.start, 0x3f8);
	assert_int_equal(c.reads, 1);
	assert_int_equal(c.writes, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_routes),    T(test_cuts_wide_accesses),
		T(test_unclaimed), T(test_straddles),
		T(test_refuses),   T(test_is_bounded),
		T(test_counts),
	};

	return cmocka_run_group_tests_name("bus", tests, NULL, NULL);
}

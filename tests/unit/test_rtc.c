/* SPDX-License-Identifier: Apache-2.0 */
/* The CMOS clock: reading, formats, and setting it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dev/rtc.h>

#define S UINT64_C(1000000000)

struct fixture {
	struct rtc rtc;
	struct dev_clock clock;
	uint64_t wall_ns;
};

static uint64_t wall(void *ctx)
{
	return ((struct fixture *)ctx)->wall_ns;
}

static int setup(void **state)
{
	static struct fixture f;

	/* Tuesday, 2024-02-27 22:59:58 UTC. */
	f = (struct fixture){.wall_ns = UINT64_C(1709074798) * S};
	f.clock = (struct dev_clock){.wall_ns = wall, .ctx = &f};
	rtc_init(&f.rtc, &f.clock);
	*state = &f;
	return 0;
}

static uint8_t rd(struct fixture *f, uint8_t reg)
{
	rtc_bus_ops.write(&f->rtc, 0, 1, reg);
	return (uint8_t)rtc_bus_ops.read(&f->rtc, 1, 1);
}

static void wr(struct fixture *f, uint8_t reg, uint8_t value)
{
	rtc_bus_ops.write(&f->rtc, 0, 1, reg);
	rtc_bus_ops.write(&f->rtc, 1, 1, value);
}

static void test_bcd(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rd(f, 0x0a) & 0x80, 0); /* never busy */
	assert_int_equal(rd(f, 0x0d), 0x80);
	assert_int_equal(rd(f, 0x80 | 0x00), 0x58); /* bit 7 is the NMI mask */
	assert_int_equal(rd(f, 0x02), 0x59);
	assert_int_equal(rd(f, 0x04), 0x22);
	assert_int_equal(rd(f, 0x06), 0x03);
	assert_int_equal(rd(f, 0x07), 0x27);
	assert_int_equal(rd(f, 0x08), 0x02);
	assert_int_equal(rd(f, 0x09), 0x24);
	assert_int_equal(rd(f, 0x32), 0x20);
	f->wall_ns += 2 * S;
	assert_int_equal(rd(f, 0x00), 0x00);
	assert_int_equal(rd(f, 0x04), 0x23);
}

static void test_binary_and_12_hours(void **state)
{
	struct fixture *f = *state;

	wr(f, 0x0b, 0x06);
	assert_int_equal(rd(f, 0x00), 58);
	assert_int_equal(rd(f, 0x04), 22);
	wr(f, 0x0b, 0x00);
	assert_int_equal(rd(f, 0x04), 0x90); /* 10 pm */
	f->wall_ns += 2 * 3600 * S;
	assert_int_equal(rd(f, 0x04), 0x12); /* 12 am */
	wr(f, 0x0b, 0x04);
	f->wall_ns += 13 * 3600 * S;
	assert_int_equal(rd(f, 0x04), 0x81);
}

static void test_set(void **state)
{
	struct fixture *f = *state;

	wr(f, 0x0b, 0x82); /* hold */
	f->wall_ns += 100 * S;
	assert_int_equal(rd(f, 0x00), 0x58);
	wr(f, 0x00, 0x07);
	wr(f, 0x02, 0x06);
	wr(f, 0x04, 0x05);
	wr(f, 0x07, 0x04);
	wr(f, 0x08, 0x03);
	wr(f, 0x09, 0x99);
	wr(f, 0x32, 0x19);
	wr(f, 0x0b, 0x02);
	f->wall_ns += S;
	assert_int_equal(rd(f, 0x00), 0x08);
	assert_int_equal(rd(f, 0x04), 0x05);
	assert_int_equal(rd(f, 0x09), 0x99);
	assert_int_equal(rd(f, 0x32), 0x19);
	assert_int_equal(rd(f, 0x06), 0x05); /* 4 March 1999 was a Thursday */
	/* Before the year 0 it goes round. */
	wr(f, 0x0b, 0x82);
	wr(f, 0x07, 0);
	wr(f, 0x08, 0);
	wr(f, 0x09, 0);
	wr(f, 0x32, 0);
	wr(f, 0x0b, 0x02);
	assert_int_equal(rd(f, 0x32), 0x99);
	assert_int_equal(rd(f, 0x09), 0x99);
	/* One register alone, and nonsense, which must only not crash. */
	wr(f, 0x02, 0x30);
	assert_int_equal(rd(f, 0x02), 0x30);
	assert_int_equal(rd(f, 0x00), 0x08);
	for (uint8_t reg = 0; reg < 10; reg++)
		wr(f, reg, 0xff);
	rd(f, 0x09);
}

static void test_ram(void **state)
{
	struct fixture *f = *state;

	wr(f, 0x7f, 0x5a);
	wr(f, 0x40, 0xa5);
	assert_int_equal(rd(f, 0x7f), 0x5a);
	assert_int_equal(rd(f, 0x40), 0xa5);
	wr(f, 0x0d, 0);
	assert_int_equal(rd(f, 0x0d), 0x80);
}

#define T(name) cmocka_unit_test_setup(name, setup)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_bcd),
		T(test_binary_and_12_hours),
		T(test_set),
		T(test_ram),
	};

	return cmocka_run_group_tests_name("rtc", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The paravirtual clock: scale factors, pages, versions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/kvmclock.h>
#include <mem/guestmem.h>

__extension__ typedef unsigned __int128 uint128_t;

struct fixture {
	struct guestmem *mem;
	struct dev_clock clock;
	uint64_t ns;
	uint64_t tsc;
	uint64_t wall_ns;
	struct kvmclock kc;
};

static uint64_t now_ns(void *ctx)
{
	return ((struct fixture *)ctx)->ns;
}

static uint64_t now_tsc(void *ctx)
{
	return ((struct fixture *)ctx)->tsc;
}

static uint64_t wall_ns(void *ctx)
{
	return ((struct fixture *)ctx)->wall_ns;
}

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){
		.clock = {now_ns, now_tsc, wall_ns, &f, 2600000000},
		.ns = 5000000000,
		.tsc = 123456789,
		.wall_ns = UINT64_C(1700000005123456789),
	};
	if (guestmem_new(4 << 20, &f.mem, NULL))
		return -1;
	kvmclock_init(&f.kc, f.mem, &f.clock);
	kvmclock_update(&f.kc, NULL);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->mem = guestmem_free(f->mem);
	return 0;
}

static uint64_t scale(uint64_t ticks, uint32_t mul, int8_t shift)
{
	ticks = shift < 0 ? ticks >> -shift : ticks << shift;
	return (uint64_t)((uint128_t)ticks * mul >> 32);
}

static void test_scale(void **state)
{
	static const uint64_t hz[] = {1000,       32768,        1000000,
				      999999999,  1000000000,   1000000001,
				      2599998765, 4000000000,   5800000000,
				      1999999999, 1000000000000};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(hz); i++) {
		uint32_t mul;
		int8_t shift;

		kvmclock_scale(hz[i], &mul, &shift);
		assert_true(mul >> 31); /* full precision */
		/* One hour: exact to a microsecond (2^-31 relative). */
		uint64_t ns = scale(hz[i] * 3600, mul, shift);

		assert_in_range(ns, UINT64_C(3599999995000),
				UINT64_C(3600000000000));
	}
}

struct page {
	uint32_t version, pad;
	uint64_t tsc, ns;
	uint32_t mul;
	int8_t shift;
	uint8_t flags, pad2[2];
};

static struct page get_page(struct fixture *f, uint64_t addr)
{
	struct page page;

	assert_true(guestmem_read(f->mem, gpa(addr), &page, sizeof(page)));
	return page;
}

static void test_system_time(void **state)
{
	struct fixture *f = *state;

	/* Near the end of a page, as a guest may place it. */
	kvmclock_msr_write(&f->kc, KVM_PV_MSR_SYSTEM_TIME, 0x10fe0 | 1);
	assert_int_equal(kvmclock_msr_read(&f->kc, KVM_PV_MSR_SYSTEM_TIME),
			 0x10fe1);

	struct page p = get_page(f, 0x10fe0);

	assert_int_equal(p.version, 2);
	assert_int_equal(p.flags, 1);
	assert_int_equal(p.tsc, 123456789);
	assert_int_equal(p.ns, 5000000000);
	/* A second later the guest computes a second more. */
	assert_in_range(p.ns + scale(2600000000, p.mul, p.shift), 5999999998,
			6000000000);

	/* The VM was paused: the TSC stood still, time did not. */
	f->ns += 7000000000;
	kvmclock_update(&f->kc, NULL);
	p = get_page(f, 0x10fe0);
	assert_int_equal(p.version, 4);
	assert_int_equal(p.ns, 12000000000);

	/* Switched off, the page is left alone. */
	kvmclock_msr_write(&f->kc, KVM_PV_MSR_SYSTEM_TIME, 0x10fe0);
	kvmclock_update(&f->kc, NULL);
	assert_int_equal(get_page(f, 0x10fe0).version, 4);
	assert_int_equal(f->kc.stats.updates, 2);
}

static void test_stopped(void **state)
{
	struct fixture *f = *state;
	struct page p;

	/* Nobody to tell. */
	kvmclock_tell_stopped(&f->kc);
	assert_int_equal(f->kc.stats.stops, 0);
	assert_int_equal(f->kc.stats.updates, 0);

	kvmclock_msr_write(&f->kc, KVM_PV_MSR_SYSTEM_TIME, 0x2001);
	kvmclock_tell_stopped(&f->kc);
	p = get_page(f, 0x2000);
	assert_int_equal(p.flags, 3);
	assert_int_equal(p.version, 4);
	/* Time goes on as before: it was not paused with the processor. */
	assert_int_equal(p.tsc, 123456789);
	assert_int_equal(p.ns, 5000000000);
	assert_int_equal(f->kc.stats.stops, 1);
}

static void test_followers_agree(void **state)
{
	struct fixture *f = *state;
	struct kvmclock other;

	f->ns += 40; /* the second processor is made a little later */
	kvmclock_init(&other, f->mem, &f->clock);
	kvmclock_update(&other, &f->kc);
	kvmclock_msr_write(&f->kc, KVM_PV_MSR_SYSTEM_TIME_OLD, 0x2001);
	kvmclock_msr_write(&other, KVM_PV_MSR_SYSTEM_TIME, 0x2041);

	struct page a = get_page(f, 0x2000);
	struct page b = get_page(f, 0x2040);

	assert_memory_equal(&a, &b, sizeof(a));
}

static void test_wall_clock(void **state)
{
	struct fixture *f = *state;
	uint32_t page[3];

	kvmclock_msr_write(&f->kc, KVM_PV_MSR_WALL_CLOCK, 0x3000);
	assert_true(guestmem_read(f->mem, gpa(0x3000), page, sizeof(page)));
	assert_int_equal(page[0], 2);
	assert_int_equal(page[1], 1700000000); /* at system time zero */
	assert_int_equal(page[2], 123456789);
	kvmclock_msr_write(&f->kc, KVM_PV_MSR_WALL_CLOCK_OLD, 0x3000);
	assert_true(guestmem_read(f->mem, gpa(0x3000), page, sizeof(page)));
	assert_int_equal(page[0], 4);
	assert_int_equal(kvmclock_msr_read(&f->kc, KVM_PV_MSR_WALL_CLOCK_OLD),
			 0x3000);
}

static void test_bad_address(void **state)
{
	struct fixture *f = *state;

	kvmclock_msr_write(&f->kc, KVM_PV_MSR_SYSTEM_TIME, 0xd0000001);
	kvmclock_msr_write(&f->kc, KVM_PV_MSR_WALL_CLOCK, UINT64_MAX - 3);
	assert_int_equal(f->kc.stats.bad_address, 2);
	assert_int_equal(f->kc.stats.updates, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_scale),           T(test_system_time),
		T(test_followers_agree), T(test_wall_clock),
		T(test_bad_address),     T(test_stopped),
	};

	return cmocka_run_group_tests_name("kvmclock", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The entropy source: it fills what it says, and no more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dev/virtio_rng.h>

#include "virtio_driver.h"

struct fixture {
	struct driver d;
	struct virtio_rng *rng;
};

static int setup(void **state)
{
	static struct fixture f;

	f = (struct fixture){0};
	if (driver_init(&f.d) || virtio_rng_new(f.d.mem, NULL, &f.rng, NULL))
		return -1;
	driver_attach(&f.d, virtio_rng_dev(f.rng));
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	f->rng = virtio_rng_free(f->rng);
	driver_release(&f->d);
	return 0;
}

static void test_fills(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;
	uint8_t buf[700];
	unsigned int ones = 0;

	driver_start(d, 0, 1);
	assert_int_equal(driver_rd(d, R_ID), 4);
	driver_desc(d, driver_desc_at(0), 0, 0x100f80, 300, D_WRITE | D_NEXT, 1);
	driver_desc(d, driver_desc_at(0), 1, 0x200000, 300, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), 1);
	assert_int_equal(driver_used_len(d, 0, 0), 600);
	assert_int_equal(d->irqs, 1);

	driver_get(d, 0x100f80, buf, 350);
	driver_get(d, 0x200000, buf + 350, 350);
	for (unsigned int i = 0; i < 300; i++)
		ones += (unsigned int)(__builtin_popcount(buf[i]) +
				       __builtin_popcount(buf[350 + i]));
	/* 2400 of 4800 expected, 35 is a standard deviation. */
	assert_in_range(ones, 2400 - 300, 2400 + 300);
	for (unsigned int i = 300; i < 350; i++)
		assert_int_equal(buf[i] | buf[350 + i], 0);
	assert_int_equal(virtio_rng_stats(f->rng)->bytes, 600);
}

static void test_bounds_a_request(void **state)
{
	struct fixture *f = *state;
	struct driver *d = &f->d;

	driver_start(d, 0, 1);
	driver_desc(d, driver_desc_at(0), 0, 0x100000, 1 << 20, D_WRITE, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used_len(d, 0, 0), 65536);
	/* Nothing to fill: given back at once. */
	driver_desc(d, driver_desc_at(0), 0, 0x100000, 16, 0, 0);
	driver_offer(d, 0, 0);
	driver_kick(d, 0);
	assert_int_equal(driver_used(d, 0), 2);
	assert_int_equal(driver_used_len(d, 0, 1), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_fills),
		T(test_bounds_a_request),
	};

	return cmocka_run_group_tests_name("virtio_rng", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reservation, limit and shares. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/units.h>
#include <policy/alloc.h>

static void defaults_are_esxis(void **state)
{
	struct mem_alloc a;
	char buf[ALLOC_TEXT];

	(void)state;
	mem_alloc_init(&a);
	assert_string_equal(
		mem_alloc_format(&a, buf),
		"reservation=0B limit=unlimited shares=normal expandableReservation=true");
}

static void settings_are_read_and_written(void **state)
{
	struct mem_alloc a;
	char buf[ALLOC_TEXT];

	(void)state;
	mem_alloc_init(&a);
	assert_int_equal(mem_alloc_set(&a, "reservation", "128MiB", NULL), 0);
	assert_int_equal(mem_alloc_set(&a, "limit", "1GiB", NULL), 0);
	assert_int_equal(mem_alloc_set(&a, "shares", "4000", NULL), 0);
	assert_int_equal(mem_alloc_set(&a, "expandableReservation", "false",
				       NULL),
			 0);
	assert_string_equal(
		mem_alloc_format(&a, buf),
		"reservation=128MiB limit=1GiB shares=4000 expandableReservation=false");
	assert_int_equal(mem_alloc_set(&a, "limit", "unlimited", NULL), 0);
	assert_int_equal(a.limit_pages, ALLOC_UNLIMITED);
	assert_int_equal(mem_alloc_set(&a, "shares", "high", NULL), 0);
	assert_int_equal(a.level, SHARES_HIGH);
	assert_int_equal(mem_alloc_set(&a, "expandableReservation", "true", NULL),
			 0);
	assert_true(a.expandable);
}

static void bad_settings_change_nothing(void **state)
{
	static const struct {
		const char *key, *value;
		int code;
		const char *words;
	} bad[] = {
		{"reservation", "12", -EINVAL,
		 "reservation: size 12 has no unit"},
		{"limit", "never", -EINVAL, "limit: \"never\""},
		{"shares", "medium", -EINVAL, "neither low, normal, high"},
		{"shares", "0", -ERANGE, "shares: 0 is not in 1.."},
		{"shares", "1000000001", -ERANGE, "not in"},
		{"expandableReservation", "yes", -EINVAL,
		 "neither true nor false"},
		{"size", "1GiB", -ENOENT, "no memory setting"},
	};
	struct mem_alloc a, before;

	(void)state;
	mem_alloc_init(&a);
	before = a;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = {""};

		assert_int_equal(mem_alloc_set(&a, bad[i].key, bad[i].value,
					       &err),
				 bad[i].code);
		assert_non_null(strstr(err.text, bad[i].words));
		assert_int_equal(a.reservation_pages, before.reservation_pages);
		assert_int_equal(a.limit_pages, before.limit_pages);
		assert_int_equal(a.level, before.level);
		assert_int_equal(a.expandable, before.expandable);
	}
}

static void contradictions_are_refused(void **state)
{
	struct mem_alloc a;
	struct err err = {""};

	(void)state;
	mem_alloc_init(&a);
	assert_int_equal(mem_alloc_check_vm(&a, MIB_PAGES, NULL), 0);
	assert_int_equal(mem_alloc_check_vm(&a, 0, &err), -EINVAL);
	a.reservation_pages = 2 * MIB_PAGES;
	assert_int_equal(mem_alloc_check_vm(&a, MIB_PAGES, &err), -EINVAL);
	assert_string_equal(
		err.text,
		"reservation 2 MiB is larger than the VM's size 1 MiB");
	a.limit_pages = MIB_PAGES;
	assert_int_equal(mem_alloc_check_pool(&a, &err), -EINVAL);
	assert_string_equal(err.text,
			    "reservation 2 MiB is larger than limit 1 MiB");
	a.reservation_pages = a.limit_pages = 0;
	assert_int_equal(mem_alloc_check_vm(&a, MIB_PAGES, &err), -EINVAL);
	assert_int_equal(mem_alloc_check_pool(&a, &err), 0);
	a.level = SHARES_CUSTOM;
	assert_int_equal(mem_alloc_check_pool(&a, &err), -EINVAL);
}

static void shares_follow_size(void **state)
{
	struct mem_alloc a;

	(void)state;
	mem_alloc_init(&a);
	assert_int_equal(mem_alloc_vm_shares(&a, 256 * MIB_PAGES), 2560);
	assert_int_equal(mem_alloc_pool_shares(&a), 163840);
	a.level = SHARES_LOW;
	assert_int_equal(mem_alloc_vm_shares(&a, 256 * MIB_PAGES), 1280);
	assert_int_equal(mem_alloc_pool_shares(&a), 81920);
	a.level = SHARES_HIGH;
	assert_int_equal(mem_alloc_vm_shares(&a, 256 * MIB_PAGES), 5120);
	assert_int_equal(mem_alloc_pool_shares(&a), 327680);
	assert_int_equal(mem_alloc_vm_shares(&a, 1), 1);
	a.level = SHARES_CUSTOM;
	a.shares = 7;
	assert_int_equal(mem_alloc_vm_shares(&a, 256 * MIB_PAGES), 7);
	assert_string_equal(shares_level_name(SHARES_CUSTOM), "custom");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_esxis),
		cmocka_unit_test(settings_are_read_and_written),
		cmocka_unit_test(bad_settings_change_nothing),
		cmocka_unit_test(contradictions_are_refused),
		cmocka_unit_test(shares_follow_size),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

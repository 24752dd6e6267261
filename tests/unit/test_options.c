/* SPDX-License-Identifier: Apache-2.0 */
/* Advanced options: names, defaults, ranges, messages. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <policy/options.h>

static void defaults_are_valid_and_known(void **state)
{
	static const struct {
		const char *name;
		uint32_t value;
	} esxi[] = {
		{"Mem.AllocGuestLargePage", 1},
		{"Mem.BalancePeriod", 15},
		{"Mem.CtlMaxPercent", 65},
		{"Mem.IdleTax", 75},
		{"Mem.MemMinFreePct", 0},
		{"Mem.MemZipEnable", 1},
		{"Mem.MemZipMaxAllocPct", 50},
		{"Mem.MemZipMaxPct", 10},
		{"Mem.SampleActivePctMin", 1},
		{"Mem.SamplePeriod", 60},
		{"Mem.ShareForceSalting", 2},
		{"Mem.ShareRateMax", 1024},
		{"Mem.ShareScanGHz", 4},
		{"Mem.ShareScanTime", 60},
		{"Mem.VMOverheadGrowthLimit", OPTION_UNLIMITED},
	};
	struct options o;

	(void)state;
	options_init(&o);
	assert_int_equal(options_check(&o, NULL), 0);
	for (size_t i = 0; i < ARRAY_SIZE(esxi); i++) {
		enum option_id id;

		assert_int_equal(option_find(esxi[i].name, &id, NULL), 0);
		assert_int_equal(o.v[id], esxi[i].value);
		assert_string_equal(option_info(id)->name, esxi[i].name);
	}
}

static void table_is_sorted_and_described(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++) {
		const struct option_info *info = option_info((enum option_id)i);

		assert_true(strlen(info->description) > 10);
		assert_true(info->min <= info->value && info->value <= info->max);
		if (i > 0)
			assert_true(
				strcmp(option_info((enum option_id)(i - 1))->name,
				       info->name) < 0);
	}
}

static void values_round_trip(void **state)
{
	struct options a, b;
	char text[16];

	(void)state;
	options_init(&a);
	options_init(&b);
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++) {
		const struct option_info *info = option_info((enum option_id)i);

		a.v[i] = info->max;
		assert_int_equal(options_set(&b, info->name,
					     option_format(&a, (enum option_id)i,
							   text, sizeof(text)),
					     NULL),
				 0);
		assert_int_equal(b.v[i], info->max);
	}
	assert_int_equal(options_set(&b, "mem.minfreepct", "10", NULL), 0);
	assert_int_equal(b.v[OPT_MEM_MIN_FREE_PCT], 10);
}

static void mistakes_are_named(void **state)
{
	static const struct {
		const char *name, *value;
		int code;
		const char *words;
	} bad[] = {
		{"Mem.IdleTax", "100", -ERANGE,
		 "Mem.IdleTax: 100 is not in 0..99"},
		{"Mem.IdleTax", "many", -EINVAL, "Mem.IdleTax: \"many\""},
		{"Mem.IdleTax", "", -EINVAL, "not a whole number"},
		{"Mem.IdleTax", "unlimited", -EINVAL, "not a whole number"},
		{"Mem.IdelTax", "1", -ENOENT, "is Mem.IdleTax meant?"},
		{"Mem.Foo", "1", -ENOENT, "no option is called \"Mem.Foo\""},
		{"", "1", -ENOENT, "no option"},
		{"Mem.TierNvmePct", "1", -EOPNOTSUPP, "no NVMe memory tier"},
		{"Mem.AVeryLongNameThatNobodyWouldEverUseForAnOption", "1",
		 -ENOENT, "no option"},
	};
	struct options o, before;

	(void)state;
	options_init(&o);
	before = o;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err err = {""};

		assert_int_equal(options_set(&o, bad[i].name, bad[i].value, &err),
				 bad[i].code);
		assert_non_null(strstr(err.text, bad[i].words));
		assert_memory_equal(&o, &before, sizeof(o));
	}
	o.v[OPT_IDLE_TAX] = 100;
	{
		struct err err = {""};

		assert_int_equal(options_check(&o, &err), -ERANGE);
		assert_string_equal(err.text,
				    "Mem.IdleTax: 100 is not in 0..99");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(defaults_are_valid_and_known),
		cmocka_unit_test(table_is_sorted_and_described),
		cmocka_unit_test(values_round_trip),
		cmocka_unit_test(mistakes_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

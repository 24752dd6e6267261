/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations and numbers: what is read, what is refused, and with which words. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/rng.h>
#include <base/units.h>

static void sizes_are_read(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"0B", 0},
		{"1B", 1},
		{"4096B", 4096},
		{"1K", 1024},
		{"1k", 1024},
		{"1KB", 1024},
		{"1KiB", 1024},
		{"1kb", 1024},
		{"1kib", 1024},
		{"512MiB", 512u << 20},
		{"1.5G", UINT64_C(3) << 29},
		{"0.5MiB", 1u << 19},
		{"4TiB", UINT64_C(4) << 40},
		{"0.000001MiB", 2},
		{"1.500000GiB", UINT64_C(3) << 29},
		{"1.5000000000GiB", UINT64_C(3) << 29},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		uint64_t bytes = 77;

		assert_int_equal(size_parse(good[i].text, &bytes, NULL), 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void bad_sizes_are_refused(void **state)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} bad[] = {
		{"", -EINVAL, "not a size"},
		{"x", -EINVAL, "not a size"},
		{"-1MiB", -EINVAL, "not a size"},
		{" 1MiB", -EINVAL, "not a size"},
		{"512", -EINVAL, "no unit"},
		{"1.5", -EINVAL, "no unit"},
		{"1MiBs", -EINVAL, "unknown unit"},
		{"1mib ", -EINVAL, "unknown unit"},
		{"1 MiB", -EINVAL, "unknown unit"},
		{"1PiB", -EINVAL, "unknown unit"},
		{"1.MiB", -EINVAL, "decimals"},
		{"1.0000001MiB", -EINVAL, "decimals"},
		{"99999999999999999999B", -ERANGE, "too large"},
		{"4194305TiB", -ERANGE, "too large"},
		{"18446744073709551615TiB", -ERANGE, "too large"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		uint64_t bytes = 77;
		struct err err = {""};

		assert_int_equal(size_parse(bad[i].text, &bytes, &err),
				 bad[i].code);
		assert_non_null(strstr(err.text, bad[i].words));
		assert_int_equal(bytes, 77);
	}
}

static void a_bare_number_may_mean_bytes(void **state)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} good[] = {
		{"0", 0},
		{"4096", 4096},
		{"4096B", 4096},
		{"512M", 512u << 20},
		{"1.5G", UINT64_C(3) << 29},
	};
	static const char *const bad[] = {"",   " 1",   "1 ", "-1",
					  "+1", "0x10", "M",  "1.5"};
	uint64_t bytes = 77;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(size_parse_bytes(bad[i], &bytes, NULL),
				 -EINVAL);
	assert_int_equal(size_parse_bytes("99999999999999999999", &bytes, NULL),
			 -ERANGE);
	assert_int_equal(bytes, 77);
	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		assert_int_equal(size_parse_bytes(good[i].text, &bytes, NULL),
				 0);
		assert_int_equal(bytes, good[i].bytes);
	}
}

static void sizes_round_trip(void **state)
{
	struct rng rng = {1};
	char buf[UNITS_TEXT];

	(void)state;
	for (int i = 0; i < 10000; i++) {
		const uint64_t bytes = rng_next(&rng) >>
				       (2 + rng_below(&rng, 62));
		uint64_t back = 0;

		assert_int_equal(size_parse(size_format(bytes, buf), &back, NULL),
				 0);
		assert_int_equal(back, bytes);
	}
	assert_string_equal(size_format(UINT64_C(1536) << 20, buf), "1536MiB");
}

static void pages_round_up(void **state)
{
	uint64_t pages = 0;

	(void)state;
	assert_int_equal(size_parse_pages("4097B", &pages, NULL), 0);
	assert_int_equal(pages, 2);
	assert_int_equal(size_parse_pages("1MiB", &pages, NULL), 0);
	assert_int_equal(pages, MIB_PAGES);
}

static void durations(void **state)
{
	uint64_t ms = 77;
	struct err err = {""};

	(void)state;
	assert_int_equal(duration_parse("15s", &ms, NULL), 0);
	assert_int_equal(ms, 15000);
	assert_int_equal(duration_parse("10min", &ms, NULL), 0);
	assert_int_equal(ms, 600000);
	assert_int_equal(duration_parse("2h", &ms, NULL), 0);
	assert_int_equal(ms, 7200000);
	assert_int_equal(duration_parse("5", &ms, NULL), 0);
	assert_int_equal(ms, 5000);
	assert_int_equal(duration_parse("5d", &ms, &err), -EINVAL);
	assert_string_equal(err.text,
			    "duration 5d: unknown unit \"d\" (ms, s, min, h)");
	assert_int_equal(duration_parse("5 s", &ms, &err), -EINVAL);
	assert_int_equal(duration_parse("s", &ms, &err), -EINVAL);
	assert_int_equal(duration_parse("99999999999h", &ms, &err), -ERANGE);
	assert_int_equal(duration_parse("9999h", &ms, &err), -ERANGE);
	assert_int_equal(duration_parse("99999999999999999999s", &ms, &err),
			 -ERANGE);
	assert_int_equal(ms, 5000);
}

static void numbers(void **state)
{
	uint64_t v = 77;
	struct err err = {""};

	(void)state;
	assert_int_equal(number_parse("10", 5, 10, &v, NULL), 0);
	assert_int_equal(v, 10);
	assert_int_equal(number_parse("11", 5, 10, &v, &err), -ERANGE);
	assert_string_equal(err.text, "11 is not in 5..10");
	assert_int_equal(number_parse("1x", 0, 10, &v, &err), -EINVAL);
	assert_int_equal(number_parse("", 0, 10, &v, &err), -EINVAL);
	assert_int_equal(number_parse("-1", 0, 10, &v, &err), -EINVAL);
	assert_int_equal(number_parse("99999999999999999999", 0, UINT64_MAX, &v,
				      &err),
			 -ERANGE);
	assert_int_equal(v, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(bad_sizes_are_refused),
		cmocka_unit_test(a_bare_number_may_mean_bytes),
		cmocka_unit_test(sizes_round_trip),
		cmocka_unit_test(pages_round_up),
		cmocka_unit_test(durations),
		cmocka_unit_test(numbers),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

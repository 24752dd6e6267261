/* SPDX-License-Identifier: Apache-2.0 */
/* Every format that kernels are packed with, whole and damaged. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <boot/unpack.h>

#include "boot_files.h"

#define N_BYTES 100000

static uint8_t text[N_BYTES];
static uint8_t packed[N_BYTES * 2];

static void fill_text(void)
{
	uint32_t x = 1;

	for (size_t i = 0; i < N_BYTES; i++) {
		x = x * 1664525 + 1013904223;
		text[i] = (uint8_t)(x >> 28);
	}
}

static void test_each_format(void **state)
{
	(void)state;
	fill_text();
	for (int f = 0; f < TEST_FORMATS; f++) {
		struct err err = {0};
		uint8_t *out = NULL;
		const size_t n = test_pack(f, text, N_BYTES, packed,
					   sizeof(packed));

		/* What follows the stream does not matter. */
		memset(packed + n, 0x5a, 64);
		assert_int_equal(unpack(packed, n + 64, N_BYTES, &out, &err), 0);
		assert_memory_equal(out, text, N_BYTES);
		free(out);
	}
}

static void test_truncated(void **state)
{
	(void)state;
	fill_text();
	for (int f = 0; f < TEST_FORMATS; f++) {
		const size_t n = test_pack(f, text, N_BYTES, packed,
					   sizeof(packed));

		for (size_t len = 0; len < n - 16; len += n / 50) {
			struct err err = {0};
			uint8_t *out = NULL;

			assert_int_equal(unpack(packed, len, N_BYTES, &out, &err),
					 -ENOEXEC);
			assert_null(out);
			assert_string_not_equal(err.text, "");
		}
	}
}

static void test_wrong_size(void **state)
{
	(void)state;
	fill_text();
	for (int f = 0; f < TEST_FORMATS; f++) {
		struct err err = {0};
		uint8_t *out = NULL;
		const size_t n = test_pack(f, text, N_BYTES, packed,
					   sizeof(packed));

		assert_int_equal(unpack(packed, n, N_BYTES + 1, &out, &err),
				 -ENOEXEC);
		assert_non_null(strstr(err.text, "damaged or truncated"));
		assert_int_equal(unpack(packed, n, 0, &out, &err), -ENOEXEC);
		assert_int_equal(unpack(packed, n, UNPACK_MAX_BYTES + 1, &out,
					&err),
				 -ENOEXEC);
	}
}

static void test_unknown_formats(void **state)
{
	static const uint8_t lzo[] = {0x89, 'L', 'Z', 'O', 0, 0, 0, 0};
	static const uint8_t none[] = {1, 2, 3, 4, 5, 6, 7, 8};
	struct err err = {0};
	uint8_t *out = NULL;

	(void)state;
	assert_int_equal(unpack(lzo, sizeof(lzo), 100, &out, &err), -ENOEXEC);
	assert_non_null(strstr(err.text, "LZO"));
	assert_int_equal(unpack(none, sizeof(none), 100, &out, &err), -ENOEXEC);
	assert_null(unpack_format(none, sizeof(none)));
	assert_string_equal(unpack_format(lzo, sizeof(lzo)), "LZO");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_format),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_wrong_size),
		cmocka_unit_test(test_unknown_formats),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

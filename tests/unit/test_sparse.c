/* SPDX-License-Identifier: Apache-2.0 */
/* Sparse arrays: long, zero, and with memory only where they are touched. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include <cmocka.h>

#include <base/sparse.h>
#include <base/types.h>

#define BYTES      (UINT64_C(1) << 36)
#define LARGE_PAGE (UINT64_C(2) << 20)

/* Whether the page there has memory. */
static bool is_there(uint8_t *at)
{
	unsigned char in = 0;

	assert_int_equal(mincore(at, PAGE_SIZE, &in), 0);
	return in & 1;
}

static void takes_what_is_touched(void **state)
{
	uint8_t *array = sparse_new(BYTES);

	(void)state;
	assert_non_null(array);
	for (uint64_t at = 0; at < BYTES; at += BYTES / 8)
		assert_false(is_there(array + at));
	assert_int_equal(array[BYTES - 1], 0);
	array[BYTES / 2] = 1;
	assert_true(is_there(array + BYTES / 2));
	assert_int_equal(array[BYTES / 2 + 1], 0);
	/* The host may put a large page there. */
	assert_false(is_there(array + BYTES / 2 + LARGE_PAGE));
	sparse_free(array, BYTES);
}

static void what_cannot_be_is_null(void **state)
{
	(void)state;
	assert_null(sparse_new(UINT64_C(1) << 62));
	sparse_free(NULL, PAGE_SIZE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(takes_what_is_touched),
		cmocka_unit_test(what_cannot_be_is_null),
	};

	return cmocka_run_group_tests_name("sparse", tests, NULL, NULL);
}

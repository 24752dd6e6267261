/* SPDX-License-Identifier: Apache-2.0 */
/* The table of what pages contain, against a list that cannot be wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include <host/hints.h>

#define N 20000

static uint64_t next(uint64_t *state)
{
	*state = *state * UINT64_C(6364136223846793005) + 1442695040888963407;
	return *state >> 33;
}

static bool has(const struct hints *h, uint32_t tag, uint32_t where)
{
	struct hints_iter it;
	uint32_t found;
	unsigned n = 0;

	hints_find(h, tag, &it);
	while (hints_next(h, &it, &found))
		n += found == where;
	assert_true(n <= 1);
	return n;
}

/* Few tags, so that runs are long and gaps are closed across them. */
static void what_goes_in_comes_out(void **state)
{
	static uint32_t tags[N];
	uint64_t random = 5;
	struct hints h;
	uint32_t n = 0;

	(void)state;
	hints_init(&h);
	for (unsigned i = 0; i < 6 * N; i++) {
		const uint32_t where = (uint32_t)(next(&random) % N);

		if (tags[where]) {
			assert_true(hints_remove(&h, tags[where], where));
			assert_false(hints_remove(&h, tags[where], where));
			tags[where] = 0;
			n--;
		} else {
			tags[where] = 1 + (uint32_t)(next(&random) % 5000);
			assert_true(hints_add(&h, tags[where], where));
			n++;
		}
	}
	assert_int_equal(h.n, n);
	for (uint32_t where = 0; where < N; where++) {
		if (tags[where])
			assert_true(has(&h, tags[where], where));
		assert_false(has(&h, 6000 + where, where));
	}
	hints_release(&h);
}

/* With the word of each page, at most 24 bytes. */
static void an_entry_costs_at_most_20_bytes(void **state)
{
	struct hints h;

	(void)state;
	hints_init(&h);
	for (uint32_t i = 1; i <= 300000; i++) {
		assert_true(hints_add(&h, hints_tag((uint64_t)i << 40), i));
		if (i > 1024)
			assert_true(hints_bytes(&h) <= (uint64_t)i * 20);
		/* Fuller than that, a search would be long. */
		assert_true(hints_bytes(&h) * 85 >= (uint64_t)i * 8 * 100);
	}
	hints_release(&h);
}

static void an_empty_table_has_nothing(void **state)
{
	struct hints h;

	(void)state;
	hints_init(&h);
	assert_false(has(&h, 1, 1));
	assert_false(hints_remove(&h, 1, 1));
	assert_int_equal(hints_bytes(&h), 0);
	hints_release(&h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_goes_in_comes_out),
		cmocka_unit_test(an_entry_costs_at_most_20_bytes),
		cmocka_unit_test(an_empty_table_has_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Proportional division: sums and bounds. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/rng.h>
#include <policy/split.h>

static void nothing_is_lost(void **state)
{
	struct rng rng = {1};

	(void)state;
	for (int round = 0; round < 20000; round++) {
		const size_t n = rng_below(&rng, 20);
		uint64_t room[20], part[20], sum = 0, given = 0;

		for (size_t i = 0; i < n; i++) {
			room[i] = rng_below(&rng,
					    UINT64_C(1) << rng_below(&rng, 40));
			sum += room[i];
		}
		const uint64_t total = rng_below(&rng, sum + sum / 4 + 2);
		const uint64_t r = split_pages(room, n, total, part);

		for (size_t i = 0; i < n; i++) {
			const double fair = total < sum
						    ? (double)room[i] *
							      ((double)total /
							       (double)sum)
						    : (double)room[i];

			assert_true(part[i] <= room[i]);
			assert_true((double)part[i] < fair + 1.001 &&
				    (double)part[i] > fair - 1.001);
			given += part[i];
		}
		assert_int_equal(given, total < sum ? total : sum);
		assert_int_equal(r, given);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

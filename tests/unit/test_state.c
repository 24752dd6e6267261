/* SPDX-License-Identifier: Apache-2.0 */
/* minFree, thresholds and hysteresis of the host's state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/rng.h>
#include <base/units.h>
#include <policy/state.h>

static void sliding_scale(void **state)
{
	/* Published figures in MiB, and those computed from the scale. */
	static const struct {
		uint64_t managed_mib, tenths;
	} want[] = {
		{28 * 1024, 9011}, {65073, 12651},     {16 * 1024, 6553},
		{512, 307},        {64 * 1024, 12697}, {1024 * 1024, 111001},
	};
	struct options o;

	(void)state;
	options_init(&o);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++)
		assert_in_range(minfree_pages(want[i].managed_mib * MIB_PAGES,
					      &o) *
					10 / MIB_PAGES,
				want[i].tenths - 2, want[i].tenths + 2);
	o.v[OPT_MEM_MIN_FREE_PCT] = 10;
	assert_int_equal(minfree_pages(1000, &o), 100);
	assert_int_equal(minfree_pages(0, &o), 1);
	options_init(&o);
	assert_int_equal(minfree_pages(0, &o), 1);
}

static void edges(void **state)
{
	(void)state;
	assert_int_equal(host_state_next(HOST_HIGH, 1000, 1000), HOST_HIGH);
	assert_int_equal(host_state_next(HOST_HIGH, 999, 1000), HOST_CLEAR);
	assert_int_equal(host_state_next(HOST_HIGH, 639, 1000), HOST_SOFT);
	assert_int_equal(host_state_next(HOST_HIGH, 319, 1000), HOST_HARD);
	assert_int_equal(host_state_next(HOST_HIGH, 159, 1000), HOST_LOW);
	assert_int_equal(host_state_next(HOST_LOW, 359, 1000), HOST_LOW);
	assert_int_equal(host_state_next(HOST_LOW, 360, 1000), HOST_HARD);
	assert_int_equal(host_state_next(HOST_HARD, 719, 1000), HOST_HARD);
	assert_int_equal(host_state_next(HOST_HARD, 720, 1000), HOST_SOFT);
	assert_int_equal(host_state_next(HOST_SOFT, 1119, 1000), HOST_SOFT);
	assert_int_equal(host_state_next(HOST_SOFT, 1120, 1000), HOST_HIGH);
	assert_int_equal(host_state_next(HOST_CLEAR, 1119, 1000), HOST_CLEAR);
	assert_int_equal(host_state_next(HOST_CLEAR, 1120, 1000), HOST_HIGH);
	assert_int_equal(host_state_next(HOST_LOW, 5000, 1000), HOST_HIGH);
	assert_int_equal(host_state_goal_pages(1000), 1200);
	assert_true(host_state_break_large(3999, 1000));
	assert_false(host_state_break_large(4000, 1000));
}

/* Noise narrower than the band between two edges changes the state at most once. */
static void noise_does_not_flap(void **state)
{
	struct rng rng = {1};

	(void)state;
	for (int round = 0; round < 2000; round++) {
		const uint64_t centre = 40 + rng_below(&rng, 1500);
		enum host_state s = (enum host_state)rng_below(&rng,
							       HOST_STATES);
		int changes = 0;

		s = host_state_next(s, centre, 1000);
		for (int i = 0; i < 50; i++) {
			const enum host_state next = host_state_next(
				s, centre + 35 - rng_below(&rng, 70), 1000);

			changes += next != s;
			s = next;
		}
		/* One step out of the starting state, and none back. */
		assert_true(changes <= 1);
	}
}

static void every_state_is_stable(void **state)
{
	(void)state;
	for (uint64_t minfree = 1; minfree < 400; minfree++) {
		for (uint64_t free_pages = 0; free_pages < 2 * minfree;
		     free_pages++) {
			for (unsigned int s = 0; s < HOST_STATES; s++) {
				const enum host_state once = host_state_next(
					(enum host_state)s, free_pages, minfree);

				assert_int_equal(host_state_next(once, free_pages,
								 minfree),
						 once);
			}
		}
	}
}

static void actions(void **state)
{
	struct options o;

	(void)state;
	options_init(&o);
	assert_false(
		host_state_acts(HOST_HIGH) &
		(ACT_SHARE_FAST | ACT_BALLOON | ACT_PAGE_REST | ACT_PAGE_ALL));
	assert_true(host_state_acts(HOST_CLEAR) & ACT_SHARE_FAST);
	assert_false(host_state_acts(HOST_CLEAR) & ACT_BALLOON);
	assert_true(host_state_acts(HOST_SOFT) & ACT_BALLOON);
	assert_false(host_state_acts(HOST_HARD) & (ACT_BALLOON | ACT_BLOCK));
	assert_true(host_state_acts(HOST_HARD) & ACT_PAGE_ALL);
	assert_true(host_state_acts(HOST_LOW) & ACT_BLOCK);
	assert_int_equal(host_state_period_ms(HOST_HIGH, &o), 15000);
	assert_int_equal(host_state_period_ms(HOST_SOFT, &o), 1000);
	assert_string_equal(host_state_name(HOST_LOW), "low");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sliding_scale),
		cmocka_unit_test(edges),
		cmocka_unit_test(noise_does_not_flap),
		cmocka_unit_test(every_state_is_stable),
		cmocka_unit_test(actions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest writes to switch off, to reset, and to end a test run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dev/debug_exit.h>
#include <dev/power.h>

static void on_power(void *ctx, enum power_event event)
{
	*(int *)ctx = (int)event;
}

static void on_exit_port(void *ctx, int status)
{
	*(int *)ctx = status;
}

static void test_power(void **state)
{
	int got = -1;
	struct power power = {on_power, &got};

	(void)state;
	power_bus_ops.write(&power, POWER_SLEEP_STATUS, 1, 0x80);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 5 << 2);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 0x20 | 3 << 2);
	power_bus_ops.write(&power, POWER_RESET_REG, 1, 0);
	assert_int_equal(got, -1);
	assert_int_equal(power_bus_ops.read(&power, POWER_SLEEP_STATUS, 1), 0);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 0x20 | 5 << 2);
	assert_int_equal(got, POWER_OFF);
	power_bus_ops.write(&power, POWER_RESET_REG, 1, POWER_RESET_VALUE);
	assert_int_equal(got, POWER_RESET);
}

static void test_debug_exit(void **state)
{
	int got = -1;
	struct debug_exit port = {on_exit_port, &got};

	(void)state;
	debug_exit_bus_ops.write(&port, 1, 1, 7);
	assert_int_equal(got, -1);
	assert_int_equal(debug_exit_bus_ops.read(&port, 0, 4), 0);
	debug_exit_bus_ops.write(&port, 0, 4, 0x10);
	assert_int_equal(got, 0x21);
	debug_exit_bus_ops.write(&port, 0, 1, 0);
	assert_int_equal(got, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power),
		cmocka_unit_test(test_debug_exit),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}

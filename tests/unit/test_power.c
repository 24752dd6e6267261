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
	struct power power = {.request = on_power, .ctx = &got};

	(void)state;
	power_bus_ops.write(&power, POWER_SLEEP_STATUS, 1, 0x80);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 5 << 2);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 0x20 | 3 << 2);
	power_bus_ops.write(&power, POWER_RESET_REG, 1, 0);
	assert_false(power.has_told);
	power_bus_ops.write(&power, POWER_STATUS, 1, 77);
	assert_int_equal(power.status, 77);
	assert_true(power.has_told);
	assert_int_equal(got, -1);
	assert_int_equal(power_bus_ops.read(&power, POWER_SLEEP_STATUS, 1), 0);
	power_bus_ops.write(&power, POWER_SLEEP_CONTROL, 1, 0x20 | 5 << 2);
	assert_int_equal(got, POWER_OFF);
	power_bus_ops.write(&power, POWER_RESET_REG, 1, POWER_RESET_VALUE);
	assert_int_equal(got, POWER_RESET);
}

struct wire {
	unsigned int gsi;
	char seen[8];
	size_t n;
};

static void on_line(void *ctx, unsigned int gsi, bool level)
{
	struct wire *wire = ctx;

	wire->gsi = gsi;
	wire->seen[wire->n++] = level ? '1' : '0';
}

/* One edge for each press, and the line is low afterwards. */
static void test_button(void **state)
{
	struct wire wire = {0};
	const struct irq_line line = {on_line, &wire, POWER_BUTTON_GSI};

	(void)state;
	power_press(&line);
	power_press(&line);
	assert_string_equal(wire.seen, "1010");
	assert_int_equal(wire.gsi, POWER_BUTTON_GSI);
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
		cmocka_unit_test(test_button),
		cmocka_unit_test(test_debug_exit),
	};

	return cmocka_run_group_tests_name("power", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded traces: what is read, and which line is named when one is wrong. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/units.h>
#include <policy/trace.h>

#define HEAD "time_s,vm,active_mib,footprint_mib\n"

static void rows_are_read(void **state)
{
	struct trace *t = NULL;

	(void)state;
	assert_int_equal(trace_parse("# day\r\n\n" HEAD
				     "0,a,1,2\r\n0.5,b,0.5,0.5\n"
				     "# later\n12.25,a,0,100.125",
				     &t, NULL),
			 0);
	assert_int_equal(t->n_rows, 3);
	assert_int_equal(t->n_names, 2);
	assert_string_equal(t->names[1], "b");
	assert_int_equal(t->rows[1].time_ms, 500);
	assert_int_equal(t->rows[1].active_pages, MIB_PAGES / 2);
	assert_int_equal(t->rows[2].vm, 0);
	assert_int_equal(t->rows[2].time_ms, 12250);
	assert_int_equal(t->rows[2].footprint_pages,
			 100 * MIB_PAGES + MIB_PAGES / 8);
	trace_free(t);
	trace_free(NULL);
}

static void many_names(void **state)
{
	char *text = malloc(1 << 20), *p = text;
	struct trace *t = NULL;

	(void)state;
	p += sprintf(p, HEAD);
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 5000; i++)
			p += sprintf(p, "%d,vm-%d,1,1\n", round, i);
	assert_int_equal(trace_parse(text, &t, NULL), 0);
	assert_int_equal(t->n_names, 5000);
	for (uint32_t i = 0; i < 10000; i++)
		assert_int_equal(t->rows[i].vm, i % 5000);
	trace_free(t);
	free(text);
}

static void bad_lines_are_named(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{"", "no lines after its header"},
		{HEAD, "no lines after its header"},
		{"0,a,1,2\n", "line 1: the first line must be"},
		{HEAD "0,a,1\n", "line 2: too few fields"},
		{HEAD "0,a,1,2,3\n", "line 2: too many fields"},
		{HEAD "x,a,1,2\n", "line 2: time_s \"x\" is not a number"},
		{HEAD "-1,a,1,2\n", "is not a number"},
		{HEAD "0,a,1e3,2000\n", "active_mib \"1e3\" is not a number"},
		{HEAD "0,a,1,\n", "footprint_mib \"\" is not a number"},
		{HEAD "0,,1,2\n", "a VM's name has 1 to"},
		{HEAD "0,a23456789012345678901234567890123456789012345678,1,2\n",
		 "a VM's name has 1 to 47"},
		{HEAD "0,a,3,2\n", "footprint 2 is less than active 3"},
		{HEAD "1,a,1,2\n\n0.5,a,1,2\n", "line 4: time 0.5 is before"},
		{HEAD "99999999999999999999,a,1,2\n",
		 "time_s 99999999999999999999 is too large"},
		{HEAD "0,a,1,99999999999\n", "too large"},
		{HEAD
		 "0,aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa,1,2\n",
		 "line 2: the line is too long"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct trace *t = NULL;
		struct err err = {""};

		assert_true(trace_parse(bad[i].text, &t, &err) < 0);
		assert_null(t);
		if (!strstr(err.text, bad[i].words))
			fail_msg("case %zu says: %s", i, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rows_are_read),
		cmocka_unit_test(many_names),
		cmocka_unit_test(bad_lines_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

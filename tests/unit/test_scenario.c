/* SPDX-License-Identifier: Apache-2.0 */
/* Scenario files: every key, and which line is named when one is wrong. */
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
#include <policy/scenario.h>

static void everything_is_read(void **state)
{
	static const char text[] =
		"# all there is\n"
		"[host]\nmemory = 1GiB\nswap = 2GiB\nswap-rate = 1MiB\nprocessor-mhz = 3000\n"
		"[sim]\nduration = 5min # short\nstep = 500ms\nseed = 7\ntrace = a.csv\n"
		"[options]\nMem.IdleTax = 50\n"
		"[at 1min]\nMem.IdleTax = 0\n [ at 2min ]\nMem.MemZipEnable=0\n"
		"[pool a]\nshares = high\n[pool b]\nparent = a\nreservation = 10MiB\n"
		"[vm x]\npool = b\ncount = 3\nsize = 64MiB\nreservation = 1MiB\nlimit = 60MiB\n"
		"shares = low\noverhead = 2MiB\nworkload = bursty\nactive = 10MiB\n"
		"active-high = 20MiB\nfootprint = 30MiB\nfloor = 5MiB\nperiod = 1min\n"
		"start = 3s\nstagger = 10ms\nballoon = liar\nshareable = 10%\nzero = 20%\n"
		"incompressible = 30%\nhard = 40%\n";
	struct scenario *s = NULL;
	struct err err = {""};

	(void)state;
	assert_int_equal(scenario_parse(text, &s, &err), 0);
	assert_int_equal(s->managed_pages, 1024 * MIB_PAGES);
	assert_int_equal(s->swap_pages, 2048 * MIB_PAGES);
	assert_int_equal(s->swap_rate_pages, MIB_PAGES);
	assert_int_equal(s->processor_mhz, 3000);
	assert_int_equal(s->duration_ms, 300000);
	assert_int_equal(s->step_ms, 500);
	assert_int_equal(s->seed, 7);
	assert_string_equal(s->trace_file, "a.csv");
	assert_int_equal(s->options.v[OPT_IDLE_TAX], 50);
	assert_int_equal(s->n_changes, 2);
	assert_int_equal(s->changes[1].at_ms, 120000);
	assert_int_equal(s->changes[1].id, OPT_MEM_ZIP_ENABLE);
	assert_int_equal(s->changes[1].value, 0);
	assert_int_equal(s->n_pools, 2);
	assert_int_equal(s->pools[1].parent, 1);
	assert_int_equal(s->pools[0].alloc.level, SHARES_HIGH);
	assert_int_equal(s->vms[0].pool, 2);
	assert_int_equal(s->vms[0].count, 3);
	assert_int_equal(s->vms[0].alloc.limit_pages, 60 * MIB_PAGES);
	assert_int_equal(s->vms[0].workload, WORKLOAD_BURSTY);
	assert_int_equal(s->vms[0].balloon, BALLOON_KIND_LIAR);
	assert_int_equal(s->vms[0].footprint_pages, 30 * MIB_PAGES);
	assert_int_equal(s->vms[0].hard_pct, 40);
	assert_int_equal(s->vms[0].stagger_ms, 10);
	scenario_free(s);
	scenario_free(NULL);
}

#define OK_HOST "[host]\nmemory = 1GiB\n"

static void bad_lines_are_named(void **state)
{
	static const struct {
		const char *text, *words;
	} bad[] = {
		{"", "no [vm NAME]"},
		{"[vm a]\n", "[host] has no memory"},
		{"memory = 1GiB\n", "line 1: a key before the first [section]"},
		{"[host\n", "line 1: the ] is missing"},
		{"[disk]\n", "no section is called [disk]"},
		{"[host]\nmemory\n", "line 2: \"memory\" is not KEY = VALUE"},
		{"[host]\nmemory = 12\n", "line 2: memory: size 12 has no unit"},
		{"[host]\ncolour = red\n", "no key is called \"colour\""},
		{"[sim]\ntrace =\n", "trace: the name of the file"},
		{"[options]\nMem.Idle = 1\n", "line 2: no option is called"},
		{"[options]\nMem.IdleTax = 100\n",
		 "Mem.IdleTax: 100 is not in 0..99"},
		{"[at soon]\n", "is not a duration"},
		{"[at 2s]\nMem.IdleTax=1\n[at 1s]\n",
		 "line 3: this change is before"},
		{"[pool ]\n", "no section is called [pool]"},
		{"[pool 0123456789012345678901234567890123456789]\n",
		 "a name has 1 to 39"},
		{"[pool a]\n[pool a]\n", "already a pool a"},
		{"[pool a]\nparent = a\n", "pool a cannot be inside itself"},
		{"[pool a]\nparent = b\n[pool b]\n",
		 "no pool above here is called \"b\""},
		{"[pool host]\n", "already a pool host"},
		{"[vm a]\n[vm a]\n", "already a group of VMs a"},
		{"[vm a]\ncount = 0\n", "count: 0 is not in 1..20000"},
		{"[vm a]\nworkload = lazy\n",
		 "workload: \"lazy\" is not a known word"},
		{"[vm a]\nballoon = red\n", "balloon: \"red\""},
		{"[vm a]\nzero = 30\n", "zero: \"30\" is not a percentage"},
		{"[vm a]\nzero = 101%\n", "not in 0..100"},
		{"[vm a]\nexpandableReservation = true\n", "no key is called"},
		{OK_HOST "[vm a]\nreservation = 1GiB\n",
		 "vm a: reservation 1024 MiB is larger than the VM's size 256 MiB"},
		{OK_HOST "[vm a]\nshareable = 60%\nzero = 60%\n",
		 "more than 100 %"},
		{OK_HOST "[vm a]\nperiod = 0s\n", "period: must not be 0"},
		{OK_HOST "[vm a]\ncount = 20000\n[vm b]\n",
		 "20001 VMs are more than"},
		{OK_HOST "[vm a]\n[sim]\nstep = 0ms\n", "step must be"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct scenario *s = NULL;
		struct err err = {""};

		assert_true(scenario_parse(bad[i].text, &s, &err) < 0);
		assert_null(s);
		if (!strstr(err.text, bad[i].words))
			fail_msg("case %zu says: %s", i, err.text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything_is_read),
		cmocka_unit_test(bad_lines_are_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

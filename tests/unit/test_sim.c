/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated hosts: the paper's experiment, and that no plan ever breaks its promises. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/units.h>
#include <policy/sim.h>

struct run {
	struct scenario *scenario;
	struct trace *trace;
	struct sim *sim;
};

static void run_start(struct run *r, const char *text, const char *trace)
{
	struct err err = {""};

	*r = (struct run){0};
	if (scenario_parse(text, &r->scenario, &err) < 0 ||
	    (trace && trace_parse(trace, &r->trace, &err) < 0) ||
	    sim_new(r->scenario, r->trace, &r->sim, &err) < 0)
		fail_msg("%s", err.text);
}

static void run_end(struct run *r)
{
	sim_free(r->sim);
	trace_free(r->trace);
	scenario_free(r->scenario);
}

/* Steps until @until_ms or the end; every step checks its invariants. */
static void run_until(struct run *r, uint64_t until_ms)
{
	struct err err = {""};

	while (sim_host(r->sim)->time_ms < until_ms) {
		const int more = sim_step(r->sim, &err);

		if (more < 0)
			fail_msg("%s", err.text);
		if (more == 0)
			return;
	}
}

static const struct guest *guest_of(const struct run *r, uint32_t i)
{
	const char *name;
	uint32_t group;
	const struct guest *g = sim_vm(r->sim, i, &group, &name);

	assert_non_null(g);
	return g;
}

static double mib(uint64_t pages)
{
	return (double)pages / MIB_PAGES;
}

struct mean {
	double target, charge;
};

static void means_take(struct run *r, uint64_t until_ms, struct mean m[2])
{
	int n = 0;

	m[0] = m[1] = (struct mean){0, 0};
	while (sim_host(r->sim)->time_ms < until_ms) {
		run_until(r, sim_host(r->sim)->time_ms + 1);
		for (uint32_t i = 0; i < 2; i++) {
			m[i].target += mib(guest_of(r, i)->action.target_pages);
			m[i].charge += mib(guest_charge(guest_of(r, i)));
		}
		n++;
	}
	for (int i = 0; i < 2; i++) {
		m[i].target /= n;
		m[i].charge /= n;
	}
}

#define NEAR(v, want, by) \
	assert_true((v) > (want) - (by) && (v) < (want) + (by))

/*
 * 360 MiB for guests, 2 x 5 MiB overhead, and what the host keeps free on average: memory
 * is reclaimed below 64 % of minFree, up to 120 % of it.
 */
static void paper_experiment(void **state)
{
	struct mean m[2];
	struct run r;

	(void)state;
	run_start(
		&r,
		"[host]\nmemory = 373.4MiB\n[sim]\nduration = 40min\n"
		"[options]\nMem.MemMinFreePct = 1\nMem.SampleCount = 1000\nMem.IdleTax = 0\n"
		"[at 20min]\nMem.IdleTax = 75\n"
		"[vm idle]\nworkload = idle\nactive = 40MiB\nhard = 0%\nzero = 0%\n"
		"[vm busy]\nworkload = steady\nactive = 220MiB\nhard = 0%\nzero = 0%\n",
		NULL);
	run_until(&r, 600000);
	means_take(&r, 1200000, m);
	NEAR(m[0].target, 180, 2);
	NEAR(m[1].target, 180, 2);
	NEAR(m[0].charge, 180, 2);
	NEAR(m[1].charge, 180, 2);
	run_until(&r, 1800000);
	means_take(&r, 2400000, m);
	NEAR(m[0].target, 112.5, 2);
	NEAR(m[1].target, 247.5, 2);
	NEAR(m[0].charge, 112.5, 2);
	NEAR(m[1].charge, 247.5, 2);
	assert_true(guest_of(&r, 1)->stats.balloon_turns < 6);
	run_end(&r);
}

static void enough_memory_is_left_alone(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 4GiB\n[sim]\nduration = 20min\n"
		  "[vm a]\ncount = 8\nworkload = phases\nactive = 50MiB\nactive-high = 200MiB\n",
		  NULL);
	run_until(&r, UINT64_MAX);
	assert_int_equal(sim_totals(r.sim)->state_ms[HOST_HIGH], 1200000);
	assert_int_equal(sim_totals(r.sim)->balloon_max_pages, 0);
	assert_int_equal(sim_totals(r.sim)->swap_max_pages, 0);
	assert_int_equal(sim_totals(r.sim)->zip_max_pages, 0);
	run_end(&r);
}

/* A reserved VM beside hungry ones: nothing is taken from it and it never waits. */
/* What a VM has at the end, 60 s after it has freed 100 MiB, of which 60 are in pieces. */
static uint64_t left_after_free(bool sweeps, uint64_t *ret_sweeps)
{
	struct run r;
	uint64_t left;
	char text[400];

	snprintf(text, sizeof(text),
		 "[host]\nmemory = 1GiB\n[sim]\nduration = 2min\ntrace = t\n"
		 "[options]\nMem.SweepEnable = %d\n"
		 "[vm a]\nworkload = trace\npieces = 60%%\nshareable = 0%%\nzero = 0%%\n",
		 sweeps);
	run_start(&r, text,
		  "time_s,vm,active_mib,footprint_mib\n"
		  "0,a,20,150\n60,a,20,50\n");
	run_until(&r, 60000);
	assert_int_equal(guest_charge(guest_of(&r, 0)), 150 * MIB_PAGES);
	run_until(&r, UINT64_MAX);
	left = guest_charge(guest_of(&r, 0));
	*ret_sweeps = guest_of(&r, 0)->sweep.sweeps;
	assert_int_equal(guest_of(&r, 0)->balloon_pages, 0);
	run_end(&r);
	return left;
}

static void what_is_freed_in_pieces_is_swept(void **state)
{
	uint64_t sweeps;

	(void)state;
	assert_in_range(left_after_free(false, &sweeps), 109 * MIB_PAGES,
			110 * MIB_PAGES);
	assert_int_equal(sweeps, 0);
	assert_in_range(left_after_free(true, &sweeps), 50 * MIB_PAGES,
			56 * MIB_PAGES);
	assert_in_range(sweeps, 1, 2);
}

static void reservations_hold(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 700MiB\n[sim]\nduration = 30min\n"
		  "[vm reserved]\nreservation = 256MiB\nactive = 200MiB\nzero = 0%\n"
		  "[vm hungry]\ncount = 4\nworkload = phases\nactive = 50MiB\n"
		  "active-high = 250MiB\nballoon = none\nstart = 1min\n",
		  NULL);
	run_until(&r, UINT64_MAX);
	const struct guest *g = guest_of(&r, 0);

	assert_int_equal(guest_charge(g), 256 * MIB_PAGES);
	assert_int_equal(g->stats.zip_out + g->stats.swap_out, 0);
	assert_int_equal(g->stats.balloon_max, 0);
	assert_true(g->stats.stall_host_ms < 1);
	assert_true(guest_of(&r, 1)->stats.swap_out > 0);
	run_end(&r);
}

static void pressure_ends_and_balloons_empty(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 500MiB\n[sim]\nduration = 30min\ntrace = t\n"
		  "[vm a]\nworkload = trace\nhard = 0%\n[vm b]\nworkload = trace\nhard = 0%\n",
		  "time_s,vm,active_mib,footprint_mib\n0,a,60,150\n0,b,60,150\n"
		  "60,a,60,190\n60,b,60,190\n90,a,60,220\n90,b,60,220\n"
		  "120,a,60,235\n120,b,60,235\n150,a,60,250\n150,b,60,250\n"
		  "900,a,20,100\n900,b,20,100\n");
	run_until(&r, 890000);
	assert_true(sim_totals(r.sim)->balloon_max_pages > 5 * MIB_PAGES);
	assert_true(sim_host(r.sim)->balloon_pages > 5 * MIB_PAGES);
	run_until(&r, UINT64_MAX);
	assert_int_equal(sim_host(r.sim)->plan.state, HOST_HIGH);
	/* 200 of 500 MiB are in use, but targets still cover what all could want. */
	assert_true(guest_charge(guest_of(&r, 0)) <= 100 * MIB_PAGES);
	run_end(&r);
}

static void steady_hosts_do_not_ping_pong(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 2GiB\n[sim]\nduration = 2h\n"
		  "[vm a]\ncount = 6\nactive = 80MiB\nhard = 10%\n"
		  "[vm b]\ncount = 6\nactive = 150MiB\nhard = 10%\n",
		  NULL);
	run_until(&r, UINT64_MAX);
	assert_true(sim_totals(r.sim)->balloon_max_pages > 0);
	for (uint32_t i = 0; i < 12; i++) {
		assert_true(guest_of(&r, i)->stats.balloon_turns <= 8);
		assert_int_equal(guest_of(&r, i)->stats.ooms, 0);
	}
	run_end(&r);
}

/* Liars, sleepers and absentees are paged; the host never runs out. */
static void bad_balloons_harm_nobody(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 640MiB\n[sim]\nduration = 30min\n"
		  "[vm none]\nballoon = none\nactive = 60MiB\n"
		  "[vm stuck]\nballoon = stuck\nactive = 60MiB\n"
		  "[vm liar]\nballoon = liar\nactive = 60MiB\n"
		  "[vm good]\nactive = 60MiB\n",
		  NULL);
	run_until(&r, UINT64_MAX);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(guest_of(&r, i)->stats.swap_out > 0);
	assert_int_equal(guest_of(&r, 1)->balloon_pages, 0);
	assert_int_equal(guest_of(&r, 1)->watch.driver, BALLOON_STUCK);
	assert_true(guest_of(&r, 3)->stats.balloon_max > 0);
	run_end(&r);
}

static void admission_refuses_with_a_number(void **state)
{
	struct run r;

	(void)state;
	run_start(&r,
		  "[host]\nmemory = 1GiB\nswap = 600MiB\n[sim]\nduration = 10s\n"
		  "[vm a]\ncount = 5\nreservation = 200MiB\n[vm b]\nsize = 500MiB\n",
		  NULL);
	run_until(&r, UINT64_MAX);
	assert_int_equal(sim_host(r.sim)->running, 4);
	assert_int_equal(sim_totals(r.sim)->refused, 2);
	assert_int_equal(sim_host(r.sim)->waiting, 2);
	assert_non_null(strstr(
		sim_totals(r.sim)->refusal.text,
		"a-5: insufficient resources: unreserved machine memory of the host: 205 MiB needed"));
	run_end(&r);
}

static void equal_seeds_give_equal_runs(void **state)
{
	static const char text[] =
		"[host]\nmemory = 900MiB\n[sim]\nduration = 10min\nseed = %d\n"
		"[vm a]\ncount = 6\nworkload = bursty\nactive = 30MiB\nactive-high = 200MiB\n"
		"shareable = 20%%\n";
	uint64_t swapped[3], zipped[3];

	(void)state;
	for (int i = 0; i < 3; i++) {
		char buf[400];
		struct run r;

		snprintf(buf, sizeof(buf), text, i == 2 ? 9 : 1);
		run_start(&r, buf, NULL);
		run_until(&r, UINT64_MAX);
		swapped[i] = guest_of(&r, 0)->stats.swap_out;
		zipped[i] = guest_of(&r, 0)->stats.zip_out;
		run_end(&r);
	}
	assert_int_equal(swapped[0], swapped[1]);
	assert_int_equal(zipped[0], zipped[1]);
	assert_true(swapped[0] != swapped[2] || zipped[0] != zipped[2]);
}

static void traces_must_fit_the_scenario(void **state)
{
	struct scenario *s = NULL;
	struct trace *t = NULL;
	struct sim *sim = NULL;
	struct err err = {""};

	(void)state;
	assert_int_equal(
		scenario_parse("[host]\nmemory=1GiB\n[vm a]\nworkload=trace\n",
			       &s, &err),
		0);
	assert_int_equal(sim_new(s, NULL, &sim, &err), -EINVAL);
	assert_string_equal(err.text,
			    "vm a: workload trace, but there is no trace");
	assert_int_equal(
		trace_parse("time_s,vm,active_mib,footprint_mib\n0,z,1,1\n", &t,
			    &err),
		0);
	assert_int_equal(sim_new(s, t, &sim, &err), -EINVAL);
	assert_non_null(strstr(err.text, "the trace has a VM z"));
	assert_null(sim);
	trace_free(t);
	scenario_free(s);
	assert_int_equal(
		scenario_parse(
			"[host]\nmemory=1GiB\n[pool p]\nreservation=2GiB\n[vm a]\n",
			&s, &err),
		0);
	assert_int_equal(sim_new(s, NULL, &sim, &err), -ENOSPC);
	scenario_free(s);
	sim_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(paper_experiment),
		cmocka_unit_test(enough_memory_is_left_alone),
		cmocka_unit_test(what_is_freed_in_pieces_is_swept),
		cmocka_unit_test(reservations_hold),
		cmocka_unit_test(pressure_ends_and_balloons_empty),
		cmocka_unit_test(steady_hosts_do_not_ping_pong),
		cmocka_unit_test(bad_balloons_harm_nobody),
		cmocka_unit_test(admission_refuses_with_a_number),
		cmocka_unit_test(equal_seeds_give_equal_runs),
		cmocka_unit_test(traces_must_fit_the_scenario),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

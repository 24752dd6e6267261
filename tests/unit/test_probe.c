/* SPDX-License-Identifier: Apache-2.0 */
/* What is made of the tiny guest's run, and that the probe ends on this host. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include <engine/probe.h>

static const struct kvm_userfault good = {.usable = true};

static struct probe_verdict decide(struct probe_run run)
{
	struct probe_verdict v;

	probe_decide(&run, &good, &v);
	return v;
}

static void test_no_device(void **state)
{
	const struct probe_verdict v = decide((struct probe_run){
		.result = PROBE_NO_DEVICE,
		.error = EACCES,
	});

	(void)state;
	assert_false(v.usable);
	assert_non_null(strstr(v.why, "/dev/kvm"));
	assert_non_null(strstr(v.why, strerror(EACCES)));
}

static void test_results(void **state)
{
	static const enum probe_result bad[] = {PROBE_EMULATED, PROBE_STUCK,
						PROBE_UNEXPECTED};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		/* However fast it was. */
		const struct probe_verdict v = decide((struct probe_run){
			.result = bad[i],
			.insns = 1000000,
			.ns = 1000,
		});

		assert_false(v.usable);
		assert_int_not_equal(v.why[0], 0);
	}
}

static void test_speed(void **state)
{
	struct probe_run run = {.result = PROBE_RAN, .insns = 100000};

	(void)state;
	run.ns = 2000000; /* 50 M a second: just enough */
	assert_true(decide(run).usable);
	assert_int_equal(decide(run).insns_per_s, 50000000);
	run.ns = 2000100;
	assert_false(decide(run).usable);
	assert_non_null(strstr(decide(run).why, "emulates"));
	run.ns = 0; /* a clock that stands still proves nothing */
	assert_false(decide(run).usable);
}

static void test_userfault(void **state)
{
	const struct kvm_userfault none = {.reason = "no such thing"};
	const struct probe_run run = {
		.result = PROBE_RAN,
		.insns = 1000000,
		.ns = 1000,
	};
	struct probe_verdict v;

	(void)state;
	probe_decide(&run, &none, &v);
	assert_false(v.usable);
	assert_non_null(strstr(v.why, "no such thing"));
	assert_true(decide(run).usable);
}

/* Whatever this host is: an answer, soon, with a reason. */
static void test_this_host(void **state)
{
	struct timespec a, b;
	struct probe_verdict v;

	(void)state;
	clock_gettime(CLOCK_MONOTONIC, &a);
	probe_kvm(&v);
	clock_gettime(CLOCK_MONOTONIC, &b);
	print_message("%s\n", v.why);
	assert_int_not_equal(v.why[0], 0);
	assert_true(b.tv_sec - a.tv_sec < 5);
	assert_true(!v.usable || v.insns_per_s >= PROBE_MIN_INSNS_PER_S);
}

static void count_rows(void *arg, const char *name, const char *found,
		       const char *use)
{
	unsigned int *n = arg;

	assert_true(name && *name && found && *found && use && *use);
	(*n)++;
}

static void test_facilities(void **state)
{
	unsigned int n = 0;

	(void)state;
	probe_facilities(count_rows, &n);
	assert_int_equal(n, 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_no_device),
		cmocka_unit_test(test_results),
		cmocka_unit_test(test_speed),
		cmocka_unit_test(test_userfault),
		cmocka_unit_test(test_this_host),
		cmocka_unit_test(test_facilities),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

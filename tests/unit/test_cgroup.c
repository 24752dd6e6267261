/* SPDX-License-Identifier: Apache-2.0 */
/* Limits of memory by control groups, from files as the kernel would show them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cmocka.h>

#include <host/cgroup.h>

#define MIB(n) ((uint64_t)(n) << 20)

static char dir[64];

static void write_file(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
}

static void make_folder(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "/tmp/test_cgroup-XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char command[128];

	(void)state;
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

/* The host has 1000 MiB, of which 900 are available. */
static void expect(uint64_t limit_mib, uint64_t left_mib)
{
	uint64_t limit = MIB(1000), left = MIB(900);
	char path[256];

	snprintf(path, sizeof(path), "%s/membership", dir);
	cgroup_memory(path, dir, &limit, &left);
	assert_int_equal(limit, MIB(limit_mib));
	assert_int_equal(left, MIB(left_mib));
}

static void nothing_readable_limits_nothing(void **state)
{
	(void)state;
	expect(1000, 900);
	write_file("membership", "no colons\n0:one\n0::/gone/away\n");
	expect(1000, 900);
}

/* 300 MiB used, of which 40 are cache that nobody wants. */
static void tightest_group_counts(void **state)
{
	(void)state;
	write_file("membership", "3:memory:/not/mounted\n0::/outer/inner\n");
	make_folder("outer");
	make_folder("outer/inner");
	write_file("outer/inner/memory.max", "max\n");
	write_file("outer/inner/memory.current", "1048576\n");
	expect(1000, 900);
	write_file("outer/memory.max", "536870912\n");
	expect(512, 900);
	write_file("outer/memory.current", "314572800\n");
	expect(512, 212);
	write_file("outer/memory.stat",
		   "anon 1\nactive_file 104857600\ninactive_file 41943040\n");
	expect(512, 252);
	write_file("outer/memory.current", "629145600\n");
	expect(512, 0);
	/* More than the host has is no limit. */
	write_file("outer/memory.max", "9223372036854771712\n");
	expect(1000, 900);
}

/* In a container the path may be that of the host; what is mounted is the group itself. */
static void containers_see_their_own_root(void **state)
{
	(void)state;
	write_file("membership", "0::/system.slice/container-1\n");
	write_file("memory.max", "268435456\n");
	write_file("memory.current", "0\n");
	expect(256, 256);
}

static void version_1_is_a_controller(void **state)
{
	(void)state;
	write_file("membership", "5:devices:/box\n4:cpu,memory:/box\n0::/\n");
	make_folder("memory");
	make_folder("memory/box");
	write_file("memory/box/memory.limit_in_bytes", "134217728\n");
	write_file("memory/box/memory.usage_in_bytes", "33554432\n");
	write_file("memory/box/memory.stat",
		   "inactive_file 5\ntotal_inactive_file 1048576\n");
	expect(128, 97);
	write_file("membership", "4:cpu,memory2:/box\n");
	expect(1000, 900);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(nothing_readable_limits_nothing),
		T(tightest_group_counts),
		T(containers_see_their_own_root),
		T(version_1_is_a_controller),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

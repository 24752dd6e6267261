/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host memory manager with fake VMs: machine memory, sharing, compression, swap, and
 * what happens when one side is killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/arith.h>
#include <base/clock.h>

#include "world.h"

static void one_vm_runs_and_ends(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("one", 32);
	struct fake_progress *p;
	struct err err = {0};

	must_open(w);
	start(w, &s);
	run_for(w, "one", 100000);
	p = progress_of(w, "one");
	/* Its memory was there when it began. */
	assert_int_equal(atomic_load(&p->allowed), s.size_pages);
	munmap(p, sizeof(*p));
	print_host(w, "one");
	sums_are_exact(w);
	pause_vm(w, "one", true);
	audit_is_clean(w);
	assert_int_equal(host_vm_start(w->host, &s, &err), -EEXIST);
	assert_int_equal(host_vm_stop(w->host, "one", HOST_STOP_VM, &err), 0);
	assert_int_equal(host_vm_wait(w->host, "one", 5000), 0);
	assert_int_equal(figures_of(w, "one").settings.size_pages, 0);
	assert_int_equal(host_vm_remove_files(w->host, "nobody", &err), 0);
}

/*
 * So much ballast that the host stays in the state in which it scans at full speed, but does
 * not reclaim, before and after the others share.
 */
static void start_ballast(struct world *w)
{
	struct host_vm_settings s = vm_settings("ballast", 84);
	struct err err;

	with_arg(&s, "--common", "0");
	with_arg(&s, "--write", "0");
	with_arg(&s, "--drop", "0");
	with_arg(&s, "--sequential", "1");
	s.share = false;
	assert_int_equal(host_option_set(w->host, "Mem.MemMinFreePct", "50",
					 &err),
			 0);
	start(w, &s);
	for (int i = 0; i < 400 && figures_of(w, "ballast").zero_pages; i++)
		nap_ms(20);
	pause_vm(w, "ballast", true);
}

static void vms_of_a_group_share(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = vm_settings("a", 16);
	struct host_vm_settings b = vm_settings("b", 16);

	w->memory_bytes = MIB(192);
	must_open(w);
	start_ballast(w);
	snprintf(a.group, sizeof(a.group), "g");
	snprintf(b.group, sizeof(b.group), "g");
	with_arg(&a, "--common", "100");
	with_arg(&a, "--write", "0");
	with_arg(&a, "--drop", "0");
	with_arg(&a, "--sequential", "1");
	b = a;
	snprintf(b.name, sizeof(b.name), "b");
	start(w, &a);
	start(w, &b);
	for (int i = 0; i < 400; i++) {
		if (figures_of(w, "a").shared_pages == 4096 &&
		    figures_of(w, "b").shared_pages == 4096)
			break;
		nap_ms(50);
	}
	print_host(w, "shared");
	assert_int_equal(figures_of(w, "a").shared_pages, 4096);
	assert_int_equal(figures_of(w, "b").shared_pages, 4096);
	assert_int_equal(figures_of(w, "a").common_pages +
				 figures_of(w, "b").common_pages,
			 FAKE_COMMON - 1);
	run_for(w, "a", 10000);
	run_for(w, "b", 10000);
	pause_vm(w, "a", true);
	pause_vm(w, "b", true);
	sums_are_exact(w);
	audit_is_clean(w);
}

static void strangers_do_not_share(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = vm_settings("a", 16);
	struct host_vm_settings b = vm_settings("b", 16);

	w->memory_bytes = MIB(192);
	must_open(w);
	start_ballast(w);
	with_arg(&a, "--common", "100");
	with_arg(&a, "--write", "0");
	with_arg(&a, "--drop", "0");
	with_arg(&a, "--sequential", "1");
	b = a;
	snprintf(b.name, sizeof(b.name), "b");
	start(w, &a);
	start(w, &b);
	for (int i = 0; i < 400 && (figures_of(w, "a").shared_pages < 4096 ||
				    figures_of(w, "b").shared_pages < 4096);
	     i++)
		nap_ms(50);
	/* Each shares with itself only, so there are two frames of each. */
	assert_int_equal(figures_of(w, "a").common_pages, FAKE_COMMON - 1);
	assert_int_equal(figures_of(w, "b").common_pages, FAKE_COMMON - 1);
}

static void pause_three(struct world *w, bool on)
{
	pause_vm(w, "a", on);
	pause_vm(w, "b", on);
	pause_vm(w, "c", on);
}

/* Writes its memory once, as if it had read it from an image. */
static struct host_vm_settings reader(const char *name, const char *image,
				      const char *common)
{
	struct host_vm_settings s = vm_settings(name, 16);

	snprintf(s.group, sizeof(s.group), "g");
	with_arg(&s, "--image", image);
	with_arg(&s, "--common", common);
	with_arg(&s, "--write", "0");
	with_arg(&s, "--drop", "0");
	with_arg(&s, "--sequential", "1");
	return s;
}

/* There is plenty of memory, so the scan alone would take its time. */
static void what_is_read_from_one_image_is_shared_at_once(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = reader("a", "7", "100");
	struct host_vm_settings b = reader("b", "7", "100");
	struct host_vm_settings c = reader("c", "8", "100");

	w->memory_bytes = MIB(512);
	must_open(w);
	start(w, &a);
	start(w, &b);
	start(w, &c);
	run_for(w, "a", 10000);
	run_for(w, "b", 10000);
	run_for(w, "c", 10000);
	print_host(w, "read");
	/* The first of two is read before there is anything to share it with. */
	assert_true(figures_of(w, "a").shared_pages +
			    figures_of(w, "b").shared_pages >=
		    4096);
	assert_true(figures_of(w, "a").shared_filled +
			    figures_of(w, "b").shared_filled >=
		    4096);
	/* Nobody else reads that image. */
	assert_int_equal(figures_of(w, "c").shared_filled, 0);
	pause_three(w, true);
	sums_are_exact(w);
	audit_is_clean(w);
}

/* Another says the same of other contents: nobody gets a wrong byte, and it shares nothing. */
static void what_a_vm_says_of_an_image_is_not_believed(void **state)
{
	struct world *w = *state;
	struct host_vm_settings liar = reader("c", "7", "0");
	struct host_vm_settings thief = reader("d", "7", "100");
	struct host_vm_settings a = reader("a", "7", "100");
	struct host_vm_settings b = reader("b", "7", "100");

	w->memory_bytes = MIB(512);
	must_open(w);
	start(w, &liar);
	run_for(w, "c", 1000);
	start(w, &a);
	start(w, &b);
	run_for(w, "a", 50000);
	run_for(w, "b", 50000);
	run_for(w, "c", 50000);
	assert_true(figures_of(w, "a").shared_pages > 0);
	assert_int_equal(figures_of(w, "c").shared_pages, 0);
	with_arg(&thief, "--outside", "1");
	start(w, &thief);
	assert_int_equal(host_vm_wait(w->host, "d", 10000), 0);
	pause_three(w, true);
	sums_are_exact(w);
	audit_is_clean(w);
}

static void start_three(struct world *w)
{
	static const char *const names[] = {"a", "b", "c"};

	for (unsigned i = 0; i < 3; i++) {
		struct host_vm_settings s = vm_settings(names[i], 64);

		snprintf(s.group, sizeof(s.group), "g");
		with_arg(&s, "--seed", i == 0 ? "1" : i == 1 ? "2" : "3");
		start(w, &s);
	}
}

static void more_is_touched_than_there_is(void **state)
{
	struct world *w = *state;
	uint64_t zip_out = 0;
	uint64_t swap_out = 0;

	must_open(w);
	start_three(w);
	for (int i = 0; i < 12; i++) {
		nap_ms(500);
		sums_are_exact(w);
		memory_is_not_exceeded(w);
		print_host(w, "pressure");
	}
	run_for(w, "a", 20000);
	run_for(w, "b", 20000);
	run_for(w, "c", 20000);
	zip_out = figures_of(w, "a").zip_out + figures_of(w, "b").zip_out;
	swap_out = figures_of(w, "a").swap_out + figures_of(w, "b").swap_out;
	assert_true(zip_out > 0);
	assert_true(swap_out > 0);
	pause_three(w, true);
	nap_ms(200);
	audit_is_clean(w);
	sums_are_exact(w);
}

/* A cache that may take all of a VM's memory must not keep the VM above its limit. */
static void a_limit_holds_against_the_cache(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("one", 32);
	struct err err = {0};
	int i;

	must_open(w);
	assert_int_equal(host_option_set(w->host, "Mem.MemZipMaxPct", "100",
					 &err),
			 0);
	assert_int_equal(host_option_set(w->host, "Mem.MemZipMaxAllocPct",
					 "100", &err),
			 0);
	with_arg(&s, "--common", "0");
	with_arg(&s, "--drop", "0");
	start(w, &s);
	run_for(w, "one", 50000);
	pause_vm(w, "one", true);
	s.alloc.limit_pages = MIB(2) / PAGE_SIZE;
	assert_int_equal(host_vm_set(w->host, &s, &err), 0);
	for (i = 0; i < 500; i++) {
		if (figures_of(w, "one").consumed_pages <=
		    s.alloc.limit_pages + 16)
			break;
		nap_ms(20);
	}
	print_host(w, "limit");
	assert_true(i < 500);
	audit_is_clean(w);
	sums_are_exact(w);
	pause_vm(w, "one", false);
	run_for(w, "one", 2000);
}

/*
 * It touches each of its pages many times in the time for which one is watched, and is held
 * to its limit though nobody else wants memory.
 */
static void a_limit_holds_against_use(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("one", 2);
	struct err err = {0};
	uint64_t least = UINT64_MAX;

	must_open(w);
	/* A page that was sampled just now looks as if it were idle. */
	assert_int_equal(host_option_set(w->host, "Mem.SamplePeriod", "0", &err),
			 0);
	with_arg(&s, "--common", "0");
	with_arg(&s, "--drop", "0");
	start(w, &s);
	run_for(w, "one", 50000);
	s.alloc.limit_pages = MIB(1) / PAGE_SIZE;
	assert_int_equal(host_vm_set(w->host, &s, &err), 0);
	for (int i = 0; i < 1500 && least > s.alloc.limit_pages; i++) {
		least = min_u64(least, figures_of(w, "one").consumed_pages);
		nap_ms(20);
	}
	print_host(w, "limit");
	assert_in_range(least, 1, s.alloc.limit_pages);
	run_for(w, "one", 2000);
	pause_vm(w, "one", true);
	audit_is_clean(w);
	sums_are_exact(w);
}

/* Moves that are under way count twice. */
#define POOL_SLACK 128

static uint64_t pool_consumed(struct world *w, const char *name)
{
	struct host_snapshot s;
	uint64_t pages = 0;

	assert_int_equal(host_snapshot_take(w->host, &s), 0);
	for (uint32_t i = 0; i < s.n_pools; i++) {
		if (!strcmp(s.pools[i].name, name))
			pages = s.pools[i].consumed_pages;
	}
	host_snapshot_release(&s);
	return pages;
}

/* Each of them alone is far below it, and both want more all the time. */
static void a_pool_limit_is_never_exceeded(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = vm_settings("a", 64);
	struct host_vm_settings b = vm_settings("b", 64);
	struct mem_alloc alloc;
	struct err err = {0};
	uint64_t most = 0;

	w->memory_bytes = MIB(256);
	must_open(w);
	mem_alloc_init(&alloc);
	alloc.limit_pages = MIB(80) / PAGE_SIZE;
	assert_int_equal(host_pool_set(w->host, "p", "", &alloc, &err), 0);
	snprintf(a.pool, sizeof(a.pool), "p");
	snprintf(b.pool, sizeof(b.pool), "p");
	with_arg(&a, "--common", "0");
	with_arg(&b, "--common", "0");
	start(w, &a);
	start(w, &b);
	for (int i = 0; i < 1000; i++) {
		most = max_u64(most, pool_consumed(w, "p"));
		nap_ms(3);
	}
	print_host(w, "pool");
	assert_in_range(most, alloc.limit_pages * 9 / 10,
			alloc.limit_pages + POOL_SLACK);
	/* Nobody stands still beside the limit. */
	run_for(w, "a", 5000);
	run_for(w, "b", 5000);
	pause_vm(w, "a", true);
	pause_vm(w, "b", true);
	audit_is_clean(w);
	sums_are_exact(w);
}

static uint64_t shared_by_all(struct world *w)
{
	return figures_of(w, "a").shared_pages +
	       figures_of(w, "b").shared_pages + figures_of(w, "c").shared_pages;
}

/* Three VMs that fit only because they share, and then all write to every page. */
static void all_shared_pages_break_at_once(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct world *w = *state;
	struct err err;

	must_open(w);
	/* Scans at full speed from the beginning. */
	assert_int_equal(host_option_set(w->host, "Mem.MemMinFreePct", "50",
					 &err),
			 0);
	for (unsigned i = 0; i < 3; i++) {
		struct host_vm_settings s = vm_settings(names[i], 60);

		snprintf(s.group, sizeof(s.group), "g");
		with_arg(&s, "--common", "100");
		with_arg(&s, "--write", "0");
		with_arg(&s, "--drop", "0");
		with_arg(&s, "--sequential", "1");
		start(w, &s);
	}
	for (int i = 0; i < 600 && shared_by_all(w) < 30000; i++)
		nap_ms(50);
	print_host(w, "before");
	assert_true(shared_by_all(w) >= 30000);
	for (unsigned i = 0; i < 3; i++)
		spoil(w, names[i]);
	for (int i = 0; i < 40; i++) {
		nap_ms(50);
		memory_is_not_exceeded(w);
		sums_are_exact(w);
	}
	for (unsigned i = 0; i < 3; i++)
		run_for(w, names[i], 15360);
	print_host(w, "after");
	pause_three(w, true);
	nap_ms(200);
	audit_is_clean(w);
}

/* The kernel refuses to make files longer than the limit, as a full disk would. */
static void a_full_disk_is_an_error_at_start(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("one", 32);
	struct rlimit old, small;
	struct err err = {0};

	must_open(w);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = MIB(8);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(host_vm_start(w->host, &s, &err), -EFBIG);
	assert_non_null(strstr(err.text, "32 MiB"));
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	start(w, &s);
	run_for(w, "one", 1000);
}

static void vms_outlive_killed_hosts(void **state)
{
	struct world *w = *state;

	must_open(w);
	start_three(w);
	run_for(w, "a", 20000);
	w->host = host_free(w->host);
	for (int i = 0; i < 6; i++) {
		const pid_t pid = start_mezzd(w);

		nap_ms(700 + 137 * i);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		nap_ms(20);
	}
	must_open(w);
	wait_found(w, 3);
	run_for(w, "a", 20000);
	run_for(w, "b", 20000);
	run_for(w, "c", 20000);
	print_host(w, "found");
	pause_three(w, true);
	nap_ms(200);
	audit_is_clean(w);
	sums_are_exact(w);
	pause_three(w, false);
	run_for(w, "a", 1000);
}

static void a_killed_vm_gives_all_back(void **state)
{
	struct world *w = *state;
	struct err err;

	must_open(w);
	start_three(w);
	run_for(w, "b", 50000);
	assert_int_equal(host_vm_stop(w->host, "b", HOST_STOP_KILL, &err), 0);
	assert_int_equal(host_vm_wait(w->host, "b", 1000), 0);
	run_for(w, "a", 20000);
	run_for(w, "c", 20000);
	pause_vm(w, "a", true);
	pause_vm(w, "c", true);
	nap_ms(200);
	audit_is_clean(w);
	sums_are_exact(w);
}

static void a_second_host_is_refused(void **state)
{
	struct world *w = *state;
	struct world other = *w;
	struct err err = {0};

	must_open(w);
	assert_int_equal(open_host(&other, &err), -EBUSY);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("big", 512);
	struct err err = {0};

	must_open(w);
	s.alloc.reservation_pages = MIB(256) / PAGE_SIZE;
	assert_int_equal(host_vm_start(w->host, &s, &err), -ENOSPC);
	snprintf(s.pool, sizeof(s.pool), "nowhere");
	assert_int_equal(host_vm_start(w->host, &s, &err), -ENOENT);
	snprintf(s.name, sizeof(s.name), "../x");
	assert_int_equal(host_vm_start(w->host, &s, &err), -EINVAL);
}

static void idle_memory_is_noticed(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("idle", 32);
	uint64_t active = 0;

	must_open(w);
	with_arg(&s, "--active", "2048");
	start(w, &s);
	for (int i = 0; i < 200; i++) {
		active = figures_of(w, "idle").active_pages;
		if (active > 1200 && active < 3000 &&
		    figures_of(w, "idle").active_slow_pct > 0)
			break;
		nap_ms(50);
	}
	print_host(w, "idle");
	assert_in_range(active, 1200, 3000);
}

static void a_balloon_takes_unused_memory(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = vm_settings("a", 64);
	struct host_vm_settings b = vm_settings("b", 64);

	must_open(w);
	with_arg(&a, "--available", "8192");
	with_arg(&a, "--balloon", "1");
	with_arg(&a, "--common", "0");
	with_arg(&b, "--common", "0");
	/* Enough for the soft state, in which the balloon is the means of choice. */
	with_arg(&b, "--active", "15000");
	with_arg(&a, "--drop", "0");
	with_arg(&b, "--drop", "0");
	start(w, &a);
	run_for(w, "a", 100000);
	start(w, &b);
	for (int i = 0; i < 1000 && figures_of(w, "a").ballooned_pages < 512;
	     i++)
		nap_ms(20);
	print_host(w, "balloon");
	assert_true(figures_of(w, "a").ballooned_pages >= 512);
	/* What the guest keeps for itself is left to it. */
	assert_true(figures_of(w, "a").ballooned_pages <= 8192);
	run_for(w, "a", 20000);
	run_for(w, "b", 20000);
	sums_are_exact(w);
	/* A host that finds it later, and has enough for all, lets it out. */
	w->host = host_free(w->host);
	w->memory_bytes *= 4;
	must_open(w);
	wait_found(w, 2);
	for (int i = 0; i < 1000 && figures_of(w, "a").ballooned_pages; i++)
		nap_ms(20);
	assert_int_equal(figures_of(w, "a").ballooned_pages, 0);
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		TEST(one_vm_runs_and_ends),
		TEST(a_second_host_is_refused),
		TEST(what_does_not_fit_is_refused),
		TEST(vms_of_a_group_share),
		TEST(strangers_do_not_share),
		TEST(what_is_read_from_one_image_is_shared_at_once),
		TEST(what_a_vm_says_of_an_image_is_not_believed),
		TEST(idle_memory_is_noticed),
		TEST(more_is_touched_than_there_is),
		TEST(a_limit_holds_against_the_cache),
		TEST(a_limit_holds_against_use),
		TEST(a_pool_limit_is_never_exceeded),
		TEST(all_shared_pages_break_at_once),
		TEST(a_full_disk_is_an_error_at_start),
		TEST(a_balloon_takes_unused_memory),
		TEST(a_killed_vm_gives_all_back),
		TEST(vms_outlive_killed_hosts),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

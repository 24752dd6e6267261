/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a host must outlive: swap space that lacks, disks that fail, a balloon driver that lies, a
 * VM that does not answer, and being killed meanwhile. Guests know what their memory holds.
 */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
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

#include <base/clock.h>
#include <mem/revoke.h>

#include "world.h"

static unsigned told(struct world *w, enum host_event_kind kind)
{
	return atomic_load(&w->events[kind]);
}

/* A guest that writes all its memory, with contents that are its own. */
static struct host_vm_settings busy(const char *name, uint64_t mib,
				    const char *seed)
{
	struct host_vm_settings s = vm_settings(name, mib);

	with_arg(&s, "--common", "0");
	with_arg(&s, "--drop", "0");
	with_arg(&s, "--seed", seed);
	return s;
}

static void look_for(struct world *w, long ms)
{
	for (long i = 0; i < ms; i += 100) {
		nap_ms(100);
		sums_are_exact(w);
		memory_is_not_exceeded(w);
	}
}

static void pause_both(struct world *w, bool on)
{
	pause_vm(w, "a", on);
	pause_vm(w, "b", on);
}

static void end_clean_one(struct world *w, const char *name)
{
	run_for(w, name, 10000);
	pause_vm(w, name, true);
	audit_is_clean(w);
	sums_are_exact(w);
}

static void end_clean(struct world *w)
{
	run_for(w, "a", 10000);
	run_for(w, "b", 10000);
	pause_both(w, true);
	audit_is_clean(w);
	sums_are_exact(w);
}

/* Swap space is made for what is not reserved when the VM starts. */
static void swap_never_lacks_what_is_not_reserved(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 64, "1");
	struct host_vm_settings b = busy("b", 96, "2");
	const uint64_t reserved = MIB(48) / PAGE_SIZE;
	struct err err = {0};

	must_open(w);
	a.alloc.reservation_pages = reserved;
	start(w, &a);
	run_for(w, "a", 60000);
	assert_int_equal(figures_of(w, "a").swap_slots, MIB(16) / PAGE_SIZE);
	a.alloc.reservation_pages = reserved - 1;
	assert_int_equal(host_vm_set(w->host, &a, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "48 MiB"));
	a.alloc.reservation_pages = reserved;
	assert_int_equal(host_vm_set(w->host, &a, &err), 0);
	start(w, &b);
	run_for(w, "b", 40000);
	for (int i = 0; i < 20; i++) {
		/*
		 * Pages that it has not touched yet are nobody's loss. And what a batch of
		 * compressed pages saves is known only afterwards.
		 */
		const struct host_vm_figures f = figures_of(w, "a");

		assert_true(f.consumed_pages + f.zero_pages + REVOKE_BATCH_PAGES >=
			    reserved);
		look_for(w, 100);
	}
	assert_int_equal(told(w, HOST_EVENT_SWAP_FULL), 0);
	end_clean(w);
}

/* The kernel refuses to write files beyond the limit, as a failing disk would. */
static void a_disk_that_takes_no_more_loses_nothing(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 96, "1");
	struct host_vm_settings b = busy("b", 96, "2");
	struct rlimit old, small;
	struct err err;

	must_open(w);
	assert_int_equal(host_option_set(w->host, "Mem.MemZipEnable", "0", &err),
			 0);
	start(w, &a);
	start(w, &b);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	small = old;
	small.rlim_cur = MIB(4);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	look_for(w, 4000);
	print_host(w, "failing");
	assert_true(figures_of(w, "a").swap_out <= MIB(4) / PAGE_SIZE);
	assert_true(told(w, HOST_EVENT_SWAP_FAILED) > 0);
	assert_int_equal(told(w, HOST_EVENT_SWAP_FULL), 0);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	end_clean(w);
	assert_true(figures_of(w, "a").swap_out > 0);
}

static void start_pair(struct world *w, const char *driver)
{
	struct host_vm_settings a = busy("a", 64, "1");
	struct host_vm_settings b = busy("b", 96, "2");

	must_open(w);
	with_arg(&a, "--balloon", driver);
	with_arg(&a, "--available", "16384");
	start(w, &a);
	run_for(w, "a", 50000);
	/* A guest that waits for memory is not asked for any. */
	pause_vm(w, "a", true);
	start(w, &b);
}

static void a_lying_balloon_hurts_itself(void **state)
{
	struct world *w = *state;
	uint64_t target = 0;

	start_pair(w, "3");
	for (int i = 0; i < 1500 && !target; i++) {
		nap_ms(20);
		target = figures_of(w, "a").balloon_target_pages;
	}
	assert_true(target > 0);
	pause_vm(w, "a", false);
	look_for(w, 3000);
	print_host(w, "liar");
	/* Never more than the option allows, whatever it says that it could spare. */
	assert_true(figures_of(w, "a").balloon_target_pages <=
		    MIB(64) / PAGE_SIZE * 65 / 100);
	end_clean(w);
}

static void wait_driver(struct world *w, enum balloon_driver driver)
{
	for (int i = 0; i < 1500; i++) {
		if (figures_of(w, "a").balloon_driver == driver)
			return;
		nap_ms(20);
	}
	fail_msg("the driver of a is %d, not %d",
		 (int)figures_of(w, "a").balloon_driver, (int)driver);
}

/* Others take over, and it is believed again once it works, though nobody counted on it. */
static void a_stuck_balloon_is_trusted_once_it_works(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 64, "1");
	struct fake_progress *p;
	struct err err;

	must_open(w);
	with_arg(&a, "--balloon", "2");
	with_arg(&a, "--available", "16384");
	start(w, &a);
	run_for(w, "a", 50000);
	pause_vm(w, "a", true);
	/* A balloon is what this begins with. */
	a.alloc.limit_pages = MIB(24) / PAGE_SIZE;
	assert_int_equal(host_vm_set(w->host, &a, &err), 0);
	wait_driver(w, BALLOON_STUCK);
	assert_string_equal(w->said, "VM a has a balloon driver that is stuck");
	for (int i = 0; i < 1000; i++) {
		if (figures_of(w, "a").consumed_pages <= a.alloc.limit_pages)
			break;
		nap_ms(20);
	}
	assert_true(figures_of(w, "a").consumed_pages <= a.alloc.limit_pages);
	assert_int_equal(figures_of(w, "a").ballooned_pages, 0);
	p = progress_of(w, "a");
	atomic_store(&p->mended, 1);
	munmap(p, PAGE_SIZE);
	pause_vm(w, "a", false);
	wait_driver(w, BALLOON_READY);
	print_host(w, "mended");
	assert_true(figures_of(w, "a").ballooned_pages > 0);
	end_clean_one(w, "a");
}

static uint64_t machine_pages(struct host_vm_figures f)
{
	return f.private_pages + f.zip_pages;
}

static void a_vm_that_does_not_answer_holds_up_nobody(void **state)
{
	uint64_t before;
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 64, "1");
	struct host_vm_settings b = busy("b", 96, "2");
	pid_t pid;

	must_open(w);
	start(w, &a);
	run_for(w, "a", 50000);
	start(w, &b);
	run_for(w, "b", 20000);
	pid = figures_of(w, "a").pid;
	assert_int_equal(kill(pid, SIGSTOP), 0);
	run_for(w, "b", 20000);
	memory_is_not_exceeded(w);
	/* Nothing is known of it but that it is there, and so is its memory. */
	before = machine_pages(figures_of(w, "a"));
	w->host = host_free(w->host);
	must_open(w);
	for (int i = 0; i < 40; i++) {
		nap_ms(50);
		assert_true(before + machine_pages(figures_of(w, "b")) <=
			    w->memory_bytes / PAGE_SIZE);
	}
	run_for(w, "b", 20000);
	print_host(w, "stopped");
	assert_int_equal(kill(pid, SIGCONT), 0);
	wait_found(w, 2);
	look_for(w, 1000);
	end_clean(w);
}

/* One that was killed has never seen the end of what it was doing. */
static void killed_hosts_lose_nothing_under_load(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 96, "1");
	struct host_vm_settings b = busy("b", 96, "2");

	must_open(w);
	start(w, &a);
	start(w, &b);
	run_for(w, "a", 20000);
	run_for(w, "b", 20000);
	w->host = host_free(w->host);
	for (int i = 0; i < 8; i++) {
		const pid_t pid = start_mezzd(w);

		nap_ms(300 + 171 * i % 500);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	must_open(w);
	/* From the first moment on. */
	memory_is_not_exceeded(w);
	wait_found(w, 2);
	look_for(w, 1000);
	assert_true(figures_of(w, "a").swap_slots >
		    figures_of(w, "a").swap_slots_free);
	end_clean(w);
}

static uint64_t used_pages(struct world *w)
{
	const struct host_vm_figures a = figures_of(w, "a");

	return a.consumed_pages + a.zip_pages;
}

/* What the VM could still take from the former host is no free memory of this one. */
static void a_host_with_less_memory_takes_it_back(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 192, "1");
	const uint64_t filled = MIB(110) / PAGE_SIZE;
	const uint64_t enough = MIB(96) / PAGE_SIZE;

	w->memory_bytes = MIB(256);
	must_open(w);
	start(w, &a);
	while (figures_of(w, "a").consumed_pages < filled)
		nap_ms(1);
	pause_vm(w, "a", true);
	w->host = host_free(w->host);
	w->memory_bytes = MIB(96);
	must_open(w);
	wait_found(w, 1);
	for (int i = 0; i < 200 && used_pages(w) > enough; i++)
		nap_ms(50);
	assert_true(used_pages(w) <= enough);
	audit_is_clean(w);
	pause_vm(w, "a", false);
	run_for(w, "a", 1000);
	pause_vm(w, "a", true);
	audit_is_clean(w);
}

struct starter {
	struct world *w;
	struct host_vm_settings set;
	struct err err;
	int r;
};

static void *start_it(void *arg)
{
	struct starter *s = arg;

	s->r = host_vm_start(s->w->host, &s->set, &s->err);
	return NULL;
}

/* While it waits for memory there is no process yet that could be ended. */
static void a_stop_reaches_a_vm_without_a_process(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 64, "1");
	struct starter b = {.w = w, .set = busy("b", 64, "2")};
	pthread_t thread;
	struct err err;
	pid_t pid;

	must_open(w);
	start(w, &a);
	pid = figures_of(w, "a").pid;
	assert_int_equal(kill(pid, SIGSTOP), 0);
	w->host = host_free(w->host);
	/* Nobody gets anything until it is known what the one that stands still has. */
	must_open(w);
	assert_int_equal(pthread_create(&thread, NULL, start_it, &b), 0);
	for (int i = 0; i < 1000 && !figures_of(w, "b").start_ms; i++)
		nap_ms(1);
	assert_int_equal(figures_of(w, "b").pid, 0);
	assert_int_equal(host_vm_stop(w->host, "b", HOST_STOP_VM, &err), 0);
	assert_int_equal(host_vm_wait(w->host, "b", 3000), 0);
	pthread_join(thread, NULL);
	assert_int_equal(b.r, -ECANCELED);
	assert_non_null(strstr(b.err.text, "stopped"));
	assert_int_equal(kill(pid, SIGCONT), 0);
	wait_found(w, 1);
	end_clean_one(w, "a");
}

/* As whoever starts a VM again does that at the moment that it has ended. */
static void a_vm_starts_at_once_after_its_end(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 16, "1");
	struct err err;

	must_open(w);
	for (int i = 0; i < 20; i++) {
		start(w, &a);
		assert_int_equal(host_vm_stop(w->host, "a", HOST_STOP_KILL, &err),
				 0);
		assert_int_equal(host_vm_wait(w->host, "a", 5000), 0);
	}
}

static bool has_file(struct world *w, const char *name, const char *file)
{
	char path[4096];

	assert_int_equal(host_vm_path(w->host, name, file, path, sizeof(path)),
			 0);
	return !access(path, F_OK);
}

static void a_start_that_fails_leaves_no_swap_file(void **state)
{
	struct world *w = *state;
	struct host_vm_settings a = busy("a", 64, "1");
	struct err err;

	w->vm_program = "/bin/false";
	must_open(w);
	assert_int_equal(host_vm_start(w->host, &a, &err), -ECHILD);
	assert_true(has_file(w, "a", "vm.log"));
	assert_false(has_file(w, "a", "swap"));
}

int main(int argc, char *argv[])
{
	const struct CMUnitTest tests[] = {
#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		TEST(swap_never_lacks_what_is_not_reserved),
		TEST(a_disk_that_takes_no_more_loses_nothing),
		TEST(a_lying_balloon_hurts_itself),
		TEST(a_stuck_balloon_is_trusted_once_it_works),
		TEST(a_vm_that_does_not_answer_holds_up_nobody),
		TEST(killed_hosts_lose_nothing_under_load),
		TEST(a_host_with_less_memory_takes_it_back),
		TEST(a_stop_reaches_a_vm_without_a_process),
		TEST(a_vm_starts_at_once_after_its_end),
		TEST(a_start_that_fails_leaves_no_swap_file),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}

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
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <host/host.h>

#include "progress.h"

#define MIB(n) ((uint64_t)(n) << 20)

struct world {
	char dir[64];
	struct host *host;
	uint64_t memory_bytes;
	unsigned quiet;
};

static void nap_ms(long ms)
{
	const struct timespec t = {.tv_sec = ms / 1000,
				   .tv_nsec = ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static void on_event(void *ctx, const struct host_event *event)
{
	(void)ctx;
	if (getenv("MEZZ_TEST_VERBOSE"))
		fprintf(stderr, "event %s %s\n",
			host_event_kind_name(event->kind), event->text);
}

static int open_host(struct world *w, struct err *err)
{
	struct host_config cfg = {
		.state_dir = w->dir,
		.memory_bytes = w->memory_bytes,
		.vm_program = getenv("FAKE_VM"),
		.overhead_bytes = MIB(2),
		.event = on_event,
	};

	options_init(&cfg.options);
	/* Fast enough for a test to see what takes minutes in life. */
	cfg.options.v[OPT_SHARE_RATE_MAX] = 32768;
	cfg.options.v[OPT_SHARE_SCAN_TIME] = 10;
	cfg.options.v[OPT_SHARE_SCAN_GHZ] = 32;
	cfg.options.v[OPT_SAMPLE_PERIOD] = 1;
	return host_new(&cfg, &w->host, err);
}

static void must_open(struct world *w)
{
	struct err err = {0};

	if (open_host(w, &err))
		fail_msg("%s", err.text);
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "/tmp/mezz-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->memory_bytes = MIB(128);
	*state = w;
	return 0;
}

static void stop_all(struct world *w)
{
	struct host_snapshot s;
	struct err err;

	if (!w->host || host_snapshot_take(w->host, &s))
		return;
	for (uint32_t i = 0; i < s.n_vms; i++) {
		(void)!host_vm_stop(w->host, s.vms[i].settings.name,
				    HOST_STOP_KILL, &err);
		(void)!host_vm_wait(w->host, s.vms[i].settings.name, 5000);
	}
	host_snapshot_release(&s);
}

static int teardown(void **state)
{
	struct world *w = *state;
	char command[128];

	stop_all(w);
	host_free(w->host);
	snprintf(command, sizeof(command), "rm -rf %s", w->dir);
	if (system(command))
		return -1;
	free(w);
	return 0;
}

static struct host_vm_settings vm_settings(const char *name, uint64_t mib)
{
	struct host_vm_settings s;

	host_vm_settings_init(&s, name, MIB(mib) / PAGE_SIZE);
	return s;
}

static void with_arg(struct host_vm_settings *s, const char *key,
		     const char *value)
{
	s->args[s->n_args++] = key;
	s->args[s->n_args++] = value;
}

static void start(struct world *w, const struct host_vm_settings *s)
{
	struct err err = {0};

	if (host_vm_start(w->host, s, &err))
		fail_msg("%s", err.text);
}

static struct fake_progress *progress_of(struct world *w, const char *name)
{
	char path[4096];
	int fd;
	void *p;

	snprintf(path, sizeof(path), "%s/vms/%s/progress", w->dir, name);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0);
	p = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_true(p != MAP_FAILED);
	close(fd);
	return p;
}

static void pause_vm(struct world *w, const char *name, bool on)
{
	struct fake_progress *p = progress_of(w, name);
	char path[4096];

	snprintf(path, sizeof(path), "%s/vms/%s/pause", w->dir, name);
	if (on)
		close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	else
		unlink(path);
	for (int i = 0; i < 5000 && atomic_load(&p->paused) != on; i++)
		nap_ms(2);
	assert_int_equal(atomic_load(&p->paused), on);
	munmap(p, PAGE_SIZE);
}

static uint64_t ops_of(struct world *w, const char *name)
{
	struct fake_progress *p = progress_of(w, name);
	const uint64_t ops = atomic_load(&p->ops);

	assert_int_equal(atomic_load(&p->errors), 0);
	munmap(p, PAGE_SIZE);
	return ops;
}

/* Goes on until a VM has done that much more. */
static void run_for(struct world *w, const char *name, uint64_t ops)
{
	const uint64_t end = ops_of(w, name) + ops;

	for (int i = 0; i < 12000; i++) {
		if (ops_of(w, name) >= end)
			return;
		nap_ms(5);
	}
	fail_msg("VM %s does not get on", name);
}

static struct host_vm_figures figures_of(struct world *w, const char *name)
{
	struct host_vm_figures f = {0};
	struct host_snapshot s;

	assert_int_equal(host_snapshot_take(w->host, &s), 0);
	for (uint32_t i = 0; i < s.n_vms; i++) {
		if (!strcmp(s.vms[i].settings.name, name))
			f = s.vms[i];
	}
	host_snapshot_release(&s);
	return f;
}

static void sums_are_exact(struct world *w)
{
	struct host_snapshot s;

	assert_int_equal(host_snapshot_take(w->host, &s), 0);
	for (uint32_t i = 0; i < s.n_vms; i++) {
		const struct host_vm_figures *f = &s.vms[i];

		assert_int_equal(f->private_pages + f->shared_pages +
					 f->zero_pages + f->ballooned_pages +
					 f->compressed_pages + f->swapped_pages,
				 f->settings.size_pages);
	}
	assert_int_equal(s.host.managed_pages,
			 s.host.consumed_pages + s.host.common_pages +
				 s.host.zip_pages + s.host.table_pages +
				 s.host.overhead_pages + s.host.free_pages);
	assert_int_equal(s.host.over_pages, 0);
	host_snapshot_release(&s);
}

static void audit_is_clean(struct world *w)
{
	struct host_audit a;

	assert_int_equal(host_audit(w->host, &a), 0);
	assert_int_equal(a.wrong_counts, 0);
	assert_int_equal(a.wrong_refs, 0);
	assert_int_equal(a.wrong_slots, 0);
	assert_int_equal(a.book_pages, a.kernel_pages);
}

static void print_host(struct world *w, const char *when)
{
	struct host_snapshot s;

	if (!getenv("MEZZ_TEST_VERBOSE") || host_snapshot_take(w->host, &s))
		return;
	fprintf(stderr,
		"%s: free %llu state %s consumed %llu common %llu zip %llu over %llu\n",
		when, (unsigned long long)s.host.free_pages,
		host_state_name(s.host.state),
		(unsigned long long)s.host.consumed_pages,
		(unsigned long long)s.host.common_pages,
		(unsigned long long)s.host.zip_pages,
		(unsigned long long)s.host.overhead_pages);
	for (uint32_t i = 0; i < s.n_vms; i++) {
		const struct host_vm_figures *f = &s.vms[i];

		fprintf(stderr,
			"  %s: private %llu shared %llu zero %llu balloon %llu zip %llu swap %llu allow %llu active %llu target %llu ops %llu\n",
			f->settings.name, (unsigned long long)f->private_pages,
			(unsigned long long)f->shared_pages,
			(unsigned long long)f->zero_pages,
			(unsigned long long)f->ballooned_pages,
			(unsigned long long)f->compressed_pages,
			(unsigned long long)f->swapped_pages,
			(unsigned long long)f->allowance_pages,
			(unsigned long long)f->active_pages,
			(unsigned long long)f->entitlement_pages,
			(unsigned long long)ops_of(w, f->settings.name));
	}
	host_snapshot_release(&s);
}

/* By the kernel's own figures, whatever our books say. */
static void memory_is_not_exceeded(struct world *w)
{
	struct host_audit a;

	assert_int_equal(host_audit(w->host, &a), 0);
	assert_true(a.kernel_pages <= w->memory_bytes / PAGE_SIZE);
}

static void one_vm_runs_and_ends(void **state)
{
	struct world *w = *state;
	struct host_vm_settings s = vm_settings("one", 32);
	struct err err = {0};

	must_open(w);
	start(w, &s);
	run_for(w, "one", 100000);
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

static uint64_t shared_by_all(struct world *w)
{
	return figures_of(w, "a").shared_pages +
	       figures_of(w, "b").shared_pages + figures_of(w, "c").shared_pages;
}

static void spoil(struct world *w, const char *name)
{
	struct fake_progress *p = progress_of(w, name);

	atomic_store(&p->spoil, 1);
	munmap(p, PAGE_SIZE);
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

static pid_t start_mezzd(struct world *w)
{
	const pid_t pid = fork();

	if (!pid) {
		char memory[32];

		snprintf(memory, sizeof(memory), "%lluM",
			 (unsigned long long)w->memory_bytes >> 20);
		execl(getenv("MEZZD"), "mezzd", "--state-dir", w->dir,
		      "--memory", memory, "--vm-program", getenv("FAKE_VM"),
		      (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

static void wait_found(struct world *w, uint32_t n)
{
	for (int i = 0; i < 1000; i++) {
		struct host_snapshot s;
		uint32_t running = 0;

		assert_int_equal(host_snapshot_take(w->host, &s), 0);
		for (uint32_t v = 0; v < s.n_vms; v++)
			running += s.vms[v].state == HOST_VM_RUNNING;
		host_snapshot_release(&s);
		if (running == n)
			return;
		nap_ms(10);
	}
	fail_msg("not all VMs were found");
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

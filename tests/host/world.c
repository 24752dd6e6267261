/* SPDX-License-Identifier: Apache-2.0 */
/* A host with fake VMs for tests. */
#include "world.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/clock.h>

static void on_event(void *ctx, const struct host_event *event)
{
	struct world *w = ctx;

	atomic_fetch_add(&w->events[event->kind], 1);
	if (event->kind == HOST_EVENT_BALLOON)
		memcpy(w->said, event->text, sizeof(w->said));
	if (getenv("MEZZ_TEST_VERBOSE"))
		fprintf(stderr, "event %s %s\n",
			host_event_kind_name(event->kind), event->text);
}

int open_host(struct world *w, struct err *err)
{
	struct host_config cfg = {
		.state_dir = w->dir,
		.memory_bytes = w->memory_bytes,
		.vm_program = w->vm_program,
		.overhead_bytes = MIB(2),
		.event = on_event,
		.event_ctx = w,
	};

	options_init(&cfg.options);
	/* Fast enough for a test to see what takes minutes in life. */
	cfg.options.v[OPT_SHARE_RATE_MAX] = 32768;
	cfg.options.v[OPT_SHARE_SCAN_TIME] = 10;
	cfg.options.v[OPT_SHARE_SCAN_GHZ] = 32;
	cfg.options.v[OPT_SAMPLE_PERIOD] = 1;
	return host_new(&cfg, &w->host, err);
}

void must_open(struct world *w)
{
	struct err err = {0};

	if (open_host(w, &err))
		fail_msg("%s", err.text);
}

/* The path of a program of the tests, as meson tells it. */
static const char *program_of(const char *variable)
{
	const char *path = getenv(variable);

	if (path)
		return path;
	fprintf(stderr, "%s is not set: meson test does it\n", variable);
	abort();
}

int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));

	snprintf(w->dir, sizeof(w->dir), "/tmp/mezz-test-XXXXXX");
	if (!mkdtemp(w->dir))
		return -1;
	w->memory_bytes = MIB(128);
	w->vm_program = program_of("FAKE_VM");
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

int teardown(void **state)
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

struct host_vm_settings vm_settings(const char *name, uint64_t mib)
{
	struct host_vm_settings s;

	host_vm_settings_init(&s, name, MIB(mib) / PAGE_SIZE);
	return s;
}

void with_arg(struct host_vm_settings *s, const char *key, const char *value)
{
	s->args[s->n_args++] = key;
	s->args[s->n_args++] = value;
}

void start(struct world *w, const struct host_vm_settings *s)
{
	struct err err = {0};

	if (host_vm_start(w->host, s, &err))
		fail_msg("%s", err.text);
}

struct fake_progress *progress_of(struct world *w, const char *name)
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

void pause_vm(struct world *w, const char *name, bool on)
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

uint64_t ops_of(struct world *w, const char *name)
{
	struct fake_progress *p = progress_of(w, name);
	const uint64_t ops = atomic_load(&p->ops);

	assert_int_equal(atomic_load(&p->errors), 0);
	munmap(p, PAGE_SIZE);
	return ops;
}

/* Goes on until a VM has done that much more. */
void run_for(struct world *w, const char *name, uint64_t ops)
{
	const uint64_t end = ops_of(w, name) + ops;

	for (int i = 0; i < 12000; i++) {
		if (ops_of(w, name) >= end)
			return;
		nap_ms(5);
	}
	fail_msg("VM %s does not get on", name);
}

struct host_vm_figures figures_of(struct world *w, const char *name)
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

void sums_are_exact(struct world *w)
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

void audit_is_clean(struct world *w)
{
	struct host_audit a;

	assert_int_equal(host_audit(w->host, &a), 0);
	assert_int_equal(a.wrong_counts, 0);
	assert_int_equal(a.wrong_refs, 0);
	assert_int_equal(a.wrong_slots, 0);
	assert_int_equal(a.book_pages, a.kernel_pages);
	assert_int_equal(a.untouched_pages, 0);
}

void print_host(struct world *w, const char *when)
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
void memory_is_not_exceeded(struct world *w)
{
	struct host_audit a;

	assert_int_equal(host_audit(w->host, &a), 0);
	assert_true(a.kernel_pages + a.overhead_pages <=
		    w->memory_bytes / PAGE_SIZE);
}

pid_t start_mezzd(struct world *w)
{
	const char *mezzd = program_of("MEZZD");
	const pid_t pid = fork();

	if (!pid) {
		char memory[32], socket[96];

		snprintf(memory, sizeof(memory), "%lluM",
			 (unsigned long long)w->memory_bytes >> 20);
		snprintf(socket, sizeof(socket), "%s/mezzd.sock", w->dir);
		execl(mezzd, "mezzd", "--state-dir", w->dir, "--socket", socket,
		      "--quiet", "--memory", memory, "--vm-program",
		      w->vm_program, (char *)NULL);
		_exit(127);
	}
	assert_true(pid > 0);
	return pid;
}

void wait_found(struct world *w, uint32_t n)
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

void spoil(struct world *w, const char *name)
{
	struct fake_progress *p = progress_of(w, name);

	atomic_store(&p->spoil, 1);
	munmap(p, PAGE_SIZE);
}

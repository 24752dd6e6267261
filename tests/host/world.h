/* SPDX-License-Identifier: Apache-2.0 */
/* A host with fake VMs for tests: start, stop, wait, and what must always be true. */
#ifndef TESTS_HOST_WORLD_H
#define TESTS_HOST_WORLD_H
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <host/host.h>

#include "progress.h"

#define MIB(n) ((uint64_t)(n) << 20)

/**
 * struct world - one test's host.
 * @dir: its state directory
 * @vm_program: what the next host starts as VMs: the fake one
 * @host: or NULL
 * @memory_bytes: machine memory, for the next host that is opened
 * @events: how many of each kind there were
 * @said: the latest of balloons
 */
struct world {
	char dir[64];
	const char *vm_program;
	struct host *host;
	uint64_t memory_bytes;
	_Atomic unsigned events[HOST_EVENT_ERROR + 1];
	char said[HOST_EVENT_MAX];
};

/** open_host() - begin with the options of the tests. Return: as host_new(). */
int open_host(struct world *w, struct err *err);

/** must_open() - open_host(), and the test fails if that does. */
void must_open(struct world *w);

/** setup() - for cmocka: a world with a directory, without a host. */
int setup(void **state);

/** teardown() - for cmocka: end all VMs and the host, remove the directory. */
int teardown(void **state);

/** vm_settings() - defaults for a VM of so many MiB. */
struct host_vm_settings vm_settings(const char *name, uint64_t mib);

/** with_arg() - add an argument of the fake VM. */
void with_arg(struct host_vm_settings *s, const char *key, const char *value);

/** start() - start a VM. */
void start(struct world *w, const struct host_vm_settings *s);

/** progress_of() - what a VM has done so far; to be unmapped. */
struct fake_progress *progress_of(struct world *w, const char *name);

/** pause_vm() - have a VM do nothing but answer the host, or go on. */
void pause_vm(struct world *w, const char *name, bool on);

/** ops_of() - how much a VM has done; it has found no wrong byte. */
uint64_t ops_of(struct world *w, const char *name);

/** run_for() - until a VM has done that much more. */
void run_for(struct world *w, const char *name, uint64_t ops);

/** figures_of() - figures of a VM; of size 0 if it does not run. */
struct host_vm_figures figures_of(struct world *w, const char *name);

/** sums_are_exact() - every page of each VM and of the host is counted once. */
void sums_are_exact(struct world *w);

/** audit_is_clean() - the books agree with physmaps and kernel. */
void audit_is_clean(struct world *w);

/** print_host() - for people, if MEZZ_TEST_VERBOSE is set. */
void print_host(struct world *w, const char *when);

/** memory_is_not_exceeded() - by the kernel's own figures, whatever our books say. */
void memory_is_not_exceeded(struct world *w);

/** start_mezzd() - a host as a process of its own. */
pid_t start_mezzd(struct world *w);

/** wait_found() - until that many VMs run. */
void wait_found(struct world *w, uint32_t n);

/** spoil() - have a VM write to each page once more. */
void spoil(struct world *w, const char *name);

#endif

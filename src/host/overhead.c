/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Overhead: what VM processes and this program use beside memory files.
 *
 * The kernel says how much that is, but only afterwards. So the ledger has in advance what a
 * VM is admitted with, from before its process is started until it has not grown for a while;
 * from then on what was measured and a little more. A VM that grows again has the whole again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/arith.h>
#include <base/clock.h>
#include <base/units.h>
#include <host/host_impl.h>

/* A sanitizer's own memory is many times the program's: it is left out of the books. */
#if defined(__SANITIZE_ADDRESS__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_SANITIZED 1
#endif
#endif
#ifndef IS_SANITIZED
#define IS_SANITIZED 0
#endif

#define HEADROOM_PAGES MIB_PAGES
#define GROWTH_PAGES   (MIB_PAGES / 4)
#define CALM_MS        10000
#define ROOM_WAIT_MS   10000

uint64_t vm_overhead_reserve(const struct host *host, uint64_t size_pages)
{
	return host->overhead_base_pages + size_pages / 128;
}

/* Reading the kernel takes half as much again, until the processor runs. */
static uint64_t start_reserve(const struct host *host, uint64_t size_pages)
{
	return vm_overhead_reserve(host, size_pages) +
	       host->overhead_base_pages / 2;
}

static bool has_run(const struct hvm *vm)
{
	return vm->mem && atomic_load(&vm->mem->counters->run_ns);
}

uint64_t process_overhead(pid_t pid)
{
	char line[256];
	uint64_t kib = 0;
	FILE *f;

	snprintf(line, sizeof(line), "/proc/%d/status", (int)pid);
	f = IS_SANITIZED ? NULL : fopen(line, "re");
	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "RssAnon:", 8) || !strncmp(line, "VmPTE:", 6))
			kib += strtoull(strchr(line, ':') + 1, NULL, 10);
	}
	fclose(f);
	return kib * 1024 / PAGE_SIZE;
}

/*
 * What a VM has started beside itself, its mezz-net, is part of it. That it does before its
 * processor runs, and its sandbox lets it start nothing later.
 */
static uint64_t helpers_overhead(struct hvm *vm)
{
	char path[64];
	uint64_t sum = 0;
	bool any = false;
	long child;
	FILE *f;

	if (vm->alone)
		return 0;
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)vm->pid,
		 (int)vm->pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	while (fscanf(f, "%ld", &child) == 1) {
		any = true;
		sum += process_overhead((pid_t)child);
	}
	fclose(f);
	vm->alone = !any && has_run(vm);
	return sum;
}

uint64_t vm_overhead_now(struct hvm *vm)
{
	return vm->mem ? process_overhead(vm->pid) + helpers_overhead(vm) +
				 file_pages(physmap_fd(vm->mem->map)) +
				 LINK_COUNTERS_BYTES / PAGE_SIZE
		       : 0;
}

/* One that has not greeted may be using what it was admitted with. */
static uint64_t reserve_of(const struct hvm *vm)
{
	const struct host *host = vm->host;

	if (vm->ran_before || has_run(vm))
		return vm_overhead_reserve(host, vm->set.size_pages);
	return start_reserve(host, vm->set.size_pages);
}

static void measure_vm(struct hvm *vm, uint64_t now_ms)
{
	const uint64_t pages = vm_overhead_now(vm);
	const uint64_t all = pages + (vm->mem ? vmmem_table_pages(vm->mem) : 0);
	uint64_t reserve = reserve_of(vm);

	/* One that ran before this host has grown already. */
	if (!vm->calm_pages && vm->ran_before)
		vm->calm_pages = all;
	if (all > vm->calm_pages + GROWTH_PAGES) {
		vm->calm_since_ms = now_ms;
		vm->calm_pages = all;
	}
	if (vm->mem && now_ms - vm->calm_since_ms >= CALM_MS)
		reserve = min_u64(reserve, all + HEADROOM_PAGES);
	vm->overhead_pages = pages;
	vm->charge_pages = max_u64(all, reserve);
}

void overhead_measure(struct host *host)
{
	const uint64_t now = monotonic_ms();
	uint64_t sum;

	host->self_pages = process_overhead(getpid());
	sum = host->self_pages + HEADROOM_PAGES;
	for (uint32_t i = 0; i < host->n_vms; i++) {
		/* One whose pages are still being got together is not entered yet. */
		if (!host->vms[i]->entered)
			continue;
		measure_vm(host->vms[i], now);
		sum += host->vms[i]->charge_pages;
	}
	ledger_overhead(&host->ledger, sum);
}

static bool is_unwanted(struct hvm *vm)
{
	bool unwanted;

	pthread_mutex_lock(&vm->host->lock);
	unwanted = vm->unwanted;
	pthread_mutex_unlock(&vm->host->lock);
	return unwanted;
}

/* What is there now of what is missing. Return: what is missing still. */
static uint64_t collect(struct host *host, uint64_t missing)
{
	const uint64_t got = ledger_take(&host->ledger, LEDGER_VM, missing);

	pthread_mutex_lock(&host->lock);
	host->starting_pages -= got;
	pthread_mutex_unlock(&host->lock);
	return missing - got;
}

int overhead_enter(struct host *host, struct hvm *vm, struct err *err)
{
	const uint64_t need = start_reserve(host, vm->set.size_pages);
	const uint64_t end = monotonic_ms() + ROOM_WAIT_MS;
	uint64_t missing = need;

	pthread_mutex_lock(&host->lock);
	host->starting_pages += need;
	pthread_mutex_unlock(&host->lock);
	while ((missing = collect(host, missing)) && monotonic_ms() < end &&
	       !is_unwanted(vm)) {
		host_replan(host);
		nap_ms(5);
	}
	pthread_mutex_lock(&host->lock);
	host->starting_pages -= missing;
	if (missing) {
		ledger_give(&host->ledger, need - missing);
	} else {
		ledger_to_overhead(&host->ledger, need);
		vm->charge_pages = need;
		vm->calm_since_ms = monotonic_ms();
		vm->entered = true;
	}
	pthread_mutex_unlock(&host->lock);
	if (!missing)
		return 0;
	return err_set(
		err, -EAGAIN,
		"VM %s needs %llu MiB beside its guest's memory, and %llu MiB of these cannot be reclaimed now",
		vm->set.name, (unsigned long long)need >> 8,
		(unsigned long long)(missing + 255) >> 8);
}

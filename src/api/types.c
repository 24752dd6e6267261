/* SPDX-License-Identifier: Apache-2.0 */
/* The tables of all objects: names in JSON, limits, meaning. */
#include <api/types.h>

#include <string.h>

#define SIZE_MIN_BYTES (UINT64_C(16) << 20)
#define WAIT_MAX_MS    UINT64_C(600000)

#define F(type_, name_, struct_, member_, help_, ...)                          \
	{                                                                      \
		.name = name_, .type = type_,                                  \
		.offset = offsetof(struct struct_, member_),                   \
		.size = sizeof(((struct struct_ *)0)->member_), .help = help_, \
		__VA_ARGS__                                                    \
	}

#define SCHEMA(name_, struct_, fields_, help_, ...)              \
	{                                                        \
		.name = name_, .help = help_, .fields = fields_, \
		.n_fields = ARRAY_SIZE(fields_),                 \
		.size = sizeof(struct struct_), __VA_ARGS__      \
	}

/* clang-format off */
static const char *const level_words[] = {
	[SHARES_LOW] = "low", [SHARES_NORMAL] = "normal", [SHARES_HIGH] = "high",
	[SHARES_CUSTOM] = "custom", NULL};
static const char *const power_words[] = {
	[API_POWERED_OFF] = "poweredOff", [API_STARTING] = "starting",
	[API_POWERED_ON] = "poweredOn", [API_STOPPING] = "stopping",
	[API_NOT_RESPONDING] = "notResponding", NULL};
static const char *const engine_words[] = {
	[API_ENGINE_NONE] = "none", [API_ENGINE_SOFT] = "soft", [API_ENGINE_KVM] = "kvm", NULL};
static const char *const mmu_words[] = {
	[API_MMU_NONE] = "none", [API_MMU_SOFTWARE] = "software", [API_MMU_HARDWARE] = "hardware",
	[API_MMU_HOST] = "host", NULL};
static const char *const driver_words[] = {
	[BALLOON_NONE] = "none", [BALLOON_READY] = "ready", [BALLOON_STUCK] = "stuck", NULL};
static const char *const state_words[] = {
	[HOST_HIGH] = "high", [HOST_CLEAR] = "clear", [HOST_SOFT] = "soft",
	[HOST_HARD] = "hard", [HOST_LOW] = "low", NULL};
static const char *const stop_words[] = {
	[API_STOP_GUEST] = "guest", [API_STOP_VM] = "vm", [API_STOP_KILL] = "kill", NULL};
static const char *const page_words[] = {
	[API_PAGE_ZERO] = "zero", [API_PAGE_HOME] = "home", [API_PAGE_SHARED] = "shared",
	[API_PAGE_ZIPPED] = "zipped", [API_PAGE_SWAPPED] = "swapped",
	[API_PAGE_BALLOON] = "balloon", [API_PAGE_INVALID] = "invalid", NULL};

static const struct api_field shares_fields[] = {
	F(API_ENUM, "level", mem_alloc, level, "5, 10 or 20 shares per MiB, or a number of its own",
	  .words = level_words),
	F(API_UINT32, "shares", mem_alloc, shares, "number of shares; alone, it makes the level custom",
	  .max = ALLOC_SHARES_MAX),
};

static void shares_decoded(const json_t *from, void *object)
{
	struct mem_alloc *alloc = object;

	if (json_object_get(from, "shares") && !json_object_get(from, "level"))
		alloc->level = SHARES_CUSTOM;
}

const struct api_schema api_shares_schema =
	SCHEMA("SharesInfo", mem_alloc, shares_fields, "Weight among siblings, where memory is short.",
	       .decoded = shares_decoded);

static const struct api_field alloc_fields[] = {
	F(API_PAGES, "reservation", mem_alloc, reservation_pages, "guaranteed machine memory"),
	F(API_LIMIT, "limit", mem_alloc, limit_pages, "never more than this; -1: no limit"),
	{.name = "shares", .type = API_OBJECT, .offset = 0, .size = sizeof(struct mem_alloc),
	 .schema = &api_shares_schema, .help = "weight"},
	F(API_BOOL, "expandableReservation", mem_alloc, expandable,
	  "pools: borrow from the parent what the own reservation lacks"),
};

const struct api_schema api_alloc_schema =
	SCHEMA("ResourceAllocationInfo", mem_alloc, alloc_fields, "What is promised.");

static const struct api_field vm_config_fields[] = {
	F(API_STRING, "name", api_vm_config, name, "letters, digits, and . _ - not first",
	  .flags = API_REQUIRED),
	F(API_PAGES, "memorySize", api_vm_config, size_pages, "what the guest believes it has",
	  .flags = API_REQUIRED, .min = SIZE_MIN_BYTES),
	F(API_OBJECT, "memoryAllocation", api_vm_config, alloc, "reservation, limit, shares",
	  .schema = &api_alloc_schema),
	F(API_STRING, "resourcePool", api_vm_config, pool, "pool; empty: the host itself"),
	F(API_STRING, "shareGroup", api_vm_config, group,
	  "VMs of one group share pages (the salt of ESXi); empty: the VM alone"),
	F(API_BOOL, "pageSharing", api_vm_config, share, "look for equal pages"),
	F(API_PAGES, "memoryFloor", api_vm_config, floor_pages,
	  "what the balloon leaves to the guest at least; 0: not known"),
	F(API_BOOL, "autostart", api_vm_config, autostart, "start it when mezzd starts"),
	F(API_STRINGS, "args", api_vm_config, args,
	  "further options of mezz-vm, but for memory, link and console"),
	F(API_UINT, "changeVersion", api_vm_config, version,
	  "grows with each change; in a change, the one that it is based on: it is refused if there was another"),
};

const struct api_schema api_vm_config_schema =
	SCHEMA("VirtualMachineConfig", api_vm_config, vm_config_fields, "Definition of a VM.");

static const struct api_field runtime_fields[] = {
	F(API_ENUM, "powerState", api_runtime, power, "life cycle", .words = power_words),
	F(API_UINT, "pid", api_runtime, pid, "process; 0: none", .flags = API_NO_METRIC),
	F(API_UINT, "startTime", api_runtime, start_ms, "of this run, ms since 1970", .flags = API_NO_METRIC),
	F(API_ENUM, "engine", api_runtime, engine,
	  "what runs its guest: soft, our own processor, or kvm; none: it does not run yet",
	  .words = engine_words, .flags = API_NO_METRIC),
	F(API_ENUM, "mmu", api_runtime, mmu,
	  "who combines guest and machine addresses: software (shadow page tables) or hardware (nested ones) of "
	  "our own processor, or host, whose KVM knows",
	  .words = mmu_words, .flags = API_NO_METRIC),
	F(API_BOOL, "changePending", api_runtime, pending,
	  "some of its definition takes effect when it starts next"),
	F(API_STRING, "console", api_runtime, console, "socket of its console on the host"),
	F(API_STRING, "log", api_runtime, log, "what its process said; empty: it has never run"),
};

const struct api_schema api_runtime_schema =
	SCHEMA("VirtualMachineRuntimeInfo", api_runtime, runtime_fields, "What a VM is doing.");

#define M(name_, member_, help_) F(API_PAGES, name_, api_stats, member_, help_)
#define C(name_, member_, help_) F(API_UINT, name_, api_stats, member_, help_, .flags = API_COUNTER)
#define T(name_, member_, help_) F(API_NS, name_, api_stats, member_, help_, .flags = API_COUNTER)

static const struct api_field stats_fields[] = {
	M("granted", granted_pages, "mapped guest memory: private, shared and zero"),
	M("consumed", consumed_pages, "machine memory behind it: private, its part of shared frames, zip"),
	M("active", active_pages, "estimate of its working set"),
	M("private", private_pages, "guest memory with a machine page of its own"),
	M("shared", shared_pages, "guest memory in frames of its sharing group"),
	M("zero", zero_pages, "guest memory without contents"),
	M("ballooned", ballooned_pages, "guest memory that the guest gave up"),
	M("compressed", compressed_pages, "guest memory in the compression cache"),
	M("swapped", swapped_pages, "guest memory on disk"),
	M("swapTarget", swap_target_pages, "on disk, once what was ordered last is done"),
	M("overhead", overhead_pages, "machine memory of its process beside guest memory"),
	M("overheadMax", overhead_max_pages, "machine memory that is kept for overhead and pageTables"),
	M("sharedCommon", common_pages, "its part of the frames of its group"),
	M("zipped", zip_pages, "machine memory of its compression cache"),
	M("pageTables", table_pages, "page tables that are built for it"),
	M("entitlement", entitlement_pages, "what it deserves now"),
	M("allowance", allowance_pages, "what it may take without asking"),
	F(API_NUMBER, "activeFastPct", api_stats, active_fast_pct, "fast average, percent of its size; -1: none"),
	F(API_NUMBER, "activeSlowPct", api_stats, active_slow_pct, "slow average, percent of its size; -1: none"),
	F(API_UINT, "shares", api_stats, shares, "shares in force"),
	F(API_ENUM, "balloonDriver", api_stats, balloon_driver, "what is thought of it", .words = driver_words),
	M("balloonTarget", balloon_target_pages, "asked for"),
	M("balloonMax", balloon_max_pages, "never more than this"),
	M("guestTotal", guest_total_pages, "memory that the guest says it has"),
	M("guestAvailable", guest_available_pages, "what the guest could use without swapping"),
	M("guestFree", guest_free_pages, "what the guest has no use for"),
	F(API_BOOL, "guestStatsKnown", api_stats, guest_stats, "whether the guest has ever said so"),
	F(API_UINT, "guestStatsAgeMs", api_stats, guest_stats_age_ms, "since when it has not"),
	F(API_BOOL, "distress", api_stats, distress, "the guest suffers from its balloon"),
	F(API_BOOL, "blocked", api_stats, blocked, "it gets no pages while memory is low"),
	T("runNs", run_ns, "time that it has run"),
	T("stallZipNs", stall_zip_ns, "waited for unpacking"),
	T("stallSwapNs", stall_swap_ns, "waited for the disk"),
	T("stallHostNs", stall_host_ns, "waited for a page from the host"),
	T("stallBusyNs", stall_busy_ns, "waited for a page that was being moved"),
#define N(name_, member_, help_) F(API_NS, name_, api_stats, member_, help_)
	N("stallZipMedianNs", stall_zip_median_ns, "median wait for unpacking, from the fault on"),
	N("stallZipP99Ns", stall_zip_p99_ns, "99 of 100 are shorter"),
	N("stallSwapMedianNs", stall_swap_median_ns, "median wait for the disk"),
	N("stallSwapP99Ns", stall_swap_p99_ns, "99 of 100 are shorter"),
	N("stallHostMedianNs", stall_host_median_ns, "median wait for a page from the host"),
	N("stallHostP99Ns", stall_host_p99_ns, "99 of 100 are shorter"),
	N("stallBusyMedianNs", stall_busy_median_ns, "median wait for a page that was being moved"),
	N("stallBusyP99Ns", stall_busy_p99_ns, "99 of 100 are shorter"),
#undef N
	F(API_NUMBER, "latencyPct", api_stats, latency_pct,
	  "percent of the last second in which it waited for memory"),
	C("zipOut", zip_out, "pages compressed"),
	C("zipIn", zip_in, "pages unpacked"),
	C("swapOut", swap_out, "pages written to disk"),
	C("swapIn", swap_in, "pages read from disk for a touch"),
	C("sharedEver", shared_ever, "pages given to a shared frame"),
	C("sharedFilled", shared_filled, "of these, at once when a disk had filled them, others' too"),
	C("unshared", unshared, "of these, copied back by a write"),
	C("zeroed", zeroed, "pages found to be all zero"),
	C("reportedFree", reported_free, "pages that the guest reported free or ballooned"),
	C("swept", swept, "pages that it had free in small pieces, taken back by a sweep of its balloon"),
	C("scanned", scanned, "pages hashed"),
	F(API_UINT, "swapSlots", api_stats, swap_slots, "size of its swap file, pages"),
	F(API_UINT, "swapSlotsFree", api_stats, swap_slots_free, "of these free"),
};
#undef M
#undef C
#undef T

const struct api_schema api_stats_schema =
	SCHEMA("VirtualMachineQuickStats", api_stats, stats_fields, "Figures of a VM, 0 while it is off.");

static const struct api_field vm_fields[] = {
	F(API_OBJECT, "config", api_vm, config, "definition", .schema = &api_vm_config_schema,
	  .flags = API_REQUIRED),
	F(API_OBJECT, "runtime", api_vm, runtime, "what it is doing", .schema = &api_runtime_schema,
	  .flags = API_REQUIRED),
	F(API_OBJECT, "quickStats", api_vm, stats, "figures", .schema = &api_stats_schema,
	  .flags = API_REQUIRED),
};

const struct api_schema api_vm_schema = SCHEMA("VirtualMachine", api_vm, vm_fields, "One VM.");

static const struct api_field vms_fields[] = {
	F(API_ARRAY, "vms", api_vms, vms, "by name", .schema = &api_vm_schema, .flags = API_REQUIRED),
};

const struct api_schema api_vms_schema = SCHEMA("VirtualMachines", api_vms, vms_fields, "All VMs.");

static const struct api_field pool_config_fields[] = {
	F(API_STRING, "parent", api_pool_config, parent, "pool above it; empty: the host itself"),
	F(API_OBJECT, "memoryAllocation", api_pool_config, alloc, "reservation, limit, shares",
	  .schema = &api_alloc_schema),
};

const struct api_schema api_pool_config_schema =
	SCHEMA("ResourcePoolConfig", api_pool_config, pool_config_fields, "Definition of a resource pool.");

static const struct api_field pool_fields[] = {
	F(API_STRING, "name", api_pool, name, "empty: the host itself", .flags = API_REQUIRED),
	F(API_OBJECT, "config", api_pool, config, "definition", .schema = &api_pool_config_schema,
	  .flags = API_REQUIRED),
	F(API_PAGES, "reservationUsed", api_pool, reservation_used_pages, "what its children took"),
	F(API_PAGES, "charged", api_pool, charged_pages, "what it takes from its parent"),
	F(API_PAGES, "unreserved", api_pool, unreserved_pages, "can still be reserved inside"),
	F(API_PAGES, "entitlement", api_pool, entitlement_pages, "what its VMs deserve together"),
	F(API_PAGES, "consumed", api_pool, consumed_pages, "what they have"),
};

const struct api_schema api_pool_schema =
	SCHEMA("ResourcePool", api_pool, pool_fields, "One resource pool.");

static const struct api_field pools_fields[] = {
	F(API_ARRAY, "pools", api_pools, pools, "the host itself first", .schema = &api_pool_schema,
	  .flags = API_REQUIRED),
};

const struct api_schema api_pools_schema =
	SCHEMA("ResourcePools", api_pools, pools_fields, "All resource pools.");

#define M(name_, member_, help_) F(API_PAGES, name_, api_host, member_, help_)

static const struct api_field host_fields[] = {
	F(API_STRING, "version", api_host, version, "of Mezzanine"),
	F(API_STRING, "name", api_host, name, "of the host"),
	M("managed", managed_pages, "machine memory: all of the following up to free, exactly"),
	M("consumed", consumed_pages, "private pages of all VMs"),
	M("sharedCommon", common_pages, "frames that hold shared contents"),
	M("zipped", zip_pages, "compression caches"),
	M("pageTables", table_pages, "page tables that are built for VMs"),
	M("overhead", overhead_pages, "VM processes and mezzd"),
	M("free", free_pages, "the rest"),
	M("promised", promised_pages, "of free, what VMs may take without asking"),
	M("over", over_pages, "used beyond machine memory; 0 but for overhead that grew suddenly"),
	M("minFree", minfree_pages, "what should stay free"),
	F(API_ENUM, "state", api_host, state, "memory state", .words = state_words),
	M("shared", shared_pages, "guest memory that is shared"),
	M("saving", saving_pages, "machine memory that sharing saves: shared less sharedCommon"),
	M("zero", zero_pages, "guest memory without contents"),
	M("ballooned", ballooned_pages, "guest memory given up by guests"),
	M("compressed", compressed_pages, "guest memory in compression caches"),
	M("swapped", swapped_pages, "guest memory on disk"),
	M("configured", size_pages, "sizes of all running VMs"),
	M("reserved", reserved_pages, "reservations and overhead of VMs and pools"),
	M("unreserved", unreserved_pages, "could still be reserved"),
	M("swapFree", swap_free_pages, "disk space left for swap files"),
	F(API_UINT32, "vmCount", api_host, n_vms, "VMs that run"),
	F(API_UINT32, "poolCount", api_host, n_pools, "resource pools"),
	F(API_NUMBER, "overcommit", api_host, overcommit, "configured and overhead over managed, less 1; at least 0"),
	F(API_NUMBER, "overcommit1Min", api_host, overcommit_1min, "its average over a minute"),
	F(API_NUMBER, "overcommit5Min", api_host, overcommit_5min, "over five minutes"),
	F(API_NUMBER, "overcommit15Min", api_host, overcommit_15min, "over a quarter of an hour"),
	F(API_UINT, "shareScanned", api_host, share_scanned, "pages hashed", .flags = API_COUNTER),
	F(API_NS, "shareCpuNs", api_host, share_cpu_ns, "processor time of sharing", .flags = API_COUNTER),
	F(API_UINT, "shareBookBytes", api_host, share_book_bytes, "memory of the bookkeeping of sharing"),
	F(API_NS, "planNs", api_host, plan_ns, "processor time of the last decision"),
	F(API_UINT, "uptimeMs", api_host, uptime_ms, "since mezzd started"),
};
#undef M

const struct api_schema api_host_schema = SCHEMA("HostMemory", api_host, host_fields, "Memory of the host.");

static const struct api_field snapshot_fields[] = {
	F(API_UINT, "time", api_snapshot, time_ms, "ms since 1970"),
	F(API_OBJECT, "host", api_snapshot, host, "host", .schema = &api_host_schema, .flags = API_REQUIRED),
	F(API_ARRAY, "vms", api_snapshot, vms, "by name", .schema = &api_vm_schema, .flags = API_REQUIRED),
	F(API_ARRAY, "pools", api_snapshot, pools, "the host itself first", .schema = &api_pool_schema,
	  .flags = API_REQUIRED),
};

const struct api_schema api_snapshot_schema =
	SCHEMA("Snapshot", api_snapshot, snapshot_fields, "Everything at one moment.");

static const struct api_field option_fields[] = {
	F(API_STRING, "name", api_option, name, "as in ESXi", .flags = API_REQUIRED),
	F(API_STRING, "value", api_option, value, "in force", .flags = API_REQUIRED),
	F(API_STRING, "default", api_option, default_value, "at first"),
	F(API_UINT, "min", api_option, min, "smallest number"),
	F(API_UINT, "max", api_option, max, "largest number"),
	F(API_BOOL, "unlimited", api_option, unlimited, "whether unlimited is a value too"),
	F(API_STRING, "unit", api_option, unit, "of the number"),
	F(API_STRING, "description", api_option, description, "one line"),
};

const struct api_schema api_option_schema =
	SCHEMA("AdvancedOption", api_option, option_fields, "One advanced option.");

static const struct api_field options_fields[] = {
	F(API_ARRAY, "options", api_options, options, "by name", .schema = &api_option_schema,
	  .flags = API_REQUIRED),
};

const struct api_schema api_options_schema =
	SCHEMA("AdvancedOptions", api_options, options_fields, "All advanced options.");

static const struct api_field option_set_fields[] = {
	F(API_STRING, "value", api_option_set, value, "a whole number, or unlimited", .flags = API_REQUIRED),
};

const struct api_schema api_option_set_schema =
	SCHEMA("AdvancedOptionValue", api_option_set, option_set_fields, "New value of an advanced option.");

static const struct api_field stop_fields[] = {
	F(API_ENUM, "how", api_stop, how, "press the power button, end the VM in order, or kill its process",
	  .words = stop_words),
	F(API_UINT, "waitMs", api_stop, wait_ms, "answer only when it has ended, or after that time",
	  .max = WAIT_MAX_MS),
	F(API_BOOL, "force", api_stop, force,
	  "a VM that has not ended in that time is ended in order, whatever its guest thinks"),
};

const struct api_schema api_stop_schema = SCHEMA("StopSpec", api_stop, stop_fields, "How to stop a VM.");

static const struct api_field event_fields[] = {
	F(API_UINT, "seq", api_event, seq, "counts events", .flags = API_REQUIRED),
	F(API_UINT, "time", api_event, time_ms, "ms since 1970"),
	F(API_STRING, "kind", api_event, kind, "what", .flags = API_REQUIRED),
	F(API_STRING, "vm", api_event, vm, "name of the VM, or empty"),
	F(API_STRING, "text", api_event, text, "one sentence", .flags = API_REQUIRED),
};

const struct api_schema api_event_schema =
	SCHEMA("Event", api_event, event_fields, "Something that happened.");

static const struct api_field page_fields[] = {
	F(API_STRING, "vm", api_page, vm, "name", .flags = API_REQUIRED),
	F(API_UINT, "ppn", api_page, ppn, "guest physical page number", .flags = API_REQUIRED),
};

const struct api_schema api_page_schema = SCHEMA("Page", api_page, page_fields, "A page of a guest.");

static const struct api_field page_run_fields[] = {
	F(API_UINT, "first", api_page_run, first, "guest physical page number", .flags = API_REQUIRED),
	F(API_UINT, "count", api_page_run, count, "pages", .flags = API_REQUIRED),
	F(API_ENUM, "state", api_page_run, state, "where the contents are", .words = page_words,
	  .flags = API_REQUIRED),
	F(API_BOOL, "moving", api_page_run, moving, "on its way to another place"),
	F(API_UINT, "slot", api_page_run, slot,
	  "page of the home file, frame of the group, or slot in the zip or swap file, of the first page"),
	F(API_UINT, "bytes", api_page_run, bytes, "zipped: compressed size of all"),
	F(API_UINT, "sharers", api_page_run, sharers, "shared: how many pages share the frame"),
	F(API_UINT, "frame", api_page_run, frame,
	  "the host's frame number of the first page, the others follow it; 0: none, or not known"),
	F(API_STRING, "virtual", api_page_run, virtual_address,
	  "guest virtual address of the first page, if that was asked for"),
	F(API_ARRAY, "sharedWith", api_page_run, with, "some of the other pages in that frame",
	  .schema = &api_page_schema),
};

const struct api_schema api_page_run_schema =
	SCHEMA("PageRun", api_page_run, page_run_fields, "Pages in the same kind of place.");

static const struct api_field walk_step_fields[] = {
	F(API_UINT32, "level", api_walk_step, level, "4 to 1", .flags = API_REQUIRED),
	F(API_UINT, "table", api_walk_step, table, "guest physical address of the table", .flags = API_REQUIRED),
	F(API_UINT32, "index", api_walk_step, index, "of the entry", .flags = API_REQUIRED),
	F(API_STRING, "entry", api_walk_step, entry, "what it says", .flags = API_REQUIRED),
};

const struct api_schema api_walk_step_schema =
	SCHEMA("WalkStep", api_walk_step, walk_step_fields, "An entry of the guest's own page tables.");

static const struct api_field map_fields[] = {
	F(API_STRING, "vm", api_map, vm, "name", .flags = API_REQUIRED),
	F(API_PAGES, "memorySize", api_map, size_pages, "what the guest believes it has"),
	F(API_UINT, "first", api_map, first, "first page asked for"),
	F(API_UINT, "count", api_map, count, "pages looked at"),
	F(API_ARRAY, "walk", api_map, walk, "how the guest's page tables lead to the virtual address",
	  .schema = &api_walk_step_schema),
	F(API_STRING, "walkEnd", api_map, walk_end, "what that led to"),
	F(API_ARRAY, "runs", api_map, runs, "in order", .schema = &api_page_run_schema,
	  .flags = API_REQUIRED),
};

const struct api_schema api_map_schema =
	SCHEMA("MemoryMap", api_map, map_fields, "Guest physical memory to machine memory.");

static const struct api_field audit_fields[] = {
	F(API_PAGES, "books", api_audit, book_pages, "memory in files, as the figures say"),
	F(API_PAGES, "untouched", api_audit, untouched_pages, "what VMs under KVM have and have not touched, so no memory is behind it"),
	F(API_PAGES, "kernel", api_audit, kernel_pages, "memory behind the same files, as the kernel says"),
	F(API_UINT32, "wrongCounts", api_audit, wrong_counts, "VMs whose counters differ from their physmap"),
	F(API_UINT, "wrongRefs", api_audit, wrong_refs, "shared frames with a wrong count"),
	F(API_UINT, "wrongSlots", api_audit, wrong_slots, "zip and swap slots with a wrong use"),
	F(API_PAGES, "overhead", api_audit, overhead_pages, "memory of mezzd and VM processes beside these files"),
};

const struct api_schema api_audit_schema =
	SCHEMA("Audit", api_audit, audit_fields, "All bookkeeping recomputed.");

static const struct api_field error_fields[] = {
	F(API_UINT32, "status", api_error, status, "HTTP status", .flags = API_REQUIRED),
	F(API_UINT32, "errno", api_error, number, "Linux error number", .flags = API_REQUIRED),
	F(API_STRING, "message", api_error, message, "one sentence", .flags = API_REQUIRED),
};

const struct api_schema api_error_schema = SCHEMA("Error", api_error, error_fields, "Why a request failed.");

const struct api_schema api_empty_schema = {
	.name = "Empty", .help = "Nothing to say.", .size = sizeof(struct api_empty)};
/* clang-format on */

static const struct api_schema *const schemas[] = {
	&api_vm_config_schema,
	&api_runtime_schema,
	&api_stats_schema,
	&api_vm_schema,
	&api_vms_schema,
	&api_shares_schema,
	&api_alloc_schema,
	&api_pool_config_schema,
	&api_pool_schema,
	&api_pools_schema,
	&api_host_schema,
	&api_snapshot_schema,
	&api_option_schema,
	&api_options_schema,
	&api_option_set_schema,
	&api_stop_schema,
	&api_event_schema,
	&api_page_schema,
	&api_page_run_schema,
	&api_map_schema,
	&api_audit_schema,
	&api_error_schema,
	&api_walk_step_schema,
	&api_empty_schema,
	NULL,
};

const struct api_schema *const *api_schemas(void)
{
	return schemas;
}

void api_vm_config_init(struct api_vm_config *config)
{
	memset(config, 0, sizeof(*config));
	mem_alloc_init(&config->alloc);
	config->share = true;
}

const char *api_power_name(enum api_power power)
{
	return power_words[power];
}

const char *api_engine_name(enum api_engine engine)
{
	return engine_words[engine];
}

const char *api_mmu_name(enum api_mmu mmu)
{
	return mmu_words[mmu];
}

const char *api_page_state_name(enum api_page_state state)
{
	return page_words[state];
}

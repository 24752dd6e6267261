/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What mezzd and its clients talk about: objects with the names of vSphere's SDK.
 *
 * Here amounts of memory are pages; in JSON they are bytes. The tables at the end say how
 * each struct looks in JSON; each field's meaning stands in its table, whence it goes into
 * docs/openapi.json.
 */
#ifndef API_TYPES_H
#define API_TYPES_H
#include <api/schema.h>
#include <policy/alloc.h>
#include <policy/balloon.h>
#include <policy/options.h>
#include <policy/state.h>

#define API_NAME_MAX 48 /* as in host.h */
#define API_TEXT_MAX 256
#define API_PATH_MAX 256
#define API_HEX_MAX \
	20 /* 0x and 16 digits: JSON's numbers are too short for some */

/**
 * struct api_vm_config - the definition of a VM. Members: see vm_config_fields in types.c.
 */
struct api_vm_config {
	char name[API_NAME_MAX];
	uint64_t size_pages;
	struct mem_alloc alloc;
	char pool[API_NAME_MAX];
	char group[API_NAME_MAX];
	bool share;
	uint64_t floor_pages;
	bool autostart;
	struct api_strings args;
	uint64_t version; /* counts changes */
};

enum api_power {
	API_POWERED_OFF,
	API_STARTING,
	API_POWERED_ON,
	API_STOPPING,
	API_NOT_RESPONDING,
};

enum api_engine {
	API_ENGINE_NONE,
	API_ENGINE_SOFT,
	API_ENGINE_KVM,
};

enum api_mmu {
	API_MMU_NONE,
	API_MMU_SOFTWARE,
	API_MMU_HARDWARE,
	API_MMU_HOST,
};

/** struct api_runtime - of a VM: see vm_runtime_fields in types.c. */
struct api_runtime {
	enum api_power power;
	uint64_t pid;
	uint64_t start_ms;
	enum api_engine engine;
	enum api_mmu mmu;
	bool pending; /* its definition differs from what runs, until it starts again */
	char console[API_PATH_MAX];
	char log[API_PATH_MAX];
};

/** struct api_stats - quick statistics of a VM, all 0 while it is off. */
struct api_stats {
	uint64_t granted_pages;
	uint64_t consumed_pages;
	uint64_t active_pages;
	uint64_t private_pages;
	uint64_t shared_pages;
	uint64_t zero_pages;
	uint64_t ballooned_pages;
	uint64_t compressed_pages;
	uint64_t swapped_pages;
	uint64_t overhead_pages;
	uint64_t overhead_max_pages;
	uint64_t swap_target_pages;
	uint64_t common_pages;
	uint64_t zip_pages;
	uint64_t table_pages;
	uint64_t entitlement_pages;
	uint64_t allowance_pages;
	double active_fast_pct;
	double active_slow_pct;
	uint64_t shares;

	enum balloon_driver balloon_driver;
	uint64_t balloon_target_pages;
	uint64_t balloon_max_pages;
	uint64_t guest_total_pages;
	uint64_t guest_available_pages;
	uint64_t guest_free_pages;
	bool guest_stats; /* the three above are known */
	uint64_t guest_stats_age_ms;
	bool distress;
	bool blocked;

	uint64_t run_ns;
	uint64_t stall_zip_ns;
	uint64_t stall_swap_ns;
	uint64_t stall_host_ns;
	uint64_t stall_busy_ns;
	uint64_t stall_zip_median_ns;
	uint64_t stall_zip_p99_ns;
	uint64_t stall_swap_median_ns;
	uint64_t stall_swap_p99_ns;
	uint64_t stall_host_median_ns;
	uint64_t stall_host_p99_ns;
	uint64_t stall_busy_median_ns;
	uint64_t stall_busy_p99_ns;
	double latency_pct;
	uint64_t zip_out;
	uint64_t zip_in;
	uint64_t swap_out;
	uint64_t swap_in;
	uint64_t shared_ever;
	uint64_t shared_filled;
	uint64_t unshared;
	uint64_t zeroed;
	uint64_t reported_free;
	uint64_t swept;
	uint64_t scanned;
	uint64_t swap_slots;
	uint64_t swap_slots_free;
};

/** struct api_vm - one VM. */
struct api_vm {
	struct api_vm_config config;
	struct api_runtime runtime;
	struct api_stats stats;
};

/** struct api_pool_config - what may be set of a resource pool. */
struct api_pool_config {
	char parent[API_NAME_MAX];
	struct mem_alloc alloc;
};

/** struct api_pool - one resource pool; the one without a name is the host itself. */
struct api_pool {
	char name[API_NAME_MAX];
	struct api_pool_config config;
	uint64_t reservation_used_pages;
	uint64_t charged_pages;
	uint64_t unreserved_pages;
	uint64_t entitlement_pages;
	uint64_t consumed_pages;
};

/** struct api_host - the host's memory. */
struct api_host {
	char version[32];
	char name[65];
	uint64_t managed_pages;
	uint64_t consumed_pages;
	uint64_t common_pages;
	uint64_t zip_pages;
	uint64_t table_pages;
	uint64_t overhead_pages;
	uint64_t free_pages;
	uint64_t promised_pages;
	uint64_t over_pages;
	uint64_t minfree_pages;
	enum host_state state;
	uint64_t shared_pages;
	uint64_t saving_pages;
	uint64_t zero_pages;
	uint64_t ballooned_pages;
	uint64_t compressed_pages;
	uint64_t swapped_pages;
	uint64_t size_pages;
	uint64_t reserved_pages;
	uint64_t unreserved_pages;
	uint64_t swap_free_pages;
	uint32_t n_vms;
	uint32_t n_pools;
	double overcommit;
	double overcommit_1min;
	double overcommit_5min;
	double overcommit_15min;
	uint64_t share_scanned;
	uint64_t share_cpu_ns;
	uint64_t share_book_bytes;
	uint64_t plan_ns;
	uint64_t uptime_ms;
};

/** struct api_vms - all VMs. @vms: of struct api_vm */
struct api_vms {
	struct api_array vms;
};

/** struct api_pools - all pools. @pools: of struct api_pool, the host itself first */
struct api_pools {
	struct api_array pools;
};

/** struct api_snapshot - everything at one moment. */
struct api_snapshot {
	uint64_t time_ms;
	struct api_host host;
	struct api_array vms;
	struct api_array pools;
};

/** struct api_option - one advanced option. */
struct api_option {
	char name[API_NAME_MAX];
	char value[16];
	char default_value[16];
	uint64_t min;
	uint64_t max;
	bool unlimited; /* "unlimited" is a value too */
	char unit[16];
	char description[API_TEXT_MAX];
};

/** struct api_options - all advanced options. @options: of struct api_option */
struct api_options {
	struct api_array options;
};

/** struct api_option_set - a new value of an advanced option. */
struct api_option_set {
	char value[32];
};

enum api_stop_how {
	API_STOP_GUEST,
	API_STOP_VM,
	API_STOP_KILL,
};

/** struct api_stop - how to stop a VM, and how long to wait until it has. */
struct api_stop {
	enum api_stop_how how;
	uint64_t wait_ms;
	bool force; /* after @wait_ms, API_STOP_VM */
};

/** struct api_event - something that happened. */
struct api_event {
	uint64_t seq;
	uint64_t time_ms;
	char kind[32];
	char vm[API_NAME_MAX];
	char text[API_TEXT_MAX];
};

enum api_page_state {
	API_PAGE_ZERO,
	API_PAGE_HOME,
	API_PAGE_SHARED,
	API_PAGE_ZIPPED,
	API_PAGE_SWAPPED,
	API_PAGE_BALLOON,
	API_PAGE_INVALID,
};

/** struct api_page - one page that shares its frame. */
struct api_page {
	char vm[API_NAME_MAX];
	uint64_t ppn;
};

/** struct api_walk_step - one entry of the guest's own page tables. */
struct api_walk_step {
	uint32_t level;
	uint64_t table;
	uint32_t index;
	char entry[API_HEX_MAX];
};

/** struct api_page_run - pages next to each other that are in the same kind of place. */
struct api_page_run {
	uint64_t first;
	uint64_t count;
	enum api_page_state state;
	bool moving;
	uint64_t slot;
	uint64_t bytes;
	uint64_t sharers;
	uint64_t frame;
	char virtual_address[API_HEX_MAX]; /* empty: it was not asked for */
	struct api_array with; /* of struct api_page, some of the sharers */
};

/** struct api_map - where a stretch of a guest's memory is. */
struct api_map {
	char vm[API_NAME_MAX];
	uint64_t size_pages;
	uint64_t first;
	uint64_t count;
	char walk_end[API_TEXT_MAX];
	struct api_array walk; /* of struct api_walk_step */
	struct api_array runs; /* of struct api_page_run */
};

/** struct api_audit - our books beside the kernel's, as in host.h. */
struct api_audit {
	uint64_t book_pages;
	uint64_t untouched_pages;
	uint64_t kernel_pages;
	uint32_t wrong_counts;
	uint64_t wrong_refs;
	uint64_t wrong_slots;
	uint64_t overhead_pages;
};

/** struct api_error - why a request failed. */
struct api_error {
	uint32_t status;
	uint32_t number;
	char message[512];
};

/** struct api_empty - a request or answer that says nothing. */
struct api_empty {
	char nothing;
};

extern const struct api_schema api_vm_config_schema;
extern const struct api_schema api_runtime_schema;
extern const struct api_schema api_stats_schema;
extern const struct api_schema api_vm_schema;
extern const struct api_schema api_vms_schema;
extern const struct api_schema api_shares_schema;
extern const struct api_schema api_alloc_schema;
extern const struct api_schema api_pool_config_schema;
extern const struct api_schema api_pool_schema;
extern const struct api_schema api_pools_schema;
extern const struct api_schema api_host_schema;
extern const struct api_schema api_snapshot_schema;
extern const struct api_schema api_option_schema;
extern const struct api_schema api_options_schema;
extern const struct api_schema api_option_set_schema;
extern const struct api_schema api_stop_schema;
extern const struct api_schema api_event_schema;
extern const struct api_schema api_page_schema;
extern const struct api_schema api_page_run_schema;
extern const struct api_schema api_walk_step_schema;
extern const struct api_schema api_map_schema;
extern const struct api_schema api_audit_schema;
extern const struct api_schema api_error_schema;
extern const struct api_schema api_empty_schema;

/** api_vm_config_init() - ESXi's defaults. */
void api_vm_config_init(struct api_vm_config *config);

/** api_schemas() - all tables, for the description and the tests. Ended by NULL. */
const struct api_schema *const *api_schemas(void);

/** api_power_name() - "poweredOn" and so on. */
const char *api_power_name(enum api_power power);

/** api_engine_name() - what runs a guest, as in the JSON. Return: static text. */
const char *api_engine_name(enum api_engine engine);

/** api_mmu_name() - who combines a guest's addresses, as in the JSON. Return: static text. */
const char *api_mmu_name(enum api_mmu mmu);

/** api_page_state_name() - "home" and so on. */
const char *api_page_state_name(enum api_page_state state);

#endif

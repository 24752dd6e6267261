/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host memory manager: machine memory, the VMs that live in it, and what moves their
 * pages.
 *
 * A struct host belongs to one state directory. It starts VMs as processes of their own
 * (vms/NAME/ in the directory holds each one's socket, swap file, settings and log), finds
 * those that an earlier host left running, and from then on keeps the sum of what they
 * use within machine memory. It keeps no definitions: which VMs and pools there should be
 * is its caller's business, and settings of VMs that run are found again on disk.
 *
 * All functions may be called from any thread. None waits for a guest, but those that say
 * so. Figures are copies: they add up at the moment that they were taken.
 */
#ifndef HOST_HOST_H
#define HOST_HOST_H
#include <sys/types.h>

#include <base/error.h>
#include <base/types.h>
#include <mem/link_counters.h>
#include <policy/admit.h>
#include <policy/alloc.h>
#include <policy/balloon.h>
#include <policy/options.h>
#include <policy/state.h>

#define HOST_NAME_SIZE \
	48 /* with the NUL; letters, digits, and . _ - not first */
#define HOST_ARGS_MAX  64
#define HOST_EVENT_MAX 256

struct host;

enum host_event_kind {
	HOST_EVENT_VM_STARTED,
	HOST_EVENT_VM_FOUND, /* it ran already when this host began */
	HOST_EVENT_VM_ENDED, /* its process is gone */
	HOST_EVENT_VM_SETTINGS,
	HOST_EVENT_VM_MISBEHAVED, /* it broke the rules of the link or of its physmap */
	HOST_EVENT_VM_LINK_LOST,
	HOST_EVENT_BALLOON, /* driver appeared, is stuck, or its guest is in distress */
	HOST_EVENT_STATE, /* the host's memory state changed */
	HOST_EVENT_SWAP_FULL,
	HOST_EVENT_SWAP_FAILED, /* the disk takes no pages, or does again */
	HOST_EVENT_OPTION,
	HOST_EVENT_ERROR,
};

/**
 * struct host_event - something that happened.
 * @seq: counts events from 1
 * @time_ms: wall clock, since 1970
 * @kind: what
 * @vm: name of the VM, or empty
 * @text: one sentence
 * @status: HOST_EVENT_VM_ENDED: what waitpid() said, or -1 for a VM that an earlier host started
 */
struct host_event {
	uint64_t seq;
	uint64_t time_ms;
	enum host_event_kind kind;
	char vm[HOST_NAME_SIZE];
	char text[HOST_EVENT_MAX];
	int status;
};

/** host_event_kind_name() - "vmStarted", "hostState", … Return: a constant string. */
const char *host_event_kind_name(enum host_event_kind kind);

/**
 * struct host_config - what a host is made of; strings are copied.
 * @state_dir: directory, made if it is not there; one host at a time may use it
 * @memory_bytes: machine memory, all that VMs and this program may use together
 * @vm_program: path of mezz-vm
 * @overhead_bytes: what a VM process of @vm_program needs beside its guest's memory and 1/128 of
 *                  that; 0: what mezz-vm needs, 16 MiB
 * @options: advanced options to begin with
 * @foreground: VMs get this program's standard input, output and error, and end with it
 * @event: called for each event, on a thread of the host, not to call the host; or NULL
 * @event_ctx: for @event
 */
struct host_config {
	const char *state_dir;
	uint64_t memory_bytes;
	const char *vm_program;
	uint64_t overhead_bytes;
	struct options options;
	bool foreground;
	void (*event)(void *ctx, const struct host_event *event);
	void *event_ctx;
};

/**
 * host_memory_parse() - machine memory from the command line.
 * @text: a size as size_parse() reads it, a percentage of the host's RAM such as 50%, or
 *        NULL for what is available now less a reserve of 1/16 of RAM; in a control group
 *        with a limit that is RAM
 * @ret_bytes: whole pages
 * @err: message
 *
 * Return: 0, -EINVAL, -ERANGE (less than 16 MiB, or more than RAM).
 */
int host_memory_parse(const char *text, uint64_t *ret_bytes, struct err *err)
	__attribute__((warn_unused_result));

/**
 * host_new() - begin: lock the state directory, find the VMs that run, start moving.
 *
 * Waits until these have answered, 2 s at most. One that runs, but cannot be connected to, is
 * HOST_VM_FOUND, is tried again each second, and after a few is taken to have all the memory that
 * it could have.
 *
 * @cfg: configuration
 * @ret: set on success
 * @err: message
 *
 * Return: 0; -EBUSY (another host has the directory); -EROFS, -EACCES and so on (it cannot
 * be written); -EINVAL (too little memory); -ENOMEM.
 */
int host_new(const struct host_config *cfg, struct host **ret, struct err *err)
	__attribute__((warn_unused_result));

/** host_free() - end in order: VMs go on without a host. NULL is fine. Return: NULL. */
struct host *host_free(struct host *host);

/**
 * struct host_vm_settings - what may be set of a VM.
 * @name: of the VM
 * @pool: resource pool, empty for the host itself
 * @group: sharing group (ESXi's salt), empty: the VM alone. Fixed while it runs
 * @size_pages: configured size. Fixed while it runs
 * @alloc: reservation, limit, shares
 * @floor_pages: what the balloon leaves to the guest at least; 0: not known
 * @share: look for pages to share
 * @n_args: how many of @args
 * @args: further options of mezz-vm (--kernel, --disk and so on), without the memory's
 */
struct host_vm_settings {
	char name[HOST_NAME_SIZE];
	char pool[HOST_NAME_SIZE];
	char group[HOST_NAME_SIZE];
	uint64_t size_pages;
	struct mem_alloc alloc;
	uint64_t floor_pages;
	bool share;
	unsigned int n_args;
	const char *args[HOST_ARGS_MAX];
};

/** host_vm_settings_init() - ESXi's defaults for a VM of that name and size. */
void host_vm_settings_init(struct host_vm_settings *settings, const char *name,
			   uint64_t size_pages);

/** host_name_check() - whether a word may name a VM, pool or group. Return: 0 or -EINVAL. */
int host_name_check(const char *name, struct err *err)
	__attribute__((warn_unused_result));

/**
 * host_vm_start() - admit a VM, reserve its swap space, and start its process.
 * @host: the host
 * @settings: copied
 * @err: says which number was short, or what was wrong
 *
 * Returns when the process has started and is linked (at most a few seconds).
 *
 * Return: 0; -EEXIST (it runs); -EINVAL; -ENOENT (no such pool); -ENOSPC (reservation, host
 * memory or swap space); -ECHILD (it ended at its start, HOST_EVENT_VM_ENDED tells how);
 * -ECANCELED (host_vm_stop() was called meanwhile); or what starting a process reports.
 */
int host_vm_start(struct host *host, const struct host_vm_settings *settings,
		  struct err *err) __attribute__((warn_unused_result));

enum host_stop {
	HOST_STOP_GUEST, /* press the power button: the guest ends by itself, or not */
	HOST_STOP_VM, /* end the VM in order, whatever the guest thinks of it */
	HOST_STOP_KILL, /* SIGKILL */
};

/**
 * host_vm_stop() - end a VM.
 * @host: the host
 * @name: of the VM
 * @how: how hard
 * @err: message
 *
 * Does not wait; HOST_EVENT_VM_ENDED follows. One that is only being started is killed,
 * however hard; if it had no process yet it gets none, and there is no such event.
 *
 * Return: 0, -ENOENT (it does not run), or why it cannot be told: -EAGAIN while it reads nothing,
 * or is HOST_VM_FOUND, -EPIPE or -ECONNRESET when its link is gone.
 */
int host_vm_stop(struct host *host, const char *name, enum host_stop how,
		 struct err *err) __attribute__((warn_unused_result));

/**
 * host_vm_wait() - until a VM's process is gone and its memory is back.
 * @host: the host
 * @name: of the VM
 * @timeout_ms: at most
 *
 * Return: 0 (also if there is no such VM) or -ETIMEDOUT.
 */
int host_vm_wait(struct host *host, const char *name, uint64_t timeout_ms)
	__attribute__((warn_unused_result));

/**
 * host_vm_set() - change the settings of a VM that runs.
 * @host: the host
 * @settings: all of them; size, group and arguments are ignored. The reservation cannot be less
 *            than what the swap file, made when the VM started, lacks of its size
 * @err: says which number was short
 *
 * Return: 0, -ENOENT (VM or pool), -EINVAL, -ENOSPC, -EAGAIN (it is HOST_VM_FOUND).
 */
int host_vm_set(struct host *host, const struct host_vm_settings *settings,
		struct err *err) __attribute__((warn_unused_result));

/**
 * host_vm_remove_files() - delete what a VM that does not run left in the state directory.
 * Return: 0, -EBUSY (it runs), or what deleting reports.
 */
int host_vm_remove_files(struct host *host, const char *name, struct err *err)
	__attribute__((warn_unused_result));

/**
 * host_vm_path() - path of one of a VM's files.
 * @host: the host
 * @name: of the VM; it need not run
 * @file: "console.sock", "vm.log", …
 * @buf: for the path
 * @size: room there
 *
 * Return: 0, -EINVAL (name), -ENAMETOOLONG.
 */
int host_vm_path(struct host *host, const char *name, const char *file,
		 char *buf, size_t size) __attribute__((warn_unused_result));

/**
 * host_pool_set() - make or change a resource pool.
 * @host: the host
 * @name: of the pool
 * @parent: pool above it, empty for the host itself
 * @alloc: its settings
 * @err: says which number was short
 *
 * Return: 0, -EINVAL, -ENOENT (parent), -ELOOP, -ENOSPC, -ENOMEM.
 */
int host_pool_set(struct host *host, const char *name, const char *parent,
		  const struct mem_alloc *alloc, struct err *err)
	__attribute__((warn_unused_result));

/** host_pool_remove() - remove an empty pool. Return: 0, -ENOENT, -EBUSY (not empty). */
int host_pool_remove(struct host *host, const char *name, struct err *err)
	__attribute__((warn_unused_result));

/** host_option_set() - change an advanced option by name. Return: as options_set(). */
int host_option_set(struct host *host, const char *name, const char *value,
		    struct err *err) __attribute__((warn_unused_result));

/** host_options() - advanced options in force. */
struct options host_options(struct host *host);

enum host_vm_state {
	HOST_VM_STARTING, /* its process has not been linked yet */
	HOST_VM_RUNNING,
	HOST_VM_ENDING, /* it was told to end */
	HOST_VM_FOUND, /* it ran before this host, and has not answered it yet */
};

/**
 * struct host_vm_figures - one VM that runs, named as in vSphere's SDK where it has a name.
 * @settings: in force; args are not given (n_args 0)
 * @state: life cycle
 * @pid: its process; 0: it has none yet, or it is not known
 * @start_ms: wall clock of its start, since 1970
 * @engine: what runs its guest
 * @mmu: who combines guest and machine addresses
 *
 * Pages of the guest; private + shared + zero + ballooned + compressed + swapped is
 * exactly the configured size:
 * @private_pages: with a machine page of its own, pages under way included
 * @shared_pages: in frames of the sharing group
 * @zero_pages: without contents
 * @ballooned_pages: given up by the guest
 * @compressed_pages: in the compression cache
 * @swapped_pages: on disk
 *
 * @granted_pages: mapped guest memory: private, shared and zero
 * @consumed_pages: machine memory of the guest: private, its part of shared frames, and
 *                  compression cache
 * @common_pages: its part of the group's frames
 * @zip_pages: machine pages of its compression cache
 * @table_pages: page tables that we build for it
 * @overhead_pages: memory of its process beside all that
 * @overhead_max_pages: machine memory that is kept for that and for @table_pages
 * @swap_target_pages: on disk, once what was ordered last is done
 * @allowance_pages: may become private without asking
 * @active_pages: estimate of the working set; 0 if there is none
 * @active_fast_pct: fast average, percent; -1 if there is none
 * @active_slow_pct: slow average, percent; -1 if there is none
 * @entitlement_pages: target of the last plan
 * @shares: number in force
 *
 * @balloon_driver: what is thought of it
 * @balloon_target_pages: asked for
 * @balloon_max_pages: it is never asked for more
 * @guest_total_pages: memory that the guest says it has; 0: not known
 * @guest_available_pages: memory that the guest could use without swapping
 * @guest_free_pages: memory that the guest has no use for
 * @guest_stats_age_ms: age of these; UINT64_MAX: there have been none
 * @distress: the guest suffers from its balloon
 * @blocked: gets no pages while memory is low
 *
 * Since its start:
 * @run_ns: time that it has run
 * @stall_zip_ns: waited for unpacking
 * @stall_swap_ns: waited for the disk
 * @stall_host_ns: waited for a page from the host
 * @stall_busy_ns: waited for a page that was being moved
 * @stall_median_ns: half of these waits are shorter; by enum link_stall, 0: there were none
 * @stall_p99_ns: so are 99 of 100
 * @latency_pct: percent of the last second in which it waited; esxtop's %LAT_M
 * @zip_out: pages compressed
 * @zip_in: pages unpacked
 * @swap_out: pages written
 * @swap_in: pages read for a touch
 * @shared_ever: pages given to a shared frame
 * @shared_filled: of those, as soon as it had read them from an image that others have
 *                 open too, pages of others that were found so included
 * @unshared: of those, copied back by a write
 * @zeroed: pages found to be all zero
 * @reported_free: pages that the guest reported free or ballooned
 * @swept: pages whose contents went when they were swept
 * @scanned: pages hashed
 * @swap_slots: size of its swap file, pages
 * @swap_slots_free: of those free
 */
struct host_vm_figures {
	struct host_vm_settings settings;
	enum host_vm_state state;
	pid_t pid;
	uint64_t start_ms;
	enum link_engine engine;
	enum link_mmu mmu;

	uint64_t private_pages;
	uint64_t shared_pages;
	uint64_t zero_pages;
	uint64_t ballooned_pages;
	uint64_t compressed_pages;
	uint64_t swapped_pages;

	uint64_t granted_pages;
	uint64_t consumed_pages;
	uint64_t common_pages;
	uint64_t zip_pages;
	uint64_t table_pages;
	uint64_t overhead_pages;
	uint64_t overhead_max_pages;
	uint64_t swap_target_pages;
	uint64_t allowance_pages;
	uint64_t active_pages;
	double active_fast_pct;
	double active_slow_pct;
	uint64_t entitlement_pages;
	uint64_t shares;

	enum balloon_driver balloon_driver;
	uint64_t balloon_target_pages;
	uint64_t balloon_max_pages;
	uint64_t guest_total_pages;
	uint64_t guest_available_pages;
	uint64_t guest_free_pages;
	uint64_t guest_stats_age_ms;
	bool distress;
	bool blocked;

	uint64_t run_ns;
	uint64_t stall_zip_ns;
	uint64_t stall_swap_ns;
	uint64_t stall_host_ns;
	uint64_t stall_busy_ns;
	uint64_t stall_median_ns[LINK_STALLS];
	uint64_t stall_p99_ns[LINK_STALLS];
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

/**
 * struct host_figures - the host; managed = consumed + common + zip + tables + overhead +
 * free, exactly.
 * @managed_pages: machine memory
 * @consumed_pages: private pages of all VMs
 * @common_pages: frames that hold shared contents
 * @zip_pages: compression caches
 * @table_pages: page tables that we build
 * @overhead_pages: VM processes and this program
 * @free_pages: the rest
 * @promised_pages: of the free ones, how many VMs may take without asking
 * @over_pages: used beyond machine memory; 0 but for overhead beyond what a VM is admitted with
 * @minfree_pages: base of the thresholds
 * @state: memory state
 * @shared_pages: guest pages that are shared; less @common_pages is what that saves
 * @zero_pages: guest pages without contents
 * @ballooned_pages: given up by guests
 * @compressed_pages: guest pages in compression caches
 * @swapped_pages: guest pages on disk
 * @size_pages: configured sizes of all VMs
 * @reserved_pages: reservations and overhead of VMs and pools
 * @unreserved_pages: could still be reserved
 * @swap_free_pages: disk space left for swap files
 * @n_vms: VMs that run
 * @n_pools: pools
 * @share_scanned: pages hashed since the start of this host
 * @share_cpu_ns: processor time of that, comparison and bookkeeping included
 * @share_book_bytes: memory of hash tables and counts now
 * @plan_ns: processor time of the last decision
 * @uptime_ms: since the start of this host
 * @overcommit: configured sizes and overhead over machine memory, less 1, at least 0; averages
 *              over 1, 5 and 15 minutes
 */
struct host_figures {
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
	uint64_t share_scanned;
	uint64_t share_cpu_ns;
	uint64_t share_book_bytes;
	uint64_t plan_ns;
	uint64_t uptime_ms;
	double overcommit[3];
};

/**
 * struct host_pool_figures - one resource pool.
 * @name: empty for the host itself, which comes first
 * @parent: pool above it
 * @alloc: its settings
 * @usage: reservations
 * @entitlement_pages: what all its VMs together deserve
 * @consumed_pages: what they have
 */
struct host_pool_figures {
	char name[HOST_NAME_SIZE];
	char parent[HOST_NAME_SIZE];
	struct mem_alloc alloc;
	struct pool_usage usage;
	uint64_t entitlement_pages;
	uint64_t consumed_pages;
};

/**
 * struct host_snapshot - everything at one moment.
 * @host: the host
 * @vms: @n_vms VMs by name
 * @pools: @n_pools pools, the host itself first
 */
struct host_snapshot {
	struct host_figures host;
	struct host_vm_figures *vms;
	uint32_t n_vms;
	struct host_pool_figures *pools;
	uint32_t n_pools;
};

/** host_snapshot_take() - read all figures. Return: 0 or -ENOMEM. */
int host_snapshot_take(struct host *host, struct host_snapshot *ret)
	__attribute__((warn_unused_result));

/** host_snapshot_release() - free what host_snapshot_take() filled in. */
void host_snapshot_release(struct host_snapshot *snapshot);

/**
 * struct host_audit - our books beside the kernel's.
 * @book_pages: consumed + common + zip + tables, as the figures say
 * @untouched_pages: pages that VMs have and that no memory is behind, which are not in
 *                   @book_pages; 0 with our own processor, which touches what it takes
 * @kernel_pages: memory behind the same memory files, as the kernel says
 * @wrong_counts: VMs whose counters differ from their physmap
 * @wrong_refs: shared frames whose reference count differs from the physmaps
 * @wrong_slots: zip and swap slots whose use differs from the physmaps
 * @overhead_pages: VM processes and this program, as the kernel says now; with @kernel_pages
 *                  never more than machine memory
 */
struct host_audit {
	uint64_t book_pages;
	uint64_t untouched_pages;
	uint64_t kernel_pages;
	uint32_t wrong_counts;
	uint64_t wrong_refs;
	uint64_t wrong_slots;
	uint64_t overhead_pages;
};

/**
 * host_audit() - recompute all bookkeeping from the physmaps and ask the kernel.
 * @host: the host
 * @ret: what was found
 *
 * The host moves nothing meanwhile. Guests run; what seems wrong because of what they do at the
 * moment is looked at again, for a tenth of a second at most.
 *
 * Return: 0 or -ENOMEM.
 */
int host_audit(struct host *host, struct host_audit *ret)
	__attribute__((warn_unused_result));

/**
 * struct host_page - where one guest page is.
 * @entry: the physmap's word
 * @sharers: SHARED: how many pages share the frame
 */
struct host_page {
	uint64_t entry;
	uint32_t sharers;
};

/**
 * host_vm_pages() - where a stretch of guest pages is, for `mezz map`.
 * @host: the host
 * @name: of the VM
 * @first: first PPN
 * @n: how many at most
 * @ret_pages: @n places
 *
 * Return: how many were filled in (less at the end of RAM), or -ENOENT.
 */
int64_t host_vm_pages(struct host *host, const char *name, uint64_t first,
		      uint64_t n, struct host_page *ret_pages)
	__attribute__((warn_unused_result));

enum host_walk_end {
	HOST_WALK_MAPPED,
	HOST_WALK_NOT_PRESENT, /* the last step's entry says so */
	HOST_WALK_TABLE_AWAY,  /* the next table is compressed or swapped */
	HOST_WALK_NO_RAM,      /* it leads to a device, or to nothing */
};

/**
 * struct host_walk_step - one entry of the guest's page tables.
 * @level: 4 to 1
 * @table: guest physical address of the table
 * @index: of the entry in it
 * @entry: what it says
 */
struct host_walk_step {
	unsigned int level;
	uint64_t table;
	unsigned int index;
	uint64_t entry;
};

/**
 * struct host_walk - how the guest's page tables lead to a page.
 * @root: CR3 of the guest's processor a moment ago, with LINK_ROOT_KNOWN
 * @steps: entries that were read
 * @n_steps: how many
 * @end: where that ended
 * @page: HOST_WALK_MAPPED: PPN
 */
struct host_walk {
	uint64_t root;
	struct host_walk_step steps[4];
	unsigned int n_steps;
	enum host_walk_end end;
	uint64_t page;
};

/**
 * host_vm_ask_root() - have a VM say where its first processor's page tables begin now.
 * @host: the host
 * @name: of the VM
 *
 * Under KVM nobody knows before that is asked. Return: 0; -ENOENT (it does not run); -ETIMEDOUT.
 * Context: sleeps up to a second, without a lock.
 */
int host_vm_ask_root(struct host *host, const char *name)
	__attribute__((warn_unused_result));

/**
 * host_vm_walk() - walk a running guest's page tables from outside, for people.
 * @host: the host
 * @name: of the VM
 * @address: guest virtual
 * @ret: what was found; the guest may have changed it meanwhile
 *
 * Return: 0; -ENOENT (it does not run); -ENODATA (it has another paging mode).
 */
int host_vm_walk(struct host *host, const char *name, uint64_t address,
		 struct host_walk *ret) __attribute__((warn_unused_result));

/**
 * host_vm_frames() - the host's own frame numbers behind pages of a VM.
 * @host: the host
 * @name: of the VM
 * @pages: where they are, by host_vm_pages()
 * @ppns: their PPNs
 * @n: how many
 * @ret_frames: @n numbers; 0: none, not mapped by the VM now, or not permitted to be known
 *
 * Return: 0, -ENOENT (it does not run), or why the kernel's table cannot be opened.
 */
int host_vm_frames(struct host *host, const char *name,
		   const struct host_page *pages, const uint64_t *ppns, size_t n,
		   uint64_t *ret_frames) __attribute__((warn_unused_result));

/**
 * host_replan() - decide now instead of at the end of the period; returns at once.
 * @host: the host
 */
void host_replan(struct host *host);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: guest RAM as KVM sees it, one range of host addresses in which
 * page p is at p * PAGE_SIZE.
 *
 * It maps the home file, so that the kernel itself brings memory behind pages that are the
 * VM's anyway. Where pages may be away, the range is registered with userfaultfd, and a
 * thread brings them back through guest memory. Shared pages are mapped from the group file,
 * write-protected.
 *
 * Guest memory, which belongs to the processor's thread with an engine of our own, belongs
 * here to whoever holds the lock of struct kvm_window_config.
 */
#ifndef ENGINE_KVM_WINDOW_H
#define ENGINE_KVM_WINDOW_H
#include <pthread.h>

#include <base/error.h>
#include <base/types.h>
#include <mem/guestmem.h>

struct kvm_window;

/* So many mappings of shared runs, unless the host allows fewer. */
#define KVM_WINDOW_MAX_RUNS 12288

#define KVM_WINDOW_STALL_NS UINT64_C(1000000000)

/**
 * struct kvm_window_config - what a window is made for.
 * @mem: guest memory; outlives the window
 * @lock: held around every use of guest memory
 * @failed: a page cannot be provided (guestmem_failure()): the VM must end. With @lock held
 * @stalled: processors have waited for pages for KVM_WINDOW_STALL_NS since it was called last,
 *           in one or in many waits: while they wait, or just before a page comes. With @lock held
 * @ctx: for @failed and @stalled
 * @max_runs: bound on mappings of shared runs
 * @large_pages: back RAM with 2 MiB pages where the host offers them, until
 *               kvm_window_set_large() says otherwise
 */
struct kvm_window_config {
	struct guestmem *mem;
	pthread_mutex_t *lock;
	void (*failed)(void *ctx);
	void (*stalled)(void *ctx);
	void *ctx;
	uint64_t max_runs;
	bool large_pages;
};

/**
 * struct kvm_window_stats - counters.
 * @missing_faults: accesses to pages that had no memory
 * @minor_faults: accesses to pages that had memory but were revoked once
 * @write_faults: writes to shared pages
 * @worker_faults: accesses to shared pages by KVM's workers, taken for reading
 * @unmaps: pages let go of
 * @mapped: pages shown from the home file
 * @shared_mapped: pages shown from the group file
 * @runs_refused: shared pages made private because there were too many mappings
 * @claimed: pages made HOME before or beside a fault
 * @chunks_registered: 2 MiB pieces in which pages may be away, now
 * @registrations: 2 MiB pieces that were registered, ever
 * @chunks_rebuilt: pieces that are whole again and cost nothing any more
 * @collapsed: pieces that were made large pages again
 * @given_back: pages that were HOME, never touched, and ZERO again since memory is scarce
 * @strays: pages that were away and had memory all the same, which was released
 * @runs: mappings of shared runs, now
 * @stall_ns: time from a fault's arrival at the thread to its end
 */
struct kvm_window_stats {
	uint64_t missing_faults;
	uint64_t minor_faults;
	uint64_t write_faults;
	uint64_t worker_faults;
	uint64_t unmaps;
	uint64_t mapped;
	uint64_t shared_mapped;
	uint64_t runs_refused;
	uint64_t claimed;
	uint64_t chunks_registered;
	uint64_t registrations;
	uint64_t chunks_rebuilt;
	uint64_t collapsed;
	uint64_t given_back;
	uint64_t strays;
	uint64_t runs;
	uint64_t stall_ns;
};

/**
 * kvm_window_new() - map guest RAM and connect with guest memory.
 * @cfg: copied
 * @ret: set on success; ended with kvm_window_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int kvm_window_new(const struct kvm_window_config *cfg, struct kvm_window **ret,
		   struct err *err) __attribute__((warn_unused_result));

/**
 * kvm_window_claim() - before anything is loaded: if the VM is allowed all of its pages, it has
 * them from now on, so that it is loaded into large pages.
 */
void kvm_window_claim(struct kvm_window *w);

/** kvm_window_fault() - what the host's userfaultfd can do for this window. */
const struct kvm_userfault *kvm_window_fault(const struct kvm_window *w);

/** kvm_window_free() - end it, with no processor in the guest. NULL is fine. Return: NULL. */
struct kvm_window *kvm_window_free(struct kvm_window *w);

/** kvm_window_base() - host address of page 0, aligned to 2 MiB. */
uint8_t *kvm_window_base(const struct kvm_window *w);

/**
 * kvm_window_start() - take the pages that the VM is allowed, and serve faults from now on.
 * @w: window, with guest memory loaded
 * @err: message
 *
 * With allowance for all of RAM every page becomes HOME at once, without memory behind it
 * until it is touched, and nothing is registered. Else faults bring page by page.
 *
 * Return: 0; -ENOTSUP if pages may be away and the host has no userfaultfd for us; -errno.
 */
int kvm_window_start(struct kvm_window *w, struct err *err)
	__attribute__((warn_unused_result));

/**
 * kvm_window_set_large() - large pages are wanted, or not any more.
 * @w: window
 * @on: which
 *
 * Without them pages that were never touched become ZERO soon. Context: any thread.
 */
void kvm_window_set_large(struct kvm_window *w, bool on);

/**
 * kvm_window_open() - the VM ends: let every access through, whatever it reads.
 * @w: window
 *
 * So that processors that wait for a page come back. With the lock held.
 */
void kvm_window_open(struct kvm_window *w);

/**
 * kvm_window_collided() - a processor could not access memory: it may write when it tries again.
 * @w: window
 *
 * Takes the lock, which whoever changes a view has: that is over then.
 */
void kvm_window_collided(struct kvm_window *w);

/** kvm_window_stats() - its counters. Any thread; approximate while the VM runs. */
struct kvm_window_stats kvm_window_stats(const struct kvm_window *w);

/**
 * kvm_window_audit() - compare what is shown with the physmap.
 * @w: window
 * @err: message
 *
 * With the lock held. Return: pages looked at, or -EILSEQ with a message.
 */
int64_t kvm_window_audit(struct kvm_window *w, struct err *err);

/**
 * struct kvm_userfault - what the host's userfaultfd can do for a window.
 * @usable: it sees faults of KVM
 * @write_protect: and write faults on memory files
 * @by_device: it was opened through /dev/userfaultfd, which needs no privilege
 * @features: as the kernel reports them
 * @reason: why it is not usable
 */
struct kvm_userfault {
	bool usable;
	bool write_protect;
	bool by_device;
	uint64_t features;
	char reason[160];
};

/**
 * kvm_userfault_open() - open a userfaultfd that sees faults of KVM.
 * @ret: what it can do; always set
 *
 * Return: a descriptor, or -1.
 */
int kvm_userfault_open(struct kvm_userfault *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine window: every memory file that a VM process may touch, mapped in one
 * reserved range of host addresses, so that a machine address (ma_t) is simply an
 * offset in that range.
 *
 *   MACHINE_HOME   the VM's home file; the home frame of PPN p is at p * PAGE_SIZE
 *   MACHINE_ZERO   one read-only page of zeros, which stands for every ZERO page
 *   MACHINE_GROUP  the sharing group's file, read-only
 *   MACHINE_TABLE  pages for tables that we build (nested, shadow)
 */
#ifndef MEM_MACHINE_H
#define MEM_MACHINE_H
#include <base/error.h>
#include <base/types.h>

/*
 * Each file has 1 TiB of addresses. The thread sanitizer leaves a program 1.5 TiB in
 * all, so under it each has 64 GiB.
 */
#if defined(__SANITIZE_THREAD__)
#define MACHINE_SHIFT 36
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define MACHINE_SHIFT 36
#endif
#endif
#ifndef MACHINE_SHIFT
#define MACHINE_SHIFT 40
#endif

#define MACHINE_HOME  (UINT64_C(0) << MACHINE_SHIFT)
#define MACHINE_ZERO  (UINT64_C(1) << MACHINE_SHIFT)
#define MACHINE_GROUP (UINT64_C(2) << MACHINE_SHIFT)
#define MACHINE_TABLE (UINT64_C(3) << MACHINE_SHIFT)
#define MACHINE_END   (UINT64_C(4) << MACHINE_SHIFT)

/* Limits of a guest's RAM. */
#define MACHINE_MIN_RAM (UINT64_C(1) << 20)
#define MACHINE_MAX_RAM (UINT64_C(1) << MACHINE_SHIFT)

/* What struct machine looks like is needed inline by the processor's fast paths. */
struct machine {
	uint8_t *window; /* I host address of machine address 0; 2 MiB aligned */
	uint8_t *reserved; /* I the range of addresses that it is in, or NULL */
	uint64_t reserved_bytes; /* I how long that is */
	uint64_t ram_bytes;      /* I length of the home file */
	int home_fd;             /* I owned memfd, or -1 */
	int table_fd;            /* I owned memfd, or -1 */
	int group_fd; /* owned duplicate of the group's file, or -1 */
	struct table_pages *tables; /* allocator of MACHINE_TABLE pages */
};

/**
 * machine_new() - reserve a window and make an empty home file of guest RAM's size.
 * @ram_bytes: guest RAM, a multiple of PAGE_SIZE, MACHINE_MIN_RAM to MACHINE_MAX_RAM
 * @ret_machine: set on success; the caller owns it and ends it with machine_free()
 * @err: message on failure
 *
 * Return: 0, -EINVAL (size), -ENOMEM, or what memfd_create() and mmap() report.
 */
int machine_new(uint64_t ram_bytes, struct machine **ret_machine,
		struct err *err) __attribute__((warn_unused_result));

/**
 * machine_free() - unmap the window and close its files. NULL is fine.
 * @m: the window
 *
 * Return: NULL.
 */
struct machine *machine_free(struct machine *m);

/**
 * machine_ptr() - host address of a machine address.
 * @m: the window
 * @addr: any machine address inside a file that is mapped
 */
static inline uint8_t *machine_ptr(const struct machine *m, ma_t addr)
{
	return m->window + addr.v;
}

/**
 * machine_home_populate() - put memory behind a home frame, where there may be none.
 * @m: the window
 * @page: whose home frame
 *
 * What the frame holds does not change; a hole becomes zeros.
 *
 * Return: 0 or -ENOMEM, if the host has no page to give. Context: any thread.
 */
int machine_home_populate(struct machine *m, ppn_t page)
	__attribute__((warn_unused_result));

/** machine_home_populate_run() - the same for @n_pages; on failure some may have memory. */
int machine_home_populate_run(struct machine *m, ppn_t first, uint64_t n_pages)
	__attribute__((warn_unused_result));

/**
 * machine_home_drop() - release a home frame; it reads as zeros afterwards.
 * @m: the window
 * @page: whose home frame
 *
 * Return: true if its memory went back to the host. Context: any thread.
 */
bool machine_home_drop(struct machine *m, ppn_t page);

/** machine_home_drop_run() - machine_home_drop() of @n_pages frames from @first on. */
bool machine_home_drop_run(struct machine *m, ppn_t first, uint64_t n_pages);

/** machine_offers_large_pages() - whether this host has large pages for memory files. */
bool machine_offers_large_pages(void);

/**
 * machine_set_large_pages() - ask for 2 MiB machine pages behind guest RAM, or not.
 * @m: the window
 * @on: which; a new window has them off
 * @err: message on failure
 *
 * They make the guest faster and its memory coarser: the first touch of a page brings
 * 2 MiB, so that the physmap's figures are less than what the host has spent.
 *
 * Return: 0, -EOPNOTSUPP if the host's settings do not allow it, or what madvise() reports.
 */
int machine_set_large_pages(struct machine *m, bool on, struct err *err)
	__attribute__((warn_unused_result));

/**
 * machine_map_group() - show the sharing group's file at MACHINE_GROUP, read-only.
 * @m: the window
 * @fd: the group's memory file; stays the caller's
 * @bytes: its length now; a later call with a greater length extends the view
 * @err: message on failure
 *
 * Return: 0, -EINVAL (length), or what mmap() reports.
 */
int machine_map_group(struct machine *m, int fd, uint64_t bytes,
		      struct err *err) __attribute__((warn_unused_result));

/**
 * machine_table_alloc() - take one zeroed page for a table that we build.
 * @m: the window
 * @ret_ma: its machine address, in MACHINE_TABLE
 *
 * Return: 0 or -ENOMEM. Context: the VM's processor thread.
 */
int machine_table_alloc(struct machine *m, ma_t *ret_ma)
	__attribute__((warn_unused_result));

/**
 * machine_table_free() - give a table page back; its memory returns to the host.
 * @m: the window
 * @table: from machine_table_alloc()
 */
void machine_table_free(struct machine *m, ma_t table);

/**
 * machine_table_pages() - how many table pages are in use now.
 * @m: the window
 */
uint64_t machine_table_pages(const struct machine *m);

/**
 * machine_table_kept_pages() - free table pages whose memory has not been returned yet.
 * @m: the window
 *
 * Context: the VM's processor thread.
 */
uint64_t machine_table_kept_pages(const struct machine *m);

/**
 * machine_table_audit() - recompute the bookkeeping of table pages.
 * @m: the window
 *
 * Return: true if it is right. Context: the VM's processor thread.
 */
bool machine_table_audit(const struct machine *m);

#endif

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

#define MACHINE_HOME  (UINT64_C(0) << 40)
#define MACHINE_ZERO  (UINT64_C(1) << 40)
#define MACHINE_GROUP (UINT64_C(2) << 40)
#define MACHINE_TABLE (UINT64_C(3) << 40)
#define MACHINE_END   (UINT64_C(4) << 40)

/* What struct machine looks like is needed inline by the processor's fast paths. */
struct machine {
	uint8_t *window;      /* I host address of machine address 0 */
	uint64_t ram_bytes;   /* I length of the home file */
	int home_fd;          /* I owned memfd, or -1 */
	int table_fd;         /* I owned memfd, or -1 */
	struct table_pages *tables; /* allocator of MACHINE_TABLE pages */
};

/**
 * machine_new() - reserve a window and make an empty home file of guest RAM's size.
 * @ram_bytes: guest RAM, a multiple of PAGE_SIZE, at least 1 MiB
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

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The allocator of MACHINE_TABLE pages; only machine.c and the tests see it. */
#ifndef MEM_TABLE_PAGES_H
#define MEM_TABLE_PAGES_H
#include <base/types.h>

/* The file grows by this much at a time. */
#define TABLE_CHUNK_PAGES UINT64_C(512)
/* Free pages whose memory is kept for the next allocation: at most 1 MiB. */
#define TABLE_KEPT_PAGES UINT64_C(256)

struct table_pages;

/**
 * table_pages_new() - an allocator with no pages yet.
 * @fd: growable memory file, stays the caller's
 * @base: host address where page 0 of the file is to be mapped; the addresses up to
 *        @max_pages pages behind it are reserved for it
 * @max_pages: how far the file may grow
 *
 * Return: the allocator, or NULL if there is no memory.
 */
struct table_pages *table_pages_new(int fd, uint8_t *base, uint64_t max_pages);

/** table_pages_free() - end it; what it mapped stays mapped. NULL is fine. Return: NULL. */
struct table_pages *table_pages_free(struct table_pages *t);

/**
 * table_pages_alloc() - take a page; it is all zero and its memory is there.
 * @t: allocator
 * @ret_idx: which page of the file
 *
 * Return: 0 or -ENOMEM.
 */
int table_pages_alloc(struct table_pages *t, uint64_t *ret_idx)
	__attribute__((warn_unused_result));

/**
 * table_pages_put() - give a page back.
 * @t: allocator
 * @idx: which; giving back what is not in use is a bug that stops the program
 */
void table_pages_put(struct table_pages *t, uint64_t idx);

/** table_pages_used() - pages in use. Context: any thread. */
uint64_t table_pages_used(const struct table_pages *t);

/** table_pages_kept() - free pages whose memory has not been returned yet. */
uint64_t table_pages_kept(const struct table_pages *t);

/** table_pages_audit() - recompute the lists from the pages' states. Return: true if they agree. */
bool table_pages_audit(const struct table_pages *t);

#endif

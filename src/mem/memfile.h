/* SPDX-License-Identifier: Apache-2.0 */
/* Memory files: sealed memfds whose pages come and go one at a time. */
#ifndef MEM_MEMFILE_H
#define MEM_MEMFILE_H
#include <base/error.h>
#include <base/types.h>

/**
 * memfile_new() - make a memory file that is all hole.
 * @name: shown by the kernel in /proc, at most 200 bytes
 * @bytes: length; with @growable it may be made longer later
 * @growable: false seals the length, so that no holder can make others' accesses fail
 * @ret_fd: set on success, close-on-exec, owned by the caller
 * @err: message on failure
 *
 * Return: 0 or what memfd_create() and ftruncate() report.
 */
int memfile_new(const char *name, uint64_t bytes, bool growable, int *ret_fd,
		struct err *err) __attribute__((warn_unused_result));

/**
 * memfile_drop() - give the memory of a range back; it reads as zeros afterwards.
 * @fd: memory file
 * @offset: first byte, a multiple of PAGE_SIZE
 * @bytes: a multiple of PAGE_SIZE
 *
 * Should the kernel refuse to punch the hole then zeros are written instead, so that
 * the contents are right in any case.
 *
 * Return: true if the memory was released. Context: any thread.
 */
bool memfile_drop(int fd, uint64_t offset, uint64_t bytes);

/**
 * memfile_small_pages() - have the kernel use small pages for a mapping of a memory file.
 * @at: the mapping's first byte, or that of a part
 * @bytes: its length
 *
 * Where hosts give large pages unasked (shmem_enabled is always), the first touch of a page would
 * else be memory behind 512. Every mapping of a sparse file needs it, in each process; those of
 * memfile_map() have it.
 */
void memfile_small_pages(void *at, uint64_t bytes);

/**
 * memfile_map() - map the beginning of a memory file, shared, in small pages.
 * @fd: memory file
 * @bytes: how much
 * @protection: as for mmap()
 *
 * Return: as mmap(), with errno. The caller ends it with munmap().
 */
void *memfile_map(int fd, uint64_t bytes, int protection);

/** page_is_zero() - whether all of PAGE_SIZE bytes are zero. */
bool page_is_zero(const uint8_t *bytes);

/**
 * memfile_page_is_zero() - whether a page of a file reads as zeros.
 * @fd: memory file
 * @offset: of the page's first byte
 *
 * A hole does, and gets no memory by being read. Waits for whoever is about to move the page, as
 * the kernel is when it makes a large page of small ones. Return: false also if it cannot be read.
 */
bool memfile_page_is_zero(int fd, uint64_t offset);

/**
 * memfile_data_next() - the next stretch of a file that has memory behind it.
 * @fd: memory file
 * @bytes: end of the part that matters
 * @start: look from here on; what is returned is not before it
 * @ret_start: first byte of the stretch
 * @ret_end: its end
 *
 * Used to scan sparse arrays: reading a hole through a mapping would allocate it. The
 * file position moves. A kernel without SEEK_DATA shows everything as data. While a kernel before
 * Linux 6.4 makes a large page of small ones, it shows them as a hole.
 *
 * Return: false if there is none.
 */
bool memfile_data_next(int fd, uint64_t bytes, uint64_t start,
		       uint64_t *ret_start, uint64_t *ret_end);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Bring memory behind a page of a mapped memory file without risking SIGBUS. */
#ifndef MEM_POPULATE_H
#define MEM_POPULATE_H
#include <base/types.h>

/**
 * populate_write() - see to it that a page can be written without a fault that may fail.
 * @ptr: where the page is mapped, writable
 * @fd: the memory file that is mapped there
 * @offset: of the page in the file
 *
 * A plain store to a hole of a memory file raises SIGBUS when the host has no page to
 * give. MADV_POPULATE_WRITE (Linux 5.14) does the work of that very page fault and
 * reports failure instead, at about the same cost; on older kernels fallocate() makes
 * the page and the store takes its fault.
 *
 * Return: 0 or -ENOMEM. Context: any thread.
 */
int populate_write(uint8_t *ptr, int fd, uint64_t offset)
	__attribute__((warn_unused_result));

/** populate_write_run() - the same for @n_pages from there on; on failure some may have memory. */
int populate_write_run(uint8_t *ptr, int fd, uint64_t offset, uint64_t n_pages)
	__attribute__((warn_unused_result));

#endif

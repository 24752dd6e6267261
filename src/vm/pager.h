/* SPDX-License-Identifier: Apache-2.0 */
/* Brings compressed and swapped pages back, in the VM itself. */
#ifndef VM_PAGER_H
#define VM_PAGER_H
#include <base/error.h>
#include <mem/guestmem.h>
#include <mem/link_counters.h>

struct pager;

/**
 * pager_new() - become the source of guest memory's pages.
 * @mem: guest memory, before it is used; outlives the pager
 * @counters: where to count; outlives the pager
 * @ret: set on success; ended with pager_free() when guest memory is not used any more
 * @err: message
 *
 * Return: 0 or -ENOMEM.
 */
int pager_new(struct guestmem *mem, struct link_counters *counters,
	      struct pager **ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * pager_attach() - the host's files are here; once.
 * @pager: pager
 * @zip_fd: zip file
 * @swap_fd: swap file; both become the pager's, also on failure
 * @err: message
 *
 * Return: 0, -EBADMSG, or what mmap() reports. Context: before the first page is out.
 */
int pager_attach(struct pager *pager, int zip_fd, int swap_fd, struct err *err)
	__attribute__((warn_unused_result));

/** pager_fds() - the attached files. Return: false if there are none yet. */
bool pager_fds(const struct pager *pager, int *ret_zip_fd, int *ret_swap_fd);

/** pager_free() - end it; NULL is fine. Return: NULL. */
struct pager *pager_free(struct pager *pager);

#endif

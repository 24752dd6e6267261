/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's end of the link with the host.
 *
 * The VM listens on a Unix socket in its directory; a host that starts later than the VM
 * finds it there. One host at a time is linked. When it goes, pages that it was moving
 * are turned back, and only then the next host is let in. Meanwhile the VM lives on what
 * it was allowed.
 */
#ifndef VM_LINK_H
#define VM_LINK_H
#include <base/error.h>
#include <mem/guestmem.h>
#include <mem/link_counters.h>

#define LINK_SOCKET_NAME "vm.sock"

struct link;

/**
 * struct link_hooks - what the host may ask of a VM besides pages; on the link's thread.
 * @balloon: that many pages should be in the balloon
 * @power: press the power button
 * @stop: end the VM
 * @large: large pages are wanted, or not any more
 * @root: link_tell_page_root() is wanted; false if what was told last is what there is
 */
struct link_hooks {
	void (*balloon)(void *ctx, uint64_t pages);
	void (*power)(void *ctx);
	void (*stop)(void *ctx);
	void (*large)(void *ctx, bool on);
	bool (*root)(void *ctx);
};

/**
 * link_new() - listen for a host; from now on pages need its allowance.
 * @mem: guest memory, before it is used; outlives the link
 * @dir: directory of the VM
 * @hooks: constant table; any function may be NULL
 * @ctx: for @hooks
 * @ret: set on success; ended with link_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int link_new(struct guestmem *mem, const char *dir,
	     const struct link_hooks *hooks, void *ctx, struct link **ret,
	     struct err *err) __attribute__((warn_unused_result));

/**
 * link_wait() - until a host has attached, and decided what the VM may have.
 * @link: link
 * @timeout_ms: at most
 * @err: message
 *
 * Serves guest memory meanwhile, so it is for the processor's thread before it runs.
 *
 * Return: 0, even if the decision does not come in time; -ETIMEDOUT without a host.
 */
int link_wait(struct link *link, uint64_t timeout_ms, struct err *err)
	__attribute__((warn_unused_result));

/** link_tell_page_root() - where the guest's page tables begin; 0: not known. Cheap. */
void link_tell_page_root(struct link *link, uint64_t cr3);

/** link_tell_up() - the VM is whole and runs: what it was started for has succeeded. */
void link_tell_up(struct link *link);

/** link_counters() - what the host is told. */
struct link_counters *link_counters(struct link *link);

/** link_set_processor() - whose processor time counts as the VM's; the calling thread's. */
void link_set_processor(struct link *link);

/** link_update_counters() - copy guest memory's own figures there; cheap. Any thread. */
void link_update_counters(struct link *link);

/** link_free() - end it, with guest memory not used any more. NULL is fine. Return: NULL. */
struct link *link_free(struct link *link);

#endif

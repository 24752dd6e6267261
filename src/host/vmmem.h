/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of one VM's memory: its physmap, its files, what is known about each of
 * its pages, and the account of machine memory that it was given.
 *
 * Everything that comes from the VM is checked. What the host relies on, it knows by
 * itself: the word of a page says which frame the host gave it, so a VM that lies about
 * what it left can only hurt itself; the account says what it may have at most, so a VM
 * that helps itself is found out.
 *
 * Moves (whatever says "the mover's") are made by one thread at a time.
 */
#ifndef HOST_VMMEM_H
#define HOST_VMMEM_H
#include <pthread.h>
#include <stdatomic.h>

#include <base/error.h>
#include <base/types.h>
#include <host/group.h>
#include <host/ledger.h>
#include <host/swap.h>
#include <host/zip.h>
#include <mem/link_counters.h>
#include <mem/link_msg.h>
#include <mem/physmap.h>
#include <mem/revoke.h>

/* A page's word: the frame that it shares, or the tag that it is hinted by, or 0. */
#define WORD_SHARED HINT_FRAME
/* Pages that the scan looks at together. */
#define VMMEM_WINDOW 64

/**
 * struct vmmem - one VM's memory.
 *
 * Members: I immutable after vmmem_attach(), m the mover's, a atomic, c under
 * @commit_lock.
 */
struct vmmem {
	uint64_t n_pages;               /* I */
	struct ledger *ledger;          /* I */
	struct physmap *map;            /* I */
	struct link_counters *counters; /* I, atomic inside */
	int home_fd;                    /* I */
	int tables_fd;                  /* I */
	struct revoke_host *revoke;     /* I */
	struct zip *zip;                /* I */
	struct swap *swap;              /* I */
	struct group *group;            /* I */
	uint32_t base;   /* m of its pages' numbers in the group */
	uint32_t *words; /* m by PPN */
	uint8_t *quiet;  /* m by VMMEM_WINDOW pages: share.c */

	pthread_mutex_t commit_lock;
	uint64_t committed; /* c pages entered for it: what it has or may take */

	uint64_t slow_until_ms;    /* m leave it alone: it did not answer */
	unsigned suspicions;       /* m */
	uint64_t honest_ms;        /* m when it was last found to be honest */
	_Atomic bool misbehaved;   /* a */
	char why[128];             /* set before @misbehaved */
	_Atomic uint64_t zip_out;  /* a */
	_Atomic uint64_t swap_out; /* a */
	_Atomic uint64_t shared_ever; /* a */
	_Atomic uint64_t zeroed;      /* a */
	_Atomic uint64_t scanned;     /* a */
	_Atomic uint64_t
		shared_filled; /* a shared as soon as they were read, others' too */
};

/**
 * struct vmmem_batch - pages of one VM that the host has in its hands.
 * @revoke: the protocol's part
 * @bytes: their contents in the same order, once vmmem_read() was called
 */
struct vmmem_batch {
	struct revoke_batch revoke;
	uint8_t *bytes;
};

/**
 * vmmem_new() - take over the descriptors of a VM's greeting.
 * @n_pages: size of the VM, which the files must have
 * @fds: home, physmap, tables and counters; the VM's memory owns them from now on, also
 *       on failure
 * @ledger: machine memory
 * @send: hands a revocation to the VM
 * @ctx: for @send
 * @ret: set on success; ended with vmmem_free()
 * @err: message
 *
 * Return: 0, -EBADMSG (a file is not what it should be), or -errno.
 */
int vmmem_new(uint64_t n_pages, const int fds[LINK_FDS_NEW],
	      struct ledger *ledger,
	      int (*send)(void *ctx, const struct revoke_request *request),
	      void *ctx, struct vmmem **ret, struct err *err)
	__attribute__((warn_unused_result));

/** vmmem_attach() - give it its stores, and make it a member of its group. Return: 0 or -errno. */
int vmmem_attach(struct vmmem *vm, struct zip *zip, struct swap *swap,
		 struct group *group) __attribute__((warn_unused_result));

/** vmmem_free() - the VM is gone: everything is free again; NULL is fine. Return: NULL. */
struct vmmem *vmmem_free(struct vmmem *vm);

/**
 * vmmem_rescan() - recompute from the physmap which slots and frames are in use.
 * @vm: VM
 * @adopt: the VM ran before this host
 *
 * After a VM was adopted (enters its account too, whether it fits or not), or when places
 * that it left got lost.
 */
void vmmem_rescan(struct vmmem *vm, bool adopt);

/** vmmem_drain() - free the places that its pages have left. */
void vmmem_drain(struct vmmem *vm);

/**
 * vmmem_sync() - lower the account to what the VM still has or may take.
 * @vm: VM
 *
 * Also finds out whether it has more than it was given. Context: the mover, between moves.
 */
void vmmem_sync(struct vmmem *vm);

/**
 * vmmem_allow() - let it take that many pages by itself, no more and no less.
 * @vm: VM
 * @pages: allowance
 *
 * What the ledger does not have is not given. Context: any thread.
 *
 * Return: pages that it got in addition.
 */
uint64_t vmmem_allow(struct vmmem *vm, uint64_t pages);

/** vmmem_withdraw() - the first half of vmmem_allow(): take back what is above that many. */
void vmmem_withdraw(struct vmmem *vm, uint64_t pages);

/** vmmem_committed() - pages entered for it. Any thread. */
uint64_t vmmem_committed(struct vmmem *vm);

/** vmmem_misbehaves() - note that it broke the rules; the first reason is kept. */
void vmmem_misbehaves(struct vmmem *vm, const char *why);

/**
 * vmmem_take() - get hold of pages: after this nobody else reads or writes them.
 * @vm: VM
 * @pages: candidates
 * @n: how many, up to REVOKE_BATCH_PAGES
 * @states: wanted states, as for revoke_take()
 * @batch: set if pages were taken; @batch->bytes is the caller's buffer
 *
 * Return: how many were taken; or -errno, and there is nothing to end.
 */
int vmmem_take(struct vmmem *vm, const ppn_t *pages, unsigned n, unsigned states,
	       struct vmmem_batch *batch) __attribute__((warn_unused_result));

/** vmmem_read() - read the contents of the HOME pages of a batch. Return: 0 or -errno. */
int vmmem_read(struct vmmem *vm, struct vmmem_batch *batch)
	__attribute__((warn_unused_result));

/** vmmem_bytes() - the contents of page @idx of a batch. */
uint8_t *vmmem_bytes(const struct vmmem_batch *batch, unsigned idx);

/**
 * vmmem_finish() - pages of a batch become something else.
 * @vm: VM
 * @batch: from vmmem_take()
 * @finals: for each page of the batch a ZERO, SHARED (referenced by the caller), ZIPPED or
 *          SWAPPED entry, or REVOKE_KEEP; changed
 *
 * Return: bit i: page i was changed; the others stay what they were.
 */
uint64_t vmmem_finish(struct vmmem *vm, struct vmmem_batch *batch,
		      uint64_t finals[REVOKE_BATCH_PAGES])
	__attribute__((warn_unused_result));

/** vmmem_end() - let go of the rest of a batch. */
void vmmem_end(struct vmmem *vm, struct vmmem_batch *batch);

/** vmmem_forget_hint() - the page's hint is out of date. */
void vmmem_forget_hint(struct vmmem *vm, uint64_t page);

/** vmmem_home_pages() - machine pages behind the home file, as the kernel says. */
uint64_t vmmem_home_pages(const struct vmmem *vm);

/**
 * vmmem_untouched_pages() - pages that are HOME and have no memory yet.
 *
 * Like allowance they are the VM's to use, and free as long as it does not.
 */
uint64_t vmmem_untouched_pages(const struct vmmem *vm);

/** vmmem_table_pages() - machine pages behind the tables file, as the kernel says. */
uint64_t vmmem_table_pages(const struct vmmem *vm);

/** file_pages() - machine pages behind a memory file, as the kernel says. */
uint64_t file_pages(int fd);

#endif

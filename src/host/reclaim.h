/* SPDX-License-Identifier: Apache-2.0 */
/* Taking pages from a VM by compressing and swapping them. */
#ifndef HOST_RECLAIM_H
#define HOST_RECLAIM_H
#include <base/error.h>
#include <base/rng.h>
#include <base/types.h>
#include <host/vmmem.h>

#define RECLAIM_CLUSTER 8
#define RECLAIM_RING    256

/**
 * struct reclaim_vm - what is remembered of one VM between two calls.
 * @random: of the choice
 * @cluster: ring of clusters that are watched, to see whether they are in use
 * @since_ms: since when
 * @first: oldest
 * @n: how many
 * @in_use: how many of the last clusters were found in use, less those that were not
 */
struct reclaim_vm {
	struct rng random;
	uint32_t cluster[RECLAIM_RING];
	uint64_t since_ms[RECLAIM_RING];
	unsigned first;
	unsigned n;
	unsigned in_use;
};

/**
 * struct reclaim_order - what is wanted.
 * @compress: pages to try to compress; those that do not fit are swapped
 * @swap: pages to swap in addition
 * @evict: compressed pages to swap afterwards
 * @zip_max_pages: largest compression cache; 0: none
 * @hurry: take pages that may be in use before all have been looked at
 */
struct reclaim_order {
	uint64_t compress;
	uint64_t swap;
	uint64_t evict;
	uint64_t zip_max_pages;
	bool hurry;
};

/* What a call did. */
enum reclaim_result {
	RECLAIM_DONE,      /* the order is empty, or nothing can be taken */
	RECLAIM_MORE,      /* call again */
	RECLAIM_WATCHING,  /* call again a little later */
	RECLAIM_SWAP_FULL, /* pages were left where they were */
	RECLAIM_FAILED, /* the VM does not answer, or the disk does not write */
};

struct reclaim;

/** reclaim_new() - room to work in. Return: NULL if there is no memory. */
struct reclaim *reclaim_new(void);

/** reclaim_free() - end it; NULL is fine. Return: NULL. */
struct reclaim *reclaim_free(struct reclaim *r);

/**
 * reclaim_step() - take one batch of pages.
 * @r: room to work in
 * @vm: VM
 * @memory: what is remembered of it
 * @order: what is wanted; lowered by what was tried
 *
 * Each page is tried for zero and for a shared frame first.
 *
 * Return: see enum reclaim_result. Context: the mover.
 */
enum reclaim_result reclaim_step(struct reclaim *r, struct vmmem *vm,
				 struct reclaim_vm *memory,
				 struct reclaim_order *order);

/**
 * reclaim_evict() - swap the oldest compressed pages.
 * @r: room to work in
 * @vm: VM
 * @n: how many, up to REVOKE_BATCH_PAGES
 *
 * Return: RECLAIM_MORE if a page was moved, else why not.
 */
enum reclaim_result reclaim_evict(struct reclaim *r, struct vmmem *vm,
				  unsigned n);

#endif

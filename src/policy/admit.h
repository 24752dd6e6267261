/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Admission control: what has been promised must be there.
 *
 * A VM's reservation and overhead are charged to its pool. A fixed pool takes its own
 * reservation from its parent, once and for all; an expandable one takes what its
 * children use if that is more. The root's capacity is machine memory less a margin
 * for shared pages that break apart.
 */
#ifndef POLICY_ADMIT_H
#define POLICY_ADMIT_H
#include <base/error.h>
#include <base/types.h>
#include <policy/options.h>
#include <policy/tree.h>

/* Which number was short. */
enum admit_short {
	ADMIT_FITS,
	ADMIT_POOL_RESERVATION, /* unreserved memory of a fixed pool */
	ADMIT_POOL_LIMIT,       /* the limit of an expandable pool */
	ADMIT_HOST_MEMORY,      /* unreserved machine memory */
	ADMIT_SWAP,             /* disk for what is not reserved */
};

/**
 * struct admit_host - what the host has to promise.
 * @managed_pages: machine memory
 * @margin_pages: kept back for breaking shared pages; admit_margin_pages()
 * @swap_free_pages: disk space for swap files that is not promised yet
 */
struct admit_host {
	uint64_t managed_pages;
	uint64_t margin_pages;
	uint64_t swap_free_pages;
};

/**
 * struct admit_result - how a request ended.
 * @what: which number was short, or ADMIT_FITS
 * @node: pool that was short, TREE_ROOT for the host and for swap
 * @needed_pages: asked for there
 * @available_pages: there was
 */
struct admit_result {
	enum admit_short what;
	uint32_t node;
	uint64_t needed_pages;
	uint64_t available_pages;
};

/**
 * struct pool_usage - reservation accounts of one pool, named as in vSphere's SDK.
 * @reservation_used: sum of what its children took
 * @charged_pages: what the pool takes from its parent
 * @unreserved_pages: still to be promised inside, with what its parents would lend
 */
struct pool_usage {
	uint64_t reservation_used;
	uint64_t charged_pages;
	uint64_t unreserved_pages;
};

/**
 * admit_margin_pages() - margin for pages that stop being shared all at once.
 * @managed_pages: machine memory
 * @options: options in force
 *
 * Return: minFree, which the reclaimers keep free and which nobody may reserve.
 */
uint64_t admit_margin_pages(uint64_t managed_pages,
			    const struct options *options);

/**
 * admit_usage() - the reservation accounts of all pools.
 * @tree: pools and running VMs
 * @order: its order
 * @host: what the host has
 * @ret: by node; for a VM all that it reserves is in charged_pages
 */
void admit_usage(const struct tree *tree, const struct tree_order *order,
		 const struct admit_host *host, struct pool_usage *ret);

/**
 * admit() - may a VM start in a pool, or a reservation grow?
 * @tree: pools and running VMs, without the newcomer
 * @order: its order
 * @host: what the host has
 * @pool: pool that it is to be charged to
 * @reserve_pages: reservation and overhead, or by how much they grow
 * @swap_pages: swap file needed: size less reservation
 * @ret: the verdict
 * @err: if it does not fit, says which number was short and by how much
 *
 * Return: 0, -ENOSPC if it does not fit, -ENOMEM.
 */
int admit(const struct tree *tree, const struct tree_order *order,
	  const struct admit_host *host, uint32_t pool, uint64_t reserve_pages,
	  uint64_t swap_pages, struct admit_result *ret, struct err *err)
	__attribute__((warn_unused_result));

/**
 * admit_check() - does a whole tree keep its promises, as after a change of settings?
 * @tree: pools and running VMs
 * @order: its order
 * @host: what the host has; swap is not looked at
 * @ret: the verdict
 * @err: says which number was short and by how much
 *
 * Return: 0, -ENOSPC if it does not fit, -EINVAL if a node's settings contradict each
 * other, -ENOMEM.
 */
int admit_check(const struct tree *tree, const struct tree_order *order,
		const struct admit_host *host, struct admit_result *ret,
		struct err *err) __attribute__((warn_unused_result));

#endif

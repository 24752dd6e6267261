/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who deserves how much memory: min-funding revocation with the idle memory tax.
 *
 * A claim with S shares that holds P pages, A of them active, pays per page
 *
 *	rho = S / (A + k(P - A)),   k = 1 / (1 - tax),   and S / P while P <= A.
 *
 * Memory is taken from whoever pays least, which is the same as giving pages one at
 * a time to whoever would pay most. claims_fill() returns exactly what this would
 * give, page for page, without going through the pages: the cost in the denominator
 * is piecewise linear in P, so the price at which the money runs out is found by
 * sorting the corners, in O(n log n).
 */
#ifndef POLICY_ENTITLE_H
#define POLICY_ENTITLE_H
#include <base/error.h>
#include <base/types.h>
#include <policy/options.h>
#include <policy/tree.h>

/* Bounds that keep the exact arithmetic within 128 bits. */
#define CLAIM_PAGES_MAX  (UINT64_C(1) << 44)
#define CLAIM_SHARES_MAX (UINT64_C(1) << 56)

/**
 * struct claim - what one of several siblings may get.
 * @shares: at least 1
 * @min_pages: got in any case
 * @max_pages: never exceeded; at least @min_pages
 * @active_pages: working set; taxed lightly or not at all
 */
struct claim {
	uint64_t shares;
	uint64_t min_pages;
	uint64_t max_pages;
	uint64_t active_pages;
};

/**
 * struct idle_tax - how much dearer an idle page is.
 * @rate_pct: 0..99
 * @progressive: half the rate for idle pages up to as many as are active
 */
struct idle_tax {
	uint32_t rate_pct;
	bool progressive;
};

/**
 * idle_tax_from() - the tax that the options ask for.
 * @options: values in force
 *
 * Return: the tax.
 */
struct idle_tax idle_tax_from(const struct options *options);

/**
 * claim_cost() - the denominator of the price, as an exact integer.
 * @claim: claim
 * @pages: what it would hold
 * @tax: tax
 *
 * Return: A + k(P - A), times a constant that depends on @tax only.
 */
uint64_t claim_cost(const struct claim *claim, uint64_t pages,
		    struct idle_tax tax);

/**
 * claims_fill() - divide memory among siblings.
 * @claims: @n claims
 * @n: number of claims
 * @total_pages: what there is
 * @tax: idle memory tax
 * @ret_pages: @n results, which add up to @total_pages, or to the sum of max_pages
 *             if that is less. If not even the sum of min_pages is there, what is
 *             there is divided with min_pages as the upper bound.
 *
 * A claim that would pay the same as another goes first if it stands first.
 *
 * Return: 0 or -ENOMEM.
 */
int claims_fill(const struct claim *claims, size_t n, uint64_t total_pages,
		struct idle_tax tax, uint64_t *ret_pages)
	__attribute__((warn_unused_result));

/**
 * entitle() - divide memory among all VMs of a tree of pools.
 * @tree: pools and VMs
 * @order: its order
 * @total_pages: what there is for guest memory
 * @tax: idle memory tax
 * @ret_pages: by node: what the VM deserves, or all VMs of the pool together
 *
 * A pool stands among its siblings with its own shares, with the active memory of
 * all its VMs, with at least its reservation as far as its VMs can use it, and with
 * at most its limit. A VM gets at least its reservation and at most its limit or size.
 *
 * Return: 0 or -ENOMEM.
 */
int entitle(const struct tree *tree, const struct tree_order *order,
	    uint64_t total_pages, struct idle_tax tax, uint64_t *ret_pages)
	__attribute__((warn_unused_result));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Figures about one VM's memory. */
#ifndef MEM_STATS_H
#define MEM_STATS_H
#include <base/types.h>
#include <mem/physmap.h>

/**
 * struct mem_stats - one VM's memory, now and since its start.
 * @pages: guest pages by state
 * @allowance_pages: that the VM may still take by itself
 * @touched: watched pages that were touched
 * @revoke_requests: that the VM acknowledged
 * @revoked_pages: that the VM let go of
 * @recovered_pages: turned back after a host died
 * @busy_waits: accesses that met a BUSY page
 * @busy_wait_ns: time that they waited
 * @allowance_waits: accesses that had to wait for allowance
 * @allowance_wait_ns: time that they waited
 * @zero_fills: pages that a first write made HOME
 * @unshares: pages that a write copied out of a shared frame
 * @fills: pages brought back from zip or swap
 * @dropped: pages that the guest gave up
 * @table_pages: pages used by tables that we build
 */
struct mem_stats {
	struct physmap_counts pages;
	uint64_t allowance_pages;
	uint64_t touched;
	uint64_t revoke_requests;
	uint64_t revoked_pages;
	uint64_t recovered_pages;
	uint64_t busy_waits;
	uint64_t busy_wait_ns;
	uint64_t allowance_waits;
	uint64_t allowance_wait_ns;
	uint64_t zero_fills;
	uint64_t unshares;
	uint64_t fills;
	uint64_t dropped;
	uint64_t table_pages;
};

#endif

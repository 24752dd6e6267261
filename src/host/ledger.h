/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ledger of machine memory: nobody gets a page that is not entered here first, so the
 * sum of what VMs have, what they may take without asking, shared frames, compression
 * caches and overhead never exceeds machine memory.
 */
#ifndef HOST_LEDGER_H
#define HOST_LEDGER_H
#include <pthread.h>

#include <base/types.h>

/* Pages that only moves of the host may use, for they give back more than they take. */
#define LEDGER_RESERVE 64

enum ledger_who {
	LEDGER_VM,   /* allowance: leaves the reserve alone */
	LEDGER_MOVE, /* a frame or a page of a cache in the middle of a move */
};

/**
 * struct ledger - the sum. Members: m under @lock.
 * @total: m machine memory, pages
 * @used: m entered, overhead included
 * @overhead: m of that, overhead as last measured
 * @closed: m nobody gets pages: what is in use is not known yet
 */
struct ledger {
	pthread_mutex_t lock;
	uint64_t total;
	uint64_t used;
	uint64_t overhead;
	bool closed;
};

/** ledger_init() - that many pages, none used. */
void ledger_init(struct ledger *l, uint64_t total_pages);

/** ledger_release() - end it. */
void ledger_release(struct ledger *l);

/**
 * ledger_take() - enter pages.
 * @l: ledger
 * @who: who wants them
 * @pages: how many at most
 *
 * Return: how many were entered.
 */
uint64_t ledger_take(struct ledger *l, enum ledger_who who, uint64_t pages);

/** ledger_close(), ledger_open() - while it is closed, nobody gets pages. */
void ledger_close(struct ledger *l);
void ledger_open(struct ledger *l);

/** ledger_force() - enter pages that are in use already, whether they fit or not. */
void ledger_force(struct ledger *l, uint64_t pages);

/** ledger_give() - pages are free again; at most what is entered. */
void ledger_give(struct ledger *l, uint64_t pages);

/** ledger_overhead() - enter the overhead as measured now instead of before. */
void ledger_overhead(struct ledger *l, uint64_t pages);

/** ledger_to_overhead() - pages that were taken are overhead from now on. */
void ledger_to_overhead(struct ledger *l, uint64_t pages);

/** ledger_free_pages() - what could be entered, the reserve included. */
uint64_t ledger_free_pages(struct ledger *l);

/** ledger_over_pages() - by how much more is entered than there is. */
uint64_t ledger_over_pages(struct ledger *l);

#endif

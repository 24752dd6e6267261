/* SPDX-License-Identifier: Apache-2.0 */
/* The ledger of machine memory. */
#include <host/ledger.h>

#include <base/arith.h>
#include <base/verify.h>

void ledger_init(struct ledger *l, uint64_t total_pages)
{
	*l = (struct ledger){.total = total_pages};
	pthread_mutex_init(&l->lock, NULL);
}

void ledger_release(struct ledger *l)
{
	pthread_mutex_destroy(&l->lock);
}

uint64_t ledger_take(struct ledger *l, enum ledger_who who, uint64_t pages)
{
	const uint64_t keep = who == LEDGER_VM ? LEDGER_RESERVE : 0;

	pthread_mutex_lock(&l->lock);

	const uint64_t room = sub_u64(sub_u64(l->total, l->used), keep);

	if (l->closed)
		pages = 0;
	if (pages > room)
		pages = room;
	l->used += pages;
	pthread_mutex_unlock(&l->lock);
	return pages;
}

void ledger_close(struct ledger *l)
{
	pthread_mutex_lock(&l->lock);
	l->closed = true;
	pthread_mutex_unlock(&l->lock);
}

void ledger_open(struct ledger *l)
{
	pthread_mutex_lock(&l->lock);
	l->closed = false;
	pthread_mutex_unlock(&l->lock);
}

void ledger_force(struct ledger *l, uint64_t pages)
{
	pthread_mutex_lock(&l->lock);
	l->used += pages;
	pthread_mutex_unlock(&l->lock);
}

void ledger_give(struct ledger *l, uint64_t pages)
{
	pthread_mutex_lock(&l->lock);
	VERIFY(pages <= l->used);
	l->used -= pages;
	pthread_mutex_unlock(&l->lock);
}

void ledger_overhead(struct ledger *l, uint64_t pages)
{
	pthread_mutex_lock(&l->lock);
	l->used = l->used - l->overhead + pages;
	l->overhead = pages;
	pthread_mutex_unlock(&l->lock);
}

void ledger_to_overhead(struct ledger *l, uint64_t pages)
{
	pthread_mutex_lock(&l->lock);
	VERIFY(pages <= l->used);
	l->overhead += pages;
	pthread_mutex_unlock(&l->lock);
}

uint64_t ledger_free_pages(struct ledger *l)
{
	pthread_mutex_lock(&l->lock);

	const uint64_t n = sub_u64(l->total, l->used);

	pthread_mutex_unlock(&l->lock);
	return n;
}

uint64_t ledger_over_pages(struct ledger *l)
{
	pthread_mutex_lock(&l->lock);

	const uint64_t n = sub_u64(l->used, l->total);

	pthread_mutex_unlock(&l->lock);
	return n;
}

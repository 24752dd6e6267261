/* SPDX-License-Identifier: Apache-2.0 */
/* Resource pools. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <host/host_impl.h>

int pool_index(struct host *host, const char *name)
{
	if (!*name)
		return -1;
	for (uint32_t i = 0; i < host->n_pools; i++) {
		if (!strcmp(host->pools[i].name, name))
			return (int)i;
	}
	return -ENOENT;
}

static int pool_check(struct host *host, const char *name, const char *parent,
		      const struct mem_alloc *alloc, struct err *err)
{
	int r = host_name_check(name, err);

	if (!r && pool_index(host, parent) == -ENOENT)
		r = err_set(err, -ENOENT, "there is no pool called %.60s",
			    parent);
	return r ? r : mem_alloc_check_pool(alloc, err);
}

static int pool_set_locked(struct host *host, const struct hpool *pool,
			   struct err *err)
{
	const int at = pool_index(host, pool->name);
	struct hpool before = {0};
	int r;

	if (at >= 0) {
		before = host->pools[at];
		host->pools[at] = *pool;
	} else {
		struct hpool *pools = realloc(host->pools, (host->n_pools +
							    1) * sizeof(*pools));

		if (!pools)
			return err_set(err, -ENOMEM, "out of memory");
		host->pools = pools;
		pools[host->n_pools++] = *pool;
	}
	r = host_check_promises(host, err);
	if (r && at >= 0)
		host->pools[at] = before;
	else if (r)
		host->n_pools--;
	return r;
}

int host_pool_set(struct host *host, const char *name, const char *parent,
		  const struct mem_alloc *alloc, struct err *err)
{
	struct hpool pool = {.alloc = *alloc};
	int r;

	pthread_mutex_lock(&host->lock);
	r = pool_check(host, name, parent, alloc, err);
	if (!r) {
		snprintf(pool.name, sizeof(pool.name), "%s", name);
		snprintf(pool.parent, sizeof(pool.parent), "%s", parent);
		r = pool_set_locked(host, &pool, err);
	}
	pthread_mutex_unlock(&host->lock);
	if (!r)
		host_replan(host);
	return r;
}

static bool pool_in_use(const struct host *host, const char *name)
{
	for (uint32_t i = 0; i < host->n_pools; i++) {
		if (!strcmp(host->pools[i].parent, name))
			return true;
	}
	for (uint32_t i = 0; i < host->n_vms; i++) {
		if (!strcmp(host->vms[i]->set.pool, name))
			return true;
	}
	return false;
}

int host_pool_remove(struct host *host, const char *name, struct err *err)
{
	int r = 0;

	pthread_mutex_lock(&host->lock);

	const int at = pool_index(host, name);

	if (at < 0)
		r = err_set(err, -ENOENT, "there is no pool called %.60s", name);
	else if (pool_in_use(host, name))
		r = err_set(err, -EBUSY, "pool %s is not empty", name);
	else
		host->pools[at] = host->pools[--host->n_pools];
	pthread_mutex_unlock(&host->lock);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Resource pools, and the requests about them. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <host/control_impl.h>

struct api_pool *control_find_pool(const struct control *c, const char *name)
{
	struct api_pool *pools = c->pools.v;

	for (size_t i = 0; i < c->pools.n; i++)
		if (!strcmp(pools[i].name, name))
			return &pools[i];
	return NULL;
}

int control_list_pools(const struct host_snapshot *s, struct api_array *ret)
{
	struct api_pool *pools = calloc(s->n_pools + 1, sizeof(*pools));

	ret->v = pools;
	ret->n = pools ? s->n_pools : 0;
	for (size_t i = 0; i < ret->n; i++)
		fill_pool(&pools[i], &s->pools[i]);
	return pools ? 0 : -ENOMEM;
}

int control_get_pools(struct control *c, const struct api_request *req,
		      void *reply, struct err *err)
{
	struct api_pools *ret = reply;
	struct host_snapshot s;
	int r = control_figures(c, &s, err);

	(void)req;
	if (r)
		return r;
	r = control_list_pools(&s, &ret->pools);
	host_snapshot_release(&s);
	return r ? err_set(err, r, "no memory for the list") : 0;
}

static int add_pool(struct control *c, const char *name,
		    const struct api_pool_config *config)
{
	struct api_pool *pools = realloc(c->pools.v,
					 (c->pools.n + 1) * sizeof(*pools));

	if (!pools)
		return -ENOMEM;
	c->pools.v = pools;
	pools[c->pools.n] = (struct api_pool){.config = *config};
	snprintf(pools[c->pools.n].name, API_NAME_MAX, "%s", name);
	c->pools.n++;
	return 0;
}

static int set_pool_locked(struct control *c, const struct api_request *req,
			   struct err *err)
{
	struct api_pool *old = control_find_pool(c, req->name);
	struct api_pool_config config = {0};

	if (old)
		config = old->config;
	else
		mem_alloc_init(&config.alloc);
	int r = host_name_check(req->name, err);

	if (!r && req->json)
		r = api_decode(&api_pool_config_schema, req->json, API_CHANGE,
			       &config, err);
	if (!r)
		r = mem_alloc_check_pool(&config.alloc, err);
	if (!r)
		r = host_pool_set(c->host, req->name, config.parent,
				  &config.alloc, err);
	if (r)
		return r;
	r = control_put(c, STORE_POOL, req->name, &api_pool_config_schema,
			&config, err);
	if (!r && old)
		old->config = config;
	else if (!r)
		r = add_pool(c, req->name, &config);
	if (!r)
		return 0;
	/* Not written down, so it must not be in force either. */
	const int back = old ? host_pool_set(c->host, req->name,
					     old->config.parent,
					     &old->config.alloc, NULL)
			     : host_pool_remove(c->host, req->name, NULL);

	if (back)
		err_prefix(err, "the pool is in force until mezzd ends, but ");
	return r;
}

static int get_pool(struct control *c, const char *name, struct api_pool *ret,
		    struct err *err)
{
	struct host_snapshot s;
	int r = control_figures(c, &s, err);

	if (r)
		return r;
	r = -ENOENT;
	for (uint32_t i = 0; i < s.n_pools; i++) {
		if (strcmp(s.pools[i].name, name) != 0)
			continue;
		fill_pool(ret, &s.pools[i]);
		r = 0;
	}
	host_snapshot_release(&s);
	return r ? err_set(err, r, "there is no resource pool '%s'", name) : 0;
}

int control_set_pool(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	pthread_mutex_lock(&c->lock);
	const int r = set_pool_locked(c, req, err);

	pthread_mutex_unlock(&c->lock);
	return r ? r : get_pool(c, req->name, reply, err);
}

static int remove_pool_locked(struct control *c, const char *name,
			      struct err *err)
{
	struct api_pool *pool = control_find_pool(c, name), *pools = c->pools.v;

	if (!pool)
		return err_set(err, -ENOENT, "there is no resource pool '%s'",
			       name);
	for (size_t i = 0; i < c->n_defs; i++)
		if (!strcmp(c->defs[i]->config.pool, name))
			return err_set(err, -EBUSY,
				       "the VM '%s' is in the pool '%s'",
				       c->defs[i]->config.name, name);
	int r = host_pool_remove(c->host, name, err);

	if (!r)
		r = store_remove(c->store, STORE_POOL, name, err);
	if (r)
		return r;
	c->pools.n--;
	memmove(pool, pool + 1,
		(size_t)(pools + c->pools.n - pool) * sizeof(*pool));
	return 0;
}

int control_remove_pool(struct control *c, const struct api_request *req,
			void *reply, struct err *err)
{
	(void)reply;
	pthread_mutex_lock(&c->lock);
	const int r = remove_pool_locked(c, req->name, err);

	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Life */

static int load_pool(void *ctx, const char *name, const json_t *j,
		     struct err *err)
{
	struct api_pool_config config = {0};

	mem_alloc_init(&config.alloc);
	const int r = api_decode(&api_pool_config_schema, j, API_CHANGE,
				 &config, err);

	if (r) {
		err_prefix(err, "the definition of the pool '%s': ", name);
		return r;
	}
	return add_pool(ctx, name, &config);
}

/* Parents first: each pass makes those whose parent is there. */
static int make_pools(struct control *c, struct err *err)
{
	const struct api_pool *pools = c->pools.v;
	bool *done = calloc(c->pools.n + 1, sizeof(*done));
	int r = done ? 0 : -ENOMEM;

	for (bool moved = true; moved && !r;) {
		moved = false;
		for (size_t i = 0; i < c->pools.n; i++) {
			const struct api_pool_config *p = &pools[i].config;
			const struct api_pool *up = control_find_pool(c,
								      p->parent);

			if (done[i] || (up && !done[up - pools]))
				continue;
			r = host_pool_set(c->host, pools[i].name, p->parent,
					  &p->alloc, err);
			if (r)
				break;
			done[i] = moved = true;
		}
	}
	for (size_t i = 0; !r && i < c->pools.n; i++)
		if (!done[i])
			r = err_set(err, -ELOOP, "the pool '%s' is above itself",
				    pools[i].name);
	free(done);
	return r;
}

int control_load_pools(struct control *c, struct err *err)
{
	const int r = store_each(c->store, STORE_POOL, load_pool, c, err);

	return r ? r : make_pools(c, err);
}

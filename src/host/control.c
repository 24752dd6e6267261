/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions and the requests about them. */
#include <host/control.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <api/vm_options.h>
#include <host/control_impl.h>

/* Definitions */

/* Position of a name, or where it belongs. Under @lock. */
static bool find_def(const struct control *c, const char *name, size_t *ret_at)
{
	size_t low = 0, high = c->n_defs;

	while (low < high) {
		const size_t mid = low + (high - low) / 2;
		const int order = strcmp(c->defs[mid]->config.name, name);

		if (!order) {
			*ret_at = mid;
			return true;
		}
		if (order < 0)
			low = mid + 1;
		else
			high = mid;
	}
	*ret_at = low;
	return false;
}

static struct definition *def_free(struct definition *def)
{
	if (def)
		api_release(&api_vm_config_schema, &def->config);
	free(def);
	return NULL;
}

static int insert_def(struct control *c, size_t at, struct definition *def)
{
	struct definition **defs = realloc(c->defs,
					   (c->n_defs + 1) * sizeof(*defs));

	if (!defs)
		return -ENOMEM;
	memmove(defs + at + 1, defs + at, (c->n_defs - at) * sizeof(*defs));
	defs[at] = def;
	c->defs = defs;
	c->n_defs++;
	return 0;
}

static int no_vm(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "there is no VM '%s'", name);
}

static int copy_config(struct api_vm_config *to,
		       const struct api_vm_config *from, struct err *err)
{
	*to = *from;
	if (api_strings_copy(&to->args, &from->args))
		return err_set(err, -ENOMEM, "no memory for the definition");
	return 0;
}

/* A copy of what is defined, for use without the lock. */
static int get_config(struct control *c, const char *name,
		      struct api_vm_config *ret, struct err *err)
{
	size_t at;

	pthread_mutex_lock(&c->lock);
	const int r = find_def(c, name, &at)
			      ? copy_config(ret, &c->defs[at]->config, err)
			      : no_vm(name, err);

	pthread_mutex_unlock(&c->lock);
	return r;
}

static struct api_pool *find_pool(const struct control *c, const char *name)
{
	struct api_pool *pools = c->pools.v;

	for (size_t i = 0; i < c->pools.n; i++)
		if (!strcmp(pools[i].name, name))
			return &pools[i];
	return NULL;
}

static int put_json(struct control *c, enum store_kind kind, const char *name,
		    const struct api_schema *schema, const void *object,
		    struct err *err)
{
	json_t *j = api_encode(schema, object);
	const int r = j ? store_put(c->store, kind, name, j, err)
			: err_set(err, -ENOMEM, "no memory for the definition");

	json_decref(j);
	return r;
}

/* What mezzd says to a VM itself, nobody else may say. */
static int check_args(const struct api_strings *args, struct err *err)
{
	for (unsigned int i = 0; i < args->n; i++) {
		const char *value;
		const struct vm_option *o = vm_option_find(args->v[i], &value);
		const enum vm_option_id id = o ? o->id : VM_OPT_VERBOSE;

		if (id == VM_OPT_MEMORY || id == VM_OPT_LINK ||
		    id == VM_OPT_CONSOLE)
			return err_set(err, -EINVAL,
				       "args: --%s is set by mezzd itself",
				       o->name);
		if (o && o->value && !value)
			i++; /* whatever it looks like */
	}
	return 0;
}

static int check_config(const struct control *c,
			const struct api_vm_config *config, struct err *err)
{
	int r = host_name_check(config->name, err);

	if (!r && *config->group)
		r = host_name_check(config->group, err);
	if (!r && *config->pool && !find_pool(c, config->pool))
		r = err_set(err, -ENOENT, "there is no resource pool '%s'",
			    config->pool);
	if (!r)
		r = mem_alloc_check_vm(&config->alloc, config->size_pages, err);
	if (!r)
		r = check_args(&config->args, err);
	if (!r && config->floor_pages > config->size_pages)
		r = err_set(
			err, -EINVAL,
			"memoryFloor is %llu bytes, more than memorySize, %llu",
			(unsigned long long)(config->floor_pages * PAGE_SIZE),
			(unsigned long long)(config->size_pages * PAGE_SIZE));
	return r;
}

/* Answers about VMs */

static const struct host_vm_figures *find_running(const struct host_snapshot *s,
						  const char *name)
{
	for (uint32_t i = 0; i < s->n_vms; i++)
		if (!strcmp(s->vms[i].settings.name, name))
			return &s->vms[i];
	return NULL;
}

static const enum api_power powers[] = {
	[HOST_VM_STARTING] = API_STARTING,
	[HOST_VM_RUNNING] = API_POWERED_ON,
	[HOST_VM_ENDING] = API_STOPPING,
};

static void fill_runtime(struct control *c, struct api_vm *vm,
			 const struct host_vm_figures *f, bool args_changed)
{
	struct api_runtime *r = &vm->runtime;

	/* A path that does not fit is not told. */
	if (host_vm_path(c->host, vm->config.name, "console.sock", r->console,
			 sizeof(r->console)))
		r->console[0] = 0;
	if (host_vm_path(c->host, vm->config.name, "vm.log", r->log,
			 sizeof(r->log)))
		r->log[0] = 0;
	if (!f)
		return;
	r->power = powers[f->state];
	r->pid = (uint64_t)f->pid;
	r->start_ms = f->start_ms;
	r->pending = args_changed ||
		     f->settings.size_pages != vm->config.size_pages ||
		     strcmp(f->settings.group, vm->config.group) != 0;
	fill_stats(&vm->stats, f);
}

static int fill_vm(struct control *c, struct api_vm *to,
		   const struct definition *def, const struct host_vm_figures *f)
{
	if (copy_config(&to->config, &def->config, NULL))
		return -ENOMEM;
	to->config.alloc.shares = (uint32_t)
		mem_alloc_vm_shares(&to->config.alloc, to->config.size_pages);
	fill_runtime(c, to, f, def->args_changed);
	return 0;
}

/* A VM that runs, but whose definition was lost with the database. */
static void fill_stray(struct control *c, struct api_vm *to,
		       const struct host_vm_figures *f)
{
	const struct host_vm_settings *s = &f->settings;

	api_vm_config_init(&to->config);
	memcpy(to->config.name, s->name, sizeof(s->name));
	memcpy(to->config.pool, s->pool, sizeof(s->pool));
	memcpy(to->config.group, s->group, sizeof(s->group));
	to->config.size_pages = s->size_pages;
	to->config.alloc = s->alloc;
	to->config.alloc.shares = (uint32_t)f->shares;
	to->config.floor_pages = s->floor_pages;
	to->config.share = s->share;
	fill_runtime(c, to, f, false);
}

static int compare_vms(const void *a, const void *b)
{
	const struct api_vm *x = a, *y = b;

	return strcmp(x->config.name, y->config.name);
}

static int list_vms(struct control *c, const struct host_snapshot *s,
		    struct api_array *ret)
{
	int r = 0;
	size_t at;

	pthread_mutex_lock(&c->lock);
	struct api_vm *vms = calloc(c->n_defs + s->n_vms + 1, sizeof(*vms));

	ret->v = vms;
	for (size_t i = 0; vms && i < c->n_defs && !r; i++) {
		const char *name = c->defs[i]->config.name;

		r = fill_vm(c, &vms[i], c->defs[i], find_running(s, name));
		ret->n = i + 1;
	}
	for (uint32_t i = 0; vms && i < s->n_vms && !r; i++)
		if (!find_def(c, s->vms[i].settings.name, &at))
			fill_stray(c, &vms[ret->n++], &s->vms[i]);
	pthread_mutex_unlock(&c->lock);
	if (vms)
		qsort(vms, ret->n, sizeof(*vms), compare_vms);
	return vms ? r : -ENOMEM;
}

static int take(struct control *c, struct host_snapshot *s, struct err *err)
{
	return host_snapshot_take(c->host, s)
		       ? err_set(err, -ENOMEM, "no memory for the figures")
		       : 0;
}

static int get_vms(struct control *c, const struct api_request *req,
		   void *reply, struct err *err)
{
	struct api_vms *ret = reply;
	struct host_snapshot s;
	int r = take(c, &s, err);

	(void)req;
	if (r)
		return r;
	r = list_vms(c, &s, &ret->vms);
	host_snapshot_release(&s);
	return r ? err_set(err, r, "no memory for the list") : 0;
}

static int get_vm_named(struct control *c, const char *name, struct api_vm *ret,
			struct err *err)
{
	struct host_snapshot s;
	int r = take(c, &s, err);
	size_t at;

	if (r)
		return r;
	const struct host_vm_figures *f = find_running(&s, name);

	pthread_mutex_lock(&c->lock);
	if (find_def(c, name, &at))
		r = fill_vm(c, ret, c->defs[at], f);
	else if (f)
		fill_stray(c, ret, f);
	else
		r = no_vm(name, err);
	pthread_mutex_unlock(&c->lock);
	host_snapshot_release(&s);
	return r == -ENOMEM ? err_set(err, r, "no memory for the VM") : r;
}

static int get_vm(struct control *c, const struct api_request *req, void *reply,
		  struct err *err)
{
	return get_vm_named(c, req->name, reply, err);
}

/* Changes of VMs */

static int create_locked(struct control *c, struct definition *def,
			 struct err *err)
{
	const char *name = def->config.name;
	size_t at;
	int r = check_config(c, &def->config, err);

	if (r)
		return r;
	if (find_def(c, name, &at))
		return err_set(err, -EEXIST, "there is a VM '%s' already", name);
	r = put_json(c, STORE_VM, name, &api_vm_config_schema, &def->config,
		     err);
	if (!r && insert_def(c, at, def)) {
		r = err_set(err, -ENOMEM, "no memory for the definition");
		if (store_remove(c->store, STORE_VM, name, NULL))
			err_prefix(err,
				   "it comes back when mezzd starts again: ");
	}
	return r;
}

static int create_vm(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	struct definition *def = calloc(1, sizeof(*def));
	char name[API_NAME_MAX];

	if (!def)
		return err_set(err, -ENOMEM, "no memory for the definition");
	api_vm_config_init(&def->config);
	int r = api_decode(&api_vm_config_schema, req->json, API_WHOLE,
			   &def->config, err);

	def->config.version = 1;

	memcpy(name, def->config.name, sizeof(name));
	pthread_mutex_lock(&c->lock);
	if (!r)
		r = create_locked(c, def, err);
	pthread_mutex_unlock(&c->lock);
	if (r) {
		def_free(def);
		return r;
	}
	return get_vm_named(c, name, reply, err);
}

static bool same_args(const struct api_strings *a, const struct api_strings *b)
{
	if (a->n != b->n)
		return false;
	for (unsigned int i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

/* The running VM first, for it may refuse; back again if it cannot be written down. */
static int apply_locked(struct control *c, struct definition *def,
			struct api_vm_config *config, struct err *err)
{
	struct host_vm_settings now, before;

	fill_settings(&now, config);
	fill_settings(&before, &def->config);
	int r = host_vm_set(c->host, &now, err);
	const bool runs = r != -ENOENT;

	if (r && runs)
		return r;
	r = put_json(c, STORE_VM, config->name, &api_vm_config_schema, config,
		     err);
	if (r) {
		/* It was admitted with these a moment ago. */
		if (runs && host_vm_set(c->host, &before, NULL))
			err_prefix(err, "the running VM keeps the change, but ");
		return r;
	}
	if (runs && !same_args(&config->args, &def->config.args))
		def->args_changed = true;
	api_release(&api_vm_config_schema, &def->config);
	def->config = *config;
	memset(config, 0, sizeof(*config));
	return 0;
}

static int set_locked(struct control *c, const struct api_request *req,
		      struct err *err)
{
	struct api_vm_config config;
	size_t at;

	if (!find_def(c, req->name, &at))
		return no_vm(req->name, err);
	int r = copy_config(&config, &c->defs[at]->config, err);
	const uint64_t version = config.version;

	if (r)
		return r;
	if (req->json)
		r = api_decode(&api_vm_config_schema, req->json, API_CHANGE,
			       &config, err);
	if (!r && strcmp(config.name, req->name) != 0)
		r = err_set(err, -EINVAL, "the name of a VM cannot be changed");
	if (!r && config.version != version)
		r = err_set(
			err, -EBUSY,
			"'%s' was changed meanwhile: its changeVersion is %llu, not %llu",
			req->name, (unsigned long long)version,
			(unsigned long long)config.version);
	config.version = version + 1;
	if (!r)
		r = check_config(c, &config, err);
	if (!r)
		r = apply_locked(c, c->defs[at], &config, err);
	api_release(&api_vm_config_schema, &config);
	return r;
}

static int set_vm(struct control *c, const struct api_request *req, void *reply,
		  struct err *err)
{
	pthread_mutex_lock(&c->lock);
	const int r = set_locked(c, req, err);

	pthread_mutex_unlock(&c->lock);
	return r ? r : get_vm_named(c, req->name, reply, err);
}

static int remove_locked(struct control *c, const char *name, struct err *err)
{
	size_t at;

	if (!find_def(c, name, &at))
		return no_vm(name, err);
	int r = host_vm_remove_files(c->host, name, err);

	if (r == -ENOENT) /* it never ran */
		r = 0;
	if (!r)
		r = store_remove(c->store, STORE_VM, name, err);
	if (r)
		return r;
	def_free(c->defs[at]);
	c->n_defs--;
	memmove(c->defs + at, c->defs + at + 1,
		(c->n_defs - at) * sizeof(*c->defs));
	return 0;
}

static int remove_vm(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	(void)reply;
	pthread_mutex_lock(&c->lock);
	const int r = remove_locked(c, req->name, err);

	pthread_mutex_unlock(&c->lock);
	return r;
}

/* What was changed while it started is told to it now. */
static void catch_up(struct control *c, const char *name, uint64_t version)
{
	struct host_vm_settings set;
	size_t at;

	pthread_mutex_lock(&c->lock);
	if (find_def(c, name, &at) && c->defs[at]->config.version == version) {
		c->defs[at]->args_changed = false;
	} else if (find_def(c, name, &at)) {
		fill_settings(&set, &c->defs[at]->config);
		/* If it has ended, or promises are gone meanwhile, it keeps what it has. */
		const int r = host_vm_set(c->host, &set, NULL);

		(void)r;
	}
	pthread_mutex_unlock(&c->lock);
}

/* Without the lock: it takes seconds. */
int control_start(struct control *c, const char *name, struct err *err)
{
	struct api_vm_config config;
	struct host_vm_settings set;
	int r = get_config(c, name, &config, err);
	const uint64_t version = r ? 0 : config.version;

	if (r)
		return r;
	fill_settings(&set, &config);
	r = host_vm_start(c->host, &set, err);
	api_release(&api_vm_config_schema, &config);
	if (!r)
		catch_up(c, name, version);
	return r;
}

static int start_vm(struct control *c, const struct api_request *req,
		    void *reply, struct err *err)
{
	const int r = control_start(c, req->name, err);

	return r ? r : get_vm_named(c, req->name, reply, err);
}

#define FORCED_WAIT_MS 10000

static int wait_stopped(struct control *c, const char *name,
			const struct api_stop *stop, struct err *err)
{
	int r = host_vm_wait(c->host, name, stop->wait_ms);

	if (r && stop->force) {
		r = host_vm_stop(c->host, name, HOST_STOP_VM, err);
		if (r == -ENOENT) /* at last */
			return 0;
		if (!r)
			r = host_vm_wait(c->host, name, FORCED_WAIT_MS);
	}
	return r ? err_set(err, -ETIMEDOUT, "'%s' has not ended within %llu ms",
			   name, (unsigned long long)stop->wait_ms)
		 : 0;
}

static int stop_vm(struct control *c, const struct api_request *req,
		   void *reply, struct err *err)
{
	static const enum host_stop hows[] = {
		[API_STOP_GUEST] = HOST_STOP_GUEST,
		[API_STOP_VM] = HOST_STOP_VM,
		[API_STOP_KILL] = HOST_STOP_KILL,
	};
	struct api_stop stop = {0};
	int r = req->json ? api_decode(&api_stop_schema, req->json, API_CHANGE,
				       &stop, err)
			  : 0;

	if (!r)
		r = get_vm_named(c, req->name, reply, err);
	if (r)
		return r;
	api_release(&api_vm_schema, reply);
	memset(reply, 0, sizeof(struct api_vm));
	r = host_vm_stop(c->host, req->name, hows[stop.how], err);
	if (r == -ENOENT)
		return err_set(err, -EBUSY, "'%s' does not run", req->name);
	if (!r && (stop.wait_ms || stop.force))
		r = wait_stopped(c, req->name, &stop, err);
	return r ? r : get_vm_named(c, req->name, reply, err);
}

static int get_map(struct control *c, const struct api_request *req,
		   void *reply, struct err *err)
{
	return map_vm(c, req, reply, err);
}

/* Pools */

static int list_pools(const struct host_snapshot *s, struct api_array *ret)
{
	struct api_pool *pools = calloc(s->n_pools + 1, sizeof(*pools));

	ret->v = pools;
	ret->n = pools ? s->n_pools : 0;
	for (size_t i = 0; i < ret->n; i++)
		fill_pool(&pools[i], &s->pools[i]);
	return pools ? 0 : -ENOMEM;
}

static int get_pools(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	struct api_pools *ret = reply;
	struct host_snapshot s;
	int r = take(c, &s, err);

	(void)req;
	if (r)
		return r;
	r = list_pools(&s, &ret->pools);
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
	struct api_pool *old = find_pool(c, req->name);
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
	r = put_json(c, STORE_POOL, req->name, &api_pool_config_schema, &config,
		     err);
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
	int r = take(c, &s, err);

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

static int set_pool(struct control *c, const struct api_request *req,
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
	struct api_pool *pool = find_pool(c, name), *pools = c->pools.v;

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

static int remove_pool(struct control *c, const struct api_request *req,
		       void *reply, struct err *err)
{
	(void)reply;
	pthread_mutex_lock(&c->lock);
	const int r = remove_pool_locked(c, req->name, err);

	pthread_mutex_unlock(&c->lock);
	return r;
}

/* Host and options */

static int get_host(struct control *c, const struct api_request *req,
		    void *reply, struct err *err)
{
	struct host_snapshot s;
	const int r = take(c, &s, err);

	(void)req;
	if (r)
		return r;
	fill_host(reply, &s.host, c->version);
	host_snapshot_release(&s);
	return 0;
}

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static int take_snapshot(void *ctx, struct api_snapshot *ret, struct err *err)
{
	struct control *c = ctx;
	struct host_snapshot s;
	int r = take(c, &s, err);

	if (r)
		return r;
	ret->time_ms = wall_ms();
	fill_host(&ret->host, &s.host, c->version);
	r = list_vms(c, &s, &ret->vms);
	if (!r)
		r = list_pools(&s, &ret->pools);
	host_snapshot_release(&s);
	return r ? err_set(err, r, "no memory for the figures") : 0;
}

static int get_snapshot(struct control *c, const struct api_request *req,
			void *reply, struct err *err)
{
	(void)req;
	return take_snapshot(c, reply, err);
}

static int get_audit(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	struct api_audit *ret = reply;
	struct host_audit a;

	(void)req;
	if (host_audit(c->host, &a))
		return err_set(err, -ENOMEM, "no memory for the audit");
	*ret = (struct api_audit){.book_pages = a.book_pages,
				  .overhead_pages = a.overhead_pages,
				  .kernel_pages = a.kernel_pages,
				  .wrong_counts = a.wrong_counts,
				  .wrong_refs = a.wrong_refs,
				  .wrong_slots = a.wrong_slots};
	return 0;
}

static int get_options(struct control *c, const struct api_request *req,
		       void *reply, struct err *err)
{
	struct api_options *ret = reply;
	const struct options options = host_options(c->host);
	struct api_option *v = calloc(OPTIONS_COUNT, sizeof(*v));

	(void)req;
	if (!v)
		return err_set(err, -ENOMEM, "no memory for the list");
	for (unsigned int i = 0; i < OPTIONS_COUNT; i++)
		fill_option(&v[i], &options, (enum option_id)i);
	ret->options = (struct api_array){.v = v, .n = OPTIONS_COUNT};
	return 0;
}

static int set_option_locked(struct control *c, const struct api_request *req,
			     struct err *err)
{
	struct options before = host_options(c->host);
	struct api_option_set set = {0};
	enum option_id id;
	char old[16];
	int r = api_decode(&api_option_set_schema, req->json, API_WHOLE, &set,
			   err);

	if (!r)
		r = option_find(req->name, &id, err);
	if (!r)
		r = host_option_set(c->host, req->name, set.value, err);
	if (r)
		return r;
	r = put_json(c, STORE_OPTION, option_info(id)->name,
		     &api_option_set_schema, &set, err);
	if (r &&
	    host_option_set(c->host, req->name,
			    option_format(&before, id, old, sizeof(old)), NULL))
		err_prefix(err, "the option is in force until mezzd ends, but ");
	return r;
}

static int set_option(struct control *c, const struct api_request *req,
		      void *reply, struct err *err)
{
	pthread_mutex_lock(&c->lock);
	const int r = set_option_locked(c, req, err);

	pthread_mutex_unlock(&c->lock);
	return r ? r : get_options(c, req, reply, err);
}

typedef int (*handler)(struct control *c, const struct api_request *req,
		       void *reply, struct err *err);

/* The server answers what is missing here by itself. */
static const handler handlers[API_OPS] = {
	[API_GET_HOST] = get_host,
	[API_GET_SNAPSHOT] = get_snapshot,
	[API_GET_AUDIT] = get_audit,
	[API_LIST_VMS] = get_vms,
	[API_CREATE_VM] = create_vm,
	[API_GET_VM] = get_vm,
	[API_SET_VM] = set_vm,
	[API_REMOVE_VM] = remove_vm,
	[API_START_VM] = start_vm,
	[API_STOP_VM_OP] = stop_vm,
	[API_MAP_VM] = get_map,
	[API_LIST_POOLS] = get_pools,
	[API_SET_POOL] = set_pool,
	[API_REMOVE_POOL] = remove_pool,
	[API_LIST_OPTIONS] = get_options,
	[API_SET_OPTION] = set_option,
};

static int call(void *ctx, const struct api_request *request, void *reply,
		struct err *err)
{
	return handlers[request->op](ctx, request, reply, err);
}

struct api_backend control_backend(struct control *control)
{
	return (struct api_backend){.call = call,
				    .snapshot = take_snapshot,
				    .ctx = control};
}

void control_event(const struct host_event *from, struct api_event *to)
{
	*to = (struct api_event){.seq = from->seq, .time_ms = from->time_ms};
	snprintf(to->kind, sizeof(to->kind), "%s",
		 host_event_kind_name(from->kind));
	memcpy(to->vm, from->vm, sizeof(to->vm));
	memcpy(to->text, from->text, sizeof(to->text));
}

/* Life */

static int load_vm(void *ctx, const char *name, const json_t *j, struct err *err)
{
	struct control *c = ctx;
	struct definition *def = calloc(1, sizeof(*def));

	if (!def)
		return err_set(err, -ENOMEM, "no memory for the definitions");
	api_vm_config_init(&def->config);
	int r = api_decode(&api_vm_config_schema, j, API_WHOLE, &def->config,
			   err);

	if (!r && strcmp(def->config.name, name) != 0)
		r = err_set(err, -EBADMSG, "it says that it is '%s'",
			    def->config.name);
	if (!r)
		r = insert_def(c, c->n_defs, def);
	if (r) {
		err_prefix(err, "the definition of the VM '%s': ", name);
		def_free(def);
	}
	return r;
}

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

static int load_option(void *ctx, const char *name, const json_t *j,
		       struct err *err)
{
	struct control *c = ctx;
	struct api_option_set set = {0};
	int r = api_decode(&api_option_set_schema, j, API_WHOLE, &set, err);

	if (!r)
		r = host_option_set(c->host, name, set.value, err);
	if (r)
		err_prefix(err, "the stored option %s: ", name);
	return r;
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
			const struct api_pool *up = find_pool(c, p->parent);

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

int control_new(struct host *host, const char *state_dir, const char *version,
		struct control **ret, struct err *err)
{
	struct control *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(err, -ENOMEM, "no memory for the definitions");
	c->host = host;
	snprintf(c->version, sizeof(c->version), "%s", version);
	pthread_mutex_init(&c->lock, NULL);
	int r = store_open(state_dir, &c->store, err);

	if (!r)
		r = store_each(c->store, STORE_OPTION, load_option, c, err);
	if (!r)
		r = store_each(c->store, STORE_POOL, load_pool, c, err);
	if (!r)
		r = make_pools(c, err);
	if (!r)
		r = store_each(c->store, STORE_VM, load_vm, c, err);
	if (r) {
		control_free(c);
		return r;
	}
	*ret = c;
	return 0;
}

struct control *control_free(struct control *control)
{
	if (!control)
		return NULL;
	store_close(control->store);
	for (size_t i = 0; i < control->n_defs; i++)
		def_free(control->defs[i]);
	free(control->defs);
	free(control->pools.v);
	pthread_mutex_destroy(&control->lock);
	free(control);
	return NULL;
}

void control_autostart(struct control *control,
		       void (*failed)(void *ctx, const char *name,
				      const struct err *err),
		       void *ctx)
{
	for (size_t i = 0;; i++) {
		char name[API_NAME_MAX] = "";
		bool start = false, more = false;
		struct err err = {0};

		pthread_mutex_lock(&control->lock);
		if (i < control->n_defs) {
			more = true;
			start = control->defs[i]->config.autostart;
			memcpy(name, control->defs[i]->config.name,
			       sizeof(name));
		}
		pthread_mutex_unlock(&control->lock);
		if (!more)
			return;
		if (!start)
			continue;
		const int r = control_start(control, name, &err);

		if (r && r != -EEXIST) /* it ran on without us */
			failed(ctx, name, &err);
	}
}

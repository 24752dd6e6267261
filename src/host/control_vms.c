/* SPDX-License-Identifier: Apache-2.0 */
/* Definitions of VMs, and the requests that change them or what runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <api/vm_options.h>
#include <base/verify.h>
#include <host/control_impl.h>

/* Definitions */

/* Position of a name, or where it belongs. Under @lock. */
bool control_find_def(const struct control *c, const char *name, size_t *ret_at)
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

int control_no_vm(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "there is no VM '%s'", name);
}

int control_copy_config(struct api_vm_config *to,
			const struct api_vm_config *from, struct err *err)
{
	*to = *from;
	if (api_strings_copy(&to->args, &from->args))
		return err_set(err, -ENOMEM, "no memory for the definition");
	return 0;
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
	if (!r && *config->pool && !control_find_pool(c, config->pool))
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

/* Changes */

static int create_locked(struct control *c, struct definition *def,
			 struct err *err)
{
	const char *name = def->config.name;
	size_t at;
	int r = check_config(c, &def->config, err);

	if (r)
		return r;
	if (control_find_def(c, name, &at))
		return err_set(err, -EEXIST, "there is a VM '%s' already", name);
	r = control_put(c, STORE_VM, name, &api_vm_config_schema, &def->config,
			err);
	if (!r && insert_def(c, at, def)) {
		r = err_set(err, -ENOMEM, "no memory for the definition");
		if (store_remove(c->store, STORE_VM, name, NULL))
			err_prefix(err,
				   "it comes back when mezzd starts again: ");
	}
	return r;
}

int control_create_vm(struct control *c, const struct api_request *req,
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
	return control_show_vm(c, name, reply, err);
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
	r = control_put(c, STORE_VM, config->name, &api_vm_config_schema,
			config, err);
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

	if (!control_find_def(c, req->name, &at))
		return control_no_vm(req->name, err);
	int r = control_copy_config(&config, &c->defs[at]->config, err);
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

int control_set_vm(struct control *c, const struct api_request *req,
		   void *reply, struct err *err)
{
	pthread_mutex_lock(&c->lock);
	const int r = set_locked(c, req, err);

	pthread_mutex_unlock(&c->lock);
	return r ? r : control_show_vm(c, req->name, reply, err);
}

static int remove_locked(struct control *c, const char *name, struct err *err)
{
	size_t at;

	if (!control_find_def(c, name, &at))
		return control_no_vm(name, err);
	/* Before the host knows of it, or it would run without a definition. */
	if (c->defs[at]->n_starting)
		return err_set(err, -EBUSY, "'%s' is being started", name);
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

int control_remove_vm(struct control *c, const struct api_request *req,
		      void *reply, struct err *err)
{
	(void)reply;
	pthread_mutex_lock(&c->lock);
	const int r = remove_locked(c, req->name, err);

	pthread_mutex_unlock(&c->lock);
	return r;
}

/* A copy of what is defined; the definition stays at least until end_start(). */
static int begin_start(struct control *c, const char *name,
		       struct api_vm_config *ret, struct err *err)
{
	size_t at;
	int r;

	pthread_mutex_lock(&c->lock);
	r = control_find_def(c, name, &at)
		    ? control_copy_config(ret, &c->defs[at]->config, err)
		    : control_no_vm(name, err);
	if (!r)
		c->defs[at]->n_starting++;
	pthread_mutex_unlock(&c->lock);
	return r;
}

/* What was changed while it started is told to it now. Under @lock. */
static void catch_up(struct control *c, struct definition *def, uint64_t version)
{
	struct host_vm_settings set;

	if (def->config.version == version) {
		def->args_changed = false;
		return;
	}
	fill_settings(&set, &def->config);
	/* If it has ended, or promises are gone meanwhile, it keeps what it has. */
	const int r = host_vm_set(c->host, &set, NULL);

	(void)r;
}

static void end_start(struct control *c, const char *name, bool runs,
		      uint64_t version)
{
	size_t at;

	pthread_mutex_lock(&c->lock);
	VERIFY(control_find_def(c, name, &at));
	c->defs[at]->n_starting--;
	if (runs)
		catch_up(c, c->defs[at], version);
	pthread_mutex_unlock(&c->lock);
}

/* Without the lock: it takes seconds. */
int control_start(struct control *c, const char *name, struct err *err)
{
	struct api_vm_config config;
	struct host_vm_settings set;
	int r = begin_start(c, name, &config, err);

	if (r)
		return r;
	fill_settings(&set, &config);
	r = host_vm_start(c->host, &set, err);
	end_start(c, name, !r, config.version);
	api_release(&api_vm_config_schema, &config);
	return r;
}

int control_start_vm(struct control *c, const struct api_request *req,
		     void *reply, struct err *err)
{
	const int r = control_start(c, req->name, err);

	return r ? r : control_show_vm(c, req->name, reply, err);
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

int control_stop_vm(struct control *c, const struct api_request *req,
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
		r = control_show_vm(c, req->name, reply, err);
	if (r)
		return r;
	api_release(&api_vm_schema, reply);
	memset(reply, 0, sizeof(struct api_vm));
	r = host_vm_stop(c->host, req->name, hows[stop.how], err);
	if (r == -ENOENT)
		return err_set(err, -EBUSY, "'%s' does not run", req->name);
	if (!r && (stop.wait_ms || stop.force))
		r = wait_stopped(c, req->name, &stop, err);
	return r ? r : control_show_vm(c, req->name, reply, err);
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

int control_load_vms(struct control *c, struct err *err)
{
	return store_each(c->store, STORE_VM, load_vm, c, err);
}

void control_free_vms(struct control *c)
{
	for (size_t i = 0; i < c->n_defs; i++)
		def_free(c->defs[i]);
	free(c->defs);
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

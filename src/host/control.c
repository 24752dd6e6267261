/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to the ones that answer them; those about the host, and options. */
#include <host/control.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <base/clock.h>
#include <host/control_impl.h>

int control_put(struct control *c, enum store_kind kind, const char *name,
		const struct api_schema *schema, const void *object,
		struct err *err)
{
	json_t *j = api_encode(schema, object);
	const int r = j ? store_put(c->store, kind, name, j, err)
			: err_set(err, -ENOMEM, "no memory for the definition");

	json_decref(j);
	return r;
}

int control_figures(struct control *c, struct host_snapshot *s, struct err *err)
{
	return host_snapshot_take(c->host, s)
		       ? err_set(err, -ENOMEM, "no memory for the figures")
		       : 0;
}

static int get_host(struct control *c, const struct api_request *req,
		    void *reply, struct err *err)
{
	struct host_snapshot s;
	const int r = control_figures(c, &s, err);

	(void)req;
	if (r)
		return r;
	fill_host(reply, &s.host, c->version);
	host_snapshot_release(&s);
	return 0;
}

static int take_snapshot(void *ctx, struct api_snapshot *ret, struct err *err)
{
	struct control *c = ctx;
	struct host_snapshot s;
	int r = control_figures(c, &s, err);

	if (r)
		return r;
	ret->time_ms = wall_ms();
	fill_host(&ret->host, &s.host, c->version);
	r = control_list_vms(c, &s, &ret->vms);
	if (!r)
		r = control_list_pools(&s, &ret->pools);
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
				  .untouched_pages = a.untouched_pages,
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
	r = control_put(c, STORE_OPTION, option_info(id)->name,
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

/* The server answers what is missing here by itself. */
static control_request *const handlers[API_OPS] = {
	[API_GET_HOST] = get_host,
	[API_GET_SNAPSHOT] = get_snapshot,
	[API_GET_AUDIT] = get_audit,
	[API_LIST_VMS] = control_get_vms,
	[API_CREATE_VM] = control_create_vm,
	[API_GET_VM] = control_get_vm,
	[API_SET_VM] = control_set_vm,
	[API_REMOVE_VM] = control_remove_vm,
	[API_START_VM] = control_start_vm,
	[API_STOP_VM_OP] = control_stop_vm,
	[API_MAP_VM] = control_get_map,
	[API_LIST_POOLS] = control_get_pools,
	[API_SET_POOL] = control_set_pool,
	[API_REMOVE_POOL] = control_remove_pool,
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
		r = control_load_pools(c, err);
	if (!r)
		r = control_load_vms(c, err);
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
	control_free_vms(control);
	free(control->pools.v);
	pthread_mutex_destroy(&control->lock);
	free(control);
	return NULL;
}

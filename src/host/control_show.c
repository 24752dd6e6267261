/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of VMs: definitions, joined with what runs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <host/control_impl.h>

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
	[HOST_VM_FOUND] = API_NOT_RESPONDING,
};

static const enum api_engine engines[] = {
	[LINK_ENGINE_NONE] = API_ENGINE_NONE,
	[LINK_ENGINE_SOFT] = API_ENGINE_SOFT,
	[LINK_ENGINE_KVM] = API_ENGINE_KVM,
};

static const enum api_mmu mmus[] = {
	[LINK_MMU_NONE] = API_MMU_NONE,
	[LINK_MMU_SOFTWARE] = API_MMU_SOFTWARE,
	[LINK_MMU_HARDWARE] = API_MMU_HARDWARE,
	[LINK_MMU_HOST] = API_MMU_HOST,
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
	if (!f) {
		if (access(r->log, F_OK))
			r->log[0] = 0;
		return;
	}
	r->power = powers[f->state];
	r->pid = (uint64_t)f->pid;
	r->start_ms = f->start_ms;
	r->engine = engines[f->engine];
	r->mmu = mmus[f->mmu];
	r->pending = args_changed ||
		     f->settings.size_pages != vm->config.size_pages ||
		     strcmp(f->settings.group, vm->config.group) != 0;
	fill_stats(&vm->stats, f);
}

static int fill_vm(struct control *c, struct api_vm *to,
		   const struct definition *def, const struct host_vm_figures *f)
{
	if (control_copy_config(&to->config, &def->config, NULL))
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

int control_list_vms(struct control *c, const struct host_snapshot *s,
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
		if (!control_find_def(c, s->vms[i].settings.name, &at))
			fill_stray(c, &vms[ret->n++], &s->vms[i]);
	pthread_mutex_unlock(&c->lock);
	if (vms)
		qsort(vms, ret->n, sizeof(*vms), compare_vms);
	return vms ? r : -ENOMEM;
}

int control_get_vms(struct control *c, const struct api_request *req,
		    void *reply, struct err *err)
{
	struct api_vms *ret = reply;
	struct host_snapshot s;
	int r = control_figures(c, &s, err);

	(void)req;
	if (r)
		return r;
	r = control_list_vms(c, &s, &ret->vms);
	host_snapshot_release(&s);
	return r ? err_set(err, r, "no memory for the list") : 0;
}

int control_show_vm(struct control *c, const char *name, struct api_vm *ret,
		    struct err *err)
{
	struct host_snapshot s;
	int r = control_figures(c, &s, err);
	size_t at;

	if (r)
		return r;
	const struct host_vm_figures *f = find_running(&s, name);

	pthread_mutex_lock(&c->lock);
	if (control_find_def(c, name, &at))
		r = fill_vm(c, ret, c->defs[at], f);
	else if (f)
		fill_stray(c, ret, f);
	else
		r = control_no_vm(name, err);
	pthread_mutex_unlock(&c->lock);
	host_snapshot_release(&s);
	return r == -ENOMEM ? err_set(err, r, "no memory for the VM") : r;
}

int control_get_vm(struct control *c, const struct api_request *req,
		   void *reply, struct err *err)
{
	return control_show_vm(c, req->name, reply, err);
}

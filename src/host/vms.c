/* SPDX-License-Identifier: Apache-2.0 */
/* VMs that run: the list of them, and what callers ask about one. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/clock.h>
#include <host/host_impl.h>

#define START_WAIT_MS 30000

/* The list */

struct hvm *vm_find(struct host *host, const char *name)
{
	for (uint32_t i = 0; i < host->n_vms; i++) {
		if (!strcmp(host->vms[i]->set.name, name))
			return host->vms[i];
	}
	return NULL;
}

int vm_insert(struct host *host, struct hvm *vm)
{
	struct hvm **vms = realloc(host->vms, (host->n_vms + 1) * sizeof(*vms));
	uint32_t at = 0;

	if (!vms)
		return -ENOMEM;
	host->vms = vms;
	while (at < host->n_vms && strcmp(vms[at]->set.name, vm->set.name) < 0)
		at++;
	memmove(&vms[at + 1], &vms[at], (host->n_vms - at) * sizeof(*vms));
	vms[at] = vm;
	host->n_vms++;
	return 0;
}

struct hvm *hvm_new(struct host *host, const struct host_vm_settings *set)
{
	struct hvm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->host = host;
	vm->set = *set;
	vm->set.n_args = 0;
	vm->pid_fd = -1;
	vm->sock = -1;
	vm->start_ms = wall_ms();
	vm->reclaim.random.state = vm->start_ms * 2654435761U + host->n_vms;
	balloon_watch_init(&vm->balloon);
	sweep_init(&vm->sweep);
	if (sample_init(&vm->sample, rng_next(&vm->reclaim.random))) {
		free(vm);
		return NULL;
	}
	return vm;
}

static void drop_group(struct host *host, struct group *g)
{
	for (uint32_t i = 0; i < host->n_groups; i++) {
		if (host->groups[i] != g)
			continue;
		host->groups[i] = host->groups[--host->n_groups];
		group_free(g);
		return;
	}
}

void hvm_destroy(struct hvm *vm)
{
	struct host *host = vm->host;
	struct group *group = vm->mem ? vm->mem->group : NULL;

	for (uint32_t i = 0; i < host->n_vms; i++) {
		if (host->vms[i] != vm)
			continue;
		memmove(&host->vms[i], &host->vms[i + 1],
			(host->n_vms - i - 1) * sizeof(*host->vms));
		host->n_vms--;
		break;
	}
	if (vm->starter) {
		vm->starter->gone = true;
		vm->starter->unwanted = vm->unwanted;
		memcpy(vm->starter->why, vm->why, sizeof(vm->why));
	}
	vmmem_free(vm->mem);
	if (group && !group->n_members)
		drop_group(host, group);
	if (vm->sock >= 0)
		close(vm->sock);
	if (vm->pid_fd >= 0)
		close(vm->pid_fd);
	sample_release(&vm->sample);
	free(vm);
	pthread_cond_broadcast(&host->changed);
}

/* Admission */

int host_name_check(const char *name, struct err *err)
{
	const size_t len = strlen(name);

	for (size_t i = 0; i < len; i++) {
		const unsigned char c = (unsigned char)name[i];

		if (!isalnum(c) && (!i || !strchr("._-", c)))
			return err_set(
				err, -EINVAL,
				"\"%.60s\" is no name: letters and digits, and after the first . _ - too",
				name);
	}
	if (!len || len >= HOST_NAME_SIZE)
		return err_set(err, -EINVAL,
			       "a name has 1 to %d characters, not %zu",
			       HOST_NAME_SIZE - 1, len);
	return 0;
}

void host_vm_settings_init(struct host_vm_settings *settings, const char *name,
			   uint64_t size_pages)
{
	*settings = (struct host_vm_settings){.size_pages = size_pages,
					      .share = true};
	snprintf(settings->name, sizeof(settings->name), "%s", name);
	mem_alloc_init(&settings->alloc);
}

/* Refused with the number that was short. Under @lock. */
static int admit_vm(struct host *host, const struct host_vm_settings *set,
		    struct err *err)
{
	const struct admit_host limits = admit_host(host);
	const int pool = pool_index(host, set->pool);
	struct tree_order *order = NULL;
	struct admit_result result;
	struct tree_node *nodes;
	struct tree tree;
	int r;

	if (pool == -ENOENT)
		return err_set(err, -ENOENT, "there is no pool called %s",
			       set->pool);
	r = build_tree(host, &tree, &nodes);
	if (r)
		return err_set(err, r, "out of memory");
	r = tree_order_new(&tree, &order, err);
	if (!r)
		r = admit(&tree, order, &limits, (uint32_t)(pool + 1),
			  set->alloc.reservation_pages +
				  vm_overhead_reserve(host, set->size_pages),
			  set->size_pages - set->alloc.reservation_pages,
			  &result, err);
	tree_order_free(order);
	free(nodes);
	return r;
}

static int check_vm(const struct host_vm_settings *set, struct err *err)
{
	int r = host_name_check(set->name, err);

	if (!r && *set->group)
		r = host_name_check(set->group, err);
	if (!r && set->n_args > HOST_ARGS_MAX)
		r = err_set(err, -EINVAL, "a VM has at most %d arguments",
			    HOST_ARGS_MAX);
	if (!r && (set->size_pages < 256 || set->size_pages >> 28))
		r = err_set(
			err, -EINVAL,
			"a VM of %llu MiB is not possible; from 1 MiB to 1 TiB is",
			(unsigned long long)set->size_pages >> 8);
	return r ? r : mem_alloc_check_vm(&set->alloc, set->size_pages, err);
}

/* Whether all promises hold with what is set now. Under @lock. */
int host_check_promises(struct host *host, struct err *err)
{
	const struct admit_host limits = admit_host(host);
	struct tree_order *order = NULL;
	struct admit_result result;
	struct tree_node *nodes;
	struct tree tree;
	int r = build_tree(host, &tree, &nodes);

	if (r)
		return err_set(err, r, "out of memory");
	r = tree_order_new(&tree, &order, err);
	if (!r)
		r = admit_check(&tree, order, &limits, &result, err);
	tree_order_free(order);
	free(nodes);
	return r;
}

/* Start and end */

static int was_unwanted(const char *name, struct err *err)
{
	return err_set(err, -ECANCELED,
		       "VM %s was stopped while it was being started", name);
}

/* Until the manager has attached it, and it has made its devices. Under @lock. */
static int wait_running(struct host *host, struct hvm *vm, const char *name,
			const struct hvm_end *end, struct err *err)
{
	const struct timespec until = monotonic_after_ms(START_WAIT_MS);
	int r = 0;

	/* While the lock is not held it may go, and its name to another. */
	while (!end->gone && !vm->up && !r)
		r = pthread_cond_timedwait(&host->changed, &host->lock, &until);
	if (!end->gone) {
		vm->starter = NULL;
		if (vm->up)
			return 0;
		process_kill(vm, SIGKILL);
		return err_set(err, -ETIMEDOUT, "VM %s does not answer", name);
	}
	if (end->unwanted)
		return was_unwanted(name, err);
	if (end->why[0])
		return err_set(err, -ECHILD, "VM %s was killed at its start: %s",
			       name, end->why);
	return process_ended(host, name, err);
}

/* A start that failed leaves nothing. */
static void abandon(struct host *host, struct hvm *vm)
{
	process_kill(vm, SIGKILL);
	if (vm->pid > 0)
		(void)waitpid(vm->pid, NULL, 0);
	process_remove_files(host, vm->set.name);
	gate_lock(host);
	pthread_mutex_lock(&host->lock);
	hvm_destroy(vm);
	pthread_mutex_unlock(&host->lock);
	gate_unlock(host);
}

/* The pages of a group are known only by a VM that is in it already. Under @lock. */
static int check_group(struct host *host, const struct host_vm_settings *set,
		       struct err *err)
{
	const struct hvm *missing = NULL;

	for (uint32_t i = 0; i < host->n_vms && *set->group; i++) {
		const struct hvm *vm = host->vms[i];

		if (strcmp(vm->set.group, set->group) != 0)
			continue;
		if (vm->mem)
			return 0;
		if (vm->adopting)
			missing = vm;
	}
	if (!missing)
		return 0;
	return err_set(
		err, -EAGAIN,
		"VM %s, which has the pages of group %s, has not answered since mezzd was started",
		missing->set.name, set->group);
}

/* Admit it and put it into the list, so that nobody else starts it too. Under @lock. */
static int enlist(struct host *host, const struct host_vm_settings *set,
		  struct hvm **ret, struct err *err)
{
	struct hvm *vm;
	int r;

	if (vm_find(host, set->name))
		return err_set(err, -EEXIST, "VM %s runs already", set->name);
	r = check_group(host, set, err);
	if (!r)
		r = admit_vm(host, set, err);
	if (r)
		return r;
	vm = hvm_new(host, set);
	if (!vm)
		return err_set(err, -ENOMEM, "out of memory");
	r = vm_insert(host, vm);
	if (r) {
		hvm_destroy(vm);
		return err_set(err, r, "out of memory");
	}
	*ret = vm;
	return 0;
}

int host_vm_start(struct host *host, const struct host_vm_settings *set,
		  struct err *err)
{
	struct hvm_end end = {0};
	struct hvm *vm;
	int r = check_vm(set, err);

	if (r)
		return r;
	pthread_mutex_lock(&host->lock);
	r = enlist(host, set, &vm, err);
	if (!r)
		vm->starter = &end;
	pthread_mutex_unlock(&host->lock);
	if (r)
		return r;
	r = overhead_enter(host, vm, err);
	if (!r)
		r = process_start(host, vm, set, err);
	if (!r)
		r = manager_watch(host, vm);
	if (r) {
		abandon(host, vm);
		return end.unwanted ? was_unwanted(set->name, err) : r;
	}
	pthread_mutex_lock(&host->lock);
	r = wait_running(host, vm, set->name, &end, err);
	pthread_mutex_unlock(&host->lock);
	return r;
}

static int no_vm(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "VM %.60s does not run", name);
}

static int not_there_yet(const char *name, struct err *err)
{
	return err_set(
		err, -EAGAIN,
		"VM %.60s runs, but has not answered since mezzd was started",
		name);
}

int host_vm_stop(struct host *host, const char *name, enum host_stop how,
		 struct err *err)
{
	struct link_msg msg;
	struct hvm *vm;
	int r = 0;

	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, name);
	if (!vm) {
		r = no_vm(name, err);
	} else if (vm->adopting && (how != HOST_STOP_KILL || vm->pid_fd < 0)) {
		r = not_there_yet(name, err);
	} else if (how == HOST_STOP_KILL || vm->state == HOST_VM_STARTING) {
		vm->unwanted = true;
		process_kill(vm, SIGKILL);
	} else {
		link_msg_init(&msg,
			      how == HOST_STOP_GUEST ? LINK_POWER : LINK_STOP,
			      0);
		r = link_send(vm->sock, &msg, NULL, 0);
		if (r)
			err_set(err, r, "cannot reach VM %s: %s", name,
				strerror(-r));
		else if (how == HOST_STOP_VM)
			vm->state = HOST_VM_ENDING;
	}
	pthread_mutex_unlock(&host->lock);
	return r;
}

int host_vm_wait(struct host *host, const char *name, uint64_t timeout_ms)
{
	const struct timespec end = monotonic_after_ms(timeout_ms);
	int r = 0;

	pthread_mutex_lock(&host->lock);
	while (vm_find(host, name) && !r)
		r = pthread_cond_timedwait(&host->changed, &host->lock, &end);
	r = vm_find(host, name) ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&host->lock);
	return r;
}

/* Settings and files */

/* What is not reserved must find room on the disk, and the VM knows its swap file's size. */
static int check_swap(const struct hvm *vm, const struct mem_alloc *alloc,
		      struct err *err)
{
	const uint64_t slots = vm->mem ? swap_slots(vm->mem->swap)
				       : vm->set.size_pages;
	const uint64_t least = vm->set.size_pages > slots
				       ? vm->set.size_pages - slots
				       : 0;

	if (alloc->reservation_pages >= least)
		return 0;
	return err_set(
		err, -ENOSPC,
		"while VM %s runs, its reservation cannot be less than %llu MiB: its swap file has %llu MiB of its %llu",
		vm->set.name, (unsigned long long)(least + 255) >> 8,
		(unsigned long long)slots >> 8,
		(unsigned long long)vm->set.size_pages >> 8);
}

static int set_locked(struct host *host, struct hvm *vm,
		      const struct host_vm_settings *set, struct err *err)
{
	const struct host_vm_settings before = vm->set;
	int r;

	snprintf(vm->set.pool, sizeof(vm->set.pool), "%s", set->pool);
	vm->set.alloc = set->alloc;
	vm->set.floor_pages = set->floor_pages;
	vm->set.share = set->share;
	r = host_check_promises(host, err);
	if (!r)
		r = process_save(vm, err);
	if (r)
		vm->set = before;
	return r;
}

int host_vm_set(struct host *host, const struct host_vm_settings *set,
		struct err *err)
{
	char changes[SETTINGS_CHANGES] = "";
	struct hvm *vm;
	int r;

	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, set->name);
	if (!vm)
		r = no_vm(set->name, err);
	else if (vm->adopting)
		r = not_there_yet(set->name, err);
	else if (pool_index(host, set->pool) == -ENOENT)
		r = err_set(err, -ENOENT, "there is no pool called %.60s",
			    set->pool);
	else
		r = mem_alloc_check_vm(&set->alloc, vm->set.size_pages, err);
	if (!r)
		r = check_swap(vm, &set->alloc, err);
	/* Whoever makes sure that a VM has what it should have changes nothing mostly. */
	if (!r && *settings_changes(&vm->set, set, changes))
		r = set_locked(host, vm, set, err);
	pthread_mutex_unlock(&host->lock);
	if (!r && *changes) {
		host_tell(host, HOST_EVENT_VM_SETTINGS, set->name,
			  "settings of VM %s changed: %s", set->name, changes);
		host_replan(host);
	}
	return r;
}

int host_vm_path(struct host *host, const char *name, const char *file,
		 char *buf, size_t size)
{
	struct err ignored;
	int n;

	if (host_name_check(name, &ignored))
		return -EINVAL;
	n = snprintf(buf, size, "%s/vms/%s/%s", host->state_dir, name, file);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

/* Everything in it is ours or the VM's, whatever its name. */
static int empty_dir(int fd)
{
	DIR *dir = fdopendir(fd);
	struct dirent *entry;

	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	return 0;
}

int host_vm_remove_files(struct host *host, const char *name, struct err *err)
{
	int r = host_name_check(name, err);
	int dir_fd;

	if (r)
		return r;
	pthread_mutex_lock(&host->lock);
	if (vm_find(host, name))
		r = err_set(err, -EBUSY, "VM %s runs", name);
	pthread_mutex_unlock(&host->lock);
	if (r)
		return r;
	dir_fd = process_dir(host, name);
	if (dir_fd == -ENOENT)
		return 0;
	if (dir_fd < 0 || empty_dir(dir_fd))
		return err_set(err, dir_fd < 0 ? dir_fd : -ENOMEM,
			       "cannot open the directory of VM %s", name);
	if (unlinkat(host->dir_fd, name, AT_REMOVEDIR) < 0)
		return err_set(err, -errno,
			       "cannot remove the directory of VM %s: %s", name,
			       strerror(errno));
	return 0;
}

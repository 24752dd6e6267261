/* SPDX-License-Identifier: Apache-2.0 */
/* The host memory manager: its life cycle, and what its callers ask of VMs and pools. */
#include <host/host.h>

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <host/host_impl.h>
#include <mem/link_msg.h>
#include <policy/units.h>

#define MEMORY_MIN    (UINT64_C(16) << 20)
#define START_WAIT_MS 15000
/* What mezz-vm uses once its caches are full. */
#define OVERHEAD_BYTES (UINT64_C(16) << 20)

static uint64_t wall_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static const char *const kind_names[] = {
	[HOST_EVENT_VM_STARTED] = "vmStarted",
	[HOST_EVENT_VM_FOUND] = "vmFound",
	[HOST_EVENT_VM_ENDED] = "vmEnded",
	[HOST_EVENT_VM_SETTINGS] = "vmSettings",
	[HOST_EVENT_VM_MISBEHAVED] = "vmMisbehaved",
	[HOST_EVENT_VM_LINK_LOST] = "vmLinkLost",
	[HOST_EVENT_BALLOON] = "balloon",
	[HOST_EVENT_STATE] = "hostState",
	[HOST_EVENT_SWAP_FULL] = "swapFull",
	[HOST_EVENT_OPTION] = "option",
	[HOST_EVENT_ERROR] = "error",
};

const char *host_event_kind_name(enum host_event_kind kind)
{
	return kind_names[kind];
}

static void tell(struct host *host, struct host_event *event)
{
	if (!host->event)
		return;
	event->time_ms = wall_ms();
	pthread_mutex_lock(&host->event_lock);
	event->seq = ++host->event_seq;
	host->event(host->event_ctx, event);
	pthread_mutex_unlock(&host->event_lock);
}

void host_tell(struct host *host, enum host_event_kind kind, const char *vm,
	       const char *fmt, ...)
{
	struct host_event event = {.kind = kind};
	va_list ap;

	if (vm)
		snprintf(event.vm, sizeof(event.vm), "%s", vm);
	va_start(ap, fmt);
	vsnprintf(event.text, sizeof(event.text), fmt, ap);
	va_end(ap);
	tell(host, &event);
}

/* How a VM's process ended, in words. @buf: left alone if that is not known. */
static void ended_how(struct host *host, const char *vm, int status, char *buf,
		      size_t size)
{
	char words[256];

	if (status == -1)
		return;
	if (WIFSIGNALED(status)) {
		snprintf(buf, size, " by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
		return;
	}
	switch (WEXITSTATUS(status)) {
	case VM_STATUS_OFF:
		snprintf(buf, size, ": the guest switched itself off");
		return;
	case VM_STATUS_RESET:
		snprintf(buf, size, ": the guest asked for a reset");
		return;
	case VM_STATUS_STOPPED:
		snprintf(buf, size, ": it was stopped from outside");
		return;
	default:
		break;
	}
	if (process_last_words(host, vm, words, sizeof(words)))
		snprintf(buf, size, " with status %d: %s", WEXITSTATUS(status),
			 words);
	else
		snprintf(buf, size, " with status %d", WEXITSTATUS(status));
}

void host_tell_ended(struct host *host, const char *vm, int status)
{
	struct host_event event = {.kind = HOST_EVENT_VM_ENDED,
				   .status = status};
	char how[320] = "";

	ended_how(host, vm, status, how, sizeof(how));
	snprintf(event.vm, sizeof(event.vm), "%s", vm);
	snprintf(event.text, sizeof(event.text), "VM %s ended%s", vm, how);
	tell(host, &event);
}

static uint64_t meminfo(const char *key)
{
	const size_t len = strlen(key);
	uint64_t kib = 0;
	char line[256];
	FILE *f = fopen("/proc/meminfo", "re");

	if (!f)
		return 0;
	while (fgets(line, sizeof(line), f)) {
		if (!strncmp(line, key, len) && line[len] == ':')
			kib = strtoull(line + len + 1, NULL, 10);
	}
	fclose(f);
	return kib * 1024;
}

static int parse_percent(const char *text, uint64_t ram, uint64_t *ret,
			 struct err *err)
{
	char number[16];
	const size_t len = strlen(text) - 1;
	uint64_t pct;
	int r;

	snprintf(number, sizeof(number), "%.*s", (int)len, text);
	r = number_parse(number, 1, 100, &pct, err);
	if (!r)
		*ret = ram / 100 * pct;
	return r;
}

int host_memory_parse(const char *text, uint64_t *ret_bytes, struct err *err)
{
	const uint64_t ram = meminfo("MemTotal");
	uint64_t bytes = 0;
	int r = 0;

	if (!text) {
		const uint64_t available = meminfo("MemAvailable");

		bytes = available > ram / 16 ? available - ram / 16 : 0;
	} else if (*text && text[strlen(text) - 1] == '%') {
		r = parse_percent(text, ram, &bytes, err);
	} else {
		r = size_parse(text, &bytes, err);
	}
	if (r) {
		err_prefix(err, "machine memory: ");
		return r;
	}
	bytes &= PAGE_MASK;
	if (bytes < MEMORY_MIN || bytes > ram)
		return err_set(
			err, -ERANGE,
			"machine memory of %llu MiB is not between 16 MiB and the %llu MiB of this host",
			(unsigned long long)bytes >> 20,
			(unsigned long long)ram >> 20);
	*ret_bytes = bytes;
	return 0;
}

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

/* Processors times their clock, for the scan rate; 2 GHz where the kernel does not say. */
static uint64_t processor_mhz(void)
{
	uint64_t mhz = 0;
	char line[256];
	FILE *f = fopen("/proc/cpuinfo", "re");

	while (f && fgets(line, sizeof(line), f)) {
		if (!strncmp(line, "cpu MHz", 7) && strchr(line, ':'))
			mhz += strtoull(strchr(line, ':') + 1, NULL, 10);
	}
	if (f)
		fclose(f);
	return mhz ? mhz : 2000 * (uint64_t)sysconf(_SC_NPROCESSORS_ONLN);
}

static int open_state(struct host *host, struct err *err)
{
	char *path;
	int r = 0;

	if (mkdir(host->state_dir, 0700) < 0 && errno != EEXIST)
		return err_set(err, -errno, "cannot make %s: %s",
			       host->state_dir, strerror(errno));
	if (asprintf(&path, "%s/lock", host->state_dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	host->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (host->lock_fd < 0)
		r = err_set(err, -errno, "cannot write to %s: %s",
			    host->state_dir, strerror(errno));
	else if (flock(host->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = err_set(err, errno == EWOULDBLOCK ? -EBUSY : -errno,
			    "another host uses %s", host->state_dir);
	free(path);
	if (r || asprintf(&path, "%s/vms", host->state_dir) < 0)
		return r ? r : err_set(err, -ENOMEM, "out of memory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		r = err_set(err, -errno, "cannot make %s: %s", path,
			    strerror(errno));
	if (!r) {
		host->dir_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (host->dir_fd < 0)
			r = err_set(err, -errno, "cannot open %s: %s", path,
				    strerror(errno));
	}
	free(path);
	return r;
}

static struct host *host_alloc(const struct host_config *cfg)
{
	struct host *host = calloc(1, sizeof(*host));
	pthread_condattr_t attr;

	if (!host)
		return NULL;
	host->lock_fd = host->dir_fd = host->epoll_fd = host->wake_fd = -1;
	host->managed_pages = cfg->memory_bytes / PAGE_SIZE;
	host->overhead_base_pages = (cfg->overhead_bytes ? cfg->overhead_bytes
							 : OVERHEAD_BYTES) /
				    PAGE_SIZE;
	host->processor_mhz = processor_mhz();
	host->start_ms = monotonic_ms();
	host->event = cfg->event;
	host->event_ctx = cfg->event_ctx;
	host->options = cfg->options;
	host->foreground = cfg->foreground;
	ledger_init(&host->ledger, host->managed_pages);
	ledger_close(&host->ledger);
	pthread_mutex_init(&host->event_lock, NULL);
	pthread_mutex_init(&host->gate, NULL);
	pthread_mutex_init(&host->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&host->changed, &attr);
	pthread_condattr_destroy(&attr);
	host->state_dir = strdup(cfg->state_dir);
	host->vm_program = strdup(cfg->vm_program);
	host->share = share_new();
	host->reclaim = reclaim_new();
	if (!host->state_dir || !host->vm_program || !host->share ||
	    !host->reclaim)
		return host_free(host);
	return host;
}

static int start_threads(struct host *host, struct err *err)
{
	int r = pthread_create(&host->manager, NULL, manager_loop, host);

	host->has_manager = !r;
	if (!r) {
		r = pthread_create(&host->mover, NULL, mover_loop, host);
		host->has_mover = !r;
	}
	return r ? err_set(err, -r, "no thread for the host: %s", strerror(r))
		 : 0;
}

static int host_begin(struct host *host, struct err *err)
{
	int r = open_state(host, err);

	if (r)
		return r;
	host->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	host->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (host->epoll_fd < 0 || host->wake_fd < 0)
		return err_set(err, -errno, "cannot wait for events: %s",
			       strerror(errno));
	r = manager_watch(host, NULL);
	if (r)
		return err_set(err, r, "cannot wait for events: %s",
			       strerror(-r));
	r = process_adopt_all(host, err);
	return r ? r : start_threads(host, err);
}

int host_new(const struct host_config *cfg, struct host **ret, struct err *err)
{
	struct host *host;
	int r;

	if (cfg->memory_bytes < MEMORY_MIN)
		return err_set(err, -EINVAL,
			       "machine memory of %llu MiB is less than 16 MiB",
			       (unsigned long long)cfg->memory_bytes >> 20);
	r = options_check(&cfg->options, err);
	if (r)
		return r;
	host = host_alloc(cfg);
	if (!host)
		return err_set(err, -ENOMEM, "out of memory");
	r = host_begin(host, err);
	if (r) {
		host_free(host);
		return r;
	}
	*ret = host;
	return 0;
}

struct host *host_free(struct host *host)
{
	if (!host)
		return NULL;
	atomic_store(&host->ending, true);
	if (host->has_manager) {
		manager_wake(host);
		pthread_join(host->manager, NULL);
	}
	if (host->has_mover)
		pthread_join(host->mover, NULL);
	manager_do_chores(host);
	/* The VMs go on: frames that are let go here are in use. */
	for (uint32_t i = 0; i < host->n_groups; i++)
		host->groups[i]->adopting = true;
	while (host->n_vms)
		hvm_destroy(host->vms[0]);
	for (uint32_t i = 0; i < host->n_groups; i++)
		group_free(host->groups[i]);
	free(host->groups);
	free(host->vms);
	free(host->pools);
	share_free(host->share);
	reclaim_free(host->reclaim);
	for (int i = 0; i < 4; i++) {
		const int fds[] = {host->dir_fd, host->epoll_fd, host->wake_fd,
				   host->lock_fd};

		if (fds[i] >= 0)
			close(fds[i]);
	}
	pthread_cond_destroy(&host->changed);
	pthread_mutex_destroy(&host->lock);
	pthread_mutex_destroy(&host->gate);
	pthread_mutex_destroy(&host->event_lock);
	ledger_release(&host->ledger);
	free(host->state_dir);
	free(host->vm_program);
	free(host);
	return NULL;
}

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
	vm->reclaim.seed = vm->start_ms * 2654435761U + host->n_vms;
	balloon_watch_init(&vm->balloon);
	if (sample_init(&vm->sample, vm->reclaim.seed)) {
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

static struct timespec deadline(uint64_t ms)
{
	const uint64_t end = monotonic_ms() + ms;

	return (struct timespec){.tv_sec = (time_t)(end / 1000),
				 .tv_nsec = (long)(end % 1000) * 1000000};
}

/* Until the manager has attached it, and it has made its devices. Under @lock. */
static int wait_running(struct host *host, const char *name, struct err *err)
{
	const struct timespec end = deadline(START_WAIT_MS);
	struct hvm *vm;

	while ((vm = vm_find(host, name)) && !vm->up) {
		if (pthread_cond_timedwait(&host->changed, &host->lock, &end)) {
			process_kill(vm, SIGKILL);
			return err_set(err, -ETIMEDOUT, "VM %s does not answer",
				       name);
		}
	}
	if (!vm)
		return process_ended(host, name, err);
	return 0;
}

static void abandon(struct host *host, struct hvm *vm)
{
	process_kill(vm, SIGKILL);
	if (vm->pid > 0)
		(void)waitpid(vm->pid, NULL, 0);
	gate_lock(host);
	pthread_mutex_lock(&host->lock);
	hvm_destroy(vm);
	pthread_mutex_unlock(&host->lock);
	gate_unlock(host);
}

int host_vm_start(struct host *host, const struct host_vm_settings *set,
		  struct err *err)
{
	struct hvm *vm = NULL;
	int r = check_vm(set, err);

	if (r)
		return r;
	pthread_mutex_lock(&host->lock);
	if (vm_find(host, set->name))
		r = err_set(err, -EEXIST, "VM %s runs already", set->name);
	else
		r = admit_vm(host, set, err);
	if (!r) {
		vm = hvm_new(host, set);
		r = vm ? vm_insert(host, vm) : -ENOMEM;
		if (r) {
			err_set(err, r, "out of memory");
			if (vm)
				hvm_destroy(vm);
		}
	}
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
		return r;
	}
	pthread_mutex_lock(&host->lock);
	r = wait_running(host, set->name, err);
	pthread_mutex_unlock(&host->lock);
	return r;
}

static int no_vm(const char *name, struct err *err)
{
	return err_set(err, -ENOENT, "VM %.60s does not run", name);
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
	} else if (how == HOST_STOP_KILL || vm->state == HOST_VM_STARTING) {
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
	const struct timespec end = deadline(timeout_ms);
	int r = 0;

	pthread_mutex_lock(&host->lock);
	while (vm_find(host, name) && !r)
		r = pthread_cond_timedwait(&host->changed, &host->lock, &end);
	r = vm_find(host, name) ? -ETIMEDOUT : 0;
	pthread_mutex_unlock(&host->lock);
	return r;
}

/* Whether all promises hold with what is set now. Under @lock. */
static int check_promises(struct host *host, struct err *err)
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
	r = check_promises(host, err);
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
	r = check_promises(host, err);
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

int host_option_set(struct host *host, const char *name, const char *value,
		    struct err *err)
{
	int r;

	pthread_mutex_lock(&host->lock);
	r = options_set(&host->options, name, value, err);
	pthread_mutex_unlock(&host->lock);
	if (!r) {
		host_tell(host, HOST_EVENT_OPTION, NULL, "%s is %s now", name,
			  value);
		host_replan(host);
	}
	return r;
}

struct options host_options(struct host *host)
{
	struct options options;

	pthread_mutex_lock(&host->lock);
	options = host->options;
	pthread_mutex_unlock(&host->lock);
	return options;
}

void host_replan(struct host *host)
{
	atomic_store(&host->replan, true);
	manager_wake(host);
}

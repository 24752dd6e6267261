/* SPDX-License-Identifier: Apache-2.0 */
/* The host memory manager: its life cycle and its options. */
#include <host/host.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/clock.h>
#include <host/disk.h>
#include <host/host_impl.h>

/* What mezz-vm uses once its caches are full. */
#define OVERHEAD_BYTES (UINT64_C(16) << 20)

/* One that has not greeted by then stands still. */
#define ADOPT_WAIT_MS 2000

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

/* @disk: a place on the disk in question. Return: -errno. */
static int cannot(struct err *err, const char *verb, const char *what,
		  const char *disk)
{
	const int e = errno;
	char why[DISK_TEXT];

	return err_set(err, -e, "cannot %s %s: %s", verb, what,
		       disk_error(e, disk, PAGE_SIZE, why));
}

static int open_state(struct host *host, struct err *err)
{
	char *path;
	int r = 0;

	if (mkdir(host->state_dir, 0700) < 0 && errno != EEXIST)
		return cannot(err, "make", host->state_dir, host->state_dir);
	if (asprintf(&path, "%s/lock", host->state_dir) < 0)
		return err_set(err, -ENOMEM, "out of memory");
	host->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (host->lock_fd < 0)
		r = cannot(err, "write to", host->state_dir, host->state_dir);
	else if (flock(host->lock_fd, LOCK_EX | LOCK_NB) < 0)
		r = errno == EWOULDBLOCK
			    ? err_set(err, -EBUSY, "another host uses %s",
				      host->state_dir)
			    : err_set(err, -errno, "cannot lock %s: %s", path,
				      strerror(errno));
	free(path);
	if (r || asprintf(&path, "%s/vms", host->state_dir) < 0)
		return r ? r : err_set(err, -ENOMEM, "out of memory");
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		r = cannot(err, "make", path, host->state_dir);
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
	r = adopt_all(host, err);
	if (!r)
		r = start_threads(host, err);
	/* They answer within milliseconds, and are what they were for whoever looks then. */
	if (!r)
		adopt_wait(host, ADOPT_WAIT_MS);
	return r;
}

int host_new(const struct host_config *cfg, struct host **ret, struct err *err)
{
	struct host *host;
	int r;

	if (cfg->memory_bytes < HOST_MEMORY_MIN)
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

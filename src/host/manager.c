/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The manager: one thread that hears what VMs say, notices when they end, and decides at
 * the end of each period, or sooner when a VM waits for memory.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <base/arith.h>
#include <base/clock.h>
#include <base/verify.h>
#include <host/host_impl.h>
#include <mem/link_msg.h>

#define TICK_MS     100
#define WAITING_MS  10
#define SWEEPING_MS 20
#define OVERHEAD_MS 1000
/* The longest period while pages are being taken. */
#define RECLAIMING_MS 1000
/* How long a VM whose link is gone may take to end by itself. */
#define PATIENCE_MS 5000
/* How often it is tried to connect to a VM that was found. */
#define ADOPT_AGAIN_MS 1000
/* Decisions may take a tenth of a processor. */
#define PLAN_SHARE 10

void manager_wake(struct host *host)
{
	const uint64_t one = 1;
	const ssize_t n = write(host->wake_fd, &one, sizeof(one));

	(void)n; /* a full counter is readable already */
}

/* Two descriptors of one VM; the low bit of its address says which. */
#define IS_PID UINT64_C(1)

static int watch_fd(struct host *host, int fd, uint64_t data)
{
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = data};

	if (fd < 0 || !epoll_ctl(host->epoll_fd, EPOLL_CTL_ADD, fd, &event))
		return 0;
	return errno == EEXIST ? 0 : -errno;
}

int manager_watch(struct host *host, struct hvm *vm)
{
	int r;

	if (!vm)
		return watch_fd(host, host->wake_fd, 0);
	r = watch_fd(host, vm->sock, (uint64_t)(uintptr_t)vm);
	if (r)
		return r;
	/* Last: with the end of its process the VM may go at any moment. */
	r = watch_fd(host, vm->pid_fd, (uint64_t)(uintptr_t)vm | IS_PID);
	if (r)
		epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, vm->sock, NULL);
	return r;
}

static void chore_add(struct hvm *vm, bool gone, const struct link_msg *msg,
		      const int *fds)
{
	struct host *host = vm->host;
	struct chore *chore = calloc(1, sizeof(*chore));
	struct chore **last = &host->chores;

	VERIFY(chore);
	chore->vm = vm;
	chore->gone = gone;
	if (msg) {
		chore->msg = *msg;
		memcpy(chore->fds, fds, msg->n_fds * sizeof(*fds));
	}
	pthread_mutex_lock(&host->lock);
	while (*last)
		last = &(*last)->next;
	*last = chore;
	pthread_mutex_unlock(&host->lock);
}

static void drop_adopting(struct host *host, struct hvm *vm)
{
	if (!vm->adopting)
		return;
	vm->adopting = false;
	ledger_give(&host->ledger, vm->assumed_pages);
	vm->assumed_pages = 0;
	/* All that ran before are known now, so what nobody claims is free. */
	if (!--host->n_adopting) {
		for (uint32_t i = 0; i < host->n_groups; i++)
			group_trim(host->groups[i]);
	}
}

/*
 * Before all that ran before are known, nothing is known to be free. One that does not greet
 * is taken to have all that it could have, so that the others can go on.
 */
static void open_ledger(struct host *host)
{
	const bool patient = monotonic_ms() < host->start_ms + PATIENCE_MS;

	if (host->n_adopting && patient)
		return;
	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct hvm *vm = host->vms[i];

		if (!vm->adopting)
			continue;
		/* No more than there is: the host before kept to that. */
		vm->assumed_pages = ledger_free_pages(&host->ledger);
		if (vm->assumed_pages > vm->set.size_pages)
			vm->assumed_pages = vm->set.size_pages;
		ledger_force(&host->ledger, vm->assumed_pages);
	}
	overhead_measure(host);
	ledger_open(&host->ledger);
	host->open = true;
}

/* The process is no more: wake who waits for its answers, and leave the rest to the mover. */
static void on_end(struct hvm *vm)
{
	struct host *host = vm->host;

	pthread_mutex_lock(&host->lock);
	epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, vm->pid_fd, NULL);
	if (!vm->lost)
		epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, vm->sock, NULL);
	vm->lost = true;
	vm->state = HOST_VM_ENDING;
	if (vm->mem)
		revoke_host_break(vm->mem->revoke);
	pthread_mutex_unlock(&host->lock);
	chore_add(vm, true, NULL, NULL);
}

static void vm_gone(struct hvm *vm)
{
	struct host *host = vm->host;
	char name[HOST_NAME_SIZE];
	int status;

	memcpy(name, vm->set.name, sizeof(name));
	/* Before others see that it is gone, and may start the next one of that name. */
	process_remove_files(host, name);
	pthread_mutex_lock(&host->lock);
	drop_adopting(host, vm);
	if (vm->pid <= 0 || waitpid(vm->pid, &status, WNOHANG) != vm->pid)
		status = -1;
	hvm_destroy(vm);
	overhead_measure(host);
	pthread_mutex_unlock(&host->lock);
	host_tell_ended(host, name, status);
	host_replan(host);
}

static void link_lost(struct hvm *vm, const char *why)
{
	struct host *host = vm->host;

	bool already;

	pthread_mutex_lock(&host->lock);
	already = vm->lost;
	if (!already) {
		epoll_ctl(host->epoll_fd, EPOLL_CTL_DEL, vm->sock, NULL);
		if (vm->mem)
			revoke_host_break(vm->mem->revoke);
		vm->lost = true;
		vm->state = HOST_VM_ENDING;
		vm->kill_at_ms = monotonic_ms() + PATIENCE_MS;
		snprintf(vm->why, sizeof(vm->why), "%s", why ? why : "");
		pthread_cond_broadcast(&host->changed);
	}
	pthread_mutex_unlock(&host->lock);
	if (why && !already) {
		host_tell(host, HOST_EVENT_VM_MISBEHAVED, vm->set.name,
			  "VM %s is killed: %s", vm->set.name, why);
		process_kill(vm, SIGKILL);
	}
}

static void do_hello(struct hvm *vm, const struct link_msg *msg, int *fds)
{
	struct host *host = vm->host;
	const bool found = vm->adopting;
	struct err err = {0};
	int r;

	if (vm->lost) {
		for (unsigned i = 0; i < msg->n_fds; i++)
			close(fds[i]);
		return;
	}
	r = process_hello(vm, msg, fds, &err);
	pthread_mutex_lock(&host->lock);
	if (!r)
		drop_adopting(host, vm);
	if (!r && found)
		hvm_balloon_found(vm);
	/* It may have been told to end, or have ended, meanwhile. */
	if (!r && (vm->state == HOST_VM_STARTING || vm->state == HOST_VM_FOUND))
		vm->state = HOST_VM_RUNNING;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	if (r) {
		link_lost(vm, err.text);
		return;
	}
	host_replan(host);
	/* One that was started has still to make its devices. */
	if (found)
		host_tell(host, HOST_EVENT_VM_FOUND, vm->set.name,
			  "VM %s was found running", vm->set.name);
}

void manager_do_chores(struct host *host)
{
	struct chore *chore;

	for (;;) {
		pthread_mutex_lock(&host->lock);
		chore = host->chores;
		if (chore)
			host->chores = chore->next;
		pthread_mutex_unlock(&host->lock);
		if (!chore)
			return;
		if (chore->gone)
			vm_gone(chore->vm);
		else
			do_hello(chore->vm, &chore->msg, chore->fds);
		free(chore);
	}
}

/* Once, for the mover may be long in coming, and each has descriptors of ours. */
static void greet(struct hvm *vm, const struct link_msg *msg, const int *fds)
{
	if (!vm->greeted) {
		vm->greeted = true;
		chore_add(vm, false, msg, fds);
		return;
	}
	for (unsigned i = 0; i < msg->n_fds; i++)
		close(fds[i]);
	link_lost(vm, "it greets twice");
}

static void on_up(struct hvm *vm)
{
	struct host *host = vm->host;
	bool already;

	pthread_mutex_lock(&host->lock);
	already = vm->up;
	vm->up = true;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
	if (!already)
		host_tell(host, HOST_EVENT_VM_STARTED, vm->set.name,
			  "VM %s started", vm->set.name);
}

static void on_message(struct hvm *vm, const struct link_msg *msg, int *fds)
{
	switch (msg->type) {
	case LINK_HELLO:
		greet(vm, msg, fds);
		break;
	case LINK_ACK:
		if (vm->mem)
			revoke_host_ack(vm->mem->revoke, msg->value);
		break;
	case LINK_UP:
		on_up(vm);
		break;
	case LINK_WANT:
		atomic_store(&vm->host->replan, true);
		break;
	}
}

static void receive(struct hvm *vm)
{
	int fds[LINK_FDS_MAX];
	struct link_msg msg;
	int r = 0;

	/* A VM that talks without end must not keep the others waiting. */
	for (int i = 0; i < 32 && !r && !vm->lost; i++) {
		r = link_recv(vm->sock, LINK_FROM_VM, 0, &msg, fds);
		if (!r)
			on_message(vm, &msg, fds);
	}
	if (r == -EBADMSG)
		link_lost(vm, "it sent what is no message");
	else if (r && r != -EAGAIN && !vm->lost)
		link_lost(vm, NULL);
}

static void on_event(struct host *host, uint64_t data)
{
	union {
		uintptr_t in;
		struct hvm *out;
	} vm = {.in = (uintptr_t)(data & ~IS_PID)};

	if (!data) {
		uint64_t n;
		const ssize_t r = read(host->wake_fd, &n, sizeof(n));

		(void)r;
	} else if (data & IS_PID) {
		on_end(vm.out);
	} else {
		receive(vm.out);
	}
}

static bool is_running(const struct hvm *vm)
{
	return vm->mem && vm->state == HOST_VM_RUNNING;
}

static bool wants(const struct hvm *vm)
{
	return is_running(vm) && atomic_load(&vm->mem->counters->want) &&
	       !physmap_allowance(vm->mem->map);
}

/* How much of the time since the last look the VM has waited for memory. */
static void measure_latency(struct hvm *vm)
{
	const uint64_t now_ms = monotonic_ms();
	const uint64_t ms = now_ms - vm->stalled_ms;
	uint64_t sum = 0;

	for (unsigned i = 0; i < LINK_STALLS; i++)
		sum += atomic_load(&vm->mem->counters->stall_ns[i]);
	if (vm->stalled_ms && ms && sum >= vm->stalled_ns)
		vm->latency_pct = (double)(sum - vm->stalled_ns) /
				  ((double)ms * 1e4);
	/* Processors may wait at once, and counters are the VM's to write. */
	if (vm->latency_pct > 100)
		vm->latency_pct = 100;
	vm->stalled_ns = sum;
	vm->stalled_ms = now_ms;
}

/* As load averages are made: each second a bit of what is now. Under @lock. */
static void average_overcommit(struct host *host)
{
	static const double seconds[] = {60, 300, 900};
	uint64_t wanted = host->self_pages;
	double now;

	for (uint32_t i = 0; i < host->n_vms; i++)
		wanted += host->vms[i]->set.size_pages +
			  host->vms[i]->overhead_pages;
	now = (double)wanted / (double)host->managed_pages - 1;
	for (unsigned i = 0; i < ARRAY_SIZE(seconds); i++)
		host->overcommit[i] += ((now > 0 ? now : 0) -
					host->overcommit[i]) *
				       (OVERHEAD_MS / 1000.0) / seconds[i];
}

/* VMs that were found, but not connected to. Return: one that is not there any more, or NULL. */
static struct hvm *try_again(struct host *host, uint64_t now)
{
	if (!host->n_adopting || now < host->next_adopt_ms)
		return NULL;
	host->next_adopt_ms = now + ADOPT_AGAIN_MS;
	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct hvm *vm = host->vms[i];

		if (vm->adopting && vm->sock < 0 && !vm->lost && !adopt_again(vm))
			return vm;
	}
	return NULL;
}

/* Everything that is looked at regularly. Return: ms until it should be again, at most. */
static int tick(struct host *host)
{
	const uint64_t now = monotonic_ms();
	struct hvm *bad = NULL;
	struct hvm *gone;
	int next_ms = TICK_MS;

	pthread_mutex_lock(&host->lock);
	if (!host->open)
		open_ledger(host);
	gone = try_again(host, now);
	for (uint32_t i = 0; i < host->n_vms; i++) {
		struct hvm *vm = host->vms[i];

		if (vm->kill_at_ms && now >= vm->kill_at_ms)
			process_kill(vm, SIGKILL);
		if (is_running(vm) && atomic_load(&vm->mem->misbehaved))
			bad = vm;
		if (is_running(vm) && hvm_sweep(vm) && next_ms > SWEEPING_MS)
			next_ms = SWEEPING_MS;
		if (wants(vm))
			next_ms = WAITING_MS;
	}
	if (now >= host->next_overhead_ms) {
		host->next_overhead_ms = now + OVERHEAD_MS;
		overhead_measure(host);
		average_overcommit(host);
		for (uint32_t i = 0; i < host->n_vms; i++) {
			if (!is_running(host->vms[i]))
				continue;
			hvm_balloon_judge(host->vms[i]);
			measure_latency(host->vms[i]);
		}
	}
	pthread_mutex_unlock(&host->lock);
	/* Only this thread ends VMs, so it is still there. */
	if (bad)
		link_lost(bad, bad->mem->why);
	if (gone)
		on_end(gone);
	return next_ms;
}

/* Whether pages are to be taken from a VM. Under @lock. */
static bool is_reclaiming(const struct host *host)
{
	for (uint32_t i = 0; i < host->n_vms; i++) {
		const struct plan_action *a = &host->vms[i]->action;

		if (a->compress_pages || a->swap_pages || a->evict_pages)
			return true;
	}
	return false;
}

static void plan(struct host *host)
{
	uint64_t period_ms;
	uint64_t now;

	pthread_mutex_lock(&host->lock);
	decide(host);
	now = monotonic_ms();
	/* What a compressed page saves is known afterwards: see whether it was enough. */
	period_ms = host->plan.period_ms;
	if (is_reclaiming(host) && period_ms > RECLAIMING_MS)
		period_ms = RECLAIMING_MS;
	host->next_plan_ms = now + period_ms;
	host->earliest_plan_ms = now + host->plan_ns * PLAN_SHARE / 1000000;
	pthread_mutex_unlock(&host->lock);
}

static bool below_edge(struct host *host)
{
	bool below;

	pthread_mutex_lock(&host->lock);
	below = host_free_pages(host) < host->plan.wake_below_pages;
	pthread_mutex_unlock(&host->lock);
	return below;
}

/* @wait_ms: as tick() says. Return: the same, or less if a decision may be made before. */
static int plan_if_due(struct host *host, int wait_ms)
{
	const uint64_t now = monotonic_ms();

	if (now < host->earliest_plan_ms) {
		const uint64_t left_ms = host->earliest_plan_ms - now;

		return atomic_load(&host->replan)
			       ? (int)min_u64((uint64_t)wait_ms, left_ms)
			       : wait_ms;
	}
	if (now >= host->next_plan_ms || wait_ms == WAITING_MS ||
	    atomic_exchange(&host->replan, false) || below_edge(host))
		plan(host);
	return wait_ms;
}

void *manager_loop(void *arg)
{
	struct host *host = arg;
	struct epoll_event events[16];
	int wait_ms = TICK_MS;

	while (!atomic_load(&host->ending)) {
		const int n = epoll_wait(host->epoll_fd, events,
					 ARRAY_SIZE(events), wait_ms);
		uint64_t gone[ARRAY_SIZE(events)];
		int n_gone = 0;

		/* Ends last, for they take the VM away from under its messages. */
		for (int i = 0; i < n; i++) {
			if (events[i].data.u64 & IS_PID)
				gone[n_gone++] = events[i].data.u64;
			else
				on_event(host, events[i].data.u64);
		}
		for (int i = 0; i < n_gone; i++)
			on_event(host, gone[i]);
		wait_ms = tick(host);
		wait_ms = plan_if_due(host, wait_ms);
	}
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The end of all VMs. */
#include <host/shutdown.h>

#include <stdlib.h>
#include <time.h>

#include <base/log.h>

#define LOOK_MS 100
/* How long a VM may take that was told to end, whatever its guest does. */
#define END_MS 10000

/* Whose button was pressed: a guest may take a second press for something else. */
struct pressed {
	pid_t *pids;
	size_t n;
};

static bool was_pressed(const struct pressed *p, pid_t pid)
{
	for (size_t i = 0; i < p->n; i++) {
		if (p->pids[i] == pid)
			return true;
	}
	return false;
}

static void remember(struct pressed *p, pid_t pid)
{
	pid_t *pids = realloc(p->pids, (p->n + 1) * sizeof(*pids));

	if (!pids)
		return;
	p->pids = pids;
	p->pids[p->n++] = pid;
}

static void press(struct host *host, struct pressed *p,
		  const struct host_vm_figures *vm)
{
	struct err err = {0};

	/* One that is being started is not there yet, and is looked at again. */
	if (vm->state != HOST_VM_RUNNING || was_pressed(p, vm->pid))
		return;
	if (host_vm_stop(host, vm->settings.name, HOST_STOP_GUEST, &err))
		log_warn("cannot press the power button of VM %s: %s",
			 vm->settings.name, err.text);
	remember(p, vm->pid);
}

static void end_one(struct host *host, const struct host_vm_figures *vm,
		    enum host_stop how)
{
	struct err err = {0};

	if (how == HOST_STOP_KILL)
		log_warn("VM %s does not end: it is killed", vm->settings.name);
	else
		log_warn("VM %s has not switched itself off: it is ended",
			 vm->settings.name);
	if (host_vm_stop(host, vm->settings.name, how, &err))
		log_warn("cannot end VM %s: %s", vm->settings.name, err.text);
}

/* Return: how many VMs there are. @p: press the buttons; NULL: do not. */
static uint32_t look(struct host *host, struct pressed *p)
{
	struct host_snapshot s;
	uint32_t n;

	if (host_snapshot_take(host, &s))
		return 0;
	n = s.n_vms;
	for (uint32_t i = 0; i < n && p; i++)
		press(host, p, &s.vms[i]);
	host_snapshot_release(&s);
	return n;
}

static void end_all(struct host *host, enum host_stop how)
{
	struct host_snapshot s;

	if (host_snapshot_take(host, &s))
		return;
	for (uint32_t i = 0; i < s.n_vms; i++)
		end_one(host, &s.vms[i], how);
	host_snapshot_release(&s);
}

/* Return: whether there are none any more. */
static bool wait_for_none(struct host *host, uint64_t ms, struct pressed *p,
			  const sigset_t *signals)
{
	const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};

	for (uint64_t t = 0; look(host, p); t += LOOK_MS) {
		if (t >= ms || sigtimedwait(signals, NULL, &pause) > 0)
			return false;
	}
	return true;
}

void shutdown_vms(struct host *host, uint64_t wait_ms, const sigset_t *signals)
{
	struct pressed p = {0};
	sigset_t none;
	bool off;

	sigemptyset(&none);
	off = wait_for_none(host, wait_ms, &p, signals);
	free(p.pids);
	if (off)
		return;
	end_all(host, HOST_STOP_VM);
	if (wait_for_none(host, END_MS, NULL, &none))
		return;
	end_all(host, HOST_STOP_KILL);
	(void)wait_for_none(host, END_MS, NULL, &none);
}

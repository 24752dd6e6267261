/* SPDX-License-Identifier: Apache-2.0 */
/* What happens, told to whoever made the host. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include <base/clock.h>
#include <host/host_impl.h>
#include <mem/link_msg.h>

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
	[HOST_EVENT_SWAP_FAILED] = "swapFailed",
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

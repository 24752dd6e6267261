/* SPDX-License-Identifier: Apache-2.0 */
/* The balloons of VMs: what drivers are thought of, what is asked of them. */
#include <errno.h>

#include <base/clock.h>
#include <host/host_impl.h>
#include <mem/link_msg.h>

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t held_pages(const struct hvm *vm)
{
	return min(physmap_counts(vm->mem->map).pages[PHYSMAP_BALLOON],
		   vm->set.size_pages);
}

/* A time to come would keep old statistics fresh. */
static uint64_t stats_ms(const struct hvm *vm)
{
	const uint64_t at = atomic_load(&vm->mem->counters->balloon_stats_ms);

	return at > monotonic_ms() ? 0 : at;
}

static const char *const driver_words[] = {
	[BALLOON_NONE] = "has no balloon driver",
	[BALLOON_READY] = "has a balloon driver",
	[BALLOON_STUCK] = "has a balloon driver that is stuck",
};

void hvm_balloon_found(struct hvm *vm)
{
	vm->balloon_sent = held_pages(vm);
	vm->balloon_untold = true;
}

void hvm_balloon_judge(struct hvm *vm)
{
	struct link_counters *c = vm->mem->counters;
	const struct balloon_watch before = vm->balloon;
	const struct balloon_report report = {
		.now_ms = monotonic_ms(),
		.present = atomic_load(&c->balloon_present),
		.target_pages = vm->balloon_sent,
		.actual_pages = held_pages(vm),
		.stats_ms = stats_ms(vm),
		.has_stats = atomic_load(&c->balloon_stats_ms),
		.available_pages = atomic_load(&c->balloon_available),
		.ooms = atomic_load(&c->balloon_ooms),
	};

	balloon_watch_update(&vm->balloon, &report, vm->set.size_pages);
	if (vm->balloon.driver != before.driver)
		host_tell(vm->host, HOST_EVENT_BALLOON, vm->set.name, "VM %s %s",
			  vm->set.name, driver_words[vm->balloon.driver]);
	if (vm->balloon.distress && !before.distress)
		host_tell(vm->host, HOST_EVENT_BALLOON, vm->set.name,
			  "VM %s is in distress: its balloon is let out",
			  vm->set.name);
}

void hvm_balloon_send(struct hvm *vm)
{
	const uint64_t target = min(vm->action.balloon_target_pages,
				    vm->set.size_pages);
	struct link_msg msg;

	if ((target == vm->balloon_sent && !vm->balloon_untold) ||
	    vm->state != HOST_VM_RUNNING)
		return;
	link_msg_init(&msg, LINK_BALLOON, target);
	if (link_send(vm->sock, &msg, NULL, 0))
		return;
	vm->balloon_sent = target;
	vm->balloon_untold = false;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The balloons of VMs: what drivers are thought of, what is asked of them, sweeping. */
#include <errno.h>

#include <base/arith.h>
#include <base/clock.h>
#include <host/host_impl.h>
#include <mem/link_msg.h>

static uint64_t held_pages(const struct hvm *vm)
{
	return min_u64(physmap_counts(vm->mem->map).pages[PHYSMAP_BALLOON],
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

uint64_t hvm_balloon_base(const struct hvm *vm)
{
	return sub_u64(vm->balloon_sent, vm->sweep_sent);
}

void hvm_balloon_send(struct hvm *vm)
{
	const uint64_t base = min_u64(vm->action.balloon_target_pages,
				      vm->set.size_pages);
	const uint64_t extra = min_u64(vm->sweep.extra_pages,
				       vm->set.size_pages - base);
	struct link_msg msg;

	if (vm->state != HOST_VM_RUNNING ||
	    (base + extra == vm->balloon_sent && extra == vm->sweep_sent &&
	     !vm->balloon_untold))
		return;
	link_msg_init(&msg, LINK_BALLOON, base + extra);
	if (link_send(vm->sock, &msg, NULL, 0))
		return;
	vm->balloon_sent = base + extra;
	vm->sweep_sent = extra;
	vm->balloon_untold = false;
}

/* Small pieces would break up large pages, so those that are wanted stay whole. */
static bool keeps_large(const struct hvm *vm)
{
	return atomic_load(&vm->mem->counters->large) && !vm->breaks_large;
}

bool hvm_sweep(struct hvm *vm)
{
	struct link_counters *c = vm->mem->counters;
	const struct physmap_counts counts = physmap_counts(vm->mem->map);
	const uint64_t size = vm->set.size_pages;
	const struct sweep_report report = {
		.now_ms = monotonic_ms(),
		.size_pages = size,
		.base_pages = hvm_balloon_base(vm),
		.balloon_pages = held_pages(vm),
		.empty_pages = min_u64(counts.pages[PHYSMAP_ZERO] +
					       vmmem_untouched_pages(vm->mem),
				       size),
		.stats_ms = stats_ms(vm),
		.free_pages = min_u64(atomic_load(&c->balloon_free), size),
		.available_pages = min_u64(atomic_load(&c->balloon_available),
					   size),
		.ooms = atomic_load(&c->balloon_ooms),
		.allowed = vm->balloon.driver == BALLOON_READY &&
			   vm->balloon.stats_valid && !vm->balloon.distress &&
			   !vm->action.reclaim_pages && !vm->balloon_untold &&
			   !atomic_load(&c->want) && !keeps_large(vm),
	};

	sweep_update(&vm->sweep, &report, &vm->host->options);
	if (vm->sweep.extra_pages != vm->sweep_sent)
		hvm_balloon_send(vm);
	return vm->sweep.phase != SWEEP_REST;
}

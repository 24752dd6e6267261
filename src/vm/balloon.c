/* SPDX-License-Identifier: Apache-2.0 */
/* The balloon of a VM: the host's target in, what the guest says of its memory out. */
#include <time.h>

#include <base/clock.h>
#include <vm/vm_impl.h>

/* Statistics are no use to anybody if they are older than a few of these. */
#define ASK_NS   UINT64_C(2000000000)
#define AGAIN_NS UINT64_C(50000000)

/*
 * The host wants to know what each step of the balloon means to the guest before it decides on
 * the next one. So it is asked at the end of each.
 */
static bool is_step_done(const struct vm *vm)
{
	return vm->balloon_moving &&
	       physmap_counts(guestmem_physmap(vm->mem)).pages[PHYSMAP_BALLOON] ==
		       vm->balloon_seen;
}

/* Under KVM nobody looks after the balloon meanwhile. */
static void look_if_done(struct vm *vm)
{
	if (is_step_done(vm))
		vm_kick(vm);
}

static void on_moved(void *ctx, uint64_t pages)
{
	struct vm *vm = ctx;

	(void)pages;
	if (vm->link)
		link_update_counters(vm->link);
	look_if_done(vm);
}

static void on_statistics(void *ctx, const struct virtio_balloon_guest *guest)
{
	struct vm *vm = ctx;
	struct link_counters *c;

	/* It can be asked again now, if these are older than the step. */
	vm->balloon_again_ns = 0;
	look_if_done(vm);
	if (!vm->link)
		return;
	c = link_counters(vm->link);
	atomic_store(&c->balloon_total, guest->total_pages);
	atomic_store(&c->balloon_available, guest->available_pages);
	atomic_store(&c->balloon_free, guest->free_pages);
	/* Last: the others are as new as this says. */
	atomic_store(&c->balloon_stats_ms, monotonic_ms());
}

static const struct virtio_balloon_ops ops = {
	.given = on_moved,
	.taken = on_moved,
	.statistics = on_statistics,
};

int vm_balloon_add(struct vm *vm, unsigned int slot, const struct irq_line *line,
		   const struct virtio_report *report, struct err *err)
{
	const int r = virtio_balloon_new(vm->mem, report, &ops, vm,
					 &vm->balloon, err);

	if (r)
		return r;
	atomic_store(&vm->balloon_target, vm->cfg->balloon_bytes / PAGE_SIZE);
	return virtio_mmio_attach(virtio_balloon_dev(vm->balloon), vm->bus,
				  slot, line, err);
}

void vm_balloon_target(struct vm *vm, uint64_t pages)
{
	atomic_store(&vm->balloon_target, pages);
	vm_kick(vm);
}

static void look_at_target(struct vm *vm)
{
	const uint64_t target = atomic_load_explicit(&vm->balloon_target,
						     memory_order_relaxed);

	if (target != vm->balloon_seen) {
		vm->balloon_seen = target;
		vm->balloon_moving = true;
		virtio_balloon_set_target(vm->balloon, target);
	}
}

static void ask(struct vm *vm, uint64_t now)
{
	const bool done = now >= vm->balloon_again_ns && is_step_done(vm);

	if (now < vm->balloon_due_ns && !done)
		return;
	vm->balloon_due_ns = now + ASK_NS;
	if (!virtio_balloon_ask(vm->balloon))
		vm->balloon_again_ns = now + AGAIN_NS;
	else if (done)
		vm->balloon_moving = false;
}

uint64_t vm_balloon_poll(struct vm *vm, uint64_t now)
{
	if (!vm->balloon)
		return UINT64_MAX;
	look_at_target(vm);
	/* Repeatable runs are not asked for what changes nothing. */
	if (vm->cfg->clock == VM_CLOCK_INSTRUCTIONS)
		return UINT64_MAX;
	ask(vm, now);
	if (vm->link) {
		struct link_counters *c = link_counters(vm->link);

		atomic_store_explicit(&c->balloon_present,
				      virtio_balloon_present(vm->balloon),
				      memory_order_relaxed);
		atomic_store_explicit(&c->balloon_ooms,
				      virtio_balloon_stats(vm->balloon)->ooms,
				      memory_order_relaxed);
	}
	return vm->balloon_due_ns;
}

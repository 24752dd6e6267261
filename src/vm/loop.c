/* SPDX-License-Identifier: Apache-2.0 */
/* The processor's thread: slices of execution, and between them timers, interrupts and requests. */
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <vm/vm_impl.h>

void vm_kick(struct vm *vm)
{
	atomic_store(&vm->kicked, true);
	if (atomic_load(&vm->asleep)) {
		const uint64_t one = 1;
		/* The only failure is a full counter, and then it is readable already. */
		const ssize_t n = write(vm->kick_fd, &one, sizeof(one));

		(void)n;
	}
}

void vm_request_end(struct vm *vm, enum vm_end end)
{
	if (vm->end == VM_END_NONE)
		vm->end = end;
	atomic_store(&vm->over, true);
}

void vm_finish(struct vm *vm)
{
	pthread_mutex_lock(&vm->device_lock);
	vm_request_end(vm, VM_END_STOPPED);
	serial_flush(&vm->serial);
	pthread_mutex_unlock(&vm->device_lock);
	vm->end_ns = vm->clock.now_ns(vm);
	vm->cb->ended(vm->ctx);
}

void vm_tell_stopped(struct vm *vm, uint64_t now)
{
	if (vm->seen_ns && now - vm->seen_ns > VM_STOPPED_NS)
		kvmclock_tell_stopped(&vm->kvmclock);
	vm->seen_ns = now;
}

/*
 * Timers, then the interrupt that is due, if the processor takes one. Return: one waits, or a
 * device has more to do.
 */
static bool serve_interrupts(struct vm *vm)
{
	const uint64_t now = vm->clock.now_ns(vm);
	bool owes;
	int vector;

	vm_tell_stopped(vm, now);
	pthread_mutex_lock(&vm->device_lock);
	lapic_poll(&vm->lapic, now, now);
	vm_balloon_poll(vm, now);
	vm_power_poll(vm);
	vm_net_poll(vm);
	owes = vm_virtio_poll(vm);
	vector = lapic_pending(&vm->lapic);
	if (vector >= 0 && vm->engine_ops->can_interrupt(vm->engine)) {
		lapic_accept(&vm->lapic, vector);
		pthread_mutex_unlock(&vm->device_lock);
		vm->engine_ops->interrupt(vm->engine, (uint8_t)vector);
		vm->engine_ops->want_interrupt(vm->engine, false);
		return true;
	}
	if (now - vm->flushed_ns > VM_FLUSH_NS) {
		serial_flush(&vm->serial);
		vm->flushed_ns = now;
	}
	pthread_mutex_unlock(&vm->device_lock);
	vm->engine_ops->want_interrupt(vm->engine, vector >= 0);
	return vector >= 0 || owes;
}

static void drain_kick(struct vm *vm)
{
	uint64_t n;
	const ssize_t r = read(vm->kick_fd, &n, sizeof(n));

	(void)r; /* nothing there is fine: the descriptor does not block */
}

static uint64_t next_event(struct vm *vm, uint64_t now)
{
	uint64_t due;

	pthread_mutex_lock(&vm->device_lock);
	serial_flush(&vm->serial);
	vm->flushed_ns = now;
	due = lapic_next_event_ns(&vm->lapic, now, now);
	if (vm->balloon_due_ns < due && vm->cfg->clock == VM_CLOCK_HOST &&
	    vm->balloon)
		due = vm->balloon_due_ns;
	pthread_mutex_unlock(&vm->device_lock);
	return due;
}

/* Sleep until @due, a kick or the network. */
static void sleep_until(struct vm *vm, uint64_t now, uint64_t due)
{
	struct pollfd fds[] = {{.fd = vm->kick_fd, .events = POLLIN},
			       vm_net_pollfd(vm)};
	struct timespec t = {0}, *timeout = NULL;

	if (due != LAPIC_NEVER) {
		const uint64_t ns = due > now ? due - now : 0;

		t.tv_sec = (time_t)(ns / 1000000000);
		t.tv_nsec = (long)(ns % 1000000000);
		timeout = &t;
	}
	atomic_store(&vm->asleep, true);
	if (!atomic_load(&vm->kicked) && !guestmem_pending(vm->mem) &&
	    !atomic_load(&vm->stop))
		ppoll(fds, ARRAY_SIZE(fds), timeout, NULL);
	atomic_store(&vm->asleep, false);
	drain_kick(vm);
}

/* HLT: nothing to execute until an interrupt. */
static void idle(struct vm *vm)
{
	const uint64_t now = vm->clock.now_ns(vm);
	const uint64_t due = next_event(vm, now);

	vm->halts++;
	if (vm->cfg->clock == VM_CLOCK_INSTRUCTIONS && due != LAPIC_NEVER) {
		vm->skipped_ns += due > now ? due - now : 0;
		vm->seen_ns = vm->clock.now_ns(vm);
		return;
	}
	sleep_until(vm, now, due);

	const uint64_t after = vm->clock.now_ns(vm);

	vm->idle_ns += after - now;
	/* What it overslept, it was held up. */
	vm->seen_ns = after <= due ? after : due > now ? due : now;
}

static void audit(struct vm *vm)
{
	if (!vm->cfg->audit_every || vm->slices % vm->cfg->audit_every)
		return;
	const int64_t n = vm->engine_ops->audit(vm->engine, &vm->failure);

	if (n < 0)
		vm_request_end(vm, VM_END_AUDIT);
	else
		vm->audited += (uint64_t)n;
}

static void handle_exit(struct vm *vm, enum engine_exit exit)
{
	switch (exit) {
	case ENGINE_EXIT_SLICE:
		break;
	case ENGINE_EXIT_HALT:
		atomic_store(&vm->kicked, false);
		guestmem_service(vm->mem);
		if (!serve_interrupts(vm))
			idle(vm);
		break;
	case ENGINE_EXIT_SHUTDOWN:
		vm_request_end(vm, VM_END_SHUTDOWN);
		break;
	case ENGINE_EXIT_STOPPED:
		vm_request_end(vm, atomic_load(&vm->stop) ? VM_END_STOPPED
							  : VM_END_MEMORY);
		break;
	case ENGINE_EXIT_BAD_FETCH:
		vm_request_end(vm, VM_END_BAD_FETCH);
		break;
	case ENGINE_EXIT_FAILED:
		vm_request_end(vm, VM_END_ENGINE);
		break;
	}
}

void *vm_loop(void *arg)
{
	struct vm *vm = arg;

	if (vm->link)
		link_set_processor(vm->link);
	while (vm->end == VM_END_NONE && !atomic_load(&vm->stop)) {
		guestmem_service(vm->mem);
		serve_interrupts(vm);
		handle_exit(vm, vm->engine_ops->run(vm->engine));
		vm->slices++;
		if (vm->link && vm->engine_ops->page_root)
			link_tell_page_root(vm->link, vm->engine_ops->page_root(
							      vm->engine));
		audit(vm);
	}
	vm_finish(vm);
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads of a VM whose engine has interrupt controllers of its own: one for each processor,
 * and the VM's, which looks after the balloon and the end.
 *
 * A processor in the kernel's hands cannot be seen to stand still. But the VM's thread wakes
 * twice a second: when it was not seen at work for long, the whole process was held up, and
 * so are the processors, each of which comes back from the kernel for the signal that ended
 * that. (Waits for memory are told by the engine.)
 *
 * LIMIT: the guest is not told if the host had no time for a processor's thread alone.
 */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <base/thread.h>
#include <vm/vm_impl.h>

#define NEVER    UINT64_MAX
#define ALIVE_MS 500

struct cpu_thread {
	struct vm *vm;
	unsigned int cpu;
	pthread_t thread;
};

static bool is_over(struct vm *vm)
{
	return atomic_load(&vm->over) || atomic_load(&vm->stop);
}

static void end(struct vm *vm, enum vm_end how)
{
	pthread_mutex_lock(&vm->device_lock);
	vm_request_end(vm, how);
	pthread_mutex_unlock(&vm->device_lock);
}

static void handle_exit(struct vm *vm, enum engine_exit exit)
{
	switch (exit) {
	case ENGINE_EXIT_SLICE:
	case ENGINE_EXIT_HALT:
		break;
	case ENGINE_EXIT_SHUTDOWN:
		end(vm, VM_END_SHUTDOWN);
		break;
	case ENGINE_EXIT_STOPPED:
		end(vm, atomic_load(&vm->stop) ? VM_END_STOPPED : VM_END_MEMORY);
		break;
	case ENGINE_EXIT_BAD_FETCH:
		end(vm, VM_END_BAD_FETCH);
		break;
	case ENGINE_EXIT_FAILED:
		end(vm, VM_END_ENGINE);
		break;
	}
}

static void tell_if_stopped(struct vm *vm)
{
	const uint64_t now = vm->clock.now_ns(vm);
	uint64_t seen = atomic_load(&vm->alive_ns);

	/* One of them tells all. */
	if (now > seen && now - seen > VM_STOPPED_NS &&
	    atomic_compare_exchange_strong(&vm->alive_ns, &seen, now))
		vm->engine_ops->tell_stopped(vm->engine);
}

static void tell_root(struct vm *vm)
{
	if (atomic_exchange(&vm->root_wanted, false))
		link_tell_page_root(vm->link,
				    vm->engine_ops->page_root(vm->engine));
}

static void *cpu_loop(void *arg)
{
	struct cpu_thread *t = arg;
	struct vm *vm = t->vm;

	if (vm->link && !t->cpu)
		link_set_processor(vm->link);
	while (!is_over(vm)) {
		handle_exit(vm, vm->engine_ops->run_cpu(vm->engine, t->cpu));
		tell_if_stopped(vm);
		if (!t->cpu)
			tell_root(vm);
	}
	vm->engine_ops->leave_cpu(vm->engine, t->cpu);
	vm_kick(vm);
	return NULL;
}

static bool start_cpu(struct vm *vm, struct cpu_thread *t, unsigned int cpu)
{
	int r;

	*t = (struct cpu_thread){.vm = vm, .cpu = cpu};
	r = thread_start(&t->thread, cpu_loop, t);
	if (!r)
		return true;
	err_set(&vm->failure, -r, "no thread for processor %u: %s", cpu,
		strerror(r));
	end(vm, VM_END_ENGINE);
	return false;
}

/* Output that has waited for the rest of its line. Return: when to look again. */
static uint64_t flush_output(struct vm *vm, uint64_t now)
{
	if (now < vm->flush_due_ns && serial_unsent(&vm->serial))
		return vm->flush_due_ns;
	serial_flush(&vm->serial);
	vm->flush_due_ns = 0;
	return NEVER;
}

/* What is due without anybody asking. Return: when to look again. */
static uint64_t look_after(struct vm *vm)
{
	const uint64_t now = vm->clock.now_ns(vm);
	uint64_t due, flush_due;

	pthread_mutex_lock(&vm->device_lock);
	due = vm_balloon_poll(vm, now);
	vm_power_poll(vm);
	vm_net_poll(vm);
	if (!vm->balloon)
		due = NEVER;
	if (vm_virtio_poll(vm))
		due = 0;
	flush_due = flush_output(vm, now);
	pthread_mutex_unlock(&vm->device_lock);
	return flush_due < due ? flush_due : due;
}

/* Leaves its mark meanwhile, which is no reason to look at anything else. */
static void sleep_until(struct vm *vm, uint64_t due)
{
	struct pollfd fds[] = {{.fd = vm->kick_fd, .events = POLLIN},
			       vm_net_pollfd(vm)};
	uint64_t n;

	atomic_store(&vm->asleep, true);
	while (!atomic_load(&vm->kicked) && !is_over(vm)) {
		const uint64_t now = vm->clock.now_ns(vm);
		const uint64_t left = due > now ? due - now : 0;
		const bool is_last = left < ALIVE_MS * UINT64_C(1000000);

		atomic_store(&vm->alive_ns, now);
		if (poll(fds, ARRAY_SIZE(fds),
			 is_last ? (int)(left / 1000000) + 1 : ALIVE_MS) ||
		    is_last)
			break;
	}
	atomic_store(&vm->asleep, false);
	atomic_store(&vm->kicked, false);

	const ssize_t r = read(vm->kick_fd, &n, sizeof(n));

	(void)r; /* nothing there is fine: the descriptor does not block */
}

static void audit(struct vm *vm)
{
	int64_t n;

	if (!vm->cfg->audit_every)
		return;
	pthread_mutex_lock(&vm->device_lock);
	n = vm->engine_ops->audit(vm->engine, &vm->failure);
	if (n < 0)
		vm_request_end(vm, VM_END_AUDIT);
	else
		vm->audited += (uint64_t)n;
	pthread_mutex_unlock(&vm->device_lock);
}

static void end_cpus(struct vm *vm, struct cpu_thread *threads, unsigned int n)
{
	pthread_mutex_lock(&vm->device_lock);
	vm->engine_ops->stop(vm->engine);
	pthread_mutex_unlock(&vm->device_lock);
	for (unsigned int i = 0; i < n; i++)
		pthread_join(threads[i].thread, NULL);
}

static void run_cpus(struct vm *vm, struct cpu_thread *threads)
{
	const unsigned int n_cpus = vm->cfg->features.n_cpus;
	unsigned int n = 0;

	atomic_store(&vm->alive_ns, vm->clock.now_ns(vm));
	while (n < n_cpus && start_cpu(vm, &threads[n], n))
		n++;
	while (!is_over(vm)) {
		atomic_store(&vm->alive_ns, vm->clock.now_ns(vm));
		sleep_until(vm, look_after(vm));
		audit(vm);
	}
	end_cpus(vm, threads, n);
}

void *vm_vcpus_loop(void *arg)
{
	struct vm *vm = arg;
	struct cpu_thread *threads = calloc(vm->cfg->features.n_cpus,
					    sizeof(*threads));

	if (threads)
		run_cpus(vm, threads);
	free(threads);
	vm_finish(vm);
	return NULL;
}

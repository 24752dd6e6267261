/* SPDX-License-Identifier: Apache-2.0 */
/* Making, starting and ending a VM. */
#include <vm/vm.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/thread.h>
#include <boot/cmdline.h>
#include <dev/acpi.h>
#include <engine/probe.h>
#include <vm/exec.h>
#include <vm/vm_impl.h>

static void host_stops(void *ctx)
{
	vm_stop(ctx);
}

static void host_sets_balloon(void *ctx, uint64_t pages)
{
	vm_balloon_target(ctx, pages);
}

static void host_presses_power(void *ctx)
{
	vm_press_power(ctx);
}

static void host_sets_large(void *ctx, bool on)
{
	struct vm *vm = ctx;

	pthread_mutex_lock(&vm->large_lock);
	vm->broken_large = !on;
	if (vm->has_engine && vm->engine_ops->set_large)
		vm->engine_ops->set_large(vm->engine, on);
	pthread_mutex_unlock(&vm->large_lock);
}

/* An engine whose processors tell it by themselves is not asked. */
static bool host_wants_root(void *ctx)
{
	struct vm *vm = ctx;
	bool asked = false;

	pthread_mutex_lock(&vm->large_lock);
	if (vm->has_engine && vm->engine_ops->run_cpu) {
		atomic_store(&vm->root_wanted, true);
		vm->engine_ops->kick(vm->engine);
		asked = true;
	}
	pthread_mutex_unlock(&vm->large_lock);
	return asked;
}

static const struct link_hooks link_hooks = {
	.power = host_presses_power,
	.balloon = host_sets_balloon,
	.stop = host_stops,
	.large = host_sets_large,
	.root = host_wants_root,
};

/* How long a VM that was told to wait for a host does so. */
#define LINK_WAIT_MS 10000

static int make_memory(struct vm *vm, struct err *err)
{
	int r = guestmem_new(vm->cfg->memory_bytes, &vm->mem, err);

	if (!r && vm->cfg->memory_limit_bytes)
		guestmem_set_limit(vm->mem,
				   vm->cfg->memory_limit_bytes / PAGE_SIZE);
	if (r || !vm->cfg->link_dir)
		return r;
	r = link_new(vm->mem, vm->cfg->link_dir, &link_hooks, vm, &vm->link,
		     err);
	return r ? r : link_wait(vm->link, LINK_WAIT_MS, err);
}

/* What only our own processor can do decides without a look at the host. */
static bool needs_soft(const struct vm_config *cfg)
{
	return cfg->clock == VM_CLOCK_INSTRUCTIONS || cfg->mmu != VM_MMU_AUTO;
}

static int new_engine(struct vm *vm, const struct engine_ops *ops,
		      const struct engine_config *cfg, struct err *err)
{
	int r;

	vm->engine_ops = ops;
	if (cfg->features.n_cpus > ops->max_cpus)
		return err_set(err, -EINVAL,
			       "--cpus %u: the %s engine runs at most %u",
			       cfg->features.n_cpus, ops->name, ops->max_cpus);
	r = ops->new (cfg, &vm->engine, err);
	if (r)
		return r;
	pthread_mutex_lock(&vm->large_lock);
	vm->has_engine = true;
	if (vm->link && ops->set_large) {
		atomic_store(&link_counters(vm->link)->large, 1);
		/* The host may have spoken before there was an engine to listen. */
		ops->set_large(vm->engine, !vm->broken_large);
	}
	pthread_mutex_unlock(&vm->large_lock);
	return 0;
}

static int new_soft(struct vm *vm, const struct engine_config *cfg,
		    const char *why, struct err *err)
{
	snprintf(vm->engine_why, sizeof(vm->engine_why), "%s", why);
	return new_engine(vm, &engine_soft, cfg, err);
}

/* It finds out itself whether the host's KVM is usable; if not, ours takes over. */
static int new_kvm(struct vm *vm, const struct engine_config *cfg,
		   struct err *err)
{
	struct probe_verdict verdict = {0};
	struct engine_config kvm = *cfg;
	int r;

	kvm.verdict = &verdict;
	r = new_engine(vm, &engine_kvm, &kvm, err);
	if (r && !verdict.usable && *verdict.why) {
		if (vm->cfg->engine != VM_ENGINE_KVM)
			return new_soft(vm, cfg, verdict.why, err);
		return err_set(err, r, "--engine kvm: %s", verdict.why);
	}
	snprintf(vm->engine_why, sizeof(vm->engine_why), "%s", verdict.why);
	return r;
}

static int choose_engine(struct vm *vm, const struct engine_config *cfg,
			 struct err *err)
{
	const bool soft = needs_soft(vm->cfg);

	if (soft && vm->cfg->engine == VM_ENGINE_KVM)
		return err_set(
			err, -EINVAL,
			"--clock instructions and --mmu need --engine soft");
	if (vm->cfg->engine == VM_ENGINE_SOFT)
		return new_soft(vm, cfg, "as asked for", err);
	if (soft)
		return new_soft(vm, cfg, "the options need our own processor",
				err);
	return new_kvm(vm, cfg, err);
}

/* What --mmu auto takes, and why; it is settled for the whole run. */
static const char *why_mmu(const struct vm *vm)
{
	if (vm->engine_ops == &engine_kvm)
		return "the host's processor and KVM decide";
	if (vm->cfg->mmu != VM_MMU_AUTO)
		return "as asked for";
	return "auto: changes of the guest's page tables cost nothing";
}

static void tell_engine(const struct vm *vm)
{
	struct link_counters *c = link_counters(vm->link);
	const bool kvm = vm->engine_ops == &engine_kvm;

	atomic_store(&c->engine, kvm ? LINK_ENGINE_KVM : LINK_ENGINE_SOFT);
	atomic_store(&c->mmu, kvm ? LINK_MMU_HOST
			      : vm->cfg->mmu_options.mode == MMU_SOFTWARE
				      ? LINK_MMU_SOFTWARE
				      : LINK_MMU_HARDWARE);
}

static void wake(void *io_ctx)
{
	vm_kick(io_ctx);
}

static int make_engine(struct vm *vm, struct err *err)
{
	const struct engine_config cfg = {
		.mem = vm->mem,
		.io = &vm_io_ops,
		.wake = wake,
		.io_ctx = vm,
		.mmu = vm->cfg->mmu_options,
		.features = vm->cfg->features,
		.lock = &vm->device_lock,
		.large_pages = true,
	};
	const int r = choose_engine(vm, &cfg, err);

	if (r)
		return r;
	vm->mmu_why = why_mmu(vm);
	if (vm->link)
		tell_engine(vm);
	return 0;
}

static char *base_line(const struct vm *vm)
{
	const char *append = vm->cfg->append ? vm->cfg->append : "";
	char *line;

	if (vm->cfg->bare)
		return strdup(append);
	if (asprintf(&line, "%s%s%s", BOOT_CMDLINE_DEFAULT, *append ? " " : "",
		     append) < 0)
		return NULL;
	return line;
}

/* The words of a command come last, and so win. */
static char *command_line(const struct vm *vm)
{
	char *base = base_line(vm);
	char *words, *line = NULL;

	if (!base || !vm->cfg->exec)
		return base;
	words = exec_words(vm->cfg->exec, !isatty(STDIN_FILENO));
	if (words && asprintf(&line, "%s%s", base, words) < 0)
		line = NULL;
	free(words);
	free(base);
	return line;
}

static void *read_kernel(void *arg)
{
	struct vm *vm = arg;

	vm->kernel_result = boot_kernel_new(vm->cfg->kernel, vm->cfg->protocol,
					    &vm->kernel, &vm->kernel_err);
	return NULL;
}

/* Meanwhile others mostly wait for the kernel of the host. Without a thread, boot_load() reads. */
static void start_reading(struct vm *vm)
{
	vm->reads = !thread_start(&vm->reader, read_kernel, vm);
}

static int finish_reading(struct vm *vm, struct err *err)
{
	if (vm->reads)
		pthread_join(vm->reader, NULL);
	vm->reads = false;
	if (vm->kernel_result)
		*err = vm->kernel_err;
	return vm->kernel_result;
}

static int load_kernel(struct vm *vm, struct err *err)
{
	uint8_t seed[BOOT_SEED_BYTES] = {0};
	char *line = command_line(vm);
	struct boot_config cfg = {
		.kernel_path = vm->cfg->kernel,
		.initrd_path = vm->cfg->initrd,
		.cmdline = line,
		.rsdp = gpa(ACPI_BASE),
		.seed = seed,
		.protocol = vm->cfg->protocol,
	};
	int r;

	if (!line)
		return err_set(err, -ENOMEM, "no memory for the command line");
	if (vm->cfg->clock == VM_CLOCK_HOST &&
	    getrandom(seed, sizeof(seed), 0) != sizeof(seed))
		cfg.seed = NULL;
	r = finish_reading(vm, err);
	if (!r) {
		cfg.kernel = vm->kernel;
		r = boot_load(vm->mem, &cfg, &vm->boot, err);
	}
	vm->kernel = boot_kernel_free(vm->kernel);
	free(line);
	return r;
}

int vm_new(const struct vm_config *cfg, const struct vm_callbacks *cb,
	   void *ctx, struct vm **ret_vm, struct err *err)
{
	struct vm *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm)
		return err_set(err, -ENOMEM, "no memory for a VM");
	vm->cfg = cfg;
	vm->cb = cb;
	vm->ctx = ctx;
	pthread_mutex_init(&vm->device_lock, NULL);
	pthread_mutex_init(&vm->large_lock, NULL);
	vm->status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
	vm->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	start_reading(vm);
	r = vm->kick_fd < 0
		    ? err_set(err, -errno, "eventfd: %s", strerror(errno))
		    : make_memory(vm, err);
	if (!r)
		r = make_engine(vm, err);
	if (!r)
		r = vm_devices_init(vm, err);
	if (!r)
		r = vm_acpi_build(vm, err);
	if (!r)
		r = load_kernel(vm, err);
	if (!r)
		r = vm->engine_ops->boot(vm->engine, &vm->boot, err);
	if (r) {
		vm_free(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

struct vm *vm_free(struct vm *vm)
{
	struct err ignored;

	if (!vm)
		return NULL;
	(void)!finish_reading(vm, &ignored);
	boot_kernel_free(vm->kernel);
	vm_devices_release(vm);
	pthread_mutex_lock(&vm->large_lock);
	vm->has_engine = false;
	pthread_mutex_unlock(&vm->large_lock);
	if (vm->engine_ops)
		vm->engine_ops->free(vm->engine);
	vm->link = link_free(vm->link);
	guestmem_free(vm->mem);
	if (vm->kick_fd >= 0)
		close(vm->kick_fd);
	if (vm->status_fd >= 0)
		close(vm->status_fd);
	pthread_mutex_destroy(&vm->device_lock);
	pthread_mutex_destroy(&vm->large_lock);
	free(vm);
	return NULL;
}

int vm_start(struct vm *vm, struct err *err)
{
	int r = 0;

	vm->start_ns = monotonic_ns();
	kvmclock_update(&vm->kvmclock, NULL);
	if (vm->cfg->revoke_stress)
		r = revoke_stress_start(vm->mem, vm->cfg->revoke_stress,
					vm->cfg->revoke_seed, &vm->stress, err);
	if (r)
		return r;
	r = thread_start(&vm->thread,
			 vm->engine_ops->run_cpu ? vm_vcpus_loop : vm_loop, vm);
	if (r) {
		vm->stress = revoke_stress_stop(vm->stress);
		return err_set(err, -r, "no thread for the processor: %s",
			       strerror(r));
	}
	vm->started = true;
	if (vm->link)
		link_tell_up(vm->link);
	return 0;
}

void vm_stop(struct vm *vm)
{
	atomic_store(&vm->stop, true);
	guestmem_stop(vm->mem);
	vm_kick(vm);
}

enum vm_end vm_join(struct vm *vm)
{
	if (vm->started) {
		pthread_join(vm->thread, NULL);
		vm->started = false;
	}
	if (vm->stress) {
		vm->stress_stats = revoke_stress_stats(vm->stress);
		vm->stress = revoke_stress_stop(vm->stress);
	}
	return vm->end;
}

int vm_exit_status(const struct vm *vm)
{
	return vm->exit_status;
}

void vm_end_text(const struct vm *vm, char *buf, size_t size)
{
	const unsigned long long rip = (unsigned long long)vm->engine_ops->rip(
		vm->engine);

	switch (vm->end) {
	case VM_END_NONE:
		snprintf(buf, size, "the guest has not ended");
		break;
	case VM_END_POWER_OFF:
		snprintf(buf, size, "the guest switched itself off");
		break;
	case VM_END_RESET:
		snprintf(buf, size, "the guest asked for a reset");
		break;
	case VM_END_PANIC:
		snprintf(buf, size, "the guest panicked");
		break;
	case VM_END_EXIT_PORT:
		snprintf(buf, size, "the guest ended with status %d",
			 vm->exit_status);
		break;
	case VM_END_SHUTDOWN:
		if (rip == ENGINE_RIP_UNKNOWN)
			snprintf(buf, size, "the guest ended in a triple fault");
		else
			snprintf(buf, size,
				 "the guest ended in a triple fault at RIP 0x%llx",
				 rip);
		break;
	case VM_END_BAD_FETCH:
		snprintf(buf, size,
			 "the guest jumped to 0x%llx, where there is no memory (guest physical 0x%llx)",
			 rip,
			 (unsigned long long)vm->engine_ops
				 ->bad_fetch(vm->engine)
				 .v);
		break;
	case VM_END_MEMORY:
		snprintf(buf, size, "the host has no memory left for the guest");
		break;
	case VM_END_STOPPED:
		snprintf(buf, size, "the guest was stopped");
		break;
	case VM_END_AUDIT:
		snprintf(buf, size, "an audit found a wrong translation: %s",
			 vm->failure.text);
		break;
	case VM_END_ENGINE:
		snprintf(buf, size, "%s (RIP 0x%llx)",
			 *vm->failure.text ? vm->failure.text
					   : vm->engine_ops->failure(vm->engine),
			 rip);
		break;
	}
}

size_t vm_console_input(struct vm *vm, const uint8_t *bytes, size_t len)
{
	size_t n = 0;

	pthread_mutex_lock(&vm->device_lock);
	/* Before init has set the terminal up for a command, it would echo and edit. */
	if (!vm->cfg->exec || vm->power.has_told)
		n = serial_receive(&vm->serial, bytes, len);
	pthread_mutex_unlock(&vm->device_lock);
	vm_kick(vm);
	return n;
}

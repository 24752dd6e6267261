/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine that runs on the host's KVM.
 *
 * Local APICs, the I/O APIC and the paravirtual clock are the kernel's, so a processor
 * comes back for port and device accesses only. Each processor has a thread of the VM's,
 * which calls kvm_run_cpu() again and again; everything that they share is behind the
 * lock of struct engine_config.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/verify.h>
#include <engine/engine.h>
#include <engine/kvm_backing.h>
#include <engine/kvm_cpuid.h>
#include <engine/kvm_retry.h>
#include <engine/kvm_window.h>
#include <engine/probe.h>
#include <engine/thread_kick.h>
#include <mem/machine.h>

/* Three pages that Intel's processors need below 4 GiB, and the identity map after them. */
#define TSS_ADDR      UINT64_C(0xfffbd000)
#define IDENTITY_ADDR UINT64_C(0xfffbc000)
/* Write-back for everything, as firmware would have left it. */
#define MTRR_WRITE_BACK (UINT64_C(1) << 11 | 6)
#define RESET_RIP       0xfff0
#define RESET_CS_BASE   0xffff0000
#define KVM_CPUS_MAX    16
/* A device that keeps a processor for less does its usual work. */
#define HELD_UP_NS UINT64_C(10000000)

/* Members: I immutable, T its thread, a atomic. */
struct vcpu {
	int fd;              /* I */
	struct kvm_run *run; /* I shared with the kernel */
	pthread_t thread; /* of who is in kvm_run_cpu(), once @running was set */
	bool running;     /* under kick_lock */
	bool entered;     /* T */
	_Atomic bool stopped; /* a the guest is to be told that it was held up */
	uint64_t left_ns;     /* T when it came back from KVM; 0: never */
	uint64_t away_ns; /* T how long devices held it up since the guest was told */
	struct kvm_retry retry; /* T */
	uint64_t pio;           /* T */
	uint64_t mmio;          /* T */
	uint64_t mmio_ram;      /* T of pages whose view was being changed */
	uint64_t kicks;         /* T */
	uint64_t stops;         /* T */
};

/* Members: I immutable, a atomic. */
struct engine {
	struct engine_config cfg;  /* I */
	int kvm_fd;                /* I */
	int vm_fd;                 /* I */
	size_t run_bytes;          /* I */
	struct kvm_window *window; /* I */
	FILE *smaps;               /* I or NULL; nobody opens it later */
	unsigned int n_cpus;       /* I */
	struct vcpu cpus[KVM_CPUS_MAX];
	_Atomic bool memory_failed; /* a */
	_Atomic uint64_t bad_fetch; /* a guest physical, of ENGINE_EXIT_BAD_FETCH */
	_Atomic bool has_failure;  /* a @failure is complete */
	pthread_mutex_t kick_lock; /* threads stay while it is held */
	pthread_mutex_t failure_lock;
	char failure[256]; /* under failure_lock until has_failure */
};

static void kick_all(struct engine *e)
{
	pthread_mutex_lock(&e->kick_lock);
	for (unsigned int i = 0; i < e->n_cpus; i++) {
		struct vcpu *c = &e->cpus[i];

		/* Ends the next KVM_RUN if the signal comes between two. */
		__atomic_store_n(&c->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		if (c->running)
			thread_kick(c->thread);
	}
	pthread_mutex_unlock(&e->kick_lock);
}

static void memory_failed(void *ctx)
{
	struct engine *e = ctx;

	atomic_store(&e->memory_failed, true);
	kick_all(e);
}

static void kvm_tell_stopped(struct engine *e)
{
	for (unsigned int i = 0; i < e->n_cpus; i++)
		atomic_store(&e->cpus[i].stopped, true);
	kick_all(e);
}

static void window_stalled(void *ctx)
{
	kvm_tell_stopped(ctx);
}

static int fail_errno(struct err *err, const char *what)
{
	return err_set(err, -errno, "%s: %s", what, strerror(errno));
}

static int check_caps(const struct engine *e, struct err *err)
{
	static const struct {
		int cap;
		const char *name;
	} needed[] = {
		{KVM_CAP_IRQCHIP, "in-kernel APICs"},
		{KVM_CAP_USER_MEMORY, "user memory"},
		{KVM_CAP_EXT_CPUID, "CPUID"},
		{KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
		{KVM_CAP_SYNC_MMU, "synchronous MMU"},
		{KVM_CAP_ADJUST_CLOCK, "the paravirtual clock"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(needed); i++)
		if (ioctl(e->kvm_fd, KVM_CHECK_EXTENSION, needed[i].cap) <= 0)
			return err_set(err, -ENOTSUP, "this host's KVM lacks %s",
				       needed[i].name);
	return 0;
}

static int open_kvm(struct engine *e, struct err *err)
{
	e->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (e->kvm_fd < 0)
		return fail_errno(err, "/dev/kvm");
	if (ioctl(e->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return err_set(err, -ENOTSUP, "/dev/kvm speaks another version");

	int r = check_caps(e, err);

	if (r)
		return r;
	do
		e->vm_fd = ioctl(e->kvm_fd, KVM_CREATE_VM, 0);
	while (e->vm_fd < 0 && errno == EINTR);
	return e->vm_fd < 0 ? fail_errno(err, "KVM_CREATE_VM") : 0;
}

static int set_up_vm(struct engine *e, struct err *err)
{
	const uint64_t identity = IDENTITY_ADDR;

	if (ioctl(e->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return fail_errno(err, "KVM_SET_IDENTITY_MAP_ADDR");
	if (ioctl(e->vm_fd, KVM_SET_TSS_ADDR, TSS_ADDR))
		return fail_errno(err, "KVM_SET_TSS_ADDR");
	if (ioctl(e->vm_fd, KVM_CREATE_IRQCHIP, 0))
		return fail_errno(err, "KVM_CREATE_IRQCHIP");
	return 0;
}

static int set_slot(struct engine *e, uint32_t slot, uint64_t guest,
		    uint64_t offset, uint64_t bytes, struct err *err)
{
	struct kvm_userspace_memory_region region = {
		.slot = slot,
		.guest_phys_addr = guest,
		.memory_size = bytes,
		.userspace_addr = (uint64_t)(uintptr_t)kvm_window_base(e->window) +
				  offset,
	};

	if (!bytes)
		return 0;
	return ioctl(e->vm_fd, KVM_SET_USER_MEMORY_REGION, &region)
		       ? fail_errno(err, "KVM_SET_USER_MEMORY_REGION")
		       : 0;
}

static int set_memory(struct engine *e, struct err *err)
{
	const struct kvm_window_config cfg = {
		.mem = e->cfg.mem,
		.lock = e->cfg.lock,
		.failed = memory_failed,
		.stalled = window_stalled,
		.ctx = e,
		.max_runs = e->cfg.max_runs ? e->cfg.max_runs
					    : KVM_WINDOW_MAX_RUNS,
		.large_pages = e->cfg.large_pages,
	};
	const uint64_t bytes = guestmem_ram_bytes(e->cfg.mem);
	const uint64_t low = bytes < GUESTMEM_HOLE_START ? bytes
							 : GUESTMEM_HOLE_START;
	int r = kvm_window_new(&cfg, &e->window, err);

	if (!r)
		r = set_slot(e, 0, 0, 0, low, err);
	if (!r)
		r = set_slot(e, 1, GUESTMEM_HOLE_END, low, bytes - low, err);
	return r;
}

static int set_cpuid(struct engine *e, struct vcpu *c, uint32_t apic_id,
		     struct err *err)
{
	const bool deadline = ioctl(e->kvm_fd, KVM_CHECK_EXTENSION,
				    KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	struct cpuid_list *cpuid = calloc(1, sizeof(*cpuid));
	int r = 0;

	if (!cpuid)
		return err_set(err, -ENOMEM, "out of memory");
	cpuid->head.nent = KVM_CPUID_MAX;
	if (ioctl(e->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		r = fail_errno(err, "KVM_GET_SUPPORTED_CPUID");
	} else {
		kvm_cpuid_filter(cpuid, &e->cfg.features, apic_id, deadline);
		if (ioctl(c->fd, KVM_SET_CPUID2, cpuid))
			r = fail_errno(err, "KVM_SET_CPUID2");
	}
	free(cpuid);
	return r;
}

static int set_msrs(struct vcpu *c, struct err *err)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head = {.nmsrs = 1},
		.entry = {.index = MSR_MTRR_DEF_TYPE, .data = MTRR_WRITE_BACK},
	};

	return ioctl(c->fd, KVM_SET_MSRS, &msrs) == 1
		       ? 0
		       : fail_errno(err, "KVM_SET_MSRS");
}

static int make_cpu(struct engine *e, unsigned int i, struct err *err)
{
	struct vcpu *c = &e->cpus[i];
	void *run;

	c->fd = ioctl(e->vm_fd, KVM_CREATE_VCPU, i);
	if (c->fd < 0)
		return fail_errno(err, "KVM_CREATE_VCPU");
	run = mmap(NULL, e->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		   c->fd, 0);
	if (run == MAP_FAILED)
		return fail_errno(err, "cannot map a processor");
	c->run = run;
	e->n_cpus = i + 1;

	int r = set_cpuid(e, c, i, err);

	return r ? r : set_msrs(c, err);
}

static int make_cpus(struct engine *e, struct err *err)
{
	const int bytes = ioctl(e->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	const unsigned int n = e->cfg.features.n_cpus;
	int r = 0;

	VERIFY(n >= 1 && n <= KVM_CPUS_MAX);
	if (bytes < 0)
		return fail_errno(err, "KVM_GET_VCPU_MMAP_SIZE");
	e->run_bytes = (size_t)bytes;
	for (unsigned int i = 0; !r && i < n; i++)
		r = make_cpu(e, i, err);
	return r;
}

/*
 * On frames that no page has yet. The kernel's mapping of them goes with the frames, so
 * nothing is left of it.
 */
static int probe_first_cpu(struct engine *e, struct err *err)
{
	struct machine *m = guestmem_machine(e->cfg.mem);
	const uint64_t n_pages = PROBE_GUEST_BYTES / PAGE_SIZE;
	struct probe_run run;

	if (machine_home_populate_run(m, ppn(0), n_pages))
		return err_set(err, -ENOMEM, "no memory to try KVM with");
	probe_cpu(e->cpus[0].fd, e->cpus[0].run, kvm_window_base(e->window),
		  &run);
	machine_home_drop_run(m, ppn(0), n_pages);
	probe_decide(&run, kvm_window_fault(e->window), e->cfg.verdict);
	return e->cfg.verdict->usable
		       ? 0
		       : err_set(err, -ENOTSUP, "%s", e->cfg.verdict->why);
}

/* Return: 0 with a VM whose processors have run no guest, or -errno. */
static int make_vm(struct engine *e, struct err *err)
{
	int r = open_kvm(e, err);

	if (!r)
		r = set_up_vm(e, err);
	if (!r)
		r = set_memory(e, err);
	if (!r)
		r = make_cpus(e, err);
	if (r)
		snprintf(e->cfg.verdict->why, sizeof(e->cfg.verdict->why),
			 "%.255s", err->text);
	return r ? r : probe_first_cpu(e, err);
}

static struct engine *kvm_free(struct engine *e)
{
	if (!e)
		return NULL;
	for (unsigned int i = 0; i < KVM_CPUS_MAX; i++) {
		if (e->cpus[i].run)
			munmap(e->cpus[i].run, e->run_bytes);
		if (e->cpus[i].fd >= 0)
			close(e->cpus[i].fd);
	}
	/* Before the window, which the machine still knows. */
	if (e->vm_fd >= 0)
		close(e->vm_fd);
	if (e->kvm_fd >= 0)
		close(e->kvm_fd);
	kvm_window_free(e->window);
	if (e->smaps)
		fclose(e->smaps);
	pthread_mutex_destroy(&e->kick_lock);
	pthread_mutex_destroy(&e->failure_lock);
	free(e);
	return NULL;
}

static int kvm_new(const struct engine_config *cfg, struct engine **ret_engine,
		   struct err *err)
{
	struct engine *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return err_set(err, -ENOMEM, "no memory for the engine");
	e->cfg = *cfg;
	e->kvm_fd = -1;
	e->vm_fd = -1;
	for (unsigned int i = 0; i < KVM_CPUS_MAX; i++)
		e->cpus[i].fd = -1;
	pthread_mutex_init(&e->kick_lock, NULL);
	pthread_mutex_init(&e->failure_lock, NULL);
	e->smaps = kvm_backing_open();
	thread_kick_install();
	*e->cfg.verdict = (struct probe_verdict){0};
	r = make_vm(e, err);
	if (r) {
		kvm_free(e);
		return r;
	}
	kvm_window_claim(e->window);
	e->cfg.verdict = NULL;
	*ret_engine = e;
	return 0;
}

static struct kvm_segment segment(const struct boot_segment *s)
{
	return (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = s->sel,
		.type = s->attr & 15,
		.s = s->attr >> 4 & 1,
		.dpl = s->attr >> 5 & 3,
		.present = s->attr >> 7 & 1,
		.avl = s->attr >> 12 & 1,
		.l = s->attr >> 13 & 1,
		.db = s->attr >> 14 & 1,
		.g = s->attr >> 15 & 1,
	};
}

static void set_sregs(struct kvm_sregs *r, const struct boot_state *s)
{
	r->cs = segment(&s->code);
	r->ds = segment(&s->data);
	r->es = r->ds;
	r->fs = r->ds;
	r->gs = r->ds;
	r->ss = r->ds;
	r->tr = segment(&s->tss);
	r->gdt.base = s->gdt_base.v;
	r->gdt.limit = s->gdt_limit;
	r->idt.base = 0;
	r->idt.limit = 0;
	r->cr0 = s->cr0;
	r->cr3 = s->cr3;
	r->cr4 = s->cr4;
	r->efer = s->efer;
}

static int kvm_boot(struct engine *e, const struct boot_state *s,
		    struct err *err)
{
	const struct vcpu *c = &e->cpus[0];
	const struct kvm_regs regs = {
		.rax = s->rax,
		.rbx = s->rbx,
		.rsi = s->rsi,
		.rsp = s->rsp,
		.rip = s->rip,
		.rflags = s->rflags,
	};
	struct kvm_sregs sregs;

	if (ioctl(c->fd, KVM_GET_SREGS, &sregs))
		return fail_errno(err, "KVM_GET_SREGS");
	set_sregs(&sregs, s);
	if (ioctl(c->fd, KVM_SET_SREGS, &sregs))
		return fail_errno(err, "KVM_SET_SREGS");
	if (ioctl(c->fd, KVM_SET_REGS, &regs))
		return fail_errno(err, "KVM_SET_REGS");
	return kvm_window_start(e->window, err);
}

static void do_pio(struct engine *e, struct vcpu *c)
{
	const struct kvm_run *run = c->run;
	uint8_t *data = (uint8_t *)c->run + run->io.data_offset;
	const unsigned int size = run->io.size;

	c->pio++;
	for (uint32_t i = 0; i < run->io.count; i++, data += size) {
		uint32_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_IN) {
			value = e->cfg.io->pio_read(e->cfg.io_ctx, run->io.port,
						    size);
			memcpy(data, &value, size);
		} else {
			memcpy(&value, data, size);
			e->cfg.io->pio_write(e->cfg.io_ctx, run->io.port, size,
					     value);
		}
	}
}

/*
 * An instruction that KVM emulates meets a page whose view is being changed: for KVM's emulator
 * what it cannot access is a device.
 */
static bool do_ram(struct engine *e, struct vcpu *c, gpa_t addr,
		   unsigned int len)
{
	bool done;

	pthread_mutex_lock(e->cfg.lock);
	done = c->run->mmio.is_write
		       ? guestmem_write(e->cfg.mem, addr, c->run->mmio.data, len)
		       : guestmem_read(e->cfg.mem, addr, c->run->mmio.data, len);
	pthread_mutex_unlock(e->cfg.lock);
	c->mmio_ram++;
	return done;
}

static void do_mmio(struct engine *e, struct vcpu *c)
{
	const gpa_t addr = gpa(c->run->mmio.phys_addr);
	const unsigned int len = c->run->mmio.len;
	uint64_t value = 0;
	ppn_t page;

	if (guestmem_ppn(e->cfg.mem, addr, &page) && do_ram(e, c, addr, len))
		return;
	c->mmio++;
	if (c->run->mmio.is_write) {
		memcpy(&value, c->run->mmio.data, len);
		e->cfg.io->mmio_write(e->cfg.io_ctx, addr, len, value);
		return;
	}
	value = e->cfg.io->mmio_read(e->cfg.io_ctx, addr, len);
	memcpy(c->run->mmio.data, &value, len);
}

static enum engine_exit fail(struct engine *e, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* The first failure is the one that is told. */
static enum engine_exit fail(struct engine *e, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	pthread_mutex_lock(&e->failure_lock);
	if (!atomic_load(&e->has_failure)) {
		vsnprintf(e->failure, sizeof(e->failure), fmt, args);
		atomic_store(&e->has_failure, true);
	}
	pthread_mutex_unlock(&e->failure_lock);
	va_end(args);
	return ENGINE_EXIT_FAILED;
}

static enum engine_exit run_failed(struct engine *e, struct vcpu *c)
{
	if (errno == EINTR || errno == EAGAIN) {
		__atomic_store_n(&c->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		c->kicks++;
		return ENGINE_EXIT_SLICE;
	}
	/* The window is changing. */
	if (errno == EFAULT &&
	    kvm_retry(&c->retry, e->window, c->fd, KVM_RETRY_FAULT))
		return ENGINE_EXIT_SLICE;
	return fail(e, "KVM_RUN: %s", strerror(errno));
}

/* KVM emulates what is fetched outside of RAM, and finds nothing to emulate there. */
static bool is_bad_fetch(struct engine *e, const struct vcpu *c)
{
	struct kvm_translation t;
	struct kvm_sregs sregs;
	struct kvm_regs regs;
	ppn_t page;

	if (c->run->internal.suberror != KVM_INTERNAL_ERROR_EMULATION ||
	    ioctl(c->fd, KVM_GET_REGS, &regs) ||
	    ioctl(c->fd, KVM_GET_SREGS, &sregs))
		return false;
	t = (struct kvm_translation){.linear_address = sregs.cs.base + regs.rip};
	if (ioctl(c->fd, KVM_TRANSLATE, &t) || !t.valid ||
	    guestmem_ppn(e->cfg.mem, gpa(t.physical_address), &page))
		return false;
	atomic_store(&e->bad_fetch, t.physical_address);
	return true;
}

static enum engine_exit internal_error(struct engine *e, struct vcpu *c)
{
	const uint32_t what = c->run->internal.suberror;

	if (is_bad_fetch(e, c))
		return ENGINE_EXIT_BAD_FETCH;
	if (what == KVM_INTERNAL_ERROR_EMULATION &&
	    kvm_retry(&c->retry, e->window, c->fd, KVM_RETRY_EMULATION))
		return ENGINE_EXIT_SLICE;
	return fail(
		e,
		"KVM met an internal error (suberror %u): its emulator does not know an instruction of this guest",
		what);
}

static enum engine_exit handle_exit(struct engine *e, struct vcpu *c)
{
	switch (c->run->exit_reason) {
	case KVM_EXIT_IO:
		do_pio(e, c);
		return ENGINE_EXIT_SLICE;
	case KVM_EXIT_MMIO:
		do_mmio(e, c);
		return ENGINE_EXIT_SLICE;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return ENGINE_EXIT_SLICE;
	case KVM_EXIT_HLT:
		return ENGINE_EXIT_HALT;
	case KVM_EXIT_SHUTDOWN:
		return ENGINE_EXIT_SHUTDOWN;
	case KVM_EXIT_SYSTEM_EVENT:
		return ENGINE_EXIT_SHUTDOWN;
	case KVM_EXIT_FAIL_ENTRY:
		return fail(
			e,
			"the processor refused to enter the guest (reason 0x%llx)",
			(unsigned long long)c->run->fail_entry
				.hardware_entry_failure_reason);
	}
	return fail(e,
		    "KVM came back for reason %u, which this engine does not know",
		    c->run->exit_reason);
}

static void enter_cpu(struct engine *e, struct vcpu *c)
{
	pthread_mutex_lock(&e->kick_lock);
	c->thread = pthread_self();
	c->running = true;
	pthread_mutex_unlock(&e->kick_lock);
	c->entered = true;
}

static void kvm_leave_cpu(struct engine *e, unsigned int n)
{
	pthread_mutex_lock(&e->kick_lock);
	e->cpus[n].running = false;
	pthread_mutex_unlock(&e->kick_lock);
}

/*
 * A processor waits for what our devices do for it, and that may be long: nobody reads what its
 * guest says, or another thread has the lock and waits for memory. All are told, for they may wait
 * for that one. What takes no longer than usual is not counted: it would add up, too, where much
 * is read and written, and then no guest would notice a lockup of its own.
 */
static void count_away(struct engine *e, struct vcpu *c)
{
	const uint64_t ns = c->left_ns ? monotonic_ns() - c->left_ns : 0;

	if (ns < HELD_UP_NS)
		return;
	c->away_ns += ns;
	if (c->away_ns < KVM_WINDOW_STALL_NS)
		return;
	c->away_ns = 0;
	kvm_tell_stopped(e);
}

/* Return: as KVM_RUN, with errno. */
static int run(struct engine *e, struct vcpu *c)
{
	int r;

	count_away(e, c);
	/* Fails for a guest that has no such clock (yet): it cannot be told then. */
	if (atomic_exchange(&c->stopped, false) &&
	    !ioctl(c->fd, KVM_KVMCLOCK_CTRL))
		c->stops++;
	r = ioctl(c->fd, KVM_RUN, 0);
	c->left_ns = monotonic_ns();
	return r;
}

static enum engine_exit kvm_run_cpu(struct engine *e, unsigned int n)
{
	struct vcpu *c = &e->cpus[n];

	if (!c->entered)
		enter_cpu(e, c);
	if (atomic_load(&e->memory_failed))
		return ENGINE_EXIT_STOPPED;
	if (run(e, c))
		return run_failed(e, c);
	if (c->run->exit_reason == KVM_EXIT_INTERNAL_ERROR)
		return internal_error(e, c);
	c->retry.tries = 0;
	return handle_exit(e, c);
}

static void kvm_kick(struct engine *e)
{
	kick_all(e);
}

static void kvm_stop(struct engine *e)
{
	kvm_window_open(e->window);
	kick_all(e);
}

static void kvm_set_irq(void *ctx, unsigned int gsi, bool level)
{
	const struct engine *e = ctx;
	const struct kvm_irq_level irq = {.irq = gsi, .level = level};

	/* Fails only without APICs or for a line that there is not. */
	(void)ioctl(e->vm_fd, KVM_IRQ_LINE, &irq);
}

static void kvm_set_large(struct engine *e, bool on)
{
	kvm_window_set_large(e->window, on);
}

static uint64_t kvm_rip(const struct engine *e)
{
	struct kvm_sregs sregs;
	struct kvm_regs regs;

	if (ioctl(e->cpus[0].fd, KVM_GET_REGS, &regs) ||
	    ioctl(e->cpus[0].fd, KVM_GET_SREGS, &sregs))
		return ENGINE_RIP_UNKNOWN;
	/* After a triple fault on AMD's: the processor does not say where, and KVM resets it. */
	if (regs.rip == RESET_RIP && sregs.cs.base == RESET_CS_BASE)
		return ENGINE_RIP_UNKNOWN;
	return regs.rip;
}

static gpa_t kvm_bad_fetch(const struct engine *e)
{
	return gpa(atomic_load(&e->bad_fetch));
}

static uint64_t kvm_page_root(const struct engine *e)
{
	struct kvm_sregs s;

	if (ioctl(e->cpus[0].fd, KVM_GET_SREGS, &s))
		return 0;
	return (s.cr0 & CR0_PG) && (s.efer & EFER_LMA) && !(s.cr4 & CR4_LA57)
		       ? s.cr3
		       : 0;
}

static const char *kvm_failure(const struct engine *e)
{
	return atomic_load(&e->has_failure) ? e->failure : "no failure";
}

static int64_t kvm_audit(struct engine *e, struct err *err)
{
	return kvm_window_audit(e->window, err);
}

static void kvm_counters(const struct engine *e, engine_counter_fn *fn,
			 void *arg)
{
	const struct kvm_window_stats w = kvm_window_stats(e->window);
	const struct kvm_backing b = kvm_backing_read(e->smaps,
						      kvm_window_base(e->window),
						      guestmem_ram_bytes(
							      e->cfg.mem));
	uint64_t pio = 0, mmio = 0, mmio_ram = 0, kicks = 0, stops = 0;

	for (unsigned int i = 0; i < e->n_cpus; i++) {
		pio += e->cpus[i].pio;
		mmio += e->cpus[i].mmio;
		mmio_ram += e->cpus[i].mmio_ram;
		kicks += e->cpus[i].kicks;
		stops += e->cpus[i].stops;
	}
	fn(arg, "cpu", "processors", e->n_cpus);
	fn(arg, "cpu", "mmio", mmio);
	fn(arg, "cpu", "mmio_ram", mmio_ram);
	fn(arg, "cpu", "pio", pio);
	fn(arg, "cpu", "kicks", kicks);
	fn(arg, "cpu", "told_stopped", stops);
	fn(arg, "window", "missing_faults", w.missing_faults);
	fn(arg, "window", "minor_faults", w.minor_faults);
	fn(arg, "window", "write_faults", w.write_faults);
	fn(arg, "window", "worker_faults", w.worker_faults);
	fn(arg, "window", "unmaps", w.unmaps);
	fn(arg, "window", "mapped", w.mapped);
	fn(arg, "window", "shared_mapped", w.shared_mapped);
	fn(arg, "window", "runs", w.runs);
	fn(arg, "window", "runs_refused", w.runs_refused);
	fn(arg, "window", "claimed", w.claimed);
	fn(arg, "window", "chunks_registered", w.chunks_registered);
	fn(arg, "window", "registrations", w.registrations);
	fn(arg, "window", "chunks_rebuilt", w.chunks_rebuilt);
	fn(arg, "window", "collapsed", w.collapsed);
	fn(arg, "window", "given_back", w.given_back);
	fn(arg, "window", "strays", w.strays);
	fn(arg, "window", "stall_ns", w.stall_ns);
	fn(arg, "window", "large_bytes", b.large_bytes);
	fn(arg, "window", "small_bytes", b.small_bytes);
	fn(arg, "window", "mappings", b.mappings);
}

const struct engine_ops engine_kvm = {
	.name = "kvm",
	.max_cpus = KVM_CPUS_MAX,
	.new = kvm_new,
	.free = kvm_free,
	.boot = kvm_boot,
	.run_cpu = kvm_run_cpu,
	.leave_cpu = kvm_leave_cpu,
	.kick = kvm_kick,
	.tell_stopped = kvm_tell_stopped,
	.stop = kvm_stop,
	.set_irq = kvm_set_irq,
	.set_large = kvm_set_large,
	.rip = kvm_rip,
	.page_root = kvm_page_root,
	.bad_fetch = kvm_bad_fetch,
	.failure = kvm_failure,
	.audit = kvm_audit,
	.counters = kvm_counters,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether the host's /dev/kvm is usable.
 *
 * The file alone says little: some KVMs run kernel code in an emulator, at a few million
 * instructions a second and without SSE. So a guest of a few instructions runs in ring 0:
 * one SSE instruction, a loop, and a port access. Its loop is short at first, and longer
 * only if it was not slow, so that the probe is over in milliseconds in any case; timers
 * end what never comes back. Time is the thread's on its processor, so that a host that is
 * busy with others does not look like a slow one. A VM that is being made has its own first
 * processor run it, since a VM for that alone takes as long to make and to end as the real one.
 */
#include <engine/probe.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <arch/x86.h>
#include <base/clock.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define TABLES      UINT64_C(0x1000) /* PML4, PDPT, PD */
#define CODE        UINT64_C(0x4000)
#define LOOP_INSNS  2
#define SHORT_LOOPS 2000
#define LONG_LOOPS  200000
#define LONGER      10 /* times */
#define TRIES       3
/* Far more than it takes: the host may be a guest whose processors others have. */
#define TIME_LIMIT_MS   400
#define SHORT_ENOUGH_NS 5000000
/* For a KVM that sleeps instead of working. */
#define WALL_LIMIT_MS 2000

/* What the tiny guest runs on. */
struct tiny {
	int cpu;
	struct kvm_run *run;
};

/* A VM for it alone. */
struct tiny_vm {
	int kvm;
	int vm;
	uint8_t *mem;
	size_t run_bytes;
	struct tiny tiny;
};

static void tiny_close(struct tiny_vm *t)
{
	if (t->tiny.run)
		munmap(t->tiny.run, t->run_bytes);
	if (t->tiny.cpu >= 0)
		close(t->tiny.cpu);
	if (t->vm >= 0)
		close(t->vm);
	if (t->kvm >= 0)
		close(t->kvm);
	if (t->mem)
		munmap(t->mem, PROBE_GUEST_BYTES);
}

/* PXOR XMM0, XMM0; loop: DEC ECX; JNZ loop; OUT 0x10, AL */
static const uint8_t code[] = {
	0x66, 0x0f, 0xef, 0xc0, 0xff, 0xc9, 0x75, 0xfc, 0xe6, 0x10,
};

static void tiny_fill(uint8_t *mem)
{
	const uint64_t flags = PTE_P | PTE_W;
	const uint64_t entries[] = {
		(TABLES + PAGE_SIZE) | flags,
		(TABLES + 2 * PAGE_SIZE) | flags,
		flags | PTE_PS,
	};

	for (size_t i = 0; i < ARRAY_SIZE(entries); i++)
		memcpy(mem + TABLES + i * PAGE_SIZE, &entries[i],
		       sizeof(entries[i]));
	memcpy(mem + CODE, code, sizeof(code));
}

static int tiny_memory(struct tiny_vm *t)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = PROBE_GUEST_BYTES,
	};
	void *mem = mmap(NULL, PROBE_GUEST_BYTES, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return -errno;
	t->mem = mem;
	region.userspace_addr = (uint64_t)(uintptr_t)mem;
	return ioctl(t->vm, KVM_SET_USER_MEMORY_REGION, &region) ? -errno : 0;
}

static void tiny_sregs(struct kvm_sregs *s)
{
	const struct kvm_segment cs = {
		.limit = UINT32_MAX,
		.selector = 8,
		.type = 11,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	struct kvm_segment ds = cs;

	ds.selector = 16;
	ds.type = 3;
	ds.l = 0;
	ds.db = 1;
	s->cs = cs;
	s->ds = ds;
	s->es = ds;
	s->ss = ds;
	s->cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s->cr3 = TABLES;
	s->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	s->efer = EFER_LME | EFER_LMA;
}

static int tiny_cpuid(struct tiny_vm *t)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256];
	} cpuid = {.head = {.nent = 256}};

	/* Without it KVM refuses what it thinks the processor does not have. */
	if (ioctl(t->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) ||
	    ioctl(t->tiny.cpu, KVM_SET_CPUID2, &cpuid))
		return -errno;
	return 0;
}

static int tiny_cpu(struct tiny_vm *t)
{
	const int bytes = ioctl(t->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	void *run;

	t->tiny.cpu = ioctl(t->vm, KVM_CREATE_VCPU, 0);
	if (bytes < 0 || t->tiny.cpu < 0)
		return -errno;
	t->run_bytes = (size_t)bytes;
	run = mmap(NULL, t->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		   t->tiny.cpu, 0);
	if (run == MAP_FAILED)
		return -errno;
	t->tiny.run = run;
	return tiny_cpuid(t);
}

static int tiny_open(struct tiny_vm *t)
{
	int r;

	*t = (struct tiny_vm){.kvm = -1, .vm = -1, .tiny.cpu = -1};
	t->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (t->kvm < 0)
		return -errno;
	if (ioctl(t->kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		return -ENOTSUP;
	do
		t->vm = ioctl(t->kvm, KVM_CREATE_VM, 0);
	while (t->vm < 0 && errno == EINTR);
	if (t->vm < 0)
		return -errno;
	r = tiny_memory(t);
	return r ? r : tiny_cpu(t);
}

static enum probe_result outcome(const struct tiny *t)
{
	switch (t->run->exit_reason) {
	case KVM_EXIT_IO:
		return t->run->io.port == 0x10 ? PROBE_RAN : PROBE_UNEXPECTED;
	case KVM_EXIT_INTERNAL_ERROR:
		return PROBE_EMULATED;
	}
	return PROBE_UNEXPECTED;
}

/* From the SSE instruction to the port access. */
static enum probe_result tiny_loop(struct tiny *t, uint64_t loops,
				   uint64_t *ret_ns)
{
	const struct kvm_regs regs = {
		.rip = CODE,
		.rcx = loops,
		.rflags = RFLAGS_ONE,
	};
	uint64_t start;
	int r;

	if (ioctl(t->cpu, KVM_SET_REGS, &regs))
		return PROBE_UNEXPECTED;
	start = thread_ns();
	r = ioctl(t->cpu, KVM_RUN, 0);
	*ret_ns = thread_ns() - start;
	if (r)
		return errno == EINTR ? PROBE_STUCK : PROBE_UNEXPECTED;

	const enum probe_result result = outcome(t);

	/* An OUT is completed at the next entry. */
	t->run->immediate_exit = 1;
	(void)ioctl(t->cpu, KVM_RUN, 0);
	t->run->immediate_exit = 0;
	return result;
}

static bool is_fast(const struct probe_run *p)
{
	return p->insns * UINT64_C(1000000000) >=
	       PROBE_MIN_INSNS_PER_S * (p->ns ? p->ns : 1);
}

/* Others may have had the processor: the best time counts. */
static void tiny_time(struct tiny *t, uint64_t loops, struct probe_run *p)
{
	p->insns = loops * LOOP_INSNS;
	p->ns = UINT64_MAX;
	for (int i = 0; i < TRIES; i++) {
		uint64_t ns;

		p->result = tiny_loop(t, loops, &ns);
		if (p->result != PROBE_RAN)
			return;
		if (ns < p->ns)
			p->ns = ns;
		if (is_fast(p))
			return;
	}
}

static void on_alarm(int sig)
{
	(void)sig; /* its arrival ends KVM_RUN */
}

static bool start_timer(clockid_t clock, long ms, timer_t *ret)
{
	struct sigevent event = {
		.sigev_notify = SIGEV_THREAD_ID,
		.sigev_signo = SIGRTMIN + 1,
	};
	const struct itimerspec when = {
		.it_value = {ms / 1000, ms % 1000 * 1000000},
		/* Again and again: the first may come just before KVM_RUN. */
		.it_interval = {ms / 1000, ms % 1000 * 1000000},
	};
	const struct sigaction sa = {.sa_handler = on_alarm};

	event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
	sigaction(SIGRTMIN + 1, &sa, NULL);
	if (timer_create(clock, &event, ret))
		return false;
	if (!timer_settime(*ret, 0, &when, NULL))
		return true;
	timer_delete(*ret);
	return false;
}

static void time_within_limits(struct tiny *t, struct probe_run *ret)
{
	timer_t busy, wall;

	if (!start_timer(CLOCK_THREAD_CPUTIME_ID, TIME_LIMIT_MS, &busy))
		return;
	if (start_timer(CLOCK_MONOTONIC, WALL_LIMIT_MS, &wall)) {
		tiny_time(t, SHORT_LOOPS, ret);
		/* A short loop is mostly the cost of going there and back. */
		for (uint64_t n = SHORT_LOOPS * LONGER;
		     n <= LONG_LOOPS && ret->result == PROBE_RAN &&
		     ret->ns < SHORT_ENOUGH_NS && !is_fast(ret);
		     n *= LONGER)
			tiny_time(t, n, ret);
		timer_delete(wall);
	}
	timer_delete(busy);
}

void probe_cpu(int cpu_fd, struct kvm_run *run, uint8_t *mem,
	       struct probe_run *ret)
{
	struct tiny t = {.cpu = cpu_fd, .run = run};
	struct kvm_sregs before, sregs;
	struct kvm_regs regs;

	*ret = (struct probe_run){.result = PROBE_UNEXPECTED};
	if (ioctl(cpu_fd, KVM_GET_REGS, &regs) ||
	    ioctl(cpu_fd, KVM_GET_SREGS, &before))
		return;
	sregs = before;
	tiny_sregs(&sregs);
	tiny_fill(mem);
	if (ioctl(cpu_fd, KVM_SET_SREGS, &sregs))
		return;
	time_within_limits(&t, ret);
	if (ioctl(cpu_fd, KVM_SET_SREGS, &before) ||
	    ioctl(cpu_fd, KVM_SET_REGS, &regs))
		ret->result = PROBE_UNEXPECTED;
}

/* Run the tiny guest in a VM of its own. */
static void probe_kvm_run(struct probe_run *ret)
{
	struct tiny_vm t;
	const int r = tiny_open(&t);

	*ret = (struct probe_run){.result = PROBE_NO_DEVICE, .error = -r};
	if (!r)
		probe_cpu(t.tiny.cpu, t.tiny.run, t.mem, ret);
	tiny_close(&t);
}

static void say_speed(const struct probe_run *run, struct probe_verdict *ret)
{
	ret->insns_per_s = run->ns ? run->insns * UINT64_C(1000000000) / run->ns
				   : 0;
	ret->usable = ret->insns_per_s >= PROBE_MIN_INSNS_PER_S;
	snprintf(ret->why, sizeof(ret->why),
		 ret->usable
			 ? "/dev/kvm runs kernel code at %llu M instructions a second or more"
			 : "/dev/kvm emulates kernel code: %llu M instructions a second, at least 50 M are needed",
		 (unsigned long long)ret->insns_per_s / 1000000);
}

void probe_decide(const struct probe_run *run,
		  const struct kvm_userfault *fault, struct probe_verdict *ret)
{
	*ret = (struct probe_verdict){0};
	switch (run->result) {
	case PROBE_NO_DEVICE:
		snprintf(ret->why, sizeof(ret->why), "/dev/kvm: %s",
			 strerror(run->error));
		return;
	case PROBE_EMULATED:
		snprintf(ret->why, sizeof(ret->why),
			 "/dev/kvm emulates kernel code and does not know SSE: a KVM without hardware support");
		return;
	case PROBE_STUCK:
		snprintf(ret->why, sizeof(ret->why),
			 "/dev/kvm did not execute a few thousand instructions in %d ms",
			 TIME_LIMIT_MS);
		return;
	case PROBE_UNEXPECTED:
		snprintf(ret->why, sizeof(ret->why),
			 "/dev/kvm does not run 64-bit kernel code");
		return;
	case PROBE_RAN:
		break;
	}
	say_speed(run, ret);
	if (!ret->usable || fault->usable)
		return;
	ret->usable = false;
	snprintf(ret->why, sizeof(ret->why),
		 "memory cannot be managed under KVM here: %s", fault->reason);
}

void probe_kvm(struct probe_verdict *ret)
{
	struct kvm_userfault fault;
	struct probe_run run;
	const int fd = kvm_userfault_open(&fault);

	if (fd >= 0)
		close(fd);
	probe_kvm_run(&run);
	probe_decide(&run, &fault, ret);
}

/* The first line of a file, without its end; false if it cannot be read. */
static bool first_line(const char *path, char *line, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok;

	if (!f)
		return false;
	ok = fgets(line, (int)size, f);
	fclose(f);
	if (ok)
		line[strcspn(line, "\n")] = '\0';
	return ok;
}

static const char *paging(char *text, size_t size)
{
	char line[16];

	if (first_line("/sys/module/kvm_amd/parameters/npt", line, sizeof(line)))
		snprintf(text, size, "%s",
			 line[0] == 'Y' || line[0] == '1'
				 ? "nested page tables (NPT) of the processor"
				 : "shadow page tables of the host's KVM (npt=0)");
	else if (first_line("/sys/module/kvm_intel/parameters/ept", line,
			    sizeof(line)))
		snprintf(text, size, "%s",
			 line[0] == 'Y' || line[0] == '1'
				 ? "nested page tables (EPT) of the processor"
				 : "shadow page tables of the host's KVM (ept=0)");
	else if (!access("/sys/module/kvm_pvm", F_OK))
		snprintf(text, size,
			 "shadow page tables of a KVM without hardware support (PVM)");
	else
		snprintf(text, size, "unknown");
	return text;
}

static const char *yes(bool is)
{
	return is ? "yes" : "no";
}

static const char *userfault_text(const struct kvm_userfault *f, char *text,
				  size_t size)
{
	if (!f->usable)
		return f->reason;
	snprintf(text, size, "yes, by %s",
		 f->by_device ? "/dev/userfaultfd" : "the system call");
	return text;
}

/* The word in brackets of a setting. */
static void chosen_word(const char *path, char *text, size_t size)
{
	char line[128];
	char *start = first_line(path, line, sizeof(line)) ? strchr(line, '[')
							   : NULL;
	char *end = start ? strchr(start, ']') : NULL;

	if (end)
		snprintf(text, size, "%.*s", (int)(end - start - 1), start + 1);
	else
		snprintf(text, size, "no");
}

/* On memory of our own, some of it touched: EINVAL is of what the kernel does not know. */
static bool knows_advice(int advice)
{
	const size_t large = (size_t)2 << 20;
	uint8_t *mem = mmap(NULL, 2 * large, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint8_t *at;
	bool knows;

	if (mem == MAP_FAILED)
		return false;
	/* One advice is of large pages, and wants the whole of one. */
	at = mem + (-(uintptr_t)mem & (large - 1));
	*at = 1;
	knows = !madvise(at, large, advice) || errno != EINVAL;
	munmap(mem, 2 * large);
	return knows;
}

struct teller {
	void (*fn)(void *arg, const char *name, const char *found,
		   const char *use);
	void *arg;
};

static void tell(const struct teller *t, const char *name, const char *found,
		 const char *use)
{
	t->fn(t->arg, name, found, use);
}

static void tell_engine(const struct teller *t)
{
	struct probe_verdict verdict;
	char text[160];

	probe_kvm(&verdict);
	tell(t, "engine", verdict.usable ? "kvm" : "soft", verdict.why);
	tell(t, "page tables under KVM", paging(text, sizeof(text)),
	     "who combines guest and machine addresses");
}

static void tell_userfault(const struct teller *t)
{
	struct kvm_userfault fault;
	char text[160];
	const int fd = kvm_userfault_open(&fault);

	if (fd >= 0)
		close(fd);
	tell(t, "userfaultfd", userfault_text(&fault, text, sizeof(text)),
	     "pages that were taken come back when KVM touches them; without it KVM is not used");
	tell(t, "its write protection", yes(fault.write_protect),
	     "shared pages are mapped (Linux 5.19); without it they are copied when touched");
}

static void tell_large(const struct teller *t)
{
	char text[64];

	chosen_word("/sys/kernel/mm/transparent_hugepage/shmem_enabled", text,
		    sizeof(text));
	tell(t, "large pages of memory files", text,
	     "guest RAM in 2 MiB pages, if it is advise, within_size or always: write advise to "
	     "/sys/kernel/mm/transparent_hugepage/shmem_enabled");
	tell(t, "MADV_COLLAPSE", yes(knows_advice(MADV_COLLAPSE)),
	     "large pages again after pressure (Linux 6.1); without it the kernel may make them");
	tell(t, "MADV_POPULATE_WRITE", yes(knows_advice(MADV_POPULATE_WRITE)),
	     "memory behind a page in one call (Linux 5.14); without it two");
}

void probe_facilities(void (*fn)(void *arg, const char *name, const char *found,
				 const char *use),
		      void *arg)
{
	const struct teller t = {fn, arg};
	struct utsname uts;
	char text[64];

	if (!uname(&uts))
		tell(&t, "kernel", uts.release, "for KVM 6.1 or newer");
	tell_engine(&t);
	tell_userfault(&t);
	tell_large(&t);
	if (!first_line("/proc/sys/vm/max_map_count", text, sizeof(text)))
		snprintf(text, sizeof(text), "unknown");
	tell(&t, "mappings per process", text,
	     "bounds the runs of shared pages of a VM; those beyond it are copied");
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: pages taken away and brought back, shared and copied, while a
 * processor uses them.
 *
 * The processor is a guest in user mode under /dev/kvm, which even a KVM without hardware
 * support runs directly; and, as a second one, this process itself, whose accesses fault in
 * the same way. Without userfaultfd, or without /dev/kvm, what needs it is skipped.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <arch/x86.h>
#include <base/clock.h>
#include <engine/kvm_retry.h>
#include <engine/kvm_window_impl.h>
#include <mem/memfile.h>
#include <mem/revoke_stress.h>

#define RAM_BYTES (UINT64_C(16) << 20)
#define N_PAGES   (RAM_BYTES / PAGE_SIZE)
#define FRAMES    64
#define SECOND_NS UINT64_C(1000000000)

/* The kernel says that there is nothing in any file. */
static _Atomic bool all_holes;
off_t __real_lseek64(int fd, off_t at, int whence);
off_t __wrap_lseek64(int fd, off_t at, int whence);

off_t __wrap_lseek64(int fd, off_t at, int whence)
{
	if (!atomic_load(&all_holes))
		return __real_lseek64(fd, at, whence);
	if (whence == SEEK_HOLE)
		return at;
	errno = ENXIO;
	return -1;
}

/* The allowance ends in the midst of a claim of all of RAM. */
static bool claim_half;
uint64_t __real_physmap_claim_run(struct physmap *map, ppn_t first, uint64_t n);
uint64_t __wrap_physmap_claim_run(struct physmap *map, ppn_t first, uint64_t n);

uint64_t __wrap_physmap_claim_run(struct physmap *map, ppn_t first, uint64_t n)
{
	return __real_physmap_claim_run(map, first, claim_half ? n / 2 : n);
}

/* The guest's own pages. */
#define CODE_PAGE  UINT64_C(1)
#define TABLE_PAGE UINT64_C(2) /* PML4, PDPT, PD */
#define FIRST_FREE UINT64_C(16)
#define READ_AT    UINT64_C(0)
#define WRITE_AT   UINT64_C(16)
#define LOCKED_AT  UINT64_C(32)

struct box {
	struct guestmem *mem;
	struct kvm_window *window;
	struct revoke_host *host;
	pthread_mutex_t lock;
	int group_fd;
	_Atomic bool failed;
	_Atomic unsigned int stalled;
	uint8_t away[N_PAGES][16]; /* what pages had that are ZIPPED */
	_Atomic unsigned int fills;
	_Atomic unsigned int left;
	/* The guest, or -1. */
	int kvm, vm, cpu;
	struct kvm_run *run;
	size_t run_bytes;
};

/* Whether a box asks for large pages. */
static bool large_pages;

/* What a box may have while it is loaded, if not 0; all the rest comes before it starts. */
static uint64_t first_allowance;

/* Which processor the tests use, and in which mode it is. */
static bool use_kvm;
static bool in_kernel_mode;

static int on_send(void *ctx, const struct revoke_request *request)
{
	struct box *b = ctx;

	return guestmem_revoke(b->mem, request);
}

static void on_ack(void *ctx, uint64_t ticket)
{
	struct box *b = ctx;

	revoke_host_ack(b->host, ticket);
}

static void on_failed(void *ctx)
{
	struct box *b = ctx;

	b->failed = true;
}

static void on_stalled(void *ctx)
{
	struct box *b = ctx;

	b->stalled++;
}

static int on_fill(void *ctx, ppn_t page, uint64_t entry, uint8_t *frame)
{
	struct box *b = ctx;

	(void)entry;
	memcpy(frame, b->away[page.v], sizeof(b->away[0]));
	b->fills++;
	return 0;
}

static void on_left(void *ctx, ppn_t page, uint64_t entry)
{
	struct box *b = ctx;

	(void)page;
	(void)entry;
	b->left++;
}

static const struct guestmem_source_ops source = {on_fill, on_left};

/* MOV RAX, [RDI] or MOV [RDI], RSI or LOCK OR [RDI], RSI; OUT 0x10, AL */
static const uint8_t read_code[] = {0x48, 0x8b, 0x07, 0xe6, 0x10};
static const uint8_t write_code[] = {0x48, 0x89, 0x37, 0xe6, 0x10};
static const uint8_t locked_code[] = {0xf0, 0x48, 0x09, 0x37, 0xe6, 0x10};

static void put(struct box *b, uint64_t at, const void *bytes, size_t n)
{
	assert_true(guestmem_write(b->mem, gpa(at), bytes, n));
}

static void load_guest(struct box *b)
{
	const uint64_t flags = PTE_P | PTE_W | PTE_U;
	const uint64_t pml4 = (TABLE_PAGE + 1) * PAGE_SIZE | flags;
	const uint64_t pdpt = (TABLE_PAGE + 2) * PAGE_SIZE | flags;

	put(b, CODE_PAGE * PAGE_SIZE + READ_AT, read_code, sizeof(read_code));
	put(b, CODE_PAGE * PAGE_SIZE + WRITE_AT, write_code, sizeof(write_code));
	put(b, CODE_PAGE * PAGE_SIZE + LOCKED_AT, locked_code,
	    sizeof(locked_code));
	put(b, TABLE_PAGE * PAGE_SIZE, &pml4, sizeof(pml4));
	put(b, (TABLE_PAGE + 1) * PAGE_SIZE, &pdpt, sizeof(pdpt));
	for (uint64_t i = 0; i < RAM_BYTES >> 21; i++) {
		const uint64_t pd = i << 21 | flags | PTE_PS;

		put(b, (TABLE_PAGE + 2) * PAGE_SIZE + 8 * i, &pd, sizeof(pd));
	}
}

static void set_mode(struct box *b)
{
	const uint8_t dpl = in_kernel_mode ? 0 : 3;
	const struct kvm_segment cs = {
		.limit = UINT32_MAX,
		.selector = 0x30 | dpl,
		.type = 11,
		.present = 1,
		.dpl = dpl,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	struct kvm_segment ds = cs;
	struct kvm_sregs s;

	assert_int_equal(ioctl(b->cpu, KVM_GET_SREGS, &s), 0);
	ds.selector = 0x28 | dpl;
	ds.type = 3;
	ds.l = 0;
	ds.db = 1;
	s.cs = cs;
	s.ds = s.es = s.ss = s.fs = s.gs = ds;
	s.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG;
	s.cr3 = TABLE_PAGE * PAGE_SIZE;
	s.cr4 = CR4_PAE | CR4_OSFXSR;
	s.efer = EFER_LME | EFER_LMA | EFER_SCE;
	assert_int_equal(ioctl(b->cpu, KVM_SET_SREGS, &s), 0);
}

static void start_guest(struct box *b)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = RAM_BYTES,
		.userspace_addr = (uint64_t)(uintptr_t)kvm_window_base(b->window),
	};

	b->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	assert_true(b->kvm >= 0);
	b->vm = ioctl(b->kvm, KVM_CREATE_VM, 0);
	assert_true(b->vm >= 0);
	assert_int_equal(ioctl(b->vm, KVM_SET_USER_MEMORY_REGION, &region), 0);
	b->cpu = ioctl(b->vm, KVM_CREATE_VCPU, 0);
	assert_true(b->cpu >= 0);
	b->run_bytes = (size_t)ioctl(b->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	b->run = mmap(NULL, b->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
		      b->cpu, 0);
	assert_ptr_not_equal(b->run, MAP_FAILED);
	set_mode(b);
}

/* As the engine does. */
static bool tries_again(struct box *b, int error, struct kvm_retry *retry)
{
	if (error == EINTR)
		return true;
	if (error == EFAULT)
		return kvm_retry(retry, b->window, b->cpu, KVM_RETRY_FAULT);
	assert_int_equal(error, 0);
	return b->run->exit_reason == KVM_EXIT_INTERNAL_ERROR &&
	       kvm_retry(retry, b->window, b->cpu, KVM_RETRY_EMULATION);
}

/* Run one of the snippets, up to its OUT. Return: RAX. */
static uint64_t guest_access(struct box *b, uint64_t code, uint64_t addr,
			     uint64_t value)
{
	const struct kvm_regs regs = {
		.rip = CODE_PAGE * PAGE_SIZE + code,
		.rdi = addr,
		.rsi = value,
		.rflags = RFLAGS_ONE | RFLAGS_IOPL,
	};
	struct kvm_retry retry = {0};
	struct kvm_regs after;

	b->run->immediate_exit = 1;
	(void)ioctl(b->cpu, KVM_RUN, 0);
	b->run->immediate_exit = 0;
	assert_int_equal(ioctl(b->cpu, KVM_SET_REGS, &regs), 0);
	while (tries_again(b, ioctl(b->cpu, KVM_RUN, 0) ? errno : 0, &retry))
		;
	if (b->run->exit_reason != KVM_EXIT_IO)
		print_message("exit %u\n", b->run->exit_reason);
	assert_int_equal(b->run->exit_reason, KVM_EXIT_IO);
	assert_int_equal(ioctl(b->cpu, KVM_GET_REGS, &after), 0);
	return after.rax;
}

/*
 * Without KVM these threads are the guest. The thread sanitizer takes a page that is mapped anew
 * under a guest for a write to what the guest reads, so it is not told of the guest's accesses.
 */
#define GUEST_ACCESS __attribute__((no_sanitize("thread")))

GUEST_ACCESS static uint64_t load(struct box *b, uint64_t page)
{
	if (b->cpu >= 0)
		return guest_access(b, READ_AT, page * PAGE_SIZE, 0);
	return *(volatile uint64_t *)(void *)(kvm_window_base(b->window) +
					      page * PAGE_SIZE);
}

GUEST_ACCESS static void store(struct box *b, uint64_t page, uint64_t value)
{
	if (b->cpu >= 0)
		guest_access(b, WRITE_AT, page * PAGE_SIZE, value);
	else
		*(volatile uint64_t *)(void *)(kvm_window_base(b->window) +
					       page * PAGE_SIZE) = value;
}

static void make_group(struct box *b)
{
	struct err err;
	uint64_t *frames;

	assert_int_equal(memfile_new("test-group", FRAMES * PAGE_SIZE, true,
				     &b->group_fd, &err),
			 0);
	frames = mmap(NULL, FRAMES * PAGE_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED, b->group_fd, 0);
	assert_ptr_not_equal(frames, MAP_FAILED);
	for (uint64_t i = 0; i < FRAMES; i++)
		frames[i * PAGE_SIZE / 8] = 0x5000 + i;
	munmap(frames, FRAMES * PAGE_SIZE);

	/* As a VM gets it: it cannot write there. */
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", b->group_fd);

	const int ro = open(path, O_RDONLY | O_CLOEXEC);

	assert_true(ro >= 0);
	assert_int_equal(machine_map_group(guestmem_machine(b->mem), ro,
					   FRAMES * PAGE_SIZE, &err),
			 0);
	close(ro);
}

static struct box *new_box(uint64_t max_runs, uint64_t limit_pages)
{
	struct box *b = calloc(1, sizeof(*b));
	struct kvm_window_config cfg = {
		.failed = on_failed,
		.stalled = on_stalled,
		.ctx = b,
		.max_runs = max_runs,
		.large_pages = large_pages,
	};
	struct err err = {0};

	b->kvm = b->vm = b->cpu = -1;
	pthread_mutex_init(&b->lock, NULL);
	assert_int_equal(guestmem_new(RAM_BYTES, &b->mem, &err), 0);
	if (limit_pages)
		guestmem_set_limit(b->mem, limit_pages);
	guestmem_set_source(b->mem, &source, b);
	assert_int_equal(revoke_host_new(guestmem_physmap(b->mem),
					 guestmem_machine(b->mem)->home_fd,
					 on_send, b, &b->host),
			 0);
	guestmem_connect_host(b->mem, on_ack, b);
	make_group(b);
	cfg.mem = b->mem;
	cfg.lock = &b->lock;
	assert_int_equal(kvm_window_new(&cfg, &b->window, &err), 0);
	if (first_allowance) {
		physmap_withdraw(guestmem_physmap(b->mem), UINT64_MAX);
		physmap_grant(guestmem_physmap(b->mem), first_allowance);
	}
	kvm_window_claim(b->window);
	load_guest(b);
	if (first_allowance)
		physmap_grant(guestmem_physmap(b->mem), N_PAGES);
	if (use_kvm)
		start_guest(b);
	assert_int_equal(kvm_window_start(b->window, &err), 0);
	return b;
}

static void audit(struct box *b)
{
	struct err err = {0};
	int64_t r;

	pthread_mutex_lock(&b->lock);
	r = kvm_window_audit(b->window, &err);
	pthread_mutex_unlock(&b->lock);
	if (r < 0)
		print_message("%s\n", err.text);
	assert_true(r >= 0);
}

static void free_box(struct box *b)
{
	audit(b);
	assert_false(b->failed);
	if (b->run)
		munmap(b->run, b->run_bytes);
	if (b->cpu >= 0) {
		close(b->cpu);
		close(b->vm);
		close(b->kvm);
	}
	kvm_window_free(b->window);
	guestmem_connect_host(b->mem, NULL, NULL);
	revoke_host_free(b->host);
	guestmem_free(b->mem);
	close(b->group_fd);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static uint64_t used_pages(struct box *b)
{
	struct stat st;

	assert_int_equal(fstat(guestmem_machine(b->mem)->home_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

static uint64_t entry(struct box *b, uint64_t page)
{
	return physmap_load(guestmem_physmap(b->mem), ppn(page));
}

/* The host takes one page; its contents are remembered if it becomes ZIPPED. */
static void take(struct box *b, uint64_t page, uint64_t final)
{
	const ppn_t pages[] = {ppn(page)};
	struct revoke_batch batch;

	assert_int_equal(revoke_take(b->host, pages, 1, ~(1U << PHYSMAP_BUSY),
				     &batch),
			 1);
	assert_int_equal(revoke_wait(b->host, &batch, SECOND_NS), 0);
	if (physmap_state(final) == PHYSMAP_ZIPPED)
		memcpy(b->away[page],
		       machine_ptr(guestmem_machine(b->mem),
				   ma(MACHINE_HOME + page * PAGE_SIZE)),
		       sizeof(b->away[0]));
	assert_int_equal(revoke_finish(b->host, &batch, 0, final), 0);
	revoke_end(b->host, &batch);
}

static void test_untouched(void **state)
{
	struct box *b = new_box(100, 0);
	const uint64_t used = used_pages(b);

	(void)state;
	/* A large page of the file is one of the window. */
	assert_int_equal((uintptr_t)kvm_window_base(b->window) % (2 << 20), 0);
	/* All the VM's, without memory, and nobody watches. */
	assert_int_equal(entry(b, 1000), PHYSMAP_HOME_ENTRY);
	assert_true(used < 16);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 0);
	for (uint64_t p = 1000; p < 1010; p++) {
		assert_int_equal(load(b, p), 0);
		store(b, p, p);
	}
	for (uint64_t p = 1000; p < 1010; p++)
		assert_int_equal(load(b, p), p);
	assert_int_equal(kvm_window_stats(b->window).missing_faults, 0);
	assert_true(used_pages(b) >= used + 10 && used_pages(b) <= used + 16);
	free_box(b);
}

static void test_zipped(void **state)
{
	struct box *b = new_box(100, 0);

	(void)state;
	for (uint64_t p = 1000; p < 1010; p++)
		store(b, p, 0xabc000 + p);

	const uint64_t used = used_pages(b);

	for (uint64_t p = 1000; p < 1010; p++)
		take(b, p, physmap_zipped(p, 100));
	assert_int_equal(used_pages(b), used - 10);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 1);
	for (uint64_t p = 1000; p < 1010; p++) {
		assert_int_equal(load(b, p), 0xabc000 + p);
		assert_int_equal(entry(b, p), PHYSMAP_HOME_ENTRY);
	}
	assert_int_equal(b->fills, 10);
	assert_int_equal(b->left, 10);
	store(b, 1003, 7);
	take(b, 1003, physmap_zipped(1, 100));
	store(b, 1003, 8); /* a write brings it too */
	assert_int_equal(load(b, 1003), 8);
	assert_int_equal(b->fills, 11);
	free_box(b);
}

static void test_zero(void **state)
{
	struct box *b = new_box(100, 0);

	(void)state;
	store(b, 1000, 1);
	store(b, 1001, 1);
	store(b, 1000, 0);
	store(b, 1001, 0);
	take(b, 1000, physmap_zero());
	take(b, 1001, physmap_zero());
	assert_int_equal(entry(b, 1000), physmap_zero());
	assert_int_equal(load(b, 1000), 0);
	store(b, 1001, 5);
	assert_int_equal(load(b, 1001), 5);
	assert_int_equal(entry(b, 1001), PHYSMAP_HOME_ENTRY);
	free_box(b);
}

/* Devices see what the processor wrote, and the other way round. */
static void test_devices(void **state)
{
	struct box *b = new_box(100, 0);
	uint64_t value = 0;

	(void)state;
	store(b, 1000, 77);
	pthread_mutex_lock(&b->lock);
	assert_true(guestmem_read(b->mem, gpa(1000 * PAGE_SIZE), &value, 8));
	pthread_mutex_unlock(&b->lock);
	assert_int_equal(value, 77);
	store(b, 1001, 0);
	take(b, 1001, physmap_zero());
	value = 78;
	pthread_mutex_lock(&b->lock);
	assert_true(guestmem_write(b->mem, gpa(1001 * PAGE_SIZE), &value, 8));
	assert_int_equal(guestmem_drop(b->mem, ppn(1000), PHYSMAP_BALLOON),
			 MEM_OK);
	pthread_mutex_unlock(&b->lock);
	assert_int_equal(load(b, 1001), 78);
	assert_int_equal(load(b, 1000), 0);
	free_box(b);
}

static void test_shared(void **state)
{
	struct box *b = new_box(100, 0);
	uint64_t used;

	(void)state;
	for (uint64_t i = 0; i < 16; i++)
		store(b, 1000 + i, 1);
	for (uint64_t i = 0; i < 16; i++)
		take(b, 1000 + i, physmap_shared(8 + i));
	used = used_pages(b);
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(load(b, 1000 + i), 0x5008 + i);
	assert_int_equal(used_pages(b), used);
	assert_int_equal(kvm_window_stats(b->window).runs, 1);
	assert_int_equal(kvm_window_stats(b->window).shared_mapped, 16);

	/* Copy on write in the middle: one more run, and only this page. */
	store(b, 1005, 42);
	assert_int_equal(load(b, 1005), 42);
	assert_int_equal(entry(b, 1005), PHYSMAP_HOME_ENTRY);
	assert_int_equal(entry(b, 1004), physmap_shared(12));
	assert_int_equal(load(b, 1004), 0x500c);
	assert_int_equal(load(b, 1006), 0x500e);
	assert_int_equal(kvm_window_stats(b->window).runs, 2);
	assert_int_equal(used_pages(b), used + 1);
	assert_true(kvm_window_stats(b->window).write_faults >= 1);

	/* Taken from the run: to another frame, and then zipped. */
	take(b, 1002, physmap_shared(40));
	assert_int_equal(load(b, 1002), 0x5000 + 40);
	assert_int_equal(b->left, 1);
	free_box(b);
}

/* Pages that were never mapped are written first. */
static void test_shared_write_first(void **state)
{
	struct box *b = new_box(100, 0);

	(void)state;
	for (uint64_t i = 0; i < 4; i++)
		take(b, 1000 + i, physmap_shared(i));
	store(b, 1002, 9);
	assert_int_equal(load(b, 1002), 9);
	assert_int_equal(load(b, 1001), 0x5001);
	assert_int_equal(load(b, 1003), 0x5003);
	free_box(b);
}

static void test_bound(void **state)
{
	struct box *b = new_box(3, 0);

	(void)state;
	/* Frames backwards: no two pages are one run. */
	for (uint64_t i = 0; i < 16; i++)
		take(b, 1000 + i, physmap_shared(32 - i));
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(load(b, 1000 + i), 0x5000 + 32 - i);
	assert_int_equal(kvm_window_stats(b->window).runs, 3);
	assert_int_equal(kvm_window_stats(b->window).runs_refused, 13);
	assert_int_equal(b->left, 13);
	for (uint64_t i = 0; i < 16; i++) {
		store(b, 1000 + i, i);
		assert_int_equal(load(b, 1000 + i), i);
	}
	assert_int_equal(kvm_window_stats(b->window).runs, 0);
	free_box(b);
}

static void test_watched(void **state)
{
	struct box *b = new_box(100, 0);
	struct physmap *map = guestmem_physmap(b->mem);
	const ppn_t pages[] = {ppn(1000), ppn(1001), ppn(1002)};

	(void)state;
	for (uint64_t p = 1000; p < 1003; p++)
		store(b, p, p);
	assert_int_equal(revoke_watch(b->host, pages, 3, SECOND_NS), 3);
	assert_int_equal(load(b, 1001), 1001);
	assert_int_equal(physmap_touched(map), 1);
	assert_true(physmap_is_watched(entry(b, 1000)));
	store(b, 1000, 3);
	store(b, 1000, 4);
	assert_int_equal(physmap_touched(map), 2);
	assert_true(physmap_is_watched(entry(b, 1002)));
	free_box(b);
}

/* Store as KVM's workers do: from outside, for writing. Return: 0 or errno. */
static int write_as_worker(struct box *b, uint64_t page, uint64_t value)
{
	struct iovec from = {&value, sizeof(value)};
	struct iovec to = {kvm_window_base(b->window) + page * PAGE_SIZE,
			   sizeof(value)};
	const pid_t parent = getpid();
	const pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child)
		_exit(process_vm_writev(parent, &from, 1, &to, 1, 0) < 0 ? errno
									 : 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* A worker asks for writing, its processor reads: the page stays shared until it is written. */
static void test_workers(void **state)
{
	struct box *b = new_box(100, 0);
	struct kvm_window_stats stats;

	(void)state;
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	take(b, 1000, physmap_shared(8));
	assert_int_equal(write_as_worker(b, 1000, 1), EFAULT);
	assert_int_equal(entry(b, 1000), physmap_shared(8));
	stats = kvm_window_stats(b->window);
	assert_int_equal(stats.worker_faults, 1);
	assert_int_equal(stats.shared_mapped, 1);
	assert_int_equal(load(b, 1000), 0x5008);
	assert_int_equal(kvm_window_stats(b->window).missing_faults,
			 stats.missing_faults);
	if (!use_kvm) /* a guest's accesses do so by themselves */
		kvm_window_collided(b->window);
	store(b, 1000, 5);
	assert_int_equal(entry(b, 1000), PHYSMAP_HOME_ENTRY);
	assert_int_equal(load(b, 1000), 5);

	/* What must come home anyway is what it asks for. */
	store(b, 1001, 6);
	take(b, 1001, physmap_zipped(1, 100));
	assert_int_equal(write_as_worker(b, 1001, 7), 0);
	assert_int_equal(load(b, 1001), 7);

	/* Those that may be read only are few. */
	for (uint64_t i = 0; i < 70; i++) {
		take(b, 1100 + 2 * i, physmap_shared(i * 8 % FRAMES));
		assert_int_equal(write_as_worker(b, 1100 + 2 * i, 1), EFAULT);
	}
	store(b, 1100, 8);
	assert_int_equal(load(b, 1100), 8);
	for (uint64_t i = 1; i < 70; i++)
		assert_int_equal(load(b, 1100 + 2 * i), 0x5000 + i * 8 % FRAMES);
	audit(b);
	free_box(b);
}

/*
 * A kernel locks memory that may be read only. An emulator that cannot write there gives up the
 * instruction, which is done in the end, and once.
 */
static void test_locked(void **state)
{
	struct kvm_vcpu_events events;
	struct box *b;

	(void)state;
	(void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	in_kernel_mode = true;
	b = new_box(100, 0);
	take(b, 1000, physmap_shared(8));
	assert_int_equal(write_as_worker(b, 1000, 1), EFAULT);
	guest_access(b, LOCKED_AT, 1000 * PAGE_SIZE, 0x10000);
	assert_int_equal(ioctl(b->cpu, KVM_GET_VCPU_EVENTS, &events), 0);
	assert_false(events.exception.injected);
	assert_false(events.exception.pending);
	assert_int_equal(entry(b, 1000), PHYSMAP_HOME_ENTRY);
	assert_int_equal(load(b, 1000), 0x15008);
	audit(b);
	free_box(b);
	in_kernel_mode = false;
}

/*
 * A thread that samples a shared page again and again. Hosts do so after seconds; without any pause
 * a processor that waits for the lock of the mappings gets it between two changes each time, and
 * never gets in.
 */
struct sampler {
	struct box *b;
	_Atomic bool ending;
	uint64_t watched;
};

static void *sample(void *arg)
{
	struct sampler *s = arg;
	const ppn_t page = ppn(1000);

	while (!atomic_load(&s->ending)) {
		s->watched += revoke_watch(s->b->host, &page, 1, SECOND_NS);
		nap_ms(1);
	}
	return NULL;
}

/* Where a processor gets -EFAULT and tries again, a thread gets a signal, and tries again. */
static void on_segv(int number)
{
	(void)number;
}

/* Whatever happens to the view of a shared page, a processor never reads anything else there. */
static void test_shared_sampled(void **state)
{
	struct box *b = new_box(100, 0);
	struct sampler s = {.b = b};
	const uint64_t start = monotonic_ns();
	void (*before)(int) = signal(SIGSEGV, on_segv);
	pthread_t thread;
	uint64_t used;

	(void)state;
	take(b, 1000, physmap_shared(8));
	assert_int_equal(load(b, 1000), 0x5008);
	used = used_pages(b);
	assert_int_equal(pthread_create(&thread, NULL, sample, &s), 0);
	while (monotonic_ns() - start < SECOND_NS)
		assert_int_equal(load(b, 1000), 0x5008);
	atomic_store(&s.ending, true);
	pthread_join(thread, NULL);
	signal(SIGSEGV, before);
	assert_true(s.watched > 16);
	assert_int_equal(used_pages(b), used);
	free_box(b);
}

/* Less than all of RAM is allowed: every page comes through a fault. */
static void test_limited(void **state)
{
	struct box *b = new_box(100, N_PAGES / 2);
	const uint64_t home = physmap_counts(guestmem_physmap(b->mem))
				      .pages[PHYSMAP_HOME];

	(void)state;
	assert_true(home < 16);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered,
			 RAM_BYTES >> 21);
	for (uint64_t p = 1000; p < 1032; p++)
		store(b, p, p);
	for (uint64_t p = 1000; p < 1032; p++)
		assert_int_equal(load(b, p), p);
	assert_true(kvm_window_stats(b->window).missing_faults > 0);
	assert_true(physmap_counts(guestmem_physmap(b->mem)).pages[PHYSMAP_HOME] >=
		    home + 32);
	free_box(b);
}

static void test_rebuilt(void **state)
{
	struct box *b = new_box(100, 0);

	(void)state;
	store(b, 1000, 1);
	take(b, 1000, physmap_zipped(1, 100));
	/* Not as long as a page is away, however long nothing else happens. */
	nap_ms(3500);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 1);
	audit(b);
	assert_int_equal(load(b, 1000), 1);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 1);
	for (int i = 0; i < 60; i++) {
		if (kvm_window_stats(b->window).chunks_rebuilt)
			break;
		nap_ms(100);
	}
	assert_int_equal(kvm_window_stats(b->window).chunks_rebuilt, 1);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 0);
	assert_int_equal(load(b, 1000), 1);
	take(b, 1000, physmap_zipped(1, 100));
	assert_int_equal(load(b, 1000), 1);
	free_box(b);
}

static uint64_t count(struct box *b, enum physmap_state state)
{
	return physmap_counts(guestmem_physmap(b->mem)).pages[state];
}

/* All of RAM is HOME, and one page of it was touched. */
static struct box *new_untouched_box(void)
{
	struct box *b;

	large_pages = true;
	b = new_box(100, 0);
	large_pages = false;
	/* What was loaded is in a large page. */
	if (machine_offers_large_pages()) {
		assert_int_equal(used_pages(b), 512);
		assert_int_equal(b->window->n_small, 0);
	}
	store(b, 1000, 77);
	assert_int_equal(count(b, PHYSMAP_HOME), N_PAGES);
	return b;
}

/* What was never touched goes back when memory is scarce, and comes again by whole chunks. */
static void test_given_back(void **state)
{
	struct box *b = new_untouched_box();

	(void)state;
	for (uint64_t p = 3584; p < 4096; p++)
		store(b, p, p);
	kvm_window_set_large(b->window, false);
	for (int i = 0; i < 100 && count(b, PHYSMAP_HOME) > used_pages(b); i++)
		nap_ms(20);
	/* The last chunk has nothing to give. */
	assert_in_range(kvm_window_stats(b->window).registrations, 1,
			N_PAGES / 512 - 1);
	assert_int_equal(count(b, PHYSMAP_HOME), used_pages(b));
	assert_int_equal(count(b, PHYSMAP_ZERO), N_PAGES - used_pages(b));
	assert_int_equal(entry(b, 1000), PHYSMAP_HOME_ENTRY);
	assert_int_equal(load(b, 1000), 77);
	audit(b);

	/* While it is scarce a touch takes some pages, and not all. */
	store(b, 2048, 5);
	assert_int_equal(entry(b, 2048), PHYSMAP_HOME_ENTRY);
	assert_int_equal(entry(b, 2559), physmap_zero());

	kvm_window_set_large(b->window, true);
	store(b, 3000, 6);
	assert_int_equal(entry(b, 3071), PHYSMAP_HOME_ENTRY);
	assert_int_equal(entry(b, 3072), physmap_zero());
	assert_int_equal(load(b, 3000), 6);
	assert_int_equal(load(b, 2048), 5);
	assert_int_equal(kvm_window_stats(b->window).chunks_rebuilt, 1);
	free_box(b);
}

static void drop(struct box *b, uint64_t first, uint64_t n_pages)
{
	pthread_mutex_lock(&b->lock);
	assert_int_equal(guestmem_drop_run(b->mem, ppn(first), n_pages,
					   PHYSMAP_ZERO),
			 MEM_OK);
	pthread_mutex_unlock(&b->lock);
}

/* A guest gives up all that it does not use: what it never touched stays as it is. */
static void test_given_up(void **state)
{
	struct box *b = new_untouched_box();
	struct kvm_window_stats stats;

	(void)state;
	drop(b, 2048, N_PAGES - 2048);
	assert_int_equal(count(b, PHYSMAP_HOME), N_PAGES);
	assert_int_equal(kvm_window_stats(b->window).chunks_registered, 0);
	assert_int_equal(guestmem_stats(b->mem).dropped, N_PAGES - 2048);

	drop(b, 512, N_PAGES - 512);
	stats = kvm_window_stats(b->window);
	assert_int_equal(stats.chunks_registered, 1);
	assert_in_range(stats.unmaps, 1024 - 1000, 512);
	assert_int_equal(entry(b, 1000), physmap_zero());
	assert_int_equal(entry(b, 1024), PHYSMAP_HOME_ENTRY);
	assert_int_equal(load(b, 1000), 0);
	store(b, 1001, 9);
	store(b, 3000, 10);
	assert_int_equal(load(b, 1001), 9);
	assert_int_equal(load(b, 3000), 10);

	/* Shared pages among them. */
	store(b, 1002, 11);
	take(b, 1003, physmap_shared(8));
	assert_int_equal(load(b, 1003), 0x5008);
	store(b, 1004, 12);
	drop(b, 1001, 4);
	for (uint64_t p = 1001; p < 1005; p++)
		assert_int_equal(load(b, p), 0);
	audit(b);
	free_box(b);
}

/* Before Linux 6.4 pages are a hole while the kernel makes a large page of them. */
static void test_false_hole(void **state)
{
	struct box *b = new_untouched_box();

	(void)state;
	store(b, 3000, 78);
	atomic_store(&all_holes, true);
	kvm_window_set_large(b->window, false);
	for (int i = 0; i < 100 && entry(b, 999) != physmap_zero(); i++)
		nap_ms(20);
	atomic_store(&all_holes, false);
	assert_int_equal(entry(b, 999), physmap_zero());
	assert_int_equal(load(b, 1000), 77);
	assert_int_equal(load(b, 3000), 78);
	assert_int_equal(entry(b, 1000), PHYSMAP_HOME_ENTRY);
	audit(b);
	free_box(b);
}

/* All of RAM could not be claimed: nothing stays behind that nobody uses and nobody may have. */
static void test_half_claimed(void **state)
{
	struct box *b;

	(void)state;
	claim_half = true;
	b = new_box(100, 0);
	claim_half = false;
	assert_int_equal(entry(b, 2040), physmap_zero());
	assert_int_equal(entry(b, 2050), physmap_zero());
	assert_int_equal(count(b, PHYSMAP_HOME), used_pages(b));
	audit(b);
	store(b, 2040, 3);
	store(b, 2050, 3);
	assert_int_equal(load(b, 2040), 3);
	assert_int_equal(load(b, 2050), 3);
	free_box(b);
}

/* Loaded page by page: what has memory then is made a large page where there are any. */
static void test_allowed_late(void **state)
{
	const bool offered = machine_offers_large_pages();
	struct box *b;

	(void)state;
	large_pages = true;
	first_allowance = 64;
	b = new_box(100, 0);
	large_pages = false;
	first_allowance = 0;
	assert_int_equal(count(b, PHYSMAP_HOME), N_PAGES);
	assert_int_equal(kvm_window_stats(b->window).registrations, 0);
	store(b, 100, 5);
	for (int i = 0; offered && i < 100; i++) {
		if (kvm_window_stats(b->window).collapsed)
			break;
		nap_ms(100);
	}
	assert_int_equal(kvm_window_stats(b->window).collapsed, offered);
	if (!offered)
		printf("not seen: this host has no large pages for memory files\n");
	assert_int_equal(load(b, 100), 5);
	free_box(b);
}

/* The host spoils and returns pages as fast as it can while they are counted up. */
static void test_stress(void **state)
{
	struct box *b = new_box(100, 0);
	struct revoke_stress *stress;
	struct revoke_stress_stats stats;
	struct err err = {0};
	uint64_t rounds = 0;
	struct timespec start, now;

	(void)state;
	guestmem_connect_host(b->mem, NULL, NULL);
	assert_int_equal(revoke_stress_start(b->mem, 20000, 1, &stress, &err),
			 0);
	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		rounds++;
		for (uint64_t p = FIRST_FREE; p < N_PAGES; p += 37) {
			const uint64_t seen = load(b, p);

			if (seen != rounds - 1)
				print_message("page %llu: %llu, not %llu\n",
					      (unsigned long long)p,
					      (unsigned long long)seen,
					      (unsigned long long)rounds - 1);
			assert_int_equal(seen, rounds - 1);
			store(b, p, rounds);
		}
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec - start.tv_sec < 3 || rounds < 5);
	stats = revoke_stress_stats(stress);
	revoke_stress_stop(stress);
	print_message(
		"%llu rounds, %llu pages taken, %llu brought back\n",
		(unsigned long long)rounds, (unsigned long long)stats.taken,
		(unsigned long long)kvm_window_stats(b->window).minor_faults);
	assert_true(stats.taken > 500);
	free_box(b);
}

/* The end of a VM lets a processor go that waits for a page which never comes. */
static void *touch(void *arg)
{
	struct box *b = arg;

	load(b, 1000);
	return NULL;
}

static void test_end_while_waiting(void **state)
{
	struct box *b = new_box(100, 0);
	const ppn_t pages[] = {ppn(1000)};
	struct revoke_batch batch;
	pthread_t thread;

	(void)state;
	assert_int_equal(revoke_take(b->host, pages, 1, 1U << PHYSMAP_HOME,
				     &batch),
			 1);
	assert_int_equal(revoke_wait(b->host, &batch, SECOND_NS), 0);
	assert_int_equal(pthread_create(&thread, NULL, touch, b), 0);
	nap_ms(50);
	guestmem_stop(b->mem);
	pthread_join(thread, NULL);
	assert_true(b->failed);
	b->failed = false;
	revoke_end(b->host, &batch);
	free_box(b);
}

static enum guestmem_grant grant_nothing(void *ctx)
{
	(void)ctx;
	return GUESTMEM_GRANT_ASKED;
}

static void *load_one(void *ctx)
{
	assert_int_equal(load(ctx, 1500), 7);
	return NULL;
}

/* Whether the home file has memory behind a page. */
static bool has_memory(struct box *b, uint64_t page)
{
	const int fd = guestmem_machine(b->mem)->home_fd;
	uint64_t start, end;

	return memfile_data_next(fd, (page + 1) * PAGE_SIZE, page * PAGE_SIZE,
				 &start, &end);
}

/* What the kernel leaves behind a page goes, also while a fault waits for allowance. */
static void test_strays_while_waiting(void **state)
{
	/* Nothing is HOME that has no memory. */
	struct box *b = new_box(100, N_PAGES / 2);
	const uint64_t word = 1;
	pthread_t thread;

	(void)state;
	store(b, 1000, 6);
	store(b, 1500, 7);
	take(b, 1000, physmap_zipped(1, 100));
	take(b, 1500, physmap_zipped(2, 100));
	guestmem_set_allowance_source(b->mem, grant_nothing, b);
	physmap_withdraw(guestmem_physmap(b->mem), UINT64_MAX);
	assert_int_equal(pthread_create(&thread, NULL, load_one, b), 0);
	while (!guestmem_stats(b->mem).allowance_waits)
		nap_ms(1);
	assert_false(has_memory(b, 1000));
	assert_int_equal(pwrite(guestmem_machine(b->mem)->home_fd, &word,
				sizeof(word), 1000 * PAGE_SIZE),
			 sizeof(word));
	for (int i = 0; i < 100 && has_memory(b, 1000); i++)
		nap_ms(100);
	assert_false(has_memory(b, 1000));
	/* It is told while it waits: its watchdog does not wait. */
	for (int i = 0; i < 50 && b->stalled < 2; i++)
		nap_ms(100);
	assert_true(b->stalled >= 2);
	/* However often it looked, the guest has waited once. */
	assert_int_equal(guestmem_stats(b->mem).allowance_waits, 1);
	physmap_grant(guestmem_physmap(b->mem), 100);
	pthread_join(thread, NULL);
	assert_int_equal(kvm_window_stats(b->window).strays, 1);
	assert_int_equal(load(b, 1000), 6);
	free_box(b);
}

static void *load_some(void *ctx)
{
	for (uint64_t page = 1500; page < 1505; page++)
		assert_int_equal(load(ctx, page), 7);
	return NULL;
}

/* The guest is told of many short waits as of a long one: its watchdog sees no difference. */
static void test_short_waits_add_up(void **state)
{
	struct box *b = new_box(100, N_PAGES / 2);
	pthread_t thread;

	(void)state;
	for (uint64_t page = 1500; page < 1505; page++) {
		store(b, page, 7);
		take(b, page, physmap_zipped(page, 100));
	}
	guestmem_set_allowance_source(b->mem, grant_nothing, b);
	physmap_withdraw(guestmem_physmap(b->mem), UINT64_MAX);
	assert_int_equal(pthread_create(&thread, NULL, load_some, b), 0);
	for (uint64_t n = 1; n <= 5; n++) {
		while (guestmem_stats(b->mem).allowance_waits < n)
			nap_ms(1);
		nap_ms(300);
		physmap_grant(guestmem_physmap(b->mem), 1);
	}
	pthread_join(thread, NULL);
	assert_true(b->stalled >= 1);
	free_box(b);
}

static bool have_kvm(void)
{
	const int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_untouched),
		cmocka_unit_test(test_zipped),
		cmocka_unit_test(test_zero),
		cmocka_unit_test(test_devices),
		cmocka_unit_test(test_shared),
		cmocka_unit_test(test_shared_write_first),
		cmocka_unit_test(test_workers),
		cmocka_unit_test(test_shared_sampled),
		cmocka_unit_test(test_bound),
		cmocka_unit_test(test_watched),
		cmocka_unit_test(test_limited),
		cmocka_unit_test(test_rebuilt),
		cmocka_unit_test(test_given_back),
		cmocka_unit_test(test_given_up),
		cmocka_unit_test(test_false_hole),
		cmocka_unit_test(test_half_claimed),
		cmocka_unit_test(test_allowed_late),
		cmocka_unit_test(test_stress),
		cmocka_unit_test(test_end_while_waiting),
		cmocka_unit_test(test_strays_while_waiting),
		cmocka_unit_test(test_short_waits_add_up),
	};
	const struct CMUnitTest kernel_tests[] = {
		cmocka_unit_test(test_locked),
	};
	struct kvm_userfault fault;
	const int fd = kvm_userfault_open(&fault);
	int failed;

	if (fd < 0) {
		printf("skipped: %s\n", fault.reason);
		return 77;
	}
	close(fd);
	failed = cmocka_run_group_tests_name("by this process", tests, NULL,
					     NULL);
	if (!have_kvm()) {
		printf("the tests with a guest are skipped: no /dev/kvm\n");
		return failed;
	}
	use_kvm = true;
	failed += cmocka_run_group_tests_name("by a guest in user mode", tests,
					      NULL, NULL);
	failed += cmocka_run_group_tests_name("by a guest in kernel mode",
					      kernel_tests, NULL, NULL);
	return failed;
}

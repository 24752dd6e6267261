/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of mem/guestmem. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/guestmem.h>

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)

/* The library's calls for memory come here, so that a host without memory can be played. */
static int populate_errno;

int madvise(void *addr, size_t len, int advice)
{
	if (advice == 23 && populate_errno) {
		errno = populate_errno;
		return -1;
	}
	return (int)syscall(SYS_madvise, addr, len, advice);
}

/* What the VM around guest memory would be. */
struct vm {
	struct guestmem *mem;
	unsigned n_unmap;
	ppn_t unmapped;
	unsigned n_written;
	gpa_t written;
	uint64_t written_len;
	unsigned n_fill;
	int fill_result;
	unsigned n_left;
	uint64_t left;
};

static void vm_unmap(void *ctx, ppn_t page)
{
	struct vm *vm = ctx;

	vm->n_unmap++;
	vm->unmapped = page;
}

static void vm_written(void *ctx, gpa_t addr, uint64_t len)
{
	struct vm *vm = ctx;

	vm->n_written++;
	vm->written = addr;
	vm->written_len = len;
}

static const struct guestmem_ops vm_ops = {
	.unmap = vm_unmap,
	.written = vm_written,
};

static struct vm vm_make(uint64_t ram_bytes)
{
	struct vm vm = {0};
	struct err err = {0};

	if (guestmem_new(ram_bytes, &vm.mem, &err))
		fail_msg("%s", err.text);
	return vm;
}

static uint64_t entry_of(struct vm *vm, uint64_t page)
{
	return physmap_load(guestmem_physmap(vm->mem), ppn(page));
}

static uint64_t home_pages(struct vm *vm)
{
	struct stat st;

	assert_int_equal(fstat(guestmem_machine(vm->mem)->home_fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

static struct mem_page resolve(struct vm *vm, uint64_t addr,
			       enum mem_access access)
{
	struct mem_page page;

	assert_int_equal(guestmem_resolve(vm->mem, gpa(addr), access, &page),
			 MEM_OK);
	return page;
}

static void host_moves(struct vm *vm, uint64_t page, uint64_t to)
{
	const uint64_t from = entry_of(vm, page);
	const uint64_t steps[] = {
		physmap_busy(from, PHYSMAP_BY_HOST),
		physmap_busy(to, PHYSMAP_BY_HOST),
		to,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(steps); i++) {
		if (entry_of(vm, page) == steps[i])
			continue;
		assert_int_equal(physmap_change(guestmem_physmap(vm->mem),
						PHYSMAP_BY_HOST, ppn(page),
						entry_of(vm, page), steps[i]),
				 PHYSMAP_CHANGED);
		if (i == 1 && physmap_state(from) == PHYSMAP_HOME)
			machine_home_drop(guestmem_machine(vm->mem), ppn(page));
	}
}

static void map_has_a_hole(void **state)
{
	struct vm vm = vm_make(5 * GIB);
	const uint64_t low = GUESTMEM_HOLE_START / PAGE_SIZE;
	const uint64_t n = 5 * GIB / PAGE_SIZE;
	ppn_t page = ppn(n);

	(void)state;
	assert_true(guestmem_ppn(vm.mem, gpa(0), &page) && page.v == 0);
	assert_true(guestmem_ppn(vm.mem, gpa(GUESTMEM_HOLE_START - 1), &page));
	assert_int_equal(page.v, low - 1);
	assert_false(guestmem_ppn(vm.mem, gpa(GUESTMEM_HOLE_START), &page));
	assert_false(guestmem_ppn(vm.mem, gpa(GUESTMEM_HOLE_END - 1), &page));
	assert_true(guestmem_ppn(vm.mem, gpa(GUESTMEM_HOLE_END), &page));
	assert_int_equal(page.v, low);
	assert_true(guestmem_ppn(vm.mem, gpa(6 * GIB - 1), &page));
	assert_int_equal(page.v, n - 1);
	assert_false(guestmem_ppn(vm.mem, gpa(6 * GIB), &page));
	assert_false(guestmem_ppn(vm.mem, gpa(UINT64_MAX), &page));
	assert_int_equal(guestmem_ram_bytes(vm.mem), 5 * GIB);
	for (uint64_t i = 0; i < n; i += 12345) {
		assert_true(guestmem_ppn(vm.mem, guestmem_gpa(vm.mem, ppn(i)),
					 &page));
		assert_int_equal(page.v, i);
	}
	guestmem_free(vm.mem);
	assert_null(guestmem_free(NULL));
}

static void small_map_ends_below_the_hole(void **state)
{
	struct vm vm = vm_make(2 * MIB);
	struct mem_page page;
	ppn_t p;

	(void)state;
	assert_true(guestmem_ppn(vm.mem, gpa(2 * MIB - 1), &p));
	assert_false(guestmem_ppn(vm.mem, gpa(2 * MIB), &p));
	assert_false(guestmem_ppn(vm.mem, gpa(GUESTMEM_HOLE_END), &p));
	assert_false(guestmem_ppn(vm.mem, gpa(UINT64_MAX), &p));
	assert_int_equal(guestmem_resolve(vm.mem, gpa(2 * MIB), MEM_READ, &page),
			 MEM_NOT_RAM);
	guestmem_free(vm.mem);
}

static void size_errors_have_words(void **state)
{
	struct guestmem *mem = NULL;
	struct err err = {0};

	(void)state;
	assert_int_equal(guestmem_new(4097, &mem, &err), -EINVAL);
	assert_non_null(strstr(err.text, "4097"));
	assert_null(mem);
}

static void first_write_makes_home(void **state)
{
	struct vm vm = vm_make(MIB);
	struct mem_page page = resolve(&vm, 0x3123, MEM_READ);

	(void)state;
	assert_int_equal(page.ma.v, MACHINE_ZERO);
	assert_int_equal(page.ppn.v, 3);
	assert_false(page.writable);
	assert_int_equal(home_pages(&vm), 0);

	page = resolve(&vm, 0x3fff, MEM_WRITE);
	assert_int_equal(page.ma.v, MACHINE_HOME + 0x3000);
	assert_true(page.writable);
	assert_int_equal(entry_of(&vm, 3), physmap_home());
	assert_int_equal(home_pages(&vm), 1);
	page = resolve(&vm, 0x3000, MEM_READ);
	assert_int_equal(page.ma.v, MACHINE_HOME + 0x3000);
	assert_true(page.writable);
	assert_int_equal(guestmem_stats(vm.mem).zero_fills, 1);
	guestmem_free(vm.mem);
}

/* Two guest addresses of one page: one read it while ZERO, the other writes. */
static void zero_page_that_was_shown_is_unmapped(void **state)
{
	struct vm vm = vm_make(MIB);
	const uint64_t epoch = guestmem_epoch(vm.mem);

	(void)state;
	guestmem_set_ops(vm.mem, &vm_ops, &vm);
	resolve(&vm, 0x1000, MEM_WRITE);
	assert_int_equal(vm.n_unmap, 0);
	assert_int_equal(guestmem_epoch(vm.mem), epoch);
	resolve(&vm, 0x2000, MEM_READ);
	resolve(&vm, 0x2000, MEM_WRITE);
	assert_int_equal(vm.n_unmap, 1);
	assert_int_equal(vm.unmapped.v, 2);
	assert_true(guestmem_epoch(vm.mem) != epoch);
	/* Once is enough. */
	host_moves(&vm, 2, physmap_zero());
	resolve(&vm, 0x2000, MEM_WRITE);
	assert_int_equal(vm.n_unmap, 1);
	guestmem_free(vm.mem);
}

static void copies_cross_pages_and_the_end(void **state)
{
	struct vm vm = vm_make(4 * GIB);
	const uint64_t ends[] = {GUESTMEM_HOLE_START, 5 * GIB};
	uint8_t out[3 * PAGE_SIZE];
	uint8_t in[3 * PAGE_SIZE];

	(void)state;
	for (unsigned i = 0; i < sizeof(out); i++)
		out[i] = (uint8_t)(i * 7 + 1);
	for (unsigned i = 0; i < ARRAY_SIZE(ends); i++) {
		const uint64_t end = ends[i];

		for (uint64_t len = 1; len <= sizeof(out); len += 1021) {
			assert_true(guestmem_write(vm.mem, gpa(end - len), out,
						   len));
			memset(in, 0, sizeof(in));
			assert_true(
				guestmem_read(vm.mem, gpa(end - len), in, len));
			assert_memory_equal(in, out, len);
			assert_false(guestmem_write(vm.mem, gpa(end - len + 1),
						    in, len));
			assert_false(guestmem_read(vm.mem, gpa(end - len + 1),
						   in, len));
		}
		/* A write that does not fit changes nothing. */
		assert_true(guestmem_read(vm.mem, gpa(end - 1), in, 1));
		assert_int_equal(in[0],
				 out[sizeof(out) - 1 - (sizeof(out) - 1) % 1021]);
	}
	assert_false(guestmem_read(vm.mem, gpa(GUESTMEM_HOLE_START), in, 1));
	assert_false(guestmem_read(vm.mem, gpa(GUESTMEM_HOLE_END - 1), in, 2));
	assert_true(guestmem_read(vm.mem, gpa(GUESTMEM_HOLE_END), in, 2));
	/* From below the hole to above it is not one stretch. */
	assert_false(guestmem_read(vm.mem, gpa(GUESTMEM_HOLE_START - 1), in,
				   GIB + 2));
	assert_true(guestmem_read(vm.mem, gpa(GUESTMEM_HOLE_START), in, 0));
	assert_false(guestmem_read(vm.mem, gpa(UINT64_MAX), in, 2));
	assert_false(guestmem_read(vm.mem, gpa(1), in, UINT64_MAX));
	assert_false(guestmem_write(vm.mem, gpa(PAGE_SIZE), in, UINT64_MAX - 1));
	guestmem_free(vm.mem);
}

static void random_copies_against_an_array(void **state)
{
	enum {
		SIZE = 1 << 20
	};
	struct vm vm = vm_make(SIZE);
	uint8_t *model = calloc(1, SIZE);
	uint8_t *buf = malloc(SIZE);
	uint64_t seed = 42;

	(void)state;
	assert_non_null(model);
	assert_non_null(buf);
	for (unsigned i = 0; i < 3000; i++) {
		seed = seed * UINT64_C(6364136223846793005) +
		       1442695040888963407;

		const uint64_t addr = (seed >> 20) % SIZE;
		uint64_t len = (seed >> 44) % 9000;

		if (len > SIZE - addr)
			len = SIZE - addr;
		if (i % 2) {
			memset(buf, (int)(i % 251), len);
			memcpy(model + addr, buf, len);
			assert_true(guestmem_write(vm.mem, gpa(addr), buf, len));
		} else {
			assert_true(guestmem_read(vm.mem, gpa(addr), buf, len));
			assert_memory_equal(buf, model + addr, len);
		}
	}
	free(model);
	free(buf);
	guestmem_free(vm.mem);
}

static void writes_to_flagged_pages_are_told(void **state)
{
	struct vm vm = vm_make(MIB);
	uint8_t bytes[PAGE_SIZE] = {1};
	uint8_t *ptr;
	uint64_t len;

	(void)state;
	guestmem_set_ops(vm.mem, &vm_ops, &vm);
	guestmem_flags(vm.mem)[2] = GUESTMEM_CODE;
	assert_true(guestmem_write(vm.mem, gpa(0x1800), bytes, 0x800));
	assert_int_equal(vm.n_written, 0);
	assert_true(guestmem_write(vm.mem, gpa(0x1800), bytes, 0x801));
	assert_int_equal(vm.n_written, 1);
	assert_int_equal(vm.written.v, 0x2000);
	assert_int_equal(vm.written_len, 1);
	assert_true(guestmem_read(vm.mem, gpa(0x2000), bytes, PAGE_SIZE));
	assert_int_equal(vm.n_written, 1);

	assert_int_equal(guestmem_span(vm.mem, gpa(0x2010), MEM_READ, &ptr, &len),
			 MEM_OK);
	assert_int_equal(vm.n_written, 1);
	assert_int_equal(len, PAGE_SIZE - 0x10);
	assert_int_equal(guestmem_span(vm.mem, gpa(0x2010), MEM_WRITE, &ptr,
				       &len),
			 MEM_OK);
	/* The device is yet to store: who hears of it must forget all of the page. */
	assert_int_equal(vm.n_written, 2);
	assert_int_equal(vm.written.v, 0x2000);
	assert_int_equal(vm.written_len, PAGE_SIZE);
	*ptr = 0x77;
	assert_true(guestmem_read(vm.mem, gpa(0x2010), bytes, 1));
	assert_int_equal(bytes[0], 0x77);
	assert_int_equal(guestmem_span(vm.mem, gpa(MIB), MEM_READ, &ptr, &len),
			 MEM_NOT_RAM);
	guestmem_free(vm.mem);
}

static void host_without_memory(void **state)
{
	struct vm vm = vm_make(MIB);
	struct mem_page page;
	uint64_t word = 1;

	(void)state;
	populate_errno = EFAULT;
	assert_int_equal(guestmem_failure(vm.mem), MEM_OK);
	assert_int_equal(guestmem_resolve(vm.mem, gpa(0), MEM_WRITE, &page),
			 MEM_NO_HOST_MEMORY);
	assert_int_equal(entry_of(&vm, 0), physmap_zero());
	assert_false(guestmem_write(vm.mem, gpa(0), &word, 8));
	assert_int_equal(guestmem_failure(vm.mem), MEM_NO_HOST_MEMORY);
	/* Reading needs no memory. */
	assert_true(guestmem_read(vm.mem, gpa(0), &word, 8));
	assert_int_equal(word, 0);
	populate_errno = 0;
	assert_true(physmap_audit(guestmem_physmap(vm.mem)));
	assert_int_equal(home_pages(&vm), 0);
	guestmem_free(vm.mem);
}

static void limit_without_a_host(void **state)
{
	struct vm vm = vm_make(MIB);
	struct mem_page page;

	(void)state;
	guestmem_set_limit(vm.mem, 10);
	for (unsigned i = 0; i < 10; i++)
		resolve(&vm, i * PAGE_SIZE, MEM_WRITE);
	assert_int_equal(guestmem_resolve(vm.mem, gpa(10 * PAGE_SIZE),
					  MEM_WRITE, &page),
			 MEM_NO_HOST_MEMORY);
	assert_int_equal(guestmem_failure(vm.mem), MEM_NO_HOST_MEMORY);
	/* What the guest gives up may be taken again. */
	assert_int_equal(guestmem_drop(vm.mem, ppn(4), PHYSMAP_BALLOON), MEM_OK);
	resolve(&vm, 11 * PAGE_SIZE, MEM_WRITE);
	assert_int_equal(guestmem_resolve(vm.mem, gpa(10 * PAGE_SIZE),
					  MEM_WRITE, &page),
			 MEM_NO_HOST_MEMORY);
	assert_int_equal(home_pages(&vm), 10);
	guestmem_free(vm.mem);
}

static void given_up_pages_are_zero_again(void **state)
{
	const enum physmap_state finals[] = {PHYSMAP_ZERO, PHYSMAP_BALLOON};
	struct vm vm = vm_make(MIB);
	uint64_t word = 5;

	(void)state;
	guestmem_set_ops(vm.mem, &vm_ops, &vm);
	for (unsigned i = 0; i < ARRAY_SIZE(finals); i++) {
		word = 5;
		assert_true(guestmem_write(vm.mem, gpa(0x5008), &word, 8));
		vm.n_unmap = 0;
		assert_int_equal(guestmem_drop(vm.mem, ppn(5), finals[i]),
				 MEM_OK);
		assert_int_equal(vm.n_unmap, 1);
		assert_int_equal(physmap_state(entry_of(&vm, 5)), finals[i]);
		assert_int_equal(home_pages(&vm), 0);
		/* Twice is fine. */
		assert_int_equal(guestmem_drop(vm.mem, ppn(5), finals[i]),
				 MEM_OK);
		assert_true(guestmem_read(vm.mem, gpa(0x5008), &word, 8));
		assert_int_equal(word, 0);
		assert_int_equal(entry_of(&vm, 5), physmap_zero());
	}
	assert_int_equal(guestmem_drop(vm.mem, ppn(256), PHYSMAP_ZERO),
			 MEM_NOT_RAM);
	assert_int_equal(guestmem_stats(vm.mem).dropped, 2);
	assert_true(physmap_audit(guestmem_physmap(vm.mem)));
	guestmem_free(vm.mem);
}

static int vm_fill(void *ctx, ppn_t page, uint64_t entry, uint8_t *frame)
{
	struct vm *vm = ctx;

	(void)page;
	vm->n_fill++;
	memset(frame, (int)physmap_slot(entry), PAGE_SIZE);
	return vm->fill_result;
}

static void vm_left(void *ctx, ppn_t page, uint64_t entry)
{
	struct vm *vm = ctx;

	(void)page;
	vm->n_left++;
	vm->left = entry;
}

static const struct guestmem_source_ops vm_source = {
	.fill = vm_fill,
	.left = vm_left,
};

static void away_pages_come_back(void **state)
{
	const uint64_t away[] = {physmap_zipped(0x21, 99),
				 physmap_swapped(0x22)};
	struct vm vm = vm_make(MIB);
	uint8_t byte = 1;

	(void)state;
	guestmem_set_source(vm.mem, &vm_source, &vm);
	for (unsigned i = 0; i < ARRAY_SIZE(away); i++) {
		assert_true(guestmem_write(vm.mem, gpa(0), &byte, 1));
		host_moves(&vm, 0, away[i]);
		assert_int_equal(home_pages(&vm), 0);
		assert_true(guestmem_read(vm.mem, gpa(0x123), &byte, 1));
		assert_int_equal(byte, 0x21 + i);
		assert_int_equal(entry_of(&vm, 0), physmap_home());
		assert_int_equal(vm.left, away[i]);
		assert_int_equal(vm.n_left, i + 1);
	}
	assert_int_equal(guestmem_stats(vm.mem).fills, 2);

	/* A swap file that cannot be read stops the VM, with the page where it was. */
	vm.fill_result = -EIO;
	host_moves(&vm, 0, away[1]);
	assert_false(guestmem_read(vm.mem, gpa(0), &byte, 1));
	assert_int_equal(guestmem_failure(vm.mem), MEM_NO_HOST_MEMORY);
	assert_int_equal(entry_of(&vm, 0), away[1]);
	assert_int_equal(home_pages(&vm), 0);
	assert_int_equal(vm.n_left, 2);

	/* A guest that gives it up no longer needs the slot. */
	assert_int_equal(guestmem_drop(vm.mem, ppn(0), PHYSMAP_ZERO), MEM_OK);
	assert_int_equal(vm.n_left, 3);
	assert_true(physmap_audit(guestmem_physmap(vm.mem)));
	guestmem_free(vm.mem);
}

static void shared_pages_are_copied_on_write(void **state)
{
	struct vm vm = vm_make(MIB);
	int group = memfd_create("group", MFD_CLOEXEC);
	struct mem_page page;
	uint8_t bytes[8];

	(void)state;
	assert_int_equal(ftruncate(group, 2 * PAGE_SIZE), 0);
	assert_int_equal(pwrite(group, "common", 7, PAGE_SIZE), 7);
	assert_int_equal(machine_map_group(guestmem_machine(vm.mem), group,
					   2 * PAGE_SIZE, NULL),
			 0);
	guestmem_set_ops(vm.mem, &vm_ops, &vm);
	guestmem_set_source(vm.mem, &vm_source, &vm);
	resolve(&vm, 0x7000, MEM_WRITE);
	host_moves(&vm, 7, physmap_shared(1));

	page = resolve(&vm, 0x7000, MEM_READ);
	assert_int_equal(page.ma.v, MACHINE_GROUP + PAGE_SIZE);
	assert_false(page.writable);
	assert_int_equal(vm.n_unmap, 0);
	assert_true(guestmem_write(vm.mem, gpa(0x7000), "C", 1));
	assert_int_equal(vm.n_unmap, 1);
	assert_int_equal(vm.left, physmap_shared(1));
	assert_true(guestmem_read(vm.mem, gpa(0x7000), bytes, 7));
	assert_memory_equal(bytes, "Common", 7);
	assert_int_equal(pread(group, bytes, 7, PAGE_SIZE), 7);
	assert_memory_equal(bytes, "common", 7);
	assert_int_equal(guestmem_stats(vm.mem).unshares, 1);
	close(group);
	guestmem_free(vm.mem);
}

/* Page 0 is HOME, page 1 ZERO, and the host waits for the next touch of both. */
static void watch_two(struct vm *vm)
{
	resolve(vm, 0, MEM_WRITE);
	for (unsigned i = 0; i < 2; i++) {
		const uint64_t stable = entry_of(vm, i);

		host_moves(vm, i, physmap_busy(stable, PHYSMAP_BY_HOST));
		host_moves(vm, i, physmap_watched(stable));
	}
}

static void watched_pages_count_one_touch(void **state)
{
	struct vm vm = vm_make(MIB);

	(void)state;
	watch_two(&vm);
	assert_true(physmap_is_watched(entry_of(&vm, 0)));
	assert_true(physmap_is_watched(entry_of(&vm, 1)));
	assert_int_equal(guestmem_stats(vm.mem).touched, 0);
	assert_int_equal(resolve(&vm, 0, MEM_READ).ma.v, MACHINE_HOME);
	assert_int_equal(resolve(&vm, 0, MEM_READ).ma.v, MACHINE_HOME);
	assert_int_equal(guestmem_stats(vm.mem).touched, 1);
	assert_int_equal(resolve(&vm, PAGE_SIZE, MEM_READ).ma.v, MACHINE_ZERO);
	assert_int_equal(guestmem_stats(vm.mem).touched, 2);
	assert_int_equal(entry_of(&vm, 0), physmap_home());
	assert_int_equal(entry_of(&vm, 1), physmap_zero());
	guestmem_free(vm.mem);
}

static void giving_up_is_no_touch(void **state)
{
	struct vm vm = vm_make(MIB);

	(void)state;
	watch_two(&vm);
	assert_int_equal(guestmem_drop_run(vm.mem, ppn(0), 2, PHYSMAP_ZERO),
			 MEM_OK);
	assert_int_equal(guestmem_stats(vm.mem).touched, 0);
	assert_int_equal(entry_of(&vm, 0), physmap_zero());
	assert_int_equal(entry_of(&vm, 1), physmap_watched(physmap_zero()));
	resolve(&vm, PAGE_SIZE, MEM_READ);
	assert_int_equal(guestmem_stats(vm.mem).touched, 1);
	guestmem_free(vm.mem);
}

/* A thread that does something to the VM while the test's thread waits for a page. */
struct helper {
	struct vm *vm;
	void (*act)(struct vm *vm);
};

static bool is_waiting(struct vm *vm)
{
	const struct mem_stats stats = guestmem_stats(vm->mem);

	return stats.busy_waits || stats.allowance_waits;
}

static void *help(void *arg)
{
	struct helper *h = arg;
	const struct timespec pause = {.tv_nsec = 2000000};

	while (!is_waiting(h->vm))
		nanosleep(&pause, NULL);
	/* So that the other thread sleeps, most times. */
	nanosleep(&pause, NULL);
	h->act(h->vm);
	return NULL;
}

static enum mem_status resolve_with_help(struct vm *vm, uint64_t addr,
					 void (*act)(struct vm *vm))
{
	struct helper h = {.vm = vm, .act = act};
	struct mem_page page;
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, help, &h), 0);

	enum mem_status status = guestmem_resolve(vm->mem, gpa(addr), MEM_WRITE,
						  &page);

	pthread_join(thread, NULL);
	return status;
}

static void stop_vm(struct vm *vm)
{
	guestmem_stop(vm->mem);
}

static void end_busy(struct vm *vm)
{
	const uint64_t entry = entry_of(vm, 0);

	if (physmap_change(guestmem_physmap(vm->mem), PHYSMAP_BY_HOST, ppn(0),
			   entry, physmap_stable(entry)) != PHYSMAP_CHANGED)
		abort();
}

static void break_link(struct vm *vm)
{
	guestmem_link_broken(vm->mem);
}

static void grant_one(struct vm *vm)
{
	physmap_grant(guestmem_physmap(vm->mem), 1);
}

static struct vm vm_with_busy_page(void)
{
	struct vm vm = vm_make(MIB);
	uint64_t word = 99;

	assert_true(guestmem_write(vm.mem, gpa(0), &word, 8));
	host_moves(&vm, 0, physmap_busy(physmap_home(), PHYSMAP_BY_HOST));
	return vm;
}

static void busy_page_is_waited_for(void **state)
{
	void (*const acts[])(struct vm *) = {end_busy, break_link};

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(acts); i++) {
		struct vm vm = vm_with_busy_page();
		uint64_t word = 0;

		assert_int_equal(resolve_with_help(&vm, 0, acts[i]), MEM_OK);
		assert_true(guestmem_read(vm.mem, gpa(0), &word, 8));
		assert_int_equal(word, 99);
		assert_int_equal(guestmem_stats(vm.mem).busy_waits, 1);
		assert_true(guestmem_stats(vm.mem).busy_wait_ns >= 2000000);
		assert_int_equal(guestmem_stats(vm.mem).recovered_pages, i);
		assert_true(physmap_audit(guestmem_physmap(vm.mem)));
		guestmem_free(vm.mem);
	}
}

static void stop_ends_waiting(void **state)
{
	struct vm vm = vm_with_busy_page();
	uint64_t word;

	(void)state;
	assert_int_equal(resolve_with_help(&vm, 0, stop_vm), MEM_STOPPED);
	assert_int_equal(guestmem_failure(vm.mem), MEM_STOPPED);
	assert_false(guestmem_read(vm.mem, gpa(0), &word, 8));
	guestmem_free(vm.mem);
}

static enum guestmem_grant ask_and_wait(void *ctx)
{
	unsigned *n_asked = ctx;

	++*n_asked;
	return GUESTMEM_GRANT_ASKED;
}

static struct vm vm_without_allowance(unsigned *n_asked)
{
	struct vm vm = vm_make(MIB);

	guestmem_set_allowance_source(vm.mem, ask_and_wait, n_asked);
	physmap_withdraw(guestmem_physmap(vm.mem), UINT64_MAX);
	return vm;
}

static void allowance_is_waited_for(void **state)
{
	unsigned n_asked = 0;
	struct vm vm = vm_without_allowance(&n_asked);

	(void)state;
	assert_int_equal(resolve_with_help(&vm, 0, grant_one), MEM_OK);
	assert_true(n_asked >= 1);
	assert_int_equal(physmap_allowance(guestmem_physmap(vm.mem)), 0);
	assert_int_equal(guestmem_stats(vm.mem).allowance_waits, 1);
	assert_true(guestmem_stats(vm.mem).allowance_wait_ns > 0);
	assert_int_equal(entry_of(&vm, 0), physmap_home());
	guestmem_free(vm.mem);

	vm = vm_without_allowance(&n_asked);
	assert_int_equal(resolve_with_help(&vm, 0, stop_vm), MEM_STOPPED);
	guestmem_free(vm.mem);
}

static void a_terabyte_is_sparse(void **state)
{
	struct vm vm = vm_make(MACHINE_MAX_RAM);
	const uint64_t last = MACHINE_MAX_RAM + GIB - 8;
	uint64_t word = 77;

	(void)state;
	assert_true(guestmem_write(vm.mem, gpa(last), &word, 8));
	word = 0;
	assert_true(guestmem_read(vm.mem, gpa(last), &word, 8));
	assert_int_equal(word, 77);
	assert_false(guestmem_read(vm.mem, gpa(last + 1), &word, 8));
	assert_int_equal(home_pages(&vm), 1);
	assert_true(physmap_audit(guestmem_physmap(vm.mem)));
	guestmem_free(vm.mem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(map_has_a_hole),
		cmocka_unit_test(small_map_ends_below_the_hole),
		cmocka_unit_test(size_errors_have_words),
		cmocka_unit_test(first_write_makes_home),
		cmocka_unit_test(zero_page_that_was_shown_is_unmapped),
		cmocka_unit_test(copies_cross_pages_and_the_end),
		cmocka_unit_test(random_copies_against_an_array),
		cmocka_unit_test(writes_to_flagged_pages_are_told),
		cmocka_unit_test(host_without_memory),
		cmocka_unit_test(limit_without_a_host),
		cmocka_unit_test(given_up_pages_are_zero_again),
		cmocka_unit_test(away_pages_come_back),
		cmocka_unit_test(shared_pages_are_copied_on_write),
		cmocka_unit_test(watched_pages_count_one_touch),
		cmocka_unit_test(giving_up_is_no_touch),
		cmocka_unit_test(busy_page_is_waited_for),
		cmocka_unit_test(stop_ends_waiting),
		cmocka_unit_test(allowance_is_waited_for),
		cmocka_unit_test(a_terabyte_is_sparse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

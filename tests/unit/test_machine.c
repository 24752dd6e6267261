/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of mem/machine and the allocator of table pages. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <mem/machine.h>
#include <mem/table_pages.h>

#define MIB (UINT64_C(1) << 20)

/*
 * The library's calls for memory come here, so that a host without memory, or with an
 * older kernel, can be played.
 */
static int populate_errno;
static int fallocate_errno;

int madvise(void *addr, size_t len, int advice)
{
	if (advice == 23 && populate_errno) {
		errno = populate_errno;
		return -1;
	}
	return (int)syscall(SYS_madvise, addr, len, advice);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
	if (fallocate_errno) {
		errno = fallocate_errno;
		return -1;
	}
	return (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

static struct machine *new_machine(uint64_t ram_bytes)
{
	struct machine *m = NULL;
	struct err err = {0};

	if (machine_new(ram_bytes, &m, &err))
		fail_msg("%s", err.text);
	return m;
}

static uint64_t file_pages(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

static bool access_kills(volatile uint8_t *ptr, bool write)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		struct rlimit none = {0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		if (write)
			*ptr = 1;
		else
			(void)*ptr;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

static void sizes_are_checked(void **state)
{
	struct machine *m = (struct machine *)&populate_errno;
	struct err err = {0};

	(void)state;
	assert_int_equal(machine_new(MIB + 1, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "multiple"));
	assert_int_equal(machine_new(MIB - PAGE_SIZE, &m, &err), -EINVAL);
	assert_non_null(strstr(err.text, "1 MiB"));
	assert_int_equal(machine_new(MACHINE_MAX_RAM + PAGE_SIZE, &m, &err),
			 -EINVAL);
	assert_int_equal(machine_new(0, &m, NULL), -EINVAL);
	assert_ptr_equal(m, &populate_errno);
}

static void smallest_and_largest(void **state)
{
	struct machine *m = new_machine(MACHINE_MIN_RAM);

	(void)state;
	m = machine_free(m);
	assert_null(m);
	assert_null(machine_free(NULL));

	m = new_machine(MACHINE_MAX_RAM);
	/* As a large page of the home file is. */
	assert_int_equal((uintptr_t)machine_ptr(m, ma(MACHINE_HOME)) % (2 * MIB),
			 0);

	const ppn_t last = ppn(MACHINE_MAX_RAM / PAGE_SIZE - 1);
	uint8_t *ptr = machine_ptr(m, ma(MACHINE_HOME + last.v * PAGE_SIZE));

	assert_int_equal(machine_home_populate(m, last), 0);
	ptr[PAGE_SIZE - 1] = 7;
	assert_int_equal(ptr[PAGE_SIZE - 1], 7);
	assert_int_equal(file_pages(m->home_fd), 1);
	machine_free(m);
}

static void window_is_guarded(void **state)
{
	struct machine *m = new_machine(MIB);

	(void)state;
	assert_true(access_kills(m->window - 1, false));
	assert_true(access_kills(m->window + MIB, true));
	assert_true(access_kills(m->window + MACHINE_ZERO - 1, false));
	assert_true(access_kills(m->window + MACHINE_ZERO, true));
	assert_true(access_kills(m->window + MACHINE_ZERO + PAGE_SIZE, false));
	assert_true(access_kills(m->window + MACHINE_GROUP, false));
	assert_true(access_kills(m->window + MACHINE_TABLE, false));
	assert_true(access_kills(m->window + MACHINE_END, false));
	for (uint64_t i = 0; i < PAGE_SIZE; i++)
		assert_int_equal(m->window[MACHINE_ZERO + i], 0);
	machine_free(m);
}

static void home_frames_come_and_go(void **state)
{
	struct machine *m = new_machine(MIB);
	uint8_t *ptr = machine_ptr(m, ma(MACHINE_HOME + 5 * PAGE_SIZE));

	(void)state;
	assert_int_equal(file_pages(m->home_fd), 0);
	assert_int_equal(machine_home_populate(m, ppn(5)), 0);
	assert_int_equal(file_pages(m->home_fd), 1);
	memset(ptr, 0x5a, PAGE_SIZE);
	assert_int_equal(machine_home_populate(m, ppn(5)), 0);
	assert_int_equal(ptr[17], 0x5a);
	assert_true(machine_home_drop(m, ppn(5)));
	assert_int_equal(file_pages(m->home_fd), 0);
	assert_int_equal(ptr[17], 0);
	machine_free(m);
}

static void home_file_is_sealed(void **state)
{
	struct machine *m = new_machine(MIB);

	(void)state;
	assert_int_equal(ftruncate(m->home_fd, 0), -1);
	assert_int_equal(ftruncate(m->home_fd, 2 * MIB), -1);
	machine_free(m);
}

static void no_host_memory(void **state)
{
	struct machine *m = new_machine(MIB);
	ma_t table;

	(void)state;
	populate_errno = EFAULT;
	assert_int_equal(machine_home_populate(m, ppn(1)), -ENOMEM);
	assert_int_equal(machine_table_alloc(m, &table), -ENOMEM);
	populate_errno = ENOMEM;
	assert_int_equal(machine_home_populate(m, ppn(1)), -ENOMEM);
	populate_errno = 0;
	assert_int_equal(machine_home_populate(m, ppn(1)), 0);
	assert_int_equal(machine_table_pages(m), 0);
	assert_int_equal(machine_table_alloc(m, &table), 0);
	assert_true(machine_table_audit(m));
	machine_free(m);
}

static void older_kernels(void **state)
{
	struct machine *m = new_machine(MIB);

	(void)state;
	populate_errno = EINVAL;
	assert_int_equal(machine_home_populate(m, ppn(1)), 0);
	assert_int_equal(file_pages(m->home_fd), 1);
	fallocate_errno = ENOSPC;
	assert_int_equal(machine_home_populate(m, ppn(2)), -ENOMEM);
	assert_int_equal(file_pages(m->home_fd), 1);

	/* A hole that cannot be punched is written full of zeros. */
	uint8_t *ptr = machine_ptr(m, ma(MACHINE_HOME + PAGE_SIZE));

	memset(ptr, 1, PAGE_SIZE);
	assert_false(machine_home_drop(m, ppn(1)));
	assert_int_equal(ptr[0] | ptr[PAGE_SIZE - 1], 0);
	populate_errno = 0;
	fallocate_errno = 0;
	machine_free(m);
}

static void address_space_limit(void **state)
{
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (!child) {
		const struct rlimit limit = {
			.rlim_cur = UINT64_C(64) << 30,
			.rlim_max = UINT64_C(64) << 30,
		};
		struct machine *m = NULL;
		struct err err = {0};

		setrlimit(RLIMIT_AS, &limit);

		int r = machine_new(MIB, &m, &err);

		_exit(r == -ENOMEM && strstr(err.text, "65536 MiB") &&
				      strstr(err.text, "ulimit -v")
			      ? 0
			      : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void group_file_is_read_only(void **state)
{
	struct machine *m = new_machine(MIB);
	int fd = memfd_create("group", MFD_CLOEXEC);
	struct err err = {0};

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 4 * PAGE_SIZE), 0);
	assert_int_equal(pwrite(fd, "shared", 6, 2 * PAGE_SIZE), 6);
	assert_int_equal(machine_map_group(m, fd, PAGE_SIZE + 1, &err), -EINVAL);
	assert_int_equal(machine_map_group(m, fd, 0, &err), -EINVAL);
	assert_int_equal(machine_map_group(m, fd, 2 * PAGE_SIZE, &err), 0);
	assert_int_equal(machine_map_group(m, fd, 4 * PAGE_SIZE, &err), 0);

	uint8_t *ptr = machine_ptr(m, ma(MACHINE_GROUP + 2 * PAGE_SIZE));

	assert_memory_equal(ptr, "shared", 6);
	assert_true(access_kills(ptr, true));
	close(fd);
	machine_free(m);
}

static void large_pages_switch(void **state)
{
	struct machine *m = new_machine(4 * MIB);
	struct err err = {0};
	int r = machine_set_large_pages(m, true, &err);

	(void)state;
	/* Which of the two is the host's choice; both must be whole. */
	if (r) {
		assert_int_equal(r, -EOPNOTSUPP);
		assert_non_null(strstr(err.text, "shmem_enabled"));
	} else {
		assert_int_equal(machine_home_populate(m, ppn(0)), 0);
	}
	assert_int_equal(machine_set_large_pages(m, false, &err), 0);
	machine_free(m);
}

static void tables_are_zero_and_distinct(void **state)
{
	enum {
		N = 1500
	};
	struct machine *m = new_machine(MIB);
	ma_t *table = calloc(N, sizeof(*table));

	(void)state;
	assert_non_null(table);
	for (unsigned i = 0; i < N; i++) {
		assert_int_equal(machine_table_alloc(m, &table[i]), 0);
		assert_true(table[i].v >= MACHINE_TABLE &&
			    table[i].v < MACHINE_END);
		assert_int_equal(table[i].v % PAGE_SIZE, 0);

		uint8_t *ptr = machine_ptr(m, table[i]);

		for (unsigned k = 0; k < PAGE_SIZE; k++)
			assert_int_equal(ptr[k], 0);
		memset(ptr, (int)(i % 255 + 1), PAGE_SIZE);
	}
	for (unsigned i = 0; i < N; i++)
		assert_int_equal(*machine_ptr(m, table[i]), i % 255 + 1);
	assert_int_equal(machine_table_pages(m), N);
	assert_true(machine_table_audit(m));
	free(table);
	machine_free(m);
}

/* Random allocation and freeing against a list of what is in use. */
static void tables_by_random(void **state)
{
	enum {
		MAX = 2000,
		STEPS = 40000
	};
	struct machine *m = new_machine(MIB);
	ma_t *used = calloc(MAX, sizeof(*used));
	unsigned n = 0;
	uint32_t seed = 12345;

	(void)state;
	assert_non_null(used);
	for (unsigned i = 0; i < STEPS; i++) {
		seed = seed * 1664525 + 1013904223;

		/* Waves of growth and shrinkage. */
		const bool grow = i / 5000 % 2 ? seed >> 28 < 5 : seed >> 28 > 5;

		if (grow && n < MAX) {
			assert_int_equal(machine_table_alloc(m, &used[n]), 0);

			uint64_t *ptr = (uint64_t *)(void *)machine_ptr(m,
									used[n]);

			assert_int_equal(ptr[0] | ptr[100] | ptr[511], 0);
			ptr[0] = ptr[100] = ptr[511] = used[n++].v;
		} else if (n) {
			const unsigned k = (seed >> 8) % n;
			uint64_t *ptr = (uint64_t *)(void *)machine_ptr(m,
									used[k]);

			assert_true(ptr[0] == used[k].v && ptr[100] == ptr[0] &&
				    ptr[511] == ptr[0]);
			machine_table_free(m, used[k]);
			used[k] = used[--n];
		}
		assert_true(machine_table_kept_pages(m) <= TABLE_KEPT_PAGES);
	}
	assert_int_equal(machine_table_pages(m), n);
	assert_true(machine_table_audit(m));
	while (n)
		machine_table_free(m, used[--n]);
	assert_int_equal(machine_table_pages(m), 0);
	assert_true(machine_table_audit(m));
	/* What is kept is all that the host still spends. */
	assert_int_equal(file_pages(m->table_fd), machine_table_kept_pages(m));
	free(used);
	machine_free(m);
}

static void tables_end(void **state)
{
	struct machine *m = new_machine(MIB);
	struct table_pages *t;
	int fd = memfd_create("tables", MFD_CLOEXEC);
	uint64_t idx;

	(void)state;
	/* Room for one chunk only; the group's part of the window serves as addresses. */
	t = table_pages_new(fd, m->window + MACHINE_GROUP,
			    TABLE_CHUNK_PAGES + 100);
	assert_non_null(t);
	for (unsigned i = 0; i < TABLE_CHUNK_PAGES; i++)
		assert_int_equal(table_pages_alloc(t, &idx), 0);
	assert_int_equal(table_pages_alloc(t, &idx), -ENOMEM);
	table_pages_put(t, 77);
	assert_int_equal(table_pages_alloc(t, &idx), 0);
	assert_int_equal(idx, 77);
	assert_true(table_pages_audit(t));
	assert_null(table_pages_free(t));
	assert_null(table_pages_free(NULL));
	close(fd);
	machine_free(m);
}

static bool free_twice_aborts(struct machine *m, ma_t table)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (!child) {
		struct rlimit none = {0};

		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		fclose(stderr);
		machine_table_free(m, table);
		machine_table_free(m, table);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void table_freed_twice(void **state)
{
	struct machine *m = new_machine(MIB);
	ma_t table;

	(void)state;
	assert_int_equal(machine_table_alloc(m, &table), 0);
	assert_true(free_twice_aborts(m, table));
	machine_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_checked),
		cmocka_unit_test(smallest_and_largest),
		cmocka_unit_test(window_is_guarded),
		cmocka_unit_test(home_frames_come_and_go),
		cmocka_unit_test(home_file_is_sealed),
		cmocka_unit_test(no_host_memory),
		cmocka_unit_test(older_kernels),
		cmocka_unit_test(address_space_limit),
		cmocka_unit_test(group_file_is_read_only),
		cmocka_unit_test(large_pages_switch),
		cmocka_unit_test(tables_are_zero_and_distinct),
		cmocka_unit_test(tables_by_random),
		cmocka_unit_test(tables_end),
		cmocka_unit_test(table_freed_twice),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

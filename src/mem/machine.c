/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine window: every memory file of a VM in one reserved range of addresses.
 *
 * The whole range is first mapped without access and without memory; then each file is
 * mapped over its part. What is not mapped stays inaccessible, so an address computed
 * past the end of RAM or of the table pages faults at once instead of reaching
 * something else, and the range has an inaccessible guard before and after it. (Guest
 * RAM of exactly MACHINE_MAX_RAM ends where the zero page begins; that page is
 * read-only.)
 *
 * The home and table files are sparse: a page has memory only after
 * machine_home_populate() or table allocation brought it, which report a host without
 * memory as an error. Guest contents are kept out of core dumps.
 */
#include <mem/machine.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <base/verify.h>
#include <mem/memfile.h>
#include <mem/populate.h>
#include <mem/table_pages.h>

/* On either side of the window; wide enough for any offset in an operand. */
#define GUARD_BYTES (UINT64_C(64) << 10)
#define LARGE_BYTES (UINT64_C(2) << 20)

static int reserve_failed(int code, struct err *err)
{
	const unsigned long long gib = MACHINE_END >> 30;
	struct rlimit limit;

	if (!getrlimit(RLIMIT_AS, &limit) && limit.rlim_cur != RLIM_INFINITY)
		return err_set(
			err, code,
			"cannot reserve %llu GiB of address space: this process is limited to %llu MiB (ulimit -v, RLIMIT_AS); lift that limit",
			gib, (unsigned long long)limit.rlim_cur >> 20);
	return err_set(err, code, "cannot reserve %llu GiB of address space: %s",
		       gib, strerror(-code));
}

/*
 * Aligned so that a large page of the home file is one here, too: else each of its pages
 * costs a fault of its own when a kernel is loaded.
 */
static int machine_reserve(struct machine *m, struct err *err)
{
	const uint64_t bytes = MACHINE_END + 2 * GUARD_BYTES + LARGE_BYTES;
	uint8_t *range = mmap(NULL, bytes, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
			      0);
	uint8_t *start;

	if (range == MAP_FAILED)
		return reserve_failed(-errno, err);
	start = range + GUARD_BYTES;
	m->window = start + (-(uintptr_t)start & (LARGE_BYTES - 1));
	m->reserved = range;
	m->reserved_bytes = bytes;
	return 0;
}

static int machine_map(struct machine *m, uint64_t at, uint64_t bytes, int prot,
		       int flags, int fd, struct err *err)
{
	if (mmap(m->window + at, bytes, prot, flags | MAP_FIXED, fd, 0) ==
	    MAP_FAILED)
		return err_set(err, -errno, "cannot map %llu MiB of memory: %s",
			       (unsigned long long)bytes >> 20, strerror(errno));
	/* A kernel built without core dumps knows no such advice; nothing is lost. */
	(void)madvise(m->window + at, bytes, MADV_DONTDUMP);
	memfile_small_pages(m->window + at, bytes);
	return 0;
}

static int machine_map_home(struct machine *m, struct err *err)
{
	int r = memfile_new("mezz-home", m->ram_bytes, false, &m->home_fd, err);

	if (r)
		return r;
	return machine_map(m, MACHINE_HOME, m->ram_bytes,
			   PROT_READ | PROT_WRITE, MAP_SHARED, m->home_fd, err);
}

static int machine_map_zero(struct machine *m, struct err *err)
{
	/* Read-only and never written: the kernel shows its own page of zeros. */
	return machine_map(m, MACHINE_ZERO, PAGE_SIZE, PROT_READ,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, err);
}

static int machine_start_tables(struct machine *m, struct err *err)
{
	int r = memfile_new("mezz-tables", 0, true, &m->table_fd, err);

	if (r)
		return r;
	m->tables = table_pages_new(m->table_fd, m->window + MACHINE_TABLE,
				    (MACHINE_END - MACHINE_TABLE) / PAGE_SIZE);
	if (!m->tables)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int machine_check_size(uint64_t ram_bytes, struct err *err)
{
	if (ram_bytes % PAGE_SIZE)
		return err_set(
			err, -EINVAL,
			"guest memory of %llu bytes is not a multiple of 4 KiB",
			(unsigned long long)ram_bytes);
	if (ram_bytes < MACHINE_MIN_RAM || ram_bytes > MACHINE_MAX_RAM)
		return err_set(
			err, -EINVAL,
			"guest memory of %llu KiB is not between %llu MiB and %llu GiB",
			(unsigned long long)ram_bytes >> 10,
			(unsigned long long)MACHINE_MIN_RAM >> 20,
			(unsigned long long)MACHINE_MAX_RAM >> 30);
	return 0;
}

int machine_new(uint64_t ram_bytes, struct machine **ret_machine,
		struct err *err)
{
	int r = machine_check_size(ram_bytes, err);

	if (r)
		return r;

	struct machine *m = calloc(1, sizeof(*m));

	if (!m)
		return err_set(err, -ENOMEM, "out of memory");
	m->ram_bytes = ram_bytes;
	m->home_fd = -1;
	m->table_fd = -1;
	m->group_fd = -1;

	r = machine_reserve(m, err);
	if (!r)
		r = machine_map_home(m, err);
	if (!r)
		r = machine_map_zero(m, err);
	if (!r)
		r = machine_start_tables(m, err);
	if (r) {
		machine_free(m);
		return r;
	}
	*ret_machine = m;
	return 0;
}

struct machine *machine_free(struct machine *m)
{
	if (!m)
		return NULL;
	m->tables = table_pages_free(m->tables);
	if (m->reserved)
		munmap(m->reserved, m->reserved_bytes);
	if (m->home_fd >= 0)
		close(m->home_fd);
	if (m->table_fd >= 0)
		close(m->table_fd);
	if (m->group_fd >= 0)
		close(m->group_fd);
	free(m);
	return NULL;
}

int machine_home_populate(struct machine *m, ppn_t page)
{
	return machine_home_populate_run(m, page, 1);
}

int machine_home_populate_run(struct machine *m, ppn_t first, uint64_t n_pages)
{
	const uint64_t at = first.v * PAGE_SIZE;

	return populate_write_run(m->window + MACHINE_HOME + at, m->home_fd, at,
				  n_pages);
}

bool machine_home_drop(struct machine *m, ppn_t page)
{
	return machine_home_drop_run(m, page, 1);
}

bool machine_home_drop_run(struct machine *m, ppn_t first, uint64_t n_pages)
{
	return memfile_drop(m->home_fd, first.v * PAGE_SIZE,
			    n_pages * PAGE_SIZE);
}

/* The kernel's setting for memory files, the word in brackets; empty if unreadable. */
static void read_thp_setting(char *word, size_t size)
{
	char line[256] = "";
	FILE *f = fopen("/sys/kernel/mm/transparent_hugepage/shmem_enabled",
			"re");

	word[0] = '\0';
	if (!f)
		return;
	if (fgets(line, sizeof(line), f)) {
		char *start = strchr(line, '[');
		char *end = start ? strchr(start, ']') : NULL;

		if (end)
			snprintf(word, size, "%.*s", (int)(end - start - 1),
				 start + 1);
	}
	fclose(f);
}

/* Return: whether there may be large pages; @setting of 32 bytes for a message. */
static bool large_pages_setting(char *setting)
{
	read_thp_setting(setting, 32);
	return setting[0] && strcmp(setting, "never") != 0 &&
	       strcmp(setting, "deny") != 0;
}

bool machine_offers_large_pages(void)
{
	char setting[32];

	return large_pages_setting(setting);
}

int machine_set_large_pages(struct machine *m, bool on, struct err *err)
{
	char setting[32];

	if (!large_pages_setting(setting) && on)
		return err_set(
			err, -EOPNOTSUPP,
			"this host has no large pages for memory files: /sys/kernel/mm/transparent_hugepage/shmem_enabled is %s, it must be advise",
			setting[0] ? setting : "missing");
	if (madvise(m->window + MACHINE_HOME, m->ram_bytes,
		    on ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) < 0 &&
	    (on || errno != EINVAL))
		return err_set(err, -errno,
			       "cannot choose large pages for guest memory: %s",
			       strerror(errno));
	return 0;
}

int machine_map_group(struct machine *m, int fd, uint64_t bytes, struct err *err)
{
	if (!bytes || bytes % PAGE_SIZE || bytes > MACHINE_TABLE - MACHINE_GROUP)
		return err_set(
			err, -EINVAL,
			"a sharing group's file of %llu bytes cannot be mapped",
			(unsigned long long)bytes);
	if (m->group_fd < 0)
		m->group_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (m->group_fd < 0)
		return err_set(err, -errno, "cannot keep the group's file: %s",
			       strerror(errno));
	return machine_map(m, MACHINE_GROUP, bytes, PROT_READ, MAP_SHARED, fd,
			   err);
}

int machine_table_alloc(struct machine *m, ma_t *ret_ma)
{
	uint64_t idx;
	int r = table_pages_alloc(m->tables, &idx);

	if (!r)
		*ret_ma = ma(MACHINE_TABLE + idx * PAGE_SIZE);
	return r;
}

void machine_table_free(struct machine *m, ma_t table)
{
	VERIFY(table.v >= MACHINE_TABLE && !(table.v % PAGE_SIZE));
	table_pages_put(m->tables, (table.v - MACHINE_TABLE) / PAGE_SIZE);
}

uint64_t machine_table_pages(const struct machine *m)
{
	return table_pages_used(m->tables);
}

uint64_t machine_table_kept_pages(const struct machine *m)
{
	return table_pages_kept(m->tables);
}

bool machine_table_audit(const struct machine *m)
{
	return table_pages_audit(m->tables);
}

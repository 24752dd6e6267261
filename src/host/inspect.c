/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looks at a guest from outside, for people: its own page tables, and the host's frames
 * behind its pages. Nothing is changed, and nothing rests on what is found: the guest and
 * the mover go on meanwhile.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <arch/x86.h>
#include <base/clock.h>
#include <host/host_impl.h>
#include <mem/guestmem.h>

#define LEVELS        4
#define INDEX_BITS    9
#define ENTRY_BYTES   8
#define PAGEMAP_THERE (UINT64_C(1) << 63)
#define PAGEMAP_FRAME ((UINT64_C(1) << 55) - 1)
#define MAPPINGS_MAX  512
#define ASK_MS        1000
#define ASK_NAP_MS    5

static bool ram_page(uint64_t address, uint64_t n_pages, uint64_t *ret)
{
	uint64_t page = address >> PAGE_SHIFT;

	if (address >= GUESTMEM_HOLE_END)
		page -= (GUESTMEM_HOLE_END - GUESTMEM_HOLE_START) >> PAGE_SHIFT;
	else if (address >= GUESTMEM_HOLE_START)
		return false;
	*ret = page;
	return page < n_pages;
}

/* A word of guest memory, where it can be read without bringing anything back. */
static int read_word(const struct vmmem *mem, uint64_t address, uint64_t *ret)
{
	const uint64_t at = address & ~PAGE_MASK;
	uint64_t page, e;
	ssize_t n = 0;

	if (!ram_page(address, mem->n_pages, &page))
		return -EFAULT;
	e = physmap_stable(physmap_load(mem->map, ppn(page)));
	*ret = 0;
	switch (physmap_state(e)) {
	case PHYSMAP_ZERO:
	case PHYSMAP_BALLOON:
		return 0;
	case PHYSMAP_HOME:
		n = pread(mem->home_fd, ret, sizeof(*ret),
			  (off_t)(page * PAGE_SIZE + at));
		break;
	case PHYSMAP_SHARED:
		n = pread(mem->group->fd, ret, sizeof(*ret),
			  (off_t)(physmap_slot(e) * PAGE_SIZE + at));
		break;
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
	case PHYSMAP_BUSY:
	case PHYSMAP_N_STATES:
		return -ENODATA;
	}
	return n == sizeof(*ret) ? 0 : -EIO;
}

static void walk(const struct vmmem *mem, uint64_t root, uint64_t address,
		 struct host_walk *w)
{
	uint64_t table = root & PTE_ADDR;

	w->end = HOST_WALK_NOT_PRESENT;
	for (unsigned int level = LEVELS; level; level--) {
		const unsigned int shift = PAGE_SHIFT + INDEX_BITS * (level - 1);
		const unsigned int idx = (unsigned int)(address >> shift) &
					 ((1u << INDEX_BITS) - 1);
		const uint64_t size = UINT64_C(1) << shift;
		uint64_t entry;
		const int r = read_word(mem, table + idx * ENTRY_BYTES, &entry);

		if (r) {
			w->end = r == -ENODATA ? HOST_WALK_TABLE_AWAY
					       : HOST_WALK_NO_RAM;
			return;
		}
		w->steps[w->n_steps++] = (struct host_walk_step){.level = level,
								 .table = table,
								 .index = idx,
								 .entry = entry};
		if (!(entry & PTE_P))
			return;
		if (level == 1 || (level < LEVELS && entry & PTE_PS)) {
			const uint64_t at = (entry & PTE_ADDR & -size) |
					    (address & (size - 1));

			w->end = ram_page(at, mem->n_pages, &w->page)
					 ? HOST_WALK_MAPPED
					 : HOST_WALK_NO_RAM;
			return;
		}
		table = entry & PTE_ADDR;
	}
}

/* Return: whether it waits for the VM still; -ENOENT. */
static int ask_root(struct host *host, const char *name, bool first)
{
	struct hvm *vm;
	int r = -ENOENT;

	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, name);
	if (vm && vm->mem) {
		if (first)
			atomic_store(&vm->mem->counters->want_root, 1);
		r = atomic_load(&vm->mem->counters->want_root) != 0;
	}
	pthread_mutex_unlock(&host->lock);
	return r;
}

int host_vm_ask_root(struct host *host, const char *name)
{
	int r = ask_root(host, name, true);

	for (int ms = 0; r == 1 && ms < ASK_MS; ms += ASK_NAP_MS) {
		nap_ms(ASK_NAP_MS);
		r = ask_root(host, name, false);
	}
	return r == 1 ? -ETIMEDOUT : r;
}

int host_vm_walk(struct host *host, const char *name, uint64_t address,
		 struct host_walk *ret)
{
	struct hvm *vm;
	int r = 0;

	memset(ret, 0, sizeof(*ret));
	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, name);
	if (!vm || !vm->mem) {
		r = -ENOENT;
	} else {
		ret->root = atomic_load(&vm->mem->counters->page_root);
		if (ret->root & LINK_ROOT_KNOWN)
			walk(vm->mem, ret->root, address, ret);
		else
			r = -ENODATA;
	}
	pthread_mutex_unlock(&host->lock);
	return r;
}

/* A stretch of a memory file in a VM's address space. */
struct mapping {
	uint64_t start;
	uint64_t end;
	uint64_t offset;
	bool home; /* of the home file; else of the group's */
};

static unsigned int read_mappings(pid_t pid, struct mapping *to)
{
	char path[64], line[512];
	unsigned int n = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	while (f && n < MAPPINGS_MAX && fgets(line, sizeof(line), f)) {
		struct mapping m;
		const bool home = strstr(line, "/memfd:mezz-home ");

		if (!home && !strstr(line, "/memfd:mezz-group "))
			continue;
		if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %*s %" SCNx64,
			   &m.start, &m.end, &m.offset) != 3)
			continue;
		m.home = home;
		to[n++] = m;
	}
	if (f)
		fclose(f);
	return n;
}

/* The frame behind a page of one of the files, 0 if it is not mapped or not told. */
static uint64_t frame_of(int pagemap, const struct mapping *m, unsigned int n,
			 bool home, uint64_t page)
{
	const uint64_t offset = page * PAGE_SIZE;

	for (unsigned int i = 0; i < n; i++) {
		uint64_t word, at;

		if (m[i].home != home || offset < m[i].offset ||
		    offset - m[i].offset >= m[i].end - m[i].start)
			continue;
		at = (m[i].start + offset - m[i].offset) / PAGE_SIZE *
		     sizeof(word);
		if (pread(pagemap, &word, sizeof(word), (off_t)at) ==
			    sizeof(word) &&
		    word & PAGEMAP_THERE && word & PAGEMAP_FRAME)
			return word & PAGEMAP_FRAME;
	}
	return 0;
}

int host_vm_frames(struct host *host, const char *name,
		   const struct host_page *pages, const uint64_t *ppns,
		   size_t n, uint64_t *ret_frames)
{
	struct mapping mappings[MAPPINGS_MAX];
	unsigned int n_mappings;
	char path[64];
	struct hvm *vm;
	pid_t pid = 0;
	int fd;

	pthread_mutex_lock(&host->lock);
	vm = vm_find(host, name);
	if (vm && vm->mem)
		pid = vm->pid;
	pthread_mutex_unlock(&host->lock);
	if (pid <= 0)
		return -ENOENT;
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n_mappings = read_mappings(pid, mappings);
	for (size_t i = 0; i < n; i++) {
		const uint64_t e = physmap_stable(pages[i].entry);
		const enum physmap_state state = physmap_state(e);

		ret_frames[i] = 0;
		if (state == PHYSMAP_HOME)
			ret_frames[i] = frame_of(fd, mappings, n_mappings, true,
						 ppns[i]);
		else if (state == PHYSMAP_SHARED)
			ret_frames[i] = frame_of(fd, mappings, n_mappings,
						 false, physmap_slot(e));
	}
	close(fd);
	return 0;
}

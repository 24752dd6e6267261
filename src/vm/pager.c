/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Brings compressed and swapped pages back, in the VM itself.
 *
 * The zip file is mapped, so that unpacking costs no system call. A page that is read from
 * the swap file brings its neighbours along: pages next to it whose slots are next to its
 * slot. They wait in a small cache, not in guest memory, for a page that nobody wants
 * would have cost allowance. A page is cached only if its entry named the slot before the
 * slot was read, and forgotten when the page leaves the slot; so a slot that the host
 * uses again is never mistaken for what it was.
 *
 * A larger read takes longer, so a guest that touches pages here and there gets one page at
 * a time. The read grows while what was read ahead is used, or touches follow each other.
 */
#include <vm/pager.h>

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mem/memfile.h>
#include <mem/zip_slot.h>

#define CACHE_PAGES   32
#define CLUSTER_PAGES 8

/* Members: I immutable after attaching, P processor thread. */
struct pager {
	struct guestmem *mem;               /* I */
	struct link_counters *counters;     /* I, atomic inside */
	const uint8_t *zip;                 /* I */
	uint64_t zip_bytes;                 /* I */
	uint64_t swap_bytes;                /* I */
	int zip_fd;                         /* I */
	int swap_fd;                        /* I */
	_Atomic bool attached;              /* a */
	uint8_t *cluster;                   /* P CLUSTER_PAGES pages, aligned */
	uint8_t *cache;                     /* P CACHE_PAGES pages */
	uint64_t cached[CACHE_PAGES];       /* P PPN + 1, 0 for none */
	uint64_t cached_entry[CACHE_PAGES]; /* P */
	unsigned next; /* P place in the cache to be used next */
	unsigned window; /* P pages that the next read may have, 1 to CLUSTER_PAGES */
	unsigned hits; /* P pages from the cache since the last read */
	uint64_t last; /* P page that was touched last */
};

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static int unzip(struct pager *p, uint64_t entry, uint8_t *frame)
{
	uint64_t offset;

	if (!zip_slot_find(entry, p->zip_bytes, &offset))
		return -EIO;
	if (LZ4_decompress_safe((const char *)p->zip + offset, (char *)frame,
				(int)physmap_size_bytes(entry),
				PAGE_SIZE) != (int)PAGE_SIZE)
		return -EIO;
	return 0;
}

static bool cache_take(struct pager *p, uint64_t page, uint64_t entry,
		       uint8_t *frame)
{
	for (unsigned i = 0; i < CACHE_PAGES; i++) {
		if (p->cached[i] == page + 1 && p->cached_entry[i] == entry) {
			memcpy(frame, p->cache + i * PAGE_SIZE, PAGE_SIZE);
			return true;
		}
	}
	return false;
}

static void cache_drop(struct pager *p, uint64_t page)
{
	for (unsigned i = 0; i < CACHE_PAGES; i++) {
		if (p->cached[i] == page + 1)
			p->cached[i] = 0;
	}
}

static void cache_put(struct pager *p, uint64_t page, uint64_t entry,
		      const uint8_t *bytes)
{
	const unsigned i = p->next++ % CACHE_PAGES;

	memcpy(p->cache + i * PAGE_SIZE, bytes, PAGE_SIZE);
	p->cached[i] = page + 1;
	p->cached_entry[i] = entry;
}

/* Whether the page at a distance lies in the slot at the same distance. */
static bool is_neighbour(struct pager *p, uint64_t page, uint64_t entry,
			 int64_t distance)
{
	const struct physmap *map = guestmem_physmap(p->mem);
	const int64_t other = (int64_t)page + distance;
	const int64_t slot = (int64_t)physmap_slot(entry) + distance;

	if (other < 0 || (uint64_t)other >= physmap_pages(map) || slot < 0)
		return false;
	return physmap_load(map, ppn((uint64_t)other)) ==
	       physmap_swapped((uint64_t)slot);
}

static int read_slots(struct pager *p, uint64_t slot, unsigned n)
{
	const uint64_t bytes = n * PAGE_SIZE;
	const uint64_t at = slot * PAGE_SIZE;
	uint64_t done = 0;

	if (slot >= p->swap_bytes / PAGE_SIZE ||
	    n > p->swap_bytes / PAGE_SIZE - slot)
		return -EIO;
	while (done < bytes) {
		const ssize_t r = pread(p->swap_fd, p->cluster + done,
					bytes - done, (off_t)(at + done));

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return -EIO;
		done += (uint64_t)r;
	}
	return 0;
}

static bool follows(const struct pager *p, uint64_t page)
{
	return page == p->last + 1 || page + 1 == p->last;
}

/* How many pages to read at once. */
static unsigned choose_window(struct pager *p, uint64_t page)
{
	if (p->hits || follows(p, page))
		p->window *= 2;
	else
		p->window /= 2;
	if (p->window < 1)
		p->window = 1;
	if (p->window > CLUSTER_PAGES)
		p->window = CLUSTER_PAGES;
	p->hits = 0;
	return p->window;
}

static int unswap(struct pager *p, uint64_t page, uint64_t entry, uint8_t *frame)
{
	unsigned before = 0;
	unsigned n = 1;
	unsigned window;
	int r;

	if (cache_take(p, page, entry, frame)) {
		count(&p->counters->read_ahead, 1);
		p->hits++;
		p->last = page;
		return 0;
	}
	window = choose_window(p, page);
	p->last = page;
	while (n < window && is_neighbour(p, page, entry, n))
		n++;
	while (n < window && is_neighbour(p, page, entry, -(int64_t)before - 1)) {
		before++;
		n++;
	}
	r = read_slots(p, physmap_slot(entry) - before, n);
	if (r)
		return r;
	memcpy(frame, p->cluster + before * PAGE_SIZE, PAGE_SIZE);
	for (unsigned i = 0; i < n; i++) {
		if (i != before)
			cache_put(p, page - before + i,
				  physmap_swapped(physmap_slot(entry) - before +
						  i),
				  p->cluster + i * PAGE_SIZE);
	}
	count(&p->counters->swap_in, 1);
	return 0;
}

static int fill(void *ctx, ppn_t page, uint64_t entry, uint8_t *frame)
{
	struct pager *p = ctx;

	if (!atomic_load(&p->attached))
		return -EIO;
	if (physmap_state(entry) == PHYSMAP_SWAPPED)
		return unswap(p, page.v, entry, frame);
	count(&p->counters->zip_in, 1);
	return unzip(p, entry, frame);
}

static_assert((int)LINK_STALL_ZIP == (int)GUESTMEM_STALL_ZIP &&
		      (int)LINK_STALL_SWAP == (int)GUESTMEM_STALL_SWAP &&
		      (int)LINK_STALL_HOST == (int)GUESTMEM_STALL_HOST &&
		      (int)LINK_STALL_BUSY == (int)GUESTMEM_STALL_BUSY,
	      "both name the same causes");

static void stalled(void *ctx, enum guestmem_stall cause, uint64_t ns)
{
	const struct pager *p = ctx;

	link_stall_add(p->counters, (enum link_stall)cause, ns);
}

static void left(void *ctx, ppn_t page, uint64_t entry)
{
	struct pager *p = ctx;

	if (physmap_state(entry) == PHYSMAP_SWAPPED)
		cache_drop(p, page.v);
	link_left_push(p->counters, page.v, entry);
}

static const struct guestmem_source_ops source_ops = {
	.fill = fill,
	.left = left,
	.stalled = stalled,
};

int pager_new(struct guestmem *mem, struct link_counters *counters,
	      struct pager **ret, struct err *err)
{
	struct pager *p = calloc(1, sizeof(*p));

	if (!p)
		return err_set(err, -ENOMEM, "out of memory");
	p->mem = mem;
	p->counters = counters;
	p->zip_fd = -1;
	p->swap_fd = -1;
	p->window = 1;
	p->cluster = aligned_alloc(PAGE_SIZE, CLUSTER_PAGES * PAGE_SIZE);
	p->cache = malloc(CACHE_PAGES * PAGE_SIZE);
	if (!p->cluster || !p->cache) {
		pager_free(p);
		return err_set(err, -ENOMEM, "out of memory");
	}
	guestmem_set_source(mem, &source_ops, p);
	*ret = p;
	return 0;
}

int pager_attach(struct pager *p, int zip_fd, int swap_fd, struct err *err)
{
	struct stat zip;
	struct stat swap;

	p->zip_fd = zip_fd;
	p->swap_fd = swap_fd;
	if (fstat(zip_fd, &zip) < 0 || fstat(swap_fd, &swap) < 0 ||
	    zip.st_size < (off_t)PAGE_SIZE)
		return err_set(err, -EBADMSG,
			       "the host sent no usable zip and swap files");

	void *map = memfile_map(zip_fd, (uint64_t)zip.st_size, PROT_READ);

	if (map == MAP_FAILED)
		return err_set(err, -errno, "cannot map the zip file: %s",
			       strerror(errno));
	p->zip = map;
	p->zip_bytes = (uint64_t)zip.st_size;
	p->swap_bytes = (uint64_t)swap.st_size;
	atomic_store(&p->attached, true);
	return 0;
}

bool pager_fds(const struct pager *p, int *ret_zip_fd, int *ret_swap_fd)
{
	if (!atomic_load(&p->attached))
		return false;
	*ret_zip_fd = p->zip_fd;
	*ret_swap_fd = p->swap_fd;
	return true;
}

struct pager *pager_free(struct pager *p)
{
	union {
		const uint8_t *in;
		void *out;
	} zip;

	if (!p)
		return NULL;
	guestmem_set_source(p->mem, NULL, NULL);
	zip.in = p->zip;
	if (zip.out)
		munmap(zip.out, p->zip_bytes);
	if (p->zip_fd >= 0)
		close(p->zip_fd);
	if (p->swap_fd >= 0)
		close(p->swap_fd);
	free(p->cluster);
	free(p->cache);
	free(p);
	return NULL;
}

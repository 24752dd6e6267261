/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The compression cache of one VM.
 *
 * Each page of the file has one byte for its class and sixteen bits for its slots. Pages
 * of a class with a free slot are found from a hint, for allocation has a single user and
 * files are small against RAM. A page without slots in use has no memory.
 */
#include <host/zip.h>

#include <errno.h>
#include <fcntl.h>
#include <lz4.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/sparse.h>
#include <base/verify.h>
#include <mem/memfile.h>
#include <mem/populate.h>
#include <mem/zip_slot.h>

/* State of one page of the file. */
struct zip_page {
	uint16_t used; /* bit i: slot i */
	uint8_t cls;   /* meaningful if @used */
};

/* Members: I immutable, m the mover's, a atomic. */
struct zip {
	struct ledger *ledger;         /* I */
	uint8_t *map;                  /* I */
	uint64_t n_pages;              /* I */
	int fd;                        /* I */
	struct zip_page *pages;        /* m */
	uint64_t partial[ZIP_CLASSES]; /* m page that may have a free slot */
	uint64_t first_free;           /* m no page without slots before it */
	uint64_t end_used; /* m all pages from here on are without slots */
	_Atomic uint64_t n_used; /* a pages with memory */
	uint64_t n_slots;        /* m */
	uint32_t *fifo;          /* m ring of PPNs, oldest first */
	size_t fifo_size;        /* m */
	size_t fifo_first;       /* m */
	size_t fifo_n;           /* m */
};

static int zip_build(struct zip *zip, struct err *err)
{
	void *map = memfile_map(zip->fd, zip->n_pages * PAGE_SIZE,
				PROT_READ | PROT_WRITE);

	if (map == MAP_FAILED)
		return err_set(err, -errno, "cannot map a zip file: %s",
			       strerror(errno));
	zip->map = map;
	zip->pages = sparse_new(zip->n_pages * sizeof(*zip->pages));
	if (!zip->pages)
		return err_set(err, -ENOMEM, "out of memory");
	return 0;
}

static int zip_make(uint64_t n_pages, struct ledger *ledger, int fd,
		    struct zip **ret, struct err *err)
{
	struct zip *zip = calloc(1, sizeof(*zip));
	int r;

	if (!zip) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	zip->ledger = ledger;
	zip->n_pages = n_pages;
	zip->fd = fd;
	r = zip_build(zip, err);
	if (r) {
		zip_free(zip);
		return r;
	}
	*ret = zip;
	return 0;
}

int zip_new(uint64_t n_pages, struct ledger *ledger, struct zip **ret,
	    struct err *err)
{
	int fd;
	int r = memfile_new("mezz-zip", n_pages * PAGE_SIZE, false, &fd, err);

	return r ? r : zip_make(n_pages, ledger, fd, ret, err);
}

int zip_adopt(int fd, uint64_t n_pages, struct ledger *ledger, struct zip **ret,
	      struct err *err)
{
	const int needed = F_SEAL_SHRINK | F_SEAL_GROW;
	const int seals = fcntl(fd, F_GET_SEALS);
	char path[64];
	struct stat st;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 ||
	    (uint64_t)st.st_size != n_pages * PAGE_SIZE)
		return err_set(err, -EBADMSG, "this is no zip file of the VM");
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);

	const int mine = open(path, O_RDWR | O_CLOEXEC);

	if (mine < 0)
		return err_set(err, -errno, "cannot open the zip file: %s",
			       strerror(errno));
	return zip_make(n_pages, ledger, mine, ret, err);
}

struct zip *zip_free(struct zip *zip)
{
	if (!zip)
		return NULL;
	ledger_give(zip->ledger, atomic_load(&zip->n_used));
	if (zip->map)
		munmap(zip->map, zip->n_pages * PAGE_SIZE);
	sparse_free(zip->pages, zip->n_pages * sizeof(*zip->pages));
	close(zip->fd);
	free(zip->fifo);
	free(zip);
	return NULL;
}

int zip_fd(const struct zip *zip)
{
	return zip->fd;
}

static uint16_t full_mask(unsigned cls)
{
	return (uint16_t)((1U << zip_class_slots(cls)) - 1);
}

static bool has_room(const struct zip *zip, uint64_t p, unsigned cls)
{
	const struct zip_page *page = &zip->pages[p];

	return page->used && page->cls == cls && page->used != full_mask(cls);
}

/* A page of the class with a free slot, looking on from where one was last. */
static bool find_partial(struct zip *zip, unsigned cls, uint64_t *ret)
{
	const uint64_t end = zip->end_used;

	for (uint64_t i = 0, p = zip->partial[cls]; i < end; i++, p++) {
		if (p >= end)
			p = 0;
		if (has_room(zip, p, cls)) {
			*ret = zip->partial[cls] = p;
			return true;
		}
		/* Beyond that a new page is cheaper than the search. */
		if (i == 1024)
			return false;
	}
	return false;
}

static int find_empty(struct zip *zip, unsigned cls, uint64_t max_pages,
		      uint64_t *ret)
{
	uint64_t p = zip->first_free;

	if (atomic_load(&zip->n_used) >= max_pages)
		return -ENOSPC;
	while (p < zip->n_pages && zip->pages[p].used)
		p++;
	if (p == zip->n_pages || !ledger_take(zip->ledger, LEDGER_MOVE, 1))
		return -ENOSPC;
	if (populate_write(zip->map + p * PAGE_SIZE, zip->fd, p * PAGE_SIZE)) {
		ledger_give(zip->ledger, 1);
		return -ENOSPC;
	}
	atomic_fetch_add(&zip->n_used, 1);
	zip->first_free = p + 1;
	if (p >= zip->end_used)
		zip->end_used = p + 1;
	zip->pages[p].cls = (uint8_t)cls;
	zip->partial[cls] = p;
	*ret = p;
	return 0;
}

static bool fifo_grow(struct zip *zip)
{
	const size_t size = zip->fifo_size ? 2 * zip->fifo_size : 256;
	uint32_t *fifo = malloc(size * sizeof(*fifo));

	if (!fifo)
		return false;
	for (size_t i = 0; i < zip->fifo_n; i++)
		fifo[i] = zip->fifo[(zip->fifo_first + i) % zip->fifo_size];
	free(zip->fifo);
	zip->fifo = fifo;
	zip->fifo_size = size;
	zip->fifo_first = 0;
	return true;
}

static void fifo_push(struct zip *zip, uint64_t page)
{
	/* Without memory the page stays until it is touched. */
	if (zip->fifo_n == zip->fifo_size && !fifo_grow(zip))
		return;
	zip->fifo[(zip->fifo_first + zip->fifo_n++) % zip->fifo_size] = (uint32_t)
		page;
}

bool zip_oldest(struct zip *zip, uint64_t *ret_page)
{
	if (!zip->fifo_n)
		return false;
	*ret_page = zip->fifo[zip->fifo_first];
	zip->fifo_first = (zip->fifo_first + 1) % zip->fifo_size;
	zip->fifo_n--;
	return true;
}

int zip_put(struct zip *zip, uint64_t page, const void *bytes,
	    unsigned size_bytes, uint64_t max_pages, uint64_t *ret_entry)
{
	const unsigned cls = zip_class_of(size_bytes);
	uint64_t p;

	if (cls == ZIP_CLASS_NONE || !size_bytes)
		return -E2BIG;
	if (!find_partial(zip, cls, &p)) {
		int r = find_empty(zip, cls, max_pages, &p);

		if (r)
			return r;
	}

	const uint16_t used = zip->pages[p].used;
	const unsigned idx = (unsigned)__builtin_ctz(~(unsigned)used);

	memcpy(zip->map + p * PAGE_SIZE + idx * zip_class_bytes(cls), bytes,
	       size_bytes);
	zip->pages[p].used = (uint16_t)(used | 1U << idx);
	zip->n_slots++;
	fifo_push(zip, page);
	*ret_entry = physmap_zipped(p << ZIP_SLOTS_SHIFT | idx, size_bytes);
	return 0;
}

int zip_get(const struct zip *zip, uint64_t entry, uint8_t *ret_bytes)
{
	uint64_t offset;

	if (!zip_uses(zip, entry) ||
	    !zip_slot_find(entry, zip->n_pages * PAGE_SIZE, &offset))
		return -EIO;
	if (LZ4_decompress_safe((const char *)zip->map + offset,
				(char *)ret_bytes, (int)physmap_size_bytes(entry),
				PAGE_SIZE) != (int)PAGE_SIZE)
		return -EIO;
	return 0;
}

static bool locate(const struct zip *zip, uint64_t entry, uint64_t *ret_page,
		   unsigned *ret_idx, unsigned *ret_cls)
{
	uint64_t offset;

	if (!zip_slot_find(entry, zip->n_pages * PAGE_SIZE, &offset))
		return false;
	*ret_page = physmap_slot(entry) >> ZIP_SLOTS_SHIFT;
	*ret_idx = physmap_slot(entry) & ((1U << ZIP_SLOTS_SHIFT) - 1);
	*ret_cls = zip_class_of(physmap_size_bytes(entry));
	return true;
}

bool zip_uses(const struct zip *zip, uint64_t entry)
{
	uint64_t p;
	unsigned idx;
	unsigned cls;

	return locate(zip, entry, &p, &idx, &cls) && zip->pages[p].cls == cls &&
	       zip->pages[p].used >> idx & 1;
}

static void release_page(struct zip *zip, uint64_t p)
{
	memfile_drop(zip->fd, p * PAGE_SIZE, PAGE_SIZE);
	if (p < zip->first_free)
		zip->first_free = p;
	atomic_fetch_sub(&zip->n_used, 1);
	ledger_give(zip->ledger, 1);
}

void zip_drop(struct zip *zip, uint64_t entry)
{
	const uint64_t p = physmap_slot(entry) >> ZIP_SLOTS_SHIFT;
	const unsigned idx = physmap_slot(entry) & ((1U << ZIP_SLOTS_SHIFT) - 1);

	if (!zip_uses(zip, entry))
		return;
	zip->pages[p].used &= (uint16_t) ~(1U << idx);
	zip->n_slots--;
	if (!zip->pages[p].used)
		release_page(zip, p);
}

bool zip_claim(struct zip *zip, uint64_t page, uint64_t entry)
{
	uint64_t p;
	unsigned idx;
	unsigned cls;

	if (!locate(zip, entry, &p, &idx, &cls))
		return false;

	struct zip_page *z = &zip->pages[p];

	if (z->used && (z->cls != cls || z->used >> idx & 1))
		return false;
	if (!z->used) {
		atomic_fetch_add(&zip->n_used, 1);
		ledger_force(zip->ledger, 1);
	}
	z->cls = (uint8_t)cls;
	z->used |= (uint16_t)(1U << idx);
	if (p >= zip->end_used)
		zip->end_used = p + 1;
	zip->n_slots++;
	fifo_push(zip, page);
	return true;
}

void zip_trim(struct zip *zip)
{
	const uint64_t bytes = zip->n_pages * PAGE_SIZE;
	uint64_t start;
	uint64_t end = 0;

	while (memfile_data_next(zip->fd, bytes, end, &start, &end)) {
		for (uint64_t p = start / PAGE_SIZE; p < end / PAGE_SIZE; p++) {
			if (!zip->pages[p].used)
				memfile_drop(zip->fd, p * PAGE_SIZE, PAGE_SIZE);
		}
	}
}

void zip_clear(struct zip *zip)
{
	ledger_give(zip->ledger, atomic_exchange(&zip->n_used, 0));
	memset(zip->pages, 0, zip->end_used * sizeof(*zip->pages));
	zip->end_used = 0;
	zip->first_free = 0;
	zip->n_slots = 0;
	zip->fifo_n = 0;
}

uint64_t zip_pages(const struct zip *zip)
{
	return atomic_load(&zip->n_used);
}

uint64_t zip_slots(const struct zip *zip)
{
	return zip->n_slots;
}

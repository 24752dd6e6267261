/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The swap file of one VM.
 *
 * Disk space is allocated when the VM starts, so that a full disk is an error at start and
 * not in the middle of reclaiming. The file is opened past the page cache where the file
 * system allows it, for a cache of swapped pages would be machine memory that nobody
 * counts. Writes go through io_uring, a chunk of a run each, all at once; where the host
 * does not allow io_uring, through pwrite().
 */
#include <host/swap.h>

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/verify.h>
#include <host/disk.h>

#define RING_ENTRIES 16
#define CHUNK_PAGES  16

/* Members: I immutable, m the mover's, a atomic. */
struct swap {
	char *path;              /* I */
	int fd;                  /* I */
	uint64_t n_slots;        /* I */
	uint64_t *used;          /* m a bit for each slot */
	uint64_t next;           /* m where to look next */
	_Atomic uint64_t n_free; /* a */
	struct io_uring ring;    /* m */
	bool has_ring;           /* m */
	_Atomic int error; /* a errno of the last write, 0 if it was whole */
};

static int open_direct(const char *path, int flags)
{
	const int fd = open(path, flags | O_CLOEXEC | O_DIRECT, 0600);

	if (fd >= 0 || (errno != EINVAL && errno != EOPNOTSUPP))
		return fd < 0 ? -errno : fd;

	/* A file system that knows no O_DIRECT may refuse only after it has made the file. */
	if (flags & O_EXCL)
		unlink(path);

	const int plain = open(path, flags | O_CLOEXEC, 0600);

	return plain < 0 ? -errno : plain;
}

static int swap_make(const char *path, int fd, uint64_t n_slots,
		     struct swap **ret, struct err *err)
{
	struct swap *swap = calloc(1, sizeof(*swap));

	if (!swap) {
		close(fd);
		return err_set(err, -ENOMEM, "out of memory");
	}
	swap->fd = fd;
	swap->n_slots = n_slots;
	swap->n_free = n_slots;
	swap->path = strdup(path);
	swap->used = calloc(n_slots / 64 + 1, sizeof(*swap->used));
	if (!swap->used || !swap->path) {
		swap_free(swap);
		return err_set(err, -ENOMEM, "out of memory");
	}
	swap->has_ring = !io_uring_queue_init(RING_ENTRIES, &swap->ring, 0);
	*ret = swap;
	return 0;
}

static int reserve_space(int fd, const char *path, uint64_t bytes,
			 struct err *err)
{
	char why[DISK_TEXT];
	int r = 0;

	if (bytes && fallocate(fd, 0, 0, (off_t)bytes) < 0)
		r = -errno;
	/* A file system that cannot reserve reports a full disk later, when it is. */
	if (r == -EOPNOTSUPP || r == -ENOSYS)
		r = ftruncate(fd, (off_t)bytes) < 0 ? -errno : 0;
	if (r)
		return err_set(
			err, r,
			"no disk space for a swap file of %llu MiB at %s: %s",
			(unsigned long long)bytes >> 20, path,
			disk_error_at(-r, fd, bytes, why));
	return 0;
}

static const char *dir_of(const char *path, char dir[4096])
{
	const char *slash = strrchr(path, '/');

	snprintf(dir, 4096, "%.*s", slash ? (int)(slash - path) : 1,
		 slash ? path : ".");
	return dir;
}

int swap_new(const char *path, uint64_t n_slots, struct swap **ret,
	     struct err *err)
{
	/* Never truncated in place: a VM that still dies may hold the old one. */
	unlink(path);

	const int fd = open_direct(path, O_RDWR | O_CREAT | O_EXCL);
	char why[DISK_TEXT], dir[4096];
	int r;

	if (fd < 0)
		return err_set(err, fd, "cannot make %s: %s", path,
			       disk_error(-fd, dir_of(path, dir), PAGE_SIZE,
					  why));
	r = reserve_space(fd, path, n_slots * PAGE_SIZE, err);
	if (r) {
		close(fd);
		unlink(path);
		return r;
	}
	return swap_make(path, fd, n_slots, ret, err);
}

int swap_adopt(const char *path, struct swap **ret, struct err *err)
{
	const int fd = open_direct(path, O_RDWR);
	struct stat st;

	if (fd < 0)
		return err_set(err, fd, "cannot open %s: %s", path,
			       strerror(-fd));
	if (fstat(fd, &st) < 0) {
		const int r = -errno;

		close(fd);
		return err_set(err, r, "cannot use %s: %s", path, strerror(-r));
	}
	return swap_make(path, fd, (uint64_t)st.st_size / PAGE_SIZE, ret, err);
}

struct swap *swap_free(struct swap *swap)
{
	if (!swap)
		return NULL;
	if (swap->has_ring)
		io_uring_queue_exit(&swap->ring);
	close(swap->fd);
	free(swap->path);
	free(swap->used);
	free(swap);
	return NULL;
}

int swap_reader(const struct swap *swap)
{
	return open_direct(swap->path, O_RDONLY);
}

bool swap_uses(const struct swap *swap, uint64_t slot)
{
	return slot < swap->n_slots && swap->used[slot / 64] >> slot % 64 & 1;
}

bool swap_claim(struct swap *swap, uint64_t slot)
{
	if (slot >= swap->n_slots || swap_uses(swap, slot))
		return false;
	swap->used[slot / 64] |= UINT64_C(1) << slot % 64;
	atomic_fetch_sub(&swap->n_free, 1);
	return true;
}

void swap_drop(struct swap *swap, uint64_t slot)
{
	if (!swap_uses(swap, slot))
		return;
	swap->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
	atomic_fetch_add(&swap->n_free, 1);
}

void swap_clear(struct swap *swap)
{
	memset(swap->used, 0, (swap->n_slots / 64 + 1) * sizeof(*swap->used));
	atomic_store(&swap->n_free, swap->n_slots);
}

static unsigned run_at(const struct swap *swap, uint64_t slot, unsigned n)
{
	unsigned len = 0;

	while (len < n && slot + len < swap->n_slots &&
	       !swap_uses(swap, slot + len))
		len++;
	return len;
}

/* The longest run up to @n among those that the search meets first. */
static unsigned find_run(const struct swap *swap, unsigned n, uint64_t *ret_slot)
{
	unsigned best = 0;
	unsigned looked = 0;

	for (uint64_t i = 0; i < swap->n_slots && best < n; i++) {
		const uint64_t slot = (swap->next + i) % swap->n_slots;
		const unsigned len = run_at(swap, slot, n);

		if (len > best) {
			best = len;
			*ret_slot = slot;
		}
		if (len) {
			i += len - 1;
			/* A crowded file: short runs are better than long searches. */
			if (++looked == 256)
				break;
		}
	}
	return best;
}

unsigned swap_take(struct swap *swap, unsigned n, uint64_t *ret_slot)
{
	unsigned len;

	if (!atomic_load(&swap->n_free))
		return 0;
	len = find_run(swap, n, ret_slot);
	for (unsigned i = 0; i < len; i++)
		VERIFY(swap_claim(swap, *ret_slot + i));
	swap->next = (*ret_slot + len) % swap->n_slots;
	return len;
}

static int write_plain(struct swap *swap, uint64_t at, const uint8_t *bytes,
		       uint64_t len)
{
	while (len) {
		const ssize_t n = pwrite(swap->fd, bytes, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		at += (uint64_t)n;
		bytes += n;
		len -= (uint64_t)n;
	}
	return 0;
}

/* Take @n completions. Return: 0 if each wrote its chunk whole. */
static int reap(struct swap *swap, unsigned n)
{
	int result = 0;

	while (n--) {
		struct io_uring_cqe *cqe;
		int r;

		do {
			r = io_uring_wait_cqe(&swap->ring, &cqe);
		} while (r == -EINTR);
		if (r)
			return r;
		if (cqe->res < 0)
			result = cqe->res;
		else if ((uint64_t)cqe->res != io_uring_cqe_get_data64(cqe))
			result = -EIO;
		io_uring_cqe_seen(&swap->ring, cqe);
	}
	return result;
}

static int write_ring(struct swap *swap, uint64_t slot, const uint8_t *pages,
		      unsigned n)
{
	unsigned queued = 0;

	for (unsigned i = 0; i < n; i += CHUNK_PAGES, queued++) {
		const unsigned len = n - i < CHUNK_PAGES ? n - i : CHUNK_PAGES;
		struct io_uring_sqe *sqe = io_uring_get_sqe(&swap->ring);

		VERIFY(sqe);
		io_uring_prep_write(sqe, swap->fd, pages + i * PAGE_SIZE,
				    (unsigned)(len * PAGE_SIZE),
				    (slot + i) * PAGE_SIZE);
		io_uring_sqe_set_data64(sqe, len * PAGE_SIZE);
	}

	const int sent = io_uring_submit(&swap->ring);

	if (sent != (int)queued || reap(swap, queued)) {
		/* What is left in the ring cannot be told from what comes next. */
		io_uring_queue_exit(&swap->ring);
		swap->has_ring = false;
		return -EIO;
	}
	return 0;
}

static int write_pages(struct swap *swap, uint64_t slot, const uint8_t *pages,
		       unsigned n)
{
	VERIFY(n <= RING_ENTRIES * CHUNK_PAGES);
	/* A write that came up short is tried again in the plain way, and tells why. */
	if (swap->has_ring && !write_ring(swap, slot, pages, n))
		return 0;
	return write_plain(swap, slot * PAGE_SIZE, pages, n * PAGE_SIZE);
}

int swap_write(struct swap *swap, uint64_t slot, const uint8_t *pages,
	       unsigned n)
{
	const int r = write_pages(swap, slot, pages, n);

	atomic_store(&swap->error, -r);
	return r;
}

int swap_write_error(const struct swap *swap)
{
	return atomic_load(&swap->error);
}

int swap_read(struct swap *swap, uint64_t slot, uint8_t *page)
{
	ssize_t n;

	do {
		n = pread(swap->fd, page, PAGE_SIZE, (off_t)(slot * PAGE_SIZE));
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	return n == (ssize_t)PAGE_SIZE ? 0 : -EIO;
}

uint64_t swap_slots(const struct swap *swap)
{
	return swap->n_slots;
}

uint64_t swap_slots_free(const struct swap *swap)
{
	return atomic_load(&swap->n_free);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The virtio disk: requests [VIRTIO 1.2 5.2 "Block Device"] done on a raw image. */
#include <dev/virtio_blk.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include <base/verify.h>
#include <dev/disk_image.h>
#include <dev/overlay.h>
#include <mem/guestmem.h>

#define DEVICE_ID            2

#define FEATURE_SEG_MAX      (UINT64_C(1) << 2)
#define FEATURE_RO           (UINT64_C(1) << 5)
#define FEATURE_BLK_SIZE     (UINT64_C(1) << 6)
#define FEATURE_FLUSH        (UINT64_C(1) << 9)
#define FEATURE_DISCARD      (UINT64_C(1) << 13)
#define FEATURE_WRITE_ZEROES (UINT64_C(1) << 14)

enum request_type {
	REQUEST_IN = 0,
	REQUEST_OUT = 1,
	REQUEST_FLUSH = 4,
	REQUEST_GET_ID = 8,
	REQUEST_DISCARD = 11,
	REQUEST_WRITE_ZEROES = 13,
};

enum status {
	STATUS_OK = 0,
	STATUS_IOERR = 1,
	STATUS_UNSUPP = 2,
	STATUS_STOPPED = -1, /* ours: the VM is being stopped, no answer */
};

struct header {
	uint32_t type;
	uint32_t reserved;
	uint64_t sector;
};

struct range {
	uint64_t sector;
	uint32_t n_sectors;
	uint32_t flags;
};

#define RANGE_UNMAP 1

_Static_assert(sizeof(struct header) == 16, "fixed by the standard");
_Static_assert(sizeof(struct range) == 16, "fixed by the standard");

/* The configuration space. */
struct config {
	uint64_t capacity;
	uint32_t size_max;
	uint32_t seg_max;
	uint8_t geometry[4];
	uint32_t blk_size;
	uint8_t topology[8];
	uint8_t writeback;
	uint8_t unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors;
	uint32_t max_discard_seg;
	uint32_t discard_sector_alignment;
	uint32_t max_write_zeroes_sectors;
	uint32_t max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap;
	uint8_t unused1[3];
};

_Static_assert(offsetof(struct config, max_discard_sectors) == 36,
	       "fixed by the standard");
_Static_assert(sizeof(struct config) == 64, "60 bytes and padding");
#define CONFIG_BYTES 60

/* A chain holds the header, the data and the status. */
#define SEG_MAX           (VQ_MAX_SEGS / 2 - 2)
#define MAX_RANGES        16
#define MAX_RANGE_SECTORS (UINT32_C(1) << 22)

/* Pieces of guest memory per host call; adjacent frames merge into one piece. */
#define MAX_PIECES  256
#define ZEROS_BYTES 65536

struct virtio_blk {
	struct virtio_dev dev;
	int fd;
	enum virtio_blk_mode mode;
	struct overlay *overlay; /* of a snapshot */
	uint64_t image_bytes;    /* when it was opened */
	uint64_t sectors;
	struct config config;
	char serial[VIRTIO_BLK_SERIAL_BYTES];
	struct vq_chain chain;
	struct iovec pieces[MAX_PIECES];
	struct virtio_blk_stats stats;
	void (*filled)(void *ctx, const struct virtio_blk *blk, gpa_t addr,
		       uint64_t len);
	void *filled_ctx;
};

static struct virtio_blk *blk_of(struct virtio_dev *dev)
{
	return (struct virtio_blk *)(void *)((char *)dev -
					     offsetof(struct virtio_blk, dev));
}

/* Data. */

/* A batch of a transfer: host memory of the next bytes of a request. */
struct batch {
	unsigned int n;
	uint64_t bytes;
};

static bool add_piece(struct virtio_blk *blk, struct batch *batch, uint8_t *ptr,
		      uint64_t len, unsigned int max_pieces)
{
	struct iovec *last = batch->n ? &blk->pieces[batch->n - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == ptr) {
		last->iov_len += len;
	} else {
		if (batch->n == max_pieces)
			return false;
		blk->pieces[batch->n++] = (struct iovec){ptr, len};
	}
	batch->bytes += len;
	return true;
}

/* Collect pages from @cur on until the batch is full. */
static enum mem_status collect(struct virtio_blk *blk, struct vq_cursor cur,
			       enum mem_access access, uint64_t want,
			       unsigned int max_pages, struct batch *batch)
{
	gpa_t addr;
	uint64_t n;

	*batch = (struct batch){0};
	while (want && (n = vq_cursor_next(&cur, want, &addr))) {
		want -= n;
		while (n) {
			uint64_t len;
			uint8_t *ptr;
			enum mem_status status;

			if (max_pages-- == 0)
				return MEM_OK;
			status = guestmem_span(blk->dev.mem, addr, access, &ptr,
					       &len);
			if (status != MEM_OK)
				return status;
			if (len > n)
				len = n;
			if (!add_piece(blk, batch, ptr, len, MAX_PIECES))
				return MEM_OK;
			addr = gpa_add(addr, len);
			n -= len;
		}
	}
	return MEM_OK;
}

#define MAX_BATCH_PAGES 1024

/*
 * To find one page may mean to wait, and while waiting pages found before may be taken
 * away. Then collect again, fewer each time: a single page cannot be lost so.
 */
static enum mem_status next_batch(struct virtio_blk *blk,
				  const struct vq_cursor *cur,
				  enum mem_access access, uint64_t want,
				  struct batch *batch)
{
	unsigned int max_pages = MAX_BATCH_PAGES;

	for (;;) {
		uint64_t epoch = guestmem_epoch(blk->dev.mem);
		enum mem_status status = collect(blk, *cur, access, want,
						 max_pages, batch);

		if (status != MEM_OK || max_pages == 1 ||
		    guestmem_epoch(blk->dev.mem) == epoch)
			return status;
		max_pages /= 2;
	}
}

static void skip_pieces(struct iovec **iov, unsigned int *n, size_t bytes)
{
	while (*n && bytes >= (*iov)->iov_len) {
		bytes -= (*iov)->iov_len;
		(*iov)++;
		(*n)--;
	}
	if (bytes) {
		(*iov)->iov_base = (uint8_t *)(*iov)->iov_base + bytes;
		(*iov)->iov_len -= bytes;
	}
}

/* Past the end of an image that does not fill its last sector there are zeros. */
static bool fill_tail(const struct virtio_blk *blk, struct iovec *iov,
		      unsigned int n, uint64_t pos)
{
	if (pos < blk->image_bytes)
		return false; /* the image has shrunk */
	for (; n; iov++, n--)
		memset(iov->iov_base, 0, iov->iov_len);
	return true;
}

/* As many pieces as hold @bytes, the last cut by @ret_cut bytes. */
static unsigned int clip(struct iovec *iov, unsigned int n, uint64_t bytes,
			 size_t *ret_cut)
{
	*ret_cut = 0;
	for (unsigned int i = 0; i < n; i++) {
		if (iov[i].iov_len >= bytes) {
			*ret_cut = iov[i].iov_len - bytes;
			iov[i].iov_len = bytes;
			return i + 1;
		}
		bytes -= iov[i].iov_len;
	}
	return n;
}

/* What is written, and read again, where the image stays as it is. */
static int changes_fd(const struct virtio_blk *blk)
{
	return blk->overlay ? overlay_fd(blk->overlay) : blk->fd;
}

/* Read what is in one place: image or overlay. @bytes: in all pieces. */
static ssize_t read_some(const struct virtio_blk *blk, struct iovec *iov,
			 unsigned int n, uint64_t bytes, uint64_t pos)
{
	bool here = false;
	size_t cut = 0;
	ssize_t r;

	if (blk->overlay)
		n = clip(iov, n, overlay_run(blk->overlay, pos, bytes, &here),
			 &cut);
	r = preadv(here ? changes_fd(blk) : blk->fd, iov, (int)n, (off_t)pos);
	iov[n - 1].iov_len += cut;
	return r;
}

static bool move_batch(struct virtio_blk *blk, enum mem_access access,
		       const struct batch *batch, uint64_t pos)
{
	struct iovec *iov = blk->pieces;
	unsigned int n = batch->n;
	uint64_t left = batch->bytes;

	while (n) {
		ssize_t r = access == MEM_WRITE
				    ? read_some(blk, iov, n, left, pos)
				    : pwritev(changes_fd(blk), iov, (int)n,
					      (off_t)pos);

		if (r < 0 && errno == EINTR)
			continue;
		if (r == 0 && access == MEM_WRITE)
			return fill_tail(blk, iov, n, pos);
		if (r <= 0)
			return false;
		pos += (uint64_t)r;
		left -= (uint64_t)r;
		skip_pieces(&iov, &n, (size_t)r);
	}
	return true;
}

/* These bytes are in the overlay, if there is one. */
static void mark_changed(const struct virtio_blk *blk, uint64_t pos,
			 uint64_t len)
{
	const uint64_t first = pos / VIRTIO_BLK_SECTOR_BYTES;
	const uint64_t end = (pos + len + VIRTIO_BLK_SECTOR_BYTES - 1) /
			     VIRTIO_BLK_SECTOR_BYTES;

	if (blk->overlay)
		overlay_mark(blk->overlay, first, end - first);
}

static bool in_disk(const struct virtio_blk *blk, uint64_t sector,
		    uint64_t n_sectors)
{
	return sector <= blk->sectors && n_sectors <= blk->sectors - sector;
}

static void tell_filled(const struct virtio_blk *blk, gpa_t addr, uint64_t len)
{
	if (len && blk->filled)
		blk->filled(blk->filled_ctx, blk, addr, len);
}

/* Go past what was moved; stretches that touch are told as one. */
static void pass(const struct virtio_blk *blk, struct vq_cursor *cur,
		 uint64_t bytes, bool is_read)
{
	gpa_t start = gpa(0);
	uint64_t len = 0;

	while (bytes) {
		gpa_t addr;
		const uint64_t n = vq_cursor_next(cur, bytes, &addr);

		bytes -= n;
		if (!is_read)
			continue;
		if (len && addr.v == start.v + len) {
			len += n;
			continue;
		}
		tell_filled(blk, start, len);
		start = addr;
		len = n;
	}
	tell_filled(blk, start, len);
}

/* @access is to guest memory: MEM_WRITE reads the disk. */
static enum status transfer(struct virtio_blk *blk, enum mem_access access,
			    uint64_t sector, uint64_t len)
{
	bool is_read = access == MEM_WRITE;
	uint64_t pos = sector * VIRTIO_BLK_SECTOR_BYTES;
	struct vq_cursor cur;

	if (len % VIRTIO_BLK_SECTOR_BYTES ||
	    !in_disk(blk, sector, len / VIRTIO_BLK_SECTOR_BYTES))
		return STATUS_IOERR;

	vq_cursor_init(&cur, &blk->chain, is_read ? VQ_IN : VQ_OUT,
		       is_read ? 0 : sizeof(struct header));
	for (uint64_t left = len; left;) {
		struct batch batch;

		/* A request of gigabytes must not keep the host waiting for its pages. */
		guestmem_service(blk->dev.mem);
		if (guestmem_is_stopped(blk->dev.mem))
			return STATUS_STOPPED;
		if (next_batch(blk, &cur, access, left, &batch) != MEM_OK)
			return STATUS_STOPPED;
		if (!move_batch(blk, access, &batch, pos))
			return STATUS_IOERR;
		if (!is_read)
			mark_changed(blk, pos, batch.bytes);
		pos += batch.bytes;
		left -= batch.bytes;
		pass(blk, &cur, batch.bytes, is_read);
	}
	return STATUS_OK;
}

/* Requests. */

static enum status sync_image(const struct virtio_blk *blk)
{
	int r;

	if (blk->mode != VIRTIO_BLK_RW)
		return STATUS_OK;
	do {
		r = fdatasync(blk->fd);
	} while (r < 0 && errno == EINTR);
	return r == 0 ? STATUS_OK : STATUS_IOERR;
}

static enum status do_read(struct virtio_blk *blk, uint64_t sector, uint64_t len)
{
	enum status status = transfer(blk, MEM_WRITE, sector, len);

	blk->stats.reads++;
	if (status == STATUS_OK)
		blk->stats.read_bytes += len;
	return status;
}

/* A guest that never flushes expects what is written to stay. */
static enum status sync_if_write_through(const struct virtio_blk *blk)
{
	if (virtio_dev_has(&blk->dev, FEATURE_FLUSH))
		return STATUS_OK;
	return sync_image(blk);
}

static enum status do_write(struct virtio_blk *blk, uint64_t sector,
			    uint64_t len)
{
	blk->stats.writes++;
	if (blk->mode == VIRTIO_BLK_RO)
		return STATUS_IOERR;

	enum status status = transfer(blk, MEM_READ, sector, len);

	if (status != STATUS_OK)
		return status;
	blk->stats.write_bytes += len;
	return sync_if_write_through(blk);
}

static bool write_zeros(const struct virtio_blk *blk, uint64_t pos, uint64_t len)
{
	static const uint8_t zeros[ZEROS_BYTES];

	while (len) {
		guestmem_service(blk->dev.mem);
		if (guestmem_is_stopped(blk->dev.mem))
			return false;

		ssize_t r = pwrite(changes_fd(blk), zeros,
				   len < ZEROS_BYTES ? len : ZEROS_BYTES,
				   (off_t)pos);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		pos += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return true;
}

/* The signals that call a processor's thread back are no fault of the disk's. */
static bool allocate(const struct virtio_blk *blk, int how, uint64_t pos,
		     uint64_t len)
{
	int r;

	do {
		r = fallocate(changes_fd(blk), how | FALLOC_FL_KEEP_SIZE,
			      (off_t)pos, (off_t)len);
	} while (r < 0 && errno == EINTR);
	return r == 0;
}

static enum status zero_range(const struct virtio_blk *blk,
			      const struct range *range)
{
	uint64_t pos = range->sector * VIRTIO_BLK_SECTOR_BYTES;
	uint64_t len = (uint64_t)range->n_sectors * VIRTIO_BLK_SECTOR_BYTES;
	int how = range->flags & RANGE_UNMAP ? FALLOC_FL_PUNCH_HOLE
					     : FALLOC_FL_ZERO_RANGE;

	if (len == 0)
		return STATUS_OK;
	if (!allocate(blk, how, pos, len) &&
	    (errno != EOPNOTSUPP || !write_zeros(blk, pos, len)))
		return STATUS_IOERR;
	mark_changed(blk, pos, len);
	return STATUS_OK;
}

static enum status discard_range(const struct virtio_blk *blk,
				 const struct range *range)
{
	uint64_t pos = range->sector * VIRTIO_BLK_SECTOR_BYTES;
	uint64_t len = (uint64_t)range->n_sectors * VIRTIO_BLK_SECTOR_BYTES;

	if (len == 0)
		return STATUS_OK;
	if (!allocate(blk, FALLOC_FL_PUNCH_HOLE, pos, len))
		return errno == EOPNOTSUPP ? STATUS_UNSUPP : STATUS_IOERR;
	mark_changed(blk, pos, len);
	return STATUS_OK;
}

static enum status check_range(const struct virtio_blk *blk,
			       const struct range *range, bool is_discard)
{
	uint32_t allowed = is_discard ? 0 : RANGE_UNMAP;

	if (range->flags & ~allowed)
		return STATUS_UNSUPP;
	if (range->n_sectors > MAX_RANGE_SECTORS ||
	    !in_disk(blk, range->sector, range->n_sectors))
		return STATUS_IOERR;
	return STATUS_OK;
}

static enum status do_ranges(struct virtio_blk *blk, struct virtqueue *vq,
			     bool is_discard, uint64_t len)
{
	struct range ranges[MAX_RANGES];
	uint64_t n = len / sizeof(struct range);
	enum status status = STATUS_OK;

	blk->stats.discards++;
	if (blk->mode == VIRTIO_BLK_RO || len % sizeof(struct range) ||
	    n == 0 || n > MAX_RANGES)
		return STATUS_IOERR;
	if (!vq_chain_read(vq, &blk->chain, sizeof(struct header), ranges, len))
		return STATUS_STOPPED;

	/* All are judged before the first is done. */
	for (uint64_t i = 0; i < n && status == STATUS_OK; i++)
		status = check_range(blk, &ranges[i], is_discard);
	for (uint64_t i = 0; i < n && status == STATUS_OK; i++)
		status = is_discard ? discard_range(blk, &ranges[i])
				    : zero_range(blk, &ranges[i]);
	return status == STATUS_OK ? sync_if_write_through(blk) : status;
}

static enum status do_get_id(struct virtio_blk *blk, struct virtqueue *vq,
			     uint64_t room)
{
	if (room < VIRTIO_BLK_SERIAL_BYTES)
		return STATUS_IOERR;
	if (!vq_chain_write(vq, &blk->chain, 0, blk->serial,
			    VIRTIO_BLK_SERIAL_BYTES))
		return STATUS_STOPPED;
	return STATUS_OK;
}

static enum status do_request(struct virtio_blk *blk, struct virtqueue *vq,
			      const struct header *header)
{
	uint64_t out = blk->chain.out_bytes - sizeof(*header);
	uint64_t in = blk->chain.in_bytes - 1;

	switch (header->type) {
	case REQUEST_IN:
		return do_read(blk, header->sector, in);
	case REQUEST_OUT:
		return do_write(blk, header->sector, out);
	case REQUEST_FLUSH:
		blk->stats.flushes++;
		return sync_image(blk);
	case REQUEST_GET_ID:
		return do_get_id(blk, vq, in);
	case REQUEST_DISCARD:
		return do_ranges(blk, vq, true, out);
	case REQUEST_WRITE_ZEROES:
		return do_ranges(blk, vq, false, out);
	default:
		return STATUS_UNSUPP;
	}
}

/* How much of the writable part was filled, the status byte at its end not counted. */
static uint64_t data_written(const struct virtio_blk *blk,
			     const struct header *header, enum status status)
{
	if (status != STATUS_OK)
		return 0;
	if (header->type == REQUEST_IN)
		return blk->chain.in_bytes - 1;
	return header->type == REQUEST_GET_ID ? VIRTIO_BLK_SERIAL_BYTES : 0;
}

static bool serve(struct virtio_dev *dev, unsigned int queue,
		  struct vq_chain *chain)
{
	struct virtio_blk *blk = blk_of(dev);
	struct virtqueue *vq = &dev->queues[queue];
	struct header header;

	if (chain->out_bytes < sizeof(header) || chain->in_bytes < 1) {
		virtqueue_break(vq, "disk request without header or status");
		return false;
	}
	if (!vq_chain_read(vq, chain, 0, &header, sizeof(header)))
		return false;

	enum status status = do_request(blk, vq, &header);

	if (status == STATUS_STOPPED)
		return false;
	if (status != STATUS_OK)
		blk->stats.errors++;

	uint8_t byte = (uint8_t)status;

	if (!vq_chain_write(vq, chain, chain->in_bytes - 1, &byte, 1))
		return false;
	virtqueue_push(vq, chain,
		       (uint32_t)(data_written(blk, &header, status) + 1));
	return true;
}

static void blk_notify(struct virtio_dev *dev, unsigned int queue)
{
	virtio_dev_drain(dev, queue, &blk_of(dev)->chain, serve);
}

static void blk_config_read(struct virtio_dev *dev, uint32_t off, void *buf,
			    uint32_t len)
{
	memcpy(buf, (const uint8_t *)&blk_of(dev)->config + off, len);
}

static const struct virtio_ops blk_ops = {
	.name = "virtio-blk",
	.device_id = DEVICE_ID,
	.config_bytes = CONFIG_BYTES,
	.notify = blk_notify,
	.config_read = blk_config_read,
};

/* Images. */

static void fill_config(struct virtio_blk *blk)
{
	blk->config = (struct config){
		.capacity = blk->sectors,
		.seg_max = SEG_MAX,
		.blk_size = VIRTIO_BLK_SECTOR_BYTES,
		.num_queues = 1,
		.max_discard_sectors = MAX_RANGE_SECTORS,
		.max_discard_seg = MAX_RANGES,
		.discard_sector_alignment = 8,
		.max_write_zeroes_sectors = MAX_RANGE_SECTORS,
		.max_write_zeroes_seg = MAX_RANGES,
		.write_zeroes_may_unmap = 1,
	};
}

/* The name of the image, as far as it fits, so that a guest can tell its disks apart. */
static void fill_serial(struct virtio_blk *blk, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;

	memcpy(blk->serial, name, strnlen(name, sizeof(blk->serial)));
}

static uint64_t blk_features(enum virtio_blk_mode mode)
{
	uint64_t features = FEATURE_SEG_MAX | FEATURE_BLK_SIZE;

	if (mode == VIRTIO_BLK_RO)
		return features | FEATURE_RO;
	return features | FEATURE_FLUSH | FEATURE_DISCARD | FEATURE_WRITE_ZEROES;
}

/* @dir: for the overlay of a snapshot, else NULL */
static int open_disk(const char *path, enum virtio_blk_mode mode,
		     const char *dir, struct guestmem *mem,
		     const struct virtio_report *report,
		     struct virtio_blk **ret_blk, struct err *err)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	int r;

	if (!blk)
		return err_set(err, -ENOMEM, "no memory for virtio-blk");
	blk->mode = mode;
	r = blk->fd = disk_image_open(path, mode == VIRTIO_BLK_RW,
				      &blk->image_bytes, err);
	blk->sectors = (blk->image_bytes + VIRTIO_BLK_SECTOR_BYTES - 1) /
		       VIRTIO_BLK_SECTOR_BYTES;
	if (r >= 0 && dir)
		r = overlay_new(dir, blk->sectors, &blk->overlay, err);
	if (r < 0) {
		virtio_blk_close(blk);
		return r;
	}
	virtio_dev_init(&blk->dev, &blk_ops, mem, report, blk_features(mode), 1);
	fill_config(blk);
	fill_serial(blk, path);
	*ret_blk = blk;
	return 0;
}

int virtio_blk_open(const char *path, enum virtio_blk_mode mode,
		    struct guestmem *mem, const struct virtio_report *report,
		    struct virtio_blk **ret_blk, struct err *err)
{
	VERIFY(mode != VIRTIO_BLK_SNAPSHOT);
	return open_disk(path, mode, NULL, mem, report, ret_blk, err);
}

int virtio_blk_open_snapshot(const char *path, const char *dir,
			     struct guestmem *mem,
			     const struct virtio_report *report,
			     struct virtio_blk **ret_blk, struct err *err)
{
	return open_disk(path, VIRTIO_BLK_SNAPSHOT, dir, mem, report, ret_blk,
			 err);
}

struct virtio_blk *virtio_blk_close(struct virtio_blk *blk)
{
	if (!blk)
		return NULL;
	if (blk->fd >= 0) {
		(void)sync_image(blk);
		close(blk->fd);
	}
	overlay_free(blk->overlay);
	free(blk);
	return NULL;
}

struct virtio_dev *virtio_blk_dev(struct virtio_blk *blk)
{
	return &blk->dev;
}

uint64_t virtio_blk_sectors(const struct virtio_blk *blk)
{
	return blk->sectors;
}

void virtio_blk_set_filled(struct virtio_blk *blk,
			   void (*filled)(void *ctx, const struct virtio_blk *blk,
					  gpa_t addr, uint64_t len),
			   void *ctx)
{
	blk->filled = filled;
	blk->filled_ctx = ctx;
}

int virtio_blk_fd(const struct virtio_blk *blk)
{
	return blk->fd;
}

const struct virtio_blk_stats *virtio_blk_stats(const struct virtio_blk *blk)
{
	return &blk->stats;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio disk on a raw image: a regular file or a block device of the host.
 *
 * Requests are done at once, in the thread that makes the notification (the processor's):
 * the guest waits for the host's disk as for a slow device. Data moves directly
 * between the file and guest pages. FLUSH is fdatasync(); a guest that does not negotiate
 * it gets every write synced. A failing host call is VIRTIO_BLK_S_IOERR to the guest.
 *
 * An image whose length is no multiple of 512 bytes is presented rounded up: the missing
 * bytes read as zeros, and a guest that writes the last sector extends the file to it.
 *
 * The image is locked (dev/disk_image.h): exclusively if the guest writes to it, else shared.
 * A snapshot keeps what the guest writes in a file of its own (dev/overlay.h), which ends with it.
 */
#ifndef DEV_VIRTIO_BLK_H
#define DEV_VIRTIO_BLK_H
#include <base/error.h>
#include <base/types.h>
#include <dev/virtio_mmio.h>

#define VIRTIO_BLK_SECTOR_BYTES 512
#define VIRTIO_BLK_SERIAL_BYTES 20

struct guestmem;
struct virtio_blk;

enum virtio_blk_mode {
	VIRTIO_BLK_RO,
	VIRTIO_BLK_RW,
	VIRTIO_BLK_SNAPSHOT, /* the guest writes, but not to the image */
};

/**
 * struct virtio_blk_stats - counters.
 * @reads: read requests
 * @read_bytes: done by them
 * @writes: write requests
 * @write_bytes: done by them
 * @flushes: flush requests
 * @discards: discard and write-zeroes requests
 * @errors: requests that ended in IOERR or UNSUPP
 */
struct virtio_blk_stats {
	uint64_t reads;
	uint64_t read_bytes;
	uint64_t writes;
	uint64_t write_bytes;
	uint64_t flushes;
	uint64_t discards;
	uint64_t errors;
};

/**
 * virtio_blk_open() - a disk on an image.
 * @path: the image
 * @mode: may the guest write? Not VIRTIO_BLK_SNAPSHOT
 * @mem: guest memory
 * @report: where messages about a misbehaving guest go, copied; may be NULL
 * @ret_blk: set on success; ended with virtio_blk_close()
 * @err: one sentence that names the image, on failure
 *
 * Return: 0, -ENOENT, -EACCES, -EPERM or -EROFS (cannot be opened so), -EISDIR,
 * -EINVAL (neither file nor block device, or empty), -EBUSY (locked by another program),
 * -ENOMEM, or what open() and fstat() report.
 */
int virtio_blk_open(const char *path, enum virtio_blk_mode mode,
		    struct guestmem *mem, const struct virtio_report *report,
		    struct virtio_blk **ret_blk, struct err *err)
	__attribute__((warn_unused_result));

/**
 * virtio_blk_open_snapshot() - a disk that begins as an image, which stays as it is.
 * @path: the image
 * @dir: folder on whose file system the guest's changes are kept
 * @mem: guest memory
 * @report: as for virtio_blk_open()
 * @ret_blk: set on success; ended with virtio_blk_close(), which forgets the changes
 * @err: one sentence, on failure
 *
 * Return: as virtio_blk_open(), or what making a file in @dir reports.
 */
int virtio_blk_open_snapshot(const char *path, const char *dir,
			     struct guestmem *mem,
			     const struct virtio_report *report,
			     struct virtio_blk **ret_blk, struct err *err)
	__attribute__((warn_unused_result));

/** virtio_blk_close() - sync and close; NULL is fine. Return: NULL. */
struct virtio_blk *virtio_blk_close(struct virtio_blk *blk);

/** virtio_blk_dev() - the device, for virtio_mmio_attach(). */
struct virtio_dev *virtio_blk_dev(struct virtio_blk *blk);

/** virtio_blk_sectors() - capacity in sectors of 512 bytes. */
uint64_t virtio_blk_sectors(const struct virtio_blk *blk);

/**
 * virtio_blk_set_filled() - who wants to know which guest memory the disk has filled.
 * @blk: the disk
 * @filled: called for each stretch of guest memory that a read request has filled with what
 *          is in the image, in the thread that serves the request
 * @ctx: passed to @filled
 */
void virtio_blk_set_filled(struct virtio_blk *blk,
			   void (*filled)(void *ctx, const struct virtio_blk *blk,
					  gpa_t addr, uint64_t len),
			   void *ctx);

/** virtio_blk_fd() - the image's descriptor, for the sandbox; owned by the disk. */
int virtio_blk_fd(const struct virtio_blk *blk);

/** virtio_blk_stats() - counters. */
const struct virtio_blk_stats *virtio_blk_stats(const struct virtio_blk *blk);

#endif

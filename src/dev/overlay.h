/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is written to a disk whose image stays as it is.
 *
 * A file without a name, as long as the disk and full of holes, takes what is written; a bit per
 * sector says what is in it. It ends with the process, however that ends.
 */
#ifndef DEV_OVERLAY_H
#define DEV_OVERLAY_H
#include <base/error.h>
#include <base/types.h>

#define OVERLAY_SECTOR_BYTES 512

struct overlay;

/**
 * overlay_new() - an empty overlay.
 * @dir: folder on whose file system its contents are
 * @sectors: length of the disk
 * @ret: set on success; ended with overlay_free()
 * @err: one sentence, on failure
 *
 * Return: 0, -ENOMEM, or what open() and ftruncate() report.
 */
int overlay_new(const char *dir, uint64_t sectors, struct overlay **ret,
		struct err *err) __attribute__((warn_unused_result));

/** overlay_free() - forget what was written; NULL is fine. Return: NULL. */
struct overlay *overlay_free(struct overlay *overlay);

/** overlay_fd() - the file's descriptor; owned by the overlay. */
int overlay_fd(const struct overlay *overlay);

/**
 * overlay_run() - where the next bytes of the disk are.
 * @overlay: the overlay
 * @pos: position in bytes
 * @len: how many are of interest, at least 1; [@pos, @pos + @len) is in the disk
 * @ret_here: whether those at @pos are in the overlay, else they are in the image
 *
 * Return: how many bytes from @pos on, up to @len, are in the same place.
 */
uint64_t overlay_run(const struct overlay *overlay, uint64_t pos, uint64_t len,
		     bool *ret_here);

/**
 * overlay_mark() - these sectors are in the overlay from now on.
 * @overlay: the overlay
 * @sector: the first
 * @n: how many; all are in the disk
 */
void overlay_mark(struct overlay *overlay, uint64_t sector, uint64_t n);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The image of a disk: a regular file or a block device of the host, locked (OFD lock of the
 * whole file) exclusively by who may write it, else shared.
 */
#ifndef DEV_DISK_IMAGE_H
#define DEV_DISK_IMAGE_H
#include <base/error.h>
#include <base/types.h>

/**
 * disk_image_open() - open and lock an image.
 * @path: the image
 * @writable: for reading and writing, else for reading
 * @ret_bytes: its length; not touched on failure
 * @err: one sentence that names the image, on failure
 *
 * Return: a descriptor; -ENOENT, -EACCES, -EPERM or -EROFS (cannot be opened so), -EISDIR,
 * -EINVAL (neither file nor block device, or empty), -EBUSY (locked by another program),
 * or what open() and fstat() report.
 */
int disk_image_open(const char *path, bool writable, uint64_t *ret_bytes,
		    struct err *err) __attribute__((warn_unused_result));

#endif

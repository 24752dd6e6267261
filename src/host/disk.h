/* SPDX-License-Identifier: Apache-2.0 */
/* What to say when the disk is full: what was needed, and what there is. */
#ifndef HOST_DISK_H
#define HOST_DISK_H
#include <stdint.h>

#define DISK_TEXT 160

/**
 * disk_error() - an errno in words; of a full disk, how much was short.
 * @error: errno, positive
 * @path: a file, or the folder where it is to be
 * @bytes: what was to be written
 * @buf: for the text
 *
 * Return: @buf, such as "no space left on the disk: 64 MiB needed, 1.2 MiB free, 62.8 MiB short".
 */
const char *disk_error(int error, const char *path, uint64_t bytes,
		       char buf[DISK_TEXT]);

/** disk_error_at() - disk_error() for a folder that is open. */
const char *disk_error_at(int error, int dir_fd, uint64_t bytes,
			  char buf[DISK_TEXT]);

#endif

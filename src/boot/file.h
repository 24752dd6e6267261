/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the files that a VM boots from: whole, or in pieces. */
#ifndef BOOT_FILE_H
#define BOOT_FILE_H
#include <base/error.h>
#include <base/types.h>

/**
 * file_open() - open a regular file for reading.
 * @path: its path
 * @ret_bytes: its size; an empty file is an error
 * @err: message on failure, with the path
 *
 * Return: descriptor, or -errno.
 */
int file_open(const char *path, uint64_t *ret_bytes, struct err *err)
	__attribute__((warn_unused_result));

/**
 * file_read() - read exactly @bytes from where the descriptor stands.
 * @fd: descriptor
 * @path: for the message
 * @buf: where to
 * @bytes: how many
 * @err: message on failure
 *
 * Return: 0; -errno; -EIO if the file ends before, because somebody truncated it meanwhile.
 */
int file_read(int fd, const char *path, void *buf, uint64_t bytes,
	      struct err *err) __attribute__((warn_unused_result));

/**
 * file_load() - read a whole file into memory.
 * @path: its path
 * @max_bytes: more is an error
 * @ret_data: set on success; released with free()
 * @ret_bytes: its length
 * @err: message on failure
 *
 * Return: 0, -EFBIG, -ENOMEM or as file_open() and file_read().
 */
int file_load(const char *path, uint64_t max_bytes, uint8_t **ret_data,
	      size_t *ret_bytes, struct err *err)
	__attribute__((warn_unused_result));

#endif

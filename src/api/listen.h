/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets to listen on. */
#ifndef API_LISTEN_H
#define API_LISTEN_H
#include <sys/socket.h>
#include <sys/types.h>

#include <base/error.h>

#define LISTEN_BACKLOG 1024

/**
 * listen_unix() - a Unix socket at a path, mode 0660; replaces one that nobody serves.
 * @path: where
 * @ret_fd: set on success
 * @ret_ino: set on success, for listen_unlink()
 * @err: message
 *
 * Return: 0, -EADDRINUSE (somebody answers there), -ENAMETOOLONG, or what the system says.
 */
int listen_unix(const char *path, int *ret_fd, ino_t *ret_ino, struct err *err)
	__attribute__((warn_unused_result));

/** listen_unlink() - remove a socket of ours, but not one that has replaced it. */
void listen_unlink(const char *path, ino_t ino);

/**
 * listen_tcp() - a TCP socket.
 * @where: "ADDRESS:PORT", the address numeric, [::1] for IPv6
 * @ret_fd: set on success
 * @err: message
 *
 * Return: 0, -EINVAL, or what the system says.
 */
int listen_tcp(const char *where, int *ret_fd, struct err *err)
	__attribute__((warn_unused_result));

#endif

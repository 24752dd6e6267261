/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that a VM listens on, in its directory. */
#ifndef VM_SOCKET_H
#define VM_SOCKET_H
#include <base/error.h>

/**
 * socket_listen() - a Unix socket in a directory; replaces what is there.
 * @dir: directory; its path may be longer than a socket's address
 * @name: of the socket
 * @type: SOCK_STREAM or SOCK_SEQPACKET
 * @ret_fd: set on success; does not block
 * @err: message
 *
 * Return: 0 or -errno.
 */
int socket_listen(const char *dir, const char *name, int type, int *ret_fd,
		  struct err *err) __attribute__((warn_unused_result));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The console of a VM that has no terminal: a Unix socket on which the VM listens, so that
 * a console lives as long as its VM, whatever becomes of the host.
 *
 * Whoever connects gets the last CONSOLE_HISTORY bytes of output, then what follows, and
 * may type. Several may be connected; all see and type the same. One that does not read is told
 * how much it missed; the guest waits for nobody. Output also goes to a log on standard
 * output, which, if it is a file, stays below CONSOLE_LOG_MAX and always ends with the latest
 * output.
 */
#ifndef VM_CONSOLE_SOCKET_H
#define VM_CONSOLE_SOCKET_H
#include <poll.h>

#include <base/error.h>
#include <base/types.h>

#define CONSOLE_HISTORY (64 << 10)
#define CONSOLE_LOG_MAX (1 << 20)
#define CONSOLE_CLIENTS 8
#define CONSOLE_FDS     (CONSOLE_CLIENTS + 2)

struct vm;
struct console_socket;

/**
 * console_socket_new() - listen.
 * @path: of the socket; what is there is replaced
 * @ret: set on success; ended with console_socket_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int console_socket_new(const char *path, struct console_socket **ret,
		       struct err *err) __attribute__((warn_unused_result));

/** console_socket_free() - send what clients still take at once, and end. NULL is fine. */
void console_socket_free(struct console_socket *con);

/** console_socket_output() - bytes from the guest. Any thread; waits for the log only. */
void console_socket_output(struct console_socket *con, const uint8_t *bytes,
			   size_t len);

/** console_socket_fds() - fill in what to wait for: CONSOLE_FDS entries. */
void console_socket_fds(struct console_socket *con, struct pollfd *fds);

/** console_socket_serve() - act on what poll() found. The thread that waits. */
void console_socket_serve(struct console_socket *con, const struct pollfd *fds,
			  struct vm *vm);

/** console_socket_push() - the guest has room for input again. The same thread. */
void console_socket_push(struct console_socket *con, struct vm *vm);

#endif

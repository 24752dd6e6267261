/* SPDX-License-Identifier: Apache-2.0 */
/* Starting programs that get the descriptors meant for them, and nothing else of ours. */
#ifndef BASE_PROGRAM_H
#define BASE_PROGRAM_H
#include <stdbool.h>
#include <sys/types.h>

/* In place of a descriptor: the one of that number stays; an open /dev/null. */
#define PROGRAM_KEEP (-1)
#define PROGRAM_NULL (-2)

/**
 * program_spawn() - start a program; it blocks no signals.
 * @program: path
 * @argv: its words, @program's own first, ended by NULL
 * @fds: indexed by descriptor of the new program: which of ours it is, at least as high as
 *       its index, or PROGRAM_KEEP or PROGRAM_NULL; all further ones are closed there
 * @n_fds: how many
 * @session: it gets its own, so that what ends ours does not end it
 * @ret_pid: its process, which the caller waits for; or NULL
 *
 * Return: 0, -ENOMEM, -EAGAIN, or the error of dup2(2) or execve(2).
 */
int program_spawn(const char *program, const char *const *argv, const int *fds,
		  int n_fds, bool session, pid_t *ret_pid)
	__attribute__((warn_unused_result));

#endif

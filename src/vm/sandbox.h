/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM's process may still do once it is made: use what it has open. */
#ifndef VM_SANDBOX_H
#define VM_SANDBOX_H
#include <base/error.h>
#include <base/types.h>

/**
 * sandbox_enter() - give up every system call that a running VM does not need.
 * @err: message
 *
 * No new files, sockets to anybody, programs or privileges from now on; what else is tried
 * fails with EPERM. Root's capabilities go too. Context: once, with all devices made; threads
 * started later inherit all of it, those that run already keep their capabilities: such are
 * started by thread_start_unprivileged().
 *
 * Return: 0 or -errno.
 */
int sandbox_enter(struct err *err) __attribute__((warn_unused_result));

/**
 * sandbox_enter_with() - the same, for a program that needs other system calls than a VM.
 * @more: numbers of system calls that it may use besides those that any program needs
 * @n: how many
 * @err: message
 *
 * Return: 0 or -errno.
 */
int sandbox_enter_with(const int *more, size_t n, struct err *err)
	__attribute__((warn_unused_result));

#endif

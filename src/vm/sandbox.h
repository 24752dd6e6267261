/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM's process may still do once it is made: use what it has open. */
#ifndef VM_SANDBOX_H
#define VM_SANDBOX_H
#include <base/error.h>

/**
 * sandbox_enter() - give up every system call that a running VM does not need.
 * @err: message
 *
 * No new files, sockets to anybody, programs or privileges from now on; what else is tried
 * fails with EPERM. Context: once, with all devices made; threads started later inherit it,
 * those that run already are included.
 *
 * Return: 0 or -errno.
 */
int sandbox_enter(struct err *err) __attribute__((warn_unused_result));

#endif

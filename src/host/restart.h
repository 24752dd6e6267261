/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMs whose guest asked for a reset run again: as a new process, on the definition as it is
 * by then. Starting takes seconds and calls the host, which the host's own threads must not.
 */
#ifndef HOST_RESTART_H
#define HOST_RESTART_H
#include <host/control.h>

struct restart;

/**
 * restart_new() - begin to wait for VMs that are to run again.
 * @control: starts them; outlives this
 * @ret: set on success; ended with restart_free()
 * @err: message
 *
 * Return: 0 or -errno.
 */
int restart_new(struct control *control, struct restart **ret, struct err *err)
	__attribute__((warn_unused_result));

/** restart_free() - wait for a start that is going on, and forget the others. NULL is fine. */
struct restart *restart_free(struct restart *restart);

/** restart_event() - an event of the host: is it a reset? Any thread; does not wait. */
void restart_event(struct restart *restart, const struct host_event *event);

#endif

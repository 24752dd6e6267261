/* SPDX-License-Identifier: Apache-2.0 */
/* Telling the service manager that we are ready: the protocol of sd_notify(3). */
#ifndef HOST_NOTIFY_H
#define HOST_NOTIFY_H
#include <base/error.h>

/**
 * notify_ready() - say READY=1 where $NOTIFY_SOCKET says, and forget that variable, so that
 * no program that is started later speaks in our place.
 * @status: one line for people
 * @err: message
 *
 * Return: 0, also if nobody wants to know; else -errno.
 *
 * Context: changes the environment, so from one thread only.
 */
int notify_ready(const char *status, struct err *err)
	__attribute__((warn_unused_result));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Threads with stacks of a size, and rights, that fit them. */
#ifndef BASE_THREAD_H
#define BASE_THREAD_H
#include <pthread.h>

/**
 * thread_start() - pthread_create() with a stack of half a MiB.
 * @ret: set on success
 * @fn: what it runs
 * @arg: for @fn
 *
 * The usual stack of 8 MiB holds whole large pages, and where the host gives those to whoever
 * touches one (transparent_hugepage/enabled = always) each thread may cost 2 MiB.
 *
 * Return: 0 or an errno, as pthread_create().
 */
int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
	__attribute__((warn_unused_result));

/**
 * thread_start_unprivileged() - thread_start() of a thread without capabilities.
 *
 * The kernel keeps them by thread, so one that is older than the sandbox of its process must give
 * its own up, and before the sandbox: in there nobody can. That is done when this returns. Where
 * it is not permitted there was nothing to give up. Parameters and result as for thread_start().
 */
int thread_start_unprivileged(pthread_t *ret, void *(*fn)(void *arg), void *arg)
	__attribute__((warn_unused_result));

/**
 * thread_drop_capabilities() - give up all capabilities of the calling thread.
 *
 * Return: 0 or -errno.
 */
int thread_drop_capabilities(void) __attribute__((warn_unused_result));

#endif

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
 * thread_drop_capabilities() - give up all capabilities of the calling thread.
 *
 * The kernel keeps them by thread: one that only waits and talks calls this when it begins,
 * for it may be older than the sandbox of its process.
 *
 * Return: 0 or -errno.
 */
int thread_drop_capabilities(void) __attribute__((warn_unused_result));

#endif

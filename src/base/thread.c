/* SPDX-License-Identifier: Apache-2.0 */
/* Starts threads. */
#include <base/thread.h>

#include <stddef.h>

#define STACK_BYTES ((size_t)512 << 10)

int thread_start(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int r = pthread_attr_init(&attr);

	if (r)
		return r;
	r = pthread_attr_setstacksize(&attr, STACK_BYTES);
	if (!r)
		r = pthread_create(ret, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Starts threads, takes their rights away. */
#include <base/thread.h>

#include <errno.h>
#include <linux/capability.h>
#include <semaphore.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

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

struct unprivileged {
	void *(*fn)(void *arg);
	void *arg;
	sem_t dropped;
};

static void *run_unprivileged(void *arg)
{
	struct unprivileged *const u = arg;
	void *(*const fn)(void *) = u->fn;
	void *const fn_arg = u->arg;

	(void)!thread_drop_capabilities();
	/* The last look at it. */
	sem_post(&u->dropped);
	return fn(fn_arg);
}

int thread_start_unprivileged(pthread_t *ret, void *(*fn)(void *arg), void *arg)
{
	struct unprivileged u = {.fn = fn, .arg = arg};
	int r;

	sem_init(&u.dropped, 0, 0);
	r = thread_start(ret, run_unprivileged, &u);
	while (!r && sem_wait(&u.dropped))
		; /* interrupted */
	sem_destroy(&u.dropped);
	return r;
}

int thread_drop_capabilities(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {0};

	return syscall(SYS_capset, &header, none) ? -errno : 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Threads begin with the rights that they are to have, before whoever starts them goes on. */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <base/thread.h>
#include <base/types.h>

#define N_THREADS 50

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;

static void *wait_at_gate(void *arg)
{
	pthread_mutex_lock(&gate);
	pthread_mutex_unlock(&gate);
	return arg;
}

static uint64_t capabilities(const char *tid)
{
	char path[300], line[200];
	unsigned long long bits = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%s/status", tid);
	f = fopen(path, "re");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "CapEff: %llx", &bits) == 1)
			break;
	fclose(f);
	return bits;
}

/* Threads of this process that have some. */
static unsigned int privileged(void)
{
	DIR *tasks = opendir("/proc/self/task");
	const struct dirent *d;
	unsigned int n = 0;

	assert_non_null(tasks);
	while ((d = readdir(tasks)))
		if (d->d_name[0] != '.')
			n += capabilities(d->d_name) != 0;
	closedir(tasks);
	return n;
}

static void started(int (*start)(pthread_t *, void *(*)(void *), void *),
		    unsigned int n_privileged)
{
	const unsigned int before = privileged();
	pthread_t threads[N_THREADS];
	unsigned int after;
	int status = 0;
	void *got;

	pthread_mutex_lock(&gate);
	for (size_t i = 0; i < N_THREADS; i++)
		status |= start(&threads[i], wait_at_gate, &threads[i]);
	after = privileged();
	pthread_mutex_unlock(&gate);
	assert_int_equal(status, 0);
	for (size_t i = 0; i < N_THREADS; i++) {
		assert_int_equal(pthread_join(threads[i], &got), 0);
		assert_ptr_equal(got, &threads[i]);
	}
	/* Those of a user have none at all. */
	assert_int_equal(after, before ? before + n_privileged : 0);
}

/* A sanitizer starts a thread of its own with the first one. */
static int start_one(void **state)
{
	pthread_t thread;

	(void)state;
	return thread_start(&thread, wait_at_gate, NULL) ||
	       pthread_join(thread, NULL);
}

static void usual_threads_keep_them(void **state)
{
	(void)state;
	started(thread_start, N_THREADS);
}

static void unprivileged_ones_have_none(void **state)
{
	(void)state;
	started(thread_start_unprivileged, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(usual_threads_keep_them),
		cmocka_unit_test(unprivileged_ones_have_none),
	};

	return cmocka_run_group_tests_name("thread", tests, start_one, NULL);
}

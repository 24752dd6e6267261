/* SPDX-License-Identifier: Apache-2.0 */
/* A signal that does nothing but end a system call of a thread. */
#include <engine/thread_kick.h>

#include <signal.h>

static void on_signal(int sig)
{
	(void)sig; /* its arrival is all that is wanted */
}

void thread_kick_install(void)
{
	/* No SA_RESTART: the call shall end. */
	const struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGRTMIN, &sa, NULL);
}

void thread_kick(pthread_t thread)
{
	pthread_kill(thread, SIGRTMIN);
}

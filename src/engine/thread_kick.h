/* SPDX-License-Identifier: Apache-2.0 */
/* A signal that does nothing but end a system call of a thread. */
#ifndef ENGINE_THREAD_KICK_H
#define ENGINE_THREAD_KICK_H
#include <pthread.h>

/** thread_kick_install() - set the signal's handler; as often as one likes. */
void thread_kick_install(void);

/** thread_kick() - end the system call in which a thread is, with EINTR. */
void thread_kick(pthread_t thread);

#endif

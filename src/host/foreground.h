/* SPDX-License-Identifier: Apache-2.0 */
/* mezzd --run: one VM on the terminal of this program, which ends with it. */
#ifndef HOST_FOREGROUND_H
#define HOST_FOREGROUND_H
#include <signal.h>

#include <host/host.h>

/**
 * struct foreground - a VM on our terminal.
 * @settings: of the VM; as much as possible is reserved for it
 * @status: what its process ended with, as waitpid() says it
 * @ended: it has
 */
struct foreground {
	struct host_vm_settings settings;
	_Atomic int status;
	_Atomic bool ended;
};

/** FOREGROUND_SIGNAL - what foreground_event() sends to this process. */
#define FOREGROUND_SIGNAL SIGUSR1

/** foreground_event() - an event of the host: the VM may have ended. Any thread. */
void foreground_event(struct foreground *fg, const struct host_event *event);

/**
 * foreground_start() - make the terminal raw and start the VM.
 * @fg: with @settings filled in
 * @host: in the foreground
 * @err: message
 *
 * All machine memory that the VM may want is reserved for it if there is so much; else it
 * gets none, and may be compressed and swapped like any other.
 *
 * Return: 0 or as host_vm_start(). Context: the main thread, for the VM ends with the
 * thread that started it.
 */
int foreground_start(struct foreground *fg, struct host *host, struct err *err)
	__attribute__((warn_unused_result));

/**
 * foreground_wait() - until the VM has ended; other signals of @set end it.
 * @fg: started
 * @host: the host
 * @set: blocked signals, with FOREGROUND_SIGNAL
 */
void foreground_wait(struct foreground *fg, struct host *host,
		     const sigset_t *set);

/** foreground_end() - restore the terminal. Return: exit status of this program. */
int foreground_end(struct foreground *fg);

#endif

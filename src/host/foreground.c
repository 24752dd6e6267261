/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One VM on this terminal.
 *
 * The terminal is made raw here, and put back here and by whoever started this program: so
 * it comes back whichever of the two is killed.
 */
#include <host/foreground.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <base/clock.h>

#define STATUS_SIGNAL 128
#define TOLD_MS       5000

static struct termios saved;
static bool have_saved;

static void raw_terminal(void)
{
	struct termios raw;

	if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &saved))
		return;
	raw = saved;
	cfmakeraw(&raw);
	raw.c_oflag |= OPOST; /* messages of ours end in plain newlines */
	have_saved = !tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
}

static void restore_terminal(void)
{
	/* Whoever started us may have given the terminal to somebody else: not to be stopped. */
	signal(SIGTTOU, SIG_IGN);
	if (have_saved)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	have_saved = false;
}

void foreground_event(struct foreground *fg, const struct host_event *event)
{
	if (event->kind != HOST_EVENT_VM_ENDED)
		return;
	atomic_store(&fg->status, event->status);
	atomic_store(&fg->ended, true);
	kill(getpid(), FOREGROUND_SIGNAL);
}

/* The start of a VM that ends at once may fail a moment before its end is told. */
static void wait_told(const struct foreground *fg)
{
	for (int ms = 0; ms < TOLD_MS && !atomic_load(&fg->ended); ms++)
		nap_ms(1);
}

int foreground_start(struct foreground *fg, struct host *host, struct err *err)
{
	struct host_vm_settings *set = &fg->settings;
	int r;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	raw_terminal();
	set->alloc.reservation_pages = set->size_pages;
	r = host_vm_start(host, set, err);
	if (r == -ENOSPC) {
		set->alloc.reservation_pages = 0;
		r = host_vm_start(host, set, err);
	}
	if (r == -ECHILD)
		wait_told(fg);
	return r;
}

void foreground_wait(struct foreground *fg, struct host *host,
		     const sigset_t *set)
{
	struct err err;
	int number;

	while (!atomic_load(&fg->ended)) {
		if (sigwait(set, &number) || number == FOREGROUND_SIGNAL)
			continue;
		/* It may have ended meanwhile. */
		(void)!host_vm_stop(host, fg->settings.name, HOST_STOP_VM, &err);
	}
}

int foreground_end(struct foreground *fg)
{
	const int status = atomic_load(&fg->status);

	restore_terminal();
	if (!atomic_load(&fg->ended))
		return 1;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "mezz: the VM's process was ended by signal %d (%s)\n",
		WTERMSIG(status), strsignal(WTERMSIG(status)));
	return STATUS_SIGNAL + WTERMSIG(status);
}

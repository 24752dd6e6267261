/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mezz run: one VM on this terminal.
 *
 * The VM is a process of its own. This one stays, so that the terminal gets its modes back
 * however the VM ends.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <cli/commands.h>

#define STATUS_SIGNAL 128

static struct termios saved;
static int have_saved;
static volatile sig_atomic_t child;

static void restore_terminal(void)
{
	if (have_saved)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	have_saved = 0;
}

/* Pass it on; the VM ends, and we after it. */
static void forward(int sig)
{
	if (child > 0)
		kill(child, sig);
}

static void catch_signals(void)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
	struct sigaction sa = {.sa_handler = forward};

	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
}

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

/* Beside this program in an installation, in ../vm in a build folder. */
static int find_vm(char *buf, size_t size)
{
	static const char *const places[] = {"mezz-vm", "../vm/mezz-vm",
					     "../libexec/mezzanine/mezz-vm"};
	char self[4096];
	const ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n <= 0)
		return -errno;
	self[n] = 0;
	*strrchr(self, '/') = 0;
	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		if ((size_t)snprintf(buf, size, "%s/%s", self, places[i]) < size &&
		    !access(buf, X_OK))
			return 0;
	}
	return -ENOENT;
}

static int wait_for_vm(void)
{
	int status;

	while (waitpid(child, &status, 0) < 0)
		if (errno != EINTR)
			return 1;
	restore_terminal();
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	fprintf(stderr, "mezz: the VM's process was ended by signal %d (%s)\n",
		WTERMSIG(status), strsignal(WTERMSIG(status)));
	return STATUS_SIGNAL + WTERMSIG(status);
}

int cmd_run(int argc, char *argv[])
{
	char path[8192];
	char **args = calloc((size_t)argc + 2, sizeof(*args));

	if (!args || find_vm(path, sizeof(path))) {
		fprintf(stderr,
			"mezz: the program mezz-vm is not beside this one\n");
		free(args);
		return 1;
	}
	args[0] = path;
	memcpy(args + 1, argv, (size_t)argc * sizeof(*args));
	catch_signals();
	raw_terminal();
	const pid_t pid = fork();

	if (pid == 0) {
		execv(path, args);
		_exit(127);
	}
	free(args);
	if (pid < 0) {
		restore_terminal();
		perror("mezz: cannot start the VM");
		return 1;
	}
	child = pid;
	return wait_for_vm();
}

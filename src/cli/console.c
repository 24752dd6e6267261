/* SPDX-License-Identifier: Apache-2.0 */
/* mezz console: this terminal as the serial console of a VM that runs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cli/commands.h>
#include <cli/common.h>

#define ESCAPE 0x01 /* Ctrl-A */

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
	(void)sig;
	stopped = 1;
}

/* A path may be longer than a socket's address: go by the directory's descriptor. */
static int connect_to(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash - path) + 1) : NULL;
	const int dir_fd = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)
			       : -1;
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int r = dir_fd < 0 || fd < 0 ? -errno : 0;

	free(dir);
	if (!r) {
		snprintf(addr.sun_path, sizeof(addr.sun_path),
			 "/proc/self/fd/%d/%.32s", dir_fd, slash + 1);
		r = connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ? -errno
									: 0;
	}
	if (dir_fd >= 0)
		close(dir_fd);
	if (!r)
		return fd;
	if (fd >= 0)
		close(fd);
	return err_set(
		err, r,
		"the console %s cannot be reached: %s (it is on the host of the VM, for its user)",
		path, strerror(-r));
}

static bool send_all(int fd, const char *bytes, size_t n)
{
	while (n) {
		const ssize_t r = write(fd, bytes, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		bytes += r;
		n -= (size_t)r;
	}
	return true;
}

enum way_out {
	STAY,
	LEFT,    /* the person did */
	NO_MORE, /* no more input */
	ENDED,   /* the VM has */
};

/* Ctrl-A x leaves, Ctrl-A Ctrl-A is one Ctrl-A; both only on a terminal. */
static enum way_out keys(int fd, bool is_tty, bool *escaped)
{
	char in[256], out[256];
	const ssize_t n = read(STDIN_FILENO, in, sizeof(in));
	size_t len = 0;

	if (n <= 0)
		return n < 0 && errno == EINTR ? STAY : NO_MORE;
	for (ssize_t i = 0; i < n; i++) {
		if (*escaped && (in[i] == 'x' || in[i] == 'X'))
			return LEFT;
		if (is_tty && !*escaped && in[i] == ESCAPE) {
			*escaped = true;
			continue;
		}
		*escaped = false;
		out[len++] = in[i];
	}
	return send_all(fd, out, len) ? STAY : ENDED;
}

static enum way_out relay(int fd, bool is_tty)
{
	struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {fd, POLLIN, 0}};
	enum way_out way = STAY;
	bool escaped = false;
	char buf[4096];

	while (way == STAY && !stopped) {
		if (poll(fds, 2, -1) < 0)
			continue;
		if (fds[1].revents) {
			const ssize_t n = read(fd, buf, sizeof(buf));

			if (n <= 0 || !send_all(STDOUT_FILENO, buf, (size_t)n))
				way = ENDED;
		}
		if (way == STAY && fds[0].revents)
			way = keys(fd, is_tty, &escaped);
		/* What is typed by a pipe may be over before its answers are. */
		if (way == NO_MORE && !is_tty) {
			fds[0].fd = -1;
			way = STAY;
		}
	}
	return stopped ? LEFT : way;
}

static int talk(const char *name, const char *path)
{
	static const struct sigaction sa = {.sa_handler = on_signal};
	struct termios saved, raw;
	struct err err = {0};
	const int fd = connect_to(path, &err);

	if (fd < 0)
		return cli_fail(&err);
	const bool tty = isatty(STDIN_FILENO) &&
			 !tcgetattr(STDIN_FILENO, &saved);

	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGHUP, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	if (tty) {
		fprintf(stderr, "Console of %s; Ctrl-A x leaves it.\n", name);
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
	}
	const enum way_out way = relay(fd, tty);

	if (tty) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
		fprintf(stderr,
			way == ENDED ? "\nThe VM %s has ended.\n"
				     : "\nThe VM %s goes on.\n",
			name);
	}
	close(fd);
	return CLI_OK;
}

int cmd_console(int argc, char *argv[])
{
	struct api_vm vm = {0};
	struct cli cli;
	int status = cli_begin(
		&cli, argc, argv,
		"console NAME\n\n"
		"Connect this terminal to a VM that runs: first the last 64 KiB of its output, then\n"
		"what follows. Ctrl-A x leaves it, Ctrl-A Ctrl-A types one Ctrl-A. Several may be\n"
		"connected at once; all see and type the same.",
		NULL, 1, 1);

	if (status >= 0)
		return status;
	const struct client_request req = {.op = API_GET_VM,
					   .name = cli.args[0]};

	status = cli_call(&cli, &req, &vm);
	if (status == CLI_OK && vm.runtime.power == API_POWERED_OFF) {
		fprintf(stderr, "mezz: '%s' does not run; %s%s\n", cli.args[0],
			*vm.runtime.log ? "what it said is in "
					: "it has never run",
			vm.runtime.log);
		status = CLI_FAILED;
	} else if (status == CLI_OK) {
		status = talk(cli.args[0], vm.runtime.console);
	}
	api_release(&api_vm_schema, &vm);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}

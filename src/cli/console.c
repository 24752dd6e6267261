/* SPDX-License-Identifier: Apache-2.0 */
/* mezz console: this terminal as the serial console of a VM that runs. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cli/commands.h>
#include <cli/common.h>

#define ESCAPE 0x01 /* Ctrl-A */

static int connect_to(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || !*path || strlen(path) >= sizeof(addr.sun_path)) {
		if (fd >= 0)
			close(fd);
		return err_set(err, -ENAMETOOLONG,
			       "the console's socket cannot be named");
	}
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	const int e = errno;

	close(fd);
	return err_set(
		err, -e,
		"the console %s cannot be reached: %s (is the VM running, on this host?)",
		path, strerror(e));
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

/* Ctrl-A x leaves, Ctrl-A Ctrl-A is one Ctrl-A. Return: false to leave. */
static bool keys(int fd, bool *escaped)
{
	char in[256], out[256];
	const ssize_t n = read(STDIN_FILENO, in, sizeof(in));
	size_t len = 0;

	for (ssize_t i = 0; i < n; i++) {
		if (*escaped && in[i] == 'x')
			return false;
		if (!*escaped && in[i] == ESCAPE) {
			*escaped = true;
			continue;
		}
		*escaped = false;
		out[len++] = in[i];
	}
	return n > 0 && send_all(fd, out, len);
}

static void relay(int fd)
{
	struct pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {fd, POLLIN, 0}};
	bool escaped = false, more = true;
	char buf[4096];

	while (more) {
		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return;
		if (fds[1].revents) {
			const ssize_t n = read(fd, buf, sizeof(buf));

			more = n > 0 && send_all(STDOUT_FILENO, buf, (size_t)n);
		}
		if (more && fds[0].revents)
			more = keys(fd, &escaped);
	}
}

static int talk(const char *path)
{
	struct termios saved, raw;
	struct err err = {0};
	const int fd = connect_to(path, &err);

	if (fd < 0)
		return cli_fail(&err);
	const bool tty = isatty(STDIN_FILENO) &&
			 !tcgetattr(STDIN_FILENO, &saved);

	if (tty) {
		fprintf(stderr, "Ctrl-A x leaves\r\n");
		raw = saved;
		cfmakeraw(&raw);
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw);
	}
	relay(fd);
	if (tty)
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved);
	close(fd);
	return CLI_OK;
}

int cmd_console(int argc, char *argv[])
{
	struct api_vm vm = {0};
	struct cli cli;
	int status = cli_begin(
		&cli, argc, argv,
		"console NAME\n\nConnect this terminal to a VM; Ctrl-A x leaves.",
		NULL, 1, 1);

	if (status >= 0)
		return status;
	const struct client_request req = {.op = API_GET_VM,
					   .name = cli.args[0]};

	status = cli_call(&cli, &req, &vm);
	if (status == CLI_OK)
		status = talk(vm.runtime.console);
	api_release(&api_vm_schema, &vm);
	return cli_end(&cli, status < 0 ? CLI_OK : status);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Standard input and output as the guest's console; Ctrl-A is the command key on a terminal. */
#include <vm/console.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include <vm/vm.h>

#define CTRL_D 4

static const char help[] = "\r\nCtrl-A x  end the VM\r\n"
			   "Ctrl-A p  press its power button\r\n"
			   "Ctrl-A h  this text\r\n"
			   "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";

void console_init(struct console *con, bool tells_end)
{
	memset(con, 0, sizeof(*con));
	con->is_tty = isatty(STDIN_FILENO);
	con->tells_end = tells_end && !con->is_tty;
}

bool console_wants(const struct console *con)
{
	return !con->eof && con->len < sizeof(con->buf) / 2;
}

void console_write(const uint8_t *bytes, size_t len)
{
	while (len) {
		const ssize_t n = write(STDOUT_FILENO, bytes, len);

		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			struct pollfd fd = {STDOUT_FILENO, POLLOUT, 0};

			poll(&fd, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return; /* nobody listens any more */
		}
	}
}

void console_push(struct console *con, struct vm *vm)
{
	const size_t n = con->len ? vm_console_input(vm, con->buf, con->len) : 0;

	con->len -= n;
	memmove(con->buf, con->buf + n, con->len);
}

/* The first one ends a line that is not whole, the second one the input. */
static void tell_end(struct console *con)
{
	con->buf[con->len++] = CTRL_D;
	con->buf[con->len++] = CTRL_D;
}

/* The key after Ctrl-A. */
static bool command(struct console *con, struct vm *vm, uint8_t key)
{
	con->escaped = false;
	switch (key) {
	case 'x':
	case 'X':
		return true;
	case 'p':
	case 'P':
		vm_press_power(vm);
		break;
	case 'h':
	case '?':
		console_write((const uint8_t *)help, sizeof(help) - 1);
		break;
	case CONSOLE_ESCAPE:
		con->buf[con->len++] = key;
		break;
	}
	return false;
}

enum console_event console_read(struct console *con, struct vm *vm)
{
	uint8_t in[128];
	const ssize_t n = read(STDIN_FILENO, in,
			       sizeof(con->buf) - con->len < sizeof(in)
				       ? sizeof(con->buf) - con->len
				       : sizeof(in));

	if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
		con->eof = true;
	if (con->eof && con->tells_end)
		tell_end(con);
	for (ssize_t i = 0; i < n; i++) {
		if (con->escaped) {
			if (command(con, vm, in[i]))
				return CONSOLE_QUIT;
		} else if (con->is_tty && in[i] == CONSOLE_ESCAPE) {
			con->escaped = true;
		} else {
			con->buf[con->len++] = in[i];
		}
	}
	console_push(con, vm);
	return CONSOLE_INPUT;
}

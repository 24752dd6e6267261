/* SPDX-License-Identifier: Apache-2.0 */
/* The terminal of `mezz-vm`: standard input and output as the guest's serial console. */
#ifndef VM_CONSOLE_H
#define VM_CONSOLE_H
#include <base/types.h>

struct vm;

#define CONSOLE_ESCAPE 0x01 /* Ctrl-A */

/**
 * struct console - input on its way from standard input to the guest.
 * @buf: bytes that the guest has not taken yet
 * @len: how many
 * @is_tty: Ctrl-A is a command key
 * @tells_end: at the end of input the guest gets Ctrl-D
 * @escaped: the last key was Ctrl-A
 * @eof: nothing more will come
 */
struct console {
	uint8_t buf[256];
	size_t len;
	bool is_tty;
	bool tells_end;
	bool escaped;
	bool eof;
};

/* What console_read() found. */
enum console_event {
	CONSOLE_INPUT, /* went to the guest, or waits for room */
	CONSOLE_QUIT,  /* Ctrl-A x */
};

/**
 * console_init() - look at standard input.
 * @con: to initialize
 * @tells_end: at the end of what is no terminal the guest gets Ctrl-D, as a program that reads a
 *             file would see its end
 */
void console_init(struct console *con, bool tells_end);

/** console_wants() - should standard input be polled? */
bool console_wants(const struct console *con);

/** console_read() - standard input is readable: take what is there. */
enum console_event console_read(struct console *con, struct vm *vm);

/** console_push() - hand waiting bytes to the guest as far as it has room. */
void console_push(struct console *con, struct vm *vm);

/** console_write() - output of the guest, to standard output; waits for a slow reader. */
void console_write(const uint8_t *bytes, size_t len);

#endif

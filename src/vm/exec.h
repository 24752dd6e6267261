/* SPDX-License-Identifier: Apache-2.0 */
/* A command for the guest of `make guest`, as words of the kernel's command line. */
#ifndef VM_EXEC_H
#define VM_EXEC_H
#include <stdbool.h>

/**
 * exec_words() - what tells the guest's init to run a command for somebody who waits for it.
 * @text: for its shell
 * @pipe: the console is no terminal: bytes pass as they are, and input ends with Ctrl-D
 *
 * Return: words that begin with a blank, for free(); NULL without memory.
 */
char *exec_words(const char *text, bool pipe);

#endif

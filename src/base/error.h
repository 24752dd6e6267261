/* SPDX-License-Identifier: Apache-2.0 */
/* The words that go with a host failure: a function returns -errno and says here what was wrong. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/**
 * struct err - one message for the person who caused or must mend a failure.
 * @text: one sentence without a newline, empty if nothing failed
 *
 * Owned by the caller, usually on its stack.
 */
struct err {
	char text[512];
};

/**
 * err_set() - write the message of a failure and pass its code through.
 * @err: where to write it, or NULL if the caller does not want words
 * @code: negative errno
 * @fmt: printf format of the sentence
 *
 * Return: @code, so that a failing function ends in `return err_set(…);`.
 */
int err_set(struct err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/**
 * err_prefix() - put the context of a caller in front of the message.
 * @err: message to extend, or NULL
 * @fmt: printf format of the text that goes in front
 */
void err_prefix(struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

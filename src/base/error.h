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
 * err_write() - write the message of a failure.
 * @err: where to write it, or NULL if the caller does not want words
 * @fmt: printf format of the sentence
 */
void err_write(struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * err_set() - write the message of a failure and pass its code through.
 * @err: as for err_write()
 * @code: negative errno
 *
 * After @code a printf format and what it takes. A failing function ends in
 * `return err_set(…);`. A macro, so that whoever analyses the caller sees which code that is;
 * @code is evaluated first, since the rest may change errno.
 *
 * Return: @code.
 */
#define err_set(err, code, ...)                                       \
	__extension__({                                               \
		const int err_code_ __attribute__((unused)) = (code); \
		err_write((err), __VA_ARGS__);                        \
		err_code_;                                            \
	})

/**
 * err_prefix() - put the context of a caller in front of the message.
 * @err: message to extend, or NULL
 * @fmt: printf format of the text that goes in front
 */
void err_prefix(struct err *err, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif

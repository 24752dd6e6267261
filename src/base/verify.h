/* SPDX-License-Identifier: Apache-2.0 */
/* Assertions about our own code. No guest and no user input can make one fail. */
#ifndef BASE_VERIFY_H
#define BASE_VERIFY_H
#include <base/types.h>

/**
 * verify_failed() - report a broken invariant of our own and abort.
 * @expr: the text of the condition
 * @file: source file
 * @line: source line
 *
 * Return: does not return.
 */
_Noreturn void verify_failed(const char *expr, const char *file, int line);

/* Always on. The condition has no side effects. */
#define VERIFY(cond)                                              \
	do {                                                      \
		if (unlikely(!(cond)))                            \
			verify_failed(#cond, __FILE__, __LINE__); \
	} while (0)

/* For checks too costly for a release: on unless built with NDEBUG. */
#ifdef NDEBUG
#define ASSERT(cond) ((void)sizeof(!(cond)))
#else
#define ASSERT(cond) VERIFY(cond)
#endif

#endif

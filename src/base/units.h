/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes, durations and whole numbers as people write them. */
#ifndef BASE_UNITS_H
#define BASE_UNITS_H
#include <base/error.h>
#include <base/types.h>

#define MIB_BYTES (UINT64_C(1) << 20)
#define MIB_PAGES (MIB_BYTES / PAGE_SIZE)

/* Room for whatever a format function writes. */
#define UNITS_TEXT 32

/**
 * number_parse() - read an unsigned whole number in decimal.
 * @text: digits only, without blanks and sign
 * @min: smallest number allowed
 * @max: largest number allowed
 * @ret: the number; not touched on failure
 * @err: says what was wrong with @text
 *
 * Return: 0, -EINVAL if @text is no number, -ERANGE if it is not in [min, max].
 */
int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *ret,
		 struct err *err) __attribute__((warn_unused_result));

/**
 * size_parse() - read an amount of memory such as 512MiB, 1.5G or 4096B.
 * @text: decimal number and a unit; K, M, G, T, with or without B or iB, are binary
 * @ret_bytes: the amount; not touched on failure
 * @err: says what was wrong with @text
 *
 * A bare number is refused, for nobody agrees whether it means bytes or MiB; only 0
 * needs no unit.
 *
 * Return: 0, -EINVAL if @text is no size, -ERANGE if it is over 2^62 bytes.
 */
int size_parse(const char *text, uint64_t *ret_bytes, struct err *err)
	__attribute__((warn_unused_result));

/**
 * size_parse_bytes() - size_parse(), but a bare number means bytes, as for programs.
 * Parameters and result as for size_parse().
 */
int size_parse_bytes(const char *text, uint64_t *ret_bytes, struct err *err)
	__attribute__((warn_unused_result));

/**
 * size_parse_pages() - read an amount of memory, rounded up to whole pages.
 * @text: as for size_parse()
 * @ret_pages: pages; not touched on failure
 * @err: says what was wrong
 *
 * Return: as size_parse().
 */
int size_parse_pages(const char *text, uint64_t *ret_pages, struct err *err)
	__attribute__((warn_unused_result));

/**
 * size_format() - write an amount so that size_parse() reads the same back.
 * @bytes: the amount
 * @buf: at least UNITS_TEXT bytes
 *
 * Return: @buf.
 */
const char *size_format(uint64_t bytes, char buf[UNITS_TEXT]);

/**
 * pages_format() - write a number of pages as an amount for the eye, in MiB.
 * @pages: the amount
 * @buf: at least UNITS_TEXT bytes
 *
 * Return: @buf.
 */
const char *pages_format(uint64_t pages, char buf[UNITS_TEXT]);

/**
 * duration_parse() - read a span of time such as 15s, 500ms, 10min or 2h.
 * @text: whole number and a unit; without one it means seconds
 * @ret_ms: milliseconds; not touched on failure
 * @err: says what was wrong with @text
 *
 * Return: 0, -EINVAL if @text is no duration, -ERANGE if it is over a year.
 */
int duration_parse(const char *text, uint64_t *ret_ms, struct err *err)
	__attribute__((warn_unused_result));

#endif

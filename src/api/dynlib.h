/* SPDX-License-Identifier: Apache-2.0 */
/* Libraries that are loaded when they are first used, for what they cost a start. */
#ifndef API_DYNLIB_H
#define API_DYNLIB_H
#include <base/error.h>
#include <base/types.h>

/**
 * struct dynlib_symbol - a function of a library.
 * @name: that it has there
 * @at: where its address belongs in the caller's table
 */
struct dynlib_symbol {
	const char *name;
	size_t at;
};

/**
 * dynlib_load() - load a library, and find functions of it; it stays for the life of the process.
 * @soname: name of its binary interface
 * @symbols: @n of them
 * @n: how many
 * @table: the caller's structure of pointers to functions, filled on success
 * @err: message on failure
 *
 * Return: 0, or -ELIBACC if it is not there or too old. Context: any thread.
 */
int dynlib_load(const char *soname, const struct dynlib_symbol *symbols,
		size_t n, void *table, struct err *err)
	__attribute__((warn_unused_result));

#endif

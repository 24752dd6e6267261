/* SPDX-License-Identifier: Apache-2.0 */
/* Messages that accompany a negative errno. */
#include <base/error.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void err_write(struct err *err, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return;
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
}

void err_prefix(struct err *err, const char *fmt, ...)
{
	char old[sizeof(err->text)];
	va_list ap;

	if (!err)
		return;
	memcpy(old, err->text, sizeof(old));
	va_start(ap, fmt);
	vsnprintf(err->text, sizeof(err->text), fmt, ap);
	va_end(ap);
	strncat(err->text, old, sizeof(err->text) - strlen(err->text) - 1);
}

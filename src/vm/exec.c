/* SPDX-License-Identifier: Apache-2.0 */
/* In base64 [RFC 4648], for the kernel's command line has no escapes. */
#include <vm/exec.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void encode(const char *text, size_t len, char *to)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				     "abcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t at = 0; at < len; at += 3) {
		const size_t n = len - at < 3 ? len - at : 3;
		uint32_t v = 0;

		for (size_t i = 0; i < 3; i++)
			v = v << 8 | (i < n ? (uint8_t)text[at + i] : 0);
		for (size_t i = 0; i < 4; i++)
			*to++ = i > n ? '=' : digits[v >> (18 - 6 * i) & 63];
	}
	*to = 0;
}

char *exec_words(const char *text, bool pipe)
{
	const size_t len = strlen(text);
	char *encoded = malloc((len + 2) / 3 * 4 + 1);
	char *words = NULL;

	if (!encoded)
		return NULL;
	encode(text, len, encoded);
	if (asprintf(&words, " mezz.exec=%s mezz.run64=%s",
		     pipe ? "pipe" : "terminal", encoded) < 0)
		words = NULL;
	free(encoded);
	return words;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Commands for the guest: what a shell's base64 makes of the same text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <vm/exec.h>

static void check(const char *text, bool pipe, const char *want)
{
	char *words = exec_words(text, pipe);

	assert_non_null(words);
	assert_string_equal(words, want);
	free(words);
}

static void test_words(void **state)
{
	(void)state;
	check("", false, " mezz.exec=terminal mezz.run64=");
	check("a", true, " mezz.exec=pipe mezz.run64=YQ==");
	check("ab", true, " mezz.exec=pipe mezz.run64=YWI=");
	check("echo \"\xc3\xbc\xff\"; exit 3", true,
	      " mezz.exec=pipe mezz.run64=ZWNobyAiw7z/IjsgZXhpdCAz");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
	};

	return cmocka_run_group_tests_name("exec", tests, NULL, NULL);
}

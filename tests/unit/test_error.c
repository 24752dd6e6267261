/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of base/error. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <base/error.h>

static void set_passes_the_code_through(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(err_set(&err, -ENOENT, "no file %s, line %d", "x", 7),
			 -ENOENT);
	assert_string_equal(err.text, "no file x, line 7");
	assert_int_equal(err_set(&err, -EIO, "again"), -EIO);
	assert_string_equal(err.text, "again");
}

static void set_without_words(void **state)
{
	(void)state;
	assert_int_equal(err_set(NULL, -EPERM, "unheard %d", 1), -EPERM);
	err_prefix(NULL, "unheard ");
}

static void set_cuts_long_words(void **state)
{
	struct {
		struct err err;
		char behind;
	} s = {.behind = 'b'};
	char words[2 * sizeof(s.err.text)];

	(void)state;
	memset(words, 'w', sizeof(words) - 1);
	words[sizeof(words) - 1] = '\0';
	assert_int_equal(err_set(&s.err, -EINVAL, "%s", words), -EINVAL);
	assert_int_equal(strlen(s.err.text), sizeof(s.err.text) - 1);
	assert_int_equal(s.behind, 'b');
}

static void prefix_goes_in_front(void **state)
{
	struct err err = {0};

	(void)state;
	err_set(&err, -EIO, "cannot read");
	err_prefix(&err, "disk %d: ", 2);
	assert_string_equal(err.text, "disk 2: cannot read");
	err_prefix(&err, "%s: ", "web1");
	assert_string_equal(err.text, "web1: disk 2: cannot read");
}

static void prefix_cuts_the_end(void **state)
{
	struct {
		struct err err;
		char behind;
	} s = {.behind = 'b'};
	char words[sizeof(s.err.text)];

	(void)state;
	memset(words, 'w', sizeof(words) - 1);
	words[sizeof(words) - 1] = '\0';
	err_set(&s.err, -EINVAL, "%s", words);
	err_prefix(&s.err, "front: ");
	assert_int_equal(strlen(s.err.text), sizeof(s.err.text) - 1);
	assert_memory_equal(s.err.text, "front: www", 10);
	assert_int_equal(s.behind, 'b');

	err_prefix(&s.err, "%s", words);
	assert_string_equal(s.err.text, words);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(set_passes_the_code_through),
		cmocka_unit_test(set_without_words),
		cmocka_unit_test(set_cuts_long_words),
		cmocka_unit_test(prefix_goes_in_front),
		cmocka_unit_test(prefix_cuts_the_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Unit tests of base/program. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <base/program.h>

/* What a shell with these words writes to its descriptor 1, as its process @ret_pid. */
static void shell_says(const char *words, bool session, char *buf, size_t size,
		       pid_t *ret_pid)
{
	const char *const argv[] = {"sh", "-c", words, NULL};
	int ends[2], status;
	size_t n = 0;
	ssize_t got;

	assert_int_equal(pipe2(ends, O_CLOEXEC), 0);

	const int fds[] = {PROGRAM_NULL, ends[1], PROGRAM_KEEP};

	assert_int_equal(program_spawn("/bin/sh", argv, fds, 3, session, ret_pid),
			 0);
	close(ends[1]);
	while (n < size - 1 && (got = read(ends[0], buf + n, size - 1 - n)) > 0)
		n += (size_t)got;
	buf[n] = 0;
	close(ends[0]);
	assert_int_equal(waitpid(*ret_pid, &status, 0), *ret_pid);
	assert_int_equal(status, 0);
}

static void gets_what_is_meant_for_it(void **state)
{
	const int ours = fcntl(STDIN_FILENO, F_DUPFD, 200);
	char said[64];
	pid_t pid;

	(void)state;
	assert_in_range(ours, 200, 1000);
	shell_says("readlink /proc/$$/fd/0; for f in /proc/$$/fd/2*; do echo ${f##*/}; done",
		   false, said, sizeof(said), &pid);
	assert_string_equal(said, "/dev/null\n2\n");
	close(ours);
}

static void has_a_session_if_asked(void **state)
{
	char said[64], want[64];
	pid_t pid;

	(void)state;
	shell_says("read -r p n s pp g sid rest </proc/$$/stat; echo $sid",
		   true, said, sizeof(said), &pid);
	snprintf(want, sizeof(want), "%d\n", (int)pid);
	assert_string_equal(said, want);
	shell_says("read -r p n s pp g sid rest </proc/$$/stat; echo $sid",
		   false, said, sizeof(said), &pid);
	snprintf(want, sizeof(want), "%d\n", (int)getsid(0));
	assert_string_equal(said, want);
}

static void blocks_no_signals(void **state)
{
	sigset_t all, old;
	char said[64];
	pid_t pid;

	(void)state;
	sigfillset(&all);
	assert_int_equal(sigprocmask(SIG_SETMASK, &all, &old), 0);
	shell_says("while read -r k v; do case $k in SigBlk:) echo $v;; esac; "
		   "done </proc/$$/status",
		   false, said, sizeof(said), &pid);
	assert_int_equal(sigprocmask(SIG_SETMASK, &old, NULL), 0);
	assert_string_equal(said, "0000000000000000\n");
}

static void says_why_not(void **state)
{
	const char *const argv[] = {"none", NULL};
	const int keep[] = {PROGRAM_KEEP};
	const int closed[] = {1000};
	pid_t pid = 7;

	(void)state;
	assert_int_equal(program_spawn("/nowhere/none", argv, keep, 1, false,
				       &pid),
			 -ENOENT);
	assert_int_equal(program_spawn("/", argv, keep, 1, false, &pid),
			 -EACCES);
	assert_int_equal(program_spawn("/bin/sh", argv, closed, 1, false, &pid),
			 -EBADF);
	assert_int_equal(pid, 7);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(gets_what_is_meant_for_it),
		cmocka_unit_test(has_a_session_if_asked),
		cmocka_unit_test(blocks_no_signals),
		cmocka_unit_test(says_why_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

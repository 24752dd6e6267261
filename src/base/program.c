/* SPDX-License-Identifier: Apache-2.0 */
/* Starts programs by posix_spawn(), which copies no page tables, unlike fork(). */
#include <base/program.h>

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <unistd.h>

static int set_files(posix_spawn_file_actions_t *files, const int *fds,
		     int n_fds)
{
	int r = 0;

	for (int i = 0; i < n_fds && !r; i++) {
		if (fds[i] == PROGRAM_NULL)
			r = posix_spawn_file_actions_addopen(files, i,
							     "/dev/null",
							     O_RDWR, 0);
		else if (fds[i] != PROGRAM_KEEP)
			r = posix_spawn_file_actions_adddup2(files, fds[i], i);
	}
	return r ? r : posix_spawn_file_actions_addclosefrom_np(files, n_fds);
}

static int set_attributes(posix_spawnattr_t *attr, bool session)
{
	sigset_t none;
	int r;

	sigemptyset(&none);
	r = posix_spawnattr_setsigmask(attr, &none);
	if (r)
		return r;
	return posix_spawnattr_setflags(attr,
					(short)(POSIX_SPAWN_SETSIGMASK |
						(session ? POSIX_SPAWN_SETSID
							 : 0)));
}

int program_spawn(const char *program, const char *const *argv, const int *fds,
		  int n_fds, bool session, pid_t *ret_pid)
{
	/* The prototype of posix_spawn() is older than const. */
	union {
		const char *const *in;
		char *const *out;
	} words = {.in = argv};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	pid_t pid;
	int r = posix_spawn_file_actions_init(&files);

	if (r)
		return -r;
	r = posix_spawnattr_init(&attr);
	if (r) {
		posix_spawn_file_actions_destroy(&files);
		return -r;
	}
	r = set_files(&files, fds, n_fds);
	if (!r)
		r = set_attributes(&attr, session);
	if (!r)
		r = posix_spawn(&pid, program, &files, &attr, words.out,
				environ);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	if (!r && ret_pid)
		*ret_pid = pid;
	return -r;
}

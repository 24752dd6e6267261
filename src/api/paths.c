/* SPDX-License-Identifier: Apache-2.0 */
/* Default places by user and environment. */
#include <api/paths.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int put(char buf[PATHS_MAX], const char *dir, const char *file,
	       struct err *err)
{
	if (snprintf(buf, PATHS_MAX, "%s%s", dir, file) < PATHS_MAX)
		return 0;
	return err_set(err, -ENAMETOOLONG, "%.64s… is too long for a path", dir);
}

int paths_socket(char buf[PATHS_MAX], struct err *err)
{
	const char *said = getenv("MEZZ_SOCKET");
	const char *runtime = getenv("XDG_RUNTIME_DIR");

	if (said && *said)
		return put(buf, said, "", err);
	if (!geteuid())
		return put(buf, "/run/mezzanine", "/mezzd.sock", err);
	if (runtime && *runtime)
		return put(buf, runtime, "/mezzanine/mezzd.sock", err);
	return err_set(
		err, -ENOENT,
		"where is mezzd's socket? Neither MEZZ_SOCKET nor XDG_RUNTIME_DIR is set");
}

int paths_state_dir(char buf[PATHS_MAX], struct err *err)
{
	const char *state = getenv("XDG_STATE_HOME");
	const char *home = getenv("HOME");

	if (!geteuid())
		return put(buf, "/var/lib/mezzanine", "", err);
	if (state && *state)
		return put(buf, state, "/mezzanine", err);
	if (home && *home)
		return put(buf, home, "/.local/state/mezzanine", err);
	return err_set(
		err, -ENOENT,
		"where shall state be kept? Neither XDG_STATE_HOME nor HOME is set");
}

bool paths_own_folder(char buf[PATHS_MAX])
{
	const ssize_t n = readlink("/proc/self/exe", buf, PATHS_MAX - 1);

	if (n <= 0)
		return false;
	buf[n] = 0;
	*strrchr(buf, '/') = 0;
	return true;
}

bool paths_beside(const char *const *places, char buf[PATHS_MAX])
{
	char self[PATHS_MAX];

	if (!paths_own_folder(self))
		return false;
	for (; *places; places++)
		if (snprintf(buf, PATHS_MAX, "%s/%s", self, *places) < PATHS_MAX &&
		    !access(buf, R_OK))
			return true;
	return false;
}

int paths_make_parents(const char *path, struct err *err)
{
	char copy[PATHS_MAX];

	if (strlen(path) >= sizeof(copy))
		return err_set(err, -ENAMETOOLONG, "%.64s… is too long", path);
	memcpy(copy, path, strlen(path) + 1);
	for (char *p = copy + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		if (mkdir(copy, 0755) && errno != EEXIST) {
			const int e = errno;

			return err_set(err, -e, "cannot make the folder %s: %s",
				       copy, strerror(e));
		}
		*p = '/';
	}
	return 0;
}

static int remove_one(const char *path, const struct stat *st, int type,
		      struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	(void)remove(path);
	return 0;
}

void paths_remove_tree(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the folder of the default guest image. */
#include <vm/image.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <api/paths.h>

#define INSTALLED_FOLDER "/var/lib/mezzanine/guest"

/* The build folder that this program lies in, or false. */
static bool build_folder(char buf[PATHS_MAX])
{
	char *src;

	if (!paths_own_folder(buf))
		return false;
	src = strstr(buf, "/src/");
	for (char *next = src; next; next = strstr(src + 1, "/src/"))
		src = next;
	if (!src)
		return false;
	*src = 0;
	return true;
}

/* What was installed along with this program, or false. */
static bool installed_folder(char buf[PATHS_MAX])
{
	/* Of libexec/mezzanine. */
	static const char *const places[] = {"../../share/mezzanine/guest",
					     NULL};
	char found[PATHS_MAX];

	return paths_beside(places, found) && realpath(found, buf);
}

int image_folder(char *buf, size_t size, struct err *err)
{
	const char *env = getenv("MEZZ_IMAGE");
	char folder[PATHS_MAX];
	int n;

	if (env && *env)
		n = snprintf(buf, size, "%s", env);
	else if (build_folder(folder))
		n = snprintf(buf, size, "%s/guest", folder);
	else if (installed_folder(folder))
		n = snprintf(buf, size, "%s", folder);
	else
		n = snprintf(buf, size, "%s", INSTALLED_FOLDER);
	if (n < 0 || (size_t)n >= size)
		return err_set(err, -ENAMETOOLONG,
			       "the path of the guest image is too long");
	return 0;
}

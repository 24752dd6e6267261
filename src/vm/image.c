/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the folder of the default guest image. */
#include <vm/image.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INSTALLED_FOLDER "/var/lib/mezzanine/guest"
#define BESIDE_US        "/../../share/mezzanine/guest" /* of libexec/mezzanine */

static bool own_path(char *buf, size_t size)
{
	const ssize_t n = readlink("/proc/self/exe", buf, size - 1);

	if (n <= 0)
		return false;
	buf[n] = 0;
	return true;
}

/* The build folder that this program lies in, or false. */
static bool build_folder(char *buf, size_t size)
{
	char *src;

	if (!own_path(buf, size))
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
static bool installed_folder(char *buf, size_t size)
{
	char self[4096], image[4096 + sizeof(BESIDE_US)];
	char *resolved;
	bool found;

	if (!own_path(self, sizeof(self)))
		return false;
	*strrchr(self, '/') = 0;
	snprintf(image, sizeof(image), "%s" BESIDE_US, self);
	resolved = realpath(image, NULL);
	found = resolved && strlen(resolved) < size;
	if (found)
		strcpy(buf, resolved);
	free(resolved);
	return found;
}

int image_folder(char *buf, size_t size, struct err *err)
{
	const char *env = getenv("MEZZ_IMAGE");
	char build[4096];
	int n;

	if (env && *env)
		n = snprintf(buf, size, "%s", env);
	else if (build_folder(build, sizeof(build)))
		n = snprintf(buf, size, "%s/guest", build);
	else if (installed_folder(build, sizeof(build)))
		n = snprintf(buf, size, "%s", build);
	else
		n = snprintf(buf, size, "%s", INSTALLED_FOLDER);
	if (n < 0 || (size_t)n >= size)
		return err_set(err, -ENAMETOOLONG,
			       "the path of the guest image is too long");
	return 0;
}

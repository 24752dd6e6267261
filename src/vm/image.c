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

/* The build folder that this program lies in, or false. */
static bool build_folder(char *buf, size_t size)
{
	const ssize_t n = readlink("/proc/self/exe", buf, size - 1);
	char *src;

	if (n <= 0)
		return false;
	buf[n] = 0;
	src = strstr(buf, "/src/");
	for (char *next = src; next; next = strstr(src + 1, "/src/"))
		src = next;
	if (!src)
		return false;
	*src = 0;
	return true;
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
	else
		n = snprintf(buf, size, "%s", INSTALLED_FOLDER);
	if (n < 0 || (size_t)n >= size)
		return err_set(err, -ENAMETOOLONG,
			       "the path of the guest image is too long");
	return 0;
}

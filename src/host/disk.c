/* SPDX-License-Identifier: Apache-2.0 */
/* Words for a full disk. */
#include <host/disk.h>

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>

#include <base/units.h>

static bool is_full(int error)
{
	return error == ENOSPC || error == EDQUOT || error == EFBIG;
}

static void describe(int error, const struct statvfs *fs, uint64_t bytes,
		     char buf[DISK_TEXT])
{
	const uint64_t available = fs->f_bavail * fs->f_frsize;
	char need[UNITS_TEXT], free[UNITS_TEXT], missing[UNITS_TEXT];

	/* A quota, a limit of this process, or a disk that has emptied meanwhile. */
	if (available >= bytes && fs->f_files && !fs->f_favail)
		snprintf(buf, DISK_TEXT,
			 "no space left on the disk: it can have no more files");
	else if (available >= bytes)
		snprintf(buf, DISK_TEXT,
			 "%s: %s needed, though the disk has %s free",
			 strerror(error), size_format(bytes, need),
			 size_format(available, free));
	else
		snprintf(buf, DISK_TEXT,
			 "no space left on the disk: %s needed, %s free, %s short",
			 size_format(bytes, need), size_format(available, free),
			 size_format(bytes - available, missing));
}

static const char *words(int error, int failed, const struct statvfs *fs,
			 uint64_t bytes, char buf[DISK_TEXT])
{
	if (!is_full(error) || failed)
		snprintf(buf, DISK_TEXT, "%s", strerror(error));
	else
		describe(error, fs, bytes, buf);
	return buf;
}

const char *disk_error(int error, const char *path, uint64_t bytes,
		       char buf[DISK_TEXT])
{
	struct statvfs fs;
	const int failed = statvfs(path, &fs);

	return words(error, failed, &fs, bytes, buf);
}

const char *disk_error_at(int error, int dir_fd, uint64_t bytes,
			  char buf[DISK_TEXT])
{
	struct statvfs fs;
	const int failed = fstatvfs(dir_fd, &fs);

	return words(error, failed, &fs, bytes, buf);
}

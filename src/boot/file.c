/* SPDX-License-Identifier: Apache-2.0 */
/* File reading with messages that name the file. */
#include <boot/file.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int check_file(int fd, const char *path, uint64_t *ret_bytes,
		      struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "%s: is a directory", path);
	if (!S_ISREG(st.st_mode))
		return err_set(err, -EINVAL, "%s: is not a regular file", path);
	if (st.st_size == 0)
		return err_set(err, -ENOEXEC, "%s: the file is empty", path);
	*ret_bytes = (uint64_t)st.st_size;
	return 0;
}

int file_open(const char *path, uint64_t *ret_bytes, struct err *err)
{
	/* A pipe without a writer must give a message, not wait. */
	const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_set(err, -errno, "%s: %s", path, strerror(errno));
	const int r = check_file(fd, path, ret_bytes, err);

	if (r < 0) {
		close(fd);
		return r;
	}
	return fd;
}

int file_read(int fd, const char *path, void *buf, uint64_t bytes,
	      struct err *err)
{
	uint8_t *p = buf;

	while (bytes) {
		const ssize_t n = read(fd, p, bytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_set(err, -errno, "%s: %s", path,
				       strerror(errno));
		if (n == 0)
			return err_set(
				err, -EIO,
				"%s: the file became shorter while it was read",
				path);
		p += n;
		bytes -= (uint64_t)n;
	}
	return 0;
}

int file_load(const char *path, uint64_t max_bytes, uint8_t **ret_data,
	      size_t *ret_bytes, struct err *err)
{
	uint64_t bytes = 0;
	const int fd = file_open(path, &bytes, err);

	if (fd < 0)
		return fd;
	if (bytes > max_bytes) {
		close(fd);
		return err_set(err, -EFBIG, "%s: %lu bytes, more than %lu",
			       path, bytes, max_bytes);
	}
	uint8_t *data = malloc(bytes);
	const int r = data ? file_read(fd, path, data, bytes, err)
			   : err_set(err, -ENOMEM,
				     "%s: no memory for %lu bytes", path, bytes);

	close(fd);
	if (r < 0) {
		free(data);
		return r;
	}
	*ret_data = data;
	*ret_bytes = bytes;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Opening what a disk is made of: only one program may write it, or several read it. */
#include <dev/disk_image.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int open_image(const char *path, bool writable, struct err *err)
{
	/* Without O_NONBLOCK a pipe would keep us waiting for its other end. */
	int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK;
	int fd = open(path, flags);

	if (fd >= 0)
		return fd;

	int code = errno;

	if (code == EISDIR)
		return err_set(err, -EISDIR, "disk image '%s' is a directory",
			       path);
	if (writable && (code == EACCES || code == EPERM || code == EROFS))
		return err_set(
			err, -code,
			"disk image '%s' cannot be written: %s (it may be usable read-only)",
			path, strerror(code));
	return err_set(err, -code, "disk image '%s' cannot be opened: %s", path,
		       strerror(code));
}

static int image_size(int fd, const char *path, uint64_t *ret_bytes,
		      struct err *err)
{
	struct stat st;
	uint64_t bytes = 0;

	if (fstat(fd, &st) < 0)
		return err_set(err, -errno, "disk image '%s': %s", path,
			       strerror(errno));
	if (S_ISDIR(st.st_mode))
		return err_set(err, -EISDIR, "disk image '%s' is a directory",
			       path);
	if (S_ISREG(st.st_mode))
		bytes = (uint64_t)st.st_size;
	else if (!S_ISBLK(st.st_mode))
		return err_set(
			err, -EINVAL,
			"disk image '%s' is neither a file nor a block device",
			path);
	else if (ioctl(fd, BLKGETSIZE64, &bytes) < 0)
		return err_set(err, -errno,
			       "size of block device '%s' is unknown: %s", path,
			       strerror(errno));
	if (bytes == 0)
		return err_set(err, -EINVAL, "disk image '%s' is empty", path);
	*ret_bytes = bytes;
	return 0;
}

static int lock_image(int fd, const char *path, bool writable, struct err *err)
{
	struct flock lock = {
		.l_type = writable ? F_WRLCK : F_RDLCK,
		.l_whence = SEEK_SET,
	};

	if (fcntl(fd, F_OFD_SETLK, &lock) == 0)
		return 0;
	if (errno == EAGAIN || errno == EACCES)
		return err_set(err, -EBUSY,
			       "disk image '%s' is in use by another program",
			       path);
	return err_set(err, -errno, "disk image '%s' cannot be locked: %s",
		       path, strerror(errno));
}

int disk_image_open(const char *path, bool writable, uint64_t *ret_bytes,
		    struct err *err)
{
	const int fd = open_image(path, writable, err);
	uint64_t bytes = 0;
	int r;

	if (fd < 0)
		return fd;
	r = image_size(fd, path, &bytes, err);
	if (!r)
		r = lock_image(fd, path, writable, err);
	if (r) {
		close(fd);
		return r;
	}
	*ret_bytes = bytes;
	return fd;
}

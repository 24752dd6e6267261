/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets by the descriptor of their directory, since paths may be long. */
#include <vm/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 16

static int bind_in(int dir_fd, const char *name, int fd)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int n = snprintf(addr.sun_path, sizeof(addr.sun_path),
			       "/proc/self/fd/%d/%s", dir_fd, name);

	if (n < 0 || (size_t)n >= sizeof(addr.sun_path))
		return -ENAMETOOLONG;
	unlinkat(dir_fd, name, 0);
	if (bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return -errno;
	return 0;
}

int socket_listen(const char *dir, const char *name, int type, int *ret_fd,
		  struct err *err)
{
	const int dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int fd, r;

	if (dir_fd < 0)
		return err_set(err, -errno, "cannot open %s: %s", dir,
			       strerror(errno));
	fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	r = fd < 0 ? -errno : bind_in(dir_fd, name, fd);
	close(dir_fd);
	if (!r) {
		*ret_fd = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	return err_set(err, r, "cannot listen in %s: %s", dir, strerror(-r));
}

/* SPDX-License-Identifier: Apache-2.0 */
/* One datagram to the service manager. */
#include <host/notify.h>

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define TEXT_MAX 512

/* A path, or a name in the abstract namespace, which is written with '@'. */
static int send_to(const char *path, const char *text)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	const size_t n = strlen(path);
	const socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
					  n);
	ssize_t sent;
	int fd, r;

	if ((path[0] != '/' && path[0] != '@') || n >= sizeof(to.sun_path))
		return -EINVAL;
	memcpy(to.sun_path, path, n);
	if (path[0] == '@')
		to.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	sent = sendto(fd, text, strlen(text), MSG_NOSIGNAL,
		      (const struct sockaddr *)&to, len);
	r = sent < 0 ? -errno : 0;
	close(fd);
	return r;
}

int notify_ready(const char *status, struct err *err)
{
	const char *path = getenv("NOTIFY_SOCKET");
	char text[TEXT_MAX];
	int r;

	if (!path)
		return 0;
	snprintf(text, sizeof(text), "READY=1\nSTATUS=%s\n", status);
	r = send_to(path, text);
	if (r)
		r = err_set(err, r, "cannot tell the service manager at %s: %s",
			    path, strerror(-r));
	unsetenv("NOTIFY_SOCKET");
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Unix and TCP sockets to listen on. */
#include <api/listen.h>

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static int fail(struct err *err, int fd, const char *what, const char *where)
{
	const int e = errno;

	if (fd >= 0)
		close(fd);
	return err_set(err, -e, "cannot %s %s: %s", what, where, strerror(e));
}

static bool somebody_answers(const struct sockaddr_un *addr)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const bool yes = fd >= 0 && !connect(fd, (const struct sockaddr *)addr,
					     sizeof(*addr));

	if (fd >= 0)
		close(fd);
	return yes;
}

int listen_unix(const char *path, int *ret_fd, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(
			err, -ENAMETOOLONG,
			"the socket path %s has %zu bytes, at most %zu are allowed",
			path, strlen(path), sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (!lstat(path, &st)) {
		if (!S_ISSOCK(st.st_mode))
			return err_set(err, -EEXIST,
				       "%s is there and not a socket", path);
		if (somebody_answers(&addr))
			return err_set(err, -EADDRINUSE,
				       "another mezzd answers on %s", path);
		if (unlink(path))
			return fail(err, -1, "replace the socket", path);
	}
	const int fd = socket(AF_UNIX,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fail(err, fd, "make the socket", path);
	/* Nobody can connect before listen(), so the mode is never too wide. */
	if (chmod(path, 0660) || listen(fd, LISTEN_BACKLOG))
		return fail(err, fd, "listen on", path);
	*ret_fd = fd;
	return 0;
}

/* Splits in place. Return: the port, or NULL. */
static const char *split_address(char *where, const char **ret_host)
{
	char *colon = strrchr(where, ':');

	if (!colon || !colon[1])
		return NULL;
	*colon = 0;
	*ret_host = where;
	if (*where == '[' && colon > where + 1 && colon[-1] == ']') {
		colon[-1] = 0;
		*ret_host = where + 1;
	}
	return colon + 1;
}

int listen_tcp(const char *where, int *ret_fd, struct err *err)
{
	const struct addrinfo hints = {.ai_flags = AI_NUMERICHOST |
						   AI_NUMERICSERV | AI_PASSIVE,
				       .ai_socktype = SOCK_STREAM};
	struct addrinfo *ai = NULL;
	const char *host, *port;
	const int one = 1;
	char copy[128];

	snprintf(copy, sizeof(copy), "%s", where);
	port = split_address(copy, &host);
	if (!port || getaddrinfo(host, port, &hints, &ai))
		return err_set(err, -EINVAL,
			       "'%s' is not ADDRESS:PORT with numbers", where);
	const int fd = socket(ai->ai_family,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const bool failed = fd < 0 ||
			    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one,
				       sizeof(one)) ||
			    bind(fd, ai->ai_addr, ai->ai_addrlen) ||
			    listen(fd, LISTEN_BACKLOG);
	const int e = errno;

	freeaddrinfo(ai);
	errno = e;
	if (failed)
		return fail(err, fd, "listen on", where);
	*ret_fd = fd;
	return 0;
}

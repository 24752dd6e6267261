/* SPDX-License-Identifier: Apache-2.0 */
/* Unix and TCP sockets to listen on. */
#include <api/listen.h>

#include <errno.h>
#include <fcntl.h>
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

/* Return: 0, or -errno if there is something that may not be replaced. */
static int check_place(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(
			err, -ENAMETOOLONG,
			"the socket path %s has %zu bytes, at most %zu are allowed",
			path, strlen(path), sizeof(addr.sun_path) - 1);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	if (lstat(path, &st))
		return 0;
	if (!S_ISSOCK(st.st_mode))
		return err_set(err, -EEXIST, "%s is there and not a socket",
			       path);
	if (somebody_answers(&addr))
		return err_set(err, -EADDRINUSE, "another mezzd answers on %s",
			       path);
	return 0;
}

/* In a folder, however long its path is. Return: socket or -errno. */
static int listen_in(int dir_fd, const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX,
			      SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int e;

	snprintf(addr.sun_path, sizeof(addr.sun_path), "/proc/self/fd/%d/%s",
		 dir_fd, name);
	/* Nobody can connect before listen(), so the mode is never too wide. */
	if (fd >= 0 && !bind(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
	    !fchmodat(dir_fd, name, 0660, 0) && !listen(fd, LISTEN_BACKLOG))
		return fd;
	e = errno;
	if (fd >= 0)
		close(fd);
	return -e;
}

/*
 * Made under another name, and renamed when it listens: clients that come while one mezzd
 * follows another find a socket at any time.
 */
static int listen_at(const char *path, ino_t *ret_ino)
{
	char dir[sizeof(((struct sockaddr_un *)0)->sun_path)], name[32];
	const char *slash = strrchr(path, '/');
	struct stat st = {0};
	int dir_fd, fd, r = 0;

	snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) + 1 : 1,
		 slash ? path : ".");
	snprintf(name, sizeof(name), ".mezzd.%d", (int)getpid());
	dir_fd = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (dir_fd < 0)
		return -errno;
	unlinkat(dir_fd, name, 0); /* of a process that had our number */
	fd = listen_in(dir_fd, name);
	if (fd >= 0 && (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) ||
			renameat(dir_fd, name, AT_FDCWD, path)))
		r = -errno;
	if (fd < 0 || r)
		unlinkat(dir_fd, name, 0);
	close(dir_fd);
	if (fd >= 0 && r)
		close(fd);
	*ret_ino = st.st_ino;
	return r ? r : fd;
}

int listen_unix(const char *path, int *ret_fd, ino_t *ret_ino, struct err *err)
{
	int r = check_place(path, err);
	ino_t ino = 0;

	if (r)
		return r;
	r = listen_at(path, &ino);
	if (r < 0)
		return err_set(err, r, "cannot listen on %s: %s", path,
			       strerror(-r));
	*ret_fd = r;
	*ret_ino = ino;
	return 0;
}

void listen_unlink(const char *path, ino_t ino)
{
	struct stat st;

	if (!lstat(path, &st) && S_ISSOCK(st.st_mode) && st.st_ino == ino)
		unlink(path);
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

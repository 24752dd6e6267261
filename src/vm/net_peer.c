/* SPDX-License-Identifier: Apache-2.0 */
/* Connects a VM's network card: to a socket, or to a mezz-net that is started for it. */
#include <vm/net_peer.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <api/paths.h>
#include <base/program.h>

#define ANSWER_MS 10000

/* Some program that listens already. */
static int connect_to(const char *path, struct err *err)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(addr.sun_path))
		return err_set(err, -ENAMETOOLONG,
			       "--net: the path %s is too long for a socket",
			       path);
	memcpy(addr.sun_path, path, strlen(path) + 1);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_set(err, -errno, "--net: no socket: %s",
			       strerror(errno));
	if (!connect(fd, (const struct sockaddr *)&addr, sizeof(addr)))
		return fd;

	const int r = err_set(err, -errno, "--net: cannot connect to %s: %s",
			      path, strerror(errno));

	close(fd);
	return r;
}

static bool read_all(int fd, void *buf, size_t len)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char *to = buf;

	while (len) {
		const ssize_t n = poll(&p, 1, ANSWER_MS) == 1 ? read(fd, to, len)
							      : 0;

		if (n <= 0)
			return false;
		to += n;
		len -= (size_t)n;
	}
	return true;
}

/* mezz-net's first frame: empty, or why not. */
static int read_answer(int fd, struct err *err)
{
	char text[400];
	uint32_t len;

	if (!read_all(fd, &len, sizeof(len)))
		return err_set(err, -EPIPE, "--net user: mezz-net has ended");
	len = be32toh(len);
	if (!len)
		return 0;
	if (len >= sizeof(text) || !read_all(fd, text, len))
		return err_set(err, -EPROTO,
			       "--net user: mezz-net answers something else");
	text[len] = 0;
	return err_set(err, -EINVAL, "--net user: %s", text);
}

static int start_mezz_net(const char *words, struct err *err)
{
	/* Where it is installed, and where it is built. */
	static const char *const places[] = {"mezz-net", "../net/mezz-net",
					     NULL};
	char program[PATHS_MAX];
	const char *const argv[] = {program, words, NULL};
	/* Where mezz-net finds its end; what it says goes where ours does. */
	int fds[] = {PROGRAM_NULL, PROGRAM_NULL, PROGRAM_KEEP, -1};
	int ends[2], r;

	if (!paths_beside(places, program))
		return err_set(err, -ENOENT,
			       "--net user: mezz-net is not where mezz-vm is");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return err_set(err, -errno, "--net user: no socket: %s",
			       strerror(errno));
	fds[3] = ends[1];
	/* What ends the terminal's programs leaves the guest its network to shut down. */
	r = program_spawn(program, argv, fds, 4, true, NULL);
	close(ends[1]);
	r = r ? err_set(err, r, "--net user: cannot start %s: %s", program,
			strerror(-r))
	      : read_answer(ends[0], err);
	if (!r)
		return ends[0];
	close(ends[0]);
	return r;
}

int net_peer_open(const struct vm_net_config *cfg, struct err *err)
{
	const int fd = cfg->user ? start_mezz_net(cfg->words ? cfg->words : "",
						  err)
				 : connect_to(cfg->socket, err);

	if (fd < 0 || !fcntl(fd, F_SETFL, O_NONBLOCK))
		return fd;

	const int r = err_set(err, -errno, "--net: %s", strerror(errno));

	close(fd);
	return r;
}

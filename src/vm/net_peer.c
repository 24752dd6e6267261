/* SPDX-License-Identifier: Apache-2.0 */
/* Connects a VM's network card: to a socket, or to a mezz-net that is started for it. */
#include <vm/net_peer.h>

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <api/paths.h>

/* Where mezz-net finds its end. */
#define STREAM_FD 3
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

static int spawn(const char *program, const char *words, int stream)
{
	const char *const argv[] = {program, words, NULL};
	union {
		const char *const *in;
		char *const *out;
	} args = {.in = argv};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none;
	pid_t pid;
	int r;

	sigemptyset(&none);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(&files, 0, 1);
	posix_spawn_file_actions_adddup2(&files, stream, STREAM_FD);
	posix_spawn_file_actions_addclosefrom_np(&files, STREAM_FD + 1);
	/* What ends the terminal's programs leaves the guest its network to shut down. */
	posix_spawnattr_setflags(&attr,
				 POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSID);
	posix_spawnattr_setsigmask(&attr, &none);
	r = posix_spawn(&pid, program, &files, &attr, args.out, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return -r;
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
	int ends[2], r;

	if (!paths_beside(places, program))
		return err_set(err, -ENOENT,
			       "--net user: mezz-net is not where mezz-vm is");
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return err_set(err, -errno, "--net user: no socket: %s",
			       strerror(errno));
	r = spawn(program, words, ends[1]);
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

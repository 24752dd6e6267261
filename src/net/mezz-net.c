/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mezz-net: the network of one guest, made of the sockets of an ordinary user. mezz-vm starts
 * it with one end of a stream of frames as descriptor 3, and it ends with that.
 *
 *	mezz-net [tcp=[ADDRESS:]PORT:GUEST_PORT | udp=… | host],…
 *
 * libslirp is the router that the guest sees: 10.0.2.2, which gives it the address
 * 10.0.2.15 and name service at 10.0.2.3. A process apart, so that the VM's may keep its
 * sandbox, and a fault in this code reaches no guest memory.
 *
 * The first frame answers whether all could be done: empty, or the reason in words.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <seccomp.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/error.h>
#include <base/verify.h>
#include <dev/frames.h>
#include <vm/sandbox.h>

#define STREAM_FD 3

/* The guest's network, as everybody has it who uses libslirp. */
#define NETWORK    0x0a000200 /* 10.0.2.0 */
#define NETMASK    0xffffff00
#define ROUTER     (NETWORK + 2)
#define RESOLVER   (NETWORK + 3)
#define FIRST_HOST (NETWORK + 15)

/* Below that much room nothing more is taken from the outside: it would be lost. */
#define ROOM_MIN (FRAMES_ROOM / 2)

struct router {
	Slirp *slirp;
	struct frames guest;
	struct pollfd *fds; /* the stream first */
	size_t n_fds;
	size_t max_fds;
};

static const int calls[] = {
	SCMP_SYS(socket),
	SCMP_SYS(bind),
	SCMP_SYS(listen),
	SCMP_SYS(accept),
	SCMP_SYS(connect),
	SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	/* Where the host's name servers are may change. */
	SCMP_SYS(openat),
};

/* What libslirp calls. */

static ssize_t to_guest(const void *frame, size_t len, void *opaque)
{
	struct router *r = opaque;

	/* One that finds no room is lost, as on any wire. */
	if (len <= FRAME_MAX_BYTES)
		(void)frames_send(&r->guest, frame, len);
	return (ssize_t)len;
}

static void guest_error(const char *text, void *opaque)
{
	(void)text;
	(void)opaque;
}

static int64_t slirp_ns(void *opaque)
{
	(void)opaque;
	return (int64_t)monotonic_ns();
}

/* LIMIT: no IPv6, which alone has timers in libslirp. */
static void *timer_new(SlirpTimerCb cb, void *cb_opaque, void *opaque)
{
	(void)cb;
	(void)cb_opaque;
	(void)opaque;
	VERIFY(!"a timer");
	return NULL;
}

static void timer_free(void *timer, void *opaque)
{
	(void)timer;
	(void)opaque;
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)timer;
	(void)expire_ms;
	(void)opaque;
}

/* poll() is told all of them each time. */
static void ignore_fd(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void notify(void *opaque)
{
	(void)opaque;
}

static const SlirpCb callbacks = {
	.send_packet = to_guest,
	.guest_error = guest_error,
	.clock_get_ns = slirp_ns,
	.timer_new = timer_new,
	.timer_free = timer_free,
	.timer_mod = timer_mod,
	.register_poll_fd = ignore_fd,
	.unregister_poll_fd = ignore_fd,
	.notify = notify,
};

static struct in_addr address(uint32_t a)
{
	return (struct in_addr){htonl(a)};
}

/* What the command line asks for. */

static bool port(const char *text, int *ret)
{
	char *end;
	const unsigned long v = strtoul(text, &end, 10);

	*ret = (int)v;
	return *text >= '0' && *text <= '9' && !*end && v > 0 && v < 65536;
}

/* @what: [ADDRESS:]PORT:GUEST_PORT; is written to. */
static int forward(struct router *r, bool udp, char *what, struct err *err)
{
	struct in_addr on = {htonl(INADDR_LOOPBACK)};
	char *guest = strrchr(what, ':'), *host;
	int port_host, port_guest;

	if (!guest)
		return err_set(err, -EINVAL,
			       "'%s' is not [ADDRESS:]PORT:GUEST_PORT", what);
	*guest++ = 0;
	host = strrchr(what, ':');
	if (host)
		*host++ = 0;
	if (host && !inet_aton(what, &on))
		return err_set(err, -EINVAL, "'%s' is not an IPv4 address",
			       what);
	host = host ? host : what;
	if (!port(host, &port_host) || !port(guest, &port_guest))
		return err_set(err, -EINVAL,
			       "'%s:%s' are not two ports from 1 to 65535",
			       host, guest);
	if (slirp_add_hostfwd(r->slirp, udp, on, port_host, address(FIRST_HOST),
			      port_guest) < 0)
		return err_set(err, -errno, "cannot listen on %s port %d: %s",
			       udp ? "UDP" : "TCP", port_host, strerror(errno));
	return 0;
}

static int word(struct router *r, char *text, struct err *err)
{
	if (!strncmp(text, "tcp=", 4))
		return forward(r, false, text + 4, err);
	if (!strncmp(text, "udp=", 4))
		return forward(r, true, text + 4, err);
	/* It was seen to before. */
	if (!*text || !strcmp(text, "host"))
		return 0;
	return err_set(err, -EINVAL, "'%s' is not tcp=…, udp=… or host", text);
}

static bool has_word(const char *words, const char *wanted)
{
	const size_t n = strlen(wanted);

	for (const char *at = words; at; at = strchr(at, ',')) {
		at += *at == ',';
		if (!strncmp(at, wanted, n) && (!at[n] || at[n] == ','))
			return true;
	}
	return false;
}

static int start(struct router *r, char *words, struct err *err)
{
	const SlirpConfig cfg = {
		.version = 1,
		.in_enabled = true,
		.vnetwork = address(NETWORK),
		.vnetmask = address(NETMASK),
		.vhost = address(ROUTER),
		.vdhcp_start = address(FIRST_HOST),
		.vnameserver = address(RESOLVER),
		/* What listens on the host for the host alone is not the guest's business. */
		.disable_host_loopback = !has_word(words, "host"),
	};
	int ret = 0;

	r->slirp = slirp_new(&cfg, &callbacks, r);
	if (!r->slirp)
		return err_set(err, -EINVAL, "libslirp does not start");
	for (char *w; !ret && (w = strsep(&words, ","));)
		ret = word(r, w, err);
	return ret ? ret : sandbox_enter_with(calls, ARRAY_SIZE(calls), err);
}

/* The loop. */

static bool from_guest(void *ctx, const uint8_t *frame, size_t len)
{
	struct router *r = ctx;

	/* Answers come at once, and must fit. */
	if (frames_room(&r->guest) < ROOM_MIN)
		return false;
	slirp_input(r->slirp, frame, (int)len);
	return true;
}

static int add_fd(int fd, int events, void *opaque)
{
	struct router *r = opaque;

	if (r->n_fds == r->max_fds) {
		const size_t max = r->max_fds ? 2 * r->max_fds : 64;
		struct pollfd *fds = realloc(r->fds, max * sizeof(*fds));

		/* This one is not looked at, then; libslirp knows no failure here. */
		if (!fds)
			return 0;
		r->fds = fds;
		r->max_fds = max;
	}
	r->fds[r->n_fds] = (struct pollfd){
		.fd = fd,
		.events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
				  (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
				  (events & SLIRP_POLL_PRI ? POLLPRI : 0)),
	};
	return (int)r->n_fds++;
}

static int happened(int i, void *opaque)
{
	const struct router *r = opaque;
	const short e = i > 0 ? r->fds[i].revents : 0;

	return (e & POLLIN ? SLIRP_POLL_IN : 0) |
	       (e & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (e & POLLPRI ? SLIRP_POLL_PRI : 0) |
	       (e & POLLERR ? SLIRP_POLL_ERR : 0) |
	       (e & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* Return: whether the VM is still there. */
static bool turn(struct router *r)
{
	const bool full = frames_room(&r->guest) < ROOM_MIN;
	uint32_t timeout_ms = full ? UINT32_MAX : 60000;
	int n;

	r->n_fds = 0;
	add_fd(STREAM_FD, full ? SLIRP_POLL_OUT : SLIRP_POLL_IN, r);
	VERIFY(r->n_fds == 1);
	if (!full && frames_waiting(&r->guest))
		r->fds[0].events |= POLLOUT;
	if (!full)
		slirp_pollfds_fill(r->slirp, &timeout_ms, add_fd, r);
	n = poll(r->fds, r->n_fds, full ? -1 : (int)timeout_ms);
	if (n < 0 && errno != EINTR)
		return false;
	frames_flush(&r->guest);
	if (!full)
		slirp_pollfds_poll(r->slirp, n < 0, happened, r);
	/* Also what was left lying for want of room. */
	return frames_receive(&r->guest, from_guest, r) >= 0;
}

int main(int argc, char *argv[])
{
	static struct router r;
	struct err err = {0};
	char empty[] = "";

	if (argc > 2 || fcntl(STREAM_FD, F_SETFL, O_NONBLOCK)) {
		fprintf(stderr, "mezz-net: mezz-vm starts this program\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	frames_init(&r.guest, STREAM_FD);
	if (start(&r, argc == 2 ? argv[1] : empty, &err)) {
		(void)frames_send(&r.guest, err.text, strlen(err.text));
		return 1;
	}
	(void)frames_send(&r.guest, NULL, 0);
	while (turn(&r))
		;
	slirp_cleanup(r.slirp);
	free(r.fds);
	return 0;
}

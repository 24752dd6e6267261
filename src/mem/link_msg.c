/* SPDX-License-Identifier: Apache-2.0 */
/* The link between a VM and the host: checking, sending and receiving messages. */
#include <mem/link_msg.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

void link_msg_init(struct link_msg *msg, enum link_type type, uint64_t value)
{
	memset(msg, 0, sizeof(*msg));
	msg->magic = LINK_MAGIC;
	msg->version = LINK_VERSION;
	msg->type = (uint16_t)type;
	msg->value = value;
}

static bool revoke_is_empty(const struct revoke_request *r)
{
	static const struct revoke_request none;

	return !memcmp(r, &none, sizeof(none));
}

static bool revoke_is_valid(const struct revoke_request *r, uint64_t n_pages)
{
	if (!r->ticket || !r->n_pages || r->n_pages > REVOKE_BATCH_PAGES ||
	    r->reserved)
		return false;
	for (unsigned i = 0; i < REVOKE_BATCH_PAGES; i++) {
		if (i < r->n_pages ? r->pages[i] >= n_pages : r->pages[i] != 0)
			return false;
	}
	return true;
}

static bool from_vm_valid(const struct link_msg *m, unsigned n_fds)
{
	if (!revoke_is_empty(&m->revoke))
		return false;
	switch (m->type) {
	case LINK_HELLO:
		return m->value &&
		       (n_fds == LINK_FDS_NEW || n_fds == LINK_FDS_ATTACHED);
	case LINK_ACK:
		return m->value && !n_fds;
	case LINK_WANT:
	case LINK_UP:
		return !m->value && !n_fds;
	}
	return false;
}

static bool from_host_valid(const struct link_msg *m, unsigned n_fds,
			    uint64_t n_pages)
{
	if (m->type == LINK_REVOKE)
		return !m->value && !n_fds &&
		       revoke_is_valid(&m->revoke, n_pages);
	if (!revoke_is_empty(&m->revoke))
		return false;
	switch (m->type) {
	case LINK_ATTACH:
		return !m->value && (!n_fds || n_fds == LINK_ATTACH_FDS);
	case LINK_BALLOON:
		return m->value <= n_pages && !n_fds;
	case LINK_POWER:
	case LINK_STOP:
		return !m->value && !n_fds;
	}
	return false;
}

bool link_msg_valid(const void *buf, size_t len, unsigned n_fds,
		    enum link_side from, uint64_t n_pages, struct link_msg *ret)
{
	struct link_msg m;

	if (len != sizeof(m))
		return false;
	memcpy(&m, buf, sizeof(m));
	if (m.magic != LINK_MAGIC || m.version != LINK_VERSION || m.reserved ||
	    m.n_fds != n_fds)
		return false;
	if (from == LINK_FROM_VM ? !from_vm_valid(&m, n_fds)
				 : !from_host_valid(&m, n_fds, n_pages))
		return false;
	*ret = m;
	return true;
}

union control {
	struct cmsghdr align;
	char buf[CMSG_SPACE(sizeof(int) * LINK_FDS_MAX)];
};

int link_send(int sock, struct link_msg *msg, const int *fds, unsigned n_fds)
{
	struct iovec iov = {.iov_base = msg, .iov_len = sizeof(*msg)};
	struct msghdr hdr = {.msg_iov = &iov, .msg_iovlen = 1};
	union control control;
	ssize_t n;

	msg->n_fds = n_fds;
	if (n_fds > LINK_FDS_MAX)
		return -EINVAL;
	if (n_fds) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.buf;
		hdr.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);

		struct cmsghdr *c = CMSG_FIRSTHDR(&hdr);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
	}
	do {
		n = sendmsg(sock, &hdr, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : 0;
}

static void close_all(int *fds, unsigned n_fds)
{
	for (unsigned i = 0; i < n_fds; i++)
		close(fds[i]);
}

/* Take all descriptors out of a message, whatever it says, so that none leaks. */
static unsigned take_fds(struct msghdr *hdr, int fds[LINK_FDS_MAX])
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c; c = CMSG_NXTHDR(hdr, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;

		const size_t here = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < here; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < LINK_FDS_MAX)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

int link_recv(int sock, enum link_side from, uint64_t n_pages,
	      struct link_msg *ret, int ret_fds[LINK_FDS_MAX])
{
	struct link_msg raw;
	struct iovec iov = {.iov_base = &raw, .iov_len = sizeof(raw)};
	union control control;
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	int fds[LINK_FDS_MAX];
	ssize_t n;

	do {
		n = recvmsg(sock, &hdr, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;

	const unsigned n_fds = take_fds(&hdr, fds);

	if (!n) {
		close_all(fds, n_fds);
		return -EPIPE;
	}
	if (hdr.msg_flags & (MSG_TRUNC | MSG_CTRUNC) ||
	    !link_msg_valid(&raw, (size_t)n, n_fds, from, n_pages, ret)) {
		close_all(fds, n_fds);
		return -EBADMSG;
	}
	if (n_fds)
		memcpy(ret_fds, fds, sizeof(int) * n_fds);
	return 0;
}

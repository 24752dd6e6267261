/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The VM's end of the link with the host: one thread that accepts a host, greets it,
 * receives what it wants, and looks after the end of it.
 */
#include <vm/link.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/thread.h>
#include <mem/link_msg.h>
#include <vm/pager.h>
#include <vm/socket.h>

#define COUNTERS_MS 100

/* Members: I immutable, t the link's thread, a atomic, m under @lock. */
struct link {
	struct guestmem *mem;           /* I */
	const struct link_hooks *hooks; /* I */
	void *ctx;                      /* I */
	struct pager *pager;            /* I */
	struct link_counters *counters; /* I */
	int counters_fd;                /* I */
	int listen_fd;                  /* I */
	int wake_fd;                    /* I ends the thread */
	int group_fd;                   /* t */
	pthread_t thread;               /* I */
	bool started;                   /* I */
	bool broken;                    /* t as the hook was told last */

	pthread_mutex_t lock;        /* around sending and closing */
	int sock;                    /* m the host, or -1 */
	_Atomic bool attached;       /* a */
	_Atomic bool ending;         /* a */
	_Atomic int processor_clock; /* a clockid_t of the processor's thread, or 0 */
};

static void send_msg(struct link *link, enum link_type type, uint64_t value)
{
	struct link_msg msg;

	link_msg_init(&msg, type, value);
	pthread_mutex_lock(&link->lock);
	/* A host that does not read loses the link, not our time. */
	if (link->sock >= 0 && link_send(link->sock, &msg, NULL, 0))
		shutdown(link->sock, SHUT_RDWR);
	pthread_mutex_unlock(&link->lock);
}

static void on_ack(void *ctx, uint64_t ticket)
{
	send_msg(ctx, LINK_ACK, ticket);
}

static enum guestmem_grant on_ask(void *ctx)
{
	struct link *link = ctx;

	if (!atomic_exchange(&link->counters->want, 1))
		send_msg(link, LINK_WANT, 0);
	return GUESTMEM_GRANT_ASKED;
}

void link_set_processor(struct link *link)
{
	clockid_t clock;

	if (!pthread_getcpuclockid(pthread_self(), &clock))
		atomic_store(&link->processor_clock, clock);
}

void link_update_counters(struct link *link)
{
	const struct mem_stats s = guestmem_stats(link->mem);
	const clockid_t clock = atomic_load(&link->processor_clock);
	struct link_counters *c = link->counters;
	struct timespec t;

	if (clock && !clock_gettime(clock, &t))
		atomic_store(&c->run_ns, (uint64_t)t.tv_sec * 1000000000 +
						 (uint64_t)t.tv_nsec);

	atomic_store(&c->unshares, s.unshares);
	atomic_store(&c->dropped, s.dropped);
}

static int hello(struct link *link, int sock)
{
	struct machine *m = guestmem_machine(link->mem);
	struct physmap *map = guestmem_physmap(link->mem);
	int fds[LINK_FDS_ATTACHED] = {
		[LINK_FD_HOME] = m->home_fd,
		[LINK_FD_PHYSMAP] = physmap_fd(map),
		[LINK_FD_TABLES] = m->table_fd,
		[LINK_FD_COUNTERS] = link->counters_fd,
		[LINK_FD_GROUP] = link->group_fd,
	};
	const bool again = pager_fds(link->pager, &fds[LINK_FD_ZIP],
				     &fds[LINK_FD_SWAP]);
	struct link_msg msg;

	link_msg_init(&msg, LINK_HELLO, physmap_pages(map));
	return link_send(sock, &msg, fds,
			 again ? LINK_FDS_ATTACHED : LINK_FDS_NEW);
}

static int take_files(struct link *link, const int *fds)
{
	struct err err;
	struct stat st;
	int r = pager_attach(link->pager, fds[LINK_ATTACH_ZIP],
			     fds[LINK_ATTACH_SWAP], &err);

	link->group_fd = fds[LINK_ATTACH_GROUP];
	if (!r && fstat(link->group_fd, &st) < 0)
		r = -errno;
	if (!r)
		r = machine_map_group(guestmem_machine(link->mem),
				      link->group_fd, (uint64_t)st.st_size,
				      &err);
	return r;
}

static int on_attach(struct link *link, const struct link_msg *msg,
		     const int *fds)
{
	const bool have_files = link->group_fd >= 0;
	int r = 0;

	if (have_files == !!msg->n_fds) {
		for (unsigned i = 0; i < msg->n_fds; i++)
			close(fds[i]);
		return -EBADMSG;
	}
	if (msg->n_fds)
		r = take_files(link, fds);
	if (r)
		return r;
	guestmem_connect_host(link->mem, on_ack, link);
	atomic_store(&link->attached, true);
	/* Whoever waits has asked a host that is gone. */
	if (atomic_load(&link->counters->want))
		send_msg(link, LINK_WANT, 0);
	return 0;
}

static int on_message(struct link *link, const struct link_msg *msg,
		      const int *fds)
{
	if (msg->type == LINK_ATTACH)
		return on_attach(link, msg, fds);
	if (!atomic_load(&link->attached))
		return -EBADMSG;
	switch (msg->type) {
	case LINK_REVOKE:
		return guestmem_revoke(link->mem, &msg->revoke);
	case LINK_BALLOON:
		if (link->hooks->balloon)
			link->hooks->balloon(link->ctx, msg->value);
		return 0;
	case LINK_POWER:
		if (link->hooks->power)
			link->hooks->power(link->ctx);
		return 0;
	case LINK_STOP:
		if (link->hooks->stop)
			link->hooks->stop(link->ctx);
		return 0;
	}
	return -EBADMSG;
}

/* Everything that has arrived. Return: 0, or why the link ends. */
static int receive(struct link *link, int sock)
{
	const uint64_t n_pages = physmap_pages(guestmem_physmap(link->mem));
	int fds[LINK_FDS_MAX];
	struct link_msg msg;

	for (;;) {
		int r = link_recv(sock, LINK_FROM_HOST, n_pages, &msg, fds);

		if (!r)
			r = on_message(link, &msg, fds);
		if (r)
			return r == -EAGAIN ? 0 : r;
	}
}

static void disconnect(struct link *link)
{
	const bool was_attached = atomic_exchange(&link->attached, false);

	guestmem_connect_host(link->mem, NULL, NULL);
	pthread_mutex_lock(&link->lock);
	close(link->sock);
	link->sock = -1;
	pthread_mutex_unlock(&link->lock);
	if (!was_attached)
		return;
	guestmem_link_broken(link->mem);
	while (!guestmem_link_settled(link->mem) && !atomic_load(&link->ending))
		nap_ms(1);
}

/* Only a host of the same user, or root, may take our pages. */
static bool peer_allowed(int sock)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void accept_host(struct link *link)
{
	const int sock = accept4(link->listen_fd, NULL, NULL,
				 SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (sock < 0)
		return;
	if (!peer_allowed(sock) || hello(link, sock)) {
		close(sock);
		return;
	}
	pthread_mutex_lock(&link->lock);
	link->sock = sock;
	pthread_mutex_unlock(&link->lock);
}

/* Not a message, since it is a state, and not urgent. */
static void look_at_large(struct link *link)
{
	const bool broken = atomic_load(&link->counters->break_large);

	if (broken == link->broken || !link->hooks->large)
		return;
	link->broken = broken;
	link->hooks->large(link->ctx, !broken);
}

static void look_at_root(struct link *link)
{
	if (atomic_load(&link->counters->want_root) &&
	    (!link->hooks->root || !link->hooks->root(link->ctx)))
		atomic_store(&link->counters->want_root, 0);
}

static void *link_loop(void *arg)
{
	struct link *link = arg;

	while (!atomic_load(&link->ending)) {
		const int sock = link->sock;
		struct pollfd fds[] = {
			{.fd = link->wake_fd, .events = POLLIN},
			/* The next host waits until this one is gone. */
			{.fd = sock >= 0 ? -1 : link->listen_fd,
			 .events = POLLIN},
			{.fd = sock, .events = POLLIN},
		};

		poll(fds, ARRAY_SIZE(fds), COUNTERS_MS);
		link_update_counters(link);
		look_at_large(link);
		look_at_root(link);
		if (fds[1].revents)
			accept_host(link);
		if (sock >= 0 && fds[2].revents && receive(link, sock))
			disconnect(link);
	}
	return NULL;
}

static int link_build(struct link *link, const char *dir, struct err *err)
{
	int r = link_counters_new(&link->counters_fd, &link->counters, err);

	if (!r)
		r = pager_new(link->mem, link->counters, &link->pager, err);
	if (!r)
		r = socket_listen(dir, LINK_SOCKET_NAME, SOCK_SEQPACKET,
				  &link->listen_fd, err);
	if (r)
		return r;
	link->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (link->wake_fd < 0)
		return err_set(err, -errno, "eventfd: %s", strerror(errno));
	guestmem_set_allowance_source(link->mem, on_ask, link);
	physmap_withdraw(guestmem_physmap(link->mem), UINT64_MAX);
	r = thread_start_unprivileged(&link->thread, link_loop, link);
	if (r)
		return err_set(err, -r, "no thread for the link: %s",
			       strerror(r));
	link->started = true;
	return 0;
}

int link_new(struct guestmem *mem, const char *dir,
	     const struct link_hooks *hooks, void *ctx, struct link **ret,
	     struct err *err)
{
	struct link *link = calloc(1, sizeof(*link));

	if (!link)
		return err_set(err, -ENOMEM, "out of memory");
	link->mem = mem;
	link->hooks = hooks;
	link->ctx = ctx;
	link->counters_fd = -1;
	link->listen_fd = -1;
	link->wake_fd = -1;
	link->group_fd = -1;
	link->sock = -1;
	pthread_mutex_init(&link->lock, NULL);

	int r = link_build(link, dir, err);

	if (r) {
		link_free(link);
		return r;
	}
	*ret = link;
	return 0;
}

int link_wait(struct link *link, uint64_t timeout_ms, struct err *err)
{
	for (uint64_t ms = 0; ms < timeout_ms; ms++) {
		if (atomic_load(&link->attached) &&
		    atomic_load(&link->counters->decided))
			return 0;
		guestmem_service(link->mem);
		nap_ms(1);
	}
	if (atomic_load(&link->attached))
		return 0;
	return err_set(err, -ETIMEDOUT,
		       "no host has linked itself with this VM");
}

void link_tell_page_root(struct link *link, uint64_t cr3)
{
	atomic_store_explicit(&link->counters->page_root,
			      cr3 ? cr3 | LINK_ROOT_KNOWN : 0,
			      memory_order_relaxed);
	if (atomic_load_explicit(&link->counters->want_root,
				 memory_order_relaxed))
		atomic_store(&link->counters->want_root, 0);
}

void link_tell_up(struct link *link)
{
	send_msg(link, LINK_UP, 0);
}

struct link_counters *link_counters(struct link *link)
{
	return link->counters;
}

static void close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

struct link *link_free(struct link *link)
{
	const uint64_t one = 1;

	if (!link)
		return NULL;
	atomic_store(&link->ending, true);
	if (link->started) {
		const ssize_t n = write(link->wake_fd, &one, sizeof(one));

		(void)n; /* the thread looks again by itself */
		pthread_join(link->thread, NULL);
	}
	guestmem_connect_host(link->mem, NULL, NULL);
	close_fd(link->sock);
	close_fd(link->listen_fd);
	close_fd(link->wake_fd);
	close_fd(link->group_fd);
	close_fd(link->counters_fd);
	if (link->pager)
		pager_free(link->pager);
	link_counters_unmap(link->counters);
	pthread_mutex_destroy(&link->lock);
	free(link);
	return NULL;
}

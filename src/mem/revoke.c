/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocation: the one protocol by which the host takes pages of a running VM.
 *
 * The VM's end (struct revoke_port) is a ring of requests. Whoever receives them, a
 * thread that reads a link or the host's own thread in one process, posts; the processor
 * thread takes them at its safe points. It is bounded, since a host that sends without
 * waiting for answers has no claim on the VM's memory.
 *
 * The host's end (struct revoke_host) remembers the tickets under way. Entries become
 * BUSY before the request is sent, so a translation that the processor makes later
 * meets BUSY, and one that it made before is in the caches that the request empties.
 *
 * Giving a page back is right at any moment, acknowledged or not: nothing was done to
 * it. Doing anything else to it is right only after revoke_wait() returned 0.
 *
 * A host must not act on pages of a link that it has lost: the VM turns them back into
 * what they were and goes on. It relies on seeing the end of the link only when the host
 * has died, or has ended its moves and closed the link by itself.
 */
#include <mem/revoke.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <base/clock.h>
#include <base/verify.h>
#include <mem/memfile.h>

int revoke_port_init(struct revoke_port *port, uint64_t n_pages)
{
	memset(port, 0, sizeof(*port));
	port->n_pages = n_pages;
	return -pthread_mutex_init(&port->lock, NULL);
}

void revoke_port_release(struct revoke_port *port)
{
	pthread_mutex_destroy(&port->lock);
}

void revoke_port_connect(struct revoke_port *port,
			 void (*ack)(void *ctx, uint64_t ticket), void *ctx)
{
	pthread_mutex_lock(&port->lock);
	port->ack = ack;
	port->ack_ctx = ctx;
	pthread_mutex_unlock(&port->lock);
}

static bool request_valid(const struct revoke_port *port,
			  const struct revoke_request *request)
{
	if (!request->ticket || !request->n_pages ||
	    request->n_pages > REVOKE_BATCH_PAGES || request->reserved)
		return false;
	for (unsigned i = 0; i < request->n_pages; i++) {
		if (request->pages[i] >= port->n_pages)
			return false;
	}
	return true;
}

int revoke_port_post(struct revoke_port *port,
		     const struct revoke_request *request)
{
	int r = 0;

	if (!request_valid(port, request))
		return -EINVAL;
	pthread_mutex_lock(&port->lock);
	if (port->n == REVOKE_MAX_REQUESTS)
		r = -ENOBUFS;
	else
		port->queue[(port->first + port->n++) %
			    REVOKE_MAX_REQUESTS] = *request;
	pthread_mutex_unlock(&port->lock);
	return r;
}

bool revoke_port_next(struct revoke_port *port, struct revoke_request *ret)
{
	bool found;

	pthread_mutex_lock(&port->lock);
	found = port->n;
	if (found) {
		*ret = port->queue[port->first];
		port->first = (port->first + 1) % REVOKE_MAX_REQUESTS;
		port->n--;
	}
	pthread_mutex_unlock(&port->lock);
	return found;
}

void revoke_port_ack(struct revoke_port *port, uint64_t ticket)
{
	/* Under the lock, so that a host that disconnects is not called afterwards. */
	pthread_mutex_lock(&port->lock);
	if (port->ack)
		port->ack(port->ack_ctx, ticket);
	pthread_mutex_unlock(&port->lock);
}

/* A request under way; ticket 0 is a free place. */
struct ticket {
	uint64_t ticket;
	bool acked;
};

/* Members: I immutable, m under @lock. */
struct revoke_host {
	struct physmap *map;                                          /* I */
	int home_fd;                                                  /* I */
	int (*send)(void *ctx, const struct revoke_request *request); /* I */
	void *send_ctx;                                               /* I */

	pthread_mutex_t lock;
	pthread_cond_t changed; /* a ticket was acknowledged, or the link broke */
	struct ticket tickets[REVOKE_MAX_REQUESTS]; /* m */
	uint64_t last_ticket;                       /* m */
	bool broken;                                /* m */
};

static int init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	int r = pthread_condattr_init(&attr);

	if (r)
		return -r;
	r = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (!r)
		r = pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
	return -r;
}

int revoke_host_new(struct physmap *map, int home_fd,
		    int (*send)(void *ctx, const struct revoke_request *request),
		    void *ctx, struct revoke_host **ret_host)
{
	struct revoke_host *host = calloc(1, sizeof(*host));

	if (!host)
		return -ENOMEM;
	host->map = map;
	host->home_fd = home_fd;
	host->send = send;
	host->send_ctx = ctx;

	int r = -pthread_mutex_init(&host->lock, NULL);

	if (!r) {
		r = init_cond(&host->changed);
		if (r)
			pthread_mutex_destroy(&host->lock);
	}
	if (r) {
		free(host);
		return r;
	}
	*ret_host = host;
	return 0;
}

struct revoke_host *revoke_host_free(struct revoke_host *host)
{
	if (!host)
		return NULL;
	pthread_cond_destroy(&host->changed);
	pthread_mutex_destroy(&host->lock);
	free(host);
	return NULL;
}

static struct ticket *find_ticket_locked(struct revoke_host *host,
					 uint64_t ticket)
{
	for (unsigned i = 0; i < REVOKE_MAX_REQUESTS; i++) {
		if (host->tickets[i].ticket == ticket)
			return &host->tickets[i];
	}
	return NULL;
}

void revoke_host_ack(struct revoke_host *host, uint64_t ticket)
{
	pthread_mutex_lock(&host->lock);

	struct ticket *t = ticket ? find_ticket_locked(host, ticket) : NULL;

	if (t) {
		t->acked = true;
		pthread_cond_broadcast(&host->changed);
	}
	pthread_mutex_unlock(&host->lock);
}

void revoke_host_break(struct revoke_host *host)
{
	pthread_mutex_lock(&host->lock);
	host->broken = true;
	pthread_cond_broadcast(&host->changed);
	pthread_mutex_unlock(&host->lock);
}

static int new_ticket(struct revoke_host *host, uint64_t *ret_ticket)
{
	int r = 0;

	pthread_mutex_lock(&host->lock);

	struct ticket *t = find_ticket_locked(host, 0);

	if (host->broken) {
		r = -EPIPE;
	} else if (!t) {
		r = -EBUSY;
	} else {
		*t = (struct ticket){.ticket = ++host->last_ticket};
		*ret_ticket = t->ticket;
	}
	pthread_mutex_unlock(&host->lock);
	return r;
}

static bool drop_ticket(struct revoke_host *host, uint64_t ticket)
{
	pthread_mutex_lock(&host->lock);

	struct ticket *t = find_ticket_locked(host, ticket);
	const bool broken = host->broken;

	if (t)
		*t = (struct ticket){0};
	pthread_mutex_unlock(&host->lock);
	return !broken;
}

static void mark_busy(struct revoke_host *host, ppn_t page, unsigned states,
		      struct revoke_batch *batch)
{
	const uint64_t entry = physmap_load(host->map, page);

	/* The VM writes there too: what is not an entry is left alone. */
	if (!physmap_valid(entry) || !(states & 1U << physmap_state(entry)))
		return;
	if (physmap_change(host->map, PHYSMAP_BY_HOST, page, entry,
			   physmap_busy(entry, PHYSMAP_BY_HOST)) !=
	    PHYSMAP_CHANGED)
		return;
	batch->pages[batch->n_pages] = page;
	batch->entries[batch->n_pages++] = entry;
}

static int send_batch(struct revoke_host *host, const struct revoke_batch *batch)
{
	struct revoke_request request = {
		.ticket = batch->ticket,
		.n_pages = batch->n_pages,
	};

	for (unsigned i = 0; i < batch->n_pages; i++)
		request.pages[i] = batch->pages[i].v;
	return host->send(host->send_ctx, &request);
}

int revoke_take(struct revoke_host *host, const ppn_t *pages, unsigned n_pages,
		unsigned states, struct revoke_batch *ret_batch)
{
	struct revoke_batch batch = {0};
	int r;

	VERIFY(n_pages <= REVOKE_BATCH_PAGES);
	r = new_ticket(host, &batch.ticket);
	if (r)
		return r;
	for (unsigned i = 0; i < n_pages; i++)
		mark_busy(host, pages[i], states & ~(1U << PHYSMAP_BUSY),
			  &batch);
	if (!batch.n_pages) {
		drop_ticket(host, batch.ticket);
		return 0;
	}
	r = send_batch(host, &batch);
	if (r < 0) {
		revoke_end(host, &batch);
		return r;
	}
	*ret_batch = batch;
	return (int)batch.n_pages;
}

int revoke_wait(struct revoke_host *host, const struct revoke_batch *batch,
		uint64_t timeout_ns)
{
	const struct timespec deadline = monotonic_after_ns(timeout_ns);
	int r = 0;

	pthread_mutex_lock(&host->lock);

	const struct ticket *t = find_ticket_locked(host, batch->ticket);

	VERIFY(t);
	while (!t->acked && !host->broken && r != ETIMEDOUT)
		r = pthread_cond_timedwait(&host->changed, &host->lock,
					   &deadline);
	if (host->broken)
		r = -EPIPE;
	else
		r = t->acked ? 0 : -ETIMEDOUT;
	pthread_mutex_unlock(&host->lock);
	return r;
}

static int change(struct revoke_host *host, ppn_t page, uint64_t from,
		  uint64_t to)
{
	switch (physmap_change(host->map, PHYSMAP_BY_HOST, page, from, to)) {
	case PHYSMAP_CHANGED:
		return 0;
	case PHYSMAP_RACED:
		return -ESTALE;
	case PHYSMAP_NO_ALLOWANCE:
	case PHYSMAP_ILLEGAL:
		break;
	}
	return -EINVAL;
}

/* While it is BUSY it says already what it becomes: then its home frame may go. */
static uint64_t last_entry(uint64_t final)
{
	return physmap_busy(physmap_stable(final), PHYSMAP_BY_HOST);
}

/* The page is ours and stands still: say where its contents are now. */
static int begin_finish(struct revoke_host *host, ppn_t page, uint64_t final,
			bool *ret_leaves_home)
{
	const uint64_t now = physmap_load(host->map, page);
	const uint64_t last = last_entry(final);

	*ret_leaves_home = false;
	if (!physmap_is_busy(now) || physmap_busy_mover(now) != PHYSMAP_BY_HOST)
		return -ESTALE;
	if (!physmap_valid(now) || physmap_is_busy(final) ||
	    !physmap_legal(PHYSMAP_BY_HOST, last, final))
		return -EINVAL;
	if (now == last)
		return 0;

	int r = change(host, page, now, last);

	*ret_leaves_home = !r && physmap_stable_state(now) == PHYSMAP_HOME;
	return r;
}

int revoke_finish(struct revoke_host *host, struct revoke_batch *batch,
		  unsigned idx, uint64_t final)
{
	const ppn_t page = batch->pages[idx];
	bool leaves_home;

	VERIFY(idx < batch->n_pages && !(batch->finished >> idx & 1));

	int r = begin_finish(host, page, final, &leaves_home);

	if (leaves_home)
		memfile_drop(host->home_fd, page.v * PAGE_SIZE, PAGE_SIZE);
	if (!r)
		r = change(host, page, last_entry(final), final);
	if (!r)
		batch->finished |= UINT64_C(1) << idx;
	return r;
}

/* Home frames of the pages in @mask, those that follow each other at once. */
static void drop_frames(struct revoke_host *host,
			const struct revoke_batch *batch, uint64_t mask)
{
	for (unsigned i = 0, n; i < batch->n_pages; i += n) {
		n = 1;
		if (!(mask >> i & 1))
			continue;
		while (i + n < batch->n_pages && mask >> (i + n) & 1 &&
		       batch->pages[i + n].v == batch->pages[i].v + n)
			n++;
		memfile_drop(host->home_fd, batch->pages[i].v * PAGE_SIZE,
			     n * PAGE_SIZE);
	}
}

uint64_t revoke_finish_all(struct revoke_host *host, struct revoke_batch *batch,
			   const uint64_t *finals)
{
	uint64_t begun = 0;
	uint64_t leave = 0;
	uint64_t done = 0;
	bool leaves_home;

	for (unsigned i = 0; i < batch->n_pages; i++) {
		if (finals[i] == REVOKE_KEEP || batch->finished >> i & 1 ||
		    begin_finish(host, batch->pages[i], finals[i], &leaves_home))
			continue;
		begun |= UINT64_C(1) << i;
		leave |= (uint64_t)leaves_home << i;
	}
	drop_frames(host, batch, leave);
	for (unsigned i = 0; i < batch->n_pages; i++) {
		if (begun >> i & 1 && !change(host, batch->pages[i],
					      last_entry(finals[i]), finals[i]))
			done |= UINT64_C(1) << i;
	}
	batch->finished |= done;
	return done;
}

void revoke_end(struct revoke_host *host, const struct revoke_batch *batch)
{
	/* After the link broke the pages are the VM's business. */
	if (!drop_ticket(host, batch->ticket))
		return;
	for (unsigned i = 0; i < batch->n_pages; i++) {
		const uint64_t busy = physmap_busy(batch->entries[i],
						   PHYSMAP_BY_HOST);

		if (batch->finished >> i & 1)
			continue;
		/* If the VM has recovered it meanwhile, then it is not ours. */
		(void)change(host, batch->pages[i], busy,
			     physmap_stable(batch->entries[i]));
	}
}

int revoke_watch(struct revoke_host *host, const ppn_t *pages, unsigned n_pages,
		 uint64_t timeout_ns)
{
	const unsigned states = 1U << PHYSMAP_ZERO | 1U << PHYSMAP_HOME |
				1U << PHYSMAP_SHARED;
	struct revoke_batch batch;
	int r = revoke_take(host, pages, n_pages, states, &batch);
	int n_watched = 0;

	if (r <= 0)
		return r;
	r = revoke_wait(host, &batch, timeout_ns);
	for (unsigned i = 0; !r && i < batch.n_pages; i++) {
		const uint64_t stable = physmap_stable(batch.entries[i]);

		if (!revoke_finish(host, &batch, i, physmap_watched(stable)))
			n_watched++;
	}
	revoke_end(host, &batch);
	return r ? r : n_watched;
}

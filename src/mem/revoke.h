/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Revocation: the one protocol by which the host takes pages of a running VM.
 *
 *   host                                        VM
 *   revoke_take(): entries become BUSY
 *     -- struct revoke_request -->              queued in a struct revoke_port
 *                                               at a safe point of the processor: drop
 *                                               every cached translation
 *     <-- ticket --                             acknowledged
 *   revoke_wait() returns: the contents
 *   cannot change now
 *   revoke_finish(): final state, home frame
 *   released, entry no longer BUSY
 *
 * Request and acknowledgement are plain data, so that the two ends may be in one process
 * or in two.
 */
#ifndef MEM_REVOKE_H
#define MEM_REVOKE_H
#include <pthread.h>

#include <base/error.h>
#include <base/types.h>
#include <mem/physmap.h>

/* Pages in one request, and requests of one VM that may be under way. */
#define REVOKE_BATCH_PAGES  64
#define REVOKE_MAX_REQUESTS 16

/**
 * struct revoke_request - what the host sends: drop these pages.
 * @ticket: comes back in the acknowledgement; never 0
 * @n_pages: how many of @pages are used, 1 to REVOKE_BATCH_PAGES
 * @reserved: 0
 * @pages: PPNs, BUSY since before the request was sent
 */
struct revoke_request {
	uint64_t ticket;
	uint32_t n_pages;
	uint32_t reserved;
	uint64_t pages[REVOKE_BATCH_PAGES];
};

/**
 * struct revoke_port - the VM's end: requests that wait for a safe point.
 *
 * Embedded in guest memory. Members: m under @lock, I immutable.
 */
struct revoke_port {
	pthread_mutex_t lock;
	uint64_t n_pages;                                 /* I of guest RAM */
	struct revoke_request queue[REVOKE_MAX_REQUESTS]; /* m ring */
	unsigned first;                          /* m oldest in @queue */
	unsigned n;                              /* m how many in @queue */
	void (*ack)(void *ctx, uint64_t ticket); /* m to the host */
	void *ack_ctx;                           /* m */
};

/** revoke_port_init() - an empty port of a VM with that many pages. Return: 0 or -errno. */
int revoke_port_init(struct revoke_port *port, uint64_t n_pages)
	__attribute__((warn_unused_result));

/** revoke_port_release() - end it. */
void revoke_port_release(struct revoke_port *port);

/** revoke_port_connect() - where acknowledgements go; NULL @ack: nowhere. */
void revoke_port_connect(struct revoke_port *port,
			 void (*ack)(void *ctx, uint64_t ticket), void *ctx);

/**
 * revoke_port_post() - queue a request.
 * @port: the VM's end
 * @request: copied; checked, since it may come from another process
 *
 * Return: 0, -EINVAL (malformed), -ENOBUFS (more than REVOKE_MAX_REQUESTS).
 * Context: any thread.
 */
int revoke_port_post(struct revoke_port *port,
		     const struct revoke_request *request)
	__attribute__((warn_unused_result));

/** revoke_port_next() - take the oldest request. Return: false if there is none. */
bool revoke_port_next(struct revoke_port *port, struct revoke_request *ret);

/** revoke_port_ack() - tell the host that the pages of a ticket are not used any more. */
void revoke_port_ack(struct revoke_port *port, uint64_t ticket);

struct revoke_host;

/**
 * revoke_host_new() - the host's end, for one VM.
 * @map: the VM's physmap; outlives the host's end
 * @home_fd: the VM's home file; stays the caller's
 * @send: hands a request to the VM, 0 or -errno; any thread that calls revoke_take()
 * @ctx: passed to @send
 * @ret_host: set on success; ended with revoke_host_free()
 *
 * Return: 0 or -ENOMEM.
 */
int revoke_host_new(struct physmap *map, int home_fd,
		    int (*send)(void *ctx, const struct revoke_request *request),
		    void *ctx, struct revoke_host **ret_host)
	__attribute__((warn_unused_result));

/** revoke_host_free() - end it, with nothing under way. NULL is fine. Return: NULL. */
struct revoke_host *revoke_host_free(struct revoke_host *host);

/** revoke_host_ack() - an acknowledgement arrived; unknown tickets are ignored. Any thread. */
void revoke_host_ack(struct revoke_host *host, uint64_t ticket);

/**
 * revoke_host_break() - the link is gone: what waits and what is begun later fails.
 * @host: the host's end
 *
 * The VM recovers its pages by itself (guestmem_link_broken()), but only once the host
 * cannot act on them any more.
 */
void revoke_host_break(struct revoke_host *host);

static_assert(REVOKE_BATCH_PAGES <= 64, "a bit for each page of a batch");

/**
 * struct revoke_batch - pages that one request takes.
 * @ticket: of the request
 * @n_pages: how many were taken
 * @pages: which
 * @entries: what each physmap entry was before
 * @finished: bit i: page i has been through revoke_finish()
 */
struct revoke_batch {
	uint64_t ticket;
	uint64_t finished;
	unsigned n_pages;
	ppn_t pages[REVOKE_BATCH_PAGES];
	uint64_t entries[REVOKE_BATCH_PAGES];
};

/**
 * revoke_take() - mark pages BUSY and ask the VM to let go of them.
 * @host: the host's end
 * @pages: candidates; a page that is in no wanted state, or taken already, is passed over
 * @n_pages: up to REVOKE_BATCH_PAGES
 * @states: wanted states, an or of 1 << enum physmap_state
 * @ret_batch: set if anything was taken
 *
 * Return: how many were taken (0: nothing was sent); -EBUSY (REVOKE_MAX_REQUESTS under
 * way), -EPIPE (link broken), or what @send reported, with all pages returned.
 */
int revoke_take(struct revoke_host *host, const ppn_t *pages, unsigned n_pages,
		unsigned states, struct revoke_batch *ret_batch)
	__attribute__((warn_unused_result));

/**
 * revoke_wait() - until the VM has let go of a batch.
 * @host: the host's end
 * @batch: from revoke_take()
 * @timeout_ns: how long at most
 *
 * Return: 0: the contents stand still; -ETIMEDOUT: wait again or give back; -EPIPE.
 */
int revoke_wait(struct revoke_host *host, const struct revoke_batch *batch,
		uint64_t timeout_ns) __attribute__((warn_unused_result));

/**
 * revoke_finish() - end the move of one page of a batch that was waited for.
 * @host: the host's end
 * @batch: from revoke_take()
 * @idx: which page of the batch
 * @final: the stable entry that it becomes. If it leaves HOME its contents are safe there
 *         already (for ZERO: they are all zero), and the home frame is released.
 *
 * Return: 0, -EINVAL (the change is not legal), -ESTALE (the entry is not ours any more).
 */
int revoke_finish(struct revoke_host *host, struct revoke_batch *batch,
		  unsigned idx, uint64_t final)
	__attribute__((warn_unused_result));

/* In place of a final entry: not this page. */
#define REVOKE_KEEP UINT64_MAX

/**
 * revoke_finish_all() - revoke_finish() for many pages of a batch, and faster.
 * @host: the host's end
 * @batch: from revoke_take()
 * @finals: for each page of the batch its stable entry, or REVOKE_KEEP; pages that are
 *          finished already are passed over
 *
 * Frames that follow each other are released at once, which is what costs.
 *
 * Return: bit i: page i was finished.
 */
uint64_t revoke_finish_all(struct revoke_host *host, struct revoke_batch *batch,
			   const uint64_t *finals)
	__attribute__((warn_unused_result));

/**
 * revoke_end() - forget a batch; pages of it that are still BUSY become what they were.
 * @host: the host's end
 * @batch: from revoke_take(), once for each; allowed at any time after it
 */
void revoke_end(struct revoke_host *host, const struct revoke_batch *batch);

/**
 * revoke_watch() - revoke pages and return them at once, to see which are touched again.
 * @host: the host's end
 * @pages: which; only ZERO, HOME and SHARED pages are watched
 * @n_pages: up to REVOKE_BATCH_PAGES
 * @timeout_ns: for the VM to let go
 *
 * A touch ends the watch (physmap_is_watched()) and is counted (physmap_touched()).
 *
 * Return: how many are watched, or as revoke_take() and revoke_wait().
 */
int revoke_watch(struct revoke_host *host, const ppn_t *pages, unsigned n_pages,
		 uint64_t timeout_ns) __attribute__((warn_unused_result));

#endif

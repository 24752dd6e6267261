/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that takes random pages of a running VM, spoils them, and gives them back.
 *
 * It is the host's end of revocation in the VM's own process, and a test of everything
 * that caches where a page is. Between acknowledgement and return it does the worst that
 * a host may do: the contents are copied away, the frame is filled with a pattern, and
 * its memory is released. Any cached translation that survived then reads the pattern or
 * zeros, or writes what is lost, and the guest notices.
 *
 * A page that turns out to be all zero does not come back to HOME but becomes ZERO, as it
 * would with a real host.
 *
 * Everything random comes from one seed, so that the sequence of picks can be repeated
 * (what the guest does in between cannot).
 */
#include <mem/revoke_stress.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <base/clock.h>
#include <base/rng.h>
#include <base/verify.h>

/* A processor that does not answer for so long is not running; look whether to stop. */
#define ACK_TIMEOUT_NS UINT64_C(50000000)
#define POISON         0xa5
/* Pages at home may be few among all; how often to pick for each page wanted. */
#define PICKS_PER_PAGE 16
#define MAX_BATCH      8

/* Members: I immutable, T its thread, a atomic, m under @lock. */
struct revoke_stress {
	struct guestmem *mem;      /* I */
	struct machine *machine;   /* I */
	struct physmap *map;       /* I */
	struct revoke_host *host;  /* I */
	uint64_t pages_per_second; /* I */
	pthread_t thread;          /* I */

	struct rng random;        /* T */
	uint8_t saved[PAGE_SIZE]; /* T */

	_Atomic uint64_t batches;  /* a */
	_Atomic uint64_t taken;    /* a */
	_Atomic uint64_t zeroed;   /* a */
	_Atomic uint64_t skipped;  /* a */
	_Atomic uint64_t timeouts; /* a */

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping; /* m */
};

/* False if it is time to stop. */
static bool sleep_until(struct revoke_stress *s, const struct timespec *when)
{
	bool go_on;

	pthread_mutex_lock(&s->lock);
	while (!s->stopping &&
	       pthread_cond_timedwait(&s->wake, &s->lock, when) != ETIMEDOUT)
		;
	go_on = !s->stopping;
	pthread_mutex_unlock(&s->lock);
	return go_on;
}

static unsigned pick_pages(struct revoke_stress *s, unsigned wanted,
			   ppn_t *ret_pages)
{
	const uint64_t n_pages = physmap_pages(s->map);
	unsigned n = 0;

	for (unsigned i = 0; i < wanted * PICKS_PER_PAGE && n < wanted; i++) {
		const ppn_t page = ppn(rng_below(&s->random, n_pages));

		if (physmap_stable_state(physmap_load(s->map, page)) ==
		    PHYSMAP_HOME)
			ret_pages[n++] = page;
		else
			atomic_fetch_add(&s->skipped, 1);
	}
	return n;
}

static bool is_zero(const uint8_t *page)
{
	return !page[0] && !memcmp(page, page + 1, PAGE_SIZE - 1);
}

/* The host had this page a moment ago, so it has one again soon. */
static void populate_surely(struct revoke_stress *s, ppn_t page)
{
	while (machine_home_populate(s->machine, page))
		nap_ms(1);
}

/* Returns what the page is to become. */
static uint64_t spoil(struct revoke_stress *s, ppn_t page)
{
	uint8_t *frame = machine_ptr(s->machine,
				     ma(MACHINE_HOME + page.v * PAGE_SIZE));

	memcpy(s->saved, frame, PAGE_SIZE);
	memset(frame, POISON, PAGE_SIZE);
	machine_home_drop(s->machine, page);
	if (is_zero(s->saved)) {
		atomic_fetch_add(&s->zeroed, 1);
		return physmap_zero();
	}
	populate_surely(s, page);
	memcpy(frame, s->saved, PAGE_SIZE);
	return physmap_home();
}

static void spoil_batch(struct revoke_stress *s, struct revoke_batch *batch)
{
	if (revoke_wait(s->host, batch, ACK_TIMEOUT_NS)) {
		atomic_fetch_add(&s->timeouts, 1);
		return;
	}
	for (unsigned i = 0; i < batch->n_pages; i++) {
		int r = revoke_finish(s->host, batch, i,
				      spoil(s, batch->pages[i]));

		VERIFY(!r);
	}
	atomic_fetch_add(&s->taken, batch->n_pages);
	atomic_fetch_add(&s->batches, 1);
}

static void one_round(struct revoke_stress *s, unsigned wanted)
{
	struct revoke_batch batch;
	ppn_t pages[MAX_BATCH];
	const unsigned n = pick_pages(s, wanted, pages);

	if (!n ||
	    revoke_take(s->host, pages, n, 1U << PHYSMAP_HOME, &batch) <= 0)
		return;
	spoil_batch(s, &batch);
	revoke_end(s->host, &batch);
}

static void add_ns(struct timespec *t, uint64_t ns)
{
	const uint64_t sum = (uint64_t)t->tv_nsec + ns;

	t->tv_sec += (time_t)(sum / 1000000000);
	t->tv_nsec = (long)(sum % 1000000000);
}

/* After a stall start afresh: a burst of what was missed would stress nothing new. */
static void not_before_now(struct timespec *t)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (t->tv_sec < now.tv_sec)
		*t = now;
}

static void *stress_main(void *arg)
{
	struct revoke_stress *s = arg;
	struct timespec next;

	clock_gettime(CLOCK_MONOTONIC, &next);
	while (sleep_until(s, &next)) {
		const unsigned wanted = 1 + (unsigned)rng_below(&s->random,
								MAX_BATCH);

		one_round(s, wanted);
		add_ns(&next,
		       wanted * UINT64_C(1000000000) / s->pages_per_second);
		not_before_now(&next);
	}
	return NULL;
}

static int send_request(void *ctx, const struct revoke_request *request)
{
	struct guestmem *mem = ctx;

	return guestmem_revoke(mem, request);
}

static void receive_ack(void *ctx, uint64_t ticket)
{
	struct revoke_host *host = ctx;

	revoke_host_ack(host, ticket);
}

static int init_wake(struct revoke_stress *s)
{
	pthread_condattr_t attr;
	int r = -pthread_mutex_init(&s->lock, NULL);

	if (r)
		return r;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	r = -pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (r)
		pthread_mutex_destroy(&s->lock);
	return r;
}

static int stress_build(struct revoke_stress *s, struct err *err)
{
	int r = revoke_host_new(s->map, s->machine->home_fd, send_request,
				s->mem, &s->host);

	if (!r) {
		r = init_wake(s);
		if (r)
			s->host = revoke_host_free(s->host);
	}
	if (r)
		return err_set(err, r,
			       "cannot prepare the revocation stress: %s",
			       strerror(-r));
	return 0;
}

static void stress_release(struct revoke_stress *s)
{
	pthread_cond_destroy(&s->wake);
	pthread_mutex_destroy(&s->lock);
	revoke_host_free(s->host);
	free(s);
}

int revoke_stress_start(struct guestmem *mem, uint64_t pages_per_second,
			uint64_t seed, struct revoke_stress **ret_stress,
			struct err *err)
{
	if (!pages_per_second)
		return err_set(
			err, -EINVAL,
			"a revocation stress of 0 pages a second does nothing");

	struct revoke_stress *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(err, -ENOMEM, "out of memory");
	s->mem = mem;
	s->machine = guestmem_machine(mem);
	s->map = guestmem_physmap(mem);
	s->pages_per_second = pages_per_second;
	s->random.state = seed;

	int r = stress_build(s, err);

	if (r) {
		free(s);
		return r;
	}
	guestmem_connect_host(mem, receive_ack, s->host);
	r = -pthread_create(&s->thread, NULL, stress_main, s);
	if (r) {
		guestmem_connect_host(mem, NULL, NULL);
		stress_release(s);
		return err_set(err, r, "cannot start the revocation stress: %s",
			       strerror(-r));
	}
	*ret_stress = s;
	return 0;
}

struct revoke_stress_stats revoke_stress_stats(const struct revoke_stress *s)
{
	return (struct revoke_stress_stats){
		.batches = atomic_load(&s->batches),
		.taken = atomic_load(&s->taken),
		.zeroed = atomic_load(&s->zeroed),
		.skipped = atomic_load(&s->skipped),
		.timeouts = atomic_load(&s->timeouts),
	};
}

struct revoke_stress *revoke_stress_stop(struct revoke_stress *s)
{
	if (!s)
		return NULL;
	pthread_mutex_lock(&s->lock);
	s->stopping = true;
	pthread_cond_broadcast(&s->wake);
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->thread, NULL);
	guestmem_connect_host(s->mem, NULL, NULL);
	stress_release(s);
	return NULL;
}

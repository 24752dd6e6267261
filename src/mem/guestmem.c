/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical memory of one VM: how it is made and set up, what others ask of it, and
 * the requests of the host.
 *
 * guestmem_resolve.c has what happens when a page that is not at home is wanted,
 * guestmem_drop.c pages that are given up, guestmem_copy.c reading and writing.
 *
 * All this runs on the processor thread, which is the only one of the VM that uses guest
 * memory; the host acts on its own threads, or in its own process, through the physmap
 * alone. A request to revoke pages is queued by any thread and carried out by the
 * processor thread at a safe point. A processor that waits is at a safe point, so it goes
 * on carrying out requests: else it could wait for a page whose mover waits for it.
 */
#include <mem/guestmem.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <base/sparse.h>
#include <base/verify.h>
#include <mem/guestmem_impl.h>

/* Without a host: what pages have left behind may be taken by others, up to the limit. */
static enum guestmem_grant grant_up_to_limit(void *ctx)
{
	struct guestmem *mem = ctx;
	const struct physmap_counts counts = physmap_counts(mem->map);
	const uint64_t used = counts.pages[PHYSMAP_HOME] +
			      counts.pages[PHYSMAP_BUSY];

	if (used >= mem->limit_pages) {
		/* A BUSY page may turn out not to need its frame. */
		return counts.pages[PHYSMAP_BUSY] ? GUESTMEM_GRANT_ASKED
						  : GUESTMEM_GRANT_REFUSED;
	}
	physmap_grant(mem->map, mem->limit_pages - used);
	return GUESTMEM_GRANT_ASKED;
}

static uint64_t shown_bytes(uint64_t n_pages)
{
	return (n_pages + 7) / 8;
}

static int guestmem_build(struct guestmem *mem, uint64_t ram_bytes,
			  struct err *err)
{
	const uint64_t n_pages = ram_bytes / PAGE_SIZE;
	const uint64_t low = GUESTMEM_HOLE_START / PAGE_SIZE;
	int r = machine_new(ram_bytes, &mem->machine, err);

	if (!r)
		r = physmap_new(n_pages, &mem->map, err);
	if (r)
		return r;

	mem->flags = sparse_new(n_pages);
	mem->shown = sparse_new(shown_bytes(n_pages));
	if (!mem->flags || !mem->shown)
		return err_set(err, -errno,
			       "cannot map flags of guest pages: %s",
			       strerror(errno));
	mem->hot.entries = physmap_entries(mem->map);
	mem->hot.n_pages = n_pages;
	mem->hot.low_pages = n_pages < low ? n_pages : low;
	mem->ask = grant_up_to_limit;
	mem->ask_ctx = mem;
	mem->limit_pages = n_pages;
	physmap_grant(mem->map, PHYSMAP_UNLIMITED);
	return 0;
}

int guestmem_new(uint64_t ram_bytes, struct guestmem **ret_mem, struct err *err)
{
	struct guestmem *mem = calloc(1, sizeof(*mem));

	if (!mem)
		return err_set(err, -ENOMEM, "out of memory");

	int r = revoke_port_init(&mem->port, ram_bytes / PAGE_SIZE);

	if (r) {
		free(mem);
		return err_set(err, r, "cannot make a lock: %s", strerror(-r));
	}
	r = guestmem_build(mem, ram_bytes, err);
	if (r) {
		guestmem_free(mem);
		return r;
	}
	*ret_mem = mem;
	return 0;
}

struct guestmem *guestmem_free(struct guestmem *mem)
{
	if (!mem)
		return NULL;
	if (mem->map) {
		sparse_free(mem->flags, physmap_pages(mem->map));
		sparse_free(mem->shown, shown_bytes(physmap_pages(mem->map)));
	}
	revoke_port_release(&mem->port);
	mem->map = physmap_free(mem->map);
	mem->machine = machine_free(mem->machine);
	free(mem);
	return NULL;
}

void guestmem_set_ops(struct guestmem *mem, const struct guestmem_ops *ops,
		      void *ctx)
{
	mem->ops = ops;
	mem->ops_ctx = ctx;
}

void guestmem_set_source(struct guestmem *mem,
			 const struct guestmem_source_ops *ops, void *ctx)
{
	mem->source = ops;
	mem->source_ctx = ctx;
}

void guestmem_set_allowance_source(struct guestmem *mem,
				   enum guestmem_grant (*ask)(void *ctx),
				   void *ctx)
{
	mem->ask = ask;
	mem->ask_ctx = ctx;
}

void guestmem_set_limit(struct guestmem *mem, uint64_t pages)
{
	mem->limit_pages = pages;
	mem->ask = grant_up_to_limit;
	mem->ask_ctx = mem;
	/* The first page that is wanted asks. */
	physmap_withdraw(mem->map, UINT64_MAX);
}

struct machine *guestmem_machine(struct guestmem *mem)
{
	return mem->machine;
}

struct physmap *guestmem_physmap(struct guestmem *mem)
{
	return mem->map;
}

uint64_t guestmem_ram_bytes(const struct guestmem *mem)
{
	return mem->machine->ram_bytes;
}

uint8_t *guestmem_flags(struct guestmem *mem)
{
	return mem->flags;
}

uint64_t guestmem_epoch(const struct guestmem *mem)
{
	return mem->epoch;
}

/* The first failure is the one that the user is told. */
enum mem_status guestmem_fail(struct guestmem *mem, enum mem_status status)
{
	uint32_t none = MEM_OK;

	atomic_compare_exchange_strong(&mem->failure, &none, status);
	return status;
}

enum mem_status guestmem_failure(const struct guestmem *mem)
{
	return (enum mem_status)atomic_load(&mem->failure);
}

void guestmem_stop(struct guestmem *mem)
{
	atomic_store(&mem->stopped, true);
	physmap_bell_ring(mem->map);
}

bool guestmem_is_stopped(const struct guestmem *mem)
{
	return atomic_load_explicit(&mem->stopped, memory_order_relaxed);
}

/* Have the processor thread look at what is new, whatever it does now. */
static void summon(struct guestmem *mem)
{
	atomic_fetch_add(&mem->hot.n_pending, 1);
	if (mem->ops && mem->ops->kick)
		mem->ops->kick(mem->ops_ctx);
	physmap_bell_ring(mem->map);
}

void guestmem_connect_host(struct guestmem *mem,
			   void (*ack)(void *ctx, uint64_t ticket), void *ctx)
{
	revoke_port_connect(&mem->port, ack, ctx);
}

int guestmem_revoke(struct guestmem *mem, const struct revoke_request *request)
{
	int r = revoke_port_post(&mem->port, request);

	if (!r)
		summon(mem);
	return r;
}

void guestmem_link_broken(struct guestmem *mem)
{
	atomic_store(&mem->link_broken, true);
	summon(mem);
}

bool guestmem_link_settled(const struct guestmem *mem)
{
	return !atomic_load(&mem->link_broken);
}

/* Most pages are never read while ZERO: do not dirty the array for them. */
static void hide_zero(struct guestmem *mem, ppn_t page)
{
	if (guestmem_zero_shown(mem, page))
		mem->shown[page.v / 8] &= (uint8_t) ~(1U << page.v % 8);
}

void guestmem_unmap_run(struct guestmem *mem, ppn_t first, uint64_t n_pages)
{
	const struct guestmem_ops *const ops = mem->ops;

	mem->epoch++;
	for (uint64_t i = 0; i < n_pages; i++)
		hide_zero(mem, ppn(first.v + i));
	if (ops && ops->unmap_run)
		ops->unmap_run(mem->ops_ctx, first, n_pages);
	else if (ops && ops->unmap)
		for (uint64_t i = 0; i < n_pages; i++)
			ops->unmap(mem->ops_ctx, ppn(first.v + i));
}

/* How many pages of a request, from one on, follow each other. */
static unsigned run_length(const struct revoke_request *r, unsigned first)
{
	unsigned n = 1;

	while (first + n < r->n_pages &&
	       r->pages[first + n] == r->pages[first] + n)
		n++;
	return n;
}

static void serve_request(struct guestmem *mem, const struct revoke_request *r)
{
	unsigned n;

	for (unsigned i = 0; i < r->n_pages; i += n) {
		n = run_length(r, i);
		guestmem_unmap_run(mem, ppn(r->pages[i]), n);
	}
	guestmem_count(&mem->revoke_requests, 1);
	guestmem_count(&mem->revoked_pages, r->n_pages);
	revoke_port_ack(&mem->port, r->ticket);
}

static void recover(struct guestmem *mem)
{
	struct revoke_request request;

	/*
	 * Requests of the dead host: nobody waits for the answer, but a page that is
	 * about to return to something other than HOME must not stay mapped.
	 */
	while (revoke_port_next(&mem->port, &request))
		serve_request(mem, &request);
	guestmem_count(&mem->recovered_pages,
		       physmap_recover(mem->map, mem->machine->home_fd));
}

void guestmem_service_slow(struct guestmem *mem)
{
	struct revoke_request request;

	VERIFY(!mem->servicing);
	mem->servicing = true;
	/* Emptied first: what is queued from now on is counted again. */
	atomic_store(&mem->hot.n_pending, 0);
	while (revoke_port_next(&mem->port, &request))
		serve_request(mem, &request);
	if (atomic_load(&mem->link_broken)) {
		recover(mem);
		/* Last: a new host may come once this is seen. */
		atomic_store(&mem->link_broken, false);
	}
	mem->servicing = false;
}

struct mem_stats guestmem_stats(struct guestmem *mem)
{
	return (struct mem_stats){
		.pages = physmap_counts(mem->map),
		.allowance_pages = physmap_allowance(mem->map),
		.touched = physmap_touched(mem->map),
		.revoke_requests = atomic_load(&mem->revoke_requests),
		.revoked_pages = atomic_load(&mem->revoked_pages),
		.recovered_pages = atomic_load(&mem->recovered_pages),
		.busy_waits = atomic_load(&mem->busy_waits),
		.busy_wait_ns = atomic_load(&mem->busy_wait_ns),
		.allowance_waits = atomic_load(&mem->allowance_waits),
		.allowance_wait_ns = atomic_load(&mem->allowance_wait_ns),
		.zero_fills = atomic_load(&mem->zero_fills),
		.unshares = atomic_load(&mem->unshares),
		.fills = atomic_load(&mem->fills),
		.dropped = atomic_load(&mem->dropped),
		.table_pages = machine_table_pages(mem->machine),
	};
}

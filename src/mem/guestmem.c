/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest physical memory of one VM: its memory map, and what happens when a page that is
 * not at home is wanted.
 *
 * The common case, a page that is HOME, is decided inline by one load and one compare.
 * Everything else comes to guestmem_resolve_slow(), which looks at the entry, takes one
 * step, and looks again, until the page can be handed out:
 *
 *   ZERO     read: the common page of zeros. write: HOME, if there is allowance
 *   SHARED   read: the group's frame. write: copied into the home frame
 *   ZIPPED, SWAPPED   filled into the home frame
 *   BALLOON  ZERO again
 *   BUSY     wait
 *   watched  the touch is counted, the watch ends
 *
 * All this runs on the processor thread, which is the only one of the VM that uses guest
 * memory; the host acts on its own threads, or in its own process, through the physmap
 * alone. A request to revoke pages is queued by any thread and carried out by the
 * processor thread at a safe point. A processor that waits is at a safe point, so it goes
 * on carrying out requests: else it could wait for a page whose mover waits for it.
 *
 * All waits (a BUSY page, allowance) sleep on the physmap's bell. What can end a wait
 * rings it: an entry that stops being BUSY, a grant, a request, the end of the VM.
 *
 * Memory is brought behind a home frame before it is handed out, so a host without memory
 * is an outcome here and not a signal in the middle of an instruction.
 */
#include <mem/guestmem.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <base/verify.h>
#include <mem/memfile.h>

/* The host waits for a page that the VM gives up no longer than for this many. */
#define DROP_RUN_PAGES 1024

/* Members: I immutable, S set before the VM runs, P processor thread, a atomic. */
struct guestmem {
	struct guestmem_hot hot;
	struct machine *machine; /* I */
	struct physmap *map;     /* I */
	uint8_t *flags;          /* I the array; P its bytes */
	uint8_t *shown;          /* I the array, a bit per PPN; P its bits */

	const struct guestmem_ops *ops;           /* S or NULL */
	void *ops_ctx;                            /* S */
	const struct guestmem_source_ops *source; /* S or NULL */
	void *source_ctx;                         /* S */
	enum guestmem_grant (*ask)(void *ctx);    /* S */
	void *ask_ctx;                            /* S */
	uint64_t limit_pages;                     /* S */

	struct revoke_port port; /* its own lock */
	bool servicing;          /* P in guestmem_service_slow() */
	uint64_t epoch;          /* P */

	_Atomic bool link_broken; /* a */
	_Atomic bool stopped;     /* a */
	_Atomic uint32_t failure; /* a enum mem_status */

	/* a, written by the processor thread */
	_Atomic uint64_t revoke_requests;
	_Atomic uint64_t revoked_pages;
	_Atomic uint64_t recovered_pages;
	_Atomic uint64_t busy_waits;
	_Atomic uint64_t busy_wait_ns;
	_Atomic uint64_t allowance_waits;
	_Atomic uint64_t allowance_wait_ns;
	_Atomic uint64_t zero_fills;
	_Atomic uint64_t unshares;
	_Atomic uint64_t fills;
	_Atomic uint64_t dropped;
};

static_assert(offsetof(struct guestmem, hot) == 0,
	      "the inline functions find it there");

static void count(_Atomic uint64_t *counter, uint64_t n)
{
	atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

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

/* Like everything that is as long as RAM: no memory until it is used. */
static uint8_t *map_sparse(uint64_t bytes)
{
	void *array = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return array == MAP_FAILED ? NULL : array;
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

	mem->flags = map_sparse(n_pages);
	mem->shown = map_sparse(shown_bytes(n_pages));
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
	if (mem->flags)
		munmap(mem->flags, physmap_pages(mem->map));
	if (mem->shown)
		munmap(mem->shown, shown_bytes(physmap_pages(mem->map)));
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
static enum mem_status fail(struct guestmem *mem, enum mem_status status)
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

/* Whether the common page of zeros may be cached as this page. */
static bool zero_shown(const struct guestmem *mem, ppn_t page)
{
	return mem->shown[page.v / 8] >> page.v % 8 & 1;
}

static void set_zero_shown(struct guestmem *mem, ppn_t page)
{
	mem->shown[page.v / 8] |= (uint8_t)(1U << page.v % 8);
}

static void unmap_page(struct guestmem *mem, ppn_t page)
{
	mem->epoch++;
	/* Most pages are never read while ZERO: do not dirty the array for them. */
	if (zero_shown(mem, page))
		mem->shown[page.v / 8] &= (uint8_t) ~(1U << page.v % 8);
	if (mem->ops && mem->ops->unmap)
		mem->ops->unmap(mem->ops_ctx, page);
}

static void serve_request(struct guestmem *mem, const struct revoke_request *r)
{
	for (unsigned i = 0; i < r->n_pages; i++)
		unmap_page(mem, ppn(r->pages[i]));
	count(&mem->revoke_requests, 1);
	count(&mem->revoked_pages, r->n_pages);
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
	count(&mem->recovered_pages,
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

/*
 * One sleep on the bell, unless there is something to do at once. The caller looks at the
 * entry again afterwards, whatever ended the sleep.
 */
static void wait_for_bell(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	const uint32_t seen = physmap_bell_prepare(mem->map);

	guestmem_service(mem);
	if (!atomic_load(&mem->hot.n_pending) && !atomic_load(&mem->stopped) &&
	    physmap_load(mem->map, page) == entry)
		physmap_bell_wait(mem->map, seen);
	physmap_bell_finish(mem->map);
}

static void stalled(struct guestmem *mem, enum guestmem_stall cause, uint64_t ns)
{
	if (mem->source && mem->source->stalled)
		mem->source->stalled(mem->source_ctx, cause, ns);
}

/* The outcome of one step towards a page. */
enum step {
	STEP_AGAIN, /* look at the entry again */
	STEP_DONE,  /* the page can be handed out */
	STEP_FAILED,
};

static enum step step_busy(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	const uint64_t start = now_ns();

	count(&mem->busy_waits, 1);
	while (physmap_load(mem->map, page) == entry &&
	       !atomic_load(&mem->stopped))
		wait_for_bell(mem, page, entry);

	const uint64_t ns = now_ns() - start;

	count(&mem->busy_wait_ns, ns);
	stalled(mem, GUESTMEM_STALL_BUSY, ns);
	return STEP_AGAIN;
}

static bool allowance_must_wait(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	return !physmap_allowance(mem->map) &&
	       !atomic_load(&mem->hot.n_pending) &&
	       !atomic_load(&mem->stopped) &&
	       physmap_load(mem->map, page) == entry;
}

static enum step step_allowance(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	const uint32_t seen = physmap_bell_prepare(mem->map);
	enum step step = STEP_AGAIN;

	guestmem_service(mem);
	/* Asked after preparing: whatever would change the answer rings the bell. */
	if (mem->ask(mem->ask_ctx) == GUESTMEM_GRANT_REFUSED) {
		fail(mem, MEM_NO_HOST_MEMORY);
		step = STEP_FAILED;
	} else if (allowance_must_wait(mem, page, entry)) {
		const uint64_t start = now_ns();

		count(&mem->allowance_waits, 1);
		physmap_bell_wait(mem->map, seen);

		const uint64_t ns = now_ns() - start;

		count(&mem->allowance_wait_ns, ns);
		stalled(mem, GUESTMEM_STALL_HOST, ns);
	}
	physmap_bell_finish(mem->map);
	return step;
}

/* Change an entry for the VM, as it was read; sets whether that was done. */
static enum step step_change(struct guestmem *mem, ppn_t page, uint64_t from,
			     uint64_t to, bool *ret_changed)
{
	*ret_changed = false;
	switch (physmap_change(mem->map, PHYSMAP_BY_VM, page, from, to)) {
	case PHYSMAP_CHANGED:
		*ret_changed = true;
		return STEP_AGAIN;
	case PHYSMAP_RACED:
		return STEP_AGAIN;
	case PHYSMAP_NO_ALLOWANCE:
		return step_allowance(mem, page, from);
	case PHYSMAP_ILLEGAL:
		break;
	}
	/* Only what wrote a word that is no entry can have caused this. */
	fail(mem, MEM_NO_HOST_MEMORY);
	return STEP_FAILED;
}

/* A page that is ours already, or BUSY by us: nobody else can change it. */
static void change_own(struct guestmem *mem, ppn_t page, uint64_t from,
		       uint64_t to)
{
	enum physmap_result r = physmap_change(mem->map, PHYSMAP_BY_VM, page,
					       from, to);

	VERIFY(r == PHYSMAP_CHANGED);
}

static uint8_t *home_frame(struct guestmem *mem, ppn_t page)
{
	return machine_ptr(mem->machine, ma(MACHINE_HOME + page.v * PAGE_SIZE));
}

/* HOME: unmap, say what it becomes, release the frame, let it go. */
static enum step step_drop_home(struct guestmem *mem, ppn_t page,
				uint64_t entry, uint64_t final)
{
	const uint64_t busy = physmap_busy(entry, PHYSMAP_BY_VM);
	const uint64_t last = physmap_busy(final, PHYSMAP_BY_VM);
	bool changed;
	enum step step = step_change(mem, page, entry, busy, &changed);

	if (!changed)
		return step;
	unmap_page(mem, page);
	change_own(mem, page, busy, last);
	machine_home_drop(mem->machine, page);
	change_own(mem, page, last, final);
	return STEP_DONE;
}

static enum step step_zero_to_home(struct guestmem *mem, ppn_t page,
				   uint64_t entry)
{
	bool changed;
	enum step step = step_change(mem, page, entry, physmap_home(), &changed);

	if (!changed)
		return step;
	/* Another address of the page may be cached with the common page of zeros. */
	if (zero_shown(mem, page))
		unmap_page(mem, page);
	if (machine_home_populate(mem->machine, page)) {
		/* It is a page of zeros still. If the host has it now, let it be. */
		step_drop_home(mem, page, physmap_home(), physmap_zero());
		fail(mem, MEM_NO_HOST_MEMORY);
		return STEP_FAILED;
	}
	count(&mem->zero_fills, 1);
	return STEP_AGAIN;
}

static bool fill_frame(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	uint8_t *frame = home_frame(mem, page);

	if (machine_home_populate(mem->machine, page))
		return false;
	if (physmap_stable_state(entry) == PHYSMAP_SHARED) {
		memcpy(frame,
		       machine_ptr(mem->machine,
				   ma(MACHINE_GROUP +
				      physmap_slot(entry) * PAGE_SIZE)),
		       PAGE_SIZE);
		return true;
	}
	return mem->source &&
	       !mem->source->fill(mem->source_ctx, page, entry, frame);
}

static enum step step_bring_back(struct guestmem *mem, ppn_t page,
				 uint64_t entry)
{
	const uint64_t stable = physmap_stable(entry);
	const uint64_t busy = physmap_busy(entry, PHYSMAP_BY_VM);
	const bool zipped = physmap_state(stable) == PHYSMAP_ZIPPED;
	const uint64_t start = now_ns();
	bool changed;
	enum step step = step_change(mem, page, entry, busy, &changed);

	if (!changed)
		return step;
	if (!fill_frame(mem, page, stable)) {
		machine_home_drop(mem->machine, page);
		change_own(mem, page, busy, stable);
		fail(mem, MEM_NO_HOST_MEMORY);
		return STEP_FAILED;
	}
	/* Others may see the shared frame in the processor's caches: out with it. */
	if (physmap_state(stable) == PHYSMAP_SHARED) {
		unmap_page(mem, page);
		count(&mem->unshares, 1);
	} else {
		count(&mem->fills, 1);
	}
	change_own(mem, page, busy, physmap_home());
	if (mem->source)
		mem->source->left(mem->source_ctx, page, stable);
	if (physmap_state(stable) != PHYSMAP_SHARED)
		stalled(mem, zipped ? GUESTMEM_STALL_ZIP : GUESTMEM_STALL_SWAP,
			now_ns() - start);
	return STEP_AGAIN;
}

static void hand_out(ma_t where, ppn_t page, bool writable,
		     struct mem_page *ret_page)
{
	*ret_page = (struct mem_page){
		.ma = where,
		.ppn = page,
		.writable = writable,
	};
}

static enum step step_plain(struct guestmem *mem, ppn_t page, uint64_t entry,
			    enum mem_access access, struct mem_page *ret_page)
{
	bool changed;

	switch (physmap_state(entry)) {
	case PHYSMAP_HOME:
		hand_out(ma(MACHINE_HOME + page.v * PAGE_SIZE), page, true,
			 ret_page);
		return STEP_DONE;
	case PHYSMAP_ZERO:
		if (access == MEM_WRITE)
			return step_zero_to_home(mem, page, entry);
		set_zero_shown(mem, page);
		hand_out(ma(MACHINE_ZERO), page, false, ret_page);
		return STEP_DONE;
	case PHYSMAP_SHARED:
		if (access == MEM_WRITE)
			return step_bring_back(mem, page, entry);
		hand_out(ma(MACHINE_GROUP + physmap_slot(entry) * PAGE_SIZE),
			 page, false, ret_page);
		return STEP_DONE;
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
		return step_bring_back(mem, page, entry);
	case PHYSMAP_BALLOON:
		return step_change(mem, page, entry, physmap_zero(), &changed);
	case PHYSMAP_BUSY:
		return step_busy(mem, page, entry);
	case PHYSMAP_N_STATES:
		break;
	}
	return STEP_FAILED;
}

enum mem_status guestmem_resolve_slow(struct guestmem *mem, ppn_t page,
				      enum mem_access access,
				      struct mem_page *ret_page)
{
	enum step step = STEP_AGAIN;

	while (step == STEP_AGAIN) {
		const uint64_t entry = physmap_load(mem->map, page);
		bool changed;

		if (atomic_load(&mem->stopped))
			return fail(mem, MEM_STOPPED);
		if (physmap_is_watched(entry))
			step = step_change(mem, page, entry,
					   physmap_stable(entry), &changed);
		else
			step = step_plain(mem, page, entry, access, ret_page);
	}
	return step == STEP_DONE ? MEM_OK : guestmem_failure(mem);
}

static uint64_t stable_entry(enum physmap_state state)
{
	return state == PHYSMAP_BALLOON ? physmap_balloon() : physmap_zero();
}

static enum step step_drop_away(struct guestmem *mem, ppn_t page,
				uint64_t entry, uint64_t final)
{
	bool changed;
	enum step step = step_change(mem, page, entry, final, &changed);

	if (!changed)
		return step;
	unmap_page(mem, page);
	if (mem->source && physmap_state(entry) != PHYSMAP_ZERO &&
	    physmap_state(entry) != PHYSMAP_BALLOON)
		mem->source->left(mem->source_ctx, page, physmap_stable(entry));
	return STEP_DONE;
}

static enum step step_drop(struct guestmem *mem, ppn_t page, uint64_t entry,
			   uint64_t final)
{
	switch (physmap_state(entry)) {
	case PHYSMAP_HOME:
		return step_drop_home(mem, page, entry, final);
	case PHYSMAP_ZERO:
	case PHYSMAP_SHARED:
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
	case PHYSMAP_BALLOON:
		return step_drop_away(mem, page, entry, final);
	case PHYSMAP_BUSY:
		return step_busy(mem, page, entry);
	case PHYSMAP_N_STATES:
		break;
	}
	return STEP_FAILED;
}

/* One page, waiting where it must. */
static enum mem_status drop_to(struct guestmem *mem, ppn_t page, uint64_t to)
{
	enum step step = STEP_AGAIN;

	while (step == STEP_AGAIN) {
		const uint64_t entry = physmap_load(mem->map, page);

		if (atomic_load(&mem->stopped))
			return fail(mem, MEM_STOPPED);
		/* A page that is given up twice stays watched: that is no touch. */
		if (!physmap_is_busy(entry) && physmap_stable(entry) == to)
			return MEM_OK;
		step = step_drop(mem, page, entry, to);
	}
	if (step == STEP_FAILED)
		return guestmem_failure(mem);
	count(&mem->dropped, 1);
	return MEM_OK;
}

static void tell_written(struct guestmem *mem, ppn_t page, gpa_t addr,
			 uint64_t len)
{
	if (unlikely(mem->flags[page.v]) && mem->ops && mem->ops->written)
		mem->ops->written(mem->ops_ctx, addr, len);
}

static enum mem_status drop_page(struct guestmem *mem, ppn_t page, uint64_t to)
{
	/*
	 * What was decoded or shadowed from its contents is wrong now. Those who hear
	 * of it may look at the page, so it is ZERO meanwhile.
	 */
	if (unlikely(mem->flags[page.v])) {
		enum mem_status status = drop_to(mem, page, physmap_zero());

		if (status != MEM_OK)
			return status;
		tell_written(mem, page, guestmem_gpa(mem, page), PAGE_SIZE);
	}
	return drop_to(mem, page, to);
}

/* Take pages that are HOME, up to the first one that is something else or special. */
static uint64_t take_run(struct guestmem *mem, ppn_t first, uint64_t n_pages)
{
	uint64_t n;

	for (n = 0; n < n_pages; n++) {
		const ppn_t page = ppn(first.v + n);
		const uint64_t entry = physmap_load(mem->map, page);

		if (physmap_state(entry) != PHYSMAP_HOME || mem->flags[page.v])
			break;
		if (physmap_change(mem->map, PHYSMAP_BY_VM, page, entry,
				   physmap_busy(entry, PHYSMAP_BY_VM)) !=
		    PHYSMAP_CHANGED)
			break;
		unmap_page(mem, page);
	}
	return n;
}

/* Pages of a run are BUSY by us: change all of them. */
static void change_run(struct guestmem *mem, ppn_t first, uint64_t n_pages,
		       uint64_t from, uint64_t to)
{
	for (uint64_t i = 0; i < n_pages; i++)
		change_own(mem, ppn(first.v + i), from, to);
}

/*
 * As many pages at once as are HOME, since releasing memory costs more for each call than
 * for each page. Nothing is waited for while pages are BUSY by us.
 */
static uint64_t drop_run(struct guestmem *mem, ppn_t first, uint64_t n_pages,
			 uint64_t to)
{
	const uint64_t busy = physmap_busy(physmap_home(), PHYSMAP_BY_VM);
	const uint64_t last = physmap_busy(to, PHYSMAP_BY_VM);
	const uint64_t n = take_run(mem, first,
				    n_pages < DROP_RUN_PAGES ? n_pages
							     : DROP_RUN_PAGES);

	if (!n)
		return 0;
	change_run(mem, first, n, busy, last);
	machine_home_drop_run(mem->machine, first, n);
	change_run(mem, first, n, last, to);
	count(&mem->dropped, n);
	return n;
}

enum mem_status guestmem_drop_run(struct guestmem *mem, ppn_t first,
				  uint64_t n_pages, enum physmap_state final)
{
	const uint64_t to = stable_entry(final);

	VERIFY(final == PHYSMAP_ZERO || final == PHYSMAP_BALLOON);
	if (first.v >= mem->hot.n_pages || n_pages > mem->hot.n_pages - first.v)
		return MEM_NOT_RAM;
	for (uint64_t i = 0; i < n_pages;) {
		const ppn_t page = ppn(first.v + i);
		enum mem_status status = MEM_OK;

		if (atomic_load(&mem->stopped))
			return fail(mem, MEM_STOPPED);

		const uint64_t n = drop_run(mem, page, n_pages - i, to);

		/* The obstacle, if there is one, by itself. */
		if (!n)
			status = drop_page(mem, page, to);
		if (status != MEM_OK)
			return status;
		i += n ? n : 1;
	}
	return MEM_OK;
}

enum mem_status guestmem_drop(struct guestmem *mem, ppn_t page,
			      enum physmap_state final)
{
	return guestmem_drop_run(mem, page, 1, final);
}

/* Whether all of [addr, addr + len) is RAM. */
static bool range_is_ram(const struct guestmem *mem, uint64_t addr, uint64_t len)
{
	const uint64_t low_end = mem->hot.low_pages * PAGE_SIZE;
	const uint64_t high_end = GUESTMEM_HOLE_END +
				  (mem->hot.n_pages - mem->hot.low_pages) *
					  PAGE_SIZE;
	uint64_t end;

	if (!len)
		return true;
	if (__builtin_add_overflow(addr, len, &end))
		return false;
	return end <= low_end || (addr >= GUESTMEM_HOLE_END && end <= high_end);
}

static uint64_t part_of_page(uint64_t addr, uint64_t len)
{
	const uint64_t rest = PAGE_SIZE - addr % PAGE_SIZE;

	return len < rest ? len : rest;
}

bool guestmem_read(struct guestmem *mem, gpa_t addr, void *buf, uint64_t len)
{
	uint8_t *to = buf;
	struct mem_page page;

	if (!range_is_ram(mem, addr.v, len))
		return false;
	while (len) {
		const uint64_t part = part_of_page(addr.v, len);

		if (guestmem_resolve(mem, addr, MEM_READ, &page) != MEM_OK)
			return false;
		memcpy(to,
		       machine_ptr(mem->machine,
				   ma_add(page.ma, addr.v % PAGE_SIZE)),
		       part);
		addr = gpa_add(addr, part);
		to += part;
		len -= part;
	}
	return true;
}

void guestmem_tell_written(struct guestmem *mem, gpa_t addr, uint64_t len)
{
	ppn_t page;

	if (guestmem_ppn(mem, addr, &page))
		tell_written(mem, page, addr, len);
}

bool guestmem_write(struct guestmem *mem, gpa_t addr, const void *buf,
		    uint64_t len)
{
	const uint8_t *from = buf;
	struct mem_page page;

	if (!range_is_ram(mem, addr.v, len))
		return false;
	while (len) {
		const uint64_t part = part_of_page(addr.v, len);

		if (guestmem_resolve(mem, addr, MEM_WRITE, &page) != MEM_OK)
			return false;
		memcpy(machine_ptr(mem->machine,
				   ma_add(page.ma, addr.v % PAGE_SIZE)),
		       from, part);
		tell_written(mem, page.ppn, addr, part);
		addr = gpa_add(addr, part);
		from += part;
		len -= part;
	}
	return true;
}

enum mem_status guestmem_span(struct guestmem *mem, gpa_t addr,
			      enum mem_access access, uint8_t **ret_ptr,
			      uint64_t *ret_len)
{
	const uint64_t offset = addr.v % PAGE_SIZE;
	struct mem_page page;
	enum mem_status status = guestmem_resolve(mem, addr, access, &page);

	if (status != MEM_OK)
		return status;
	/* Stores are still to come: as much is told as makes everyone forget the page. */
	if (access == MEM_WRITE)
		tell_written(mem, page.ppn, gpa(addr.v & PAGE_MASK), PAGE_SIZE);
	*ret_ptr = machine_ptr(mem->machine, ma_add(page.ma, offset));
	*ret_len = PAGE_SIZE - offset;
	return MEM_OK;
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

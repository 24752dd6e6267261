/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happens when a guest page that is not at home is wanted.
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
 * All waits (a BUSY page, allowance) sleep on the physmap's bell. What can end a wait
 * rings it: an entry that stops being BUSY, a grant, a request, the end of the VM.
 *
 * Memory is brought behind a home frame before it is handed out, so a host without memory
 * is an outcome here and not a signal in the middle of an instruction.
 */
#include <string.h>

#include <base/clock.h>
#include <base/verify.h>
#include <mem/guestmem_impl.h>

static void set_zero_shown(struct guestmem *mem, ppn_t page)
{
	mem->shown[page.v / 8] |= (uint8_t)(1U << page.v % 8);
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
		(void)physmap_bell_wait(mem->map, seen);
	physmap_bell_finish(mem->map);
}

static void stalled(struct guestmem *mem, enum guestmem_stall cause, uint64_t ns)
{
	if (mem->source && mem->source->stalled)
		mem->source->stalled(mem->source_ctx, cause, ns);
}

enum guestmem_step guestmem_step_busy(struct guestmem *mem, ppn_t page,
				      uint64_t entry)
{
	const uint64_t start = monotonic_ns();

	guestmem_count(&mem->busy_waits, 1);
	while (physmap_load(mem->map, page) == entry &&
	       !atomic_load(&mem->stopped))
		wait_for_bell(mem, page, entry);

	const uint64_t ns = monotonic_ns() - start;

	guestmem_count(&mem->busy_wait_ns, ns);
	stalled(mem, GUESTMEM_STALL_BUSY, ns);
	return GUESTMEM_STEP_AGAIN;
}

static bool allowance_must_wait(struct guestmem *mem, ppn_t page, uint64_t entry)
{
	return !physmap_allowance(mem->map) &&
	       !atomic_load(&mem->hot.n_pending) &&
	       !atomic_load(&mem->stopped) &&
	       physmap_load(mem->map, page) == entry;
}

static void waiting(struct guestmem *mem, uint64_t slept_ns)
{
	if (mem->ops && mem->ops->waiting)
		mem->ops->waiting(mem->ops_ctx, slept_ns);
}

/* Sleep until the bell rings. Return: ns. */
static uint64_t wait_for_allowance(struct guestmem *mem, uint32_t seen)
{
	const uint64_t start = monotonic_ns();
	uint64_t last = start;
	bool rung = false;

	waiting(mem, 0);
	while (!rung) {
		rung = physmap_bell_wait(mem->map, seen);

		const uint64_t now = monotonic_ns();

		waiting(mem, now - last);
		last = now;
	}
	return last - start;
}

static enum guestmem_step step_allowance(struct guestmem *mem, ppn_t page,
					 uint64_t entry)
{
	const uint32_t seen = physmap_bell_prepare(mem->map);
	enum guestmem_step step = GUESTMEM_STEP_AGAIN;

	guestmem_service(mem);
	/* Asked after preparing: whatever would change the answer rings the bell. */
	if (mem->ask(mem->ask_ctx) == GUESTMEM_GRANT_REFUSED) {
		guestmem_fail(mem, MEM_NO_HOST_MEMORY);
		step = GUESTMEM_STEP_FAILED;
	} else if (allowance_must_wait(mem, page, entry)) {
		guestmem_count(&mem->allowance_waits, 1);

		const uint64_t ns = wait_for_allowance(mem, seen);

		guestmem_count(&mem->allowance_wait_ns, ns);
		stalled(mem, GUESTMEM_STALL_HOST, ns);
	}
	physmap_bell_finish(mem->map);
	return step;
}

/* Change an entry for the VM, as it was read; sets whether that was done. */
enum guestmem_step guestmem_step_change(struct guestmem *mem, ppn_t page,
					uint64_t from, uint64_t to,
					bool *ret_changed)
{
	*ret_changed = false;
	switch (physmap_change(mem->map, PHYSMAP_BY_VM, page, from, to)) {
	case PHYSMAP_CHANGED:
		*ret_changed = true;
		return GUESTMEM_STEP_AGAIN;
	case PHYSMAP_RACED:
		return GUESTMEM_STEP_AGAIN;
	case PHYSMAP_NO_ALLOWANCE:
		return step_allowance(mem, page, from);
	case PHYSMAP_ILLEGAL:
		break;
	}
	/* Only what wrote a word that is no entry can have caused this. */
	guestmem_fail(mem, MEM_NO_HOST_MEMORY);
	return GUESTMEM_STEP_FAILED;
}

/* A page that is ours already, or BUSY by us: nobody else can change it. */
void guestmem_change_own(struct guestmem *mem, ppn_t page, uint64_t from,
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

static enum guestmem_step step_zero_to_home(struct guestmem *mem, ppn_t page,
					    uint64_t entry)
{
	bool changed;
	enum guestmem_step step = guestmem_step_change(mem, page, entry,
						       physmap_home(), &changed);

	if (!changed)
		return step;
	/* Another address of the page may be cached with the common page of zeros. */
	if (guestmem_zero_shown(mem, page))
		guestmem_unmap_page(mem, page);
	if (machine_home_populate(mem->machine, page)) {
		/* It is a page of zeros still. If the host has it now, let it be. */
		guestmem_step_drop_home(mem, page, physmap_home(),
					physmap_zero());
		guestmem_fail(mem, MEM_NO_HOST_MEMORY);
		return GUESTMEM_STEP_FAILED;
	}
	guestmem_count(&mem->zero_fills, 1);
	return GUESTMEM_STEP_AGAIN;
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

static enum guestmem_step step_bring_back(struct guestmem *mem, ppn_t page,
					  uint64_t entry)
{
	const uint64_t stable = physmap_stable(entry);
	const uint64_t busy = physmap_busy(entry, PHYSMAP_BY_VM);
	const bool zipped = physmap_state(stable) == PHYSMAP_ZIPPED;
	const uint64_t start = monotonic_ns();
	bool changed;
	enum guestmem_step step = guestmem_step_change(mem, page, entry, busy,
						       &changed);

	if (!changed)
		return step;
	if (!fill_frame(mem, page, stable)) {
		machine_home_drop(mem->machine, page);
		guestmem_change_own(mem, page, busy, stable);
		guestmem_fail(mem, MEM_NO_HOST_MEMORY);
		return GUESTMEM_STEP_FAILED;
	}
	/* Others may see the shared frame in the processor's caches: out with it. */
	if (physmap_state(stable) == PHYSMAP_SHARED) {
		guestmem_unmap_page(mem, page);
		guestmem_count(&mem->unshares, 1);
	} else {
		guestmem_count(&mem->fills, 1);
	}
	guestmem_change_own(mem, page, busy, physmap_home());
	if (mem->source)
		mem->source->left(mem->source_ctx, page, stable);
	if (physmap_state(stable) != PHYSMAP_SHARED)
		stalled(mem, zipped ? GUESTMEM_STALL_ZIP : GUESTMEM_STALL_SWAP,
			monotonic_ns() - start);
	return GUESTMEM_STEP_AGAIN;
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

static enum guestmem_step step_plain(struct guestmem *mem, ppn_t page,
				     uint64_t entry, enum mem_access access,
				     struct mem_page *ret_page)
{
	bool changed;

	switch (physmap_state(entry)) {
	case PHYSMAP_HOME:
		hand_out(ma(MACHINE_HOME + page.v * PAGE_SIZE), page, true,
			 ret_page);
		return GUESTMEM_STEP_DONE;
	case PHYSMAP_ZERO:
		if (access == MEM_WRITE)
			return step_zero_to_home(mem, page, entry);
		set_zero_shown(mem, page);
		hand_out(ma(MACHINE_ZERO), page, false, ret_page);
		return GUESTMEM_STEP_DONE;
	case PHYSMAP_SHARED:
		if (access == MEM_WRITE)
			return step_bring_back(mem, page, entry);
		hand_out(ma(MACHINE_GROUP + physmap_slot(entry) * PAGE_SIZE),
			 page, false, ret_page);
		return GUESTMEM_STEP_DONE;
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
		return step_bring_back(mem, page, entry);
	case PHYSMAP_BALLOON:
		return guestmem_step_change(mem, page, entry, physmap_zero(),
					    &changed);
	case PHYSMAP_BUSY:
		return guestmem_step_busy(mem, page, entry);
	case PHYSMAP_N_STATES:
		break;
	}
	return GUESTMEM_STEP_FAILED;
}

enum mem_status guestmem_resolve_slow(struct guestmem *mem, ppn_t page,
				      enum mem_access access,
				      struct mem_page *ret_page)
{
	enum guestmem_step step = GUESTMEM_STEP_AGAIN;

	while (step == GUESTMEM_STEP_AGAIN) {
		const uint64_t entry = physmap_load(mem->map, page);
		bool changed;

		if (atomic_load(&mem->stopped))
			return guestmem_fail(mem, MEM_STOPPED);
		if (physmap_is_watched(entry))
			step = guestmem_step_change(mem, page, entry,
						    physmap_stable(entry),
						    &changed);
		else
			step = step_plain(mem, page, entry, access, ret_page);
	}
	return step == GUESTMEM_STEP_DONE ? MEM_OK : guestmem_failure(mem);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest pages that are given up: reported free, or lent to the balloon.
 *
 * A page with a frame is BUSY until the frame is released, by what it becomes, so that
 * whoever finds a dead VM's page there knows what to make of it.
 */
#include <base/verify.h>
#include <mem/guestmem_impl.h>

/*
 * The host waits for a page that the VM gives up no longer than for this many. Runs end where
 * large pages do: behind one that was touched there may be many that were not.
 */
#define DROP_RUN_PAGES 512

/* HOME: unmap, say what it becomes, release the frame, let it go. */
enum guestmem_step guestmem_step_drop_home(struct guestmem *mem, ppn_t page,
					   uint64_t entry, uint64_t final)
{
	const uint64_t busy = physmap_busy(entry, PHYSMAP_BY_VM);
	const uint64_t last = physmap_busy(final, PHYSMAP_BY_VM);
	bool changed;
	enum guestmem_step step = guestmem_step_change(mem, page, entry, busy,
						       &changed);

	if (!changed)
		return step;
	guestmem_unmap_page(mem, page);
	guestmem_change_own(mem, page, busy, last);
	machine_home_drop(mem->machine, page);
	guestmem_change_own(mem, page, last, final);
	return GUESTMEM_STEP_DONE;
}

static uint64_t stable_entry(enum physmap_state state)
{
	return state == PHYSMAP_BALLOON ? physmap_balloon() : physmap_zero();
}

static enum guestmem_step step_drop_away(struct guestmem *mem, ppn_t page,
					 uint64_t entry, uint64_t final)
{
	bool changed;
	enum guestmem_step step = guestmem_step_change(mem, page, entry, final,
						       &changed);

	if (!changed)
		return step;
	guestmem_unmap_page(mem, page);
	if (mem->source && physmap_state(entry) != PHYSMAP_ZERO &&
	    physmap_state(entry) != PHYSMAP_BALLOON)
		mem->source->left(mem->source_ctx, page, physmap_stable(entry));
	return GUESTMEM_STEP_DONE;
}

static enum guestmem_step step_drop(struct guestmem *mem, ppn_t page,
				    uint64_t entry, uint64_t final)
{
	switch (physmap_state(entry)) {
	case PHYSMAP_HOME:
		return guestmem_step_drop_home(mem, page, entry, final);
	case PHYSMAP_ZERO:
	case PHYSMAP_SHARED:
	case PHYSMAP_ZIPPED:
	case PHYSMAP_SWAPPED:
	case PHYSMAP_BALLOON:
		return step_drop_away(mem, page, entry, final);
	case PHYSMAP_BUSY:
		return guestmem_step_busy(mem, page, entry);
	case PHYSMAP_N_STATES:
		break;
	}
	return GUESTMEM_STEP_FAILED;
}

/* One page, waiting where it must. */
static enum mem_status drop_to(struct guestmem *mem, ppn_t page, uint64_t to)
{
	enum guestmem_step step = GUESTMEM_STEP_AGAIN;

	while (step == GUESTMEM_STEP_AGAIN) {
		const uint64_t entry = physmap_load(mem->map, page);

		if (atomic_load(&mem->stopped))
			return guestmem_fail(mem, MEM_STOPPED);
		/* A page that is given up twice stays watched: that is no touch. */
		if (!physmap_is_busy(entry) && physmap_stable(entry) == to)
			return MEM_OK;
		step = step_drop(mem, page, entry, to);
	}
	if (step == GUESTMEM_STEP_FAILED)
		return guestmem_failure(mem);
	guestmem_count(&mem->dropped, 1);
	return MEM_OK;
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
		guestmem_page_written(mem, page, guestmem_gpa(mem, page),
				      PAGE_SIZE);
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
	}
	/* Together: a report of free pages may name 128 MiB, and its guest stands meanwhile. */
	if (n)
		guestmem_unmap_run(mem, first, n);
	return n;
}

/* Pages of a run are BUSY by us: change all of them. */
static void change_run(struct guestmem *mem, ppn_t first, uint64_t n_pages,
		       uint64_t from, uint64_t to)
{
	for (uint64_t i = 0; i < n_pages; i++)
		guestmem_change_own(mem, ppn(first.v + i), from, to);
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
	const uint64_t room = DROP_RUN_PAGES - first.v % DROP_RUN_PAGES;
	const uint64_t n = take_run(mem, first, n_pages < room ? n_pages : room);

	if (!n)
		return 0;
	change_run(mem, first, n, busy, last);
	machine_home_drop_run(mem->machine, first, n);
	change_run(mem, first, n, last, to);
	guestmem_count(&mem->dropped, n);
	return n;
}

/* A guest that has just started reports nearly all of its memory, which is nowhere yet. */
static uint64_t skip_untouched(struct guestmem *mem, ppn_t first,
			       uint64_t n_pages, enum physmap_state final)
{
	uint64_t n;

	if (final != PHYSMAP_ZERO || !mem->ops || !mem->ops->untouched)
		return 0;
	n = mem->ops->untouched(mem->ops_ctx, first, n_pages);
	guestmem_count(&mem->dropped, n);
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
			return guestmem_fail(mem, MEM_STOPPED);

		uint64_t n = skip_untouched(mem, page, n_pages - i, final);

		if (!n)
			n = drop_run(mem, page, n_pages - i, to);
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

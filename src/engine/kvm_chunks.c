/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: chunks, which are the kernel's alone or watched.
 *
 * As far as its allowance goes, every page of a VM is HOME from its start: HOME says whose
 * the frame is, and memory comes behind it at its first touch, by the kernel and in large
 * pages, without us. The first page that is taken away has its chunk watched. Only chunks
 * that are all HOME may get large pages, for a large page is memory behind 512 frames at once.
 *
 * A chunk whose pages have all been HOME for a while is given back to the kernel, and made a
 * large page again. When memory becomes scarce on the host, large pages are not wanted any
 * more: what was never touched is given back, and chunks stay as they become.
 *
 * A chunk is 2 MiB, or more for a VM so large that its chunks would be too many mappings.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/arith.h>
#include <base/clock.h>
#include <base/verify.h>
#include <engine/kvm_window_impl.h>
#include <mem/memfile.h>

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* With those of shared runs far below what a process may have (65530). */
#define MAX_CHUNKS UINT64_C(16384)
/* Left to others when a chunk is claimed. */
#define CLAIM_ALLOWANCE 4096
/* Work that is done with the lock held once. */
#define COLLAPSE_MAX  8
#define COLLAPSE_AGE  5
#define GIVE_BACK_MAX 16

int chunks_init(struct kvm_window *w)
{
	w->chunk_pages = LARGE_PAGES;
	while ((w->n_pages + w->chunk_pages - 1) / w->chunk_pages > MAX_CHUNKS)
		w->chunk_pages *= 2;
	w->n_chunks = (w->n_pages + w->chunk_pages - 1) / w->chunk_pages;
	w->chunks = calloc(w->n_chunks, sizeof(*w->chunks));
	w->offers_large = w->cfg.large_pages && machine_offers_large_pages();
	return w->chunks ? 0 : -ENOMEM;
}

static void set_state(struct kvm_window *w, uint64_t chunk,
		      enum chunk_state state)
{
	w->n_small -= w->chunks[chunk].state == CHUNK_SMALL;
	w->n_small += state == CHUNK_SMALL;
	w->chunks[chunk] = (struct chunk){.state = (uint8_t)state};
}

/* Large pages at a first touch by devices, which have addresses of their own. */
static void set_devices_large(struct kvm_window *w, bool on)
{
	struct err ignored;

	if (w->devices_large != on &&
	    !machine_set_large_pages(w->machine, on, &ignored))
		w->devices_large = on;
}

static void advise(const struct kvm_window *w, uint64_t first, uint64_t end,
		   bool large)
{
	/* A wish: a kernel without large pages loses nothing. */
	(void)madvise(window_at(w, first), (end - first) * PAGE_SIZE,
		      large && w->offers_large ? MADV_HUGEPAGE
					       : MADV_NOHUGEPAGE);
}

bool page_claim(struct kvm_window *w, uint64_t page)
{
	if (physmap_change(w->map, PHYSMAP_BY_VM, ppn(page), physmap_zero(),
			   physmap_home()) != PHYSMAP_CHANGED)
		return false;
	w->stats.claimed++;
	return true;
}

bool chunks_claim_all(struct kvm_window *w)
{
	const uint64_t home = physmap_counts(w->map).pages[PHYSMAP_HOME];

	if (atomic_load(&w->broken) ||
	    physmap_allowance(w->map) < w->n_pages - home)
		return false;
	w->stats.claimed += physmap_claim_run(w->map, ppn(0), w->n_pages);
	if (physmap_counts(w->map).pages[PHYSMAP_HOME] != w->n_pages)
		return false;
	advise(w, 0, w->n_pages, true);
	set_devices_large(w, w->offers_large);
	return true;
}

/* The first page from one on that has memory, or UINT64_MAX. */
static uint64_t first_data(const struct kvm_window *w, uint64_t page)
{
	const off_t data = lseek(w->machine->home_fd, (off_t)(page * PAGE_SIZE),
				 SEEK_DATA);

	return data < 0 ? UINT64_MAX : (uint64_t)data / PAGE_SIZE;
}

/* Whether some page of the range has memory. */
static bool has_data(const struct kvm_window *w, uint64_t first, uint64_t end)
{
	return first_data(w, first) < end;
}

uint64_t chunks_untouched(const struct kvm_window *w, uint64_t first,
			  uint64_t end)
{
	uint64_t p = first, data;

	while (p < end && chunk_is_plain(w, p))
		p = chunk_end(w, p);
	if (p == first)
		return 0;
	data = first_data(w, first);
	return min_u64(min_u64(p, end), data) - first;
}

void chunks_start_plain(struct kvm_window *w)
{
	if (!w->offers_large || w->loaded_large)
		return;
	/* What was loaded before all of RAM was ours is in small pages. */
	for (uint64_t c = 0; c < w->n_chunks; c++) {
		const uint64_t first = c * w->chunk_pages;

		if (has_data(w, first, chunk_end(w, first)))
			set_state(w, c, CHUNK_SMALL);
	}
}

bool chunk_is_plain(const struct kvm_window *w, uint64_t page)
{
	return w->chunks[chunk_of(w, page)].state <= CHUNK_SMALL;
}

void chunk_watch(struct kvm_window *w, uint64_t page)
{
	const uint64_t chunk = chunk_of(w, page);
	const uint64_t first = chunk * w->chunk_pages;

	if (chunk_is_plain(w, page)) {
		/* From now on a large page would be memory that nobody was given. */
		set_devices_large(w, false);
		advise(w, first, chunk_end(w, page), false);
		window_watch_home(w, first, chunk_end(w, page));
		w->stats.chunks_registered++;
		w->stats.registrations++;
	}
	set_state(w, chunk, CHUNK_REGISTERED);
}

static void make_plain(struct kvm_window *w, uint64_t chunk,
		       enum chunk_state state)
{
	const uint64_t first = chunk * w->chunk_pages;
	const uint64_t end = chunk_end(w, first);

	set_state(w, chunk, state);
	w->stats.chunks_registered--;
	w->stats.chunks_rebuilt++;
	advise(w, first, end, true);
	window_unwatch(w, first, end);
}

static bool is_whole(const struct kvm_window *w, uint64_t chunk)
{
	const uint64_t first = chunk * w->chunk_pages;
	const uint64_t end = chunk_end(w, first);

	for (uint64_t page = first; page < end; page++)
		if (!is_plain_home(w, page))
			return false;
	return true;
}

/* All of them HOME, or ZERO and to be had. */
static bool can_claim(const struct kvm_window *w, uint64_t first, uint64_t end)
{
	if (atomic_load(&w->broken) || !w->cfg.large_pages ||
	    physmap_allowance(w->map) < CLAIM_ALLOWANCE + (end - first))
		return false;
	for (uint64_t page = first; page < end; page++) {
		if (!is_plain_home(w, page) &&
		    physmap_load(w->map, ppn(page)) != physmap_zero())
			return false;
	}
	return true;
}

bool chunk_claim(struct kvm_window *w, uint64_t page)
{
	const uint64_t chunk = chunk_of(w, page);
	const uint64_t first = chunk * w->chunk_pages;
	const uint64_t end = chunk_end(w, page);

	/* Where pages are being taken one by one, they come one by one. */
	if (w->chunks[chunk].state != CHUNK_QUIET || !can_claim(w, first, end))
		return false;
	w->stats.claimed += physmap_claim_run(w->map, ppn(first), end - first);
	if (!is_whole(w, chunk))
		return false;
	make_plain(w, chunk,
		   has_data(w, first, end) ? CHUNK_SMALL : CHUNK_PLAIN);
	return true;
}

static void collapse(struct kvm_window *w, uint64_t chunk)
{
	const uint64_t first = chunk * w->chunk_pages;
	const uint64_t end = chunk_end(w, first);

	set_state(w, chunk, CHUNK_PLAIN);
	for (uint64_t p = first; p + LARGE_PAGES <= end; p += LARGE_PAGES)
		if (!madvise(window_at(w, p), LARGE_BYTES, MADV_COLLAPSE))
			w->stats.collapsed++;
}

/* Return: whether that was much work. */
static bool look_at(struct kvm_window *w, uint64_t chunk)
{
	const bool large = w->offers_large && !atomic_load(&w->broken);

	if (w->chunks[chunk].age < UINT8_MAX)
		w->chunks[chunk].age++;
	switch ((enum chunk_state)w->chunks[chunk].state) {
	case CHUNK_PLAIN:
		return false;
	case CHUNK_REGISTERED:
		set_state(w, chunk, CHUNK_QUIET);
		return false;
	case CHUNK_QUIET:
		if (is_whole(w, chunk))
			make_plain(w, chunk, large ? CHUNK_SMALL : CHUNK_PLAIN);
		return false;
	case CHUNK_SMALL:
		break;
	}
	/* That is work, and for nothing if pages are taken from it again. */
	if (!large || w->chunks[chunk].age < COLLAPSE_AGE)
		return false;
	collapse(w, chunk);
	return true;
}

bool chunks_audit(const struct kvm_window *w)
{
	uint64_t n_small = 0, n_registered = 0;

	for (uint64_t c = 0; c < w->n_chunks; c++) {
		n_small += w->chunks[c].state == CHUNK_SMALL;
		n_registered += w->chunks[c].state > CHUNK_SMALL;
	}
	return n_small == w->n_small &&
	       n_registered == w->stats.chunks_registered &&
	       !(n_registered && w->devices_large);
}

bool chunks_need_look(const struct kvm_window *w)
{
	return w->stats.chunks_registered ||
	       (w->n_small && !atomic_load(&w->broken));
}

void chunks_look(struct kvm_window *w)
{
	unsigned int work = 0;

	pthread_mutex_lock(w->cfg.lock);
	for (uint64_t i = 0; i < w->n_chunks && !w->open; i++) {
		w->look_at = (w->look_at + 1) % w->n_chunks;
		work += look_at(w, w->look_at);
		if (work == COLLAPSE_MAX)
			break;
	}
	pthread_mutex_unlock(w->cfg.lock);
}

/* Memory behind the home file, as the kernel says. */
static uint64_t file_pages(const struct kvm_window *w)
{
	struct stat st;

	return fstat(w->machine->home_fd, &st)
		       ? 0
		       : (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

/* Only we, who have the lock, would make it HOME again. */
static bool is_away(const struct kvm_window *w, uint64_t page)
{
	const uint64_t entry = physmap_load(w->map, ppn(page));

	return !physmap_is_busy(entry) && physmap_state(entry) != PHYSMAP_HOME;
}

static void drop_strays_of(struct kvm_window *w, uint64_t first, uint64_t end)
{
	while (first < end) {
		uint64_t n = 0;

		while (first + n < end && is_away(w, first + n))
			n++;
		if (n && machine_home_drop_run(w->machine, ppn(first), n))
			w->stats.strays += n;
		first += n ? n : 1;
	}
}

void chunks_drop_strays(struct kvm_window *w)
{
	const struct physmap_counts counts = physmap_counts(w->map);
	uint64_t start, end = 0;

	w->strays_ns = monotonic_ns();
	if (w->open || file_pages(w) <= counts.pages[PHYSMAP_HOME] +
						counts.pages[PHYSMAP_BUSY])
		return;
	while (memfile_data_next(w->machine->home_fd, w->n_pages * PAGE_SIZE,
				 end, &start, &end))
		drop_strays_of(w, start / PAGE_SIZE, end / PAGE_SIZE);
}

/*
 * Nobody but us can put memory there now: it is watched, and the lock is ours. But what the
 * kernel called a hole may have contents: before Linux 6.4 it says so of all pages of which
 * khugepaged makes a large one at that moment. Reading waits for the end of that.
 */
static void drop_hole(struct kvm_window *w, uint64_t page)
{
	const uint64_t home = physmap_home();
	const uint64_t busy = physmap_busy(home, PHYSMAP_BY_VM);
	const uint64_t zero = physmap_busy(physmap_zero(), PHYSMAP_BY_VM);
	const ppn_t p = ppn(page);

	if (physmap_load(w->map, p) != home ||
	    !memfile_page_is_zero(w->machine->home_fd, page * PAGE_SIZE) ||
	    physmap_change(w->map, PHYSMAP_BY_VM, p, home, busy) !=
		    PHYSMAP_CHANGED)
		return;
	VERIFY(physmap_change(w->map, PHYSMAP_BY_VM, p, busy, zero) ==
	       PHYSMAP_CHANGED);
	VERIFY(physmap_change(w->map, PHYSMAP_BY_VM, p, zero, physmap_zero()) ==
	       PHYSMAP_CHANGED);
	w->stats.given_back++;
}

/* The next hole of the home file at or after a page, as pages; false if there is none. */
static bool next_hole(const struct kvm_window *w, uint64_t page, uint64_t end,
		      uint64_t *ret_first, uint64_t *ret_end)
{
	const int fd = w->machine->home_fd;
	const off_t hole = lseek(fd, (off_t)(page * PAGE_SIZE), SEEK_HOLE);
	off_t data;

	if (hole < 0 || (uint64_t)hole >= end * PAGE_SIZE)
		return false;
	data = lseek(fd, hole, SEEK_DATA);
	*ret_first = (uint64_t)hole / PAGE_SIZE;
	*ret_end = data < 0 || (uint64_t)data / PAGE_SIZE > end
			   ? end
			   : (uint64_t)data / PAGE_SIZE;
	return true;
}

static void give_back_chunk(struct kvm_window *w, uint64_t chunk)
{
	const uint64_t start = chunk * w->chunk_pages;
	const uint64_t limit = chunk_end(w, start);
	uint64_t first, end;

	if (w->uffd < 0 || !next_hole(w, start, limit, &first, &end))
		return;
	if (chunk_is_plain(w, start)) {
		chunk_watch(w, start);
		set_state(w, chunk, CHUNK_QUIET);
	}
	/* Anew: a processor may have touched it before it was watched. */
	for (uint64_t page = start; next_hole(w, page, limit, &first, &end);
	     page = end)
		for (uint64_t p = first; p < end; p++)
			drop_hole(w, p);
}

static bool has_untouched(struct kvm_window *w)
{
	return physmap_counts(w->map).pages[PHYSMAP_HOME] > file_pages(w);
}

void chunks_start_watched(struct kvm_window *w)
{
	for (uint64_t page = 0; page < w->n_pages; page += w->chunk_pages) {
		chunk_watch(w, page);
		set_state(w, chunk_of(w, page), CHUNK_QUIET);
	}
	/* The allowance may have ended while all of RAM was being claimed. */
	for (uint64_t c = 0; c < w->n_chunks && has_untouched(w); c++)
		give_back_chunk(w, c);
}

void chunks_give_back(struct kvm_window *w)
{
	if (!has_untouched(w))
		return;
	for (uint64_t c = 0; c < w->n_chunks; c += GIVE_BACK_MAX) {
		pthread_mutex_lock(w->cfg.lock);
		for (uint64_t i = c; i < c + GIVE_BACK_MAX && i < w->n_chunks &&
				     !w->open && atomic_load(&w->broken);
		     i++)
			give_back_chunk(w, i);
		pthread_mutex_unlock(w->cfg.lock);
	}
}

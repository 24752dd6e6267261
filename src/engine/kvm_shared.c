/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: shared pages.
 *
 * They are mapped from the group's file, privately, so that the kernel lets us write-protect
 * them by userfaultfd although the file is not ours to write. Until the protection is in
 * place the mapping is read-only, and a processor that writes in that very moment gets
 * -EFAULT from KVM and tries again. A write arrives as a write fault, and guest memory
 * copies the page home before anything is written. The number of such mappings is bounded;
 * beyond it a shared page is copied home at its first access.
 *
 * KVM has a worker of the kernel wait in the place of a processor that can do without the page
 * for a moment, and the worker always asks for writing. Answered as a write, that would copy
 * home each shared page that is read. So it gets a run that may be read only, and fails; the
 * processor tries again, and reads. If it does write, it gets -EFAULT, and then all runs may be
 * written.
 */
#include <errno.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <base/verify.h>
#include <engine/kvm_window_impl.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

/* A page of a shared run goes back to the home file, not mapped yet. */
void shared_leave(struct kvm_window *w, uint64_t page)
{
	window_map_watched(w, page, page + 1);
	run_map_remove(&w->shared, page);
}

static bool is_shared_frame(const struct kvm_window *w, uint64_t page,
			    uint64_t frame)
{
	return physmap_load(w->map, ppn(page)) == physmap_shared(frame);
}

/* The run of shared pages around one whose frames follow each other too. */
static void find_run(const struct kvm_window *w, uint64_t page, uint64_t frame,
		     uint64_t *ret_first, uint64_t *ret_end)
{
	const uint64_t lowest = page - page % w->chunk_pages;
	const uint64_t limit = chunk_end(w, page);
	uint64_t first = page, end = page + 1;

	while (first > lowest && frame - (page - first) > 0 &&
	       !run_map_has(&w->shared, first - 1) &&
	       is_shared_frame(w, first - 1, frame - (page - first) - 1))
		first--;
	while (end < limit && !run_map_has(&w->shared, end) &&
	       is_shared_frame(w, end, frame + (end - page)))
		end++;
	*ret_first = first;
	*ret_end = end;
}

static bool let_write(struct kvm_window *w, uint64_t first, uint64_t end)
{
	return !mprotect(window_at(w, first), (end - first) * PAGE_SIZE,
			 PROT_READ | PROT_WRITE);
}

/* What has left its run meanwhile may be written anyway. */
void shared_let_write(struct kvm_window *w)
{
	for (unsigned int i = 0; i < w->n_read_only; i++)
		VERIFY(let_write(w, w->read_only[i].first, w->read_only[i].end));
	w->n_read_only = 0;
}

static void keep_read_only(struct kvm_window *w, uint64_t first, uint64_t end)
{
	if (w->n_read_only == READ_ONLY_MAX)
		shared_let_write(w);
	w->read_only[w->n_read_only++] = (struct page_range){first, end};
}

static bool protect_run(struct kvm_window *w, uint64_t first, uint64_t end,
			bool read_only)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;
	struct uffdio_writeprotect wp = {
		.range = {(uint64_t)(uintptr_t)window_at(w, first), bytes},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int r;

	/* Protection is of entries: have them all. */
	if (madvise(window_at(w, first), bytes, MADV_POPULATE_READ))
		return false;
	window_register(w, first, end, UFFDIO_REGISTER_MODE_WP);
	do
		r = ioctl(w->uffd, UFFDIO_WRITEPROTECT, &wp);
	while (r && (errno == EAGAIN || errno == EINTR));
	if (r)
		return false;
	if (!read_only)
		return let_write(w, first, end);
	keep_read_only(w, first, end);
	return true;
}

static bool map_run(struct kvm_window *w, uint64_t first, uint64_t end,
		    uint64_t frame, bool read_only)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;

	if (mmap(window_at(w, first), bytes, PROT_READ,
		 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, w->machine->group_fd,
		 (off_t)(frame * PAGE_SIZE)) != MAP_FAILED) {
		(void)madvise(window_at(w, first), bytes, MADV_DONTDUMP);
		if (protect_run(w, first, end, read_only))
			return true;
	}
	window_map_watched(w, first, end);
	return false;
}

/* Return: false if the page had better become private. */
bool shared_show(struct kvm_window *w, uint64_t page, uint64_t frame,
		 bool read_only)
{
	uint64_t first, end;

	if (run_map_has(&w->shared, page))
		return true;
	if (!w->fault.write_protect || w->machine->group_fd < 0)
		return false;
	find_run(w, page, frame, &first, &end);

	const uint64_t first_frame = frame - (page - first);
	const bool before = first && first_frame &&
			    is_shared_frame(w, first - 1, first_frame - 1);
	const bool after = end < w->n_pages &&
			   is_shared_frame(w, end, frame + (end - page));

	chunk_watch(w, page);
	if (!run_map_add(&w->shared, first, end, before, after)) {
		w->stats.runs_refused++;
		return false;
	}
	if (map_run(w, first, end, first_frame, read_only)) {
		w->stats.shared_mapped += end - first;
		return true;
	}
	for (uint64_t p = first; p < end; p++)
		run_map_remove(&w->shared, p);
	return false;
}

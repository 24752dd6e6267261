/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: guest RAM as KVM sees it.
 *
 * A page that is HOME is shown by the home file's own mapping, and while nothing was ever
 * taken away that is all there is: the kernel fills holes with zeros by itself. For that
 * every page is made HOME when the VM starts, as far as its allowance goes. HOME says whose
 * the frame is; whether memory is behind it the file knows (st_blocks).
 *
 * The first page that is taken away registers its piece of 2 MiB (a chunk) with
 * userfaultfd, for missing pages and for pages that have memory but are not mapped. Taking
 * the page away is MADV_DONTNEED on its address: when that returns, KVM has dropped its
 * own entries too (the kernel tells it), so no processor needs to be stopped, and the next
 * access of any of them comes to the fault thread. That asks guest memory for the page and
 * has the kernel map it (UFFDIO_CONTINUE), without copying.
 *
 * A chunk whose pages have all been HOME for a while is given back to the kernel, and made a
 * large page again if the host offers them.
 *
 * Shared pages are mapped from the group file, privately, so that the kernel lets us
 * write-protect them by userfaultfd although the file is not ours to write. Until the
 * protection is in place the mapping is read-only, and a processor that writes in that very
 * moment gets -EFAULT from KVM and tries again. A write arrives as a write fault, and guest
 * memory copies the page home before anything is written. The number of such mappings is
 * bounded; beyond it a shared page is copied home at its first access.
 *
 * All of this happens under the lock, with which also comes guest memory. It is held while
 * a fault waits for the host; whoever waits in guest memory carries out revocations.
 */
#include <engine/kvm_window.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <base/verify.h>
#include <engine/run_map.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define CHUNK_SHIFT 21
#define CHUNK_BYTES (UINT64_C(1) << CHUNK_SHIFT)
#define CHUNK_PAGES (CHUNK_BYTES / PAGE_SIZE)
/* Pages mapped with the one that was asked for, if they are there anyway. */
#define AROUND_PAGES 64
/* Pages taken with the one that was asked for while allowance is plentiful. */
#define CLAIM_PAGES     16
#define CLAIM_ALLOWANCE 4096
#define MAX_EVENTS      16
#define REBUILD_MS      1000

enum chunk_state {
	CHUNK_PLAIN,      /* the kernel's alone: all HOME */
	CHUNK_REGISTERED, /* pages may be away */
	CHUNK_QUIET, /* registered, and no page was taken since the last look */
};

/* Members: I immutable, m under cfg.lock, a atomic. */
struct kvm_window {
	struct kvm_window_config cfg; /* I */
	struct machine *machine;      /* I */
	struct physmap *map;          /* I */
	uint64_t n_pages;             /* I */
	uint8_t *base;                /* I */
	uint8_t *reserved;            /* I what munmap() gets */
	uint64_t reserved_bytes;      /* I */
	struct kvm_userfault fault;   /* I */
	int uffd;                     /* I or -1 */
	int wake_fd;                  /* I eventfd */
	uint8_t *chunks;              /* m enum chunk_state each */
	uint64_t n_chunks;            /* I */
	struct run_map shared;        /* m */
	bool open;                    /* m kvm_window_open() */
	pthread_t thread;
	bool started;                  /* owner's thread */
	_Atomic bool ending;           /* a */
	struct kvm_window_stats stats; /* m */
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint8_t *at(const struct kvm_window *w, uint64_t page)
{
	return w->base + page * PAGE_SIZE;
}

static uint64_t chunk_end(const struct kvm_window *w, uint64_t page)
{
	const uint64_t end = (page | (CHUNK_PAGES - 1)) + 1;

	return end < w->n_pages ? end : w->n_pages;
}

static void uffd_register(struct kvm_window *w, uint64_t first, uint64_t end,
			  uint64_t mode)
{
	struct uffdio_register reg = {
		.range = {(uint64_t)(uintptr_t)at(w, first),
			  (end - first) * PAGE_SIZE},
		.mode = mode,
	};
	int r;

	do
		r = ioctl(w->uffd, UFFDIO_REGISTER, &reg);
	while (r && (errno == EAGAIN || errno == EINTR));
	/* Our own mapping, of a kind that was probed: nothing else can be wrong. */
	VERIFY(!r);
}

static void register_home(struct kvm_window *w, uint64_t first, uint64_t end)
{
	uffd_register(w, first, end,
		      UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_MINOR);
}

static void unregister(struct kvm_window *w, uint64_t first, uint64_t end)
{
	struct uffdio_range range = {(uint64_t)(uintptr_t)at(w, first),
				     (end - first) * PAGE_SIZE};

	/* Wakes who waits there. Fails only for what was not registered. */
	(void)ioctl(w->uffd, UFFDIO_UNREGISTER, &range);
}

static void wake(struct kvm_window *w, uint64_t page)
{
	struct uffdio_range range = {(uint64_t)(uintptr_t)at(w, page),
				     PAGE_SIZE};

	(void)ioctl(w->uffd, UFFDIO_WAKE, &range);
}

static void need_registration(struct kvm_window *w, uint64_t page)
{
	const uint64_t chunk = page / CHUNK_PAGES;

	if (w->chunks[chunk] == CHUNK_PLAIN) {
		register_home(w, chunk * CHUNK_PAGES, chunk_end(w, page));
		w->stats.chunks_registered++;
	}
	w->chunks[chunk] = CHUNK_REGISTERED;
}

static void advise(const struct kvm_window *w, uint8_t *addr, uint64_t bytes)
{
	/* Both are wishes: a kernel that does not know them loses nothing. */
	(void)madvise(addr, bytes, MADV_DONTDUMP);
	if (w->cfg.large_pages)
		(void)madvise(addr, bytes, MADV_HUGEPAGE);
}

static bool map_home(struct kvm_window *w, uint64_t first, uint64_t end)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;

	if (mmap(at(w, first), bytes, PROT_READ | PROT_WRITE,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, w->machine->home_fd,
		 (off_t)(first * PAGE_SIZE)) == MAP_FAILED)
		return false;
	advise(w, at(w, first), bytes);
	return true;
}

/* A page of a shared run goes back to the home file, not mapped yet. */
static void leave_run(struct kvm_window *w, uint64_t page)
{
	/* The bound on runs keeps the number of mappings far from the kernel's. */
	VERIFY(map_home(w, page, page + 1));
	register_home(w, page, page + 1);
	run_map_remove(&w->shared, page);
}

static void on_unmap(void *ctx, ppn_t page)
{
	struct kvm_window *w = ctx;

	if (w->open)
		return;
	w->stats.unmaps++;
	if (run_map_has(&w->shared, page.v)) {
		leave_run(w, page.v);
		w->chunks[page.v / CHUNK_PAGES] = CHUNK_REGISTERED;
		return;
	}
	need_registration(w, page.v);
	VERIFY(!madvise(at(w, page.v), PAGE_SIZE, MADV_DONTNEED));
}

static void signal_thread(struct kvm_window *w)
{
	const uint64_t one = 1;
	const ssize_t n = write(w->wake_fd, &one, sizeof(one));

	(void)n; /* fails only if it is readable already */
}

static void on_kick(void *ctx)
{
	signal_thread(ctx);
}

static const struct guestmem_ops mem_ops = {
	.unmap = on_unmap,
	.kick = on_kick,
};

static bool is_plain_home(const struct kvm_window *w, uint64_t page)
{
	return physmap_load(w->map, ppn(page)) == PHYSMAP_HOME_ENTRY &&
	       !run_map_has(&w->shared, page);
}

/* Map pages of the home file that have memory. Return: how many from the first on. */
static uint64_t map_pages(struct kvm_window *w, uint64_t first, uint64_t end)
{
	struct uffdio_continue cont = {
		.range = {(uint64_t)(uintptr_t)at(w, first),
			  (end - first) * PAGE_SIZE},
		.mode = UFFDIO_CONTINUE_MODE_DONTWAKE,
	};

	if (first >= end)
		return 0;
	for (;;) {
		if (!ioctl(w->uffd, UFFDIO_CONTINUE, &cont))
			return end - first;
		if (cont.mapped > 0)
			return (uint64_t)cont.mapped / PAGE_SIZE;
		if (errno != EAGAIN && errno != EINTR)
			return 0;
		cont.mapped = 0;
	}
}

static bool take_zero(struct kvm_window *w, uint64_t page)
{
	if (physmap_change(w->map, PHYSMAP_BY_VM, ppn(page), physmap_zero(),
			   physmap_home()) != PHYSMAP_CHANGED)
		return false;
	w->stats.claimed++;
	return true;
}

/* First touches come in sequences: while pages are plentiful take some more at once. */
static void claim_around(struct kvm_window *w, uint64_t page)
{
	const uint64_t first = page & ~(uint64_t)(CLAIM_PAGES - 1);

	if (physmap_allowance(w->map) < CLAIM_ALLOWANCE)
		return;
	for (uint64_t p = first; p < first + CLAIM_PAGES && p < w->n_pages; p++) {
		if (physmap_load(w->map, ppn(p)) != physmap_zero() ||
		    !take_zero(w, p))
			continue;
		/* Without memory it stays a page of zeros that is ours. */
		if (!machine_home_populate(w->machine, ppn(p)))
			w->stats.mapped += map_pages(w, p, p + 1);
	}
}

static bool show_home(struct kvm_window *w, uint64_t page)
{
	const uint64_t limit = chunk_end(w, page);
	uint64_t end = page + 1;

	if (run_map_has(&w->shared, page))
		leave_run(w, page);
	/* HOME does not say that there is memory. */
	if (machine_home_populate(w->machine, ppn(page)))
		return false;
	w->stats.mapped += map_pages(w, page, end);
	while (end < limit && end < page + AROUND_PAGES && is_plain_home(w, end))
		end++;
	w->stats.mapped += map_pages(w, page + 1, end);
	return true;
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
	const uint64_t lowest = page & ~(CHUNK_PAGES - 1);
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

static bool protect_run(struct kvm_window *w, uint64_t first, uint64_t end)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;
	struct uffdio_writeprotect wp = {
		.range = {(uint64_t)(uintptr_t)at(w, first), bytes},
		.mode = UFFDIO_WRITEPROTECT_MODE_WP,
	};
	int r;

	/* Protection is of entries: have them all. */
	if (madvise(at(w, first), bytes, MADV_POPULATE_READ))
		return false;
	uffd_register(w, first, end, UFFDIO_REGISTER_MODE_WP);
	do
		r = ioctl(w->uffd, UFFDIO_WRITEPROTECT, &wp);
	while (r && (errno == EAGAIN || errno == EINTR));
	return !r && !mprotect(at(w, first), bytes, PROT_READ | PROT_WRITE);
}

static bool map_run(struct kvm_window *w, uint64_t first, uint64_t end,
		    uint64_t frame)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;

	if (mmap(at(w, first), bytes, PROT_READ,
		 MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, w->machine->group_fd,
		 (off_t)(frame * PAGE_SIZE)) != MAP_FAILED) {
		(void)madvise(at(w, first), bytes, MADV_DONTDUMP);
		if (protect_run(w, first, end))
			return true;
	}
	VERIFY(map_home(w, first, end));
	register_home(w, first, end);
	return false;
}

/* Return: false if the page had better become private. */
static bool show_shared(struct kvm_window *w, uint64_t page, uint64_t frame)
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

	need_registration(w, page);
	if (!run_map_add(&w->shared, first, end, before, after)) {
		w->stats.runs_refused++;
		return false;
	}
	if (map_run(w, first, end, first_frame)) {
		w->stats.shared_mapped += end - first;
		return true;
	}
	for (uint64_t p = first; p < end; p++)
		run_map_remove(&w->shared, p);
	return false;
}

static bool show(struct kvm_window *w, const struct mem_page *page)
{
	if (page->writable)
		return show_home(w, page->ppn.v);
	/* The common page of zeros cannot be shown: KVM would not see the end of it. */
	if (page->ma.v < MACHINE_GROUP)
		return false;
	return show_shared(w, page->ppn.v,
			   (page->ma.v - MACHINE_GROUP) / PAGE_SIZE);
}

static void bring(struct kvm_window *w, uint64_t number, bool write)
{
	const gpa_t addr = guestmem_gpa(w->cfg.mem, ppn(number));
	const bool was_zero = physmap_load(w->map, ppn(number)) ==
			      physmap_zero();
	struct mem_page page;
	enum mem_status status = guestmem_resolve(w->cfg.mem, addr,
						  write ? MEM_WRITE : MEM_READ,
						  &page);

	if (status == MEM_OK && !show(w, &page)) {
		status = guestmem_resolve(w->cfg.mem, addr, MEM_WRITE, &page);
		if (status == MEM_OK && !show(w, &page))
			status = MEM_NO_HOST_MEMORY;
	}
	if (status != MEM_OK) {
		w->cfg.failed(w->cfg.ctx);
		kvm_window_open(w);
		return;
	}
	if (was_zero)
		claim_around(w, number);
	wake(w, number);
}

static void on_fault(struct kvm_window *w, const struct uffd_msg *msg)
{
	const uint64_t flags = msg->arg.pagefault.flags;
	const uint64_t start = now_ns();
	const uint64_t page = (msg->arg.pagefault.address -
			       (uint64_t)(uintptr_t)w->base) /
			      PAGE_SIZE;

	pthread_mutex_lock(w->cfg.lock);
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		w->stats.write_faults++;
	else if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		w->stats.minor_faults++;
	else
		w->stats.missing_faults++;
	if (w->open)
		wake(w, page);
	else
		bring(w, page,
		      flags & (UFFD_PAGEFAULT_FLAG_WP |
			       UFFD_PAGEFAULT_FLAG_WRITE));
	w->stats.stall_ns += now_ns() - start;
	pthread_mutex_unlock(w->cfg.lock);
}

static void serve_faults(struct kvm_window *w)
{
	struct uffd_msg msgs[MAX_EVENTS];
	const ssize_t n = read(w->uffd, msgs, sizeof(msgs));

	for (ssize_t i = 0; i < n / (ssize_t)sizeof(msgs[0]); i++)
		if (msgs[i].event == UFFD_EVENT_PAGEFAULT)
			on_fault(w, &msgs[i]);
}

static bool chunk_is_whole(const struct kvm_window *w, uint64_t chunk)
{
	const uint64_t first = chunk * CHUNK_PAGES;
	const uint64_t end = chunk_end(w, first);

	for (uint64_t page = first; page < end; page++)
		if (!is_plain_home(w, page))
			return false;
	return true;
}

static void rebuild(struct kvm_window *w, uint64_t chunk)
{
	const uint64_t first = chunk * CHUNK_PAGES;
	const uint64_t end = chunk_end(w, first);

	unregister(w, first, end);
	w->chunks[chunk] = CHUNK_PLAIN;
	w->stats.chunks_registered--;
	w->stats.chunks_rebuilt++;
	if (w->cfg.large_pages && end - first == CHUNK_PAGES &&
	    !madvise(at(w, first), CHUNK_BYTES, MADV_COLLAPSE))
		w->stats.collapsed++;
}

/* Give chunks back to the kernel that have been whole since the last look. */
static void rebuild_quiet(struct kvm_window *w)
{
	pthread_mutex_lock(w->cfg.lock);
	for (uint64_t c = 0; c < w->n_chunks && !w->open; c++) {
		if (w->chunks[c] == CHUNK_QUIET && chunk_is_whole(w, c))
			rebuild(w, c);
		else if (w->chunks[c] == CHUNK_REGISTERED)
			w->chunks[c] = CHUNK_QUIET;
	}
	pthread_mutex_unlock(w->cfg.lock);
}

static void service(struct kvm_window *w)
{
	uint64_t n;
	const ssize_t r = read(w->wake_fd, &n, sizeof(n));

	(void)r; /* nothing there is fine: the descriptor does not block */
	pthread_mutex_lock(w->cfg.lock);
	guestmem_service(w->cfg.mem);
	pthread_mutex_unlock(w->cfg.lock);
}

static bool any_registered(struct kvm_window *w)
{
	bool any;

	pthread_mutex_lock(w->cfg.lock);
	any = w->stats.chunks_registered;
	pthread_mutex_unlock(w->cfg.lock);
	return any;
}

static void *fault_loop(void *arg)
{
	struct kvm_window *w = arg;
	uint64_t looked_ns = now_ns();

	while (!atomic_load(&w->ending)) {
		struct pollfd fds[] = {
			{.fd = w->wake_fd, .events = POLLIN},
			{.fd = w->uffd, .events = POLLIN},
		};
		const bool busy = any_registered(w);

		poll(fds, ARRAY_SIZE(fds), busy ? REBUILD_MS : -1);
		if (fds[0].revents)
			service(w);
		if (fds[1].revents & POLLIN)
			serve_faults(w);
		if (busy && now_ns() - looked_ns > REBUILD_MS * 1000000ULL) {
			rebuild_quiet(w);
			looked_ns = now_ns();
		}
	}
	return NULL;
}

/* Aligned so that a large page of the file is one of the window. */
static int reserve(struct kvm_window *w, struct err *err)
{
	w->reserved_bytes = w->n_pages * PAGE_SIZE + 2 * CHUNK_BYTES;
	w->reserved = mmap(NULL, w->reserved_bytes, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->reserved == MAP_FAILED) {
		w->reserved = NULL;
		return err_set(err, -errno,
			       "cannot reserve addresses for guest memory: %s",
			       strerror(errno));
	}
	w->base = w->reserved + (-(uintptr_t)w->reserved & (CHUNK_BYTES - 1));
	return 0;
}

static int build(struct kvm_window *w, struct err *err)
{
	int r = reserve(w, err);

	if (r)
		return r;
	if (!map_home(w, 0, w->n_pages))
		return err_set(err, -errno, "cannot map guest memory: %s",
			       strerror(errno));
	w->n_chunks = (w->n_pages + CHUNK_PAGES - 1) / CHUNK_PAGES;
	w->chunks = calloc(w->n_chunks, 1);
	if (!w->chunks)
		return err_set(err, -ENOMEM, "out of memory");
	if (run_map_init(&w->shared, w->n_pages, w->cfg.max_runs))
		return err_set(err, -ENOMEM, "out of memory");
	w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (w->wake_fd < 0)
		return err_set(err, -errno, "eventfd: %s", strerror(errno));
	w->uffd = kvm_userfault_open(&w->fault);
	return 0;
}

int kvm_window_new(const struct kvm_window_config *cfg, struct kvm_window **ret,
		   struct err *err)
{
	struct kvm_window *w = calloc(1, sizeof(*w));

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->cfg = *cfg;
	w->machine = guestmem_machine(cfg->mem);
	w->map = guestmem_physmap(cfg->mem);
	w->n_pages = physmap_pages(w->map);
	w->uffd = -1;
	w->wake_fd = -1;

	int r = build(w, err);

	if (r) {
		kvm_window_free(w);
		return r;
	}
	guestmem_set_ops(cfg->mem, &mem_ops, w);
	*ret = w;
	return 0;
}

struct kvm_window *kvm_window_free(struct kvm_window *w)
{
	if (!w)
		return NULL;
	if (w->started) {
		atomic_store(&w->ending, true);
		signal_thread(w);
		pthread_join(w->thread, NULL);
	}
	guestmem_set_ops(w->cfg.mem, NULL, NULL);
	if (w->uffd >= 0)
		close(w->uffd);
	if (w->wake_fd >= 0)
		close(w->wake_fd);
	if (w->reserved)
		munmap(w->reserved, w->reserved_bytes);
	run_map_release(&w->shared);
	free(w->chunks);
	free(w);
	return NULL;
}

uint8_t *kvm_window_base(const struct kvm_window *w)
{
	return w->base;
}

/* Return: whether every page is HOME now. */
static bool claim_all(struct kvm_window *w)
{
	const struct physmap_counts counts = physmap_counts(w->map);
	const uint64_t home = counts.pages[PHYSMAP_HOME];

	if (physmap_allowance(w->map) < w->n_pages - home)
		return false;
	for (uint64_t page = 0; page < w->n_pages; page++)
		if (physmap_load(w->map, ppn(page)) == physmap_zero())
			take_zero(w, page);
	return physmap_counts(w->map).pages[PHYSMAP_HOME] == w->n_pages;
}

int kvm_window_start(struct kvm_window *w, struct err *err)
{
	int r;

	pthread_mutex_lock(w->cfg.lock);
	if (!claim_all(w) && w->uffd >= 0)
		for (uint64_t page = 0; page < w->n_pages; page += CHUNK_PAGES)
			need_registration(w, page);
	r = w->uffd < 0 &&
	    physmap_counts(w->map).pages[PHYSMAP_HOME] != w->n_pages;
	pthread_mutex_unlock(w->cfg.lock);
	if (r)
		return err_set(err, -ENOTSUP,
			       "guest memory cannot be managed under KVM: %s",
			       w->fault.reason);
	r = pthread_create(&w->thread, NULL, fault_loop, w);
	if (r)
		return err_set(err, -r, "no thread for guest memory: %s",
			       strerror(r));
	w->started = true;
	return 0;
}

void kvm_window_open(struct kvm_window *w)
{
	if (w->open || w->uffd < 0)
		return;
	w->open = true;
	unregister(w, 0, w->n_pages);
}

struct kvm_window_stats kvm_window_stats(const struct kvm_window *w)
{
	struct kvm_window_stats s;

	pthread_mutex_lock(w->cfg.lock);
	s = w->stats;
	s.runs = run_map_runs(&w->shared);
	pthread_mutex_unlock(w->cfg.lock);
	return s;
}

int64_t kvm_window_audit(struct kvm_window *w, struct err *err)
{
	if (!run_map_audit(&w->shared))
		return err_set(err, -EILSEQ,
			       "the count of mapped runs is wrong");
	for (uint64_t page = 0; page < w->n_pages; page++) {
		const uint64_t entry = physmap_load(w->map, ppn(page));
		const enum physmap_state state = physmap_stable_state(entry);

		if (run_map_has(&w->shared, page) && !physmap_is_busy(entry) &&
		    state != PHYSMAP_SHARED)
			return err_set(err, -EILSEQ,
				       "page %llu is shown as shared but is %s",
				       (unsigned long long)page,
				       physmap_state_name(state));
		if (w->chunks[page / CHUNK_PAGES] == CHUNK_PLAIN &&
		    !physmap_is_busy(entry) && entry != PHYSMAP_HOME_ENTRY)
			return err_set(
				err, -EILSEQ,
				"page %llu is %s in a chunk that is not watched",
				(unsigned long long)page,
				physmap_state_name(state));
	}
	return (int64_t)w->n_pages;
}

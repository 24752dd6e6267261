/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest RAM window: guest RAM as KVM sees it.
 *
 * A page that is HOME is shown by the home file's own mapping, and while nothing was ever
 * taken away that is all there is: the kernel fills holes with zeros by itself.
 *
 * The first page that is taken away registers its chunk (kvm_chunks.c) with userfaultfd,
 * for missing pages and for pages that have memory but are not mapped. Taking
 * the page away is MADV_DONTNEED on its address: when that returns, KVM has dropped its
 * own entries too (the kernel tells it), so no processor needs to be stopped, and the next
 * access of any of them comes to the fault thread. That asks guest memory for the page and
 * has the kernel map it (UFFDIO_CONTINUE), without copying.
 *
 * All of this happens under the lock, with which also comes guest memory. It is held while
 * a fault waits for the host; whoever waits in guest memory carries out revocations.
 */
#include <engine/kvm_window.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/thread.h>
#include <base/verify.h>
#include <engine/kvm_window_impl.h>
#include <mem/memfile.h>

/* Pages mapped with the one that was asked for, if they are there anyway. */
#define AROUND_PAGES 64
/* Pages taken at the first touch of one … */
#define CLAIM_PAGES 16
/* … and at most this part of the allowance. */
#define CLAIM_PART 64
#define MAX_EVENTS 16
#define LOOK_MS    1000
#define LOOK_NS    (LOOK_MS * UINT64_C(1000000))

void window_register(struct kvm_window *w, uint64_t first, uint64_t end,
		     uint64_t mode)
{
	struct uffdio_register reg = {
		.range = {(uint64_t)(uintptr_t)window_at(w, first),
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

void window_watch_home(struct kvm_window *w, uint64_t first, uint64_t end)
{
	window_register(w, first, end,
			UFFDIO_REGISTER_MODE_MISSING |
				UFFDIO_REGISTER_MODE_MINOR);
}

void window_unwatch(struct kvm_window *w, uint64_t first, uint64_t end)
{
	struct uffdio_range range = {(uint64_t)(uintptr_t)window_at(w, first),
				     (end - first) * PAGE_SIZE};

	/* Wakes who waits there. Fails only for what was not registered. */
	(void)ioctl(w->uffd, UFFDIO_UNREGISTER, &range);
}

/* The guest is told of each second of waiting, also of one that is made of many short waits. */
static void count_wait(struct kvm_window *w, uint64_t ns)
{
	w->untold_ns += ns;
	if (w->untold_ns < KVM_WINDOW_STALL_NS)
		return;
	w->untold_ns = 0;
	if (w->cfg.stalled)
		w->cfg.stalled(w->cfg.ctx);
}

/* Of the time that the fault waits which is being served, what has not been counted. */
static uint64_t fault_wait_ns(struct kvm_window *w)
{
	const uint64_t now = monotonic_ns();
	const uint64_t ns = now - w->fault_ns;

	w->fault_ns = now;
	return ns;
}

static void wake(struct kvm_window *w, uint64_t page)
{
	/* Before the processor goes on: afterwards it might look at its clock. */
	if (w->fault_ns)
		count_wait(w, fault_wait_ns(w));
	w->fault_ns = 0;

	struct uffdio_range range = {(uint64_t)(uintptr_t)window_at(w, page),
				     PAGE_SIZE};

	(void)ioctl(w->uffd, UFFDIO_WAKE, &range);
}

static bool map_home(struct kvm_window *w, uint64_t first, uint64_t end,
		     int protection)
{
	const uint64_t bytes = (end - first) * PAGE_SIZE;

	if (mmap(window_at(w, first), bytes, protection,
		 MAP_SHARED | MAP_FIXED | MAP_NORESERVE, w->machine->home_fd,
		 (off_t)(first * PAGE_SIZE)) == MAP_FAILED)
		return false;
	/* A wish: a kernel that does not know it loses nothing. */
	(void)madvise(window_at(w, first), bytes, MADV_DONTDUMP);
	memfile_small_pages(window_at(w, first), bytes);
	return true;
}

void window_map_watched(struct kvm_window *w, uint64_t first, uint64_t end)
{
	/*
	 * Nobody gets in before it is watched: the kernel would put a page of zeros there by
	 * itself. A processor that tries gets -EFAULT from KVM, and tries again.
	 * The bound on runs keeps the number of mappings far from the kernel's.
	 */
	VERIFY(map_home(w, first, end, PROT_NONE));
	window_watch_home(w, first, end);
	VERIFY(!mprotect(window_at(w, first), (end - first) * PAGE_SIZE,
			 PROT_READ | PROT_WRITE));
}

/* Pages of the home file: each call has KVM stop all processors for a moment. */
static void forget(struct kvm_window *w, uint64_t first, uint64_t end)
{
	if (first == end)
		return;
	for (uint64_t p = first; p < end; p = chunk_end(w, p))
		chunk_watch(w, p);
	VERIFY(!madvise(window_at(w, first), (end - first) * PAGE_SIZE,
			MADV_DONTNEED));
}

static void on_unmap_run(void *ctx, ppn_t first, uint64_t n_pages)
{
	struct kvm_window *w = ctx;
	const uint64_t end = first.v + n_pages;
	uint64_t start = first.v;

	if (w->open)
		return;
	w->stats.unmaps += n_pages;
	for (uint64_t p = start; p < end; p++) {
		if (!run_map_has(&w->shared, p))
			continue;
		forget(w, start, p);
		shared_leave(w, p);
		chunk_watch(w, p);
		start = p + 1;
	}
	forget(w, start, end);
}

/* A hole that is none, as there may be while a large page is made, is data that stays. */
static uint64_t on_untouched(void *ctx, ppn_t first, uint64_t n_pages)
{
	const struct kvm_window *w = ctx;

	return w->open ? 0 : chunks_untouched(w, first.v, first.v + n_pages);
}

/*
 * Our thread may be the one that waits, with the lock. What is behind pages that are away must go
 * all the same: the host, which has none to give, takes it for stolen. And the guest is told
 * meanwhile: KVM lets a processor whose page a worker fetches take interrupts, so its watchdog
 * looks at the clock before the page is there. A processor may wait here for a device, too.
 */
static void on_waiting(void *ctx, uint64_t ns)
{
	struct kvm_window *w = ctx;

	count_wait(w, w->fault_ns ? fault_wait_ns(w) : ns);
	if (monotonic_ns() - w->strays_ns >= LOOK_NS)
		chunks_drop_strays(w);
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
	.unmap_run = on_unmap_run,
	.untouched = on_untouched,
	.waiting = on_waiting,
	.kick = on_kick,
};

/* Map pages of the home file that have memory. Return: how many from the first on. */
static uint64_t map_pages(struct kvm_window *w, uint64_t first, uint64_t end)
{
	struct uffdio_continue cont = {
		.range = {(uint64_t)(uintptr_t)window_at(w, first),
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

/* Pages that have just become HOME: they have no memory, and nobody has mapped them. */
static bool show_claimed(struct kvm_window *w, uint64_t first, uint64_t end)
{
	if (first == end)
		return true;
	if (machine_home_populate_run(w->machine, ppn(first), end - first))
		return false;
	w->stats.mapped += map_pages(w, first, end);
	return true;
}

/* How many pages one fault takes: a block of a power of two. */
static uint64_t claim_size(const struct kvm_window *w)
{
	const uint64_t part = physmap_allowance(w->map) / CLAIM_PART;
	uint64_t n = CLAIM_PAGES;

	while (n > 1 && n > part)
		n /= 2;
	return n;
}

/*
 * First touches come in sequences: take some more pages at once, as far as allowance is not
 * scarce. Return: false if this page had better go the usual way.
 */
static bool claim_around(struct kvm_window *w, uint64_t page)
{
	const uint64_t n = claim_size(w);
	const uint64_t first = page & ~(n - 1);
	const uint64_t end = first + n < w->n_pages ? first + n : w->n_pages;
	bool good = true, mine = false;
	uint64_t start = first;

	for (uint64_t p = first; p < end; p++) {
		if (physmap_load(w->map, ppn(p)) == physmap_zero() &&
		    page_claim(w, p)) {
			mine |= p == page;
			continue;
		}
		good &= show_claimed(w, start, p);
		start = p + 1;
	}
	/* Without memory they stay pages of zeros that are ours. */
	return show_claimed(w, start, end) && good && mine;
}

static bool show_home(struct kvm_window *w, uint64_t page)
{
	const uint64_t limit = chunk_end(w, page);
	uint64_t end = page + 1;

	if (run_map_has(&w->shared, page))
		shared_leave(w, page);
	/* HOME does not say that there is memory. */
	if (machine_home_populate(w->machine, ppn(page)))
		return false;
	w->stats.mapped += map_pages(w, page, end);
	while (end < limit && end < page + AROUND_PAGES && is_plain_home(w, end))
		end++;
	w->stats.mapped += map_pages(w, page + 1, end);
	return true;
}

static bool show(struct kvm_window *w, const struct mem_page *page,
		 bool read_only)
{
	if (page->writable)
		return show_home(w, page->ppn.v);
	/* The common page of zeros cannot be shown: KVM would not see the end of it. */
	if (page->ma.v < MACHINE_GROUP)
		return false;
	return shared_show(w, page->ppn.v,
			   (page->ma.v - MACHINE_GROUP) / PAGE_SIZE, read_only);
}

static void bring(struct kvm_window *w, uint64_t number, bool write,
		  bool by_worker)
{
	const gpa_t addr = guestmem_gpa(w->cfg.mem, ppn(number));
	const bool was_zero = physmap_load(w->map, ppn(number)) ==
			      physmap_zero();
	struct mem_page page;
	enum mem_status status;

	/* Then its first touch is the kernel's, and makes a large page. */
	if (was_zero && chunk_claim(w, number))
		return;
	if (was_zero && claim_around(w, number)) {
		wake(w, number);
		return;
	}
	status = guestmem_resolve(w->cfg.mem, addr,
				  write ? MEM_WRITE : MEM_READ, &page);

	if (status == MEM_OK && !show(w, &page, by_worker)) {
		status = guestmem_resolve(w->cfg.mem, addr, MEM_WRITE, &page);
		if (status == MEM_OK && !show(w, &page, false))
			status = MEM_NO_HOST_MEMORY;
	}
	if (status != MEM_OK) {
		w->cfg.failed(w->cfg.ctx);
		kvm_window_open(w);
		return;
	}
	wake(w, number);
}

/*
 * Whether a worker of KVM's waits, which asks for writing whatever its processor does: it is the
 * only one at a shared page that is no thread of ours. Once the page is there, a worker comes for a
 * processor that does write.
 */
static bool by_worker(const struct kvm_window *w, uint64_t page,
		      const struct uffd_msg *msg)
{
	return !(msg->arg.pagefault.flags & UFFD_PAGEFAULT_FLAG_WP) &&
	       physmap_stable_state(physmap_load(w->map, ppn(page))) ==
		       PHYSMAP_SHARED &&
	       tgkill(w->pid, (pid_t)msg->arg.pagefault.feat.ptid, 0);
}

static void on_fault(struct kvm_window *w, const struct uffd_msg *msg)
{
	const uint64_t flags = msg->arg.pagefault.flags;
	const uint64_t start = monotonic_ns();
	const uint64_t page = (msg->arg.pagefault.address -
			       (uint64_t)(uintptr_t)w->base) /
			      PAGE_SIZE;

	pthread_mutex_lock(w->cfg.lock);
	w->fault_ns = start;
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		w->stats.write_faults++;
	else if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		w->stats.minor_faults++;
	else
		w->stats.missing_faults++;

	const bool worker = by_worker(w, page, msg);

	w->stats.worker_faults += worker;
	if (w->open)
		wake(w, page);
	else
		bring(w, page,
		      !worker && flags & (UFFD_PAGEFAULT_FLAG_WP |
					  UFFD_PAGEFAULT_FLAG_WRITE),
		      worker);
	w->fault_ns = 0;
	w->stats.stall_ns += monotonic_ns() - start;
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

static void service(struct kvm_window *w)
{
	uint64_t n;
	const ssize_t r = read(w->wake_fd, &n, sizeof(n));

	(void)r; /* nothing there is fine: the descriptor does not block */
	pthread_mutex_lock(w->cfg.lock);
	guestmem_service(w->cfg.mem);
	pthread_mutex_unlock(w->cfg.lock);
}

static bool is_busy(struct kvm_window *w)
{
	bool busy;

	pthread_mutex_lock(w->cfg.lock);
	busy = chunks_need_look(w);
	pthread_mutex_unlock(w->cfg.lock);
	return busy;
}

/* Return: when chunks were looked at last. */
static uint64_t look_after(struct kvm_window *w, bool busy, uint64_t looked_ns)
{
	const uint64_t now = monotonic_ns();
	const bool broken = atomic_load(&w->broken);

	if (broken && !w->gave_back)
		chunks_give_back(w);
	w->gave_back = broken;
	/* And what was left then, for its chunk was not to be had. */
	if (broken && now - looked_ns >= LOOK_NS)
		w->gave_back = false;
	if (!busy || now - looked_ns < LOOK_NS)
		return looked_ns;
	chunks_look(w);
	pthread_mutex_lock(w->cfg.lock);
	chunks_drop_strays(w);
	pthread_mutex_unlock(w->cfg.lock);
	return now;
}

static void *fault_loop(void *arg)
{
	struct kvm_window *w = arg;
	uint64_t looked_ns = monotonic_ns();

	while (!atomic_load(&w->ending)) {
		struct pollfd fds[] = {
			{.fd = w->wake_fd, .events = POLLIN},
			{.fd = w->uffd, .events = POLLIN},
		};
		const bool busy = is_busy(w);

		poll(fds, ARRAY_SIZE(fds), busy ? LOOK_MS : -1);
		if (fds[0].revents)
			service(w);
		if (fds[1].revents & POLLIN)
			serve_faults(w);
		looked_ns = look_after(w, busy, looked_ns);
	}
	return NULL;
}

/* Aligned so that a large page of the file is one of the window. */
static int reserve(struct kvm_window *w, struct err *err)
{
	w->reserved_bytes = w->n_pages * PAGE_SIZE + 2 * LARGE_BYTES;
	w->reserved = mmap(NULL, w->reserved_bytes, PROT_NONE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (w->reserved == MAP_FAILED) {
		w->reserved = NULL;
		return err_set(err, -errno,
			       "cannot reserve addresses for guest memory: %s",
			       strerror(errno));
	}
	w->base = w->reserved + (-(uintptr_t)w->reserved & (LARGE_BYTES - 1));
	return 0;
}

static int build(struct kvm_window *w, struct err *err)
{
	int r = reserve(w, err);

	if (r)
		return r;
	if (!map_home(w, 0, w->n_pages, PROT_READ | PROT_WRITE))
		return err_set(err, -errno, "cannot map guest memory: %s",
			       strerror(errno));
	if (chunks_init(w) ||
	    run_map_init(&w->shared, w->n_pages, w->cfg.max_runs))
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
	w->pid = getpid();
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

void kvm_window_claim(struct kvm_window *w)
{
	(void)chunks_claim_all(w);
	w->loaded_large = w->devices_large;
}

const struct kvm_userfault *kvm_window_fault(const struct kvm_window *w)
{
	return &w->fault;
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

int kvm_window_start(struct kvm_window *w, struct err *err)
{
	int r;

	pthread_mutex_lock(w->cfg.lock);
	if (chunks_claim_all(w))
		chunks_start_plain(w);
	else if (w->uffd >= 0)
		chunks_start_watched(w);
	r = w->uffd < 0 &&
	    physmap_counts(w->map).pages[PHYSMAP_HOME] != w->n_pages;
	pthread_mutex_unlock(w->cfg.lock);
	if (r)
		return err_set(err, -ENOTSUP,
			       "guest memory cannot be managed under KVM: %s",
			       w->fault.reason);
	r = thread_start_unprivileged(&w->thread, fault_loop, w);
	if (r)
		return err_set(err, -r, "no thread for guest memory: %s",
			       strerror(r));
	w->started = true;
	return 0;
}

void kvm_window_set_large(struct kvm_window *w, bool on)
{
	if (atomic_exchange(&w->broken, !on) == on)
		signal_thread(w);
}

void kvm_window_open(struct kvm_window *w)
{
	if (w->open || w->uffd < 0)
		return;
	w->open = true;
	window_unwatch(w, 0, w->n_pages);
}

void kvm_window_collided(struct kvm_window *w)
{
	pthread_mutex_lock(w->cfg.lock);
	shared_let_write(w);
	pthread_mutex_unlock(w->cfg.lock);
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
	if (!chunks_audit(w))
		return err_set(err, -EILSEQ,
			       "the counts of chunks by state are wrong");
	for (uint64_t page = 0; page < w->n_pages; page++) {
		const uint64_t entry = physmap_load(w->map, ppn(page));
		const enum physmap_state state = physmap_stable_state(entry);

		if (run_map_has(&w->shared, page) && !physmap_is_busy(entry) &&
		    state != PHYSMAP_SHARED)
			return err_set(err, -EILSEQ,
				       "page %llu is shown as shared but is %s",
				       (unsigned long long)page,
				       physmap_state_name(state));
		if (chunk_is_plain(w, page) && !physmap_is_busy(entry) &&
		    entry != PHYSMAP_HOME_ENTRY)
			return err_set(
				err, -EILSEQ,
				"page %llu is %s in a chunk that is not watched",
				(unsigned long long)page,
				physmap_state_name(state));
	}
	return (int64_t)w->n_pages;
}

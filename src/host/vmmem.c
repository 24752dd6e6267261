/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of one VM's memory. */
#include <host/vmmem.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <base/clock.h>
#include <base/sparse.h>
#include <base/verify.h>
#include <mem/memfile.h>

/* A VM answers within its next safe point, unless something is wrong with it. */
#define ACK_TIMEOUT_NS UINT64_C(200000000)
#define SLOW_MS        2000

/*
 * A page that the VM's processor moves may be on its way from one counter to another, and
 * that processor moves one page at a time; one more for the reader's own gaps.
 */
#define COUNT_SLACK 2

/* Looks in a row that must agree before a VM is called a thief. */
#define SUSPICIONS_MAX 5
/*
 * … over so long a time: a VM looks once a second for what the kernel left there, and on a busy
 * machine more than one look may find it in use.
 */
#define SUSPICION_MS 15000

uint64_t file_pages(int fd)
{
	struct stat st;

	return fstat(fd, &st) < 0 ? 0 : (uint64_t)st.st_blocks * 512 / PAGE_SIZE;
}

uint64_t vmmem_home_pages(const struct vmmem *vm)
{
	return file_pages(vm->home_fd);
}

uint64_t vmmem_untouched_pages(const struct vmmem *vm)
{
	const struct physmap_counts counts = physmap_counts(vm->map);
	const uint64_t have = counts.pages[PHYSMAP_HOME];
	const uint64_t kernel = vmmem_home_pages(vm);

	/* What the VM says is bounded by its size. */
	return have > kernel && have <= vm->n_pages ? have - kernel : 0;
}

uint64_t vmmem_table_pages(const struct vmmem *vm)
{
	return file_pages(vm->tables_fd);
}

void vmmem_misbehaves(struct vmmem *vm, const char *why)
{
	if (atomic_load(&vm->misbehaved))
		return;
	snprintf(vm->why, sizeof(vm->why), "%s", why);
	atomic_store(&vm->misbehaved, true);
}

static int check_memfile(int fd, uint64_t bytes, const char *what,
			 struct err *err)
{
	const int seals = fcntl(fd, F_GET_SEALS);
	const int needed = F_SEAL_SHRINK | (bytes ? F_SEAL_GROW : 0);
	struct stat st;

	if (seals < 0 || (seals & needed) != needed || fstat(fd, &st) < 0 ||
	    (bytes && (uint64_t)st.st_size != bytes))
		return err_set(err, -EBADMSG,
			       "the VM's %s file is not what it should be",
			       what);
	return 0;
}

static int vmmem_build(struct vmmem *vm, const int fds[LINK_FDS_NEW],
		       int (*send)(void *ctx, const struct revoke_request *r),
		       void *ctx, struct err *err)
{
	int r = check_memfile(vm->home_fd, vm->n_pages * PAGE_SIZE, "home", err);

	if (!r)
		r = check_memfile(vm->tables_fd, 0, "tables", err);
	if (!r)
		r = physmap_attach(fds[LINK_FD_PHYSMAP], &vm->map, err);
	if (!r && physmap_pages(vm->map) != vm->n_pages)
		r = err_set(err, -EBADMSG,
			    "the VM's physmap has %llu pages instead of %llu",
			    (unsigned long long)physmap_pages(vm->map),
			    (unsigned long long)vm->n_pages);
	if (!r)
		r = link_counters_map(fds[LINK_FD_COUNTERS], &vm->counters, err);
	if (r)
		return r;

	vm->words = sparse_new(vm->n_pages * sizeof(*vm->words));
	if (!vm->words)
		return err_set(err, -ENOMEM, "out of memory");
	vm->quiet = calloc(vm->n_pages / VMMEM_WINDOW + 1, sizeof(*vm->quiet));
	if (!vm->quiet)
		return err_set(err, -ENOMEM, "out of memory");
	r = revoke_host_new(vm->map, vm->home_fd, send, ctx, &vm->revoke);
	return r ? err_set(err, r, "out of memory") : 0;
}

int vmmem_new(uint64_t n_pages, const int fds[LINK_FDS_NEW],
	      struct ledger *ledger,
	      int (*send)(void *ctx, const struct revoke_request *request),
	      void *ctx, struct vmmem **ret, struct err *err)
{
	struct vmmem *vm = calloc(1, sizeof(*vm));
	int r;

	if (!vm) {
		for (unsigned i = 0; i < LINK_FDS_NEW; i++)
			close(fds[i]);
		return err_set(err, -ENOMEM, "out of memory");
	}
	vm->n_pages = n_pages;
	vm->ledger = ledger;
	vm->home_fd = fds[LINK_FD_HOME];
	vm->tables_fd = fds[LINK_FD_TABLES];
	pthread_mutex_init(&vm->commit_lock, NULL);
	r = vmmem_build(vm, fds, send, ctx, err);
	close(fds[LINK_FD_PHYSMAP]);
	close(fds[LINK_FD_COUNTERS]);
	if (r) {
		vmmem_free(vm);
		return r;
	}
	*ret = vm;
	return 0;
}

int vmmem_attach(struct vmmem *vm, struct zip *zip, struct swap *swap,
		 struct group *group)
{
	int r = group_join(group, vm);

	if (r)
		return r;
	vm->zip = zip;
	vm->swap = swap;
	vm->group = group;
	return 0;
}

/* What a page's word stands for ends. */
static void clear_word(struct vmmem *vm, uint64_t page)
{
	const uint32_t word = vm->words[page];

	if (!word)
		return;
	vm->words[page] = 0;
	if (word & WORD_SHARED)
		group_unref(vm->group, word & ~WORD_SHARED);
	else
		hints_remove(&vm->group->hints, word, vm->base + (uint32_t)page);
}

void vmmem_forget_hint(struct vmmem *vm, uint64_t page)
{
	if (vm->words[page] && !(vm->words[page] & WORD_SHARED))
		clear_word(vm, page);
}

struct vmmem *vmmem_free(struct vmmem *vm)
{
	if (!vm)
		return NULL;
	if (vm->group) {
		for (uint64_t page = 0; page < vm->n_pages; page++)
			clear_word(vm, page);
		group_leave(vm->group, vm);
	}
	ledger_give(vm->ledger, vm->committed);
	vm->zip = zip_free(vm->zip);
	vm->swap = swap_free(vm->swap);
	vm->revoke = revoke_host_free(vm->revoke);
	link_counters_unmap(vm->counters);
	vm->map = physmap_free(vm->map);
	sparse_free(vm->words, vm->n_pages * sizeof(*vm->words));
	free(vm->quiet);
	close(vm->home_fd);
	close(vm->tables_fd);
	pthread_mutex_destroy(&vm->commit_lock);
	free(vm);
	return NULL;
}

static void claim_shared(struct vmmem *vm, uint64_t page, uint64_t frame,
			 bool adopt)
{
	/* Only the host makes entries SHARED, so it knows of this one. */
	if (vm->words[page] == (WORD_SHARED | (uint32_t)frame) &&
	    frame < HINT_FRAME)
		return;
	if (!adopt || frame >= HINT_FRAME || !group_claim(vm->group, frame)) {
		vmmem_misbehaves(vm, "a page claims a frame that it never got");
		return;
	}
	vm->words[page] = WORD_SHARED | (uint32_t)frame;
}

static void claim_entry(struct vmmem *vm, uint64_t page, uint64_t entry,
			bool adopt)
{
	const uint64_t stable = physmap_stable(entry);

	if (!physmap_valid(entry)) {
		vmmem_misbehaves(vm, "a word of its physmap is no entry");
		return;
	}
	if (physmap_state(stable) == PHYSMAP_SHARED) {
		claim_shared(vm, page, physmap_slot(stable), adopt);
		return;
	}
	if (vm->words[page] & WORD_SHARED)
		clear_word(vm, page);
	if (physmap_state(stable) == PHYSMAP_ZIPPED &&
	    !zip_claim(vm->zip, page, stable))
		vmmem_misbehaves(vm, "a page claims a slot of another");
	if (physmap_state(stable) == PHYSMAP_SWAPPED &&
	    !swap_claim(vm->swap, physmap_slot(stable)))
		vmmem_misbehaves(vm, "a page claims a swap slot of another");
}

static void rescan_entries(struct vmmem *vm, bool adopt)
{
	const uint64_t bytes = PHYSMAP_ENTRIES_OFFSET + vm->n_pages * 8;
	uint64_t start;
	uint64_t end = PHYSMAP_ENTRIES_OFFSET;

	while (memfile_data_next(physmap_fd(vm->map), bytes, end, &start, &end)) {
		for (uint64_t at = start; at < end; at += 8) {
			const uint64_t page = (at - PHYSMAP_ENTRIES_OFFSET) / 8;

			claim_entry(vm, page, physmap_load(vm->map, ppn(page)),
				    adopt);
		}
	}
}

/* Pages that the VM has, pages under way, and those it may take: at least that many. */
static uint64_t observed(struct vmmem *vm)
{
	/* In the order in which the VM moves them, so that none is missed. */
	const uint64_t allowance = physmap_allowance(vm->map);
	struct physmap_counts counts = physmap_counts(vm->map);
	const uint64_t busy = counts.pages[PHYSMAP_BUSY];
	const uint64_t kernel = vmmem_home_pages(vm);
	uint64_t have;

	counts = physmap_counts(vm->map);
	have = counts.pages[PHYSMAP_HOME] + busy;
	if (have < kernel)
		have = kernel;
	/* Whatever the VM writes there, no sum may wrap. */
	if (have > 2 * vm->n_pages)
		have = 2 * vm->n_pages;
	return have +
	       (allowance < 2 * vm->n_pages ? allowance : 2 * vm->n_pages) +
	       COUNT_SLACK;
}

void vmmem_rescan(struct vmmem *vm, bool adopt)
{
	/* Before the scan, so that what is lost during it is seen. */
	atomic_store(&vm->counters->left_overflow, 0);
	zip_clear(vm->zip);
	swap_clear(vm->swap);
	rescan_entries(vm, adopt);
	zip_trim(vm->zip);
	if (!adopt)
		return;
	pthread_mutex_lock(&vm->commit_lock);
	vm->committed = observed(vm);
	ledger_force(vm->ledger, vm->committed);
	pthread_mutex_unlock(&vm->commit_lock);
}

static void left_place(struct vmmem *vm, const struct link_left *left)
{
	const uint64_t entry = left->entry;
	const uint64_t slot = physmap_slot(entry);

	if (left->page >= vm->n_pages || !physmap_valid(entry)) {
		vmmem_misbehaves(vm, "it left a place that there is not");
		return;
	}
	switch (physmap_state(entry)) {
	case PHYSMAP_SHARED:
		/* Known by the host's own word: nobody leaves for others. */
		if (slot < HINT_FRAME &&
		    vm->words[left->page] == (WORD_SHARED | (uint32_t)slot))
			clear_word(vm, left->page);
		break;
	case PHYSMAP_ZIPPED:
		zip_drop(vm->zip, entry);
		break;
	case PHYSMAP_SWAPPED:
		swap_drop(vm->swap, slot);
		break;
	case PHYSMAP_ZERO:
	case PHYSMAP_HOME:
	case PHYSMAP_BALLOON:
	case PHYSMAP_BUSY:
	case PHYSMAP_N_STATES:
		vmmem_misbehaves(vm, "it left a place that is none");
		break;
	}
}

void vmmem_drain(struct vmmem *vm)
{
	struct link_left left;

	/* At most one ring full: a VM that writes on and on must not keep us here. */
	for (unsigned i = 0; i < LINK_LEFT_RING; i++) {
		if (!link_left_pop(vm->counters, &left))
			break;
		left_place(vm, &left);
	}
	if (atomic_load(&vm->counters->left_overflow))
		vmmem_rescan(vm, false);
}

static void uncommit(struct vmmem *vm, uint64_t pages)
{
	pthread_mutex_lock(&vm->commit_lock);
	if (pages > vm->committed)
		pages = vm->committed;
	vm->committed -= pages;
	ledger_give(vm->ledger, pages);
	pthread_mutex_unlock(&vm->commit_lock);
}

static void accuse(struct vmmem *vm, uint64_t observed_pages)
{
	char why[sizeof(vm->why)];

	snprintf(why, sizeof(why),
		 "it has more memory than it was given: %llu pages for %llu, %llu in its file",
		 (unsigned long long)observed_pages,
		 (unsigned long long)vmmem_committed(vm),
		 (unsigned long long)vmmem_home_pages(vm));
	vmmem_misbehaves(vm, why);
}

void vmmem_sync(struct vmmem *vm)
{
	bool stolen;

	pthread_mutex_lock(&vm->commit_lock);

	const uint64_t allowance = physmap_allowance(vm->map);
	const uint64_t now = observed(vm);

	if (now < vm->committed) {
		ledger_give(vm->ledger, vm->committed - now);
		vm->committed = now;
	}
	/* Pages taken during the look count twice; then it says nothing. */
	stolen = now > vm->committed + 2 * COUNT_SLACK &&
		 allowance == physmap_allowance(vm->map);
	pthread_mutex_unlock(&vm->commit_lock);
	vm->suspicions = stolen ? vm->suspicions + 1 : 0;
	if (!stolen)
		vm->honest_ms = monotonic_ms();
	if (vm->suspicions >= SUSPICIONS_MAX &&
	    monotonic_ms() - vm->honest_ms >= SUSPICION_MS)
		accuse(vm, now);
}

uint64_t vmmem_committed(struct vmmem *vm)
{
	pthread_mutex_lock(&vm->commit_lock);

	const uint64_t n = vm->committed;

	pthread_mutex_unlock(&vm->commit_lock);
	return n;
}

void vmmem_withdraw(struct vmmem *vm, uint64_t pages)
{
	pthread_mutex_lock(&vm->commit_lock);

	const uint64_t have = physmap_allowance(vm->map);

	if (have > pages) {
		uint64_t n = physmap_withdraw(vm->map, have - pages);

		if (n > vm->committed)
			n = vm->committed;
		vm->committed -= n;
		ledger_give(vm->ledger, n);
	}
	pthread_mutex_unlock(&vm->commit_lock);
}

uint64_t vmmem_allow(struct vmmem *vm, uint64_t pages)
{
	uint64_t n = 0;

	vmmem_withdraw(vm, pages);
	pthread_mutex_lock(&vm->commit_lock);

	const uint64_t have = physmap_allowance(vm->map);

	if (have < pages) {
		n = ledger_take(vm->ledger, LEDGER_VM, pages - have);
		vm->committed += n;
	}
	pthread_mutex_unlock(&vm->commit_lock);
	if (n) {
		/* Cleared first: who finds nothing afterwards asks again. */
		atomic_store(&vm->counters->want, 0);
		physmap_grant(vm->map, n);
	}
	return n;
}

int vmmem_take(struct vmmem *vm, const ppn_t *pages, unsigned n,
	       unsigned states, struct vmmem_batch *batch)
{
	int taken = revoke_take(vm->revoke, pages, n, states, &batch->revoke);
	int r;

	if (taken <= 0)
		return taken;
	r = revoke_wait(vm->revoke, &batch->revoke, ACK_TIMEOUT_NS);
	if (r) {
		if (r == -ETIMEDOUT)
			vm->slow_until_ms = monotonic_ms() + SLOW_MS;
		revoke_end(vm->revoke, &batch->revoke);
		return r;
	}
	/*
	 * The processor has passed a safe point, so every place that these pages were in
	 * before is in the ring by now: nothing old can be taken for what comes next.
	 */
	vmmem_drain(vm);
	return taken;
}

uint8_t *vmmem_bytes(const struct vmmem_batch *batch, unsigned idx)
{
	return batch->bytes + idx * PAGE_SIZE;
}

static int read_run(struct vmmem *vm, uint64_t page, unsigned n, uint8_t *to)
{
	uint64_t len = n * PAGE_SIZE;
	uint64_t at = page * PAGE_SIZE;

	/* By pread(), for a look through a mapping would put memory into holes. */
	while (len) {
		const ssize_t r = pread(vm->home_fd, to, len, (off_t)at);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return r < 0 ? -errno : -EIO;
		to += r;
		at += (uint64_t)r;
		len -= (uint64_t)r;
	}
	return 0;
}

int vmmem_read(struct vmmem *vm, struct vmmem_batch *batch)
{
	const struct revoke_batch *b = &batch->revoke;
	int r = 0;

	for (unsigned i = 0, n; !r && i < b->n_pages; i += n) {
		n = 1;
		while (i + n < b->n_pages &&
		       b->pages[i + n].v == b->pages[i].v + n)
			n++;
		r = read_run(vm, b->pages[i].v, n, vmmem_bytes(batch, i));
	}
	return r;
}

/* Moving is not touching: a watch goes on where it can. */
static uint64_t keep_watch(uint64_t before, uint64_t final)
{
	const enum physmap_state state = physmap_state(final);

	if (physmap_is_watched(before) &&
	    (state == PHYSMAP_ZERO || state == PHYSMAP_SHARED))
		return physmap_watched(final);
	return final;
}

/* A page has become something else: the host's own books. */
static void account(struct vmmem *vm, uint64_t page, uint64_t before,
		    uint64_t final)
{
	clear_word(vm, page);
	if (physmap_state(final) == PHYSMAP_SHARED)
		vm->words[page] = WORD_SHARED | (uint32_t)physmap_slot(final);
	if (physmap_state(before) == PHYSMAP_ZIPPED)
		zip_drop(vm->zip, before);
}

uint64_t vmmem_finish(struct vmmem *vm, struct vmmem_batch *batch,
		      uint64_t finals[REVOKE_BATCH_PAGES])
{
	struct revoke_batch *b = &batch->revoke;
	uint64_t from_home = 0;
	uint64_t done;

	for (unsigned i = 0; i < b->n_pages; i++) {
		if (finals[i] != REVOKE_KEEP)
			finals[i] = keep_watch(b->entries[i], finals[i]);
	}
	done = revoke_finish_all(vm->revoke, b, finals);
	for (unsigned i = 0; i < b->n_pages; i++) {
		const uint64_t before = physmap_stable(b->entries[i]);

		if (!(done >> i & 1))
			continue;
		account(vm, b->pages[i].v, before, finals[i]);
		from_home += physmap_state(before) == PHYSMAP_HOME;
	}
	uncommit(vm, from_home);
	return done;
}

void vmmem_end(struct vmmem *vm, struct vmmem_batch *batch)
{
	struct revoke_batch *b = &batch->revoke;

	for (unsigned i = 0; i < b->n_pages; i++) {
		/* What fails here is given back below, without the watch. */
		if (!(b->finished >> i & 1) && physmap_is_watched(b->entries[i]))
			(void)!revoke_finish(vm->revoke, b, i, b->entries[i]);
	}
	revoke_end(vm->revoke, &batch->revoke);
}
